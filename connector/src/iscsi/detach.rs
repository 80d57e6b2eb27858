//! From a device to nothing left on this host.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::libc::{
    EBUSY, EIO, ENODEV, ENOENT, ENOLINK, ENOMEDIUM, ENXIO, EREMOTEIO, ETIMEDOUT, O_CLOEXEC, O_EXCL,
    O_NONBLOCK,
};
use tokio::time::Instant;

use super::{
    IscsiConfig, blocking, foreign, iscsiadm,
    multipath::{self, Map},
    record,
    sysfs::{self, Disk, Session},
};
use crate::{ConnectorError, blkdev, in_use};

const POLL: Duration = Duration::from_millis(20);

/// What the kernel answers to whoever opens a device that is gone, or whose session is lost.
const LOST: [i32; 8] = [
    ENOENT, ENXIO, ENODEV, EIO, ETIMEDOUT, ENOLINK, EREMOTEIO, ENOMEDIUM,
];

/// Detaches everything of one target, unless somebody holds its device: then nothing is done.
pub(super) async fn disconnect(config: &IscsiConfig, target: &str) -> Result<(), ConnectorError> {
    foreign::leave_others(target).await?;
    let there = Attached::of(target)?;
    // Held until the removal: whoever comes meanwhile is refused, and not left with a device that is taken away.
    let mut claims = Vec::new();
    for path in there.devices() {
        let device = path.clone();
        let claimed = blocking(config.device_timeout, "opening", &path, move || {
            let claimed = claim(&device)?;
            in_use::check_unclaimed(&device)?;
            Ok(claimed)
        });
        claims.extend(claimed.await?);
    }
    for path in there.devices() {
        let device = path.clone();
        let flushed = blocking(config.flush_timeout, "flushing", &path, move || {
            flush(&device)
        })
        .await;
        if let Err(error) = flushed {
            // Nothing more can reach a device whose session is lost; its users have had their errors. One that came back meanwhile is not lost.
            let sessions = sysfs::sessions_of(target)?;
            if sessions.iter().any(|session| session.logged_in) {
                return Err(error);
            }
            tracing::warn!(device = %path.display(), %error, "detached without its session, not flushed");
        }
    }
    remove(config, target, claims).await
}

/// Removes map, disks, sessions and records of one target, in this order. `claims` holds what users of it would open.
pub(super) async fn remove(
    config: &IscsiConfig,
    target: &str,
    mut claims: Vec<File>,
) -> Result<(), ConnectorError> {
    let limit = config.device_timeout;
    foreign::leave_others(target).await?;
    let there = Attached::of(target)?;
    if let Some(map) = &there.map {
        // The kernel removes a map only while nobody has it open, us included.
        claims.clear();
        map.remove(limit).await?;
    }
    for disk in &there.disks {
        let (gone, path) = (disk.clone(), disk.path());
        blocking(config.flush_timeout, "removing", &path, move || {
            gone.delete()
        })
        .await?;
    }
    drop(claims);
    until(limit, "removing a device", target, || {
        Ok(there.disks.iter().all(|disk| !disk.is_there()))
    })
    .await?;
    for session in &there.sessions {
        iscsiadm::logout(session.id).await?;
    }
    for record in record::records_of(config, target)? {
        iscsiadm::delete_record(target, record.portal).await?;
    }
    until(limit, "logging out", target, || {
        Ok(sysfs::sessions_of(target)?.is_empty())
    })
    .await?;
    if record::records_of(config, target)?.is_empty() {
        return Ok(());
    }
    Err(ConnectorError::Stuck {
        doing: "removing the node record of",
        path: PathBuf::from(target),
        waited_seconds: 0,
    })
}

/// What of one target is on this host.
pub(super) struct Attached {
    sessions: Vec<Session>,
    disks: Vec<Disk>,
    map: Option<Map>,
}

impl Attached {
    pub(super) fn of(target: &str) -> Result<Self, ConnectorError> {
        let sessions = sysfs::sessions_of(target)?;
        let mut disks = Vec::new();
        for session in &sessions {
            disks.extend(session.disks()?);
        }
        let mut map = None;
        for disk in &disks {
            // One that has paths to other targets' disks is theirs.
            let found = multipath::map_of(disk)?;
            if let Some(found) = found.filter(|_| map.is_none())
                && found.path_of_others(&disks)?.is_none()
            {
                map = Some(found);
            }
        }
        Ok(Self {
            sessions,
            disks,
            map,
        })
    }

    /// What users of it open: the map, or the disks.
    fn devices(&self) -> Vec<PathBuf> {
        match &self.map {
            Some(map) => vec![map.path()],
            None => self.disks.iter().map(Disk::path).collect(),
        }
    }
}

/// Holds the device, if nobody does: no mount, no device on top, no target. `None` for one that is lost, which cannot be held.
///
/// # Errors
/// `InUse`; `Io` where it is not the device that keeps it from being opened: whether somebody holds it is not known then.
fn claim(path: &Path) -> Result<Option<File>, ConnectorError> {
    match open(path, O_EXCL) {
        Ok(claimed) => Ok(Some(claimed)),
        Err(error) => match error.raw_os_error() {
            Some(EBUSY) => Err(in_use::claimed(path)),
            Some(number) if LOST.contains(&number) => Ok(None),
            _ => Err(sysfs::failed("cannot hold", path)(error)),
        },
    }
}

fn flush(path: &Path) -> Result<(), ConnectorError> {
    let failed = sysfs::failed("cannot flush", path);
    let device = match open(path, 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        device => device.map_err(failed)?,
    };
    device
        .sync_all()
        .and_then(|()| blkdev::flush(&device))
        .map_err(failed)
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_CLOEXEC | O_NONBLOCK | flags)
        .open(path)
}

async fn until(
    limit: Duration,
    doing: &'static str,
    target: &str,
    reached: impl Fn() -> Result<bool, ConnectorError>,
) -> Result<(), ConnectorError> {
    let started = Instant::now();
    while !reached()? {
        if started.elapsed() >= limit {
            return Err(ConnectorError::Stuck {
                doing,
                path: PathBuf::from(target),
                waited_seconds: limit.as_secs(),
            });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_gone_is_told_from_one_that_cannot_be_looked_at() {
        let none = Path::new("/dev/no-such-disk");
        assert!(claim(none).unwrap().is_none());
        // Not the device's doing.
        let odd = claim(Path::new("/dev/null/disk")).unwrap_err();
        assert!(
            matches!(odd, ConnectorError::Io { doing, .. } if doing == "cannot hold"),
            "{odd:?}"
        );
    }
}
