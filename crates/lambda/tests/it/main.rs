//! The Logger's binary, run by a stand-in of Lambda, with moto's DynamoDB and Secrets Manager behind it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed helper is a failed test")]

mod docs;
mod lambda;
mod logger;
#[allow(dead_code, reason = "the tests of the sinks do more with it")]
#[path = "../../../sinks/tests/it/dynamo/moto.rs"]
mod moto;
#[allow(dead_code, reason = "the tests of the sinks do more with it")]
#[path = "../../../sinks/tests/it/dynamo/proxy.rs"]
mod proxy;
mod terraform;
