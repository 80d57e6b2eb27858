//! Ends with exit codes of their own: wrong usage that only shows after the arguments were parsed, and what was done in part.

use std::fmt;

use crate::sizes::human_size;

/// What was wrong with the command line.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl Usage {
    pub(crate) fn new(problem: impl fmt::Display) -> Self {
        Self(problem.to_string())
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Something was done, but not all that was asked for; it ends with exit code 3.
#[derive(Debug)]
pub(crate) struct Incomplete(String);

impl Incomplete {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Incomplete {}

/// Refuses settings that were asked for together with a memory that they do not fit.
pub(crate) fn within_budget(memory_bytes: Option<u64>, needed_bytes: u64) -> anyhow::Result<()> {
    match memory_bytes {
        Some(budget) if needed_bytes > budget => Err(Usage::new(format!(
            "--memory {}: the other options need {}",
            human_size(budget),
            human_size(needed_bytes)
        ))
        .into()),
        _ => Ok(()),
    }
}
