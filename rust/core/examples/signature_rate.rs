//! Nanoseconds per signature of cityid's verifier beside ed25519-zebra's, built with the same flags.
//!
//! `cargo run --release -p cityid-core --example signature_rate` prints one row per case: the medians of interleaved runs, with
//! the least and the greatest of ours. "cold" starts with an empty key cache, "warm" with every key in it.
//! It stops when the processor has a faster backend than the one that was compiled in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use cityid_core::signature::{self, Item, Verifier};
use ed25519_zebra::{batch, Signature, SigningKey, VerificationKey, VerificationKeyBytes};
use rand::{rngs::StdRng, Rng, SeedableRng};
use rayon::prelude::*;
use std::time::Instant;

const MESSAGE_SIZE_BYTES: usize = 250;
const REPETITIONS: usize = 9;

/// A name, and what to time.
type Case<'a> = (&'static str, Box<dyn FnMut() + 'a>);

struct Signed {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

fn sign_many(count: usize, keys: usize) -> Vec<Signed> {
    let mut random = StdRng::seed_from_u64(1);
    let signers: Vec<SigningKey> = (0..keys).map(|_| SigningKey::new(&mut random)).collect();
    let one = |index: usize| {
        let signer = &signers[index % keys];
        let mut message = vec![0; MESSAGE_SIZE_BYTES];
        random.fill_bytes(&mut message);
        let signature = signer.sign(&message).to_bytes();
        Signed { key: VerificationKeyBytes::from(signer).into(), message, signature }
    };
    (0..count).map(one).collect()
}

fn items(signed: &[Signed]) -> Vec<Item<'_>> {
    signed.iter().map(|one| Item { key: &one.key, message: &one.message, signature: &one.signature }).collect()
}

fn zebra_batch(signed: &[Signed]) -> bool {
    let chunk_size = signed.len().div_ceil(rayon::current_num_threads());
    let verify = |chunk: &[Signed]| {
        let mut queue = batch::Verifier::new();
        for one in chunk {
            queue.queue((VerificationKeyBytes::from(one.key), Signature::from_bytes(&one.signature), &one.message));
        }
        queue.verify(rand::rng()).is_ok()
    };
    signed.par_chunks(chunk_size).map(verify).reduce(|| true, |one, other| one && other)
}

fn zebra_single(signed: &[Signed]) -> usize {
    let verify = |one: &&Signed| {
        let key = VerificationKey::try_from(one.key).unwrap();
        key.verify(&Signature::from_bytes(&one.signature), &one.message).is_err()
    };
    signed.par_iter().filter(verify).count()
}

/// Runs the cases in turn, [`REPETITIONS`] times; the sorted nanoseconds per signature of each.
fn measure(count: usize, repetitions: usize, cases: &mut [Case<'_>]) {
    let mut nanos = vec![Vec::new(); cases.len()];
    for _ in 0..repetitions {
        for (case, times) in cases.iter_mut().zip(&mut nanos) {
            let start = Instant::now();
            case.1();
            times.push(start.elapsed().as_nanos() as usize / count);
        }
    }
    for (case, times) in cases.iter().zip(&mut nanos) {
        times.sort_unstable();
        println!("  {:<44} {:>7} ns   ({} to {})", case.0, times[times.len() / 2], times[0], times[times.len() - 1]);
    }
}

fn compare(count: usize, keys: usize) {
    println!("{count} signatures, {keys} keys, {} thread(s)", rayon::current_num_threads());
    let signed = sign_many(count, keys);
    let items = items(&signed);
    let repetitions = REPETITIONS * (4096 / count).clamp(1, 20);
    let mut warm = Verifier::default();
    warm.verify_batch(&items, [7; 32]).unwrap();
    let mut cases: Vec<Case<'_>> = vec![
        ("ours, batch, cold", Box::new(|| Verifier::default().verify_batch(&items, [7; 32]).unwrap())),
        ("ours, batch, warm", Box::new(|| warm.verify_batch(&items, [7; 32]).unwrap())),
        ("zebra, batch", Box::new(|| assert!(zebra_batch(&signed)))),
    ];
    measure(count, repetitions, &mut cases);
}

fn compare_single() {
    println!("single, 512 signatures, {} thread(s)", rayon::current_num_threads());
    let signed = sign_many(512, 512);
    let ours = |one: &&Signed| signature::verify(&one.key, &one.message, &one.signature).is_err();
    let mut cases: Vec<Case<'_>> = vec![
        ("ours, single", Box::new(|| assert_eq!(signed.par_iter().filter(ours).count(), 0))),
        ("zebra, single", Box::new(|| assert_eq!(zebra_single(&signed), 0))),
    ];
    measure(512, REPETITIONS, &mut cases);
}

/// What a share of bad signatures costs: one in `every` is spoilt, with a spacing that does not fit the halves.
fn with_bad(every: usize) {
    let mut signed = sign_many(4096, 4096);
    let spoilt: Vec<u32> = (0..4096).filter(|position| (position * 7919 + 13) % every == 0).map(|position| position as u32).collect();
    for &position in &spoilt {
        signed[position as usize].message[0] ^= 1;
    }
    let items = items(&signed);
    let mut warm = Verifier::default();
    println!("4096 signatures, {} bad, {} thread(s)", spoilt.len(), rayon::current_num_threads());
    let expected = if spoilt.is_empty() { Ok(()) } else { Err(cityid_core::error::Error::Signature(spoilt)) };
    let mut cases: Vec<Case<'_>> = vec![("ours, batch, warm", Box::new(|| assert_eq!(warm.verify_batch(&items, [7; 32]), expected)))];
    measure(4096, 3, &mut cases);
}

fn main() {
    println!("backend {}", signature::backend());
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx512ifma") {
        assert_eq!(signature::backend(), "avx512ifma", "the AVX-512 backend was not compiled in; see .cargo/config.toml");
    }
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            compare(4096, 4096);
            compare(4096, 256);
            compare_single();
        });
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        for count in [2, 8, 64, 1024] {
            compare(count, count);
        }
        for every in [4096, 1000, 100, 20, 1] {
            with_bad(every);
        }
    });
}
