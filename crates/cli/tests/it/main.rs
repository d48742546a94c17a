//! The one end-to-end test binary: the built `runstone`, as users meet it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_sign_loss,
    reason = "a test that panics fails, which is its job"
)]

mod bad_input;
mod cli_help;
mod client;
mod damage;
mod disk;
mod foreign;
mod framing;
mod harness;
mod identity;
mod kills;
mod lake;
mod ledger;
mod levels;
mod loghub_like;
mod offline;
mod oracle;
mod process;
mod proxy;
mod queries;
mod readme;
mod run;
mod send;
mod serve;
mod storage;
mod storage_faults;
mod stores;
mod unreachable;
