//! Pays an order as a customer would: with transactions of its own, sent to the simulated chain.
//!
//! | file | holds |
//! |---|---|
//! | `pay/amounts.rs` | how much, and of what |
//! | `pay/words.rs` | what is said of it |
//! | `pay/error.rs` | why nothing was paid |

mod amounts;
mod error;
mod words;

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::ids::OrderId;
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::sandbox_transaction::Sent;
use cryptopay_entity::{payment_order, sandbox_transaction, transact};
use sea_orm::{DatabaseConnection, DatabaseTransaction};

pub use error::PayError;

use crate::chain::mining::{lock, mine_blocks};
use crate::chain::transaction::{Batch, Payer, Signed, Terms, Tip, Transfer, named_address, sign, sign_batch};
use crate::error::{column, unsigned, written};
use crate::{Scenario, SimulationError};
use words::{Said, whole_seconds};

/// How to pay. The default is what is due, from the customer of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Payment {
    /// In which way.
    pub scenario: Scenario,
    /// How much, in base units, instead of what the scenario would choose: of each transaction of [`Scenario::Twice`], of
    /// both of [`Scenario::Split`].
    pub amount: Option<Units>,
    /// From whom. Without it, every order has a payer of its own, whose signature is real; nobody has the key of an address
    /// that is named here, and the signature is one that no key can have made.
    pub from: Option<AccountAddress>,
    /// Whether the transaction carries the order's reference; see [`Scenario::has_reference_by_default`].
    pub with_reference: Option<bool>,
}

/// A payment that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// Hash of the transaction; of the first, where there are several.
    pub tx_hash: Hash,
    /// Hashes of the others.
    pub further: Vec<Hash>,
    /// Who pays.
    pub from: AccountAddress,
    /// How much the first transaction pays, in base units of what it pays with.
    pub units: Units,
    /// The block that holds it already; `None` while it waits for the next.
    pub block_number: Option<u64>,
    /// About how long it takes to be confirmed if nobody mines, in seconds of business time.
    pub confirms_in_seconds: u64,
    /// What the scenario comes to, for people; empty where the payment is one as it should be.
    pub outcome: String,
    /// The same, with what happens next and how to hasten it.
    pub message: String,
}

/// Sends a payment of `order`, which is on `chain`. It waits for the next block, but for the scenarios that
/// [`Scenario::vanishes_unconfirmed`], which go like this:
///
/// 1. The payment's block is mined at once, and one more if the payment is not confirmed by that.
/// 2. No further block is mined until the scanner has verified the payment's block (for a minute at most; then the
///    chain goes on, and the scenario ends as a plain payment; so it does if somebody mines until it is confirmed).
/// 3. When the next block is due after that, the payment's block and all above are replaced by as many without it, and
///    one more. Other transactions stay.
/// 4. The same transaction, or the one of the same nonce that replaces it, waits for three block times, five seconds at
///    least, and is mined with the next block.
///
/// [`Scenario::ReorgAfterConfirmation`] goes the same way, but that the payment waits for the next block, that blocks go on,
/// and that the reorganisation waits for the order to be confirmed. It is given up where the payment lies as deep as the
/// chain's `reorg_depth` before that.
///
/// # Errors
/// [`PayError`] says what to do instead. [`PayError::Simulation`] is ours.
pub async fn pay(
    database: &DatabaseConnection,
    chain: &Chain,
    order: &payment_order::Model,
    payment: Payment,
) -> Result<Paid, PayError> {
    if order.chain != chain.slug {
        return Err(PayError::WrongChain { wanted: order.chain.clone(), given: chain.slug.clone() });
    }
    let token =
        chain.token_of(order.asset).ok_or_else(|| PayError::AssetNotRegistered { currency: order.currency.clone() })?;
    let (required, depth) = (order.required_confirmations, chain.reorg_depth);
    if payment.scenario.vanishes_unconfirmed() && required < 2 {
        return Err(PayError::ConfirmsAtOnce);
    }
    if payment.scenario == Scenario::ReorgAfterConfirmation && required >= i64::from(depth) {
        return Err(PayError::FinalWhenConfirmed { required, depth });
    }
    if payment.scenario == Scenario::Batch && order.asset == Asset::Native {
        return Err(PayError::BatchOfCoins { currency: token.symbol.clone() });
    }
    let payer = match payment.from {
        Some(address) => Payer::Impersonated(address),
        None => Payer::named(order.order_id.as_str())?,
    };
    if payer.address() == order.receiving_address {
        return Err(PayError::PayerIsRecipient);
    }
    transact!(database, |txn| { send(txn, chain, order, payment, token, &payer).await })
}

