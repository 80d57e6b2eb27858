//! Values to messages and back. What comes from the other node is checked like everything that comes from outside.

use std::net::SocketAddr;

use secrecy::{ExposeSecret, SecretString};
use stockpot_proto::stockpot::v1::storage as api;

use crate::{
    AccessMode, ByteRange, Capacity, ChapCredentials, ConnectionInfo, ConnectorProperties,
    Headroom, IscsiAuth, IscsiConnection, LocalConnection, SnapshotInfo, VolumeInfo,
};

/// What is wrong with a message, in words.
pub(super) type Odd = String;

pub(super) fn volume(info: VolumeInfo) -> api::Volume {
    api::Volume {
        id: info.id.to_string(),
        size_bytes: info.size_bytes,
    }
}

pub(super) fn volume_info(message: api::Volume) -> Result<VolumeInfo, Odd> {
    Ok(VolumeInfo {
        id: id(&message.id)?,
        size_bytes: message.size_bytes,
    })
}

pub(super) fn snapshot(info: SnapshotInfo) -> api::Snapshot {
    api::Snapshot {
        id: info.id.to_string(),
        volume_id: info.volume_id.to_string(),
        size_bytes: info.size_bytes,
        created_at_us: info.created_at_us,
    }
}

pub(super) fn snapshot_info(message: api::Snapshot) -> Result<SnapshotInfo, Odd> {
    Ok(SnapshotInfo {
        id: id(&message.id)?,
        volume_id: id(&message.volume_id)?,
        size_bytes: message.size_bytes,
        created_at_us: message.created_at_us,
    })
}

/// Reads an id.
pub(super) fn id<T: std::str::FromStr<Err = crate::InvalidId>>(text: &str) -> Result<T, Odd> {
    text.parse()
        .map_err(|error: crate::InvalidId| error.to_string())
}

pub(super) fn capacity(capacity: Capacity) -> api::CapacityAnswer {
    api::CapacityAnswer {
        available_bytes: capacity.available_bytes,
        total_bytes: capacity.total_bytes,
        maximum_volume_bytes: capacity.maximum_volume_bytes,
        granularity_bytes: capacity.granularity_bytes,
    }
}

pub(super) fn capacity_of(answer: api::CapacityAnswer) -> Result<Capacity, Odd> {
    if answer.granularity_bytes == 0 {
        return Err("sizes in multiples of 0".to_owned());
    }
    Ok(Capacity {
        available_bytes: answer.available_bytes,
        total_bytes: answer.total_bytes,
        maximum_volume_bytes: answer.maximum_volume_bytes,
        granularity_bytes: answer.granularity_bytes,
    })
}

pub(super) fn room(headroom: Headroom) -> api::Room {
    api::Room {
        is_low: headroom.is_low,
        data_used: headroom.data_used,
        metadata_used: headroom.metadata_used,
        text: headroom.text,
    }
}

pub(super) fn headroom(room: api::Room) -> Headroom {
    Headroom {
        is_low: room.is_low,
        data_used: room.data_used,
        metadata_used: room.metadata_used,
        text: one_line(&room.text),
    }
}

/// Longest text of another node's that is passed on, in characters.
const TEXT_MAX: usize = 1000;

/// Another node's words, for the log: on one line, without what a terminal would obey.
pub(super) fn one_line(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    text.chars().take(TEXT_MAX).map(shown).collect()
}

pub(super) fn mode(mode: AccessMode) -> i32 {
    match mode {
        AccessMode::ReadOnly => api::AccessMode::ReadOnly.into(),
        AccessMode::ReadWrite => api::AccessMode::ReadWrite.into(),
    }
}

pub(super) fn access_mode(number: i32) -> Result<AccessMode, Odd> {
    match api::AccessMode::try_from(number) {
        Ok(api::AccessMode::ReadOnly) => Ok(AccessMode::ReadOnly),
        Ok(api::AccessMode::ReadWrite) => Ok(AccessMode::ReadWrite),
        Ok(api::AccessMode::Unspecified) | Err(_) => Err("no access mode".to_owned()),
    }
}

pub(super) fn host(properties: &ConnectorProperties) -> api::Host {
    api::Host {
        host: properties.host.clone(),
        ip: properties.ip.clone(),
        initiator: properties.initiator.clone(),
        multipath: properties.multipath,
    }
}

pub(super) fn properties(host: Option<api::Host>) -> Result<ConnectorProperties, Odd> {
    let host = host.filter(|host| !host.host.is_empty());
    let host = host.ok_or("it does not say which host")?;
    Ok(ConnectorProperties {
        host: host.host,
        ip: host.ip,
        initiator: host.initiator,
        multipath: host.multipath,
    })
}

pub(super) fn connection(info: ConnectionInfo) -> api::Connection {
    use api::connection::How;
    let (mode, size_bytes) = (mode(info.access_mode()), info.size_bytes());
    let how = match info {
        ConnectionInfo::Local(local) => {
            How::LocalDevicePath(local.device_path.to_string_lossy().into_owned())
        }
        ConnectionInfo::Iscsi(iscsi) => {
            let portals = iscsi.target_portals.iter().map(ToString::to_string);
            let (initiator, target) = match iscsi.auth {
                Some(auth) => (Some(chap(&auth.initiator)), auth.target.as_ref().map(chap)),
                None => (None, None),
            };
            How::Iscsi(api::Iscsi {
                portals: portals.collect(),
                target_iqn: iscsi.target_iqn,
                lun: iscsi.target_lun.into(),
                serial: iscsi.serial,
                initiator,
                target,
            })
        }
    };
    api::Connection {
        mode,
        size_bytes,
        how: Some(how),
    }
}

