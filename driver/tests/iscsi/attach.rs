//! What a user does: attach, read, write, grow, detach.

use std::{
    fs::File,
    net::TcpStream,
    os::unix::fs::{FileExt, OpenOptionsExt},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use stockpot_connector::{Connector, IscsiConfig};
use stockpot_driver::{AccessMode, ConnectionInfo, ConnectorProperties, VolumeDriver};

use crate::lab::{Lab, MIB, PORTALS, holds, iscsi, leftovers, sessions, worker_with, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_a_disk_on_another_host() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    assert!(
        connection.auth.as_ref().unwrap().target.is_some(),
        "not mutual"
    );
    let device = lab.connect(&connection).await.unwrap();
    assert_eq!((device.size_bytes, device.read_only), (8 * MIB, false));
    write(&device.path, 0, 7).unwrap();
    // Asked again while it is attached: the same answer, the same secrets, the same device.
    assert_eq!(lab.export(&volume).await, connection);
    assert_eq!(lab.connect(&connection).await.unwrap(), device);
    lab.driver.extend_volume(&volume, 16 * MIB).await.unwrap();
    let grown = lab.export(&volume).await;
    let device = lab.connect(&grown).await.unwrap();
    assert_eq!(device.size_bytes, 16 * MIB);
    write(&device.path, 15 * MIB, 9).unwrap();
    for _ in 0..2 {
        lab.disconnect(&grown).await.unwrap();
    }
    for _ in 0..2 {
        lab.withdraw(&volume).await;
    }
    assert_eq!(leftovers(), [""; 0]);
    // On the storage node itself it is the plain device, with what the other host wrote.
    let here = ConnectorProperties {
        host: "storage".into(),
        ..lab.properties.clone()
    };
    lab.driver.create_export(&volume).await.unwrap();
    let mode = AccessMode::ReadWrite;
    let ConnectionInfo::Local(local) = lab
        .driver
        .initialize_connection(&volume, &here, mode)
        .await
        .unwrap()
    else {
        panic!("over iSCSI to itself");
    };
    assert!(holds(&local.device_path, 0, 7) && holds(&local.device_path, 15 * MIB, 9));
    lab.driver
        .terminate_connection(&volume, &here, false)
        .await
        .unwrap();
    lab.driver.remove_export(&volume).await.unwrap();
    // A fresh connection has fresh secrets.
    assert_ne!(lab.export(&volume).await.auth, connection.auth);
    lab.withdraw(&volume).await;
    lab.close().await;
}

/// The kernel's target takes logins one after the other, and waits 15 s for the first word of each.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_say_nothing_keep_no_other_from_attaching() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    let silent = [(); 2].map(|()| TcpStream::connect(PORTALS[0]).unwrap());
    let worker = worker_with(|config| *config = IscsiConfig::default());
    let info = ConnectionInfo::Iscsi(connection.clone());
    let device = worker.connect(&info).await.unwrap();
    write(&device.path, 0, 7).unwrap();
    drop(silent);
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_read_only_on_every_host() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    let device = lab.connect(&connection).await.unwrap();
    write(&device.path, MIB, 5).unwrap();
    let snapshot = lab.snapshot("s", &volume).await;
    write(&device.path, MIB, 6).unwrap();
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;

    let connection = lab.export_snapshot(&snapshot).await;
    let other = ConnectorProperties {
        host: "other".into(),
        initiator: Some("iqn.2026-01.test:OTHER".into()),
        ..lab.properties.clone()
    };
    let for_other = lab
        .driver
        .initialize_connection_snapshot(&snapshot, &other)
        .await
        .unwrap();
    let for_other = iscsi(for_other);
    assert_ne!(for_other.auth, connection.auth);
    assert_eq!(for_other.serial, connection.serial);
    let device = lab.connect(&connection).await.unwrap();
    assert!(device.read_only && holds(&device.path, MIB, 5));
    let refused = write(&device.path, MIB, 7).unwrap_err();
    assert!(
        matches!(
            refused.raw_os_error(),
            Some(nix::libc::EPERM | nix::libc::EROFS)
        ),
        "{refused}"
    );
    // The target itself refuses too: the flag of this host's kernel is not what protects a snapshot.
    let name = device.path.file_name().unwrap().to_str().unwrap();
    let protected =
        crate::fixture::run("blockdev", &["--setrw", device.path.to_str().unwrap()]).await;
    let refused = write(&device.path, MIB, 7);
    assert!(
        refused.is_err(),
        "{name} {protected}: the target took a write to a snapshot"
    );
    assert!(holds(&device.path, MIB, 5));
    lab.disconnect(&connection).await.unwrap();
    // One host's end is not the other's.
    lab.driver
        .terminate_connection_snapshot(&snapshot, &lab.properties, false)
        .await
        .unwrap();
    lab.driver.remove_export_snapshot(&snapshot).await.unwrap();
    assert_eq!(lab.worker.recover(&[]).await.unwrap().removed, [""; 0]);
    assert!(!leftovers().is_empty());
    let again = lab.driver.initialize_connection_snapshot(&snapshot, &other);
    let again = iscsi(again.await.unwrap());
    assert_eq!(again.auth, for_other.auth, "it was taken from the other");
    lab.driver
        .terminate_connection_snapshot(&snapshot, &other, false)
        .await
        .unwrap();
    lab.driver.remove_export_snapshot(&snapshot).await.unwrap();
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_secrets_are_logged_in_with() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let old = lab.export(&volume).await;
    lab.connect(&old).await.unwrap();
    // As when the storage node takes it back from a host that does not answer, which then asks again.
    lab.driver
        .terminate_connection(&volume, &lab.properties, true)
        .await
        .unwrap();
    let new = lab.export(&volume).await;
    assert_ne!(new.auth, old.auth);
    let hasty = worker_with(|config| config.replacement_timeout = Duration::from_secs(4));
    let info = ConnectionInfo::Iscsi(new.clone());
    // Only making sure of it ends nothing: somebody may have it open.
    hasty.confirm(&info).await.unwrap_err();
    assert_eq!(sessions(), 1);
    let device = hasty.connect(&info).await.unwrap();
    assert_eq!(sessions(), 1);
    write(&device.path, 0, 4).unwrap();
    assert!(holds(&device.path, 0, 4));
    lab.disconnect(&new).await.unwrap();
    lab.withdraw(&volume).await;
    lab.close().await;
}

