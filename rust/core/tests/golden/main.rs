//! Golden bytes: one example of every structure, in `tests/conformance/golden`, with a list of digests.
//!
//! Whoever changes one of these bytes changes the format: old signatures, proofs and stored blocks no longer fit. This test fails then.
//! When the change is decided, write the files anew with
//!
//! ```text
//! CITYID_REGENERATE=1 cargo test --release -p cityid-core --test golden
//! ```
//! and review the difference. `NAME.hex` holds bytes in hexadecimal, 32 to a line; `NAME.json` and `NAME.txt` are text. `DIGESTS`
//! has SHA-256 of the bytes (not of their hexadecimal form) and the file name, for whoever writes another implementation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "../chain/mod.rs"]
mod chain;
mod past;
#[path = "../support/mod.rs"]
mod support;

use cityid_core::answer::{verify, Answer, CertifiedHeader, Options, VerdictKind};
use cityid_core::audit::{Block, Page};
use cityid_core::block::{header_hash, Header};
use cityid_core::code::{City, Class, Code, Model, Org, Serial, Use};
use cityid_core::genesis::Genesis;
use cityid_core::hash::{domain, hex, sha256, Hash, Suite, Tag};
use cityid_core::history::History;
use cityid_core::json::from_hex;
use cityid_core::ledger::operation::{
    possession_message, Action, Change, Holder, ItemUpdate, KeyProof, NewItem, NewTable, Operation, Range, StorageReceipt, Target,
};
use cityid_core::ledger::snapshot::Manifest;
use cityid_core::ledger::stored::Receipt;
use cityid_core::ledger::transaction::{assemble, assemble_batch, batch_digest, signing_message, transaction_id, Body, Transaction};
use cityid_core::ledger::Ledger;
use cityid_core::map_key::{Kind, MapKey};
use cityid_core::record::{Allocation, Children, Configuration, KeyEntry, Proposal, Purpose, Record, Recovery, Status, Succession, Table};
use cityid_core::table::build::{Builder, Spec, Step};
use cityid_core::table::index::Reader;
use cityid_core::table::{storage_receipt_message, Leaf, TableProof};
use cityid_core::trust::Trust;
use cityid_core::vote::{sign_bytes, CommitCertificate, CommitSignature, VoteKind, NO_ROUND};
use cityid_core::wire::{Decoder, Encoder};
use std::collections::BTreeMap;
use std::path::PathBuf;
use support::*;

/// File name → content.
type Files = BTreeMap<String, Vec<u8>>;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance/golden")
}

fn hex_lines(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| hex(line) + "\n").collect()
}

#[test]
fn golden_bytes_do_not_change() {
    let files = all();
    let digests: String = files.iter().map(|(name, bytes)| format!("{}  {name}\n", hex(&sha256(bytes)))).collect();
    let directory = directory();
    if std::env::var_os("CITYID_REGENERATE").is_some() {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in &files {
            let content = if name.ends_with(".hex") { hex_lines(bytes).into_bytes() } else { bytes.clone() };
            std::fs::write(directory.join(name), content).unwrap();
        }
        std::fs::write(directory.join("DIGESTS"), &digests).unwrap();
    }
    let mut there: Vec<String> =
        std::fs::read_dir(&directory).expect("the golden files").map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    there.sort();
    let expected: Vec<String> = std::iter::once("DIGESTS".to_owned()).chain(files.keys().cloned()).collect();
    assert_eq!(there, expected, "golden files are missing or too many");
    let changed: Vec<&str> = files.iter().filter(|(name, bytes)| read(name) != **bytes).map(|(name, _)| name.as_str()).collect();
    assert!(changed.is_empty(), "these formats changed: {changed:?}; the head of this file says what to do");
    assert_eq!(std::fs::read_to_string(directory.join("DIGESTS")).unwrap(), digests);
}

/// The bytes of a golden file.
fn read(name: &str) -> Vec<u8> {
    let content = std::fs::read(directory().join(name)).unwrap();
    if name.ends_with(".hex") {
        let text = String::from_utf8(content).unwrap();
        return from_hex(&text.lines().collect::<String>()).unwrap();
    }
    content
}

