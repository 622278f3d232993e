//! Consensus messages as bytes, the vote log, and an engine of one city among four that hears whatever the input says.
//!
//! In the engine's input the other three cities say anything with good signatures, or bytes that nobody signed. Whatever they say, the
//! engine goes on, and this city never says two things in one step (P38).
use cityid_consensus::{message_height, rewritten, Effect, Engine, ProposedBlock, Signer, Timeouts, TimerKind, MAX_MESSAGE_BYTES};
use cityid_core::hash::sha256;
use cityid_core::vote::{sign_bytes, VoteKind, NO_ROUND};
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use std::collections::BTreeMap;

const GENESIS: [u8; 32] = [0x6e; 32];
const CITIES: u8 = 4;

struct MemoryKey(SigningKey);

impl Signer for MemoryKey {
    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], String> {
        Ok(self.0.sign(message).to_bytes())
    }
}

fn secret(city: u8) -> SigningKey {
    SigningKey::from(sha256(&[city]))
}

fn public(city: u8) -> [u8; 32] {
    VerificationKeyBytes::from(&secret(city)).into()
}

fn keys() -> Vec<[u8; 32]> {
    (0..CITIES).map(public).collect()
}

fn new_engine() -> Engine {
    let timeouts = Timeouts { propose_ms: 300, prevote_ms: 100, precommit_ms: 100, delta_ms: 50 };
    Engine::new(public(0), Box::new(MemoryKey(secret(0))), GENESIS, [1; 32], timeouts).expect("an engine")
}

/// What is read as a message is written as the same bytes.
pub(crate) fn message(data: &[u8]) {
    let height = message_height(data);
    if let Ok(again) = rewritten(data) {
        assert_eq!(again, data);
        assert!(height.is_ok() && data.len() <= MAX_MESSAGE_BYTES);
    }
    let mut engine = new_engine();
    engine.start_height(1, &keys()).expect("a first height");
    let effects = engine.receive(&[data]).expect("bytes of others never fail a call");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Fatal(_))));
}

/// Entries behind a length byte each, as the log of height 1; an engine recovers from it, or says what is wrong with it.
pub(crate) fn log(data: &[u8]) {
    let mut entries: Vec<&[u8]> = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first() {
        let (entry, after) = after.split_at(usize::from(*length).min(after.len()));
        entries.push(entry);
        rest = after;
    }
    let mut engine = new_engine();
    let mut said = Said::default();
    if let Ok(effects) = engine.recover(1, &keys(), &entries) {
        said.check(&effects);
    }
}

/// What this city published: one value for each kind of message, height and round.
#[derive(Default)]
struct Said(BTreeMap<(u8, Vec<u8>), Vec<u8>>);

impl Said {
    fn check(&mut self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Publish(message) = effect else { continue };
            // Kinds in either case are votes; `n` and `N` are for nil. Certificates are other cities' words.
            let kind = match message[0] {
                b'n' => b'v',
                b'N' => b'V',
                kind => kind,
            };
            if matches!(kind, b'v' | b'V' | b'P') && message[message.len() - 84..message.len() - 64] == sha256(&public(0))[..20] {
                let before = self.0.entry((kind, message[1..13].to_vec())).or_insert_with(|| message.clone());
                assert_eq!(before, message, "a city that says two things in one step");
            }
        }
    }
}

/// A message of another city, with a good signature.
fn signed(kind: VoteKind, city: u8, height: u64, round: i32, value: [u8; 32]) -> Vec<u8> {
    let mut out = vec![kind as u8];
    out.extend_from_slice(&height.to_be_bytes());
    out.extend_from_slice(&round.to_be_bytes());
    if kind == VoteKind::Proposal {
        out.extend_from_slice(&NO_ROUND.to_be_bytes());
    }
    if kind.names_value() || kind == VoteKind::Proposal {
        out.extend_from_slice(&value);
    }
    out.extend_from_slice(&sha256(&public(city))[..20]);
    out.extend_from_slice(&secret(city).sign(&sign_bytes(kind, &GENESIS, height, round, NO_ROUND, &value)).to_bytes());
    out
}

