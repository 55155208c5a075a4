//! The commands as a user types them, on a tiny backbone and tiny data.

use std::{fs, process::Stdio};

use serde_json::Value;

use crate::support::{Place, Typed, record_files, tiny, tiny_backbone};

#[test]
fn a_large_validation_split_is_judged_by_the_same_800_examples_until_the_last_step() {
    let place = Place::new();
    let row = |i: usize| match i % 2 {
        0 => format!("good film {i},up\n"),
        _ => format!("bad film {i},down\n"),
    };
    let rows: String = (0..850).map(row).collect();
    place.file("held.csv", format!("review,stars\n{rows}"));
    // Of the one vectors are constant, of the other each text goes through the backbone again.
    let more = [
        "--validation=held.csv",
        "--methods=lora,head_only",
        "--seeds=2",
    ];
    place.ok(&place.tiny("compare", &more));
    let records = place.records("out");
    assert_eq!(records.len(), 4);
    let judged = |record: &Value, evaluation: usize| -> Vec<usize> {
        let text = &record["outcome"]["evaluations"][evaluation]["predicted"];
        let text = text.as_str().unwrap().as_bytes();
        assert_eq!(text.len(), 850);
        (0..850).filter(|i| text[*i] != b'.').collect()
    };
    let same = judged(&records[0], 0);
    assert_eq!(same.len(), 800);
    for record in &records {
        let evaluations = &record["outcome"]["evaluations"];
        assert_eq!(evaluations[0]["examples"], 800);
        assert_eq!(judged(record, 0), same);
        assert!(evaluations[1].get("examples").is_none());
        assert_eq!(judged(record, 1).len(), 850);
        let labels = &record["outcome"]["predictions"]["labels"];
        let predicted = evaluations[0]["predicted"].as_str().unwrap();
        let right = |i: &&usize| labels[**i].as_u64() == predicted[**i..**i + 1].parse().ok();
        let right = same.iter().filter(right).count();
        assert_eq!(
            evaluations[0]["metrics"]["accuracy"],
            right as f64 / 800.0,
            "{evaluations}"
        );
    }
}

#[test]
fn all_methods_are_compared_reported_and_not_trained_twice() {
    let place = Place::new();
    let more = ["--set", "prompt_tuning.virtual_tokens=4", "--seeds", "2"];
    let arguments = place.tiny("compare", &more);
    let table = place.ok(&arguments);
    let records = place.records("out");
    let standard: Vec<_> = methods::registry::ALL
        .iter()
        .filter(|e| e.standard)
        .collect();
    assert_eq!(records.len(), 2 * standard.len());
    for entry in standard {
        assert!(table.contains(entry.name), "{table}");
    }
    for record in &records {
        assert_eq!(record["status"]["is"], "ok", "{record}");
        let checks = record["outcome"]["checks"].as_array().unwrap();
        assert!(checks.len() >= 4);
        assert!(checks.iter().all(|c| c["passed"] == true), "{checks:?}");
        let length = |value: &Value| value.as_array().unwrap().len();
        let (loss, evaluations) = (
            &record["outcome"]["loss"],
            &record["outcome"]["evaluations"],
        );
        if record["asked"]["method"]["name"] == "majority" {
            // Nothing is trained, so nothing is timed.
            assert_eq!((length(loss), length(evaluations)), (0, 1));
            let labels = record["outcome"]["predictions"]["labels"]
                .as_array()
                .unwrap();
            let share = |class: u64| {
                labels.iter().filter(|l| **l == class).count() as f64 / labels.len() as f64
            };
            let accuracy = &evaluations[0]["metrics"]["accuracy"];
            assert!(
                [share(0), share(1)].contains(&accuracy.as_f64().unwrap()),
                "{accuracy}"
            );
            assert_eq!(record["cost"]["training_seconds"], 0.0);
            assert_eq!(length(&record["cost"]["latency"]), 0);
            continue;
        }
        assert_eq!((length(loss), length(evaluations)), (6, 2));
        // Larger batches are timed once per method.
        let mut sizes: Vec<u64> = record["cost"]["latency"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l["batch"].as_u64().unwrap())
            .collect();
        sizes.dedup();
        match record["asked"]["seed"] == 0 {
            true => assert!(sizes.starts_with(&[1, 8]), "{sizes:?}"),
            false => assert_eq!(sizes, [1]),
        }
    }
    // The same order and the same head for all methods of a seed, and others for another seed.
    for key in ["order_digest", "head_digest"] {
        let of_seed = |seed: u64| {
            let mut all: Vec<_> = records
                .iter()
                .filter(|r| r["asked"]["seed"] == seed)
                .map(|r| r["outcome"][key].to_string())
                .collect();
            all.dedup();
            all
        };
        assert_eq!((of_seed(0).len(), of_seed(1).len()), (1, 1), "{key}");
        assert_ne!(of_seed(0), of_seed(1), "{key}");
    }
    assert!(place.path().join("out/report.html").is_file());

    // Started again, it does only what is missing.
    let lost = record_files(&place.path().join("out/records")).remove(0);
    fs::remove_file(&lost).unwrap();
    let again = place.run(&arguments);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        said.contains(&format!(
            "{} of {} runs had a record",
            records.len() - 1,
            records.len()
        )),
        "{said}"
    );
    assert!(lost.is_file());
}

