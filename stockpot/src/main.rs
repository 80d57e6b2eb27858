//! Snapshots of block devices to S3 and back: the one binary that wires the parts together.
//!
//! `backup`, `restore`, `snapshots`, `verify`, `forget` and `prune` need no daemon and call the repository in-process; `serve` runs the
//! manager and its frontends; the other verbs ask a running one over its socket.

// Both would panic where nothing can be written.
#![warn(clippy::print_stderr, clippy::print_stdout)]

#[macro_use]
mod stderr;

mod changed;
mod cli;
mod config;
mod context;
mod history;
mod interrupt;
mod limits;
mod pick;
mod printable;
mod progress;
mod repository;
mod secret_file;
mod signature;
mod sizes;
mod table;
mod usage;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::Cli;

/// What the process ends with when it was interrupted, as shells expect of SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let given = cli::folded::folded(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&given).unwrap_or_else(|error| error.exit());
    if matches!(cli.verb, cli::Verb::QuiesceWatchdog) {
        // Before there is a second thread, or anything else that could wait for a frozen file system.
        stockpot_manager::quiesce::watchdog();
        return ExitCode::SUCCESS;
    }
    context::start_logging(&cli);
    // Before any key is read: whoever gets at a core file would have it.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "core files are not kept from being written: after a crash one may hold keys");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("starting the runtime")),
    };
    let interrupt = interrupt::Interrupt::new(&cli.verb);
    let outcome = runtime.block_on(async {
        interrupt.listen();
        verbs::run(cli, &interrupt).await
    });
    // Whatever still runs on the blocking pool has nothing left to say.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt.happened() => {
            remark!("stockpot: interrupted");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => fail(&error),
    }
}

/// What the process ends with when the arguments cannot be meant.
const EXIT_USAGE: u8 = 2;

/// What the process ends with when a volume was restored without what is damaged.
const EXIT_INCOMPLETE: u8 = 3;

/// Prints the whole chain of an error once, without repeating a text that its source already said.
fn fail(error: &anyhow::Error) -> ExitCode {
    remark!("stockpot: {}", context::chain(error));
    if error.is::<usage::Usage>() {
        return ExitCode::from(EXIT_USAGE);
    }
    if error.is::<usage::Incomplete>() {
        return ExitCode::from(EXIT_INCOMPLETE);
    }
    ExitCode::FAILURE
}
