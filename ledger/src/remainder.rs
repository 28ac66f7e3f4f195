//! What is missing after a short payment becomes an amount of the order's own, so that topping up is recognised.

use cryptopay_domain::order::{Derived, OrderStatus};
use cryptopay_domain::reservation::{ReservationKind, remainder_values};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::amount_reservation::{self, Place, Wanted};
use cryptopay_entity::payment_order;
use sea_orm::DatabaseTransaction;

use crate::error::LedgerError;
use crate::rederive::Occasion;
use crate::view;

/// Decimals of amounts in a token that left the registry: as many as customers' wallets show.
const AMOUNT_DECIMALS: u8 = 6;
/// Values that are looked up in one statement.
const PROBE: usize = 64;

/// Holds the remainder of an order that is short and still open; gives the units that complete it, if some are held.
pub(crate) async fn hold(
    txn: &DatabaseTransaction,
    occasion: Occasion<'_>,
    order: &payment_order::Model,
    derived: &Derived,
    verified: Timestamp,
) -> Result<Option<Units>, LedgerError> {
    if derived.status != OrderStatus::Underpaid || !derived.payable {
        return Ok(None);
    }
    let held = amount_reservation::Entity::held_by(txn, order.id).await?;
    let known = held.iter().find(|row| row.kind == ReservationKind::Remainder && row.plain_units == derived.remaining);
    if let Some(known) = known {
        return Ok(Some(known.units));
    }
    // A token may have left the registry while orders in it are open.
    let token = occasion.registry.chain(&order.chain).and_then(|chain| chain.token_of(order.asset));
    let decimals = view::decimals(order.decimals);
    let amount_decimals = token.map_or(decimals.min(AMOUNT_DECIMALS), |token| token.amount_decimals);
    let place = Place { chain: &order.chain, asset: order.asset, address: order.receiving_address };
    for values in remainder_values(derived.remaining, decimals, amount_decimals).chunks(PROBE) {
        let taken = amount_reservation::Entity::taken(txn, place, values.iter().copied(), verified).await?;
        for units in values.iter().filter(|units| !taken.iter().any(|row| row.units == **units)) {
            let wanted = Wanted {
                order: order.id,
                place,
                units: *units,
                plain_units: derived.remaining,
                kind: ReservationKind::Remainder,
                held_until: order.monitor_until,
                now: occasion.now,
            };
            if amount_reservation::Entity::hold(txn, wanted).await? {
                return Ok(Some(*units));
            }
        }
    }
    Ok(None)
}
