//! A new order: its price becomes an amount of its own, and the promise, the reservation and the first event are one.

mod rows;

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::amount::{Amount, DecimalAmount};
use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{MerchantId, OrderId, OrderRef, WalletId};
use cryptopay_domain::order::{LatePolicy, OrderSnapshot, OrderStatus, Windows};
use cryptopay_domain::reference::Reference;
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_domain::reservation::{AmountRange, ReservationKind};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::amount_reservation::{Place, Wanted};
use cryptopay_entity::idempotency_key::Answered;
use cryptopay_entity::merchant_wallet::PayingPlace;
use cryptopay_entity::payment_order;
use cryptopay_entity::preconditions::{Asked, Preconditions};
use sea_orm::DatabaseTransaction;

use self::rows::Rows;
use crate::amounts::{self, Probes};
use crate::error::{LedgerError, Refusal};
use crate::nudges::Nudges;
use crate::outbox::{Endpoints, NewEvent, Outgoing, Subject};
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
}

/// An order that may be created: what is known of it before it is judged.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// What it depends on.
    pub known: Preconditions,
    /// `None` if the price is too small for an amount of its own.
    range: Option<AmountRange>,
    /// The amounts that were looked up.
    probes: Probes,
    seed: u64,
}

impl Prospect {
    /// Reads what an order of `price` depends on, in one statement. `seed` is the chance that chooses among free amounts.
    pub async fn read(
        txn: &DatabaseTransaction,
        merchant: MerchantId,
        (chain, token): (&Chain, &Token),
        price: Units,
        seed: u64,
    ) -> Result<Self, LedgerError> {
        let range = AmountRange::below(price, token);
        let coarsest = range.and_then(|range| range.grids().next());
        let probes = coarsest.map(|grid| Probes::of(&grid, seed, token.decimals)).unwrap_or_default();
        let amounts: Vec<DecimalAmount> = probes.amounts().cloned().collect();
        let asked = Asked { merchant, chain: &chain.slug, asset: token.asset, amounts: &amounts };
        let known = Preconditions::read(txn, asked).await?;
        Ok(Self { known, range, probes, seed })
    }
}

/// Creates an order. One statement on PostgreSQL unless other orders take the same amounts in the same moment.
///
/// `scanned_height` is how far this transaction has seen the chain verified. `answer` says what the request is answered with, and
/// what is written with the order to be kept for the request's idempotency key. It is asked for every amount that is tried;
/// the last answer comes back. Whether the merchant has a wallet to be paid to was judged before.
pub async fn create_order<T, E: From<LedgerError>>(
    txn: &DatabaseTransaction,
    new: NewOrder<'_>,
    scanned_height: i64,
    prospect: Prospect,
    answer: impl Fn(&OrderSnapshot) -> Result<(T, Option<Answered>), E>,
) -> Result<(payment_order::Model, T, Nudges), E> {
    let Some(paid_to) = prospect.known.place.paid_to() else {
        return Err(LedgerError::Corrupt("an order that is paid nowhere".to_owned()).into());
    };
    let place = Place { chain: &new.chain.slug, asset: new.token.asset, address: paid_to.1 };
    let Some(range) = prospect.range else { return Err(LedgerError::from(Refusal::PriceTooSmall).into()) };
    let first = Some(prospect.probes.without(&prospect.known.taken));
    let choice = amounts::free(txn, place.address, range, new.token.decimals, prospect.seed, first).await?;
    let Preconditions { place: PayingPlace { now, .. }, endpoints, order: id, event, .. } = prospect.known;
    let windows = Windows::new(new.expires_at, new.token, new.chain);
    let endpoints = Endpoints::from_rows(new.merchant, endpoints);
    for units in choice {
        let order = draft(id, &new, paid_to, units, windows, scanned_height, now);
        let snapshot = view::snapshot(&order, None);
        let created = NewEvent {
            merchant: order.merchant_id,
            event_type: EventType::OrderCreated,
            subject: Subject::Order(&snapshot),
            cause: "created by the merchant",
            now,
        };
        let mut nudges = Nudges::default();
        let (said, kept) = answer(&snapshot)?;
        let rows = Rows {
            reservation: Wanted {
                order: id,
                place,
                decimals: new.token.decimals,
                units,
                plain_units: new.price,
                kind: ReservationKind::Due,
                held_until: windows.monitor_until,
                now,
            },
            outgoing: Outgoing::new(&endpoints, &created, &mut nudges)?.numbered(event),
            answer: kept,
            order: order.clone(),
        };
        if rows.write(txn).await? {
            // A chain on which nothing was watched is polled seldom: an order makes it worth looking at.
            nudges.chains.insert(order.chain.clone());
            return Ok((order, said, nudges));
        }
    }
    // Other orders have taken each of them meanwhile.
    Err(LedgerError::LostGuard.into())
}

/// The row of an order that asks for `pay_units`.
fn draft(
    id: OrderId,
    new: &NewOrder<'_>,
    (wallet, address): (WalletId, AccountAddress),
    pay_units: Units,
    windows: Windows,
    scanned_height: i64,
    now: Timestamp,
) -> payment_order::Model {
    payment_order::Model {
        id,
        order_id: OrderRef::from_entropy(rand::random()),
        merchant_id: new.merchant,
        nonce: new.nonce,
        fingerprint: new.fingerprint.clone(),
        chain: new.chain.slug.clone(),
        currency: new.token.symbol.clone(),
        asset: new.token.asset,
        decimals: i64::from(new.token.decimals),
        amount: new.amount.as_str().to_owned(),
        pay_units,
        wallet_id: wallet,
        receiving_address: address,
        reference: Reference(rand::random()),
        order_info: new.order_info.clone(),
        webhook_url: new.webhook_url.clone(),
        redirect_url: new.redirect_url.clone(),
        created_at: now,
        expires_at: windows.expires_at,
        in_time_until: windows.in_time_until,
        late_until: windows.late_until,
        monitor_until: windows.monitor_until,
        required_confirmations: i64::from(new.required_confirmations),
        late_policy: new.late_policy,
        scanned_height,
        status: OrderStatus::Pending,
        fulfillable: false,
        flags: String::new(),
        late_decision: None,
        received_units: Units::ZERO,
        remainder_units: None,
        remainder_rounding: Units::ZERO,
        failure_reason: None,
        decision: None,
        decision_units: None,
        decided_at: None,
        generation: 1,
        announced_generation: 0,
        canceled_at: None,
        closed_at: None,
        displaced_at: None,
        confirmed_at: None,
        version: 1,
        updated_at: now,
    }
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
