//! How much schedules do at the same time.

use serde::Deserialize;

use super::ConfigError;

/// More would only wait for the uploads.
const MAX: usize = 1000;

/// How many backups of schedules run at the same time. Those that people ask for are not counted, and never wait.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// On this node.
    pub backups_max: usize,
    /// From this node to one repository.
    pub per_repository_max: usize,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            backups_max: 4,
            per_repository_max: 4,
        }
    }
}

impl ScheduleConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("backupsMax", self.backups_max),
            ("perRepositoryMax", self.per_repository_max),
        ] {
            if !(1..=MAX).contains(&value) {
                return Err(ConfigError {
                    field: format!("schedules.{field}"),
                    problem: format!("{value} is not from 1 to {MAX}"),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_by_name() {
        let read = |text: &str| serde_saphyr::from_str::<ScheduleConfig>(text).unwrap();
        read("{backupsMax: 8}").check().unwrap();
        for wrong in ["backupsMax: 0", "perRepositoryMax: 1001"] {
            let error = read(wrong).check().unwrap_err().to_string();
            let field = wrong.split(':').next().unwrap();
            assert!(
                error.starts_with(&format!("schedules.{field}: ")),
                "{error}"
            );
        }
    }
}
