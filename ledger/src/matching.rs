//! Feeds the matching rules with what the database knows, by index look-ups only.

use std::collections::BTreeMap;

use cryptopay_domain::ids::{MerchantId, OrderId};
use cryptopay_domain::matching::{self, Candidate, Clue, Evidence, Method, TransferClues};
use cryptopay_domain::reference::find_references;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::transfer::ObservedTransfer;
use cryptopay_entity::amount_reservation::Place;
use cryptopay_entity::{amount_reservation, payment_order, receiving_address};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::error::LedgerError;
use crate::view::unsigned;

/// The order that a transfer pays.
pub(crate) struct Matched {
    pub(crate) order: OrderId,
    pub(crate) merchant: MerchantId,
    pub(crate) method: Method,
}

/// A decision about a transfer, with its reasons.
pub(crate) struct Decided {
    pub(crate) order: Option<Matched>,
    pub(crate) evidence: Evidence,
}

impl Decided {
    pub(crate) fn evidence_json(&self) -> Result<String, LedgerError> {
        serde_json::to_string(&self.evidence).map_err(|error| LedgerError::Corrupt(error.to_string()))
    }
}

/// Decides about a transfer that is seen for the first time.
pub(crate) async fn decide(
    txn: &DatabaseTransaction,
    chain: &Chain,
    observed: &ObservedTransfer,
) -> Result<Decided, LedgerError> {
    let mut orders: BTreeMap<OrderId, payment_order::Model> = BTreeMap::new();
    let mut clues = Vec::new();
    let references = find_references(&observed.input);
    for order in payment_order::Entity::find_by_references(txn, &chain.slug, &references).await? {
        if order.asset == observed.asset && order.receiving_address == observed.to {
            clues.push((order.id, Clue::Reference));
            orders.insert(order.id, order);
        }
    }
    let place = Place { chain: &chain.slug, asset: observed.asset, address: observed.to };
    let reserved = amount_reservation::Entity::taken(txn, place, [observed.units], observed.block.time).await?;
    let others: Vec<OrderId> = reserved.iter().map(|row| row.order_id).filter(|id| !orders.contains_key(id)).collect();
    if !others.is_empty() {
        let found = payment_order::Entity::find().filter(payment_order::Column::Id.is_in(others)).all(txn).await?;
        orders.extend(found.into_iter().map(|order| (order.id, order)));
    }
    for row in &reserved {
        let clue = if row.released_at.is_none() { Clue::HeldAmount } else { Clue::CoolingAmount };
        clues.push((row.order_id, clue));
    }
    let holders = if orders.is_empty() {
        Vec::new()
    } else {
        receiving_address::Entity::holders(txn, &chain.slug, observed.to).await?
    };
    let candidates: Vec<Candidate> = clues
        .into_iter()
        .filter_map(|(id, clue)| {
            let order = orders.get(&id)?;
            Some(Candidate {
                order: id,
                order_ref: order.order_id.clone(),
                created_at: order.created_at,
                monitor_until: order.monitor_until,
                scanned_height: unsigned(order.scanned_height),
                scanned_time: order.scanned_time,
                holds_address: holders.contains(&order.merchant_id),
                clue,
            })
        })
        .collect();
    let shown =
        TransferClues { block_number: observed.block.number, block_time: observed.block.time, sole: observed.sole };
    let decision = matching::decide(&shown, &candidates);
    let order = decision.order.and_then(|(id, method)| {
        orders.get(&id).map(|order| Matched { order: id, merchant: order.merchant_id, method })
    });
    Ok(Decided { order, evidence: decision.evidence })
}
