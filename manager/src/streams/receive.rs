//! A volume from whoever sends it: made, filled, checked, flushed, detached; available only then, by the same transaction that ends
//! its stream.
//!
//! A volume that is there already is not touched before all has come: what comes lies in a spare volume until then (`replace`).

use std::{path::PathBuf, sync::Arc};

use stockpot_driver::{AccessMode, VolumeId};
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::{
    RepositoryError,
    device::{Target, TargetOptions},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    StreamError, Watcher,
    format::{self, DATA_SIZE_MAX, FormatError, HEADER_SIZE, Piece},
    note_done,
    peer::{Connection, Peer},
    pipe::{HowFar, In, pipe_in},
    replace::Replaced,
};
use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{
        JobKind, Purpose, StreamDirection, StreamRow, StreamStatus, VolumeRow, VolumeSource,
        VolumeStatus,
    },
    error::chain,
    ids,
    joined::joined,
    locks::{self, Held},
    manager::now_us,
    request,
    transfers::Entry,
};

/// One that is on record.
struct Begun {
    peer: Peer,
    row: StreamRow,
    entry: Entry,
    /// What is asked for.
    size_bytes: u64,
    pool: String,
    /// The volume whose content is replaced.
    into: Option<VolumeRow>,
    /// Of the name of the new volume, or of the one that is there: nobody gets at it meanwhile.
    held: Held,
    /// Of all streams that may be.
    place: OwnedSemaphorePermit,
}

impl Manager {
    /// Refuses what can be refused, writes the row, and goes on behind as long as somebody listens.
    pub(crate) async fn receive_volume(
        self: Arc<Self>,
        request: api::ReceiveVolumeRequest,
        watcher: Watcher,
    ) -> Result<(), ManagerError> {
        let begun = self.begin_receiving(request).await?;
        let manager = self.clone();
        let span = tracing::info_span!(parent: None, "receive", stream_id = begun.row.id, volume_id = %begun.row.volume_id);
        self.tasks
            .spawn(async move { manager.run_receiving(begun, watcher).await }.instrument(span));
        Ok(())
    }

    async fn begin_receiving(
        self: &Arc<Self>,
        request: api::ReceiveVolumeRequest,
    ) -> Result<Begun, ManagerError> {
        request::check_metadata(&request.metadata)?;
        let peer = Peer::find(&request.source, &self.config.streams).await?;
        let (held, into, pool, volume) = if request.into_volume_id.is_empty() {
            request::check_name(&request.name)?;
            let pool = self.pool_of(&request.pool)?.to_owned();
            let name = locks::Subject::VolumeName(request.name.clone());
            let held = self.locks.hold(name).await?;
            if let Some(there) = self.catalog.volume_by_name(&request.name).await? {
                return Err(ManagerError::AlreadyExists {
                    what: format!("volume {} named {:?}", there.id, there.name),
                    difference: "content",
                });
            }
            (
                held,
                None,
                pool,
                (ids::new_volume_id(&self.node), request.name),
            )
        } else {
            let (held, row) = self.replaceable(&request.into_volume_id).await?;
            let volume = (row.id.clone(), row.name.clone());
            (held, Some(row.clone()), row.pool, volume)
        };
        let key = (JobKind::Restore, volume.0.to_string());
        let Some(entry) = self.transfers.begin(key, &self.stopping).await else {
            return Err(ManagerError::Busy(format!(
                "volume {} is being filled: ask again",
                volume.0
            )));
        };
        let place = self.transfers.stream_place()?;
        let row = StreamRow {
            id: ids::new_stream_id(&self.node),
            direction: StreamDirection::Receive,
            status: StreamStatus::Running,
            snapshot_id: None,
            spare_volume_id: into.is_some().then(|| ids::new_volume_id(&self.node)),
            volume_id: volume.0,
            volume_name: volume.1,
            peer: peer.name().to_owned(),
            bytes_done: 0,
            bytes_total: 0,
            failure: None,
            metadata: request.metadata.into_iter().collect(),
            created_at_us: now_us(),
            ended_at_us: None,
        };
        self.catalog.put_stream(row.clone()).await?;
        Ok(Begun {
            peer,
            row,
            entry,
            size_bytes: request.size_bytes,
            pool,
            into,
            held,
            place,
        })
    }

