//! The answer and its verifier: every verdict with its control, absences that must not be provable, and tampering with every field.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use cityid_core::answer::VerdictKind::{Invalid, Mismatch, NotOurs, NotRegistered, Registered, Unavailable, Unknown};
use cityid_core::answer::{resolve, verify, verify_bytes, Answer, Options, Verdict, VerdictKind};
use cityid_core::block::Header;
use cityid_core::code::{check_character, City, Class, Members, Subject};
use cityid_core::error::Error;
use cityid_core::hash::sha256;
use cityid_core::map_key::{Kind, MapKey};
use cityid_core::record::{Children, Record, Status};
use proptest::prelude::*;
use support::*;

const ABSENT_CITY: &str = "MA.156.650100";

fn now(world: &World) -> Options<'static> {
    Options { now_ms: Some(world.now_ms() + 5_000), ..Options::default() }
}

fn judged(world: &World, answer: &Answer) -> Verdict {
    verify(answer, &world.trust(), &now(world))
}

fn kinds(answer: &Answer) -> Vec<&'static str> {
    answer.records.iter().map(|(kind, record)| if record.is_some() { kind.name() } else { "null" }).collect()
}

/// The verdict is INVALID, and this is the step that failed.
#[track_caller]
fn assert_invalid(verdict: &Verdict, step: &str) {
    let last = verdict.steps.last().unwrap();
    assert_eq!((verdict.verdict, last.name, last.passed), (Invalid, step, false), "{verdict:#?}");
    assert!(verdict.steps[..verdict.steps.len() - 1].iter().all(|step| step.passed), "{:#?}", verdict.steps);
    assert_eq!((verdict.current, verdict.was, verdict.status, &verdict.record), (false, None, None, &None));
}

/// Every subject of the test network: verdict, effective status, and the records shown after network and city.
fn cases() -> Vec<(String, VerdictKind, Option<Status>, Vec<&'static str>)> {
    let active = Some(Status::Active);
    let suspended = Some(Status::Suspended);
    let holder = format!("MA.156.{CITY}.A7K2");
    let alias = |number: u32| format!("{CITY}{CLASS}{number:09}");
    vec![
        (format!("MA.156.{CITY}"), Registered, active, vec![]),
        (holder.clone(), Registered, active, vec!["organisation"]),
        (format!("MA.156.{CITY}.NONE"), NotRegistered, None, vec!["null"]),
        (format!("{holder}/60.010203.1"), Registered, active, vec!["organisation", "category"]),
        (format!("{holder}/60.010203.2"), NotRegistered, None, vec!["organisation", "null"]),
        (format!("MA.156.{CITY}.NONE/60.010203.1"), NotRegistered, None, vec!["null"]),
        (format!("MA.156.{CITY}/60.010203.1"), Registered, active, vec!["category"]),
        (format!("MA.156.{CITY}/60.010203.2"), NotRegistered, None, vec!["null"]),
        (code(5), Registered, active, vec!["organisation", "thousand", "item"]),
        (code(8), Registered, suspended, vec!["organisation", "thousand", "item"]),
        (code(7), NotRegistered, None, vec!["thousand", "null"]),
        (code(9), Mismatch, None, vec!["organisation", "thousand", "item"]),
        (code(10), Mismatch, None, vec!["thousand", "item"]),
        (alias(9), Registered, active, vec!["organisation", "thousand", "item"]),
        (alias(7), NotRegistered, None, vec!["thousand", "null"]),
        (code(1_000), Registered, active, vec!["organisation", "thousand"]),
        (code_of("B8L3", 1_000), Mismatch, None, vec!["organisation", "thousand"]),
        (code(1_001), NotRegistered, None, vec!["thousand"]),
        // Override of version 2 over leaf of version 1.
        (code(2_000), Registered, suspended, vec!["organisation", "thousand", "item"]),
        // Leaf of version 3 over override of version 2.
        (code(2_001), Registered, active, vec!["organisation", "thousand", "item"]),
        // Override only; equal versions, so the override; leaf only; neither.
        (code(2_002), Registered, suspended, vec!["organisation", "thousand", "item"]),
        (code(2_003), Registered, suspended, vec!["organisation", "thousand", "item"]),
        (code(2_004), Registered, active, vec!["organisation", "thousand", "null"]),
        (code(2_005), NotRegistered, None, vec!["thousand", "null"]),
        (code(3_000), NotRegistered, None, vec!["million", "null"]),
        (code(1_000_007), Registered, active, vec!["organisation", "million", "item"]),
        (code(1_000_008), NotRegistered, None, vec!["million", "null"]),
        (code(2_000_007), Registered, active, vec!["organisation", "million"]),
        (code(2_999_999), Registered, active, vec!["organisation", "million"]),
        (code(2_000_008), NotRegistered, None, vec!["million"]),
        (code(3_000_000), NotRegistered, None, vec!["class", "null"]),
        (format!("{CITY}999999000000001"), NotRegistered, None, vec!["null"]),
    ]
}

/// The same of subjects that are aliases and old numbers (P73), after the network.
fn aliases() -> Vec<(String, VerdictKind, Option<Status>, Vec<&'static str>)> {
    let active = Some(Status::Active);
    let items = [
        (5, Registered, active, &["organisation", "thousand", "item"][..]),
        (7, NotRegistered, None, &["thousand", "null"]),
        (9, Mismatch, None, &["organisation", "thousand", "item"]),
        (3_000, NotRegistered, None, &["million", "null"]),
        (1_000, Registered, active, &["organisation", "thousand"]),
        (1_001, NotRegistered, None, &["thousand"]),
        (2_001, Registered, active, &["organisation", "thousand", "item"]),
        (2_000_007, Registered, active, &["organisation", "million"]),
    ];
    assert_eq!(items.map(|(number, ..)| number), ALIASED);
    let mut cases = vec![
        (named(6), NotRegistered, None, vec!["city", "null"]),
        (format!("alias:{CITY}:LD:5"), NotRegistered, None, vec!["city", "null"]),
        (format!("alias:{CITY}.A7K2:LD:5"), NotRegistered, None, vec!["city", "null"]),
        ("alias:650100:LD:5".to_owned(), NotOurs, None, vec!["null"]),
        (old_number(6), NotRegistered, None, vec!["null", "district", "city", "null"]),
        (format!("650100{CLASS}000000005"), NotOurs, None, vec!["null", "null"]),
    ];
    for (number, verdict, status, shown) in items {
        cases.push((named(number), verdict, status, [&["city", "alias"][..], shown].concat()));
        cases.push((old_number(number), verdict, status, [&["null", "district", "city", "alias"][..], shown].concat()));
    }
    cases
}

