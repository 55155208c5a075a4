//! Folders of other libraries: read, they predict what the library predicted (`tests/fixtures/generate.py`); written and
//! read again, they predict the same. What we do not compute is refused by its name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use backbone::{Batch, TensorFile};
use candle_core::{DType, Device, Tensor};
use datasets::Objective;
use peftbench::{
    formats::{self, Export, Format},
    prepare::{Files, LoadedBackbone},
    train::model::Model,
    train::run::difference,
    weights::{self, Task, task_backbone},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::Place;

/// Largest difference of logits in f32, relative to the largest: the same sums in another order.
const FORWARD: f32 = 1e-5;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn open(folder: &Path) -> anyhow::Result<(LoadedBackbone, Task)> {
    let config = weights::read_config(folder)?;
    let loaded = task_backbone(&Files::new(true)?, &config, None)?;
    let task = weights::load(folder, &loaded)?;
    Ok((loaded, task))
}

fn error_of(folder: &Path) -> String {
    match open(folder) {
        Ok(_) => panic!("{}: was read", folder.display()),
        Err(error) => format!("{error:#}"),
    }
}

fn logits(loaded: &LoadedBackbone, task: &Task, batch: &Batch) -> Vec<Vec<f32>> {
    let model = Model {
        backbone: &loaded.backbone,
        method: &*task.method,
        head: &task.head,
    };
    model.logits(batch).unwrap()
}

/// The inputs of a fixture, and the logits that the library computed.
fn expected(folder: &Path) -> (Batch, Vec<Vec<f32>>) {
    let path = folder.join("expected.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let numbers = |name: &str| tensors[name].to_vec1::<u32>().unwrap();
    let offsets = numbers("input.offsets")
        .iter()
        .map(|o| *o as usize)
        .collect();
    let batch = Batch::new(numbers("input.ids"), numbers("input.types"), offsets).unwrap();
    (batch, tensors["logits"].to_vec2().unwrap())
}

/// Folders of the fixtures below `kind` whose method we have.
fn fixtures(kind: &str) -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(fixture(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !missing(path))
        .collect();
    folders.sort();
    folders
}

/// Whether the fixture's method does not exist here: then it must be refused.
fn missing(folder: &Path) -> bool {
    let exists = |method: &str| methods::registry::entry(method).is_ok();
    match folder.file_name().unwrap().to_str().unwrap() {
        method @ ("dora" | "ia3" | "prefix_tuning") => !exists(method),
        "parallel" => {
            let placement = ("placement".to_owned(), "parallel".to_owned());
            methods::resolve("adapter", &[placement].into()).is_err()
        }
        _ => false,
    }
}

/// A copy of a folder in which a test can change things.
fn copy(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// A copy of a folder with one of its JSON files changed.
fn changed(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let copy = copy(folder);
    let path = copy.path().join(file);
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
    copy
}

/// A copy of a folder with the tensors of one of its files changed.
fn with_tensors(
    folder: &Path,
    file: &str,
    change: impl FnOnce(&mut std::collections::HashMap<String, Tensor>),
) -> TempDir {
    let copy = copy(folder);
    let path = copy.path().join(file);
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    copy
}

#[test]
fn folders_of_the_python_libraries_predict_what_the_libraries_predict() {
    let (mut worst, mut count) = (0f32, 0);
    for folder in fixtures("peft").into_iter().chain(fixtures("adapterhub")) {
        let (batch, expected) = expected(&folder);
        let (loaded, task) = open(&folder).unwrap_or_else(|e| panic!("{e:#}"));
        let d = difference(&logits(&loaded, &task, &batch), &expected);
        assert!(d < FORWARD, "{}: {d:e}", folder.display());
        worst = worst.max(d);
        count += 1;
    }
    println!("{count} folders; largest difference of logits {worst:.1e}");
    assert!(count >= 12, "{count}");
}

#[test]
fn a_method_that_does_not_exist_here_is_refused_by_name() {
    for (name, says) in [
        ("peft/dora", vec!["use_dora"]),
        ("peft/ia3", vec!["IA3", "LORA, PROMPT_TUNING"]),
        ("peft/prefix_tuning", vec!["PREFIX_TUNING"]),
        ("adapterhub/parallel", vec!["is_parallel", "SeqBnConfig"]),
    ] {
        if !missing(&fixture(name)) {
            continue;
        }
        let message = error_of(&fixture(name));
        for part in says {
            assert!(message.contains(part), "{name}: {message}");
        }
    }
    let vera = changed(&fixture("peft/lora"), "adapter_config.json", |c| {
        c["peft_type"] = json!("VERA");
    });
    let message = error_of(vera.path());
    assert!(
        message.contains("VERA") && message.contains("LORA"),
        "{message}"
    );
}

/// Writes a task in a format and reads it again.
fn round_trip(
    loaded: &LoadedBackbone,
    task: &Task,
    format: Format,
    separate_head: bool,
) -> (TempDir, LoadedBackbone, Task) {
    let out = tempfile::tempdir().unwrap();
    let export = Export {
        task,
        loaded,
        separate_head,
    };
    formats::export(&export, format, out.path()).unwrap();
    let (loaded, task) = open(out.path()).unwrap_or_else(|e| panic!("{e:#}"));
    (out, loaded, task)
}

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
    place.ok(&[
        "import",
        "--weights",
        folder.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--backbone",
        base.to_str().unwrap(),
        "--labels",
        "bad,fine,good",
    ]);
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
        &[
            "import",
            "--weights",
            folder.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ],
        &["--out", "is there already"],
    );
}

#[test]
fn targets_are_found_by_pattern_by_all_linear_and_by_layer() {
    let folder = fixture("peft/lora");
    let (batch, expected) = expected(&folder);
    for targets in [
        json!(r"bert\.encoder\.layer\.\d+\.attention\.self\.(query|value)"),
        json!(r".*(?<!key)\.(query|value)"),
        json!([
            "self.query",
            "bert.encoder.layer.0.attention.self.value",
            "layer.1.attention.self.value"
        ]),
    ] {
        let same = changed(&folder, "adapter_config.json", |c| {
            c["target_modules"] = targets
        });
        let (loaded, task) = open(same.path()).unwrap_or_else(|e| panic!("{e:#}"));
        assert!(difference(&logits(&loaded, &task, &batch), &expected) < FORWARD);
    }
    // A rule that names other modules than the file has weights for.
    for (targets, layers, says) in [
        (
            json!(["query"]),
            Value::Null,
            "layer.0.attention.self.value",
        ),
        (
            json!("all-linear"),
            Value::Null,
            "layer.0.attention.output.dense",
        ),
        (
            json!(["query", "value", "key"]),
            Value::Null,
            "layer.0.attention.self.key",
        ),
        (
            json!(["query", "value"]),
            json!([1]),
            "layer.0.attention.self.query",
        ),
        (json!(".*("), Value::Null, ".*("),
        (json!(".*query"), json!(0), "layers_to_transform"),
    ] {
        let other = changed(&folder, "adapter_config.json", |c| {
            c["target_modules"] = targets.clone();
            c["layers_to_transform"] = layers;
        });
        let message = error_of(other.path());
        assert!(message.contains(says), "{targets}: {message}");
    }
}

#[test]
fn a_changed_pooler_becomes_the_first_layer_of_the_head() {
    // What PEFT's all-linear does to BERT: the pooler between encoder and classifier is changed as well.
    let lora = fixture("peft/lora");
    let (batch, _) = expected(&lora);
    let (loaded, plain) = open(&lora).unwrap();
    let without = logits(&loaded, &plain, &batch);
    let (a, b) = (
        Tensor::rand(-0.3f32, 0.3, (3, 32), &Device::Cpu).unwrap(),
        Tensor::rand(-0.3f32, 0.3, (32, 3), &Device::Cpu).unwrap(),
    );
    let folder = with_tensors(&lora, "adapter_model.safetensors", |t| {
        let at = "base_model.model.bert.pooler.dense";
        t.insert(format!("{at}.lora_A.weight"), a.clone());
        t.insert(format!("{at}.lora_B.weight"), b.clone());
    });
    let folder = changed(folder.path(), "adapter_config.json", |c| {
        c["target_modules"] = json!(["query", "value", "pooler.dense"]);
    });
    let (loaded, task) = open(folder.path()).unwrap_or_else(|e| panic!("{e:#}"));
    let got = logits(&loaded, &task, &batch);
    assert!(difference(&got, &without) > 1e-2);
    let pooler = TensorFile::open(&fixture("bert/model.safetensors")).unwrap();
    let pooler = pooler.read("bert.pooler.dense.weight", None).unwrap();
    let expected = (pooler + (b.matmul(&a).unwrap() * 2.0).unwrap()).unwrap();
    let (_, dense) = &task.head.parameters().tensors()[0];
    let d = (dense - expected).unwrap().abs().unwrap();
    assert!(d.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6);
    // Written again, the pooler is a module that is saved whole.
    let (out, loaded, again) = round_trip(&loaded, &task, Format::Peft, false);
    assert_eq!(logits(&loaded, &again, &batch), got);
    let config = fs::read_to_string(out.path().join("adapter_config.json")).unwrap();
    assert!(config.contains("\"pooler\""), "{config}");
}

#[test]
fn keys_that_would_change_a_number_are_refused_by_name_and_neutral_ones_are_not() {
    let lora = fixture("peft/lora");
    for (key, value) in [
        ("bias", json!("all")),
        ("lora_bias", json!(true)),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!("corda")),
        ("kasa_config", json!({ "beta": 1.0 })),
        ("lora_alpha", json!(1e308)),
        ("lora_alpha", json!("strong")),
        ("fan_in_fan_out", json!(true)),
        ("layer_replication", json!([[0, 2]])),
        ("trainable_token_indices", json!([1, 2])),
        ("use_qalora", json!(true)),
        ("alora_invocation_tokens", json!([7])),
        ("task_type", json!("CAUSAL_LM")),
        ("a_key_of_tomorrow", json!(3)),
        ("r", json!("three")),
        ("r", json!(4)),
        ("peft_type", json!("VERA")),
    ] {
        let folder = changed(&lora, "adapter_config.json", |c| c[key] = value);
        let message = error_of(folder.path());
        let says = if key == "lora_alpha" { "alpha" } else { key };
        assert!(
            message.contains(says) || message.contains("rank"),
            "{key}: {message}"
        );
        for rust in ["usize", "f64", "invalid type", "Some(", "expected struct"] {
            assert!(!message.contains(rust), "{key}: {message}");
        }
    }
    let neutral = changed(&lora, "adapter_config.json", |c| {
        c["a_key_of_tomorrow"] = json!(false);
        c["another"] = json!([]);
        c["init_lora_weights"] = json!("gaussian");
    });
    open(neutral.path()).unwrap();

    // What only says how training began changes nothing: PEFT reads plain LoRA.
    let (batch, expected) = expected(&lora);
    for (key, value) in [
        ("init_lora_weights", json!("eva")),
        ("init_lora_weights", json!("orthogonal")),
        ("init_lora_weights", json!("lora_ga")),
        ("init_lora_weights", json!(false)),
        ("eva_config", json!({ "rho": 2.0, "tau": 0.99 })),
        ("corda_config", json!({ "corda_method": "ipm" })),
        ("loftq_config", json!({ "loftq_bits": 4 })),
        ("lora_ga_config", json!({ "scale": "stable" })),
    ] {
        let folder = changed(&lora, "adapter_config.json", |c| c[key] = value);
        let (loaded, task) = open(folder.path()).unwrap_or_else(|e| panic!("{key}: {e:#}"));
        let d = difference(&logits(&loaded, &task, &batch), &expected);
        assert!(d < FORWARD, "{key}: {d:e}");
    }

    let houlsby = fixture("adapterhub/houlsby");
    for (key, value) in [
        ("ln_before", json!(true)),
        ("use_gating", json!(true)),
        ("inv_adapter", json!("nice")),
        ("original_ln_after", json!(false)),
        ("residual_before_ln", json!("post_add")),
        ("scaling", json!("learned")),
        ("non_linearity", json!("leakyrelu")),
        ("reduction_factor", json!({ "0": 4, "default": 8 })),
        ("leave_out", json!([0])),
        ("phm_layer", json!(true)),
        ("a_key_of_tomorrow", json!(true)),
    ] {
        let folder = changed(&houlsby, "adapter_config.json", |c| {
            c["config"][key] = value
        });
        let message = error_of(folder.path());
        assert!(message.contains(key), "{key}: {message}");
    }
    let compacter = fixture("adapterhub/compacter");
    for (key, value) in [
        ("factorized_phm_W", json!(false)),
        ("shared_W_phm", json!(true)),
        ("shared_phm_rule", json!(false)),
        ("phm_bias", json!(false)),
        ("phm_rank", json!(2)),
        ("is_parallel", json!(true)),
    ] {
        let folder = changed(&compacter, "adapter_config.json", |c| {
            c["config"][key] = value
        });
        let message = error_of(folder.path());
        assert!(message.contains(key), "{key}: {message}");
    }
    let mam = fixture("adapterhub/mam");
    for (at, key, value, says) in [
        (0, "use_gating", json!(true), "use_gating"),
        (0, "encoder_prefix", json!(false), "encoder_prefix"),
        (0, "leave_out", json!([1]), "leave_out"),
        (0, "prefix_length", json!(7), "prefix_length is 7"),
        (0, "architecture", json!("lora"), "'lora'"),
        (1, "scaling", json!("learned"), "scaling"),
    ] {
        let folder = changed(&mam, "adapter_config.json", |c| {
            c["config"]["configs"][at][key] = value
        });
        let message = error_of(folder.path());
        assert!(message.contains(says), "{key}: {message}");
    }
    let alone = changed(&mam, "adapter_config.json", |c| {
        c["config"]["configs"].as_array_mut().unwrap().truncate(1);
    });
    let message = error_of(alone.path());
    assert!(message.contains("MAMConfig"), "{message}");
    let norms = fixture("peft/layer_norm");
    let fewer = changed(&norms, "adapter_config.json", |c| {
        c["target_modules"] = json!(["attention.output.LayerNorm"]);
    });
    let message = error_of(fewer.path());
    assert!(message.contains("embeddings.LayerNorm"), "{message}");
}

