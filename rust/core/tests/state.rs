//! The state map against the `jmt` crate and a ten-line reference; proofs against every small edit; versions against time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cityid_core::error::Error;
use cityid_core::hash::{sha256, Hash};
use cityid_core::index::StateMap;
use cityid_core::state::{verify, Proof, Tree, Update, Value, Version, PLACEHOLDER, QUERIES_MAX};
use jmt::mock::MockTreeStore;
use jmt::storage::TreeWriter;
use jmt::{KeyHash, RootHash, Sha256Jmt};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

/// Splitmix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn hash(&mut self) -> Hash {
        sha256(&self.next().to_be_bytes())
    }

    /// A key under one four-bit kind, as nearly all keys of the ledger are.
    fn key(&mut self) -> Hash {
        let mut key = self.hash();
        key[0] = key[0] & 0x0f | 0x50;
        key
    }
}

/// The rules of the tree in ten lines.
fn reference(pairs: &[(Hash, Hash)], depth: usize) -> Hash {
    match pairs {
        [] => *b"SPARSE_MERKLE_PLACEHOLDER_HASH__",
        [(key, value)] => sha256(&[&b"JMT::LeafNode"[..], key, value].concat()),
        _ => {
            let middle = pairs.iter().take_while(|(key, _)| key[depth / 8] << (depth % 8) & 0x80 == 0).count();
            let (left, right) = pairs.split_at(middle);
            sha256(&[&b"JMT::IntrnalNode"[..], &reference(left, depth + 1), &reference(right, depth + 1)].concat())
        }
    }
}

/// Our tree, the jmt crate and a map, given the same batches.
struct Trio {
    tree: Tree,
    store: MockTreeStore,
    version: u64,
    map: BTreeMap<Hash, Vec<u8>>,
}

impl Trio {
    fn new() -> Trio {
        Trio { tree: Tree::new(), store: MockTreeStore::new(false), version: 0, map: BTreeMap::new() }
    }

    fn batch(&mut self, changes: &BTreeMap<Hash, Option<Vec<u8>>>) -> Version {
        let updates: Vec<Update> = changes
            .iter()
            .map(|(key, value)| Update {
                key: *key,
                value: value.as_ref().map(|value| Value { hash: sha256(value), handle: value.len() as u64 }),
            })
            .collect();
        let version = self.tree.commit(self.tree.apply(&self.tree.current(), &updates).unwrap()).unwrap();
        let values = changes.iter().map(|(key, value)| (KeyHash(*key), value.clone()));
        let (root, batch) = Sha256Jmt::new(&self.store).put_value_set(values, self.version).unwrap();
        self.store.write_node_batch(&batch.node_batch).unwrap();
        self.version += 1;
        for (key, value) in changes {
            match value {
                Some(value) => self.map.insert(*key, value.clone()),
                None => self.map.remove(key),
            };
        }
        assert_eq!(version.root(), root.0, "jmt has another root after {} keys", self.map.len());
        assert_eq!(version.root(), reference(&self.pairs(), 0));
        assert_eq!(version.len(), self.map.len() as u64);
        version
    }

    fn pairs(&self) -> Vec<(Hash, Hash)> {
        self.map.iter().map(|(key, value)| (*key, sha256(value))).collect()
    }

    /// Our proof of one key and jmt's own, each in its own verifier, with the right claim and with wrong ones.
    fn check_proof(&self, version: &Version, key: &Hash) {
        let value = self.map.get(key);
        let (jmt_value, jmt_proof) = Sha256Jmt::new(&self.store).get_with_proof(KeyHash(*key), self.version - 1).unwrap();
        assert_eq!(jmt_value.as_ref(), value);
        let proof = version.prove(&[*key]).unwrap();
        let wrong = b"never stored".to_vec();
        for claim in [value.cloned(), None, Some(wrong)] {
            let ours = verify(&version.root(), &[(*key, claim.as_ref().map(|value| sha256(value)))], &proof).is_ok();
            let theirs = jmt_proof.verify(RootHash(version.root()), KeyHash(*key), claim.as_ref()).is_ok();
            assert_eq!(ours, theirs);
            assert_eq!(ours, claim.as_ref() == value, "a wrong claim passes or the right one does not");
        }
    }
}