#[test]
fn every_subject_gets_its_verdict_and_only_the_records_that_decide() {
    let world = World::with_records(4);
    let cases = cases().into_iter().map(|(subject, verdict, status, shown)| (subject, verdict, status, [vec!["city"], shown].concat()));
    for (subject, verdict, status, shown) in cases.chain(aliases()) {
        let answer = world.answer(&subject);
        let expected: Vec<&str> = ["network"].into_iter().chain(shown).collect();
        assert_eq!(kinds(&answer), expected, "{subject}");
        let found = verify(&answer, &world.trust(), &Options { code: Some(&subject), ..now(&world) });
        assert_eq!((found.verdict, found.status, found.current), (verdict, status, true), "{subject}: {found:#?}");
        assert_eq!((found.height, found.as_of_ms, found.signatures), (Some(5), Some(world.now_ms()), (3, 4)));
        assert_eq!(found.subject.as_deref(), Some(subject.as_str()));
        assert!(found.steps.iter().all(|step| step.passed) && found.steps.len() == 9);
        assert!(found.notes[0].starts_with("TEST network"));
        // One's own state says the same, and both encodings keep everything.
        let parsed = Subject::parse(&subject, None).unwrap();
        let own = resolve(&parsed, &*world.snapshot(), &|table, index| world.lookup(table, index)).unwrap();
        assert_eq!((own.verdict, own.status, own.code, own.record), (found.verdict, found.status, found.code, found.record), "{subject}");
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer.clone()));
        assert_eq!(Answer::from_json(&answer.to_json()), Ok(answer.clone()), "{subject}");
    }
}

#[test]
fn a_mismatch_names_the_other_code_and_an_alias_its_code() {
    let world = World::with_records(4);
    let other = code_of("B8L3", 9);
    for subject in [code(9), format!("{CITY}{CLASS}000000009")] {
        let verdict = judged(&world, &world.answer(&subject));
        assert_eq!(verdict.code.as_deref(), Some(other.as_str()));
        assert_eq!(verdict.record.unwrap().code.as_deref(), Some(other.as_str()));
    }
    // The control: asked about its own code it is registered.
    assert_eq!(judged(&world, &world.answer(&other)).verdict, Registered);
}

#[test]
fn strings_that_are_not_ours() {
    let world = World::with_records(4);
    let claimed = judged(&world, &world.answer(FOREIGN));
    assert_eq!(claimed.verdict, NotOurs);
    assert_eq!(claimed.record.unwrap().claims, [format!("MA.156.{CITY}.A7K2")]);
    let unknown = judged(&world, &world.answer("ma.156.nobody/has.This"));
    assert_eq!((unknown.verdict, unknown.record), (NotOurs, None));
    for subject in [ABSENT_CITY.to_owned(), format!("{ABSENT_CITY}.A7K2/60.010203.1")] {
        let answer = world.answer(&subject);
        assert_eq!(kinds(&answer), ["network", "null"]);
        assert_eq!(judged(&world, &answer).verdict, NotOurs, "{subject}");
    }
    // Under a node's member list these are foreign; the answer is the same.
    let members = Members::from_iter([city()]);
    let right = format!("{ABSENT_CITY}.A7K2");
    let unchecked = format!("{ABSENT_CITY}.A7K2/60.010203.1/000000001");
    let wrong_check = format!("{unchecked}{}", if check_character(&unchecked) == Ok('A') { 'B' } else { 'A' });
    for text in [right, wrong_check] {
        let subject = Subject::parse(&text, Some(&members)).unwrap();
        let answer = cityid_core::answer::build(&subject, &*world.snapshot(), &world.block()).unwrap();
        assert_eq!(kinds(&answer), ["network", "null"], "{text}");
        assert_eq!(judged(&world, &answer).verdict, NotOurs, "{text}");
    }
    // A wrong check character under a member city is a mistake and has no answer.
    let good = code(5);
    let mistyped = format!("{}{}", &good[..good.len() - 1], if good.ends_with('A') { 'B' } else { 'A' });
    let forged = world.answer_showing(&mistyped, &[MapKey::Network, MapKey::City(city())], None);
    assert_invalid(&judged(&world, &forged), "records");
    let forged = world.answer_showing(&mistyped, &[MapKey::Network, MapKey::Foreign(&mistyped)], None);
    assert_invalid(&judged(&world, &forged), "records");
}

#[test]
fn an_alias_names_the_code_that_it_stands_for() {
    let world = World::with_records(4);
    for number in ALIASED {
        for subject in [named(number), old_number(number)] {
            let verdict = judged(&world, &world.answer(&subject));
            let expected = if number == 9 { code_of("B8L3", 9) } else { code(number) };
            assert_eq!(verdict.code, Some(expected), "{subject}");
            let told = verdict.notes.iter().filter(|note| note.contains(&format!("stands for {}", code(number)))).count();
            assert_eq!(told, 1, "{:?}", verdict.notes);
            // The alias is shown for what the item is, never for more than that.
            let own = judged(&world, &world.answer(&code(number)));
            assert_eq!((verdict.verdict, verdict.status, verdict.record), (own.verdict, own.status, own.record));
            // In a URL it is the same subject.
            let asked = Options { code: Some(&format!("https://example.org/{subject}")), ..now(&world) };
            assert_eq!(verify(&world.answer(&subject), &world.trust(), &asked).verdict, own.verdict);
        }
        let missing = judged(&world, &world.answer_without_tables(&old_number(number)));
        assert_eq!(missing.verdict, judged(&world, &world.answer_without_tables(&code(number))).verdict, "{number}");
    }
}

