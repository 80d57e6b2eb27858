//! Who is who, and who gets at what.

use std::{fs, os::unix::fs::PermissionsExt};

use stockpot_driver::{
    AccessMode, ConnectorProperties, DriverError, VolumeDriver,
    remote::{CertificateError, NodeCertificate, NodeError, RemoteDriver},
};

use super::lab::{Authority, Lab, between};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_certificate_has_its_volumes() {
    let lab = Lab::new().await;
    let driver = lab.worker("worker-1");
    driver.check().await.unwrap();
    let (id, snapshot) = ("v-1".parse().unwrap(), "s".parse().unwrap());
    let info = driver.create_volume(&id, 4 * MIB).await.unwrap();
    assert_eq!(info.size_bytes, 4 * MIB);
    assert_eq!(driver.create_volume(&id, 4 * MIB).await.unwrap(), info);
    let other = driver.create_volume(&id, 8 * MIB).await;
    assert!(matches!(other, Err(DriverError::AlreadyExists { .. })));
    let cut = driver.create_snapshot(&snapshot, &id).await.unwrap();
    assert_eq!(driver.list_volumes().await.unwrap(), [info]);
    assert_eq!(driver.list_snapshots().await.unwrap(), [cut]);
    assert!(driver.capacity().await.unwrap().total_bytes > 4 * MIB);
    assert_eq!(driver.headroom().await.unwrap(), None);
    driver.delete_snapshot(&snapshot).await.unwrap();
    for _ in 0..2 {
        driver.delete_volume(&id).await.unwrap();
    }
    assert_eq!(driver.volume(&id).await.unwrap(), None);
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reaches_no_volumes_but_its_own() {
    let lab = Lab::new().await;
    let (one, two) = (lab.worker("worker-1"), lab.worker("worker-2"));
    let (id, snapshot) = ("v-1".parse().unwrap(), "s".parse().unwrap());
    one.create_volume(&id, MIB).await.unwrap();
    one.create_snapshot(&snapshot, &id).await.unwrap();
    let refused = [
        between(two.create_volume(&id, MIB).await),
        between(two.delete_volume(&id).await),
        between(two.extend_volume(&id, 2 * MIB).await),
        between(two.volume(&id).await),
        between(two.create_export(&id).await),
        between(two.delete_snapshot(&snapshot).await),
        between(two.create_export_snapshot(&snapshot).await),
        between(two.allocated_ranges(&snapshot).await),
        between(
            two.create_volume_from_snapshot(&"w-2".parse().unwrap(), MIB, &snapshot)
                .await,
        ),
        between(
            two.create_cloned_volume(&"w-2".parse().unwrap(), MIB, &id)
                .await,
        ),
    ];
    for error in refused {
        assert!(
            matches!(&error, NodeError::Refused { why, .. } if why.contains("v-1")),
            "{error}"
        );
    }
    assert_eq!(two.list_volumes().await.unwrap(), []);
    assert_eq!(two.list_snapshots().await.unwrap(), []);
    assert_eq!(one.volume(&id).await.unwrap().unwrap().size_bytes, MIB);
    // Nor does it speak for another host.
    let pretending = ConnectorProperties {
        host: "storage-1".to_owned(),
        ip: None,
        initiator: None,
        multipath: false,
    };
    let id = "w-2".parse().unwrap();
    two.create_volume(&id, MIB).await.unwrap();
    let error = between(
        two.initialize_connection(&id, &pretending, AccessMode::ReadOnly)
            .await,
    );
    assert!(matches!(error, NodeError::Refused { .. }), "{error}");
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_prove_it_is_nobody() {
    let lab = Lab::new().await;
    let home = lab.home.path();
    let good = |name| lab.authority.issue(home, &[name], false);
    let unknown = RemoteDriver::new(lab.config("storage-1", good("stranger")));
    let error = between(unknown.check().await);
    assert!(matches!(error, NodeError::Refused { .. }), "{error}");

    let elsewhere = RemoteDriver::new(lab.config("storage-2", good("worker-1")));
    let error = between(elsewhere.check().await);
    assert!(
        matches!(&error, NodeError::Unreachable { why, .. } if why.contains("storage-2")),
        "{error}"
    );

    let foreign = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(foreign.path(), &["worker-1"], false);
    let distrusting = RemoteDriver::new(lab.config("storage-1", files.clone()));
    let error = between(distrusting.check().await);
    let text = error.to_string();
    assert!(text.contains("invalid peer certificate"), "{text}");
    // It trusts the storage node, which does not trust it.
    let mut both = fs::read(&files.ca).unwrap();
    both.extend(fs::read(good("worker-1").ca).unwrap());
    fs::write(&files.ca, both).unwrap();
    let distrusted = RemoteDriver::new(lab.config("storage-1", files));
    assert!(between(distrusted.check().await).is_passing());

    let expired = lab.authority.issue(home, &["worker-1"], true);
    let late = RemoteDriver::new(lab.config("storage-1", expired));
    let error = between(late.check().await);
    let is_expired = matches!(
        error,
        NodeError::Certificate(CertificateError::Expired { .. })
    );
    assert!(is_expired, "{error}");
    lab.close().await;
}

#[test]
fn files_that_cannot_be_a_nodes_are_refused_before_anything_is_sent() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let good = authority.issue(home.path(), &["worker-1"], false);
    assert_eq!(NodeCertificate::read(&good).unwrap().node(), "worker-1");
    let unusable = |files| match NodeCertificate::read(&files).unwrap_err() {
        CertificateError::Unusable { problem, .. } => problem,
        other => panic!("{other:?}"),
    };
    let several = authority.issue(home.path(), &["worker-1", "worker-2"], false);
    assert!(unusable(several).contains("worker-1, worker-2"));
    let none = authority.issue(home.path(), &[], false);
    assert!(unusable(none).contains("no DNS name"));
    let mut swapped = good.clone();
    swapped.ca.clone_from(&good.certificate);
    assert!(unusable(swapped).contains("not an authority"));
    let mut crossed = good.clone();
    let other = authority.issue(home.path(), &["worker-2"], false);
    crossed.key.clone_from(&other.key);
    assert!(unusable(crossed).contains("does not go with"));
    let elsewhere = tempfile::tempdir().unwrap();
    let mut foreign = good.clone();
    foreign.ca = Authority::new()
        .issue(elsewhere.path(), &["worker-1"], false)
        .ca;
    assert!(unusable(foreign).contains("not of the authority"));
    let mut keyless = good.clone();
    keyless.key.clone_from(&good.certificate);
    assert!(unusable(keyless).contains("no private key"));
    fs::set_permissions(&good.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(unusable(good.clone()).contains("chmod 600"));
    fs::remove_file(&good.ca).unwrap();
    let error = NodeCertificate::read(&good).unwrap_err();
    assert!(matches!(error, CertificateError::Read { .. }), "{error}");
}
