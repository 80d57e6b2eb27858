//! What goes wrong between a store and its bucket, and what must be true afterwards.

use std::time::{Duration, Instant};

use bytes::Bytes;
use stockpot_repository::store::{ObjectStore, PutMode, StoreError};
use stockpot_test_fixtures::s3::{Action, Fault, Op};

use super::bed::{BUCKET, Bed, pattern, send_parts, three_parts};

const KEY: &str = "packs/a";
const FULL_KEY: &str = "some/prefix/packs/a";

/// Sends three parts and completes them.
async fn upload(bed: &Bed) -> Result<(), StoreError> {
    let upload = bed.store.multipart_create(KEY).await?;
    let mut receipts = Vec::new();
    for (number, part) in (1..).zip(three_parts()) {
        receipts.push(bed.store.multipart_put(&upload, number, part).await?);
    }
    bed.store.multipart_complete(&upload, &receipts).await
}

fn assert_uploaded(bed: &Bed) {
    assert_eq!(
        bed.server.object(BUCKET, FULL_KEY).unwrap(),
        three_parts().concat()
    );
    assert!(
        bed.server.uploads(BUCKET).is_empty(),
        "{:?}",
        bed.server.uploads(BUCKET)
    );
}

/// One fault of each passing kind, at every operation of an upload: it goes through, and nothing stays open.
#[tokio::test]
async fn one_fault_anywhere_is_survived() {
    let ops = [
        Op::CreateMultipartUpload,
        Op::UploadPart,
        Op::CompleteMultipartUpload,
        Op::HeadObject,
    ];
    let actions = [
        Action::slow_down(),
        Action::internal_error(),
        Action::AppliedThenStatus {
            status: 500,
            code: "InternalError",
        },
        Action::DropBefore,
        Action::DropAfter,
        Action::time_too_skewed(),
        Action::conditional_conflict(),
    ];
    for op in ops {
        for action in &actions {
            let bed = Bed::new().await;
            bed.store.probe().await.unwrap();
            let fault = bed
                .server
                .faults()
                .inject(Fault::new(action.clone()).on(op).key(KEY).once());
            upload(&bed)
                .await
                .unwrap_or_else(|error| panic!("{op:?}, {action:?}: {error:?}"));
            assert_eq!(bed.server.faults().fired(fault), 1, "{op:?}, {action:?}");
            assert_uploaded(&bed);
        }
    }
}

/// A bit that flips on the way is noticed by the checksum and the part sent again.
#[tokio::test]
async fn a_damaged_part_is_sent_again() {
    let bed = Bed::new().await;
    bed.store.probe().await.unwrap();
    bed.server.faults().inject(
        Fault::new(Action::FlipRequest { at: 1000 })
            .on(Op::UploadPart)
            .nth(2),
    );
    bed.server.faults().inject(
        Fault::new(Action::DropDuring {
            after_bytes: 100_000,
        })
        .on(Op::UploadPart)
        .nth(4),
    );
    upload(&bed).await.unwrap();
    assert_uploaded(&bed);
    assert!(bed.store.requests().retries >= 2);
}

/// A wire that damages everything is an error of integrity, not an endless repetition.
#[tokio::test]
async fn constant_damage_is_an_integrity_error() {
    let bed = Bed::new().await;
    bed.store.probe().await.unwrap();
    bed.server
        .faults()
        .inject(Fault::new(Action::FlipRequest { at: 0 }).on(Op::PutObject));
    let error = bed
        .store
        .put("a", pattern(1, 100), PutMode::Overwrite)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Integrity { .. }), "{error:?}");
    bed.server.faults().clear();

    bed.store
        .put("b", pattern(1, 100), PutMode::Overwrite)
        .await
        .unwrap();
    bed.server
        .faults()
        .inject(Fault::new(Action::FlipResponse { at: 5 }).on(Op::GetObject));
    let error = bed.store.get("b", usize::MAX).await.unwrap_err();
    assert!(matches!(error, StoreError::Integrity { .. }), "{error:?}");
}