#[test]
fn an_alias_proves_nothing_but_by_its_own_chain() {
    let mut world = World::with_records(4);
    let digits = |text: &str| City::parse(text).unwrap();
    let (network, city_key, absent) = (MapKey::Network, MapKey::City(city()), MapKey::City(digits(DISTRICT)));
    let (district, holder) = (MapKey::District(digits(DISTRICT)), MapKey::Organisation(city(), org("A7K2")));
    let (number, other, text) = (old_number(5), old_number(6), "LD:5");
    let (old, no_alias) = (MapKey::Alias(CITY, number.as_bytes()), MapKey::Alias(CITY, other.as_bytes()));
    let (own, elsewhere) = (MapKey::Alias(NAMESPACE, text.as_bytes()), MapKey::Alias(CITY, text.as_bytes()));
    let (range, item) = (MapKey::Thousand(city(), class(), serial(5)), MapKey::Item(city(), class(), serial(5)));
    let all = [holder, range, item];
    // Every one of these records is truly there or absent, and every proof is good.
    for (subject, keys) in [
        (named(5), [&[network, city_key][..], &all].concat()),
        (named(5), vec![network, city_key, own]),
        (named(5), vec![network, city_key]),
        (named(5), [&[network, city_key, own, network, city_key][..], &all].concat()),
        (named(5), [&[network, absent, district, city_key, own][..], &all].concat()),
        (number.clone(), vec![network, absent]),
        (number.clone(), vec![network, absent, district]),
        (number.clone(), vec![network, absent, district, city_key]),
        (number.clone(), vec![network, absent, district, city_key, old]),
        (number.clone(), [&[network, absent, district, old][..], &all].concat()),
        (number.clone(), [&[network, absent, city_key, old][..], &all].concat()),
        (number.clone(), [&[network, city_key, old][..], &all].concat()),
        (number.clone(), [&[network, absent, district, city_key][..], &all].concat()),
        (format!("{CITY}{CLASS}000000005"), [&[network, city_key, old][..], &all].concat()),
        (code(5), [&[network, city_key, own][..], &all].concat()),
    ] {
        assert_invalid(&judged(&world, &world.answer_showing(&subject, &keys, None)), "records");
    }
    // Another's alias, shown in the place of this one's: its proof is of another path.
    for (subject, keys) in
        [(named(5), vec![network, city_key, elsewhere]), (number.clone(), vec![network, absent, district, city_key, no_alias])]
    {
        assert_invalid(&judged(&world, &world.answer_showing(&subject, &keys, None)), "state proof");
    }
    // The controls.
    for (subject, keys) in [(named(5), vec![network, city_key, own]), (number.clone(), vec![network, absent, district, city_key, old])] {
        assert_eq!(judged(&world, &world.answer_showing(&subject, &[&keys[..], &all].concat(), None)).verdict, Registered);
    }
    // Records that the ledger never writes: a district of itself or of no city, aliases of what is no item of the city.
    let abroad = cityid_core::code::Code::Item { city: digits("330100"), org: None, category: category(), serial: serial(5) }.text();
    for named_code in
        [abroad, format!("MA.156.{CITY}"), format!("MA.156.{CITY}.A7K2/60.010203.1"), code(5).to_lowercase(), FOREIGN.to_owned()]
    {
        world.put(&own, &alias_record(&named_code));
        world.commit();
        let shown = world.answer_showing(&named(5), &[&[network, city_key, own][..], &all].concat(), None);
        assert_invalid(&judged(&world, &shown), "records");
        let subject = Subject::parse(&named(5), None).unwrap();
        assert!(matches!(resolve(&subject, &*world.snapshot(), &|_, _| None), Err(Error::Proof(_))), "{named_code}");
    }
    for of in [DISTRICT, "650100"] {
        world.put(&district, &district_record(of));
        world.commit();
        for claimed in [city_key, MapKey::City(digits(of))] {
            let keys = [&[network, absent, district, claimed, old][..], &all].concat();
            assert_eq!(judged(&world, &world.answer_showing(&number, &keys, None)).verdict, Invalid);
        }
        let subject = Subject::parse(&number, None).unwrap();
        assert!(matches!(resolve(&subject, &*world.snapshot(), &|_, _| None), Err(Error::Proof(_))), "{of}");
    }
}

#[test]
fn a_sealed_range_without_its_table_is_unavailable_unless_an_override_stands() {
    let world = World::with_records(4);
    for number in [1_000, 1_001, 2_004, 2_005, 2_000_007] {
        let answer = world.answer_without_tables(&code(number));
        let verdict = judged(&world, &answer);
        assert_eq!((verdict.verdict, verdict.status, verdict.record), (Unavailable, None, None), "{number}");
    }
    let overridden = judged(&world, &world.answer_without_tables(&code(2_000)));
    assert_eq!((overridden.verdict, overridden.status), (Registered, Some(Status::Suspended)));
    // An override decides only when it was written after the seal: an older one may be hidden by a newer leaf.
    for (sealed_at, expected) in [(0, Registered), (1, Unavailable), (2, Unavailable)] {
        let mut world = World::with_records(4);
        let key = MapKey::Thousand(city(), class(), serial(2_000));
        let mut range = Record::decode(&world.snapshot().get(&key.path()).unwrap()).unwrap();
        range.height = 2;
        range.table.as_mut().unwrap().height = sealed_at;
        world.put(&key, &range);
        world.commit();
        // 2000 and 2001 have overrides of height 1, the second of them an older one than the leaf.
        for number in [2_000, 2_001] {
            let verdict = judged(&world, &world.answer_without_tables(&code(number)));
            assert_eq!(verdict.verdict, expected, "{number} sealed at {sealed_at}");
            assert_eq!(verdict.record.is_some(), expected == Registered);
            let mismatch = judged(&world, &world.answer_without_tables(&code_of("B8L3", number)));
            assert_eq!(mismatch.verdict, if expected == Registered { Mismatch } else { Unavailable });
            let shown = judged(&world, &world.answer(&code(number)));
            assert_eq!(shown.verdict, Registered, "the control: with the table at hand it is not in question");
        }
    }
    let mut early = range_record(Kind::Thousand, Some(world.files[0].summary(10, 0)));
    early.table.as_mut().unwrap().height = early.height + 1;
    assert!(Record::decode(&early.encode()).is_err(), "a table is not sealed after its record");
    // A table proof that does not fit is no table proof.
    let damaged = |table: &_, index| world.lookup(table, index).map(|proof| cityid_core::table::TableProof { leaf: None, ..proof });
    let own = resolve(&Subject::parse(&code(1_000), None).unwrap(), &*world.snapshot(), &damaged).unwrap();
    assert_eq!(own.verdict, Unavailable);
}

