//! Cities agree: with everybody there, with silent and late ones, with lost messages, with a liar, and as followers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod common;

use cityid_consensus::{Effect, TimerKind};
use common::{borrowed, engine, Net};

#[test]
fn four_and_seven_cities_decide_in_the_first_round() {
    for count in [4, 7] {
        let mut net = Net::new(count, 20);
        net.run().unwrap();
        net.check();
        assert!(net.cities.iter().all(|city| city.decided.values().all(|decision| decision.round == 0)));
        assert!(net.cities.iter().all(|city| city.evidence.is_empty()));
        assert_eq!(net.now_us, 0, "no timer was needed");
    }
}

#[test]
fn one_city_decides_alone() {
    let mut net = Net::new(1, 5);
    net.run().unwrap();
    net.check();
}

#[test]
fn a_silent_proposer_costs_a_round_and_no_more() {
    let mut net = Net::new(4, 20);
    net.cities[0].silent = true;
    net.run().unwrap();
    net.check();
    for (height, decision) in &net.cities[1].decided {
        assert_eq!(decision.round, i32::from(height % 4 == 0), "height {height}");
    }
    assert_eq!(net.cities[0].decided.len(), 20, "the silent city hears the others");
}

#[test]
fn lost_messages_delay_and_never_divide() {
    for loss_percent in [5, 20, 40] {
        let mut net = Net::new(7, 10);
        net.loss_percent = loss_percent;
        net.run().unwrap();
        net.check();
        let rounds = net.cities.iter().flat_map(|city| city.decided.values()).map(|decision| decision.round).max().unwrap();
        if loss_percent == 40 {
            assert!(rounds > 0 && net.synced > 0, "the control: the loss was felt ({rounds} rounds, {} synced)", net.synced);
        }
    }
}

#[test]
fn a_double_vote_is_proven_to_everybody() {
    let mut net = Net::new(4, 3);
    // A second engine with the key of city 3 gives up on height 1 at once, while the first votes for a value.
    let mut twin = engine(3);
    let mut effects = twin.start_height(1, &net.validators).unwrap();
    effects.extend(twin.timeout(TimerKind::Propose, 0).unwrap());
    let lies: Vec<Vec<u8>> = effects
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Publish(message) => Some(message),
            _ => None,
        })
        .collect();
    assert_eq!(lies.len(), 1);
    for who in 0..3 {
        net.start(who, 1).unwrap();
        net.cities[who].inbox.extend(lies.clone());
    }
    net.run().unwrap();
    net.check();
    let proof = net.cities.iter().flat_map(|city| &city.evidence).next().expect("somebody saw both votes");
    assert_eq!(proof.kind, "vote");
    assert_ne!(proof.first, proof.second);
    let author = |message: &[u8]| message[message.len() - 84..message.len() - 64].to_vec();
    assert_eq!(author(&proof.first), author(&proof.second));
}

#[test]
fn a_city_that_was_away_catches_up_by_certificates() {
    let mut net = Net::new(4, 30);
    net.cities[2].down = true;
    net.run().unwrap();
    net.cities[2].down = false;
    net.run().unwrap();
    net.check();
    assert_eq!(net.synced, 30);
    // Everything came from certificates: it signed nothing about what was decided without it.
    assert!(net.cities[2].sent.len() < 30);
}

#[test]
fn bad_certificates_are_rejected_and_a_good_one_then_accepted() {
    let mut net = Net::new(4, 2);
    net.run().unwrap();
    let good = net.cities[0].decided[&1].clone();
    let other = net.cities[0].decided[&2].clone();
    let mut late = engine(9);
    late.start_height(1, &net.validators).unwrap();
    let mut forged = good.certificate.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut few = cityid_core::vote::CommitCertificate::decode(&good.certificate).unwrap();
    few.signatures.truncate(2);
    let mut another_set = few.clone();
    another_set.validators = 3;
    let cases = [
        ("signature", forged, good.value),
        ("height", other.certificate, other.value),
        ("value", good.certificate.clone(), other.value),
        ("quorum", few.encode(), good.value),
        ("set", another_set.encode(), good.value),
        ("cut", good.certificate[..60].to_vec(), good.value),
    ];
    for (name, certificate, value) in cases {
        let effects = late.sync_value(&certificate, value).unwrap();
        assert!(matches!(effects.as_slice(), [Effect::SyncRejected { .. }]), "{name}: {effects:?}");
        assert_eq!((late.height(), late.step()), (1, "propose"), "{name}");
    }
    let effects = late.sync_value(&good.certificate, good.value).unwrap();
    assert!(matches!(effects.last(), Some(Effect::SyncVerified { height: 1, value, .. }) if *value == good.value), "{effects:?}");
}

#[test]
fn a_follower_learns_every_decision_and_says_nothing() {
    let mut net = Net::new(4, 10);
    let follower = net.add_follower();
    net.run().unwrap();
    net.check();
    assert_eq!(net.cities[follower].decided.len(), 10);
    assert!(net.cities[follower].sent.is_empty());
    assert_eq!(net.cities[follower].engine.counters().signed, 0);
}

#[test]
fn signatures_are_verified_once_for_each_city() {
    let mut net = Net::new(7, 10);
    net.run().unwrap();
    net.check();
    for city in &net.cities {
        let counters = city.engine.counters();
        // A height has a proposal and 14 votes; late ones of a decided height are dropped unverified.
        let verified = counters.verify.single + counters.verify.batched;
        assert!(verified <= 10 * 15, "{counters:?}");
        assert!(verified >= 10 * 10, "{counters:?}");
        assert!(counters.verify.remembered >= 10 * 5, "decisions are checked from memory: {counters:?}");
        assert_eq!((counters.forged, counters.malformed, counters.verify.refused), (0, 0, 0));
    }
}

#[test]
fn the_engine_asks_a_started_height_of_nobody_else() {
    let mut net = Net::new(4, 1);
    net.run().unwrap();
    let message = net.cities[0].sent[0].clone();
    let mut new = engine(1);
    assert!(new.receive(&borrowed(&[message])).is_err());
    assert!(new.timeout(TimerKind::Propose, 0).is_err());
    assert!(new.propose(1, 0, [0; 32]).is_err());
    assert!(new.start_height(0, &net.validators).is_err());
    assert!(new.start_height(1, &[]).is_err());
    assert_eq!((new.height(), new.round(), new.step()), (0, -1, "unstarted"));
    new.start_height(5, &net.validators).unwrap();
    for height in [1, 4, 5] {
        assert!(new.start_height(height, &net.validators).is_err(), "a height runs once");
    }
    assert!(new.recover(6, &net.validators, &[]).is_err());
    new.start_height(7, &net.validators).unwrap();
    assert_eq!((new.height(), new.round(), new.step()), (7, 0, "propose"));
}
