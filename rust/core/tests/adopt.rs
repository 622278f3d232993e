//! Numbers from before a city joined (P48 to P50, P73): reserved ranges, aliases, districts, and the answers about them. Each refusal
//! has its reason and leaves the state as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod chain;

use chain::Chain;
use cityid_core::answer::VerdictKind;
use cityid_core::code::{City, Class, Code, Model, Org, Serial, Use};
use cityid_core::ledger::execute::Output;
use cityid_core::ledger::operation::Range;
use cityid_core::ledger::stored::Outcome;
use cityid_core::map_key::MapKey;
use cityid_core::record::{Allocation, Children, Record};
use serde_json::{json, Value};
use std::collections::BTreeSet;

const CITY: &str = "130100/transaction";

fn city() -> City {
    City::parse("130100").unwrap()
}

fn class() -> Class {
    Class::parse("010203").unwrap()
}

fn range(base: u32, size: u64) -> Range {
    Range::new(city(), class(), Serial::new(base).unwrap(), size).unwrap()
}

fn code_of(org: Option<&str>, number: u32) -> String {
    let org = org.map(|org| Org::parse(org).unwrap());
    Code::item(city(), org, Use::parse("60").unwrap(), class(), Model::parse("1").unwrap(), Serial::new(number).unwrap()).text()
}

fn code(number: u32) -> String {
    code_of(Some("A7K2"), number)
}

fn reserve(org: &str, base: u64, size: u64) -> Value {
    json!({"op": "reserve_range", "city": "130100", "org": org, "class": "010203", "base": base, "size": size})
}

fn allocate(org: &str, size: u64) -> Value {
    json!({"op": "allocate_range", "city": "130100", "org": org, "class": "010203", "size": size})
}

fn aliases(namespace: &str, pairs: &[(&str, &str)]) -> Value {
    let pairs: Vec<Value> = pairs.iter().map(|(alias, code)| json!({"alias": alias, "code": code})).collect();
    json!([{"op": "register_aliases", "namespace": namespace, "aliases": pairs}])
}

fn district(digits: &str) -> Value {
    json!([{"op": "map_district", "city": "130100", "district": digits}])
}

fn set_status(code: &str, version: u64, status: &str) -> Value {
    json!([{"op": "set_status", "code": code, "expected_version": version, "status": status}])
}

/// A7K2 (key `a`, quota two million and a thousand) and B8L3 (key `b`, quota 0) of 130100.
fn world() -> Chain {
    let mut chain = Chain::new(|json| json["parameters"]["max_operations"] = json!(2_048));
    for (org, name, quota) in [("A7K2", "a", 2_001_000), ("B8L3", "b", 0)] {
        let entry = chain.entry(&format!("MA.156.130100.{org}"), "transaction", name);
        let admission = json!([{"op": "admit_organisation", "city": "130100", "org": org, "name": org, "quota": quota, "keys": [entry]}]);
        chain.ok(&admission, &[CITY]);
    }
    chain
}

fn allocation(chain: &Chain) -> Allocation {
    chain.at(&MapKey::Class(city(), class())).unwrap().allocation.unwrap()
}

fn held(chain: &Chain, org: &str) -> u64 {
    chain.at(&MapKey::Holding(city(), Org::parse(org).unwrap(), class())).and_then(|record| record.serials).unwrap_or(0)
}

fn bases(outputs: &[Output]) -> Vec<u64> {
    outputs.iter().map(|output| if let Output::Range(base, _) = output { *base } else { panic!("{output:?}") }).collect()
}

