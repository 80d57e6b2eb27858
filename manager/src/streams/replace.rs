//! What was received takes the place of what a volume has: the spare volume that holds it is complete, and the storage lets it be
//! the other one in one step, whole or not at all. The volume is `Restoring` from when that is begun to its end, and its turn is
//! held all the time, also over a restart: nobody gets at it, nor at the spare one. The step can be asked for again at any moment;
//! where the storage refuses it, the volume keeps what it has.

use std::{sync::Arc, time::Duration};

use stockpot_driver::{AccessMode, DriverError, VolumeId};
use tracing::Instrument;

use super::{note_done, note_failure};
use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{CopyState, StreamRow, VolumeRow, VolumeStatus},
    error::chain,
    locks::Held,
};

/// First pause after a failure; it doubles up to the other one.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often the storage may refuse: a device may be held for a moment by what looks at it.
const REFUSALS_MAX: u32 = 4;

/// How replacing came to its end, and what is on record of that.
#[derive(Debug)]
pub(super) enum Replaced {
    /// The volume has it, and the spare one is gone.
    Done(StreamRow),
    /// The volume has what it had, and the spare one is gone.
    Refused(StreamRow, ManagerError),
    /// The manager stops; the next start goes on.
    Stopped,
}

/// What the storage said.
enum Step {
    Done(StreamRow),
    /// It was not done, and will not be done behind.
    Refused(DriverError),
}

impl Manager {
    /// A volume whose content may be replaced, and its turn.
    pub(super) async fn replaceable(&self, id: &str) -> Result<(Held, VolumeRow), ManagerError> {
        let row = self.volume_row(id).await?;
        let held = self.hold_volume(&row.id).await?;
        // It may have changed while its turn was waited for.
        let row = self.volume_row(id).await?;
        self.refuse_spare(&row.id).await?;
        // They are of a content that the sender does not know.
        let snapshots = self.catalog.snapshots().await?;
        let has_snapshot = snapshots.iter().any(|snapshot| {
            snapshot.volume_id == row.id
                && !snapshot.kept_as_base
                && matches!(snapshot.local, CopyState::Present | CopyState::Pending)
        });
        if has_snapshot {
            return Err(ManagerError::FailedPrecondition(format!(
                "the content of volume {id} cannot be replaced: it has local snapshots; delete them first"
            )));
        }
        self.check_in_place(&row).await?;
        Ok((held, row))
    }

