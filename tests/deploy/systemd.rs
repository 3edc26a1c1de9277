//! The unit: systemd takes it, thinks it safe, and what it forbids is nothing that Fender does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{AFTER_DRAIN, deploy, fine, read, skip};
use crate::support::{PATIENCE, Setup, Upstream, binary};

const UNIT: &str = "systemd/fender.service";

/// The most that `systemd-analyze security` may find exposed, in tenths.
const EXPOSURE_MAX: &str = "15";

/// All values of a key, in their order.
fn values(key: &str) -> Vec<String> {
    let unit = read(deploy(UNIT));
    let lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    lines.map(str::to_owned).collect()
}

fn analyze() -> Option<Command> {
    let there = Command::new("systemd-analyze").arg("--version").output();
    if !there.is_ok_and(|output| output.status.success()) {
        skip("systemd-analyze is not there (systemd)");
        return None;
    }
    Some(Command::new("systemd-analyze"))
}

#[test]
fn systemd_takes_the_unit() {
    let Some(mut analyze) = analyze() else { return };
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("fender.service");
    let program = binary().get_program().to_string_lossy().into_owned();
    let text = read(deploy(UNIT));
    assert!(text.contains("/usr/local/bin/fender "));
    fs::write(&unit, text.replace("/usr/local/bin/fender ", &format!("{program} "))).unwrap();
    let said = fine(analyze.arg("verify").arg(&unit));
    assert!(!said.contains("fender.service"), "{said}");
    fs::write(&unit, read(&unit).replace("Type=exec", "Type=exekk")).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg(&unit).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("fender.service"), "a broken unit passes");
}

#[test]
fn systemd_thinks_it_safe() {
    let Some(mut analyze) = analyze() else { return };
    let said = fine(
        analyze
            .args(["security", "--offline=yes", "--no-pager", &format!("--threshold={EXPOSURE_MAX}")])
            .arg(deploy(UNIT)),
    );
    let exposure = said.lines().last().unwrap_or_default().trim().to_owned();
    eprintln!("{exposure}");
    assert!(exposure.contains("Overall exposure level"), "{said}");
}

#[test]
fn it_gives_the_drain_its_time_and_starts_what_the_binary_knows() {
    let stop = fender::units::parse_duration(&values("TimeoutStopSec")[0]).unwrap();
    let config: toml::Table = read(deploy("systemd/fender.toml")).parse().unwrap();
    let drain = fender::units::parse_duration(config["server"]["drain_timeout"].as_str().unwrap()).unwrap();
    assert!(drain + AFTER_DRAIN <= stop, "{drain:?} {stop:?}");
    assert!(stop < Duration::from_secs(90), "longer than systemd waits by default");
    for (key, command) in [("ExecStartPre", "check"), ("ExecStart", "run")] {
        assert_eq!(values(key), [format!("/usr/local/bin/fender {command} --config /etc/fender")]);
        fine(binary().args([command, "--help"]));
    }
    // The store lies in the one folder that systemd lets it write to, and each secret is one that systemd loads.
    let store = config["dead_letter"]["path"].as_str().unwrap();
    assert!(store.starts_with(&format!("/var/lib/{}/", values("StateDirectory")[0])), "{store}");
    let loaded: BTreeSet<String> =
        values("LoadCredential").iter().map(|value| value.split(':').next().unwrap().to_owned()).collect();
    let text = read(deploy("systemd/fender.toml"));
    let named: BTreeSet<String> = text
        .split("${file:/run/credentials/fender.service/")
        .skip(1)
        .map(|rest| rest.split('}').next().unwrap().to_owned())
        .collect();
    assert_eq!(loaded, named);
}

/// The members of a set of system calls, those of its inner sets too.
fn members(sets: &BTreeMap<String, Vec<String>>, name: &str, found: &mut BTreeSet<String>) {
    for member in sets.get(name).unwrap_or_else(|| panic!("systemd knows no {name}")) {
        if member.starts_with('@') { members(sets, member, found) } else { _ = found.insert(member.clone()) }
    }
}

