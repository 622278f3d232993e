//! Writing a snapshot: chunk after chunk of one published height, while the ledger goes on.
//!
//! What the height needs of the chain is shared, not copied; leaf hashes of the log never change and are read when their turn comes.
use super::format::{ChunkKind, Filling, Listed, Manifest, Step};
use crate::answer::CertifiedHeader;
use crate::error::Error;
use crate::hash::Hash;
use crate::index::Walk;
use crate::ledger::chain::Recent;
use crate::ledger::{Ledger, Published};
use crate::listing::is_kept;
use crate::map_key::path_of;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Leaf hashes of one entry.
const LEAVES_AT_ONCE: u64 = 1_024;
/// Receipts of one entry: a height with more goes on in the next.
const RECEIPTS_AT_ONCE: usize = 16;

/// See the head of the file.
pub struct Writer {
    genesis: Hash,
    published: Arc<Published>,
    walk: Vec<Step>,
    stage: ChunkKind,
    next_leaf: u64,
    configurations: VecDeque<Box<[u8]>>,
    recent: VecDeque<Arc<Recent>>,
    /// Receipts of the first of `recent` that are written.
    receipts: usize,
    records: Walk,
    /// Map keys that the state does not tell, by path.
    names: HashMap<Hash, Box<[u8]>>,
    listed: Vec<Listed>,
}

impl Ledger {
    /// Begins a snapshot of the last committed height. `walk` has the certified header of every set change (P75), in order; more than
    /// that height knows are left out.
    ///
    /// Errors: `Rule` (`not_ready`) at height 0, (`unknown_height`) when a set change is missing in `walk`.
    pub fn write_snapshot(&self, walk: Vec<CertifiedHeader>) -> Result<Writer, Error> {
        let (published, recent, configurations, sets) = {
            let chain = self.chain();
            let configurations = chain.configurations.records().map(Box::from).collect();
            // Published under the chain's lock, so all is of one height.
            (self.published(), chain.recent.clone(), configurations, chain.sets.clone())
        };
        if published.certified.is_none() {
            return Err(Error::rule("not_ready", "there is no snapshot of height 0; ask again after the first block"));
        }
        // The set that a header of `first - 1` names decides from `first` on.
        let changes = sets.into_iter().skip(1).filter(|(first, _)| *first <= published.height);
        let mut given = walk.into_iter();
        let mut walk = Vec::new();
        for (first, next) in changes {
            let block = given.next().ok_or_else(|| {
                Error::rule("unknown_height", format!("the certified header of height {} is needed for a snapshot", first - 1))
            })?;
            walk.push(Step { block, next: (*next).clone() });
        }
        let names = self.directory().keys().into_iter().map(|key| (path_of(&key), key)).collect();
        Ok(Writer {
            genesis: self.genesis_hash,
            records: published.state.walk(),
            published,
            walk,
            stage: ChunkKind::Leaves,
            next_leaf: 0,
            configurations,
            recent,
            receipts: 0,
            names,
            listed: Vec::new(),
        })
    }
}

impl Writer {
    /// The height that is written.
    pub fn height(&self) -> u64 {
        self.published.height
    }

    /// The next chunk with its SHA-256; none after the last. `ledger` is the one that began it.
    ///
    /// Errors: `Malformed` for a state whose keys the ledger does not know, which no ledger has.
    pub fn next_chunk(&mut self, ledger: &Ledger) -> Result<Option<(Hash, Vec<u8>)>, Error> {
        loop {
            let mut filling = Filling::new(self.stage);
            let more = match self.stage {
                ChunkKind::Leaves => self.leaves(ledger, &mut filling)?,
                ChunkKind::Configurations => self.configurations(&mut filling),
                ChunkKind::Heights => self.heights(&mut filling),
                ChunkKind::Records => self.records(&mut filling)?,
            };
            let next = match self.stage {
                _ if more => Some(self.stage),
                ChunkKind::Leaves => Some(ChunkKind::Configurations),
                ChunkKind::Configurations => Some(ChunkKind::Heights),
                ChunkKind::Heights => Some(ChunkKind::Records),
                ChunkKind::Records => None,
            };
            if !filling.is_empty() {
                let (listed, bytes) = filling.close();
                self.listed.push(listed);
                self.stage = next.unwrap_or(ChunkKind::Records);
                return Ok(Some((listed.hash, bytes)));
            }
            match next {
                Some(next) => self.stage = next,
                None => return Ok(None),
            }
        }
    }

    /// The manifest of the chunks so far: of all when there is none left.
    pub fn manifest(&self) -> Manifest {
        Manifest {
            genesis: self.genesis,
            records: self.published.state.len(),
            block: self.published.certified.clone().unwrap_or_default(),
            walk: self.walk.clone(),
            chunks: self.listed.clone(),
        }
    }

    fn leaves(&mut self, ledger: &Ledger, filling: &mut Filling) -> Result<bool, Error> {
        let end = self.published.height + 1;
        let chain = ledger.chain();
        let leaves = chain.log.level(0);
        while self.next_leaf < end && !filling.is_full() {
            let until = end.min(self.next_leaf + LEAVES_AT_ONCE);
            let some = leaves
                .get(self.next_leaf as usize..until as usize)
                .ok_or_else(|| Error::malformed("another ledger than began this snapshot"))?;
            filling.entry().bytes(some.as_flattened());
            self.next_leaf = until;
        }
        Ok(self.next_leaf < end)
    }

    fn configurations(&mut self, filling: &mut Filling) -> bool {
        while !filling.is_full() {
            let Some(record) = self.configurations.pop_front() else { return false };
            filling.entry().bytes(&record);
        }
        !self.configurations.is_empty()
    }

    fn heights(&mut self, filling: &mut Filling) -> bool {
        while !filling.is_full() {
            let Some(recent) = self.recent.front() else { return false };
            let rest = &recent.receipts[self.receipts..];
            let some = &rest[..rest.len().min(RECEIPTS_AT_ONCE)];
            let entry = filling.entry();
            entry.array(2).bytes_or_null((self.receipts == 0).then_some(&recent.header[..])).array(some.len());
            for receipt in some {
                entry.bytes(receipt);
            }
            self.receipts += some.len();
            if self.receipts == recent.receipts.len() {
                self.receipts = 0;
                self.recent.pop_front();
            }
        }
        !self.recent.is_empty()
    }

    fn records(&mut self, filling: &mut Filling) -> Result<bool, Error> {
        while !filling.is_full() {
            let Some((path, record)) = self.records.next() else { return Ok(false) };
            let name = if is_kept(path[0] >> 4) {
                self.names.get(&path).ok_or_else(|| Error::malformed("a record whose key the ledger does not know"))?
            } else {
                &path[..]
            };
            filling.entry().array(2).bytes(name).bytes(&record);
        }
        Ok(true)
    }
}
