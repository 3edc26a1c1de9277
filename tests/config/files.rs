//! Configs in several files, and the files that a config names.

use std::fs;
use std::path::Path;

use fender::config::load;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

/// What is said about a folder, without the part of its path that changes.
fn said(folder: &Path) -> String {
    let rendered = load(folder).expect_err("the config is wrong").render(false);
    rendered.replace(&format!("{}/", folder.display()), "")
}

#[test]
fn the_files_of_a_folder_are_one_config() {
    let folder = folder(&[
        (
            "10-server.toml",
            "[server]\nworkers = 2\n[upstream.a]\nurl = 'http://a'\n[[route]]\npath = '/a'\nupstream = 'a'",
        ),
        (
            "20-more.toml",
            "[server]\nmax_connections = 5\n[upstream.b]\nurl = 'http://b'\n[[route]]\npath = '/b'\nupstream = 'b'",
        ),
        ("ignored.txt", "not TOML"),
    ]);
    let loaded = load(folder.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let config = &loaded.config;
    assert_eq!((config.server.workers, config.server.max_connections), (2, 5));
    assert_eq!(config.route.iter().map(|route| route.path.as_str()).collect::<Vec<_>>(), ["/a", "/b"]);
    assert_eq!(loaded.files.len(), 3, "both files and the folder: {:?}", loaded.files);
    assert_eq!(loaded.config_files, 2);
}

#[test]
fn one_scalar_set_in_two_files_is_an_error_that_names_both() {
    let folder = folder(&[
        ("a.toml", "[server]\nworkers = 1\nlisten = ['127.0.0.1:1']\n"),
        ("b.toml", "\n[server]\nworkers = 1\nlisten = ['127.0.0.1:2']\n[upstream.a]\nurl = 5"),
    ]);
    insta::assert_snapshot!(said(folder.path()));
}

#[test]
fn certificates_and_keys_must_be_there_and_be_pem() {
    let folder = folder(&[
        ("cert.pem", "-----BEGIN CERTIFICATE-----\n"),
        ("key.pem", "-----BEGIN EC PRIVATE KEY-----\n"),
        ("junk.pem", "junk"),
        (
            "fender.toml",
            "[server.tls]\ncert_file = 'cert.pem'\n[admin.tls]\ncert_file = 'none.pem'\nkey_file = 'junk.pem'\n\
          [upstream.a]\nurl = 'https://a'\nroute = '/a'\ntls = { client_key_file = 'key.pem', ca_file = 'key.pem', server_name = 'a b' }",
        ),
    ]);
    insta::assert_snapshot!(said(folder.path()));
}

#[test]
fn every_file_that_a_config_names_is_watched() {
    let folder = folder(&[
        ("cert.pem", "-----BEGIN CERTIFICATE-----\n"),
        ("key.pem", "-----BEGIN PRIVATE KEY-----\n"),
        (
            "fender.toml",
            "[server.tls]\ncert_file = 'cert.pem'\nkey_file = 'key.pem'\nclient_ca_file = 'cert.pem'",
        ),
    ]);
    let loaded = load(&folder.path().join("fender.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    let names: Vec<_> = loaded.files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
    assert_eq!(names, ["cert.pem", "fender.toml", "key.pem"]);
    let tls = loaded.config.server.tls.expect("there is one");
    assert_eq!(tls.cert_file, folder.path().join("cert.pem"));
}
