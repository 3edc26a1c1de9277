//! The image and what compose makes of it. No daemon and no registry are at hand in a test: what the files say is held against the
//! tree that they speak of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{deploy, fine, python, read, yaml_of};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Dockerfile's instructions, each with its arguments on one line.
fn instructions() -> Vec<(String, String)> {
    let text = read(deploy("Dockerfile"));
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let all = joined.lines().filter(|line| !line.trim().is_empty());
    all.map(|line| {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    })
    .collect()
}

/// The arguments of an instruction of the last stage.
#[track_caller]
fn of_last_stage(name: &str) -> String {
    let all = instructions();
    let last = all.iter().rposition(|(name, _)| name == "FROM").unwrap();
    let found: Vec<&String> =
        all[last..].iter().filter(|(each, _)| each == name).map(|(_, rest)| rest).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    found[0].clone()
}

/// The words of an exec form.
#[track_caller]
fn words(text: &str) -> Vec<String> {
    serde_json::from_str(text)
        .unwrap_or_else(|error| panic!("{text} is no exec form, and there is no shell: {error}"))
}

#[test]
fn the_image_is_the_binary_alone_and_runs_as_a_number() {
    assert_eq!(of_last_stage("FROM"), "scratch");
    let user = of_last_stage("USER");
    let numbers: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
    assert!(numbers.len() == 2 && numbers.iter().all(|id| *id > 0), "{user}");
    assert!(
        of_last_stage("COPY").contains(&format!("--chown={user} ")),
        "the store's folder is not the user's"
    );
    assert_eq!(words(&of_last_stage("ENTRYPOINT")), ["/fender"]);
    let run = words(&of_last_stage("CMD"));
    assert_eq!(run, ["run", "--config", "/etc/fender"]);
    fine(crate::support::binary().args([&run[0], "--help"]));
    let health = of_last_stage("HEALTHCHECK");
    let (_, asked) = health.split_once("CMD ").unwrap();
    let asked = words(asked);
    assert_eq!(asked, ["/fender", "healthcheck"]);
    fine(crate::support::binary().args([&asked[1], "--help"]));
    // Who runs it is told the same everywhere.
    let sidecar = read(deploy("kubernetes/sidecar/sidecar.yaml"));
    assert!(
        sidecar.contains(&format!("runAsUser: {}", numbers[0]))
            && sidecar.contains(&format!("fsGroup: {}", numbers[1]))
    );
    let ports = of_last_stage("EXPOSE");
    let config = read(deploy("compose/fender/fender.toml"));
    for port in ports.split(' ') {
        assert!(config.contains(&format!("0.0.0.0:{port}\"")), "{port}");
    }
}

#[test]
fn the_image_is_built_as_the_release_is() {
    let (_, build) = instructions()
        .into_iter()
        .find(|(name, rest)| name == "RUN" && rest.contains("cargo build"))
        .unwrap();
    let justfile = read(root().join(".justfile"));
    let release = justfile.lines().find(|line| line.contains("crt-static")).unwrap().trim();
    assert!(build.contains(release), "the Dockerfile does not say\n{release}\nbut\n{build}");
    let toolchain: toml::Table = read(root().join("rust-toolchain.toml")).parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let all = instructions();
    assert!(
        all.iter().any(|(name, rest)| name == "FROM" && *rest == format!("rust:{channel}-bookworm AS build")),
        "{channel}"
    );
    assert!(all.contains(&("ENV".to_owned(), format!("RUSTUP_TOOLCHAIN={channel}"))), "{channel}");
    let version = env!("CARGO_PKG_VERSION");
    for path in ["Dockerfile", "compose/compose.yaml"] {
        assert!(read(deploy(path)).contains(&format!("fender:{version}")), "{path}");
    }
    assert!(read(deploy("kubernetes/sidecar/kustomization.yaml")).contains(&format!("newTag: {version}")));
}

/// The files that a build is sent, by the one form that `.dockerignore` here takes: nothing, but these.
fn context() -> BTreeSet<PathBuf> {
    let text = read(root().join(".dockerignore"));
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"));
    let mut files = BTreeSet::new();
    for line in lines {
        let name =
            line.strip_prefix('!').unwrap_or_else(|| panic!("{line}: this test reads only what is let in"));
        walk(&root().join(name), &mut files);
    }
    files
}

fn walk(path: &Path, files: &mut BTreeSet<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), files);
        }
    } else {
        assert!(path.exists(), "{} is not there", path.display());
        files.insert(path.to_owned());
    }
}

