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

/// 200 when the manager takes operations, else 503 and the reason.
async fn health(State(gateway): State<Gateway>) -> impl IntoResponse {
    let mut manager = gateway.manager.manager();
    let asked = tokio::time::timeout(ANSWER_WITHIN, manager.get_info(GetInfoRequest {})).await;
    let problem = match asked {
        Ok(Ok(info)) => {
            let info = info.into_inner();
            (!info.ready).then_some(info.not_ready_reason)
        }
        Ok(Err(_)) => Some("the manager does not answer".to_owned()),
        Err(_) => Some("the manager is slow to answer".to_owned()),
    };
    match problem {
        None => (StatusCode::OK, Json(json!({"status": "ok"}))),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "unavailable", "reason": reason})),
        ),
    }
}
