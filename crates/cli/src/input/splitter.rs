//! Bytes to lines, in bounded memory: of a line that is longer than the limit the rest is counted, not kept.

/// Cuts a stream into lines at `\n`, whatever the pieces in which it comes.
#[derive(Debug)]
pub(crate) struct Splitter {
    limit: usize,
    /// The line that has begun.
    line: Vec<u8>,
    /// Bytes of it beyond the limit.
    dropped: u64,
}

impl Splitter {
    /// Keeps at most `limit` bytes of a line.
    pub(crate) fn new(limit: usize) -> Splitter {
        Splitter { limit, line: Vec::new(), dropped: 0 }
    }

    /// Calls `each` with every line that `bytes` completes, without its newline, and how many bytes it lost.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], u64)) {
        while let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            if self.line.is_empty() && at <= self.limit {
                each(&bytes[..at], 0);
            } else {
                self.keep(&bytes[..at]);
                self.end(&mut each);
            }
            bytes = &bytes[at + 1..];
        }
        self.keep(bytes);
    }

    /// The last line, if it did not end with a newline.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(&[u8], u64)) {
        if !self.line.is_empty() {
            self.end(&mut each);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.line.len());
        let kept = &bytes[..bytes.len().min(room)];
        self.line.extend_from_slice(kept);
        self.dropped += (bytes.len() - kept.len()) as u64;
    }

    fn end(&mut self, each: &mut impl FnMut(&[u8], u64)) {
        each(&self.line, self.dropped);
        self.line.clear();
        self.dropped = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(limit: usize, pieces: &[&str]) -> Vec<(String, u64)> {
        let mut splitter = Splitter::new(limit);
        let mut lines = Vec::new();
        let mut each = |line: &[u8], dropped| lines.push((String::from_utf8(line.to_vec()).unwrap(), dropped));
        for piece in pieces {
            splitter.feed(piece.as_bytes(), &mut each);
        }
        splitter.finish(&mut each);
        lines
    }

    #[test]
    fn lines_do_not_depend_on_the_pieces() {
        let expected: Vec<_> = ["one", "", "two\r", "last"].map(|line| (line.to_owned(), 0)).into();
        assert_eq!(split(10, &["one\n\ntwo\r\nlast"]), expected);
        assert_eq!(split(10, &["o", "ne", "\n", "\nt", "wo\r\nla", "st"]), expected);
        assert_eq!(split(10, &["one\n\ntwo\r\nlast\n"]), expected);
    }

    #[test]
    fn a_long_line_is_cut_and_counted() {
        let expected = vec![("abcd".to_owned(), 3), ("x".to_owned(), 0)];
        assert_eq!(split(4, &["abcdefg\nx"]), expected);
        assert_eq!(split(4, &["ab", "cde", "fg", "\nx\n"]), expected);
        assert_eq!(split(4, &["abcd\n"]), [("abcd".to_owned(), 0)]);
    }
}
