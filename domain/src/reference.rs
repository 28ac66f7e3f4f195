//! Payment references: sixteen bytes that a wallet button appends to a transaction, so that the payment names its order.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::hex;
use serde::{Deserialize, Serialize};

/// Stands before every reference: the first eight bytes of keccak256("CryptoPay payment reference v1"). Eight bytes make
/// it as good as impossible that other data looks like one by chance.
pub const MARKER: [u8; 8] = [0xdd, 0x13, 0x1e, 0x57, 0xcf, 0xe9, 0xd0, 0x9a];

/// Most references that are read from one transaction. More is noise.
const MAX_REFERENCES: usize = 64;

/// An order's reference, from a cryptographic random source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
#[cfg_attr(feature = "sea-orm", sea_orm(value_type = "String"))]
#[serde(into = "String", try_from = "String")]
pub struct Reference(pub [u8; 16]);

impl Reference {
    /// What a wallet appends to the transaction's input.
    pub fn calldata(&self) -> Vec<u8> {
        [MARKER.as_slice(), &self.0].concat()
    }
}

/// Every distinct reference anywhere in a transaction's input: a smart account wraps the call, so that it need not be
/// at the end.
pub fn find_references(input: &[u8]) -> Vec<Reference> {
    let mut found = Vec::new();
    for window in input.windows(MARKER.len().saturating_add(16)) {
        let Some(rest) = window.strip_prefix(&MARKER) else { continue };
        let Ok(bytes) = <[u8; 16]>::try_from(rest) else { continue };
        let reference = Reference(bytes);
        if !found.contains(&reference) {
            found.push(reference);
        }
        if found.len() == MAX_REFERENCES {
            break;
        }
    }
    found
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A text that is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 32 hexadecimal digits")]
pub struct InvalidReference;

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = hex::decode(text).map_err(|_| InvalidReference)?;
        bytes.try_into().map(Self).map_err(|_| InvalidReference)
    }
}

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_marker_is_what_its_documentation_says() {
        let hash = alloy_primitives::keccak256("CryptoPay payment reference v1");
        assert_eq!(hash[..8], MARKER);
    }

    proptest! {
        #[test]
        fn a_reference_is_found_wherever_it_stands(before in prop::collection::vec(any::<u8>(), 0..200), bytes: [u8; 16], after in prop::collection::vec(any::<u8>(), 0..200)) {
            let reference = Reference(bytes);
            let input = [before, reference.calldata(), after].concat();
            prop_assert!(find_references(&input).contains(&reference));
        }
    }
}
