//! Named points at which a test kills the manager. They are there only with the feature `fault-points`; without it nothing of
//! them is built.

/// Every point there is; a test that kills at each of them goes through this list.
#[cfg(feature = "fault-points")]
pub const NAMES: &[&str] = &[
    // A backup.
    "backup.row",
    "backup.snapshot-row",
    "backup.cut",
    "backup.cut-recorded",
    "backup.volume-released",
    "upload.begun",
    "upload.attached",
    "upload.committed",
    "upload.detached",
    "upload.recorded",
    "backup.volume-detached",
    "backup.ended",
    "backup.temporary-removed",
    "backup.cleaned",
    // A restore to a new volume.
    "restore.row",
    "restore.made",
    "restore.attached",
    "restore.filled",
    "restore.detached",
    "restore.recorded",
    // A restore into a volume that is there.
    "in-place.row",
    "in-place.filled",
    "in-place.replaced",
    "in-place.recorded",
    // A deletion of a backup.
    "delete.marked",
    "delete.cloud-removed",
    "delete.local-removed",
    "delete.snapshot-forgotten",
    "delete.backup-forgotten",
];

/// Names the point at which the process kills itself.
#[cfg(feature = "fault-points")]
pub const POINT_VARIABLE: &str = "STOCKPOT_FAULT_POINT";
/// Names the file to which the name of that point is appended before.
#[cfg(feature = "fault-points")]
pub const LOG_VARIABLE: &str = "STOCKPOT_FAULT_LOG";

/// Notes that this point was reached, and kills the process with SIGKILL if it is the one that was asked for.
#[cfg(feature = "fault-points")]
#[expect(
    clippy::disallowed_methods,
    reason = "a test says so to a child process; nothing of this is in what is delivered"
)]
pub(crate) fn reached(name: &'static str) {
    use std::io::Write as _;

    debug_assert!(NAMES.contains(&name), "{name} is on no list");
    let is_asked_for = std::env::var(POINT_VARIABLE).is_ok_and(|asked| asked == name);
    if !is_asked_for {
        return;
    }
    if let Some(path) = std::env::var_os(LOG_VARIABLE) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        // Without the note the test fails, and says which point it waits for.
        let noted = log.and_then(|mut log| writeln!(log, "{name}"));
        if let Err(error) = noted {
            tracing::error!(%error, name, "a fault point cannot be noted");
        }
    }
    let killed = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL);
    if let Err(error) = killed {
        tracing::error!(%error, name, "the process cannot kill itself");
    }
    // The signal comes at once, but maybe to another thread first: this one goes no further.
    loop {
        std::thread::park();
    }
}

/// Nothing.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub(crate) const fn reached(_: &'static str) {}
