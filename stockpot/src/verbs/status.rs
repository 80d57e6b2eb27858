//! `stockpot status`: a running driver on one screen, asked over its socket.

mod overview;
mod screen;

use std::{
    io::{IsTerminal, Write as _},
    time::Duration,
};

use anyhow::{Context as _, bail};

use self::overview::Overview;
use crate::{
    cli::{Cli, Output, StatusArgs},
    context,
    interrupt::Interrupt,
    printable,
    usage::Usage,
};

const EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(cli: &Cli, args: &StatusArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    if !args.watch {
        let overview = interrupt.unless(overview::gather(&args.socket)).await?;
        context::print(cli.output, &overview, || screen::text(&overview))?;
        return verdict(&overview);
    }
    if cli.output == Output::Json {
        return Err(Usage::new("--watch is for people: -o json tells it once").into());
    }
    let watching = async {
        loop {
            let text = match overview::gather(&args.socket).await {
                Ok(overview) => screen::text(&overview),
                // It may be started again.
                Err(error) => context::chain(&error),
            };
            show(&text).context("cannot write to standard output")?;
            tokio::time::sleep(EVERY).await;
        }
    };
    interrupt.unless(watching).await
}

/// In the place of what was shown before where that can be done, else behind it.
fn show(text: &str) -> std::io::Result<()> {
    const HOME: &str = "\x1b[H";
    const CLEAR_LINE: &str = "\x1b[K";
    const CLEAR_BELOW: &str = "\x1b[J";
    let text = printable::own_lines(text);
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        let lines = text.trim_end().replace('\n', &format!("{CLEAR_LINE}\n"));
        write!(out, "{HOME}{lines}{CLEAR_LINE}\n{CLEAR_BELOW}")?;
    } else {
        writeln!(out, "{}\n", text.trim_end())?;
    }
    out.flush()
}

fn verdict(overview: &Overview) -> anyhow::Result<()> {
    if !overview.ready {
        let why = overview.not_ready_reason.as_deref().unwrap_or("?");
        bail!("the driver is not ready: {why}");
    }
    let silent = overview.pools.iter().filter(|pool| pool.error.is_some());
    match silent.count() {
        0 => Ok(()),
        count => bail!("{count} of {} pools cannot be asked", overview.pools.len()),
    }
}
