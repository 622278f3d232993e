//! Sealed tables: the Merkle table of a sealed range, over up to a million items (P41).
//!
//! ```text
//! leaf i        H(table-leaf, i as 4 bytes big-endian, salt (16), record)      i = serial - base
//! empty leaf    H(table-empty)
//! inner node    H(table-node, left, right)
//! ```
//! H is the tagged hash of suite 1; the depth is 10 (1,000 serials) or 20 (1,000,000). Every place of the table is bound by the
//! root, so an empty leaf proves that the table holds nothing for that serial.
//!
//! A proof names only siblings that are not empty: bit i of its bitmap, from the leaf up, says that sibling i is given. A given
//! sibling that equals the empty subtree is refused, so that each leaf has exactly one proof.
//!
//! Tables are sparse: [`SealedTable`] keeps the hashes of what is not empty and none of the records, which whoever keeps the table
//! file brings for a proof. This file does not know what a record says, nor whether an override replaces it.
//!
//! - `tree`: the hashes; `file`: the bytes of a table file (P43); [`index`]: what is kept in memory of a file, and its strict reader;
//!   [`build`]: from serials, rows and records to a file; `rows`: CSV; `shape`: records that are alike, looked at once; [`check`]: what a city checks before it keeps a table (P44).
//!
//! None of it opens a file: bytes come in by slices and go out the same way.
pub mod build;
pub mod check;
mod file;
pub mod index;
mod rows;
mod shape;
mod tree;

pub use file::{Head, Template, MAX_HEAD};

use crate::error::Error;
use crate::hash::{domain, Hash, Suite, Tag};
use crate::ledger::operation::{NewTable, Range};
use crate::record::MAX_RECORD;
use crate::wire::{Decoder, Encoder};
use tree::{leaf_hash, Levels};

/// The depth of the table of a range of 1,000 serials.
pub const THOUSAND_DEPTH: u8 = 10;
/// The depth of the table of a range of 1,000,000 serials.
pub const MILLION_DEPTH: u8 = 20;

/// What a city's checkpoint key signs to say that it checked a table for a range whose record has `expected_version`, and keeps
/// it (P45).
pub fn storage_receipt_message(genesis: &Hash, range: &Range, expected_version: u64, table: &NewTable) -> Vec<u8> {
    let mut message = domain(Tag::StorageReceipt, Suite::Ed25519Sha256);
    message.extend_from_slice(genesis);
    let mut fields = Encoder::with_capacity(128);
    fields.array(8).text(range.city.as_str()).text(range.class.as_str()).uint(u64::from(range.base.get())).uint(range.size);
    fields.uint(expected_version).bytes(&table.root).bytes(&table.digest).uint(table.count);
    message.extend_from_slice(&fields.finish());
    message
}

/// What a table holds for one serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Fresh for every leaf, so that a neighbour's record cannot be guessed from its hash.
    pub salt: [u8; 16],
    /// The encoded record.
    pub record: Vec<u8>,
}

impl Leaf {
    /// The hash of this leaf at an index.
    pub fn hash(&self, index: u32) -> Hash {
        leaf_hash(index, &self.salt, &self.record)
    }
}

/// The hashes of a table that are not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedTable {
    depth: u8,
    tree: Levels,
}

impl SealedTable {
    /// Builds a table of a depth from leaf hashes with their indexes, ascending. They may come from a stream: the table keeps
    /// 36 bytes of each, and less than that again for the levels above.
    ///
    /// Errors: [`Error::Malformed`] for a depth other than 10 and 20, an index outside the table, and one that does not ascend.
    pub fn build(depth: u8, leaves: impl IntoIterator<Item = (u32, Hash)>) -> Result<SealedTable, Error> {
        check_depth(depth)?;
        let mut level: Vec<(u32, Hash)> = Vec::new();
        for (index, hash) in leaves {
            check_index(depth, index)?;
            if level.last().is_some_and(|(last, _)| *last >= index) {
                return Err(Error::malformed(format!("leaf {index} of a table is repeated or out of order; sort the leaves by serial")));
            }
            level.push((index, hash));
        }
        Ok(SealedTable { depth, tree: Levels::build(0, depth, level) })
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// How many leaves are not empty.
    pub fn count(&self) -> u64 {
        self.tree.width() as u64
    }

    /// Proves what the table holds at an index. `leaf` is what the table file has there.
    ///
    /// Errors: [`Error::Malformed`] when the index is outside the table or the leaf is not the one that was built in.
    pub fn prove(&self, index: u32, leaf: Option<Leaf>) -> Result<TableProof, Error> {
        check_index(self.depth, index)?;
        if self.tree.at(index) != leaf.as_ref().map(|leaf| leaf.hash(index)) {
            return Err(Error::malformed(format!(
                "the leaf given for index {index} is not the one of this table; the table file is damaged or of another version"
            )));
        }
        let mut proof = TableProof { leaf, bitmap: 0, siblings: Vec::new() };
        self.tree.siblings(index, &mut proof);
        Ok(proof)
    }
}

/// What a table holds at one index, with the way to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableProof {
    /// The leaf; none proves that it is empty.
    pub leaf: Option<Leaf>,
    /// Bit i, from the leaf up: sibling i is given.
    pub bitmap: u32,
    /// The siblings that are not empty, from the leaf up.
    pub siblings: Vec<Hash>,
}