pub(super) fn connection_info(message: api::Connection) -> Result<ConnectionInfo, Odd> {
    use api::connection::How;
    let (access_mode, size_bytes) = (access_mode(message.mode)?, message.size_bytes);
    match message.how {
        None => Err("a connection of no kind that is known here".to_owned()),
        Some(How::LocalDevicePath(path)) => Ok(ConnectionInfo::Local(LocalConnection {
            device_path: path.into(),
            access_mode,
            size_bytes,
        })),
        Some(How::Iscsi(iscsi)) => {
            let portals: Result<Vec<SocketAddr>, _> =
                iscsi.portals.iter().map(|text| text.parse()).collect();
            let portals = portals.map_err(|_| format!("portals {:?}", iscsi.portals))?;
            let target = iscsi.target.map(credentials);
            let auth = iscsi.initiator.map(|initiator| IscsiAuth {
                initiator: credentials(initiator),
                target,
            });
            let connection = IscsiConnection {
                target_portals: portals,
                target_iqn: iscsi.target_iqn,
                target_lun: u16::try_from(iscsi.lun).map_err(|_| format!("LUN {}", iscsi.lun))?,
                serial: iscsi.serial,
                auth,
                access_mode,
                size_bytes,
            };
            connection.check()?;
            Ok(ConnectionInfo::Iscsi(connection))
        }
    }
}

fn chap(credentials: &ChapCredentials) -> api::Chap {
    api::Chap {
        username: credentials.username.clone(),
        password: credentials.password.expose_secret().to_owned(),
    }
}

fn credentials(chap: api::Chap) -> ChapCredentials {
    ChapCredentials {
        username: chap.username,
        password: SecretString::from(chap.password),
    }
}

pub(super) fn range(range: &ByteRange) -> api::Range {
    api::Range {
        offset_bytes: range.offset_bytes,
        length_bytes: range.length_bytes,
    }
}

/// Appends a page; ranges ascend and do not overlap over all pages.
pub(super) fn append_ranges(all: &mut Vec<ByteRange>, page: Vec<api::Range>) -> Result<(), Odd> {
    for range in page {
        let least = all.last().map_or(0, |r| r.offset_bytes + r.length_bytes);
        let ends = range.offset_bytes.checked_add(range.length_bytes);
        if range.length_bytes == 0 || range.offset_bytes < least || ends.is_none() {
            return Err(format!(
                "a range of {} bytes at {}, after one that ends at {least}",
                range.length_bytes, range.offset_bytes
            ));
        }
        all.push(ByteRange {
            offset_bytes: range.offset_bytes,
            length_bytes: range.length_bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::samples;

    fn iscsi() -> ConnectionInfo {
        ConnectionInfo::Iscsi(samples::iscsi())
    }

    #[test]
    fn connections_arrive_with_their_secrets_and_print_none() {
        let message = connection(iscsi());
        let printed = format!("{message:?}");
        assert!(!printed.contains("-secret"), "{printed}");
        assert_eq!(connection_info(message).unwrap(), iscsi());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let change = |change: fn(&mut api::Iscsi)| {
            let mut message = connection(iscsi());
            if let Some(api::connection::How::Iscsi(iscsi)) = &mut message.how {
                change(iscsi);
            }
            connection_info(message)
        };
        for odd in [
            change(|iscsi| iscsi.portals.clear()),
            change(|iscsi| iscsi.portals.push("storage:3260".to_owned())),
            change(|iscsi| iscsi.serial.clear()),
            change(|iscsi| iscsi.serial = "ab\ncd".to_owned()),
            change(|iscsi| iscsi.target_iqn.clear()),
            change(|iscsi| iscsi.target_iqn = "../../x".to_owned()),
            change(|iscsi| iscsi.target_iqn = "iqn.2026-01.test:../../x".to_owned()),
            change(|iscsi| iscsi.target_iqn = format!("iqn.{}", "a".repeat(220))),
            change(|iscsi| iscsi.portals = vec!["192.0.2.1:3260".to_owned(); 17]),
            change(|iscsi| iscsi.portals.push("192.0.2.1:0".to_owned())),
            change(|iscsi| iscsi.portals.push("[::]:3260".to_owned())),
            change(|iscsi| {
                let initiator = iscsi.initiator.as_mut().unwrap();
                initiator.password = "a\nnode.startup = automatic".to_owned();
            }),
            change(|iscsi| iscsi.target.as_mut().unwrap().username = "a b".to_owned()),
            change(|iscsi| iscsi.lun = 1 << 16),
            connection_info(api::Connection::default()),
        ] {
            assert!(odd.is_err(), "{odd:?}");
        }
        let range = |offset_bytes, length_bytes| api::Range {
            offset_bytes,
            length_bytes,
        };
        let mut all = Vec::new();
        append_ranges(&mut all, vec![range(0, 4096), range(4096, 1)]).unwrap();
        for odd in [
            range(0, 1),
            range(4096, 8),
            range(9000, 0),
            range(u64::MAX, 2),
        ] {
            assert!(append_ranges(&mut all, vec![odd]).is_err(), "{odd:?}");
        }
        assert_eq!(all.len(), 2);
        assert!(volume_info(api::Volume::default()).is_err());
        assert!(snapshot_info(api::Snapshot::default()).is_err());
        assert!(capacity_of(api::CapacityAnswer::default()).is_err());
        assert!(properties(None).is_err());
    }
}
