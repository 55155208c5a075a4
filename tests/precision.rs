//! Frozen weights in bf16, from the command line to the gradients.

use std::collections::BTreeMap;

use backbone::{Backbone, Batch, Phase, Precision};
use candle_core::Tensor;
use methods::Context;
use peftbench::{backbone_settings::BackboneSettings, prepare::Files};
use serde_json::Value;

use crate::support::{Place, tiny_backbone};

/// Trains a method for a few steps; its record.
fn trained(place: &Place, method: &str, settings: &[&str]) -> Value {
    let more = [&["--method", method, "--json"][..], settings].concat();
    serde_json::from_str(&place.few_steps("train", &more)).unwrap()
}

const BF16: &str = "--set=backbone.precision=bf16";

#[test]
fn every_method_passes_its_own_checks_over_a_backbone_in_bf16() {
    let place = Place::new();
    // (Zero-shot asks a decoder's words.)
    let entries = methods::registry::ALL.iter();
    for entry in entries.filter(|e| e.name != "zero_shot") {
        let more = match entry.name {
            // A bottleneck of one does not divide into its four parts.
            "compacter" => &[BF16, "--set=compacter.reduction_factor=8"][..],
            _ => &[BF16],
        };
        let record = trained(&place, entry.name, more);
        assert_eq!(record["status"]["is"], "ok", "{}: {record}", entry.name);
        assert_eq!(record["asked"]["backbone"]["precision"], "bf16");
        for check in record["outcome"]["checks"].as_array().unwrap() {
            assert_eq!(check["passed"], true, "{}: {check}", entry.name);
        }
    }
}

#[test]
fn methods_pass_their_own_checks_over_a_backbone_in_int8_and_in_four_bits() {
    let place = Place::new();
    for precision in ["int8", "q4"] {
        for method in ["lora", "dora", "ia3", "bitfit", "adapter", "full"] {
            let setting = format!("--set=backbone.precision={precision}");
            let record = trained(&place, method, &[&setting]);
            assert_eq!(record["status"]["is"], "ok", "{method}: {record}");
            assert_eq!(record["asked"]["backbone"]["precision"], precision);
            for check in record["outcome"]["checks"].as_array().unwrap() {
                assert_eq!(check["passed"], true, "{precision}, {method}: {check}");
            }
        }
    }
}

#[test]
fn a_precision_is_part_of_a_runs_name_and_of_the_saved_weights_and_f32_is_the_default() {
    let place = Place::new();
    let half = trained(&place, "lora", &[BF16]);
    let whole = trained(&place, "lora", &[]);
    let said = trained(&place, "lora", &["--set=backbone.precision=f32"]);
    assert_eq!(whole["id"], said["id"]);
    assert_ne!(whole["id"], half["id"]);
    assert!(whole["asked"]["backbone"].get("precision").is_none());
    assert_ne!(whole["outcome"]["loss"], half["outcome"]["loss"]);

    // The saved weights are used as they were trained: the same predictions of the same sentences.
    let weights = format!("out/weights/{}", half["id"].as_str().unwrap());
    let config = std::fs::read_to_string(place.path().join(&weights).join("peftbench.json"));
    assert!(config.unwrap().contains("\"precision\": \"bf16\""));
    let data = place.reviews();
    let evaluated = place.ok(&format!(
        "evaluate --weights {weights} --dataset {} --text-column=review --label-column=stars \
            --json",
        data.display()
    ));
    let evaluated: Value = serde_json::from_str(&evaluated).unwrap();
    let metric = half["asked"]["dataset"]["main_metric"].as_str().unwrap();
    let trained = &half["outcome"]["evaluations"].as_array().unwrap()[0]["metrics"][metric];
    assert_eq!(&evaluated["metrics"][metric], trained, "{evaluated}");

    // A table of each, and the heading says which.
    let tables = place.ok(&["report", "--records", "out"]);
    assert!(tables.contains("bert (bf16)"), "{tables}");
}

