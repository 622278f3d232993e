//! Sealed ranges and overrides in the ledger (P25, P26, P27, P41, P45 to P47): who may, when, with which proof, and what an answer
//! says afterwards. Each refusal has its reason and leaves the state as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod chain;
mod support;

use chain::{key, Chain};
use cityid_core::answer::{build_with_tables, verify, Answer, Options, Verdict, VerdictKind};
use cityid_core::code::Subject;
use cityid_core::hash::{hex, sha256};
use cityid_core::history::{self, Held, History, Told};
use cityid_core::ledger::operation::{NewTable, Operation, Range};
use cityid_core::ledger::stored::Outcome;
use cityid_core::record::{record_hash, Children, Record, Status, Table};
use cityid_core::table::storage_receipt_message;
use cityid_core::table::TableProof;
use cityid_core::trust::Trust;
use cityid_core::wire::Encoder;
use serde_json::{json, Value};
use support::{city, class, code, code_of, item_record, next_version, serial, File};

const CITY: &str = "130100/transaction";
const KEEPERS: [&str; 2] = ["110000", "330100"];

/// A range of A7K2, with the table files that are at hand.
struct World {
    chain: Chain,
    files: Vec<File>,
}

fn thousand(base: u32) -> Range {
    Range::new(city(), class(), serial(base), 1_000).unwrap()
}

fn summary(file: &File) -> NewTable {
    NewTable { root: file.table.root(), digest: sha256(&file.table.root()), count: file.table.count() }
}

/// A table of the first thousand: version-1 records of these serials.
fn first_table(serials: &[u32]) -> File {
    File::new(10, serials.iter().map(|number| (*number, item_record(&code(*number), 1))))
}

fn hex_of(proof: &TableProof) -> String {
    let mut out = Encoder::new();
    proof.encode(&mut out);
    hex(&out.finish())
}

fn range_json(range: &Range) -> Value {
    json!({"city": range.city.as_str(), "class": range.class.as_str(), "base": range.base.get(), "size": range.size})
}

fn register(numbers: &[u32]) -> Value {
    let items: Vec<Value> = numbers.iter().map(|number| json!({"serial": number})).collect();
    json!([{"op": "register_items", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "items": items}])
}

fn update(number: u32, version: u64) -> Value {
    let item = json!({"serial": number, "expected_version": version, "commitments": {"place": "ab".repeat(32)}});
    json!([{"op": "update_items", "city": "130100", "class": "010203", "items": [item]}])
}

fn set_status(code: &str, version: u64, status: &str) -> Value {
    json!([{"op": "set_status", "code": code, "expected_version": version, "status": status}])
}

/// An override of an item of A7K2.
fn change(number: u32, version: u64, status: &str, proof: &TableProof) -> Value {
    json!([{"op": "override_item", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "serial": number,
        "expected_version": version, "status": status, "proof": hex_of(proof)}])
}

fn with(operation: &Value, name: &str, value: Value) -> Value {
    let mut operation = operation.clone();
    operation[0][name] = value;
    operation
}

impl World {
    /// A7K2 (key `a`) and B8L3 (key `b`) of 130100 hold the first and the second thousand, A7K2 also the third; A7K2 has a category.
    fn new() -> World {
        World::of(|_| {})
    }

    fn of(change: impl FnOnce(&mut Value)) -> World {
        let mut chain = Chain::new(change);
        for (org, name) in [("A7K2", "a"), ("B8L3", "b")] {
            let entry = chain.entry(&format!("MA.156.130100.{org}"), "transaction", name);
            let admission =
                json!([{"op": "admit_organisation", "city": "130100", "org": org, "name": org, "quota": 2_000_000, "keys": [entry]}]);
            chain.ok(&admission, &[CITY]);
        }
        let allocate = |org: &str| json!({"op": "allocate_range", "city": "130100", "org": org, "class": "010203", "size": 1_000});
        let category = json!({"op": "register_category", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "name": "Lamp"});
        chain.ok(&json!([allocate("A7K2"), category]), &["a"]);
        chain.ok(&json!([allocate("B8L3")]), &["b"]);
        chain.ok(&json!([allocate("A7K2")]), &["a"]);
        World { chain, files: Vec::new() }
    }

    fn receipts(&self, range: &Range, version: u64, table: &NewTable, cities: &[&str]) -> Value {
        let message = storage_receipt_message(&self.chain.ledger.genesis().hash(), range, version, table);
        let sign = |city: &str| hex(&key(&format!("{city}/checkpoint")).sign(&message).to_bytes());
        cities.iter().map(|city| json!({"city": city, "signature": sign(city)})).collect()
    }

    /// The seal of a table, with receipts of these cities.
    fn seal_by(&self, range: &Range, version: u64, file: &File, cities: &[&str]) -> Value {
        let table = summary(file);
        json!([{"op": "seal_range", "range": range_json(range), "expected_version": version,
            "table": {"root": hex(&table.root), "digest": hex(&table.digest), "count": table.count},
            "receipts": self.receipts(range, version, &table, cities)}])
    }

