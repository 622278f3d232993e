//! Every change that cities can decide, and why it may be refused (P61 to P68).
use crate::world::*;
use cityid_core::code::{City, Code};
use cityid_core::hash::hex;
use cityid_core::ledger::operation::possession_message;
use cityid_core::ledger::stored::Outcome;
use cityid_core::map_key::MapKey;
use cityid_core::record::{Purpose, Record, Status};
use serde_json::{json, Value};

const NEW: &str = "310000";

#[test]
fn an_admitted_city_is_a_member_that_follows_and_then_votes() {
    let mut world = World::new(4);
    let admission = world.admission(NEW);
    world.decide(admission);
    let record = world.city(NEW);
    assert_eq!((record.status, record.keys.len(), record.version), (Status::Active, 4, 1));
    assert_eq!(record.certificate.as_deref(), Some(&certificate(&public(&key("310000/tls")))[..]));
    assert_eq!(record.services, [("peer".to_owned(), "tls://node.310000.example:7001".to_owned())]);
    assert_eq!((world.configuration().members, world.ledger.validators().len()), (5, 4));
    let members = world.ledger.cities().unwrap();
    let codes: Vec<&str> = members.iter().map(|member| member.city.as_str()).collect();
    assert_eq!(codes, ["110000", "130100", NEW, "330100", "440300"]);
    assert_eq!(members.iter().filter(|member| member.committee).count(), 4);
    assert_eq!(members[2].key(Purpose::Consensus), Some(public(&key("310000/consensus"))));
    // It has a say at once: four of five.
    let number = world.propose(NEW, parameter("max_items", 500));
    for voter in ["110000", "130100", "330100"] {
        world.ok(vote(voter, number), &desk(voter));
    }
    assert_eq!(world.ledger.parameters().max_items, 500);
}

/// Takes the proof of possession along when a key is edited.
fn edited(world: &mut World, edit: impl FnOnce(&mut Value)) -> Value {
    let mut admission = world.admission(NEW);
    edit(&mut admission);
    admission
}

#[test]
fn an_admission_that_does_not_hold_what_a_city_needs_is_refused() {
    let mut world = World::new(4);
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 17] = [
        (|change| change["city"] = json!("130100"), "bad_signature"),
        (|change| drop(change["keys"].as_array_mut().unwrap().remove(0)), "no_key_left"),
        (|change| drop(change["keys"].as_array_mut().unwrap().remove(1)), "no_key_left"),
        (|change| drop(change["keys"].as_array_mut().unwrap().remove(2)), "no_key_left"),
        (|change| drop(change["keys"].as_array_mut().unwrap().remove(3)), "no_key_left"),
        (|change| change["keys"][0]["until"] = json!(1_000), "no_key_left"),
        (|change| change["keys"][0]["from"] = json!(1_000), "no_key_left"),
        (|change| change["keys"][1]["until"] = json!(1_000), "no_key_left"),
        (|change| change["keys"][3]["from"] = json!(1_000), "no_key_left"),
        (|change| change["keys"][0]["until"] = json!(1), "bad_key"),
        (|change| change["certificate"] = json!(""), "bad_certificate"),
        (|change| change["certificate"] = json!(hex(&certificate(&[1; 32]))), "bad_certificate"),
        (|change| change["services"] = json!([]), "bad_service"),
        (|change| change["services"] = json!([["peer", "https://node.example:7001"]]), "bad_service"),
        (|change| change["services"] = json!([["peer", "tls://node.example"]]), "bad_service"),
        (|change| change["services"] = json!([["peer", "tls://a:1"], ["peer", "tls://b:1"]]), "bad_service"),
        (|change| change["services"] = json!([["peer", "tls://a:1"], ["web", "javascript:alert(1)"]]), "bad_service"),
    ];
    for (edit, reason) in cases {
        let change = edited(&mut world, edit);
        if reason == "bad_signature" {
            let transaction = world.transaction(propose("110000", change), &desk("110000"));
            let refused = world.ledger.admit(&transaction).unwrap()[0].refused.clone().unwrap().to_string();
            assert!(refused.starts_with("bad_signature"), "the proofs of possession are for another city: {refused}");
        } else {
            world.unwanted(change, reason);
        }
    }
    let many: Vec<Value> = (0..9).map(|number| json!([format!("web{number}"), "https://a.example"])).collect();
    let change = edited(&mut world, |change| change["services"] = Value::Array(many));
    world.unwanted(change, "too_large");
    // Keys: of a purpose that governance does not decide, two of one that nodes are known by, one that is in use.
    let recovery = world.keys(NEW, &[Purpose::Recovery], "");
    let change = edited(&mut world, |change| change["keys"].as_array_mut().unwrap().push(recovery[0].clone()));
    world.unwanted(change, "bad_purpose");
    let second = world.keys(NEW, &[Purpose::Consensus], "/2");
    let change = edited(&mut world, |change| change["keys"].as_array_mut().unwrap().push(second[0].clone()));
    world.unwanted(change, "bad_purpose");
    let used = key("130100/transaction");
    let subject = Code::parse("MA.156.310000", None).unwrap();
    let possession = used.sign(&possession_message(&world.genesis_hash(), &subject, Purpose::Transaction, &public(&used))).to_bytes();
    let change = edited(&mut world, |change| {
        change["keys"][0] = json!({"purpose": "transaction", "key": hex(&public(&used)), "possession": hex(&possession)});
    });
    world.unwanted(change, "key_in_use");
    let admission = world.admission(NEW);
    world.decide(admission);
}

