//! A bitmap, one bit a row, least significant first: the layout that Arrow uses too.

/// Bits of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    /// `len` bits, all set or none.
    #[must_use]
    pub fn filled(len: usize, value: bool) -> Self {
        let mut bits = Self { bytes: vec![if value { 0xFF } else { 0 }; len.div_ceil(8)], len };
        bits.clear_spare();
        bits
    }

    /// From packed bytes; bits past `len` are ignored. None where there are too few bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], len: usize) -> Option<Self> {
        let mut bits = Self { bytes: bytes.get(..len.div_ceil(8))?.to_vec(), len };
        bits.clear_spare();
        Some(bits)
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Are there no rows?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The packed bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A row's bit; false past the end.
    #[must_use]
    pub fn get(&self, row: usize) -> bool {
        row < self.len && self.bytes[row / 8] & (1 << (row % 8)) != 0
    }

    /// How many are set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bytes.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// One row more.
    pub fn push(&mut self, value: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if value {
            self.bytes[self.len / 8] |= 1 << (self.len % 8);
        }
        self.len += 1;
    }

    /// Changes a row's bit; nothing past the end.
    pub fn set(&mut self, row: usize, value: bool) {
        if row < self.len {
            let bit = 1 << (row % 8);
            if value { self.bytes[row / 8] |= bit } else { self.bytes[row / 8] &= !bit }
        }
    }

    /// Rows until there are `len`.
    pub fn extend_to(&mut self, len: usize, value: bool) {
        while self.len < len && !self.len.is_multiple_of(8) {
            self.push(value);
        }
        if self.len < len {
            self.bytes.resize(len.div_ceil(8), if value { 0xFF } else { 0 });
            self.len = len;
            self.clear_spare();
        }
    }

    /// The first `len` rows only.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.bytes.truncate(len.div_ceil(8));
            self.len = len;
            self.clear_spare();
        }
    }

    /// Bits past the end are zero, so that counting and comparing need no mask.
    fn clear_spare(&mut self) {
        self.bytes.truncate(self.len.div_ceil(8));
        if let (Some(last), rest @ 1..) = (self.bytes.last_mut(), self.len % 8) {
            *last &= (1 << rest) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_a_list_of_bools(steps in prop::collection::vec((0_usize..3, 0_usize..40, any::<bool>()), 0..40)) {
            let (mut bits, mut model) = (Bits::default(), Vec::new());
            for (step, len, value) in steps {
                match step {
                    0 => { bits.push(value); model.push(value); }
                    1 => { bits.extend_to(len, value); while model.len() < len { model.push(value); } }
                    _ => { bits.truncate(len); model.truncate(len); }
                }
            }
            prop_assert_eq!(bits.len(), model.len());
            prop_assert_eq!(bits.count(), model.iter().filter(|bit| **bit).count());
            for (row, bit) in model.iter().enumerate() { prop_assert_eq!(bits.get(row), *bit); }
            prop_assert!(!bits.get(model.len()));
            prop_assert_eq!(Bits::from_bytes(bits.as_bytes(), bits.len()), Some(bits));
        }
    }
}
