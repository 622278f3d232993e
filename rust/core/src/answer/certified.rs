//! A header with what shows that the cities decided it: its way into the log and their precommits (P33, P36).
//!
//! The certified value is never given: it is computed from the header and the log path, so nothing but this header at this height
//! can stand under the signatures. Who counts is the caller's to say; the signers' positions are all that is taken from here.
use super::text;
use crate::block::{Header, ValidatorSet, MAX_HEADER, MAX_VALIDATORS};
use crate::error::Error;
use crate::hash::Hash;
use crate::json::Object;
use crate::log;
use crate::vote::{verify_certificate, CommitCertificate, CommitSignature, MAX_ROUND};
use crate::wire::{Decoder, Encoder};
use serde_json::{json, Map, Value};

/// The longest log path: a log of 2^63 leaves is 63 levels high.
pub const MAX_LOG_PATH: usize = 63;
const MAX_BITMAP: usize = MAX_VALIDATORS.div_ceil(8);

/// A header, its log path and its commit certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertifiedHeader {
    /// The encoded header: the log leaf of its height.
    pub header: Vec<u8>,
    /// RFC 9162 inclusion path of leaf `height` in the log of `height + 1` leaves.
    pub log_path: Vec<Hash>,
    /// The round in which the value was decided.
    pub round: u32,
    /// Which validators signed: bit i is mask `0x80 >> (i % 8)` of byte `i / 8`, unused bits are zero.
    pub bitmap: Vec<u8>,
    /// Their signatures, in the order of the set.
    pub signatures: Vec<[u8; 64]>,
}

impl CertifiedHeader {
    /// Checks that more than two thirds of `validators` signed this header, and says how many. `header` is the decoded header.
    ///
    /// Errors: [`Error::Proof`] for a log path that does not fit the height, [`Error::Certificate`] for the rest.
    pub fn verify(&self, header: &Header, validators: &ValidatorSet) -> Result<usize, Error> {
        let certificate = self.certificate(header.height, validators)?;
        let (count, total, quorum) = (certificate.signatures.len(), validators.len(), validators.quorum());
        if count < quorum {
            return Err(Error::Certificate(format!(
                "{count} of {total} cities signed, and {quorum} are needed; fetch the answer again, from another gateway if this repeats"
            )));
        }
        verify_certificate(&header.genesis, &validators.keys(), &certificate)
    }

