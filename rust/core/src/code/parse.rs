//! Reading codes: the grammar, and what is native, foreign or wrong.
//!
//! The text here is the code and nothing else; `forms` takes it out of a URL or DID.
use super::check::CheckSum;
use super::fields::Word;
use super::{Alias, Category, City, Class, Code, Foreign, Members, Model, Org, Serial, Use, MAX_FOREIGN_BYTES, NATIVE_PREFIX};
use crate::error::Error;

/// Parses many codes: row `i` is `text[offsets[i]..offsets[i + 1]]`, so `n` rows have `n + 1` offsets.
///
/// A row that does not parse is an error in its place and does not touch the others; offsets that fall or leave the text make
/// their row [`Error::Malformed`]. Fewer than two offsets are no rows. Runs on all cores with the feature `parallel`.
pub fn parse_many(text: &[u8], offsets: &[u32], members: Option<&Members>) -> Vec<Result<Code, Error>> {
    let parse_row = |bounds: &[u32]| match text.get(bounds[0] as usize..bounds[1] as usize) {
        Some(row) => Code::parse_bytes(row, members),
        None => Err(Error::Malformed(format!(
            "offsets {} and {} do not bound a row of {} bytes; offsets must rise and end within the text",
            bounds[0],
            bounds[1],
            text.len()
        ))),
    };
    #[cfg(feature = "parallel")]
    {
        use rayon::prelude::*;
        // Below this many rows, handing work to another core costs more than it saves.
        const ROWS_PER_TASK: usize = 2048;
        offsets.par_windows(2).with_min_len(ROWS_PER_TASK).map(parse_row).collect()
    }
    #[cfg(not(feature = "parallel"))]
    offsets.windows(2).map(parse_row).collect()
}

/// Takes fields off the front of a text. A method that returns none leaves the text as it was.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl Reader<'_> {
    fn accept(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub(super) fn digits<const WIDTH: usize>(&mut self) -> Option<[u8; WIDTH]> {
        let (digits, rest) = self.rest.split_first_chunk::<WIDTH>()?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.rest = rest;
        Some(*digits)
    }

    pub(super) fn serial(&mut self) -> Option<Serial> {
        let digits = self.digits::<9>()?;
        Some(Serial(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))))
    }

    /// As many letters and digits as stand there, `shortest` to 8 of them, in upper case.
    pub(super) fn word(&mut self, shortest: usize) -> Option<Word> {
        let mut word = Word { bytes: [0; 8], len: 0 };
        for (slot, &byte) in word.bytes.iter_mut().zip(self.rest) {
            if !byte.is_ascii_alphanumeric() {
                break;
            }
            *slot = byte.to_ascii_uppercase();
            word.len += 1;
        }
        let length = usize::from(word.len);
        if length < shortest {
            return None;
        }
        self.rest = &self.rest[length..];
        Some(word)
    }

    fn category(&mut self) -> Option<Category> {
        let use_ = Use(self.digits()?);
        if !self.accept(b'.') {
            return None;
        }
        let class = Class(self.digits()?);
        if !self.accept(b'.') {
            return None;
        }
        Some(Category { use_, class, model: Model(self.word(1)?) })
    }
}

/// How a string compares with the grammar of native codes.
enum Fit {
    Whole(Code),
    AllButCheck { city: City, found: u8, expected: u8 },
}

/// Reads a string as a native code, or as one with a wrong check character; none if it fits neither.
fn fit(text: &[u8]) -> Option<Fit> {
    let text = text.strip_suffix(b"/").unwrap_or(text);
    let after_prefix = strip_prefix_ignoring_case(text, NATIVE_PREFIX)?;
    let mut reader = Reader { rest: after_prefix };
    let city = City(reader.digits()?);
    let org = if reader.accept(b'.') { Some(Org(reader.word(4)?)) } else { None };
    if reader.rest.is_empty() {
        return Some(Fit::Whole(org.map_or(Code::City { city }, |org| Code::Org { city, org })));
    }
    if !reader.accept(b'/') {
        return None;
    }
    let category = reader.category()?;
    if reader.rest.is_empty() {
        return Some(Fit::Whole(Code::Category { city, org, category }));
    }
    if !reader.accept(b'/') {
        return None;
    }
    let serial = reader.serial()?;
    let &[found] = reader.rest else { return None };
    if !found.is_ascii_alphanumeric() {
        return None;
    }
    let expected = CheckSum::AFTER_PREFIX.over(&after_prefix[..after_prefix.len() - 1]).character();
    if found.to_ascii_uppercase() == expected {
        Some(Fit::Whole(Code::Item { city, org, category, serial }))
    } else {
        Some(Fit::AllButCheck { city, found, expected })
    }
}

