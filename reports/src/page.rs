//! The HTML page: one file with everything in it.
//!
//! One serialisable context (`Page`) goes into one template (`templates/report.html`, which includes
//! `templates/sections/`); what a reader may rearrange (axes, examples) lies in the page as JSON, and a
//! small script draws it. Without the script the page is complete but for that. A policy in the page
//! forbids it to load anything.

mod conditions;
mod facts;
mod pairs;
mod runs;
mod script;

use std::collections::BTreeMap;

use minijinja::{AutoEscape, Environment, syntax::SyntaxConfig, value::Serde};
use record::CLASSIFICATION;
use serde::Serialize;
use serde_json::{Value, json};

use self::{
    conditions::{Setting, conditions, environment, leaves},
    facts::{Fact, facts},
    pairs::{PairView, pairs, sigma},
    runs::{RunView, check_names, runs},
    script::script_data,
};
use crate::{
    Result,
    comparison::Comparison,
    figures::{self, Plot, style::Ink, style_of},
    format, objective,
    quantity::Quantity,
    row::Row,
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
    /// Prompts with what is written behind them.
    written: Option<Parts>,
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

#[derive(Serialize)]
struct Cell {
    text: String,
    /// What it is sorted by; absent values come last.
    key: Option<Value>,
}

/// A table with a column for each method: how well each class or type is found, or what is written.
#[derive(Serialize)]
struct Parts {
    title: &'static str,
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
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
    environment.add_global("undecided_claim", words::UNDECIDED_CLAIM);
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
                leads: comparison.leads(i),
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
        written: written(comparison),
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

/// Some prompts with what each ranked method writes behind them; `None` where nothing is written.
fn written(comparison: &Comparison) -> Option<Parts> {
    /// Prompts that are shown.
    const PROMPTS: usize = 12;
    /// Characters of a text.
    const LONGEST: usize = 300;
    fn texts<'a>(comparison: &'a Comparison, row: &Row) -> Option<&'a [record::Written]> {
        let records = row.runs.iter().filter_map(|run| comparison.record(&run.id));
        let texts = records.filter_map(|r| Some(r.outcome.as_ref()?.predictions.texts.as_slice()));
        texts.into_iter().find(|texts| !texts.is_empty())
    }
    let ranked = comparison.ranked();
    let columns: Vec<(&str, &[record::Written])> = ranked
        .iter()
        .filter_map(|row| Some((row.label.as_str(), texts(comparison, row)?)))
        .collect();
    let (_, prompts) = columns.first()?;
    let shown = |text: &str| format::cut(&format::visible(text), LONGEST);
    let rows = (0..prompts.len().min(PROMPTS)).map(|k| {
        let at = k * prompts.len() / prompts.len().min(PROMPTS);
        let asked = &prompts[at];
        let more = match asked.references.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let reference = asked.references.first().map_or("", String::as_str);
        // Runs whose examples differ have another text at this place.
        let cells = columns.iter().map(|(_, texts)| match texts.get(at) {
            Some(own) if own.prompt == asked.prompt => shown(&own.text),
            _ => "–".to_owned(),
        });
        [shown(&asked.prompt), shown(reference) + &more]
            .into_iter()
            .chain(cells)
            .collect()
    });
    Some(Parts {
        title: "What is written",
        rows: rows.collect(),
        headings: ["prompt", "true completion"]
            .into_iter()
            .chain(columns.iter().map(|(label, _)| *label))
            .map(str::to_owned)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use record::{RunRecord, Status, answers};

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
    fn the_page_recommends_among_what_is_above_the_floors_only() {
        let labels: Vec<u32> = (0..100).map(|i| i % 2).collect();
        let run = |method: &str, right: usize| {
            let sample = Sample::new(method).predictions(&labels, move |i| i < right);
            sample.record()
        };
        let page = page(&[
            run("lora", 80),
            run("majority", 50),
            run("prompt_tuning", 50),
        ]);
        let data = script_data_of(&page);
        let points = data["comparisons"][0]["points"].as_array().unwrap();
        let eligible = points.iter().filter(|p| p["eligible"] == true);
        let labels: Vec<&Value> = eligible.map(|p| &p["label"]).collect();
        assert_eq!(labels, [&json!("lora")]);
        assert_eq!(points.len(), 3);
        assert!(page.contains("j.p.eligible"));
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
    fn what_methods_write_stands_side_by_side_and_is_text() {
        let written = |method: &str| {
            Sample::new(method)
                .with(|r| {
                    let dataset = &mut r.asked.dataset;
                    dataset.objective = "completion".into();
                    dataset.main_metric = "rouge_l".into();
                    dataset.labels.clear();
                    let outcome = r.outcome.as_mut().unwrap();
                    let text = |i: usize| record::Written {
                        prompt: format!("<b>prompt {i}"),
                        references: vec!["a b".into(), "c".into()],
                        text: format!("{method} & b"),
                    };
                    outcome.predictions = record::Predictions {
                        texts: (0..30).map(text).collect(),
                        ..record::Predictions::default()
                    };
                    // One of two words is in the better reference.
                    for evaluation in &mut outcome.evaluations {
                        evaluation.metrics = [("rouge_l".to_owned(), 0.5)].into();
                    }
                })
                .record()
        };
        let page = page(&[written("lora"), written("full")]);
        for shown in [
            "What is written",
            "true completion",
            "&lt;b&gt;prompt 0",
            "a b (and 1 more)",
            "lora &amp; b",
            "full &amp; b",
            "ROUGE-L (%)",
        ] {
            assert!(page.contains(shown), "{shown}");
        }
        assert!(!page.contains("<b>prompt") && !page.contains("&lt;b&gt;prompt 1<"));
        // The stored metric is what the texts give.
        assert!(page.contains("50.0") && !page.contains("the predictions give"));
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
