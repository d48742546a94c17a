//! One frame: a payload and the positions of its items. Encodes and decodes; opens nothing.

use bytes::Bytes;

use crate::group;

/// Bytes in front of each payload.
pub(crate) const HEADER: usize = 16;

/// Items appended together, as they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The position of the first item.
    pub first: u64,
    /// How many items, each one position.
    pub items: u32,
    /// The bytes that were appended.
    pub payload: Bytes,
}

impl Frame {
    /// The position of the last item.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.items) - 1
    }
}

/// What a stretch of positions turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Frame(Frame),
    /// Positions whose bytes are damaged.
    Gap {
        first: u64,
        last: u64,
    },
}

fn header_crc(first: u64, len: u32, items: u32) -> u32 {
    let crc = crc32c::crc32c(&first.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &len.to_le_bytes());
    crc32c::crc32c_append(crc, &items.to_le_bytes())
}

pub(crate) fn encode(out: &mut Vec<u8>, first: u64, items: u32, payload: &[u8]) {
    let len = payload.len() as u32;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&items.to_le_bytes());
    out.extend_from_slice(&header_crc(first, len, items).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Splits a group's body into frames. Where the body's own checksum failed (`intact` is false), each frame is checked by
/// its own two, so that only what is really damaged is given up.
pub(crate) fn decode(body: &Bytes, header: &group::Header, intact: bool) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity((header.frames as usize).min(body.len() / HEADER));
    let end = header.first + header.items;
    let (mut at, mut next) = (0usize, header.first);
    for _ in 0..header.frames {
        let Some((len, items, payload_crc)) = decode_header(body, at, next, end) else {
            break;
        };
        let payload = body.slice(at + HEADER..at + HEADER + len);
        let last = next + u64::from(items) - 1;
        if intact || crc32c::crc32c(&payload) == payload_crc {
            pieces.push(Piece::Frame(Frame { first: next, items, payload }));
        } else {
            push_gap(&mut pieces, next, last);
        }
        at += HEADER + len;
        next = last + 1;
    }
    if next < end {
        push_gap(&mut pieces, next, end - 1);
    }
    pieces
}

fn push_gap(pieces: &mut Vec<Piece>, from: u64, to: u64) {
    match pieces.last_mut() {
        Some(Piece::Gap { last, .. }) if *last + 1 == from => *last = to,
        _ => pieces.push(Piece::Gap { first: from, last: to }),
    }
}

/// The payload's length, item count and checksum, if the header at `at` is sound and fits.
fn decode_header(body: &[u8], at: usize, first: u64, end: u64) -> Option<(usize, u32, u32)> {
    let head = body.get(at..at.checked_add(HEADER)?)?;
    let (len, items) = (group::u32_at(head, 0), group::u32_at(head, 4));
    let sound = group::u32_at(head, 8) == header_crc(first, len, items)
        && items > 0
        && u64::from(items) <= end.saturating_sub(first)
        && len as usize <= body.len() - at - HEADER;
    sound.then(|| (len as usize, items, group::u32_at(head, 12)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::group::{Builder, Header, Seed};

    fn built(payloads: &[Vec<u8>]) -> (Header, Bytes) {
        let seed = Seed::new(uuid::Uuid::nil(), 1, 1);
        let mut builder = Builder::default();
        builder.start(10);
        for payload in payloads {
            builder.push(2, payload);
        }
        builder.finish();
        let bytes = builder.place(seed, 1024, 1024, 1).to_vec();
        let header = Header::decode(&bytes, seed, 1024).unwrap();
        (header, Bytes::from(bytes).slice(group::HEADER..))
    }

    fn positions(pieces: &[Piece]) -> Vec<(u64, u64)> {
        let range = |piece: &Piece| match piece {
            Piece::Frame(frame) => (frame.first, frame.last()),
            Piece::Gap { first, last } => (*first, *last),
        };
        pieces.iter().map(range).collect()
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20)) {
            let (header, body) = built(&payloads);
            prop_assert_eq!(u64::from(header.body_len) + 64, header.total_len());
            for intact in [true, false] {
                let pieces = decode(&body, &header, intact);
                let read: Vec<_> = pieces.iter().map(|piece| match piece {
                    Piece::Frame(frame) => frame.payload.to_vec(),
                    Piece::Gap { .. } => panic!("gap"),
                }).collect();
                prop_assert_eq!(&read, &payloads);
            }
        }

        #[test]
        fn whatever_happened_to_a_body_every_position_is_accounted_for_once(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..10),
            noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
            cut: prop::sample::Index,
        ) {
            let (header, body) = built(&payloads);
            let mut bytes = body.to_vec();
            for (at, byte) in noise {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.index(bytes.len() + 1));
            let mut next = header.first;
            for (first, last) in positions(&decode(&bytes.into(), &header, false)) {
                prop_assert_eq!(first, next);
                prop_assert!(last >= first);
                next = last + 1;
            }
            prop_assert_eq!(next, header.next());
        }
    }
}
