//! Amounts that belong to one order only.
//!
//! Where many orders share an address, the amount itself says which order was paid. An order gets its plain price if
//! that is free, else a value a little below it, never above: the customer must not pay more than was agreed.

use std::time::Duration;

use alloy_primitives::U256;

use crate::amount::power_of_ten;
use crate::text::words;
use crate::units::Units;

words! {
    /// What a held amount is for.
    ReservationKind {
        /// The amount that the order asks for.
        Due = "due",
        /// What was missing after a short payment.
        Remainder = "remainder",
    }
}

/// How long the value of an unpaid order is kept away from new orders: a very late payer may still send it.
pub const COOLING: Duration = Duration::from_secs(7 * 24 * 3600);

/// How many values are tried by chance before the whole band is looked at.
pub const RANDOM_TRIES: u32 = 15;

/// The values that an order of one price may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Band {
    /// The price cut down to the decimals that an amount to pay may have.
    pub plain: Units,
    /// Distance between values.
    step: U256,
    /// How many values lie beside the plain one.
    slots: u64,
}

/// Half a percent, in which the values lie: 1/200.
const BAND_DIVISOR: u64 = 200;
/// The step is the largest power of ten that leaves at least this many values.
const WANTED_SLOTS: u64 = 1_000;
/// More values than this are never needed for one price.
const MAX_SLOTS: u64 = 10_000;

impl Band {
    /// Values below the price, for an order of `price`. `None` if no value can be shared out: the price is so small that
    /// half a percent of it is less than the finest step.
    pub fn below(price: Units, decimals: u8, amount_decimals: u8) -> Option<Self> {
        let finest = power_of_ten(decimals.checked_sub(amount_decimals)?)?;
        let cut = price.0.checked_sub(price.0.checked_rem(finest)?)?;
        let lost = price.0.checked_sub(cut)?;
        if cut.is_zero() || lost.checked_mul(U256::from(BAND_DIVISOR))? > price.0 {
            return None;
        }
        let step = step_of(price.0, finest);
        // What the cut took away belongs to the band too.
        let width = band_width(price.0).saturating_sub(lost);
        Some(Self { plain: Units(cut), step, slots: slots_in(width, step) })
    }

    /// How many values there are beside the plain one.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The value of a slot, from 0 (nearest to the plain price).
    pub fn value(&self, slot: u64) -> Option<Units> {
        if slot >= self.slots {
            return None;
        }
        let distance = self.step.checked_mul(U256::from(slot).checked_add(U256::ONE)?)?;
        self.plain.0.checked_sub(distance).filter(|value| !value.is_zero()).map(Units)
    }

    /// Slots to try, beginning at a place that `seed` chooses and walking on from there, each once.
    pub fn walk(&self, seed: u64) -> impl Iterator<Item = Units> + use<> {
        let band = *self;
        let start = seed.checked_rem(band.slots).unwrap_or(0);
        (0..band.slots).filter_map(move |offset| {
            let slot = start.checked_add(offset)?.checked_rem(band.slots)?;
            band.value(slot)
        })
    }
}

/// Values for a remainder: those units, or a little above, so that paying any of them completes the order.
pub fn remainder_values(remainder: Units, decimals: u8, amount_decimals: u8) -> Vec<Units> {
    let Some(finest) = decimals.checked_sub(amount_decimals).and_then(power_of_ten) else { return Vec::new() };
    let Some(rounded) = round_up(remainder.0, finest) else { return Vec::new() };
    let step = step_of(remainder.0, finest);
    // What the rounding added belongs to the band too.
    let added = rounded.saturating_sub(remainder.0);
    let width = band_width(remainder.0).saturating_sub(added);
    (0..=slots_in(width, step).min(WANTED_SLOTS))
        .map_while(|slot| rounded.checked_add(step.checked_mul(U256::from(slot))?).map(Units))
        .collect()
}

fn round_up(value: U256, step: U256) -> Option<U256> {
    let rest = value.checked_rem(step)?;
    if rest.is_zero() { Some(value) } else { value.checked_sub(rest)?.checked_add(step) }
}

fn band_width(price: U256) -> U256 {
    price.checked_div(U256::from(BAND_DIVISOR)).unwrap_or(U256::ZERO)
}

