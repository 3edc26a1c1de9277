//! Bounded memory, held by the kernel: a control group of 64 MiB. Needs root; skipped aloud elsewhere.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use crate::support::{Setup, Upstream};

const LIMIT: &str = "67108864";
const CLIENTS: usize = 256;
const BODY: usize = 1024 * 1024;

/// A control group that holds its processes to [`LIMIT`]; gone when it is dropped.
struct Group(PathBuf);

impl Group {
    /// None where the system grants none.
    fn new(name: &str) -> Option<Self> {
        let name = format!("fender-{name}-{}", std::process::id());
        let (v1, v2) = (Path::new("/sys/fs/cgroup/memory"), Path::new("/sys/fs/cgroup"));
        let (root, bound, swap) = if v1.join("memory.limit_in_bytes").exists() {
            (v1, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        } else {
            (v2, "memory.max", "memory.swap.max")
        };
        let group = Self(root.join(name));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join(bound), LIMIT).ok()?;
        // No swap, where there is any: memory and swap together (v1), or swap alone (v2).
        let none = if swap.contains("memsw") { LIMIT } else { "0" };
        fs::write(group.0.join(swap), none).ok();
        Some(group)
    }

    fn number(&self, names: [&str; 2]) -> Option<u64> {
        names.iter().find_map(|name| fs::read_to_string(self.0.join(name)).ok()?.trim().parse().ok())
    }

    /// The most that was ever in use.
    fn peak_mib(&self) -> f64 {
        self.number(["memory.max_usage_in_bytes", "memory.peak"]).unwrap_or_default() as f64 / 1_048_576.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

/// All clients post at once to an upstream that never answers; each hears 504 or a refusal, and Fender lives.
fn all_end(name: &str, upstream: &Upstream) {
    let Some(group) = Group::new(name) else {
        eprintln!("SKIPPED: no memory control group can be made here (it needs root)");
        return;
    };
    let lines = "timeout = { attempt = \"4s\", total = \"5s\" }";
    let fender =
        Setup::new(upstream.as_api(lines)).after(&format!("echo $$ > {}/cgroup.procs", group.0.display()));
    let before = group.peak_mib();
    let statuses: Vec<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = fender.client();
                    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {BODY}\r\n\r\n"));
                    // Where the answer comes before the whole body was taken, the rest is in vain.
                    for _ in 0..BODY / 65_536 {
                        if !client.send([b'x'; 65_536]) {
                            break;
                        }
                    }
                    client.response("POST").status()
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let late = statuses.iter().filter(|status| **status == 504).count();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    eprintln!(
        "{name}: {before:.1} MiB before, {:.1} MiB at most; {late} late, {refused} refused",
        group.peak_mib()
    );
    assert_eq!(late + refused, CLIENTS, "{statuses:?}");
    assert!(late >= CLIENTS / 2, "{late}");
    assert!(fender.running());
    assert_eq!(fender.get("/").status() / 100, 5, "and it serves on");
}

#[test]
fn uploads_to_an_upstream_that_takes_them_and_never_answers() {
    all_end(
        "silent",
        &Upstream::scripted(|connection| {
            connection.until_closed();
        }),
    );
}

#[test]
fn uploads_to_an_upstream_that_takes_none_of_them() {
    let upstream = Upstream::scripted(|connection| {
        if connection.head().is_some() {
            thread::sleep(Duration::from_secs(8)); // It does not even look at its socket.
        }
    });
    all_end("deaf", &upstream);
}
