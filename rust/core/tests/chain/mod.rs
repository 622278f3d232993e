//! A ledger with four cities in memory: operations in JSON, one block after another, receipts and records out.
#![allow(dead_code)] // every test file uses its own part
use cityid_core::answer::{verify, Options, Verdict};
use cityid_core::code::{City, Code, Subject};
use cityid_core::genesis::{Genesis, Parameters};
use cityid_core::hash::{hex, sha256, Hash};
use cityid_core::ledger::execute::Output;
use cityid_core::ledger::operation::{possession_message, Operation, Range};
use cityid_core::ledger::stored::{decode_receipts, Outcome, Receipt};
use cityid_core::ledger::transaction::{assemble, signing_message, transaction_id, Body};
use cityid_core::ledger::Ledger;
use cityid_core::map_key::MapKey;
use cityid_core::record::{Purpose, Record};
use cityid_core::trust::Trust;
use cityid_core::vote::{CommitCertificate, CommitSignature};
use ed25519_zebra::SigningKey;
use serde_json::{json, Map, Value};

pub const CITIES: [&str; 4] = ["110000", "130100", "330100", "440300"];

/// The key of this name; the same in every run.
pub fn key(name: &str) -> SigningKey {
    SigningKey::from(sha256(name.as_bytes()))
}

pub fn public(name: &str) -> [u8; 32] {
    ed25519_zebra::VerificationKey::from(&key(name)).into()
}

pub fn genesis(change: impl FnOnce(&mut Value)) -> Genesis {
    let parameters: Map<String, Value> = Parameters::NAMES
        .iter()
        .zip(Parameters::default().values())
        .map(|((name, ..), value)| ((*name).to_owned(), json!(value)))
        .collect();
    let cities: Vec<Value> = CITIES
        .iter()
        .map(|city| {
            let hex_of = |purpose: &str| hex(&public(&format!("{city}/{purpose}")));
            json!({"city": city, "name": format!("City {city}"), "consensus": hex_of("consensus"), "checkpoint": hex_of("checkpoint"),
                "tls": hex_of("tls"), "transaction": [hex_of("transaction")]})
        })
        .collect();
    let mut json = json!({"cityid": "genesis", "name": "test network", "prefix": "MA.156", "suite": 1, "test": true,
        "time_ms": "1790000000000", "parameters": parameters, "cities": cities});
    change(&mut json);
    Genesis::from_json(&json.to_string()).unwrap()
}

/// A decided block.
pub struct Decided {
    pub header: Vec<u8>,
    pub certificate: Vec<u8>,
    pub changes: Vec<u8>,
    pub receipts: Vec<u8>,
    pub batches: Vec<Vec<u8>>,
}

pub struct Chain {
    pub ledger: Ledger,
    nonce: u64,
}

impl Chain {
    pub fn new(change: impl FnOnce(&mut Value)) -> Chain {
        Chain { ledger: Ledger::new(genesis(change), [7; 32]).unwrap(), nonce: 0 }
    }

    /// The height of the next block.
    pub fn next(&self) -> u64 {
        self.ledger.published().height + 1
    }

    pub fn root(&self) -> Hash {
        self.ledger.published().state.root()
    }

    /// A key entry of an operation, with its proof of possession.
    pub fn entry(&self, subject: &str, purpose: &str, name: &str) -> Value {
        self.entry_between(subject, purpose, name, 0, None)
    }

    pub fn entry_between(&self, subject: &str, purpose: &str, name: &str, from: u64, until: Option<u64>) -> Value {
        let code = Code::parse(subject, None).unwrap();
        let message = possession_message(&self.ledger.genesis().hash(), &code, Purpose::from_name(purpose).unwrap(), &public(name));
        json!({"purpose": purpose, "key": hex(&public(name)), "from": from, "until": until, "possession": hex(&key(name).sign(&message).to_bytes())})
    }

    pub fn signed(&mut self, operations: &Value, signers: &[&str]) -> Vec<u8> {
        self.nonce += 1;
        let operations = operations.as_array().unwrap().iter().map(|value| Operation::from_json(value.clone()).unwrap()).collect();
        let mut names: Vec<&&str> = signers.iter().collect();
        names.sort_by_key(|name| public(name));
        let body = Body {
            genesis: self.ledger.genesis().hash(),
            valid_until: self.next() + 5,
            nonce: self.nonce.to_be_bytes().to_vec(),
            signers: names.iter().map(|name| public(name)).collect(),
            operations,
        }
        .encode();
        let message = signing_message(&transaction_id(&body));
        let signatures: Vec<[u8; 64]> = names.iter().map(|name| key(name).sign(&message).to_bytes()).collect();
        assemble(&body, &signatures)
    }

