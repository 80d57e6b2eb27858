//! What outlives a process, a reboot, and a host that does not let go.

use std::{fs, path::Path};

use stockpot_connector::Connector;
use stockpot_driver::{
    AccessMode, ConnectionInfo, ConnectorProperties, DriverError, VolumeDriver,
    exporting::recover_exports, target::ExportName,
};

use crate::lab::{CONFIGFS, Lab, PORTALS, holds, iscsi, leftovers, node, write};

#[tokio::test(flavor = "multi_thread")]
async fn exports_outlive_the_daemon_and_a_reboot() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let unwanted = lab.volume("w", 8).await;
    let connection = lab.export(&volume).await;
    lab.export(&unwanted).await;
    let device = lab.connect(&connection).await.unwrap();
    write(&device.path, 0, 4).unwrap();
    let foreign = Foreign::new();

    // The daemon starts again: what is wanted goes on undisturbed, what is not is gone.
    let (driver, targets) = node(&lab.host, lab.home.path(), &PORTALS[..1]).await;
    let (wanted, not) = (
        ExportName::Volume(volume.clone()),
        ExportName::Volume(unwanted.clone()),
    );
    let done = recover_exports(
        &targets,
        std::slice::from_ref(&driver),
        std::slice::from_ref(&wanted),
    )
    .await
    .unwrap();
    assert_eq!(
        (done.kept, done.removed, done.failed),
        (vec![wanted.clone()], vec![not], vec![])
    );
    assert!(holds(&device.path, 0, 4));
    let info = ConnectionInfo::Iscsi(connection.clone());
    let recovered = lab
        .worker
        .recover(std::slice::from_ref(&info))
        .await
        .unwrap();
    assert_eq!((recovered.adopted, recovered.removed), (vec![info], vec![]));
    lab.disconnect(&connection).await.unwrap();

    // The machine starts again: the kernel knows nothing, and nothing is active. Somebody without our records plays that.
    let elsewhere = tempfile::tempdir().unwrap();
    let (_, amnesiac) = node(&lab.host, elsewhere.path(), &PORTALS[..1]).await;
    assert_eq!(
        amnesiac.recover(&[], &[]).await.unwrap().removed,
        std::slice::from_ref(&wanted)
    );
    foreign.assert_untouched();
    crate::fixture::run("vgchange", &["-an", lab.host.vg()]).await;
    let drivers = [driver.clone()];
    let done = recover_exports(&targets, &drivers, std::slice::from_ref(&wanted))
        .await
        .unwrap();
    assert_eq!((done.remade, done.failed), (vec![wanted.clone()], vec![]));
    assert_eq!(
        lab.export(&volume).await,
        connection,
        "not the same secrets"
    );
    let device = lab.connect(&connection).await.unwrap();
    assert!(holds(&device.path, 0, 4));
    lab.disconnect(&connection).await.unwrap();

    // What cannot be told is left alone; what is wanted and nowhere recorded is named.
    let gone = ExportName::Volume("nowhere".parse().unwrap());
    let done = recover_exports(&targets, &drivers, &[gone.clone(), wanted])
        .await
        .unwrap();
    assert_eq!((done.kept.len(), &done.failed[0].0), (1, &gone));
    let done = recover_exports(&targets, &drivers, &[]).await.unwrap();
    assert_eq!(done.removed.len(), 1);
    foreign.assert_untouched();
    foreign.remove();
    lab.driver.remove_export(&volume).await.unwrap();
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_let_go_is_made_to() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    lab.connect(&connection).await.unwrap();
    let refused = [
        lab.driver
            .terminate_connection(&volume, &lab.properties, false)
            .await,
        lab.driver.delete_volume(&volume).await,
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert!(matches!(error, DriverError::InUse { .. }), "{error:?}");
        assert!(
            error
                .to_string()
                .contains(lab.properties.initiator.as_deref().unwrap()),
            "{error}"
        );
    }
    // It is another host's, for all that is known: it stays.
    lab.driver.remove_export(&volume).await.unwrap();
    assert_eq!(lab.export(&volume).await, connection);
    lab.driver
        .terminate_connection(&volume, &lab.properties, true)
        .await
        .unwrap();
    assert!(
        !Path::new(CONFIGFS)
            .join("iscsi")
            .join(&connection.target_iqn)
            .exists()
    );
    lab.driver.remove_export(&volume).await.unwrap();
    // The worker finds that out, and cleans up after itself.
    lab.disconnect(&connection).await.unwrap();
    assert_eq!(leftovers(), [""; 0]);
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_made_objects_are_finished_or_removed() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    // As after a crash at the worst places.
    let backstore = Path::new(CONFIGFS).join("core/iblock_3260/stockpot.0ed68c2a.v.v");
    fs::create_dir_all(&backstore).unwrap();
    let target = Path::new(CONFIGFS).join("iscsi/iqn.2026-01.test.stockpot:storage:v.v");
    fs::create_dir_all(target.join("tpgt_1/lun/lun_0")).unwrap();
    let connection = lab.export(&volume).await;
    lab.connect(&connection).await.unwrap();
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;
    fs::create_dir_all(&backstore).unwrap();
    fs::create_dir_all(target.join("tpgt_1/acls/iqn.2026-01.test:x/lun_0")).unwrap();
    let done = lab.targets.recover(&[], &[]).await.unwrap();
    assert_eq!(done.removed, [ExportName::Volume(volume)]);
    assert_eq!(leftovers(), [""; 0]);
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_made_anew_knows_everyone_who_was_let_in() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    let other = ConnectorProperties {
        host: "other".into(),
        initiator: Some("iqn.2026-01.test:other".into()),
        ..lab.properties.clone()
    };
    let mode = AccessMode::ReadWrite;
    let for_other = lab.driver.initialize_connection(&volume, &other, mode);
    let for_other = iscsi(for_other.await.unwrap());
    // The kernel forgets it; one of the two asks again.
    let elsewhere = tempfile::tempdir().unwrap();
    let (_, amnesiac) = node(&lab.host, elsewhere.path(), &PORTALS[..1]).await;
    amnesiac.recover(&[], &[]).await.unwrap();
    assert_eq!(lab.export(&volume).await, connection);
    let entries = Path::new(CONFIGFS)
        .join("iscsi")
        .join(&connection.target_iqn)
        .join("tpgt_1/acls");
    assert!(entries.join("iqn.2026-01.test:other").exists());
    let again = lab.driver.initialize_connection(&volume, &other, mode);
    assert_eq!(iscsi(again.await.unwrap()).auth, for_other.auth);
    lab.driver
        .terminate_connection(&volume, &other, false)
        .await
        .unwrap();
    lab.withdraw(&volume).await;
    lab.close().await;
}

