//! Many tasks over one tiny backbone, as a library and on the command line.

use std::{fs, path::PathBuf, sync::Arc, thread};

use backbone::Pooling;
use peftbench::{
    backbone_settings::BackboneSettings,
    objective::Prediction,
    prepare::Files,
    task_library::{Answer, Row, TaskLibrary, task_folders},
};
use serde_json::Value;

use crate::support::{Place, tiny_backbone};

/// A folder with one trained task of every method, and of prompt tuning and LoRA another one of other sizes.
fn tasks(place: &Place) -> PathBuf {
    let folder = place.path().join("tasks");
    fs::create_dir(&folder).unwrap();
    // (Zero-shot is head-only where classes are words.)
    let all = methods::registry::ALL
        .iter()
        .filter(|e| e.name != "zero_shot");
    let methods = all.map(|e| {
        // A bottleneck of one does not divide into its four parts.
        let setting = match e.name {
            "compacter" => "compacter.reduction_factor=8",
            _ => "",
        };
        (e.name, e.name, setting)
    });
    let more = [
        (
            "other_prompt",
            "prompt_tuning",
            "prompt_tuning.virtual_tokens=3",
        ),
        ("other_lora", "lora", "lora.rank=2"),
    ];
    for (seed, (name, method, setting)) in methods.chain(more).enumerate() {
        let seed = seed.to_string();
        let mut more = vec!["--seed", &seed];
        if !setting.is_empty() {
            more.extend(["--set", setting]);
        }
        let printed = place.trained(method, &more);
        fs::rename(place.path().join(printed), folder.join(name)).unwrap();
    }
    folder
}

fn empty_library(settings: &BackboneSettings) -> TaskLibrary {
    // Nothing is fetched: the backbone is a folder.
    let files = Files::new(true).unwrap();
    let backbone = tiny_backbone();
    let loaded = files
        .backbone(backbone.to_str().unwrap(), settings)
        .unwrap()
        .load()
        .unwrap();
    TaskLibrary::new(loaded)
}

fn library(place: &Place) -> TaskLibrary {
    let library = empty_library(&BackboneSettings::default());
    for (name, folder) in task_folders(&place.path().join("tasks")).unwrap() {
        library.add(&name, &folder).unwrap();
    }
    library
}

/// Rows of all tasks in turn, of different lengths.
fn rows(names: &[String], n: usize) -> Vec<Row> {
    let words = ["good", "bad", "fine", "awful", "great", "poor", "number"];
    (0..n)
        .map(|i| Row {
            task: names[i % names.len()].clone(),
            text: (0..1 + i * 5 % 17)
                .map(|w| words[(w * 3 + i) % 7])
                .collect::<Vec<_>>()
                .join(" "),
            pair: (i % 4 == 3).then(|| "good".to_owned()),
            tokens: None,
        })
        .collect()
}

fn logits(library: &TaskLibrary, rows: &[Row]) -> Vec<Vec<f32>> {
    let logits = |answer: anyhow::Result<Answer>| match answer.unwrap().prediction {
        Prediction::Class { logits, .. } => logits,
        other => panic!("{other:?}"),
    };
    library.predict(rows).into_iter().map(logits).collect()
}

#[test]
fn a_task_with_a_backbone_of_its_own_is_read_as_it_was_trained() {
    let place = Place::new();
    let weights = place.trained("full", &["--set=backbone.pooling=cls"]);
    let row = Row {
        task: "full".into(),
        text: "good fine number".into(),
        pair: None,
        tokens: None,
    };
    let predicted = |pooling: Pooling| {
        let library = empty_library(&BackboneSettings {
            pooling: Some(pooling),
            ..BackboneSettings::default()
        });
        library.add("full", &place.path().join(&weights)).unwrap();
        logits(&library, std::slice::from_ref(&row))
    };
    assert_eq!(predicted(Pooling::Mean), predicted(Pooling::Cls));
    assert_eq!(predicted(Pooling::Pooler), predicted(Pooling::Cls));
}

#[test]
fn tasks_are_loaded_dropped_and_mixed_without_a_changed_bit_while_threads_predict() {
    let place = Place::new();
    tasks(&place);
    let library = Arc::new(library(&place));
    let names = library.names();
    assert_eq!(names.len(), methods::registry::ALL.len() + 1);
    let rows = rows(&names, 100);
    let together = logits(&library, &rows);

    // Alone, one row at a time: within rounding everywhere, and bit for bit with the fast kernels.
    for (row, mixed) in rows.iter().zip(&together) {
        let alone = logits(&library, std::slice::from_ref(row)).remove(0);
        for (a, b) in alone.iter().zip(mixed) {
            assert!((a - b).abs() <= 1e-5, "{}: {a} and {b}", row.task);
        }
        if !kernels::reference_path() {
            assert_eq!(&alone, mixed, "{}", row.task);
        }
    }
    // Different tasks say different things about one text.
    let one_text: Vec<Row> = names
        .iter()
        .map(|task| Row {
            task: task.clone(),
            text: "good fine".into(),
            pair: None,
            tokens: None,
        })
        .collect();
    let said = logits(&library, &one_text);
    for i in 1..said.len() {
        assert!(
            said[..i].iter().all(|other| *other != said[i]),
            "{}",
            names[i]
        );
    }

    let kept: Vec<Row> = rows
        .iter()
        .filter(|r| r.task != "adapter")
        .cloned()
        .collect();
    let before = logits(&library, &kept);
    let predicting: Vec<_> = (0..2)
        .map(|_| {
            let (library, kept, before) = (Arc::clone(&library), kept.clone(), before.clone());
            thread::spawn(move || {
                for _ in 0..5 {
                    assert_eq!(logits(&library, &kept), before);
                }
            })
        })
        .collect();
    let folder = place.path().join("tasks/adapter");
    while !predicting.iter().all(|t| t.is_finished()) {
        assert!(library.remove("adapter"));
        assert!(!library.remove("adapter"));
        library.add("adapter", &folder).unwrap();
    }
    predicting.into_iter().for_each(|t| t.join().unwrap());

    library.remove("adapter");
    assert_eq!(logits(&library, &kept), before);
    let answers = library.predict(&rows);
    for (row, answer) in rows.iter().zip(&answers) {
        assert_eq!(answer.is_err(), row.task == "adapter");
    }
    let error = answers
        .iter()
        .find_map(|a| a.as_ref().err())
        .unwrap()
        .to_string();
    assert!(
        error.contains("'adapter'") && error.contains("other_lora"),
        "{error}"
    );
}

