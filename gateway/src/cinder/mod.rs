//! Cinder's block storage API, as far as backups need it.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    problem::{Form, Problem},
    state::Gateway,
};

/// Cinder's faults.
#[derive(Debug)]
pub(crate) struct Cinder;

impl Form for Cinder {
    fn answer(problem: &Problem) -> Response {
        let code = problem.status.as_u16();
        let fault = match code {
            400 => "badRequest",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "itemNotFound",
            405 => "badMethod",
            409 => "conflictingRequest",
            413 | 429 => "overLimit",
            501 => "notImplemented",
            503 => "serviceUnavailable",
            _ => "computeFault",
        };
        let body = json!({fault: {"code": code, "message": problem.message}});
        (problem.status, Json(body)).into_response()
    }
}

/// Below `/v2/{project_id}` and `/v3/{project_id}`; `MatchedPath` tells which.
pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::default()
}

/// The documents that name the versions, below `/`: `/`, `/v2` and `/v3`. Answered without authentication.
pub(crate) fn versions() -> OpenApiRouter<Gateway> {
    OpenApiRouter::default()
}
