//! Forward passes without a graph.

/// Runs `f` without recording what a backward would need.
pub fn without_gradients<T>(f: impl FnOnce() -> T) -> T {
    f()
}
