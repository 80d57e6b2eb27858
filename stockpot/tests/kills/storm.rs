//! What a misbehaving server or network does, drawn at random.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng};
use stockpot_test_fixtures::s3::{Action, Fault, Op};

/// Operations of the verbs.
const OPS: [Op; 10] = [
    Op::GetObject,
    Op::HeadObject,
    Op::PutObject,
    Op::DeleteObject,
    Op::ListObjectsV2,
    Op::ListMultipartUploads,
    Op::CreateMultipartUpload,
    Op::UploadPart,
    Op::CompleteMultipartUpload,
    Op::AbortMultipartUpload,
];

/// One to three faults that strike some of the requests of one operation.
pub(crate) fn draw(random: &mut StdRng) -> Vec<Fault> {
    let count = random.random_range(1..=3);
    (0..count).map(|_| fault(random)).collect()
}

fn fault(random: &mut StdRng) -> Fault {
    let action = action(random);
    let op = match action {
        Action::EmptyListing => Op::ListObjectsV2,
        _ => OPS[random.random_range(0..OPS.len())],
    };
    let fault = Fault::new(action).on(op);
    match random.random_range(0..4) {
        0 => fault.first(random.random_range(1..=3)),
        1 => fault.every(random.random_range(2..=5)),
        _ => fault.nth(random.random_range(1..=6)),
    }
}

fn action(random: &mut StdRng) -> Action {
    let at = random.random_range(0..200_000);
    let after = Duration::from_millis(random.random_range(1..150));
    match random.random_range(0..18) {
        0 => Action::slow_down(),
        1 => Action::internal_error(),
        2 => Action::conditional_conflict(),
        3 => Action::AppliedThenStatus {
            status: 500,
            code: "InternalError",
        },
        4 => Action::AppliedThenStatus {
            status: 409,
            code: "ConditionalRequestConflict",
        },
        5 => Action::OkWithError {
            code: "InternalError",
        },
        6 => Action::DropBefore,
        7 => Action::DropDuring { after_bytes: at },
        8 => Action::DropAfter,
        9 => Action::Delay(after * 5),
        10 => Action::TruncateBody { keep_bytes: at },
        11 => Action::ShortenBody { keep_bytes: at },
        12 => Action::FlipResponse { at: at % 4096 },
        13 => Action::FlipRequest { at: at % 4096 },
        14 => Action::WrongEtag,
        15 => Action::LateDuplicate { after },
        16 => Action::EmptyListing,
        _ => Action::access_denied(),
    }
}
