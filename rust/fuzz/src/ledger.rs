//! What the chain is made of: transactions, batches, operations, records, headers, receipts, genesis, and an auditor's blocks.
use crate::golden::{family, read};
use crate::text;
use cityid_core::audit::{Auditor, Block};
use cityid_core::block::{header_hash, Header, ValidatorSet};
use cityid_core::genesis::Genesis;
use cityid_core::hash::Hash;
use cityid_core::json::{self, Object};
use cityid_core::ledger::check_certificate;
use cityid_core::ledger::operation::{Action, Change, Operation};
use cityid_core::ledger::stored::{decode_changes, decode_receipts, Receipt};
use cityid_core::ledger::transaction::{assemble, assemble_batch, decode_batch, Transaction};
use cityid_core::listing::Prefix;
use cityid_core::record::Record;
use cityid_core::vote::CommitCertificate;
use cityid_core::wire::{Decoder, Encoder};
use std::sync::OnceLock;

/// The bytes are read as whatever comes next, and written again.
pub(crate) fn wire(data: &[u8]) {
    let mut decoder = Decoder::new(data);
    let mut out = Encoder::new();
    while !decoder.is_at_end() {
        let start = decoder.position();
        let major = data[start] >> 5;
        let read = match major {
            0 => decoder.uint().map(|value| _ = out.uint(value)),
            2 => decoder.bytes(usize::MAX).map(|value| _ = out.bytes(value)),
            3 => decoder.text(usize::MAX).map(|value| _ = out.text(value)),
            4 => decoder.list(usize::MAX, 1).map(|count| _ = out.array(count)),
            5 => decoder.map_list(usize::MAX, 2).map(|count| _ = out.map(count)),
            _ if decoder.null() => {
                out.null();
                Ok(())
            }
            _ => return,
        };
        if read.is_err() {
            return;
        }
        assert!(decoder.position() > start, "a decoder that stands still");
        assert_eq!(out.len(), decoder.position());
    }
    assert_eq!(out.finish(), data);
}

/// [`Transaction::decode`].
pub(crate) fn transaction(data: &[u8]) {
    let Ok(transaction) = Transaction::decode(data) else { return };
    assert_eq!(assemble(&transaction.body.encode(), &transaction.signatures), data);
    let mut checks = Vec::new();
    transaction.signature_checks(&mut checks);
    assert!(checks.len() >= transaction.signatures.len());
    for operation in &transaction.body.operations {
        survives_json(operation);
    }
}

/// [`decode_batch`].
pub(crate) fn batch(data: &[u8]) {
    let Ok(transactions) = decode_batch(data, 4_096) else { return };
    let whole: Vec<u8> = transactions.iter().flat_map(|(_, range)| data[range.clone()].to_vec()).collect();
    assert_eq!(assemble_batch(transactions.len(), &whole), data);
    for (transaction, range) in &transactions {
        assert_eq!(Transaction::decode(&data[range.clone()]).as_ref(), Ok(transaction));
    }
}

/// [`Operation::decode`].
pub(crate) fn operation(data: &[u8]) {
    let mut decoder = Decoder::new(data);
    let Ok(operation) = Operation::decode(&mut decoder) else { return };
    let mut out = Encoder::new();
    operation.encode(&mut out);
    assert_eq!(out.finish(), data[..decoder.position()]);
    survives_json(&operation);
}

/// Reading JSON also refuses names that the rule will refuse (a tool hears it sooner); it never reads another operation.
fn survives_json(operation: &Operation) {
    if let Ok(again) = Operation::from_json(operation.to_json()) {
        assert_eq!(again, *operation);
    }
}

/// [`Operation::from_json`]; what it takes has bytes that are read as the same operation, or break a limit of the bytes.
pub(crate) fn operation_json(data: &[u8]) {
    let Some(Ok(value)) = text(data).map(|text| json::parse(text, 1 << 20, "an operation")) else { return };
    let Ok(operation) = Operation::from_json(value) else { return };
    assert_eq!(Operation::from_json(operation.to_json()).as_ref(), Ok(&operation));
    let mut out = Encoder::new();
    operation.encode(&mut out);
    let bytes = out.finish();
    if let Ok(again) = Operation::decode(&mut Decoder::new(&bytes)) {
        assert_eq!(again, operation);
    }
}

/// [`Change::decode`] and its JSON.
pub(crate) fn change(data: &[u8]) {
    let mut decoder = Decoder::new(data);
    let Ok(change) = Change::decode(&mut decoder) else { return };
    let mut out = Encoder::new();
    change.encode(&mut out);
    assert_eq!(out.finish(), data[..decoder.position()]);
    let json = Object::new(change.to_json(), "a change").expect("an object");
    assert_eq!(Change::from_json(json).as_ref(), Ok(&change));
}

/// [`Record::decode`].
pub(crate) fn record(data: &[u8]) {
    let Ok(record) = Record::decode(data) else { return };
    assert_eq!(record.encode(), data);
    record.to_json();
}

/// [`Header::decode`].
pub(crate) fn header(data: &[u8]) {
    let Ok(header) = Header::decode(data) else { return };
    assert_eq!(header.encode(), data);
    assert_eq!(header_hash(data), header_hash(&header.encode()));
}

