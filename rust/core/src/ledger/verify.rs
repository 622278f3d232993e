//! Taking transactions and batches in: every signature is verified once, here, in batches, and never again.
use super::operation::Holder;
use super::*;
use crate::code::Code;
use crate::hash::{tagged, Tag};
use crate::map_key::MapKey;
use crate::mutants::{planted, Mutant};
use crate::record::Record;
use crate::signature::Item;
use transaction::SignatureCheck;

/// What became of a submitted transaction.
#[derive(Debug)]
pub struct Admission {
    /// Its id.
    pub id: Hash,
    /// Why it was not taken in.
    pub refused: Option<Error>,
}

/// The longest sequence of transactions that is taken in at once. Parsed it takes up to sixteen times as much.
pub const MAX_SEQUENCE: usize = 16 << 20;

/// The transactions of a batch and the bytes of its longest one, nothing when the pool holds it already; or why it is refused.
type Parsed = Result<Option<(Vec<Transaction>, usize)>, Error>;

impl Ledger {
    fn fresh_seed(&self) -> [u8; 32] {
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        tagged(Tag::Batch, Suite::Ed25519Sha256, &[&self.seed, &draw.to_be_bytes()])
    }

    /// Which of the checks fail, by position.
    fn bad_signatures(&self, checks: &[SignatureCheck]) -> Result<Vec<u32>, Error> {
        let items: Vec<Item<'_>> = checks.iter().map(|(key, message, signature)| Item { key, message, signature }).collect();
        self.counters.signatures.fetch_add(items.len() as u64, Ordering::Relaxed);
        match lock(&self.verifier).verify_batch(&items, self.fresh_seed()) {
            Ok(()) => Ok(Vec::new()),
            Err(Error::Signature(bad)) => Ok(bad),
            Err(other) => Err(other),
        }
    }

    /// Takes in a CBOR sequence of transactions from a client (P18).
    ///
    /// Errors: `Rule` (`too_large`) beyond `MAX_SEQUENCE`; `Malformed` when the sequence stops parsing; nothing of it is taken in
    /// then. What is wrong with a single transaction is in its `Admission`. One that waits or was included already is taken as sent again: not refused, and not queued twice.
    pub fn admit(&self, sequence: &[u8]) -> Result<Vec<Admission>, Error> {
        if sequence.len() > MAX_SEQUENCE {
            return Err(Error::rule(
                "too_large",
                format!("{} bytes of transactions at once, the limit is {MAX_SEQUENCE}; send them in parts", sequence.len()),
            ));
        }
        let mut decoder = Decoder::new(sequence);
        let mut parsed = Vec::new();
        while !decoder.is_at_end() {
            let start = decoder.position();
            let transaction = Transaction::decode_next(&mut decoder)?;
            parsed.push(Verified { sender: None, transaction, bytes: decoder.between(start, decoder.position()).to_vec() });
        }
        let published = self.published();
        let next = published.height + 1;
        let parameters = published.rules.parameters;
        let mut checks = Vec::new();
        let mut owner = Vec::new();
        let mut refused: Vec<Option<Error>> = Vec::with_capacity(parsed.len());
        for (index, verified) in parsed.iter().enumerate() {
            let transaction = &verified.transaction;
            let verdict = transaction.check_limits(verified.bytes.len(), &self.genesis_hash, &parameters).and_then(|()| {
                if self.is_included(&transaction.id) {
                    Ok(())
                } else {
                    check_time(transaction.body.valid_until, next, parameters.window)
                }
            });
            if verdict.is_ok() {
                transaction.signature_checks(&mut checks);
                owner.resize(checks.len(), index);
            }
            refused.push(verdict.err());
        }
        for position in self.bad_signatures(&checks)? {
            refused[owner[position as usize]] = Some(Error::rule(
                "bad_signature",
                "a signature or a proof of possession does not verify; sign the id of this body with each signer's key",
            ));
        }
        self.counters.transactions.fetch_add(parsed.len() as u64, Ordering::Relaxed);
        let mut admissions = Vec::with_capacity(parsed.len());
        for (verified, _) in parsed.iter_mut().zip(&refused).filter(|(_, refused)| refused.is_none()) {
            verified.sender = sender(&published.state, &verified.transaction);
        }
        let mut pool = lock(&self.pool);
        for (verified, refused) in parsed.into_iter().zip(refused) {
            let id = verified.transaction.id;
            let refused = match refused {
                Some(error) => Some(error),
                None if self.is_included(&id) => None,
                None => pool.push(verified).err(),
            };
            admissions.push(Admission { id, refused });
        }
        Ok(admissions)
    }

