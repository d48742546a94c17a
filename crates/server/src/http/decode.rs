//! Bytes as sent → bytes as meant, with the limit inside: not a byte more than allowed is ever written, whatever the
//! input claims. Owns gzip, zstd and the growing of the buffer; refuses to read from a network.

use std::io::{self, Write};

use flate2::write::GzDecoder;
use runstone_record::ErrorCode;

use crate::http::content::Encoding;
use crate::http::{ApiError, Reservation};

/// log2 of the largest zstd window that is taken: 8 MiB, what RFC 8878 §3.1.1.1.2 asks of a decoder. The window's
/// memory is only touched as output is written, which the decoded limit bounds.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Members of one gzip body: block-wise writers make one each 64 KiB; more is work without content.
const GZIP_MEMBERS_MAX: usize = 4_096;
/// zstd's own words, the only way to tell this failure from damage. A test holds it to them.
const ZSTD_WINDOW_ERROR: &str = "Frame requires too much memory for decoding";
/// The smallest buffer worth asking for.
const BUFFER_BYTES_MIN: usize = 16 << 10;
/// The buffer grows to this many times of what it must hold: large enough to be copied seldom, small enough that a
/// client can't claim memory by a Content-Length that it never sends.
const BUFFER_GROWTH: usize = 4;

/// Where decoded bytes go: a buffer that is paid for from the admission before it grows, up to a limit.
#[derive(Debug)]
pub(super) struct Sink {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// What the client said that the decoded length is, if it did: the buffer never outgrows it.
    expected: Option<usize>,
    reservation: Reservation,
    refused: Option<ApiError>,
}

impl Sink {
    pub(super) fn new(bytes_max: usize, expected: Option<usize>, reservation: Reservation) -> Self {
        Self { bytes: Vec::new(), bytes_max, expected, reservation, refused: None }
    }

    pub(super) fn into_parts(self) -> (Vec<u8>, Reservation) {
        (self.bytes, self.reservation)
    }

