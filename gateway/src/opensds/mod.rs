//! The API of OpenSDS (Hotpot): profiles, and block volumes and snapshots that follow them.

use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    problem::{Form, Problem},
    state::Gateway,
};

/// OpenSDS's errors.
#[derive(Debug)]
pub(crate) struct OpenSds;

impl Form for OpenSds {
    fn answer(problem: &Problem) -> Response {
        let body = json!({"code": problem.status.as_u16(), "message": problem.message});
        (problem.status, axum::Json(body)).into_response()
    }
}

/// What its handlers answer when they cannot do it.
pub(crate) type Fault = crate::problem::Fault<OpenSds>;

/// Below `/v1beta/{tenantId}`.
pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::default()
}
