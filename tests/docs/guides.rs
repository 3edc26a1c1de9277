//! What the guides claim happens, with the configs that they show: only the API's address, the dialect that its host would have
//! picked, the listeners and the store's folder are put in their place.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use toml::Table;

use super::{Block, Page};
use crate::docs::configs;
use crate::support::{Authority, Client, Fender, Response, Setup, Upstream, binary, eventually};

/// An upstream's name, where it is, and how it speaks.
type Stands<'a> = (&'a str, String, &'a str);

/// A Fender that runs a guide's config, and the folder with its secrets.
struct Guided {
    fender: Fender,
    folder: PathBuf,
}

/// Starts the n-th config of a page.
fn guided(page: &str, number: usize, stands: &[Stands<'_>]) -> Guided {
    let page = Page::read(&format!("docs/guides/{page}.md"));
    let blocks = page.blocks();
    let block = blocks.iter().filter(|block| block.info == "toml").nth(number).expect("the page shows it");
    let kept = tempfile::tempdir().unwrap();
    let folder = kept.path().to_path_buf();
    let config = stood_in(block, &folder, stands);
    let file = folder.join("fender.toml");
    fs::write(&file, config.to_string()).unwrap();
    let environment = configs::environment(&block.text);
    let setup = environment
        .into_iter()
        .fold(Setup::default(), |setup, (name, value)| setup.environment(&name, &value));
    Guided { fender: setup.start_at(kept, file), folder }
}

fn stood_in(block: &Block, folder: &std::path::Path, stands: &[Stands<'_>]) -> Table {
    let mut config = configs::completed(block, folder, &Authority::new()).unwrap();
    let table = |config: &mut Table, name: &str| -> Table {
        config.remove(name).map_or_else(Table::new, |table| table.as_table().cloned().expect("a table"))
    };
    let mut server = table(&mut config, "server");
    server.insert("listen".to_owned(), vec!["127.0.0.1:0"].into());
    let mut admin = table(&mut config, "admin");
    admin.insert("listen".to_owned(), "127.0.0.1:0".into());
    if admin.contains_key("public_listen") {
        admin.insert("public_listen".to_owned(), "127.0.0.1:0".into());
    }
    if config.contains_key("dead_letter") {
        let mut store = table(&mut config, "dead_letter");
        store.insert("path".to_owned(), folder.join("letters.db").display().to_string().into());
        config.insert("dead_letter".to_owned(), store.into());
    }
    let upstreams = config.get_mut("upstream").and_then(toml::Value::as_table_mut).expect("upstreams");
    assert_eq!(upstreams.len(), stands.len(), "each upstream of the guide has a place");
    for (name, url, dialect) in stands {
        let upstream = upstreams.get_mut(*name).and_then(toml::Value::as_table_mut).expect("it is there");
        let base = upstream["url"].as_str().and_then(|url| url.splitn(4, '/').nth(3)).unwrap_or_default();
        let url = format!("{url}/{base}").trim_end_matches('/').to_owned();
        upstream.insert("url".to_owned(), url.into());
        upstream.insert("dialect".to_owned(), (*dialect).into());
    }
    config.insert("server".to_owned(), server.into());
    config.insert("admin".to_owned(), admin.into());
    config
}

/// An API that answers as it is told, and can be told anew.
fn told(first: &str) -> (Upstream, Arc<Mutex<String>>) {
    let answer = Arc::new(Mutex::new(first.to_owned()));
    let theirs = Arc::clone(&answer);
    let upstream = Upstream::scripted(move |connection| {
        while connection.request().is_some() {
            let now = theirs.lock().unwrap().clone();
            if !connection.send(now) {
                break;
            }
        }
    });
    (upstream, answer)
}

fn tell(answer: &Mutex<String>, now: &str) {
    now.clone_into(&mut answer.lock().unwrap());
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// The n-th JSON text that a page shows.
fn shown(page: &str, number: usize) -> Value {
    let page = Page::read(&format!("docs/guides/{page}.md"));
    let blocks = page.blocks();
    let block = blocks.iter().filter(|block| block.info == "json").nth(number).expect("the page shows it");
    serde_json::from_str(&block.text).unwrap()
}

/// Both have the same members, whatever stands in them.
#[track_caller]
fn same_members(one: &Value, other: &Value) {
    let members =
        |value: &Value| -> Vec<String> { value.as_object().expect("an object").keys().cloned().collect() };
    assert_eq!(members(one), members(other), "{one} and {other}");
}

const SENT: &str = "/whatsapp/1055/messages";

fn message(to: &str) -> Vec<u8> {
    let text = json!({"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": "Hi"}});
    text.to_string().into_bytes()
}

fn send(guided: &Guided, to: &str) -> Response {
    guided.fender.post(SENT, "content-type: application/json\r\n", &message(to))
}

/// `fender letters …` as the guide writes it.
fn letters(guided: &Guided, words: &[&str]) -> Output {
    let mut command: Command = binary();
    let admin = format!("http://{}", guided.fender.admin());
    let token = guided.folder.join("var-run-secrets-fender-ops");
    command.args(["letters"]).args(words).args(["--admin", &admin]).arg("--token-file").arg(token);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn states(guided: &Guided) -> Value {
    let stats = letters(guided, &["stats"]);
    serde_json::from_slice::<Value>(&stats.stdout).unwrap()["by_state"].clone()
}

const TAKEN: &str = r#"{"messaging_product":"whatsapp","contacts":[],"messages":[{"id":"wamid.1"}]}"#;

#[test]
fn a_whatsapp_message_is_whatsapps_fenders_or_the_applications() {
    let (api, words) =
        told(&answer("429 Too Many Requests\r\nretry-after: 1", r#"{"error":{"code":130429}}"#));
    let guided = guided("whatsapp", 0, &[("whatsapp", api.url(), "whatsapp")]);

    let kept = send(&guided, "491701");
    let id = kept.field("fender-letter");
    assert_eq!((kept.status(), kept.json()["messages"][0]["id"].as_str()), (200, Some(id.as_str())));
    let behind = send(&guided, "491701");
    assert!(behind.status() == 200 && !behind.field("fender-letter").is_empty(), "{}", behind.text());
    assert_eq!(states(&guided)["pending"], 2);

    tell(&words, &answer("200 OK", TAKEN));
    eventually("both are delivered", || states(&guided)["delivered"] == 2);
    let taken = send(&guided, "491702");
    assert_eq!((taken.status(), taken.field("fender-letter").as_str()), (200, ""));
    assert_eq!(taken.json()["messages"][0]["id"], "wamid.1");
    let first = api.request(1);
    assert_eq!(
        first.field("authorization").as_deref(),
        Some("Bearer secret-of-var-run-secrets-fender-whatsapp")
    );
    assert!(first.head.line.starts_with("POST /v21.0/1055/messages"), "{}", first.head.line);

    tell(&words, &answer("500 Internal Server Error", "{}"));
    let ambiguous = send(&guided, "491703");
    let id = ambiguous.field("fender-letter");
    assert_eq!((ambiguous.status(), ambiguous.field("fender-reason").as_str()), (500, "ambiguous"));
    let told: Value = serde_json::from_slice(&letters(&guided, &["show", &id]).stdout).unwrap();
    assert_eq!(
        (told["state"].as_str(), told["parked_because"].as_str()),
        (Some("parked"), Some("ambiguous"))
    );

    tell(&words, &answer("400 Bad Request", r#"{"error":{"code":131009}}"#));
    let refused = send(&guided, "491704");
    assert_eq!((refused.status(), refused.field("fender-letter").as_str()), (400, ""));

    tell(&words, &answer("200 OK", TAKEN));
    letters(&guided, &["replay", &id]);
    eventually("an operator's word sends it", || states(&guided)["delivered"] == 3);
    assert_eq!(states(&guided)["parked"], 0);
    let exported = letters(&guided, &["export"]);
    assert_eq!(String::from_utf8(exported.stdout).unwrap().lines().count(), 3);
    letters(&guided, &["verify"]);
    letters(&guided, &["purge"]);
    assert_eq!(states(&guided)["delivered"], 0);
}

#[test]
fn a_renewed_token_is_not_paused_and_what_waits_can_be_hurried() {
    let dead = answer("401 Unauthorized", r#"{"error":{"code":190,"message":"expired"}}"#);
    let (api, words) = told(&dead);
    let guided = guided("whatsapp", 0, &[("whatsapp", api.url(), "whatsapp")]);
    let spent = send(&guided, "491701");
    assert_eq!((spent.status(), spent.field("fender-reason").as_str()), (200, "quota"));
    let paused = send(&guided, "491702");
    assert_eq!((paused.status(), paused.field("fender-reason").as_str()), (200, "throttled"));
    assert_eq!(api.requests().len(), 1, "the second one was not sent into the pause");

    tell(&words, &answer("200 OK", TAKEN));
    fs::write(guided.folder.join("var-run-secrets-fender-whatsapp"), "renewed").unwrap();
    guided.fender.logged("config reloaded");
    let live = send(&guided, "491703");
    assert_eq!((live.status(), live.field("fender-letter").as_str()), (200, ""));
    letters(&guided, &["replay", "--all", "--upstream", "whatsapp", "--state", "pending"]);
    eventually("all are delivered", || states(&guided)["delivered"] == 2);
    let renewed = api
        .requests()
        .iter()
        .filter(|request| request.field("authorization").as_deref() == Some("Bearer renewed"))
        .count();
    assert_eq!(renewed, 3);
}

#[test]
fn a_stored_write_is_accepted_in_the_words_that_the_guide_shows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letters.db");
    let billing = Upstream::nobody();
    let fender = Setup::new(format!(
        "[dead_letter]\npath = {path:?}\n[upstream.billing]\nurl = {billing:?}\nroute = \"/\"\n\
         retry.max_attempts = 1\ndead_letter.mode = \"on_failure\""
    ))
    .start();
    let kept = fender.post("/invoices", "", b"one");
    assert_eq!(kept.status(), 202, "{}", kept.text());
    let wanted = shown("whatsapp", 0);
    same_members(&kept.json(), &wanted);
    for member in ["status", "upstream", "durable"] {
        assert_eq!(kept.json()[member], wanted[member], "{member}");
    }
    assert_eq!(kept.json()["letter"], kept.field("fender-letter"));
}

fn chat(fender: &Fender, model: &str, fields: &str) -> Response {
    let body = json!({"model": model, "messages": []}).to_string();
    let fields = format!("content-type: application/json\r\n{fields}");
    fender.post("/openai/v1/chat/completions", &fields, body.as_bytes())
}

#[test]
fn an_ai_api_falls_back_to_another_model_and_refuses_in_its_own_words() {
    let broken = answer("500 Internal Server Error", r#"{"error":{"code":"server_error"}}"#);
    let (openai, _) = told(&broken);
    let (small, _) = told(&answer("200 OK", r#"{"id":"c-1"}"#));
    let (anthropic, _) = told(&broken);
    let stands = [
        ("openai", openai.url(), "openai"),
        ("openai-small", small.url(), "openai"),
        ("anthropic", anthropic.url(), "anthropic"),
    ];
    let Guided { fender, .. } = guided("ai-api", 0, &stands);

    let saved = chat(&fender, "gpt-4o", "authorization: Bearer unused\r\n");
    assert_eq!((saved.status(), saved.field("fender-fallback").as_str()), (200, "openai-small"));
    assert_eq!(saved.field("fender-attempts"), "4");
    assert_eq!(openai.requests().len(), 3);
    assert!(small.request(1).text().contains(r#""model":"gpt-4o-mini""#), "{}", small.request(1).text());
    for received in [openai.request(1), small.request(1)] {
        assert_eq!(received.field("authorization").as_deref(), Some("Bearer secret-of-OPENAI_API_KEY"));
    }

    // Three attempts of one request have opened the breaker of its model; another model has its own.
    let refused = chat(&fender, "gpt-4o", "fender-policy: no-fallback\r\n");
    assert_eq!((refused.status(), refused.field("fender-reason").as_str()), (503, "breaker_open"));
    assert_eq!(refused.field("x-should-retry"), "true");
    same_members(&refused.json()["error"], &shown("ai-api", 0)["error"]);
    assert_eq!(refused.json()["error"]["type"], "service_unavailable");
    let other = chat(&fender, "o5", "fender-policy: no-fallback, no-retry\r\n");
    assert_eq!((other.status(), other.field("fender-reason").as_str()), (500, "exhausted"));
    assert_eq!(other.field("x-should-retry"), "false");

    let messages = |fender: &Fender| fender.post("/anthropic/v1/messages", "", br#"{"model":"claude"}"#);
    let last = messages(&fender);
    assert_eq!((last.status(), last.field("fender-attempts").as_str()), (500, "3"));
    assert_eq!(anthropic.request(1).field("x-api-key").as_deref(), Some("secret-of-ANTHROPIC_API_KEY"));
    let overloaded = messages(&fender);
    assert_eq!(
        (overloaded.status(), overloaded.json()["error"]["type"].as_str()),
        (529, Some("overloaded_error"))
    );
}

#[test]
fn a_stream_that_breaks_off_ends_with_the_apis_own_error() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let events = "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n";
    let cut = Upstream::scripted(move |connection| {
        if connection.request().is_some() {
            connection.send(format!("{head}{events}"));
        }
    });
    let idle = Upstream::nobody();
    let stands = [
        ("openai", cut.url(), "openai"),
        ("openai-small", idle.clone(), "openai"),
        ("anthropic", idle, "anthropic"),
    ];
    let Guided { fender, .. } = guided("ai-api", 0, &stands);
    let streamed = chat(&fender, "gpt-4o", "");
    let text = streamed.text();
    assert!(streamed.status() == 200 && text.contains("Hel") && text.contains("event: error"), "{text}");
    assert_eq!(fender.metric("fender_stream_ends_total", &[("end", "unfinished")]), 1.0);
}

/// What the application does with the clients that the guide makes.
const ASKS: &str = r#"
question = [{"role": "user", "content": "Hi"}]
chat = openai.chat.completions.create(model="gpt-4o", messages=question)
assert chat.choices[0].message.content == "Hello", chat
message = anthropic.messages.create(model="claude", max_tokens=9, messages=question)
assert message.content[0].text == "Hello", message
"#;

/// Left at their default the SDKs would try twice more.
const FAILS: &str = r#"
import openai as sdk

try:
    openai.chat.completions.create(model="gpt-4o", messages=[], extra_headers={"fender-policy": "no-fallback"})
except sdk.InternalServerError as error:
    assert error.response.headers["fender-attempts"] == "3", error.response.headers
else:
    raise AssertionError("the API's last answer is raised")
"#;

#[test]
fn the_sdks_of_the_ai_guide_ask_through_fender_and_do_not_multiply_its_attempts() {
    let Some(python) = crate::clients::python() else { return };
    let chat = r#"{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Hello"}}]}"#;
    let message = r#"{"id":"m","type":"message","role":"assistant","model":"claude","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#;
    let (openai, words) = told(&answer("200 OK", chat));
    let (anthropic, _) = told(&answer("200 OK", message));
    let stands = [
        ("openai", openai.url(), "openai"),
        ("openai-small", Upstream::nobody(), "openai"),
        ("anthropic", anthropic.url(), "anthropic"),
    ];
    let Guided { fender, .. } = guided("ai-api", 0, &stands);
    let page = Page::read("docs/guides/ai-api.md");
    let blocks = page.blocks();
    let made = blocks.iter().find(|block| block.info == "python").expect("the guide shows the clients");
    let clients = made.text.replace("127.0.0.1:8700", &fender.server().to_string());
    let run = |more: &str| {
        let mut command = Command::new(&python);
        command.env("NO_PROXY", "*").env_remove("HTTP_PROXY").env_remove("http_proxy");
        let output = command.args(["-c", &format!("{clients}{more}")]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(ASKS);
    assert_eq!((openai.requests().len(), anthropic.requests().len()), (1, 1));
    tell(&words, &answer("500 Internal Server Error", r#"{"error":{"code":"server_error"}}"#));
    run(FAILS);
    assert_eq!(openai.requests().len(), 1 + 3);
}

#[test]
fn an_observed_breaker_tells_what_it_would_do_and_refuses_nothing() {
    let (billing, _) = told(&answer("500 Internal Server Error", "{}"));
    let Guided { fender, .. } = guided("breaker", 0, &[("billing", billing.url(), "generic")]);
    for _ in 0..20 {
        let answer = fender.client().request("GET", "/billing/invoices", "fender-policy: no-retry\r\n", b"");
        assert_eq!(answer.status(), 500);
    }
    assert_eq!(billing.requests().len(), 20, "nothing was refused");
    let opened = [("from", "closed"), ("to", "open"), ("upstream", "billing")];
    assert_eq!(fender.metric("fender_breaker_transitions_total", &opened), 1.0);
    assert_eq!(fender.metric("fender_breaker_refused_total", &[]), 0.0);
    let line = fender.logged("breaker changed");
    for member in shown("breaker", 0).as_object().unwrap().keys() {
        assert!(line.get(member).is_some(), "{line} has no {member}");
    }
    let breakers = fender.admin_get("/health/breakers").json();
    assert_eq!(breakers["breakers"][0]["state"], "open", "{breakers}");
}

#[test]
fn each_model_has_a_breaker_and_a_route_may_have_its_own() {
    let (models, words) = told(&answer("500 Internal Server Error", "{}"));
    let Guided { fender, .. } = guided("breaker", 1, &[("models", models.url(), "openai")]);
    let ask = |model: &str| {
        let body = json!({ "model": model }).to_string();
        fender.post("/models/chat/completions", "fender-policy: no-retry\r\n", body.as_bytes())
    };
    for _ in 0..20 {
        assert_eq!(ask("one").status(), 500);
    }
    assert_eq!(ask("one").field("fender-reason"), "breaker_open");
    tell(&words, &answer("200 OK", "{}"));
    assert_eq!(ask("two").status(), 200);
    let routes: Vec<String> = fender
        .metrics()
        .keys()
        .filter(|name| name.starts_with("fender_breaker_state") && name.contains("state=\"open\""))
        .cloned()
        .collect();
    assert_eq!(routes.len(), 2, "{routes:?}");
}

#[test]
fn a_pods_public_listener_serves_probes_and_metrics_alone() {
    let idle = Upstream::nobody();
    let Guided { fender, .. } = guided("kubernetes", 0, &[("whatsapp", idle, "whatsapp")]);
    let asked = |path: &str| Client::connect(fender.public()).request("GET", path, "", b"").status();
    for open in ["/metrics", "/health/live", "/health/ready", "/health/startup"] {
        assert_eq!(asked(open), 200, "{open}");
    }
    for other in ["/health", "/health/breakers", "/api/v1/letters"] {
        assert_eq!(asked(other), 404, "{other}");
    }
    let refused = Client::connect(fender.admin()).request("GET", "/api/v1/letters", "", b"");
    assert_eq!(refused.status(), 401);
    fender.sigterm();
    eventually("it is unready at once", || asked("/health/ready") == 503);
    assert_eq!(fender.wait_exit(Duration::from_secs(30)).code(), Some(0));
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = |config: &str| {
        let file = folder.path().join("fender.toml");
        fs::write(&file, config).unwrap();
        binary().args(["run", "--config"]).arg(&file).output().unwrap().status.code()
    };
    let upstream = "[upstream.api]\nurl = \"http://127.0.0.1:9\"\nroute = \"/\"\n";
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    assert_eq!(run(&format!("[server]\nlisten = [\"{address}\"]\n{admin}{upstream}")), Some(1));
    assert_eq!(run(&format!("[server]\nlisen = [\"127.0.0.1:0\"]\n{admin}{upstream}")), Some(2));
    let letters = binary().args(["letters", "list", "--store", "/nonexistent.db"]).output().unwrap();
    assert_eq!(letters.status.code(), Some(2));
}