fn claims_of(version: &Version, keys: &[Hash]) -> Vec<(Hash, Option<Hash>)> {
    keys.iter().map(|key| (*key, version.get(key).map(|value| value.hash))).collect()
}

fn sorted(mut keys: Vec<Hash>) -> Vec<Hash> {
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[test]
fn roots_and_proofs_equal_jmt_over_random_batches() {
    let mut random = Random(1);
    for (rounds, batch_max) in [(25, 4), (15, 40), (6, 1500)] {
        let mut trio = Trio::new();
        for _ in 0..rounds {
            let mut changes = BTreeMap::new();
            for _ in 0..=random.below(batch_max) {
                let known = trio.map.keys().nth(random.below(trio.map.len().max(1))).copied();
                let change = match (random.below(4), known) {
                    (0, Some(key)) => (key, None),
                    (1, Some(key)) => (key, Some(random.next().to_be_bytes().to_vec())),
                    (2, _) if random.below(8) == 0 => (random.key(), None),
                    _ => (random.key(), Some(random.next().to_be_bytes().to_vec())),
                };
                changes.insert(change.0, change.1);
            }
            let version = trio.batch(&changes);
            for key in changes.keys().take(5) {
                trio.check_proof(&version, key);
            }
            trio.check_proof(&version, &random.key());
            trio.check_proof(&version, &random.hash());
        }
        // Down to nothing, in two batches, so that every collapse happens.
        for part in [2, 1] {
            let keys: Vec<Hash> = trio.map.keys().copied().take(trio.map.len() / part).collect();
            let version = trio.batch(&keys.iter().map(|key| (*key, None)).collect());
            assert_eq!(part == 1, version.root() == PLACEHOLDER);
        }
    }
}

#[test]
fn tiny_trees_and_shared_prefixes_equal_jmt() {
    let mut random = Random(2);
    for size in [1, 2, 3, 15, 16, 17] {
        let mut trio = Trio::new();
        let version = trio.batch(&(0..size).map(|n| (random.hash(), Some(vec![n]))).collect());
        for key in trio.map.keys().copied().collect::<Vec<_>>() {
            trio.check_proof(&version, &key);
        }
        trio.check_proof(&version, &random.hash());
    }
    let mut trio = Trio::new();
    let base = random.hash();
    let twin = |shared: usize| {
        let mut key = base;
        key[shared / 8] ^= 0x80 >> (shared % 8);
        key
    };
    // Keys that part from `base` after 0 to 255 bits, in several batches, then away again: chains as deep as keys have bits.
    trio.batch(&BTreeMap::from([(base, Some(vec![1])), (twin(255), Some(vec![2]))]));
    for shared in [254, 128, 64, 63, 8, 7, 1, 0] {
        let version = trio.batch(&BTreeMap::from([(twin(shared), Some(vec![shared as u8]))]));
        trio.check_proof(&version, &base);
        trio.check_proof(&version, &twin(255));
        trio.check_proof(&version, &twin(200));
    }
    for shared in [0, 254, 255, 64] {
        let version = trio.batch(&BTreeMap::from([(twin(shared), None), (twin(77), None)]));
        trio.check_proof(&version, &base);
        trio.check_proof(&version, &twin(shared));
    }
}

#[test]
fn batches_larger_than_a_piece_equal_the_reference() {
    let mut random = Random(3);
    let tree = Tree::new();
    let mut map = BTreeMap::new();
    for round in 0..4 {
        let mut updates = BTreeMap::new();
        for _ in 0..6000 {
            updates.insert(random.key(), Some(Value { hash: random.hash(), handle: random.next() }));
        }
        for key in map.keys().step_by(3 + round) {
            updates.insert(*key, None);
        }
        let updates: Vec<Update> = updates.into_iter().map(|(key, value)| Update { key, value }).collect();
        let version = tree.commit(tree.apply(&tree.current(), &updates).unwrap()).unwrap();
        for update in &updates {
            match update.value {
                Some(value) => map.insert(update.key, value),
                None => map.remove(&update.key),
            };
        }
        let pairs: Vec<(Hash, Hash)> = map.iter().map(|(key, value)| (*key, value.hash)).collect();
        assert_eq!(version.root(), reference(&pairs, 0));
        assert!(version.walk().eq(map.iter().map(|(key, value)| (*key, *value))));
        for (key, value) in map.iter().take(100) {
            assert_eq!(version.get(key), Some(*value));
        }
    }
}

/// A tree in which one proof meets every op: 40 keys under a kind, one alone under another, two that share 255 bits.
fn varied_version(random: &mut Random) -> (Version, Vec<Hash>) {
    let mut keys: Vec<Hash> = (0..40).map(|_| random.key()).collect();
    keys.push([0xc0; 32]);
    let mut twin = keys[0];
    twin[31] ^= 1;
    keys.push(twin);
    let keys = sorted(keys);
    let updates: Vec<Update> = keys.iter().map(|key| Update { key: *key, value: Some(Value { hash: random.hash(), handle: 0 }) }).collect();
    let tree = Tree::new();
    (tree.commit(tree.apply(&tree.current(), &updates).unwrap()).unwrap(), keys)
}

#[test]
fn every_bit_of_a_proof_and_of_its_claims_counts() {
    let mut random = Random(4);
    let (version, keys) = varied_version(&mut random);
    let root = version.root();
    let absent_beside_a_leaf = [0xc1; 32];
    for queries in [
        vec![keys[0]],
        vec![absent_beside_a_leaf],
        vec![[0x00; 32]],
        sorted(vec![random.key()]),
        sorted(vec![keys[0], keys[1], keys[7], [0xc0; 32], absent_beside_a_leaf, [0x00; 32], random.key(), random.key()]),
    ] {
        let proof = version.prove(&queries).unwrap();
        let claims = claims_of(&version, &queries);
        verify(&root, &claims, &proof).expect("the unmodified proof passes");
        for bit in 0..proof.ops.len() * 8 {
            let mut edited = proof.clone();
            edited.ops[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(verify(&root, &claims, &edited), Err(Error::Proof(_))), "op bit {bit}");
        }
        for bit in 0..proof.hashes.len() * 8 {
            let mut edited = proof.clone();
            edited.hashes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(verify(&root, &claims, &edited), Err(Error::Proof(_))), "hash bit {bit}");
        }
        for bit in 0..256 {
            let mut edited = root;
            edited[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(verify(&edited, &claims, &proof), Err(Error::Proof(_))), "root bit {bit}");
        }
        for (ops, hashes) in [(1, 0), (0, 1), (0, 32)] {
            let mut longer = proof.clone();
            longer.ops.extend(vec![0; ops]);
            longer.hashes.extend(vec![0; hashes]);
            assert!(matches!(verify(&root, &claims, &longer), Err(Error::Proof(_))));
            let mut shorter = proof.clone();
            shorter.ops.truncate(proof.ops.len() - ops);
            shorter.hashes.truncate(proof.hashes.len().saturating_sub(hashes));
            assert!(shorter == proof || matches!(verify(&root, &claims, &shorter), Err(Error::Proof(_))));
        }
        for position in 0..claims.len() {
            for bit in 0..256 {
                let mut edited = claims.clone();
                edited[position].0[bit / 8] ^= 1 << (bit % 8);
                let (key, value) = edited[position];
                // A changed key that is absent too may pass: then the claim is true.
                let is_true = value.is_none() && version.get(&key).is_none();
                assert!(is_true || matches!(verify(&root, &edited, &proof), Err(Error::Proof(_))), "key bit {bit}");
                let mut edited = claims.clone();
                if let Some(value) = &mut edited[position].1 {
                    value[bit / 8] ^= 1 << (bit % 8);
                    assert!(matches!(verify(&root, &edited, &proof), Err(Error::Proof(_))), "value bit {bit}");
                }
            }
            let mut opposite = claims.clone();
            opposite[position].1 = if claims[position].1.is_some() { None } else { Some(random.hash()) };
            assert!(matches!(verify(&root, &opposite, &proof), Err(Error::Proof(_))), "the opposite claim");
            if claims.len() > 1 {
                let mut fewer = claims.clone();
                fewer.remove(position);
                let passes = verify(&root, &fewer, &proof).is_ok();
                let fewer_keys: Vec<Hash> = fewer.iter().map(|claim| claim.0).collect();
                assert_eq!(passes, version.prove(&fewer_keys).unwrap() == proof, "a proof passes only for the keys whose proof it is");
            }
        }
    }
}

