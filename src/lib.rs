//! Fender: the resilience proxy that stands beside a service, in front of the APIs that it does not own.
//!
//! # The data path
//!
//! ```text
//! client -> inbound -> proxy: route =[ deadline > retry > budget > admission > attempt timeout ]=> upstream -> service
//!                                |                                (pause, rate limits, seat, breaker)
//!                      fallback <+> deadletter -> replay -> the same proxy
//!
//!      config -> app builds all      telemetry <- everyone      admin -> snapshots, commands
//! ```
//!
//! A request comes in through [`inbound`], which lets nothing pass whose framing is in doubt. [`proxy`] finds its plan in
//! [`route`] and makes attempts through [`upstream`]; what to do after each is decided by [`policy`], which is pure. The
//! answer goes back as it comes; what it means is told by a [`dialect`], the reader of what is known of an API. [`deadletter`] keeps what could not be delivered. [`config`], [`telemetry`] and [`admin`] stand off to the side: traffic flows without them.
//! [`app`] builds the parts and is known to nobody but [`cli`].
//!
//! # Words
//!
//! *request*: what the client sent. *attempt*: one send of it to an upstream. *upstream*: a named external service with its
//! policies. *endpoint*: one of its URLs. *route*: which requests go where. *plan*: all that applies to a route's requests.
//! *exchange*: one request in flight. *leg*: its attempts at one upstream. *admission*: the proof that an attempt may be sent.
//! *seat*: a place in the bulkhead. *pause*: traffic held back at the upstream's word. *outcome*: the classified end of an attempt. *verdict*: what a failed attempt did
//! upstream. *letter*: a write that could not be delivered, on disk. *replay*: a later attempt to deliver it. *reason*: why Fender answered itself. *story*: what was decided about one request, in order. *cut*: a response that ends before its end, visibly.
//!
//! # Invariants
//!
//! Nothing in [`policy`] knows a runtime, a socket, a clock, a log or a lock. A worker's connections are its own. All that
//! is retained is leased from [`memory`]. A reload keeps each upstream whose settings did not change. The admin side can be
//! dead while traffic flows. No secret is in a log, a metric or an error.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod deadletter;
pub mod dialect;
pub mod inbound;
pub mod notify;
pub mod policy;
pub mod proxy;
pub mod replay;
pub mod route;
pub mod telemetry;
pub mod upstream;

pub mod clock;
pub mod drain;
pub mod memory;
pub mod ready;
pub mod units;
