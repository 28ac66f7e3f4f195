//! A new order: its price becomes an amount of its own, and the promise, the reservation and the first event are one.

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::amount::Amount;
use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{MerchantId, OrderRef, WalletId};
use cryptopay_domain::order::{LatePolicy, OrderStatus, Windows};
use cryptopay_domain::reference::Reference;
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_domain::reservation::{Band, RANDOM_TRIES, ReservationKind};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::amount_reservation::{self, AtPrice, Place, Wanted};
use cryptopay_entity::payment_order;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, SqlErr, TryIntoModel};

use crate::error::{LedgerError, Refusal};
use crate::nudges::Nudges;
use crate::outbox::{self, Endpoints, NewEvent, Subject};
use crate::view;

/// A parsed and checked request for an order.
#[derive(Debug, Clone)]
pub struct NewOrder<'a> {
    /// Owner.
    pub merchant: MerchantId,
    /// Owner's number.
    pub nonce: i64,
    /// Of the parsed request.
    pub fingerprint: String,
    /// Chain to be paid on.
    pub chain: &'a Chain,
    /// What to be paid in.
    pub token: &'a Token,
    /// Price.
    pub amount: Amount,
    /// The same in base units.
    pub price: Units,
    /// Wallet to be paid to.
    pub wallet: WalletId,
    /// Its address.
    pub address: AccountAddress,
    /// Merchant's JSON.
    pub order_info: String,
    /// The order's own webhook.
    pub webhook_url: Option<String>,
    /// Where the customer goes afterwards.
    pub redirect_url: Option<String>,
    /// What the customer is told.
    pub expires_at: Timestamp,
    /// Depth that confirms.
    pub required_confirmations: u32,
    /// What happens to late money.
    pub late_policy: LatePolicy,
    /// Chance that chooses among free amounts.
    pub seed: u64,
}

/// How far a chain is verified.
#[derive(Debug, Clone, Copy)]
pub struct Scanned {
    /// Newest verified block.
    pub height: i64,
    /// Its time.
    pub block_time: Timestamp,
}

/// Creates an order. Six statements on PostgreSQL unless other orders take the same amounts in the same moment.
///
/// `scanned` is how far this transaction has seen the chain verified, `now` its business time.
pub async fn create_order(
    txn: &DatabaseTransaction,
    new: NewOrder<'_>,
    scanned: Scanned,
    now: Timestamp,
) -> Result<(payment_order::Model, Nudges), LedgerError> {
    let place = Place { chain: &new.chain.slug, asset: new.token.asset, address: new.address };
    let choice = choose(txn, place, &new, scanned.block_time).await?;
    let windows = Windows::new(new.expires_at, new.token.asset, new.chain);
    let mut order = insert(txn, &new, &choice, windows, scanned, now).await?;
    let mut nudges = Nudges::default();
    // A chain on which nothing was watched is polled seldom: an order makes it worth looking at.
    nudges.chains.insert(order.chain.clone());

    if let Some(band) = choice.band {
        let held = hold(txn, &order, place, band, &choice, now).await?;
        if held != Some(order.pay_units) {
            settle(txn, &mut order, held.unwrap_or(new.price), held.is_some()).await?;
        }
    }
    let endpoints = Endpoints::of(txn, [order.merchant_id]).await?;
    let snapshot = view::snapshot(&order, None);
    let event = NewEvent {
        merchant: order.merchant_id,
        event_type: EventType::OrderCreated,
        subject: Subject::Order(&snapshot),
        cause: "created by the merchant",
        now,
    };
    outbox::record(txn, &endpoints, event, &mut nudges).await?;
    Ok((order, nudges))
}

/// The amounts that an order may ask for, best first.
struct Choice {
    band: Option<Band>,
    values: Vec<Units>,
    exhausted: bool,
}

/// Values that are looked up in one statement when chance found none.
const PROBE: usize = 500;

async fn choose(
    txn: &DatabaseTransaction,
    place: Place<'_>,
    new: &NewOrder<'_>,
    verified: Timestamp,
) -> Result<Choice, LedgerError> {
    let Some(band) = Band::below(new.price, new.token.decimals, new.token.amount_decimals) else {
        return Ok(Choice { band: None, values: Vec::new(), exhausted: true });
    };
    let tries = usize::try_from(RANDOM_TRIES).unwrap_or(usize::MAX);
    let first: Vec<Units> = std::iter::once(band.plain).chain(band.walk(new.seed).take(tries)).collect();
    let AtPrice { taken, price_is_shared } =
        amount_reservation::Entity::at_price(txn, place, first.iter().copied(), band.plain, verified).await?;
    let plain_is_free = !taken.iter().any(|row| row.units == band.plain);
    // A payer who rounds would pay another's order, so a price that two orders have had is no longer handed out plain.
    let skip_plain = !plain_is_free || price_is_shared;
    let free: Vec<Units> = first
        .iter()
        .skip(usize::from(skip_plain))
        .filter(|units| !taken.iter().any(|row| row.units == **units))
        .copied()
        .collect();
    if !free.is_empty() {
        return Ok(Choice { band: Some(band), values: free, exhausted: false });
    }
    // Chance found nothing: look at the whole band, and take a cooling value only when there is no other.
    let mut cooling = Vec::new();
    let all: Vec<Units> = band.walk(new.seed).collect();
    for chunk in all.chunks(PROBE) {
        let taken = amount_reservation::Entity::taken(txn, place, chunk.iter().copied(), verified).await?;
        let free: Vec<Units> =
            chunk.iter().filter(|units| !taken.iter().any(|row| row.units == **units)).copied().collect();
        if !free.is_empty() {
            return Ok(Choice { band: Some(band), values: free, exhausted: false });
        }
        cooling.extend(
            chunk.iter().filter(|units| !taken.iter().any(|row| row.units == **units && row.released_at.is_none())),
        );
    }
    let exhausted = cooling.is_empty();
    Ok(Choice { band: Some(band), values: cooling, exhausted })
}

