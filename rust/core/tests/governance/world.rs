//! A ledger of so many founding cities whose blocks are certified by whoever decides their height.
use cityid_core::block::ValidatorSet;
use cityid_core::code::{City, Code};
use cityid_core::error::Error;
use cityid_core::genesis::{Genesis, Parameters};
use cityid_core::hash::{hex, sha256, Hash};
use cityid_core::ledger::execute::Output;
use cityid_core::ledger::operation::{possession_message, Operation};
use cityid_core::ledger::stored::{decode_receipts, Outcome, Receipt};
use cityid_core::ledger::transaction::{assemble, signing_message, transaction_id, Body};
use cityid_core::ledger::{Candidate, Commit, Ledger};
use cityid_core::map_key::MapKey;
use cityid_core::record::{Purpose, Record, Status};
use cityid_core::vote::{CommitCertificate, CommitSignature};
use ed25519_zebra::{SigningKey, VerificationKey};
use serde_json::{json, Value};
use std::collections::HashMap;

/// The founding cities, as many as a test wants.
pub const CITIES: [&str; 7] = ["110000", "130100", "330100", "440300", "510100", "610100", "650100"];
const PURPOSES: [Purpose; 4] = [Purpose::Transaction, Purpose::Consensus, Purpose::Checkpoint, Purpose::Tls];

pub fn city(text: &str) -> City {
    City::parse(text).unwrap()
}

/// The private key of this name, the same in every run.
pub fn key(name: &str) -> SigningKey {
    SigningKey::from(sha256(name.as_bytes()))
}

pub fn public(key: &SigningKey) -> [u8; 32] {
    VerificationKey::from(key).into()
}

/// The key with which a city signs transactions.
pub fn desk(city: &str) -> SigningKey {
    key(&format!("{city}/transaction"))
}

fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    [&[tag, 0x81, contents.len() as u8][..], contents].concat()
}

/// What the ledger looks at in a self-signed certificate.
pub fn certificate(tls: &[u8; 32]) -> Vec<u8> {
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let body = der(0x30, &[&[2; 100][..], &prefix, tls].concat());
    let parts = [&body[..], &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70], &[0x03, 0x02, 0x00, 0x01]].concat();
    [&[0x30, 0x81, parts.len() as u8][..], &parts].concat()
}

pub struct World {
    pub ledger: Ledger,
    /// Header, commit and certificate of every height from 1 on.
    pub commits: Vec<(Vec<u8>, Commit, Vec<u8>)>,
    genesis: Value,
    nonce: u64,
    secrets: HashMap<[u8; 32], SigningKey>,
}

impl World {
    pub fn new(cities: usize) -> World {
        World::with(cities, |_| {})
    }

    pub fn with(cities: usize, change: impl FnOnce(&mut Value)) -> World {
        let parameters: serde_json::Map<String, Value> = Parameters::NAMES
            .iter()
            .zip(Parameters::default().values())
            .map(|((name, ..), value)| ((*name).to_owned(), json!(value)))
            .collect();
        let entry = |city: &&str| {
            let hex_of = |purpose: &str| hex(&public(&key(&format!("{city}/{purpose}"))));
            json!({"city": city, "name": format!("City {city}"), "consensus": hex_of("consensus"), "checkpoint": hex_of("checkpoint"),
                "tls": hex_of("tls"), "transaction": [hex_of("transaction")]})
        };
        let cities: Vec<Value> = CITIES[..cities].iter().map(entry).collect();
        let mut genesis = json!({"cityid": "genesis", "name": "test network", "prefix": "MA.156", "suite": 1, "test": true,
            "time_ms": "1790000000000", "parameters": parameters, "cities": cities});
        change(&mut genesis);
        let mut world = World { ledger: World::ledger_of(&genesis), commits: Vec::new(), genesis, nonce: 0, secrets: HashMap::new() };
        for city in CITIES {
            world.know(&format!("{city}/consensus"));
        }
        world
    }

    fn ledger_of(genesis: &Value) -> Ledger {
        Ledger::new(Genesis::from_json(&genesis.to_string()).unwrap(), [7; 32]).unwrap()
    }

    /// A ledger of the same genesis at height 0.
    pub fn fresh(&self) -> Ledger {
        World::ledger_of(&self.genesis)
    }

    /// A private consensus key that may have to sign certificates.
    fn know(&mut self, name: &str) {
        let secret = key(name);
        self.secrets.insert(public(&secret), secret);
    }

    /// The header of height 0.
    pub fn genesis_header(&self) -> Vec<u8> {
        self.fresh().tip().1
    }

