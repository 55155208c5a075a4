//! One record's file: its name, its format, its bytes.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use crate::FORMAT;
use crate::error::{Error, Result};
use crate::files::{self, LARGEST};

/// Endings of a whole record's file: as it is written, and compressed.
pub(crate) const ENDINGS: [&str; 2] = [".json", ".json.gz"];
/// End of the name of a file whose run did not come to its end.
pub(crate) const UNFINISHED: &str = ".unfinished.json";

/// The id that a file of a record has for its name.
pub(crate) fn id_in(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let mut endings = [UNFINISHED].into_iter().chain(ENDINGS);
    endings.find_map(|ending| name.strip_suffix(ending))
}

/// Whether a text has a format that this version does not know.
///
/// # Errors
/// If it has.
pub(crate) fn check_format(path: &Path, json: &[u8]) -> Result<std::result::Result<(), String>> {
    #[derive(serde::Deserialize)]
    struct Any {
        format: Option<serde_json::Value>,
    }
    match serde_json::from_slice::<Any>(json).map(|any| any.format) {
        Err(e) => Ok(Err(format!("not whole JSON ({e})"))),
        Ok(None) => Ok(Err("not a record (no key `format`)".into())),
        Ok(Some(format)) if format.as_u64() != Some(u64::from(FORMAT)) => Err(Error::Format {
            path: path.to_owned(),
            found: format.to_string(),
        }),
        Ok(Some(_)) => Ok(Ok(())),
    }
}

/// Whether a record's file is compressed.
pub(crate) fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "gz")
}

/// The bytes of a record's file, decompressed where it is compressed.
pub(crate) fn bytes_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let bytes = files::read(path)?;
    if !is_compressed(path) {
        return Ok(bytes);
    }
    let mut whole = Vec::new();
    let limit = LARGEST + 1;
    GzDecoder::new(bytes.as_slice())
        .take(limit)
        .read_to_end(&mut whole)?;
    if whole.len() as u64 == limit {
        return Err(std::io::Error::other(
            "decompressed, it is larger than 256 MiB",
        ));
    }
    Ok(whole)
}
