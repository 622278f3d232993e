//! The ledger against the rule: every operation, every refusal, replay of ids, atomicity, speculation, restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cityid_core::code::{City, Code, Subject};
use cityid_core::error::Error;
use cityid_core::genesis::Genesis;
use cityid_core::hash::{hex, Hash};
use cityid_core::ledger::execute::Output;
use cityid_core::ledger::operation::{possession_message, Operation};
use cityid_core::ledger::stored::{Outcome, Receipt};
use cityid_core::ledger::transaction::{assemble, assemble_batch, signing_message, transaction_id, Body};
use cityid_core::ledger::{Candidate, Commit, Ledger};
use cityid_core::map_key::MapKey;
use cityid_core::record::{Purpose, Record};
use cityid_core::vote::{CommitCertificate, CommitSignature};
use ed25519_zebra::SigningKey;
use serde_json::{json, Value};

const CITIES: [(&str, &str); 4] = [("110000", "北京"), ("130100", "石家庄"), ("330100", "杭州"), ("440300", "深圳")];

fn key(name: &str) -> SigningKey {
    SigningKey::from(cityid_core::hash::sha256(name.as_bytes()))
}

fn public(key: &SigningKey) -> [u8; 32] {
    ed25519_zebra::VerificationKey::from(key).into()
}

fn genesis_json() -> Value {
    let parameters: serde_json::Map<String, Value> = cityid_core::genesis::Parameters::NAMES
        .iter()
        .zip(cityid_core::genesis::Parameters::default().values())
        .map(|((name, ..), value)| ((*name).to_owned(), json!(value)))
        .collect();
    let cities: Vec<Value> = CITIES
        .iter()
        .map(|(city, name)| {
            let hex_of = |purpose: &str| hex(&public(&key(&format!("{city}/{purpose}"))));
            json!({"city": city, "name": name, "consensus": hex_of("consensus"), "checkpoint": hex_of("checkpoint"), "tls": hex_of("tls"), "transaction": [hex_of("transaction")]})
        })
        .collect();
    json!({"cityid": "genesis", "name": "test network", "prefix": "MA.156", "suite": 1, "test": true, "time_ms": "1790000000000", "parameters": parameters, "cities": cities})
}

struct World {
    ledger: Ledger,
    nonce: u64,
    commits: Vec<(Vec<u8>, Commit, Vec<u8>)>,
}

fn base(output: Output) -> u64 {
    match output {
        Output::Range(base, _) => base,
        other => panic!("{other:?}"),
    }
}

