//! Taking, adding and averaging rows of packed tensors.

mod fast;
mod reference;

use candle_core::{Result, Tensor, bail};

use crate::Spans;
use crate::path::choose;

/// Rows of a `table [V, H]` for `ids`: `[ids, H]`. A gradient (rows added up per id) only if the table is tracked.
pub fn embed(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    check_ids("embed", table, ids)?;
    choose!(
        [table],
        fast::select_rows(table, ids),
        reference::select_rows(table, ids)
    )
}

/// Rows of `x [N, H]` by index: `[M, H]`. An index may come more than once; its gradients add up.
pub fn select_rows(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    check_ids("select_rows", x, rows)?;
    choose!(
        [x],
        fast::select_rows(x, rows),
        reference::select_rows(x, rows)
    )
}

/// Puts `prefix [P, H]` before every span of `x [N, H]`: `([N + B·P, H], the longer spans)`. The gradient of the prefix
/// is the sum over spans.
pub fn prepend_rows(prefix: &Tensor, x: &Tensor, spans: &Spans) -> Result<(Tensor, Spans)> {
    let (added, width) = prefix.dims2()?;
    let (rows, x_width) = x.dims2()?;
    if width != x_width {
        bail!(
            "prepend_rows: the prefix is {:?} but x is {:?}",
            prefix.dims(),
            x.dims()
        )
    }
    spans.check_rows("prepend_rows", rows)?;
    let longer = spans
        .offsets()
        .iter()
        .enumerate()
        .map(|(i, offset)| offset + i * added)
        .collect();
    let rows = choose!(
        [prefix, x],
        fast::prepend_rows(prefix, x, spans),
        reference::prepend_rows(prefix, x, spans)
    )?;
    Ok((rows, Spans::new(longer)?))
}

/// The mean over the rows of each span of `x [N, H]`, leaving out its first `skip` rows: `[B, H]`.
pub fn mean_spans(x: &Tensor, spans: &Spans, skip: usize) -> Result<Tensor> {
    spans.check_rows("mean_spans", x.dims2()?.0)?;
    if let Some(i) = spans.iter().position(|span| span.len() <= skip) {
        bail!(
            "mean_spans: span {i} has {} rows, nothing is left after the first {skip}",
            spans.span(i).len()
        )
    }
    choose!(
        [x],
        fast::mean_spans(x, spans, skip),
        reference::mean_spans(x, spans, skip)
    )
}

fn check_ids(op: &str, table: &Tensor, ids: &[u32]) -> Result<()> {
    let (rows, _) = table.dims2()?;
    match ids.iter().find(|&&id| id as usize >= rows) {
        Some(id) => bail!("{op}: row {id} was asked for, but there are {rows} rows"),
        None => Ok(()),
    }
}
