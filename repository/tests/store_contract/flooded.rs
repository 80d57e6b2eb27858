//! Listings of versions that somebody fills with names of his own: what is wanted comes out, and nothing else is gathered.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use stockpot_repository::store::ObjectStore;

use super::{bed::BUCKET, bounds::store};

/// Answers each listing of versions with these keys below the prefix, a page after the other, and with an empty last page. Counts
/// the requests.
fn listing(pages: &'static [&'static [&'static str]]) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8192];
            let _whatever = stream.read(&mut request);
            let page = counter.fetch_add(1, Ordering::Relaxed);
            let keys = usize::try_from(page).ok().and_then(|page| pages.get(page));
            let mut body = format!("<ListVersionsResult><Name>{BUCKET}</Name>");
            body += &match keys {
                Some(_) => format!(
                    "<IsTruncated>true</IsTruncated><NextKeyMarker>x/m{page}</NextKeyMarker>\
                     <NextVersionIdMarker>v</NextVersionIdMarker>"
                ),
                None => "<IsTruncated>false</IsTruncated>".to_owned(),
            };
            for key in keys.copied().unwrap_or_default() {
                body += &format!(
                    "<Version><Key>x/{key}</Key><VersionId>v{page}</VersionId><IsLatest>true</IsLatest><Size>1</Size>\
                     <LastModified>2026-01-02T03:04:05.000Z</LastModified></Version>"
                );
            }
            body += "</ListVersionsResult>";
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    (address, asked)
}

/// Behind other keys that start with the one that is asked for, nothing of it comes any more.
#[tokio::test]
async fn the_versions_of_one_object_end_before_other_names() {
    let (address, asked) = listing(&[
        &["repository.json"],
        &["repository.json", "repository.json.0"],
        &["repository.json.1"],
        &["repository.json.2"],
    ]);
    let store = store(address).await;
    let versions = store.versions().unwrap();
    let found = versions.versions_of("repository.json").await.unwrap();
    let ids: Vec<&str> = found.iter().map(|found| &*found.version_id).collect();
    assert_eq!(ids, ["v0", "v1"]);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn the_versions_below_a_folder_are_those_of_our_names() {
    let (address, asked) = listing(&[
        &[
            "snapshots/0/junk",
            "snapshots/v/0.json",
            "snapshots/v/a.json",
        ],
        &[
            "snapshots/v/b",
            "snapshots/v/b.json",
            "snapshots/v/b.json/c",
        ],
    ]);
    let store = store(address).await;
    let versions = store.versions().unwrap();
    let found = versions.versions("snapshots/").await.unwrap();
    let keys: Vec<&str> = found.iter().map(|found| &*found.key).collect();
    assert_eq!(keys, ["snapshots/v/a.json", "snapshots/v/b.json"]);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}