#[test]
fn every_golden_structure_reads_back_to_the_same_bytes() {
    for (name, bytes) in all() {
        let (family, _) = name.split_once('-').or_else(|| name.split_once('.')).unwrap();
        let again = match family {
            "record" => Record::decode(&bytes).unwrap().encode(),
            "header" => Header::decode(&bytes).unwrap().encode(),
            "certificate" => CommitCertificate::decode(&bytes).unwrap().encode(),
            "snapshot" if name == "snapshot-manifest.hex" => Manifest::decode(&bytes).unwrap().encode(),
            "certified" => CertifiedHeader::decode(&bytes).unwrap().encode(),
            "operation" => {
                let mut decoder = Decoder::new(&bytes);
                let operation = Operation::decode(&mut decoder).unwrap();
                decoder.end().unwrap();
                let from_json = Operation::from_json(operation.to_json()).unwrap();
                assert_eq!(from_json, operation, "{name}");
                encoded(&operation)
            }
            "transaction" => {
                let transaction = Transaction::decode(&bytes).unwrap();
                assemble(&transaction.body.encode(), &transaction.signatures)
            }
            "receipt" => {
                Receipt::decode(&bytes).unwrap();
                bytes.clone()
            }
            "answer" if name.ends_with(".json") => Answer::from_json(std::str::from_utf8(&bytes).unwrap()).unwrap().to_json().into_bytes(),
            "answer" => Answer::decode(&bytes).unwrap().encode(),
            "history" if name.ends_with(".json") => {
                History::from_json(std::str::from_utf8(&bytes).unwrap()).unwrap().to_json().into_bytes()
            }
            "history" => History::decode(&bytes).unwrap().encode(),
            "page" => Page::decode(&bytes).unwrap().encode(),
            "block" if name.ends_with(".hex") => {
                let mut decoder = Decoder::new(&bytes);
                let block = Block::decode_next(&mut decoder).unwrap();
                decoder.end().unwrap();
                block.encode()
            }
            "trust" if name.ends_with(".json") => Trust::from_json(std::str::from_utf8(&bytes).unwrap()).unwrap().to_json().into_bytes(),
            "trust" if name.ends_with(".hex") => Trust::decode(&bytes).unwrap().encode(),
            "genesis" if name.ends_with(".json") => {
                Genesis::from_json(std::str::from_utf8(&bytes).unwrap()).unwrap().to_json().into_bytes()
            }
            _ => continue,
        };
        assert_eq!(again, bytes, "{name}");
    }
}

fn all() -> Files {
    let mut files = Files::new();
    genesis_and_trust(&mut files);
    domains(&mut files);
    blocks(&mut files);
    map_keys(&mut files);
    for record in records() {
        files.insert(format!("record-{:02}-{}.hex", record.kind as u8, record.kind.name()), record.encode());
    }
    transactions(&mut files);
    answers(&mut files);
    table_file(&mut files);
    past::past(&mut files);
    snapshot(&mut files);
    files
}

/// A table file of each kind of entry, its root, and what a storage receipt of it signs.
fn table_file(files: &mut Files) {
    let range = Range::new(City::parse("130100").unwrap(), Class::parse("010203").unwrap(), Serial::new(7_000).unwrap(), 1_000).unwrap();
    let spec = Spec { genesis: [3; 32], range, org: Some(Org::parse("A7K2").unwrap()), seed: [9; 32], height: 5 };
    let mut builder = Builder::new(spec, None).unwrap();
    let (use_, model) = (Use::parse("60").unwrap(), Model::parse("LAMP").unwrap());
    let serial = |index: u32| Serial::new(7_000 + index).unwrap();
    builder.add_run(use_, model, serial(3), serial(43), 4, Status::Active).unwrap();
    builder.add_list(use_, model, &[7_900, 7_999], Status::Allocated).unwrap();
    builder.add_rows(b"serial,use,model,height\n7100,60,POLE,4 m\n", &[1; 32]).unwrap();
    builder.add_rows(b"", &[1; 32]).unwrap();
    let mut merger = builder.finish(0).unwrap();
    let mut file = Vec::new();
    while let Step::Write(bytes) = merger.step().unwrap() {
        file.extend(bytes);
    }
    let mut reader = Reader::new();
    reader.feed(&file).unwrap();
    let (index, _) = reader.finish().unwrap();
    files.insert("table-root.hex".to_owned(), index.root().to_vec());
    files.insert("table-statement.hex".to_owned(), storage_receipt_message(&[3; 32], &range, 2, &index.sealed()));
    files.insert("table-file.hex".to_owned(), file);
}

