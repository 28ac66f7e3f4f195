//! Addresses and assets as people and databases write them.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::{Address, B256, hex};
use serde::{Deserialize, Serialize};

macro_rules! hex_text {
    ($($(#[$doc:meta])* $name:ident($inner:ty));+ $(;)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
        #[cfg_attr(feature = "sea-orm", sea_orm(value_type = "String"))]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(pub $inner);

        impl FromStr for $name {
            type Err = InvalidHex;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if !text.starts_with("0x") {
                    return Err(InvalidHex);
                }
                text.parse().map(Self).map_err(|_| InvalidHex)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidHex;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )+};
}

/// A text that is not `0x` and the right number of hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 0x and the right number of hexadecimal digits")]
pub struct InvalidHex;

hex_text! {
    /// An account on an EVM chain. Written with its EIP-55 checksum.
    AccountAddress(Address);
    /// The hash of a block or transaction. Written in lower case.
    Hash(B256);
}

impl AccountAddress {
    /// Lower-case form, for keys that must not depend on the checksum's case.
    pub fn to_key(self) -> String {
        hex::encode_prefixed(self.0)
    }
}

impl fmt::Display for AccountAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_checksum(None))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Why an address that somebody sent is refused. The words go to the client as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Not an address at all.
    #[error("Enter an EVM address: 0x and 40 hexadecimal digits.")]
    Malformed,
    /// Mixed case that is not its EIP-55 checksum: most likely a typing error.
    #[error("The address's checksum (EIP-55) is wrong: compare it with your wallet, letter by letter.")]
    WrongChecksum,
    /// Nobody owns the zero address.
    #[error("The zero address belongs to nobody: what is sent there is lost.")]
    Zero,
}

/// Parses an address that will receive money: EIP-55 is checked where the text has both cases.
pub fn parse_receiving_address(text: &str) -> Result<AccountAddress, InvalidAddress> {
    let address: Address = match text.strip_prefix("0x") {
        Some(digits) if digits.len() == 40 => text.parse().map_err(|_| InvalidAddress::Malformed)?,
        _ => return Err(InvalidAddress::Malformed),
    };
    let mixed =
        text.bytes().skip(2).any(|b| b.is_ascii_lowercase()) && text.bytes().skip(2).any(|b| b.is_ascii_uppercase());
    if mixed && address.to_checksum(None) != text {
        return Err(InvalidAddress::WrongChecksum);
    }
    if address.is_zero() {
        return Err(InvalidAddress::Zero);
    }
    Ok(AccountAddress(address))
}

/// What is transferred: the chain's own coin, or a token by its contract. Stored as `native` or the contract's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
#[cfg_attr(feature = "sea-orm", sea_orm(value_type = "String"))]
#[serde(into = "String", try_from = "String")]
pub enum Asset {
    /// The chain's own coin.
    Native,
    /// An ERC-20 token, by contract.
    Token(AccountAddress),
}

impl fmt::Display for Asset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native => f.write_str("native"),
            Self::Token(contract) => contract.fmt(f),
        }
    }
}

impl FromStr for Asset {
    type Err = InvalidHex;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "native" { Ok(Self::Native) } else { text.parse().map(Self::Token) }
    }
}

impl TryFrom<String> for Asset {
    type Error = InvalidHex;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Asset> for String {
    fn from(asset: Asset) -> Self {
        asset.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_checked_where_there_is_one() {
        let right = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        assert_eq!(parse_receiving_address(right).unwrap().to_string(), right);
        assert!(parse_receiving_address(&right.to_lowercase()).is_ok());
        let wrong = "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
        assert_eq!(parse_receiving_address(wrong), Err(InvalidAddress::WrongChecksum));
    }

    #[test]
    fn what_cannot_receive_money_is_refused() {
        for text in
            ["", "0x", "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe", "0xé"]
        {
            assert_eq!(parse_receiving_address(text), Err(InvalidAddress::Malformed), "{text}");
        }
        assert_eq!(parse_receiving_address(&format!("0x{}", "0".repeat(40))), Err(InvalidAddress::Zero));
    }

    #[test]
    fn an_asset_reads_back_from_its_stored_form() {
        for asset in [Asset::Native, Asset::Token(AccountAddress(Address::repeat_byte(0xab)))] {
            assert_eq!(asset.to_string().parse(), Ok(asset));
        }
    }
}
