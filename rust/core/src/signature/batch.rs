//! Many signatures at once.
//!
//! With a random 128-bit coefficient z per signature, all signatures of a chunk are valid when
//! `Σ z·([k]A + R - [s]B)` is of small order: one multi-scalar multiplication instead of one per signature. The sum is the
//! *defect* of the chunk. Multiplying by the cofactor before comparing makes it indifferent to components of small order,
//! whatever the coefficients, so a chunk passes exactly when each of its signatures passes alone, but for a chance of
//! 2⁻¹²⁸ per sum examined.
//!
//! Coefficients come from the caller's seed *and* a hash of everything in the chunk: a submitter who cannot see the seed
//! cannot aim at them, a seed that repeats or leaks still leaves them fixed only after the signatures are, and the same
//! seed gives the same run.
//!
//! When a chunk fails, its halves are examined, and theirs: points are decompressed once, and the defect of a right half is
//! the difference of the whole and the left. Where too many are bad for that to pay, the rest is verified one by one; a
//! submitter of nothing but bad signatures costs a quarter more than single verification.
//!
//! Memory: about 1 kB per signature of the chunks in work (at most [`CHUNK_MAX`] each, one per thread), and the cache.
use super::cache::{Found, KeyCache};
use super::{decompress, Claim};
use crate::error::Error;
use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::VartimeMultiscalarMul;
use sha2::{Digest, Sha256, Sha512};
use std::collections::{HashMap, HashSet};

#[cfg(feature = "parallel")]
use rayon::prelude::*;

/// One signature to verify.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The encoded public key.
    pub key: &'a [u8; 32],
    /// The signed bytes, of any length.
    pub message: &'a [u8],
    /// R and s.
    pub signature: &'a [u8; 64],
}

/// Verifies batches, and remembers the keys it has seen a valid signature of.
#[derive(Clone, Debug)]
pub struct Verifier {
    cache: KeyCache,
}

impl Default for Verifier {
    /// A verifier that holds at most 65,536 keys, which take about 15 MB.
    fn default() -> Self {
        Verifier::new(1 << 15)
    }
}

impl Verifier {
    /// A verifier whose key cache has two generations of `keys_per_generation` keys; 0 turns the cache off. A key takes
    /// about 220 bytes.
    pub fn new(keys_per_generation: usize) -> Verifier {
        Verifier { cache: KeyCache::new(keys_per_generation) }
    }

