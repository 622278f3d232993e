//! The pool: transactions that wait to be sealed, and verified batches that wait for a block.
//!
//! Everything in it has passed the stateless checks of P18 except time, once. Both halves are bounded in bytes of memory: the encoded
//! form and the parsed one, which may be ten times larger. What does not fit is refused with `overloaded` or `pool_share` and can be sent
//! again. The pool knows nothing of the state: whether an id was committed, and who sent a transaction, its caller says.
use super::transaction::{assemble_batch, batch_digest, Transaction};
use super::waiting::Waiting;
pub use super::waiting::{Verified, MAX_WAITING_BYTES};
use crate::error::Error;
use crate::genesis::Parameters;
use crate::hash::Hash;
use std::collections::HashMap;
use std::sync::Arc;

/// Most bytes of memory for batches in the pool.
pub const MAX_POOL_BYTES: usize = 512 << 20;

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
    /// Items that its operations touch, an operation on none counting as one: what executing it costs.
    pub items: u64,
    /// The longest of its transactions, in bytes; the most operations and the most items of one.
    largest: (u64, u64, u64),
    /// Bytes of memory: encoded, and parsed with its texts.
    memory: usize,
}

impl Batch {
    /// A batch of verified transactions; `longest` is the size of the longest one, in bytes.
    pub fn new(digest: Hash, body: Vec<u8>, transactions: Vec<Transaction>, longest: usize) -> Batch {
        let last_height = transactions.iter().map(|transaction| transaction.body.valid_until).min().unwrap_or(0);
        let greatest_valid_until = transactions.iter().map(|transaction| transaction.body.valid_until).max().unwrap_or(0);
        let memory = 2 * body.len() + transactions.iter().map(Transaction::memory).sum::<usize>();
        let operations = transactions.iter().map(|transaction| transaction.body.operations.len()).max().unwrap_or(0);
        let most_items = transactions.iter().map(Transaction::items).max().unwrap_or(0);
        let largest = (longest as u64, operations as u64, most_items as u64);
        let operations = transactions.iter().flat_map(|transaction| &transaction.body.operations);
        let items = operations.map(|operation| operation.items().max(1) as u64).sum();
        Batch { digest, body, transactions, last_height, greatest_valid_until, items, largest, memory }
    }

    /// Whether the batch and each of its transactions is within the limits (P71).
    pub fn fits(&self, parameters: &Parameters) -> bool {
        let (bytes, operations, items) = self.largest;
        self.body.len() as u64 <= parameters.max_batch_bytes
            && self.transactions.len() as u64 <= parameters.max_batch_transactions
            && bytes <= parameters.max_transaction_bytes
            && operations <= parameters.max_operations
            && items <= parameters.max_items
    }

    /// Whether a transaction of it can stand in no block of this height or above. A batch that is not includable only because
    /// it comes too early for a city that is behind is not expired: its time comes.
    pub fn is_expired(&self, height: u64) -> bool {
        height > self.last_height
    }

    /// Whether every transaction may stand in a block of this height (P18).
    pub fn is_includable(&self, height: u64, window: u64) -> bool {
        height <= self.last_height && self.greatest_valid_until < height.saturating_add(window)
    }
}

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Pool {
    waiting: Waiting,
    batches: HashMap<Hash, Arc<Batch>>,
    batch_bytes: usize,
    batch_memory: usize,
}

impl Pool {
    /// Transactions and bytes that wait to be sealed.
    pub fn waiting(&self) -> (usize, usize) {
        self.waiting.size()
    }