#[test]
fn weights_of_another_precision_than_the_loaded_backbone_are_refused_by_name() {
    let place = Place::new();
    let record = trained(&place, "lora", &[BF16]);
    let id = record["id"].as_str().unwrap();
    let folder = place.path().join("out/weights").join(id);
    let message = peftbench::weights::load(&folder, &loaded(Precision::F32))
        .err()
        .map(|e| e.to_string())
        .unwrap_or_default();
    assert!(
        message.contains("bf16") && message.contains("f32") && message.contains(id),
        "{message}"
    );
    peftbench::weights::load(&folder, &loaded(Precision::Bf16)).unwrap();
}

#[test]
fn a_precision_that_does_not_exist_is_refused_with_those_that_do() {
    let place = Place::new();
    let (data, backbone) = (place.reviews(), tiny_backbone());
    let arguments = [
        "train",
        data.to_str().unwrap(),
        "--text-column=review",
        "--label-column=stars",
        "--backbone",
        backbone.to_str().unwrap(),
        "--method=lora",
        "--set=backbone.precision=f16",
    ];
    let says = ["precision", "f16", "f32", "bf16", "int8", "q4"];
    place.refused(&arguments, &says);
}

fn loaded(precision: Precision) -> peftbench::prepare::LoadedBackbone {
    let settings = BackboneSettings {
        precision: Some(precision),
        ..BackboneSettings::default()
    };
    let files = Files::new(true).unwrap();
    let found = files.backbone(tiny_backbone().to_str().unwrap(), &settings);
    found.unwrap().load().unwrap()
}

struct NoWords;

impl methods::Vocabulary for NoWords {
    fn encode(&self, _: &str) -> Result<Vec<u32>, String> {
        Ok(vec![5])
    }

    fn ordinary(&self) -> Vec<u32> {
        (5..60).collect()
    }
}

/// The gradient of every variable of a method, by name, of the sum of weighted vectors of a batch.
fn gradients(backbone: &Backbone, method: &str) -> BTreeMap<String, Vec<f32>> {
    let resolved = methods::resolve(method, &BTreeMap::new()).unwrap();
    let method = resolved
        .build(&mut Context {
            backbone,
            rng: &mut datasets::stream(1, "method"),
            words: &NoWords,
        })
        .unwrap();
    // Away from the start, where half of the gradients are zero.
    for (i, (_, var)) in method.vars().iter().enumerate() {
        let n = var.elem_count();
        let moved: Vec<f32> = (0..n)
            .map(|j| 0.02 * (((i * 31 + j * 7) % 11) as f32 - 5.0))
            .collect();
        let moved = Tensor::from_vec(moved, var.dims(), var.device()).unwrap();
        var.set(&(var.as_tensor() + moved).unwrap()).unwrap();
    }
    let ids = (0..40).map(|i| 5 + i * 13 % 90).collect();
    let batch = Batch::new(ids, vec![0; 40], vec![0, 7, 19, 40]).unwrap();
    let pooled = backbone.pooled(&batch, &*method, Phase::Eval).unwrap();
    let weights: Vec<f32> = (0..pooled.elem_count())
        .map(|i| ((i * 17 % 23) as f32 - 11.0) / 11.0)
        .collect();
    let weights = Tensor::from_vec(weights, pooled.dims(), pooled.device()).unwrap();
    let loss = (pooled * weights).unwrap().sum_all().unwrap();
    let found = loss.backward().unwrap();
    let gradient = |(name, var): (String, candle_core::Var)| {
        let gradient = found.get(&var).unwrap().flatten_all().unwrap();
        (name, gradient.to_vec1().unwrap())
    };
    method.vars().into_iter().map(gradient).collect()
}

#[test]
fn gradients_over_a_backbone_in_bf16_point_where_those_over_one_in_f32_do() {
    let whole = loaded(Precision::F32).backbone;
    let half = whole.clone().in_precision(Precision::Bf16).unwrap();
    for method in ["lora", "adapter", "prompt_tuning", "prefix_tuning", "ia3"] {
        let (exact, rounded) = (gradients(&whole, method), gradients(&half, method));
        for (name, exact) in &exact {
            let rounded = &rounded[name];
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            };
            let cosine = dot(exact, rounded) / (dot(exact, exact) * dot(rounded, rounded)).sqrt();
            assert!(cosine > 0.999, "{method}, {name}: {cosine}");
            assert_ne!(exact, rounded, "{method}, {name}: nothing was rounded");
        }
    }
}
