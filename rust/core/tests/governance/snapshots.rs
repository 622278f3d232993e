//! Snapshots: a ledger that was read from one goes on as the one that wrote it, and nothing of it can be another (P79 to P82).
use crate::world::*;
use cityid_core::answer::CertifiedHeader;
use cityid_core::error::Error;
use cityid_core::hash::{sha256, Hash};
use cityid_core::ledger::snapshot::{ChunkKind, Loader, Manifest};
use cityid_core::ledger::stored::Outcome;
use cityid_core::ledger::Ledger;
use cityid_core::record::Purpose;
use cityid_core::vote::CommitCertificate;
use cityid_core::wire::Encoder;
use serde_json::json;

/// A world whose set and window changed, with organisations, a range and remembered transactions.
fn changed() -> World {
    let mut world = World::with(4, |genesis| genesis["parameters"]["window"] = json!(40));
    let admission = world.admission("310000");
    world.decide(admission);
    let keys = world.keys("110000", &[Purpose::Consensus], "/2");
    world.decide_by(&CITIES[..4], json!({"change": "replace_keys", "city": "110000", "keys": keys}));
    world.decide_by(&CITIES[..4], committee(&["110000", "130100", "310000", "330100"]));
    let own = world.keys("130100.A7K2", &[Purpose::Transaction], "");
    world.ok(
        json!({"op": "admit_organisation", "city": "130100", "org": "A7K2", "name": "Works", "quota": 5000, "keys": own, "commitments": {}}),
        &desk("130100"),
    );
    world.ok(
        json!({"op": "allocate_range", "city": "130100", "org": "A7K2", "class": "010203", "size": 1000}),
        &key("130100.A7K2/transaction"),
    );
    world.decide_by(&CITIES[..4], parameter("window", 10));
    world.pass(3);
    world
}

fn walk(world: &World) -> Vec<CertifiedHeader> {
    let certified = |height: u64| {
        let (header, _, certificate) = &world.commits[height as usize - 1];
        let path = world.ledger.inclusion(height, height + 1).unwrap();
        CertifiedHeader::from_certificate(header.clone(), path, &CommitCertificate::decode(certificate).unwrap())
    };
    world.ledger.set_changes(0).into_iter().map(|(height, _)| certified(height)).collect()
}

fn written(ledger: &Ledger, walk: Vec<CertifiedHeader>) -> (Manifest, Vec<Vec<u8>>) {
    let mut writer = ledger.write_snapshot(walk).unwrap();
    let mut chunks = Vec::new();
    while let Some((hash, chunk)) = writer.next_chunk(ledger).unwrap() {
        assert_eq!(hash, sha256(&chunk));
        chunks.push(chunk);
    }
    assert_eq!(writer.next_chunk(ledger).unwrap(), None);
    (writer.manifest(), chunks)
}

fn load(ledger: &Ledger, manifest: &Manifest, chunks: &[Vec<u8>]) -> Result<(), Error> {
    let mut loader = Loader::new(ledger.genesis(), &[9; 32], &manifest.encode())?;
    for chunk in chunks {
        loader.add(chunk)?;
    }
    ledger.install(loader.finish()?)
}

fn refused(world: &World, manifest: &Manifest, chunks: &[Vec<u8>], expected: &str) {
    let ledger = world.fresh();
    let before = (ledger.tip(), ledger.published().state.root());
    let error = load(&ledger, manifest, chunks).expect_err(expected);
    assert!(error.to_string().contains(expected), "{error} where {expected} was expected");
    assert_eq!((ledger.tip(), ledger.published().state.root()), before);
    let (manifest, chunks) = written(&world.ledger, walk(world));
    load(&ledger, &manifest, &chunks).unwrap();
}

/// The manifest with another chunk in a place, and the hash that then fits.
fn with_chunk(manifest: &Manifest, chunks: &[Vec<u8>], place: usize, chunk: Vec<u8>) -> (Manifest, Vec<Vec<u8>>) {
    let (mut manifest, mut chunks) = (manifest.clone(), chunks.to_vec());
    (manifest.chunks[place].hash, manifest.chunks[place].size) = (sha256(&chunk), chunk.len() as u64);
    chunks[place] = chunk;
    (manifest, chunks)
}

