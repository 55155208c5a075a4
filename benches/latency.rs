//! Latency of a forward pass with head: every method, unmerged and (where it can be) merged, at batch 1, 8 and 32 and 16,
//! 64 and 128 tokens.

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, Throughput};
use methods::HeadOnly;
use peftbench::trainer::Model;

use crate::common;

pub fn define(c: &mut Criterion) -> Result<()> {
    let backbone = common::random_backbone(common::minilm_config())?;
    let head = common::head(&backbone)?;
    let mut group = c.benchmark_group("latency");
    let mut bench = |model: Model<'_>, variant: &str| -> Result<()> {
        for examples in [1, 8, 32] {
            for length in [16, 64, 128] {
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
    for resolved in common::all_methods()? {
        let name = resolved.entry.name;
        let method = common::build(&resolved, &backbone)?;
        bench(
            Model {
                backbone: &backbone,
                method: &*method,
                head: &head,
            },
            &format!("{name} unmerged"),
        )?;
        if let Ok(merged) = method.merge(&backbone) {
            bench(
                Model {
                    backbone: &merged,
                    method: &HeadOnly,
                    head: &head,
                },
                &format!("{name} merged"),
            )?;
        }
    }
    Ok(())
}
