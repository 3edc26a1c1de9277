//! temporary
pub mod model;
pub use self::model::*;
use std::path::{Path, PathBuf};
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Problem>,
    pub files: Vec<PathBuf>,
}
#[derive(Debug)]
pub struct Problem(String);
impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl Problem {
    pub fn unusable(what: String) -> Self {
        Self(what)
    }
}
#[derive(Debug)]
pub struct Problems(Vec<Problem>);
impl Problems {
    pub fn into_vec(self) -> Vec<Problem> {
        self.0
    }
}
pub mod watch {
    pub struct Watcher;
    impl Watcher {
        pub fn new(_: Vec<std::path::PathBuf>) -> Self {
            Self
        }
        pub fn changed(&mut self) -> bool {
            false
        }
    }
}
pub fn unbuilt_in_force(_: &Config) -> Vec<String> {
    vec![]
}
impl Config {
    pub fn needs_restart(&self, _: &Config) -> Vec<Problem> {
        vec![]
    }
}
fn merge(a: &mut toml::Value, b: toml::Value) {
    match (a, b) {
        (toml::Value::Table(a), toml::Value::Table(b)) => {
            for (k, v) in b {
                match a.get_mut(&k) {
                    Some(x) => merge(x, v),
                    None => {
                        a.insert(k, v);
                    }
                }
            }
        }
        (a, b) => *a = b,
    }
}
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let e = |s: String| Problems(vec![Problem(s)]);
    let mut d: toml::Table = toml::from_str(include_str!("../../config/defaults.toml")).unwrap();
    let user: toml::Table = toml::from_str(&std::fs::read_to_string(path).map_err(|x| e(x.to_string()))?)
        .map_err(|x| e(x.to_string()))?;
    d.remove("presets");
    d.remove("profiles");
    let mut up = d.remove("upstream").unwrap()["NAME"].clone();
    for k in ["rate_limit", "fallback"] {
        up.as_table_mut().unwrap().insert(k.into(), toml::Value::Array(vec![]));
    }
    for k in ["route", "notify"] {
        d.insert(k.into(), toml::Value::Array(vec![]));
    }
    d["admin"].as_table_mut().unwrap().insert("token".into(), toml::Value::Array(vec![]));
    d.insert("upstream".into(), toml::Value::Table(Default::default()));
    let mut all = toml::Value::Table(d);
    merge(&mut all, toml::Value::Table(user));
    let ups = all["upstream"].as_table().unwrap().clone();
    let mut routes = all["route"].as_array().unwrap().clone();
    for (n, u) in &ups {
        let mut f = up.clone();
        merge(&mut f, u.clone());
        if let Some(url) = u.get("url") {
            f.as_table_mut().unwrap().insert("urls".into(), toml::Value::Array(vec![url.clone()]));
        }
        if let Some(r) = u.get("route") {
            let mut t = toml::Table::new();
            t.insert("path".into(), r.clone());
            t.insert("upstream".into(), n.clone().into());
            routes.push(t.into());
        }
        all["upstream"].as_table_mut().unwrap().insert(n.clone(), f);
    }
    for r in &mut routes {
        let name = r["upstream"].as_str().unwrap().to_string();
        let u = all["upstream"][&name].clone();
        let mut base = toml::Table::new();
        for k in [
            "timeout",
            "stream",
            "retry",
            "breaker",
            "rate_limit",
            "fallback",
            "dead_letter",
            "idempotent",
            "idempotency_header",
            "shed_at",
        ] {
            base.insert(k.into(), u[k].clone());
        }
        for (k, v) in [("name", ""), ("host", "")] {
            base.insert(k.into(), v.into());
        }
        base.insert("methods".into(), toml::Value::Array(vec![]));
        base.insert("strip_prefix".into(), true.into());
        let mut b = toml::Value::Table(base);
        merge(&mut b, r.clone());
        *r = b;
    }
    all["route"] = toml::Value::Array(routes);
    let config: Config = all.try_into().map_err(|x: toml::de::Error| e(x.to_string()))?;
    Ok(Loaded { config, warnings: vec![], files: vec![path.into()] })
}
