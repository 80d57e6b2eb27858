//! A storage node and a worker on one host, and a look at what they leave behind.

use std::{
    fs::{self, File, OpenOptions},
    net::SocketAddr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use stockpot_connector::{
    AttachedDevice, Connector, ConnectorError, HostConfig, HostConnector, IscsiConfig,
};
use stockpot_driver::{
    AccessMode, ConnectionInfo, ConnectorProperties, ExportingDriver, IscsiConnection, SnapshotId,
    VolumeDriver, VolumeId,
    lvm::{LvmThinConfig, LvmThinDriver},
    target::{SealedDirectory, Targets, TargetsConfig},
};

use crate::fixture::{self, run};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const PORTALS: [&str; 3] = ["10.9.9.1:3260", "10.9.9.2:3260", "[fd00:9::1]:3260"];
pub(crate) const CONFIGFS: &str = "/sys/kernel/config/target";

pub(crate) struct Lab {
    pub(crate) host: fixture::Host,
    pub(crate) driver: Arc<ExportingDriver>,
    pub(crate) targets: Targets,
    pub(crate) worker: HostConnector,
    pub(crate) properties: ConnectorProperties,
    pub(crate) home: tempfile::TempDir,
}

impl Lab {
    /// A storage node that listens at these portals.
    pub(crate) async fn new(portals: &[&str]) -> Self {
        let host = fixture::Host::new().await;
        for address in ["10.9.9.1/32", "10.9.9.2/32", "fd00:9::1/128"] {
            run("ip", &["addr", "replace", address, "dev", "lo", "nodad"]).await;
        }
        let home = tempfile::tempdir().unwrap();
        let (driver, targets) = node(&host, home.path(), portals).await;
        driver.check().await.unwrap();
        let worker = worker();
        let properties = worker.properties().await.unwrap();
        assert_eq!(leftovers(), [""; 0], "an earlier test left this");
        Self {
            host,
            driver,
            targets,
            worker,
            properties,
            home,
        }
    }

    pub(crate) async fn volume(&self, id: &str, mib: u64) -> VolumeId {
        let id = id.parse().unwrap();
        self.driver.create_volume(&id, mib * MIB).await.unwrap();
        id
    }

    pub(crate) async fn snapshot(&self, id: &str, volume: &VolumeId) -> SnapshotId {
        let id = id.parse().unwrap();
        self.driver.create_snapshot(&id, volume).await.unwrap();
        id
    }

    pub(crate) async fn export(&self, id: &VolumeId) -> IscsiConnection {
        self.driver.create_export(id).await.unwrap();
        let mode = AccessMode::ReadWrite;
        let info = self
            .driver
            .initialize_connection(id, &self.properties, mode)
            .await;
        iscsi(info.unwrap())
    }

    pub(crate) async fn export_snapshot(&self, id: &SnapshotId) -> IscsiConnection {
        self.driver.create_export_snapshot(id).await.unwrap();
        let info = self
            .driver
            .initialize_connection_snapshot(id, &self.properties)
            .await;
        iscsi(info.unwrap())
    }

    pub(crate) async fn connect(
        &self,
        connection: &IscsiConnection,
    ) -> Result<AttachedDevice, ConnectorError> {
        self.worker
            .connect(&ConnectionInfo::Iscsi(connection.clone()))
            .await
    }

    pub(crate) async fn disconnect(
        &self,
        connection: &IscsiConnection,
    ) -> Result<(), ConnectorError> {
        self.worker
            .disconnect(&ConnectionInfo::Iscsi(connection.clone()))
            .await
    }

    pub(crate) async fn withdraw(&self, id: &VolumeId) {
        self.driver
            .terminate_connection(id, &self.properties, false)
            .await
            .unwrap();
        self.driver.remove_export(id).await.unwrap();
    }

    /// Removes everything by the driver, and looks for what is left.
    pub(crate) async fn close(self) {
        for snapshot in self.driver.list_snapshots().await.unwrap() {
            self.driver.delete_snapshot(&snapshot.id).await.unwrap();
        }
        for volume in self.driver.list_volumes().await.unwrap() {
            self.driver.delete_volume(&volume.id).await.unwrap();
        }
        assert_eq!(leftovers(), [""; 0], "left behind");
        let records: Vec<_> = fs::read_dir(self.home.path().join("records"))
            .unwrap()
            .collect();
        assert!(records.is_empty(), "{records:?}");
        self.host.close().await;
    }
}

pub(crate) async fn node(
    host: &fixture::Host,
    home: &Path,
    portals: &[&str],
) -> (Arc<ExportingDriver>, Targets) {
    let portals: Vec<SocketAddr> = portals
        .iter()
        .map(|portal| portal.parse().unwrap())
        .collect();
    let records = SealedDirectory::open(&home.join("records"), &home.join("key"))
        .await
        .unwrap();
    let config = TargetsConfig::new("iqn.2026-01.test.stockpot:storage", portals);
    let targets = Targets::new(config, Arc::new(records)).unwrap();
    let mut pool = LvmThinConfig::new(host.vg(), "pool");
    pool.pool_size_bytes = Some(1 << 30);
    pool.close_patience = Duration::from_millis(300);
    let lvm = Arc::new(LvmThinDriver::new(pool).unwrap());
    let driver = ExportingDriver::new(lvm, targets.clone(), "storage");
    (Arc::new(driver), targets)
}

pub(crate) fn worker() -> HostConnector {
    worker_with(|_| ())
}

pub(crate) fn worker_with(change: impl FnOnce(&mut IscsiConfig)) -> HostConnector {
    let mut iscsi = IscsiConfig {
        login_timeout: Duration::from_secs(4),
        device_timeout: Duration::from_secs(5),
        ..IscsiConfig::default()
    };
    change(&mut iscsi);
    HostConnector::new(HostConfig {
        host: Some("worker".into()),
        iscsi,
        ..HostConfig::default()
    })
}

pub(crate) fn iscsi(info: ConnectionInfo) -> IscsiConnection {
    match info {
        ConnectionInfo::Iscsi(connection) => connection,
        ConnectionInfo::Local(local) => panic!("not over iSCSI: {local:?}"),
    }
}

pub(crate) fn write(device: &Path, offset: u64, byte: u8) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(device)?;
    file.write_all_at(&[byte; 4096], offset)?;
    file.sync_all()
}

