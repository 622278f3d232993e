//! JSON at the edges of the core: genesis, trust and answer files, operations for tools.
//!
//! Nothing here is ever hashed. Readers take every field once by name and refuse what is left over, so that a misspelt field is an
//! error and not a silent default. 64-bit integers may be numbers or decimal strings; they are written as the caller chooses.
use crate::error::Error;
use serde_json::{Map, Value};

/// A JSON object whose fields are taken one by one; see [`Object::end`].
#[derive(Debug)]
pub struct Object {
    fields: Map<String, Value>,
    what: String,
}

/// Parses a text of at most `limit` bytes that is one JSON object.
pub fn parse_object(text: &str, limit: usize, what: &str) -> Result<Object, Error> {
    match parse(text, limit, what)? {
        Value::Object(fields) => Ok(Object { fields, what: what.to_owned() }),
        _ => Err(Error::malformed(format!("{what} must be a JSON object"))),
    }
}

/// Parses a text of at most `limit` bytes as JSON.
pub fn parse(text: &str, limit: usize, what: &str) -> Result<Value, Error> {
    if text.len() > limit {
        return Err(Error::malformed(format!("{what} of {} bytes, more than the limit of {limit}", text.len())));
    }
    serde_json::from_str(text).map_err(|error| Error::malformed(format!("{what} is not JSON: {error}")))
}

/// Indented text with a final newline.
pub fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

impl Object {
    /// An object from a parsed value.
    pub fn new(value: Value, what: &str) -> Result<Object, Error> {
        match value {
            Value::Object(fields) => Ok(Object { fields, what: what.to_owned() }),
            _ => Err(Error::malformed(format!("{what} must be a JSON object"))),
        }
    }

    fn wrong<T>(&self, name: &str, expected: &str) -> Result<T, Error> {
        Err(Error::malformed(format!("{}: field {name:?} must be {expected}", self.what)))
    }

    /// Takes a field that may be absent or null.
    pub fn optional(&mut self, name: &str) -> Option<Value> {
        // shift_remove keeps the order of what is left, so that messages name fields in the order in which they stand
        self.fields.shift_remove(name).filter(|value| !value.is_null())
    }

    fn required(&mut self, name: &str) -> Result<Value, Error> {
        self.optional(name).ok_or_else(|| Error::malformed(format!("{} lacks the field {name:?}", self.what)))
    }

    /// A text.
    pub fn text(&mut self, name: &str) -> Result<String, Error> {
        match self.required(name)? {
            Value::String(text) => Ok(text),
            _ => self.wrong(name, "a text"),
        }
    }

    /// A text that may be absent.
    pub fn optional_text(&mut self, name: &str) -> Result<Option<String>, Error> {
        match self.optional(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => self.wrong(name, "a text"),
        }
    }

    /// A text that must have this value.
    pub fn expect_text(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if self.text(name)? != value {
            return self.wrong(name, &format!("{value:?}"));
        }
        Ok(())
    }

    /// An unsigned integer below 2^63, as a number or a decimal string.
    pub fn uint(&mut self, name: &str) -> Result<u64, Error> {
        let value = self.required(name)?;
        match uint_of(&value) {
            Some(number) => Ok(number),
            None => self.wrong(name, "an unsigned integer below 2^63"),
        }
    }

    /// An unsigned integer that may be absent.
    pub fn optional_uint(&mut self, name: &str) -> Result<Option<u64>, Error> {
        match self.optional(name) {
            None => Ok(None),
            Some(value) => match uint_of(&value) {
                Some(number) => Ok(Some(number)),
                None => self.wrong(name, "an unsigned integer below 2^63"),
            },
        }
    }

    /// True or false.
    pub fn flag(&mut self, name: &str) -> Result<bool, Error> {
        match self.required(name)? {
            Value::Bool(flag) => Ok(flag),
            _ => self.wrong(name, "true or false"),
        }
    }

    /// An object.
    pub fn object(&mut self, name: &str) -> Result<Object, Error> {
        let what = format!("{}, field {name:?}", self.what);
        Object::new(self.required(name)?, &what)
    }

    /// An object that may be absent.
    pub fn optional_object(&mut self, name: &str) -> Result<Option<Object>, Error> {
        let what = format!("{}, field {name:?}", self.what);
        self.optional(name).map(|value| Object::new(value, &what)).transpose()
    }

    /// A list of at most `limit` values.
    pub fn list(&mut self, name: &str, limit: usize) -> Result<Vec<Value>, Error> {
        match self.required(name)? {
            Value::Array(values) if values.len() <= limit => Ok(values),
            Value::Array(_) => self.wrong(name, &format!("a list of at most {limit}")),
            _ => self.wrong(name, "a list"),
        }
    }

    /// A list of at most `limit` values; empty when it is absent.
    pub fn optional_list(&mut self, name: &str, limit: usize) -> Result<Vec<Value>, Error> {
        if self.fields.get(name).is_none_or(Value::is_null) {
            return Ok(Vec::new());
        }
        self.list(name, limit)
    }

    /// A list of at most `limit` objects.
    pub fn objects(&mut self, name: &str, limit: usize) -> Result<Vec<Object>, Error> {
        let what = format!("{}, an entry of {name:?}", self.what);
        self.list(name, limit)?.into_iter().map(|value| Object::new(value, &what)).collect()
    }

    /// A list of at most `limit` texts.
    pub fn texts(&mut self, name: &str, limit: usize) -> Result<Vec<String>, Error> {
        let mut texts = Vec::new();
        for value in self.list(name, limit)? {
            match value {
                Value::String(text) => texts.push(text),
                _ => return self.wrong(name, "a list of texts"),
            }
        }
        Ok(texts)
    }

    /// The remaining fields, for objects whose names are data.
    pub fn into_fields(self) -> Map<String, Value> {
        self.fields
    }

    /// Nothing may remain.
    pub fn end(self) -> Result<(), Error> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::malformed(format!("{}: unknown field {name:?}; check its spelling", self.what))),
        }
    }
}

fn uint_of(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        // One spelling only: no sign, no leading zero.
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0')) => {
            text.parse().ok()
        }
        _ => None,
    };
    number.filter(|number| *number <= i64::MAX as u64)
}

/// Bytes from lower-case hexadecimal.
pub fn from_hex(text: &str) -> Result<Vec<u8>, Error> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let wrong = || Error::malformed("a value that is not lower-case hexadecimal of even length");
    if !text.len().is_multiple_of(2) {
        return Err(wrong());
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => Ok(high << 4 | low),
            _ => Err(wrong()),
        })
        .collect()
}

/// Exactly `N` bytes from lower-case hexadecimal.
pub fn fixed_hex<const N: usize>(text: &str) -> Result<[u8; N], Error> {
    from_hex(text)?
        .try_into()
        .map_err(|bytes: Vec<u8>| Error::malformed(format!("{} bytes in hexadecimal where {N} are needed", bytes.len())))
}