#[test]
fn forged_proofs_are_refused_by_their_reason() {
    let refusal = |root: &Hash, claims: &[(Hash, Option<Hash>)], proof: &Proof| match verify(root, claims, proof) {
        Err(Error::Proof(message)) => message,
        other => panic!("not refused: {other:?}"),
    };
    let ops =
        |ops: &[u8]| ops.chunks(4).map(|four| four.iter().enumerate().fold(0, |byte, (place, op)| byte | op << (6 - 2 * place))).collect();
    let leaf = |key: &Hash, value: &Hash| sha256(&[&b"JMT::LeafNode"[..], key, value].concat());
    let inner = |left: &Hash, right: &Hash| sha256(&[&b"JMT::IntrnalNode"[..], left, right].concat());
    let (low, high, value) = ([0x00; 32], [0xf0; 32], sha256(b"value"));

    // An inner node over nothing and a leaf, with a root that fits: no tree has that shape.
    let root = inner(&PLACEHOLDER, &leaf(&high, &value));
    let proof = Proof { ops: ops(&[3, 0, 1]), hashes: vec![] };
    assert!(refusal(&root, &[(low, None), (high, Some(value))], &proof).contains("inner node where a tree has a leaf"));
    assert!(refusal(&root, &[(high, Some(value))], &proof).contains("inner node where a tree has a leaf"));
    let root = inner(&PLACEHOLDER, &PLACEHOLDER);
    assert!(refusal(&root, &[(low, None), (high, None)], &Proof { ops: ops(&[3, 0, 0]), hashes: vec![] }).contains("inner node where"));
    // The placeholder as a sibling hash.
    let twins = inner(&leaf(&low, &value), &PLACEHOLDER);
    let proof = Proof { ops: ops(&[3, 1, 3]), hashes: PLACEHOLDER.to_vec() };
    assert!(refusal(&twins, &[(low, Some(value))], &proof).contains("empty sibling"));
    // A foreign leaf from another part of the tree, and the queried key's own leaf as a foreign one.
    let root = inner(&leaf(&low, &value), &leaf(&high, &value));
    let (mut beside, mut sibling) = (high, leaf(&low, &value).to_vec());
    beside[31] = 1;
    sibling.extend([low, value].concat());
    let forged = Proof { ops: ops(&[3, 3, 2]), hashes: sibling };
    assert!(refusal(&root, &[(beside, None)], &forged).contains("does not belong where"));
    let own = Proof { ops: ops(&[2]), hashes: [high, value].concat() };
    assert!(refusal(&leaf(&high, &value), &[(high, None)], &own).contains("belongs to a claimed key"));
    // Control: the same shapes, rightly used.
    let honest = Proof { ops: ops(&[3, 3, 2]), hashes: [leaf(&low, &value), high, value].concat() };
    verify(&root, &[(beside, None)], &honest).unwrap();
    // A chain without end, and two present keys at one leaf.
    let endless = Proof { ops: vec![0xff; 200], hashes: [value; 400].concat() };
    assert!(refusal(&root, &[(low, None)], &endless).contains("deeper than a key has bits"));
    let shared = Proof { ops: ops(&[1]), hashes: vec![] };
    assert!(refusal(&root, &[(low, Some(value)), (high, Some(value))], &shared).contains("lead to one leaf"));
    // Nothing claimed, too much claimed, claims out of order.
    assert!(refusal(&root, &[], &honest).contains("1 to 64"));
    assert!(refusal(&root, &[(high, None), (low, None)], &honest).contains("ascending"));
    let many: Vec<(Hash, Option<Hash>)> = (0..=QUERIES_MAX as u8).map(|n| ([n; 32], None)).collect();
    assert!(refusal(&PLACEHOLDER, &many, &Proof { ops: ops(&[0]), hashes: vec![] }).contains("1 to 64"));
    verify(&PLACEHOLDER, &many[1..], &Proof { ops: ops(&[0]), hashes: vec![] }).unwrap();
}

