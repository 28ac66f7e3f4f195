//! The search for free amounts of an address.

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::amount::DecimalAmount;
use cryptopay_domain::reservation::{AmountRange, Grid, PROBES};
use cryptopay_domain::units::Units;
use cryptopay_entity::amount_reservation;
use sea_orm::ConnectionTrait;

use crate::error::{LedgerError, Refusal};

/// Amounts that are looked up in one statement once probing has found none.
const PIECE: usize = 500;
/// Most amounts of the finest grid that are looked up. They are spread over the whole grid: if each of so many is taken,
/// hardly any is free.
const MOST: usize = 10_000;
/// Share of a finest grid, in percent, above which its use is logged.
const WARNING_PERCENT: usize = 70;

/// Amounts with their decimal form, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probes(Vec<(Units, DecimalAmount)>);

impl Probes {
    /// The first amounts of a grid.
    pub(crate) fn of(grid: &Grid, seed: u64, decimals: u8) -> Self {
        Self::from_units(grid.walk(seed).take(PROBES), decimals)
    }

    fn from_units(units: impl Iterator<Item = Units>, decimals: u8) -> Self {
        Self(units.map(|units| (units, DecimalAmount::new(units, decimals))).collect())
    }

    /// Their decimal amounts.
    pub(crate) fn amounts(&self) -> impl Iterator<Item = &DecimalAmount> {
        self.0.iter().map(|(_, amount)| amount)
    }

    /// The amounts that are not `taken`.
    pub(crate) fn without(&self, taken: &[DecimalAmount]) -> Probed {
        let free = self.0.iter().filter(|(_, amount)| !taken.contains(amount)).map(|(units, _)| *units);
        Probed { free: free.collect(), looked_up: self.0.len() }
    }

    /// Looks them up at an address.
    async fn look_up(&self, connection: &impl ConnectionTrait, address: AccountAddress) -> Result<Probed, LedgerError> {
        let amounts: Vec<DecimalAmount> = self.amounts().cloned().collect();
        let taken = amount_reservation::Entity::taken(connection, address, &amounts).await?;
        Ok(self.without(&taken.into_iter().collect::<Vec<_>>()))
    }
}

/// Free amounts among those that were looked up.
#[derive(Debug, Clone)]
pub(crate) struct Probed {
    free: Vec<Units>,
    looked_up: usize,
}

impl Probed {
    /// Reports whether more than half of the amounts are free: an estimate for the grid that they are a sample of.
    fn is_mostly_free(&self) -> bool {
        self.free.len().saturating_mul(2) > self.looked_up
    }

    fn used_percent(&self) -> usize {
        let used = self.looked_up.saturating_sub(self.free.len());
        used.saturating_mul(100).checked_div(self.looked_up).unwrap_or(0)
    }
}

/// Free amounts of a range, at least one. `first` is the coarsest grid's sample, if it was looked up before. A grid that is
/// half used gives way to the next finer one.
///
/// # Errors
/// [`Refusal::NoFreeAmount`] if no amount is free.
pub(crate) async fn free(
    connection: &impl ConnectionTrait,
    address: AccountAddress,
    range: AmountRange,
    decimals: u8,
    seed: u64,
    mut first: Option<Probed>,
) -> Result<Vec<Units>, LedgerError> {
    for grid in range.grids() {
        let probed = match first.take() {
            Some(probed) => probed,
            None => Probes::of(&grid, seed, decimals).look_up(connection, address).await?,
        };
        if probed.is_mostly_free() {
            return Ok(probed.free);
        }
        if grid.is_finest() {
            let used = probed.used_percent();
            if used >= WARNING_PERCENT {
                tracing::warn!(%address, used_percent = used, "most amounts near a price are taken at this address");
            }
            return if probed.free.is_empty() {
                search(connection, address, &grid, decimals, seed).await
            } else {
                Ok(probed.free)
            };
        }
    }
    Err(Refusal::NoFreeAmount.into())
}

/// Walks through a grid of which every probe is taken.
async fn search(
    connection: &impl ConnectionTrait,
    address: AccountAddress,
    grid: &Grid,
    decimals: u8,
    seed: u64,
) -> Result<Vec<Units>, LedgerError> {
    let amounts: Vec<Units> = grid.walk(seed).take(MOST).collect();
    for piece in amounts.chunks(PIECE) {
        let probed = Probes::from_units(piece.iter().copied(), decimals).look_up(connection, address).await?;
        if !probed.free.is_empty() {
            return Ok(probed.free);
        }
    }
    Err(Refusal::NoFreeAmount.into())
}
