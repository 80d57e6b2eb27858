//! The calls of a driver, on plain files.

use std::fs;

use async_trait::async_trait;
use stockpot_driver::{
    AccessMode, Adoptable, ByteRange, Capacity, ConnectionInfo, ConnectorProperties, DriverError,
    Headroom, LocalConnection, Remembered, SnapshotId, SnapshotInfo, VolumeDriver, VolumeId,
    VolumeInfo, lvm::LvName,
};

use super::{
    FakeStorage, GRANULARITY,
    files::{
        absent, differences, in_use, io_error, pinned, remove, set_len, unanswered, unknown_call,
    },
};

#[async_trait]
impl VolumeDriver for FakeStorage {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn check(&self) -> Result<(), DriverError> {
        match self.lock().is_unusable {
            true => Err(DriverError::Host("it was made unusable".to_owned())),
            false => Ok(()),
        }
    }

    async fn create_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        self.call("create_volume", |state| self.make(state, id, size, None))
            .await
    }

    async fn create_volume_from_snapshot(
        &self,
        id: &VolumeId,
        size: u64,
        snapshot: &SnapshotId,
    ) -> Result<VolumeInfo, DriverError> {
        self.call("create_volume_from_snapshot", |state| {
            if !state.snapshots.contains_key(snapshot) {
                return Err(absent(&format!("snapshot {snapshot}")));
            }
            self.make(state, id, size, Some(&self.snapshot_file(snapshot)))
        })
        .await
    }

    async fn create_cloned_volume(
        &self,
        id: &VolumeId,
        size: u64,
        source: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        self.call("create_cloned_volume", |state| {
            if !state.volumes.contains_key(source) {
                return Err(absent(&format!("volume {source}")));
            }
            self.make(state, id, size, Some(&self.volume_file(source)))
        })
        .await
    }

    async fn delete_volume(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.call("delete_volume", |state| {
            in_use(state, id.as_str())?;
            pinned(state, id)?;
            state.volumes.remove(id);
            state.names.remove(id.as_str());
            remove(&self.volume_file(id))
        })
        .await
    }

    async fn extend_volume(&self, id: &VolumeId, size: u64) -> Result<VolumeInfo, DriverError> {
        self.call("extend_volume", |state| {
            pinned(state, id)?;
            let has = state
                .volumes
                .get_mut(id)
                .ok_or_else(|| absent(id.as_str()))?;
            *has = (*has).max(size.next_multiple_of(GRANULARITY));
            Ok(VolumeInfo {
                id: id.clone(),
                size_bytes: *has,
            })
        })
        .await
    }

    async fn check_replace(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.call("check_replace", |state| {
            if state.cannot_replace {
                return Err(DriverError::Unsupported("that".into()));
            }
            pinned(state, id)
        })
        .await
    }

    async fn replace_volume(
        &self,
        id: &VolumeId,
        with: &VolumeId,
    ) -> Result<VolumeInfo, DriverError> {
        self.call("replace_volume", |state| {
            state.asked_replacements += 1;
            let size_of = |id: &VolumeId| state.volumes.get(id).copied();
            let had = size_of(id).ok_or_else(|| absent(&format!("volume {id}")))?;
            let info = |size_bytes| VolumeInfo {
                id: id.clone(),
                size_bytes,
            };
            if state.replaced.get(id) == Some(with) {
                return Ok(info(had));
            }
            let has = size_of(with).ok_or_else(|| absent(&format!("volume {with}")))?;
            for one in [id, with] {
                in_use(state, one.as_str())?;
                if state.held.contains(one) {
                    return Err(DriverError::InUse {
                        what: format!("volume {one}"),
                        by: "mounted at /fake".to_owned(),
                    });
                }
            }
            pinned(state, id)?;
            let (from, to) = (self.volume_file(with), self.volume_file(id));
            fs::rename(&from, &to).map_err(|source| io_error("cannot rename", &from, source))?;
            state.volumes.remove(with);
            state.volumes.insert(id.clone(), has);
            state.replaced.insert(id.clone(), with.clone());
            Ok(info(has))
        })
        .await
    }

    async fn create_snapshot(
        &self,
        id: &SnapshotId,
        volume: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        self.call("create_snapshot", |state| {
            if let Some(info) = state.snapshots.get(id) {
                return Ok(info.clone());
            }
            if state.unanswered_cuts > 0 {
                state.unanswered_cuts -= 1;
                state.late_cuts.insert(id.clone(), volume.clone());
                return Err(unanswered("create_snapshot"));
            }
            state.late_cuts.remove(id);
            let size_bytes = *state
                .volumes
                .get(volume)
                .ok_or_else(|| absent(&format!("volume {volume}")))?;
            let path = self.snapshot_file(id);
            let copied = fs::copy(self.volume_file(volume), &path);
            copied
                .and_then(|_| set_len(&path, size_bytes))
                .map_err(|source| io_error("cannot make", &path, source))?;
            state.clock_us += 1_000_000;
            let info = SnapshotInfo {
                id: id.clone(),
                volume_id: volume.clone(),
                size_bytes,
                created_at_us: state.clock_us,
            };
            state.snapshots.insert(id.clone(), info.clone());
            Ok(info)
        })
        .await
    }

    async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        self.call("delete_snapshot", |state| {
            in_use(state, id.as_str())?;
            state.snapshots.remove(id);
            remove(&self.snapshot_file(id))?;
            if let Some(volume_id) = state.late_cuts.remove(id) {
                let info = SnapshotInfo {
                    id: id.clone(),
                    volume_id,
                    size_bytes: 0,
                    created_at_us: 0,
                };
                state.snapshots.insert(id.clone(), info);
            }
            Ok(())
        })
        .await
    }

    async fn volume(&self, id: &VolumeId) -> Result<Option<VolumeInfo>, DriverError> {
        let found = self.lock().volumes.get(id).copied();
        Ok(found.map(|size_bytes| VolumeInfo {
            id: id.clone(),
            size_bytes,
        }))
    }

    async fn volume_in_use(&self, id: &VolumeId) -> Result<Option<String>, DriverError> {
        let state = self.lock();
        if state.users_unseen {
            return Err(unknown_call("volume_in_use"));
        }
        let is_held = state.held.contains(id);
        Ok(is_held.then(|| "mounted at /fake".to_owned()))
    }

    async fn snapshot(&self, id: &SnapshotId) -> Result<Option<SnapshotInfo>, DriverError> {
        Ok(self.lock().snapshots.get(id).cloned())
    }

    async fn check_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        self.call("check_snapshot", |state| match &mut state.checks_left {
            None => Ok(()),
            Some(0) => Err(DriverError::Void {
                what: format!("snapshot {id}"),
                why: "its room for changes ran out".to_owned(),
            }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        })
        .await
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeInfo>, DriverError> {
        let state = self.lock();
        let volumes = state.volumes.iter().map(|(id, &size_bytes)| VolumeInfo {
            id: id.clone(),
            size_bytes,
        });
        Ok(volumes.collect())
    }

    async fn list_snapshots(&self) -> Result<Vec<SnapshotInfo>, DriverError> {
        Ok(self.lock().snapshots.values().cloned().collect())
    }

    fn name_is(&self, id: &str, name: &str) {
        self.lock().names.insert(id.to_owned(), name.to_owned());
    }

    async fn remember(&self) -> Result<Remembered, DriverError> {
        self.call("remember", |state| Ok(self.recall(state))).await
    }

    async fn adoptable(&self, lv: &LvName) -> Result<Option<Adoptable>, DriverError> {
        Ok(self.look_at(&self.lock(), lv))
    }

    async fn adopt_volume(
        &self,
        id: &VolumeId,
        lv: &LvName,
        name: &str,
    ) -> Result<VolumeInfo, DriverError> {
        self.call("adopt_volume", |state| self.take_over(state, id, lv, name))
            .await
    }

    async fn release_volume(
        &self,
        id: &VolumeId,
        lv_name: Option<&str>,
    ) -> Result<Option<LvName>, DriverError> {
        self.call("release_volume", |state| self.give_away(state, id, lv_name))
            .await
    }

    async fn capacity(&self) -> Result<Capacity, DriverError> {
        Ok(Capacity {
            available_bytes: 1 << 40,
            total_bytes: 1 << 40,
            maximum_volume_bytes: 1 << 40,
            granularity_bytes: GRANULARITY,
        })
    }

    async fn headroom(&self) -> Result<Option<Headroom>, DriverError> {
        let state = self.lock();
        Ok(state.snapshots_max.map(|max| Headroom {
            is_low: state.snapshots.len() > max,
            data_used: match state.writes_wait && state.snapshots.len() > max {
                true => 10_000,
                false => 0,
            },
            metadata_used: 0,
            text: format!("{} snapshots of {max}", state.snapshots.len()),
        }))
    }

    async fn grow_pool(&self) -> Result<Option<String>, DriverError> {
        self.call("grow_pool", |state| {
            let (Some(max), 1..) = (state.snapshots_max, state.growths_left) else {
                return Ok(None);
            };
            state.growths_left -= 1;
            state.snapshots_max = Some(max + 1);
            Ok(Some("room for one snapshot more".to_owned()))
        })
        .await
    }

    async fn changed_ranges(
        &self,
        base: &SnapshotId,
        snapshot: &SnapshotId,
    ) -> Result<Option<Vec<ByteRange>>, DriverError> {
        self.call("changed_ranges", |state| {
            state.asked_changes.push((base.clone(), snapshot.clone()));
            for id in [base, snapshot] {
                if !state.snapshots.contains_key(id) {
                    return Err(absent(&format!("snapshot {id}")));
                }
            }
            let read = |id| {
                let path = self.snapshot_file(id);
                fs::read(&path).map_err(|source| io_error("cannot read", &path, source))
            };
            Ok(Some(differences(&read(base)?, &read(snapshot)?)))
        })
        .await
    }

    async fn create_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.call("create_export", |state| {
            state.exports.insert(id.to_string());
            Ok(())
        })
        .await
    }

    async fn initialize_connection(
        &self,
        id: &VolumeId,
        _: &ConnectorProperties,
        access_mode: AccessMode,
    ) -> Result<ConnectionInfo, DriverError> {
        self.call("initialize_connection", |state| {
            let size_bytes = *state.volumes.get(id).ok_or_else(|| absent(id.as_str()))?;
            let connection = LocalConnection {
                device_path: self.volume_file(id),
                access_mode,
                size_bytes,
            };
            self.initialize(state, id.to_string(), connection)
        })
        .await
    }

    async fn terminate_connection(
        &self,
        id: &VolumeId,
        _: &ConnectorProperties,
        _: bool,
    ) -> Result<(), DriverError> {
        self.call("terminate_connection", |state| {
            state.connections.remove(id.as_str());
            Ok(())
        })
        .await
    }

    async fn remove_export(&self, id: &VolumeId) -> Result<(), DriverError> {
        self.call("remove_export", |state| {
            state.exports.remove(id.as_str());
            Ok(())
        })
        .await
    }

    async fn create_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        self.call("create_export_snapshot", |state| {
            state.exports.insert(id.to_string());
            Ok(())
        })
        .await
    }

    async fn initialize_connection_snapshot(
        &self,
        id: &SnapshotId,
        _: &ConnectorProperties,
    ) -> Result<ConnectionInfo, DriverError> {
        self.call("initialize_connection_snapshot", |state| {
            let info = state.snapshots.get(id).ok_or_else(|| absent(id.as_str()))?;
            let connection = LocalConnection {
                device_path: self.snapshot_file(id),
                access_mode: AccessMode::ReadOnly,
                size_bytes: info.size_bytes,
            };
            self.initialize(state, id.to_string(), connection)
        })
        .await
    }

    async fn terminate_connection_snapshot(
        &self,
        id: &SnapshotId,
        _: &ConnectorProperties,
        _: bool,
    ) -> Result<(), DriverError> {
        self.call("terminate_connection_snapshot", |state| {
            state.connections.remove(id.as_str());
            Ok(())
        })
        .await
    }

    async fn remove_export_snapshot(&self, id: &SnapshotId) -> Result<(), DriverError> {
        self.call("remove_export_snapshot", |state| {
            state.exports.remove(id.as_str());
            Ok(())
        })
        .await
    }
}
