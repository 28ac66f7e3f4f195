//! Amounts that belong to one order only.
//!
//! Orders that share an address differ by amount. An order asks for an amount below its price, never for the price itself:
//! a customer who rounds, or types the price, pays no order by accident. The first payment never exceeds the price.
//!
//! This module computes which amounts come into question. The database decides which of them are free.

use std::time::Duration;

use alloy_primitives::U256;

use crate::amount::power_of_ten;
use crate::registry::{Stable, Token};
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

/// Time after its release in which an amount is not handed out again: a very late payer may still send it.
pub const COOL_DOWN: Duration = Duration::from_secs(7 * 24 * 3600);

/// Amounts of a grid that are looked up first. Their share that is taken estimates how far the grid is used.
pub const PROBES: usize = 16;

/// Width of a range as a share of its amount: 1/200, half a percent.
const WIDTH_DIVISOR: u64 = 200;
/// Least width of a range below a price in a USD token, in decimals of the token: 0.01.
const CENT_DECIMALS: u8 = 2;
/// The coarsest step leaves at least this many amounts in the range.
const WANTED_AMOUNTS: u64 = 1_000;
/// More amounts of one grid are never needed.
const MAX_AMOUNTS: u64 = 1_000_000_000;

/// The amounts that may stand for one price, or for one remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AmountRange {
    lowest: U256,
    highest: U256,
    /// Bounds of all grids but the last. They are nearer to the price than those of the range, so that a merchant seldom gives
    /// away half a percent.
    near: (U256, U256),
    finest: U256,
    coarsest: U256,
}

impl AmountRange {
    /// Amounts strictly below `price`, at most half a percent. For a USD token the range is at least one cent wide, so that
    /// small prices have amounts too.
    ///
    /// `None` if not even the finest step fits in.
    pub fn below(price: Units, token: &Token) -> Option<Self> {
        let finest = finest_step(token)?;
        let cent = match token.stable {
            Some(Stable::Usd) => token.decimals.checked_sub(CENT_DECIMALS).and_then(power_of_ten).unwrap_or(U256::ZERO),
            Some(Stable::Eur) | None => U256::ZERO,
        };
        let width = half_percent(price.0).max(cent);
        let coarsest = coarsest_step(width, finest);
        let lowest = price.0.saturating_sub(width).max(U256::ONE);
        let highest = price.0.checked_sub(U256::ONE)?;
        let near = (price.0.saturating_sub(near_width(coarsest)).max(lowest), highest);
        let range = Self { lowest, highest, near, finest, coarsest };
        (range.grid(finest).count > 0).then_some(range)
    }

    /// Amounts from `missing` to half a percent above it: each completes an order that lacks `missing`. The range always
    /// contains `missing` rounded up to an amount that can be shown.
    ///
    /// `None` if that is beyond 2^256 − 1.
    pub fn above(missing: Units, token: &Token) -> Option<Self> {
        let finest = finest_step(token)?;
        let width = half_percent(missing.0);
        let coarsest = coarsest_step(width, finest);
        let lowest = missing.0.max(U256::ONE);
        let highest = missing.0.saturating_add(width).max(round_up(missing.0, finest)?);
        let near = (lowest, missing.0.saturating_add(near_width(coarsest)).min(highest));
        let range = Self { lowest, highest, near, finest, coarsest };
        (range.grid(finest).count > 0).then_some(range)
    }

    /// The grids of the range, the coarsest first. Each next one has a tenth of the step. All but the last one contain about a
    /// thousand coarse steps next to the price; the last one contains every amount of the range that can be shown.
    pub fn grids(&self) -> impl Iterator<Item = Grid> + use<> {
        let range = *self;
        let mut next = Some(range.coarsest);
        std::iter::from_fn(move || {
            let step = next?;
            next = (step > range.finest).then(|| step.checked_div(U256::from(10u8))).flatten();
            Some(range.grid(step))
        })
    }

    fn grid(&self, step: U256) -> Grid {
        let (lowest, highest) = if step == self.finest { (self.lowest, self.highest) } else { self.near };
        let top = round_down(highest, step).unwrap_or(U256::ZERO);
        let bottom = round_up(lowest, step).unwrap_or(U256::MAX);
        let count = match top.checked_sub(bottom).and_then(|width| width.checked_div(step)) {
            Some(steps) => u64::try_from(steps).unwrap_or(u64::MAX).saturating_add(1).min(MAX_AMOUNTS),
            None => 0,
        };
        Grid { top, step, count, is_finest: step == self.finest }
    }
}

/// Equally spaced amounts of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    top: U256,
    step: U256,
    count: u64,
    is_finest: bool,
}