#[test]
fn a_city_reserves_a_range_once() {
    let mut chain = world();
    let operation = json!([reserve("A7K2", 5_000, 1_000)]);
    for wrong in [&["a"][..], &["b"], &["330100/transaction"], &["130100/checkpoint"], &["stranger"], &["a", "330100/transaction"]] {
        chain.refused(&operation, wrong, "not_authorised");
    }
    chain.refused(&json!([reserve("NONE", 5_000, 1_000)]), &[CITY], "unknown_code");
    let mut abroad = operation.clone();
    abroad[0]["city"] = json!("650100");
    chain.refused(&abroad, &[CITY], "unknown_city");
    abroad[0]["city"] = json!("330100");
    chain.refused(&abroad, &[CITY], "not_authorised");
    chain.ok(&set_status("MA.156.130100.A7K2", 1, "suspended"), &[CITY]);
    chain.refused(&operation, &[CITY], "suspended");
    chain.ok(&set_status("MA.156.130100.A7K2", 2, "active"), &[CITY]);

    assert_eq!(chain.ok(&operation, &[CITY]), [Output::None]);
    let record = chain.range(&range(5_000, 1_000));
    assert_eq!((record.holder.as_deref(), record.children), (Some("MA.156.130100.A7K2"), Children::Items));
    let million = chain.range(&range(0, 1_000_000));
    assert_eq!((million.holder, million.children), (None, Children::Map));
    assert_eq!(allocation(&chain), Allocation { next_million: 0, open_million: None, next_thousand: 0 });
    assert_eq!(held(&chain, "A7K2"), 1_000);
    for (org, base, size) in [("A7K2", 5_000, 1_000), ("B8L3", 5_000, 1_000), ("B8L3", 0, 1_000_000)] {
        chain.refused(&json!([reserve(org, base, size)]), &[CITY], "exists");
    }
    // A whole million, and what lies in it.
    chain.ok(&json!([reserve("A7K2", 3_000_000, 1_000_000)]), &[CITY]);
    for (base, size) in [(3_000_000, 1_000_000), (3_000_000, 1_000), (3_999_000, 1_000)] {
        chain.refused(&json!([reserve("B8L3", base, size)]), &[CITY], "exists");
    }
    // Allocated ranges are held like reserved ones.
    assert_eq!(bases(&chain.ok(&json!([allocate("A7K2", 1_000)]), &["a"])), [0]);
    chain.refused(&json!([reserve("B8L3", 0, 1_000)]), &[CITY], "exists");
    // Of two in one block the first counts.
    let transactions = ["A7K2", "B8L3"].map(|org| chain.signed(&json!([reserve(org, 8_000, 1_000)]), &[CITY]));
    let outcomes = chain.block(&transactions);
    assert_eq!((&outcomes[0], &outcomes[1]), (&Outcome::Committed(vec![Output::None]), &Outcome::Rejected("exists".to_owned(), 0)));
}

#[test]
fn what_is_reserved_counts_as_held_and_no_quota_binds_it() {
    let mut chain = world();
    chain.ok(&json!([reserve("B8L3", 7_000, 1_000), reserve("B8L3", 2_000_000, 1_000_000)]), &[CITY]);
    assert_eq!(held(&chain, "B8L3"), 1_001_000);
    chain.refused(&json!([allocate("B8L3", 1_000)]), &["b"], "over_quota");
    chain.ok(&json!([reserve("A7K2", 4_000_000, 1_000_000), reserve("A7K2", 5_000_000, 1_000_000)]), &[CITY]);
    chain.ok(&json!([allocate("A7K2", 1_000)]), &["a"]);
    chain.refused(&json!([allocate("A7K2", 1_000)]), &["a"], "over_quota");
    // Items are registered in a reserved range as in any other, with the code of its holder.
    let category =
        json!({"op": "register_category", "city": "130100", "org": "B8L3", "use": "60", "class": "010203", "model": "1", "name": "Lamp"});
    let register = |serial: u32| json!({"op": "register_items", "city": "130100", "org": "B8L3", "use": "60", "class": "010203", "model": "1", "items": [{"serial": serial}]});
    chain.ok(&json!([category, register(7_123), register(2_999_999)]), &["b"]);
    assert_eq!(chain.verdict(&code_of(Some("B8L3"), 2_999_999)).verdict, VerdictKind::Registered);
    chain.refused(&json!([register(4_000_000)]), &["b"], "not_in_range");
    // A city holds what it reserves for itself; nothing counts that.
    let own = json!([{"op": "reserve_range", "city": "130100", "class": "010203", "base": 9_000_000, "size": 1_000_000}]);
    chain.ok(&own, &[CITY]);
    assert_eq!(chain.range(&range(9_000_000, 1_000_000)).holder.as_deref(), Some("MA.156.130100"));
}

