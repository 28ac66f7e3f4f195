//! Whether this process lives, and whether it can do its work.

use poem::http::StatusCode;
use poem::web::{Data, Json};
use poem::{IntoResponse, Response, handler};
use serde_json::json;

use crate::app::App;
use crate::readiness::Readiness;

/// The process answers.
#[handler]
pub(super) fn healthz() -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
}

/// The process can do its role's work: 200, or 503 with the reasons.
#[handler]
pub(super) async fn readyz(app: Data<&App>, readiness: Data<&Readiness>) -> Response {
    let report = readiness.report(&app).await;
    let is_ready = report.reasons.is_empty();
    let body = json!({
        "status": if is_ready { "ready" } else { "not ready" },
        "role": app.config.role.as_str(),
        "reasons": report.reasons,
        "degraded": report.degraded,
        "chains": report.chains,
    });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Json(body).with_status(status).into_response()
}