#[test]
fn a_prefix_with_tensors_of_other_shapes_is_refused_by_name() {
    let prefix = fixture("adapterhub/prefix_tuning_mlp");
    let file = "adapter.safetensors";
    let at = "bert.prefix_tuning.prefix_tunings.task.self_prefix";
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    for (part, shape) in [
        ("wte.weight", vec![4, 31]),
        ("wte.weight", vec![0, 32]),
        ("control_trans.0.weight", vec![6]),
        ("control_trans.0.weight", vec![6, 31]),
        ("control_trans.0.bias", vec![5]),
        ("control_trans.2.weight", vec![100, 6]),
        ("control_trans", vec![7]),
    ] {
        let folder = with_tensors(&prefix, file, |t| {
            // Without the layers' copies, which would differ.
            t.retain(|name, _| !name.contains(".pool."));
            t.insert(format!("{at}.{part}"), zeros(&shape));
        });
        let message = error_of(folder.path());
        assert!(message.contains("prefix"), "{part} {shape:?}: {message}");
    }
    let differs = with_tensors(&prefix, file, |t| {
        let copy = t.keys().find(|name| name.contains(".pool.")).unwrap();
        let (copy, shape) = (copy.clone(), t[copy].dims().to_vec());
        t.insert(copy, zeros(&shape));
    });
    let message = error_of(differs.path());
    assert!(message.contains("differs"), "{message}");
}

