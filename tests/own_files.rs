//! Files of the user's own: splits in files, and what is said of texts and labels.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Place, few_steps, tiny_backbone};

/// Rows of two classes that differ in their words, from `from` on.
fn rows(from: usize, n: usize) -> String {
    let row = |i: usize| match i % 2 {
        0 => format!("good fine great {i},up\n"),
        _ => format!("bad poor awful {i},down\n"),
    };
    "review,stars\n".to_owned() + &(from..from + n).map(row).collect::<String>()
}

/// `train` with lora for a few steps over the tiny backbone; the arguments.
fn training<'a>(data: &'a str, backbone: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    few_steps(
        "train",
        data,
        backbone,
        &[&["--method=lora"][..], more].concat(),
    )
}

fn backbone() -> String {
    tiny_backbone().display().to_string()
}

/// What a command prints and what it says, where it succeeds.
fn both(place: &Place, arguments: &[&str]) -> (String, String) {
    let output = place.run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

#[track_caller]
fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn splits_of_files_are_used_as_they_are_and_what_they_share_is_said() {
    let place = Place::new();
    let backbone = backbone();
    place.file("train.csv", rows(0, 60));
    // Another format, two rows of training among them.
    place.file("held.tsv", rows(56, 14).replace(',', "\t"));
    let last: String = (0..6)
        .map(|i| {
            format!(
                "{{\"review\": \"fine {i}\", \"stars\": \"{}\"}}\n",
                ["up", "down"][i % 2]
            )
        })
        .collect();
    place.file("last.jsonl", last);
    let splits = ["--validation=held.tsv", "--test=last.jsonl"];
    let (weights, said) = both(&place, &training("train.csv", &backbone, &splits));
    says(
        &said,
        &[
            "4 of 14 validation examples have a text that is trained on too",
            "4 of 80 rows repeat",
        ],
    );
    let table: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|cells: &Vec<&str>| ["up", "down"].contains(&cells.first().copied().unwrap_or("")))
        .collect();
    assert_eq!(table, [["down", "30", "7", "3"], ["up", "30", "7", "3"]]);

    let evaluate = |more: &[&str]| {
        let mut all = vec![
            "evaluate",
            "--weights",
            weights.trim(),
            "--dataset=train.csv",
            "--json",
        ];
        all.extend(["--text-column=review", "--label-column=stars"]);
        all.extend(splits.iter().chain(more));
        let (printed, said) = both(&place, &all);
        (serde_json::from_str::<Value>(&printed).unwrap(), said)
    };
    assert_eq!(evaluate(&["--split=test"]).0["examples"], 6);
    assert_eq!(evaluate(&["--split=validation"]).0["examples"], 14);
    let (all, said) = evaluate(&["--split=all"]);
    assert_eq!(all["examples"], 80);
    says(
        &said,
        &[
            "60 of the examples evaluated here are that split",
            "--split test",
        ],
    );
}

#[test]
fn rows_splits_and_texts_that_will_be_cut_are_said_before_training_and_by_check() {
    let place = Place::new();
    let backbone = backbone();
    let long = |i: usize| format!("{} {i},up\n", "good ".repeat(45));
    place.file("train.csv", rows(0, 60) + &long(1) + &long(2));
    place.file("held.csv", rows(60, 14) + &long(3));
    place.file("last.csv", rows(80, 8));
    let files = ["--validation=held.csv", "--test=last.csv"];
    let more = [&files[..], &["--set=recipe.max_tokens=40"]].concat();
    let mut check = vec!["check", "train.csv", "--backbone", &backbone];
    check.extend(["--text-column=review", "--label-column=stars"]);
    check.extend(&more);
    for arguments in [training("train.csv", &backbone, &more), check] {
        says(
            &both(&place, &arguments).1,
            &[
                "data set 'train' from train.csv: 62 rows to train on, 15 to judge by (validation), 8 kept for the end (test); \
                 so its files divide them",
                "3 of the 77 texts for training and validation have more than 40 tokens and are cut to these (max_tokens); \
                 --set recipe.max_tokens=N reads up to 64",
            ],
        );
    }
    // Nothing is cut, and both splits are drawn; a number has no classes, but rows.
    let row = |i: usize| format!("word {i},{i}.5\n");
    let numbers: String = (0..80).map(row).collect();
    place.file("numbers.csv", "review,stars\n".to_owned() + &numbers);
    for (data, objective) in [
        ("train.csv", "classification"),
        ("numbers.csv", "regression"),
    ] {
        let mut check = vec!["check", data, "--backbone", &backbone];
        check.extend(["--objective", objective]);
        check.extend(["--text-column=review", "--label-column=stars"]);
        let (_, said) = both(&place, &check);
        let drawn = "validation and test were drawn from the training rows by a hash";
        says(&said, &["rows to train on", drawn]);
        assert!(!said.contains("are cut to these"), "{said}");
    }
}

