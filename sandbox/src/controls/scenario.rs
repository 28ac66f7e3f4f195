//! The ways in which a customer may pay.

use std::fmt;
use std::str::FromStr;

use cryptopay_domain::text::UnknownWord;

/// How an order is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scenario {
    /// What is due.
    #[default]
    Exact,
    /// Less than what is due.
    Underpay,
    /// More than what is due.
    Overpay,
    /// After the deadline.
    Late,
    /// In a block that a reorganisation takes away before the payment is confirmed; later the same transaction is mined
    /// again.
    ReorgBeforeConfirmation,
}

impl Scenario {
    /// Every scenario, in the order of declaration.
    pub const ALL: [Self; 5] = [Self::Exact, Self::Underpay, Self::Overpay, Self::Late, Self::ReorgBeforeConfirmation];

    /// The word that stands for it in requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Underpay => "underpay",
            Self::Overpay => "overpay",
            Self::Late => "late",
            Self::ReorgBeforeConfirmation => "reorg_before_confirmation",
        }
    }

    /// Whether the payment names its order by reference where nobody says: the plain case shows that the amount alone
    /// is enough.
    pub const fn has_reference_by_default(self) -> bool {
        !matches!(self, Self::Exact)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scenario {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|scenario| scenario.as_str() == text)
            .ok_or_else(|| UnknownWord { allowed: Self::ALL.map(Self::as_str).join(", ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_reads_back_from_its_word_and_others_are_listed() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.as_str().parse(), Ok(scenario));
        }
        let error = "teleport".parse::<Scenario>().unwrap_err();
        assert_eq!(error.to_string(), "must be one of: exact, underpay, overpay, late, reorg_before_confirmation");
    }
}
