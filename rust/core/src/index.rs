//! The resolution index: the current record of every key, found in constant time and proven against the state map.
//!
//! [`StateMap`] joins the state tree with the records themselves. Rules:
//! - The tree holds `SHA-256(record)` under the key; the leaf's handle says where the record is kept.
//! - A [`Snapshot`] never changes: whatever is committed later, it gives the records, the root and the proofs of its own version. Publishing
//!   one costs what the batch costs, whatever the number of records.
//! - A [`Candidate`] is invisible until [`StateMap::commit`]; dropping it frees all it took.
//! - The hash table serves the newest version. An entry that is younger than a reader's snapshot is not its record: the reader
//!   then walks its own version of the tree, whose leaves still name the old slots. Those are reused when no snapshot older
//!   than their replacement lives.
//! - The table's hash is keyed by a seed that the caller draws at random, because registrants choose keys and could otherwise choose
//!   collisions. The seed influences no output.
//!
//! What this file does not know: what a record says, and how it reaches the disk.
use crate::error::Error;
use crate::hash::{sha256, Hash};
use crate::state::{self, Proof, Tree, Update, Value, Version};
use hashbrown::HashTable;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The state: the tree and the records under it.
pub struct StateMap {
    tree: Tree,
    records: Arc<Records>,
    published: RwLock<Arc<Snapshot>>,
    /// Slots of records that the numbered version replaced, in order. Held during a commit, so commits are one at a time.
    retired: Mutex<VecDeque<(u64, Vec<Slot>)>>,
}

/// An immutable version of the state. Clone the `Arc` that holds it.
pub struct Snapshot {
    version: Version,
    records: Arc<Records>,
}

/// A computed next state. Dropping it frees its nodes and records.
pub struct Candidate {
    tree: state::Candidate,
    reserved: Reserved,
}

/// A change that waits for commit: the key, its table hash and the slot of its new record.
struct Change {
    key: Hash,
    table_hash: u64,
    local: Option<u32>,
}

/// The changes of a candidate, sorted by shard. Whatever slots it still holds when it is dropped are freed.
struct Reserved {
    records: Arc<Records>,
    changes: Vec<Change>,
}

/// The records of all versions that live, and the table of the newest.
struct Records {
    seeds: [u64; 4],
    shards: Box<[RwLock<Shard>]>,
    /// The newest version that removed a key. A key that is missing in the table was absent in every version from this one on.
    last_removal: AtomicU64,
}

#[derive(Default)]
struct Shard {
    /// Slots of current records, by key.
    table: HashTable<u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

/// A slot: a record of some version, or free.
struct Entry {
    key: Hash,
    record: Option<Arc<[u8]>>,
    /// The version that put the record into the table.
    since: u64,
}

/// A key and the record to put under it, or `None` to remove it.
pub type KeyedRecord = (Hash, Option<Arc<[u8]>>);

/// Where a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    shard: u32,
    local: u32,
}

/// What the table says about a key, to a reader of some version.
enum Found {
    Record(Arc<[u8]>),
    Absent,
    /// The table is too new to tell.
    Newer,
}

/// Shards of the table: enough that a commit, which locks one at a time, rarely meets a reader.
const SHARDS: usize = 256;
/// Records above which value hashes are computed on all cores.
#[cfg(feature = "parallel")]
const PARALLEL_RECORDS: usize = 256;

impl StateMap {
    /// A state without records. The seed is drawn at random, once per process, and kept secret.
    pub fn new(seed: u64) -> StateMap {
        let tree = Tree::new();
        let records = Arc::new(Records::new(seed));
        let snapshot = Snapshot { version: tree.current(), records: records.clone() };
        StateMap { tree, records, published: RwLock::new(Arc::new(snapshot)), retired: Mutex::new(VecDeque::new()) }
    }

