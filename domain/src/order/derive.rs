//! From facts to a status. Total and pure: the same facts always give the same answer, in whatever order they came.

use crate::order::{Decision, FailureReason, LatePolicy, OrderStatus, Terms};
use crate::text::words;
use crate::time::Timestamp;
use crate::transfer::{TransferState, confirmations};
use crate::units::Units;

/// What happened to an order so far, besides money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// The merchant took it back.
    pub canceled_at: Option<Timestamp>,
    /// A block past the deadline was verified.
    pub closed_at: Option<Timestamp>,
    /// What the operator decided, with the units that an accepting decision settled for.
    pub decision: Option<(Decision, Units)>,
    /// The receiving address was claimed by its proven owner. The order takes no more money; earlier money still counts.
    pub lost_address: bool,
    /// A payment came in another asset, or on another chain, and counts for nothing.
    pub wrong_asset: bool,
    /// By how much the remainders that were paid lie above what was missing. An excess up to it is rounding.
    pub rounding: Units,
    /// How often a confirmation was announced and taken back, plus one.
    pub generation: u32,
    /// The generation whose confirmation was announced last; 0 for none.
    pub announced_generation: u32,
}

/// A live allocation with what is known of its transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllocationFact {
    /// How much of the transfer is this order's.
    pub units: Units,
    /// State of the transfer.
    pub state: TransferState,
    /// Height of the block that holds (or held) it.
    pub block_number: u64,
    /// Time of that block.
    pub block_time: Timestamp,
    /// Order of transfers inside a block.
    pub index: u64,
    /// Whether the evidence is enough to ship by.
    pub ships: bool,
    /// The hash of the block that holds it was named again after the scan: only then does depth count.
    pub vouched: bool,
    /// An operator's decision covers this money's lateness.
    pub late_accepted: bool,
    /// It counted when the order was last derived: what a `missing` transfer keeps.
    pub counted: bool,
    /// It was deep enough at the confirmation that was announced last, in the very block that holds (or held) it. Such a
    /// transfer needs no second count: a short reorganisation above it changes nothing about it. Assigned to every
    /// allocation at each announcement (true where its standing is deep, else false); without weight once the
    /// announcement is taken back.
    pub announced_here: bool,
}

/// The verified scanner's view of the order's chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainView {
    /// Newest verified block.
    pub height: u64,
    /// Its time.
    pub block_time: Timestamp,
    /// Newest block that the chain's finality tag vouches for, while that tag is fresh.
    pub final_height: Option<u64>,
}

impl ChainView {
    /// Whether a block lies as deep as `required` confirmations, or the chain's finality tag speaks for it.
    pub fn is_deep(&self, block_number: u64, required: u32) -> bool {
        // At least one: a block above the verified height has none and is never deep.
        let deep = confirmations(block_number, self.height) >= u64::from(required.max(1));
        let tagged = self.final_height.is_some_and(|height| height >= block_number && self.height >= block_number);
        deep || tagged
    }
}

words! {
    /// Something worth knowing about an order, with any status.
    OrderFlag {
        /// More came than was due.
        Overpaid = "overpaid",
        /// Money came after the deadline.
        Late = "late",
        /// A further payment came after the order was paid in full.
        ExtraPayment = "extra_payment",
        /// A payment came in another asset, or on another chain.
        WrongAsset = "wrong_asset",
        /// The merchant should look at it.
        Review = "review",
        /// An operator decided.
        Manual = "manual",
        /// All that counts is beyond any reorganisation.
        Finalized = "finalized",
    }
}

words! {
    /// What became of late money.
    LateStanding {
        /// It counts.
        Accepted = "accepted",
        /// It waits for a decision.
        Review = "review",
        /// It does not count.
        Rejected = "rejected",
    }
}

/// What follows from the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// Status.
    pub status: OrderStatus,
    /// Whether the goods may be handed over.
    pub fulfillable: bool,
    /// Whether the customer should still be shown how to pay.
    pub payable: bool,
    /// Whether the merchant has to decide.
    pub decision_due: bool,
    /// Flags, sorted.
    pub flags: Vec<OrderFlag>,
    /// The worst standing among late money, if any came late.
    pub late: Option<LateStanding>,
    /// R: units that count.
    pub received: Units,
    /// D: units that count, deep enough, on evidence that may ship.
    pub confirmed: Units,
    /// What is still to be paid.
    pub remaining: Units,
    /// Units received beyond the amount due; zero if they are only the rounding of a remainder.
    pub excess: Units,
    /// The payment that filled the order was larger than what was missing. Later payments are `ExtraPayment` instead.
    pub overfilled: bool,
    /// Why it failed.
    pub failure_reason: Option<FailureReason>,
    /// Per allocation, in the order given: whether it counts, and whether it is deep enough.
    pub standings: Vec<Standing>,
}

