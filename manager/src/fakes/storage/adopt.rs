//! What others made beside the volumes: files of the same folder, in a group called `fake`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use stockpot_driver::{
    Adoptable, DriverError, Remembered, RememberedSnapshot, RememberedSource, RememberedVolume,
    Standing, VolumeId, VolumeInfo, lvm::LvName,
};

use super::{
    FakeStorage, State,
    files::{absent, io_error, set_len},
};

/// The only group.
const GROUP: &str = "fake";

impl FakeStorage {
    /// Something that another program made: `fake/NAME`, of this size. The file that is its content.
    ///
    /// # Panics
    /// When the file cannot be made.
    pub fn make_foreign(&self, name: &str, size_bytes: u64) -> PathBuf {
        let path = self.foreign_file(name);
        fs::write(&path, "").expect("a file in a folder of its own");
        set_len(&path, size_bytes).expect("a file in a folder of its own");
        self.lock().foreign.insert(name.to_owned(), size_bytes);
        path
    }

    /// The names of what is there of other programs.
    #[must_use]
    pub fn foreign(&self) -> Vec<String> {
        self.lock().foreign.keys().cloned().collect()
    }

    /// Lets a volume vanish, as a disk does.
    pub fn lose_volume(&self, id: &VolumeId) {
        self.lock().volumes.remove(id);
    }

    /// Puts a volume there that nobody asked for.
    pub fn plant_volume(&self, id: &VolumeId, size_bytes: u64) {
        self.lock().volumes.insert(id.clone(), size_bytes);
    }

    fn foreign_file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("f-{name}"))
    }

    pub(super) fn look_at(&self, state: &State, lv: &LvName) -> Option<Adoptable> {
        if lv.vg() != GROUP {
            return None;
        }
        let adoptable = |size_bytes, standing| Adoptable {
            size_bytes,
            standing,
            foreign_tags: Vec::new(),
        };
        if let Some(size_bytes) = state.foreign.get(lv.lv()) {
            let standing = match lv.lv().starts_with("pool") {
                true => Standing::Refused("it is a pool".to_owned()),
                false => Standing::Free,
            };
            return Some(adoptable(*size_bytes, standing));
        }
        let is_it =
            |id: &VolumeId| lv.lv() == format!("stockpot.v.{}", id.as_str().replace('-', "."));
        let mut formers = state.former.iter();
        let id = match formers.find(|(_, former)| *former == lv.lv()) {
            Some((id, _)) => id,
            None => state.volumes.keys().find(|id| is_it(id))?,
        };
        let size_bytes = *state.volumes.get(id)?;
        Some(adoptable(size_bytes, Standing::Ours(id.clone())))
    }

    pub(super) fn take_over(
        &self,
        state: &mut State,
        id: &VolumeId,
        lv: &LvName,
        name: &str,
    ) -> Result<VolumeInfo, DriverError> {
        if let Some(&size_bytes) = state.volumes.get(id) {
            return Ok(VolumeInfo {
                id: id.clone(),
                size_bytes,
            });
        }
        let size_bytes = state.foreign.remove(lv.lv());
        let size_bytes = size_bytes.ok_or_else(|| absent(&lv.to_string()))?;
        rename(&self.foreign_file(lv.lv()), &self.volume_file(id))?;
        state.volumes.insert(id.clone(), size_bytes);
        state.former.insert(id.clone(), lv.lv().to_owned());
        state.names.insert(id.to_string(), name.to_owned());
        Ok(VolumeInfo {
            id: id.clone(),
            size_bytes,
        })
    }

    pub(super) fn give_away(
        &self,
        state: &mut State,
        id: &VolumeId,
        name: Option<&str>,
    ) -> Result<Option<LvName>, DriverError> {
        let Some(&size_bytes) = state.volumes.get(id) else {
            return Ok(None);
        };
        if let Some(cut) = state.snapshots.values().find(|cut| cut.volume_id == *id) {
            return Err(DriverError::InUse {
                what: format!("volume {id}"),
                by: format!("snapshot {}", cut.id),
            });
        }
        let former = state.former.get(id).cloned();
        let name = name.map(str::to_owned).or(former);
        let name = name.unwrap_or_else(|| id.to_string());
        if state.foreign.contains_key(&name) {
            return Err(DriverError::AlreadyExists {
                what: format!("{GROUP}/{name}"),
                difference: "it is another one".to_owned(),
            });
        }
        rename(&self.volume_file(id), &self.foreign_file(&name))?;
        state.volumes.remove(id);
        state.former.remove(id);
        let lv = LvName::new(GROUP, &name)?;
        state.foreign.insert(name, size_bytes);
        Ok(Some(lv))
    }

    pub(super) fn recall(&self, state: &State) -> Remembered {
        let name = |id: &str| state.names.get(id).cloned();
        let volumes = state
            .volumes
            .iter()
            .map(|(id, &size_bytes)| RememberedVolume {
                info: VolumeInfo {
                    id: id.clone(),
                    size_bytes,
                },
                name: name(id.as_str()),
                source: match state.former.get(id) {
                    Some(former) => RememberedSource::Adopted(former.clone()),
                    None => RememberedSource::Empty,
                },
            });
        let snapshots = state.snapshots.values().map(|info| RememberedSnapshot {
            info: info.clone(),
            name: name(info.id.as_str()),
        });
        Remembered {
            volumes: volumes.collect(),
            snapshots: snapshots.collect(),
        }
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), DriverError> {
    fs::rename(from, to).map_err(|source| io_error("cannot rename", from, source))
}
