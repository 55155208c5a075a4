//! Our numbers against those of torch, transformers, peft and adapters (`tests/fixtures/generate.py`).
//!
//! Tolerances in f32, relative to the largest value of a tensor: forward 1e-5, gradients 1e-4, losses of ten
//! steps 1e-4. They hold on both paths of the operations (`just test-reference` runs the other one).

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use backbone::{Backbone, Batch, Config, HeadKind, Phase, Pooling, TensorFile};
use candle_core::{Device, Tensor, Var};
use methods::{Context, PeftMethod};
use peftbench::{
    train::head::Head,
    train::model::{Model, batch_of},
    train::optimiser::Optimiser,
    train::recipe::Recipe,
};
use serde_json::{Value, json};

use crate::support::{NoWords, close};

const FORWARD: f32 = 1e-5;
const GRADIENT: f32 = 1e-4;
const TEN_STEPS: f32 = 1e-4;

/// Fixtures of every architecture: their name, our method and its configuration.
const METHODS: [Case; 6] = [
    ("head_only", "head_only", "{}"),
    ("full", "full", "{}"),
    (
        "prompt_tuning",
        "prompt_tuning",
        "{virtual_tokens: 4, init: random}",
    ),
    ("lora", "lora", "{rank: 3, alpha: 6}"),
    (
        "houlsby",
        "adapter",
        "{placement: houlsby, reduction_factor: 8}",
    ),
    (
        "pfeiffer",
        "adapter",
        "{placement: pfeiffer, reduction_factor: 8}",
    ),
];

/// Fixtures of BERT only.
const MORE: &[Case] = &[
    ("rslora", "lora", "{rank: 3, alpha: 6, rslora: true}"),
    ("ia3", "ia3", "{}"),
    (
        "ia3_paper",
        "ia3",
        "{target_modules: [key, value, output], feedforward_modules: [output]}",
    ),
    ("bitfit", "bitfit", "{}"),
    ("layer_norm", "layer_norm", "{}"),
    ("prefix_tuning", "prefix_tuning", "{virtual_tokens: 4}"),
    (
        "prefix_tuning_mlp",
        "prefix_tuning",
        "{virtual_tokens: 4, reparametrisation: mlp, width: 6}",
    ),
    (
        "prefix_tuning_adapters",
        "prefix_tuning",
        "{virtual_tokens: 4, positions: kept}",
    ),
    (
        "prefix_tuning_adapters_mlp",
        "prefix_tuning",
        "{virtual_tokens: 4, positions: kept, reparametrisation: mlp, width: 6}",
    ),
    ("dora", "dora", "{rank: 3, alpha: 6}"),
    ("pissa", "lora", "{rank: 3, alpha: 6, init: pissa}"),
    ("olora", "lora", "{rank: 3, alpha: 6, init: olora}"),
    (
        "lora_plus",
        "lora",
        "{rank: 3, alpha: 6, b_learning_rate_ratio: 16}",
    ),
    (
        "parallel",
        "adapter",
        "{placement: parallel, reduction_factor: 8}",
    ),
    (
        "scaled_parallel",
        "adapter",
        "{placement: scaled_parallel, reduction_factor: 8}",
    ),
    (
        "adapter_drop",
        "adapter",
        "{reduction_factor: 8, drop_layers: 1}",
    ),
    ("p_tuning_mlp", "p_tuning", "{virtual_tokens: 4, width: 12}"),
    (
        "p_tuning_lstm",
        "p_tuning",
        "{virtual_tokens: 4, encoder: lstm, width: 4}",
    ),
    ("compacter", "compacter", "{reduction_factor: 8}"),
    (
        "mam",
        "mam",
        "{prefix_tuning.virtual_tokens: 4, adapter.reduction_factor: 8}",
    ),
];

