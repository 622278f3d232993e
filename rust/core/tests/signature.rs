//! Single and batch verification against ed25519-zebra, the reference implementation of ZIP-215, on every kind of edge.
//!
//! The cases are made here: the fourteen encodings of the eight points of small order, keys and R with a component of small
//! order, s out of range, and ordinary good and bad signatures to keep them company. Controls show that a verifier without
//! the cofactor, and a batch without coefficients, would be caught.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use cityid_core::error::Error;
use cityid_core::signature::{is_acceptable_for_registration, verify, verify_strict, Item, Verifier};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use proptest::prelude::*;
use rand::seq::SliceRandom;
use rand::{rngs::StdRng, Rng, RngExt, SeedableRng};
use sha2::{Digest, Sha512};
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
struct Case {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

impl Case {
    fn new(key: [u8; 32], message: &[u8], r: [u8; 32], s: [u8; 32]) -> Case {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(&s);
        Case { key, message: message.to_vec(), signature }
    }

    /// The verdict of the oracle.
    fn oracle(&self) -> bool {
        let signature = ed25519_zebra::Signature::from_bytes(&self.signature);
        ed25519_zebra::VerificationKey::try_from(self.key).is_ok_and(|key| key.verify(&signature, &self.message).is_ok())
    }

    /// The equation of RFC 8032 without the cofactor, R recomputed and compared by its bytes, as Go's crypto/ed25519 does.
    fn go_accepts(&self) -> bool {
        let (r, s) = self.signature.split_at(32);
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s.try_into().unwrap()));
        let (Some(public), Some(s)) = (CompressedEdwardsY(self.key).decompress(), s) else { return false };
        let challenge = challenge(r.try_into().unwrap(), &self.key, &self.message);
        (s * ED25519_BASEPOINT_POINT - challenge * public).compress().as_bytes() == r
    }

    fn single(&self) -> bool {
        let verdict = verify(&self.key, &self.message, &self.signature);
        assert!(verdict == Ok(()) || verdict == Err(Error::Signature(vec![0])));
        verdict.is_ok()
    }

    fn strict(&self) -> bool {
        verify_strict(&self.key, &self.message, &self.signature).is_ok()
    }
}

fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let hash: [u8; 64] = Sha512::new().chain_update(r).chain_update(key).chain_update(message).finalize().into();
    Scalar::from_bytes_mod_order_wide(&hash)
}

fn random_scalar(random: &mut StdRng) -> Scalar {
    let mut wide = [0; 64];
    random.fill_bytes(&mut wide);
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// Signs with a key and an R that are offset by points of small order. With the identity twice it is plain Ed25519.
fn sign_offset(random: &mut StdRng, message: &[u8], key_offset: EdwardsPoint, r_offset: EdwardsPoint) -> Case {
    let (secret, nonce) = (random_scalar(random), random_scalar(random));
    let key = (secret * ED25519_BASEPOINT_POINT + key_offset).compress().to_bytes();
    let r = (nonce * ED25519_BASEPOINT_POINT + r_offset).compress().to_bytes();
    let s = nonce + challenge(&r, &key, message) * secret;
    Case::new(key, message, r, s.to_bytes())
}

fn good(random: &mut StdRng) -> Case {
    let mut message = vec![0; random.random_range(0..300)];
    random.fill_bytes(&mut message);
    sign_offset(random, &message, EIGHT_TORSION[0], EIGHT_TORSION[0])
}

fn bad(random: &mut StdRng) -> Case {
    let mut case = good(random);
    match random.random_range(0..4) {
        0 => case.message.push(1),
        1 => case.key[random.random_range(0..32)] ^= 1 << random.random_range(0..8),
        2 => case.signature[random.random_range(0..32)] ^= 1 << random.random_range(0..8),
        _ => case.signature[random.random_range(32..64)] ^= 1 << random.random_range(0..8),
    }
    case
}

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
}

/// p = 2²⁵⁵ - 19 plus a small number, little-endian.
fn field_prime_plus(number: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed + number;
    bytes[31] = 0x7f;
    bytes
}

fn with_sign(mut encoding: [u8; 32]) -> [u8; 32] {
    encoding[31] |= 0x80;
    encoding
}

