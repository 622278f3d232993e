//! Sealed tables against a recursive reference, and their proofs against every small change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use cityid_core::error::Error;
use cityid_core::hash::{sha256, Hash};
use cityid_core::table::{Leaf, SealedTable, TableProof, MILLION_DEPTH, THOUSAND_DEPTH};
use cityid_core::wire::{Decoder, Encoder};
use std::collections::BTreeMap;

fn leaf(index: u32) -> Leaf {
    Leaf { salt: sha256(&index.to_le_bytes())[..16].try_into().unwrap(), record: format!("record {index}").into_bytes() }
}

fn build(depth: u8, indexes: &[u32]) -> SealedTable {
    SealedTable::build(depth, indexes.iter().map(|&index| (index, leaf(index).hash(index)))).unwrap()
}

/// The definition of P41, with the tags written out.
fn reference(leaves: &BTreeMap<u32, Leaf>, level: u32, index: u32) -> Hash {
    if leaves.range(index << level..(index + 1) << level).next().is_none() && level > 0 {
        let below = reference(&BTreeMap::new(), level - 1, 0);
        return sha256(&[&b"cityid/1/table-node\0\x01"[..], &below, &below].concat());
    }
    if level == 0 {
        return match leaves.get(&index) {
            Some(leaf) => sha256(&[&b"cityid/1/table-leaf\0\x01"[..], &index.to_be_bytes(), &leaf.salt, &leaf.record].concat()),
            None => sha256(b"cityid/1/table-empty\0\x01"),
        };
    }
    let (left, right) = (reference(leaves, level - 1, index * 2), reference(leaves, level - 1, index * 2 + 1));
    sha256(&[&b"cityid/1/table-node\0\x01"[..], &left, &right].concat())
}

fn encoded(proof: &TableProof) -> Vec<u8> {
    let mut out = Encoder::new();
    proof.encode(&mut out);
    out.finish()
}

fn decoded(bytes: &[u8]) -> Result<TableProof, Error> {
    let mut decoder = Decoder::new(bytes);
    let proof = TableProof::decode(&mut decoder)?;
    decoder.end()?;
    Ok(proof)
}

const SPARSE: [u32; 7] = [0, 1, 2, 7, 500, 998, 999];

#[test]
fn roots_are_those_of_the_definition() {
    let some: Vec<u32> = (0..1_000).step_by(3).collect();
    for (depth, indexes) in [
        (THOUSAND_DEPTH, &SPARSE[..]),
        (THOUSAND_DEPTH, &some),
        (THOUSAND_DEPTH, &[]),
        (MILLION_DEPTH, &SPARSE),
        (MILLION_DEPTH, &[999_999]),
    ] {
        let leaves: BTreeMap<u32, Leaf> = indexes.iter().map(|&index| (index, leaf(index))).collect();
        let table = build(depth, indexes);
        assert_eq!(table.root(), reference(&leaves, u32::from(depth), 0), "depth {depth}, {} leaves", indexes.len());
        assert_eq!(table.count(), indexes.len() as u64);
    }
}

#[test]
fn every_index_of_a_thousand_is_proven_present_or_absent() {
    let table = build(THOUSAND_DEPTH, &SPARSE);
    for index in 0..1_000 {
        let held = SPARSE.contains(&index).then(|| leaf(index));
        let proof = table.prove(index, held.clone()).unwrap();
        assert_eq!(proof.verify(&table.root(), THOUSAND_DEPTH, index), Ok(()));
        assert_eq!(decoded(&encoded(&proof)), Ok(proof.clone()));
        // The opposite claim, another place, another table.
        let opposite = TableProof { leaf: if held.is_some() { None } else { Some(leaf(index)) }, ..proof.clone() };
        assert!(matches!(opposite.verify(&table.root(), THOUSAND_DEPTH, index), Err(Error::Proof(_))));
        if held.is_some() {
            assert!(proof.verify(&table.root(), THOUSAND_DEPTH, index ^ 1).is_err(), "moved to the neighbour of {index}");
        }
        assert!(proof.verify(&build(THOUSAND_DEPTH, &[3]).root(), THOUSAND_DEPTH, index).is_err());
    }
}

#[test]
fn every_flipped_bit_of_a_proof_is_refused() {
    let table = build(MILLION_DEPTH, &[0, 5, 77, 4_711, 999_999]);
    for (index, held) in [(4_711, Some(leaf(4_711))), (4_712, None)] {
        let bytes = encoded(&table.prove(index, held).unwrap());
        // The control: untouched bytes verify.
        assert_eq!(decoded(&bytes).unwrap().verify(&table.root(), MILLION_DEPTH, index), Ok(()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outcome = decoded(&flipped).and_then(|proof| proof.verify(&table.root(), MILLION_DEPTH, index));
            assert!(outcome.is_err(), "bit {bit} of the proof of {index}");
        }
    }
}

#[test]
fn an_empty_sibling_that_is_given_is_refused() {
    let table = build(THOUSAND_DEPTH, &[0]);
    let good = table.prove(0, Some(leaf(0))).unwrap();
    assert_eq!((good.bitmap, good.siblings.len()), (0, 0));
    let empty_leaf = sha256(b"cityid/1/table-empty\0\x01");
    let padded = TableProof { bitmap: 1, siblings: vec![empty_leaf], ..good };
    let error = padded.verify(&table.root(), THOUSAND_DEPTH, 0).unwrap_err().to_string();
    assert!(error.contains("empty subtree"), "{error}");
}

#[test]
fn leaves_must_ascend_and_lie_in_the_range() {
    let at = |index: u32| (index, leaf(index).hash(index));
    for (depth, leaves, reason) in [
        (THOUSAND_DEPTH, vec![at(3), at(3)], "repeated"),
        (THOUSAND_DEPTH, vec![at(3), at(2)], "order"),
        (THOUSAND_DEPTH, vec![at(1_000)], "outside"),
        (MILLION_DEPTH, vec![at(1_000_000)], "outside"),
        (11, vec![at(0)], "depth"),
    ] {
        let error = SealedTable::build(depth, leaves).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let table = build(THOUSAND_DEPTH, &SPARSE);
    assert!(table.prove(0, None).is_err(), "a held leaf shown as empty");
    assert!(table.prove(3, Some(leaf(3))).is_err(), "an empty leaf shown as held");
    assert!(table.prove(1_000, None).is_err());
}

#[test]
fn a_full_thousand_has_proofs_of_full_length() {
    let all: Vec<u32> = (0..1_000).collect();
    let table = build(THOUSAND_DEPTH, &all);
    let proof = table.prove(999, Some(leaf(999))).unwrap();
    // 1,000 of 1,024 places are taken, so one subtree of eight and one of sixteen are empty.
    assert_eq!(proof.siblings.len(), 8);
    assert_eq!(table.prove(0, Some(leaf(0))).unwrap().siblings.len(), 10);
    assert_eq!(proof.verify(&table.root(), THOUSAND_DEPTH, 999), Ok(()));
}
