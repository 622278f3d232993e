//! Checkpoints of the log in the formats of C2SP, which witnesses, auditors and Go's `sumdb/note` read:
//! [tlog-checkpoint](https://c2sp.org/tlog-checkpoint), [signed-note](https://c2sp.org/signed-note) and the Ed25519 kind of
//! [tlog-cosignature](https://c2sp.org/tlog-cosignature).
//!
//! ```text
//! cities.example/1f3a                                  origin
//! 20852163                                             size, decimal
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=         root, base64
//!
//! — 130100.cities.example jWbPPwAAAABkGFDLEZMHwS…      name, base64(key id, time, signature)
//! ```
//!
//! Rules: the body has exactly these three lines (no extension lines: nobody agrees on what they mean); there is one text for
//! each checkpoint, and any other is refused; notes are bounded in bytes and lines.
//!
//! What this file does not know: how to sign or to verify. The caller gives the function that verifies.
use crate::error::Error;
use crate::hash::{hex, sha256, Hash};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;

/// A log's state: its name, its number of leaves and its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
}

/// A signed note: a text and its signature lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The text, its last newline included.
    pub body: String,
    /// The lines, in their order.
    pub lines: Vec<SignatureLine>,
}

/// One signature line of a note, of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    /// The key name.
    pub name: String,
    /// The key id.
    pub key_id: [u8; 4],
    /// What follows the key id.
    pub signature: Vec<u8>,
}

/// A timestamped Ed25519 cosignature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// Seconds since 1970.
    pub time: u64,
    /// Over [`cosignature_message`].
    pub signature: [u8; 64],
}

/// A cosigner: a name and a public key, one string for both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignerKey {
    name: String,
    public_key: [u8; 32],
}

/// Bytes of a note that is read.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// Signature lines of a note: more are refused by Go's `sumdb/note` too.
pub const NOTE_LINES_MAX: usize = 100;
/// Bytes of an origin or key name.
pub const NAME_BYTES_MAX: usize = 255;
/// The signature type of a timestamped Ed25519 cosignature.
pub const COSIGNATURE_TYPE: u8 = 0x04;

const COSIGNATURE_BYTES: usize = 8 + 64;
const LINE_START: &str = "\u{2014} ";

