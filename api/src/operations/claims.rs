//! "I have paid": a customer names a transaction, and is told what is seen of it. A hint, nothing more: it credits nothing
//! and changes nothing.
//!
//! Only transfers to the order's own address are looked at, so whoever asks learns nothing that the chain and this order's
//! page do not tell. Of a payment for another order it is said that it is one, and not for which.
//!
//! Every served chain is looked at, because a payment on the wrong network is a common mistake. Only transfers that the
//! gateway has recorded are found: a chain on which the merchant has no wallet with this address is not read.

#[cfg(test)]
mod tests;

use cryptopay_domain::address::Hash;
use cryptopay_domain::ids::OrderRef;
use cryptopay_domain::order::{ChainView, TransferSnapshot};
use cryptopay_domain::transfer::TransferState;
use cryptopay_entity::{allocation, chain_cursor, transfer};

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
    /// Slug of the chain on which it was seen; that of the order while it is not known.
    pub blockchain: String,
    /// Name of the chain on which it was seen.
    pub network: Option<String>,
    /// Chain and currency of the payment that the order waits for.
    expected: Expected,
}

/// The payment that an order waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    order_id: OrderRef,
    network: String,
    blockchain: String,
    currency: String,
}

/// A recorded transfer and the chain on which it was seen.
#[derive(Debug, Clone)]
struct Sighting {
    transfer: TransferSnapshot,
    pays: Pays,
    blockchain: String,
    network: String,
    required_confirmations: u32,
}

impl Claim {
    /// The meaning for the customer, in a few sentences.
    pub fn words(&self) -> String {
        let Expected { order_id, network: expected, .. } = &self.expected;
        let network = self.network.as_deref().unwrap_or(expected);
        match &self.seen {
            None if self.chain_behind => format!(
                "This payment is not known yet. The gateway has not read the newest blocks of {expected}: look again later."
            ),
            None => format!(
                "This payment is not known yet. It is seen as soon as it is in a block. Check the transaction hash. This \
                 order is paid on {expected}: a payment on a network that the shop does not watch cannot be seen here."
            ),
            Some((transfer, Pays::ThisOrder | Pays::Nobody)) if is_gone(transfer.state) => {
                format!("This payment has not gone through: it is not on {network} any more.")
            }
            Some((_, Pays::ThisOrder)) => format!("This payment was seen on {network} and is counted for this order."),
            Some((_, Pays::AnotherOrder)) => format!("This payment was seen on {network}; it is for another order."),
            Some((transfer, Pays::Nobody)) => format!(
                "A payment of {} {} was seen on {network}. {} It is not credited by itself. The shop sees it in its list of \
                 unmatched payments: ask the shop, and name the order {order_id}.",
                transfer.amount,
                transfer.currency,
                self.difference(transfer),
            ),
        }
    }

    /// The reason why a payment does not pay the order, as far as it shows.
    fn difference(&self, transfer: &TransferSnapshot) -> String {
        let Expected { network, blockchain, currency, .. } = &self.expected;
        if self.blockchain != *blockchain {
            format!("This order is paid in {currency} on {network}.")
        } else if transfer.currency != *currency {
            format!("This order is paid in {currency}.")
        } else {
            "It fits no order.".to_owned()
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
    let chain_behind = is_behind(app, &order.chain).await?;
    let expected = Expected {
        order_id: order.order_id.clone(),
        network: checkout.network().to_owned(),
        blockchain: order.chain.clone(),
        currency: order.currency.clone(),
    };
    Ok(match seen(app, &checkout, hash).await? {
        Some(seen) => Claim {
            transaction_hash: hash,
            seen: Some((seen.transfer, seen.pays)),
            required_confirmations: seen.required_confirmations,
            chain_behind,
            blockchain: seen.blockchain,
            network: Some(seen.network),
            expected,
        },
        None => Claim {
            transaction_hash: hash,
            seen: None,
            required_confirmations: order.required(),
            chain_behind,
            blockchain: order.chain.clone(),
            network: None,
            expected,
        },
    })
}

/// The payment in a transaction that says most about an order: one for this order, else one for no order, else one for
/// another order. One hash can exist on several chains.
async fn seen(app: &App, checkout: &Checkout, hash: Hash) -> Result<Option<Sighting>, ApiError> {
    let order = &checkout.order;
    let served = app.context.registry.chains().iter().map(|chain| chain.slug.as_str());
    let mut chains: Vec<&str> = served.collect();
    if !chains.contains(&order.chain.as_str()) {
        chains.push(&order.chain);
    }
    let to = order.receiving_address;
    let transfers = transfer::Entity::to_address_with_hash(app.database(), &chains, hash, to, MOST_TRANSFERS).await?;
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
    let Some(best) = transfers.iter().max_by_key(|row| (pays(row), !is_gone(row.state), row.id)) else {
        return Ok(None);
    };
    let cursor = chain_cursor::Entity::of(app.database(), &best.chain).await?;
    let view = cursor.map_or_else(ChainView::default, |cursor| cursor.view());
    let chain = app.chain(&best.chain);
    let is_elsewhere = best.chain != order.chain;
    let required = chain.filter(|_| is_elsewhere).map_or_else(|| order.required(), |chain| chain.confirmations);
    let (currency, decimals) = transactions::currency_of(app, best).await?;
    Ok(Some(Sighting {
        transfer: cryptopay_ledger::transfer_snapshot(best, &currency, decimals, required, &view),
        pays: pays(best),
        blockchain: best.chain.clone(),
        network: chain.map_or_else(|| best.chain.clone(), |chain| chain.name.clone()),
        required_confirmations: required,
    }))
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
