//! Envoy as a plain pass-through, where its binary is at hand.

use std::process::Command;

use crate::subject::{Subject, free};

/// Started, if `FENDER_BENCH_ENVOY` names its binary.
pub(crate) fn start(upstream: &Subject) -> Option<Subject> {
    let Some(binary) = std::env::var_os("FENDER_BENCH_ENVOY") else {
        println!("Envoy is not compared: FENDER_BENCH_ENVOY does not name its binary");
        return None;
    };
    let address = free();
    let folder = tempfile::tempdir().expect("a folder for the config");
    let config = folder.path().join("envoy.yaml");
    let text = CONFIG
        .replace("OWN", &address.port().to_string())
        .replace("THEIRS", &upstream.address.port().to_string());
    std::fs::write(&config, text).expect("the config is written");
    let mut command = Command::new(binary);
    command.args(["--concurrency", "2", "--log-level", "off", "--disable-hot-restart", "-c"]).arg(config);
    Some(Subject::start(command, address, Some(folder)))
}

const CONFIG: &str = r#"
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: OWN } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          route_config:
            virtual_hosts:
            - name: bench
              domains: ["*"]
              routes: [{ match: { prefix: "/" }, route: { cluster: bench, timeout: 0s } }]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: bench
    connect_timeout: 2s
    circuit_breakers: { thresholds: [{ max_connections: 4096, max_pending_requests: 4096, max_requests: 4096 }] }
    load_assignment:
      cluster_name: bench
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: THEIRS } } }
"#;