#[test]
fn the_effective_status_is_the_worst_of_the_chain() {
    let subject = code(5);
    let network_path = MapKey::Network;
    let keys = [
        network_path,
        MapKey::City(city()),
        MapKey::Organisation(city(), org("A7K2")),
        MapKey::Thousand(city(), class(), serial(0)),
        MapKey::Item(city(), class(), serial(5)),
    ];
    for key in keys {
        for status in [Status::Allocated, Status::Suspended, Status::Retired] {
            let mut world = World::with_records(4);
            let mut record = Record::decode(&world.snapshot().get(&key.path()).unwrap()).unwrap();
            record.status = status;
            record.status_by_city = true;
            world.put(&key, &record);
            world.commit();
            let verdict = judged(&world, &world.answer(&subject));
            assert_eq!((verdict.verdict, verdict.status), (Registered, Some(status)), "{key:?}");
            assert!(verdict.notes.iter().any(|note| note.contains("by its city")), "{:?}", verdict.notes);
        }
    }
    assert_eq!(judged(&World::with_records(4), &World::with_records(4).answer(&subject)).status, Some(Status::Active));
}

#[test]
fn a_missing_leaf_alone_proves_no_absence() {
    let world = World::with_records(4);
    let (network, city_key) = (MapKey::Network, MapKey::City(city()));
    let holder = MapKey::Organisation(city(), org("A7K2"));
    let class_key = MapKey::Class(city(), class());
    let million = |number| MapKey::Million(city(), class(), serial(number));
    let thousand = |number| MapKey::Thousand(city(), class(), serial(number));
    let item = |number| MapKey::Item(city(), class(), serial(number));
    // All of these keys are truly absent or present, and every proof is good.
    let sealed = 1_000;
    for (number, keys) in [
        (sealed, vec![network, city_key, item(sealed)]),
        (sealed, vec![network, city_key, holder, item(sealed)]),
        (sealed, vec![network, city_key, class_key, item(sealed)]),
        (sealed, vec![network, city_key, million(0), item(sealed)]),
        (sealed, vec![network, city_key, million(0), thousand(sealed), item(sealed)]),
        (sealed, vec![network, city_key, thousand(sealed), item(sealed)]),
        (sealed, vec![network, city_key, million(sealed)]),
        (sealed, vec![network, city_key, class_key]),
        (sealed, vec![network, city_key]),
        (2_000_007, vec![network, city_key, million(2_000_007), item(2_000_007)]),
        (2_000_007, vec![network, city_key, million(2_000_007), thousand(2_000_007)]),
        (1_000_007, vec![network, city_key, million(1_000_007), thousand(1_000_007)]),
        (1_000_007, vec![network, city_key, thousand(1_000_007)]),
        (1_000_007, vec![network, city_key, class_key, thousand(1_000_007)]),
        (2_004, vec![network, city_key, thousand(2_004)]),
        (7, vec![network, city_key, item(7)]),
        (7, vec![network, city_key, class_key, million(0), thousand(0), item(7)]),
        (7, vec![network, city_key, thousand(0)]),
        (7, vec![network, thousand(0), item(7)]),
        (7, vec![city_key, thousand(0), item(7)]),
        (3_000, vec![network, city_key, thousand(3_000)]),
        (3_000, vec![network, city_key, million(3_000), item(3_000)]),
        (3_000_000, vec![network, city_key, million(3_000_000)]),
    ] {
        let verdict = judged(&world, &world.answer_showing(&code(number), &keys, None));
        assert_invalid(&verdict, "records");
    }
    // The controls: the keys that do decide, shown in the same way.
    for (number, keys, expected) in [
        (7, vec![network, city_key, thousand(0), item(7)], NotRegistered),
        (sealed, vec![network, city_key, thousand(sealed)], Unavailable),
        (3_000, vec![network, city_key, million(0), thousand(3_000)], NotRegistered),
        (3_000_000, vec![network, city_key, class_key, million(3_000_000)], NotRegistered),
    ] {
        assert_eq!(judged(&world, &world.answer_showing(&code(number), &keys, None)).verdict, expected, "{number}");
    }
}

#[test]
fn records_that_are_too_many_too_few_or_elsewhere_are_refused() {
    let world = World::with_records(4);
    let good = world.answer(&code(5));
    let mut reversed = good.clone();
    reversed.records.swap(2, 3);
    assert_invalid(&judged(&world, &reversed), "records");
    for index in 0..good.records.len() {
        let mut fewer = good.clone();
        fewer.records.remove(index);
        assert_invalid(&judged(&world, &fewer), "records");
        let mut doubled = good.clone();
        doubled.records.insert(index, good.records[index].clone());
        assert_invalid(&judged(&world, &doubled), "records");
        let mut hidden = good.clone();
        hidden.records[index].1 = None;
        assert_eq!(judged(&world, &hidden).verdict, Invalid, "{index}");
    }
    // Another item's record, another range's, another organisation's: well-formed, true elsewhere.
    let other = world.answer(&code(1_000_007));
    for (index, step) in [(3, "records"), (4, "records")] {
        let mut moved = good.clone();
        moved.records[index] = other.records[index].clone();
        assert_invalid(&judged(&world, &moved), if index == 3 { "state proof" } else { step });
    }
    let mut moved = good.clone();
    moved.records[2].1 = Some(organisation_record("Parks office", 201).encode());
    assert_invalid(&judged(&world, &moved), "state proof");
}

