//! What is refused before any work, and outputs that are whole or not there.

use std::{any::TypeId, fs, path::Path, time::Duration};

use clap::CommandFactory;
use peftbench::cli::Cli;

use serde_json::{Value, json};

use crate::support::{Place, tiny_backbone};

/// What no number of the command line may be.
const SENSELESS: [&str; 9] = [
    "nan",
    "inf",
    "-inf",
    "1e300",
    "-1",
    "1e-300",
    "99999999999999999999999999999",
    "99999999999999999999h",
    "",
];

#[test]
fn every_number_of_the_command_line_has_a_range_and_a_refusal_names_it() {
    let root = Cli::command();
    let numbers = [
        TypeId::of::<f64>(),
        TypeId::of::<usize>(),
        TypeId::of::<u64>(),
        TypeId::of::<u16>(),
        TypeId::of::<u8>(),
        TypeId::of::<statistics::Margin>(),
    ];
    let mut seen = 0;
    for command in root.get_subcommands().chain([&root]) {
        let flags = command.get_arguments().filter(|arg| {
            let of = arg.get_value_parser().type_id();
            arg.get_action().takes_values() && numbers.iter().any(|number| of == *number)
        });
        for flag in flags.filter_map(|arg| arg.get_long()) {
            seen += 1;
            for value in SENSELESS {
                let value = format!("--{flag}={value}");
                let typed = match command.get_name() {
                    "peftbench" => vec!["peftbench", &value],
                    name => vec!["peftbench", name, &value],
                };
                let error = root.clone().try_get_matches_from(&typed).unwrap_err();
                let message = error.to_string();
                for part in ["accepted: ", " to ", flag] {
                    assert!(message.contains(part), "{typed:?}: {message}");
                }
            }
        }
    }
    assert!(seen > 50, "{seen} numbers");
}

/// A place with the weights of a method that was trained for three steps.
fn trained(method: &str, more: &[&str]) -> (Place, String) {
    let place = Place::new();
    let weights = place.trained(method, more);
    (place, weights)
}

