//! Profiles in the ledger (P16, P17, P22, P28, P29, P51 to P57): every operation by every wrong role, in every wrong state, at every
//! wrong time, of a stale version, twice, and twice in one block. Each is refused for its reason and leaves the state as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod chain;

use chain::{public, Chain};
use cityid_core::code::{City, Class, Code, Model, Org, Serial, Use};
use cityid_core::hash::hex;
use cityid_core::ledger::operation::Range;
use cityid_core::ledger::stored::Outcome;
use cityid_core::map_key::MapKey;
use cityid_core::record::{Purpose, Record, Status};
use serde_json::{json, Value};

const A: &str = "MA.156.130100.A7K2";
const B: &str = "MA.156.130100.B7K2";
const ABROAD: &str = "MA.156.330100.C7K2";
const CITY: &str = "130100/transaction";
const DELAY: u64 = 30;

/// Who tries everything: the keys with which each of them would sign. A7K2 needs two of three.
const ROLES: [(&str, &[&str]); 9] = [
    ("city", &[CITY]),
    ("organisation", &["a1", "a2"]),
    ("organisation below its threshold", &["a3"]),
    ("its recovery key", &["a recovery"]),
    ("its assertion key", &["a assertion"]),
    ("other organisation", &["b"]),
    ("other city", &["330100/transaction"]),
    ("item", &["device"]),
    ("nobody", &["stranger"]),
];

fn signers(role: &str) -> &'static [&'static str] {
    ROLES.iter().find(|(name, _)| *name == role).unwrap().1
}

/// 130100 admitted A7K2 (two of three keys must sign, a recovery and an assertion key) and B7K2; 330100 admitted C7K2. A7K2 holds
/// serials 0 to 999 with items 0 to 9; item 1 has a key of its own.
fn town() -> Chain {
    let mut town = Chain::new(|json| json["parameters"]["recovery_delay"] = json!(DELAY));
    let keys = json!([
        town.entry(A, "transaction", "a1"),
        town.entry(A, "transaction", "a2"),
        town.entry(A, "transaction", "a3"),
        town.entry(A, "recovery", "a recovery"),
        town.entry(A, "assertion", "a assertion")
    ]);
    let admission = admit("130100", "A7K2", 10_000, keys);
    town.ok(&admission, &[CITY]);
    let admission = admit("130100", "B7K2", 1_000, json!([town.entry(B, "transaction", "b")]));
    town.ok(&admission, &[CITY]);
    let admission = admit("330100", "C7K2", 1_000, json!([town.entry(ABROAD, "transaction", "c")]));
    town.ok(&admission, &["330100/transaction"]);
    town.ok(&json!([{"op": "set_controllers", "code": A, "expected_version": 1, "threshold": 2}]), &["a1"]);
    let holder = json!({"city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1"});
    let with = |op: &str, more: Value| {
        let mut operation = holder.clone();
        operation["op"] = json!(op);
        more.as_object().unwrap().iter().for_each(|(name, value)| operation[name] = value.clone());
        operation
    };
    let items: Vec<Value> = (0..10).map(|serial| json!({"serial": serial})).collect();
    town.ok(
        &json!([
            {"op": "allocate_range", "city": "130100", "org": "A7K2", "class": "010203", "size": 1000},
            with("register_category", json!({"name": "Street lamp"})),
            with("register_items", json!({"items": items}))
        ]),
        signers("organisation"),
    );
    let key = town.entry(&item(1), "transaction", "device");
    town.ok(&rotate(&item(1), 1, json!([key]), &[]), signers("organisation"));
    town
}

fn item(serial: u32) -> String {
    let parse = |text: &str| Org::parse(text).unwrap();
    Code::item(
        City::parse("130100").unwrap(),
        Some(parse("A7K2")),
        Use::parse("60").unwrap(),
        Class::parse("010203").unwrap(),
        Model::parse("1").unwrap(),
        Serial::new(serial).unwrap(),
    )
    .text()
}

fn thousand(base: u32) -> Range {
    Range::new(City::parse("130100").unwrap(), Class::parse("010203").unwrap(), Serial::new(base).unwrap(), 1_000).unwrap()
}

fn admit(city: &str, org: &str, quota: u64, keys: Value) -> Value {
    json!([{"op": "admit_organisation", "city": city, "org": org, "name": "Office", "quota": quota, "keys": keys}])
}

fn rotate(code: &str, version: u64, add: Value, remove: &[&str]) -> Value {
    let remove: Vec<String> = remove.iter().map(|name| hex(&public(name))).collect();
    json!([{"op": "rotate_keys", "code": code, "expected_version": version, "add": add, "remove": remove}])
}

fn set_status(code: &str, version: u64, status: &str) -> Value {
    json!([{"op": "set_status", "code": code, "expected_version": version, "status": status}])
}

fn set_controllers(code: &str, version: u64, threshold: u64) -> Value {
    json!([{"op": "set_controllers", "code": code, "expected_version": version, "threshold": threshold}])
}

fn update_profile(code: &str, version: u64) -> Value {
    json!([{"op": "update_profile", "code": code, "expected_version": version, "commitments": {"phone": "ab".repeat(32)}, "services": [["site", "https://city.example/"]]}])
}

fn set_terms(version: u64, quota: u64) -> Value {
    json!([{"op": "set_terms", "city": "130100", "org": "A7K2", "expected_version": version, "name": "Lighting", "quota": quota, "rate": 40}])
}

fn start(code: &str, version: u64, keys: Value) -> Value {
    json!([{"op": "start_recovery", "code": code, "expected_version": version, "keys": keys}])
}

fn end(code: &str, version: u64, cancel: bool) -> Value {
    json!([{"op": "end_recovery", "code": code, "expected_version": version, "cancel": cancel}])
}

fn offer(target: &Value, version: u64, to: Option<&str>) -> Value {
    let mut operation = target.clone();
    operation["op"] = json!("offer_transfer");
    operation["expected_version"] = json!(version);
    operation["to"] = json!(to);
    json!([operation])
}

