//! What an API's answers mean: dialects are data, read from TOML files; this is their reader.
//!
//! A file becomes a [`Spec`], and that a [`Dialect`], checked whole. Promises: what is said of the beginning of a body holds
//! for all of it; a stream cut anywhere is read alike; no body, stream or file makes it panic. Never: does I/O, keeps a body.

pub mod builtin;
pub mod scan;

mod accept;
mod ask;
mod envelope;
mod events;
mod facts;
mod fault;
mod gen_ai;
mod mask;
mod meaning;
mod pattern;
mod rules;
mod spec;
mod stream;
mod template;
mod told;
mod values;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use ask::{Asked, Place};
pub use fault::{At, Fault};
pub use gen_ai::Listener;
use http::HeaderName;
pub use meaning::{Head, Meaning, Ruling, Scope};
pub use spec::Spec;
pub use stream::{EVENT_MAX, Event, Form, Kind, Reader};
pub use told::Told;
pub use words::{Acceptance, Refusal, Spoken};

use accept::Accepted;
use ask::Places;
use envelope::Envelope;
use events::{Events, Written};
use facts::Questions;
use fault::Faults;
use gen_ai::Tellers;
use rules::Rules;
use scan::Pointers;

/// How one API speaks: compiled from its file, shared by all that speak it.
pub struct Dialect {
    name: String,
    spec: Spec,
    masked_headers: Vec<HeaderName>,
    questions: Questions,
    rules: Rules,
    events: Events,
    places: Places,
    envelope: Envelope,
    accepted: Vec<Accepted>,
    tellers: Arc<Tellers>,
}

/// By name and file: what is compiled follows from them.
impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.spec == other.spec
    }
}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialect({})", self.name)
    }
}

