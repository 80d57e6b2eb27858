//! A volume gets what a spare one holds. The spare one is complete and stays until that is done, so it can be begun anew at
//! any moment; nobody gets at the volume before, since its turn is held all the time, also over a restart. Nor does anybody get at
//! the spare one, which goes only when it is on record that its content is in the volume.

use std::{path::PathBuf, sync::Arc, time::Duration};

use stockpot_driver::{AccessMode, VolumeId};
use stockpot_repository::{
    RepositoryError,
    device::{AlignedBuffer, Source, SourceOptions, Target, TargetOptions},
};
use tracing::Instrument;

use super::{StreamError, format::DATA_SIZE_MAX};
use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{CopyState, Purpose, StreamRow, StreamStatus, VolumeRow, VolumeStatus},
    error::chain,
    locks::Held,
};

/// First pause after a failure; it doubles up to the other one.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// How replacing came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaced {
    /// It is all there, and the spare volume is gone.
    Done,
    /// The manager stops; the next start goes on.
    Stopped,
    /// The spare volume went before its content was in the other one.
    Lost,
}

/// How it is told that a spare volume is lost.
pub(super) fn lost() -> ManagerError {
    let why = "it is gone, and was not in its volume yet".to_owned();
    StreamError::Damaged(why).into()
}

impl Manager {
    /// A volume whose content may be replaced, and its turn.
    pub(super) async fn replaceable(&self, id: &str) -> Result<(Held, VolumeRow), ManagerError> {
        let row = self.volume_row(id).await?;
        let held = self.hold_volume(&row.id).await?;
        // It may have changed while its turn was waited for.
        let row = self.volume_row(id).await?;
        let refused = |why: &str| {
            Err(ManagerError::FailedPrecondition(format!(
                "the content of volume {id} cannot be replaced: {why}"
            )))
        };
        if row.status != VolumeStatus::Available {
            return refused(&format!("it is {}, not available", row.status));
        }
        if let Some(user) = self.driver(&row.pool)?.volume_in_use(&row.id).await? {
            return refused(&format!("it is in use ({user})"));
        }
        // Their storage would keep the old volume, and a later delta would be told against the wrong one.
        let snapshots = self.catalog.snapshots().await?;
        let has_snapshot = snapshots.iter().any(|snapshot| {
            snapshot.volume_id == row.id
                && !snapshot.kept_as_base
                && matches!(snapshot.local, CopyState::Present | CopyState::Pending)
        });
        if has_snapshot {
            return refused("it has local snapshots; delete them first");
        }
        Ok((held, row))
    }

