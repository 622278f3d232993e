//! Salted commitments to attributes of a subject (DESIGN of profiles: no personal data in clear, no bare hash of guessable data).
use crate::error::Error;
use crate::hash::{tagged, Hash, Suite, Tag};
use crate::wire::Encoder;

/// The longest attribute value that can be committed to.
pub const MAX_VALUE: usize = 4_096;

/// `H(commitment, [code, attribute, schema, salt, value])`, over the canonical CBOR array. The salt is fresh for every attribute and version.
pub fn commitment(code: &str, attribute: &str, schema: &str, salt: &[u8; 16], value: &str) -> Result<Hash, Error> {
    for (what, text, limit) in [("code", code, 255), ("attribute", attribute, 64), ("schema", schema, 255), ("value", value, MAX_VALUE)] {
        if text.len() > limit {
            return Err(Error::malformed(format!("a {what} of {} bytes, the limit of a commitment is {limit}", text.len())));
        }
    }
    let mut out = Encoder::with_capacity(128 + value.len());
    out.array(5).text(code).text(attribute).text(schema).bytes(salt).text(value);
    Ok(tagged(Tag::Commitment, Suite::Ed25519Sha256, &[&out.finish()]))
}
