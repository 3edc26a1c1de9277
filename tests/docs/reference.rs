//! `docs/reference/config.md` is written from the schema and the defaults file: what a key means stands at the key, once.

use std::fmt::Write as _;
use std::fs;

use fender::config::{defaults, schema};
use serde_json::Value;

use super::{anchor, root};

const PAGE: &str = "docs/reference/config.md";

/// Set, the test writes the page instead of comparing it.
const UPDATE: &str = "FENDER_UPDATE_DOCS";

const HEAD: &str = "\
# The config, key by key

Written by a test from the JSON Schema (`fender schema`) and the defaults file (`fender defaults`); do not edit it, run `just docs`.
`fender check --config FILE --explain UPSTREAM` prints every key in force for one upstream, and who set it.

**Values.** A duration is a whole number and `ms`, `s`, `m`, `h` or `d`: `\"250ms\"`, `\"30s\"`. A size is a whole number and `B`, `KiB`, `MiB` or
`GiB`: `\"64KiB\"`. Wherever a text stands, `\"${env:NAME}\"` and `\"${file:PATH}\"` stand for a secret; `\"$${\"` is a literal `${`.

**Precedence**, later wins, key by key: defaults, dialect, preset, profile, upstream, route, the request's own headers (which only
tighten). Tables merge; scalars and arrays replace whole.

**Reload.** A change takes effect at the next reload (SIGHUP, `POST /api/v1/config/reload`, or an edit of any file that the config
names), unless the key says *restart*: such a change is refused as `needs_restart`, and the old config stays.

A key marked *not built yet* is refused by `fender check`.
";

/// Tables that stand in several places and are told once.
const TOLD_ELSEWHERE: &[(&str, &str)] = &[
    ("upstream.NAME.dead_letter.replay.backoff", "upstream.NAME.retry.backoff"),
    ("upstream.NAME.dead_letter.replay.by_outcome.OUTCOME", "upstream.NAME.retry.backoff"),
    ("admin.tls", "server.tls"),
];

/// What a route may set over its upstream's: told at the upstream.
const ROUTE_TABLES: [&str; 7] =
    ["timeout", "stream", "retry", "breaker", "rate_limit", "fallback", "dead_letter"];

/// Presets and profiles, as the defaults file writes them: name, key of an upstream or of the whole, value.
struct Layers(Vec<(String, String, String)>);

impl Layers {
    fn read() -> Self {
        let file: toml::Table = defaults::TEXT.parse().expect("the defaults are TOML");
        let mut all = Vec::new();
        let table =
            |name: &str| file.get(name).and_then(toml::Value::as_table).expect("it is a table").clone();
        for (name, preset) in table("presets") {
            flatten(&format!("Preset `{name}`"), "upstream.NAME", &preset, &mut all);
        }
        for (name, profile) in table("profiles") {
            for (key, value) in profile.as_table().expect("a profile is a table") {
                let at = if key == "upstream" { "upstream.NAME" } else { key };
                flatten(&format!("Profile `{name}`"), at, value, &mut all);
            }
        }
        assert!(!all.is_empty(), "presets set something");
        Self(all)
    }

    fn of(&self, key: &str) -> String {
        let said = self.0.iter().filter(|(_, at, _)| at == key);
        said.map(|(layer, _, value)| format!(" {layer}: `{value}`.")).collect()
    }
}

fn flatten(layer: &str, at: &str, value: &toml::Value, all: &mut Vec<(String, String, String)>) {
    match value.as_table() {
        Some(table) => {
            table.iter().for_each(|(key, value)| flatten(layer, &format!("{at}.{key}"), value, all));
        }
        None => all.push((layer.to_owned(), at.to_owned(), value.to_string())),
    }
}

/// The page as it must be.
fn render() -> String {
    let schema = schema();
    let layers = Layers::read();
    let mut page = Page { text: HEAD.to_owned(), layers, index: String::new() };
    page.table("", "The file's top", &schema, false);
    let (index, text) = (page.index, page.text);
    text.replacen(
        "\nA key marked",
        &format!("\n**Tables**: {}.\n\nA key marked", index.trim_end_matches(", ")),
        1,
    )
}

struct Page {
    text: String,
    layers: Layers,
    index: String,
}