#[test]
fn the_next_free_range_skips_what_is_reserved_and_opens_each_million_in_turn() {
    let mut chain = world();
    let city_range = |size: u64| json!({"op": "allocate_range", "city": "130100", "class": "010203", "size": size});
    let take = |chain: &mut Chain, size: u64, count: usize| bases(&chain.ok(&Value::Array(vec![city_range(size); count]), &[CITY]));
    // Thousands 1 and 2 of the first million, all but the last of the second, the whole third.
    let mut reserved = vec![reserve("A7K2", 1_000, 1_000), reserve("A7K2", 2_000, 1_000), reserve("A7K2", 2_000_000, 1_000_000)];
    reserved.extend((0..999).map(|thousand| reserve("A7K2", 1_000_000 + thousand * 1_000, 1_000)));
    chain.ok(&Value::Array(reserved), &[CITY]);
    assert_eq!(allocation(&chain), Allocation::default());
    // Whole millions: the first that nobody touched.
    assert_eq!(take(&mut chain, 1_000_000, 2), [3_000_000, 4_000_000]);
    assert_eq!(allocation(&chain).next_million, 0, "the first two are open for thousands");
    assert_eq!(take(&mut chain, 1_000, 3), [0, 3_000, 4_000]);
    assert_eq!(allocation(&chain), Allocation { next_million: 1, open_million: Some(0), next_thousand: 5 });
    // The city may reserve ahead of the mark in the open million, too.
    chain.ok(&json!([reserve("A7K2", 5_000, 1_000), reserve("A7K2", 6_000, 1_000)]), &[CITY]);
    assert_eq!(take(&mut chain, 1_000, 1), [7_000]);
    let rest = take(&mut chain, 1_000, 992);
    assert_eq!((rest[0], rest[991]), (8_000, 999_000));
    // Then the last thousand of the second million, then the first one beyond all that is held.
    assert_eq!(take(&mut chain, 1_000, 2), [1_999_000, 5_000_000]);
    assert_eq!(allocation(&chain), Allocation { next_million: 6, open_million: Some(5), next_thousand: 1 });
    // Reserving the million that would come next moves the mark.
    chain.ok(&json!([reserve("A7K2", 6_000_000, 1_000_000)]), &[CITY]);
    assert_eq!(allocation(&chain).next_million, 7);
    // No thousand was handed out twice, and none that was reserved.
    let million = |number: u32| (0..1_000).map(move |thousand| number * 1_000_000 + thousand * 1_000);
    for base in million(0).chain(million(1)) {
        assert_eq!(chain.range(&range(base, 1_000)).version, 1, "{base}");
    }
}

#[test]
fn a_class_that_is_used_up_says_so_and_gives_nothing_twice() {
    let mut chain = world();
    // Every million but the last three: held, or four of them opened by reserving their last thousand.
    const OPENED: [u64; 4] = [1, 3, 5, 995];
    let reserved = (0..997u64).map(|million| match OPENED.contains(&million) {
        true => reserve("A7K2", million * 1_000_000 + 999_000, 1_000),
        false => reserve("A7K2", million * 1_000_000, 1_000_000),
    });
    chain.ok(&reserved.collect(), &[CITY]);
    let city_range = |size: u64| json!({"op": "allocate_range", "city": "130100", "class": "010203", "size": size});
    let whole = bases(&chain.ok(&Value::Array(vec![city_range(1_000_000); 3]), &[CITY]));
    assert_eq!(whole, [997_000_000, 998_000_000, 999_000_000]);
    chain.refused(&json!([city_range(1_000_000)]), &[CITY], "exhausted");
    // By the thousand there is room, in the lowest of those that a reservation opened.
    let mut seen = BTreeSet::new();
    for expected in [1u64, 3] {
        let thousands = bases(&chain.ok(&Value::Array(vec![city_range(1_000); 999]), &[CITY]));
        assert_eq!((thousands[0], thousands[998]), (expected * 1_000_000, expected * 1_000_000 + 998_000));
        assert!(thousands.iter().all(|base| seen.insert(*base)));
    }
    // The rest but one thousand is reserved: that is the last, and the class says so.
    for million in [5, 995] {
        let from = if million == 995 { 1 } else { 0 };
        chain.ok(&(from..999).map(|thousand| reserve("A7K2", million * 1_000_000 + thousand * 1_000, 1_000)).collect(), &[CITY]);
    }
    assert_eq!(bases(&chain.ok(&json!([city_range(1_000)]), &[CITY])), [995_000_000]);
    for size in [1_000, 1_000_000] {
        chain.refused(&json!([city_range(size)]), &[CITY], "exhausted");
    }
    assert_eq!(allocation(&chain).next_million, 1_000);
}