pub(crate) fn holds(device: &Path, offset: u64, byte: u8) -> bool {
    let mut content = [!byte; 4096];
    File::open(device)
        .unwrap()
        .read_exact_at(&mut content, offset)
        .unwrap();
    content.iter().all(|found| *found == byte)
}

/// Targets, backstores, sessions, SCSI disks, multipath maps, node records and temporary files.
pub(crate) fn leftovers() -> Vec<String> {
    let mut left = Vec::new();
    let mut collect = |directory: &str, wanted: &dyn Fn(&str) -> bool| {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if wanted(&name) {
                left.push(format!("{directory}/{name}"));
            }
        }
    };
    collect(&format!("{CONFIGFS}/iscsi"), &|name| {
        name.starts_with("iqn.")
    });
    collect(&format!("{CONFIGFS}/core"), &|name| {
        name.starts_with("iblock_")
    });
    collect("/sys/class/iscsi_session", &|_| true);
    collect("/sys/block", &|name| name.starts_with("sd"));
    collect("/etc/iscsi/nodes", &|_| true);
    collect("/etc/iscsi", &|name| name.starts_with(".stockpot"));
    for entry in fs::read_dir("/sys/block").unwrap().flatten() {
        let uuid = fs::read_to_string(entry.path().join("dm/uuid")).unwrap_or_default();
        if uuid.starts_with("mpath-") {
            left.push(uuid);
        }
    }
    left
}

/// The kernel's name of a device.
pub(crate) fn kernel_name(device: &Path) -> PathBuf {
    device.canonicalize().unwrap().file_name().unwrap().into()
}

/// How many sessions there are.
pub(crate) fn sessions() -> usize {
    fs::read_dir("/sys/class/iscsi_session").unwrap().count()
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, reached: impl Fn() -> bool) {
    let started = tokio::time::Instant::now();
    while !reached() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "waited too long until {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
