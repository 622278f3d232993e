//! A city that crashes between any two effects never contradicts what it said before; without its log it does (the control).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod common;

use cityid_consensus::{Effect, ProposedBlock, TimerKind};
use common::{borrowed, engine, equivocations, Crash, Net};
use std::collections::BTreeSet;

/// City 0, which crashes, votes on three heights and proposes the fourth.
const HEIGHTS: u64 = 4;

#[derive(Clone, Copy, PartialEq)]
enum Restart {
    FromLog,
    /// The log is lost: what a node must never do.
    WithoutLog,
}

#[derive(Debug, Default)]
struct Outcome {
    crashes: usize,
    runs_with_equivocation: usize,
    forks: usize,
}

/// Crashes city 0 after 0, 1, 2 … effects, restarts it, and lets everybody finish.
fn crash_everywhere(restart: Restart, silent: Option<usize>, together: bool) -> Outcome {
    let mut outcome = Outcome::default();
    for lifetime in 0.. {
        let mut net = Net::new(4, HEIGHTS);
        net.lifetime = Some(lifetime);
        net.log_together = together;
        if let Some(silent) = silent {
            net.cities[silent].silent = true;
        }
        if net.run().is_ok() {
            return outcome;
        }
        outcome.crashes += 1;
        net.lifetime = None;
        revive(&mut net, restart).unwrap();
        net.run().unwrap();
        outcome.runs_with_equivocation += usize::from(equivocations(&net.cities[0].sent) > 0);
        outcome.forks += usize::from((1..=HEIGHTS).any(|height| {
            net.cities.iter().filter_map(|city| city.decided.get(&height)).map(|d| d.value).collect::<BTreeSet<_>>().len() > 1
        }));
        if restart == Restart::FromLog {
            net.check();
            assert!(net.cities.iter().all(|city| city.evidence.is_empty()), "after {lifetime} effects");
        }
    }
    outcome
}

/// A new engine with nothing but the log, if that, and the decisions already made.
fn revive(net: &mut Net, restart: Restart) -> Result<(), Crash> {
    let city = &mut net.cities[0];
    city.engine = engine(0);
    city.timers.clear();
    city.inbox.clear();
    city.blocks.clear();
    city.height = city.height.max(1);
    if city.height > HEIGHTS {
        return Ok(());
    }
    let height = city.height;
    let effects = match restart {
        Restart::FromLog => city.engine.recover(height, &net.validators, &borrowed(&city.log)).unwrap(),
        Restart::WithoutLog => city.engine.start_height(height, &net.validators).unwrap(),
    };
    net.obey(0, effects)
}

#[test]
fn no_crash_makes_a_city_contradict_itself() {
    for silent in [None, Some(1)] {
        for together in [false, true] {
            let outcome = crash_everywhere(Restart::FromLog, silent, together);
            assert!(outcome.crashes > 80, "{outcome:?}");
            assert_eq!((outcome.runs_with_equivocation, outcome.forks), (0, 0), "{outcome:?}");
        }
    }
}

#[test]
fn without_its_log_a_city_does_contradict_itself() {
    for silent in [None, Some(1)] {
        let outcome = crash_everywhere(Restart::WithoutLog, silent, false);
        assert!(outcome.runs_with_equivocation > 0, "{outcome:?}");
    }
}

/// City 1, the proposer of (1, 0) among four, up to its prevote; returns what it logged and published.
fn proposer_up_to_its_vote() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let net = Net::new(4, 1);
    let mut first = engine(1);
    let mut effects = first.start_height(1, &net.validators).unwrap();
    assert!(effects.contains(&Effect::GetValue { height: 1, round: 0 }));
    effects.extend(first.propose(1, 0, [7; 32]).unwrap());
    let (mut log, mut sent) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Log { entry, .. } => log.push(entry),
            Effect::Publish(message) => sent.push(message),
            _ => {}
        }
    }
    (log, sent)
}

fn published(effects: &[Effect]) -> Vec<Vec<u8>> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Publish(message) => Some(message.clone()),
            _ => None,
        })
        .collect()
}

fn kinds(messages: &[Vec<u8>]) -> String {
    messages.iter().map(|message| char::from(message[0])).collect()
}

