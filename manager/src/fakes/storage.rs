//! A driver and a connector on plain files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use stockpot_connector::{AttachedDevice, Connector, ConnectorError, Recovered};
use stockpot_driver::{
    AccessMode, ByteRange, Capacity, ConnectionInfo, ConnectorProperties, DriverError, Headroom,
    LocalConnection, SnapshotId, SnapshotInfo, VolumeDriver, VolumeId, VolumeInfo,
};

use super::Faults;

/// Sizes are multiples of this, in bytes.
const GRANULARITY: u64 = 4096;

/// What is there and attached. It outlives managers, as storage does.
#[derive(Debug, Default)]
struct State {
    volumes: BTreeMap<VolumeId, u64>,
    snapshots: BTreeMap<SnapshotId, SnapshotInfo>,
    exports: BTreeSet<String>,
    connections: BTreeSet<String>,
    devices: BTreeSet<PathBuf>,
    clock_us: i64,
    /// Calls of `changed_ranges`.
    asked_changes: Vec<(SnapshotId, SnapshotId)>,
    /// The pool is low while it has more snapshots; `None`: it has room for all.
    snapshots_max: Option<usize>,
    /// How often it can be made larger, by one snapshot each.
    growths_left: usize,
    /// How many checks of snapshots find them whole before all are void; `None`: they last.
    checks_left: Option<u32>,
    /// Whether a volume stays as it is as long as it has snapshots.
    snapshots_pin: bool,
    /// Whether writes wait while the pool is low.
    writes_wait: bool,
}

/// Volumes and snapshots as files in a folder.
#[derive(Debug)]
pub struct FakeStorage {
    dir: PathBuf,
    faults: Arc<Faults>,
    state: Mutex<State>,
}

/// The host that attaches them.
#[derive(Debug)]
pub struct FakeHost(pub Arc<FakeStorage>);

/// What a finished operation must not leave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Exports, connections and devices.
    pub attached: Vec<String>,
    /// Ids of volumes.
    pub volumes: Vec<String>,
    /// Ids of snapshots.
    pub snapshots: Vec<String>,
}

impl FakeStorage {
    /// Storage in a folder that exists.
    #[must_use]
    pub fn new(dir: &Path, faults: Arc<Faults>) -> Arc<Self> {
        Arc::new(Self {
            dir: dir.to_owned(),
            faults,
            state: Mutex::default(),
        })
    }

    /// Everything that is there now.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers {
        let state = self.lock();
        let words = |kind: &str, names: &BTreeSet<String>| -> Vec<String> {
            names.iter().map(|name| format!("{kind} {name}")).collect()
        };
        let mut attached = words("export", &state.exports);
        attached.extend(words("connection", &state.connections));
        attached.extend(
            state
                .devices
                .iter()
                .map(|p| format!("device {}", p.display())),
        );
        Leftovers {
            attached,
            volumes: state.volumes.keys().map(ToString::to_string).collect(),
            snapshots: state.snapshots.keys().map(ToString::to_string).collect(),
        }
    }

    /// Lets all snapshots become void when they have been checked so many times from now.
    pub fn void_snapshots_after(&self, checks: u32) {
        self.lock().checks_left = Some(checks);
    }

    /// Lets the pool be low while it has more snapshots than this, unless it is made larger, which it can be so often.
    pub fn limit_snapshots(&self, snapshots_max: usize, growths_left: usize) {
        let mut state = self.lock();
        state.snapshots_max = Some(snapshots_max);
        state.growths_left = growths_left;
    }

    /// Lets writes wait from now on while the pool is low.
    pub fn let_writes_wait(&self) {
        self.lock().writes_wait = true;
    }

    /// Which changes were asked for so far: base and snapshot.
    #[must_use]
    pub fn asked_changes(&self) -> Vec<(SnapshotId, SnapshotId)> {
        self.lock().asked_changes.clone()
    }

    /// Refuses from now on to delete or grow volumes that have snapshots, as classic snapshots want it.
    pub fn snapshots_pin_volumes(&self) {
        self.lock().snapshots_pin = true;
    }

    /// The file that is a volume's content. It may be shorter than the volume: the rest reads as zeroes.
    #[must_use]
    pub fn volume_file(&self, id: &VolumeId) -> PathBuf {
        self.dir.join(format!("v-{id}"))
    }

    fn snapshot_file(&self, id: &SnapshotId) -> PathBuf {
        self.dir.join(format!("s-{id}"))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let broken = |name| DriverError::Host(format!("{name} was made to fail"));
        self.faults
            .call(name, broken, async { work(&mut self.lock()) })
            .await
    }

    fn make(
        &self,
        state: &mut State,
        id: &VolumeId,
        size: u64,
        from: Option<&Path>,
    ) -> Result<VolumeInfo, DriverError> {
        if let Some(&size_bytes) = state.volumes.get(id) {
            return Ok(VolumeInfo {
                id: id.clone(),
                size_bytes,
            });
        }
        let size_bytes = size.next_multiple_of(GRANULARITY);
        let path = self.volume_file(id);
        let failed = |source| io_error("cannot make", &path, source);
        match from {
            // The content of a restore comes later, and a file has to be empty for that.
            None => fs::write(&path, "").map_err(failed)?,
            Some(source) => {
                fs::copy(source, &path).map_err(failed)?;
                set_len(&path, size_bytes).map_err(failed)?;
            }
        }
        state.volumes.insert(id.clone(), size_bytes);
        Ok(VolumeInfo {
            id: id.clone(),
            size_bytes,
        })
    }

    fn initialize(
        &self,
        state: &mut State,
        name: String,
        connection: LocalConnection,
    ) -> Result<ConnectionInfo, DriverError> {
        if !state.exports.contains(&name) {
            return Err(absent(&format!("the export of {name}")));
        }
        state.connections.insert(name);
        Ok(ConnectionInfo::Local(connection))
    }
}