/// One record that cannot be read keeps nobody else from getting their exports back.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_does_not_stop_the_recovery() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let (bad, good) = (lab.volume("bad", 8).await, lab.volume("good", 8).await);
    lab.export(&bad).await;
    let connection = lab.export(&good).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (_, amnesiac) = node(&lab.host, elsewhere.path(), &PORTALS[..1]).await;
    amnesiac.recover(&[], &[]).await.unwrap();
    let record = lab.home.path().join("records/v.bad.sealed");
    fs::write(&record, "damaged").unwrap();
    let (bad, good) = (ExportName::Volume(bad), ExportName::Volume(good));
    let wanted = [bad.clone(), good.clone()];
    let drivers = [lab.driver.clone()];
    let done = recover_exports(&lab.targets, &drivers, &wanted)
        .await
        .unwrap();
    assert_eq!(done.remade, [good]);
    assert!(
        matches!(&done.failed[..], [(name, why)] if *name == bad && why.contains("damaged")),
        "{done:?}"
    );
    lab.connect(&connection).await.unwrap();
    lab.disconnect(&connection).await.unwrap();
    fs::remove_file(record).unwrap();
    lab.close().await;
}

/// A target and a backstore that somebody else made.
struct Foreign {
    store: std::path::PathBuf,
    target: std::path::PathBuf,
}

impl Foreign {
    fn new() -> Self {
        let store = Path::new(CONFIGFS).join("core/rd_mcp_0/foreign");
        let target = Path::new(CONFIGFS).join("iscsi/iqn.2026-01.test.stockpot:storage-2:v.v");
        fs::create_dir_all(&store).unwrap();
        fs::create_dir_all(target.join("tpgt_1")).unwrap();
        Self { store, target }
    }

    fn assert_untouched(&self) {
        assert!(self.store.exists() && self.target.join("tpgt_1").exists());
    }

    fn remove(self) {
        for path in [
            self.target.join("tpgt_1"),
            self.target,
            self.store.clone(),
            self.store.parent().unwrap().into(),
        ] {
            fs::remove_dir(path).unwrap();
        }
    }
}
