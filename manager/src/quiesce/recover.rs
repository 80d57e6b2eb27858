//! What a start does for cuts that ended in the middle: it thaws, and runs the commands that come after.

use std::{fs::File, os::unix::fs::MetadataExt, sync::Arc, time::Duration};

use super::{commands, ioctl, mounts};
use crate::{
    Manager, ManagerError,
    catalog::{FrozenPath, Quiescing},
    error::chain,
};

/// How long thawing may take before it is left to itself.
const THAW_WITHIN: Duration = Duration::from_secs(10);
/// How often a command that comes after a cut is tried.
const POST_TRIES: u32 = 10;
/// The first and the longest pause between trials.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Manager {
    /// Thaws at once; the commands run behind, before anything else is done with their volume.
    pub(crate) async fn recover_quiesces(self: &Arc<Self>) -> Result<(), ManagerError> {
        for row in self.catalog.quiescings().await? {
            tracing::warn!(volume_id = %row.volume_id, "a cut of this volume ended in the middle: what it paused goes on");
            let frozen = row.undo.frozen.clone();
            let thawing = tokio::task::spawn_blocking(move || frozen.iter().for_each(thaw));
            // One that hangs keeps its thread, and nobody else.
            let _ = tokio::time::timeout(THAW_WITHIN, thawing).await;
            let manager = self.clone();
            self.tasks
                .spawn(async move { manager.come_after(&row).await });
        }
        Ok(())
    }

    /// Runs what comes after a cut until it is done or the manager stops: something may be paused until then. The row stays as
    /// long, so that the next start goes on.
    async fn come_after(self: &Arc<Self>, row: &Quiescing) {
        let mut left = row.undo.post.clone();
        let mut pause = PAUSE_MIN;
        // A volume that is busy is waited for, however long; a command that fails is not.
        let mut trial = 1;
        loop {
            match self.run_post(row, &mut left, trial).await {
                Ok(true) => return,
                Ok(false) => {
                    trial += 1;
                    tracing::warn!(volume_id = %row.volume_id, pause_seconds = pause.as_secs(), "a command that comes after a cut failed, and is tried again");
                }
                Err(error) => {
                    tracing::warn!(volume_id = %row.volume_id, error = chain(&error), pause_seconds = pause.as_secs(), "what comes after a cut cannot be done yet");
                }
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Runs those of the commands that are left; whether that was the last of it.
    async fn run_post(
        self: &Arc<Self>,
        row: &Quiescing,
        left: &mut Vec<Vec<String>>,
        trial: u32,
    ) -> Result<bool, ManagerError> {
        let _volume = self.hold_volume(&row.volume_id).await?;
        let rows = self.catalog.quiescings().await?;
        if !rows.iter().any(|one| one.snapshot_id == row.snapshot_id) {
            // It was cut again meanwhile, and that ran them.
            return Ok(true);
        }
        let timeout = Duration::from_secs(row.undo.timeout_seconds.max(1));
        let mut failed = Vec::new();
        for argv in std::mem::take(left) {
            if let Err(problem) = commands::run(&argv, &row.undo.environment, timeout).await {
                tracing::warn!(volume_id = %row.volume_id, problem, "a command that comes after a cut failed");
                failed.push(argv);
            }
        }
        *left = failed;
        if !left.is_empty() && trial < POST_TRIES {
            return Ok(false);
        }
        for argv in left {
            tracing::error!(volume_id = %row.volume_id, program = argv.first(), "a command that comes after a cut has failed too often and is not tried again: what it resumes may be paused, and is to be resumed by hand");
        }
        self.catalog.remove_quiescing(&row.snapshot_id).await?;
        Ok(true)
    }
}

/// Thaws a file system that both the manager and its watchdog may have left frozen.
fn thaw(frozen: &FrozenPath) {
    let path = frozen.path.display();
    let is_it = |file: &File| Ok(file.metadata()?.dev() == frozen.device);
    // Unmounted, or something else is mounted there: it cannot be frozen any more.
    let Ok(file) = mounts::open_if(&frozen.path, is_it) else {
        return;
    };
    match ioctl::thaw_if_frozen(&file) {
        Ok(true) => {
            tracing::warn!(mounted_at = %path, "a file system was still frozen, and is thawed")
        }
        Ok(false) => {}
        Err(error) => {
            tracing::error!(mounted_at = %path, %error, "a file system may be frozen and cannot be thawed: fsfreeze -u thaws it");
        }
    }
}
