//! What the cases work with: a driver, a connector, and devices with known content.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use stockpot_connector::{AttachedDevice, Connector, HostConnector};
use stockpot_driver::{
    AccessMode, ConnectionInfo, ConnectorProperties, DriverError, SnapshotId, VolumeDriver,
    VolumeId,
};

pub(crate) const MIB: u64 = 1 << 20;

/// What storage of a kind cannot do by its nature; the cases ask for what it does instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nature {
    /// A volume takes room when it is written to, and more may be promised than there is.
    pub(crate) thin: bool,
    /// Snapshots outlive their volume, and it grows while it has some.
    pub(crate) snapshots_stand_alone: bool,
}

impl Nature {
    pub(crate) const THIN: Self = Self {
        thin: true,
        snapshots_stand_alone: true,
    };
    pub(crate) const THICK: Self = Self {
        thin: false,
        snapshots_stand_alone: false,
    };
}

pub(crate) struct Bench {
    pub(crate) nature: Nature,
    pub(crate) driver: Arc<dyn VolumeDriver>,
    pub(crate) connector: HostConnector,
    pub(crate) properties: ConnectorProperties,
}

pub(crate) fn vol(id: &str) -> VolumeId {
    id.parse().unwrap()
}

pub(crate) fn snap(id: &str) -> SnapshotId {
    id.parse().unwrap()
}

impl Bench {
    pub(crate) async fn new(driver: Arc<dyn VolumeDriver>, nature: Nature) -> Self {
        let connector = HostConnector::default();
        let properties = connector.properties().await.unwrap();
        Self {
            nature,
            driver,
            connector,
            properties,
        }
    }

    pub(crate) async fn assert_empty(&self) {
        assert_eq!(self.driver.list_volumes().await.unwrap(), []);
        assert_eq!(self.driver.list_snapshots().await.unwrap(), []);
    }

    pub(crate) async fn connect_volume(&self, id: &VolumeId) -> (ConnectionInfo, AttachedDevice) {
        self.driver.create_export(id).await.unwrap();
        let mode = AccessMode::ReadWrite;
        let connection = self
            .driver
            .initialize_connection(id, &self.properties, mode)
            .await
            .unwrap();
        let device = self.connector.connect(&connection).await.unwrap();
        (connection, device)
    }

    pub(crate) async fn attach(&self, id: &VolumeId) -> PathBuf {
        self.connect_volume(id).await.1.path
    }

    pub(crate) async fn detach(&self, id: &VolumeId) {
        self.driver
            .terminate_connection(id, &self.properties, false)
            .await
            .unwrap();
        self.driver.remove_export(id).await.unwrap();
    }

    pub(crate) async fn connect_snapshot(
        &self,
        id: &SnapshotId,
    ) -> (ConnectionInfo, AttachedDevice) {
        self.driver.create_export_snapshot(id).await.unwrap();
        let connection = self
            .driver
            .initialize_connection_snapshot(id, &self.properties)
            .await
            .unwrap();
        let device = self.connector.connect(&connection).await.unwrap();
        (connection, device)
    }

    pub(crate) async fn detach_snapshot(&self, id: &SnapshotId) {
        self.driver
            .terminate_connection_snapshot(id, &self.properties, false)
            .await
            .unwrap();
        self.driver.remove_export_snapshot(id).await.unwrap();
    }

    /// Attaches, does something with the device's path, detaches.
    pub(crate) async fn with_volume<T>(&self, id: &VolumeId, work: impl FnOnce(&Path) -> T) -> T {
        let done = work(&self.attach(id).await);
        self.detach(id).await;
        done
    }

    /// The same with a snapshot.
    pub(crate) async fn with_snapshot<T>(
        &self,
        id: &SnapshotId,
        work: impl FnOnce(&Path) -> T,
    ) -> T {
        let (connection, device) = self.connect_snapshot(id).await;
        assert!(device.read_only);
        let done = work(&device.path);
        self.connector.disconnect(&connection).await.unwrap();
        self.detach_snapshot(id).await;
        done
    }

    pub(crate) async fn delete(&self, volumes: &[&str], snapshots: &[&str]) {
        for id in snapshots {
            self.driver.delete_snapshot(&snap(id)).await.unwrap();
        }
        for id in volumes {
            self.driver.delete_volume(&vol(id)).await.unwrap();
        }
    }
}

/// Writes a run of one byte and waits until it is on the device.
pub(crate) fn write(device: &Path, offset: u64, length: u64, byte: u8) {
    let file = OpenOptions::new().write(true).open(device).unwrap();
    file.write_all_at(&vec![byte; usize::try_from(length).unwrap()], offset)
        .unwrap();
    file.sync_all().unwrap();
}

/// Whether a run of the device holds one byte only.
pub(crate) fn holds(device: &Path, offset: u64, length: u64, byte: u8) -> bool {
    let mut content = vec![!byte; usize::try_from(length).unwrap()];
    File::open(device)
        .unwrap()
        .read_exact_at(&mut content, offset)
        .unwrap();
    content.iter().all(|found| *found == byte)
}

/// The size of the device, by seeking to its end.
pub(crate) fn device_size(device: &Path) -> u64 {
    std::io::Seek::seek(&mut File::open(device).unwrap(), std::io::SeekFrom::End(0)).unwrap()
}

macro_rules! assert_error {
    ($result:expr, $pattern:pat) => {{
        let error = $result.map(drop).expect_err("it has to be refused");
        assert!(
            matches!(error, $pattern),
            "not the error that was expected: {error:?}"
        );
        error.to_string()
    }};
}
pub(crate) use assert_error;

/// A refusal has to name figures that tell why.
pub(crate) fn assert_figures(result: Result<stockpot_driver::VolumeInfo, DriverError>) {
    let text = assert_error!(
        result,
        DriverError::OutOfRange(_) | DriverError::ResourceExhausted(_)
    );
    let figures = text
        .split(|c: char| !c.is_ascii_digit())
        .filter(|figure| figure.len() > 3);
    assert!(figures.count() >= 1, "no figures: {text}");
}
