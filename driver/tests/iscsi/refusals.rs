//! Who is refused, what is said, and that nothing of it is left.

use std::{net::TcpListener, sync::Arc};

use secrecy::SecretString;
use stockpot_connector::{Connector, ConnectorError};
use stockpot_driver::{
    AccessMode, ConnectionInfo, ConnectorProperties, DriverError, IscsiConnection, VolumeDriver,
};

use crate::lab::{Lab, MIB, PORTALS, iscsi, leftovers, node, worker_with};

/// Everything but the export itself: what the worker's side left.
fn left_on_the_worker() -> Vec<String> {
    let mut left = leftovers();
    left.retain(|thing| !thing.starts_with("/sys/kernel/config"));
    left
}

macro_rules! assert_refused {
    ($result:expr, $pattern:pat) => {{
        let error = $result.map(drop).expect_err("it has to be refused");
        assert!(
            matches!(error, $pattern),
            "not the error that was expected: {error:?}"
        );
        assert_eq!(left_on_the_worker(), [""; 0], "{error}");
        error.to_string()
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_initiator_gets_the_right_device() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let good = lab.export(&volume).await;
    let changed = |change: &dyn Fn(&mut IscsiConnection)| {
        let mut connection = good.clone();
        change(&mut connection);
        connection
    };
    let secret = || SecretString::from("another-secret-of-some-length");
    let wrong_secret = changed(&|c| c.auth.as_mut().unwrap().initiator.password = secret());
    let text = assert_refused!(
        lab.connect(&wrong_secret).await,
        ConnectorError::Refused { .. }
    );
    assert!(!text.contains("another-secret"), "{text}");
    let no_secret = changed(&|c| c.auth = None);
    assert_refused!(
        lab.connect(&no_secret).await,
        ConnectorError::Refused { .. }
    );
    // A target that cannot prove itself is not the one that was meant.
    let wrong_target =
        changed(&|c| c.auth.as_mut().unwrap().target.as_mut().unwrap().password = secret());
    assert_refused!(
        lab.connect(&wrong_target).await,
        ConnectorError::Refused { .. }
    );
    let wrong_serial = changed(&|c| c.serial = "0123456789abcdef".into());
    let text = assert_refused!(
        lab.connect(&wrong_serial).await,
        ConnectorError::WrongSerial { .. }
    );
    assert!(text.contains(&good.serial), "{text}");
    let wrong_size = changed(&|c| c.size_bytes += MIB);
    assert_refused!(
        lab.connect(&wrong_size).await,
        ConnectorError::WrongSize { .. }
    );
    let no_unit = changed(&|c| c.target_lun = 5);
    assert_refused!(lab.connect(&no_unit).await, ConnectorError::Missing { .. });
    let nobody_there = changed(&|c| c.target_portals = vec!["10.9.9.1:3999".parse().unwrap()]);
    assert_refused!(
        lab.connect(&nobody_there).await,
        ConnectorError::Unreachable { .. }
    );
    // After all that, the right one is let in.
    lab.connect(&good).await.unwrap();
    lab.disconnect(&good).await.unwrap();
    lab.withdraw(&volume).await;

    // What was made for another initiator is not for this one, whatever it knows.
    let other = ConnectorProperties {
        initiator: Some("iqn.2026-01.test:other".into()),
        ..lab.properties.clone()
    };
    lab.driver.create_export(&volume).await.unwrap();
    let mode = AccessMode::ReadWrite;
    let for_other = iscsi(
        lab.driver
            .initialize_connection(&volume, &other, mode)
            .await
            .unwrap(),
    );
    assert_refused!(
        lab.connect(&for_other).await,
        ConnectorError::Refused { .. }
    );
    lab.driver
        .terminate_connection(&volume, &other, false)
        .await
        .unwrap();
    lab.close().await;
}

/// Whoever writes down another host's initiator gets none of its secrets, and ends nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_has_only_its_own_connections() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = lab.export(&volume).await;
    let pretending = ConnectorProperties {
        host: "other".into(),
        ..lab.properties.clone()
    };
    let mode = AccessMode::ReadWrite;
    let asked = lab
        .driver
        .initialize_connection(&volume, &pretending, mode)
        .await;
    let mut refused = vec![asked.map(drop)];
    for force in [false, true] {
        let ended = lab.driver.terminate_connection(&volume, &pretending, force);
        refused.push(ended.await);
    }
    for result in refused {
        let error = result.unwrap_err();
        assert!(
            matches!(&error, DriverError::InvalidArgument(why) if why.contains("for host worker, and host other")),
            "{error:?}"
        );
    }
    assert_eq!(lab.export(&volume).await, connection);
    lab.connect(&connection).await.unwrap();
    lab.disconnect(&connection).await.unwrap();
    lab.withdraw(&volume).await;
    // Once it has ended, the name is free: the host was renamed, say.
    lab.driver.create_export(&volume).await.unwrap();
    let renamed = lab.driver.initialize_connection(&volume, &pretending, mode);
    renamed.await.unwrap();
    let ended = lab.driver.terminate_connection(&volume, &pretending, false);
    ended.await.unwrap();
    lab.driver.remove_export(&volume).await.unwrap();
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lacks_something_is_told_what() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    let connection = ConnectionInfo::Iscsi(lab.export(&volume).await);
    let nameless = worker_with(|config| config.initiator_file = "/nonexistent".into());
    let text = assert_refused!(nameless.connect(&connection).await, ConnectorError::Host(_));
    assert!(text.contains("InitiatorName="), "{text}");
    lab.withdraw(&volume).await;
    let nameless = ConnectorProperties {
        initiator: None,
        ..lab.properties.clone()
    };
    for (initiator, word) in [(None, "open-iscsi"), (Some("worker"), "worker")] {
        let properties = ConnectorProperties {
            initiator: initiator.map(str::to_owned),
            ..nameless.clone()
        };
        let mode = AccessMode::ReadWrite;
        let text = assert_refused!(
            lab.driver
                .initialize_connection(&volume, &properties, mode)
                .await,
            DriverError::InvalidArgument(_)
        );
        assert!(text.contains(word), "{text}");
    }
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_node_that_cannot_listen_says_why() {
    let lab = Lab::new(&PORTALS[..1]).await;
    let volume = lab.volume("v", 8).await;
    lab.driver.create_export(&volume).await.unwrap();
    let held = TcpListener::bind("10.9.9.1:3444").unwrap();
    for (portal, words) in [
        ("10.9.9.1:3444", "in use by another program"),
        ("10.9.9.77:3260", "no interface of this host"),
    ] {
        let (driver, _) = node(&lab.host, lab.home.path(), &[PORTALS[0], portal]).await;
        let mode = AccessMode::ReadWrite;
        let error = driver
            .initialize_connection(&volume, &lab.properties, mode)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(portal) && text.contains(words), "{text}");
        assert_eq!(leftovers(), [""; 0], "{text}");
    }
    drop(held);
    // A device that something else holds is not exported.
    let lv = format!("/dev/{}/stockpot.v.v", lab.host.vg());
    let mount = tempfile::tempdir().unwrap();
    crate::fixture::run("mkfs.ext4", &["-q", &lv]).await;
    crate::fixture::run("mount", &[&lv, mount.path().to_str().unwrap()]).await;
    let driver: Arc<dyn VolumeDriver> = lab.driver.clone();
    let mode = AccessMode::ReadWrite;
    let text = assert_refused!(
        driver
            .initialize_connection(&volume, &lab.properties, mode)
            .await,
        DriverError::InUse { .. }
    );
    assert!(text.contains("stockpot.v.v"), "{text}");
    assert_eq!(leftovers(), [""; 0]);
    crate::fixture::run("umount", &[mount.path().to_str().unwrap()]).await;
    lab.close().await;
}
