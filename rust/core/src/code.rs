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
use crate::error::Error;
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

    /// Reads a code from a DID or DID URL; its query and fragment are ignored.
    pub fn from_did(did: &str, members: Option<&Members>) -> Result<Code, Error> {
        if strip_prefix_ignoring_case(did.as_bytes(), DID_PREFIX).is_none() {
            return Err(Error::Code("not a DID of this network: it does not start with `did:cityid:`; pass other forms to parse".into()));
        }
        Code::parse(did, members)
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

    /// `did:cityid:` and the code, `/` written `:`. In a foreign code, what a DID may not hold is percent-encoded
    /// (W3C DID Core, section 3.1).
    pub fn did(&self) -> String {
        let text = self.text();
        let mut did = String::with_capacity(DID_PREFIX.len() + text.len());
        did.push_str(DID_PREFIX);
        for (index, byte) in text.bytes().enumerate() {
            match byte {
                // A DID may not end in `:`; only a foreign code ends in `/`.
                b'/' if index + 1 < text.len() => did.push(':'),
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'-' | b'_' => did.push(char::from(byte)),
                _ => push_escape(byte, &mut did),
            }
        }
        did
    }

    /// The path of the web form `https://HOST/CODE`: `/` and the code. In a foreign code, what a path may not hold is percent-encoded
    /// (RFC 3986, section 3.3). A foreign code with a `.` or `..` segment does not survive as a path, because user agents
    /// remove these: send it as `?code=`.
    pub fn path(&self) -> String {
        let text = self.text();
        let mut path = String::with_capacity(1 + text.len());
        path.push('/');
        for byte in text.bytes() {
            match byte {
                b'"' | b'#' | b'%' | b'<' | b'>' | b'?' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                    push_escape(byte, &mut path);
                }
                _ => path.push(char::from(byte)),
            }
        }
        path
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

/// The 21-digit alias of an item: `130100 010203 000012345` without the spaces (the widths of CJ/T 553-2024).
/// Which code it stands for is a look-up: it does not hold organisation, use and model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias {
    /// The city.
    pub city: City,
    /// The class.
    pub class: Class,
    /// The serial within (city, class).
    pub serial: Serial,
}

impl Alias {
    /// Reads exactly 21 digits.
    pub fn parse(text: &str) -> Result<Alias, Error> {
        read_alias(text.as_bytes())
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.city, self.class, self.serial)
    }
}

/// What a person may ask about: a code or an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A code.
    Code(Code),
    /// A 21-digit alias.
    Alias(Alias),
}

impl Subject {
    /// Reads either: a text of digits alone is an alias, everything else a code. Both may come in a URL, as in [`Code::parse`].
    pub fn parse(text: &str, members: Option<&Members>) -> Result<Subject, Error> {
        with_carried_code(text.as_bytes(), |subject| {
            if !subject.is_empty() && subject.iter().all(u8::is_ascii_digit) {
                read_alias(subject).map(Subject::Alias)
            } else {
                read_code(subject, members).map(Subject::Code)
            }
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Code(code) => code.fmt(f),
            Subject::Alias(alias) => alias.fmt(f),
        }
    }
}

/// The member cities: a sorted set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    cities: Vec<City>,
}

impl Members {
    /// Whether this city is a member.
    pub fn contains(&self, city: City) -> bool {
        self.cities.binary_search_by_key(&city.sort_key(), |member| member.sort_key()).is_ok()
    }

    /// The cities in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = City> + '_ {
        self.cities.iter().copied()
    }

    /// How many cities.
    pub fn len(&self) -> usize {
        self.cities.len()
    }

    /// Whether there is none; every code is then foreign.
    pub fn is_empty(&self) -> bool {
        self.cities.is_empty()
    }
}

impl FromIterator<City> for Members {
    fn from_iter<I: IntoIterator<Item = City>>(cities: I) -> Members {
        let mut cities: Vec<City> = cities.into_iter().collect();
        cities.sort_unstable();
        cities.dedup();
        Members { cities }
    }
}

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

