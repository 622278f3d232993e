//! Measures the state map against the `jmt` crate in one run: updates per second, proof bytes, bytes per key.
//!
//! `cargo run --release -p cityid-core --example state_rate -- KEYS BATCH ROUNDS` (default 1000000 10000 20).
#![allow(clippy::unwrap_used, clippy::float_arithmetic)]

use cityid_core::hash::{sha256, Hash};
use cityid_core::index::StateMap;
use cityid_core::state::{verify, Tree, Update, Value};
use jmt::mock::MockTreeStore;
use jmt::storage::TreeWriter;
use jmt::{KeyHash, Sha256Jmt};
use std::sync::Arc;
use std::time::Instant;

fn key(number: usize) -> Hash {
    let mut key = sha256(&number.to_be_bytes());
    key[0] = key[0] & 0x0f | 0x50;
    key
}

/// The keys of round `round`: half existing ones, half new ones.
fn batch(keys: usize, size: usize, round: usize) -> Vec<(Hash, Hash)> {
    let old = (0..size / 2).map(|n| key((round * size + n).wrapping_mul(7919) % keys));
    let new = (0..size / 2).map(|n| key(keys + round * size + n));
    let mut batch: Vec<(Hash, Hash)> = old.chain(new).map(|key| (key, sha256(&[&key[..], &round.to_be_bytes()].concat()))).collect();
    batch.sort_unstable();
    batch.dedup_by_key(|pair| pair.0);
    batch
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let (keys, size, rounds) = (*numbers.first().unwrap_or(&1_000_000), *numbers.get(1).unwrap_or(&10_000), *numbers.get(2).unwrap_or(&20));
    let updates = |pairs: &[(Hash, Hash)]| -> Vec<Update> {
        pairs.iter().map(|(key, hash)| Update { key: *key, value: Some(Value { hash: *hash, handle: 1 }) }).collect()
    };
    let mut all: Vec<(Hash, Hash)> = (0..keys).map(|number| (key(number), sha256(&number.to_le_bytes()))).collect();
    all.sort_unstable();

    let tree = Tree::new();
    let start = Instant::now();
    tree.commit(tree.apply(&tree.current(), &updates(&all)).unwrap()).unwrap();
    println!(
        "load: {:.0} keys/s, {:.1} bytes per key",
        keys as f64 / start.elapsed().as_secs_f64(),
        tree.memory_bytes() as f64 / keys as f64
    );
    let mut rates = Vec::new();
    for round in 0..rounds {
        let updates = updates(&batch(keys, size, round));
        let start = Instant::now();
        tree.commit(tree.apply(&tree.current(), &updates).unwrap()).unwrap();
        rates.push(updates.len() as f64 / start.elapsed().as_secs_f64());
    }
    let (best, ours) = (rates.iter().copied().fold(0.0, f64::max), median(rates));
    let version = tree.current();
    println!(
        "tree: {ours:.0} updates/s (median of {rounds} batches of {size}; best {best:.0}), {:.1} bytes per key",
        tree.memory_bytes() as f64 / version.len() as f64
    );

    let mut bytes = [0, 0];
    let start = Instant::now();
    for number in 0..2000 {
        for (which, key) in [key(number), key(number + 100 * keys)].into_iter().enumerate() {
            let proof = version.prove(&[key]).unwrap();
            bytes[which] += proof.ops.len() + proof.hashes.len();
            verify(&version.root(), &[(key, version.get(&key).map(|value| value.hash))], &proof).unwrap();
        }
    }
    println!(
        "proof: {} bytes present, {} absent; prove and verify {:.1} us",
        bytes[0] / 2000,
        bytes[1] / 2000,
        start.elapsed().as_secs_f64() * 1e6 / 4000.0
    );
    drop((tree, version));

    let map = StateMap::new(1);
    let record = |hash: &Hash| -> Arc<[u8]> { hash.repeat(8).into() };
    map.commit(map.candidate(all.iter().map(|(key, hash)| (*key, Some(record(hash)))).collect()).unwrap()).unwrap();
    let (mut rates, mut commits) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let changes: Vec<_> = batch(keys, size, round).iter().map(|(key, hash)| (*key, Some(record(hash)))).collect();
        let (count, start) = (changes.len() as f64, Instant::now());
        let candidate = map.candidate(changes).unwrap();
        let committing = Instant::now();
        map.commit(candidate).unwrap();
        commits.push(committing.elapsed().as_secs_f64() * 1e3);
        rates.push(count / start.elapsed().as_secs_f64());
    }
    println!("map with records of 256 bytes: {:.0} updates/s, commit {:.2} ms", median(rates), median(commits));
    let snapshot = map.current();
    let start = Instant::now();
    let found = (0..keys).filter(|number| snapshot.get(&key(number.wrapping_mul(7919) % keys)).is_some()).count();
    println!("get: {:.0} per second (with the SHA-256 of the key), {found} of {keys} found", keys as f64 / start.elapsed().as_secs_f64());
    // Publishing must cost the same whatever the number of records: compare this line at 10000 and at 1000000 keys.
    let mut times = Vec::new();
    for number in 0..500_u64 {
        let change = (key(number as usize * 17 % keys), Some(record(&sha256(&number.to_be_bytes()))));
        let start = Instant::now();
        map.commit(map.candidate(vec![change]).unwrap()).unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    println!("one update, published: {:.1} us (median of 500)", median(times));
    drop((snapshot, map));

    // jmt keeps whole nodes per version in its mock store; a tenth of the rounds is enough to see its pace.
    let store = MockTreeStore::new(false);
    let start = Instant::now();
    for (version, part) in all.chunks(50_000).enumerate() {
        put_jmt(&store, part, version as u64);
    }
    println!("jmt load: {:.0} keys/s", keys as f64 / start.elapsed().as_secs_f64());
    let first = all.chunks(50_000).len() as u64;
    let mut rates = Vec::new();
    for round in 0..rounds.div_ceil(4) {
        let pairs = batch(keys, size, round);
        let start = Instant::now();
        put_jmt(&store, &pairs, first + round as u64);
        rates.push(pairs.len() as f64 / start.elapsed().as_secs_f64());
    }
    let theirs = median(rates);
    println!("jmt: {theirs:.0} updates/s; ratio {:.1}", ours / theirs);
}

fn put_jmt(store: &MockTreeStore, pairs: &[(Hash, Hash)], version: u64) {
    let values = pairs.iter().map(|(key, hash)| (KeyHash(*key), Some(hash.to_vec())));
    let (_, batch) = Sha256Jmt::new(store).put_value_set(values, version).unwrap();
    store.write_node_batch(&batch.node_batch).unwrap();
}