/// The native and foreign rule, on a text that is the code and nothing else.
pub(super) fn read_code(text: &[u8], members: Option<&Members>) -> Result<Code, Error> {
    let is_member = |city: City| members.is_none_or(|members| members.contains(city));
    match fit(text) {
        Some(Fit::Whole(code)) if code.city().is_some_and(is_member) => Ok(code),
        Some(Fit::AllButCheck { city, found, expected }) if is_member(city) => Err(check_error(found, expected)),
        _ => read_foreign(text).map(Code::Foreign),
    }
}

pub(super) fn read_foreign(text: &[u8]) -> Result<Foreign, Error> {
    refuse_unprintable(text)?;
    if strip_prefix_ignoring_case(text, FOREIGN_PREFIX).is_none() {
        return Err(Error::Code("this is not a code: it does not start with `MA.`; check that the whole code was typed or scanned".into()));
    }
    if text.len() > MAX_FOREIGN_BYTES {
        return Err(foreign_length_error());
    }
    match String::from_utf8(text.to_vec()) {
        Ok(text) => Ok(Foreign(text)),
        // Printable ASCII is UTF-8; the branch stands so that nothing here can panic.
        Err(_) => Err(Error::Code("this is not a code: it is not printable ASCII; type it again".into())),
    }
}

pub(super) fn read_alias(text: &[u8]) -> Result<Alias, Error> {
    refuse_unprintable(text)?;
    let mut reader = Reader { rest: text };
    if let (Some(city), Some(class), Some(serial), []) = (reader.digits(), reader.digits(), reader.serial(), reader.rest) {
        return Ok(Alias { city: City(city), class: Class(class), serial });
    }
    Err(Error::Code(format!(
        "this is not an alias: an alias is 21 digits (city 6, class 6, serial 9), and this text has {} characters; check that all of it was typed",
        text.len()
    )))
}

pub(super) fn is_printable(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

pub(super) fn strip_prefix_ignoring_case<'a>(text: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}

/// Refuses the first character that is not printable ASCII, by name and position.
pub(super) fn refuse_unprintable(text: &[u8]) -> Result<(), Error> {
    match text.iter().position(|&byte| !is_printable(byte)) {
        Some(index) => Err(unprintable_error(text, index)),
        None => Ok(()),
    }
}

#[cold]
fn unprintable_error(text: &[u8], index: usize) -> Error {
    let found = match text[index..].utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
        Some(character) => format!("character {character:?} (U+{:04X})", u32::from(character)),
        None => format!("byte 0x{:02X}, which is not UTF-8,", text[index]),
    };
    // All characters before it are ASCII, so bytes count characters.
    Error::Code(format!(
        "{found} at position {} is not allowed: a code is printable ASCII without spaces, and letters that look alike are never replaced; \
         type it again in plain A-Z and 0-9",
        index + 1
    ))
}

#[cold]
fn check_error(found: u8, expected: u8) -> Error {
    Error::Code(format!(
        "the check character is {}, but the characters before it give {}: at least one of them is wrong; compare the code with its label",
        char::from(found.to_ascii_uppercase()),
        char::from(expected)
    ))
}

#[cold]
pub(super) fn foreign_length_error() -> Error {
    Error::Code(format!(
        "the code has more than {MAX_FOREIGN_BYTES} bytes, the most that is kept of any code; check that one code was passed, not a text around it"
    ))
}

pub(super) const FOREIGN_PREFIX: &str = "MA.";