#[test]
fn the_same_seed_gives_the_same_record_but_for_times_and_another_method_changes_nothing() {
    let (one, two) = (Place::new(), Place::new());
    for (place, methods) in [(&one, "lora"), (&two, "adapter,lora")] {
        place.ok(&place.tiny("compare", &["--methods", methods, "--seeds", "1"]));
    }
    let lora = |place: &Place| {
        let mut found: Vec<Value> = place
            .records("out")
            .into_iter()
            .filter(|r| r["asked"]["method"]["name"] == "lora")
            .collect();
        assert_eq!(found.len(), 1);
        let mut record = found.remove(0);
        record["cost"].take();
        record["circumstances"].take();
        record
    };
    assert_eq!(lora(&one), lora(&two));
}

#[test]
fn saved_weights_are_evaluated_and_predict_rows() {
    let place = Place::new();
    let printed = place.ok(&place.tiny("train", &["--method", "lora", "--seed", "3"]));
    let weights = printed.trim();
    let evaluated = place.ok(&format!(
        "evaluate --weights {weights} --dataset reviews.csv --text-column review --label-column \
            stars --json"
    ));
    let evaluated: Value = serde_json::from_str(&evaluated).unwrap();
    let record = place.records("out").remove(0);
    let last = record["outcome"]["evaluations"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(
        evaluated["metrics"]["accuracy"],
        last["metrics"]["accuracy"]
    );

    let rows = place.file(
        "rows.jsonl",
        "{\"text\": \"good fine great\"}\n\n{\"text\": \"bad\", \"pair\": \"poor\"}\n",
    );
    let answers = place.ok(&format!(
        "predict --weights {weights} --input {}",
        rows.display()
    ));
    let answers: Vec<Value> = answers
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(answers.len(), 2);
    for answer in &answers {
        assert!(
            ["up", "down"].contains(&answer["label"].as_str().unwrap()),
            "{answer}"
        );
        let sum: f64 = answer["probabilities"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p.as_f64().unwrap())
            .sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }
    let broken = place.file("broken.jsonl", "{\"text\": \"good\"}\n{\"txt\": \"bad\"}\n");
    place.refused(
        &format!("predict --weights {weights} --input {}", broken.display()),
        &["broken.jsonl", "line 2"],
    );
    let other = place.file("other.csv", "review,stars\ngood,1\nbad,2\nfine,3\npoor,1\n");
    place.refused(
        &format!(
            "evaluate --weights {weights} --dataset {} --text-column review --label-column stars \
            --split train",
            other.display()
        ),
        &["up", "3"],
    );
}

#[test]
fn a_text_longer_than_the_position_table_is_cut_counted_and_said() {
    let place = Place::new();
    let mut text = String::from("review,stars\n");
    for i in 0..60 {
        let words = if i % 2 == 0 { "good " } else { "bad " };
        text += &format!("{} {i},{}\n", words.repeat(100), i % 2);
    }
    let data = place.file("long.csv", text);
    let backbone = tiny_backbone();
    let arguments = tiny(
        "compare",
        data.to_str().unwrap(),
        backbone.to_str().unwrap(),
        &["--methods", "prompt_tuning,head_only"],
    );
    let output = place.run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    for part in [
        "texts for training and validation have more than 64 tokens and are cut to these",
        "cut to 44 tokens: 20 virtual tokens",
    ] {
        assert!(said.contains(part), "{said}");
    }
    for record in place.records("out") {
        assert_eq!(record["status"]["is"], "ok", "{record}");
        assert!(record["asked"]["dataset"]["truncated"].as_u64().unwrap() > 0);
    }
}

#[test]
fn bad_data_is_refused_with_file_place_and_what_is_accepted() {
    let place = Place::new();
    let backbone = tiny_backbone();
    let backbone = backbone.to_str().unwrap();
    let good: String = (0..40).map(|i| format!("text {i},{}\n", i % 2)).collect();
    for (name, content, says) in [
        (
            "missing.csv",
            "text,stars\na,1\nb,2\n".to_owned(),
            vec!["missing.csv", "review", "text"],
        ),
        ("empty.csv", String::new(), vec!["empty.csv"]),
        (
            "header.csv",
            "review,stars\n".to_owned(),
            vec!["header.csv"],
        ),
        (
            "label.csv",
            format!("review,stars\n{good}no label,\n"),
            vec!["label.csv", "42"],
        ),
        (
            "one.csv",
            (0..40).fold("review,stars\n".to_owned(), |all, i| {
                format!("{all}text {i},1\n")
            }),
            vec!["'one'", "class"],
        ),
    ] {
        let path = place.file(name, content);
        place.refused(
            &tiny("compare", path.to_str().unwrap(), backbone, &[]),
            &says,
        );
    }
    let latin = place.file(
        "latin.csv",
        [b"review,stars\ngood,1\ncaf".as_slice(), b"\xe9,2\n"].concat(),
    );
    place.refused(
        &tiny("compare", latin.to_str().unwrap(), backbone, &[]),
        &["latin.csv", "UTF-8"],
    );
    place.refused(
        &tiny("compare", "nowhere.csv", backbone, &[]),
        &["nowhere.csv"],
    );
    place.refused(&["compare", "sst3"], &["sst3", "did you mean 'sst2'?"]);
    assert!(!place.path().join("out/records").exists() || place.records("out").is_empty());
}

#[test]
fn bad_options_are_refused_with_the_accepted_ones() {
    let place = Place::new();
    for (more, says) in [
        (["--methods", "lorra"], vec!["lorra", "prompt_tuning"]),
        (["--set", "lora.rnak=4"], vec!["rnak", "rank"]),
        (["--set", "lora.rank=0"], vec!["rank 0", "1 … 32"]),
        (["--set", "lora.rank=33"], vec!["rank 33", "1 … 32"]),
        (
            ["--set", "lora.target_modules=[qury]"],
            vec!["qury", "query"],
        ),
        (
            ["--set", "prompt_tuning.virtual_tokens=62"],
            vec!["virtual_tokens 62", "1 … 61"],
        ),
        (["--set", "recipe.bach=4"], vec!["bach", "batch"]),
        (
            ["--set", "backbone.pooling=max"],
            vec!["pooling", "max", "mean"],
        ),
        (["--set", "rank=4"], vec!["method.key=value"]),
        (["--seeds", "0"], vec!["--seeds", "accepted: 1 to 10000"]),
        (
            ["--seeds", "18446744073709551615"],
            vec!["--seeds", "10000"],
        ),
        (
            ["--set", "recipe.steps=1000000000"],
            vec!["steps", "10000000"],
        ),
        (["--set", "lroa.rank=4"], vec!["did you mean 'lora'?"]),
        (["--set", "recipe.bathc=4"], vec!["did you mean 'batch'?"]),
        (
            ["--set", "adapter.reduction_facter=4"],
            vec!["did you mean 'reduction_factor'?"],
        ),
    ] {
        place.refused(&place.tiny("compare", &more), &says);
    }
    let unknown = tiny("compare", "reviews.csv", "bert-small", &[]);
    place.refused(&unknown, &["bert-small", "minilm"]);
    let mut arguments = place.tiny("compare", &["--budget", "huge"]);
    arguments.retain(|a| a != "--budget=quick");
    place.refused(&arguments, &["huge", "standard"]);
    assert!(!place.path().join("out/weights").exists());
}

#[test]
fn divergence_in_the_last_update_is_diverged_and_is_not_tried_again() {
    let place = Place::new();
    let more = [
        "--methods=lora",
        "--seeds=1",
        "--set=recipe.steps=1",
        "--set=recipe.warmup=0",
        "--set=lora.learning_rate=1e37",
    ];
    let arguments = place.tiny("compare", &more);
    assert_eq!(place.run(&arguments).status.code(), Some(1));
    let status = place.records("out")[0]["status"].clone();
    assert_eq!(
        (&status["is"], &status["step"]),
        (&"diverged".into(), &1.into()),
        "{status}"
    );
    let again = place.run(&arguments);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("1 of 1 runs had a record"), "{said}");
}

