//! Measuring latency and memory, and describing the machine.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use datasets::Encoded;
use reports::record::{Circumstances, Latency};

use crate::trainer::{Model, batch_of};

/// Real sentences that are timed one by one.
const SENTENCES: usize = 256;
/// Times that each batch of 32 is run.
const REPEATS: usize = 3;

/// Latency of a model over real sentences: batch 1 and batch 32. The first eighth of the passes is warm-up.
///
/// # Errors
/// If a forward pass fails.
pub fn latency(
    model: Model<'_>,
    examples: &Encoded,
    variant: &str,
) -> backbone::Result<Vec<Latency>> {
    let n = examples.len().min(SENTENCES);
    let single: Vec<Vec<u32>> = (0..n as u32).map(|i| vec![i]).collect();
    let all: Vec<u32> = (0..n as u32).collect();
    let batches: Vec<Vec<u32>> = (0..REPEATS)
        .flat_map(|_| {
            all.chunks(32)
                .filter(|c| c.len() == 32)
                .map(<[u32]>::to_vec)
        })
        .collect();
    let mut out = Vec::new();
    for (batch, groups) in [(1, single), (32, batches)] {
        if groups.is_empty() {
            continue;
        }
        let mut milliseconds = Vec::with_capacity(groups.len());
        for indices in &groups {
            let batch = batch_of(examples, indices)?;
            let clock = Instant::now();
            model.logits(&batch)?;
            milliseconds.push(clock.elapsed().as_secs_f64() * 1e3);
        }
        let mut timed = milliseconds.split_off(milliseconds.len() / 8);
        timed.sort_by(f64::total_cmp);
        let at = |p: f64| timed[((timed.len() as f64 * p) as usize).min(timed.len() - 1)];
        out.push(Latency {
            variant: variant.to_owned(),
            batch,
            length: None,
            samples: timed.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
        });
    }
    Ok(out)
}

/// Peak resident memory of this process in bytes, where the system tells (Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The machine, the versions and the time.
pub fn circumstances() -> Circumstances {
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown".to_owned());
    Circumstances {
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("PEFTBENCH_REVISION").map(str::to_owned),
        processor,
        threads: kernels::threads(),
        system: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        libraries: libraries(),
    }
}

/// Versions, as locked, of the libraries that decide the numbers.
fn libraries() -> BTreeMap<String, String> {
    let lock = include_str!("../Cargo.lock");
    let mut lines = lock.lines();
    let mut versions = BTreeMap::new();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("name = ").map(|n| n.trim_matches('"'));
        if let Some(name @ ("candle-core" | "gemm" | "polars" | "safetensors" | "tokenizers")) =
            name
            && let Some(version) = lines.next().and_then(|l| l.strip_prefix("version = "))
        {
            versions.insert(name.to_owned(), version.trim_matches('"').to_owned());
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_locked_version_of_candle_is_the_pinned_one() {
        assert_eq!(libraries()["candle-core"], "0.11.1");
        assert_eq!(libraries().len(), 5);
    }
}