/// The encodings of points of small order: eight canonical ones, then the six that are not.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = field_prime_plus(0);
    minus_one[0] -= 1;
    let mut encodings: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
    // x = 0 with the sign bit set; y = p for 0; y = p + 1 for 1.
    encodings.extend([with_sign(one), with_sign(minus_one)]);
    encodings.extend([field_prime_plus(0), with_sign(field_prime_plus(0)), field_prime_plus(1), with_sign(field_prime_plus(1))]);
    encodings
}

/// Little-endian sum; used to add the group order to s.
fn add(one: [u8; 32], other: [u8; 32]) -> [u8; 32] {
    let mut carry = 0u16;
    std::array::from_fn(|index| {
        carry += u16::from(one[index]) + u16::from(other[index]);
        let digit = carry as u8;
        carry >>= 8;
        digit
    })
}

/// The group order l = 2²⁵² + 27742317777372353535851937790883648493.
fn group_order() -> [u8; 32] {
    unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
}

fn edge_cases(random: &mut StdRng) -> Vec<Case> {
    let mut cases = Vec::new();
    // A and R of small order, s = 0: valid, whatever is signed.
    for key in small_order_encodings() {
        for r in small_order_encodings() {
            cases.push(Case::new(key, b"Zcash", r, [0; 32]));
        }
    }
    // The same with s that is not 0, and with one side ordinary.
    for encoding in small_order_encodings() {
        let ordinary = good(random);
        let r: [u8; 32] = ordinary.signature[..32].try_into().unwrap();
        let s: [u8; 32] = ordinary.signature[32..].try_into().unwrap();
        cases.push(Case::new(encoding, b"", encoding, Scalar::ONE.to_bytes()));
        cases.push(Case::new(encoding, &ordinary.message, r, s));
        cases.push(Case::new(ordinary.key, &ordinary.message, encoding, s));
        cases.push(Case::new(ordinary.key, &ordinary.message, encoding, [0; 32]));
        // A key of small order needs no secret: s = the nonce.
        let nonce = random_scalar(random);
        let r = (nonce * ED25519_BASEPOINT_POINT).compress().to_bytes();
        cases.push(Case::new(encoding, b"anyone", r, nonce.to_bytes()));
        // An R of small order, honestly signed: the nonce is 0.
        let secret = random_scalar(random);
        let key = (secret * ED25519_BASEPOINT_POINT).compress().to_bytes();
        cases.push(Case::new(key, b"leak", encoding, (challenge(&encoding, &key, b"leak") * secret).to_bytes()));
    }
    // Keys and R of mixed order.
    for key_offset in EIGHT_TORSION {
        for r_offset in EIGHT_TORSION {
            cases.push(sign_offset(random, b"mixed order", key_offset, r_offset));
        }
    }
    // s = l, s + l, s with high bits set, all ones; every y from p up, which has 19 values.
    for _ in 0..4 {
        let ordinary = good(random);
        let (r, s) = ordinary.signature.split_at(32);
        let (r, s): ([u8; 32], [u8; 32]) = (r.try_into().unwrap(), s.try_into().unwrap());
        for wrong in [add(s, group_order()), group_order(), add(s, with_sign([0; 32])), [0xff; 32]] {
            cases.push(Case::new(ordinary.key, &ordinary.message, r, wrong));
        }
    }
    cases.push(Case::new(small_order_encodings()[0], b"", small_order_encodings()[0], group_order()));
    for number in 0..19 {
        for encoding in [field_prime_plus(number), with_sign(field_prime_plus(number))] {
            let ordinary = good(random);
            let s: [u8; 32] = ordinary.signature[32..].try_into().unwrap();
            cases.push(Case::new(encoding, b"", small_order_encodings()[0], [0; 32]));
            cases.push(Case::new(encoding, &ordinary.message, ordinary.signature[..32].try_into().unwrap(), s));
            cases.push(Case::new(ordinary.key, &ordinary.message, encoding, s));
        }
    }
    cases
}

fn items(cases: &[Case]) -> Vec<Item<'_>> {
    cases.iter().map(|case| Item { key: &case.key, message: &case.message, signature: &case.signature }).collect()
}

