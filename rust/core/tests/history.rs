//! The history of a record: every version by its hash, every height by its header, and everything else refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use cityid_core::answer::VerdictKind::{Invalid, Mismatch, NotRegistered, Registered, Unknown};
use cityid_core::answer::{verify as verify_answer, Options, VerdictKind};
use cityid_core::code::Code;
use cityid_core::hash::Hash;
use cityid_core::history::{find_version, key_of, verify, verify_bytes, Held, History, LoggedHeader, Told};
use cityid_core::log::{leaf_hash, Log};
use cityid_core::map_key::MapKey;
use cityid_core::record::{record_hash, Record, Status};
use cityid_core::trust::Trust;
use support::{city, class, code, item_record, next_version, serial, World, CITY, CLASS, START_MS};

/// Item 5 with five versions: 1 at height 1, 2 at 6, 3 and 4 both at 7, 5 at 9; the tip is 10.
fn world() -> (World, Vec<Record>) {
    let mut world = World::with_records(4);
    let mut versions = vec![item_record(&code(5), 1)];
    for (height, made) in [(6, 1), (7, 2), (8, 0), (9, 1), (10, 0)] {
        for _ in 0..made {
            let mut next = next_version(versions.last().unwrap(), height);
            next.status = if next.version.is_multiple_of(2) { Status::Suspended } else { Status::Active };
            next.reason = Some(next.version);
            versions.push(next);
        }
        if made > 0 {
            // The state has the last version of a block; the ones before it are only in the store.
            world.put_item(5, versions.last().unwrap());
        }
        world.commit();
    }
    (world, versions)
}

fn logged(world: &World, height: usize) -> LoggedHeader {
    let mut log = Log::new();
    world.headers.iter().for_each(|header| log.append(leaf_hash(header)));
    LoggedHeader { header: world.headers[height].clone(), path: log.inclusion(height as u64, log.size()).unwrap() }
}

/// The history of item 5 down to a version.
fn history(world: &World, versions: &[Record], down_to: u64) -> History {
    let shown: Vec<&Record> = versions.iter().rev().skip(1).filter(|record| record.version >= down_to).collect();
    let mut heights: Vec<u64> = shown.iter().map(|record| record.height).chain(versions.last().map(|record| record.height)).collect();
    heights.sort_unstable();
    heights.dedup();
    History {
        answer: Some(world.answer(&code(5))),
        versions: shown.iter().map(|record| record.encode()).collect(),
        headers: heights.iter().map(|height| logged(world, *height as usize)).collect(),
    }
}

fn told(world: &World, history: &History) -> Told {
    verify(history, &world.trust(), &Options::default())
}

fn time(height: u64) -> u64 {
    START_MS + height * 10_000
}

fn version_at(held: &Held<'_>) -> u64 {
    match held {
        Held::Version(version) => version.record.version,
        other => panic!("no version: {other:?}"),
    }
}

fn assert_refused(told: &Told, why: &str) {
    assert_eq!(told.verdict.verdict, Invalid, "{why}");
    assert!(told.versions.is_empty() && !told.is_complete());
    let last = told.verdict.steps.last().unwrap();
    assert!(!last.passed && last.detail.contains(why), "{why:?} is not in {:?}", last.detail);
}

#[test]
fn every_version_is_proven_and_dated() {
    let (world, versions) = world();
    let whole = history(&world, &versions, 1);
    let told = told(&world, &whole);
    assert_eq!(told.verdict.verdict, Registered);
    assert!(told.verdict.steps.iter().all(|step| step.passed) && told.verdict.steps.last().unwrap().name == "history");
    assert!(told.is_complete() && told.missing().is_none());
    let found: Vec<(u64, u64, Option<u64>, Status)> = told
        .versions
        .iter()
        .map(|version| (version.record.version, version.record.height, version.time_ms, version.record.status))
        .collect();
    let expected = [
        (5, 9, Some(time(9)), Status::Active),
        (4, 7, Some(time(7)), Status::Suspended),
        (3, 7, Some(time(7)), Status::Active),
        (2, 6, Some(time(6)), Status::Suspended),
        (1, 1, Some(time(1)), Status::Active),
    ];
    assert_eq!(found, expected);
    assert_eq!(told.versions[1].record.reason, Some(4));
    // Both forms keep everything.
    assert_eq!(History::decode(&whole.encode()), Ok(whole.clone()));
    assert_eq!(History::from_json(&whole.to_json()), Ok(whole.clone()));
    assert_eq!(verify_bytes(&whole.encode(), &world.trust(), &Options::default()), told);
}

