//! Real servers, where `STOCKPOT_TEST_S3` names them: they start, keep what they store over a crash, and take
//! faults in front of them.

use aws_sdk_s3::Client;
use stockpot_test_fixtures::s3::FaultProxy;
use stockpot_test_fixtures::s3::real::{RealServer, requested};

use crate::client::{bytes, config};

#[tokio::test]
async fn real_servers_come_and_go() {
    for kind in requested().unwrap() {
        let mut server = RealServer::start(kind).unwrap();
        let client = Client::from_conf(config(&server.endpoint(), server.credentials()).build());
        client
            .create_bucket()
            .bucket("bucket")
            .send()
            .await
            .unwrap();
        let proxy = FaultProxy::to(&server.endpoint()).unwrap();
        crate::proxy::check(&crate::proxy::through(&proxy, server.credentials()), &proxy).await;
        client
            .put_object()
            .bucket("bucket")
            .key("kept")
            .body(bytes(b"x"))
            .send()
            .await
            .unwrap();
        server.stop();
        assert!(client.head_bucket().bucket("bucket").send().await.is_err());
        server.restart().unwrap();
        let got = client
            .get_object()
            .bucket("bucket")
            .key("kept")
            .send()
            .await
            .unwrap();
        assert_eq!(
            got.body.collect().await.unwrap().into_bytes().as_ref(),
            b"x",
            "{kind:?}"
        );
    }
}
