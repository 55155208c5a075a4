//! Latency of a forward pass with head: every method, unmerged and (where it can be) merged, at batch 1, 8 and 32 and 16,
//! 64 and 128 tokens; and batches that 4 or 16 tasks share.

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, Throughput};
use methods::HeadOnly;
use peftbench::{
    task_library::{Part, mixed_logits},
    train::model::Model,
};

use crate::common;

const LENGTHS: [usize; 3] = [16, 64, 128];
/// Methods whose tasks are timed in one batch.
const MIXED: [&str; 3] = ["prompt_tuning", "lora", "adapter"];

pub fn define(c: &mut Criterion) -> Result<()> {
    let backbone = common::random_backbone(common::minilm_config())?;
    let head = common::head(&backbone)?;
    let mut group = c.benchmark_group("latency");
    let mut bench = |model: Model<'_>, variant: &str| -> Result<()> {
        for examples in [1, 8, 32] {
            for length in LENGTHS {
                let batch = common::batch(&vec![length; examples])?;
                group.throughput(Throughput::Elements(examples as u64));
                group.bench_function(
                    BenchmarkId::new(format!("{examples}x{length}"), variant),
                    |b| {
                        b.iter(|| model.logits(&batch).expect("the batch fits"));
                    },
                );
            }
        }
        Ok(())
    };
    let all = common::all_methods()?;
    for resolved in &all {
        let name = resolved.entry.name;
        let method = common::shipped(resolved, &backbone)?;
        bench(
            Model::new(&backbone, &*method, &head),
            &format!("{name} unmerged"),
        )?;
        if let Ok(merged) = method.merge(&backbone) {
            bench(
                Model::new(&merged, &HeadOnly, &head),
                &format!("{name} merged"),
            )?;
        }
    }
    for resolved in all.iter().filter(|r| MIXED.contains(&r.entry.name)) {
        for tasks in [4, 16] {
            let methods = (0..tasks)
                .map(|_| common::shipped(resolved, &backbone))
                .collect::<Result<Vec<_>>>()?;
            for examples in [8, 32].into_iter().filter(|n| tasks <= *n) {
                let parts: Vec<Part<'_>> = methods
                    .iter()
                    .map(|method| Part {
                        method: &**method,
                        head: &head,
                        examples: examples / tasks,
                    })
                    .collect();
                for length in LENGTHS {
                    let batch = common::batch(&vec![length; examples])?;
                    group.throughput(Throughput::Elements(examples as u64));
                    let id = BenchmarkId::new(
                        format!("{examples}x{length}"),
                        format!("{} mixed {tasks}", resolved.entry.name),
                    );
                    group.bench_function(id, |b| {
                        b.iter(|| mixed_logits(&backbone, &batch, &parts).expect("the batch fits"));
                    });
                }
            }
        }
    }
    Ok(())
}
