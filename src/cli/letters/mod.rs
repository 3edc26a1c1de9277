//! `fender letters`: works on the dead-letter log.

mod filter;
mod link;

use std::io::{IsTerminal, Read, Write, stderr};
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Subcommand;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use self::filter::Filter;
use self::link::Link;
use super::check::{say, say_error};
use super::remote::{Answer, Remote, Where};
use super::{BAD_CONFIG, RUNTIME_FAILURE};

/// Works on the dead-letter log: through the admin API, or straight on the file of a Fender that is stopped.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    to: Where,
    /// The store's file itself, when Fender is stopped
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "token_file")]
    store: Option<PathBuf>,
    /// With --store: a file with a key that its letters are sealed with, as dead_letter.encryption_key has it; may be given again
    /// for old keys
    #[arg(long, global = true, value_name = "FILE", requires = "store")]
    key_file: Vec<PathBuf>,
    /// JSON for machines
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists letters, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many; without it all
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Shows one letter with its trail
    Show { id: String },
    /// Sends letters again
    Replay {
        #[command(flatten)]
        which: Which,
    },
    /// Gives letters up
    Discard {
        #[command(flatten)]
        which: Which,
    },
    /// Prints letters with headers and bodies, a JSON line each
    Export {
        #[command(flatten)]
        filter: Filter,
    },
    /// Takes the lines of an export in; importing twice is importing once
    Import {
        /// The file; - for standard input
        file: PathBuf,
    },
    /// The log in figures
    Stats {
        #[command(flatten)]
        filter: Filter,
    },
    /// Removes delivered and discarded letters
    Purge {
        #[command(flatten)]
        filter: Filter,
    },
    /// Reads all letters and says which are damaged
    Verify,
}

/// Which letters a command acts on.
#[derive(Debug, clap::Args)]
struct Which {
    /// Letters by id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All that the filters mean
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

/// Letters in one call of a bulk act: between two calls the progress is drawn.
const BULK: usize = 200;

/// Letters on a page.
const PAGE: usize = 500;

/// Bytes of lines that one import call takes.
const IMPORT_BYTES: usize = 8 * 1024 * 1024;

/// Lines that were not taken in and are told one by one; `--json` tells all.
const IMPORT_TOLD: usize = 20;

/// 0 if all was done, 1 if not.
pub(super) fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    let link = match &args.store {
        Some(file) => Link::file(file.clone(), matches!(args.what, What::Import { .. }), &args.key_file),
        None => Remote::new(&args.to).map(Link::Remote),
    };
    let link = match link {
        Ok(link) => link,
        Err(why) => {
            say_error(&format!("error: {why}\n"));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    runtime.block_on(async {
        let done = act(args, &link).await;
        link.close().await;
        match done {
            Ok(code) => code,
            Err(why) => failed(&why),
        }
    })
}

async fn act(args: &Args, link: &Link) -> Result<ExitCode, String> {
    match &args.what {
        What::List { filter, limit } => list(args, link, filter, *limit).await,
        What::Show { id } => {
            let letter = json_of(link.call(Method::GET, &format!("/{id}"), Bytes::new()).await?)?;
            Ok(say(&pretty(&letter)))
        }
        What::Replay { which } => many(args, link, which, "replay").await,
        What::Discard { which } => many(args, link, which, "discard").await,
        What::Export { filter } => {
            let answer =
                link.call(Method::GET, &format!("/export{}", filter.query(&[])), Bytes::new()).await?;
            let text = String::from_utf8(fine(answer)?.to_vec()).map_err(|error| error.to_string())?;
            let said = say(&text);
            let letters = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let locked = letters.filter(is_locked).count();
            tell_locked(locked);
            Ok(if locked == 0 { said } else { ExitCode::from(RUNTIME_FAILURE) })
        }
        What::Import { file } => import(args, link, file).await,
        What::Stats { filter } => {
            let stats = link.call(Method::GET, &format!("/stats{}", filter.query(&[])), Bytes::new()).await?;
            Ok(say(&pretty(&json_of(stats)?)))
        }
        What::Purge { filter } => {
            let asked = json!({ "filter": filter.words() });
            let answer = link.call(Method::POST, "/purge", asked.to_string().into()).await?;
            Ok(say(&pretty(&json_of(answer)?)))
        }
        What::Verify => {
            let report = json_of(link.call(Method::POST, "/verify", Bytes::new()).await?)?;
            let sound = ["damaged", "file"]
                .iter()
                .all(|name| member(&report, name).as_array().is_none_or(Vec::is_empty))
                && member(&report, "locked").as_object().is_none_or(serde_json::Map::is_empty);
            say(&pretty(&report));
            Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(RUNTIME_FAILURE) })
        }
    }
}

