//! A server that answers more than anybody asked for.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
};

use stockpot_repository::store::{
    ObjectStore, S3Store, StoreError,
    s3::{CredentialSource, S3Config},
};

use super::bed::BUCKET;

/// Answers each request with a head, and then with zeroes for as long as somebody takes them.
fn endless(head: &'static str, piece: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8192];
            let _whatever = stream.read(&mut request);
            let _gone = stream.write_all(head.as_bytes());
            let zeroes = "0".repeat(1000);
            while stream
                .write_all(piece.replace("{}", &zeroes).as_bytes())
                .is_ok()
            {}
        }
    });
    address
}

async fn store(address: SocketAddr) -> S3Store {
    let mut config = S3Config::from_url(&format!("s3://{BUCKET}/x")).unwrap();
    config.endpoint = Some(format!("http://{address}"));
    config.region = Some("us-east-1".to_owned());
    config.credentials = CredentialSource::Static {
        access_key_id: "AK".to_owned(),
        secret_access_key: "secret".to_owned().into(),
        session_token: None,
    };
    S3Store::connect(config).await.unwrap()
}

#[tokio::test]
async fn a_body_without_end_is_refused() {
    let announced = "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let until_closed = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    for (head, piece, size_max) in [
        (announced, "{}", 1 << 40),
        (chunked, "3e8\r\n{}\r\n", 1 << 20),
        (until_closed, "{}", 1 << 20),
    ] {
        let store = store(endless(head, piece)).await;
        let error = store.get("a", 65_535).await.unwrap_err();
        assert!(
            matches!(error, StoreError::TooLarge { size_bytes, limit_bytes: 65_535, .. }
                if size_bytes > 65_535 && size_bytes <= size_max),
            "{head}: {error:?}"
        );
        let counts = store.requests();
        assert_eq!((counts.get, counts.retries), (1, 0), "{head}");
    }
}

/// Answers each listing with a page without keys that leads on, in turn to two places.
fn circling() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (turn, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8192];
            let size = stream.read(&mut request).unwrap_or(0);
            let head = String::from_utf8_lossy(&request[..size]).into_owned();
            let line = head.lines().next().unwrap_or_default();
            let root = match () {
                () if line.contains("versions") => "ListVersionsResult",
                () if line.contains("uploads") => "ListMultipartUploadsResult",
                () => "ListBucketResult",
            };
            let place = turn % 2;
            let body = format!(
                "<{root}><Name>{BUCKET}</Name><Bucket>{BUCKET}</Bucket><KeyCount>0</KeyCount><IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>t{place}</NextContinuationToken><NextKeyMarker>x/k{place}</NextKeyMarker>\
                 <NextVersionIdMarker>v</NextVersionIdMarker><NextUploadIdMarker>u</NextUploadIdMarker></{root}>"
            );
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[tokio::test]
async fn a_listing_that_goes_round_in_a_circle_ends() {
    let store = store(circling()).await;
    let patience = std::time::Duration::from_secs(20);
    let listed = tokio::time::timeout(patience, store.list("", None)).await;
    let versions = store.versions().unwrap();
    let versions = tokio::time::timeout(patience, versions.versions("")).await;
    let uploads = tokio::time::timeout(patience, store.multipart_list("")).await;
    for error in [
        listed.unwrap().map(drop).unwrap_err(),
        versions.unwrap().map(drop).unwrap_err(),
        uploads.unwrap().map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().contains("circle"), "{error}");
    }
}
