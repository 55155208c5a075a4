//! The HTML page: one file with everything in it.
//!
//! One serialisable context (`Page`) goes into one template (`templates/report.html`, which includes
//! `templates/sections/`); what a reader may rearrange (axes, examples) lies in the page as JSON, and a
//! small script draws it. Without the script the page is complete but for that. A policy in the page
//! forbids it to load anything.

mod conditions;
mod facts;
mod pairs;
mod parts;
mod runs;
mod script;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use minijinja::{AutoEscape, Environment, syntax::SyntaxConfig, value::Serde};
use record::{CLASSIFICATION, DatasetFacts};
use serde::Serialize;
use serde_json::{Value, json};

use self::{
    conditions::{MadeWith, conditions, environment, leaves},
    facts::{Fact, facts},
    pairs::{PairView, pairs, sigma},
    parts::{Parts, parts, written},
    runs::{RunView, check_names, runs},
    script::script_data,
};
use crate::{
    Result,
    claims::Judged,
    comparison::Comparison,
    figures::{self, Plot, PlotView, style::Ink, style_of},
    format,
    measurement::Measurement,
    quantity::Quantity,
    row::Row,
    table::{Cell, Column},
    tables, words,
};

macro_rules! templates {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../templates/", $name)))),*] };
}

/// The templates, compiled into the program.
const TEMPLATES: &[(&str, &str)] = templates!(
    "report.html"
    "style.css"
    "page.js"
    "macros.html"
    "sections/answer.html"
    "sections/table.html"
    "sections/trade_off.html"
    "sections/plots.html"
    "sections/pairs.html"
    "sections/parts.html"
    "sections/written.html"
    "sections/examples.html"
    "sections/gate.html"
    "sections/runs.html"
    "sections/conditions.html"
    "sections/recommend.html"
    "sections/claims.html"
    "sections/studies.html"
    "sections/tuning.html"
    "sections/suites.html"
    "sections/measurements.html"
);

/// Of so many runs at most the page holds the records themselves, some 17 kB each; of more it names their files.
const RECORDS: usize = 1000;

/// What stands beside the comparisons, a section each; a section without data is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Extras<'a> {
    pub(crate) suites: &'a [Measurement],
    pub(crate) claims: &'a [Judged],
    /// As [`crate::studies::page_view`] gives them.
    pub(crate) studies: Vec<Value>,
    /// As [`crate::tuning::page_view`] gives them.
    pub(crate) tuning: Vec<Value>,
    pub(crate) measurements: &'a [Measurement],
}

/// Everything the template is given.
#[derive(Serialize)]
struct Page<'a> {
    title: String,
    inks: Vec<(&'static str, String)>,
    comparisons: Vec<Section<'a>>,
    environment: Vec<MadeWith>,
    extras: &'a Extras<'a>,
    /// For the script.
    data: Value,
}