fn genesis_and_trust(files: &mut Files) {
    let world = World::new(4);
    files.insert("genesis.hex".to_owned(), world.genesis.encode());
    files.insert("genesis.json".to_owned(), world.genesis.to_json().into_bytes());
    files.insert("genesis-hash.hex".to_owned(), world.genesis.hash().to_vec());
    files.insert("validators.hex".to_owned(), world.validators().encode());
    files.insert("validators-hash.hex".to_owned(), world.validators().hash().to_vec());
    let trust = world.trust();
    files.insert("trust.hex".to_owned(), trust.encode());
    files.insert("trust.json".to_owned(), trust.to_json().into_bytes());
    files.insert("trust-words.txt".to_owned(), (trust.words() + "\n").into_bytes());
}

/// Every tag under both suites: what a tagged hash or a signed message starts with.
fn domains(files: &mut Files) {
    let tags = [
        Tag::Genesis,
        Tag::Header,
        Tag::Validators,
        Tag::Trust,
        Tag::Transaction,
        Tag::TransactionSignature,
        Tag::Batch,
        Tag::Record,
        Tag::Possession,
        Tag::Commitment,
        Tag::TableLeaf,
        Tag::TableEmpty,
        Tag::TableNode,
        Tag::Expired,
        Tag::TableSalt,
        Tag::StorageReceipt,
        Tag::AttributeSalt,
    ];
    for suite in [Suite::Ed25519Sha256, Suite::Sm2Sm3] {
        let all: Vec<u8> = tags.iter().flat_map(|tag| domain(*tag, suite)).collect();
        files.insert(format!("domains-suite-{}.hex", suite as u8), all);
    }
}

fn blocks(files: &mut Files) {
    let world = World::with_records(4);
    let header = world.headers.last().unwrap();
    files.insert("header.hex".to_owned(), header.clone());
    files.insert("header-genesis.hex".to_owned(), world.headers[0].clone());
    let next_protocol = Header { version: 2, ..Header::decode(header).unwrap() };
    files.insert("header-version-2.hex".to_owned(), next_protocol.encode());
    files.insert("digest-header.hex".to_owned(), header_hash(header).to_vec());
    let block = world.block();
    files.insert("certified-header.hex".to_owned(), block.encode());
    files.insert("certificate.hex".to_owned(), block.certificate(5, &world.validators()).unwrap().encode());
    let kinds = [
        ("proposal", VoteKind::Proposal),
        ("prevote", VoteKind::PrevoteValue),
        ("prevote-nil", VoteKind::PrevoteNil),
        ("precommit", VoteKind::PrecommitValue),
        ("precommit-nil", VoteKind::PrecommitNil),
    ];
    for (name, kind) in kinds {
        let pol_round = if kind == VoteKind::Proposal { 1 } else { NO_ROUND };
        files.insert(format!("sign-bytes-{name}.hex"), sign_bytes(kind, &world.genesis.hash(), 5, 2, pol_round, &[7; 32]));
    }
}

/// The snapshot of a ledger of two blocks, the first with a transaction.
fn snapshot(files: &mut Files) {
    let ledger = Ledger::new(genesis_of(4), [3; 32]).unwrap();
    let genesis = ledger.genesis().hash();
    let operation = serde_json::json!({"op": "allocate_range", "city": "130100", "class": "010203", "size": 1000});
    let body = Body {
        genesis,
        valid_until: 100,
        nonce: vec![7; 8],
        signers: vec![public(1, 1)],
        operations: vec![Operation::from_json(operation).unwrap()],
    }
    .encode();
    let signature = secret(1, 1).sign(&signing_message(&transaction_id(&body))).to_bytes();
    let batch = assemble_batch(1, &assemble(&body, &[signature]));
    let digest = ledger.ingest(&[&batch])[0].0;
    for (height, digests) in [(1, vec![digest]), (2, Vec::new())] {
        let time_ms = ledger.published().time_ms + 1_000;
        let candidate = ledger.execute(height, time_ms, City::parse("130100").unwrap(), &digests).unwrap();
        let unsigned = CommitCertificate { height, round: 0, value: candidate.value, validators: 4, signatures: Vec::new() };
        let message = unsigned.sign_bytes(&genesis);
        let sign = |index: u16| CommitSignature { index, signature: secret(usize::from(index), 2).sign(&message).to_bytes() };
        let certificate = CommitCertificate { signatures: (0..3).map(sign).collect(), ..unsigned };
        assert_eq!(ledger.commit(candidate, &certificate.encode()).unwrap().rejected, 0);
    }
    let mut writer = ledger.write_snapshot(Vec::new()).unwrap();
    for name in ["leaves", "configurations", "heights", "records"] {
        let (_, chunk) = writer.next_chunk(&ledger).unwrap().unwrap();
        files.insert(format!("snapshot-{name}.hex"), chunk);
    }
    assert_eq!(writer.next_chunk(&ledger).unwrap(), None);
    files.insert("snapshot-manifest.hex".to_owned(), writer.manifest().encode());
}

