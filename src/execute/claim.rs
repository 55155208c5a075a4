//! Who makes a run: one process at a time, whatever processes and machines share the folder.
//!
//! A claim is a file `<id>.claim` beside the records. It is made with `O_EXCL`, so one process gets it, and says host,
//! process and a nonce. While the owner works it appends a line now and then with how far it is: a claim is alive while it
//! grows. An owner on this machine is asked for directly (is the process there?); one on another machine counts as gone
//! when its claim has not grown for [`PATIENCE`] by the watcher's own monotonic clock. No two clocks are ever compared.
//! What is gone is renamed away, which only one process can do, and claimed anew.
//!
//! This needs of a file system that creating a name that is there fails and that renaming is whole, on all machines: local
//! ones and NFS from version 3 on do it. No lock is taken.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use record::store;
use serde::{Deserialize, Serialize};

use crate::{folders::nonce, scheduler, train::trainer::Event};

/// How often an owner shows that it is there.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a claim of another machine may stand still.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Who claimed a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The machine, with what tells a boot and a container from another.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// When the process began, in ticks since the machine's boot: process numbers are used again.
    pub begun: Option<u64>,
    /// Names this claim.
    pub nonce: String,
    /// The scheduler's name of the task, as in a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

impl Owner {
    /// This process, on a machine that goes by this name.
    fn on(host: &str) -> Self {
        let pid = std::process::id();
        Self {
            host: host.to_owned(),
            pid,
            begun: begun(pid),
            nonce: nonce(),
            task: scheduler::task_name(|name| std::env::var(name).ok()),
        }
    }

    /// Whether the process still runs; `None` where that cannot be told from here.
    fn runs(&self) -> Option<bool> {
        if self.host != host() {
            return None;
        }
        match (self.begun, begun(self.pid)) {
            (Some(then), Some(now)) => Some(then == now),
            (Some(_), None) => Some(false),
            (None, _) => None,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.host.split(' ').next().unwrap_or_default();
        write!(f, "process {} on {host}", self.pid)
    }
}

/// How far the owner of a claim is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Since the claim was made, by the owner's clock.
    pub seconds: f64,
    /// Optimiser steps done; 0 before the first.
    pub step: usize,
    /// All steps; 0 before the first.
    pub steps: usize,
    /// Examples trained on per second.
    pub examples_per_second: f64,
}

/// The machine's name, its boot and the process namespace, where the system tells.
fn host() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let name = read("/proc/sys/kernel/hostname");
    let boot = read("/proc/sys/kernel/random/boot_id");
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let name = match name.trim() {
        "" => std::env::var("HOSTNAME").unwrap_or_else(|_| "unknown".to_owned()),
        name => name.replace(' ', "-"),
    };
    format!("{name} {} {}", boot.trim(), namespace.display())
        .trim()
        .to_owned()
}

/// When a process began, in ticks since boot (Linux); `None` for one that is not there or has ended.
fn begun(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ended = matches!(*fields.first()?, "Z" | "X");
    fields.get(19)?.parse().ok().filter(|_| !ended)
}

/// A claim of this process; it is given back when dropped.
pub struct Claim {
    path: PathBuf,
    owner: Owner,
    /// How far the run is, for the next heartbeat.
    at: Arc<Mutex<Beat>>,
    /// Dropped, it ends the heartbeat.
    _beating: Option<Sender<()>>,
}

impl Claim {
    /// The claim's nonce: the record of the run carries it.
    pub fn nonce(&self) -> &str {
        &self.owner.nonce
    }

    /// How far the run is; the next heartbeat says it.
    pub fn tell(&self, event: &Event) {
        if let Event::Step {
            step,
            steps,
            examples_per_second,
            ..
        } = *event
        {
            let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
            (at.step, at.steps, at.examples_per_second) = (step, steps, examples_per_second);
        }
    }

