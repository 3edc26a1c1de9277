//! The JSON Schema is what an editor needs, and the contract's keys are all there.

use std::collections::BTreeSet;

use fender::config::{defaults, schema};
use serde_json::Value;

/// Every key of the contract, by table.
const KEYS: &[(&str, &str)] = &[
    ("", "profile server admin dead_letter upstream route notify dialect access_log trace"),
    (
        "server",
        "listen workers drain_timeout drain_quiet drain_min max_connections header_timeout body_idle_timeout \
      max_header_bytes max_request_body buffer_memory trust_client_headers tls",
    ),
    ("server.tls", "cert_file key_file client_ca_file"),
    ("admin", "listen public_listen tls token"),
    ("admin.tls", "cert_file key_file"),
    ("admin.token.*", "name role secret upstreams"),
    ("dead_letter", "path max_bytes sync encryption_key old_encryption_keys retain_delivered retain_parked"),
    (
        "upstream.*",
        "url urls route preset criticality shed_at http dialect idempotent idempotency_header proxy headers tls pool \
      timeout stream retry breaker concurrency throttle rate_limit health fallback dead_letter",
    ),
    ("upstream.*.headers", "set remove"),
    ("upstream.*.tls", "ca_file client_cert_file client_key_file server_name"),
    ("upstream.*.pool", "max_idle idle_timeout dns_refresh"),
    ("upstream.*.timeout", "connect attempt total idle stream propagate"),
    ("upstream.*.stream", "first_content commit hold_max keepalive end_mark"),
    ("upstream.*.retry", "max_attempts on max_body retry_after backoff budget"),
    ("upstream.*.retry.backoff", "strategy base max factor schedule jitter"),
    ("upstream.*.retry.budget", "ratio min_per_second window"),
    (
        "upstream.*.breaker",
        "enabled observe window window_requests minimum_requests failure_rate consecutive_failures slow_call \
      slow_rate open_for max_open_for half_open_probes half_open_timeout ramp key failures",
    ),
    ("upstream.*.concurrency", "max queue queue_timeout adaptive"),
    ("upstream.*.throttle", "adapt scope max_pause max_wait"),
    ("upstream.*.rate_limit.*", "requests per burst key max_wait"),
    ("upstream.*.health", "path interval timeout unhealthy_after healthy_after"),
    ("upstream.*.fallback.*", "on upstream path json pass_credentials response stale"),
    ("upstream.*.fallback.*.response", "status headers body body_file"),
    (
        "upstream.*.dead_letter",
        "mode methods respond max_body credentials order_by on_parked priority redact accepted replay",
    ),
    ("upstream.*.dead_letter.accepted", "status headers body"),
    (
        "upstream.*.dead_letter.replay",
        "enabled backoff by_outcome max_attempts concurrency per_second expire_after ambiguous",
    ),
    (
        "route.*",
        "name path host methods upstream strip_prefix timeout stream retry breaker rate_limit fallback dead_letter \
      idempotent idempotency_header shed_at",
    ),
    ("route.*.retry", "max_attempts on max_body retry_after backoff"),
    ("notify.*", "url on secret"),
    (
        "dialect.*",
        "about extends hosts max_body idempotency_header repeatable masked_headers masked_paths masked_query field rule \
      stream request gen_ai refusal acceptance",
    ),
    ("dialect.*.rule.*", "status header json contains outcome verdict scope wait"),
    ("dialect.*.rule.*.wait", "json form default"),
    ("dialect.*.stream", "json end_mark otherwise status event"),
    ("dialect.*.stream.event.*", "event data json contains kind"),
    ("dialect.*.request", "order recipient model"),
    ("dialect.*.gen_ai", "provider operation model input_tokens output_tokens"),
    ("dialect.*.gen_ai.operation.*", "name path"),
    ("dialect.*.refusal", "content_type body status headers words waiting given_up event"),
    ("dialect.*.refusal.waiting", "body status headers again max"),
    ("dialect.*.refusal.event", "name data"),
    ("dialect.*.acceptance.*", "path status content_type headers body"),
    ("access_log", "enabled"),
    ("trace", "otlp_endpoint sample"),
];

fn at<'s>(schema: &'s Value, path: &str) -> &'s Value {
    path.split('.').filter(|step| !step.is_empty()).fold(schema, |here, step| match step {
        "*" if here.get("items").is_some() => &here["items"],
        "*" => &here["additionalProperties"],
        key => &here["properties"][key],
    })
}

