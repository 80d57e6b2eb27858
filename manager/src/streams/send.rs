//! A snapshot to whoever waits for it: attached read-only like any volume, read, sent, detached.

use std::{io, path::PathBuf, sync::Arc};

use stockpot_driver::ByteRange;
use stockpot_proto::stockpot::v1 as api;
use stockpot_repository::{
    RepositoryError,
    device::{AlignedBuffer, Source, SourceOptions},
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Watcher,
    format::{DATA_SIZE_MAX, Encoder},
    peer::{Connection, Peer},
    pipe::{HowFar, Out, pipe},
};
use crate::{
    Manager, ManagerError,
    attach::Subject,
    catalog::{CopyState, JobKind, Purpose, SnapshotRow, StreamDirection, StreamRow, StreamStatus},
    error::chain,
    ids,
    joined::joined,
    manager::now_us,
    request,
    transfers::Entry,
};

/// One that is on record.
struct Begun {
    peer: Peer,
    snapshot: SnapshotRow,
    row: StreamRow,
    entry: Entry,
    /// Of all streams that may be.
    place: OwnedSemaphorePermit,
}

impl Manager {
    /// Refuses what can be refused, writes the row, and goes on behind as long as somebody listens.
    pub(crate) async fn send_snapshot(
        self: Arc<Self>,
        request: api::SendSnapshotRequest,
        watcher: Watcher,
    ) -> Result<(), ManagerError> {
        let begun = self.begin_sending(request).await?;
        let manager = self.clone();
        let span = tracing::info_span!(parent: None, "send", stream_id = begun.row.id, snapshot_id = %begun.snapshot.id);
        self.tasks
            .spawn(async move { manager.run_sending(begun, watcher).await }.instrument(span));
        Ok(())
    }

    async fn begin_sending(
        self: &Arc<Self>,
        request: api::SendSnapshotRequest,
    ) -> Result<Begun, ManagerError> {
        request::check_metadata(&request.metadata)?;
        let peer = Peer::find(&request.destination, &self.config.streams).await?;
        let absent = || ManagerError::NotFound(format!("snapshot {:?}", request.snapshot_id));
        let id = request.snapshot_id.parse().map_err(|_| absent())?;
        // Nobody deletes it before it is seen to be read.
        let _held = self.hold_snapshot(&id).await?;
        let snapshot = self.catalog.snapshot(&id).await?.ok_or_else(absent)?;
        if snapshot.local != CopyState::Present || snapshot.deleting.is_some() {
            return Err(ManagerError::FailedPrecondition(format!(
                "snapshot {id} has no local copy that could be sent"
            )));
        }
        // Both would attach it, and who ends first takes the device from the other.
        self.check_not_being_read(&id).await?;
        let key = (JobKind::Upload, id.to_string());
        let Some(entry) = self.transfers.begin(key, &self.stopping).await else {
            return Err(ManagerError::FailedPrecondition(format!(
                "snapshot {id} is being uploaded or sent already"
            )));
        };
        let place = self.transfers.stream_place()?;
        let row = StreamRow {
            id: ids::new_stream_id(&self.node),
            direction: StreamDirection::Send,
            status: StreamStatus::Running,
            snapshot_id: Some(id),
            volume_id: snapshot.volume_id.clone(),
            volume_name: snapshot.volume_name.clone(),
            spare_volume_id: None,
            peer: peer.name().to_owned(),
            bytes_done: 0,
            bytes_total: snapshot.size_bytes.unwrap_or_default(),
            failure: None,
            metadata: request.metadata.into_iter().collect(),
            created_at_us: now_us(),
            ended_at_us: None,
        };
        self.catalog.put_stream(row.clone()).await?;
        Ok(Begun {
            peer,
            snapshot,
            row,
            entry,
            place,
        })
    }

    async fn run_sending(&self, begun: Begun, watcher: Watcher) {
        let Begun {
            peer,
            snapshot,
            row,
            entry,
            place,
        } = begun;
        let cancel = entry.cancel_token().clone();
        let far = HowFar::of(row.bytes_total);
        let work = self.send_to(&peer, &snapshot, &far, &cancel);
        let outcome = self.watched(&row, &far, &watcher, &cancel, work).await;
        entry.ending();
        drop(place);
        let mut row = row;
        far.note(&mut row);
        self.end_stream(row, outcome, Some(&watcher)).await;
        drop(entry);
    }

