//! Endpoints that can do less: the probe finds what, the store goes on with what there is.

use stockpot_repository::store::{
    EndpointReport, ObjectStore, PutMode, S3Store, StoreError,
    probe::{BodyCheck, Conditional, UploadListing},
};
use stockpot_test_fixtures::s3::{
    Action, Capabilities, ChecksumSupport, Conditional as Served, Fault, Op, Server,
};

use super::bed::{BUCKET, Bed, config, pattern, send_parts, three_parts};

async fn bed(capabilities: Capabilities) -> Bed {
    Bed::with(Server::builder().capabilities(capabilities)).await
}

async fn probe(bed: &Bed) -> EndpointReport {
    let report = bed.store.probe().await.unwrap();
    assert!(
        bed.server.objects(BUCKET).is_empty(),
        "the probe leaves no object"
    );
    assert!(
        bed.server.uploads(BUCKET).is_empty(),
        "the probe leaves no upload"
    );
    assert_eq!(bed.store.abilities().as_ref(), Some(&report));
    report
}

/// A store that was told instead of probing writes and reads, whole and in parts.
async fn works_from_a_record(bed: &Bed, report: &EndpointReport) {
    let store = S3Store::connect(config(&bed.server)).await.unwrap();
    store.adopt(report);
    store
        .put("a", pattern(1, 5000), PutMode::IfAbsent)
        .await
        .unwrap();
    let second = store.put("a", pattern(2, 5000), PutMode::IfAbsent).await;
    assert!(
        matches!(second, Err(StoreError::AlreadyExists { .. })),
        "{second:?}"
    );
    assert_eq!(store.get("a", usize::MAX).await.unwrap(), pattern(1, 5000));
    let upload = store.multipart_create("b").await.unwrap();
    let receipts = send_parts(&store, &upload, &three_parts()).await;
    store.multipart_complete(&upload, &receipts).await.unwrap();
    assert_eq!(
        store.get("b", usize::MAX).await.unwrap(),
        three_parts().concat()
    );
    assert_eq!(store.requests().retries, 0);
}

#[tokio::test]
async fn an_endpoint_that_can_everything() {
    let bed = bed(Capabilities::default()).await;
    let report = probe(&bed).await;
    assert_eq!(report, EndpointReport::complete());
    assert!(!report.has_fallbacks() && report.allows_prune());
    works_from_a_record(&bed, &report).await;
    let kept = bed
        .server
        .objects(BUCKET)
        .into_iter()
        .filter(|object| object.checksum.is_some())
        .count();
    assert_eq!(kept, 2, "the server keeps a checksum with both objects");
}

#[tokio::test]
async fn no_whole_object_checksums() {
    let bed = bed(Capabilities {
        full_object_checksums: false,
        ..Capabilities::default()
    })
    .await;
    let report = probe(&bed).await;
    assert_eq!(
        report,
        EndpointReport {
            whole_object_crc: false,
            ..EndpointReport::complete()
        }
    );
    works_from_a_record(&bed, &report).await;
}

#[tokio::test]
async fn checksums_refused_or_not_looked_at() {
    let refused = Capabilities::default().no_checksums();
    let ignored = Capabilities {
        checksums: ChecksumSupport::Ignored,
        ..Capabilities::default()
    };
    for capabilities in [refused, ignored] {
        let bed = bed(capabilities).await;
        let report = probe(&bed).await;
        assert_eq!(report.put_check, BodyCheck::ContentMd5);
        assert_eq!(report.part_check, BodyCheck::ContentMd5);
        assert!(report.has_fallbacks() && report.allows_prune());
        works_from_a_record(&bed, &report).await;
    }
}

#[tokio::test]
async fn content_md5_demanded() {
    let capabilities = Capabilities::default()
        .no_checksums()
        .requires_content_md5();
    let bed = bed(capabilities).await;
    let report = probe(&bed).await;
    assert_eq!(report.put_check, BodyCheck::ContentMd5);
    works_from_a_record(&bed, &report).await;
}

#[tokio::test]
async fn conditions_not_looked_at_or_refused() {
    for (served, found) in [
        (Served::Ignored, Conditional::Ignored),
        (Served::Rejected, Conditional::Rejected),
    ] {
        let bed = bed(Capabilities {
            put_if_none_match: served,
            complete_if_none_match: served,
            ..Capabilities::default()
        })
        .await;
        let report = probe(&bed).await;
        assert_eq!(report.conditional_put, found);
        assert_eq!(report.conditional_complete, found);
        assert!(!report.allows_prune());
        works_from_a_record(&bed, &report).await;
    }
}

/// MinIO lists no uploads for a partial prefix.
#[tokio::test]
async fn uploads_listed_for_the_whole_bucket_only() {
    let bed = bed(Capabilities::default()).await;
    let blind = Fault::new(Action::EmptyListing)
        .on(Op::ListMultipartUploads)
        .key("some/prefix");
    bed.server.faults().inject(blind);
    let report = probe(&bed).await;
    assert_eq!(report.upload_listing, UploadListing::WholeBucket);
    let upload = bed.store.multipart_create("packs/a").await.unwrap();
    bed.store.multipart_create("other/b").await.unwrap();
    assert_eq!(bed.store.multipart_list("packs/").await.unwrap(), [upload]);

    bed.server
        .faults()
        .inject(Fault::new(Action::EmptyListing).on(Op::ListMultipartUploads));
    assert_eq!(
        bed.store.probe().await.unwrap().upload_listing,
        UploadListing::Unsupported
    );
    let error = bed.store.multipart_list("packs/").await.unwrap_err();
    assert!(matches!(error, StoreError::Unsupported { .. }), "{error:?}");
}

/// Reading back is what is left where nothing is checked, and it finds damage.
#[tokio::test]
async fn reading_back_finds_damage() {
    let bed = bed(Capabilities {
        checksums: ChecksumSupport::Ignored,
        ..Capabilities::default()
    })
    .await;
    bed.store.adopt(&EndpointReport {
        put_check: BodyCheck::ReadBack,
        part_check: BodyCheck::ReadBack,
        whole_object_crc: false,
        ..EndpointReport::complete()
    });
    bed.store
        .put("a", pattern(1, 100), PutMode::Overwrite)
        .await
        .unwrap();
    bed.server.faults().inject(
        Fault::new(Action::FlipRequest { at: 7 })
            .on(Op::PutObject)
            .once(),
    );
    let error = bed
        .store
        .put("a", pattern(2, 100), PutMode::Overwrite)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Integrity { .. }), "{error:?}");

    let upload = bed.store.multipart_create("b").await.unwrap();
    bed.server.faults().inject(
        Fault::new(Action::FlipRequest { at: 7 })
            .on(Op::UploadPart)
            .nth(2),
    );
    let receipts = send_parts(&bed.store, &upload, &three_parts()).await;
    let error = bed
        .store
        .multipart_complete(&upload, &receipts)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Integrity { .. }), "{error:?}");
}

/// A server that stalls or fails while it is probed is no server without abilities.
#[tokio::test]
async fn a_probe_in_trouble_is_an_error() {
    let bed = bed(Capabilities::default()).await;
    bed.server
        .faults()
        .inject(Fault::new(Action::internal_error()).on(Op::UploadPart));
    let error = bed.store.probe().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(bed.server.objects(BUCKET).is_empty());
    assert!(bed.server.uploads(BUCKET).is_empty());
}