#[test]
fn problems_of_all_files_are_said_at_once() {
    let place = Place::new();
    let backbone = backbone();
    place.file("train.csv", rows(0, 60) + "no label,\n");
    place.file("held.csv", rows(60, 10) + ",up\n");
    place.refused(
        &training("train.csv", &backbone, &["--validation=held.csv"]),
        &["train.csv: line 62", "also: held.csv: line 12"],
    );
    place.file("train.csv", rows(0, 60));
    place.file("held.csv", rows(60, 10) + "new,sideways\n");
    place.refused(
        &training("train.csv", &backbone, &["--validation=held.csv"]),
        &["held.csv", "line 12", "'sideways'", "down, up"],
    );
    place.refused(
        &training("train.csv", &backbone, &["--test=nowhere.csv"]),
        &["nowhere.csv"],
    );
    place.refused(
        "compare sst2 --validation=held.csv",
        &["--validation", "'sst2'"],
    );
    // Data and backbone are two problems, not one after the other.
    place.refused(
        "check train.csv --backbone=nowhere",
        &[
            "no column 'text' and no column 'label'",
            "also: there is no backbone 'nowhere'",
        ],
    );
    place.file(
        "one.csv",
        "review,stars\n".to_owned() + &"the same,up\n".repeat(100),
    );
    place.refused(
        &training("one.csv", &backbone, &[]),
        &[
            "100 rows with 1 different texts",
            "rows with other texts",
            "--validation",
        ],
    );
    let one: String = (0..60).map(|i| format!("text {i},up\n")).collect();
    place.file("class.csv", "review,stars\n".to_owned() + &one);
    place.refused(
        &training("class.csv", &backbone, &[]),
        &["class.csv", "column 'stars'", "'up'"],
    );
}

#[test]
fn rows_that_contradict_each_other_are_counted() {
    let place = Place::new();
    let (backbone, data) = (backbone(), rows(0, 60) + "odd one,up\nodd one,down\n");
    place.file("data.csv", data);
    let (_, said) = both(&place, &training("data.csv", &backbone, &[]));
    says(
        &said,
        &["1 of 62 rows repeat", "\"odd one\" has down and up"],
    );
}

#[test]
fn more_tokens_than_the_backbone_has_positions_are_refused_where_they_are_asked_for_and_else_said()
{
    let place = Place::new();
    let backbone = backbone();
    place.file("data.csv", rows(0, 60));
    let (_, said) = both(&place, &training("data.csv", &backbone, &[]));
    says(
        &said,
        &["up to 64 tokens", "position table", "max_tokens is 128"],
    );
    place.refused(
        &training("data.csv", &backbone, &["--set=recipe.max_tokens=65"]),
        &["--set recipe.max_tokens=65", "up to 64 tokens"],
    );
    let (_, said) = both(
        &place,
        &training("data.csv", &backbone, &["--set=recipe.max_tokens=64"]),
    );
    assert!(!said.contains("position table"), "{said}");
}

#[test]
fn a_data_set_says_how_long_its_texts_are_unless_the_user_does() {
    let place = Place::new();
    let backbone = backbone();
    place.file("data.csv", rows(0, 60));
    let yaml = "name: long\nsource:\n  files: { rows: {} }\n  places:\n    - path: { folder: ., files: { rows: data.csv } }\n\
                splits: { train: rows }\ntext: [review]\nlabel: { column: stars }\n";
    place.file("long.yaml", format!("{yaml}max_tokens: 4\n"));
    let longest = |more: &[&str]| {
        let (weights, _) = both(&place, &training("long.yaml", &backbone, more));
        let config = fs::read(place.path().join(weights.trim()).join("peftbench.json")).unwrap();
        serde_json::from_slice::<Value>(&config).unwrap()["max_tokens"].clone()
    };
    assert_eq!(longest(&[]), 4);
    assert_eq!(longest(&["--set=recipe.max_tokens=9"]), 9);
    place.file("short.yaml", format!("{yaml}max_tokens: 2\n"));
    place.refused(
        &training("short.yaml", &backbone, &[]),
        &["short.yaml", "max_tokens: 2 leaves no text"],
    );
}

