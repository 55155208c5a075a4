//! How close to the machine's limit: operations that a pass needs ([`crate::flops`]) per second, over what a large f32
//! product reaches on the same threads just before and after.

use std::{collections::BTreeMap, rc::Rc, sync::atomic::AtomicBool, time::Instant};

use anyhow::Result;
use datasets::Encoded;
use methods::{HeadOnly, PeftMethod, Resolved};
use peftbench::{
    plan::{DataChoice, RunPlan, Trial},
    train::encoded::EncodedData,
    train::prepared::Prepared,
    train::recipe::Recipe,
    train::trainer::{Model, Training, batch_of},
};

use crate::{
    common::{self, median},
    flops::{Work, virtual_rows},
};

/// Steps that are timed, after [`WARM_UP`] others.
const STEPS: usize = 30;
const WARM_UP: usize = 5;
/// Sentences that are timed one by one, after as many again for warm-up.
const SENTENCES: usize = 64;

/// The data and backbone of the measurements: SST-2 (or its stand-in, where it cannot be had) over MiniLM, read at the
/// first row as the Python libraries' classifiers do.
pub fn setting() -> Result<Prepared> {
    Prepared::load(&RunPlan {
        data: DataChoice {
            name: "sst2".into(),
            options: Default::default(),
            stand_in: true,
            stand_in_for: None,
        },
        backbone: "minilm".into(),
        backbone_overrides: [("pooling".to_owned(), "pooler".to_owned())].into(),
        trial: Trial {
            method: "head_only".into(),
            overrides: BTreeMap::new(),
            tuned: None,
            optional: false,
        },
        recipe: BTreeMap::new(),
        budget: "standard".into(),
        seed: 0,
        offline: false,
        out: common::out()?,
        keep_weights: true,
    })
}

/// Token ids of the whole splits.
pub fn encoded(setting: &Prepared) -> Result<Rc<EncodedData>> {
    setting.encoded(&Recipe::resolve("standard", &BTreeMap::new(), 1)?, 0, 0)
}

/// The methods with their defaults, prompt tuning read at its first row: the Python libraries' arrangement.
pub fn cases(names: &[&str]) -> Result<Vec<Resolved>> {
    let mut cases = Vec::new();
    for entry in methods::registry::ALL {
        // (The majority class reads no text.)
        if entry.name != "majority" && names.is_empty() || names.contains(&entry.name) {
            let first = [("pooling".to_owned(), "first".to_owned())].into();
            let overrides = if entry.name == "prompt_tuning" {
                first
            } else {
                BTreeMap::new()
            };
            cases.push(methods::resolve(entry.name, &overrides)?);
        }
    }
    if names.is_empty() || names.contains(&"lora") {
        cases.push(methods::resolve(
            "lora",
            &[("layers".to_owned(), "[4, 5]".to_owned())].into(),
        )?);
    }
    Ok(cases)
}

/// Seconds of each step of training a method on an order of batches.
pub fn train(
    setting: &Prepared,
    resolved: &Resolved,
    method: &dyn PeftMethod,
    order: &[Vec<u32>],
) -> Result<Vec<f64>> {
    let steps = [
        ("steps".to_owned(), order.len().to_string()),
        ("evaluations".to_owned(), "1".to_owned()),
    ]
    .into();
    let encoded = encoded(setting)?;
    let recipe = Recipe::resolve("standard", &steps, encoded.train.len())?;
    let backbone = &setting.backbone.backbone;
    let head = common::head(backbone)?;
    let trained = Training {
        train: &encoded.train,
        // The trainer evaluates after its last step; here it shall not take long.
        validation: &first(&encoded.validation, 32),
        metrics: &setting.data.dataset.metrics,
        classes: common::CLASSES,
        order,
        recipe: &recipe,
        optimiser: resolved.optimiser(),
        dropout: datasets::stream(0, "dropout"),
        augmenter: None,
        stop: &AtomicBool::new(false),
    }
    .run(
        Model {
            backbone,
            method,
            head: &head,
        },
        &mut |_| (),
    )?;
    Ok(trained.step_seconds.iter().map(|s| f64::from(*s)).collect())
}

