//! `fender healthcheck`: what a container's health check is told.

use std::process::Output;

use super::letters::TOKENS_OF_ALL;
use crate::support::{Authority, Fender, Setup, Upstream, binary};

fn check(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        binary().arg("healthcheck").args(arguments).env_remove("FENDER_ADMIN").output().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[test]
fn it_is_0_while_fender_is_ready_and_1_while_it_drains() {
    let (upstream, _more) = Upstream::events();
    let fender = Setup::new(upstream.as_api("")).server("drain_quiet = \"0s\"").admin(TOKENS_OF_ALL).start();
    let admin = format!("http://{}", fender.admin());
    assert_eq!(check(&["--admin", &admin]), (Some(0), "ready\n".to_owned()));
    assert_eq!(check(&["--admin", &format!("{admin}/")]).0, Some(0));
    // A request in flight keeps it draining.
    let mut client = fender.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.head().expect("a stream begins").status(), 200);
    fender.sigterm();
    fender.logged("draining: unready, still serving");
    let (code, said) = check(&["--admin", &admin]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("draining"), "{said}");
}

#[test]
fn nobody_there_is_1_and_nonsense_is_2() {
    let nobody = Upstream::nobody();
    let (code, said) = check(&["--admin", &nobody]);
    assert_eq!(code, Some(1), "{said}");
    for wrong in ["ftp://a", "nonsense", "http://", "http://a/path", "http://a?query"] {
        let (code, said) = check(&["--admin", wrong]);
        assert_eq!(code, Some(2), "{wrong}: {said}");
    }
}

#[test]
fn it_and_the_letters_reach_an_admin_listener_under_tls() {
    let authority = Authority::new();
    let identity = authority.sign("localhost");
    let upstream = Upstream::ok("ok");
    let (setup, _folder) = super::letters::keeping(&upstream.as_api("dead_letter.mode = \"on_failure\""));
    let tls = format!(
        "tls = {{ cert_file = {:?}, key_file = {:?} }}",
        identity.certificate.display().to_string(),
        identity.key.display().to_string()
    );
    let fender = setup.admin_first(&tls).start();
    let admin = format!("https://localhost:{}", fender.admin().port());
    let ca = authority.certificate().display().to_string();
    assert_eq!(check(&["--admin", &admin, "--ca-file", &ca]), (Some(0), "ready\n".to_owned()));
    let (code, said) = check(&["--admin", &admin]);
    assert_eq!(code, Some(1), "a certificate that nobody vouches for: {said}");
    let (code, said) = check(&["--admin", &format!("http://localhost:{}", fender.admin().port())]);
    assert_eq!(code, Some(1), "{said}");
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "operators-secret\n").unwrap();
    let listed = binary()
        .args(["letters", "list", "--json", "--admin", &admin, "--ca-file", &ca, "--token-file"])
        .arg(token.path())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}

#[test]
fn the_environment_says_where() {
    let upstream = Upstream::ok("ok");
    let fender = Fender::start(upstream.as_api(""));
    let output = binary()
        .arg("healthcheck")
        .env("FENDER_ADMIN", format!("http://{}", fender.admin()))
        .output()
        .unwrap();
    assert!(output.status.success());
}
