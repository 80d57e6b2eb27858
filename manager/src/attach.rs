//! Attaching a volume or snapshot to this host, and taking that down again from wherever it got to.
//!
//! ```text
//! create_export → initialize_connection → connect        … and back in reverse order
//! ```
//!
//! The step about to be made stands in the catalog before it is made. So taking down needs nothing but the row, and
//! works the same after a failed step, at the end of the work, and after a crash. It is explicit, never left to
//! a destructor: it takes time, can fail, and must be awaited.

use std::{sync::Arc, time::Duration};

use stockpot_connector::AttachedDevice;
use stockpot_driver::{
    AccessMode, ConnectionInfo, ConnectorProperties, DriverError, SnapshotId, VolumeDriver,
    VolumeId,
};

use crate::{
    Manager, ManagerError,
    catalog::{Attachment, AttachmentKind, AttachmentStep, Purpose},
    error::chain,
};

/// How often taking down is tried before it is left to the next start.
const DETACH_ATTEMPTS: u32 = 5;
/// First pause between those; it doubles.
const DETACH_PAUSE: Duration = Duration::from_millis(100);

/// What is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A volume, with what may be done with it.
    Volume(VolumeId, AccessMode),
    /// A snapshot, read-only.
    Snapshot(SnapshotId),
}

impl Subject {
    fn kind(&self) -> AttachmentKind {
        match self {
            Self::Volume(..) => AttachmentKind::Volume,
            Self::Snapshot(_) => AttachmentKind::Snapshot,
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Volume(id, _) => id.as_str(),
            Self::Snapshot(id) => id.as_str(),
        }
    }

    fn access(&self) -> AccessMode {
        match self {
            Self::Volume(_, access) => *access,
            Self::Snapshot(_) => AccessMode::ReadOnly,
        }
    }

    fn of(attachment: &Attachment) -> Result<Self, ManagerError> {
        let unusable = || ManagerError::Internal(format!("attachment of {:?}", attachment.id));
        Ok(match attachment.kind {
            AttachmentKind::Volume => Self::Volume(
                attachment.id.parse().map_err(|_| unusable())?,
                attachment.access,
            ),
            AttachmentKind::Snapshot => {
                Self::Snapshot(attachment.id.parse().map_err(|_| unusable())?)
            }
        })
    }
}

/// The driver's calls for either kind.
struct Side<'a> {
    driver: &'a Arc<dyn VolumeDriver>,
    subject: &'a Subject,
}

impl Side<'_> {
    async fn export(&self) -> Result<(), DriverError> {
        match self.subject {
            Subject::Volume(id, _) => self.driver.create_export(id).await,
            Subject::Snapshot(id) => self.driver.create_export_snapshot(id).await,
        }
    }

    async fn initialize(&self, host: &ConnectorProperties) -> Result<ConnectionInfo, DriverError> {
        match self.subject {
            Subject::Volume(id, access) => {
                self.driver.initialize_connection(id, host, *access).await
            }
            Subject::Snapshot(id) => self.driver.initialize_connection_snapshot(id, host).await,
        }
    }

    async fn terminate(&self, host: &ConnectorProperties, force: bool) -> Result<(), DriverError> {
        match self.subject {
            Subject::Volume(id, _) => self.driver.terminate_connection(id, host, force).await,
            Subject::Snapshot(id) => {
                self.driver
                    .terminate_connection_snapshot(id, host, force)
                    .await
            }
        }
    }

    async fn unexport(&self) -> Result<(), DriverError> {
        match self.subject {
            Subject::Volume(id, _) => self.driver.remove_export(id).await,
            Subject::Snapshot(id) => self.driver.remove_export_snapshot(id).await,
        }
    }
}

