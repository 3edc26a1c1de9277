//! A story on a page of text: times relative to the request's beginning, one line a step.

use serde_json::Value;

/// A story as `GET /api/v1/requests/{id}` tells it, for a person.
pub(in crate::cli) fn page(told: &Value) -> String {
    let mut page = String::new();
    heading(told, &mut page);
    let steps = list(told, "steps");
    let of_letter = |name| told.get("letter").map(|letter| list(letter, name)).unwrap_or_default();
    let tried = of_letter("attempts").iter().map(|attempt| (since(attempt), Row::of_replay(attempt)));
    let happened = of_letter("events").iter().map(|event| (since(event), Row::of_event(event)));
    let mut later: Vec<(f64, Row)> = tried.chain(happened).collect();
    later.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let rows: Vec<Row> = steps.iter().map(Row::of).chain(later.into_iter().map(|(_, row)| row)).collect();
    if !rows.is_empty() {
        page.push('\n');
    }
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
            page.push_str(&format!("letter      stored {}; its request is not known any more\n", of("at")));
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
        let took = time(told.get("duration_ms").and_then(Value::as_f64).unwrap_or_default());
        page.push_str(&match text(told, "reason") {
            Some("cancelled") => format!("heard       nothing: it hung up; all ended after {took}\n"),
            _ => format!("heard       {status} ({by}){how}, after {took}\n"),
        });
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
    let next = of("next_attempt_at").map_or_else(String::new, |at| format!(", not tried again before {at}"));
    page.push_str(&format!("\nletter      {}: {state}{because}{next}\n", of("id").unwrap_or_default()));
    if let Some(line) = letter.get("parked_by").filter(|line| !line.is_null()) {
        page.push_str(&format!("            | {}\n", config(line)));
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
            at: time(since(step)),
            kind: text(step, "kind").unwrap_or_default().replace('_', " "),
            says: format!("{elsewhere}{}", printable(text(step, "says").unwrap_or_default())),
            config: step.get("config").map(config),
        }
    }

    /// One attempt at the letter.
    fn of_replay(attempt: &Value) -> Self {
        let status = attempt.get("status").and_then(Value::as_u64).map(|status| status.to_string());
        let what = status.or_else(|| text(attempt, "error").map(str::to_owned)).unwrap_or_default();
        let outcome = text(attempt, "outcome").unwrap_or_default();
        let took = attempt.get("duration_ms").and_then(Value::as_f64).unwrap_or_default();
        let verdict =
            text(attempt, "verdict").map_or_else(String::new, |word| format!(", {}", word.replace('_', " ")));
        let place = text(attempt, "endpoint").map_or_else(String::new, |at| format!(" at {at}"))
            + &text(attempt, "request_id").map_or_else(String::new, |id| format!(", as request {id}"));
        Self {
            at: time(since(attempt)),
            kind: "replay".to_owned(),
            says: printable(&format!("{what}, {outcome}{verdict}, in {}{place}", time(took))),
            config: None,
        }
    }

    /// What else happened to it.
    fn of_event(event: &Value) -> Self {
        let who = text(event, "who").map_or_else(String::new, |who| format!(", by {who}"));
        let because = text(event, "because").map_or_else(String::new, |because| format!(" as {because}"));
        let says = match text(event, "event").unwrap_or_default() {
            "letter.replayed" => format!("an operator has it sent again{who}"),
            "letter.discarded" => format!("an operator has given it up{who}"),
            other => format!("{}{because}{who}", other.trim_start_matches("letter.")),
        };
        Self { at: time(since(event)), kind: "letter".to_owned(), says: printable(&says), config: None }
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

/// Milliseconds since the request came.
fn since(value: &Value) -> f64 {
    value.get("at_ms").and_then(Value::as_f64).unwrap_or_default()
}

fn width(rows: &[Row], of: impl Fn(&Row) -> &str) -> usize {
    rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
}

/// Milliseconds, short.
fn time(ms: f64) -> String {
    let seconds = ms / 1000.0;
    match ms.abs() {
        ..1_000.0 => format!("{ms:.1} ms"),
        ..100_000.0 => format!("{seconds:.2} s"),
        ..7_200_000.0 => format!("{:.1} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::page;

    #[test]
    fn times_and_kinds_stand_below_each_other_and_a_terminal_is_not_spoken_to() {
        let step = |at: f64, kind: &str, says: &str| json!({ "at_ms": at, "kind": kind, "says": says });
        let mut retry = step(1020.0, "no_retry", "3 of at most 3 attempts made");
        retry["config"] =
            json!({ "key": "upstream.a.retry.max_attempts", "value": "3", "set_by": "defaults" });
        let told = json!({
            "id": "01", "at": "2026-01-01T00:00:00.000Z", "method": "POST", "path": "/a\u{1b}[2J",
            "status": 502, "source": "fender", "reason": "connect", "end": "complete", "duration_ms": 1021.0,
            "verdict": "never_sent", "owner": { "who": "fender", "why": "letter 02 is pending" },
            "decided_by": retry["config"], "config_reloaded_at": "2026-01-02T00:00:00.000Z", "left_out": 7,
            "steps": [step(0.0, "route", "/, to upstream a"), retry],
            "letter": {
                "id": "02", "state": "pending", "next_attempt_at": "2026-01-03T00:00:00.000Z",
                "attempts": [{ "at_ms": 172_800_000, "outcome": "transient", "error": "reset", "duration_ms": 90 }],
            },
        });
        assert_eq!(
            page(&told),
            "request     01, 2026-01-01T00:00:00.000Z\n\
             asked       POST /a\u{fffd}[2J\n\
             heard       502 (fender, connect), after 1.02 s\n\
             verdict     never sent\n\
             owner now   fender: letter 02 is pending\n\
             \n\
             0.0 ms  route     /, to upstream a\n\
             1.02 s  no retry  3 of at most 3 attempts made\n\
             \x20                 | defaults: upstream.a.retry.max_attempts = 3\n\
             48.0 h  replay    reset, transient, in 90.0 ms\n\
             \x20       7 steps of the middle were not kept\n\
             \n\
             letter      02: pending, not tried again before 2026-01-03T00:00:00.000Z\n\
             \n\
             decided by  defaults: upstream.a.retry.max_attempts = 3\n\
             \x20           the config was read again at 2026-01-02T00:00:00.000Z: these lines are those in force now\n"
        );
    }
}