impl Page {
    /// A heading, what the table is for, its keys; then the tables below it.
    fn table(&mut self, path: &str, title: &str, schema: &Value, unbuilt: bool) {
        let unbuilt = unbuilt || schema["x-fender-not-built"] == true;
        writeln!(self.text, "\n## {title}\n").expect("a String takes all");
        write!(self.index, "[{title}](#{}), ", anchor(title)).expect("a String takes all");
        if !path.is_empty() {
            writeln!(self.text, "{}\n", sentence(schema, unbuilt)).expect("a String takes all");
        }
        if path.starts_with("dialect.NAME") && !path.trim_start_matches("dialect.NAME").contains('.') {
            writeln!(self.text, "How a dialect is written: [docs/dialects](../dialects/README.md).\n")
                .expect("a String takes all");
        }
        self.text.push_str("| key | takes | default | means |\n| --- | --- | --- | --- |\n");
        let properties = schema["properties"].as_object().expect("a table has keys");
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut below = Vec::new();
        for (key, value) in properties {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let (inner, title) = inner(&at, value);
            let told = TOLD_ELSEWHERE.iter().find(|(table, _)| *table == title).map(|(_, there)| *there);
            let of_route = path == "route" && ROUTE_TABLES.contains(&key.as_str());
            let leads = match (&inner, told) {
                (None, _) => None,
                (Some(_), _) if of_route => Some(format!("upstream.NAME.{key}")),
                (Some(_), Some(there)) => Some(there.to_owned()),
                (Some(inner), None) => {
                    below.push((title.clone(), (*inner).clone(), value["x-fender-not-built"] == true));
                    Some(title.clone())
                }
            };
            let takes = match leads {
                Some(title) => format!("{}[{title}](#{})", kind_of_table(value), anchor(&title)),
                None => kind(value),
            };
            let default = match &value["default"] {
                Value::Null if required.contains(&key.as_str()) => "must be set".to_owned(),
                Value::Null => String::new(),
                default => format!("`{}`", text_of(default)),
            };
            let means = self.means(&at, value, unbuilt);
            writeln!(self.text, "| `{key}` | {takes} | {} | {} |", bars(&default), bars(&means))
                .expect("a String takes all");
        }
        for (title, inner, not_built) in below {
            let path = title.clone();
            self.table(&path, &title, &inner, unbuilt || not_built);
        }
    }

    fn means(&self, path: &str, schema: &Value, unbuilt: bool) -> String {
        let mut means = sentence(schema, unbuilt);
        let choices: Vec<String> = schema["oneOf"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| Some(format!("`{}`: {}", one["const"].as_str()?, one["description"].as_str()?)))
            .collect();
        if !choices.is_empty() {
            means.push(' ');
            means.push_str(&choices.join(" "));
        }
        means.push_str(&self.layers.of(path));
        match schema["x-fender-needs-restart"].as_str() {
            Some("at any change") => means.push_str(" *Restart.*"),
            Some(when) => {
                write!(means, " *Restart {when}.*").expect("a String takes all");
            }
            None => {}
        }
        means
    }
}

/// The table below a key, if it is one, and that table's name: `NAME` stands for what the user chooses.
fn inner<'s>(path: &str, schema: &'s Value) -> (Option<&'s Value>, String) {
    if schema["properties"].is_object() {
        return (Some(schema), path.to_owned());
    }
    if schema["items"]["properties"].is_object() {
        return (Some(&schema["items"]), path.to_owned());
    }
    if schema["additionalProperties"]["properties"].is_object() {
        let name = if path.ends_with("by_outcome") { "OUTCOME" } else { "NAME" };
        return (Some(&schema["additionalProperties"]), format!("{path}.{name}"));
    }
    (None, path.to_owned())
}

fn kind_of_table(schema: &Value) -> &'static str {
    if schema["items"].is_object() { "list of tables: " } else { "table: " }
}

/// What a key takes, in words.
fn kind(schema: &Value) -> String {
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    let above_zero = pattern.starts_with("^0*[1-9]");
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("`{}`", text_of(word))).collect::<Vec<_>>().join(", ");
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let words: Vec<String> =
            choices.iter().filter_map(|one| Some(format!("`\"{}\"`", one["const"].as_str()?))).collect();
        return words.join(", ");
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        if is_address(schema) {
            return "IP address and port, or a list of them".to_owned();
        }
        let mut kinds: Vec<String> = choices.iter().map(kind).collect();
        kinds.dedup();
        return kinds.join(", ");
    }
    if pattern.contains("(ms|s|m|h|d)") {
        return if above_zero { "duration above 0" } else { "duration" }.to_owned();
    }
    if pattern.contains("KiB") {
        return if above_zero { "size above 0" } else { "size" }.to_owned();
    }
    let one = |word: &str| match word {
        "string" if pattern.contains("https?") => "URL".to_owned(),
        "string" if is_address(schema) => "IP address and port".to_owned(),
        "string" => form(pattern).unwrap_or("text").to_owned(),
        "integer" => format!("integer{}", bounds(schema)),
        "number" => format!("number{}", bounds(schema)),
        "boolean" => "`true`, `false`".to_owned(),
        "array" => format!("list of {}", plural(&kind(&schema["items"]))),
        "object" => match &schema["additionalProperties"] {
            Value::Object(values) if values.contains_key("type") => {
                format!("table of {}", plural(&kind(&schema["additionalProperties"])))
            }
            _ => "table".to_owned(),
        },
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(kind) => one(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(", "),
        _ => "any value".to_owned(),
    }
}

