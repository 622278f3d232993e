//! Versions of the tree, candidates for the next one, and commit.
//!
//! Rules:
//! - A [`Version`] never changes and is cheap to clone; any number of threads may read and prove from it for as long as they keep it.
//! - [`Tree::apply`] computes a [`Candidate`] beside its base: it writes new nodes and touches none of the base. Several
//!   candidates may stand on one base (the rounds of a height). One is committed; dropping the others recycles their nodes.
//! - [`Tree::commit`] makes a candidate the current version if its base still is. Its cost does not depend on the size of the tree.
//! - The nodes that version v replaced are recycled when no version older than v is alive. A reader that keeps a version for ever
//!   therefore keeps all nodes that were replaced since.
//!
//! How a batch is applied: the sorted updates are split along the tree down to pieces of `PIECE_UPDATES`; a piece is built first and hashed
//! afterwards, level by level from the deepest, so that the hash function always gets many independent nodes. Pieces are
//! independent and run on all cores (feature `parallel`); the result is the same without.
use super::arena::{Arena, Kind, NodeRef, NODE_BYTES, SLOTS_MAX};
use super::{bit, hash_messages, inner_hash, leaf_hash, Message, DEPTH_MAX, INNER_PREFIX, LEAF_PREFIX, PLACEHOLDER};
use crate::error::Error;
use crate::hash::Hash;
use std::collections::VecDeque;
use std::sync::atomic::{fence, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// One change: put a value under a key, or remove the key (`None`; no effect if it is absent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// The key.
    pub key: Hash,
    /// What stands under the key afterwards.
    pub value: Option<Value>,
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// The hash that goes into the leaf.
    pub hash: Hash,
    /// The caller's own number for the value, for example a record slot. It is not hashed.
    pub handle: u64,
}

/// An immutable state of the tree.
#[derive(Clone)]
pub struct Version {
    pub(super) inner: Arc<VersionInner>,
}

pub(super) struct VersionInner {
    pub(super) arena: Arc<Arena>,
    pub(super) root: NodeRef,
    root_hash: Hash,
    len: u64,
    number: u64,
}

/// A computed next state, not yet visible to anybody. Dropping it recycles its nodes.
pub struct Candidate {
    base: Version,
    root: NodeRef,
    root_hash: Hash,
    len: u64,
    created: Vec<u32>,
    retired: Vec<u32>,
}

/// The tree: its current version and the bookkeeping of those that readers keep.
pub struct Tree {
    arena: Arc<Arena>,
    lifetimes: Mutex<Lifetimes>,
}

/// Which versions live, and which nodes wait for their end.
struct Lifetimes {
    current: Version,
    /// Every version since the oldest that lives, with its number, in order.
    versions: VecDeque<(u64, Weak<VersionInner>)>,
    /// Nodes that the numbered version replaced, in order.
    retired: VecDeque<(u64, Vec<u32>)>,
}