#[test]
fn aliases_name_codes_for_ever_in_the_namespace_of_their_holder() {
    let mut chain = world();
    chain.ok(&json!([allocate("A7K2", 1_000)]), &["a"]);
    chain.ok(&json!([reserve("B8L3", 1_000, 1_000)]), &[CITY]);
    let pair = [("LD-0017", &code(17)[..])];
    let good = aliases("130100.A7K2/lamps", &pair);
    for wrong in [&[CITY][..], &["b"], &["330100/transaction"], &["stranger"], &["b", CITY]] {
        chain.refused(&good, wrong, "not_authorised");
    }
    let long = "x".repeat(32);
    for namespace in [
        "",
        "13010",
        "130100.",
        "130100.a7k2",
        "130100.A7",
        "130100/",
        "130100.A7K2/Lamps",
        "130100/a_b",
        "130100.A7K2/a/b",
        "MA.156.130100",
        " 130100",
        &format!("130100/{long}x"),
    ] {
        chain.refused(&aliases(namespace, &pair), &["a", CITY], "bad_name");
    }
    for alias in ["", " ", "a b", "a\u{e9}", "a\n", "\u{202e}a"] {
        chain.refused(&aliases("130100.A7K2", &[(alias, &code(17))]), &["a"], "bad_name");
    }
    assert!(cityid_core::ledger::operation::Operation::from_json(aliases("130100", &[(&"x".repeat(65), &code(17))])[0].clone()).is_err());
    for named in ["MA.156.130100", "MA.156.130100.A7K2", "MA.156.130100.A7K2/60.010203.1"] {
        chain.refused(&aliases("130100.A7K2", &[("x", named)]), &["a"], "unknown_code");
    }
    let abroad = Code::item(
        City::parse("330100").unwrap(),
        None,
        Use::parse("60").unwrap(),
        class(),
        Model::parse("1").unwrap(),
        Serial::new(1).unwrap(),
    );
    chain.refused(&aliases("130100.A7K2", &[("x", &abroad.text())]), &["a", CITY, "330100/transaction"], "unknown_code");
    for number in [2_000, 1_000_000] {
        chain.refused(&aliases("130100.A7K2", &[("x", &code(number))]), &["a"], "not_in_range");
    }
    // In the range of another, its holder signs as well; in the namespace of the city, the city.
    let of_b = aliases("130100.A7K2", &[("x", &code_of(Some("B8L3"), 1_001))]);
    chain.refused(&of_b, &["a"], "not_authorised");
    chain.refused(&of_b, &["b"], "not_authorised");
    chain.ok(&of_b, &["a", "b"]);
    let both = aliases("130100", &[("1", &code(1)), ("2", &code_of(Some("B8L3"), 1_002))]);
    for few in [&[CITY][..], &[CITY, "a"], &["a", "b"]] {
        chain.refused(&both, few, "not_authorised");
    }
    chain.ok(&both, &[CITY, "a", "b"]);
    // A namespace may end in 32 characters.
    chain.ok(&aliases(&format!("130100.A7K2/{long}"), &[(&"~".repeat(64), &code(3))]), &["a"]);

    chain.ok(&good, &["a"]);
    let record = chain.at(&MapKey::Alias("130100.A7K2/lamps", b"LD-0017")).unwrap();
    assert_eq!((record.version, record.code), (1, Some(code(17))));
    for other in [17, 18] {
        chain.refused(&aliases("130100.A7K2/lamps", &[("LD-0017", &code(other))]), &["a"], "exists");
    }
    // In another namespace, or in other letters, it is another alias.
    chain.ok(&aliases("130100.A7K2", &[("LD-0017", &code(18))]), &["a"]);
    chain.ok(&aliases("130100.A7K2/lamps", &[("ld-0017", &code(19))]), &["a"]);
    let transactions = [1, 2].map(|number| chain.signed(&aliases("130100.A7K2", &[("twice", &code(number))]), &["a"]));
    let outcomes = chain.block(&transactions);
    assert_eq!(outcomes[1], Outcome::Rejected("exists".to_owned(), 0));
    assert_eq!(chain.at(&MapKey::Alias("130100.A7K2", b"twice")).unwrap().code, Some(code(1)));

    let suspend = |version: u64, status: &str| json!([{"op": "set_status", "range": {"city": "130100", "class": "010203", "base": 0, "size": 1_000}, "expected_version": version, "status": status}]);
    chain.ok(&suspend(1, "suspended"), &[CITY]);
    chain.refused(&aliases("130100.A7K2", &[("late", &code(1))]), &["a"], "suspended");
    chain.ok(&suspend(2, "active"), &[CITY]);
    chain.ok(&set_status("MA.156.130100.A7K2", 1, "suspended"), &[CITY]);
    chain.refused(&aliases("130100.A7K2", &[("late", &code(1))]), &["a"], "suspended");
}

