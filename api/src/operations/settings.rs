//! Payment settings: what new orders of a merchant take over.

#[cfg(test)]
mod tests;

use cryptopay_domain::order::LatePolicy;
use cryptopay_domain::settings::{MAX_EXPIRY, MIN_EXPIRY, PaymentSettings};
use cryptopay_entity::{clock, merchant, transact};
use serde_json::{Value, json};

use super::payment_orders::audit;
use super::stop::Stop;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::principal::Principal;

/// The word for a late policy that goes by the asset's kind.
pub const BY_KIND: &str = "default";
/// Most chains that one request may name.
const MAX_CHAINS: usize = 100;

/// What a merchant has set.
///
/// # Errors
/// Only if what is stored cannot be read.
pub fn of(merchant: &merchant::Model) -> Result<PaymentSettings, ApiError> {
    serde_json::from_str(&merchant.payment_settings)
        .map_err(|error| ApiError::internal(format!("payment settings of merchant {}: {error}", merchant.id)))
}

/// Changes what is sent and keeps the rest.
///
/// # Errors
/// Every faulty field at once.
pub async fn update(app: &App, principal: &Principal, fields: Fields) -> Result<(PaymentSettings, String), ApiError> {
    let mut fields = fields;
    // Judged once for its faults, and applied to what is stored under the lock.
    apply(app, &mut fields, &mut PaymentSettings::default());
    refuse_tolerance(&mut fields);
    fields.finish()?;
    let settings = transact!(app.database(), |txn| {
        let row = merchant::Entity::lock(txn, principal.merchant_id()).await?;
        let row = row.ok_or_else(|| ApiError::internal("a merchant without an account"))?;
        let now = clock::business_now(txn).await?;
        let mut settings = of(&row)?;
        apply(app, &mut fields.clone(), &mut settings);
        let stored = serde_json::to_string(&settings).map_err(ApiError::internal)?;
        merchant::Entity::set_payment_settings(txn, row.id, &stored, now).await?;
        audit(txn, principal, "settings.change", "payments", json!(settings), now).await?;
        Ok::<_, Stop>(settings)
    })?;
    Ok((settings, fields.message("Payment settings changed. They hold for new orders.")))
}

fn apply(app: &App, fields: &mut Fields, settings: &mut PaymentSettings) {
    if let Some(word) = fields.text("late_policy").map(str::to_owned) {
        if word == BY_KIND {
            settings.late_policy = None;
        } else {
            settings.late_policy = fields.ok("late_policy", word.parse::<LatePolicy>()).or(settings.late_policy);
        }
    }
    apply_confirmations(app, fields, settings);
    if let Some(seconds) = fields.integer("default_expiry_seconds") {
        let bounds = MIN_EXPIRY.as_secs()..=MAX_EXPIRY.as_secs();
        match u32::try_from(seconds).ok().filter(|seconds| bounds.contains(&u64::from(*seconds))) {
            Some(seconds) => settings.default_expiry_seconds = Some(seconds),
            None => fields.fault("default_expiry_seconds", "Must be between 60 (1 minute) and 2592000 (30 days)."),
        }
    }
}

fn apply_confirmations(app: &App, fields: &mut Fields, settings: &mut PaymentSettings) {
    let Some(wanted) = fields.value("confirmations").and_then(Value::as_object).cloned() else { return };
    if wanted.len() > MAX_CHAINS {
        fields.fault("confirmations", "Must name at most 100 blockchains.");
        return;
    }
    for (slug, depth) in wanted {
        let name = format!("confirmations.{}", slug.chars().take(64).collect::<String>());
        let Some(chain) = app.chain(&slug) else {
            fields.fault(&name, app.unknown_chain());
            continue;
        };
        if !depth.is_null() && depth.as_i64().is_none() {
            fields.fault(&name, "Send a whole number, such as 12, or null for the blockchain's own.");
            continue;
        }
        let set = settings.set_confirmations(chain, depth.as_i64());
        fields.ok(&name, set);
    }
}

/// Amounts that are not exact do not count by themselves yet; what says so may be sent back.
fn refuse_tolerance(fields: &mut Fields) {
    const LATER: &str = "Not available yet: only 0. Amounts that are off wait for your decision.";
    if fields.integer("tolerance_bps").is_some_and(|bps| bps != 0) {
        fields.fault("tolerance_bps", LATER);
    }
    let is_zero = |text: &str| text.contains('0') && text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if fields.trimmed("tolerance_max").is_some_and(|most| !is_zero(most)) {
        fields.fault("tolerance_max", LATER);
    }
}
