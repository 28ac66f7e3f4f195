//! Feeds the matching rules from the database, by index look-ups only.

use std::collections::{BTreeMap, BTreeSet};

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::amount::DecimalAmount;
use cryptopay_domain::ids::{MerchantId, OrderId};
use cryptopay_domain::matching::{self, Candidate, Evidence, MatchSignal, Method, TransferFacts};
use cryptopay_domain::order::Decision;
use cryptopay_domain::reference::find_references;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::transfer::ObservedTransfer;
use cryptopay_entity::{amount_reservation, payment_order, receiving_address};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::error::LedgerError;
use crate::view::{signed, unsigned};

/// Most orders of one price that the evidence names. Any of them makes a transfer ambiguous; more of them are noise.
const MAX_PLAIN_CANDIDATES: u64 = 20;

/// The order that a transfer pays.
pub(crate) struct Matched {
    pub(crate) order: OrderId,
    pub(crate) merchant: MerchantId,
    pub(crate) method: Method,
}

/// A decision about a transfer, with its reasons.
pub(crate) struct Decided {
    pub(crate) order: Option<Matched>,
    /// The order that was paid in the wrong asset, or on the wrong chain.
    pub(crate) wrong_asset: Option<OrderId>,
    pub(crate) evidence: Evidence,
}

impl Decided {
    pub(crate) fn evidence_json(&self) -> Result<String, LedgerError> {
        serde_json::to_string(&self.evidence).map_err(|error| LedgerError::Corrupt(error.to_string()))
    }
}

/// Decides about a transfer that is stored for the first time.
pub(crate) async fn decide(
    txn: &DatabaseTransaction,
    chain: &Chain,
    observed: &ObservedTransfer,
) -> Result<Decided, LedgerError> {
    let signals = signals(txn, chain, observed).await?;
    let orders = orders(txn, signals.iter().map(|(order, _)| *order)).await?;
    let holders = Holders::of(txn, chain, observed.to, orders.values()).await?;
    let candidates: Vec<Candidate> = signals
        .into_iter()
        .filter_map(|(id, signal)| orders.get(&id).map(|order| (order, signal)))
        .filter(|(order, signal)| !signal.is_other_asset() || holders.contain(&chain.slug, order.merchant_id))
        .map(|(order, signal)| candidate(order, signal, &holders))
        .collect();
    let facts = TransferFacts {
        block_number: observed.block.number,
        block_time: observed.block.time,
        only_transfer: observed.sole,
    };
    let decision = matching::decide(&facts, &candidates);
    let order = decision.order.and_then(|(id, method)| {
        orders.get(&id).map(|order| Matched { order: id, merchant: order.merchant_id, method })
    });
    Ok(Decided { order, wrong_asset: decision.wrong_asset, evidence: decision.evidence })
}

/// Every order that the transfer is connected to. A merchant who holds the address on another chain only sees nothing of the
/// transfer, so that its orders are left out where assets or chains differ.
async fn signals(
    txn: &DatabaseTransaction,
    chain: &Chain,
    observed: &ObservedTransfer,
) -> Result<Vec<(OrderId, MatchSignal)>, LedgerError> {
    let mut signals = Vec::new();
    let references = find_references(&observed.input);
    for order in payment_order::Entity::find_by_references(txn, &chain.slug, &references).await? {
        if order.asset == observed.asset && order.receiving_address == observed.to {
            signals.push((order.id, MatchSignal::Reference));
        }
    }
    let Some(decimals) = decimals(txn, chain, observed).await? else { return Ok(signals) };
    let amount = DecimalAmount::new(observed.units, decimals);
    let is_asset = |row: &amount_reservation::Model| row.chain == chain.slug && row.asset == observed.asset;
    for row in amount_reservation::Entity::of_amount(txn, observed.to, &amount).await? {
        let signal = match row.released_at {
            None if is_asset(&row) => MatchSignal::HeldAmount,
            Some(_) if is_asset(&row) => MatchSignal::CoolingAmount,
            None => MatchSignal::OtherAsset { same_chain: row.chain == chain.slug },
            Some(_) => continue,
        };
        signals.push((row.order_id, signal));
    }
    let older = (chain.slug.as_str(), signed(observed.block.number));
    let plain = amount_reservation::Entity::of_plain_amount(txn, observed.to, &amount, older, MAX_PLAIN_CANDIDATES);
    for row in plain.await? {
        let signal = if is_asset(&row) { MatchSignal::PlainAmount } else { MatchSignal::OtherAssetPlain };
        signals.push((row.order_id, signal));
    }
    Ok(signals)
}

/// Decimals of the transferred asset. An asset that has left the registry is still scanned for the orders that ask for it.
async fn decimals(
    txn: &DatabaseTransaction,
    chain: &Chain,
    observed: &ObservedTransfer,
) -> Result<Option<u8>, LedgerError> {
    if let Some(token) = chain.token_of(observed.asset) {
        return Ok(Some(token.decimals));
    }
    let stored = payment_order::Entity::asset_as_ordered(txn, &chain.slug, observed.asset).await?;
    Ok(stored.map(|(_, decimals)| crate::view::decimals(decimals)))
}

async fn orders(
    txn: &DatabaseTransaction,
    ids: impl Iterator<Item = OrderId>,
) -> Result<BTreeMap<OrderId, payment_order::Model>, LedgerError> {
    let ids: BTreeSet<OrderId> = ids.collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found = payment_order::Entity::find().filter(payment_order::Column::Id.is_in(ids)).all(txn).await?;
    Ok(found.into_iter().map(|order| (order.id, order)).collect())
}

fn candidate(order: &payment_order::Model, signal: MatchSignal, holders: &Holders) -> Candidate {
    Candidate {
        order: order.id,
        order_ref: order.order_id.clone(),
        monitor_until: order.monitor_until,
        scanned_height: unsigned(order.scanned_height),
        holds_address: holders.contain(&order.chain, order.merchant_id),
        is_rejected: order.decision == Some(Decision::Reject),
        signal,
    }
}

/// Merchants that hold an address, by chain.
struct Holders(BTreeMap<String, Vec<MerchantId>>);

impl Holders {
    /// Of the chains of `orders`, and of `chain` if there are any.
    async fn of(
        txn: &DatabaseTransaction,
        chain: &Chain,
        address: AccountAddress,
        orders: impl Iterator<Item = &payment_order::Model>,
    ) -> Result<Self, LedgerError> {
        let mut holders = BTreeMap::new();
        let mut chains: BTreeSet<&str> = orders.map(|order| order.chain.as_str()).collect();
        if !chains.is_empty() {
            chains.insert(&chain.slug);
        }
        for chain in chains {
            holders.insert(chain.to_owned(), receiving_address::Entity::holders(txn, chain, address).await?);
        }
        Ok(Self(holders))
    }

    fn contain(&self, chain: &str, merchant: MerchantId) -> bool {
        self.0.get(chain).is_some_and(|holders| holders.contains(&merchant))
    }
}
