//! Random streams and the order in which examples are trained on.
//!
//! A stream is ChaCha with 8 rounds, its key `sha256(seed, purpose)`: purposes do not share numbers, so adding one changes
//! nobody else's. The order is random but batches hold texts of like length, which makes packed batches of like cost:
//! shuffle all examples, sort windows of 20 batches by length, cut them into batches, shuffle the batches.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::hex;

/// Batches whose examples are sorted by length together.
const WINDOW: usize = 20;

/// The stream of random numbers of one purpose under one seed.
pub fn stream(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(purpose);
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// `steps` batches of indices into `lengths` (tokens per example), at most `batch` in each.
///
/// An epoch visits each example once; its last batch may be smaller. Epochs follow one another until there are enough
/// batches. Empty when there are no examples or `batch` is 0.
pub fn batch_order(lengths: &[usize], batch: usize, steps: usize, seed: u64) -> Vec<Vec<u32>> {
    if lengths.is_empty() || batch == 0 {
        return Vec::new();
    }
    let mut rng = stream(seed, "order");
    let mut order = Vec::with_capacity(steps);
    while order.len() < steps {
        let mut all: Vec<u32> = (0..lengths.len() as u32).collect();
        all.shuffle(&mut rng);
        let mut epoch: Vec<Vec<u32>> = Vec::with_capacity(lengths.len().div_ceil(batch));
        for window in all.chunks_mut(batch.saturating_mul(WINDOW)) {
            // Stable: examples of one length stay in their random order.
            window.sort_by_key(|i| lengths[*i as usize]);
            epoch.extend(window.chunks(batch).map(<[u32]>::to_vec));
        }
        epoch.shuffle(&mut rng);
        epoch.truncate(steps - order.len());
        order.append(&mut epoch);
    }
    order
}

/// SHA-256 over an order of batches, in hexadecimal digits.
pub fn order_digest(order: &[Vec<u32>]) -> String {
    let mut hash = Sha256::new();
    for batch in order {
        hash.update((batch.len() as u64).to_le_bytes());
        for index in batch {
            hash.update(index.to_le_bytes());
        }
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::Rng;

    use super::*;

    fn lengths(n: usize) -> Vec<usize> {
        let mut rng = stream(9, "lengths");
        (0..n).map(|_| rng.random_range(3..60)).collect()
    }

    #[test]
    fn an_epoch_visits_every_example_once_and_the_next_one_in_another_order() {
        let lengths = lengths(1003);
        let order = batch_order(&lengths, 32, 64, 1);
        assert_eq!(order.len(), 64);
        let epochs: Vec<Vec<u32>> = order.chunks(32).map(<[_]>::concat).collect();
        for epoch in &epochs {
            assert_eq!(epoch.len(), 1003);
            assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), 1003);
        }
        assert_ne!(epochs[0], epochs[1]);
        let sizes: Vec<usize> = order[..32].iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().filter(|s| **s == 32).count(), 31);
        assert_eq!(sizes.iter().filter(|s| **s == 1003 % 32).count(), 1);
    }

    #[test]
    fn a_batch_holds_examples_of_like_length() {
        let lengths = lengths(6400);
        let spread: usize = batch_order(&lengths, 32, 200, 3)
            .iter()
            .map(|batch| {
                let of = |i: &u32| lengths[*i as usize];
                batch.iter().map(of).max().unwrap() - batch.iter().map(of).min().unwrap()
            })
            .sum();
        // Lengths are spread evenly over 57 values: a sorted window of 20 batches gives each batch about 57 / 20 of them.
        assert!(spread / 200 <= 6, "mean spread {}", spread / 200);
    }

    #[test]
    fn the_order_depends_on_the_seed_and_on_nothing_else() {
        let lengths = lengths(500);
        let digest = |seed| order_digest(&batch_order(&lengths, 16, 40, seed));
        assert_eq!(digest(7), digest(7));
        assert_ne!(digest(7), digest(8));
    }

    #[test]
    fn fewer_steps_are_the_beginning_of_more_steps() {
        let lengths = lengths(300);
        let long = batch_order(&lengths, 32, 50, 5);
        assert_eq!(batch_order(&lengths, 32, 13, 5), long[..13]);
    }

    #[test]
    fn the_digest_tells_batches_apart_that_hold_the_same_indices_together() {
        assert_ne!(
            order_digest(&[vec![1, 2], vec![3]]),
            order_digest(&[vec![1], vec![2, 3]])
        );
    }

    #[test]
    fn nothing_to_order_gives_no_batches() {
        assert!(batch_order(&[], 32, 10, 0).is_empty());
        assert!(batch_order(&[3, 4], 0, 10, 0).is_empty());
    }

    #[test]
    fn purposes_have_streams_of_their_own() {
        let first = |seed, purpose| stream(seed, purpose).random::<u64>();
        assert_eq!(first(1, "head"), first(1, "head"));
        assert_ne!(first(1, "head"), first(1, "dropout"));
        assert_ne!(first(1, "head"), first(2, "head"));
    }

    #[test]
    fn a_streams_key_is_the_sha256_of_seed_and_purpose() {
        // printf '\x05\0\0\0\0\0\0\0order' | sha256sum
        let key = stream(5, "order").get_seed();
        assert_eq!(
            hex(&key),
            "1d10aab7f99f136887a0fe055bc446d947d9e9865e6cf66a9ab872b58376d065"
        );
    }
}
