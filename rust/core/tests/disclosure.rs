//! Disclosures (P76): what is proven of each attribute, under single items, sealed leaves and overrides, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use cityid_core::answer::{Options, VerdictKind};
use cityid_core::commitment::commitment;
use cityid_core::disclosure::{Disclosure, Finding, MAX_DISCLOSURE};
use cityid_core::error::Error;
use cityid_core::map_key::Kind;
use cityid_core::record::Record;
use cityid_core::trust::Trust;
use cityid_core::wire::text_order;
use serde_json::{json, Value};
use support::*;

const SCHEMA: &str = "https://city.example/lamp.json";
const SALT: [u8; 16] = [7; 16];

/// The item's record with commitments to these values.
fn with_values(number: u32, version: u64, values: &[(&str, &str)]) -> Record {
    let code = code(number);
    let mut record = item_record(&code, version);
    record.commitments =
        values.iter().map(|(name, value)| ((*name).to_owned(), commitment(&code, name, SCHEMA, &SALT, value).unwrap())).collect();
    record.commitments.sort_unstable_by(|left, right| text_order(&left.0, &right.0));
    record
}

/// Items 5 (single), 1000 (leaf), 2000 (override over an older leaf) and 2001 (leaf over an older override), whose height is their number.
fn world() -> World {
    let mut world = World::with_records(4);
    world.put_item(5, &with_values(5, 1, &[("height", "5"), ("lamp", "LED")]));
    world.seal(Kind::Thousand, 1_000, 0, [(0, with_values(1_000, 1, &[("height", "1000")]))]);
    world.seal(
        Kind::Thousand,
        2_000,
        2,
        [(0, with_values(2_000, 1, &[("height", "old")])), (1, with_values(2_001, 3, &[("height", "2001")]))],
    );
    world.put_item(2_000, &with_values(2_000, 2, &[("height", "2000")]));
    world.put_item(2_001, &with_values(2_001, 2, &[("height", "old")]));
    world.commit();
    world
}

fn attribute(name: &str, value: &str) -> Value {
    json!({"attribute": name, "schema": SCHEMA, "salt": "07".repeat(16), "value": value})
}

fn disclosure(number: u32, attributes: &[Value]) -> Value {
    json!({"cityid": "disclosure", "code": code(number), "attributes": attributes})
}

fn findings(world: &World, shown: &Value, about: &str) -> (VerdictKind, Vec<Finding>, bool) {
    let disclosed =
        Disclosure::from_json(&shown.to_string()).unwrap().verify(Some(&world.answer(about)), &world.trust(), &Options::default()).unwrap();
    let found = disclosed.attributes.iter().map(|(_, finding)| *finding).collect();
    (disclosed.verdict.verdict, found, disclosed.is_proven())
}

#[test]
fn a_shown_value_is_proven_by_the_record_that_decides_wherever_it_stands() {
    let world = world();
    for number in [5, 1_000, 2_000, 2_001] {
        let shown = disclosure(number, &[attribute("height", &number.to_string())]);
        assert_eq!(findings(&world, &shown, &code(number)), (VerdictKind::Registered, vec![Finding::Proven], true), "{number}");
        let old = disclosure(number, &[attribute("height", "old")]);
        assert_eq!(findings(&world, &old, &code(number)), (VerdictKind::Registered, vec![Finding::Differs], false), "{number}");
    }
}

#[test]
fn each_attribute_has_a_result_of_its_own() {
    let world = world();
    let mut salted = attribute("lamp", "LED");
    salted["salt"] = json!("08".repeat(16));
    let mut renamed = attribute("lamp", "LED");
    renamed["schema"] = json!("https://elsewhere.example/");
    for changed in [salted, renamed, attribute("lamp", "led")] {
        let shown = disclosure(5, &[attribute("height", "5"), changed, attribute("colour", "green")]);
        let expected = vec![Finding::Proven, Finding::Differs, Finding::NotCommitted];
        assert_eq!(findings(&world, &shown, &code(5)), (VerdictKind::Registered, expected, false));
    }
    // A commitment is to one code: the same value and salt prove nothing about another.
    let other = disclosure(6, &[attribute("height", "5")]);
    assert_eq!(findings(&world, &other, &code(6)), (VerdictKind::Registered, vec![Finding::NotCommitted], false));
}