    /// The commit certificate over the value that follows from header and log path (P33), its signers counted in `validators`.
    pub fn certificate(&self, height: u64, validators: &ValidatorSet) -> Result<CommitCertificate, Error> {
        let value = self.log_root(height)?;
        let total = validators.len();
        let signed = |index: usize| self.bitmap.get(index / 8).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0);
        let positions: Vec<u16> = (0u16..).take(self.bitmap.len() * 8).filter(|index| signed(usize::from(*index))).collect();
        if self.bitmap.len() != total.div_ceil(8) || positions.last().is_some_and(|last| usize::from(*last) >= total) {
            return Err(Error::Certificate(format!("the list of signers is not one of {total} cities; fetch the answer again")));
        }
        if positions.len() != self.signatures.len() {
            return Err(Error::Certificate(format!(
                "{} cities are listed as signers and {} signatures are given, of {total} cities; {} are needed",
                positions.len(),
                self.signatures.len(),
                validators.quorum()
            )));
        }
        let signatures =
            positions.iter().zip(&self.signatures).map(|(index, signature)| CommitSignature { index: *index, signature: *signature });
        // A set has at most MAX_VALIDATORS members, so its size fits.
        Ok(CommitCertificate { height, round: self.round, value, validators: total as u16, signatures: signatures.collect() })
    }

    /// The root of the log that ends with this header: the value that its certificate is about (P33).
    ///
    /// Errors: [`Error::Proof`] for a log path that does not fit the height.
    pub fn log_root(&self, height: u64) -> Result<Hash, Error> {
        let size = height.checked_add(1).ok_or_else(|| Error::malformed("a header of a height beyond 2^63 - 1"))?;
        log::root_from_inclusion(&log::leaf_hash(&self.header), height, size, &self.log_path)
    }

    /// A header with the signatures of a certificate over its value.
    pub fn from_certificate(header: Vec<u8>, log_path: Vec<Hash>, certificate: &CommitCertificate) -> CertifiedHeader {
        let mut bitmap = vec![0; usize::from(certificate.validators).div_ceil(8)];
        for entry in &certificate.signatures {
            if let Some(byte) = bitmap.get_mut(usize::from(entry.index / 8)) {
                *byte |= 0x80 >> (entry.index % 8);
            }
        }
        let signatures = certificate.signatures.iter().map(|entry| entry.signature).collect();
        CertifiedHeader { header, log_path, round: certificate.round, bitmap, signatures }
    }

    /// The canonical bytes: `[header, log path, [round, bitmap, signatures]]`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(512 + 64 * self.signatures.len());
        out.array(3);
        self.encode_fields(&mut out);
        out.finish()
    }

    /// Reads what [`CertifiedHeader::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<CertifiedHeader, Error> {
        let mut decoder = Decoder::new(bytes);
        decoder.array_of(3)?;
        let block = CertifiedHeader::decode_fields(&mut decoder)?;
        decoder.end()?;
        Ok(block)
    }

    /// The JSON form: bytes in base64url without padding.
    pub fn to_json(&self) -> Value {
        Value::Object(self.json_fields())
    }

    /// Reads the JSON form.
    pub fn from_json(value: Value) -> Result<CertifiedHeader, Error> {
        let mut object = Object::new(value, "a certified header")?;
        let block = CertifiedHeader::from_json_fields(&mut object)?;
        object.end()?;
        Ok(block)
    }

    pub(crate) fn encode_fields(&self, out: &mut Encoder) {
        out.bytes(&self.header).bytes(self.log_path.as_flattened());
        out.array(3).uint(u64::from(self.round)).bytes(&self.bitmap).bytes(self.signatures.as_flattened());
    }

    pub(crate) fn decode_fields(decoder: &mut Decoder<'_>) -> Result<CertifiedHeader, Error> {
        let header = decoder.bytes(MAX_HEADER)?.to_vec();
        let log_path = split(decoder.bytes(MAX_LOG_PATH * 32)?, "a log path")?;
        decoder.array_of(3)?;
        let block = CertifiedHeader {
            header,
            log_path,
            round: decoder.uint_to(u64::from(MAX_ROUND))? as u32,
            bitmap: decoder.bytes(MAX_BITMAP)?.to_vec(),
            signatures: split(decoder.bytes(MAX_VALIDATORS * 64)?, "a list of signatures")?,
        };
        Ok(block)
    }

    pub(super) fn json_fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("header".to_owned(), text::encode(&self.header));
        fields.insert("log_path".to_owned(), text::encode(self.log_path.as_flattened()));
        let signatures = text::encode(self.signatures.as_flattened());
        fields
            .insert("certificate".to_owned(), json!({"round": self.round, "bitmap": text::encode(&self.bitmap), "signatures": signatures}));
        fields
    }

    pub(super) fn from_json_fields(object: &mut Object) -> Result<CertifiedHeader, Error> {
        let header = text::bytes(object, "header")?;
        let log_path = split(&text::bytes(object, "log_path")?, "a log path")?;
        let mut certificate = object.object("certificate")?;
        let block = CertifiedHeader {
            header,
            log_path,
            round: u32::try_from(certificate.uint("round")?).map_err(|_| Error::malformed("a round above 2^31 - 1"))?,
            bitmap: text::bytes(&mut certificate, "bitmap")?,
            signatures: split(&text::bytes(&mut certificate, "signatures")?, "a list of signatures")?,
        };
        certificate.end()?;
        block.check_limits()?;
        Ok(block)
    }

    /// The bounds that decoding puts on each field, for a value that was made in memory or came as JSON.
    pub(super) fn check_limits(&self) -> Result<(), Error> {
        let within = self.header.len() <= MAX_HEADER
            && self.log_path.len() <= MAX_LOG_PATH
            && self.round <= MAX_ROUND
            && self.bitmap.len() <= MAX_BITMAP
            && self.signatures.len() <= MAX_VALIDATORS;
        if within {
            return Ok(());
        }
        Err(Error::malformed(format!(
            "a certified header over a limit: header {MAX_HEADER} bytes, log path {MAX_LOG_PATH} hashes, round {MAX_ROUND}, {MAX_VALIDATORS} signatures"
        )))
    }
}

/// Whole entries of `N` bytes.
fn split<const N: usize>(bytes: &[u8], what: &str) -> Result<Vec<[u8; N]>, Error> {
    match bytes.as_chunks::<N>() {
        (entries, []) => Ok(entries.to_vec()),
        _ => Err(Error::malformed(format!("{what} of {} bytes, which is no multiple of {N}", bytes.len()))),
    }
}
