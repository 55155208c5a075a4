//! Measuring memory, and describing the machine.

use std::{collections::BTreeMap, path::Path, time::SystemTime};

use record::Circumstances;

use crate::{output::utc, scheduler};

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

/// Memory that is still available, in bytes: of the machine, and of every control group that this process is in (a container,
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

/// What the machine's cores do from here on.
pub struct Load(Option<Ticks>);

impl Load {
    /// Begins to watch.
    pub fn watch() -> Self {
        Self(Ticks::now())
    }

    /// Cores that others than this process kept busy since then, on average; absent for too short a time, and where the
    /// system does not tell.
    pub fn of_others(&self) -> Option<f64> {
        Ticks::now()?.others_since(self.0?)
    }
}

/// What the processors have done since the machine was started, where the system tells (Linux), in hundredths of a second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    cores: usize,
    /// Of all processes.
    busy: u64,
    idle: u64,
    /// Of this process.
    own: u64,
}

impl Ticks {
    fn now() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        Self::parse(&read("/proc/stat")?, &read("/proc/self/stat")?)
    }

    fn parse(machine: &str, process: &str) -> Option<Self> {
        let cpus = || machine.lines().filter(|line| line.starts_with("cpu"));
        let all = cpus().next()?.split_whitespace().skip(1).take(8);
        // user, nice, system, idle, waiting, interrupts (two kinds), stolen
        let all: Vec<u64> = all.map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let idle = all.get(3)? + all.get(4)?;
        // The name in parentheses may hold anything; user and system time are the 12th and 13th field behind it.
        let behind = process.rsplit_once(')')?.1.split_whitespace();
        let own: Vec<u64> = behind.skip(11).take(2).flat_map(str::parse).collect();
        Some(Self {
            cores: cpus().count() - 1,
            busy: all.iter().sum::<u64>() - idle,
            idle,
            own: own.iter().sum(),
        })
    }

    /// How many cores other programs kept busy since `before`; `None` if that is too short a time to tell.
    fn others_since(self, before: Self) -> Option<f64> {
        // A tenth of a second.
        const LEAST: u64 = 10;
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let (busy, idle) = (since(self.busy, before.busy), since(self.idle, before.idle));
        let all = busy + idle;
        let own = since(self.own, before.own);
        (all >= LEAST * self.cores as u64)
            .then(|| self.cores as f64 * busy.saturating_sub(own) as f64 / all as f64)
    }
}

/// Runs `f`, and tells what other programs leave of the machine meanwhile, if that is less than the threads that compute.
pub fn watching_others<T>(f: impl FnOnce() -> T) -> (T, Option<String>) {
    /// Of a core: what an idle machine does by itself.
    const LITTLE: f64 = 0.3;
    let before = Ticks::now();
    let result = f();
    let note = before.zip(Ticks::now()).and_then(|(before, now)| {
        let others = now.others_since(before)?;
        let (cores, threads) = (now.cores as f64, kernels::threads());
        (others > LITTLE && cores - others < threads as f64 - LITTLE).then(|| {
            format!(
                "other programs keep {others:.1} of {cores} cores busy, which {threads} threads are to compute on: times \
                 and latencies are not those of an idle machine; results are the same"
            )
        })
    });
    (result, note)
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
        started: utc(SystemTime::now(), humantime::format_rfc3339_seconds),
        claim: claim.map(str::to_owned),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("PEFTBENCH_REVISION").map(str::to_owned),
        processor,
        threads: kernels::threads(),
        load: None,
        task: scheduler::task_name(|name| std::env::var(name).ok()),
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
    fn what_others_leave_of_the_machine_is_read_from_two_looks_at_it() {
        let look = |user: u64, idle: u64, own: u64| {
            let machine =
                format!("cpu {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 0 0 0 0\ncpu1 0 0 0 0\nintr 7\n");
            // (The fields behind the name: state, then ten numbers, then the times.)
            let process = format!("12 (a) b) S 0 0 0 0 0 0 0 0 0 0 {own} 0 0 0");
            Ticks::parse(&machine, &process).unwrap()
        };
        let (before, now) = (look(1000, 5000, 70), look(1150, 5050, 120));
        assert_eq!(now.cores, 2);
        // 200 hundredths of two cores: 50 idle, 50 our own, 100 of others, which is one core.
        assert_eq!(now.others_since(before), Some(1.0));
        assert_eq!(before.others_since(before), None);
        assert_eq!(Ticks::parse("", ""), None);
    }

    #[test]
    fn the_locked_version_of_candle_is_the_pinned_one() {
        assert_eq!(libraries()["candle-core"], "0.11.1");
        assert_eq!(libraries().len(), 5);
    }
}
