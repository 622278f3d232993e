//! The distribution rule under random operations, against a second, simpler statement of who may do what.
//!
//! Transactions are executed without signatures: whoever is named as a signer has signed. Three cities: 130100 acts for itself,
//! 330100 is administered by 130100, 440300 is suspended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use cityid_core::code::{Category, City, Class, Code, Model, Org, Serial, Use};
use cityid_core::genesis::Parameters;
use cityid_core::hash::{sha256, Hash};
use cityid_core::index::StateMap;
use cityid_core::ledger::execute::{execute, Executed};
use cityid_core::ledger::operation::{Action, Holder, ItemUpdate, KeyProof, NewItem, NewTable, Operation, Range, StorageReceipt, Target};
use cityid_core::ledger::overlay::{last_versions, Change};
use cityid_core::ledger::stored::{Outcome, Receipt};
use cityid_core::ledger::transaction::{Body, Transaction};
use cityid_core::map_key::{path_of, Kind, MapKey};
use cityid_core::record::{record_hash, Allocation, Children, Purpose, Record, Status, Table};
use cityid_core::table::storage_receipt_message;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CITIES: [&str; 3] = ["130100", "330100", "440300"];
const ORGS: [&str; 2] = ["A7K2", "B7K2"];
/// Positions of the three cities in the genesis of `support`.
const NUMBERS: [usize; 3] = [1, 2, 3];
const HEIGHT: u64 = 7;

/// Keys that may sign: of the three cities, then eight that organisations and items may register.
fn keys() -> Vec<[u8; 32]> {
    NUMBERS.iter().copied().chain(300..308).map(|number| support::public(number, 1)).collect()
}

fn city(choice: u8) -> City {
    City::parse(CITIES[usize::from(choice) % 3]).unwrap()
}

/// Mostly the first city, so that what is drawn meets what is there.
fn some_city(choice: u8) -> City {
    city([0, 0, 0, 0, 1, 2][usize::from(choice) % 6])
}

fn holder(choice: u8) -> Holder {
    let org = [Some(ORGS[0]), Some(ORGS[0]), Some(ORGS[1]), None][usize::from(choice / 6) % 4].map(|org| Org::parse(org).unwrap());
    Holder { city: some_city(choice), org }
}

fn class(choice: u8) -> Class {
    Class::parse(["010203", "010203", "010203", "010204"][usize::from(choice) % 4]).unwrap()
}

fn category(choice: u8) -> Category {
    category_of(class(choice), usize::from(choice) / 4 % 4 / 3)
}

fn category_of(class: Class, model: usize) -> Category {
    Category { use_: Use::parse("60").unwrap(), class, model: Model::parse(["0", "X1"][model]).unwrap() }
}

fn key_proof(choice: u8) -> KeyProof {
    let purpose = [Purpose::Transaction, Purpose::Transaction, Purpose::Recovery, Purpose::Consensus][usize::from(choice) / 32 % 4];
    // Of sixteen, one begins later and one ends.
    let (from, until) = [(HEIGHT + 3, None), (0, Some(HEIGHT + 5))].get(usize::from(choice) / 8 % 16).copied().unwrap_or((0, None));
    KeyProof { purpose, key: support::public(300 + usize::from(choice) % 8, 1), from, until, possession: [0; 64] }
}

/// One of the first three thousands.
fn thousand(who: u8, what: u8, number: u16) -> Range {
    Range { city: some_city(who), class: class(what), base: support::serial(u32::from(number) % 3 * 1_000), size: 1_000 }
}

/// Two tables of a range: items of every holder and category of its city and class, the second table with one more.
fn sealed_file(range: &Range, which: u8) -> support::File {
    let leaf = |index: u32| {
        let org = ORGS.get(index as usize % 3).map(|org| Org::parse(org).unwrap());
        let code = Code::Item {
            city: range.city,
            org,
            category: category_of(range.class, index as usize / 3),
            serial: support::serial(range.base.get() + index),
        };
        (index, support::item_record(&code.text(), u64::from(1 + index % 2 * 2)))
    };
    support::File::new(10, (0..4 + u32::from(which % 2)).map(leaf))
}

fn table(file: &support::File) -> NewTable {
    NewTable { root: file.table.root(), digest: [3; 32], count: file.table.count() }
}

/// By city `number` of the genesis, in whose place among the keys `NUMBERS` stands.
fn receipt(range: &Range, version: u64, table: &NewTable, number: usize) -> StorageReceipt {
    let message = storage_receipt_message(&[0; 32], range, version, table);
    let city = support::genesis_of(4).cities[number].city;
    StorageReceipt { city, signature: support::secret(number, 3).sign(&message).to_bytes() }
}

/// Six numbers say what an operation does, and who signs its transaction.
type Draw = (u8, u8, u8, u8, u16, u16);

