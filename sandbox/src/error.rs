//! What can go wrong with the stored chain itself, whoever asks.

use cryptopay_entity::txn::Restart;
use sea_orm::DbErr;

/// The simulated chain cannot be read or continued.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// The database.
    #[error("the database of the simulated chain: {0}")]
    Database(#[from] DbErr),
    /// Another process mined the block of this height at the same moment.
    #[error("block {0} was mined by another process at the same moment; try again")]
    Overtaken(i64),
    /// A stored row is not what this crate writes.
    #[error("a stored {what} of the simulated chain cannot be read: {source}")]
    Unreadable {
        /// Which kind of row.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A stored row lacks what its state needs.
    #[error("a stored {0} of the simulated chain is incomplete")]
    Incomplete(&'static str),
    /// A number that a column cannot hold.
    #[error("a number of the simulated chain is out of range")]
    OutOfRange,
    /// The payer's key could not sign.
    #[error("a payer of the simulated chain could not sign: {0}")]
    Signing(#[from] alloy::signers::Error),
}

impl Restart for SimulationError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Database(error) => error.is_conflict(),
            Self::Overtaken(_) => true,
            Self::Unreadable { .. } | Self::Incomplete(_) | Self::OutOfRange | Self::Signing(_) => false,
        }
    }
}

/// For a stored JSON text.
pub(crate) fn read<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T, SimulationError> {
    serde_json::from_str(text).map_err(|source| SimulationError::Unreadable { what, source })
}

/// For a value to be stored as JSON text.
pub(crate) fn written<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, SimulationError> {
    serde_json::to_string(value).map_err(|source| SimulationError::Unreadable { what, source })
}

/// For a column, which is signed.
pub(crate) fn column(number: impl TryInto<i64>) -> Result<i64, SimulationError> {
    number.try_into().map_err(|_| SimulationError::OutOfRange)
}

/// From a column that is never negative.
pub(crate) fn unsigned(number: i64) -> Result<u64, SimulationError> {
    u64::try_from(number).map_err(|_| SimulationError::OutOfRange)
}