#[test]
fn what_held_at_a_height_or_a_time() {
    let (world, versions) = world();
    let told = told(&world, &history(&world, &versions, 1));
    // Version v holds from its height until that of v + 1; of two versions of one height the later one is what the block left.
    for (height, version) in [(1, 1), (5, 1), (6, 2), (7, 4), (8, 4), (9, 5), (10, 5)] {
        assert_eq!(version_at(&told.at(height)), version, "height {height}");
        assert_eq!(version_at(&told.at_time(time(height))), version, "time of height {height}");
        if height < 10 {
            assert_eq!(version_at(&told.at_time(time(height + 1) - 1)), version, "just before height {}", height + 1);
        }
    }
    assert_eq!(told.at(0), Held::NotYet);
    assert_eq!(told.at_time(time(1) - 1), Held::NotYet);
    assert!(matches!(told.at(11), Held::Unknown(why) if why.contains("above 10")));
    assert!(matches!(told.at_time(time(10) + 1), Held::Unknown(_)));
}

#[test]
fn what_is_left_out_at_the_end_is_said_and_not_denied() {
    let (world, versions) = world();
    let told = told(&world, &history(&world, &versions, 3));
    assert_eq!((told.verdict.verdict, told.versions.len(), told.is_complete()), (Registered, 3, false));
    assert_eq!(told.missing(), Some((2, 6)));
    assert_eq!(version_at(&told.at(8)), 4);
    assert!(matches!(told.at(6), Held::Unknown(why) if why.contains("version 2")));
    assert!(matches!(told.at_time(time(0)), Held::Unknown(_)));
}

#[test]
fn parts_continue_each_other_and_nothing_else() {
    let (world, versions) = world();
    let mut told = told(&world, &history(&world, &versions, 4));
    let encoded = |version: usize| versions[version - 1].encode();
    let part = |versions: &[usize], heights: &[usize]| History {
        answer: None,
        versions: versions.iter().map(|version| encoded(*version)).collect(),
        headers: heights.iter().map(|height| logged(&world, *height)).collect(),
    };
    for (wrong, why) in [
        (part(&[2], &[6]), "not the record whose hash"),
        (part(&[3, 1], &[1, 7]), "not the record whose hash"),
        (part(&[3], &[6]), "dates no version"),
        (part(&[3, 2], &[7, 6]), "not ascending"),
        (history(&world, &versions, 3), "is the beginning"),
    ] {
        let error = told.extend(&wrong).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!((told.versions.len(), told.missing()), (2, Some((3, 7))), "nothing is added");
    }
    told.extend(&part(&[3, 2], &[6, 7])).unwrap();
    told.extend(&part(&[1], &[])).unwrap();
    assert!(told.is_complete());
    let joined = History::join([history(&world, &versions, 4), part(&[3, 2], &[6, 7]), part(&[1], &[1])]).unwrap();
    assert_eq!(joined, history(&world, &versions, 1));
    assert_eq!(told.versions.last().unwrap().time_ms, None, "no header, no time");
    assert!(matches!(told.at_time(time(3)), Held::Unknown(why) if why.contains("height 1")));
    assert_eq!(version_at(&told.at(3)), 1);
    // A part alone says nothing.
    assert_refused(&verify(&part(&[1], &[]), &world.trust(), &Options::default()), "without its beginning");
}

