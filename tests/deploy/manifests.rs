//! The Kubernetes manifests and the configs: they parse, the API's schemas take what kustomize makes of them, the checks take the configs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{AFTER_DRAIN, deploy, files, fine, python, read, script, skip, yaml, yaml_of};
use crate::support::{PATIENCE, Setup, Upstream, binary};

/// What an application with Fender comes to; each is rendered as a whole.
const WORKLOADS: [&str; 5] = [
    "kubernetes/base",
    "kubernetes/overlays/legacy-sidecar",
    "kubernetes/overlays/job",
    "kubernetes/overlays/job-legacy",
    "kubernetes/overlays/statefulset",
];

/// Those for clusters without native sidecars.
const LEGACY: [&str; 2] = ["kubernetes/overlays/legacy-sidecar", "kubernetes/overlays/job-legacy"];

/// What kustomize makes of a folder; none if there is no kustomize that knows components.
fn rendered(python: &Path, folder: &str) -> Option<Vec<Value>> {
    rendered_at(python, &deploy(folder))
}

fn rendered_at(python: &Path, folder: &Path) -> Option<Vec<Value>> {
    let output = Command::new("kubectl").args(["version", "--client"]).output();
    let version =
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let modern = version.lines().any(|line| {
        line.strip_prefix("Kustomize Version: v").is_some_and(|version| version.starts_with(['4', '5', '6']))
    });
    if !modern {
        skip("kubectl with kustomize 4 or later is not there");
        return None;
    }
    let text = fine(Command::new("kubectl").arg("kustomize").arg(folder));
    assert!(!text.to_lowercase().contains("warning"), "{}: {text}", folder.display());
    Some(yaml(python, &folder.display().to_string(), &text))
}

fn of_kind<'o>(objects: &'o [Value], kind: &str) -> Vec<&'o Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The pod that a folder's workload makes.
fn pod(objects: &[Value]) -> &Value {
    let workload = objects
        .iter()
        .find(|object| ["Deployment", "StatefulSet", "Job"].iter().any(|kind| object["kind"] == *kind));
    &workload.expect("there is a workload")["spec"]["template"]["spec"]
}

fn named<'o>(list: &'o Value, name: &str) -> Option<&'o Value> {
    list.as_array()?.iter().find(|item| item["name"] == name)
}

/// All `*.toml` that a pod's config map holds, as files of a folder, with the secrets and the store below that folder too.
fn config_of(objects: &[Value]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    fs::create_dir(&config).unwrap();
    let maps = of_kind(objects, "ConfigMap");
    let data =
        maps.iter().find(|map| map["metadata"]["name"] == "fender").expect("there is a config")["data"]
            .as_object()
            .unwrap();
    for (name, text) in data {
        let text = text.as_str().unwrap();
        assert!(Path::new(name).extension().is_some_and(|ext| ext == "toml"), "{name} would not be read");
        fs::write(config.join(name), supplied(folder.path(), text)).unwrap();
    }
    folder
}

/// The config with every file that it names made in `folder`, and named there.
fn supplied(folder: &Path, toml: &str) -> String {
    let mut toml = toml.to_owned();
    let named: BTreeSet<String> = toml
        .split("${file:")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(path, _)| path.to_owned())
        .collect();
    for path in named {
        assert!(path.starts_with('/'), "{path} depends on where the config lies");
        let secret = folder.join(path.rsplit('/').next().unwrap_or_default());
        fs::write(&secret, "a-dummy-for-the-test\n").unwrap();
        toml = toml.replace(&format!("${{file:{path}}}"), &format!("${{file:{}}}", secret.display()));
    }
    toml
}

#[track_caller]
fn passes_the_check(config: &Path, environment: &[(&str, &str)]) {
    let said = fine(binary().envs(environment.to_vec()).args(["check", "--config"]).arg(config));
    assert!(said.contains(" 0 warnings"), "{said}");
}

