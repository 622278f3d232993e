//! Trust files: forms, words, and moving forward under certificates only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use cityid_core::block::{Header, Validator, ValidatorSet};
use cityid_core::error::Error;
use cityid_core::trust::Trust;
use std::collections::BTreeSet;
use support::*;

#[test]
fn a_genesis_file_is_a_trust_file() {
    let world = World::new(4);
    let trust = Trust::from_json(&world.genesis.to_json()).unwrap();
    assert_eq!(trust, world.trust());
    assert_eq!((trust.height, trust.time_ms, trust.test, trust.validators.len()), (0, START_MS, true, 4));
    assert_eq!(trust.genesis, world.genesis.hash());
}

#[test]
fn both_forms_keep_everything() {
    for cities in [4, 100] {
        let mut trust = World::new(cities).trust();
        (trust.height, trust.time_ms) = (i64::MAX as u64, i64::MAX as u64);
        assert_eq!(Trust::from_json(&trust.to_json()), Ok(trust.clone()));
        assert_eq!(Trust::decode(&trust.encode()), Ok(trust.clone()));
        assert!(trust.encode().len() < cityid_core::trust::MAX_TRUST);
    }
}

#[test]
fn files_that_are_not_trust_are_refused() {
    let text = World::new(4).trust().to_json();
    for (from, to) in [
        ("\"cityid\": \"trust\"", "\"cityid\": \"answer\""),
        ("\"suite\": 1", "\"suite\": 2"),
        ("\"suite\": 1", "\"suite\": 3"),
        ("\"test\": true", "\"test\": 1"),
        ("\"name\"", "\"extra\": 1, \"name\""),
        ("\"city\": \"110000\"", "\"city\": \"990000\""),
        ("\"city\": \"110000\"", "\"extra\": 1, \"city\": \"110000\""),
        ("\"height\": \"0\"", "\"height\": \"00\""),
        ("\"height\": \"0\"", "\"height\": \"9223372036854775808\""),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(matches!(Trust::from_json(&text.replacen(from, to, 1)), Err(Error::Malformed(_))), "{from} → {to}");
    }
    assert!(Trust::from_json("").is_err() && Trust::from_json("[]").is_err() && Trust::from_json(&" ".repeat(2 << 20)).is_err());
    let bytes = World::new(4).trust().encode();
    for end in 0..bytes.len() {
        assert!(Trust::decode(&bytes[..end]).is_err());
    }
    assert!(Trust::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn six_words_change_with_every_field() {
    let trust = World::new(4).trust();
    let words = trust.words();
    assert_eq!(words.split(' ').count(), 6);
    assert!(words.split(' ').all(|word| word.len() == 5));
    let other_set = World::new(5).validators();
    let variants = [
        trust.clone(),
        Trust { genesis: [1; 32], ..trust.clone() },
        Trust { validators: other_set, ..trust.clone() },
        Trust { height: 1, ..trust.clone() },
        Trust { time_ms: 1, ..trust.clone() },
        Trust { test: false, ..trust.clone() },
        Trust { name: "Test Network".to_owned(), ..trust.clone() },
    ];
    assert_eq!(variants.iter().map(Trust::words).collect::<BTreeSet<_>>().len(), variants.len());
}

#[test]
fn trust_moves_forward_under_its_own_validators() {
    let world = World::with_records(4);
    let trust = world.trust();
    let advanced = trust.advance(&world.block(), None).unwrap();
    assert_eq!((advanced.height, advanced.time_ms), (5, world.now_ms()));
    assert_eq!((&advanced.validators, advanced.genesis, &advanced.name), (&trust.validators, trust.genesis, &trust.name));
    // Not to the same height, not back.
    assert!(matches!(advanced.advance(&world.block(), None), Err(Error::Certificate(_))));
    let earlier = certify(&world.headers[..4], world.genesis.hash(), 4, &[0, 1, 2]);
    assert!(matches!(advanced.advance(&earlier, None), Err(Error::Certificate(_))));
    assert_eq!(trust.advance(&earlier, None).unwrap().height, 3, "the control");
    // Too few signatures, bad ones, another log.
    assert!(matches!(trust.advance(&world.block_signed_by(&[0, 1]), None), Err(Error::Certificate(_))));
    let mut bad = world.block();
    bad.signatures[0][0] ^= 1;
    assert!(matches!(trust.advance(&bad, None), Err(Error::Certificate(_))));
    let mut bad = world.block();
    bad.log_path[0][0] ^= 1;
    assert!(matches!(trust.advance(&bad, None), Err(Error::Certificate(_))));
    let mut bad = world.block();
    bad.header.pop();
    assert!(matches!(trust.advance(&bad, None), Err(Error::Malformed(_))));
    let elsewhere = Trust { genesis: [1; 32], ..trust };
    assert!(matches!(elsewhere.advance(&world.block(), None), Err(Error::Certificate(_))));
}

#[test]
fn a_header_of_another_set_is_refused_although_it_is_certified_and_one_that_names_another_brings_it() {
    let mut world = World::with_records(4);
    let trust = world.trust();
    let (own, other) = (trust.validators.hash(), World::new(5).validators());
    for change in [0, 1] {
        let mut header = Header { validators: own, next_validators: own, ..Header::decode(world.headers.last().unwrap()).unwrap() };
        if change == 0 {
            header.next_validators = other.hash();
        } else {
            header.validators = other.hash();
        }
        let length = world.headers.len();
        world.headers[length - 1] = header.encode();
        let error = trust.advance(&world.block(), None).unwrap_err();
        assert!(matches!(&error, Error::Certificate(why) if why.contains("another validator set")), "{error}");
        let with_set = trust.advance(&world.block(), Some(&other));
        assert_eq!(with_set.ok().map(|trust| trust.validators == other), (change == 0).then_some(true));
        assert!(matches!(trust.advance(&world.block(), Some(&World::new(6).validators())), Err(Error::Certificate(_))));
    }
}

#[test]
fn the_same_cities_with_other_keys_are_another_set() {
    let world = World::with_records(4);
    let set = world.validators();
    let members = set.members().iter().enumerate().map(|(index, member)| Validator { city: member.city, key: public(index, 9) });
    let trust = Trust { validators: ValidatorSet::new(members.collect()).unwrap(), ..world.trust() };
    assert!(matches!(trust.advance(&world.block(), None), Err(Error::Certificate(_))));
}
