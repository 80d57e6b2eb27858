//! The REST of OpenEBS cStor, as its Velero plugin speaks it.

use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;

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

/// Below `/latest`. A slash at the end of a path means nothing: it is taken away before.
pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::default()
}