/// Every map key with its path behind it.
fn map_keys(files: &mut Files) {
    let (city, class, number) = (city(), class(), serial(12_345));
    let key = public(0, 1);
    let keys = [
        MapKey::Network,
        MapKey::City(city),
        MapKey::Organisation(city, org("A7K2")),
        MapKey::Category(city, Some(org("A7K2")), category()),
        MapKey::Class(city, class),
        MapKey::Million(city, class, number),
        MapKey::Thousand(city, class, number),
        MapKey::Item(city, class, number),
        MapKey::Alias("cjt553", b"130100010203000012345"),
        MapKey::Foreign(FOREIGN),
        MapKey::Parameters,
        MapKey::Key(&key),
        MapKey::Holding(city, org("A7K2"), class),
        MapKey::District(City::parse("130102").unwrap()),
        MapKey::Proposal(258),
    ];
    for key in keys {
        files.insert(format!("key-{:02}-{}.hex", key.kind() as u8, key.kind().name()), [key.encode(), key.path().to_vec()].concat());
    }
    files.insert("key-04-category-of-city.hex".to_owned(), {
        let key = MapKey::Category(city, None, category());
        [key.encode(), key.path().to_vec()].concat()
    });
}

/// One record of every kind, with every field that the kind can have.
fn records() -> Vec<Record> {
    let services = vec![("linkset".to_owned(), "https://example.org/linkset".to_owned())];
    let commitments = vec![("name".to_owned(), [5; 32]), ("place".to_owned(), [6; 32])];
    let entry = |purpose, number, until| KeyEntry { suite: Suite::Ed25519Sha256, purpose, key: public(7, number), from: 3, until };
    let holder = Some("MA.156.130100.A7K2".to_owned());
    let table = Table { root: [1; 32], depth: 10, version: 2, height: 299, overrides: 3, digest: [2; 32], count: 1_000 };
    let recovery = Some(Box::new(Recovery { due: 1_300, keys: vec![entry(Purpose::Transaction, 9, None)] }));
    let cities = |texts: &[&str]| texts.iter().map(|text| City::parse(text).unwrap()).collect::<Vec<_>>();
    let make = |kind| {
        let mut record = Record::new(kind, 300);
        (record.version, record.previous, record.previous_height) = (2, Some([9; 32]), Some(250));
        (record.reason, record.basis) = (Some(7), Some([8; 32]));
        match kind {
            Kind::Network => {
                (record.name, record.test, record.children) = (Some("Test network".to_owned()), true, Children::Map);
            }
            Kind::City => {
                record.name = Some("石家庄".to_owned());
                record.keys = vec![entry(Purpose::Transaction, 1, Some(900)), entry(Purpose::Consensus, 2, None)];
                record.administered_by = Some(city());
                record.threshold = Some(2);
                record.recovery = recovery.clone();
                record.succession = Some(Box::new(Succession { predecessors: cities(&["130600"]), successor: Some(city()) }));
                record.certificate = Some(vec![0x30, 0x01, 0x02].into());
                (record.services, record.commitments) = (services.clone(), commitments.clone());
                record.children = Children::Map;
            }
            Kind::Organisation => {
                record.name = Some("Lighting office".to_owned());
                record.keys = vec![entry(Purpose::Transaction, 1, None)];
                record.quota = Some(1 << 40);
                record.rate = Some(1_000);
                record.threshold = Some(2);
                record.recovery = recovery.clone();
                (record.services, record.commitments) = (services.clone(), commitments.clone());
                (record.status, record.status_by_city, record.children) = (Status::Suspended, true, Children::Map);
            }
            Kind::Category => {
                record.name = Some("Street lamp".to_owned());
                (record.services, record.commitments) = (services.clone(), commitments.clone());
                record.schema = Some([4; 32]);
            }
            Kind::Class => {
                record.allocation = Some(Allocation { next_million: 2, open_million: Some(1), next_thousand: 17 });
                record.children = Children::Map;
            }
            Kind::Million => {
                (record.holder, record.children, record.used) = (holder.clone(), Children::Items, true);
                record.offered_to = Some("MA.156.130100.B8L3".to_owned());
            }
            Kind::Thousand => (record.holder, record.table, record.children) = (holder.clone(), Some(table), Children::Table),
            Kind::Item => {
                record.code = Some(code(12_345));
                record.holder = Some("MA.156.130100.B8L3".to_owned());
                (record.services, record.commitments) = (services.clone(), commitments.clone());
                record.status = Status::Retired;
                record.keys = vec![entry(Purpose::Transaction, 1, None), entry(Purpose::Assertion, 3, None)];
                record.threshold = Some(2);
                record.recovery = recovery.clone();
                record.offered_to = Some("MA.156.130100".to_owned());
            }
            Kind::Alias => record.code = Some(code(12_345)),
            Kind::Foreign => record.claims = vec!["MA.156.130100".to_owned(), "MA.156.130100.A7K2".to_owned()],
            Kind::Parameters => {
                record.parameters = genesis_of(4).parameters.values().to_vec();
                record.configuration = Some(Box::new(Configuration {
                    committee: cities(&["130100", "310000", "440300", "510100"]),
                    members: 5,
                    suspended: 1,
                    proposals: 3,
                    protocol: vec![(1, 0), (2, 1_000)],
                }));
            }
            Kind::Key => (record.holder, record.purpose) = (holder.clone(), Some(Purpose::Transaction)),
            Kind::Holding => record.serials = Some(1_001_000),
            Kind::District => record.administered_by = Some(city()),
            Kind::Proposal => {
                record.holder = Some("MA.156.310000".to_owned());
                let mut change = Encoder::new();
                Change::RemoveCity { city: city() }.encode(&mut change);
                record.proposal = Some(Box::new(Proposal { change: change.finish(), votes: cities(&["310000", "440300"]), until: 10_300 }));
            }
        }
        record
    };
    Kind::ALL.into_iter().map(make).collect()
}

