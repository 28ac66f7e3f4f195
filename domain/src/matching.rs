//! Which order a transfer pays. The strongest evidence decides; what is ambiguous goes to the inbox, never to a guess.

use serde::{Deserialize, Serialize};

use crate::ids::{OrderId, OrderRef};
use crate::text::words;
use crate::time::Timestamp;
use std::time::Duration;

words! {
    /// How a transfer found its order.
    Method {
        /// The transaction carries the order's reference.
        Reference = "reference",
        /// The address was handed to this order only.
        ExclusiveAddress = "exclusive_address",
        /// The sender signed for it.
        Claim = "claim",
        /// The amount is this order's alone.
        ExactAmount = "exact_amount",
        /// It was the only order that came into question.
        LoneCandidate = "lone_candidate",
        /// A person decided.
        Manual = "manual",
    }
}

impl Method {
    /// Whether goods may be shipped on this evidence alone.
    pub const fn ships(self) -> bool {
        !matches!(self, Self::LoneCandidate)
    }
}

/// What a transfer shows, as far as matching needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferClues {
    /// Height of its block.
    pub block_number: u64,
    /// Time of its block.
    pub block_time: Timestamp,
    /// Whether it is the only transfer of this asset to this address in its transaction.
    pub sole: bool,
}

/// An order that something points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The order.
    pub order: OrderId,
    /// Its public id, for the evidence.
    pub order_ref: OrderRef,
    /// When it was created.
    pub created_at: Timestamp,
    /// Nothing is matched in blocks after this time.
    pub monitor_until: Timestamp,
    /// Height that had been scanned when the order was created: what a block up to it holds is older than the order, unless
    /// a reorganisation has mined it anew.
    pub scanned_height: u64,
    /// Time of that block.
    pub scanned_time: Timestamp,
    /// Whether its merchant holds the address that was paid. An order of one who lost it to the proven owner gets nothing
    /// any more, and is not named: the evidence is the owner's to read.
    pub holds_address: bool,
    /// What points to it.
    pub clue: Clue,
}

/// Why an order is a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clue {
    /// The transaction's input carries its reference.
    Reference,
    /// It holds exactly these units on this address.
    HeldAmount,
    /// It held these units until lately, and was not paid.
    CoolingAmount,
}

/// The decision about a transfer, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The order and how it was found; `None` sends the transfer to the inbox.
    pub order: Option<(OrderId, Method)>,
    /// What was considered.
    pub evidence: Evidence,
}

/// The stored reasons of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Evidence {
    /// How it was matched.
    pub method: Option<Method>,
    /// Every order that came into question, and why it won or lost.
    pub candidates: Vec<CandidateVerdict>,
}

/// One order's part in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateVerdict {
    /// The order.
    pub order_id: OrderRef,
    /// What pointed to it, and why it won or lost.
    pub verdict: String,
}

/// How far a block's stamp may lie before the order's creation: clocks differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Decides about a transfer that never had an allocation.
pub fn decide(clues: &TransferClues, candidates: &[Candidate]) -> Decision {
    let mut verdicts = Vec::with_capacity(candidates.len());
    let mut verdict = |candidate: &Candidate, words: &str| {
        verdicts.push(CandidateVerdict { order_id: candidate.order_ref.clone(), verdict: words.to_owned() });
    };
    let mut references = Vec::new();
    let mut held = Vec::new();
    let mut cooling = Vec::new();
    let mut names_another = false;
    let mut asked_by_another = false;
    for candidate in candidates {
        if !candidate.holds_address {
            names_another |= candidate.clue == Clue::Reference && clues.sole;
            asked_by_another |= candidate.clue != Clue::Reference && outside_window(clues, candidate).is_none();
            continue;
        }
        if let Some(problem) = outside_window(clues, candidate) {
            verdict(candidate, problem);
            // The payer meant that order, so that an amount which happens to fit another is no evidence.
            names_another |= candidate.clue == Clue::Reference && clues.sole;
            continue;
        }
        match candidate.clue {
            Clue::Reference if !clues.sole => {
                verdict(candidate, "reference ignored: the transaction holds several transfers to this address");
            }
            Clue::Reference => references.push(candidate),
            Clue::HeldAmount => held.push(candidate),
            Clue::CoolingAmount => cooling.push(candidate),
        }
    }
    // A value that an order itself used to hold is no other order's: it does not stand against its own payment.
    cooling.retain(|lately| !held.iter().any(|holder| holder.order == lately.order));
    let mut order = None;
    match references.as_slice() {
        [] => {}
        [one] => {
            verdict(one, "won: its reference is in the transaction");
            order = Some((one.order, Method::Reference));
        }
        several => {
            several.iter().for_each(|one| verdict(one, "ambiguous: several orders' references are in the transaction"))
        }
    }
    let ambiguous_reference = references.len() > 1 || (names_another && references.is_empty());
    match (held.as_slice(), cooling.as_slice()) {
        _ if order.is_some() => {
            held.iter().chain(&cooling).for_each(|one| {
                if Some(one.order) != order.map(|(id, _)| id) {
                    verdict(one, "lost: the amount fits, but a reference is stronger");
                }
            });
        }
        ([one], []) if !ambiguous_reference && !asked_by_another => {
            verdict(one, "won: it alone asks for exactly this amount");
            order = Some((one.order, Method::ExactAmount));
        }
        (held, cooling) => {
            held.iter().for_each(|one| verdict(one, "ambiguous: it asks for this amount, but it is not the only one"));
            cooling
                .iter()
                .for_each(|one| verdict(one, "possible: it asked for this amount until lately and was not paid"));
        }
    }
    Decision { order, evidence: Evidence { method: order.map(|(_, method)| method), candidates: verdicts } }
}

