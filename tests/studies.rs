//! Studies, equal tuning budgets, claims and recommendations, as a user types them and as the library gives them.

use std::{collections::BTreeSet, fs};

use peftbench::{
    plan::DataChoice,
    prepare::Files,
    train::{encoded::EncodedData, recipe::Recipe},
};
use serde_json::Value;

use crate::support::{Place, Typed, few_steps, tiny_backbone, words};

/// Rows of two classes, each text unlike all others in the words of the tiny vocabulary.
fn letters(place: &Place, rows: usize) -> String {
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    let mut text = String::from("review,stars\n");
    for i in 0..rows {
        let (word, label) = if i % 2 == 0 {
            ("good", "up")
        } else {
            ("bad", "down")
        };
        let (a, b, c) = (letter(i), letter(i / 26), letter(i / 676));
        text += &format!("{word} film {a} {b} {c},{label}\n");
    }
    let path = place.file("letters.csv", text);
    path.to_str().unwrap().to_owned()
}

/// Arguments of a command over the tiny backbone, a few steps long.
fn tiny(command: &str, data: &str, more: &[&str]) -> Vec<String> {
    let backbone = tiny_backbone();
    let four = ["--set=recipe.steps=4", "--set=recipe.evaluations=2"];
    let more = [&four[..], more].concat();
    few_steps(command, data, backbone.to_str().unwrap(), &more).words()
}

fn said(place: &Place, arguments: &[String]) -> String {
    let output = place.run(arguments);
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn training_sets_are_nested_and_held_out_examples_are_neither_trained_on_nor_validation() {
    let place = Place::new();
    let choice = DataChoice {
        name: letters(&place, 400),
        options: datasets::FileOptions {
            text_columns: vec!["review".into()],
            label_column: Some("stars".into()),
            ..Default::default()
        },
        stand_in: false,
        stand_in_for: None,
    };
    let files = Files::new(true).unwrap();
    let data = files.data(&choice).unwrap().dataset;
    let backbone = tiny_backbone();
    let loaded = files
        .backbone(backbone.to_str().unwrap(), &Default::default())
        .unwrap()
        .load()
        .unwrap();
    let encoded = |settings: &[(&str, &str)], seed| {
        let settings = settings
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        let recipe = Recipe::resolve("quick", &settings, 1).unwrap();
        EncodedData::new(&data, &recipe, seed, &loaded.tokenizer, 64, place.path())
    };
    let texts = |e: &datasets::Encoded| -> BTreeSet<Vec<u32>> {
        let all: BTreeSet<_> = (0..e.len()).map(|i| e.example(i).0.to_vec()).collect();
        assert_eq!(all.len(), e.len());
        all
    };
    let whole = encoded(&[], 0).unwrap();
    let all = texts(&whole.train);
    let few = encoded(&[("train_examples", "16")], 3).unwrap();
    let more = encoded(&[("train_examples", "64")], 3).unwrap();
    assert_eq!((few.train.len(), more.train.len()), (16, 64));
    assert!(texts(&few.train).is_subset(&texts(&more.train)));
    assert!(texts(&more.train).is_subset(&all));
    assert_eq!(few.validation, whole.validation);
    let ones = (0..16)
        .filter(|i| few.train.label(*i).class() == Some(1))
        .count();
    assert!((7..=9).contains(&ones), "{ones} of 16");
    let other_seed = encoded(&[("train_examples", "16")], 4).unwrap();
    assert_ne!(texts(&other_seed.train), texts(&few.train));

    let held = encoded(&[("held_out", "0.2")], 0).unwrap();
    let (train, judged) = (texts(&held.train), texts(&held.validation));
    assert!(train.is_disjoint(&judged) && !judged.is_empty());
    assert!(judged.is_disjoint(&texts(&whole.validation)));
    assert_eq!(train.union(&judged).cloned().collect::<BTreeSet<_>>(), all);
    // The held-out part does not depend on the seed.
    assert_eq!(
        texts(&encoded(&[("held_out", "0.2")], 9).unwrap().validation),
        judged
    );

    let message = encoded(&[("train_examples", "4000")], 0)
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("train_examples: 4000"), "{message}");
}