impl TableProof {
    /// Checks that the leaf, or its absence, stands at `index` of the table with this root.
    ///
    /// Errors: [`Error::Proof`], with what does not fit.
    pub fn verify(&self, root: &Hash, depth: u8, index: u32) -> Result<(), Error> {
        check_depth(depth)?;
        check_index(depth, index)?;
        if self.bitmap >> depth != 0 {
            return refuse(format!("its bitmap names siblings above the root of a table of depth {depth}"));
        }
        if self.bitmap.count_ones() as usize != self.siblings.len() {
            return refuse(format!("its bitmap names {} siblings and {} are given", self.bitmap.count_ones(), self.siblings.len()));
        }
        let empty = tree::empty_subtrees();
        let mut given = self.siblings.iter();
        let mut node = self.leaf.as_ref().map_or(empty[0], |leaf| leaf.hash(index));
        for (level, nothing) in empty[..usize::from(depth)].iter().enumerate() {
            let sibling = if self.bitmap >> level & 1 == 1 { given.next().unwrap_or(nothing) } else { nothing };
            if self.bitmap >> level & 1 == 1 && sibling == nothing {
                return refuse(format!("sibling {level} is given although it is an empty subtree"));
            }
            node = if index >> level & 1 == 0 { tree::node_hash(&node, sibling) } else { tree::node_hash(sibling, &node) };
        }
        if node != *root {
            return refuse("it leads to another root than the one in the record of the range");
        }
        Ok(())
    }

    /// Writes `[salt or null, record or null, bitmap, siblings]`.
    pub fn encode(&self, out: &mut Encoder) {
        out.array(4);
        out.bytes_or_null(self.leaf.as_ref().map(|leaf| &leaf.salt[..]));
        out.bytes_or_null(self.leaf.as_ref().map(|leaf| &leaf.record[..]));
        out.uint(u64::from(self.bitmap)).bytes(self.siblings.as_flattened());
    }

    /// Reads what [`TableProof::encode`] writes.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<TableProof, Error> {
        decoder.array_of(4)?;
        let salt = if decoder.null() { None } else { Some(decoder.fixed()?) };
        let record = if decoder.null() { None } else { Some(decoder.bytes(MAX_RECORD)?.to_vec()) };
        let bitmap = decoder.uint_to(MAX_BITMAP)? as u32;
        let (siblings, rest) = decoder.bytes(MAX_SIBLINGS * 32)?.as_chunks::<32>();
        let proof = TableProof { leaf: Leaf::from_parts(salt, record)?, bitmap, siblings: siblings.to_vec() };
        if !rest.is_empty() {
            return Err(Error::malformed("siblings of a table proof that are not whole hashes of 32 bytes"));
        }
        proof.check_limits()?;
        Ok(proof)
    }

    /// The bounds that decoding puts on a proof, for one that was made in memory.
    pub fn check_limits(&self) -> Result<(), Error> {
        if u64::from(self.bitmap) > MAX_BITMAP || self.bitmap.count_ones() as usize != self.siblings.len() {
            return Err(Error::malformed("a table proof whose bitmap does not fit its siblings"));
        }
        if self.leaf.as_ref().is_some_and(|leaf| leaf.record.len() > MAX_RECORD) {
            return Err(Error::malformed(format!("a table leaf of more than {MAX_RECORD} bytes")));
        }
        Ok(())
    }
}

impl Leaf {
    /// A leaf from fields that are both there or both missing.
    pub(crate) fn from_parts(salt: Option<[u8; 16]>, record: Option<Vec<u8>>) -> Result<Option<Leaf>, Error> {
        match (salt, record) {
            (Some(salt), Some(record)) => Ok(Some(Leaf { salt, record })),
            (None, None) => Ok(None),
            _ => Err(Error::malformed("a table leaf has both salt and record, an empty one has neither")),
        }
    }
}

fn check_depth(depth: u8) -> Result<(), Error> {
    if depth == THOUSAND_DEPTH || depth == MILLION_DEPTH {
        return Ok(());
    }
    Err(Error::malformed(format!("a table of depth {depth}; known: {THOUSAND_DEPTH} and {MILLION_DEPTH}")))
}

fn check_index(depth: u8, index: u32) -> Result<(), Error> {
    let size = if depth == THOUSAND_DEPTH { 1_000 } else { 1_000_000 };
    if index < size {
        return Ok(());
    }
    Err(Error::malformed(format!("leaf {index} is outside a range of {size} serials")))
}

fn refuse<T>(why: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error::proof(format!("the table proof is refused: {why}; fetch the answer again, from another gateway if this repeats")))
}

const MAX_SIBLINGS: usize = MILLION_DEPTH as usize;
const MAX_BITMAP: u64 = (1 << MILLION_DEPTH) - 1;
