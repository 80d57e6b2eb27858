//! What becomes of exports when what is known of them is wrong, or not enough.

use std::fs;

use stockpot_driver::{
    AccessMode, VolumeDriver,
    exporting::{recover_exports, remake_exports},
    target::ExportName,
};

use crate::lab::{Lab, PORTALS, holds, node, write};

/// The configuration lost a pool, or the records are another machine's: a mounted disk does not go for that.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_works_on_is_not_removed_by_a_start() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    let device = lab.connect(&connection).await.unwrap();
    write(&device.path, 0, 4).unwrap();
    let name = ExportName::Volume(volume.clone());
    let drivers = [lab.driver.clone()];
    let done = recover_exports(&lab.targets, &drivers, &[]).await.unwrap();
    assert_eq!(done.removed, []);
    assert!(
        matches!(&done.failed[..], [(of, why)] if *of == name && why.contains("connected to by")),
        "{done:?}"
    );
    assert!(holds(&device.path, 0, 4));
    lab.disconnect(&connection).await.unwrap();
    let done = recover_exports(&lab.targets, &drivers, &[]).await.unwrap();
    assert_eq!((done.removed, done.failed), (vec![name], vec![]));
    lab.driver.remove_export(&volume).await.unwrap();
    lab.close().await;
}

/// The key of the records was lost: what the kernel knows is enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_written_anew_from_the_kernel() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let (used, idle, gone) = (
        lab.volume("used", 8).await,
        lab.volume("idle", 8).await,
        lab.volume("gone", 8).await,
    );
    let connection = lab.export(&used).await;
    let waiting = lab.export(&idle).await;
    let device = lab.connect(&connection).await.unwrap();
    let records = lab.home.path().join("records");
    for name in ["v.used", "v.idle", "v.gone"] {
        fs::write(records.join(format!("{name}.sealed")), "damaged").unwrap();
    }
    // At the start.
    lab.targets.mend_records().await.unwrap();
    assert_eq!(lab.export(&used).await, connection, "not the same secrets");
    assert!(!records.join("v.gone.sealed").exists());
    // While it runs, whatever is asked first.
    for name in ["v.used", "v.idle"] {
        fs::write(records.join(format!("{name}.sealed")), "damaged").unwrap();
    }
    assert_eq!(lab.export(&idle).await, waiting, "not the same secrets");
    lab.driver.remove_export(&used).await.unwrap();
    write(&device.path, 0, 4).unwrap();
    lab.disconnect(&connection).await.unwrap();
    fs::write(records.join("v.used.sealed"), "damaged").unwrap();
    lab.withdraw(&used).await;
    lab.withdraw(&idle).await;
    lab.driver.remove_export(&gone).await.unwrap();
    assert_eq!(fs::read_dir(&records).unwrap().count(), 0);
    lab.close().await;
}

/// After a boot the portal's address is not there yet, and the worker that has the disk mounted asks again.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_cannot_be_made_again_yet_is_not_forgotten() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (_, amnesiac) = node(&lab.host, elsewhere.path(), &PORTALS[..1]).await;
    amnesiac.recover(&[], &[]).await.unwrap();
    let (early, targets) = node(&lab.host, lab.home.path(), &["10.9.9.77:3260"]).await;
    let asked = early
        .initialize_connection(&volume, &lab.properties, AccessMode::ReadWrite)
        .await;
    assert!(asked.unwrap_err().to_string().contains("10.9.9.77"));
    let name = ExportName::Volume(volume.clone());
    let wanted = [name.clone()];
    let drivers = [early];
    let done = remake_exports(&targets, &drivers, &wanted).await;
    assert_eq!(done.failed.len(), 1, "{done:?}");
    // A host that never had it leaves nothing behind.
    let other = stockpot_driver::ConnectorProperties {
        host: "other".into(),
        initiator: Some("iqn.2026-01.test:other".into()),
        ..lab.properties.clone()
    };
    drivers[0]
        .initialize_connection(&volume, &other, AccessMode::ReadOnly)
        .await
        .unwrap_err();
    // The address comes.
    let drivers = [lab.driver.clone()];
    let done = remake_exports(&lab.targets, &drivers, &wanted).await;
    assert_eq!((done.remade, done.failed), (vec![name.clone()], vec![]));
    assert_eq!(
        lab.export(&volume).await,
        connection,
        "not the same secrets"
    );
    assert_eq!(
        lab.targets.admitted(&name).await.unwrap(),
        [lab.properties.initiator.clone().unwrap()]
    );
    lab.withdraw(&volume).await;
    let done = remake_exports(&lab.targets, &drivers, &wanted).await;
    assert_eq!(done, stockpot_driver::target::RecoveredExports::default());
    lab.close().await;
}

/// One host leaves while another arrives: whatever the order, the one that got an answer can connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_arrives_does_not_lose_to_one_that_leaves() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let snapshot = lab.snapshot("s", &volume).await;
    let other = stockpot_driver::ConnectorProperties {
        host: "other".into(),
        initiator: Some("iqn.2026-01.test:other".into()),
        ..lab.properties.clone()
    };
    for _ in 0..10 {
        lab.driver.create_export_snapshot(&snapshot).await.unwrap();
        lab.driver
            .initialize_connection_snapshot(&snapshot, &other)
            .await
            .unwrap();
        let leaving = async {
            lab.driver
                .terminate_connection_snapshot(&snapshot, &other, false)
                .await
                .unwrap();
            lab.driver.remove_export_snapshot(&snapshot).await.unwrap();
        };
        let (connection, ()) = tokio::join!(lab.export_snapshot(&snapshot), leaving);
        lab.connect(&connection).await.unwrap();
        lab.disconnect(&connection).await.unwrap();
        lab.driver
            .terminate_connection_snapshot(&snapshot, &lab.properties, false)
            .await
            .unwrap();
        lab.driver.remove_export_snapshot(&snapshot).await.unwrap();
    }
    lab.close().await;
}

/// An older record was put back: what the kernel knows beyond it is shown, and goes once nobody is logged in by it.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_on_no_record_loses_its_access_when_it_logs_out() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    lab.connect(&connection).await.unwrap();
    assert_eq!(lab.targets.unrecorded().await.unwrap(), []);
    fs::remove_file(lab.home.path().join("records/v.v.sealed")).unwrap();
    let left = lab.targets.expel_unrecorded().await.unwrap();
    let initiator = lab.properties.initiator.clone().unwrap();
    assert!(
        matches!(&left[..], [one] if one.initiator == initiator && one.is_logged_in),
        "{left:?}"
    );
    lab.disconnect(&connection).await.unwrap();
    assert_eq!(lab.targets.expel_unrecorded().await.unwrap(), []);
    // Its secrets are worth nothing any more.
    lab.connect(&connection).await.unwrap_err();
    assert!(!lab.targets.is_exported(&ExportName::Volume(volume.clone())));
    lab.driver.remove_export(&volume).await.unwrap();
    lab.close().await;
}
