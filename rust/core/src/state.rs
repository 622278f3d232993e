//! The state map: a batched sparse Merkle tree with the hash rules of the jmt crate.