fn action((kind, who, what, which, number, _): Draw) -> Action {
    let status = Status::parse(u64::from(which) % 4).unwrap();
    let expected_version = 1 + u64::from(what) % 3;
    let serial = support::serial(u32::from(number) % 2_500);
    let subject = || if number % 3 == 0 { some_item(who, which, number) } else { holder(who).code() };
    match kind % 24 {
        0 => Action::AdmitOrganisation {
            city: some_city(who),
            org: Org::parse(ORGS[usize::from(what) % 2]).unwrap(),
            name: "n".to_owned(),
            quota: [0, 1_000, 3_000, i64::MAX as u64][usize::from(which) % 4],
            keys: vec![key_proof(number as u8)],
            rate: None,
            commitments: Vec::new(),
        },
        1 => Action::AllocateRange { holder: holder(who), class: class(what), size: if which % 8 == 0 { 1_000_000 } else { 1_000 } },
        2 => Action::RegisterCategory { holder: holder(who), category: category(what), name: "n".to_owned(), schema: None },
        3 | 4 => {
            let item = |serial| NewItem {
                serial,
                status: Status::parse(u64::from(which) % 2).unwrap(),
                commitments: Vec::new(),
                services: Vec::new(),
            };
            let serial = if what < 128 { serial } else { support::serial(u32::from(number) % 8) };
            let next = support::serial(serial.get() + 1);
            Action::RegisterItems { holder: holder(who), category: category(what), items: vec![item(serial), item(next)] }
        }
        5 => {
            let serial = if what < 64 { serial } else { support::serial(u32::from(number) % 8) };
            let item = ItemUpdate { serial, expected_version, commitments: vec![("a".to_owned(), [which; 32])], services: Vec::new() };
            Action::UpdateItems { city: some_city(who), class: class(which), items: vec![item] }
        }
        6 => {
            let Holder { city, org } = holder(who);
            let target = match what % 5 {
                0 => Target::Code(Code::Category { city, org, category: category(which) }),
                1 => Target::Range(Range { city, class: class(which), base: support::serial(u32::from(number) % 3 * 1_000), size: 1_000 }),
                2 => Target::Code(holder(who).code()),
                _ => Target::Code(some_item(who, which, number)),
            };
            Action::SetStatus { target, expected_version: 1 + u64::from(number) / 16 % 3, status }
        }
        7 | 8 => Action::RotateKeys { subject: subject(), expected_version, add: vec![key_proof(which)], remove: Vec::new() },
        9 => {
            let remove = keys()[usize::from(which) % keys().len()];
            Action::RotateKeys { subject: subject(), expected_version, add: Vec::new(), remove: vec![remove] }
        }
        10 => Action::SetControllers { subject: subject(), expected_version, threshold: u64::from(which) % 4 },
        11 => Action::UpdateProfile {
            subject: if which % 2 == 0 {
                subject()
            } else {
                Code::Category { city: holder(who).city, org: holder(who).org, category: category(what) }
            },
            expected_version,
            commitments: vec![("a".to_owned(), [which; 32])],
            services: Vec::new(),
            schema: (which % 4 > 1).then_some([what; 32]),
        },
        12 => Action::SetTerms {
            city: some_city(who),
            org: Org::parse(ORGS[usize::from(what) % 2]).unwrap(),
            expected_version: 1 + u64::from(number) % 3,
            name: "m".to_owned(),
            quota: u64::from(which) * 100,
            rate: None,
        },
        13 => Action::StartRecovery { subject: subject(), expected_version, keys: vec![key_proof(which)] },
        14 => Action::EndRecovery { subject: subject(), expected_version, cancel: which % 2 == 0 },
        15 => Action::OfferTransfer { target: asset(who, which, number), expected_version, to: (what % 4 > 0).then_some(holder(which)) },
        16 => Action::AcceptTransfer { target: asset(who, which, number), expected_version },
        17 => {
            let base = serial.get() / 1_000 * 1_000 + if what % 8 == 0 { 1_000_000 } else { 0 };
            let (base, size) = if which % 8 == 0 { (base / 1_000_000 * 1_000_000, 1_000_000) } else { (base, 1_000) };
            let holder = holder(who);
            Action::ReserveRange { holder, range: Range { city: holder.city, class: class(what), base: support::serial(base), size } }
        }
        18 => {
            let range = thousand(who, what, number);
            let table = table(&sealed_file(&range, which));
            // Now and then by the city that is suspended.
            let keepers = if which % 16 == 0 { [0, 3] } else { [0, 1] };
            let expected_version = 1 + u64::from(what / 4) % 5;
            let receipts = keepers.map(|number| receipt(&range, expected_version, &table, number)).to_vec();
            Action::SealRange { range, expected_version, table, receipts }
        }
        19..=21 => {
            let range = thousand(who, what, number);
            let index = u32::from(number) / 4 % 8;
            let holder = holder(who);
            let commitments = if what % 3 == 0 { vec![("a".to_owned(), [which; 32])] } else { Vec::new() };
            let item = NewItem { serial: support::serial(range.base.get() + index), status, commitments, services: Vec::new() };
            let proof = sealed_file(&range, which / 4).prove(index);
            Action::OverrideItem { holder, category: category(what), item, expected_version: u64::from(number) / 32 % 4, proof }
        }
        22 => {
            let Holder { city, org } = holder(who);
            let namespace = org.map_or(city.to_string(), |org| format!("{city}.{org}"));
            let code = Code::Item { city: if which % 16 == 0 { some_city(what) } else { city }, org, category: category(what), serial };
            Action::RegisterAliases { namespace, aliases: vec![(format!("{}", number % 64), code)] }
        }
        _ => Action::MapDistrict { city: some_city(who), district: City::parse(&format!("{}", 130_100 + u32::from(number) % 40)).unwrap() },
    }
}

/// Mostly an item that the town begins with.
fn some_item(who: u8, which: u8, number: u16) -> Code {
    let (holder, which) = if !(number / 64).is_multiple_of(4) { (holder(0), 0) } else { (holder(who), which) };
    Code::Item { city: holder.city, org: holder.org, category: category(which), serial: support::serial(u32::from(number) / 8 % 8) }
}

/// An item or a range among the first that are given out.
fn asset(who: u8, which: u8, number: u16) -> Target {
    let city = holder(who).city;
    match number % 2 {
        0 => Target::Range(Range { city, class: class(which), base: support::serial(u32::from(number) / 2 % 3 * 1_000), size: 1_000 }),
        _ => Target::Code(some_item(who, which, number)),
    }
}

/// One transaction of one or two operations. Half of all are signed by everybody.
fn transaction(state: &State, index: usize, first: Draw, second: Option<Draw>) -> Transaction {
    let everybody = first.5 & 1 == 0;
    let mut signers: Vec<[u8; 32]> =
        keys().into_iter().enumerate().filter(|(place, _)| everybody || first.5 >> (place + 1) & 1 == 1).map(|(_, key)| key).collect();
    signers.sort_unstable();
    let aimed = |draw: Draw| {
        let mut action = action(draw);
        // Seven of eight name the version that is there.
        if draw.5 >> 12 & 7 > 0 {
            state.aim(&mut action);
        }
        Operation { action, reason: None, basis: None }
    };
    let operations = [Some(first), second].into_iter().flatten().map(aimed).collect();
    let body = Body { genesis: [0; 32], valid_until: HEIGHT, nonce: index.to_be_bytes().to_vec(), signers, operations };
    Transaction { id: sha256(&body.encode()), body, signatures: Vec::new() }
}

