//! Every relative link of every page leads to a file, and every anchor to a heading.

use std::path::{Component, Path, PathBuf};

use super::{Page, pages, report, root};

/// The targets of the links of a line: `[words](target)`.
fn targets(line: &str) -> Vec<&str> {
    let parts: Vec<&str> = line.split('`').step_by(2).collect();
    let mut found = Vec::new();
    // What stands between backticks is no link, but a link's words may hold backticks: look at whole lines then.
    let whole = [line];
    let sources = if parts.len() == 1 { &parts[..] } else { &whole[..] };
    for source in sources {
        for (at, _) in source.match_indices("](") {
            let rest = &source[at + 2..];
            found.extend(rest.split_once(')').map(|(target, _)| target));
        }
    }
    found
}

/// Without `.` and `..`, as far as the path itself tells; `None`: it leaves the tree.
fn resolved(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::ParentDir => path.pop().then_some(())?,
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    Some(path)
}

fn leads_nowhere(page: &Page, target: &str, all: &[Page]) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let path = if file.is_empty() {
        PathBuf::from(&page.path)
    } else {
        match resolved(&page.folder(), file) {
            Some(path) => path,
            None => return Some("leaves the repository".to_owned()),
        }
    };
    if !root().join(&path).exists() {
        return Some(format!("{} is not there", path.display()));
    }
    let anchor = anchor?;
    let led = all.iter().find(|other| Path::new(&other.path) == path);
    let known = led.is_some_and(|other| other.anchors().iter().any(|known| known == anchor));
    (!known).then(|| format!("{} has no heading #{anchor}", path.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let all = pages();
    let deployed = root().join("deploy").exists();
    let (mut problems, mut followed, mut skipped) = (Vec::new(), 0, 0);
    for page in &all {
        for (number, line) in page.prose() {
            for target in targets(line) {
                if !deployed && target.contains("deploy/") {
                    skipped += 1;
                    continue;
                }
                followed += 1;
                if let Some(why) = leads_nowhere(page, target, &all) {
                    problems.push(format!("{}:{number}: {target}: {why}", page.path));
                }
            }
        }
    }
    if skipped > 0 {
        eprintln!("skipped: {skipped} links into deploy/, which is not there");
    }
    report(&problems);
    assert!(followed > 50, "only {followed} links were found");
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let all = pages();
    let mut reached: Vec<String> = vec!["README.md".to_owned()];
    let mut at = 0;
    while let Some(path) = reached.get(at).cloned() {
        at += 1;
        let Some(page) = all.iter().find(|page| page.path == path) else { continue };
        for (_, line) in page.prose() {
            for target in targets(line) {
                let file = target.split('#').next().unwrap_or_default();
                let Some(next) = resolved(&page.folder(), file) else { continue };
                let next = next.to_string_lossy().into_owned();
                // A folder stands for what is in it.
                let below = all.iter().map(|page| page.path.clone()).filter(|path| {
                    !file.is_empty() && (*path == next || path.starts_with(&format!("{next}/")))
                });
                for path in below.collect::<Vec<_>>() {
                    if !reached.contains(&path) {
                        reached.push(path);
                    }
                }
            }
        }
    }
    let lost: Vec<&str> = all
        .iter()
        .map(|page| page.path.as_str())
        .filter(|path| path.starts_with("docs/") && !reached.iter().any(|one| one == path))
        .collect();
    assert!(lost.is_empty(), "no link leads to {lost:?}");
}

mod the_reader {
    use super::{Page, leads_nowhere, targets};

    #[test]
    fn finds_targets_and_tells_those_that_lead_nowhere() {
        assert_eq!(targets("a [b](c.md#d) and [`e`](f)"), ["c.md#d", "f"]);
        let page = |path: &str, text: &str| Page { path: path.to_owned(), text: text.to_owned() };
        let all = [page("README.md", "# One\n"), page("docs/README.md", "")];
        let from = &all[1];
        assert_eq!(leads_nowhere(from, "../README.md#one", &all), None);
        assert_eq!(leads_nowhere(from, "https://example.com/x", &all), None);
        assert!(leads_nowhere(from, "../README.md#two", &all).is_some());
        assert!(leads_nowhere(from, "nowhere.md", &all).is_some());
        assert!(leads_nowhere(from, "../../etc/passwd", &all).is_some());
    }
}
