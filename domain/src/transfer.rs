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
    /// A log whose ordinal is not known, by its index in the block: the place of a transfer that cannot be verified.
    Unknown(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(ordinal) => ordinal.fmt(f),
            Self::Native => f.write_str("native"),
            Self::Unknown(log_index) => write!(f, "{UNKNOWN}{log_index}"),
        }
    }
}

/// Prefix of a position whose ordinal is not known.
const UNKNOWN: &str = "index:";

/// A text that names no position in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Enter a position as transfers[] shows it: a log's ordinal, or \"native\".")]
pub struct InvalidPosition;

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(UNKNOWN) {
            Some(log_index) => log_index.parse().map(Self::Unknown),
            None if text == "native" => Ok(Self::Native),
            None => text.parse().map(Self::Log),
        }
        .map_err(|_| InvalidPosition)
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

/// A transfer that an endpoint reports and whose evidence is missing, unreadable or contradicts it. It never counts for an
/// order until it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiableTransfer {
    /// Hash of the transaction.
    pub tx_hash: Hash,
    /// [`Position::Unknown`] for a log, since only the receipt shows its ordinal.
    pub position: Position,
    /// Block-wide index of the log.
    pub log_index: Option<u64>,
    /// The block that is said to hold it.
    pub block: Block,
    /// Payer, as reported.
    pub from: AccountAddress,
    /// Recipient.
    pub to: AccountAddress,
    /// Asset, as reported.
    pub asset: Asset,
    /// Amount in base units, as reported.
    pub units: Units,
    /// The fault of the evidence, without secrets.
    pub reason: String,
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
        /// Reported without evidence that holds: set aside with its reason, never money until it is verified.
        Unverifiable = "unverifiable",
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
            Self::Missing | Self::Included | Self::Unverifiable => TransactionStatus::Pending,
            Self::Orphaned => TransactionStatus::Failed,
        }
    }

    /// Reports whether the transfer can belong to no order: it is gone, or cannot be verified.
    pub fn is_without_effect(self) -> bool {
        matches!(self, Self::Orphaned | Self::Unverifiable)
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
