//! The schema against both databases, and the ways in.

mod following;
mod http;
mod queries;
mod schema;
mod socket;

use async_graphql::{Request, Variables};
use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::ids::{EventRef, OrderRef};
use cryptopay_domain::merchant::{Ownership, WalletKind};
use cryptopay_domain::order::OrderSnapshot;
use cryptopay_entity::{chain_cursor, clock, event, merchant_wallet, payment_order, transact};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Schema;
use crate::app::App;
use crate::operations::payment_orders;
use crate::principal::Principal;
use crate::rest::types::CreatePaymentOrder;
use crate::testing;

/// A merchant with a wallet on Base, and the schema as that merchant sees it.
#[derive(Clone)]
struct Shop {
    app: App,
    schema: Schema,
    principal: Principal,
}

impl Shop {
    async fn open(app: &App, name: &str) -> Self {
        let principal = testing::merchant(app, name).await;
        let database = app.database();
        let now = clock::database_now(database).await.unwrap();
        // The first shop finds the chain unread.
        let _ = chain_cursor::Entity::begin(database, "base", 100, hash(100), now, now).await;
        let address: AccountAddress = format!("0x{:040x}", 0xa11ce + principal.merchant_id().0).parse().unwrap();
        let wallet = merchant_wallet::ActiveModel {
            id: NotSet,
            merchant_id: Set(principal.merchant_id()),
            chain: Set("base".to_owned()),
            kind: Set(WalletKind::Address),
            address: Set(Some(address)),
            label: Set(String::new()),
            is_active: Set(true),
            dedicated: Set(false),
            ownership: Set(Ownership::Unproven),
            created_at: Set(now),
            updated_at: Set(now),
            deleted_at: Set(None),
        };
        wallet.insert(database).await.unwrap();
        Self { app: app.clone(), schema: super::schema(app.clone()), principal }
    }

    async fn order(&self, nonce: i64) -> OrderRef {
        let body = json!({
            "amount": format!("{}.00", 10 + nonce), "currency": "USDC", "blockchain": "base",
            "order_info": format!("{{\"basket\": {nonce}}}"), "nonce": nonce,
        });
        let fields = testing::fields::<CreatePaymentOrder>(body);
        let created = payment_orders::create(&self.app, &self.principal, fields, testing::once()).await;
        created.unwrap().made().unwrap().order_id
    }

    fn request(&self, query: &str) -> Request {
        Request::new(query).data(self.principal.clone())
    }

    /// The answer to a query, errors and all.
    async fn ask(&self, query: &str) -> Value {
        serde_json::to_value(self.schema.execute(self.request(query)).await).unwrap()
    }

    /// The data of an answer without errors.
    async fn data(&self, query: &str) -> Value {
        self.data_with(query, json!({})).await
    }

    async fn data_with(&self, query: &str, variables: Value) -> Value {
        let request = self.request(query).variables(Variables::from_json(variables));
        let answer = serde_json::to_value(self.schema.execute(request).await).unwrap();
        assert_eq!(answer.get("errors"), None, "{answer}");
        answer["data"].clone()
    }

    /// The code of the first error of an answer.
    async fn code(&self, query: &str) -> String {
        code(&self.ask(query).await)
    }

    /// Changes an order `times` times, in one transaction, without numbering the events.
    async fn change(&self, order: &OrderRef, times: i64) {
        let changed = transact!(self.app.database(), |txn| {
            let merchant = self.principal.merchant_id();
            let row = payment_order::Entity::find_owned_by_ref(txn, merchant, order).await?.unwrap();
            let newest = event::Entity::find()
                .filter(event::Column::OrderId.eq(row.id))
                .order_by_desc(event::Column::OrderVersion)
                .one(txn)
                .await?
                .unwrap();
            let mut snapshot: OrderSnapshot = serde_json::from_str(&newest.snapshot).unwrap();
            let mut events = Vec::new();
            for _ in 0..times {
                snapshot = snapshot.at_version(snapshot.version + 1);
                let mut event = newest.clone().into_active_model();
                event.id = NotSet;
                event.event_id = Set(EventRef::from_entropy(rand::random()));
                event.event_type = Set(cryptopay_domain::event::EventType::OrderUpdated);
                event.order_version = Set(Some(snapshot.version));
                event.snapshot = Set(serde_json::to_string(&snapshot).unwrap());
                event.sequence = Set(None);
                events.push(event);
            }
            event::Entity::insert_many(events).exec_without_returning(txn).await?;
            let mut row = row.into_active_model();
            row.version = Set(snapshot.version);
            row.update(txn).await?;
            Ok::<(), DbErr>(())
        });
        changed.unwrap();
    }

    /// Numbers what is not numbered, and says so on the bus. Gives the last number.
    async fn publish(&self) -> i64 {
        let mut last = 0;
        while let Some(sequence) = event::Entity::publish(self.app.database()).await.unwrap() {
            self.app.context.events.publish(sequence);
            last = sequence;
        }
        last
    }

    /// A change that is told at once.
    async fn tell(&self, order: &OrderRef) -> i64 {
        self.change(order, 1).await;
        self.publish().await
    }
}

/// Follows the numbered events, as each process does, until it is dropped.
struct Tailer {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Tailer {
    fn start(app: &App) -> Self {
        let stop = CancellationToken::new();
        let run = app.live.clone().run(app.database().clone(), app.context.events.clone(), stop.clone());
        Self { stop, task: tokio::spawn(run) }
    }
}

impl Drop for Tailer {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

fn code(answer: &Value) -> String {
    answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("no code: {answer}")).to_owned()
}

fn hash(number: u64) -> Hash {
    format!("0x{number:064x}").parse().unwrap()
}