/// The state as plain records, and the same in two maps with different hash seeds.
struct State {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    maps: [StateMap; 2],
}

impl State {
    fn new() -> State {
        let mut state = State { records: BTreeMap::new(), maps: [StateMap::new(1), StateMap::new(2)] };
        let genesis = support::genesis_of(4);
        let put = |key: Vec<u8>, record: Vec<u8>| Change::new(&key, &record);
        let changes: Vec<Change> = genesis.records().into_iter().map(|(key, record)| put(key, record)).collect();
        state.apply(&changes);
        let mut merged = state.get(&MapKey::City(city(1))).unwrap();
        merged.administered_by = Some(city(0));
        let mut suspended = state.get(&MapKey::City(city(2))).unwrap();
        suspended.status = Status::Suspended;
        let edits = [(1, merged), (2, suspended)].map(|(place, record)| put(MapKey::City(city(place)).encode(), record.encode()));
        state.apply(&edits);
        state
    }

    fn get(&self, key: &MapKey<'_>) -> Option<Record> {
        self.records.get(&key.encode()).map(|bytes| Record::decode(bytes).unwrap())
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.records.insert(change.key.to_vec(), change.record.to_vec());
        }
        self.maps[0].commit(self.maps[0].candidate(last_versions(changes)).unwrap()).unwrap();
        // As a restart does it: every version in order, the last one stays.
        let replayed: BTreeMap<Hash, Arc<[u8]>> = changes.iter().map(|change| (path_of(&change.key), change.record.clone())).collect();
        self.maps[1]
            .commit(self.maps[1].candidate(replayed.into_iter().map(|(path, record)| (path, Some(record))).collect()).unwrap())
            .unwrap();
        assert_eq!(self.maps[0].current().root(), self.maps[1].current().root());
    }

    fn run(&self, map: usize, transactions: &[Transaction]) -> Executed {
        // A recovery is due at once: all blocks of this test have one height.
        let parameters = Parameters { recovery_delay: 0, ..Parameters::default() };
        execute(&self.maps[map].current(), HEIGHT, &parameters, transactions.iter(), |_| false)
    }

    fn is_active(&self, holder: &Holder) -> bool {
        let status = |key: &MapKey<'_>| self.get(key).is_some_and(|record| record.status == Status::Active);
        status(&MapKey::Network)
            && status(&MapKey::City(holder.city))
            && holder.org.is_none_or(|org| status(&MapKey::Organisation(holder.city, org)))
    }

    /// What was offered and not accepted.
    fn offered(&self) -> impl Iterator<Item = Target> + '_ {
        self.records.iter().filter_map(|(key, bytes)| {
            let record = Record::decode(bytes).unwrap();
            record.offered_to.as_ref()?;
            Some(match record.code {
                Some(code) => Target::Code(Code::parse(&code, None).unwrap()),
                None => {
                    let text = |part: std::ops::Range<usize>| std::str::from_utf8(&key[part]).unwrap();
                    let size = if record.kind == Kind::Million { 1_000_000 } else { 1_000 };
                    let base = support::serial(text(13..key.len()).parse::<u32>().unwrap() * size);
                    let (city, class) = (City::parse(text(1..7)).unwrap(), Class::parse(text(7..13)).unwrap());
                    Target::Range(Range { city, class, base, size: u64::from(size) })
                }
            })
        })
    }

    /// Gives an action the version of what it is about.
    fn aim(&self, action: &mut Action) {
        let key_of = |code: &Code| match code {
            Code::City { city } => MapKey::City(*city),
            Code::Org { city, org } => MapKey::Organisation(*city, *org),
            Code::Category { city, org, category } => MapKey::Category(*city, *org, *category),
            Code::Item { city, category, serial, .. } => MapKey::Item(*city, category.class, *serial),
            Code::Foreign(_) => unreachable!("native codes are drawn"),
        };
        if let Action::AcceptTransfer { target, expected_version } = action {
            let offered: Vec<Target> = self.offered().collect();
            if let Some(found) = offered.get(*expected_version as usize % offered.len().max(1)) {
                *target = found.clone();
            }
        }
        let (key, expected) = match action {
            Action::SetStatus { target, expected_version, .. }
            | Action::OfferTransfer { target, expected_version, .. }
            | Action::AcceptTransfer { target, expected_version } => match target {
                Target::Code(code) => (key_of(code), expected_version),
                Target::Range(range) => (range.key(), expected_version),
            },
            Action::RotateKeys { subject, expected_version, .. }
            | Action::SetControllers { subject, expected_version, .. }
            | Action::UpdateProfile { subject, expected_version, .. }
            | Action::StartRecovery { subject, expected_version, .. }
            | Action::EndRecovery { subject, expected_version, .. } => (key_of(subject), expected_version),
            Action::SealRange { range, expected_version, table, receipts } => {
                *expected_version = self.get(&range.key()).map_or(1, |record| record.version);
                for signed in receipts {
                    let number = support::genesis_of(4).cities.iter().position(|city| city.city == signed.city).unwrap();
                    *signed = receipt(range, *expected_version, table, number);
                }
                return;
            }
            Action::OverrideItem { holder, category, item, expected_version, proof } => {
                let base = support::serial(item.serial.get() / 1_000 * 1_000);
                let range = Range { city: holder.city, class: category.class, base, size: 1_000 };
                let root = self.get(&range.key()).and_then(|record| record.table).map(|table| table.root);
                if let Some(file) = [0, 1].map(|which| sealed_file(&range, which)).iter().find(|file| Some(file.table.root()) == root) {
                    *proof = file.prove(item.serial.get() % 1_000);
                }
                let single = self.get(&MapKey::Item(holder.city, category.class, item.serial));
                let leaf = proof.leaf.as_ref().map(|leaf| Record::decode(&leaf.record).unwrap());
                *expected_version = leaf.into_iter().chain(single).map(|record| record.version).max().unwrap_or(0);
                return;
            }
            Action::SetTerms { city, org, expected_version, .. } => (MapKey::Organisation(*city, *org), expected_version),
            Action::UpdateItems { city, class, items } => (MapKey::Item(*city, *class, items[0].serial), &mut items[0].expected_version),
            _ => return,
        };
        *expected = self.get(&key).map_or(1, |record| record.version);
    }

    fn subject_record(&self, holder: &Holder) -> Option<Record> {
        self.get(&holder.org.map_or(MapKey::City(holder.city), |org| MapKey::Organisation(holder.city, org)))
    }

    /// Who holds an item: who its record says, else who holds its range.
    fn item(&self, city: City, class: Class, serial: Serial) -> Option<(Record, Record, Holder)> {
        let item = self.get(&MapKey::Item(city, class, serial))?;
        let million = self.get(&MapKey::Million(city, class, serial))?;
        let range = if million.holder.is_some() { million } else { self.get(&MapKey::Thousand(city, class, serial))? };
        let holder = Holder::parse(item.holder.as_ref().or(range.holder.as_ref())?).unwrap();
        Some((item, range, holder))
    }

    fn item_of(&self, code: &Code) -> Option<(Record, Record, Holder)> {
        let Code::Item { city, category, serial, .. } = code else { return None };
        self.item(*city, category.class, *serial).filter(|(item, ..)| item.code == Some(code.text()))
    }

    /// Whether the signers hold the power of the city's registrar.
    fn registrar(&self, city: City, signers: &[[u8; 32]]) -> bool {
        let registrar = self.get(&MapKey::City(city)).and_then(|record| record.administered_by).unwrap_or(city);
        self.subject(&Holder { city: registrar, org: None }, signers)
    }

    fn subject(&self, holder: &Holder, signers: &[[u8; 32]]) -> bool {
        self.is_active(holder) && self.subject_record(holder).is_some_and(|record| own_keys(&record, signers))
    }

    fn holder(&self, holder: &Holder, signers: &[[u8; 32]]) -> bool {
        match holder.org {
            Some(_) => self.subject(holder, signers),
            None => self.is_active(holder) && self.registrar(holder.city, signers),
        }
    }

    /// Who may do this, said once more.
    fn allows(&self, action: &Action, signers: &[[u8; 32]]) -> bool {
        match action {
            Action::AdmitOrganisation { city, .. } => self.holder(&Holder { city: *city, org: None }, signers),
            Action::AllocateRange { holder, .. } | Action::RegisterCategory { holder, .. } | Action::RegisterItems { holder, .. } => {
                self.holder(holder, signers)
            }
            Action::UpdateItems { city, class, items } => items.iter().all(|item| {
                let (record, _, holder) = self.item(*city, *class, item.serial).unwrap();
                record.status != Status::Retired && self.holder(&holder, signers)
            }),
            Action::SetStatus { target, .. } => match target {
                Target::Range(Range { city, .. }) | Target::Code(Code::Org { city, .. }) => self.registrar(*city, signers),
                Target::Code(Code::Category { city, org, .. }) => {
                    self.registrar(*city, signers) || self.holder(&Holder { city: *city, org: *org }, signers)
                }
                Target::Code(code @ Code::Item { city, .. }) => {
                    self.registrar(*city, signers) || self.item_of(code).is_some_and(|(_, _, holder)| self.holder(&holder, signers))
                }
                Target::Code(_) => false,
            },
            Action::RotateKeys { subject, .. } | Action::SetControllers { subject, .. } => match self.item_of(subject) {
                Some((item, range, holder)) => {
                    if item.keys.iter().all(|key| key.purpose != Purpose::Transaction) {
                        return self.holder(&holder, signers);
                    }
                    let issuer = Holder { city: subject.city().unwrap(), org: subject.org() };
                    let active = item.status == Status::Active && range.status == Status::Active && self.is_active(&issuer);
                    active && own_keys(&item, signers)
                }
                None => !matches!(subject, Code::Item { .. }) && self.subject(&Holder::parse(&subject.text()).unwrap(), signers),
            },
            Action::UpdateProfile { subject, .. } => self.holder(&Holder { city: subject.city().unwrap(), org: subject.org() }, signers),
            Action::SetTerms { city, .. } => self.holder(&Holder { city: *city, org: None }, signers),
            Action::StartRecovery { subject, .. } => self.parent(subject, signers),
            Action::EndRecovery { subject, cancel, .. } => {
                let record = match self.item_of(subject) {
                    Some((item, ..)) => Some(item),
                    None => Holder::parse(&subject.text()).ok().and_then(|holder| self.subject_record(&holder)),
                };
                let objects = |record: &Record| {
                    own_keys(record, signers) || record.keys_for(Purpose::Recovery, HEIGHT).any(|key| signers.contains(key))
                };
                self.parent(subject, signers) || *cancel && record.is_some_and(|record| objects(&record))
            }
            Action::OfferTransfer { target, .. } => self.owner(target).is_some_and(|(_, holder)| self.holder(&holder, signers)),
            Action::AcceptTransfer { target, .. } => self.owner(target).is_some_and(|(record, holder)| {
                let receiver = record.offered_to.map(|receiver| Holder::parse(&receiver).unwrap());
                receiver.is_some_and(|receiver| self.holder(&receiver, signers)) && self.is_active(&holder)
            }),
            Action::ReserveRange { range: Range { city, .. }, .. } | Action::MapDistrict { city, .. } => {
                self.holder(&Holder { city: *city, org: None }, signers)
            }
            Action::SealRange { range, .. } => self.range_holder(range).is_some_and(|holder| self.holder(&holder, signers)),
            Action::OverrideItem { holder, category, item, proof, .. } => {
                let Holder { city, .. } = *holder;
                let base = support::serial(item.serial.get() / 1_000 * 1_000);
                let Some(range_holder) = self.range_holder(&Range { city, class: category.class, base, size: 1_000 }) else { return false };
                let leaf = proof.leaf.as_ref().map(|leaf| Record::decode(&leaf.record).unwrap());
                let single = self.get(&MapKey::Item(city, category.class, item.serial));
                let Some(present) = leaf.into_iter().chain(single).max_by_key(|record| record.version) else {
                    return *holder == range_holder && self.holder(&range_holder, signers);
                };
                let item_holder = present.holder.as_deref().map_or(range_holder, |holder| Holder::parse(holder).unwrap());
                let by_holder = self.holder(&item_holder, signers);
                // The holder; the city for the status alone, and only the city for one that it set.
                let moves = present.status != item.status;
                if moves
                    && (present.commitments == item.commitments || item_holder == Holder { city, org: None })
                    && self.registrar(city, signers)
                {
                    return present.commitments == item.commitments || by_holder;
                }
                by_holder && !(moves && present.status_by_city)
            }
            Action::RegisterAliases { namespace, aliases } => {
                let owner = Holder::parse(&format!("MA.156.{namespace}")).unwrap();
                let range_holder = |code: &Code| {
                    let Code::Item { city, category, serial, .. } = code else { return None };
                    let within = |size: u32| support::serial(serial.get() / size * size);
                    let range = |size: u32| Range { city: *city, class: category.class, base: within(size), size: u64::from(size) };
                    self.range_holder(&range(1_000)).or_else(|| self.range_holder(&range(1_000_000)))
                };
                let ranges = aliases.iter().all(|(_, code)| range_holder(code).is_some_and(|holder| self.holder(&holder, signers)));
                ranges && self.holder(&owner, signers)
            }
            other => unreachable!("{other:?} is not drawn"),
        }
    }
}

