//! Which status may follow which: written down here, and nowhere else.
//!
//! Operations ask [`ask`] before they begin. Whatever writes a status, the database looks at it ([`guard`]) and refuses what is
//! not in these tables, so no change goes past them.

use rusqlite::Connection;

use super::{
    BackupStatus, CatalogError, CopyState,
    model::VolumeStatus::{
        self, Available, BackingUp, Creating, Deleting, Error, Extending, InUse, Restoring,
    },
};

/// Why a status changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// An operation is asked for.
    Asked,
    /// What was begun has ended, or was refused or undone.
    Ended,
}

use Cause::{Asked, Ended};

/// A volume's: from, to, why.
const VOLUME: &[(VolumeStatus, VolumeStatus, Cause)] = &[
    // Made; from a cloud copy, again after a failure.
    (Creating, Available, Ended),
    (Restoring, Available, Ended),
    (Restoring, Error, Ended),
    (Error, Restoring, Asked),
    // Filled anew; its old content is kept until the new is complete.
    (Available, Restoring, Asked),
    // Attached and detached.
    (Available, InUse, Asked),
    (InUse, Available, Asked),
    // Backed up: one in use until its temporary snapshot is cut, any other until it is read.
    (Available, BackingUp, Asked),
    (InUse, BackingUp, Asked),
    (BackingUp, Available, Ended),
    (BackingUp, InUse, Ended),
    // Grown.
    (Available, Extending, Asked),
    (InUse, Extending, Asked),
    (Extending, Available, Ended),
    (Extending, InUse, Ended),
    // Removed, unless the storage refuses.
    (Creating, Deleting, Asked),
    (Restoring, Deleting, Asked),
    (Available, Deleting, Asked),
    (InUse, Deleting, Asked),
    (Error, Deleting, Asked),
    (Deleting, Available, Ended),
    (Deleting, InUse, Ended),
];

/// That of one copy of a snapshot.
const COPY: &[(CopyState, CopyState, Cause)] = &[
    (CopyState::Pending, CopyState::Present, Ended),
    (CopyState::Pending, CopyState::Failed, Ended),
    (CopyState::Failed, CopyState::Pending, Asked),
    // Removed, however far it was; one that never was there too.
    (CopyState::None, CopyState::Deleted, Asked),
    (CopyState::Pending, CopyState::Deleted, Asked),
    (CopyState::Present, CopyState::Deleted, Asked),
    (CopyState::Failed, CopyState::Deleted, Asked),
];

/// A backup's.
const BACKUP: &[(BackupStatus, BackupStatus, Cause)] = &[
    (BackupStatus::Creating, BackupStatus::Available, Ended),
    (BackupStatus::Creating, BackupStatus::Error, Ended),
    (BackupStatus::Creating, BackupStatus::Cancelling, Asked),
    // Its snapshot was deleted meanwhile.
    (BackupStatus::Creating, BackupStatus::Cancelled, Ended),
    (BackupStatus::Cancelling, BackupStatus::Cancelled, Ended),
    // Its cloud copy was deleted.
    (BackupStatus::Available, BackupStatus::Deleted, Ended),
];

/// Something that has a status.
pub(crate) trait Stateful: Copy + PartialEq + 'static {
    /// As it is called in messages.
    const WHAT: &'static str;
    /// The word of a status.
    fn word(self) -> &'static str;
    /// Whether it may be asked to go from one to the other.
    fn may_be_asked(self, to: Self) -> bool;
    /// Whether the one may follow the other at all.
    fn may_become(self, to: Self) -> bool;
}

macro_rules! stateful {
    ($status:ty, $what:literal, $table:ident) => {
        impl Stateful for $status {
            const WHAT: &'static str = $what;

            fn word(self) -> &'static str {
                self.as_str()
            }

            fn may_be_asked(self, to: Self) -> bool {
                $table.contains(&(self, to, Asked))
            }

            fn may_become(self, to: Self) -> bool {
                self.may_be_asked(to) || $table.contains(&(self, to, Ended))
            }
        }
    };
}
stateful!(VolumeStatus, "volume", VOLUME);
stateful!(CopyState, "copy of snapshot", COPY);
stateful!(BackupStatus, "backup", BACKUP);

impl VolumeStatus {
    /// Whether the volume is there with its content: it can be read and cut.
    #[must_use]
    pub fn is_there(self) -> bool {
        matches!(self, Available | InUse | BackingUp | Extending)
    }

    /// Whether it stays like this until somebody asks for something.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Available | InUse | Error)
    }
}

/// Refuses an operation that does not begin in this status.
///
/// # Errors
/// [`CatalogError::Transition`], which names both.
pub(crate) fn ask<S: Stateful>(id: &str, from: S, to: S) -> Result<(), CatalogError> {
    match from.may_be_asked(to) {
        true => Ok(()),
        false => Err(refused(id, from, to)),
    }
}

/// Refuses a change that is in no table.
pub(super) fn check<S: Stateful>(id: &str, from: S, to: S) -> Result<(), CatalogError> {
    match from.may_become(to) {
        true => Ok(()),
        false => Err(refused(id, from, to)),
    }
}

fn refused<S: Stateful>(id: &str, from: S, to: S) -> CatalogError {
    CatalogError::Transition {
        what: format!("{} {id}", S::WHAT),
        from: from.word(),
        to: to.word(),
    }
}

/// Lets the database refuse, on this connection, every change that is in no table.
pub(super) fn guard(connection: &Connection) -> Result<(), CatalogError> {
    connection.execute_batch(&trigger("volumes", "status", VOLUME))?;
    for column in ["local_state", "cloud_state"] {
        connection.execute_batch(&trigger("snapshots", column, COPY))?;
    }
    connection.execute_batch(&trigger("backups", "status", BACKUP))?;
    Ok(())
}

fn trigger<S: Stateful>(table: &str, column: &str, allowed: &[(S, S, Cause)]) -> String {
    let pairs: Vec<String> = allowed
        .iter()
        .map(|(from, to, _)| format!("'{}>{}'", from.word(), to.word()))
        .collect();
    // Temporary: it binds this program, and not whoever repairs a row by hand.
    format!(
        "CREATE TEMP TRIGGER {table}_{column} BEFORE UPDATE OF {column} ON main.{table}
         WHEN OLD.{column} <> NEW.{column} AND (OLD.{column} || '>' || NEW.{column}) NOT IN ({})
         BEGIN SELECT RAISE(ABORT, 'this status does not follow from that one'); END;",
        pairs.join(", ")
    )
}

#[cfg(test)]
mod tests;
