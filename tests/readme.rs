//! What the README shows, works: its configs are sound, and its commands that end by themselves end well.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::binary;
use crate::tidy::fenced;

/// How long a demo runs here, however long the README lets it run.
const DEMO: &str = "2s";

const PATIENCE: Duration = Duration::from_secs(30);

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    fs::read_to_string(path).unwrap_or_else(|error| panic!("README.md cannot be read: {error}"))
}

/// The arguments of each `fender` that a shell text calls, however it is started.
fn calls(shell: &str) -> Vec<Vec<String>> {
    let joined = shell.replace("\\\n", " ");
    let mut calls = Vec::new();
    for command in joined.lines().flat_map(|line| line.split(" && ")) {
        let command = command.trim().trim_start_matches("$ ");
        let command = command.split(" #").next().unwrap_or_default();
        let words: Vec<&str> = command
            .split_whitespace()
            .skip_while(|word| word.contains('=') && !word.starts_with('-')) // variables set for the call
            .map(|word| word.trim_matches(['"', '\'']))
            .collect();
        let arguments = match words.as_slice() {
            ["cargo", "run", rest @ ..] => {
                rest.iter().position(|word| *word == "--").map(|at| &rest[at + 1..])
            }
            [program, rest @ ..] if *program == "fender" || program.ends_with("/fender") => Some(rest),
            _ => None,
        };
        calls.extend(arguments.map(|arguments| arguments.iter().map(ToString::to_string).collect()));
    }
    calls
}

/// Whether the call needs nobody to end it, and nothing but this machine's files.
fn ends_by_itself(arguments: &[String]) -> bool {
    match arguments.first().map(String::as_str) {
        Some("check" | "schema" | "defaults" | "dialect") => true,
        Some("demo") => arguments.iter().any(|argument| argument.starts_with("--duration")),
        _ => false,
    }
}

/// The call without what only a shell understands: redirections, pipes, what runs behind.
fn without_shell(arguments: Vec<String>) -> Vec<String> {
    arguments.into_iter().take_while(|argument| !argument.starts_with(['>', '|', ';', '&'])).collect()
}

/// Every variable that a config names, with a value that stands for a secret.
fn environment(toml: &str) -> Vec<(String, String)> {
    let named = toml.split("${env:").skip(1).filter_map(|rest| rest.split_once('}'));
    named.map(|(name, _)| (name.to_owned(), "a-dummy-for-the-test".to_owned())).collect()
}

/// The configs that the README shows; each stands alone.
fn configs(readme: &str) -> Vec<String> {
    fenced(readme, "toml")
}

fn ends_well(mut command: Command, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (out, errors) = (folder.path().join("out"), folder.path().join("errors"));
    let mut child = command
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(&errors).unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("`{what}` of the README does not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let said = [out, errors].map(|path| fs::read_to_string(path).unwrap_or_default()).concat();
    assert!(status.success(), "`{what}` of the README: {status}\n{said}");
}

#[test]
fn every_config_of_the_readme_is_sound() {
    let configs = configs(&readme());
    assert!(!configs.is_empty(), "README.md shows no config: it has no ```toml block");
    let folder = tempfile::tempdir().unwrap();
    for config in configs {
        let path = folder.path().join("fender.toml");
        fs::write(&path, &config).unwrap();
        let mut check = binary();
        check.current_dir(folder.path()).envs(environment(&config)).args([
            "check",
            "--config",
            "fender.toml",
        ]);
        ends_well(check, &format!("fender check` with the config\n{config}\n`"));
    }
}

#[test]
fn every_command_of_the_readme_that_ends_by_itself_ends_well() {
    let readme = readme();
    let shells = fenced(&readme, "sh");
    assert!(!shells.is_empty(), "README.md shows no command: it has no ```sh block");
    let calls: Vec<_> =
        shells.iter().flat_map(|shell| calls(shell)).filter(|call| ends_by_itself(call)).collect();
    assert!(
        !calls.is_empty(),
        "README.md shows no `fender check`, `schema`, `defaults` or `demo --duration` that a newcomer could try"
    );
    let folder = tempfile::tempdir().unwrap();
    let shown = configs(&readme).into_iter().next();
    for arguments in calls.into_iter().map(without_shell) {
        let mut command = binary();
        // A file that the tree has is meant; any other name stands for the README's first config.
        command.current_dir(folder.path());
        let mut previous = String::new();
        for argument in &arguments {
            let (flag, value) =
                argument.split_once('=').map_or((previous.as_str(), argument.as_str()), |pair| pair);
            let value = match flag {
                "--config" => config_at(folder.path(), value, shown.as_deref()),
                "--duration" => {
                    assert!(fender::units::parse_duration(value).is_ok(), "{value} is no duration");
                    DEMO.to_owned()
                }
                _ => value.to_owned(),
            };
            command.arg(if argument.contains('=') { format!("{flag}={value}") } else { value });
            previous.clone_from(argument);
        }
        command.envs(environment(&readme));
        ends_well(command, &format!("fender {}", arguments.join(" ")));
    }
}

/// Where the config that a command names is: in the tree, or what the README told the reader to write.
fn config_at(folder: &Path, named: &str, shown: Option<&str>) -> String {
    let in_tree = Path::new(env!("CARGO_MANIFEST_DIR")).join(named);
    if in_tree.exists() {
        return in_tree.display().to_string();
    }
    let shown =
        shown.unwrap_or_else(|| panic!("README.md names {named}, which neither is there nor is shown"));
    let path = folder.join("fender.toml");
    fs::write(&path, shown).unwrap();
    path.display().to_string()
}

mod the_reader {
    use super::{calls, ends_by_itself, environment, without_shell};

    #[test]
    fn finds_calls_however_they_are_started() {
        let found = calls(
            "cargo build --release\n$ cargo run --release -- demo --duration 5s   # watch\nKEY=x fender check \\\n  --config a.toml && ./target/release/fender schema > s.json\n# fender run\n",
        );
        let found: Vec<_> = found.into_iter().map(|call| without_shell(call).join(" ")).collect();
        assert_eq!(found, ["demo --duration 5s", "check --config a.toml", "schema"]);
    }

    #[test]
    fn runs_only_what_ends() {
        let ends = |call: &str| ends_by_itself(&call.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(ends("check --config x") && ends("demo --duration 5s") && ends("defaults"));
        assert!(!ends("demo") && !ends("run --config x") && !ends("healthcheck"));
    }

    #[test]
    fn knows_the_variables_of_a_config() {
        let names: Vec<_> =
            environment("a = \"${env:A} ${env:B_2}\"").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["A", "B_2"]);
    }
}
