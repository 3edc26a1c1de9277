//! What a reload may change, and how a change is noticed.

use std::fs;
use std::os::unix::fs::symlink;

use fender::config::watch::Watcher;
use fender::config::{Config, Kind, load_text, load_text_ahead};

fn config(text: &str) -> Config {
    load_text_ahead("fender.toml", text).unwrap_or_else(|problems| panic!("{problems}")).config
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let old = config("");
    for (text, key) in [
        ("server.listen = '127.0.0.1:1'", "server.listen"),
        ("server.workers = 3", "server.workers"),
        ("server.max_connections = 3", "server.max_connections"),
        ("server.buffer_memory = '1MiB'", "server.buffer_memory"),
        ("admin.listen = '127.0.0.1:1'", "admin.listen"),
        ("admin.public_listen = '127.0.0.1:1'", "admin.public_listen"),
        ("dead_letter.path = '/x'", "dead_letter.path"),
    ] {
        let problems = old.needs_restart(&config(text));
        assert_eq!(problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), [key]);
        assert_eq!(problems[0].kind, Kind::NeedsRestart);
    }
    let fine = "server.drain_timeout = '1s'\nserver.header_timeout = '1s'\n[upstream.a]\nurl = 'http://a'";
    assert!(old.needs_restart(&config(fine)).is_empty());
}

#[test]
fn a_key_that_needs_a_restart_is_told_with_its_place() {
    let new = load_text("fender.toml", "[server]\nworkers = 3").expect("in order");
    let problems = new.needs_restart(&config(""));
    insta::assert_snapshot!(fender::config::render(&problems, false));
}

#[test]
fn a_changed_file_is_noticed_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("fender.toml");
    fs::write(&file, "a = 1").expect("written");
    let mut watcher = Watcher::new([file.clone()]);
    assert!(!watcher.changed());
    fs::write(&file, "a = 2").expect("written"); // the same size, within the same second
    assert!(watcher.changed());
    assert!(!watcher.changed());
    fs::write(&file, "a = 2").expect("written"); // touched, but the same
    assert!(!watcher.changed());
    fs::write(folder.path().join("new"), "a = 3").expect("written");
    fs::rename(folder.path().join("new"), &file).expect("renamed");
    assert!(watcher.changed());
    fs::remove_file(&file).expect("removed");
    assert!(watcher.changed());
    fs::write(&file, "a = 3").expect("written");
    assert!(watcher.changed());
}

#[test]
fn the_symlink_swap_of_a_config_map_is_noticed() {
    let mount = tempfile::tempdir().expect("a folder");
    let path = |name: &str| mount.path().join(name);
    for (version, text) in [("..1", "a = 1"), ("..2", "a = 2")] {
        fs::create_dir(path(version)).expect("made");
        fs::write(path(version).join("fender.toml"), text).expect("written");
    }
    symlink("..1", path("..data")).expect("linked");
    symlink("..data/fender.toml", path("fender.toml")).expect("linked");
    let mut watcher = Watcher::new([path("fender.toml"), mount.path().to_owned()]);
    assert!(!watcher.changed());
    symlink("..2", path("..data_tmp")).expect("linked");
    fs::rename(path("..data_tmp"), path("..data")).expect("swapped");
    assert!(watcher.changed());
    assert!(!watcher.changed());
}

#[test]
fn a_file_that_joins_a_watched_folder_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.toml"), "").expect("written");
    let mut watcher = Watcher::new([folder.path().to_owned()]);
    fs::write(folder.path().join("notes.txt"), "").expect("written");
    assert!(!watcher.changed());
    fs::write(folder.path().join("b.toml"), "").expect("written");
    assert!(watcher.changed());
}