    fn seal(&self, version: u64, file: &File) -> Value {
        self.seal_by(&thousand(0), version, file, &KEEPERS)
    }

    /// Seals the next table of the first thousand, whatever version the range has.
    #[track_caller]
    fn sealed(&mut self, file: File) {
        let operation = self.seal(self.range().version, &file);
        self.chain.ok(&operation, &["a"]);
        self.files.push(file);
    }

    fn range(&self) -> Record {
        self.chain.range(&thousand(0))
    }

    fn table(&self) -> Table {
        self.range().table.unwrap()
    }

    fn answer(&self, subject: &str) -> Answer {
        let published = self.chain.ledger.published();
        let lookup =
            |table: &Table, index| self.files.iter().rev().find(|file| file.table.root() == table.root).map(|file| file.prove(index));
        let subject = Subject::parse(subject, None).unwrap();
        build_with_tables(&subject, &*published.state, published.certified.as_ref().unwrap(), &lookup).unwrap()
    }

    fn verdict(&self, subject: &str) -> Verdict {
        let trust = Trust::from_genesis(self.chain.ledger.genesis()).unwrap();
        verify(&self.answer(subject), &trust, &Options { code: Some(subject), ..Options::default() })
    }

    #[track_caller]
    fn assert_item(&self, number: u32, version: u64, status: Status) {
        let verdict = self.verdict(&code(number));
        assert_eq!((verdict.verdict, verdict.status), (VerdictKind::Registered, Some(status)), "{verdict:#?}");
        assert_eq!(verdict.record.unwrap().version, version);
    }
}

#[test]
fn a_range_is_sealed_by_its_holder_with_the_word_of_enough_cities() {
    let mut world = World::new();
    let file = first_table(&[0, 7, 999]);
    let (range, table) = (thousand(0), summary(&file));
    let seal = world.seal(1, &file);
    for wrong in [&[CITY][..], &["b"], &["330100/transaction"], &["110000/checkpoint"], &["stranger"], &[CITY, "b"]] {
        world.chain.refused(&seal, wrong, "not_authorised");
    }
    for version in [0, 2] {
        let stale = world.seal(version, &file);
        world.chain.refused(&stale, &["a"], "stale_version");
    }
    for few in [&[][..], &["330100"]] {
        let operation = world.seal_by(&range, 1, &file, few);
        world.chain.refused(&operation, &["a"], "too_few_receipts");
    }
    // A receipt for anything else is none: of another range, version, table, network, key or city.
    let other = summary(&first_table(&[1]));
    let receipts = |range: &Range, version, table: &NewTable| world.receipts(range, version, table, &KEEPERS);
    let mut bad = vec![
        receipts(&thousand(1_000), 1, &table),
        receipts(&range, 2, &table),
        receipts(&range, 1, &NewTable { root: other.root, ..table }),
        receipts(&range, 1, &NewTable { digest: other.digest, ..table }),
        receipts(&range, 1, &NewTable { count: 4, ..table }),
    ];
    let million = Range { size: 1_000_000, ..range };
    bad.push(receipts(&million, 1, &table));
    let genesis = world.chain.ledger.genesis().hash();
    for (network, signer) in
        [([7; 32], "110000/checkpoint"), (genesis, "110000/consensus"), (genesis, "110000/transaction"), (genesis, "440300/checkpoint")]
    {
        let signature = hex(&key(signer).sign(&storage_receipt_message(&network, &range, 1, &table)).to_bytes());
        let mut list = receipts(&range, 1, &table);
        list[0]["signature"] = json!(signature);
        bad.push(list);
    }
    let mut stranger = receipts(&range, 1, &table);
    stranger[0]["city"] = json!("650100");
    bad.push(stranger);
    // One good receipt too many does no harm, one bad receipt too many does.
    let mut third = world.receipts(&range, 1, &table, &["110000", "330100", "440300"]);
    third[2]["signature"] = third[0]["signature"].clone();
    bad.push(third);
    for list in bad {
        world.chain.refused(&with(&seal, "receipts", list), &["a"], "bad_receipt");
    }
    let mut twice = seal[0].clone();
    twice["receipts"][1] = twice["receipts"][0].clone();
    assert!(Operation::from_json(twice).is_err(), "a city counts once");

    world.chain.ok(&seal, &["a"]);
    let record = world.range();
    assert_eq!((record.version, record.children, record.used), (2, Children::Table, false));
    let expected = Table { root: table.root, depth: 10, version: 1, height: record.height, overrides: 0, digest: table.digest, count: 3 };
    assert_eq!(record.table, Some(expected));
    world.chain.refused(&seal, &["a"], "stale_version");
}

