//! HAProxy, as an HTTP proxy with all of its policies, and as a TCP proxy with none.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Setup, config, run};

pub(super) fn command(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    setup: &Setup<'_>,
    mode: &str,
) -> Command {
    let file = config(folder, "haproxy.cfg", &format!("{GLOBAL}{mode}"), address, setup);
    run(program, &["-db", "-f", &file.to_string_lossy()])
}

const GLOBAL: &str = r#"
global
  nbthread WORKERS
  no strict-limits
  maxconn 10100
defaults
  timeout connect 2s
  timeout client 60s
  timeout server 15s
  timeout queue 1s
  maxconn 10100
"#;

pub(super) const HTTP: &str = r#"
frontend bench
  mode http
  bind OWN backlog 4096
  timeout http-request 10s
  timeout http-keep-alive 75s
  option http-no-delay
  option forwardfor
  unique-id-format %{+X}o\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header x-request-id
  stick-table type ip size 1k expire 10s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 1000000 }
  default_backend upstream
backend upstream
  mode http
  option http-no-delay
  http-reuse always
  option redispatch
  retries 2
  retry-on conn-failure empty-response response-timeout 502 503 504
  option http-buffer-request
  server one UPSTREAM maxconn 256 pool-max-conn 256 check inter 10s observe layer7 error-limit 5 on-error mark-down
frontend metrics
  mode http
  bind ADMIN
  http-request use-service prometheus-exporter if { path /metrics }
"#;

pub(super) const TCP: &str = r#"
listen bench
  mode tcp
  bind OWN backlog 4096
  option splice-auto
  server one UPSTREAM
"#;
