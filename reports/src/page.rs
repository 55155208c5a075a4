//! The HTML page: one file with everything in it.
//!
//! One serialisable context (`Page`) goes into one template (`templates/report.html`, which includes
//! `templates/sections/`); what a reader may rearrange (axes, examples) lies in the page as JSON, and a
//! small script draws it. Without the script the page is complete but for that. A policy in the page
//! forbids it to load anything.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;
use serde_json::{Value, json};

use record::{CLASSIFICATION, Circumstances, RunRecord, Status, answers};
use statistics::{Remedy, Summary};

use crate::comparison::{self, Comparison};
use crate::costs::MARK;
use crate::figures::{self, Plot, style::Ink, style_of};
use crate::quantity::Quantity;
use crate::row::{self, Row, predictions};
use crate::{Result, format, objective, tables, words};

/// The templates, compiled into the program.
const TEMPLATES: &[(&str, &str)] = &[
    ("report.html", include_str!("../templates/report.html")),
    ("style.css", include_str!("../templates/style.css")),
    ("page.js", include_str!("../templates/page.js")),
    ("macros.html", include_str!("../templates/macros.html")),
    (
        "sections/answer.html",
        include_str!("../templates/sections/answer.html"),
    ),
    (
        "sections/table.html",
        include_str!("../templates/sections/table.html"),
    ),
    (
        "sections/trade_off.html",
        include_str!("../templates/sections/trade_off.html"),
    ),
    (
        "sections/plots.html",
        include_str!("../templates/sections/plots.html"),
    ),
    (
        "sections/pairs.html",
        include_str!("../templates/sections/pairs.html"),
    ),
    (
        "sections/parts.html",
        include_str!("../templates/sections/parts.html"),
    ),
    (
        "sections/examples.html",
        include_str!("../templates/sections/examples.html"),
    ),
    (
        "sections/gate.html",
        include_str!("../templates/sections/gate.html"),
    ),
    (
        "sections/runs.html",
        include_str!("../templates/sections/runs.html"),
    ),
    (
        "sections/conditions.html",
        include_str!("../templates/sections/conditions.html"),
    ),
    (
        "sections/recommend.html",
        include_str!("../templates/sections/recommend.html"),
    ),
    (
        "sections/claims.html",
        include_str!("../templates/sections/claims.html"),
    ),
    (
        "sections/studies.html",
        include_str!("../templates/sections/studies.html"),
    ),
    (
        "sections/tuning.html",
        include_str!("../templates/sections/tuning.html"),
    ),
    (
        "sections/suites.html",
        include_str!("../templates/sections/suites.html"),
    ),
    (
        "sections/measurements.html",
        include_str!("../templates/sections/measurements.html"),
    ),
];

/// Columns up to this rank are shown at first.
const SHOWN: u8 = 5;

/// What other parts of the report give to the page, as the templates of their sections expect it.
/// A section without data is left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Extras {
    /// For `sections/suites.html`.
    pub suites: Option<Value>,
    /// For `sections/claims.html`.
    pub claims: Option<Value>,
    /// For `sections/studies.html`.
    pub studies: Option<Value>,
    /// For `sections/tuning.html`.
    pub tuning: Option<Value>,
    /// For `sections/measurements.html`.
    pub measurements: Option<Value>,
}

/// Everything the template is given.
#[derive(Serialize)]
struct Page<'a> {
    title: String,
    inks: Vec<(&'static str, String)>,
    comparisons: Vec<Section<'a>>,
    environment: Vec<Setting>,
    extras: &'a Extras,
    /// For the script.
    data: Value,
}

/// A comparison.
#[derive(Serialize)]
struct Section<'a> {
    id: String,
    name: &'a str,
    stand_in: Option<StandIn<'a>>,
    answer: Vec<String>,
    counts: String,
    notes: &'a [String],
    metric: String,
    columns: Vec<Column>,
    rows: Vec<RowView<'a>>,
    /// How to read letters and verdicts; absent where nothing was tested.
    legend: Option<String>,
    quantities: Vec<QuantityView>,
    plots: BTreeMap<&'static str, Vec<PlotView>>,
    /// How well each class or type is found, where there are several to an example.
    parts: Option<Parts>,
    pairs: Vec<PairView>,
    sigma: Vec<(&'static str, String)>,
    checks: Vec<String>,
    gate_summary: String,
    troubles: bool,
    examples: bool,
    conditions: Vec<(&'static str, Vec<(String, String)>)>,
}

#[derive(Serialize)]
struct StandIn<'a> {
    asked: &'a str,
    used: &'a str,
}

#[derive(Serialize)]
struct Column {
    title: String,
    /// Whether it is a number.
    number: bool,
    /// Whether it is shown on demand only, so that the table fits a screen.
    more: bool,
}