#[test]
fn layer_norms_that_a_folder_leaves_out_stay_the_backbones() {
    let norms = fixture("peft/layer_norm");
    let name = "bert.encoder.layer.1.output.LayerNorm";
    let file = "adapter_model.safetensors";
    let without = with_tensors(&norms, file, |t| {
        for part in ["weight", "bias"] {
            t.remove(&format!("base_model.model.{name}.ln_tuning_layers.{part}"));
        }
    });
    let message = error_of(without.path());
    assert!(message.contains("encoder.layer.1.output"), "{message}");
    let named = changed(without.path(), "adapter_config.json", |c| {
        c["exclude_modules"] = json!([name]);
    });
    let (_, task) = open(named.path()).unwrap_or_else(|e| panic!("{e:#}"));
    let shipped: std::collections::BTreeMap<_, _> =
        task.method.shipped().unwrap().into_iter().collect();
    let frozen = TensorFile::open(&fixture("bert/model.safetensors")).unwrap();
    let frozen = frozen.read(&format!("{name}.weight"), None).unwrap();
    let got = &shipped["encoder.layer.1.output.LayerNorm.weight"];
    assert_eq!(
        got.to_vec1::<f32>().unwrap(),
        frozen.to_vec1::<f32>().unwrap()
    );
}

#[test]
fn tensors_that_are_too_many_missing_or_misshapen_are_refused_by_name() {
    let lora = fixture("peft/lora");
    let name = "bert.encoder.layer.1.attention.self.value";
    let full = format!("base_model.model.{name}");
    let file = "adapter_model.safetensors";
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    type Change<'a> = Box<dyn Fn(&mut std::collections::HashMap<String, Tensor>) + 'a>;
    let cases: Vec<(Change<'_>, &str)> = vec![
        (
            Box::new(|t| drop(t.remove(&format!("{full}.lora_A.weight")))),
            "value.lora_A.weight",
        ),
        (
            Box::new(|t| drop(t.remove(&format!("{full}.lora_B.weight")))),
            "value.lora_B.weight",
        ),
        (
            Box::new(|t| {
                t.remove(&format!("{full}.lora_A.weight"));
                t.remove(&format!("{full}.lora_B.weight"));
            }),
            name,
        ),
        (
            Box::new(|t| drop(t.insert(format!("{full}.lora_A.weight"), zeros(&[3, 31])))),
            "[3, 31]",
        ),
        (
            Box::new(|t| drop(t.insert(format!("{full}.lora_magnitude_vector"), zeros(&[32])))),
            "lora_magnitude_vector",
        ),
        (
            Box::new(|t| {
                drop(t.insert("base_model.model.classifier.weight".into(), zeros(&[1, 32])))
            }),
            // One output is a regression, whose bias is one number.
            "has shape [3], expected [1]",
        ),
        (
            Box::new(|t| drop(t.insert("base_model.model.score.weight".into(), zeros(&[3, 32])))),
            "score.weight",
        ),
    ];
    for (change, says) in cases {
        let folder = with_tensors(&lora, file, change);
        let message = error_of(folder.path());
        assert!(message.contains(says), "{says}: {message}");
    }
    // Without its classifier PEFT 0.21 reads no such folder either (KeyError), whatever modules_to_save says.
    let folder = with_tensors(&lora, file, |t| {
        t.retain(|name, _| !name.contains("classifier"))
    });
    let message = error_of(folder.path());
    assert!(
        message.contains("saved without its classifier"),
        "{message}"
    );
}