/// The first examples.
fn first(examples: &Encoded, n: usize) -> Encoded {
    let n = n.min(examples.len());
    let end = examples.offsets[n];
    Encoded {
        ids: examples.ids[..end].to_vec(),
        types: examples.types[..end].to_vec(),
        offsets: examples.offsets[..=n].to_vec(),
        labels: examples.labels[..n].to_vec(),
        truncated: 0,
    }
}

pub fn order(encoded: &EncodedData, steps: usize) -> Vec<Vec<u32>> {
    datasets::batch_order(&encoded.train.lengths(), 32, steps, 0)
}

pub fn main(names: &[&str]) -> Result<()> {
    let setting = setting()?;
    let backbone = &setting.backbone.backbone;
    let head = common::head(backbone)?;
    let encoded = encoded(&setting)?;
    let order = order(&encoded, WARM_UP + STEPS);
    let train_lengths = encoded.train.lengths();
    println!(
        "{} threads, {:?}, {} over {}; needed operations only, see benches/flops.rs\n",
        kernels::threads(),
        kernels::levels()[0],
        setting.data.dataset.name,
        setting.backbone.name
    );
    println!(
        "| method | pass | needed GFLOP | median ms | GFLOP/s | large product GFLOP/s | share |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    // The median over passes, so that a pass that something else disturbed does not count.
    let line = |name: &str, pass: &str, passes: &[(f64, f64)], limit: f64| {
        let of = |f: fn(&(f64, f64)) -> f64| median(&passes.iter().map(f).collect::<Vec<_>>());
        let reached = of(|(needed, seconds)| needed / seconds / 1e9);
        println!(
            "| {name} | {pass} | {:.3} | {:.2} | {reached:.1} | {limit:.1} | {:.0} % |",
            of(|(needed, _)| needed / 1e9),
            of(|(_, seconds)| seconds * 1e3),
            100.0 * reached / limit
        );
    };
    let mut limit = kernels::large_product_gflops()?;
    for resolved in cases(names)? {
        let method = common::build(&resolved, backbone)?;
        let label = if resolved.variant.is_empty() {
            resolved.entry.name.to_owned()
        } else {
            format!("{} ({})", resolved.entry.name, resolved.variant)
        };
        let seconds = train(&setting, &resolved, &*method, &order)?.split_off(WARM_UP);
        let needed = order[WARM_UP..].iter().map(|batch| {
            let lengths: Vec<usize> = batch.iter().map(|i| train_lengths[*i as usize]).collect();
            Work::new(
                backbone.config(),
                &lengths,
                virtual_rows(&resolved, &*method),
            )
            .step(&resolved, &*method)
        });
        let steps: Vec<(f64, f64)> = needed.zip(seconds).collect();
        let after = kernels::large_product_gflops()?;
        line(&label, "training step, batch 32", &steps, limit.max(after));
        limit = after;

        let method = common::shipped(&resolved, backbone)?;
        let mut passes = vec![(
            "one sentence",
            Model {
                backbone,
                method: &*method,
                head: &head,
            },
        )];
        let merged;
        if let Ok(found) = method.merge(backbone) {
            merged = found;
            passes.push((
                "one sentence, merged",
                Model {
                    backbone: &merged,
                    method: &HeadOnly,
                    head: &head,
                },
            ));
        }
        for (pass, model) in passes {
            let mut sentences = Vec::new();
            for i in 0..2 * SENTENCES {
                let index = (i % SENTENCES % encoded.validation.len()) as u32;
                let batch = batch_of(&encoded.validation, &[index])?;
                let clock = Instant::now();
                model.logits(&batch)?;
                let seconds = clock.elapsed().as_secs_f64();
                if i >= SENTENCES {
                    let work = Work::new(
                        backbone.config(),
                        &[batch.ids().len()],
                        virtual_rows(&resolved, model.method),
                    );
                    let needed = if pass.ends_with("merged") {
                        work.forward()
                    } else {
                        work.forward_with(&resolved)
                    };
                    sentences.push((needed, seconds));
                }
            }
            let after = kernels::large_product_gflops()?;
            line(&label, pass, &sentences, limit.max(after));
            limit = after;
        }
    }
    Ok(())
}
