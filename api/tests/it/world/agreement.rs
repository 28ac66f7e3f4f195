//! Whether the chain, the gateway's rows, what its API says and what the merchant was told are one and the same story.

use std::collections::BTreeSet;
use std::time::Duration;

use cryptopay_domain::address::Asset;
use cryptopay_domain::transfer::TransferState;
use cryptopay_entity::{chain_cursor, transfer};
use cryptopay_test_support::{B256, ReceivedRequest, U256};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use super::{CONFIRMATIONS, World, wallet};
use crate::harness::{
    Shop, assert_no_gaps, assert_repeats_are_the_same, eventually_within, id_of, is_signed, once_all_told, text, told,
};

/// What is expected of an order when everything has come to rest.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) order: Value,
    /// Its status, and with it whether it may be shipped.
    pub(super) status: &'static str,
}

impl Expected {
    pub(super) fn new(order: &Value, status: &'static str) -> Self {
        Self { order: order.clone(), status }
    }
}

/// A transfer to the shop: asset, transaction, height, units.
type Arrived = (String, B256, u64, U256);

impl World {
    /// Waits until every order is what is expected and the merchant knows it, then compares everything with everything.
    /// Mines what is missing to the confirmation.
    pub(super) async fn agree(&self, shop: &Shop, secret: &str, expected: &[Expected], limit: Duration) {
        self.node.mine(CONFIRMATIONS).await;
        self.caught_up(limit).await;
        for Expected { order, status } in expected {
            let what = format!("order {} becoming {status}", order["order_id"]);
            let order = eventually_within(limit, &what, async || {
                let order = shop.look(order).await;
                (order["status"] == *status).then_some(order)
            })
            .await;
            assert_eq!(order["fulfillable"], *status == "confirmed", "{order}");
        }
        // What is missing gets a second look, which may change an order once more.
        let arrived = self.arrived().await;
        let at_rest = eventually_within(limit, "nothing in doubt", async || {
            let rows = transfer::Entity::find().all(self.db.connection()).await.ok()?;
            rows.iter().all(|row| row.state != TransferState::Missing).then(|| counting(rows))
        });
        assert_eq!(at_rest.await, arrived, "transfers that count: stored, and on the chain");
        let mut histories = Vec::new();
        for Expected { order, .. } in expected {
            // Both of one moment: an order may become final meanwhile.
            let one_moment = eventually_within(limit, "an order and its history", async || {
                let (order, history) = (shop.look(order).await, shop.events(order).await);
                (history.last()?["order_version"] == order["version"]).then_some((order, history))
            });
            histories.push(one_moment.await);
        }
        let wanted: BTreeSet<String> =
            histories.iter().flat_map(|(_, history)| history).map(|event| text(&event["id"]).to_owned()).collect();
        let journal = self.receiver.wait_until(limit, once_all_told(wanted)).await;

        assert_signed(&journal, secret);
        assert_repeats_are_the_same(&journal);
        for (Expected { status, .. }, (order, history)) in expected.iter().zip(&histories) {
            assert_history(order, status, history, &journal);
        }
        let discrepancies = cryptopay_ledger::audit::check(self.db.connection()).await.unwrap();
        assert!(discrepancies.is_empty(), "{discrepancies:#?}");
    }

    /// Waits until the gateway has verified the node's newest block.
    pub(super) async fn caught_up(&self, limit: Duration) {
        let height = self.node.height().await;
        let hash = self.node.block_hash(height).await;
        eventually_within(limit, &format!("block {height} verified"), async || {
            let cursor = chain_cursor::Entity::of(self.db.connection(), "base").await.ok()??;
            (cursor.height.unsigned_abs() == height && cursor.hash.0 == hash).then_some(())
        })
        .await;
    }

    /// What the chain holds for the shop, in what it sells for.
    async fn arrived(&self) -> BTreeSet<Arrived> {
        let mut arrived = BTreeSet::new();
        for found in self.node.token_transfers(wallet()).await {
            if [self.usdc, self.dai].contains(&found.token) && !found.units.is_zero() {
                arrived.insert((format!("{:#x}", found.token), found.tx_hash, found.block_number, found.units));
            }
        }
        for number in 0..=self.node.height().await {
            let block: Value = self.node.call("eth_getBlockByNumber", json!([format!("{number:#x}"), true])).await;
            for transaction in block["transactions"].as_array().unwrap() {
                let read = |field: &str| serde_json::from_value(transaction[field].clone()).unwrap();
                let units: U256 = read("value");
                if transaction["to"].as_str() == Some(crate::harness::WALLET) && !units.is_zero() {
                    arrived.insert(("native".to_owned(), B256::from(read("hash")), number, units));
                }
            }
        }
        arrived
    }
}

/// The transfers of these rows that count.
fn counting(rows: Vec<transfer::Model>) -> BTreeSet<Arrived> {
    let counts = |row: &transfer::Model| {
        row.chain == "base" && matches!(row.state, TransferState::Included | TransferState::Final)
    };
    let asset = |asset: Asset| match asset {
        Asset::Native => "native".to_owned(),
        Asset::Token(contract) => format!("{:#x}", contract.0),
    };
    let rows = rows.into_iter().filter(counts);
    rows.map(|row| (asset(row.asset), row.tx_hash.0, row.block_number.unsigned_abs(), row.units.0)).collect()
}

/// As the documentation says, and as the public library of Standard Webhooks finds.
pub(super) fn assert_signed(journal: &[ReceivedRequest], secret: &str) {
    let library = standardwebhooks::Webhook::new(secret).unwrap();
    let sent_at = |webhook: &ReceivedRequest| -> i64 { webhook.header("Webhook-Timestamp").unwrap().parse().unwrap() };
    // It takes none that is older than five minutes, and a long test lasts longer.
    let fresh_from = journal.iter().map(sent_at).max().unwrap_or_default() - 240;
    for webhook in journal {
        assert!(is_signed(webhook, secret), "{webhook:?}");
        let mut headers = HeaderMap::new();
        for (name, value) in &webhook.headers {
            headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        if sent_at(webhook) > fresh_from {
            library.verify(&webhook.body, &headers).unwrap_or_else(|error| panic!("{error}: {webhook:?}"));
        }
        let mut forged = webhook.body.clone();
        forged.push(b' ');
        assert!(library.verify(&forged, &headers).is_err());
    }
}

/// The history of an order has no gaps, and the merchant was told each of its confirmations and reorganisations once.
fn assert_history(order: &Value, status: &str, history: &[Value], journal: &[ReceivedRequest]) {
    assert_no_gaps(order, history);
    let happened = |name: &str| history.iter().filter(|event| event["event"] == name).count();
    for name in ["payment.confirmed", "payment.reorged"] {
        let ids: BTreeSet<String> = told(journal, name, order).into_iter().map(id_of).collect();
        assert_eq!(ids.len(), happened(name), "{name}: {history:#?}");
    }
    // They take turns, and the last of them is what the order is.
    let (confirmed, reorged) = (happened("payment.confirmed"), happened("payment.reorged"));
    let standing = usize::from(status == "confirmed");
    assert_eq!(confirmed, reorged + standing, "{history:#?}");
}