fn accept(target: &Value, version: u64) -> Value {
    let mut operation = target.clone();
    operation["op"] = json!("accept_transfer");
    operation["expected_version"] = json!(version);
    json!([operation])
}

fn of_item(serial: u32) -> Value {
    json!({"code": item(serial)})
}

fn of_range() -> Value {
    json!({"range": {"city": "130100", "class": "010203", "base": 0, "size": 1000}})
}

fn update_item(serial: u32, version: u64) -> Value {
    json!([{"op": "update_items", "city": "130100", "class": "010203", "items": [{"serial": serial, "expected_version": version}]}])
}

fn register_item(serial: u32) -> Value {
    json!([{"op": "register_items", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "items": [{"serial": serial}]}])
}

/// Tries an operation by all who may not do it and of stale versions; then twice at once by one who may: once it takes effect.
#[track_caller]
fn exercise(town: &mut Chain, version: u64, allowed: &[&str], make: impl Fn(u64) -> Value) {
    exercise_twice(town, version, allowed, "stale_version", make);
}

/// [`exercise`], of an operation after which the second of two is refused for a reason of its own.
#[track_caller]
fn exercise_twice(town: &mut Chain, version: u64, allowed: &[&str], again: &str, make: impl Fn(u64) -> Value) {
    let good = make(version);
    for (role, keys) in ROLES.iter().filter(|(role, _)| !allowed.contains(role)) {
        let root = town.root();
        assert_eq!(town.run(&good, keys), Outcome::Rejected("not_authorised".to_owned(), 0), "{role}: {good}");
        assert_eq!(town.root(), root);
    }
    for stale in [version + 1, version - 1] {
        town.refused(&make(stale), signers(allowed[0]), "stale_version");
    }
    let twice = [town.signed(&good, signers(allowed[0])), town.signed(&good, signers(allowed[0]))];
    let outcomes = town.block(&twice);
    assert!(matches!(outcomes[0], Outcome::Committed(_)), "{:?} of {good}", outcomes[0]);
    assert_eq!(outcomes[1], Outcome::Rejected(again.to_owned(), 0));
}

/// Tries an operation while a code is suspended by its city, and leaves it active, two versions on.
#[track_caller]
fn refused_while_suspended(town: &mut Chain, code: &str, operation: &Value, keys: &[&str]) {
    town.ok(&set_status(code, town.version(code), "suspended"), &[CITY]);
    town.refused(operation, keys, "suspended");
    town.ok(&set_status(code, town.version(code), "active"), &[CITY]);
}

// ------------------------------------------------------------------ admission and terms

#[test]
fn an_organisation_is_admitted_with_keys_that_will_do() {
    let mut town = Chain::new(|_| ());
    let keys = |town: &Chain| json!([town.entry(A, "transaction", "a1"), town.entry(A, "recovery", "a recovery")]);
    let cases = [
        (json!([]), "no_key_left"),
        (json!([town.entry(A, "recovery", "x1"), town.entry(A, "assertion", "x2")]), "no_key_left"),
        (json!([town.entry_between(A, "transaction", "x1", 0, Some(1_000))]), "no_key_left"),
        (json!([town.entry_between(A, "transaction", "x1", 1_000, None)]), "no_key_left"),
        (json!([town.entry_between(A, "transaction", "x1", 0, Some(1))]), "bad_key"),
        (json!([town.entry(A, "transaction", "x1"), town.entry_between(A, "assertion", "x2", 500, Some(500))]), "bad_key"),
        (json!([town.entry(A, "transaction", "x1"), town.entry(A, "consensus", "x2")]), "bad_purpose"),
        (json!([town.entry(A, "transaction", "330100/tls")]), "key_in_use"),
    ];
    for (bad, reason) in cases {
        town.refused(&admit("130100", "A7K2", 1_000, bad), &[CITY], reason);
    }
    // The neutral point of the curve: a proof of possession by it verifies, and so would any signature.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let weak = json!([{"purpose": "transaction", "key": hex(&neutral), "possession": hex(&neutral) + &"00".repeat(32)}]);
    town.refused(&admit("130100", "A7K2", 1_000, weak), &[CITY], "bad_key");
    let mut admission = admit("130100", "A7K2", 1_000, keys(&town));
    admission[0]["rate"] = json!(7);
    town.refused(&admission, &["330100/transaction"], "not_authorised");
    let twice = [town.signed(&admission, &[CITY]), town.signed(&admission, &[CITY])];
    let outcomes = town.block(&twice);
    assert_eq!(outcomes[1], Outcome::Rejected("exists".to_owned(), 0));
    let record = town.record(A);
    assert_eq!((record.rate, record.quota, record.version), (Some(7), Some(1_000), 1));
    let purposes: Vec<Purpose> = record.keys.iter().map(|key| key.purpose).collect();
    assert_eq!(purposes, [Purpose::Transaction, Purpose::Recovery]);
    assert!(record.keys.iter().all(|key| key.from == record.height && key.until.is_none()), "a key counts from its registration");
    // A recovery key signs no transaction.
    town.refused(&update_profile(A, 1), &["a recovery"], "not_authorised");
    town.ok(&update_profile(A, 1), &["a1"]);
}

#[test]
fn only_the_city_sets_the_terms_of_its_organisation() {
    let mut town = town();
    let mut unknown = set_terms(1, 5);
    unknown[0]["org"] = json!("Z7K2");
    town.refused(&unknown, &[CITY], "unknown_code");
    exercise(&mut town, 2, &["city"], |version| set_terms(version, 1_000));
    let record = town.record(A);
    assert_eq!((record.name.as_deref(), record.quota, record.rate, record.threshold), (Some("Lighting"), Some(1_000), Some(40), Some(2)));
    // The range that it holds already fills the new quota.
    let allocate = json!([{"op": "allocate_range", "city": "130100", "org": "A7K2", "class": "010203", "size": 1000}]);
    town.refused(&allocate, signers("organisation"), "over_quota");
    town.ok(&set_status(A, 3, "suspended"), &[CITY]);
    town.ok(&set_terms(4, 2_000), &[CITY]);
    town.ok(&set_status(A, 5, "retired"), &[CITY]);
    town.refused(&set_terms(6, 2_000), &[CITY], "retired");
}