    /// Whether an id was included within the replay window.
    pub fn is_included(&self, id: &Hash) -> bool {
        self.chain().included.contains_key(id)
    }

    /// Takes in batches from peers; one result each. A batch is refused whole for one bad transaction: whoever made it had to check.
    pub fn ingest(&self, bodies: &[&[u8]]) -> Vec<(Hash, Result<usize, Error>)> {
        let mut checks = Vec::new();
        let mut owner = Vec::new();
        let mut results: Vec<(Hash, Parsed)> = Vec::with_capacity(bodies.len());
        for (index, body) in bodies.iter().enumerate() {
            let digest = batch_digest(body);
            if lock(&self.pool).batch(&digest).is_some() {
                results.push((digest, Ok(None)));
                continue;
            }
            let parsed = self.parse_batch(body);
            for transaction in parsed.iter().flat_map(|(transactions, _)| transactions) {
                transaction.signature_checks(&mut checks);
            }
            owner.resize(checks.len(), index);
            results.push((digest, parsed.map(Some)));
        }
        match self.bad_signatures(&checks) {
            Ok(_) if planted(Mutant::BatchNotChecked) => {}
            Ok(bad) => {
                for position in bad {
                    results[owner[position as usize]].1 =
                        Err(Error::rule("bad_signature", "a batch with a signature that does not verify; its maker did not check it"));
                }
            }
            Err(error) => results.iter_mut().for_each(|(_, result)| *result = Err(error.clone())),
        }
        let mut pool = lock(&self.pool);
        results
            .into_iter()
            .zip(bodies)
            .map(|((digest, parsed), body)| {
                let outcome = parsed.and_then(|parsed| match parsed {
                    None => Ok(pool.batch(&digest).map_or(0, |batch| batch.transactions.len())),
                    Some((transactions, longest)) => {
                        let count = transactions.len();
                        self.counters.batches.fetch_add(1, Ordering::Relaxed);
                        self.counters.transactions.fetch_add(count as u64, Ordering::Relaxed);
                        pool.insert(Arc::new(Batch::new(digest, body.to_vec(), transactions, longest))).map(|()| count)
                    }
                });
                (digest, outcome)
            })
            .collect()
    }

    /// A batch of another city may have been made before a limit was narrowed; whether it may stand in a block is asked there (P71).
    fn parse_batch(&self, body: &[u8]) -> Result<(Vec<Transaction>, usize), Error> {
        let now = self.parameters();
        let parameters = self.chain().batch_limits(&now);
        if body.len() as u64 > parameters.max_batch_bytes {
            return Err(Error::rule("too_large", format!("a batch of {} bytes, the limit is {}", body.len(), parameters.max_batch_bytes)));
        }
        let limit = usize::try_from(parameters.max_batch_transactions).unwrap_or(usize::MAX);
        let mut longest = 0;
        let mut transactions = Vec::new();
        for (transaction, range) in decode_batch(body, limit)? {
            transaction.check_limits(range.len(), &self.genesis_hash, &parameters)?;
            longest = longest.max(range.len());
            transactions.push(transaction);
        }
        Ok((transactions, longest))
    }

    /// Transactions and bytes that wait to be sealed.
    pub fn waiting(&self) -> (usize, usize) {
        lock(&self.pool).waiting()
    }

