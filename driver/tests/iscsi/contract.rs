//! What every connector promises, on a device of this host and on one that comes over iSCSI.

use std::path::Path;

use stockpot_connector::{Connector, ConnectorError, HostConfig, HostConnector};
use stockpot_driver::{
    AccessMode, ConnectionInfo, ConnectorProperties, SnapshotId, VolumeDriver, VolumeId,
};

use crate::{
    fixture::run,
    lab::{Lab, MIB, PORTALS, holds, worker, write},
};

/// A host, as the storage node and its connector see it.
struct Side<'a> {
    lab: &'a Lab,
    connector: HostConnector,
    properties: ConnectorProperties,
}

impl Side<'_> {
    async fn volume(&self, id: &VolumeId, mode: AccessMode) -> ConnectionInfo {
        let driver = &self.lab.driver;
        driver.create_export(id).await.unwrap();
        let info = driver.initialize_connection(id, &self.properties, mode);
        info.await.unwrap()
    }

    async fn snapshot(&self, id: &SnapshotId) -> ConnectionInfo {
        let driver = &self.lab.driver;
        driver.create_export_snapshot(id).await.unwrap();
        let info = driver.initialize_connection_snapshot(id, &self.properties);
        info.await.unwrap()
    }

    async fn release(&self, id: &VolumeId) {
        let driver = &self.lab.driver;
        let ended = driver.terminate_connection(id, &self.properties, false);
        ended.await.unwrap();
        driver.remove_export(id).await.unwrap();
    }

    async fn release_snapshot(&self, id: &SnapshotId) {
        let driver = &self.lab.driver;
        let ended = driver.terminate_connection_snapshot(id, &self.properties, false);
        ended.await.unwrap();
        driver.remove_export_snapshot(id).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_local_connector() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let connector = HostConnector::new(HostConfig {
        host: Some("storage".into()),
        ..HostConfig::default()
    });
    contract(&lab, connector).await;
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contract_iscsi_connector() {
    let lab = Lab::new(&PORTALS[..1]).await;
    contract(&lab, worker()).await;
    lab.close().await;
}

async fn contract(lab: &Lab, connector: HostConnector) {
    let properties = connector.properties().await.unwrap();
    let side = Side {
        lab,
        connector,
        properties,
    };
    let volume = lab.volume("v", 8).await;
    let snapshot = lab.snapshot("s", &volume).await;
    connecting_twice_is_connecting_once(&side, &volume).await;
    a_snapshot_cannot_be_written(&side, &snapshot).await;
    who_makes_sure_leaves_it_read_only(&side, &volume).await;
    another_size_is_refused(&side, &volume).await;
    what_grew_has_its_new_size(&side, &volume).await;
    recovery_keeps_what_is_wanted(&side, &volume).await;
}

async fn connecting_twice_is_connecting_once(side: &Side<'_>, volume: &VolumeId) {
    let connection = side.volume(volume, AccessMode::ReadWrite).await;
    side.connector.disconnect(&connection).await.unwrap();
    let device = side.connector.connect(&connection).await.unwrap();
    assert_eq!((device.size_bytes, device.read_only), (8 * MIB, false));
    assert_eq!(side.connector.connect(&connection).await.unwrap(), device);
    write(&device.path, 4096, 7).unwrap();
    for _ in 0..2 {
        side.connector.disconnect(&connection).await.unwrap();
    }
    let device = side.connector.connect(&connection).await.unwrap();
    assert!(holds(&device.path, 4096, 7));
    side.connector.disconnect(&connection).await.unwrap();
    side.release(volume).await;
}

async fn a_snapshot_cannot_be_written(side: &Side<'_>, snapshot: &SnapshotId) {
    let connection = side.snapshot(snapshot).await;
    let device = side.connector.connect(&connection).await.unwrap();
    assert!(device.read_only);
    assert!(write(&device.path, 0, 1).is_err());
    assert!(holds(&device.path, 4096, 0));
    side.connector.disconnect(&connection).await.unwrap();
    side.release_snapshot(snapshot).await;
}

async fn who_makes_sure_leaves_it_read_only(side: &Side<'_>, volume: &VolumeId) {
    let connection = side.volume(volume, AccessMode::ReadWrite).await;
    let device = side.connector.connect(&connection).await.unwrap();
    set_read_only(&device.path).await;
    let confirmed = side.connector.confirm(&connection).await.unwrap();
    assert!(confirmed.read_only);
    assert!(write(&device.path, 0, 1).is_err());
    side.connector.disconnect(&connection).await.unwrap();
    // For the next user it is as it was made.
    let connection = side.volume(volume, AccessMode::ReadWrite).await;
    let device = side.connector.connect(&connection).await.unwrap();
    write(&device.path, 0, 1).unwrap();
    side.connector.disconnect(&connection).await.unwrap();
    side.release(volume).await;
}

async fn set_read_only(device: &Path) {
    run("blockdev", &["--setro", device.to_str().unwrap()]).await;
}

async fn another_size_is_refused(side: &Side<'_>, volume: &VolumeId) {
    let right = side.volume(volume, AccessMode::ReadWrite).await;
    let mut wrong = right.clone();
    match &mut wrong {
        ConnectionInfo::Local(local) => local.size_bytes += 4096,
        ConnectionInfo::Iscsi(iscsi) => iscsi.size_bytes += 4096,
    }
    let refused = side.connector.connect(&wrong).await.unwrap_err();
    assert!(
        matches!(refused, ConnectorError::WrongSize { .. }),
        "{refused:?}"
    );
    side.connector.disconnect(&right).await.unwrap();
    side.release(volume).await;
}

async fn what_grew_has_its_new_size(side: &Side<'_>, volume: &VolumeId) {
    let connection = side.volume(volume, AccessMode::ReadWrite).await;
    side.connector.connect(&connection).await.unwrap();
    let driver = &side.lab.driver;
    driver.extend_volume(volume, 16 * MIB).await.unwrap();
    let connection = side.volume(volume, AccessMode::ReadWrite).await;
    let device = side.connector.confirm(&connection).await.unwrap();
    assert_eq!(device.size_bytes, 16 * MIB);
    write(&device.path, 16 * MIB - 4096, 9).unwrap();
    side.connector.disconnect(&connection).await.unwrap();
    side.release(volume).await;
}

async fn recovery_keeps_what_is_wanted(side: &Side<'_>, volume: &VolumeId) {
    let connection = side.volume(volume, AccessMode::ReadWrite).await;
    let device = side.connector.connect(&connection).await.unwrap();
    let kept = side.connector.recover(std::slice::from_ref(&connection));
    let kept = kept.await.unwrap();
    assert_eq!(kept.adopted, std::slice::from_ref(&connection));
    write(&device.path, 0, 3).unwrap();
    let left = side.connector.recover(&[]).await.unwrap();
    assert_eq!(left.adopted, []);
    side.connector.disconnect(&connection).await.unwrap();
    side.release(volume).await;
}