#[tokio::test]
async fn lost_answers_of_conditional_writes_are_settled() {
    for action in [
        Action::DropAfter,
        Action::HangAfter,
        Action::AppliedThenStatus {
            status: 500,
            code: "InternalError",
        },
        Action::AppliedThenStatus {
            status: 503,
            code: "SlowDown",
        },
    ] {
        let bed = Bed::impatient().await;
        bed.server
            .faults()
            .inject(Fault::new(action.clone()).on(Op::PutObject).once());
        let body = Bytes::from_static(b"mine");
        bed.store
            .put("a", body.clone(), PutMode::IfAbsent)
            .await
            .unwrap_or_else(|error| panic!("{action:?}: {error:?}"));
        assert_eq!(bed.server.object(BUCKET, "some/prefix/a").unwrap(), body);

        // The same with somebody else's object in place is a refusal.
        bed.server.put_object(BUCKET, "some/prefix/b", "theirs");
        bed.server
            .faults()
            .inject(Fault::new(action.clone()).on(Op::PutObject).once());
        let error = bed
            .store
            .put("b", body, PutMode::IfAbsent)
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::AlreadyExists { .. }),
            "{action:?}: {error:?}"
        );
    }
}

/// Every answer to the write is lost, so only reading back can tell.
#[tokio::test]
async fn a_write_whose_every_answer_is_lost_is_found_by_reading() {
    let bed = Bed::new().await;
    bed.server
        .faults()
        .inject(Fault::new(Action::DropAfter).on(Op::PutObject));
    bed.store
        .put("a", Bytes::from_static(b"mine"), PutMode::IfAbsent)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_completion_whose_every_answer_is_lost_is_found_by_asking() {
    for action in [
        Action::DropAfter,
        Action::AppliedThenStatus {
            status: 500,
            code: "InternalError",
        },
    ] {
        let bed = Bed::new().await;
        bed.store.probe().await.unwrap();
        bed.server
            .faults()
            .inject(Fault::new(action).on(Op::CompleteMultipartUpload));
        upload(&bed).await.unwrap();
        assert_uploaded(&bed);
    }
}

/// S3 may say 200 and name an error in the body.
#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let bed = Bed::new().await;
    bed.store.probe().await.unwrap();
    let error = Action::OkWithError {
        code: "InternalError",
    };
    bed.server.faults().inject(
        Fault::new(error.clone())
            .on(Op::CompleteMultipartUpload)
            .once(),
    );
    upload(&bed).await.unwrap();
    assert_uploaded(&bed);

    let bed = Bed::new().await;
    bed.store.probe().await.unwrap();
    bed.server
        .faults()
        .inject(Fault::new(error).on(Op::CompleteMultipartUpload));
    assert!(upload(&bed).await.is_err());
    assert!(bed.server.object(BUCKET, FULL_KEY).is_none());
}

#[tokio::test]
async fn a_wrong_etag_is_refused_at_completion() {
    let bed = Bed::new().await;
    bed.store.probe().await.unwrap();
    bed.server
        .faults()
        .inject(Fault::new(Action::WrongEtag).on(Op::UploadPart).nth(2));
    let error = upload(&bed).await.unwrap_err();
    assert!(matches!(error, StoreError::Integrity { .. }), "{error:?}");
    assert!(bed.server.object(BUCKET, FULL_KEY).is_none());
}

