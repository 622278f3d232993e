//! Cities in one process on virtual time: each obeys the effects of its engine as a node would, and nothing else.
//!
//! Deterministic: a run is a function of its arguments. Blocks are only names here, and reach everybody (a node fetches
//! missing ones); votes and certificates may be lost. Logs survive a crash, engines and timers do not.
#![allow(dead_code)] // each test file uses its own part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cityid_consensus::{Effect, Engine, Evidence, ProposedBlock, Signer, Timeouts, TimerKind};
use cityid_core::hash::sha256;
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

pub const GENESIS: [u8; 32] = [0x6e; 32];

pub struct MemoryKey(pub SigningKey);

impl Signer for MemoryKey {
    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], String> {
        Ok(self.0.sign(message).to_bytes())
    }
}

pub fn secret(city: usize) -> SigningKey {
    SigningKey::from(sha256(format!("city {city}").as_bytes()))
}

pub fn public(city: usize) -> [u8; 32] {
    VerificationKeyBytes::from(&secret(city)).into()
}

pub fn keys(count: usize) -> Vec<[u8; 32]> {
    (0..count).map(public).collect()
}

pub fn engine(city: usize) -> Engine {
    let timeouts = Timeouts { propose_ms: 300, prevote_ms: 100, precommit_ms: 100, delta_ms: 50 };
    Engine::new(public(city), Box::new(MemoryKey(secret(city))), GENESIS, sha256(&[city as u8]), timeouts).unwrap()
}

pub fn borrowed(messages: &[Vec<u8>]) -> Vec<&[u8]> {
    messages.iter().map(Vec::as_slice).collect()
}

#[derive(Clone, Debug)]
pub struct Decision {
    pub round: i32,
    pub value: [u8; 32],
    pub certificate: Vec<u8>,
}

pub struct City {
    pub engine: Engine,
    pub height: u64,
    /// The durable log of the present height.
    pub log: Vec<Vec<u8>>,
    pub inbox: Vec<Vec<u8>>,
    /// Blocks that arrived, to be executed.
    pub blocks: Vec<ProposedBlock>,
    pub timers: BTreeMap<(TimerKind, i32), u64>,
    pub decided: BTreeMap<u64, Decision>,
    /// Everything this city ever published.
    pub sent: Vec<Vec<u8>>,
    pub evidence: Vec<Evidence>,
    pub errors: Vec<String>,
    /// Takes part in nothing, as if it were switched off.
    pub down: bool,
    /// Receives, and sends nothing.
    pub silent: bool,
}

impl City {
    fn new(city: usize) -> City {
        City {
            engine: engine(city),
            height: 0,
            log: Vec::new(),
            inbox: Vec::new(),
            blocks: Vec::new(),
            timers: BTreeMap::new(),
            decided: BTreeMap::new(),
            sent: Vec::new(),
            evidence: Vec::new(),
            errors: Vec::new(),
            down: false,
            silent: false,
        }
    }
}

/// When, a tie-breaker, which city, at which height, which timer, of which round.
type Alarm = (u64, u64, usize, u64, TimerKind, i32);

/// The city under test stopped between two effects.
#[derive(Debug)]
pub struct Crash;

pub struct Net {
    pub cities: Vec<City>,
    pub validators: Vec<[u8; 32]>,
    pub now_us: u64,
    pub last_height: u64,
    pub loss_percent: u64,
    pub synced: usize,
    /// How many more effects city 0 obeys before it crashes.
    pub lifetime: Option<usize>,
    /// Whether all that a call wants logged is durable before anything else is done, as with one fsync a call; else each
    /// entry is written when its turn comes.
    pub log_together: bool,
    timers: BinaryHeap<Reverse<Alarm>>,
    sequence: u64,
    random: u64,
    nonce: u64,
}

impl Net {
    pub fn new(count: usize, last_height: u64) -> Net {
        Net {
            cities: (0..count).map(City::new).collect(),
            validators: keys(count),
            now_us: 0,
            last_height,
            loss_percent: 0,
            synced: 0,
            lifetime: None,
            log_together: false,
            timers: BinaryHeap::new(),
            sequence: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            nonce: 0,
        }
    }

    /// Adds a city that is not a validator.
    pub fn add_follower(&mut self) -> usize {
        self.cities.push(City::new(self.cities.len()));
        self.cities.len() - 1
    }