impl Checkpoint {
    /// A checkpoint.
    ///
    /// Errors: `Malformed` if the origin is empty, longer than 255 bytes, or has control characters.
    pub fn new(origin: &str, size: u64, root: Hash) -> Result<Checkpoint, Error> {
        if origin.is_empty() || origin.len() > NAME_BYTES_MAX || origin.chars().any(char::is_control) {
            return Err(Error::malformed(
                "the origin of a checkpoint is one line of 1 to 255 bytes without control characters; correct it",
            ));
        }
        Ok(Checkpoint { origin: origin.to_owned(), size, root })
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root over the leaves.
    pub fn root(&self) -> &Hash {
        &self.root
    }

    /// The note text.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// Reads a note text.
    ///
    /// Errors: `Malformed` for anything but the text that [`Checkpoint::body`] prints.
    pub fn parse(body: &str) -> Result<Checkpoint, Error> {
        let lines: Vec<&str> = body.splitn(5, '\n').collect();
        let [origin, size, root, ""] = lines[..] else {
            return Err(Error::malformed("a checkpoint has three lines: origin, size, root; extension lines are not read here"));
        };
        let number = size.parse::<u64>().ok().filter(|number| number.to_string() == size);
        let number =
            number.ok_or_else(|| Error::malformed("the size of a checkpoint is a decimal number below 2^64 without leading zeros"))?;
        let root = STANDARD.decode(root).ok().and_then(|bytes| Hash::try_from(bytes).ok());
        let root = root.ok_or_else(|| Error::malformed("the root of a checkpoint is 32 bytes in padded standard base64"))?;
        Checkpoint::new(origin, number, root)
    }
}

/// What a cosigner signs: the time and the whole note text.
pub fn cosignature_message(body: &str, time: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{body}").into_bytes()
}

/// Prints a note. The body ends in a newline, as [`Checkpoint::body`] does.
pub fn note(body: &str, lines: &[SignatureLine]) -> String {
    let mut text = format!("{body}\n");
    for line in lines {
        text.push_str(&line.text());
        text.push('\n');
    }
    text
}

/// Reads a note of any text and signature kinds.
///
/// Errors: `Malformed` if it is longer than 64 KiB, has no or more than 100 signature lines, or breaks the signed-note format.
pub fn parse_note(text: &[u8]) -> Result<Note, Error> {
    if text.len() > NOTE_BYTES_MAX {
        return Err(Error::malformed(format!(
            "a note of {} bytes is longer than {NOTE_BYTES_MAX}; ask for one with fewer signatures",
            text.len()
        )));
    }
    let text = std::str::from_utf8(text).map_err(|_| Error::malformed("a note is UTF-8 text; this one is not"))?;
    if text.chars().any(|letter| letter < ' ' && letter != '\n') {
        return Err(Error::malformed("a note has no control characters but newlines; this one has"));
    }
    // The signatures follow the last empty line, so the text may have empty lines of its own.
    let Some((body, lines)) = text.rfind("\n\n").map(|end| (&text[..=end], &text[end + 2..])) else {
        return Err(Error::malformed("a note has an empty line between its text and its signatures; this one has none"));
    };
    let Some(lines) = lines.strip_suffix('\n') else {
        return Err(Error::malformed("a note ends in a signature line and a newline; this one is cut off"));
    };
    let lines: Vec<&str> = lines.split('\n').collect();
    if lines.len() > NOTE_LINES_MAX {
        return Err(Error::malformed(format!(
            "a note of {} signature lines has more than {NOTE_LINES_MAX}; ask for a minimal quorum",
            lines.len()
        )));
    }
    let lines = lines.into_iter().map(SignatureLine::parse).collect::<Result<_, _>>()?;
    Ok(Note { body: body.to_owned(), lines })
}

/// Checks the cosignatures of known keys on a note: for each key that signed, its position in `keys` and the time, in the order of
/// the lines. `verify` takes public key, message and signature. Lines of other keys are not looked at, nor is a second line of one key.
///
/// Errors: `Proof` if a line of a known key does not verify (signed-note: reject the whole note). An empty result is no error: the
/// caller's policy says how many are enough.
pub fn verify_cosignatures(
    note: &Note,
    keys: &[CosignerKey],
    verify: impl Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool,
) -> Result<Vec<(usize, u64)>, Error> {
    let mut found: Vec<(usize, u64)> = Vec::new();
    for line in &note.lines {
        let known = keys.iter().position(|key| key.name == line.name && key.id() == line.key_id);
        let Some(position) = known.filter(|position| found.iter().all(|(earlier, _)| earlier != position)) else {
            continue;
        };
        let cosignature = Cosignature::parse(&line.signature)?;
        if !verify(&keys[position].public_key, &cosignature_message(&note.body, cosignature.time), &cosignature.signature) {
            return Err(Error::proof(format!(
                "the cosignature of {} does not verify, so the whole note is refused; fetch the checkpoint again, from another gateway if this repeats",
                line.name
            )));
        }
        found.push((position, cosignature.time));
    }
    Ok(found)
}

impl SignatureLine {
    /// The line as it stands in a note, without the newline.
    pub fn text(&self) -> String {
        let blob = STANDARD.encode([&self.key_id[..], &self.signature].concat());
        format!("{LINE_START}{} {blob}", self.name)
    }

