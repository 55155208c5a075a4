//! The files of a report.

use std::path::{Path, PathBuf};

use record::write_whole;

use crate::{Result, figures::Plot};

/// The files of a report, each written whole or not at all.
pub(crate) struct Files<'a> {
    folder: &'a Path,
    /// Those that were written.
    pub(crate) paths: Vec<PathBuf>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        let paths = Vec::new();
        Self { folder, paths }
    }

    pub(crate) fn write(&mut self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.folder.join(name);
        write_whole(&path, content.as_ref())?;
        self.paths.push(path);
        Ok(())
    }

    /// Plots in every format, each named after what they are of.
    pub(crate) fn plots(&mut self, of: &str, plots: &[Plot]) -> Result<()> {
        for plot in plots {
            for (ending, content) in plot.files()? {
                self.write(&format!("{of}-{}.{ending}", plot.name), content)?;
            }
        }
        Ok(())
    }
}
