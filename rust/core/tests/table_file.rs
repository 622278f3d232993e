//! Table files (P43): built, read in pieces of any size, proven under an independent tree, and refused when anything is off.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use cityid_core::code::{City, Class, Code, Model, Org, Serial, Use};
use cityid_core::commitment::commitment;
use cityid_core::error::Error;
use cityid_core::hash::{sha256, Hash};
use cityid_core::ledger::operation::Range;
use cityid_core::map_key::Kind;
use cityid_core::record::{Record, Status};
use cityid_core::table::build::{Builder, SourceId, Spec, Step};
use cityid_core::table::index::{Index, Occupied, Reader};
use cityid_core::table::{Head, Template};
use cityid_core::wire::Encoder;
use std::collections::BTreeMap;

const BASE: u32 = 7_000_000;

fn spec(size: u64) -> Spec {
    let range = Range::new(City::parse("130100").unwrap(), Class::parse("010203").unwrap(), Serial::new(BASE).unwrap(), size).unwrap();
    Spec { genesis: [3; 32], range, org: Some(Org::parse("A7K2").unwrap()), seed: [9; 32], height: 5 }
}

fn lamp() -> (Use, Model) {
    (Use::parse("60").unwrap(), Model::parse("LAMP").unwrap())
}

fn serial(index: u32) -> Serial {
    Serial::new(BASE + index).unwrap()
}

fn code(index: u32, model: &str) -> String {
    let (use_, class) = (Use::parse("60").unwrap(), Class::parse("010203").unwrap());
    Code::item(City::parse("130100").unwrap(), Some(Org::parse("A7K2").unwrap()), use_, class, Model::parse(model).unwrap(), serial(index))
        .text()
}

fn plain(index: u32, height: u64) -> Record {
    let mut record = Record::new(Kind::Item, height);
    record.code = Some(code(index, "LAMP"));
    record
}

fn read(bytes: &[u8], piece: usize) -> Result<(Index, Occupied), Error> {
    let mut reader = Reader::new();
    bytes.chunks(piece).try_for_each(|chunk| reader.feed(chunk))?;
    reader.finish()
}

/// Builds a file in memory; `spills` says how many segments to take on the way.
fn build(
    size: u64,
    previous: Option<&[u8]>,
    add: impl FnOnce(&mut Builder, &mut Vec<Vec<u8>>) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let opened = previous.map(|bytes| read(bytes, 4_096)).transpose()?;
    let body = opened.as_ref().map_or(0, |(index, _)| index.body() as usize);
    let mut builder = Builder::new(spec(size), opened.as_ref().map(|(index, occupied)| (index, occupied.clone())))?;
    let mut segments = Vec::new();
    add(&mut builder, &mut segments)?;
    let mut merger = builder.finish(segments.len())?;
    let mut fed = vec![0; segments.len()];
    let mut fed_previous = body;
    let mut file = Vec::new();
    loop {
        match merger.step()? {
            Step::Write(bytes) => file.extend_from_slice(&bytes),
            Step::Need(SourceId::Previous) => {
                let all = previous.unwrap();
                let end = (fed_previous + 999).min(all.len());
                merger.feed(SourceId::Previous, &all[fed_previous..end]);
                fed_previous = end;
            }
            Step::Need(SourceId::Segment(number)) => {
                let end = (fed[number] + 777).min(segments[number].len());
                merger.feed(SourceId::Segment(number), &segments[number][fed[number]..end]);
                fed[number] = end;
            }
            Step::Done => return Ok(file),
        }
    }
}

fn run(size: u64, first: u32, last: u32, step: u32) -> Vec<u8> {
    let (use_, model) = lamp();
    build(size, None, |builder, _| builder.add_run(use_, model, serial(first), serial(last), step, Status::Active).map(|_| ())).unwrap()
}

fn tag(text: &str, parts: &[&[u8]]) -> Hash {
    sha256(&[text.as_bytes(), b"\0\x01", &parts.concat()].concat())
}

