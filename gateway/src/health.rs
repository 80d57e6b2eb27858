//! Whether the gateway can work, for whoever watches over it.

use std::time::Duration;

use axum::{Json, extract::State, response::IntoResponse};
use http::StatusCode;
use serde_json::json;
use stockpot_proto::stockpot::v1::GetInfoRequest;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::state::Gateway;

/// How long the manager may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How it is.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it is only described")]
struct Health {
    /// ok, unavailable.
    status: String,
    /// Only with unavailable.
    reason: Option<String>,
}

/// `/healthz`.
pub(crate) fn routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::default().routes(routes!(health))
}

/// Whether the gateway can work. Needs no authentication.
///
/// 200 when the manager takes operations, else 503. Anybody may ask, so why it does not is for the log alone.
#[utoipa::path(get, path = "/healthz", tag = "health",
    responses((status = 200, description = "The manager takes operations.", body = Health),
        (status = 503, description = "It does not; the log says why.", body = Health)))]
async fn health(State(gateway): State<Gateway>) -> impl IntoResponse {
    let mut manager = gateway.manager.manager();
    let asked = tokio::time::timeout(ANSWER_WITHIN, manager.get_info(GetInfoRequest {})).await;
    let problem = match asked {
        Ok(Ok(info)) => {
            let info = info.into_inner();
            (!info.ready).then(|| {
                tracing::debug!(reason = info.not_ready_reason, "the manager is not ready");
                "the manager is not ready"
            })
        }
        Ok(Err(_)) => Some("the manager does not answer"),
        Err(_) => Some("the manager is slow to answer"),
    };
    match problem {
        None => (StatusCode::OK, Json(json!({"status": "ok"}))),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "unavailable", "reason": reason})),
        ),
    }
}
