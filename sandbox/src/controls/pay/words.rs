//! What is said of a payment that was sent: what happens next, and how to hasten it.

use std::time::Duration;

use cryptopay_domain::amount::format_units;
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::payment_order;

use crate::Scenario;
use crate::chain::replacing::away;

/// What comes later where a payment is spent twice.
const SPENT_ELSEWHERE: &str = "another transaction of the same nonce is mined that pays somebody else, so that the order has \
                               nothing and waits on";

/// What a payment is about.
pub(super) struct Said<'a> {
    pub(super) chain: &'a Chain,
    pub(super) order: &'a payment_order::Model,
    pub(super) scenario: Scenario,
    /// What was sent.
    pub(super) token: &'a Token,
    pub(super) parts: &'a [Units],
    /// Business time.
    pub(super) now: Timestamp,
}

impl Said<'_> {
    /// About how long the confirmation takes if nobody mines, in seconds of business time.
    pub(super) fn confirms_in_seconds(&self) -> u64 {
        let blocks = u32::try_from(self.order.required_confirmations).unwrap_or(u32::MAX);
        let confirming = self.chain.block_time.saturating_mul(blocks);
        let detour = match self.scenario.vanishes_unconfirmed() {
            true => self.chain.block_time.saturating_add(away(self.chain)),
            false => Duration::ZERO,
        };
        whole_seconds(confirming.saturating_add(detour))
    }

    /// What the scenario comes to, whoever mines; nothing where the payment is one as it should be.
    pub(super) fn outcome(&self) -> String {
        let away = whole_seconds(away(self.chain));
        let sums = || self.parts.iter().map(|units| self.amount(*units)).collect::<Vec<_>>().join(" and ");
        let mut said = match self.scenario {
            Scenario::Twice => format!("Two transactions pay {}: the order is overpaid, and says so.", sums()),
            Scenario::Split => format!("Two transactions pay {}, and count together.", sums()),
            Scenario::WrongToken => format!(
                "The payment of {} is no {}, so it pays no order: you are told of it as transfer.unmatched, and the order \
                 waits on.",
                sums(),
                self.order.currency
            ),
            Scenario::Batch => "One transaction pays this order and two others who are none of yours.".to_owned(),
            Scenario::ReorgAfterConfirmation => format!(
                "Once the gateway has confirmed the order, a reorganisation takes the payment's block away: the order \
                 becomes reorged. {away} s later the same transaction is mined again, and the order is confirmed anew. To \
                 hasten that, POST /api/sandbox/blockchains/{slug}/mine/ when the order is confirmed; when it is reorged, \
                 POST /api/sandbox/clock/advance/ with {{\"seconds\": {away}}}, then mine again.",
                slug = self.chain.slug
            ),
            _ => String::new(),
        };
        let late = if self.now > self.order.monitor_until {
            "The gateway no longer looks for payments of this order."
        } else if self.now > self.order.in_time_until {
            "The order's deadline is over, so the payment is late."
        } else {
            return said;
        };
        if !said.is_empty() {
            said.push(' ');
        }
        said.push_str(late);
        said
    }

    /// What happens next, and how to hasten it.
    pub(super) fn message(&self) -> String {
        let Chain { name, slug, .. } = self.chain;
        let blocks = self.order.required_confirmations;
        let seconds = self.confirms_in_seconds();
        if self.scenario.vanishes_unconfirmed() {
            return self.vanishing();
        }
        let (subject, pronoun) =
            if self.parts.len() > 1 { ("The payments go", "are") } else { ("The payment goes", "is") };
        let mut said = format!(
            "{subject} into the next block of {name} and {pronoun} confirmed by {blocks} blocks, in about {seconds} s. To \
             hasten that, POST /api/sandbox/blockchains/{slug}/mine/."
        );
        let outcome = self.outcome();
        if !outcome.is_empty() {
            said.push(' ');
            said.push_str(&outcome);
        }
        said
    }

    /// Of a payment whose block is taken away before it is confirmed.
    fn vanishing(&self) -> String {
        let Chain { name, slug, .. } = self.chain;
        let blocks = self.order.required_confirmations;
        let away = whole_seconds(away(self.chain));
        let later = match self.scenario {
            Scenario::Replaced => format!(
                "another transaction of the same nonce is mined that makes the same payment, and then confirmed by {blocks} \
                 blocks"
            ),
            Scenario::DoubleSpend => SPENT_ELSEWHERE.to_owned(),
            _ => format!("the same transaction is mined again, and then confirmed by {blocks} blocks"),
        };
        format!(
            "The payment is in a block of {name}. As soon as the gateway has seen it there, a reorganisation takes that \
             block away; {away} s later {later}. To hasten that, wait for the order to fall back, POST \
             /api/sandbox/clock/advance/ with {{\"seconds\": {away}}}, then POST /api/sandbox/blockchains/{slug}/mine/."
        )
    }

    fn amount(&self, units: Units) -> String {
        format!("{} {}", format_units(units, self.token.decimals), self.token.symbol)
    }
}

/// Rounded up.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}
