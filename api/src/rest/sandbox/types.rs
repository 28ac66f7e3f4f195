//! What the sandbox's controls take and answer.

use cryptopay_domain::address::Hash;
use cryptopay_ledger::Deleted;
use poem_openapi::Object;

use crate::operations::sandbox::Sent;
use crate::operations::sandbox::faucet::FaucetTransfer;
use crate::operations::sandbox::fault::NodeFault;

/// How to pay.
#[derive(Debug, Object)]
pub struct PayOrder {
    /// `exact` (if not said), `underpay`, `overpay`, `twice`, `split`, `late`, `wrong_token`, `replaced`,
    /// `reorg_before_confirmation`, `reorg_after_confirmation`, `double_spend` or `batch`.
    #[oai(validator(max_length = 64))]
    pub scenario: Option<String>,
    /// How much, as a plain decimal, instead of what the scenario would choose.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub amount: Option<String>,
    /// From which address; if not said, each order has a payer of its own.
    #[oai(validator(max_length = 64))]
    pub from: Option<String>,
    /// Whether the transaction carries the order's reference; if not said, all scenarios but `exact` do.
    pub with_reference: Option<bool>,
    /// Also mine the confirmations now.
    pub confirm: Option<bool>,
}

/// A payment that was sent.
#[derive(Debug, Object)]
pub struct SimulatedPayment {
    /// Hash of the transaction; of the first, where there are several.
    pub transaction_hash: String,
    /// Hashes of all transactions of this payment: two for `twice` and `split`, else one.
    pub transaction_hashes: Vec<String>,
    /// Status of the order at the moment; it changes when the gateway has read the block.
    pub order_status: String,
    /// About how long the confirmation takes if nobody mines, in seconds.
    pub confirms_in_seconds: u64,
}

impl SimulatedPayment {
    /// From what was sent.
    pub fn new(sent: &Sent) -> Self {
        Self {
            transaction_hash: sent.transaction_hash.to_string(),
            transaction_hashes: sent.transaction_hashes.iter().map(Hash::to_string).collect(),
            order_status: sent.order_status.to_string(),
            confirms_in_seconds: sent.confirms_in_seconds,
        }
    }
}

/// How much to mine.
#[derive(Debug, Object)]
pub struct MineBlocks {
    /// How many blocks; the chain's confirmations if not said.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    pub blocks: Option<i64>,
}

/// How to reorganise.
#[derive(Debug, Object)]
pub struct ReorganiseChain {
    /// How many of the newest blocks are replaced.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    pub depth: i64,
    /// Whether their transactions are in the new blocks too; true if not said.
    pub keep_transactions: Option<bool>,
}

/// Blocks that are new.
#[derive(Debug, Object)]
pub struct NewBlocks {
    /// Slug of the chain.
    pub blockchain: String,
    /// Height of the first.
    pub from_block: u64,
    /// Height of the last.
    pub to_block: u64,
}

/// How far to move the test clock.
#[derive(Debug, Object)]
pub struct AdvanceClock {
    /// By how many seconds; it only goes forward.
    #[oai(validator(minimum(value = "1"), maximum(value = "31622400")))]
    pub seconds: i64,
}

/// The test clock.
#[derive(Debug, Object)]
pub struct TestClock {
    /// What it shows: RFC 3339, UTC.
    pub now: String,
}

/// What a node does wrong, and for how long.
#[derive(Debug, Object)]
pub struct BreakNode {
    /// `down`: answers nothing but HTTP 503. `lagging`: has fallen some blocks behind and shows no new ones. `empty_logs`:
    /// knows of no logs. `stale_finalized`: calls nothing safe or final but the chain's first block.
    #[oai(validator(max_length = 64))]
    pub kind: String,
    /// For how many seconds, by the test clock; 0 ends whatever fault there is.
    #[oai(validator(minimum(value = "0"), maximum(value = "86400")))]
    pub seconds: i64,
}

/// A fault of a simulated chain's node.
#[derive(Debug, Object)]
pub struct NodeFaultState {
    /// Slug of the chain.
    pub blockchain: String,
    /// What the node does wrong.
    pub kind: String,
    /// Until when, by the test clock: RFC 3339, UTC. Null once it has ended.
    pub until: Option<String>,
}

impl NodeFaultState {
    /// From what was done.
    pub fn new(fault: &NodeFault) -> Self {
        Self {
            blockchain: fault.blockchain.clone(),
            kind: fault.kind.to_string(),
            until: fault.until.map(|until| until.to_string()),
        }
    }
}

/// Whom to give how much.
#[derive(Debug, Object)]
pub struct AskFaucet {
    /// Slug of a simulated chain, in any case.
    #[oai(validator(max_length = 64))]
    pub blockchain: String,
    /// Who is given something; in mixed case its checksum counts.
    #[oai(validator(max_length = 64))]
    pub address: String,
    /// Symbol of a token of the chain, or of its own coin.
    #[oai(validator(max_length = 64))]
    pub currency: String,
    /// How much, as a plain decimal with at most the token's decimals.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub amount: String,
}

/// Test tokens that were sent.
#[derive(Debug, Object)]
pub struct FaucetPayment {
    /// Hash of the transaction.
    pub transaction_hash: String,
    /// Slug of the chain.
    pub blockchain: String,
    /// The faucet's address, the same on every chain.
    pub from_address: String,
    /// Who is given something.
    pub to_address: String,
    /// How much.
    pub amount: String,
    /// Symbol.
    pub currency: String,
}

impl FaucetPayment {
    /// From what was sent.
    pub fn new(given: FaucetTransfer) -> Self {
        let FaucetTransfer { transaction_hash, blockchain, from_address, to_address, amount, currency } = given;
        Self { transaction_hash, blockchain, from_address, to_address, amount, currency }
    }
}

/// How much is gone.
#[derive(Debug, Object)]
pub struct DeletedThings {
    /// Payment orders.
    pub orders: u64,
    /// Transfers that nobody else sees.
    pub transfers: u64,
    /// Events.
    pub events: u64,
    /// Webhook deliveries.
    pub deliveries: u64,
    /// Wallets.
    pub wallets: u64,
    /// Webhook endpoints.
    pub endpoints: u64,
}

impl DeletedThings {
    /// From what was deleted.
    pub fn new(deleted: &Deleted) -> Self {
        let Deleted { orders, transfers, events, deliveries, wallets, endpoints } = *deleted;
        Self { orders, transfers, events, deliveries, wallets, endpoints }
    }
}
