//! Every config that a page shows is in order.
//!
//! A block `toml` stands alone. A block `toml part` is completed by the smallest frame that makes it a whole: an upstream that it
//! names without a URL gets one, and if it names none at all there is one.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::{Block, pages_for_users};
use crate::support::{Authority, binary};

/// What stands for any API.
const ANYWHERE: &str = "https://api.example.com";

/// A config of a page as it can be checked here: what it names of other machines' files is made in `folder`.
pub(super) fn completed(block: &Block, folder: &Path, authority: &Authority) -> Result<Table, String> {
    let mut config: Table = block.text.parse().map_err(|error| format!("{error}"))?;
    if block.info == "toml part" {
        framed(&mut config);
    }
    files(&mut config, folder, authority);
    Ok(config)
}

fn framed(config: &mut Table) {
    let mut named: Vec<String> = Vec::new();
    for route in config.get("route").and_then(Value::as_array).into_iter().flatten() {
        named.extend(route.get("upstream").and_then(Value::as_str).map(str::to_owned));
    }
    let admin = config.get("admin").and_then(|admin| admin.get("token")).and_then(Value::as_array);
    for token in admin.into_iter().flatten() {
        let upstreams = token.get("upstreams").and_then(Value::as_array).into_iter().flatten();
        named.extend(upstreams.filter_map(Value::as_str).map(str::to_owned));
    }
    let upstreams = config.entry("upstream").or_insert_with(|| Value::Table(Table::new()));
    let upstreams = upstreams.as_table_mut().expect("[upstream] is a table");
    if upstreams.is_empty() && named.is_empty() {
        named.push("api".to_owned());
    }
    for name in named {
        upstreams.entry(name).or_insert_with(|| Value::Table(Table::new()));
    }
    for (name, upstream) in upstreams.iter_mut() {
        let upstream = upstream.as_table_mut().expect("an upstream is a table");
        if !upstream.contains_key("url") && !upstream.contains_key("urls") {
            upstream.insert("url".to_owned(), ANYWHERE.into());
            upstream.entry("route").or_insert_with(|| format!("/{name}").into());
        }
    }
}

/// `${file:PATH}` and certificates are read from here.
fn files(config: &mut Table, folder: &Path, authority: &Authority) {
    for (key, value) in config.iter_mut() {
        match value {
            Value::Table(table) => files(table, folder, authority),
            Value::Array(items) => {
                items.iter_mut().filter_map(Value::as_table_mut).for_each(|item| {
                    files(item, folder, authority);
                });
            }
            Value::String(text) => match key.as_str() {
                "cert_file" | "client_cert_file" => {
                    *text = authority.sign("localhost").certificate.display().to_string();
                }
                "key_file" | "client_key_file" => {
                    *text = authority.sign("localhost").key.display().to_string();
                }
                "ca_file" | "client_ca_file" => *text = authority.certificate().display().to_string(),
                _ => *text = with_secrets(text, folder),
            },
            _ => {}
        }
    }
}

/// 32 bytes in base64.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Each file has a secret of its own, since two tokens may not share one.
fn with_secrets(text: &str, folder: &Path) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${file:") {
        let (path, behind) = after.split_once('}').expect("a reference ends");
        let name = path.trim_start_matches('/').replace('/', "-");
        // Keys of letters are keys.
        let is_key = name.ends_with("-letters-key");
        let secret = if is_key { KEY.to_owned() } else { format!("secret-of-{name}") };
        fs::write(folder.join(&name), format!("{secret}\n")).unwrap();
        done.push_str(&format!("{before}${{file:{}}}", folder.join(name).display()));
        rest = behind;
    }
    done + rest
}

/// Every variable that a config names, with a value that stands for a secret.
pub(super) fn environment(text: &str) -> Vec<(String, String)> {
    let named = text.split("${env:").skip(1).filter_map(|rest| rest.split_once('}'));
    named.map(|(name, _)| (name.to_owned(), format!("secret-of-{name}"))).collect()
}

#[test]
fn every_config_of_the_documents_is_in_order() {
    let authority = Authority::new();
    let mut checked = 0;
    let mut problems = Vec::new();
    for page in pages_for_users() {
        for block in page.blocks().iter().filter(|block| block.info.split(' ').next() == Some("toml")) {
            assert!(["toml", "toml part"].contains(&block.info.as_str()), "{}: {}", page.path, block.info);
            let folder = tempfile::tempdir().unwrap();
            let place = format!("{}:{}", page.path, block.line);
            let config = match completed(block, folder.path(), &authority) {
                Ok(config) => config,
                Err(error) => {
                    problems.push(format!("{place}: {error}"));
                    continue;
                }
            };
            let text = config.to_string();
            let file = folder.path().join("fender.toml");
            fs::write(&file, &text).unwrap();
            let output =
                binary().args(["check", "--config"]).arg(&file).envs(environment(&text)).output().unwrap();
            checked += 1;
            let said = String::from_utf8_lossy(&output.stderr);
            if !output.status.success() || said.contains("warning") {
                problems.push(format!("{place}: {said}\nin\n{text}"));
            }
        }
    }
    super::report(&problems);
    assert!(checked >= 10, "only {checked} configs were found");
}

mod the_frame {
    use super::{Block, completed};
    use crate::support::Authority;

    fn framed(text: &str, info: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let block = Block { info: info.to_owned(), line: 1, text: text.to_owned() };
        completed(&block, folder.path(), &Authority::new()).unwrap().to_string()
    }

    #[test]
    fn adds_what_a_part_leaves_out_and_nothing_to_a_whole() {
        assert!(framed("[upstream.a]\nroute = \"/a\"", "toml part").contains("url = "));
        assert!(framed("[server]\nworkers = 1", "toml part").contains("[upstream.api]"));
        assert!(framed("[[route]]\npath = \"/a\"\nupstream = \"b\"", "toml part").contains("[upstream.b]"));
        assert!(!framed("[server]\nworkers = 1", "toml").contains("upstream"));
    }
}