/// What the unit's filter lets through.
fn allowed(listed: &str) -> BTreeSet<String> {
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut set = String::new();
    for line in listed.lines() {
        match line.strip_prefix("    ").map(str::trim).filter(|member| !member.starts_with('#')) {
            Some(member) => sets.entry(set.clone()).or_default().push(member.to_owned()),
            None if line.starts_with('@') => line.trim().clone_into(&mut set),
            None => {}
        }
    }
    let mut allowed = BTreeSet::new();
    for filter in values("SystemCallFilter") {
        for word in filter.split_whitespace() {
            let mut named = BTreeSet::new();
            members(&sets, word.trim_start_matches('~'), &mut named);
            if filter.starts_with('~') {
                allowed.retain(|call| !named.contains(call));
            } else {
                allowed.extend(named);
            }
        }
    }
    assert!(allowed.contains("epoll_wait") && !allowed.contains("mount"), "{allowed:?}");
    allowed
}

#[test]
fn what_it_forbids_is_nothing_that_fender_does() {
    let Some(mut analyze) = analyze() else { return };
    if !super::have("strace", "strace") {
        return;
    }
    let allowed = allowed(&fine(analyze.args(["--no-pager", "syscall-filter"])));
    let families: Vec<String> = values("RestrictAddressFamilies")
        .iter()
        .flat_map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();

    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let mut strace = Command::new("strace");
    // -D: Fender is the child, and hears its signals itself.
    strace.args(["-D", "-f", "-qq", "-o"]).arg(&trace);
    let upstream = Upstream::answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n");
    let setup = Setup::new(format!(
        "[dead_letter]\npath = \"{}\"\n{}[upstream.named]\nurl = \"https://localhost:1\"\nroute = \"/named\"\n",
        folder.path().join("letters.db").display(),
        upstream.as_api("dead_letter.mode = \"on_failure\"\nbreaker.consecutive_failures = 2\n")
    ));
    let fender =
        setup.server("drain_quiet = \"0s\"\n").admin("public_listen = \"127.0.0.1:0\"\n").start_by(strace);
    for _ in 0..5 {
        fender.post("/", "", b"a write");
        fender.get("/");
        fender.get("/named");
    }
    fender.metrics();
    fender.sighup();
    fender.logged_where("a reload", |line| {
        line["message"].as_str().is_some_and(|text| text.contains("config")) && line["cause"] == "signal"
    });
    fender.sigterm();
    assert!(fender.wait_exit(PATIENCE).success());
    let trace = whole(&trace);

    let mut called = BTreeSet::new();
    // What stands before the first `execve` is strace's own, and the wrapper's.
    for line in trace.lines() {
        let Some((_, call)) = line.trim_start().split_once(' ') else { continue };
        let call = call.trim_start();
        let Some((name, arguments)) = call.split_once('(') else { continue };
        if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            continue;
        }
        called.insert(name.to_owned());
        if name == "socket" {
            let family = arguments.split(',').next().unwrap_or_default();
            assert!(families.iter().any(|allowed| allowed == family), "{call}");
        }
        // MemoryDenyWriteExecute.
        let flags = |all: &[&str]| all.iter().all(|flag| arguments.contains(flag));
        assert!(!(name == "mmap" && flags(&["PROT_WRITE", "PROT_EXEC"])), "{call}");
        assert!(!(name == "mprotect" && flags(&["PROT_EXEC"])), "{call}");
    }
    for usual in ["socket", "accept4", "epoll_wait", "fdatasync"] {
        assert!(called.contains(usual), "the trace is not whole: {called:?}");
    }
    if rustix::process::geteuid().is_root() {
        called.remove("fchown"); // SQLite's, where it runs as root, which the unit's user is not.
    }
    let forbidden: Vec<&String> = called.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
}

/// The trace, once its writer, which outlives Fender by a moment, has ended it.
fn whole(path: &std::path::Path) -> String {
    let mut text = String::new();
    crate::support::eventually("the trace ends", || {
        text = read(path);
        text.contains("exit_group(")
    });
    text
}
