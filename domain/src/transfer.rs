//! A transfer: a fact about a chain, told in values that no transport knows about.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::address::{AccountAddress, Asset, Hash};
use crate::text::words;
use crate::time::Timestamp;
use crate::units::Units;

/// What the gateway keeps of a block: enough to link it to its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// Height.
    pub number: u64,
    /// Hash of the header.
    pub hash: Hash,
    /// Hash of the block below.
    pub parent: Hash,
    /// The header's time.
    pub time: Timestamp,
}

/// Where in its transaction a transfer happened. Unlike the block-wide log index, this survives being mined again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
#[cfg_attr(feature = "sea-orm", sea_orm(value_type = "String"))]
pub enum Position {
    /// Ordinal of the log among the logs of its own transaction's receipt, from 0.
    Log(u32),
    /// The transaction's own value.
    Native,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(ordinal) => ordinal.fmt(f),
            Self::Native => f.write_str("native"),
        }
    }
}

/// A text that names no position in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Enter a position as transfers[] shows it: a log's ordinal, or \"native\".")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "native" { Ok(Self::Native) } else { text.parse().map(Self::Log).map_err(|_| InvalidPosition) }
    }
}

/// One transfer of a registered asset as a verified block shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedTransfer {
    /// Hash of the transaction.
    pub tx_hash: Hash,
    /// Place inside the transaction.
    pub position: Position,
    /// Block-wide index of the log; changes when the transaction is mined again.
    pub log_index: Option<u64>,
    /// The block that holds it.
    pub block: Block,
    /// Whose balance went down.
    pub from: AccountAddress,
    /// Whose balance went up.
    pub to: AccountAddress,
    /// What moved.
    pub asset: Asset,
    /// How much of it, in base units.
    pub units: Units,
    /// Who signed the transaction.
    pub sender: AccountAddress,
    /// The sender's transaction count: what a replacement shares with what it replaces.
    pub sender_nonce: u64,
    /// Gas used by the transaction.
    pub gas_used: u64,
    /// Effective price of a unit of gas, in wei.
    pub gas_price: Units,
    /// What the transaction cost its sender, in wei, where the chain's receipt says so beyond gas × price (L1 data fee).
    pub extra_fee: Units,
    /// The transaction's input data, from which references are read: one copy for all transfers of a transaction, of which
    /// there may be thousands.
    pub input: Arc<[u8]>,
    /// Whether this is the only transfer of this asset to this address in its transaction.
    pub sole: bool,
}

words! {
    /// How much a stored transfer can be relied on.
    TransferState {
        /// In a canonical block that we hold by number and hash, receipt succeeded.
        Included = "included",
        /// Beyond any reorganisation.
        Final = "final",
        /// Not found at its block once.
        Missing = "missing",
        /// A second look agreed that it is gone: counts zero. May be included again.
        Orphaned = "orphaned",
    }
}

words! {
    /// The documented status of a transaction.
    TransactionStatus {
        /// Not deep enough yet.
        Pending = "pending",
        /// Deep enough for its order, or final.
        Confirmed = "confirmed",
        /// Gone.
        Failed = "failed",
    }
}

impl TransferState {
    /// The documented status, given whether the transfer is deep enough for its order (or the chain's default).
    pub fn status(self, deep: bool) -> TransactionStatus {
        match self {
            Self::Final => TransactionStatus::Confirmed,
            Self::Included if deep => TransactionStatus::Confirmed,
            Self::Missing | Self::Included => TransactionStatus::Pending,
            Self::Orphaned => TransactionStatus::Failed,
        }
    }

    /// Whether the transfer stands in a block that we hold.
    pub fn is_in_block(self) -> bool {
        matches!(self, Self::Included | Self::Final)
    }
}

/// Confirmations of a block at `height`: 1 for the newest block itself, 0 for one above the verified height.
pub fn confirmations(block_number: u64, height: u64) -> u64 {
    height.checked_sub(block_number).map_or(0, |below| below.saturating_add(1))
}
