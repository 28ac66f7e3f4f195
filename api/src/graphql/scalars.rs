//! Scalars: texts with a form, so that no client's number type can round them.

use std::str::FromStr;

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use cryptopay_domain::address;
use cryptopay_domain::time::Timestamp;

/// Declares a scalar that is written as a text and read from one.
macro_rules! text_scalars {
    ($($(#[doc = $doc:literal])+ $name:ident($inner:ty) = $scalar:literal, $form:literal;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(super) struct $name(pub(super) $inner);

        $(#[doc = $doc])+
        #[Scalar(name = $scalar)]
        impl ScalarType for $name {
            fn parse(value: Value) -> InputValueResult<Self> {
                match value {
                    Value::String(text) => match <$inner>::from_str(&text) {
                        Ok(inner) => Ok(Self(inner)),
                        Err(_) => Err(InputValueError::custom(concat!("send ", $form, "."))),
                    },
                    _ => Err(InputValueError::custom(concat!("send a string: ", $form, "."))),
                }
            }

            fn to_value(&self) -> Value {
                Value::String(self.0.to_string())
            }
        }
    )+};
}

text_scalars! {
    /// An amount of money as a decimal string in units of its currency, such as "100.00". Never in exponent form; compare
    /// as decimals, not as texts.
    Decimal(String) = "Decimal", "a decimal such as \"100.00\"";
    /// A moment: RFC 3339, such as "2026-01-31T12:00:00Z". Answers are in UTC and whole seconds.
    DateTime(Timestamp) = "DateTime", "a time in RFC 3339 form, such as \"2026-01-31T12:00:00Z\"";
    /// An account on an EVM chain: 0x and 40 hexadecimal digits, written with the EIP-55 checksum.
    Address(address::AccountAddress) = "Address", "0x and 40 hexadecimal digits";
    /// The hash of a transaction: 0x and 64 hexadecimal digits in lower case.
    Hash(address::Hash) = "Hash", "0x and 64 hexadecimal digits";
    /// A string that holds JSON, byte for byte as it was sent.
    Json(String) = "JSON", "a string that holds JSON";
}

/// Declares a scalar for whole numbers from 0 to 2^63−1.
macro_rules! number_scalars {
    ($($(#[doc = $doc:literal])+ $name:ident;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) struct $name(pub(super) i64);

        $(#[doc = $doc])+
        #[Scalar]
        impl ScalarType for $name {
            fn parse(value: Value) -> InputValueResult<Self> {
                whole_number(&value).map(Self).ok_or_else(|| {
                    InputValueError::custom("send digits in a string, such as \"17\": 0 to 9223372036854775807.")
                })
            }

            fn to_value(&self) -> Value {
                Value::String(self.0.to_string())
            }
        }
    )+};
}

number_scalars! {
    /// Your number of an order: 0 to 2^63−1, as a string, since many clients round numbers above 2^53. A number is
    /// understood too.
    Nonce;
    /// The place of an event in the order in which events become visible: 1, 2, 3 … without gaps, up to 2^63−1; 0 stands
    /// before all of them. A string, since many clients round numbers above 2^53. A number is understood too.
    Sequence;
}

fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::String(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        Value::Number(number) => number.as_i64().filter(|number| *number >= 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sequence_is_read_from_digits_and_from_a_number_and_from_nothing_else() {
        for value in [Value::from("17"), Value::from(17)] {
            assert_eq!(Sequence::parse(value).ok(), Some(Sequence(17)));
        }
        for text in ["", "-1", "+1", "1.0", " 1", "1e3", "9223372036854775808", "0x1"] {
            assert!(Sequence::parse(Value::from(text)).is_err(), "{text}");
        }
        for value in [Value::from(-1), Value::from(1.5), Value::Null, Value::from(true)] {
            assert!(Sequence::parse(value).is_err());
        }
    }

    proptest! {
        #[test]
        fn every_nonce_reads_back_from_what_is_written(number in 0..=i64::MAX) {
            prop_assert_eq!(Nonce::parse(Nonce(number).to_value()).ok(), Some(Nonce(number)));
        }

        #[test]
        fn no_text_makes_a_scalar_panic(text in ".{0,40}") {
            let value = Value::from(text);
            let _ = (Nonce::parse(value.clone()), DateTime::parse(value.clone()), Hash::parse(value.clone()));
            let _ = Address::parse(value);
        }
    }
}