/// The ISO/IEC 7064 MOD 37,36 check character over the letters and digits of `text`, in either case; dots and slashes are skipped.
/// Fails with [`Error::Code`] on any other character.
pub fn check_character(text: &str) -> Result<char, Error> {
    match text.char_indices().find(|(_, c)| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '/')) {
        Some((index, found)) => Err(Error::Code(format!(
            "character {found:?} (U+{:04X}) at byte {index} has no value in MOD 37,36; a check character covers A-Z and 0-9 only",
            u32::from(found)
        ))),
        None => Ok(char::from(CheckSum::START.over(text.as_bytes()).character())),
    }
}

/// A field of exactly `$width` digits.
macro_rules! digits_field {
    ($(#[$documentation:meta])* $name:ident, $width:literal, $noun:literal) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $width]);

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
        pub struct $name(Word);

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
    /// A city: six digits of GB/T 2260. Whether it is a member is for [`Members`] to say.
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
    fn sort_key(self) -> u64 {
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
pub struct Serial(u32);

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
struct Word {
    bytes: [u8; 8],
    len: u8,
}

impl Word {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The running product of ISO/IEC 7064 MOD 37,36 (hybrid system): 1 to 36.
#[derive(Clone, Copy)]
struct CheckSum(u8);

impl CheckSum {
    const START: CheckSum = CheckSum(36);
    /// The product over `MA156`, with which every native code begins.
    const AFTER_PREFIX: CheckSum = CheckSum::START.then(b'M').then(b'A').then(b'1').then(b'5').then(b'6');

    /// Takes in the next character. Each step waits for the one before it, so a step is one look-up, without division or branch.
    const fn then(self, character: u8) -> CheckSum {
        CheckSum(PRODUCTS[self.0 as usize + VALUES[character as usize] as usize])
    }

    /// Takes in every letter and digit of `text`, in either case, and skips all else.
    fn over(self, text: &[u8]) -> CheckSum {
        text.iter().fold(self, |sum, &character| sum.then(character))
    }

    /// The character that brings the final sum to 1 modulo 36.
    fn character(self) -> u8 {
        ALPHABET[usize::from(37 - self.0) % 36]
    }
}

/// Takes fields off the front of a text. A method that returns none leaves the text as it was.
struct Reader<'a> {
    rest: &'a [u8],
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

    fn digits<const WIDTH: usize>(&mut self) -> Option<[u8; WIDTH]> {
        let (digits, rest) = self.rest.split_first_chunk::<WIDTH>()?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.rest = rest;
        Some(*digits)
    }

    fn serial(&mut self) -> Option<Serial> {
        let digits = self.digits::<9>()?;
        Some(Serial(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))))
    }

    /// As many letters and digits as stand there, `shortest` to 8 of them, in upper case.
    fn word(&mut self, shortest: usize) -> Option<Word> {
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
fn read_code(text: &[u8], members: Option<&Members>) -> Result<Code, Error> {
    let is_member = |city: City| members.is_none_or(|members| members.contains(city));
    match fit(text) {
        Some(Fit::Whole(code)) if code.city().is_some_and(is_member) => Ok(code),
        Some(Fit::AllButCheck { city, found, expected }) if is_member(city) => Err(check_error(found, expected)),
        _ => read_foreign(text).map(Code::Foreign),
    }
}

fn read_foreign(text: &[u8]) -> Result<Foreign, Error> {
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

fn read_alias(text: &[u8]) -> Result<Alias, Error> {
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

/// Hands the code that `text` is, or carries as a URL or DID, to `read`.
fn with_carried_code<T>(text: &[u8], read: impl FnOnce(&[u8]) -> Result<T, Error>) -> Result<T, Error> {
    if text.len() > MAX_INPUT_BYTES {
        return Err(Error::Code(format!(
            "the text has {} bytes and at most {MAX_INPUT_BYTES} are read; pass one code, or one URL that carries it",
            text.len()
        )));
    }
    if let Some(identifier) = strip_prefix_ignoring_case(text, DID_PREFIX) {
        refuse_unprintable(text)?;
        let end = identifier.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(identifier.len());
        let identifier = &identifier[..end];
        if identifier.contains(&b'/') {
            return Err(Error::Code("a DID has no `/`: write `:` between the parts of the code".into()));
        }
        return read(DecodedCode::from_escaped(identifier, |unescaped| if unescaped == b':' { b'/' } else { unescaped })?.as_bytes());
    }
    let after_scheme = strip_prefix_ignoring_case(text, "https://").or_else(|| strip_prefix_ignoring_case(text, "http://"));
    if let Some(after_scheme) = after_scheme {
        refuse_unprintable(text)?;
        let escaped = code_in_url(after_scheme)?;
        if escaped.contains(&b'%') {
            return read(DecodedCode::from_escaped(escaped, |unescaped| unescaped)?.as_bytes());
        }
        return read(escaped);
    }
    read(text)
}

/// The part of a URL that carries the code, still percent-encoded: the parameter `code`, or else the whole path.
/// A URL that names two codes is refused, because two readers could take it for different ones.
fn code_in_url(after_scheme: &[u8]) -> Result<&[u8], Error> {
    let (url, _fragment) = split_at_byte(after_scheme, b'#');
    let (host_and_path, query) = split_at_byte(url, b'?');
    let (host, path) = split_at_byte(host_and_path, b'/');
    if host.is_empty() {
        return Err(Error::Code("the URL has no host; write https://HOST/CODE".into()));
    }
    let mut parameters = query
        .split(|&byte| byte == b'&')
        .map(|parameter| split_at_byte(parameter, b'='))
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"code"))
        .map(|(_, value)| value);
    let Some(code) = parameters.next() else {
        return Ok(path);
    };
    // Three bytes decide, and an escape that does not decode cannot be one of them.
    let path_start = Unescape { rest: path }.map_while(Result::ok).map(|(byte, _)| byte.to_ascii_uppercase());
    let path_is_code = path_start.take(FOREIGN_PREFIX.len()).eq(FOREIGN_PREFIX.bytes());
    if path_is_code || parameters.next().is_some() {
        return Err(Error::Code("the URL names more than one code; keep the one in its path or one parameter `code`".into()));
    }
    Ok(code)
}

/// A code without its percent-encoding, held on the stack.
struct DecodedCode {
    bytes: [u8; MAX_FOREIGN_BYTES],
    len: usize,
}

impl DecodedCode {
    /// Decodes `text`; characters that were not escaped pass through `map`.
    fn from_escaped(text: &[u8], map: impl Fn(u8) -> u8) -> Result<DecodedCode, Error> {
        let mut decoded = DecodedCode { bytes: [0; MAX_FOREIGN_BYTES], len: 0 };
        for item in (Unescape { rest: text }) {
            let (byte, was_escaped) = item?;
            let slot = decoded.bytes.get_mut(decoded.len).ok_or_else(foreign_length_error)?;
            *slot = if was_escaped { byte } else { map(byte) };
            decoded.len += 1;
        }
        Ok(decoded)
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Percent-decoding (RFC 3986, section 2.1), once, to printable ASCII only. Yields each byte and whether it was escaped.
struct Unescape<'a> {
    rest: &'a [u8],
}

impl Iterator for Unescape<'_> {
    type Item = Result<(u8, bool), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        if first != b'%' {
            return Some(Ok((first, false)));
        }
        let Some((&[high, low], rest)) = rest.split_first_chunk::<2>() else {
            return Some(Err(Error::Code("the text ends within a percent-escape; copy the whole URL".into())));
        };
        self.rest = rest;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        match (digit(high), digit(low)) {
            (Some(high), Some(low)) if is_printable(16 * high + low) => Some(Ok((16 * high + low, true))),
            _ => Some(Err(Error::Code(format!(
                "the escape %{}{} is no printable ASCII character; a code has A-Z, 0-9, `.` and `/`, so copy the URL again",
                char::from(high),
                char::from(low)
            )))),
        }
    }
}

fn push_escape(byte: u8, out: &mut String) {
    out.push('%');
    for digit in [byte >> 4, byte & 15] {
        out.push(char::from(ALPHABET[usize::from(digit)]));
    }
}

fn is_printable(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

fn strip_prefix_ignoring_case<'a>(text: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}

/// The parts before and after the first `separator`; all and nothing where there is none.
fn split_at_byte(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == separator) {
        Some(index) => (&text[..index], &text[index + 1..]),
        None => (text, &[]),
    }
}

/// Fields hold ASCII only, so this never falls back.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Refuses the first character that is not printable ASCII, by name and position.
fn refuse_unprintable(text: &[u8]) -> Result<(), Error> {
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
fn foreign_length_error() -> Error {
    Error::Code(format!(
        "the code has more than {MAX_FOREIGN_BYTES} bytes, the most that is kept of any code; check that one code was passed, not a text around it"
    ))
}

#[cold]
fn field_error(noun: &str, rule: &str, found: &str) -> Error {
    const SHOWN_CHARACTERS: usize = 40;
    let shown: String = found.chars().take(SHOWN_CHARACTERS).collect();
    Error::Code(format!("{shown:?} is not a {noun}: a {noun} is {rule}; correct it and try again"))
}

const NATIVE_PREFIX: &str = "MA.156.";
const FOREIGN_PREFIX: &str = "MA.";
const DID_PREFIX: &str = "did:cityid:";

/// The characters of MOD 37,36 by value.
const ALPHABET: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// In place of a value: this character is skipped. It lies above every sum of a product (to 36) and a value (to 35).
const SKIPPED: u8 = 72;
/// The value of each byte in MOD 37,36, letters in either case.
const VALUES: [u8; 256] = {
    let mut values = [SKIPPED; 256];
    let mut value = 0;
    while value < 36 {
        values[ALPHABET[value] as usize] = value as u8;
        values[ALPHABET[value].to_ascii_lowercase() as usize] = value as u8;
        value += 1;
    }
    values
};
/// The next product by the sum of product and value: the sum modulo 36, with 36 for 0, then twice that modulo 37.
/// From [`SKIPPED`] on, the product as it was.
const PRODUCTS: [u8; 128] = {
    let mut products = [0; 128];
    let mut product = 1;
    while product <= 36 {
        products[product] = (2 * product % 37) as u8;
        products[product + 36] = products[product];
        products[product + SKIPPED as usize] = product as u8;
        product += 1;
    }
    products
};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const ITEM: &str = "MA.156.130100.A7K2/60.010203.1/000012345B";

    fn members(cities: &[&str]) -> Members {
        cities.iter().map(|city| City::parse(city).unwrap()).collect()
    }

    fn reason(text: &str, members: Option<&Members>) -> String {
        match Code::parse(text, members) {
            Err(Error::Code(message)) => message,
            other => panic!("{text:?}: expected a code error, got {other:?}"),
        }
    }

    fn native(text: &str) -> Code {
        let code = Code::parse(text, None).unwrap();
        assert_ne!(code.kind(), "foreign", "{text}");
        code
    }

    fn foreign(text: &str, members: Option<&Members>) {
        let code = Code::parse(text, members).unwrap();
        assert_eq!((code.kind(), code.text().as_str()), ("foreign", text));
    }

    #[test]
    fn check_character_agrees_with_published_codes() {
        // The example of the GRid standard, also in the documentation of python-stdnum (stdnum.grid, stdnum.iso7064.mod_37_36).
        assert_eq!(check_character("A12425GABC1234002").unwrap(), 'M');
        assert_eq!(check_character("a12425gabc1234002").unwrap(), 'M');
        assert_ne!(check_character("A12425GABC1234003").unwrap(), 'M', "control");
        assert_eq!(check_character("MA.156.130100.A7K2/60.010203.1/000012345").unwrap(), 'B');
        assert_eq!(check_character("MA156130100A7K260010203").unwrap(), check_character("MA.156.130100.A7K2/60.010203").unwrap());
        assert!(check_character("MA-1").unwrap_err().to_string().contains("'-'"));
    }

    #[test]
    fn every_step_of_the_sum_equals_the_definition() {
        for product in 1..=36u8 {
            for (value, &character) in (0..36u8).zip(ALPHABET) {
                let sum = match (product + value) % 36 {
                    0 => 36,
                    sum => sum,
                };
                assert_eq!(CheckSum(product).then(character).0, sum * 2 % 37, "{product} {value}");
                assert_eq!(CheckSum(product).then(character.to_ascii_lowercase()).0, sum * 2 % 37, "{product} {value}");
            }
            assert_eq!(CheckSum(product).then(b'.').0, product, "skipped");
        }
        assert_eq!(CheckSum::START.over(NATIVE_PREFIX.as_bytes()).0, CheckSum::AFTER_PREFIX.0);
    }

    #[test]
    fn an_item_has_its_parts() {
        let code = native(ITEM);
        let Code::Item { city, org: Some(org), category, serial } = code.clone() else { panic!("{code:?}") };
        assert_eq!((city.as_str(), org.as_str(), category.to_string().as_str()), ("130100", "A7K2", "60.010203.1"));
        assert_eq!((serial.get(), serial.million(), serial.thousand()), (12_345, 0, 12));
        assert_eq!((code.check(), code.alias().as_deref()), (Some('B'), Some("130100010203000012345")));
        assert_eq!(code.did(), "did:cityid:MA.156.130100.A7K2:60.010203.1:000012345B");
        assert_eq!(code.path(), format!("/{ITEM}"));
        assert_eq!(Code::item(city, Some(org), category.use_, category.class, category.model, serial), code);
        assert_eq!(code.text(), ITEM);
    }

    #[test]
    fn every_kind_of_code_is_read_and_written() {
        let without_org = "MA.156.130100/60.010203.0/000000000U";
        for (text, kind) in [
            ("MA.156.130100", "city"),
            ("MA.156.130100.A7K2", "org"),
            ("MA.156.130100.ABCDEFGH", "org"),
            ("MA.156.130100/60.010203.0", "category"),
            ("MA.156.130100.A7K2/60.010203.LAMP2024", "category"),
            (without_org, "item"),
            (ITEM, "item"),
        ] {
            let code = native(text);
            assert_eq!((code.kind(), code.text().as_str()), (kind, text));
            assert_eq!(code.alias().is_some(), kind == "item");
            for typed in [text.to_lowercase(), format!("{text}/"), code.did(), format!("https://city.example{}", code.path())] {
                assert_eq!(Code::parse(&typed, None), Ok(code.clone()), "{typed}");
            }
        }
        assert_eq!(native(without_org).category().map(|category| category.model), Some(Model::NONE));
    }

    #[test]
    fn urls_carry_codes() {
        let code = native(ITEM);
        for url in [
            format!("HTTPS://CITY.EXAMPLE/{ITEM}"),
            format!("http://127.0.0.1:8001/{ITEM}/?proof=1#top"),
            format!("https://[::1]:8001/{}", ITEM.to_lowercase()),
            format!("https://city.example?code={ITEM}"),
            format!("https://city.example/scan/?lang=zh&code={ITEM}&x=1#code=none"),
            "https://city.example/scan?CODE=MA%2E156.130100.A7K2%2F60.010203.1%2f000012345B".into(),
            "https://city.example/MA%2E156.130100.A7K2%2F60.010203.1/000012345B".into(),
            "DID:cityid:MA.156.130100.A7K2:60.010203.1:000012345B?versionId=3#key-1".into(),
        ] {
            assert_eq!(Code::parse(&url, None), Ok(code.clone()), "{url}");
        }
        let foreign = Code::parse("https://city.example/scan?code=ma.1%2F%25%41/", None).unwrap();
        assert_eq!(foreign.text(), "ma.1/%A/", "decoded once, otherwise as typed");
    }

    #[test]
    fn urls_without_one_code_are_refused() {
        for (url, why) in [
            (format!("https://city.example/{ITEM}?code=MA.156.110000"), "more than one code"),
            (format!("https://city.example/%4d%61%2E156.110000?code={ITEM}"), "more than one code"),
            (format!("https://city.example/?code={ITEM}&code={ITEM}"), "more than one code"),
            (format!("https:///{ITEM}"), "no host"),
            (format!("https://city.example/codes/{ITEM}"), "does not start with `MA.`"),
            ("https://city.example".into(), "does not start with `MA.`"),
            (format!("ftp://city.example/{ITEM}"), "does not start with `MA.`"),
            ("https://city.example/MA.1%0A".into(), "%0A"),
            ("https://city.example/MA.1%20x".into(), "%20"),
            ("https://city.example/MA.1%EF%BC%A1".into(), "%EF"),
            ("https://city.example/MA.1%zz".into(), "%zz"),
            ("https://city.example/MA.1%2".into(), "within a percent-escape"),
            (format!("https://city.example/MA.%41{}", "a".repeat(200)), "more than 200 bytes"),
            ("did:cityid:MA.156.130100/60.010203.0".into(), "no `/`"),
            ("did:other:MA.156.130100".into(), "does not start with `MA.`"),
        ] {
            let message = reason(&url, None);
            assert!(message.contains(why), "{url}: {message}");
        }
        assert!(Code::from_did(ITEM, None).unwrap_err().to_string().contains("did:cityid:"));
    }

    #[test]
    fn what_is_not_native_is_foreign_and_kept_as_typed() {
        for text in [
            "MA.156.430121.1006/10.29000000.PG100001",
            "ma.156.430121.1006/10.29000000.pg100001/",
            "MA.",
            "Ma.156.13010",
            "MA.156.1301000",
            "MA.157.130100",
            "MA.156.130100//",
            "MA.156.130100.",
            "MA.156.130100.A7K",
            "MA.156.130100.A7K2A7K2A",
            "MA.156.130100.A7-2",
            "MA.156.130100/60.010203",
            "MA.156.130100/60.010203.",
            "MA.156.130100/60.010203.123456789",
            "MA.156.130100/6.010203.1",
            "MA.156.130100.A7K2/60.010203.1/00012345B",
            "MA.156.130100.A7K2/60.010203.1/000012345",
            "MA.156.130100.A7K2/60.010203.1/000012345-",
            "MA.156.130100.A7K2/60.010203.1/000012345BB",
            "MA.156.130100.A7K2/60.010203.1/000012345B/x",
        ] {
            foreign(text, None);
            foreign(text, Some(&members(&["130100", "430121"])));
        }
    }

    #[test]
    fn the_member_list_decides() {
        let with = members(&["440300", "130100", "110000", "130100"]);
        let without = members(&["440300", "110000"]);
        assert_eq!((with.len(), with.iter().next()), (3, Some(City::parse("110000").unwrap())));
        for text in ["MA.156.130100", "MA.156.130100.A7K2", "MA.156.130100/60.010203.1", ITEM] {
            assert_eq!(Code::parse(text, Some(&with)), Code::parse(text, None));
            foreign(text, Some(&without));
            foreign(&text.to_lowercase(), Some(&without));
            foreign(&format!("{text}/"), Some(&Members::default()));
        }
        let wrong_check = ITEM.replace('B', "C");
        for known in [None, Some(&with)] {
            let message = reason(&wrong_check, known);
            assert!(message.contains("is C") && message.contains("give B"), "{message}");
        }
        foreign(&wrong_check, Some(&without));
    }

    #[test]
    fn characters_outside_printable_ascii_are_named_and_never_folded() {
        for (text, named) in [
            ("MA.156.13０100", "'０' (U+FF10) at position 10"),
            ("ＭA.156.130100", "'Ｍ' (U+FF2D) at position 1 "),
            ("MА.156.130100", "(U+0410) at position 2 "),
            ("MA.156.130100 ", "' ' (U+0020) at position 14"),
            (" MA.156.130100", "' ' (U+0020) at position 1 "),
            ("MA.156.130100\n", "'\\n' (U+000A) at position 14"),
            ("MA.156.130100\u{200b}", "'\\u{200b}' (U+200B) at position 14"),
            ("MA.156.130100.\u{7f}", "(U+007F) at position 15"),
            ("https://city.example/MA.156.13０100", "(U+FF10) at position 31"),
            ("did:cityid:MA.156.13０100", "(U+FF10) at position 21"),
        ] {
            let message = reason(text, None);
            assert!(message.contains(named), "{text:?}: {message}");
        }
        let bytes = Code::parse_bytes(b"MA.156.\xff", None).unwrap_err().to_string();
        assert!(bytes.contains("byte 0xFF") && bytes.contains("position 8"), "{bytes}");
        assert!(reason("", None).contains("does not start with `MA.`"));
        assert!(reason("XA.156.130100", None).contains("does not start with `MA.`"));
    }

    #[test]
    fn lengths_are_bounded() {
        let longest = format!("MA.{}", "x".repeat(MAX_FOREIGN_BYTES - 3));
        foreign(&longest, None);
        assert!(reason(&format!("{longest}x"), None).contains("more than 200 bytes"));
        let padding = "x".repeat(MAX_INPUT_BYTES);
        let url = format!("https://city.example/{ITEM}?x={padding}");
        assert!(reason(&url, None).contains("at most 2048"));
        assert_eq!(Code::parse(&url[..MAX_INPUT_BYTES], None), Ok(native(ITEM)), "control: one byte less of padding is read");
        assert_eq!(native("MA.156.130100.ABCDEFGH/60.010203.ABCDEFGH/000000000N").text().len(), MAX_NATIVE_BYTES);
    }

    #[test]
    fn foreign_codes_survive_dids_and_paths() {
        for text in ["MA.1/a:b/", "MA.%2F?#[]", "MA.156.430121.1006/10.29000000.PG100001", "ma.//", "MA.{\"<^`|\\>}"] {
            let code = Code::parse(text, None).unwrap();
            assert_eq!(Code::from_did(&code.did(), None), Ok(code.clone()), "{}", code.did());
            assert_eq!(Code::parse(&format!("https://city.example{}", code.path()), None), Ok(code.clone()), "{}", code.path());
            assert!(!code.did().ends_with(':'));
        }
        assert_eq!(Foreign::parse("MA.1").unwrap().as_str(), "MA.1");
        assert!(Foreign::parse("NA.1").is_err());
    }

    #[test]
    fn a_subject_is_a_code_or_an_alias() {
        let alias = Alias::parse("130100010203000012345").unwrap();
        assert_eq!((alias.city.as_str(), alias.class.as_str(), alias.serial.get()), ("130100", "010203", 12_345));
        assert_eq!(alias.to_string(), "130100010203000012345");
        for text in ["130100010203000012345", "https://city.example/scan?code=130100010203000012345"] {
            assert_eq!(Subject::parse(text, None), Ok(Subject::Alias(alias)));
        }
        assert_eq!(Subject::parse(ITEM, None).map(|subject| subject.to_string()), Ok(ITEM.to_string()));
        for (text, why) in [("13010001020300001234", "20 characters"), ("１30100010203000012345", "U+FF11"), ("", "`MA.`"), ("1a", "`MA.`")]
        {
            let message = Subject::parse(text, None).unwrap_err().to_string();
            assert!(message.contains(why), "{text}: {message}");
        }
        assert!(Alias::parse("130100 010203 000012345").is_err());
    }

    #[test]
    fn fields_check_themselves() {
        assert!(City::parse("13010").is_err() && City::parse("1301000").is_err() && City::parse("13010x").is_err());
        assert!(Org::parse("A7K").is_err() && Org::parse("A7K2A7K2A").is_err() && Org::parse("A7 2").is_err());
        assert_eq!(Org::parse("a7k2").unwrap(), Org::parse("A7K2").unwrap());
        assert_eq!(Model::parse("0").unwrap(), Model::NONE);
        assert!(Model::parse("").is_err() && Use::parse("6").is_err() && Class::parse("٠٠٠").is_err());
        assert!(Serial::new(1_000_000_000).is_err() && Serial::parse("12345").is_err());
        let serial = Serial::parse("987654321").unwrap();
        assert_eq!((serial.million(), serial.thousand(), serial.to_string().as_str()), (987, 987_654, "987654321"));
        assert!(Org::parse("AAAA").unwrap() < Org::parse("AAAA0").unwrap() && Org::parse("AAAA9").unwrap() < Org::parse("AAAB").unwrap());
        let message = City::parse(&"9".repeat(5000)).unwrap_err().to_string();
        assert!(message.len() < 200 && message.contains("6 digits"), "{message}");
    }

    #[test]
    fn many_rows_fail_alone() {
        let rows: [&[u8]; 4] = [ITEM.as_bytes(), b"MA.156.\xff", b"", b"MA.156.430121.1006/10.29000000.PG100001"];
        let text = rows.concat();
        let mut offsets = vec![0u32];
        for row in rows {
            offsets.push(offsets[offsets.len() - 1] + row.len() as u32);
        }
        let codes = parse_many(&text, &offsets, None);
        assert_eq!(codes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!(codes[0], Ok(native(ITEM)));
        assert!(parse_many(&text, &[], None).is_empty() && parse_many(&text, &[0], None).is_empty());
        let bad = parse_many(&text, &[5, 0, ITEM.len() as u32, u32::MAX], None);
        assert!(matches!(bad[0], Err(Error::Malformed(_))) && bad[1].is_ok() && matches!(bad[2], Err(Error::Malformed(_))));
    }
}
