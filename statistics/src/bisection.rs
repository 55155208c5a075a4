//! Halving an interval.

/// The place in `[low, high]` where `is_below` changes from true to false, after so many halvings.
pub(crate) fn bisect(
    [mut low, mut high]: [f64; 2],
    halvings: usize,
    is_below: impl Fn(f64) -> bool,
) -> f64 {
    for _ in 0..halvings {
        let middle = (low + high) / 2.0;
        if is_below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}
