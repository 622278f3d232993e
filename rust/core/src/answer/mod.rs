//! The answer: everything that somebody without the network needs to check what a code resolves to, in CBOR and JSON (P38 to P42).
//!
//! ```text
//! [1, subject, records, ops, hashes, table, header, log path, [round, bitmap, signatures]]
//! ```
//! - [`verify()`] turns an answer and a [`Trust`](crate::trust::Trust) into a [`Verdict`]; [`build()`] makes the answer of a state;
//!   [`resolve()`] gives the same verdict of one's own state without a proof.
//! - `chain` says which records an answer shows and what they mean; builder and verifier share it. `collect` gathers them.
//! - `certified` is the header with its certificate.
//!
//! Rules of the format: deterministic CBOR, each field bounded, nothing that the verifier can derive is stored, so there is one
//! encoding of an answer and no bit of it is without effect. JSON is the same content for tools: nothing in it is hashed but the
//! bytes that it carries in base64url.
//!
//! What this file does not know: whether an answer is true.
mod build;
mod certified;
mod chain;
mod collect;
pub(crate) mod text;
mod verdict;
mod verify;

pub use build::{build, build_with_tables, claimed, resolve, Resolution, StateReader, TableLookup};
pub use certified::{CertifiedHeader, MAX_LOG_PATH};
pub use verdict::{Step, Verdict, VerdictKind};
pub use verify::{verify, verify_bytes, Options, MAX_AGE_MS, MAX_AHEAD_MS, TRUST_PERIOD_MS};

use crate::code::MAX_FOREIGN_BYTES;
use crate::error::Error;
use crate::json::{self, Object};
use crate::map_key::Kind;
use crate::record::MAX_RECORD;
use crate::state::Proof;
use crate::table::{Leaf, TableProof};
use crate::wire::{Decoder, Encoder};
use serde_json::{json, Map, Value};

/// The longest answer in CBOR.
pub const MAX_ANSWER: usize = 256 * 1024;
/// The longest answer in JSON: base64url takes four bytes for three.
pub const MAX_ANSWER_JSON: usize = 384 * 1024;
/// The most records of an answer; an old number of a district needs all eight.
pub const MAX_RECORDS: usize = 8;
/// The most hashes of a state proof. A tree is as deep as the longest common prefix of two paths; 128 levels for each of eight
/// paths is more than anybody can reach by searching for keys.
const MAX_PROOF_HASHES: usize = 1_024;
/// Two bits for each node that the descent visits: at most an inner node and its other child for each level of each path.
const MAX_PROOF_OPS: usize = 1_024;

/// What a state has to say about a subject, with everything that proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// A canonical code, a foreign code verbatim, a 21-digit alias, or `alias:NAMESPACE:ALIAS`.
    pub subject: String,
    /// The records of P39 in their order; none is proven absent.
    pub records: Vec<(Kind, Option<Vec<u8>>)>,
    /// One multi-proof of all of them under the header's state root.
    pub proof: Proof,
    /// What the sealed table of the range holds, when the range is sealed and the table at hand.
    pub table: Option<TableProof>,
    /// The header that the state belongs to, and its certificate.
    pub block: CertifiedHeader,
}

