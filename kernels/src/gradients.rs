//! Forward passes without a graph.

use std::cell::Cell;

thread_local!(static OFF: Cell<bool> = const { Cell::new(false) });

/// Runs `f` without recording in this thread what a backward would need: nothing is kept for longer than the op
/// that reads it. The reference path records all the same; only the result is the same then.
pub fn without_gradients<T>(f: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            OFF.set(self.0);
        }
    }
    let _restore = Restore(OFF.replace(true));
    f()
}

/// Whether [`without_gradients`] is in force.
pub(crate) fn off() -> bool {
    OFF.get()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device, Var};

    use crate::{Activation, activate, with_reference_path, without_gradients};

    #[test]
    fn a_result_is_tracked_outside_and_not_inside() {
        let x = Var::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        with_reference_path(false, || {
            assert!(activate(&x, Activation::Gelu).unwrap().track_op());
            assert!(
                !without_gradients(|| activate(&x, Activation::Gelu))
                    .unwrap()
                    .track_op()
            );
            assert!(activate(&x, Activation::Gelu).unwrap().track_op());
        });
    }
}