fn encoded(operation: &Operation) -> Vec<u8> {
    let mut out = Encoder::new();
    operation.encode(&mut out);
    out.finish()
}

fn operations(genesis: &Hash) -> Vec<(&'static str, Operation)> {
    let holder = Holder { city: city(), org: Some(org("A7K2")) };
    let commitments = vec![("name".to_owned(), [5; 32])];
    let services = vec![("linkset".to_owned(), "https://example.org/linkset".to_owned())];
    let possession = |subject: Code, purpose, number: usize, until| {
        let message = possession_message(genesis, &subject, purpose, &public(number, 1));
        KeyProof { purpose, key: public(number, 1), from: 0, until, possession: secret(number, 1).sign(&message).to_bytes() }
    };
    let proof = |number: usize| possession(holder.code(), Purpose::Transaction, number, Some(9_000));
    let city_proof = |number, purpose| possession(Code::City { city: City::parse("130600").unwrap() }, purpose, number, None);
    let range = Range::new(city(), class(), serial(1_000), 1_000).unwrap();
    let new_item = |number, status, full: bool| NewItem {
        serial: Serial::new(number).unwrap(),
        status,
        commitments: if full { commitments.clone() } else { Vec::new() },
        services: if full { services.clone() } else { Vec::new() },
    };
    let update = ItemUpdate { serial: serial(1), expected_version: 1, commitments: commitments.clone(), services: services.clone() };
    let status = |target| Action::SetStatus { target, expected_version: 3, status: Status::Suspended };
    let whole_code = Code::parse(&code(1), None).unwrap();
    let actions = [
        (
            "1-admit-organisation",
            Action::AdmitOrganisation {
                city: city(),
                org: org("A7K2"),
                name: "Lighting office".to_owned(),
                quota: 1_000_000,
                rate: None,
                keys: vec![proof(200)],
                commitments: commitments.clone(),
            },
        ),
        ("2-allocate-range", Action::AllocateRange { holder, class: class(), size: 1_000 }),
        (
            "3-register-category",
            Action::RegisterCategory {
                holder: Holder { org: None, ..holder },
                category: category(),
                name: "Lamp".to_owned(),
                schema: None,
            },
        ),
        (
            "4-register-items",
            Action::RegisterItems {
                holder,
                category: category(),
                items: vec![new_item(1, Status::Active, true), new_item(2, Status::Allocated, false)],
            },
        ),
        ("5-update-items", Action::UpdateItems { city: city(), class: class(), items: vec![update] }),
        ("6-set-status-of-code", status(Target::Code(whole_code.clone()))),
        ("6-set-status-of-range", status(Target::Range(range))),
        (
            "7-rotate-keys",
            Action::RotateKeys { subject: holder.code(), expected_version: 1, add: vec![proof(201)], remove: vec![public(200, 1)] },
        ),
        (
            "8-seal-range",
            Action::SealRange {
                range,
                expected_version: 2,
                table: NewTable { root: [1; 32], digest: [2; 32], count: 900 },
                receipts: vec![
                    StorageReceipt { city: city(), signature: [3; 64] },
                    StorageReceipt { city: City::parse("310000").unwrap(), signature: [4; 64] },
                ],
            },
        ),
        (
            "9-override-item",
            Action::OverrideItem {
                holder,
                category: category(),
                item: new_item(1_007, Status::Suspended, true),
                expected_version: 1,
                proof: TableProof {
                    leaf: Some(Leaf { salt: [7; 16], record: item_record(&code(1_007), 1).encode() }),
                    bitmap: 5,
                    siblings: vec![[5; 32], [6; 32]],
                },
            },
        ),
        ("10-reserve-range", Action::ReserveRange { holder, range }),
        (
            "11-register-aliases",
            Action::RegisterAliases {
                namespace: "130100.A7K2/lamps".to_owned(),
                aliases: vec![("L-1".to_owned(), whole_code.clone()), ("LAMP-0002".to_owned(), whole_code.clone())],
            },
        ),
        ("12-map-district", Action::MapDistrict { city: city(), district: City::parse("130102").unwrap() }),
        ("13-set-controllers", Action::SetControllers { subject: holder.code(), expected_version: 2, threshold: 2 }),
        (
            "14-update-profile",
            Action::UpdateProfile {
                subject: holder.code(),
                expected_version: 2,
                commitments: commitments.clone(),
                services: services.clone(),
                schema: None,
            },
        ),
        (
            "15-set-terms",
            Action::SetTerms {
                city: city(),
                org: org("A7K2"),
                expected_version: 2,
                name: "Lighting office".to_owned(),
                quota: 2_000,
                rate: Some(500),
            },
        ),
        ("16-start-recovery", Action::StartRecovery { subject: holder.code(), expected_version: 2, keys: vec![proof(202)] }),
        ("17-end-recovery", Action::EndRecovery { subject: holder.code(), expected_version: 3, cancel: true }),
        (
            "18-offer-transfer",
            Action::OfferTransfer { target: Target::Range(range), expected_version: 2, to: Some(Holder { org: None, ..holder }) },
        ),
        ("18-withdraw-transfer", Action::OfferTransfer { target: Target::Code(whole_code.clone()), expected_version: 2, to: None }),
        ("19-accept-transfer", Action::AcceptTransfer { target: Target::Code(whole_code), expected_version: 2 }),
        ("21-vote", Action::Vote { city: city(), proposal: 3 }),
        ("22-withdraw-proposal", Action::WithdrawProposal { city: city(), proposal: 3 }),
    ];
    let mut operations: Vec<(&str, Operation)> =
        actions.into_iter().map(|(name, action)| (name, Operation { action, reason: None, basis: None })).collect();
    operations.extend(governance(genesis));
    let allocate = operations[1].1.clone();
    let changes = changes(city_proof(250, Purpose::Consensus), services);
    operations.extend(
        changes
            .into_iter()
            .map(|(name, change)| (name, Operation { action: Action::Propose { city: city(), change }, reason: None, basis: None })),
    );
    operations.push(("2-with-reason", Operation { reason: Some(4), ..allocate.clone() }));
    operations.push(("2-with-basis", Operation { basis: Some([8; 32]), ..allocate.clone() }));
    operations.push(("2-with-reason-and-basis", Operation { reason: Some(4), basis: Some([8; 32]), ..allocate }));
    operations
}

