//! "I have paid": a customer names a transaction, and is told what is seen of it. A hint, nothing more: it credits nothing
//! and changes nothing.
//!
//! Only transfers to the order's own address are looked at, so whoever asks learns nothing that the chain and this order's
//! page do not tell. Of a payment for another order it is said that it is one, and not for which.

#[cfg(test)]
mod tests;

use cryptopay_domain::address::Hash;
use cryptopay_domain::order::TransferSnapshot;
use cryptopay_domain::transfer::TransferState;
use cryptopay_entity::{allocation, transfer};

use super::payment_page::{self, Checkout};
use super::{blockchains, transactions};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;

/// Transfers of one transaction to one address that are looked at. A payer's transaction holds one, a batch a few.
const MOST_TRANSFERS: u64 = 100;
/// Blocks that may be unread before a chain is said to be behind.
const BEARABLE_BLOCKS: u64 = 20;

/// What a payment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pays {
    /// Another order at the same address.
    AnotherOrder,
    /// No order: the shop has to look at it.
    Nobody,
    /// The order that is asked about.
    ThisOrder,
}

impl Pays {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnotherOrder => "another_order",
            Self::Nobody => "nobody",
            Self::ThisOrder => "this_order",
        }
    }
}

/// What is seen of a transaction that a customer has named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Hash of the transaction.
    pub transaction_hash: Hash,
    /// The payment to the order's address, unless none is known.
    pub seen: Option<(TransferSnapshot, Pays)>,
    /// Confirmations at which the order counts as paid.
    pub required_confirmations: u32,
    /// Whether this gateway has not read the chain's newest blocks, so that the transaction may be there already.
    pub chain_behind: bool,
    /// Slug of the chain.
    pub blockchain: String,
}

impl Claim {
    /// What it means, in a sentence or two.
    pub fn words(&self) -> &'static str {
        match &self.seen {
            None if self.chain_behind => {
                "This payment is not known yet. The gateway has not read the newest blocks of the network: look again later."
            }
            None => {
                "This payment is not known yet. It is seen as soon as it is in a block. Check the transaction hash and the \
                 network."
            }
            Some((transfer, Pays::ThisOrder)) if is_gone(transfer.state) => {
                "This payment has not gone through: it is not on the network any more."
            }
            Some((_, Pays::ThisOrder)) => "This payment is known and counted for this order.",
            Some((_, Pays::AnotherOrder)) => "This payment is known; it is for another order.",
            Some((_, Pays::Nobody)) => "This payment is known, and it fits no order by itself. Please ask the shop.",
        }
    }
}

/// What is seen of the transaction that a request names, with regard to an order.
///
/// # Errors
/// `NOT_FOUND`; faulty fields, a signature among them: signed claims are not available yet.
pub async fn look(app: &App, order_id: &str, mut fields: Fields) -> Result<Claim, ApiError> {
    let checkout = payment_page::find(app, order_id).await?;
    let hash = fields.trimmed("transaction_hash").map(str::to_lowercase);
    let hash: Option<Hash> = hash.and_then(|text| {
        let parsed = text.parse().map_err(|_| "Enter a transaction hash: 0x and 64 hexadecimal digits.");
        fields.ok("transaction_hash", parsed)
    });
    if fields.value("signature").is_some() {
        fields.fault("signature", "Signed claims are not available yet. Send the transaction hash alone.");
    }
    fields.finish()?;
    let hash = hash.ok_or_else(|| fields.faulty())?;
    let order = &checkout.order;
    Ok(Claim {
        transaction_hash: hash,
        seen: seen(app, &checkout, hash).await?,
        required_confirmations: order.required(),
        chain_behind: is_behind(app, &order.chain).await?,
        blockchain: order.chain.clone(),
    })
}

/// The payment in a transaction that says most about an order: one for it, else one for nobody, else one for another.
async fn seen(app: &App, checkout: &Checkout, hash: Hash) -> Result<Option<(TransferSnapshot, Pays)>, ApiError> {
    let order = &checkout.order;
    let (chain, to) = (order.chain.as_str(), order.receiving_address);
    let transfers = transfer::Entity::to_address_with_hash(app.database(), chain, hash, to, MOST_TRANSFERS).await?;
    if transfers.is_empty() {
        return Ok(None);
    }
    let ids: Vec<_> = transfers.iter().map(|transfer| transfer.id).collect();
    let shares = allocation::Entity::of_transfers(app.database(), ids).await?;
    let pays = |row: &transfer::Model| {
        let mut of_row = shares.iter().filter(|share| share.transfer_id == row.id && share.reversed_at.is_none());
        match (of_row.clone().any(|share| share.order_id == order.id), of_row.next()) {
            (true, _) => Pays::ThisOrder,
            (false, Some(_)) => Pays::AnotherOrder,
            (false, None) => Pays::Nobody,
        }
    };
    let best = transfers.iter().max_by_key(|row| (pays(row), !is_gone(row.state), row.id));
    let view = checkout.verified(app.database()).await?;
    let Some(row) = best else { return Ok(None) };
    let (currency, decimals) = transactions::currency_of(app, row).await?;
    Ok(Some((cryptopay_ledger::transfer_snapshot(row, &currency, decimals, order.required(), &view), pays(row))))
}

fn is_gone(state: TransferState) -> bool {
    state.is_without_effect()
}

/// Whether the newest blocks of a chain have not been read. A chain on which none comes is not behind.
async fn is_behind(app: &App, chain: &str) -> Result<bool, ApiError> {
    if app.chain(chain).is_none() {
        return Ok(true);
    }
    let state = blockchains::get(app, chain).await?;
    Ok(!matches!(state.health(), "ok" | "stalled") || state.lag().is_none_or(|lag| lag > BEARABLE_BLOCKS))
}
