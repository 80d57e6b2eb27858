//! What every verb needs: logging, and printing results and errors.

use std::io::IsTerminal;

use anyhow::Context as _;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::{
    cli::{Cli, Output, Verb},
    printable,
};

/// Starts logging on standard error. `RUST_LOG` overrides the command line's `-v`.
pub(crate) fn start_logging(cli: &Cli) {
    let serving = matches!(cli.verb, Verb::Serve(_));
    let default = match (cli.verbose, serving) {
        // What a result depends on is in the result, or said besides.
        (0, false) if cli.quiet => "error",
        (0, false) => "warn",
        // The AWS libraries name access keys at INFO.
        (0, true) => "info,aws_config=warn,aws_sdk_s3=warn,aws_smithy_runtime=warn",
        (1, _) => {
            "warn,stockpot=debug,stockpot_repository=debug,stockpot_manager=debug,stockpot_driver=debug,\
                   stockpot_connector=debug,stockpot_csi=debug,stockpot_command=debug,stockpot_gateway=debug,audit=info"
        }
        (_, _) => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would say so on standard error too, and panic there.
        .log_internal_errors(false);
    if serving {
        builder.init();
    } else {
        builder.without_time().with_target(false).init();
    }
}

/// An error with its sources in one line, safe to print.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for part in error.chain().map(ToString::to_string) {
        // SDK errors often say the same at two levels.
        if text.ends_with(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    printable::lines(&text)
}

/// Prints a result: `text` for people, `value` for programs.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn print<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    write_out(output, value, text).context("cannot write to standard output")
}

fn write_out<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, value)?;
            writeln!(out)?;
        }
        Output::Text => {
            let text = printable::own_lines(&text());
            if !text.is_empty() {
                writeln!(out, "{}", text.trim_end())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_said_once() {
        let error = anyhow::anyhow!("no route")
            .context("connecting")
            .context("sending part 3");
        assert_eq!(chain(&error), "sending part 3: connecting: no route");
        let twice = anyhow::anyhow!("no route").context("no route");
        assert_eq!(chain(&twice), "no route");
        let foreign = anyhow::anyhow!("no \u{1b}[31mroute");
        assert_eq!(chain(&foreign), "no \\u{1b}[31mroute");
    }
}