/// How one allocation was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Part of R.
    pub counts: bool,
    /// Deep enough for this order.
    pub deep: bool,
    /// Lateness, if it was late.
    pub late: Option<LateStanding>,
}

impl Derived {
    /// Whether a flag is set.
    pub fn has(&self, flag: OrderFlag) -> bool {
        self.flags.contains(&flag)
    }
}

/// The status and all that goes with it. The rows of the decision, first match wins: an operator's rejection; what cannot
/// complete; enough deep money; a confirmation taken back; enough money; an address lost; some money; canceled; closed;
/// waiting.
pub fn derive(terms: &Terms, history: &History, allocations: &[AllocationFact], chain: &ChainView) -> Derived {
    // An accepting decision settles for what had come by then; nothing else about the order changes its rules, so that
    // a reorganisation takes such an order back like any other.
    let settled = match history.decision {
        Some((Decision::Accept, units)) => terms.due.min(units),
        _ => terms.due,
    };
    // A decision about nothing settles nothing: an order is never confirmed with no money at all.
    let enough = |units: Units| !settled.is_zero() && units >= settled;

    let judge_all = |announcement: Announcement| -> Vec<Standing> {
        allocations.iter().map(|fact| judge(terms, history, fact, chain, announcement)).collect()
    };
    let sum = |standings: &[Standing], which: &dyn Fn(&AllocationFact, &Standing) -> bool| -> Units {
        allocations
            .iter()
            .zip(standings)
            .filter(|(fact, standing)| which(fact, standing))
            .map(|(fact, _)| fact.units)
            .sum()
    };
    let shippable = |fact: &AllocationFact, standing: &Standing| standing.counts && standing.deep && fact.ships;
    // What an announcement covers needs no second count while it stands. Once it is taken back, or is about to be,
    // every transfer has to be deep again by itself, and a missing one is no reason to stay confirmed.
    let mut standings =
        judge_all(if history.announced_generation > 0 && history.announced_generation >= history.generation {
            Announcement::Stands
        } else {
            Announcement::None
        });
    if !enough(sum(&standings, &shippable)) {
        standings = judge_all(Announcement::None);
    }
    let confirmed_or_missing = sum(&standings, &shippable);
    let received = sum(&standings, &|_, standing| standing.counts);
    let confirmed = sum(&standings, &|fact, standing| shippable(fact, standing) && fact.state.is_in_block());

    let announced = history.announced_generation > 0;
    let closed = history.closed_at.is_some() || chain.block_time > terms.windows.in_time_until;
    let rejected_late_only = received.is_zero()
        && standings.iter().any(|standing| standing.late == Some(LateStanding::Rejected))
        && standings.iter().all(|standing| matches!(standing.late, Some(LateStanding::Rejected) | None));

    // Whoever has paid in full, or has been told of a confirmation, is owed what was promised. Only an order that waits
    // for money can never complete.
    let lost_its_address = history.lost_address && history.canceled_at.is_none();

    let mut failure_reason = None;
    let status = if matches!(history.decision, Some((Decision::Reject, _))) {
        failure_reason = Some(FailureReason::Rejected);
        OrderStatus::Failed
    } else if rejected_late_only && !announced && history.canceled_at.is_none() {
        failure_reason = Some(FailureReason::LatePaymentRejected);
        OrderStatus::Failed
    } else if enough(confirmed) {
        OrderStatus::Confirmed
    } else if announced {
        if enough(confirmed_or_missing) { OrderStatus::Confirmed } else { OrderStatus::Reorged }
    } else if enough(received) {
        OrderStatus::Confirming
    } else if lost_its_address {
        failure_reason = Some(FailureReason::AddressClaimedByOwner);
        OrderStatus::Failed
    } else if !received.is_zero() {
        OrderStatus::Underpaid
    } else if history.canceled_at.is_some() {
        OrderStatus::Canceled
    } else if closed {
        OrderStatus::Expired
    } else {
        OrderStatus::Pending
    };

    let late = standings.iter().filter_map(|standing| standing.late).max_by_key(|late| match late {
        LateStanding::Accepted => 0,
        LateStanding::Rejected => 1,
        LateStanding::Review => 2,
    });
    let excess =
        Some(received.saturating_sub(terms.due)).filter(|excess| *excess > history.rounding).unwrap_or_default();
    let decided = history.decision.is_some();
    let waiting_evidence = allocations.iter().zip(&standings).any(|(fact, standing)| standing.counts && !fact.ships);
    let short_after_close = status == OrderStatus::Underpaid && closed;
    let decision_due = status != OrderStatus::Failed
        && !(decided && status == OrderStatus::Confirmed)
        && (short_after_close
            || (late == Some(LateStanding::Review) && status != OrderStatus::Confirmed)
            || (waiting_evidence && status != OrderStatus::Confirmed)
            || status == OrderStatus::Reorged);

    let surplus = surplus(terms, history, allocations, &standings);
    let mut flags = Vec::new();
    let mut set = |flag, condition: bool| {
        if condition {
            flags.push(flag);
        }
    };
    set(OrderFlag::Overpaid, !excess.is_zero());
    set(OrderFlag::Late, late.is_some());
    set(OrderFlag::ExtraPayment, surplus.extra_payment);
    // Money that went to a wallet of another merchant needs a review in every status of the order.
    let paid_elsewhere = lost_its_address && !received.is_zero();
    set(OrderFlag::WrongAsset, history.wrong_asset);
    set(OrderFlag::Review, late == Some(LateStanding::Review) || decision_due || paid_elsewhere);
    set(OrderFlag::Manual, decided);
    set(OrderFlag::Finalized, status == OrderStatus::Confirmed && all_final(allocations, &standings));

    Derived {
        fulfillable: status == OrderStatus::Confirmed,
        payable: !closed
            && !decided
            && history.canceled_at.is_none()
            && matches!(status, OrderStatus::Pending | OrderStatus::Underpaid),
        decision_due,
        flags,
        late,
        received,
        confirmed,
        remaining: terms.due.saturating_sub(received),
        excess,
        overfilled: surplus.overfilled,
        failure_reason,
        standings,
        status,
    }
}