#[test]
fn a_city_is_admitted_once_for_ever() {
    let mut world = World::new(4);
    let founding = world.admission("130100");
    world.unwanted(founding, "exists");
    let admission = world.admission(NEW);
    world.decide(admission.clone());
    world.unwanted(admission.clone(), "exists");
    world.decide_by(&CITIES[..4], remove(NEW));
    assert_eq!(world.city(NEW).status, Status::Retired);
    world.unwanted(admission, "exists");
    let cities: Vec<City> = world.ledger.cities().unwrap().iter().map(|member| member.city).collect();
    assert!(cities.contains(&city(NEW)), "retired ones too");
}

#[test]
fn a_removed_city_does_nothing_any_more_and_four_stay_in_the_committee() {
    let mut world = World::new(5);
    world.unwanted(remove("990000"), "unknown_city");
    world.decide_by(&CITIES[..4], remove("510100"));
    assert_eq!((world.ledger.validators().len(), world.configuration().members), (4, 4));
    world.unwanted(remove("510100"), "bad_transition");
    world.unwanted(status("510100", "active"), "bad_transition");
    world.unwanted(remove("440300"), "committee_too_small");
    let rotate = json!({"op": "rotate_keys", "code": "MA.156.510100", "expected_version": 2, "add": [], "remove": []});
    world.refused(rotate, &desk("510100"), "suspended");
    // A member outside the committee may go.
    let admission = world.admission(NEW);
    world.decide(admission);
    world.decide_by(&CITIES[..4], remove(NEW));
    assert_eq!(world.configuration().members, 4);
}

#[test]
fn cities_are_suspended_and_reactivated_and_go_on_deciding_blocks() {
    let mut world = World::new(7);
    world.unwanted(status("990000", "suspended"), "unknown_city");
    world.unwanted(status("130100", "active"), "bad_transition");
    world.unwanted(status("130100", "retired"), "bad_transition");
    world.unwanted(status("130100", "allocated"), "bad_transition");
    world.decide_by(&CITIES[..5], status("650100", "suspended"));
    assert_eq!((world.city("650100").status, world.ledger.validators().len()), (Status::Suspended, 7));
    world.unwanted(status("650100", "suspended"), "bad_transition");
    world.unwanted(committee(&["110000", "130100", "330100", "650100"]), "suspended");
    world.decide_by(&CITIES[..5], status("610100", "suspended"));
    // Five of seven are active, and all five are needed: with one fewer nobody could ever decide anything again.
    world.unwanted(status("510100", "suspended"), "no_quorum_left");
    world.unwanted(remove("510100"), "no_quorum_left");
    world.decide_by(&CITIES[..5], remove("650100"));
    world.decide_by(&CITIES[..5], status("610100", "active"));
    let configuration = world.configuration();
    assert_eq!((configuration.members, configuration.suspended, configuration.committee.len()), (6, 0, 6));
}

