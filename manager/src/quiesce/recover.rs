//! What a start does for cuts that ended in the middle: it thaws, stops the command that still runs, and runs those that come after.

use std::{fs::File, os::unix::fs::MetadataExt, sync::Arc, time::Duration};

use stockpot_command::Process;

use super::{commands, ioctl, mounts};
use crate::{
    Manager, ManagerError,
    catalog::{FrozenPath, Quiescing},
    error::chain,
};

/// How long thawing may take before it is left to itself.
const THAW_WITHIN: Duration = Duration::from_secs(10);

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
            self.tasks.spawn(async move {
                if let Err(error) = manager.run_post(&row).await {
                    tracing::error!(volume_id = %row.volume_id, error = chain(&error), "what comes after a cut was not done; the next start tries again");
                }
            });
        }
        Ok(())
    }

    async fn run_post(self: &Arc<Self>, row: &Quiescing) -> Result<(), ManagerError> {
        let _volume = self.hold_volume(&row.volume_id).await?;
        stop_left(row).await;
        let timeout = Duration::from_secs(row.undo.timeout_seconds.max(1));
        for argv in &row.undo.post {
            // Its end stands in the log.
            let note = commands::noted_if_possible(&self.catalog, row);
            let _ = commands::run(argv, &row.undo.environment, timeout, Some(note)).await;
        }
        Ok(self.catalog.remove_quiescing(&row.snapshot_id).await?)
    }
}

/// Stops a command that has outlived the manager: what it does after the commands that undo it would stay.
async fn stop_left(row: &Quiescing) {
    let noted = row.undo.running.as_deref();
    let Some(process) = noted.and_then(|text| text.parse::<Process>().ok()) else {
        return;
    };
    if !process.is_running() {
        return;
    }
    tracing::warn!(volume_id = %row.volume_id, %process, "a command of a cut has outlived the daemon, and is stopped before those that come after it");
    if !process.stop().await {
        tracing::error!(volume_id = %row.volume_id, %process, "a command of a cut was killed and does not end: it waits for a device");
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
