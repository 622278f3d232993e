//! Deterministic CBOR (RFC 8949 section 4.2.1), the subset of P1: unsigned integers, byte and text strings, arrays, maps, null.
//!
//! [`Encoder`] can only write canonical bytes; [`Decoder`] refuses everything else, so that decode → encode gives the same bytes.
//! Both are typed and pull-driven: whoever decodes says what comes next, so depth is bounded by the program, not by the input,
//! and every count is checked against the bytes that are left before anything is allocated.
use crate::error::Error;
use crate::hash::Hash;

/// The longest text that a field may hold unless its definition says otherwise (P3).
pub const MAX_TEXT: usize = 255;

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const NULL: u8 = 0xf6;

/// Writes canonical CBOR into a buffer.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Self {
        Encoder::default()
    }

    /// An empty encoder with room for `size` bytes.
    pub fn with_capacity(size: usize) -> Self {
        Encoder { out: Vec::with_capacity(size) }
    }

    fn head(&mut self, major: u8, value: u64) -> &mut Self {
        let major = major << 5;
        match value {
            0..=23 => self.out.push(major | value as u8),
            24..=0xff => self.out.extend_from_slice(&[major | 24, value as u8]),
            0x100..=0xffff => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&(value as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&(value as u32).to_be_bytes());
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&value.to_be_bytes());
            }
        }
        self
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.head(UINT, value)
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.head(BYTES, value.len() as u64).raw(value)
    }

    /// A text string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.head(TEXT, value.len() as u64).raw(value.as_bytes())
    }

    /// The head of an array; the caller writes `count` items after it.
    pub fn array(&mut self, count: usize) -> &mut Self {
        self.head(ARRAY, count as u64)
    }

    /// The head of a map; the caller writes `count` pairs after it, keys ascending in bytewise order of their encodings.
    pub fn map(&mut self, count: usize) -> &mut Self {
        self.head(MAP, count as u64)
    }

    /// Null.
    pub fn null(&mut self) -> &mut Self {
        self.out.push(NULL);
        self
    }

    /// A byte string, or null.
    pub fn bytes_or_null(&mut self, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(bytes) => self.bytes(bytes),
            None => self.null(),
        }
    }

    /// Bytes that are already canonical CBOR.
    pub fn raw(&mut self, encoded: &[u8]) -> &mut Self {
        self.out.extend_from_slice(encoded);
        self
    }

    /// How many bytes were written.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Reads canonical CBOR from a slice and refuses anything else.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> Decoder<'a> {
    /// A decoder at the start of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Decoder { data, position: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Whether everything was read.
    pub fn is_at_end(&self) -> bool {
        self.position == self.data.len()
    }

    /// The bytes between two positions, for hashing a part as it was received.
    pub fn between(&self, start: usize, end: usize) -> &'a [u8] {
        &self.data[start..end]
    }

    fn error<T>(&self, what: &str) -> Result<T, Error> {
        Err(Error::malformed(format!(
            "{what} at byte {}; send deterministic CBOR (RFC 8949 section 4.2.1) as in docs/cityid.cddl",
            self.position
        )))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let left = &self.data[self.position..];
        if left.len() < count {
            return self.error("the data ends too early");
        }
        self.position += count;
        Ok(&left[..count])
    }

    fn argument(&mut self, info: u8) -> Result<u64, Error> {
        let (value, least) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (u64::from(self.take(1)?[0]), 24),
            25 => (self.take(2)?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)), 0x100),
            26 => (self.take(4)?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)), 0x1_0000),
            27 => (self.take(8)?.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)), 0x1_0000_0000),
            _ => return self.error("an indefinite or reserved length"),
        };
        if value < least {
            return self.error("a number that is not in its shortest form");
        }
        if value > i64::MAX as u64 {
            return self.error("a number above 2^63 - 1");
        }
        Ok(value)
    }

    fn head(&mut self, major: u8, what: &str) -> Result<u64, Error> {
        match self.data.get(self.position) {
            Some(byte) if byte >> 5 == major => {
                self.position += 1;
                self.argument(byte & 0x1f)
            }
            Some(_) => self.error(&format!("{what} expected, something else found")),
            None => self.error(&format!("{what} expected, the data ends")),
        }
    }

    fn length(&mut self, major: u8, what: &str, limit: usize) -> Result<usize, Error> {
        let length = self.head(major, what)?;
        let left = self.data.len() - self.position;
        if length > limit as u64 {
            return self.error(&format!("{what} of {length}, more than the limit of {limit},"));
        }
        if length > left as u64 {
            return self.error("the data ends too early");
        }
        Ok(length as usize)
    }

    /// An unsigned integer below 2^63.
    pub fn uint(&mut self) -> Result<u64, Error> {
        self.head(UINT, "an unsigned integer")
    }

    /// An unsigned integer of at most `limit`.
    pub fn uint_to(&mut self, limit: u64) -> Result<u64, Error> {
        let value = self.uint()?;
        if value > limit {
            return self.error(&format!("{value}, more than the limit of {limit},"));
        }
        Ok(value)
    }

    /// A byte string of at most `limit` bytes.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], Error> {
        let length = self.length(BYTES, "a byte string", limit)?;
        self.take(length)
    }

    /// A byte string of exactly `N` bytes.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let start = self.position;
        match self.bytes(N)?.try_into() {
            Ok(array) => Ok(array),
            Err(_) => {
                self.position = start;
                self.error(&format!("a byte string that is not {N} bytes long"))
            }
        }
    }

    /// A 32-byte digest.
    pub fn hash(&mut self) -> Result<Hash, Error> {
        self.fixed()
    }

    /// A UTF-8 text of at most `limit` bytes.
    pub fn text(&mut self, limit: usize) -> Result<&'a str, Error> {
        let length = self.length(TEXT, "a text", limit)?;
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(text),
            Err(_) => self.error("a text that is not UTF-8"),
        }
    }

    /// The head of an array of at most `limit` items.
    pub fn array(&mut self, limit: usize) -> Result<usize, Error> {
        self.length(ARRAY, "an array", limit)
    }

    /// The head of an array of at most `limit` items that take at least `least` bytes each. A count that the bytes left cannot
    /// hold is refused here, so that room for `count` items may be made without reading one.
    pub fn list(&mut self, limit: usize, least: usize) -> Result<usize, Error> {
        let count = self.array(limit)?;
        self.check_room(count, least)
    }

    /// The head of an array of exactly `count` items.
    pub fn array_of(&mut self, count: usize) -> Result<(), Error> {
        if self.array(count)? != count {
            return self.error(&format!("an array that has not {count} items"));
        }
        Ok(())
    }

    /// The head of a map of at most `limit` pairs; [`Decoder::key_after`] reads the keys.
    pub fn map(&mut self, limit: usize) -> Result<usize, Error> {
        self.length(MAP, "a map", limit)
    }

    /// As [`Decoder::list`], for a map whose pairs take at least `least` bytes each.
    pub fn map_list(&mut self, limit: usize, least: usize) -> Result<usize, Error> {
        let count = self.map(limit)?;
        self.check_room(count, least)
    }

    fn check_room(&self, count: usize, least: usize) -> Result<usize, Error> {
        let left = self.data.len() - self.position;
        if count > left / least {
            return self.error(&format!("a list of {count} items of at least {least} bytes, with {left} bytes left,"));
        }
        Ok(count)
    }

    /// A map key that is an unsigned integer and greater than the one before.
    pub fn key_after(&mut self, previous: Option<u64>) -> Result<u64, Error> {
        let key = self.uint()?;
        if previous.is_some_and(|previous| key <= previous) {
            return self.error("a map key that is repeated or out of order");
        }
        Ok(key)
    }

    /// Reads null if it comes next.
    pub fn null(&mut self) -> bool {
        let found = self.data.get(self.position) == Some(&NULL);
        self.position += usize::from(found);
        found
    }

    /// Whether a text comes next.
    pub fn is_text(&self) -> bool {
        self.data.get(self.position).is_some_and(|byte| byte >> 5 == TEXT)
    }

    /// Whether an unsigned integer comes next.
    pub fn is_uint(&self) -> bool {
        self.data.get(self.position).is_some_and(|byte| byte >> 5 == UINT)
    }

    /// Nothing may remain.
    pub fn end(&self) -> Result<(), Error> {
        if self.is_at_end() {
            return Ok(());
        }
        self.error("bytes after the end of the structure")
    }
}

