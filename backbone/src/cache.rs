//! Keys and values of what a decoder has read, so that one more token costs one row.
//!
//! The first call reads texts whole; every later one goes on with rows of its own for each text. What comes out are the rows
//! that a whole pass would give, up to rounding: a row sees only what stands before it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use candle_core::Tensor;
use kernels::Spans;

use crate::{Backbone, Batch, Error, Hooks, Input, Norm, Pass, Phase, Result};

/// What B texts have left behind in every layer. Keys are kept before a method adds rows of its own: a trained prefix stands
/// before them in every call.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub(crate) layers: Vec<Rows>,
    /// Position of the next token of each text; empty before the first call.
    next: Vec<usize>,
}

/// Keys and values of a layer, `[N, width]` each, with the rows of each text.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub keys: Tensor,
    pub values: Tensor,
    pub spans: Spans,
    /// Where they lie at the beginning, with room behind them; absent where there is none.
    room: Option<Room>,
}

/// Room for keys and values `[capacity, width]` of one text, so that one more row copies no others.
#[derive(Clone, Debug)]
struct Room {
    keys: Tensor,
    values: Tensor,
    /// Rows that are taken. Whoever has fewer than these shares them with somebody who went on in another way.
    taken: Arc<AtomicUsize>,
}

impl Room {
    /// Room for `capacity` rows, with these at the beginning.
    fn with(rows: &Rows, capacity: usize) -> Result<Self> {
        let begin = |rows: &Tensor| -> Result<Tensor> {
            let (_, width) = rows.dims2()?;
            let room = Tensor::zeros((capacity, width), rows.dtype(), rows.device())?;
            room.slice_set(&rows.contiguous()?, 0, 0)?;
            Ok(room)
        };
        Ok(Self {
            keys: begin(&rows.keys)?,
            values: begin(&rows.values)?,
            taken: Arc::new(AtomicUsize::new(rows.spans.rows())),
        })
    }

