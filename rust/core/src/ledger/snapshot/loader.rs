//! Reading a snapshot: each chunk is checked as far as the ones before allow, the state root at the end.
//!
//! A loader builds a state of its own. What a ledger holds changes only in [`Ledger::install`], which moves pointers.
use super::configurations::Configurations;
use super::format::{entries, ChunkKind, Listed, Manifest};
use crate::block::{Header, ValidatorSet, MAX_HEADER};
use crate::error::Error;
use crate::genesis::Genesis;
use crate::hash::{sha256, Hash};
use crate::index::StateMap;
use crate::ledger::chain::{Chain, Recent};
use crate::ledger::rules::Rules;
use crate::ledger::seals::Seals;
use crate::ledger::stored::Receipt;
use crate::ledger::{map_seed, Ledger, Published};
use crate::listing::{is_kept, Directory};
use crate::log::{self, Log};
use crate::map_key::{path_of, Kind, MapKey};
use crate::record::MAX_RECORD;
use crate::trust::Trust;
use crate::wire::Decoder;
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

/// See the head of the file.
pub struct Loader {
    manifest: Manifest,
    header: Header,
    /// Who decided the height.
    validators: Arc<ValidatorSet>,
    /// The value that the certificate of the height is about: the root of the log that ends with it.
    value: Hash,
    sets: Vec<(u64, Arc<ValidatorSet>)>,
    next_chunk: usize,
    log: Log,
    configurations: Configurations,
    recent: Vec<Recent>,
    state: StateMap,
    directory: Directory,
    cities: BTreeSet<crate::code::City>,
    seals: Seals,
    last_path: Option<Hash>,
}

/// A snapshot that is whole and proven: what [`Ledger::install`] takes.
pub struct Ready {
    loader: Loader,
    rules: Rules,
}

impl Loader {
    /// Begins with a manifest: its header must follow from the genesis by certificates (P75, P81). `seed` is as in [`Ledger::new`].
    ///
    /// Errors: `Malformed`, `Certificate`, `Proof`.
    pub fn new(genesis: &Genesis, seed: &[u8; 32], manifest: &[u8]) -> Result<Loader, Error> {
        let manifest = Manifest::decode(manifest)?;
        let mut trust = Trust::from_genesis(genesis)?;
        let mut sets = vec![(1, Arc::new(trust.validators.clone()))];
        for step in &manifest.walk {
            trust = trust.advance(&step.block, Some(&step.next))?;
            sets.push((trust.height + 1, Arc::new(step.next.clone())));
        }
        let header = Header::decode(&manifest.block.header)?;
        let is_later = header.height > trust.height && header.genesis == trust.genesis && manifest.genesis == trust.genesis;
        if !is_later || header.validators != trust.validators.hash() {
            return Err(Error::Certificate(format!(
                "a snapshot of height {} of another network, or under cities that the way from the genesis does not lead to",
                header.height
            )));
        }
        manifest.block.verify(&header, &trust.validators)?;
        let value = manifest.block.log_root(header.height)?;
        Ok(Loader {
            manifest,
            header,
            validators: Arc::new(trust.validators),
            value,
            sets,
            next_chunk: 0,
            log: Log::new(),
            configurations: Configurations::default(),
            recent: Vec::new(),
            state: StateMap::new(map_seed(seed)),
            directory: Directory::default(),
            cities: BTreeSet::new(),
            seals: Seals::default(),
            last_path: None,
        })
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The certified header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Who decided the height.
    pub fn validators(&self) -> &ValidatorSet {
        &self.validators
    }

    /// Takes the next chunk.
    ///
    /// Errors: `Proof` when it is another one than the manifest lists, or does not fit what came before; `Malformed`.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let listed = *self.manifest.chunks.get(self.next_chunk).ok_or_else(|| Error::malformed("more chunks than the manifest lists"))?;
        if bytes.len() as u64 != listed.size || sha256(bytes) != listed.hash {
            return Err(Error::proof(format!("chunk {} is not the one that the manifest lists", self.next_chunk)));
        }
        match listed.kind {
            ChunkKind::Leaves => self.leaves(bytes)?,
            ChunkKind::Configurations => self.versions(bytes)?,
            ChunkKind::Heights => self.heights(bytes)?,
            ChunkKind::Records => self.records(bytes)?,
        }
        self.next_chunk += 1;
        let next = self.manifest.chunks.get(self.next_chunk).map(|next: &Listed| next.kind);
        if listed.kind == ChunkKind::Leaves && next != Some(ChunkKind::Leaves) {
            self.check_log()?;
        }
        Ok(())
    }

