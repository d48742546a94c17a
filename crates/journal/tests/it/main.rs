//! The journal from outside: on the real file system and on one that fails and crashes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod basics;
mod crash;
mod damage;
mod faults;
mod golden;
mod support;
mod view;