fn outside_window(clues: &TransferClues, candidate: &Candidate) -> Option<&'static str> {
    if clues.block_time < candidate.created_at.minus(CLOCK_TOLERANCE) {
        return Some("lost: the transfer is older than the order");
    }
    // A block this low can come after the order only in a reorganisation, which mines what was sent before the order and
    // after it anew. While the chain was read hours behind, a block of any height may be older than the order. The
    // reference tells old from new; an amount does not, and then the block itself must be younger. Blocks tell whole
    // seconds: one of the order's own second may be younger.
    let is_low = clues.block_number <= candidate.scanned_height;
    let lagged = candidate.scanned_time < candidate.created_at.minus(CLOCK_TOLERANCE);
    let is_older = clues.block_time.as_secs() < candidate.created_at.as_secs();
    if (is_low || lagged) && candidate.clue != Clue::Reference && is_older {
        return Some(if is_low {
            "lost: its height had been scanned before the order was created"
        } else {
            "lost: the order was created while the chain was read with a delay, and the block is older"
        });
    }
    if candidate.clue != Clue::CoolingAmount && clues.block_time > candidate.monitor_until {
        return Some("lost: the order is no longer watched");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(order: i64, clue: Clue) -> Candidate {
        let entropy = u64::try_from(order).unwrap().to_be_bytes();
        Candidate {
            order: OrderId(order),
            order_ref: OrderRef::from_entropy(entropy),
            created_at: Timestamp::from_secs(1_000),
            monitor_until: Timestamp::from_secs(9_000),
            scanned_height: 50,
            scanned_time: Timestamp::from_secs(999),
            holds_address: true,
            clue,
        }
    }

    fn clues() -> TransferClues {
        TransferClues { block_number: 51, block_time: Timestamp::from_secs(1_001), sole: true }
    }

    #[test]
    fn an_amount_that_one_order_holds_decides() {
        let decision = decide(&clues(), &[candidate(1, Clue::HeldAmount)]);
        assert_eq!(decision.order, Some((OrderId(1), Method::ExactAmount)));
    }

    #[test]
    fn a_reference_is_stronger_than_an_amount() {
        let decision = decide(&clues(), &[candidate(1, Clue::HeldAmount), candidate(2, Clue::Reference)]);
        assert_eq!(decision.order, Some((OrderId(2), Method::Reference)));
        assert_eq!(decision.evidence.candidates.len(), 2);
    }

    #[test]
    fn a_reference_counts_only_when_the_transaction_holds_one_transfer() {
        let clues = TransferClues { sole: false, ..clues() };
        assert_eq!(decide(&clues, &[candidate(1, Clue::Reference)]).order, None);
        let decision = decide(&clues, &[candidate(1, Clue::Reference), candidate(2, Clue::HeldAmount)]);
        assert_eq!(decision.order, Some((OrderId(2), Method::ExactAmount)));
    }

    #[test]
    fn a_value_that_an_unpaid_order_held_lately_goes_to_the_inbox_with_both() {
        let decision = decide(&clues(), &[candidate(1, Clue::HeldAmount), candidate(2, Clue::CoolingAmount)]);
        assert_eq!(decision.order, None);
        assert_eq!(decision.evidence.candidates.len(), 2);
    }

    #[test]
    fn a_value_that_an_order_itself_held_lately_is_still_its_own() {
        let decision = decide(&clues(), &[candidate(1, Clue::CoolingAmount), candidate(1, Clue::HeldAmount)]);
        assert_eq!(decision.order, Some((OrderId(1), Method::ExactAmount)));
    }

    #[test]
    fn the_ends_of_an_orders_window_belong_to_it() {
        let candidates = [candidate(1, Clue::HeldAmount)];
        for secs in [970, 9_000] {
            let clues = TransferClues { block_time: Timestamp::from_secs(secs), ..clues() };
            assert!(decide(&clues, &candidates).order.is_some(), "{secs}");
        }
    }

    #[test]
    fn a_cooled_value_alone_is_only_a_candidate_even_long_after_its_order() {
        let clues = TransferClues { block_time: Timestamp::from_secs(99_000), ..clues() };
        let decision = decide(&clues, &[candidate(1, Clue::CoolingAmount)]);
        assert_eq!(decision.order, None);
        assert!(decision.evidence.candidates[0].verdict.starts_with("possible"));
    }

    #[test]
    fn a_payment_that_names_an_order_which_is_over_is_nobody_elses_by_its_amount() {
        let over = Candidate { monitor_until: Timestamp::from_secs(1_000), ..candidate(2, Clue::Reference) };
        assert_eq!(decide(&clues(), &[candidate(1, Clue::HeldAmount), over]).order, None);
    }

    #[test]
    fn two_references_are_ambiguous_and_an_amount_does_not_break_the_tie() {
        let candidates = [candidate(1, Clue::Reference), candidate(2, Clue::Reference), candidate(1, Clue::HeldAmount)];
        assert_eq!(decide(&clues(), &candidates).order, None);
    }

    #[test]
    fn what_lies_outside_an_orders_window_is_not_its_payment() {
        let candidates = [candidate(1, Clue::HeldAmount)];
        for clues in [
            TransferClues { block_time: Timestamp::from_secs(969), ..clues() },
            TransferClues { block_time: Timestamp::from_secs(9_001), ..clues() },
            TransferClues { block_number: 50, block_time: Timestamp::from_secs(999), ..clues() },
        ] {
            assert_eq!(decide(&clues, &candidates).order, None, "{clues:?}");
        }
    }

    #[test]
    fn an_order_that_was_made_while_the_chain_lagged_takes_no_amount_of_an_older_block() {
        for (scanned, wins) in [(969, false), (970, true)] {
            let lagging = Candidate { scanned_time: Timestamp::from_secs(scanned), ..candidate(1, Clue::HeldAmount) };
            let older = TransferClues { block_number: 900, block_time: Timestamp::from_secs(999), ..clues() };
            assert_eq!(decide(&older, std::slice::from_ref(&lagging)).order.is_some(), wins, "{scanned}");
            let younger = TransferClues { block_time: Timestamp::from_secs(1_000), ..older };
            assert!(decide(&younger, std::slice::from_ref(&lagging)).order.is_some());
            let named = Candidate { clue: Clue::Reference, ..lagging };
            assert!(decide(&older, &[named]).order.is_some(), "a reference cannot be older than its order");
        }
    }

    #[test]
    fn an_order_that_lost_its_address_gets_nothing_and_is_not_named() {
        let lost = |clue| Candidate { holds_address: false, ..candidate(2, clue) };
        for clue in [Clue::Reference, Clue::HeldAmount, Clue::CoolingAmount] {
            let decision = decide(&clues(), &[lost(clue)]);
            assert_eq!((decision.order, decision.evidence.candidates.len()), (None, 0));
            // Its customer may have paid: the amount alone does not make it another's.
            let decision = decide(&clues(), &[lost(clue), candidate(1, Clue::HeldAmount)]);
            assert_eq!((decision.order, decision.evidence.candidates.len()), (None, 1));
            let decision = decide(&clues(), &[lost(clue), candidate(1, Clue::Reference)]);
            assert_eq!(decision.order, Some((OrderId(1), Method::Reference)));
        }
    }

    #[test]
    fn a_payment_that_a_reorganisation_mines_at_a_height_scanned_before_the_order_is_still_its_payment() {
        let again = TransferClues { block_number: 49, ..clues() };
        assert!(decide(&again, &[candidate(1, Clue::HeldAmount)]).order.is_some());
        // Clocks differ, and a reference cannot be older than its order.
        let earlier = TransferClues { block_time: Timestamp::from_secs(980), ..again };
        assert!(decide(&earlier, &[candidate(1, Clue::HeldAmount)]).order.is_none());
        assert!(decide(&earlier, &[candidate(1, Clue::Reference)]).order.is_some());
    }

    proptest! {
        #[test]
        fn the_order_of_candidates_never_matters(
            orders in prop::collection::vec((1i64..5, 0u8..3), 0..6), sole: bool, rotation in 0usize..6,
        ) {
            let make = |(order, clue): &(i64, u8)| candidate(*order, match clue {
                0 => Clue::Reference,
                1 => Clue::HeldAmount,
                _ => Clue::CoolingAmount,
            });
            let mut candidates: Vec<_> = orders.iter().map(make).collect();
            let clues = TransferClues { sole, ..clues() };
            let first = decide(&clues, &candidates).order;
            if !candidates.is_empty() {
                let by = rotation % candidates.len();
                candidates.rotate_left(by);
            }
            prop_assert_eq!(decide(&clues, &candidates).order, first);
        }
    }
}
