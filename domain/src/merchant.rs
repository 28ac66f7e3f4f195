//! Words about accounts: plans, scopes, wallets.

use crate::text::words;

words! {
    /// What a merchant pays for; decides the request limit.
    Plan {
        /// 1000 requests an hour.
        Standard = "standard",
        /// 5000 requests an hour.
        Premium = "premium",
        /// As set for the merchant.
        Enterprise = "enterprise",
    }
}

impl Plan {
    /// Requests an hour, unless the operator set another limit for the merchant. Source: the API overview; an
    /// enterprise merchant without a limit of its own gets premium's tenfold.
    pub const fn requests_per_hour(self) -> i64 {
        match self {
            Self::Standard => 1_000,
            Self::Premium => 5_000,
            Self::Enterprise => 50_000,
        }
    }
}

words! {
    /// What an API key may do.
    Scope {
        /// Look at everything of the merchant.
        Read = "read",
        /// Orders, allocations, decisions, test deliveries, sandbox payments.
        Write = "write",
        /// Wallets, webhook endpoints and their secrets, API keys, payment settings.
        Manage = "manage",
    }
}

words! {
    /// How a wallet hands out receiving addresses.
    WalletKind {
        /// One address for all orders.
        Address = "address",
    }
}

words! {
    /// What is known of who owns a wallet's address.
    Ownership {
        /// Nobody has proven anything.
        Unproven = "unproven",
        /// The merchant has signed with it.
        Proven = "proven",
        /// Another merchant holds it.
        Disputed = "disputed",
    }
}

words! {
    /// Whose deliveries an endpoint takes.
    EndpointScope {
        /// All orders of the merchant.
        Merchant = "merchant",
        /// Orders that carry a `webhook_url` of their own.
        Order = "order",
    }
}

words! {
    /// Where a delivery stands.
    DeliveryState {
        /// To be sent, now or later.
        Pending = "pending",
        /// The receiver took it.
        Delivered = "delivered",
        /// Given up; kept and can be sent again.
        Dead = "dead",
    }
}