/// The root of some records by the definitions of P41 and P43, with the tags written out.
fn reference(depth: u32, records: &BTreeMap<u32, Vec<u8>>) -> Hash {
    let mut level: BTreeMap<u32, Hash> = records
        .iter()
        .map(|(index, record)| {
            let salt = tag("cityid/1/table-salt", &[&[9; 32], &index.to_be_bytes(), record]);
            (*index, tag("cityid/1/table-leaf", &[&index.to_be_bytes(), &salt[..16], record]))
        })
        .collect();
    let mut empty = tag("cityid/1/table-empty", &[]);
    for _ in 0..depth {
        let at = |index: u32| level.get(&index).copied().unwrap_or(empty);
        let parents: Vec<u32> = level.keys().map(|index| index / 2).collect();
        level = parents.into_iter().map(|index| (index, tag("cityid/1/table-node", &[&at(index * 2), &at(index * 2 + 1)]))).collect();
        empty = tag("cityid/1/table-node", &[&empty, &empty]);
    }
    level.get(&0).copied().unwrap_or(empty)
}

/// Every proof that a file gives for an index, taken from the file alone.
fn record_at(index: &Index, file: &[u8], at: u32) -> Option<Vec<u8>> {
    let bytes = index.bytes_of(at).map_or(&[][..], |range| &file[range.start as usize..range.end as usize]);
    let proof = index.prove(at, bytes).unwrap();
    proof.verify(&index.root(), index.head().depth(), at).unwrap();
    assert_eq!(index.record(at, bytes).unwrap(), proof.leaf.as_ref().map(|leaf| leaf.record.clone()));
    proof.leaf.map(|leaf| leaf.record)
}

#[test]
fn runs_give_the_root_of_the_definition_and_prove_every_edge() {
    for (size, first, last, step) in
        [(1_000, 0, 999, 1), (1_000, 0, 999, 3), (1_000, 999, 999, 1), (1_000_000, 0, 999_999, 1_111), (1_000_000, 1_023, 2_049, 1)]
    {
        let file = run(size, first, last, step);
        let (index, _) = read(&file, 100).unwrap();
        let held: BTreeMap<u32, Vec<u8>> = (first..=last).step_by(step as usize).map(|at| (at, plain(at, 5).encode())).collect();
        assert_eq!(index.root(), reference(if size == 1_000 { 10 } else { 20 }, &held), "{size} {first} {last} {step}");
        assert_eq!(index.head().count as usize, held.len());
        assert_eq!(index.digest(), sha256(&file));
        for at in [0, 1, 2, 3, 998, 999, 1_000, 1_022, 1_023, 1_024, 1_025, 1_111, 2_047, 2_048, 2_049, 500_000, 999_998, 999_999] {
            if u64::from(at) < size {
                assert_eq!(record_at(&index, &file, at), held.get(&at).cloned(), "{size} {first} {last} {step} at {at}");
            }
        }
        assert!(index.prove(size as u32, &[]).is_err());
    }
}

#[test]
fn an_empty_table_proves_that_it_is_empty() {
    for (size, depth) in [(1_000, 10), (1_000_000, 20)] {
        let file = build(size, None, |_, _| Ok(())).unwrap();
        let (index, _) = read(&file, 7).unwrap();
        assert_eq!((index.root(), index.head().count), (reference(depth, &BTreeMap::new()), 0));
        for at in [0, 1, 999, size as u32 - 1] {
            assert_eq!(record_at(&index, &file, at), None);
        }
    }
}