fn place_of(manifest: &Manifest, kind: ChunkKind) -> usize {
    manifest.chunks.iter().position(|chunk| chunk.kind == kind).unwrap()
}

#[test]
fn a_ledger_from_a_snapshot_goes_on_as_the_one_that_wrote_it() {
    let mut world = changed();
    let once = world.transaction(propose("310000", parameter("max_services", 9)), &desk("310000"));
    world.block(std::slice::from_ref(&once));
    let (manifest, chunks) = written(&world.ledger, walk(&world));
    assert_eq!(Manifest::decode(&manifest.encode()).unwrap(), manifest);
    let ledger = world.fresh();
    load(&ledger, &manifest, &chunks).unwrap();
    let (ours, theirs) = (ledger.published(), world.ledger.published());
    assert_eq!((ours.height, ours.state.root(), ours.time_ms), (theirs.height, theirs.state.root(), theirs.time_ms));
    assert_eq!((&ours.rules, &ours.validators, &ours.certified), (&theirs.rules, &theirs.validators, &theirs.certified));
    assert_eq!(ledger.tip(), world.ledger.tip());
    assert_eq!(ledger.log_root(), world.ledger.log_root());
    assert_eq!(ledger.set_changes(0), world.ledger.set_changes(0));
    assert_eq!(ledger.directory().keys(), world.ledger.directory().keys());
    for height in 0..=world.height() {
        assert_eq!(ledger.inclusion(height, world.height() + 1), world.ledger.inclusion(height, world.height() + 1));
        assert_eq!(ledger.validators_at(height).unwrap(), world.ledger.validators_at(height).unwrap());
    }
    // A snapshot of the snapshot is the same one.
    assert_eq!(written(&ledger, walk(&world)), (manifest, chunks));
    // Both take the next block, in which the last transaction comes again.
    let digest = |ledger: &Ledger| {
        let batch = cityid_core::ledger::transaction::assemble_batch(1, &once);
        ledger.ingest(&[&batch])[0].0
    };
    let digests = [digest(&ledger)];
    assert_eq!(digests, [digest(&world.ledger)]);
    let other = ledger.execute(world.height() + 1, theirs.time_ms + 1000, city("130100"), &digests).unwrap();
    let own = world.ledger.execute(world.height() + 1, theirs.time_ms + 1000, city("130100"), &digests).unwrap();
    assert_eq!((other.header_bytes.clone(), other.value), (own.header_bytes.clone(), own.value));
    let certificate = world.certify(&own, &world.ledger.validators());
    let commit = ledger.commit(other, &certificate).unwrap();
    assert_eq!((commit.committed, commit.rejected), (0, 0), "it is a duplicate");
    world.commit(own);
    assert_eq!(world.outcomes(), [Outcome::Duplicate]);
    assert_eq!(ledger.log_root(), world.ledger.log_root());
}

#[test]
fn a_snapshot_replaces_only_an_older_ledger_of_its_network() {
    let world = changed();
    let (manifest, chunks) = written(&world.ledger, walk(&world));
    assert!(matches!(load(&world.ledger, &manifest, &chunks), Err(Error::Rule { reason: "invalid_block", .. })));
    let other = World::with(4, |genesis| genesis["name"] = json!("another"));
    assert!(matches!(load(&other.ledger, &manifest, &chunks), Err(Error::Certificate(_))));
    assert!(matches!(world.fresh().write_snapshot(Vec::new()), Err(Error::Rule { reason: "not_ready", .. })));
    assert!(matches!(world.ledger.write_snapshot(Vec::new()), Err(Error::Rule { reason: "unknown_height", .. })));
}

