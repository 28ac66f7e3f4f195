//! Transfers that fit no order: shown and announced to whoever holds the address, for a person to decide.

use std::collections::BTreeSet;

use cryptopay_domain::amount::format_units;
use cryptopay_domain::event::EventType;
use cryptopay_domain::matching::Evidence;
use cryptopay_domain::registry::Chain;
use cryptopay_entity::{merchant_transfer, receiving_address, transfer};
use sea_orm::DatabaseTransaction;
use serde_json::{Map, Value, json};

use crate::error::LedgerError;
use crate::nudges::Nudges;
use crate::outbox::{self, Endpoints, NewEvent, Subject};
use crate::rederive::Occasion;

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
        let snapshot = snapshot(chain, &row, &evidence)?;
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

fn snapshot(chain: &Chain, row: &transfer::Model, evidence: &Evidence) -> Result<Map<String, Value>, LedgerError> {
    let token = chain.token_of(row.asset);
    let value = json!({
        "transaction_hash": row.tx_hash,
        "position": row.position.to_string(),
        "blockchain": row.chain,
        "amount": token.map(|token| format_units(row.units, token.decimals)),
        "currency": token.map(|token| token.symbol.as_str()),
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
