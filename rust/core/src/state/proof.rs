//! Proofs of presence and absence of one or many keys under one root, and their verifier.
//!
//! A proof is the part of the tree that the queried keys lead through, written by descent from the root, left before right:
//!
//! | op | at a node that queried keys lead to | at the other child of an inner node |
//! |---|---|---|
//! | 0 | empty: all queried keys below are absent | empty |
//! | 1 | the leaf of a queried key; other queried keys below are absent | - |
//! | 2 | the leaf of another key, 64 bytes in `hashes` (key, value hash): all queried keys below are absent | - |
//! | 3 | an inner node; its left and right child follow | not empty: 32 bytes in `hashes` |
//!
//! Ops take two bits each, packed from the most significant bit of the first byte; unused bits of the last byte are zero.
//! `hashes` is the concatenation in the order of the ops. For a tree and a set of keys exactly one proof is accepted.
//!
//! The verifier knows the claims (key and value hash, or absent), so a proof does not repeat them.
use super::arena::{Kind, NodeRef};
use super::tree::Version;
use super::{bit, inner_hash, leaf_hash, DEPTH_MAX, PLACEHOLDER};
use crate::error::Error;
use crate::hash::Hash;

/// Keys that one proof can answer.
pub const QUERIES_MAX: usize = 64;

/// A proof about 1 to 64 keys. The module documentation gives the format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Two bits per op.
    pub ops: Vec<u8>,
    /// Sibling hashes and foreign leaves.
    pub hashes: Vec<u8>,
}

const EMPTY: u8 = 0;
const QUERIED_LEAF: u8 = 1;
const FOREIGN_LEAF: u8 = 2;
const INNER: u8 = 3;
const OPS_PER_BYTE: usize = 4;

impl Version {
    /// Proves presence or absence of each key. The keys are in strictly ascending order, 1 to 64 of them.
    ///
    /// Errors: `Malformed` otherwise.
    pub fn prove(&self, keys: &[Hash]) -> Result<Proof, Error> {
        if keys.is_empty() || keys.len() > QUERIES_MAX {
            return Err(Error::malformed(format!(
                "a state proof answers 1 to {QUERIES_MAX} keys, not {}; ask in several calls",
                keys.len()
            )));
        }
        if !keys.is_sorted_by(|left, right| left < right) {
            return Err(Error::malformed("the keys of a state proof are not in strictly ascending order; sort them and name each once"));
        }
        let mut prover = Prover { version: self, proof: Proof::default(), ops: 0 };
        prover.visit(self.inner.root, keys, 0);
        Ok(prover.proof)
    }
}

struct Prover<'a> {
    version: &'a Version,
    proof: Proof,
    ops: usize,
}

impl Prover<'_> {
    fn visit(&mut self, node: NodeRef, keys: &[Hash], depth: usize) {
        let arena = &*self.version.inner.arena;
        match node.kind() {
            Kind::Empty => self.op(EMPTY),
            Kind::Leaf(slot) => {
                let key = arena.leaf_key(slot);
                if keys.binary_search(&key).is_ok() {
                    self.op(QUERIED_LEAF);
                } else {
                    self.op(FOREIGN_LEAF);
                    self.proof.hashes.extend(key);
                    self.proof.hashes.extend(arena.leaf_value_hash(slot));
                }
            }
            Kind::Inner(slot) => {
                self.op(INNER);
                let children = arena.children(slot);
                let (left, right) = keys.split_at(keys.partition_point(|key| bit(key, depth) == 0));
                for (side, keys) in [left, right].into_iter().enumerate() {
                    if !keys.is_empty() {
                        self.visit(children[side], keys, depth + 1);
                    } else if children[side].is_empty() {
                        self.op(EMPTY);
                    } else {
                        self.op(INNER);
                        self.proof.hashes.extend(arena.child_hash(slot, side));
                    }
                }
            }
        }
    }

    fn op(&mut self, op: u8) {
        let position = self.ops % OPS_PER_BYTE;
        if position == 0 {
            self.proof.ops.push(0);
        }
        if let Some(byte) = self.proof.ops.last_mut() {
            *byte |= op << (6 - 2 * position);
        }
        self.ops += 1;
    }
}

/// Checks that under `root` each key has the claimed value hash, or none. The claims are in strictly ascending order of their
/// keys, 1 to 64 of them. No tree is needed.
///
/// Errors: `Proof`, with what does not fit.
pub fn verify(root: &Hash, claims: &[(Hash, Option<Hash>)], proof: &Proof) -> Result<(), Error> {
    if claims.is_empty() || claims.len() > QUERIES_MAX {
        return refuse(format!("it is about {} keys; a proof is about 1 to {QUERIES_MAX}", claims.len()));
    }
    if !claims.is_sorted_by(|left, right| left.0 < right.0) {
        return refuse("the claimed keys are not in strictly ascending order");
    }
    let mut verifier = Verifier { proof, ops: 0, hashes: &proof.hashes };
    let (computed, _) = verifier.visit(claims, 0)?;
    verifier.finish()?;
    if computed != *root {
        return refuse("it leads to another root than the given one");
    }
    Ok(())
}