#[test]
fn nothing_but_a_whole_active_range_that_is_held_is_sealed() {
    let mut world = World::new();
    let file = first_table(&[0]);
    let deep = File::new(20, [(0, item_record(&code(0), 1))]);
    let open = Range::new(city(), class(), serial(0), 1_000_000).unwrap();
    let free = thousand(3_000);
    let far = Range::new(city(), class(), serial(5_000_000), 1_000_000).unwrap();
    for (range, file) in [(&open, &deep), (&free, &file), (&far, &deep)] {
        let operation = world.seal_by(range, 1, file, &KEEPERS);
        world.chain.refused(&operation, &["a", CITY], "not_in_range");
    }
    // Within a million that is held whole, a thousand is no range.
    let outputs =
        world.chain.ok(&json!([{"op": "allocate_range", "city": "130100", "org": "A7K2", "class": "010203", "size": 1_000_000}]), &["a"]);
    assert_eq!(outputs, [cityid_core::ledger::execute::Output::Range(1_000_000, 1_000_000)]);
    let inside = world.seal_by(&thousand(1_000_000), 1, &file, &KEEPERS);
    world.chain.refused(&inside, &["a"], "not_in_range");
    let whole = Range::new(city(), class(), serial(1_000_000), 1_000_000).unwrap();
    let operation = world.seal_by(&whole, 1, &File::new(20, [(5, item_record(&code(1_000_005), 1))]), &KEEPERS);
    world.chain.ok(&operation, &["a"]);
    assert_eq!(world.chain.range(&whole).table.unwrap().depth, 20);

    let suspend = |version: u64, status: &str| json!([{"op": "set_status", "range": range_json(&thousand(0)), "expected_version": version, "status": status}]);
    world.chain.ok(&suspend(1, "suspended"), &[CITY]);
    let operation = world.seal(2, &file);
    world.chain.refused(&operation, &["a"], "suspended");
    world.chain.ok(&suspend(2, "active"), &[CITY]);
    let organisation = |version: u64, status: &str| set_status("MA.156.130100.A7K2", version, status);
    world.chain.ok(&organisation(1, "suspended"), &[CITY]);
    let operation = world.seal(3, &file);
    world.chain.refused(&operation, &["a"], "suspended");
    world.chain.ok(&organisation(2, "active"), &[CITY]);
    world.chain.ok(&operation, &["a"]);
}

#[test]
fn of_two_seals_in_one_block_the_first_counts() {
    let mut world = World::new();
    let (one, two) = (first_table(&[1]), first_table(&[2]));
    let operations = [world.seal(1, &one), world.seal(1, &two)];
    let transactions = operations.map(|operation| world.chain.signed(&operation, &["a"]));
    let outcomes = world.chain.block(&transactions);
    assert!(matches!(outcomes[0], Outcome::Committed(_)));
    assert_eq!(outcomes[1], Outcome::Rejected("stale_version".to_owned(), 0));
    assert_eq!(world.table().root, one.table.root());
}

#[test]
fn a_new_table_is_the_next_version_and_takes_nothing_away() {
    let mut world = World::new();
    world.sealed(first_table(&[1, 2, 3]));
    let fewer = world.seal(2, &first_table(&[1, 2]));
    world.chain.refused(&fewer, &["a"], "bad_table");
    world.sealed(first_table(&[1, 2, 3, 4]));
    let table = world.table();
    assert_eq!((table.version, table.count, table.overrides), (2, 4, 0));
    assert_eq!(table.height, world.chain.ledger.published().height);
    world.assert_item(4, 1, Status::Active);
}

#[test]
fn single_items_mark_their_range_once_and_its_first_table_counts_them() {
    let mut world = World::new();
    assert!(!world.range().used);
    let early = world.seal(1, &first_table(&[1, 2]));
    world.chain.ok(&register(&[5]), &["a"]);
    let marked = world.range();
    assert!(marked.used && marked.version == 2 && marked.children == Children::Items);
    world.chain.ok(&register(&[6, 8]), &["a"]);
    assert_eq!(world.range(), marked, "once, and no further write");
    world.chain.refused(&early, &["a"], "stale_version");
    // A table that was made without them: the answers still find them.
    world.sealed(first_table(&[1, 2]));
    assert_eq!(world.table().overrides, 1);
    for (number, expected) in
        [(1, VerdictKind::Registered), (5, VerdictKind::Registered), (8, VerdictKind::Registered), (9, VerdictKind::NotRegistered)]
    {
        assert_eq!(world.verdict(&code(number)).verdict, expected, "{number}");
    }
    // An item from before the seal may be in the table: only with its proof is it changed.
    world.chain.refused(&update(5, 1), &["a"], "sealed");
    world.chain.refused(&set_status(&code(5), 1, "suspended"), &["a"], "sealed");
    let proof = world.files[0].prove(5);
    world.chain.ok(&change(5, 1, "suspended", &proof), &["a"]);
    assert_eq!(world.table().overrides, 2);
    world.assert_item(5, 2, Status::Suspended);
    // The next table takes them up.
    let own = world.chain.record(&code(5));
    let old = [1, 2, 6, 8].map(|number| (number, item_record(&code(number), 1)));
    world.sealed(File::new(10, old.into_iter().chain([(5, own)])));
    assert_eq!((world.table().overrides, world.table().version), (0, 2));
    world.assert_item(5, 2, Status::Suspended);
}