#[derive(Serialize)]
struct RowView<'a> {
    id: String,
    label: &'a str,
    method: &'a str,
    variant: &'a str,
    mark: Mark,
    standing: &'static str,
    letters: &'a str,
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

#[derive(Serialize)]
struct Cell {
    text: String,
    /// What it is sorted by; absent values come last.
    key: Option<Value>,
}

/// How well each class or type is found by each method.
#[derive(Serialize)]
struct Parts {
    title: &'static str,
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A number with its spread.
#[derive(Serialize)]
struct Fact {
    name: String,
    mean: String,
    sd: Option<String>,
    interval: Option<String>,
    seeds: usize,
}

#[derive(Serialize)]
struct RunView {
    id: String,
    seed: u64,
    status: String,
    ok: bool,
    valid: bool,
    metric: Option<String>,
    training_time: Option<String>,
    memory: Option<String>,
    latency: Option<String>,
    file: Option<String>,
    started: String,
    /// By the section's list of checks.
    checks: Vec<Option<CheckView>>,
    /// The record without its long lists.
    record: String,
}

#[derive(Clone, Serialize)]
struct CheckView {
    name: String,
    passed: bool,
    detail: String,
}

#[derive(Serialize)]
struct QuantityView {
    key: &'static str,
    title: String,
}

#[derive(Serialize)]
struct PlotView {
    name: String,
    title: String,
    wide: String,
    narrow: String,
}

#[derive(Serialize)]
struct PairView {
    first: String,
    second: String,
    seeds: usize,
    difference: String,
    standard_error: Option<String>,
    interval: Option<String>,
    p: Option<String>,
    p_value: Option<f64>,
    verdict: String,
    /// The verdict in a word.
    kind: &'static str,
    needs: Option<String>,
    sigma: Option<String>,
    mcnemar: String,
}

/// A machine and program that made runs.
#[derive(Serialize, PartialEq)]
struct Setting {
    facts: Vec<(String, String)>,
    runs: usize,
}

/// The page of these comparisons.
///
/// # Errors
/// If a plot or the template fails; not expected.
pub fn render(comparisons: &[Comparison], extras: &Extras) -> Result<String> {
    let mut sections = Vec::new();
    let mut data = Vec::new();
    for (i, comparison) in comparisons.iter().enumerate() {
        let id = format!("c{i}");
        data.push(script_data(comparison, &id));
        sections.push(section(comparison, id)?);
    }
    let title = match comparisons {
        [one] => one.name.clone(),
        many => format::plural(many.len(), "comparison"),
    };
    let page = Page {
        title,
        inks: Ink::ALL.map(|ink| (ink.key(), ink.hex())).to_vec(),
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
    Ok(environment
        .get_template("report.html")?
        .render(Serde(page))?)
}

fn section(comparison: &Comparison, id: String) -> Result<Section<'_>> {
    let metric = comparison.metric();
    let table = tables::table(comparison);
    let shown: Vec<usize> = (0..table.columns.len())
        .filter(|&c| table.columns[c].rank.is_some())
        .collect();
    let checks = check_names(comparison);
    let rows: Vec<RowView> = comparison
        .rows
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let cells = shown.iter().map(|&c| Cell {
                text: table.rows[i][c].text.clone(),
                key: Some(table.rows[i][c].value.clone()).filter(|v| !v.is_null()),
            });
            RowView {
                id: format!("{id}-r{i}"),
                label: &row.label,
                method: &row.method,
                variant: &row.variant,
                mark: mark(row),
                standing: row.standing.name(),
                letters: &row.letters,
                cells: cells.collect(),
                troubles: row.troubles(),
                facts: facts(comparison, row),
                config: leaves(&row.config),
                runs: runs(comparison, row, &checks),
            }
        })
        .collect();
    let columns = shown
        .iter()
        .map(|&c| Column {
            title: table.columns[c].long.clone(),
            number: table.columns[c].number,
            more: table.columns[c].rank.is_some_and(|rank| rank > SHOWN),
        })
        .collect();
    let runs = || rows.iter().flat_map(|r| &r.runs);
    let made = runs().flat_map(|r| r.checks.iter().flatten()).count();
    let failed = runs()
        .flat_map(|r| r.checks.iter().flatten())
        .filter(|c| !c.passed)
        .count();
    let gate_summary = match failed {
        0 => format!("{} made, all passed.", format::plural(made, "check")),
        n => format!(
            "{} made, {n} failed: the numbers of these methods mean nothing and they are not ranked.",
            format::plural(made, "check")
        ),
    };
    let quantities = Quantity::ALL
        .into_iter()
        .filter(|q| comparison.ranked().iter().any(|r| q.of(r).is_some()))
        .map(|q| QuantityView {
            key: q.key(),
            title: q.title(metric),
        })
        .collect();
    let mut grouped: BTreeMap<&'static str, Vec<PlotView>> = BTreeMap::new();
    for plot in figures::plots(comparison) {
        grouped.entry(place(&plot)).or_default().push(PlotView {
            wide: plot.svg()?,
            narrow: plot.narrow_svg()?,
            name: plot.name,
            title: plot.title,
        });
    }
    Ok(Section {
        name: &comparison.name,
        stand_in: comparison
            .dataset
            .stand_in_for
            .as_deref()
            .map(|asked| StandIn {
                asked,
                used: &comparison.dataset.name,
            }),
        answer: comparison.answer(),
        counts: tables::status_counts(comparison),
        notes: &comparison.notes,
        metric: format::metric_title(metric),
        columns,
        legend: comparison
            .is_tested()
            .then(|| words::legend(metric, comparison.margin)),
        quantities,
        plots: grouped,
        pairs: pairs(comparison),
        sigma: sigma(comparison),
        checks,
        gate_summary,
        troubles: rows.iter().any(|r| !r.troubles.is_empty()),
        parts: parts(comparison),
        examples: comparison.dataset.objective == CLASSIFICATION
            && rows
                .iter()
                .any(|r| r.standing == "ranked" && r.runs.iter().any(|run| run.ok)),
        conditions: conditions(comparison),
        rows,
        id,
    })
}

