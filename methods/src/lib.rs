//! Parameter-efficient fine-tuning methods.
//!
//! Each method is one file with one constructor, one YAML of defaults in `configs/`, and one line in
//! [`registry`]. A method acts on the frozen backbone through [`backbone::Hooks`] and owns its trainable variables;
//! it never sees data, optimiser, clock or path.
//!
//! Letters in shapes: N tokens, H hidden size, P virtual tokens, R rank.
#![forbid(unsafe_code)]

mod adapter;
mod bitfit;
mod capabilities;
mod combine;
mod compacter;
mod config;
mod dora;
mod entry;
mod error;
mod full;
mod head_only;
mod ia3;
mod init;
mod knn;
mod layer_norm;
mod linear_probe;
mod lora;
mod majority;
mod method;
mod p_tuning;
mod parameters;
mod prefix_tuning;
mod prompt_tuning;
mod random_features;
pub mod registry;
mod targets;

pub use capabilities::{Capabilities, capabilities};
pub use config::{Answer, Optimiser, Range, Resolved};
pub use entry::{Context, Entry, Vocabulary};
pub use error::{Error, NotMergeable, Result};
pub use head_only::HeadOnly;
pub use init::normal;
pub use method::{PeftMethod, resident_bytes};
pub use parameters::{Builder, Parameters, Training, restore};
pub use registry::{
    of_language_models, resolve, resolve_for, resolve_values, resolve_values_for, search,
};
