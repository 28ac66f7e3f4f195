//! Signing secrets of endpoints: made, shown, and replaced without a delivery that its receiver cannot verify.
//!
//! At most two secrets sign at a time. After a rotation the one before signs as well for 24 hours, so that receivers can
//! be changed one by one. Rotating again within that time leaves the two newest: the oldest stops signing at once, which is
//! how a secret that has leaked is retired without waiting.

use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::webhook::secret_from_entropy;
use cryptopay_entity::{clock, merchant, transact, webhook_endpoint};
use serde_json::json;

use super::{find, not_found};
use crate::app::{App, EndpointSecrets};
use crate::error::ApiError;
use crate::operations::audit::by_principal as audit;
use crate::operations::once::{Once, Outcome};
use crate::operations::stop::Stop;
use crate::principal::Principal;
use crate::security::entropy;

/// How long the secret before signs as well after a rotation, by business time. Source: the webhook contract.
const ROTATION: Duration = Duration::from_secs(24 * 3600);

/// A new signing secret of a merchant: in clear text, and as it is stored.
///
/// # Errors
/// Only if it could not be encrypted.
pub fn new_secret(app: &App, merchant: MerchantId) -> Result<(String, String), ApiError> {
    let secret = secret_from_entropy(entropy::bytes());
    let context = EndpointSecrets::seal_context(merchant);
    let sealed = app.keys.secret_box().seal(context, secret.as_bytes()).map_err(ApiError::internal)?;
    Ok((secret, sealed))
}

/// A secret as it is shown.
#[derive(Debug, Clone)]
pub struct ShownSecret {
    /// In clear text.
    pub secret: String,
    /// Until when the one before signs as well, if it does.
    pub previous_until: Option<Timestamp>,
    /// What a rotation did to the secrets before, in a sentence or two.
    pub message: String,
}

/// An endpoint's current secret. Who looks is written to the audit log.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn secret(app: &App, principal: &Principal, id: &str) -> Result<ShownSecret, ApiError> {
    let endpoint = find(app, principal, id).await?;
    let secret = EndpointSecrets(app.keys.clone()).current(&endpoint).map_err(ApiError::internal)?;
    let now = clock::business_now(app.database()).await?;
    let subject = endpoint.id.to_string();
    audit(app.database(), principal, "webhook_endpoint.show_secret", &subject, json!({}), now).await?;
    let previous_until = endpoint.previous_secret_until.filter(|until| *until > now);
    Ok(ShownSecret { secret, previous_until, message: "Success".to_owned() })
}

/// Gives an endpoint another secret. Written to the audit log.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn rotate_secret(
    app: &App,
    principal: &Principal,
    id: &str,
    once: Once<ShownSecret>,
) -> Result<Outcome<ShownSecret>, ApiError> {
    once.answered(app, rotate_anew(app, principal, id, &once)).await
}

async fn rotate_anew(
    app: &App,
    principal: &Principal,
    id: &str,
    once: &Once<ShownSecret>,
) -> Result<Outcome<ShownSecret>, ApiError> {
    let merchant = principal.merchant_id();
    let found = find(app, principal, id).await?.id;
    let (secret, sealed) = new_secret(app, merchant)?;
    transact!(app.database(), |txn| {
        if let Some(given) = once.begin(app, txn).await? {
            return Ok(given);
        }
        merchant::Entity::lock(txn, merchant).await?;
        let now = clock::business_now(txn).await?;
        let endpoint = webhook_endpoint::Entity::find_owned(txn, merchant, found).await?.ok_or_else(not_found)?;
        let until = now.plus(ROTATION);
        webhook_endpoint::Entity::rotate_secret(txn, &endpoint, sealed.clone(), until, now).await?;
        let was_rotating = endpoint.previous_secret_until.is_some_and(|until| until > now);
        let details = json!({"previous_signs_until": until, "retired_an_older_one": was_rotating});
        audit(txn, principal, "webhook_endpoint.rotate_secret", &endpoint.id.to_string(), details, now).await?;
        let retired = if was_rotating { " The one before that, which still signed too, stopped at once." } else { "" };
        let message = format!("Secret rotated. Until {until} the secret before signs as well.{retired}");
        once.keep(app, txn, ShownSecret { secret: secret.clone(), previous_until: Some(until), message }).await
    })
    .map_err(Stop::into)
}