#[test]
fn a_study_runs_every_point_over_seeds_leaves_out_what_cannot_be_and_goes_on_where_it_stopped() {
    let place = Place::new();
    let data = letters(&place, 240);
    let study = place.file(
        "length.yaml",
        "{title: Length, question: How long?, x: {title: virtual tokens, key: method.virtual_tokens, \
         values: [2, 4, 500]}, series: [{method: prompt_tuning}]}",
    );
    let study = study.to_str().unwrap();
    let arguments = tiny("sweep", &data, &["--study", study, "--seeds", "2"]);
    let table = place.ok(&arguments);
    assert!(
        table.contains("virtual tokens") && table.contains("prompt_tuning"),
        "{table}"
    );
    assert!(table.contains("Left out: prompt_tuning at 500"), "{table}");
    let folder = "out/studies/length";
    let found = place.records(folder);
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|r| r["status"]["is"] == "ok"));
    // The weights of a study's runs are not kept.
    let weights = place.path().join(folder).join("weights");
    assert!(!weights.exists() || fs::read_dir(&weights).unwrap().next().is_none());
    for ending in ["md", "csv", "json"] {
        let written = fs::read_dir(place.path().join(folder)).unwrap().any(|e| {
            let name = e.unwrap().file_name().into_string().unwrap();
            name.starts_with("study-length-letters") && name.ends_with(ending)
        });
        assert!(written, "{ending}");
    }

    // Started again, nothing is trained.
    assert!(said(&place, &arguments).contains("4 of 4 runs had a record"));

    // What the study varies cannot be set.
    let mut fixed = arguments.clone();
    fixed.extend(["--set".into(), "prompt_tuning.virtual_tokens=3".into()]);
    place.refused(&fixed, &["virtual_tokens", "what the study varies"]);
    let other = tiny("sweep", &data, &["--study", study, "--set", "lora.rank=4"]);
    place.refused(&other, &["lora", "not among the methods"]);
    place.refused(
        &tiny("sweep", &data, &["--study", "promt_length"]),
        &["promt_length", "did you mean 'prompt_length'?"],
    );
}

