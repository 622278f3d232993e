//! A small network made in memory, without ledger or consensus: records are put where a test wants them, headers certified by
//! whom it wants. What the ledger would never write can be written here.
#![allow(dead_code)] // every test file uses its own part
use cityid_core::answer::{self, Answer, CertifiedHeader};
use cityid_core::block::{header_hash, Header, ValidatorSet};
use cityid_core::code::{Category, City, Class, Code, Model, Org, Serial, Subject, Use};
use cityid_core::genesis::{FoundingCity, Genesis, Parameters};
use cityid_core::hash::{sha256, Hash};
use cityid_core::index::{Snapshot, StateMap};
use cityid_core::log;
use cityid_core::map_key::{path_of, Kind, MapKey};
use cityid_core::record::{record_hash, Children, Record, Status, Table};
use cityid_core::state::Proof;
use cityid_core::table::{Leaf, SealedTable, TableProof, MILLION_DEPTH, THOUSAND_DEPTH};
use cityid_core::trust::Trust;
use cityid_core::vote::{CommitCertificate, CommitSignature};
use ed25519_zebra::{SigningKey, VerificationKeyBytes};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const START_MS: u64 = 1_700_000_000_000;
pub const CITY: &str = "130100";
pub const CLASS: &str = "010203";
pub const DISTRICT: &str = "130102";
pub const NAMESPACE: &str = "130100.A7K2/lamps";
/// Registered, not registered, of another organisation, of no range, and in each kind of sealed range.
pub const ALIASED: [u32; 8] = [5, 7, 9, 3_000, 1_000, 1_001, 2_001, 2_000_007];

/// Key `purpose` of city or organisation `number`; the same in every run.
pub fn secret(number: usize, purpose: u8) -> SigningKey {
    SigningKey::from(sha256(&[b'k', number as u8, (number >> 8) as u8, purpose]))
}

pub fn public(number: usize, purpose: u8) -> [u8; 32] {
    VerificationKeyBytes::from(&secret(number, purpose)).into()
}

pub fn genesis_of(cities: usize) -> Genesis {
    let known = ["110000", "130100", "330100", "440300"].map(str::to_owned);
    let codes = known.into_iter().chain((0..).map(|number| format!("{}", 500_000 + number))).take(cities);
    let founding = |(number, city): (usize, String)| FoundingCity {
        name: format!("City {city}"),
        city: City::parse(&city).unwrap(),
        consensus: public(number, 2),
        checkpoint: public(number, 3),
        tls: public(number, 4),
        transaction: vec![public(number, 1)],
    };
    Genesis {
        name: "Test network".to_owned(),
        test: true,
        time_ms: START_MS,
        parameters: Parameters::default(),
        cities: codes.enumerate().map(founding).collect(),
    }
}

pub fn city() -> City {
    City::parse(CITY).unwrap()
}

pub fn class() -> Class {
    Class::parse(CLASS).unwrap()
}

pub fn serial(number: u32) -> Serial {
    Serial::new(number).unwrap()
}

pub fn org(text: &str) -> Org {
    Org::parse(text).unwrap()
}

pub fn category() -> Category {
    Category { use_: Use::parse("60").unwrap(), class: class(), model: Model::parse("1").unwrap() }
}

/// The code of an item of organisation A7K2.
pub fn code(number: u32) -> String {
    code_of("A7K2", number)
}

pub fn code_of(holder: &str, number: u32) -> String {
    Code::Item { city: city(), org: Some(org(holder)), category: category(), serial: serial(number) }.text()
}

pub fn item_record(code: &str, version: u64) -> Record {
    let mut record = Record::new(Kind::Item, 1);
    record.version = version;
    record.previous = (version > 1).then_some([9; 32]);
    record.previous_height = (version > 1).then_some(1);
    record.code = Some(code.to_owned());
    record
}

/// A name that a code has besides.
pub fn alias_record(code: &str) -> Record {
    let mut record = Record::new(Kind::Alias, 1);
    record.code = Some(code.to_owned());
    record
}

pub fn district_record(city: &str) -> Record {
    let mut record = Record::new(Kind::District, 1);
    record.administered_by = Some(City::parse(city).unwrap());
    record
}

