//! The ledger: transactions in, blocks executed on the side, one of them committed, answers from what is committed.
//!
//! Pure and deterministic: what a block does follows from its header, its batches and the state before it. Execution changes nothing
//! until [`Ledger::commit`]; several candidates of one height may stand beside each other, and dropping one frees it.
//! Every method takes `&self`: the pool, the chain and the published block have locks of their own, so that verifying signatures,
//! executing a block and answering do not wait for each other. The chain's lock is held to read its end and to commit, never while
//! executing. Order of locks: the pool's before the chain's; the published block's last.
mod adopt;
mod chain;
pub mod execute;
mod governance;
mod items;
mod keys;
pub mod operation;
mod organisations;
pub mod overlay;
pub mod pool;
mod profiles;
mod ranges;
mod rates;
mod recovery;
pub mod rules;
mod sealed;
mod seals;
pub mod snapshot;
mod status;
pub mod stored;
mod subject;
pub mod transaction;
mod transfers;
mod verify;
mod waiting;

pub use governance::check_certificate;
pub use verify::{Admission, MAX_SEQUENCE};

use crate::answer::{self, CertifiedHeader};
use crate::block::{header_hash, Header, ValidatorSet};
use crate::code::{City, Subject};
use crate::error::Error;
use crate::genesis::{Genesis, Parameters};
use crate::hash::{Hash, Suite};
use crate::index::{self, Snapshot, StateMap};
use crate::listing::Directory;
use crate::log::{self, Frontier, Log};
use crate::map_key::path_of;
use crate::mutants::{planted, Mutant};
use crate::signature::Verifier;
use crate::vote::CommitCertificate;
use crate::wire::Decoder;
use chain::Chain;
use execute::{execute, Executed};
use operation::Range;
use overlay::{last_versions, Change};
use pool::{Batch, Pool, Verified};
use rules::{matters, Rules, Written};
use seals::Seals;
use snapshot::Configurations;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use stored::{decode_changes, decode_receipts, encode_changes, encode_receipts};
use transaction::{batch_digest, check_time, decode_batch, Transaction};

/// The greatest value of the parameter `max_block_batches`.
const MOST_BLOCK_BATCHES: u64 = 4_096;

/// What one committed height leaves for the store.
#[derive(Debug)]
pub struct Commit {
    /// The height.
    pub height: u64,
    /// Every version written, in order: u16 key length, key, u32 record length, record.
    pub changes: Vec<u8>,
    /// Canonical array of receipts, in block order.
    pub receipts: Vec<u8>,
    /// Transactions in the block.
    pub transactions: usize,
    /// How many took effect.
    pub committed: usize,
    /// How many were refused by the rule.
    pub rejected: usize,
    /// Digests of the tables that it sealed.
    pub tables: Vec<Hash>,
    /// Whether a city, its keys, the committee, a parameter or the schedule of protocols changed.
    pub configuration: bool,
}

/// An executed block that is neither committed nor dropped.
pub struct Candidate {
    /// The header that follows from the execution.
    pub header: Header,
    /// Its bytes.
    pub header_bytes: Vec<u8>,
    /// The log root after it: what consensus decides on (P33).
    pub value: Hash,
    outcome: Arc<Outcome>,
}

impl Candidate {
    /// Digests of its batches, in order.
    pub fn digests(&self) -> &[Hash] {
        &self.outcome.digests
    }

    /// Transactions in the block.
    pub fn transactions(&self) -> usize {
        self.outcome.transactions
    }
}

/// What some batches do to the state after a block. It depends on nothing else in the header of the block that holds them, so the
/// blocks of several rounds with the same batches share one.
struct Outcome {
    /// Hash of the parent's header.
    parent: Hash,
    digests: Vec<Hash>,
    transactions: usize,
    batches_root: Hash,
    transactions_root: Hash,
    receipts_root: Hash,
    state_root: Hash,
    /// What holds afterwards.
    rules: Arc<Rules>,
    configuration: bool,
    /// Taken when a block with it is committed.
    work: Mutex<Option<(Executed, index::Candidate)>>,
}

