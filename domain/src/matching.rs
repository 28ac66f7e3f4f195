//! Matching: which order a transfer pays. The strongest evidence decides. An ambiguous transfer goes to the unmatched list.

use serde::{Deserialize, Serialize};

use crate::ids::{OrderId, OrderRef};
use crate::text::words;
use crate::time::Timestamp;

words! {
    /// Evidence by which a transfer was allocated to its order.
    Method {
        /// The transaction contains the order's reference.
        Reference = "reference",
        /// The amount is held by this order alone.
        ExactAmount = "exact_amount",
        /// A person allocated it.
        Manual = "manual",
    }
}

/// A transfer, as far as matching needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferFacts {
    /// Height of its block.
    pub block_number: u64,
    /// Time of its block.
    pub block_time: Timestamp,
    /// Whether it is the only transfer of this asset to this address in its transaction.
    pub only_transfer: bool,
}

/// An order that a transfer may have been meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The order.
    pub order: OrderId,
    /// Its public id, for the evidence.
    pub order_ref: OrderRef,
    /// Block time after which nothing is matched to the order.
    pub monitor_until: Timestamp,
    /// Verified height of the order's chain when the order was created. Nothing in a block up to it can have been sent for
    /// the order.
    pub scanned_height: u64,
    /// Indicates whether the order's merchant holds the address that was paid. An order whose merchant lost the address
    /// to the proven owner takes nothing, and is not named: the evidence is the owner's to read.
    pub holds_address: bool,
    /// Indicates whether the merchant has rejected the order. A rejected order takes no further money.
    pub is_rejected: bool,
    /// The connection between transfer and order.
    pub signal: MatchSignal,
}

/// Connection between a transfer and an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchSignal {
    /// The transaction's input contains the order's reference.
    Reference,
    /// The order holds exactly these units on this address.
    HeldAmount,
    /// The order held these units until lately. They are not handed out again yet.
    CoolingAmount,
    /// The units are the price of the order, or were missing after a short payment. The order asks for another amount.
    PlainAmount,
    /// The order holds the same decimal amount on this address in another asset, or on another chain.
    OtherAsset {
        /// Indicates whether the order is on the transfer's chain: heights are comparable only then.
        same_chain: bool,
    },
    /// The decimal amount is the price of an order in another asset, or on another chain.
    OtherAssetPlain,
}

impl Method {
    /// Reports whether goods may be shipped on this evidence alone.
    pub const fn ships(self) -> bool {
        match self {
            Self::Reference | Self::ExactAmount | Self::Manual => true,
        }
    }
}

impl MatchSignal {
    /// Whether transfer and order differ in asset or chain.
    pub const fn is_other_asset(self) -> bool {
        matches!(self, Self::OtherAsset { .. } | Self::OtherAssetPlain)
    }
}

/// The decision about a transfer, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The order and the evidence for it. `None` sends the transfer to the unmatched list.
    pub order: Option<(OrderId, Method)>,
    /// The order that was paid in the wrong asset, or on the wrong chain. The transfer stays in the unmatched list.
    pub wrong_asset: Option<OrderId>,
    /// All candidates.
    pub evidence: Evidence,
}

/// The stored reasons of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Evidence {
    /// Evidence that decided.
    pub method: Option<Method>,
    /// Every order that came into question, and why it won or lost.
    pub candidates: Vec<CandidateVerdict>,
}

/// One order's part in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateVerdict {
    /// The order.
    pub order_id: OrderRef,
    /// The connection to the transfer, and why the order won or lost.
    pub verdict: String,
}

/// Decides about a transfer that never had an allocation.
pub fn decide(transfer: &TransferFacts, candidates: &[Candidate]) -> Decision {
    let mut verdicts = Vec::with_capacity(candidates.len());
    let mut sorted = Sorted::default();
    for candidate in candidates {
        let reason = excluded(transfer, candidate);
        if candidate.holds_address && reason.is_none() {
            sorted.add(candidate);
            continue;
        }
        // It takes nothing, and still stands against every other order that the payer may not have meant.
        sorted.add_excluded(transfer, candidate);
        if let Some(reason) = reason.filter(|_| candidate.holds_address) {
            verdicts.push(verdict(candidate, reason));
        }
    }
    let order = sorted.winner();
    let wrong_asset = sorted.wrong_asset(order.is_some());
    verdicts.extend(sorted.verdicts(order));
    let evidence = Evidence { method: order.map(|(_, method)| method), candidates: verdicts };
    Decision { order, wrong_asset, evidence }
}