impl State {
    /// Whether the signers are the parent of a subject: the city of an organisation, the holder of an item.
    fn parent(&self, subject: &Code, signers: &[[u8; 32]]) -> bool {
        match (subject, self.item_of(subject)) {
            (Code::Org { city, .. }, _) => self.holder(&Holder { city: *city, org: None }, signers),
            (_, Some((_, _, holder))) => self.holder(&holder, signers),
            _ => false,
        }
    }

    fn range_holder(&self, range: &Range) -> Option<Holder> {
        self.get(&range.key()).and_then(|record| record.holder).map(|holder| Holder::parse(&holder).unwrap())
    }

    fn owner(&self, target: &Target) -> Option<(Record, Holder)> {
        match target {
            Target::Code(code) => self.item_of(code).map(|(record, _, holder)| (record, holder)),
            Target::Range(range) => self.get(&range.key()).and_then(|record| {
                let holder = Holder::parse(record.holder.as_deref()?).unwrap();
                Some((record, holder))
            }),
        }
    }
}

/// P29, said once more: as many of its keys as must.
fn own_keys(record: &Record, signers: &[[u8; 32]]) -> bool {
    let counting: BTreeSet<[u8; 32]> = record.keys_for(Purpose::Transaction, HEIGHT).copied().collect();
    counting.iter().filter(|key| signers.contains(key)).count() as u64 >= record.threshold.unwrap_or(1)
}

