//! What the public payment page of an order shows: whoever knows the order's public id may see it. Never order_info, the
//! merchant's e-mail address, webhooks or other orders.

#[cfg(test)]
mod tests;

use cryptopay_domain::amount::{Amount, format_units};
use cryptopay_domain::ids::{OrderId, OrderRef};
use cryptopay_domain::order::{ChainView, OrderFlag, OrderSnapshot, OrderStatus, TransferSnapshot};
use cryptopay_domain::transfer::confirmations;
use cryptopay_domain::units::Units;
use cryptopay_entity::{chain_cursor, event, merchant, payment_order};
use sea_orm::{ConnectionTrait, EntityTrait};

use super::blockchains::is_simulated;
use super::{payment_orders, sandbox};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::page::PageView;

/// Events of one order that are read at once: more than an order ever has.
const EVENTS_AT_ONCE: u64 = 200;

/// An order with everything that does not change while somebody looks at its page.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// The order as it was when it was read.
    pub order: payment_order::Model,
    shop_name: String,
    network: String,
    exchange_name: String,
    explorer: Option<String>,
    chain_id: u64,
    sandbox: bool,
    simulated: bool,
}

/// What the customer may know of an order at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentStatus {
    /// Status, amounts, confirmations; private parts are left out when it is shown.
    pub shown: OrderSnapshot,
    /// Who is paid.
    pub shop_name: String,
    /// The chain's name.
    pub network: String,
    /// What exchanges call the chain.
    pub exchange_name: String,
    /// Whether money may still be sent.
    pub payable: bool,
    /// Amount received beyond the amount due; `None` unless the order is overpaid.
    pub amount_overpaid: Option<String>,
    /// Where an explorer shows the newest payment.
    pub explorer_url: Option<String>,
}

/// An order by its public id alone.
///
/// # Errors
/// `NOT_FOUND`, also for a text that is no such id.
pub async fn find(app: &App, order_id: &str) -> Result<Checkout, ApiError> {
    let not_found = || ApiError::not_found("payment order");
    let order_id: OrderRef = order_id.parse().map_err(|_| not_found())?;
    let order = payment_order::Entity::find_public(app.database(), &order_id).await?.ok_or_else(not_found)?;
    let merchant = merchant::Entity::find_by_id(order.merchant_id).one(app.database()).await?;
    let chain = app.chain(&order.chain);
    let simulated = chain.is_some_and(|chain| is_simulated(app, chain));
    Ok(Checkout {
        shop_name: merchant.map(|merchant| merchant.shop_name).unwrap_or_default(),
        network: chain.map_or_else(|| order.chain.clone(), |chain| chain.name.clone()),
        exchange_name: chain.map_or_else(|| order.chain.clone(), |chain| chain.exchange_name.clone()),
        // What happens on a simulated chain no explorer has seen.
        explorer: chain.filter(|_| !simulated).and_then(|chain| chain.explorer.clone()),
        chain_id: chain.map_or(0, |chain| chain.chain_id),
        sandbox: app.is_sandbox(),
        simulated,
        order,
    })
}

/// The status of an order now.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn status(app: &App, order_id: &str) -> Result<PaymentStatus, ApiError> {
    let checkout = find(app, order_id).await?;
    Ok(checkout.now(app.database()).await?.0)
}

/// What the page of an order shows.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn page(app: &App, order_id: &str) -> Result<PageView, ApiError> {
    let checkout = find(app, order_id).await?;
    let (status, _) = checkout.now(app.database()).await?;
    Ok(checkout.page(status))
}

/// Pays an order of the sandbox exactly, as its page's button does: what is due, from a customer of its own.
///
/// # Errors
/// `NOT_FOUND`, for everything in live mode; `INVALID_STATE` while the order takes no money, or for a chain that is not
/// simulated.
pub async fn simulate(app: &App, order_id: &str, fields: &Fields) -> Result<sandbox::Sent, ApiError> {
    sandbox::require(app)?;
    let checkout = find(app, order_id).await?;
    fields.finish()?;
    let (status, _) = checkout.now(app.database()).await?;
    if !status.payable {
        let words = format!("This order takes no money now; it is {}.", status.shown.status);
        return Err(ApiError::invalid_state(words));
    }
    sandbox::pay_as_customer(app, &checkout.order, fields).await
}

impl Checkout {
    /// The status by the row that was read, and how far its chain is verified.
    ///
    /// # Errors
    /// Only failures of the database.
    pub async fn now(&self, connection: &impl ConnectionTrait) -> Result<(PaymentStatus, ChainView), ApiError> {
        let chain = self.verified(connection).await?;
        let mut newest = payment_orders::newest_payments(connection, std::slice::from_ref(&self.order)).await?;
        let newest = newest.remove(&self.order.id);
        let payment = newest.map(|transfer| cryptopay_ledger::payment(&transfer, &self.order, &chain));
        Ok((self.status(&cryptopay_ledger::snapshot(&self.order, payment), chain), chain))
    }

    /// Reads the row again.
    ///
    /// # Errors
    /// Only failures of the database.
    pub async fn reload(&mut self, connection: &impl ConnectionTrait) -> Result<(), ApiError> {
        if let Some(order) = payment_order::Entity::find_public(connection, &self.order.order_id).await? {
            self.order = order;
        }
        Ok(())
    }

