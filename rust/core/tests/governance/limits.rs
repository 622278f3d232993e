//! Limits that governance changes (P71), the window (P19), rates in a block and turns in the pool (P72).
use crate::world::*;
use cityid_core::error::Error;
use cityid_core::hash::{hex, Hash};
use cityid_core::ledger::operation::possession_message;
use cityid_core::ledger::stored::Outcome;
use cityid_core::ledger::transaction::assemble_batch;
use cityid_core::ledger::Ledger;
use cityid_core::record::Purpose;
use serde_json::{json, Value};

fn refusal(ledger: &Ledger, transaction: &[u8]) -> String {
    match ledger.admit(transaction).unwrap().remove(0).refused {
        Some(Error::Rule { reason, .. }) => reason.to_owned(),
        Some(other) => panic!("{other}"),
        None => String::new(),
    }
}

/// So many operations that change nothing, in one transaction.
fn idle(world: &mut World, count: usize, valid_until: u64) -> (Hash, Vec<u8>) {
    let operations = Value::Array(vec![withdraw("110000", 99); count]);
    world.signed(operations, &[&desk("110000")], valid_until)
}

#[test]
fn a_narrower_limit_holds_from_the_next_block_on_for_what_waits_already() {
    let mut world = World::new(4);
    let (_, three) = idle(&mut world, 3, 100);
    let (_, one) = idle(&mut world, 1, 100);
    let batch = assemble_batch(2, &[three.clone(), one.clone()].concat());
    let digest = world.ledger.ingest(&[&batch])[0].0;
    assert!(world.ledger.is_includable(&digest, 4) && !world.ledger.is_expired(&digest, 4));
    assert!(world.execute(&[digest]).is_ok(), "the control");
    world.decide(parameter("max_operations", 2));
    assert!(!world.ledger.is_includable(&digest, 4) && world.ledger.is_expired(&digest, 4));
    let Err(Error::Rule { reason: "invalid_block", message }) = world.execute(&[digest]).map(|_| ()) else { panic!() };
    assert!(message.contains("over a limit"), "{message}");
    assert_eq!(refusal(&world.ledger, &three), "too_large");
    // What fits is not lost with what does not.
    assert_eq!(world.ledger.reclaim(&digest), 1);
    let digests = world.seal();
    assert!(world.execute(&digests).is_ok());
    // A batch of another city that was made before the change is still taken in: it may be part of a block that this node fetches.
    world.ledger.forget(&digests);
    assert_eq!(world.ledger.ingest(&[&batch])[0].1, Ok(2));
    world.decide(parameter("max_operations", 3));
    assert!(world.ledger.is_includable(&digest, world.height() + 1), "and stands again when the limit is wide again");
}

#[test]
fn limits_on_batches_and_blocks_follow_the_state() {
    let mut world = World::new(4);
    let batches: Vec<Vec<u8>> = (0..3).map(|_| assemble_batch(1, &idle(&mut world, 1, 100).1)).collect();
    let double = assemble_batch(2, &[idle(&mut world, 1, 100).1, idle(&mut world, 1, 100).1].concat());
    let bodies: Vec<&[u8]> = batches.iter().map(Vec::as_slice).chain([&double[..]]).collect();
    let digests: Vec<Hash> = world.ledger.ingest(&bodies).into_iter().map(|(digest, _)| digest).collect();
    assert!(world.execute(&digests).is_ok());
    world.decide(json!({"change": "set_parameters", "parameters": {"max_block_batches": 2, "max_batch_transactions": 1}}));
    let reason = |digests: &[Hash]| world.execute(digests).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(reason(&digests[..3]).contains("3 batches, the limit is 2"));
    assert!(reason(&digests[3..]).contains("over a limit"));
    assert_eq!(reason(&digests[..2]), "");
    assert!(world.ledger.seal(4_096, 1 << 20).is_none());
}