#[test]
fn a_restarted_proposer_repeats_its_words_whatever_part_of_the_log_survived() {
    let net = Net::new(4, 1);
    let (log, sent) = proposer_up_to_its_vote();
    assert_eq!(kinds(&log), "BPv", "block, proposal, prevote");
    assert_eq!(kinds(&sent), "vP", "prevote and proposal");
    for kept in 1..=log.len() {
        let mut again = engine(1);
        let effects = again.recover(1, &net.validators, &borrowed(&log[..kept])).unwrap();
        let said: BTreeSet<Vec<u8>> = published(&effects).into_iter().collect();
        assert_eq!(said, sent.iter().cloned().collect(), "{kept} entries kept");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::GetValue { .. })), "{kept} entries kept");
        let logged: Vec<&Vec<u8>> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Log { entry, .. } => Some(entry),
                _ => None,
            })
            .collect();
        assert_eq!(logged, log[kept..].iter().collect::<Vec<_>>(), "only what is new is logged again");
        // Asked for another value now, it stays with the first.
        assert_eq!(published(&again.propose(1, 0, [8; 32]).unwrap()), Vec::<Vec<u8>>::new());
    }
    // The control: with nothing logged it is free to propose another value, and asks for one.
    let mut blank = engine(1);
    let effects = blank.recover(1, &net.validators, &[]).unwrap();
    assert!(effects.contains(&Effect::GetValue { height: 1, round: 0 }));
    assert_ne!(published(&blank.propose(1, 0, [8; 32]).unwrap()), sent);
}

#[test]
fn a_restarted_voter_does_not_vote_twice() {
    let net = Net::new(4, 1);
    let mut first = engine(2);
    let mut effects = first.start_height(1, &net.validators).unwrap();
    effects.extend(first.timeout(TimerKind::Propose, 0).unwrap());
    let log: Vec<Vec<u8>> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Log { entry, .. } => Some(entry.clone()),
            _ => None,
        })
        .collect();
    let nil = published(&effects);
    assert_eq!(nil.len(), 1);
    assert_eq!(nil[0][0], b'n');
    let (_, proposal_last) = proposer_up_to_its_vote();
    let block = ProposedBlock { height: 1, round: 0, valid_round: -1, proposer: 1, value: [7; 32], valid: true, sync: false };
    let votes_after = |engine: &mut cityid_consensus::Engine| {
        let mut effects = engine.proposed_value(block).unwrap();
        effects.extend(engine.receive(&borrowed(&proposal_last[1..])).unwrap());
        published(&effects)
    };
    let mut again = engine(2);
    assert_eq!(published(&again.recover(1, &net.validators, &borrowed(&log)).unwrap()), nil);
    assert_eq!(again.counters().signed, 0, "the vote comes from the log");
    assert!(votes_after(&mut again).is_empty());
    // The control: without the log the late proposal gets a prevote, against the one for nil.
    let mut blank = engine(2);
    blank.start_height(1, &net.validators).unwrap();
    assert_eq!(votes_after(&mut blank)[0][0], b'v');
}

#[test]
fn a_damaged_log_is_not_voted_from() {
    let net = Net::new(4, 1);
    let (log, _) = proposer_up_to_its_vote();
    let vote = log.len() - 1;
    let mut flipped = log.clone();
    *flipped[vote].last_mut().unwrap() ^= 1;
    let mut cut = log.clone();
    cut[vote].pop();
    let mut stranger = log.clone();
    let address = stranger[vote].len() - 84;
    stranger[vote][address] ^= 1;
    for (name, log) in [("signature", flipped), ("length", cut), ("address", stranger)] {
        let mut again = engine(1);
        let error = again.recover(1, &net.validators, &borrowed(&log)).unwrap_err().to_string();
        assert!(error.contains("damaged"), "{name}: {error}");
        assert_eq!(again.step(), "unstarted", "{name}");
    }
    assert!(engine(1).recover(2, &net.validators, &borrowed(&log)).unwrap_err().to_string().contains("another height"));
    assert!(engine(1).recover(1, &net.validators, &borrowed(&log)).is_ok());
}

#[test]
fn a_log_that_contradicts_itself_stops_the_engine() {
    let net = Net::new(4, 1);
    // What remains of the log of a city that prevoted nil after its timer: the vote without the timer, and then a proposal
    // that it must prevote. Replay derives another vote than the one recorded.
    let mut first = engine(2);
    let mut effects = first.start_height(1, &net.validators).unwrap();
    effects.extend(first.timeout(TimerKind::Propose, 0).unwrap());
    let nil = published(&effects).remove(0);
    let (proposer_log, sent) = proposer_up_to_its_vote();
    let log = [proposer_log[0].clone(), sent[1].clone(), nil];
    let mut again = engine(2);
    let effects = again.recover(1, &net.validators, &borrowed(&log)).unwrap();
    assert!(matches!(effects.last(), Some(Effect::Fatal(reason)) if reason.contains("does not match")), "{effects:?}");
    assert!(published(&effects).is_empty());
    assert_eq!(again.step(), "stopped");
    let later = again.receive(&borrowed(&sent)).unwrap();
    assert!(matches!(later.as_slice(), [Effect::Fatal(_)]));
}