#[test]
fn a_chain_with_anything_missing_swapped_or_foreign_is_refused() {
    let (mut world, versions) = world();
    let whole = history(&world, &versions, 1);
    let edited = |edit: &dyn Fn(&mut History)| {
        let mut edited = whole.clone();
        edit(&mut edited);
        told(&world, &edited)
    };
    assert_refused(&edited(&|history| drop(history.versions.remove(1))), "not the record whose hash version 4 names");
    assert_refused(&edited(&|history| drop(history.versions.remove(0))), "not the record whose hash version 5 names");
    assert_refused(&edited(&|history| history.versions.swap(1, 2)), "not the record whose hash");
    assert_refused(&edited(&|history| history.versions.insert(0, versions[4].encode())), "not the record whose hash");
    assert_refused(&edited(&|history| history.versions.push(versions[0].encode())), "not the record whose hash version 1 names");
    let other = item_record(&code(6), 1).encode();
    assert_refused(&edited(&|history| history.versions[3].clone_from(&other)), "not the record whose hash");
    assert_refused(&edited(&|history| history.headers.swap(0, 1)), "not ascending");
    assert_refused(&edited(&|history| history.headers.push(logged(&world, 10))), "dates no version");
    assert_refused(&edited(&|history| history.headers.insert(1, logged(&world, 2))), "dates no version");
    assert_refused(&edited(&|history| history.headers[0].path[0][0] ^= 1), "another root");
    assert_refused(&edited(&|history| history.answer = Some(world.answer_without_tables(&code(6)))), "not the record whose hash");
    // Whoever wrote a record whose hash fits and whose numbers do not broke the rule.
    let mut wrong = next_version(&versions[4], 11);
    wrong.previous_height = Some(8);
    world.put_item(5, &wrong);
    world.commit();
    let mut history = history(&world, &versions, 1);
    history.versions.insert(0, versions[4].encode());
    assert_refused(&told(&world, &history), "another version, height or kind");
}

#[test]
fn a_change_of_any_byte_is_refused() {
    let (world, versions) = world();
    let bytes = history(&world, &versions, 1).encode();
    let trust = world.trust();
    let good = verify_bytes(&bytes, &trust, &Options::default());
    for index in 0..bytes.len() {
        for mask in [1, 0x80] {
            let mut edited = bytes.clone();
            edited[index] ^= mask;
            let found = verify_bytes(&edited, &trust, &Options::default());
            // A byte in the header's hash of its validators makes it one of cities that trust does not know: nothing counts.
            let of_strangers = found.verdict.verdict == Unknown && found.verdict.height.is_none();
            assert!(found.verdict.verdict == Invalid || of_strangers, "byte {index} of {}", bytes.len());
            assert!(found.versions.is_empty() && !found.is_complete() && matches!(found.at(6), Held::Unknown(_)));
        }
    }
    assert_eq!(good.verdict.verdict, Registered, "the control");
    for end in 0..bytes.len() {
        assert_eq!(verify_bytes(&bytes[..end], &trust, &Options::default()).verdict.verdict, Invalid);
    }
}

#[test]
fn where_no_record_decides_there_is_nothing_before_it() {
    let (world, versions) = world();
    let mut history = History { answer: Some(world.answer(&code(7))), ..History::default() };
    let absent = told(&world, &history);
    assert_eq!(absent.verdict.verdict, NotRegistered);
    assert!(absent.is_complete(), "nothing is ever deleted, so it was never there");
    history.versions.push(versions[0].encode());
    assert_refused(&told(&world, &history), "no record decides");
    history = History { answer: Some(world.answer_without_tables(&code(1_000))), ..History::default() };
    let sealed = told(&world, &history);
    assert_eq!((sealed.verdict.verdict, sealed.is_complete()), (VerdictKind::Unavailable, false));
    // Of a mismatch it is the history of what stands at the serial.
    let mut other = self::history(&world, &versions, 1);
    let asked = support::code_of("B8L3", 5);
    other.answer = Some(world.answer(&asked));
    let found = verify(&other, &world.trust(), &Options { code: Some(&asked), ..Options::default() });
    assert_eq!((found.verdict.verdict, found.versions.len()), (Mismatch, 5));
}