#[test]
fn a_backbone_that_gives_no_finite_numbers_is_named_instead_of_divergence() {
    let place = Place::new();
    let data = place.reviews();
    let folder = place.path().join("huge");
    fs::create_dir(&folder).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(tiny_backbone().join(file), folder.join(file)).unwrap();
    }
    // Every weight is finite, but a layer norm scales beyond what f32 holds.
    let mut bytes = fs::read(tiny_backbone().join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let (_, tensor) = tensors
        .as_object()
        .unwrap()
        .iter()
        .find(|(name, _)| name.ends_with("embeddings.LayerNorm.weight"))
        .unwrap();
    let at = |i: usize| header + tensor["data_offsets"][i].as_u64().unwrap() as usize;
    let (from, to) = (at(0), at(1));
    for value in bytes[from..to].chunks_mut(4) {
        value.copy_from_slice(&3e38f32.to_le_bytes());
    }
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
    let (data, folder) = (data.to_str().unwrap(), folder.to_str().unwrap());
    let arguments = tiny(
        "compare",
        data,
        folder,
        &["--methods", "lora", "--seeds", "1"],
    );
    assert_eq!(place.run(&arguments).status.code(), Some(1));
    let status = place.records("out")[0]["status"].clone();
    assert_eq!(status["is"], "failed", "{status}");
    assert!(
        status["error"]
            .as_str()
            .unwrap()
            .contains("the backbone itself"),
        "{status}"
    );
}

