//! Sinks against real targets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed helper is a failed test")]

mod cloudwatch;
mod cluster;
mod console;
mod dynamo;
mod postgres;
mod suite;
