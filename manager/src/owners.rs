//! Whose a target is: a storage node is believed about its own volumes only.
//!
//! A connection over iSCSI comes from another node's answer, and one that lies may name the target, or show the serial number, of
//! another volume: of one that this host has attached already, or exports itself. This host would hand out the other's device then,
//! and take it away with the liar's volume. So a target and a serial number have one owner on this host, the attachment that
//! came first; and what an attachment was told first stays its answer until it is taken down.

use stockpot_driver::{ConnectionInfo, IscsiConnection};

use crate::{
    Manager, ManagerError,
    catalog::{Attachment, AttachmentStep},
};

impl Manager {
    /// Writes down what the storage answered, as the step that is about to be made, unless the target is another's.
    ///
    /// # Errors
    /// `FailedPrecondition` if it is; then the row stays as it was.
    pub(crate) async fn put_connection(
        &self,
        row: &mut Attachment,
        connection: &ConnectionInfo,
        step: AttachmentStep,
    ) -> Result<(), ManagerError> {
        // One at a time: two that are told the same must not both find nobody.
        let _turn = self.owners.lock().await;
        self.check_owner(row, connection).await?;
        row.step = step;
        row.connection = Some(connection.clone());
        Ok(self.catalog.put_attachment(row.clone()).await?)
    }

    async fn check_owner(
        &self,
        row: &Attachment,
        connection: &ConnectionInfo,
    ) -> Result<(), ManagerError> {
        let ConnectionInfo::Iscsi(told) = connection else {
            return Ok(());
        };
        if let Some(before) = row.connection.as_ref() {
            check_same(row, before, told)?;
        }
        let exports = self.config.exports.as_ref();
        if exports.is_some_and(|exports| exports.is_own_target(&told.target_iqn)) {
            return Err(refused(
                row,
                &format!(
                    "target {}, which has a name of this host's own exports",
                    told.target_iqn
                ),
            ));
        }
        let rows = self.catalog.attachments().await?;
        match owner(&rows, row, told) {
            None => Ok(()),
            Some(other) => Err(refused(
                row,
                &format!(
                    "target {} with serial number {}, which is attached here as that of {} {} in pool {}",
                    told.target_iqn, told.serial, other.kind, other.id, other.pool
                ),
            )),
        }
    }

    /// Whether an attachment may take down the target that it names: not one that another attachment has, too.
    pub(crate) async fn is_owner(&self, row: &Attachment) -> Result<bool, ManagerError> {
        let Some(ConnectionInfo::Iscsi(own)) = &row.connection else {
            return Ok(true);
        };
        let rows = self.catalog.attachments().await?;
        let others = rows.iter().filter(|other| is_other(other, row));
        let mut targets = others.filter_map(iscsi).map(|other| &other.target_iqn);
        Ok(targets.all(|target| *target != own.target_iqn))
    }
}

/// What was attached is attached again only as what it was.
fn check_same(
    row: &Attachment,
    before: &ConnectionInfo,
    told: &IscsiConnection,
) -> Result<(), ManagerError> {
    let is_same = match before {
        ConnectionInfo::Iscsi(before) => {
            (&before.target_iqn, before.target_lun, &before.serial)
                == (&told.target_iqn, told.target_lun, &told.serial)
        }
        ConnectionInfo::Local(_) => false,
    };
    if is_same {
        return Ok(());
    }
    Err(refused(
        row,
        &format!(
            "target {} with serial number {}, and has named another one before; detach it first, if that is right",
            told.target_iqn, told.serial
        ),
    ))
}

fn refused(row: &Attachment, what: &str) -> ManagerError {
    tracing::error!(
        pool = row.pool,
        id = row.id,
        "the storage of the pool names {what}"
    );
    ManagerError::FailedPrecondition(format!(
        "the storage of pool {} names for {} {} {what}",
        row.pool, row.kind, row.id
    ))
}

/// The other attachment that has this target, or a device of this serial number.
fn owner<'a>(
    rows: &'a [Attachment],
    row: &Attachment,
    told: &IscsiConnection,
) -> Option<&'a Attachment> {
    rows.iter()
        .filter(|other| is_other(other, row))
        .find(|other| {
            iscsi(other).is_some_and(|other| {
                other.target_iqn == told.target_iqn
                    || other.serial.eq_ignore_ascii_case(&told.serial)
            })
        })
}

fn is_other(other: &Attachment, row: &Attachment) -> bool {
    (other.kind, &other.id) != (row.kind, &row.id)
}

fn iscsi(row: &Attachment) -> Option<&IscsiConnection> {
    match &row.connection {
        Some(ConnectionInfo::Iscsi(connection)) => Some(connection),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use stockpot_driver::{AccessMode, LocalConnection};

    use super::*;
    use crate::catalog::{AttachmentKind, Purpose};

    fn told(target: &str, serial: &str) -> IscsiConnection {
        IscsiConnection {
            target_portals: vec!["192.0.2.1:3260".parse().unwrap()],
            target_iqn: target.to_owned(),
            target_lun: 0,
            serial: serial.to_owned(),
            auth: None,
            access_mode: AccessMode::ReadWrite,
            size_bytes: 4096,
        }
    }

    fn row(id: &str, connection: Option<ConnectionInfo>) -> Attachment {
        Attachment {
            kind: AttachmentKind::Volume,
            id: id.to_owned(),
            pool: format!("pool-of-{id}"),
            purpose: Purpose::Node,
            access: AccessMode::ReadWrite,
            step: AttachmentStep::Connection,
            connection,
            device_path: None,
        }
    }

    #[test]
    fn a_target_and_a_serial_number_have_one_owner() {
        let (target, other) = ("iqn.2026-01.test:a", "iqn.2026-01.test:b");
        let honest = row(
            "honest",
            Some(ConnectionInfo::Iscsi(told(target, "0a1b2c"))),
        );
        let local = ConnectionInfo::Local(LocalConnection {
            device_path: "/dev/vg/lv".into(),
            access_mode: AccessMode::ReadWrite,
            size_bytes: 4096,
        });
        let rows = [
            row("fresh", None),
            row("local", Some(local)),
            honest.clone(),
        ];
        let liar = row("liar", None);
        for (said, is_taken) in [
            (told(target, "ffff"), true),
            (told(other, "0a1b2c"), true),
            (told(other, "0A1B2C"), true),
            (told(other, "ffff"), false),
        ] {
            let found = owner(&rows, &liar, &said);
            assert_eq!(
                found.map(|row| row.id.as_str()),
                is_taken.then_some("honest"),
                "{said:?}"
            );
        }
        // The owner itself is told the same again.
        assert_eq!(owner(&rows, &honest, &told(target, "0a1b2c")), None);
    }

    #[test]
    fn what_was_told_first_stays() {
        let (target, other) = ("iqn.2026-01.test:a", "iqn.2026-01.test:b");
        let before = ConnectionInfo::Iscsi(told(target, "0a1b2c"));
        let row = row("one", Some(before.clone()));
        let mut moved = told(target, "0a1b2c");
        moved.target_portals = vec!["192.0.2.2:3260".parse().unwrap()];
        check_same(&row, &before, &moved).unwrap();
        for odd in [told(other, "0a1b2c"), told(target, "ffff")] {
            let error = check_same(&row, &before, &odd).unwrap_err().to_string();
            assert!(error.contains("pool-of-one"), "{error}");
        }
    }
}
