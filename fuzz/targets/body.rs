//! A request's body on the wire. Its first byte chooses an encoding and the size of the pieces in which it comes.
#![no_main]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::StreamBody;
use libfuzzer_sys::fuzz_target;
use runstone_server::http::{Admission, BodyLimits, body};

const DECODED_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let mut headers = HeaderMap::new();
    let encoding = [None, Some("gzip"), Some("zstd")][usize::from(choice % 3)];
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    let pieces = data.chunks(1 << (choice / 3 % 12)).map(|piece| {
        Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::copy_from_slice(piece)))
    });
    let body = StreamBody::new(futures::stream::iter(pieces.collect::<Vec<_>>()));
    let limits = BodyLimits { decoded_bytes_max: DECODED_BYTES_MAX, ..BodyLimits::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let read = runtime.block_on(body::read(&headers, body, &limits, &Admission::new(8 << 20, Default::default())));
    if let Ok(payload) = read {
        assert!(!payload.bytes.is_empty() && payload.bytes.len() <= DECODED_BYTES_MAX);
    }
});
