//! Headers and validator sets (P31, P33, P36): what cities agree on and who counts.
//!
//! This file knows the structures and their hashes; whether a header follows from its parent is the ledger's to say.
use crate::code::City;
use crate::error::Error;
use crate::hash::{tagged, Hash, Suite, Tag};
use crate::mutants::{planted, Mutant};
use crate::wire::{Decoder, Encoder};

/// The most validators that a set may have.
pub const MAX_VALIDATORS: usize = 100;
/// The fewest validators that tolerate one faulty city.
pub const MIN_VALIDATORS: usize = 4;
/// The longest header.
pub const MAX_HEADER: usize = 512;
/// The newest protocol version that this software knows (P67). Version 2 has the rules of 1.
pub const NEWEST_PROTOCOL: u64 = 2;

/// A block header (P31).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The protocol version of its height (P67).
    pub version: u64,
    /// Hash of the genesis of the network.
    pub genesis: Hash,
    /// Height; the genesis block has 0.
    pub height: u64,
    /// Milliseconds since 1970 (UTC), above the parent's.
    pub time_ms: u64,
    /// Tagged hash of the parent header; zeros at height 0.
    pub parent: Hash,
    /// RFC 9162 root over the batch digests.
    pub batches_root: Hash,
    /// RFC 9162 root over the transaction ids in block order.
    pub transactions_root: Hash,
    /// RFC 9162 root over the receipts.
    pub receipts_root: Hash,
    /// Root of the state map after this block.
    pub state_root: Hash,
    /// Hash of the validator set of this height.
    pub validators: Hash,
    /// Hash of the validator set of the next height.
    pub next_validators: Hash,
    /// The city that first proposed this header; no part of validity.
    pub proposer: City,
}

impl Header {
    /// The canonical bytes: the log leaf of this height.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(340);
        out.array(12).uint(self.version).bytes(&self.genesis).uint(self.height).uint(self.time_ms).bytes(&self.parent);
        out.bytes(&self.batches_root).bytes(&self.transactions_root).bytes(&self.receipts_root).bytes(&self.state_root);
        out.bytes(&self.validators).bytes(&self.next_validators).text(self.proposer.as_str());
        out.finish()
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8]) -> Result<Header, Error> {
        if bytes.len() > MAX_HEADER {
            return Err(Error::malformed(format!("a header of {} bytes, more than the limit of {MAX_HEADER}", bytes.len())));
        }
        let mut decoder = Decoder::new(bytes);
        decoder.array_of(12)?;
        let version = decoder.uint()?;
        if !(1..=NEWEST_PROTOCOL).contains(&version) {
            return Err(Error::malformed(format!(
                "a header of version {version}; this software reads versions 1 to {NEWEST_PROTOCOL}, install a newer one"
            )));
        }
        let header = Header {
            version,
            genesis: decoder.hash()?,
            height: decoder.uint()?,
            time_ms: decoder.uint()?,
            parent: decoder.hash()?,
            batches_root: decoder.hash()?,
            transactions_root: decoder.hash()?,
            receipts_root: decoder.hash()?,
            state_root: decoder.hash()?,
            validators: decoder.hash()?,
            next_validators: decoder.hash()?,
            proposer: City::parse(decoder.text(6)?)?,
        };
        decoder.end()?;
        Ok(header)
    }
}

/// Tagged hash of a header's bytes, the `parent` of the next header.
pub fn header_hash(encoded: &[u8]) -> Hash {
    tagged(Tag::Header, Suite::Ed25519Sha256, &[encoded])
}

/// A city that votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Its code.
    pub city: City,
    /// Its consensus key.
    pub key: [u8; 32],
}

/// The cities that vote at a height, ascending by code; one city, one vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet {
    members: Vec<Validator>,
}

impl ValidatorSet {
    /// A set of 4 to 100 cities, ascending by code, no city and no key twice.
    pub fn new(members: Vec<Validator>) -> Result<Self, Error> {
        if !(MIN_VALIDATORS..=MAX_VALIDATORS).contains(&members.len()) {
            return Err(Error::malformed(format!(
                "a validator set of {}; it takes {MIN_VALIDATORS} to {MAX_VALIDATORS} cities",
                members.len()
            )));
        }
        if !members.windows(2).all(|pair| pair[0].city < pair[1].city) {
            return Err(Error::malformed("validators that are repeated or not ascending by city code"));
        }
        let mut keys: Vec<_> = members.iter().map(|member| member.key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::malformed("two validators with one key; every city votes with a key of its own"));
        }
        Ok(ValidatorSet { members })
    }

    /// Reads what [`ValidatorSet::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<ValidatorSet, Error> {
        let mut decoder = Decoder::new(bytes);
        let set = ValidatorSet::decode_next(&mut decoder)?;
        decoder.end()?;
        Ok(set)
    }

    /// Reads a set that stands in another structure.
    pub fn decode_next(decoder: &mut Decoder<'_>) -> Result<ValidatorSet, Error> {
        let count = decoder.list(MAX_VALIDATORS, 43)?;
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            decoder.array_of(3)?;
            let city = City::parse(decoder.text(6)?)?;
            Suite::parse(decoder.uint()?)?;
            members.push(Validator { city, key: decoder.fixed()? });
        }
        ValidatorSet::new(members)
    }

    /// The validators in order.
    pub fn members(&self) -> &[Validator] {
        &self.members
    }

    /// Their keys in order.
    pub fn keys(&self) -> Vec<[u8; 32]> {
        self.members.iter().map(|member| member.key).collect()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never: a set has at least four members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The least number of votes that is more than two thirds.
    pub fn quorum(&self) -> usize {
        self.members.len() * 2 / 3 + 1 - usize::from(planted(Mutant::QuorumOffByOne))
    }

    /// The canonical bytes: `[[city, suite, key], …]`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(self.members.len() * 44 + 3);
        out.array(self.members.len());
        for member in &self.members {
            out.array(3).text(member.city.as_str()).uint(Suite::Ed25519Sha256 as u64).bytes(&member.key);
        }
        out.finish()
    }

    /// The hash that headers carry.
    pub fn hash(&self) -> Hash {
        tagged(Tag::Validators, Suite::Ed25519Sha256, &[&self.encode()])
    }
}