#[test]
fn every_key_of_the_contract_is_in_the_schema() {
    let schema = schema();
    for (table, keys) in KEYS {
        let properties =
            at(&schema, table)["properties"].as_object().unwrap_or_else(|| panic!("no table {table}"));
        let wanted: BTreeSet<&str> = keys.split_whitespace().collect();
        for key in &wanted {
            assert!(properties.contains_key(*key), "{table} lacks {key}");
            let described = properties[*key]["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described, "{table}.{key} has no description");
        }
        assert_eq!(
            at(&schema, table)["additionalProperties"],
            Value::Bool(false),
            "{table} takes unknown keys"
        );
    }
}

#[test]
fn every_key_of_the_contract_is_in_the_defaults_file() {
    for (table, keys) in KEYS.iter().filter(|(table, _)| {
        !table.starts_with("route.*.") && !table.starts_with("dialect.") && !table.contains("response")
    }) {
        for key in keys.split_whitespace() {
            let written = defaults::TEXT.lines().map(|line| line.trim_start_matches(['#', ' ', '[']));
            let found = written.clone().any(|line| {
                line.starts_with(&format!("{key} ="))
                    || line.split([']', ' ']).next().is_some_and(|header| header.ends_with(key))
            });
            assert!(found || table.starts_with("route"), "{table}.{key} is not in the defaults file");
        }
    }
}

#[test]
fn nothing_is_required_but_what_has_no_default() {
    let schema = schema();
    let required = |path: &str| at(&schema, path)["required"].clone();
    assert_eq!(schema["required"], Value::Null);
    assert_eq!(required("server"), Value::Null);
    assert_eq!(required("upstream.*"), Value::Null);
    assert_eq!(
        at(&schema, "upstream.*")["oneOf"],
        serde_json::json!([{"required": ["url"]}, {"required": ["urls"]}])
    );
    assert_eq!(required("route.*"), serde_json::json!(["path", "upstream"]));
    assert_eq!(required("admin.token.*"), serde_json::json!(["name", "role", "secret"]));
    assert_eq!(required("server.tls"), serde_json::json!(["cert_file", "key_file"]));
    assert_eq!(required("upstream.*.dead_letter.replay.by_outcome.*"), Value::Null);
}

#[test]
fn defaults_patterns_and_words_are_said() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(at(&schema, "upstream.*.timeout.attempt")["default"], "15s");
    assert_eq!(at(&schema, "server.max_connections")["default"], 10000);
    assert_eq!(at(&schema, "server.max_connections")["minimum"], 1);
    assert!(at(&schema, "upstream.*.timeout.attempt")["pattern"].is_string());
    let words: Vec<&str> = at(&schema, "upstream.*.preset")["oneOf"]
        .as_array()
        .expect("choices")
        .iter()
        .filter_map(|one| one["const"].as_str())
        .collect();
    assert_eq!(words, ["ai", "messaging", "internal"]);
    assert!(!schema.to_string().contains("\"null\""), "TOML has no null");
}

#[test]
fn what_is_not_built_yet_is_marked() {
    let schema = schema();
    for path in ["upstream.*.stream.keepalive", "route.*.stream.keepalive"] {
        let part = at(&schema, path);
        assert_eq!(part["x-fender-not-built"], true, "{path}");
        assert!(
            part["description"].as_str().is_some_and(|text| text.starts_with("Not built yet.")),
            "{path}"
        );
    }
    assert_eq!(at(&schema, "notify")["x-fender-not-built"], Value::Null);
    assert_eq!(at(&schema, "dead_letter.encryption_key")["x-fender-not-built"], Value::Null);
    assert_eq!(at(&schema, "upstream.*.breaker")["x-fender-not-built"], Value::Null);
}

/// The examples use no key that the schema does not know, and no value of another type.
#[test]
fn the_examples_fit_the_schema() {
    let schema = schema();
    for text in [include_str!("../../config/minimal.toml"), include_str!("../../config/full.toml")] {
        let tree: toml::Table = text.parse().expect("TOML");
        fits(&schema, &serde_json::to_value(tree).expect("JSON"), "");
    }
}

fn fits(schema: &Value, value: &Value, path: &str) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let below = match schema["properties"].get(key) {
                    Some(below) => below,
                    None => &schema["additionalProperties"],
                };
                if below == &Value::Bool(true) {
                    continue; // Whatever the user names there.
                }
                assert!(below.is_object(), "{path}.{key} is not in the schema");
                fits(below, value, &format!("{path}.{key}"));
            }
        }
        Value::Array(items) if schema["items"].is_object() => {
            items.iter().for_each(|item| fits(&schema["items"], item, path));
        }
        _ => {}
    }
}

#[test]
fn what_needs_a_restart_is_marked() {
    let schema = schema();
    let mark = |path: &str| at(&schema, path)["x-fender-needs-restart"].as_str();
    for path in ["server.listen", "server.workers", "admin.listen", "dead_letter.path", "dead_letter.sync"] {
        assert_eq!(mark(path), Some("at any change"), "{path}");
    }
    assert_eq!(
        (mark("server.tls"), mark("admin.tls")),
        (Some("to turn it on or off"), Some("to turn it on or off"))
    );
    for path in ["server.header_timeout", "admin.token", "dead_letter", "upstream.*.breaker.open_for"] {
        assert_eq!(mark(path), None, "{path}");
    }
}
