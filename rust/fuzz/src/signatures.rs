//! Three verifiers of one rule (ZIP-215): one at a time, in a batch, and ed25519-zebra, which shares no code with the first two but
//! the curve. Whatever the bytes, they agree; if they did not, nodes would fork.
use cityid_core::error::Error;
use cityid_core::hash::sha256;
use cityid_core::signature::{self, Item, Verifier};
use ed25519_zebra::{Signature, SigningKey, VerificationKey, VerificationKeyBytes};

fn zebra(key: &[u8; 32], message: &[u8], sig: &[u8; 64]) -> bool {
    VerificationKey::try_from(*key).is_ok_and(|key| key.verify(&Signature::from(*sig), message).is_ok())
}

/// Any bytes as key, signature and message.
pub(crate) fn signature(data: &[u8]) {
    let Some((key, rest)) = data.split_first_chunk::<32>() else { return };
    let Some((sig, message)) = rest.split_first_chunk::<64>() else { return };
    let single = signature::verify(key, message, sig).is_ok();
    assert_eq!(single, zebra(key, message, sig));
    if signature::verify_strict(key, message, sig).is_ok() {
        assert!(single, "what is strictly valid is valid");
        assert_eq!(signature::is_acceptable_for_registration(key), Ok(()));
    }
    let items = [Item { key, message, signature: sig }; 2];
    assert_eq!(Verifier::new(0).verify_batch(&items, sha256(data)).is_ok(), single);
}

/// Items of three bytes: whose key, what of it is spoiled, and with what; all in one batch, twice.
pub(crate) fn batch(data: &[u8]) {
    let owned: Vec<([u8; 32], Vec<u8>, [u8; 64])> = data.chunks_exact(3).take(64).map(item).collect();
    let items: Vec<Item<'_>> = owned.iter().map(|(key, message, signature)| Item { key, message, signature }).collect();
    let bad: Vec<u32> = (0..)
        .zip(&items)
        .filter(|(_, item)| signature::verify(item.key, item.message, item.signature).is_err())
        .map(|(at, _)| at)
        .collect();
    for item in &items {
        assert_eq!(signature::verify(item.key, item.message, item.signature).is_ok(), zebra(item.key, item.message, item.signature));
    }
    let expected = if bad.is_empty() { Ok(()) } else { Err(Error::Signature(bad)) };
    let mut verifier = Verifier::new(4);
    for seed in 0..2u8 {
        assert_eq!(verifier.verify_batch(&items, sha256(&[data, &[seed]].concat())), expected, "also with keys that it knows");
        assert!(verifier.cached_keys() <= 8);
    }
}

fn item(parts: &[u8]) -> ([u8; 32], Vec<u8>, [u8; 64]) {
    let (who, what, how) = (parts[0], parts[1], parts[2]);
    let secret = SigningKey::from(sha256(&[who % 8]));
    let message = vec![how; usize::from(who) / 8];
    let mut key: [u8; 32] = VerificationKeyBytes::from(&secret).into();
    let mut sig = secret.sign(&message).to_bytes();
    match what {
        0..=63 => sig[usize::from(what)] ^= how,
        64..=95 => key[usize::from(what) - 64] ^= how,
        // Points of small order, canonical and not: the identity, -1, and their like.
        96 => key = small_order(how),
        97 => sig[..32].copy_from_slice(&small_order(how)),
        98 => {
            key = small_order(how);
            sig[..32].copy_from_slice(&small_order(how / 8));
            sig[32..].fill(0);
        }
        _ => {}
    }
    (key, message, sig)
}

fn small_order(how: u8) -> [u8; 32] {
    let mut point = [0; 32];
    match how % 6 {
        0 => point[0] = 1,
        1 => point = [0xff; 32],
        2 => {
            point = [0xff; 32];
            (point[0], point[31]) = (0xec, 0x7f);
        }
        3 => (point[0], point[31]) = (1, 0x80),
        4 => {
            point = [0xff; 32];
            (point[0], point[31]) = (0xee, 0x7f);
        }
        _ => {}
    }
    point
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (key, message, sig) = item(&[20, 255, 7]);
    let whole = [&key[..], &sig, &message].concat();
    vec![whole, vec![20, 255, 7, 1, 255, 2, 3, 5, 1, 0, 96, 0, 0, 98, 0, 9, 97, 3, 2, 70, 1]]
}