#[tokio::test]
async fn bursts_of_slow_down_are_waited_out() {
    let bed = Bed::new().await;
    bed.server
        .faults()
        .inject(Fault::new(Action::slow_down()).first(3));
    bed.store
        .put("a", Bytes::from_static(b"x"), PutMode::Overwrite)
        .await
        .unwrap();
    assert_eq!(bed.store.requests().retries, 3);

    bed.server.faults().inject(Fault::new(Action::slow_down()));
    let error = bed
        .store
        .put("a", Bytes::from_static(b"x"), PutMode::Overwrite)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable { attempts: 4, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn broken_answers_are_read_again_or_refused() {
    let bed = Bed::impatient().await;
    let body = pattern(3, 200_000);
    bed.store
        .put("a", body.clone(), PutMode::Overwrite)
        .await
        .unwrap();
    for action in [
        Action::TruncateBody { keep_bytes: 1000 },
        Action::StallBody { keep_bytes: 1000 },
        Action::DropBefore,
        Action::Hang,
    ] {
        for range in [None, Some(10..150_000)] {
            bed.server
                .faults()
                .inject(Fault::new(action.clone()).on(Op::GetObject).once());
            let read = match range.clone() {
                None => bed.store.get("a", 200_000).await,
                Some(range) => bed.store.get_range("a", range).await,
            };
            let read = read.unwrap_or_else(|error| panic!("{action:?}, {range:?}: {error:?}"));
            assert_eq!(
                read,
                range.map_or(body.clone(), |_| body.slice(10..150_000))
            );
            bed.server.faults().clear();
        }
    }
    // Headers that say that less is all: a range must be exactly what was asked for.
    bed.server
        .faults()
        .inject(Fault::new(Action::ShortenBody { keep_bytes: 1000 }).on(Op::GetObject));
    let error = bed.store.get_range("a", 10..150_000).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Integrity { .. } | StoreError::Unavailable { .. }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_listing_is_whole_or_an_error() {
    let bed = Bed::new().await;
    bed.store
        .put("a", Bytes::from_static(b"x"), PutMode::Overwrite)
        .await
        .unwrap();
    for action in [
        Action::internal_error(),
        Action::DropBefore,
        Action::TruncateBody { keep_bytes: 60 },
        Action::ShortenBody { keep_bytes: 0 },
        Action::ShortenBody { keep_bytes: 100 },
    ] {
        bed.server
            .faults()
            .inject(Fault::new(action.clone()).on(Op::ListObjectsV2));
        let answer = bed.store.list("", None).await;
        assert!(answer.is_err(), "{action:?}: {answer:?}");
        bed.server.faults().clear();
    }
    assert_eq!(bed.store.list("", None).await.unwrap().objects.len(), 1);
}

#[tokio::test]
async fn an_abort_that_is_lost_or_fails_is_repeated() {
    for action in [
        Action::DropBefore,
        Action::DropAfter,
        Action::internal_error(),
    ] {
        let bed = Bed::new().await;
        let upload = bed.store.multipart_create(KEY).await.unwrap();
        send_parts(&bed.store, &upload, &three_parts()).await;
        bed.server
            .faults()
            .inject(Fault::new(action).on(Op::AbortMultipartUpload).once());
        bed.store.multipart_abort(&upload).await.unwrap();
        assert!(bed.server.uploads(BUCKET).is_empty());
    }
}

/// A server that says "aborted" and does nothing is found out.
#[tokio::test]
async fn an_abort_that_does_nothing_is_an_error() {
    let bed = Bed::new().await;
    let upload = bed.store.multipart_create(KEY).await.unwrap();
    let lie = Action::Status {
        status: 404,
        code: "NoSuchUpload",
    };
    bed.server
        .faults()
        .inject(Fault::new(lie).on(Op::AbortMultipartUpload));
    let error = bed.store.multipart_abort(&upload).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
}

/// The server dies in the middle of an upload: an error in bounded time, and a store that works once it is back.
#[tokio::test]
async fn a_server_that_stops_is_an_error_in_bounded_time() {
    let bed = Bed::new().await;
    let upload = bed.store.multipart_create(KEY).await.unwrap();
    bed.store
        .multipart_put(&upload, 1, three_parts()[0].clone())
        .await
        .unwrap();
    bed.server.stop();
    let started = Instant::now();
    let error = bed
        .store
        .multipart_put(&upload, 2, three_parts()[1].clone())
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(15));
    assert!(std::error::Error::source(&error).is_some());

    bed.server.restart().unwrap();
    bed.store
        .multipart_put(&upload, 2, three_parts()[1].clone())
        .await
        .unwrap();
    bed.store.multipart_abort(&upload).await.unwrap();
}

/// A server that takes everything and answers nothing is given up too.
#[tokio::test]
async fn silence_is_an_error_in_bounded_time() {
    let bed = Bed::impatient().await;
    bed.server.faults().inject(Fault::new(Action::Hang));
    let started = Instant::now();
    let error = bed.store.get("a", usize::MAX).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(15));
}
