//! What the benches share: a backbone of MiniLM's sizes, batches, and methods by their names.

use std::{cell::RefCell, path::PathBuf};

use anyhow::Result;
use backbone::{Activation, Architecture, Backbone, Batch, Config, HeadKind, Phase, Pooling};
use methods::{Context, PeftMethod, Resolved};
use peftbench::train::{head::Head, model::Model, optimiser::Optimiser, recipe::Recipe};
use rand_chacha::ChaCha8Rng;

/// Classes of the classifier.
pub const CLASSES: usize = 2;

/// The sizes of all-MiniLM-L6-v2.
pub fn minilm_config() -> Config {
    Config {
        architecture: Architecture::Bert,
        layers: 6,
        hidden: 384,
        heads: 12,
        intermediate: 1536,
        vocabulary: 30_522,
        positions: 512,
        position_offset: 0,
        position_padding: None,
        position_table: true,
        token_types: 2,
        activation: Activation::Gelu,
        epsilon: 1e-12,
        description: backbone::Description::post_norm(12, 384),
    }
}

/// A backbone with seeded random weights, read at its first row: speed does not depend on the values, so that a bench
/// needs no file.
pub fn random_backbone(config: Config) -> Result<Backbone> {
    let random = Backbone::random(config, &mut datasets::stream(0, "bench backbone"))?;
    Ok(random.with_pooling(Pooling::Cls)?)
}

/// A batch with examples of these lengths.
pub fn batch(lengths: &[usize]) -> Result<Batch> {
    let mut offsets = vec![0];
    for length in lengths {
        offsets.push(offsets[offsets.len() - 1] + length);
    }
    let rows = offsets[lengths.len()];
    // Ordinary tokens of any vocabulary of 2,000 rows or more.
    let ids = (0..rows).map(|i| 1000 + (i as u32 * 97) % 1000).collect();
    Ok(Batch::new(ids, vec![0; rows], offsets)?)
}

/// 32 sentences, 13.3 tokens each in the mean and of like length: a batch as SST-2 gives them.
pub fn sentences() -> Vec<usize> {
    (0..32).map(|i| 12 + usize::from(i % 3 == 0) * 4).collect()
}

struct Letters;

impl methods::Vocabulary for Letters {
    fn encode(&self, text: &str) -> std::result::Result<Vec<u32>, String> {
        Ok(text.bytes().map(|b| 1000 + u32::from(b)).collect())
    }

    fn ordinary(&self) -> Vec<u32> {
        (1000..2000).collect()
    }
}

/// Every method with its defaults.
pub fn all_methods() -> Result<Vec<Resolved>> {
    let all = methods::registry::ALL.iter();
    Ok(all
        .map(|entry| methods::resolve(entry.name, &Default::default()))
        .collect::<methods::Result<_>>()?)
}

/// A method over a backbone.
pub fn build(resolved: &Resolved, backbone: &Backbone) -> Result<Box<dyn PeftMethod>> {
    Ok(resolved.build(&mut Context {
        backbone,
        rng: &mut datasets::stream(0, "method"),
        words: &Letters,
    })?)
}

/// A classifier for the backbone.
pub fn head(backbone: &Backbone) -> Result<Head> {
    let (hidden, dtype) = (backbone.config().hidden, backbone.dtype());
    let rng = &mut datasets::stream(0, "head");
    Ok(Head::new(HeadKind::Linear, hidden, CLASSES, rng, dtype)?)
}

/// Training steps of one method, made one by one.
pub struct Steps<'a> {
    pub model: Model<'a>,
    optimiser: Optimiser,
    dropout: RefCell<ChaCha8Rng>,
}

impl<'a> Steps<'a> {
    pub fn new(model: Model<'a>, resolved: &Resolved) -> Result<Self> {
        // A long schedule: the learning rate stays above zero.
        let recipe = Recipe::resolve(
            "standard",
            &[("steps".to_owned(), "1000000".to_owned())].into(),
            32,
        )?;
        let mut optimiser = Optimiser::new(&recipe);
        let own = resolved.optimiser();
        optimiser.add(
            model.method.parameters(),
            own.learning_rate,
            own.weight_decay,
        );
        optimiser.add(model.head.parameters(), own.learning_rate, own.weight_decay);
        let dropout = RefCell::new(datasets::stream(0, "dropout"));
        Ok(Self {
            model,
            optimiser,
            dropout,
        })
    }

    /// One step on a batch whose examples have alternating labels: what the trainer does.
    pub fn step(&mut self, batch: &Batch) -> Result<f32> {
        let pooled = self.model.pooled(batch, Phase::Train(&self.dropout))?;
        let labels: Vec<u32> = (0..batch.spans().count() as u32).map(|i| i % 2).collect();
        let loss = kernels::cross_entropy(&self.model.head.forward(&pooled)?, &labels)?;
        let value = loss.to_scalar::<f32>()?;
        let grads = kernels::backward(&loss)?;
        drop((loss, pooled));
        self.optimiser.step(&grads)?;
        Ok(value)
    }
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Where results of benches go: `reports/out/bench`, which git ignores.
pub fn out() -> Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("reports/out/bench");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A method as it is when its weights have been saved and loaded: what is timed at inference.
pub fn shipped(resolved: &Resolved, backbone: &Backbone) -> Result<Box<dyn PeftMethod>> {
    let saved = build(resolved, backbone)?.shipped()?;
    Ok(resolved.load(backbone, saved.into_iter().collect())?)
}
