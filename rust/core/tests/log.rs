//! The log against the certificate-transparency vectors and a recursive reference, and its verifiers against every edit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cityid_core::error::Error;
use cityid_core::hash::{hex, sha256, Hash};
use cityid_core::log::{leaf_hash, node_hash, root, root_from_inclusion, verify_consistency, verify_inclusion, Frontier, Log};

/// RFC 9162 section 2.1.1, word for word.
fn reference(leaves: &[Vec<u8>]) -> Hash {
    match leaves {
        [] => sha256(b""),
        [leaf] => sha256(&[&[0][..], leaf].concat()),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            sha256(&[&[1][..], &reference(left), &reference(right)].concat())
        }
    }
}

/// RFC 9162 section 2.1.3.1.
fn reference_path(index: usize, leaves: &[Vec<u8>]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let middle = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if index < middle {
        (reference_path(index, left), reference(right))
    } else {
        (reference_path(index - middle, right), reference(left))
    };
    path.push(sibling);
    path
}

/// RFC 9162 section 2.1.4.1: `SUBPROOF(m, D[n], b)`.
fn reference_consistency(first: usize, leaves: &[Vec<u8>], whole: bool) -> Vec<Hash> {
    if first == leaves.len() {
        return if whole { vec![] } else { vec![reference(leaves)] };
    }
    let middle = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(middle);
    let (mut proof, sibling) = if first <= middle {
        (reference_consistency(first, left, whole), reference(right))
    } else {
        (reference_consistency(first - middle, right, false), reference(left))
    };
    proof.push(sibling);
    proof
}

fn log_of(leaves: &[Vec<u8>]) -> Log {
    let mut log = Log::new();
    for leaf in leaves {
        log.append(leaf_hash(leaf));
    }
    log
}

fn some_leaves(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| vec![n as u8; n % 5]).collect()
}

/// Inputs, roots and paths of the reference tests of `google/certificate-transparency` (`cpp/merkletree/merkle_tree_test.cc`).
#[test]
fn the_vectors_of_certificate_transparency() {
    let inputs: [&[u8]; 8] = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let log = log_of(&inputs.map(<[u8]>::to_vec));
    let leaves = inputs.map(leaf_hash);
    for (size, expected) in roots.iter().enumerate() {
        assert_eq!(hex(&log.root_at(size as u64).unwrap()), *expected);
        assert_eq!(hex(&root(&leaves[..size])), *expected);
    }
    let texts = |proof: Vec<Hash>| proof.iter().map(|hash| hex(hash)).collect::<Vec<_>>();
    let right_of_four = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
    assert_eq!(
        texts(log.inclusion(0, 8).unwrap()),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
        ]
    );
    assert_eq!(
        texts(log.inclusion(5, 8).unwrap()),
        ["bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b", right_of_four, roots[4]]
    );
    assert_eq!(
        texts(log.consistency(6, 8).unwrap()),
        ["0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a", right_of_four, roots[4]]
    );
}