#[test]
fn multi_proofs_answer_any_mix_of_keys() {
    let mut random = Random(5);
    let (version, keys) = varied_version(&mut random);
    for count in 1..=QUERIES_MAX {
        let queries =
            sorted((0..count).map(|_| if random.below(2) == 0 { keys[random.below(keys.len())] } else { random.key() }).collect());
        let proof = version.prove(&queries).unwrap();
        verify(&version.root(), &claims_of(&version, &queries), &proof).unwrap();
    }
    assert!(matches!(version.prove(&[]), Err(Error::Malformed(_))));
    assert!(matches!(version.prove(&[[1; 32]; 2]), Err(Error::Malformed(_))));
    assert!(matches!(version.prove(&sorted((0..65).map(|_| random.key()).collect())), Err(Error::Malformed(_))));
}

#[test]
fn a_batch_out_of_order_or_for_another_tree_is_refused() {
    let tree = Tree::new();
    let update = |byte| Update { key: [byte; 32], value: Some(Value { hash: [byte; 32], handle: 0 }) };
    for updates in [[update(2), update(1)], [update(1), update(1)]] {
        assert!(matches!(tree.apply(&tree.current(), &updates), Err(Error::Malformed(_))));
    }
    assert!(matches!(tree.apply(&Tree::new().current(), &[update(1)]), Err(Error::Malformed(_))));
    assert_eq!(tree.current().root(), PLACEHOLDER);
    tree.apply(&tree.current(), &[update(1), update(2)]).expect("the control passes");
}

