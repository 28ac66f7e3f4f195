//! `/api/sandbox/…` and the address that webhooks arrive at. In live mode none of it exists.

mod inbox;
mod types;

use poem::web::Data;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

pub use inbox::{ChangeInbox, Inbox, InboxAnswers, InboxMessage, inbox_route};
pub use types::*;

use super::Tag;
use super::body::{Body, NoFields};
use super::envelope::{Answer, Created, Success};
use crate::app::App;
use crate::error::ApiError;
use crate::operations::sandbox;
use crate::principal::{Manager, Writer};

/// The routes.
#[derive(Debug)]
pub struct Sandbox;

/// Taken first by every operation: in live mode nothing here exists, with or without a token.
struct SandboxOnly;

impl<'a> FromRequest<'a> for SandboxOnly {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let app = request.data::<App>().ok_or_else(|| ApiError::internal("no App in the request"))?;
        sandbox::require(app)?;
        Ok(Self)
    }
}

#[OpenApi(prefix_path = "/api/sandbox", tag = "Tag::Sandbox")]
impl Sandbox {
    /// Pay an order on the simulated chain
    ///
    /// As a customer would: the transaction waits for the next block, and the gateway finds it there.
    #[oai(path = "/payment-orders/:id/pay/", method = "post", operation_id = "simulatePayment")]
    async fn pay(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        auth: Writer,
        /// Number of the order, or its `ORD-…`
        id: Path<String>,
        body: Body<PayOrder>,
    ) -> Answer<Created<SimulatedPayment>> {
        let sent = sandbox::pay(&app, &auth.0, &id, body.fields).await?;
        Ok(Created(SimulatedPayment::new(&sent), sent.message))
    }

    /// Mine blocks on a simulated chain
    ///
    /// Acts on the whole instance, for every merchant.
    #[oai(path = "/blockchains/:slug/mine/", method = "post", operation_id = "mineBlocks")]
    async fn mine(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        _auth: Manager,
        /// Slug of the chain, in any case
        slug: Path<String>,
        body: Body<MineBlocks>,
    ) -> Answer<Success<NewBlocks>> {
        let (mined, message) = sandbox::mine(&app, &slug, &body.fields).await?;
        Ok(Success(NewBlocks { blockchain: slug.to_lowercase(), from_block: mined.from, to_block: mined.to }, message))
    }

    /// Reorganise a simulated chain
    ///
    /// Replaces the newest blocks by as many others and one more. Acts on the whole instance, for every merchant.
    #[oai(path = "/blockchains/:slug/reorg/", method = "post", operation_id = "reorganiseChain")]
    async fn reorg(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        _auth: Manager,
        /// Slug of the chain, in any case
        slug: Path<String>,
        body: Body<ReorganiseChain>,
    ) -> Answer<Success<NewBlocks>> {
        let (done, message) = sandbox::reorg(&app, &slug, &body.fields).await?;
        Ok(Success(NewBlocks { blockchain: slug.to_lowercase(), from_block: done.from, to_block: done.to }, message))
    }

    /// Let a simulated chain's node misbehave
    ///
    /// For so many seconds of the test clock, or until a further call with 0 seconds. Blocks are mined meanwhile, and what
    /// they hold is read when the fault is over: nothing is lost. A chain has one fault at a time; a further one takes its
    /// place. Acts on the whole instance, for every merchant.
    #[oai(path = "/blockchains/:slug/fault/", method = "post", operation_id = "breakNode")]
    async fn fault(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        _auth: Manager,
        /// Slug of the chain, in any case
        slug: Path<String>,
        body: Body<BreakNode>,
    ) -> Answer<Success<NodeFaultState>> {
        let (fault, message) = sandbox::fault::fault(&app, &slug, body.fields).await?;
        Ok(Success(NodeFaultState::new(&fault), message))
    }

    /// Send test tokens to an address
    ///
    /// Nobody's balance is kept here, and everybody can pay: this is a transfer like any other, from one address that is the
    /// same on every chain. Sent to an address of yours, it shows what becomes of money that no order asked for.
    #[oai(path = "/faucet/", method = "post", operation_id = "askFaucet")]
    async fn faucet(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        _auth: Writer,
        body: Body<AskFaucet>,
    ) -> Answer<Created<FaucetPayment>> {
        let (given, message) = sandbox::faucet::give(&app, body.fields).await?;
        Ok(Created(FaucetPayment::new(given), message))
    }

    /// Move the test clock forward
    ///
    /// For expiry, late windows and webhook retries. Acts on the whole instance, for every merchant; tokens, leases and
    /// rate limits keep the real clock.
    #[oai(path = "/clock/advance/", method = "post", operation_id = "advanceClock")]
    async fn advance_clock(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        _auth: Manager,
        body: Body<AdvanceClock>,
    ) -> Answer<Success<TestClock>> {
        let (now, message) = sandbox::advance_clock(&app, &body.fields).await?;
        Ok(Success(TestClock { now: now.to_string() }, message))
    }

    /// Begin anew
    ///
    /// Deletes everything of yours: orders, transactions, events, webhook deliveries and endpoints, wallets, payment settings
    /// and the messages of your inbox. The account, its logins and its API keys stay, and so do the endpoint of your inbox and
    /// the one that signs deliveries to `webhook_url`s, with their secrets. Nonces are free again. What is on the chains stays
    /// there; other merchants notice nothing.
    #[oai(path = "/reset/", method = "post", operation_id = "resetSandbox")]
    async fn reset(
        &self,
        _mode: SandboxOnly,
        app: Data<&App>,
        auth: Manager,
        body: Body<NoFields>,
    ) -> Answer<Success<DeletedThings>> {
        let (deleted, message) = sandbox::reset::reset(&app, &auth.0, &body.fields).await?;
        Ok(Success(DeletedThings::new(&deleted), message))
    }
}
