//! The contract.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::join_all;
use stockpot_repository::store::{MemoryStore, Multipart, ObjectStore, PutMode, StoreError};

use super::bed::{Bed, MIB, pattern, send_parts, three_parts};

/// Runs every case. `dir` keeps the keys of one run apart from those of another.
pub(crate) async fn run_all(store: &dyn ObjectStore, dir: &str) {
    objects(store, &format!("{dir}/objects")).await;
    ranges(store, &format!("{dir}/ranges")).await;
    bounds(store, &format!("{dir}/bounds")).await;
    conditional(store, &format!("{dir}/conditional")).await;
    race(store, &format!("{dir}/race")).await;
    listing(store, &format!("{dir}/listing")).await;
    multipart(store, &format!("{dir}/multipart")).await;
    multipart_refusals(store, &format!("{dir}/refusals")).await;
    multipart_abort(store, &format!("{dir}/abort")).await;
    counts(store, &format!("{dir}/counts")).await;
}

async fn objects(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}/a");
    assert!(
        matches!(store.get(&key, usize::MAX).await, Err(StoreError::NotFound { key: k }) if k == key)
    );
    assert!(matches!(
        store.head(&key).await,
        Err(StoreError::NotFound { .. })
    ));
    store.delete(&key).await.unwrap();

    for body in [
        Bytes::new(),
        Bytes::from_static(b"x"),
        pattern(7, 3 * MIB + 1),
    ] {
        store
            .put(&key, body.clone(), PutMode::Overwrite)
            .await
            .unwrap();
        assert_eq!(store.get(&key, usize::MAX).await.unwrap(), body);
        let meta = store.head(&key).await.unwrap();
        assert_eq!(
            (meta.key.as_str(), meta.size_bytes),
            (key.as_str(), body.len() as u64)
        );
        assert!(meta.modified_at_s > 1_600_000_000);
    }
    store.delete(&key).await.unwrap();
    assert!(matches!(
        store.get(&key, usize::MAX).await,
        Err(StoreError::NotFound { .. })
    ));
}

async fn ranges(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}/a");
    let body = pattern(9, 100_000);
    store
        .put(&key, body.clone(), PutMode::Overwrite)
        .await
        .unwrap();
    for (start, end) in [
        (0, 1),
        (0, 100_000),
        (99_999, 100_000),
        (4096, 8192),
        (5, 5),
    ] {
        let part = store.get_range(&key, start..end).await.unwrap();
        let (start, end) = (
            usize::try_from(start).unwrap(),
            usize::try_from(end).unwrap(),
        );
        assert_eq!(part, body.slice(start..end), "{start}..{end}");
    }
    for range in [99_999..100_001, 100_000..100_001, 200_000..300_000] {
        let answer = store.get_range(&key, range.clone()).await;
        assert!(
            matches!(answer, Err(StoreError::Integrity { .. })),
            "{range:?}: {answer:?}"
        );
    }
    let missing = store.get_range(&format!("{dir}/b"), 0..1).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

/// A whole object is read up to the size that the caller can bear.
async fn bounds(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}/a");
    let body = pattern(4, 100_000);
    store
        .put(&key, body.clone(), PutMode::Overwrite)
        .await
        .unwrap();
    assert_eq!(store.get(&key, 100_000).await.unwrap(), body);
    for limit in [0, 99_999] {
        let before = store.requests();
        let error = store.get(&key, limit).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::TooLarge { key: k, size_bytes: 100_000, limit_bytes }
                if *k == key && *limit_bytes == limit as u64),
            "{error:?}"
        );
        assert_eq!(store.requests().retries, before.retries);
    }
    store
        .put(&key, Bytes::new(), PutMode::Overwrite)
        .await
        .unwrap();
    assert_eq!(store.get(&key, 0).await.unwrap(), "");
}

/// Keys that somebody else chose: XML has no way to write some of them.
async fn odd_keys(store: &dyn ObjectStore, dir: &str) {
    let names = [
        "a\u{1}b",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "a b+c%0A",
        "caf\u{e9}",
        "plain",
    ];
    let keys: Vec<String> = names.iter().map(|name| format!("{dir}/{name}")).collect();
    for key in &keys {
        store
            .put(key, Bytes::from_static(b"x"), PutMode::Overwrite)
            .await
            .unwrap();
    }
    let found = list_all(store, &format!("{dir}/")).await;
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(found, sorted);
    for key in &keys {
        store.delete(key).await.unwrap();
    }
}

