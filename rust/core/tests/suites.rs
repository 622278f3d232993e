//! The suite byte: every structure that carries one takes suite 1 and refuses suite 2 by name (P2).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use cityid_core::block::ValidatorSet;
use cityid_core::error::Error;
use cityid_core::genesis::Genesis;
use cityid_core::hash::Suite;
use cityid_core::ledger::operation::{Action, Change, KeyProof, Operation};
use cityid_core::ledger::transaction::{Body, Transaction};
use cityid_core::record::{KeyEntry, Purpose, Record, Recovery};
use cityid_core::trust::Trust;
use cityid_core::wire::{Decoder, Encoder};
use support::*;

const BY_NAME: &str = "suite 2 (SM2/SM3) is reserved and not implemented";

/// How often a byte of `good` that is made 2 is refused because it names suite 2.
fn refusals<T>(good: &[u8], read: impl Fn(&[u8]) -> Result<T, Error>) -> usize {
    assert!(read(good).is_ok(), "the control");
    let mut count = 0;
    for position in (0..good.len()).filter(|position| good[*position] == 1) {
        let mut edited = good.to_vec();
        edited[position] = 2;
        count += usize::from(matches!(read(&edited), Err(Error::Malformed(why)) if why.contains(BY_NAME)));
    }
    count
}

fn operation(action: Action) -> Vec<u8> {
    let mut out = Encoder::new();
    Operation { action, reason: None, basis: None }.encode(&mut out);
    out.finish()
}

fn read_operation(bytes: &[u8]) -> Result<Operation, Error> {
    Operation::decode(&mut Decoder::new(bytes))
}

fn new_keys(purposes: &[Purpose]) -> Vec<KeyProof> {
    let key = |purpose: &Purpose| KeyProof { purpose: *purpose, key: [9; 32], from: 0, until: None, possession: [9; 64] };
    purposes.iter().map(key).collect()
}

#[test]
fn suite_two_is_refused_by_name_in_every_structure_that_carries_a_suite() {
    let world = World::new(4);
    let genesis = world.genesis.to_json();
    let json = |text: &str| text.replacen("\"suite\": 1", "\"suite\": 2", 1);
    assert!(Genesis::from_json(&genesis).is_ok());
    assert!(Genesis::from_json(&json(&genesis)).unwrap_err().to_string().contains(BY_NAME), "genesis");
    let trust = world.trust().to_json();
    assert!(Trust::from_json(&trust).is_ok());
    assert!(Trust::from_json(&json(&trust)).unwrap_err().to_string().contains(BY_NAME), "trust as JSON");
    assert_eq!(refusals(&world.trust().encode(), Trust::decode), 1 + 4, "trust: its own and each validator's");
    assert_eq!(refusals(&world.validators().encode(), ValidatorSet::decode), 4, "validators");

    let entry = |key| KeyEntry { suite: Suite::Ed25519Sha256, purpose: Purpose::Transaction, key, from: 3, until: None };
    let mut record: Record = organisation_record("n", 200);
    record.keys = vec![entry([8; 32]), entry([9; 32])];
    record.recovery = Some(Box::new(Recovery { due: 9, keys: vec![entry([7; 32])] }));
    assert_eq!(refusals(&record.encode(), Record::decode), 3, "key entries of a record, and of its recovery");

    let subject = cityid_core::code::Code::City { city: city() };
    let node = [Purpose::Transaction, Purpose::Consensus, Purpose::Checkpoint, Purpose::Tls];
    let (name, services) = ("n".to_owned(), Vec::new());
    let rotate = Action::RotateKeys { subject, expected_version: 5, add: new_keys(&node[..1]), remove: Vec::new() };
    let admit = Change::AdmitCity { city: city(), name, keys: new_keys(&node), certificate: vec![9], services };
    let replace = Change::ReplaceKeys { city: city(), keys: new_keys(&node[..2]), certificate: None };
    let propose = |change| Action::Propose { city: city(), change };
    for (action, count) in [(rotate.clone(), 1), (propose(admit), 4), (propose(replace), 2)] {
        assert_eq!(refusals(&operation(action), read_operation), count, "new keys");
    }

    let signers = vec![[8; 32], [9; 32]];
    let operations = vec![Operation { action: rotate, reason: None, basis: None }];
    let body = Body { genesis: [9; 32], valid_until: 9, nonce: vec![9; 8], signers, operations };
    let bytes = cityid_core::ledger::transaction::assemble(&body.encode(), &[[9; 64]; 2]);
    assert_eq!(refusals(&bytes, Transaction::decode), 2 + 1, "signers, and the new key");
    // The byte that stands in every tagged hash and signed message is of the suite that its structure names.
    assert!(Suite::parse(3).unwrap_err().to_string().contains("unknown suite 3"));
}