/// The reason for which a candidate cannot be the transfer's order.
fn excluded(transfer: &TransferFacts, candidate: &Candidate) -> Option<&'static str> {
    use MatchSignal::{CoolingAmount, HeldAmount, OtherAsset, OtherAssetPlain, PlainAmount, Reference};
    let compares_heights = match candidate.signal {
        HeldAmount | CoolingAmount | PlainAmount => true,
        OtherAsset { same_chain } => same_chain,
        // Its order cannot be older than a transaction that contains its reference.
        Reference | OtherAssetPlain => false,
    };
    if compares_heights && transfer.block_number <= candidate.scanned_height {
        return Some("lost: the block was verified before the order was created");
    }
    if matches!(candidate.signal, Reference) && !transfer.only_transfer {
        return Some("reference ignored: the transaction contains several transfers to this address");
    }
    if candidate.is_rejected {
        return Some("lost: the merchant has rejected the order");
    }
    let stays = matches!(candidate.signal, CoolingAmount | PlainAmount | OtherAssetPlain);
    if !stays && transfer.block_time > candidate.monitor_until {
        return Some("lost: the order is no longer watched");
    }
    None
}

/// The candidates by their signal.
#[derive(Default)]
struct Sorted<'a> {
    references: Vec<&'a Candidate>,
    held: Vec<&'a Candidate>,
    cooling: Vec<&'a Candidate>,
    plain: Vec<&'a Candidate>,
    other_asset: Vec<&'a Candidate>,
    other_asset_plain: Vec<&'a Candidate>,
    /// A valid reference names an order that takes nothing.
    names_another: bool,
    /// An order that takes nothing asks for this amount.
    asked_by_another: bool,
    /// It is the price of an order that takes nothing.
    is_price_of_another: bool,
}

impl<'a> Sorted<'a> {
    fn add(&mut self, candidate: &'a Candidate) {
        let list = match candidate.signal {
            MatchSignal::Reference => &mut self.references,
            MatchSignal::HeldAmount => &mut self.held,
            MatchSignal::CoolingAmount => &mut self.cooling,
            MatchSignal::PlainAmount => &mut self.plain,
            MatchSignal::OtherAsset { .. } => &mut self.other_asset,
            MatchSignal::OtherAssetPlain => &mut self.other_asset_plain,
        };
        list.push(candidate);
    }

    /// An order that can take nothing. A payer who names it meant it, and an amount that it asks for was meant for it, unless
    /// the block is older than the order.
    fn add_excluded(&mut self, transfer: &TransferFacts, candidate: &Candidate) {
        let is_younger = transfer.block_number > candidate.scanned_height;
        match candidate.signal {
            MatchSignal::Reference => self.names_another |= transfer.only_transfer,
            MatchSignal::HeldAmount | MatchSignal::CoolingAmount => self.asked_by_another |= is_younger,
            MatchSignal::PlainAmount => self.is_price_of_another |= is_younger,
            MatchSignal::OtherAsset { .. } | MatchSignal::OtherAssetPlain => {}
        }
    }

    /// An amount that another order holds, or held until lately, contradicts evidence for `order`. Values that an order held
    /// itself do not stand against its own payment.
    fn amount_contradicts(&self, order: OrderId) -> bool {
        self.asked_by_another || self.held.iter().chain(&self.cooling).any(|other| other.order != order)
    }

    fn winner(&self) -> Option<(OrderId, Method)> {
        match (self.references.as_slice(), self.held.as_slice()) {
            // A relayer could otherwise redirect the exact payment of another order.
            ([named], _) => (!self.names_another && !self.amount_contradicts(named.order))
                .then_some((named.order, Method::Reference)),
            ([], [holder]) => {
                // The price of another order: its customer may have rounded.
                let is_price = self.is_price_of_another || self.plain.iter().any(|other| other.order != holder.order);
                let is_clear = !self.names_another && !self.amount_contradicts(holder.order) && !is_price;
                is_clear.then_some((holder.order, Method::ExactAmount))
            }
            _ => None,
        }
    }

    /// Set only if exactly one order asks for this amount in another asset, and no order comes into question in this one.
    fn wrong_asset(&self, is_matched: bool) -> Option<OrderId> {
        let is_open = self.references.is_empty()
            && self.held.is_empty()
            && self.cooling.is_empty()
            && self.plain.is_empty()
            && !(self.names_another || self.asked_by_another || self.is_price_of_another);
        match self.other_asset.as_slice() {
            [one] if is_open && !is_matched => Some(one.order),
            _ => None,
        }
    }