/// The code of whoever holds the keys of a record.
fn name_of(key: &[u8], record: &Record) -> String {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
    match record.kind {
        Kind::City => format!("MA.156.{}", text(&key[1..])),
        Kind::Organisation => format!("MA.156.{}.{}", text(&key[1..7]), text(&key[8..])),
        _ => record.code.clone().unwrap(),
    }
}

fn serials(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<(Vec<u8>, u64, u64)> {
    let mut ranges = Vec::new();
    for (key, record) in records {
        let record = Record::decode(record).unwrap();
        let size = match record.kind {
            Kind::Million => 1_000_000,
            Kind::Thousand => 1_000,
            _ => continue,
        };
        if record.holder.is_none() {
            continue;
        }
        let digits: u64 = std::str::from_utf8(&key[13..]).unwrap().parse().unwrap();
        ranges.push((key[1..13].to_vec(), digits * size, (digits + 1) * size));
    }
    ranges.sort();
    ranges
}

/// Below the mark nothing is free; at the mark nothing is held.
fn check_allocation(state: &State, key: &[u8], allocation: &Allocation) {
    let text = |range: std::ops::Range<usize>| std::str::from_utf8(&key[range]).unwrap();
    let (city, class) = (City::parse(text(1..7)).unwrap(), Class::parse(text(7..13)).unwrap());
    let serial = |thousands: u64| support::serial(thousands as u32 * 1_000);
    let million = |number: u64| state.get(&MapKey::Million(city, class, serial(number * 1_000)));
    assert!((0..allocation.next_million).all(|number| million(number).is_some()));
    assert!(million(allocation.next_million).is_none_or(|record| record.holder.is_none()));
    if let Some(open) = allocation.open_million {
        assert!(open < allocation.next_million && million(open).unwrap().children == Children::Map);
        assert!(
            (0..allocation.next_thousand).all(|number| state.get(&MapKey::Thousand(city, class, serial(open * 1_000 + number))).is_some())
        );
    }
}

/// What holds of any state that the rule can reach.
fn check_state(state: &State) {
    for pair in serials(&state.records).windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1, "two ranges hold one serial: {pair:?}");
    }
    let mut codes = BTreeSet::new();
    let mut owners: BTreeMap<[u8; 32], usize> = BTreeMap::new();
    let mut held_serials: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut holdings: BTreeMap<(String, String), u64> = BTreeMap::new();
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
    for (key, bytes) in &state.records {
        let record = Record::decode(bytes).unwrap();
        if let Some(code) = record.code.clone().filter(|_| record.kind == Kind::Item) {
            let Code::Item { city, category, serial, .. } = Code::parse(&code, None).unwrap() else { panic!("{code}") };
            assert_eq!(MapKey::Item(city, category.class, serial).encode(), *key);
            assert!(codes.insert(code), "a code is issued twice");
            let held = serials(&state.records)
                .iter()
                .any(|(place, start, end)| place[..] == key[1..13] && (*start..*end).contains(&u64::from(serial.get())));
            assert!(held, "an item outside every range");
        }
        if let Some(holder) = record.holder.as_ref().filter(|_| matches!(record.kind, Kind::Million | Kind::Thousand)) {
            let size = if record.kind == Kind::Million { 1_000_000 } else { 1_000 };
            *held_serials.entry((holder.clone(), text(&key[7..13]))).or_default() += size;
        }
        if let Some(serials) = record.serials {
            let holder = format!("MA.156.{}.{}", text(&key[1..7]), text(&key[8..key.len() - 6]));
            holdings.insert((holder, text(&key[key.len() - 6..])), serials);
        }
        if let Some(allocation) = record.allocation {
            check_allocation(state, key, &allocation);
        }
        let next = record.recovery.iter().flat_map(|recovery| &recovery.keys);
        for entry in record.keys.iter().chain(next) {
            *owners.entry(entry.key).or_default() += 1;
            if entry.from > 0 {
                let register = state.get(&MapKey::Key(&entry.key)).unwrap();
                assert_eq!((register.holder, register.purpose), (Some(name_of(key, &record)), Some(entry.purpose)));
            }
        }
        let of_own = record.keys.iter().filter(|entry| entry.purpose == Purpose::Transaction);
        let standing = of_own.clone().filter(|entry| entry.from <= HEIGHT && entry.until.is_none()).count() as u64;
        let speaks = matches!(record.kind, Kind::City | Kind::Organisation) || of_own.count() > 0;
        assert!(!speaks || standing >= record.threshold.unwrap_or(1), "{} locked itself out", name_of(key, &record));
        assert!(record.status != Status::Retired || record.recovery.is_none() && record.offered_to.is_none());
    }
    held_serials.retain(|(holder, _), _| Holder::parse(holder).unwrap().org.is_some());
    holdings.retain(|_, serials| *serials > 0);
    assert_eq!(held_serials, holdings, "what organisations hold is what is counted for them");
    assert!(owners.values().all(|count| *count == 1), "a key of two subjects");
}

