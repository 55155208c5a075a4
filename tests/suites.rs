//! Suites: a comparison per data set, and the verdict over all of them.

use serde_json::Value;

use crate::support::{Place, record_files, tiny_backbone, words};

/// A suite of two files of the user's own; the second is about the words' other half.
fn suite(place: &Place) -> String {
    let rows = |a: &str, b: &str| {
        let row = |i: usize| match i % 2 {
            0 => format!("{a} number {i},up\n"),
            _ => format!("{b} number {i},down\n"),
        };
        format!("text,label\n{}", (0..200).map(row).collect::<String>())
    };
    place.file("films.csv", rows("good fine great", "bad poor awful"));
    place.file("tales.csv", rows("short story", "long film"));
    let yaml = "title: Two kinds of texts\nabout: Films and tales.\ndatasets: [{ name: films.csv, weight: 2 }, tales.csv]\n\
                methods: [majority, head_only, lora]\nset: { recipe.steps: 12, recipe.batch: 8 }\n";
    place.file("mine.yaml", yaml).display().to_string()
}

fn arguments<'a>(suite: &'a str, backbone: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = words("compare --budget quick --seeds 3 --out out");
    arguments.extend([suite, "--backbone", backbone]);
    arguments.extend(more);
    arguments
}

#[test]
fn a_suite_compares_every_data_set_and_says_what_holds_over_all_of_them() {
    let place = Place::new();
    let (suite, backbone) = (suite(&place), tiny_backbone());
    let backbone = backbone.to_str().unwrap();
    let before = place.ok(&arguments(&suite, backbone, &["--dry-run"]));
    assert!(before.starts_with("18 of 18 runs to make"), "{before}");
    assert!(
        before.contains("how long runs of majority, head_only and lora take is not known"),
        "{before}"
    );
    assert!(!place.path().join("out").exists());
    // What is known of the cost by earlier runs is said before the first run starts.
    let all = arguments(&suite, backbone, &[]);
    let fewer = all
        .iter()
        .map(|word| if *word == "3" { "2" } else { *word });
    place.ok(&fewer.collect::<Vec<_>>());
    let output = place.run(&all);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("6 of 18 runs to make, about "), "{told}");
    let said = String::from_utf8(output.stdout).unwrap();
    for word in [
        "films",
        "tales",
        "average",
        "the first is",
        "Over 2 data sets",
        "these weights: films 2 and tales 1;",
        "lora",
    ] {
        assert!(said.contains(word), "'{word}' is not in {said}");
    }
    for name in ["films", "tales"] {
        let folder = place.path().join("out").join(name).join("records");
        assert_eq!(record_files(&folder).len(), 9);
        // Weights say what was found of all seeds.
        let weights = place.path().join("out").join(name).join("weights");
        let weights = std::fs::read_dir(weights).unwrap();
        let cards = weights.map(|folder| folder.unwrap().path().join("README.md"));
        let cards = cards.map(|card| std::fs::read_to_string(card).unwrap());
        let compared = cards.filter(|card| card.contains("mean ± sd of 3 seeds"));
        assert_eq!(compared.count(), 9);
    }
    let read = |path: &str| std::fs::read_to_string(place.path().join(path)).unwrap();
    let manifest: Value = serde_json::from_str(&read("out/suite.json")).unwrap();
    assert_eq!(manifest["title"], "Two kinds of texts");
    assert_eq!(manifest["datasets"][1]["runs"].as_array().unwrap().len(), 9);
    assert_eq!(manifest["datasets"][0]["weight"], 2.0);
    assert!(manifest["datasets"][1].get("weight").is_none());
    // The floor is in the matrix and takes no part in the verdict.
    assert_eq!(read("out/suite-mine.csv").lines().count(), 4);
    let verdict = read("out/suite-mine.md");
    assert!(!verdict.contains("| majority | lora") && !verdict.contains("| lora | majority"));
    // It follows from the records and what was asked.
    place.ok(&["report", "--records", "out", "--out", "again"]);
    assert_eq!(read("again/suite-mine.md"), verdict);
    let page = std::fs::read_to_string(place.path().join("out/report.html")).unwrap();
    assert!(page.contains("Two kinds of texts: the verdict over all data sets"));
    let cost = place.ok(&arguments(&suite, backbone, &["--dry-run", "--json"]));
    let cost: Value = serde_json::from_str(&cost).unwrap();
    assert_eq!(
        (&cost["event"], &cost["missing"]),
        (&"cost".into(), &0.into())
    );
    assert!(cost["time"].is_string(), "{cost}");
    // Started again, it makes nothing, and knows what it would have cost.
    let after = place.ok(&arguments(&suite, backbone, &["--dry-run"]));
    assert!(after.starts_with("0 of 18 runs to make"), "{after}");
    let more = place.ok(&arguments(
        &suite,
        backbone,
        &["--dry-run", "--set", "recipe.steps=13"],
    ));
    assert!(
        more.starts_with("18 of 18 runs to make, about ") && more.contains("by earlier runs"),
        "{more}"
    );
}

