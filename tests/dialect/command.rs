//! `fender dialect`.

use std::process::Output;

use fender::dialect::builtin;

use crate::support::binary;

fn fender(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        binary().args(arguments).env_remove("FENDER_CONFIG").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn dialects_are_listed_and_shown() {
    let (code, listed, _) = fender(&["dialect", "list"]);
    assert_eq!(code, Some(0));
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, builtin::names().collect::<Vec<_>>());
    let (code, shown, _) = fender(&["dialect", "show", "openai"]);
    assert_eq!((code, shown.as_str()), (Some(0), builtin::text("openai").unwrap()));
    let (code, _, complaint) = fender(&["dialect", "show", "opnai"]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("did you mean openai?"), "{complaint}");
    assert_eq!(fender(&["dialect"]).0, Some(2));
}

#[test]
fn dialects_of_a_config_are_listed_and_shown_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fender.toml");
    let own = "[dialect.mine]\nabout = 'Ours'\nextends = 'deepseek'\nmax_body = '1KiB'\n\
               [upstream.a]\nurl = 'http://a'\nroute = '/a'\ndialect = 'mine'\n";
    std::fs::write(&file, own).unwrap();
    let config = file.to_str().unwrap();
    let (_, listed, _) = fender(&["dialect", "list", "--config", config]);
    assert!(listed.contains("mine") && listed.contains("Ours (of the config)"), "{listed}");
    let (code, shown, _) = fender(&["dialect", "show", "mine", "--config", config]);
    assert_eq!(code, Some(0));
    // What is shown is what is in force: it can be written into a config again.
    let table: toml::Table = shown.parse().unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(table["max_body"].as_str(), Some("1KiB"));
    let mut again: toml::Table = "[upstream.a]\nurl = 'http://a'\nroute = '/a'".parse().unwrap();
    again.insert(
        "dialect".to_owned(),
        toml::Table::from_iter([("mine".to_owned(), toml::Value::Table(table))]).into(),
    );
    let before = fender::config::load_text("a.toml", own).unwrap().config.dialect;
    let after = fender::config::load_text("b.toml", &again.to_string()).unwrap().config.dialect;
    assert!(before == after);
    std::fs::write(&file, "[dialect.mine]\ncolour = 1\n").unwrap();
    let (code, _, complaint) = fender(&["dialect", "list", "--config", config]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("unknown key"), "{complaint}");
}