async fn conditional(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}/a");
    store
        .put(&key, Bytes::from_static(b"one"), PutMode::IfAbsent)
        .await
        .unwrap();
    let second = store
        .put(&key, Bytes::from_static(b"two"), PutMode::IfAbsent)
        .await;
    assert!(
        matches!(second, Err(StoreError::AlreadyExists { .. })),
        "{second:?}"
    );
    assert_eq!(store.get(&key, usize::MAX).await.unwrap(), "one");
    store.delete(&key).await.unwrap();
    store
        .put(&key, Bytes::from_static(b"three"), PutMode::IfAbsent)
        .await
        .unwrap();
}

async fn race(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}/a");
    let bodies: Vec<Bytes> = (0..24)
        .map(|writer| format!("writer {writer}").into())
        .collect();
    let race = bodies
        .iter()
        .map(|body| store.put(&key, body.clone(), PutMode::IfAbsent));
    let results = join_all(race).await;
    let winners: Vec<usize> = (0..)
        .zip(&results)
        .filter(|(_, r)| r.is_ok())
        .map(|(w, _)| w)
        .collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    let lost = results
        .iter()
        .filter(|r| matches!(r, Err(StoreError::AlreadyExists { .. })));
    assert_eq!(lost.count(), bodies.len() - 1);
    assert_eq!(
        store.get(&key, usize::MAX).await.unwrap(),
        bodies[winners[0]]
    );
}

/// All keys below `prefix`, page by page.
pub(crate) async fn list_all(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut from: Option<String> = None;
    for _ in 0..100 {
        let page = store.list(prefix, from.as_deref()).await.unwrap();
        keys.extend(page.objects.into_iter().map(|object| object.key));
        from = page.next;
        if from.is_none() {
            return keys;
        }
    }
    panic!("the listing does not end");
}

async fn listing(store: &dyn ObjectStore, dir: &str) {
    assert!(list_all(store, &format!("{dir}/")).await.is_empty());
    let names: BTreeSet<String> = (0..1_050).map(|n| format!("{dir}/many/{n}")).collect();
    let names: Vec<String> = names.into_iter().collect();
    for some in names.chunks(50) {
        let puts = some
            .iter()
            .map(|key| store.put(key, Bytes::from_static(b"."), PutMode::Overwrite));
        for result in join_all(puts).await {
            result.unwrap();
        }
    }
    store
        .put(&format!("{dir}/manyfold"), Bytes::new(), PutMode::Overwrite)
        .await
        .unwrap();
    assert_eq!(list_all(store, &format!("{dir}/many/")).await, names);
    assert_eq!(
        list_all(store, &format!("{dir}/many")).await.len(),
        names.len() + 1
    );
    assert_eq!(list_all(store, &format!("{dir}/manyf")).await.len(), 1);

    let first = store.list(&format!("{dir}/many/"), None).await.unwrap();
    assert!(first.objects.len() < names.len() && first.next.is_some());
    assert!(
        first
            .objects
            .iter()
            .all(|object| object.size_bytes == 1 && object.modified_at_s > 0)
    );
}

async fn multipart(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}/a");
    let parts = three_parts();
    let upload = store.multipart_create(&key).await.unwrap();
    assert!(matches!(
        store.head(&key).await,
        Err(StoreError::NotFound { .. })
    ));
    // Parts go out of order and one goes twice, as they do when many are in flight.
    let mut receipts = Vec::new();
    for number in [3_u32, 1, 2, 1] {
        let body = parts[number as usize - 1].clone();
        receipts.push(store.multipart_put(&upload, number, body).await.unwrap());
    }
    receipts.remove(1);
    receipts.sort_by_key(|receipt| receipt.number);
    store.multipart_complete(&upload, &receipts).await.unwrap();
    let whole = parts.concat();
    assert_eq!(
        store.head(&key).await.unwrap().size_bytes,
        whole.len() as u64
    );
    assert_eq!(store.get(&key, usize::MAX).await.unwrap(), whole);
    let across = 5 * MIB as u64 - 3..5 * MIB as u64 + 3;
    assert_eq!(
        store.get_range(&key, across).await.unwrap(),
        whole[5 * MIB - 3..5 * MIB + 3]
    );
    // A caller that does not know whether it completed may ask again.
    store.multipart_complete(&upload, &receipts).await.unwrap();

    let single = store.multipart_create(&format!("{dir}/b")).await.unwrap();
    let receipts = send_parts(store, &single, &[pattern(4, 10)]).await;
    store.multipart_complete(&single, &receipts).await.unwrap();
    assert_eq!(
        store.get(&format!("{dir}/b"), usize::MAX).await.unwrap(),
        pattern(4, 10)
    );
}