#[test]
fn rows_of_many_tasks_are_answered_in_order_and_bad_ones_with_an_error_of_their_own() {
    let place = Place::new();
    let folder = tasks(&place);
    let names: Vec<String> = task_folders(&folder).unwrap().into_keys().collect();
    let rows = rows(&names, 70);
    let mut input = String::new();
    for row in &rows {
        input += &(serde_json::to_string(row).unwrap() + "\n");
    }
    let predicted = |input: &str, code: i32| -> Vec<Value> {
        let path = place.file("rows.jsonl", input);
        let output = place.run(&format!("predict --tasks tasks --input {}", path.display()));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect()
    };
    let answers = predicted(&input, 0);
    assert_eq!(answers.len(), rows.len());
    for (row, answer) in rows.iter().zip(&answers) {
        assert_eq!(answer["task"], row.task);
    }
    // The same as one task by itself.
    let own = rows.iter().filter(|r| r.task == "other_prompt");
    let own: String = own
        .map(|r| serde_json::json!({ "text": r.text, "pair": r.pair }).to_string() + "\n")
        .collect();
    let own = place.file("own.jsonl", own);
    let alone = place.ok(&format!(
        "predict --weights tasks/other_prompt --input {}",
        own.display()
    ));
    let mixed = answers.iter().filter(|a| a["task"] == "other_prompt");
    for (alone, mixed) in alone.lines().zip(mixed) {
        let alone: Value = serde_json::from_str(alone).unwrap();
        assert_eq!(alone["label"], mixed["label"]);
        for (a, b) in alone["logits"]
            .as_array()
            .unwrap()
            .iter()
            .zip(mixed["logits"].as_array().unwrap())
        {
            assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() <= 1e-5);
        }
    }

    // A damaged file, weights of another backbone, an unknown task and a line that is no row.
    let bytes = fs::read(folder.join("lora/weights.safetensors")).unwrap();
    fs::write(
        folder.join("lora/weights.safetensors"),
        &bytes[..bytes.len() - 7],
    )
    .unwrap();
    let config = fs::read_to_string(folder.join("adapter/peftbench.json")).unwrap();
    let mut foreign: Value = serde_json::from_str(&config).unwrap();
    foreign["backbone_digest"] = "0".repeat(64).into();
    foreign.as_object_mut().unwrap().remove("config_sha256");
    fs::write(folder.join("adapter/peftbench.json"), foreign.to_string()).unwrap();
    let bad = format!(
        "{{\"task\": \"nobody\", \"text\": \"good\"}}\nnot a row\n{{\"text\": \"good\"}}\n{input}"
    );
    let mended = predicted(&bad, 1);
    assert_eq!(mended.len(), rows.len() + 3);
    let error = |i: usize| mended[i]["error"].as_str().unwrap().to_owned();
    assert!(
        error(0).contains("nobody") && error(0).contains("head_only"),
        "{}",
        error(0)
    );
    assert!(
        error(1).contains("no JSON object") && mended[1]["line"] == 2,
        "{}",
        mended[1]
    );
    assert!(error(2).contains("'task' is missing"), "{}", error(2));
    for ((row, before), (i, after)) in rows
        .iter()
        .zip(&answers)
        .zip(mended.iter().enumerate().skip(3))
    {
        match row.task.as_str() {
            "lora" => assert!(error(i).contains("cut short"), "{}", error(i)),
            "adapter" => assert!(error(i).contains("trained over backbone"), "{}", error(i)),
            _ => assert_eq!(before["label"], after["label"]),
        }
    }

    let output = place.run(&["tasks", "tasks", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let listed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed.len(), names.len());
    for task in &listed {
        match task["name"].as_str().unwrap() {
            "lora" | "adapter" => assert!(task["error"].is_string(), "{task}"),
            _ => {
                assert_eq!(task["labels"], serde_json::json!(["down", "up"]), "{task}");
                let (file, resident) = (
                    task["file_bytes"].as_u64().unwrap(),
                    task["resident_bytes"].as_u64().unwrap(),
                );
                // The file holds the same f32 numbers behind a header; Compacter's products are made from fewer, and random
                // features from their seed.
                let made =
                    ["compacter", "random_features"].contains(&task["method"].as_str().unwrap());
                assert!(
                    resident > 0 && (made || resident < file) && file < resident + 20_000,
                    "{task}"
                );
            }
        }
    }
    let table = place.run(&["tasks", "tasks"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("other_prompt") && table.contains("accuracy"),
        "{table}"
    );

    place.refused(&["predict"], &["--weights", "--tasks"]);
    place.refused(
        "predict --tasks out/weights",
        &["out/weights", "no folders"],
    );
    place.refused(&["tasks", "nowhere"], &["nowhere"]);
}
