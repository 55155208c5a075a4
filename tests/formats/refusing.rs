//! What we do not compute, or cannot read, is refused by its name.

use std::fs;

use candle_core::{DType, Device, Tensor};
use peftbench::{
    formats::{self, Export, Format},
    train::run::difference,
    weights,
};
use serde_json::{Value, json};

use super::{
    FORWARD, changed, copy, error_of, expected, fixture, logits, missing, named_backbone, open,
    round_trip, with_tensors,
};
use crate::support::{Place, tiny_backbone};

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
        // (PEFT sets it to false over these layers, with a warning.)
        ("fan_in_fan_out", json!(true)),
        // (It adds the classifier itself.)
        ("modules_to_save", json!(null)),
        ("runtime_config", json!({ "ephemeral_gpu_offload": true })),
        ("velora_config", json!({ "num_groups": 4 })),
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

    let ia3 = fixture("peft/ia3");
    let (batch, expected) = super::expected(&ia3);
    for (key, value) in [
        ("fan_in_fan_out", json!(true)),
        ("feedforward_modules", json!(r".*output\.dense")),
        ("modules_to_save", json!(null)),
    ] {
        let folder = changed(&ia3, "adapter_config.json", |c| c[key] = value);
        let (loaded, task) = open(folder.path()).unwrap_or_else(|e| panic!("{key}: {e:#}"));
        let d = difference(&logits(&loaded, &task, &batch), &expected);
        assert!(d < FORWARD, "{key}: {d:e}");
    }
    let open_feedforward = changed(&ia3, "adapter_config.json", |c| {
        c["feedforward_modules"] = json!(null);
    });
    let message = error_of(open_feedforward.path());
    assert!(
        message.contains("feedforward_modules is missing"),
        "{message}"
    );

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
fn a_folder_over_a_backbone_of_another_kind_is_refused_by_both_kinds() {
    let place = Place::new();
    let backbone = tiny_backbone();
    place.file("rows.jsonl", "{\"text\": \"good\"}\n");
    for (name, kind) in [
        ("peft/lora_distilbert", "'distilbert'"),
        ("peft/prompt_tuning_distilbert", "'distilbert'"),
        ("peft/lora_roberta", "'roberta'"),
    ] {
        let (folder, backbone) = (fixture(name), backbone.display().to_string());
        let folder = folder.to_str().unwrap();
        let arguments = [
            "predict",
            "--weights",
            folder,
            "--input=rows.jsonl",
            "--backbone",
            &backbone,
        ];
        place.refused(
            &arguments,
            &["made for a backbone of the kind", kind, "'bert'"],
        );
    }
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
fn a_flipped_bit_in_own_weights_is_refused_and_folders_without_a_checksum_load() {
    let place = Place::new();
    let out = place.path().join("ours");
    let (loaded, task) = open(&fixture("peft/lora")).unwrap();
    weights::save(&out, &task.config, &*task.method, &task.head).unwrap();
    weights::load(&out, &loaded).unwrap();
    let path = out.join(weights::WEIGHTS);
    let whole = fs::read(&path).unwrap();
    // The least of a number, and a letter of what the file says about itself.
    let letter = whole.windows(4).position(|w| w == b"\"pt\"").unwrap() + 1;
    for at in [whole.len() - 4, letter] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).unwrap();
        let message = match weights::load(&out, &loaded) {
            Ok(_) => panic!("was loaded"),
            Err(error) => format!("{error:#}"),
        };
        for part in [weights::WEIGHTS, "sha256", weights::CONFIG, "damaged"] {
            assert!(message.contains(part), "{message}");
        }
        let older = changed(&out, weights::CONFIG, |c| {
            let keys = c.as_object_mut().unwrap();
            keys.remove("weights_sha256").unwrap();
            keys.remove("config_sha256").unwrap();
        });
        weights::load(older.path(), &loaded).unwrap();
    }
}

#[test]
fn an_edited_configuration_of_own_weights_is_refused_and_one_without_a_checksum_is_read() {
    let place = Place::new();
    let out = place.path().join("ours");
    let (loaded, task) = open(&fixture("peft/lora")).unwrap();
    weights::save(&out, &task.config, &*task.method, &task.head).unwrap();
    // White space does not count.
    let compact = changed(&out, weights::CONFIG, |_| {});
    weights::load(compact.path(), &loaded).unwrap();
    let swap = |c: &mut Value| c["labels"].as_array_mut().unwrap().reverse();
    let swapped = changed(&out, weights::CONFIG, swap);
    let message = match weights::load(swapped.path(), &loaded) {
        Ok(_) => panic!("was loaded"),
        Err(error) => format!("{error:#}"),
    };
    for part in [weights::CONFIG, "config_sha256", "edited"] {
        assert!(message.contains(part), "{message}");
    }
    let meant = changed(swapped.path(), weights::CONFIG, |c| {
        c.as_object_mut().unwrap().remove("config_sha256").unwrap();
    });
    let mut labels = task.config.labels.clone();
    labels.reverse();
    let read = weights::load(meant.path(), &loaded).unwrap();
    assert_eq!(read.config.labels, labels);
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
