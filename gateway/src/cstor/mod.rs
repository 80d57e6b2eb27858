//! The REST of OpenEBS cStor, as its Velero plugin speaks it: backups and restores of volumes.
//!
//! A success is 200, whatever was done; an error is plain text. The two questions carry their JSON in the body of a GET. What the
//! plugin asks for becomes a snapshot, a stream or a backup at the manager, with these words as metadata, and nothing else is kept
//! (but see `unbegun`):
//!
//! | key | what it is |
//! | --- | --- |
//! | `cstor.namespace`, `cstor.volume`, `cstor.snapshot` | which backup it is |
//! | `cstor.schedule` | `backupName`: the schedule, or the backup itself |
//! | `cstor.destination` | `local`, `s3://…` or `host:port` |
//! | `cstor.previous` | `prevSnapName`, found when it was asked for |
//! | `cstor.document` | what was posted, with fields that are not known here |
//! | `cstor.restore` | of a volume: the restore that filled it |

mod backups;
mod destination;
mod documents;
mod quantity;
mod records;
mod restores;
mod unbegun;

use axum::response::{IntoResponse, Response};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use self::unbegun::Unbegun;
use crate::{
    problem::{Form, Problem},
    state::Gateway,
};

/// cStor's errors: plain text.
#[derive(Debug)]
pub(crate) struct Cstor;

impl Form for Cstor {
    fn answer(problem: &Problem) -> Response {
        (problem.status, problem.message.clone()).into_response()
    }
}

type Fault = crate::problem::Fault<Cstor>;
type Body<T> = crate::extract::Json<T, Cstor>;
type Name = crate::extract::Path<String, Cstor>;
type Asked<T> = crate::extract::Query<T, Cstor>;

/// Below `/latest`. A slash at the end of a path means nothing: it is taken away before.
pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::default()
        .routes(routes!(
            backups::create,
            backups::show,
            backups::delete_named
        ))
        .routes(routes!(backups::delete))
        .routes(routes!(restores::create, restores::show))
}