/// Each version follows the one before it.
fn check_versions(state: &State, transaction: &Transaction, changes: &[Change]) {
    let mut last = state.records.clone();
    let mut leaves: BTreeMap<Hash, Vec<u8>> = BTreeMap::new();
    for operation in &transaction.body.operations {
        if let Action::OverrideItem { proof, .. } = &operation.action {
            leaves.extend(proof.leaf.iter().map(|leaf| (record_hash(&leaf.record), leaf.record.clone())));
        }
    }
    for change in changes {
        let record = Record::decode(&change.record).unwrap();
        let leaf = leaves.get(&record.previous.unwrap_or_default());
        match last.insert(change.key.to_vec(), change.record.to_vec()) {
            // An item of a sealed range goes on from its leaf, when that is the later version.
            before if leaf.is_some() => {
                let (leaf, before) = (Record::decode(leaf.unwrap()).unwrap(), before.map(|before| Record::decode(&before).unwrap()));
                assert_eq!((record.kind, record.version, record.code), (Kind::Item, leaf.version + 1, leaf.code));
                assert!(before.is_none_or(|before| before.version < leaf.version));
            }
            Some(before) => {
                let previous = Record::decode(&before).unwrap();
                assert_eq!((record.version, record.previous), (previous.version + 1, Some(record_hash(&before))));
                assert!(previous.status == record.status || previous.status.may_become(record.status));
                // A sealed range is touched by what happens to its items.
                let is_range = matches!(record.kind, Kind::Million | Kind::Thousand);
                assert!(is_range || previous.status != Status::Retired, "what is retired never changes again");
                assert_eq!(previous.code, record.code, "a code never changes");
                if record.kind != Kind::Organisation {
                    assert_eq!((previous.quota, previous.name), (record.quota, record.name), "what only terms change");
                }
            }
            None => assert_eq!((record.version, record.previous), (1, None)),
        }
        assert_eq!(record.height, HEIGHT);
    }
}

/// A town to begin with: A7K2 and B7K2 of the first city, of which A7K2 registered items.
fn prelude() -> Vec<Transaction> {
    let first = |org| Holder { city: city(0), org: Some(Org::parse(org).unwrap()) };
    let admission = |org, number| Action::AdmitOrganisation {
        city: city(0),
        org: Org::parse(org).unwrap(),
        name: "n".to_owned(),
        quota: 3_000,
        rate: None,
        keys: vec![KeyProof { purpose: Purpose::Transaction, key: support::public(number, 1), from: 0, until: None, possession: [0; 64] }],
        commitments: Vec::new(),
    };
    let items = (0..6)
        .map(|number| NewItem { serial: support::serial(number), status: Status::Active, commitments: Vec::new(), services: Vec::new() })
        .collect();
    let actions = [
        admission("A7K2", 300),
        admission("B7K2", 301),
        Action::AllocateRange { holder: first("A7K2"), class: class(0), size: 1_000 },
        Action::AllocateRange { holder: first("B7K2"), class: class(0), size: 1_000 },
        Action::RegisterCategory { holder: first("A7K2"), category: category(0), name: "n".to_owned(), schema: None },
        Action::RegisterItems { holder: first("A7K2"), category: category(0), items },
    ];
    let mut signers = keys();
    signers.sort_unstable();
    let operations = actions.into_iter().map(|action| Operation { action, reason: None, basis: None }).collect();
    let body = Body { genesis: [0; 32], valid_until: HEIGHT, nonce: vec![9; 8], signers, operations };
    vec![Transaction { id: sha256(&body.encode()), body, signatures: Vec::new() }]
}

fn name(action: &Action) -> String {
    format!("{action:?}").split(' ').next().unwrap().to_owned()
}

/// Which actions took effect, and which were refused for what.
#[derive(Default)]
struct Seen {
    committed: BTreeMap<String, usize>,
    refused: BTreeMap<(String, String), usize>,
}

