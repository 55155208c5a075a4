//! Methods over the families of today against peft and adapters (`tests/fixtures/family_methods.py`).
//!
//! Tolerances as in `parity`: forward 1e-5, gradients 1e-4, losses of ten steps 1e-4, relative to the largest value.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use backbone::{Backbone, Batch, Config, Phase, TensorFile};
use candle_core::{DType, Device, Tensor, Var};
use methods::{Context, PeftMethod};
use peftbench::train::{
    head::Head,
    model::{Model, batch_of},
    optimiser::Optimiser,
    recipe::Recipe,
};
use serde_json::Value;

use crate::support::{NoWords, close};

const FORWARD: f32 = 1e-5;
const GRADIENT: f32 = 1e-4;
const TEN_STEPS: f32 = 1e-4;

struct Case {
    name: String,
    tensors: HashMap<String, Tensor>,
    meta: Value,
    backbone: Backbone,
    method: Box<dyn PeftMethod>,
    head: Head,
}

impl Case {
    fn load(families: &Path, file: &Path) -> Self {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let (family, _) = name.split_once('.').unwrap();
        let folder = families.join(family);
        let config = Config::read(&folder.join("config.json")).unwrap();
        let (pooling, kind) = backbone::conventions(&config);
        let weights = folder.join("model.safetensors");
        let backbone = Backbone::load(config, &weights).unwrap();
        let backbone = backbone.with_pooling(pooling).unwrap();
        let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        let metadata = TensorFile::open(file).unwrap();
        let meta: Value = serde_json::from_str(&metadata.metadata().unwrap()["meta"]).unwrap();
        let mut keys = meta["config"].as_object().unwrap().clone();
        if keys.get("target_modules").is_some_and(|v| v == "all") {
            let all = backbone.config().description.projections();
            let all: Vec<_> = all.map(|p| p.name().to_owned()).collect();
            keys.insert("target_modules".into(), all.into());
        }
        let method = methods::resolve_values(meta["method"].as_str().unwrap(), keys).unwrap();
        let method = method
            .build(&mut Context {
                backbone: &backbone,
                rng: &mut datasets::stream(0, "overwritten"),
                words: &NoWords,
            })
            .unwrap();
        let rng = &mut datasets::stream(0, "overwritten");
        let head = Head::new(kind, backbone.config().hidden, 3, rng, DType::F32).unwrap();
        let case = Self {
            name,
            tensors,
            meta,
            backbone,
            method,
            head,
        };
        case.start(&weights);
        case
    }

    /// Every variable, with the name that it has in the file.
    fn vars(&self) -> Vec<(String, Var)> {
        let all = self.method.vars().into_iter().chain(self.head.vars());
        all.map(|(name, var)| match name.as_str() {
            "prompt" | "prefix" | "encoder.embedding.weight" => ("virtual".to_owned(), var),
            _ => (name, var),
        })
        .collect()
    }

    /// Sets every variable to the file's start; of a model that is trained whole, to the checkpoint.
    fn start(&self, weights: &Path) {
        let checkpoint = TensorFile::open(weights).unwrap();
        let mut unused: Vec<&String> = self
            .tensors
            .keys()
            .filter(|k| k.starts_with("init."))
            .collect();
        for (name, var) in self.vars() {
            let key = format!("init.{name}");
            let tensor = match self.tensors.get(&key) {
                Some(tensor) => tensor.clone(),
                None => {
                    assert_eq!(self.meta["method"], "full", "{}: {name}", self.name);
                    let theirs = match name.as_str() {
                        "head.output.weight" if checkpoint.contains("score.weight") => {
                            "score.weight".into()
                        }
                        "head.output.weight" => "classifier.weight".into(),
                        "head.output.bias" => "classifier.bias".into(),
                        other if other.starts_with("head.") => name.clone(),
                        _ => format!("model.{name}"),
                    };
                    checkpoint.read(&theirs, None).unwrap()
                }
            };
            unused.retain(|k| **k != key);
            var.set(&tensor.reshape(var.dims()).unwrap()).unwrap();
        }
        assert!(unused.is_empty(), "{}: {unused:?}", self.name);
    }

    fn numbers(&self, name: &str) -> Vec<u32> {
        self.tensors[name].to_vec1().unwrap()
    }