async fn list(args: &Args, link: &Link, filter: &Filter, limit: Option<usize>) -> Result<ExitCode, String> {
    let mut cursor: Option<String> = None;
    let (mut left, mut locked) = (limit.unwrap_or(usize::MAX), 0);
    if !args.json {
        say(&format!(
            "{:<26} {:<10} {:<16} {:<16} {:<20} {}\n",
            "id", "state", "upstream", "reason", "created", "request"
        ));
    }
    while left > 0 {
        let page_size = left.min(PAGE).to_string();
        let mut more = vec![("limit", page_size.as_str())];
        if let Some(cursor) = &cursor {
            more.push(("cursor", cursor));
        }
        let page = json_of(link.call(Method::GET, &filter.query(&more), Bytes::new()).await?)?;
        let letters = member(&page, "letters").as_array().cloned().unwrap_or_default();
        left = left.saturating_sub(letters.len());
        locked += letters.iter().filter(|letter| is_locked(letter)).count();
        let mut text = String::new();
        for letter in &letters {
            if args.json {
                text.push_str(&letter.to_string());
                text.push('\n');
            } else {
                line(&mut text, letter);
            }
        }
        say(&text);
        cursor = member(&page, "next").as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    tell_locked(locked);
    Ok(ExitCode::SUCCESS)
}

/// Whether a letter could not be read for want of its key.
fn is_locked(letter: &Value) -> bool {
    member(letter, "locked").is_string()
}

/// Says on stderr how many letters could not be read, if any.
fn tell_locked(letters: usize) {
    if letters > 0 {
        say_error(&format!(
            "{letters} of them sealed with a key that is not at hand, and not read (--key-file FILE with --store)\n"
        ));
    }
}

fn line(text: &mut String, letter: &Value) {
    let field = |name: &str| member(letter, name).as_str().unwrap_or_default();
    let state = match member(letter, "parked_because").as_str() {
        Some(because) => because,
        None => field("state"),
    };
    text.push_str(&format!(
        "{:<26} {:<10} {:<16} {:<16} {:<20} {} {}\n",
        field("id"),
        state,
        field("upstream"),
        field("reason"),
        field("created_at").get(..19).unwrap_or_default(),
        field("method"),
        field("path")
    ));
}

/// Replays or discards: by id one after the other, all of a filter in steps, with the progress drawn for people.
async fn many(args: &Args, link: &Link, which: &Which, act: &str) -> Result<ExitCode, String> {
    let (mut done, mut wrong) = (Vec::new(), Vec::new());
    if which.all {
        let mut seen = std::collections::HashSet::new();
        loop {
            let mut words = which.filter.words();
            if act == "replay" && which.filter.state.is_none() {
                // The others are on their way by themselves.
                words.insert("state".to_owned(), Value::from("parked"));
            }
            let asked = json!({ "filter": words, "limit": BULK });
            let answer = link.call(Method::POST, &format!("/{act}"), asked.to_string().into()).await?;
            let result = json_of(answer)?;
            let step: Vec<String> = strings(member(&result, "done"));
            let failures = member(&result, "failed").as_array().cloned().unwrap_or_default();
            // A letter that was replayed is pending: without a filter by state it would be meant again.
            let fresh: Vec<String> = step.into_iter().filter(|id| seen.insert(id.clone())).collect();
            let ended = fresh.len() < BULK;
            done.extend(fresh);
            wrong.extend(failures);
            progress(args, &format!("{act}: {} done, {} failed", done.len(), wrong.len()));
            if ended {
                break;
            }
        }
    } else {
        for id in &which.ids {
            let answer = link.call(Method::POST, &format!("/{id}/{act}"), Bytes::new()).await?;
            match json_of(answer) {
                Ok(_) => done.push(id.clone()),
                Err(error) => wrong.push(json!({ "id": id, "error": error })),
            }
        }
    }
    if !args.json && stderr().is_terminal() {
        say_error("\r\x1b[K");
    }
    let all_done = wrong.is_empty();
    if args.json {
        say(&format!("{}\n", json!({ "done": done, "failed": wrong })));
    } else {
        say(&format!("{act}: {} done, {} failed\n", done.len(), wrong.len()));
        for failure in &wrong {
            say_error(&format!(
                "{}: {}\n",
                member(failure, "id").as_str().unwrap_or("?"),
                member(failure, "error").as_str().unwrap_or("?")
            ));
        }
    }
    Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::from(RUNTIME_FAILURE) })
}