/// F1 of each class or type by each ranked method; `None` where an example has one class or a number.
fn parts(comparison: &Comparison) -> Option<Parts> {
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
        let records = row.runs.iter().filter_map(|run| comparison.record(&run.id));
        for outcome in records.filter_map(|record| record.outcome.as_ref()) {
            for (part, counts) in objective::parts(dataset, &outcome.predictions) {
                support.insert(part.clone(), counts.truth);
                found.entry(part).or_default().push(counts.f1());
            }
        }
        by_row.push(found);
    }
    let labels = comparison.ranked().iter().map(|row| row.label.clone());
    let rows = support.iter().map(|(part, support)| {
        let cells = by_row.iter().map(|found| {
            let mean = found.get(part).and_then(|values| statistics::mean(values));
            mean.map_or_else(|| "–".to_owned(), |f1| format!("{:.1}", 100.0 * f1))
        });
        [part.clone(), format::count(*support)]
            .into_iter()
            .chain(cells)
            .collect()
    });
    Some(Parts {
        title,
        rows: rows.collect(),
        headings: [name.to_owned(), "in validation".to_owned()]
            .into_iter()
            .chain(labels)
            .collect(),
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
    let points: Vec<String> = s
        .marker
        .outline()
        .iter()
        .map(|[x, y]| format!("{x:.2},{y:.2}"))
        .collect();
    Mark {
        ink: s.ink.key(),
        points: points.join(" "),
    }
}

/// Everything that was measured of a method, for its own table.
fn facts(comparison: &Comparison, row: &Row) -> Vec<Fact> {
    let main = comparison.metric();
    let mut facts = Vec::new();
    let mut push = |name: String, summary: &Option<Summary>, show: &dyn Fn(f64) -> String| {
        if let Some(s) = summary {
            facts.push(Fact {
                name,
                mean: show(s.mean),
                sd: s.sd.map(show),
                interval: s
                    .interval
                    .map(|[low, high]| format!("{} – {}", show(low), show(high))),
                seeds: s.values.len(),
            });
        }
    };
    for (name, summary) in &row.metrics {
        let title = match name == main {
            true => format!("{name} (ranks the methods)"),
            false => name.clone(),
        };
        push(title, &Some(summary.clone()), &|v| format::metric(name, v));
    }
    let nats = |v: f64| format!("{v:.3}");
    let loss = match comparison.dataset.objective.as_str() {
        "regression" => "validation loss (squared error over the variance)",
        _ => "validation loss (nats)",
    };
    push(loss.into(), &row.validation_loss, &nats);
    if let Some(c) = row.calibration {
        for (name, value) in [
            ("expected calibration error", c.ece),
            ("Brier score", c.brier),
            ("negative log-likelihood (nats)", c.nll),
        ] {
            // Means over seeds; their spread is not kept.
            facts.push(Fact {
                name: name.into(),
                mean: nats(value),
                sd: None,
                interval: None,
                seeds: row.ended_well().0,
            });
        }
    }
    let mut push = |name: &str, summary: &Option<Summary>, show: &dyn Fn(f64) -> String| {
        if let Some(s) = summary {
            facts.push(Fact {
                name: name.into(),
                mean: show(s.mean),
                sd: s.sd.map(show),
                interval: s
                    .interval
                    .map(|[low, high]| format!("{} – {}", show(low), show(high))),
                seeds: s.values.len(),
            });
        }
    };
    let rate = |unit: &'static str| move |v: f64| format!("{} {unit}", format::count_short(v));
    let time = |v: f64| row.marked(format::seconds(v));
    push("training time", &row.training_seconds, &time);
    push(
        "training speed",
        &row.examples_per_second,
        &rate("examples/s"),
    );
    push(
        "training speed in real tokens",
        &row.tokens_per_second,
        &rate("tokens/s"),
    );
    push(
        "time to the first step",
        &row.seconds_to_first_step,
        &format::seconds,
    );
    push("peak memory", &row.peak_memory_bytes, &format::bytes);
    push("file, head included", &row.file_bytes, &format::bytes);
    let ms = |v: f64| row.marked(format!("{} ms", format::ms(v)));
    for l in row
        .latency
        .iter()
        .filter(|l| l.setting() == crate::latency::SENTENCE)
    {
        push(
            &format!("latency p50, {}", l.variant),
            &Some(l.p50_ms.clone()),
            &ms,
        );
        push(&format!("latency p99, {}", l.variant), &l.p99_ms, &ms);
    }
    facts
}

/// Names of all checks that any run made, in order of appearance, the report's own last.
fn check_names(comparison: &Comparison) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let checks = comparison
        .records
        .iter()
        .filter_map(|r| r.outcome.as_ref())
        .flat_map(|o| &o.checks);
    for check in checks {
        if !names.contains(&check.name) {
            names.push(check.name.clone());
        }
    }
    if comparison.records.iter().any(|r| r.outcome.is_some()) {
        names.push(row::METRIC_CHECK.to_owned());
    }
    names
}

