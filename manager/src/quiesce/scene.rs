//! Who uses a volume on this host, as far as that can be seen: what there is to freeze, or why there is nothing.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::libc::dev_t;
use stockpot_driver::{
    ConnectionInfo, DriverError,
    in_use::{Number, number_of},
    remote::NodeError,
};

use super::{
    guard::Target,
    mounts::{self, FileSystem},
    stack::Stack,
    watchdog::Mode,
};
use crate::{
    Manager, ManagerError,
    catalog::{AttachmentKind, Consistency, FrozenPath, Purpose, SnapshotRow},
    error::chain,
    joined::joined,
};

/// Folders without which neither this program nor LVM's get on: their file systems are never frozen.
const NEEDED: [&str; 6] = ["/", "/etc", "/run", "/tmp", "/var", "/usr"];

/// Kinds that the kernel does not freeze with one of their devices: theirs is not known to be the only one.
const OF_MANY_DEVICES: [&str; 3] = ["btrfs", "bcachefs", "zfs"];

/// Why a copy is as good as can be without a freeze.
pub(crate) const NOT_OPEN: &str = "nobody has it open";

/// A volume's device and what lies on it.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// The device on this host, if it is there.
    pub(super) device: Option<PathBuf>,
    pub(super) targets: Vec<Target>,
    /// Those of them that are frozen here, as they are recorded.
    pub(super) frozen: Vec<FrozenPath>,
    /// Where they are mounted, a line each: as this process sees it, for what other mount namespaces call a point is something else here.
    pub(super) points: Vec<String>,
    /// What they are, in words.
    pub(super) kinds: Vec<String>,
    /// Without anything to freeze: what a restore shows, and why.
    pub(super) otherwise: Option<(Consistency, String)>,
}

impl Scene {
    /// Nobody uses it.
    fn unused(device: Option<PathBuf>) -> Self {
        Self::without(device, Consistency::Unused, NOT_OPEN.to_owned())
    }

    /// With nothing to freeze.
    fn without(device: Option<PathBuf>, shows: Consistency, why: String) -> Self {
        Self {
            device,
            otherwise: Some((shows, why)),
            ..Self::default()
        }
    }
}

/// Where a volume's device is, and whether cutting freezes what lies on it directly.
struct Place {
    number: Number,
    path: PathBuf,
    freezes_itself: bool,
}

impl Manager {
    /// Looks who uses the volume that is about to be cut.
    pub(super) async fn scene(&self, row: &SnapshotRow) -> Result<Scene, ManagerError> {
        let attachment = self
            .catalog
            .attachment(AttachmentKind::Volume, row.volume_id.as_str())
            .await?
            .filter(|attachment| attachment.purpose == Purpose::Node);
        let driver = self.driver(&row.pool)?;
        let place = match &attachment {
            Some(attachment) => {
                let is_local = matches!(attachment.connection, Some(ConnectionInfo::Local(_)));
                let Some(path) = attachment.device_path.clone() else {
                    let why = "it is being attached: whoever uses it is not known yet";
                    return Ok(Scene::without(None, Consistency::Crash, why.to_owned()));
                };
                let number = number_at(&path).await?;
                number.map(|number| Place {
                    number,
                    path,
                    freezes_itself: is_local && driver.cut_freezes(),
                })
            }
            None => {
                match driver.volume_in_use(&row.volume_id).await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(Scene::unused(None)),
                    Err(error) => return unseen(None, error),
                }
                let number = driver.volume_device(&row.volume_id).await?;
                number.map(|number| Place {
                    number,
                    path: format!("/dev/block/{}:{}", number.0, number.1).into(),
                    freezes_itself: driver.cut_freezes(),
                })
            }
        };
        let device = attachment.and_then(|attachment| attachment.device_path);
        let device = device.or_else(|| place.as_ref().map(|place| place.path.clone()));
        if let Some(place) = place {
            let state_dir = self.config.state_dir.clone();
            let looking = tokio::task::spawn_blocking(move || on_device(&place, &state_dir));
            let found = joined(looking).await?;
            match found {
                Ok(Some(scene)) => return Ok(Scene { device, ..scene }),
                Ok(None) => {}
                Err(error) => {
                    let why = format!("what is mounted from it cannot be seen: {error}");
                    return Ok(Scene::without(device, Consistency::Crash, why));
                }
            }
        }
        self.without_mounts(row, device).await
    }

    /// Nothing of it is mounted here: it is not used, or nobody here can freeze it.
    async fn without_mounts(
        &self,
        row: &SnapshotRow,
        device: Option<PathBuf>,
    ) -> Result<Scene, ManagerError> {
        let user = match self.driver(&row.pool)?.volume_in_use(&row.volume_id).await {
            Ok(user) => user,
            Err(error) => return unseen(device, error),
        };
        let pools = &self.config.pools;
        let is_remote = pools
            .iter()
            .any(|pool| pool.name() == row.pool && pool.is_remote());
        let (shows, why) = match (user, &device) {
            (Some(user), _) => (
                Consistency::Crash,
                format!(
                    "it is in use ({user}), and no file system of it is mounted where this node could freeze it"
                ),
            ),
            // Its storage does not see who has the device open here.
            (None, Some(_)) if is_remote => (
                Consistency::Crash,
                "it is attached and not mounted: whoever uses the device itself cannot be frozen"
                    .to_owned(),
            ),
            (None, Some(device)) if !device.exists() || number_at(device).await?.is_none() => (
                Consistency::Crash,
                format!("{} is no block device of this host", device.display()),
            ),
            (None, _) => return Ok(Scene::unused(device)),
        };
        Ok(Scene::without(device, shows, why))
    }
}

