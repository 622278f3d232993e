//! What a peer or client may send to do harm: second encodings of one thing, counts without content, numbers at the edge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cityid_core::hash::hex;
use cityid_core::json::from_hex;
use cityid_core::ledger::operation::Operation;
use cityid_core::ledger::stored::Receipt;
use cityid_core::ledger::transaction::{assemble, batch_digest, decode_batch, Transaction};
use cityid_core::record::Record;
use cityid_core::wire::{Decoder, Encoder};
use std::path::PathBuf;

/// The golden files whose name starts with a prefix: name and bytes.
fn golden(prefix: &str) -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/golden");
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .filter(|(name, _)| name.starts_with(prefix) && name.ends_with(".hex"))
        .map(|(name, path)| (name, from_hex(&std::fs::read_to_string(path).unwrap().replace('\n', "")).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{prefix}");
    files
}

/// Every change of one byte of `good`, with every value in place of it.
fn each_edit(good: &[u8], mut visit: impl FnMut(&[u8])) {
    for position in 0..good.len() {
        let mut edited = good.to_vec();
        for value in 0..=u8::MAX {
            edited[position] = value;
            visit(&edited);
        }
    }
}

#[test]
fn an_operation_has_one_encoding() {
    let mut accepted = 0;
    for (name, good) in golden("operation-") {
        each_edit(&good, |edited| {
            let mut decoder = Decoder::new(edited);
            let Ok(operation) = Operation::decode(&mut decoder) else { return };
            if decoder.end().is_err() {
                return;
            }
            let mut again = Encoder::new();
            operation.encode(&mut again);
            assert_eq!(hex(&again.finish()), hex(edited), "{name}");
            accepted += 1;
        });
    }
    assert!(accepted > 1_000, "the control: many edits are other, canonical operations ({accepted})");
}

#[test]
fn a_record_has_one_encoding() {
    let mut accepted = 0;
    for (name, good) in golden("record-") {
        each_edit(&good, |edited| {
            let Ok(record) = Record::decode(edited) else { return };
            assert_eq!(hex(&record.encode()), hex(edited), "{name}");
            accepted += 1;
        });
    }
    assert!(accepted > 1_000, "the control ({accepted})");
}

#[test]
fn a_transaction_has_one_encoding() {
    let (_, good) = golden("transaction").remove(0);
    let mut accepted = 0;
    for bit in 0..good.len() * 8 {
        let mut edited = good.clone();
        edited[bit / 8] ^= 1 << (bit % 8);
        let Ok(transaction) = Transaction::decode(&edited) else { continue };
        assert_eq!(hex(&assemble(&transaction.body.encode(), &transaction.signatures)), hex(&edited));
        accepted += 1;
    }
    assert!(accepted > 1_000, "the control ({accepted})");
}

#[test]
fn counts_that_the_bytes_cannot_hold_are_refused_before_room_is_made() {
    // Heads of 4,000 and more entries with a byte for each: a decoder that trusts them makes room for 4,000 large structures.
    let lists: [(&str, Vec<u8>); 3] = [
        ("a batch", [&[0x99, 0x0f, 0xa0][..], &[0; 4_000]].concat()),
        ("a list of receipts", [&[0x99, 0x0f, 0xa0][..], &[0x40; 4_000]].concat()),
        ("outputs", [&[0x83, 0x58, 0x20][..], &[7; 32], &[0x00, 0x99, 0x10, 0x01], &[0xf6; 4_097]].concat()),
    ];
    let message = |what: &str, bytes: &[u8]| match what {
        "a batch" => decode_batch(bytes, 4_096).unwrap_err().to_string(),
        "a list of receipts" => cityid_core::ledger::stored::decode_receipts(bytes).unwrap_err().to_string(),
        _ => Receipt::decode(bytes).unwrap_err().to_string(),
    };
    assert!(message(lists[0].0, &lists[0].1).contains("a list of 4000 items of at least 163 bytes"));
    assert!(message(lists[1].0, &lists[1].1).contains("a list of 4000 items of at least 38 bytes"));
    assert!(message(lists[2].0, &lists[2].1).contains("more than the limit of 4096"));
    // The controls: what the shortest ones really are.
    for (name, good) in golden("operation-") {
        assert!(good.len() >= 11, "{name}");
    }
    let (_, batch) = golden("batch.hex").remove(0);
    assert_eq!(decode_batch(&batch, 4_096).unwrap().len(), 1);
    assert_ne!(batch_digest(&batch), [0; 32]);
}
