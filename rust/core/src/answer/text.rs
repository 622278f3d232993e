//! Bytes in the JSON form of an answer: base64url without padding (RFC 4648 section 5), one spelling each.
use crate::error::Error;
use crate::json::Object;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde_json::Value;

pub(crate) fn encode(bytes: &[u8]) -> Value {
    Value::String(URL_SAFE_NO_PAD.encode(bytes))
}

pub(crate) fn encode_or_null(bytes: Option<&[u8]>) -> Value {
    bytes.map_or(Value::Null, encode)
}

/// Bytes from a text.
pub(crate) fn from_text(text: &str, name: &str) -> Result<Vec<u8>, Error> {
    decode(text, name)
}

pub(crate) fn bytes(object: &mut Object, name: &str) -> Result<Vec<u8>, Error> {
    decode(&object.text(name)?, name)
}

pub(crate) fn optional_bytes(object: &mut Object, name: &str) -> Result<Option<Vec<u8>>, Error> {
    object.optional_text(name)?.map(|text| decode(&text, name)).transpose()
}

fn decode(text: &str, name: &str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(text).map_err(|error| Error::malformed(format!("field {name:?} is not base64url without padding: {error}")))
}