#[test]
fn no_operation_goes_behind_a_table() {
    let mut world = World::new();
    world.sealed(first_table(&[1, 2]));
    for number in [1, 2, 3] {
        world.chain.refused(&register(&[number]), &["a"], "sealed");
        world.chain.refused(&update(number, 1), &["a"], "sealed");
        world.chain.refused(&set_status(&code(number), 1, "suspended"), &["a"], "sealed");
        world.chain.refused(&set_status(&code(number), 1, "suspended"), &[CITY], "sealed");
    }
    // The control: beside it single items go on.
    world.chain.ok(&register(&[2_000]), &["a"]);
    world.chain.ok(&set_status(&code(2_000), 1, "suspended"), &["a"]);
}

#[test]
fn an_override_needs_the_proof_of_its_serial_under_the_present_table() {
    let mut world = World::new();
    let other = first_table(&[1, 2, 3]);
    world.chain.refused(&change(1, 1, "suspended", &other.prove(1)), &["a"], "not_sealed");
    world.chain.refused(&change(4_000, 1, "suspended", &other.prove(1)), &["a"], "not_sealed");
    world.sealed(first_table(&[1, 2]));
    let good = world.files[0].prove(1);
    let mut bad = vec![other.prove(1), world.files[0].prove(2), world.files[0].prove(3), TableProof { leaf: None, ..good.clone() }];
    bad.push(TableProof { bitmap: 0, siblings: Vec::new(), ..good.clone() });
    let mut salted = good.clone();
    salted.leaf.as_mut().unwrap().salt[3] ^= 1;
    bad.push(salted);
    let mut edited = good.clone();
    edited.leaf.as_mut().unwrap().record = item_record(&code(1), 2).encode();
    bad.push(edited);
    for proof in &bad {
        world.chain.refused(&change(1, 1, "suspended", proof), &["a"], "bad_proof");
        world.chain.refused(&change(1, 0, "active", proof), &["a"], "bad_proof");
    }
    world.chain.ok(&change(1, 1, "suspended", &good), &["a"]);
    world.assert_item(1, 2, Status::Suspended);
}

/// Whoever signs receipts may sign for anything: what the ledger then writes must still be a record.
#[test]
fn a_leaf_that_is_no_item_of_its_serial_is_not_gone_on_from() {
    let mut world = World::new();
    let height = world.chain.next();
    let good = item_record(&code(1), 1);
    let later = Record { height: height + 1, ..good.clone() };
    let endless = Record { version: 1 << 41, previous: Some([1; 32]), previous_height: Some(1), ..good.clone() };
    let foreign = Record { code: Some(support::FOREIGN.to_owned()), ..good.clone() };
    let range = support::range_record(cityid_core::map_key::Kind::Thousand, None);
    let elsewhere = item_record(&code(9), 1);
    let leaves = [
        (1, good),
        (2, Record { code: Some(code(2)), ..later }),
        (3, Record { code: Some(code(3)), ..endless }),
        (4, foreign),
        (5, range),
        (6, elsewhere),
    ];
    let mut file = File::new(10, leaves);
    // And one that is no record at all.
    let noise = cityid_core::table::Leaf { salt: [1; 16], record: vec![0xff; 9] };
    file.leaves.insert(7, noise);
    file.table = cityid_core::table::SealedTable::build(10, file.leaves.iter().map(|(index, leaf)| (*index, leaf.hash(*index)))).unwrap();
    world.sealed(file);
    assert_eq!(world.range().height, height);
    for number in 2..=7 {
        for version in [0, 1, 2, 1 << 41] {
            let operation = change(number, version, "suspended", &world.files[0].prove(number));
            world.chain.refused(&operation, &["a"], "bad_proof");
        }
    }
    let proof = world.files[0].prove(1);
    world.chain.ok(&change(1, 1, "suspended", &proof), &["a"]);
}

