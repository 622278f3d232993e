//! The state map, or the `jmt` crate over a hash map, at some size: `state_rate ours|jmt KEYS ROUNDS BATCH...`.
//!
//! Prints lines of a name and figures: the bytes that a key takes in memory, the bytes of a proof, and for each BATCH the
//! updates per second of each round and the CPU time of an update. Half of a batch are keys that exist, half are new ones. A
//! run measures one of the two, because the memory that one gave back would hide what the other takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::float_arithmetic)]
use cityid_core::hash::{sha256, Hash};
use cityid_core::index::StateMap;
use cityid_core::state::{verify, Tree, Update, Value};
use jmt::mock::MockTreeStore;
use jmt::storage::TreeWriter;
use jmt::{KeyHash, Sha256Jmt};
use std::sync::Arc;
use std::time::Instant;

const PROOFS: usize = 1_000;
const PAGE_BYTES: f64 = 4_096.0;
const TICKS_PER_S: f64 = 100.0;

type Pair = (Hash, Hash);

fn key(number: usize) -> Hash {
    let mut key = sha256(&number.to_be_bytes());
    key[0] = key[0] & 0x0f | 0x50;
    key
}

/// The changes of round `round`, no two of which have new keys in common.
fn changes(keys: usize, size: usize, round: usize, first_new: usize) -> Vec<Pair> {
    let old = (0..size / 2).map(|number| key((round * size + number).wrapping_mul(7_919) % keys));
    let new = (0..size / 2).map(|number| key(keys + first_new + round * size + number));
    let mut pairs: Vec<Pair> = old.chain(new).map(|key| (key, sha256(&[&key[..], &round.to_be_bytes()].concat()))).collect();
    pairs.sort_unstable();
    pairs.dedup_by_key(|pair| pair.0);
    pairs
}

/// A column of /proc/self/stat or statm.
fn proc_column(file: &str, column: usize) -> f64 {
    let text = std::fs::read_to_string(file).unwrap();
    // A program's name, in parentheses, may hold spaces.
    let columns = text.rsplit(')').next().unwrap().split_whitespace();
    columns.skip(column).map(|text| text.parse::<f64>().unwrap()).next().unwrap()
}

fn resident_bytes() -> f64 {
    proc_column("/proc/self/statm", 1) * PAGE_BYTES
}

/// User and system time of all threads.
fn cpu_s() -> f64 {
    (proc_column("/proc/self/stat", 11) + proc_column("/proc/self/stat", 12)) / TICKS_PER_S
}

/// Something that takes batches of changes and proves.
trait Map {
    fn apply(&mut self, pairs: &[Pair]);
    fn proof_bytes(&self, key: &Hash) -> usize;
}

struct Ours(Tree);

impl Map for Ours {
    fn apply(&mut self, pairs: &[Pair]) {
        let updates: Vec<Update> =
            pairs.iter().map(|(key, hash)| Update { key: *key, value: Some(Value { hash: *hash, handle: 1 }) }).collect();
        self.0.commit(self.0.apply(&self.0.current(), &updates).unwrap()).unwrap();
    }

    fn proof_bytes(&self, key: &Hash) -> usize {
        let version = self.0.current();
        let proof = version.prove(&[*key]).unwrap();
        verify(&version.root(), &[(*key, version.get(key).map(|value| value.hash))], &proof).unwrap();
        proof.ops.len() + proof.hashes.len()
    }
}

struct Jmt {
    store: MockTreeStore,
    version: u64,
}

impl Map for Jmt {
    fn apply(&mut self, pairs: &[Pair]) {
        let values = pairs.iter().map(|(key, hash)| (KeyHash(*key), Some(hash.to_vec())));
        let (_, batch) = Sha256Jmt::new(&self.store).put_value_set(values, self.version).unwrap();
        self.store.write_node_batch(&batch.node_batch).unwrap();
        self.version += 1;
    }

    /// In borsh, the crate's own encoding: an optional leaf of 64 bytes, then siblings, each a tag and 64 bytes unless empty.
    fn proof_bytes(&self, key: &Hash) -> usize {
        let (_, proof) = Sha256Jmt::new(&self.store).get_with_proof(KeyHash(*key), self.version - 1).unwrap();
        let json = serde_json::to_value(&proof).unwrap();
        let siblings = json["siblings"].as_array().unwrap();
        let leaf = if proof.leaf().is_some() { 65 } else { 1 };
        leaf + 4 + siblings.iter().map(|sibling| if sibling == "Null" { 1 } else { 65 }).sum::<usize>()
    }
}

fn measure(map: &mut dyn Map, keys: usize, rounds: usize, sizes: &[usize]) {
    let mut all: Vec<Pair> = (0..keys).map(|number| (key(number), sha256(&number.to_le_bytes()))).collect();
    all.sort_unstable();
    let before = resident_bytes();
    for part in all.chunks(50_000) {
        map.apply(part);
    }
    println!("bytes_per_key {:.1}", (resident_bytes() - before) / keys as f64);
    for (name, first) in [("present", 0), ("absent", 100 * keys)] {
        let bytes: usize = (0..PROOFS).map(|number| map.proof_bytes(&key(first + number))).sum();
        println!("proof_bytes.{name} {}", bytes / PROOFS);
    }
    let mut first_new = 0;
    for &size in sizes {
        let batches: Vec<Vec<Pair>> = (0..=rounds).map(|round| changes(keys, size, round, first_new)).collect();
        first_new += (rounds + 1) * size;
        map.apply(&batches[0]);
        let (cpu, mut updates, mut rates) = (cpu_s(), 0, Vec::new());
        for batch in &batches[1..] {
            let start = Instant::now();
            map.apply(batch);
            rates.push(format!("{:.0}", batch.len() as f64 / start.elapsed().as_secs_f64()));
            updates += batch.len();
        }
        println!("update.{size} {}", rates.join(" "));
        println!("cpu_us.{size} {:.3}", (cpu_s() - cpu) * 1e6 / updates as f64);
    }
}

/// Publishing must cost the same whatever the number of records: compare this line at 10,000 and at 1,000,000 keys.
fn measure_publishing(keys: usize) {
    let map = StateMap::new(1);
    let record = |number: usize| -> Option<Arc<[u8]>> { Some(sha256(&number.to_be_bytes()).repeat(8).into()) };
    let all = (0..keys).map(|number| (key(number), record(number))).collect();
    map.commit(map.candidate(all).unwrap()).unwrap();
    let mut times: Vec<f64> = (0..500)
        .map(|number| {
            let start = Instant::now();
            map.commit(map.candidate(vec![(key(number * 17 % keys), record(number + 1))]).unwrap()).unwrap();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("publish_us {:.1}", times[times.len() / 2]);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [which, numbers @ ..] = &arguments[..] else { panic!("arguments: ours|jmt KEYS ROUNDS BATCH...") };
    let numbers: Vec<usize> = numbers.iter().map(|text| text.parse().unwrap()).collect();
    let [keys, rounds, sizes @ ..] = &numbers[..] else { panic!("arguments: ours|jmt KEYS ROUNDS BATCH...") };
    if which == "jmt" {
        measure(&mut Jmt { store: MockTreeStore::new(false), version: 0 }, *keys, *rounds, sizes);
    } else {
        measure(&mut Ours(Tree::new()), *keys, *rounds, sizes);
        measure_publishing(*keys);
    }
}
