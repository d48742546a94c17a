//! The lake on real directories, and on storage that fails.
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::redundant_closure_for_method_calls,
    reason = "small numbers of a test"
)]

mod bench;
mod checkpoints;
mod commits;
mod copies;
mod damage;
mod faults;
mod fetch;
mod files;
mod flips;
mod flush;
mod full;
mod local;
pub(super) mod machine;
pub(super) mod power;
mod protocols;
pub(crate) mod world;
