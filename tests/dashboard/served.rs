//! The dashboard's files as the listener serves them.

use crate::support::{Client, Setup, Upstream};

const FILES: [(&str, &str); 10] = [
    ("/", "text/html; charset=utf-8"),
    ("/dashboard/style.css", "text/css; charset=utf-8"),
    ("/dashboard/main.js", "text/javascript; charset=utf-8"),
    ("/dashboard/api.js", "text/javascript; charset=utf-8"),
    ("/dashboard/dom.js", "text/javascript; charset=utf-8"),
    ("/dashboard/upstreams.js", "text/javascript; charset=utf-8"),
    ("/dashboard/letters.js", "text/javascript; charset=utf-8"),
    ("/dashboard/story.js", "text/javascript; charset=utf-8"),
    ("/dashboard/events.js", "text/javascript; charset=utf-8"),
    ("/dashboard/report.js", "text/javascript; charset=utf-8"),
];

#[test]
fn each_file_is_guarded_and_asked_for_again_in_a_few_bytes() {
    let upstream = Upstream::ok("ok");
    let fender = Setup::new(upstream.as_api("")).start();
    let get = |path: &str, fields: &str| Client::connect(fender.admin()).request("GET", path, fields, b"");
    for (path, kind) in FILES {
        let answer = get(path, "");
        assert_eq!((answer.status(), answer.field("content-type").as_str()), (200, kind), "{path}");
        let policy = answer.field("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        for part in ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(answer.field("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.field("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.field("cache-control"), "no-cache", "{path}");
        let tag = answer.field("etag");
        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let again = get(path, &format!("if-none-match: {known}\r\n"));
            assert_eq!((again.status(), again.body.len()), (304, 0), "{path} {known}");
            assert_eq!(again.field("etag"), tag, "{path}");
        }
        assert_eq!(get(path, "if-none-match: \"other\"\r\n").status(), 200, "{path}");
        assert_eq!(Client::connect(fender.admin()).request("POST", path, "", b"").status(), 405, "{path}");
    }
}

/// The page needs no inline script or style, and names nothing of another host.
#[test]
fn the_page_is_whole_by_itself() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/dashboard");
    let mut scripts = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(text.lines().count() <= 400, "{name} is a giant");
        let own = text.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http://",
            "https://",
            "//cdn",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
            "onclick=\"",
        ] {
            assert!(!own.contains(word), "{name} holds {word}");
        }
        let served = if name == "page.html" { "/".to_owned() } else { format!("/dashboard/{name}") };
        assert!(FILES.iter().any(|(path, _)| *path == served), "{name} is not served");
        scripts += if name.ends_with(".js") { text.len() } else { 0 };
    }
    assert!(scripts < 48 * 1024, "{scripts} bytes of scripts");
}