    fn leaves(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (mut decoder, count) = entries(bytes, ChunkKind::Leaves, 1)?;
        for _ in 0..count {
            let (leaves, rest) = decoder.bytes(bytes.len())?.as_chunks::<32>();
            if !rest.is_empty() || self.log.size() + leaves.len() as u64 > self.header.height + 1 {
                return Err(Error::proof("leaf hashes that are cut off, or of more heights than the snapshot's"));
            }
            leaves.iter().for_each(|leaf| self.log.append(*leaf));
        }
        decoder.end()
    }

    /// P81: the leaves are those of the log whose root was certified.
    fn check_log(&self) -> Result<(), Error> {
        if self.log.size() != self.header.height + 1 || self.log.root_at(self.log.size())? != self.value {
            return Err(Error::proof("the leaf hashes of the snapshot do not give the certified value of its header"));
        }
        Ok(())
    }

    fn versions(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (mut decoder, count) = entries(bytes, ChunkKind::Configurations, 1)?;
        for _ in 0..count {
            self.configurations.append(decoder.bytes(MAX_RECORD)?)?;
        }
        decoder.end()
    }

    fn heights(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (mut decoder, count) = entries(bytes, ChunkKind::Heights, 3)?;
        for _ in 0..count {
            decoder.array_of(2)?;
            if !decoder.null() {
                self.complete_height()?;
                let header = decoder.bytes(MAX_HEADER)?.to_vec();
                let height = Header::decode(&header)?.height;
                let follows = self.recent.last().is_none_or(|last| last.height + 1 == height);
                let leaf = self.log.level(0).get(usize::try_from(height).unwrap_or(usize::MAX));
                if !follows || height == 0 || leaf != Some(&log::leaf_hash(&header)) {
                    return Err(Error::proof(format!("the header of height {height} is not in the log, or not in its place")));
                }
                self.recent.push(Recent { height, header, until: 0, ids: Vec::new(), receipts: Vec::new() });
            }
            let recent = self.recent.last_mut().ok_or_else(|| Error::proof("receipts of no height"))?;
            take_receipts(&mut decoder, recent)?;
        }
        decoder.end()
    }

    /// The last height that came has all its receipts: they are those of its header (P31).
    fn complete_height(&self) -> Result<(), Error> {
        let Some(recent) = self.recent.last() else { return Ok(()) };
        let header = Header::decode(&recent.header)?;
        let ids: Vec<Hash> = recent.ids.iter().map(|id| log::leaf_hash(id)).collect();
        let receipts: Vec<Hash> = recent.receipts.iter().map(|receipt| log::leaf_hash(receipt)).collect();
        if log::root(&ids) != header.transactions_root || log::root(&receipts) != header.receipts_root {
            return Err(Error::proof(format!("the receipts of height {} are not those of its header", recent.height)));
        }
        Ok(())
    }

    fn records(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let (mut decoder, count) = entries(bytes, ChunkKind::Records, 4)?;
        let mut updates = Vec::with_capacity(count);
        let mut keys: Vec<&[u8]> = Vec::new();
        let mut sealed: Vec<(&[u8], &[u8])> = Vec::new();
        for _ in 0..count {
            decoder.array_of(2)?;
            let name = decoder.bytes(usize::from(u8::MAX) + 1)?;
            let record = decoder.bytes(MAX_RECORD)?;
            // The first byte of a key is its kind, below 16; that of a path has the kind in its upper half.
            let path = match name.first() {
                Some(kind) if *kind < 16 => path_of(name),
                _ => name.try_into().map_err(|_| Error::malformed("the name of a record is neither a map key nor a path"))?,
            };
            let is_named = name.len() != 32 || name[0] < 16;
            if is_kept(path[0] >> 4) != is_named || self.last_path.is_some_and(|last| path <= last) {
                return Err(Error::proof("records that are out of order, or named by a path where a map key is needed"));
            }
            self.last_path = Some(path);
            if is_named {
                keys.push(name);
                if name[0] == Kind::City as u8 {
                    self.cities.insert(crate::code::City::parse(std::str::from_utf8(&name[1..]).unwrap_or_default())?);
                }
                sealed.push((name, record));
            }
            updates.push((path, Some(Arc::from(record))));
        }
        decoder.end()?;
        let (seals, _) = Seals::read(sealed.into_iter(), self.header.height)?;
        self.seals.take(seals);
        self.directory.note(keys);
        self.state.commit(self.state.candidate(updates)?)?;
        Ok(())
    }

