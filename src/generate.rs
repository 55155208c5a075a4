//! Greedy decoding: the likeliest token after the likeliest token, until the text ends or is long enough.
//!
//! Prompts go through the backbone together and once; behind them each token costs one row of each text that goes on
//! ([`backbone::Cache`]). A text that has ended leaves the batch.

use backbone::{Backbone, Batch, Cache, Error, Result};
use candle_core::DType;
use methods::PeftMethod;
use statistics::argmax;

use crate::train::head::Vocabulary;

/// Prompts that are continued together.
const TOGETHER: usize = 32;

/// Told of a text by its place after each of its tokens: the tokens so far, and whether that is all of them.
pub type Tell<'a> = dyn FnMut(usize, &[u32], bool) + 'a;

/// What is written behind each prompt, without the token that ends it.
///
/// # Errors
/// If a logit is not finite, or as [`Backbone::decode`].
pub fn greedy(
    backbone: &Backbone,
    method: &dyn PeftMethod,
    vocabulary: &Vocabulary,
    prompts: &[&[u32]],
) -> Result<Vec<Vec<u32>>> {
    greedy_telling(backbone, method, vocabulary, prompts, &mut |_, _, _| ())
}

/// The same, telling of each text while it is written.
///
/// # Errors
/// As [`greedy`].
pub fn greedy_telling(
    backbone: &Backbone,
    method: &dyn PeftMethod,
    vocabulary: &Vocabulary,
    prompts: &[&[u32]],
    tell: &mut Tell<'_>,
) -> Result<Vec<Vec<u32>>> {
    let backbone = method.backbone().unwrap_or(backbone);
    let mut written = vec![Vec::new(); prompts.len()];
    // Of like length, so that none waits for long ones.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|i| prompts[*i].len());
    for together in order.chunks(TOGETHER) {
        let prompts: Vec<&[u32]> = together.iter().map(|i| prompts[*i]).collect();
        let mut tell = |i: usize, ids: &[u32], ended: bool| tell(together[i], ids, ended);
        let texts = greedy_together(backbone, method, vocabulary, &prompts, &mut tell)?;
        for (i, text) in together.iter().zip(texts) {
            written[*i] = text;
        }
    }
    Ok(written)
}

fn greedy_together(
    backbone: &Backbone,
    method: &dyn PeftMethod,
    vocabulary: &Vocabulary,
    prompts: &[&[u32]],
    tell: &mut Tell<'_>,
) -> Result<Vec<Vec<u32>>> {
    let mut written = vec![Vec::new(); prompts.len()];
    let mut cache = Cache::default();
    // The texts that go on, and what is read of each next.
    let mut open: Vec<usize> = (0..prompts.len()).collect();
    let mut rows = backbone.decode(&packed(prompts)?, &mut cache, method)?;
    // A prompt's rows have virtual tokens among them.
    let ends = cache.lengths().into_iter().scan(0, |end, length| {
        *end += length as u32;
        Some(*end - 1)
    });
    let mut last: Vec<u32> = ends.collect();
    loop {
        let next = likeliest(vocabulary, &kernels::select_rows(&rows, &last)?)?;
        let mut going = Vec::new();
        for (place, token) in next.iter().enumerate() {
            let text: &mut Vec<u32> = &mut written[open[place]];
            let mut ended = *token == vocabulary.end;
            if !ended {
                text.push(*token);
                ended = text.len() >= vocabulary.most;
            }
            if !ended {
                going.push(place);
            }
            tell(open[place], text, ended);
        }
        if going.is_empty() {
            return Ok(written);
        }
        if going.len() < open.len() {
            cache.keep(&going)?;
        }
        let tokens: Vec<[u32; 1]> = going.iter().map(|place| [next[*place]]).collect();
        let tokens: Vec<&[u32]> = tokens.iter().map(<[u32; 1]>::as_slice).collect();
        open = going.iter().map(|place| open[*place]).collect();
        rows = backbone.decode(&packed(&tokens)?, &mut cache, method)?;
        last = (0..open.len() as u32).collect();
    }
}

/// Texts end to end.
fn packed(texts: &[&[u32]]) -> Result<Batch> {
    let mut offsets = vec![0];
    for text in texts {
        offsets.push(offsets[offsets.len() - 1] + text.len());
    }
    let ids = texts.concat();
    Batch::new(ids.clone(), vec![0; ids.len()], offsets)
}

/// The likeliest token behind each vector.
fn likeliest(vocabulary: &Vocabulary, vectors: &candle_core::Tensor) -> Result<Vec<u32>> {
    let logits = kernels::without_gradients(|| vocabulary.logits(vectors))?;
    let logits = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    if logits.iter().flatten().any(|logit| !logit.is_finite()) {
        return Err(Error::Unsupported(
            "the logits are not finite numbers: method or head are too strong for f32".into(),
        ));
    }
    Ok(logits.iter().map(|row| argmax(row)).collect())
}
