//! From a connection to a checked device.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::libc::{ENODEV, ENOENT, ENXIO, O_CLOEXEC, O_NONBLOCK};
use stockpot_driver::{IscsiConnection, LocalConnection};
use tokio::time::{Duration, Instant};

use super::{
    IscsiConfig, blocking, detach, foreign, iscsiadm, multipath, ready,
    record::{self, Settings},
    sysfs::{self, Disk, Session},
};
use crate::{AttachedDevice, ConnectorError, LocalConnector};

const POLL: Duration = Duration::from_millis(20);
/// How often the target is asked for the logical unit while it is not there.
const SCAN_AGAIN: Duration = Duration::from_secs(1);

/// How a device that is there already is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// As a new connection: its access mode becomes the connection's.
    Afresh,
    /// As one in use: one that was made read-only since stays so.
    Confirmed,
}

/// Attaches, or makes sure. What a failed call made is taken back; what was there before stays.
pub(super) async fn connect(
    config: &IscsiConfig,
    connection: &IscsiConnection,
    again: Again,
) -> Result<AttachedDevice, ConnectorError> {
    connection.check().map_err(ConnectorError::Odd)?;
    ready::check(config).await?;
    let target = &connection.target_iqn;
    // What is in use goes on as it is: its reads and writes wait, and nobody but the kernel knows all who have it open.
    if again == Again::Afresh {
        end_lost(config, target).await?;
        end_elsewhere(config, connection).await?;
    }
    let was_there = !sysfs::sessions_of(target)?.is_empty();
    foreign::check_serial(target, &connection.serial)?;
    let attached = attach(config, connection, again).await;
    if matches!(attached, Err(ConnectorError::SameDisk { .. })) {
        foreign::leave_others(target).await?;
    }
    match attached {
        Err(error) if !was_there => {
            if let Err(undo) = detach::remove(config, target, Vec::new()).await {
                tracing::warn!(target_iqn = %target, %undo, "what a failed attachment left could not be removed");
            }
            Err(error)
        }
        result => result,
    }
}

