//! Codes: what a city issues, as text and as a typed value.
//!
//! ```text
//! code     = holder [ "/" category [ "/" serial check ] ]
//! holder   = "MA.156." city [ "." org ]       city: 6 digits (GB/T 2260); org: 4 to 8 of A-Z 0-9
//! category = use "." class "." model          use: 2 digits; class: 6 digits; model: 1 to 8 of A-Z 0-9, "0" = none
//! serial   = 9 digits                         3 + 3 + 3: million range, thousand range, item
//! check    = 1 of A-Z 0-9                     ISO/IEC 7064 MOD 37,36 over every letter and digit before it
//! ```
//!
//! Rules:
//! - The canonical form is upper case, ASCII, without a trailing `/`. Input may be lower case, end in one `/`, or come as
//!   `https://HOST/CODE`, `https://HOST/…?code=CODE` or `did:cityid:CODE` with `:` for `/`.
//! - A code is *native* when its third node is a member city and the whole string fits the grammar. Without a member list every
//!   city counts as a member. Every other `MA.` string of printable ASCII, up to 200 bytes, is *foreign* and kept as it was typed.
//! - A string that fails only its check character is an error, and so is any character that is not printable ASCII: letters that
//!   look alike are refused, never replaced.
//! - Every [`Code`] value is valid: its fields are checked when they are made, and the check character is computed, never stored.
//!
//! This module does not know which cities are members (the caller brings [`Members`]) nor which codes exist (the ledger does).
mod alias;
mod check;
mod fields;
mod forms;
mod members;
mod parse;
mod series;
#[cfg(test)]
mod tests;

pub use alias::{check_alias, Alias, NamedAlias, MAX_ALIAS};
pub use check::check_character;
pub use fields::{City, Class, Model, Org, Serial, Use};
pub use members::Members;
pub use parse::parse_many;
pub use series::{Series, SERIAL_AND_CHECK};

use crate::error::Error;
use alias::read_named_alias;
use check::CheckSum;
use forms::with_carried_code;
use parse::{read_alias, read_code, read_foreign};
use std::fmt;

/// Longest text that is looked at; a longer one is refused unread.
pub const MAX_INPUT_BYTES: usize = 2048;
/// Longest foreign code.
pub const MAX_FOREIGN_BYTES: usize = 200;
/// Longest canonical text of a native code.
pub const MAX_NATIVE_BYTES: usize = 52;

/// A code, native or foreign.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// A member city: `MA.156.130100`.
    City {
        /// The city.
        city: City,
    },
    /// An organisation that the city admitted: `MA.156.130100.A7K2`.
    Org {
        /// The city that admitted it.
        city: City,
        /// The organisation, unique within the city.
        org: Org,
    },
    /// A category of the city or of an organisation: `MA.156.130100.A7K2/60.010203.1`.
    Category {
        /// The city.
        city: City,
        /// The issuing organisation; none when the city itself issues.
        org: Option<Org>,
        /// Use, class and model.
        category: Category,
    },
    /// One item: `MA.156.130100.A7K2/60.010203.1/000012345` and its check character.
    Item {
        /// The city.
        city: City,
        /// The issuing organisation; none when the city itself issues.
        org: Option<Org>,
        /// Use, class and model.
        category: Category,
        /// The serial, unique within (city, class).
        serial: Serial,
    },
    /// A code of the same agency that is not ours to judge, as it was typed.
    Foreign(Foreign),
}

impl Code {
    /// The code of an item. Its check character is computed whenever the code is written.
    pub fn item(city: City, org: Option<Org>, use_: Use, class: Class, model: Model, serial: Serial) -> Code {
        Code::Item { city, org, category: Category { use_, class, model }, serial }
    }

    /// Reads a code from its text, a URL that carries it, or its DID (forms and rules: module head).
    ///
    /// `members` decides what is native; without it every string that fits the grammar is.
    /// Fails with [`Error::Code`] on more than [`MAX_INPUT_BYTES`], a character that is not printable ASCII, a text that carries no
    /// `MA.` code, a foreign code over [`MAX_FOREIGN_BYTES`], and a native code that is wrong only in its check character.
    pub fn parse(text: &str, members: Option<&Members>) -> Result<Code, Error> {
        Code::parse_bytes(text.as_bytes(), members)
    }

    /// [`Code::parse`] on bytes that need not be UTF-8; bytes that are not are refused with their position.
    pub fn parse_bytes(text: &[u8], members: Option<&Members>) -> Result<Code, Error> {
        with_carried_code(text, |code| read_code(code, members))
    }

