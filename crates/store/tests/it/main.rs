//! The store as the server uses it: frames go in, SQL and pages come out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::type_complexity,
    reason = "a failed helper is a failed test"
)]

mod answers;
mod exports;
mod fields;
mod foreign;
mod hostile;
mod lake;
mod limits;
mod model;
mod pages;
mod positions;
mod settle;
mod shelf;
mod tiers;
mod world;
