//! What is written for other libraries, and for ourselves.

use std::{fs, path::Path};

use backbone::TensorFile;
use candle_core::{Device, Tensor};
use peftbench::{
    backbone_settings::BackboneSettings,
    formats::{self, Export, Format},
    prepare::Files,
    train::model::Model,
    train::run::difference,
    weights,
};
use serde_json::{Value, json};

use super::{FORWARD, expected, fixture, fixtures, logits, open, round_trip};
use crate::support::{NoWords, Place};

#[test]
fn what_is_written_for_a_library_is_read_back_with_the_same_bits() {
    for (kind, format) in [("peft", Format::Peft), ("adapterhub", Format::Adapterhub)] {
        for folder in fixtures(kind) {
            for separate_head in [false, true] {
                let (batch, _) = expected(&folder);
                let (loaded, task) = open(&folder).unwrap();
                let before = logits(&loaded, &task, &batch);
                let (_out, loaded, again) = round_trip(&loaded, &task, format, separate_head);
                let at = format!("{} {separate_head}", folder.display());
                assert_eq!(logits(&loaded, &again, &batch), before, "{at}");
                assert_eq!(again.config.config, task.config.config, "{at}");
            }
        }
    }
}

#[test]
fn an_imported_folder_is_one_of_our_own() {
    let place = Place::new();
    let folder = fixture("peft/lora_patterns");
    let base = fixture("bert");
    let out = place.path().join("ours");
    place.ok(&format!(
        "import --weights {} --out {} --backbone {} --labels bad,fine,good",
        folder.display(),
        out.display(),
        base.display()
    ));
    let (batch, expected) = expected(&folder);
    let (loaded, task) = open(&out).unwrap();
    assert!(difference(&logits(&loaded, &task, &batch), &expected) < FORWARD);
    assert_eq!(task.config.labels, ["bad", "fine", "good"]);
    assert_eq!(
        task.config.config["rank_pattern"],
        json!({ "encoder.1.value": 2 })
    );
    assert_eq!(
        task.config.config["alpha_pattern"],
        json!({ "encoder.1.query": 5.0 })
    );
    place.refused(
        &format!(
            "import --weights {} --out {}",
            folder.display(),
            out.display()
        ),
        &["--out", "is there already"],
    );
}

#[test]
fn a_merged_checkpoint_is_a_backbone_with_the_method_in_its_weights() {
    for name in ["peft/lora", "peft/lora_roberta", "peft/lora_distilbert"] {
        let folder = fixture(name);
        let (batch, expected) = expected(&folder);
        let (loaded, task) = open(&folder).unwrap();
        let out = tempfile::tempdir().unwrap();
        let export = Export {
            task: &task,
            loaded: &loaded,
            separate_head: false,
        };
        formats::export(&export, Format::Merged, out.path()).unwrap();
        let settings = BackboneSettings {
            pooling: Some(task.config.pooling),
            ..BackboneSettings::default()
        };
        let files = Files::new(true).unwrap();
        let merged = files
            .backbone(out.path().to_str().unwrap(), &settings)
            .unwrap()
            .load()
            .unwrap();
        let model = Model::new(&merged.backbone, &methods::HeadOnly, &task.head);
        let d = difference(&model.logits(&batch).unwrap(), &expected);
        assert!(d < FORWARD, "{name}: {d:e}");
        // The classifier is in the file under transformers' names.
        let file = TensorFile::open(&out.path().join("model.safetensors")).unwrap();
        assert!(file.names().iter().any(|n| n.starts_with("classifier.")));
        let config = fs::read_to_string(out.path().join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["id2label"]["2"], "LABEL_2");
        assert!(
            config["architectures"][0]
                .as_str()
                .unwrap()
                .ends_with("ForSequenceClassification")
        );
    }
    let (loaded, task) = open(&fixture("peft/prompt_tuning")).unwrap();
    let export = Export {
        task: &task,
        loaded: &loaded,
        separate_head: false,
    };
    let message = formats::export(&export, Format::Merged, tempfile::tempdir().unwrap().path());
    assert!(message.unwrap_err().to_string().contains("virtual tokens"));
}

