//! The fields of a code, each checked when it is made: digits of fixed width, or one to eight letters and digits held in place.
use super::parse::Reader;
use crate::error::Error;
use std::fmt;

/// A field of exactly `$width` digits.
macro_rules! digits_field {
    ($(#[$documentation:meta])* $name:ident, $width:literal, $noun:literal) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(super) [u8; $width]);

        impl $name {
            #[doc = concat!("Reads exactly ", stringify!($width), " ASCII digits.")]
            pub fn parse(text: &str) -> Result<Self, Error> {
                let mut reader = Reader { rest: text.as_bytes() };
                match reader.digits() {
                    Some(digits) if reader.rest.is_empty() => Ok($name(digits)),
                    _ => Err(field_error($noun, concat!(stringify!($width), " digits"), text)),
                }
            }

            /// The digits.
            pub fn as_str(&self) -> &str {
                ascii(&self.0)
            }

            /// The digits as bytes, of fixed width.
            pub fn as_bytes(&self) -> &[u8; $width] {
                &self.0
            }
        }

        text_traits!($name);
    };
}

/// A field of `$shortest` to 8 upper-case letters and digits.
macro_rules! word_field {
    ($(#[$documentation:meta])* $name:ident, $shortest:literal, $noun:literal) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(super) Word);

        impl $name {
            #[doc = concat!("Reads ", stringify!($shortest), " to 8 ASCII letters and digits; lower case becomes upper case.")]
            pub fn parse(text: &str) -> Result<Self, Error> {
                let mut reader = Reader { rest: text.as_bytes() };
                match reader.word($shortest) {
                    Some(word) if reader.rest.is_empty() => Ok($name(word)),
                    _ => Err(field_error($noun, concat!(stringify!($shortest), " to 8 letters A-Z or digits"), text)),
                }
            }

            /// The letters and digits, upper case.
            pub fn as_str(&self) -> &str {
                ascii(self.0.as_bytes())
            }

            /// The same as bytes, without padding.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        text_traits!($name);
    };
}

/// Writes a field as its text, also in debug output.
macro_rules! text_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.as_str())
            }
        }
    };
}

digits_field!(
    /// A city: six digits of GB/T 2260. Whether it is a member is for [`Members`](super::Members) to say.
    City, 6, "city"
);
digits_field!(
    /// A class of objects: six digits.
    Class, 6, "class"
);
digits_field!(
    /// What a code is for: two digits, for example 10 product, 60 asset, 73 person.
    Use, 2, "use"
);
word_field!(
    /// An organisation within its city: 4 to 8 of A-Z 0-9.
    Org, 4, "org"
);
word_field!(
    /// A model within its class: 1 to 8 of A-Z 0-9; [`Model::NONE`] is `0`.
    Model, 1, "model"
);

impl City {
    /// The digits as one integer in the same order as the text: comparing it costs one instruction.
    pub(super) fn sort_key(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl Model {
    /// `0`: no model.
    pub const NONE: Model = Model(Word { bytes: [b'0', 0, 0, 0, 0, 0, 0, 0], len: 1 });
}

/// A serial: 0 to 999,999,999, written with nine digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(pub(super) u32);

impl Serial {
    /// The last serial.
    pub const MAX: Serial = Serial(999_999_999);

    /// A serial by its number.
    pub fn new(number: u32) -> Result<Serial, Error> {
        if number > Serial::MAX.0 {
            return Err(Error::Code(format!("serial {number} does not fit nine digits; serials run from 0 to {}", Serial::MAX.0)));
        }
        Ok(Serial(number))
    }

    /// Reads exactly nine digits.
    pub fn parse(text: &str) -> Result<Serial, Error> {
        let mut reader = Reader { rest: text.as_bytes() };
        match reader.serial() {
            Some(serial) if reader.rest.is_empty() => Ok(serial),
            _ => Err(field_error("serial", "9 digits", text)),
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The million range it lies in, 0 to 999: its first three digits.
    pub fn million(self) -> u32 {
        self.0 / 1_000_000
    }

    /// The thousand range it lies in, counted over the whole (city, class), 0 to 999,999: its first six digits.
    pub fn thousand(self) -> u32 {
        self.0 / 1_000
    }

    /// The nine digits.
    pub fn digits(self) -> [u8; 9] {
        let mut digits = [b'0'; 9];
        let mut number = self.0;
        for digit in digits.iter_mut().rev() {
            *digit += (number % 10) as u8;
            number /= 10;
        }
        digits
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(ascii(&self.digits()))
    }
}

/// One to eight letters and digits, held in place. The padding is zero, so the derived order is the order of the text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Word {
    pub(super) bytes: [u8; 8],
    pub(super) len: u8,
}

impl Word {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Fields hold ASCII only, so this never falls back.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cold]
fn field_error(noun: &str, rule: &str, found: &str) -> Error {
    const SHOWN_CHARACTERS: usize = 40;
    let shown: String = found.chars().take(SHOWN_CHARACTERS).collect();
    Error::Code(format!("{shown:?} is not a {noun}: a {noun} is {rule}; correct it and try again"))
}
