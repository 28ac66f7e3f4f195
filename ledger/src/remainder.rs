//! The amount that is missing after a short payment becomes an amount of the order's own, so that a top-up is recognised.

use cryptopay_domain::order::{Derived, OrderStatus};
use cryptopay_domain::registry::Token;
use cryptopay_domain::reservation::{AmountRange, ReservationKind};
use cryptopay_domain::units::Units;
use cryptopay_entity::amount_reservation::{self, Place, Wanted};
use cryptopay_entity::payment_order;
use sea_orm::DatabaseTransaction;

use crate::amounts;
use crate::error::{LedgerError, Refusal};
use crate::rederive::Occasion;
use crate::view::decimals;

/// Holds the remainder of an order that is short and still open. Returns the units that complete it, if some are held.
pub(crate) async fn hold(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    order: &payment_order::Model,
    derived: &Derived,
) -> Result<Option<Units>, LedgerError> {
    if derived.status != OrderStatus::Underpaid || !derived.payable {
        return Ok(None);
    }
    let held = amount_reservation::Entity::held_by(txn, order.id).await?;
    let known = held.iter().find(|row| row.kind == ReservationKind::Remainder && row.plain_units == derived.remaining);
    if let Some(known) = known {
        return Ok(Some(known.units));
    }
    let Some(range) = AmountRange::above(derived.remaining, &token(occasion, order)) else { return Ok(None) };
    let place = Place { chain: &order.chain, asset: order.asset, address: order.receiving_address };
    for units in free(txn, order, range, derived.remaining).await? {
        let wanted = Wanted {
            order: order.id,
            place,
            decimals: decimals(order.decimals),
            units,
            plain_units: derived.remaining,
            kind: ReservationKind::Remainder,
            held_until: order.monitor_until,
            now: occasion.now,
        };
        if amount_reservation::Entity::hold(txn, wanted).await? {
            return Ok(Some(units));
        }
    }
    Ok(None)
}

/// Free amounts for a remainder. None is no error: the order then shows no amount that a payment of it would be found by.
async fn free(
    txn: &DatabaseTransaction,
    order: &payment_order::Model,
    range: AmountRange,
    remaining: Units,
) -> Result<Vec<Units>, LedgerError> {
    let (seed, decimals) = (seed(order, remaining), decimals(order.decimals));
    match amounts::free(txn, order.receiving_address, range, decimals, seed, None).await {
        Err(LedgerError::Refused(Refusal::NoFreeAmount)) => Ok(Vec::new()),
        found => found,
    }
}

/// The order's token. One that has left the registry keeps its decimals.
fn token(occasion: Occasion<'_>, order: &payment_order::Model) -> Token {
    let known = occasion.registry.chain(&order.chain).and_then(|chain| chain.token_of(order.asset));
    known.cloned().unwrap_or_else(|| Token::unregistered(order.asset, &order.currency, decimals(order.decimals)))
}

/// Chooses among free amounts. The reference is random and known to the order's customer alone, so that no other customer can
/// predict the amount. The same facts lead to the same choice.
fn seed(order: &payment_order::Model, remaining: Units) -> u64 {
    let reference = u128::from_be_bytes(order.reference.0);
    let folded = reference ^ (reference >> 64);
    let [low, ..] = remaining.0.into_limbs();
    u64::try_from(folded & u128::from(u64::MAX)).unwrap_or_default() ^ low
}
