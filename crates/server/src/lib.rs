//! The service: intake, relay, recent records, runs, the HTTP API and its configuration.

pub mod clock;
pub mod config;
pub mod http;
pub mod metrics;
pub mod telemetry;
