//! nginx: it has no breaker for a single server and no retry budget; all else is on.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Setup, config, run};

pub(super) fn command(program: &Path, folder: &Path, address: SocketAddr, setup: &Setup<'_>) -> Command {
    started(program, folder, address, setup, &backend("bench"), &place("/", "bench"))
}

/// With `upstreams` upstreams and `routes` routes: `/t/0/`, `/t/1/` … each of the upstream whose turn it is.
pub(super) fn command_of_many(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    setup: &Setup<'_>,
    (routes, upstreams): (usize, usize),
) -> Command {
    let backends: String = (0..upstreams).map(|nth| backend(&format!("u{nth}"))).collect();
    let routed = |nth| place(&format!("/t/{nth}/"), &format!("u{}", nth % upstreams));
    // Answers when the driver looks whether it serves.
    let places: String = (0..routes).map(routed).chain([place("/", "u0")]).collect();
    started(program, folder, address, setup, &backends, &places)
}

fn backend(name: &str) -> String {
    BACKEND.replace("NAME", name)
}

fn place(path: &str, backend: &str) -> String {
    PLACE.replace("PATH", path).replace("NAME", backend)
}

fn started(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    setup: &Setup<'_>,
    backends: &str,
    places: &str,
) -> Command {
    let template = CONFIG.replace("BACKENDS", backends).replace("PLACES", places);
    let template = template.replace("BUFFERING", if setup.streams { "off" } else { "on" });
    let file = config(folder, "nginx.conf", &template, address, setup);
    run(program, &["-e", "stderr", "-p", &folder.to_string_lossy(), "-c", &file.to_string_lossy()])
}

const CONFIG: &str = r#"
user root;
daemon off;
worker_processes WORKERS;
worker_rlimit_nofile 20000;
pid FOLDER/nginx.pid;
error_log stderr emerg;
events { worker_connections 10100; }
http {
  access_log off;
  tcp_nodelay on;
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  client_header_timeout 10s;
  client_body_timeout 30s;
  client_body_buffer_size 64k;
  client_max_body_size 0;
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  limit_req_zone $server_name zone=rate:1m rate=1000000r/s;
  limit_conn_zone $server_name zone=open:1m;
BACKENDS  server {
    listen OWN reuseport backlog=4096;
    server_name bench;
    limit_req zone=rate burst=1000000 nodelay;
    limit_conn open 10100;
PLACES  }
  server {
    listen ADMIN;
    location / { stub_status; }
  }
}
"#;

const BACKEND: &str = r#"  upstream NAME {
    zone NAME 64k;
    server UPSTREAM max_conns=256 max_fails=5 fail_timeout=10s;
    keepalive 64;
    keepalive_requests 1000000000;
  }
"#;

const PLACE: &str = r#"    location PATH {
      proxy_pass http://NAME;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-ID $request_id;
      proxy_connect_timeout 2s;
      proxy_send_timeout 15s;
      proxy_read_timeout 15s;
      proxy_next_upstream error timeout http_502 http_503 http_504;
      proxy_next_upstream_tries 3;
      proxy_next_upstream_timeout 60s;
      proxy_buffering BUFFERING;
      proxy_max_temp_file_size 0;
    }
"#;
