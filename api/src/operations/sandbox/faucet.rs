//! Test tokens for an address.

use cryptopay_domain::address::parse_receiving_address;
use cryptopay_domain::amount::Amount;
use cryptopay_sandbox::FaucetError;

use super::{broken, require, simulated};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::operations::payment_orders::{parse_chain, parse_token};

/// Tokens that were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaucetTransfer {
    /// Hash of the transaction.
    pub transaction_hash: String,
    /// Slug of the chain.
    pub blockchain: String,
    /// The faucet's address.
    pub from_address: String,
    /// Who is given something.
    pub to_address: String,
    /// How much, as it was asked for.
    pub amount: String,
    /// Symbol.
    pub currency: String,
}

/// Sends tokens, or a chain's own coin, from the faucet to an address.
///
/// # Errors
/// Every faulty field at once; `INVALID_STATE` for a chain that is not simulated.
pub async fn give(app: &App, mut fields: Fields) -> Result<(FaucetTransfer, String), ApiError> {
    require(app)?;
    let chain = parse_chain(app, &mut fields);
    let token = parse_token(app, chain, &mut fields);
    let amount = fields.text("amount").map(Amount::parse).and_then(|parsed| fields.ok("amount", parsed));
    let units = match (&amount, token) {
        (Some(amount), Some(token)) => fields.ok("amount", amount.to_units(token.decimals)),
        _ => None,
    };
    let to = fields.text("address").map(parse_receiving_address).and_then(|parsed| fields.ok("address", parsed));
    fields.finish()?;
    let (Some(chain), Some(token), Some(amount), Some(units), Some(to)) = (chain, token, amount, units, to) else {
        return Err(fields.faulty());
    };
    let chain = simulated(app, &chain.slug)?;
    let given =
        cryptopay_sandbox::give(app.database(), chain, token, to, units).await.map_err(|error| match error {
            FaucetError::ToItself => ApiError::field("address", error.to_string()),
            FaucetError::AmountNotPositive => ApiError::field("amount", error.to_string()),
            FaucetError::Simulation(error) => broken(error),
        })?;
    app.context.queue.scan(&chain.slug);
    let message = format!(
        "The transfer goes into the next block of {}. To hasten that, POST /api/sandbox/blockchains/{}/mine/. An address of \
         yours sees it like any transfer: as a payment, where it is the exact amount of an order, else as \
         transfer.unmatched.",
        chain.name, chain.slug
    );
    let transfer = FaucetTransfer {
        transaction_hash: given.tx_hash.to_string(),
        blockchain: chain.slug.clone(),
        from_address: given.from.to_string(),
        to_address: to.to_string(),
        amount: amount.as_str().to_owned(),
        currency: token.symbol.clone(),
    };
    Ok((transfer, fields.message(&message)))
}