/// Every change that cities vote on, as operation 20.
fn changes(key: KeyProof, services: Vec<(String, String)>) -> Vec<(&'static str, Change)> {
    let newcomer = City::parse("130600").unwrap();
    vec![
        (
            "20-admit-city",
            Change::AdmitCity {
                city: newcomer,
                name: "Baoding".to_owned(),
                keys: vec![key.clone()],
                certificate: vec![0x30, 0x01, 0x02],
                services,
            },
        ),
        ("20-remove-city", Change::RemoveCity { city: newcomer }),
        ("20-set-city-status", Change::SetCityStatus { city: newcomer, status: Status::Suspended }),
        ("20-replace-keys", Change::ReplaceKeys { city: newcomer, keys: vec![key], certificate: None }),
        ("20-set-committee", Change::SetCommittee { cities: vec![city(), newcomer] }),
        ("20-set-parameters", Change::SetParameters { values: vec![(0, 5_000), (12, 3)] }),
        ("20-schedule-protocol", Change::ScheduleProtocol { version: 2, height: 5_000 }),
        ("20-merge-city", Change::MergeCity { city: newcomer, into: city() }),
    ]
}

/// Proposing each change, voting and withdrawing.
fn governance(genesis: &Hash) -> Vec<(&'static str, Operation)> {
    let new = City::parse("310000").unwrap();
    let keys: Vec<KeyProof> = [Purpose::Transaction, Purpose::Consensus, Purpose::Checkpoint, Purpose::Tls]
        .into_iter()
        .map(|purpose| {
            let (number, key) = (300, public(300, purpose as u8));
            let message = possession_message(genesis, &cityid_core::code::Code::City { city: new }, purpose, &key);
            let possession = secret(number, purpose as u8).sign(&message).to_bytes();
            KeyProof { purpose, key, from: 0, until: None, possession }
        })
        .collect();
    let certificate = vec![0x30, 0x01, 0x02];
    let services = vec![("peer".to_owned(), "tls://node.example.org:7001".to_owned())];
    let cities = ["110000", "130100", "310000", "330100"].map(|text| City::parse(text).unwrap()).to_vec();
    let propose = |change| Action::Propose { city: city(), change };
    let admit = Change::AdmitCity { city: new, name: "上海".to_owned(), keys: keys.clone(), certificate: certificate.clone(), services };
    [
        ("20-propose-admit-city", propose(admit)),
        ("20-propose-remove-city", propose(Change::RemoveCity { city: new })),
        ("20-propose-set-city-status", propose(Change::SetCityStatus { city: new, status: Status::Suspended })),
        ("20-propose-replace-keys", propose(Change::ReplaceKeys { city: new, keys: keys[1..].to_vec(), certificate: Some(certificate) })),
        ("20-propose-replace-one-key", propose(Change::ReplaceKeys { city: new, keys: keys[..1].to_vec(), certificate: None })),
        ("20-propose-set-committee", propose(Change::SetCommittee { cities })),
        ("20-propose-set-parameters", propose(Change::SetParameters { values: vec![(0, 5_000), (17, 1_000_000)] })),
        ("20-propose-schedule-protocol", propose(Change::ScheduleProtocol { version: 2, height: 100_000 })),
        ("20-propose-merge-city", propose(Change::MergeCity { city: new, into: city() })),
        ("21-vote", Action::Vote { city: city(), proposal: 1 }),
        ("22-withdraw-proposal", Action::WithdrawProposal { city: city(), proposal: 1 }),
    ]
    .map(|(name, action)| (name, Operation { action, reason: None, basis: None }))
    .to_vec()
}