// ------------------------------------------------------------------ keys and controllers

#[test]
fn an_organisation_rotates_its_keys_and_nobody_else_does() {
    let mut town = town();
    let add = json!([town.entry(A, "transaction", "a4"), town.entry_between(A, "assertion", "a5", 0, Some(1_000))]);
    let consensus = json!([town.entry(A, "tls", "a6")]);
    town.refused(&rotate(A, 2, consensus, &[]), signers("organisation"), "bad_purpose");
    town.refused(&rotate(A, 2, json!([]), &["b"]), signers("organisation"), "unknown_key");
    let taken = json!([town.entry(A, "transaction", "b")]);
    town.refused(&rotate(A, 2, taken, &[]), signers("organisation"), "key_in_use");
    town.refused(&rotate(A, 2, json!([]), &["a1", "a2"]), signers("organisation"), "no_key_left");
    town.refused(&rotate("MA.156.130100.Z7K2", 2, json!([]), &[]), signers("organisation"), "unknown_code");
    town.refused(&rotate("MA.156.130100.A7K2/60.010203.1", 1, json!([]), &[]), signers("organisation"), "unknown_code");
    exercise_twice(&mut town, 2, &["organisation"], "not_authorised", |version| rotate(A, version, add.clone(), &["a1", "a assertion"]));
    refused_while_suspended(&mut town, A, &rotate(A, 4, json!([]), &["a2"]), &["a2", "a3"]);
}

#[test]
fn a_city_rotates_its_own_keys_but_not_those_of_its_node() {
    let mut town = town();
    let code = "MA.156.130100";
    let add = json!([town.entry(code, "transaction", "mayor"), town.entry(code, "recovery", "archive")]);
    let remove = ["130100/consensus", "130100/checkpoint", "130100/tls"];
    for node_key in remove {
        town.refused(&rotate(code, 1, json!([]), &[node_key]), &[CITY], "bad_purpose");
    }
    exercise(&mut town, 1, &["city"], |version| rotate(code, version, add.clone(), &[]));
    exercise_twice(&mut town, 2, &["city"], "not_authorised", |version| set_controllers(code, version, 2));
    // From now on the city needs both, whatever it does.
    town.refused(&set_terms(2, 5), &[CITY], "not_authorised");
    town.refused(&set_status(A, 2, "suspended"), &["mayor"], "not_authorised");
    town.ok(&set_terms(2, 5), &[CITY, "mayor"]);
    town.refused(&rotate(code, 3, json!([]), &["130100/transaction"]), &[CITY, "mayor"], "no_key_left");
    town.refused(&start(code, 3, json!([])), &[CITY, "mayor"], "not_authorised");
    town.refused(&end(code, 3, false), &[CITY, "mayor"], "not_authorised");
}

#[test]
fn a_threshold_that_would_lock_its_subject_out_is_refused() {
    let mut town = town();
    for (threshold, reason) in [(0, "no_key_left"), (4, "no_key_left"), (17, "no_key_left"), (i64::MAX as u64, "no_key_left")] {
        town.refused(&set_controllers(A, 2, threshold), signers("organisation"), reason);
    }
    exercise_twice(&mut town, 2, &["organisation"], "not_authorised", |version| set_controllers(A, version, 3));
    town.refused(&update_profile(A, 3), &["a1", "a2"], "not_authorised");
    // Keys that end, or begin later, do not count for the future.
    let temporary =
        json!([town.entry_between(A, "transaction", "a4", 0, Some(1_000)), town.entry_between(A, "transaction", "a5", 900, None)]);
    town.refused(&rotate(A, 3, temporary.clone(), &["a1"]), &["a1", "a2", "a3"], "no_key_left");
    town.ok(&rotate(A, 3, temporary, &[]), &["a1", "a2", "a3"]);
    town.refused(&set_controllers(A, 4, 4), &["a1", "a2", "a3", "a4"], "no_key_left");
    town.ok(&set_controllers(A, 4, 1), &["a1", "a2", "a4"]);
    assert_eq!(town.record(A).threshold, None, "one of n is not written down");
    town.refused(&set_controllers("MA.156.130100.Z7K2", 1, 1), &[CITY], "unknown_code");
    town.refused(&set_controllers(&item(0), 1, 1), signers("nobody"), "not_authorised");
    town.refused(&set_controllers(&item(0), 1, 1), signers("organisation"), "no_key_left");
    refused_while_suspended(&mut town, A, &set_controllers(A, 6, 2), &["a1", "a2"]);
}

