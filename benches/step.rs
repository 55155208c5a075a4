//! One training step of every method on a batch of 32 sentences: forward, backward, clipping and AdamW.

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, Throughput};
use peftbench::train::model::Model;

use crate::common::{self, Steps};

pub fn define(c: &mut Criterion) -> Result<()> {
    let backbone = common::random_backbone(common::minilm_config())?;
    let lengths = common::sentences();
    let batch = common::batch(&lengths)?;
    let head = common::head(&backbone)?;
    let mut cases = common::all_methods()?;
    // What lies below the lowest trained layer has no backward.
    cases.push(methods::resolve(
        "lora",
        &[("layers".to_owned(), "[4, 5]".to_owned())].into(),
    )?);
    let mut group = c.benchmark_group("training_step");
    group.throughput(Throughput::Elements(lengths.len() as u64));
    for resolved in cases {
        let method = common::build(&resolved, &backbone)?;
        let model = Model::new(&backbone, &*method, &head);
        let mut steps = Steps::new(model, &resolved)?;
        let shape = format!("{}x{}", lengths.len(), batch.spans().rows() / lengths.len());
        let mut name = resolved.entry.name.to_owned();
        if !resolved.variant.is_empty() {
            name += &format!("({})", resolved.variant);
        }
        group.bench_function(BenchmarkId::new(shape, name), |b| {
            b.iter(|| steps.step(&batch).expect("a finite step"));
        });
    }
    Ok(())
}