impl Dialect {
    /// Compiles a file that was read, or tells all that is wrong with it.
    ///
    /// # Errors
    /// Each with its place.
    pub fn compile(name: &str, spec: Spec) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let compiled = Self::build(name, spec, &mut faults);
        if faults.0.is_empty() { Ok(compiled) } else { Err(faults.0) }
    }

    fn build(name: &str, spec: Spec, faults: &mut Faults) -> Self {
        let mut questions = Questions::default();
        for (name, pointers) in &spec.field {
            for (number, pointer) in pointers.iter().enumerate() {
                if let Err(why) = Pointers::default().add(pointer) {
                    faults.tell(fault::way!["field", name, number], why.to_string(), "");
                }
            }
        }
        Self {
            name: name.to_owned(),
            masked_headers: spec.masked_headers.iter().filter_map(|name| name.0.clone()).collect(),
            rules: Rules::compile(&spec, &mut questions, faults),
            events: Events::compile(&spec, &mut questions, faults),
            places: Places::compile(&spec, faults),
            envelope: Envelope::compile(&spec, faults),
            accepted: Accepted::compile(&spec, faults),
            tellers: Arc::new(Tellers::compile(&spec.gen_ai, faults)),
            questions,
            spec,
        }
    }

    /// One that knows nothing but HTTP.
    fn silent(name: &str) -> Self {
        Self::build(name, Spec::default(), &mut Faults::default())
    }

    /// HTTP as its standards have it, and nothing beyond.
    #[must_use]
    pub fn generic() -> Arc<Self> {
        builtin::dialect("generic").unwrap_or_else(|| Arc::new(Self::silent("generic")))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line about it.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.spec.about
    }

    /// Whether `dialect = "auto"` takes it for a URL of this host.
    #[must_use]
    pub fn is_of(&self, host: &str) -> bool {
        self.spec.hosts.iter().any(|one| one.is(host))
    }

    /// Whether bodies or streams are ever looked into: the upstream is asked not to compress then.
    #[must_use]
    pub fn reads_bodies(&self) -> bool {
        self.rules.read_bodies() || self.events.read()
    }

    /// What an answer means, as far as its head tells.
    #[must_use]
    pub fn of_head(&self, head: &Head<'_>) -> Ruling {
        self.rules.of_head(head)
    }

    /// What an answer means whose body is read so far; `whole`: no more comes, or no more is read. `None`: more of it has
    /// to be read, never if it is whole.
    #[must_use]
    pub fn of_body(&self, head: &Head<'_>, body: &[u8], whole: bool) -> Option<Meaning> {
        let meaning = self.rules.of_body(&self.questions, head, body, whole);
        meaning.or_else(|| whole.then(|| Meaning::generic(head)))
    }

    /// The header under which the API acts once.
    #[must_use]
    pub fn idempotency_header(&self) -> Option<&HeaderName> {
        self.spec.idempotency_header.0.as_ref()
    }

    /// Whether the API lets this method and path be sent twice without harm.
    #[must_use]
    pub fn repeats(&self, method: &str, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        self.spec.repeatable.iter().any(|one| one.method == method && one.path.fits(path))
    }

    /// Whether [`Dialect::find`] needs a request's body for this.
    #[must_use]
    pub fn finds_in_body(&self, place: Place) -> bool {
        self.places.are_in_body(place)
    }

    /// What a request names at a place: its recipient, its model, what orders it. `None` if it names none.
    #[must_use]
    pub fn find(&self, place: Place, asked: &Asked<'_>) -> Option<String> {
        self.places.find(place, asked)
    }

    /// Header fields that are credentials, beyond those that always are.
    #[must_use]
    pub fn secret_headers(&self) -> &[HeaderName] {
        &self.masked_headers
    }

    /// A path (and query) as it may be shown: what is secret in it is `***`.
    #[must_use]
    pub fn masked<'p>(&self, path: &'p str) -> Cow<'p, str> {
        mask::masked(path, &self.spec.masked_paths, &self.spec.masked_query)
    }

    /// What of a path (and query) is secret: it tells one caller from the next.
    #[must_use]
    pub fn secrets_in(&self, path: &str) -> Vec<String> {
        mask::secrets(path, &self.spec.masked_paths, &self.spec.masked_query)
    }

    /// Whether its streams of this form tell their end, so that one that just stops is known to be cut.
    #[must_use]
    pub fn has_end_mark(&self, form: Form) -> bool {
        self.events.have_end(form)
    }

    /// Fender's own answer in the API's words; `None`: it has none of its own.
    #[must_use]
    pub fn refusal(&self, refusal: &Refusal<'_>) -> Option<Spoken> {
        self.envelope.refusal(refusal)
    }

    /// The event that tells a client of a stream that it failed; `None`: there is none that a client could read.
    #[must_use]
    pub fn error_event(&self, form: Form, refusal: &Refusal<'_>) -> Option<bytes::Bytes> {
        self.envelope.event(form, refusal)
    }

    /// What to say to the API's own clients beside an upstream's failure that is passed on after Fender has tried: they are
    /// not to multiply the tries.
    #[must_use]
    pub fn given_up(&self) -> Option<(HeaderName, http::HeaderValue)> {
        self.envelope.given_up()
    }

    /// The answer to a write that is stored in the API's words; `None`: it has none of its own.
    #[must_use]
    pub fn acceptance(&self, acceptance: &Acceptance<'_>) -> Option<Spoken> {
        // The method may stand before the path.
        let path = acceptance.path.rsplit(' ').next().unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        self.accepted.iter().find(|accepted| accepted.is_for(path)).map(|accepted| accepted.speak(acceptance))
    }

    /// Whose models a path asks, and for what, in OpenTelemetry's words; `None`: it asks none.
    #[must_use]
    pub fn gen_ai(&self, path: &str) -> Option<(&str, &str)> {
        let spec = &self.spec.gen_ai;
        let fits = |path: &str| spec.operation.iter().find(|one| one.path.iter().any(|own| own.fits(path)));
        let operation = fits(path).filter(|_| !spec.provider.is_empty())?;
        Some((spec.provider.as_str(), operation.name.as_str()))
    }

    /// To follow an answer in which a model tells what it took.
    #[must_use]
    pub fn listener(&self) -> Listener {
        Listener::new(&self.tellers)
    }

    /// What an event of a stream is.
    fn judge(&self, event: Written<'_>) -> (Kind, Option<Meaning>) {
        self.events.judge(&self.questions, &self.rules, event)
    }
}
