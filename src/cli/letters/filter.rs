//! Which letters a command means.

use serde_json::{Map, Value};

/// Which letters are meant.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Filter {
    /// pending, sending, delivered, parked or discarded
    #[arg(long)]
    pub(super) state: Option<String>,
    /// Of this upstream
    #[arg(long)]
    upstream: Option<String>,
    /// Of this order key
    #[arg(long)]
    key: Option<String>,
    /// Captured for this reason
    #[arg(long)]
    reason: Option<String>,
    /// Captured at or after this time, RFC 3339
    #[arg(long)]
    since: Option<String>,
    /// Captured before this time
    #[arg(long)]
    until: Option<String>,
}

impl Filter {
    /// As a bulk call says it.
    pub(super) fn words(&self) -> Map<String, Value> {
        let mut words = Map::new();
        for (name, value) in self.fields() {
            words.insert(name.to_owned(), Value::from(value));
        }
        words
    }

    /// As a query string, with `more` behind it.
    pub(super) fn query(&self, more: &[(&str, &str)]) -> String {
        let mut query = String::new();
        for (name, value) in self.fields().chain(more.iter().copied()) {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(name);
            query.push('=');
            escape(value, &mut query);
        }
        query
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = [
            ("state", &self.state),
            ("upstream", &self.upstream),
            ("key", &self.key),
            ("reason", &self.reason),
            ("since", &self.since),
            ("until", &self.until),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)))
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}