/// Reads a list of unique texts with a value each, ascending by text in bytewise order of length and content.
///
/// CBOR's bytewise order of encoded keys puts shorter texts first; texts of one length are in byte order.
pub fn text_order(left: &str, right: &str) -> std::cmp::Ordering {
    left.len().cmp(&right.len()).then_with(|| left.as_bytes().cmp(right.as_bytes()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_shortest() {
        for value in [0, 23, 24, 255, 256, 65535, 65536, u64::from(u32::MAX), 1 << 32, i64::MAX as u64] {
            let mut encoder = Encoder::new();
            encoder.uint(value);
            let bytes = encoder.finish();
            let mut decoder = Decoder::new(&bytes);
            assert_eq!(decoder.uint(), Ok(value));
            assert_eq!(decoder.end(), Ok(()));
        }
    }

    #[test]
    fn everything_that_is_not_canonical_is_refused() {
        let cases: [(&[u8], &str); 9] = [
            (&[0x18, 0x17], "shortest"),
            (&[0x19, 0x00, 0xff], "shortest"),
            (&[0x1a, 0, 0, 0xff, 0xff], "shortest"),
            (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], "shortest"),
            (&[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "2^63"),
            (&[0x1f], "indefinite"),
            (&[0x20], "something else"),
            (&[0xc0, 0x00], "something else"),
            (&[], "ends"),
        ];
        for (bytes, reason) in cases {
            let error = Decoder::new(bytes).uint().unwrap_err().to_string();
            assert!(error.contains(reason), "{bytes:02x?}: {error}");
        }
        assert!(Decoder::new(&[0x5f, 0x41, 0, 0xff]).bytes(9).is_err(), "indefinite byte string");
        assert!(Decoder::new(&[0x61, 0xff]).text(9).is_err(), "not UTF-8");
        assert!(Decoder::new(&[0x9a, 0xff, 0xff, 0xff, 0xff]).array(usize::MAX).is_err(), "a count beyond the data");
        let list = [0x84, 0, 0, 0, 0, 0, 0, 0];
        assert!(Decoder::new(&list).array(9).is_ok() && Decoder::new(&list).list(9, 1).is_ok());
        assert!(Decoder::new(&list).list(9, 2).is_err(), "four items of two bytes do not fit seven");
        let mut decoder = Decoder::new(&[0x01, 0x01]);
        let first = decoder.key_after(None).unwrap();
        assert!(decoder.key_after(Some(first)).is_err(), "a repeated key");
        assert!(Decoder::new(&[0x00, 0x00]).end().is_err());
    }
}
