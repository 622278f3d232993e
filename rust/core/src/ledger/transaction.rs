//! Transactions and batches (P14 to P19, P30): bytes to typed values, once, with every stateless check.
use crate::error::Error;
use crate::genesis::Parameters;
use crate::hash::{domain, tagged, Hash, Suite, Tag};
use crate::ledger::operation::{possession_message, Operation};
use crate::wire::{Decoder, Encoder};

/// The most signers of a transaction.
pub const MAX_SIGNERS: usize = 16;
/// The most operations that any network may allow in a transaction.
pub const MAX_OPERATIONS: usize = 4_096;
/// The bytes of the shortest operation: a vote.
const LEAST_OPERATION: usize = 11;
/// The bytes of the shortest transaction: one signer, one operation.
const LEAST_TRANSACTION: usize = 163;
const MAX_TRANSACTION: usize = 1 << 20;

/// The part of a transaction that is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Hash of the network's genesis.
    pub genesis: Hash,
    /// The last height at which it may be included.
    pub valid_until: u64,
    /// 8 to 32 bytes that make the id unique.
    pub nonce: Vec<u8>,
    /// Public keys of the signers, ascending.
    pub signers: Vec<[u8; 32]>,
    /// What it asks for, in order.
    pub operations: Vec<Operation>,
}

impl Body {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::with_capacity(256);
        out.array(6).uint(1).bytes(&self.genesis).uint(self.valid_until).bytes(&self.nonce).array(self.signers.len());
        for signer in &self.signers {
            out.array(2).uint(Suite::Ed25519Sha256 as u64).bytes(signer);
        }
        out.array(self.operations.len());
        for operation in &self.operations {
            operation.encode(&mut out);
        }
        out.finish()
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Body, Error> {
        decoder.array_of(6)?;
        let version = decoder.uint()?;
        if version != 1 {
            return Err(Error::malformed(format!("a transaction of version {version}; this network takes version 1")));
        }
        let genesis = decoder.hash()?;
        let valid_until = decoder.uint()?;
        let nonce = decoder.bytes(32)?.to_vec();
        if nonce.len() < 8 {
            return Err(Error::malformed(format!("a nonce of {} bytes; it takes 8 to 32", nonce.len())));
        }
        let count = decoder.list(MAX_SIGNERS, 36)?;
        let mut signers: Vec<[u8; 32]> = Vec::with_capacity(count);
        for _ in 0..count {
            decoder.array_of(2)?;
            Suite::parse(decoder.uint()?)?;
            let key = decoder.fixed()?;
            if signers.last().is_some_and(|last| *last >= key) {
                return Err(Error::malformed("signers that are repeated or not ascending by key"));
            }
            signers.push(key);
        }
        let count = decoder.list(MAX_OPERATIONS, LEAST_OPERATION)?;
        if signers.is_empty() || count == 0 {
            return Err(Error::malformed("a transaction without signers or without operations"));
        }
        let operations = (0..count).map(|_| Operation::decode(decoder)).collect::<Result<_, _>>()?;
        Ok(Body { genesis, valid_until, nonce, signers, operations })
    }
}

/// The id of a transaction: tagged hash of its unsigned body, so that it does not depend on who signed how.
pub fn transaction_id(body: &[u8]) -> Hash {
    tagged(Tag::Transaction, Suite::Ed25519Sha256, &[body])
}

/// What signers sign (P15).
pub fn signing_message(id: &Hash) -> Vec<u8> {
    let mut message = domain(Tag::TransactionSignature, Suite::Ed25519Sha256);
    message.extend_from_slice(id);
    message
}

/// Puts a body and its signatures, in the order of its signers, together.
pub fn assemble(body: &[u8], signatures: &[[u8; 64]]) -> Vec<u8> {
    let mut out = Encoder::with_capacity(body.len() + signatures.len() * 66 + 2);
    out.array(2).raw(body).array(signatures.len());
    for signature in signatures {
        out.bytes(signature);
    }
    out.finish()
}

/// A parsed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its id.
    pub id: Hash,
    /// What was signed.
    pub body: Body,
    /// One signature a signer, in their order.
    pub signatures: Vec<[u8; 64]>,
}

/// A signature to check: key, message, signature.
pub type SignatureCheck = ([u8; 32], Vec<u8>, [u8; 64]);

impl Transaction {
    /// Reads one transaction from a sequence; the decoder stands behind it afterwards.
    pub fn decode_next(decoder: &mut Decoder<'_>) -> Result<Transaction, Error> {
        let begin = decoder.position();
        decoder.array_of(2)?;
        let start = decoder.position();
        let body = Body::decode(decoder)?;
        let id = transaction_id(decoder.between(start, decoder.position()));
        decoder.array_of(body.signers.len())?;
        let signatures = (0..body.signers.len()).map(|_| decoder.fixed()).collect::<Result<_, _>>()?;
        if decoder.position() - begin > MAX_TRANSACTION {
            return Err(Error::malformed(format!("a transaction of more than {MAX_TRANSACTION} bytes")));
        }
        Ok(Transaction { id, body, signatures })
    }