#[test]
fn no_part_of_a_snapshot_can_be_another() {
    let world = changed();
    let (manifest, chunks) = written(&world.ledger, walk(&world));
    // Another chunk than the manifest lists, one too few, one too many.
    for place in 0..chunks.len() {
        let mut damaged = chunks.clone();
        let middle = damaged[place].len() / 2;
        damaged[place][middle] ^= 1;
        refused(&world, &manifest, &damaged, "not the one that the manifest lists");
    }
    refused(&world, &manifest, &chunks[..chunks.len() - 1], "missing");
    refused(&world, &manifest, &[&chunks[..], &chunks[..1]].concat(), "more chunks");
    // Whoever lists what it likes is found out by what the header says.
    let flipped = |kind: ChunkKind, from_end: usize| {
        let place = place_of(&manifest, kind);
        let mut chunk = chunks[place].clone();
        let at = chunk.len() - from_end;
        chunk[at] ^= 1;
        with_chunk(&manifest, &chunks, place, chunk)
    };
    let (lying, parts) = flipped(ChunkKind::Leaves, 1);
    refused(&world, &lying, &parts, "certified value");
    let (lying, parts) = flipped(ChunkKind::Records, 1);
    refused(&world, &lying, &parts, "state root");
    // Remembered heights that are left out, at the start or at the end.
    let place = place_of(&manifest, ChunkKind::Heights);
    let mut empty = Encoder::new();
    empty.array(2).uint(ChunkKind::Heights as u64).array(0);
    let (lying, parts) = with_chunk(&manifest, &chunks, place, empty.finish());
    refused(&world, &lying, &parts, "could come again");
    // The versions of the parameters left out, which would make the window look narrow: 10 heights are few, 40 were more.
    let (mut lying, mut parts) = (manifest.clone(), chunks.clone());
    let place = place_of(&manifest, ChunkKind::Configurations);
    lying.chunks.remove(place);
    parts.remove(place);
    refused(&world, &lying, &parts, "far enough back");
}

#[test]
fn the_header_of_a_snapshot_follows_from_the_genesis_by_certificates() {
    let world = changed();
    let (manifest, chunks) = written(&world.ledger, walk(&world));
    let mut lying = manifest.clone();
    lying.walk.pop();
    refused(&world, &lying, &chunks, "does not lead to");
    let mut lying = manifest.clone();
    lying.walk.swap(0, 1);
    refused(&world, &lying, &chunks, "trust stays");
    let mut lying = manifest.clone();
    lying.block.signatures[0][0] ^= 1;
    assert!(matches!(load(&world.fresh(), &lying, &chunks), Err(Error::Certificate(_) | Error::Signature { .. })));
    let mut lying = manifest.clone();
    lying.block.bitmap[0] = 0x80;
    lying.block.signatures.truncate(1);
    refused(&world, &lying, &chunks, "are needed");
    let mut lying = manifest.clone();
    lying.records += 1;
    refused(&world, &lying, &chunks, "state root");
    let bytes = manifest.encode();
    for end in 0..bytes.len() {
        assert!(Manifest::decode(&bytes[..end]).is_err());
    }
    assert!(Manifest::decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn what_is_remembered_follows_from_the_window_before_each_block() {
    // Blocks before the window shrank are remembered for 40 heights, those after it for 10.
    let mut world = changed();
    let shrank = world.height() - 3;
    world.pass(15);
    let (manifest, chunks) = written(&world.ledger, walk(&world));
    let ledger = world.fresh();
    load(&ledger, &manifest, &chunks).unwrap();
    let ids: Vec<Hash> = (1..=world.height()).flat_map(|height| ids_of(&world, height)).collect();
    assert!(!ids.is_empty() && ids_of(&world, shrank).iter().all(|id| ledger.receipt(id).is_some()));
    for id in ids {
        assert_eq!(ledger.receipt(&id), world.ledger.receipt(&id));
        assert_eq!(ledger.receipt_proof(&id), world.ledger.receipt_proof(&id));
    }
}

fn ids_of(world: &World, height: u64) -> Vec<Hash> {
    cityid_core::ledger::stored::decode_receipts(&world.commits[height as usize - 1].1.receipts).unwrap().0
}