/// The batch verdict must be the oracle's, position by position; twice, so that the second run meets a warm cache.
fn assert_batch_agrees(verifier: &mut Verifier, cases: &[Case], seed: u8) {
    let bad: Vec<u32> = (0..).zip(cases).filter(|(_, case)| !case.oracle()).map(|(position, _)| position).collect();
    let expected = if bad.is_empty() { Ok(()) } else { Err(Error::Signature(bad)) };
    for round in 0..2 {
        assert_eq!(verifier.verify_batch(&items(cases), [seed ^ round; 32]), expected);
    }
}

#[test]
fn test_vectors_of_rfc_8032_verify() {
    let vectors: [(&str, &[u8], &str); 3] = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            b"",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            &[0x72],
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            &[0xaf, 0x82],
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ];
    let cases = vectors.map(|(key, message, signature)| Case { key: unhex(key), message: message.to_vec(), signature: unhex(signature) });
    assert!(cases.iter().all(|case| case.single() && case.strict()));
    assert_eq!(Verifier::default().verify_batch(&items(&cases), [1; 32]), Ok(()));
    assert!(cases.iter().all(|case| is_acceptable_for_registration(&case.key).is_ok()));
}

#[test]
fn the_fourteen_encodings_are_distinct_and_decode_to_small_order() {
    let encodings = small_order_encodings();
    assert_eq!(encodings.iter().collect::<BTreeSet<_>>().len(), 14);
    for encoding in &encodings {
        assert!(CompressedEdwardsY(*encoding).decompress().unwrap().is_small_order());
    }
    for encoding in &encodings[8..] {
        assert_ne!(CompressedEdwardsY(*encoding).decompress().unwrap().compress().as_bytes(), encoding);
    }
}

#[test]
fn single_verification_agrees_with_the_oracle_on_every_edge() {
    let mut random = StdRng::seed_from_u64(1);
    let cases = edge_cases(&mut random);
    for case in &cases {
        assert_eq!(case.single(), case.oracle(), "{case:?}");
    }
    assert!(cases[..14 * 14].iter().all(Case::single), "ZIP-215 accepts every pair of small order with s = 0");
    let valid = cases.iter().filter(|case| case.single()).count();
    assert!(valid > 196 + 14 + 64 && valid < cases.len() - 50, "both verdicts are well represented: {valid} of {}", cases.len());
}

#[test]
fn control_without_the_cofactor_a_verifier_would_be_caught() {
    let cases = edge_cases(&mut StdRng::seed_from_u64(2));
    let disagreements = cases.iter().filter(|case| case.go_accepts() != case.oracle()).count();
    assert!(disagreements > 100, "{disagreements}");
    assert!(cases.iter().all(|case| !case.go_accepts() || case.oracle()), "what holds without the cofactor holds with it");
}

#[test]
fn batches_agree_with_the_oracle_whatever_the_companions() {
    let mut random = StdRng::seed_from_u64(3);
    let edges = edge_cases(&mut random);
    let mut verifier = Verifier::default();
    for companions in 0..4u8 {
        let mut cases = edges.clone();
        for _ in 0..100 {
            if companions >= 1 {
                cases.push(good(&mut random));
            }
            if companions >= 2 {
                cases.push(bad(&mut random));
            }
        }
        cases.shuffle(&mut random);
        assert_batch_agrees(&mut verifier, &cases, companions);
        // Only those the oracle accepts, so that the equation itself must pass; then with one bad among them.
        cases.retain(Case::oracle);
        assert_batch_agrees(&mut verifier, &cases, companions);
        let position = random.random_range(0..cases.len());
        cases[position].signature[40] ^= 1;
        assert_batch_agrees(&mut verifier, &cases, companions);
    }
}

#[test]
fn each_edge_keeps_its_verdict_in_small_companies() {
    let mut random = StdRng::seed_from_u64(4);
    let mut cases = edge_cases(&mut random);
    cases.shuffle(&mut random);
    let mut verifier = Verifier::new(16);
    for group in cases.chunks(3) {
        let mut company = group.to_vec();
        company.push(good(&mut random));
        company.shuffle(&mut random);
        assert_batch_agrees(&mut verifier, &company, 4);
    }
}

