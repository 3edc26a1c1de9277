//! Connections that rest, and connections to where a name led once.

use std::fs;

use crate::support::{Fender, Protocol, Service, Setup, Upstream, eventually};

fn idle(fender: &Fender) -> f64 {
    fender.metric("fender_upstream_connections", &[("state", "idle")])
}

#[test]
fn no_more_connections_rest_than_allowed() {
    for http in ["1", "2"] {
        let protocol = || if http == "2" { Protocol::Http2 } else { Protocol::Http1 };
        let services: Vec<_> = (0..3).map(|_| Service::start(protocol())).collect();
        let urls: Vec<_> = services.iter().map(Service::url).collect();
        let fender = Setup::new(format!(
            "[upstream.api]\nurls = {urls:?}\nroute = \"/\"\nhttp = \"{http}\"\npool.max_idle = 2"
        ))
        .server("workers = 1")
        .start();
        eventually("each was asked", || {
            assert_eq!(fender.get("/").status(), 200);
            services.iter().all(|service| service.connections() > 0)
        });
        eventually("two rest", || idle(&fender) == 2.0);
        let open = fender.metric("fender_upstream_connections", &[]);
        assert_eq!(open, 2.0, "http = {http}");
    }
}

/// Where the namespaces of the system let a process have an `/etc/hosts` of its own.
fn with_hosts_of_its_own(hosts: &std::path::Path, setup: Setup) -> Option<Fender> {
    let fender = setup.hosts(hosts);
    if fender.is_none() {
        eprintln!("SKIPPED: no mount namespace can be had here");
    }
    fender
}

#[test]
fn a_name_that_leads_elsewhere_is_followed_over_new_connections() {
    for http in ["1", "2"] {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        fs::write(&hosts, "127.0.0.1 api.test\n").unwrap();
        let old = upstream_at("127.0.0.1:0", http);
        let port = old.address().port();
        let new = upstream_at(&format!("127.0.0.2:{port}"), http);
        let setup = Setup::new(format!(
            "[upstream.api]\nurl = \"http://api.test:{port}\"\nroute = \"/\"\nhttp = \"{http}\"\npool.dns_refresh = \"200ms\""
        ))
        .server("workers = 1");
        let Some(fender) = with_hosts_of_its_own(&hosts, setup) else { return };
        assert_eq!(fender.get("/").status(), 200);
        assert_eq!((old.requests().len(), new.requests().len()), (1, 0));

        // In flight while the name moves: it gets its answer.
        let mut slow = fender.client();
        slow.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n");
        old.request(2);
        fs::write(&hosts, "127.0.0.2 api.test\n").unwrap();
        eventually("the new address is asked", || {
            assert_eq!(fender.get("/").status(), 200);
            !new.requests().is_empty()
        });
        let so_far = old.requests().len();
        for _ in 0..5 {
            assert_eq!(fender.get("/").status(), 200);
        }
        assert_eq!(slow.response("GET").status(), 200, "http = {http}");
        for _ in 0..5 {
            assert_eq!(fender.get("/").status(), 200);
        }
        assert_eq!(old.requests().len(), so_far, "the old address is asked again, http = {http}");
        eventually("the old connections are closed", || {
            fender.metric("fender_upstream_connections", &[]) == 1.0
        });

        // A name that is gone is no reason to let anything go.
        let connections = new.connections();
        fs::write(&hosts, "\n").unwrap();
        fender.logged_where("the look-up fails", |line| line.to_string().contains("api.test"));
        assert_eq!(fender.get("/").status(), 200);
        assert_eq!(new.connections(), connections);
    }
}

/// Answers at once, but on `/slow` after two seconds.
fn upstream_at(address: &str, http: &str) -> Upstream {
    if http == "2" {
        return super::http2_upstream::answering_at(address);
    }
    Upstream::scripted_at(address, |connection| {
        while let Some(received) = connection.request() {
            if received.head.target() == "/slow" {
                std::thread::sleep(std::time::Duration::from_secs(2));
            }
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    })
}
