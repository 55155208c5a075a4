#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use record::{RunRecord, Status, answers};

use super::*;
use crate::{
    claims,
    sample::{self, Sample},
    table::Table,
};

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
fn of_very_many_runs_the_page_names_the_records_files_and_holds_none_of_them() {
    let seeds = (0..=RECORDS as u64).map(|seed| Sample::new("lora").seed(seed).record());
    let records: Vec<RunRecord> = seeds.collect();
    let page = page(&records);
    assert!(page.contains("in the folder <code>records</code>"));
    assert!(!page.contains("<pre"));
    for record in records.iter().step_by(100) {
        let row = format!("<tr id=\"run-{0}\">", record.id);
        assert!(page.contains(&row), "{row}");
        assert!(page.contains(&format!("<code>{}.json</code>", record.id)));
    }
}

#[test]
fn invalid_methods_are_shown_as_invalid_and_failures_are_rows() {
    let page = page(&sample::troubled_comparison(2));
    assert!(
        page.contains("<tr class=\"invalid\" data-standing=\"invalid\" data-label=\"bitfit\">")
    );
    assert!(
        page.contains("<tr class=\"unfinished\" data-standing=\"unfinished\" data-label=\"ia3\">")
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
    let run = |method: &str, right: usize| {
        let sample = Sample::new(method).right(100, move |i| i < right);
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
    // And what learns nothing is not asked where methods disagree (the browser's test counts them).
    let of = |label: &str| points.iter().find(|p| p["label"] == label).unwrap();
    let floors = [&of("majority")["floor"], &of("lora")["floor"]];
    assert_eq!(floors, [&json!(true), &json!(false)]);
    assert!(page.contains("!c.points[r.row].floor"));
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
    let table = |caption: &str, headings: [&str; 2], cells: [&str; 2]| {
        let cells = cells.map(str::to_owned).to_vec();
        Table::of_texts(caption, 1, &headings.map(str::to_owned), vec![cells])
    };
    let claims = [Judged {
        id: "fewest".into(),
        claim: "Prompt tuning trains the fewest parameters.".into(),
        source: "Lester et al. 2021".into(),
        verdict: claims::Verdict::DoesNotHold,
        evidence: vec![claims::Measurement {
            what: "parameters of prompt_tuning over ia3".into(),
            place: "sst2 · minilm".into(),
            text: "1.2, at most 1".into(),
            verdict: claims::Verdict::DoesNotHold,
            records: vec!["0123456789abcdef".into()],
            value: 1.2,
            interval: None,
            accepted: [None, Some(1.0)],
            judged: true,
        }],
        missing: vec!["there are no runs of bitfit".into()],
    }];
    let measurements = [Measurement {
        title: "Latency".into(),
        description: "p50 in ms".into(),
        tables: vec![table("batch 1", ["weights", "16 tokens"], ["lora", "3.14"])],
        sentences: vec![],
    }];
    let extras = Extras {
        claims: &claims,
        measurements: &measurements,
        studies: vec![json!({
            "title": "Prompt length",
            "question": "How many virtual tokens?",
            "reference": null,
            "findings": ["Twenty are enough."],
            "notes": ["Three seeds."],
        })],
        tuning: vec![json!({
            "title": "Equal tuning budget",
            "metric": "accuracy",
            "judged_by": "a tenth of the training split",
            "explanation": "",
            "table": table("", ["method", "best configuration"], ["lora", "rank=4"]),
            "notes": [],
            "plot": null,
        })],
        ..Extras::default()
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
