//! For tests: merchants who are paid on simulated chains, and those chains' blocks recorded by hand, as a scanner would.

use std::collections::BTreeMap;
use std::time::Duration;

use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::ids::ApiKeyId;
use cryptopay_domain::merchant::Scope;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::{Block, ObservedTransfer, Position, UnverifiableTransfer};
use cryptopay_domain::units::Units;
use cryptopay_entity::merchant::NewMerchant;
use cryptopay_entity::{chain_block, chain_cursor, clock, event, merchant, payment_order, transact};
use cryptopay_ledger::{Batch, Fence, LedgerError, Nudges, Occasion};
use cryptopay_test_support::TestDatabase;
use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem::http::uri::Scheme;
use poem::middleware::{NormalizePath, TrailingSlash};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, EndpointExt, Request, RequestParts, Response, Route};
use serde_json::{Value, json};

use super::{payment_orders, wallets};
use crate::app::App;
use crate::principal::{Credential, Principal};
use crate::rest::types::CreatePaymentOrder;
use crate::rest::wallets::CreateWallet;
use crate::rest::{self, payment_page, sandbox};
use crate::testing::{app, fields, once};

/// Height at which every chain begins.
pub(crate) const FIRST: u64 = 1_000;

/// A gateway and the blocks of its chains.
pub(crate) struct Shop {
    pub(crate) app: App,
    tips: BTreeMap<&'static str, Block>,
    made: u64,
}

/// A transfer that comes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming {
    pub(crate) tx_hash: Hash,
    pub(crate) position: Position,
    pub(crate) to: AccountAddress,
    pub(crate) units: Units,
}

impl Shop {
    pub(crate) async fn new(db: &TestDatabase) -> Self {
        let mut shop = Self { app: app(db).await, tips: BTreeMap::new(), made: 0 };
        for slug in ["base", "polygon"] {
            let now = shop.now().await;
            let tip = Block { number: FIRST, hash: shop.hash(), parent: hash(0), time: now };
            let height = i64::try_from(FIRST).unwrap();
            chain_cursor::Entity::begin(shop.app.database(), slug, height, tip.hash, now, now).await.unwrap();
            chain_block::Entity::append(shop.app.database(), slug, &[tip], height).await.unwrap();
            shop.tips.insert(slug, tip);
        }
        shop
    }

    pub(crate) async fn now(&self) -> Timestamp {
        clock::business_now(self.app.database()).await.unwrap()
    }

    /// A merchant with a wallet on both chains.
    pub(crate) async fn merchant(&mut self, name: &str) -> (Principal, AccountAddress) {
        let new = NewMerchant {
            username: name.to_owned(),
            email: format!("{name}@example.com"),
            password_hash: String::new(),
            shop_name: name.to_owned(),
        };
        let merchant = merchant::Entity::add(self.app.database(), new, self.now().await).await.unwrap();
        let credential = Credential::Key { id: ApiKeyId(1), scopes: Scope::ALL.to_vec(), expires_at: None };
        let principal = Principal { merchant: merchant.into(), credential };
        self.made += 1;
        let address: AccountAddress = format!("0xa11ce{:035x}", self.made).parse().unwrap();
        for slug in ["base", "polygon"] {
            let body = json!({"blockchain": slug, "address": address.to_key()});
            wallets::create(&self.app, &principal, fields::<CreateWallet>(body), once()).await.unwrap();
        }
        (principal, address)
    }

    /// An order for 100.00 USDC on Base.
    pub(crate) async fn order(&mut self, principal: &Principal) -> payment_order::Model {
        self.made += 1;
        let body = json!({
            "amount": "100.00", "currency": "USDC", "blockchain": "base", "nonce": self.made,
            "order_info": "{\"private\":1}", "redirect_url": "https://shop.example/thanks",
        });
        let fields = fields::<CreatePaymentOrder>(body);
        let order = payment_orders::create(&self.app, principal, fields, once()).await.unwrap().made().unwrap();
        self.row(principal, &order.order_id.to_string()).await
    }

    pub(crate) async fn row(&self, principal: &Principal, id: &str) -> payment_order::Model {
        payment_orders::find(&self.app, principal, id).await.unwrap()
    }

    /// A transfer in a transaction of its own.
    pub(crate) fn transfer(&mut self, to: AccountAddress, units: Units) -> Incoming {
        Incoming { tx_hash: self.hash(), position: Position::Log(0), to, units }
    }

    /// Records a block with these transfers of USDC.
    pub(crate) async fn receive(&mut self, slug: &'static str, transfers: &[Incoming]) {
        self.record(slug, transfers, None).await;
    }