#[test]
fn a_file_is_the_same_in_whatever_order_it_is_built_and_however_it_is_read() {
    let (use_, model) = lamp();
    let pole = Model::parse("POLE").unwrap();
    let texts =
        ["serial,use,model,status,height m,店\n", "7000700,60,LAMP,,3,一\n7000021,60,POLE,allocated,\"4,5\",\n7000690,60,LAMP,active,,\n"];
    let rows = |builder: &mut Builder| {
        let mut shown = builder.add_rows(texts[0].as_bytes(), &[1; 32])?;
        shown.extend(builder.add_rows(texts[1].as_bytes(), &[1; 32])?);
        shown.extend(builder.add_rows(b"", &[1; 32])?);
        Ok::<_, Error>(shown)
    };
    let in_order = build(1_000_000, None, |builder, _| {
        builder.add_run(use_, model, serial(0), serial(20), 1, Status::Active)?;
        rows(builder)?;
        builder.add_list(use_, model, &[BASE + 22, BASE + 500_000, BASE + 999_999], Status::Active)?;
        builder.add_run(use_, pole, serial(30), serial(400), 10, Status::Allocated).map(|_| ())
    })
    .unwrap();
    let spilled = build(1_000_000, None, |builder, segments| {
        builder.add_run(use_, pole, serial(30), serial(400), 10, Status::Allocated)?;
        segments.push(builder.take_segment()?);
        rows(builder)?;
        segments.push(builder.take_segment()?);
        builder.add_list(use_, model, &[BASE + 22, BASE + 500_000, BASE + 999_999], Status::Active)?;
        segments.push(builder.take_segment()?);
        builder.add_run(use_, model, serial(0), serial(20), 1, Status::Active).map(|_| ())
    })
    .unwrap();
    assert!(in_order == spilled);
    let (whole, _) = read(&in_order, in_order.len()).unwrap();
    for piece in [1, 2, 13, 4_096] {
        assert!(read(&in_order, piece).unwrap().0 == whole);
    }
    assert!(Index::decode(&whole.encode()).unwrap() == whole);
    // What the rows became: the commitment opens with what was given back.
    let mut shown = String::new();
    build(1_000_000, None, |builder, _| {
        shown = String::from_utf8(rows(builder)?).unwrap();
        Ok(())
    })
    .unwrap();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((lines[0], lines.len()), ("code,attribute,schema,salt,value", 4));
    let fields: Vec<&str> = lines[3].splitn(5, ',').collect();
    assert_eq!((fields[0], fields[1], fields[2], fields[4]), (&code(21, "POLE")[..], "height m", "text", "\"4,5\""));
    let salt: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&fields[3][at * 2..at * 2 + 2], 16).unwrap()).collect();
    let record = Record::decode(&record_at(&whole, &in_order, 21).unwrap()).unwrap();
    let opened = commitment(fields[0], "height m", "text", &salt.try_into().unwrap(), "4,5").unwrap();
    assert_eq!((record.status, record.commitments), (Status::Allocated, vec![("height m".to_owned(), opened)]));
    // Salts differ from value to value, and 690 has no attribute at all.
    assert_ne!(lines[1].split(',').nth(3), lines[2].split(',').nth(3));
    assert_eq!(record_at(&whole, &in_order, 690), Some(plain(690, 5).encode()));
}

#[test]
fn what_goes_on_at_equal_steps_is_one_run() {
    let (use_, model) = lamp();
    let one = run(1_000_000, 0, 999_999, 1);
    let many = build(1_000_000, None, |builder, segments| {
        for from in (0..1_000_000).step_by(100_000) {
            builder.add_run(use_, model, serial(from), serial(from + 99_999), 1, Status::Active)?;
            segments.push(builder.take_segment()?);
        }
        Ok(())
    })
    .unwrap();
    assert!(one == many);
    assert!(one.len() < 200, "{} bytes for a million", one.len());
    // Runs that interleave give way to each other.
    let pole = Model::parse("POLE").unwrap();
    let mixed = build(1_000, None, |builder, _| {
        builder.add_run(use_, model, serial(0), serial(998), 2, Status::Active)?;
        builder.add_run(use_, pole, serial(1), serial(999), 2, Status::Active).map(|_| ())
    })
    .unwrap();
    let (index, _) = read(&mixed, 64).unwrap();
    assert_eq!(index.head().count, 1_000);
    for at in [0, 1, 500, 501, 999] {
        let record = Record::decode(&record_at(&index, &mixed, at).unwrap()).unwrap();
        assert_eq!(record.code.unwrap(), code(at, if at % 2 == 0 { "LAMP" } else { "POLE" }));
    }
}