    /// Batches and their bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.batches.len(), self.batch_bytes)
    }

    /// Queues a verified transaction; one that waits already stays where it is.
    ///
    /// Errors: `Rule`, `overloaded` when all that waits fills the pool, `pool_share` when what its sender has waiting fills its share.
    pub fn push(&mut self, verified: Verified) -> Result<(), Error> {
        self.waiting.check_room(&verified)?;
        self.waiting.push(verified);
        Ok(())
    }

    /// Queues a transaction of a batch that was given up, whatever waits: its sender was told that it was taken in, and its bytes
    /// were counted in the other half until now. Says whether it was not waiting already.
    pub fn push_again(&mut self, verified: Verified) -> bool {
        self.waiting.push(verified)
    }

    /// Makes a batch of waiting transactions, their senders in turns; none when nothing waits.
    pub fn seal(&mut self, max_transactions: usize, max_bytes: usize) -> Option<Arc<Batch>> {
        let mut bytes = Vec::new();
        let mut transactions = Vec::new();
        let mut longest = 0;
        while transactions.len() < max_transactions {
            // 5 bytes are the longest array head that a batch can have
            let room = if transactions.is_empty() { usize::MAX } else { max_bytes.saturating_sub(bytes.len() + 5) };
            let Some(next) = self.waiting.pop(room) else { break };
            bytes.extend_from_slice(&next.bytes);
            longest = longest.max(next.bytes.len());
            transactions.push(next.transaction);
        }
        if transactions.is_empty() {
            return None;
        }
        let body = assemble_batch(transactions.len(), &bytes);
        let batch = Arc::new(Batch::new(batch_digest(&body), body, transactions, longest));
        self.store(batch.clone());
        Some(batch)
    }

    fn store(&mut self, batch: Arc<Batch>) {
        let (bytes, memory) = (batch.body.len(), batch.memory);
        if self.batches.insert(batch.digest, batch).is_none() {
            self.batch_bytes += bytes;
            self.batch_memory += memory;
        }
    }

    /// Takes in a verified batch; one that is there already stays.
    pub fn insert(&mut self, batch: Arc<Batch>) -> Result<(), Error> {
        if self.batch_memory + batch.memory > MAX_POOL_BYTES && !self.batches.contains_key(&batch.digest) {
            return Err(Error::rule(
                "overloaded",
                format!("the pool holds batches that fill {MAX_POOL_BYTES} bytes already; send it again later"),
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
        self.batch_memory -= batch.memory;
        Some(batch)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::code::{City, Class, Serial};
    use crate::ledger::operation::{Action, ItemUpdate, Operation};
    use crate::ledger::transaction::Body;

    fn transaction(nonce: u8) -> Verified {
        let item = |number| ItemUpdate {
            serial: Serial::new(number).unwrap(),
            expected_version: 1,
            commitments: Vec::new(),
            services: vec![(String::new(), String::new()); 3],
        };
        let (city, class) = (City::parse("130100").unwrap(), Class::parse("010203").unwrap());
        let action = Action::UpdateItems { city, class, items: (0..1_000).map(item).collect() };
        let operations = vec![Operation { action, reason: None, basis: None }];
        let body = Body { genesis: [0; 32], valid_until: 1, nonce: vec![nonce; 8], signers: vec![[0; 32]], operations };
        let bytes = body.encode();
        Verified { sender: None, transaction: Transaction { id: [nonce; 32], body, signatures: vec![[0; 64]] }, bytes }
    }

    #[test]
    fn what_the_pool_holds_is_counted_as_it_lies_in_memory_and_uncounted() {
        let one = transaction(1);
        let parsed = 1_000 * (size_of::<ItemUpdate>() + 3 * size_of::<(String, String)>());
        assert!(one.memory() >= parsed, "{} bytes encoded, {parsed} parsed", one.bytes.len());
        assert!(parsed > 8 * one.bytes.len(), "the control: the encoded form says little");
        let mut pool = Pool::default();
        pool.push(one).unwrap();
        pool.push(transaction(1)).unwrap();
        pool.push(transaction(2)).unwrap();
        assert_eq!((pool.waiting().0, pool.waiting.memory()), (2, 2 * transaction(1).memory()));
        let batch = pool.seal(10, 1 << 20).unwrap();
        assert_eq!((pool.waiting(), pool.waiting.memory()), ((0, 0), 0));
        assert!(pool.batch_memory >= 2 * parsed);
        pool.insert(batch.clone()).unwrap();
        pool.remove(&batch.digest).unwrap();
        assert_eq!((pool.size(), pool.batch_memory), ((0, 0), 0));
    }

    #[test]
    fn a_full_pool_refuses_batches() {
        let mut pool = Pool { batch_memory: MAX_POOL_BYTES, ..Pool::default() };
        let batch = Arc::new(Batch::new([1; 32], vec![0], Vec::new(), 0));
        assert!(matches!(pool.insert(batch), Err(Error::Rule { reason: "overloaded", .. })));
    }
}
