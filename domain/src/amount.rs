//! Amounts as people write them, and their way to base units and back.

use alloy_primitives::U256;

use crate::units::Units;

/// A positive decimal number below 10^15, kept with the text it was sent as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount {
    text: String,
    digits: U256,
    scale: u8,
}

/// Why a text is no amount. The words go to the client as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    /// Not digits with at most one point between them.
    #[error("Enter a plain decimal number, such as \"100.00\".")]
    NotPlainDecimal,
    /// Zero.
    #[error("Enter an amount greater than 0.")]
    NotPositive,
    /// 10^15 or more.
    #[error("Enter an amount below 1000000000000000 (10^15).")]
    TooLarge,
    /// More decimals than the token has.
    #[error("This token has at most {decimals} decimals.")]
    TooManyDecimals {
        /// Decimals of the token.
        decimals: u8,
    },
}

/// Digits before the point that an amount may have: below 10^15.
const MAX_WHOLE_DIGITS: usize = 15;
/// Digits after the point that any registered token may have.
const MAX_SCALE: usize = 36;

impl Amount {
    /// Parses a plain decimal: digits, and a point with digits after it if wanted. No sign, no exponent, no blanks.
    pub fn parse(text: &str) -> Result<Self, InvalidAmount> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(InvalidAmount::NotPlainDecimal),
            Some(parts) => parts,
            None => (text, ""),
        };
        let plain = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) {
            return Err(InvalidAmount::NotPlainDecimal);
        }
        if whole.trim_start_matches('0').len() > MAX_WHOLE_DIGITS {
            return Err(InvalidAmount::TooLarge);
        }
        let Some(scale) = u8::try_from(fraction.len()).ok().filter(|scale| usize::from(*scale) <= MAX_SCALE) else {
            return Err(InvalidAmount::TooManyDecimals { decimals: 36 });
        };
        if whole.len() > 64 {
            return Err(InvalidAmount::NotPlainDecimal);
        }
        let digits =
            U256::from_str_radix(&format!("{whole}{fraction}"), 10).map_err(|_| InvalidAmount::NotPlainDecimal)?;
        if digits.is_zero() {
            return Err(InvalidAmount::NotPositive);
        }
        Ok(Self { text: text.to_owned(), digits, scale })
    }

    /// The text as it was sent, scale and all.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same amount in base units of a token with `decimals`. Trailing zeros beyond them do no harm.
    pub fn to_units(&self, decimals: u8) -> Result<Units, InvalidAmount> {
        let too_many = InvalidAmount::TooManyDecimals { decimals };
        if self.scale <= decimals {
            let factor = power_of_ten(decimals.saturating_sub(self.scale)).ok_or(InvalidAmount::TooLarge)?;
            return self.digits.checked_mul(factor).map(Units).ok_or(InvalidAmount::TooLarge);
        }
        let factor = power_of_ten(self.scale.saturating_sub(decimals)).ok_or(too_many)?;
        let (units, rest) = self.digits.div_rem(factor);
        if rest.is_zero() && !units.is_zero() { Ok(Units(units)) } else { Err(too_many) }
    }
}

/// 10^`exponent`, or `None` beyond 2^256 − 1.
pub(crate) fn power_of_ten(exponent: u8) -> Option<U256> {
    U256::from(10u8).checked_pow(U256::from(exponent))
}

/// Writes base units as people read them: at least two decimals (fewer if the token has fewer), no further trailing zeros.
pub fn format_units(units: Units, decimals: u8) -> String {
    let digits = units.0.to_string();
    let decimals = usize::from(decimals);
    let padded = format!("{digits:0>width$}", width = decimals.saturating_add(1));
    let (whole, fraction) = padded.split_at(padded.len().saturating_sub(decimals));
    let mut fraction = fraction.trim_end_matches('0').to_owned();
    while fraction.len() < 2.min(decimals) {
        fraction.push('0');
    }
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

/// A decimal amount without trailing zeros. Equal amounts have equal texts, also in assets with different decimals.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
pub struct DecimalAmount(String);

impl DecimalAmount {
    /// The decimal amount of base units of an asset with `decimals`.
    pub fn new(units: Units, decimals: u8) -> Self {
        let text = format_units(units, decimals);
        let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        Self(trimmed.to_owned())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for DecimalAmount {
    /// A stored decimal amount.
    fn from(stored: &str) -> Self {
        Self(stored.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_amounts_of_assets_with_other_decimals_are_equal() {
        for (units, decimals, text) in [
            (100_000_000, 6, "100"),
            (100_000_000_000_000_000_000, 18, "100"),
            (100, 0, "100"),
            (99_987_600, 6, "99.9876"),
            (1, 18, "0.000000000000000001"),
            (0, 6, "0"),
        ] {
            assert_eq!(DecimalAmount::new(Units::new(units), decimals).as_str(), text);
        }
    }

    #[test]
    fn an_amount_keeps_the_text_it_was_sent_as() {
        let amount = Amount::parse("100.00").unwrap();
        assert_eq!(amount.as_str(), "100.00");
        assert_eq!(amount.to_units(6), Ok(Units::new(100_000_000)));
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in
            ["", ".", "1.", ".5", "-1", "+1", "1e5", "NaN", "inf", "0x10", "1,5", " 1", "1 ", "1.2.3", "١", "1_000"]
        {
            assert_eq!(Amount::parse(text), Err(InvalidAmount::NotPlainDecimal), "{text:?}");
        }
        assert_eq!(Amount::parse("0.00"), Err(InvalidAmount::NotPositive));
        assert_eq!(Amount::parse("1000000000000000"), Err(InvalidAmount::TooLarge));
        assert_eq!(Amount::parse(&"9".repeat(60)), Err(InvalidAmount::TooLarge));
        assert!(Amount::parse("999999999999999.999999").is_ok());
    }

    #[test]
    fn more_decimals_than_the_token_has_are_refused_unless_they_are_zeros() {
        let error = Err(InvalidAmount::TooManyDecimals { decimals: 6 });
        assert_eq!(Amount::parse("1.0000001").unwrap().to_units(6), error);
        assert_eq!(Amount::parse("0.0000000").map_err(|e| e.to_string()), Err(InvalidAmount::NotPositive.to_string()));
        assert_eq!(Amount::parse("1.0000000").unwrap().to_units(6), Ok(Units::new(1_000_000)));
    }

    #[test]
    fn computed_amounts_have_two_decimals_and_no_further_zeros() {
        for (units, decimals, text) in [
            (100_000_000, 6, "100.00"),
            (99_987_600, 6, "99.9876"),
            (0, 6, "0.00"),
            (1, 18, "0.000000000000000001"),
            (5, 0, "5"),
            (15, 1, "1.5"),
        ] {
            assert_eq!(format_units(Units::new(units), decimals), text);
        }
    }

    proptest! {
        #[test]
        fn units_survive_their_way_to_text_and_back(units in 1u128..=1_000_000_000_000_000_000_000, decimals in 0u8..=18) {
            let text = format_units(Units::new(units), decimals);
            if let Ok(amount) = Amount::parse(&text) {
                prop_assert_eq!(amount.to_units(decimals), Ok(Units::new(units)));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
            let _ = Amount::parse(&text).map(|amount| amount.to_units(6));
        }
    }
}
