//! Table files on disk: whole or not there. Each damage is done to the file itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use cityid_core::code::{City, Class, Model, Org, Serial, Use};
use cityid_core::error::Error;
use cityid_core::hash::hex;
use cityid_core::ledger::operation::Range;
use cityid_core::record::{Status, Table};
use cityid_core::table::build::Spec;
use cityid_tables::{TableError, TableFile, TableWriter, Tables};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const BASE: u32 = 2_000_000;

/// A folder of its own under Cargo's, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn spec() -> Spec {
    let range = Range::new(City::parse("130100").unwrap(), Class::parse("010203").unwrap(), Serial::new(BASE).unwrap(), 1_000_000).unwrap();
    Spec { genesis: [3; 32], range, org: Some(Org::parse("A7K2").unwrap()), seed: [9; 32], height: 5 }
}

fn rows(count: u32) -> Vec<u8> {
    let lines = (0..count).map(|at| format!("{},60,LAMP,pole {at}\n", BASE + 2 * at));
    format!("serial,use,model,pole\n{}", lines.collect::<String>()).into_bytes()
}

fn write(path: &Path, count: u32) -> TableFile {
    let mut writer = TableWriter::new(path, spec(), None).unwrap();
    writer.add_rows(&rows(count), &[1; 32]).unwrap();
    writer.add_rows(b"", &[1; 32]).unwrap();
    writer.finish().unwrap()
}

fn sealed(file: &TableFile) -> Table {
    let head = file.index().head();
    Table {
        root: file.index().root(),
        depth: head.depth(),
        version: head.version,
        height: 6,
        overrides: 0,
        digest: file.index().digest(),
        count: u64::from(head.count),
    }
}

#[test]
fn what_is_written_is_what_is_opened() {
    let folder = Folder::new();
    let written = write(&folder.at("t"), 5_000);
    let opened = TableFile::open(&folder.at("t")).unwrap();
    assert!(written.index() == opened.index());
    assert_eq!(folder.names(), ["t"]);
    for index in [0, 1, 2, 1_023, 1_024, 9_998, 9_999, 10_000, 999_999] {
        let proof = opened.prove(index).unwrap();
        assert_eq!(proof.verify(&opened.index().root(), 20, index), Ok(()));
        assert_eq!(proof.leaf.is_some(), index < 10_000 && index % 2 == 0);
        assert_eq!(opened.record(index).unwrap(), proof.leaf.map(|leaf| leaf.record));
    }
    assert!(matches!(opened.prove(1_000_000), Err(TableError::Core(Error::Malformed(_)))));
}

#[test]
fn what_does_not_fit_in_memory_gives_the_same_file() {
    let folder = Folder::new();
    // No order at all: several segments, each in a file that has no name any more.
    let mut writer = TableWriter::new(&folder.at("spilled"), spec(), None).unwrap().with_memory(50_000);
    let serials: Vec<u32> = (0..30_000).map(|at| BASE + at * 3 + 1).collect();
    let (use_, model) = (Use::parse("60").unwrap(), Model::parse("LAMP").unwrap());
    let mut backwards = String::from("serial,use,model,a,b\n");
    for at in (0..4_000).rev() {
        backwards.push_str(&format!("{},60,LAMP,{at},{}\n", BASE + at * 3, if at % 10 > 4 { "x" } else { "" }));
    }
    for chunk in backwards.as_bytes().chunks(10_000) {
        writer.add_rows(chunk, &[1; 32]).unwrap();
    }
    writer.add_rows(b"", &[1; 32]).unwrap();
    for list in serials.chunks(701).rev() {
        writer.add_list(use_, model, list, Status::Active).unwrap();
    }
    assert!(writer.segments() > 4, "{}", writer.segments());
    let spilled = writer.finish().unwrap();
    assert_eq!(folder.names(), ["spilled"]);
    let mut writer = TableWriter::new(&folder.at("again"), spec(), None).unwrap();
    writer.add_list(use_, model, &serials, Status::Active).unwrap();
    let mut lines: Vec<&str> = backwards.lines().collect();
    lines[1..].reverse();
    writer.add_rows(lines.join("\n").as_bytes(), &[1; 32]).unwrap();
    writer.add_rows(b"", &[1; 32]).unwrap();
    // The salts of attributes follow from those of the call and the serial, so both ways make one file.
    assert_eq!(writer.finish().unwrap().index().sealed(), spilled.index().sealed());
    // A version after it, merged from disk.
    let mut writer = TableWriter::new(&folder.at("next"), spec(), Some(&folder.at("spilled"))).unwrap();
    writer.add_run(use_, model, Serial::new(BASE + 999_990).unwrap(), Serial::new(BASE + 999_999).unwrap(), 1, Status::Active).unwrap();
    let next = writer.finish().unwrap();
    assert_eq!(next.index().head().previous, Some(spilled.index().digest()));
    assert_eq!(next.index().head().count, spilled.index().head().count + 10);
    assert_eq!(next.record(3).unwrap(), spilled.record(3).unwrap());
}

