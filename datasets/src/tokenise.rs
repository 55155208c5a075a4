//! Token ids, packed: no padding, one example after the other.
//!
//! A text longer than `max_tokens` (special tokens included) loses its end, or its beginning where the tokenizer's
//! `truncation_side` says so; of a pair the longer text is cut first, as the Python library's `longest_first` does. The cut
//! is made here and not by the tokenizers library's own truncation, which also builds what is cut off, for two long texts of
//! a pair in all combinations. A text of megabytes is not tokenised whole to keep 128 tokens of it (see [`Part`]), and of one
//! that is a single word or white space no more than a MiB: see [`bounded`].

use std::{
    borrow::Cow,
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tokenizers::{
    Encoding, InputSequence, ModelWrapper, PostProcessor, PreTokenizerWrapper, TruncationParams,
    utils::truncation::{TruncationDirection, truncate_encodings},
};

use crate::{
    Completion, Error, Example, Result, Target, Words, cache, caught,
    completion::written,
    split_words,
    tokenizer_files::{self, TokenizerFiles},
};

/// Token ids of examples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// Token ids `[N]` of all examples, one after the other.
    pub ids: Vec<u32>,
    /// Token types `[N]`: 0, and 1 in the second text of a pair where the tokenizer tells them apart.
    pub types: Vec<u8>,
    /// Where each example begins, and the end: `[B + 1]`.
    pub offsets: Vec<usize>,
    /// Targets `[B]`; empty unless every example has one.
    pub labels: Vec<Target>,
    /// The words of each example that are read, `[B]`; empty unless it was tokenised by words. Of a completion each token is a
    /// word, read at the token before it, whose vector foretells it.
    pub words: Vec<Vec<Word>>,
    /// How many examples were cut to `max_tokens`.
    pub truncated: usize,
}

/// A word that is read by its first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// Which word of the example.
    pub word: u32,
    /// Its first token, counted from the example's first; of a completion's token the one before it.
    pub token: u32,
}

impl Encoded {
    fn of(parts: Vec<Tagged>, examples: &[Example]) -> Self {
        let mut encoded = Encoded {
            offsets: vec![0],
            labels: labels(examples),
            ..Encoded::default()
        };
        for part in parts {
            encoded.ids.extend(part.ids);
            encoded.types.extend(part.types);
            encoded.offsets.push(encoded.ids.len());
            encoded.words.push(part.words);
            encoded.truncated += usize::from(part.truncated);
        }
        encoded
    }

    /// The examples with these indices.
    ///
    /// # Panics
    /// If one is not below [`Encoded::len`].
    #[must_use]
    pub fn some(&self, indices: &[u32]) -> Self {
        let mut some = Encoded {
            offsets: vec![0],
            ..Encoded::default()
        };
        for i in indices {
            let i = *i as usize;
            let (ids, types) = self.example(i);
            some.ids.extend_from_slice(ids);
            some.types.extend_from_slice(types);
            some.offsets.push(some.ids.len());
            some.labels.extend(self.labels.get(i).cloned());
            some.words.extend(self.words.get(i).cloned());
        }
        some
    }

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

    /// What is true of an example.
    ///
    /// # Panics
    /// If labels are hidden or `i` is not below [`Encoded::len`].
    pub fn label(&self, i: usize) -> &Target {
        &self.labels[i]
    }
}

/// A tokenizer of a backbone.
#[derive(Clone)]
pub struct TextTokenizer {
    files: Arc<TokenizerFiles>,
    path: PathBuf,
    digest: [u8; 32],
    largest_around: u32,
    /// What stands around every text.
    words: Option<Words>,
    /// What completions are written behind, and the token that ends them.
    completion: Option<(Completion, u32)>,
    /// Whether a word by itself needs a space before it to be the word that it is in a text.
    spaced: bool,
}

