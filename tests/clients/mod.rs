//! The clients that people really use, through Fender. Those that cannot be had are skipped aloud.

mod dialects;
mod fuzzed;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::{Fender, Protocol, Service, Upstream, binary};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// The Python of a venv with the clients in it; installed once for all tests.
pub(crate) fn python() -> Option<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(folder.join("clients.lock")).unwrap();
    lock.lock().unwrap();
    let venv = folder.join("clients");
    let output = Command::new(format!("{SCRIPTS}/install")).arg(&venv).output().unwrap();
    if !output.status.success() {
        skip(&String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(venv.join("bin/python"))
}

fn skip(why: &str) {
    eprintln!("SKIPPED: {}", why.trim());
}

fn script(python: &PathBuf, name: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg(format!("{SCRIPTS}/{name}"))
        .env("NO_PROXY", "*")
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy");
    command
}

/// Runs to its end and says `fine`.
#[track_caller]
fn fine(mut command: Command) {
    let output = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("fine"), "{said}");
}

/// A server in Python, which prints its port first; killed when dropped.
struct Peer {
    child: Child,
    port: u16,
}

impl Peer {
    fn start(mut command: Command) -> Self {
        let mut child = command.arg("serve").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { port: line.trim().parse().expect("a peer prints its port"), child }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Speaks the chat completions of the API, streamed where asked for.
fn mock_openai() -> Upstream {
    let answer = |status: &str, kind: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let whole = r#"{"id":"c-1","object":"chat.completion","created":1,"model":"mock","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Hello there"}}]}"#;
    let missing = r#"{"error":{"message":"no such model","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
    Upstream::scripted(move |connection| {
        while let Some(received) = connection.request() {
            assert_eq!(received.head.target(), "/v1/chat/completions");
            let asked: serde_json::Value = serde_json::from_slice(&received.body.bytes).unwrap();
            if asked["model"] == "missing" {
                connection.send(answer("404 Not Found", "application/json", missing));
            } else if asked["stream"] == true {
                connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
                for event in events() {
                    connection.send(format!("{:x}\r\n{event}\r\n", event.len()));
                }
                connection.send("0\r\n\r\n");
            } else {
                connection.send(answer("200 OK", "application/json", whole));
            }
        }
    })
}

fn events() -> Vec<String> {
    let event = |delta: &str, end: &str| {
        format!(
            "data: {{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{end}}}]}}\n\n"
        )
    };
    vec![
        event("{\"role\":\"assistant\",\"content\":\"Hello\"}", "null"),
        event("{\"content\":\" there\"}", "null"),
        event("{}", "\"stop\""),
        "data: [DONE]\n\n".to_owned(),
    ]
}

#[test]
fn the_openai_sdk_asks_and_streams() {
    let Some(python) = python() else { return };
    let upstream = mock_openai();
    let fender = Fender::start(format!(
        "[upstream.openai]\nurl = \"{}\"\nroute = \"/openai\"\npreset = \"ai\"",
        upstream.url()
    ));
    let mut command = script(&python, "client_openai.py");
    command.arg(format!("http://{}/openai/v1", fender.server()));
    fine(command);
}

/// A language server for TOML, as an editor asks it, by the schema that the binary prints.
#[test]
fn an_editor_completes_the_config() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let schema = binary().arg("schema").output().unwrap();
    fs::write(folder.path().join("schema.json"), schema.stdout).unwrap();
    let mut command = script(&python, "client_editor.py");
    command.arg(python.with_file_name("tombi")).arg(folder.path());
    fine(command);
}

/// The official SDKs with their own retries on, before providers that fail in their usual ways.
fn with_providers(part: &str) {
    let Some(python) = python() else { return };
    let peer = Peer::start(script(&python, "peer_providers.py"));
    let provider = format!("http://127.0.0.1:{}", peer.port);
    let folder = tempfile::tempdir().unwrap();
    let fast = "retry.backoff = { base = \"20ms\", jitter = \"none\" }\nbreaker.enabled = false\n";
    let mut config = format!(
        "[dead_letter]\npath = \"{}\"\nsync = \"full\"\n[upstream.dead]\nurl = \"{}\"\nroute = \"/dead\"\npreset = \"ai\"\n\
         breaker.consecutive_failures = 3\n",
        folder.path().join("letters.db").display(),
        Upstream::nobody()
    );
    for name in ["openai", "anthropic", "gemini"] {
        config += &format!(
            "[upstream.{name}]\nurl = \"{provider}/{name}\"\nroute = \"/{name}\"\npreset = \"ai\"\ndialect = \"{name}\"\n\
             stream.commit = \"first_content\"\n{fast}"
        );
    }
    for name in ["slack", "telegram"] {
        config += &format!(
            "[upstream.{name}]\nurl = \"{provider}/{name}\"\nroute = \"/{name}\"\npreset = \"messaging\"\ndialect = \"{name}\"\n\
             {fast}"
        );
    }
    config += "[upstream.slack.headers]\nset = { authorization = \"Bearer xoxb-of-fender\" }\n";
    let fender = Fender::start(config);
    let mut command = script(&python, "peer_providers.py");
    command.args(["call", part, &format!("http://{}", fender.server()), &provider]);
    fine(command);
    let secret = fs::read(folder.path().join("letters.db")).unwrap();
    for word in ["of-the-application", "secret"] {
        assert!(memchr::memmem::find(&secret, word.as_bytes()).is_none(), "{word} is in the store");
        assert!(!fender.log().contains(word), "{word} is in the log");
    }
}

#[test]
fn the_openai_sdk_is_understood() {
    with_providers("openai");
}

#[test]
fn the_openai_sdk_hears_of_cuts_and_refusals() {
    with_providers("openai_streams");
}

#[test]
fn the_anthropic_sdk_is_understood() {
    with_providers("anthropic");
}

#[test]
fn the_gemini_sdk_is_understood() {
    with_providers("gemini");
}

#[test]
fn the_slack_sdk_is_understood() {
    with_providers("slack");
}

#[test]
fn the_telegram_sdk_is_understood() {
    with_providers("telegram");
}

#[test]
fn grpc_calls_and_streams_with_their_trailers() {
    let Some(python) = python() else { return };
    let peer = Peer::start(script(&python, "peer_grpc.py"));
    let fender = Fender::start(format!(
        "[upstream.rpc]\nurl = \"http://127.0.0.1:{}\"\nroute = \"/\"\nhttp = \"2\"",
        peer.port
    ));
    let mut command = script(&python, "peer_grpc.py");
    command.arg("call").arg(fender.server().to_string());
    fine(command);
}

#[test]
fn websockets_echo() {
    let Some(python) = python() else { return };
    let peer = Peer::start(script(&python, "peer_websockets.py"));
    let fender =
        Fender::start(format!("[upstream.ws]\nurl = \"http://127.0.0.1:{}\"\nroute = \"/\"", peer.port));
    let mut command = script(&python, "peer_websockets.py");
    command.arg("call").arg(fender.server().to_string());
    fine(command);
}

#[test]
fn h2load_is_answered_each_time() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    let url = format!("http://{}/", fender.server());
    let Ok(output) = Command::new("h2load").args(["-n", "2000", "-c", "10", "-m", "10", &url]).output()
    else {
        return skip("h2load is not installed (nghttp2-client)");
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("2000 succeeded, 0 failed, 0 errored") && said.contains("2000 2xx"), "{said}");
}

#[test]
fn curl_waits_for_100_continue_and_sends_its_body() {
    let service = Service::start(Protocol::Http1);
    let fender = Fender::start(format!("[upstream.api]\nurl = \"{}\"\nroute = \"/\"", service.url()));
    let folder = tempfile::tempdir().unwrap();
    let (sent, back) = (folder.path().join("sent"), folder.path().join("back"));
    fs::write(&sent, vec![b'x'; 3_000_000]).unwrap();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", "--max-time", "20", version, "-H", "expect: 100-continue"]);
        command.arg("--data-binary").arg(format!("@{}", sent.display())).arg("-o").arg(&back);
        let Ok(output) = command.arg(format!("http://{}/echo", fender.server())).output() else {
            return skip("curl is not installed");
        };
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::read(&back).unwrap() == fs::read(&sent).unwrap(), "{version}");
    }
}
