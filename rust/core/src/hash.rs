//! Hashes: the 32-byte digest type, the suite byte and domain separation.
//!
//! Every hash or signature of cityid that is not fixed by an outside standard (RFC 9162 log, jmt state map) starts with
//! `"cityid/1/" tag 0x00 suite`, so that bytes made for one purpose never verify for another, or under another suite.
use crate::error::Error;
use sha2::{Digest, Sha256};

/// A 32-byte digest.
pub type Hash = [u8; 32];

/// Which algorithms a network uses. The byte stands in the genesis, in every tagged hash and beside every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Suite {
    /// Ed25519 (ZIP-215) and SHA-256.
    Ed25519Sha256 = 1,
    /// SM2 and SM3: the byte is reserved, the algorithms are refused by name.
    Sm2Sm3 = 2,
}

impl Suite {
    /// Reads a suite byte; refuses unknown ones, and SM2/SM3 as not implemented.
    pub fn parse(byte: u64) -> Result<Suite, Error> {
        match byte {
            1 => Ok(Suite::Ed25519Sha256),
            2 => Err(Error::malformed("suite 2 (SM2/SM3) is reserved and not implemented in this version; use suite 1 (Ed25519/SHA-256)")),
            other => Err(Error::malformed(format!("unknown suite {other}; known: 1 (Ed25519/SHA-256), 2 (SM2/SM3, reserved)"))),
        }
    }
}

/// What a tagged hash or signed message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Genesis hash, over the canonical genesis bytes.
    Genesis,
    /// Header hash (the `parent` field of the next header), over the header bytes.
    Header,
    /// Validator set hash, over its canonical bytes.
    Validators,
    /// Trust words, over the canonical trust bytes.
    Trust,
    /// Transaction id, over the unsigned body.
    Transaction,
    /// What signers of a transaction sign: the tag and the transaction id.
    TransactionSignature,
    /// Digest of a batch body.
    Batch,
    /// Hash of a record's previous version.
    Record,
    /// Proof of possession of a key.
    Possession,
    /// Salted attribute commitment.
    Commitment,
    /// Salt of an attribute's commitment, expanded from a random seed.
    AttributeSalt,
    /// Leaf of a sealed table.
    TableLeaf,
    /// Empty leaf of a sealed table.
    TableEmpty,
    /// Inner node of a sealed table.
    TableNode,
    /// Salt of a leaf of a sealed table (P43).
    TableSalt,
    /// What a city signs that keeps a sealed table (P45).
    StorageReceipt,
    /// An answer that transactions expired, signed by a node.
    Expired,
}

impl Tag {
    const fn text(self) -> &'static str {
        match self {
            Tag::Genesis => "genesis",
            Tag::Header => "header",
            Tag::Validators => "validators",
            Tag::Trust => "trust",
            Tag::Transaction => "transaction",
            Tag::TransactionSignature => "transaction-signature",
            Tag::Batch => "batch",
            Tag::Record => "record",
            Tag::Possession => "possession",
            Tag::Commitment => "commitment",
            Tag::AttributeSalt => "attribute-salt",
            Tag::TableLeaf => "table-leaf",
            Tag::TableEmpty => "table-empty",
            Tag::TableNode => "table-node",
            Tag::TableSalt => "table-salt",
            Tag::StorageReceipt => "storage-receipt",
            Tag::Expired => "expired",
        }
    }
}

/// SHA-256 of some bytes.
pub fn sha256(data: &[u8]) -> Hash {
    match short_sha256(data, &[]) {
        Some(hash) => hash,
        None => Sha256::digest(data).into(),
    }
}

/// The longest message that is padded in place and hashed in one step.
const SHORT: usize = 4 * 64 - 9;

/// SHA-256 of a text in parts, padded in place and hashed in one step; none when they are longer than `SHORT`. For map keys,
/// records and leaves, of which there are millions, this takes half the time of a hasher that may be given more.
fn short_sha256(first: &[u8], rest: &[&[u8]]) -> Option<Hash> {
    /// FIPS 180-4 section 5.3.3.
    const START: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
    let length = rest.iter().fold(first.len(), |sum, part| sum + part.len());
    if length > SHORT {
        return None;
    }
    let mut message = [[0; 64]; 4];
    let bytes = message.as_flattened_mut();
    let mut end = 0;
    for part in std::iter::once(&first).chain(rest) {
        bytes[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    // The padding of section 5.1.1.
    bytes[end] = 0x80;
    let blocks = (length + 9).div_ceil(64);
    bytes[blocks * 64 - 8..blocks * 64].copy_from_slice(&(length as u64 * 8).to_be_bytes());
    let mut state = START;
    sha2::block_api::compress256(&mut state, &message[..blocks]);
    let mut out = [0; 32];
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    Some(out)
}

/// `"cityid/1/" tag 0x00 suite`: the start of every tagged hash and signed message.
pub fn domain(tag: Tag, suite: Suite) -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    out.extend_from_slice(b"cityid/1/");
    out.extend_from_slice(tag.text().as_bytes());
    out.push(0);
    out.push(suite as u8);
    out
}

/// The tagged hash of the concatenated parts. Callers pass parts of fixed length, or one part of any length last.
pub fn tagged(tag: Tag, suite: Suite, parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(domain(tag, suite));
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A tagged hash that is taken many times, of short messages: they are padded in place and hashed in one step.
#[derive(Clone, Debug)]
pub struct TagHasher {
    domain: Vec<u8>,
}

impl TagHasher {
    /// Hashes for one purpose.
    pub fn new(tag: Tag, suite: Suite) -> TagHasher {
        TagHasher { domain: domain(tag, suite) }
    }

    /// The same as [`tagged`].
    pub fn hash(&self, parts: &[&[u8]]) -> Hash {
        if let Some(hash) = short_sha256(&self.domain, parts) {
            return hash;
        }
        let mut hasher = Sha256::new_with_prefix(&self.domain);
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize().into()
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_every_length_hash_as_they_do_elsewhere() {
        let text: Vec<u8> = (0..400u16).map(|byte| byte as u8).collect();
        let hasher = TagHasher::new(Tag::TableLeaf, Suite::Ed25519Sha256);
        for length in 0..text.len() {
            let (left, right) = text[..length].split_at(length / 3);
            assert_eq!(hasher.hash(&[left, right]), tagged(Tag::TableLeaf, Suite::Ed25519Sha256, &[left, right]), "{length} bytes");
            assert_eq!(sha256(&text[..length]), <[u8; 32]>::from(Sha256::digest(&text[..length])), "{length} bytes");
        }
    }
}