    fn verdicts(&self, winner: Option<(OrderId, Method)>) -> Vec<CandidateVerdict> {
        let several = self.references.len() > 1;
        let named = match winner {
            Some(_) => "won: its reference is in the transaction",
            None if several => "ambiguous: references of several orders are in the transaction",
            None => "ambiguous: its reference is in the transaction, but other evidence contradicts",
        };
        let held = match winner {
            Some(_) => "won: it alone asks for exactly this amount",
            None => "ambiguous: it asks for this amount, but other evidence contradicts",
        };
        let mut verdicts = Vec::new();
        let mut add = |list: &[&Candidate], possible: &str| {
            let text = if winner.is_some() { "lost: the evidence for another order is stronger" } else { possible };
            // The winner is named once, by its strongest evidence.
            let others = list.iter().filter(|one| winner.is_none_or(|(order, _)| order != one.order));
            verdicts.extend(others.map(|one| verdict(one, text)));
        };
        add(&self.references, named);
        add(&self.held, held);
        add(&self.cooling, "possible: it asked for this amount until lately");
        add(&self.plain, "possible: this is its price or what it lacks, but it asks for another amount");
        add(&self.other_asset, "possible: it asks for this amount in another asset or on another chain");
        add(
            &self.other_asset_plain,
            "possible: this is its price or what it lacks, in another asset or on another chain",
        );
        let evidence = match winner {
            Some((order, Method::Reference)) => self.references.iter().find(|one| one.order == order).zip(Some(named)),
            Some((order, _)) => self.held.iter().find(|one| one.order == order).zip(Some(held)),
            None => None,
        };
        verdicts.splice(0..0, evidence.map(|(one, text)| verdict(one, text)));
        verdicts
    }
}

