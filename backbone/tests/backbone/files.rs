//! Files of weights in the layouts that people have, whole and not.

use std::{collections::BTreeMap, fs, path::Path};

use backbone::{Backbone, weights_file};
use candle_core::{DType, Device, Tensor};
use peftbench_backbone as backbone;
use serde_json::{Value, json};

use super::{config, random, save, tensors};

fn load(path: &Path) -> backbone::Result<Backbone> {
    Backbone::load(config(), path)
}

fn message(path: &Path) -> String {
    load(path).err().unwrap().to_string()
}

/// The weights in parts of a few tensors, with their index.
fn sharded(folder: &Path) -> Value {
    let all: Vec<_> = tensors(&random(config())).into_iter().collect();
    let mut map = BTreeMap::new();
    for (i, part) in all.chunks(7).enumerate() {
        let file = format!("model-{i}.safetensors");
        save(&part.iter().cloned().collect(), &folder.join(&file));
        map.extend(part.iter().map(|(name, _)| (name.clone(), file.clone())));
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    index
}

#[test]
fn weights_in_several_files_are_those_of_one() {
    let folder = tempfile::tempdir().unwrap();
    sharded(folder.path());
    let path = weights_file(folder.path()).unwrap();
    assert!(path.ends_with("model.safetensors.index.json"));
    let loaded = load(&path).unwrap();
    assert_eq!(
        loaded.weights_digest().unwrap(),
        random(config()).weights_digest().unwrap()
    );
}

#[test]
fn weights_in_sixteen_bits_are_the_numbers_that_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for half in [DType::F16, DType::BF16] {
        let mut all = tensors(&random(config()));
        for tensor in all.values_mut() {
            *tensor = tensor.to_dtype(half).unwrap();
        }
        save(&all, &path);
        for (name, found) in load(&path).unwrap().tensors() {
            let expected = all[&name].to_dtype(DType::F32).unwrap();
            assert_eq!(values(&found), values(&expected), "{half:?}: {name}");
        }
    }
}

#[test]
fn an_index_that_does_not_fit_its_files_is_refused_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let index = sharded(folder.path());
    let path = folder.path().join("model.safetensors.index.json");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut index = index.clone();
        change(&mut index);
        fs::write(&path, index.to_string()).unwrap();
        message(&path)
    };
    let name = "encoder.layer.1.output.dense.weight";
    let outside = with(&|i| i["weight_map"][name] = "../model.safetensors".into());
    assert!(
        outside.contains("../model.safetensors") && outside.contains(name),
        "{outside}"
    );
    let missing = with(&|i| i["weight_map"][name] = "model-9.safetensors".into());
    assert!(
        missing.contains("model-9.safetensors") && missing.contains("missing"),
        "{missing}"
    );
    let elsewhere = with(&|i| i["weight_map"][name] = "model-0.safetensors".into());
    assert!(elsewhere.contains("no such tensor"), "{elsewhere}");
    let empty = with(&|i| i["weight_map"] = json!({}));
    assert!(empty.contains("weight_map"), "{empty}");
}

#[test]
fn a_pointer_of_git_lfs_is_called_one() {
    let folder = tempfile::tempdir().unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 438064459\n";
    for name in ["model.safetensors", "model.safetensors.index.json"] {
        let path = folder.path().join(name);
        fs::write(&path, pointer).unwrap();
        let message = message(&path);
        assert!(
            message.contains("Git LFS pointer") && message.contains("git lfs pull"),
            "{message}"
        );
    }
    let path = folder.path().join("config.json");
    fs::write(&path, pointer).unwrap();
    let message = backbone::Config::read(&path).unwrap_err().to_string();
    assert!(message.contains("git lfs pull"), "{message}");
}

#[test]
fn a_folder_without_safetensors_is_answered_with_the_line_that_converts() {
    let folder = tempfile::tempdir().unwrap();
    let says = |words: &[&str]| {
        let message = weights_file(folder.path()).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word}: {message}");
        }
    };
    says(&["model.safetensors", "missing", "index.json"]);
    for (name, words) in [
        ("tf_model.h5", ["from_tf=True", "save_pretrained"]),
        (
            "pytorch_model.bin.index.json",
            ["AutoModel", "save_pretrained"],
        ),
        ("pytorch_model.bin", ["torch.load", "save_file"]),
    ] {
        fs::write(folder.path().join(name), "x").unwrap();
        says(&words);
    }
}

#[test]
fn a_number_that_is_none_is_named_with_its_tensor_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let name = "encoder.layer.1.output.dense.weight";
    for (value, shown) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let mut all = tensors(&random(config()));
        let mut values: Vec<f32> = all[name].flatten_all().unwrap().to_vec1().unwrap();
        values[3 * 40 + 7] = value;
        values[900] = value;
        let damaged = Tensor::from_vec(values, (24, 40), &Device::Cpu).unwrap();
        for half in [false, true] {
            let tensor = match half {
                true => damaged.to_dtype(DType::BF16).unwrap(),
                false => damaged.clone(),
            };
            all.insert(name.into(), tensor);
            save(&all, &path);
            let message = message(&path);
            for word in [name, shown, "[3, 7]"] {
                assert!(message.contains(word), "{word}: {message}");
            }
        }
    }
}

#[test]
fn the_digest_covers_weights_configuration_and_tokenizer() {
    let backbone = random(config());
    let weights = backbone.weights_digest().unwrap();
    let digest = backbone.digest(&weights, &[1; 32]);
    assert_eq!(digest, backbone.digest(&weights, &[1; 32]));
    assert_ne!(digest, backbone.digest(&weights, &[2; 32]));
    let other = backbone::Config {
        epsilon: 1e-5,
        ..config()
    };
    let all = tensors(&backbone);
    let other = Backbone::build(other, &mut |name, _| Ok(all.get(name).cloned())).unwrap();
    assert_eq!(other.weights_digest().unwrap(), weights);
    assert_ne!(digest, other.digest(&weights, &[1; 32]));
}