#[test]
fn a_key_counts_from_its_first_height_to_before_its_last() {
    let mut town = town();
    let (from, until) = (town.next() + 4, town.next() + 8);
    let add = json!([town.entry_between(B, "transaction", "b2", from, Some(until))]);
    town.ok(&rotate(B, 1, add, &[]), &["b"]);
    let mut counted = Vec::new();
    while town.next() < until + 2 {
        let height = town.next();
        let version = town.version(B);
        match town.run(&update_profile(B, version), &["b2"]) {
            Outcome::Committed(_) => counted.push(height),
            Outcome::Rejected(reason, 0) => assert_eq!(reason, "not_authorised"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(counted, (from..until).collect::<Vec<_>>());
}

#[test]
fn a_subject_keeps_at_most_sixteen_keys_of_a_purpose() {
    let mut town = town();
    let names: Vec<String> = (0..16).map(|number| format!("many {number}")).collect();
    let keys: Vec<Value> = names.iter().map(|name| town.entry(B, "transaction", name)).collect();
    town.refused(&rotate(B, 1, json!(keys), &[]), &["b"], "too_large");
    town.ok(&rotate(B, 1, json!(keys[..15]), &[]), &["b"]);
    let others: Vec<Value> = (0..16).map(|number| town.entry(B, "recovery", &format!("spare {number}"))).collect();
    town.ok(&rotate(B, 2, json!(others), &[]), &["b"]);
    let one_more = json!([town.entry(B, "recovery", "one more")]);
    town.refused(&rotate(B, 3, one_more, &[]), &["b"], "too_large");
}

#[test]
fn an_item_with_keys_speaks_for_itself_and_only_of_its_keys() {
    let mut town = town();
    let (own, plain) = (item(1), item(0));
    let add = |town: &Chain, code: &str, name: &str| json!([town.entry(code, "transaction", name)]);
    // Without transaction keys its holder speaks for it; keys of other purposes do not change that.
    let seal = json!([town.entry(&plain, "assertion", "lamp")]);
    exercise(&mut town, 1, &["organisation"], |version| rotate(&plain, version, seal.clone(), &[]));
    let first = add(&town, &plain, "first");
    town.ok(&rotate(&plain, 2, first, &[]), signers("organisation"));
    town.refused(&rotate(&plain, 3, json!([]), &["lamp"]), signers("organisation"), "not_authorised");
    town.refused(&rotate(&plain, 3, json!([]), &["first"]), &["first"], "no_key_left");
    // With keys, it does, its holder does not.
    let next = add(&town, &own, "device 2");
    exercise(&mut town, 2, &["item"], |version| rotate(&own, version, next.clone(), &[]));
    exercise_twice(&mut town, 3, &["item"], "not_authorised", |version| set_controllers(&own, version, 2));
    town.refused(&set_controllers(&own, 4, 1), &["device"], "not_authorised");
    let keys: &[&str] = &["device", "device 2"];
    town.refused(&update_item(1, 4), keys, "not_authorised");
    town.refused(&set_status(&own, 4, "suspended"), keys, "not_authorised");
    town.refused(&offer(&of_item(1), 4, Some(B)), keys, "not_authorised");
    // A change of the item by its holder leaves the keys alone.
    town.ok(&update_item(1, 4), signers("organisation"));
    assert_eq!(town.record(&own).keys.len(), 2);
    let third = rotate(&own, 5, add(&town, &own, "device 3"), &[]);
    for code in [own.as_str(), A] {
        let version = town.version(code);
        town.ok(&set_status(code, version, "suspended"), &[CITY]);
        let now = rotate(&own, town.version(&own), third[0]["add"].clone(), &[]);
        town.refused(&now, keys, "suspended");
        town.ok(&set_status(code, version + 1, "active"), &[CITY]);
    }
    let wrong = Code::parse(&own, None).unwrap();
    let Code::Item { city, category, serial, .. } = wrong else { panic!() };
    let other = Code::Item { city, org: Some(Org::parse("B7K2").unwrap()), category, serial }.text();
    let keys_of_other = add(&town, &other, "device 4");
    town.refused(&rotate(&other, 1, keys_of_other, &[]), &["device"], "unknown_code");
    town.ok(&set_status(&own, town.version(&own), "retired"), &[CITY]);
    town.refused(&set_controllers(&own, town.version(&own), 1), keys, "suspended");
    let holder = set_status(&plain, 3, "retired");
    town.ok(&holder, signers("organisation"));
    town.refused(&start(&plain, 4, json!([])), signers("organisation"), "retired");
}

// ------------------------------------------------------------------ profiles

#[test]
fn a_profile_is_changed_by_its_subject_or_holder() {
    let mut town = town();
    let category = format!("{A}/60.010203.1");
    exercise(&mut town, 2, &["organisation"], |version| update_profile(A, version));
    exercise(&mut town, 1, &["city"], |version| update_profile("MA.156.130100", version));
    let with_schema = |version| {
        let mut operation = update_profile(&category, version);
        operation[0]["schema"] = json!("cd".repeat(32));
        operation
    };
    exercise(&mut town, 1, &["organisation"], with_schema);
    let record = town.record(&category);
    assert_eq!((record.schema, record.services.len(), record.commitments.len()), (Some([0xcd; 32]), 1, 1));
    assert_eq!(town.record(A).threshold, Some(2), "what is no profile stays");
    // All of it is said anew.
    town.ok(&json!([{"op": "update_profile", "code": category, "expected_version": 2}]), signers("organisation"));
    let record = town.record(&category);
    assert_eq!((record.schema, record.services.len(), record.commitments.len()), (None, 0, 0));

    let mut schema = update_profile(A, 3);
    schema[0]["schema"] = json!("cd".repeat(32));
    town.refused(&schema, signers("organisation"), "unknown_code");
    town.refused(&update_profile(&item(0), 1), signers("organisation"), "unknown_code");
    town.refused(&update_profile(&format!("{A}/60.010203.2"), 1), signers("organisation"), "unknown_code");
    town.refused(&update_profile("MA.156.990000", 1), &[CITY], "unknown_code");
    let mut change = update_profile(A, 3);
    change[0]["services"] = json!([["site", "javascript:alert(1)"]]);
    town.refused(&change, signers("organisation"), "bad_service");
    change[0]["services"] = json!([]);
    change[0]["commitments"] = json!({" phone": "ab".repeat(32)});
    town.refused(&change, signers("organisation"), "bad_name");
    change[0]["commitments"] =
        (0..33).map(|number| (format!("a{number}"), json!("ab".repeat(32)))).collect::<serde_json::Map<_, _>>().into();
    town.refused(&change, signers("organisation"), "too_large");
    refused_while_suspended(&mut town, A, &update_profile(A, 4), signers("organisation"));
    town.ok(&set_status(&category, 3, "retired"), signers("organisation"));
    town.refused(&update_profile(&category, 4), signers("organisation"), "retired");
}

// ------------------------------------------------------------------ recovery

#[test]
fn a_recovery_gives_an_organisation_new_keys_after_the_delay_and_not_before() {
    let mut town = town();
    let keys = json!([town.entry(A, "transaction", "n1"), town.entry(A, "transaction", "n2")]);
    let cases = [
        (json!([]), "no_key_left"),
        (json!([town.entry_between(A, "transaction", "x1", 0, Some(100_000))]), "no_key_left"),
        (json!([town.entry_between(A, "transaction", "x1", town.next() + DELAY + 50, None)]), "no_key_left"),
        (json!([town.entry(A, "transaction", "x1"), town.entry(A, "recovery", "x2")]), "bad_purpose"),
        (json!([town.entry(A, "transaction", "a1")]), "key_in_use"),
        (json!([town.entry_between(A, "transaction", "x1", 0, Some(1))]), "bad_key"),
    ];
    for (bad, reason) in cases {
        town.refused(&start(A, 2, bad), &[CITY], reason);
    }
    town.refused(&start("MA.156.130100.Z7K2", 1, json!([])), &[CITY], "unknown_code");
    town.refused(&end(A, 2, false), &[CITY], "no_recovery");
    town.refused(&end(A, 2, true), &["a recovery"], "no_recovery");
    let begun = |town: &Chain| town.record(A).recovery.unwrap().due;
    exercise(&mut town, 2, &["city"], |version| start(A, version, keys.clone()));
    let due = begun(&town);
    assert_eq!(due, town.record(A).height + DELAY);
    // What is frozen, and what is not.
    town.refused(&start(A, 3, json!([])), &[CITY], "recovery_pending");
    town.refused(&rotate(A, 3, json!([]), &["a3"]), signers("organisation"), "recovery_pending");
    town.refused(&set_controllers(A, 3, 1), signers("organisation"), "recovery_pending");
    town.refused(&offer(&of_item(0), 1, Some(B)), signers("organisation"), "recovery_pending");
    town.refused(&offer(&of_range(), 2, Some(B)), signers("organisation"), "recovery_pending");
    town.ok(&update_item(0, 1), signers("organisation"));
    let steal = json!([town.entry(B, "transaction", "n1")]);
    town.refused(&rotate(B, 1, steal, &[]), &["b"], "key_in_use");
    for keys in [&["n1"][..], &["n1", "n2"], &["b"], &["330100/transaction"]] {
        town.refused(&end(A, 3, false), keys, "not_authorised");
        town.refused(&end(A, 3, true), keys, "not_authorised");
    }
    town.refused(&end(A, 3, false), signers("organisation"), "not_authorised");
    town.refused(&end(A, 3, true), signers("organisation below its threshold"), "not_authorised");
    town.refused(&end(A, 2, false), &[CITY], "stale_version");
    town.pass_to(due - 1);
    town.refused(&end(A, 3, false), &[CITY], "too_early");
    assert_eq!(town.next(), due, "the control: one height later");
    let twice = [town.signed(&end(A, 3, false), &[CITY]), town.signed(&end(A, 3, false), &[CITY])];
    let outcomes = town.block(&twice);
    assert!(matches!(outcomes[0], Outcome::Committed(_)));
    assert_eq!(outcomes[1], Outcome::Rejected("stale_version".to_owned(), 0));
    let record = town.record(A);
    let keys: Vec<(Purpose, [u8; 32])> = record.keys.iter().map(|key| (key.purpose, key.key)).collect();
    let mut expected = vec![(Purpose::Transaction, public("n1")), (Purpose::Transaction, public("n2"))];
    expected.extend([(Purpose::Recovery, public("a recovery")), (Purpose::Assertion, public("a assertion"))]);
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!((record.threshold, record.recovery.is_some()), (None, false));
    assert!(record.keys_for(Purpose::Transaction, due - 1).next().is_none(), "the new keys count from now");
    town.refused(&update_item(0, 2), signers("organisation"), "not_authorised");
    town.ok(&update_item(0, 2), &["n1"]);
    let again = json!([town.entry(A, "transaction", "a1")]);
    town.refused(&start(A, 4, again), &[CITY], "key_in_use");
}

#[test]
fn a_recovery_is_cancelled_by_those_who_may_object_even_when_suspended() {
    for (objector, suspended) in [("its recovery key", false), ("its recovery key", true), ("organisation", true), ("city", false)] {
        let mut town = town();
        let keys = json!([town.entry(A, "transaction", "n1")]);
        town.ok(&start(A, 2, keys), &[CITY]);
        if suspended {
            town.ok(&set_status(A, 3, "suspended"), &[CITY]);
        }
        let version = town.version(A);
        exercise(&mut town, version, &[objector, "city", "organisation", "its recovery key"], |version| end(A, version, true));
        assert!(town.record(A).recovery.is_none());
        assert_eq!(town.record(A).threshold, Some(2), "the old keys stay, and how many must sign");
        // The keys of the cancelled recovery belong to the subject for ever.
        let taken = json!([town.entry(B, "transaction", "n1")]);
        town.refused(&rotate(B, 1, taken, &[]), &["b"], "key_in_use");
    }
}

#[test]
fn a_recovery_key_counts_only_in_its_time() {
    let mut town = town();
    let (from, until) = (town.next() + 6, town.next() + 8);
    let keys = json!([town.entry_between(B, "recovery", "late", from, Some(until))]);
    town.ok(&rotate(B, 1, keys, &[]), &["b"]);
    let keys = json!([town.entry(B, "transaction", "n1")]);
    town.ok(&start(B, 2, keys), &[CITY]);
    town.refused(&end(B, 3, true), &["late"], "not_authorised");
    town.pass_to(until);
    town.refused(&end(B, 3, true), &["late"], "not_authorised");
    // The control, in time.
    let mut town = self::town();
    let keys = json!([town.entry_between(B, "recovery", "late", from, Some(until))]);
    town.ok(&rotate(B, 1, keys, &[]), &["b"]);
    let keys = json!([town.entry(B, "transaction", "n1")]);
    town.ok(&start(B, 2, keys), &[CITY]);
    town.pass_to(from);
    town.ok(&end(B, 3, true), &["late"]);
}

#[test]
fn an_item_with_keys_is_recovered_by_its_holder() {
    let mut town = town();
    let own = item(1);
    let keys = json!([town.entry(&own, "transaction", "n1")]);
    let plain = json!([town.entry(&item(0), "transaction", "n2")]);
    town.refused(&start(&item(0), 1, plain), signers("organisation"), "unknown_key");
    exercise(&mut town, 2, &["organisation"], |version| start(&own, version, keys.clone()));
    town.refused(&rotate(&own, 3, json!([]), &[]), &["device"], "recovery_pending");
    town.refused(&set_controllers(&own, 3, 1), &["device"], "recovery_pending");
    town.refused(&offer(&of_item(1), 3, Some(B)), signers("organisation"), "recovery_pending");
    let due = town.record(&own).recovery.unwrap().due;
    town.pass_to(due);
    town.refused(&end(&own, 3, false), &["device"], "not_authorised");
    town.refused(&end(&own, 3, false), &[CITY], "not_authorised");
    town.ok(&end(&own, 3, false), signers("organisation"));
    town.refused(&set_controllers(&own, 4, 1), &["device"], "not_authorised");
    town.ok(&set_controllers(&own, 4, 1), &["n1"]);
}

#[test]
fn who_is_suspended_starts_no_recovery() {
    let mut town = town();
    let keys = json!([town.entry(&item(1), "transaction", "n1")]);
    refused_while_suspended(&mut town, A, &start(&item(1), 2, keys.clone()), signers("organisation"));
    town.ok(&start(&item(1), 2, keys), signers("organisation"));
    town.pass_to(town.record(&item(1)).recovery.unwrap().due);
    refused_while_suspended(&mut town, A, &end(&item(1), 3, false), signers("organisation"));
    refused_while_suspended(&mut town, A, &end(&item(1), 3, true), signers("organisation"));
    // The city of a suspended organisation may well give it new keys.
    town.ok(&set_status(A, town.version(A), "suspended"), &[CITY]);
    let keys = json!([town.entry(A, "transaction", "n2")]);
    town.ok(&start(A, town.version(A), keys), &[CITY]);
    town.ok(&set_status(A, town.version(A), "retired"), &[CITY]);
    assert!(town.record(A).recovery.is_none(), "nothing is left to recover");
    town.refused(&start(A, town.version(A), json!([])), &[CITY], "retired");
}

// ------------------------------------------------------------------ rates (P72)

#[test]
fn an_item_acts_sixteen_times_in_a_block_and_not_at_the_cost_of_its_holder() {
    let mut town = town();
    town.ok(&set_terms(2, 9_000), &[CITY]);
    let own = item(1);
    let mut transactions: Vec<Vec<u8>> = (0..18).map(|turn| town.signed(&set_controllers(&own, 2 + turn, 1), signers("item"))).collect();
    transactions.push(town.signed(&update_item(0, 1), signers("organisation")));
    let outcomes = town.block(&transactions);
    let refused = Outcome::Rejected("rate_exceeded".to_owned(), 0);
    // Senders take turns in the pool, so the item's transactions are told from its holder's by what became of them.
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Committed(_))).count(), 17);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == refused).count(), 2);
    assert_eq!((town.version(&own), town.version(&item(0))), (18, 2));
    // In the next block it goes on.
    town.ok(&set_controllers(&own, 18, 1), signers("item"));
}

