//! A new config takes the old one's place without costing anyone a request; a bad one does not.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::{Authority, Client, Fender, Protocol, Service, Setup, Upstream, eventually};

const TOKENS: &str = "[[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"open-sesame\"\n\
                      [[admin.token]]\nname = \"eyes\"\nrole = \"viewer\"\nsecret = \"look-only\"\n";

/// A config whose upstream is told `mark` in every request.
fn marked(upstream: &Upstream, mark: &str) -> Setup {
    Setup::new(upstream.as_api(&format!("[upstream.api.headers]\nset = {{ x-mark = \"{mark}\" }}")))
        .admin(TOKENS)
}

fn broken(upstream: &Upstream) -> Setup {
    Setup::new(upstream.as_api("htpp = \"1\"\n[upstream.api.timeout]\nconnect = \"-1s\"")).admin(TOKENS)
}

fn mirror() -> Upstream {
    Upstream::scripted(|connection| {
        while let Some(received) = connection.request() {
            let mark = received.field("x-mark").unwrap_or_default();
            connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{mark}", mark.len()));
        }
    })
}

fn becomes(fender: &Fender, mark: &str) {
    eventually(&format!("{mark} is in force"), || fender.get("/").text() == mark);
}

#[test]
fn sighup_reloads() {
    let upstream = mirror();
    let fender = marked(&upstream, "old").start();
    assert_eq!(fender.get("/").text(), "old");
    fender.rewrite_config(&marked(&upstream, "new"));
    fender.sighup();
    becomes(&fender, "new");
    assert_eq!(fender.metric("fender_config_reload_success", &[]), 1.0);
}

#[test]
fn a_changed_file_reloads_by_itself() {
    let upstream = mirror();
    let fender = marked(&upstream, "old").start();
    fender.rewrite_config(&marked(&upstream, "new"));
    becomes(&fender, "new");
}

#[test]
fn a_changed_secret_file_reloads_by_itself() {
    let upstream = mirror();
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("token");
    fs::write(&secret, "old\n").unwrap();
    let fender = marked(&upstream, &format!("${{file:{}}}", secret.display())).start();
    assert_eq!(fender.get("/").text(), "old");
    fs::write(&secret, "new\n").unwrap();
    becomes(&fender, "new");
}

#[test]
fn a_swapped_symlink_reloads_by_itself() {
    let upstream = mirror();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (version, mark) in [("..v1", "old"), ("..v2", "new")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("fender.toml"), marked(&upstream, mark).toml()).unwrap();
    }
    symlink("..v1", at("..data")).unwrap();
    symlink("..data/fender.toml", at("fender.toml")).unwrap();
    let config = at("fender.toml");
    let (next, data) = (at("..data_tmp"), at("..data"));
    let fender = marked(&upstream, "old").start_at(folder, config);
    assert_eq!(fender.get("/").text(), "old");
    symlink("..v2", &next).unwrap();
    fs::rename(next, data).unwrap();
    becomes(&fender, "new");
}

#[test]
fn the_api_reloads_for_operators_alone() {
    let upstream = mirror();
    let fender = marked(&upstream, "old").start();
    let reload = |token| fender.admin_post("/api/v1/config/reload", token).status();
    assert_eq!(reload(None), 401);
    assert_eq!(reload(Some("wrong")), 401);
    assert_eq!(reload(Some("look-only")), 403);
    fender.rewrite_config(&marked(&upstream, "new"));
    assert!((200..300).contains(&reload(Some("open-sesame"))));
    assert_eq!(fender.get("/").text(), "new");
}

#[test]
fn a_bad_file_is_refused_with_every_problem_and_the_old_one_stays() {
    let upstream = mirror();
    let fender = marked(&upstream, "old").start();
    fender.rewrite_config(&broken(&upstream));
    let refused = fender.admin_post("/api/v1/config/reload", Some("open-sesame"));
    assert_eq!(refused.status(), 422, "{}", refused.text());
    for part in ["htpp", "http", "connect"] {
        assert!(refused.text().contains(part), "{part} is not told: {}", refused.text());
    }
    assert_eq!(fender.get("/").text(), "old");
    assert_eq!(fender.metric("fender_config_reload_success", &[]), 0.0);
    fender.sighup();
    assert_eq!(fender.get("/").text(), "old");
    fender.rewrite_config(&marked(&upstream, "new"));
    becomes(&fender, "new");
    eventually("success again", || fender.metric("fender_config_reload_success", &[]) == 1.0);
}

