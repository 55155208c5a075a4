//! Examples of several tasks in one forward pass.
//!
//! The rows of a packed batch are independent but for attention, which stays inside an example. So the frozen
//! products run over the rows of all tasks at once, and each task's own hooks see its own rows: a group of
//! neighbouring examples. A row's result does not depend on how many rows are beside it (the fast kernels compute
//! every element as one chain in a fixed order), so on the fast path a task's results in a mixed batch have the
//! bits that they have alone.

use candle_core::Tensor;
use kernels::Spans;

use crate::{Error, Hooks, Input, KeyValues, LayerNorm, Norm, Pass, Phase, Result, Site, Sublayer};

/// Hooks that give each group of examples to its own hooks. For evaluation only: results are put in place, which no
/// gradient passes.
pub struct Mixed<'a> {
    groups: Vec<(&'a dyn Hooks, usize)>,
}

impl<'a> Mixed<'a> {
    /// Hooks and number of examples of each group, in the order of the batch. Groups without examples are left out.
    pub fn new(groups: impl IntoIterator<Item = (&'a dyn Hooks, usize)>) -> Self {
        Self {
            groups: groups.into_iter().filter(|(_, n)| *n > 0).collect(),
        }
    }

    /// Calls `f` for each group with its hooks and its examples.
    fn each(
        &self,
        spans: &Spans,
        phase: Phase<'_>,
        mut f: impl FnMut(&'a dyn Hooks, Group) -> Result<()>,
    ) -> Result<()> {
        let refused = |what: String| Err(Error::Unsupported(format!("mixed batch: {what}")));
        if matches!(phase, Phase::Train(_)) {
            return refused("it can be evaluated, not trained".into());
        }
        let examples: usize = self.groups.iter().map(|(_, n)| n).sum();
        if examples != spans.count() {
            return refused(format!(
                "its groups have {examples} examples but the batch has {}",
                spans.count()
            ));
        }
        let mut first = 0;
        for (hooks, count) in &self.groups {
            f(
                *hooks,
                Group {
                    first,
                    count: *count,
                    start: spans.offsets()[first],
                    spans: part(spans, first, *count)?,
                },
            )?;
            first += count;
        }
        Ok(())
    }

    /// Replaces the rows of each group in `whole` by what `f` makes of them; rows that come back as they were are not
    /// copied. `whole` belongs to nobody else.
    fn replace(
        &self,
        whole: Tensor,
        pass: Pass<'_>,
        f: impl Fn(&'a dyn Hooks, &Group, Tensor, Pass<'_>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.each(pass.spans, pass.phase, |hooks, group| {
            let old = group.rows(&whole)?;
            let pass = Pass {
                spans: &group.spans,
                ..pass
            };
            let new = f(hooks, &group, old.clone(), pass)?;
            if new.id() != old.id() {
                drop(old);
                whole.slice_set(&new.detach().contiguous()?, 0, group.start)?;
            }
            Ok(())
        })?;
        Ok(whole)
    }
}

/// Neighbouring examples of one task.
struct Group {
    first: usize,
    count: usize,
    /// The first of its rows.
    start: usize,
    /// Its examples, counted from its own first row.
    spans: Spans,
}

impl Group {
    /// Its rows of a tensor, without a copy.
    fn rows(&self, whole: &Tensor) -> Result<Tensor> {
        Ok(whole.narrow(0, self.start, self.spans.rows())?)
    }
}

/// `count` spans from span `first` on, counted from their own first row.
fn part(spans: &Spans, first: usize, count: usize) -> Result<Spans> {
    let offsets = &spans.offsets()[first..=first + count];
    Ok(Spans::new(
        offsets.iter().map(|o| o - offsets[0]).collect(),
    )?)
}

impl Hooks for Mixed<'_> {
    fn input(&self, input: Input, phase: Phase<'_>) -> Result<Input> {
        if let [(only, _)] = self.groups[..] {
            return only.input(input, phase);
        }
        let mut parts = Vec::new();
        self.each(&input.spans, phase, |hooks, group| {
            let examples = group.first..group.first + group.count;
            parts.push(hooks.input(
                Input {
                    embeddings: group.rows(&input.embeddings)?,
                    spans: group.spans,
                    virtual_tokens: input.virtual_tokens[examples.clone()].to_vec(),
                    first_position: input.first_position[examples.clone()].to_vec(),
                    read_from: input.read_from[examples].to_vec(),
                },
                phase,
            )?);
            Ok(())
        })?;
        let embeddings: Vec<Tensor> = parts.iter().map(|p| p.embeddings.detach()).collect();
        let lengths: Vec<usize> = parts
            .iter()
            .flat_map(|p| p.spans.iter().map(|s| s.len()))
            .collect();
        Ok(Input {
            embeddings: Tensor::cat(&embeddings, 0)?,
            spans: Spans::from_lengths(&lengths)?,
            virtual_tokens: parts
                .iter()
                .flat_map(|p| p.virtual_tokens.clone())
                .collect(),
            first_position: parts
                .iter()
                .flat_map(|p| p.first_position.clone())
                .collect(),
            read_from: parts.iter().flat_map(|p| p.read_from.clone()).collect(),
        })
    }

    fn acts_on(&self, site: Site) -> bool {
        self.groups.iter().any(|(hooks, _)| hooks.acts_on(site))
    }

    fn linear_input(&self, site: Site, x: &Tensor, pass: Pass<'_>) -> Result<Tensor> {
        if let [(only, _)] = self.groups[..] {
            return only.linear_input(site, x, pass);
        }
        let (mut parts, mut changed) = (Vec::new(), false);
        self.each(pass.spans, pass.phase, |hooks, group| {
            let old = group.rows(x)?;
            let pass = Pass {
                spans: &group.spans,
                ..pass
            };
            let new = if hooks.acts_on(site) {
                hooks.linear_input(site, &old, pass)?
            } else {
                old.clone()
            };
            changed |= new.id() != old.id();
            parts.push(new.detach());
            Ok(())
        })?;
        Ok(if changed {
            Tensor::cat(&parts, 0)?
        } else {
            x.clone()
        })
    }

    fn keys_values(&self, layer: usize, own: KeyValues, phase: Phase<'_>) -> Result<KeyValues> {
        if let [(only, _)] = self.groups[..] {
            return only.keys_values(layer, own, phase);
        }
        let (mut keys, mut values, mut lengths) = (Vec::new(), Vec::new(), Vec::new());
        let mut changed = false;
        self.each(&own.spans, phase, |hooks, group| {
            let old = KeyValues {
                keys: group.rows(&own.keys)?,
                values: group.rows(&own.values)?,
                spans: group.spans,
            };
            let ids = (old.keys.id(), old.values.id());
            let new = hooks.keys_values(layer, old, phase)?;
            changed |= (new.keys.id(), new.values.id()) != ids;
            lengths.extend(new.spans.iter().map(|span| span.len()));
            keys.push(new.keys.detach());
            values.push(new.values.detach());
            Ok(())
        })?;
        if !changed {
            return Ok(own);
        }
        Ok(KeyValues {
            keys: Tensor::cat(&keys, 0)?,
            values: Tensor::cat(&values, 0)?,
            spans: Spans::from_lengths(&lengths)?,
        })
    }

    fn apply_norm(
        &self,
        at: Norm,
        h: &Tensor,
        residual: Option<&Tensor>,
        frozen: &LayerNorm,
        pass: Pass<'_>,
    ) -> Result<Tensor> {
        let all_frozen = self
            .groups
            .iter()
            .all(|(hooks, _)| std::ptr::eq(hooks.norm(at, frozen), frozen));
        if all_frozen {
            return Ok(match residual {
                Some(residual) => frozen.forward_residual(h, residual)?,
                None => frozen.forward(h)?,
            });
        }
        let mut parts = Vec::new();
        self.each(pass.spans, pass.phase, |hooks, group| {
            let pass = Pass {
                spans: &group.spans,
                ..pass
            };
            let h = group.rows(h)?;
            let residual = residual.map(|residual| group.rows(residual)).transpose()?;
            let new = hooks.apply_norm(at, &h, residual.as_ref(), frozen, pass)?;
            parts.push(new.detach());
            Ok(())
        })?;
        Ok(Tensor::cat(&parts, 0)?)
    }

    fn linear(&self, site: Site, x: &Tensor, y: Tensor, pass: Pass<'_>) -> Result<Tensor> {
        if let [(only, _)] = self.groups[..] {
            return only.linear(site, x, y, pass);
        }
        self.replace(y, pass, |hooks, group, y, pass| {
            if hooks.acts_on(site) {
                hooks.linear(site, &group.rows(x)?, y, pass)
            } else {
                Ok(y)
            }
        })
    }

    fn sublayer(
        &self,
        layer: usize,
        which: Sublayer,
        h: Tensor,
        residual: &Tensor,
        norm: &LayerNorm,
        pass: Pass<'_>,
    ) -> Result<Tensor> {
        if let [(only, _)] = self.groups[..] {
            return only.sublayer(layer, which, h, residual, norm, pass);
        }
        self.replace(h, pass, |hooks, group, h, pass| {
            hooks.sublayer(layer, which, h, &group.rows(residual)?, norm, pass)
        })
    }
}