fn runs(comparison: &Comparison, row: &Row, names: &[String]) -> Vec<RunView> {
    row.runs
        .iter()
        .filter_map(|run| {
            let record = comparison.record(&run.id)?;
            let cost = record.cost.as_ref();
            let mark = match record.circumstances.busy() {
                true => MARK,
                false => "",
            };
            let marked = |text: String| text + mark;
            let own_failed = run
                .failed_checks
                .iter()
                .find(|c| c.starts_with(row::METRIC_CHECK));
            let checks = names
                .iter()
                .map(|name| {
                    let outcome = record.outcome.as_ref()?;
                    if name == row::METRIC_CHECK {
                        return Some(CheckView {
                            name: name.clone(),
                            passed: own_failed.is_none(),
                            detail: own_failed.cloned().unwrap_or_else(|| {
                                "the stored predictions give the stored metric".into()
                            }),
                        });
                    }
                    // Should a check be made twice, the failed one counts.
                    let mut named = outcome.checks.iter().filter(|c| c.name == *name);
                    let check = named.clone().find(|c| !c.passed).or(named.next())?;
                    Some(CheckView {
                        name: name.clone(),
                        passed: check.passed,
                        detail: check.detail.clone(),
                    })
                })
                .collect();
            let latency = cost.and_then(|c| {
                let one = |l: &&record::Latency| {
                    l.batch == 1 && l.length.is_none() && l.variant == "unmerged"
                };
                c.latency.iter().find(one)
            });
            Some(RunView {
                id: run.id.clone(),
                seed: run.seed,
                status: row::status_text(&run.status),
                ok: run.status == Status::Ok,
                valid: run.failed_checks.is_empty(),
                metric: run.metric.map(|m| format::metric(comparison.metric(), m)),
                training_time: cost.map(|c| marked(format::seconds(c.training_seconds))),
                memory: cost
                    .and_then(|c| c.peak_memory_bytes)
                    .map(|b| format::bytes(b as f64)),
                latency: latency.map(|l| {
                    let p99 = match l.samples >= crate::latency::PASSES_FOR_P99 {
                        true => format::ms(l.p99_ms),
                        false => crate::table::ABSENT.to_owned(),
                    };
                    marked(format!("{} / {p99}", format::ms(l.p50_ms)))
                }),
                file: cost.map(|c| format::bytes(c.file_bytes as f64)),
                started: record.circumstances.started.clone(),
                checks,
                record: shortened(record),
            })
        })
        .collect()
}