impl Manager {
    /// Attaches, and takes down again what was done when a step fails. What is attached already is made sure of step
    /// by step (after a reboot all are needed again), and stays on record if that fails: it may be in use. For the same
    /// reason a device that was made read-only since stays so.
    pub(crate) async fn attach(
        &self,
        pool: &str,
        subject: &Subject,
        purpose: Purpose,
    ) -> Result<AttachedDevice, ManagerError> {
        let row = self.catalog.attachment(subject.kind(), subject.id());
        match row.await? {
            Some(row) if row.step == AttachmentStep::Attached => {
                return self.attach_again(row, subject).await;
            }
            // Half-way up, or down, and the only one that knows of its connection.
            Some(row) => self.detach_row(&row).await?,
            None => {}
        }
        match self.attach_steps(pool, subject, purpose).await {
            Ok(device) => Ok(device),
            Err(error) => {
                if let Err(undo) = self.detach(subject).await {
                    tracing::error!(
                        id = subject.id(),
                        error = chain(&undo),
                        "a failed attachment could not be taken down; the next start tries again"
                    );
                }
                Err(error)
            }
        }
    }

    async fn attach_again(
        &self,
        mut row: Attachment,
        subject: &Subject,
    ) -> Result<AttachedDevice, ManagerError> {
        let side = Side {
            driver: self.driver(&row.pool)?,
            subject,
        };
        side.export().await?;
        let host = self.connector.properties().await?;
        let connection = side.initialize(&host).await?;
        let step = row.step;
        self.put_connection(&mut row, &connection, step).await?;
        let device = self.connector.confirm(&connection).await?;
        row.device_path = Some(device.path.clone());
        self.catalog.put_attachment(row).await?;
        Ok(device)
    }

    async fn attach_steps(
        &self,
        pool: &str,
        subject: &Subject,
        purpose: Purpose,
    ) -> Result<AttachedDevice, ManagerError> {
        let side = Side {
            driver: self.driver(pool)?,
            subject,
        };
        let host = self.connector.properties().await?;
        let mut row = Attachment {
            kind: subject.kind(),
            id: subject.id().to_owned(),
            pool: pool.to_owned(),
            purpose,
            access: subject.access(),
            step: AttachmentStep::Export,
            connection: None,
            device_path: None,
        };
        self.catalog.put_attachment(row.clone()).await?;
        side.export().await?;
        row.step = AttachmentStep::Connection;
        self.catalog.put_attachment(row.clone()).await?;
        let connection = side.initialize(&host).await?;
        self.put_connection(&mut row, &connection, AttachmentStep::Device)
            .await?;
        let device = self.connector.connect(&connection).await?;
        row.step = AttachmentStep::Attached;
        row.device_path = Some(device.path.clone());
        self.catalog.put_attachment(row).await?;
        Ok(device)
    }

    /// Takes an attachment down, from the step it reached back to nothing. None is success.
    pub(crate) async fn detach(&self, subject: &Subject) -> Result<(), ManagerError> {
        let Some(row) = self
            .catalog
            .attachment(subject.kind(), subject.id())
            .await?
        else {
            return Ok(());
        };
        self.detach_row(&row).await
    }

    /// Takes down what a row says, with patience: udev may just be looking at the device.
    pub(crate) async fn detach_row(&self, row: &Attachment) -> Result<(), ManagerError> {
        let mut pause = DETACH_PAUSE;
        for _ in 1..DETACH_ATTEMPTS {
            match self.detach_steps(row).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::debug!(
                        id = row.id,
                        error = chain(&error),
                        "detaching is tried again"
                    );
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.detach_steps(row).await
    }

    async fn detach_steps(&self, row: &Attachment) -> Result<(), ManagerError> {
        let subject = Subject::of(row)?;
        let side = Side {
            driver: self.driver(&row.pool)?,
            subject: &subject,
        };
        let reached_device = matches!(row.step, AttachmentStep::Device | AttachmentStep::Attached);
        if let Some(connection) = row.connection.as_ref().filter(|_| reached_device) {
            // A row of an earlier version may name another one's target.
            if self.is_owner(row).await? {
                self.connector.disconnect(connection).await?;
            } else {
                tracing::error!(
                    id = row.id,
                    pool = row.pool,
                    "its target is that of another attachment, too, which keeps it"
                );
            }
        }
        if row.step != AttachmentStep::Export {
            let host = self.connector.properties().await?;
            // A transfer has closed its device before this: what seems to be in use then is a leftover. A device
            // of the node service may be mounted.
            let force = row.purpose == Purpose::Transfer;
            side.terminate(&host, force).await?;
        }
        side.unexport().await?;
        self.catalog.remove_attachment(row.kind, &row.id).await?;
        Ok(())
    }
}