/// Whether the order's announced confirmation still speaks for the transfers that it was made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Announcement {
    Stands,
    None,
}

fn judge(
    terms: &Terms,
    history: &History,
    fact: &AllocationFact,
    chain: &ChainView,
    announcement: Announcement,
) -> Standing {
    // What never came, or is gone, is not late money either: nobody has to decide about it.
    let came = matches!(fact.state, TransferState::Included | TransferState::Final | TransferState::Missing);
    let late = if came { lateness(terms, history, fact) } else { None };
    let announced = fact.announced_here && announcement == Announcement::Stands;
    let alive = match fact.state {
        TransferState::Included | TransferState::Final => true,
        TransferState::Missing => fact.counted,
        TransferState::Orphaned | TransferState::Unverifiable => false,
    };
    let counts = alive && matches!(late, None | Some(LateStanding::Accepted));
    let deep = match fact.state {
        TransferState::Final => true,
        TransferState::Included => {
            announced || fact.vouched && chain.is_deep(fact.block_number, terms.required_confirmations)
        }
        TransferState::Missing => announced,
        TransferState::Orphaned | TransferState::Unverifiable => false,
    };
    Standing { counts, deep: counts && deep, late }
}

fn lateness(terms: &Terms, history: &History, fact: &AllocationFact) -> Option<LateStanding> {
    let canceled = history.canceled_at.is_some();
    let late = fact.block_time > terms.windows.in_time_until;
    if !late && !canceled {
        return None;
    }
    if fact.late_accepted {
        return Some(LateStanding::Accepted);
    }
    // The operator has decided, and the order takes no further decision: nothing waits for one any more.
    if matches!(history.decision, Some((Decision::Reject, _))) {
        return Some(LateStanding::Rejected);
    }
    // Money on a canceled order, and money after the late window, is nobody's to decide but the merchant's.
    if canceled || fact.block_time > terms.windows.late_until {
        return Some(LateStanding::Review);
    }
    Some(match terms.late_policy {
        LatePolicy::Accept => LateStanding::Accepted,
        LatePolicy::Review => LateStanding::Review,
        LatePolicy::Reject => LateStanding::Rejected,
    })
}

/// Money beyond what was due, by how it came.
struct Surplus {
    overfilled: bool,
    extra_payment: bool,
}

/// Goes by the chain's order, so that it does not matter when we learned of a payment.
fn surplus(terms: &Terms, history: &History, allocations: &[AllocationFact], standings: &[Standing]) -> Surplus {
    let mut counting: Vec<&AllocationFact> =
        allocations.iter().zip(standings).filter(|(_, standing)| standing.counts).map(|(fact, _)| fact).collect();
    // The units break ties, so that the order of the facts never decides.
    counting.sort_by_key(|fact| (fact.block_number, fact.index, fact.units));
    let mut surplus = Surplus { overfilled: false, extra_payment: false };
    let mut before = Units::ZERO;
    for fact in counting {
        let after = before.saturating_add(fact.units);
        if before >= terms.due {
            surplus.extra_payment = true;
        } else if after > terms.due.saturating_add(history.rounding) {
            surplus.overfilled = true;
        }
        before = after;
    }
    surplus
}

fn all_final(allocations: &[AllocationFact], standings: &[Standing]) -> bool {
    allocations
        .iter()
        .zip(standings)
        .filter(|(_, standing)| standing.counts)
        .all(|(fact, _)| fact.state == TransferState::Final)
}
