//! Where the nodes of all versions live: fixed slots of nine words, in chunks that never move.
//!
//! Rules:
//! - A slot is written only while nobody else can reach it: after [`Arena::take`] and before the version that contains it is
//!   published. Publishing goes through a lock, which orders the plain (relaxed) writes before every read.
//! - A slot is given back only when no version contains it; the tree decides that.
//! - Words are atomics because safe Rust has no other memory that one thread may rewrite while others read elsewhere in it;
//!   relaxed loads and stores compile to plain moves.
//!
//! An inner node is two references and two child hashes; a leaf is the caller's handle, the key and the value hash.
use crate::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Where a child is: nothing, a leaf in a slot, or an inner node in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeRef(u32);

/// A reference, taken apart.
pub(super) enum Kind {
    Empty,
    Leaf(u32),
    Inner(u32),
}

impl NodeRef {
    /// No keys below.
    pub(super) const EMPTY: NodeRef = NodeRef(0);
    const LEAF_FLAG: u32 = 1 << 31;

    pub(super) fn leaf(slot: u32) -> NodeRef {
        NodeRef(slot | Self::LEAF_FLAG)
    }

    pub(super) fn inner(slot: u32) -> NodeRef {
        NodeRef(slot)
    }

    pub(super) fn kind(self) -> Kind {
        if self == Self::EMPTY {
            Kind::Empty
        } else if self.0 & Self::LEAF_FLAG != 0 {
            Kind::Leaf(self.0 & !Self::LEAF_FLAG)
        } else {
            Kind::Inner(self.0)
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::EMPTY
    }
}

/// Words of a node.
const NODE_WORDS: usize = 9;
/// Bytes of a node.
pub(super) const NODE_BYTES: usize = NODE_WORDS * 8;
/// Nodes of a chunk, chunks of a group, groups: 2^12 * 2^9 * 2^10 = 2^31 slots, as many as a reference can name.
const CHUNK_NODES: usize = 1 << 12;
const GROUP_CHUNKS: usize = 1 << 9;
const GROUPS: usize = 1 << 10;
/// One past the highest slot that a reference can name.
pub(super) const SLOTS_MAX: u32 = 1 << 31;

type Words = [AtomicU64; NODE_WORDS];
type Chunk = Box<[Words]>;
type Group = Box<[OnceLock<Chunk>]>;

/// Slots for nodes. Shared by the tree and all its versions.
pub(super) struct Arena {
    groups: Box<[OnceLock<Group>]>,
    pool: Mutex<Pool>,
    slots_max: u32,
}

/// Slots that hold no node of any version.
struct Pool {
    free: Vec<u32>,
    /// The first slot that was never used. Slot 0 is never used: reference 0 means empty.
    next: u32,
}

impl Arena {
    /// An arena whose slots stay below `slots_max`, itself at most [`SLOTS_MAX`].
    pub(super) fn new(slots_max: u32) -> Arena {
        let pool = Mutex::new(Pool { free: Vec::new(), next: 1 });
        Arena { groups: (0..GROUPS).map(|_| OnceLock::new()).collect(), pool, slots_max: slots_max.min(SLOTS_MAX) }
    }

    /// Appends up to `count` unused slots to `into`: fewer only when the arena is full.
    pub(super) fn take(&self, count: usize, into: &mut Vec<u32>) {
        let mut pool = self.pool();
        let recycled = count.min(pool.free.len());
        let keep = pool.free.len() - recycled;
        into.extend(pool.free.drain(keep..));
        for _ in recycled..count {
            let slot = pool.next;
            if slot >= self.slots_max {
                return;
            }
            pool.next += 1;
            let (group, chunk, _) = position(slot);
            self.groups[group].get_or_init(|| (0..GROUP_CHUNKS).map(|_| OnceLock::new()).collect())[chunk]
                .get_or_init(|| (0..CHUNK_NODES).map(|_| [const { AtomicU64::new(0) }; NODE_WORDS]).collect());
            into.push(slot);
        }
    }

    /// Takes back slots that no version contains any more.
    pub(super) fn give_back(&self, slots: &[u32]) {
        self.pool().free.extend_from_slice(slots);
    }

    /// Slots that were ever used, and how many of them are free now.
    pub(super) fn usage(&self) -> (usize, usize) {
        let pool = self.pool();
        (pool.next as usize - 1, pool.free.len())
    }

    pub(super) fn children(&self, slot: u32) -> [NodeRef; 2] {
        let word = self.words(slot)[0].load(Ordering::Relaxed);
        [NodeRef(word as u32), NodeRef((word >> 32) as u32)]
    }

    /// The hash of the left (0) or right (1) child of an inner node.
    pub(super) fn child_hash(&self, slot: u32, side: usize) -> Hash {
        self.load_hash(slot, side)
    }

    pub(super) fn set_child_hash(&self, slot: u32, side: usize, hash: &Hash) {
        self.store_hash(slot, side, hash);
    }

    pub(super) fn set_children(&self, slot: u32, [left, right]: [NodeRef; 2]) {
        self.words(slot)[0].store(u64::from(left.0) | u64::from(right.0) << 32, Ordering::Relaxed);
    }

    pub(super) fn leaf_key(&self, slot: u32) -> Hash {
        self.load_hash(slot, 0)
    }

    pub(super) fn leaf_value_hash(&self, slot: u32) -> Hash {
        self.load_hash(slot, 1)
    }

    pub(super) fn leaf_handle(&self, slot: u32) -> u64 {
        self.words(slot)[0].load(Ordering::Relaxed)
    }

    pub(super) fn set_leaf(&self, slot: u32, key: &Hash, value_hash: &Hash, handle: u64) {
        self.words(slot)[0].store(handle, Ordering::Relaxed);
        self.store_hash(slot, 0, key);
        self.store_hash(slot, 1, value_hash);
    }

    /// Brings both cache lines of a node near. The loads depend on nothing, so the processor does not wait for them.
    pub(super) fn touch(&self, slot: u32) {
        let words = self.words(slot);
        std::hint::black_box((words[0].load(Ordering::Relaxed), words[NODE_WORDS - 1].load(Ordering::Relaxed)));
    }

    fn load_hash(&self, slot: u32, which: usize) -> Hash {
        let mut hash = [0; 32];
        for (bytes, word) in hash.chunks_exact_mut(8).zip(&self.words(slot)[1 + 4 * which..]) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        hash
    }

    fn store_hash(&self, slot: u32, which: usize, hash: &Hash) {
        let (parts, _) = hash.as_chunks::<8>();
        for (part, word) in parts.iter().zip(&self.words(slot)[1 + 4 * which..]) {
            word.store(u64::from_le_bytes(*part), Ordering::Relaxed);
        }
    }

    // A slot comes from `take`, which made its chunk before it handed the slot out.
    #[allow(clippy::expect_used)]
    fn words(&self, slot: u32) -> &Words {
        let (group, chunk, node) = position(slot);
        let group = self.groups[group].get().expect("the group of a taken slot exists");
        &group[chunk].get().expect("the chunk of a taken slot exists")[node]
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Group, chunk within it, node within that.
fn position(slot: u32) -> (usize, usize, usize) {
    let slot = slot as usize;
    (slot / (CHUNK_NODES * GROUP_CHUNKS), slot / CHUNK_NODES % GROUP_CHUNKS, slot % CHUNK_NODES)
}
