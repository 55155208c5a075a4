//! Folders of other libraries are read as the libraries read them.

use std::{collections::HashMap, fs, path::Path};

use backbone::TensorFile;
use candle_core::{Device, Tensor};
use datasets::Objective;
use peftbench::{formats::Format, train::run::difference};
use serde_json::{Value, json};

use super::{
    FORWARD, changed, copy, error_of, expected, fixture, fixtures, inputs, logits, open,
    round_trip, with_tensors,
};

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
fn folders_that_tag_words_are_read_as_such_by_task_type_and_by_class() {
    // What transformers' class for token classification computed with PEFT's LoRA, at the words' first tokens.
    let path = fixture("objectives/tokens.safetensors");
    let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let meta = TensorFile::open(&path).unwrap().metadata().unwrap()["meta"].clone();
    let meta: Value = serde_json::from_str(&meta).unwrap();
    let words: Vec<Vec<u32>> = serde_json::from_value(meta["words"].clone()).unwrap();
    let batch = inputs(&tensors).reading(words).unwrap();
    let expected_of_words: Vec<f32> = tensors["logits"].flatten_all().unwrap().to_vec1().unwrap();
    let close = |got: Vec<Vec<f32>>, expected: &[f32], at: &str| {
        let got = got.concat();
        assert_eq!(got.len(), expected.len(), "{at}");
        let d = difference(&[got], &[expected.to_vec()]);
        assert!(d < FORWARD, "{at}: {d:e}");
    };
    let saved = tensors.iter().filter_map(|(name, tensor)| {
        let name = name
            .strip_prefix("init.")?
            .replace(".modules_to_save.default", "");
        Some((name.replace(".default", ""), tensor.clone()))
    });
    let saved: HashMap<String, Tensor> = saved.collect();
    let folder = with_tensors(&fixture("peft/lora"), "adapter_model.safetensors", |t| {
        *t = saved
    });
    let class = |name: &str| json!({ "base_model_class": name, "parent_library": "transformers" });
    for (task_type, auto_mapping) in [
        (json!("TOKEN_CLS"), Value::Null),
        // Without a kind of task the library writes the class that it was trained in.
        (Value::Null, class("BertForTokenClassification")),
    ] {
        let folder = changed(folder.path(), "adapter_config.json", |c| {
            c["task_type"] = task_type.clone();
            c["auto_mapping"] = auto_mapping;
        });
        let (loaded, task) = open(folder.path()).unwrap_or_else(|e| panic!("{e:#}"));
        assert_eq!(task.config.objective, Objective::Tokens);
        close(
            logits(&loaded, &task, &batch),
            &expected_of_words,
            &format!("PEFT, {task_type}"),
        );
        let (out, loaded, again) = round_trip(&loaded, &task, Format::Peft, false);
        close(
            logits(&loaded, &again, &batch),
            &expected_of_words,
            "written again",
        );
        let config = fs::read_to_string(out.path().join("adapter_config.json")).unwrap();
        assert!(config.contains("\"TOKEN_CLS\""), "{config}");
    }
    let answers = changed(folder.path(), "adapter_config.json", |c| {
        c["task_type"] = Value::Null;
        c["auto_mapping"] = class("BertForQuestionAnswering");
    });
    let message = error_of(answers.path());
    assert!(message.contains("BertForQuestionAnswering"), "{message}");
    // AdapterHub's own head for tags is that for classes, at every row; the one for classes reads row 0.
    let classes = fixture("adapterhub/pfeiffer_flexible_head");
    let (batch, expected) = expected(&classes);
    let batch = batch.reading(vec![vec![0]; expected.len()]).unwrap();
    let tagging = changed(&classes, "head_config.json", |c| {
        let head = c["config"].as_object_mut().unwrap();
        head.insert("head_type".into(), "tagging".into());
        head.remove("use_pooler");
        head.remove("bias");
    });
    let (loaded, task) = open(tagging.path()).unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(task.config.objective, Objective::Tokens);
    close(
        logits(&loaded, &task, &batch),
        &expected.concat(),
        "AdapterHub",
    );
    let (_out, loaded, again) = round_trip(&loaded, &task, Format::Adapterhub, false);
    assert_eq!(again.config.objective, Objective::Tokens);
    close(
        logits(&loaded, &again, &batch),
        &expected.concat(),
        "AdapterHub, written again",
    );
    // A head of a class of transformers is what that class makes of it.
    let of_class = |class: &str| {
        changed(&fixture("adapterhub/houlsby"), "head_config.json", |c| {
            c["model_class"] = class.into();
        })
    };
    let (_, task) = open(of_class("BertForTokenClassification").path()).unwrap();
    assert_eq!(task.config.objective, Objective::Tokens);
    let message = error_of(of_class("BertForMultipleChoice").path());
    assert!(message.contains("BertForMultipleChoice"), "{message}");
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
    let one = with_tensors(&lora, "adapter_model.safetensors", |tensors| {
        for (name, tensor) in tensors {
            if name.contains("classifier.") {
                *tensor = tensor.narrow(0, 0, 1).unwrap().copy().unwrap();
            }
        }
    });
    let whole = lora.as_path();
    let (classes, sets) = ("single_label_classification", "multi_label_classification");
    for (folder, kind, expected) in [
        (whole, json!(null), Ok(Objective::Classification)),
        (whole, json!(classes), Ok(Objective::Classification)),
        (whole, json!(sets), Ok(Objective::MultiLabel)),
        (
            whole,
            json!("regression"),
            Err("problem_type \"regression\""),
        ),
        (one.path(), json!(null), Ok(Objective::Regression)),
        (one.path(), json!("regression"), Ok(Objective::Regression)),
        (one.path(), json!(sets), Err("with one output")),
        (one.path(), json!(classes), Err("with one output")),
    ] {
        let folder = copy(folder);
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
