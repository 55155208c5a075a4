//! Measuring memory, and describing the machine.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use record::Circumstances;

use crate::execute::submit;

/// Peak resident memory of this process in bytes, where the system tells (Linux).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Memory of the machine in bytes, where the system tells (Linux).
pub fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Memory that can still be had, in bytes: of the machine, and of every control group that this process is in (a container,
/// a job of Slurm). Absent where the system does not tell.
pub fn available_memory() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let text = read(Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().filter_map(|line| {
        let (_, group) = line.split_once(':')?;
        match group.split_once(':')? {
            ("", path) => Some(("/sys/fs/cgroup", path, "memory.max", "memory.current")),
            ("memory", path) => Some((
                "/sys/fs/cgroup/memory",
                path,
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )),
            _ => None,
        }
    });
    let left = groups.flat_map(|(root, path, limit, used)| {
        let folder = Path::new(root).join(path.trim_start_matches('/'));
        let above: Vec<_> = folder
            .ancestors()
            .take_while(|f| f.starts_with(root))
            .map(Path::to_owned)
            .collect();
        above.into_iter().filter_map(move |folder| {
            let number = |name| read(&folder.join(name))?.trim().parse::<u64>().ok();
            // A group without a limit says `max`.
            Some(number(limit)?.saturating_sub(number(used)?))
        })
    });
    left.chain([machine]).min()
}

/// What the machine's cores do from here on, where the system tells (Linux).
pub struct Load(Option<Ticks>);

/// Ticks of the clock since boot.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    /// Of one core.
    elapsed: f64,
    /// Of all cores together, at work.
    busy: f64,
    /// Of this process.
    own: f64,
}

impl Load {
    /// Fewer ticks (hundredths of a second) than this tell nothing.
    const FEWEST: f64 = 50.0;

    /// Begins to watch.
    pub fn watch() -> Self {
        Self(Ticks::now())
    }

    /// Cores that others than this process kept busy since then, on average; absent for less than half a second.
    pub fn of_others(&self) -> Option<f64> {
        Ticks::now()?.others_since(self.0?)
    }
}

impl Ticks {
    fn now() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        Self::of(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    /// Of what Linux writes about the machine and about a process.
    fn of(machine: &str, process: &str) -> Option<Self> {
        let cores = machine
            .lines()
            .filter(|l| l.starts_with("cpu"))
            .count()
            .saturating_sub(1);
        let all = machine.lines().next()?.strip_prefix("cpu ")?;
        // user nice system idle iowait irq softirq steal; what follows is counted in user and nice already.
        let all: Vec<f64> = all
            .split_whitespace()
            .take(8)
            .map_while(|n| n.parse().ok())
            .collect();
        let idle = all.get(3)? + all.get(4)?;
        let total: f64 = all.iter().sum();
        // The command's name stands in parentheses and may hold spaces; user and system time are 12th and 13th after it.
        let own = process
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .skip(11)
            .take(2);
        Some(Self {
            elapsed: total / cores.max(1) as f64,
            busy: total - idle,
            own: own.map_while(|n| n.parse::<f64>().ok()).sum(),
        })
    }

    fn others_since(self, then: Self) -> Option<f64> {
        let elapsed = self.elapsed - then.elapsed;
        let others = (self.busy - then.busy) - (self.own - then.own);
        (elapsed >= Load::FEWEST).then(|| (others / elapsed).max(0.0))
    }
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
        load: None,
        task: submit::task_name(|name| std::env::var(name).ok()),
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
    fn the_load_of_others_is_what_the_machine_did_less_what_this_process_did() {
        // Two cores; waiting for disks is idle.
        let then = Ticks::of(
            "cpu  100 0 50 900 50 0 0 0 7 0\ncpu0 1\ncpu1 1\nintr 5\n",
            "9 (a b) R 1 1 1 0 -1 0 0 0 0 0 30 10 0 0",
        )
        .unwrap();
        let now = Ticks::of(
            "cpu  1400 100 100 1300 150 20 20 60 7 0\ncpu0 1\ncpu1 1\nintr 5\n",
            "9 (a b) R 1 1 1 0 -1 0 0 0 0 0 830 110 0 0",
        )
        .unwrap();
        assert_eq!(
            then,
            Ticks {
                elapsed: 550.0,
                busy: 150.0,
                own: 40.0
            }
        );
        let elapsed = (3150.0 - 1100.0) / 2.0;
        let others = now.others_since(then).unwrap();
        assert!(
            (others - (1700.0 - 150.0 - 900.0) / elapsed).abs() < 1e-12,
            "{others}"
        );
        assert_eq!(then.others_since(then), None, "no time has passed");
    }

    #[test]
    fn the_locked_version_of_candle_is_the_pinned_one() {
        assert_eq!(libraries()["candle-core"], "0.11.1");
        assert_eq!(libraries().len(), 5);
    }
}
