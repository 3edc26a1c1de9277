//! The index over routes against the plain reading of the rules: of the routes in order, the first that fits.

use fender::route::index::{Asks, Index};
use proptest::prelude::*;

struct Route {
    host: Option<String>,
    path: String,
    posts: bool,
}

fn plainly(routes: &[Route], host: Option<&str>, path: &str, post: bool) -> Option<usize> {
    routes.iter().position(|route| {
        let below =
            || path.strip_prefix(&route.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let of_host = |wanted: &String| host.is_some_and(|host| host.eq_ignore_ascii_case(wanted));
        (route.path == "/" || below()) && route.host.as_ref().is_none_or(of_host) && (!route.posts || post)
    })
}

fn indexed(routes: &[Route]) -> Index {
    Index::new(routes.iter().map(|route| Asks { host: route.host.as_deref(), path: &route.path }))
}

/// Few segments, so that paths often lie below others, or nearly.
fn path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "ab", "a-b", "a.b", "a!", "b", "é", "v1", "A"]);
    prop::collection::vec(segment, 0..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn host() -> impl Strategy<Value = Option<String>> {
    prop::sample::select(vec![None, None, Some("one.test"), Some("ONE.test"), Some("two.test"), Some("")])
        .prop_map(|host| host.map(str::to_owned))
}

fn route() -> impl Strategy<Value = Route> {
    (host(), path(), any::<bool>()).prop_map(|(host, path, posts)| Route { host, path, posts })
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {}", self.host, self.path, if self.posts { "POST" } else { "any" })
    }
}

proptest! {
    #[test]
    fn it_finds_what_the_plain_reading_finds(
        routes in prop::collection::vec(route(), 0..24),
        asked in prop::collection::vec((host(), path(), any::<bool>()), 1..24),
    ) {
        let index = indexed(&routes);
        for (host, path, post) in &asked {
            let fits = |number: usize| !routes[number].posts || *post;
            let found = index.first(host.as_deref(), path, fits);
            prop_assert_eq!(found, plainly(&routes, host.as_deref(), path, *post), "{:?} {}", host, path);
        }
    }
}

#[test]
fn neighbours_in_the_order_are_not_taken_for_parents() {
    let longest_first = ["/a/b/c/d", "/a.b/c", "/a/b", "/a-b", "/a", "/"];
    let index = Index::new(longest_first.iter().map(|path| Asks { host: None, path }));
    for (asked, found) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a"),
        ("/a-", "/"),
        ("/a-b/x", "/a-b"),
        ("/a.b", "/"),
        ("/a.b/c/", "/a.b/c"),
        ("/a/bb", "/a"),
        ("/a/b/c", "/a/b"),
        ("/a/b/c/d/e", "/a/b/c/d"),
        ("/b", "/"),
        ("*", "/"),
    ] {
        let number = index.first(None, asked, |_| true);
        assert_eq!(number.map(|number| longest_first[number]), Some(found), "{asked}");
    }
}