    fn make_room(&mut self, more: usize) -> Result<(), ApiError> {
        let needed = self.bytes.len().saturating_add(more);
        if needed > self.bytes_max {
            let message = format!("send less: the decoded body has more than {} bytes", self.bytes_max);
            return Err(ApiError::new(ErrorCode::BodyTooLarge, message));
        }
        if needed > self.bytes.capacity() {
            let ceiling = self.expected.unwrap_or(self.bytes_max).clamp(needed, self.bytes_max);
            let capacity = needed.saturating_mul(BUFFER_GROWTH).max(BUFFER_BYTES_MIN).min(ceiling);
            self.reservation.grow(capacity.saturating_sub(self.reservation.bytes()))?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.make_room(more.len()) {
            self.refused = Some(error);
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A decoder that is pushed what arrives.
pub(super) enum Decoder {
    Identity(Sink),
    Gzip(Box<Gzip>),
    Zstd(zstd::stream::write::Decoder<'static, Sink>),
}

/// Members one after another. flate2's own multi-member writer has no limit on their number.
pub(super) struct Gzip {
    /// `None` only while one member's decoder becomes the next one's.
    member: Option<GzDecoder<Sink>>,
    members: usize,
}

impl Decoder {
    pub(super) fn new(encoding: Encoding, sink: Sink) -> Result<Self, ApiError> {
        match encoding {
            Encoding::Identity => Ok(Self::Identity(sink)),
            Encoding::Gzip => Ok(Self::Gzip(Box::new(Gzip { member: Some(GzDecoder::new(sink)), members: 1 }))),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(sink).map_err(|error| internal(&error))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| internal(&error))?;
                Ok(Self::Zstd(decoder))
            }
        }
    }

    /// Decodes what has arrived.
    pub(super) fn push(&mut self, input: &[u8]) -> Result<(), ApiError> {
        let pushed = match self {
            Self::Identity(sink) => sink.write_all(input),
            Self::Gzip(gzip) => gzip.push(input),
            Self::Zstd(decoder) => decoder.write_all(input),
        };
        pushed.map_err(|error| self.failure(&error))
    }

    /// Checks that the input was whole and returns what it decoded to.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Reservation), ApiError> {
        let finished = match &mut self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(gzip) => gzip.try_finish(),
            Self::Zstd(decoder) => decoder.do_finish(),
        };
        finished.map_err(|error| self.failure(&error))?;
        match self {
            Self::Identity(sink) => Ok(sink.into_parts()),
            Self::Gzip(gzip) => gzip.into_sink().map(Sink::into_parts).map_err(|error| internal(&error)),
            Self::Zstd(decoder) => Ok(decoder.into_inner().into_parts()),
        }
    }

    fn failure(&mut self, error: &io::Error) -> ApiError {
        let (refused, name) = match self {
            Self::Identity(sink) => (sink.refused.take(), "identity"),
            Self::Gzip(gzip) => (gzip.member.as_mut().and_then(|member| member.get_mut().refused.take()), "gzip"),
            Self::Zstd(decoder) => (decoder.get_mut().refused.take(), "zstd"),
        };
        if let Some(refused) = refused {
            return refused;
        }
        if matches!(self, Self::Zstd(_)) && error.to_string().contains(ZSTD_WINDOW_ERROR) {
            let message = format!("compress with a window of at most {} bytes", 1_u64 << ZSTD_WINDOW_LOG_MAX);
            return ApiError::new(ErrorCode::BodyTooLarge, message);
        }
        ApiError::new(ErrorCode::InvalidEncoding, format!("send whole and undamaged {name}: {error}"))
    }
}

impl Gzip {
    fn push(&mut self, mut input: &[u8]) -> io::Result<()> {
        while !input.is_empty() {
            let Some(member) = &mut self.member else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let taken = match member.write(input) {
                Ok(0) => {
                    // The member has ended; what follows is the next one.
                    self.members += 1;
                    if self.members > GZIP_MEMBERS_MAX {
                        return Err(io::Error::other(format!("more than {GZIP_MEMBERS_MAX} members")));
                    }
                    let ended = self.member.take().ok_or(io::ErrorKind::InvalidInput)?;
                    let mut next = GzDecoder::new(ended.finish()?);
                    let taken = next.write(input);
                    self.member = Some(next);
                    taken?
                }
                taken => taken?,
            };
            input = input.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    fn try_finish(&mut self) -> io::Result<()> {
        self.member.as_mut().map_or(Ok(()), GzDecoder::try_finish)
    }

    fn into_sink(self) -> io::Result<Sink> {
        self.member.ok_or(io::ErrorKind::InvalidInput)?.finish()
    }
}

fn internal(error: &io::Error) -> ApiError {
    tracing::error!(%error, "set up a decoder");
    ApiError::new(ErrorCode::Internal, "failed to set up a decoder")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Admission;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    const DECODED_BYTES_MAX: usize = 1 << 20;

    fn decode(encoding: Encoding, input: &[u8], step: usize) -> Result<Vec<u8>, ErrorCode> {
        let admission = Admission::new(2 << 20, Default::default());
        let sink = Sink::new(DECODED_BYTES_MAX, None, admission.reservation());
        let mut decoder = Decoder::new(encoding, sink).unwrap();
        let pushed = input.chunks(step).try_for_each(|chunk| decoder.push(chunk));
        let decoded = pushed.and_then(|()| decoder.finish());
        assert!(admission.bytes() <= DECODED_BYTES_MAX);
        decoded.map(|(bytes, _)| bytes).map_err(|error| error.code())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn text() -> Vec<u8> {
        (0..20_000).flat_map(|line: u32| format!("{{\"line\":{line}}}\n").into_bytes()).collect()
    }

    #[test]
    fn what_was_compressed_comes_back_in_any_pieces() {
        for step in [1, 7, 4_096, usize::MAX] {
            assert_eq!(decode(Encoding::Identity, &text(), step), Ok(text()));
            assert_eq!(decode(Encoding::Gzip, &gzip(&text()), step), Ok(text()));
            assert_eq!(decode(Encoding::Zstd, &zstd(&text()), step), Ok(text()));
        }
    }

    #[test]
    fn members_and_frames_one_after_another_are_one_body() {
        for step in [1, 4_096] {
            let members = [gzip(b"ab"), gzip(b""), gzip(b"cd")].concat();
            assert_eq!(decode(Encoding::Gzip, &members, step), Ok(b"abcd".to_vec()));
            let frames = [zstd(b"ab"), zstd(b""), zstd(b"cd")].concat();
            assert_eq!(decode(Encoding::Zstd, &frames, step), Ok(b"abcd".to_vec()));
        }
        let endless = gzip(b"").repeat(GZIP_MEMBERS_MAX + 1);
        assert_eq!(decode(Encoding::Gzip, &endless, 4_096), Err(ErrorCode::InvalidEncoding));
    }

    #[test]
    fn cut_damaged_and_foreign_input_is_refused() {
        for (encoding, whole) in [(Encoding::Gzip, gzip(&text())), (Encoding::Zstd, zstd(&text()))] {
            for cut in [1, 4, whole.len() / 2, whole.len() - 4, whole.len() - 1] {
                assert_eq!(decode(encoding, &whole[..cut], 4_096), Err(ErrorCode::InvalidEncoding), "{cut}");
            }
            let mut damaged = whole.clone();
            let crc = damaged.len() - if encoding == Encoding::Gzip { 8 } else { 4 };
            damaged[crc] ^= 1;
            assert_eq!(decode(encoding, &damaged, 4_096), Err(ErrorCode::InvalidEncoding));
            assert_eq!(decode(encoding, b"{\"message\":\"plain\"}", 4_096), Err(ErrorCode::InvalidEncoding));
            let trailing = [&whole[..], b"trailing"].concat();
            assert_eq!(decode(encoding, &trailing, 4_096), Err(ErrorCode::InvalidEncoding));
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        assert_eq!(decode(Encoding::Gzip, &gzip(&zeros), 4_096), Err(ErrorCode::BodyTooLarge));
        assert_eq!(decode(Encoding::Zstd, &zstd(&zeros), 4_096), Err(ErrorCode::BodyTooLarge));
        assert_eq!(decode(Encoding::Identity, &zeros, 4_096), Err(ErrorCode::BodyTooLarge));
        let whole = vec![0; DECODED_BYTES_MAX];
        assert_eq!(decode(Encoding::Identity, &whole, 4_096), Ok(whole));
    }

    #[test]
    fn a_large_declared_window_is_refused_before_it_is_made() {
        // Magic; a header without content size; a window of 2^(10 + 21) bytes; an empty last block.
        let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        assert_eq!(decode(Encoding::Zstd, &frame, 1), Err(ErrorCode::BodyTooLarge));
        let taken = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 13 << 3, 0x01, 0x00, 0x00];
        assert_eq!(decode(Encoding::Zstd, &taken, 1), Ok(Vec::new()));
    }

    #[test]
    fn the_buffer_is_paid_for_and_never_outgrows_what_was_announced() {
        let admission = Admission::new(100_000, Default::default());
        let mut sink = Sink::new(DECODED_BYTES_MAX, Some(50_000), admission.reservation());
        for _ in 0..5 {
            sink.write_all(&[b'x'; 10_000]).unwrap();
            assert!(admission.bytes() <= 50_000);
        }
        let (bytes, reservation) = sink.into_parts();
        assert_eq!((bytes.len(), reservation.bytes()), (50_000, 50_000));
        let mut other = Sink::new(DECODED_BYTES_MAX, None, admission.reservation());
        assert!(other.write_all(&[b'x'; 50_001]).is_err());
        assert_eq!(other.refused.map(|error| error.code()), Some(ErrorCode::Overloaded));
        drop(reservation);
        assert_eq!(admission.bytes(), 0);
    }
}
