//! Data sets: from a YAML or a user's file to token ids in batches.
//!
//! A data set is one YAML ([`DatasetSpec`]): where its files come from, which columns hold the texts and the label, which
//! metrics it is judged by. The walk is
//!
//! ```text
//! spec(name) or spec_from_path(file)       what it is                      spec
//!   → sources::Fetcher                     files on this machine
//!   → Rows                                 rows of any format              rows: text, delimited, json_lines, parquet
//!   → read                                 texts, labels, three splits     read: label, classes, group, split
//!   → TextTokenizer::encode_cached         packed token ids                tokenise, cache
//!   → batch_order                          who trains when                 order
//! ```
//!
//! Nothing here knows a tensor. Whatever is random takes its numbers from [`stream`], so that the same seed gives the same
//! bits on every machine; whatever is split is split by a hash of the text, so that it does not depend on a seed at all.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod augment;
mod cache;
mod classes;
mod completion;
mod conll;
mod dataset;
mod delimited;
mod error;
mod format;
mod group;
mod json_lines;
mod label;
mod meaning;
mod metric;
pub mod nearest;
mod objective;
mod order;
mod parquet;
mod problems;
mod read;
mod repeats;
mod rows;
mod spec;
mod split;
mod tagged;
mod target;
mod text;
mod tokenise;
mod tokenizer_files;
mod words;
mod yaml;

pub use augment::Augmentation;
pub use classes::ClassCount;
pub use completion::Completion;
pub use dataset::{Dataset, Example, split_words, text_of};
pub use error::{Error, Result};
pub use format::Format;
pub use group::Group;
pub use metric::Metric;
pub use objective::Objective;
pub use order::{batch_order, order_digest, stream};
pub use problems::{Fault, Problems};
pub use read::read;
pub use rows::{Row, RowError, RowOptions, Rows};
pub use spec::{Also, DatasetSpec, FileOptions, LabelSpec, names, spec, spec_from_path};
pub use split::{Split, sample, subset};
pub use target::Target;
pub use text::{check_regular, open_regular};
pub use tokenise::{Encoded, TextTokenizer, Word};
pub use tokenizer_files::tokenizer_file;
pub use words::Words;
pub use yaml::{from_yaml, plain as plain_yaml_error};

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a library returns or, where it panics, its message as an error.
///
/// polars and tokenizers unwrap in their readers, so a damaged file of the user's own would end the program.
fn caught<T, E: From<String>>(
    work: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    use std::{
        panic::{set_hook, take_hook},
        sync::{
            Once,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
    };
    static QUIET: Once = Once::new();
    /// How many of these are under way; their work may panic in threads of its own.
    static CAUGHT: AtomicUsize = AtomicUsize::new(0);
    // What becomes an error is told once, by the error.
    QUIET.call_once(|| {
        let tell = take_hook();
        set_hook(Box::new(move |panic| {
            if CAUGHT.load(SeqCst) == 0 {
                tell(panic);
            }
        }));
    });
    CAUGHT.fetch_add(1, SeqCst);
    // Nothing that `work` has touched is used after a panic.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    CAUGHT.fetch_sub(1, SeqCst);
    result.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        let message = message.unwrap_or("it cannot be read");
        Err(format!("it contradicts itself ({message})").into())
    })
}
