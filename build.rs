//! Tells the binary which revision of the source it was built from, and by what code it computes.
use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    process::Command,
};

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What the vector of a text under the frozen backbone depends on, beside the backbone.
const NUMERICS: [&str; 4] = ["kernels/src", "backbone/src", "src/train", "Cargo.lock"];

fn hash(path: &Path, hasher: &mut DefaultHasher) {
    let Ok(entries) = fs::read_dir(path) else {
        path.hash(hasher);
        fs::read(path).unwrap_or_default().hash(hasher);
        return;
    };
    let mut below: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    below.sort();
    for path in below {
        hash(&path, hasher);
    }
}

fn main() {
    if let Some(revision) = git(&["rev-parse", "--short=12", "HEAD"]) {
        let dirty =
            git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
        println!(
            "cargo:rustc-env=PEFTBENCH_REVISION={revision}{}",
            if dirty { "-dirty" } else { "" }
        );
    }
    let mut hasher = DefaultHasher::new();
    for path in NUMERICS {
        hash(Path::new(path), &mut hasher);
    }
    for name in ["TARGET", "OPT_LEVEL", "CARGO_ENCODED_RUSTFLAGS"] {
        env::var(name).unwrap_or_default().hash(&mut hasher);
    }
    println!(
        "cargo:rustc-env=PEFTBENCH_NUMERICS={:016x}",
        hasher.finish()
    );
    // Whatever is compiled in, and the crates that are not in this one's folder.
    for path in ["build.rs", "Cargo.toml", "src"]
        .into_iter()
        .chain(NUMERICS)
    {
        println!("cargo:rerun-if-changed={path}");
    }
}
