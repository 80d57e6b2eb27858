//! What is attached to this host.

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use stockpot_driver::AccessMode;

use super::{
    Attachment, AttachmentKind, Catalog, CatalogError,
    codec::{Columns, to_json},
};

const ALL: &str = "SELECT * FROM attachments ORDER BY kind, id";
const ONE: &str = "SELECT * FROM attachments WHERE kind = ?1 AND id = ?2";

impl Catalog {
    /// Writes an attachment, or how far it has come.
    ///
    /// # Errors
    /// `Database`.
    pub async fn put_attachment(&self, attachment: Attachment) -> Result<(), CatalogError> {
        self.call(move |connection| put(connection, &attachment))
            .await
    }

    /// The attachment of a volume or snapshot.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn attachment(
        &self,
        kind: AttachmentKind,
        id: &str,
    ) -> Result<Option<Attachment>, CatalogError> {
        let id = id.to_owned();
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(ONE)?;
            statement
                .query_row((kind.as_str(), id), |row| Ok(read(row)))
                .optional()?
                .transpose()
        })
        .await
    }

    /// Every attachment.
    ///
    /// # Errors
    /// `Database`, `Row`.
    pub async fn attachments(&self) -> Result<Vec<Attachment>, CatalogError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached(ALL)?;
            let mut rows = statement.query([])?;
            let mut attachments = Vec::new();
            while let Some(row) = rows.next()? {
                attachments.push(read(row)?);
            }
            Ok(attachments)
        })
        .await
    }

    /// Forgets an attachment that was taken down.
    ///
    /// # Errors
    /// `Database`.
    pub async fn remove_attachment(
        &self,
        kind: AttachmentKind,
        id: &str,
    ) -> Result<(), CatalogError> {
        let id = id.to_owned();
        self.call(move |connection| {
            connection.execute(
                "DELETE FROM attachments WHERE kind = ?1 AND id = ?2",
                (kind.as_str(), id),
            )?;
            Ok(())
        })
        .await
    }
}

fn put(connection: &Connection, attachment: &Attachment) -> Result<(), CatalogError> {
    let access = match attachment.access {
        AccessMode::ReadOnly => "ro",
        AccessMode::ReadWrite => "rw",
    };
    connection.execute(
        "INSERT OR REPLACE INTO attachments (kind, id, pool, purpose, access, step, connection, device_path)
         VALUES (:kind, :id, :pool, :purpose, :access, :step, :connection, :device)",
        named_params! {
            ":kind": attachment.kind.as_str(),
            ":id": attachment.id,
            ":pool": attachment.pool,
            ":purpose": attachment.purpose.as_str(),
            ":access": access,
            ":step": attachment.step.as_str(),
            ":connection": attachment.connection.as_ref().map(to_json),
            ":device": attachment.device_path.as_ref().map(|path| path.to_string_lossy()),
        },
    )?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Attachment, CatalogError> {
    let columns = Columns {
        table: "attachments",
        row,
    };
    let connection = match columns.optional_text("connection")? {
        None => None,
        Some(_) => Some(columns.json("connection")?),
    };
    let access = match columns.text("access")?.as_str() {
        "ro" => AccessMode::ReadOnly,
        "rw" => AccessMode::ReadWrite,
        other => return Err(columns.unusable("access", other)),
    };
    Ok(Attachment {
        kind: columns.word("kind")?,
        id: columns.text("id")?,
        pool: columns.text("pool")?,
        purpose: columns.word("purpose")?,
        access,
        step: columns.word("step")?,
        connection,
        device_path: columns.optional_text("device_path")?.map(Into::into),
    })
}

#[cfg(test)]
mod tests {
    use stockpot_driver::{ConnectionInfo, LocalConnection};

    use super::{
        super::{AttachmentStep, Purpose},
        *,
    };

    #[tokio::test]
    async fn attachments_are_kept_with_the_step_they_reached() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let mut attachment = Attachment {
            kind: AttachmentKind::Snapshot,
            id: "snap-1".to_owned(),
            pool: "p".to_owned(),
            purpose: Purpose::Transfer,
            access: AccessMode::ReadOnly,
            step: AttachmentStep::Export,
            connection: None,
            device_path: None,
        };
        catalog.put_attachment(attachment.clone()).await.unwrap();
        attachment.step = AttachmentStep::Device;
        attachment.connection = Some(ConnectionInfo::Local(LocalConnection {
            device_path: "/dev/vg/lv".into(),
            access_mode: AccessMode::ReadOnly,
            size_bytes: 4096,
        }));
        catalog.put_attachment(attachment.clone()).await.unwrap();
        let found = catalog.attachment(AttachmentKind::Snapshot, "snap-1").await;
        assert_eq!(found.unwrap(), Some(attachment.clone()));
        let other = catalog.attachment(AttachmentKind::Volume, "snap-1").await;
        assert_eq!(other.unwrap(), None);
        assert_eq!(catalog.attachments().await.unwrap(), [attachment]);
        let removed = catalog
            .remove_attachment(AttachmentKind::Snapshot, "snap-1")
            .await;
        removed.unwrap();
        assert!(catalog.attachments().await.unwrap().is_empty());
    }
}