    /// P81, P82: that everything is there, and follows from the certified header.
    ///
    /// Errors: `Proof` or `Malformed` when it is not whole or not proven.
    pub fn finish(mut self) -> Result<Ready, Error> {
        let state = self.state.current();
        if self.next_chunk != self.manifest.chunks.len() || self.log.size() != self.header.height + 1 {
            return Err(Error::malformed("chunks of the snapshot are missing"));
        }
        if state.root() != self.header.state_root || state.len() != self.manifest.records {
            return Err(Error::proof(format!("the records of the snapshot do not give the state root of height {}", self.header.height)));
        }
        let cities = Arc::new(std::mem::take(&mut self.cities));
        let rules = Rules::read(self.header.height, cities, |key| state.get(&path_of(key)))?;
        if rules.validators_hash != self.header.next_validators {
            return Err(Error::proof("the state names other cities for the next height than the header"));
        }
        let present = state.get(&MapKey::Parameters.path()).ok_or_else(|| Error::malformed("a state without parameters"))?;
        let height = self.header.height;
        self.configurations.check(&present, height)?;
        self.complete_height()?;
        let first = self.recent.first().map_or(height + 1, |recent| recent.height);
        let reaches_end = self.recent.last().is_none_or(|last| last.height == height);
        if !reaches_end || self.configurations.last_remembered(first, height)?.is_some() {
            return Err(Error::proof("heights are missing whose transactions could come again (P19)"));
        }
        for recent in &mut self.recent {
            recent.until = recent.height.saturating_add(self.configurations.window_before(recent.height)?);
        }
        Ok(Ready { loader: self, rules })
    }
}

fn take_receipts(decoder: &mut Decoder<'_>, recent: &mut Recent) -> Result<(), Error> {
    let count = decoder.list(usize::MAX, 38)?;
    for _ in 0..count {
        let receipt = decoder.bytes(usize::MAX)?;
        recent.ids.push(Receipt::decode(receipt)?.id);
        recent.receipts.push(receipt.to_vec());
    }
    Ok(())
}

impl Ledger {
    /// Puts a snapshot in the place of everything that this ledger holds, when it is later. Snapshots that readers keep and
    /// waiting transactions stay; candidates of the height before are of no use any more.
    ///
    /// Errors: `Rule` (`invalid_block`) when this ledger is not behind it, or of another network; it stays as it was.
    pub fn install(&self, ready: Ready) -> Result<(), Error> {
        let Ready { mut loader, rules } = ready;
        let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
        let (header, height) = (loader.header, chain.header.height);
        if header.height <= height || header.genesis != self.genesis_hash {
            return Err(crate::ledger::invalid(format!("a snapshot of height {} for a ledger at height {height}", header.height)));
        }
        if header.next_validators != header.validators {
            loader.sets.push((header.height + 1, rules.validators.clone()));
        }
        let block = loader.manifest.block;
        let state = loader.state.current();
        let (at, time_ms) = (header.height, header.time_ms);
        let mut next = Chain::new(header, block.header.clone(), rules.validators.clone(), loader.configurations);
        next.log = loader.log;
        next.sets = loader.sets;
        next.seals = loader.seals;
        loader.recent.into_iter().for_each(|recent| next.remember(recent));
        *chain = next;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loader.state);
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loader.directory);
        let published =
            Published { state, certified: Some(block), height: at, time_ms, validators: loader.validators, rules: Arc::new(rules) };
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(published);
        Ok(())
    }
}
