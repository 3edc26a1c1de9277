//! What we were told.
//!
//! Promises: every problem of a config is found in one go, with its place and a way out; what `load` returns is complete,
//! within its bounds and free of contradictions. Never: shows a secret, starts anything, changes anything.
//!
//! The way of a config: `source` (files) -> `parse` (a tree that remembers places) -> `interpolate` (secrets) -> `resolve`
//! (layers, with `dialects`) -> `read` (the model, by `de`) -> `validate` (what no single value shows). `problem`, `mask` and `render` tell
//! what is wrong; `unbuilt` lists what is still to come.

pub mod model;

mod de;
pub mod defaults;
mod dialects;
mod explain;
mod interpolate;
mod load;
mod mask;
mod origins;
mod parse;
pub mod pem;
mod problem;
mod read;
mod render;
mod resolve;
mod restart;
mod schema;
mod scrub;
mod shown;
mod source;
mod text;
mod tree;
mod unbuilt;
mod validate;
pub mod watch;

pub use self::dialects::without_secrets;
pub use self::load::{Loaded, load, load_text, load_text_ahead, load_text_with};
pub use self::model::*;
pub use self::origins::{Origins, SetBy};
pub use self::problem::{Kind, Problem, Problems, Severity};
pub use self::read::nearest;
pub use self::render::render;
pub use self::schema::{SCHEMA, schema};
pub use self::shown::Shown;
pub use self::source::Place;
