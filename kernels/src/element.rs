//! What an op asks of its numbers.

use crate::gemm::Multiplied;
use crate::tape::Recordable;

/// f32 or f64: has kernels, products and a place in the graph.
pub(crate) trait Element: Multiplied + Recordable {}

impl<T: Multiplied + Recordable> Element for T {}
