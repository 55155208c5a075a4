//! Token ids on disk.
//!
//! ```text
//! examples u64 · tokens u64 · truncated u64 · lengths u32 [B] · ids u32 [N] · types u8 [N] · sha256 of all before
//! ```
//! little-endian. The name of a file is a digest of everything its contents depend on, so it never goes stale.

use std::{fs, io, io::Write, path::Path};

use sha2::{Digest, Sha256};

use crate::{Encoded, Example, hex};

/// Of the sha256 at the end.
const SEAL: usize = 32;

/// The file for examples under a tokenizer.
pub(crate) fn file_name(tokenizer: &[u8; 32], examples: &[Example], max_tokens: usize) -> String {
    let mut hash = Sha256::new();
    hash.update(concat!("tokens 1 ", env!("CARGO_PKG_VERSION")));
    hash.update(tokenizer);
    hash.update((max_tokens as u64).to_le_bytes());
    for example in examples {
        for text in [Some(&example.text), example.pair.as_ref()] {
            // No text has this length, so none can be taken for a missing one.
            hash.update(
                text.map_or(u64::MAX, |text| text.len() as u64)
                    .to_le_bytes(),
            );
            hash.update(text.map_or("", String::as_str));
        }
    }
    format!("{}.bin", hex(&hash.finalize()))
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn store(path: &Path, encoded: &Encoded) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(24 + 4 * encoded.len() + 5 * encoded.ids.len() + SEAL);
    for number in [encoded.len(), encoded.ids.len(), encoded.truncated] {
        bytes.extend((number as u64).to_le_bytes());
    }
    for length in encoded.lengths() {
        bytes.extend((length as u32).to_le_bytes());
    }
    for id in &encoded.ids {
        bytes.extend(id.to_le_bytes());
    }
    bytes.extend(&encoded.types);
    let seal = Sha256::digest(&bytes);
    bytes.extend(seal);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&bytes)?;
    file.persist(path)?;
    Ok(())
}

/// The token ids of a file, without labels; `None` when it is missing or damaged.
pub(crate) fn load(path: &Path, examples: usize) -> Option<Encoded> {
    let bytes = fs::read(path).ok()?;
    let (body, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL)?)?;
    if Sha256::digest(body).as_slice() != seal {
        return None;
    }
    let (head, rest) = body.split_at_checked(24)?;
    let number =
        |i: usize| Some(u64::from_le_bytes(head.get(8 * i..8 * i + 8)?.try_into().ok()?) as usize);
    let (count, tokens, truncated) = (number(0)?, number(1)?, number(2)?);
    if count != examples {
        return None;
    }
    let (lengths, rest) = rest.split_at_checked(count.checked_mul(4)?)?;
    let (ids, types) = rest.split_at_checked(tokens.checked_mul(4)?)?;
    let mut offsets = Vec::with_capacity(count + 1);
    offsets.push(0);
    let mut end = 0;
    for length in words(lengths) {
        end += length as usize;
        offsets.push(end);
    }
    (end == tokens && types.len() == tokens).then(|| Encoded {
        ids: words(ids).collect(),
        types: types.to_vec(),
        offsets,
        labels: Vec::new(),
        words: Vec::new(),
        truncated,
    })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}
