//! A chain of linked blocks in memory that can be mined, forked and looked at.

use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::{Block, ObservedTransfer, Position};
use cryptopay_domain::units::Units;

/// Height of the block that every fake chain begins with.
pub(crate) const GENESIS: i64 = 1_000;
/// Time of that block.
pub(crate) const GENESIS_SECS: u64 = 1_800_000_000;
/// Between two blocks.
pub(crate) const BLOCK_TIME: Duration = Duration::from_secs(2);

/// One transfer of a transaction that may be mined, and mined again elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payment {
    pub(crate) tx_hash: Hash,
    pub(crate) ordinal: u32,
    pub(crate) from: AccountAddress,
    pub(crate) to: AccountAddress,
    pub(crate) asset: Asset,
    pub(crate) units: Units,
    pub(crate) input: Arc<[u8]>,
    /// The sender's transaction count.
    pub(crate) nonce: u64,
}

impl Payment {
    fn position(&self) -> Position {
        match self.asset {
            Asset::Native => Position::Native,
            Asset::Token(_) => Position::Log(self.ordinal),
        }
    }
}

struct FakeBlock {
    block: Block,
    payments: Vec<Payment>,
}

/// The chain as an honest endpoint shows it.
pub(crate) struct FakeChain {
    blocks: Vec<FakeBlock>,
    /// Makes every block and transaction that was ever made another one.
    made: u64,
}

impl FakeChain {
    pub(crate) fn new() -> Self {
        let number = u64::try_from(GENESIS).unwrap();
        let block = Block { number, hash: hash(1), parent: hash(0), time: Timestamp::from_secs(GENESIS_SECS) };
        Self { blocks: vec![FakeBlock { block, payments: Vec::new() }], made: 1 }
    }

    pub(crate) fn tip(&self) -> Block {
        self.blocks.last().unwrap().block
    }

    pub(crate) fn block(&self, number: i64) -> Option<Block> {
        self.blocks.get(usize::try_from(number - GENESIS).ok()?).map(|held| held.block)
    }

    /// A block one block time after the tip.
    pub(crate) fn mine(&mut self, payments: &[Payment]) -> Block {
        self.mine_at(self.tip().time.plus(BLOCK_TIME), payments)
    }

    /// A block of this time.
    pub(crate) fn mine_at(&mut self, time: Timestamp, payments: &[Payment]) -> Block {
        let tip = self.tip();
        let block = Block { number: tip.number + 1, hash: self.next_hash(), parent: tip.hash, time };
        self.blocks.push(FakeBlock { block, payments: payments.to_vec() });
        block
    }

    /// A block that was taken away comes back.
    pub(crate) fn append(&mut self, block: Block, payments: &[Payment]) {
        assert_eq!(block.parent, self.tip().hash, "blocks are linked");
        self.blocks.push(FakeBlock { block, payments: payments.to_vec() });
    }

    /// Takes the newest `depth` blocks away and gives their payments, block by block.
    pub(crate) fn fork(&mut self, depth: usize) -> Vec<Vec<Payment>> {
        let keep = self.blocks.len().saturating_sub(depth).max(1);
        self.blocks.split_off(keep).into_iter().map(|held| held.payments).collect()
    }

    /// Every block above `number`, with the transfers in it as a scanner sees them.
    pub(crate) fn above(&self, number: i64) -> (Vec<Block>, Vec<ObservedTransfer>) {
        let above = |held: &&FakeBlock| i64::try_from(held.block.number).unwrap() > number;
        let held: Vec<&FakeBlock> = self.blocks.iter().filter(above).collect();
        (held.iter().map(|held| held.block).collect(), held.iter().flat_map(|held| observed(held)).collect())
    }

    /// Every transaction that stands in a block.
    pub(crate) fn transactions(&self) -> impl Iterator<Item = &Payment> {
        self.blocks.iter().flat_map(|held| &held.payments)
    }

    /// A hash that nothing else has.
    pub(crate) fn next_hash(&mut self) -> Hash {
        self.made += 1;
        hash(self.made)
    }
}

fn observed(held: &FakeBlock) -> Vec<ObservedTransfer> {
    let alike =
        |one: &Payment, other: &Payment| (one.tx_hash, one.asset, one.to) == (other.tx_hash, other.asset, other.to);
    let observe = |(index, payment): (usize, &Payment)| ObservedTransfer {
        tx_hash: payment.tx_hash,
        position: payment.position(),
        log_index: matches!(payment.asset, Asset::Token(_)).then(|| u64::try_from(index).unwrap()),
        block: held.block,
        from: payment.from,
        to: payment.to,
        asset: payment.asset,
        units: payment.units,
        sender: payment.from,
        sender_nonce: payment.nonce,
        gas_used: 60_000,
        gas_price: Units::new(1_000_000_000),
        extra_fee: Units::ZERO,
        input: payment.input.clone(),
        sole: held.payments.iter().filter(|other| alike(payment, other)).count() == 1,
    };
    held.payments.iter().enumerate().map(observe).collect()
}

pub(crate) fn hash(number: u64) -> Hash {
    format!("0x{number:064x}").parse().unwrap()
}

pub(crate) fn address(number: u64) -> AccountAddress {
    format!("0x{number:040x}").parse().unwrap()
}