/// The tokens of an example that is read token by token.
struct Tagged {
    ids: Vec<u32>,
    types: Vec<u8>,
    words: Vec<Word>,
    truncated: bool,
}

/// Bytes of a text that are tokenised at first for each token that is wanted; doubled as long as they are too few.
const BYTES_PER_TOKEN: usize = 16;

/// Bytes of a text that are tokenised at most, or four times [`BYTES_PER_TOKEN`] for each token that is wanted where that is
/// more: what so many bytes make fewer tokens of is one word, or white space, or characters that a tokenizer leaves out.
const MOST_BYTES: usize = 1 << 20;

/// Bytes before a cut whose tokens may depend on what is behind it, and at least the longest added token.
const MARGIN: usize = 512;

/// The tokens of one text.
struct Part {
    encoding: Encoding,
    /// Whether it is the whole text: if not, there are more tokens than were wanted.
    whole: bool,
}

impl TextTokenizer {
    /// Loads a `tokenizer.json`, or the `vocab.txt` of a BERT, or the `vocab.json` of a RoBERTa (with `merges.txt`), and
    /// what transformers reads beside it (`tokenizer_config.json` and others). Padding and truncation that a
    /// `tokenizer.json` may order are not followed.
    ///
    /// # Errors
    /// If a file cannot be read or is damaged, or a key that changes ids has a value that is not understood.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::of(path, tokenizer_files::read(path)?)
    }

    /// A tokenizer of which all is known that a `tokenizer.json` says; `path` is the file that it was made from.
    ///
    /// # Errors
    /// If it is not a tokenizer.
    pub fn from_json(path: &Path, json: &serde_json::Value) -> Result<Self> {
        Self::of(path, tokenizer_files::of_json(path, json)?)
    }

    fn of(path: &Path, files: TokenizerFiles) -> Result<Self> {
        let damaged = |error: tokenizers::Error| Error::Tokenizer {
            path: path.to_owned(),
            message: format!("not a readable tokenizer.json: {error}; fetch or save it again"),
        };
        let (described, has_types, largest_around) = caught(|| {
            // What the parts say about each other shows only in use: a template may name a token that is not there.
            let single = files.tokenizer.encode_fast("a", true)?;
            let pair = files.tokenizer.encode_fast(("a", "a"), true)?;
            let kinds = || {
                [&single, &pair]
                    .into_iter()
                    .flat_map(Encoding::get_type_ids)
            };
            if let Some(kind) = kinds().find(|kind| u8::try_from(**kind).is_err()) {
                return Err(format!("post_processor: type_id {kind}; accepted: up to 255").into());
            }
            let has_types = kinds().any(|kind| *kind > 0);
            let ids = [&single, &pair].into_iter().flat_map(Encoding::get_ids);
            let largest = ids.copied().max().unwrap_or(0);
            Ok((files.tokenizer.to_string(false)?, has_types, largest))
        })
        .map_err(damaged)?;
        let mut hash = Sha256::new();
        hash.update(described);
        hash.update(format!(
            "{:?} {} {}",
            files.truncation_side,
            files.lower_case,
            files.tokenizer.get_encode_special_tokens()
        ));
        if has_types && !files.types {
            hash.update(" without types");
        }
        Ok(Self {
            spaced: files.tokenizer.get_pre_tokenizer().is_some_and(joins_words),
            files: Arc::new(files),
            path: path.to_owned(),
            digest: hash.finalize().into(),
            largest_around,
            words: None,
            completion: None,
        })
    }

    /// The same tokenizer with a template around every example's texts.
    #[must_use]
    pub fn with_words(&self, words: &Words) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.digest);
        hash.update(&words.template);
        Self {
            digest: hash.finalize().into(),
            words: Some(words.clone()),
            ..self.clone()
        }
    }

    /// The same tokenizer for prompts and their completions, which end in the token `end`.
    #[must_use]
    pub fn with_completion(&self, completion: &Completion, end: u32) -> Self {
        Self {
            completion: Some((completion.clone(), end)),
            ..self.clone()
        }
    }

    /// The text of token ids, without special tokens.
    ///
    /// # Errors
    /// If the tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = self.files.tokenizer.decode(ids, true);
        let text = text.map_err(|e| Error::Tokenizer {
            path: self.path.clone(),
            message: format!("cannot make a text of tokens: {e}"),
        })?;
        Ok(match self.files.clean_up {
            true => cleaned_up(text),
            false => text,
        })
    }

    /// Whether texts are lower-cased before anything else, which no file of the tokenizer itself says.
    pub fn lower_case(&self) -> bool {
        self.files.lower_case
    }

    /// Token types of what was tokenised; all 0 where the model is given none.
    fn types(&self, encoding: &Encoding) -> Vec<u8> {
        let kinds = encoding.get_type_ids().iter();
        let given = u8::from(self.files.types);
        kinds.map(|kind| *kind as u8 * given).collect()
    }

    /// SHA-256 over everything that decides the ids of a text, wherever it was written, but for the most tokens of an
    /// example ([`TextTokenizer::max_length`]).
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What of the files beside the tokenizer the user may not expect.
    pub fn notes(&self) -> &[String] {
        &self.files.notes
    }

    /// The most tokens that an example may have by the tokenizer's own files, special ones included.
    pub fn max_length(&self) -> Option<usize> {
        self.files.max_length
    }

    fn limit(&self, max_tokens: usize) -> usize {
        self.files.max_length.unwrap_or(max_tokens).min(max_tokens)
    }

    /// The largest id of a letter and of the tokens that are put around every example.
    pub fn largest_around(&self) -> u32 {
        self.largest_around
    }

    /// Rows that an embedding table needs for this tokenizer: the largest id + 1.
    pub fn vocabulary_size(&self) -> usize {
        self.files.vocabulary
    }

    /// Ids of the special tokens, such as `[CLS]`.
    pub fn special_tokens(&self) -> BTreeSet<u32> {
        let added = self.files.tokenizer.get_added_tokens_decoder();
        added
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| id)
            .collect()
    }

    /// The token that stands for what is not in the vocabulary, where there is one.
    pub fn unknown_token(&self) -> Option<u32> {
        let tokenizer = &self.files.tokenizer;
        let name = match tokenizer.get_model() {
            ModelWrapper::WordLevel(model) => Some(model.unk_token.as_str()),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.as_str()),
            ModelWrapper::BPE(model) => model.unk_token.as_deref(),
            // (It has a number only, which it does not show.)
            ModelWrapper::Unigram(_) => Some("<unk>"),
        };
        tokenizer.token_to_id(name?)
    }

    /// Ids of all tokens that texts are made of, ascending: neither special nor `[unused…]`.
    pub fn ordinary_tokens(&self) -> Vec<u32> {
        let special = self.special_tokens();
        let vocabulary = self.files.tokenizer.get_vocab(true);
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
        let part = self.part(text, usize::MAX, TruncationDirection::Right)?;
        Ok(part.encoding.get_ids().to_vec())
    }

    /// Token ids of examples with special tokens, each cut to `max_tokens`.
    ///
    /// # Errors
    /// If `max_tokens` leaves no room for a token of the text, or the tokenizer fails.
    pub fn encode(&self, examples: &[Example], max_tokens: usize) -> Result<Encoded> {
        if let Some((completion, end)) = &self.completion {
            return self.encode_completions(examples, completion, *end, max_tokens);
        }
        let encodings: Vec<(Vec<u32>, Vec<u8>, bool)> = examples
            .par_iter()
            .map(|example| self.encode_example(example, max_tokens))
            .collect::<Result<_>>()?;
        let mut encoded = Encoded {
            offsets: vec![0],
            labels: labels(examples),
            ..Encoded::default()
        };
        for (ids, types, truncated) in encodings {
            encoded.ids.extend(ids);
            encoded.types.extend(types);
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
        if self.completion.is_some() {
            return self.encode(examples, max_tokens);
        }
        let path = cache.join("tokens").join(cache::file_name(
            &self.digest,
            examples,
            self.limit(max_tokens),
        ));
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

    /// Token ids of examples whose text is words, one on each line: every word is tokenised by itself, as transformers does
    /// with `is_split_into_words`, and read by its first token. Words that are cut off, or have no token, are not read.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`], and if no word of an example can be read.
    pub fn encode_tagged(&self, examples: &[Example], max_tokens: usize) -> Result<Encoded> {
        let parts: Vec<Tagged> = examples
            .par_iter()
            .map(|example| self.encode_tagged_of(example, max_tokens))
            .collect::<Result<_>>()?;
        Ok(Encoded::of(parts, examples))
    }

    /// Prompts with their completions; of an example without one the prompt alone.
    fn encode_completions(
        &self,
        examples: &[Example],
        completion: &Completion,
        end: u32,
        max_tokens: usize,
    ) -> Result<Encoded> {
        let room = completion.room(self.limit(max_tokens))?;
        let template = completion.template();
        let encode = |example: &Example| -> Result<Tagged> {
            let (mut ids, mut types, mut truncated) =
                self.encode_words(&template, example, room)?;
            // A tokenizer that ends every text would end the prompt before its completion.
            if ids.len() > 1 && ids.last() == Some(&end) {
                ids.pop();
                types.pop();
            }
            let prompt = ids.len();
            if prompt == 0 {
                let start: String = example.text.chars().take(60).collect();
                return Err(Error::Tokenizer {
                    path: self.path.clone(),
                    message: format!("the prompt that holds '{start}' has no token"),
                });
            }
            if let Some(text) = written(example) {
                let most = completion.max_new_tokens;
                let (text, cut) = bounded(text, most, TruncationDirection::Right);
                let part = self.part(text, most, TruncationDirection::Right)?;
                let mut own = part.encoding.get_ids().to_vec();
                own.push(end);
                truncated |= cut || own.len() > most;
                own.truncate(most);
                types.resize(prompt + own.len(), 0);
                ids.extend(own);
            }
            let read = prompt..ids.len().max(prompt + 1);
            let words = (0..).zip(read).map(|(word, token)| Word {
                word,
                token: token as u32 - 1,
            });
            let words = words.collect();
            Ok(Tagged {
                ids,
                types,
                words,
                truncated,
            })
        };
        let parts: Vec<Tagged> = examples.par_iter().map(encode).collect::<Result<_>>()?;
        Ok(Encoded::of(parts, examples))
    }

    fn encode_tagged_of(&self, example: &Example, max_tokens: usize) -> Result<Tagged> {
        let (limit, room) = self.room(max_tokens, false)?;
        let side = self.files.truncation_side;
        let (text, cut) = bounded(&example.text, room, side);
        // A word of which only a part is left is another word; alone it is read where it begins.
        let left = side == TruncationDirection::Left;
        let whole = match left {
            true => text.split_once('\n').map(|(_, whole)| whole),
            false => text.rsplit_once('\n').map(|(whole, _)| whole),
        };
        let text = whole.filter(|_| cut).unwrap_or(text);
        let before = match left {
            true => &example.text[..example.text.len() - text.len()],
            false => "",
        };
        let skipped = before.matches('\n').count() as u32;
        let words: Vec<Cow<'_, str>> = split_words(text)
            .map(|word| match (self.files.lower_case, self.spaced) {
                (false, false) => word.into(),
                (true, false) => word.to_lowercase().into(),
                (false, true) => format!(" {word}").into(),
                (true, true) => format!(" {}", word.to_lowercase()).into(),
            })
            .collect();
        let count = words.len();
        let failed = |e: tokenizers::Error| self.failed(&example.text, &e);
        let tokenizer = &self.files.tokenizer;
        let input = InputSequence::PreTokenizedCow(words.into());
        let mut encoding = tokenizer.encode(input, false).map_err(failed)?;
        let truncated = cut || encoding.len() > room;
        // The word whose beginning is cut off, where texts lose their beginning.
        let mut headless = (cut && left && whole.is_none()).then_some(0);
        if encoding.len() > room {
            if left {
                let first = encoding.len() - room;
                let of = encoding.get_word_ids();
                headless = of[first].filter(|word| of[first - 1] == Some(*word));
            }
            encoding.truncate(room, 0, side);
            encoding.take_overflowing();
        }
        let encoding = tokenizer
            .post_process(encoding, None, true)
            .map_err(failed)?;
        let mut last = headless;
        let mut read = Vec::with_capacity(count);
        for (token, word) in (0..).zip(encoding.get_word_ids()) {
            if let Some(word) = word.filter(|word| last != Some(*word)) {
                read.push(Word {
                    word: word + skipped,
                    token,
                });
                last = Some(word);
            }
        }
        if read.is_empty() {
            return Err(Error::Tokenizer {
                path: self.path.clone(),
                message: format!(
                    "none of the {count} words that begin '{}' has a token among the first {limit}",
                    example
                        .text
                        .chars()
                        .take(60)
                        .collect::<String>()
                        .replace('\n', " ")
                ),
            });
        }
        Ok(Tagged {
            ids: encoding.get_ids().to_vec(),
            types: self.types(&encoding),
            words: read,
            truncated,
        })
    }

    /// The most tokens of an example, and how many of them are left for its texts.
    fn room(&self, max_tokens: usize, pair: bool) -> Result<(usize, usize)> {
        let limit = self.limit(max_tokens);
        let processor = self.files.tokenizer.get_post_processor();
        let added = processor.map_or(0, |processor| processor.added_tokens(pair));
        let room = limit.checked_sub(added).filter(|room| *room > 0);
        let room = room.ok_or_else(|| {
            let key = if limit < max_tokens {
                "model_max_length"
            } else {
                "max_tokens"
            };
            Error::Tokenizer {
                path: self.path.clone(),
                message: format!(
                    "{key} {limit} leaves no room for text: {added} special tokens come with each example; \
                     accepted: {} or more",
                    added + 1
                ),
            }
        })?;
        Ok((limit, room))
    }

    fn encode_example(
        &self,
        example: &Example,
        max_tokens: usize,
    ) -> Result<(Vec<u32>, Vec<u8>, bool)> {
        let tokenizer = &self.files.tokenizer;
        let (_, room) = self.room(max_tokens, example.pair.is_some())?;
        if let Some(words) = &self.words {
            return self.encode_words(words, example, self.limit(max_tokens));
        }
        let side = self.files.truncation_side;
        let (of_text, mut cut) = bounded(&example.text, room, side);
        let of_pair = example.pair.as_deref().map(|pair| {
            let (pair, too) = bounded(pair, room, side);
            cut |= too;
            pair
        });
        let mut text = self.part(of_text, room, side)?;
        let mut pair = match of_pair {
            Some(pair) => Some(self.part(pair, room, side)?),
            None => None,
        };
        // The longer of two long texts keeps the odd token, as far as they are tokenised at most.
        if let Some(second) = &mut pair
            && room % 2 == 1
            && !(text.whole && second.whole)
            && text.encoding.len().min(second.encoding.len()) > room
        {
            text = self.part(of_text, usize::MAX, side)?;
            *second = self.part(of_pair.unwrap_or_default(), usize::MAX, side)?;
        }
        // As the library has it where no post-processor says otherwise.
        if let Some(Part { encoding, .. }) = &mut pair {
            encoding.set_type_ids(vec![1; encoding.len()]);
        }
        let (text, pair) = (text.encoding, pair.map(|p| p.encoding));
        let truncated = cut || text.len() + pair.as_ref().map_or(0, Encoding::len) > room;
        let finish = || {
            let limit = TruncationParams {
                max_length: room,
                direction: side,
                ..TruncationParams::default()
            };
            let (mut text, mut pair) = truncate_encodings(text, pair, &limit)?;
            text.take_overflowing();
            if let Some(pair) = &mut pair {
                pair.take_overflowing();
            }
            tokenizer.post_process(text, pair, true)
        };
        let encoding = finish().map_err(|e| self.failed(&example.text, &e))?;
        let types = self.types(&encoding);
        Ok((encoding.get_ids().to_vec(), types, truncated))
    }

    /// An example inside its template, as one text.
    fn encode_words(
        &self,
        words: &Words,
        example: &Example,
        limit: usize,
    ) -> Result<(Vec<u32>, Vec<u8>, bool)> {
        let encode = |text: &str| {
            let encoding = self.files.tokenizer.encode_fast(text, true);
            encoding.map_err(|e| self.failed(text, &e))
        };
        // Far more text than fits need not be tokenised to be cut.
        let most = limit.saturating_mul(BYTES_PER_TOKEN) + words.template.len() + 8 * MARGIN;
        let found = words.longest(example, |text| {
            Ok(text.len() <= most && encode(text)?.len() <= limit)
        })?;
        let Some((text, cut)) = found else {
            let alone = encode(&words.alone())?.len();
            let what = match self.completion {
                Some(_) => "prompt",
                None => "template",
            };
            return Err(Error::Words {
                message: match alone <= limit {
                    true => format!(
                        "{what}: with the second text it has more than {limit} tokens without any of the first, and only the \
                         first text is cut; shorten the second"
                    ),
                    false => format!(
                        "{what}: '{}' alone has {alone} tokens, which leaves no room for a text in {limit}",
                        words.template
                    ),
                },
            });
        };
        let encoding = encode(&text)?;
        let types = self.types(&encoding);
        Ok((encoding.get_ids().to_vec(), types, cut))
    }

    /// The tokens of a text, or the `wanted + 1` at least that stay when it is cut to those of one side.
    fn part(&self, text: &str, wanted: usize, side: TruncationDirection) -> Result<Part> {
        let text: Cow<'_, str> = if self.files.lower_case {
            text.to_lowercase().into()
        } else {
            text.into()
        };
        let mut bytes = wanted
            .saturating_mul(BYTES_PER_TOKEN)
            .saturating_add(8 * MARGIN);
        while bytes < text.len() / 2 {
            let part = match side {
                TruncationDirection::Right => self.front(&text, bytes)?,
                TruncationDirection::Left => self.back(&text, bytes)?,
            };
            if let Some(mut encoding) = part.filter(|e| e.len() > wanted) {
                encoding.truncate(wanted + 1, 0, side);
                encoding.take_overflowing();
                return Ok(Part {
                    encoding,
                    whole: false,
                });
            }
            bytes = bytes.saturating_mul(2);
        }
        let encoding = self
            .files
            .tokenizer
            .encode_fast(&*text, false)
            .map_err(|e| self.failed(&text, &e))?;
        Ok(Part {
            encoding,
            whole: true,
        })
    }

    /// The tokens of the first `bytes` of a text that are those of the whole text: of words that end well before the
    /// cut, in the middle of a word, so that neither an added token nor white space reaches across.
    fn front(&self, text: &str, bytes: usize) -> Result<Option<Encoding>> {
        let cut = floor(text, bytes);
        let mut sure = floor(text, cut - MARGIN);
        let blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
        while sure > 0
            && (blank(text[..sure].chars().next_back()) || blank(text[sure..].chars().next()))
        {
            sure = floor(text, sure - 1);
        }
        let mut encoding = self.encode_offsets(&text[..cut])?;
        let (offsets, words) = (encoding.get_offsets(), encoding.get_word_ids());
        let mut keep = offsets
            .iter()
            .position(|o| o.1 > sure)
            .unwrap_or(offsets.len());
        while keep > 0
            && keep < words.len()
            && words[keep].is_some()
            && words[keep] == words[keep - 1]
        {
            keep -= 1;
        }
        encoding.truncate(keep, 0, TruncationDirection::Right);
        encoding.take_overflowing();
        Ok(Some(encoding))
    }

    /// The same at the end of a text: words from a single space on that stands well behind the cut. `None` where
    /// there is none.
    fn back(&self, text: &str, bytes: usize) -> Result<Option<Encoding>> {
        let tail = &text[floor(text, text.len() - bytes)..];
        let mut before = [' ', ' '];
        let sync = tail.char_indices().find(|(at, c)| {
            let single = *at > MARGIN
                && c.is_alphanumeric()
                && before[1] == ' '
                && before[0].is_alphanumeric();
            before = [before[1], *c];
            single
        });
        let Some((at, _)) = sync else { return Ok(None) };
        let mut encoding = self.encode_offsets(tail)?;
        let (offsets, words) = (encoding.get_offsets(), encoding.get_word_ids());
        let mut first = offsets
            .iter()
            .position(|o| o.0 >= at - 1 && o.1 > at)
            .unwrap_or(offsets.len());
        while first > 0
            && first < words.len()
            && words[first].is_some()
            && words[first] == words[first - 1]
        {
            // The word began before the space: the tokenizer does not split there.
            first += 1;
        }
        let keep = encoding.len() - first;
        encoding.truncate(keep, 0, TruncationDirection::Left);
        encoding.take_overflowing();
        Ok(Some(encoding))
    }

    fn encode_offsets(&self, text: &str) -> Result<Encoding> {
        let encoding = self.files.tokenizer.encode(text, false);
        encoding.map_err(|e| self.failed(text, &e))
    }

    fn failed(&self, text: &str, error: &tokenizers::Error) -> Error {
        let start: String = text.chars().take(60).collect();
        Error::Tokenizer {
            path: self.path.clone(),
            message: format!("cannot tokenise the text that begins '{start}': {error}"),
        }
    }
}