/// The record as JSON; lists that only a program reads are counted instead of printed.
fn shortened(record: &RunRecord) -> String {
    const LONG: usize = 24;
    fn shorten(value: &mut Value) {
        match value {
            Value::Array(list) if list.len() > LONG => {
                *value = json!(format!(
                    "… {} values, in the record's file",
                    format::count(list.len())
                ));
            }
            Value::Array(list) => list.iter_mut().for_each(shorten),
            Value::Object(map) => map.values_mut().for_each(shorten),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(record).unwrap_or_default();
    shorten(&mut value);
    serde_json::to_string_pretty(&value).unwrap_or_default()
}

fn pairs(comparison: &Comparison) -> Vec<PairView> {
    let metric = comparison.metric();
    let view = |pair: &comparison::Pair| {
        let mcnemar = pair.mcnemar.iter().map(|m| {
            format!(
                "seed {}: {} : {}, {}",
                m.seed,
                m.only_first,
                m.only_second,
                format::p_value(m.p)
            )
        });
        let of = |f: &dyn Fn(&statistics::Evidence) -> String| pair.evidence.as_ref().map(f);
        PairView {
            first: comparison.rows[pair.first].label.clone(),
            second: comparison.rows[pair.second].label.clone(),
            seeds: pair.seeds,
            difference: format::metric_difference(metric, pair.difference),
            standard_error: of(&|e| format::metric_spread(metric, e.standard_error, None)),
            interval: of(&|e| format::metric_interval(metric, e.interval)),
            p: pair.corrected.map(|c| format::p_value(c.p)),
            p_value: pair.corrected.map(|c| c.p),
            verdict: match pair.is_tested() {
                true => words::verdict_in_full(pair.verdict, metric, comparison.margin),
                false => words::NOT_TESTED.to_owned(),
            },
            kind: pair.verdict_text(false),
            needs: pair.needs.as_ref().map(words::needs),
            sigma: pair.sigma.map(|s| {
                [s.seed, s.example, s.residual]
                    .map(|x| format::metric_spread(metric, x, None))
                    .join(" / ")
            }),
            mcnemar: mcnemar.collect::<Vec<_>>().join("; "),
        }
    };
    comparison.pairs.iter().map(view).collect()
}

/// Medians over the pairs of the standard deviations that the uncertainty is made of.
fn sigma(comparison: &Comparison) -> Vec<(&'static str, String)> {
    let sigmas: Vec<comparison::Sigma> = comparison.pairs.iter().filter_map(|p| p.sigma).collect();
    let median = |f: fn(&comparison::Sigma) -> f64| {
        statistics::percentile(&sigmas.iter().map(f).collect::<Vec<_>>(), 50.0)
    };
    [
        ("σₛ over seeds", median(|s| s.seed)),
        ("σₓ over examples", median(|s| s.example)),
        ("σₑ of what neither explains", median(|s| s.residual)),
    ]
    .into_iter()
    .filter_map(|(name, value)| {
        Some((name, format::metric_difference(comparison.metric(), value?)))
    })
    .collect()
}

/// Leaves of a JSON value by path, as text.
fn leaves(value: &Value) -> Vec<(String, String)> {
    comparison::flat(value)
        .into_iter()
        .map(|(key, value)| {
            let text = match value {
                Value::String(s) => s,
                other => other.to_string(),
            };
            (key, text)
        })
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

/// What all runs of a comparison share.
fn conditions(comparison: &Comparison) -> Vec<(&'static str, Vec<(String, String)>)> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let (d, b) = (&comparison.dataset, &comparison.backbone);
    let mut data = vec![row("name", d.name.clone())];
    if let Some(asked) = &d.stand_in_for {
        data.push(row("stands in for", asked.clone()));
    }
    if d.objective != CLASSIFICATION {
        data.push(row("what is predicted", d.objective.replace('_', " ")));
    }
    data.extend([
        row("training examples", format::count(d.train_examples)),
        row("validation examples", format::count(d.validation_examples)),
        row("labels", d.labels.join(", ")),
        row("metric", d.main_metric.clone()),
        row("digest of texts and labels", d.digest.clone()),
    ]);
    let backbone = vec![
        row("name", b.name.clone()),
        row("architecture", b.architecture.clone()),
        row("layers L", b.layers.to_string()),
        row("hidden size H", b.hidden.to_string()),
        row("parameters", format::count(b.parameters)),
        row("pooling", b.pooling.clone()),
        row(
            "precision of its weights",
            b.precision.clone().unwrap_or_else(|| "f32".into()),
        ),
        row("digest of the weights", b.digest.clone()),
    ];
    let mut recipe = leaves(&comparison.recipe);
    let seeds: Vec<String> = comparison.seeds.iter().map(u64::to_string).collect();
    recipe.push(row("seeds", seeds.join(", ")));
    recipe.push(row("operations", comparison.op_path.clone()));
    vec![
        ("Data set", data),
        ("Backbone", backbone),
        ("Recipe", recipe),
    ]
}

/// The machines and programs, with the number of their runs.
fn environment(comparisons: &[Comparison]) -> Vec<Setting> {
    let facts = |c: &Circumstances| {
        let mut facts = vec![
            ("peftbench".to_owned(), c.version.clone()),
            (
                "revision".to_owned(),
                c.revision.clone().unwrap_or_else(|| "unknown".into()),
            ),
            ("processor".to_owned(), c.processor.clone()),
            ("threads".to_owned(), c.threads.to_string()),
            ("system".to_owned(), c.system.clone()),
        ];
        facts.extend(c.libraries.iter().map(|(k, v)| (k.clone(), v.clone())));
        facts
    };
    let records: Vec<&RunRecord> = comparisons.iter().flat_map(|c| &c.records).collect();
    let mut settings: Vec<Setting> = Vec::new();
    for record in &records {
        let facts = facts(&record.circumstances);
        match settings.iter_mut().find(|s| s.facts == facts) {
            Some(setting) => setting.runs += 1,
            None => settings.push(Setting { facts, runs: 1 }),
        }
    }
    settings.sort_by_key(|s| std::cmp::Reverse(s.runs));
    settings
}

/// What the script draws: quantities of the ranked rows, and predictions.
fn script_data(comparison: &Comparison, id: &str) -> Value {
    let metric = comparison.metric();
    let quantities: Vec<Value> = Quantity::ALL
        .into_iter()
        .map(|q| {
            json!({
                "key": q.key(),
                "title": q.title(metric),
                "higher": q.higher_is_better(),
                "log": q.logarithmic(),
            })
        })
        .collect();
    let points: Vec<Value> = comparison
        .ranked()
        .iter()
        .enumerate()
        .map(|(i, row)| {
            let values: serde_json::Map<String, Value> = Quantity::ALL
                .into_iter()
                .filter_map(|q| {
                    let s = q.of(row)?;
                    let factor = q.axis_factor(metric);
                    let value = json!({
                        "mean": s.mean * factor,
                        "sd": s.sd.map(|sd| sd * factor),
                        "interval": s.interval.map(|i| i.map(|v| v * factor)),
                        "text": q.show(metric, s.mean),
                    });
                    Some((q.key().to_owned(), value))
                })
                .collect();
            json!({
                "row": format!("{id}-r{i}"),
                "label": row.label,
                "floor": row.is_floor(),
                "ink": style_of(row).ink.key(),
                "outline": style_of(row).marker.outline(),
                "values": values,
                "overhead": overhead(row),
            })
        })
        .collect();
    // p-values of "the first is worse than the second by the margin or more", where a verdict could be given.
    let n = comparison.ranked().len();
    let p_worse = |a: usize, b: usize| comparison.family.p_non_inferior(a, b);
    let worse: Vec<Vec<Option<f64>>> = (0..n)
        .map(|a| (0..n).map(|b| p_worse(a, b)).collect())
        .collect();
    // What would show the first not to be worse than the second by the margin.
    let tests = comparison.eligible().len();
    let wants = |a: usize, b: usize| {
        let evidence = comparison.family.pair(a, b)?.evidence;
        let remedy = Remedy::of_non_inferiority(&evidence, comparison.margin, tests);
        let needs = comparison.needs(&evidence, &remedy, &[a, b]);
        Some(json!({ "seeds": needs.more_seeds, "text": words::needs(&needs) }))
    };
    let wants: Vec<Vec<Option<Value>>> = (0..n)
        .map(|a| (0..n).map(|b| wants(a, b).filter(|_| a != b)).collect())
        .collect();
    let margin = format::metric_difference(metric, comparison.margin.get());
    json!({
        "id": id,
        "quantities": quantities,
        "points": points,
        "worse": worse,
        "wants": wants,
        "none": words::none_near_best(metric, comparison.margin),
        "margin": margin,
        "limit": figures::scale_limit(comparison) * Quantity::Metric.axis_factor(metric),
        "examples": examples(comparison),
    })
}

/// Latency over the bare backbone's of the same process, minus 1, in percent; merged where the method merges.
fn overhead(row: &Row) -> Option<Value> {
    let ratio = row
        .over_backbone("merged")
        .or(row.over_backbone("unmerged"))?;
    let percent = |ratio: f64| 100.0 * (ratio - 1.0);
    Some(
        json!({ "mean": percent(ratio.ratio), "interval": ratio.interval.map(|i| i.map(percent)) }),
    )
}

/// True labels and the predictions of each ranked run, these as a short text ([`answers`]): there is one for each run and example.
/// Runs whose examples differ are left out.
fn examples(comparison: &Comparison) -> Value {
    let outcomes = comparison.ranked().iter().enumerate().flat_map(|(i, row)| {
        row.runs.iter().filter_map(move |run| {
            let record = comparison.record(&run.id)?;
            Some((
                i,
                run.seed,
                &record.outcome.as_ref()?.predictions,
                predictions(record)?,
            ))
        })
    });
    let mut truth: Option<&Vec<u32>> = None;
    let mut runs = Vec::new();
    let mut seeds = BTreeSet::new();
    for (row, seed, stored, predicted) in outcomes {
        if **truth.get_or_insert(&stored.labels) != stored.labels {
            continue;
        }
        seeds.insert(seed);
        let predicted = answers::write(&predicted, comparison.dataset.labels.len());
        runs.push(json!({ "row": row, "seed": seed, "predicted": predicted }));
    }
    json!({
        "labels": comparison.dataset.labels,
        "truth": truth.cloned().unwrap_or_default(),
        "seeds": seeds,
        "runs": runs,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::{self, Sample};

    fn page(records: &[RunRecord]) -> String {
        render(&Comparison::from_records(records), &Extras::default()).unwrap()
    }

    /// The values of an attribute.
    fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
        let start = format!(" {name}=\"");
        page.split(&start)
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect()
    }

    fn script_data_of(page: &str) -> Value {
        let start = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
        let end = start + page[start..].find("</script>").unwrap();
        serde_json::from_str(&page[start..end]).unwrap()
    }

    fn everything() -> Vec<RunRecord> {
        let mut records = sample::troubled_comparison(3);
        let other = sample::realistic_comparison(&["lora"], 1);
        records.extend(sample::on_data(other, "rte", None));
        records
    }

    #[test]
    fn every_link_leads_to_a_place_in_the_page_and_ids_are_unique() {
        let page = page(&everything());
        let ids = attributes(&page, "id");
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len());
        let links = attributes(&page, "href");
        assert!(links.len() > 100);
        for link in links {
            match link.strip_prefix('#') {
                Some(id) => assert!(unique.contains(id), "{link}"),
                None => assert_eq!(link, "data:,"),
            }
        }
    }

    #[test]
    fn the_page_names_no_address_and_forbids_loading() {
        let page = page(&everything());
        let addresses = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!addresses.contains("http://") && !addresses.contains("https://"));
        assert!(page.contains("default-src 'none'") && attributes(&page, "src").is_empty());
    }

    #[test]
    fn each_run_shows_its_record_with_config_and_digests() {
        let records = everything();
        let page = page(&records);
        for record in &records {
            assert!(
                page.contains(&format!("id=\"run-{}\"", record.id)),
                "{}",
                record.id
            );
        }
        assert!(page.contains("target_modules") && page.contains(&"b".repeat(64)));
        // Long lists are counted, not printed.
        assert!(page.contains("500 values"));
    }

    #[test]
    fn invalid_methods_are_shown_as_invalid_and_failures_are_rows() {
        let page = page(&sample::troubled_comparison(2));
        assert!(
            page.contains("<tr class=\"invalid\" data-standing=\"invalid\" data-label=\"bitfit\">")
        );
        assert!(
            page.contains(
                "<tr class=\"unfinished\" data-standing=\"unfinished\" data-label=\"ia3\">"
            )
        );
        assert!(page.contains("diverged at step 12: gradient of encoder.3.key.ia3 is not finite"));
        assert!(page.contains("the digest of encoder.0.query.weight changed"));
        assert!(page.contains("1 failed: the numbers of these methods mean nothing"));
        let data = script_data_of(&page);
        let points = data["comparisons"][0]["points"].as_array().unwrap();
        assert!(
            points
                .iter()
                .all(|p| p["label"] != "bitfit" && p["label"] != "ia3")
        );
        assert_eq!(points.len(), 5);
    }

    #[test]
    fn a_stand_in_is_said_in_the_title_and_above_the_numbers() {
        let page = page(&[Sample::new("lora").stand_in_for("sst2").record()]);
        assert!(page.contains("<title>sst2 → movie_snippets (stand-in) · minilm"));
        assert!(page.contains("<strong>Stand-in data.</strong> sst2 was not found."));
    }

    #[test]
    fn the_script_is_given_predictions_and_quantities() {
        let page = page(&sample::realistic_comparison(&sample::FIVE, 2));
        let data = script_data_of(&page);
        let c = &data["comparisons"][0];
        assert_eq!(c["examples"]["truth"].as_array().unwrap().len(), 872);
        assert_eq!(c["examples"]["runs"].as_array().unwrap().len(), 10);
        assert_eq!(c["examples"]["seeds"], json!([0, 1]));
        let lora = c["points"]
            .as_array()
            .unwrap()
            .iter()
            .find(|p| p["label"] == "lora")
            .unwrap();
        assert_eq!(lora["values"]["parameters"]["mean"], json!(73_728.0));
        assert_eq!(lora["values"]["parameters"]["text"], json!("73,728"));
        assert_eq!(lora["ink"], json!("blue"));
        let right = |run: &Value| {
            let predicted = answers::read(run["predicted"].as_str().unwrap(), 2).unwrap();
            let truth = c["examples"]["truth"].as_array().unwrap();
            let both = predicted.iter().zip(truth);
            both.filter(|(a, b)| json!(a) == **b).count() as f64 / 872.0
        };
        let values = &lora["values"]["metric"];
        let of_lora: Vec<f64> = c["examples"]["runs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|r| c["points"][r["row"].as_u64().unwrap() as usize]["label"] == "lora")
            .map(right)
            .collect();
        let mean = 100.0 * of_lora.iter().sum::<f64>() / of_lora.len() as f64;
        assert!((values["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
    }

    #[test]
    fn what_users_named_is_text_and_never_markup() {
        let evil = "</script><img src=x onerror=alert(1)>";
        let record = Sample::new("lora")
            .variant(evil, json!({ "init_text": evil }))
            .record();
        let page = page(&[record]);
        assert!(!page.contains("<img"));
        assert_eq!(page.matches("</script>").count(), 2);
        assert_eq!(
            script_data_of(&page)["comparisons"][0]["points"][0]["label"],
            json!(format!("lora {evil}"))
        );
    }

    #[test]
    fn a_page_can_be_made_of_little_or_nothing() {
        assert!(page(&[]).contains("There are no records."));
        let unfinished = page(&[Sample::new("lora").ended(Status::Interrupted).record()]);
        assert!(
            unfinished.contains("No method has a valid result.")
                && !unfinished.contains("class=\"axis-x\"")
        );
        let single = page(&sample::realistic_comparison(&["head_only"], 1));
        assert!(single.contains("no other valid result") && single.contains("class=\"axis-x\""));
    }

    #[test]
    fn sections_of_others_are_left_out_without_data() {
        let page = page(&sample::realistic_comparison(&["lora"], 1));
        for id in ["claims", "studies", "tuning", "measurements"] {
            assert!(!page.contains(&format!("id=\"{id}\"")));
        }
    }

    #[test]
    fn claims_studies_searches_and_measurements_are_sections_of_their_own() {
        let extras = Extras {
            suites: None,
            claims: Some(json!([{
                "claim": "Prompt tuning trains the fewest parameters.",
                "source": "Lester et al. 2021",
                "verdict": "does_not_hold",
                "evidence": [{
                    "what": "parameters of prompt_tuning over ia3",
                    "place": "sst2 · minilm",
                    "text": "1.2, at most 1",
                    "verdict": "does_not_hold",
                    "records": ["0123456789abcdef"],
                }],
                "missing": ["there are no runs of bitfit"],
            }])),
            studies: Some(json!([{
                "title": "Prompt length",
                "question": "How many virtual tokens?",
                "reference": null,
                "findings": ["Twenty are enough."],
                "notes": ["Three seeds."],
            }])),
            tuning: Some(json!([{
                "title": "Equal tuning budget",
                "metric": "accuracy",
                "judged_by": "a tenth of the training split",
                "explanation": "",
                "table": crate::table::Table::of_texts(
                    "",
                    1,
                    &["method", "best configuration"].map(str::to_owned),
                    vec![vec!["lora".into(), "rank=4".into()]],
                ),
                "notes": [],
                "plot": null,
            }])),
            measurements: Some(json!([{
                "title": "Latency",
                "description": "p50 in ms",
                "tables": [crate::table::Table::of_texts(
                    "batch 1",
                    1,
                    &["weights", "16 tokens"].map(str::to_owned),
                    vec![vec!["lora".into(), "3.14".into()]],
                )],
                "sentences": [],
            }])),
        };
        let comparisons = Comparison::from_records(&sample::realistic_comparison(&["lora"], 1));
        let page = render(&comparisons, &extras).unwrap();
        for text in [
            "<section id=\"claims\"",
            "does not hold",
            "1.2, at most 1",
            "Not measured: there are no runs of bitfit",
            "<section id=\"studies\"",
            "Twenty are enough.",
            "href=\"#claims\"",
            "<section id=\"tuning\"",
            "<td class=\"number\">rank=4</td>",
            "<caption>batch 1</caption>",
            "<td class=\"number\">3.14</td>",
        ] {
            assert!(page.contains(text), "{text}");
        }
    }

    #[test]
    fn the_same_records_give_the_same_page() {
        let records = everything();
        assert_eq!(page(&records), page(&records));
    }
}
