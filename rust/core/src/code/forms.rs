//! Forms that carry a code: URL and DID, with their percent-encoding, in and out.
use super::alias::ALIAS_PREFIX;
use super::check::ALPHABET;
use super::parse::{foreign_length_error, is_printable, refuse_unprintable, strip_prefix_ignoring_case, FOREIGN_PREFIX};
use super::{Code, Members, MAX_FOREIGN_BYTES, MAX_INPUT_BYTES};
use crate::error::Error;

impl Code {
    /// Reads a code from a DID or DID URL; its query and fragment are ignored.
    pub fn from_did(did: &str, members: Option<&Members>) -> Result<Code, Error> {
        if strip_prefix_ignoring_case(did.as_bytes(), DID_PREFIX).is_none() {
            return Err(Error::Code("not a DID of this network: it does not start with `did:cityid:`; pass other forms to parse".into()));
        }
        Code::parse(did, members)
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
}

/// Hands the code that `text` is, or carries as a URL or DID, to `read`.
pub(super) fn with_carried_code<T>(text: &[u8], read: impl FnOnce(&[u8]) -> Result<T, Error>) -> Result<T, Error> {
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
    // The first bytes decide, and an escape that does not decode cannot be one of them.
    let path_starts_with = |prefix: &str| {
        let start = Unescape { rest: path }.map_while(Result::ok).take(prefix.len());
        start.map(|(byte, _)| byte.to_ascii_uppercase()).eq(prefix.bytes().map(|byte| byte.to_ascii_uppercase()))
    };
    let path_is_code = path_starts_with(FOREIGN_PREFIX) || path_starts_with(ALIAS_PREFIX);
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

/// The parts before and after the first `separator`; all and nothing where there is none.
fn split_at_byte(text: &[u8], separator: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|&byte| byte == separator) {
        Some(index) => (&text[..index], &text[index + 1..]),
        None => (text, &[]),
    }
}

const DID_PREFIX: &str = "did:cityid:";
