//! The one end-to-end test binary: the built `runstone`, as users meet it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_sign_loss,
    reason = "a test that panics fails, which is its job"
)]

mod absence;
mod ages;
mod bad_input;
mod border;
mod business;
mod cli_help;
mod cli_page;
mod client;
mod cloudwatch;
#[expect(dead_code, reason = "the tests of the sink use all of it")]
#[path = "../../../sinks/tests/it/cluster.rs"]
mod cluster;
mod commands;
mod contract;
mod copies;
mod crowd;
mod damage;
mod dead_letters;
mod directories;
mod disk;
mod dynamo;
mod error_pages;
mod exports;
mod fed;
mod follow;
mod foreign;
mod framing;
mod full;
mod gateway;
mod golden;
mod harness;
mod identity;
mod kills;
mod lake;
mod lake_trouble;
mod ledger;
mod levels;
mod loghub_like;
// A disk with a switch is the same for the lake's own tests and for these.
#[path = "../../../store/src/lake/tests/machine.rs"]
mod machine;
mod manual;
mod metrics;
mod offline;
mod openapi;
mod oracle;
mod parameters;
mod postgres;
mod power;
mod pressure;
mod process;
mod proxy;
mod queries;
mod read_only;
mod readers;
mod readme;
mod run;
mod sdk;
mod send;
mod serve;
mod slow_readers;
mod sql;
mod stalls;
mod stand_in;
mod statements;
mod storage;
mod storage_faults;
mod stores;
mod system_calls;
mod tables;
mod target_runs;
mod terminal;
mod unreachable;
mod writers;
