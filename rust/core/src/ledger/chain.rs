//! The committed chain in memory: its last header, the log of all, which set decided which height, and the ids and receipts of the
//! heights whose transactions could still stand in a block (P19).
//!
//! Ids of a block are kept for as many heights as the window had before that block: a transaction in it was valid for no longer, so
//! what governance does to the window later lets none of them in again, and a restart remembers the same.
use super::rules::{loosest, Rules};
use super::seals::Seals;
use super::snapshot::{Configurations, MOST_WINDOW};
use crate::block::{Header, ValidatorSet};
use crate::genesis::Parameters;
use crate::hash::Hash;
use crate::log::{self, Log};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Ids and receipts of one height within the replay window.
pub struct Recent {
    pub height: u64,
    pub header: Vec<u8>,
    /// The first height at which no transaction of it is valid any more.
    pub until: u64,
    pub ids: Vec<Hash>,
    pub receipts: Vec<Vec<u8>>,
}

/// See the head of the file.
pub struct Chain {
    pub header: Header,
    pub header_bytes: Vec<u8>,
    pub log: Log,
    /// Shared with snapshots that are being written.
    pub recent: VecDeque<Arc<Recent>>,
    pub included: HashMap<Hash, (u64, u32)>,
    /// Who decided from which height on; never empty.
    pub sets: Vec<(u64, Arc<ValidatorSet>)>,
    /// Parameters that were replaced, each with the height from which no transaction that they let in is valid any more.
    pub superseded: Vec<(u64, Parameters)>,
    /// Versions of the record of parameters, as far back as remembered ids depend on them.
    pub configurations: Configurations,
    /// Sealed ranges and their tables.
    pub seals: Seals,
}

impl Chain {
    /// The chain of the genesis block.
    pub fn new(header: Header, header_bytes: Vec<u8>, validators: Arc<ValidatorSet>, configurations: Configurations) -> Chain {
        let mut log = Log::new();
        log.append(log::leaf_hash(&header_bytes));
        let sets = vec![(1, validators)];
        Chain {
            header,
            header_bytes,
            log,
            recent: VecDeque::new(),
            included: HashMap::new(),
            sets,
            superseded: Vec::new(),
            configurations,
            seals: Seals::default(),
        }
    }

    /// Appends a block that was executed under the rules `before` and left the rules `after`.
    pub fn append(&mut self, header: Header, bytes: Vec<u8>, ids: Vec<Hash>, receipts: Vec<Vec<u8>>, before: &Rules, after: &Rules) {
        let height = header.height;
        self.log.append(log::leaf_hash(&bytes));
        let until = height.saturating_add(before.parameters.window);
        self.remember(Recent { height, header: bytes.clone(), until, ids, receipts });
        self.configurations.forget_before(height.saturating_sub(MOST_WINDOW));
        // After the window shrank, what came later waits for what came before: it is kept longer than it must.
        while self.recent.front().is_some_and(|recent| recent.until <= height) {
            if let Some(old) = self.recent.pop_front() {
                for id in &old.ids {
                    if self.included.get(id).is_some_and(|(included, _)| *included == old.height) {
                        self.included.remove(id);
                    }
                }
            }
        }
        self.superseded.retain(|(until, _)| *until > height);
        if before.parameters != after.parameters {
            self.superseded.push((height.saturating_add(before.parameters.window), before.parameters));
        }
        if before.validators_hash != after.validators_hash {
            self.sets.push((height + 1, after.validators.clone()));
        }
        self.header = header;
        self.header_bytes = bytes;
    }

    /// Takes up the ids and receipts of a height.
    pub fn remember(&mut self, recent: Recent) {
        for (index, id) in recent.ids.iter().enumerate() {
            // The first inclusion is the one whose receipt counts; a duplicate keeps it.
            self.included.entry(*id).or_insert((recent.height, index as u32));
        }
        self.recent.push_back(Arc::new(recent));
    }

    /// The widest limits under which a batch may have been made whose transactions are still valid.
    pub fn batch_limits(&self, now: &Parameters) -> Parameters {
        self.superseded.iter().fold(*now, |limits, (_, old)| loosest(&limits, old))
    }
}
