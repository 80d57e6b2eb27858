//! A server that answers more than anybody asked for.

use std::{
    error::Error as _,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use stockpot_repository::store::{
    Multipart, ObjectStore, PartReceipt, PutMode, S3Store, StoreError,
    s3::{CredentialSource, S3Config},
};

use super::bed::{BUCKET, Bed, MIB, pattern};

/// What a server pours out at most, far more than anybody should take.
const POURED_MAX: u64 = 64 << 20;

/// What lies in buffers between two sockets, with room to spare.
const UNDER_WAY_MAX: u64 = 24 << 20;

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

pub(super) async fn store(address: SocketAddr) -> S3Store {
    let mut config = S3Config::from_url(&format!("s3://{BUCKET}/x")).unwrap();
    config.endpoint = Some(format!("http://{address}"));
    config.region = Some("us-east-1".to_owned());
    config.credentials = CredentialSource::Static {
        access_key_id: "AK".to_owned(),
        secret_access_key: "secret".to_owned().into(),
        session_token: None,
    };
    config.limits.attempts = 3;
    config.limits.pause_first = Duration::from_millis(10);
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

/// Answers each request with a head and then with far too much, except that it has no object to a HEAD. Counts the bytes that
/// somebody took.
fn pouring(status: &'static str, opening: &'static str) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let poured = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&poured);
    std::thread::spawn(move || {
        let piece = format!("{:x}\r\n{}\r\n", 64 << 10, "x".repeat(64 << 10));
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8192];
            let size = stream.read(&mut request).unwrap_or(0);
            if request[..size].starts_with(b"HEAD ") {
                let _gone = stream.write_all(
                    b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                );
                continue;
            }
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{opening}\r\n",
                opening.len()
            );
            let _gone = stream.write_all(head.as_bytes());
            let mut left = POURED_MAX;
            while left > 0 && stream.write_all(piece.as_bytes()).is_ok() {
                counter.fetch_add(64 << 10, Ordering::Relaxed);
                left -= 64 << 10;
            }
        }
    });
    (address, poured)
}

/// It says why, was not asked again, and took no more than was due.
fn assert_cut_off(store: &S3Store, error: &StoreError, limit: u64, poured: &AtomicU64) {
    let StoreError::Unavailable { attempts: 1, .. } = error else {
        panic!("{error:?}");
    };
    let source = error.source().unwrap().to_string();
    assert!(source.contains(&limit.to_string()), "{source}");
    assert_eq!(store.requests().retries, 0);
    let poured = poured.load(Ordering::Relaxed);
    assert!(poured <= limit + UNDER_WAY_MAX, "{poured} bytes came");
}

#[tokio::test]
async fn a_listing_without_end_is_cut_off() {
    let opening =
        "<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name><KeyCount>1</KeyCount>";
    let (address, poured) = pouring("200 OK", opening);
    let store = store(address).await;
    let error = store.list("packs/", None).await.unwrap_err();
    assert_cut_off(&store, &error, 8 << 20, &poured);
}

#[tokio::test]
async fn a_listing_of_versions_without_end_is_cut_off() {
    let opening = "<?xml version=\"1.0\"?><ListVersionsResult><Name>bucket</Name><Prefix>";
    let (address, poured) = pouring("200 OK", opening);
    let store = store(address).await;
    let versions = store.versions().unwrap();
    let error = versions.versions("packs/").await.map(drop).unwrap_err();
    assert_cut_off(&store, &error, 8 << 20, &poured);
}

#[tokio::test]
async fn a_listing_of_uploads_without_end_is_cut_off() {
    let opening = "<?xml version=\"1.0\"?><ListMultipartUploadsResult><Bucket>bucket</Bucket>";
    let (address, poured) = pouring("200 OK", opening);
    let store = store(address).await;
    let error = store.multipart_list("packs/").await.unwrap_err();
    assert_cut_off(&store, &error, 8 << 20, &poured);
}

#[tokio::test]
async fn a_completion_whose_answer_has_no_end_is_cut_off_and_not_believed() {
    let opening = "<?xml version=\"1.0\"?><CompleteMultipartUploadResult><Key>";
    let (address, poured) = pouring("200 OK", opening);
    let store = store(address).await;
    let upload = Multipart {
        key: "packs/a".to_owned(),
        upload_id: "u".to_owned(),
    };
    let part = PartReceipt {
        number: 1,
        size_bytes: 5,
        etag: "\"e\"".to_owned(),
        crc32c: 0,
    };
    let error = store.multipart_complete(&upload, &[part]).await;
    assert_cut_off(&store, &error.unwrap_err(), 8 << 20, &poured);
}

#[tokio::test]
async fn an_error_without_end_is_cut_off() {
    let opening = "<Error><Code>NoSuchKey</Code><Message>";
    let (address, poured) = pouring("404 Not Found", opening);
    for question in 0..3 {
        poured.store(0, Ordering::Relaxed);
        let store = store(address).await;
        let error = match question {
            0 => store.get("a", 65_535).await.map(drop),
            1 => store.list("packs/", None).await.map(drop),
            _ => {
                let body = Bytes::from_static(b"x");
                store.put("a", body, PutMode::Overwrite).await
            }
        };
        assert_cut_off(&store, &error.unwrap_err(), 64 << 10, &poured);
    }
}

/// A proxy's page about a fault that passes says nothing else for being long.
#[tokio::test]
async fn a_long_page_about_a_passing_fault_is_one() {
    let (address, _) = pouring("503 Service Unavailable", "<html>");
    let store = store(address).await;
    let error = store.get("a", 65_535).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable { attempts: 3, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn objects_are_longer_than_other_answers_may_be() {
    let bed = Bed::new().await;
    let object = pattern(1, 9 * MIB);
    bed.store
        .put("a", object.clone(), PutMode::IfAbsent)
        .await
        .unwrap();
    assert_eq!(bed.store.get("a", 9 * MIB).await.unwrap(), object);
}
