//! HTTP without a word about records: connections and their limits, bodies and their encodings, errors and their shape.
//! Refuses to know routes: they come in as an [`axum::Router`].
//!
//! A request's way: [`serve`] accepts and guards the connection → [`layers`] name it, count it and catch panics →
//! the route's handler → [`body::read`] under an [`admission::Admission`] → an answer or an [`error::ApiError`].

pub(crate) mod accept;
pub mod admission;
pub mod answers;
pub mod body;
mod compress;
mod connection;
mod connections;
pub mod content;
mod cors;
mod decode;
pub mod error;
pub mod etag;
pub mod layers;
mod own_words;
mod refuse;
pub mod request_id;
mod rlimit;
pub mod serve;

pub use admission::{Admission, Reservation};
pub use answers::Answers;
pub use body::{BodyLimits, Payload};
pub use connection::Peer;
pub use content::MediaType;
pub use error::ApiError;
pub use request_id::{RequestId, RequestIds};
pub use serve::{ServeOptions, Served};