#[test]
fn a_range_that_contradicts_itself_is_refused() {
    let change = |kind: Kind, edit: &dyn Fn(&mut Record)| {
        let mut world = World::with_records(4);
        let (key, number) = match kind {
            Kind::Million => (MapKey::Million(city(), class(), serial(1_000_007)), 1_000_007),
            _ => (MapKey::Thousand(city(), class(), serial(5)), 5),
        };
        let mut record = Record::decode(&world.snapshot().get(&key.path()).unwrap()).unwrap();
        edit(&mut record);
        world.put(&key, &record);
        world.commit();
        let keys = [
            MapKey::Network,
            MapKey::City(city()),
            MapKey::Organisation(city(), org("A7K2")),
            key,
            MapKey::Item(city(), class(), serial(number)),
        ];
        let present = judged(&world, &world.answer_showing(&code(number), &keys, None));
        let subject = Subject::parse(&code(number), None).unwrap();
        assert_eq!(matches!(resolve(&subject, &*world.snapshot(), &|_, _| None), Err(Error::Proof(_))), present.verdict == Invalid);
        present
    };
    for kind in [Kind::Million, Kind::Thousand] {
        assert_eq!(change(kind, &|_| ()).verdict, Registered, "the control");
        assert_invalid(&change(kind, &|record| record.holder = None), "records");
        assert_invalid(&change(kind, &|record| record.children = Children::None), "records");
        assert_invalid(&change(kind, &|record| record.children = Children::Map), "records");
        let wrong_depth = if kind == Kind::Million { 10 } else { 20 };
        assert_invalid(
            &change(kind, &|record| {
                record.children = Children::Table;
                record.table = Some(File::new(wrong_depth, []).summary(wrong_depth, 1));
            }),
            "records",
        );
    }
}

#[test]
fn tables_are_bound_to_range_and_serial() {
    let world = World::with_records(4);
    let subject = code(1_000);
    let good = world.answer(&subject);
    assert_eq!(judged(&world, &good).verdict, Registered);
    let with = |edit: &dyn Fn(&mut Answer)| {
        let mut answer = good.clone();
        edit(&mut answer);
        judged(&world, &answer)
    };
    assert_invalid(&with(&|answer| answer.table.as_mut().unwrap().siblings[0][0] ^= 1), "table");
    assert_invalid(&with(&|answer| answer.table.as_mut().unwrap().leaf.as_mut().unwrap().salt[0] ^= 1), "table");
    // The leaf of a neighbour, with its good proof: its record is of another serial.
    assert_invalid(&with(&|answer| answer.table = Some(world.files[0].prove(2))), "records");
    // A leaf that the holder never sealed.
    let mut forged = item_record(&subject, 9);
    forged.status = Status::Retired;
    assert_invalid(&with(&|answer| answer.table.as_mut().unwrap().leaf.as_mut().unwrap().record = forged.encode()), "table");
    // An empty leaf in place of a held one, with the records of an absence.
    let mut empty = world.answer(&code(1_001));
    empty.subject = subject.clone();
    assert_invalid(&judged(&world, &empty), "table");
    // A table where none is involved.
    let mut extra = world.answer(&code(5));
    extra.table = good.table.clone();
    assert_invalid(&judged(&world, &extra), "records");
    let mut extra = world.answer(&format!("MA.156.{CITY}"));
    extra.table = good.table.clone();
    assert_invalid(&judged(&world, &extra), "records");
    // The override of a range that counts overrides cannot be left out.
    let mut hidden = world.answer(&code(2_000));
    hidden.records.pop();
    assert_invalid(&judged(&world, &hidden), "records");
}

#[test]
fn tampering_with_any_field_is_found_by_its_step() {
    let world = World::with_records(4);
    let subject = code(5);
    let good = world.answer(&subject);
    let options = Options { code: Some(&subject), ..now(&world) };
    let with = |edit: &dyn Fn(&mut Answer)| {
        let mut answer = good.clone();
        edit(&mut answer);
        verify(&answer, &world.trust(), &options)
    };
    let with_header = |edit: &dyn Fn(&mut Header)| {
        with(&|answer| {
            let mut header = Header::decode(&answer.block.header).unwrap();
            edit(&mut header);
            answer.block.header = header.encode();
        })
    };
    assert_eq!(with(&|_| ()).verdict, Registered);
    assert_invalid(&with(&|answer| answer.subject = code(6)), "subject");
    assert_invalid(&with(&|answer| answer.subject = answer.subject.to_lowercase()), "subject");
    assert_invalid(&with(&|answer| answer.subject.push('/')), "subject");
    for index in 0..good.records.len() {
        // The last byte of each record lies within a field, so the record still parses.
        let verdict = with(&|answer| *answer.records[index].1.as_mut().unwrap().last_mut().unwrap() ^= 1);
        assert_eq!(verdict.verdict, Invalid, "record {index}");
        assert!(["records", "state proof"].contains(&verdict.steps.last().unwrap().name));
    }
    assert_invalid(&with(&|answer| answer.proof.ops[0] ^= 0x40), "state proof");
    assert_invalid(&with(&|answer| answer.proof.hashes[0] ^= 1), "state proof");
    assert_invalid(&with(&|answer| answer.proof.hashes.truncate(32)), "state proof");
    assert_invalid(&with(&|answer| answer.proof.hashes.extend([0; 32])), "state proof");
    assert_invalid(&with(&|answer| answer.block.log_path[0][0] ^= 1), "certificate");
    assert_invalid(&with(&|answer| answer.block.log_path.truncate(1)), "certificate");
    assert_invalid(&with(&|answer| answer.block.log_path.push([0; 32])), "certificate");
    assert_invalid(&with(&|answer| answer.block.round = 0), "certificate");
    assert_invalid(&with(&|answer| answer.block.round = u32::MAX), "format");
    assert_invalid(&with(&|answer| answer.block.bitmap = vec![0xf0]), "certificate");
    assert_invalid(&with(&|answer| answer.block.bitmap = vec![0xd0]), "certificate");
    assert_invalid(&with(&|answer| answer.block.bitmap = vec![0xe1]), "certificate");
    assert_invalid(&with(&|answer| answer.block.bitmap.push(0)), "certificate");
    assert_invalid(&with(&|answer| answer.block.bitmap.clear()), "certificate");
    assert_invalid(&with(&|answer| answer.block.signatures[1][0] ^= 1), "certificate");
    assert_invalid(&with(&|answer| answer.block.signatures.swap(0, 1)), "certificate");
    assert_invalid(&with(&|answer| answer.block.header.push(0)), "format");
    assert_invalid(&with(&|answer| answer.block.header.clear()), "format");
    assert_invalid(&with_header(&|header| header.genesis[0] ^= 1), "trust");
    assert_invalid(&with_header(&|header| header.height = 0), "header");
    assert_invalid(&with_header(&|header| header.height += 1), "certificate");
    assert_invalid(&with_header(&|header| header.height = i64::MAX as u64), "certificate");
    assert_invalid(&with_header(&|header| header.time_ms += 1), "certificate");
    assert_invalid(&with_header(&|header| header.parent[0] ^= 1), "certificate");
    assert_invalid(&with_header(&|header| header.batches_root[0] ^= 1), "certificate");
    assert_invalid(&with_header(&|header| header.transactions_root[0] ^= 1), "certificate");
    assert_invalid(&with_header(&|header| header.receipts_root[0] ^= 1), "certificate");
    assert_invalid(&with_header(&|header| header.state_root[0] ^= 1), "certificate");
    assert_invalid(&with_header(&|header| header.next_validators[0] ^= 1), "certificate");
    assert_invalid(&with_header(&|header| header.proposer = city()), "certificate");
    assert_invalid(&with(&|answer| answer.records = vec![answer.records[0].clone(); 9]), "format");
    assert_invalid(&with(&|answer| answer.proof.hashes = vec![0; 1 << 20]), "format");
    assert_invalid(&with(&|answer| answer.records[0].1 = Some(vec![0; 20_000])), "format");
}

