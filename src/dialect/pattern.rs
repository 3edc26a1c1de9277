//! Patterns of paths: `/v1/*`, `**/chat/completions`, `**/bot{}/**`.

use std::ops::{Range, RangeInclusive};

use serde::de::{Deserialize, Deserializer, Error};

/// A path's pattern: `*` stands for any bytes of a segment, `{}` for bytes that are looked for, `**` before or behind the
/// others for any segments. Letters have no case: what is masked must not hide behind one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    leads: bool,
    trails: bool,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    before: String,
    wild: Option<Wild>,
    after: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wild {
    Any,
    Hole,
}

impl Pattern {
    /// Reads a pattern, or says what is wrong with it.
    ///
    /// # Errors
    /// A fragment that follows the key.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (leads, rest) = match text.strip_prefix("**/") {
            Some(rest) => (true, rest),
            None => (
                false,
                text.strip_prefix('/')
                    .ok_or("must be a path's pattern, which starts with \"/\" or \"**/\"")?,
            ),
        };
        let (trails, rest) = match rest.strip_suffix("/**") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let segments = rest.split('/').map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { leads, trails, segments })
    }

    /// Whether a path (without its query) has this pattern.
    #[must_use]
    pub fn fits(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// Where the path has what is looked for; `None` if it does not fit.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Vec<Range<usize>>> {
        let parts = parts(path);
        self.starts(parts.len())?.find_map(|start| self.fit(parts.get(start..)?))
    }

    /// The same for every part of the path that fits.
    #[must_use]
    pub fn find_all(&self, path: &str) -> Vec<Range<usize>> {
        let parts = parts(path);
        let starts = self.starts(parts.len()).into_iter().flatten();
        starts.filter_map(|start| self.fit(parts.get(start..)?)).flatten().collect()
    }

    /// The parts at which it may begin.
    fn starts(&self, parts: usize) -> Option<RangeInclusive<usize>> {
        let spare = parts.checked_sub(self.segments.len())?;
        match (self.leads, self.trails) {
            (true, true) => Some(0..=spare),
            (true, false) => Some(spare..=spare),
            (false, false) if spare > 0 => None,
            (false, _) => Some(0..=0),
        }
    }

    fn fit(&self, parts: &[(usize, &str)]) -> Option<Vec<Range<usize>>> {
        let mut holes = Vec::new();
        for (segment, (from, part)) in self.segments.iter().zip(parts) {
            let wild = segment.find(part)?;
            if segment.wild == Some(Wild::Hole) {
                holes.push(from + wild.start..from + wild.end);
            }
        }
        Some(holes)
    }
}

/// The segments of a path, each with where it begins.
fn parts(path: &str) -> Vec<(usize, &str)> {
    let mut at = usize::from(path.starts_with('/'));
    let segments = path.get(at..).unwrap_or_default().split('/');
    segments
        .map(|part| {
            let from = at;
            at += part.len() + 1;
            (from, part)
        })
        .collect()
}

impl Segment {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let split = |mark: &str, wild| text.split_once(mark).map(|(before, after)| (before, wild, after));
        let (before, wild, after) =
            split("{}", Some(Wild::Hole)).or_else(|| split("*", Some(Wild::Any))).unwrap_or((text, None, ""));
        if [before, after].iter().any(|part| part.contains(['*', '{', '}', '?', '#'])) {
            return Err(
                "may have one \"*\" or \"{}\" in a segment, and \"**\" only at its beginning and end",
            );
        }
        Ok(Self { before: before.to_owned(), wild, after: after.to_owned() })
    }

    /// Where its wild bytes are in a part; nothing where it has none.
    fn find(&self, part: &str) -> Option<Range<usize>> {
        let end = part.len().checked_sub(self.after.len())?;
        let wild = self.before.len()..end;
        let inside = part.get(wild.clone())?;
        let same = |from: Range<usize>, text: &str| {
            part.get(from).is_some_and(|part| part.eq_ignore_ascii_case(text))
        };
        let fits = same(0..wild.start, &self.before) && same(end..part.len(), &self.after);
        (fits && (inside.is_empty() == self.wild.is_none())).then_some(wild)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
