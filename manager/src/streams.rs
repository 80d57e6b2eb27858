//! Contents as they are: a local snapshot to whoever waits at an address, and a volume from there.
//!
//! For tools that store backups themselves and only want the bytes (OpenEBS's plugin for Velero is one). What goes over the
//! connection is [`format`]: it says how large the content is, leaves holes out, and ends with a checksum, so that whoever gets it
//! back knows whether it is all there. Only addresses of the configuration are connected to; nobody can connect here.
//!
//! | found at start | done |
//! | --- | --- |
//! | running | failed: the connection is gone. A new volume that was being received is removed with its row |
//! | replacing | gone on with: what was received lies in a volume of its own, which takes the other one's place; nobody gets at either meanwhile |
//!
//! The attachments of both are those of transfers and are taken down before that.

mod format;
mod peer;
mod pipe;
mod receive;
mod replace;
mod send;

use std::{io, sync::Arc};

use stockpot_driver::{VolumeId, target::ExportName};
use stockpot_proto::stockpot::v1 as api;
use tokio::sync::mpsc;

use crate::{
    Manager, ManagerError,
    catalog::{StreamDirection, StreamRow, StreamStatus},
    codes,
    config::PoolConfig,
    error::chain,
    manager::now_us,
    translate,
};

/// What can go wrong between the two sides of a stream.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// It is not an address.
    #[error("{text:?} is no address with a port: HOST:PORT, IPv6 in brackets")]
    Address {
        /// What was asked for, shortened.
        text: String,
    },
    /// It is not on the list.
    #[error("{address} is not among `streams.allowedDestinations` of the manager's configuration")]
    NotAllowed {
        /// The address.
        address: String,
    },
    /// Nobody listens there.
    #[error("{address} cannot be connected to")]
    Unreachable {
        /// The address.
        address: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The connection ended.
    #[error("the connection to {address} broke")]
    Broken {
        /// The address.
        address: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It takes or gives nothing.
    #[error("{address} neither took nor gave a byte for {seconds} s (`streams.silentSecondsMax`)")]
    Silent {
        /// The address.
        address: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It takes or gives too little.
    #[error(
        "{address} took or gave less than {bytes} bytes in {seconds} s (`streams.silentSecondsMax`)"
    )]
    Slow {
        /// The address.
        address: String,
        /// What it has to take or give in that time.
        bytes: u64,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It is not what a manager sends.
    #[error("what {address} sends is not a volume that Stockpot has sent: {why}")]
    Foreign {
        /// The address.
        address: String,
        /// How it differs.
        why: String,
    },
    /// It is not all there, or not as it was sent.
    #[error("what was received is damaged: {0}")]
    Damaged(String),
}

/// Where those who asked are told how far it is.
pub(crate) type Watcher = mpsc::Sender<Result<api::StreamProgress, tonic::Status>>;

impl Manager {
    /// Writes down how a stream ended, and tells who asked.
    async fn end_stream(
        &self,
        mut row: StreamRow,
        outcome: Result<(), ManagerError>,
        watcher: Option<&Watcher>,
    ) {
        match &outcome {
            Ok(()) => note_done(&mut row),
            Err(error) => note_failure(&mut row, error),
        }
        let record = || async { Ok(self.catalog.put_stream(row.clone()).await?) };
        if let Err(error) = self.persist("the end of a stream", record).await {
            tracing::error!(
                error = chain(&error),
                "the end of a stream could not be recorded"
            );
        }
        self.tell_end(&row, outcome, watcher).await;
    }

    /// Tells how a stream ended that is on record so.
    async fn tell_end(
        &self,
        row: &StreamRow,
        outcome: Result<(), ManagerError>,
        watcher: Option<&Watcher>,
    ) {
        match &outcome {
            Ok(()) => {
                tracing::info!(stream_id = row.id, peer = row.peer, size_bytes = row.bytes_total, direction = %row.direction, "a stream is complete");
            }
            Err(error) => {
                tracing::warn!(stream_id = row.id, peer = row.peer, error = chain(error), direction = %row.direction, "a stream was given up");
            }
        }
        self.notify();
        if let Some(watcher) = watcher {
            // Whoever asked may have gone.
            let _ = watcher
                .send(outcome.map(|()| progress(row)).map_err(Into::into))
                .await;
        }
    }

    /// What an earlier run left under way.
    pub(crate) async fn recover_streams(self: &Arc<Self>) -> Result<(), ManagerError> {
        for row in self.catalog.streams().await? {
            match row.status {
                StreamStatus::Done | StreamStatus::Failed => {}
                StreamStatus::Replacing => self.replace_again(row).await,
                StreamStatus::Running => self.give_up_stream(row).await,
            }
        }
        Ok(())
    }

    async fn give_up_stream(&self, row: StreamRow) {
        if let Some(spare) = &row.spare_volume_id
            && let Err(error) = self.remove_spare(spare).await
        {
            // Its row stays, and with it the name of what is left.
            tracing::error!(stream_id = row.id, volume_id = %spare, error = chain(&error), "what a broken-off stream left cannot be removed; the next start tries again");
            return;
        }
        let error = ManagerError::NotReady("the manager ended meanwhile".to_owned());
        self.end_stream(row, Err(error), None).await;
    }

    /// Those on record, of one volume if it is named.
    pub(crate) async fn list_streams(
        &self,
        request: api::ListStreamsRequest,
    ) -> Result<Vec<api::Stream>, ManagerError> {
        let asked = request.volume;
        let is_of = |row: &StreamRow| {
            asked.is_empty() || asked == row.volume_id.as_str() || asked == row.volume_name
        };
        let rows = self.catalog.streams().await?;
        Ok(rows
            .into_iter()
            .filter(is_of)
            .map(|row| describe(&row))
            .collect())
    }

    /// Where other hosts find a volume; nothing of one that this node does not export.
    pub(crate) async fn volume_target(&self, id: &str) -> Result<api::VolumeTarget, ManagerError> {
        let absent = || ManagerError::NotFound(format!("volume {id:?}"));
        let id: VolumeId = id.parse().map_err(|_| absent())?;
        let row = self.catalog.volume(&id).await?;
        // Of one that is to be received its record is all there is for a while.
        let streams = self.catalog.streams().await?;
        if row.is_none() && !streams.iter().any(|stream| stream.volume_id == id) {
            return Err(absent());
        }
        let pool = row.map_or_else(|| self.config.default_pool().to_owned(), |row| row.pool);
        let is_own = |own: &PoolConfig| own.name() == pool && !own.is_remote();
        let exports = self.config.exports.as_ref();
        let Some(exports) = exports.filter(|_| self.config.pools.iter().any(is_own)) else {
            return Ok(api::VolumeTarget::default());
        };
        let portals = exports.portals.iter().map(ToString::to_string);
        Ok(api::VolumeTarget {
            portals: portals.collect(),
            target_iqn: exports.iqn_of(&ExportName::Volume(id)),
            lun: 0,
        })
    }
}

/// Notes that all is there.
fn note_done(row: &mut StreamRow) {
    row.status = StreamStatus::Done;
    row.bytes_done = row.bytes_total;
    row.spare_volume_id = None;
    row.ended_at_us = Some(now_us());
}

/// Notes that it was given up, and why.
fn note_failure(row: &mut StreamRow, error: &ManagerError) {
    row.status = StreamStatus::Failed;
    row.failure = Some(codes::record(error));
    row.spare_volume_id = None;
    row.ended_at_us = Some(now_us());
}

/// How far it is.
fn progress(row: &StreamRow) -> api::StreamProgress {
    let is_received = row.direction == StreamDirection::Receive;
    api::StreamProgress {
        bytes_done: row.bytes_done,
        bytes_total: row.bytes_total,
        volume_id: match is_received {
            true => row.volume_id.to_string(),
            false => String::new(),
        },
        stream_id: row.id.clone(),
    }
}

fn describe(row: &StreamRow) -> api::Stream {
    let status = match row.status {
        StreamStatus::Running | StreamStatus::Replacing => api::StreamStatus::Running,
        StreamStatus::Done => api::StreamStatus::Done,
        StreamStatus::Failed => api::StreamStatus::Failed,
    };
    let failure = row.failure.as_ref();
    api::Stream {
        stream_id: row.id.clone(),
        sending: row.direction == StreamDirection::Send,
        status: status.into(),
        snapshot_id: row
            .snapshot_id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        volume_id: row.volume_id.to_string(),
        volume_name: row.volume_name.clone(),
        peer: row.peer.clone(),
        bytes_done: row.bytes_done,
        bytes_total: row.bytes_total,
        error: failure.map(|f| f.text.clone()).unwrap_or_default(),
        error_code: failure.map(|f| translate::code(f.code)).unwrap_or_default(),
        created_at: Some(translate::timestamp(row.created_at_us)),
        ended_at: row.ended_at_us.map(translate::timestamp),
        metadata: row.metadata.clone().into_iter().collect(),
    }
}
