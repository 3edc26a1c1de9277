//! The dialects that are compiled in.

use std::sync::{Arc, LazyLock, OnceLock};

use serde::Deserialize;

use super::Dialect;
use super::spec::Spec;
use super::values::Host;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(File {
            name: $name,
            text: include_str!(concat!("../../config/dialects/", $name, ".toml")),
            compiled: OnceLock::new(),
        }),*]
    };
}

/// In the order in which they are listed.
static FILES: [File; 12] = files![
    "generic",
    "openai",
    "azure-openai",
    "anthropic",
    "gemini",
    "deepseek",
    "whatsapp",
    "green-api",
    "twilio",
    "slack",
    "telegram",
    "sendgrid",
];

struct File {
    name: &'static str,
    text: &'static str,
    compiled: OnceLock<Arc<Dialect>>,
}

static SILENT: LazyLock<Arc<Dialect>> = LazyLock::new(|| Arc::new(Dialect::silent("generic")));

/// Their names.
pub fn names<'n>() -> impl Iterator<Item = &'n str> {
    FILES.iter().map(|file| file.name)
}

/// The file of one.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    FILES.iter().find(|file| file.name == name).map(|file| file.text)
}

/// One of them, compiled when it is first asked for.
#[must_use]
pub fn dialect(name: &str) -> Option<Arc<Dialect>> {
    let file = FILES.iter().find(|file| file.name == name)?;
    // That each of them compiles is held by a test.
    let compiled = file.compiled.get_or_init(|| compile(file.name).unwrap_or_else(|_| Arc::clone(&SILENT)));
    Some(Arc::clone(compiled))
}

/// The one that speaks to this host. Only that one is compiled: most processes need no other.
#[must_use]
pub fn of_host(host: &str) -> Option<Arc<Dialect>> {
    FILES
        .iter()
        .find(|file| hosts(file.text).iter().any(|one| one.is(host)))
        .and_then(|file| dialect(file.name))
}

/// What a file says of its hosts, which stands on one line.
fn hosts(text: &str) -> Vec<Host> {
    #[derive(Deserialize)]
    struct Line {
        hosts: Vec<Host>,
    }
    let line = text.lines().find(|line| line.starts_with("hosts = "));
    line.and_then(|line| toml::from_str::<Line>(line).ok()).map(|line| line.hosts).unwrap_or_default()
}

/// One of them, or what is wrong with its file.
///
/// # Errors
/// In words.
pub fn compile(name: &str) -> Result<Arc<Dialect>, String> {
    let table = whole(name)?;
    let spec: Spec = table.try_into().map_err(|error: toml::de::Error| format!("{name}: {error}"))?;
    Dialect::compile(name, spec).map(Arc::new).map_err(|faults| format!("{name}: {faults:?}"))
}

/// Its table over those that it extends.
fn whole(name: &str) -> Result<toml::Table, String> {
    let mut table = toml::Table::new();
    let mut next = Some(name.to_owned());
    for _ in 0..FILES.len() {
        let Some(name) = next.take() else { break };
        let text = text(&name).ok_or_else(|| format!("{name}: no such dialect"))?;
        let lower: toml::Table = text.parse().map_err(|error| format!("{name}: {error}"))?;
        next = lower.get("extends").and_then(toml::Value::as_str).map(str::to_owned);
        lay_under(&mut table, lower);
    }
    Ok(table)
}

/// Tables merge, all else stays as the upper one has it.
fn lay_under(upper: &mut toml::Table, lower: toml::Table) {
    for (key, value) in lower {
        match (upper.get_mut(&key), value) {
            (Some(toml::Value::Table(upper)), toml::Value::Table(lower)) => lay_under(upper, lower),
            (Some(_), _) => {}
            (None, value) => {
                upper.insert(key, value);
            }
        }
    }
}