    async fn run_receiving(self: &Arc<Self>, begun: Begun, watcher: Watcher) {
        let cancel = begun.entry.cancel_token().clone();
        let far = HowFar::default();
        let work = self.receive_all(&begun, &far, &cancel);
        let received = self
            .watched(&begun.row, &far, &watcher, &cancel, work)
            .await;
        let Begun {
            mut row,
            entry,
            into,
            held,
            place,
            ..
        } = begun;
        let (row, outcome) = match (received, &into) {
            (Ok(row), None) => (row, Ok(())),
            (Ok(row), Some(into)) => match self.replace(&row, into).await {
                Replaced::Done(row) => (row, Ok(())),
                Replaced::Refused(row, error) => (row, Err(error)),
                Replaced::Stopped => {
                    let stopping = ManagerError::NotReady("the manager is stopping".to_owned());
                    let _ = watcher.send(Err(stopping.into())).await;
                    return;
                }
            },
            (Err(error), _) => {
                far.note(&mut row);
                if let Some(spare) = &row.spare_volume_id
                    && let Err(error) = self.remove_spare(spare).await
                {
                    // Its row names it until the next start.
                    tracing::error!(volume_id = %spare, error = chain(&error), "what a stream left cannot be removed yet; the next start tries again");
                    let _ = watcher.send(Err(error.into())).await;
                    return;
                }
                entry.ending();
                drop(place);
                self.end_stream(row, Err(error), Some(&watcher)).await;
                return drop((entry, held));
            }
        };
        entry.ending();
        drop(place);
        self.tell_end(&row, outcome, Some(&watcher)).await;
        drop((entry, held));
    }

    /// Receives into a volume that is made for it, and that is available at the end. The stream as it is on record then.
    async fn receive_all(
        &self,
        begun: &Begun,
        far: &HowFar,
        cancel: &CancellationToken,
    ) -> Result<StreamRow, ManagerError> {
        let connecting = async {
            let turn = self.transfers.stream_turn(StreamDirection::Receive).await;
            let mut connection = begun.peer.connect().await?;
            let header = begun.peer.within(header(&mut connection)).await?;
            Ok::<_, ManagerError>((turn, connection, header))
        };
        let (_turn, connection, header) = tokio::select! {
            () = cancel.cancelled() => return Err(ManagerError::Cancelled),
            connected = connecting => connected?,
        };
        let sent_bytes = format::read_header(&header).map_err(|error| told(&begun.peer, error))?;
        far.known(sent_bytes);
        let row = self.row_to_fill(begun, sent_bytes).await?;
        self.make_room(&row.pool).await;
        self.catalog.insert_volume(row.clone()).await?;
        self.notify();
        let filled = self
            .make_and_fill(&row, begun, connection, (header, sent_bytes), far, cancel)
            .await;
        let settled = match filled {
            Ok(size_bytes) => self.settle(begun, far, size_bytes).await,
            Err(error) => Err(error),
        };
        if settled.is_err() {
            self.unmake_received(&row.id).await;
        }
        settled
    }

    /// Records that all has come: the stream is done, or from here on carried to its end, whoever listens and whatever happens.
    async fn settle(
        &self,
        begun: &Begun,
        far: &HowFar,
        size_bytes: u64,
    ) -> Result<StreamRow, ManagerError> {
        let mut row = begun.row.clone();
        far.note(&mut row);
        let recorded = match row.spare_volume_id.clone() {
            Some(spare) => {
                row.status = StreamStatus::Replacing;
                let recorded = self
                    .catalog
                    .stream_replaces(row.clone(), &spare, size_bytes);
                recorded.await?
            }
            None => {
                note_done(&mut row);
                self.catalog.stream_made(row.clone(), size_bytes).await?
            }
        };
        match recorded {
            true => Ok(row),
            // The volume is being deleted.
            false => Err(ManagerError::Cancelled),
        }
    }

    /// What is written before anything is made.
    async fn row_to_fill(&self, begun: &Begun, sent_bytes: u64) -> Result<VolumeRow, ManagerError> {
        let stream = &begun.row;
        let asked = begun
            .into
            .as_ref()
            .map_or(begun.size_bytes, |into| into.size_bytes);
        if asked != 0 && asked < sent_bytes {
            return Err(ManagerError::OutOfRange(format!(
                "{} sends {sent_bytes} bytes, more than the {asked} that the volume has",
                begun.peer.name()
            )));
        }
        // A spare one is as large as the one whose place it takes.
        let wanted = asked.max(sent_bytes);
        let granularity = self
            .driver(&begun.pool)?
            .capacity()
            .await?
            .granularity_bytes;
        let (id, name) = match &stream.spare_volume_id {
            Some(spare) => (spare.clone(), stream.id.clone()),
            None => (stream.volume_id.clone(), stream.volume_name.clone()),
        };
        Ok(VolumeRow {
            id,
            name,
            size_bytes: request::fit_size(wanted, 0, granularity)?,
            pool: begun.pool.clone(),
            status: VolumeStatus::Creating,
            previous_status: None,
            source: VolumeSource::Empty,
            metadata: stream.metadata.clone(),
            error: None,
            error_reported: false,
            created_at_us: now_us(),
        })
    }

