//! Token ids, packed: no padding, one example after the other.
//!
//! A text longer than `max_tokens` (special tokens included) loses its end; of a pair the longer text is cut first, as the
//! Python library's `longest_first` does. The cut is made here and not by the tokenizers library's own truncation, which
//! also builds what is cut off, for two long texts of a pair in all combinations.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use tokenizers::{
    Encoding, PostProcessor, Tokenizer, TruncationParams, utils::truncation::truncate_encodings,
};

use crate::{Error, Example, Result, cache, caught};

/// Token ids of examples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids `[N]` of all examples, one after the other.
    pub ids: Vec<u32>,
    /// Token types `[N]`: 0, and 1 in the second text of a pair where the tokenizer tells them apart.
    pub types: Vec<u8>,
    /// Where each example begins, and the end: `[B + 1]`.
    pub offsets: Vec<usize>,
    /// Labels `[B]`; empty unless every example has one.
    pub labels: Vec<u32>,
    /// How many examples were cut to `max_tokens`.
    pub truncated: usize,
}

impl Encoded {
    /// Number of examples.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Token ids and types of an example.
    ///
    /// # Panics
    /// If `i` is not below [`Encoded::len`].
    pub fn example(&self, i: usize) -> (&[u32], &[u8]) {
        let span = self.offsets[i]..self.offsets[i + 1];
        (&self.ids[span.clone()], &self.types[span])
    }

    /// Tokens of an example.
    ///
    /// # Panics
    /// If `i` is not below [`Encoded::len`].
    pub fn length(&self, i: usize) -> usize {
        self.offsets[i + 1] - self.offsets[i]
    }

    /// Tokens of each example.
    pub fn lengths(&self) -> Vec<usize> {
        self.offsets
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect()
    }

    /// The label of an example.
    ///
    /// # Panics
    /// If labels are hidden or `i` is not below [`Encoded::len`].
    pub fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }
}

/// A tokenizer of a backbone.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    path: PathBuf,
    digest: [u8; 32],
}

