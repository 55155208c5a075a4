//! How well runs are foretold before the first one has ended: the share of the registers' speed that training reached and the
//! seconds that a run took beside its products, by the records of a comparison that was made on this machine, one run after the
//! other. What it prints belongs into `src/execute/estimate.rs`.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, ensure};
use peftbench::{execute::estimate, measure, records};

use crate::common::median;

pub fn main(folder: &str) -> Result<()> {
    let processor = measure::circumstances(None).processor;
    let mut records = records::read(Path::new(folder))?;
    records.retain(|r| r.circumstances.processor == processor && estimate::of_record(r).is_some());
    ensure!(
        !records.is_empty(),
        "{folder}: no record there was made on this processor, {processor}"
    );
    // RFC 3339 in UTC: the order of the text is that of time.
    records.sort_by(|a, b| a.circumstances.started.cmp(&b.circumstances.started));
    let started = |i: usize| humantime::parse_rfc3339(&records[i].circumstances.started).ok();
    let rate = kernels::register_gflops(kernels::Precision::F32) * 1e9;
    let mut of_method: BTreeMap<&str, [Vec<f64>; 2]> = BTreeMap::new();
    let (mut reached, mut beside) = (Vec::new(), Vec::new());
    for (i, record) in records.iter().enumerate() {
        let (Some(cost), Some(operations)) = (&record.cost, estimate::of_record(record)) else {
            continue;
        };
        let products = cost.training_seconds + cost.evaluation_seconds;
        let foretold = operations / (rate * estimate::REACHED);
        if operations > 0.0 && products > 0.0 {
            reached.push(operations / (rate * products));
            let [expected, took] = of_method.entry(&record.asked.method.name).or_default();
            expected.push(foretold);
            took.push(products);
        }
        // Until the next run began; the median leaves out where a comparison was interrupted.
        let next = (i + 1 < records.len()).then(|| started(i + 1)).flatten();
        if let (Some(own), Some(next)) = (started(i), next)
            && let Ok(all) = next.duration_since(own)
        {
            beside.push(all.as_secs_f64() - products);
        }
    }
    ensure!(!reached.is_empty(), "{folder}: no run there took any time");
    println!("method             runs   foretold s     took s");
    for (method, [foretold, took]) in of_method {
        let runs = took.len();
        println!(
            "{method:<16} {runs:>6} {:>12.1} {:>10.1}",
            median(&foretold),
            median(&took)
        );
    }
    println!(
        "\nREACHED: {:.3} (now {}), of {:.0} GFLOP/s in registers; {} runs",
        median(&reached),
        estimate::REACHED,
        rate / 1e9,
        reached.len()
    );
    match beside.is_empty() {
        true => println!("BESIDE: two runs one after the other are needed"),
        false => println!(
            "BESIDE: {:.1} s (now {})",
            median(&beside),
            estimate::BESIDE
        ),
    }
    Ok(())
}
