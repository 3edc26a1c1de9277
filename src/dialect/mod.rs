//! What an API's answers mean: dialects are data, read from TOML files; this is their reader.

mod ask;
mod meaning;
mod stream;
mod words;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

pub use ask::{Asked, Place};
use http::HeaderName;
pub use meaning::{Head, Meaning, Ruling, Scope};
pub use stream::{Event, Form, Kind, Reader};
pub use words::{Acceptance, Refusal, Spoken};

/// How one API speaks: compiled from its file, shared by all that speak it.
#[derive(Debug)]
pub struct Dialect {
    name: String,
}

static GENERIC: LazyLock<Arc<Dialect>> = LazyLock::new(|| Arc::new(Dialect { name: "generic".to_owned() }));

impl Dialect {
    /// HTTP as its standards have it, and nothing beyond.
    #[must_use]
    pub fn generic() -> Arc<Self> {
        Arc::clone(&GENERIC)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether bodies or streams are ever looked into: the upstream is asked not to compress then.
    #[must_use]
    pub fn reads_bodies(&self) -> bool {
        false
    }

    /// What an answer means, as far as its head tells.
    #[must_use]
    pub fn of_head(&self, head: &Head<'_>) -> Ruling {
        Ruling::Known(Meaning::generic(head))
    }

    /// What an answer means whose body is read so far; `whole`: no more comes, or no more is read. `None`: more of it has
    /// to be read, never if it is whole.
    #[must_use]
    pub fn of_body(&self, head: &Head<'_>, body: &[u8], whole: bool) -> Option<Meaning> {
        let _ = (body, whole);
        Some(Meaning::generic(head))
    }

    /// The header under which the API acts once.
    #[must_use]
    pub fn idempotency_header(&self) -> Option<&HeaderName> {
        static KEY: HeaderName = HeaderName::from_static("idempotency-key");
        Some(&KEY)
    }

    /// Whether the API lets this method and path be sent twice without harm.
    #[must_use]
    pub fn repeats(&self, method: &str, path: &str) -> bool {
        let _ = (method, path);
        false
    }

    /// Whether [`Dialect::find`] needs a request's body for this.
    #[must_use]
    pub fn finds_in_body(&self, place: Place) -> bool {
        let _ = place;
        false
    }

    /// What a request names at a place: its recipient, its model, what orders it. `None` if it names none.
    #[must_use]
    pub fn find(&self, place: Place, asked: &Asked<'_>) -> Option<String> {
        let _ = (place, asked);
        None
    }

    /// Header fields that are credentials, beyond those that always are.
    #[must_use]
    pub fn secret_headers(&self) -> &[HeaderName] {
        &[]
    }

    /// A path (and query) as it may be shown: what is secret in it is `***`.
    #[must_use]
    pub fn masked<'p>(&self, path: &'p str) -> Cow<'p, str> {
        Cow::Borrowed(path)
    }

    /// Whether its streams of this form tell their end, so that one that just stops is known to be cut.
    #[must_use]
    pub fn has_end_mark(&self, form: Form) -> bool {
        let _ = form;
        false
    }

    /// Fender's own answer in the API's words; `None`: it has none of its own.
    #[must_use]
    pub fn refusal(&self, refusal: &Refusal<'_>) -> Option<Spoken> {
        let _ = refusal;
        None
    }

    /// The event that tells a client of a stream that it failed; `None`: there is none that a client could read.
    #[must_use]
    pub fn error_event(&self, form: Form, refusal: &Refusal<'_>) -> Option<bytes::Bytes> {
        let _ = (form, refusal);
        None
    }

    /// What to say to the API's own clients beside an upstream's failure that is passed on after Fender has tried: they are
    /// not to multiply the tries.
    #[must_use]
    pub fn given_up(&self) -> Option<(HeaderName, http::HeaderValue)> {
        None
    }

    /// The answer to a write that is stored in the API's words; `None`: it has none of its own.
    #[must_use]
    pub fn acceptance(&self, acceptance: &Acceptance<'_>) -> Option<Spoken> {
        let _ = acceptance;
        None
    }
}
