//! What an endpoint says of blocks that payments were read in: the hash that it names at each height, and which of the
//! transfers that we hold there its own receipts show.
//!
//! A block's hash vouches for its header and no more. Of a header, a log's amount is in the receipts' root alone, which is not
//! recomputed: its filter tells of addresses, and one that is full tells of nothing. A payment in coins is proven by the
//! transactions' root only where every transaction of its block is of a type that we can encode. So whoever reads a chain
//! could add transfers to real blocks, or make them larger; no other endpoint would show them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cryptopay_chain::{ChainError, Endpoint, Inclusion, ShownTransfer};
use cryptopay_domain::address::Hash;
use cryptopay_domain::ids::TransferId;
use cryptopay_domain::transfer::{Position, TransferState};
use cryptopay_entity::transfer;
use cryptopay_ledger::ToCheck;

use crate::context::ChainAccess;

/// Transactions in one question: bounds what is held in memory of receipts.
const TRANSACTIONS: usize = 20;

/// A block by height and hash.
pub(crate) type BlockId = (i64, Hash);

/// What an endpoint says of the blocks that it was asked about.
#[derive(Debug, Default)]
pub(crate) struct Named {
    hashes: BTreeMap<i64, Hash>,
    /// Transfers that are held to be in blocks which it names as we do, and that it does not show there.
    unshown: BTreeMap<BlockId, BTreeSet<TransferId>>,
}

impl Named {
    /// Asks an endpoint. Where somebody has a first answer and waits for this one, it gets no more than its usual time to name the
    /// blocks, and at least `least`. Receipts take the time that they take: whoever makes up a payment could make them large,
    /// so that the one who denies it seemed to be away.
    pub(crate) async fn by(
        access: &ChainAccess,
        endpoint: &Endpoint,
        asked: &ToCheck,
        least: Option<Duration>,
    ) -> Result<Self, ChainError> {
        let numbers: Vec<u64> = asked.blocks.iter().filter_map(|(number, _)| u64::try_from(*number).ok()).collect();
        let witness = match least {
            Some(least) => access.endpoints.witness_soon(endpoint, &numbers, least).await?,
            None => access.endpoints.witness(endpoint, &numbers).await?,
        };
        let blocks = witness.blocks.into_iter().flatten();
        let hashes = blocks.filter_map(|block| Some((i64::try_from(block.number).ok()?, block.hash))).collect();
        let mut named = Self { hashes, unshown: BTreeMap::new() };
        let mut transactions: BTreeMap<Hash, Vec<&transfer::Model>> = BTreeMap::new();
        for row in asked.transfers.iter().filter(|row| named.names(&block_of(row))) {
            transactions.entry(row.tx_hash).or_default().push(row);
        }
        let transactions: Vec<_> = transactions.into_iter().collect();
        for some in transactions.chunks(TRANSACTIONS) {
            let tx_hashes: Vec<Hash> = some.iter().map(|(tx_hash, _)| *tx_hash).collect();
            let inclusions = endpoint.ask(endpoint.client().inclusions(&tx_hashes)).await?;
            for ((_, rows), inclusion) in some.iter().zip(&inclusions) {
                named.compare(rows, inclusion.as_ref());
            }
        }
        Ok(named)
    }

    /// Notes which of a transaction's transfers are not shown. What is final was vouched for, and is asked about no more.
    fn compare(&mut self, rows: &[&transfer::Model], inclusion: Option<&Inclusion>) {
        for row in rows.iter().filter(|row| row.state == TransferState::Included) {
            let is_shown = inclusion.is_some_and(|inclusion| {
                inclusion.block_hash == row.block_hash && makes(inclusion, row, rows.iter().copied())
            });
            if !is_shown {
                self.unshown.entry(block_of(row)).or_default().insert(row.id);
            }
        }
    }

    /// Whether it names the block by this hash and shows all that we hold in it.
    pub(crate) fn holds(&self, block: &BlockId) -> bool {
        self.names(block) && !self.unshown.contains_key(block)
    }

    /// Whether it names the block by this hash.
    pub(crate) fn names(&self, (number, hash): &BlockId) -> bool {
        self.hashes.get(number) == Some(hash)
    }

    /// Whether it has a block at this height at all.
    pub(crate) fn knows(&self, (number, _): &BlockId) -> bool {
        self.hashes.contains_key(number)
    }

    /// The hash that it names at a height.
    pub(crate) fn hash(&self, number: i64) -> Option<Hash> {
        self.hashes.get(&number).copied()
    }

    /// What of this block it does not show.
    pub(crate) fn unshown_in(&self, block: &BlockId) -> impl Iterator<Item = TransferId> {
        self.unshown.get(block).into_iter().flatten().copied()
    }

    /// What it does not show, with the blocks.
    pub(crate) fn unshown(&self) -> impl Iterator<Item = (BlockId, TransferId)> {
        self.unshown.iter().flat_map(|(block, transfers)| transfers.iter().map(|id| (*block, *id)))
    }

    /// Whether it shows this transfer in this block, as far as it has said; it has not where it names another block.
    pub(crate) fn shows(&self, block: &BlockId, transfer: TransferId) -> Option<bool> {
        self.names(block).then(|| !self.unshown.get(block).is_some_and(|unshown| unshown.contains(&transfer)))
    }
}

