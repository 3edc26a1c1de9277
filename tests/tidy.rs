//! The shape of the house, held by a test: who may import whom, which crates stay behind which fence, how long a
//! file may be, and what never lands.

use std::path::{Path, PathBuf};
use std::{fs, iter};

/// One row a folder (or single file) of `src/`: what of ours it may name besides itself and the leaves.
/// A folder without a row may import nothing, so a new one starts by saying what it needs.
const IMPORTS: &[(&str, &[&str])] = &[
    ("inbound", &["proxy", "policy", "config", "telemetry"]),
    ("route", &["policy", "config", "upstream", "telemetry"]),
    ("proxy", &["route", "policy", "config", "dialect", "upstream", "deadletter", "telemetry"]),
    ("policy", &[]),
    ("dialect", &["policy"]),
    ("upstream", &["policy", "dialect", "config", "telemetry"]),
    ("deadletter", &["policy", "dialect", "config", "telemetry"]),
    ("notify", &["upstream", "policy", "config", "telemetry"]),
    ("replay", &["proxy", "route", "deadletter", "policy", "config", "telemetry"]),
    ("admin", &["route", "upstream", "policy", "deadletter", "replay", "telemetry", "config"]),
    ("telemetry", &["policy"]),
    ("config", &["policy", "dialect"]),
    ("simulate", &["policy", "config"]),
    ("app", EVERYTHING),
    ("cli", EVERYTHING),
    ("main", EVERYTHING),
    ("lib", EVERYTHING),
];

const EVERYTHING: &[&str] = &["*"];

/// Everyone may import these; they import only one another.
const LEAVES: &[&str] = &["clock", "drain", "memory", "ready", "units"];

/// Of the leaves the policies may know only the units: time and waiting come to them as arguments.
const LEAVES_OF_POLICY: &[&str] = &["units"];

/// A name that may stand only in these files (a path, or a folder with its slash), and why.
struct Fence {
    names: &'static [&'static str],
    allowed: fn(&str) -> bool,
    why: &'static str,
}

const FENCES: &[Fence] = &[
    Fence {
        names: &["tokio", "hyper", "hyper_util", "tracing", "Mutex", "RwLock", "Instant::now", "SystemTime"],
        allowed: |path| !path.starts_with("policy/"),
        why: "a policy is a function of (state, event, now, dice): no runtime, protocol, log, lock or clock",
    },
    Fence {
        names: &["rustls", "tokio_rustls", "rustls_native_certs", "rustls_pki_types", "webpki_roots"],
        // What both read from their files is read in one place, beside the model that names the files.
        allowed: |path| ["inbound/tls.rs", "upstream/tls.rs", "config/pem.rs"].contains(&path),
        why: "TLS lives in the two tls files, and config/pem.rs reads theirs",
    },
    Fence {
        names: &["prometheus"],
        allowed: |path| path.starts_with("telemetry/"),
        why: "metrics are the telemetry's: emit an event",
    },
    Fence {
        names: &["rusqlite"],
        allowed: |path| path == "deadletter/store.rs" || path.starts_with("deadletter/store/"),
        why: "SQLite lives behind the store",
    },
];

const LINES_MAX: usize = 400;

/// Files that may be longer, and why. Nothing of `proxy/` or `policy/` can be excused.
const LONG_FILES: &[(&str, &str)] = &[];

/// Assembled, so that this file does not hold them itself.
const NEVER_LANDS: &[&str] = &[
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("FIX", "ME"),
    concat!("#[ig", "nore"),
    concat!("d", "bg!("),
];

const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/tmp/bash", "_jobs")];

