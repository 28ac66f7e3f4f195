//! Names of things. Inside, every row has a 64-bit key of its own type; outside, orders, deliveries and events also have
//! a prefixed text that nobody can guess. The entropy of such a text is handed in, so that the rules stay free of chance.

use std::fmt;
use std::str::FromStr;

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Serialize};

macro_rules! row_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
        #[cfg_attr(feature = "sea-orm", sea_orm(try_from_u64))]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

row_id! {
    /// A merchant's account.
    MerchantId,
    /// A login session's rotating token.
    RefreshTokenId,
    /// An API key.
    ApiKeyId,
    /// A merchant's wallet on one chain.
    WalletId,
    /// A claim on one address of one chain.
    ReceivingAddressId,
    /// A payment order.
    OrderId,
    /// A held amount.
    ReservationId,
    /// A transfer seen on a chain.
    TransferId,
    /// A share of a transfer given to an order.
    AllocationId,
    /// A committed event.
    EventId,
    /// A webhook endpoint.
    EndpointId,
    /// One event's way to one endpoint.
    DeliveryId,
}

/// Lower-case base 32 without padding (RFC 4648 alphabet).
fn base32() -> Encoding {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    // The alphabet above is valid; should it ever not be, hex is the honest fallback.
    specification.encoding().unwrap_or(data_encoding::HEXLOWER)
}

/// What is wrong with a public id that somebody sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the form of such an id")]
pub struct InvalidPublicId;

macro_rules! public_id {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $bytes:literal, $chars:literal);+ $(;)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
        #[cfg_attr(feature = "sea-orm", sea_orm(value_type = "String"))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// From bytes of a cryptographic random source.
            pub fn from_entropy(entropy: [u8; $bytes]) -> Self {
                let mut text = base32().encode(&entropy);
                text.truncate($chars);
                Self(format!("{}{text}", $prefix))
            }

            /// The id as it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidPublicId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let rest = text.strip_prefix($prefix).ok_or(InvalidPublicId)?;
                let valid = rest.len() == $chars && rest.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
                if valid { Ok(Self(text.to_owned())) } else { Err(InvalidPublicId) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidPublicId;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )+};
}

public_id! {
    /// An order as the world knows it: `ORD-` and twelve characters, 60 random bits.
    OrderRef, "ORD-", 8, 12;
    /// A delivery as the receiver knows it; the same over all retries.
    DeliveryRef, "wh_", 15, 24;
    /// An event as merchants know it.
    EventRef, "evt_", 15, 24;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_id_has_its_documented_form_and_reads_back() {
        let id = OrderRef::from_entropy([0xff; 8]);
        assert_eq!(id.as_str(), "ORD-777777777777");
        assert_eq!(id.as_str().parse(), Ok(id));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "ORD-", "ORD-77777777777", "ORD-7777777777777", "ord-777777777777", "ORD-77777777777é", "1"] {
            assert!(text.parse::<OrderRef>().is_err(), "{text}");
        }
    }
}