    /// Where the claim stands.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // One that was taken over belongs to another.
        if read(&self.path).is_some_and(|seen| seen.owner.as_ref() == Some(&self.owner)) {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// What trying to claim gave.
pub enum Claimed {
    /// This process makes the run.
    Own(Claim),
    /// Another one does.
    Other(Owner),
}

/// Claims of a folder, with what was seen of those of others.
pub struct Claims {
    /// This machine.
    host: String,
    clock: Box<dyn Fn() -> Duration + Send>,
    /// Whether claims show by themselves that they are alive.
    beats: bool,
    /// Owner and length of a claim when it was last seen to be another or to grow, and when that was. A claim that somebody has taken over
    /// can be as long as the one before.
    seen: HashMap<PathBuf, (Option<Owner>, u64, Duration)>,
}

impl Default for Claims {
    fn default() -> Self {
        let begun = Instant::now();
        Self {
            beats: true,
            ..Self::simulated(host(), move || begun.elapsed())
        }
    }
}

impl Claims {
    /// Of a machine of this name with a clock of its own, for simulations; heartbeats are [`beat`]s.
    pub fn simulated(host: String, clock: impl Fn() -> Duration + Send + 'static) -> Self {
        Self {
            host,
            clock: Box::new(clock),
            beats: false,
            seen: HashMap::new(),
        }
    }

    /// The same for a run that has no whole record; `None` where it has one.
    ///
    /// # Errors
    /// If the folder cannot be written, or a record has another format.
    pub fn take(&mut self, folder: &Path, id: &str) -> Result<Option<Claimed>> {
        if store::is_whole(folder, id)? {
            return Ok(None);
        }
        let claimed = self.claim(folder, id)?;
        // It may have been made between the look and the claim.
        let made = matches!(claimed, Claimed::Own(_)) && store::is_whole(folder, id)?;
        Ok((!made).then_some(claimed))
    }

    /// Claims a run, whether it has a record or not, taking over from an owner that is gone.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn claim(&mut self, folder: &Path, id: &str) -> Result<Claimed> {
        let path = folder.join(format!("{id}.claim"));
        let at = || {
            format!(
                "{}: cannot claim the run; free some space, or choose another folder with --out",
                path.display()
            )
        };
        fs::create_dir_all(folder).with_context(at)?;
        loop {
            match create(&path, &self.host, self.beats) {
                Ok(claim) => return Ok(Claimed::Own(claim)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).with_context(at),
            }
            // Given back in the meantime: try again.
            let Some(seen) = read(&path) else { continue };
            if !self.is_gone(&path, &seen) {
                return Ok(Claimed::Other(seen.owner.unwrap_or_else(|| Owner {
                    host: "an unknown machine".into(),
                    pid: 0,
                    begun: None,
                    nonce: String::new(),
                    task: None,
                })));
            }
            take_away(&path, &seen).with_context(at)?;
        }
    }

    /// Whether a claim's owner is gone, by what is seen now and was seen before.
    fn is_gone(&mut self, path: &Path, seen: &Seen) -> bool {
        if let Some(runs) = seen.owner.as_ref().and_then(Owner::runs) {
            return !runs;
        }
        let now = (self.clock)();
        let last = self
            .seen
            .entry(path.to_owned())
            .or_insert_with(|| (seen.owner.clone(), seen.bytes, now));
        if (&last.0, last.1) != (&seen.owner, seen.bytes) {
            *last = (seen.owner.clone(), seen.bytes, now);
        }
        now.saturating_sub(last.2) >= PATIENCE
    }
}

/// A claim as it is seen from outside.
pub struct Watched {
    /// Who claimed the run.
    pub owner: Owner,
    /// How far it is, by its last heartbeat.
    pub beat: Beat,
    /// Whether the owner is known to be gone.
    pub gone: bool,
    /// Bytes of the claim: it grows while its owner lives.
    pub bytes: u64,
    /// When it was last written, by the clock of the folder's file system.
    pub written: Option<SystemTime>,
}

/// The claim of a run, if there is one. A claim of another machine is taken at its word.
pub fn watch(folder: &Path, id: &str) -> Option<Watched> {
    let path = folder.join(format!("{id}.claim"));
    let seen = read(&path)?;
    let owner = seen.owner?;
    Some(Watched {
        gone: owner.runs() == Some(false),
        owner,
        beat: seen.beat,
        bytes: seen.bytes,
        written: fs::metadata(&path).and_then(|m| m.modified()).ok(),
    })
}

/// A claim file as it was read.
struct Seen {
    /// Absent while it is being written.
    owner: Option<Owner>,
    /// The last one that is whole.
    beat: Beat,
    bytes: u64,
}

/// Reads a claim; `None` where there is none.
fn read(path: &Path) -> Option<Seen> {
    let bytes = record::files::read(path).ok()?;
    let mut lines = bytes.split(|b| *b == b'\n');
    let owner = lines.next().unwrap_or_default();
    let beat = lines
        .rev()
        .find_map(|line| serde_json::from_slice(line).ok());
    Some(Seen {
        owner: serde_json::from_slice(owner).ok(),
        beat: beat.unwrap_or_default(),
        bytes: bytes.len() as u64,
    })
}

fn create(path: &Path, host: &str, beats: bool) -> io::Result<Claim> {
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path)?;
    let owner = Owner::on(host);
    let at = Arc::new(Mutex::new(Beat::default()));
    let written = append(&mut file, &owner);
    if let Err(e) = written {
        fs::remove_file(path).ok();
        return Err(e);
    }
    Ok(Claim {
        path: path.to_owned(),
        owner,
        _beating: beats.then(|| keep_beating(file, Arc::clone(&at))),
        at,
    })
}

