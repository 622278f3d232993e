//! Changes of the validator set: whose certificates count when, how trust follows, and that a restart knows the same (P36, P69, P75).
use crate::world::*;
use cityid_core::answer::{verify, CertifiedHeader, Options, VerdictKind};
use cityid_core::block::{Header, ValidatorSet};
use cityid_core::code::Subject;
use cityid_core::error::Error;
use cityid_core::hash::Hash;
use cityid_core::ledger::stored::Outcome;
use cityid_core::ledger::Ledger;
use cityid_core::record::Purpose;
use cityid_core::trust::Trust;
use cityid_core::vote::{verify_certificate, CommitCertificate};
use serde_json::json;

/// A world whose set changed in all the ways it can; heights 1 to its tip are in `commits`.
fn changed() -> World {
    let mut world = World::new(4);
    let (first, second) = (world.admission("310000"), world.admission("320000"));
    world.decide(first);
    world.decide_by(&CITIES[..4], second);
    let voters = ["110000", "130100", "330100", "440300", "310000"];
    world.decide_by(&voters, committee(&["110000", "130100", "310000", "320000", "330100"]));
    world.pass(2);
    let keys = world.keys("110000", &[Purpose::Consensus], "/2");
    world.decide_by(&voters, json!({"change": "replace_keys", "city": "110000", "keys": keys}));
    world.decide_by(&voters, remove("320000"));
    world.decide_by(&["110000", "130100", "330100", "440300"], committee(&["130100", "310000", "330100", "440300"]));
    world.pass(3);
    world
}

fn genesis_trust(world: &World) -> Trust {
    Trust::from_genesis(world.ledger.genesis()).unwrap()
}

/// The header of a height with the certificate that decided it.
fn certified(world: &World, height: u64) -> CertifiedHeader {
    let (header, _, certificate) = &world.commits[height as usize - 1];
    let path = world.ledger.inclusion(height, height + 1).unwrap();
    CertifiedHeader::from_certificate(header.clone(), path, &CommitCertificate::decode(certificate).unwrap())
}

fn headers(world: &World) -> Vec<Header> {
    world.commits.iter().map(|(header, ..)| Header::decode(header).unwrap()).collect()
}

#[test]
fn each_height_is_decided_by_the_set_that_the_header_before_it_names() {
    let world = changed();
    let mut set = world.ledger.genesis().validators().unwrap().hash();
    let mut changes = Vec::new();
    for header in headers(&world) {
        assert_eq!(header.validators, set, "height {}", header.height);
        assert_eq!(world.ledger.validators_at(header.height).unwrap().hash(), set);
        if header.next_validators != set {
            changes.push((header.height, header.next_validators));
        }
        set = header.next_validators;
    }
    assert_eq!(changes.len(), 4, "a committee, a key, a removal, a committee");
    let told: Vec<(u64, Hash)> = world.ledger.set_changes(0).iter().map(|(height, set)| (*height, set.hash())).collect();
    assert_eq!(told, changes);
    assert_eq!(world.ledger.set_changes(changes[1].0).len(), 2);
    assert_eq!(world.ledger.set_changes(u64::MAX), []);
    let tip = world.height();
    assert_eq!(world.ledger.validators_at(tip + 1).unwrap(), world.ledger.validators());
    assert!(matches!(world.ledger.validators_at(tip + 2), Err(Error::Rule { reason: "unknown_height", .. })));
    for (_, set) in world.ledger.set_changes(0) {
        assert_eq!(ValidatorSet::decode(&set.encode()).as_ref(), Ok(&*set));
    }
    // The commit of each change says so.
    for (height, _) in changes {
        assert!(world.commits[height as usize - 1].1.configuration);
    }
}

#[test]
fn certificates_of_the_old_set_stop_counting_with_the_next_height() {
    let mut world = World::new(5);
    let old = world.ledger.validators();
    world.decide_by(&CITIES[..4], committee(&["110000", "330100", "440300", "510100"]));
    let new = world.ledger.validators();
    assert_ne!(old, new);
    let candidate = world.execute(&[]).unwrap();
    assert_eq!((candidate.header.validators, candidate.header.next_validators), (new.hash(), new.hash()));
    let (by_old, by_new) = (world.certify(&candidate, &old), world.certify(&candidate, &new));
    let genesis = world.genesis_hash();
    let count = |set: &ValidatorSet, bytes: &[u8]| verify_certificate(&genesis, &set.keys(), &CommitCertificate::decode(bytes).unwrap());
    assert!(matches!(count(&new, &by_old), Err(Error::Certificate(_))));
    assert_eq!((count(&new, &by_new), count(&old, &by_old)), (Ok(3), Ok(4)), "the controls");
    let again = world.execute(&[]).unwrap();
    let height = world.height();
    assert!(matches!(world.ledger.commit(candidate, &by_old), Err(Error::Certificate(_))));
    assert_eq!(world.height(), height);
    world.ledger.commit(again, &by_new).unwrap();
    assert_eq!(world.height(), height + 1);
}