async fn send(
    txn: &DatabaseTransaction,
    chain: &Chain,
    order: &payment_order::Model,
    payment: Payment,
    token: &Token,
    payer: &Payer,
) -> Result<Paid, PayError> {
    let scenario = payment.scenario;
    let locked = lock(txn, chain).await?;
    let not_before = earliest(order, scenario, locked.now)?;
    let units = amounts::chosen(payment, amounts::due(order), token)?;
    let (token, units) = match scenario {
        Scenario::WrongToken => amounts::wrong(chain, token, units)?,
        _ => (token, units),
    };
    let parts = amounts::parts(scenario, units);
    let with_reference = payment.with_reference.unwrap_or(scenario.has_reference_by_default());
    let outbox = Outbox { txn, chain, order: order.id, payer, not_before };
    let (mut hashes, mut first_key) = (Vec::with_capacity(parts.len()), None);
    let mut nonce = sandbox_transaction::Entity::next_nonce(txn, &chain.slug, payer.address()).await?;
    let first_nonce = nonce;
    let plan = Plan {
        vanish_below_depth: match scenario {
            Scenario::ReorgAfterConfirmation => Some(i64::from(chain.reorg_depth)),
            _ => scenario.vanishes_unconfirmed().then_some(order.required_confirmations),
        },
        vanish_confirmed: scenario == Scenario::ReorgAfterConfirmation,
        replaces: None,
    };
    for units in &parts {
        let transfer = Transfer {
            asset: token.asset,
            to: order.receiving_address,
            units: *units,
            reference: with_reference.then_some(order.reference),
        };
        let terms = Terms { chain_id: chain.chain_id, nonce: unsigned(nonce)?, tip: Tip::Usual };
        let signed = match (scenario, token.asset) {
            (Scenario::Batch, Asset::Token(contract)) => batch(payer, terms, contract, &transfer)?,
            _ => sign(payer, terms, &transfer)?,
        };
        hashes.push(signed.hash);
        let key = outbox.send(signed, nonce, plan).await?;
        first_key = first_key.or(Some((key, transfer)));
        nonce = nonce.checked_add(1).ok_or(SimulationError::OutOfRange)?;
    }
    let (Some((key, transfer)), Some((tx_hash, further))) = (first_key, hashes.split_first()) else {
        return Err(SimulationError::Incomplete("payment").into());
    };
    let replacement = match scenario {
        Scenario::Replaced => Some(transfer),
        Scenario::DoubleSpend => {
            let somebody_else = AccountAddress(named_address("somebody else"));
            Some(Transfer { to: somebody_else, reference: None, ..transfer })
        }
        _ => None,
    };
    if let Some(transfer) = replacement {
        let terms = Terms { chain_id: chain.chain_id, nonce: unsigned(first_nonce)?, tip: Tip::Raised };
        let plan = Plan { replaces: Some(key), ..Plan::default() };
        outbox.send(sign(payer, terms, &transfer)?, first_nonce, plan).await?;
    }
    let mut block_number = None;
    if scenario.vanishes_unconfirmed() {
        let blocks = if order.required_confirmations > 2 { 2 } else { 1 };
        mine_blocks(txn, chain, &locked, blocks).await?;
        let mined = sandbox_transaction::Entity::with_hash(txn, &chain.slug, *tx_hash).await?;
        block_number = mined.and_then(|row| row.block_number).map(unsigned).transpose()?;
    }
    let said = Said { chain, order, scenario, token, parts: &parts, now: locked.now };
    Ok(Paid {
        tx_hash: *tx_hash,
        further: further.to_vec(),
        from: payer.address(),
        units: transfer.units,
        block_number,
        confirms_in_seconds: said.confirms_in_seconds(),
        outcome: said.outcome(),
        message: said.message(),
    })
}

/// What becomes of a transaction besides being mined.
#[derive(Clone, Copy, Default)]
struct Plan {
    vanish_below_depth: Option<i64>,
    vanish_confirmed: bool,
    replaces: Option<i64>,
}

/// Where the transactions for an order are put.
struct Outbox<'a> {
    txn: &'a DatabaseTransaction,
    chain: &'a Chain,
    order: OrderId,
    payer: &'a Payer,
    not_before: Timestamp,
}

impl Outbox<'_> {
    /// Sends a transaction; its key.
    async fn send(&self, signed: Signed, nonce: i64, plan: Plan) -> Result<i64, SimulationError> {
        let sent = Sent {
            chain: self.chain.slug.clone(),
            tx_hash: signed.hash,
            sender: self.payer.address(),
            sender_nonce: nonce,
            transaction_json: written("transaction", &signed.envelope)?,
            gas_used: column(signed.gas_used)?,
            logs: written("list of logs", &signed.logs)?,
            not_before: self.not_before,
            vanish_below_depth: plan.vanish_below_depth,
            pays_order: Some(self.order),
            vanish_confirmed: plan.vanish_confirmed,
            replaces: plan.replaces,
        };
        Ok(sandbox_transaction::Entity::send(self.txn, sent).await?)
    }
}

/// The transfer between two others of as much.
fn batch(payer: &Payer, terms: Terms, token: AccountAddress, transfer: &Transfer) -> Result<Signed, SimulationError> {
    let [before, after] = ["first bystander", "second bystander"].map(|name| AccountAddress(named_address(name)));
    let payments = [before, transfer.to, after].map(|to| (to, transfer.units));
    sign_batch(payer, terms, &Batch { token, payments: &payments, reference: transfer.reference })
}

/// The earliest time of the block that may hold the payment. Block times are whole seconds, so the first late one is the
/// first whole second after the deadline.
fn earliest(order: &payment_order::Model, scenario: Scenario, now: Timestamp) -> Result<Timestamp, PayError> {
    if scenario != Scenario::Late {
        return Ok(now);
    }
    let seconds = u64::try_from(order.in_time_until.as_secs().saturating_add(1)).unwrap_or(0);
    let earliest = Timestamp::from_secs(seconds);
    if now < earliest {
        let wait = earliest.since(now);
        return Err(PayError::StillInTime { advance_seconds: whole_seconds(wait) });
    }
    Ok(earliest)
}