    fn texts(&self) -> datasets::Encoded {
        let ids = self.numbers("input.ids");
        datasets::Encoded {
            types: vec![0; ids.len()],
            ids,
            offsets: self
                .numbers("input.offsets")
                .into_iter()
                .map(|o| o as usize)
                .collect(),
            labels: self
                .numbers("input.labels")
                .into_iter()
                .map(datasets::Target::Class)
                .collect(),
            words: Vec::new(),
            truncated: 0,
        }
    }

    fn logits(&self, batch: &Batch) -> Tensor {
        let model = Model::new(&self.backbone, &*self.method, &self.head);
        self.head
            .forward(&model.pooled(batch, Phase::Eval).unwrap())
            .unwrap()
    }

    /// The largest difference, relative to the largest value.
    fn close(&self, what: &str, got: &Tensor, expected: &Tensor, tolerance: f32) -> f32 {
        let what = format!("{}: {what}", self.name);
        close(&what, got, expected, tolerance)
    }
}

fn cases() -> Vec<Case> {
    let families = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/families");
    let mut files: Vec<_> = std::fs::read_dir(families.join("methods"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| Case::load(&families, file))
        .collect()
}

#[test]
fn logits_loss_gradients_and_ten_steps_equal_those_of_peft_and_adapters() {
    let (mut worst, mut count) = ([0f32; 3], 0);
    for case in cases() {
        count += 1;
        let texts = case.texts();
        let logits = case.logits(&batch_of(&texts, &[0, 1, 2, 3]).unwrap());
        let loss = kernels::cross_entropy(&logits, &case.numbers("input.labels")).unwrap();
        let forward = case
            .close("logits", &logits, &case.tensors["logits"], FORWARD)
            .max(case.close("loss", &loss, &case.tensors["loss"], FORWARD));
        let grads = kernels::backward(&loss).unwrap();
        let (mut backward, mut compared) = (0f32, 0);
        for (name, var) in case.vars() {
            let Some(expected) = case.tensors.get(&format!("grad.{name}")) else {
                continue;
            };
            // Zero in exact arithmetic: softmax ignores what all keys share.
            if name.ends_with("k_proj.bias") {
                continue;
            }
            let got = grads
                .get(&var)
                .unwrap_or_else(|| panic!("{}: no gradient for {name}", case.name));
            backward =
                backward.max(case.close(&format!("gradient of {name}"), got, expected, GRADIENT));
            compared += 1;
        }
        assert!(compared >= 2, "{}", case.name);

        let number = |key: &str| case.meta[key].as_f64().unwrap();
        let overrides: BTreeMap<String, String> = [
            ("steps", number("total").to_string()),
            ("warmup", (number("warm_up") / number("total")).to_string()),
            ("clip", "1.0".to_owned()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
        let mut optimiser = Optimiser::new(&Recipe::resolve("quick", &overrides, 1).unwrap());
        let vectors: Vec<String> = serde_json::from_value(case.meta["vectors"].clone()).unwrap();
        for (name, var) in case.vars() {
            let decay = if vectors.contains(&name) { 0.0 } else { 0.01 };
            optimiser.add_one(&name, &var, number("lr"), decay);
        }
        let mut losses = Vec::new();
        for step in 0..10u32 {
            let which: Vec<u32> = (0..3).map(|k| (2 * step + k) % 4).collect();
            let logits = case.logits(&batch_of(&texts, &which).unwrap());
            let labels: Vec<u32> = which
                .iter()
                .filter_map(|i| texts.label(*i as usize).class())
                .collect();
            let loss = kernels::cross_entropy(&logits, &labels).unwrap();
            losses.push(loss.to_scalar::<f32>().unwrap());
            optimiser.step(&kernels::backward(&loss).unwrap()).unwrap();
        }
        let losses = Tensor::new(losses, &Device::Cpu).unwrap();
        let steps = case.close("losses", &losses, &case.tensors["step.losses"], TEN_STEPS);
        println!(
            "{}: forward {forward:.1e}, gradients {backward:.1e}, losses of ten steps {steps:.1e}",
            case.name
        );
        for (worst, own) in worst.iter_mut().zip([forward, backward, steps]) {
            *worst = worst.max(own);
        }
    }
    println!(
        "{count} cases; largest differences: forward {:.1e}, gradients {:.1e}, ten steps {:.1e}",
        worst[0], worst[1], worst[2]
    );
    assert!(count >= 30, "{count}");
}