impl Grid {
    /// Reports whether this is the last grid of its range.
    pub fn is_finest(&self) -> bool {
        self.is_finest
    }

    /// The amounts of the grid, each once, in an order that `seed` chooses. Neighbours in that order lie far apart, so that a
    /// few of them are a fair sample.
    ///
    /// A coarse grid leaves out amounts that fit a ten times coarser grid: prices are such round amounts.
    pub fn walk(&self, seed: u64) -> impl Iterator<Item = Units> + use<> {
        let grid = *self;
        let stride = stride(grid.count);
        let start = u128::from(seed.checked_rem(grid.count).unwrap_or(0));
        (0..grid.count).filter_map(move |index| {
            let place =
                u128::from(index).checked_mul(stride)?.checked_add(start)?.checked_rem(u128::from(grid.count))?;
            let value = grid.top.checked_sub(grid.step.checked_mul(U256::from(place))?)?;
            let coarser = grid.step.checked_mul(U256::from(10u8))?;
            let is_round = value.checked_rem(coarser)?.is_zero();
            (grid.is_finest || !is_round).then_some(Units(value))
        })
    }
}

/// A step through `count` places that reaches each of them once: about the golden section of them, and coprime to them.
fn stride(count: u64) -> u128 {
    const PARTS: u128 = 1_000_000;
    const GOLDEN_SECTION: u128 = 618_034;
    let count = u128::from(count);
    let wanted = count.saturating_mul(GOLDEN_SECTION).checked_div(PARTS).unwrap_or(1).max(1);
    (wanted..wanted.saturating_add(count)).find(|stride| gcd(*stride, count) == 1).unwrap_or(1)
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

fn finest_step(token: &Token) -> Option<U256> {
    token.decimals.checked_sub(token.amount_decimals).and_then(power_of_ten)
}

fn half_percent(amount: U256) -> U256 {
    amount.checked_div(U256::from(WIDTH_DIVISOR)).unwrap_or(U256::ZERO)
}

/// Width that holds as many amounts of the coarsest step as are wanted.
fn near_width(coarsest: U256) -> U256 {
    coarsest.saturating_mul(U256::from(WANTED_AMOUNTS))
}

/// The largest power of ten, in finest steps, of which the width holds enough.
fn coarsest_step(width: U256, finest: U256) -> U256 {
    let mut step = finest;
    while let Some(coarser) = step.checked_mul(U256::from(10u8)) {
        if width.checked_div(coarser).unwrap_or(U256::ZERO) < U256::from(WANTED_AMOUNTS) {
            break;
        }
        step = coarser;
    }
    step
}

fn round_down(value: U256, step: U256) -> Option<U256> {
    value.checked_sub(value.checked_rem(step)?)
}

fn round_up(value: U256, step: U256) -> Option<U256> {
    let rest = value.checked_rem(step)?;
    if rest.is_zero() { Some(value) } else { value.checked_sub(rest)?.checked_add(step) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::address::Asset;

    fn token(decimals: u8, amount_decimals: u8, stable: Option<Stable>) -> Token {
        Token { symbol: "TKN".to_owned(), aliases: Vec::new(), asset: Asset::Native, decimals, amount_decimals, stable }
    }

    fn usd() -> Token {
        token(6, 6, Some(Stable::Usd))
    }

    fn all(grid: Grid, seed: u64) -> BTreeSet<Units> {
        let values: Vec<_> = grid.walk(seed).collect();
        let distinct: BTreeSet<_> = values.iter().copied().collect();
        assert_eq!(distinct.len(), values.len(), "an amount comes twice");
        distinct
    }

    #[test]
    fn the_first_grid_of_a_price_has_a_thousand_amounts_in_its_range() {
        let grids: Vec<_> = AmountRange::below(Units::new(20_000_000), &usd()).unwrap().grids().collect();
        assert_eq!(grids.len(), 3);
        let first = all(grids[0], 7);
        // 19.9000 to 19.9999 in steps of 0.0001, without those of two and three decimals.
        assert_eq!(first.len(), 900);
        assert_eq!((first.first(), first.last()), (Some(&Units::new(19_900_100)), Some(&Units::new(19_999_900))));
        assert_eq!(all(grids[1], 7).len(), 9_000);
        assert_eq!(all(grids[2], 7).len(), 100_000);
        assert_eq!(grids.iter().map(Grid::is_finest).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn coarse_grids_stay_near_the_price_and_the_last_has_the_whole_range() {
        let grids: Vec<_> = AmountRange::below(Units::new(100_000_000), &usd()).unwrap().grids().collect();
        let [first, finer, last] = [grids[0], grids[1], grids[2]].map(|grid| all(grid, 3));
        assert_eq!((first.len(), first.first()), (900, Some(&Units::new(99_900_100))));
        assert_eq!((finer.len(), finer.first()), (9_000, Some(&Units::new(99_900_010))));
        assert_eq!((last.len(), last.first()), (500_000, Some(&Units::new(99_500_000))));
        let above: Vec<_> = AmountRange::above(Units::new(100_000_000), &usd()).unwrap().grids().collect();
        assert_eq!(all(above[0], 3).last(), Some(&Units::new(100_099_900)));
    }

    #[test]
    fn a_small_price_in_a_usd_token_has_a_band_of_a_cent() {
        let amounts = |price, token: &Token| {
            let range = AmountRange::below(Units::new(price), token)?;
            range.grids().last().map(|grid| all(grid, 1).len())
        };
        assert_eq!(amounts(50_000, &usd()), Some(10_000), "0.05: from 0.04");
        assert_eq!(amounts(5_000, &usd()), Some(4_999), "0.005: nothing but more than zero");
        assert_eq!(amounts(10_000, &token(8, 8, None)), Some(50), "0.0001 of another token: half a percent");
    }

    #[test]
    fn a_price_below_the_finest_step_has_no_range() {
        assert_eq!(AmountRange::below(Units::new(1), &usd()), None);
        assert_eq!(AmountRange::below(Units::new(15), &token(18, 8, None)), None);
        assert_eq!(AmountRange::below(Units::ZERO, &usd()), None);
    }

    #[test]
    fn a_remainder_may_be_rounded_up_to_an_amount_that_can_be_shown() {
        let range = AmountRange::above(Units::new(1), &token(18, 8, None)).unwrap();
        let values: Vec<_> = range.grids().flat_map(|grid| grid.walk(0)).collect();
        assert_eq!(values, [Units::new(10_000_000_000)]);
    }

    proptest! {
        #[test]
        fn every_amount_lies_below_its_price_within_the_band(
            price in 1u128..=10_u128.pow(21), amount_decimals in 0u8..=6, seed: u64, is_usd: bool,
        ) {
            let token = token(6, amount_decimals, is_usd.then_some(Stable::Usd));
            let Some(range) = AmountRange::below(Units::new(price), &token) else { return Ok(()) };
            let finest = U256::from(10_u128.pow(u32::from(6 - amount_decimals)));
            for value in range.grids().flat_map(|grid| grid.walk(seed).take(500)) {
                prop_assert!(value.0 < U256::from(price) && !value.0.is_zero());
                let distance = U256::from(price) - value.0;
                let within = distance * U256::from(200) <= U256::from(price) || is_usd && distance <= U256::from(10_000);
                prop_assert!(within, "{value}");
                prop_assert_eq!(value.0 % finest, U256::ZERO);
            }
        }

        #[test]
        fn paying_an_amount_of_a_remainder_completes_it(
            missing in 1u128..=10_u128.pow(21), amount_decimals in 0u8..=6, seed: u64,
        ) {
            let token = token(6, amount_decimals, None);
            let range = AmountRange::above(Units::new(missing), &token).unwrap();
            let finest = U256::from(10_u128.pow(u32::from(6 - amount_decimals)));
            for value in range.grids().flat_map(|grid| grid.walk(seed).take(500)) {
                prop_assert!(value >= Units::new(missing));
                let excess = value.0 - U256::from(missing);
                prop_assert!(excess * U256::from(200) <= U256::from(missing) || excess < finest, "{value}");
            }
        }

        #[test]
        fn each_grid_gives_each_amount_once_and_the_last_all(price in 1u128..=5_000_000, seed: u64) {
            let Some(range) = AmountRange::below(Units::new(price), &usd()) else { return Ok(()) };
            let grids: Vec<_> = range.grids().collect();
            let last = all(*grids.last().unwrap(), seed);
            for grid in &grids {
                prop_assert!(all(*grid, seed).is_subset(&last));
            }
        }

        #[test]
        fn the_largest_amounts_do_not_overflow(high in 0u128.., decimals in 0u8..=80, amount_decimals in 0u8..=80, seed: u64) {
            let amount = Units(U256::MAX - U256::from(high));
            let token = token(decimals, amount_decimals, Some(Stable::Usd));
            for range in [AmountRange::below(amount, &token), AmountRange::above(amount, &token)].into_iter().flatten() {
                prop_assert!(range.grids().flat_map(|grid| grid.walk(seed).take(20)).count() > 0);
            }
        }
    }
}