/// Whether its examples are addresses to listen on.
fn is_address(schema: &Value) -> bool {
    let mut examples = schema["examples"].as_array().into_iter().flatten().filter_map(Value::as_str);
    examples.any(|example| example.parse::<std::net::SocketAddr>().is_ok())
}

/// Texts of a form of their own: keys such as `header:NAME`.
fn form(pattern: &str) -> Option<&'static str> {
    match (pattern.contains("header:"), pattern.contains("json:")) {
        (true, true) => Some("`\"header:NAME\"`, `\"json:/pointer\"`"),
        (true, false) => Some("`\"header:NAME\"`"),
        (false, true) => Some("`\"json:/pointer\"`"),
        (false, false) => None,
    }
}

fn plural(kinds: &str) -> String {
    let one = |kind: &str| match kind {
        "text" => "texts".to_owned(),
        "URL" => "URLs".to_owned(),
        "integer" => "integers".to_owned(),
        other => other.replacen("duration", "durations", 1),
    };
    kinds.split(", ").map(one).collect::<Vec<_>>().join(", ")
}

fn bounds(schema: &Value) -> String {
    let least = schema["minimum"].as_f64();
    let above = schema["exclusiveMinimum"].as_f64();
    let most = schema["maximum"].as_f64();
    match (least, above, most) {
        (Some(least), _, Some(most)) => format!(" from {least} to {most}"),
        (None, Some(above), Some(most)) => format!(" above {above}, up to {most}"),
        (Some(least), ..) => format!(", {least} or more"),
        (None, Some(above), None) => format!(" above {above}"),
        (None, None, Some(most)) => format!(", at most {most}"),
        (None, None, None) => String::new(),
    }
}

/// The description, marked where it is of something that is not built.
fn sentence(schema: &Value, unbuilt: bool) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    let plain = text.strip_prefix("Not built yet. ").unwrap_or(text);
    if unbuilt || plain != text { format!("*Not built yet.* {plain}") } else { text.to_owned() }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(text_of).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A bar would end the cell.
fn bars(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn the_config_reference_is_what_the_schema_says() {
    let path = root().join(PAGE);
    let wanted = render();
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(&path, &wanted).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).position(|(one, other)| one != other);
    let at = differs.unwrap_or(found.lines().count().min(wanted.lines().count())) + 1;
    assert!(
        found == wanted,
        "{PAGE} is not what the schema says, from line {at} on: `just docs` writes it anew"
    );
}

#[test]
fn the_reference_tells_every_key_and_marks_what_is_special() {
    let page = render();
    for told in [
        "| `failure_rate` | number above 0, up to 1 | `0.5` |",
        "| `open_for` | duration above 0 | `\"10s\"` |",
        "Preset `ai`: `\"30s\"`. Preset `messaging`: `\"60s\"`.",
        "*Not built yet.* A comment to the client",
        "*Restart.*",
        "list of `\"sse\"`, `\"ndjson\"`",
        "## upstream.NAME.dead_letter.replay\n",
        "| `secret` | text | must be set | What follows \"Bearer\". |",
    ] {
        assert!(page.contains(told), "{told}");
    }
}

/// A file that ships and is made by code that does not.
fn ships(path: &str, made: &Value) {
    let made = format!("{made:#}\n");
    let path = root().join(path);
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &made).unwrap();
    }
    let have = fs::read_to_string(&path).unwrap_or_default();
    assert!(have == made, "{} is not what the code makes: renew it with `just docs`", path.display());
}

#[test]
fn the_schema_that_ships_is_made_from_the_model() {
    ships("config/schema.json", &schema());
}

#[test]
fn the_openapi_document_that_ships_is_made_from_the_table_of_calls() {
    ships("src/admin/openapi.json", &fender::admin::openapi());
}
