//! Problems as a person reads them: the line, a caret, and a way out.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::mask;
use super::problem::{Problem, Problems, Severity};
use super::source::Place;

impl Problems {
    /// All problems with their lines, and how many there are.
    pub fn render(&self, color: bool) -> String {
        let mut text = render(&self.0, color);
        let noun = if self.len() == 1 { "problem" } else { "problems" };
        writeln!(text, "{} {noun}", self.len()).expect("invariant: writing to a String cannot fail");
        text
    }
}

/// Problems with their lines, one paragraph each.
pub fn render(problems: &[Problem], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let hide: Vec<&Place> = problems.iter().flat_map(|problem| &problem.hide).collect();
    let mut text = String::new();
    for problem in problems {
        let excerpts: Vec<Excerpt> =
            problem.places.iter().map(|(place, _)| Excerpt::of(place, &hide)).collect();
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(printable(&problem.to_string())));
        for (number, (excerpt, (place, label))) in excerpts.iter().zip(&problem.places).enumerate() {
            group = group.element(excerpt.snippet(number == 0, place, label));
        }
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(printable(help)));
        }
        text.push_str(&renderer.render(&[group]));
        text.push_str("\n\n");
    }
    text
}

/// The line of a place, with secrets masked.
struct Excerpt {
    line: usize,
    text: String,
    span: Range<usize>,
}

impl Excerpt {
    fn of(place: &Place, hide: &[&Place]) -> Self {
        let text = &place.source.text;
        let start = text.get(..place.span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let rest = text.get(place.span.start..).unwrap_or_default();
        let end = rest.find('\n').map_or(text.len(), |at| place.span.start + at);
        let mut hidden = place.source.hidden.clone();
        let others = hide.iter().filter(|other| Arc::ptr_eq(&other.source, &place.source));
        hidden.extend(others.map(|other| other.span.clone()));
        let span = place.span.start - start
            ..place.span.end.clamp(place.span.start, end.max(place.span.start)) - start;
        Self { line: place.line_and_column().0, text: mask::masked(text, start..end, &hidden), span }
    }

    fn snippet<'a>(
        &'a self,
        first: bool,
        place: &'a Place,
        label: &'a str,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let kind = if first { AnnotationKind::Primary } else { AnnotationKind::Context };
        let annotation = kind.span(self.span.clone());
        let annotation = if label.is_empty() { annotation } else { annotation.label(label) };
        Snippet::source(self.text.as_str()).line_start(self.line).path(place.file()).annotation(annotation)
    }
}

/// Nothing that a terminal would act on.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter })
        .collect()
}