/// Its storage cannot tell who uses it: one on an older storage node, say. It can be cut all the same.
fn unseen(device: Option<PathBuf>, error: DriverError) -> Result<Scene, ManagerError> {
    let lacks = match &error {
        DriverError::Node(error) => matches!(**error, NodeError::Lacks { .. }),
        _ => false,
    };
    if !lacks {
        return Err(error.into());
    }
    let why = format!("who uses it cannot be seen: {}", chain(&error));
    Ok(Scene::without(device, Consistency::Crash, why))
}

async fn number_at(path: &Path) -> Result<Option<Number>, ManagerError> {
    let path = path.to_owned();
    let looking = tokio::task::spawn_blocking(move || number_of(&path));
    joined(looking).await
}

/// What lies on the device; `None` if nothing of it is mounted.
fn on_device(place: &Place, state_dir: &Path) -> std::io::Result<Option<Scene>> {
    let found = mounts::file_systems(&Stack::of(place.number)?)?;
    if found.is_empty() {
        return Ok(None);
    }
    let mut scene = Scene::default();
    for fs in found {
        let is_direct = fs.number == place.number && !OF_MANY_DEVICES.contains(&fs.kind.as_str());
        let mode = match place.freezes_itself && is_direct {
            true => Mode::Watch,
            false => Mode::Freeze,
        };
        let device = fs.file.metadata()?.dev();
        if mode == Mode::Freeze
            && let Some(needed) = needed_on(device, state_dir)
        {
            let why = format!(
                "{} is on the file system that is mounted at {}: frozen, nobody could cut or thaw",
                needed.display(),
                fs.point.display()
            );
            return Ok(Some(Scene::without(None, Consistency::Crash, why)));
        }
        scene.add(fs, mode, device);
    }
    Ok(Some(scene))
}

impl Scene {
    fn add(&mut self, fs: FileSystem, mode: Mode, device: dev_t) {
        self.kinds
            .push(format!("{} at {}", fs.kind, fs.point.display()));
        if let Some(point) = fs.point.to_str()
            && fs.path == fs.point
            && !point.chars().any(char::is_control)
        {
            self.points.push(point.to_owned());
        }
        if mode == Mode::Freeze {
            let path = fs.path;
            self.frozen.push(FrozenPath { path, device });
        }
        self.targets.push(Target {
            point: fs.point,
            file: Arc::new(fs.file),
            mode,
        });
    }
}

/// What lies on the file system of this number that has to stay writable.
fn needed_on(device: dev_t, state_dir: &Path) -> Option<PathBuf> {
    let needed = NEEDED.iter().map(Path::new).chain([state_dir]);
    let lies_there = |path: &&Path| path.metadata().is_ok_and(|found| found.dev() == device);
    needed.into_iter().find(lies_there).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_of_points_of_this_namespace_alone() {
        let mut scene = Scene::default();
        for (point, path) in [
            ("/data", "/data"),
            ("/etc", "/proc/7/root/etc"),
            ("/a\n/etc", "/a\n/etc"),
        ] {
            let fs = FileSystem {
                number: (254, 1),
                kind: "ext4".to_owned(),
                point: point.into(),
                path: path.into(),
                file: std::fs::File::open("/dev/null").unwrap(),
            };
            scene.add(fs, Mode::Freeze, 0);
        }
        assert_eq!(scene.points, ["/data"]);
        assert_eq!(scene.targets.len(), 3);
    }

    #[test]
    fn what_is_needed_is_never_frozen() {
        let root = Path::new("/").metadata().unwrap().dev();
        assert_eq!(
            needed_on(root, Path::new("/nowhere")).as_deref(),
            Some(Path::new("/"))
        );
        let proc = Path::new("/proc").metadata().unwrap().dev();
        assert_eq!(needed_on(proc, Path::new("/nowhere")), None);
        let state = Path::new("/proc/self");
        assert_eq!(needed_on(proc, state).as_deref(), Some(state));
    }
}