#[test]
fn ids_are_remembered_as_long_as_they_could_come_again_whatever_the_window_becomes() {
    for (before, after) in [(30, 12), (12, 30)] {
        let mut world = World::with(4, |json| json["parameters"]["window"] = json!(before));
        let (id, transaction) = idle(&mut world, 1, before);
        assert!(matches!(world.block(std::slice::from_ref(&transaction))[0], Outcome::Rejected(..)));
        world.decide(parameter("window", after));
        let beyond = world.height() + after + 1;
        let (_, far) = idle(&mut world, 1, beyond);
        assert_eq!(refusal(&world.ledger, &far), "too_far");
        while world.height() < before - 1 {
            let at = world.height();
            // The narrower window refuses what ends too late for it; whatever it lets in was seen before.
            let fits = before < at + 1 + after;
            let digest = world.ledger.ingest(&[&assemble_batch(1, &transaction)])[0].0;
            let fresh = world.fresh();
            restart(&fresh, &world);
            fresh.ingest(&[&assemble_batch(1, &transaction)]);
            for ledger in [&world.ledger, &fresh] {
                let result = ledger.execute(at + 1, ledger.tip().0.time_ms + 1, city("110000"), &[digest]);
                assert_eq!(result.is_ok(), fits, "height {}", at + 1);
                assert_eq!(ledger.receipt(&id).map(|(height, _)| height), Some(1));
            }
            if fits {
                let candidate = world.execute(&[digest]).unwrap();
                world.commit(candidate);
                assert_eq!(world.outcomes(), [Outcome::Duplicate]);
            } else {
                world.pass(1);
            }
        }
        world.pass(3);
        let fresh = world.fresh();
        restart(&fresh, &world);
        assert_eq!(fresh.receipt(&id), world.ledger.receipt(&id));
        assert_eq!(world.ledger.receipt(&id), None, "and then forgotten");
        assert_eq!(refusal(&world.ledger, &transaction), "expired");
    }
}

fn restart(ledger: &Ledger, world: &World) {
    let headers: Vec<&[u8]> = world.commits.iter().map(|row| &row.0[..]).collect();
    let changes: Vec<&[u8]> = world.commits.iter().map(|row| &row.1.changes[..]).collect();
    let receipts: Vec<&[u8]> = world.commits.iter().map(|row| &row.1.receipts[..]).collect();
    ledger.replay(&headers, &changes, &receipts, &world.commits.last().unwrap().2).unwrap();
}

/// 130100 admits an organisation with this rate, a category and a range of a thousand serials.
fn organisation(world: &mut World, org: &str, rate: Option<u64>) {
    let subject = cityid_core::code::Code::parse(&format!("MA.156.130100.{org}"), None).unwrap();
    let holder = key(org);
    let possession = holder.sign(&possession_message(&world.genesis_hash(), &subject, Purpose::Transaction, &public(&holder))).to_bytes();
    let keys = json!([{"purpose": "transaction", "key": hex(&public(&holder)), "possession": hex(&possession)}]);
    world.ok(
        json!({"op": "admit_organisation", "city": "130100", "org": org, "name": "n", "quota": 1_000_000, "rate": rate, "keys": keys}),
        &desk("130100"),
    );
    world.ok(json!({"op": "allocate_range", "city": "130100", "org": org, "class": "010203", "size": 1000}), &holder);
    world.ok(
        json!({"op": "register_category", "city": "130100", "org": org, "use": "60", "class": "010203", "model": "1", "name": "n"}),
        &holder,
    );
}

fn register(org: &str, serials: std::ops::Range<u32>) -> Value {
    let items: Vec<Value> = serials.map(|serial| json!({"serial": serial})).collect();
    json!({"op": "register_items", "city": "130100", "org": org, "use": "60", "class": "010203", "model": "1", "items": items})
}

fn reasons(outcomes: &[Outcome]) -> Vec<&str> {
    outcomes.iter().map(|outcome| if let Outcome::Rejected(reason, _) = outcome { reason.as_str() } else { "" }).collect()
}

#[test]
fn an_organisation_does_so_much_in_a_block_and_the_others_do_not_notice() {
    let mut world = World::with(4, |json| json["parameters"]["organisation_rate"] = json!(10));
    organisation(&mut world, "A7K2", None);
    organisation(&mut world, "B7K2", Some(4));
    let (a, b) = (key("A7K2"), key("B7K2"));
    let sent = [
        world.transaction(register("A7K2", 0..6), &a),
        world.transaction(register("B7K2", 1000..1003), &b),
        world.transaction(register("A7K2", 6..10), &a),
        world.transaction(register("A7K2", 10..11), &a),
        world.transaction(register("A7K2", 10..11), &a),
        world.transaction(register("B7K2", 1003..1005), &b),
        world.transaction(register("B7K2", 1003..1004), &b),
    ];
    let rate = "rate_exceeded";
    let outcomes = world.block(&sent);
    assert_eq!(reasons(&outcomes), ["", "", "", rate, rate, rate, rate], "who passed its rate is done for this block");
    assert!(matches!(world.run(register("A7K2", 10..11), &a), Outcome::Committed(_)), "in the next block it goes on");
    assert!(matches!(world.run(register("B7K2", 1003..1004), &b), Outcome::Committed(_)));
    // Operations of one transaction add up, and what was refused was done too.
    let valid_until = world.height() + 5;
    let eleven = Value::Array((20..31).map(|serial| register("A7K2", serial..serial + 1)).collect());
    let (_, together) = world.signed(eleven, &[&a], valid_until);
    let root = world.root();
    assert_eq!(world.block(&[together]), [Outcome::Rejected(rate.to_owned(), 10)]);
    assert_eq!(world.root(), root);
    let wrong: Vec<Vec<u8>> = (0..3).map(|_| world.transaction(register("A7K2", 500..505), &a)).collect();
    let good = world.transaction(register("A7K2", 20..21), &a);
    let outside = world.transaction(register("A7K2", 5_000..5_010), &a);
    assert_eq!(reasons(&world.block(&[outside, good])), ["not_in_range", rate], "a refused operation is charged");
    assert_eq!(reasons(&world.block(&wrong)), ["", "exists", rate]);
}