/// A text without the spaces that tokenising put before punctuation and English contractions, as
/// `clean_up_tokenization` of transformers takes them away.
fn cleaned_up(text: String) -> String {
    let ends = [".", "?", "!", ",", "'", "n't", "'m", "'s", "'ve", "'re"];
    ends.iter().fold(text, |text, end| match *end {
        "'" => text.replace(" ' ", "'"),
        end => text.replace(&format!(" {end}"), end),
    })
}

/// As much of a text as is tokenised at most for so many tokens, from the side that stays, and whether there is more of it.
///
/// What is tokenised costs memory (65 bytes for each of the text were measured), and a text may be one word without an end: its tokens
/// say nothing before all of it is read. So the rest of such a text is not read, and it counts as cut.
fn bounded(text: &str, wanted: usize, side: TruncationDirection) -> (&str, bool) {
    let most = MOST_BYTES.max(wanted.saturating_mul(4 * BYTES_PER_TOKEN));
    if text.len() <= most {
        return (text, false);
    }
    let kept = match side {
        TruncationDirection::Right => &text[..floor(text, most)],
        TruncationDirection::Left => &text[floor(text, text.len() - most)..],
    };
    (kept, true)
}

/// The last border between characters at or before a byte.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Whether words are told from parts of words by the space before them, and the first of a text has none: byte-level BPE
/// without `add_prefix_space`.
fn joins_words(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(bytes) => !bytes.add_prefix_space,
        PreTokenizerWrapper::Sequence(parts) => parts.as_ref().iter().any(joins_words),
        _ => false,
    }
}

fn labels(examples: &[Example]) -> Vec<Target> {
    examples
        .iter()
        .map(|example| example.label.clone())
        .collect::<Option<_>>()
        .unwrap_or_default()
}