impl Answer {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(4096);
        out.array(9).uint(1).text(&self.subject).array(self.records.len());
        for (kind, record) in &self.records {
            out.array(2).uint(*kind as u64).bytes_or_null(record.as_deref());
        }
        out.bytes(&self.proof.ops).bytes(&self.proof.hashes);
        match &self.table {
            Some(table) => table.encode(&mut out),
            None => {
                out.null();
            }
        }
        self.block.encode_fields(&mut out);
        out.finish()
    }

    /// Reads the canonical bytes.
    ///
    /// Errors: [`Error::Malformed`] for anything not canonical or over a limit.
    pub fn decode(bytes: &[u8]) -> Result<Answer, Error> {
        if bytes.len() > MAX_ANSWER {
            return Err(too_long(bytes.len()));
        }
        let mut decoder = Decoder::new(bytes);
        decoder.array_of(9)?;
        let version = decoder.uint()?;
        if version != 1 {
            return Err(unknown_version(version));
        }
        let subject = decoder.text(MAX_FOREIGN_BYTES)?.to_owned();
        let count = decoder.array(MAX_RECORDS)?;
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            decoder.array_of(2)?;
            let kind = Kind::parse(decoder.uint()?)?;
            records.push((kind, if decoder.null() { None } else { Some(decoder.bytes(MAX_RECORD)?.to_vec()) }));
        }
        let proof = Proof { ops: decoder.bytes(MAX_PROOF_OPS)?.to_vec(), hashes: decoder.bytes(MAX_PROOF_HASHES * 32)?.to_vec() };
        let table = if decoder.null() { None } else { Some(TableProof::decode(&mut decoder)?) };
        let block = CertifiedHeader::decode_fields(&mut decoder)?;
        decoder.end()?;
        Ok(Answer { subject, records, proof, table, block })
    }

    /// The JSON form.
    pub fn to_json(&self) -> String {
        json::pretty(&self.to_value())
    }

    /// The JSON form as a value, to stand in a larger one.
    pub fn to_value(&self) -> Value {
        let records: Vec<Value> = self
            .records
            .iter()
            .map(|(kind, record)| json!({"kind": kind.name(), "record": text::encode_or_null(record.as_deref())}))
            .collect();
        let mut fields = Map::new();
        fields.insert("cityid".to_owned(), json!("answer"));
        fields.insert("version".to_owned(), json!(1));
        fields.insert("subject".to_owned(), json!(self.subject));
        fields.insert("records".to_owned(), records.into());
        fields.insert("ops".to_owned(), text::encode(&self.proof.ops));
        fields.insert("hashes".to_owned(), text::encode(&self.proof.hashes));
        fields.insert("table".to_owned(), self.table.as_ref().map_or(Value::Null, table_json));
        fields.append(&mut self.block.json_fields());
        Value::Object(fields)
    }

    /// Reads the JSON form; refuses fields that it does not know.
    pub fn from_json(text: &str) -> Result<Answer, Error> {
        Answer::from_object(json::parse_object(text, MAX_ANSWER_JSON, "an answer")?)
    }

    /// Reads the JSON form from a parsed object; refuses fields that it does not know.
    pub fn from_object(mut object: Object) -> Result<Answer, Error> {
        object.expect_text("cityid", "answer")?;
        let version = object.uint("version")?;
        if version != 1 {
            return Err(unknown_version(version));
        }
        let subject = object.text("subject")?;
        let mut records = Vec::new();
        for mut entry in object.objects("records", MAX_RECORDS)? {
            records.push((kind_from_name(&entry.text("kind")?)?, text::optional_bytes(&mut entry, "record")?));
            entry.end()?;
        }
        let proof = Proof { ops: text::bytes(&mut object, "ops")?, hashes: text::bytes(&mut object, "hashes")? };
        let table = object.optional_object("table")?.map(table_from_json).transpose()?;
        let block = CertifiedHeader::from_json_fields(&mut object)?;
        object.end()?;
        let answer = Answer { subject, records, proof, table, block };
        answer.check_limits()?;
        Ok(answer)
    }

    /// The bounds that [`Answer::decode`] puts on each field, for an answer that was made in memory or came as JSON.
    pub fn check_limits(&self) -> Result<(), Error> {
        if self.subject.len() > MAX_FOREIGN_BYTES || self.records.len() > MAX_RECORDS {
            return Err(Error::malformed(format!("an answer over a limit: subject {MAX_FOREIGN_BYTES} bytes, {MAX_RECORDS} records")));
        }
        if self.records.iter().any(|(_, record)| record.as_ref().is_some_and(|record| record.len() > MAX_RECORD)) {
            return Err(Error::malformed(format!("an answer with a record of more than {MAX_RECORD} bytes")));
        }
        if self.proof.ops.len() > MAX_PROOF_OPS || self.proof.hashes.len() > MAX_PROOF_HASHES * 32 {
            return Err(Error::malformed(format!(
                "a state proof of more than {MAX_PROOF_HASHES} hashes or {MAX_PROOF_OPS} bytes of steps"
            )));
        }
        self.block.check_limits()?;
        if let Some(table) = &self.table {
            table.check_limits()?;
        }
        let length = self.encode().len();
        if length > MAX_ANSWER {
            return Err(too_long(length));
        }
        Ok(())
    }
}

fn too_long(length: usize) -> Error {
    Error::malformed(format!("an answer of {length} bytes, more than the limit of {MAX_ANSWER}"))
}

fn unknown_version(version: u64) -> Error {
    Error::malformed(format!("an answer of version {version}; this software reads version 1, get a newer one"))
}

fn kind_from_name(name: &str) -> Result<Kind, Error> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| Error::malformed(format!("unknown record kind {name:?}")))
}

fn table_json(table: &TableProof) -> Value {
    json!({
        "salt": text::encode_or_null(table.leaf.as_ref().map(|leaf| &leaf.salt[..])),
        "record": text::encode_or_null(table.leaf.as_ref().map(|leaf| &leaf.record[..])),
        "bitmap": table.bitmap,
        "siblings": text::encode(table.siblings.as_flattened()),
    })
}

fn table_from_json(mut object: Object) -> Result<TableProof, Error> {
    let salt = text::optional_bytes(&mut object, "salt")?;
    let salt = salt.map(|salt| <[u8; 16]>::try_from(salt).map_err(|_| Error::malformed("a salt that is not 16 bytes long"))).transpose()?;
    let leaf = Leaf::from_parts(salt, text::optional_bytes(&mut object, "record")?)?;
    let bitmap = u32::try_from(object.uint("bitmap")?).map_err(|_| Error::malformed("a bitmap of a table proof above 2^20 - 1"))?;
    let siblings = text::bytes(&mut object, "siblings")?;
    object.end()?;
    match siblings.as_chunks::<32>() {
        (siblings, []) => Ok(TableProof { leaf, bitmap, siblings: siblings.to_vec() }),
        _ => Err(Error::malformed("siblings of a table proof that are not whole hashes of 32 bytes")),
    }
}