#[cfg(unix)]
#[test]
fn files_are_written_with_the_users_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (loaded, task) = open(&fixture("peft/lora")).unwrap();
    for format in [Format::Peft, Format::Adapterhub, Format::Merged] {
        let out = tempfile::tempdir().unwrap();
        let plain = out.path().join("plain");
        fs::write(&plain, "x").unwrap();
        let expected = mode(&plain);
        let export = Export {
            task: &task,
            loaded: &loaded,
            separate_head: false,
        };
        if formats::export(&export, format, out.path()).is_err() {
            // AdapterHub holds no LoRA.
            continue;
        }
        weights::save(out.path(), &task.config, &*task.method, &task.head).unwrap();
        for entry in fs::read_dir(out.path()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), expected, "{}", path.display());
        }
    }
}

#[test]
fn texts_are_cut_after_export_where_they_were_cut_in_training() {
    let (loaded, mut task) = open(&fixture("peft/lora")).unwrap();
    task.config.max_tokens = 12;
    task.config.strip = true;
    task.config.labels = vec!["x".into(), "y".into(), "z".into()];
    for separate_head in [false, true] {
        let (out, _, again) = round_trip(&loaded, &task, Format::Peft, separate_head);
        assert_eq!((again.config.max_tokens, again.config.strip), (12, true));
        assert_eq!(again.config.labels, task.config.labels);
        // For Python: the names and the number of classes are in a configuration of transformers.
        let config = fs::read_to_string(out.path().join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["id2label"], json!({ "0": "x", "1": "y", "2": "z" }));
    }
    let (hub, mut adapter) = open(&fixture("adapterhub/houlsby")).unwrap();
    adapter.config.max_tokens = 12;
    for separate_head in [false, true] {
        let (_out, _, again) = round_trip(&hub, &adapter, Format::Adapterhub, separate_head);
        assert_eq!(again.config.max_tokens, 12);
    }
    let out = tempfile::tempdir().unwrap();
    let export = Export {
        task: &task,
        loaded: &loaded,
        separate_head: false,
    };
    formats::export(&export, Format::Merged, out.path()).unwrap();
    let tokenizer = fs::read_to_string(out.path().join("tokenizer_config.json")).unwrap();
    let tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    assert_eq!(tokenizer["model_max_length"], 12);
}

#[test]
fn a_start_that_was_taken_out_of_the_weights_is_written_for_peft_as_a_part_of_the_update() {
    let (batch, _) = expected(&fixture("peft/lora"));
    for (init, rslora) in [("pissa", false), ("olora", false), ("pissa", true)] {
        let (loaded, mut task) = open(&fixture("peft/lora")).unwrap();
        let keys = json!({ "init": init, "rank": 3, "alpha": 6, "rslora": rslora, "target_modules": ["query", "output"],
            "rank_pattern": { "encoder.1.query": 2 }, "alpha_pattern": { "encoder.0.output": 5 } });
        let resolved = methods::resolve_values("lora", keys.as_object().unwrap().clone()).unwrap();
        let method = resolved
            .build(&mut methods::Context {
                backbone: &loaded.backbone,
                rng: &mut datasets::stream(1, "method"),
                words: &NoWords,
            })
            .unwrap();
        for (i, (_, var)) in method.vars().into_iter().enumerate() {
            let noise = Tensor::randn(0f32, 0.1, var.shape(), &Device::Cpu).unwrap();
            var.set(&(var.as_detached_tensor() + (noise * (1.0 + i as f64)).unwrap()).unwrap())
                .unwrap();
        }
        task.config.method = "lora".into();
        task.config.config = resolved.config.clone();
        task.method = method;
        let before = logits(&loaded, &task, &batch);
        let (_out, loaded, again) = round_trip(&loaded, &task, Format::Peft, false);
        let d = difference(&logits(&loaded, &again, &batch), &before);
        assert!(d < FORWARD, "{init} {rslora}: {d:e}");
        assert_eq!(again.config.config["rank"], 6);
        // Our own kind keeps the start beside the update, and nothing is factored when it is loaded.
        let own = tempfile::tempdir().unwrap();
        weights::save(own.path(), &task.config, &*task.method, &task.head).unwrap();
        let loaded_again = weights::load(own.path(), &loaded).unwrap();
        assert_eq!(logits(&loaded, &loaded_again, &batch), before, "{init}");
    }
}