#[test]
fn an_item_that_the_table_does_not_hold_is_registered_as_an_override() {
    let mut world = World::new();
    world.chain.ok(&register(&[8]), &["a"]);
    world.sealed(first_table(&[1]));
    let (empty, held) = (world.files[0].prove(5), world.files[0].prove(1));
    let new = change(5, 0, "active", &empty);
    for wrong in [&[CITY][..], &["b"], &["330100/transaction"], &[CITY, "b"]] {
        world.chain.refused(&new, wrong, "not_authorised");
    }
    // In the name of whoever does not hold the range, even by all keys there are.
    world.chain.refused(&with(&new, "org", json!("B8L3")), &["a", "b", CITY], "not_authorised");
    world.chain.refused(&with(&new, "org", Value::Null), &["a", "b", CITY], "not_authorised");
    world.chain.refused(&with(&new, "model", json!("2")), &["a"], "no_category");
    for status in ["suspended", "retired"] {
        world.chain.refused(&change(5, 0, status, &empty), &["a"], "bad_transition");
    }
    world.chain.refused(&change(5, 1, "active", &empty), &["a"], "unknown_code");
    world.chain.refused(&change(1, 0, "active", &held), &["a"], "exists");
    let single = world.files[0].prove(8);
    world.chain.refused(&change(8, 0, "active", &single), &["a"], "exists");
    world.chain.refused(&with(&new, "commitments", json!({" x": "ab".repeat(32)})), &["a"], "bad_name");
    world.chain.refused(&with(&new, "services", json!([["linkset", "javascript:alert(1)"]])), &["a"], "bad_service");
    let services: Vec<Value> = (0..9).map(|number| json!(["linkset", format!("https://x/{number}")])).collect();
    world.chain.refused(&with(&new, "services", json!(services)), &["a"], "too_large");
    // Of a category or a range that is suspended.
    let category = "MA.156.130100.A7K2/60.010203.1";
    world.chain.ok(&set_status(category, 1, "suspended"), &["a"]);
    world.chain.refused(&new, &["a"], "suspended");
    world.chain.ok(&set_status(category, 2, "active"), &["a"]);
    let suspend = |version: u64, status: &str| json!([{"op": "set_status", "range": range_json(&thousand(0)), "expected_version": version, "status": status}]);
    let version = world.range().version;
    world.chain.ok(&suspend(version, "suspended"), &[CITY]);
    world.chain.refused(&new, &["a"], "suspended");
    world.chain.ok(&suspend(version + 1, "active"), &[CITY]);

    assert_eq!(world.verdict(&code(5)).verdict, VerdictKind::NotRegistered);
    let before = world.table().overrides;
    world.chain.ok(&new, &["a"]);
    let record = world.chain.record(&code(5));
    assert_eq!((record.version, record.previous, record.status, record.code), (1, None, Status::Active, Some(code(5))));
    assert_eq!(world.table().overrides, before + 1);
    world.assert_item(5, 1, Status::Active);
    world.chain.refused(&new, &["a"], "exists");
}

#[test]
fn an_item_of_a_table_is_changed_by_its_holder_and_its_status_by_its_city() {
    let mut world = World::new();
    let mut retired = item_record(&code(3), 1);
    retired.status = Status::Retired;
    let of_b = item_record(&code_of("B8L3", 4), 1);
    let mut given = item_record(&code(6), 1);
    given.holder = Some("MA.156.130100.B8L3".to_owned());
    let leaves = [(1, item_record(&code(1), 1)), (2, item_record(&code(2), 1)), (3, retired), (4, of_b), (6, given)];
    world.sealed(File::new(10, leaves));
    let proof = |world: &World, number| world.files[0].prove(number);
    let place = json!({"place": "ab".repeat(32)});
    let content = |operation: &Value| with(operation, "commitments", place.clone());
    let one = proof(&world, 1);
    let suspend = change(1, 1, "suspended", &one);
    for wrong in [&["b"][..], &["330100/transaction"], &["110000/checkpoint"], &["stranger"]] {
        world.chain.refused(&suspend, wrong, "not_authorised");
    }
    // A city changes the status and nothing else, and changes it indeed.
    world.chain.refused(&content(&suspend), &[CITY], "not_authorised");
    world.chain.refused(&change(1, 1, "active", &one), &[CITY], "not_authorised");
    for version in [2, 9] {
        world.chain.refused(&change(1, version, "suspended", &one), &["a"], "stale_version");
    }
    world.chain.refused(&change(1, 0, "suspended", &one), &["a"], "exists");
    world.chain.refused(&change(1, 1, "allocated", &one), &["a"], "bad_transition");
    world.chain.refused(&content(&change(3, 1, "retired", &proof(&world, 3))), &["a"], "retired");
    world.chain.refused(&change(3, 1, "active", &proof(&world, 3)), &[CITY], "retired");
    // The serial is registered under another code.
    world.chain.refused(&change(4, 1, "suspended", &proof(&world, 4)), &["a"], "unknown_code");
    world.chain.refused(&with(&suspend, "model", json!("2")), &["a"], "unknown_code");
    // An item that was transferred obeys its holder, who need not hold the range.
    let six = content(&change(6, 1, "active", &proof(&world, 6)));
    world.chain.refused(&six, &["a"], "not_authorised");
    world.chain.ok(&six, &["b"]);
    assert_eq!(world.chain.record(&code(6)).holder.as_deref(), Some("MA.156.130100.B8L3"));

    // The city suspends; only the city reactivates; the holder changes the rest meanwhile.
    world.chain.ok(&suspend, &[CITY]);
    let record = world.chain.record(&code(1));
    assert_eq!((record.version, record.status, record.status_by_city), (2, Status::Suspended, true));
    assert_eq!(record.previous, Some(record_hash(&one.leaf.as_ref().unwrap().record)), "the leaf is the version before");
    assert_eq!(record.previous_height, Some(1));
    world.chain.refused(&change(1, 2, "active", &one), &["a"], "not_authorised");
    world.chain.ok(&content(&change(1, 2, "suspended", &one)), &["a"]);
    world.chain.ok(&with(&change(1, 3, "active", &one), "commitments", place.clone()), &[CITY]);
    let record = world.chain.record(&code(1));
    assert_eq!((record.version, record.status, record.status_by_city, record.commitments.len()), (4, Status::Active, false, 1));

    // Neither while the organisation is suspended, but its city.
    world.chain.ok(&set_status("MA.156.130100.A7K2", 1, "suspended"), &[CITY]);
    let two = proof(&world, 2);
    world.chain.refused(&change(2, 1, "suspended", &two), &["a"], "suspended");
    world.chain.ok(&change(2, 1, "retired", &two), &[CITY]);
}

