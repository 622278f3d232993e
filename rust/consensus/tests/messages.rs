//! What arrives from outside: forged, malformed, early, late and random messages are refused by name, and count for nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod common;

use cityid_consensus::{message_height, Effect, Engine, ProposedBlock, Signer, Timeouts, TimerKind, MAX_MESSAGE_BYTES};
use cityid_core::hash::sha256;
use cityid_core::vote::{sign_bytes, VoteKind, NO_ROUND};
use common::{borrowed, engine, keys, public, secret, MemoryKey, Net, GENESIS};

const VALUE: [u8; 32] = [7; 32];

/// A vote of a city, built without the engine: the test's own reading of the wire format and the sign-bytes.
fn vote(genesis: &[u8; 32], city: usize, kind: VoteKind, height: u64, round: i32, value: [u8; 32]) -> Vec<u8> {
    let mut out = vec![kind as u8];
    out.extend_from_slice(&height.to_be_bytes());
    out.extend_from_slice(&round.to_be_bytes());
    if kind.names_value() {
        out.extend_from_slice(&value);
    }
    out.extend_from_slice(&sha256(&public(city))[..20]);
    out.extend_from_slice(&secret(city).sign(&sign_bytes(kind, genesis, height, round, NO_ROUND, &value)).to_bytes());
    out
}

fn prevote(city: usize, height: u64) -> Vec<u8> {
    vote(&GENESIS, city, VoteKind::PrevoteValue, height, 0, VALUE)
}

fn proposal(city: usize, height: u64, round: i32) -> Vec<u8> {
    let mut out = vec![b'P'];
    out.extend_from_slice(&height.to_be_bytes());
    out.extend_from_slice(&round.to_be_bytes());
    out.extend_from_slice(&NO_ROUND.to_be_bytes());
    out.extend_from_slice(&VALUE);
    out.extend_from_slice(&sha256(&public(city))[..20]);
    out.extend_from_slice(&secret(city).sign(&sign_bytes(VoteKind::Proposal, &GENESIS, height, round, NO_ROUND, &VALUE)).to_bytes());
    out
}

/// City 0 of seven at height 1, which executed the proposed block and is waiting for votes; 1 is the proposer.
fn waiting() -> Engine {
    let mut engine = engine(0);
    engine.start_height(1, &keys(7)).unwrap();
    let block = ProposedBlock { height: 1, round: 0, valid_round: -1, proposer: 1, value: VALUE, valid: true, sync: false };
    engine.proposed_value(block).unwrap();
    engine.receive(&borrowed(&[proposal(1, 1, 0)])).unwrap();
    assert_eq!(engine.step(), "prevote");
    engine
}

fn errors(effects: &[Effect]) -> Vec<(Option<usize>, &str)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Error { reason, position } => Some((*position, reason.as_str())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_forged_vote_is_refused_and_its_neighbours_count() {
    let mut engine = waiting();
    // Its own prevote and four good ones are a quorum of seven; the forged one is in their midst.
    let mut inbox: Vec<Vec<u8>> = (1..6).map(|city| prevote(city, 1)).collect();
    *inbox[2].last_mut().unwrap() ^= 1;
    let effects = engine.receive(&borrowed(&inbox)).unwrap();
    let errors = errors(&effects);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].0, Some(2));
    assert!(errors[0].1.contains("does not verify"), "{errors:?}");
    assert_eq!(engine.step(), "precommit");
    assert_eq!((engine.counters().forged, engine.counters().verify.refused), (1, 1));
    // The control: with two forged votes there is no quorum.
    let mut engine = waiting();
    *inbox[3].last_mut().unwrap() ^= 1;
    engine.receive(&borrowed(&inbox)).unwrap();
    assert_eq!(engine.step(), "prevote");
    // And the honest ones still count when they come again.
    engine.receive(&borrowed(&[prevote(3, 1)])).unwrap();
    assert_eq!(engine.step(), "precommit");
}

#[test]
fn a_signature_counts_only_for_what_it_signed() {
    let mut engine = waiting();
    let good = prevote(1, 1);
    let replaced = |from: usize, bytes: &[u8]| {
        let mut message = good.clone();
        message[from..from + bytes.len()].copy_from_slice(bytes);
        message
    };
    let cases = [
        ("another network", vote(&[1; 32], 1, VoteKind::PrevoteValue, 1, 0, VALUE)),
        ("a precommit made of a prevote", replaced(0, b"V")),
        ("another round", replaced(9, &1i32.to_be_bytes())),
        ("another value", replaced(13, &[8; 32])),
        ("another voter", replaced(45, &sha256(&public(2))[..20])),
        ("a voter outside the set", prevote(7, 1)),
        ("a proposal of a city whose turn it is not", proposal(2, 1, 0)),
    ];
    for (name, message) in &cases {
        let effects = engine.receive(&[message.as_slice()]).unwrap();
        assert_eq!(errors(&effects).len(), 1, "{name}: {effects:?}");
        assert!(effects.iter().all(|effect| matches!(effect, Effect::Error { .. })), "{name}: nothing may be logged");
    }
    let effects = engine.receive(&[good.as_slice()]).unwrap();
    assert!(matches!(effects.as_slice(), [Effect::Log { entry, .. }] if *entry == good));
}