/// Updates that one builder takes at once: enough to fill the lanes of the hash function at every level, few enough for the nodes to
/// stay in cache between building and hashing.
const PIECE_UPDATES: usize = 256;
/// Nodes that go to the hash function in one call.
const HASH_LANES: usize = 16;
/// Slots that a builder takes from the arena at once.
const SLOTS_AT_ONCE: usize = 256;

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// A tree without keys.
    pub fn new() -> Tree {
        Tree::with_slots(SLOTS_MAX)
    }

    fn with_slots(slots_max: u32) -> Tree {
        let arena = Arc::new(Arena::new(slots_max));
        let inner = VersionInner { arena: arena.clone(), root: NodeRef::EMPTY, root_hash: PLACEHOLDER, len: 0, number: 0 };
        let current = Version { inner: Arc::new(inner) };
        let versions = VecDeque::from([(0, Arc::downgrade(&current.inner))]);
        Tree { arena, lifetimes: Mutex::new(Lifetimes { current, versions, retired: VecDeque::new() }) }
    }

    /// The version that was committed last.
    pub fn current(&self) -> Version {
        self.lifetimes().current.clone()
    }

    /// Computes the version that the updates make of `base`. The updates are in ascending order of their keys, each key once.
    ///
    /// Errors: `Malformed` if they are not, or if `base` belongs to another tree; `Rule` (`state_full`) if the nodes outgrow 2^31.
    pub fn apply(&self, base: &Version, updates: &[Update]) -> Result<Candidate, Error> {
        if !updates.is_sorted_by(|left, right| left.key < right.key) {
            return Err(Error::malformed(
                "the updates of a state batch are not in strictly ascending key order; sort them and keep one per key",
            ));
        }
        if !Arc::ptr_eq(&self.arena, &base.inner.arena) {
            return Err(Error::malformed("the base version belongs to another state tree; take it from the tree that applies the batch"));
        }
        self.lifetimes().recycle(&self.arena);
        let mut builder = Builder::new(&self.arena);
        let root = build(&mut builder, Old::root(base), None, updates, 0);
        let root_hash = match root.digest {
            Digest::Known(hash) => hash,
            Digest::Unchanged | Digest::Pending => base.inner.root_hash,
        };
        self.arena.give_back(&builder.spare);
        let len = base.inner.len + builder.added - builder.removed;
        let full = builder.full;
        let (created, retired) = (builder.created, builder.retired);
        let candidate = Candidate { base: base.clone(), root: root.node, root_hash, len, created, retired };
        if full {
            return Err(Error::rule(
                "state_full",
                "the state tree has no room for this batch: its 2^31 nodes are in use; let go of old versions, or stop adding keys",
            ));
        }
        Ok(candidate)
    }

    /// Makes the candidate the current version.
    ///
    /// Errors: `Rule` (`stale_base`) if another candidate was committed since; the candidate is dropped.
    pub fn commit(&self, mut candidate: Candidate) -> Result<Version, Error> {
        let mut lifetimes = self.lifetimes();
        if !Arc::ptr_eq(&candidate.base.inner, &lifetimes.current.inner) {
            return Err(Error::rule(
                "stale_base",
                "the candidate was computed from a version that is no longer the current one; compute it again",
            ));
        }
        let number = lifetimes.current.inner.number + 1;
        let inner =
            VersionInner { arena: self.arena.clone(), root: candidate.root, root_hash: candidate.root_hash, len: candidate.len, number };
        let version = Version { inner: Arc::new(inner) };
        candidate.created.clear();
        lifetimes.retired.push_back((number, std::mem::take(&mut candidate.retired)));
        lifetimes.versions.push_back((number, Arc::downgrade(&version.inner)));
        lifetimes.current = version.clone();
        drop(candidate);
        lifetimes.recycle(&self.arena);
        Ok(version)
    }

    /// The number of the oldest version that somebody still keeps (the current one, if nobody does).
    pub fn oldest_live(&self) -> u64 {
        let mut lifetimes = self.lifetimes();
        lifetimes.recycle(&self.arena);
        lifetimes.oldest_live()
    }

    /// Bytes of all nodes that were ever in use, recycled ones included.
    pub fn memory_bytes(&self) -> usize {
        self.arena.usage().0 * NODE_BYTES
    }

    /// Bytes of the nodes that candidates and living versions use.
    pub fn used_bytes(&self) -> usize {
        self.lifetimes().recycle(&self.arena);
        let (ever, free) = self.arena.usage();
        (ever - free) * NODE_BYTES
    }

    fn lifetimes(&self) -> MutexGuard<'_, Lifetimes> {
        self.lifetimes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lifetimes {
    /// Frees what only versions that ended could reach.
    fn recycle(&mut self, arena: &Arena) {
        while self.versions.front().is_some_and(|(_, version)| version.strong_count() == 0) {
            self.versions.pop_front();
        }
        // The last reader released its version after its last read; seeing the count at zero, acquire that order before the slots are rewritten.
        fence(Ordering::Acquire);
        let oldest = self.oldest_live();
        while self.retired.front().is_some_and(|(number, _)| *number <= oldest) {
            if let Some((_, slots)) = self.retired.pop_front() {
                arena.give_back(&slots);
            }
        }
    }

    fn oldest_live(&self) -> u64 {
        self.versions.front().map_or(self.current.inner.number, |(number, _)| *number)
    }
}