#[test]
fn of_two_overrides_in_one_block_the_first_counts() {
    let mut world = World::new();
    world.sealed(first_table(&[1]));
    let (held, empty) = (world.files[0].prove(1), world.files[0].prove(2));
    let operations = [
        change(1, 1, "suspended", &held),
        change(1, 1, "retired", &held),
        change(2, 0, "active", &empty),
        change(2, 0, "allocated", &empty),
    ];
    let transactions = operations.map(|operation| world.chain.signed(&operation, &["a"]));
    let outcomes = world.chain.block(&transactions);
    let refused = |reason: &str| Outcome::Rejected(reason.to_owned(), 0);
    assert_eq!((&outcomes[1], &outcomes[3]), (&refused("stale_version"), &refused("exists")));
    assert_eq!(world.table().overrides, 2);
    world.assert_item(1, 2, Status::Suspended);
    world.assert_item(2, 1, Status::Active);
}

#[test]
fn a_seal_and_an_override_in_one_block_keep_the_override() {
    let mut world = World::new();
    world.sealed(first_table(&[1]));
    let proof = world.files[0].prove(1);
    let next = first_table(&[1, 2]);
    let (over, seal) = (change(1, 1, "suspended", &proof), world.seal(2, &next));
    // First the override: the receipts are of a range without it.
    let transactions = [over, seal.clone()].map(|operation| world.chain.signed(&operation, &["a"]));
    let outcomes = world.chain.block(&transactions);
    assert!(matches!(outcomes[0], Outcome::Committed(_)));
    assert_eq!(outcomes[1], Outcome::Rejected("stale_version".to_owned(), 0));
    world.assert_item(1, 2, Status::Suspended);
    // First the seal: the proof must be of the new table, and the override is of the very height of the seal.
    let next = File::new(10, [(1, item_record(&code(1), 1)), (2, item_record(&code(2), 1))]);
    let seal = world.seal(world.range().version, &next);
    let (old, new) = (change(2, 1, "suspended", &proof), change(2, 1, "suspended", &next.prove(2)));
    let transactions = [seal, old, new].map(|operation| world.chain.signed(&operation, &["a"]));
    let outcomes = world.chain.block(&transactions);
    assert!(matches!((&outcomes[0], &outcomes[2]), (Outcome::Committed(_), Outcome::Committed(_))));
    assert_eq!(outcomes[1], Outcome::Rejected("bad_proof".to_owned(), 0));
    world.files.push(next);
    assert_eq!(world.table().overrides, 1);
    world.assert_item(2, 2, Status::Suspended);
    assert_eq!(world.chain.record(&code(2)).height, world.table().height);
    // Of that height it is not newer than any leaf, as far as a proof can show: the next change needs the leaf again.
    world.chain.refused(&set_status(&code(2), 2, "active"), &["a"], "sealed");
    let proof = world.files[1].prove(2);
    world.chain.ok(&change(2, 2, "active", &proof), &["a"]);
    world.assert_item(2, 3, Status::Active);
    world.chain.ok(&set_status(&code(2), 3, "suspended"), &["a"]);
}

