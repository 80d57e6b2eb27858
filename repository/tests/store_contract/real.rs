//! The contract on servers that others wrote, where `STOCKPOT_TEST_S3` asks for them (`make test-s3` does).

use bytes::Bytes;
use stockpot_repository::store::{
    EndpointReport, ObjectStore, PutMode, S3Store, StoreError, probe::UploadListing, s3::S3Config,
};
use stockpot_test_fixtures::s3::{
    Credentials,
    real::{Kind, RealServer, requested},
};

use super::{
    bed::{BUCKET, fixed, pattern, send_parts, three_parts},
    cases,
};

/// The server with an empty bucket; `None` where it was not asked for.
async fn start(kind: Kind) -> Option<RealServer> {
    if !requested().unwrap().contains(&kind) {
        eprintln!("not run: STOCKPOT_TEST_S3 does not name {}", kind.name());
        return None;
    }
    let server = RealServer::start(kind).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
    server
        .client()
        .create_bucket()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    Some(server)
}

fn config(server: &RealServer, keys: &Credentials) -> S3Config {
    S3Config {
        endpoint: Some(server.endpoint()),
        region: Some("us-east-1".to_owned()),
        credentials: fixed(keys),
        ..S3Config::from_url(&format!("s3://{BUCKET}/some/prefix")).unwrap()
    }
}

async fn connect(server: &RealServer) -> S3Store {
    S3Store::connect(config(server, server.credentials()))
        .await
        .unwrap()
}

/// A server may write such a name down as another one, in another place: the rest is listed all the same.
async fn what_xml_cannot_hold(store: &S3Store) {
    let (odd, plain) = ("odd/snap\u{1b}b.json", ["odd/snap-a.json", "odd/snap.json"]);
    for key in [odd, plain[0], plain[1]] {
        let body = Bytes::from_static(b"x");
        store.put(key, body, PutMode::Overwrite).await.unwrap();
    }
    let page = store.list("odd/", None).await.unwrap();
    let listed: Vec<_> = page
        .objects
        .iter()
        .map(|object| object.key.as_str())
        .collect();
    assert!(plain.iter().all(|key| listed.contains(key)), "{listed:?}");
    assert_eq!(listed.len(), 3, "{listed:?}");
    store.delete(odd).await.unwrap();
}

async fn contract(kind: Kind) -> Option<EndpointReport> {
    let server = start(kind).await?;
    let store = connect(&server).await;
    let report = store.probe().await.unwrap();
    println!("{}:\n{report}\n{}", kind.name(), store.requests());
    assert!(
        cases::list_all(&store, "").await.is_empty(),
        "the probe leaves nothing"
    );
    assert!(report.allows_prune());
    cases::run_all(&store, "t").await;
    what_xml_cannot_hold(&store).await;
    refusals(&server, &store).await;
    Some(report)
}

async fn refusals(server: &RealServer, store: &S3Store) {
    let strangers = S3Store::connect(config(server, &Credentials::random()))
        .await
        .unwrap();
    let error = strangers
        .put("x", Bytes::new(), PutMode::Overwrite)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
    let error = strangers.head("x").await.unwrap_err();
    assert!(matches!(error, StoreError::Credentials { .. }), "{error:?}");
    let mut elsewhere = config(server, server.credentials());
    elsewhere.url = "s3://other-bucket/x".parse().unwrap();
    let elsewhere = S3Store::connect(elsewhere).await.unwrap();
    let error = elsewhere.get("x", usize::MAX).await.unwrap_err();
    assert!(
        matches!(error, StoreError::NoSuchBucket { .. }),
        "{error:?}"
    );
    let error = elsewhere.multipart_create("x").await.unwrap_err();
    assert!(
        matches!(error, StoreError::NoSuchBucket { .. }),
        "{error:?}"
    );
    drop(store.list("", None).await.unwrap());
}

/// Killed between two parts and started again: the upload goes on.
async fn survives_a_crash_of_the_server(kind: Kind) {
    let Some(mut server) = start(kind).await else {
        return;
    };
    let store = connect(&server).await;
    store.probe().await.unwrap();
    let upload = store.multipart_create("a").await.unwrap();
    let parts = three_parts();
    let mut receipts = send_parts(&store, &upload, &parts[..1]).await;
    server.stop();
    server.restart().unwrap();
    receipts.push(
        store
            .multipart_put(&upload, 2, parts[1].clone())
            .await
            .unwrap(),
    );
    receipts.push(
        store
            .multipart_put(&upload, 3, parts[2].clone())
            .await
            .unwrap(),
    );
    store.multipart_complete(&upload, &receipts).await.unwrap();
    assert_eq!(store.get("a", usize::MAX).await.unwrap(), parts.concat());
    store
        .put("b", pattern(1, 10), PutMode::IfAbsent)
        .await
        .unwrap();
}

#[tokio::test]
async fn versitygw() {
    if let Some(report) = contract(Kind::Versitygw).await {
        assert_eq!(report, EndpointReport::complete());
    }
}

#[tokio::test]
async fn versitygw_crashes() {
    survives_a_crash_of_the_server(Kind::Versitygw).await;
}

#[tokio::test]
async fn minio() {
    if let Some(report) = contract(Kind::Minio).await {
        assert_eq!(report.upload_listing, UploadListing::WholeBucket);
    }
}

#[tokio::test]
async fn minio_crashes() {
    survives_a_crash_of_the_server(Kind::Minio).await;
}