#[test]
fn an_objection_gets_through_while_a_thief_uses_up_the_rate() {
    let mut town = town();
    let mut terms = set_terms(2, 9_000);
    terms[0]["rate"] = json!(1);
    town.ok(&terms, &[CITY]);
    let keys = json!([town.entry(A, "transaction", "n1")]);
    town.ok(&start(A, 3, keys), &[CITY]);
    let spam: Vec<Value> = (0..3).map(|version| update_item(0, 1 + version)[0].clone()).collect();
    let mut transactions: Vec<Vec<u8>> = spam.iter().map(|one| town.signed(&json!([one]), signers("organisation"))).collect();
    transactions.push(town.signed(&end(A, 4, true), signers("its recovery key")));
    let outcomes = town.block(&transactions);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Committed(_))).count(), 2, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Rejected("rate_exceeded".to_owned(), 0)).count(), 2);
    assert!(town.record(A).recovery.is_none());
}

// ------------------------------------------------------------------ transfers

#[test]
fn an_item_changes_hands_when_both_agree() {
    let mut town = town();
    let target = of_item(0);
    town.refused(&accept(&target, 1), &["b"], "not_offered");
    town.refused(&offer(&target, 1, Some("MA.156.130100.Z7K2")), signers("organisation"), "unknown_code");
    town.refused(&offer(&of_item(900), 1, Some(B)), signers("organisation"), "unknown_code");
    town.refused(&offer(&json!({"code": A}), 2, Some(B)), signers("organisation"), "unknown_code");
    exercise(&mut town, 1, &["organisation"], |version| offer(&target, version, Some(B)));
    assert_eq!(town.record(&item(0)).offered_to.as_deref(), Some(B));
    // Withdrawn, nobody can accept.
    town.ok(&offer(&target, 2, None), signers("organisation"));
    town.refused(&accept(&target, 3), &["b"], "not_offered");
    assert_eq!(town.record(&item(0)).holder, None);
    town.ok(&offer(&target, 3, Some(ABROAD)), signers("organisation"));
    town.ok(&offer(&target, 4, Some(B)), signers("organisation"));
    town.refused(&accept(&target, 5), &["c"], "not_authorised");
    exercise_twice(&mut town, 5, &["other organisation"], "not_offered", |version| accept(&target, version));
    let record = town.record(&item(0));
    assert_eq!((record.holder.as_deref(), record.offered_to, record.code), (Some(B), None, Some(item(0))));
    town.refused(&accept(&target, 6), &["b"], "not_offered");
    town.refused(&update_item(0, 6), signers("organisation"), "not_authorised");
    town.ok(&update_item(0, 6), &["b"]);
    let verdict = town.verdict(&item(0));
    assert_eq!(verdict.record.unwrap().holder.as_deref(), Some(B));
    // Also to a city, and to another city's organisation.
    town.ok(&offer(&target, 7, Some(ABROAD)), &["b"]);
    town.ok(&accept(&target, 8), &["c"]);
    town.ok(&offer(&target, 9, Some("MA.156.330100")), &["c"]);
    town.ok(&accept(&target, 10), &["330100/transaction"]);
    town.ok(&update_item(0, 11), &["330100/transaction"]);
}