type Case = (&'static str, &'static str, &'static str);

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// One fixture with the model that it was made from.
struct Fixture {
    what: String,
    tensors: HashMap<String, Tensor>,
    meta: Value,
    config: Config,
    weights: PathBuf,
    method: &'static str,
    overrides: &'static str,
}

impl Fixture {
    fn load(architecture: &str, (name, method, overrides): Case) -> Self {
        let folder = fixtures().join(architecture);
        let path = folder.join(format!("{name}.safetensors"));
        let file = TensorFile::open(&path).unwrap();
        Self {
            what: format!("{architecture}/{name}"),
            tensors: candle_core::safetensors::load(&path, &Device::Cpu).unwrap(),
            meta: serde_json::from_str(&file.metadata().unwrap()["meta"]).unwrap(),
            config: Config::read(&folder.join("config.json")).unwrap(),
            weights: folder.join("model.safetensors"),
            method,
            overrides,
        }
    }

    fn numbers(&self, name: &str) -> Vec<u32> {
        self.tensors[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Our name for each of their variables.
    fn names(&self) -> BTreeMap<String, String> {
        let names: BTreeMap<String, String> =
            serde_json::from_value(self.meta["names"].clone()).unwrap();
        let ours = |name: String| {
            name.replace("prefix.wte", "encoder.embedding")
                .replace("prefix.control_trans", "encoder.transform")
                .replace("shared_parameters.task.", "")
        };
        names.into_iter().map(|(k, v)| (k, ours(v))).collect()
    }

    fn backbone(&self, pooling: Pooling) -> Backbone {
        Backbone::load(self.config.clone(), &self.weights)
            .unwrap()
            .with_pooling(pooling)
            .unwrap()
    }

    fn head(&self) -> Head {
        let kind = match self.config.architecture.name() {
            "roberta" => HeadKind::DenseTanh,
            "distilbert" => HeadKind::DenseRelu,
            _ => HeadKind::Linear,
        };
        let mut rng = datasets::stream(0, "overwritten");
        Head::new(
            kind,
            self.config.hidden,
            3,
            &mut rng,
            candle_core::DType::F32,
        )
        .unwrap()
    }

    /// Method and head at the fixture's start.
    fn build(&self, backbone: &Backbone, first_row: &str) -> (Box<dyn PeftMethod>, Head) {
        let mut config: serde_json::Map<String, Value> =
            serde_yaml::from_str(self.overrides).unwrap();
        if self.meta["virtual_tokens"] != 0 {
            config.insert("pooling".into(), first_row.into());
        }
        let resolved = methods::resolve_values(self.method, config).unwrap();
        let rng = &mut datasets::stream(0, "overwritten");
        let method = resolved
            .build(&mut Context {
                backbone,
                rng,
                words: &NoWords,
            })
            .unwrap();
        let head = self.head();
        let vars: Vec<_> = method.vars();
        let mut start = BTreeMap::new();
        let file = TensorFile::open(&self.weights).unwrap();
        for (theirs, ours) in self.names() {
            let tensor = match self.tensors.get(&format!("init.{theirs}")) {
                Some(tensor) => tensor.clone(),
                None => file.read(&theirs, None).unwrap(),
            };
            let pieces = pieces(&vars, &ours);
            if pieces.is_empty() {
                start.insert(ours, tensor);
                continue;
            }
            // The same numbers, in one variable of another shape or in several.
            let flat = tensor.flatten_all().unwrap();
            let mut from = 0;
            for (name, var) in pieces {
                let piece = flat.narrow(0, from, var.elem_count()).unwrap();
                start.insert(name.clone(), piece.reshape(var.dims()).unwrap());
                from += var.elem_count();
            }
            assert_eq!(from, flat.elem_count(), "{}: {ours}", self.what);
        }
        if backbone.pooling() != Pooling::Pooler {
            start.retain(|name, _| !name.starts_with("pooler."));
        }
        let of_head = start.split_off("head.");
        let (of_head, mut rest): (BTreeMap<_, _>, _) = of_head
            .into_iter()
            .partition(|(n, _)| n.starts_with("head."));
        start.append(&mut rest);
        methods::restore(&method.vars(), &start).unwrap();
        methods::restore(&head.vars(), &of_head).unwrap();
        (method, head)
    }

    fn batch(&self) -> Batch {
        let offsets = self
            .numbers("input.offsets")
            .into_iter()
            .map(|o| o as usize)
            .collect();
        Batch::new(
            self.numbers("input.ids"),
            self.numbers("input.types"),
            offsets,
        )
        .unwrap()
    }

    fn close(&self, what: &str, got: &Tensor, expected: &Tensor, tolerance: f32) -> f32 {
        let what = format!("{}: {what}", self.what);
        close(&what, got, expected, tolerance)
    }
}

/// The variable of this name, or the pieces NAME.0, NAME.1, … that it is kept in.
fn pieces<'a>(vars: &'a [(String, Var)], name: &str) -> Vec<&'a (String, Var)> {
    if let Some(whole) = vars.iter().find(|(n, _)| n == name) {
        return vec![whole];
    }
    let number = |n: &str| {
        n.strip_prefix(name)?
            .strip_prefix('.')?
            .parse::<usize>()
            .ok()
    };
    let mut pieces: Vec<_> = vars.iter().filter(|(n, _)| number(n).is_some()).collect();
    pieces.sort_by_key(|(n, _)| number(n));
    pieces
}

/// Tensors end to end.
fn joined<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Tensor {
    let flat: Vec<_> = tensors
        .into_iter()
        .map(|t| t.flatten_all().unwrap())
        .collect();
    Tensor::cat(&flat, 0).unwrap()
}

/// Our pooling and our prompt tuning's first row for a pooling of the fixtures.
fn pooling(name: &str) -> (Pooling, &'static str) {
    match name {
        "pooler" => (Pooling::Pooler, "first"),
        "pooler_cls" => (Pooling::Pooler, "cls"),
        "first" => (Pooling::Cls, "first"),
        "cls" => (Pooling::Cls, "cls"),
        "mean" => (Pooling::Mean, "cls"),
        "mean_all" => (Pooling::Mean, "first"),
        other => panic!("unknown pooling {other}"),
    }
}

/// Runs `f` for every fixture and checks that there were as many as expected.
fn for_every_fixture(mut f: impl FnMut(&Fixture)) {
    for architecture in ["bert", "roberta", "distilbert"] {
        for case in METHODS {
            f(&Fixture::load(architecture, case));
        }
    }
    for case in MORE {
        f(&Fixture::load("bert", *case));
    }
}

/// As many fixtures as there are files.
#[test]
fn no_fixture_is_left_out() {
    let files = ["bert", "roberta", "distilbert"].map(|architecture| {
        let folder = std::fs::read_dir(fixtures().join(architecture)).unwrap();
        let paths = folder.map(|entry| entry.unwrap().path());
        paths
            .filter(|p| p.extension().is_some_and(|e| e == "safetensors"))
            .filter(|p| !p.ends_with("model.safetensors"))
            .count()
    });
    let mut count = 0;
    for_every_fixture(|_| count += 1);
    assert_eq!(count, files.iter().sum::<usize>());
}

#[test]
fn hidden_states_after_every_layer_equal_those_of_transformers() {
    let (mut worst, mut count) = (0f32, 0);
    for_every_fixture(|fixture| {
        // Those of `full` are those of `head_only`.
        if !fixture.tensors.contains_key("hidden.2") {
            return;
        }
        count += 1;
        let backbone = fixture.backbone(Pooling::Cls);
        let (method, _) = fixture.build(&backbone, "cls");
        let states = backbone
            .hidden_states(&fixture.batch(), &*method, Phase::Eval)
            .unwrap();
        assert_eq!(states.len(), 3);
        for (i, state) in states.iter().enumerate() {
            let name = format!("hidden.{i}");
            if let Some(expected) = fixture.tensors.get(&name) {
                worst = worst.max(fixture.close(&name, state, expected, FORWARD));
            }
        }
    });
    println!("{count} fixtures; largest difference of hidden states: {worst:.1e}");
    assert_eq!(count, 15 + MORE.len());
}

#[test]
fn pooled_vectors_logits_losses_and_gradients_equal_those_of_the_python_libraries() {
    let (mut forward, mut backward, mut poolings) = (0f32, 0f32, 0);
    for_every_fixture(|fixture| {
        let (mut own_forward, mut own_backward) = (0f32, 0f32);
        for (i, name) in fixture.meta["poolings"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
        {
            let name = name.as_str().unwrap();
            let prefix = if i == 0 {
                String::new()
            } else {
                format!("{name}.")
            };
            let key = |rest: &str| format!("{prefix}{rest}");
            if !fixture.tensors.contains_key(&key("logits")) {
                continue;
            }
            poolings += 1;
            let (pooling, first_row) = pooling(name);
            let backbone = fixture.backbone(pooling);
            let (method, head) = fixture.build(&backbone, first_row);
            let model = Model::new(&backbone, &*method, &head);
            let pooled = model.pooled(&fixture.batch(), Phase::Eval).unwrap();
            let logits = head.forward(&pooled).unwrap();
            let loss = kernels::cross_entropy(&logits, &fixture.numbers("input.labels")).unwrap();
            for (what, got) in [("pooled", &pooled), ("logits", &logits), ("loss", &loss)] {
                let what = key(what);
                let d = fixture.close(&what, got, &fixture.tensors[&what], FORWARD);
                own_forward = own_forward.max(d);
            }
            let grads = kernels::backward(&loss).unwrap();
            let vars: Vec<_> = method.vars().into_iter().chain(head.vars()).collect();
            let mut compared = 0;
            for (theirs, ours) in fixture.names() {
                let name = key(&format!("grad.{theirs}"));
                let Some(expected) = fixture.tensors.get(&name) else {
                    continue;
                };
                compared += 1;
                // Zero in exact arithmetic: softmax ignores what all keys share.
                if ours.ends_with("key.bias") || ours.ends_with("k_lin.bias") {
                    continue;
                }
                let got = pieces(&vars, &ours).into_iter().map(|(name, var)| {
                    grads
                        .get(var)
                        .unwrap_or_else(|| panic!("{}: no gradient for {name}", fixture.what))
                });
                let d = fixture.close(&name, &joined(got), expected, GRADIENT);
                own_backward = own_backward.max(d);
            }
            assert!(
                compared > 0 || fixture.method == "full",
                "{}: {name}",
                fixture.what
            );
        }
        let what = &fixture.what;
        println!("{what}: forward {own_forward:.1e}, gradients {own_backward:.1e}");
        forward = forward.max(own_forward);
        backward = backward.max(own_backward);
    });
    println!(
        "{poolings} fixtures and poolings; largest differences: forward {forward:.1e}, gradients {backward:.1e}"
    );
    assert!(poolings >= 40, "{poolings}");
}

#[test]
fn ten_steps_of_adamw_with_clipping_and_schedule_lose_what_torch_loses() {
    let (mut losses, mut weights, mut compared) = (0f32, 0f32, 0);
    for_every_fixture(|fixture| {
        let meta = &fixture.meta;
        let number = |key: &str| meta[key].as_f64().unwrap();
        let (pooling, first_row) = pooling(meta["poolings"][0].as_str().unwrap());
        let backbone = fixture.backbone(pooling);
        let (method, head) = fixture.build(&backbone, first_row);
        let steps = number("total_steps");
        let overrides = [
            ("steps".to_owned(), steps.to_string()),
            ("warmup".to_owned(), (number("warm_up") / steps).to_string()),
            ("clip".to_owned(), number("clip").to_string()),
        ];
        let recipe = Recipe::resolve("quick", &overrides.into(), 1).unwrap();
        let mut optimiser = Optimiser::new(&recipe);
        let vars: Vec<_> = method.vars().into_iter().chain(head.vars()).collect();
        let not_decayed = meta["no_decay"].as_array().unwrap();
        for (theirs, ours) in fixture.names() {
            let decay = if not_decayed.contains(&json!(theirs)) {
                0.0
            } else {
                number("weight_decay")
            };
            // PEFT's LoRA+ optimiser counts the head's bias, as every vector, among the variables with B's rate.
            let factor = match ours.as_str() {
                "head.output.bias" if fixture.what == "bert/lora_plus" => 16.0,
                name => {
                    let training = method.parameters().training(name);
                    training.map_or(1.0, |t| t.learning_rate_factor)
                }
            };
            for (name, var) in pieces(&vars, &ours) {
                optimiser.add_one(name, var, number("lr") * factor, decay);
            }
        }
        let batch = fixture.batch();
        let labels = fixture.numbers("input.labels");
        let examples: Vec<Vec<u32>> = fixture.tensors["step.examples"].to_vec2().unwrap();
        let mut got = Vec::new();
        let mut norms = Vec::new();
        for chosen in &examples {
            let encoded = encoded(&batch, &labels);
            let model = Model::new(&backbone, &*method, &head);
            let pooled = model
                .pooled(&batch_of(&encoded, chosen).unwrap(), Phase::Eval)
                .unwrap();
            let labels: Vec<u32> = chosen.iter().map(|i| labels[*i as usize]).collect();
            let loss = kernels::cross_entropy(&head.forward(&pooled).unwrap(), &labels).unwrap();
            got.push(loss.to_scalar::<f32>().unwrap());
            norms.push(optimiser.step(&kernels::backward(&loss).unwrap()).unwrap() as f32);
        }
        assert_eq!(got.len(), 10);
        let got = Tensor::new(got, &Device::Cpu).unwrap();
        let expected = &fixture.tensors["step.losses"];
        let d = fixture.close("step.losses", &got, expected, TEN_STEPS);
        println!("{}: losses of ten steps {d:.1e}", fixture.what);
        losses = losses.max(d);
        let norms = Tensor::new(norms, &Device::Cpu).unwrap();
        fixture.close(
            "step.grad_norms",
            &norms,
            &fixture.tensors["step.grad_norms"],
            GRADIENT,
        );
        for (theirs, ours) in fixture.names() {
            if ours.ends_with("key.bias") || ours.ends_with("k_lin.bias") {
                continue;
            }
            let Some(expected) = fixture.tensors.get(&format!("step.final.{theirs}")) else {
                continue;
            };
            compared += 1;
            let got = joined(pieces(&vars, &ours).iter().map(|(_, var)| var.as_tensor()));
            weights = weights.max(fixture.close(&theirs, &got, expected, TEN_STEPS * 10.0));
        }
        // What a reparametrisation makes and ships.
        for (name, got) in method.shipped().unwrap() {
            if let Some(expected) = fixture.tensors.get(&format!("step.final_{name}")) {
                compared += 1;
                weights = weights.max(fixture.close(&name, &got, expected, TEN_STEPS * 10.0));
            }
        }
    });
    assert!(compared > 50, "{compared}");
    println!(
        "{compared} variables; largest differences over ten steps: losses {losses:.1e}, weights {weights:.1e}"
    );
}

#[test]
fn what_a_reparametrisation_ships_is_what_peft_makes_of_it() {
    let mut count = 0;
    for_every_fixture(|fixture| {
        let backbone = fixture.backbone(Pooling::Cls);
        let (method, _) = fixture.build(&backbone, "cls");
        for (name, got) in method.shipped().unwrap() {
            if let Some(expected) = fixture.tensors.get(&name) {
                fixture.close(&name, &got, expected, FORWARD);
                assert_eq!(got.dims(), expected.dims(), "{}", fixture.what);
                count += 1;
            }
        }
    });
    assert_eq!(count, 3);
}

#[test]
fn starts_from_singular_values_and_qr_take_out_of_the_weight_what_peft_takes_out() {
    for name in ["pissa", "olora"] {
        let case = MORE.iter().find(|case| case.0 == name).unwrap();
        let fixture = Fixture::load("bert", *case);
        let backbone = fixture.backbone(Pooling::Cls);
        let config: serde_json::Map<String, Value> = serde_yaml::from_str(case.2).unwrap();
        let method = methods::resolve_values(case.1, config)
            .unwrap()
            .build(&mut Context {
                backbone: &backbone,
                rng: &mut datasets::stream(0, "unused"),
                words: &NoWords,
            })
            .unwrap();
        let vars: BTreeMap<_, _> = method.vars().into_iter().collect();
        let mut count = 0;
        for site in backbone.sites() {
            let module = fixture.config.tensor_name(site);
            let key = format!("base.base_model.model.bert.{module}.base_layer.weight");
            let Some(expected) = fixture.tensors.get(&key) else {
                continue;
            };
            let of = |part: &str| vars[&format!("{site}.{part}")].as_detached_tensor();
            let product = (of("lora_b").matmul(&of("lora_a")).unwrap() * 2.0).unwrap();
            let base = (backbone.linear(site).weight() - product).unwrap();
            fixture.close(&key, &base, expected, FORWARD);
            count += 1;
        }
        assert_eq!(count, 4);
    }
}

fn encoded(batch: &Batch, labels: &[u32]) -> datasets::Encoded {
    datasets::Encoded {
        ids: batch.ids().to_vec(),
        types: batch.types().iter().map(|t| *t as u8).collect(),
        offsets: batch.spans().offsets().to_vec(),
        labels: labels
            .iter()
            .copied()
            .map(datasets::Target::Class)
            .collect(),
        words: Vec::new(),
        truncated: 0,
    }
}