/// What the config says of a table's time, or its default.
fn drain_timeout(config: &Path) -> Duration {
    let mut times = Vec::new();
    let all: Vec<PathBuf> = if config.is_dir() {
        fs::read_dir(config).unwrap().map(|entry| entry.unwrap().path()).collect()
    } else {
        vec![config.to_owned()]
    };
    for path in all {
        let table: toml::Table = read(path).parse().unwrap();
        if let Some(time) = table.get("server").and_then(|server| server.get("drain_timeout")) {
            times.push(fender::units::parse_duration(time.as_str().unwrap()).unwrap());
        }
    }
    times.first().copied().unwrap_or(Duration::from_secs(25))
}

#[test]
fn every_yaml_and_json_parses() {
    for path in files(".json") {
        let parsed: Result<Value, _> = serde_json::from_str(&read(&path));
        assert!(parsed.is_ok(), "{}: {parsed:?}", path.display());
    }
    let Some(python) = python() else { return };
    for path in [files(".yaml"), files(".yml")].concat() {
        let documents = yaml(&python, &path.display().to_string(), &read(&path));
        assert!(!documents.is_empty(), "{} is empty", path.display());
    }
}

#[test]
fn what_a_kustomization_names_is_there() {
    let Some(python) = python() else { return };
    for path in files("kustomization.yaml") {
        let folder = path.parent().unwrap();
        let documents = yaml(&python, &path.display().to_string(), &read(&path));
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let made =
            |value: &Value| list(value).iter().flat_map(|made| list(&made["files"])).collect::<Vec<_>>();
        let kustomization = &documents[0];
        let mut names = list(&kustomization["resources"]);
        names.extend(list(&kustomization["components"]));
        names.extend(made(&kustomization["configMapGenerator"]));
        names.extend(list(&kustomization["patches"]).iter().filter_map(|patch| patch.get("path").cloned()));
        assert!(
            !(names.is_empty() && kustomization["patches"].is_null()),
            "{} names nothing",
            path.display()
        );
        for name in names {
            let name = name.as_str().unwrap();
            let there = folder.join(name);
            assert!(there.exists(), "{} names {name}, which is not there", path.display());
            assert!(
                there.is_file() || there.join("kustomization.yaml").is_file(),
                "{name} is a folder without a kustomization"
            );
        }
    }
}

#[test]
fn the_manifests_are_what_the_api_takes() {
    let Some(python) = python() else { return };
    for folder in WORKLOADS {
        let Some(objects) = rendered(&python, folder) else { return };
        let said = script(&python, "validate.py", &serde_json::to_string(&objects).unwrap());
        assert_eq!(said.as_deref().map(str::trim), Ok("fine"), "{folder}");
        // The schemas would take a field that is not there, and a kind that they do not know.
        let mut broken = objects.clone();
        broken[0]["spek"] = Value::from(1);
        assert!(script(&python, "validate.py", &serde_json::to_string(&broken).unwrap()).is_err());
    }
}

