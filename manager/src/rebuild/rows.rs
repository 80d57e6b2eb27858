//! Which rows follow from what is known.

use std::collections::{BTreeMap, BTreeSet};

use stockpot_driver::{
    RememberedSnapshot, RememberedSource, RememberedVolume, SnapshotId, SnapshotInfo, VolumeId,
};
use stockpot_repository::format::manifest::{Manifest, Reason};

use super::gather::{Copy, Gathered};
use crate::{
    catalog::{
        BackupRow, BackupSource, BackupStatus, CopyState, Metadata, Sent, SnapshotRow, SourceCopy,
        UploadReason, VolumeRow, VolumeSource, VolumeStatus, rebuild::Said,
    },
    config::Config,
    ids::{self, NodeShortId},
    manager::now_us,
    snapshots::metadata::{backup_name_of, callers_words, consistency_of, name_of},
};

/// What the old catalog says of some rows, by id.
type OldRows = BTreeMap<String, Said>;

/// All rows, and what is to be said about them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) volumes: Vec<VolumeRow>,
    pub(super) snapshots: Vec<SnapshotRow>,
    pub(super) backups: Vec<BackupRow>,
    pub(super) remarks: Vec<String>,
}

/// What is decided with.
struct Deciding {
    node: NodeShortId,
    default_pool: String,
    copies: BTreeMap<String, Copy>,
    old_volumes: OldRows,
    old_snapshots: OldRows,
    /// Volumes that are not whole, and what was being done with each.
    not_whole: BTreeMap<String, String>,
    rows: Rows,
    names: BTreeSet<String>,
    unnamed: usize,
}

/// The rows that follow from what was gathered, and from what an old catalog said.
pub(super) fn decide(
    config: &Config,
    gathered: Gathered,
    old_volumes: Vec<(String, Said)>,
    old_snapshots: Vec<(String, Said)>,
    not_whole: BTreeMap<String, String>,
) -> Rows {
    let mut deciding = Deciding {
        node: NodeShortId::of(&config.node_name),
        default_pool: config.default_pool().to_owned(),
        copies: gathered.copies,
        old_volumes: old_volumes.into_iter().collect(),
        old_snapshots: old_snapshots.into_iter().collect(),
        not_whole,
        rows: Rows {
            remarks: gathered.remarks,
            ..Rows::default()
        },
        names: BTreeSet::new(),
        unnamed: 0,
    };
    let mut local = BTreeMap::new();
    let mut lent = 0_usize;
    for (pool, remembered) in gathered.pools {
        for volume in remembered.volumes {
            lent += usize::from(!deciding.volume(&pool, volume));
        }
        for snapshot in remembered.snapshots {
            local.insert(snapshot.info.id.to_string(), (pool.clone(), snapshot));
        }
    }
    deciding.snapshots(local);
    if lent > 0 {
        deciding.rows.remarks.push(format!(
            "{lent} volumes were made by other nodes, and are on those nodes' records"
        ));
    }
    deciding.say_what_is_not_known();
    deciding.rows
}

impl Deciding {
    /// A volume of this node's, unless it is another's.
    fn volume(&mut self, pool: &str, found: RememberedVolume) -> bool {
        let id = found.info.id;
        if ids::is_volume_of_other(&id, &self.node) {
            return false;
        }
        if id.as_str().starts_with("tmp-") {
            self.rows.remarks.push(format!(
                "volume {id} in pool {pool} is what a snapshot was read through, and on no record: `stockpot volume delete {id}` \
                 removes it"
            ));
            return true;
        }
        if let Some(doing) = self.not_whole.get(id.as_str()) {
            self.rows.remarks.push(format!(
                "volume {id} in pool {pool} was {doing}, says the old catalog: it may be there only in part, and is on no record; \
                 `stockpot volume delete {id}` removes it"
            ));
            return true;
        }
        if self.rows.volumes.iter().any(|row| row.id == id) {
            self.rows.remarks.push(format!(
                "volume {id} is in pool {pool} too, which is not on record"
            ));
            return true;
        }
        let old = self.old_volumes.remove(id.as_str());
        let metadata = old.as_ref().map(|old| old.metadata.clone());
        let newest = self
            .newest(&id)
            .map(|manifest| manifest.volume_name.clone());
        let former = match &found.source {
            RememberedSource::Adopted(former) => Some(former.clone()),
            _ => None,
        };
        let known = old.map(|old| old.name).or(found.name).or(newest).or(former);
        let name = self.name(known, id.as_str());
        self.rows.volumes.push(VolumeRow {
            name,
            size_bytes: found.info.size_bytes,
            pool: pool.to_owned(),
            status: VolumeStatus::Available,
            previous_status: None,
            source: match found.source {
                RememberedSource::Empty => VolumeSource::Empty,
                RememberedSource::Snapshot(id) => VolumeSource::Snapshot(id, SourceCopy::Auto),
                RememberedSource::Volume(id) => VolumeSource::Volume(id),
                RememberedSource::Adopted(_) => VolumeSource::Adopted,
            },
            metadata: metadata.unwrap_or_default(),
            error: None,
            error_reported: false,
            created_at_us: ids::volume_made_at_us(&id).unwrap_or_else(now_us),
            id,
        });
        true
    }

