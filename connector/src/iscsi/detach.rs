//! From a device to nothing left on this host.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::libc::{EBUSY, O_CLOEXEC, O_EXCL, O_NONBLOCK};
use tokio::time::Instant;

use super::{
    IscsiConfig, blocking, iscsiadm,
    multipath::{self, Map},
    record,
    sysfs::{self, Disk, Session},
};
use crate::{ConnectorError, blkdev};

const POLL: Duration = Duration::from_millis(20);

/// Detaches everything of one target, unless somebody holds its device: then nothing is done.
pub(super) async fn disconnect(config: &IscsiConfig, target: &str) -> Result<(), ConnectorError> {
    let there = Attached::of(target)?;
    let logged_in = there.sessions.iter().any(|session| session.logged_in);
    for path in there.devices() {
        let device = path.clone();
        blocking(config.device_timeout, "opening", &path, move || {
            claim(&device)
        })
        .await?;
    }
    for path in there.devices() {
        let device = path.clone();
        let flushed = blocking(config.flush_timeout, "flushing", &path, move || {
            flush(&device)
        })
        .await;
        match flushed {
            // Nothing more can reach a device whose session is lost; its users have had their errors.
            Err(error) if !logged_in => {
                tracing::warn!(device = %path.display(), %error, "detached without its session, not flushed");
            }
            result => result?,
        }
    }
    remove(config, target).await
}

/// Removes map, disks, sessions and records of one target, in this order.
pub(super) async fn remove(config: &IscsiConfig, target: &str) -> Result<(), ConnectorError> {
    let limit = config.device_timeout;
    let there = Attached::of(target)?;
    if let Some(map) = &there.map {
        map.remove(limit).await?;
    }
    for disk in &there.disks {
        let (gone, path) = (disk.clone(), disk.path());
        blocking(config.flush_timeout, "removing", &path, move || {
            gone.delete()
        })
        .await?;
    }
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
            map = map.or(multipath::map_of(disk)?);
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

/// Whether nobody holds it: no mount, no device on top, no target.
fn claim(path: &Path) -> Result<(), ConnectorError> {
    match open(path, O_EXCL) {
        Err(error) if error.raw_os_error() == Some(EBUSY) => Err(ConnectorError::InUse {
            path: path.to_owned(),
        }),
        // A device that is lost cannot be opened, and cannot be held.
        _ => Ok(()),
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

fn open(path: &Path, flags: i32) -> io::Result<std::fs::File> {
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
