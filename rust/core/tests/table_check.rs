//! What a city refuses to keep (P44): a state by hand, a table, and one thing wrong with it at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use cityid_core::code::{Category, City, Class, Code, Model, Org, Serial, Use};
use cityid_core::error::Error;
use cityid_core::genesis::Parameters;
use cityid_core::hash::Hash;
use cityid_core::index::{Snapshot, StateMap};
use cityid_core::ledger::operation::Range;
use cityid_core::map_key::{Kind, MapKey};
use cityid_core::record::{Children, Configuration, Record, Status, Table};
use cityid_core::table::build::{Builder, SourceId, Spec, Step};
use cityid_core::table::check::Check;
use cityid_core::table::index::{Index, Occupied, Reader, Subtree};
use std::collections::BTreeMap;
use std::sync::Arc;

const BASE: u32 = 7_000;
const GENESIS: Hash = [3; 32];
const HEIGHT: u64 = 10;

fn city() -> City {
    City::parse("130100").unwrap()
}

fn class() -> Class {
    Class::parse("010203").unwrap()
}

fn org() -> Org {
    Org::parse("A7K2").unwrap()
}

fn category(model: &str) -> Category {
    Category { use_: Use::parse("60").unwrap(), class: class(), model: Model::parse(model).unwrap() }
}

fn serial(index: u32) -> Serial {
    Serial::new(BASE + index).unwrap()
}

fn range() -> Range {
    Range::new(city(), class(), serial(0), 1_000).unwrap()
}

fn item(index: u32, model: &str, height: u64) -> Record {
    let mut record = Record::new(Kind::Item, height);
    record.code = Some(Code::Item { city: city(), org: Some(org()), category: category(model), serial: serial(index) }.text());
    record
}

/// A table file in memory.
struct File {
    bytes: Vec<u8>,
    index: Index,
    occupied: Occupied,
}

impl File {
    fn read(bytes: Vec<u8>) -> File {
        let mut reader = Reader::new();
        reader.feed(&bytes).unwrap();
        let (index, occupied) = reader.finish().unwrap();
        File { bytes, index, occupied }
    }

    fn piece(&self, number: u32) -> Vec<u8> {
        self.index.bytes_of_piece(number).map_or(Vec::new(), |range| self.bytes[range.start as usize..range.end as usize].to_vec())
    }
}

fn spec() -> Spec {
    Spec { genesis: GENESIS, range: range(), org: Some(org()), seed: [9; 32], height: 5 }
}

fn build(spec: Spec, previous: Option<&File>, add: impl FnOnce(&mut Builder)) -> File {
    let mut builder = Builder::new(spec, previous.map(|file| (&file.index, file.occupied.clone()))).unwrap();
    add(&mut builder);
    let mut merger = builder.finish(0).unwrap();
    let mut rest = previous.map_or(&[][..], |file| &file.bytes[file.index.body() as usize..]);
    let mut bytes = Vec::new();
    loop {
        match merger.step().unwrap() {
            Step::Write(written) => bytes.extend_from_slice(&written),
            Step::Need(id) => {
                assert_eq!(id, SourceId::Previous);
                merger.feed(id, std::mem::take(&mut rest));
            }
            Step::Done => return File::read(bytes),
        }
    }
}

fn lamps(builder: &mut Builder, first: u32, last: u32) {
    let lamp = category("LAMP");
    builder.add_run(lamp.use_, lamp.model, serial(first), serial(last), 1, Status::Active).unwrap();
}