#[test]
fn only_the_committee_proposes_blocks() {
    let mut world = World::new(5);
    world.decide_by(&CITIES[..4], committee(&["110000", "330100", "440300", "510100"]));
    let (tip, _) = world.ledger.tip();
    let propose = |by: &str| world.ledger.execute(tip.height + 1, tip.time_ms + 1, city(by), &[]).map(|_| ());
    assert!(matches!(propose("130100"), Err(Error::Rule { reason: "invalid_block", .. })));
    assert_eq!(propose("510100"), Ok(()));
}

#[test]
fn trust_walks_from_the_genesis_over_every_change_and_takes_no_short_cut() {
    let world = changed();
    let mut trust = genesis_trust(&world);
    let tip = world.height();
    let mut founded = World::new(4);
    founded.pass(1);
    let early = founded.ledger.answer(&Subject::parse("MA.156.130100", None).unwrap()).unwrap();
    assert_eq!(verify(&early, &trust, &Options::default()).verdict, VerdictKind::Registered);
    let subject = Subject::parse("MA.156.130100", None).unwrap();
    let answer = world.ledger.answer(&subject).unwrap();
    let ask = |trust: &Trust| verify(&answer, trust, &Options::default());
    let changes = world.ledger.set_changes(0);
    for (height, set) in &changes {
        assert_eq!(ask(&trust).verdict, VerdictKind::Unknown, "under a set that trust does not know yet");
        assert!(ask(&trust).notes.iter().any(|note| note.contains("update trust")));
        let error = trust.advance(&certified(&world, tip), None).unwrap_err();
        assert!(error.to_string().contains("another validator set"), "{error}");
        let block = certified(&world, *height);
        assert!(trust.advance(&block, None).unwrap_err().to_string().contains("give that set"));
        assert!(trust.advance(&block, Some(&trust.validators)).unwrap_err().to_string().contains("not the one it names"));
        let mut unsigned = block.clone();
        unsigned.signatures[0][0] ^= 1;
        assert!(matches!(trust.advance(&unsigned, Some(set)), Err(Error::Certificate(_))));
        let next = trust.advance(&block, Some(set)).unwrap();
        assert_eq!((next.height, &next.validators, next.genesis), (*height, &**set, trust.genesis));
        assert!(matches!(next.advance(&block, Some(set)), Err(Error::Certificate(_))), "not twice");
        trust = next;
    }
    assert_eq!(ask(&trust).verdict, VerdictKind::Registered);
    // An answer from before the change that trust was led over was decided by others.
    let earlier = verify(&early, &trust, &Options::default());
    assert_eq!(earlier.verdict, VerdictKind::Unknown);
    assert!(earlier.notes.iter().any(|note| note.contains("older than trust")));
    let at_tip = trust.advance(&certified(&world, tip), None).unwrap();
    assert_eq!((at_tip.height, &at_tip.validators), (tip, &trust.validators));
    assert_eq!(ask(&at_tip).verdict, VerdictKind::Registered);
    // A set that comes along where nothing changes must be the one that stays.
    assert!(trust.advance(&certified(&world, tip), Some(&trust.validators)).is_ok());
    assert!(matches!(trust.advance(&certified(&world, tip), Some(&changes[0].1)), Err(Error::Certificate(_))));
    // The last but one change before the last one is no way round it.
    assert!(matches!(genesis_trust(&world).advance(&certified(&world, changes[1].0), Some(&changes[1].1)), Err(Error::Certificate(_))));
}

#[test]
fn what_a_retired_set_signs_later_is_not_believed() {
    let mut world = World::new(5);
    let old = world.ledger.validators();
    let start = genesis_trust(&world);
    world.decide_by(&CITIES[..4], committee(&["110000", "330100", "440300", "510100"]));
    let (change, set) = world.ledger.set_changes(0).remove(0);
    let trust = start.advance(&certified(&world, change), Some(&set)).unwrap();
    let next = world.execute(&[]).unwrap();
    // The old set forges a header of its own that goes on from the change, and certifies it.
    let mut header = next.header.clone();
    (header.validators, header.next_validators) = (old.hash(), old.hash());
    let mut forged = next;
    forged.header_bytes = header.encode();
    let leaves: Vec<Hash> = std::iter::once(world.genesis_header())
        .chain(world.commits.iter().map(|(header, ..)| header.clone()))
        .chain([forged.header_bytes.clone()])
        .map(|header| cityid_core::log::leaf_hash(&header))
        .collect();
    forged.value = cityid_core::log::root(&leaves);
    let certificate = CommitCertificate::decode(&world.certify(&forged, &old)).unwrap();
    let path = inclusion_of_last(&leaves);
    let block = CertifiedHeader::from_certificate(forged.header_bytes, path, &certificate);
    assert!(matches!(trust.advance(&block, None), Err(Error::Certificate(_))));
    assert!(matches!(trust.advance(&block, Some(&old)), Err(Error::Certificate(_))));
    assert!(start.advance(&block, None).is_ok(), "the control: to a trust that never heard of the change it is good");
}