    /// Records a block with a transfer of USDC whose evidence does not hold.
    pub(crate) async fn receive_unverifiable(&mut self, slug: &'static str, transfer: Incoming, reason: &str) {
        self.record(slug, &[], Some((transfer, reason))).await;
    }

    async fn record(&mut self, slug: &'static str, transfers: &[Incoming], unverifiable: Option<(Incoming, &str)>) {
        let chain = self.app.chain(slug).unwrap().clone();
        let asset = chain.token("USDC").unwrap().asset;
        let tip = self.tips[slug];
        let now = self.now().await;
        let block = Block { number: tip.number + 1, hash: self.hash(), parent: tip.hash, time: now };
        let observed: Vec<ObservedTransfer> = transfers
            .iter()
            .enumerate()
            .map(|(index, transfer)| ObservedTransfer {
                tx_hash: transfer.tx_hash,
                position: transfer.position,
                log_index: Some(u64::try_from(index).unwrap()),
                block,
                from: "0x00000000000000000000000000000000c0ffee00".parse().unwrap(),
                to: transfer.to,
                asset,
                units: transfer.units,
                sender: "0x00000000000000000000000000000000c0ffee00".parse().unwrap(),
                sender_nonce: 7,
                gas_used: 60_000,
                gas_price: Units::new(1_500_000_000),
                extra_fee: Units::new(1),
                input: [].into(),
                sole: true,
            })
            .collect();
        let reported: Vec<UnverifiableTransfer> = unverifiable
            .into_iter()
            .map(|(transfer, reason)| UnverifiableTransfer {
                tx_hash: transfer.tx_hash,
                position: Position::Unknown(17),
                log_index: Some(17),
                block,
                from: "0x00000000000000000000000000000000c0ffee00".parse().unwrap(),
                to: transfer.to,
                asset,
                units: transfer.units,
                reason: reason.to_owned(),
            })
            .collect();
        let height = i64::try_from(tip.number).unwrap();
        let leased = now.plus(Duration::from_secs(3));
        let lease = chain_cursor::Entity::lease(self.app.database(), slug, "test", now, leased).await.unwrap();
        let fence = Fence { epoch: lease.unwrap(), height, hash: tip.hash };
        let batch = Batch {
            chain: &chain,
            blocks: &[block],
            transfers: &observed,
            unverifiable: &reported,
            head_height: block.number,
            final_height: None,
        };
        let occasion = Occasion { registry: &self.app.context.registry, cause: "seen in a block", now };
        let recorded: Result<Nudges, LedgerError> = transact!(self.app.database(), |txn| {
            cryptopay_ledger::record_batch(txn, occasion, &fence, batch).await
        });
        let _ = recorded.unwrap();
        self.tips.insert(slug, block);
    }

    /// Records empty blocks.
    pub(crate) async fn mine(&mut self, slug: &'static str, blocks: u32) {
        for _ in 0..blocks {
            self.receive(slug, &[]).await;
        }
    }

    /// Numbers the events, as the timer does.
    pub(crate) async fn publish(&self) {
        if let Some(last) = event::Entity::publish(self.app.database()).await.unwrap() {
            self.app.context.events.publish(last);
        }
    }

    fn hash(&mut self) -> Hash {
        self.made += 1;
        hash(self.made)
    }

    /// Every route of REST and the payment page, without what the HTTP surface puts around them.
    pub(crate) fn routes(&self) -> BoxEndpoint<'static, Response> {
        routes(&self.app)
    }
}

fn hash(number: u64) -> Hash {
    format!("0x{number:064x}").parse().unwrap()
}

/// Every route of REST and the payment page of a gateway.
pub(crate) fn routes(app: &App) -> BoxEndpoint<'static, Response> {
    let route = sandbox::inbox_route(payment_page::public_routes(Route::new()));
    let route = route.nest("/", rest::service()).with(NormalizePath::new(TrailingSlash::Trim));
    route.data(app.clone()).map_to_response().boxed()
}

/// Sends a request, as if it had come over the network, and gives the whole answer.
pub(crate) async fn send(app: &App, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut came = poem::http::Request::new(());
    (*came.method_mut(), *came.uri_mut(), *came.headers_mut()) = (parts.method, parts.uri, parts.headers);
    let parts = RequestParts::from((came.into_parts().0, LocalAddr::default(), RemoteAddr::default(), Scheme::HTTP));
    routes(app).get_response(Request::from_parts(parts, body)).await
}

/// Gets a page without a token.
pub(crate) async fn get(app: &App, path: &str) -> Response {
    send(app, Request::builder().method(Method::GET).uri(path.parse().unwrap()).finish()).await
}

/// The JSON of an answer.
pub(crate) async fn body(response: Response) -> Value {
    serde_json::from_str(&response.into_body().into_string().await.unwrap()).unwrap()
}