/// The alias of a number in `NAMESPACE`, as a subject.
pub fn named(number: u32) -> String {
    format!("alias:{NAMESPACE}:LD:{number}")
}

/// What stands on the labels of a district that had numbers of its own.
pub fn old_number(number: u32) -> String {
    format!("{DISTRICT}{CLASS}{number:09}")
}

/// A held range whose items are single, or in a table.
pub fn range_record(kind: Kind, table: Option<Table>) -> Record {
    let mut record = Record::new(kind, 1);
    record.holder = Some(format!("MA.156.{CITY}.A7K2"));
    record.children = if table.is_some() { Children::Table } else { Children::Items };
    record.table = table;
    record
}

pub fn organisation_record(name: &str, number: usize) -> Record {
    let mut record = Record::new(Kind::Organisation, 1);
    record.name = Some(name.to_owned());
    record.quota = Some(10_000_000);
    record.children = Children::Map;
    record.keys = vec![cityid_core::record::KeyEntry {
        suite: cityid_core::hash::Suite::Ed25519Sha256,
        purpose: cityid_core::record::Purpose::Transaction,
        key: public(number, 1),
        from: 1,
        until: None,
    }];
    record
}

/// A sealed table with its leaves, as whoever keeps the table file has it.
pub struct File {
    pub table: SealedTable,
    pub leaves: BTreeMap<u32, Leaf>,
}

impl File {
    pub fn new(depth: u8, records: impl IntoIterator<Item = (u32, Record)>) -> File {
        let leaf = |(index, record): (u32, Record)| {
            let salt = sha256(&index.to_be_bytes())[..16].try_into().unwrap();
            (index, Leaf { salt, record: record.encode() })
        };
        let leaves: BTreeMap<u32, Leaf> = records.into_iter().map(leaf).collect();
        let table = SealedTable::build(depth, leaves.iter().map(|(index, leaf)| (*index, leaf.hash(*index)))).unwrap();
        File { table, leaves }
    }

    pub fn summary(&self, depth: u8, overrides: u64) -> Table {
        Table { root: self.table.root(), depth, version: 1, height: 0, overrides, digest: [3; 32], count: self.table.count() }
    }

    pub fn prove(&self, index: u32) -> TableProof {
        self.table.prove(index, self.leaves.get(&index).cloned()).unwrap()
    }
}

pub struct World {
    pub genesis: Genesis,
    pub state: StateMap,
    pub headers: Vec<Vec<u8>>,
    pub files: Vec<File>,
    pending: Vec<(Hash, Option<Arc<[u8]>>)>,
}

impl World {
    /// Block 0 of a network of so many cities.
    pub fn new(cities: usize) -> World {
        let genesis = genesis_of(cities);
        let mut world = World { state: StateMap::new(1), headers: Vec::new(), files: Vec::new(), pending: Vec::new(), genesis };
        for (key, record) in world.genesis.records() {
            world.pending.push((path_of(&key), Some(record.into())));
        }
        world.commit();
        world
    }

