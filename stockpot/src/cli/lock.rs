//! How what a backup writes is locked.

use clap::{Args, ValueEnum};

/// Object Lock of what a backup writes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Object Lock")]
pub(crate) struct LockArgs {
    /// Lock all that the snapshot needs for at least this many days (1 to 36500); the bucket needs Object Lock.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) lock_days: Option<u32>,
    /// How strong the lock is.
    #[arg(long, value_enum, default_value_t = Strength::Compliance, requires = "lock_days")]
    pub(crate) lock_mode: Strength,
}

/// How strong a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strength {
    /// Whoever has a permission of its own for it may end the lock.
    Governance,
    /// Nobody may end it.
    Compliance,
}