#[test]
fn without_a_proven_record_nothing_is_proven() {
    let world = world();
    let shown = disclosure(5, &[attribute("height", "5")]);
    assert_eq!(findings(&world, &shown, &code(6)), (VerdictKind::Invalid, vec![Finding::NotProven], false), "another code's answer");
    let absent = disclosure(7, &[attribute("height", "5")]);
    assert_eq!(findings(&world, &absent, &code(7)), (VerdictKind::NotRegistered, vec![Finding::NotProven], false));
    let mut of_other = shown.clone();
    of_other["code"] = json!(code_of("B8L3", 5));
    assert_eq!(findings(&world, &of_other, &code_of("B8L3", 5)), (VerdictKind::Mismatch, vec![Finding::NotProven], false));
    let parsed = Disclosure::from_json(&shown.to_string()).unwrap();
    let mut forged = world.answer(&code(5));
    let last = forged.records.len() - 1;
    forged.records[last].1 = Some(with_values(5, 1, &[("height", "6")]).encode());
    let false_value = Disclosure::from_json(&disclosure(5, &[attribute("height", "6")]).to_string()).unwrap();
    let disclosed = false_value.verify(Some(&forged), &world.trust(), &Options::default()).unwrap();
    assert_eq!((disclosed.verdict.verdict, disclosed.attributes[0].1), (VerdictKind::Invalid, Finding::NotProven));
    // Under a trust of another network, too.
    let elsewhere = Trust::from_genesis(&genesis_of(5)).unwrap();
    let disclosed = parsed.verify(Some(&world.answer(&code(5))), &elsewhere, &Options::default()).unwrap();
    assert_eq!((disclosed.verdict.verdict, disclosed.attributes[0].1), (VerdictKind::Invalid, Finding::NotProven));
    // An old header proves what was, and says so.
    let late = Options { now_ms: Some(world.now_ms() + 3_600_000), ..Options::default() };
    let disclosed = parsed.verify(Some(&world.answer(&code(5))), &world.trust(), &late).unwrap();
    assert_eq!((disclosed.verdict.verdict, disclosed.verdict.was), (VerdictKind::Unknown, Some(VerdictKind::Registered)));
    assert_eq!((disclosed.attributes[0].1, disclosed.is_proven()), (Finding::Proven, false));
}

#[test]
fn an_answer_may_travel_with_what_it_proves() {
    let world = world();
    let mut shown = disclosure(5, &[attribute("height", "5")]);
    let alone = Disclosure::from_json(&shown.to_string()).unwrap();
    assert!(matches!(alone.verify(None, &world.trust(), &Options::default()), Err(Error::Malformed(_))));
    shown["answer"] = serde_json::from_str(&world.answer(&code(5)).to_json()).unwrap();
    let together = Disclosure::from_json(&shown.to_string()).unwrap();
    let disclosed = together.verify(None, &world.trust(), &Options::default()).unwrap();
    assert!(disclosed.is_proven());
    let view = disclosed.to_json();
    assert_eq!(view["attributes"][0]["result"], "proven");
    assert_eq!(view["verdict"]["verdict"], "REGISTERED");
    // The one that is given counts before the one that travels along.
    let disclosed = together.verify(Some(&world.answer(&code(6))), &world.trust(), &Options::default()).unwrap();
    assert_eq!(disclosed.verdict.verdict, VerdictKind::Invalid);
}

#[test]
fn what_is_no_disclosure_is_refused() {
    let good = disclosure(5, &[attribute("height", "5")]);
    assert!(Disclosure::from_json(&good.to_string()).is_ok(), "the control");
    let change = |edit: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        edit(&mut json);
        Disclosure::from_json(&json.to_string())
    };
    type Edit = fn(&mut Value);
    let edits: [Edit; 16] = [
        |json| json["cityid"] = json!("answer"),
        |json| json["code"] = json!(code(5).to_lowercase()),
        |json| json["code"] = json!(FOREIGN),
        |json| json["attributes"] = json!([]),
        |json| json["attributes"] = json!([attribute("height", "5"), attribute("height", "6")]),
        |json| json["attributes"] = json!(vec![attribute("height", "5"); 257]),
        |json| json["attributes"][0]["salt"] = json!("07".repeat(15)),
        |json| json["attributes"][0]["salt"] = json!("0G".repeat(16)),
        |json| json["attributes"][0]["value"] = json!("x".repeat(4_097)),
        |json| json["attributes"][0]["value"] = json!(5),
        |json| json["attributes"][0]["attribute"] = json!("x".repeat(65)),
        |json| json["attributes"][0]["schema"] = json!("x".repeat(256)),
        |json| json["attributes"][0]["more"] = json!(1),
        |json| json["more"] = json!(1),
        |json| json["answer"] = json!("answer"),
        |json| drop(json.as_object_mut().unwrap().remove("code")),
    ];
    for (number, edit) in edits.iter().enumerate() {
        assert!(matches!(change(edit), Err(Error::Malformed(_))), "edit {number}");
    }
    assert!(matches!(
        change(&|json| json["code"] = json!("MA.156.130100.A7K2/60.010203.1/000000005")),
        Err(Error::Malformed(_) | Error::Code(_))
    ));
    assert!(matches!(Disclosure::from_json(&" ".repeat(MAX_DISCLOSURE + 1)), Err(Error::Malformed(_))));
    assert!(matches!(Disclosure::from_json("[]"), Err(Error::Malformed(_))));
}
