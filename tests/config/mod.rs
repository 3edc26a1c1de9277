//! What a config may say, and what is said about a bad one.

mod broken;
mod dialects;
mod examples;
mod files;
mod origins;
mod policies;
mod precedence;
mod problems;
mod reload;
mod schema;
mod secrets;
mod urls;