#[test]
fn keys_are_replaced_by_purpose() {
    let mut world = World::new(4);
    let replace = |city: &str, keys: Value, tls: Option<[u8; 32]>| json!({"change": "replace_keys", "city": city, "keys": keys, "certificate": tls.map(|key| hex(&certificate(&key)))});
    let new = |name: &str| public(&key(name));
    let all = world.keys("440300", &[Purpose::Transaction, Purpose::Tls, Purpose::Checkpoint], "/2");
    world.unwanted(replace("440300", all.clone(), None), "bad_certificate");
    world.unwanted(replace("440300", all.clone(), Some(new("440300/tls"))), "bad_certificate");
    world.unwanted(replace("440300", json!([]), None), "unchanged");
    world.unwanted(replace("440300", json!([]), Some(new("130100/tls"))), "bad_certificate");
    let strange = world.keys("990000", &[Purpose::Transaction], "");
    world.unwanted(replace("990000", strange, None), "unknown_city");
    let old = world.keys("440300", &[Purpose::Transaction], "");
    world.unwanted(replace("440300", old, None), "key_in_use");
    let assertion = world.keys("440300", &[Purpose::Assertion], "");
    world.unwanted(replace("440300", assertion, None), "bad_purpose");
    let mut ending = world.keys("440300", &[Purpose::Transaction], "/3");
    ending[0]["until"] = json!(900);
    world.unwanted(replace("440300", ending, None), "no_key_left");
    let mut later = world.keys("440300", &[Purpose::Checkpoint], "/3");
    later[0]["from"] = json!(900);
    world.unwanted(replace("440300", later, None), "no_key_left");

    let set = world.ledger.validators();
    world.decide(replace("440300", all, Some(new("440300/tls/2"))));
    let record = world.city("440300");
    let keys: Vec<[u8; 32]> = record.keys.iter().map(|entry| entry.key).collect();
    for (name, held) in [("transaction", false), ("transaction/2", true), ("consensus", true), ("tls", false), ("tls/2", true)] {
        assert_eq!(keys.contains(&new(&format!("440300/{name}"))), held, "{name}");
    }
    assert_eq!(keys.len(), 4);
    assert_eq!(record.certificate.as_deref(), Some(&certificate(&new("440300/tls/2"))[..]));
    assert_eq!(world.ledger.validators(), set, "who decides blocks is the same");
    world.refused(propose("440300", parameter("max_items", 7)), &desk("440300"), "not_authorised");
    world.ok(propose("440300", parameter("max_items", 7)), &key("440300/transaction/2"));
    // A certificate ends before its key does: it can be made anew.
    world.decide(replace("440300", json!([]), Some(new("440300/tls/2"))));
    let admission = world.admission(NEW);
    world.decide(admission);
    let voters = ["110000", "130100", "330100", NEW];
    world.decide_by(&voters, remove(NEW));
    let replaced = world.keys(NEW, &[Purpose::Transaction], "/2");
    world.unwanted(replace(NEW, replaced, None), "bad_transition");
}

#[test]
fn a_committee_is_of_active_members() {
    let mut world = World::new(5);
    world.unwanted(committee(&CITIES[..3]), "committee_too_small");
    world.unwanted(committee(&[]), "committee_too_small");
    world.unwanted(committee(&CITIES[..5]), "unchanged");
    world.unwanted(committee(&["110000", "130100", "330100", "990000"]), "unknown_city");
    world.decide_by(&CITIES[..4], committee(&CITIES[..4]));
    assert_eq!(world.ledger.validators().len(), 4);
    world.decide_by(&CITIES[..4], remove("510100"));
    world.unwanted(committee(&CITIES[..5]), "bad_transition");
}

#[test]
fn parameters_keep_their_bounds_and_nest() {
    let mut world = World::new(4);
    for (name, value) in [("heartbeat_ms", 99), ("window", 1_000_001), ("max_services", 65), ("city_rate", 15), ("receipts", 101)] {
        world.unwanted(parameter(name, value), "bad_parameter");
    }
    world.unwanted(parameter("max_batch_bytes", 65_536), "bad_parameter");
    world.unwanted(parameter("max_block_bytes", 65_536), "bad_parameter");
    world.unwanted(parameter("max_items", 1_000), "unchanged");
    // Together they nest: both or none.
    world.decide(json!({"change": "set_parameters", "parameters": {"max_batch_bytes": 70_000, "max_block_bytes": 80_000, "window": 50}}));
    let parameters = world.ledger.parameters();
    assert_eq!((parameters.max_batch_bytes, parameters.max_block_bytes, parameters.window), (70_000, 80_000, 50));
    assert_eq!(world.ledger.genesis().parameters.window, 2_000, "the genesis stays what it was");
}