#[test]
fn an_answer_about_another_code_is_invalid() {
    let world = World::with_records(4);
    let answer = world.answer(&code(5));
    let asked = |code: &str| verify(&answer, &world.trust(), &Options { code: Some(code), ..now(&world) });
    for same in [code(5), code(5).to_lowercase(), format!("{}/", code(5)), format!("https://example.org/{}", code(5))] {
        assert_eq!(asked(&same).verdict, Registered, "{same}");
    }
    for other in [code(6), format!("{CITY}{CLASS}000000005"), "MA.other".to_owned(), "no code".to_owned()] {
        assert_invalid(&asked(&other), "subject");
    }
}

#[test]
fn too_few_signatures_name_the_count_that_is_needed() {
    let world = World::with_records(4);
    let mut answer = world.answer(&code(5));
    for (signers, said) in [(&[][..], "0 of 4 cities signed, and 3 are needed"), (&[0, 2], "2 of 4 cities signed, and 3 are needed")] {
        answer.block = world.block_signed_by(signers);
        let verdict = judged(&world, &answer);
        assert_invalid(&verdict, "certificate");
        let detail = &verdict.steps.last().unwrap().detail;
        assert!(detail.contains(said), "{detail}");
        assert_eq!(verdict.signatures, (0, 4));
    }
    // Signatures taken away while the list of signers stays.
    answer.block = world.block();
    answer.block.signatures.clear();
    let verdict = judged(&world, &answer);
    assert_invalid(&verdict, "certificate");
    assert!(verdict.steps.last().unwrap().detail.contains("3 are needed"), "{:?}", verdict.steps.last());
    // One city's signature in the place of three.
    answer.block = world.block();
    answer.block.signatures = vec![answer.block.signatures[0]; 3];
    assert_invalid(&judged(&world, &answer), "certificate");
    // The controls: a quorum, whichever, and all.
    for signers in [&[1, 2, 3][..], &[0, 1, 3], &[0, 1, 2, 3]] {
        answer.block = world.block_signed_by(signers);
        let verdict = judged(&world, &answer);
        assert_eq!((verdict.verdict, verdict.signatures), (Registered, (signers.len(), 4)));
    }
}

#[test]
fn quorums_of_larger_networks() {
    for (cities, quorum) in [(5, 4), (7, 5), (9, 7), (100, 67)] {
        let world = World::with_records(cities);
        assert_eq!(world.validators().quorum(), quorum);
        let mut answer = world.answer(&code(5));
        let verdict = judged(&world, &answer);
        assert_eq!((verdict.verdict, verdict.signatures), (Registered, (quorum, cities)));
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer.clone()));
        let fewer: Vec<u16> = (0..quorum as u16 - 1).collect();
        answer.block = world.block_signed_by(&fewer);
        assert_invalid(&judged(&world, &answer), "certificate");
    }
}

#[test]
fn an_old_header_never_passes_as_current() {
    let world = World::with_records(4);
    let (fresh, time) = (code(7), world.now_ms());
    let answer = world.answer(&fresh);
    let at = |options: Options<'_>| verify(&answer, &world.trust(), &options);
    // The control, then a gateway that was cut off for an hour: it must not deny a fresh code.
    assert_eq!(at(Options { now_ms: Some(time + 80_000), ..Options::default() }).verdict, NotRegistered);
    for late in [80_001, 3_600_000] {
        let verdict = at(Options { now_ms: Some(time + late), ..Options::default() });
        assert_eq!((verdict.verdict, verdict.was, verdict.current), (Unknown, Some(NotRegistered), false));
        assert_eq!((verdict.height, verdict.as_of_ms), (Some(5), Some(time)));
        assert!(verdict.notes.iter().any(|note| note.contains("was so at height 5")), "{:?}", verdict.notes);
        let last = verdict.steps.last().unwrap();
        assert_eq!((last.name, last.passed), ("age", false));
    }
    assert_eq!(at(Options { now_ms: Some(time + 5_001), max_age_ms: Some(5_000), ..Options::default() }).verdict, Unknown);
    assert_eq!(at(Options { now_ms: Some(time + 90_000), max_age_ms: Some(90_000), ..Options::default() }).verdict, NotRegistered);
    // Below the height at which the caller saw its registration, whatever the age rules.
    for options in [Options::default(), Options { now_ms: Some(time), any_age: true, ..Options::default() }] {
        let verdict = at(Options { min_height: Some(6), ..options });
        assert_eq!((verdict.verdict, verdict.was, verdict.current), (Unknown, Some(NotRegistered), false));
        assert_eq!(at(Options { min_height: Some(5), ..options }).verdict, NotRegistered);
    }
    // No time, or any age: no claim to be current.
    let timeless = at(Options::default());
    assert_eq!((timeless.verdict, timeless.current), (NotRegistered, false));
    let any = at(Options { now_ms: Some(time + 3_600_000), any_age: true, ..Options::default() });
    assert_eq!((any.verdict, any.current), (NotRegistered, false));
    // What was registered keeps its status.
    let was = verify(&world.answer(&code(8)), &world.trust(), &Options { now_ms: Some(time + 100_000), ..Options::default() });
    assert_eq!((was.verdict, was.was, was.status), (Unknown, Some(Registered), Some(Status::Suspended)));
}

