//! Whether this process lives, and whether it can do its work.

use cryptopay_entity::chain_cursor;
use poem::http::StatusCode;
use poem::web::{Data, Json};
use poem::{IntoResponse, Response, handler};
use sea_orm::EntityTrait;
use serde_json::json;

use crate::app::App;
use crate::readiness::Readiness;

/// The process answers.
#[handler]
pub(super) fn healthz() -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
}

/// The process can do its work: 200, or 503 with the reasons. Chains that lag are named, never a 503.
#[handler]
pub(super) async fn readyz(app: Data<&App>, readiness: Data<&Readiness>) -> Response {
    let mut reasons = Vec::new();
    let mut chains = Vec::new();
    if let Some(reason) = readiness.not_migrated() {
        // Start-up has said why in the log; the tables may not be there yet.
        reasons.push(reason);
    } else {
        match chain_cursor::Entity::find().all(app.database()).await {
            Ok(cursors) => {
                for cursor in cursors.iter().filter(|cursor| cursor.health != "ok") {
                    chains
                        .push(json!({"blockchain": cursor.chain, "health": cursor.health, "problem": cursor.problem}));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the database is away");
                reasons.push("the database is away".to_owned());
            }
        }
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": if reasons.is_empty() { "ready" } else { "not ready" },
        "reasons": reasons,
        "chains": chains,
    });
    Json(body).with_status(status).into_response()
}