impl World {
    fn new() -> World {
        World::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Value)) -> World {
        let mut json = genesis_json();
        change(&mut json);
        World { ledger: Ledger::new(Genesis::from_json(&json.to_string()).unwrap(), [7; 32]).unwrap(), nonce: 0, commits: Vec::new() }
    }

    fn genesis(&self) -> Hash {
        self.ledger.genesis().hash()
    }

    fn next(&self) -> u64 {
        self.ledger.published().height + 1
    }

    fn signed(&mut self, operations: Value, signers: &[&SigningKey]) -> (Hash, Vec<u8>) {
        let valid_until = self.next() + 100;
        self.signed_until(operations, signers, valid_until)
    }

    fn signed_until(&mut self, operations: Value, signers: &[&SigningKey], valid_until: u64) -> (Hash, Vec<u8>) {
        let operations = operations.as_array().unwrap().iter().map(|value| Operation::from_json(value.clone()).unwrap()).collect();
        self.signed_operations(operations, signers, valid_until)
    }

    fn signed_operations(&mut self, operations: Vec<Operation>, signers: &[&SigningKey], valid_until: u64) -> (Hash, Vec<u8>) {
        self.nonce += 1;
        let mut signers: Vec<&SigningKey> = signers.to_vec();
        signers.sort_by_key(|signer| public(signer));
        let body = Body {
            genesis: self.genesis(),
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

    fn certify(&self, candidate: &Candidate) -> Vec<u8> {
        let certificate =
            CommitCertificate { height: candidate.header.height, round: 0, value: candidate.value, validators: 4, signatures: Vec::new() };
        let message = certificate.sign_bytes(&self.genesis());
        let signatures = (0..3u16)
            .map(|index| CommitSignature {
                index,
                signature: key(&format!("{}/consensus", CITIES[usize::from(index)].0)).sign(&message).to_bytes(),
            })
            .collect();
        CommitCertificate { signatures, ..certificate }.encode()
    }

    fn execute(&self, digests: &[Hash]) -> Result<Candidate, Error> {
        let (tip, _) = self.ledger.tip();
        self.ledger.execute(tip.height + 1, tip.time_ms + 1000, City::parse("130100").unwrap(), digests)
    }

    fn commit(&mut self, candidate: Candidate) {
        let certificate = self.certify(&candidate);
        let header = candidate.header_bytes.clone();
        let commit = self.ledger.commit(candidate, &certificate).unwrap();
        self.commits.push((header, commit, certificate));
    }

    /// Admits, seals, executes and commits; the outcomes in order.
    fn block(&mut self, transactions: &[Vec<u8>]) -> Vec<Outcome> {
        let mut digests = Vec::new();
        for admission in self.ledger.admit(&transactions.concat()).unwrap() {
            assert_eq!(admission.refused, None);
        }
        while let Some(batch) = self.ledger.seal(1000, 1 << 20) {
            digests.push(batch.digest);
        }
        let candidate = self.execute(&digests).unwrap();
        self.commit(candidate);
        self.last_outcomes()
    }

    fn last_outcomes(&self) -> Vec<Outcome> {
        let mut decoder = cityid_core::wire::Decoder::new(&self.commits.last().unwrap().1.receipts);
        let count = decoder.array(usize::MAX).unwrap();
        (0..count).map(|_| Receipt::decode(decoder.bytes(usize::MAX).unwrap()).unwrap().outcome).collect()
    }

    /// One transaction in a block of its own.
    fn run(&mut self, operations: Value, signers: &[&SigningKey]) -> Outcome {
        let (_, transaction) = self.signed(operations, signers);
        self.block(&[transaction]).remove(0)
    }

    fn ok(&mut self, operations: Value, signers: &[&SigningKey]) -> Vec<Output> {
        match self.run(operations, signers) {
            Outcome::Committed(outputs) => outputs,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self, operations: Value, signers: &[&SigningKey], reason: &str) {
        let root = self.ledger.published().state.root();
        assert_eq!(self.run(operations, signers), Outcome::Rejected(reason.to_owned(), 0));
        assert_eq!(self.ledger.published().state.root(), root, "a refused transaction changes nothing");
    }

    fn refused_operation(&mut self, operation: Operation, signers: &[&SigningKey], reason: &str) {
        let root = self.ledger.published().state.root();
        let valid_until = self.next();
        let (_, transaction) = self.signed_operations(vec![operation], signers, valid_until);
        assert_eq!(self.block(&[transaction]), [Outcome::Rejected(reason.to_owned(), 0)]);
        assert_eq!(self.ledger.published().state.root(), root, "a refused transaction changes nothing");
    }

    fn record(&self, key: &MapKey<'_>) -> Record {
        Record::decode(&self.ledger.published().state.get(&key.path()).unwrap()).unwrap()
    }

    fn admit_json(&self, org: &str, holder_key: &SigningKey, quota: u64) -> Value {
        let subject = Code::parse(&format!("MA.156.130100.{org}"), None).unwrap();
        let possession =
            holder_key.sign(&possession_message(&self.genesis(), &subject, Purpose::Transaction, &public(holder_key))).to_bytes();
        json!([{"op": "admit_organisation", "city": "130100", "org": org, "name": "路灯管理处", "quota": quota,
            "keys": [{"purpose": "transaction", "key": hex(&public(holder_key)), "possession": hex(&possession)}], "commitments": {}}])
    }

    /// 石家庄 admits A7K2, which holds a thousand serials and a category.
    fn with_organisation() -> (World, SigningKey, SigningKey) {
        let mut world = World::new();
        let (city, org) = (key("130100/transaction"), key("A7K2"));
        let admission = world.admit_json("A7K2", &org, 10_000);
        world.ok(admission, &[&city]);
        let outputs = world.ok(
            json!([allocate("A7K2", 1000), {"op": "register_category", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "name": "路灯"}]),
            &[&org],
        );
        assert_eq!(outputs, [Output::Range(0, 1000), Output::None]);
        (world, city, org)
    }
}

fn allocate(org: &str, size: u64) -> Value {
    json!({"op": "allocate_range", "city": "130100", "org": org, "class": "010203", "size": size})
}

fn register(serials: &[u32]) -> Value {
    let items: Vec<Value> = serials.iter().map(|serial| json!({"serial": serial, "commitments": {"location": "ab".repeat(32)}})).collect();
    json!([{"op": "register_items", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "items": items}])
}

fn update(serial: u32, version: u64) -> Value {
    json!([{"op": "update_items", "city": "130100", "class": "010203", "items": [{"serial": serial, "expected_version": version, "commitments": {}}]}])
}

fn set_status(code: &str, version: u64, status: &str) -> Value {
    json!([{"op": "set_status", "code": code, "expected_version": version, "status": status}])
}

fn item_code(serial: u32) -> String {
    Subject::parse(&format!("130100010203{serial:09}"), None).unwrap();
    cityid_core::code::Code::item(
        City::parse("130100").unwrap(),
        Some(cityid_core::code::Org::parse("A7K2").unwrap()),
        cityid_core::code::Use::parse("60").unwrap(),
        cityid_core::code::Class::parse("010203").unwrap(),
        cityid_core::code::Model::parse("1").unwrap(),
        cityid_core::code::Serial::new(serial).unwrap(),
    )
    .text()
}

#[test]
fn a_city_admits_an_organisation_once_and_with_its_own_key() {
    let mut world = World::new();
    let (city, other, org) = (key("130100/transaction"), key("110000/transaction"), key("A7K2"));
    let admission = world.admit_json("A7K2", &org, 10_000);
    world.refused(admission.clone(), &[&other], "not_authorised");
    world.refused(admission.clone(), &[&org], "not_authorised");
    world.ok(admission.clone(), &[&city]);
    world.refused(admission, &[&city], "exists");
    let again = world.admit_json("B7K2", &org, 10_000);
    world.refused(again, &[&city], "key_in_use");
    let mut unknown = world.admit_json("C7K2", &key("C7K2"), 10);
    unknown[0]["city"] = json!("990000");
    let (_, transaction) = world.signed(unknown, &[&city]);
    let admissions = world.ledger.admit(&transaction).unwrap();
    assert!(
        matches!(admissions[0].refused, Some(Error::Rule { reason: "bad_signature", .. })),
        "the proof of possession is for another subject"
    );
}

#[test]
fn ranges_are_handed_out_in_block_order_without_overlap() {
    let mut world = World::new();
    let (city, a, b) = (key("130100/transaction"), key("A7K2"), key("B7K2"));
    for (org, key) in [("A7K2", &a), ("B7K2", &b)] {
        let admission = world.admit_json(org, key, 2_000_000);
        world.ok(admission, &[&city]);
    }
    let mut requests = Vec::new();
    for _ in 0..3 {
        requests.push(world.signed(json!([allocate("A7K2", 1000)]), &[&a]).1);
        requests.push(world.signed(json!([allocate("B7K2", 1000)]), &[&b]).1);
    }
    requests.push(world.signed(json!([allocate("A7K2", 1_000_000)]), &[&a]).1);
    requests.push(world.signed(json!([allocate("B7K2", 1000)]), &[&b]).1);
    // In one batch: a pool would serve the two senders in turns.
    let digest = world.ledger.ingest(&[&assemble_batch(requests.len(), &requests.concat())])[0].0;
    let candidate = world.execute(&[digest]).unwrap();
    world.commit(candidate);
    let bases: Vec<u64> = world
        .last_outcomes()
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Committed(outputs) => base(outputs[0]),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bases, [0, 1000, 2000, 3000, 4000, 5000, 1_000_000, 6000]);
    world.refused(json!([allocate("A7K2", 1_000_000)]), &[&a], "over_quota");
    world.refused(json!([allocate("A7K2", 1000)]), &[&b], "not_authorised");
    let holder = world.record(&MapKey::Thousand(
        City::parse("130100").unwrap(),
        cityid_core::code::Class::parse("010203").unwrap(),
        cityid_core::code::Serial::new(1000).unwrap(),
    ));
    assert_eq!(holder.holder.as_deref(), Some("MA.156.130100.B7K2"));
}

#[test]
fn a_full_million_opens_the_next_and_the_last_one_is_the_end() {
    let mut world = World::with(|json| json["parameters"]["max_operations"] = json!(4096));
    let city = key("130100/transaction");
    let city_range = |size: u64| json!({"op": "allocate_range", "city": "130100", "class": "010203", "size": size});
    let outputs = world.ok(Value::Array(vec![city_range(1000); 1001]), &[&city]);
    assert_eq!((outputs[999], outputs[1000]), (Output::Range(999_000, 1000), Output::Range(1_000_000, 1000)));
    let outputs = world.ok(Value::Array(vec![city_range(1_000_000); 998]), &[&city]);
    assert_eq!(outputs[997], Output::Range(999_000_000, 1_000_000));
    world.refused(json!([city_range(1_000_000)]), &[&city], "exhausted");
    assert_eq!(world.ok(json!([city_range(1000)]), &[&city]), [Output::Range(1_001_000, 1000)], "the open million goes on");
}

#[test]
fn items_are_registered_only_where_the_rule_allows() {
    let (mut world, city, org) = World::with_organisation();
    let mut no_category = register(&[1]);
    no_category[0]["model"] = json!("2");
    world.refused(no_category, &[&org], "no_category");
    world.refused(register(&[1]), &[&city], "not_authorised");
    world.refused(register(&[1000]), &[&org], "not_in_range");
    world.ok(register(&[0, 1, 999]), &[&org]);
    world.refused(register(&[1]), &[&org], "exists");
}

#[test]
fn operations_of_a_transaction_are_atomic() {
    let (mut world, _, org) = World::with_organisation();
    let root = world.ledger.published().state.root();
    let outcome = world.run(json!([register(&[5])[0], register(&[6])[0], register(&[2000])[0]]), &[&org]);
    assert_eq!(outcome, Outcome::Rejected("not_in_range".into(), 2));
    assert_eq!(world.ledger.published().state.root(), root);
    // The control: without the bad operation the same serials go through, so they were free.
    world.ok(json!([register(&[5])[0], register(&[6])[0]]), &[&org]);
}

#[test]
fn versions_guard_updates_and_chain_by_hash() {
    let (mut world, _, org) = World::with_organisation();
    world.ok(register(&[7]), &[&org]);
    world.refused(update(7, 2), &[&org], "stale_version");
    world.refused(update(8, 1), &[&org], "unknown_code");
    let key = MapKey::Item(
        City::parse("130100").unwrap(),
        cityid_core::code::Class::parse("010203").unwrap(),
        cityid_core::code::Serial::new(7).unwrap(),
    );
    let first = world.record(&key);
    world.ok(json!([update(7, 1)[0], update(7, 2)[0]]), &[&org]);
    let third = world.record(&key);
    assert_eq!((first.version, third.version), (1, 3));
    let mut versions = Vec::new();
    cityid_core::ledger::stored::decode_changes(&world.commits.last().unwrap().1.changes, |_, record| versions.push(record.to_vec()))
        .unwrap();
    assert_eq!(versions.len(), 2, "both versions of the block are kept");
    assert_eq!(Record::decode(&versions[0]).unwrap().previous, Some(cityid_core::record::record_hash(&first.encode())));
    assert_eq!(third.previous, Some(cityid_core::record::record_hash(&versions[0])));
}

#[test]
fn status_moves_by_the_rule_and_what_the_city_suspends_only_the_city_reactivates() {
    let (mut world, city, org) = World::with_organisation();
    world.ok(register(&[7]), &[&org]);
    let code = item_code(7);
    world.refused(set_status(&code, 1, "active"), &[&org], "bad_transition");
    world.ok(set_status(&code, 1, "suspended"), &[&org]);
    world.ok(set_status(&code, 2, "active"), &[&org]);
    world.ok(set_status(&code, 3, "suspended"), &[&city]);
    world.refused(set_status(&code, 4, "active"), &[&org], "not_authorised");
    world.ok(set_status(&code, 4, "active"), &[&city]);
    world.ok(set_status(&code, 5, "retired"), &[&org]);
    world.refused(set_status(&code, 6, "active"), &[&city], "bad_transition");
    world.refused(update(7, 6), &[&org], "retired");
    world.refused(set_status("MA.156.130100", 1, "retired"), &[&city], "not_authorised");
    world.refused(set_status("MA.156.130100.A7K2", 1, "suspended"), &[&org], "not_authorised");
    world.ok(set_status("MA.156.130100.A7K2", 1, "suspended"), &[&city]);
    world.refused(register(&[8]), &[&org], "suspended");
    world.ok(set_status("MA.156.130100.A7K2", 2, "active"), &[&city]);
    let range = |version: u64, status: &str| json!([{"op": "set_status", "range": {"city": "130100", "class": "010203", "base": 0, "size": 1000}, "expected_version": version, "status": status}]);
    // Its second version: the first single item was noted in it.
    world.refused(range(2, "suspended"), &[&org], "not_authorised");
    world.refused(range(1, "suspended"), &[&city], "stale_version");
    world.ok(range(2, "suspended"), &[&city]);
    world.refused(register(&[8]), &[&org], "suspended");
}

#[test]
fn keys_rotate_with_possession_and_never_move_to_another_subject() {
    let (mut world, city, org) = World::with_organisation();
    let fresh = key("A7K2/2");
    let subject = Code::parse("MA.156.130100.A7K2", None).unwrap();
    let possession = fresh.sign(&possession_message(&world.genesis(), &subject, Purpose::Transaction, &public(&fresh))).to_bytes();
    let add = json!([{"purpose": "transaction", "key": hex(&public(&fresh)), "possession": hex(&possession)}]);
    let rotate = |version: u64, add: &Value, remove: Vec<String>| json!([{"op": "rotate_keys", "code": "MA.156.130100.A7K2", "expected_version": version, "add": add, "remove": remove}]);
    world.refused(rotate(1, &json!([]), vec![hex(&public(&org))]), &[&org], "no_key_left");
    world.refused(rotate(1, &add, vec![]), &[&city], "not_authorised");
    world.refused(rotate(2, &add, vec![]), &[&org], "stale_version");
    world.ok(rotate(1, &add, vec![hex(&public(&org))]), &[&org]);
    world.refused(register(&[8]), &[&org], "not_authorised");
    world.ok(register(&[8]), &[&fresh]);
    world.refused(rotate(2, &add, vec![]), &[&fresh], "key_in_use");
    let consensus = hex(&public(&key("130100/consensus")));
    world.refused(
        json!([{"op": "rotate_keys", "code": "MA.156.130100", "expected_version": 1, "add": [], "remove": [consensus]}]),
        &[&city],
        "bad_purpose",
    );
}

#[test]
fn an_id_counts_once_within_the_window_and_expires_with_it() {
    let mut world = World::with(|json| json["parameters"]["window"] = json!(10));
    let (city, org) = (key("130100/transaction"), key("A7K2"));
    let admission = world.admit_json("A7K2", &org, 10_000);
    let (id, transaction) = world.signed_until(admission, &[&city], 10);
    assert!(matches!(world.block(std::slice::from_ref(&transaction))[0], Outcome::Committed(_)));
    let admissions = world.ledger.admit(&transaction).unwrap();
    assert_eq!(admissions[0].refused, None, "sending it again is safe");
    assert!(world.ledger.seal(10, 1 << 20).is_none(), "and queues nothing");
    // A peer may still put it into a batch of its own: a duplicate receipt, no change, no invalid block.
    let batch = assemble_batch(1, &transaction);
    let digest = world.ledger.ingest(&[&batch]).remove(0);
    assert_eq!(digest.1, Ok(1));
    let root = world.ledger.published().state.root();
    let candidate = world.execute(&[digest.0]).unwrap();
    assert_eq!(candidate.header.state_root, root);
    world.commit(candidate);
    assert_eq!(world.last_outcomes(), [Outcome::Duplicate]);
    assert_eq!(world.ledger.receipt(&id).unwrap().0, 1, "the first inclusion is the one that counts");
    for _ in world.next()..=10 {
        world.block(&[]);
    }
    // From height 11 on it is expired, so that forgetting its id at that height cannot let it in again.
    world.ledger.ingest(&[&batch]);
    assert!(matches!(world.execute(&[digest.0]), Err(Error::Rule { reason: "invalid_block", .. })));
    assert_eq!(world.ledger.admit(&transaction).unwrap()[0].refused, None, "its receipt is still there");
    world.block(&[]);
    assert!(matches!(world.ledger.admit(&transaction).unwrap()[0].refused, Some(Error::Rule { reason: "expired", .. })));
    assert!(world.ledger.receipt(&id).is_none());
}

#[test]
fn what_breaks_the_stateless_rules_is_refused_with_its_reason() {
    let mut world = World::new();
    let city = key("130100/transaction");
    let admission = world.admit_json("A7K2", &key("A7K2"), 10);
    let reason = |world: &World, transaction: &[u8]| match world.ledger.admit(transaction) {
        Ok(admissions) => match &admissions[0].refused {
            Some(Error::Rule { reason, .. }) => (*reason).to_owned(),
            other => format!("{other:?}"),
        },
        Err(Error::Malformed(_)) => "malformed".to_owned(),
        Err(other) => format!("{other:?}"),
    };
    let (_, late) = world.signed_until(admission.clone(), &[&city], 0);
    assert_eq!(reason(&world, &late), "expired");
    let (_, early) = world.signed_until(admission.clone(), &[&city], 2001);
    assert_eq!(reason(&world, &early), "too_far");
    let (_, edge) = world.signed_until(admission.clone(), &[&city], 2000);
    assert_eq!(reason(&world, &edge), "None");
    let (_, good) = world.signed(admission.clone(), &[&city]);
    for position in [good.len() - 1, good.len() - 64] {
        let mut forged = good.clone();
        forged[position] ^= 1;
        assert_eq!(reason(&world, &forged), "bad_signature");
    }
    assert_eq!(reason(&world, &good[..good.len() - 1]), "malformed");
    assert_eq!(reason(&world, &[&good[..], &[0]].concat()), "malformed");
    let mut other = World::with(|json| json["name"] = json!("another network"));
    let (_, foreign) = other.signed(admission.clone(), &[&city]);
    assert_eq!(reason(&world, &foreign), "wrong_network");
    let many = Value::Array(vec![allocate("A7K2", 1000); 257]);
    let (_, large) = world.signed(many, &[&city]);
    assert_eq!(reason(&world, &large), "too_large");
    // A batch with one bad signature is refused whole, and the good one beside it in another batch is not.
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let bad = assemble_batch(2, &[good.clone(), forged].concat());
    let fine = assemble_batch(1, &good);
    let results = world.ledger.ingest(&[&bad, &fine]);
    assert!(matches!(results[0].1, Err(Error::Rule { reason: "bad_signature", .. })));
    assert_eq!(results[1].1, Ok(1));
    assert_eq!(world.ledger.missing(&[results[0].0, results[1].0]), [results[0].0]);
}

#[test]
fn candidates_do_not_disturb_each_other_or_the_committed_state() {
    let (mut world, _, org) = World::with_organisation();
    let before = world.ledger.published();
    let (_, first) = world.signed(register(&[1]), &[&org]);
    let (_, second) = world.signed(register(&[2]), &[&org]);
    let digests: Vec<Hash> =
        world.ledger.ingest(&[&assemble_batch(1, &first), &assemble_batch(1, &second)]).into_iter().map(|(digest, _)| digest).collect();
    let one = world.execute(&digests[..1]).unwrap();
    let two = world.execute(&digests[1..]).unwrap();
    let both = world.execute(&digests).unwrap();
    assert_ne!(one.header.state_root, two.header.state_root);
    assert_eq!(world.ledger.published().state.root(), before.state.root());
    let again = world.ledger.validate(&both.header_bytes, &digests).unwrap();
    assert_eq!((again.value, &again.header_bytes), (both.value, &both.header_bytes));
    drop(one);
    drop(again);
    world.commit(two);
    assert!(matches!(world.ledger.commit(both, &world.commits[0].2), Err(Error::Certificate(_))));
    assert_ne!(world.ledger.published().state.root(), before.state.root());
}

#[test]
fn batches_of_a_round_that_failed_are_not_executed_again() {
    let (mut world, _, org) = World::with_organisation();
    let (_, first) = world.signed(register(&[1]), &[&org]);
    let (_, second) = world.signed(register(&[2]), &[&org]);
    let bodies = [assemble_batch(1, &first), assemble_batch(1, &second)];
    let digests: Vec<Hash> = world.ledger.ingest(&[&bodies[0], &bodies[1]]).into_iter().map(|(digest, _)| digest).collect();
    let executions = |world: &World| world.ledger.counters.executions.load(std::sync::atomic::Ordering::Relaxed);
    let before = executions(&world);
    let (tip, _) = world.ledger.tip();
    let in_round = |world: &World, round: u64, city: &str, digests: &[Hash]| {
        world.ledger.execute(tip.height + 1, tip.time_ms + 1 + round, City::parse(city).unwrap(), digests).unwrap()
    };
    let one = in_round(&world, 0, "130100", &digests);
    let two = in_round(&world, 1, "110000", &digests);
    assert_eq!(executions(&world), before + 1);
    assert_ne!(one.value, two.value, "another time and proposer make another block");
    assert_eq!(one.header.state_root, two.header.state_root);
    // The control: other batches, or the same in another order, are executed.
    let turned: Vec<Hash> = digests.iter().rev().copied().collect();
    assert_ne!(in_round(&world, 2, "110000", &turned).header.batches_root, two.header.batches_root);
    assert_eq!(executions(&world), before + 2);
    let certificate = world.certify(&two);
    // What is refused takes nothing with it.
    assert!(matches!(world.ledger.commit(one, &certificate), Err(Error::Certificate(_))));
    assert_eq!(world.ledger.commit(two, &certificate).unwrap().committed, 2);
    // The same batches on another parent are other work: they were included by then.
    let (tip, _) = world.ledger.tip();
    for body in &bodies {
        world.ledger.ingest(&[body]);
    }
    let after = world.ledger.execute(tip.height + 1, tip.time_ms + 1, City::parse("130100").unwrap(), &digests).unwrap();
    assert_eq!(executions(&world), before + 3);
    assert_eq!(after.header.state_root, world.ledger.published().state.root(), "duplicates change nothing");
}

#[test]
fn a_proposer_finds_how_many_batches_have_so_many_items() {
    let (mut world, _, org) = World::with_organisation();
    let bodies: Vec<Vec<u8>> =
        [&[1, 2, 3][..], &[4], &[5, 6]].into_iter().map(|serials| assemble_batch(1, &world.signed(register(serials), &[&org]).1)).collect();
    let slices: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let digests: Vec<Hash> = world.ledger.ingest(&slices).into_iter().map(|(digest, _)| digest).collect();
    let counts: Vec<usize> = [0, 1, 3, 4, 5, 6, 100].map(|items| world.ledger.within_items(&digests, items)).into();
    assert_eq!(counts, [1, 1, 1, 2, 2, 3, 3], "one is never too many");
    assert_eq!(world.ledger.within_items(&[], 100), 0);
}

#[test]
fn validation_names_the_field_that_differs() {
    let (mut world, _, org) = World::with_organisation();
    let (_, transaction) = world.signed(register(&[1]), &[&org]);
    let digest = world.ledger.ingest(&[&assemble_batch(1, &transaction)])[0].0;
    let candidate = world.execute(&[digest]).unwrap();
    type Tamper = fn(&mut cityid_core::block::Header);
    let tamper: [(&str, Tamper); 8] = [
        ("genesis hash", |header| header.genesis[0] ^= 1),
        ("parent", |header| header.parent[0] ^= 1),
        ("batches root", |header| header.batches_root[0] ^= 1),
        ("transactions root", |header| header.transactions_root[0] ^= 1),
        ("receipts root", |header| header.receipts_root[0] ^= 1),
        ("state root", |header| header.state_root[0] ^= 1),
        ("validators hash", |header| header.validators[0] ^= 1),
        ("next validators hash", |header| header.next_validators[0] ^= 1),
    ];
    for (field, change) in tamper {
        let mut header = candidate.header.clone();
        change(&mut header);
        match world.ledger.validate(&header.encode(), &[digest]) {
            Err(Error::Rule { reason: "invalid_block", message }) => {
                assert!(message.contains(&format!("the {field} of")), "{field}: {message}")
            }
            other => panic!("{field}: {:?}", other.err()),
        }
    }
    assert!(world.ledger.validate(&candidate.header_bytes, &[digest]).is_ok(), "the control");
    let (tip, _) = world.ledger.tip();
    let city = City::parse("130100").unwrap();
    for (height, time, proposer, digests) in [
        (tip.height + 2, tip.time_ms + 1, city, vec![digest]),
        (tip.height, tip.time_ms + 1, city, vec![digest]),
        (tip.height + 1, tip.time_ms, city, vec![digest]),
        (tip.height + 1, tip.time_ms + 1, City::parse("999999").unwrap(), vec![digest]),
        (tip.height + 1, tip.time_ms + 1, city, vec![digest, digest]),
    ] {
        assert!(matches!(world.ledger.execute(height, time, proposer, &digests), Err(Error::Rule { reason: "invalid_block", .. })));
    }
    assert!(matches!(
        world.ledger.execute(tip.height + 1, tip.time_ms + 1, city, &[[9; 32]]),
        Err(Error::Rule { reason: "missing_batch", .. })
    ));
}

/// What makes a certificate unfit for the block that it decided.
const WRONG_CERTIFICATES: [fn(&mut CommitCertificate); 5] = [
    |certificate| certificate.height += 1,
    |certificate| certificate.value[0] ^= 1,
    |certificate| certificate.validators = 5,
    |certificate| certificate.validators = 3,
    |certificate| certificate.signatures.truncate(2),
];

#[test]
fn a_certificate_that_answers_could_not_show_commits_nothing() {
    let (mut world, _, _) = World::with_organisation();
    for change in WRONG_CERTIFICATES {
        let candidate = world.execute(&[]).unwrap();
        let mut certificate = CommitCertificate::decode(&world.certify(&candidate)).unwrap();
        change(&mut certificate);
        let height = world.ledger.published().height;
        assert!(matches!(world.ledger.commit(candidate, &certificate.encode()), Err(Error::Certificate(_))));
        assert_eq!(world.ledger.published().height, height);
    }
    let candidate = world.execute(&[]).unwrap();
    world.commit(candidate);
}

#[test]
fn a_restart_from_the_store_gives_the_same_ledger() {
    let (mut world, _, org) = World::with_organisation();
    world.ok(register(&[1, 2, 3]), &[&org]);
    world.ok(update(2, 1), &[&org]);
    let fresh = World::new();
    let rows = &world.commits;
    let split = rows.len() / 2;
    for part in [&rows[..split], &rows[split..]] {
        let headers: Vec<&[u8]> = part.iter().map(|row| &row.0[..]).collect();
        let changes: Vec<&[u8]> = part.iter().map(|row| &row.1.changes[..]).collect();
        let receipts: Vec<&[u8]> = part.iter().map(|row| &row.1.receipts[..]).collect();
        fresh.ledger.replay(&headers, &changes, &receipts, &part.last().unwrap().2).unwrap();
    }
    assert_eq!(fresh.ledger.published().state.root(), world.ledger.published().state.root());
    assert_eq!(fresh.ledger.log_root(), world.ledger.log_root());
    assert_eq!(fresh.ledger.tip().1, world.ledger.tip().1);
    // A flipped bit anywhere in what was stored is noticed, and the ledger stays where it was.
    let last = rows.last().unwrap();
    for position in 0..last.1.changes.len() {
        let damaged = World::new();
        let headers: Vec<&[u8]> = rows.iter().map(|row| &row.0[..]).collect();
        let mut changes: Vec<Vec<u8>> = rows.iter().map(|row| row.1.changes.clone()).collect();
        changes.last_mut().unwrap()[position] ^= 0x40;
        let changes: Vec<&[u8]> = changes.iter().map(Vec::as_slice).collect();
        let receipts: Vec<&[u8]> = rows.iter().map(|row| &row.1.receipts[..]).collect();
        assert!(damaged.ledger.replay(&headers, &changes, &receipts, &last.2).is_err(), "byte {position}");
        assert_eq!(damaged.ledger.published().height, 0);
    }
    // Neither is a certificate of other headers, or of too few or other cities; and the same ledger can then be given the right one.
    let headers: Vec<&[u8]> = rows.iter().map(|row| &row.0[..]).collect();
    let changes: Vec<&[u8]> = rows.iter().map(|row| &row.1.changes[..]).collect();
    let receipts: Vec<&[u8]> = rows.iter().map(|row| &row.1.receipts[..]).collect();
    let damaged = World::new();
    for change in WRONG_CERTIFICATES {
        let mut certificate = CommitCertificate::decode(&last.2).unwrap();
        change(&mut certificate);
        let result = damaged.ledger.replay(&headers, &changes, &receipts, &certificate.encode());
        assert!(matches!(result, Err(Error::Certificate(_))), "{result:?}");
        assert_eq!((damaged.ledger.tip(), damaged.ledger.log_root()), (World::new().ledger.tip(), World::new().ledger.log_root()));
    }
    damaged.ledger.replay(&headers, &changes, &receipts, &last.2).unwrap();
    assert_eq!(damaged.ledger.log_root(), world.ledger.log_root());
}

#[test]
fn batches_that_cannot_be_included_any_more_give_their_good_transactions_back() {
    let (mut world, _, org) = World::with_organisation();
    let height = world.next();
    let (_, short) = world.signed_until(register(&[1]), &[&org], height);
    let (_, long) = world.signed_until(register(&[2]), &[&org], height + 50);
    let digest = world.ledger.ingest(&[&assemble_batch(2, &[short, long].concat())])[0].0;
    assert!(world.ledger.is_includable(&digest, height));
    assert!(!world.ledger.is_includable(&digest, height + 1));
    world.block(&[]);
    assert_eq!(world.ledger.reclaim(&digest), 1);
    assert_eq!(world.ledger.waiting().0, 1);
    assert_eq!(world.ledger.pool_size(), (0, 0));
}

#[test]
fn execution_order_does_not_depend_on_the_hash_seed() {
    let roots: Vec<Hash> = [[1u8; 32], [2; 32]]
        .iter()
        .map(|seed| {
            let mut world = World { ledger: Ledger::new(Genesis::from_json(&genesis_json().to_string()).unwrap(), *seed).unwrap(), nonce: 0, commits: Vec::new() };
            let (city, org) = (key("130100/transaction"), key("A7K2"));
            let admission = world.admit_json("A7K2", &org, 10_000);
            world.ok(admission, &[&city]);
            world.ok(json!([allocate("A7K2", 1000), {"op": "register_category", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "name": "n"}]), &[&org]);
            world.ok(register(&(0..200).collect::<Vec<_>>()), &[&org]);
            world.ledger.log_root().unwrap()
        })
        .collect();
    assert_eq!(roots[0], roots[1]);
}

/// A body as a hostile tool builds it: what the JSON form refuses, CBOR can still say.
fn with_action(change: impl FnOnce(&mut cityid_core::ledger::operation::Action), operation: &Value) -> Operation {
    let mut operation = Operation::from_json(operation.clone()).unwrap();
    change(&mut operation.action);
    operation
}

#[test]
fn names_and_services_that_do_not_show_what_they_hold_are_refused() {
    use cityid_core::ledger::operation::Action;
    let (mut world, city, org) = World::with_organisation();
    let category =
        json!({"op": "register_category", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "9", "name": "n"});
    for name in ["", "a\nb", "a\u{202e}b", " a"] {
        assert!(matches!(
            Operation::from_json(json!({"op": "register_category", "city": "130100", "org": "A7K2", "use": "60",
            "class": "010203", "model": "9", "name": name})),
            Err(Error::Malformed(_))
        ));
        let rename = |action: &mut Action| match action {
            Action::RegisterCategory { name: field, .. } | Action::AdmitOrganisation { name: field, .. } => *field = name.to_owned(),
            _ => unreachable!(),
        };
        let operation = with_action(rename, &category);
        world.refused_operation(operation, &[&org], "bad_name");
        let admission = world.admit_json("C7K2", &key("C7K2"), 10);
        world.refused_operation(with_action(rename, &admission[0]), &[&city], "bad_name");
    }
    let mut attribute = register(&[20]);
    attribute[0]["items"][0]["commitments"] = json!({"a\u{0}b": "ab".repeat(32)});
    world.refused(attribute, &[&org], "bad_name");
    for uri in ["javascript:alert(1)", "https://a\"><b", "no scheme"] {
        let mut service = register(&[20]);
        service[0]["items"][0]["services"] = json!([["linkset", uri]]);
        world.refused(service, &[&org], "bad_service");
    }
    let mut service = register(&[20]);
    service[0]["items"][0]["services"] = json!([["linkset", "https://city.example/20"]]);
    world.ok(service, &[&org]);
}

#[test]
fn a_record_that_nobody_could_read_back_is_never_written() {
    let mut world = World::with(|json| {
        json["parameters"]["max_commitments"] = json!(256);
        json["parameters"]["max_services"] = json!(64);
    });
    let (city, org) = (key("130100/transaction"), key("A7K2"));
    let admission = world.admit_json("A7K2", &org, 10_000);
    world.ok(admission, &[&city]);
    world.ok(json!([allocate("A7K2", 1000), {"op": "register_category", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "name": "n"}]), &[&org]);
    let with_commitments = |count: usize| {
        let mut operation = register(&[1]);
        let commitments: serde_json::Map<String, Value> = (0..count).map(|n| (format!("{n:064}"), json!("ab".repeat(32)))).collect();
        operation[0]["items"][0]["commitments"] = commitments.into();
        operation
    };
    world.refused(with_commitments(256), &[&org], "too_large");
    world.ok(with_commitments(100), &[&org]);
    world.ok(update(1, 1), &[&org]);
}

#[test]
fn a_genesis_has_names_that_its_records_can_hold() {
    let parse = |change: &dyn Fn(&mut Value)| {
        let mut json = genesis_json();
        change(&mut json);
        Genesis::from_json(&json.to_string())
    };
    assert!(parse(&|_| ()).is_ok(), "the control");
    for name in ["", "a\u{7}", &"x".repeat(256)] {
        assert!(matches!(parse(&|json| json["name"] = json!(name)), Err(Error::Malformed(_))), "{name:?}");
        assert!(matches!(parse(&|json| json["cities"][2]["name"] = json!(name)), Err(Error::Malformed(_))), "{name:?}");
    }
    assert!(parse(&|json| json["cities"][2] = json["cities"][1].clone()).is_err(), "a city twice");
}

#[test]
fn heights_at_the_edge_of_their_range_are_answered() {
    let (mut world, _, org) = World::with_organisation();
    let (_, transaction) = world.signed_until(register(&[1]), &[&org], i64::MAX as u64);
    assert!(matches!(world.ledger.admit(&transaction).unwrap()[0].refused, Some(Error::Rule { reason: "too_far", .. })));
    let digest = world.ledger.ingest(&[&assemble_batch(1, &transaction)])[0].0;
    for height in [0, 1, i64::MAX as u64, u64::MAX] {
        world.ledger.is_includable(&digest, height);
        let city = City::parse("130100").unwrap();
        assert!(world.ledger.execute(height, u64::MAX, city, &[digest]).is_err());
        assert!(world.ledger.log_root_at(height.max(9)).is_err() && world.ledger.inclusion(height, u64::MAX).is_err());
    }
}