#[test]
fn malformed_messages_are_named_and_leave_no_trace() {
    let mut engine = waiting();
    let good = prevote(1, 1);
    let inbox: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![b'v'],
        b"junk".to_vec(),
        good[..good.len() - 1].to_vec(),
        [good.as_slice(), &[0]].concat(),
        vec![b'T'; 14],
        vec![b'R'; MAX_MESSAGE_BYTES + 1],
        good,
    ];
    let effects = engine.receive(&borrowed(&inbox)).unwrap();
    let positions: Vec<_> = errors(&effects).into_iter().map(|(position, _)| position).collect();
    assert_eq!(positions, (0..7).map(Some).collect::<Vec<_>>());
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Log { .. })).count(), 1, "the good one counts");
    assert_eq!(engine.counters().malformed, 7);
    assert_eq!(engine.counters().verify.refused, 0, "nothing malformed is verified");
}

#[test]
fn early_messages_wait_and_older_ones_are_dropped() {
    let mut engine = waiting();
    assert_eq!(message_height(&prevote(1, 2)), Ok(2));
    // Five prevotes of height 2 arrive before height 1 is over; one is forged, one is from outside, one comes twice.
    let mut inbox: Vec<Vec<u8>> = (1..6).map(|city| prevote(city, 2)).collect();
    *inbox[4].last_mut().unwrap() ^= 1;
    inbox.push(prevote(8, 2));
    inbox.push(prevote(1, 3));
    let effects = engine.receive(&borrowed(&inbox)).unwrap();
    assert_eq!(errors(&effects).len(), 1, "{effects:?}");
    assert!(engine.receive(&borrowed(&inbox[..4])).unwrap().is_empty(), "known already");
    let counters = engine.counters();
    assert_eq!((counters.early, counters.ahead, counters.forged), (4, 2 + 4, 1));
    let verified = counters.verify.single + counters.verify.batched;
    let effects = engine.start_height(2, &keys(7)).unwrap();
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Log { height: 2, .. })).count(), 4, "{effects:?}");
    let counters = engine.counters();
    assert_eq!(counters.verify.single + counters.verify.batched, verified, "they were verified when they came");
    assert!(engine.receive(&borrowed(&[prevote(2, 1)])).unwrap().is_empty());
    assert_eq!(engine.counters().stale, 1);
}

#[test]
fn one_validator_cannot_fill_the_queue_of_the_next_height() {
    let mut engine = waiting();
    let copies = vec![prevote(3, 2); 20];
    engine.receive(&borrowed(&copies)).unwrap();
    engine.receive(&borrowed(&copies)).unwrap();
    assert_eq!(engine.counters().early, 1, "copies that somebody else sends cost their author nothing");
    let flood: Vec<Vec<u8>> = (0..100).map(|round| vote(&GENESIS, 1, VoteKind::PrevoteNil, 2, round, VALUE)).collect();
    engine.receive(&borrowed(&flood)).unwrap();
    engine.receive(&borrowed(&flood)).unwrap();
    assert_eq!(engine.counters().early, 1 + 8);
    engine.receive(&borrowed(&[prevote(2, 2)])).unwrap();
    assert_eq!(engine.counters().early, 1 + 8 + 1, "others have room of their own");
}

#[test]
fn a_validator_that_votes_for_everything_is_proven_and_then_ignored() {
    let mut engine = waiting();
    let flood: Vec<Vec<u8>> = (0..=255).map(|byte| vote(&GENESIS, 1, VoteKind::PrevoteValue, 1, 0, [byte; 32])).collect();
    let logged = |effects: &[Effect]| effects.iter().filter(|effect| matches!(effect, Effect::Log { .. })).count();
    let first = logged(&engine.receive(&borrowed(&flood)).unwrap());
    assert!(first <= 4, "one vote and three proofs, not {first}");
    let verified = engine.counters().verify;
    assert_eq!(logged(&engine.receive(&borrowed(&flood)).unwrap()), 0);
    let again = engine.counters().verify;
    assert_eq!((again.single, again.batched), (verified.single, verified.batched), "a proven liar costs no verification");
}

/// A round certificate of height 4, round 0, from a network whose first city is silent.
fn round_certificate() -> Vec<u8> {
    let mut net = Net::new(4, 4);
    net.cities[0].silent = true;
    net.run().unwrap();
    let mut sent = net.cities.iter().flat_map(|city| &city.sent);
    sent.find(|message| message[0] == b'R' && message_height(message) == Ok(4)).expect("round 1 was entered").clone()
}