    /// Runs until every city that is up has passed the last height, or nothing can move any more.
    pub fn run(&mut self) -> Result<(), Crash> {
        for who in 0..self.cities.len() {
            if !self.cities[who].down && self.cities[who].height == 0 {
                self.start(who, 1)?;
            }
        }
        for _ in 0..200_000 {
            if self.cities.iter().all(|city| city.down || city.height > self.last_height) {
                return Ok(());
            }
            if !self.deliver()? && !self.sync()? && !self.fire()? {
                panic!("nothing can move: {:?}", self.positions());
            }
        }
        panic!("no end: {:?}", self.positions());
    }

    /// All decided the same values, with certificates that verify, and nobody complained.
    pub fn check(&self) {
        for height in 1..=self.last_height {
            let values: BTreeSet<[u8; 32]> = self.cities.iter().filter_map(|city| city.decided.get(&height)).map(|d| d.value).collect();
            assert_eq!(values.len(), 1, "height {height}");
        }
        for (who, city) in self.cities.iter().enumerate().filter(|(_, city)| !city.down) {
            assert_eq!(city.decided.len() as u64, self.last_height, "city {who}");
            assert_eq!(city.errors, Vec::<String>::new(), "city {who}");
            for (height, decision) in &city.decided {
                let certificate = cityid_core::vote::CommitCertificate::decode(&decision.certificate).unwrap();
                assert_eq!((certificate.height, certificate.value), (*height, decision.value));
                assert_eq!(certificate.encode(), decision.certificate);
                cityid_core::vote::verify_certificate(&GENESIS, &self.validators, &certificate).unwrap();
            }
        }
    }

    pub fn positions(&self) -> Vec<(u64, i32, &'static str)> {
        self.cities.iter().map(|city| (city.engine.height(), city.engine.round(), city.engine.step())).collect()
    }

    pub fn start(&mut self, who: usize, height: u64) -> Result<(), Crash> {
        let city = &mut self.cities[who];
        city.height = height;
        city.log.clear();
        city.timers.clear();
        if height > self.last_height {
            return Ok(());
        }
        let effects = city.engine.start_height(height, &self.validators).unwrap();
        self.obey(who, effects)
    }

    /// Does what an engine asks, in order. City 0 may crash before any of it.
    pub fn obey(&mut self, who: usize, mut effects: Vec<Effect>) -> Result<(), Crash> {
        if self.log_together {
            effects.sort_by_key(|effect| !matches!(effect, Effect::Log { .. }));
        }
        for effect in effects {
            if who == 0 {
                if let Some(left) = &mut self.lifetime {
                    *left = left.checked_sub(1).ok_or(Crash)?;
                }
            }
            match effect {
                Effect::Log { height, entry } => {
                    assert_eq!(height, self.cities[who].height);
                    self.cities[who].log.push(entry);
                }
                Effect::Publish(message) => self.publish(who, message),
                Effect::Timer { kind, round, duration_us } => {
                    let at = self.now_us + duration_us;
                    self.sequence += 1;
                    self.cities[who].timers.insert((kind, round), at);
                    self.timers.push(Reverse((at, self.sequence, who, self.cities[who].height, kind, round)));
                }
                Effect::Cancel { kind, round } => {
                    self.cities[who].timers.remove(&(kind, round));
                }
                Effect::CancelAll => self.cities[who].timers.clear(),
                Effect::StartRound { .. } => {}
                Effect::GetValue { height, round } => {
                    if self.cities[who].silent {
                        continue;
                    }
                    // A restarted node builds another block: the names of blocks never repeat.
                    self.nonce += 1;
                    let value = sha256(format!("block {height} by {who}, attempt {}", self.nonce).as_bytes());
                    self.send_block(who, height, round, -1, value);
                    let effects = self.cities[who].engine.propose(height, round, value).unwrap();
                    self.obey(who, effects)?;
                }
                Effect::Restream { height, round, valid_round, value } => self.send_block(who, height, round, valid_round, value),
                Effect::Decide { height, round, value, certificate } => {
                    let before = self.cities[who].decided.insert(height, Decision { round, value, certificate });
                    assert!(before.is_none_or(|before| before.value == value), "city {who} decided height {height} twice");
                }
                Effect::Finalize { height, evidence, .. } => {
                    self.cities[who].evidence.extend(evidence);
                    self.start(who, height + 1)?;
                }
                Effect::SyncVerified { height, round, value, proposer } => {
                    let block = ProposedBlock { height, round, valid_round: -1, proposer, value, valid: true, sync: true };
                    let effects = self.cities[who].engine.proposed_value(block).unwrap();
                    self.obey(who, effects)?;
                }
                Effect::SyncRejected { reason, .. } | Effect::Error { reason, .. } | Effect::Fatal(reason) => {
                    self.cities[who].errors.push(reason);
                }
            }
        }
        Ok(())
    }