/// Somebody who comes while a device is being detached is let in, or refused; never let in and left without it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_device_that_is_being_detached() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 64).await;
    let connection = lab.export(&volume).await;
    // Later each time, until it is after the detaching has begun.
    for delay_ms in (2..).step_by(2) {
        let path = lab.connect(&connection).await.unwrap().path;
        // So that writing it out takes a while.
        let file = File::options().write(true).open(&path).unwrap();
        for at in 0..48 {
            file.write_all_at(&vec![at; 1 << 20], u64::from(at) << 20)
                .unwrap();
        }
        drop(file);
        let over = Arc::new(AtomicBool::new(false));
        let comer = std::thread::spawn({
            let (path, over) = (path.clone(), over.clone());
            move || {
                let mut exclusive = File::options();
                exclusive.read(true).custom_flags(nix::libc::O_EXCL);
                std::thread::sleep(Duration::from_millis(delay_ms));
                while !over.load(Ordering::Relaxed) {
                    if let Ok(held) = exclusive.open(&path) {
                        return Some(held);
                    }
                }
                None
            }
        });
        let detached = lab.disconnect(&connection).await;
        over.store(true, Ordering::Relaxed);
        let held = comer.join().unwrap();
        if detached.is_ok() {
            assert!(held.is_none(), "it was taken from under its user");
            break;
        }
    }
    lab.withdraw(&volume).await;
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_is_not_detached() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 32).await;
    let connection = lab.export(&volume).await;
    let device = lab.connect(&connection).await.unwrap();
    let path = device.path.to_str().unwrap();
    let point = tempfile::tempdir().unwrap();
    crate::fixture::run("mkfs.ext4", &["-q", path]).await;
    crate::fixture::run("mount", &[path, point.path().to_str().unwrap()]).await;
    let error = lab.disconnect(&connection).await.unwrap_err();
    assert!(
        matches!(error, stockpot_connector::ConnectorError::InUse { .. }),
        "{error:?}"
    );
    // Not wanted, and still not taken from under the file system.
    lab.worker.recover(&[]).await.unwrap();
    let error = lab
        .driver
        .terminate_connection(&volume, &lab.properties, false)
        .await
        .unwrap_err();
    assert!(
        matches!(error, stockpot_driver::DriverError::InUse { .. }),
        "{error:?}"
    );
    assert!(lab.driver.delete_volume(&volume).await.is_err());
    std::fs::write(point.path().join("file"), "still there").unwrap();
    crate::fixture::run("umount", &[point.path().to_str().unwrap()]).await;
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;
    lab.close().await;
}