#[test]
fn the_build_is_sent_what_it_needs() {
    let files = context();
    let folder = tempfile::tempdir().unwrap();
    for path in &files {
        let there = folder.path().join(path.strip_prefix(root()).unwrap());
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        fs::copy(path, there).unwrap();
    }
    // The flags that SQLite is built with, and the lock is the manifest's.
    assert!(files.contains(&root().join(".cargo/config.toml")));
    let manifest = folder.path().join("Cargo.toml");
    fine(
        Command::new(env!("CARGO"))
            .args([
                "metadata",
                "--no-deps",
                "--offline",
                "--locked",
                "--format-version",
                "1",
                "--manifest-path",
            ])
            .arg(&manifest),
    );
    // What the sources take in whole is there too.
    let sources = files.iter().filter(|path| {
        path.starts_with(root().join("src")) && path.extension().is_some_and(|ext| ext == "rs")
    });
    let mut taken_in = 0;
    for source in sources {
        let text = read(source);
        for macro_name in ["include_str!(\"", "include_bytes!(\""] {
            for name in
                text.split(macro_name).skip(1).filter_map(|rest| rest.split_once("\")")).map(|(name, _)| name)
            {
                let path = fs::canonicalize(source.parent().unwrap().join(name)).unwrap();
                assert!(
                    files.contains(&path),
                    "{} takes in {name}, which the build is not sent",
                    source.display()
                );
                taken_in += 1;
            }
        }
    }
    assert!(taken_in > 0);
    let names: BTreeSet<String> = files
        .iter()
        .filter_map(|path| path.strip_prefix(root()).ok()?.iter().next())
        .map(|first| first.to_string_lossy().into_owned())
        .collect();
    assert!(!names.contains("target") && !names.contains(".git"), "{names:?}");
}

#[test]
fn compose_names_what_is_there() {
    let Some(python) = python() else { return };
    let compose = yaml_of(&python, "compose/compose.yaml");
    let services = compose["services"].as_object().unwrap();
    let folder = deploy("compose");
    let mut mounted = Vec::new();
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let parts: Vec<&str> = volume.as_str().unwrap().split(':').collect();
            if parts[0].starts_with('.') {
                assert!(folder.join(parts[0]).exists(), "{name}: {volume}");
                assert_eq!(parts[2], "ro", "{name}: {volume}");
                mounted.push((folder.join(parts[0]).canonicalize().unwrap(), parts[1].to_owned()));
            } else {
                assert!(compose["volumes"].as_object().unwrap().contains_key(parts[0]), "{name}: {volume}");
            }
        }
        for port in service["ports"].as_array().unwrap() {
            assert!(
                port.as_str().unwrap().starts_with("127.0.0.1:"),
                "{name}: {port} is open to the network"
            );
        }
        let image = service["image"].as_str().unwrap();
        assert!(image.contains(':') && !image.ends_with(":latest"), "{image}");
    }
    let fender = &services["fender"];
    assert_eq!(fender["read_only"], true);
    assert_eq!(fender["cap_drop"][0], "ALL");
    let build = &fender["build"];
    let context = folder.join(build["context"].as_str().unwrap()).canonicalize().unwrap();
    assert_eq!(context, root().canonicalize().unwrap());
    assert!(context.join(build["dockerfile"].as_str().unwrap()).is_file());

    // Prometheus scrapes the service by its name, at the port that its config opens; Grafana asks Prometheus by its.
    let scrape = yaml_of(&python, "prometheus/prometheus.yml");
    let target = scrape["scrape_configs"][0]["static_configs"][0]["targets"][0].as_str().unwrap();
    let (host, port) = target.split_once(':').unwrap();
    assert!(services.contains_key(host), "{target}");
    let config: toml::Table = read(deploy("compose/fender/fender.toml")).parse().unwrap();
    assert!(config["admin"]["public_listen"].as_str().unwrap().ends_with(&format!(":{port}")));
    let source = yaml_of(&python, "grafana/provisioning/datasources/prometheus.yaml");
    let url = source["datasources"][0]["url"].as_str().unwrap();
    let host = url.strip_prefix("http://").and_then(|rest| rest.split(':').next()).unwrap();
    assert!(services.contains_key(host), "{url}");
    let interval = &source["datasources"][0]["jsonData"]["timeInterval"];
    assert_eq!(interval, &scrape["global"]["scrape_interval"]);
    let provider = yaml_of(&python, "grafana/provisioning/dashboards/fender.yaml");
    let shown = provider["providers"][0]["options"]["path"].as_str().unwrap();
    let dashboard = deploy("grafana/fender.json").canonicalize().unwrap();
    let (_, at) = mounted.iter().find(|(source, _)| *source == dashboard).expect("the dashboard is mounted");
    assert!(at.starts_with(&format!("{shown}/")), "{at} {shown}");
    let home: &Value = &services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    assert_eq!(home.as_str(), Some(at.as_str()));
}
