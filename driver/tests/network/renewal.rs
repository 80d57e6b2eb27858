//! Certificates that are renewed on disk while both nodes go on.

use std::fs;

use stockpot_driver::{
    VolumeDriver,
    remote::{CertificateError, NodeError, RemoteDriver},
};

use super::lab::{Authority, Lab, between, replace};

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_nodes_renewed_certificate_is_shown_to_the_next_caller() {
    let lab = Lab::new().await;
    let before = lab.worker("worker-1");
    before.check().await.unwrap();
    // It can be seen which one is shown: nobody takes this one.
    lab.authority.renew(&lab.files, &["storage-1"], true);
    let error = between(lab.worker("worker-1").check().await);
    assert!(error.to_string().contains("xpired"), "{error}");
    lab.authority.renew(&lab.files, &["storage-1"], false);
    lab.worker("worker-1").check().await.unwrap();
    // Who was connected before goes on.
    assert_eq!(before.list_volumes().await.unwrap(), []);
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_under_way_are_answered_while_the_certificate_is_renewed() {
    let lab = Lab::new().await;
    let driver = lab.worker("worker-1");
    driver.check().await.unwrap();
    let calling = tokio::spawn({
        let driver = driver.clone();
        async move {
            for n in 0..60 {
                let id = format!("a{n}-1").parse().unwrap();
                driver.create_volume(&id, 1 << 20).await.unwrap();
            }
        }
    });
    for _ in 0..3 {
        lab.authority.renew(&lab.files, &["storage-1"], false);
        lab.worker("worker-2").check().await.unwrap();
    }
    calling.await.unwrap();
    assert_eq!(driver.list_volumes().await.unwrap().len(), 60);
    lab.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_renewed_certificate_is_shown_with_its_next_call() {
    let lab = Lab::new().await;
    // An authority's that the storage node does not know, then one that has expired, then a good one.
    let foreign = tempfile::tempdir().unwrap();
    let files = Authority::new().issue(foreign.path(), &["worker-1"], false);
    let mut both = fs::read(&files.ca).unwrap();
    both.extend(fs::read(&lab.files.ca).unwrap());
    fs::write(&files.ca, both).unwrap();
    let driver = RemoteDriver::new(lab.config("storage-1", files.clone()));
    assert!(between(driver.check().await).is_passing());
    lab.authority.renew(&files, &["worker-1"], true);
    let error = between(driver.check().await);
    let is_expired = matches!(
        error,
        NodeError::Certificate(CertificateError::Expired { .. })
    );
    assert!(is_expired, "{error}");
    lab.authority.renew(&files, &["worker-1"], false);
    driver.check().await.unwrap();
    let connections = lab.count();
    driver.check().await.unwrap();
    assert_eq!(lab.count(), connections, "the same files, one connection");
    lab.close().await;
}

/// What cannot be used is not taken, on either side, and what was there before stays.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_renewal_changes_nothing() {
    let lab = Lab::new().await;
    let files = lab.authority.issue(lab.home.path(), &["worker-1"], false);
    let driver = RemoteDriver::new(lab.config("storage-1", files.clone()));
    driver.check().await.unwrap();
    for (files, node) in [(&lab.files, "storage-1"), (&files, "worker-1")] {
        let other = lab.home.path().join("other");
        let new = lab.authority.issue(&other, &[node], false);
        // Only the certificate, and the key is still the old one.
        replace(
            &files.certificate,
            &fs::read_to_string(&new.certificate).unwrap(),
        );
        driver.check().await.unwrap();
        lab.worker("worker-2").check().await.unwrap();
        replace(&files.key, "no key");
        driver.check().await.unwrap();
        lab.worker("worker-2").check().await.unwrap();
        // Another node's.
        lab.authority.renew(files, &["worker-9"], false);
        driver.check().await.unwrap();
        lab.worker("worker-2").check().await.unwrap();
        fs::remove_file(&files.key).unwrap();
        driver.check().await.unwrap();
        lab.worker("worker-2").check().await.unwrap();
    }
    lab.close().await;
}
