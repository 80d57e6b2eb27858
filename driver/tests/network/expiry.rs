//! A certificate that ends while its connection is open.

use std::{fs, time::Duration};

use stockpot_driver::{
    VolumeDriver,
    remote::{CertificateError, NodeError, RemoteDriver},
};
use stockpot_proto::stockpot::v1::storage::{PoolRequest, storage_node_client::StorageNodeClient};
use tokio::time::Instant;
use tonic::{
    Code,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use super::lab::{Lab, between};

/// Long enough for a connection, short enough to be waited for; a certificate's end is in whole seconds.
const LIFE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// Whoever keeps a connection open is refused there as well.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_is_worth_no_more_than_its_certificate() {
    let lab = Lab::new().await;
    let files = lab.authority.issue_for(lab.home.path(), "worker-1", LIFE);
    let read = |path| fs::read(path).unwrap();
    let tls = ClientTlsConfig::new()
        .identity(Identity::from_pem(
            read(&files.certificate),
            read(&files.key),
        ))
        .ca_certificate(Certificate::from_pem(read(&files.ca)))
        .domain_name("storage-1");
    let endpoint = Endpoint::from_shared(format!("https://{}", lab.address)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut client = StorageNodeClient::new(channel);
    let pool = || PoolRequest {
        pool: "pool".to_owned(),
    };
    client.get_pool(pool()).await.unwrap();
    let started = Instant::now();
    let refused = loop {
        match client.get_pool(pool()).await {
            Ok(_) => assert!(started.elapsed() < 3 * LIFE, "it is still answered"),
            Err(status) => break status,
        }
        tokio::time::sleep(PAUSE).await;
    };
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    for words in ["node worker-1 expired at 2", "pki issue"] {
        assert!(refused.message().contains(words), "{refused}");
    }
    assert_eq!(lab.count(), 1, "it was not the same connection");
    lab.close().await;
}

/// A node whose own certificate has ended says so itself, and goes on with the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_call_with_what_has_expired() {
    let lab = Lab::new().await;
    let files = lab.authority.issue_for(lab.home.path(), "worker-1", LIFE);
    let driver = RemoteDriver::new(lab.config("storage-1", files.clone()));
    driver.check().await.unwrap();
    tokio::time::sleep(LIFE).await;
    let error = between(driver.check().await);
    let is_expired = matches!(
        error,
        NodeError::Certificate(CertificateError::Expired { .. })
    );
    assert!(is_expired, "{error}");
    lab.authority.renew(&files, &["worker-1"], false);
    driver.check().await.unwrap();
    lab.close().await;
}
