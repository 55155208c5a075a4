//! Who makes a run: one process at a time, whatever processes and machines share the folder.
//!
//! A claim is a file `<id>.claim` beside the records. It is made with `O_EXCL`, so one process gets it, and says host,
//! process and a nonce. While the owner works it appends a byte now and then: a claim is alive while it grows. An owner
//! on this machine is asked for directly (is the process there?); one on another machine counts as gone when its claim
//! has not grown for [`PATIENCE`] by the watcher's own monotonic clock. No two clocks are ever compared. What is gone is
//! renamed away, which only one process can do, and claimed anew.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// How often an owner shows that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);
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
}

impl Owner {
    fn this() -> Self {
        let pid = std::process::id();
        Self {
            host: host(),
            pid,
            begun: begun(pid),
            nonce: nonce(),
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

/// A random name that nobody else has.
pub fn nonce() -> String {
    // Every state has keys of its own, drawn from the system's randomness.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
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
    /// Dropped, it ends the heartbeat.
    _beating: Sender<()>,
}

impl Claim {
    /// The claim's nonce: the record of the run carries it.
    pub fn nonce(&self) -> &str {
        &self.owner.nonce
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
#[derive(Default)]
pub struct Claims {
    /// Length of a claim when it was last seen to grow, and when that was.
    seen: HashMap<PathBuf, (u64, Instant)>,
}

impl Claims {
    /// Claims a run, taking over from an owner that is gone.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn claim(&mut self, folder: &Path, id: &str) -> Result<Claimed> {
        let path = folder.join(format!("{id}.claim"));
        let at = || format!("{}: cannot claim the run", path.display());
        fs::create_dir_all(folder).with_context(at)?;
        loop {
            match create(&path) {
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
        let now = Instant::now();
        let last = self
            .seen
            .entry(path.to_owned())
            .or_insert((seen.bytes, now));
        if last.0 != seen.bytes {
            *last = (seen.bytes, now);
        }
        now.duration_since(last.1) >= PATIENCE
    }
}

/// Who is making a run, if somebody is. A claim of another machine is taken at its word.
pub fn owner(folder: &Path, id: &str) -> Option<Owner> {
    let owner = read(&folder.join(format!("{id}.claim")))?.owner?;
    (owner.runs() != Some(false)).then_some(owner)
}

/// A claim file as it was read.
struct Seen {
    /// Absent while it is being written.
    owner: Option<Owner>,
    bytes: u64,
}

/// Reads a claim; `None` where there is none.
fn read(path: &Path) -> Option<Seen> {
    let bytes = fs::read(path).ok()?;
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    Some(Seen {
        owner: serde_json::from_slice(line).ok(),
        bytes: bytes.len() as u64,
    })
}

fn create(path: &Path) -> io::Result<Claim> {
    let mut file = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path)?;
    let owner = Owner::this();
    let mut line = serde_json::to_vec(&owner)?;
    line.push(b'\n');
    let written = file.write_all(&line).and_then(|()| file.sync_data());
    if let Err(e) = written {
        fs::remove_file(path).ok();
        return Err(e);
    }
    Ok(Claim {
        path: path.to_owned(),
        owner,
        _beating: beat(file),
    })
}

/// Lets a claim grow until the sender is dropped.
fn beat(mut file: File) -> Sender<()> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        while receiver.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            // What cannot be written now may be so the next time.
            let _ = file.write_all(b".").and_then(|()| file.sync_data());
        }
    });
    sender
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
        let mut owner = Owner::this();
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
            ..Owner::this()
        };
        write_owner(folder.path(), &owner);
        let path = folder.path().join("run.claim");
        let mut claims = Claims::default();
        let held = |claims: &mut Claims| matches!(claims.claim(folder.path(), "run").unwrap(), Claimed::Other(o) if o == owner);
        assert!(held(&mut claims));
        let long_ago = |claims: &mut Claims| {
            let past = Instant::now().checked_sub(PATIENCE).unwrap();
            claims.seen.get_mut(&path).unwrap().1 = past;
        };
        // It has grown meanwhile.
        long_ago(&mut claims);
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b".")
            .unwrap();
        assert!(held(&mut claims));
        // It has not.
        long_ago(&mut claims);
        own(claims.claim(folder.path(), "run").unwrap());
    }

    #[test]
    fn a_live_claim_that_was_renamed_away_by_mistake_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let claim = own(Claims::default().claim(folder.path(), "run").unwrap());
        let gone = Seen {
            owner: Some(Owner::this()),
            bytes: 1,
        };
        take_away(&claim.path, &gone).unwrap();
        assert_eq!(read(&claim.path).unwrap().owner.unwrap(), claim.owner);
    }
}