async fn multipart_refusals(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}/a");
    let upload = store.multipart_create(&key).await.unwrap();
    let receipts = send_parts(store, &upload, &three_parts()).await;
    let mut wrong = vec![
        vec![],
        receipts[1..].to_vec(),
        vec![receipts[0].clone(), receipts[2].clone()],
    ];
    let mut never_sent = receipts.clone();
    never_sent[1].etag = "\"0123456789abcdef0123456789abcdef\"".to_owned();
    wrong.push(never_sent);
    for list in wrong {
        let answer = store.multipart_complete(&upload, &list).await;
        assert!(
            matches!(answer, Err(StoreError::Integrity { .. })),
            "{list:?}: {answer:?}"
        );
        assert!(matches!(
            store.head(&key).await,
            Err(StoreError::NotFound { .. })
        ));
    }
    store.multipart_complete(&upload, &receipts).await.unwrap();

    let unknown = Multipart {
        key: format!("{dir}/never"),
        upload_id: upload.upload_id,
    };
    let answer = store.multipart_put(&unknown, 1, pattern(1, 10)).await;
    assert!(
        matches!(answer, Err(StoreError::NotFound { .. })),
        "{answer:?}"
    );
    assert!(store.multipart_complete(&unknown, &receipts).await.is_err());
}

async fn multipart_abort(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}/deep/a");
    let upload = store.multipart_create(&key).await.unwrap();
    let other = store
        .multipart_create(&format!("{dir}/other"))
        .await
        .unwrap();
    let receipts = send_parts(store, &upload, &three_parts()).await;
    let open = store.multipart_list(&format!("{dir}/")).await.unwrap();
    assert!(
        open.contains(&upload) && open.contains(&other) && open.len() == 2,
        "{open:?}"
    );
    assert_eq!(
        store.multipart_list(&format!("{dir}/deep")).await.unwrap(),
        std::slice::from_ref(&upload)
    );

    store.multipart_abort(&upload).await.unwrap();
    store.multipart_abort(&upload).await.unwrap();
    assert_eq!(
        store.multipart_list(&format!("{dir}/")).await.unwrap(),
        std::slice::from_ref(&other)
    );
    assert!(
        store
            .multipart_put(&upload, 4, pattern(1, 10))
            .await
            .is_err()
    );
    assert!(store.multipart_complete(&upload, &receipts).await.is_err());
    assert!(matches!(
        store.head(&key).await,
        Err(StoreError::NotFound { .. })
    ));
    store.multipart_abort(&other).await.unwrap();
    assert!(
        store
            .multipart_list(&format!("{dir}/"))
            .await
            .unwrap()
            .is_empty()
    );
}

async fn counts(store: &dyn ObjectStore, dir: &str) {
    let key = format!("{dir}/a");
    let before = store.requests();
    store
        .put(&key, pattern(1, 1000), PutMode::Overwrite)
        .await
        .unwrap();
    store.get_range(&key, 10..20).await.unwrap();
    store.get(&key, usize::MAX).await.unwrap();
    let after = store.requests();
    assert_eq!(after.put - before.put, 1);
    assert_eq!(after.get - before.get, 2);
    assert_eq!(after.bytes_out - before.bytes_out, 1000);
    assert_eq!(after.bytes_in - before.bytes_in, 1010);
    assert_eq!(after.total() - before.total(), 3);
}

#[tokio::test]
async fn keys_that_others_chose_are_listed() {
    odd_keys(&MemoryStore::new(), "t").await;
    odd_keys(&Bed::new().await.store, "t").await;
}

#[tokio::test]
async fn memory_store() {
    let store = MemoryStore::new();
    run_all(&store, "t").await;
    assert_eq!(store.open_uploads(), 0);
}

#[tokio::test]
async fn s3_store_as_it_comes() {
    let bed = Bed::new().await;
    run_all(&bed.store, "t").await;
}

#[tokio::test]
async fn s3_store_after_a_probe() {
    let bed = Bed::new().await;
    bed.store.probe().await.unwrap();
    run_all(&bed.store, "t").await;
    assert_eq!(
        bed.store.requests().retries,
        0,
        "nothing failed, so nothing was sent twice"
    );
}

#[tokio::test]
async fn s3_store_over_tls_without_a_prefix() {
    use super::bed::{BUCKET, config};
    use stockpot_repository::store::{S3Store, s3::S3Config};
    use stockpot_test_fixtures::{s3::Server, tls::TestCa};

    let server = Server::builder()
        .bucket(BUCKET)
        .tls(TestCa::new().unwrap())
        .start()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = server
        .ca()
        .unwrap()
        .write_certificate(directory.path())
        .unwrap();
    let config = S3Config {
        url: format!("s3://{BUCKET}").parse().unwrap(),
        ca_file: Some(ca_file),
        ..config(&server)
    };
    let store = S3Store::connect(config).await.unwrap();
    objects(&store, "objects").await;
    multipart(&store, "multipart").await;
    assert!(server.object(BUCKET, "multipart/a").is_some());
}