#[test]
fn positions_of_bad_signatures_are_exact() {
    let mut random = StdRng::seed_from_u64(5);
    let pool: Vec<Case> = (0..1000).map(|_| good(&mut random)).collect();
    let spoilt: Vec<Case> = pool.iter().map(|case| Case { message: [&case.message[..], b"!"].concat(), ..case.clone() }).collect();
    let mut verifier = Verifier::default();
    for size in [0usize, 1, 2, 7, 8, 9, 1000] {
        for wanted in [0, 1, 2, 5, 30, size / 2, size] {
            let bad: BTreeSet<usize> = (0..wanted.min(size)).map(|_| random.random_range(0..size)).collect();
            let bad = if wanted == size { (0..size).collect() } else { bad };
            let cases: Vec<&Case> = (0..size).map(|index| if bad.contains(&index) { &spoilt[index] } else { &pool[index] }).collect();
            let items: Vec<Item<'_>> =
                cases.iter().map(|case| Item { key: &case.key, message: &case.message, signature: &case.signature }).collect();
            let positions: Vec<u32> = bad.iter().map(|&index| index as u32).collect();
            let expected = if positions.is_empty() { Ok(()) } else { Err(Error::Signature(positions)) };
            assert_eq!(verifier.verify_batch(&items, [size as u8; 32]), expected, "{wanted} bad of {size}");
        }
    }
}

#[test]
fn one_key_many_times_and_one_item_many_times() {
    let mut random = StdRng::seed_from_u64(6);
    let secret = random_scalar(&mut random);
    let key = (secret * ED25519_BASEPOINT_POINT).compress().to_bytes();
    let mut cases: Vec<Case> = Vec::new();
    for index in 0..60u8 {
        let nonce = random_scalar(&mut random);
        let r = (nonce * ED25519_BASEPOINT_POINT).compress().to_bytes();
        cases.push(Case::new(key, &[index], r, (nonce + challenge(&r, &key, &[index]) * secret).to_bytes()));
    }
    cases.extend(vec![good(&mut random); 20]);
    cases.extend(vec![bad(&mut random); 20]);
    cases[17].message = vec![18];
    cases.shuffle(&mut random);
    assert_batch_agrees(&mut Verifier::default(), &cases, 6);
}

/// Without unpredictable coefficients, errors in two signatures that cancel in the sum would pass.
#[test]
fn errors_that_cancel_are_found() {
    let mut random = StdRng::seed_from_u64(7);
    let mut cases: Vec<Case> = (0..40).map(|_| good(&mut random)).collect();
    for (position, change) in [(11, Scalar::ONE), (23, -Scalar::ONE)] {
        let s = Scalar::from_canonical_bytes(cases[position].signature[32..].try_into().unwrap()).unwrap();
        cases[position].signature[32..].copy_from_slice((s + change).as_bytes());
    }
    // Control: with all coefficients equal, the two errors do cancel.
    let mut sum = EIGHT_TORSION[0];
    for case in &cases {
        let r: [u8; 32] = case.signature[..32].try_into().unwrap();
        let s = Scalar::from_canonical_bytes(case.signature[32..].try_into().unwrap()).unwrap();
        let point = |encoding| CompressedEdwardsY(encoding).decompress().unwrap();
        sum += point(r) + challenge(&r, &case.key, &case.message) * point(case.key) - s * ED25519_BASEPOINT_POINT;
    }
    assert!(sum.is_small_order());
    for seed in 0..4 {
        assert_eq!(Verifier::default().verify_batch(&items(&cases), [seed; 32]), Err(Error::Signature(vec![11, 23])));
    }
}

#[test]
fn messages_of_any_length() {
    let mut random = StdRng::seed_from_u64(8);
    let mut cases = Vec::new();
    for length in [0, 1, 63, 64, 111, 112, 127, 128, 1 << 20] {
        let mut message = vec![0; length];
        random.fill_bytes(&mut message);
        let case = sign_offset(&mut random, &message, EIGHT_TORSION[0], EIGHT_TORSION[0]);
        assert!(case.single() && case.oracle() && case.strict());
        let mut longer = case.clone();
        longer.message.push(0);
        assert!(!longer.single() && !longer.strict());
        cases.extend([case, longer]);
    }
    assert_batch_agrees(&mut Verifier::default(), &cases, 8);
}