#[test]
fn roots_and_frontiers_equal_the_reference() {
    let leaves = some_leaves(70);
    let log = log_of(&leaves);
    let mut frontier = Frontier::default();
    for size in 0..=70 {
        let expected = reference(&leaves[..size]);
        assert_eq!((frontier.size(), frontier.root()), (size as u64, expected));
        assert_eq!(log.root_at(size as u64).unwrap(), expected);
        assert_eq!(log.frontier_at(size as u64).unwrap(), frontier);
        assert_eq!(Frontier::from_parts(frontier.size(), frontier.peaks().to_vec()).unwrap(), frontier);
        if let Some(leaf) = leaves.get(size) {
            let after = frontier.root_after(&leaf_hash(leaf));
            frontier.append(leaf_hash(leaf));
            assert_eq!(after, frontier.root());
        }
    }
    assert!(matches!(log.root_at(71), Err(Error::Malformed(_))));
    assert!(matches!(Frontier::from_parts(3, vec![[0; 32]]), Err(Error::Malformed(_))));
    assert!(matches!(Frontier::from_parts(u64::MAX, vec![[0; 32]; 64]), Err(Error::Malformed(_))));
    assert_eq!(log.level(3).len(), 8);
    assert_eq!(log.level(3)[1], reference(&leaves[8..16]));
    assert!(log.level(60).is_empty());
    // More leaves than one task takes.
    let many: Vec<Vec<u8>> = (0..5000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    for size in [1024, 1025, 2048, 2049, 4096, 4097, 5000] {
        let hashes: Vec<Hash> = many[..size].iter().map(|leaf| leaf_hash(leaf)).collect();
        assert_eq!(root(&hashes), reference(&many[..size]));
    }
}

#[test]
fn inclusion_proofs_equal_the_reference_and_bear_no_edit() {
    let leaves = some_leaves(70);
    let log = log_of(&leaves);
    for size in 1..=70_u64 {
        let root = log.root_at(size).unwrap();
        for index in 0..size {
            let leaf = leaf_hash(&leaves[index as usize]);
            let proof = log.inclusion(index, size).unwrap();
            assert_eq!(proof, reference_path(index as usize, &leaves[..size as usize]));
            verify_inclusion(&leaf, index, size, &proof, &root).unwrap();
            assert_eq!(root_from_inclusion(&leaf, index, size, &proof), Ok(root));
            let refused = |leaf: &Hash, index, size, proof: &[Hash], root: &Hash| {
                assert!(matches!(verify_inclusion(leaf, index, size, proof, root), Err(Error::Proof(_))));
            };
            refused(&leaf_hash(b"other"), index, size, &proof, &root);
            refused(&leaf, index, size, &[&proof[..], &[root]].concat(), &root);
            refused(&leaf, index, size, &proof, &leaf_hash(b"other"));
            refused(&leaf, index + size, size, &proof, &root);
            for place in 0..proof.len() {
                let mut edited = proof.clone();
                edited[place][place % 32] ^= 1;
                refused(&leaf, index, size, &edited, &root);
                edited.remove(place);
                refused(&leaf, index, size, &edited, &root);
            }
            for other in 0..size {
                if leaf_hash(&leaves[other as usize]) != leaf {
                    refused(&leaf_hash(&leaves[other as usize]), index, size, &proof, &root);
                }
                if other != index {
                    refused(&leaf, other, size, &proof, &root);
                }
            }
        }
        assert!(matches!(log.inclusion(size, size), Err(Error::Malformed(_))));
    }
    assert!(matches!(log.inclusion(0, 71), Err(Error::Malformed(_))));
    assert!(matches!(verify_inclusion(&[0; 32], 0, 0, &[], &sha256(b"")), Err(Error::Proof(_))));
    assert!(matches!(verify_inclusion(&[0; 32], u64::MAX - 1, u64::MAX, &[[0; 32]; 80], &[0; 32]), Err(Error::Proof(_))));
}

#[test]
fn consistency_proofs_equal_the_reference_and_bear_no_edit() {
    let leaves = some_leaves(70);
    let log = log_of(&leaves);
    let refused = |size1, size2, proof: &[Hash], root1: &Hash, root2: &Hash| {
        assert!(matches!(verify_consistency(size1, size2, proof, root1, root2), Err(Error::Proof(_))), "{size1} {size2}");
    };
    for size2 in 0..=70_u64 {
        let root2 = log.root_at(size2).unwrap();
        for size1 in 0..=size2 {
            let root1 = log.root_at(size1).unwrap();
            let proof = log.consistency(size1, size2).unwrap();
            if size1 > 0 {
                assert_eq!(proof, reference_consistency(size1 as usize, &leaves[..size2 as usize], true));
            }
            verify_consistency(size1, size2, &proof, &root1, &root2).unwrap();
            let other = leaf_hash(b"other");
            refused(size1, size2, &proof, &other, &root2);
            if size1 > 0 {
                refused(size1, size2, &proof, &root1, &other);
            }
            refused(size1, size2, &[&proof[..], &[other]].concat(), &root1, &root2);
            for place in 0..proof.len() {
                let mut edited = proof.clone();
                edited[place][place % 32] ^= 1;
                refused(size1, size2, &edited, &root1, &root2);
                edited.remove(place);
                refused(size1, size2, &edited, &root1, &root2);
            }
            if size1 != size2 {
                refused(size2, size1, &proof, &root2, &root1);
                assert!(matches!(log.consistency(size2, size1), Err(Error::Malformed(_))));
            }
        }
    }
    // A fork: the same sizes, another third leaf.
    let mut forked = leaves.clone();
    forked[2] = b"fork".to_vec();
    let fork = log_of(&forked);
    for (size1, size2) in [(3, 8), (4, 8), (5, 70), (64, 70)] {
        refused(size1, size2, &fork.consistency(size1, size2).unwrap(), &log.root_at(size1).unwrap(), &fork.root_at(size2).unwrap());
    }
    refused(u64::MAX - 1, u64::MAX, &[[0; 32]; 80], &[0; 32], &[0; 32]);
    assert_eq!(node_hash(&leaf_hash(&leaves[0]), &leaf_hash(&leaves[1])), log.root_at(2).unwrap());
}