/// Takes the first value that nobody else takes in the same moment.
async fn hold(
    txn: &DatabaseTransaction,
    order: &payment_order::Model,
    place: Place<'_>,
    band: Band,
    choice: &Choice,
    now: Timestamp,
) -> Result<Option<Units>, LedgerError> {
    for units in &choice.values {
        let wanted = Wanted {
            order: order.id,
            place,
            units: *units,
            plain_units: band.plain,
            kind: ReservationKind::Due,
            held_until: order.monitor_until,
            now,
        };
        if amount_reservation::Entity::hold(txn, wanted).await? {
            return Ok(Some(*units));
        }
    }
    Ok(None)
}

/// Corrects the amount of an order whose first choice was taken in the same moment.
async fn settle(
    txn: &DatabaseTransaction,
    order: &mut payment_order::Model,
    units: Units,
    exact: bool,
) -> Result<(), LedgerError> {
    order.pay_units = units;
    order.exact_amount = exact;
    let row = payment_order::ActiveModel {
        pay_units: Set(order.pay_units),
        exact_amount: Set(order.exact_amount),
        ..Default::default()
    };
    payment_order::Entity::update_many().set(row).filter(payment_order::Column::Id.eq(order.id)).exec(txn).await?;
    Ok(())
}

async fn insert(
    txn: &DatabaseTransaction,
    new: &NewOrder<'_>,
    choice: &Choice,
    windows: Windows,
    scanned: Scanned,
    now: Timestamp,
) -> Result<payment_order::Model, LedgerError> {
    let exact = choice.values.first().filter(|_| !choice.exhausted);
    let mut row = payment_order::ActiveModel {
        id: NotSet,
        order_id: Set(OrderRef::from_entropy(rand::random())),
        merchant_id: Set(new.merchant),
        nonce: Set(new.nonce),
        fingerprint: Set(new.fingerprint.clone()),
        chain: Set(new.chain.slug.clone()),
        currency: Set(new.token.symbol.clone()),
        asset: Set(new.token.asset),
        decimals: Set(i64::from(new.token.decimals)),
        amount: Set(new.amount.as_str().to_owned()),
        pay_units: Set(exact.copied().unwrap_or(new.price)),
        exact_amount: Set(exact.is_some()),
        wallet_id: Set(new.wallet),
        receiving_address: Set(new.address),
        reference: Set(Reference(rand::random())),
        order_info: Set(new.order_info.clone()),
        webhook_url: Set(new.webhook_url.clone()),
        redirect_url: Set(new.redirect_url.clone()),
        created_at: Set(now),
        expires_at: Set(windows.expires_at),
        in_time_until: Set(windows.in_time_until),
        late_until: Set(windows.late_until),
        monitor_until: Set(windows.monitor_until),
        required_confirmations: Set(i64::from(new.required_confirmations)),
        late_policy: Set(new.late_policy),
        policy: Set("{}".to_owned()),
        scanned_height: Set(scanned.height),
        scanned_time: Set(scanned.block_time),
        status: Set(OrderStatus::Pending),
        fulfillable: Set(false),
        flags: Set(String::new()),
        late_decision: Set(None),
        received_units: Set(Units::ZERO),
        remainder_units: Set(None),
        failure_reason: Set(None),
        decision: Set(None),
        decision_units: Set(None),
        decided_at: Set(None),
        generation: Set(1),
        announced_generation: Set(0),
        canceled_at: Set(None),
        closed_at: Set(None),
        displaced_at: Set(None),
        confirmed_at: Set(None),
        version: Set(1),
        updated_at: Set(now),
    };
    // Its number alone comes back: the rest is known, and may be large.
    let inserted =
        payment_order::Entity::insert(row.clone()).exec(txn).await.map_err(|error| match error.sql_err() {
            // The names of SQLite's columns and of PostgreSQL's constraint.
            Some(SqlErr::UniqueConstraintViolation(what))
                if what.contains("payment_order.nonce") || what.contains("payment_order_nonce") =>
            {
                Refusal::NonceUsed { order_id: String::new() }.into()
            }
            _ => LedgerError::from(error),
        })?;
    row.id = Set(inserted.last_insert_id);
    Ok(row.try_into_model()?)
}

/// Names the order that has a merchant's nonce, after `create_order` was refused for it and rolled back.
pub async fn nonce_owner(
    connection: &impl sea_orm::ConnectionTrait,
    merchant: MerchantId,
    nonce: i64,
) -> Result<Refusal, LedgerError> {
    let owner = payment_order::Entity::find_by_nonce(connection, merchant, nonce).await?;
    Ok(Refusal::NonceUsed {
        order_id: owner.map_or_else(|| "another order".to_owned(), |order| order.order_id.to_string()),
    })
}
