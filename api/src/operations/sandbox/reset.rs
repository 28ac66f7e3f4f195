//! A clean slate for one merchant.

#[cfg(test)]
mod tests;

use cryptopay_entity::{clock, merchant, sandbox_inbox, sandbox_message, transact};
use cryptopay_ledger::{Deleted, LedgerError};
use serde_json::json;

use super::require;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::operations::accounts::{Accounts, FirstEndpoint};
use crate::operations::audit;
use crate::operations::blockchains::is_simulated;
use crate::operations::stop::Stop;
use crate::principal::Principal;

/// What the inbox of a new account answers with.
const ANSWER_STATUS: i64 = 200;

/// Deletes everything that the merchant has but the account with its logins and API keys, as if it had just been made. The
/// inbox and the implicit endpoint stay, with their secrets.
///
/// # Errors
/// `NOT_FOUND` in live mode.
pub async fn reset(app: &App, principal: &Principal, fields: &Fields) -> Result<(Deleted, String), ApiError> {
    require(app)?;
    fields.finish()?;
    let (merchant, accounts) = (principal.merchant_id(), Accounts::from(app));
    let deleted = transact!(app.database(), |txn| {
        merchant::Entity::lock(txn, merchant).await?;
        let (now, database_now) = (clock::business_now(txn).await?, clock::database_now(txn).await?);
        // What is on its way would pay whoever asks for the same amount next.
        let chains = app.context.registry.chains().iter().filter(|chain| is_simulated(app, chain));
        cryptopay_sandbox::forget_payments(txn, chains.map(|chain| chain.slug.as_str()), merchant).await?;
        let first = FirstEndpoint::of(accounts, txn, merchant).await?;
        let kept: Vec<_> = first.iter().filter_map(|endpoint| endpoint.existing).collect();
        let deleted = cryptopay_ledger::reset(txn, merchant, &kept).await.map_err(ledger_stop)?;
        for endpoint in &first {
            endpoint.establish(accounts, txn, merchant, now).await?;
        }
        sandbox_message::Entity::clear(txn, merchant).await?;
        sandbox_inbox::Entity::answer_with(txn, merchant, Some(ANSWER_STATUS), Some(0)).await?;
        merchant::Entity::set_payment_settings(txn, merchant, "{}", database_now).await?;
        let details = json!({"orders": deleted.orders, "wallets": deleted.wallets, "endpoints": deleted.endpoints});
        let subject = &principal.merchant.username;
        audit::by_principal(txn, principal, "sandbox.reset", subject, details, database_now).await?;
        Ok::<_, Stop>(deleted)
    })?;
    let message = "Everything of yours is gone but the account, its logins and its API keys, and nonces are free again. Add a \
                   wallet to begin anew. What is on the chains stays there, and so do other merchants.";
    Ok((deleted, fields.message(message)))
}

fn ledger_stop(error: LedgerError) -> Stop {
    match error {
        LedgerError::Database(error) => Stop::Database(error),
        other => ApiError::internal(other).into(),
    }
}
