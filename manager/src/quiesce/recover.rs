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
        let timeout = Duration::from_secs(row.undo.timeout_seconds.max(1));
        for argv in &row.undo.post {
            // Its end stands in the log.
            let _ = commands::run(argv, &row.undo.environment, timeout).await;
        }
        Ok(self.catalog.remove_quiescing(&row.snapshot_id).await?)
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
