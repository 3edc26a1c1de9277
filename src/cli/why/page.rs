//! A story on a page of text: times relative to the request's beginning, one line a step.

use serde_json::Value;

/// A story as `GET /api/v1/requests/{id}` tells it, for a person.
pub(in crate::cli) fn page(told: &Value) -> String {
    let mut page = String::new();
    heading(told, &mut page);
    let steps = list(told, "steps");
    if !steps.is_empty() {
        page.push('\n');
    }
    let rows: Vec<Row> = steps.iter().map(Row::of).collect();
    let (left, middle) = (width(&rows, |row| &row.at), width(&rows, |row| &row.kind));
    for row in &rows {
        page.push_str(&format!("{:>left$}  {:<middle$}  {}\n", row.at, row.kind, row.says));
        if let Some(config) = &row.config {
            page.push_str(&format!("{:left$}  {:middle$}  | {config}\n", "", ""));
        }
    }
    let left_out = told.get("left_out").and_then(Value::as_u64).unwrap_or(0);
    if left_out > 0 {
        page.push_str(&format!("{:left$}  {left_out} steps of the middle were not kept\n", ""));
    }
    letter(told, &mut page);
    if let Some(line) = told.get("decided_by").filter(|line| !line.is_null()) {
        page.push_str(&format!("\ndecided by  {}\n", config(line)));
    }
    if let Some(at) = text(told, "config_reloaded_at") {
        page.push_str(&format!(
            "            the config was read again at {at}: these lines are those in force now\n"
        ));
    }
    page
}

fn heading(told: &Value, page: &mut String) {
    let of = |name: &str| text(told, name).unwrap_or_default();
    match text(told, "id") {
        Some(id) => page.push_str(&format!("request     {id}, {}\n", of("at"))),
        None => {
            page.push_str(&format!("letter      stored {}; its request is not known any more\n", of("at")))
        }
    }
    let asked = format!("{} {}", of("method"), of("path"));
    if !asked.trim().is_empty() {
        page.push_str(&format!("asked       {}\n", printable(&asked)));
    }
    if let Some(status) = told.get("status").and_then(Value::as_u64) {
        let by = match (of("source"), text(told, "reason")) {
            ("upstream", None) => "the upstream".to_owned(),
            (source, Some(reason)) => format!("{}, {reason}", source.replace('_', " ")),
            (source, None) => source.replace('_', " "),
        };
        let how = match of("end") {
            "complete" => String::new(),
            "cancelled" => ", and the client hung up".to_owned(),
            end => format!(", and {end}"),
        };
        let took = told.get("duration_ms").and_then(Value::as_f64).unwrap_or_default();
        page.push_str(&format!("heard       {status} ({by}){how}, after {}\n", time(took)));
    }
    if let Some(verdict) = text(told, "verdict") {
        page.push_str(&format!("verdict     {}\n", verdict.replace('_', " ")));
    }
    if let Some(owner) = told.get("owner") {
        let (who, why) = (text(owner, "who").unwrap_or_default(), text(owner, "why").unwrap_or_default());
        page.push_str(&format!("owner now   {who}: {}\n", printable(why)));
    }
}

fn letter(told: &Value, page: &mut String) {
    let Some(letter) = told.get("letter").filter(|letter| !letter.is_null()) else { return };
    let of = |name: &str| text(letter, name);
    let state = of("state").unwrap_or("not in the store any more");
    let because = of("parked_because").map_or_else(String::new, |because| format!(" as {because}"));
    page.push_str(&format!("\nletter      {}: {state}{because}\n", of("id").unwrap_or_default()));
    for attempt in list(letter, "attempts") {
        let of = |name: &str| text(attempt, name).unwrap_or_default();
        let status = attempt.get("status").and_then(Value::as_u64).map(|status| status.to_string());
        let what = status.or_else(|| text(attempt, "error").map(str::to_owned)).unwrap_or_default();
        let took = attempt.get("duration_ms").and_then(Value::as_f64).unwrap_or_default();
        page.push_str(&format!("  {}  {what}, {}, in {}\n", of("at"), of("outcome"), time(took)));
    }
    if let Some(next) = of("next_attempt_at") {
        page.push_str(&format!("  {next}  not before this it is tried again\n"));
    }
}

struct Row {
    at: String,
    kind: String,
    says: String,
    config: Option<String>,
}

impl Row {
    fn of(step: &Value) -> Self {
        let elsewhere = text(step, "upstream").map_or_else(String::new, |name| format!("[{name}] "));
        Self {
            at: time(step.get("at_ms").and_then(Value::as_f64).unwrap_or_default()),
            kind: text(step, "kind").unwrap_or_default().replace('_', " "),
            says: format!("{elsewhere}{}", printable(text(step, "says").unwrap_or_default())),
            config: step.get("config").map(config),
        }
    }
}

/// `fender.toml:12:1  upstream.openai.retry.max_attempts = 2`.
fn config(line: &Value) -> String {
    let key = text(line, "key").unwrap_or_default();
    let value = text(line, "value").map_or_else(String::new, |value| format!(" = {value}"));
    match text(line, "set_by") {
        Some(set_by) => format!("{set_by}: {key}{value}"),
        None => format!("{key}, which the config in force does not have"),
    }
}

fn width(rows: &[Row], of: impl Fn(&Row) -> &str) -> usize {
    rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
}

/// Milliseconds, short.
fn time(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.1} ms") } else { format!("{:.2} s", ms / 1000.0) }
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Nothing that a terminal would act on: a path is the client's word.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
