//! What the documents say, is so: their configs are sound, their commands exist, their links lead somewhere, and what they
//! list (keys, metrics, reasons, alerts) is what there is.

mod alerts;
mod calls;
mod commands;
mod configs;
mod guides;
mod keys;
mod links;
mod metrics;
mod reasons;
mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One Markdown file of the tree.
struct Page {
    /// Its path below the root.
    path: String,
    text: String,
}

/// A fenced block, and the words behind its fence: `toml`, or `toml part`.
struct Block {
    info: String,
    /// Where it begins, counted from one.
    line: usize,
    text: String,
}

impl Page {
    fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    fn folder(&self) -> PathBuf {
        Path::new(&self.path).parent().map(Path::to_path_buf).unwrap_or_default()
    }

    fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in self.text.lines().enumerate() {
            let fence = line.trim().strip_prefix("```");
            match (&mut open, fence) {
                (None, Some(info)) => {
                    let info = info.trim().to_owned();
                    open = Some(Block { info, line: number + 1, text: String::new() });
                }
                (Some(_), Some("")) => blocks.extend(open.take()),
                (Some(block), _) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fenced block does not end", self.path);
        blocks
    }

    /// The text without its fenced blocks, by line.
    fn prose(&self) -> Vec<(usize, &str)> {
        let mut fenced = false;
        let mut lines = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.trim().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                lines.push((number + 1, line));
            }
        }
        lines
    }

    /// The anchor of every heading; of two of the same words the second one's ends in `-1`, as GitHub has it.
    fn anchors(&self) -> Vec<String> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut anchors = Vec::new();
        for (_, line) in self.prose() {
            let level = line.chars().take_while(|c| *c == '#').count();
            let Some(text) = line.get(level..).filter(|_| level > 0).and_then(|rest| rest.strip_prefix(' '))
            else {
                continue;
            };
            let plain = anchor(text);
            let count = seen.entry(plain.clone()).or_default();
            anchors.push(if *count == 0 { plain } else { format!("{plain}-{count}") });
            *count += 1;
        }
        anchors
    }

    /// What stands between backticks outside of the fenced blocks, with its line.
    fn code_spans(&self) -> Vec<(usize, &str)> {
        self.prose()
            .into_iter()
            .flat_map(|(line, text)| text.split('`').skip(1).step_by(2).map(move |span| (line, span)))
            .collect()
    }

    /// The rows of all tables whose first heading is `first`, cell by cell; `\|` is a bar in a cell.
    fn rows(&self, first: &str) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        let mut inside = false;
        for (_, line) in self.prose() {
            let line = line.trim();
            if !line.starts_with('|') {
                inside = false;
                continue;
            }
            let cells = cells(line);
            if cells.first().is_some_and(|cell| cell == first) {
                inside = true;
            } else if inside && !cells.iter().all(|cell| cell.chars().all(|c| c == '-' || c == ':')) {
                rows.push(cells);
            }
        }
        rows
    }
}

fn cells(line: &str) -> Vec<String> {
    let hidden = line.trim_matches('|').replace("\\|", "\u{0}");
    hidden.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// The anchor that GitHub makes of a heading: small letters, digits, hyphens for spaces, nothing else.
fn anchor(heading: &str) -> String {
    let shown = heading.trim().to_lowercase();
    let kept = shown.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Every Markdown file of the tree.
fn pages() -> Vec<Page> {
    let mut found = Vec::new();
    walk(root(), &mut found);
    found.sort();
    let pages: Vec<Page> = found.iter().map(|path| Page::read(path)).collect();
    assert!(pages.iter().any(|page| page.path == "README.md"), "the walk finds README.md");
    pages
}

/// Those for users: not the records of decisions, which say what was so when they were written.
fn pages_for_users() -> Vec<Page> {
    let kept = |page: &Page| {
        page.path == "README.md" || (page.path.starts_with("docs/") && !page.path.starts_with("docs/adr/"))
    };
    pages().into_iter().filter(kept).collect()
}

fn walk(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if name == "target" || name == ".git" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let below = path.strip_prefix(root()).expect("the walk began there");
            found.push(below.to_string_lossy().into_owned());
        }
    }
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

mod the_reader {
    use super::{Page, anchor, cells};

    fn page(text: &str) -> Page {
        Page { path: "docs/x.md".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn finds_blocks_with_their_words() {
        let page = page("a\n```toml part\nb = 1\n```\n```sh\nc\n```\n");
        let found: Vec<_> =
            page.blocks().into_iter().map(|block| (block.info, block.line, block.text)).collect();
        let wanted = [("toml part", 2, "b = 1\n"), ("sh", 5, "c\n")];
        assert_eq!(found, wanted.map(|(info, line, text)| (info.to_owned(), line, text.to_owned())));
    }

    #[test]
    fn makes_the_anchors_of_headings() {
        assert_eq!(anchor("What `202` means, and does not"), "what-202-means-and-does-not");
        assert_eq!(anchor("upstream.NAME.retry"), "upstreamnameretry");
        let page = page("# One\n## Two\n```sh\n# no heading\n```\n## Two\n");
        assert_eq!(page.anchors(), ["one", "two", "two-1"]);
    }

    #[test]
    fn reads_tables_and_spans() {
        let page = page("| key | says |\n| --- | --- |\n| `a` | b \\| c |\n\n| other |\n| --- |\n| d |\n");
        assert_eq!(page.rows("key"), [["`a`", "b | c"]]);
        assert_eq!(page.code_spans(), [(3, "a")]);
        assert_eq!(cells("| a | b |"), ["a", "b"]);
    }
}