impl Version {
    /// The root hash.
    pub fn root(&self) -> Hash {
        self.inner.root_hash
    }

    /// The number of keys.
    pub fn len(&self) -> u64 {
        self.inner.len
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.inner.len == 0
    }

    /// How many commits led here.
    pub fn number(&self) -> u64 {
        self.inner.number
    }

    /// What stands under a key.
    pub fn get(&self, key: &Hash) -> Option<Value> {
        let arena = &*self.inner.arena;
        let mut node = self.inner.root;
        for depth in 0..=DEPTH_MAX {
            match node.kind() {
                Kind::Empty => return None,
                Kind::Leaf(slot) if arena.leaf_key(slot) != *key => return None,
                Kind::Leaf(slot) => return Some(Value { hash: arena.leaf_value_hash(slot), handle: arena.leaf_handle(slot) }),
                Kind::Inner(slot) => node = arena.children(slot)[bit(key, depth)],
            }
        }
        None
    }

    /// Every key and its value, in ascending order of the keys. The walk keeps the version.
    pub fn walk(&self) -> Walk {
        Walk { version: self.clone(), stack: vec![self.inner.root] }
    }
}

/// See [`Version::walk`].
pub struct Walk {
    version: Version,
    stack: Vec<NodeRef>,
}

impl Iterator for Walk {
    type Item = (Hash, Value);

    fn next(&mut self) -> Option<(Hash, Value)> {
        let arena = &*self.version.inner.arena;
        loop {
            match self.stack.pop()?.kind() {
                Kind::Empty => {}
                Kind::Leaf(slot) => {
                    let value = Value { hash: arena.leaf_value_hash(slot), handle: arena.leaf_handle(slot) };
                    return Some((arena.leaf_key(slot), value));
                }
                Kind::Inner(slot) => {
                    let [left, right] = arena.children(slot);
                    self.stack.extend([right, left]);
                }
            }
        }
    }
}

impl Candidate {
    /// The root hash.
    pub fn root(&self) -> Hash {
        self.root_hash
    }

    /// The number of keys.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The version that the candidate was computed from.
    pub fn base(&self) -> &Version {
        &self.base
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.base.inner.arena.give_back(&self.created);
    }
}

/// A subtree of the base.
#[derive(Clone, Copy)]
struct Old {
    node: NodeRef,
    /// Where its hash is kept; `None` for the root.
    place: Option<Place>,
}

/// What a subtree became.
#[derive(Clone, Copy)]
struct Child {
    node: NodeRef,
    digest: Digest,
}

/// What is known of a subtree's hash.
#[derive(Clone, Copy)]
enum Digest {
    /// The subtree is the one that stood there before; so is its hash.
    Unchanged,
    Known(Hash),
    /// The node is new and is hashed with its level.
    Pending,
}

/// A leaf of the base whose place other keys now share: it moves down until they part.
#[derive(Clone, Copy)]
struct Carried {
    slot: u32,
    key: Hash,
    hash: Hash,
}

/// Where a node's hash is kept: on one side of its parent.
#[derive(Clone, Copy)]
struct Place {
    parent: u32,
    side: usize,
}

/// A new node and where its hash goes.
type Job = (u32, Place);

/// Builds pieces of a batch and hashes them.
struct Builder<'a> {
    arena: &'a Arena,
    /// Slots from the arena that hold nothing yet.
    spare: Vec<u32>,
    /// Nodes of this candidate.
    created: Vec<u32>,
    /// Nodes of the base that the candidate does without.
    retired: Vec<u32>,
    /// New nodes whose hashes are due: leaves, and inner nodes by depth.
    leaves: Vec<Job>,
    inners: Vec<Vec<Job>>,
    added: u64,
    removed: u64,
    /// The arena ran out of slots; what was built is void.
    full: bool,
}

impl Old {
    const EMPTY: Old = Old { node: NodeRef::EMPTY, place: None };

    fn root(version: &Version) -> Old {
        Old { node: version.inner.root, place: None }
    }

