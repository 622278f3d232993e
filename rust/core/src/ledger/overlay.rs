//! The state as the transactions of one block see it: the committed snapshot with what they changed on top.
//!
//! Reads are decoded once a block; what a block writes is decoded when the block reads it again, which it seldom does. A transaction
//! that is refused is rolled back by a journal; nothing here touches the state map.
use crate::error::Error;
use crate::hash::Hash;
use crate::index::{KeyedRecord, Snapshot};
use crate::map_key::{path_of, MapKey};
use crate::record::{Record, MAX_RECORD};
use hashbrown::HashMap;
use std::sync::Arc;

/// A record with its bytes.
#[derive(Debug)]
pub struct Entry {
    /// Decoded.
    pub record: Record,
    /// Encoded.
    pub bytes: Arc<[u8]>,
}

/// One version that a block writes.
#[derive(Clone, Debug)]
pub struct Change {
    /// Encoded map key.
    pub key: Arc<[u8]>,
    /// Where the record stands in the tree (P9).
    pub path: Hash,
    /// Encoded record.
    pub record: Arc<[u8]>,
}

impl Change {
    /// The version `record` of what stands under `key`, both encoded.
    pub fn new(key: &[u8], record: &[u8]) -> Change {
        Change { key: key.into(), path: path_of(key), record: record.into() }
    }
}

/// What the overlay knows of a key.
#[derive(Clone)]
enum Slot {
    /// There is no record, neither below nor here.
    Absent,
    /// Decoded, from below or from here.
    Read(Arc<Entry>),
    /// Written here, and not read since.
    Written(Arc<[u8]>),
}

/// See the head of the file.
pub struct Overlay<'a> {
    base: &'a Snapshot,
    height: u64,
    /// Reason and basis of the running operation.
    ground: (Option<u64>, Option<Hash>),
    /// By encoded key. Registrants choose keys: the map's own hash is seeded anew for each process and overlay, and its order is
    /// never read.
    slots: HashMap<Arc<[u8]>, Slot>,
    /// Every version written, in order: two changes of a record in one block are two versions.
    changes: Vec<Change>,
    /// What each change of the running transaction replaced.
    journal: Vec<Option<Slot>>,
    /// The key that was encoded last.
    key: Vec<u8>,
}

impl<'a> Overlay<'a> {
    /// An overlay without changes for the block of this height.
    pub fn new(base: &'a Snapshot, height: u64) -> Self {
        Overlay {
            base,
            height,
            ground: (None, None),
            slots: HashMap::new(),
            changes: Vec::new(),
            journal: Vec::new(),
            key: Vec::with_capacity(64),
        }
    }

    /// Height of the block that is executed.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// What the versions that are written from now on name as their reason and basis.
    pub fn set_ground(&mut self, reason: Option<u64>, basis: Option<Hash>) {
        self.ground = (reason, basis);
    }

    fn encode(&mut self, key: &MapKey<'_>) {
        self.key.clear();
        key.encode_to(&mut self.key);
    }

    /// The present record of a key.
    pub fn get(&mut self, key: &MapKey<'_>) -> Result<Option<Arc<Entry>>, Error> {
        self.encode(key);
        let bytes = match self.slots.get(self.key.as_slice()) {
            Some(Slot::Absent) => return Ok(None),
            Some(Slot::Read(entry)) => return Ok(Some(entry.clone())),
            Some(Slot::Written(bytes)) => Some(bytes.clone()),
            None => self.base.get(&path_of(&self.key)),
        };
        let entry = match bytes {
            Some(bytes) => Some(Arc::new(Entry { record: Record::decode(&bytes)?, bytes })),
            None => None,
        };
        self.slots.insert(self.key.as_slice().into(), entry.clone().map_or(Slot::Absent, Slot::Read));
        Ok(entry)
    }

    /// Whether a key has a record.
    pub fn contains(&mut self, key: &MapKey<'_>) -> bool {
        self.encode(key);
        match self.slots.get(self.key.as_slice()) {
            Some(slot) => !matches!(slot, Slot::Absent),
            None => self.base.get(&path_of(&self.key)).is_some(),
        }
    }

    /// Writes the first record under a key; false, and nothing is written, when it has one.
    ///
    /// Errors: as [`Overlay::put`].
    pub fn create(&mut self, key: &MapKey<'_>, record: Record) -> Result<bool, Error> {
        self.encode(key);
        let path = path_of(&self.key);
        let is_there = match self.slots.get(self.key.as_slice()) {
            Some(slot) => !matches!(slot, Slot::Absent),
            None => self.base.get(&path).is_some(),
        };
        if !is_there {
            self.write(path, record)?;
        }
        Ok(!is_there)
    }

    /// Writes a record under a key.
    ///
    /// Errors: `Rule` (`too_large`) for a record that nobody could read back.
    pub fn put(&mut self, key: &MapKey<'_>, record: Record) -> Result<(), Error> {
        self.encode(key);
        self.write(path_of(&self.key), record)
    }

    /// Writes a record under the key that was encoded last.
    fn write(&mut self, path: Hash, mut record: Record) -> Result<(), Error> {
        (record.reason, record.basis) = self.ground;
        let bytes: Arc<[u8]> = record.encode().into();
        if bytes.len() > MAX_RECORD {
            return Err(Error::rule(
                "too_large",
                format!("a record of {} bytes, the limit is {MAX_RECORD}; use fewer commitments or services", bytes.len()),
            ));
        }
        let key: Arc<[u8]> = self.key.as_slice().into();
        self.changes.push(Change { key: key.clone(), path, record: bytes.clone() });
        self.journal.push(self.slots.insert(key, Slot::Written(bytes)));
        Ok(())
    }

    /// Writes the next version of a record, changed by `edit`.
    pub fn update(&mut self, key: &MapKey<'_>, entry: &Entry, edit: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let mut next = entry.record.next_version(&entry.bytes, self.height);
        edit(&mut next);
        self.put(key, next)
    }

    /// Keeps what the running transaction changed.
    pub fn keep(&mut self) {
        self.journal.clear();
    }

    /// Undoes what the running transaction changed.
    pub fn undo(&mut self) {
        self.undo_to(0);
    }

    /// How many versions the running transaction has written.
    pub fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Undoes what the running transaction changed since a mark.
    pub fn undo_to(&mut self, mark: usize) {
        while self.journal.len() > mark {
            let (Some(previous), Some(change)) = (self.journal.pop(), self.changes.pop()) else { break };
            match previous {
                Some(slot) => self.slots.insert(change.key, slot),
                // Nothing was known of the key: what the base has is read again when it is needed.
                None => self.slots.remove(&change.key),
            };
        }
    }

    /// Every version written, in order.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

/// The last version of each key, for the state map: ascending by path.
pub fn last_versions(changes: &[Change]) -> Vec<KeyedRecord> {
    let mut order: Vec<(&Hash, usize)> = changes.iter().map(|change| &change.path).zip(0..).collect();
    order.sort_unstable();
    let is_last = |place: usize| order.get(place + 1).is_none_or(|next| next.0 != order[place].0);
    let last = order.iter().enumerate().filter(|(place, _)| is_last(*place)).map(|(_, (path, index))| (path, index));
    last.map(|(path, index)| (**path, Some(changes[*index].record.clone()))).collect()
}