async fn import(args: &Args, link: &Link, file: &PathBuf) -> Result<ExitCode, String> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
    } else {
        text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if args.key_file.is_empty() && link.is_sealed().await? {
        return Err("the letters of this store are sealed: --key-file FILE names the key, else these would lie in the clear".to_owned());
    }
    let (mut done, mut already, mut wrong) = (0, 0, Vec::new());
    let (mut lines, mut before) = (text.lines().peekable(), 0);
    while lines.peek().is_some() {
        let (mut part, mut count) = (String::new(), 0);
        while let Some(line) = lines.next_if(|line| part.is_empty() || part.len() + line.len() < IMPORT_BYTES)
        {
            part.push_str(line);
            part.push('\n');
            count += 1;
        }
        let result = json_of(link.call(Method::POST, "/import", part.into()).await?)?;
        done += member(&result, "done").as_array().map_or(0, Vec::len);
        already += member(&result, "already").as_u64().unwrap_or(0);
        wrong.extend(member(&result, "failed").as_array().into_iter().flatten().map(|failed| {
            // The call counts the lines of its own part.
            let line = before + member(failed, "line").as_u64().unwrap_or(0);
            json!({ "line": line, "error": member(failed, "error") })
        }));
        before += count;
        progress(args, &format!("import: {done} done, {already} there already, {} failed", wrong.len()));
    }
    if !args.json && stderr().is_terminal() {
        say_error("\r\x1b[K");
    }
    let all_done = wrong.is_empty();
    if args.json {
        say(&format!("{}\n", json!({ "done": done, "already": already, "failed": wrong })));
    } else {
        for failed in wrong.iter().take(IMPORT_TOLD) {
            let error = member(failed, "error").as_str().unwrap_or_default();
            say_error(&format!("line {}: {error}\n", member(failed, "line")));
        }
        say(&format!("import: {done} done, {already} there already, {} failed\n", wrong.len()));
    }
    Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::from(RUNTIME_FAILURE) })
}

/// One line, drawn over the last one; for people alone.
fn progress(args: &Args, text: &str) {
    if !args.json && stderr().is_terminal() {
        // A terminal that went away does not end the work.
        drop(stderr().write_all(format!("\r\x1b[K{text}").as_bytes()));
    }
}

/// A member of an object; null if it is not there.
fn member<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn strings(array: &Value) -> Vec<String> {
    array.as_array().into_iter().flatten().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn fine(answer: Answer) -> Result<Bytes, String> {
    if answer.status.is_success() {
        return Ok(answer.body);
    }
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let detail = member(&problem, "detail").as_str().unwrap_or("no more is known");
    let hint = if answer.status == StatusCode::UNAUTHORIZED { " (--token-file FILE)" } else { "" };
    Err(format!("{}: {detail}{hint}", answer.status.as_u16()))
}

fn json_of(answer: Answer) -> Result<Value, String> {
    serde_json::from_slice(&fine(answer)?).map_err(|error| error.to_string())
}

fn failed(why: &str) -> ExitCode {
    say_error(&format!("error: {why}\n"));
    ExitCode::from(RUNTIME_FAILURE)
}