/// What the verifier knows of a subtree's shape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Empty,
    Leaf,
    Inner,
    /// A sibling given by its hash: a leaf or an inner node.
    Hidden,
}

struct Verifier<'a> {
    proof: &'a Proof,
    ops: usize,
    hashes: &'a [u8],
}

impl Verifier<'_> {
    fn visit(&mut self, claims: &[(Hash, Option<Hash>)], depth: usize) -> Result<(Hash, Shape), Error> {
        let mut present = claims.iter().filter_map(|(key, value)| value.map(|value| (key, value)));
        match self.op()? {
            EMPTY => {
                if present.next().is_some() {
                    return refuse("a key that is claimed present leads to an empty place");
                }
                Ok((PLACEHOLDER, Shape::Empty))
            }
            QUERIED_LEAF => match (present.next(), present.next()) {
                (Some((key, value)), None) => Ok((leaf_hash(key, &value), Shape::Leaf)),
                (None, _) => refuse("a key that is claimed absent leads to its own leaf"),
                (Some(_), Some(_)) => refuse("two keys that are claimed present lead to one leaf"),
            },
            FOREIGN_LEAF => {
                if present.next().is_some() {
                    return refuse("a key that is claimed present leads to another key's leaf");
                }
                let (key, value) = (self.hash()?, self.hash()?);
                if claims.iter().any(|(claimed, _)| *claimed == key) {
                    return refuse("a leaf given as another key's belongs to a claimed key");
                }
                // All claims of this subtree share the bits above it, so one of them is enough.
                if (0..depth).any(|above| bit(&key, above) != bit(&claims[0].0, above)) {
                    return refuse("another key's leaf does not belong where the claimed keys lead");
                }
                Ok((leaf_hash(&key, &value), Shape::Leaf))
            }
            _ => {
                if depth == DEPTH_MAX {
                    return refuse("it is deeper than a key has bits");
                }
                let (left, right) = claims.split_at(claims.partition_point(|(key, _)| bit(key, depth) == 0));
                let (left, left_shape) = self.child(left, depth)?;
                let (right, right_shape) = self.child(right, depth)?;
                match (left_shape, right_shape) {
                    (Shape::Empty, Shape::Empty | Shape::Leaf) | (Shape::Leaf, Shape::Empty) => {
                        refuse("it has an inner node where a tree has a leaf or nothing")
                    }
                    _ => Ok((inner_hash(&left, &right), Shape::Inner)),
                }
            }
        }
    }

    fn child(&mut self, claims: &[(Hash, Option<Hash>)], depth: usize) -> Result<(Hash, Shape), Error> {
        if !claims.is_empty() {
            return self.visit(claims, depth + 1);
        }
        match self.op()? {
            EMPTY => Ok((PLACEHOLDER, Shape::Empty)),
            INNER => match self.hash()? {
                PLACEHOLDER => refuse("an empty sibling is written as a hash"),
                hash => Ok((hash, Shape::Hidden)),
            },
            _ => refuse("it shows a leaf that no claimed key leads to"),
        }
    }

    fn op(&mut self) -> Result<u8, Error> {
        let Some(byte) = self.proof.ops.get(self.ops / OPS_PER_BYTE) else {
            return refuse("its ops end too early");
        };
        let op = byte >> (6 - 2 * (self.ops % OPS_PER_BYTE)) & 3;
        self.ops += 1;
        Ok(op)
    }

    fn hash(&mut self) -> Result<Hash, Error> {
        let Some((hash, rest)) = self.hashes.split_first_chunk::<32>() else {
            return refuse("its hashes end too early");
        };
        self.hashes = rest;
        Ok(*hash)
    }

    /// Everything was read, and the unused bits are zero.
    fn finish(&self) -> Result<(), Error> {
        if self.proof.ops.len() != self.ops.div_ceil(OPS_PER_BYTE) || !self.hashes.is_empty() {
            return refuse("it has bytes that nothing needs");
        }
        let used = self.ops % OPS_PER_BYTE;
        let padding = if used == 0 { 0 } else { 0xff >> (2 * used) };
        if self.proof.ops.last().is_some_and(|byte| byte & padding != 0) {
            return refuse("the unused bits of its last op byte are not zero");
        }
        Ok(())
    }
}

fn refuse<T>(why: impl std::fmt::Display) -> Result<T, Error> {
    Err(Error::proof(format!("the state proof is refused: {why}; fetch the answer again, from another gateway if this repeats")))
}