/// [`ValidatorSet::decode`].
pub(crate) fn validators(data: &[u8]) {
    let Ok(set) = ValidatorSet::decode(data) else { return };
    assert_eq!(set.encode(), data);
    assert!(set.quorum() * 3 > set.len() * 2, "more than two thirds");
    assert!(set.quorum() <= set.len());
}

/// Receipts one by one, the stored list of a height, and its stored changes.
pub(crate) fn receipts(data: &[u8]) {
    if let Ok(receipt) = Receipt::decode(data) {
        receipt.to_json(1);
    }
    if let Ok((ids, receipts)) = decode_receipts(data) {
        assert_eq!(ids.len(), receipts.len());
        let mut out = Encoder::new();
        out.array(receipts.len());
        for receipt in &receipts {
            out.bytes(receipt);
        }
        assert_eq!(out.finish(), data);
    }
    let mut read = 0;
    if decode_changes(data, |key, record| read += 6 + key.len() + record.len()).is_ok() {
        assert_eq!(read, data.len());
    }
}

/// [`Genesis::from_json`].
pub(crate) fn genesis_json(data: &[u8]) {
    let Some(Ok(genesis)) = text(data).map(Genesis::from_json) else { return };
    assert_eq!(Genesis::from_json(&genesis.to_json()).as_ref(), Ok(&genesis));
    assert!(genesis.cities.len() >= 4);
}

/// [`Block::decode_next`], and an [`Auditor`] that looks at all blocks of a sequence.
pub(crate) fn audit_block(data: &[u8]) {
    static NETWORK: OnceLock<(Hash, Vec<u8>)> = OnceLock::new();
    let (genesis, set) = NETWORK.get_or_init(|| {
        let genesis = Genesis::from_json(text(&read("genesis.json")).expect("text")).expect("the golden genesis");
        (genesis.hash(), read("validators.hex"))
    });
    let mut auditor = Auditor::new(*genesis, 1, vec![[0; 32]], &[set]).expect("an auditor");
    let prefix = Prefix::parse("MA.156").expect("a prefix");
    let mut decoder = Decoder::new(data);
    while !decoder.is_at_end() {
        let start = decoder.position();
        let Ok(block) = Block::decode_next(&mut decoder) else { return };
        assert_eq!(block.encode(), data[start..decoder.position()]);
        assert!(auditor.block(&block, &prefix).is_err(), "a block on a log that does not exist");
        _ = CommitCertificate::decode(block.certificate);
    }
}

/// The DER around the key of a TLS certificate (P61).
pub(crate) fn tls_certificate(data: &[u8]) {
    if let Some((key, certificate)) = data.split_first_chunk::<32>() {
        if check_certificate(certificate, key).is_ok() {
            assert!(certificate.windows(32).any(|window| window == key));
        }
    }
}

pub(crate) fn change_seeds() -> Vec<Vec<u8>> {
    let operations = family("operation-20-*.hex");
    let read = |bytes: &Vec<u8>| {
        let Action::Propose { change, .. } = Operation::decode(&mut Decoder::new(bytes)).ok()?.action else { return None };
        let mut out = Encoder::new();
        change.encode(&mut out);
        Some(out.finish())
    };
    operations.iter().filter_map(|(_, bytes)| read(bytes)).collect()
}

pub(crate) fn operation_json_seeds() -> Vec<Vec<u8>> {
    let operations = family("operation-*.hex");
    let read = |bytes: &Vec<u8>| Operation::decode(&mut Decoder::new(bytes)).expect("a golden operation");
    operations.iter().map(|(_, bytes)| read(bytes).to_json().to_string().into_bytes()).collect()
}

pub(crate) fn receipts_seeds() -> Vec<Vec<u8>> {
    let receipts = family("receipt-*.hex");
    let mut out = Encoder::new();
    out.array(receipts.len());
    receipts.iter().for_each(|(_, receipt)| _ = out.bytes(receipt));
    let (key, record) = (read("key-08-item.hex"), read("record-08-item.hex"));
    let lengths = ((key.len() as u16).to_be_bytes(), (record.len() as u32).to_be_bytes());
    vec![out.finish(), [&lengths.0[..], &key, &lengths.1, &record].concat()]
}

pub(crate) fn audit_block_seeds() -> Vec<Vec<u8>> {
    let (header, certificate, batch) = (read("header.hex"), read("certificate.hex"), read("batch.hex"));
    let receipts = receipts_seeds().remove(0);
    let block = Block { header: &header, certificate: &certificate, receipts: &receipts, batches: vec![&batch] };
    vec![block.encode()]
}

/// A certificate in outline: a body that holds the key, an algorithm, a signature.
pub(crate) fn tls_certificate_seeds() -> Vec<Vec<u8>> {
    let (key, prefix) = ([7; 32], [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00]);
    let body = [&[0x30, 44][..], &prefix, &key].concat();
    let parts = [&body[..], &[0x30, 0], &[0x03, 1, 0]].concat();
    vec![[&key[..], &[0x30, parts.len() as u8], &parts].concat()]
}
