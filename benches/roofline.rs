//! How close to the machine's limit: the time that a pass needs at least over the time that it took.
//!
//! It needs the larger of two times: its operations ([`crate::flops`]) at the rate of multiply-adds in registers, those of
//! frozen products in the backbone's precision and all others in f32; and the weights that it reads at the rate of reading
//! a buffer of that size over and over. Both rates are measured in the same run, on the same threads.

use std::{collections::BTreeMap, rc::Rc, sync::atomic::AtomicBool, time::Instant};

use anyhow::Result;
use backbone::{HeadKind, Pooling, Precision};
use methods::{HeadOnly, PeftMethod, Resolved};
use peftbench::{
    backbone_settings::BackboneSettings,
    plan::{DataChoice, RunPlan, Trial},
    train::encoded::EncodedData,
    train::prepared::Prepared,
    train::recipe::{Recipe, RecipeChoice},
    train::{
        model::{Model, batch_of},
        trainer::{Trained, Training},
    },
};

use crate::{
    common::{self, median},
    flops::{Needed, Work, virtual_rows},
};

/// Steps that are timed, after [`WARM_UP`] others.
const STEPS: usize = 30;
const WARM_UP: usize = 5;
/// Sentences that are timed one by one, after as many again for warm-up.
const SENTENCES: usize = 64;

/// The data and backbone of the measurements: SST-2 (or its stand-in, where it cannot be had) over MiniLM, read at the
/// first row as the Python libraries' classifiers do.
pub fn setting(precision: Precision) -> Result<Prepared> {
    Prepared::load(&plan("minilm", Some(Pooling::Pooler), precision)?)
}