/// A comparison.
#[derive(Serialize)]
struct Section<'a> {
    id: String,
    name: &'a str,
    dataset: &'a DatasetFacts,
    answer: Vec<String>,
    counts: String,
    notes: &'a [String],
    metric: String,
    columns: Vec<Column>,
    rows: Vec<RowView<'a>>,
    /// How to read letters and verdicts; absent where nothing was tested.
    legend: Option<String>,
    /// Key and title.
    quantities: Vec<(&'static str, String)>,
    plots: BTreeMap<&'static str, Vec<PlotView>>,
    /// How well each class or type is found, where there are several to an example.
    parts: Option<Parts>,
    /// Prompts with what is written behind them.
    written: Option<Parts>,
    pairs: Vec<PairView>,
    sigma: Vec<(&'static str, String)>,
    checks: Vec<String>,
    gate_summary: String,
    troubles: bool,
    examples: bool,
    /// Whether the records are in the page.
    records: bool,
    conditions: Vec<(&'static str, Vec<(String, String)>)>,
}

#[derive(Serialize)]
struct RowView<'a> {
    id: String,
    label: &'a str,
    method: &'a str,
    mark: Mark,
    standing: &'static str,
    /// Whether the row is set off: the highest mean, and what is shown to be equivalent to it.
    leads: bool,
    cells: Vec<Cell>,
    troubles: Vec<String>,
    facts: Vec<Fact>,
    config: Vec<(String, String)>,
    runs: Vec<RunView>,
}

#[derive(Serialize)]
struct Mark {
    ink: &'static str,
    /// Points of a polygon.
    points: String,
}

/// The page of these comparisons.
///
/// # Errors
/// If a plot or the template fails; not expected.
pub(crate) fn render(comparisons: &[Comparison], extras: &Extras<'_>) -> Result<String> {
    let (mut sections, mut data) = (Vec::new(), Vec::new());
    let all: usize = comparisons.iter().map(|c| c.records.len()).sum();
    for (i, comparison) in comparisons.iter().enumerate() {
        let id = format!("c{i}");
        data.push(script_data(comparison, &id));
        sections.push(section(comparison, id, all <= RECORDS)?);
    }
    let title = match comparisons {
        [one] => one.name.clone(),
        many => format::plural(many.len(), "comparison"),
    };
    let page = Page {
        title,
        inks: Ink::ALL.map(|(ink, key, _)| (key, ink.hex())).to_vec(),
        comparisons: sections,
        environment: environment(comparisons),
        extras,
        data: json!({ "comparisons": data }),
    };
    let mut environment = Environment::new();
    // Style and script are our own text; everything else is escaped.
    environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    let mut syntax = SyntaxConfig::builder();
    environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
    for (name, source) in TEMPLATES {
        environment.add_template(name, source)?;
    }
    environment.add_global("undecided_claim", words::UNDECIDED_CLAIM);
    let template = environment.get_template("report.html")?;
    Ok(template.render(Serde(page))?)
}

fn section<'a>(comparison: &'a Comparison, id: String, records: bool) -> Result<Section<'a>> {
    let metric = comparison.metric();
    let table = tables::table(comparison);
    let shown = table.shown();
    let checks = check_names(comparison);
    let view = |(i, row): (usize, &'a Row)| {
        let cells = shown.iter().map(|&c| table.rows[i][c].clone());
        RowView {
            id: format!("{id}-r{i}"),
            label: &row.label,
            method: &row.method,
            mark: mark(row),
            standing: row.standing.name(),
            leads: comparison.leads(i),
            cells: cells.collect(),
            troubles: row.troubles(),
            facts: facts(comparison, row),
            config: leaves(&row.config),
            runs: runs(comparison, row, &checks, records),
        }
    };
    let rows: Vec<RowView> = comparison.rows.iter().enumerate().map(view).collect();
    let columns = shown.iter().map(|&c| table.columns[c].clone());
    let made = rows.iter().flat_map(|r| &r.runs);
    let made = made.flat_map(|r| r.checks.iter().flatten());
    let failed = made.clone().filter(|c| !c.passed).count();
    let made = format::plural(made.count(), "check");
    let gate_summary = match failed {
        0 => format!("{made} made, all passed."),
        n => format!(
            "{made} made, {n} failed: the numbers of these methods mean nothing and they are not ranked."
        ),
    };
    let measured = |q: &Quantity| comparison.ranked().iter().any(|r| q.of(r).is_some());
    let quantities = Quantity::ALL.into_iter().filter(measured);
    let mut grouped: BTreeMap<&'static str, Vec<PlotView>> = BTreeMap::new();
    for plot in figures::plots(comparison) {
        grouped.entry(place(&plot)).or_default().push(plot.view()?);
    }
    Ok(Section {
        name: &comparison.name,
        dataset: &comparison.dataset,
        answer: comparison.answer(),
        counts: tables::status_counts(comparison),
        notes: &comparison.notes,
        metric: format::metric_title(metric),
        columns: columns.collect(),
        legend: tables::legend(comparison),
        quantities: quantities.map(|q| (q.key(), q.title(metric))).collect(),
        plots: grouped,
        pairs: pairs(comparison),
        sigma: sigma(comparison),
        checks,
        gate_summary,
        troubles: rows.iter().any(|r| !r.troubles.is_empty()),
        parts: parts(comparison),
        written: written(comparison),
        examples: comparison.dataset.objective == CLASSIFICATION
            && comparison.ranked().iter().any(|r| r.ended_well().0 > 0),
        conditions: conditions(comparison),
        records,
        rows,
        id,
    })
}

/// The part of the page that a plot belongs to.
fn place(plot: &Plot) -> &'static str {
    match plot.name.as_str() {
        name if name.ends_with("-ranking") => "ranking",
        name if name.ends_with("-parameters") => "trade_off",
        "predicted-numbers" => "numbers",
        "training-loss" => "curves",
        name if name.starts_with("validation-") => "curves",
        _ => "costs",
    }
}

fn mark(row: &Row) -> Mark {
    let s = style_of(row);
    let outline = s.marker.outline().into_iter();
    let points: Vec<String> = outline.map(|[x, y]| format!("{x:.2},{y:.2}")).collect();
    Mark {
        ink: s.ink.key(),
        points: points.join(" "),
    }
}