/// A committed block as answers see it: state, header, log path and certificate belong together.
pub struct Published {
    /// The state after the block.
    pub state: Arc<Snapshot>,
    /// Header, log path, certificate; none at height 0, which has no certificate.
    pub certified: Option<CertifiedHeader>,
    /// Height of the block.
    pub height: u64,
    /// Time of the block, milliseconds since 1970 (UTC).
    pub time_ms: u64,
    /// Who decided the block; of height 0 who decides the first.
    pub validators: Arc<ValidatorSet>,
    /// What holds for the next height.
    pub rules: Arc<Rules>,
}

/// What execution needs of the chain, taken at once so that no lock is held meanwhile.
struct Parent {
    map: Arc<StateMap>,
    state: Arc<Snapshot>,
    height: u64,
    time_ms: u64,
    hash: Hash,
    log: Frontier,
    rules: Arc<Rules>,
    /// Those of the block's ids that were included within the window before it.
    included: HashSet<Hash>,
}

/// Counts for metrics and tests.
#[derive(Debug, Default)]
pub struct Counters {
    /// Signatures verified, by whomever sent.
    pub signatures: AtomicU64,
    /// Batches taken in from peers.
    pub batches: AtomicU64,
    /// Transactions taken in, by clients and peers.
    pub transactions: AtomicU64,
    /// Blocks executed: one for each height, unless rounds failed with different batches.
    pub executions: AtomicU64,
    /// Transactions committed.
    pub committed: AtomicU64,
    /// Transactions refused by the rule.
    pub rejected: AtomicU64,
}

/// See the head of the file.
pub struct Ledger {
    genesis: Genesis,
    genesis_hash: Hash,
    /// Replaced as a whole when a snapshot is installed; as the chain, only under the chain's lock.
    state: RwLock<Arc<StateMap>>,
    chain: RwLock<Chain>,
    pool: Mutex<Pool>,
    /// What was executed last and not committed yet.
    outcome: Mutex<Option<Arc<Outcome>>>,
    verifier: Mutex<Verifier>,
    seed: [u8; 32],
    draws: AtomicU64,
    published: RwLock<Arc<Published>>,
    directory: RwLock<Arc<Directory>>,
    /// For metrics and tests.
    pub counters: Counters,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while a lock is held is a bug that the extension reports as fatal; what the lock guards is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// The ledger at height 0. `seed` is random, once per process; it guards hash tables and batch verification and reaches no output.
    pub fn new(genesis: Genesis, seed: [u8; 32]) -> Result<Ledger, Error> {
        let genesis_hash = genesis.hash();
        let state = StateMap::new(map_seed(&seed));
        let directory = Directory::default();
        let first = genesis.records();
        let mut configurations = Configurations::default();
        configurations.note(first.iter().map(|(key, record)| (&key[..], &record[..])))?;
        directory.note(first.iter().map(|(key, _)| &key[..]));
        let records = first.into_iter().map(|(key, record)| (path_of(&key), Some(record.into()))).collect();
        let snapshot = state.commit(state.candidate(records)?)?;
        let cities: BTreeSet<City> = genesis.cities.iter().map(|founding| founding.city).collect();
        let rules = Arc::new(Rules::read(0, Arc::new(cities), |key| snapshot.get(&path_of(key)))?);
        let validators = rules.validators.clone();
        let empty = log::root(&[]);
        let header = Header {
            version: rules.version_at(0),
            genesis: genesis_hash,
            height: 0,
            time_ms: genesis.time_ms,
            parent: [0; 32],
            batches_root: empty,
            transactions_root: empty,
            receipts_root: empty,
            state_root: snapshot.root(),
            validators: rules.validators_hash,
            next_validators: rules.validators_hash,
            proposer: validators.members()[0].city,
        };
        let header_bytes = header.encode();
        let time_ms = header.time_ms;
        let published = Published { state: snapshot, certified: None, height: 0, time_ms, validators: validators.clone(), rules };
        Ok(Ledger {
            genesis,
            genesis_hash,
            state: RwLock::new(Arc::new(state)),
            chain: RwLock::new(Chain::new(header, header_bytes, validators, configurations)),
            pool: Mutex::new(Pool::default()),
            outcome: Mutex::new(None),
            verifier: Mutex::new(Verifier::default()),
            seed,
            draws: AtomicU64::new(0),
            published: RwLock::new(Arc::new(published)),
            directory: RwLock::new(Arc::new(directory)),
            counters: Counters::default(),
        })
    }

