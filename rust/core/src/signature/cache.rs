//! Decompressed public keys, kept from one batch to the next.
//!
//! Finding the point of an encoded key is a third of the cost of a signature in a batch, and the same keys come again.
//! Bounded: two generations of at most `capacity` keys each. When the young one is full it becomes the old one, and what
//! was old and not used since is gone. Which keys are held follows from the calls alone. The tables keep only points:
//! multiples of each key would cost 10 kB a key and save less than the cache misses they bring.
use curve25519_dalek::edwards::EdwardsPoint;
use std::collections::HashMap;

/// Keys by their encoding. The standard hasher is keyed at random per map, because strangers choose the keys; the order of
/// its entries is never looked at.
#[derive(Clone, Debug)]
pub(super) struct KeyCache {
    capacity: usize,
    young: HashMap<[u8; 32], EdwardsPoint>,
    old: HashMap<[u8; 32], EdwardsPoint>,
}

/// Where a key was found.
pub(super) enum Found {
    /// In the young generation: nothing to do.
    Young(EdwardsPoint),
    /// In the old generation: insert it again, or it is lost at the next turn.
    Old(EdwardsPoint),
}

impl KeyCache {
    pub(super) fn new(capacity: usize) -> KeyCache {
        KeyCache { capacity, young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn find(&self, key: &[u8; 32]) -> Option<Found> {
        let young = self.young.get(key).copied().map(Found::Young);
        young.or_else(|| self.old.get(key).copied().map(Found::Old))
    }

    pub(super) fn insert(&mut self, key: [u8; 32], point: EdwardsPoint) {
        if self.capacity == 0 || self.young.contains_key(&key) {
            return;
        }
        self.old.remove(&key);
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, point);
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::traits::Identity;

    fn key(number: u32) -> [u8; 32] {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn it_never_holds_more_than_two_generations() {
        let mut cache = KeyCache::new(10);
        for number in 0..1_000 {
            cache.insert(key(number), EdwardsPoint::identity());
            assert!(cache.len() <= 20);
        }
        assert_eq!(cache.len(), 20);
        assert!(matches!(cache.find(&key(999)), Some(Found::Young(_))));
        assert!(matches!(cache.find(&key(980)), Some(Found::Old(_))));
        assert!(cache.find(&key(979)).is_none());
    }

    #[test]
    fn a_key_in_use_survives_and_an_idle_one_goes() {
        let mut cache = KeyCache::new(10);
        cache.insert(key(0), EdwardsPoint::identity());
        cache.insert(key(1), EdwardsPoint::identity());
        for number in 2..100 {
            cache.insert(key(number), EdwardsPoint::identity());
            if let Some(Found::Old(point)) = cache.find(&key(0)) {
                cache.insert(key(0), point);
            }
        }
        assert!(cache.find(&key(0)).is_some());
        assert!(cache.find(&key(1)).is_none());
    }

    #[test]
    fn capacity_zero_keeps_nothing() {
        let mut cache = KeyCache::new(0);
        cache.insert(key(0), EdwardsPoint::identity());
        assert_eq!(cache.len(), 0);
    }
}
