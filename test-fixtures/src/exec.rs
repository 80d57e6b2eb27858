//! Commands that this crate's synchronous parts run: they clean up in `drop`, where nothing can be awaited.

#![expect(
    clippy::disallowed_methods,
    reason = "the project's command module is asynchronous; drop is not"
)]

use std::process::{Command, Stdio};

/// A command that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started.
    #[error("cannot run {command}")]
    Start {
        /// The program and its arguments.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It failed, or was ended after a minute (exit code 124).
    #[error("{command} failed ({status}): {stderr}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// What it wrote to stderr, trimmed.
        stderr: String,
    },
}

/// Runs a command to its end, for a minute at most, and gives its stdout.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, ExecError> {
    let command = || format!("{program} {}", arguments.join(" "));
    let output = Command::new("timeout")
        .args(["--kill-after=5", "60", program])
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ExecError::Start {
            command: command(),
            source,
        })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ExecError::Failed {
            command: command(),
            status: output.status,
            stderr,
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_failure() {
        assert_eq!(run("echo", &["a", "b"]).unwrap(), "a b\n");
        let error = run("sh", &["-c", "echo why >&2; exit 3"]).unwrap_err();
        assert!(
            matches!(&error, ExecError::Failed { stderr, .. } if stderr == "why"),
            "{error}"
        );
    }
}
