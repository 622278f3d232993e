//! The state as the transactions of one block see it: the committed snapshot with what they changed on top.
//!
//! Reads are decoded once a block. A transaction that is refused is rolled back by a journal; nothing here touches the state map.
use crate::error::Error;
use crate::hash::Hash;
use crate::index::Snapshot;
use crate::map_key::{path_of, MapKey};
use crate::record::{Record, MAX_RECORD};
use std::collections::HashMap;
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
    /// Encoded record.
    pub record: Arc<[u8]>,
}

/// See the head of the file.
pub struct Overlay<'a> {
    base: &'a Snapshot,
    height: u64,
    /// Reason and basis of the running operation.
    ground: (Option<u64>, Option<Hash>),
    entries: HashMap<Arc<[u8]>, Option<Arc<Entry>>>,
    /// Every version written, in order: two changes of a record in one block are two versions.
    changes: Vec<Change>,
    /// What each change of the running transaction replaced.
    journal: Vec<Option<Arc<Entry>>>,
}

impl<'a> Overlay<'a> {
    /// An overlay without changes for the block of this height.
    pub fn new(base: &'a Snapshot, height: u64) -> Self {
        Overlay { base, height, ground: (None, None), entries: HashMap::new(), changes: Vec::new(), journal: Vec::new() }
    }

    /// Height of the block that is executed.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// What the versions that are written from now on name as their reason and basis.
    pub fn set_ground(&mut self, reason: Option<u64>, basis: Option<Hash>) {
        self.ground = (reason, basis);
    }

    /// The present record of a key.
    pub fn get(&mut self, key: &MapKey<'_>) -> Result<Option<Arc<Entry>>, Error> {
        let key = key.encode();
        if let Some(entry) = self.entries.get(key.as_slice()) {
            return Ok(entry.clone());
        }
        let entry = match self.base.get(&path_of(&key)) {
            Some(bytes) => Some(Arc::new(Entry { record: Record::decode(&bytes)?, bytes })),
            None => None,
        };
        self.entries.insert(key.into(), entry.clone());
        Ok(entry)
    }

    /// Whether a key has a record.
    pub fn contains(&mut self, key: &MapKey<'_>) -> bool {
        let key = key.encode();
        match self.entries.get(key.as_slice()) {
            Some(entry) => entry.is_some(),
            None => self.base.get(&path_of(&key)).is_some(),
        }
    }

    /// Writes a record under a key.
    ///
    /// Errors: `Rule` (`too_large`) for a record that nobody could read back.
    pub fn put(&mut self, key: &MapKey<'_>, mut record: Record) -> Result<(), Error> {
        (record.reason, record.basis) = self.ground;
        let key: Arc<[u8]> = key.encode().into();
        let bytes: Arc<[u8]> = record.encode().into();
        if bytes.len() > MAX_RECORD {
            return Err(Error::rule(
                "too_large",
                format!("a record of {} bytes, the limit is {MAX_RECORD}; use fewer commitments or services", bytes.len()),
            ));
        }
        self.changes.push(Change { key: key.clone(), record: bytes.clone() });
        let previous = self.entries.insert(key, Some(Arc::new(Entry { record, bytes })));
        self.journal.push(previous.flatten());
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
                Some(entry) => self.entries.insert(change.key, Some(entry)),
                // The first write of a key in this block: what the base has is read again when it is needed.
                None => self.entries.remove(&change.key),
            };
        }
    }

    /// Every version written, in order.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

/// The last version of each key, for the state map.
pub fn last_versions(changes: &[Change]) -> Vec<(Hash, Option<Arc<[u8]>>)> {
    let mut last: HashMap<&[u8], &Arc<[u8]>> = HashMap::with_capacity(changes.len());
    for change in changes {
        last.insert(&change.key, &change.record);
    }
    // The map sorts by path, so the order of this iteration reaches no output.
    last.into_iter().map(|(key, record)| (path_of(key), Some(record.clone()))).collect()
}
