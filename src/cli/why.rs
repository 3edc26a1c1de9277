//! `fender why`: one request's or letter's story, for a person at night.

mod page;

use std::process::ExitCode;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

pub(super) use self::page::page;
use super::check::{say, say_error};
use super::remote::{Answer, Remote, Where};
use super::{BAD_CONFIG, RUNTIME_FAILURE};

/// Tells what was decided about one request or letter, by which line of the config, and who owns the write now.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The `fender-request-id` of an answer, or a letter's id
    id: String,
    #[command(flatten)]
    to: Where,
    /// JSON for machines
    #[arg(long)]
    json: bool,
}

/// 0 if it is told, 1 if there is no such story or nobody to tell it.
pub(super) fn run(args: &Args) -> ExitCode {
    let wrong = |why: &str| {
        say_error(&format!("error: {why}\n"));
        ExitCode::from(BAD_CONFIG)
    };
    let id = args.id.trim().to_ascii_lowercase();
    if ![26, 32].contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return wrong(&format!(
            "{:?} is no id: a request's has 32 hexadecimal digits (fender-request-id), a letter's 26 characters (fender-letter)",
            args.id
        ));
    }
    let remote = match Remote::new(&args.to) {
        Ok(remote) => remote,
        Err(why) => return wrong(&why),
    };
    match told(&remote, &id) {
        Ok(text) => {
            say(&if args.json { text } else { serde_json::from_str(&text).map_or(text, |told| page(&told)) })
        }
        Err(why) => {
            say_error(&format!("error: {why}\n"));
            ExitCode::from(RUNTIME_FAILURE)
        }
    }
}

/// The story as JSON.
fn told(remote: &Remote, id: &str) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let path = format!("/api/v1/requests/{id}");
    let Answer { status, body } = runtime.block_on(remote.call(Method::GET, &path, Bytes::new()))?;
    let told: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status == StatusCode::OK {
        return serde_json::to_string_pretty(&told)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string());
    }
    let detail = told.get("detail").and_then(Value::as_str).unwrap_or("no answer of Fender's");
    Err(format!("{status}: {detail}"))
}