    /// Admits, seals, executes and commits; the outcomes in order.
    pub fn block(&mut self, transactions: &[Vec<u8>]) -> Vec<Outcome> {
        let (_, receipts) = decode_receipts(&self.decide(transactions).receipts).unwrap();
        receipts.iter().map(|receipt| Receipt::decode(receipt).unwrap().outcome).collect()
    }

    /// The same; the block with everything that a store keeps of it.
    pub fn decide(&mut self, transactions: &[Vec<u8>]) -> Decided {
        for admission in self.ledger.admit(&transactions.concat()).unwrap() {
            assert_eq!(admission.refused, None);
        }
        let mut digests = Vec::new();
        let mut batches = Vec::new();
        while let Some(batch) = self.ledger.seal(1000, 1 << 20) {
            digests.push(batch.digest);
            batches.push(batch.body.clone());
        }
        let (tip, _) = self.ledger.tip();
        let candidate = self.ledger.execute(tip.height + 1, tip.time_ms + 1000, City::parse(CITIES[1]).unwrap(), &digests).unwrap();
        let mut certificate =
            CommitCertificate { height: tip.height + 1, round: 0, value: candidate.value, validators: 4, signatures: Vec::new() };
        let message = certificate.sign_bytes(&self.ledger.genesis().hash());
        certificate.signatures = (0..3u16)
            .map(|index| {
                let signature = key(&format!("{}/consensus", CITIES[usize::from(index)])).sign(&message).to_bytes();
                CommitSignature { index, signature }
            })
            .collect();
        let (header, certificate) = (candidate.header_bytes.clone(), certificate.encode());
        let commit = self.ledger.commit(candidate, &certificate).unwrap();
        Decided { header, certificate, changes: commit.changes, receipts: commit.receipts, batches }
    }

    /// Empty blocks, until this height is the next.
    pub fn pass_to(&mut self, height: u64) {
        while self.next() < height {
            self.block(&[]);
        }
    }

    /// One transaction in a block of its own.
    pub fn run(&mut self, operations: &Value, signers: &[&str]) -> Outcome {
        let transaction = self.signed(operations, signers);
        self.block(&[transaction]).remove(0)
    }

    #[track_caller]
    pub fn ok(&mut self, operations: &Value, signers: &[&str]) -> Vec<Output> {
        match self.run(operations, signers) {
            Outcome::Committed(outputs) => outputs,
            other => panic!("{other:?} of {operations}"),
        }
    }

    #[track_caller]
    pub fn refused(&mut self, operations: &Value, signers: &[&str], reason: &str) {
        let root = self.root();
        assert_eq!(self.run(operations, signers), Outcome::Rejected(reason.to_owned(), 0), "{operations} by {signers:?}");
        assert_eq!(self.root(), root, "a refused transaction changes nothing");
    }

    /// What stands under a key, if anything.
    pub fn at(&self, key: &MapKey<'_>) -> Option<Record> {
        self.ledger.published().state.get(&key.path()).map(|bytes| Record::decode(&bytes).unwrap())
    }

    pub fn record(&self, code: &str) -> Record {
        let key = match Code::parse(code, None).unwrap() {
            Code::City { city } => MapKey::City(city),
            Code::Org { city, org } => MapKey::Organisation(city, org),
            Code::Category { city, org, category } => MapKey::Category(city, org, category),
            Code::Item { city, category, serial, .. } => MapKey::Item(city, category.class, serial),
            Code::Foreign(_) => panic!("{code} is foreign"),
        };
        self.at(&key).unwrap_or_else(|| panic!("{code} has no record"))
    }

    pub fn version(&self, code: &str) -> u64 {
        self.record(code).version
    }

    pub fn range(&self, range: &Range) -> Record {
        self.at(&range.key()).unwrap()
    }

    /// What a verifier with the genesis alone says of a code.
    pub fn verdict(&self, code: &str) -> Verdict {
        let answer = self.ledger.answer(&Subject::parse(code, None).unwrap()).unwrap();
        let trust = Trust::from_genesis(self.ledger.genesis()).unwrap();
        verify(&answer, &trust, &Options { code: Some(code), ..Options::default() })
    }
}