    async fn send_to(
        &self,
        peer: &Peer,
        snapshot: &SnapshotRow,
        far: &HowFar,
        cancel: &CancellationToken,
    ) -> Result<(), ManagerError> {
        let connecting = async {
            let turn = self.transfers.stream_turn(StreamDirection::Send).await;
            Ok::<_, ManagerError>((turn, peer.connect().await?))
        };
        let (_turn, mut connection) = tokio::select! {
            () = cancel.cancelled() => return Err(ManagerError::Cancelled),
            connected = connecting => connected?,
        };
        let driver = self.driver(&snapshot.pool)?;
        driver.check_snapshot(&snapshot.id).await?;
        let ranges = driver.allocated_ranges(&snapshot.id).await;
        let ranges = ranges.unwrap_or_else(|error| {
            tracing::warn!(
                error = chain(&error),
                "the storage cannot say where data is; all is read"
            );
            None
        });
        let subject = Subject::Snapshot(snapshot.id.clone());
        let device = self.attach(&snapshot.pool, &subject, Purpose::Transfer);
        let device = device.await?;
        let sent = send_content(&mut connection, device.path, ranges, far, cancel).await;
        if let Err(error) = self.detach(&subject).await {
            tracing::error!(
                error = chain(&error),
                "the snapshot stays attached; the next start tries again"
            );
        }
        // Reads of a void snapshot may fail, or worse: only one that lasted is brought to its end.
        driver.check_snapshot(&snapshot.id).await?;
        connection.send(&sent?).await?;
        Ok(connection.close().await?)
    }
}

/// Sends all but the end, which is returned.
async fn send_content(
    connection: &mut Connection<'_>,
    path: PathBuf,
    ranges: Option<Vec<ByteRange>>,
    far: &HowFar,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, ManagerError> {
    let (out, mut frames) = pipe();
    let far = far.clone();
    // It ends by itself as soon as nobody takes its frames; the device is detached only after that.
    let reading = tokio::task::spawn_blocking(move || read_all(path, ranges, out, &far));
    let sent = tokio::select! {
        () = cancel.cancelled() => Err(ManagerError::Cancelled),
        sent = async {
            while let Some(frame) = frames.recv().await {
                connection.send(&frame).await?;
            }
            Ok::<_, ManagerError>(())
        } => sent,
    };
    drop(frames);
    let read = joined(reading).await?;
    sent?;
    read
}

/// Reads what may hold data, from the first byte to the last.
fn read_all(
    path: PathBuf,
    ranges: Option<Vec<ByteRange>>,
    out: Out,
    far: &HowFar,
) -> Result<Vec<u8>, ManagerError> {
    let source = Source::open(path, SourceOptions::default()).map_err(RepositoryError::from)?;
    let size = source.size_bytes();
    far.known(size);
    // Whoever took the frames has gone, and knows why.
    let gone = |_: io::Error| ManagerError::Cancelled;
    let mut encoder = Encoder::new(out, size).map_err(gone)?;
    let mut buffer = AlignedBuffer::new(DATA_SIZE_MAX);
    let mut at = 0;
    let whole = vec![ByteRange {
        offset_bytes: 0,
        length_bytes: size,
    }];
    for range in ranges.unwrap_or(whole) {
        let end = range
            .offset_bytes
            .saturating_add(range.length_bytes)
            .min(size);
        let mut from = range.offset_bytes.max(at);
        while from < end {
            let data = source.next_data(from).map_err(RepositoryError::from)?;
            let Some(data) = data.filter(|data| data.start < end) else {
                break;
            };
            let start = data.start.max(from);
            encoder.hole(start - at);
            let len = (data.end.min(end) - start).min(DATA_SIZE_MAX as u64);
            let piece = &mut buffer[..usize::try_from(len).expect("at most a frame")];
            source
                .read_at(start, piece)
                .map_err(RepositoryError::from)?;
            encoder.data(piece).map_err(gone)?;
            at = start + len;
            from = at;
            far.reached(at);
        }
    }
    encoder.hole(size - at);
    source.check_unchanged().map_err(RepositoryError::from)?;
    far.reached(size);
    encoder.end().map_err(gone)
}
