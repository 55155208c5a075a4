//! `completions` and `man`: what clap's own generators make of the command line.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap_complete::Shell;

use crate::{examples, output};

/// `completions`.
///
/// # Errors
/// If standard output cannot be written.
pub fn completions(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut examples::command(), "peftbench", &mut script);
    print(&script)
}

/// `man`: the page of the program on standard output, or those of all commands in a folder.
///
/// # Errors
/// If it cannot be written.
pub fn man(folder: Option<&Path>) -> Result<ExitCode> {
    let command = examples::command();
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return print(&page);
    };
    let failed = || format!("{}: cannot be written", folder.display());
    fs::create_dir_all(folder).with_context(failed)?;
    clap_mangen::generate_to(command, folder).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn print(bytes: &[u8]) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    output::reader_left(out.write_all(bytes).and_then(|()| out.flush()))?;
    Ok(ExitCode::SUCCESS)
}