    /// The network of most tests, at height 5. P39's cases all stand in class 010203 of 130100:
    ///
    /// thousand 0 of million 0 holds single items; 1 is sealed without overrides; 2 is sealed with overrides; 3 is not allocated;
    /// million 1 is held whole; million 2 is sealed; million 3 is not allocated. District 130102 belongs to 130100, and the items of
    /// `ALIASED` have two aliases each.
    pub fn with_records(cities: usize) -> World {
        let mut world = World::new(cities);
        world.put(&MapKey::Organisation(city(), org("A7K2")), &organisation_record("Lighting office", 200));
        world.put(&MapKey::Organisation(city(), org("B8L3")), &organisation_record("Parks office", 201));
        let mut name = Record::new(Kind::Category, 1);
        name.name = Some("Street lamp".to_owned());
        world.put(&MapKey::Category(city(), Some(org("A7K2")), category()), &name);
        world.put(&MapKey::Category(city(), None, category()), &name);
        let mut class_record = Record::new(Kind::Class, 1);
        class_record.children = Children::Map;
        class_record.allocation = Some(cityid_core::record::Allocation { next_million: 3, open_million: Some(0), next_thousand: 3 });
        world.put(&MapKey::Class(city(), class()), &class_record);
        let mut open = Record::new(Kind::Million, 1);
        open.children = Children::Map;
        world.put(&MapKey::Million(city(), class(), serial(0)), &open);

        world.put(&MapKey::Thousand(city(), class(), serial(0)), &range_record(Kind::Thousand, None));
        for number in [5, 6] {
            world.put_item(number, &item_record(&code(number), 1));
        }
        let mut suspended = item_record(&code(8), 2);
        suspended.status = Status::Suspended;
        suspended.status_by_city = true;
        world.put_item(8, &suspended);
        world.put_item(9, &item_record(&code_of("B8L3", 9), 1));
        let of_city = Code::Item { city: city(), org: None, category: category(), serial: serial(10) };
        world.put_item(10, &item_record(&of_city.text(), 1));

        world.seal(Kind::Thousand, 1_000, 0, [(0, item_record(&code(1_000), 1)), (2, item_record(&code(1_002), 1))]);
        let leaves = [(0, 1), (1, 3), (3, 1), (4, 1)].map(|(index, version)| (index, item_record(&code(2_000 + index), version)));
        world.seal(Kind::Thousand, 2_000, 4, leaves);
        for (number, version) in [(2_000, 2), (2_001, 2), (2_002, 1), (2_003, 1)] {
            let mut own = item_record(&code(number), version);
            own.status = Status::Suspended;
            world.put_item(number, &own);
        }
        world.put(&MapKey::Million(city(), class(), serial(1_000_000)), &range_record(Kind::Million, None));
        world.put_item(1_000_007, &item_record(&code(1_000_007), 1));
        world.seal(Kind::Million, 2_000_000, 0, [(7, item_record(&code(2_000_007), 1)), (999_999, item_record(&code(2_999_999), 1))]);

        let mut foreign = Record::new(Kind::Foreign, 1);
        foreign.claims = vec![format!("MA.156.{CITY}.A7K2")];
        world.put(&MapKey::Foreign(FOREIGN), &foreign);
        world.put(&MapKey::District(City::parse(DISTRICT).unwrap()), &district_record(CITY));
        for number in ALIASED {
            world.put(&MapKey::Alias(NAMESPACE, format!("LD:{number}").as_bytes()), &alias_record(&code(number)));
            world.put(&MapKey::Alias(CITY, old_number(number).as_bytes()), &alias_record(&code(number)));
        }
        for _ in 1..=5 {
            world.commit();
        }
        world
    }

    pub fn put(&mut self, key: &MapKey<'_>, record: &Record) {
        self.pending.push((key.path(), Some(record.encode().into())));
    }

    pub fn put_item(&mut self, number: u32, record: &Record) {
        self.put(&MapKey::Item(city(), class(), serial(number)), record);
    }

    pub fn seal(&mut self, kind: Kind, base: u32, overrides: u64, leaves: impl IntoIterator<Item = (u32, Record)>) {
        let depth = if kind == Kind::Million { MILLION_DEPTH } else { THOUSAND_DEPTH };
        let file = File::new(depth, leaves);
        let record = range_record(kind, Some(file.summary(depth, overrides)));
        let key = match kind {
            Kind::Million => MapKey::Million(city(), class(), serial(base)),
            _ => MapKey::Thousand(city(), class(), serial(base)),
        };
        self.put(&key, &record);
        self.files.push(file);
    }

    /// Makes the next header, 10 s after the last, over everything that was put.
    pub fn commit(&mut self) -> Header {
        let candidate = self.state.candidate(std::mem::take(&mut self.pending)).unwrap();
        let snapshot = self.state.commit(candidate).unwrap();
        let height = self.headers.len() as u64;
        let set = self.validators().hash();
        let header = Header {
            version: 1,
            genesis: self.genesis.hash(),
            height,
            time_ms: START_MS + height * 10_000,
            parent: self.headers.last().map_or([0; 32], |parent| header_hash(parent)),
            batches_root: log::empty_root(),
            transactions_root: log::empty_root(),
            receipts_root: log::empty_root(),
            state_root: snapshot.root(),
            validators: set,
            next_validators: set,
            proposer: self.genesis.cities[0].city,
        };
        self.headers.push(header.encode());
        header
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.state.current()
    }