#[test]
fn predict_counts_texts_that_were_cut_and_pairs_that_were_not_learnt() {
    let place = Place::new();
    let backbone = backbone();
    place.file("data.csv", rows(0, 60));
    let (weights, _) = both(
        &place,
        &training("data.csv", &backbone, &["--set=recipe.max_tokens=10"]),
    );
    let input = format!(
        "{{\"text\": \"{}\"}}\n{{\"text\": \"good\", \"pair\": \"bad\"}}\n",
        "good ".repeat(30)
    );
    place.file("rows.jsonl", input);
    let predict = |weights: &str, input: &str, more: &[&str]| {
        let mut all = vec!["predict", "--weights", weights, "--input", input];
        all.extend(more);
        both(&place, &all).1
    };
    says(
        &predict(weights.trim(), "rows.jsonl", &[]),
        &[
            "1 of 2 texts are longer and were cut to 10 tokens",
            "1 of 2 rows have a second text",
        ],
    );
    let pairs: String = (0..60)
        .map(|i| format!("good {i},bad {i},{}\n", ["up", "down"][i % 2]))
        .collect();
    place.file("pairs.csv", "review,second,stars\n".to_owned() + &pairs);
    let more = ["--text-column=second"];
    let (weights, _) = both(&place, &training("pairs.csv", &backbone, &more));
    place.file("single.jsonl", "{\"text\": \"good\"}\n");
    says(
        &predict(weights.trim(), "single.jsonl", &[]),
        &["1 of 1 rows have one text"],
    );
    let more = ["--text-column=review", "--pair-column=second"];
    let said = predict(weights.trim(), "pairs.csv", &more);
    assert!(!said.contains("rows have"), "{said}");
    for (more, words) in [
        (
            &["--text-column=a", "--text-column=b", "--pair-column=c"][..],
            ["--pair-column c", "'b'"],
        ),
        (
            &["--text-column=a", "--pair-column=a"],
            ["'a'", "columns of their own"],
        ),
        (
            &["--pair-column=secnd", "--text-column=review"],
            ["no column 'secnd'", "did you mean 'second'"],
        ),
    ] {
        let mut all = vec!["predict", "--weights", weights.trim(), "--input=pairs.csv"];
        all.extend(more);
        place.refused(&all, &words);
    }
}

#[test]
fn a_table_for_spreadsheets_holds_no_formulas_and_its_numbers_stay() {
    let place = Place::new();
    let backbone = backbone();
    place.file("data.csv", rows(0, 60));
    let (weights, _) = both(&place, &training("data.csv", &backbone, &[]));
    place.file("rows.csv", "id,note,text\n-5,=1+1,good\n+7,@x,bad\n");
    let predict = |more: &[&str]| {
        let mut all = vec![
            "predict",
            "--weights",
            weights.trim(),
            "--input=rows.csv",
            "--format=csv",
        ];
        all.extend(more);
        both(&place, &all)
    };
    let (table, said) = predict(&[]);
    says(&table, &["\n-5,'=1+1,", "\n+7,'@x,"]);
    says(&said, &["--csv-safe=false"]);
    let (table, said) = predict(&["--csv-safe=false"]);
    says(&table, &["\n-5,=1+1,", "\n+7,@x,"]);
    assert!(!said.contains("csv-safe"), "{said}");
}

#[test]
fn a_confusion_matrix_that_is_wider_than_the_terminal_is_told_in_pairs() {
    let place = Place::new();
    let backbone = backbone();
    let many: String = (0..400)
        .map(|i| format!("word {i} of {},a rather long name {}\n", i % 20, i % 20))
        .collect();
    place.file("many.csv", "review,stars\n".to_owned() + &many);
    let (weights, _) = both(&place, &training("many.csv", &backbone, &[]));
    let evaluate = [
        "evaluate",
        "--weights",
        weights.trim(),
        "--dataset=many.csv",
        "--split=all",
    ];
    let columns = ["--text-column=review", "--label-column=stars"];
    let (printed, _) = both(&place, &[&evaluate[..], &columns].concat());
    says(&printed, &["predicted instead", "wider than the terminal"]);
    assert!(
        printed.lines().all(|line| line.chars().count() <= 100),
        "{printed}"
    );
}