#[test]
fn a_plan_is_read_from_a_regular_file_only() {
    let place = Place::new();
    let pipe = place.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for (from, word) in [
        ("/dev/zero", "a device"),
        ("pipe", "a named pipe"),
        (".", "is a folder"),
        ("nowhere.jsonl", "--plan-only writes it"),
    ] {
        let output = place.run(&["run-plan", "--from", from, "--task=0"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && !said.contains("panicked"),
            "{said}"
        );
        assert!(said.contains(from) && said.contains(word), "{said}");
    }
}

/// Puts a named pipe in the place of a file.
fn pipe(path: &Path) {
    fs::remove_file(path).ok();
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

#[test]
fn a_pipe_is_named_and_not_waited_for_wherever_a_file_is_read() {
    let (place, weights) = trained("head_only", &[]);
    place.file("rows.jsonl", "{\"text\": \"good\"}\n");
    let predict = ["predict", "--weights", &weights, "--input", "rows.jsonl"];
    for name in ["peftbench.json", "weights.safetensors"] {
        let path = place.path().join(&weights).join(name);
        let whole = fs::read(&path).unwrap();
        pipe(&path);
        place.refused(&predict, &[name, "pipe"]);
        fs::remove_file(&path).unwrap();
        fs::write(&path, whole).unwrap();
    }
    place.ok(&predict);
    let report = ["report", "--records", "out", "--out", "report"];
    place.ok(&report);
    pipe(&place.path().join("out/records/0123456789abcdef.json"));
    let output = place.run(&report);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("0123456789abcdef.json") && said.contains("not a regular file"),
        "{said}"
    );
    // What is beside the records is read as well.
    for name in ["judging.json", "study.json", "measurement.json"] {
        pipe(&place.path().join("out").join(name));
    }
    place.ok(&report);
}

#[test]
fn a_task_whose_backbone_is_not_there_leaves_the_others_answered() {
    let (place, weights) = trained("head_only", &[]);
    let tasks = place.path().join("tasks");
    for name in ["a", "b"] {
        fs::create_dir_all(tasks.join(name)).unwrap();
        for entry in fs::read_dir(place.path().join(&weights)).unwrap().flatten() {
            fs::copy(entry.path(), tasks.join(name).join(entry.file_name())).unwrap();
        }
    }
    let config = tasks.join("a/peftbench.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json["backbone"] = "nowhere/at/all".into();
    json.as_object_mut().unwrap().remove("config_sha256");
    fs::write(&config, json.to_string()).unwrap();
    place.file(
        "rows.jsonl",
        "{\"task\": \"a\", \"text\": \"good\"}\n{\"task\": \"b\", \"text\": \"good\"}\n",
    );
    let answers = place.ok(&["predict", "--tasks", "tasks", "--input", "rows.jsonl"]);
    assert_eq!(answers.matches("\"label\"").count(), 2, "{answers}");
}

#[test]
fn sizes_in_a_tasks_configuration_are_not_believed_and_leave_the_others_answered() {
    let (place, weights) = trained("p_tuning", &[]);
    // The width is that of an encoder that saved weights no longer need; the prompt's length is in the file.
    let changed: [(&str, &[&str]); 4] = [
        ("whole", &[]),
        ("wide", &["config", "width"]),
        ("long", &["config", "virtual_tokens"]),
        ("far", &["max_tokens"]),
    ];
    for (name, keys) in changed {
        let folder = place.path().join("tasks").join(name);
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(place.path().join(&weights)).unwrap().flatten() {
            fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
        if !keys.is_empty() {
            let path = folder.join("peftbench.json");
            let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let value = keys.iter().fold(&mut json, |at, key| &mut at[*key]);
            *value = 10_000_000_000_u64.into();
            json.as_object_mut().unwrap().remove("config_sha256");
            fs::write(&path, json.to_string()).unwrap();
        }
    }
    let row = |task: &str| format!("{{\"task\": \"{task}\", \"text\": \"good\"}}\n");
    place.file("rows.jsonl", changed.map(|(name, _)| row(name)).concat());
    let output = place.run(&["predict", "--tasks", "tasks", "--input", "rows.jsonl"]);
    assert_eq!(output.status.code(), Some(1));
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(answers[0]["label"].is_string(), "{}", answers[0]);
    assert_eq!(answers[0]["label"], answers[1]["label"]);
    for (answer, key) in answers[2..].iter().zip(["virtual_tokens", "max_tokens"]) {
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn a_tokenizers_files_that_read_otherwise_than_in_training_are_refused() {
    let (place, weights) = trained("head_only", &[]);
    place.file("rows.jsonl", "{\"text\": \"good\"}\n");
    let backbone = place.path().join("base");
    fs::create_dir(&backbone).unwrap();
    for entry in fs::read_dir(tiny_backbone()).unwrap().flatten() {
        if entry.path().is_file() {
            fs::copy(entry.path(), backbone.join(entry.file_name())).unwrap();
        }
    }
    let change = |name: &str, change: &dyn Fn(&mut Value)| {
        let whole = fs::read(tiny_backbone().join(name)).unwrap();
        let mut json: Value = serde_json::from_slice(&whole).unwrap();
        change(&mut json);
        fs::write(backbone.join(name), json.to_string()).unwrap();
        whole
    };
    let predict = [
        "predict",
        "--weights",
        &weights,
        "--input=rows.jsonl",
        "--backbone=base",
    ];
    place.ok(&predict);
    let name = "tokenizer_config.json";
    let whole = change(name, &|config| config["model_max_length"] = 3.into());
    place.refused(&predict, &["model_max_length", "cut them to 3"]);
    fs::write(backbone.join(name), whole).unwrap();
    let special = |key: &'static str, value: Value| {
        move |tokenizer: &mut Value| {
            tokenizer["post_processor"] = json!({
                "type": "TemplateProcessing",
                "single": [
                    { "SpecialToken": { "id": "[CLS]", "type_id": 0 } },
                    { "Sequence": { "id": "A", "type_id": 0 } },
                ],
                "pair": [
                    { "SpecialToken": { "id": "[CLS]", "type_id": 0 } },
                    { "Sequence": { "id": "A", "type_id": 0 } },
                    { "Sequence": { "id": "B", "type_id": 1 } },
                ],
                "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] } },
            });
            let of = &mut tokenizer["post_processor"];
            match key {
                "ids" => of["special_tokens"]["[CLS]"]["ids"] = value.clone(),
                _ => of["single"][0]["SpecialToken"][key] = value.clone(),
            }
        }
    };
    for (key, value, said) in [
        ("ids", json!([5000]), "token id 5000"),
        ("type_id", json!(256), "type_id 256"),
    ] {
        change("tokenizer.json", &special(key, value));
        place.refused(&predict, &["tokenizer.json", "post_processor", said]);
    }
}

#[test]
fn a_class_without_a_name_is_not_imported() {
    let (place, weights) = trained("lora", &[]);
    let import = |labels: &'static str| {
        vec![
            "import".to_owned(),
            format!("--weights={weights}"),
            "--out=new".into(),
            labels.into(),
        ]
    };
    for labels in ["--labels=a,", "--labels=,b", "--labels=a, "] {
        let arguments = import(labels);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        place.refused(&arguments, &["--labels", "is empty"]);
    }
    assert!(!place.path().join("new").exists());
}

#[test]
fn lengths_beyond_the_backbones_positions_are_refused_and_the_usual_ones_adapt() {
    let (place, weights) = trained("lora", &[]);
    let latency = [
        "latency",
        "--weights",
        &weights,
        "--no-sentences",
        "--seconds=0.01",
        "--batches=1",
    ];
    for lengths in ["--lengths=65", "--lengths=16,65,100", "--lengths=0"] {
        place.refused(
            &[&latency[..], &[lengths]].concat(),
            &["--lengths", "accepted: 1 to"],
        );
    }
    let printed = place.ok(&[&latency[..], &["--json"]].concat());
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let cells = printed["cells"].as_array().unwrap();
    let lengths: std::collections::BTreeSet<u64> = cells
        .iter()
        .map(|cell| cell["length"].as_u64().unwrap())
        .collect();
    assert_eq!(lengths, [16, 64].into());
}

#[test]
fn a_format_that_cannot_hold_a_method_names_those_that_can() {
    let (place, weights) = trained("p_tuning", &["--set=p_tuning.virtual_tokens=4"]);
    let export = |more: &[&'static str]| {
        let mut all = vec![
            "export".to_owned(),
            format!("--weights={weights}"),
            "--out=new".into(),
        ];
        all.extend(more.iter().map(|m| (*m).to_owned()));
        all
    };
    for (more, words) in [
        (
            &["--format=merged"][..],
            &["cannot be merged", "--format peft"][..],
        ),
        (
            &["--format=adapterhub"],
            &["cannot be written in the format of AdapterHub"],
        ),
    ] {
        let arguments = export(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        place.refused(&arguments, words);
    }
    // Read by the first row, PEFT's class would read a virtual token: the setting is that of this method.
    let (place, weights) = trained(
        "p_tuning",
        &[
            "--set=p_tuning.virtual_tokens=4",
            "--set=backbone.pooling=pooler",
        ],
    );
    let weights = format!("--weights={weights}");
    place.refused(
        &format!("export {weights} --out=new --format=peft"),
        &["--set p_tuning.pooling=first", "--separate-head"],
    );
}

#[test]
fn a_method_or_batch_that_no_machine_holds_is_refused_in_every_command() {
    let place = Place::new();
    place.reviews();
    let backbone = tiny_backbone().display().to_string();
    for command in ["compare", "train", "check", "tune"] {
        for (setting, words) in [
            (
                "--set=p_tuning.width=1000000000",
                ["method p_tuning", "make it smaller"],
            ),
            ("--set=recipe.batch=40000000", ["batch", "40000000"]),
        ] {
            let mut arguments = vec![
                command,
                "reviews.csv",
                "--text-column=review",
                "--label-column=stars",
                "--backbone",
                &backbone,
                setting,
            ];
            match command {
                "train" => arguments.extend([
                    "--method=p_tuning",
                    "--budget=quick",
                    "--set=recipe.steps=1",
                ]),
                "compare" | "tune" => arguments.extend([
                    "--methods=p_tuning",
                    "--budget=quick",
                    "--set=recipe.steps=1",
                ]),
                _ if setting.contains("p_tuning") => continue,
                _ => {}
            }
            place.refused(&arguments, &words);
        }
    }
}

#[test]
fn a_data_set_with_a_long_name_is_compared_and_reported() {
    let place = Place::new();
    let name = format!("{}.csv", "lang".repeat(60));
    fs::copy(place.reviews(), place.path().join(&name)).unwrap();
    let backbone = tiny_backbone().display().to_string();
    place.ok(&format!(
        "compare {name} --text-column=review --label-column=stars --budget=quick \
            --set=recipe.steps=2 --seeds=1 --methods=head_only --backbone {backbone}"
    ));
    let out = place.path().join("reports/out");
    let folder = fs::read_dir(out).unwrap().next().unwrap().unwrap().path();
    assert!(folder.join("report.html").is_file());
}

#[test]
fn names_of_classes_steer_no_terminal_wherever_they_are_shown() {
    let place = Place::new();
    let classes = ["\u{1b}[2Jup", "\u{202e}down", "\u{9b}2J", "plain"];
    let row = |i: usize| {
        let row = serde_json::json!({ "text": format!("word {} number {i}", i % 4), "label": classes[i % 4] });
        format!("{row}\n")
    };
    place.file("rows.jsonl", (0..160).map(row).collect::<String>());
    let backbone = tiny_backbone().display().to_string();
    let own = [
        "--budget=quick",
        "--set=recipe.steps=2",
        "--out=out",
        "--backbone",
        &backbone,
    ];
    let silent = |arguments: &[&str]| {
        let output = place.run(arguments);
        let [out, said] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{said}");
        for text in [&out, &said] {
            let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!text.contains(steers), "{arguments:?}: {text:?}");
        }
        out
    };
    silent(
        &[
            &["compare", "rows.jsonl", "--methods=head_only", "--seeds=1"][..],
            &own,
        ]
        .concat(),
    );
    let weights = silent(&[&["train", "rows.jsonl", "--method=lora"][..], &own].concat());
    let weights = weights.trim();
    silent(&[
        "evaluate",
        "--weights",
        weights,
        "--dataset=rows.jsonl",
        "--split=all",
    ]);
    silent(&["tasks", "out/weights"]);
    silent(&["report", "--records=out", "--format=md"]);
}

/// Refuses a file of a report that is cut short.
fn check_whole(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let name = path.display();
    let ends = |end: &[u8]| bytes.trim_ascii_end().ends_with(end);
    match path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
    {
        "json" => drop(
            serde_json::from_slice::<serde_json::Value>(&bytes)
                .unwrap_or_else(|e| panic!("{name}: {e}")),
        ),
        "png" => assert!(ends(b"IEND\xaeB`\x82"), "{name}"),
        "svg" => assert!(ends(b"</svg>"), "{name}"),
        "html" => assert!(ends(b"</html>"), "{name}"),
        _ => assert!(bytes.ends_with(b"\n") || bytes.len() > 8, "{name}"),
    }
}

#[test]
fn a_report_that_is_killed_leaves_every_file_whole_or_not_at_all() {
    let place = Place::new();
    place.reviews();
    let backbone = tiny_backbone().display().to_string();
    place.ok(&format!(
        "compare reviews.csv --text-column=review --label-column=stars --budget=quick \
            --set=recipe.steps=2 --seeds=1 --methods=head_only,majority --out=out --backbone \
            {backbone}"
    ));
    let started = std::time::Instant::now();
    place.ok(&["report", "--records=out", "--out=whole"]);
    let took = started.elapsed();
    let mut seen = 0;
    for part in 1..=12 {
        // Always into the same folder: what an earlier report wrote must not be cut short either.
        let mut child = place.command(&["report", "--records=out", "--out=killed"]);
        child
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = child.spawn().unwrap();
        std::thread::sleep(Duration::from_secs_f64(
            took.as_secs_f64() * f64::from(part) / 12.0,
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        let entries = fs::read_dir(place.path().join("killed"))
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            // Temporary files have no name yet.
            if entry.path().is_file() && !entry.file_name().to_string_lossy().starts_with('.') {
                check_whole(&entry.path());
                seen += 1;
            }
        }
    }
    assert!(seen > 0);
}

/// All files of tests and sources, by the name of the file.
fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (
            entry.path(),
            entry.file_name().to_string_lossy().into_owned(),
        );
        if path.is_dir()
            && !["target", "fuzz", "fixtures"].contains(&name.as_str())
            && !name.starts_with('.')
        {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_promise_names_tests_and_they_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/SECURITY.md")).unwrap();
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for promise in text.split("\n**").skip(1) {
        let promise = one_line(promise.split("\n\n").next().unwrap());
        assert!(promise.contains(".rs`: *"), "no test: {promise}");
    }
    let text = one_line(&text);
    let mut files = Vec::new();
    sources(root, &mut files);
    let (mut file, mut count) = (String::new(), 0);
    // `file.rs`: *a sentence*, *another …*
    for (i, part) in text.split('`').enumerate() {
        if i % 2 == 1 {
            file = part.rsplit('/').next().unwrap_or_default().to_owned();
            continue;
        }
        if !file.ends_with(".rs") || !part.starts_with(": *") {
            continue;
        }
        let sentences = part.split('*').skip(1).step_by(2);
        for sentence in sentences.filter(|s| !s.is_empty()) {
            let (start, whole) = match sentence.split_once('…') {
                Some((start, _)) => (start, false),
                None => (sentence, true),
            };
            let name = start.trim().replace(' ', "_") + if whole { "(" } else { "" };
            let there = files
                .iter()
                .any(|(n, text)| *n == file && text.contains(&format!("fn {name}")));
            assert!(there, "{file}: {sentence:?} is no test");
            count += 1;
        }
    }
    assert!(count > 60, "{count} tests are named");
}

#[test]
fn pairs_over_a_backbone_with_one_token_type_are_refused_before_any_run() {
    let place = Place::new();
    let backbone = place.path().join("one-type");
    fs::create_dir(&backbone).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(tiny_backbone().join(name), backbone.join(name)).unwrap();
    }
    let config = fs::read(tiny_backbone().join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["type_vocab_size"] = 1.into();
    fs::write(backbone.join("config.json"), config.to_string()).unwrap();
    let path = tiny_backbone().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
    for (name, tensor) in &mut tensors {
        if name.contains("token_type_embeddings") {
            *tensor = tensor.narrow(0, 0, 1).unwrap().copy().unwrap();
        }
    }
    candle_core::safetensors::save(&tensors, backbone.join("model.safetensors")).unwrap();
    let rows = |pair: bool| -> String {
        let row = |i: usize| match pair {
            true => format!("good {i},fine {i},{}\n", i % 2),
            false => format!("good {i},{}\n", i % 2),
        };
        (0..60).map(row).collect()
    };
    let pairs = place.file("pairs.csv", format!("one,two,label\n{}", rows(true)));
    let single = place.file("single.csv", format!("text,label\n{}", rows(false)));
    let backbone = backbone.to_str().unwrap();
    let how = [
        "--backbone",
        backbone,
        "--budget=quick",
        "--set=recipe.steps=2",
        "--set=recipe.evaluations=1",
        "--method=lora",
    ];
    let train = [
        "train",
        pairs.to_str().unwrap(),
        "--text-column=one",
        "--text-column=two",
    ];
    place.refused(
        &[&train[..], &how, &["--out=pairs"]].concat(),
        &["token type 1", "type_vocab_size is 1"],
    );
    let train = ["train", single.to_str().unwrap()];
    place.ok(&[&train[..], &how, &["--out=single"]].concat());
}

#[test]
fn a_classifier_without_layers_is_not_written_for_other_libraries() {
    let (place, weights) = trained("knn", &[]);
    place.refused(
        &[
            "export",
            "--weights",
            &weights,
            "--format=merged",
            "--separate-head",
            "--out=merged",
        ],
        &["knn", "is not a layer of a classifier"],
    );
}