    /// The newest cloud copy of a volume.
    fn newest(&self, id: &VolumeId) -> Option<&Manifest> {
        let of_it = self.copies.values().map(|copy| &copy.manifest);
        let of_it = of_it.filter(|manifest| manifest.volume_id.as_str() == id.as_str());
        let named = of_it.filter(|manifest| !manifest.volume_name.is_empty());
        named.max_by_key(|manifest| manifest.cut_at)
    }

    /// A name that nothing else has; the id where none is known.
    fn name(&mut self, known: Option<String>, id: &str) -> String {
        let known = known.filter(|name| !name.is_empty());
        self.unnamed += usize::from(known.is_none());
        let name = known.unwrap_or_else(|| id.to_owned());
        match self.names.insert(name.clone()) {
            true => name,
            false => format!("{name} {id}"),
        }
    }

    fn snapshots(&mut self, mut local: BTreeMap<String, (String, RememberedSnapshot)>) {
        // Names of volumes and of snapshots do not meet.
        self.names.clear();
        let copies = std::mem::take(&mut self.copies);
        let mut all: BTreeSet<String> = local.keys().cloned().collect();
        all.extend(copies.keys().cloned());
        let mut copies = copies;
        for id in all {
            self.snapshot(&id, local.remove(&id), copies.remove(&id));
        }
    }

    fn snapshot(
        &mut self,
        id: &str,
        local: Option<(String, RememberedSnapshot)>,
        copy: Option<Copy>,
    ) {
        let of_local = local
            .as_ref()
            .map(|(_, found)| found.info.volume_id.to_string());
        let of_copy = copy
            .as_ref()
            .map(|copy| copy.manifest.volume_id.to_string());
        let volume_id = of_local
            .or(of_copy)
            .and_then(|id| id.parse::<VolumeId>().ok());
        let (Some(volume_id), Ok(snapshot_id)) = (volume_id, id.parse::<SnapshotId>()) else {
            return;
        };
        let volume = self.rows.volumes.iter().find(|row| row.id == volume_id);
        // A bucket may be shared by many nodes: only what is of this one's volumes is on its record.
        if volume.is_none() && !ids::is_volume_of(&volume_id, &self.node) {
            return;
        }
        let (volume_pool, volume_name) = match (volume, &copy) {
            (Some(row), _) => (Some(row.pool.clone()), row.name.clone()),
            (None, Some(copy)) => (None, copy.manifest.volume_name.clone()),
            (None, None) => (None, String::new()),
        };
        let (known, metadata) = self.said_of(id, local.as_ref(), copy.as_ref());
        let of_backup = known.clone().filter(|name| ids::is_backup_id(name));
        let pool = local.as_ref().map(|(pool, _)| pool.clone()).or(volume_pool);
        let info = local.as_ref().map(|(_, found)| &found.info);
        let mut row = SnapshotRow {
            name: self.name(known, id),
            volume_name,
            pool: pool.unwrap_or_else(|| self.default_pool.clone()),
            metadata,
            ..of_copies(snapshot_id, volume_id, info, copy.as_ref())
        };
        match (of_backup, &copy) {
            (Some(backup), Some(copy)) => {
                // What it was read from is kept for the next one, and is no copy that anybody asked for.
                if row.local == CopyState::Present {
                    (row.local, row.kept_as_base) = (CopyState::Deleted, true);
                }
                self.rows.backups.push(backup_row(backup, &row, &copy.manifest));
            }
            (Some(backup), None) => self.rows.remarks.push(format!(
                "snapshot {id} is what backup {backup} was being read from: `stockpot snapshot delete {id}` removes it"
            )),
            (None, _) => {}
        }
        self.rows.snapshots.push(row);
    }