impl TextTokenizer {
    /// Loads a `tokenizer.json`. Padding and truncation that it may order are not followed.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|error| Error::Io {
            path: path.to_owned(),
            error,
        })?;
        let damaged = |error: tokenizers::Error| Error::Tokenizer {
            path: path.to_owned(),
            message: format!("not a readable tokenizer.json: {error}; fetch or save it again"),
        };
        // Where the library would panic on what is not JSON, this says at which line.
        serde_json::from_slice::<IgnoredAny>(&bytes).map_err(|error| damaged(error.into()))?;
        let mut tokenizer = caught(|| {
            let tokenizer = Tokenizer::from_bytes(&bytes)?;
            // What the parts say about each other shows only in use: a template may name a token that is not there.
            tokenizer.encode_fast("a", true)?;
            tokenizer.encode_fast(("a", "a"), true)?;
            Ok(tokenizer)
        })
        .map_err(damaged)?;
        tokenizer.with_truncation(None).map_err(damaged)?;
        tokenizer.with_padding(None);
        Ok(Self {
            tokenizer,
            path: path.to_owned(),
            digest: Sha256::digest(&bytes).into(),
        })
    }

    /// Rows that an embedding table needs for this tokenizer: the largest id + 1.
    pub fn vocabulary_size(&self) -> usize {
        let largest = self.tokenizer.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// Ids of the special tokens, such as `[CLS]`.
    pub fn special_tokens(&self) -> BTreeSet<u32> {
        let added = self.tokenizer.get_added_tokens_decoder();
        added
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| id)
            .collect()
    }

    /// Ids of all tokens that texts are made of, ascending: neither special nor `[unused…]`.
    pub fn ordinary_tokens(&self) -> Vec<u32> {
        let special = self.special_tokens();
        let vocabulary = self.tokenizer.get_vocab(true);
        let ordinary = |(token, id): (String, u32)| {
            (!special.contains(&id) && !token.starts_with("[unused")).then_some(id)
        };
        let mut ids: Vec<u32> = vocabulary.into_iter().filter_map(ordinary).collect();
        ids.sort_unstable();
        ids
    }

    /// Token ids of a text alone, without special tokens.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|e| self.failed(text, &e))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of examples with special tokens, each cut to `max_tokens`.
    ///
    /// # Errors
    /// If `max_tokens` leaves no room for a token of the text, or the tokenizer fails.
    pub fn encode(&self, examples: &[Example], max_tokens: usize) -> Result<Encoded> {
        let encodings: Vec<(Encoding, bool)> = examples
            .par_iter()
            .map(|example| self.encode_example(example, max_tokens))
            .collect::<Result<_>>()?;
        let mut encoded = Encoded {
            offsets: vec![0],
            labels: labels(examples),
            ..Encoded::default()
        };
        for (encoding, truncated) in encodings {
            encoded.ids.extend_from_slice(encoding.get_ids());
            encoded
                .types
                .extend(encoding.get_type_ids().iter().map(|kind| *kind as u8));
            encoded.offsets.push(encoded.ids.len());
            encoded.truncated += usize::from(truncated);
        }
        Ok(encoded)
    }

    /// As [`TextTokenizer::encode`], but token ids are kept in `cache`, under a digest of tokenizer, texts and
    /// `max_tokens`, and read from there the next time.
    ///
    /// A file there that is damaged is made again. Not being able to write one is no error: it only costs time.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`].
    pub fn encode_cached(
        &self,
        examples: &[Example],
        max_tokens: usize,
        cache: &Path,
    ) -> Result<Encoded> {
        let path = cache
            .join("tokens")
            .join(cache::file_name(&self.digest, examples, max_tokens));
        if let Some(encoded) = cache::load(&path, examples.len()) {
            return Ok(Encoded {
                labels: labels(examples),
                ..encoded
            });
        }
        let encoded = self.encode(examples, max_tokens)?;
        // A read-only or full disk does not stop a run that has its tokens in memory.
        cache::store(&path, &encoded).ok();
        Ok(encoded)
    }

    fn encode_example(&self, example: &Example, max_tokens: usize) -> Result<(Encoding, bool)> {
        let added = self.tokenizer.get_post_processor().map_or(0, |processor| {
            processor.added_tokens(example.pair.is_some())
        });
        let Some(room) = max_tokens.checked_sub(added).filter(|room| *room > 0) else {
            return Err(Error::Tokenizer {
                path: self.path.clone(),
                message: format!(
                    "max_tokens {max_tokens} leaves no room for text: {added} special tokens come with each example; \
                     accepted: {} or more",
                    added + 1
                ),
            });
        };
        let encode = |text: &String| {
            self.tokenizer
                .encode_fast(text.as_str(), false)
                .map_err(|e| self.failed(text, &e))
        };
        let text = encode(&example.text)?;
        let pair = example.pair.as_ref().map(encode).transpose()?;
        let truncated = text.len() + pair.as_ref().map_or(0, Encoding::len) > room;
        let finish = || {
            let limit = TruncationParams {
                max_length: room,
                ..TruncationParams::default()
            };
            let (mut text, mut pair) = truncate_encodings(text, pair, &limit)?;
            text.take_overflowing();
            if let Some(pair) = &mut pair {
                pair.take_overflowing();
            }
            self.tokenizer.post_process(text, pair, true)
        };
        let encoding = finish().map_err(|e| self.failed(&example.text, &e))?;
        Ok((encoding, truncated))
    }

    fn failed(&self, text: &str, error: &tokenizers::Error) -> Error {
        let start: String = text.chars().take(60).collect();
        Error::Tokenizer {
            path: self.path.clone(),
            message: format!("cannot tokenise the text that begins '{start}': {error}"),
        }
    }
}

fn labels(examples: &[Example]) -> Vec<u32> {
    examples
        .iter()
        .map(|example| example.label)
        .collect::<Option<_>>()
        .unwrap_or_default()
}