#[test]
fn a_city_maps_a_district_once() {
    let mut chain = world();
    for wrong in [&["a"][..], &["330100/transaction"], &["130100/checkpoint"], &["stranger"]] {
        chain.refused(&district("130102"), wrong, "not_authorised");
    }
    for member in ["130100", "330100"] {
        chain.refused(&district(member), &[CITY], "exists");
    }
    let mut stranger = district("130102");
    stranger[0]["city"] = json!("650100");
    chain.refused(&stranger, &[CITY], "unknown_city");
    chain.ok(&district("130102"), &[CITY]);
    chain.refused(&district("130102"), &[CITY], "exists");
    let mut other = district("130102");
    other[0]["city"] = json!("330100");
    chain.refused(&other, &["330100/transaction"], "exists");
    let record: Record = chain.at(&MapKey::District(City::parse("130102").unwrap())).unwrap();
    assert_eq!((record.version, record.administered_by), (1, Some(city())));
    let transactions = [("130104", "130100"), ("130104", "330100")].map(|(digits, city)| {
        let mut operation = district(digits);
        operation[0]["city"] = json!(city);
        chain.signed(&operation, &[&format!("{city}/transaction")])
    });
    assert_eq!(chain.block(&transactions)[1], Outcome::Rejected("exists".to_owned(), 0));
}

#[test]
fn old_numbers_lead_to_their_items() {
    let mut chain = world();
    let old = "130102010203000000017";
    chain.ok(&json!([reserve("A7K2", 0, 1_000)]), &[CITY]);
    let category =
        json!({"op": "register_category", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "name": "Lamp"});
    let register = json!({"op": "register_items", "city": "130100", "org": "A7K2", "use": "60", "class": "010203", "model": "1", "items": [{"serial": 17}]});
    chain.ok(&json!([category, register]), &["a"]);
    let named = "alias:130100.A7K2/lamps:LD:0017";
    let says = |chain: &Chain, subject: &str| {
        let verdict = chain.verdict(subject);
        (verdict.verdict, verdict.code, verdict.notes.join("; "))
    };
    // Before anything is mapped or named.
    assert_eq!(says(&chain, old).0, VerdictKind::NotOurs);
    assert_eq!(says(&chain, named).0, VerdictKind::NotRegistered);
    assert_eq!(says(&chain, "alias:650100:x").0, VerdictKind::NotOurs);
    chain.ok(&district("130102"), &[CITY]);
    assert_eq!(says(&chain, old).0, VerdictKind::NotRegistered);
    chain.ok(
        &aliases("130100", &[(old, &code(17)), ("130102010203000000018", &code(18)), ("130102010203000000019", &code_of(None, 17))]),
        &[CITY, "a"],
    );
    chain.ok(&aliases("130100.A7K2/lamps", &[("LD:0017", &code(17))]), &["a"]);
    for subject in [old, named] {
        let (verdict, of, notes) = says(&chain, subject);
        assert_eq!((verdict, of), (VerdictKind::Registered, Some(code(17))), "{subject}");
        assert!(notes.contains(&format!("stands for {}", code(17))), "{notes}");
    }
    assert!(says(&chain, old).2.contains("130102 is a district of 130100"));
    let unregistered = says(&chain, "130102010203000000018");
    assert_eq!((unregistered.0, unregistered.1), (VerdictKind::NotRegistered, Some(code(18))), "the alias stands, its item does not");
    let other = says(&chain, "130102010203000000019");
    assert_eq!((other.0, other.1), (VerdictKind::Mismatch, Some(code(17))), "the serial is another code's");
    // The 21 digits of a member city go by the place, whatever aliases there are.
    chain.ok(&aliases("130100", &[("130100010203000000017", &code(20))]), &[CITY, "a"]);
    assert_eq!(says(&chain, "130100010203000000017").1, Some(code(17)));
    assert_eq!(says(&chain, "alias:130100:130100010203000000017").1, Some(code(20)));
}
