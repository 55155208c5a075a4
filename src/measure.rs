//! Measuring memory, and describing the machine.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use record::Circumstances;

/// Peak resident memory of this process in bytes, where the system tells (Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Memory of the machine in bytes, where the system tells (Linux).
pub fn memory() -> Option<u64> {
    meminfo("MemTotal:")
}

/// Memory that is free, or can be freed at once, in bytes, where the system tells (Linux).
pub fn free_memory() -> Option<u64> {
    meminfo("MemAvailable:")
}

fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The machine, the versions and the time.
///
/// `claim` names the claim under which a run is made.
pub fn circumstances(claim: Option<&str>) -> Circumstances {
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "unknown".to_owned());
    Circumstances {
        started: utc(SystemTime::now()),
        claim: claim.map(str::to_owned),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("PEFTBENCH_REVISION").map(str::to_owned),
        processor,
        threads: kernels::threads(),
        system: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        libraries: libraries(),
    }
}

/// A time as RFC 3339 in UTC; `unknown` for one that a wrong clock gives (before 1970, after 9999).
fn utc(time: SystemTime) -> String {
    const AFTER_9999: Duration = Duration::from_secs(253_402_300_800);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) if since < AFTER_9999 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => "unknown".to_owned(),
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
    fn a_clock_that_is_wrong_gives_no_time_and_no_panic() {
        assert_eq!(utc(UNIX_EPOCH), "1970-01-01T00:00:00Z");
        let years = |n: u64| Duration::from_secs(n * 366 * 24 * 3600);
        assert_eq!(utc(UNIX_EPOCH - years(1)), "unknown");
        assert_eq!(utc(UNIX_EPOCH + years(9000)), "unknown");
    }

    #[test]
    fn the_locked_version_of_candle_is_the_pinned_one() {
        assert_eq!(libraries()["candle-core"], "0.11.1");
        assert_eq!(libraries().len(), 5);
    }
}
