//! The state map: a sparse Merkle tree over 32-byte keys, in memory, updated in batches, with proofs of presence and absence.
//!
//! Hash rules (those of the `jmt` crate with SHA-256, which is the oracle of the tests):
//! - a subtree without keys is [`PLACEHOLDER`];
//! - a subtree with one key is its leaf, whatever its depth: `SHA-256("JMT::LeafNode" key value_hash)`;
//! - any other subtree is `SHA-256("JMT::IntrnalNode" left right)`, split by the next bit of the key, most significant first.
//!
//! So the root depends on the set of (key, value hash) alone, never on the order of updates. Keys are used as they are: whoever
//! registers names must hash them first, or the tree grows as deep as the names' common prefix (256 at most).
//!
//! - [`tree`]: versions, candidates, commit; [`proof`]: proofs and their verifier, which needs no tree; `arena`: where nodes live.
//!
//! What this module does not know: records, what a key means, disks.
mod arena;
pub mod proof;
pub mod tree;

pub use proof::{verify, Proof, QUERIES_MAX};
pub use tree::{Candidate, Tree, Update, Value, Version, Walk};

use crate::hash::Hash;

/// The hash of a subtree without keys.
pub const PLACEHOLDER: Hash = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";

/// The deepest level at which a leaf can stand.
pub const DEPTH_MAX: usize = 256;

const LEAF_PREFIX: &[u8; 13] = b"JMT::LeafNode";
const INNER_PREFIX: &[u8; 16] = b"JMT::IntrnalNode";

/// The hash of a leaf.
pub fn leaf_hash(key: &Hash, value_hash: &Hash) -> Hash {
    let mut message = Message::LEAF;
    message.put(LEAF_PREFIX.len(), key);
    message.put(LEAF_PREFIX.len() + 32, value_hash);
    message.hash()
}

/// The hash of an inner node.
pub fn inner_hash(left: &Hash, right: &Hash) -> Hash {
    let mut message = Message::INNER;
    message.put(INNER_PREFIX.len(), left);
    message.put(INNER_PREFIX.len() + 32, right);
    message.hash()
}

/// The bit of a key that chooses the side below an inner node at this depth.
fn bit(key: &Hash, depth: usize) -> usize {
    usize::from(key[depth / 8] >> (7 - depth % 8) & 1)
}

/// A node as the two padded blocks that SHA-256 reads. Leaves and inner nodes both fill exactly two blocks, so a level of
/// the tree is an array of these, and an engine that hashes many at once needs to change [`hash_messages`] alone.
#[derive(Clone, Copy)]
struct Message([[u8; 64]; 2]);

impl Message {
    const LEAF: Message = Message::padded(LEAF_PREFIX, LEAF_PREFIX.len() + 64);
    const INNER: Message = Message::padded(INNER_PREFIX, INNER_PREFIX.len() + 64);

    /// The prefix, room for two hashes, and the padding of FIPS 180-4 section 5.1.1.
    const fn padded(prefix: &[u8], length: usize) -> Message {
        let mut blocks = [[0; 64]; 2];
        let mut position = 0;
        while position < prefix.len() {
            blocks[0][position] = prefix[position];
            position += 1;
        }
        blocks[1][length - 64] = 0x80;
        let bits = (length * 8) as u16;
        [blocks[1][62], blocks[1][63]] = bits.to_be_bytes();
        Message(blocks)
    }

    fn put(&mut self, position: usize, bytes: &[u8; 32]) {
        self.0.as_flattened_mut()[position..position + 32].copy_from_slice(bytes);
    }

    fn hash(&self) -> Hash {
        let mut out = [[0; 32]];
        hash_messages(std::slice::from_ref(self), &mut out);
        out[0]
    }
}

/// Hashes many nodes; the one place where the tree calls SHA-256. Hashes `messages.len()` nodes into the start of `out`.
fn hash_messages(messages: &[Message], out: &mut [Hash]) {
    /// FIPS 180-4 section 5.3.3.
    const START: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
    for (message, hash) in messages.iter().zip(out) {
        let mut state = START;
        sha2::block_api::compress256(&mut state, &message.0);
        for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    #[test]
    fn hand_padded_messages_hash_as_sha256_does() {
        let (left, right) = (sha256(b"left"), sha256(b"right"));
        assert_eq!(leaf_hash(&left, &right), sha256(&[&b"JMT::LeafNode"[..], &left, &right].concat()));
        assert_eq!(inner_hash(&left, &right), sha256(&[&b"JMT::IntrnalNode"[..], &left, &right].concat()));
    }

    #[test]
    fn bits_are_read_from_the_most_significant() {
        let mut key = [0; 32];
        (key[0], key[31]) = (0x80, 0x01);
        let ones: Vec<usize> = (0..DEPTH_MAX).filter(|&depth| bit(&key, depth) == 1).collect();
        assert_eq!(ones, [0, 255]);
    }
}