#[test]
fn a_range_changes_hands_with_its_items_within_the_quota() {
    let mut town = town();
    let target = of_range();
    let holding = |town: &Chain, org: &str| {
        let key = MapKey::Holding(City::parse("130100").unwrap(), Org::parse(org).unwrap(), Class::parse("010203").unwrap());
        town.at(&key).and_then(|record| record.serials)
    };
    assert_eq!((holding(&town, "A7K2"), holding(&town, "B7K2")), (Some(1_000), None));
    let nobody = json!({"range": {"city": "130100", "class": "010203", "base": 5000, "size": 1000}});
    let open = json!({"range": {"city": "130100", "class": "010203", "base": 0, "size": 1_000_000}});
    town.refused(&offer(&nobody, 1, Some(B)), signers("organisation"), "unknown_code");
    town.refused(&offer(&open, 1, Some(B)), signers("organisation"), "unknown_code");
    town.refused(&accept(&nobody, 1), &["b"], "unknown_code");
    // Item 2 is given away first, and item 3 is offered: both stay where they are when the range goes.
    town.ok(&offer(&of_item(2), 1, Some(ABROAD)), signers("organisation"));
    town.ok(&accept(&of_item(2), 2), &["c"]);
    town.ok(&offer(&of_item(3), 1, Some(ABROAD)), signers("organisation"));
    // B may hold a thousand; with one already it is full.
    let allocate = json!([{"op": "allocate_range", "city": "130100", "org": "B7K2", "class": "010203", "size": 1000}]);
    town.ok(&allocate, &["b"]);
    let held = town.range(&thousand(0)).version;
    exercise(&mut town, held, &["organisation"], |version| offer(&target, version, Some(B)));
    let offered = town.range(&thousand(0)).version;
    town.refused(&accept(&target, offered), &["b"], "over_quota");
    town.ok(&json!([{"op": "set_terms", "city": "130100", "org": "B7K2", "expected_version": 1, "name": "Parks", "quota": 2000}]), &[CITY]);
    exercise_twice(&mut town, offered, &["other organisation"], "not_offered", |version| accept(&target, version));
    let record = town.range(&thousand(0));
    assert_eq!((record.holder.as_deref(), record.offered_to), (Some(B), None));
    assert_eq!((holding(&town, "A7K2"), holding(&town, "B7K2")), (Some(0), Some(2_000)));
    // Items without a holder of their own go along, and new ones are the new holder's.
    town.refused(&update_item(0, 1), signers("organisation"), "not_authorised");
    town.ok(&update_item(0, 1), &["b"]);
    town.refused(&register_item(20), signers("organisation"), "not_in_range");
    town.refused(&update_item(2, 3), &["b"], "not_authorised");
    town.ok(&update_item(2, 3), &["c"]);
    town.refused(&update_item(3, 2), &["b"], "not_authorised");
    town.ok(&accept(&of_item(3), 2), &["c"]);
    // Withdrawn after the range went: it is still its giver's.
    town.ok(&offer(&target, offered + 1, Some(A)), &["b"]);
    town.ok(&accept(&target, offered + 2), signers("organisation"));
    assert_eq!((holding(&town, "A7K2"), holding(&town, "B7K2")), (Some(1_000), Some(1_000)));
    // Offered to oneself it counts once.
    town.ok(&offer(&target, offered + 3, Some(A)), signers("organisation"));
    town.ok(&accept(&target, offered + 4), signers("organisation"));
    assert_eq!(holding(&town, "A7K2"), Some(1_000));
}