    pub fn validators(&self) -> ValidatorSet {
        self.genesis.validators().unwrap()
    }

    pub fn trust(&self) -> Trust {
        Trust::from_genesis(&self.genesis).unwrap()
    }

    /// Time of the last header.
    pub fn now_ms(&self) -> u64 {
        Header::decode(self.headers.last().unwrap()).unwrap().time_ms
    }

    /// The last header, signed by just a quorum.
    pub fn block(&self) -> CertifiedHeader {
        let quorum = self.validators().quorum() as u16;
        self.block_signed_by(&(0..quorum).collect::<Vec<_>>())
    }

    pub fn block_signed_by(&self, signers: &[u16]) -> CertifiedHeader {
        certify(&self.headers, self.genesis.hash(), self.genesis.cities.len(), signers)
    }

    /// What the tables at hand hold.
    pub fn lookup(&self, table: &Table, index: u32) -> Option<TableProof> {
        self.files.iter().find(|file| file.table.root() == table.root).map(|file| file.prove(index))
    }

    pub fn answer(&self, subject: &str) -> Answer {
        let subject = Subject::parse(subject, None).unwrap();
        answer::build_with_tables(&subject, &*self.snapshot(), &self.block(), &|table, index| self.lookup(table, index)).unwrap()
    }

    pub fn answer_without_tables(&self, subject: &str) -> Answer {
        let subject = Subject::parse(subject, None).unwrap();
        answer::build(&subject, &*self.snapshot(), &self.block()).unwrap()
    }

    /// An answer that shows these keys, truly and with a good proof, whatever the rules say should be shown.
    pub fn answer_showing(&self, subject: &str, keys: &[MapKey<'_>], table: Option<TableProof>) -> Answer {
        let snapshot = self.snapshot();
        let records = keys.iter().map(|key| (key.kind(), snapshot.get(&key.path()).map(|record| record.to_vec()))).collect();
        Answer { subject: subject.to_owned(), records, proof: self.prove(keys), table, block: self.block() }
    }

    pub fn prove(&self, keys: &[MapKey<'_>]) -> Proof {
        let mut paths: Vec<Hash> = keys.iter().map(MapKey::path).collect();
        paths.sort_unstable();
        paths.dedup();
        self.snapshot().prove(&paths).unwrap()
    }
}

/// Certifies the last of some headers by cities of [`genesis_of`].
pub fn certify(headers: &[Vec<u8>], genesis: Hash, cities: usize, signers: &[u16]) -> CertifiedHeader {
    let height = headers.len() as u64 - 1;
    let leaves: Vec<Hash> = headers.iter().map(|header| log::leaf_hash(header)).collect();
    let mut certificate =
        CommitCertificate { height, round: 1, value: log::root(&leaves), validators: cities as u16, signatures: Vec::new() };
    let message = certificate.sign_bytes(&genesis);
    for &index in signers {
        let signature = secret(usize::from(index), 2).sign(&message).to_bytes();
        certificate.signatures.push(CommitSignature { index, signature });
    }
    CertifiedHeader::from_certificate(headers.last().unwrap().clone(), inclusion_of_last(&leaves), &certificate)
}

/// RFC 9162 section 2.1.3.1, for the last leaf: at each split the left half is the sibling.
fn inclusion_of_last(leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let split = leaves.len().next_power_of_two() / 2;
    let mut path = inclusion_of_last(&leaves[split..]);
    path.push(log::root(&leaves[..split]));
    path
}

/// The next version of a record, as the ledger writes it.
pub fn next_version(record: &Record, height: u64) -> Record {
    let mut next = record.clone();
    next.version += 1;
    next.previous = Some(record_hash(&record.encode()));
    next.previous_height = Some(record.height);
    next.height = height;
    next
}

pub const FOREIGN: &str = "MA.156.430121.1006/10.29000000.PG100001";
