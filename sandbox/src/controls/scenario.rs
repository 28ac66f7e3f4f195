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
    /// What is due, by each of two transactions.
    Twice,
    /// What is due, by two transactions together.
    Split,
    /// After the deadline.
    Late,
    /// The same number of another token of the chain.
    WrongToken,
    /// In a block that a reorganisation takes away before the payment is confirmed; later the same payment is mined by
    /// another transaction of the same nonce.
    Replaced,
    /// In a block that a reorganisation takes away before the payment is confirmed; later the same transaction is mined
    /// again.
    ReorgBeforeConfirmation,
    /// The same, after the payment was confirmed.
    ReorgAfterConfirmation,
    /// In a block that a reorganisation takes away before the payment is confirmed; later a transaction of the same nonce
    /// pays somebody else.
    DoubleSpend,
    /// By a transaction that pays others too.
    Batch,
}

impl Scenario {
    /// Every scenario, in the order of declaration.
    pub const ALL: [Self; 12] = [
        Self::Exact,
        Self::Underpay,
        Self::Overpay,
        Self::Twice,
        Self::Split,
        Self::Late,
        Self::WrongToken,
        Self::Replaced,
        Self::ReorgBeforeConfirmation,
        Self::ReorgAfterConfirmation,
        Self::DoubleSpend,
        Self::Batch,
    ];

    /// The word that stands for it in requests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Underpay => "underpay",
            Self::Overpay => "overpay",
            Self::Twice => "twice",
            Self::Split => "split",
            Self::Late => "late",
            Self::WrongToken => "wrong_token",
            Self::Replaced => "replaced",
            Self::ReorgBeforeConfirmation => "reorg_before_confirmation",
            Self::ReorgAfterConfirmation => "reorg_after_confirmation",
            Self::DoubleSpend => "double_spend",
            Self::Batch => "batch",
        }
    }

    /// Whether the payment names its order by reference where nobody says: the plain case shows that the amount alone
    /// is enough.
    pub const fn has_reference_by_default(self) -> bool {
        !matches!(self, Self::Exact)
    }

    /// Whether a reorganisation takes the payment away before it is confirmed. Its blocks are mined step by step then.
    pub const fn vanishes_unconfirmed(self) -> bool {
        matches!(self, Self::Replaced | Self::ReorgBeforeConfirmation | Self::DoubleSpend)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Scenario> for &'static str {
    fn from(scenario: Scenario) -> Self {
        scenario.as_str()
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
        assert_eq!(
            error.to_string(),
            "must be one of: exact, underpay, overpay, twice, split, late, wrong_token, replaced, \
             reorg_before_confirmation, reorg_after_confirmation, double_spend, batch"
        );
    }
}
