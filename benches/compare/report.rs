//! What was measured, as Markdown: medians with their ranges, ratios taken within each round, and the musts.

use std::fmt::Write;

/// One table.
pub(crate) struct Sheet {
    pub(crate) title: String,
    pub(crate) note: String,
    pub(crate) columns: Vec<Column>,
    /// A name, and for each column the values of all rounds; a column that does not apply is empty.
    pub(crate) rows: Vec<(String, Vec<Vec<f64>>)>,
}

pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) digits: usize,
}

pub(crate) fn column(name: &'static str, digits: usize) -> Column {
    Column { name, digits }
}

impl Sheet {
    /// Adds a column: the named row's first column over each other's, round by round.
    pub(crate) fn with_ratio(mut self, name: &'static str, own: &str) -> Self {
        let of_own = self.values(own, 0).map(<[f64]>::to_vec).unwrap_or_default();
        for (row, values) in &mut self.rows {
            let same = row == own;
            values.push(if same { Vec::new() } else { ratios(&of_own, &values[0]) });
        }
        self.columns.push(column(name, 2));
        self
    }

    /// What a row has in a column, if it was measured.
    pub(crate) fn values(&self, row: &str, column: usize) -> Option<&[f64]> {
        let (_, values) = self.rows.iter().find(|(name, _)| name == row)?;
        values.get(column).map(Vec::as_slice).filter(|values| !values.is_empty())
    }

    /// The median over the rounds of one row's figure over another's.
    pub(crate) fn ratio(&self, own: &str, other: &str, column: usize) -> Option<f64> {
        Some(median(&ratios(self.values(own, column)?, self.values(other, column)?)))
    }

    /// The median over the rounds; none if it was not measured.
    pub(crate) fn median(&self, row: &str, column: usize) -> Option<f64> {
        Some(median(self.values(row, column)?))
    }

    pub(crate) fn markdown(&self) -> String {
        let mut lines = vec![vec![String::new()]];
        lines[0].extend(self.columns.iter().map(|column| column.name.to_owned()));
        for (name, values) in &self.rows {
            assert_eq!(
                values.len(),
                self.columns.len(),
                "{}: {name} has a value for each column",
                self.title
            );
            let mut cells = vec![name.clone()];
            cells.extend(self.columns.iter().zip(values).map(|(column, values)| cell(values, column.digits)));
            lines.push(cells);
        }
        let widths: Vec<usize> = (0..=self.columns.len())
            .map(|at| {
                lines.iter().filter_map(|line| line.get(at)).map(|c| c.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = format!("### {}\n\n", self.title);
        for (nth, line) in lines.iter().enumerate() {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(text, "| {} |", cells.join(" | ")).expect("a string");
            if nth == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat((*width).max(3))).collect();
                writeln!(text, "| {} |", rules.join(" | ")).expect("a string");
            }
        }
        if !self.note.is_empty() {
            writeln!(text, "\n{}", self.note).expect("a string");
        }
        text
    }
}

/// `1.24 (1.20-1.31)`
fn cell(values: &[f64], digits: usize) -> String {
    let middle = median(values);
    match values {
        [] => "-".to_owned(),
        [_] => format!("{middle:.digits$}"),
        _ => {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("{middle:.digits$} ({least:.digits$} to {most:.digits$})")
        }
    }
}

/// The middle one; of an even number the mean of the middle two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(values[half - 1], values[half]),
        _ => values[half],
    }
}

fn ratios(own: &[f64], other: &[f64]) -> Vec<f64> {
    own.iter().zip(other).map(|(own, other)| own / other).collect()
}

/// Round by round.
pub(crate) fn differences(own: &[f64], other: &[f64]) -> Vec<f64> {
    own.iter().zip(other).map(|(own, other)| own - other).collect()
}

/// The targets, and whether they are met.
#[derive(Default)]
pub(crate) struct Musts {
    verdicts: Vec<Verdict>,
}

struct Verdict {
    what: String,
    is: Option<f64>,
    most: f64,
    unit: &'static str,
}

impl Musts {
    /// `is` must be at most `most`; it is none where the peer or the case is lacking.
    pub(crate) fn hold(&mut self, what: &str, is: Option<f64>, most: f64, unit: &'static str) {
        self.verdicts.push(Verdict { what: what.to_owned(), is, most, unit });
    }

    pub(crate) fn missed(&self) -> usize {
        self.verdicts.iter().filter(|verdict| verdict.word() == "MISSED").count()
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = "### Musts\n\n| | is | at most | |\n| --- | --- | --- | --- |\n".to_owned();
        for verdict in &self.verdicts {
            let Verdict { what, most, unit, .. } = verdict;
            let is = verdict.is.map_or_else(|| "-".to_owned(), |is| format!("{is:.2} {unit}"));
            writeln!(text, "| {what} | {} | {most} {unit} | {} |", is.trim(), verdict.word())
                .expect("a string");
        }
        text
    }
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self.is {
            None => "not measured",
            Some(is) if is <= self.most => "met",
            // What is no number is no success either.
            Some(_) => "MISSED",
        }
    }
}
