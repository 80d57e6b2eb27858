//! Whether the gateway can work, for whoever watches over it.

use std::time::Duration;

use axum::{Json, Router, extract::State, response::IntoResponse, routing::get};
use http::StatusCode;
use serde_json::json;
use stockpot_proto::stockpot::v1::GetInfoRequest;

use crate::state::Gateway;

/// How long the manager may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// `/healthz`.
pub(crate) fn routes() -> Router<Gateway> {
    Router::new().route("/healthz", get(health))
}

/// 200 when the manager takes operations, else 503. Anybody may ask, so why it does not is for the log alone.
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
