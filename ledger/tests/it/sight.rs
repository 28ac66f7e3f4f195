//! What can be seen of the world: rows, events, deliveries, the inbox.

use std::collections::BTreeMap;

use cryptopay_domain::address::Hash;
use cryptopay_domain::event::EventType::{self, OrderCreated};
use cryptopay_domain::ids::OrderId;
use cryptopay_domain::order::OrderSnapshot;
use cryptopay_domain::transfer::TransferState;
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, amount_reservation, event, payment_order, transfer, webhook_delivery};
use cryptopay_ledger as ledger;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::fake_chain::Payment;
use crate::world::{EVERYTHING_URL, Merchant, World};

impl World {
    pub(crate) async fn row(&self, order: OrderId) -> payment_order::Model {
        payment_order::Entity::find_by_id(order).one(self.db()).await.unwrap().unwrap()
    }

    /// Status, flags and received units of an order, in words.
    pub(crate) async fn said(&self, order: OrderId) -> String {
        let row = self.row(order).await;
        let flags = if row.flags.is_empty() { String::new() } else { format!(" {}", row.flags) };
        format!("{}{flags} {}", row.status, row.received_units)
    }

    /// The events of an order after its creation. Checks what holds of every history.
    pub(crate) async fn events(&self, order: OrderId) -> Vec<EventType> {
        let row = self.row(order).await;
        let events = event::Entity::of_order(self.db(), row.merchant_id, order).await.unwrap();
        let versions: Vec<i64> = events.iter().map(|event| event.order_version.unwrap()).collect();
        assert_eq!(versions, (1..=row.version).collect::<Vec<_>>(), "versions without gaps");
        for event in &events {
            let told: OrderSnapshot = serde_json::from_str(&event.snapshot).unwrap();
            assert_eq!(Some(told.version), event.order_version);
            assert_eq!(told.fulfillable, told.status.as_str() == "confirmed", "{told:?}");
            self.check_deliveries(event, row.webhook_url.as_deref()).await;
        }
        let events: Vec<EventType> = events.into_iter().map(|event| event.event_type).collect();
        assert_eq!(events[0], OrderCreated);
        events[1..].to_vec()
    }

    /// One delivery for the endpoint that wants everything, and one for the order's own url if it wants this event and
    /// that endpoint does not have it.
    async fn check_deliveries(&self, event: &event::Model, own_url: Option<&str>) {
        let deliveries = self.deliveries(event).await;
        let to = |url: &str| deliveries.iter().filter(|delivery| delivery.url == url).count();
        assert_eq!(to(EVERYTHING_URL), 1, "{}", event.event_type);
        let own = own_url.filter(|url| *url != EVERYTHING_URL && EventType::DEFAULTS.contains(&event.event_type));
        assert_eq!(deliveries.len(), 1 + own.map_or(0, to), "{}", event.event_type);
        assert!(own.is_none_or(|url| to(url) == 1), "{}", event.event_type);
        for delivery in deliveries {
            assert_eq!((delivery.order_version, delivery.event_type), (event.order_version, event.event_type));
            assert_eq!(delivery.merchant_id, event.merchant_id);
            let body: serde_json::Value = serde_json::from_str(&delivery.body).unwrap();
            assert_eq!(body["event"], event.event_type.as_str());
            assert_eq!(body["webhook_id"], delivery.delivery_id.as_str());
            assert_eq!(body["data"]["event_id"], event.event_id.as_str());
        }
    }

    pub(crate) async fn deliveries(&self, event: &event::Model) -> Vec<webhook_delivery::Model> {
        webhook_delivery::Entity::find()
            .filter(webhook_delivery::Column::EventId.eq(event.id))
            .order_by_asc(webhook_delivery::Column::Id)
            .all(self.db())
            .await
            .unwrap()
    }

    /// The live allocations of an order: units and how they were found.
    pub(crate) async fn allocations(&self, order: OrderId) -> Vec<(Units, String)> {
        let rows = allocation::Entity::live_of_orders(self.db(), [order]).await.unwrap();
        rows.into_iter().map(|row| (row.units, row.method.to_string())).collect()
    }

    /// The stored transfers of a transaction.
    pub(crate) async fn transfers(&self, tx_hash: Hash) -> Vec<transfer::Model> {
        transfer::Entity::find()
            .filter(transfer::Column::TxHash.eq(tx_hash))
            .order_by_asc(transfer::Column::Id)
            .all(self.db())
            .await
            .unwrap()
    }

    pub(crate) async fn transfers_all(&self) -> Vec<transfer::Model> {
        transfer::Entity::find().order_by_asc(transfer::Column::Id).all(self.db()).await.unwrap()
    }

    pub(crate) async fn state(&self, payment: &Payment) -> TransferState {
        let rows = self.transfers(payment.tx_hash).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].state
    }

    /// Transfers that were announced as unmatched to a merchant, by transaction, with the candidates named.
    pub(crate) async fn inbox(&self, merchant: Merchant) -> Vec<(Hash, Vec<String>)> {
        let events = event::Entity::find()
            .filter(event::Column::MerchantId.eq(merchant.id))
            .filter(event::Column::EventType.eq(EventType::TransferUnmatched))
            .order_by_asc(event::Column::Id)
            .all(self.db())
            .await
            .unwrap();
        let mut inbox = Vec::new();
        for event in events {
            assert_eq!((event.order_id, event.order_version), (None, None));
            assert_eq!(self.deliveries(&event).await.len(), 1, "only the endpoint that wants everything");
            let told: serde_json::Value = serde_json::from_str(&event.snapshot).unwrap();
            let candidates = told["candidates"].as_array().unwrap().iter();
            let candidates = candidates.map(|candidate| candidate["order_id"].as_str().unwrap().to_owned()).collect();
            inbox.push((told["transaction_hash"].as_str().unwrap().parse().unwrap(), candidates));
        }
        inbox
    }

    pub(crate) async fn held(&self, order: OrderId) -> Vec<Units> {
        let held = amount_reservation::Entity::held_by(self.db(), order).await.unwrap();
        held.into_iter().map(|row| row.units).collect()
    }

    /// Numbers the events and asks the checker.
    pub(crate) async fn audit(&self) {
        while event::Entity::publish(self.db()).await.unwrap().is_some() {}
        self.check_rules().await;
    }

    /// Asks the checker.
    pub(crate) async fn check_rules(&self) {
        let found = ledger::audit::check(self.db()).await.unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, Vec::<String>::new());
    }

    /// How many events there are, by order.
    pub(crate) async fn event_counts(&self) -> BTreeMap<Option<OrderId>, usize> {
        let mut counts = BTreeMap::new();
        for event in event::Entity::find().all(self.db()).await.unwrap() {
            *counts.entry(event.order_id).or_default() += 1;
        }
        counts
    }
}
