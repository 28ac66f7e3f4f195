//! An order and its transfers as the world sees them, made from rows.

use cryptopay_domain::amount::format_units;
use cryptopay_domain::order::{ChainView, OrderSnapshot, TransferSnapshot};
use cryptopay_domain::transfer::confirmations;
use cryptopay_entity::{payment_order, transfer};

/// Decimals as a small number; the registry allows at most 36.
pub fn decimals(stored: i64) -> u8 {
    u8::try_from(stored).unwrap_or(36)
}

/// The order at its stored version. `transfer` is its newest [`payment`] that counts.
pub fn snapshot(order: &payment_order::Model, transfer: Option<TransferSnapshot>) -> OrderSnapshot {
    let decimals = decimals(order.decimals);
    let remaining = order.remainder_units.unwrap_or_else(|| order.pay_units.saturating_sub(order.received_units));
    OrderSnapshot {
        id: order.id,
        order_id: order.order_id.clone(),
        amount: order.amount.clone(),
        currency: order.currency.clone(),
        blockchain: order.chain.clone(),
        status: order.status,
        receiving_address: order.receiving_address,
        order_info: order.order_info.clone(),
        nonce: order.nonce,
        created_at: order.created_at,
        expires_at: order.expires_at,
        confirmations: transfer.as_ref().map_or(0, |transfer| transfer.confirmations),
        transfer,
        pay_amount: format_units(order.pay_units, decimals),
        exact_amount: true,
        amount_received: format_units(order.received_units, decimals),
        amount_remaining: format_units(remaining, decimals),
        fulfillable: order.fulfillable,
        flags: order.flags(),
        late_decision: order.late_decision,
        required_confirmations: order.required(),
        webhook_url: order.webhook_url.clone(),
        redirect_url: order.redirect_url.clone(),
        updated_at: order.updated_at,
        version: order.version,
        confirmed_at: order.confirmed_at,
        failure_reason: order.failure_reason,
    }
}

/// A transfer as a payment of an order, seen from where its chain is verified.
pub fn payment(transfer: &transfer::Model, order: &payment_order::Model, chain: &ChainView) -> TransferSnapshot {
    transfer_snapshot(transfer, &order.currency, decimals(order.decimals), order.required(), chain)
}

/// A transfer of an asset called `currency`, judged by `required` confirmations. They are computed when they are read.
pub fn transfer_snapshot(
    transfer: &transfer::Model,
    currency: &str,
    decimals: u8,
    required: u32,
    chain: &ChainView,
) -> TransferSnapshot {
    let block_number = unsigned(transfer.block_number);
    let confirmations = if transfer.state.is_in_block() { confirmations(block_number, chain.height) } else { 0 };
    TransferSnapshot {
        id: transfer.id,
        transaction_hash: transfer.tx_hash,
        status: transfer.state.status(chain.is_deep(block_number, required)),
        state: transfer.state,
        amount: format_units(transfer.units, decimals),
        currency: currency.to_owned(),
        block_number,
        block_timestamp: transfer.block_time,
        confirmations,
        from_address: transfer.from_address,
        to_address: transfer.to_address,
        created_at: transfer.created_at,
    }
}

/// The newest of transfers, by the chain's own order; ones that are gone come last.
pub fn newest<'a>(transfers: impl IntoIterator<Item = &'a transfer::Model>) -> Option<&'a transfer::Model> {
    transfers
        .into_iter()
        .filter(|transfer| !transfer.state.is_without_effect())
        .max_by_key(|transfer| (transfer.block_number, transfer.log_index, transfer.id))
}

/// A stored number that cannot be negative.
pub(crate) fn unsigned(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A number of the chain as the database stores it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