#[test]
fn candidates_of_one_base_do_not_disturb_each_other() {
    let mut random = Random(6);
    let tree = Tree::new();
    let keys = sorted((0..3000).map(|_| random.key()).collect());
    let put = |random: &mut Random| {
        keys.iter().map(|key| Update { key: *key, value: Some(Value { hash: random.hash(), handle: 1 }) }).collect::<Vec<_>>()
    };
    let root_of =
        |updates: &[Update]| reference(&updates.iter().map(|update| (update.key, update.value.unwrap().hash)).collect::<Vec<_>>(), 0);
    let first = put(&mut random);
    let base = tree.commit(tree.apply(&tree.current(), &first).unwrap()).unwrap();
    let (second, third) = (put(&mut random), put(&mut random));
    let one = tree.apply(&base, &second).unwrap();
    let two = tree.apply(&base, &third).unwrap();
    drop(tree.apply(&base, &second).unwrap());
    let three = tree.apply(&base, &second).unwrap();
    assert_eq!((one.root(), two.root(), three.root()), (root_of(&second), root_of(&third), root_of(&second)));
    assert_eq!(tree.current().root(), root_of(&first));
    let committed = tree.commit(two).unwrap();
    assert!(matches!(tree.commit(one), Err(Error::Rule { reason: "stale_base", .. })));
    drop(three);
    assert_eq!((committed.root(), tree.current().root()), (root_of(&third), root_of(&third)));
    // Every node of both versions still answers.
    for (version, updates) in [(&base, &first), (&committed, &third)] {
        assert!(updates.iter().all(|update| version.get(&update.key) == update.value));
        let queries: Vec<Hash> = keys.iter().step_by(50).copied().collect();
        verify(&version.root(), &claims_of(version, &queries), &version.prove(&queries).unwrap()).unwrap();
    }
}

