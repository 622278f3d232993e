//! The log: the Merkle tree of RFC 9162 section 2.1 (the hashes of RFC 6962), with inclusion and consistency proofs.
//!
//! Rules:
//! - a leaf is `SHA-256(0x00 data)`, an inner node `SHA-256(0x01 left right)`, the empty tree `SHA-256("")`;
//! - `n` leaves split at the largest power of two below `n`, so a subtree that is complete never changes again.
//!
//! [`Log`] keeps the hash of every complete subtree (64 bytes a leaf), so roots and proofs at any past size take O(log n).
//! [`Frontier`] keeps only the complete subtrees of the newest size (at most 64 hashes): enough to append, and to tell the root that
//! one more leaf would give. Verifiers are functions and need neither.
//!
//! What this file does not know: what a leaf is (the caller hashes it with [`leaf_hash`]), and C2SP tiles beyond [`Log::level`].
use crate::error::Error;
use crate::hash::{sha256, Hash};
use sha2::{Digest, Sha256};

/// The tree's leaf hash of some data.
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// The hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut message = [1; 65];
    message[1..33].copy_from_slice(left);
    message[33..].copy_from_slice(right);
    sha256(&message)
}

/// The root over some leaf hashes.
pub fn root(leaf_hashes: &[Hash]) -> Hash {
    /// Leaves that are worth a task of their own.
    const PIECE_LEAVES: usize = 1024;
    if leaf_hashes.len() <= PIECE_LEAVES {
        let mut frontier = Frontier::default();
        for leaf in leaf_hashes {
            frontier.append(*leaf);
        }
        return frontier.root();
    }
    let (left, right) = leaf_hashes.split_at(leaf_hashes.len().div_ceil(2).next_power_of_two());
    #[cfg(feature = "parallel")]
    let (left, right) = rayon::join(|| root(left), || root(right));
    #[cfg(not(feature = "parallel"))]
    let (left, right) = (root(left), root(right));
    node_hash(&left, &right)
}

/// An append-only tree that can prove.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// `levels[k][i]` covers the leaves `i * 2^k` to `(i + 1) * 2^k`; `levels[0]` holds the leaf hashes.
    levels: Vec<Vec<Hash>>,
}

/// The complete subtrees of a tree, from the largest to the smallest: one for each bit that is set in the size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

/// Sizes from here on are refused, so that arithmetic on them cannot overflow.
const SIZE_END: u64 = 1 << 63;

impl Log {
    /// A log without leaves.
    pub fn new() -> Log {
        Log::default()
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends a leaf hash.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(hash);
            match self.levels[level].as_chunks::<2>() {
                (pairs, []) => {
                    if let Some([left, right]) = pairs.last() {
                        hash = node_hash(left, right);
                    }
                }
                _ => return,
            }
        }
    }

    /// The hashes of the complete subtrees of `2^height` leaves, in order: what C2SP tiles are cut from.
    pub fn level(&self, height: usize) -> &[Hash] {
        self.levels.get(height).map_or(&[], Vec::as_slice)
    }

    /// The root over the first `size` leaves.
    ///
    /// Errors: `Malformed` if the log is shorter.
    pub fn root_at(&self, size: u64) -> Result<Hash, Error> {
        Ok(self.frontier_at(size)?.root())
    }

    /// The frontier of the first `size` leaves.
    ///
    /// Errors: `Malformed` if the log is shorter.
    pub fn frontier_at(&self, size: u64) -> Result<Frontier, Error> {
        self.check_size(size)?;
        Ok(Frontier { size, peaks: self.peaks(0, size) })
    }

    /// The frontier of all leaves.
    pub fn frontier(&self) -> Frontier {
        let size = self.size();
        Frontier { size, peaks: self.peaks(0, size) }
    }

    /// The inclusion path of a leaf in the tree of `size` leaves, from the leaf upwards (RFC 9162 section 2.1.3.1).
    ///
    /// Errors: `Malformed` if the log is shorter, or the index outside.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, Error> {
        self.check_size(size)?;
        if index >= size {
            return Err(Error::malformed(format!("leaf {index} is outside a tree of {size} leaves; indexes count from 0")));
        }
        let (mut start, mut end) = (0, size);
        let mut path = Vec::new();
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.subtree(middle, end));
                end = middle;
            } else {
                path.push(self.subtree(start, middle));
                start = middle;
            }
        }
        path.reverse();
        Ok(path)
    }

    /// The proof that the tree of `size1` leaves is the start of the tree of `size2` (RFC 9162 section 2.1.4.1). Empty if the sizes are
    /// equal or the first is 0.
    ///
    /// Errors: `Malformed` if the log is shorter, or `size1` larger than `size2`.
    pub fn consistency(&self, size1: u64, size2: u64) -> Result<Vec<Hash>, Error> {
        self.check_size(size2)?;
        if size1 > size2 {
            return Err(Error::malformed(format!(
                "a tree of {size1} leaves is not the start of one of {size2}; give the smaller size first"
            )));
        }
        let mut proof = Vec::new();
        if size1 == 0 {
            return Ok(proof);
        }
        let (mut start, mut end) = (0, size2);
        while size1 != end {
            let middle = start + split(end - start);
            if size1 <= middle {
                proof.push(self.subtree(middle, end));
                end = middle;
            } else {
                proof.push(self.subtree(start, middle));
                start = middle;
            }
        }
        // A subtree that starts at 0 is the whole first tree, whose root the verifier has.
        if start != 0 {
            proof.push(self.subtree(start, end));
        }
        proof.reverse();
        Ok(proof)
    }

    fn check_size(&self, size: u64) -> Result<(), Error> {
        if size > self.size() {
            return Err(Error::malformed(format!("the log has {} leaves, not {size}; ask for a size up to that", self.size())));
        }
        Ok(())
    }

    /// The root over the leaves `start..end`, where `start` is a multiple of a power of two that is at least `end - start`.
    fn subtree(&self, start: u64, end: u64) -> Hash {
        fold(&self.peaks(start, end)).unwrap_or_else(empty_root)
    }

    /// The complete subtrees that make up `start..end`, the largest first.
    fn peaks(&self, start: u64, end: u64) -> Vec<Hash> {
        let mut peaks = Vec::new();
        let mut position = start;
        while position < end {
            let height = (end - position).ilog2();
            peaks.push(self.levels[height as usize][(position >> height) as usize]);
            position += 1 << height;
        }
        peaks
    }
}