fn step_of(price: U256, finest: U256) -> U256 {
    let width = band_width(price);
    let mut step = finest;
    while let Some(coarser) = step.checked_mul(U256::from(10u8)) {
        if width.checked_div(coarser).unwrap_or(U256::ZERO) < U256::from(WANTED_SLOTS) {
            break;
        }
        step = coarser;
    }
    step
}

fn slots_in(width: U256, step: U256) -> u64 {
    width.checked_div(step).and_then(|slots| u64::try_from(slots).ok()).unwrap_or(MAX_SLOTS).min(MAX_SLOTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hundred_dollars_have_some_thousand_values_in_steps_of_a_hundredth_cent() {
        let band = Band::below(Units::new(100_000_000), 6, 6).unwrap();
        assert_eq!(band.plain, Units::new(100_000_000));
        assert_eq!(band.slots(), 5_000);
        assert_eq!(band.value(0), Some(Units::new(99_999_900)));
        assert_eq!(band.value(4_999), Some(Units::new(99_500_000)));
        assert_eq!(band.value(5_000), None);
    }

    #[test]
    fn a_price_finer_than_the_asset_may_show_is_cut_down() {
        let band = Band::below(Units::new(1_000_000_000_000_000_001), 18, 8).unwrap();
        assert_eq!(band.plain, Units::new(1_000_000_000_000_000_000));
    }

    #[test]
    fn a_price_that_the_cut_would_change_by_more_than_half_a_percent_has_no_band() {
        assert_eq!(Band::below(Units::new(15), 18, 8), None);
    }

    #[test]
    fn what_the_cut_took_away_counts_against_the_half_percent() {
        let band = Band::below(Units::new(2_009_999), 6, 2).unwrap();
        assert_eq!(band.plain, Units::new(2_000_000));
        assert_eq!(band.slots(), 0, "one step further would be 1 % below the price");
    }

    proptest! {
        #[test]
        fn every_value_of_a_small_price_lies_within_half_a_percent(price in 1u128..=50_000_000, amount_decimals in 0u8..=6) {
            let Some(band) = Band::below(Units::new(price), 6, amount_decimals) else { return Ok(()) };
            for value in band.walk(0).chain([band.plain]) {
                prop_assert!((U256::from(price) - value.0) * U256::from(200) <= U256::from(price), "{value}");
            }
        }

        #[test]
        fn a_remainder_beside_the_rounded_one_lies_within_half_a_percent(
            remainder in 1u128..=50_000_000, amount_decimals in 0u8..=6,
        ) {
            for value in remainder_values(Units::new(remainder), 6, amount_decimals).into_iter().skip(1) {
                prop_assert!((value.0 - U256::from(remainder)) * U256::from(200) <= U256::from(remainder), "{value}");
            }
        }

        #[test]
        fn the_largest_prices_are_no_trouble(high in 0u128.., decimals in 0u8..=80, amount_decimals in 0u8..=80, seed: u64) {
            let price = Units(U256::MAX - U256::from(high));
            if let Some(band) = Band::below(price, decimals, amount_decimals) {
                prop_assert!(band.walk(seed).all(|value| value < price));
            }
            prop_assert!(remainder_values(price, decimals, amount_decimals).iter().all(|value| *value >= price));
        }

        #[test]
        fn every_value_lies_below_the_price_within_half_a_percent_and_comes_once(
            price in 1u128..=10_u128.pow(21), amount_decimals in 0u8..=6, seed: u64,
        ) {
            let Some(band) = Band::below(Units::new(price), 6, amount_decimals) else { return Ok(()) };
            let values: Vec<_> = band.walk(seed).collect();
            for value in &values {
                prop_assert!(value.0 < U256::from(price));
                prop_assert!((U256::from(price) - value.0) * U256::from(200) <= U256::from(price));
                prop_assert_eq!(value.0 % U256::from(10_u128.pow(u32::from(6 - amount_decimals))), U256::ZERO);
            }
            let distinct: std::collections::BTreeSet<_> = values.iter().collect();
            prop_assert_eq!(distinct.len(), values.len());
        }

        #[test]
        fn paying_any_remainder_value_completes_the_order(remainder in 1u128..=10_u128.pow(21)) {
            for value in remainder_values(Units::new(remainder), 6, 6) {
                prop_assert!(value >= Units::new(remainder));
            }
        }
    }
}