#[test]
fn the_runs_of_a_suite_are_planned_together_and_the_same_command_then_gives_the_verdict() {
    let place = Place::new();
    let (suite, backbone) = (suite(&place), tiny_backbone());
    let backbone = backbone.to_str().unwrap();
    let planned = arguments(&suite, backbone, &["--plan-only", "plan"]);
    let printed = place.ok(&planned);
    assert!(printed.contains("the same command again"), "{printed}");
    let plans = std::fs::read_to_string(place.path().join("plan/plans.jsonl")).unwrap();
    assert_eq!(plans.lines().count(), 18);
    assert!(plans.contains("\"label\":\"films lora\""), "{plans}");
    place.ok(&["work", "plan", "--jobs", "2"]);
    let status = place.ok(&["status", "plan"]);
    assert!(status.starts_with("18 runs: 18 done"), "{status}");
    let said = place.ok(&planned);
    assert!(said.contains("Over 2 data sets"), "{said}");
    assert!(place.path().join("out/suite.json").is_file());
}

#[test]
fn a_suite_goes_on_until_it_is_decided_data_set_by_data_set_here_and_elsewhere() {
    let place = Place::new();
    let (suite, backbone) = (suite(&place), tiny_backbone());
    let backbone = backbone.to_str().unwrap();
    let of = |out: &'static str, more: &[&'static str]| {
        let mut all: Vec<String> = arguments(&suite, backbone, &[])
            .iter()
            .map(|s| (*s).to_owned())
            .collect();
        let seeds = all.iter().position(|a| a == "--seeds").unwrap();
        all.drain(seeds..seeds + 2);
        let folder = all.iter().position(|a| a == "--out").unwrap();
        all[folder + 1] = out.to_owned();
        all.extend(["--until-decided", "--max-seeds", "5"].map(str::to_owned));
        all.extend(more.iter().map(|s| (*s).to_owned()));
        all
    };
    let ok =
        |arguments: &[String]| place.ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let said = ok(&of("out", &[]));
    for part in ["films: ", "tales: ", " decided.", "Over 2 data sets"] {
        assert!(said.contains(part), "'{part}' is not in {said}");
    }
    // Elsewhere: look after look, of both data sets in one plan, until nothing is left; then the same verdict.
    let elsewhere = of("there", &["--plan-only", "plan"]);
    let mut looks = 0;
    let mut printed = ok(&elsewhere);
    while !printed.contains("Over 2 data sets") {
        looks += 1;
        assert!(looks < 4, "{printed}");
        place.ok(&["work", "plan", "--jobs", "2"]);
        printed = ok(&elsewhere);
    }
    let verdict = |said: &str| -> Vec<String> {
        let lines = said.lines().filter(|line| line.starts_with("Over 2"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(verdict(&printed), verdict(&said));
    let made = |folder: &str, name: &str| {
        record_files(&place.path().join(folder).join(name).join("records")).len()
    };
    for name in ["films", "tales"] {
        assert_eq!(made("there", name), made("out", name), "{name}");
    }
    let events = ok(&of("out", &["--json"]));
    let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "suite");
    assert!(last["time"].is_string() && last["going_on"]["films"]["pairs"].is_array());
}

#[test]
fn data_sets_of_a_suite_that_are_not_found_are_named_at_once_before_any_run() {
    let place = Place::new();
    let backbone = tiny_backbone();
    let backbone = backbone.to_str().unwrap();
    place.refused(
        &arguments("glue-small", backbone, &["--offline"]),
        &["suite 'glue-small'", "cola", "mrpc", "rte", "stsb", "sst2"],
    );
    let one = place
        .file("one.yaml", "title: One\ndatasets: [sst2]\n")
        .display()
        .to_string();
    place.refused(
        &arguments(&one, backbone, &[]),
        &["one.yaml", "two or more"],
    );
    let twice = place
        .file("twice.yaml", "title: T\ndatasets: [sst2, sst2]\n")
        .display()
        .to_string();
    place.refused(
        &arguments(&twice, backbone, &[]),
        &["'sst2' is there twice"],
    );
    let odd = place
        .file(
            "odd.yaml",
            "title: T\ndatasets: [sst2, rte]\nmethod: [lora]\n",
        )
        .display()
        .to_string();
    place.refused(
        &arguments(&odd, backbone, &[]),
        &["odd.yaml", "method", "methods"],
    );
}
