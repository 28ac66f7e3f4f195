//! REST's words in upper case.

use async_graphql::Enum;
use cryptopay_domain::{event, merchant, order, transfer};

macro_rules! enums {
    ($($(#[doc = $doc:literal])+ $name:ident = $remote:literal { $($(#[doc = $variant_doc:literal])+ $variant:ident,)+ })+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
        #[graphql(remote = $remote)]
        pub(super) enum $name {
            $($(#[doc = $variant_doc])+ $variant,)+
        }
    )+};
}

enums! {
    /// The status of an order: derived from what the chain shows, never set.
    OrderStatus = "order::OrderStatus" {
        /// Waiting for money.
        Pending,
        /// Some money came, not enough.
        Underpaid,
        /// Enough money is in blocks that are not deep enough yet.
        Confirming,
        /// Enough money, deep enough.
        Confirmed,
        /// Was confirmed; a chain reorganisation took the money back.
        Reorged,
        /// Closed without money.
        Expired,
        /// Taken back by the merchant before any money came.
        Canceled,
        /// It cannot complete.
        Failed,
    }

    /// What is special about an order.
    OrderFlag = "order::OrderFlag" {
        /// More came than was due.
        Overpaid,
        /// Money came after the deadline.
        Late,
        /// A further payment came after the order was paid in full.
        ExtraPayment,
        /// A payment came in another asset.
        WrongAsset,
        /// The merchant should look at it.
        Review,
        /// An operator decided.
        Manual,
        /// All that counts is beyond any reorganisation.
        Finalized,
    }

    /// What became of late money.
    LateDecision = "order::LateStanding" {
        /// It counts.
        Accepted,
        /// It waits for a decision.
        Review,
        /// It does not count.
        Rejected,
    }

    /// Why an order failed.
    FailureReason = "order::FailureReason" {
        /// The operator rejected the payment.
        Rejected,
        /// All money came late and the merchant's policy rejects late money.
        LatePaymentRejected,
        /// The receiving address was claimed by its proven owner.
        AddressClaimedByOwner,
    }

    /// The status of a transaction.
    TransactionStatus = "transfer::TransactionStatus" {
        /// Not deep enough yet.
        Pending,
        /// Deep enough for its order, or final.
        Confirmed,
        /// Gone.
        Failed,
    }

    /// How much a transfer can be relied on.
    TransferState = "transfer::TransferState" {
        /// In a canonical block, receipt succeeded.
        Included,
        /// Beyond any reorganisation.
        Final,
        /// Not found at its block once.
        Missing,
        /// Gone from the chain; counts zero. May be included again.
        Orphaned,
        /// Reported without evidence that holds; pays no order until it is verified.
        Unverifiable,
    }

    /// Something that happened to an order or a merchant.
    EventType = "event::EventType" {
        /// An order was created.
        OrderCreated,
        /// The first counting transfer is in a block.
        PaymentPending,
        /// Some money came, not enough; or the order closed short.
        OrderUnderpaid,
        /// Enough money, deep enough.
        PaymentConfirmed,
        /// More came than was due.
        OrderOverpaid,
        /// A further payment came after the order was paid in full.
        OrderExtraPayment,
        /// Money came after the deadline.
        OrderLatePayment,
        /// A payment came in another asset, or on another chain. It does not count.
        OrderWrongAsset,
        /// Closed without money.
        OrderExpired,
        /// The merchant took the order back.
        OrderCanceled,
        /// A payment vanished before its confirmation, or the order failed.
        PaymentFailed,
        /// A reorganisation took a confirmed payment back.
        PaymentReorged,
        /// All that counts is beyond any reorganisation.
        OrderFinalized,
        /// Any other change.
        OrderUpdated,
        /// A transfer that fits no order.
        TransferUnmatched,
        /// Sent on request, to try an endpoint.
        WebhookTest,
    }

    /// What a merchant pays for; decides the request limit.
    Plan = "merchant::Plan" {
        /// 1000 requests an hour.
        Standard,
        /// 5000 requests an hour.
        Premium,
        /// As set for the merchant.
        Enterprise,
    }
}

/// How payment orders are sorted. Ties by id, the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub(super) enum PaymentOrderSort {
    /// Newest first.
    CreatedAtDesc,
    /// Oldest first.
    CreatedAtAsc,
}