#[test]
fn nodes_are_recycled_unless_a_version_is_kept() {
    let mut random = Random(7);
    let keys = sorted((0..2000).map(|_| random.key()).collect());
    let put = |random: &mut Random| {
        keys.iter().map(|key| Update { key: *key, value: Some(Value { hash: random.hash(), handle: 9 }) }).collect::<Vec<_>>()
    };
    let tree = Tree::new();
    let rounds = |random: &mut Random| {
        for _ in 0..100 {
            drop(tree.apply(&tree.current(), &put(random)).unwrap());
            tree.commit(tree.apply(&tree.current(), &put(random)).unwrap()).unwrap();
        }
    };
    tree.commit(tree.apply(&tree.current(), &put(&mut random)).unwrap()).unwrap();
    tree.commit(tree.apply(&tree.current(), &put(&mut random)).unwrap()).unwrap();
    let used = tree.used_bytes();
    rounds(&mut random);
    let memory = tree.memory_bytes();
    rounds(&mut random);
    assert_eq!(tree.used_bytes(), used, "200 rounds over the same keys use no more nodes");
    // How many slots parallel builders hold at one moment depends on the scheduler; without recycling this would be forty times as much.
    assert!(tree.memory_bytes() < memory + memory / 4);

    // Control: a kept version holds its nodes, and answers as on the first day.
    let kept = tree.current();
    let queries: Vec<Hash> = keys.iter().step_by(40).copied().collect();
    let (claims, proof) = (claims_of(&kept, &queries), kept.prove(&queries).unwrap());
    rounds(&mut random);
    assert!(tree.memory_bytes() > 10 * memory);
    assert_eq!(claims_of(&kept, &queries), claims);
    assert_eq!(kept.prove(&queries).unwrap(), proof);
    assert_eq!(tree.oldest_live(), kept.number());
    drop(kept);
    assert_eq!(tree.oldest_live(), tree.current().number());
    assert_eq!(tree.used_bytes(), used);
}