fn verdict(candidate: &Candidate, text: &str) -> CandidateVerdict {
    CandidateVerdict { order_id: candidate.order_ref.clone(), verdict: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::MatchSignal::{CoolingAmount, HeldAmount, OtherAsset, OtherAssetPlain, PlainAmount, Reference};
    use super::*;

    const SIGNALS: [MatchSignal; 7] = [
        Reference,
        HeldAmount,
        CoolingAmount,
        PlainAmount,
        OtherAsset { same_chain: true },
        OtherAsset { same_chain: false },
        OtherAssetPlain,
    ];

    fn candidate(order: i64, signal: MatchSignal) -> Candidate {
        let entropy = u64::try_from(order).unwrap().to_be_bytes();
        Candidate {
            order: OrderId(order),
            order_ref: OrderRef::from_entropy(entropy),
            monitor_until: Timestamp::from_secs(9_000),
            scanned_height: 50,
            holds_address: true,
            is_rejected: false,
            signal,
        }
    }

    fn transfer() -> TransferFacts {
        TransferFacts { block_number: 51, block_time: Timestamp::from_secs(1_001), only_transfer: true }
    }

    fn by_reference(order: i64) -> Option<(OrderId, Method)> {
        Some((OrderId(order), Method::Reference))
    }

    fn by_amount(order: i64) -> Option<(OrderId, Method)> {
        Some((OrderId(order), Method::ExactAmount))
    }

    /// The winner, and how many orders the evidence names.
    fn decided(transfer: &TransferFacts, candidates: &[Candidate]) -> (Option<(OrderId, Method)>, usize) {
        let decision = decide(transfer, candidates);
        assert_eq!(decision.evidence.method, decision.order.map(|(_, method)| method));
        (decision.order, decision.evidence.candidates.len())
    }

    #[test]
    fn an_amount_that_one_order_holds_decides() {
        assert_eq!(decided(&transfer(), &[candidate(1, HeldAmount)]), (by_amount(1), 1));
    }

    #[test]
    fn a_reference_decides_whatever_the_amount_is() {
        assert_eq!(decided(&transfer(), &[candidate(1, Reference)]), (by_reference(1), 1));
        assert_eq!(decided(&transfer(), &[candidate(1, HeldAmount), candidate(1, Reference)]), (by_reference(1), 1));
    }

    #[test]
    fn a_reference_and_the_amount_of_another_order_are_ambiguous() {
        for signal in [HeldAmount, CoolingAmount] {
            let candidates = [candidate(1, signal), candidate(2, Reference)];
            assert_eq!(decided(&transfer(), &candidates), (None, 2), "{signal:?}");
            let rejected = [Candidate { is_rejected: true, ..candidate(1, signal) }, candidate(2, Reference)];
            assert_eq!(decided(&transfer(), &rejected), (None, 2), "{signal:?}");
        }
        // The block is older than the order that holds the amount: the payer cannot have meant it.
        let younger = Candidate { scanned_height: 51, ..candidate(1, HeldAmount) };
        assert_eq!(decided(&transfer(), &[younger, candidate(2, Reference)]), (by_reference(2), 2));
    }

    #[test]
    fn a_reference_is_stronger_than_the_price_of_another_order() {
        assert_eq!(decided(&transfer(), &[candidate(1, PlainAmount), candidate(2, Reference)]), (by_reference(2), 2));
    }

    #[test]
    fn a_reference_counts_only_in_a_transaction_of_one_transfer() {
        let several = TransferFacts { only_transfer: false, ..transfer() };
        assert_eq!(decided(&several, &[candidate(1, Reference)]), (None, 1));
        assert_eq!(decided(&several, &[candidate(1, Reference), candidate(2, HeldAmount)]), (by_amount(2), 2));
    }

    #[test]
    fn a_plain_price_pays_no_order_but_names_its_orders() {
        assert_eq!(decided(&transfer(), &[candidate(1, PlainAmount)]), (None, 1));
        assert_eq!(decided(&transfer(), &[candidate(1, PlainAmount), candidate(2, PlainAmount)]), (None, 2));
    }

    #[test]
    fn an_amount_that_is_the_price_of_another_order_is_ambiguous() {
        assert_eq!(decided(&transfer(), &[candidate(1, HeldAmount), candidate(2, PlainAmount)]), (None, 2));
        assert_eq!(decided(&transfer(), &[candidate(1, HeldAmount), candidate(1, PlainAmount)]), (by_amount(1), 1));
    }

    #[test]
    fn a_cooling_amount_goes_to_the_unmatched_list_with_both_orders() {
        assert_eq!(decided(&transfer(), &[candidate(1, HeldAmount), candidate(2, CoolingAmount)]), (None, 2));
        assert_eq!(decided(&transfer(), &[candidate(1, CoolingAmount)]), (None, 1));
        // An order's own former amount does not stand against its payment.
        assert_eq!(decided(&transfer(), &[candidate(1, CoolingAmount), candidate(1, HeldAmount)]), (by_amount(1), 1));
    }

    #[test]
    fn height_decides_about_blocks_older_than_the_order() {
        let old = TransferFacts { block_number: 50, ..transfer() };
        for signal in [HeldAmount, CoolingAmount, PlainAmount, OtherAsset { same_chain: true }] {
            let decision = decide(&old, &[candidate(1, signal)]);
            assert_eq!((decision.order, decision.wrong_asset), (None, None));
            assert!(decision.evidence.candidates[0].verdict.starts_with("lost: the block was verified before"));
        }
        // A reference cannot be older than its order: a reorganisation has mined it lower.
        assert_eq!(decided(&old, &[candidate(1, Reference)]).0, by_reference(1));
        // Clocks and stamps do not matter, however far they lag.
        for secs in [0, 1, 9_000] {
            let stamped = TransferFacts { block_time: Timestamp::from_secs(secs), ..transfer() };
            assert_eq!(decided(&stamped, &[candidate(1, HeldAmount)]).0, by_amount(1), "{secs}");
        }
    }

    #[test]
    fn an_order_takes_nothing_after_the_end_of_its_watch() {
        let late = TransferFacts { block_time: Timestamp::from_secs(9_001), ..transfer() };
        for signal in SIGNALS {
            let decision = decide(&late, &[candidate(1, signal)]);
            assert_eq!((decision.order, decision.wrong_asset), (None, None), "{signal:?}");
            assert_eq!(decision.evidence.candidates.len(), 1, "{signal:?}");
        }
    }

    #[test]
    fn a_payment_that_names_an_order_which_is_over_is_not_anothers() {
        let over = Candidate { monitor_until: Timestamp::from_secs(1_000), ..candidate(2, Reference) };
        assert_eq!(decided(&transfer(), &[candidate(1, HeldAmount), over]), (None, 2));
    }

    #[test]
    fn a_rejected_order_takes_no_further_money() {
        for signal in SIGNALS {
            let rejected = Candidate { is_rejected: true, ..candidate(1, signal) };
            let decision = decide(&transfer(), &[rejected]);
            assert_eq!((decision.order, decision.wrong_asset), (None, None), "{signal:?}");
            assert_eq!(decision.evidence.candidates[0].verdict, "lost: the merchant has rejected the order");
        }
    }

    #[test]
    fn two_references_are_ambiguous_and_an_amount_does_not_decide() {
        let candidates = [candidate(1, Reference), candidate(2, Reference), candidate(1, HeldAmount)];
        assert_eq!(decided(&transfer(), &candidates).0, None);
    }

    #[test]
    fn an_order_that_lost_its_address_gets_nothing_and_is_not_named() {
        let lost = |signal| Candidate { holds_address: false, ..candidate(2, signal) };
        for signal in [Reference, HeldAmount, CoolingAmount, PlainAmount] {
            assert_eq!(decided(&transfer(), &[lost(signal)]), (None, 0));
            // Its customer may have paid: the amount alone does not make it another's.
            assert_eq!(decided(&transfer(), &[lost(signal), candidate(1, HeldAmount)]), (None, 1));
        }
        assert_eq!(decided(&transfer(), &[lost(HeldAmount), candidate(1, Reference)]), (None, 1));
    }

    #[test]
    fn the_amount_of_one_order_in_another_asset_is_wrong_asset() {
        for same_chain in [true, false] {
            let other = |order| candidate(order, OtherAsset { same_chain });
            let wrong = |candidates: &[Candidate]| decide(&transfer(), candidates).wrong_asset;
            assert_eq!(wrong(&[other(1)]), Some(OrderId(1)));
            assert_eq!(wrong(&[other(1), candidate(2, OtherAssetPlain)]), Some(OrderId(1)));
            assert_eq!(wrong(&[other(1), other(2)]), None);
            for signal in [Reference, HeldAmount, CoolingAmount, PlainAmount] {
                assert_eq!(wrong(&[other(1), candidate(2, signal)]), None, "{signal:?}");
            }
            assert_eq!(decide(&transfer(), &[other(1)]).order, None);
        }
        assert_eq!(decide(&transfer(), &[candidate(1, OtherAssetPlain)]).wrong_asset, None);
    }

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        (
            1i64..5,
            prop::sample::select(&SIGNALS[..]),
            prop::bool::weighted(0.8),
            prop::bool::weighted(0.2),
            49u64..53,
            0u64..2,
        )
            .prop_map(|(order, signal, holds_address, is_rejected, scanned_height, over)| Candidate {
                holds_address,
                is_rejected,
                scanned_height,
                monitor_until: Timestamp::from_secs(9_000 - over * 8_999),
                ..candidate(order, signal)
            })
    }

    proptest! {
        #[test]
        fn the_order_of_candidates_never_matters(
            mut candidates in prop::collection::vec(any_candidate(), 0..6), only_transfer: bool, rotation in 0usize..6,
        ) {
            let transfer = TransferFacts { only_transfer, ..transfer() };
            let first = decide(&transfer, &candidates);
            if !candidates.is_empty() {
                let by = rotation % candidates.len();
                candidates.rotate_left(by);
            }
            let second = decide(&transfer, &candidates);
            prop_assert_eq!((first.order, first.wrong_asset), (second.order, second.wrong_asset));
        }

        #[test]
        fn a_winner_holds_its_address_and_is_neither_rejected_nor_over(
            candidates in prop::collection::vec(any_candidate(), 0..6), only_transfer: bool,
        ) {
            let transfer = TransferFacts { only_transfer, ..transfer() };
            let Some((winner, method)) = decide(&transfer, &candidates).order else { return Ok(()) };
            let signal = if method == Method::Reference { Reference } else { HeldAmount };
            let valid = |one: &Candidate| {
                one.order == winner
                    && one.signal == signal
                    && one.holds_address
                    && !one.is_rejected
                    && transfer.block_time <= one.monitor_until
                    && (signal == Reference || transfer.block_number > one.scanned_height)
            };
            prop_assert!(candidates.iter().any(valid));
            let contradicts = |one: &Candidate| {
                one.order != winner
                    && matches!(one.signal, HeldAmount | CoolingAmount)
                    && transfer.block_number > one.scanned_height
            };
            prop_assert!(!candidates.iter().any(contradicts));
        }
    }
}
