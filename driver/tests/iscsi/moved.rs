//! A volume's name whose device is another one now: two pools of one host have a volume of that name.

use std::{path::Path, sync::Arc};

use stockpot_connector::ConnectorError;
use stockpot_driver::{
    AccessMode, ConnectorProperties, DriverError, ExportingDriver, VolumeDriver, VolumeId,
    exporting::recover_exports,
    file::{FileConfig, FileDriver},
    target::ExportName,
};

use crate::{
    fixture::FileSystem,
    lab::{CONFIGFS, Lab, MIB, PORTALS, holds, iscsi, leftovers, write},
};

/// Who is let in, as the kernel has it.
fn entries(target_iqn: &str) -> Vec<String> {
    let entries = Path::new(CONFIGFS)
        .join("iscsi")
        .join(target_iqn)
        .join("tpgt_1/acls");
    let entries = std::fs::read_dir(entries).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Another pool, of image files, with a volume of the same name.
async fn other_pool(lab: &Lab, images: &FileSystem, volume: &VolumeId) -> Arc<ExportingDriver> {
    let file = FileDriver::new(FileConfig::new(images.path().join("pool")));
    let pool = ExportingDriver::new(Arc::new(file), lab.targets.clone(), "storage");
    pool.check().await.unwrap();
    pool.create_volume(volume, 8 * MIB).await.unwrap();
    pool.create_export(volume).await.unwrap();
    Arc::new(pool)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_let_in_to_the_old_device_is_not_let_in_to_the_new_one() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let images = lab.home.path().join("images");
    let images = FileSystem::at(&lab.host, "xfs", 320 * MIB, &images).await;
    let (volume, mode) = (lab.volume("v", 8).await, AccessMode::ReadWrite);
    let name = ExportName::Volume(volume.clone());
    let pool = other_pool(&lab, &images, &volume).await;
    let worker = lab.properties.initiator.clone().unwrap();
    let other = ConnectorProperties {
        host: "other".into(),
        initiator: Some("iqn.2026-01.test:other".into()),
        ..lab.properties.clone()
    };
    let old = lab.export(&volume).await;
    let for_other = lab.driver.initialize_connection(&volume, &other, mode);
    for_other.await.unwrap();

    // While a host is at work on it, nothing changes.
    let device = lab.connect(&old).await.unwrap();
    write(&device.path, 0, 7).unwrap();
    let asked = pool.initialize_connection(&volume, &other, mode).await;
    let error = asked.unwrap_err();
    assert!(matches!(error, DriverError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&worker), "{error}");
    let drivers = [pool.clone()];
    let wanted = std::slice::from_ref(&name);
    let done = recover_exports(&lab.targets, &drivers, wanted).await;
    assert_eq!(done.unwrap().failed.len(), 1);
    assert_eq!(lab.export(&volume).await, old, "not the same secrets");
    assert_eq!(entries(&old.target_iqn).len(), 2);
    assert!(holds(&device.path, 0, 7));
    lab.disconnect(&old).await.unwrap();

    // The new one knows only who asks now, and no old secret.
    let new = pool.initialize_connection(&volume, &lab.properties, mode);
    let new = iscsi(new.await.unwrap());
    assert_eq!(entries(&new.target_iqn), [worker.as_str()]);
    assert_eq!(lab.targets.admitted(&name).await.unwrap(), [worker]);
    let error = lab.connect(&old).await.unwrap_err();
    assert!(matches!(error, ConnectorError::Refused { .. }), "{error}");
    let device = lab.connect(&new).await.unwrap();
    assert!(!holds(&device.path, 0, 7), "it is the old device");
    lab.disconnect(&new).await.unwrap();

    // Nor is it made again at a start for those who were let in to another one.
    let drivers = [lab.driver.clone()];
    let done = recover_exports(&lab.targets, &drivers, wanted)
        .await
        .unwrap();
    assert_eq!((done.unknown, done.failed), (vec![name.clone()], vec![]));
    assert_eq!((done.kept, done.remade), (vec![], vec![]));
    assert_eq!(lab.targets.admitted(&name).await.unwrap(), [""; 0]);
    assert_eq!(leftovers(), [""; 0]);
    pool.remove_export(&volume).await.unwrap();
    pool.delete_volume(&volume).await.unwrap();
    images.unmount().await;
    lab.close().await;
}
