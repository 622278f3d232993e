//! What a height leaves for the store: every version written, and the receipts (P32).
use super::execute::Output;
use super::overlay::Change;
use super::transaction::MAX_OPERATIONS;
use crate::error::Error;
use crate::hash::Hash;
use crate::wire::{Decoder, Encoder};

/// Every version written, in order: u16 key length, key, u32 record length, record.
pub(super) fn encode_changes(changes: &[Change]) -> Vec<u8> {
    let mut out = Vec::with_capacity(changes.iter().map(|change| change.key.len() + change.record.len() + 6).sum());
    for change in changes {
        out.extend_from_slice(&(change.key.len() as u16).to_be_bytes());
        out.extend_from_slice(&change.key);
        out.extend_from_slice(&(change.record.len() as u32).to_be_bytes());
        out.extend_from_slice(&change.record);
    }
    out
}

/// Calls `visit` with every (key, record) of the changes of a height, in order.
pub fn decode_changes<'a>(mut data: &'a [u8], mut visit: impl FnMut(&'a [u8], &'a [u8])) -> Result<(), Error> {
    let damaged = || Error::malformed("stored changes that end too early; the store is damaged, restore it or sync again");
    fn take<'b>(data: &mut &'b [u8], count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = data.split_at_checked(count)?;
        *data = rest;
        Some(taken)
    }
    while !data.is_empty() {
        let length = take(&mut data, 2).ok_or_else(damaged)?;
        let key = take(&mut data, usize::from(u16::from_be_bytes([length[0], length[1]]))).ok_or_else(damaged)?;
        let length = take(&mut data, 4).ok_or_else(damaged)?;
        let record = take(&mut data, u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize).ok_or_else(damaged)?;
        visit(key, record);
    }
    Ok(())
}

/// A canonical array of encoded receipts, in block order.
pub(super) fn encode_receipts(receipts: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Encoder::with_capacity(receipts.iter().map(Vec::len).sum::<usize>() + 5);
    out.array(receipts.len());
    for receipt in receipts {
        out.bytes(receipt);
    }
    out.finish()
}

/// Splits the receipts of a height, as [`Commit::receipts`](super::Commit::receipts) has them: ids and receipts, in block order.
pub fn decode_receipts(data: &[u8]) -> Result<(Vec<Hash>, Vec<Vec<u8>>), Error> {
    let mut decoder = Decoder::new(data);
    // A receipt has at least its id, its kind and two heads.
    let count = decoder.list(usize::MAX, 38)?;
    let mut ids = Vec::with_capacity(count);
    let mut receipts = Vec::with_capacity(count);
    for _ in 0..count {
        let receipt = decoder.bytes(usize::MAX)?;
        ids.push(Receipt::decode(receipt)?.id);
        receipts.push(receipt.to_vec());
    }
    decoder.end()?;
    Ok((ids, receipts))
}

/// What became of an included transaction (P32).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect; one output an operation.
    Committed(Vec<Output>),
    /// The rule refused it: the reason code and the index of the operation.
    Rejected(String, u64),
    /// Its id had been included before.
    Duplicate,
}

/// A receipt (P32).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Of which transaction.
    pub id: Hash,
    /// What became of it.
    pub outcome: Outcome,
}

impl Receipt {
    /// Reads a receipt.
    pub fn decode(bytes: &[u8]) -> Result<Receipt, Error> {
        let mut decoder = Decoder::new(bytes);
        let parts = decoder.array(4)?;
        let id = decoder.hash()?;
        let outcome = match (decoder.uint()?, parts) {
            (0, 3) => {
                let count = decoder.list(MAX_OPERATIONS, 1)?;
                if count == 0 {
                    return Err(Error::malformed("a receipt of a transaction without operations"));
                }
                let mut outputs = Vec::with_capacity(count);
                for _ in 0..count {
                    outputs.push(if decoder.null() {
                        Output::None
                    } else if decoder.is_uint() {
                        Output::Proposal(decoder.uint()?)
                    } else {
                        decoder.array_of(2)?;
                        Output::Range(decoder.uint()?, decoder.uint()?)
                    });
                }
                Outcome::Committed(outputs)
            }
            (1, 4) => Outcome::Rejected(decoder.text(64)?.to_owned(), decoder.uint()?),
            (2, 2) => Outcome::Duplicate,
            _ => return Err(Error::malformed("a receipt of an unknown form; see docs/cityid.cddl")),
        };
        decoder.end()?;
        Ok(Receipt { id, outcome })
    }
}
