//! Proofs under a root, and the notes that carry roots. Small trees are built from the input, proven, and the proofs are edited:
//! exactly one proof is accepted.
use crate::text;
use cityid_core::checkpoint::{note, parse_note, verify_cosignatures, Checkpoint, Cosignature, CosignerKey, SignatureLine};
use cityid_core::hash::{sha256, Hash};
use cityid_core::log::{self, Log};
use cityid_core::signature;
use cityid_core::state::{self, Proof, Tree};
use std::collections::BTreeMap;

/// Applies pairs of (position, bits to flip) to bytes; the first byte may also cut or lengthen them.
fn edit(bytes: &mut Vec<u8>, edits: &[u8]) {
    for pair in edits.chunks_exact(2) {
        match pair {
            [0xff, length] => bytes.resize(usize::from(*length) * 8, 0),
            [position, flip] => {
                if let Some(byte) = bytes.get_mut(usize::from(*position)) {
                    *byte ^= flip;
                }
            }
            _ => {}
        }
    }
}

/// `keys(1) asked(1)`, a byte for each key and each asked key, then edits of the steps and of the hashes.
pub(crate) fn state_proof(data: &[u8]) {
    let Some((&[keys, asked, cut], rest)) = data.split_first_chunk::<3>() else { return };
    let (keys, asked) = (usize::from(keys % 33), usize::from(asked % 65));
    let Some((keys, rest)) = rest.split_at_checked(keys) else { return };
    let Some((asked, rest)) = rest.split_at_checked(asked) else { return };
    // Keys that share a long beginning make a deep tree.
    let key = |byte: &u8| if *byte < 64 { [&[0; 31][..], &[*byte]].concat().try_into().unwrap_or([0; 32]) } else { sha256(&[*byte]) };
    let records: BTreeMap<Hash, Hash> = keys.iter().map(|byte| (key(byte), sha256(&[*byte, 1]))).collect();
    let tree = Tree::new();
    let updates: Vec<state::Update> =
        records.iter().map(|(key, value)| state::Update { key: *key, value: Some(state::Value { hash: *value, handle: 0 }) }).collect();
    let candidate = tree.apply(&tree.current(), &updates).expect("keys are ascending");
    let root = candidate.root();
    let version = tree.commit(candidate).expect("the first version");
    let mut paths: Vec<Hash> = asked.iter().map(key).collect();
    paths.sort_unstable();
    paths.dedup();
    let claims: Vec<(Hash, Option<Hash>)> = paths.iter().map(|path| (*path, records.get(path).copied())).collect();
    let Ok(proof) = version.prove(&paths) else {
        assert!(paths.is_empty(), "one to 64 ascending keys can be proven");
        return;
    };
    state::verify(&root, &claims, &proof).expect("what was proven verifies");
    let mut edited: Proof = proof.clone();
    let (ops, hashes) = rest.split_at(usize::from(cut).min(rest.len()));
    edit(&mut edited.ops, ops);
    edit(&mut edited.hashes, hashes);
    assert_eq!(state::verify(&root, &claims, &edited).is_ok(), edited == proof, "exactly one proof is accepted");
    let mut other = claims.clone();
    if let Some((_, claim)) = other.get_mut(usize::from(cut) % claims.len()) {
        *claim = if claim.is_some() { None } else { Some([9; 32]) };
    }
    assert!(state::verify(&root, &other, &proof).is_err() && state::verify(&root, &other, &edited).is_err());
}