/// The blocks of `new` that are not those of `old`.
fn differences(old: &[u8], new: &[u8]) -> Vec<ByteRange> {
    let block = usize::try_from(GRANULARITY).expect("a small number");
    let mut before = old.chunks(block);
    let mut offset_bytes = 0;
    let mut found: Vec<ByteRange> = Vec::new();
    for content in new.chunks(block) {
        let length_bytes = content.len() as u64;
        if before.next() != Some(content) {
            match found
                .last_mut()
                .filter(|last| last.end_bytes() == offset_bytes)
            {
                Some(last) => last.length_bytes += length_bytes,
                None => found.push(ByteRange {
                    offset_bytes,
                    length_bytes,
                }),
            }
        }
        offset_bytes += length_bytes;
    }
    found
}

/// Refuses while the volume has snapshots, where they pin it.
fn pinned(state: &State, volume: &VolumeId) -> Result<(), DriverError> {
    let snapshot = state.snapshots.values().find(|s| s.volume_id == *volume);
    match snapshot.filter(|_| state.snapshots_pin) {
        Some(snapshot) => Err(DriverError::InUse {
            what: format!("volume {volume}"),
            by: format!("snapshot {}", snapshot.id),
        }),
        None => Ok(()),
    }
}

fn absent(what: &str) -> DriverError {
    DriverError::NotFound {
        what: what.to_owned(),
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> DriverError {
    DriverError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn set_len(path: &Path, size: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(size)
}

fn remove(path: &Path) -> Result<(), DriverError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("cannot remove", path, error))
        }
        _ => Ok(()),
    }
}

fn in_use(state: &State, name: &str) -> Result<(), DriverError> {
    if state.exports.contains(name) || state.connections.contains(name) {
        return Err(DriverError::InUse {
            what: name.to_owned(),
            by: "an export".to_owned(),
        });
    }
    Ok(())
}

#[async_trait]
impl VolumeDriver for FakeStorage {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn check(&self) -> Result<(), DriverError> {
        Ok(())
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

    async fn create_snapshot(
        &self,
        id: &SnapshotId,
        volume: &VolumeId,
    ) -> Result<SnapshotInfo, DriverError> {
        self.call("create_snapshot", |state| {
            if let Some(info) = state.snapshots.get(id) {
                return Ok(info.clone());
            }
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
            remove(&self.snapshot_file(id))
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

impl FakeHost {
    async fn call<T>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, ConnectorError>,
    ) -> Result<T, ConnectorError> {
        let broken = |name: &'static str| ConnectorError::Io {
            doing: name,
            path: "/fake".into(),
            source: io::Error::other("was made to fail"),
        };
        self.0
            .faults
            .call(name, broken, async { work(&mut self.0.lock()) })
            .await
    }
}

#[async_trait]
impl Connector for FakeHost {
    async fn properties(&self) -> Result<ConnectorProperties, ConnectorError> {
        Ok(ConnectorProperties {
            host: "fake".to_owned(),
            ip: None,
            initiator: None,
            multipath: false,
        })
    }

    async fn connect(&self, connection: &ConnectionInfo) -> Result<AttachedDevice, ConnectorError> {
        let ConnectionInfo::Local(local) = connection else {
            return Err(ConnectorError::Unsupported("iscsi"));
        };
        self.call("connect", |state| {
            state.devices.insert(local.device_path.clone());
            Ok(AttachedDevice {
                path: local.device_path.clone(),
                size_bytes: local.size_bytes,
                read_only: local.access_mode == AccessMode::ReadOnly,
            })
        })
        .await
    }

    async fn confirm(&self, connection: &ConnectionInfo) -> Result<AttachedDevice, ConnectorError> {
        self.connect(connection).await
    }

    async fn disconnect(&self, connection: &ConnectionInfo) -> Result<(), ConnectorError> {
        let ConnectionInfo::Local(local) = connection else {
            return Err(ConnectorError::Unsupported("iscsi"));
        };
        self.call("disconnect", |state| {
            state.devices.remove(&local.device_path);
            Ok(())
        })
        .await
    }

    async fn recover(&self, wanted: &[ConnectionInfo]) -> Result<Recovered, ConnectorError> {
        Ok(Recovered {
            adopted: wanted.to_vec(),
            ..Recovered::default()
        })
    }
}