    /// The genesis.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The last committed block, for answers.
    pub fn published(&self) -> Arc<Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The state map of the committed blocks. The chain's lock is held where it must not be replaced meanwhile.
    fn state(&self) -> Arc<StateMap> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn chain(&self) -> std::sync::RwLockReadGuard<'_, Chain> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Height, time and bytes of the last committed header.
    pub fn tip(&self) -> (Header, Vec<u8>) {
        let chain = self.chain();
        (chain.header.clone(), chain.header_bytes.clone())
    }

    /// Log root after the last committed header.
    pub fn log_root(&self) -> Result<Hash, Error> {
        let chain = self.chain();
        chain.log.root_at(chain.log.size())
    }

    /// Log root after the first `size` headers.
    pub fn log_root_at(&self, size: u64) -> Result<Hash, Error> {
        self.chain().log.root_at(size)
    }

    /// Inclusion proof of the header of height `index` in the log of `size` headers.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, Error> {
        self.chain().log.inclusion(index, size)
    }

    /// Consistency proof between two sizes of the log.
    pub fn consistency(&self, size1: u64, size2: u64) -> Result<Vec<Hash>, Error> {
        self.chain().log.consistency(size1, size2)
    }

    // ------------------------------------------------------------------ blocks

    /// Executes a block on the committed state, within the limits that this state sets (P71).
    ///
    /// Errors: `Rule` with reason `invalid_block` when the header could never be valid (P34), `missing_batch` when a batch is not in
    /// the pool, `unknown_protocol` when this software does not know the rules of the height (P67).
    pub fn execute(&self, height: u64, time_ms: u64, proposer: City, digests: &[Hash]) -> Result<Candidate, Error> {
        let batches = self.block_batches(digests)?;
        let parent = self.parent_of(&batches);
        if height != parent.height + 1 {
            return Err(invalid(format!("height {height} does not follow {}", parent.height)));
        }
        let version = parent.rules.known_version_at(height)?;
        if time_ms <= parent.time_ms || time_ms > i64::MAX as u64 {
            return Err(invalid(format!("time {time_ms} is not after the parent's {}, or beyond 2^63 - 1", parent.time_ms)));
        }
        if !parent.rules.validators.members().iter().any(|member| member.city == proposer) {
            return Err(invalid(format!("proposer {proposer} is no validator")));
        }
        let parameters = &parent.rules.parameters;
        check_batches(&batches, parameters)?;
        let transactions = || batches.iter().flat_map(|batch| &batch.transactions);
        for transaction in transactions() {
            check_time(transaction.body.valid_until, height, parameters.window).map_err(|error| invalid(error.to_string()))?;
        }
        let outcome = self.outcome(&parent, height, digests, &batches)?;
        let header = Header {
            version,
            genesis: self.genesis_hash,
            height,
            time_ms,
            parent: parent.hash,
            batches_root: outcome.batches_root,
            transactions_root: outcome.transactions_root,
            receipts_root: outcome.receipts_root,
            state_root: outcome.state_root,
            validators: parent.rules.validators_hash,
            next_validators: outcome.rules.validators_hash, // P69
            proposer,
        };
        let header_bytes = header.encode();
        let value = parent.log.root_after(&log::leaf_hash(&header_bytes));
        Ok(Candidate { header, header_bytes, value, outcome })
    }

    /// What batches do to the state after the parent; those that were executed last are not executed again.
    fn outcome(&self, parent: &Parent, height: u64, digests: &[Hash], batches: &[Arc<Batch>]) -> Result<Arc<Outcome>, Error> {
        let is_same = |last: &&Arc<Outcome>| last.parent == parent.hash && last.digests == digests && lock(&last.work).is_some();
        if let Some(last) = lock(&self.outcome).as_ref().filter(is_same) {
            return Ok(last.clone());
        }
        self.counters.executions.fetch_add(1, Ordering::Relaxed);
        let transactions = batches.iter().flat_map(|batch| &batch.transactions);
        let executed = execute(&parent.state, height, &parent.rules.parameters, transactions, |id| parent.included.contains(id));
        let state = parent.map.candidate_on(&parent.state, last_versions(&executed.changes))?;
        let written = executed.changes.iter().filter(|change| matters(&change.key)).map(|change| (&change.key[..], &change.record[..]));
        let written: Written<'_> = written.collect();
        let rules = parent.rules.after(height, &written, &parent.state)?;
        let configuration = rules.differ(&parent.rules, &written);
        let root = |items: &mut dyn Iterator<Item = &[u8]>| log::root(&items.map(log::leaf_hash).collect::<Vec<_>>());
        let outcome = Arc::new(Outcome {
            parent: parent.hash,
            digests: digests.to_vec(),
            transactions: executed.ids.len(),
            batches_root: root(&mut digests.iter().map(|digest| &digest[..])),
            transactions_root: root(&mut executed.ids.iter().map(|id| &id[..])),
            receipts_root: root(&mut executed.receipts.iter().map(Vec::as_slice)),
            state_root: state.root(),
            rules,
            configuration,
            work: Mutex::new(Some((executed, state))),
        });
        *lock(&self.outcome) = Some(outcome.clone());
        Ok(outcome)
    }

    /// The end of the chain as a block with these batches sees it; everything that is read is of one height.
    fn parent_of(&self, batches: &[Arc<Batch>]) -> Parent {
        let chain = self.chain();
        // Published under the chain's lock, so it is of the same height.
        let published = self.published();
        let ids = batches.iter().flat_map(|batch| &batch.transactions).map(|transaction| transaction.id);
        Parent {
            map: self.state(),
            state: published.state.clone(),
            rules: published.rules.clone(),
            height: chain.header.height,
            time_ms: chain.header.time_ms,
            hash: header_hash(&chain.header_bytes),
            log: chain.log.frontier(),
            included: ids.filter(|id| chain.included.contains_key(id)).collect(),
        }
    }

    fn block_batches(&self, digests: &[Hash]) -> Result<Vec<Arc<Batch>>, Error> {
        if digests.len() as u64 > MOST_BLOCK_BATCHES {
            return Err(invalid(format!("{} batches, more than any network allows: {MOST_BLOCK_BATCHES}", digests.len())));
        }
        let mut seen = HashSet::new();
        let mut batches = Vec::with_capacity(digests.len());
        let pool = lock(&self.pool);
        for digest in digests {
            if !seen.insert(digest) {
                return Err(invalid("a batch stands twice in the block".to_owned()));
            }
            let batch = pool
                .batch(digest)
                .ok_or_else(|| Error::rule("missing_batch", "a batch of the block is not in the pool; fetch it and try again"))?;
            batches.push(batch);
        }
        Ok(batches)
    }

    /// Executes what a proposed header claims and compares every field (P34).
    pub fn validate(&self, header_bytes: &[u8], digests: &[Hash]) -> Result<Candidate, Error> {
        let published = self.published();
        // Before the header is read: one of a newer version cannot be.
        published.rules.known_version_at(published.height + 1)?;
        let header = Header::decode(header_bytes)?;
        let candidate = self.execute(header.height, header.time_ms, header.proposer, digests)?;
        let ours = &candidate.header;
        let fields = [
            ("protocol version", ours.version == header.version),
            ("genesis hash", ours.genesis == header.genesis),
            ("parent", ours.parent == header.parent),
            ("batches root", ours.batches_root == header.batches_root),
            ("transactions root", ours.transactions_root == header.transactions_root),
            ("receipts root", ours.receipts_root == header.receipts_root),
            ("state root", ours.state_root == header.state_root),
            ("validators hash", ours.validators == header.validators),
            ("next validators hash", ours.next_validators == header.next_validators),
        ];
        match fields.iter().find(|(_, equal)| !equal) {
            Some((field, _)) => Err(invalid(format!("the {field} of height {} is not what execution gives", header.height))),
            None => Ok(candidate),
        }
    }

    /// Makes a candidate the committed block, with the certificate that decided it.
    ///
    /// The caller has verified the certificate's signatures under [`Ledger::validators`]; that it is for this height and value, and
    /// counts a quorum of the set that decides this height, is checked here, because answers carry it.
    pub fn commit(&self, candidate: Candidate, certificate: &[u8]) -> Result<Commit, Error> {
        let certificate = CommitCertificate::decode(certificate)?;
        let height = candidate.header.height;
        check_decided(&certificate, height, &candidate.value)?;
        let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
        if height != chain.header.height + 1 {
            return Err(invalid(format!("height {height} does not follow {}", chain.header.height)));
        }
        let before = self.published().rules.clone();
        check_quorum(&certificate, &before.validators)?;
        let outcome = candidate.outcome;
        *lock(&self.outcome) = None;
        let work = lock(&outcome.work).take();
        let (executed, state) =
            work.ok_or_else(|| Error::rule("stale_base", "a block with the same batches was committed; execute this one again"))?;
        let changes = executed.changes.iter().map(|change| (&change.key[..], &change.record[..]));
        let (seals, tables) = Seals::read(changes.clone(), height)?;
        let configurations = Configurations::read(changes)?;
        let snapshot = self.state().commit(state)?;
        chain.seals.take(seals);
        chain.configurations.take(configurations);
        let commit = Commit {
            height,
            changes: encode_changes(&executed.changes),
            receipts: encode_receipts(&executed.receipts),
            transactions: executed.ids.len(),
            committed: executed.committed,
            rejected: executed.rejected,
            tables,
            configuration: outcome.configuration,
        };
        self.counters.committed.fetch_add(executed.committed as u64, Ordering::Relaxed);
        self.counters.rejected.fetch_add(executed.rejected as u64, Ordering::Relaxed);
        chain.append(candidate.header, candidate.header_bytes, executed.ids, executed.receipts, &before, &outcome.rules);
        self.directory().note(executed.changes.iter().map(|change| &change.key[..]));
        self.publish(&chain, snapshot, &certificate, before.validators.clone(), outcome.rules.clone())?;
        // The pool's lock is never taken under the chain's: admission takes them the other way round.
        drop(chain);
        let mut pool = lock(&self.pool);
        for digest in &outcome.digests {
            pool.remove(digest);
        }
        Ok(commit)
    }

    fn publish(
        &self,
        chain: &Chain,
        state: Arc<Snapshot>,
        certificate: &CommitCertificate,
        validators: Arc<ValidatorSet>,
        rules: Arc<Rules>,
    ) -> Result<(), Error> {
        let height = chain.header.height;
        let log_path = chain.log.inclusion(height, height + 1)?;
        let certified = CertifiedHeader::from_certificate(chain.header_bytes.clone(), log_path, certificate);
        let published = Published { state, certified: Some(certified), height, time_ms: chain.header.time_ms, validators, rules };
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(published);
        Ok(())
    }

    /// Restart: takes consecutive heights from the store without executing them, and compares the last header's state root and
    /// the certified log root. When anything does not fit, the ledger stays as it was.
    ///
    /// `changes` and `receipts` are what [`Ledger::commit`] gave for each height, `certificate` is the last height's. Which set decides
    /// a height and which parameters held follows from the records of the heights before, and every header must say the same.
    pub fn replay(&self, headers: &[&[u8]], changes: &[&[u8]], receipts: &[&[u8]], certificate: &[u8]) -> Result<(), Error> {
        if headers.is_empty() || headers.len() != changes.len() || headers.len() != receipts.len() {
            return Err(Error::malformed("a replay needs a header, changes and receipts for every height"));
        }
        let certificate = CommitCertificate::decode(certificate)?;
        let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
        let base = self.published();
        let mut last: HashMap<&[u8], &[u8]> = HashMap::new();
        let mut written = Written::new();
        let mut configurations = Configurations::default();
        let mut heights = Vec::with_capacity(headers.len());
        let mut parent = (chain.header.height, header_hash(&chain.header_bytes));
        let mut log = chain.log.frontier();
        let mut rules = base.rules.clone();
        for ((bytes, changes), receipts) in headers.iter().zip(changes).zip(receipts) {
            let header = Header::decode(bytes)?;
            let mut is_configured = false;
            let mut matter = Vec::new();
            decode_changes(changes, |key, record| {
                last.insert(key, record);
                if matters(key) {
                    is_configured = true;
                    matter.push((key, record));
                }
            })?;
            configurations.note(matter.iter().copied())?;
            written.extend(matter);
            let after = if is_configured { rules.after(header.height, &written, &base.state)? } else { rules.clone() };
            let follows = header.genesis == self.genesis_hash
                && (header.height, header.parent) == (parent.0 + 1, parent.1)
                && header.version == rules.version_at(header.height)
                && header.validators == rules.validators_hash
                && header.next_validators == after.validators_hash;
            if !follows {
                return Err(invalid(format!(
                    "stored height {} does not follow {}, or not under the cities that the records before it name; the store is damaged, \
                     restore it or sync again",
                    header.height, parent.0
                )));
            }
            parent = (header.height, header_hash(bytes));
            log.append(log::leaf_hash(bytes));
            let (mut ids, receipts) = decode_receipts(receipts)?;
            if planted(Mutant::ReplayWindowForgotten) {
                ids.clear();
            }
            let before = std::mem::replace(&mut rules, after.clone());
            heights.push((header, ids, receipts, before, after));
        }
        let updates = last.iter().map(|(key, record)| (path_of(key), Some((*record).into()))).collect();
        let map = self.state();
        let state = map.candidate(updates)?;
        let (end, .., decided_under, _) = &heights[heights.len() - 1];
        check_decided(&certificate, end.height, &log.root())?;
        check_quorum(&certificate, &decided_under.validators)?;
        let validators = decided_under.validators.clone();
        if end.state_root != state.root() {
            return Err(invalid(format!(
                "the stored records do not give the state root of height {}; the store is damaged, restore it or sync again",
                end.height
            )));
        }
        let (seals, _) = Seals::read(last.iter().map(|(key, record)| (*key, *record)), end.height)?;
        // Everything is checked: from here on the ledger moves, all of it.
        for encoded in changes {
            let mut keys: Vec<&[u8]> = Vec::new();
            decode_changes(encoded, |key, _| keys.push(key))?;
            self.directory().note(keys);
        }
        chain.seals.take(seals);
        chain.configurations.take(configurations);
        let snapshot = map.commit(state)?;
        for ((header, ids, receipts, before, after), bytes) in heights.into_iter().zip(headers) {
            chain.append(header, bytes.to_vec(), ids, receipts, &before, &after);
        }
        self.publish(&chain, snapshot, &certificate, validators, rules)
    }

    // ------------------------------------------------------------------ reading

    /// The answer about a subject from the last committed block.
    pub fn answer(&self, subject: &Subject) -> Result<answer::Answer, Error> {
        published_answer(&self.published(), subject)
    }

    /// What stands under a prefix of codes.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The records of block 0, in the form of [`Commit::changes`]: no block wrote them, so no store holds them.
    pub fn genesis_changes(&self) -> Vec<u8> {
        let records = self.genesis.records();
        encode_changes(&records.iter().map(|(key, record)| Change::new(key, record)).collect::<Vec<_>>())
    }

    /// The complete subtrees of the log of the first `size` headers.
    pub fn log_peaks(&self, size: u64) -> Result<Vec<Hash>, Error> {
        Ok(self.chain().log.frontier_at(size)?.peaks().to_vec())
    }

    /// Every sealed range of the committed state, with the digest of its table.
    pub fn sealed_tables(&self) -> Result<Vec<(Range, Hash)>, Error> {
        self.chain().seals.list()
    }

    /// Height and receipt of a transaction within the replay window.
    pub fn receipt(&self, id: &Hash) -> Option<(u64, Vec<u8>)> {
        let chain = self.chain();
        let (height, index) = *chain.included.get(id)?;
        let recent = chain.recent.iter().find(|recent| recent.height == height)?;
        Some((height, recent.receipts.get(index as usize)?.clone()))
    }

    /// Inclusion proof of a receipt under its header's receipts root: (index, size, path).
    pub fn receipt_proof(&self, id: &Hash) -> Option<(u64, u64, Vec<Hash>)> {
        let chain = self.chain();
        let (height, index) = *chain.included.get(id)?;
        let recent = chain.recent.iter().find(|recent| recent.height == height)?;
        let mut receipts = Log::new();
        for receipt in &recent.receipts {
            receipts.append(log::leaf_hash(receipt));
        }
        let size = recent.receipts.len() as u64;
        Some((u64::from(index), size, receipts.inclusion(u64::from(index), size).ok()?))
    }
}

