//! What a merchant decides about an order: take it back, accept or reject what came, assign a transfer to it.

use cryptopay_domain::address::Hash;
use cryptopay_domain::amount::Amount;
use cryptopay_domain::order::Decision;
use cryptopay_domain::transfer::Position;
use cryptopay_entity::{clock, payment_order, transact};
use cryptopay_ledger::{Assignment, LedgerError, Nudges, Occasion, Refusal};
use serde_json::json;

use super::create::CreateError;
use super::{OrderView, audit, find, get, one_view};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::operations::once::{Once, Outcome};
use crate::principal::Principal;

/// Takes an order back.
///
/// # Errors
/// `INVALID_STATE` once money has come.
pub async fn cancel(app: &App, principal: &Principal, id: &str) -> Result<OrderView, ApiError> {
    let order = find(app, principal, id).await?;
    let nudges = transact!(app.database(), |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &app.context.registry, cause: "canceled by the merchant", now };
        let nudges = cryptopay_ledger::cancel(txn, occasion, principal.merchant_id(), order.id).await?;
        audit(txn, principal, "order.cancel", order.order_id.as_str(), json!({}), now).await?;
        Ok::<Nudges, LedgerError>(nudges)
    })?;
    app.context.queue.nudge(nudges);
    get(app, principal, id).await
}

/// Decides about an order that needs a decision.
///
/// # Errors
/// Faulty fields; `INVALID_STATE` when nothing is to be decided.
pub async fn resolve(app: &App, principal: &Principal, id: &str, mut fields: Fields) -> Result<OrderView, ApiError> {
    let order = find(app, principal, id).await?;
    let decision: Option<Decision> = fields.parsed("decision");
    fields.finish()?;
    let decision = decision.ok_or_else(|| fields.faulty())?;
    let note = fields.text("note").unwrap_or_default().to_owned();
    let cause = format!("{decision}ed by the merchant");
    let nudges = transact!(app.database(), |txn| {
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &app.context.registry, cause: &cause, now };
        let nudges = cryptopay_ledger::resolve(txn, occasion, principal.merchant_id(), order.id, decision).await?;
        let details = json!({"decision": decision, "note": note});
        audit(txn, principal, "order.resolve", order.order_id.as_str(), details, now).await?;
        Ok::<Nudges, LedgerError>(nudges)
    })?;
    app.context.queue.nudge(nudges);
    get(app, principal, id).await
}

/// Assigns an unmatched transfer to an order.
///
/// # Errors
/// Faulty fields; `INVALID_STATE`.
pub async fn assign(
    app: &App,
    principal: &Principal,
    id: &str,
    fields: Fields,
    once: Once<OrderView>,
) -> Result<Outcome<OrderView>, ApiError> {
    once.answered(app, assign_anew(app, principal, id, fields, &once)).await
}

async fn assign_anew(
    app: &App,
    principal: &Principal,
    id: &str,
    mut fields: Fields,
    once: &Once<OrderView>,
) -> Result<Outcome<OrderView>, ApiError> {
    let order = find(app, principal, id).await?;
    let tx_hash: Option<Hash> = fields.text("transaction_hash").map(str::to_lowercase).and_then(|text| {
        let parsed = text.parse().map_err(|_| "Enter a transaction hash: 0x and 64 hexadecimal digits.");
        fields.ok("transaction_hash", parsed)
    });
    let position: Option<Position> = fields.parsed("position");
    let units = match fields.text("amount").map(str::to_owned) {
        Some(text) => fields
            .ok("amount", Amount::parse(&text))
            .and_then(|amount| fields.ok("amount", amount.to_units(cryptopay_ledger::decimals(order.decimals)))),
        None => None,
    };
    fields.finish()?;
    let tx_hash = tx_hash.ok_or_else(|| fields.faulty())?;
    let note = fields.text("note").unwrap_or_default().to_owned();
    let evidence = json!({"method": "manual", "by": principal.actor(), "note": note}).to_string();
    let assignment = Assignment { tx_hash, position, units, evidence };
    let (outcome, nudges) = transact!(app.database(), |txn| {
        if let Some(given) = once.begin(app, txn).await? {
            return Ok((given, Nudges::default()));
        }
        let now = clock::business_now(txn).await?;
        let occasion = Occasion { registry: &app.context.registry, cause: "assigned by the merchant", now };
        let merchant = principal.merchant_id();
        let nudges = cryptopay_ledger::assign(txn, occasion, merchant, order.id, assignment.clone()).await?;
        let details = json!({"transaction_hash": tx_hash, "note": note});
        audit(txn, principal, "order.allocate", order.order_id.as_str(), details, now).await?;
        let assigned = payment_order::Entity::find_owned(txn, merchant, order.id).await?;
        let assigned = assigned.ok_or_else(|| LedgerError::from(Refusal::OrderNotFound))?;
        let view = one_view(txn, assigned).await.map_err(CreateError::Faulty)?;
        Ok::<_, CreateError>((once.keep(app, txn, view).await?, nudges))
    })
    .map_err(CreateError::into_answer)?;
    app.context.queue.nudge(nudges);
    Ok(outcome)
}