#[test]
fn protocol_versions_ascend_and_are_never_scheduled_into_the_past() {
    let mut world = World::new(4);
    for version in [0, 1, 3] {
        world.unwanted(protocol(version, 100), "bad_parameter");
    }
    let next = world.height() + 1;
    for height in [0, 1, next, next + 1] {
        world.unwanted(protocol(2, height), "too_early");
    }
    let number = world.propose("110000", protocol(2, 20));
    world.ok(vote("130100", number), &desk("130100"));
    world.pass(20 - 1 - world.height());
    world.refused(vote("330100", number), &desk("330100"), "too_early");
    world.decide(protocol(2, 40));
    world.unwanted(protocol(2, 40), "unchanged");
    world.unwanted(protocol(3, 40), "too_early");
    world.decide(protocol(2, 30));
    assert_eq!(world.configuration().protocol, [(1, 0), (2, 30)], "moved, as long as its height has not come");
    world.pass(30 - world.height());
    world.unwanted(protocol(2, 60), "bad_parameter");
}

#[test]
fn the_software_halts_at_a_protocol_that_it_does_not_know() {
    let mut world = World::new(4);
    world.decide(protocol(2, 10));
    world.decide(protocol(3, 20));
    assert_eq!(world.ledger.protocol(), 1);
    world.pass(9 - world.height());
    assert_eq!(world.ledger.protocol(), 2);
    let versions = |world: &World| cityid_core::block::Header::decode(&world.commits.last().unwrap().0).unwrap().version;
    assert_eq!(versions(&world), 1);
    world.pass(1);
    assert_eq!(versions(&world), 2, "and it goes on");
    world.pass(9);
    assert_eq!(world.ledger.protocol(), 3);
    let stopped = |result: Result<cityid_core::ledger::Candidate, cityid_core::error::Error>| match result.map(|_| ()) {
        Err(cityid_core::error::Error::Rule { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(stopped(world.execute(&[])), "unknown_protocol");
    let header = world.commits.last().unwrap().0.clone();
    assert_eq!(stopped(world.ledger.validate(&header, &[])), "unknown_protocol");
    assert!(world.ledger.answer(&cityid_core::code::Subject::parse("MA.156.130100", None).unwrap()).is_ok(), "reading goes on");
}

#[test]
fn a_header_of_the_wrong_version_is_refused() {
    let mut world = World::new(4);
    world.decide(protocol(2, 10));
    let candidate = world.execute(&[]).unwrap();
    let mut header = candidate.header.clone();
    header.version = 2;
    let error = world.ledger.validate(&header.encode(), &[]).err().unwrap().to_string();
    assert!(error.contains("protocol version"), "{error}");
    assert!(world.ledger.validate(&candidate.header_bytes, &[]).is_ok(), "the control");
}

/// Who may admit an organisation for a city, by name of the desk.
fn admits(world: &mut World, city: &str, org: &str, by: &str) -> Outcome {
    let subject = Code::parse(&format!("MA.156.{city}.{org}"), None).unwrap();
    let holder = key(org);
    let possession = holder.sign(&possession_message(&world.genesis_hash(), &subject, Purpose::Transaction, &public(&holder))).to_bytes();
    let keys = json!([{"purpose": "transaction", "key": hex(&public(&holder)), "possession": hex(&possession)}]);
    world.run(json!({"op": "admit_organisation", "city": city, "org": org, "name": "n", "quota": 1, "keys": keys}), &desk(by))
}

fn succession(record: &Record) -> (Option<City>, Vec<City>, Option<City>) {
    let succession = record.succession.clone().unwrap_or_default();
    (record.administered_by, succession.predecessors, succession.successor)
}

#[test]
fn a_merged_city_is_signed_for_by_the_one_that_continues_it_through_a_chain() {
    let mut world = World::new(7);
    let voters = ["110000", "130100", "330100", "440300", "510100"];
    let refused = |reason: &str| Outcome::Rejected(reason.to_owned(), 0);
    world.unwanted(merge("610100", "650100"), "in_committee");
    world.decide_by(&voters, committee(&CITIES[..4]));
    world.unwanted(merge("610100", "990000"), "unknown_city");
    world.unwanted(merge("990000", "610100"), "unknown_city");
    world.unwanted(merge("610100", "610100"), "bad_transition");
    world.unwanted(merge("110000", "610100"), "in_committee");
    world.decide_by(&voters, status("610100", "suspended"));
    world.unwanted(merge("610100", "650100"), "suspended");
    world.unwanted(merge("650100", "610100"), "suspended");
    world.decide_by(&voters, status("610100", "active"));

    world.decide_by(&voters, merge("610100", "650100"));
    assert_eq!(succession(&world.city("610100")), (Some(city("650100")), vec![], Some(city("650100"))));
    assert_eq!(succession(&world.city("650100")), (None, vec![city("610100")], None));
    assert_eq!(world.configuration().members, 6);
    assert_eq!(admits(&mut world, "610100", "A7K2", "610100"), refused("not_authorised"));
    assert!(matches!(admits(&mut world, "610100", "A7K2", "650100"), Outcome::Committed(_)));
    // It has no say of its own any more.
    world.refused(propose("610100", parameter("max_items", 3)), &desk("610100"), "merged");
    let number = world.propose("110000", parameter("max_items", 3));
    world.refused(vote("610100", number), &desk("610100"), "merged");
    world.unwanted(committee(&["110000", "130100", "330100", "610100"]), "merged");
    world.unwanted(merge("610100", "650100"), "bad_transition");
    world.unwanted(merge("510100", "610100"), "bad_transition");
    world.unwanted(merge("650100", "610100"), "bad_transition");

    // The one that continued it is merged too: what it administered goes along, who continued whom stays said.
    world.decide_by(&voters, merge("650100", "510100"));
    assert_eq!(succession(&world.city("650100")), (Some(city("510100")), vec![city("610100")], Some(city("510100"))));
    assert_eq!(succession(&world.city("610100")), (Some(city("510100")), vec![], Some(city("650100"))));
    assert_eq!(admits(&mut world, "610100", "B7K2", "650100"), refused("not_authorised"));
    assert!(matches!(admits(&mut world, "610100", "B7K2", "510100"), Outcome::Committed(_)));
    assert_eq!(world.configuration().members, 5);

    // And once more, now of the whole chain; then one of it is given to another city.
    world.decide_by(&voters[..4], merge("510100", "440300"));
    for code in ["610100", "650100", "510100"] {
        assert_eq!(world.city(code).administered_by, Some(city("440300")), "{code}");
    }
    world.decide_by(&["110000", "130100", "330100"], merge("610100", "330100"));
    assert_eq!(succession(&world.city("610100")), (Some(city("330100")), vec![], Some(city("330100"))));
    assert_eq!(succession(&world.city("650100")).1, [], "it is not continued by that one any more");
    assert_eq!(succession(&world.city("330100")).1, [city("610100")]);
    assert_eq!(world.configuration().members, 4);
    assert!(matches!(admits(&mut world, "610100", "C7K2", "330100"), Outcome::Committed(_)));
}

#[test]
fn what_a_removed_city_administered_finds_another() {
    let mut world = World::new(7);
    let voters = ["110000", "130100", "330100", "440300", "510100"];
    world.decide_by(&voters, committee(&CITIES[..4]));
    world.decide_by(&voters, merge("610100", "650100"));
    world.decide_by(&voters, remove("650100"));
    assert_eq!(admits(&mut world, "610100", "A7K2", "650100"), Outcome::Rejected("suspended".to_owned(), 0));
    world.decide_by(&voters[..4], merge("610100", "510100"));
    assert!(matches!(admits(&mut world, "610100", "A7K2", "510100"), Outcome::Committed(_)));
    let configuration = world.configuration();
    assert_eq!((configuration.members, configuration.suspended), (5, 0));
    assert!(world.ledger.published().state.get(&MapKey::City(city("650100")).path()).is_some(), "nothing is deleted");
}
