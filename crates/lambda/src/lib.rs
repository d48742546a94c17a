//! Functions for AWS Lambda, each a slim binary. Owns what a function does with an event; refuses to know the clock and the
//! environment: its `main` has them.

#[cfg(feature = "logger")]
pub mod logger;
