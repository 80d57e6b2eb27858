//! The commands that a profile names for before and after the cut.

use std::{collections::BTreeMap, io, time::Duration};

use futures::future::BoxFuture;
use stockpot_command::{Command, CommandError, Exit, Process};

use super::words;
use crate::{
    catalog::{Catalog, Quiescing},
    error::chain,
};

/// How a command went: whether well, and in words.
pub(super) type Went = Result<String, String>;

/// Writes down which process a command is, before anything of it runs.
pub(super) type Note = Box<dyn FnOnce(Process) -> BoxFuture<'static, io::Result<()>> + Send>;

/// With the row of the cut: a start that finds it stops that process before it runs what comes after.
pub(super) fn noted_in(catalog: &Catalog, row: &Quiescing) -> Note {
    let (catalog, mut row) = (catalog.clone(), row.clone());
    Box::new(|process| {
        Box::pin(async move {
            row.undo.running = Some(process.to_string());
            let noted = catalog.put_quiescing(row).await;
            noted.map_err(|error| io::Error::other(chain(&error)))
        })
    })
}

/// The same for a command that has to run in any case.
pub(super) fn noted_if_possible(catalog: &Catalog, row: &Quiescing) -> Note {
    let note = noted_in(catalog, row);
    Box::new(|process| {
        Box::pin(async move {
            if let Err(error) = note(process).await {
                tracing::warn!(%error, "a command that comes after a cut runs without being on record");
            }
            Ok(())
        })
    })
}

/// Runs a command without a shell; what it printed at the end, or why it failed.
pub(super) async fn run(
    argv: &[String],
    environment: &BTreeMap<String, String>,
    timeout: Duration,
    note: Option<Note>,
) -> Went {
    let Some((program, args)) = argv.split_first() else {
        return Err("an empty command".to_owned());
    };
    let name = words::shortened(program);
    let mut command = Command::new(program).args(args).deadline(timeout);
    for (key, value) in environment {
        command = command.env(key, value);
    }
    if let Some(note) = note {
        command = command.noted_by(note);
    }
    let went = match command.output().await {
        Ok(output) => {
            let said = words::last_lines(&[&output.stdout_text(), &output.stderr]);
            match output.exit {
                Exit::Code(0) if said.is_empty() => Ok(format!("{name} is done")),
                Exit::Code(0) => Ok(format!("{name} said: {said}")),
                exit if said.is_empty() => Err(format!("{name} failed ({exit})")),
                exit => Err(format!("{name} failed ({exit}): {said}")),
            }
        }
        // Its arguments are in the error, and are nobody's business here.
        Err(CommandError::Deadline { stderr, .. }) => {
            let (seconds, said) = (timeout.as_secs_f32(), words::last_lines(&[&stderr]));
            let colon = if said.is_empty() { "" } else { ": " };
            Err(format!(
                "{name} did not end within {seconds} s{colon}{said}"
            ))
        }
        Err(CommandError::Missing { .. }) => Err(format!("{name} was not found")),
        Err(CommandError::TooMuchOutput { limit_bytes, .. }) => {
            Err(format!("{name} printed more than {limit_bytes} bytes"))
        }
        Err(CommandError::Start { source, .. } | CommandError::Wait { source, .. }) => {
            Err(format!("{name} could not be run: {source}"))
        }
        Err(CommandError::Failed { exit, .. }) => Err(format!("{name} failed ({exit})")),
    };
    match &went {
        Ok(said) => tracing::info!("{said}"),
        Err(problem) => tracing::warn!("{problem}"),
    }
    went
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, timeout: Duration) -> Went {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        let environment = BTreeMap::from([("STOCKPOT_DEVICE".to_owned(), "/dev/x y".to_owned())]);
        run(&argv, &environment, timeout, None).await
    }

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn what_it_says_last_is_told_safely() {
        let said = shell("seq 100000; printf '%s\\033[2J' \"$STOCKPOT_DEVICE\"", LONG)
            .await
            .unwrap();
        assert!(said.contains("/dev/x y"), "{said}");
        assert!(!said.contains('\u{1b}') && said.len() < 500, "{said}");
        assert_eq!(shell("exit 0", LONG).await.unwrap(), "/bin/sh is done");
        let failed = shell("echo no room >&2; exit 7", LONG).await.unwrap_err();
        assert_eq!(failed, "/bin/sh failed (exit code 7): no room");
    }

    #[tokio::test]
    async fn it_is_bounded_and_its_arguments_are_not_told() {
        let slow = shell(
            "echo begun >&2; sleep 60 # hunter2",
            Duration::from_millis(300),
        )
        .await;
        let slow = slow.unwrap_err();
        assert!(
            slow.contains("did not end within") && slow.contains("begun"),
            "{slow}"
        );
        assert!(!slow.contains("hunter2"), "{slow}");
        let nowhere = ["/nowhere/x".to_owned()];
        let missing = run(&nowhere, &BTreeMap::new(), LONG, None).await;
        assert!(missing.unwrap_err().contains("/nowhere/x"));
    }
}