    /// Takes the rows behind the first `from`, up to `to`: not if somebody else has, or there are not so many.
    fn take(&self, from: usize, to: usize) -> bool {
        let enough = self.keys.dims()[0] >= to;
        enough
            && self
                .taken
                .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl Cache {
    /// Rows of each text that have been read, virtual tokens included.
    pub fn lengths(&self) -> Vec<usize> {
        match self.layers.first() {
            Some(rows) => rows.spans.iter().map(|span| span.len()).collect(),
            None => Vec::new(),
        }
    }

    /// The same with only these of its texts, in this order.
    ///
    /// # Errors
    /// If there is none, or there is no such text.
    pub fn keep(&mut self, texts: &[usize]) -> Result<()> {
        let layers = self.layers.iter().map(|rows| rows.of(texts));
        let layers: Vec<Rows> = layers.collect::<Result<_>>()?;
        let next = |text: &usize| self.next.get(*text).copied();
        self.next = texts.iter().filter_map(next).collect();
        self.layers = layers;
        Ok(())
    }
}

impl Rows {
    /// Rows that have just been made.
    pub(crate) fn new(keys: Tensor, values: Tensor, spans: Spans) -> Self {
        Self {
            keys,
            values,
            spans,
            room: None,
        }
    }

    /// Those of one text with more of it behind them.
    fn grown(&self, more: &Self) -> Result<Self> {
        let (from, to) = (self.spans.rows(), self.spans.rows() + more.spans.rows());
        let room = match &self.room {
            Some(room) if room.take(from, to) => room.clone(),
            _ => {
                let room = Room::with(self, 2 * to)?;
                room.take(from, to);
                room
            }
        };
        let append = |room: &Tensor, more: &Tensor| -> Result<Tensor> {
            room.slice_set(&more.contiguous()?, 0, from)?;
            Ok(room.narrow(0, 0, to)?)
        };
        Ok(Self {
            keys: append(&room.keys, &more.keys)?,
            values: append(&room.values, &more.values)?,
            spans: Spans::from_lengths(&[to])?,
            room: Some(room),
        })
    }

    /// The rows of some texts.
    fn of(&self, texts: &[usize]) -> Result<Self> {
        let spans = texts.iter().map(|text| match *text < self.spans.count() {
            true => Ok(self.spans.span(*text)),
            false => Err(Error::Unsupported(format!(
                "a cache of {} texts has no text {text}",
                self.spans.count()
            ))),
        });
        let spans: Vec<_> = spans.collect::<Result<_>>()?;
        let lengths: Vec<usize> = spans.iter().map(|span| span.len()).collect();
        let own = |rows: &Tensor| -> Result<Tensor> {
            let parts = spans.iter().map(|s| rows.narrow(0, s.start, s.len()));
            let parts: Vec<Tensor> = parts.collect::<candle_core::Result<_>>()?;
            Ok(Tensor::cat(&parts, 0)?)
        };
        let spans = Spans::from_lengths(&lengths)?;
        Ok(Self::new(own(&self.keys)?, own(&self.values)?, spans))
    }
}

/// Rows of each text in `past`, or of its only one before every text, with those of `new` behind them.
pub(crate) fn append(past: Option<&Rows>, new: Rows) -> Result<Rows> {
    let Some(past) = past else {
        return Ok(new);
    };
    if past.spans.count() == 1 && new.spans.count() == 1 {
        return past.grown(&new);
    }
    let before = |text: usize| match past.spans.count() {
        1 => past.spans.span(0),
        _ => past.spans.span(text),
    };
    let join = |past_rows: &Tensor, new_rows: &Tensor| -> Result<Tensor> {
        let mut parts = Vec::with_capacity(2 * new.spans.count());
        for (text, behind) in new.spans.iter().enumerate() {
            let before = before(text);
            parts.push(past_rows.narrow(0, before.start, before.len())?);
            parts.push(new_rows.narrow(0, behind.start, behind.len())?);
        }
        Ok(Tensor::cat(&parts, 0)?)
    };
    let texts = new.spans.iter().enumerate();
    let lengths: Vec<usize> = texts
        .map(|(text, behind)| before(text).len() + behind.len())
        .collect();
    let (keys, values) = (
        join(&past.keys, &new.keys)?,
        join(&past.values, &new.values)?,
    );
    Ok(Rows::new(keys, values, Spans::from_lengths(&lengths)?))
}

impl Backbone {
    /// Reads what many texts begin with, once for all of them: see [`Backbone::pooled_behind`].
    ///
    /// # Errors
    /// As [`Backbone::decode`].
    pub fn prefix<H: Hooks + ?Sized>(&self, ids: &[u32], hooks: &H) -> Result<Cache> {
        let batch = Batch::new(ids.to_vec(), vec![0; ids.len()], vec![0, ids.len()])?;
        let mut cache = Cache::default();
        self.decode(&batch, &mut cache, hooks)?;
        Ok(cache)
    }

    /// The input of texts that go on from a prefix.
    pub(crate) fn go_on(&self, mut input: Input, prefix: &Cache) -> Result<Input> {
        let [next] = prefix.next[..] else {
            return Err(Error::Unsupported(format!(
                "texts share one prefix, but the cache holds {} texts",
                prefix.next.len()
            )));
        };
        input.first_position.fill(next);
        Ok(input)
    }

    /// Goes on reading: `batch` holds the next tokens of each text of `cache` (all of its tokens, where the cache is new).
    /// Gives the last hidden state of the rows that are new, `[N', H]`, behind the final norm. Nothing is recorded for a
    /// gradient.
    ///
    /// # Errors
    /// If the backbone is no decoder, the batch has another number of texts, a text becomes longer than the model's context,
    /// or as [`Backbone::pooled`].
    pub fn decode<H: Hooks + ?Sized>(
        &self,
        batch: &Batch,
        cache: &mut Cache,
        hooks: &H,
    ) -> Result<Tensor> {
        kernels::without_gradients(|| self.decode_rows(batch, cache, hooks))
    }

    fn decode_rows<H: Hooks + ?Sized>(
        &self,
        batch: &Batch,
        cache: &mut Cache,
        hooks: &H,
    ) -> Result<Tensor> {
        if !self.config().description.causal {
            return Err(Error::Unsupported(format!(
                "a {} reads a text in both directions, so it cannot go on with one",
                self.config().architecture.name()
            )));
        }
        let phase = Phase::Eval;
        let mut input = self.input(batch)?;
        if cache.next.is_empty() {
            input = hooks.input(input, phase)?;
        } else if cache.next.len() == batch.spans().count() {
            input.first_position.clone_from(&cache.next);
        } else {
            return Err(Error::Unsupported(format!(
                "a cache of {} texts cannot go on with {}",
                cache.next.len(),
                batch.spans().count()
            )));
        }
        let angles = self.angles(&input)?;
        let mut x = self.embed(&input, batch, hooks, phase)?;
        let pass = Pass {
            phase,
            spans: &input.spans,
        };
        let mut layers = Vec::with_capacity(self.config().layers);
        for layer in 0..self.config().layers {
            let mut rows = cache.layers.get(layer).cloned();
            x = self.layer(layer, &x, pass, &angles, None, Some(&mut rows), hooks)?;
            layers.extend(rows);
        }
        let (norm, at) = (self.norm(Norm::Final), Norm::Final);
        x = hooks.apply_norm(at, &x, None, norm, pass)?;
        // Only now: a call that fails leaves the cache as it was.
        cache.layers = layers;
        cache.next = input
            .first_position
            .iter()
            .zip(input.spans.iter())
            .map(|(first, span)| first + span.len())
            .collect();
        Ok(x)
    }
}