#[test]
fn a_pickle_is_refused_with_the_line_of_python_that_converts_it() {
    for (name, file, pickle) in [
        (
            "peft/lora",
            "adapter_model.safetensors",
            "adapter_model.bin",
        ),
        (
            "adapterhub/houlsby",
            "adapter.safetensors",
            "pytorch_adapter.bin",
        ),
        (
            "adapterhub/houlsby",
            "model_head.safetensors",
            "pytorch_model_head.bin",
        ),
    ] {
        let folder = copy(&fixture(name));
        fs::rename(folder.path().join(file), folder.path().join(pickle)).unwrap();
        let message = error_of(folder.path());
        for part in [pickle, "python -c", "weights_only=True", file] {
            assert!(message.contains(part), "{name}: {message}");
        }
    }
}

#[test]
fn a_backbone_that_nobody_knows_is_refused_with_what_to_do() {
    let folder = changed(&fixture("peft/lora"), "adapter_config.json", |c| {
        c["base_model_name_or_path"] = json!("somebody/some-bert");
    });
    let message = error_of(folder.path());
    for part in ["somebody/some-bert", "folder", "--backbone"] {
        assert!(message.contains(part), "{message}");
    }
    for (theirs, ours) in [
        ("sentence-transformers/all-MiniLM-L6-v2", "minilm"),
        ("google-bert/bert-base-uncased", "bert-base-uncased"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("FacebookAI/roberta-base", "roberta-base"),
    ] {
        let folder = changed(&fixture("peft/lora"), "adapter_config.json", |c| {
            c["base_model_name_or_path"] = json!(theirs);
        });
        assert_eq!(weights::read_config(folder.path()).unwrap().backbone, ours);
    }
    let other = changed(&fixture("peft/lora"), "adapter_config.json", |c| {
        c["base_model_name_or_path"] = json!(fixture("distilbert"));
    });
    assert!(error_of(other.path()).contains("distilbert"));
}

#[test]
fn a_head_that_a_class_of_transformers_cannot_hold_is_refused_with_the_ways_out() {
    let (mut loaded, mut task) = open(&fixture("peft/lora")).unwrap();
    loaded.backbone = loaded
        .backbone
        .with_pooling(backbone::Pooling::Mean)
        .unwrap();
    task.config.pooling = backbone::Pooling::Mean;
    let (batch, _) = expected(&fixture("peft/lora"));
    let before = logits(&loaded, &task, &batch);
    let out = tempfile::tempdir().unwrap();
    for format in [Format::Peft, Format::Adapterhub, Format::Merged] {
        let export = Export {
            task: &task,
            loaded: &loaded,
            separate_head: false,
        };
        let message = formats::export(&export, format, out.path())
            .unwrap_err()
            .to_string();
        if format != Format::Adapterhub {
            assert!(message.contains("--separate-head"), "{message}");
            assert!(message.contains("backbone.pooling=pooler"), "{message}");
        }
    }
    let (out, loaded, again) = round_trip(&loaded, &task, Format::Peft, true);
    assert_eq!(logits(&loaded, &again, &batch), before);
    assert!(out.path().join("head.py").exists());
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
        let overrides = [("pooling".to_owned(), task.config.pooling.name().to_owned())];
        let files = Files::new(true).unwrap();
        let merged = files
            .backbone(out.path().to_str().unwrap(), &overrides.into())
            .unwrap()
            .load()
            .unwrap();
        let model = Model {
            backbone: &merged.backbone,
            method: &methods::HeadOnly,
            head: &task.head,
        };
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

#[test]
fn keys_and_tensor_names_of_adapter_transformers_1_are_read_as_todays() {
    let today = fixture("adapterhub/houlsby");
    let (batch, expected) = expected(&today);
    let check = |folder: &Path, what: &str| {
        let (loaded, task) = open(folder).unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let d = difference(&logits(&loaded, &task, &batch), &expected);
        assert!(d < FORWARD, "{what}: {d:e}");
    };
    for (key, value) in [
        ("type", json!("text_task")),
        ("config_id", json!("9076f36a74755ac4")),
    ] {
        let old = changed(&today, "adapter_config.json", |c| c[key] = value);
        check(old.path(), key);
    }
    for (key, value) in [
        ("attention_type", json!("sent-lvl-dynamic")),
        ("new_attention_norm", json!(true)),
    ] {
        let old = changed(&today, "adapter_config.json", |c| c["config"][key] = value);
        check(old.path(), key);
    }
    // Adapters for a task named invertible ones that they do not have.
    let inverse = changed(&today, "adapter_config.json", |c| {
        c["type"] = json!("text_task");
        c["config"]["inv_adapter"] = json!("nice");
        c["config"]["inv_adapter_reduction_factor"] = json!(2);
    });
    check(inverse.path(), "inv_adapter of a task");
    let language = changed(inverse.path(), "adapter_config.json", |c| {
        c["type"] = json!("text_lang");
    });
    assert!(error_of(language.path()).contains("inv_adapter"));
    for kind in ["task", "lang"] {
        let old = with_tensors(&today, "adapter.safetensors", |t| {
            for (name, tensor) in std::mem::take(t) {
                let place = match name.contains("attention.output") {
                    true => format!(".attention_text_{kind}_adapters."),
                    false => format!(".layer_text_{kind}_adapters."),
                };
                assert!(name.contains(".adapters."), "{name}");
                t.insert(name.replace(".adapters.", &place), tensor);
            }
        });
        check(old.path(), kind);
    }
}

#[test]
fn a_foreign_folder_says_by_its_problem_type_whether_classes_exclude_each_other() {
    let lora = fixture("peft/lora");
    for (kind, expected) in [
        (json!(null), Ok(Objective::Classification)),
        (
            json!("single_label_classification"),
            Ok(Objective::Classification),
        ),
        (
            json!("multi_label_classification"),
            Ok(Objective::MultiLabel),
        ),
        (json!("regression"), Err("problem_type \"regression\"")),
    ] {
        let folder = copy(&lora);
        let config = json!({ "problem_type": kind }).to_string();
        fs::write(folder.path().join("config.json"), config).unwrap();
        match (open(folder.path()), expected) {
            (Ok((_, task)), Ok(objective)) => assert_eq!(task.config.objective, objective),
            (Err(e), Err(says)) => assert!(format!("{e:#}").contains(says), "{e:#}"),
            (Ok(_), Err(says)) => panic!("was read: {says}"),
            (Err(e), Ok(_)) => panic!("{kind}: {e:#}"),
        }
    }
}

/// A copy of the tiny BERT whose configuration names its classes.
fn named_backbone(folder: &Path, names: &[&str]) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(fixture("bert")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let ids = names.iter().enumerate();
    config["id2label"] = ids
        .map(|(i, n)| (i.to_string(), json!(n)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    fs::write(path, config.to_string()).unwrap();
    folder.to_owned()
}

#[test]
fn classes_have_the_names_of_the_backbones_configuration_and_are_matched_by_name() {
    let place = Place::new();
    let base = named_backbone(&place.path().join("base"), &["zebra", "ant", "moth"]);
    let base = base.to_str().unwrap();
    let lora = fixture("peft/lora");
    let weights = lora.to_str().unwrap();
    let words = [
        "good", "bad", "story", "it", "was", "very", "dull", "a", "long",
    ];
    let word = |i: usize| words[i % words.len()];
    let texts: Vec<String> = (0..80)
        .map(|i| format!("{} {} {}", word(i), word(i / 9), word(i * 5 + 2)))
        .collect();
    let rows: Vec<_> = texts
        .iter()
        .map(|t| json!({ "text": t }).to_string())
        .collect();
    let rows = place.file("rows.jsonl", rows.join("\n"));
    let answers = place.ok(&[
        "predict",
        "--weights",
        weights,
        "--backbone",
        base,
        "--input",
        rows.to_str().unwrap(),
    ]);
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
        place.ok(&[
            "evaluate",
            "--weights",
            weights,
            "--backbone",
            base,
            "--dataset",
            data.to_str().unwrap(),
            "--text-column",
            "text",
            "--label-column",
            "label",
            "--split",
            "train",
        ])
    };
    assert!(
        evaluated(weights).contains("accuracy 1.0"),
        "{}",
        evaluated(weights)
    );
    // Named once more, in whatever order, each class keeps its name.
    let out = place.path().join("imported");
    place.ok(&[
        "import",
        "--weights",
        weights,
        "--backbone",
        base,
        "--out",
        out.to_str().unwrap(),
        "--labels",
        "ant,moth,zebra",
    ]);
    assert!(evaluated(out.to_str().unwrap()).contains("accuracy 1.0"));
}

#[test]
fn evaluate_shows_every_metric_per_class_and_overall_on_a_split_or_on_all_rows() {
    let place = Place::new();
    let base = named_backbone(&place.path().join("base"), &["zebra", "ant", "moth"]);
    let (base, folder) = (base.to_str().unwrap(), fixture("peft/p_tuning"));
    let weights = ["--weights", folder.to_str().unwrap(), "--backbone", base];
    let words = [
        "good", "bad", "story", "it", "was", "very", "dull", "a", "long",
    ];
    let word = |i: usize| words[i % words.len()];
    let texts: Vec<String> = (0..80)
        .map(|i| format!("{} {} {}", word(i), word(i / 9), word(i * 5 + 2)))
        .collect();
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

#[test]
fn a_folder_that_names_another_revision_of_its_backbone_is_refused() {
    let place = Place::new();
    let here = "e4ce9877abf3edfe10b0d82785e83bdcb973e22e";
    let base = named_backbone(&place.path().join("snapshots").join(here), &["a", "b", "c"]);
    let folder = |revision: Value| {
        changed(&fixture("peft/lora"), "adapter_config.json", |c| {
            c["base_model_name_or_path"] = json!(base);
            c["revision"] = revision;
        })
    };
    for same in [json!(null), json!("main"), json!(here), json!("a-branch")] {
        open(folder(same).path()).unwrap_or_else(|e| panic!("{e:#}"));
    }
    let other = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf";
    let message = error_of(folder(json!(other)).path());
    for part in ["revision", here, other, "--backbone"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_by_tensor_and_place() {
    for (folder, file, name) in [
        (
            "peft/lora",
            "adapter_model.safetensors",
            "base_model.model.classifier.weight",
        ),
        (
            "adapterhub/houlsby",
            "adapter.safetensors",
            "adapter_up.weight",
        ),
        (
            "adapterhub/houlsby",
            "model_head.safetensors",
            "classifier.bias",
        ),
    ] {
        for value in [f32::NAN, f32::INFINITY] {
            let damaged = with_tensors(&fixture(folder), file, |t| {
                let name = t
                    .keys()
                    .filter(|n| n.ends_with(name))
                    .min()
                    .unwrap()
                    .clone();
                let shape = t[&name].dims().to_vec();
                let mut values = t[&name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values[1] = value;
                t.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
            });
            let message = error_of(damaged.path());
            for part in [file, name, "1]", "damaged"] {
                assert!(message.contains(part), "{folder}: {message}");
            }
        }
    }
    // Of our own kind.
    let place = Place::new();
    let out = place.path().join("ours");
    let (loaded, task) = open(&fixture("peft/lora")).unwrap();
    weights::save(&out, &task.config, &*task.method, &task.head).unwrap();
    let damaged = with_tensors(&out, weights::WEIGHTS, |t| {
        let name = "encoder.1.query.lora_b";
        let nan = (t[name].clone() * f64::NAN).unwrap();
        t.insert(name.to_owned(), nan);
    });
    let message = match weights::load(damaged.path(), &loaded) {
        Ok(_) => panic!("was loaded"),
        Err(error) => format!("{error:#}"),
    };
    for part in ["encoder.1.query.lora_b", "[0, 0]", "NaN"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_folder_around_a_named_adapter_is_answered_with_the_folder_in_it() {
    let place = Place::new();
    let inner = place.path().join("weights").join("myadapter");
    fs::create_dir_all(&inner).unwrap();
    for entry in fs::read_dir(fixture("peft/lora")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, inner.join(path.file_name().unwrap())).unwrap();
    }
    let message = error_of(inner.parent().unwrap());
    assert!(message.contains("weights/myadapter"), "{message}");
    // A backbone's path of another machine.
    let moved = changed(&fixture("peft/lora"), "adapter_config.json", |c| {
        c["base_model_name_or_path"] = json!("/home/somebody/models/bert");
    });
    let rows = place.file("rows.jsonl", "{\"text\": \"a\"}\n");
    place.refused(
        &[
            "predict",
            "--weights",
            moved.path().to_str().unwrap(),
            "--input",
            rows.to_str().unwrap(),
        ],
        &["/home/somebody/models/bert", "--backbone"],
    );
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

struct NoWords;

impl methods::Words for NoWords {
    fn encode(&self, _: &str) -> Result<Vec<u32>, String> {
        Err("no words".into())
    }

    fn ordinary(&self) -> Vec<u32> {
        Vec::new()
    }
}