    /// What a snapshot was called, and what its caller noted with it.
    fn said_of(
        &mut self,
        id: &str,
        local: Option<&(String, RememberedSnapshot)>,
        copy: Option<&Copy>,
    ) -> (Option<String>, Metadata) {
        let old = self.old_snapshots.remove(id);
        let tagged = local.and_then(|(_, found)| found.name.clone());
        let in_bucket = copy.and_then(|copy| name_of(&copy.manifest));
        match (old, copy) {
            (Some(old), _) => (Some(old.name), old.metadata),
            (None, Some(copy)) => (tagged.or(in_bucket), callers_words(&copy.manifest)),
            (None, None) => (tagged, Metadata::new()),
        }
    }

    fn say_what_is_not_known(&mut self) {
        let remarks = &mut self.rows.remarks;
        if self.unnamed > 0 {
            remarks.push(format!(
                "{} volumes and snapshots have their ids as names: nothing knows what they were called",
                self.unnamed
            ));
        }
        if self.rows.volumes.iter().any(|row| row.metadata.is_empty()) {
            remarks.push(
                "what callers noted with volumes is known only where the old catalog could be read"
                    .to_owned(),
            );
        }
        remarks.push(
            "what was attached to this host is not known: whoever uses a volume attaches it again, which disturbs nobody"
                .to_owned(),
        );
        remarks.push(
            "a volume that was being filled cannot be told from a whole one where no old catalog says so: delete it, and restore \
             it again"
                .to_owned(),
        );
    }
}

/// What the copies of a snapshot say of it; whose it is and what it is called comes besides.
fn of_copies(
    id: SnapshotId,
    volume_id: VolumeId,
    info: Option<&SnapshotInfo>,
    copy: Option<&Copy>,
) -> SnapshotRow {
    let manifest = copy.map(|copy| &copy.manifest);
    let cut_at_us = match (manifest, info) {
        (Some(manifest), _) => Some(manifest.cut_at.as_microsecond()),
        (None, info) => info.map(|info| info.created_at_us),
    };
    let of_copy = manifest.map(|manifest| manifest.size_bytes);
    SnapshotRow {
        id,
        name: String::new(),
        volume_id,
        volume_name: String::new(),
        pool: String::new(),
        size_bytes: info.map(|info| info.size_bytes).or(of_copy),
        cut_at_us,
        profile: copy.map(|copy| copy.profile.clone()).unwrap_or_default(),
        local: match info {
            Some(_) => CopyState::Present,
            None => CopyState::Deleted,
        },
        cloud: match copy {
            Some(_) => CopyState::Present,
            None => CopyState::None,
        },
        location: copy.map(|copy| copy.location.clone()),
        sent: manifest.map(sent),
        reason: manifest.map(reason),
        kept_as_base: false,
        consistency: manifest.and_then(consistency_of),
        metadata: Metadata::new(),
        error: None,
        error_reported: false,
        deleting: None,
        created_at_us: cut_at_us.unwrap_or_else(now_us),
    }
}

fn sent(manifest: &Manifest) -> Sent {
    Sent {
        stored_bytes: manifest.stored_bytes,
        requests: 0,
    }
}

fn reason(manifest: &Manifest) -> (UploadReason, String) {
    let reason = match manifest.reason {
        Reason::Full => UploadReason::Full,
        Reason::Compared => UploadReason::Compared,
        Reason::Incremental => UploadReason::Incremental,
    };
    (reason, manifest.why.clone())
}

/// The backup that made a cloud copy.
fn backup_row(id: String, snapshot: &SnapshotRow, manifest: &Manifest) -> BackupRow {
    let base = manifest.base.as_ref();
    BackupRow {
        name: backup_name_of(manifest).unwrap_or_else(|| id.clone()),
        id,
        volume_id: snapshot.volume_id.clone(),
        volume_name: snapshot.volume_name.clone(),
        snapshot_id: snapshot.id.clone(),
        profile: snapshot.profile.clone(),
        status: BackupStatus::Available,
        source: BackupSource::Snapshot,
        holds_volume: false,
        temp_snapshot_id: None,
        temp_volume_id: None,
        parent: base.map(|base| base.snapshot_id.to_string()),
        phase: "done".to_owned(),
        bytes_done: manifest.size_bytes,
        bytes_total: manifest.size_bytes,
        reason: snapshot.reason.clone(),
        sent: snapshot.sent,
        location: snapshot.location.clone(),
        failure: None,
        cleaned: true,
        metadata: snapshot.metadata.clone(),
        created_at_us: manifest.started_at.as_microsecond(),
        cut_at_us: snapshot.cut_at_us,
        ended_at_us: Some(manifest.committed_at.as_microsecond()),
        paused: false,
        is_full: false,
        schedule: None,
        consistency: snapshot.consistency.clone(),
        frozen_us: 0,
    }
}

#[cfg(test)]
mod tests;
