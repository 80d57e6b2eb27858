//! The calls that external-snapshotter makes.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use stockpot_proto::csi::v1 as csi;

use super::{CsiClient, CsiClientError, POLL_INTERVAL, is_not_yet, refused, timed};

/// A snapshot to be cut.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// The caller's name for it.
    pub name: String,
    /// Id of the volume.
    pub source_volume_id: String,
    /// Parameters of the class: `profile`.
    pub parameters: HashMap<String, String>,
}

impl NewSnapshot {
    /// One with a profile; `None`: a local one.
    #[must_use]
    pub fn of(name: &str, source_volume_id: &str, profile: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            source_volume_id: source_volume_id.to_owned(),
            parameters: profile
                .map(|p| ("profile".to_owned(), p.to_owned()))
                .into_iter()
                .collect(),
        }
    }
}

impl CsiClient {
    /// Cuts a snapshot, or asks how far the one of this name is.
    ///
    /// # Errors
    /// The driver's refusal; a failed upload is one.
    pub async fn create_snapshot(
        &mut self,
        snapshot: &NewSnapshot,
    ) -> Result<csi::Snapshot, CsiClientError> {
        let rpc = "CreateSnapshot";
        let request = csi::CreateSnapshotRequest {
            source_volume_id: snapshot.source_volume_id.clone(),
            name: snapshot.name.clone(),
            parameters: snapshot.parameters.clone(),
            ..Default::default()
        };
        let answer = self.controller.create_snapshot(timed(request)).await;
        let answer = answer.map_err(refused(rpc))?.into_inner().snapshot;
        answer.ok_or(CsiClientError::Incomplete {
            rpc,
            field: "snapshot",
        })
    }

    /// Asks until the snapshot is ready to use.
    ///
    /// # Errors
    /// As [`create_snapshot`](Self::create_snapshot), and [`CsiClientError::NeverDone`].
    pub async fn wait_snapshot_ready(
        &mut self,
        snapshot: &NewSnapshot,
        wait: Duration,
    ) -> Result<csi::Snapshot, CsiClientError> {
        let started = Instant::now();
        loop {
            let last = match self.create_snapshot(snapshot).await {
                Ok(answer) if answer.ready_to_use => return Ok(answer),
                Ok(_) => "not ready to use".to_owned(),
                Err(error) if error.code().is_some_and(is_not_yet) => error.to_string(),
                Err(error) => return Err(error),
            };
            if started.elapsed() >= wait {
                return Err(CsiClientError::NeverDone {
                    rpc: "CreateSnapshot",
                    waited: wait,
                    last,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Removes a snapshot with all of its copies; one that is not there is success.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn delete_snapshot(&mut self, snapshot_id: &str) -> Result<(), CsiClientError> {
        let request = csi::DeleteSnapshotRequest {
            snapshot_id: snapshot_id.to_owned(),
            ..Default::default()
        };
        let answer = self.controller.delete_snapshot(timed(request)).await;
        answer.map(drop).map_err(refused("DeleteSnapshot"))
    }

    /// Snapshots, over all pages; empty filters match all.
    ///
    /// # Errors
    /// The driver's refusal.
    pub async fn list_snapshots(
        &mut self,
        snapshot_id: &str,
        source_volume_id: &str,
    ) -> Result<Vec<csi::Snapshot>, CsiClientError> {
        let mut all = Vec::new();
        let mut starting_token = String::new();
        loop {
            let request = csi::ListSnapshotsRequest {
                starting_token,
                source_volume_id: source_volume_id.to_owned(),
                snapshot_id: snapshot_id.to_owned(),
                ..Default::default()
            };
            let page = self.controller.list_snapshots(timed(request)).await;
            let page = page.map_err(refused("ListSnapshots"))?.into_inner();
            all.extend(page.entries.into_iter().filter_map(|e| e.snapshot));
            if page.next_token.is_empty() {
                return Ok(all);
            }
            starting_token = page.next_token;
        }
    }
}
