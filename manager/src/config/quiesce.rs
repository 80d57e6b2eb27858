//! How file systems are frozen around a cut.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::ConfigError;

/// How file systems are frozen around a cut.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct QuiesceConfig {
    /// How long they may be frozen before a process of its own thaws them, in seconds, 1 to 60.
    pub deadline_seconds: u64,
    /// The program that is started with `quiesce-watchdog` to freeze and to thaw; this one without.
    pub watchdog: PathBuf,
}

impl Default for QuiesceConfig {
    fn default() -> Self {
        Self {
            deadline_seconds: 10,
            watchdog: Path::new("/proc/self/exe").to_owned(),
        }
    }
}

impl QuiesceConfig {
    /// How long they may be frozen.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline_seconds)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field: &str, problem: String| {
            Err(ConfigError {
                field: format!("quiesce.{field}"),
                problem,
            })
        };
        if !(1..=60).contains(&self.deadline_seconds) {
            let problem = format!("{} is not from 1 to 60", self.deadline_seconds);
            return wrong("deadlineSeconds", problem);
        }
        if !self.watchdog.is_absolute() {
            let problem = format!("{} is not absolute", self.watchdog.display());
            return wrong("watchdog", problem);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        assert!(QuiesceConfig::default().check().is_ok());
        for (text, named) in [
            ("deadlineSeconds: 0", "quiesce.deadlineSeconds: 0 is"),
            ("deadlineSeconds: 61", "quiesce.deadlineSeconds: 61 is"),
            ("watchdog: stockpot", "quiesce.watchdog: stockpot is"),
        ] {
            let config: QuiesceConfig = serde_saphyr::from_str(text).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
