//! What the driver on plain files does with its files, and what it refuses.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
};

use stockpot_driver::{ByteRange, DriverError, VolumeId, remote::NodeError};

use super::{GRANULARITY, State};

/// The blocks of `new` that are not those of `old`.
pub(super) fn differences(old: &[u8], new: &[u8]) -> Vec<ByteRange> {
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
pub(super) fn pinned(state: &State, volume: &VolumeId) -> Result<(), DriverError> {
    let snapshot = state.snapshots.values().find(|s| s.volume_id == *volume);
    match snapshot.filter(|_| state.snapshots_pin) {
        Some(snapshot) => Err(DriverError::InUse {
            what: format!("volume {volume}"),
            by: format!("snapshot {}", snapshot.id),
        }),
        None => Ok(()),
    }
}

/// What a storage node that is still at it makes of a call.
pub(super) fn unanswered(call: &'static str) -> DriverError {
    let error = NodeError::NoAnswer {
        node: "fake".to_owned(),
        call,
        waited_seconds: 0,
    };
    error.into()
}

/// What a storage node says of a call that its version does not know.
pub(super) fn unknown_call(call: &str) -> DriverError {
    let error = NodeError::Lacks {
        node: "fake".to_owned(),
        what: format!("it does not know the call {call}"),
    };
    error.into()
}

pub(super) fn absent(what: &str) -> DriverError {
    DriverError::NotFound {
        what: what.to_owned(),
    }
}

pub(super) fn io_error(doing: &'static str, path: &Path, source: io::Error) -> DriverError {
    DriverError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

pub(super) fn set_len(path: &Path, size: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(size)
}

pub(super) fn remove(path: &Path) -> Result<(), DriverError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("cannot remove", path, error))
        }
        _ => Ok(()),
    }
}

pub(super) fn in_use(state: &State, name: &str) -> Result<(), DriverError> {
    if state.exports.contains(name) || state.connections.contains(name) {
        return Err(DriverError::InUse {
            what: name.to_owned(),
            by: "an export".to_owned(),
        });
    }
    Ok(())
}
