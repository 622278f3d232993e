//! The hashes of a table (P41): leaves, nodes, empty subtrees, and the levels of a part of the tree.
use super::{TableProof, MILLION_DEPTH};
use crate::hash::{tagged, Hash, Suite, Tag, TagHasher};
use std::sync::LazyLock;

const SUITE: Suite = Suite::Ed25519Sha256;

/// Some millions of hashes are taken for one table: the domains are absorbed once.
static LEAF: LazyLock<TagHasher> = LazyLock::new(|| TagHasher::new(Tag::TableLeaf, SUITE));
static NODE: LazyLock<TagHasher> = LazyLock::new(|| TagHasher::new(Tag::TableNode, SUITE));
static SALT: LazyLock<TagHasher> = LazyLock::new(|| TagHasher::new(Tag::TableSalt, SUITE));

/// The hashes of empty subtrees by their height: an empty leaf first, an empty table of a million last.
static EMPTY: LazyLock<[Hash; MILLION_DEPTH as usize + 1]> = LazyLock::new(|| {
    let mut empty = [tagged(Tag::TableEmpty, SUITE, &[]); MILLION_DEPTH as usize + 1];
    for level in 1..empty.len() {
        empty[level] = node_hash(&empty[level - 1], &empty[level - 1]);
    }
    empty
});

pub fn leaf_hash(index: u32, salt: &[u8; 16], record: &[u8]) -> Hash {
    LEAF.hash(&[&index.to_be_bytes(), salt, record])
}

pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    NODE.hash(&[left, right])
}

/// P43: the salt of a leaf of a table file.
pub fn leaf_salt(seed: &[u8; 32], index: u32, record: &[u8]) -> [u8; 16] {
    let hash = SALT.hash(&[seed, &index.to_be_bytes(), record]);
    std::array::from_fn(|at| hash[at])
}

pub fn empty_subtrees() -> &'static [Hash; MILLION_DEPTH as usize + 1] {
    &EMPTY
}

/// The hashes that are not empty between two levels of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The level of `levels[0]` above the leaves of the table.
    lowest: u8,
    /// Upwards, each (index in the level, hash), ascending.
    levels: Vec<Vec<(u32, Hash)>>,
}

impl Levels {
    /// The levels from `lowest` to `top`, over what stands in the lowest: ascending and unique.
    pub fn build(lowest: u8, top: u8, lowest_level: Vec<(u32, Hash)>) -> Levels {
        let mut levels = Vec::with_capacity(usize::from(top - lowest) + 1);
        let mut level = lowest_level;
        for nothing in &EMPTY[usize::from(lowest)..usize::from(top)] {
            let above = level_above(&level, nothing);
            levels.push(level);
            level = above;
        }
        levels.push(level);
        Levels { lowest, levels }
    }

    /// The one hash of the top level.
    pub fn root(&self) -> Hash {
        let top = self.levels.len() - 1;
        self.levels[top].first().map_or(EMPTY[usize::from(self.lowest) + top], |(_, hash)| *hash)
    }

    /// How many hashes stand in the lowest level.
    pub fn width(&self) -> usize {
        self.levels[0].len()
    }

    /// What stands at an index of the lowest level.
    pub fn at(&self, index: u32) -> Option<Hash> {
        self.node(0, index)
    }

    /// Adds to a proof the siblings on the way up from an index of the lowest level.
    pub fn siblings(&self, index: u32, proof: &mut TableProof) {
        for level in 0..self.levels.len() - 1 {
            if let Some(sibling) = self.node(level, (index >> level) ^ 1) {
                proof.bitmap |= 1 << (usize::from(self.lowest) + level);
                proof.siblings.push(sibling);
            }
        }
    }

    fn node(&self, level: usize, index: u32) -> Option<Hash> {
        let nodes = &self.levels[level];
        nodes.binary_search_by_key(&index, |(index, _)| *index).ok().map(|position| nodes[position].1)
    }
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