#[test]
fn a_later_version_keeps_what_it_does_not_replace() {
    let (use_, model) = lamp();
    let first = run(1_000_000, 0, 4_000, 1);
    let (older, _) = read(&first, 4_096).unwrap();
    let before = plain(77, 5);
    let mut next = before.next_version(&before.encode(), 9);
    next.status = Status::Suspended;
    let second = build(1_000_000, Some(&first), |builder, _| {
        builder.add_records(&[&next.encode()])?;
        builder.add_run(use_, model, serial(4_001), serial(4_100), 1, Status::Active).map(|_| ())
    })
    .unwrap();
    let (index, _) = read(&second, 4_096).unwrap();
    assert_eq!((index.head().version, index.head().previous, index.head().count), (2, Some(older.digest()), 4_101));
    let mut held: BTreeMap<u32, Vec<u8>> = (0..=4_100).map(|at| (at, plain(at, 5).encode())).collect();
    held.insert(77, next.encode());
    assert_eq!(index.root(), reference(20, &held));
    for at in [0, 76, 77, 78, 4_000, 4_001, 4_101] {
        assert_eq!(record_at(&index, &second, at), held.get(&at).cloned());
    }
    // Around the replaced leaf the run was cut in two, and one that is alike goes on with it: three entries.
    assert!(second.len() < 400);
    // The same serials again are refused, with nothing added; so is a record that is no later version.
    let error = build(1_000_000, Some(&first), |builder, _| {
        let refused = builder.add_run(use_, model, serial(4_000), serial(4_005), 1, Status::Active).map(|_| ());
        builder.add_run(use_, model, serial(4_001), serial(4_005), 1, Status::Active)?;
        refused
    });
    assert!(matches!(error, Err(Error::Rule { reason: "exists", .. })), "{error:?}");
    let mut other = plain(77, 6);
    other.status = Status::Allocated;
    let error = build(1_000_000, Some(&first), |builder, _| builder.add_records(&[&other.encode()]).map(|_| ())).unwrap_err();
    assert!(error.to_string().contains("version 1 and the table holds version 1"), "{error}");
    assert!(Builder::new(Spec { genesis: [4; 32], ..spec(1_000_000) }, Some((&older, Occupied::new(1_000_000)))).is_err());
    assert!(Builder::new(spec(1_000), Some((&older, Occupied::new(1_000_000)))).is_err());
}