#[test]
fn overrides_are_counted_once_and_a_new_table_takes_them_up() {
    let mut world = World::new();
    world.sealed(first_table(&[1, 2]));
    let proof = world.files[0].prove(1);
    world.chain.ok(&change(1, 1, "suspended", &proof), &["a"]);
    assert_eq!((world.table().overrides, world.range().version), (1, 3));
    // From now on it is an item as any other; each change is a new version of the range and none is counted.
    world.chain.ok(&update(1, 2), &["a"]);
    world.chain.refused(&update(1, 2), &["a"], "stale_version");
    world.chain.ok(&set_status(&code(1), 3, "active"), &["a"]);
    world.chain.ok(&change(1, 4, "suspended", &proof), &["a"]);
    assert_eq!((world.table().overrides, world.range().version), (1, 6));
    world.assert_item(1, 5, Status::Suspended);
    // Many items of one operation make one new version of their range.
    let two = world.files[0].prove(2);
    world.chain.ok(&change(2, 1, "suspended", &two), &["a"]);
    assert_eq!((world.table().overrides, world.range().version), (2, 7));
    let items: Vec<Value> =
        [(1, 5), (2, 2)].iter().map(|(number, version)| json!({"serial": number, "expected_version": version})).collect();
    world.chain.ok(&json!([{"op": "update_items", "city": "130100", "class": "010203", "items": items}]), &["a"]);
    assert_eq!((world.table().overrides, world.range().version), (2, 8));

    // Compaction: one of them as it is, the other in a later version.
    let (one, two) = (world.chain.record(&code(1)), world.chain.record(&code(2)));
    let mut later = next_version(&two, world.chain.next() - 1);
    later.status = Status::Active;
    world.sealed(File::new(10, [(1, one.clone()), (2, later.clone())]));
    assert_eq!((world.table().overrides, world.table().version), (0, 2));
    world.assert_item(1, 6, Status::Suspended);
    world.assert_item(2, 4, Status::Active);
    assert_eq!(world.answer(&code(2)).records.len(), 4, "without overrides none is looked for");
    // The old item records are not newer than the table any more.
    world.chain.refused(&update(1, 6), &["a"], "sealed");
    world.chain.refused(&set_status(&code(2), 4, "suspended"), &["a"], "sealed");
    let (first, second) = (world.files[1].prove(1), world.files[1].prove(2));
    world.chain.refused(&change(2, 3, "suspended", &second), &["a"], "stale_version");
    world.chain.ok(&change(1, 6, "active", &first), &["a"]);
    assert_eq!(world.table().overrides, 1);
    // With an override of another item the old record of this one is shown again, and the newer leaf wins.
    world.assert_item(2, 4, Status::Active);
    world.chain.ok(&change(2, 4, "suspended", &second), &["a"]);
    assert_eq!(world.table().overrides, 2);
    let record = world.chain.record(&code(2));
    assert_eq!((record.version, record.previous), (5, Some(record_hash(&later.encode()))));
    world.assert_item(2, 5, Status::Suspended);
    world.assert_item(1, 7, Status::Active);
}

/// Version 1 stands in the first table, 2 in an item record, 3 in the second table alone, 4 in an item record above it (P74).
#[test]
fn the_history_of_an_item_leads_from_its_override_into_the_tables() {
    let mut world = World::new();
    world.sealed(first_table(&[1, 2]));
    let first = item_record(&code(1), 1);
    let proof = world.files[0].prove(1);
    world.chain.ok(&change(1, 1, "suspended", &proof), &["a"]);
    let second = world.chain.record(&code(1));
    world.chain.pass_to(second.height + 3);
    let mut third = next_version(&second, second.height + 2);
    third.status = Status::Active;
    world.sealed(File::new(10, [(1, third.clone()), (2, item_record(&code(2), 1))]));
    let tell = |world: &World, versions: &[&Record]| {
        let versions = versions.iter().map(|record| record.encode()).collect();
        let history = History { answer: Some(world.answer(&code(1))), versions, headers: Vec::new() };
        history::verify(&history, &Trust::from_genesis(world.chain.ledger.genesis()).unwrap(), &Options::default())
    };
    let numbers = |told: &Told| told.versions.iter().map(|version| version.record.version).collect::<Vec<_>>();
    let told = tell(&world, &[&second, &first]);
    assert_eq!((told.verdict.verdict, numbers(&told), told.is_complete()), (VerdictKind::Registered, vec![3, 2, 1], true));

    let proof = world.files[1].prove(1);
    world.chain.ok(&change(1, 3, "retired", &proof), &["a"]);
    let told = tell(&world, &[&third, &second, &first]);
    assert_eq!((told.verdict.verdict, numbers(&told), told.is_complete()), (VerdictKind::Registered, vec![4, 3, 2, 1], true));
    let held = |height| match told.at(height) {
        Held::Version(version) => version.record.version,
        other => panic!("height {height}: {other:?}"),
    };
    let fourth = world.chain.record(&code(1));
    assert_eq!([fourth.height, fourth.height - 1, second.height].map(held), [4, 3, 2]);
    // The height of a leaf is what its holder wrote: nothing was sealed yet at height 1.
    assert_eq!(held(1), 1);

    // What is not at hand ends the history there, and is not denied.
    let short = tell(&world, &[&third]);
    assert_eq!((numbers(&short), short.is_complete(), short.missing()), (vec![4, 3], false, Some((2, second.height))));
    assert!(matches!(short.at(second.height), Held::Unknown(_)));
    // A leaf of another table, of another item, or left out.
    let mut other = first.clone();
    other.status = Status::Allocated;
    let neighbour = item_record(&code(2), 1);
    for (wrong, named) in [
        (vec![&third, &second, &other], 2),
        (vec![&third, &second, &neighbour], 2),
        (vec![&second, &first], 4),
        (vec![&third, &first], 3),
        (vec![&first], 4),
    ] {
        let told = tell(&world, &wrong);
        let step = told.verdict.steps.last().unwrap();
        assert_eq!((told.verdict.verdict, told.versions.len()), (VerdictKind::Invalid, 0));
        assert!(step.detail.contains(&format!("not the record whose hash version {named} names")), "{}", step.detail);
    }
    // A leaf that is damaged anywhere.
    let whole = History {
        answer: Some(world.answer(&code(1))),
        versions: [&third, &second, &first].map(Record::encode).to_vec(),
        headers: Vec::new(),
    };
    let trust = Trust::from_genesis(world.chain.ledger.genesis()).unwrap();
    for index in 0..whole.versions[2].len() {
        let mut damaged = whole.clone();
        damaged.versions[2][index] ^= 1;
        let told = history::verify(&damaged, &trust, &Options::default());
        assert_eq!((told.verdict.verdict, told.versions.len()), (VerdictKind::Invalid, 0), "byte {index}");
    }
}