    /// Verifies every item under the rules of ZIP-215, each with the verdict of [`super::verify`].
    ///
    /// `seed` must be fresh bytes from the operating system's generator, unknown to whoever made the signatures. With the
    /// feature `parallel`, the chunks of a batch are spread over the threads of the current rayon pool.
    ///
    /// # Errors
    /// [`Error::Signature`] with the position of each bad item, ascending. [`Error::Malformed`] for 2³² items or more.
    pub fn verify_batch(&mut self, items: &[Item<'_>], seed: [u8; 32]) -> Result<(), Error> {
        let Ok(count) = u32::try_from(items.len()) else {
            return Err(Error::malformed(format!(
                "a batch of {} signatures; positions have 32 bits, so send several batches",
                items.len()
            )));
        };
        let positions: Vec<u32> = (0..count).collect();
        let mut bad = Vec::new();
        for outcome in self.verify_chunks(items, &positions, &seed) {
            bad.extend(outcome.bad);
            for (key, point) in outcome.to_cache {
                self.cache.insert(key, point);
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        bad.sort_unstable();
        Err(Error::Signature(bad))
    }

    /// How many keys the cache holds: at most twice the `keys_per_generation` it was made with.
    pub fn cached_keys(&self) -> usize {
        self.cache.len()
    }

    #[cfg(feature = "parallel")]
    fn verify_chunks(&self, items: &[Item<'_>], positions: &[u32], seed: &[u8; 32]) -> Vec<Outcome> {
        let size = items.len().div_ceil(rayon::current_num_threads()).clamp(CHUNK_MIN, CHUNK_MAX);
        positions.par_chunks(size).map(|chunk| verify_chunk(items, chunk, &self.cache, seed)).collect()
    }

    #[cfg(not(feature = "parallel"))]
    fn verify_chunks(&self, items: &[Item<'_>], positions: &[u32], seed: &[u8; 32]) -> Vec<Outcome> {
        positions.chunks(CHUNK_MAX).map(|chunk| verify_chunk(items, chunk, &self.cache, seed)).collect()
    }
}

/// Signatures in one equation, at most. More gain little: per column of digits, the buckets cost 254 additions.
const CHUNK_MAX: usize = 4096;
/// A batch is not cut into smaller chunks than this to occupy more threads.
#[cfg(feature = "parallel")]
const CHUNK_MIN: usize = 128;
/// The search stops, and the rest of a chunk is verified one by one, when more than this many are found bad …
const BAD_ALLOWED: usize = 8;
/// … plus one for each so many that are decided.
const DECIDED_PER_BAD: usize = 64;

/// What one chunk yields.
struct Outcome {
    /// Positions of the bad items in the batch.
    bad: Vec<u32>,
    /// Keys that the young generation of the cache lacks.
    to_cache: Vec<([u8; 32], EdwardsPoint)>,
}

/// A distinct key of a chunk.
struct Key {
    bytes: [u8; 32],
    point: EdwardsPoint,
    /// Not in the young generation of the cache.
    is_new: bool,
}

/// One well-formed item of a chunk.
struct Entry {
    position: u32,
    key_index: usize,
    claim: Claim,
    coefficient: Scalar,
}

/// The well-formed items of a chunk. Entries of one key are neighbours, so that any range of entries needs each key once,
/// and the bad signatures of one sender lie together in the search.
struct Chunk {
    keys: Vec<Key>,
    entries: Vec<Entry>,
}

fn verify_chunk(items: &[Item<'_>], positions: &[u32], cache: &KeyCache, seed: &[u8; 32]) -> Outcome {
    let (chunk, malformed) = Chunk::prepare(items, positions, cache, seed);
    let mut search = Search { chunk: &chunk, decided: 0, bad: Vec::new() };
    match chunk.entries.as_slice() {
        [] => {}
        [entry] => search.one_by_one(std::slice::from_ref(entry)),
        entries => search.halve(entries, chunk.defect(entries)),
    }
    let mut bad = search.bad;
    bad.extend(malformed);
    // Keys that came with bad signatures are not kept: garbage must not push out the keys in use.
    let failed: HashSet<&[u8; 32]> = bad.iter().map(|&position| items[position as usize].key).collect();
    let keep = chunk.keys.iter().filter(|key| key.is_new && !failed.contains(&key.bytes));
    let to_cache = keep.map(|key| (key.bytes, key.point)).collect();
    Outcome { bad, to_cache }
}

impl Chunk {
    /// Parses the items at these positions; returns the malformed ones apart.
    fn prepare(items: &[Item<'_>], positions: &[u32], cache: &KeyCache, seed: &[u8; 32]) -> (Chunk, Vec<u32>) {
        let mut chunk = Chunk { keys: Vec::new(), entries: Vec::with_capacity(positions.len()) };
        let mut malformed = Vec::new();
        let mut key_indices: HashMap<&[u8; 32], Option<usize>> = HashMap::with_capacity(positions.len());
        let mut order = Vec::with_capacity(positions.len());
        for &position in positions {
            let key = items[position as usize].key;
            let key_index = key_indices.entry(key).or_insert_with(|| {
                chunk.keys.push(Key::find(key, cache)?);
                Some(chunk.keys.len() - 1)
            });
            match key_index {
                Some(key_index) => order.push((*key_index, position)),
                None => malformed.push(position),
            }
        }
        // A batch of distinct keys is in order already, and its messages are read as they lie in memory.
        order.sort_unstable();
        for (key_index, position) in order {
            let item = &items[position as usize];
            match Claim::parse(item.key, item.message, item.signature) {
                Some(claim) => chunk.entries.push(Entry { position, key_index, claim, coefficient: Scalar::ZERO }),
                None => malformed.push(position),
            }
        }
        chunk.draw_coefficients(seed);
        (chunk, malformed)
    }

    /// Gives every entry 128 bits of SHA-512(root ‖ counter), where root = SHA-256(label ‖ seed ‖ for each entry: k
    /// and s). As k is a hash of R, key and message, the root commits to everything in the equation.
    fn draw_coefficients(&mut self, seed: &[u8; 32]) {
        let mut transcript = Sha256::new_with_prefix(b"cityid/1/batch-coefficients\0");
        transcript.update(seed);
        for entry in &self.entries {
            transcript.update(entry.claim.challenge.as_bytes());
            transcript.update(entry.claim.s.as_bytes());
        }
        let root = transcript.finalize();
        for (counter, group) in (0u64..).zip(self.entries.chunks_mut(4)) {
            let block = Sha512::new().chain_update(root).chain_update(counter.to_le_bytes()).finalize();
            for (entry, bytes) in group.iter_mut().zip(block.as_chunks::<16>().0) {
                entry.coefficient = Scalar::from(u128::from_le_bytes(*bytes));
            }
        }
    }

    /// `Σ z·([k]A + R - [s]B)` over some neighbouring entries.
    fn defect(&self, entries: &[Entry]) -> EdwardsPoint {
        let mut scalars = Vec::with_capacity(2 * entries.len() + 1);
        let mut points = Vec::with_capacity(2 * entries.len() + 1);
        let mut base = Scalar::ZERO;
        for same_key in entries.chunk_by(|one, other| one.key_index == other.key_index) {
            let mut for_key = Scalar::ZERO;
            for entry in same_key {
                // R keeps its own coefficient, not the negative one: 128 bits are half the additions of 253.
                scalars.push(entry.coefficient);
                points.push(&entry.claim.r);
                for_key += entry.coefficient * entry.claim.challenge;
                base -= entry.coefficient * entry.claim.s;
            }
            scalars.push(for_key);
            points.extend(same_key.first().map(|entry| &self.keys[entry.key_index].point));
        }
        scalars.push(base);
        points.push(&ED25519_BASEPOINT_POINT);
        EdwardsPoint::vartime_multiscalar_mul(scalars, points)
    }
}

impl Key {
    fn find(bytes: &[u8; 32], cache: &KeyCache) -> Option<Key> {
        let (point, is_new) = match cache.find(bytes) {
            Some(Found::Young(point)) => (point, false),
            Some(Found::Old(point)) => (point, true),
            None => (decompress(bytes)?, true),
        };
        Some(Key { bytes: *bytes, point, is_new })
    }
}

/// The search for the bad entries of a chunk.
struct Search<'a> {
    chunk: &'a Chunk,
    decided: usize,
    bad: Vec<u32>,
}

impl Search<'_> {
    /// Decides these entries, whose defect is known. Recursion is as deep as the logarithm of [`CHUNK_MAX`].
    fn halve(&mut self, entries: &[Entry], defect: EdwardsPoint) {
        if defect.is_small_order() {
            self.decided += entries.len();
            return;
        }
        if let [entry] = entries {
            self.bad.push(entry.position);
            self.decided += 1;
            return;
        }
        if self.bad.len() > BAD_ALLOWED + self.decided / DECIDED_PER_BAD {
            self.one_by_one(entries);
            return;
        }
        let (left, right) = entries.split_at(entries.len() / 2);
        let left_defect = self.chunk.defect(left);
        self.halve(left, left_defect);
        // Coefficients are summed modulo l, so this differs from the sum over the right half by a point of small order at
        // most, which the test above does not see.
        self.halve(right, defect - left_defect);
    }

    fn one_by_one(&mut self, entries: &[Entry]) {
        for entry in entries {
            if !entry.claim.holds(&self.chunk.keys[entry.key_index].point) {
                self.bad.push(entry.position);
            }
        }
        self.decided += entries.len();
    }
}
