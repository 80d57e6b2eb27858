//! A driver on plain files, and what can be set about it.

mod adopt;
mod driver;
mod files;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use stockpot_driver::{
    ConnectionInfo, DriverError, LocalConnection, SnapshotId, SnapshotInfo, VolumeId, VolumeInfo,
};

use self::files::{absent, io_error, set_len};
use super::Faults;

/// Sizes are multiples of this, in bytes.
const GRANULARITY: u64 = 4096;

/// What is there and attached. It outlives managers, as storage does.
#[derive(Debug, Default)]
pub(super) struct State {
    volumes: BTreeMap<VolumeId, u64>,
    snapshots: BTreeMap<SnapshotId, SnapshotInfo>,
    exports: BTreeSet<String>,
    connections: BTreeSet<String>,
    pub(super) devices: BTreeSet<PathBuf>,
    clock_us: i64,
    /// Calls of `changed_ranges`.
    asked_changes: Vec<(SnapshotId, SnapshotId)>,
    /// The pool is low while it has more snapshots; `None`: it has room for all.
    snapshots_max: Option<usize>,
    /// How often it can be made larger, by one snapshot each.
    growths_left: usize,
    /// How many checks of snapshots find them whole before all are void; `None`: they last.
    checks_left: Option<u32>,
    /// Volumes whose device somebody holds.
    held: BTreeSet<VolumeId>,
    /// Whether it is as on a storage node whose version cannot say who uses a volume.
    users_unseen: bool,
    /// Whether a volume stays as it is as long as it has snapshots.
    snapshots_pin: bool,
    /// Which volume took the place of another one.
    replaced: BTreeMap<VolumeId, VolumeId>,
    /// How often that was asked for, and answered.
    asked_replacements: usize,
    /// Whether no volume can take the place of another one.
    cannot_replace: bool,
    /// Whether writes wait while the pool is low.
    writes_wait: bool,
    /// How many cuts are not answered.
    unanswered_cuts: u32,
    /// Cuts that were not answered and are still to be made: whoever deletes the snapshot before that has it afterwards.
    late_cuts: BTreeMap<SnapshotId, VolumeId>,
    /// What other programs made, with its size.
    foreign: BTreeMap<String, u64>,
    /// The pool's check fails.
    is_unusable: bool,
    /// What volumes were called before they were adopted.
    former: BTreeMap<VolumeId, String>,
    /// What people call volumes and snapshots, by id.
    names: BTreeMap<String, String>,
}

/// Volumes and snapshots as files in a folder.
#[derive(Debug)]
pub struct FakeStorage {
    dir: PathBuf,
    pub(super) faults: Arc<Faults>,
    state: Mutex<State>,
}

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

    /// Lets no volume take the place of another one, as with storage that has no way to do that.
    pub fn let_nothing_be_replaced(&self) {
        self.lock().cannot_replace = true;
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

    /// How often a volume was to take the place of another one, whatever the answer was.
    #[must_use]
    pub fn asked_replacements(&self) -> usize {
        self.lock().asked_replacements
    }

    /// Refuses from now on to delete or grow volumes that have snapshots, as classic snapshots want it.
    pub fn snapshots_pin_volumes(&self) {
        self.lock().snapshots_pin = true;
    }

    /// Cannot say from now on who uses a volume, as a storage node of an older version.
    pub fn let_users_be_unseen(&self) {
        self.lock().users_unseen = true;
    }

    /// Lets so many cuts go without an answer from now on: the storage is still at them.
    pub fn leave_cuts_unanswered(&self, count: u32) {
        self.lock().unanswered_cuts = count;
    }

    /// Sets the clock that snapshots are dated by, in microseconds since the Unix epoch. It goes on by a second with each.
    pub fn set_clock_us(&self, clock_us: i64) {
        self.lock().clock_us = clock_us;
    }

    /// Lets somebody hold a volume's device open from now on, or nobody any more.
    pub fn hold_device(&self, id: &VolumeId, is_held: bool) {
        let mut state = self.lock();
        match is_held {
            true => state.held.insert(id.clone()),
            false => state.held.remove(id),
        };
    }

    /// Lets the pool's check fail from now on, or pass again.
    pub fn set_usable(&self, is_usable: bool) {
        self.lock().is_unusable = !is_usable;
    }

    /// The file that is a volume's content. It may be shorter than the volume: the rest reads as zeroes.
    #[must_use]
    pub fn volume_file(&self, id: &VolumeId) -> PathBuf {
        self.dir.join(format!("v-{id}"))
    }

    fn snapshot_file(&self, id: &SnapshotId) -> PathBuf {
        self.dir.join(format!("s-{id}"))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T>(
        &self,
        name: &'static str,
        work: impl FnOnce(&mut State) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let broken = |name| match self.faults.is_unanswered() {
            true => files::unanswered(name),
            false => DriverError::Host(format!("{name} was made to fail")),
        };
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