/// What an item was when the receipts were signed must be what it is when the table is sealed: else the seal would take back what
/// happened meanwhile, a suspension by the city among it.
#[test]
fn a_seal_with_receipts_from_before_a_change_is_stale() {
    let mut world = World::new();
    world.sealed(first_table(&[1, 2]));
    let proof = world.files[0].prove(1);
    world.chain.ok(&change(1, 1, "suspended", &proof), &["a"]);
    let taken_up = || File::new(10, [(1, item_record(&code(1), 1)), (2, item_record(&code(2), 1)), (3, item_record(&code(3), 1))]);
    let early = |world: &World| world.seal(world.range().version, &taken_up());
    let seal = early(&world);
    world.chain.ok(&set_status(&code(1), 2, "active"), &["a"]);
    world.chain.refused(&seal, &["a"], "stale_version");
    let seal = early(&world);
    world.chain.ok(&update(1, 3), &["a"]);
    world.chain.refused(&seal, &["a"], "stale_version");
    let seal = early(&world);
    let (operation, kept) = (change(1, 4, "suspended", &proof), json!({"place": "ab".repeat(32)}));
    world.chain.ok(&with(&operation, "commitments", kept), &[CITY]);
    world.chain.refused(&seal, &["a"], "stale_version");
    // Nor with the present version in place of the one that was signed for.
    let version = world.range().version;
    world.chain.refused(&with(&seal, "expected_version", json!(version)), &["a"], "bad_receipt");
    world.assert_item(1, 5, Status::Suspended);
}

#[test]
fn without_receipts_where_the_network_asks_for_none() {
    let mut world = World::of(|json| json["parameters"]["receipts"] = json!(0));
    let file = first_table(&[1]);
    let operation = world.seal_by(&thousand(0), 1, &file, &[]);
    world.chain.ok(&operation, &["a"]);
}

/// The figures of answers, with proofs as long as in a network of 10⁸ items: a state of 2¹⁸ items and nine levels more for each.
#[test]
fn answers_are_as_short_as_they_must_be() {
    const MORE: usize = 9 * 33;
    let mut state = support::World::with_records(4);
    let mut table = summary_of_full_million(&mut state);
    for number in 0..1 << 18 {
        let mut record = item_record(&code(number), 1);
        record.commitments = vec![("type".to_owned(), [8; 32]), ("place".to_owned(), [7; 32])];
        state.put_item(number, &record);
    }
    let mut changed = next_version(&item_record(&code(7_500_321), 1), 4);
    changed.status = Status::Suspended;
    changed.commitments = vec![("type".to_owned(), [8; 32]), ("place".to_owned(), [7; 32])];
    state.put_item(7_500_321, &changed);
    table.overrides = 1;
    let range = support::range_record(cityid_core::map_key::Kind::Million, Some(table));
    state.put(&cityid_core::map_key::MapKey::Million(city(), class(), serial(7_000_000)), &range);
    state.commit();
    for (number, most, verdict) in [
        (5, 3_000, VerdictKind::Registered),
        (7_500_321, 3_500, VerdictKind::Registered),
        (7_500_322, 3_500, VerdictKind::Registered),
        (7_999_999, 3_500, VerdictKind::NotRegistered),
    ] {
        let answer = state.answer(&code(number));
        assert_eq!(verify(&answer, &state.trust(), &Options::default()).verdict, verdict, "{number}");
        let length = answer.encode().len() + MORE;
        println!("answer about {number}: {length} bytes with proofs as of 10⁸ items");
        assert!(length <= most, "{number}: {length} bytes");
    }
}

/// A full million range but for its last serials, so that almost no sibling is an empty subtree.
fn summary_of_full_million(state: &mut support::World) -> Table {
    let records = (0..999_990).map(|index| {
        let mut record = item_record(&code(7_000_000 + index), 1);
        record.commitments = vec![("place".to_owned(), [7; 32])];
        (index, record)
    });
    let file = File::new(20, records);
    let summary = file.summary(20, 0);
    state.files.push(file);
    summary
}
