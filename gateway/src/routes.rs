//! Which API answers which path.

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    cinder::{self, Cinder},
    cstor::{self, Cstor},
    health, openapi,
    opensds::{self, OpenSds},
    problem::{self, Problem},
    state::Gateway,
};

/// All paths, and what describes them.
pub(crate) fn routes() -> (Router<Gateway>, OpenApi) {
    let all = OpenApiRouter::with_openapi(openapi::about())
        .nest("/v1beta/{tenantId}", opensds::routes())
        .nest("/v2/{project_id}", cinder::routes())
        .nest("/v3/{project_id}", cinder::routes())
        .nest("/latest", cstor::routes())
        .merge(cinder::versions())
        .merge(health::routes());
    let (router, description) = all.split_for_parts();
    (router, description)
}

/// One of the APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// OpenStack's.
    Cinder,
    /// OpenEBS's.
    Cstor,
    /// What is no other's, too.
    OpenSds,
}

impl Api {
    /// Whose a path is.
    pub(crate) fn of(path: &str) -> Self {
        match path.split('/').find(|part| !part.is_empty()) {
            Some("v2" | "v3") | None => Self::Cinder,
            Some("latest") => Self::Cstor,
            Some(_) => Self::OpenSds,
        }
    }
}

/// A problem that is met before or after a handler, in the form of the API whose path it is.
pub(crate) fn answer(path: &str, problem: &Problem) -> axum::response::Response {
    match Api::of(path) {
        Api::Cinder => problem::answer::<Cinder>(problem),
        Api::Cstor => problem::answer::<Cstor>(problem),
        Api::OpenSds => problem::answer::<OpenSds>(problem),
    }
}

/// Whether whoever comes may read it: it says nothing of what is stored.
pub(crate) fn is_open(path: &str) -> bool {
    matches!(
        path,
        "/" | "/v2" | "/v3" | "/healthz" | "/openapi.json" | "/docs"
    ) || path.starts_with("/docs/")
}