/// One source file: its path below `src/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// `policy/breaker.rs` and `policy.rs` are both of `policy`.
    fn folder(&self) -> &str {
        let head = self.path.split('/').next().expect("a path has a first part");
        head.strip_suffix(".rs").unwrap_or(head)
    }

    fn check(&self) -> Vec<String> {
        let code = code_only(&self.text);
        [self.imports(&code), self.fences(&code), self.size(), never_lands(&self.path, &self.text)].concat()
    }

    fn imports(&self, code: &str) -> Vec<String> {
        let folder = self.folder();
        let leaf = LEAVES.contains(&folder);
        let row = IMPORTS.iter().find(|(name, _)| *name == folder).map(|(_, allowed)| *allowed);
        if row.is_none() && !leaf {
            return vec![format!(
                "src/{}: `{folder}` has no row in the import table of tests/tidy.rs",
                self.path
            )];
        }
        let allowed = row.unwrap_or_default();
        let leaves = if folder == "policy" { LEAVES_OF_POLICY } else { LEAVES };
        let mut problems: Vec<String> = imported(code)
            .into_iter()
            .filter(|name| name != folder && allowed != EVERYTHING)
            .filter(|name| !allowed.contains(&name.as_str()) && !leaves.contains(&name.as_str()))
            .map(|name| format!("src/{}: `{folder}` may not import `{name}`", self.path))
            .collect();
        if code.contains("super::super") {
            problems.push(format!("src/{}: climbs with super::super, say crate::", self.path));
        }
        problems
    }

    fn fences(&self, code: &str) -> Vec<String> {
        FENCES
            .iter()
            .filter(|fence| !(fence.allowed)(&self.path))
            .flat_map(|fence| fence.names.iter().map(move |name| (name, fence.why)))
            .filter(|(name, _)| has_word(code, name))
            .map(|(name, why)| format!("src/{}: names `{name}`: {why}", self.path))
            .collect()
    }

    fn size(&self) -> Vec<String> {
        let lines = self.text.lines().count();
        let strict = ["proxy", "policy"].contains(&self.folder());
        let excused = !strict && LONG_FILES.iter().any(|(path, _)| *path == self.path);
        if lines <= LINES_MAX || excused {
            return Vec::new();
        }
        vec![format!("src/{}: {lines} lines, more than {LINES_MAX}: split it by meaning", self.path)]
    }
}

fn never_lands(path: &str, text: &str) -> Vec<String> {
    NEVER_LANDS
        .iter()
        .filter(|word| text.contains(**word))
        .map(|word| format!("{path}: holds `{word}`, which never lands"))
        .collect()
}

/// The first parts of all `crate::…` paths, groups included: `use crate::{a::B, c}` names `a` and `c`.
fn imported(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, found) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| is_word(c) || c == '$') {
            continue;
        }
        let rest = code[at + found.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => names.extend(heads(group)),
            None => names.push(head(rest)),
        }
    }
    names.retain(|name| !name.is_empty() && name.starts_with(char::is_lowercase));
    names.sort();
    names.dedup();
    names
}

