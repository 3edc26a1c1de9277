//! Every command of the pages is one that the binary takes, and every path of the admin side that they call is there.

use clap::{CommandFactory, Parser};
use fender::cli::Cli;

use super::{pages_for_users, report};
use crate::support::{Client, Fender, Setup, Upstream};

/// The lines of a shell text, those that end in a backslash joined with the next.
pub(super) fn lines(shell: &str) -> Vec<String> {
    shell.replace("\\\n", " ").lines().map(|line| line.trim().to_owned()).collect()
}

/// The words of a command up to what only a shell understands, quotes taken off, the comment too.
pub(super) fn words(command: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut quote) = (String::new(), None);
    for c in command.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') => {
                let ends = word.starts_with('#') || ["|", ">", "&&", ";", "&"].contains(&word.as_str());
                if ends {
                    return words;
                }
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, c) => word.push(c),
        }
    }
    words
}

/// The `fender` calls of all pages: blocks of shell, and spans such as `fender check --config FILE`.
fn calls() -> Vec<(String, Vec<String>)> {
    let mut calls = Vec::new();
    for page in pages_for_users() {
        for block in page.blocks().iter().filter(|block| block.info == "sh") {
            for line in lines(&block.text).iter().filter(|line| line.starts_with("fender ")) {
                calls.push((format!("{}:{}", page.path, block.line), words(line)));
            }
        }
        for (line, span) in page.code_spans() {
            if span.starts_with("fender ") {
                calls.push((format!("{}:{line}", page.path), words(span)));
            }
        }
    }
    calls
}

#[test]
fn every_command_parses() {
    let calls = calls();
    assert!(calls.len() > 20, "only {} commands were found", calls.len());
    let known: Vec<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let mut problems = Vec::new();
    for (place, call) in calls {
        let name = call.get(1).cloned().unwrap_or_default();
        // A name alone, as `fender letters`, stands for the command itself.
        let bare = call.len() == 2 && known.contains(&name);
        if let Err(error) = Cli::try_parse_from(&call)
            && !bare
            && error.use_stderr()
        {
            problems.push(format!("{place}: `{}`: {error}", call.join(" ")));
        }
    }
    report(&problems);
}

/// Paths of the admin side in a text: those behind its port, behind `$API`, and those that a page names outright.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let ends = |c: char| c.is_whitespace() || "`\"'?)|,;…".contains(c);
    for (mark, before) in [("$API/", "/api/v1/"), ("/api/v1/", "/api/v1/"), (":8701/", "/")] {
        for (at, _) in text.match_indices(mark) {
            let rest = &text[at + mark.len()..];
            let path = rest.split(ends).next().unwrap_or_default().trim_end_matches('.');
            found.push(format!("{before}{path}"));
        }
    }
    found.retain(|path| path != "/api/v1/" && path != "/api/v1");
    found.sort();
    found.dedup();
    found
}

/// Whether a path is one that a template such as `/api/v1/breakers/{name}/auto` stands for.
fn fits(path: &str, template: &str) -> bool {
    let parts = |text: &str| text.trim_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
    let (path, template) = (parts(path), parts(template));
    path.len() == template.len()
        && path.iter().zip(&template).all(|(one, other)| one == other || other.starts_with('{'))
}

fn asked(fender: &Fender, path: &str) -> (u16, String) {
    let fields = "authorization: Bearer operators-secret\r\n";
    let answer = Client::connect(fender.admin()).request("GET", path, fields, b"");
    (answer.status(), answer.text())
}

#[test]
fn every_path_of_the_admin_side_is_there() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let token = "[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"operators-secret\"\n";
    let fender = Setup::new(upstream.as_api("")).admin(token).start();
    let mut named: Vec<(String, String)> = Vec::new();
    for page in pages_for_users() {
        named.extend(paths(&page.text).into_iter().map(|path| (page.path.clone(), path)));
    }
    assert!(named.len() > 20, "only {named:?}");
    let (status, described) = asked(&fender, "/api/v1/openapi.json");
    assert_eq!(status, 200);
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    let templates: Vec<&String> = described["paths"].as_object().expect("it lists paths").keys().collect();
    let mut problems = Vec::new();
    for (page, path) in named {
        let there = if path.starts_with("/api/") {
            templates.iter().any(|template| fits(&path, template))
        } else {
            asked(&fender, &path).0 == 200
        };
        if !there {
            problems.push(format!("{page}: {path} leads nowhere"));
        }
    }
    report(&problems);
}

mod the_reader {
    use super::{fits, lines, paths, words};

    #[test]
    fn takes_commands_apart_as_a_shell_does() {
        let line = lines("fender letters list \\\n  --state \"par ked\" > out # why\n").remove(0);
        assert_eq!(words(&line), ["fender", "letters", "list", "--state", "par ked"]);
        assert_eq!(words("fender check --config a | head"), ["fender", "check", "--config", "a"]);
    }

    #[test]
    fn finds_the_paths_that_a_page_calls() {
        let text = "curl http://127.0.0.1:8701/health \"$API/letters?state=x\" `POST /api/v1/quit`.";
        assert_eq!(paths(text), ["/api/v1/letters", "/api/v1/quit", "/health"]);
        assert!(fits("/api/v1/breakers/openai/auto", "/api/v1/breakers/{name}/auto"));
        assert!(!fits("/api/v1/breakers/openai", "/api/v1/breakers/{name}/auto"));
    }
}

/// `just power 300`: recipes of ours, with no more words than they take.
#[test]
fn every_recipe_is_there() {
    let recipes = std::fs::read_to_string(super::root().join(".justfile")).unwrap();
    let recipes: Vec<Vec<&str>> = recipes
        .lines()
        .filter(|line| line.starts_with(char::is_lowercase))
        .filter_map(|line| Some(line.split_once(':')?.0.split(' ').collect()))
        .collect();
    let (mut found, mut problems) = (0, Vec::new());
    for page in super::pages() {
        for (line, span) in page.code_spans() {
            let Some(call) = span.strip_prefix("just ") else { continue };
            let words: Vec<&str> = call.split(' ').collect();
            let takes = |recipe: &&Vec<&str>| recipe[0] == words[0] && recipe.len() >= words.len();
            found += 1;
            if !recipes.iter().any(|recipe| takes(&recipe)) {
                problems.push(format!("{}:{line}: {span}: no such recipe", page.path));
            }
        }
    }
    assert!(found >= 5, "only {found} were found");
    report(&problems);
}