/// Whether a transaction makes a transfer that is held to be its own; `rows` are all that it is held to make. It is found at its
/// place. Where that has changed, as when the transaction was mined again, there have to be as many of its kind as are held:
/// one that is shown once does not speak for two.
pub(crate) fn makes<'a>(
    inclusion: &Inclusion,
    row: &transfer::Model,
    rows: impl Iterator<Item = &'a transfer::Model>,
) -> bool {
    let is_alike = |shown: &&ShownTransfer| {
        (shown.asset, shown.from, shown.to, shown.units) == (row.asset, row.from_address, row.to_address, row.units)
    };
    let alike: Vec<Position> = inclusion.transfers.iter().filter(is_alike).map(|shown| shown.position).collect();
    if alike.contains(&row.position) {
        return true;
    }
    let content = |row: &transfer::Model| (row.asset, row.from_address, row.to_address, row.units);
    let held = rows.filter(|other| content(other) == content(row)).count();
    !alike.is_empty() && held <= alike.len()
}

/// The block that a transfer was read in.
pub(crate) fn block_of(row: &transfer::Model) -> BlockId {
    (row.block_number, row.block_hash)
}

#[cfg(test)]
mod tests {
    use cryptopay_domain::address::{AccountAddress, Asset};
    use cryptopay_domain::time::Timestamp;
    use cryptopay_domain::units::Units;

    use super::*;

    fn hash(byte: u8) -> Hash {
        Hash([byte; 32].into())
    }

    /// The block that everything is held in.
    fn block() -> BlockId {
        (5, hash(8))
    }

    /// An endpoint that names this hash at the block's height.
    fn naming(hash: Hash) -> Named {
        Named { hashes: BTreeMap::from([(5, hash)]), unshown: BTreeMap::new() }
    }

    fn held(id: i64, position: Position, units: u128) -> transfer::Model {
        let nobody = AccountAddress([0; 20].into());
        transfer::Model {
            id: TransferId(id),
            chain: "base".to_owned(),
            tx_hash: hash(7),
            position,
            generation: 0,
            log_index: None,
            block_number: 5,
            block_hash: hash(8),
            block_time: Timestamp::default(),
            from_address: nobody,
            to_address: nobody,
            asset: Asset::Native,
            units: Units::new(units),
            sender: nobody,
            sender_nonce: 0,
            gas_used: 0,
            gas_price: Units::ZERO,
            extra_fee: Units::ZERO,
            state: TransferState::Included,
            missing_since: None,
            unverifiable_reason: None,
            rechecked_at: None,
            allocated_units: Units::ZERO,
            evidence: "{}".to_owned(),
            wrong_asset_order_id: None,
            version: 1,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
        }
    }

    /// Which of the held ones a transaction makes that shows these.
    fn made(held: &[transfer::Model], shown: &[(Position, u128)]) -> Vec<bool> {
        let nobody = AccountAddress([0; 20].into());
        let show = |(position, units): &(Position, u128)| ShownTransfer {
            position: *position,
            asset: Asset::Native,
            from: nobody,
            to: nobody,
            units: Units::new(*units),
        };
        let transfers = shown.iter().map(show).collect();
        let inclusion = Inclusion { block_number: 5, block_hash: hash(8), succeeded: true, transfers };
        held.iter().map(|row| makes(&inclusion, row, held.iter())).collect()
    }

    #[test]
    fn what_is_shown_once_does_not_speak_for_two() {
        let (first, second) = (Position::Log(0), Position::Log(1));
        let one = [held(1, first, 25)];
        assert_eq!(made(&one, &[(first, 25)]), [true]);
        assert_eq!(made(&one, &[(first, 24)]), [false], "another amount");
        assert_eq!(made(&one, &[]), [false]);
        assert_eq!(made(&one, &[(first, 3), (second, 25)]), [true], "another place: mined again with a log before it");

        let two = [held(1, first, 25), held(2, second, 25)];
        assert_eq!(made(&two, &[(first, 25), (second, 25)]), [true, true]);
        assert_eq!(made(&two, &[(first, 25)]), [true, false]);
        assert_eq!(made(&two, &[(first, 3), (Position::Log(4), 25), (Position::Log(5), 25)]), [true, true]);
        assert_eq!(made(&two, &[(Position::Log(4), 25)]), [false, false], "nobody can say which of them it is");
    }

    #[test]
    fn who_names_another_block_or_none_shows_and_denies_nothing_there() {
        let rows = [held(1, Position::Native, 4)];
        let row: Vec<&transfer::Model> = rows.iter().collect();
        let block = block();
        let mut named = naming(hash(8));
        assert!(named.holds(&block) && named.shows(&block, TransferId(1)) == Some(true));
        named.compare(&row, None);
        assert!(named.names(&block) && !named.holds(&block) && named.shows(&block, TransferId(1)) == Some(false));

        let elsewhere = naming(hash(9));
        assert!(
            elsewhere.knows(&block) && !elsewhere.holds(&block) && elsewhere.shows(&block, TransferId(1)).is_none()
        );
        assert!(!Named::default().knows(&block) && Named::default().shows(&block, TransferId(1)).is_none());

        // What is final was vouched for before.
        let last = [transfer::Model { state: TransferState::Final, ..held(1, Position::Native, 4) }];
        let mut named = naming(hash(8));
        named.compare(&last.iter().collect::<Vec<_>>(), None);
        assert!(named.holds(&block));
    }
}
