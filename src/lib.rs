//! Fender: the resilience proxy that stands beside a service.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod drain;
pub mod inbound;
pub mod memory;
pub mod policy;
pub mod proxy;
pub mod ready;
pub mod route;
pub mod telemetry;
pub mod units;
pub mod upstream;
