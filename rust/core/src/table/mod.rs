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
use crate::error::Error;
use crate::hash::{tagged, Hash, Suite, Tag};
use crate::record::MAX_RECORD;
use crate::wire::{Decoder, Encoder};

/// The depth of the table of a range of 1,000 serials.
pub const THOUSAND_DEPTH: u8 = 10;
/// The depth of the table of a range of 1,000,000 serials.
pub const MILLION_DEPTH: u8 = 20;

const SUITE: Suite = Suite::Ed25519Sha256;

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
        tagged(Tag::TableLeaf, SUITE, &[&index.to_be_bytes(), &self.salt, &self.record])
    }
}

/// The hashes of a table that are not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedTable {
    /// From the leaves (level 0) to the root: (index in the level, hash), ascending.
    levels: Vec<Vec<(u32, Hash)>>,
    empty: Vec<Hash>,
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
        let empty = empty_subtrees(depth);
        let mut levels = Vec::with_capacity(usize::from(depth) + 1);
        for nothing in &empty[..usize::from(depth)] {
            let above = level_above(&level, nothing);
            levels.push(level);
            level = above;
        }
        levels.push(level);
        Ok(SealedTable { levels, empty })
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let depth = self.levels.len() - 1;
        self.levels[depth].first().map_or(self.empty[depth], |(_, hash)| *hash)
    }

    /// How many leaves are not empty.
    pub fn count(&self) -> u64 {
        self.levels[0].len() as u64
    }

    /// Proves what the table holds at an index. `leaf` is what the table file has there.
    ///
    /// Errors: [`Error::Malformed`] when the index is outside the table or the leaf is not the one that was built in.
    pub fn prove(&self, index: u32, leaf: Option<Leaf>) -> Result<TableProof, Error> {
        check_index(self.depth(), index)?;
        if self.node(0, index) != leaf.as_ref().map(|leaf| leaf.hash(index)) {
            return Err(Error::malformed(format!(
                "the leaf given for index {index} is not the one of this table; the table file is damaged or of another version"
            )));
        }
        let mut proof = TableProof { leaf, bitmap: 0, siblings: Vec::new() };
        for level in 0..self.levels.len() - 1 {
            if let Some(sibling) = self.node(level, (index >> level) ^ 1) {
                proof.bitmap |= 1 << level;
                proof.siblings.push(sibling);
            }
        }
        Ok(proof)
    }

    fn depth(&self) -> u8 {
        (self.levels.len() - 1) as u8
    }

    fn node(&self, level: usize, index: u32) -> Option<Hash> {
        let nodes = &self.levels[level];
        nodes.binary_search_by_key(&index, |(index, _)| *index).ok().map(|position| nodes[position].1)
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
        let empty = empty_subtrees(depth);
        let mut given = self.siblings.iter();
        let mut node = self.leaf.as_ref().map_or(empty[0], |leaf| leaf.hash(index));
        for (level, nothing) in empty[..usize::from(depth)].iter().enumerate() {
            let sibling = if self.bitmap >> level & 1 == 1 { given.next().unwrap_or(nothing) } else { nothing };
            if self.bitmap >> level & 1 == 1 && sibling == nothing {
                return refuse(format!("sibling {level} is given although it is an empty subtree"));
            }
            node = if index >> level & 1 == 0 { node_hash(&node, sibling) } else { node_hash(sibling, &node) };
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

/// The hashes of empty subtrees, from an empty leaf to an empty table of this depth.
fn empty_subtrees(depth: u8) -> Vec<Hash> {
    let leaf = tagged(Tag::TableEmpty, SUITE, &[]);
    std::iter::successors(Some(leaf), |below| Some(node_hash(below, below))).take(usize::from(depth) + 1).collect()
}

fn level_above(level: &[(u32, Hash)], nothing: &Hash) -> Vec<(u32, Hash)> {
    // Ascending, so two children of one parent stand side by side.
    level
        .chunk_by(|(left, _), (right, _)| left >> 1 == right >> 1)
        .map(|children| match children {
            [(index, left), (_, right)] => (index >> 1, node_hash(left, right)),
            [(index, right), ..] if index & 1 == 1 => (index >> 1, node_hash(nothing, right)),
            [(index, left), ..] => (index >> 1, node_hash(left, nothing)),
            // chunk_by yields no empty chunk; the value is never used.
            [] => (0, *nothing),
        })
        .collect()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    tagged(Tag::TableNode, SUITE, &[left, right])
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