    /// The subtrees below; empty below an empty subtree. Leaves were made [`Carried`] before.
    fn sides(self, arena: &Arena) -> [Old; 2] {
        match self.node.kind() {
            Kind::Inner(slot) => {
                let [left, right] = arena.children(slot);
                [
                    Old { node: left, place: Some(Place { parent: slot, side: 0 }) },
                    Old { node: right, place: Some(Place { parent: slot, side: 1 }) },
                ]
            }
            Kind::Empty | Kind::Leaf(_) => [Old::EMPTY; 2],
        }
    }
}

/// Applies updates to a subtree, piece by piece; the digest of the result is never `Pending`.
fn build(builder: &mut Builder<'_>, old: Old, carried: Option<Carried>, updates: &[Update], depth: usize) -> Child {
    if updates.len() <= PIECE_UPDATES {
        warm(builder.arena, old.node, updates, depth);
        let child = builder.update(old, carried, updates, depth);
        return builder.hash(child);
    }
    let (old, carried) = builder.lift(old, carried, updates);
    let sides = old.sides(builder.arena);
    let (left, right) = split(updates, depth);
    let (carried_left, carried_right) = split_carried(carried, depth);
    let mut other = Builder::new(builder.arena);
    let (left, right) =
        join(|| build(builder, sides[0], carried_left, left, depth + 1), || build(&mut other, sides[1], carried_right, right, depth + 1));
    builder.absorb(other);
    let child = builder.combine(old, [left, right], depth);
    builder.hash(child)
}

/// Walks the paths of a piece, some at a time and a level at a step, so that the cache misses of different paths overlap. The
/// builder, which must go one path after another, then finds its nodes in the cache. Nothing is computed.
fn warm(arena: &Arena, top: NodeRef, updates: &[Update], depth: usize) {
    for group in updates.chunks(HASH_LANES) {
        let mut nodes = [top; HASH_LANES];
        for depth in depth..DEPTH_MAX {
            let mut inner = false;
            for (node, update) in nodes.iter_mut().zip(group) {
                *node = match node.kind() {
                    Kind::Inner(slot) => {
                        inner = true;
                        arena.touch(slot);
                        arena.children(slot)[bit(&update.key, depth)]
                    }
                    Kind::Leaf(slot) => {
                        arena.touch(slot);
                        NodeRef::EMPTY
                    }
                    Kind::Empty => NodeRef::EMPTY,
                };
            }
            if !inner {
                break;
            }
        }
    }
}

#[cfg(feature = "parallel")]
fn join<A: Send, B: Send>(left: impl FnOnce() -> A + Send, right: impl FnOnce() -> B + Send) -> (A, B) {
    rayon::join(left, right)
}

#[cfg(not(feature = "parallel"))]
fn join<A, B>(left: impl FnOnce() -> A, right: impl FnOnce() -> B) -> (A, B) {
    (left(), right())
}

/// The updates below the left and the right side.
fn split(updates: &[Update], depth: usize) -> (&[Update], &[Update]) {
    updates.split_at(updates.partition_point(|update| bit(&update.key, depth) == 0))
}

fn split_carried(carried: Option<Carried>, depth: usize) -> (Option<Carried>, Option<Carried>) {
    match carried {
        Some(leaf) if bit(&leaf.key, depth) == 0 => (Some(leaf), None),
        other => (None, other),
    }
}

