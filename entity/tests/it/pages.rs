//! Walking through a list page by page.

use cryptopay_domain::order::OrderStatus;
use cryptopay_entity::pages::{Place, Start, Window};
use cryptopay_entity::payment_order::{self, OrderFilter};
use cryptopay_entity::{transfer, webhook_delivery};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::rows::{self, ENDPOINT, MERCHANT};

/// Lists that are walked.
#[derive(Debug, Clone, Copy)]
enum List {
    Orders,
    OrdersOfSeveralStatuses,
    OrdersFound,
    Transfers,
    Unsettled,
    Deliveries,
}

impl List {
    const ALL: [Self; 6] = [
        Self::Orders,
        Self::OrdersOfSeveralStatuses,
        Self::OrdersFound,
        Self::Transfers,
        Self::Unsettled,
        Self::Deliveries,
    ];

    async fn read(self, db: &TestDatabase, window: Window) -> Vec<Place> {
        let db = db.connection();
        let orders = async |filter: OrderFilter| {
            let rows = payment_order::Entity::list_owned(db, MERCHANT, &filter, window).await.unwrap();
            rows.iter().map(payment_order::Model::place).collect()
        };
        match self {
            Self::Orders => orders(OrderFilter::default()).await,
            Self::OrdersOfSeveralStatuses => {
                let statuses = vec![OrderStatus::Confirmed, OrderStatus::Pending, OrderStatus::Underpaid];
                orders(OrderFilter { statuses, ..OrderFilter::default() }).await
            }
            Self::OrdersFound => {
                let found =
                    payment_order::Entity::search(db, MERCHANT, &OrderFilter::default(), "NUMBER").await.unwrap();
                window.among(&found)
            }
            Self::Transfers | Self::Unsettled => {
                let statuses = match self {
                    Self::Unsettled => vec![cryptopay_domain::transfer::TransactionStatus::Failed],
                    _ => Vec::new(),
                };
                let filter = transfer::TransferFilter { statuses, ..Default::default() };
                let rows = transfer::Entity::list_visible(db, MERCHANT, &filter, &[], window).await.unwrap();
                rows.iter().map(transfer::Model::place).collect()
            }
            Self::Deliveries => {
                let filter = webhook_delivery::DeliveryFilter::default();
                let rows = webhook_delivery::Entity::list_owned(db, MERCHANT, ENDPOINT, &filter, window).await.unwrap();
                rows.iter().map(webhook_delivery::Model::place).collect()
            }
        }
    }

    /// The places of a walk through the list behind row after row, and those of the same way back.
    async fn walk(self, db: &TestDatabase, oldest_first: bool, size: u64) -> (Vec<Place>, Vec<Option<Place>>) {
        let (mut places, mut starts): (Vec<Place>, Vec<Option<Place>>) = (Vec::new(), Vec::new());
        loop {
            let start = places.last().copied();
            let window = Window { start: start.map_or(Start::End, Start::Behind), oldest_first, skip: 0, limit: size };
            let page = self.read(db, window).await;
            if page.is_empty() {
                return (places, starts);
            }
            starts.push(start);
            places.extend(page);
            assert!(places.len() < 1_000, "the walk does not end");
        }
    }
}

on_both_databases!(a_walk_sees_each_row_once_in_order_however_many_are_of_one_moment, async |db: TestDatabase| {
    const ROWS: usize = 46;
    rows::merchants(&db).await;
    rows::orders(&db, ROWS as u64, "0").await;
    rows::transfers(&db, ROWS as u64, "0").await;
    rows::deliveries(&db, ROWS as u64, "0").await;
    let all = ["UPDATE transfer SET state = 'orphaned'".to_owned()];
    rows::run(&db, &all).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..6 {
        let (moments, size) = (vec(0..4_i64, ROWS), 1..9_u64).new_tree(&mut runner).unwrap().current();
        let moment = |(index, moment): (usize, &i64)| format!("WHEN {} THEN {moment}", index + 1);
        let cases = moments.iter().enumerate().map(moment).collect::<Vec<_>>().join(" ");
        let set = |table: &str, key: &str| format!("UPDATE {table} SET created_at = CASE {key} {cases} END");
        let tables = [
            ("payment_order", "id"),
            ("transfer", "id"),
            ("webhook_delivery", "id"),
            ("merchant_transfer", "transfer_id"),
        ];
        rows::run(&db, &tables.map(|(table, key)| set(table, key))).await;
        for list in List::ALL {
            for oldest_first in [true, false] {
                let whole = Window { start: Start::End, oldest_first, skip: 0, limit: 1_000 };
                let whole = list.read(&db, whole).await;
                let mut sorted = whole.clone();
                sorted.sort();
                if !oldest_first {
                    sorted.reverse();
                }
                assert_eq!((whole.len(), &whole), (ROWS / 2, &sorted), "{list:?}");
                let (walked, starts) = list.walk(&db, oldest_first, size).await;
                assert_eq!(walked, whole, "{list:?} in pages of {size}");
                // From each page the one before it is found as far back.
                for pair in starts.windows(2) {
                    let [before, Some(here)] = *pair else { panic!("only the first page begins at the end") };
                    let back = Window { start: Start::At(here), oldest_first: !oldest_first, skip: size, limit: 1 };
                    assert_eq!(list.read(&db, back).await.first().copied(), before, "{list:?}");
                }
                // A page by number is the same rows.
                let by_number = Window { start: Start::End, oldest_first, skip: size, limit: size };
                let rows = usize::try_from(size).unwrap();
                let second: Vec<Place> = whole.iter().copied().skip(rows).take(rows).collect();
                assert_eq!(list.read(&db, by_number).await, second, "{list:?}");
            }
        }
    }
});