fn records(builder: &mut Builder, records: &[&Record]) {
    let encoded: Vec<Vec<u8>> = records.iter().map(|record| record.encode()).collect();
    builder.add_records(&encoded.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
}

/// A state in which the organisation holds the range and may register lamps.
struct World {
    records: BTreeMap<Hash, Record>,
}

impl World {
    fn new() -> World {
        let mut world = World { records: BTreeMap::new() };
        let mut parameters = Record::new(Kind::Parameters, 0);
        parameters.parameters = Parameters::default().values().to_vec();
        parameters.configuration =
            Some(Box::new(Configuration { committee: vec![city()], members: 4, suspended: 0, proposals: 0, protocol: vec![(1, 0)] }));
        world.put(MapKey::Parameters, parameters);
        let mut held = Record::new(Kind::Thousand, 2);
        held.holder = Some("MA.156.130100.A7K2".into());
        held.children = Children::Items;
        world.put(range().key(), held);
        let mut lamp = Record::new(Kind::Category, 2);
        lamp.name = Some("lamps".into());
        world.put(MapKey::Category(city(), Some(org()), category("LAMP")), lamp);
        world
    }

    fn put(&mut self, key: MapKey<'_>, record: Record) {
        self.records.insert(key.path(), record);
    }

    /// As the ledger does it: the range says from then on that it has single items (P46).
    fn put_item(&mut self, index: u32, record: &Record) {
        self.put(MapKey::Item(city(), class(), serial(index)), record.clone());
        self.change(range().key(), |range| range.used = true);
    }

    fn change(&mut self, key: MapKey<'_>, change: impl FnOnce(&mut Record)) {
        change(self.records.get_mut(&key.path()).unwrap());
    }

    /// The state after a table was sealed.
    fn seal(&mut self, file: &File) {
        let sealed = file.index.sealed();
        self.change(range().key(), |record| {
            record.children = Children::Table;
            record.height = HEIGHT;
            record.table = Some(Table {
                root: sealed.root,
                depth: 10,
                version: file.index.head().version,
                height: HEIGHT,
                overrides: 0,
                digest: sealed.digest,
                count: sealed.count,
            });
        });
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        let state = StateMap::new(1);
        let records = self.records.iter().map(|(path, record)| (*path, Some(record.encode().into()))).collect();
        state.commit(state.candidate(records).unwrap()).unwrap()
    }

    fn check(&self, file: &File, previous: Option<&File>) -> Result<(), Error> {
        let state = self.snapshot();
        let (head, size_bytes) = (file.index.head().clone(), file.bytes.len() as u64);
        let check = Check::new(head, size_bytes, previous.map(|file| &file.index), &*state, HEIGHT, &GENESIS)?;
        let check = |subtree: &Subtree<'_>| check.subtree(subtree, &previous.map_or(Vec::new(), |file| file.piece(subtree.number)));
        let mut reader = Reader::new();
        reader.feed_checked(&file.bytes, check)?;
        reader.finish_checked(check).map(|_| ())
    }

    fn refused(&self, file: &File, previous: Option<&File>, reason: &str) {
        match self.check(file, previous) {
            Err(Error::Rule { reason: "bad_table", message }) => assert!(message.contains(reason), "{message}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
}

#[test]
fn a_first_table_of_new_items_is_accepted() {
    let world = World::new();
    let file = build(spec(), None, |builder| {
        lamps(builder, 0, 500);
        builder.add_rows(b"serial,use,model,status,a\n7900,60,LAMP,allocated,x\n", &[1; 32]).unwrap();
        builder.add_rows(b"", &[1; 32]).unwrap();
    });
    assert_eq!(world.check(&file, None), Ok(()));
    assert_eq!(world.check(&build(spec(), None, |_| ()), None), Ok(()), "an empty table");
}

#[test]
fn the_head_must_fit_the_range() {
    let world = World::new();
    let file = build(spec(), None, |builder| lamps(builder, 0, 1));
    let second = build(spec(), Some(&file), |_| ());
    world.refused(&build(Spec { genesis: [4; 32], ..spec() }, None, |_| ()), None, "another network");
    world.refused(&second, Some(&file), "version 2, and the range's table has version 0");
    world.refused(&file, Some(&file), "no table yet");
    let elsewhere = Range::new(city(), class(), Serial::new(8_000).unwrap(), 1_000).unwrap();
    world.refused(&build(Spec { range: elsewhere, ..spec() }, None, |_| ()), None, "nobody holds");
    let mut small = World::new();
    small.change(MapKey::Parameters, |record| {
        let at = Parameters::NAMES.iter().position(|(name, ..)| *name == "max_table_bytes").unwrap();
        record.parameters[at] = 65_536;
    });
    let many: String = (0..1_000).map(|at| format!("{},60,LAMP,x\n", 7_000 + at)).collect();
    let large = build(spec(), None, |builder| {
        builder.add_rows(format!("serial,use,model,a\n{many}").as_bytes(), &[1; 32]).unwrap();
        builder.add_rows(b"", &[1; 32]).unwrap();
    });
    assert_eq!(world.check(&large, None), Ok(()));
    small.refused(&large, None, "more than the 65536");
    // After the seal: its successor, with the file before it, and nothing else.
    let mut sealed = World::new();
    sealed.seal(&file);
    assert_eq!(sealed.check(&second, Some(&file)), Ok(()));
    sealed.refused(&file, None, "version 1, and the range's table has version 1");
    sealed.refused(&second, None, "not at hand");
    let other = build(spec(), None, |builder| lamps(builder, 0, 2));
    sealed.refused(&build(spec(), Some(&other), |_| ()), Some(&other), "another table before it");
    let third = build(spec(), Some(&second), |_| ());
    sealed.refused(&third, Some(&second), "version 3");
}

#[test]
fn new_items_are_those_that_the_holder_could_register() {
    let world = World::new();
    let with = |record: &Record| build(spec(), None, |builder| records(builder, &[record]));
    let good = item(1, "LAMP", 5);
    assert_eq!(world.check(&with(&good), None), Ok(()), "the control");
    world.refused(&with(&item(1, "POLE", 5)), None, "60.010203.POLE is not registered");
    let mut suspended = World::new();
    suspended.change(MapKey::Category(city(), Some(org()), category("LAMP")), |record| record.status = Status::Suspended);
    suspended.refused(&with(&good), None, "is suspended");
    suspended.refused(&build(spec(), None, |builder| lamps(builder, 0, 3)), None, "is suspended");
    let pole = category("POLE");
    let poles = build(spec(), None, |builder| {
        lamps(builder, 0, 3);
        builder.add_run(pole.use_, pole.model, serial(10), serial(20), 1, Status::Active).unwrap();
    });
    world.refused(&poles, None, "serial 000007010: its category");
    let foreign = build(Spec { org: Some(Org::parse("B7K2").unwrap()), ..spec() }, None, |builder| lamps(builder, 0, 3));
    world.refused(&foreign, None, "another issuer");
    world.refused(&build(Spec { org: None, ..spec() }, None, |builder| lamps(builder, 0, 3)), None, "another issuer");
    world.refused(&build(Spec { height: HEIGHT + 1, ..spec() }, None, |builder| lamps(builder, 0, 3)), None, "height 11");
    world.refused(&with(&item(1, "LAMP", HEIGHT + 1)), None, "height 11");
    let second = good.next_version(&good.encode(), 6);
    world.refused(&with(&second), None, "a new item has version 1");
    for change in [
        |record: &mut Record| record.status = Status::Retired,
        |record: &mut Record| record.status_by_city = true,
        |record: &mut Record| record.holder = Some("MA.156.130100.B7K2".into()),
        |record: &mut Record| record.offered_to = Some("MA.156.130100.B7K2".into()),
        |record: &mut Record| record.threshold = Some(2),
        |record: &mut Record| record.children = Children::Map,
    ] {
        let mut record = good.clone();
        change(&mut record);
        world.refused(&with(&record), None, "a new item has version 1");
    }
    let mut script = good.clone();
    script.services = vec![("page".into(), "javascript:alert(1)".into())];
    world.refused(&with(&script), None, "browser");
    let mut many = good.clone();
    many.commitments = (10..43).map(|name| (name.to_string(), [1; 32])).collect();
    world.refused(&with(&many), None, "more than 32 commitments");
    let mut invisible = good.clone();
    invisible.commitments = vec![("a\u{202e}b".into(), [1; 32])];
    world.refused(&with(&invisible), None, "attribute name");
}

#[test]
fn records_that_are_alike_are_looked_at_one_by_one_where_they_differ() {
    let mut world = World::new();
    let row = |index: u32| {
        let mut row = item(index, "LAMP", 5);
        row.commitments = vec![("pole".into(), [index as u8; 32])];
        row
    };
    let rows: Vec<Record> = (0..50).map(row).collect();
    let with = |change: &dyn Fn(&mut Record)| {
        let mut rows = rows.clone();
        change(&mut rows[30]);
        build(spec(), None, |builder| records(builder, &rows.iter().collect::<Vec<_>>()))
    };
    assert_eq!(world.check(&with(&|_| ()), None), Ok(()), "the control");
    world.refused(&with(&|row| row.height = HEIGHT + 1), None, "serial 000007030: its record is of height 11");
    world.refused(&with(&|row| row.threshold = Some(2)), None, "serial 000007030: a new item has version 1");
    world.refused(&with(&|row| row.code = item(30, "POLE", 5).code), None, "serial 000007030: its category");
    // One of them stands in the ledger with another hash.
    let mut own = rows[40].clone();
    own.commitments[0].1 = [0xee; 32];
    world.put_item(40, &own);
    world.refused(&with(&|_| ()), None, "serial 000007040: it is neither");
}

#[test]
fn what_the_ledger_holds_is_in_the_first_table() {
    let mut world = World::new();
    let own = item(7, "LAMP", 3);
    world.put_item(7, &own);
    let without = build(spec(), None, |builder| lamps(builder, 0, 5));
    world.refused(&without, None, "serial 000007007: it is missing");
    let other = build(spec(), None, |builder| lamps(builder, 0, 7));
    world.refused(&other, None, "neither the present version nor the next");
    let taken = build(spec(), None, |builder| {
        lamps(builder, 0, 6);
        records(builder, &[&own]);
    });
    assert_eq!(world.check(&taken, None), Ok(()));
    // The next version of it, made in the table.
    let mut next = own.next_version(&own.encode(), 8);
    next.status = Status::Suspended;
    assert_eq!(world.check(&build(spec(), None, |builder| records(builder, &[&next])), None), Ok(()));
    let skipped = next.next_version(&next.encode(), 9);
    world.refused(&build(spec(), None, |builder| records(builder, &[&skipped])), None, "neither the present version nor the next");
}

#[test]
fn a_next_table_removes_nothing_and_takes_overrides_up() {
    let first = build(spec(), None, |builder| lamps(builder, 0, 100));
    let mut world = World::new();
    world.seal(&first);
    // An item that was registered as an override, and one that was changed twice.
    let leaf = item(40, "LAMP", 5);
    let once = leaf.next_version(&leaf.encode(), 7);
    let mut twice = once.next_version(&once.encode(), 8);
    twice.status = Status::Retired;
    let fresh = item(200, "LAMP", 8);
    world.put_item(40, &twice);
    world.put_item(200, &fresh);
    let compacted = build(spec(), Some(&first), |builder| {
        records(builder, &[&twice, &fresh]);
        lamps(builder, 300, 310);
    });
    assert_eq!(world.check(&compacted, Some(&first)), Ok(()));
    world.refused(&build(spec(), Some(&first), |builder| records(builder, &[&twice])), Some(&first), "serial 000007200: it is missing");
    world.refused(&build(spec(), Some(&first), |builder| records(builder, &[&fresh])), Some(&first), "serial 000007040: it is neither");
    world.refused(&build(spec(), Some(&first), |builder| records(builder, &[&once, &fresh])), Some(&first), "serial 000007040");
    // The file that its head names as the one before, and an item less than in it.
    let mut head = first.index.head().clone();
    (head.version, head.previous, head.count) = (2, Some(first.index.digest()), 0);
    let mut bytes = cityid_core::wire::Encoder::new();
    head.encode(&mut bytes);
    let emptied = File::read(bytes.finish());
    let mut plain = World::new();
    plain.seal(&first);
    plain.refused(&emptied, Some(&first), "serial 000007000: it is missing");
    assert_eq!(plain.check(&build(spec(), Some(&first), |_| ()), Some(&first)), Ok(()), "the control");
}

#[test]
fn a_next_version_in_a_table_is_one_that_the_holder_could_make() {
    let first = build(spec(), None, |builder| lamps(builder, 0, 100));
    let leaf = item(40, "LAMP", 5);
    let next = |record: &Record, change: fn(&mut Record)| {
        let mut next = record.next_version(&record.encode(), 9);
        change(&mut next);
        build(spec(), Some(&first), |builder| records(builder, &[&next]))
    };
    let mut world = World::new();
    world.seal(&first);
    for change in [
        |record: &mut Record| record.status = Status::Suspended,
        |record: &mut Record| record.status = Status::Retired,
        |record: &mut Record| record.commitments = vec![("a".into(), [1; 32])],
        |record: &mut Record| (record.reason, record.basis) = (Some(3), Some([2; 32])),
    ] {
        assert_eq!(world.check(&next(&leaf, change), Some(&first)), Ok(()));
    }
    for change in [
        |record: &mut Record| record.holder = Some("MA.156.130100.B7K2".into()),
        |record: &mut Record| record.status_by_city = true,
        |record: &mut Record| record.offered_to = Some("MA.156.130100.B7K2".into()),
        |record: &mut Record| record.previous = Some([1; 32]),
        |record: &mut Record| record.version = 3,
        |record: &mut Record| record.code = Some(item(40, "POLE", 5).code.unwrap()),
    ] {
        world.refused(&next(&leaf, change), Some(&first), "neither the present version nor the next");
    }
    world.refused(&next(&leaf, |record| record.status = Status::Allocated), Some(&first), "a move that the holder cannot make");
    world.refused(&next(&leaf, |record| record.height = HEIGHT + 1), Some(&first), "not decided yet");
    let script = |record: &mut Record| record.services = vec![("page".into(), "javascript:alert(1)".into())];
    world.refused(&next(&leaf, script), Some(&first), "browser");
    // What stands in the ledger decides: another holder's item, one that the city suspended, one that is retired.
    let present = |change: fn(&mut Record)| {
        let mut present = leaf.next_version(&leaf.encode(), 7);
        change(&mut present);
        let mut world = World::new();
        world.seal(&first);
        world.put_item(40, &present);
        (world, present)
    };
    let (world, given) = present(|record| record.holder = Some("MA.156.130100.B7K2".into()));
    world.refused(&next(&given, |record| record.commitments = vec![("a".into(), [1; 32])]), Some(&first), "another holds the item");
    let (world, suspended) = present(|record| (record.status, record.status_by_city) = (Status::Suspended, true));
    world.refused(&next(&suspended, |record| record.status = Status::Active), Some(&first), "cannot make");
    assert_eq!(world.check(&next(&suspended, |record| record.commitments = vec![("a".into(), [1; 32])]), Some(&first)), Ok(()));
    let (world, retired) = present(|record| record.status = Status::Retired);
    world.refused(&next(&retired, |_| ()), Some(&first), "retired");
}

#[test]
fn damaged_bytes_are_no_verdict_on_the_table() {
    let world = World::new();
    let mut file = build(spec(), None, |builder| records(builder, &[&item(1, "LAMP", 5)]));
    let last = file.bytes.len() - 3;
    file.bytes[last] ^= 1;
    assert!(matches!(world.check(&file, None), Err(Error::Malformed(_))));
}