    /// Reads one line without its newline.
    ///
    /// Errors: `Malformed` if it is no signature line.
    pub fn parse(line: &str) -> Result<SignatureLine, Error> {
        let malformed = || {
            Error::malformed(
                "a signature line of a note is an em dash, a key name and base64 of a key id and a signature, with single spaces between",
            )
        };
        let (name, blob) = line.strip_prefix(LINE_START).and_then(|rest| rest.split_once(' ')).ok_or_else(malformed)?;
        check_name(name)?;
        let blob = STANDARD.decode(blob).map_err(|_| malformed())?;
        match blob.split_first_chunk::<4>() {
            Some((key_id, signature)) if !signature.is_empty() => {
                Ok(SignatureLine { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
            }
            _ => Err(malformed()),
        }
    }
}

impl Cosignature {
    /// Time and signature as they stand in a line.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.time.to_be_bytes()[..], &self.signature].concat()
    }

    /// Reads what [`Cosignature::to_bytes`] writes.
    ///
    /// Errors: `Malformed` for another length, or a time beyond 2^63 - 1.
    pub fn parse(bytes: &[u8]) -> Result<Cosignature, Error> {
        let parts = bytes.split_first_chunk::<8>().and_then(|(time, rest)| Some((u64::from_be_bytes(*time), rest.try_into().ok()?)));
        match parts {
            Some((time, signature)) if time <= i64::MAX as u64 => Ok(Cosignature { time, signature }),
            Some(_) => Err(Error::malformed("the time of a cosignature is beyond 2^63 - 1 seconds")),
            None => Err(Error::malformed(format!("a cosignature has {COSIGNATURE_BYTES} bytes, time and signature, not {}", bytes.len()))),
        }
    }
}

impl CosignerKey {
    /// A cosigner.
    ///
    /// Errors: `Malformed` if the name is empty, longer than 255 bytes, or has spaces, control characters or a plus.
    pub fn new(name: &str, public_key: [u8; 32]) -> Result<CosignerKey, Error> {
        check_name(name)?;
        Ok(CosignerKey { name: name.to_owned(), public_key })
    }

    /// The key name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 public key.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// The key id that its lines carry.
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, COSIGNATURE_TYPE, &self.public_key)
    }

    /// The line that carries a cosignature of this key.
    pub fn line(&self, cosignature: &Cosignature) -> SignatureLine {
        SignatureLine { name: self.name.clone(), key_id: self.id(), signature: cosignature.to_bytes() }
    }

    /// The verifier key, `name+key id+base64(type, public key)`, as policies list it.
    pub fn verifier_key(&self) -> String {
        let typed = [&[COSIGNATURE_TYPE][..], &self.public_key].concat();
        format!("{}+{}+{}", self.name, hex(&self.id()), STANDARD.encode(typed))
    }

    /// Reads a verifier key.
    ///
    /// Errors: `Malformed` for anything but what [`CosignerKey::verifier_key`] prints.
    pub fn parse(text: &str) -> Result<CosignerKey, Error> {
        // Base64 may hold a plus, names and ids do not.
        let mut parts = text.splitn(3, '+');
        let parsed = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(_), Some(typed)) => STANDARD.decode(typed).ok().and_then(|bytes| match bytes.split_first() {
                Some((&COSIGNATURE_TYPE, key)) => CosignerKey::new(name, key.try_into().ok()?).ok(),
                _ => None,
            }),
            _ => None,
        };
        parsed.filter(|key| key.verifier_key() == text).ok_or_else(|| {
            Error::malformed("a verifier key of a cosigner is name+key id+base64(0x04, 32-byte public key) with the key id of both; copy it again from its owner")
        })
    }
}

/// The recommended key id of signed-note: the first four bytes of `SHA-256(name "\n" type public_key)`.
pub fn key_id(name: &str, signature_type: u8, public_key: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), b"\n", &[signature_type], public_key].concat());
    [a, b, c, d]
}

fn check_name(name: &str) -> Result<(), Error> {
    let forbidden = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '+';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(forbidden) {
        return Err(Error::malformed("a key name has 1 to 255 bytes without spaces, control characters and plus; correct it"));
    }
    Ok(())
}
