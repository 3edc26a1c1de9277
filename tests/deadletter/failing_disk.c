/*
 * A disk that fails where it is told to: loaded before a process under test, it stands between that process and the system's
 * calls on files below one folder. What it does is read, at each call, from a small file that the test holds too, so that a fault
 * can begin and end while the process runs, and its calls can be counted.
 *
 * Environment: DISK_FOLDER, the folder; DISK_CONTROL, the file, 4096 bytes of little-endian words as in `struct control`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum call { WRITE, SYNC, TRUNCATE, RENAME, OPEN, UNLINK, READ, CALLS };
enum kind { IO_ERROR, NO_SPACE, SHORT, TORN, NO_FILES };

struct control {
    _Atomic uint64_t armed;
    _Atomic uint64_t call;  /* which call fails */
    _Atomic uint64_t first; /* the number of the first one that does, from 1 on */
    _Atomic uint64_t last;  /* and of the last one */
    _Atomic uint64_t kind;
    _Atomic uint64_t seen; /* how many of that call there were since it was armed */
    _Atomic uint64_t hit;  /* how many of them failed */
    _Atomic uint64_t all[CALLS]; /* each kind of call, always */
};

#define DESCRIPTORS 65536
static struct control *control;
static const char *folder;
static size_t length;
static _Atomic uint8_t ours[DESCRIPTORS];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_CONTROL");
    folder = getenv("DISK_FOLDER");
    if (!path || !folder) return;
    length = strlen(folder);
    int file = REAL(open)(path, O_RDWR);
    if (file < 0) return;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REAL(close)(file);
    if (page != MAP_FAILED) control = page;
}

static int below(const char *path) {
    return control && path && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int mine(int file) { return control && file >= 0 && file < DESCRIPTORS && ours[file]; }

/* Whether this call fails, and how. */
static int fails(enum call call, enum kind *kind) {
    control->all[call]++;
    if (!control->armed || control->call != call) return 0;
    uint64_t number = ++control->seen;
    if (number < control->first || number > control->last) return 0;
    control->hit++;
    *kind = (enum kind)control->kind;
    return 1;
}

static int error(enum kind kind) {
    return kind == NO_SPACE ? ENOSPC : kind == NO_FILES ? EMFILE : EIO;
}

/* Of a write that fails: how many of its bytes reach the file all the same. */
static size_t part(enum kind kind, size_t count) { return kind == SHORT || kind == TORN ? count / 2 : 0; }

#define WRITES(name, declared, passed)                                        \
    ssize_t name declared {                                                   \
        enum kind kind;                                                       \
        if (mine(file) && fails(WRITE, &kind)) {                              \
            size_t count = part(kind, whole);                                 \
            ssize_t done = count ? REAL(name) passed : 0;                     \
            if (kind == SHORT && done > 0) return done;                       \
            errno = error(kind);                                              \
            return -1;                                                        \
        }                                                                     \
        size_t count = whole;                                                 \
        return REAL(name) passed;                                             \
    }

WRITES(write, (int file, const void *bytes, size_t whole), (file, bytes, count))
WRITES(pwrite, (int file, const void *bytes, size_t whole, off_t at), (file, bytes, count, at))
WRITES(pwrite64, (int file, const void *bytes, size_t whole, off64_t at), (file, bytes, count, at))

#define PLAIN(type, name, call, test, declared, passed)                       \
    type name declared {                                                      \
        enum kind kind;                                                       \
        if (test && fails(call, &kind)) {                                     \
            errno = error(kind);                                              \
            return -1;                                                        \
        }                                                                     \
        return REAL(name) passed;                                             \
    }

PLAIN(ssize_t, read, READ, mine(file), (int file, void *bytes, size_t count), (file, bytes, count))
PLAIN(ssize_t, pread, READ, mine(file), (int file, void *bytes, size_t count, off_t at), (file, bytes, count, at))
PLAIN(ssize_t, pread64, READ, mine(file), (int file, void *bytes, size_t count, off64_t at), (file, bytes, count, at))
PLAIN(int, fsync, SYNC, mine(file), (int file), (file))
PLAIN(int, fdatasync, SYNC, mine(file), (int file), (file))
PLAIN(int, ftruncate, TRUNCATE, mine(file), (int file, off_t size), (file, size))
PLAIN(int, ftruncate64, TRUNCATE, mine(file), (int file, off64_t size), (file, size))
PLAIN(int, rename, RENAME, below(from), (const char *from, const char *to), (from, to))
PLAIN(int, unlink, UNLINK, below(path), (const char *path), (path))

static int opened(int file, const char *path) {
    if (file >= 0 && file < DESCRIPTORS) ours[file] = (uint8_t)below(path);
    return file;
}

#define OPENS(name)                                                           \
    int name(const char *path, int flags, ...) {                              \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        mode_t mode = va_arg(rest, mode_t);                                   \
        va_end(rest);                                                         \
        enum kind kind;                                                       \
        if (below(path) && fails(OPEN, &kind)) {                              \
            errno = error(kind);                                              \
            return -1;                                                        \
        }                                                                     \
        return opened(REAL(name)(path, flags, mode), path);                   \
    }

OPENS(open)
OPENS(open64)

int close(int file) {
    if (file >= 0 && file < DESCRIPTORS) ours[file] = 0;
    return REAL(close)(file);
}
