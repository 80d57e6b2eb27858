//! The API of OpenSDS (Hotpot, later SODA): profiles, and block volumes and snapshots that follow them.
//!
//! Paths, fields and statuses are OpenSDS's. What is begun is answered 202 and its status tells how it goes. A snapshot with
//! a profile is `available` when its cloud copy is committed, and its metadata says where that lies. A tenant is a label:
//! what is made keeps the one it was made under, and lists show all.

mod listing;
mod profiles;
mod snapshots;
#[cfg(test)]
mod tests;
mod volumes;
mod words;

use axum::response::{IntoResponse, Response};
use serde_json::json;
use utoipa_axum::{router::OpenApiRouter, routes};

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

type Fault = crate::problem::Fault<OpenSds>;
type Body<T> = crate::extract::Json<T, OpenSds>;
type Parts<T> = crate::extract::Path<T, OpenSds>;
type Asked = crate::extract::Query<Vec<(String, String)>, OpenSds>;
type Answer = Result<Response, Fault>;

/// Below `/v1beta/{tenantId}`.
pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::default()
        .routes(routes!(profiles::create_profile, profiles::list_profiles))
        .routes(routes!(
            profiles::get_profile,
            profiles::update_profile,
            profiles::delete_profile
        ))
        .routes(routes!(volumes::create_volume, volumes::list_volumes))
        .routes(routes!(
            volumes::get_volume,
            volumes::update_volume,
            volumes::delete_volume
        ))
        .routes(routes!(volumes::resize_volume))
        .routes(routes!(
            snapshots::create_snapshot,
            snapshots::list_snapshots
        ))
        .routes(routes!(
            snapshots::get_snapshot,
            snapshots::update_snapshot,
            snapshots::delete_snapshot
        ))
}
