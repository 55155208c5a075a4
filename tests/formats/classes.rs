//! Names of classes, and metrics by class, of folders that other libraries made.

use serde_json::{Value, json};

use super::{fixture, named_backbone};
use crate::support::Place;

/// Eighty short texts of nine words.
fn texts() -> Vec<String> {
    let words = [
        "good", "bad", "story", "it", "was", "very", "dull", "a", "long",
    ];
    let word = |i: usize| words[i % words.len()];
    (0..80)
        .map(|i| format!("{} {} {}", word(i), word(i / 9), word(i * 5 + 2)))
        .collect()
}

#[test]
fn classes_have_the_names_of_the_backbones_configuration_and_are_matched_by_name() {
    let place = Place::new();
    let base = named_backbone(&place.path().join("base"), &["zebra", "ant", "moth"]);
    let base = base.to_str().unwrap();
    let lora = fixture("peft/lora");
    let weights = lora.to_str().unwrap();
    let texts = texts();
    let rows: Vec<_> = texts
        .iter()
        .map(|t| json!({ "text": t }).to_string())
        .collect();
    let rows = place.file("rows.jsonl", rows.join("\n"));
    let answers = place.ok(&format!(
        "predict --weights {weights} --backbone {base} --input {}",
        rows.display()
    ));
    let predicted: Vec<String> = answers
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["label"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(
        predicted
            .iter()
            .all(|l| ["zebra", "ant", "moth"].contains(&l.as_str())),
        "{predicted:?}"
    );
    // What it says itself of the texts is right, in the data's order of names and whichever classes occur.
    let mut csv = String::from("text,label\n");
    for (text, label) in texts.iter().zip(&predicted) {
        csv += &format!("{text},{label}\n");
    }
    let data = place.file("data.csv", &csv);
    let evaluated = |weights: &str| {
        place.ok(&format!(
            "evaluate --weights {weights} --backbone {base} --dataset {} --text-column text \
                --label-column label --split train",
            data.display()
        ))
    };
    assert!(
        evaluated(weights).contains("accuracy 1.0"),
        "{}",
        evaluated(weights)
    );
    // Named once more, in whatever order, each class keeps its name.
    let out = place.path().join("imported");
    place.ok(&format!(
        "import --weights {weights} --backbone {base} --out {} --labels ant,moth,zebra",
        out.display()
    ));
    assert!(evaluated(out.to_str().unwrap()).contains("accuracy 1.0"));
}

#[test]
fn evaluate_shows_every_metric_per_class_and_overall_on_a_split_or_on_all_rows() {
    let place = Place::new();
    let base = named_backbone(&place.path().join("base"), &["zebra", "ant", "moth"]);
    let (base, folder) = (base.to_str().unwrap(), fixture("peft/p_tuning"));
    let weights = ["--weights", folder.to_str().unwrap(), "--backbone", base];
    let texts = texts();
    let rows = place.file("rows.txt", texts.join("\n"));
    let predict = [
        &["predict", "--input", rows.to_str().unwrap()],
        &weights[..],
    ]
    .concat();
    let answers = place.ok(&predict);
    let predicted: Vec<String> = answers
        .lines()
        .map(|line| {
            let answer: Value = serde_json::from_str(line).unwrap();
            answer["label"].as_str().unwrap().to_owned()
        })
        .collect();
    let of = |class: &str| -> Vec<&String> {
        let all = texts.iter().zip(&predicted);
        all.filter(|(_, p)| *p == class).map(|(t, _)| t).collect()
    };
    let mut classes = ["zebra", "ant", "moth"];
    classes.sort_by_key(|class| std::cmp::Reverse(of(class).len()));
    let [often, seldom, _] = classes;
    let (often_texts, seldom_texts) = (of(often), of(seldom));
    let evaluate = |rows: &[(&String, &str)], more: &[&str]| {
        let rows = rows.iter().map(|(text, label)| format!("{text},{label}\n"));
        let data = place.file(
            "data.csv",
            "text,label\n".to_owned() + &rows.collect::<String>(),
        );
        let data = [
            "--dataset",
            data.to_str().unwrap(),
            "--text-column",
            "text",
            "--label-column",
            "label",
        ];
        let output = place.run(&[&["evaluate"], &weights[..], &data, more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    };
    let json = |(printed, _): &(String, String)| serde_json::from_str::<Value>(printed).unwrap();
    let near = |value: &Value, expected: f64| {
        assert!(
            (value.as_f64().unwrap() - expected).abs() < 1e-12,
            "{value} {expected}"
        );
    };

    // Four are predicted as the first class, one of them wrongly; one as the second, rightly.
    let rows = [
        (often_texts[0], often),
        (often_texts[1], often),
        (often_texts[2], often),
        (often_texts[3], seldom),
        (seldom_texts[0], seldom),
    ];
    let found = json(&evaluate(&rows, &["--split", "all", "--json"]));
    assert_eq!(
        (&found["split"], &found["examples"]),
        (&json!("all"), &json!(5))
    );
    near(&found["metrics"]["accuracy"], 4.0 / 5.0);
    near(&found["metrics"]["macro_f1"], (6.0 / 7.0 + 2.0 / 3.0) / 2.0);
    near(
        &found["metrics"]["weighted_f1"],
        (3.0 * 6.0 / 7.0 + 2.0 * 2.0 / 3.0) / 5.0,
    );
    let per_class = found["classes"].as_array().unwrap();
    let place_of = |name: &str| per_class.iter().position(|c| c["class"] == name).unwrap();
    let (first, second) = (place_of(often), place_of(seldom));
    for (class, [precision, recall, f1], examples) in [
        (first, [3.0 / 4.0, 1.0, 6.0 / 7.0], 3),
        (second, [1.0, 1.0 / 2.0, 2.0 / 3.0], 2),
    ] {
        near(&per_class[class]["precision"], precision);
        near(&per_class[class]["recall"], recall);
        near(&per_class[class]["f1"], f1);
        assert_eq!(per_class[class]["examples"], examples);
    }
    let cell = |label: usize, prediction: usize| &found["confusion"][label][prediction];
    assert_eq!([cell(first, first), cell(first, second)], [3, 0]);
    assert_eq!([cell(second, first), cell(second, second)], [1, 1]);
    // The class that the file lacks comes last, without examples.
    assert_eq!(per_class[2]["examples"], 0);
    assert_eq!(found["confusion"][2], json!([0, 0, 0]));

    let (printed, _) = evaluate(&rows, &["--split", "all"]);
    for line in [
        "accuracy 0.8000 (5 examples",
        "macro_f1 0.7619 (",
        "weighted_f1 0.7810 (",
    ] {
        assert!(printed.contains(line), "{printed}");
    }
    for cells in [
        vec!["class", "precision", "recall", "f1", "examples"],
        vec![often, "0.7500", "1.0000", "0.8571", "3"],
        vec![seldom, "1.0000", "0.5000", "0.6667", "2"],
    ] {
        let line = |line: &str| line.split_whitespace().eq(cells.iter().copied());
        assert!(printed.lines().any(line), "{cells:?} is not in {printed}");
    }

    // A file of one class.
    let one = evaluate(&rows[..3], &["--split", "all", "--json"]);
    near(&json(&one)["metrics"]["macro_f1"], 1.0);
    assert_eq!(
        json(&one)["classes"][0],
        json!({
            "class": often, "precision": 1.0, "recall": 1.0, "f1": 1.0, "examples": 3
        })
    );

    // A split that was taken out of the file is said, with its size; all rows are the three splits together.
    let rows: Vec<_> = texts
        .iter()
        .zip(predicted.iter().map(String::as_str))
        .collect();
    let all = evaluate(&rows, &["--split", "all", "--json"]);
    let test = evaluate(&rows, &["--split", "test", "--json"]);
    let (n, held) = (
        json(&all)["examples"].as_u64().unwrap(),
        json(&test)["examples"].as_u64().unwrap(),
    );
    assert!(0 < held && held < n, "{held} of {n}");
    for part in [
        format!("of its {n} rows"),
        format!("{held} for test"),
        "--split all".to_owned(),
    ] {
        assert!(test.1.contains(&part), "'{part}' is not in {}", test.1);
    }
    assert!(!all.1.contains("set aside"), "{}", all.1);
    let sum: u64 = ["train", "validation", "test"]
        .iter()
        .map(|split| {
            json(&evaluate(&rows, &["--split", split, "--json"]))["examples"]
                .as_u64()
                .unwrap()
        })
        .sum();
    assert_eq!(sum, n);
}

/// Rows of a file with the classes that these weights give for them.
fn predicted(place: &Place, weights: &str, base: &str) -> Vec<String> {
    let rows = place.file("rows.txt", texts().join("\n"));
    let rows = rows.to_str().unwrap();
    let answers = place.ok(&format!(
        "predict --weights {weights} --backbone {base} --input {rows}"
    ));
    let label = |line: &str| serde_json::from_str::<Value>(line).unwrap()["label"].clone();
    let labels = answers.lines().map(label);
    labels.map(|l| l.as_str().unwrap().to_owned()).collect()
}

#[test]
fn names_of_classes_may_be_numbers_and_those_that_are_not_clear_are_refused() {
    let lora = fixture("peft/lora");
    let weights = lora.to_str().unwrap();
    let place = Place::new();
    let base = named_backbone(&place.path().join("base"), &["a", "b", "c"]);
    let config = std::fs::read_to_string(base.join("config.json")).unwrap();
    let with = |names: Value| {
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config["id2label"] = names;
        std::fs::write(base.join("config.json"), config.to_string()).unwrap();
        base.to_str().unwrap()
    };
    let plain = predicted(&place, weights, with(json!({"0": "a", "1": "b", "2": "c"})));
    // In whatever order they are written, and of another kind than text.
    let mixed = predicted(&place, weights, with(json!({"2": 7, "0": 1.5, "1": true})));
    let same = |(name, mixed): (&String, &String)| {
        let index = ["a", "b", "c"].iter().position(|n| n == name).unwrap();
        ["1.5", "true", "7"][index] == mixed
    };
    assert!(plain.iter().zip(&mixed).all(same), "{plain:?} {mixed:?}");
    // As many names as the classifier has outputs, or none.
    for names in [json!(null), json!({"0": "a", "1": "b"})] {
        let found = predicted(&place, weights, with(names));
        assert!(found.iter().all(|l| l.starts_with("LABEL_")), "{found:?}");
    }
    for names in [
        json!({"1": "a", "2": "b", "3": "c"}),
        json!({"0": "a", "1": "b", "3": "c"}),
        json!({"0": "a", "one": "b", "2": "c"}),
        json!({"0": "a", "1": null, "2": "c"}),
    ] {
        place.refused(
            &[
                "predict",
                "--weights",
                weights,
                "--backbone",
                with(names),
                "--input",
                "rows.txt",
            ],
            &["config.json", "id2label", "from 0 on"],
        );
    }
    let rows = texts()
        .into_iter()
        .take(6)
        .map(|text| format!("{text},a\n"));
    let data = place.file(
        "data.csv",
        "text,label\n".to_owned() + &rows.collect::<String>(),
    );
    let twice = with(json!({"0": "a", "1": "a", "2": "c"}));
    let evaluate = [
        "evaluate",
        "--weights",
        weights,
        "--backbone",
        twice,
        "--split=all",
    ];
    let data = ["--dataset", data.to_str().unwrap()];
    place.refused(
        &[&evaluate[..], &data].concat(),
        &["two classes", "'a'", "import --labels"],
    );
}

#[test]
fn f1_is_that_of_the_second_class_of_the_weights_where_the_data_has_one_class() {
    let place = Place::new();
    let weights = place.trained("lora", &[]);
    let backbone = crate::support::tiny_backbone();
    let backbone = backbone.to_str().unwrap();
    for (class, f1) in [("up", true), ("down", false)] {
        let rows: String = (0..40)
            .map(|i| format!("good number {i},{class}\n"))
            .collect();
        let data = place.file("one.csv", format!("text,label\n{rows}"));
        let printed = place.ok(&[
            "evaluate",
            "--weights",
            weights.as_str(),
            "--backbone",
            backbone,
            "--dataset",
            data.to_str().unwrap(),
            "--split=all",
            "--metric=f1",
            "--json",
        ]);
        let found: Value = serde_json::from_str(&printed).unwrap();
        let names: Vec<_> = found["classes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["class"])
            .collect();
        assert_eq!(names, ["down", "up"]);
        let up = found["classes"][1]["f1"].as_f64().unwrap();
        assert_eq!(found["metrics"]["f1"].as_f64().unwrap(), up);
        if !f1 {
            assert_eq!(up, 0.0);
        }
    }
}