#[test]
fn nobody_uses_up_the_rate_of_another() {
    let mut world = World::with(4, |json| json["parameters"]["organisation_rate"] = json!(5));
    organisation(&mut world, "A7K2", None);
    let (a, stranger) = (key("A7K2"), key("stranger"));
    let mut sent: Vec<Vec<u8>> = (0..10).map(|_| world.transaction(register("A7K2", 0..5), &stranger)).collect();
    sent.push(world.transaction(register("A7K2", 0..5), &a));
    let outcomes = world.block(&sent);
    assert_eq!(reasons(&outcomes)[..10], ["not_authorised"; 10]);
    assert!(matches!(outcomes[10], Outcome::Committed(_)));
}

#[test]
fn a_city_has_a_rate_too_for_itself_and_for_what_it_administers() {
    let mut world = World::with(4, |json| json["parameters"]["city_rate"] = json!(16));
    let range = json!({"op": "allocate_range", "city": "130100", "class": "010203", "size": 1000});
    let transactions: Vec<Vec<u8>> = (0..17).map(|_| world.transaction(range.clone(), &desk("130100"))).collect();
    let outcomes = world.block(&transactions);
    assert_eq!(reasons(&outcomes)[15..], ["", "rate_exceeded"]);
    world.decide(parameter("city_rate", 17));
    let transactions: Vec<Vec<u8>> = (0..17).map(|_| world.transaction(range.clone(), &desk("130100"))).collect();
    assert!(world.block(&transactions).iter().all(|outcome| matches!(outcome, Outcome::Committed(_))));
}

#[test]
fn a_spammer_waits_for_himself() {
    let mut world = World::new(4);
    organisation(&mut world, "A7K2", None);
    let (a, b) = (key("A7K2"), desk("440300"));
    let operation = withdraw("110000", 99);
    let mut taken = 0;
    let mut refused = Vec::new();
    for _ in 0..100 {
        let flood: Vec<u8> = (0..1_000).flat_map(|_| world.transaction(operation.clone(), &a)).collect();
        for admission in world.ledger.admit(&flood).unwrap() {
            match admission.refused {
                None => taken += 1,
                Some(Error::Rule { reason, .. }) => refused.push(reason),
                Some(other) => panic!("{other}"),
            }
        }
    }
    assert!(taken > 40_000 && refused.iter().all(|reason| *reason == "pool_share"), "{taken} taken, {} refused", refused.len());
    let honest: Vec<Vec<u8>> = (0..50).map(|_| world.transaction(operation.clone(), &b)).collect();
    // Keys that nobody registered share one queue, however many they are.
    let nobody: Vec<u8> = (0..2_000).flat_map(|number| world.transaction(operation.clone(), &key(&format!("fresh {number}")))).collect();
    assert!(world.ledger.admit(&nobody).unwrap().iter().all(|admission| admission.refused.is_none()));
    assert!(world.ledger.admit(&honest.concat()).unwrap().iter().all(|admission| admission.refused.is_none()));
    let batch = world.ledger.seal(1_000, 1 << 20).unwrap();
    let own = public(&b);
    let mine = batch.transactions.iter().filter(|transaction| transaction.body.signers == [own]).count();
    assert_eq!((batch.transactions.len(), mine), (1_000, 50), "all of them are in the next batch");
    let spam = batch.transactions.iter().filter(|transaction| transaction.body.signers == [public(&a)]).count();
    assert!((400..600).contains(&spam), "{spam}");
}
