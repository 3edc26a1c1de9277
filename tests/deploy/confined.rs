//! Fender under the limits that the manifests set: a root that cannot be written, a user that is only a number, no capability, no
//! new privilege. The store's folder is all that it writes to.

use std::process::Command;

use super::skip;
use crate::support::{Fender, PATIENCE, Setup, Upstream, binary};

/// Makes such a root of tmpfs, where the binary, its libraries and its config can be read, and goes there. $1 is the folder of the
/// store; then the binary, and its arguments, of which the last names the config.
const INSIDE: &str = r#"
set -e
store=$1; shift
binary=$1
for config; do :; done
root=$(mktemp -d)
mount -t tmpfs -o mode=755 none "$root"
for folder in /usr /lib /lib64 /bin; do
    [ -e "$folder" ] || continue
    mkdir -p "$root$folder"
    mount --bind "$folder" "$root$folder"
    mount -o remount,bind,ro "$root$folder"
done
mkdir -p "$root/proc" "$root/etc/ssl" "$root$(dirname "$binary")" "$root$(dirname "$config")" "$root$store"
mount -t proc none "$root/proc"
cp "$binary" "$root$binary"
cp "$config" "$root$config"
chmod -R a+rX "$root$(dirname "$config")"
mount -t tmpfs -o uid=65532,gid=65532,mode=700,size=16m none "$root$store"
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid=65532 --regid=65532 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
    "$@"
"#;

/// None where the system grants no mount namespace, or lacks what it takes.
fn confined(setup: Setup, store: &str) -> Option<Fender> {
    let tried = Command::new("unshare")
        .args(["--mount", "sh", "-c", "command -v setpriv && command -v chroot && mount -t tmpfs none /mnt"])
        .output();
    if !tried.is_ok_and(|output| output.status.success()) {
        skip("no mount namespace is granted here (or no setpriv)");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", INSIDE, "sh", store]);
    Some(setup.start_by(command))
}

#[test]
fn fender_writes_to_the_folder_of_the_store_and_nowhere_else() {
    let upstream = Upstream::answering("HTTP/1.1 503 Busy\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n");
    let config = format!(
        "[dead_letter]\npath = \"/var/lib/fender/letters.db\"\nmax_bytes = \"8MiB\"\n{}",
        upstream.as_api("retry.max_attempts = 1\ndead_letter.mode = \"on_failure\"\n")
    );
    let setup =
        Setup::new(config).admin("[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"word\"\n");
    let Some(fender) = confined(setup.server("drain_quiet = \"0s\"\n"), "/var/lib/fender") else { return };
    let status = fender.proc("status");
    let line = |name: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("Uid:"), ["65532"; 4]);
    assert_eq!(line("Gid:"), ["65532"; 4]);
    assert_eq!(line("NoNewPrivs:"), ["1"]);
    assert_eq!(line("CapBnd:"), ["0000000000000000"]);
    assert_eq!(line("CapEff:"), ["0000000000000000"]);
    let mounts = fender.proc("mounts");
    let writable: Vec<&str> = mounts
        .lines()
        .filter_map(|line| {
            let parts: Vec<&str> = line.split(' ').collect();
            let own = parts[1] == "/" || parts[1].starts_with("/var");
            (own && parts[3].split(',').any(|option| option == "rw")).then_some(parts[1])
        })
        .collect();
    assert_eq!(writable, ["/var/lib/fender"], "{mounts}");

    // Letters are kept, shown and given up; a reload, figures of the process, a drain: nothing asks for another place.
    for _ in 0..50 {
        assert_eq!(fender.post("/", "", &[b'x'; 10_000]).status(), 202);
    }
    assert_eq!(fender.metric("fender_dead_letters", &[("state", "pending")]), 50.0);
    assert!(fender.metric("process_resident_memory_bytes", &[]) > 0.0);
    assert!(fender.metric("process_start_time_seconds", &[]) > 0.0, "/proc/stat is hidden");
    assert_eq!(fender.admin_post("/api/v1/config/reload", Some("word")).status(), 200);
    assert_eq!(fender.admin_post("/api/v1/letters/verify", Some("word")).status(), 200);
    let health =
        binary().args(["healthcheck", "--admin", &format!("http://{}", fender.admin())]).output().unwrap();
    assert!(health.status.success(), "{health:?}");
    fender.sigterm();
    let ended = fender.wait_exit(PATIENCE);
    assert!(ended.success(), "{ended}");
    let log = fender.log();
    for word in ["Read-only", "Permission denied", "not permitted", "panicked"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
}
