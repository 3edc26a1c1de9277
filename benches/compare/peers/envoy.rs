//! Envoy with its circuit breaker, retry budget, outlier detection, local rate limit and statistics.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Setup, config, installed, run};

/// What `FENDER_BENCH_ENVOY` names, what `benches/compare/install` has unpacked, or what is installed.
pub(super) fn binary() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("FENDER_BENCH_ENVOY").map(PathBuf::from) {
        let missing = format!("FENDER_BENCH_ENVOY names {}, which is not there", named.display());
        return if named.is_file() { Ok(named) } else { Err(missing) };
    }
    let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compare/envoy");
    if unpacked.is_file() { Ok(unpacked) } else { installed("envoy") }
}

pub(super) fn command(program: &Path, folder: &Path, address: SocketAddr, setup: &Setup<'_>) -> Command {
    let file = config(folder, "envoy.yaml", CONFIG, address, setup);
    let workers = setup.workers.to_string();
    let arguments = ["--concurrency", &workers, "--log-level", "off", "--disable-hot-restart", "-c"];
    let mut command = run(program, &arguments);
    command.arg(file);
    command
}

const CONFIG: &str = r#"
admin:
  address: { socket_address: { address: 127.0.0.1, port_value: ADMIN_PORT } }
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: OWN_PORT } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          use_remote_address: true
          request_headers_timeout: 10s
          stream_idle_timeout: 60s
          route_config:
            virtual_hosts:
            - name: bench
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route:
                  cluster: bench
                  timeout: 60s
                  retry_policy:
                    retry_on: connect-failure,refused-stream,reset,gateway-error
                    num_retries: 2
                    per_try_timeout: 15s
                    retry_back_off: { base_interval: 0.1s, max_interval: 10s }
          http_filters:
          - name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: limit
              token_bucket: { max_tokens: 1000000, tokens_per_fill: 1000000, fill_interval: 1s }
              filter_enabled: { default_value: { numerator: 100, denominator: HUNDRED } }
              filter_enforced: { default_value: { numerator: 100, denominator: HUNDRED } }
          - name: envoy.filters.http.router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: bench
    connect_timeout: 2s
    circuit_breakers:
      thresholds:
      - max_connections: 256
        max_pending_requests: 256
        max_requests: 512
        retry_budget: { budget_percent: { value: 20.0 }, min_retry_concurrency: 3 }
    outlier_detection: { consecutive_5xx: 5, interval: 10s, base_ejection_time: 10s, max_ejection_percent: 100 }
    load_assignment:
      cluster_name: bench
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: UPSTREAM_PORT } } }
"#;
