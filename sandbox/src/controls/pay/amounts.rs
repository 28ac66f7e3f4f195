//! How much is paid, and of what.

use cryptopay_domain::amount::{Amount, format_units};
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_domain::units::Units;
use cryptopay_entity::payment_order;

use super::{PayError, Payment};
use crate::Scenario;

/// What would complete the order now: its amount, or the remainder that is held for it.
pub(super) fn due(order: &payment_order::Model) -> Units {
    let missing = order.pay_units.saturating_sub(order.received_units);
    match order.remainder_units {
        // A value above what is missing, where that itself was not free.
        Some(held) if !missing.is_zero() => held.max(missing),
        _ => missing,
    }
}

/// What a payment comes to, in units of the order's own asset.
pub(super) fn chosen(payment: Payment, due: Units, token: &Token) -> Result<Units, PayError> {
    let chosen = match (payment.amount, payment.scenario) {
        (Some(amount), _) => amount,
        (None, _) if due.is_zero() => return Err(PayError::NothingDue),
        (None, Scenario::Underpay) => half(due),
        (None, Scenario::Overpay) => due.saturating_add(tenth(due)),
        (None, _) => due,
    };
    let words = || (format_units(due, token.decimals), token.symbol.clone());
    match payment.scenario {
        _ if chosen.is_zero() => Err(PayError::AmountNotPositive),
        Scenario::Split if half(chosen).is_zero() => Err(PayError::AmountNotDivisible),
        Scenario::Underpay if chosen >= due => {
            let (due, currency) = words();
            Err(PayError::AmountNotBelowDue { due, currency })
        }
        Scenario::Overpay if chosen <= due => {
            let (due, currency) = words();
            Err(PayError::AmountNotAboveDue { due, currency })
        }
        _ => Ok(chosen),
    }
}

/// The amounts of the transactions that a payment is made of.
pub(super) fn parts(scenario: Scenario, units: Units) -> Vec<Units> {
    match scenario {
        Scenario::Twice => vec![units, units],
        Scenario::Split => vec![half(units), units.saturating_sub(half(units))],
        _ => vec![units],
    }
}

/// Another token of the chain, and as many of its units as look like this amount of the right asset. Never the chain's own
/// coin: that is looked for only while an order asks for it, so that nobody would see what came of it.
pub(super) fn wrong<'a>(chain: &'a Chain, token: &Token, units: Units) -> Result<(&'a Token, Units), PayError> {
    let others: Vec<&Token> = chain.tokens.iter().filter(|other| other.asset != token.asset).collect();
    let amount = format_units(units, token.decimals);
    let same = |other: &&Token| Amount::parse(&amount).ok()?.to_units(other.decimals).ok();
    if let Some(found) = others.iter().find_map(|other| Some((*other, same(other)?))) {
        return Ok(found);
    }
    Err(match others.iter().map(|other| other.decimals).max() {
        Some(decimals) => PayError::AmountFitsNoOtherToken { chain: chain.name.clone(), amount, decimals },
        None => PayError::NoOtherToken { chain: chain.name.clone(), currency: token.symbol.clone() },
    })
}

/// Rounded down.
fn half(units: Units) -> Units {
    Units(units.0 >> 1)
}

/// A tenth, but something.
fn tenth(units: Units) -> Units {
    let ten = Units::new(10).0;
    Units(units.0.checked_div(ten).unwrap_or_default()).max(Units::new(1))
}