/// `size(1) old size(1) index(1) cut(1)`, then edits of an inclusion path and of a consistency proof.
pub(crate) fn log_proof(data: &[u8]) {
    let Some((&[size, older, index, cut], rest)) = data.split_first_chunk::<4>() else { return };
    let size = u64::from(size % 130) + 1;
    let (older, index) = (u64::from(older) % (size + 1), u64::from(index) % size);
    let leaves: Vec<Hash> = (0..size).map(|leaf| log::leaf_hash(&leaf.to_be_bytes())).collect();
    let mut log = Log::new();
    leaves.iter().for_each(|leaf| log.append(*leaf));
    let (root, old_root) = (log::root(&leaves), log::root(&leaves[..older as usize]));
    assert_eq!((log.root_at(size), log.root_at(older)), (Ok(root), Ok(old_root)));
    let (inclusion, consistency) = rest.split_at(usize::from(cut).min(rest.len()));
    let leaf = &leaves[index as usize];

    let path = log.inclusion(index, size).expect("an index within the log");
    log::verify_inclusion(leaf, index, size, &path, &root).expect("what was proven verifies");
    let edited = edited(&path, inclusion);
    assert_eq!(log::verify_inclusion(leaf, index, size, &edited, &root).is_ok(), edited == path);
    assert!(log::verify_inclusion(leaf, index, size, &path, &sha256(&root)).is_err());

    let proof = log.consistency(older, size).expect("two sizes of the log");
    log::verify_consistency(older, size, &proof, &old_root, &root).expect("what was proven verifies");
    let edited = self::edited(&proof, consistency);
    assert_eq!(log::verify_consistency(older, size, &edited, &old_root, &root).is_ok(), edited == proof);
    assert!(log::verify_consistency(older, size, &proof, &sha256(&old_root), &root).is_err());
}

fn edited(proof: &[Hash], edits: &[u8]) -> Vec<Hash> {
    let mut bytes = proof.as_flattened().to_vec();
    edit(&mut bytes, edits);
    bytes.as_chunks::<32>().0.to_vec()
}

/// Notes, checkpoints, signature lines and verifier keys of C2SP.
pub(crate) fn checkpoint(data: &[u8]) {
    if let Ok(found) = parse_note(data) {
        assert_eq!(note(&found.body, &found.lines).as_bytes(), data);
        if let Ok(checkpoint) = Checkpoint::parse(&found.body) {
            assert_eq!(checkpoint.body(), found.body);
        }
        let keys: Vec<CosignerKey> = found.lines.iter().filter_map(|line| CosignerKey::new(&line.name, [3; 32]).ok()).collect();
        let verify = |key: &[u8; 32], message: &[u8], sig: &[u8; 64]| signature::verify_strict(key, message, sig).is_ok();
        if let Ok(signed) = verify_cosignatures(&found, &keys, verify) {
            assert!(signed.is_empty(), "nobody signed with this key");
        }
    }
    let Some(text) = text(data) else { return };
    if let Ok(line) = SignatureLine::parse(text) {
        assert_eq!(line.text(), text);
    }
    if let Ok(key) = CosignerKey::parse(text) {
        assert_eq!(key.verifier_key(), text);
    }
    if let Ok(cosignature) = Cosignature::parse(data) {
        assert_eq!(cosignature.to_bytes(), data);
    }
}

pub(crate) fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let checkpoint = Checkpoint::new("cityid.example/1", 7, [5; 32]).expect("a checkpoint");
    let key = CosignerKey::new("MA.156.130100", [3; 32]).expect("a key");
    let cosignature = Cosignature { time: 1_700_000_000, signature: [4; 64] };
    let line = key.line(&cosignature);
    vec![
        note(&checkpoint.body(), std::slice::from_ref(&line)).into_bytes(),
        line.text().into_bytes(),
        key.verifier_key().into_bytes(),
        cosignature.to_bytes(),
    ]
}

pub(crate) fn state_seeds() -> Vec<Vec<u8>> {
    let mut long = vec![8, 5, 2];
    long.extend(0..8u8);
    long.extend([0, 3, 63, 64, 200]);
    long.extend([0, 1, 0, 1]);
    vec![vec![0, 1, 0, 9], vec![3, 2, 0, 100, 101, 102, 100, 103], long]
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    vec![vec![7, 3, 5, 0], vec![64, 32, 63, 2, 0, 1, 0, 1], vec![0, 0, 0, 0]]
}
