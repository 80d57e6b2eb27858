//! Cinder's block storage API, as far as backups need it.
//!
//! Facts from the public API reference (docs.openstack.org/api-ref/block-storage/v3), its version 2 for `/v2`, and from what
//! python-cinderclient asks for. Where the two systems differ, docs/gateway.md says what is done.
//!
//! - [`version`] microversions, the documents that name them, and the headers of every answer.
//! - [`asked`] what every call says beside its body: project, version, where links lead.
//! - [`words`] what Cinder keeps and the manager has no place for: it stands in the metadata, under keys of its own.
//! - [`fields`] values as requests write them and answers want them; [`page`] lists.
//! - [`ids`] the manager's ids as UUIDs, by which clients look.
//! - `backups`, `volumes`, `snapshots`: the calls, and how each thing is shown.
//!
//! Nothing is kept here. A name need not be unique in Cinder, so it is a word, and the manager's name is made up.

mod asked;
mod backups;
mod fields;
mod ids;
mod listed;
mod page;
mod snapshots;
mod version;
mod volumes;
mod words;

use axum::{
    Extension, Json,
    middleware::from_fn,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Value, json};
use tonic::{Code, Status};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    audit::Touched,
    problem::{Form, Problem},
    state::Gateway,
};

/// Cinder's faults.
#[derive(Debug)]
pub(crate) struct Cinder;

/// What the handlers answer when they cannot do it.
type Fault = crate::problem::Fault<Cinder>;
/// A body in JSON.
type Body<T> = crate::extract::Json<T, Cinder>;
/// The query, pair by pair.
type Pairs = crate::extract::Query<Vec<(String, String)>, Cinder>;
/// The answer of a call that made something; the audit log names it.
type Made = (StatusCode, Extension<Touched>, Json<Value>);

fn made(status: StatusCode, id: String, body: Value) -> Made {
    (status, Extension(Touched(id)), Json(body))
}

impl Form for Cinder {
    fn answer(problem: &Problem) -> Response {
        let status = status_of(problem);
        let fault = match status.as_u16() {
            400 => "badRequest",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "itemNotFound",
            405 => "badMethod",
            409 => "conflictingRequest",
            413 | 429 => "overLimit",
            415 => "badMediaType",
            501 => "notImplemented",
            503 => "serviceUnavailable",
            _ => "computeFault",
        };
        let body = json!({fault: {"code": status.as_u16(), "message": problem.message}});
        (status, Json(body)).into_response()
    }
}

/// Where Cinder has another status for an error of the manager than other APIs.
fn status_of(problem: &Problem) -> StatusCode {
    match problem.code {
        // Cinder's InvalidVolume, InvalidBackup, InvalidSnapshot.
        Some(Code::FailedPrecondition) => StatusCode::BAD_REQUEST,
        // Its VolumeSizeExceedsAvailableQuota.
        Some(Code::ResourceExhausted) => StatusCode::PAYLOAD_TOO_LARGE,
        // It is the bucket that refuses the manager, and not the manager the caller.
        Some(Code::PermissionDenied | Code::Unauthenticated) => StatusCode::SERVICE_UNAVAILABLE,
        _ => problem.status,
    }
}

/// A request that cannot be carried out because of what `kind` is now, in Cinder's words.
fn invalid(kind: &str, why: impl std::fmt::Display) -> Fault {
    Problem::bad_request(format!("Invalid {kind}: {why}")).into()
}

/// A request that says something that cannot be meant.
fn bad_input(why: impl std::fmt::Display) -> Fault {
    Problem::bad_request(format!("Invalid input received: {why}")).into()
}

fn not_found(kind: &str, id: &str) -> Fault {
    let message = format!("{kind} {id} could not be found.");
    Problem::new(StatusCode::NOT_FOUND, message).into()
}

/// What the manager refused, with the kind of thing that stands in the way.
fn refused(kind: &'static str) -> impl Fn(Status) -> Fault {
    move |status| {
        let is_state = status.code() == Code::FailedPrecondition;
        let mut problem = Problem::from(status);
        if is_state {
            problem.message = format!("Invalid {kind}: {}", problem.message);
        }
        problem.into()
    }
}

/// Below `/v2/{project_id}` and `/v3/{project_id}`; `MatchedPath` tells which.
pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    let all = OpenApiRouter::default()
        .routes(routes!(backups::list::list, backups::create::create))
        .routes(routes!(backups::list::detail))
        .routes(routes!(backups::record::import_record))
        .routes(routes!(
            backups::list::show,
            backups::change::update,
            backups::change::delete
        ))
        .routes(routes!(backups::change::action))
        .routes(routes!(backups::restore::restore))
        .routes(routes!(backups::record::export_record))
        .routes(routes!(volumes::list::list, volumes::create::create))
        .routes(routes!(volumes::list::detail))
        .routes(routes!(volumes::list::show, volumes::change::delete))
        .routes(routes!(volumes::change::action))
        .routes(routes!(snapshots::list::list, snapshots::change::create))
        .routes(routes!(snapshots::list::detail))
        .routes(routes!(snapshots::list::show, snapshots::change::delete))
        .routes(routes!(snapshots::change::action));
    let (router, description) = all.split_for_parts();
    let router = router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn(version::stamp));
    let mut all = OpenApiRouter::from(router);
    *all.get_openapi_mut() = description;
    all
}

/// The documents that name the versions, below `/`: `/`, `/v2` and `/v3`. Answered without authentication.
pub(crate) fn versions() -> OpenApiRouter<Gateway> {
    OpenApiRouter::default()
        .routes(routes!(version::all))
        .routes(routes!(version::second))
        .routes(routes!(version::third))
}

async fn no_such_path() -> Fault {
    Problem::new(
        StatusCode::NOT_FOUND,
        "The resource could not be found: this API has backups, volumes and snapshots.",
    )
    .into()
}

async fn no_such_method() -> Fault {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "The method is not allowed for this resource.",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cinder_has_its_own_status_for_some_errors() {
        for (code, status) in [
            (Code::FailedPrecondition, 400),
            (Code::InvalidArgument, 400),
            (Code::OutOfRange, 400),
            (Code::NotFound, 404),
            (Code::AlreadyExists, 409),
            (Code::Aborted, 409),
            (Code::ResourceExhausted, 413),
            (Code::Unimplemented, 501),
            (Code::Unavailable, 503),
            (Code::PermissionDenied, 503),
            (Code::Unauthenticated, 503),
            (Code::Internal, 500),
        ] {
            let problem = Problem::from(Status::new(code, "why"));
            assert_eq!(Cinder::answer(&problem).status(), status, "{code:?}");
        }
        let problem = refused("volume")(Status::failed_precondition("it is attached")).0;
        assert_eq!(problem.message, "Invalid volume: it is attached");
        let problem = refused("volume")(Status::not_found("it does not exist")).0;
        assert_eq!(problem.message, "it does not exist");
    }
}