    /// The canonical text; of a foreign code, the text as it was typed.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(MAX_NATIVE_BYTES);
        self.write_text(&mut text);
        text
    }

    /// Appends the canonical text to `out`.
    pub fn write_text(&self, out: &mut String) {
        let start = out.len();
        if let Code::Foreign(foreign) = self {
            out.push_str(foreign.as_str());
            return;
        }
        if let Some(city) = self.city() {
            out.push_str(NATIVE_PREFIX);
            out.push_str(city.as_str());
        }
        if let Some(org) = self.org() {
            out.push('.');
            out.push_str(org.as_str());
        }
        if let Some(Category { use_, class, model }) = self.category() {
            for (separator, field) in [('/', use_.as_str()), ('.', class.as_str()), ('.', model.as_str())] {
                out.push(separator);
                out.push_str(field);
            }
        }
        if let Some(serial) = self.serial() {
            out.push('/');
            serial.digits().iter().for_each(|&digit| out.push(char::from(digit)));
            let after_prefix = &out.as_bytes()[start + NATIVE_PREFIX.len()..];
            let check = CheckSum::AFTER_PREFIX.over(after_prefix).character();
            out.push(char::from(check));
        }
    }

    /// `city`, `org`, `category`, `item` or `foreign`.
    pub fn kind(&self) -> &'static str {
        match self {
            Code::City { .. } => "city",
            Code::Org { .. } => "org",
            Code::Category { .. } => "category",
            Code::Item { .. } => "item",
            Code::Foreign(_) => "foreign",
        }
    }

    /// The city; none for a foreign code.
    pub fn city(&self) -> Option<City> {
        match self {
            Code::City { city } | Code::Org { city, .. } | Code::Category { city, .. } | Code::Item { city, .. } => Some(*city),
            Code::Foreign(_) => None,
        }
    }

    /// The issuing organisation, where the code names one.
    pub fn org(&self) -> Option<Org> {
        match self {
            Code::Org { org, .. } => Some(*org),
            Code::Category { org, .. } | Code::Item { org, .. } => *org,
            Code::City { .. } | Code::Foreign(_) => None,
        }
    }

    /// Use, class and model of a category or item.
    pub fn category(&self) -> Option<Category> {
        match self {
            Code::Category { category, .. } | Code::Item { category, .. } => Some(*category),
            Code::City { .. } | Code::Org { .. } | Code::Foreign(_) => None,
        }
    }

    /// The serial of an item.
    pub fn serial(&self) -> Option<Serial> {
        match self {
            Code::Item { serial, .. } => Some(*serial),
            _ => None,
        }
    }

    /// The check character of an item.
    pub fn check(&self) -> Option<char> {
        self.serial().and_then(|_| self.text().chars().next_back())
    }

    /// The 21 digits (city, class, serial) that name an item among all items of its city and class.
    pub fn alias(&self) -> Option<String> {
        match self {
            Code::Item { city, category, serial, .. } => Some(Alias { city: *city, class: category.class, serial: *serial }.to_string()),
            _ => None,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

/// Use, class and model: the middle part of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Category {
    /// What the code is for.
    pub use_: Use,
    /// The class of objects; serials are counted for each (city, class).
    pub class: Class,
    /// The model within the class.
    pub model: Model,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.use_, self.class, self.model)
    }
}

/// The text of a foreign code: starts with `MA.` in any case, printable ASCII without spaces, at most [`MAX_FOREIGN_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foreign(String);

impl Foreign {
    /// Takes a text as a foreign code, exactly as given. It does not ask whether the text is native for somebody:
    /// [`Code::parse`] decides that.
    pub fn parse(text: &str) -> Result<Foreign, Error> {
        read_foreign(text.as_bytes())
    }

    /// The text as it was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a person may ask about: a code or an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A code.
    Code(Code),
    /// A 21-digit alias.
    Alias(Alias),
    /// An alias in a namespace.
    Named(NamedAlias),
}

impl Subject {
    /// Reads any of them: a text of digits alone is a 21-digit alias, one that starts with `alias:` a named one, everything else a
    /// code. All may come in a URL, as in [`Code::parse`].
    pub fn parse(text: &str, members: Option<&Members>) -> Result<Subject, Error> {
        with_carried_code(text.as_bytes(), |subject| {
            if !subject.is_empty() && subject.iter().all(u8::is_ascii_digit) {
                return read_alias(subject).map(Subject::Alias);
            }
            match read_named_alias(subject) {
                Some(named) => named.map(Subject::Named),
                None => read_code(subject, members).map(Subject::Code),
            }
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Code(code) => code.fmt(f),
            Subject::Alias(alias) => alias.fmt(f),
            Subject::Named(named) => named.fmt(f),
        }
    }
}

const NATIVE_PREFIX: &str = "MA.156.";