    /// How far the order's chain is verified: one look-up by key.
    ///
    /// # Errors
    /// Only failures of the database.
    pub async fn verified(&self, connection: &impl ConnectionTrait) -> Result<ChainView, ApiError> {
        let cursor = chain_cursor::Entity::of(connection, &self.order.chain).await?;
        Ok(cursor.map_or_else(ChainView::default, |cursor| cursor.view()))
    }

    /// The status that a snapshot of the order tells of, as it is seen from where its chain is verified.
    pub fn status(&self, snapshot: &OrderSnapshot, verified: ChainView) -> PaymentStatus {
        let mut shown = snapshot.clone();
        if let Some(transfer) = shown.transfer.as_mut().filter(|transfer| transfer.state.is_in_block()) {
            transfer.confirmations = confirmations(transfer.block_number, verified.height);
            let is_deep = verified.is_deep(transfer.block_number, shown.required_confirmations);
            transfer.status = transfer.state.status(is_deep);
            shown.confirmations = transfer.confirmations;
        }
        let link = |transfer: &TransferSnapshot| {
            self.explorer.as_ref().map(|explorer| format!("{explorer}/tx/{}", transfer.transaction_hash))
        };
        PaymentStatus {
            payable: self.is_payable(shown.status, verified),
            amount_overpaid: overpaid(&shown, cryptopay_ledger::decimals(self.order.decimals)),
            explorer_url: shown.transfer.as_ref().and_then(link),
            shop_name: self.shop_name.clone(),
            network: self.network.clone(),
            exchange_name: self.exchange_name.clone(),
            shown,
        }
    }

    /// Whether nothing can happen to the order any more.
    pub fn is_over(&self, verified: ChainView) -> bool {
        verified.block_time > self.order.monitor_until
    }

    /// What completes the order, in base units; what it asked for once nothing is missing.
    pub fn due(&self) -> Units {
        let missing = self.order.pay_units.saturating_sub(self.order.received_units);
        match self.order.remainder_units {
            _ if missing.is_zero() => self.order.pay_units,
            Some(held) => held.max(missing),
            None => missing,
        }
    }

    /// Name of the order's chain.
    pub fn network(&self) -> &str {
        &self.network
    }

    /// EIP-155 id of the order's chain; 0 for one that is not served any more.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// The rule of `derive`, which does not store its answer.
    fn is_payable(&self, status: OrderStatus, verified: ChainView) -> bool {
        let closed = self.order.closed_at.is_some() || verified.block_time > self.order.in_time_until;
        let open = !closed && self.order.decision.is_none() && self.order.canceled_at.is_none();
        open && matches!(status, OrderStatus::Pending | OrderStatus::Underpaid)
    }

    fn page(&self, status: PaymentStatus) -> PageView {
        let PaymentStatus { shown, shop_name, network, exchange_name, payable, amount_overpaid, .. } = status;
        let decimals = cryptopay_ledger::decimals(self.order.decimals);
        PageView {
            shop_name,
            order_id: shown.order_id,
            status: shown.status,
            currency: shown.currency,
            pay_amount: format_units(self.order.pay_units, decimals),
            amount_received: shown.amount_received,
            amount_remaining: shown.amount_remaining,
            amount_overpaid,
            paid_at: shown.transfer.as_ref().map(|transfer| transfer.block_timestamp),
            network,
            exchange_name,
            receiving_address: shown.receiving_address,
            asset: self.order.asset,
            chain_id: self.chain_id,
            due: self.order.pay_units,
            confirmations: shown.confirmations,
            required_confirmations: shown.required_confirmations,
            expires_at: shown.expires_at,
            payable,
            fulfillable: shown.fulfillable,
            redirect_url: shown.redirect_url,
            explorer: self.explorer.clone(),
            transaction_hash: shown.transfer.map(|transfer| transfer.transaction_hash),
            sandbox: self.sandbox,
            simulated: self.simulated,
        }
    }
}

/// The excess of an order that has the flag; the flag is missing where a rounded remainder alone makes an excess.
fn overpaid(shown: &OrderSnapshot, decimals: u8) -> Option<String> {
    let units = |text: &str| Amount::parse(text).ok()?.to_units(decimals).ok();
    let excess = units(&shown.amount_received)?.saturating_sub(units(&shown.pay_amount)?);
    let is_overpaid = shown.flags.contains(&OrderFlag::Overpaid) && !excess.is_zero();
    is_overpaid.then(|| format_units(excess, decimals))
}

/// The order's published events after `sequence`, oldest first, each with its snapshot.
///
/// # Errors
/// Only failures of the database.
pub async fn history_after(
    connection: &impl ConnectionTrait,
    order: OrderId,
    sequence: i64,
) -> Result<Vec<(i64, OrderSnapshot)>, ApiError> {
    let events = event::Entity::of_order_after(connection, order, sequence, EVENTS_AT_ONCE).await?;
    Ok(events.iter().filter_map(told_by).collect())
}

/// The number of the newest published event of an order; 0 before the first.
///
/// # Errors
/// Only failures of the database.
pub async fn last_sequence(connection: &impl ConnectionTrait, order: OrderId) -> Result<i64, ApiError> {
    Ok(event::Entity::last_of_order(connection, order).await?)
}

/// The sequence of an event and the state of its order that it tells of.
pub fn told_by(event: &event::Model) -> Option<(i64, OrderSnapshot)> {
    Some((event.sequence?, serde_json::from_str(&event.snapshot).ok()?))
}