#[test]
fn what_needs_a_restart_is_refused_as_such() {
    let upstream = mirror();
    let fender = marked(&upstream, "old").start();
    fender.rewrite_config(&marked(&upstream, "new").server("workers = 1"));
    let refused = fender.admin_post("/api/v1/config/reload", Some("open-sesame"));
    assert_eq!(refused.status(), 422);
    assert!(refused.text().contains("needs_restart"), "{}", refused.text());
    assert_eq!(fender.get("/").text(), "old");
}

#[test]
fn reloads_under_load_lose_no_request_and_no_connection() {
    let upstream = mirror();
    let fender = marked(&upstream, "0").start();
    let (address, stop, count) =
        (fender.server(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
            thread::spawn(move || {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.request("POST", "/", "", b"x").status(), 200);
                    count.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for number in 1..=10 {
        fender.rewrite_config(&marked(&upstream, &number.to_string()));
        assert_eq!(fender.admin_post("/api/v1/config/reload", Some("open-sesame")).status() / 100, 2);
        let so_far = count.load(Ordering::SeqCst);
        eventually("traffic goes on", || count.load(Ordering::SeqCst) > so_far + 10);
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().expect("no request failed, on the connection that was there at the start");
    }
    assert_eq!(fender.get("/").text(), "10");
}

#[test]
fn a_stream_outlives_a_reload() {
    let (go_on, wait) = std::sync::mpsc::sync_channel(1);
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::scripted(move |connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf ");
        wait.lock().unwrap().recv_timeout(crate::support::PATIENCE).unwrap();
        connection.send("more");
    });
    let setup = Setup::new(upstream.as_api("")).admin(TOKENS);
    let fender = setup.clone().start();
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.head();
    assert_eq!(client.exactly(5).unwrap(), b"half ");
    let other = Upstream::ok("other");
    fender.rewrite_config(
        &Setup::new(format!("[upstream.other]\nurl = \"{}\"\nroute = \"/\"", other.url())).admin(TOKENS),
    );
    assert_eq!(fender.admin_post("/api/v1/config/reload", Some("open-sesame")).status() / 100, 2);
    assert_eq!(fender.get("/").text(), "other", "the upstream is gone from the config");
    go_on.send(()).unwrap();
    assert_eq!(client.exactly(4).unwrap(), b"more", "but not from what is in flight");
}

#[test]
fn the_form_of_the_log_needs_a_restart() {
    let upstream = mirror();
    let fender = marked(&upstream, "old").start();
    let mut next = marked(&upstream, "new");
    next = next.head("profile = \"development\"");
    fender.rewrite_config(&next);
    let refused = fender.admin_post("/api/v1/config/reload", Some("open-sesame"));
    assert_eq!(refused.status(), 422);
    assert!(
        refused.text().contains("needs_restart") && refused.text().contains("profile"),
        "{}",
        refused.text()
    );
    fender.rewrite_config(&marked(&upstream, "new").head("profile = \"testing\""));
    assert_eq!(fender.admin_post("/api/v1/config/reload", Some("open-sesame")).status() / 100, 2);
}

#[test]
fn the_series_of_what_a_reload_takes_away_go_and_the_others_stay() {
    let upstream = mirror();
    let (kept, gone) = (
        format!("[upstream.kept]\nurl = \"{}\"\nroute = \"/kept\"\n", upstream.url()),
        format!("[upstream.gone]\nurl = \"{}\"\nroute = \"/gone\"\n", upstream.url()),
    );
    let more = "[[route]]\nname = \"more\"\npath = \"/more\"\nupstream = \"kept\"\n";
    let fender = Setup::new(format!("{kept}{gone}{more}")).admin(TOKENS).start();
    for path in ["/kept", "/gone", "/more"] {
        assert_eq!(fender.get(path).status(), 200);
    }
    let series = |label: &str| fender.metrics().keys().filter(|name| name.contains(label)).count();
    let (of_kept, of_gone) = (series("upstream=\"kept\""), series("upstream=\"gone\""));
    assert!(of_gone > 10 && series("route=\"more\"") > 0, "{of_kept} {of_gone}");
    fender.rewrite_config(&Setup::new(kept).admin(TOKENS));
    assert_eq!(fender.admin_post("/api/v1/config/reload", Some("open-sesame")).status() / 100, 2);
    assert_eq!((series("upstream=\"gone\""), series("route=\"more\"")), (0, 0));
    assert!(series("upstream=\"kept\"") > 10);
    let answered = || fender.metric("fender_requests_total", &[("upstream", "kept"), ("code", "200")]);
    assert_eq!(answered(), 1.0, "what stays keeps its count");
    assert_eq!(fender.get("/nowhere").status(), 404);
    eventually("what no route matches is counted", || {
        fender.metric("fender_requests_total", &[("upstream", ""), ("code", "404")]) == 1.0
    });
}

/// Whether a handshake with a listener of this name succeeds for who trusts this authority; then an answer to the request.
fn over_tls(
    address: std::net::SocketAddr,
    authority: &Authority,
    request: (&str, &str, &str),
) -> Option<u16> {
    let (method, target, fields) = request;
    let mut client = Client::connect_tls(address, "localhost", authority.client(None, &["http/1.1"]));
    client.send(format!("{method} {target} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n{fields}\r\n"));
    client.try_response(method).map(|answer| answer.status())
}

#[test]
fn certificates_are_renewed_all_or_none() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let put = |authority: &Authority| {
        let own = authority.sign("localhost");
        fs::copy(own.certificate, file("cert.pem")).unwrap();
        fs::copy(own.key, file("key.pem")).unwrap();
    };
    put(&old);
    fs::copy(old.certificate(), file("ca.pem")).unwrap();
    let own = old.sign("localhost");
    let service = Service::start(Protocol::Tls(old.server(&own, &["http/1.1"], false)));
    let fender = Setup::new(format!(
        "[upstream.api]\nurl = \"https://localhost:{}\"\nroute = \"/\"\ntls.ca_file = {:?}\npool.max_idle = 1",
        service.address().port(),
        file("ca.pem")
    ))
    .server(&format!("[server.tls]\ncert_file = {:?}\nkey_file = {:?}", file("cert.pem"), file("key.pem")))
    .admin(TOKENS)
    .start();
    let get = ("GET", "/", "");
    assert_eq!(over_tls(fender.server(), &old, get), Some(200));

    // A good file, and one that is PEM and yet no certificate.
    put(&new);
    fs::write(file("ca.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let refused = fender.admin_post("/api/v1/config/reload", Some("open-sesame"));
    assert_eq!(refused.status(), 422);
    assert!(refused.text().contains("ca.pem"), "{}", refused.text());
    assert_eq!(over_tls(fender.server(), &old, get), Some(200), "nothing has changed");
    assert_eq!(over_tls(fender.server(), &new, get), None);

    fs::copy(old.certificate(), file("ca.pem")).unwrap();
    assert_eq!(fender.admin_post("/api/v1/config/reload", Some("open-sesame")).status() / 100, 2);
    assert_eq!(over_tls(fender.server(), &new, get), Some(200));
    assert_eq!(over_tls(fender.server(), &old, get), None);
}

#[test]
fn the_admin_side_takes_a_new_certificate_and_a_new_token_together() {
    let (old, new) = (Authority::new(), Authority::new());
    let upstream = mirror();
    let setup = |authority: &Authority, token: &str| {
        let own = authority.sign("localhost");
        Setup::new(upstream.as_api("")).admin(&format!(
            "[admin.tls]\ncert_file = {:?}\nkey_file = {:?}\n\
             [[admin.token]]\nname = \"ops\"\nrole = \"operator\"\nsecret = \"{token}\"",
            own.certificate, own.key
        ))
    };
    let fender = setup(&old, "first-of-the-two").start();
    let reload = |authority: &Authority, token: &str| {
        let fields = format!("authorization: Bearer {token}\r\n");
        over_tls(fender.admin(), authority, ("POST", "/api/v1/config/reload", &fields))
    };
    fender.rewrite_config(&setup(&new, "second-of-the-two"));
    eventually("the new certificate is shown", || {
        over_tls(fender.admin(), &new, ("GET", "/health/live", "")) == Some(200)
    });
    assert_eq!(reload(&new, "first-of-the-two"), Some(401));
    assert_eq!(reload(&new, "second-of-the-two").map(|status| status / 100), Some(2));
    assert_eq!(reload(&old, "second-of-the-two"), None);
}
