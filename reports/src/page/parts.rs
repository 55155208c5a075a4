//! Tables with a column for each method: how well each class or type is found, and what is written.

use std::collections::BTreeMap;

use record::Written;
use serde::Serialize;

use crate::{Comparison, format, objective, row::Row, table::ABSENT};

/// A table with a column for each method.
#[derive(Serialize)]
pub(super) struct Parts {
    title: &'static str,
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// F1 of each class or type by each ranked method; `None` where an example has one class or a number.
pub(super) fn parts(comparison: &Comparison) -> Option<Parts> {
    let dataset = &comparison.dataset;
    let (title, name) = match dataset.objective.as_str() {
        "tokens" => ("Types of entities", "type"),
        "multi_label" => ("Class by class", "class"),
        _ => return None,
    };
    let mut support: BTreeMap<String, usize> = BTreeMap::new();
    let mut by_row: Vec<BTreeMap<String, Vec<f64>>> = Vec::new();
    for row in comparison.ranked() {
        let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let records = comparison.records_of(row);
        for outcome in records.filter_map(|record| record.outcome.as_ref()) {
            for (part, counts) in objective::parts(dataset, &outcome.predictions) {
                support.insert(part.clone(), counts.truth);
                found.entry(part).or_default().push(counts.f1());
            }
        }
        by_row.push(found);
    }
    let labels = comparison.ranked().iter().map(|row| row.label.clone());
    let headings = [name.to_owned(), "in validation".to_owned()];
    let rows = support.iter().map(|(part, support)| {
        let cells = by_row.iter().map(|found| {
            let mean = found.get(part).and_then(|values| statistics::mean(values));
            mean.map_or_else(|| ABSENT.to_owned(), |f1| format!("{:.1}", 100.0 * f1))
        });
        line([part.clone(), format::count(*support)], cells)
    });
    Some(Parts {
        title,
        headings: line(headings, labels),
        rows: rows.collect(),
    })
}

/// Two cells for all methods, and one for each.
fn line(first: [String; 2], others: impl Iterator<Item = String>) -> Vec<String> {
    first.into_iter().chain(others).collect()
}

/// Some prompts with what each ranked method writes behind them; `None` where nothing is written.
pub(super) fn written(comparison: &Comparison) -> Option<Parts> {
    /// Prompts that are shown.
    const PROMPTS: usize = 12;
    /// Characters of a text.
    const LONGEST: usize = 300;
    fn texts<'a>(comparison: &'a Comparison, row: &Row) -> Option<&'a [Written]> {
        let records = comparison.records_of(row);
        let texts = records.filter_map(|r| Some(r.outcome.as_ref()?.predictions.texts.as_slice()));
        texts.into_iter().find(|texts| !texts.is_empty())
    }
    let ranked = comparison.ranked().iter();
    let columns = ranked.filter_map(|row| Some((row.label.clone(), texts(comparison, row)?)));
    let columns: Vec<(String, &[Written])> = columns.collect();
    let (_, prompts) = columns.first()?;
    let shown = |text: &str| format::cut(&format::visible(text), LONGEST);
    let count = prompts.len().min(PROMPTS);
    let rows = (0..count).map(|k| {
        let at = k * prompts.len() / count;
        let asked = &prompts[at];
        let more = match asked.references.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let reference = asked.references.first().map_or("", String::as_str);
        // Runs whose examples differ have another text at this place.
        let cells = columns.iter().map(|(_, texts)| match texts.get(at) {
            Some(own) if own.prompt == asked.prompt => shown(&own.text),
            _ => ABSENT.to_owned(),
        });
        line([shown(&asked.prompt), shown(reference) + &more], cells)
    });
    let headings = ["prompt", "true completion"].map(str::to_owned);
    Some(Parts {
        title: "What is written",
        rows: rows.collect(),
        headings: line(headings, columns.iter().map(|(label, _)| label.clone())),
    })
}