#[test]
fn a_round_certificate_moves_the_round_only_if_all_of_it_is_good() {
    let good = round_certificate();
    let at_four = || {
        let mut engine = engine(3);
        engine.start_height(4, &keys(4)).unwrap();
        engine
    };
    let mut engine = at_four();
    let effects = engine.receive(&[good.as_slice()]).unwrap();
    assert!(errors(&effects).is_empty(), "{effects:?}");
    // The control: a good one counts. It holds the nil precommits of round 0, which start the timer that ends the round.
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Timer { kind: TimerKind::Precommit, round: 0, .. })), "{effects:?}");
    engine.timeout(TimerKind::Precommit, 0).unwrap();
    assert_eq!(engine.round(), 1);
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        let mut engine = at_four();
        let effects = engine.receive(&[flipped.as_slice()]).unwrap();
        // (The type is not signed: as a skip certificate for a round that runs already, it says nothing new.)
        assert!(effects.iter().all(|effect| matches!(effect, Effect::Error { .. })), "bit {bit}: {effects:?}");
        assert_eq!((engine.round(), engine.step()), (0, "propose"), "bit {bit}");
    }
}

#[test]
fn mutated_messages_never_stop_the_engine() {
    let mut engine = waiting();
    let mut samples: Vec<Vec<u8>> = (1..7).map(|city| prevote(city, 1)).collect();
    samples.push(proposal(1, 1, 0));
    samples.push(round_certificate());
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut refused = 0;
    for _ in 0..300 {
        let inbox: Vec<Vec<u8>> = (0..10)
            .map(|_| {
                let mut message = samples[next(samples.len())].clone();
                for _ in 0..=next(3) {
                    let at = next(message.len());
                    match next(3) {
                        0 => message[at] ^= 1 << next(8),
                        1 => message.truncate(at.max(1)),
                        _ => message.insert(at, next(256) as u8),
                    }
                }
                message
            })
            .collect();
        let effects = engine.receive(&borrowed(&inbox)).unwrap();
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Fatal(_) | Effect::Log { .. } | Effect::Publish(_))), "{effects:?}");
        refused += errors(&effects).len();
    }
    assert!(refused > 1000, "{refused}");
    // It still works: a valid request is served next.
    engine.receive(&borrowed(&(1..6).map(|city| prevote(city, 1)).collect::<Vec<_>>())).unwrap();
    assert_eq!(engine.step(), "precommit");
}

struct Broken;

impl Signer for Broken {
    fn sign(&mut self, _: &[u8]) -> Result<[u8; 64], String> {
        Err("the key is locked".into())
    }
}

#[test]
fn a_signer_that_fails_or_has_another_key_stops_the_engine() {
    let signers: [(&str, Box<dyn Signer>); 2] =
        [("the key is locked", Box::new(Broken)), ("under this validator's public key", Box::new(MemoryKey(secret(5))))];
    for (reason, signer) in signers {
        let mut engine = Engine::new(public(1), signer, GENESIS, [0; 32], Timeouts::default()).unwrap();
        engine.start_height(1, &keys(4)).unwrap();
        let effects = engine.propose(1, 0, VALUE).unwrap();
        assert!(matches!(effects.last(), Some(Effect::Fatal(text)) if text.contains(reason)), "{effects:?}");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Publish(_))), "nothing unsigned leaves");
        assert_eq!(engine.step(), "stopped");
        let calls = [
            engine.receive(&borrowed(&[prevote(0, 1)])).unwrap(),
            engine.timeout(TimerKind::Propose, 0).unwrap(),
            engine.start_height(2, &keys(4)).unwrap(),
        ];
        for effects in calls {
            assert!(matches!(effects.as_slice(), [Effect::Fatal(_)]), "{effects:?}");
        }
        assert_eq!(engine.counters().signed, 0);
    }
}

#[test]
fn late_values_and_timers_change_nothing() {
    let mut engine = waiting();
    let block = ProposedBlock { height: 2, round: 0, valid_round: -1, proposer: 2, value: VALUE, valid: true, sync: false };
    assert!(engine.proposed_value(block).unwrap().is_empty());
    assert!(engine.propose(1, 0, VALUE).unwrap().is_empty(), "not its turn");
    assert!(engine.timeout(TimerKind::Propose, 3).unwrap().is_empty());
    assert_eq!(engine.counters().stale, 3);
    assert!(engine.proposed_value(ProposedBlock { proposer: 7, ..block }).is_err());
    assert!(engine.proposed_value(ProposedBlock { round: -1, ..block }).is_err());
}

#[test]
fn timeouts_can_be_changed_and_have_bounds() {
    let mut engine = engine(0);
    let timeouts = Timeouts { propose_ms: 40, prevote_ms: 30, precommit_ms: 20, delta_ms: 0 };
    engine.set_timeouts(timeouts).unwrap();
    let effects = engine.start_height(1, &keys(4)).unwrap();
    assert!(effects.contains(&Effect::Timer { kind: TimerKind::Propose, round: 0, duration_us: 40_000 }), "{effects:?}");
    assert!(effects.contains(&Effect::Timer { kind: TimerKind::Rebroadcast, round: 0, duration_us: 90_000 }), "{effects:?}");
    assert!(engine.set_timeouts(Timeouts { propose_ms: 0, ..timeouts }).is_err());
    assert!(engine.set_timeouts(Timeouts { delta_ms: 60_001, ..timeouts }).is_err());
    for name in ["propose", "prevote", "precommit", "rebroadcast"] {
        assert_eq!(TimerKind::parse(name).unwrap().name(), name);
    }
    assert!(TimerKind::parse("finalize").is_err());
}