    pub fn genesis_hash(&self) -> Hash {
        self.ledger.genesis().hash()
    }

    pub fn height(&self) -> u64 {
        self.ledger.published().height
    }

    pub fn root(&self) -> Hash {
        self.ledger.published().state.root()
    }

    // ---------------------------------------------------------------- changes and operations

    /// New keys of a city, one of each purpose; `generation` makes them others.
    pub fn keys(&mut self, city: &str, purposes: &[Purpose], generation: &str) -> Value {
        let subject = Code::parse(&format!("MA.156.{city}"), None).unwrap();
        let mut keys = Vec::new();
        for purpose in purposes {
            let name = format!("{city}/{}{generation}", purpose.name());
            let secret = key(&name);
            if *purpose == Purpose::Consensus {
                self.know(&name);
            }
            let message = possession_message(&self.genesis_hash(), &subject, *purpose, &public(&secret));
            let possession = hex(&secret.sign(&message).to_bytes());
            keys.push(json!({"purpose": purpose.name(), "key": hex(&public(&secret)), "possession": possession}));
        }
        Value::Array(keys)
    }

    pub fn admission(&mut self, city: &str) -> Value {
        let keys = self.keys(city, &PURPOSES, "");
        let certificate = certificate(&public(&key(&format!("{city}/tls"))));
        json!({"change": "admit_city", "city": city, "name": format!("City {city}"), "keys": keys, "certificate": hex(&certificate),
            "services": [["peer", format!("tls://node.{city}.example:7001")]]})
    }

    // ---------------------------------------------------------------- transactions and blocks

    pub fn signed(&mut self, operations: Value, signers: &[&SigningKey], valid_until: u64) -> (Hash, Vec<u8>) {
        let operations = operations.as_array().unwrap().iter().map(|value| Operation::from_json(value.clone()).unwrap()).collect();
        self.nonce += 1;
        let mut signers: Vec<&SigningKey> = signers.to_vec();
        signers.sort_by_key(|signer| public(signer));
        let body = Body {
            genesis: self.genesis_hash(),
            valid_until,
            nonce: self.nonce.to_be_bytes().to_vec(),
            signers: signers.iter().map(|signer| public(signer)).collect(),
            operations,
        }
        .encode();
        let id = transaction_id(&body);
        let signatures: Vec<[u8; 64]> = signers.iter().map(|signer| signer.sign(&signing_message(&id)).to_bytes()).collect();
        (id, assemble(&body, &signatures))
    }

    pub fn transaction(&mut self, operation: Value, signer: &SigningKey) -> Vec<u8> {
        let valid_until = self.height() + 5;
        self.signed(json!([operation]), &[signer], valid_until).1
    }

    /// Certifies a candidate by a quorum of a set, the first cities of it.
    pub fn certify(&self, candidate: &Candidate, set: &ValidatorSet) -> Vec<u8> {
        let validators = set.len() as u16;
        let unsigned =
            CommitCertificate { height: candidate.header.height, round: 0, value: candidate.value, validators, signatures: Vec::new() };
        let message = unsigned.sign_bytes(&self.genesis_hash());
        let sign = |(index, member): (usize, &cityid_core::block::Validator)| CommitSignature {
            index: index as u16,
            signature: self.secrets[&member.key].sign(&message).to_bytes(),
        };
        let signatures = set.members().iter().enumerate().take(set.quorum()).map(sign).collect();
        CommitCertificate { signatures, ..unsigned }.encode()
    }

    pub fn execute(&self, digests: &[Hash]) -> Result<Candidate, Error> {
        let (tip, _) = self.ledger.tip();
        let proposer = self.ledger.validators().members()[0].city;
        self.ledger.execute(tip.height + 1, tip.time_ms + 1_000, proposer, digests)
    }

    pub fn commit(&mut self, candidate: Candidate) {
        let certificate = self.certify(&candidate, &self.ledger.validators());
        let header = candidate.header_bytes.clone();
        let commit = self.ledger.commit(candidate, &certificate).unwrap();
        self.commits.push((header, commit, certificate));
    }

    /// Seals everything that waits.
    pub fn seal(&self) -> Vec<Hash> {
        std::iter::from_fn(|| self.ledger.seal(1_000, 1 << 20)).map(|batch| batch.digest).collect()
    }

