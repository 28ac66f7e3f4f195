//! Transfers that fit no order: shown and announced to whoever holds the address, for a person to decide.

use std::collections::BTreeSet;

use cryptopay_domain::amount::format_units;
use cryptopay_domain::event::EventType;
use cryptopay_domain::matching::Evidence;
use cryptopay_domain::registry::Chain;
use cryptopay_entity::{merchant_transfer, payment_order, receiving_address, transfer};
use sea_orm::DatabaseTransaction;
use serde_json::{Map, Value, json};

use crate::error::LedgerError;
use crate::nudges::Nudges;
use crate::outbox::{self, Endpoints, NewEvent, Subject};
use crate::rederive::Occasion;
use crate::view;

/// Tells every holder of the receiving address about transfers that matched nothing.
pub(crate) async fn announce(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    chain: &Chain,
    unmatched: Vec<(transfer::Model, Evidence)>,
) -> Result<Nudges, LedgerError> {
    let mut nudges = Nudges::default();
    for (row, evidence) in unmatched {
        let holders: BTreeSet<_> =
            receiving_address::Entity::holders(txn, &row.chain, row.to_address).await?.into_iter().collect();
        if holders.is_empty() {
            continue;
        }
        merchant_transfer::Entity::show_waiting(txn, &row, holders.clone()).await?;
        let endpoints = Endpoints::of(txn, holders.iter().copied()).await?;
        let snapshot = snapshot(&asset_of(txn, chain, &row).await?, &row, &evidence)?;
        for merchant in holders {
            let event = NewEvent {
                merchant,
                event_type: EventType::TransferUnmatched,
                subject: Subject::Transfer(row.id, &snapshot),
                cause: occasion.cause,
                now: occasion.now,
            };
            outbox::record(txn, &endpoints, event, &mut nudges).await?;
        }
    }
    Ok(nudges)
}

/// Symbol and decimals of a transfer's asset, from its orders where it left the registry.
async fn asset_of(
    txn: &DatabaseTransaction,
    chain: &Chain,
    row: &transfer::Model,
) -> Result<Option<(String, u8)>, LedgerError> {
    if let Some(token) = chain.token_of(row.asset) {
        return Ok(Some((token.symbol.clone(), token.decimals)));
    }
    let ordered = payment_order::Entity::asset_as_ordered(txn, &chain.slug, row.asset).await?;
    Ok(ordered.map(|(symbol, decimals)| (symbol, view::decimals(decimals))))
}

fn snapshot(
    asset: &Option<(String, u8)>,
    row: &transfer::Model,
    evidence: &Evidence,
) -> Result<Map<String, Value>, LedgerError> {
    let value = json!({
        "transaction_hash": row.tx_hash,
        "position": row.position.to_string(),
        "blockchain": row.chain,
        "amount": asset.as_ref().map(|(_, decimals)| format_units(row.units, *decimals)),
        "currency": asset.as_ref().map(|(symbol, _)| symbol.as_str()),
        "block_number": row.block_number,
        "block_timestamp": row.block_time,
        "from_address": row.from_address,
        "to_address": row.to_address,
        "candidates": evidence.candidates,
    });
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(LedgerError::Corrupt("a snapshot is an object".into())),
    }
}