#[test]
fn nothing_changes_hands_while_somebody_may_not_act() {
    let mut town = town();
    let (target, range) = (of_item(0), of_range());
    refused_while_suspended(&mut town, A, &offer(&target, 1, Some(B)), signers("organisation"));
    refused_while_suspended(&mut town, &item(0), &offer(&target, 2, Some(B)), signers("organisation"));
    town.ok(&offer(&target, 3, Some(B)), signers("organisation"));
    for code in [A, B, &item(0)] {
        let version = town.version(&item(0)) + u64::from(code.contains('/'));
        refused_while_suspended(&mut town, code, &accept(&target, version), &["b"]);
    }
    // A recovery of the giver or of the receiver freezes what was offered before.
    for (code, name) in [(A, "n1"), (B, "n2")] {
        let keys = json!([town.entry(code, "transaction", name)]);
        town.ok(&start(code, town.version(code), keys), &[CITY]);
        let version = town.version(&item(0));
        town.refused(&accept(&target, version), &["b"], "recovery_pending");
        if code == A {
            town.refused(&offer(&target, version, None), signers("organisation"), "recovery_pending");
        }
        town.ok(&end(code, town.version(code), true), &[CITY]);
    }
    let set_range = |version: u64, status: &str| {
        let mut operation = set_status("", version, status);
        operation[0].as_object_mut().unwrap().remove("code");
        operation[0]["range"] = range["range"].clone();
        operation
    };
    town.ok(&set_range(2, "suspended"), &[CITY]);
    town.refused(&offer(&range, 3, Some(B)), signers("organisation"), "suspended");
    town.ok(&set_range(3, "active"), &[CITY]);
    town.ok(&offer(&range, 4, Some(B)), signers("organisation"));
    town.ok(&set_range(5, "retired"), &[CITY]);
    assert_eq!(town.range(&thousand(0)).offered_to, None);
    town.refused(&offer(&range, 6, Some(B)), signers("organisation"), "retired");
    town.refused(&accept(&range, 6), &["b"], "not_offered");
    town.ok(&accept(&target, town.version(&item(0))), &["b"]);
    town.ok(&set_status(&item(0), town.version(&item(0)), "retired"), &["b"]);
    town.refused(&offer(&target, town.version(&item(0)), Some(A)), &["b"], "retired");
}

