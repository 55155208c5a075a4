//! What is asked of every file of weights: that it is a file, and that its numbers are numbers.

use std::{fs::File, path::Path};

use crate::{Error, Result};

/// Opens a file that is a file: a pipe would be waited for, a device has no end.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let read = |error| Error::Read {
        path: path.to_owned(),
        error,
    };
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err(Error::content(path, "is not a regular file"));
    }
    File::open(path).map_err(read)
}

/// Refuses values that are not finite, naming the first.
pub(crate) fn check_finite(path: &Path, name: &str, data: &[f32], shape: &[usize]) -> Result<()> {
    match data.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::content(
            path,
            format!(
                "tensor '{name}' holds {} at {:?}; its weights are damaged, or the training that made them diverged",
                data[at],
                place(at, shape)
            ),
        )),
    }
}

/// The indices of an element counted in row order.
fn place(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut indices: Vec<usize> = shape
        .iter()
        .rev()
        .map(|size| {
            let index = at % size;
            at /= size;
            index
        })
        .collect();
    indices.reverse();
    indices
}