#[test]
fn a_header_from_the_future_is_unknown() {
    let world = World::with_records(4);
    let answer = world.answer(&code(5));
    let at = |now| verify(&answer, &world.trust(), &Options { now_ms: Some(now), ..Options::default() });
    assert_eq!(at(world.now_ms() - 60_000).verdict, Registered);
    let ahead = at(world.now_ms() - 61_000);
    assert_eq!((ahead.verdict, ahead.was), (Unknown, Some(Registered)));
    assert!(ahead.steps.last().unwrap().detail.contains("ahead of this clock"));
    assert_eq!(at(0).verdict, Unknown);
    assert_eq!(at(u64::MAX).verdict, Unknown);
}

#[test]
fn a_later_state_does_not_lend_its_proof_to_an_earlier_header() {
    let mut world = World::with_records(4);
    let old_block = world.block();
    world.put_item(7, &item_record(&code(7), 1));
    world.commit();
    let mut answer = world.answer(&code(7));
    assert_eq!(judged(&world, &answer).verdict, Registered);
    answer.block = old_block;
    assert_invalid(&judged(&world, &answer), "state proof");
}

#[test]
fn another_network_is_invalid_and_another_validator_set_unknown() {
    let world = World::with_records(4);
    let answer = world.answer(&code(5));
    let mut elsewhere = world.trust();
    elsewhere.genesis[0] ^= 1;
    assert_invalid(&verify(&answer, &elsewhere, &now(&world)), "trust");

    let larger = World::with_records(5);
    let other_set = cityid_core::trust::Trust { validators: larger.validators(), ..world.trust() };
    let verdict = verify(&answer, &other_set, &now(&world));
    assert_eq!((verdict.verdict, verdict.was, verdict.status, verdict.height), (Unknown, None, None, None));
    assert_eq!((verdict.signatures, &verdict.record), ((0, 5), &None));
    assert!(verdict.notes.iter().any(|note| note.contains("update trust")));
    let failed: Vec<&str> = verdict.steps.iter().filter(|step| !step.passed).map(|step| step.name).collect();
    assert_eq!(failed, ["trust", "certificate"]);
    // What is damaged besides is still INVALID.
    let mut damaged = answer.clone();
    damaged.proof.hashes[0] ^= 1;
    let verdict = verify(&damaged, &other_set, &now(&world));
    assert_eq!((verdict.verdict, verdict.steps.last().unwrap().name), (Invalid, "state proof"));
}

#[test]
fn notes_tell_test_networks_and_stale_trust() {
    let world = World::with_records(4);
    let answer = world.answer(&code(5));
    let day = 24 * 3_600 * 1_000;
    let note = |options: Options<'_>| verify(&answer, &world.trust(), &options).notes.iter().any(|note| note.contains("anchor stale"));
    assert!(!note(Options { now_ms: Some(START_MS + 30 * day), any_age: true, ..Options::default() }));
    assert!(note(Options { now_ms: Some(START_MS + 30 * day + 1), any_age: true, ..Options::default() }));
    assert!(note(Options { now_ms: Some(START_MS + day + 1), any_age: true, trust_period_ms: Some(day), ..Options::default() }));
    assert!(!note(Options::default()));
    // The network's own record says TEST, even when a trust file does not.
    let mut trust = world.trust();
    trust.test = false;
    assert!(verify(&answer, &trust, &now(&world)).notes[0].starts_with("TEST network"));
}

#[test]
fn no_verdict_speaks_about_the_thing() {
    let world = World::with_records(4);
    for (subject, ..) in cases().into_iter().chain(aliases()) {
        let mut answer = world.answer(&subject);
        for _ in 0..2 {
            let text = judged(&world, &answer).to_json().to_string().to_lowercase();
            assert!(!["genuine", "counterfeit", "authentic", "fake"].iter().any(|word| text.contains(word)), "{text}");
            answer.proof.hashes.clear();
        }
    }
}

/// Flips every bit of an encoded answer. A flip in the header's validators hash makes the answer one of other validators, which is
/// UNKNOWN and proves nothing; every other flip is INVALID.
fn flip_every_bit(world: &World, subject: &str) {
    let bytes = world.answer(subject).encode();
    let (trust, options) = (world.trust(), Options { code: Some(subject), ..now(world) });
    // The control: untouched bytes verify.
    let control = verify_bytes(&bytes, &trust, &options);
    assert!(control.current && control.verdict != Unknown, "{control:?}");
    let set = world.validators().hash();
    let position = bytes.windows(32).position(|window| window == set).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        let verdict = verify_bytes(&flipped, &trust, &options);
        let expected = if (position..position + 32).contains(&(bit / 8)) { Unknown } else { Invalid };
        assert_eq!((verdict.verdict, verdict.was, verdict.current), (expected, None, false), "bit {bit} of {subject}: {verdict:#?}");
    }
}

#[test]
fn no_flipped_bit_is_accepted_present() {
    flip_every_bit(&World::with_records(4), &code(5));
}

#[test]
fn no_flipped_bit_is_accepted_sealed() {
    flip_every_bit(&World::with_records(4), &code(2_001));
}

#[test]
fn no_flipped_bit_is_accepted_absent() {
    let world = World::with_records(4);
    flip_every_bit(&world, &code(2_000_008));
    flip_every_bit(&world, ABSENT_CITY);
}

