//! What helps with the command line itself: completion and manual pages.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `stockpot completion`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot completion bash > /usr/share/bash-completion/completions/stockpot
  stockpot completion zsh > /usr/share/zsh/vendor-completions/_stockpot
  stockpot completion fish > /usr/share/fish/vendor_completions.d/stockpot.fish
  source <(stockpot completion bash)")]
pub(crate) struct CompletionArgs {
    /// Which shell.
    #[arg(value_enum)]
    pub(crate) shell: ShellKind,
}

/// Shells whose completion can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellKind {
    /// Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
    /// Elvish.
    Elvish,
}

/// `stockpot man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stockpot man /usr/local/share/man/man1 && mandb -q
  stockpot man . && man ./stockpot-backup.1")]
pub(crate) struct ManArgs {
    /// Directory to write them to; it is made where it is not there, and pages of ours in it are replaced.
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}
