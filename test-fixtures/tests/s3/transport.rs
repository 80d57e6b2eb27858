//! TLS, and buckets in host names.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use stockpot_test_fixtures::s3::Server;
use stockpot_test_fixtures::tls::TestCa;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{bytes, code, config, start};

fn tls_client(server: &Server, ca: Option<&TestCa>) -> Client {
    let mut store = TrustStore::empty();
    if let Some(ca) = ca {
        store.add_pem_certificate(ca.certificate_pem().as_bytes());
    }
    let context = TlsContext::builder()
        .with_trust_store(store.with_native_roots(false))
        .build()
        .unwrap();
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build_https();
    Client::from_conf(
        config(&server.endpoint(), server.credentials())
            .http_client(http)
            .build(),
    )
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_named() {
    let server = Server::builder()
        .bucket("bucket")
        .tls(TestCa::new().unwrap())
        .start()
        .unwrap();
    assert!(server.endpoint().starts_with("https://127.0.0.1:"));
    let trusting = tls_client(&server, server.ca());
    let put = trusting
        .put_object()
        .bucket("bucket")
        .key("k")
        .body(bytes(b"x"))
        .send()
        .await;
    assert_eq!(code(put), "ok");
    let other = TestCa::new().unwrap();
    let distrusting = tls_client(&server, Some(&other));
    assert_eq!(
        code(
            distrusting
                .get_object()
                .bucket("bucket")
                .key("k")
                .send()
                .await
        ),
        "dispatch"
    );
}

/// Names below `localhost` need not resolve, so the request is signed by the SDK and sent by hand.
#[tokio::test]
async fn a_bucket_may_stand_in_the_host_name() {
    use aws_sdk_s3::presigning::PresigningConfig;
    let (server, _client) = start();
    server.put_object("bucket", "k", "hosted");
    let endpoint = format!("http://localhost:{}", server.address().port());
    let client = Client::from_conf(
        config(&endpoint, server.credentials())
            .force_path_style(false)
            .build(),
    );
    let presigning = PresigningConfig::builder()
        .start_time(SystemTime::now())
        .expires_in(Duration::from_secs(60));
    let request = client
        .get_object()
        .bucket("bucket")
        .key("k")
        .presigned(presigning.build().unwrap())
        .await
        .unwrap();
    let uri: http::Uri = request.uri().parse().unwrap();
    let host = uri.authority().unwrap().as_str();
    assert!(host.starts_with("bucket.localhost:"));
    let mut stream = tokio::net::TcpStream::connect(server.address())
        .await
        .unwrap();
    let text = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
        uri.path_and_query().unwrap()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("hosted"), "{answer}");
}