#[test]
fn no_flipped_bit_is_accepted_of_aliases() {
    let world = World::with_records(4);
    flip_every_bit(&world, &named(1_000));
    flip_every_bit(&world, &named(6));
}

#[test]
fn no_flipped_bit_is_accepted_of_old_numbers() {
    let world = World::with_records(4);
    flip_every_bit(&world, &old_number(2_001));
    flip_every_bit(&world, &old_number(6));
    flip_every_bit(&world, &format!("650100{CLASS}000000005"));
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let world = World::with_records(4);
    let bytes = world.answer(&code(2_000)).encode();
    for end in 0..bytes.len() {
        assert_invalid(&verify_bytes(&bytes[..end], &world.trust(), &now(&world)), "format");
    }
    assert_invalid(&verify_bytes(&[&bytes[..], &[0]].concat(), &world.trust(), &now(&world)), "format");
    assert_invalid(&verify_bytes(&vec![0; 300_000], &world.trust(), &now(&world)), "format");
}

#[test]
fn json_refuses_what_it_does_not_know() {
    let world = World::with_records(4);
    let answer = world.answer(&code(1_000));
    let text = answer.to_json();
    assert_eq!(Answer::from_json(&text), Ok(answer));
    for (from, to) in [
        ("\"cityid\": \"answer\"", "\"cityid\": \"trust\""),
        ("\"version\": 1", "\"version\": 2"),
        ("\"subject\"", "\"extra\": 1, \"subject\""),
        ("\"bitmap\": ", "\"extra\": 1, \"bitmap\": "),
        ("\"round\": 1", "\"round\": 1, \"extra\": 1"),
        ("\"round\": 1", "\"round\": 4294967296"),
        ("\"round\": 1", "\"round\": 4294967295"),
        ("\"kind\": \"network\"", "\"kind\": \"nothing\""),
        ("\"kind\": \"network\"", "\"extra\": 1, \"kind\": \"network\""),
        ("\"ops\": \"", "\"ops\": \"="),
        ("\"siblings\": \"", "\"siblings\": \"AAAA"),
        ("\"salt\": \"", "\"salt\": \"AAAA"),
    ] {
        assert!(text.contains(from), "{from}");
        let changed = text.replacen(from, to, 1);
        assert!(matches!(Answer::from_json(&changed), Err(Error::Malformed(_))), "{from} → {to}");
    }
    let without_salt: String = text.lines().filter(|line| !line.contains("\"salt\"")).collect();
    assert!(Answer::from_json(&without_salt).is_err());
}

#[test]
fn no_answer_at_height_0() {
    let world = World::new(4);
    let answer = world.answer(&format!("MA.156.{CITY}"));
    assert_invalid(&judged(&world, &answer), "header");
}

#[test]
fn a_class_nobody_allocated_from_is_absent_with_everything_in_it() {
    let mut world = World::new(4);
    world.commit();
    let answer = world.answer(&code(5));
    assert_eq!(kinds(&answer), ["network", "city", "null"]);
    assert_eq!(answer.records[2].0, Kind::Class);
    assert_eq!(judged(&world, &answer).verdict, NotRegistered);
    // Not with another class's absence.
    let other = MapKey::Class(City::parse(CITY).unwrap(), Class::parse("999999").unwrap());
    let world = World::with_records(4);
    let forged = world.answer_showing(&code(5), &[MapKey::Network, MapKey::City(city()), other], None);
    assert_invalid(&judged(&world, &forged), "state proof");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_get_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let world = genesis_of(4);
        let trust = cityid_core::trust::Trust::from_genesis(&world).unwrap();
        prop_assert_eq!(verify_bytes(&bytes, &trust, &Options::default()).verdict, Invalid);
    }

    #[test]
    fn any_answer_made_in_memory_gets_a_verdict(
        subject in "\\PC{0,60}", kinds in proptest::collection::vec((0usize..13, proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40))), 0..10),
        ops in proptest::collection::vec(any::<u8>(), 0..40), header in proptest::collection::vec(any::<u8>(), 0..40), now in any::<u64>(),
    ) {
        let trust = cityid_core::trust::Trust::from_genesis(&genesis_of(4)).unwrap();
        let records = kinds.into_iter().map(|(kind, record)| (Kind::ALL[kind], record)).collect();
        let mut answer = Answer { subject, records, ..Answer::default() };
        answer.proof.ops = ops;
        answer.block.header = header;
        let options = Options { now_ms: Some(now), min_height: Some(now), ..Options::default() };
        prop_assert_eq!(verify(&answer, &trust, &options).verdict, Invalid);
    }

    #[test]
    fn any_mixture_of_two_answers_is_refused(first in 0usize..30, second in 0usize..30, part in 0usize..4) {
        let world = World::with_records(4);
        let cases = cases();
        let (left, right) = (world.answer(&cases[first].0), world.answer(&cases[second].0));
        let mut mixed = left.clone();
        match part {
            0 => mixed.subject = right.subject.clone(),
            1 => mixed.records = right.records.clone(),
            2 => mixed.proof = right.proof.clone(),
            _ => mixed.table = right.table.clone(),
        }
        let verdict = judged(&world, &mixed);
        // A mixture that is the honest answer of one of them again is fine; it may say nothing else than the truth about its subject.
        if verdict.verdict != Invalid {
            let honest = judged(&world, &world.answer(&mixed.subject));
            let unavailable = judged(&world, &world.answer_without_tables(&mixed.subject));
            prop_assert!(verdict.verdict == honest.verdict || verdict.verdict == unavailable.verdict, "{verdict:#?}");
        }
    }
}

#[test]
fn sizes_stay_small() {
    // Not a measurement: a guard against a field that is stored twice.
    let world = World::with_records(4);
    let present = world.answer(&code(5)).encode().len();
    let absent = world.answer(&code(7)).encode().len();
    assert!(present < 3_000 && absent < 2_600, "{present} and {absent} bytes");
    assert_ne!(sha256(&world.answer(&code(5)).encode()), sha256(&world.answer(&code(6)).encode()));
}