#[test]
fn what_cannot_stand_in_a_table_is_refused_when_it_is_added() {
    let (use_, model) = lamp();
    let list = |serials: &'static [u32], status| {
        build(1_000, None, move |builder, _| builder.add_list(use_, model, serials, status).map(|_| ())).unwrap_err().to_string()
    };
    assert!(list(&[BASE + 2, BASE + 1], Status::Active).contains("ascends"));
    assert!(list(&[BASE + 1, BASE + 1], Status::Active).contains("ascends"));
    assert!(list(&[BASE + 1_000], Status::Active).contains("outside the range"));
    assert!(list(&[BASE - 1], Status::Active).contains("outside the range"));
    assert!(list(&[BASE], Status::Retired).contains("does not begin"));
    for (first, last, step) in [(5, 4, 1), (4, 5, 0), (0, 1_000, 1)] {
        let added =
            build(1_000, None, |builder, _| builder.add_run(use_, model, serial(first), serial(last), step, Status::Active).map(|_| ()));
        assert!(matches!(added, Err(Error::Malformed(_))), "{first} {last} {step}");
    }
    let foreign = plain(1, 5);
    for (record, reason) in [
        (Record { code: Some(foreign.code.clone().unwrap().replace("130100", "130200")), ..foreign.clone() }, "check character"),
        (plain(1_000, 5), "outside the range"),
        (Record { code: Some("MA.156.130100".into()), ..foreign.clone() }, "names no item"),
    ] {
        let error = build(1_000, None, |builder, _| builder.add_records(&[&record.encode()]).map(|_| ())).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn rows_that_are_wrong_are_refused_with_their_line() {
    let rows = |text: &str| -> Result<Vec<u8>, Error> {
        build(1_000, None, |builder, _| {
            builder.add_rows(text.as_bytes(), &[1; 32])?;
            builder.add_rows(b"", &[1; 32]).map(|_| ())
        })
    };
    let ended = read(&rows("serial,use,model\n7000001,60,LAMP").unwrap(), 99).unwrap();
    assert_eq!(ended.0.head().count, 1, "the control: the last line needs no end");
    let right = code(1, "LAMP");
    let wrong = if right.ends_with('0') { "1" } else { "0" };
    assert!(rows(&format!("code\n{}{wrong}\n", &right[..right.len() - 1])).unwrap_err().to_string().contains("check character"));
    assert!(rows(&format!("\u{feff}code\r\n{}\r\n", code(1, "LAMP"))).is_ok());
    let long = format!("serial,use,model,a\n7000001,60,LAMP,{}\n", "x".repeat(4_097));
    let wide = format!("serial,use,model,{}\n", (0..300).map(|name| name.to_string()).collect::<Vec<_>>().join(","));
    let endless = format!("serial,use,model,a\n7000001,60,LAMP,\"{}", "x".repeat(300_000));
    for (text, reason) in [
        ("serial,use\n7000001,60\n", "line 1: the header needs"),
        ("code,serial\n", "line 1: the header needs"),
        ("serial,use,model,a,a\n", "stands twice"),
        ("serial,use,model, a\n", "names no attribute"),
        ("serial,use,model\n7000001,60\n", "line 2: 2 fields"),
        ("serial,use,model\r\n7000000,60,LAMP\r\n7000001,60", "line 3: 2 fields"),
        ("serial,use,model\n7000001,60,LAMP\n7000001,60,LAMP\n", "line 3: serial 7000001 stands in the table already"),
        ("serial,use,model\n7001000,60,LAMP\n", "line 2: serial 007001000 is outside"),
        ("serial,use,model\n+7000001,60,LAMP\n", "one to nine digits"),
        ("serial,use,model\n7000001,6,LAMP\n", "line 2"),
        ("serial,use,model,status\n7000001,60,LAMP,retired\n", "active or allocated"),
        ("code\nMA.156.130100.B7K2/60.010203.LAMP/007000001X\n", "line 2"),
        (long.as_str(), "4097 bytes"),
        (wide.as_str(), "columns"),
        (endless.as_str(), "quote"),
    ] {
        let error = rows(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text:.60}: {error}");
    }
    let bad_utf8 = build(1_000, None, |builder, _| builder.add_rows(b"serial,use,model,a\n7000001,60,LAMP,\xff\n", &[1; 32]).map(|_| ()));
    assert!(bad_utf8.unwrap_err().to_string().contains("UTF-8"));
    // A text that was not ended, or was refused, makes no table.
    let open = build(1_000, None, |builder, _| builder.add_rows(b"serial,use,model\n7000001,60,LAMP\n", &[1; 32]).map(|_| ()));
    assert!(open.unwrap_err().to_string().contains("not ended"));
    let after = build(1_000, None, |builder, _| {
        assert!(builder.add_rows(b"serial,use\n", &[1; 32]).is_err());
        Ok(())
    });
    assert!(after.unwrap_err().to_string().contains("refused"));
}

fn small_file() -> Vec<u8> {
    let (use_, model) = lamp();
    build(1_000, None, |builder, _| {
        builder.add_run(use_, model, serial(3), serial(40), 1, Status::Active)?;
        builder.add_rows(b"serial,use,model,a\n7000100,60,LAMP,x\n", &[1; 32])?;
        builder.add_rows(b"", &[1; 32])?;
        builder.add_run(use_, model, serial(600), serial(700), 5, Status::Allocated).map(|_| ())
    })
    .unwrap()
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused_or_another_table_in_its_one_form() {
    let file = small_file();
    let (good, _) = read(&file, 4_096).unwrap();
    for length in 0..file.len() {
        assert!(read(&file[..length], 64).is_err(), "cut to {length} bytes");
    }
    assert!(read(&[&file[..], &[0]].concat(), 64).is_err());
    let mut accepted = 0;
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let Ok((index, _)) = read(&flipped, 4_096) else { continue };
        accepted += 1;
        // It is another file; and what it says differs, unless it only names another version before it, which the digest binds.
        assert_ne!(index.digest(), good.digest());
        let mut head = Encoder::new();
        index.head().encode(&mut head);
        assert_eq!(head.finish(), flipped[..index.body() as usize], "bit {bit}: a second encoding of one head");
        let same_leaves = index.root() == good.root();
        assert!(!same_leaves || index.head() != good.head(), "bit {bit} changes nothing that the table says");
    }
    // The control: salts, serials and heights can be others, so some flips are tables of their own.
    assert!(accepted > 300, "{accepted}");
}

#[test]
fn the_bytes_of_a_proof_are_checked_again() {
    let file = small_file();
    let (index, _) = read(&file, 4_096).unwrap();
    let range = index.bytes_of(100).unwrap();
    let bytes = &file[range.start as usize..range.end as usize];
    assert!(index.prove(100, bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(index.prove(100, &flipped).is_err() && index.prove(101, &flipped).is_err(), "bit {bit}");
    }
    assert!(index.prove(100, &bytes[..bytes.len() - 1]).is_err() && index.prove(100, &[]).is_err());
    let kept = index.encode();
    for bit in 0..kept.len() * 8 {
        let mut flipped = kept.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Index::decode(&flipped).is_err(), "bit {bit} of the index");
    }
}

/// A file by hand: the head as a builder writes it, entries as they are given.
fn by_hand(change: impl FnOnce(&mut Head), entries: &[&[u64]], single: Option<(u64, &[u8])>) -> Result<(Index, Occupied), Error> {
    let (use_, model) = lamp();
    let template = |model: Model| Template { org: Some(Org::parse("A7K2").unwrap()), use_, model };
    let mut head = Head {
        genesis: [3; 32],
        range: spec(1_000).range,
        version: 1,
        previous: None,
        seed: [9; 32],
        count: 4,
        templates: vec![template(model), template(Model::parse("POLE").unwrap())],
    };
    change(&mut head);
    let mut out = Encoder::new();
    head.encode(&mut out);
    for entry in entries {
        out.array(entry.len());
        for field in *entry {
            out.uint(*field);
        }
    }
    if let Some((index, record)) = single {
        out.array(2).uint(index).bytes(record);
    }
    read(&out.finish(), 16)
}

#[test]
fn every_field_is_read_strictly() {
    let keep = |_: &mut Head| {};
    let good: &[u64] = &[0, 4, 1, 0, 1, 5];
    assert!(by_hand(keep, &[good], None).is_ok(), "the control");
    assert!(by_hand(keep, &[&[0, 3, 1, 0, 1, 5]], Some((10, &plain(10, 5).encode()))).is_ok(), "the control with a single leaf");
    for (entries, reason) in [
        (&[&[0, 1, 1, 0, 1, 5][..]][..], "fewer than two"),
        (&[&[0, 4, 0, 0, 1, 5]], "at a distance"),
        (&[&[997, 4, 1, 0, 1, 5]], "leaves its range"),
        (&[&[0, 4, 334, 0, 1, 5]], "leaves its range"),
        (&[&[0, 4, 1, 2, 1, 5]], "template"),
        (&[&[0, 4, 1, 0, 2, 5]], "status"),
        (&[&[0, 4, 1, 0, 3, 5]], "status"),
        (&[&[0, 4, 1, 0, 4, 5]], "status"),
        (&[&[1_000, 4, 1, 0, 1, 5]], "limit"),
        (&[&[0, 2, 1, 0, 1, 5], &[1, 2, 1, 0, 1, 5]], "overlap"),
        (&[&[0, 2, 5, 0, 1, 5], &[3, 2, 5, 0, 1, 5]], "overlap"),
        (&[&[5, 2, 1, 0, 1, 5], &[0, 2, 1, 0, 1, 5]], "overlap"),
        (&[&[0, 3, 1, 0, 1, 5]], "3 leaves, and its head says 4"),
        (&[&[0, 4, 1, 0, 1]], "5 fields"),
    ] {
        let error = by_hand(keep, entries, None).unwrap_err().to_string();
        assert!(error.contains(reason), "{entries:?}: {error}");
    }
    type Change = fn(&mut Head);
    let heads: [(Change, &str); 5] = [
        (|head| head.version = 0, "version 0"),
        (|head| head.version = 2, "version 2"),
        (|head| head.previous = Some([1; 32]), "version 1"),
        (|head| head.templates.reverse(), "not ascending"),
        (|head| head.templates[1] = head.templates[0], "repeated"),
    ];
    for (change, reason) in heads {
        let error = by_hand(change, &[good], None).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let three: &[&[u64]] = &[&[0, 3, 1, 0, 1, 5]];
    let moved = plain(11, 5).encode();
    let lower = Record { code: Some(code(10, "LAMP").to_lowercase()), ..plain(10, 5) }.encode();
    let mut category = Record::new(Kind::Category, 5);
    category.name = Some("lamps".into());
    for (index, record, reason) in [
        (10, &moved[..], "is not one of this city, class and serial"),
        (10, &lower, "is not one of this city, class and serial"),
        (10, &category.encode(), "category record"),
        (10, &[0xa0], "lacks a field"),
        (10, b"", "expected"),
        (1, &plain(1, 5).encode(), "overlap"),
        (1_000, &plain(1_000, 5).encode(), "limit"),
    ] {
        let error = by_hand(keep, three, Some((index, record))).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