    async fn make_and_fill(
        &self,
        row: &VolumeRow,
        begun: &Begun,
        connection: Connection<'_>,
        (header, sent_bytes): ([u8; HEADER_SIZE], u64),
        far: &HowFar,
        cancel: &CancellationToken,
    ) -> Result<u64, ManagerError> {
        let driver = self.driver(&row.pool)?;
        let make = || driver.create_volume(&row.id, row.size_bytes);
        let made = self.with_room(&row.pool, make).await?;
        let subject = Subject::Volume(row.id.clone(), AccessMode::ReadWrite);
        let device = self.attach(&row.pool, &subject, Purpose::Transfer).await?;
        let filling = Filling {
            path: device.path,
            size_bytes: sent_bytes,
            header,
            far: far.clone(),
        };
        let filled = fill(connection, filling, &begun.peer, cancel).await;
        let detached = self.detach(&subject).await;
        filled?;
        detached?;
        Ok(made.size_bytes)
    }

    /// Removes a volume that is not complete, unless somebody deletes it already.
    async fn unmake_received(&self, id: &VolumeId) {
        let removing = async {
            match self.catalog.volume(id).await? {
                Some(row) if row.status == VolumeStatus::Creating => self.unmake(&row).await,
                _ => Ok(()),
            }
        };
        if let Err(error) = removing.await {
            tracing::warn!(volume_id = %id, error = chain(&error), "a volume that was not received completely could not be removed yet; the next start does it");
        }
    }
}

/// What is needed to fill a device.
struct Filling {
    path: PathBuf,
    size_bytes: u64,
    header: [u8; HEADER_SIZE],
    far: HowFar,
}

async fn header(connection: &mut Connection<'_>) -> Result<[u8; HEADER_SIZE], ManagerError> {
    let mut header = [0; HEADER_SIZE];
    let mut have = 0;
    while have < HEADER_SIZE {
        match connection.receive(&mut header[have..]).await? {
            0 => {
                let why = "it ends before it has begun".to_owned();
                return Err(StreamError::Damaged(why).into());
            }
            len => have += len,
        }
    }
    Ok(header)
}

async fn fill(
    mut connection: Connection<'_>,
    filling: Filling,
    peer: &Peer,
    cancel: &CancellationToken,
) -> Result<(), ManagerError> {
    let (sender, source) = pipe_in();
    // It ends as soon as nothing more comes; the device is detached only after that.
    let writing = tokio::task::spawn_blocking(move || write_all(filling, source));
    let received = tokio::select! {
        () = cancel.cancelled() => Err(ManagerError::Cancelled),
        received = pass_on(&mut connection, sender) => received.map_err(ManagerError::from),
    };
    let written = joined(writing).await?;
    match (received, written) {
        // What broke off the reading is why the rest is missing.
        (Err(error), Err(Filled::Format(_))) | (Err(error), Ok(_)) => Err(error),
        (_, Err(Filled::Format(error))) => Err(told(peer, error)),
        (_, Err(Filled::Device(error))) => Err(error.into()),
        (Ok(()), Ok(target)) => {
            let finishing = tokio::task::spawn_blocking(move || target.finish());
            let finished = joined(finishing).await?;
            Ok(finished.map_err(RepositoryError::from)?)
        }
    }
}

/// Passes on what comes, until the end or until nobody takes it.
async fn pass_on(
    connection: &mut Connection<'_>,
    sender: mpsc::Sender<Vec<u8>>,
) -> Result<(), StreamError> {
    loop {
        let mut bytes = vec![0; DATA_SIZE_MAX / 4];
        let len = connection.receive(&mut bytes).await?;
        bytes.truncate(len);
        if len == 0 || sender.send(bytes).await.is_err() {
            return Ok(());
        }
    }
}

/// Why a device was not filled.
enum Filled {
    Format(FormatError),
    Device(RepositoryError),
}

impl From<FormatError> for Filled {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

/// Writes a content to a device that reads as zeroes. It is not flushed yet.
fn write_all(filling: Filling, source: In) -> Result<Target, Filled> {
    let device = |error| Filled::Device(RepositoryError::from(error));
    let options = TargetOptions {
        force: false,
        zeroed: true,
    };
    let target = Target::open(filling.path, filling.size_bytes, options).map_err(device)?;
    format::read_content(&filling.header, source, |piece| {
        let reached = match piece {
            Piece::Data(at, bytes) => {
                target.write_at(at, bytes).map_err(device)?;
                at + bytes.len() as u64
            }
            Piece::Hole(at, len) => {
                target.zero(at..at + len).map_err(device)?;
                at + len
            }
        };
        filling.far.reached(reached);
        Ok::<_, Filled>(())
    })?;
    Ok(target)
}

fn told(peer: &Peer, error: FormatError) -> ManagerError {
    let address = || peer.name().to_owned();
    match error {
        FormatError::Read(source) => StreamError::Broken {
            address: address(),
            source,
        },
        FormatError::Foreign(why) => StreamError::Foreign {
            address: address(),
            why,
        },
        FormatError::Damaged(why) => StreamError::Damaged(why),
    }
    .into()
}