    /// Lets the spare volume of a stream take the place of another one, however often that has to be asked for. The caller holds the
    /// volume.
    pub(super) async fn replace(&self, stream: &StreamRow, into: &VolumeRow) -> Replaced {
        let (mut pause, mut refusals) = (PAUSE_FIRST, 0);
        loop {
            // What is begun is brought to its end within a stop, too: it is quick.
            let error = match self.replace_once(stream, into).await {
                Ok(Step::Done(row)) => return Replaced::Done(row),
                Ok(Step::Refused(error)) if refusals + 1 < REFUSALS_MAX => {
                    refusals += 1;
                    error.into()
                }
                Ok(Step::Refused(error)) => {
                    match self.give_up_replacing(stream, into, error.into()).await {
                        Ok((row, error)) => return Replaced::Refused(row, error),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            tracing::error!(stream_id = stream.id, volume_id = %into.id, pause_seconds = pause.as_secs(), error = chain(&error), "what was received cannot take the place of what its volume has yet; nobody gets at the volume before");
            tokio::select! {
                () = self.stopping.cancelled() => return Replaced::Stopped,
                () = tokio::time::sleep(pause) => {}
            }
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    async fn replace_once(
        &self,
        stream: &StreamRow,
        into: &VolumeRow,
    ) -> Result<Step, ManagerError> {
        let spare = spare_of(stream)?;
        self.detach(&Subject::Volume(spare.clone(), AccessMode::ReadWrite))
            .await?;
        let driver = self.driver(&into.pool)?;
        match driver.replace_volume(&into.id, spare).await {
            Ok(info) => {
                let mut row = stream.clone();
                note_done(&mut row);
                let recorded = self
                    .catalog
                    .stream_replaced(row.clone(), spare, info.size_bytes);
                recorded.await?;
                Ok(Step::Done(row))
            }
            Err(error) if error.may_go_on() => Err(error.into()),
            Err(error @ DriverError::NotFound { .. }) => Ok(Step::Refused(error)),
            // What went wrong may have come after the step.
            Err(error) => match driver.volume(spare).await? {
                Some(_) => Ok(Step::Refused(error)),
                None => Err(error.into()),
            },
        }
    }

    /// Removes what was received: the volume has what it had. Unless that is gone: what was received stays, as a volume of its own.
    async fn give_up_replacing(
        &self,
        stream: &StreamRow,
        into: &VolumeRow,
        error: ManagerError,
    ) -> Result<(StreamRow, ManagerError), ManagerError> {
        let spare = spare_of(stream)?;
        let error = if self.driver(&into.pool)?.volume(&into.id).await?.is_some() {
            self.remove_spare(spare).await?;
            error
        } else {
            ManagerError::NotFound(format!(
                "volume {} in its storage; what was received for it is volume {spare} now",
                into.id
            ))
        };
        let mut row = stream.clone();
        note_failure(&mut row, &error);
        self.catalog.stream_not_replaced(row.clone()).await?;
        Ok((row, error))
    }

    /// Refuses what would change or take away a volume whose content is to replace that of another one.
    pub(crate) async fn refuse_spare(&self, id: &VolumeId) -> Result<(), ManagerError> {
        match self.catalog.spare_volumes().await?.contains(id) {
            false => Ok(()),
            true => Err(ManagerError::FailedPrecondition(format!(
                "volume {id} holds what a stream receives for another volume, until that is done"
            ))),
        }
    }

    /// Removes a spare volume, if it is there.
    pub(super) async fn remove_spare(&self, id: &VolumeId) -> Result<(), ManagerError> {
        let _held = self.hold_volume(id).await?;
        match self.catalog.volume(id).await? {
            Some(row) if row.status == VolumeStatus::Creating => {
                self.detach(&Subject::Volume(id.clone(), AccessMode::ReadWrite))
                    .await?;
                self.unmake(&row).await
            }
            Some(row) => self.delete_on_record(&row).await,
            None => Ok(()),
        }
    }

    /// Goes on with what an earlier run had begun. The volume is held before anybody can ask for it, if it can be.
    pub(super) async fn replace_again(self: &Arc<Self>, row: StreamRow) {
        let found = self.volume_to_replace(&row).await;
        let manager = self.clone();
        let span = tracing::info_span!(parent: None, "replace", stream_id = row.id, volume_id = %row.volume_id);
        let work = async move { manager.go_on_replacing(row, found).await };
        self.tasks.spawn(work.instrument(span));
    }

    async fn volume_to_replace(&self, row: &StreamRow) -> Result<(Held, VolumeRow), ManagerError> {
        let held = self.hold_volume(&row.volume_id).await?;
        Ok((held, self.volume_row(row.volume_id.as_str()).await?))
    }

    async fn go_on_replacing(
        &self,
        row: StreamRow,
        mut found: Result<(Held, VolumeRow), ManagerError>,
    ) {
        let mut pause = PAUSE_FIRST;
        let (held, into) = loop {
            match found {
                Ok(found) => break found,
                Err(error @ ManagerError::NotFound(_)) => {
                    return self.replace_nothing(row, error).await;
                }
                // What was received may be the only copy: it stays until the volume can be had.
                Err(error) => {
                    tracing::error!(stream_id = row.id, volume_id = %row.volume_id, pause_seconds = pause.as_secs(), error = chain(&error), "the volume of what was received cannot be had yet");
                }
            }
            tokio::select! {
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = PAUSE_MAX.min(pause * 2);
            found = self.volume_to_replace(&row).await;
        };
        match self.replace(&row, &into).await {
            Replaced::Done(row) => self.tell_end(&row, Ok(()), None).await,
            Replaced::Refused(row, error) => self.tell_end(&row, Err(error), None).await,
            Replaced::Stopped => {}
        }
        drop(held);
    }

    /// Removes what was received for a volume that is not there any more.
    async fn replace_nothing(&self, row: StreamRow, error: ManagerError) {
        tracing::error!(
            stream_id = row.id,
            error = chain(&error),
            "the volume of what was received is not there any more"
        );
        if let Some(spare) = &row.spare_volume_id
            && let Err(error) = self.remove_spare(spare).await
        {
            tracing::error!(volume_id = %spare, error = chain(&error), "what was received cannot be removed");
            return;
        }
        self.end_stream(row, Err(error), None).await;
    }
}

fn spare_of(stream: &StreamRow) -> Result<&VolumeId, ManagerError> {
    let spare = stream.spare_volume_id.as_ref();
    spare.ok_or_else(|| ManagerError::Internal(format!("stream {} has no spare volume", stream.id)))
}