/// The seed of the state map's hash table, from the ledger's.
fn map_seed(seed: &[u8; 32]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| seed[index]))
}

/// The answer about a subject from one published block; none at height 0.
pub fn published_answer(published: &Published, subject: &Subject) -> Result<answer::Answer, Error> {
    published_answer_with_tables(published, subject, &|_, _| None)
}

/// The same, with the sealed tables at hand.
pub fn published_answer_with_tables(
    published: &Published,
    subject: &Subject,
    tables: answer::TableLookup<'_>,
) -> Result<answer::Answer, Error> {
    match &published.certified {
        Some(certified) => answer::build_with_tables(subject, &*published.state, certified, tables),
        None => Err(Error::rule(
            "not_ready",
            "no block has been certified yet; there are no answers at height 0, ask again after the first block",
        )),
    }
}

/// The block's limits (P34, P71): how much it orders, and that each batch, and each transaction in it, is within what the state allows.
fn check_batches(batches: &[Arc<Batch>], parameters: &Parameters) -> Result<(), Error> {
    if batches.len() as u64 > parameters.max_block_batches {
        return Err(invalid(format!("{} batches, the limit is {}", batches.len(), parameters.max_block_batches)));
    }
    let bytes = batches.iter().map(|batch| batch.body.len() as u64).sum::<u64>();
    if bytes > parameters.max_block_bytes {
        return Err(invalid(format!("{bytes} bytes of batches, the limit is {}", parameters.max_block_bytes)));
    }
    if let Some(batch) = batches.iter().find(|batch| !batch.fits(parameters)) {
        return Err(invalid(format!(
            "a batch of {} bytes and {} transactions that is over a limit, or one of its transactions is",
            batch.body.len(),
            batch.transactions.len()
        )));
    }
    Ok(())
}

/// That a certificate is for this block.
fn check_decided(certificate: &CommitCertificate, height: u64, value: &Hash) -> Result<(), Error> {
    if certificate.height != height || certificate.value != *value {
        return Err(Error::Certificate(format!("the certificate is for another block than the one of height {height}")));
    }
    Ok(())
}

/// P36, but for the signatures: more than two thirds of the set that decides this height.
fn check_quorum(certificate: &CommitCertificate, validators: &ValidatorSet) -> Result<(), Error> {
    let (total, quorum) = (validators.len(), validators.quorum());
    if usize::from(certificate.validators) != total || certificate.signatures.len() < quorum {
        return Err(Error::Certificate(format!(
            "the certificate of height {} has {} signatures of {} validators, {quorum} of {total} are needed",
            certificate.height,
            certificate.signatures.len(),
            certificate.validators
        )));
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::rule("invalid_block", message)
}