/// The first words of the items of a group, up to its closing brace.
fn heads(group: &str) -> Vec<String> {
    let mut names = vec![head(group)];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(head(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

fn head(path: &str) -> String {
    path.trim_start().chars().take_while(|c| is_word(*c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The text without its comments and the insides of its string literals.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if c == '"' {
            string_len(rest)
        } else if let Some(hashes) = raw_string(rest) {
            let close: String = iter::once('"').chain(iter::repeat_n('#', hashes)).collect();
            let open = hashes + 2;
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if rest.starts_with("'\"'") {
            3
        } else {
            0
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.push(' ');
            rest = &rest[skipped..];
        }
    }
    code
}

/// How many hashes guard the raw string that starts here, if one does.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.chars().take_while(|c| *c == '#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_len(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` that hold text; what the tools make is left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if name == "target" || name == ".git" || name == "__pycache__" {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn below(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).expect("the walk began there").to_string_lossy().into_owned()
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn sources_keep_the_house_rules() {
    let src = root().join("src");
    let problems: Vec<String> = files(&src)
        .iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .map(|path| Source { path: below(&src, path), text: fs::read_to_string(path).unwrap() })
        .flat_map(|source| source.check())
        .collect();
    report(&problems);
}

#[test]
fn excuses_for_length_are_still_needed() {
    for (path, why) in LONG_FILES {
        let text = fs::read_to_string(root().join("src").join(path)).unwrap_or_default();
        assert!(text.lines().count() > LINES_MAX, "src/{path} needs no excuse any more ({why})");
    }
}

#[test]
fn tests_and_benches_hold_nothing_unfinished() {
    let problems: Vec<String> = ["tests", "benches"]
        .iter()
        .flat_map(|folder| files(&root().join(folder)))
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .flat_map(|path| never_lands(&below(root(), &path), &fs::read_to_string(&path).unwrap()))
        .collect();
    report(&problems);
}

#[test]
fn every_toml_that_a_user_sees_parses() {
    let shipped = files(&root().join("config"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "toml"));
    for path in shipped {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.parse::<toml::Table>().is_ok(), "{}: {:?}", path.display(), text.parse::<toml::Table>());
    }
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for block in fenced(&readme, "toml") {
        assert!(
            block.parse::<toml::Table>().is_ok(),
            "README.md: {:?} in\n{block}",
            block.parse::<toml::Table>()
        );
    }
}

/// The fenced blocks of one language in a Markdown text.
pub(crate) fn fenced(markdown: &str, language: &str) -> Vec<String> {
    let open = format!("```{language}");
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while lines.by_ref().any(|line| line.trim() == open) {
        let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
        blocks.push(block.join("\n"));
    }
    blocks
}

#[test]
fn no_path_of_one_machine_is_in_the_tree() {
    let problems: Vec<String> = files(root())
        .iter()
        .filter_map(|path| Some((below(root(), path), fs::read_to_string(path).ok()?)))
        .flat_map(|(path, text)| {
            let found: Vec<String> = MACHINE_PATHS
                .iter()
                .filter(|p| text.contains(**p))
                .map(|p| format!("{path}: names {p}"))
                .collect();
            found
        })
        .collect();
    report(&problems);
}

mod the_checker {
    use super::{Source, code_only, fenced, imported};

    fn problems(path: &str, text: &str) -> String {
        Source::new(path, text).check().join("\n")
    }

    #[test]
    fn passes_what_the_table_allows() {
        assert_eq!(
            problems("proxy/pipeline.rs", "use crate::policy::retry;\nuse crate::{route::Plan, clock};"),
            ""
        );
        assert_eq!(
            problems("policy/retry.rs", "use crate::units::Ratio; use crate::policy::outcome::Outcome;"),
            ""
        );
        assert_eq!(problems("app.rs", "use crate::{admin, inbound, upstream::tls};"), "");
    }

    #[test]
    fn refuses_a_forbidden_import() {
        assert!(
            problems("policy/retry.rs", "use crate::config::Config;").contains("may not import `config`")
        );
        assert!(problems("policy/retry.rs", "use crate::clock;").contains("may not import `clock`"));
        assert!(
            problems("route/table.rs", "fn f() { crate::proxy::handle() }")
                .contains("may not import `proxy`")
        );
        assert!(
            problems("proxy/mod.rs", "use crate::{policy, inbound::tls};")
                .contains("may not import `inbound`")
        );
        assert!(problems("clock.rs", "use crate::telemetry;").contains("may not import `telemetry`"));
    }

    #[test]
    fn sees_groups_across_lines_and_nesting() {
        assert_eq!(imported("use crate::{\n a::{b, c::d},\n e,\n};\nuse crate::f;"), ["a", "e", "f"]);
        assert_eq!(imported("$crate::macro_thing!(); pub(crate) fn x() {}"), [] as [&str; 0]);
    }

    #[test]
    fn refuses_a_folder_without_a_row() {
        assert!(problems("sundries/mod.rs", "").contains("no row in the import table"));
    }

    #[test]
    fn holds_the_fences() {
        assert!(problems("policy/limit.rs", "use tokio::time;").contains("names `tokio`"));
        assert!(problems("policy/limit.rs", "let now = Instant::now();").contains("names `Instant::now`"));
        assert!(problems("admin/mod.rs", "use rustls::ServerConfig;").contains("names `rustls`"));
        assert!(problems("proxy/mod.rs", "prometheus::IntCounter").contains("names `prometheus`"));
        assert!(problems("deadletter/letter.rs", "use rusqlite::Row;").contains("names `rusqlite`"));
        assert_eq!(problems("upstream/tls.rs", "use rustls::ClientConfig;"), "");
        assert_eq!(problems("deadletter/store.rs", "use rusqlite::Connection;"), "");
    }

    #[test]
    fn reads_code_and_not_words_about_it() {
        assert_eq!(
            problems("policy/limit.rs", "//! Knows no tokio.\nlet why = \"tokio says crate::app\";"),
            ""
        );
        assert_eq!(
            code_only("a /* b */ c // d\ne r#\"f \"g\" \"# h '\"' i \"\\\"j\" k").replace(' ', ""),
            "ac\nehik"
        );
    }

    #[test]
    fn refuses_a_giant() {
        let giant = "\n".repeat(401);
        assert!(problems("policy/breaker.rs", &giant).contains("401 lines"));
        assert!(problems("config/model.rs", &giant).contains("401 lines"));
        assert_eq!(problems("config/model.rs", &"\n".repeat(400)), "");
    }

    #[test]
    fn refuses_what_never_lands() {
        for word in super::NEVER_LANDS {
            assert!(problems("app.rs", word).contains("never lands"), "{word}");
        }
    }

    #[test]
    fn finds_the_blocks_of_a_readme() {
        assert_eq!(
            fenced("a\n```toml\nb = 1\n```\n```sh\nc\n```\n```toml\nd = 2\n```", "toml"),
            ["b = 1", "d = 2"]
        );
    }
}