#[test]
fn tokens_are_counted_as_augmentation_leaves_them() {
    let place = Place::new();
    let tokens = |more: &[&str]| {
        let more = [&["--method", "lora", "--json"][..], more].concat();
        let record = place.ok(&place.tiny("train", &more));
        let record: Value = serde_json::from_str(&record).unwrap();
        record["cost"]["tokens"].as_u64().unwrap()
    };
    let (all, half) = (tokens(&[]), tokens(&["--set", "recipe.token_drop=0.5"]));
    assert!(half < all * 9 / 10, "{half} of {all}");
}

#[test]
fn a_broken_backbone_is_refused_by_file_and_reason() {
    let place = Place::new();
    let data = place.reviews();
    let data = data.to_str().unwrap();
    let broken = |name: &str, change: &dyn Fn(&std::path::Path), says: &[&str]| {
        let folder = place.path().join(name);
        fs::create_dir(&folder).unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            fs::copy(tiny_backbone().join(file), folder.join(file)).unwrap();
        }
        change(&folder);
        place.refused(&tiny("compare", data, folder.to_str().unwrap(), &[]), says);
    };
    broken(
        "short",
        &|f| {
            let bytes = fs::read(f.join("model.safetensors")).unwrap();
            fs::write(f.join("model.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
        },
        &["model.safetensors", "cut short"],
    );
    broken(
        "pickle",
        &|f| {
            fs::remove_file(f.join("model.safetensors")).unwrap();
            fs::write(f.join("pytorch_model.bin"), "PK").unwrap();
        },
        &["model.safetensors", "pickle"],
    );
    broken(
        "sizes",
        &|f| {
            let text = fs::read_to_string(f.join("config.json")).unwrap();
            fs::write(
                f.join("config.json"),
                text.replace("\"hidden_size\": 32", "\"hidden_size\": 48"),
            )
            .unwrap();
        },
        &["model.safetensors", "word_embeddings", "[100, 48]"],
    );
    broken(
        "vocabulary",
        &|f| {
            let text = fs::read_to_string(f.join("tokenizer.json")).unwrap();
            fs::write(
                f.join("tokenizer.json"),
                text.replacen("\"vocab\": {", "\"vocab\": {\"extra\": 100,", 1),
            )
            .unwrap();
        },
        &["tokenizer.json", "101", "100"],
    );
    broken(
        "tokenizer",
        &|f| fs::write(f.join("tokenizer.json"), "{").unwrap(),
        &["tokenizer.json"],
    );
    broken(
        "architecture",
        &|f| {
            let text = fs::read_to_string(f.join("config.json")).unwrap();
            fs::write(f.join("config.json"), text.replace("\"bert\"", "\"gpt2\"")).unwrap();
        },
        &["config.json", "gpt2", "distilbert"],
    );
}

#[test]
fn an_output_folder_that_cannot_be_written_is_refused_before_any_work() {
    let place = Place::new();
    place.file("out", "a file where a folder should be");
    place.refused(&place.tiny("compare", &[]), &["out", "--out"]);
}

/// A limit on the size of files fails a write in the middle, as a full disk does.
#[cfg(unix)]
#[test]
fn a_full_disk_fails_the_run_with_the_files_name_and_costs_no_finished_record() {
    let place = Place::new();
    place.ok(&place.tiny("compare", &["--methods", "lora", "--seeds", "1"]));
    let finished = place.records("out");

    let more = place.tiny("compare", &["--methods", "lora,full", "--seeds", "1"]);
    let quoted: Vec<_> = more.iter().map(|a| format!("'{a}'")).collect();
    // Records stay below 64 blocks of 512 bytes, the weights of `full` do not.
    let script = format!(
        "trap '' XFSZ; ulimit -f 64; exec '{}' {}",
        env!("CARGO_BIN_EXE_peftbench"),
        quoted.join(" ")
    );
    let output = place
        .in_place(std::process::Command::new("sh").args(["-c", &script]))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // The report does not fit either, which is said; what was finished is not lost.
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot write out/"), "{said}");
    let after = place.records("out");
    assert_eq!(after.len(), 2);
    assert!(after.contains(&finished[0]));
    let failed = after.iter().find(|r| **r != finished[0]).unwrap();
    assert_eq!(failed["status"]["is"], "failed");
    let error = failed["status"]["error"].as_str().unwrap();
    assert!(
        error.contains("cannot write") && error.contains("weights.safetensors"),
        "{error}"
    );
}

#[test]
fn data_that_cannot_be_had_offline_is_refused_with_the_places_that_were_tried() {
    let place = Place::new();
    let backbone = tiny_backbone();
    place.refused(
        &format!("compare cola --offline --backbone {}", backbone.display()),
        &["cola", "nyu-mll/glue", "offline"],
    );
    place.refused(
        &format!(
            "compare sst2 --offline --no-stand-in --backbone {}",
            backbone.display()
        ),
        &["sst2", "movie_snippets"],
    );
}

#[test]
fn a_reader_that_leaves_early_costs_nothing() {
    let place = Place::new();
    let leave = |arguments: Vec<String>| {
        let mut child = place
            .command(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert!(!said.contains("error"), "{said}");
    };
    leave(place.tiny("train", &["--method", "lora", "--json"]));
    let record = &place.records("out")[0];
    assert_eq!(record["status"]["is"], "ok");
    let weights = format!("out/weights/{}", record["id"].as_str().unwrap());
    let rows = place.file("rows.jsonl", "{\"text\": \"good\"}\n".repeat(3));
    let rows = rows.to_str().unwrap();
    leave(["predict", "--weights", &weights, "--input", rows].words());
}

#[test]
fn everything_that_can_be_listed_is_listed_in_words_and_as_json() {
    let place = Place::new();
    for (what, expected) in [
        ("methods", "lora"),
        ("datasets", "sst2"),
        ("backbones", "minilm"),
        ("studies", "prompt_length"),
    ] {
        let mut command = place.command(&["list", what]);
        let narrow = command.env("COLUMNS", "80").output().unwrap();
        let narrow = String::from_utf8(narrow.stdout).unwrap();
        assert!(narrow.contains(expected));
        let mut command = place.command(&["list"]);
        let kinds = command.env("COLUMNS", "80").output().unwrap();
        let kinds = String::from_utf8(kinds.stdout).unwrap();
        for line in narrow.lines().chain(kinds.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(kinds.contains(&format!("peftbench list {what}")));
        let json: Value = serde_json::from_str(&place.ok(&["list", what, "--json"])).unwrap();
        assert!(json.get(expected).is_some(), "{json}");
    }
}

#[test]
fn every_yaml_is_checked_and_all_problems_are_said_at_once() {
    let place = Place::new();
    let printed = place.ok(&["check"]);
    let count = 1
        + methods::registry::ALL.len()
        + peftbench::backbones::names().count()
        + datasets::names().count()
        + peftbench::study::names().count()
        + peftbench::suite::names().count();
    assert!(
        printed.contains(&format!("{count} checked, 0 with problems")),
        "{printed}"
    );

    let (data, backbone) = (place.reviews(), tiny_backbone());
    let mut arguments = vec![
        "check",
        data.to_str().unwrap(),
        "--text-column",
        "review",
        "--label-column",
        "stars",
        "--backbone",
        backbone.to_str().unwrap(),
    ];
    // Of a file, what is said is about the file.
    let printed = place.ok(&arguments);
    assert!(
        printed.lines().all(|l| !l.contains("ok  data set")),
        "{printed}"
    );
    assert!(printed.contains("reviews.csv with lora"), "{printed}");
    arguments.extend(["--set", "lora.rank=99"]);
    arguments.extend(["--set", "adapter.reduction_factor=99"]);
    place.refused(&arguments, &["rank 99", "reduction_factor 99"]);
}