fn transactions(files: &mut Files) {
    let genesis = genesis_of(4).hash();
    let operations = operations(&genesis);
    for (name, operation) in &operations {
        files.insert(format!("operation-{name}.hex"), encoded(operation));
    }
    let mut signers = [public(0, 1), public(200, 1)];
    signers.sort_unstable();
    let operations = operations.into_iter().map(|(_, operation)| operation).collect();
    let body = Body { genesis, valid_until: 1_000, nonce: (0..16).collect(), signers: signers.to_vec(), operations }.encode();
    let id = transaction_id(&body);
    let message = signing_message(&id);
    let signatures = signers.map(|signer| {
        let number = if signer == public(0, 1) { 0 } else { 200 };
        secret(number, 1).sign(&message).to_bytes()
    });
    let transaction = assemble(&body, &signatures);
    let batch = assemble_batch(1, &transaction);
    files.insert("digest-transaction.hex".to_owned(), id.to_vec());
    files.insert("digest-batch.hex".to_owned(), batch_digest(&batch).to_vec());
    files.insert("batch.hex".to_owned(), batch);
    files.insert("transaction.hex".to_owned(), transaction);
    let mut committed = Encoder::new();
    committed.array(3).bytes(&id).uint(0).array(2).array(2).uint(3_000).uint(1_000).null();
    let mut rejected = Encoder::new();
    rejected.array(4).bytes(&id).uint(1).text("over_quota").uint(1);
    let mut duplicate = Encoder::new();
    duplicate.array(2).bytes(&id).uint(2);
    for (name, receipt) in [("committed", committed), ("rejected", rejected), ("duplicate", duplicate)] {
        files.insert(format!("receipt-{name}.hex"), receipt.finish());
    }
}