#[test]
fn small_mistakes_are_answered_with_what_is_meant() {
    let place = Place::new();
    let backbone = backbone();
    place.file("data.csv", rows(0, 60));
    place.file("empty.csv", "");
    place.file("blank.csv", "\n\n");
    let refused = |more: &[&str], words: &[&str]| {
        place.refused(&training("data.csv", &backbone, more), words);
    };
    refused(&["--separator=\""], &["--separator", "--quote"]);
    refused(
        &["--set=recipe.learning_rate=0.1"],
        &["lora.learning_rate=1e-3", "head_learning_rate"],
    );
    for name in ["empty.csv", "blank.csv"] {
        place.refused(&training(name, &backbone, &[]), &[name, "no rows"]);
    }
    place.refused(
        "compare data.csv --plan-only=/dev/null",
        &["/dev/null", "is not a folder", "--plan-only"],
    );
    let hub = ["check", "hub:ada/reviews", "--offline"];
    place.refused(&hub, &["data set ada/reviews", "The network is off"]);

    let mut command = place.command(&training("data.csv", &backbone, &[]));
    let said = command.env("PEFTBENCH_THREADS", "").output().unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let mut command = place.command(&["list", "methods"]);
    let said = command.env("PEFTBENCH_THREADS", "many").output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    says(&said, &["PEFTBENCH_THREADS many", "accepted: 1 to"]);

    // Without HOME the list of users says where the home is, as for Python.
    let mut command = place.command(&["fetch", "minilm", "--offline"]);
    command.env_remove("HOME").env_remove("PEFTBENCH_CACHE");
    command
        .env_remove("XDG_CACHE_HOME")
        .env_remove("USERPROFILE");
    let said = command.output().unwrap();
    let said = [said.stdout, said.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(!said.contains("HOME"), "{said}");
    says(&said, &["minilm"]);

    let missing = training("nowhere.csv", &backbone, &[]);
    let said = String::from_utf8_lossy(&place.run(&missing).stderr).into_owned();
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    fs::create_dir(place.path().join("bare")).unwrap();
    let bare = training("data.csv", "bare", &[]);
    let said = String::from_utf8_lossy(&place.run(&bare).stderr).into_owned();
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
}

#[test]
fn a_damaged_copy_is_named_where_another_place_has_the_whole_file() {
    let place = Place::new();
    let whole = fs::metadata(place.reviews()).unwrap().len();
    fs::create_dir(place.path().join("old")).unwrap();
    place.file("old/reviews.csv", "review,stars\n");
    let yaml = format!(
        "name: reviews\ntext: [review]\nlabel: {{column: stars}}\nformat: csv\nsplits: {{train: train}}\nsource:\n  \
         files: {{train: {{bytes: {whole}}}}}\n  places:\n  \
         - path: {{folder: old, files: {{train: reviews.csv}}}}\n  \
         - path: {{folder: ., files: {{train: reviews.csv}}}}\n"
    );
    place.file("reviews.yaml", yaml);
    let backbone = tiny_backbone();
    let output = place.run(&format!(
        "train reviews.yaml --method=head_only --backbone={} --budget=quick --set=recipe.steps=2 --out=out",
        backbone.display()
    ));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let note = said.lines().find(|l| l.starts_with("note: reviews: "));
    assert!(
        note.is_some_and(|l| l.contains("old/reviews.csv is damaged")),
        "{said}"
    );
}

#[test]
fn a_folder_is_read_as_its_own_library_reads_it_or_refused_by_what_lies_in_it() {
    let place = Place::new();
    let base = place.path().join("base");
    fs::create_dir_all(base.join("1_Pooling")).unwrap();
    let files = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    for name in files {
        fs::copy(tiny_backbone().join(name), base.join(name)).unwrap();
    }
    let pooling = base.join("1_Pooling/config.json");
    let train = |out: &str| {
        let data = place.reviews();
        let arguments = [
            "train",
            data.to_str().unwrap(),
            "--text-column=review",
            "--label-column=stars",
            "--backbone=base",
            "--method=head_only",
            "--budget=quick",
            "--set=recipe.steps=2",
            "--set=recipe.evaluations=1",
            "--out",
            out,
        ];
        let output = place.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let folder = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), folder.trim().to_owned(), said)
    };
    for (modes, read_by) in [
        (
            json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false }),
            "cls",
        ),
        (
            json!({ "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true }),
            "mean",
        ),
        (
            json!({ "pooling_mode": "cls", "word_embedding_dimension": 32 }),
            "cls",
        ),
    ] {
        fs::write(&pooling, modes.to_string()).unwrap();
        let (ok, folder, said) =
            train(&format!("out-{modes}").replace(['"', '{', '}', ':', ','], ""));
        assert!(ok, "{said}");
        let config = fs::read(place.path().join(folder).join("peftbench.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["pooling"], read_by, "{modes}");
        assert_eq!(
            said.contains("1_Pooling/config.json reads texts by 'cls'"),
            read_by == "cls",
            "{said}"
        );
    }
    for modes in [
        json!({ "pooling_mode_max_tokens": true }),
        json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true }),
    ] {
        fs::write(&pooling, modes.to_string()).unwrap();
        let (ok, _, said) = train("refused");
        assert!(
            !ok && said.contains("1_Pooling") && said.contains("--set backbone.pooling=mean"),
            "{said}"
        );
    }
    fs::remove_file(&pooling).unwrap();
    fs::write(base.join("adapter_config.json"), "{}").unwrap();
    let (ok, _, said) = train("refused");
    assert!(!ok && said.contains("adapter_config.json"), "{said}");
}