    /// The newest committed state.
    pub fn current(&self) -> Arc<Snapshot> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Computes the state after some changes of the current one: a record to put under a key, or `None` to remove it. Any order.
    ///
    /// Errors: `Malformed` if a key occurs twice; `Rule` (`state_full`) if the tree has no room.
    pub fn candidate(&self, changes: Vec<KeyedRecord>) -> Result<Candidate, Error> {
        self.candidate_on(&self.current(), changes)
    }

    /// As [`StateMap::candidate`], after some changes of `base`. When another state has become the current one meanwhile, the
    /// candidate's root is still that of `base` with the changes, and committing it is refused.
    ///
    /// Errors: as [`StateMap::candidate`]; `Malformed` if `base` belongs to another map.
    pub fn candidate_on(&self, base: &Snapshot, mut changes: Vec<KeyedRecord>) -> Result<Candidate, Error> {
        changes.sort_unstable_by_key(|(key, _)| *key);
        if changes.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::malformed("a state batch names a key twice; keep the last change of each key"));
        }
        let hashes = value_hashes(&changes);
        let keys: Vec<Hash> = changes.iter().map(|(key, _)| *key).collect();
        let (reserved, slots) = self.records.reserve(changes);
        let updates: Vec<Update> = keys
            .into_iter()
            .zip(hashes.into_iter().zip(slots))
            .map(|(key, pair)| match pair {
                (Some(hash), Some(slot)) => Update { key, value: Some(Value { hash, handle: slot.handle() }) },
                _ => Update { key, value: None },
            })
            .collect();
        let tree = self.tree.apply(&base.version, &updates)?;
        Ok(Candidate { tree, reserved })
    }

    /// Makes the candidate the current state and returns it.
    ///
    /// Errors: `Rule` (`stale_base`) if another candidate was committed since, or if it belongs to another map; it is dropped.
    pub fn commit(&self, candidate: Candidate) -> Result<Arc<Snapshot>, Error> {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let Candidate { tree, reserved } = candidate;
        let version = self.tree.commit(tree)?;
        retired.push_back((version.number(), self.records.enter(reserved, version.number())));
        let snapshot = Arc::new(Snapshot { version, records: self.records.clone() });
        let previous = std::mem::replace(&mut *self.published.write().unwrap_or_else(PoisonError::into_inner), snapshot.clone());
        drop(previous);
        let oldest = self.tree.oldest_live();
        while retired.front().is_some_and(|(number, _)| *number <= oldest) {
            if let Some((_, slots)) = retired.pop_front() {
                self.records.free(&slots);
            }
        }
        Ok(snapshot)
    }

    /// Record slots that were ever in use: current records, those that older snapshots keep, and free ones.
    pub fn record_slots(&self) -> usize {
        self.records.shards.iter().map(|shard| read(shard).entries.len()).sum()
    }

    /// Bytes of the tree's nodes, recycled ones included.
    pub fn tree_bytes(&self) -> usize {
        self.tree.memory_bytes()
    }
}

impl Snapshot {
    /// The state root.
    pub fn root(&self) -> Hash {
        self.version.root()
    }

    /// The number of records.
    pub fn len(&self) -> u64 {
        self.version.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.version.is_empty()
    }

    /// How many commits led here.
    pub fn number(&self) -> u64 {
        self.version.number()
    }

    /// The record under a key.
    pub fn get(&self, key: &Hash) -> Option<Arc<[u8]>> {
        match self.records.find(key, self.version.number()) {
            Found::Record(record) => Some(record),
            Found::Absent => None,
            Found::Newer => self.version.get(key).and_then(|value| self.records.at(Slot::from_handle(value.handle))),
        }
    }

    /// The records under some keys, in their order.
    pub fn get_many(&self, keys: &[Hash]) -> Vec<Option<Arc<[u8]>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// Proves presence or absence of 1 to 64 keys in strictly ascending order, for [`state::verify`] with the SHA-256 of the records.
    ///
    /// Errors: `Malformed` for other lists of keys.
    pub fn prove(&self, keys: &[Hash]) -> Result<Proof, Error> {
        self.version.prove(keys)
    }