/// The same data over a backbone that is read in this way, or as its YAML says.
pub fn plan(backbone: &str, pooling: Option<Pooling>, precision: Precision) -> Result<RunPlan> {
    Ok(RunPlan {
        data: DataChoice {
            name: "sst2".into(),
            options: Default::default(),
            stand_in: true,
            stand_in_for: None,
        },
        backbone: backbone.into(),
        backbone_settings: BackboneSettings {
            pooling,
            precision: Some(precision),
            head: None,
            chat: None,
        },
        trial: Trial::of("head_only")?,
        recipe: RecipeChoice::new("standard", &BTreeMap::new())?,
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

/// The trainer evaluates after its last step; where only training is timed it shall not take long.
pub const QUICKLY_JUDGED: usize = 32;

/// The recipe of so many steps, evaluated after the last one.
pub fn recipe(encoded: &EncodedData, steps: usize) -> Result<Recipe> {
    let keys = [
        ("steps".to_owned(), steps.to_string()),
        ("evaluations".to_owned(), "1".to_owned()),
    ];
    Recipe::resolve("standard", &keys.into(), encoded.train.len())
}

/// Trains a method on an order of batches: its steps' seconds and losses, and what it says of the first `judged` validation
/// examples after the last step.
pub fn train(
    setting: &Prepared,
    resolved: &Resolved,
    method: &dyn PeftMethod,
    order: &[Vec<u32>],
    judged: usize,
) -> Result<Trained> {
    let encoded = encoded(setting)?;
    let recipe = recipe(&encoded, order.len())?;
    let backbone = &setting.backbone.backbone;
    let head = match setting.backbone.head {
        HeadKind::Words => setting.output_head(method.backbone())?,
        _ => common::head(backbone)?,
    };
    let objective = setting.objective(&recipe, 0)?;
    let first: Vec<u32> = (0..encoded.validation.len().min(judged) as u32).collect();
    let trained = Training {
        train: &encoded.train,
        validation: &encoded.validation.some(&first),
        sample: None,
        metrics: &setting.data.dataset.metrics,
        objective: &*objective,
        order,
        recipe: &recipe,
        optimiser: resolved.optimiser(),
        dropout: datasets::stream(0, "dropout"),
        augmenter: None,
        kept: None,
        stop: &AtomicBool::new(false),
    }
    .run(Model::new(backbone, method, &head), &mut |_| ())?;
    Ok(trained)
}

pub fn order(encoded: &EncodedData, steps: usize) -> Vec<Vec<u32>> {
    datasets::batch_order(&encoded.train.lengths(), 32, steps, 0)
}

/// What the machine can do at most, in operations and bytes per second.
struct Rates {
    f32: f64,
    frozen: f64,
    reading: f64,
}

impl Rates {
    fn measure(precision: Precision, bytes: usize) -> Self {
        Self {
            f32: 1e9 * kernels::register_gflops(Precision::F32),
            frozen: 1e9 * kernels::register_gflops(precision),
            reading: 1e9 * kernels::reading_gb_per_second(bytes),
        }
    }

    /// Seconds that a pass takes at least, and what binds it.
    fn least(&self, needed: Needed, bytes: usize) -> (f64, &'static str) {
        let arithmetic = needed.frozen / self.frozen + needed.other / self.f32;
        let memory = bytes as f64 / self.reading;
        match memory > arithmetic {
            true => (memory, "memory"),
            false => (arithmetic, "arithmetic"),
        }
    }
}

/// One pass: what it needs, the bytes of weights that it reads, its seconds.
type Timed = (Needed, usize, f64);

/// The median over passes, so that a pass that something else disturbed does not count.
fn line(name: &str, what: &str, passes: &[Timed], rates: &Rates) {
    let of = |f: &dyn Fn(&Timed) -> f64| median(&passes.iter().map(f).collect::<Vec<_>>());
    let least = |pass: &Timed| rates.least(pass.0, pass.1);
    println!(
        "| {name} | {what} | {:.3} | {:.2} | {:.1} | {:.2} | {} | {:.0} % |",
        of(&|pass| pass.0.all() / 1e9),
        of(&|pass| pass.2 * 1e3),
        of(&|pass| pass.0.all() / pass.2 / 1e9),
        of(&|pass| least(pass).0 * 1e3),
        least(&passes[0]).1,
        of(&|pass| 100.0 * least(pass).0 / pass.2)
    );
}

/// Methods by name, and `bf16` for frozen weights in that.
pub fn main(arguments: &[&str]) -> Result<()> {
    let names: Vec<&str> = arguments.iter().copied().filter(|a| *a != "bf16").collect();
    let precision = match names.len() < arguments.len() {
        true => Precision::Bf16,
        false => Precision::F32,
    };
    let setting = setting(precision)?;
    let backbone = &setting.backbone.backbone;
    let head = common::head(backbone)?;
    let encoded = encoded(&setting)?;
    let order = order(&encoded, WARM_UP + STEPS);
    let train_lengths = encoded.train.lengths();
    let each = match precision {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
        Precision::Int8 | Precision::Q4 => 1,
    };
    let bytes = Work::new(backbone.config(), &[1], 0).weight_bytes(each);
    let rates = Rates::measure(precision, bytes);
    println!(
        "{} threads, {:?}, {} over {} in {}; needed operations only, see benches/flops.rs\n",
        kernels::threads(),
        kernels::levels()[0],
        setting.data.dataset.name,
        setting.backbone.name,
        match precision {
            Precision::F32 => "f32".to_owned(),
            Precision::Bf16 => format!("bf16, by {}", kernels::bf16_unit().name()),
            Precision::Int8 | Precision::Q4 => format!("{}, widened to f32", precision.name()),
        }
    );
    println!(
        "in registers {:.0} GFLOP/s in f32, {:.0} in {}; {:.1} GB/s from a buffer of {:.0} MB, as large as the weights\n",
        rates.f32 / 1e9,
        rates.frozen / 1e9,
        precision.name(),
        rates.reading / 1e9,
        bytes as f64 / 1e6
    );
    println!(
        "| method | pass | needed GFLOP | median ms | GFLOP/s | needs at least, ms | bound by | share of the limit |"
    );
    println!("|---|---|---:|---:|---:|---:|---|---:|");
    for resolved in cases(&names)? {
        let method = common::build(&resolved, backbone)?;
        let label = if resolved.variant.is_empty() {
            resolved.entry.name.to_owned()
        } else {
            format!("{} ({})", resolved.entry.name, resolved.variant)
        };
        let trained = train(&setting, &resolved, &*method, &order, QUICKLY_JUDGED)?;
        let seconds = trained.step_seconds[WARM_UP..].iter();
        let needed = order[WARM_UP..].iter().map(|batch| {
            let lengths: Vec<usize> = batch.iter().map(|i| train_lengths[*i as usize]).collect();
            Work::new(
                backbone.config(),
                &lengths,
                virtual_rows(&resolved, &*method),
            )
            .step(&resolved, &*method)
        });
        // The backward reads the weights again, if it goes that far down; the limit is memory's in neither case.
        let steps: Vec<Timed> = needed
            .zip(seconds)
            .map(|(needed, seconds)| (needed, bytes, f64::from(*seconds)))
            .collect();
        line(&label, "training step, batch 32", &steps, &rates);

        let method = common::shipped(&resolved, backbone)?;
        let mut passes = vec![("one sentence", Model::new(backbone, &*method, &head))];
        let merged;
        if let Ok(found) = method.merge(backbone) {
            merged = found;
            passes.push((
                "one sentence, merged",
                Model::new(&merged, &HeadOnly, &head),
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
                    let bytes = match resolved.entry.name {
                        "full" => work.weight_bytes(4),
                        _ => bytes,
                    };
                    sentences.push((needed, bytes, seconds));
                }
            }
            line(&label, pass, &sentences, &rates);
        }
    }
    Ok(())
}