impl<'a> Builder<'a> {
    fn new(arena: &'a Arena) -> Builder<'a> {
        Builder {
            arena,
            spare: Vec::new(),
            created: Vec::new(),
            retired: Vec::new(),
            leaves: Vec::new(),
            inners: Vec::new(),
            added: 0,
            removed: 0,
            full: false,
        }
    }

    /// Takes over what another builder made; both have hashed all they built.
    fn absorb(&mut self, mut other: Builder<'_>) {
        self.arena.give_back(&other.spare);
        self.created.append(&mut other.created);
        self.retired.append(&mut other.retired);
        self.added += other.added;
        self.removed += other.removed;
        self.full |= other.full;
    }

    fn new_slot(&mut self) -> u32 {
        if self.spare.is_empty() {
            self.arena.take(SLOTS_AT_ONCE, &mut self.spare);
            self.spare.reverse();
            // Recycled slots are cold; loading them at once costs one wait instead of one for each.
            self.spare.iter().for_each(|slot| self.arena.touch(*slot));
        }
        match self.spare.pop() {
            Some(slot) => {
                self.created.push(slot);
                slot
            }
            None => {
                // Slot 0 belongs to no version; what is written there is never read as a node.
                self.full = true;
                0
            }
        }
    }

    /// Applies updates to a subtree. Recursion ends at depth 256, because keys differ and two keys part before that.
    fn update(&mut self, old: Old, carried: Option<Carried>, updates: &[Update], depth: usize) -> Child {
        if updates.is_empty() {
            return match carried {
                Some(leaf) => Child { node: NodeRef::leaf(leaf.slot), digest: Digest::Known(leaf.hash) },
                None => Child { node: old.node, digest: Digest::Unchanged },
            };
        }
        if let (Kind::Leaf(slot), [update]) = (old.node.kind(), updates) {
            if self.arena.leaf_key(slot) == update.key {
                self.retired.push(slot);
                self.removed += 1;
                return self.new_leaf(update);
            }
        }
        let (old, carried) = self.lift(old, carried, updates);
        if let (true, None, [update]) = (old.node.is_empty(), carried, updates) {
            return self.new_leaf(update);
        }
        let sides = old.sides(self.arena);
        let (left, right) = split(updates, depth);
        let (carried_left, carried_right) = split_carried(carried, depth);
        let left = self.update(sides[0], carried_left, left, depth + 1);
        let right = self.update(sides[1], carried_right, right, depth + 1);
        self.combine(old, [left, right], depth)
    }

    /// Turns a leaf of the base into a carried one, or retires it if an update names its key, so that what remains is an inner
    /// node or empty.
    fn lift(&mut self, old: Old, carried: Option<Carried>, updates: &[Update]) -> (Old, Option<Carried>) {
        let Kind::Leaf(slot) = old.node.kind() else {
            return (old, carried);
        };
        let key = self.arena.leaf_key(slot);
        if updates.binary_search_by(|update| update.key.cmp(&key)).is_ok() {
            self.retired.push(slot);
            self.removed += 1;
            return (Old::EMPTY, None);
        }
        let hash = match old.place {
            Some(place) => self.arena.child_hash(place.parent, place.side),
            None => leaf_hash(&key, &self.arena.leaf_value_hash(slot)),
        };
        (Old::EMPTY, Some(Carried { slot, key, hash }))
    }

    /// The subtree of one update where nothing else stands.
    fn new_leaf(&mut self, update: &Update) -> Child {
        let Some(value) = &update.value else {
            return Child { node: NodeRef::EMPTY, digest: Digest::Known(PLACEHOLDER) };
        };
        let slot = self.new_slot();
        self.arena.set_leaf(slot, &update.key, &value.hash, value.handle);
        self.added += 1;
        Child { node: NodeRef::leaf(slot), digest: Digest::Pending }
    }

    /// The subtree of two sides: nothing, the only leaf, or an inner node.
    fn combine(&mut self, old: Old, sides: [Child; 2], depth: usize) -> Child {
        let old_slot = match old.node.kind() {
            Kind::Inner(slot) => Some(slot),
            Kind::Empty | Kind::Leaf(_) => None,
        };
        if let (Some(_), [Digest::Unchanged, Digest::Unchanged]) = (old_slot, sides.map(|side| side.digest)) {
            return Child { node: old.node, digest: Digest::Unchanged };
        }
        self.retired.extend(old_slot);
        let old_hash = |arena: &Arena, side| old_slot.map_or(PLACEHOLDER, |slot| arena.child_hash(slot, side));
        // A subtree with one key is that key's leaf; with none it is empty.
        for (side, other) in [(0, 1), (1, 0)] {
            if sides[other].node.is_empty() && !matches!(sides[side].node.kind(), Kind::Inner(_)) {
                let digest = match sides[side].digest {
                    Digest::Unchanged => Digest::Known(old_hash(self.arena, side)),
                    digest => digest,
                };
                return Child { node: sides[side].node, digest };
            }
        }
        let slot = self.new_slot();
        self.arena.set_children(slot, sides.map(|side| side.node));
        for (side, child) in sides.into_iter().enumerate() {
            match child.digest {
                Digest::Unchanged => self.arena.set_child_hash(slot, side, &old_hash(self.arena, side)),
                Digest::Known(hash) => self.arena.set_child_hash(slot, side, &hash),
                Digest::Pending => self.defer(child.node, depth + 1, Place { parent: slot, side }),
            }
        }
        Child { node: NodeRef::inner(slot), digest: Digest::Pending }
    }

    fn defer(&mut self, node: NodeRef, depth: usize, place: Place) {
        match node.kind() {
            Kind::Leaf(slot) => self.leaves.push((slot, place)),
            Kind::Inner(slot) => {
                if self.inners.len() <= depth {
                    self.inners.resize_with(depth + 1, Vec::new);
                }
                self.inners[depth].push((slot, place));
            }
            Kind::Empty => {}
        }
    }

    /// Computes all hashes that are due, the deepest level first, and then the one of the piece's top.
    fn hash(&mut self, top: Child) -> Child {
        let arena = self.arena;
        let mut messages = [Message::LEAF; HASH_LANES];
        hash_level(arena, &mut self.leaves, &mut messages, |slot, message| {
            message.put(LEAF_PREFIX.len(), &arena.leaf_key(slot));
            message.put(LEAF_PREFIX.len() + 32, &arena.leaf_value_hash(slot));
        });
        messages = [Message::INNER; HASH_LANES];
        for level in self.inners.iter_mut().rev() {
            hash_level(arena, level, &mut messages, |slot, message| {
                message.put(INNER_PREFIX.len(), &arena.child_hash(slot, 0));
                message.put(INNER_PREFIX.len() + 32, &arena.child_hash(slot, 1));
            });
        }
        let digest = match (top.digest, top.node.kind()) {
            (Digest::Pending, Kind::Leaf(slot)) => Digest::Known(leaf_hash(&arena.leaf_key(slot), &arena.leaf_value_hash(slot))),
            (Digest::Pending, Kind::Inner(slot)) => Digest::Known(inner_hash(&arena.child_hash(slot, 0), &arena.child_hash(slot, 1))),
            (digest, _) => digest,
        };
        Child { node: top.node, digest }
    }
}

/// Hashes the nodes of a level, whose children are hashed, and leaves the list empty.
fn hash_level(arena: &Arena, jobs: &mut Vec<Job>, messages: &mut [Message; HASH_LANES], fill: impl Fn(u32, &mut Message)) {
    let mut hashes = [PLACEHOLDER; HASH_LANES];
    for group in jobs.chunks(HASH_LANES) {
        for ((slot, _), message) in group.iter().zip(messages.iter_mut()) {
            fill(*slot, message);
        }
        hash_messages(&messages[..group.len()], &mut hashes);
        for ((_, place), hash) in group.iter().zip(&hashes) {
            arena.set_child_hash(place.parent, place.side, hash);
        }
    }
    jobs.clear();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn updates(count: u32) -> Vec<Update> {
        let value = Some(Value { hash: PLACEHOLDER, handle: 0 });
        let mut updates: Vec<Update> = (0..count).map(|n| Update { key: crate::hash::sha256(&n.to_be_bytes()), value }).collect();
        updates.sort_unstable_by_key(|update| update.key);
        updates
    }

    #[test]
    fn a_full_arena_refuses_the_batch_and_loses_nothing() {
        let tree = Tree::with_slots(3000);
        let small = tree.commit(tree.apply(&tree.current(), &updates(200)).unwrap()).unwrap();
        let used = tree.used_bytes();
        for count in [1500, 5000] {
            assert!(matches!(tree.apply(&small, &updates(count)), Err(Error::Rule { reason: "state_full", .. })));
            assert_eq!(tree.used_bytes(), used);
        }
        assert_eq!(tree.apply(&small, &updates(200)).unwrap().root(), small.root());
        assert_eq!(tree.apply(&small, &updates(600)).unwrap().len(), 600);
    }
}