    pub fn publish(&mut self, who: usize, message: Vec<u8>) {
        self.cities[who].sent.push(message.clone());
        if self.cities[who].silent {
            return;
        }
        for to in 0..self.cities.len() {
            if to != who && !self.cities[to].down && !self.lost() {
                self.cities[to].inbox.push(message.clone());
            }
        }
    }

    /// Hands every city what it received; whether there was anything.
    pub fn deliver(&mut self) -> Result<bool, Crash> {
        let mut busy = false;
        for who in 0..self.cities.len() {
            if self.cities[who].down || self.cities[who].height > self.last_height {
                self.cities[who].inbox.clear();
                self.cities[who].blocks.clear();
                continue;
            }
            // A block of the next height waits, as in a node: it cannot be executed before this height is decided.
            let height = self.cities[who].height;
            let (now, later) = std::mem::take(&mut self.cities[who].blocks).into_iter().partition(|block| block.height <= height);
            self.cities[who].blocks = later;
            let now: Vec<ProposedBlock> = now;
            for block in now {
                busy = true;
                let effects = self.cities[who].engine.proposed_value(block).unwrap();
                self.obey(who, effects)?;
            }
            let inbox = std::mem::take(&mut self.cities[who].inbox);
            if !inbox.is_empty() && self.cities[who].height <= self.last_height {
                busy = true;
                let effects = self.cities[who].engine.receive(&borrowed(&inbox)).unwrap();
                self.obey(who, effects)?;
            }
        }
        Ok(busy)
    }

    /// Fetches decided values from others; whether there was one to fetch.
    pub fn sync(&mut self) -> Result<bool, Crash> {
        let mut busy = false;
        for who in 0..self.cities.len() {
            let height = self.cities[who].height;
            if self.cities[who].down || height > self.last_height || self.cities[who].engine.step() == "commit" {
                continue;
            }
            let others = self.cities.iter().enumerate().filter(|(other, _)| *other != who);
            let Some(decision) = others.filter_map(|(_, city)| city.decided.get(&height)).next().cloned() else {
                continue;
            };
            busy = true;
            self.synced += 1;
            let effects = self.cities[who].engine.sync_value(&decision.certificate, decision.value).unwrap();
            self.obey(who, effects)?;
        }
        Ok(busy)
    }

    /// Moves the time to the next timer; whether there was one.
    pub fn fire(&mut self) -> Result<bool, Crash> {
        while let Some(Reverse((at, _, who, height, kind, round))) = self.timers.pop() {
            let city = &mut self.cities[who];
            if city.down || city.height != height || city.timers.get(&(kind, round)) != Some(&at) {
                continue;
            }
            city.timers.remove(&(kind, round));
            self.now_us = self.now_us.max(at);
            let effects = city.engine.timeout(kind, round).unwrap();
            self.obey(who, effects)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn send_block(&mut self, who: usize, height: u64, round: i32, valid_round: i32, value: [u8; 32]) {
        if self.cities[who].silent {
            return;
        }
        let proposer = ((height + round as u64) % self.validators.len() as u64) as u16;
        for to in 0..self.cities.len() {
            if to != who && !self.cities[to].down {
                let block = ProposedBlock { height, round, valid_round, proposer, value, valid: true, sync: false };
                self.cities[to].blocks.push(block);
            }
        }
    }

    fn lost(&mut self) -> bool {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < self.loss_percent
    }
}

/// How often two messages in this list exclude each other: another value for the same step of the same round.
pub fn equivocations(sent: &[Vec<u8>]) -> usize {
    let mut said: BTreeMap<(u8, Vec<u8>), &[u8]> = BTreeMap::new();
    let mut count = 0;
    for message in sent {
        let step = match message[0] {
            b'P' => 0,
            b'v' | b'n' => 1,
            b'V' | b'N' => 2,
            _ => continue,
        };
        // All but the address and the signature.
        let statement = &message[..message.len() - 84];
        let before = said.insert((step, message[1..13].to_vec()), statement);
        count += usize::from(before.is_some_and(|before| before != statement));
    }
    count
}
