//! Operations over a frozen backbone, each with an analytic backward.
//!
//! candle's own backward computes and keeps gradients for frozen operands, and several of its fused ops cut the
//! gradient silently. The operations here return nothing for an operand that is not trained, keep only what their
//! backward reads, and work on packed batches: `[N, H]` rows of B examples laid end to end ([`Spans`]), no padding.
//!
//! Every op has a plain reference composed of candle ops. It is the oracle of the tests and the bench's baseline, it
//! runs on devices and dtypes that have no fast path, and `PEFTBENCH_REFERENCE=1` forces it ([`reference_path`]).
//!
//! Letters in shapes: B examples, N rows (tokens) of a packed batch, H hidden, P virtual tokens, R rank, V rows of a
//! table or words of a vocabulary, C classes. All 2-D tensors are row-major; one that is not contiguous is copied first.

// The only crate with `unsafe`: every block says why it holds.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]
// Coefficients stand as they were computed, to more digits than f32 holds.
#![allow(clippy::excessive_precision)]

mod activation;
mod adamw;
mod add;
mod attention;
mod cross_entropy;
mod dropout;
mod element;
mod elementwise;
mod gated;
mod gemm;
mod gradients;
mod kronecker_sum;
mod layer_norm;
mod linear;
mod low_rank;
mod memory;
mod normed;
mod path;
mod precision;
mod quantised;
mod rms_norm;
mod roofline;
mod rotary;
mod rows;
mod scale_shift;
mod simd;
mod spans;
mod tape;
mod threads;
mod vocabulary_cross_entropy;

/// Version of the numbers: raised whenever a change of an operation, forward or backward, gives other bits than before.
pub const NUMERICS: u32 = 1;

pub use activation::{Activation, activate};
pub use adamw::{AdamWStep, Moments, adamw_step, sum_of_squares};
pub use add::add;
pub use attention::{Attention, attention};
pub use candle_core::Result;
pub use cross_entropy::cross_entropy;
pub use dropout::dropout;
pub use gated::{gated, gated_halves};
pub use gemm::rounded::{Bf16Unit, bf16_unit, bf16_units, with_bf16_unit};
pub use gradients::without_gradients;
pub use kronecker_sum::kronecker_sum;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, packings};
pub use low_rank::{LowRank, low_rank_add};
pub use memory::keep_freed_memory;
pub use path::{reference_path, with_reference_path};
pub use precision::Precision;
pub use quantised::{BlockKind, Quantised};
pub use rms_norm::RmsNorm;
pub use roofline::{reading_gb_per_second, register_gflops};
pub use rotary::{RotaryLayout, rotary};
pub use rows::{embed, mean_spans, prepend_rows, select_rows};
pub use scale_shift::scale_shift;
pub use simd::{Level, levels, with_level};
pub use spans::Spans;
pub use tape::{backward, is_recorded};
pub use threads::{available_threads, set_threads, threads, with_threads};
pub use vocabulary_cross_entropy::vocabulary_cross_entropy;