#[test]
fn of_two_who_accept_or_withdraw_at_once_the_first_in_the_block_counts() {
    let mut town = town();
    let target = of_item(0);
    town.ok(&offer(&target, 1, Some(B)), signers("organisation"));
    let both = [town.signed(&accept(&target, 2), &["b"]), town.signed(&offer(&target, 2, None), signers("organisation"))];
    let outcomes = town.block(&both);
    assert!(matches!(outcomes[0], Outcome::Committed(_)));
    // By then the item is somebody else's: not even the version is looked at.
    assert_eq!(outcomes[1], Outcome::Rejected("not_authorised".to_owned(), 0));
    town.ok(&offer(&of_item(4), 1, Some(B)), signers("organisation"));
    let both = [town.signed(&offer(&of_item(4), 2, None), signers("organisation")), town.signed(&accept(&of_item(4), 2), &["b"])];
    let outcomes = town.block(&both);
    assert_eq!(outcomes[1], Outcome::Rejected("not_offered".to_owned(), 0));
    // Both sides in one transaction, which both sign, is one step.
    let mut sale = offer(&of_item(5), 1, Some(B)).as_array().unwrap().clone();
    sale.extend(accept(&of_item(5), 2).as_array().unwrap().clone());
    town.ok(&json!(sale), &["a1", "a2", "b"]);
    assert_eq!(town.record(&item(5)).holder.as_deref(), Some(B));
}

// ------------------------------------------------------------------ answers

#[test]
fn answers_say_what_is_about_to_change() {
    let mut town = town();
    let notes = |town: &Chain, code: &str| town.verdict(code).notes.into_iter().filter(|note| !note.contains("TEST")).collect::<Vec<_>>();
    for code in [A, &item(0), "MA.156.130100"] {
        assert_eq!(notes(&town, code), [""; 0], "{code}");
    }
    let keys = json!([town.entry(A, "transaction", "n1")]);
    town.ok(&start(A, 2, keys), &[CITY]);
    let due = town.record(A).recovery.unwrap().due;
    let expected = format!("a recovery of the keys of the organisation is under way: from height {due} on other keys may take over");
    for code in [A, &item(0), &format!("{A}/60.010203.1")] {
        assert_eq!(notes(&town, code), [expected.as_str()], "{code}");
    }
    assert_eq!(notes(&town, "MA.156.130100"), [""; 0]);
    assert_eq!(town.verdict(&item(0)).status, Some(Status::Active), "it is still what it was");
    town.ok(&end(A, 3, true), signers("its recovery key"));
    town.ok(&offer(&of_item(0), 1, Some(B)), signers("organisation"));
    town.ok(&offer(&of_range(), town.range(&thousand(0)).version, Some(ABROAD)), signers("organisation"));
    assert_eq!(
        notes(&town, &item(0)),
        [
            format!("the thousand range that holds it is offered to {ABROAD}, who has not accepted yet"),
            format!("the item is offered to {B}, who has not accepted yet")
        ]
    );
    let keys = json!([town.entry(&item(1), "transaction", "n2")]);
    town.ok(&start(&item(1), 2, keys), signers("organisation"));
    assert!(notes(&town, &item(1)).iter().any(|note| note.starts_with("a recovery of the keys of the item")));
}

/// Every record that these tests can make reads back, in the longest case too.
#[test]
fn the_fullest_profile_is_a_record_that_reads_back() {
    let mut town = town();
    for purpose in ["transaction", "recovery", "assertion"] {
        let count = if purpose == "transaction" { 15 } else { 16 };
        let keys: Vec<Value> = (0..count).map(|number| town.entry(B, purpose, &format!("{purpose} {number}"))).collect();
        town.ok(&rotate(B, town.version(B), json!(keys), &[]), &["b"]);
    }
    let mut profile = update_profile(B, 4);
    let commitments: serde_json::Map<String, Value> = (0..32).map(|number| (format!("{number:064}"), json!("ab".repeat(32)))).collect();
    let services: Vec<Value> = (0..8).map(|number| json!([format!("s{number}"), format!("https://{}", "x".repeat(240))])).collect();
    profile[0]["commitments"] = commitments.into();
    profile[0]["services"] = json!(services);
    town.ok(&profile, &["b"]);
    let keys: Vec<Value> = (0..16).map(|number| town.entry(B, "transaction", &format!("next {number}"))).collect();
    town.ok(&start(B, 5, json!(keys)), &[CITY]);
    let record: Record = town.record(B);
    assert_eq!((record.keys.len(), record.recovery.as_ref().unwrap().keys.len()), (48, 16));
    assert_eq!(Record::decode(&record.encode()).unwrap(), record);
}

/// What the table of roles is worth: each of them can do something.
#[test]
fn every_role_of_these_tests_has_a_power_of_its_own() {
    let mut town = town();
    town.ok(&set_terms(2, 9_000), signers("city"));
    town.ok(&update_profile(A, 3), signers("organisation"));
    town.ok(&update_profile(B, 1), signers("other organisation"));
    town.ok(&update_profile("MA.156.330100", 1), signers("other city"));
    town.ok(&set_controllers(&item(1), 2, 1), signers("item"));
    let keys = json!([town.entry(A, "transaction", "n1")]);
    town.ok(&start(A, 4, keys), &[CITY]);
    town.ok(&end(A, 5, true), signers("its recovery key"));
}
