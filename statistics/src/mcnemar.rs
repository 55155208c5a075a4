//! One seed of each of two methods.

use statrs::distribution::{Binomial, DiscreteCDF};

/// Exact two-sided test of McNemar (1947) for one seed: of the examples that exactly one of two
/// methods got right, is the share of each method 1/2? Binomial, doubled smaller tail, at most 1.
pub fn mcnemar_exact(only_first: u64, only_second: u64) -> f64 {
    let (n, smaller) = (only_first + only_second, only_first.min(only_second));
    match Binomial::new(0.5, n) {
        Ok(binomial) if n > 0 => (2.0 * binomial.cdf(smaller)).min(1.0),
        _ => 1.0,
    }
}
