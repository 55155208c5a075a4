//! Which path an op takes: the fast one, or the plain reference.

use std::cell::Cell;
use std::sync::OnceLock;

use candle_core::{DType, Tensor};

thread_local! {
    static OVERRIDE: Cell<Option<bool>> = const { Cell::new(None) };
}

/// Whether ops take their plain reference path: `PEFTBENCH_REFERENCE` is set to something other than `0` (read once),
/// or [`with_reference_path`] says so.
pub fn reference_path() -> bool {
    static FORCED: OnceLock<bool> = OnceLock::new();
    OVERRIDE.get().unwrap_or_else(|| {
        *FORCED.get_or_init(|| {
            std::env::var("PEFTBENCH_REFERENCE").is_ok_and(|v| !v.is_empty() && v != "0")
        })
    })
}

/// Runs `f` with the reference path on or off in this thread, whatever the environment says. The path
/// is chosen when an op is applied: its backward follows, wherever it runs.
pub fn with_reference_path<R>(reference: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<bool>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let _restore = Restore(OVERRIDE.replace(Some(reference)));
    f()
}

/// The dtype for which the own kernels can take these tensors: all on the CPU, all f32 or all f64.
pub(crate) fn fast_dtype(tensors: &[&Tensor]) -> Option<DType> {
    let dtype = tensors[0].dtype();
    let fits = !reference_path()
        && matches!(dtype, DType::F32 | DType::F64)
        && tensors
            .iter()
            .all(|t| t.device().is_cpu() && t.dtype() == dtype);
    fits.then_some(dtype)
}

/// `choose!([tensors], fast::op(…), reference::op(…))`: calls `fast::op::<f32>`, `fast::op::<f64>` or the reference.
macro_rules! choose {
    ([$($tensor:expr),+ $(,)?], $module:ident::$fast:ident($($argument:expr),* $(,)?), $reference:expr) => {
        match $crate::path::fast_dtype(&[$($tensor),+]) {
            Some(candle_core::DType::F32) => $module::$fast::<f32>($($argument),*),
            Some(candle_core::DType::F64) => $module::$fast::<f64>($($argument),*),
            _ => $reference,
        }
    };
}
pub(crate) use choose;