#[test]
fn a_study_varies_the_training_set_and_its_augmentation_the_same_for_all_methods() {
    let place = Place::new();
    let data = letters(&place, 240);
    let study = place.file(
        "size.yaml",
        "{title: Size, question: How many?, x: {title: examples, position: train_examples}, points: [\
         {label: 16, set: {recipe.train_examples: 16}},\
         {label: 16 dropped, set: {recipe.train_examples: 16, recipe.token_drop: 0.3}},\
         {label: all, set: {}}], series: [{method: lora}, {method: head_only}]}",
    );
    let events = place.ok(&tiny(
        "sweep",
        &data,
        &["--study", study.to_str().unwrap(), "--seeds", "1", "--json"],
    ));
    let events: Vec<Value> = events
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(events[0]["event"], "planned");
    assert_eq!(events[0]["runs"], 6);
    let finished: Vec<_> = events.iter().filter(|e| e["event"] == "finished").collect();
    assert_eq!(finished.len(), 6);
    assert!(finished.iter().all(|e| e["metric"]["accuracy"].is_f64()));
    let last = events.last().unwrap();
    assert_eq!(last["event"], "study");
    let x: Vec<f64> = last["study"]["series"][0]["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["x"].as_f64().unwrap())
        .collect();
    assert_eq!(x[..2], [16.0, 16.0]);
    assert!(x[2] > 150.0, "{x:?}");
    let found = place.records("out/studies/size");
    // The losses tell whether the tokens were changed; evaluation examples never are.
    let loss = |dropped: bool, method: &str| {
        let of: Vec<&Value> = found
            .iter()
            .filter(|r| {
                r["asked"]["method"]["name"] == method
                    && r["asked"]["recipe"]["train_examples"] == 16
                    && r["asked"]["recipe"].get("token_drop").is_some() == dropped
            })
            .collect();
        assert_eq!(of.len(), 1);
        of[0]["outcome"].clone()
    };
    for method in ["lora", "head_only"] {
        let (plain, dropped) = (loss(false, method), loss(true, method));
        assert_ne!(plain["loss"], dropped["loss"], "{method}");
        assert_eq!(plain["order_digest"], dropped["order_digest"]);
        assert_eq!(
            plain["predictions"]["labels"],
            dropped["predictions"]["labels"]
        );
    }
}

#[test]
fn tuning_gives_every_method_the_same_compute_off_the_validation_split_and_marks_the_winners() {
    let place = Place::new();
    let data = letters(&place, 240);
    let methods = ["--methods", "lora,head_only", "--seeds", "2"];
    // The defaults first: they stand beside the tuned rows.
    place.ok(&tiny(
        "compare",
        &data,
        &[&methods[..], &["--set", "recipe.steps=30"]].concat(),
    ));
    let arguments = tiny(
        "tune",
        &data,
        &[
            &methods[..],
            &words("--trials 3 --set lora.rank=2 --set recipe.steps=30"),
        ]
        .concat(),
    );
    // Under the same conditions but with a fixed rank.
    let printed = place.ok(&arguments);
    for part in [
        "lora (tuned)",
        "head_only (tuned)",
        "learning_rate=",
        "Dodge",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(printed.contains("head_only  "), "{printed}");
    let trials = place.records("out/studies/tuning");
    let plan = fs::read(place.path().join("out/studies/tuning/tuning.json")).unwrap();
    let plan: Value = serde_json::from_slice(&plan).unwrap();
    // Three trials for a third of the steps, and the best of them for all.
    assert_eq!(plan["rungs"], serde_json::json!([10, 30]));
    for method in plan["methods"].as_array().unwrap() {
        let drawn = method["trials"].as_array().unwrap();
        let [low, high] = [0, 1].map(|k| method["learning_rates"][k].as_f64().unwrap());
        assert!((high / low - 1000.0).abs() < 1e-6, "{low} {high}");
        let beyond = drawn.iter().filter(|t| t["beyond_edge"] == true).count();
        assert_eq!(drawn.len() - beyond, 3, "{method}");
        assert!(beyond == 0 || beyond == 3, "{method}");
        let whole = drawn
            .iter()
            .filter(|t| t["runs"].as_array().unwrap().len() == 2);
        assert_eq!(whole.count(), 1, "{method}");
    }
    for trial in &trials {
        assert_eq!(trial["asked"]["recipe"]["held_out"], 0.1);
        assert!(trial["asked"]["method"].get("tuned").is_none());
        if trial["asked"]["method"]["name"] == "lora" {
            assert_eq!(trial["asked"]["method"]["config"]["rank"], 2);
        }
    }
    let runs = place.records("out");
    let tuned: Vec<&Value> = runs
        .iter()
        .filter(|r| r["asked"]["method"].get("tuned").is_some())
        .collect();
    assert_eq!(tuned.len(), 4);
    for run in &tuned {
        assert!(run["asked"]["method"]["tuned"]["trials"].as_u64().unwrap() >= 3);
        assert!(run["asked"]["recipe"].get("held_out").is_none());
        assert!(run["asked"]["seed"].as_u64().unwrap() < 2);
        // The winner is one of its method's trials.
        let same = |t: &&Value| t["asked"]["method"]["config"] == run["asked"]["method"]["config"];
        assert!(trials.iter().any(|t| same(&t)));
    }
    // All of it is there: nothing is trained again.
    let again = said(&place, &arguments);
    assert!(
        !again.contains("1/8") && again.contains("had a record already"),
        "{again}"
    );
    place.refused(
        &tiny("tune", &data, &["--trials", "0"]),
        &["--trials", "accepted: 1 to 10000"],
    );
    place.refused(
        &tiny("tune", &data, &["--set", "recipe.held_out=0.2"]),
        &["--held-out"],
    );

    // A recommendation and the claims come from what there is.
    let ask = |more: &[&str]| {
        let fixed = ["recommend", "--dataset", "letters", "--records", "out"];
        place.ok(&[&fixed[..], more].concat())
    };
    let json: Value = serde_json::from_str(&ask(&["--max-size", "10MB", "--json"])).unwrap();
    // Two seeds show nothing, so nothing is recommended, and what would show it is said.
    assert!(json["recommended"].is_null(), "{json}");
    assert!(json["answer"].to_string().contains("more seeds"), "{json}");
    assert!(json["candidates"].as_array().unwrap().len() >= 3);
    let text = ask(&["--max-size", "1B"]);
    assert!(
        text.contains("No method fits all of these limits."),
        "{text}"
    );
    place.refused(
        "recommend --dataset sst9 --records out",
        &["sst9", "letters", "peftbench compare"],
    );
    place.refused("recommend --dataset letters --max-size 100", &["100KB"]);

    let report = place.ok(&["report", "--records", "out"]);
    assert!(report.contains("LoRA trains 0.1 to 1 %"), "{report}");
    assert!(place.path().join("out/claims.json").is_file());

    // A set compared with itself has not changed.
    let changes = place.ok(&["report", "--compare", "out", "out"]);
    assert!(
        changes.contains("0 better, 0 worse, 0 equivalent (metric within 1.0 points), 26 the same"),
        "{changes}"
    );
}

#[test]
fn a_comparison_goes_on_until_it_is_decided_and_keeps_its_error_rate_over_all_looks() {
    let place = Place::new();
    let data = letters(&place, 240);
    let methods = ["--methods", "lora,head_only,majority"];
    let going_on = [
        "--until-decided",
        "--max-seeds",
        "5",
        "--margin",
        "40%",
        "--json",
    ];
    let arguments = tiny("compare", &data, &[&methods[..], &going_on].concat());
    let last =
        |printed: &str| -> Value { serde_json::from_str(printed.lines().last().unwrap()).unwrap() };
    let first = last(&place.ok(&arguments));
    assert_eq!(first["comparisons"][0]["margin"], 0.4);
    assert_eq!(first["comparisons"][0]["looks"], serde_json::json!([3, 5]));
    let pairs = first["going_on"]["pairs"].as_array().unwrap();
    // Each with the best, and neighbours; two that answer one class are no pair.
    assert!((2..=3).contains(&pairs.len()), "{first}");
    let seeds = |name: &str| {
        let own = |r: &&Value| r["asked"]["method"]["name"] == name;
        place.records("out").iter().filter(own).count()
    };
    for pair in pairs {
        // Decided at a look, or open with its reason after as many seeds as were allowed.
        match pair["verdict"].as_str().unwrap() {
            "undecided" => assert!(pair["open"].as_str().is_some_and(|o| !o.is_empty())),
            _ => assert!(pair["open"].is_null()),
        }
        for name in [&pair["first"], &pair["second"]] {
            let made = seeds(name.as_str().unwrap());
            assert!(made == 3 || made == 5, "{name}: {made}");
        }
    }
    // It goes on from the records alone: nothing is left to do.
    let before = place.records("out").len();
    assert_eq!(last(&place.ok(&arguments))["going_on"], first["going_on"]);
    assert_eq!(place.records("out").len(), before);
    let planned = [
        &arguments[..],
        &["--plan-only".to_owned(), "plan".to_owned()],
    ]
    .concat();
    assert_eq!(last(&place.ok(&planned))["going_on"], first["going_on"]);
    // The report knows the margin and the looks, and another margin is said to come late.
    let json: Value =
        serde_json::from_str(&place.ok(&["report", "--records", "out", "--json"])).unwrap();
    assert_eq!(
        (&json[0]["margin"], &json[0]["looks"][1]),
        (&0.4.into(), &5.into())
    );
    let late = tiny(
        "compare",
        &data,
        &[&methods[..], &["--seeds", "3", "--margin", "1%"]].concat(),
    );
    assert!(said(&place, &late).contains("proves nothing"));
    for (more, says) in [
        (&["--until-decided", "--seeds", "4"][..], "--seeds"),
        (&["--max-seeds", "5"], "--until-decided"),
        (
            &["--until-decided", "--pairs", "lora:full"],
            "'full' is not compared",
        ),
        (&["--margin", "0"], "margin"),
    ] {
        place.refused(
            &tiny("compare", &data, &[&methods[..], more].concat()),
            &[says],
        );
    }
}

#[test]
fn no_seed_is_begun_when_the_time_is_up_and_the_same_command_goes_on() {
    let place = Place::new();
    let data = letters(&place, 240);
    let methods = ["--methods", "lora,head_only", "--until-decided"];
    // Two runs are two processes: they take longer than that.
    let limited = [&methods[..], &["--max-time", "0.05s"]].concat();
    let output = place.run(&tiny("compare", &data, &limited));
    let (out, err) = (&output.stdout, &output.stderr);
    assert!(String::from_utf8_lossy(err).contains("the time is up; the same command goes on"));
    assert!(String::from_utf8_lossy(out).contains("No pair can be judged yet"));
    assert_eq!(place.records("out").len(), 2);
    place.ok(&tiny("compare", &data, &methods));
    assert!(place.records("out").len() >= 6);
}

#[test]
fn looking_again_with_more_seeds_is_said_and_spends_the_error_rate_over_all_looks() {
    let place = Place::new();
    let data = letters(&place, 240);
    let with = |seeds: &str| {
        tiny(
            "compare",
            &data,
            &["--methods", "head_only,majority", "--seeds", seeds],
        )
    };
    let first = said(&place, &with("3"));
    assert!(!first.contains("fixed beforehand"), "{first}");
    let second = said(&place, &with("5"));
    assert!(
        second.contains("fixed beforehand") && second.contains("with 3 seeds before"),
        "{second}"
    );
    let report = place.ok(&["report", "--records", "out"]);
    assert!(report.contains("Looks at 3 and 5 seeds"), "{report}");
}

#[test]
fn a_study_made_again_with_more_seeds_spends_the_error_rate_over_all_looks() {
    let place = Place::new();
    let data = letters(&place, 240);
    let study = place.file(
        "dropout.yaml",
        "{title: Dropout, question: How much?, x: {title: dropout, key: recipe.token_drop, values: [0.1, 0.3]}, \
         series: [{method: head_only}]}",
    );
    let with = |seeds: &str| {
        let arguments = ["--study", study.to_str().unwrap(), "--seeds", seeds];
        tiny("sweep", &data, &arguments)
    };
    let looks = || -> Value {
        let json = fs::read(place.path().join("out/studies/dropout/study.json")).unwrap();
        serde_json::from_slice::<Value>(&json).unwrap()["looks"].clone()
    };
    let once = place.ok(&with("3"));
    assert!(!once.contains("Looks at"), "{once}");
    let again = place.ok(&with("5"));
    assert!(again.contains("Looks at 3 and 5 seeds"), "{again}");
    assert_eq!(looks(), serde_json::json!([3, 5]));
    // The same command once more is no further look.
    place.ok(&with("5"));
    assert_eq!(looks(), serde_json::json!([3, 5]));
    let report = place.ok(&["report", "--records", "out", "--format", "md"]);
    assert!(report.contains("Looks at 3 and 5 seeds"), "{report}");
}

#[test]
fn a_study_may_ask_for_whatever_precision_is_worthwhile_here() {
    let place = Place::new();
    let data = letters(&place, 240);
    let study = place.file(
        "rounding.yaml",
        "{title: Rounding, question: Which?, x: {title: precision, key: backbone.precision, values: [f32, auto]}, \
         series: [{method: head_only}]}",
    );
    let arguments = ["--study", study.to_str().unwrap(), "--seeds", "1"];
    let output = place.run(
        &tiny("sweep", &data, &arguments)
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    // What it stands for is said once, and no point is left out.
    assert_eq!(said.matches("(auto)").count(), 1, "{said}");
    assert!(
        !printed.contains("Left out") && printed.contains("auto"),
        "{printed}"
    );
}

#[test]
fn hours_of_tuning_are_shared_equally_and_buy_what_the_first_trial_says() {
    let place = Place::new();
    let data = letters(&place, 240);
    // 0.36 seconds of training, 0.18 for each method.
    let arguments = tiny(
        "tune",
        &data,
        &words("--methods lora,head_only --seeds 1 --hours 0.0001 --set recipe.steps=30"),
    );
    let printed = place.ok(&arguments);
    assert!(
        printed.contains("lora (tuned)") && printed.contains("head_only (tuned)"),
        "{printed}"
    );
    let plan = fs::read(place.path().join("out/studies/tuning/tuning.json")).unwrap();
    let plan: Value = serde_json::from_slice(&plan).unwrap();
    assert_eq!(plan["rungs"], serde_json::json!([10, 30]));
    let trials = place.records("out/studies/tuning");
    for method in plan["methods"].as_array().unwrap() {
        let drawn = method["trials"].as_array().unwrap();
        let made = drawn.iter().filter(|t| t["beyond_edge"] != true).count();
        let first = &drawn[0]["runs"][0];
        assert_eq!(first[0], 10);
        let record = trials.iter().find(|r| r["id"] == first[1]).unwrap();
        let per_step = record["cost"]["training_seconds"].as_f64().unwrap() / 10.0;
        // n trials of 10 steps and a third of them, one at least, of 30.
        let takes = |n: usize| (10 * n + 30 * (n / 3).max(1)) as f64 * per_step;
        assert!(made == 1 || takes(made) <= 0.18, "{made} {per_step}");
        assert!(takes(made + 1) > 0.18, "{made} {per_step}");
    }
    // The first trial's time is in its record, so the same command makes nothing more.
    assert!(said(&place, &arguments).contains("had a record already"));
}

#[test]
fn the_nearest_examples_are_a_floor_whose_saved_vectors_predict_the_same() {
    let place = Place::new();
    let data = letters(&place, 240);
    let methods = words("--methods knn,linear_probe --seeds 1 --set knn.k=3");
    let printed = place.ok(&tiny("compare", &data, &methods));
    assert!(
        printed.contains("knn") && printed.contains("linear_probe"),
        "{printed}"
    );
    let found = place.records("out");
    let knn = found
        .iter()
        .find(|r| r["asked"]["method"]["name"] == "knn")
        .unwrap();
    assert_eq!(knn["asked"]["method"]["config"]["k"], 3);
    assert_eq!(knn["kind"]["family"], "floor");
    let outcome = &knn["outcome"];
    assert_eq!(
        (
            &outcome["parameters"]["method"],
            &outcome["parameters"]["head"]
        ),
        (&0.into(), &0.into())
    );
    for check in outcome["checks"].as_array().unwrap() {
        assert_eq!(check["passed"], true, "{check}");
    }
    place.refused(
        &tiny("compare", &data, &["--methods", "knn", "--set", "knn.k=0"]),
        &["k: 0 neighbours"],
    );
}

#[test]
fn a_quiet_comparison_says_nothing_and_a_json_one_prints_events_only() {
    let place = Place::new();
    let data = letters(&place, 120);
    let arguments = tiny(
        "compare",
        &data,
        &["--methods", "head_only", "--seeds", "1", "--quiet"],
    );
    let loud = said(
        &place,
        &tiny("compare", &data, &["--methods", "lora", "--seeds", "1"]),
    );
    assert!(loud.contains("1/1") && loud.contains("lora"), "{loud}");
    assert!(
        loud.lines()
            .all(|l| l.starts_with("wrote") || l.starts_with("note: ") || l.chars().count() <= 80),
        "{loud}"
    );
    let quiet = said(&place, &arguments);
    assert!(quiet.is_empty(), "{quiet}");
    let json = place.ok(&tiny(
        "compare",
        &data,
        &["--methods", "head_only", "--seeds", "1", "--json"],
    ));
    let events: Vec<Value> = json
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(events[1]["event"], "reused");
    assert_eq!(events.last().unwrap()["event"], "compared");
}