/// An answer for each verdict that an answer can have, with the verdict; UNKNOWN and INVALID come from how it is verified.
fn answers(files: &mut Files) {
    let world = World::with_records(4);
    let trust = world.trust();
    let recent = world.now_ms() + 5_000;
    let mut add = |name: &str, answer: Answer, now_ms: u64, expected: VerdictKind| {
        let subject = answer.subject.clone();
        let verdict = verify(&answer, &trust, &Options { code: Some(&subject), now_ms: Some(now_ms), ..Options::default() });
        assert_eq!(verdict.verdict, expected, "{name}: {verdict:#?}");
        files.insert(format!("answer-{name}.hex"), answer.encode());
        files.insert(format!("answer-{name}.json"), answer.to_json().into_bytes());
        files.insert(format!("verdict-{name}.json"), format!("{:#}\n", verdict.to_json()).into_bytes());
    };
    for (name, subject, expected) in [
        ("registered", code(5), VerdictKind::Registered),
        ("registered-city", format!("MA.156.{CITY}"), VerdictKind::Registered),
        ("registered-category", format!("MA.156.{CITY}.A7K2/60.010203.1"), VerdictKind::Registered),
        ("registered-alias", format!("{CITY}{CLASS}000000005"), VerdictKind::Registered),
        ("registered-sealed", code(1_000), VerdictKind::Registered),
        ("registered-sealed-million", code(2_000_007), VerdictKind::Registered),
        ("registered-override", code(2_000), VerdictKind::Registered),
        ("registered-leaf-over-override", code(2_001), VerdictKind::Registered),
        ("registered-named-alias", named(5), VerdictKind::Registered),
        ("registered-named-alias-sealed", named(1_000), VerdictKind::Registered),
        ("registered-district", old_number(5), VerdictKind::Registered),
        ("registered-district-override", old_number(2_001), VerdictKind::Registered),
        ("not-registered", code(7), VerdictKind::NotRegistered),
        ("not-registered-named-alias", named(6), VerdictKind::NotRegistered),
        ("not-registered-named-item", named(7), VerdictKind::NotRegistered),
        ("not-registered-district", old_number(6), VerdictKind::NotRegistered),
        ("not-registered-sealed", code(2_005), VerdictKind::NotRegistered),
        ("not-registered-no-range", code(3_000_000), VerdictKind::NotRegistered),
        ("mismatch", code(9), VerdictKind::Mismatch),
        ("mismatch-named-alias", named(9), VerdictKind::Mismatch),
        ("not-ours-no-district", format!("650100{CLASS}000000005"), VerdictKind::NotOurs),
        ("not-ours", FOREIGN.to_owned(), VerdictKind::NotOurs),
        ("not-ours-no-member", "MA.156.650100".to_owned(), VerdictKind::NotOurs),
    ] {
        add(name, world.answer(&subject), recent, expected);
    }
    add("unavailable", world.answer_without_tables(&code(1_000)), recent, VerdictKind::Unavailable);
    add("unknown", world.answer(&code(7)), recent + 3_600_000, VerdictKind::Unknown);
    let mut unsigned = world.answer(&code(5));
    unsigned.block = world.block_signed_by(&[1, 2]);
    add("invalid", unsigned, recent, VerdictKind::Invalid);
}
