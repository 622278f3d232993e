//! Golden bytes of the past: histories (P74), pages of records with their versions (P77), and blocks for audits (P78).
use super::Files;
use crate::chain::{Chain, CITIES};
use crate::support::{city, class, code, item_record, next_version, range_record, serial, World};
use cityid_core::answer::{Options, VerdictKind};
use cityid_core::audit::{Auditor, Block, Page};
use cityid_core::history::{self, History, LoggedHeader};
use cityid_core::listing::Prefix;
use cityid_core::log::{leaf_hash, Log};
use cityid_core::map_key::{Kind, MapKey};
use cityid_core::record::{Record, Status};
use serde_json::{json, Value};

/// Everything of this file.
pub fn past(files: &mut Files) {
    histories(files);
    blocks(files);
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// Item 5 with four versions at the heights 1, 6, 7 and 7; item 1000, which a table holds and a record overrides at height 6. The
/// tip is 8.
fn world() -> (World, Vec<Record>) {
    let mut world = World::with_records(4);
    let mut versions = vec![item_record(&code(5), 1)];
    let mut add = |height, status, reason| {
        let mut next = next_version(versions.last().unwrap(), height);
        (next.status, next.reason, next.basis) = (status, Some(reason), Some([8; 32]));
        versions.push(next);
    };
    add(6, Status::Suspended, 7);
    add(7, Status::Active, 8);
    add(7, Status::Retired, 9);

    let mut own = next_version(&item_record(&code(1_000), 1), 6);
    own.status = Status::Suspended;
    let key = MapKey::Thousand(city(), class(), serial(1_000));
    let sealed = range_record(Kind::Thousand, Some(world.files[0].summary(10, 0)));
    let mut counted = next_version(&sealed, 6);
    counted.table.as_mut().unwrap().overrides = 1;
    world.put_item(5, &versions[1]);
    world.put_item(1_000, &own);
    world.put(&key, &counted);
    world.commit();
    world.put_item(5, &versions[3]);
    world.commit();
    world.commit();
    (world, versions)
}

fn logged(world: &World, heights: &[usize]) -> Vec<LoggedHeader> {
    let mut log = Log::new();
    world.headers.iter().for_each(|header| log.append(leaf_hash(header)));
    let entry =
        |height: &usize| LoggedHeader { header: world.headers[*height].clone(), path: log.inclusion(*height as u64, log.size()).unwrap() };
    heights.iter().map(entry).collect()
}

fn histories(files: &mut Files) {
    let (world, versions) = world();
    let before = |newest: usize, oldest: usize| versions[oldest - 1..newest].iter().rev().map(Record::encode).collect::<Vec<_>>();
    let leaf = item_record(&code(1_000), 1).encode();
    let whole = History { answer: Some(world.answer(&code(5))), versions: before(3, 1), headers: logged(&world, &[1, 6, 7]) };
    let short = History { versions: before(3, 3), headers: logged(&world, &[7]), ..whole.clone() };
    let part = History { answer: None, versions: before(2, 1), headers: logged(&world, &[1, 6]) };
    let sealed = History { answer: Some(world.answer(&code(1_000))), versions: vec![leaf], headers: logged(&world, &[1, 6]) };
    let absent = History { answer: Some(world.answer(&code(7))), ..History::default() };
    for (name, history, shown) in [("whole", whole, 4), ("short", short.clone(), 2), ("sealed", sealed, 2), ("absent", absent, 0)] {
        let told = history::verify(&history, &world.trust(), &Options::default());
        assert_ne!(told.verdict.verdict, VerdictKind::Invalid, "{name}: {told:#?}");
        assert_eq!((told.versions.len(), told.is_complete()), (shown, name != "short"), "{name}");
        files.insert(format!("history-{name}.hex"), history.encode());
        files.insert(format!("history-{name}.json"), history.to_json().into_bytes());
        files.insert(format!("told-{name}.json"), pretty(&told.to_json()));
    }
    let mut told = history::verify(&short, &world.trust(), &Options::default());
    told.extend(&part).unwrap();
    assert!(told.is_complete());
    files.insert("history-part.hex".to_owned(), part.encode());
    files.insert("history-part.json".to_owned(), part.to_json().into_bytes());

    let keys = [
        (MapKey::City(city()), Vec::new()),
        (MapKey::Thousand(city(), class(), serial(0)), Vec::new()),
        (MapKey::Item(city(), class(), serial(5)), before(3, 1)),
        (MapKey::Item(city(), class(), serial(6)), Vec::new()),
    ];
    let page = Page::build(&*world.snapshot(), &world.block(), keys.into_iter().map(|(key, versions)| (key.encode(), versions))).unwrap();
    assert_eq!(page.verify(&world.trust()).unwrap().1.len(), 4);
    files.insert("page-records.hex".to_owned(), page.encode());
    let empty = Page::build(&*world.snapshot(), &world.block(), []).unwrap();
    assert_eq!(empty.verify(&world.trust()).unwrap().1, []);
    files.insert("page-empty.hex".to_owned(), empty.encode());
}

/// Three blocks of a ledger: without transactions, with one, and with one that is committed and one that is refused.
fn blocks(files: &mut Files) {
    let mut chain = Chain::new(|_| {});
    let signer = format!("{}/transaction", CITIES[1]);
    let entry = chain.entry("MA.156.130100.A7K2", "transaction", "office");
    let admit =
        json!([{"op": "admit_organisation", "city": "130100", "org": "A7K2", "name": "Lighting office", "quota": 2_000, "keys": [entry]}]);
    let allocate = json!([{"op": "allocate_range", "city": "130100", "org": "A7K2", "class": "010203", "size": 1_000, "reason": 7}]);
    let greedy = json!([{"op": "allocate_range", "city": "130100", "org": "A7K2", "class": "010203", "size": 1_000_000}]);
    let admitted = chain.signed(&admit, &[&signer]);
    let sent = [chain.signed(&allocate, &["office"]), chain.signed(&greedy, &["office"])];
    let decided = [chain.decide(&[]), chain.decide(&[admitted]), chain.decide(&sent)];
    let trust = cityid_core::trust::Trust::from_genesis(chain.ledger.genesis()).unwrap();
    let mut log = Log::new();
    log.append(leaf_hash(&Chain::new(|_| {}).ledger.tip().1));
    let peaks = log.frontier().peaks().to_vec();
    let set = trust.validators.encode();
    let mut auditor = Auditor::new(trust.genesis, 1, peaks.clone(), &[&set]).unwrap();
    files.insert("audit-genesis.hex".to_owned(), trust.genesis.to_vec());
    files.insert("audit-peaks.hex".to_owned(), peaks.concat());
    files.insert("audit-validators.hex".to_owned(), set);
    for (height, one) in (1..).zip(&decided) {
        let block = Block {
            header: &one.header,
            certificate: &one.certificate,
            receipts: &one.receipts,
            batches: one.batches.iter().map(Vec::as_slice).collect(),
        };
        let told = auditor.block(&block, &Prefix::parse("MA.156.130100").unwrap()).unwrap();
        files.insert(format!("block-{height}.hex"), block.encode());
        files.insert(format!("block-{height}-told.json"), pretty(&told));
    }
    files.insert("audit-log-root.hex".to_owned(), auditor.log().1.to_vec());
}