    /// Puts what the spare volume of a stream holds into another one, however often that has to be begun. The caller holds the
    /// volume.
    pub(super) async fn replace(&self, stream: &mut StreamRow, into: &VolumeRow) -> Replaced {
        let mut pause = PAUSE_FIRST;
        loop {
            // What is begun is brought to its end within a stop, too, where that is quick.
            match self.replace_once(stream, into).await {
                Ok(how) => return how,
                Err(error) => {
                    tracing::error!(stream_id = stream.id, volume_id = %into.id, pause_seconds = pause.as_secs(), error = chain(&error), "what was received cannot be put into its volume yet; nobody gets at the volume before");
                }
            }
            tokio::select! {
                () = self.stopping.cancelled() => return Replaced::Stopped,
                () = tokio::time::sleep(pause) => {}
            }
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    async fn replace_once(
        &self,
        stream: &mut StreamRow,
        into: &VolumeRow,
    ) -> Result<Replaced, ManagerError> {
        let Some(spare) = stream.spare_volume_id.clone() else {
            return Err(ManagerError::Internal(format!(
                "stream {} has no spare volume",
                stream.id
            )));
        };
        if self.stopping.is_cancelled() {
            return Err(ManagerError::Cancelled);
        }
        // The content that came is in the volume from there on: nothing is begun anew any more.
        if stream.status == StreamStatus::Replaced {
            return self.remove_replaced(stream, &spare).await;
        }
        let Some(spare) = self.catalog.volume(&spare).await? else {
            return Ok(Replaced::Lost);
        };
        if spare.status != VolumeStatus::Available {
            return Err(ManagerError::FailedPrecondition(format!(
                "volume {}, in which it was received, is {}",
                spare.id, spare.status
            )));
        }
        self.give_back_bases_of(&into.id, "its content is replaced")
            .await?;
        let (from, to) = (
            Subject::Volume(spare.id.clone(), AccessMode::ReadOnly),
            Subject::Volume(into.id.clone(), AccessMode::ReadWrite),
        );
        self.detach(&to).await?;
        let driver = self.driver(&into.pool)?;
        driver.delete_volume(&into.id).await?;
        driver.name_is(into.id.as_str(), &into.name);
        let make = || driver.create_volume(&into.id, into.size_bytes);
        self.with_room(&into.pool, make).await?;
        let source = self.attach(&spare.pool, &from, Purpose::Transfer).await?;
        let copied = match self.attach(&into.pool, &to, Purpose::Transfer).await {
            Ok(target) => {
                // A device may be larger than what was received; that is zeroes.
                let size_bytes = stream.bytes_total;
                let copied = self.copied(source.path, target.path, size_bytes).await;
                let detached = self.detach(&to).await;
                copied.and(detached)
            }
            Err(error) => Err(error),
        };
        let detached = self.detach(&from).await;
        copied.and(detached)?;
        stream.status = StreamStatus::Replaced;
        self.remove_replaced(stream, &spare.id).await
    }

    /// Removes the spare volume whose content is in the other one. On record first: without that, one that is gone is lost.
    async fn remove_replaced(
        &self,
        stream: &StreamRow,
        spare: &VolumeId,
    ) -> Result<Replaced, ManagerError> {
        self.catalog.put_stream(stream.clone()).await?;
        self.remove_spare(spare).await?;
        Ok(Replaced::Done)
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

    async fn copied(
        &self,
        from: PathBuf,
        to: PathBuf,
        size_bytes: u64,
    ) -> Result<(), ManagerError> {
        let stopping = self.stopping.clone();
        let copying = tokio::task::spawn_blocking(move || {
            copy(from, to, size_bytes, &|| stopping.is_cancelled())
        });
        let copied = copying.await;
        copied.map_err(|error| ManagerError::Internal(error.to_string()))?
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
        mut row: StreamRow,
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
        match self.replace(&mut row, &into).await {
            Replaced::Done => self.end_stream(row, Ok(()), None).await,
            Replaced::Lost => self.end_stream(row, Err(lost()), None).await,
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

/// From a device to one that reads as zeroes.
fn copy(
    from: PathBuf,
    to: PathBuf,
    size_bytes: u64,
    is_stopped: &dyn Fn() -> bool,
) -> Result<(), ManagerError> {
    let failed = RepositoryError::from;
    let source = Source::open(from, SourceOptions::default()).map_err(failed)?;
    let options = TargetOptions {
        force: false,
        zeroed: true,
    };
    let target = Target::open(to, size_bytes, options).map_err(failed)?;
    let mut buffer = AlignedBuffer::new(DATA_SIZE_MAX);
    let mut at = 0;
    while let Some(data) = source.next_data(at).map_err(failed)? {
        if data.start >= size_bytes {
            break;
        }
        if is_stopped() {
            return Err(ManagerError::Cancelled);
        }
        let end = data.end.min(size_bytes);
        let len = (end - data.start).min(DATA_SIZE_MAX as u64);
        let piece = &mut buffer[..usize::try_from(len).expect("at most a piece")];
        source.read_at(data.start, piece).map_err(failed)?;
        target.write_at(data.start, piece).map_err(failed)?;
        at = data.start + len;
    }
    target.finish().map_err(failed)?;
    Ok(())
}