/// Steps of four bytes: what happens, who, when, and about which value.
pub(crate) fn engine(data: &[u8]) {
    let mut engine = new_engine();
    let mut said = Said::default();
    said.check(&engine.start_height(1, &keys()).expect("a first height"));
    for step in data.chunks_exact(4).take(64) {
        let (what, who, when, value) = (step[0], 1 + step[1] % (CITIES - 1), step[2], [step[3] % 3; 32]);
        let (height, round) = (engine.height() + u64::from(when >> 6), i32::from(when & 7));
        let kind = [VoteKind::Proposal, VoteKind::PrevoteValue, VoteKind::PrevoteNil, VoteKind::PrecommitValue, VoteKind::PrecommitNil];
        let block =
            ProposedBlock { height, round, valid_round: NO_ROUND, proposer: u16::from(who), value, valid: step[3] & 64 == 0, sync: false };
        let timers = [TimerKind::Propose, TimerKind::Prevote, TimerKind::Precommit, TimerKind::Rebroadcast];
        let outcome = match what % 12 {
            kind_of @ 0..=4 => engine.receive(&[&signed(kind[usize::from(kind_of)], who, height, round, value)]),
            5 => {
                // Every other city at once, which is a quorum with this one.
                let all: Vec<Vec<u8>> =
                    (1..CITIES).map(|city| signed(kind[usize::from(step[1] % 5)], city, height, round, value)).collect();
                engine.receive(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())
            }
            6 => {
                let mut spoiled = signed(kind[usize::from(step[1] % 5)], who, height, round, value);
                let place = usize::from(when) % spoiled.len();
                spoiled[place] ^= step[3] | 1;
                engine.receive(&[&spoiled])
            }
            7 => engine.timeout(timers[usize::from(step[1] % 4)], round),
            8 => engine.proposed_value(block),
            9 => engine.propose(height, round, value),
            10 => engine.start_height(height + 1, &keys()),
            _ => engine.sync_value(step, value),
        };
        // An error says that this node called wrongly: then nothing happened.
        if let Ok(effects) = outcome {
            said.check(&effects);
        }
    }
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let kinds = [VoteKind::Proposal, VoteKind::PrevoteValue, VoteKind::PrevoteNil, VoteKind::PrecommitValue, VoteKind::PrecommitNil];
    let mut seeds: Vec<Vec<u8>> = kinds.iter().map(|kind| signed(*kind, 1, 1, 0, [7; 32])).collect();
    let vote = |city: u8| signed(VoteKind::PrevoteValue, city, 1, 0, [7; 32]);
    let entries: Vec<u8> = (1..CITIES).flat_map(|city| vote(city)[45..].to_vec()).collect();
    seeds.push([&[b'K'][..], &vote(1)[1..45], &3u16.to_be_bytes(), &entries].concat());
    let nil = |city: u8| signed(VoteKind::PrecommitNil, city, 1, 0, [0; 32]);
    let entries: Vec<u8> = (1..CITIES).flat_map(|city| [&[b'N'][..], &nil(city)[13..]].concat()).collect();
    seeds.push([&[b'R'][..], &nil(1)[1..13], &[1], &3u16.to_be_bytes(), &entries].concat());
    seeds
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    let entry = |bytes: &[u8]| [&[bytes.len() as u8][..], bytes].concat();
    let head = [&1u64.to_be_bytes()[..], &0i32.to_be_bytes()].concat();
    let timeout = [&[b'T'][..], &head, &[0]].concat();
    let block = [&[b'B'][..], &head, &NO_ROUND.to_be_bytes(), &[7; 32], &sha256(&public(1))[..20], &[1]].concat();
    let vote = signed(VoteKind::PrevoteNil, 0, 1, 0, [0; 32]);
    vec![
        entry(&timeout),
        [entry(&block), entry(&signed(VoteKind::Proposal, 1, 1, 0, [7; 32]))].concat(),
        [entry(&timeout), entry(&vote)].concat(),
    ]
}

pub(crate) fn engine_seeds() -> Vec<Vec<u8>> {
    // A round that decides, one that times out, and a height that starts early.
    let decides = [[8, 0, 0, 1], [0, 0, 0, 1], [5, 1, 0, 1], [5, 3, 0, 1], [10, 0, 0, 0]];
    let fails = [[7, 0, 0, 0], [5, 2, 0, 0], [5, 4, 0, 0], [0, 1, 1, 2], [7, 2, 0, 0]];
    let early = [[1, 0, 64, 1], [1, 1, 64, 1], [6, 1, 20, 1], [10, 0, 0, 0]];
    vec![decides.as_flattened().to_vec(), fails.as_flattened().to_vec(), early.as_flattened().to_vec()]
}