fn append(file: &mut File, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()
}

/// Lets a claim grow until the sender is dropped.
fn keep_beating(mut file: File, at: Arc<Mutex<Beat>>) -> Sender<()> {
    let (sender, receiver) = channel();
    let begun = Instant::now();
    thread::spawn(move || {
        while receiver.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            let at = *at.lock().unwrap_or_else(PoisonError::into_inner);
            let seconds = begun.elapsed().as_secs_f64();
            // What cannot be written now may be so the next time.
            append(&mut file, &Beat { seconds, ..at }).ok();
        }
    });
    sender
}

/// One heartbeat of a simulated claim.
///
/// # Errors
/// If the claim cannot be written.
pub fn beat(claim: &Claim, beat: Beat) -> io::Result<()> {
    append(
        &mut OpenOptions::new().append(true).open(&claim.path)?,
        &beat,
    )
}

/// Removes the claim of an owner that is gone. Renaming is what only one process can do; if what was renamed is not the
/// claim that was seen (somebody else has taken over meanwhile), it is put back.
fn take_away(path: &Path, gone: &Seen) -> io::Result<()> {
    let aside = path.with_extension(format!("claim-{}", nonce()));
    match fs::rename(path, &aside) {
        Ok(()) => {}
        // Somebody else was faster.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    if read(&aside).is_some_and(|seen| seen.owner != gone.owner) {
        // Fails where the name is taken again; then its owner works on.
        fs::hard_link(&aside, path).ok();
    }
    fs::remove_file(&aside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn own(claimed: Claimed) -> Claim {
        match claimed {
            Claimed::Own(claim) => claim,
            Claimed::Other(owner) => panic!("held by {owner}"),
        }
    }

    fn write_owner(folder: &Path, owner: &Owner) {
        let text = serde_json::to_string(owner).unwrap() + "\n";
        fs::write(folder.join("run.claim"), text).unwrap();
    }

    #[test]
    fn one_of_many_gets_a_claim_and_it_is_free_again_when_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let got: Vec<Claimed> = thread::scope(|scope| {
            let tries: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| Claims::default().claim(folder.path(), "run").unwrap()))
                .collect();
            tries.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let owned = got.iter().filter(|c| matches!(c, Claimed::Own(_))).count();
        assert_eq!(owned, 1);
        drop(got);
        own(Claims::default().claim(folder.path(), "run").unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_claim_of_a_process_that_has_ended_is_taken_over_at_once() {
        let folder = tempfile::tempdir().unwrap();
        // This process's number, but begun at another time: the number was used again.
        let mut owner = Owner::on(&host());
        owner.begun = owner.begun.map(|b| b - 1);
        write_owner(folder.path(), &owner);
        let claim = own(Claims::default().claim(folder.path(), "run").unwrap());
        assert_ne!(claim.nonce(), owner.nonce);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_claim_of_another_machine_is_taken_over_only_when_it_has_stood_still_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner {
            host: "elsewhere".into(),
            ..Owner::on(&host())
        };
        write_owner(folder.path(), &owner);
        let path = folder.path().join("run.claim");
        let now = Arc::new(Mutex::new(Duration::ZERO));
        let clock = Arc::clone(&now);
        let mut claims = Claims::simulated(host(), move || *clock.lock().unwrap());
        let held = |claims: &mut Claims| matches!(claims.claim(folder.path(), "run").unwrap(), Claimed::Other(o) if o == owner);
        assert!(held(&mut claims));
        *now.lock().unwrap() += PATIENCE;
        // It has grown meanwhile.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b".").unwrap();
        assert!(held(&mut claims));
        *now.lock().unwrap() += PATIENCE - Duration::from_secs(1);
        assert!(held(&mut claims));
        // It has not.
        *now.lock().unwrap() += Duration::from_secs(1);
        own(claims.claim(folder.path(), "run").unwrap());
    }

    #[test]
    fn a_claim_that_was_taken_over_meanwhile_is_watched_anew_even_if_it_is_as_long_as_the_one_before()
     {
        let folder = tempfile::tempdir().unwrap();
        let of = |nonce: &str| Owner {
            host: "elsewhere".into(),
            nonce: nonce.into(),
            ..Owner::on(&host())
        };
        let now = Arc::new(Mutex::new(Duration::ZERO));
        let clock = Arc::clone(&now);
        let mut claims = Claims::simulated(host(), move || *clock.lock().unwrap());
        let mut held = || {
            let claimed = claims.claim(folder.path(), "run").unwrap();
            matches!(claimed, Claimed::Other(_))
        };
        write_owner(folder.path(), &of("0000000000000001"));
        assert!(held());
        *now.lock().unwrap() += PATIENCE;
        write_owner(folder.path(), &of("0000000000000002"));
        assert!(held());
        *now.lock().unwrap() += PATIENCE;
        assert!(!held());
    }

    #[test]
    fn clocks_of_machines_that_are_hours_apart_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner {
            host: "elsewhere".into(),
            ..Owner::on(&host())
        };
        let hour = Duration::from_secs(3600);
        // The owner's clock, which the file bears, and the watcher's.
        for (written, begun) in [
            (SystemTime::now() + 5 * hour, Duration::ZERO),
            (SystemTime::now() - 5 * hour, 90 * hour),
        ] {
            write_owner(folder.path(), &owner);
            let path = folder.path().join("run.claim");
            let file = OpenOptions::new().append(true).open(path).unwrap();
            file.set_modified(written).unwrap();
            let now = Arc::new(Mutex::new(begun));
            let clock = Arc::clone(&now);
            let mut claims = Claims::simulated(host(), move || *clock.lock().unwrap());
            let mut try_it = || claims.claim(folder.path(), "run").unwrap();
            assert!(matches!(try_it(), Claimed::Other(_)));
            *now.lock().unwrap() += PATIENCE - Duration::from_secs(1);
            assert!(matches!(try_it(), Claimed::Other(_)));
            *now.lock().unwrap() += Duration::from_secs(1);
            drop(own(try_it()));
        }
    }

    #[test]
    fn a_claim_tells_how_far_its_run_is_by_its_last_whole_heartbeat() {
        let folder = tempfile::tempdir().unwrap();
        let mut claims = Claims::simulated("node7".into(), || Duration::ZERO);
        let claim = own(claims.claim(folder.path(), "run").unwrap());
        assert_eq!(watch(folder.path(), "run").unwrap().beat, Beat::default());
        let at = Beat {
            seconds: 61.5,
            step: 40,
            steps: 500,
            examples_per_second: 412.0,
        };
        beat(&claim, at).unwrap();
        let mut file = OpenOptions::new().append(true).open(claim.path()).unwrap();
        file.write_all(b"{\"seconds\": 7").unwrap();
        let seen = watch(folder.path(), "run").unwrap();
        assert_eq!((seen.beat, seen.gone), (at, false));
        assert_eq!(seen.owner.host, "node7");
    }

    #[test]
    fn a_run_that_has_a_whole_record_is_not_claimed() {
        let folder = tempfile::tempdir().unwrap();
        let record = crate::sample::Sample::new("lora").record();
        let take = || Claims::default().take(folder.path(), &record.id).unwrap();
        drop(own(take().unwrap()));
        store::write(folder.path(), &record).unwrap();
        assert!(take().is_none());
        assert!(!folder.path().join(format!("{}.claim", record.id)).exists());
    }

    #[test]
    fn a_live_claim_that_was_renamed_away_by_mistake_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let claim = own(Claims::default().claim(folder.path(), "run").unwrap());
        let gone = Seen {
            owner: Some(Owner::on(&host())),
            beat: Beat::default(),
            bytes: 1,
        };
        take_away(&claim.path, &gone).unwrap();
        assert_eq!(read(&claim.path).unwrap().owner.unwrap(), claim.owner);
    }
}