#[test]
fn strict_verification_accepts_less_than_go_and_zip_215() {
    let mut random = StdRng::seed_from_u64(9);
    let mut cases = edge_cases(&mut random);
    cases.extend((0..50).map(|_| good(&mut random)));
    cases.extend((0..50).map(|_| bad(&mut random)));
    let mut accepted = 0;
    for case in &cases {
        if case.strict() {
            accepted += 1;
            assert!(case.go_accepts() && case.oracle(), "{case:?}");
        } else if case.go_accepts() {
            let small = |encoding: &[u8]| small_order_encodings().iter().any(|one| one == encoding);
            assert!(small(&case.key) || small(&case.signature[..32]), "only small order is refused beyond Go: {case:?}");
        }
    }
    assert!(accepted > 50, "{accepted}");
    // A member adds a component of small order to R: valid to us, refused by Go, so it must not enter a note.
    let offset = sign_offset(&mut random, b"checkpoint", EIGHT_TORSION[0], EIGHT_TORSION[1]);
    assert!(offset.single() && !offset.go_accepts() && !offset.strict());
}

#[test]
fn registration_refuses_keys_with_two_names_and_keys_without_a_secret() {
    let mut random = StdRng::seed_from_u64(10);
    let reason = |key: &[u8; 32]| match is_acceptable_for_registration(key) {
        Ok(()) => "accepted",
        Err(Error::Rule { reason, .. }) => reason,
        Err(other) => panic!("{other}"),
    };
    let encodings = small_order_encodings();
    assert!(encodings[..8].iter().all(|key| reason(key) == "key_small_order"));
    assert!(encodings[8..].iter().all(|key| reason(key) == "key_not_canonical"));
    for number in 2..19 {
        assert_ne!(reason(&field_prime_plus(number)), "accepted");
    }
    let mut refused = 0;
    for _ in 0..50 {
        assert_eq!(reason(&good(&mut random).key), "accepted");
        let mut any = [0; 32];
        random.fill_bytes(&mut any);
        let is_point = CompressedEdwardsY(any).decompress().is_some();
        assert_eq!(reason(&any), if is_point { "accepted" } else { "key_not_a_point" });
        refused += usize::from(!is_point);
    }
    assert!(refused > 5);
}

#[test]
fn the_key_cache_is_bounded_and_garbage_does_not_enter_it() {
    let mut random = StdRng::seed_from_u64(11);
    let mut verifier = Verifier::new(8);
    for _ in 0..10 {
        let cases: Vec<Case> = (0..7).map(|_| good(&mut random)).collect();
        assert_batch_agrees(&mut verifier, &cases, 11);
        assert!(verifier.cached_keys() <= 16);
    }
    assert!(verifier.cached_keys() > 8);

    let mut verifier = Verifier::new(100);
    let mut cases: Vec<Case> = (0..20).map(|_| good(&mut random)).collect();
    for case in &mut cases[..10] {
        case.message.push(0);
    }
    for case in &mut cases[10..15] {
        case.signature[63] = 0xff;
    }
    assert_batch_agrees(&mut verifier, &cases, 11);
    assert_eq!(verifier.cached_keys(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any mixture of edges, good and bad signatures gets the oracle's verdicts.
    #[test]
    fn any_mixture_agrees_with_the_oracle(seed in any::<u64>(), edges in 0usize..12, goods in 0usize..12, bads in 0usize..6) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cases = edge_cases(&mut random);
        cases.shuffle(&mut random);
        cases.truncate(edges);
        cases.extend((0..goods).map(|_| good(&mut random)));
        cases.extend((0..bads).map(|_| bad(&mut random)));
        cases.shuffle(&mut random);
        for case in &cases {
            prop_assert_eq!(case.single(), case.oracle());
        }
        assert_batch_agrees(&mut Verifier::default(), &cases, seed as u8);
    }
}