    /// Reads exactly one transaction.
    pub fn decode(bytes: &[u8]) -> Result<Transaction, Error> {
        let mut decoder = Decoder::new(bytes);
        let transaction = Transaction::decode_next(&mut decoder)?;
        decoder.end()?;
        Ok(transaction)
    }

    /// About how many bytes its parsed form takes beyond those of its texts: what a sender makes others hold.
    pub fn memory(&self) -> usize {
        let operations = self.body.operations.iter().map(Operation::memory).sum::<usize>();
        size_of::<Transaction>() + self.body.signers.len() * (32 + 64) + operations
    }

    /// How many items its operations touch.
    pub fn items(&self) -> usize {
        self.body.operations.iter().map(Operation::items).sum()
    }

    /// Network and limits (P18), but not time: see [`check_time`].
    pub fn check_limits(&self, size: usize, genesis: &Hash, parameters: &Parameters) -> Result<(), Error> {
        if self.body.genesis != *genesis {
            return Err(Error::rule("wrong_network", "the transaction names another genesis; build it for this network"));
        }
        let over = |what: &str, value: usize, limit: u64| {
            Err(Error::rule("too_large", format!("the transaction has {value} {what}, the limit is {limit}; split it")))
        };
        if size as u64 > parameters.max_transaction_bytes {
            return over("bytes", size, parameters.max_transaction_bytes);
        }
        if self.body.operations.len() as u64 > parameters.max_operations {
            return over("operations", self.body.operations.len(), parameters.max_operations);
        }
        let items = self.items();
        if items as u64 > parameters.max_items {
            return over("items", items, parameters.max_items);
        }
        Ok(())
    }

    /// Every signature that must verify: the signers' and the proofs of possession of new keys (P15, P16).
    pub fn signature_checks(&self, out: &mut Vec<SignatureCheck>) {
        let message = signing_message(&self.id);
        out.extend(self.body.signers.iter().zip(&self.signatures).map(|(key, signature)| (*key, message.clone(), *signature)));
        for operation in &self.body.operations {
            if let Some((subject, keys)) = operation.new_keys() {
                out.extend(keys.iter().map(|entry| {
                    let message = possession_message(&self.body.genesis, &subject, entry.purpose, &entry.key);
                    (entry.key, message, entry.possession)
                }));
            }
        }
    }
}

/// Whether a transaction may stand in a block of this height (P18).
pub fn check_time(valid_until: u64, height: u64, window: u64) -> Result<(), Error> {
    // P18 speaks of (h, h + window] with h the height of the last block before this one, which is height - 1.
    if valid_until < height {
        return Err(Error::rule("expired", format!("valid until height {valid_until}, the next block is {height}; sign it again")));
    }
    if valid_until >= height.saturating_add(window) {
        return Err(Error::rule(
            "too_far",
            format!("valid until height {valid_until}, more than {window} heights ahead; choose an earlier one"),
        ));
    }
    Ok(())
}

/// The digest of a batch body.
pub fn batch_digest(body: &[u8]) -> Hash {
    tagged(Tag::Batch, Suite::Ed25519Sha256, &[body])
}

/// Puts encoded transactions together as a batch body.
pub fn assemble_batch(count: usize, transactions: &[u8]) -> Vec<u8> {
    let mut out = Encoder::with_capacity(transactions.len() + 5);
    out.array(count).raw(transactions);
    out.finish()
}

/// Splits a batch body; each transaction comes with its bytes' range.
pub fn decode_batch(body: &[u8], limit: usize) -> Result<Vec<(Transaction, std::ops::Range<usize>)>, Error> {
    let mut decoder = Decoder::new(body);
    let count = decoder.list(limit, LEAST_TRANSACTION)?;
    if count == 0 {
        return Err(Error::malformed("a batch without transactions"));
    }
    let mut transactions = Vec::with_capacity(count);
    for _ in 0..count {
        let start = decoder.position();
        let transaction = Transaction::decode_next(&mut decoder)?;
        transactions.push((transaction, start..decoder.position()));
    }
    decoder.end()?;
    Ok(transactions)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::code::City;
    use crate::ledger::operation::Action;

    #[test]
    fn the_shortest_transaction_stands_in_a_batch() {
        let action = Action::Vote { city: City::parse("130100").unwrap(), proposal: 1 };
        let operations = vec![Operation { action, reason: None, basis: None }];
        let body = Body { genesis: [0; 32], valid_until: 1, nonce: vec![0; 8], signers: vec![[0; 32]], operations };
        let mut out = Encoder::with_capacity(LEAST_TRANSACTION);
        out.array(2).raw(&body.encode()).array(1).bytes(&[0; 64]);
        let bytes = out.finish();
        assert_eq!(bytes.len(), LEAST_TRANSACTION);
        let batch = assemble_batch(1, &bytes);
        assert_eq!(decode_batch(&batch, 1).unwrap()[0].0.body, body);
    }
}