#[test]
fn a_refused_table_leaves_nothing() {
    let folder = Folder::new();
    let mut writer = TableWriter::new(&folder.at("t"), spec(), None).unwrap();
    writer.add_rows(b"serial,use,model\n2000001,60,LAMP\n", &[1; 32]).unwrap();
    assert!(matches!(writer.finish(), Err(TableError::Core(_))));
    assert_eq!(folder.names(), Vec::<String>::new());
    let nowhere = folder.at("no/such/t");
    let writer = TableWriter::new(&nowhere, spec(), None).unwrap();
    assert!(matches!(writer.finish(), Err(TableError::Storage(message)) if message.contains("no/such")));
    assert!(matches!(TableFile::open(&folder.at("none")), Err(TableError::Storage(_))));
    assert!(matches!(TableWriter::new(&folder.at("t"), spec(), Some(&folder.at("none"))), Err(TableError::Storage(_))));
    fs::write(folder.at("junk"), b"not a table").unwrap();
    assert!(matches!(TableFile::open(&folder.at("junk")), Err(TableError::Core(Error::Malformed(_)))));
}

#[test]
fn a_folder_keeps_tables_by_digest_and_opens_them_by_their_index() {
    let folder = Folder::new();
    let tables = Tables::open(&folder.0).unwrap();
    let one = write(&folder.at("one"), 3_000);
    let digest = one.index().digest();
    let kept = tables.add(&folder.at("one")).unwrap();
    assert_eq!(folder.names(), [format!("{}.index", hex(&digest)), format!("{}.table", hex(&digest))]);
    assert!(tables.digests() == [digest] && kept.index() == one.index());
    // The same again is the same.
    write(&folder.at("again"), 3_000);
    tables.add(&folder.at("again")).unwrap();
    tables.add(kept.path()).unwrap();
    assert_eq!(folder.names().len(), 2);
    assert!(tables.lookup(&sealed(&one), 4).unwrap().leaf.is_some() && tables.lookup(&sealed(&one), 5).unwrap().leaf.is_none());
    assert!(tables.lookup(&Table { digest: [0; 32], ..sealed(&one) }, 4).is_none());
    // Opened again: by the index, and without one, and with a damaged one.
    let index = folder.at(&format!("{}.index", hex(&digest)));
    for damage in [None, Some(Vec::new()), Some(vec![7; 100])] {
        if let Some(bytes) = &damage {
            fs::write(&index, bytes).unwrap();
        }
        let again = Tables::open(&folder.0).unwrap();
        assert!(again.get(&digest).unwrap().index() == one.index());
        assert!(again.damaged().is_empty());
    }
    fs::remove_file(&index).unwrap();
    assert_eq!(Tables::open(&folder.0).unwrap().digests(), [digest]);
    assert!(index.exists(), "it is written anew");
}

#[test]
fn a_damaged_table_is_not_there() {
    let folder = Folder::new();
    let tables = Tables::open(&folder.0).unwrap();
    let file = write(&folder.at("t"), 3_000);
    let (table, digest) = (sealed(&file), file.index().digest());
    let path = tables.add(&folder.at("t")).unwrap().path().to_owned();
    let good = fs::read(&path).unwrap();
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    };
    let middle = good.len() / 2;
    // Found by the read that meets it; a read elsewhere does not. From then on the table is left out and named.
    damage(&|bytes| bytes[middle] ^= 1);
    let opened = Tables::open(&folder.0).unwrap();
    assert!(opened.lookup(&table, 0).is_some());
    let struck = (0..6_000).find(|index| opened.lookup(&table, *index).is_none()).unwrap();
    assert!((2_000..4_000).contains(&struck), "{struck}");
    assert!(opened.lookup(&table, 0).is_none() && opened.get(&digest).is_none());
    assert!(opened.damaged()[0].1.contains("damaged"), "{:?}", opened.damaged());
    assert_eq!(opened.damaged()[0].0, path);
    // Cut, and grown: found at the start.
    for change in [&|bytes: &mut Vec<u8>| bytes.truncate(1_000) as _, &|bytes: &mut Vec<u8>| bytes.push(0)] as [&dyn Fn(&mut Vec<u8>); 2] {
        damage(change);
        let opened = Tables::open(&folder.0).unwrap();
        assert!(opened.get(&digest).is_none() && opened.damaged().len() == 1);
        assert!(opened.lookup(&table, 0).is_none());
    }
    // Without the index the whole file is read: then any damage is found at the start.
    fs::remove_file(path.with_extension("index")).unwrap();
    for at in [0, 40, 150, middle, good.len() - 1] {
        damage(&|bytes| bytes[at] ^= 1);
        let opened = Tables::open(&folder.0).unwrap();
        assert!(opened.get(&digest).is_none() && opened.damaged().len() == 1, "byte {at}");
        fs::remove_file(path.with_extension("index")).ok();
    }
    // A good copy takes its place again.
    damage(&|_| ());
    let opened = Tables::open(&folder.0).unwrap();
    assert!(opened.damaged().is_empty() && opened.lookup(&table, struck).is_some(), "the control");
    damage(&|bytes| bytes[middle] ^= 1);
    assert!(opened.lookup(&table, struck).is_none());
    write(&folder.at("copy"), 3_000);
    opened.add(&folder.at("copy")).unwrap();
    assert!(opened.damaged().is_empty() && opened.lookup(&table, struck).is_some());
}
