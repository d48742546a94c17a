//! Upkeep of real tables, on storage that fails where it is told to.
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::redundant_closure_for_method_calls,
    reason = "small numbers of a test"
)]

mod clean;
mod crash;
mod merge;
mod power;
mod store;
mod world;