#[test]
fn readers_prove_from_old_versions_while_a_writer_commits_and_drops() {
    let mut random = Random(8);
    let map = Arc::new(StateMap::new(99));
    let keys = sorted((0..1500).map(|_| random.key()).collect());
    // The record of a key at height h names both, so a reader can tell a record of another height.
    let record = |key: &Hash, height: u64| -> Arc<[u8]> { [&key[..], &height.to_be_bytes()].concat().into() };
    let changes = |height: u64| -> Vec<(Hash, Option<Arc<[u8]>>)> {
        // A third of the keys is touched at each height; some of them are removed.
        let touched = keys.iter().enumerate().filter(|(place, _)| (*place as u64 + height).is_multiple_of(3));
        touched.map(|(place, key)| (*key, (!(place as u64 + height).is_multiple_of(11)).then(|| record(key, height)))).collect()
    };
    let expected = |place: usize, height: u64| {
        let last = (1..=height).rev().find(|height| (place as u64 + height).is_multiple_of(3))?;
        (!(place as u64 + last).is_multiple_of(11)).then(|| record(&keys[place], last))
    };
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (map, done, answered, keys, expected) = (&map, &done, &answered, &keys, &expected);
            scope.spawn(move || {
                let mut random = Random(100 + reader);
                while !done.load(Ordering::Relaxed) {
                    let snapshot = map.current();
                    for _ in 0..40 {
                        let places = [random.below(keys.len()), random.below(keys.len())];
                        let (first, last) = (places[0].min(places[1]), places[0].max(places[1]));
                        for place in places {
                            assert_eq!(snapshot.get(&keys[place]), expected(place, snapshot.number()));
                        }
                        if first != last {
                            let claims =
                                [first, last].map(|place| (keys[place], expected(place, snapshot.number()).map(|record| sha256(&record))));
                            let proof = snapshot.prove(&[keys[first], keys[last]]).unwrap();
                            verify(&snapshot.root(), &claims, &proof).unwrap();
                        }
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for height in 1..=150 {
            drop(map.candidate(changes(height + 1)).unwrap());
            let candidate = map.candidate(changes(height)).unwrap();
            map.commit(candidate).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 100);
    let pairs: Vec<(Hash, Hash)> =
        keys.iter().enumerate().filter_map(|(place, key)| Some((*key, sha256(&expected(place, 150)?)))).collect();
    assert_eq!(map.current().root(), reference(&pairs, 0));
}

#[test]
fn records_follow_their_versions() {
    let map = StateMap::new(7);
    let text = |text: &str| Some(Arc::<[u8]>::from(text.as_bytes()));
    let commit = |changes: Vec<(Hash, Option<Arc<[u8]>>)>| map.commit(map.candidate(changes).unwrap()).unwrap();
    let empty = map.current();
    let (a, b, c) = ([0x51; 32], [0x52; 32], [0x53; 32]);
    let one = commit(vec![(b, text("b1")), (a, text("a1"))]);
    let two = commit(vec![(a, text("a2")), (c, text("c2"))]);
    let three = commit(vec![(b, None), (c, text("c2"))]);
    let four = commit(vec![(b, text("b4"))]);
    let rows = [
        (&empty, [None, None, None]),
        (&one, [text("a1"), text("b1"), None]),
        (&two, [text("a2"), text("b1"), text("c2")]),
        (&three, [text("a2"), None, text("c2")]),
        (&four, [text("a2"), text("b4"), text("c2")]),
    ];
    for (snapshot, records) in &rows {
        assert_eq!(snapshot.get_many(&[a, b, c]), *records);
        assert_eq!(snapshot.len(), records.iter().flatten().count() as u64);
        let walked: Vec<(Hash, Arc<[u8]>)> = snapshot.walk().collect();
        let present: Vec<(Hash, Arc<[u8]>)> =
            [a, b, c].into_iter().zip(records.clone()).filter_map(|(key, record)| Some((key, record?))).collect();
        assert_eq!(walked, present);
        let claims: Vec<_> =
            [a, b, c].into_iter().zip(records).map(|(key, record)| (key, record.as_ref().map(|record| sha256(record)))).collect();
        verify(&snapshot.root(), &claims, &snapshot.prove(&[a, b, c]).unwrap()).unwrap();
    }
    assert!(matches!(map.candidate(vec![(a, None), (a, text("x"))]), Err(Error::Malformed(_))));
    let stale = map.candidate(vec![(a, text("a5"))]).unwrap();
    let fresh = map.candidate(vec![(a, text("a6"))]).unwrap();
    map.commit(fresh).unwrap();
    assert!(matches!(map.commit(stale), Err(Error::Rule { reason: "stale_base", .. })));
    assert_eq!(map.current().get(&a), text("a6"));
    assert!(matches!(StateMap::new(7).commit(map.candidate(vec![]).unwrap()), Err(Error::Rule { reason: "stale_base", .. })));
}

#[test]
fn the_seed_of_the_index_changes_no_output() {
    let mut random = Random(9);
    let changes: Vec<(Hash, Option<Arc<[u8]>>)> = (0..3000).map(|_| (random.key(), Some(Arc::from(&random.hash()[..])))).collect();
    let answers = |seed| {
        let map = StateMap::new(seed);
        let snapshot = map.commit(map.candidate(changes.clone()).unwrap()).unwrap();
        let rows: Vec<(Hash, Arc<[u8]>)> = snapshot.walk().collect();
        (snapshot.root(), rows, snapshot.prove(&[changes[0].0]).unwrap())
    };
    assert_eq!(answers(0), answers(u64::MAX));
}

#[test]
fn record_slots_are_recycled_unless_a_snapshot_is_kept() {
    let mut random = Random(10);
    let map = StateMap::new(3);
    let keys = sorted((0..500).map(|_| random.key()).collect());
    let rounds = |random: &mut Random, count: usize| {
        for _ in 0..count {
            let mut changes = || keys.iter().map(|key| (*key, Some(Arc::from(&random.hash()[..])))).collect::<Vec<_>>();
            drop(map.candidate(changes()).unwrap());
            map.commit(map.candidate(changes()).unwrap()).unwrap();
        }
    };
    rounds(&mut random, 3);
    let slots = map.record_slots();
    rounds(&mut random, 100);
    assert_eq!(map.record_slots(), slots);
    let kept = map.current();
    let records = kept.get_many(&keys);
    rounds(&mut random, 20);
    assert!(map.record_slots() > 5 * slots, "control: a kept snapshot keeps its records");
    assert_eq!(kept.get_many(&keys), records);
    assert_ne!(map.current().get_many(&keys), records);
}