/// RFC 9162 section 2.1.3.1, for the last leaf: at each split the left half is the sibling.
fn inclusion_of_last(leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let split = leaves.len().next_power_of_two() / 2;
    let mut path = inclusion_of_last(&leaves[split..]);
    path.push(cityid_core::log::root(&leaves[..split]));
    path
}

fn replay(ledger: &Ledger, rows: &[(Vec<u8>, cityid_core::ledger::Commit, Vec<u8>)]) -> Result<(), Error> {
    let headers: Vec<&[u8]> = rows.iter().map(|row| &row.0[..]).collect();
    let changes: Vec<&[u8]> = rows.iter().map(|row| &row.1.changes[..]).collect();
    let receipts: Vec<&[u8]> = rows.iter().map(|row| &row.1.receipts[..]).collect();
    ledger.replay(&headers, &changes, &receipts, &rows.last().unwrap().2)
}

#[test]
fn a_restart_over_several_changes_of_the_set_knows_the_same() {
    let world = changed();
    let rows = &world.commits;
    for part in [1, 3, 7, rows.len()] {
        let ledger = world.fresh();
        for chunk in rows.chunks(part) {
            replay(&ledger, chunk).unwrap();
        }
        assert_eq!(ledger.rules(), world.ledger.rules());
        assert_eq!(ledger.set_changes(0), world.ledger.set_changes(0));
        assert_eq!(ledger.tip(), world.ledger.tip());
        for height in 0..=world.height() + 1 {
            assert_eq!(ledger.validators_at(height), world.ledger.validators_at(height));
        }
        let members =
            |ledger: &Ledger| ledger.cities().unwrap().into_iter().map(|member| (member.city, member.committee)).collect::<Vec<_>>();
        assert_eq!(members(&ledger), members(&world.ledger));
        let tip = world.ledger.tip().0;
        let proposer = world.ledger.validators().members()[0].city;
        let next = |ledger: &Ledger| ledger.execute(tip.height + 1, tip.time_ms + 1, proposer, &[]).unwrap().header_bytes;
        assert_eq!(next(&ledger), next(&world.ledger));
    }
}

#[test]
fn a_store_whose_headers_name_other_cities_than_its_records_is_refused() {
    let mut world = World::new(5);
    world.decide_by(&CITIES[..4], committee(&["110000", "330100", "440300", "510100"]));
    world.pass(1);
    // The records of the height that changed the set are replaced by none: the header names a set that nothing leads to.
    let without = |world: &World, height: usize| {
        let headers: Vec<&[u8]> = world.commits.iter().map(|row| &row.0[..]).collect();
        let receipts: Vec<&[u8]> = world.commits.iter().map(|row| &row.1.receipts[..]).collect();
        let changes: Vec<&[u8]> =
            world.commits.iter().enumerate().map(|(index, row)| if index == height { &[][..] } else { &row.1.changes[..] }).collect();
        world.fresh().replay(&headers, &changes, &receipts, &world.commits.last().unwrap().2)
    };
    assert_eq!(without(&world, usize::MAX), Ok(()), "the control");
    match without(&world, 3) {
        Err(Error::Rule { reason: "invalid_block", message }) => assert!(message.contains("not under the cities"), "{message}"),
        other => panic!("{other:?}"),
    }
    // A certificate of the set that was replaced does not end a replay either.
    let candidate = world.execute(&[]).unwrap();
    let old = world.ledger.genesis().validators().unwrap();
    let forged = world.certify(&candidate, &old);
    world.commit(candidate);
    let last = world.commits.len() - 1;
    let good = std::mem::replace(&mut world.commits[last].2, forged);
    assert!(matches!(replay(&world.fresh(), &world.commits), Err(Error::Certificate(_))));
    world.commits[last].2 = good;
    assert_eq!(replay(&world.fresh(), &world.commits), Ok(()));
}

#[test]
fn a_change_takes_effect_after_its_block_and_not_within_it() {
    let mut world = World::new(5);
    let number = world.propose("110000", committee(&CITIES[..4]));
    for voter in &CITIES[1..3] {
        world.ok(vote(voter, number), &desk(voter));
    }
    // The deciding vote, and after it in the same block what the new limits would forbid.
    let items = world.propose("110000", parameter("max_operations", 1));
    for voter in &CITIES[1..3] {
        world.ok(vote(voter, items), &desk(voter));
    }
    let deciding =
        [world.transaction(vote(CITIES[3], number), &desk(CITIES[3])), world.transaction(vote(CITIES[3], items), &desk(CITIES[3]))];
    let valid_until = world.height() + 5;
    let two = json!([withdraw("110000", 99), withdraw("110000", 99)]);
    let (_, long) = world.signed(two, &[&desk("110000")], valid_until);
    let set = world.ledger.validators();
    let outcomes = world.block(&[deciding[0].clone(), deciding[1].clone(), long]);
    assert_eq!(outcomes[2], Outcome::Rejected("unknown_proposal".to_owned(), 0), "it was within the limits of its block");
    assert_eq!(world.ledger.published().validators, set, "who certified the block");
    assert_eq!((world.ledger.validators().len(), world.ledger.parameters().max_operations), (4, 1));
}