    /// Every key and record, in ascending order of the keys. The walk keeps the state as it is, whatever is committed meanwhile.
    pub fn walk(&self) -> Walk {
        Walk { leaves: self.version.walk(), records: self.records.clone() }
    }
}

/// See [`Snapshot::walk`].
pub struct Walk {
    leaves: state::Walk,
    records: Arc<Records>,
}

impl Iterator for Walk {
    type Item = (Hash, Arc<[u8]>);

    fn next(&mut self) -> Option<(Hash, Arc<[u8]>)> {
        // A slot that a version names holds its record for as long as the version lives.
        let (key, value) = self.leaves.next()?;
        self.records.at(Slot::from_handle(value.handle)).map(|record| (key, record))
    }
}

impl Candidate {
    /// The state root after the changes.
    pub fn root(&self) -> Hash {
        self.tree.root()
    }

    /// The number of records after the changes.
    pub fn len(&self) -> u64 {
        self.tree.len()
    }

    /// Whether there are no records after the changes.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }
}

fn value_hashes(changes: &[KeyedRecord]) -> Vec<Option<Hash>> {
    let hash = |(_, record): &KeyedRecord| record.as_ref().map(|record| sha256(record));
    #[cfg(feature = "parallel")]
    if changes.len() > PARALLEL_RECORDS {
        use rayon::prelude::*;
        return changes.par_iter().with_min_len(PARALLEL_RECORDS / 4).map(hash).collect();
    }
    changes.iter().map(hash).collect()
}

impl Records {
    fn new(seed: u64) -> Records {
        // Four keys from one seed by the splitmix64 generator (Steele, Lea, Flood 2014).
        let mut state = seed;
        let seeds = std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        });
        let shards = (0..SHARDS).map(|_| RwLock::new(Shard::default())).collect();
        Records { seeds, shards, last_removal: AtomicU64::new(0) }
    }

    /// The keyed hash of the table: two folded products, so that which keys collide depends on the seed.
    fn table_hash(&self, key: &Hash) -> u64 {
        let (words, _) = key.as_chunks::<8>();
        let word = |place: usize| u64::from_le_bytes(words[place]) ^ self.seeds[place];
        let fold = |left: u64, right: u64| {
            let product = u128::from(left) * u128::from(right);
            product as u64 ^ (product >> 64) as u64
        };
        fold(word(0), word(1)) ^ fold(word(2), word(3)).rotate_left(29)
    }

    /// Stores the new records where no reader finds them yet. Returns the changes by shard, and the slots in the order of `changes`.
    fn reserve(self: &Arc<Records>, changes: Vec<KeyedRecord>) -> (Reserved, Vec<Option<Slot>>) {
        let mut slots = vec![None; changes.len()];
        let mut order: Vec<(usize, u64, KeyedRecord)> =
            changes.into_iter().enumerate().map(|(place, change)| (place, self.table_hash(&change.0), change)).collect();
        order.sort_unstable_by_key(|(place, table_hash, _)| (shard_of(*table_hash), *place));
        let mut reserved = Reserved { records: self.clone(), changes: Vec::with_capacity(order.len()) };
        let mut order = order.into_iter().peekable();
        while let Some(&(_, table_hash, _)) = order.peek() {
            let shard = shard_of(table_hash);
            let mut entries = write(&self.shards[shard]);
            while let Some((place, table_hash, (key, record))) = order.next_if(|(_, table_hash, _)| shard_of(*table_hash) == shard) {
                let local = record.map(|record| entries.store(Entry { key, record: Some(record), since: u64::MAX }));
                slots[place] = local.map(|local| Slot { shard: shard as u32, local });
                reserved.changes.push(Change { key, table_hash, local });
            }
        }
        (reserved, slots)
    }

    /// Puts a candidate's records into the table, as of version `number`, and returns the slots of those that they replace.
    fn enter(&self, mut reserved: Reserved, number: u64) -> Vec<Slot> {
        let changes = std::mem::take(&mut reserved.changes);
        if changes.iter().any(|change| change.local.is_none()) {
            // Before any key leaves the table: a reader that misses one has taken the lock after us and sees this.
            self.last_removal.store(number, Ordering::Release);
        }
        let mut replaced = Vec::with_capacity(changes.len());
        for group in changes.chunk_by(|left, right| shard_of(left.table_hash) == shard_of(right.table_hash)) {
            let shard = shard_of(group[0].table_hash);
            let mut guard = write(&self.shards[shard]);
            let old = group.iter().filter_map(|change| guard.replace(change, number, |key| self.table_hash(key)));
            replaced.extend(old.map(|local| Slot { shard: shard as u32, local }));
        }
        replaced
    }

    /// Frees slots that no snapshot names, given in runs of one shard.
    fn free(&self, slots: &[Slot]) {
        for group in slots.chunk_by(|left, right| left.shard == right.shard) {
            let mut shard = write(&self.shards[group[0].shard as usize]);
            for slot in group {
                shard.release(slot.local);
            }
        }
    }

    fn find(&self, key: &Hash, number: u64) -> Found {
        let table_hash = self.table_hash(key);
        let shard = read(&self.shards[shard_of(table_hash)]);
        match shard.position(table_hash, key) {
            Some(local) => match &shard.entries[local as usize] {
                Entry { record: Some(record), since, .. } if *since <= number => Found::Record(record.clone()),
                _ => Found::Newer,
            },
            None if self.last_removal.load(Ordering::Acquire) <= number => Found::Absent,
            None => Found::Newer,
        }
    }

    fn at(&self, slot: Slot) -> Option<Arc<[u8]>> {
        read(&self.shards[slot.shard as usize]).entries[slot.local as usize].record.clone()
    }
}