fn check(draws: &[(Draw, Option<Draw>)], seen: &mut Seen) {
    let mut state = State::new();
    let mut transactions = prelude();
    let start = state.run(0, &transactions);
    assert_eq!(start.committed, 1);
    state.apply(&start.changes);
    let bytes =
        |executed: &Executed| executed.changes.iter().map(|change| (change.key.to_vec(), change.record.to_vec())).collect::<Vec<_>>();
    let mut one_by_one = bytes(&start);
    let mut receipts = start.receipts;
    for (index, (one, two)) in draws.iter().enumerate() {
        let transaction = transaction(&state, index, *one, *two);
        let root = state.maps[0].current().root();
        let alone = state.run(0, std::slice::from_ref(&transaction));
        check_versions(&state, &transaction, &alone.changes);
        let (operations, signers) = (&transaction.body.operations, &transaction.body.signers);
        match Receipt::decode(&alone.receipts[0]).unwrap().outcome {
            Outcome::Committed(_) => {
                if let [operation] = &operations[..] {
                    assert!(state.allows(&operation.action, signers), "{operation:?} by {signers:?}");
                }
                operations.iter().for_each(|operation| *seen.committed.entry(name(&operation.action)).or_default() += 1);
            }
            Outcome::Rejected(reason, index) => {
                assert!(alone.changes.is_empty());
                assert_ne!(reason, "damaged_state");
                // Once all that the statement demands is there, nobody is told that he may not.
                let city_made_it_so = matches!(operations[0].action, Action::SetStatus { .. });
                if reason == "not_authorised" && operations.len() == 1 && !city_made_it_so {
                    assert!(!state.allows(&operations[0].action, signers), "{:?} by {signers:?}", operations[0]);
                }
                *seen.refused.entry((name(&operations[index as usize].action), reason)).or_default() += 1;
            }
            Outcome::Duplicate => panic!("ids differ"),
        }
        state.apply(&alone.changes);
        if alone.changes.is_empty() {
            assert_eq!(state.maps[0].current().root(), root, "a refused transaction changes nothing");
        }
        one_by_one.extend(bytes(&alone));
        receipts.extend(alone.receipts);
        transactions.push(transaction);
    }
    // In one block: the same, on maps with other hash seeds too.
    let fresh = State::new();
    for map in [0, 1] {
        let block = fresh.run(map, &transactions);
        assert_eq!(block.receipts, receipts);
        assert_eq!(bytes(&block), one_by_one);
    }
    check_state(&state);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn random_operations_keep_the_rule(draws in prop::collection::vec(any::<(Draw, Option<Draw>)>(), 1..80)) {
        check(&draws, &mut Seen::default());
    }
}

/// The random test reaches what it is about: with fixed draws, every kind of operation succeeds and is refused.
#[test]
fn the_random_operations_do_something() {
    let mut seed = [0; 32];
    let mut seen = Seen::default();
    for _ in 0..10 {
        let mut draws = Vec::new();
        for _ in 0..600 {
            seed = sha256(&seed);
            draws.push((
                (seed[0], seed[1], seed[2], seed[3], u16::from_be_bytes([seed[4], seed[5]]), u16::from_be_bytes([seed[6], seed[7]])),
                None,
            ));
        }
        check(&draws, &mut seen);
    }
    let kinds = [
        "AdmitOrganisation",
        "AllocateRange",
        "RegisterCategory",
        "RegisterItems",
        "UpdateItems",
        "SetStatus",
        "RotateKeys",
        "SetControllers",
        "UpdateProfile",
        "SetTerms",
        "StartRecovery",
        "EndRecovery",
        "OfferTransfer",
        "AcceptTransfer",
        "ReserveRange",
        "SealRange",
        "OverrideItem",
        "RegisterAliases",
        "MapDistrict",
    ];
    for kind in kinds {
        let refused: usize = seen.refused.iter().filter(|((name, _), _)| name == kind).map(|(_, count)| count).sum();
        assert!(seen.committed.get(kind).is_some_and(|count| *count > 2) && refused > 2, "{kind}: {:?} {:?}", seen.committed, seen.refused);
    }
    let reasons: BTreeSet<&str> = seen.refused.keys().map(|(_, reason)| reason.as_str()).collect();
    for reason in
        ["recovery_pending", "no_recovery", "no_key_left", "not_offered", "over_quota", "key_in_use", "unknown_key", "bad_purpose"]
    {
        assert!(reasons.contains(reason), "{reason} in {reasons:?}");
    }
}

fn only(state: &State, draws: Action, signers: &[[u8; 32]]) -> String {
    let mut signers = signers.to_vec();
    signers.sort_unstable();
    let body = Body {
        genesis: [0; 32],
        valid_until: HEIGHT,
        nonce: vec![0; 8],
        signers,
        operations: vec![Operation { action: draws, reason: None, basis: None }],
    };
    let transaction = Transaction { id: [1; 32], body, signatures: Vec::new() };
    match Receipt::decode(&state.run(0, &[transaction]).receipts[0]).unwrap().outcome {
        Outcome::Committed(_) => "committed".to_owned(),
        Outcome::Rejected(reason, 0) => reason,
        other => panic!("{other:?}"),
    }
}

fn admission(city: City, number: usize) -> Action {
    let keys = vec![KeyProof { purpose: Purpose::Transaction, key: support::public(number, 1), from: 0, until: None, possession: [0; 64] }];
    Action::AdmitOrganisation {
        city,
        org: Org::parse("C7K2").unwrap(),
        name: "n".to_owned(),
        quota: 1_000,
        rate: None,
        keys,
        commitments: Vec::new(),
    }
}