    /// Makes a batch of waiting transactions, their senders in turns (P72), within the network's limits; none when nothing waits.
    pub fn seal(&self, max_transactions: usize, max_bytes: usize) -> Option<Arc<Batch>> {
        let parameters = self.parameters();
        let limit = |asked: usize, limit: u64| asked.min(usize::try_from(limit).unwrap_or(usize::MAX));
        lock(&self.pool).seal(limit(max_transactions, parameters.max_batch_transactions), limit(max_bytes, parameters.max_batch_bytes))
    }

    /// A batch of the pool.
    pub fn batch(&self, digest: &Hash) -> Option<Arc<Batch>> {
        lock(&self.pool).batch(digest)
    }

    /// Which batches are not in the pool.
    pub fn missing(&self, digests: &[Hash]) -> Vec<Hash> {
        let pool = lock(&self.pool);
        digests.iter().filter(|digest| pool.batch(digest).is_none()).copied().collect()
    }

    /// Whether a batch of the pool can stand in no block of this height or above, or is over a limit that was narrowed since; not one
    /// that is not there.
    pub fn is_expired(&self, digest: &Hash, height: u64) -> bool {
        let batch = lock(&self.pool).batch(digest);
        batch.is_some_and(|batch| batch.is_expired(height) || !batch.fits(&self.parameters()))
    }

    /// Whether a batch of the pool may stand in a block of this height.
    pub fn is_includable(&self, digest: &Hash, height: u64) -> bool {
        let parameters = self.parameters();
        let batch = lock(&self.pool).batch(digest);
        batch.is_some_and(|batch| batch.is_includable(height, parameters.window) && batch.fits(&parameters))
    }

    /// How many of the first of these batches have at most `items` items together: at least one, so that none waits for ever.
    pub fn within_items(&self, digests: &[Hash], items: u64) -> usize {
        let pool = lock(&self.pool);
        let mut room = items;
        let mut fits = |digest: &Hash| match room.checked_sub(pool.batch(digest).map_or(0, |batch| batch.items)) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        digests.iter().take_while(|digest| fits(digest)).count().max(1).min(digests.len())
    }

    /// Drops batches from the pool.
    pub fn forget(&self, digests: &[Hash]) {
        let mut pool = lock(&self.pool);
        for digest in digests {
            pool.remove(digest);
        }
    }

    /// Drops a batch from the pool and queues those of its transactions anew that may still be included; how many.
    pub fn reclaim(&self, digest: &Hash) -> usize {
        let published = self.published();
        let (next, parameters) = (published.height + 1, &published.rules.parameters);
        let mut pool = lock(&self.pool);
        let Some(batch) = pool.remove(digest) else { return 0 };
        let Ok(transactions) = decode_batch(&batch.body, usize::MAX) else { return 0 };
        let mut queued = 0;
        for (transaction, range) in transactions {
            let may_stand = check_time(transaction.body.valid_until, next, parameters.window)
                .and_then(|()| transaction.check_limits(range.len(), &self.genesis_hash, parameters));
            if may_stand.is_ok() && !self.is_included(&transaction.id) {
                let (bytes, sender) = (batch.body[range].to_vec(), sender(&published.state, &transaction));
                queued += usize::from(pool.push_again(Verified { sender, transaction, bytes }));
            }
        }
        queued
    }

    /// Batches of the pool and their bytes.
    pub fn pool_size(&self) -> (usize, usize) {
        lock(&self.pool).size()
    }
}

/// Whose a transaction is, for the order in which it is sealed (P72): the city or organisation of the first registered key among its
/// signers, of an item's key whoever issued the item.
fn sender(state: &Snapshot, transaction: &Transaction) -> Option<Holder> {
    transaction.body.signers.iter().find_map(|signer| {
        let record = Record::decode(&state.get(&MapKey::Key(signer).path())?).ok()?;
        let code = Code::parse(&record.holder?, None).ok()?;
        Some(Holder { city: code.city()?, org: code.org() })
    })
}