impl Shard {
    fn store(&mut self, entry: Entry) -> u32 {
        if let Some(local) = self.free.pop() {
            self.entries[local as usize] = entry;
            return local;
        }
        if self.entries.len() == self.entries.capacity() {
            // By a quarter, not by doubling: most of the memory of a large map is here.
            self.entries.reserve_exact(self.entries.len() / 4 + 16);
        }
        self.entries.push(entry);
        self.entries.len() as u32 - 1
    }

    fn release(&mut self, local: u32) {
        self.entries[local as usize].record = None;
        self.free.push(local);
    }

    fn position(&self, table_hash: u64, key: &Hash) -> Option<u32> {
        self.table.find(table_hash, |local| self.entries[*local as usize].key == *key).copied()
    }

    /// Makes the change's record the current one, or removes the key; returns the slot that was current.
    fn replace(&mut self, change: &Change, number: u64, table_hash: impl Fn(&Hash) -> u64) -> Option<u32> {
        let Shard { table, entries, .. } = self;
        if let Some(local) = change.local {
            entries[local as usize].since = number;
        }
        let same_key = |local: &u32| entries[*local as usize].key == change.key;
        match (table.find_entry(change.table_hash, same_key), change.local) {
            (Ok(mut found), Some(local)) => Some(std::mem::replace(found.get_mut(), local)),
            (Ok(found), None) => Some(found.remove().0),
            (Err(_), Some(local)) => {
                table.insert_unique(change.table_hash, local, |local| table_hash(&entries[*local as usize].key));
                None
            }
            (Err(_), None) => None,
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let slots: Vec<Slot> = self.changes.iter().filter_map(Change::slot).collect();
        self.records.free(&slots);
    }
}

impl Change {
    fn slot(&self) -> Option<Slot> {
        self.local.map(|local| Slot { shard: shard_of(self.table_hash) as u32, local })
    }
}

impl Slot {
    fn handle(self) -> u64 {
        u64::from(self.shard) << 32 | u64::from(self.local)
    }

    fn from_handle(handle: u64) -> Slot {
        Slot { shard: (handle >> 32) as u32, local: handle as u32 }
    }
}

/// The shard of a table hash: bits that hashbrown uses neither for the bucket (lowest) nor for the tag (highest seven).
fn shard_of(table_hash: u64) -> usize {
    (table_hash >> 40) as usize % SHARDS
}

fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}