#[test]
fn whom_governance_put_in_charge_acts_for_the_city_and_nobody_else() {
    let state = State::new();
    let (own, registrar) = (support::public(2, 1), support::public(1, 1));
    let merged = Holder { city: city(1), org: None };
    for action in [
        admission(city(1), 300),
        Action::AllocateRange { holder: merged, class: class(0), size: 1_000 },
        Action::RegisterCategory { holder: merged, category: category(0), name: "n".to_owned(), schema: None },
        Action::UpdateProfile { subject: merged.code(), expected_version: 1, commitments: Vec::new(), services: Vec::new(), schema: None },
    ] {
        assert_eq!(only(&state, action.clone(), &[own]), "not_authorised", "{action:?}");
        assert_eq!(only(&state, action, &[registrar]), "committed");
        // Its keys it rotates itself.
        for action in [
            Action::RotateKeys { subject: merged.code(), expected_version: 1, add: vec![key_proof(0)], remove: Vec::new() },
            Action::SetControllers { subject: merged.code(), expected_version: 1, threshold: 1 },
        ] {
            assert_eq!(only(&state, action.clone(), &[registrar]), "not_authorised", "{action:?}");
            assert_eq!(only(&state, action, &[own]), "committed");
        }
    }
}

#[test]
fn nothing_begins_in_a_suspended_city_and_nothing_is_done_by_it() {
    let mut state = State::new();
    let everybody = keys();
    assert_eq!(only(&state, admission(city(2), 300), &everybody), "suspended");
    // Also when another city, which is active, administers it.
    let mut suspended = state.get(&MapKey::City(city(2))).unwrap();
    suspended.administered_by = Some(city(0));
    state.apply(&[Change::new(&MapKey::City(city(2)).encode(), &suspended.encode())]);
    assert_eq!(only(&state, admission(city(2), 300), &everybody), "suspended");
    let holder = Holder { city: city(2), org: None };
    assert_eq!(only(&state, Action::AllocateRange { holder, class: class(0), size: 1_000 }, &everybody), "suspended");
    suspended.status = Status::Active;
    state.apply(&[Change::new(&MapKey::City(city(2)).encode(), &suspended.encode())]);
    assert_eq!(only(&state, admission(city(2), 300), &everybody), "committed", "the control");
}

#[test]
fn an_item_of_a_sealed_range_is_not_changed_behind_the_table() {
    let mut state = State::new();
    let (city, class) = (city(0), class(0));
    let holder = Holder { city, org: None };
    let put = |key: &MapKey<'_>, record: &Record| Change::new(&key.encode(), &record.encode());
    let mut range = Record::new(Kind::Thousand, 1);
    (range.holder, range.children) = (Some(holder.code().text()), Children::Items);
    let mut open = Record::new(Kind::Million, 1);
    open.children = Children::Map;
    let mut space = Record::new(Kind::Class, 1);
    space.allocation = Some(Allocation { next_million: 1, open_million: Some(0), next_thousand: 1 });
    let code = Code::Item { city, org: None, category: category(0), serial: support::serial(5) };
    let item = support::item_record(&code.text(), 1);
    let range_key = MapKey::Thousand(city, class, support::serial(0));
    state.apply(&[
        put(&range_key, &range),
        put(&MapKey::Million(city, class, support::serial(0)), &open),
        put(&MapKey::Class(city, class), &space),
        put(&MapKey::Item(city, class, support::serial(5)), &item),
    ]);
    let update = ItemUpdate { serial: support::serial(5), expected_version: 1, commitments: Vec::new(), services: Vec::new() };
    let actions = [
        Action::UpdateItems { city, class, items: vec![update] },
        Action::SetStatus { target: Target::Code(code), expected_version: 1, status: Status::Suspended },
    ];
    for action in &actions {
        assert_eq!(only(&state, action.clone(), &keys()), "committed", "the control");
    }
    range.children = Children::Table;
    range.table = Some(Table { root: [1; 32], depth: 10, version: 1, height: 1, overrides: 0, digest: [2; 32], count: 1 });
    state.apply(&[put(&range_key, &range)]);
    for action in actions {
        assert_eq!(only(&state, action, &keys()), "sealed");
    }
}

#[test]
fn a_city_with_many_keys_can_still_rotate_them() {
    // Sixteen transaction keys and three of other purposes: a limit over all of them would hold it fast.
    let mut genesis = support::genesis_of(4);
    genesis.cities[1].transaction = (400..416).map(|number| support::public(number, 1)).collect();
    let mut state = State::new();
    let changes: Vec<Change> = genesis.records().into_iter().map(|(key, record)| Change::new(&key, &record)).collect();
    state.apply(&changes);
    let subject = Holder { city: city(0), org: None };
    let add = vec![KeyProof { purpose: Purpose::Transaction, key: support::public(420, 1), from: 0, until: None, possession: [0; 64] }];
    let signer = [support::public(400, 1)];
    let rotate = |remove: Vec<[u8; 32]>| Action::RotateKeys { subject: subject.code(), expected_version: 1, add: add.clone(), remove };
    assert_eq!(only(&state, rotate(vec![support::public(401, 1)]), &signer), "committed");
    assert_eq!(only(&state, rotate(Vec::new()), &signer), "too_large");
}

#[test]
fn a_city_that_is_suspended_keeps_no_table() {
    let mut state = State::new();
    let (city, class) = (city(0), class(0));
    let holder = Holder { city, org: None };
    assert_eq!(only(&state, Action::AllocateRange { holder, class, size: 1_000 }, &keys()), "committed");
    let mut range = Record::new(Kind::Thousand, 1);
    (range.holder, range.children) = (Some(holder.code().text()), Children::Items);
    let mut open = Record::new(Kind::Million, 1);
    open.children = Children::Map;
    let put = |key: &MapKey<'_>, record: &Record| Change::new(&key.encode(), &record.encode());
    let base = support::serial(0);
    state.apply(&[put(&MapKey::Million(city, class, base), &open), put(&MapKey::Thousand(city, class, base), &range)]);
    let range = Range { city, class, base, size: 1_000 };
    let table = table(&sealed_file(&range, 0));
    let seal = |keepers: [usize; 2]| {
        let receipts = keepers.map(|number| receipt(&range, 1, &table, number)).to_vec();
        Action::SealRange { range, expected_version: 1, table, receipts }
    };
    assert_eq!(only(&state, seal([0, 3]), &keys()), "bad_receipt");
    assert_eq!(only(&state, seal([0, 1]), &keys()), "committed", "the control");
}