#[test]
fn fender_stands_beside_the_application_in_every_workload() {
    let Some(python) = python() else { return };
    for folder in WORKLOADS {
        let Some(objects) = rendered(&python, folder) else { return };
        let pod = pod(&objects);
        let legacy = LEGACY.contains(&folder);
        let (here, there) =
            if legacy { ("containers", "initContainers") } else { ("initContainers", "containers") };
        let fender = named(&pod[here], "fender").unwrap_or_else(|| panic!("{folder}: no fender in {here}"));
        assert!(named(&pod[there], "fender").is_none(), "{folder}: fender twice");
        assert_eq!(fender["restartPolicy"], if legacy { Value::Null } else { "Always".into() }, "{folder}");
        assert_eq!(pod[here][0]["name"], "fender", "{folder}: it starts first");
        assert_eq!(pod["containers"].as_array().unwrap().len(), if legacy { 2 } else { 1 }, "{folder}");

        let security = &fender["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true, "{folder}");
        assert_eq!(security["runAsNonRoot"], true, "{folder}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{folder}");
        assert_eq!(security["capabilities"]["drop"][0], "ALL", "{folder}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{folder}");
        assert_eq!(pod["securityContext"]["fsGroup"], security["runAsGroup"], "{folder}");

        // What is mounted is there, each once; the store may be written, and nothing else.
        for mount in fender["volumeMounts"].as_array().unwrap() {
            let name = mount["name"].as_str().unwrap();
            let volume = named(&pod["volumes"], name);
            let claim = of_kind(&objects, "StatefulSet").first().and_then(|set| {
                let claims = set["spec"]["volumeClaimTemplates"].as_array()?;
                claims.iter().find(|claim| claim["metadata"]["name"] == name)
            });
            assert!(volume.is_some() != claim.is_some(), "{folder}: {name}: {volume:?} {claim:?}");
            assert_eq!(mount["readOnly"].is_null(), name == "fender-store", "{folder}: {name}");
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let get = &fender[probe]["httpGet"];
            let word = probe
                .strip_suffix("Probe")
                .unwrap()
                .replace("liveness", "live")
                .replace("readiness", "ready");
            assert_eq!(get["path"], format!("/health/{word}"), "{folder}");
            assert!(named(&fender["ports"], get["port"].as_str().unwrap()).is_some(), "{folder}");
        }
    }
}

/// A workload of someone else's, of another kind and with an init container of its own.
const THEIRS: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: { name: agent }
spec:
  selector: { matchLabels: { a: b } }
  template:
    metadata: { labels: { a: b } }
    spec:
      initContainers: [{ name: migrate, image: 'registry.example/agent:1' }]
      containers: [{ name: agent, image: 'registry.example/agent:1' }]
";

#[test]
fn the_component_takes_nothing_from_a_workload() {
    let Some(python) = python() else { return };
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    for (components, init, beside) in [
        ("../sidecar", ["fender", "migrate"].as_slice(), ["agent"].as_slice()),
        ("../sidecar, ../legacy", &["migrate"], &["fender", "agent"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fine(
            Command::new("cp")
                .arg("-r")
                .args([deploy("kubernetes/sidecar"), deploy("kubernetes/legacy")])
                .arg(folder.path()),
        );
        let theirs = folder.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("workload.yaml"), THEIRS).unwrap();
        let kustomization = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [workload.yaml]\ncomponents: [{components}]\n"
        );
        fs::write(theirs.join("kustomization.yaml"), kustomization).unwrap();
        let Some(objects) = rendered_at(&python, &theirs) else { return };
        let pod = &of_kind(&objects, "DaemonSet")[0]["spec"]["template"]["spec"];
        assert_eq!(names(&pod["initContainers"]), init, "{components}");
        assert_eq!(names(&pod["containers"]), beside, "{components}");
        let said = script(&python, "validate.py", &serde_json::to_string(&objects).unwrap());
        assert_eq!(said.as_deref().map(str::trim), Ok("fine"), "{components}");
    }
}

#[test]
fn every_config_passes_the_check_and_has_time_to_end() {
    passes_the_check_as_shipped("compose/fender/fender.toml", &[("OPENAI_API_KEY", "x")]);
    passes_the_check_as_shipped("systemd/fender.toml", &[]);
    let Some(python) = python() else { return };
    for folder in WORKLOADS {
        let Some(objects) = rendered(&python, folder) else { return };
        let files = config_of(&objects);
        let config = files.path().join("config");
        passes_the_check(&config, &[]);
        let grace = pod(&objects)["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(drain_timeout(&config) + AFTER_DRAIN <= Duration::from_secs(grace), "{folder}: {grace}s");
    }
    let compose = yaml_of(&python, "compose/compose.yaml");
    let grace = compose["services"]["fender"]["stop_grace_period"].as_str().unwrap();
    let grace = fender::units::parse_duration(grace).unwrap();
    assert!(drain_timeout(&deploy("compose/fender/fender.toml")) + AFTER_DRAIN <= grace);
}

fn passes_the_check_as_shipped(path: &str, environment: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fender.toml");
    fs::write(&config, supplied(folder.path(), &read(deploy(path)))).unwrap();
    passes_the_check(&config, environment);
}

#[test]
fn a_job_without_native_sidecars_ends_its_fender_and_keeps_its_own_end() {
    let Some(python) = python() else { return };
    if !super::have("curl", "curl") {
        return;
    }
    let quit = yaml_of(&python, "kubernetes/overlays/job-legacy/quit.yaml");
    let batch = named(&quit["spec"]["template"]["spec"]["containers"], "batch").unwrap();
    let command: Vec<&str> =
        batch["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let setup = Setup::new(Upstream::ok("fine").as_api(""))
        .server("drain_quiet = \"0s\"\n")
        .admin("[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"of-the-operators\"\n");
    let fender = setup.start();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("admin-token"), "of-the-operators\n").unwrap();
    let mut script = command[2].to_owned();
    for (from, to) in [
        ("/usr/local/bin/batch", "sh -c 'exit 7'"),
        ("/var/run/secrets/fender", &*folder.path().to_string_lossy()),
        ("127.0.0.1:8701", &*fender.admin().to_string()),
    ] {
        assert!(script.contains(from), "{from} is not in {script}");
        script = script.replace(from, to);
    }
    let output = Command::new(command[0]).args([command[1], &script]).env("NO_PROXY", "*").output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(fender.wait_exit(PATIENCE).success());
}

#[test]
fn the_volume_holds_what_the_store_may_take() {
    let Some(python) = python() else { return };
    let Some(objects) = rendered(&python, "kubernetes/base") else { return };
    let volume = named(&pod(&objects)["volumes"], "fender-store").unwrap();
    let size = volume["emptyDir"]["sizeLimit"].as_str().and_then(|size| size.strip_suffix("Mi")).unwrap();
    let table: toml::Table = read(deploy("kubernetes/sidecar/fender.toml")).parse().unwrap();
    let max = table["dead_letter"]["max_bytes"].as_str().and_then(|size| size.strip_suffix("MiB")).unwrap();
    let (size, max): (u32, u32) = (size.parse().unwrap(), max.parse().unwrap());
    assert!(max < size, "{max} MiB of letters in a volume of {size} MiB");
}

#[test]
fn the_pod_monitor_finds_the_port_of_the_sidecar() {
    let Some(python) = python() else { return };
    let monitor = yaml_of(&python, "kubernetes/monitoring/podmonitor.yaml");
    let Some(objects) = rendered(&python, "kubernetes/base") else { return };
    let deployment = of_kind(&objects, "Deployment")[0];
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for (name, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[name], value, "{name}");
    }
    let policy = of_kind(&objects, "NetworkPolicy")[0];
    for (name, value) in policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[name], value, "{name}");
    }
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    let fender = named(&pod(&objects)["initContainers"], "fender").unwrap();
    assert!(named(&fender["ports"], endpoint["port"].as_str().unwrap()).is_some());
    let opened: Vec<&Value> =
        policy["spec"]["ingress"].as_array().unwrap().iter().map(|rule| &rule["ports"][0]["port"]).collect();
    assert!(opened.contains(&&fender["ports"][0]["containerPort"]), "{opened:?}");
    assert_eq!(endpoint["relabelings"][0]["replacement"], "fender", "the alerts know the job by this name");
    let scrape = yaml_of(&python, "prometheus/kubernetes.yml");
    assert_eq!(scrape["scrape_configs"][0]["relabel_configs"][0]["regex"], endpoint["port"]);
}

#[test]
fn the_operator_gets_the_same_rules() {
    let Some(python) = python() else { return };
    let rules = yaml_of(&python, "prometheus/alerts.yaml");
    let wrapped = yaml_of(&python, "kubernetes/monitoring/prometheusrule.yaml");
    assert_eq!(wrapped["kind"], "PrometheusRule");
    assert_eq!(wrapped["spec"], rules, "copy alerts.yaml into prometheusrule.yaml again");
}
