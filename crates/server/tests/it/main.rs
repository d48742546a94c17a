//! The one integration test binary of the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod http;
mod support;
