//! Lists by prefix: what is under one, in which order, page by page; and pages of records for audits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use cityid_core::audit::{Auditor, Page};
use cityid_core::genesis::Genesis;
use cityid_core::history::key_of;
use cityid_core::listing::{cursor, item_place, name_of, parse_cursor, Directory, Listing, Named, Prefix, Request};
use cityid_core::map_key::MapKey;
use cityid_core::record::Record;
use support::{category, city, class, code, code_of, item_record, next_version, org, serial, World, CITY, CLASS};

/// Keys of everything above items of [`World::with_records`].
fn directory(genesis: &Genesis) -> Directory {
    let directory = Directory::default();
    let founding = genesis.records();
    directory.note(founding.iter().map(|(key, _)| &key[..]));
    let ranges = [0, 1_000, 2_000].map(|base| MapKey::Thousand(city(), class(), serial(base)).encode());
    let millions = [0, 1_000_000, 2_000_000].map(|base| MapKey::Million(city(), class(), serial(base)).encode());
    let holders = ["A7K2", "B8L3"].map(|name| MapKey::Organisation(city(), org(name)).encode());
    let categories = [Some(org("A7K2")), None].map(|org| MapKey::Category(city(), org, category()).encode());
    let keys = ranges.into_iter().chain(millions).chain(holders).chain(categories);
    let keys: Vec<Vec<u8>> = keys.chain([MapKey::Item(city(), class(), serial(5)).encode()]).collect();
    directory.note(keys.iter().map(|key| &key[..]));
    directory
}

fn page(world: &World, prefix: &str, after: Option<&str>, limit: usize, ranges: bool) -> Listing {
    let prefix = Prefix::parse(prefix).unwrap();
    let after = after.map(|text| parse_cursor(text).unwrap());
    let request = Request { prefix: &prefix, after: after.as_deref(), limit, ranges };
    directory(&world.genesis).list(&*world.snapshot(), &request).unwrap()
}

fn codes(listing: &Listing) -> Vec<String> {
    listing.entries.iter().filter_map(|entry| entry.code.clone()).collect()
}

fn everything() -> Vec<String> {
    let cities = ["110000", "130100", "330100", "440300"].map(|city| format!("MA.156.{city}"));
    let holders = ["A7K2", "B8L3"].map(|org| format!("MA.156.{CITY}.{org}"));
    let categories = [format!("MA.156.{CITY}/60.{CLASS}.1"), format!("MA.156.{CITY}.A7K2/60.{CLASS}.1")];
    let of_city = cityid_core::code::Code::Item { city: city(), org: None, category: category(), serial: serial(10) };
    let items = [code(5), code(6), code(8), code_of("B8L3", 9), of_city.text()];
    // Of the sealed range with overrides those whose record is above the table; then the held million.
    let sealed = [2_000, 2_001, 2_002, 2_003].map(code);
    let mut all: Vec<String> = cities.into_iter().chain(holders).chain(categories).chain(items).chain(sealed).collect();
    all.push(code(1_000_007));
    all
}

#[test]
fn every_code_is_listed_once_whatever_the_size_of_a_page() {
    let world = World::with_records(4);
    // Look-ups are bounded, too: a held million takes several pages, and those without entries say where to go on.
    let first = page(&world, "MA.156", None, 1_000, false);
    assert_eq!(codes(&first), everything());
    assert_eq!(first.sealed, 2);
    let mut next = first.next;
    let mut pages = 1;
    while let Some(behind) = next {
        let part = page(&world, "MA.156", Some(&cursor(&behind)), 1_000, false);
        assert!(part.entries.is_empty());
        assert_eq!(part.sealed, usize::from(part.next.is_none()), "the sealed million comes last");
        next = part.next;
        pages += 1;
    }
    assert!((5..9).contains(&pages), "{pages} pages for a million serials");
    for limit in [1, 2, 3, 7] {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let part = page(&world, "MA.156", after.as_deref(), limit, false);
            assert!(part.entries.len() <= limit);
            found.extend(codes(&part));
            match part.next {
                Some(next) => after = Some(cursor(&next)),
                None => break,
            }
        }
        assert_eq!(found, everything(), "pages of {limit}");
    }
}

#[test]
fn a_prefix_ends_at_a_boundary() {
    let world = World::with_records(4);
    let all = everything();
    let under = |prefix: &str| codes(&page(&world, prefix, None, 1_000, false));
    for prefix in [
        format!("MA.156.{CITY}"),
        format!("MA.156.{CITY}.A7K2"),
        format!("ma.156.{CITY}.a7k2/"),
        format!("MA.156.{CITY}/"),
        format!("MA.156.{CITY}.A7K2/60.{CLASS}"),
        format!("MA.156.{CITY}.A7K2/60.{CLASS}.1"),
        code(8),
        "MA.156.440300".to_owned(),
    ] {
        let upper = prefix.to_ascii_uppercase();
        let expected: Vec<String> = all
            .iter()
            .filter(|code| {
                **code == upper || [".", "/"].iter().any(|end| code.starts_with(&format!("{}{end}", upper.trim_end_matches('/'))))
            })
            .filter(|code| !upper.ends_with('/') || code.starts_with(&upper))
            .cloned()
            .collect();
        assert!(!expected.is_empty() && under(&prefix) == expected, "{prefix}");
    }
    assert!(under("MA.156.999999").is_empty());
    assert!(!Prefix::parse("MA.156.130100.A7K2").unwrap().contains("MA.156.130100.A7K2X"));
    for wrong in ["", "MA", "MA.157", "MA.1566", "MA.156.13010", "MA.156.130100.A7", "MA.156.130100/60.01", "MA.156.é", &"A".repeat(60)] {
        assert!(Prefix::parse(wrong).unwrap_err().to_string().contains("no prefix"), "{wrong}");
    }
}

