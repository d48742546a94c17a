//! Where records go besides the lake: destinations that take the journal's frames at their own pace.
//!
//! Owns the trait that each of them implements ([`Sink`]), what is said of a record that one cannot take ([`DeadLetter`]),
//! the suite that all of them pass (`contract`), and the destinations themselves, a feature each. Refuses to read the
//! journal and to decide when to try again: the caller does both.

#[cfg(any(feature = "cloudwatch", feature = "dynamo"))]
mod aws;
#[cfg(feature = "cloudwatch")]
pub mod cloudwatch;
#[cfg(feature = "console")]
pub mod console;
#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "dynamo")]
pub mod dynamo;
#[cfg(feature = "postgres")]
pub mod postgres;

#[cfg(any(feature = "cloudwatch", feature = "dynamo", feature = "postgres"))]
mod letters;
mod sink;

#[cfg(any(feature = "cloudwatch", feature = "dynamo", feature = "postgres"))]
pub use letters::{DeadLetters, LetterError, Redelivered};
pub use sink::{Cause, DeadLetter, Delivered, Delivery, Frame, Sink, SinkError};
