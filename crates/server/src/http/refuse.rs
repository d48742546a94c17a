//! Turning a connection away so that its client hears why. Owns the last bytes of a connection; refuses to read a
//! request.

use std::time::Duration;

use runstone_record::ErrorCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::http::ApiError;
use crate::http::request_id::RequestId;

/// How long a client may go on sending after its answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of it is thrown away.
const LINGER_BYTES_MAX: usize = 64 << 20;
/// How long a client that is turned away may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
const DISCARD_BYTES: usize = 16 << 10;

/// Ends a connection whose client may still be sending. Closing with unread bytes would reset the connection, and a
/// reset takes the answer with it.
pub(super) async fn linger(stream: TcpStream) {
    discard(stream, Instant::now() + LINGER_TIMEOUT).await;
}

async fn discard(mut stream: TcpStream, deadline: Instant) {
    // A client that is gone already needs nothing more.
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut bytes = vec![0; DISCARD_BYTES];
    let mut discarded = 0;
    while discarded < LINGER_BYTES_MAX {
        match timeout_at(deadline, stream.read(&mut bytes)).await {
            Ok(Ok(count)) if count > 0 => discarded += count,
            _ => return,
        }
    }
}

/// Answers a connection for which there is no place, whatever it is about to ask.
pub(super) async fn refuse(mut stream: TcpStream, id: &RequestId) {
    let error = ApiError::new(ErrorCode::Unavailable, "serve as many connections as allowed: come back in a moment");
    let answer = last_words(&error, id, "retry-after: 1\r\n");
    let deadline = Instant::now() + REFUSAL_TIMEOUT;
    if let Ok(Ok(())) = timeout_at(deadline, stream.write_all(&answer)).await {
        discard(stream, deadline).await;
    }
}

/// A whole answer, after which the connection ends.
pub(super) fn last_words(error: &ApiError, id: &RequestId, more: &str) -> Vec<u8> {
    let body = error.to_json(id.as_str());
    let (status, length) = (error.status(), body.len());
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nx-request-id: {}\r\n\
         {more}connection: close\r\n\r\n",
        id.as_str()
    );
    [head.as_bytes(), &body].concat()
}