#[test]
fn ranges_are_listed_for_whoever_asks() {
    let world = World::with_records(4);
    let ranges = |prefix: &str| {
        let found = page(&world, prefix, None, 1_000, true).entries;
        found
            .iter()
            .filter_map(|entry| match name_of(&entry.key, &Record::decode(&entry.record).unwrap()) {
                Some(Named::Range(range)) => Some((range.base, range.size)),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let held = [(1_000_000, 1_000_000), (2_000_000, 1_000_000), (0, 1_000), (1_000, 1_000), (2_000, 1_000)];
    assert_eq!(ranges(&format!("MA.156.{CITY}.A7K2")), held);
    assert_eq!(ranges(&format!("MA.156.{CITY}")).len(), 6, "the open million is nobody's");
    assert!(ranges(&format!("MA.156.{CITY}.B8L3")).is_empty());
    assert!(ranges("MA.156.110000").is_empty());
}

#[test]
fn keys_and_cursors_go_there_and_back() {
    let world = World::with_records(4);
    for entry in page(&world, "MA.156", None, 1_000, true).entries {
        assert_eq!(parse_cursor(&cursor(&entry.key)).unwrap(), entry.key);
        let record = Record::decode(&entry.record).unwrap();
        match name_of(&entry.key, &record) {
            Some(Named::Code(code)) => assert_eq!((key_of(&code), Some(code.text())), (entry.key.clone(), entry.code)),
            Some(Named::Range(range)) => assert!(range.base % range.size == 0 && entry.code.is_none()),
            None => panic!("a record under another key than its own"),
        }
        // Under another key it names nothing.
        let mut wrong = entry.key.clone();
        *wrong.last_mut().unwrap() ^= 0x40;
        assert!(name_of(&wrong, &record).is_none_or(|named| matches!(named, Named::Code(code) if key_of(&code) == wrong)));
        assert_eq!(name_of(&entry.key[..entry.key.len() - 1], &record), None);
    }
    assert_eq!(item_place(&MapKey::Item(city(), class(), serial(7)).encode()), Some((city(), class(), serial(7))));
    assert_eq!(item_place(&MapKey::City(city()).encode()), None);
    assert!(parse_cursor("neither").is_err());
}

/// A page of two items, one with its version before.
fn audit_page() -> (World, Page) {
    let mut world = World::with_records(4);
    let first = item_record(&code(5), 1);
    world.put_item(5, &next_version(&first, 6));
    world.commit();
    let keys = [5, 6].map(|number| MapKey::Item(city(), class(), serial(number)).encode());
    let [changed, same] = keys;
    let page = Page::build(&*world.snapshot(), &world.block(), [(changed, vec![first.encode()]), (same, vec![])]).unwrap();
    (world, page)
}

#[test]
fn a_page_proves_its_records_and_their_versions() {
    let (world, page) = audit_page();
    let (header, entries) = page.verify(&world.trust()).unwrap();
    assert_eq!((header.height, entries.len()), (6, 2));
    assert_eq!(entries[0].code, Some(code(5)));
    assert_eq!(entries[0].versions.iter().map(|(record, _)| record.version).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(Page::decode(&page.encode()), Ok(page.clone()));
    let nothing = Page::build(&*world.snapshot(), &world.block(), []).unwrap();
    assert_eq!(nothing.verify(&world.trust()).unwrap().1, []);
    let many = (0..65).map(|number| (MapKey::Item(city(), class(), serial(number % 10)).encode(), vec![]));
    assert!(Page::build(&*world.snapshot(), &world.block(), many).is_err());
}

#[test]
fn a_change_of_any_byte_of_a_page_is_refused() {
    let (world, page) = audit_page();
    let (bytes, trust) = (page.encode(), world.trust());
    for index in 0..bytes.len() {
        for mask in [1, 0x80] {
            let mut edited = bytes.clone();
            edited[index] ^= mask;
            let accepted = Page::decode(&edited).and_then(|page| page.verify(&trust)).is_ok();
            assert!(!accepted, "byte {index} of {}", bytes.len());
        }
    }
    let edited = |edit: &dyn Fn(&mut Page)| {
        let mut edited = page.clone();
        edit(&mut edited);
        edited.verify(&trust).unwrap_err().to_string()
    };
    let mut swapped = page.clone();
    swapped.entries.swap(0, 1);
    assert!(Page::decode(&swapped.encode()).unwrap_err().to_string().contains("not ascending"));
    assert!(edited(&|page| drop(page.entries.pop())).contains("proof"));
    assert!(edited(&|page| page.entries[1].versions.push(item_record(&code(6), 1).encode())).contains("not the record whose hash"));
    assert!(edited(&|page| page.entries[0].key = MapKey::Item(city(), class(), serial(8)).encode()).contains("the state proof is refused"));
}

#[test]
fn an_auditor_needs_the_right_beginning() {
    let set = World::new(4).validators().encode();
    assert!(Auditor::new([0; 32], 3, vec![[0; 32]], &[&set]).unwrap_err().to_string().contains("complete subtrees"));
    assert!(Auditor::new([0; 32], 1, vec![[0; 32]], &[&set[1..]]).is_err());
    let auditor = Auditor::new([0; 32], 1, vec![[7; 32]], &[&set]).unwrap();
    assert_eq!(auditor.log(), (1, [7; 32]));
}