impl Frontier {
    /// A frontier from its parts, as [`Frontier::size`] and [`Frontier::peaks`] give them.
    ///
    /// Errors: `Malformed` if the number of peaks does not fit the size.
    pub fn from_parts(size: u64, peaks: Vec<Hash>) -> Result<Frontier, Error> {
        if size >= SIZE_END || peaks.len() != size.count_ones() as usize {
            return Err(Error::malformed(format!(
                "a log of {size} leaves has {} complete subtrees, not {}; rebuild the frontier from the headers",
                size.count_ones(),
                peaks.len()
            )));
        }
        Ok(Frontier { size, peaks })
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of the complete subtrees, the largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The root.
    pub fn root(&self) -> Hash {
        fold(&self.peaks).unwrap_or_else(empty_root)
    }

    /// The root that the tree would have with one more leaf.
    pub fn root_after(&self, leaf: &Hash) -> Hash {
        self.peaks.iter().rev().fold(*leaf, |right, left| node_hash(left, &right))
    }

    /// Appends a leaf hash.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each complete subtree that ends here joins the next larger one: as many as the size has trailing ones.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }
}

/// The root of the empty tree.
pub fn empty_root() -> Hash {
    sha256(b"")
}

/// Joins peaks from the smallest.
fn fold(peaks: &[Hash]) -> Option<Hash> {
    peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right))
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The root that a leaf and its inclusion path lead to (RFC 9162 section 2.1.3.2).
///
/// Errors: `Proof` if the index is outside the tree, or the path longer or shorter than the place has levels.
pub fn root_from_inclusion(leaf_hash: &Hash, index: u64, size: u64, proof: &[Hash]) -> Result<Hash, Error> {
    if index >= size {
        return Err(refused(format!("leaf {index} is outside a tree of {size} leaves")));
    }
    let (mut place, mut last, mut hash) = (index, size - 1, *leaf_hash);
    for sibling in proof {
        if last == 0 {
            return Err(refused("the inclusion path is too long"));
        }
        if place & 1 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            // A right edge that stands alone on its level moves up unhashed.
            let alone = if place == 0 { 0 } else { place.trailing_zeros() };
            (place, last) = (place >> alone, last >> alone);
        } else {
            hash = node_hash(&hash, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    if last != 0 {
        return Err(refused("the inclusion path is too short"));
    }
    Ok(hash)
}

/// Checks that a leaf stands at `index` in the tree of `size` leaves under `root`.
///
/// Errors: `Proof`.
pub fn verify_inclusion(leaf_hash: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), Error> {
    if root_from_inclusion(leaf_hash, index, size, proof)? != *root {
        return Err(refused(format!("leaf {index} of {size} leads to another root than the given one")));
    }
    Ok(())
}

/// Checks that the tree of `size1` leaves under `root1` is the start of the tree of `size2` under `root2` (RFC 9162 section 2.1.4.2).
///
/// Errors: `Proof`.
pub fn verify_consistency(size1: u64, size2: u64, proof: &[Hash], root1: &Hash, root2: &Hash) -> Result<(), Error> {
    if size1 > size2 {
        return Err(refused(format!("the first size, {size1}, is larger than the second, {size2}")));
    }
    if size1 == size2 || size1 == 0 {
        if !proof.is_empty() {
            return Err(refused("a consistency proof from nothing, or between equal sizes, is empty"));
        }
        let same = if size1 == size2 { root1 == root2 } else { *root1 == empty_root() };
        // A tree of no leaves has one root, whatever is compared with it.
        let first_fits = size1 != 0 || *root1 == empty_root();
        return if same && first_fits { Ok(()) } else { Err(refused("the roots of equal trees differ")) };
    }
    let (mut place, mut last) = (size1 - 1, size2 - 1);
    let below = place.trailing_ones();
    (place, last) = (place >> below, last >> below);
    // If the first tree is one complete subtree, the proof starts from its root.
    let (start, rest) = match proof.split_first() {
        _ if size1.is_power_of_two() => (root1, proof),
        Some((first, rest)) => (first, rest),
        None => return Err(refused("the consistency proof is empty")),
    };
    let (mut hash1, mut hash2) = (*start, *start);
    for sibling in rest {
        if last == 0 {
            return Err(refused("the consistency proof is too long"));
        }
        if place & 1 == 1 || place == last {
            (hash1, hash2) = (node_hash(sibling, &hash1), node_hash(sibling, &hash2));
            let alone = if place == 0 { 0 } else { place.trailing_zeros() };
            (place, last) = (place >> alone, last >> alone);
        } else {
            hash2 = node_hash(&hash2, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    if last != 0 {
        return Err(refused("the consistency proof is too short"));
    }
    if hash1 != *root1 || hash2 != *root2 {
        return Err(refused(format!("the trees of {size1} and {size2} leaves are not one log")));
    }
    Ok(())
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::proof(format!("the log proof is refused: {why}; fetch the proof again, from another gateway if this repeats"))
}