/// A session that is lost comes back by itself, or never: its secrets may have been renewed since, and it goes on with the
/// old ones. One that does not come back while reads and writes would wait for it is ended, unless somebody holds its device.
async fn end_lost(config: &IscsiConfig, target: &str) -> Result<(), ConnectorError> {
    let started = Instant::now();
    loop {
        let sessions = sysfs::sessions_of(target)?;
        if sessions.is_empty() || sessions.iter().any(|session| session.logged_in) {
            return Ok(());
        }
        if started.elapsed() >= config.replacement_timeout {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    tracing::warn!(target_iqn = %target, "its session is lost and does not come back: logging in anew");
    match detach::disconnect(config, target).await {
        Err(error @ ConnectorError::InUse { .. }) => {
            tracing::warn!(target_iqn = %target, %error, "the lost session stays");
            Ok(())
        }
        result => result,
    }
}

/// A session at none of the portals that are asked for may be with another storage node, which shows a target of the same name.
/// It is ended, so that the login is where it is asked for; if somebody holds its device, nothing is done and that is the error.
async fn end_elsewhere(
    config: &IscsiConfig,
    connection: &IscsiConnection,
) -> Result<(), ConnectorError> {
    let target = &connection.target_iqn;
    let sessions = sysfs::sessions_of(target)?;
    let is_elsewhere = |session: &Session| session.is_at(&connection.target_portals) == Some(false);
    let Some(first) = sessions
        .first()
        .filter(|_| sessions.iter().all(is_elsewhere))
    else {
        return Ok(());
    };
    tracing::warn!(
        target_iqn = %target,
        session_portal = ?first.portal,
        portals = ?connection.target_portals,
        "its session is at another portal than those asked for: logging in anew"
    );
    detach::disconnect(config, target).await
}

async fn attach(
    config: &IscsiConfig,
    connection: &IscsiConnection,
    again: Again,
) -> Result<AttachedDevice, ConnectorError> {
    let several = connection.target_portals.len() > 1;
    let multipath = several && multipath::is_running().await;
    if several && !multipath {
        tracing::warn!(
            target_iqn = %connection.target_iqn,
            "multipathd does not run on this host (Debian package multipath-tools): only one of the target's portals is used"
        );
    }
    log_in(config, connection, multipath).await?;
    let mut disks = Vec::new();
    let mut sessions = sysfs::sessions_of(&connection.target_iqn)?;
    // Where only one is used, it is one of those that were asked for.
    if !multipath {
        sessions.sort_by_key(|session| session.is_at(&connection.target_portals) != Some(true));
    }
    for session in sessions {
        let disk = disk(config, &session, connection.target_lun).await;
        match disk {
            Ok(disk) => disks.push(disk),
            Err(error @ ConnectorError::SameDisk { .. }) => return Err(error),
            // Another path may do.
            Err(error) if multipath => {
                tracing::warn!(%error, session = session.id, "a path is not usable")
            }
            Err(error) => return Err(error),
        }
    }
    let Some(first) = disks.first().cloned() else {
        return Err(ConnectorError::Missing {
            path: PathBuf::from(format!(
                "logical unit {} of {}",
                connection.target_lun, connection.target_iqn
            )),
            waited_seconds: config.device_timeout.as_secs(),
        });
    };
    foreign::check(&connection.target_iqn)?;
    for disk in &disks {
        check_serial(disk, &connection.serial)?;
    }
    let device_path = if multipath && disks.len() > 1 || multipath::map_of(&first)?.is_some() {
        let map = multipath::assemble(&disks, config.device_timeout).await?;
        foreign::check_map(&connection.target_iqn, &map)?;
        if map.size_bytes()? != connection.size_bytes
            && first.size_bytes()? == connection.size_bytes
        {
            map.resize().await?;
        }
        map.path()
    } else {
        first.path()
    };
    let local = LocalConnection {
        device_path,
        access_mode: connection.access_mode,
        size_bytes: connection.size_bytes,
    };
    until_open(config, &local.device_path).await?;
    let connector = LocalConnector::with_appear_timeout(config.device_timeout);
    match again {
        Again::Afresh => connector.connect(&local).await,
        Again::Confirmed => connector.confirm(&local).await,
    }
}

/// Logs in at every portal, or at the first that answers.
async fn log_in(
    config: &IscsiConfig,
    connection: &IscsiConnection,
    every: bool,
) -> Result<(), ConnectorError> {
    let target = &connection.target_iqn;
    let there = sysfs::sessions_of(target)?;
    if !there.is_empty() && !every {
        return Ok(());
    }
    // Before anything is made or removed by these names: the target and its portals are another node's words.
    if let Some(path) = record::of_others(config, target, &connection.target_portals)? {
        return Err(ConnectorError::Host(format!(
            "open-iscsi has a node record of {target} at this portal that is not ours ({}), and it would be overwritten; if \
             nobody needs it, remove it (`iscsiadm -m node -T {target} -o delete`)",
            path.display()
        )));
    }
    iscsiadm::ensure_interface().await?;
    let mut failure = None;
    let mut logged_in = there.len();
    for portal in &connection.target_portals {
        let is_there = |session: &Session| session.is_at(&[*portal]) == Some(true);
        if there.iter().any(is_there) {
            continue;
        }
        match log_in_at(config, connection, *portal, every).await {
            Ok(()) => logged_in += 1,
            Err(error) => {
                tracing::warn!(target_iqn = %target, %portal, %error, "a portal cannot be used");
                iscsiadm::delete_record(target, *portal).await?;
                let refused = matches!(
                    error,
                    ConnectorError::Refused { .. } | ConnectorError::Host(_)
                );
                failure = Some(error);
                // What one portal refuses, all do; and trying again could lock the initiator out.
                if refused {
                    break;
                }
            }
        }
        if logged_in > 0 && !every {
            break;
        }
    }
    match failure {
        Some(error) if logged_in == 0 => Err(error),
        _ if logged_in == 0 => Err(ConnectorError::Host(
            "the connection names no portal".into(),
        )),
        _ => Ok(()),
    }
}

async fn log_in_at(
    config: &IscsiConfig,
    connection: &IscsiConnection,
    portal: std::net::SocketAddr,
    several: bool,
) -> Result<(), ConnectorError> {
    let target = &connection.target_iqn;
    // One that a crash left may say anything.
    iscsiadm::delete_record(target, portal).await?;
    iscsiadm::new_record(target, portal).await?;
    let records = record::records_of(config, target)?;
    let Some(record) = records.into_iter().find(|record| record.portal == portal) else {
        return Err(ConnectorError::Host(format!(
            "open-iscsi made a node record, and it is in none of {:?}; name its node database",
            config.node_databases
        )));
    };
    record.write(&Settings::new(config, connection.auth.as_ref(), several))?;
    iscsiadm::login(target, portal, config.login_timeout).await
}

/// Waits for the session's disk, and makes the kernel ask it again if it was there already.
async fn disk(config: &IscsiConfig, session: &Session, lun: u16) -> Result<Disk, ConnectorError> {
    if let Some(disk) = session.disk(lun)? {
        if session.logged_in {
            let (asked, path) = (disk.clone(), disk.path());
            blocking(
                config.device_timeout,
                "looking again at",
                &path,
                move || asked.rescan(),
            )
            .await?;
        }
        return Ok(disk);
    }
    let started = Instant::now();
    let mut scanned: Option<Instant> = None;
    let name = PathBuf::from(format!("logical unit {lun} of {}", session.target));
    loop {
        if scanned.is_none_or(|at| at.elapsed() >= SCAN_AGAIN) {
            let scanning = session.clone();
            blocking(config.device_timeout, "scanning for", &name, move || {
                scanning.scan(lun)
            })
            .await?;
            // At once: multipath is about to look at it, too.
            foreign::check(&session.target)?;
            scanned = Some(Instant::now());
        }
        if let Some(disk) = session
            .disk(lun)?
            .filter(|disk| disk.size_bytes().is_ok_and(|size| size > 0))
        {
            return Ok(disk);
        }
        if started.elapsed() >= config.device_timeout {
            return Err(ConnectorError::Missing {
                path: name,
                waited_seconds: config.device_timeout.as_secs(),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Nothing is read from a device before this.
fn check_serial(disk: &Disk, expected: &str) -> Result<(), ConnectorError> {
    let found = disk.serial()?.unwrap_or_default();
    if found == expected && !expected.is_empty() {
        return Ok(());
    }
    Err(ConnectorError::WrongSerial {
        path: disk.path(),
        expected: expected.to_owned(),
        found,
    })
}

/// The kernel shows a new disk, node and size included, a moment before it can be opened.
async fn until_open(config: &IscsiConfig, device: &Path) -> Result<(), ConnectorError> {
    let started = Instant::now();
    loop {
        let path = device.to_owned();
        let opened = blocking(config.device_timeout, "opening", device, move || {
            let opened = OpenOptions::new()
                .read(true)
                .custom_flags(O_CLOEXEC | O_NONBLOCK)
                .open(path);
            Ok(opened.map(drop))
        });
        let opened = opened.await?;
        match opened.err().and_then(|error| error.raw_os_error()) {
            Some(ENXIO | ENODEV | ENOENT) if started.elapsed() < config.device_timeout => {
                tokio::time::sleep(POLL).await;
            }
            // Whatever it is, the next step says it better.
            _ => return Ok(()),
        }
    }
}