#[test]
fn an_old_answer_tells_what_was_and_another_set_nothing() {
    let (world, versions) = world();
    let history = history(&world, &versions, 1);
    let late = Options { now_ms: Some(time(1_000)), ..Options::default() };
    let found = verify(&history, &world.trust(), &late);
    assert_eq!((found.verdict.verdict, found.verdict.was, found.versions.len()), (Unknown, Some(Registered), 5));
    assert_eq!(version_at(&found.at(6)), 2);
    let mut members = world.validators().members().to_vec();
    members[0].key = [7; 32];
    let stranger = Trust { validators: cityid_core::block::ValidatorSet::new(members).unwrap(), ..world.trust() };
    let found = verify(&history, &stranger, &Options::default());
    assert_eq!((found.verdict.verdict, found.versions.len(), found.is_complete()), (Unknown, 0, false));
    assert!(matches!(found.at(6), Held::Unknown(_)));
    // An answer that does not verify takes its history with it.
    let mut forged = history.clone();
    forged.answer.as_mut().unwrap().block.signatures[0][0] ^= 1;
    let found = told(&world, &forged);
    assert_eq!((found.verdict.verdict, found.versions.len()), (Invalid, 0));
    assert_eq!(found.verdict, verify_answer(forged.answer.as_ref().unwrap(), &world.trust(), &Options::default()));
}

#[test]
fn a_version_is_found_among_the_changes_of_a_height() {
    let (_, versions) = world();
    let key = MapKey::Item(city(), class(), serial(5)).encode();
    let other = MapKey::Item(city(), class(), serial(6)).encode();
    let mut changes = Vec::new();
    for (key, record) in [(&other, versions[2].encode()), (&key, versions[2].encode()), (&key, versions[3].encode())] {
        changes.extend_from_slice(&(key.len() as u16).to_be_bytes());
        changes.extend_from_slice(key);
        changes.extend_from_slice(&(record.len() as u32).to_be_bytes());
        changes.extend_from_slice(&record);
    }
    for version in [2, 3] {
        let bytes = versions[version].encode();
        assert_eq!(find_version(&changes, &key, &record_hash(&bytes)), Ok(Some(&bytes[..])));
    }
    assert_eq!(find_version(&changes, &key, &record_hash(&versions[1].encode())), Ok(None));
    assert_eq!(find_version(&changes, &other, &record_hash(&versions[3].encode())), Ok(None));
    assert!(find_version(&changes[..changes.len() - 1], &key, &Hash::default()).unwrap_err().to_string().contains("damaged"));
    for (text, key) in [
        (format!("MA.156.{CITY}"), MapKey::City(city())),
        (code(5), MapKey::Item(city(), class(), serial(5))),
        (format!("MA.156.{CITY}.A7K2"), MapKey::Organisation(city(), support::org("A7K2"))),
        (format!("MA.156.{CITY}/60.{CLASS}.1"), MapKey::Category(city(), None, support::category())),
        (support::FOREIGN.to_owned(), MapKey::Foreign(support::FOREIGN)),
    ] {
        assert_eq!(key_of(&Code::parse(&text, None).unwrap()), key.encode());
    }
}

#[test]
fn limits_are_said() {
    let (world, versions) = world();
    let mut history = history(&world, &versions, 1);
    history.versions = vec![versions[0].encode(); 4_097];
    assert!(History::decode(&history.encode()).unwrap_err().to_string().contains("4096"));
    assert!(history.check_limits().unwrap_err().to_string().contains("in parts"));
    assert_refused(&told(&world, &history), "over a limit");
    let long = vec![0; 16 * 1024 * 1024 + 1];
    assert!(History::decode(&long).unwrap_err().to_string().contains("more than the limit"));
    assert!(History::from_json("{\"cityid\": \"answer\"}").is_err());
}