    /// Transactions in this order in one block, whoever signed them; the outcomes in order.
    pub fn block(&mut self, transactions: &[Vec<u8>]) -> Vec<Outcome> {
        let batches: Vec<Vec<u8>> = transactions.iter().map(|bytes| cityid_core::ledger::transaction::assemble_batch(1, bytes)).collect();
        let bodies: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
        let digests: Vec<Hash> = self
            .ledger
            .ingest(&bodies)
            .into_iter()
            .map(|(digest, result)| {
                assert_eq!(result, Ok(1));
                digest
            })
            .collect();
        let candidate = self.execute(&digests).unwrap();
        self.commit(candidate);
        self.outcomes()
    }

    pub fn outcomes(&self) -> Vec<Outcome> {
        let (_, receipts) = decode_receipts(&self.commits.last().unwrap().1.receipts).unwrap();
        receipts.iter().map(|receipt| Receipt::decode(receipt).unwrap().outcome).collect()
    }

    /// So many empty blocks.
    pub fn pass(&mut self, heights: u64) {
        for _ in 0..heights {
            self.block(&[]);
        }
    }

    pub fn run(&mut self, operation: Value, signer: &SigningKey) -> Outcome {
        let transaction = self.transaction(operation, signer);
        self.block(&[transaction]).remove(0)
    }

    pub fn ok(&mut self, operation: Value, signer: &SigningKey) -> Output {
        match self.run(operation.clone(), signer) {
            Outcome::Committed(outputs) => outputs[0],
            other => panic!("{operation}: {other:?}"),
        }
    }

    /// One transaction that is refused for this reason, with the state as it was.
    pub fn refused(&mut self, operation: Value, signer: &SigningKey, reason: &str) {
        let root = self.root();
        assert_eq!(self.run(operation.clone(), signer), Outcome::Rejected(reason.to_owned(), 0), "{operation}");
        assert_eq!(self.root(), root, "a refused transaction changes nothing");
    }

    // ---------------------------------------------------------------- deciding

    pub fn propose(&mut self, by: &str, change: Value) -> u64 {
        match self.ok(propose(by, change), &desk(by)) {
            Output::Proposal(number) => number,
            other => panic!("{other:?}"),
        }
    }

    /// Proposed by the first of these cities and agreed to by the others, each in a block of its own, the last one as given.
    pub fn decide_by(&mut self, cities: &[&str], change: Value) -> u64 {
        let number = self.propose(cities[0], change);
        for city in &cities[1..] {
            assert_eq!(self.proposal(number).status, Status::Allocated, "not yet");
            self.ok(vote(city, number), &desk(city));
        }
        assert_eq!(self.proposal(number).status, Status::Active, "enacted");
        number
    }

    /// Decided by the first three of four founding cities.
    pub fn decide(&mut self, change: Value) -> u64 {
        self.decide_by(&CITIES[..3], change)
    }

    /// A proposal of this change is refused for this reason.
    pub fn unwanted(&mut self, change: Value, reason: &str) {
        self.refused(propose(CITIES[0], change), &desk(CITIES[0]), reason);
    }

    pub fn record(&self, key: &MapKey<'_>) -> Record {
        Record::decode(&self.ledger.published().state.get(&key.path()).unwrap()).unwrap()
    }

    pub fn city(&self, text: &str) -> Record {
        self.record(&MapKey::City(city(text)))
    }

    pub fn proposal(&self, number: u64) -> Record {
        self.record(&MapKey::Proposal(number))
    }

    pub fn configuration(&self) -> cityid_core::record::Configuration {
        *self.record(&MapKey::Parameters).configuration.unwrap()
    }
}

pub fn propose(by: &str, change: Value) -> Value {
    json!({"op": "propose", "city": by, "change": change})
}

pub fn vote(by: &str, number: u64) -> Value {
    json!({"op": "vote", "city": by, "proposal": number})
}

pub fn withdraw(by: &str, number: u64) -> Value {
    json!({"op": "withdraw_proposal", "city": by, "proposal": number})
}

pub fn parameter(name: &str, value: u64) -> Value {
    json!({"change": "set_parameters", "parameters": {name: value}})
}

pub fn committee(cities: &[&str]) -> Value {
    json!({"change": "set_committee", "cities": cities})
}

pub fn status(city: &str, status: &str) -> Value {
    json!({"change": "set_city_status", "city": city, "status": status})
}

pub fn remove(city: &str) -> Value {
    json!({"change": "remove_city", "city": city})
}

pub fn merge(city: &str, into: &str) -> Value {
    json!({"change": "merge_city", "city": city, "into": into})
}

pub fn protocol(version: u64, height: u64) -> Value {
    json!({"change": "schedule_protocol", "version": version, "height": height})
}
