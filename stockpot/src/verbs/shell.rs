//! `stockpot completion` and `stockpot man`: both are made from the command line's own description.

mod page;

use std::{fs, io::Write as _, path::Path};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use crate::{
    cli::{Cli, CompletionArgs, ManArgs, Output, ShellKind},
    context,
};

pub(super) fn completion(args: &CompletionArgs) -> anyhow::Result<()> {
    let shell = match args.shell {
        ShellKind::Bash => Shell::Bash,
        ShellKind::Zsh => Shell::Zsh,
        ShellKind::Fish => Shell::Fish,
        ShellKind::Elvish => Shell::Elvish,
    };
    // Into memory first: a reader that goes away must not end this with a panic.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stockpot", &mut script);
    let written = std::io::stdout().write_all(&script);
    written.context("cannot write to standard output")
}

pub(super) fn man(cli: &Cli, args: &ManArgs) -> anyhow::Result<()> {
    let directory = &args.directory;
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut command = Cli::command();
    command.build();
    let mut written = Vec::new();
    write_pages(&command, directory, &mut written)?;
    let text = || format!("{} pages in {}", written.len(), directory.display());
    match (cli.output, cli.quiet) {
        (Output::Text, true) => Ok(()),
        (output, _) => context::print(output, &written, text),
    }
}

/// A page for the command, and one for each below it that is not hidden.
fn write_pages(
    command: &Command,
    directory: &Path,
    written: &mut Vec<String>,
) -> anyhow::Result<()> {
    let (name, page) = page::render(command)?;
    let path = directory.join(&name);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    written.push(name);
    for verb in command.get_subcommands() {
        // `help` says what every page says.
        if !verb.is_hide_set() && verb.get_name() != "help" {
            write_pages(verb, directory, written)?;
        }
    }
    Ok(())
}
