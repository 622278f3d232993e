//! The pool: transactions that wait to be sealed, and verified batches that wait for a block.
//!
//! Everything in it has passed the stateless checks of P18 except time, once. Both halves are bounded in bytes; what does not fit
//! is refused with `overloaded` and can be sent again. The pool knows nothing of the state: whether an id was committed is
//! asked by its caller.
use super::transaction::{assemble_batch, batch_digest, Transaction};
use crate::error::Error;
use crate::hash::Hash;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Most bytes of transactions that wait to be sealed.
pub const MAX_WAITING_BYTES: usize = 64 << 20;
/// Most bytes of batches in the pool.
pub const MAX_POOL_BYTES: usize = 256 << 20;

/// A transaction whose signatures verified, with its bytes.
#[derive(Debug)]
pub struct Verified {
    /// Parsed form.
    pub transaction: Transaction,
    /// Encoded form.
    pub bytes: Vec<u8>,
}

/// A batch all of whose signatures verified.
#[derive(Debug)]
pub struct Batch {
    /// Its digest.
    pub digest: Hash,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Its transactions, in order.
    pub transactions: Vec<Transaction>,
    /// The lowest `valid_until` in it: the last height whose block may include the batch.
    pub last_height: u64,
    /// The highest `valid_until` in it, which bounds from below the first height that may include the batch.
    pub greatest_valid_until: u64,
}

impl Batch {
    /// A batch of verified transactions.
    pub fn new(digest: Hash, body: Vec<u8>, transactions: Vec<Transaction>) -> Batch {
        let last_height = transactions.iter().map(|transaction| transaction.body.valid_until).min().unwrap_or(0);
        let greatest_valid_until = transactions.iter().map(|transaction| transaction.body.valid_until).max().unwrap_or(0);
        Batch { digest, body, transactions, last_height, greatest_valid_until }
    }

    /// Whether every transaction may stand in a block of this height (P18).
    pub fn is_includable(&self, height: u64, window: u64) -> bool {
        height <= self.last_height && self.greatest_valid_until < height.saturating_add(window)
    }
}

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Pool {
    waiting: VecDeque<Verified>,
    waiting_bytes: usize,
    waiting_ids: HashSet<Hash>,
    batches: HashMap<Hash, Arc<Batch>>,
    batch_bytes: usize,
}

impl Pool {
    /// Whether the transaction waits to be sealed.
    pub fn is_waiting(&self, id: &Hash) -> bool {
        self.waiting_ids.contains(id)
    }

    /// Transactions and bytes that wait to be sealed.
    pub fn waiting(&self) -> (usize, usize) {
        (self.waiting.len(), self.waiting_bytes)
    }

    /// Batches and their bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.batches.len(), self.batch_bytes)
    }

    /// Queues a verified transaction; one that waits already stays where it is.
    pub fn push(&mut self, verified: Verified) -> Result<(), Error> {
        if self.waiting_bytes + verified.bytes.len() > MAX_WAITING_BYTES {
            return Err(Error::rule(
                "overloaded",
                format!("{MAX_WAITING_BYTES} bytes of transactions wait already; send it again in a moment"),
            ));
        }
        if self.waiting_ids.insert(verified.transaction.id) {
            self.waiting_bytes += verified.bytes.len();
            self.waiting.push_back(verified);
        }
        Ok(())
    }

    /// Makes a batch of the oldest waiting transactions; none when nothing waits.
    pub fn seal(&mut self, max_transactions: usize, max_bytes: usize) -> Option<Arc<Batch>> {
        let mut bytes = Vec::new();
        let mut transactions = Vec::new();
        while transactions.len() < max_transactions {
            match self.waiting.front() {
                // 5 bytes are the longest array head that a batch can have
                Some(next) if transactions.is_empty() || bytes.len() + next.bytes.len() + 5 <= max_bytes => {}
                _ => break,
            }
            let Some(next) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= next.bytes.len();
            self.waiting_ids.remove(&next.transaction.id);
            bytes.extend_from_slice(&next.bytes);
            transactions.push(next.transaction);
        }
        if transactions.is_empty() {
            return None;
        }
        let body = assemble_batch(transactions.len(), &bytes);
        let batch = Arc::new(Batch::new(batch_digest(&body), body, transactions));
        self.store(batch.clone());
        Some(batch)
    }

    fn store(&mut self, batch: Arc<Batch>) {
        let bytes = batch.body.len();
        if self.batches.insert(batch.digest, batch).is_none() {
            self.batch_bytes += bytes;
        }
    }

    /// Takes in a verified batch; one that is there already stays.
    pub fn insert(&mut self, batch: Arc<Batch>) -> Result<(), Error> {
        if self.batch_bytes + batch.body.len() > MAX_POOL_BYTES && !self.batches.contains_key(&batch.digest) {
            return Err(Error::rule(
                "overloaded",
                format!("the pool holds {MAX_POOL_BYTES} bytes of batches already; send it again later"),
            ));
        }
        self.store(batch);
        Ok(())
    }

    /// A batch by its digest.
    pub fn batch(&self, digest: &Hash) -> Option<Arc<Batch>> {
        self.batches.get(digest).cloned()
    }

    /// Removes a batch.
    pub fn remove(&mut self, digest: &Hash) -> Option<Arc<Batch>> {
        let batch = self.batches.remove(digest)?;
        self.batch_bytes -= batch.body.len();
        Some(batch)
    }
}
