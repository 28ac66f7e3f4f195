//! Transfers whose evidence does not hold: each is set aside with its reason, and everything else goes on.

use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::transfer::{Position, TransactionStatus, TransferState};
use cryptopay_entity::{merchant_transfer, payment_order, transfer};
use cryptopay_test_support::{Fault, Payment, TestDatabase, U256, on_both_databases};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use crate::node::NodeWorld;
use crate::world::{Ask, Merchant};

const RECEIPT: &str = "eth_getTransactionReceipt";
/// Base units that no order has.
const DUST: u64 = 7;

impl NodeWorld {
    async fn transfers(&self) -> Vec<transfer::Model> {
        transfer::Entity::find().all(&self.town.db).await.unwrap()
    }

    /// Transfers that were set aside.
    async fn aside(&self) -> Vec<transfer::Model> {
        let rows = self.transfers().await;
        rows.into_iter().filter(|row| row.state == TransferState::Unverifiable).collect()
    }

    /// Sends dust to an order's address; returns the transaction.
    async fn dust(&self, order: &payment_order::Model) -> String {
        let to = format!("{:#x}", order.receiving_address.0).parse().unwrap();
        let sent = self.node.send(&Payment::tokens(self.usdc, to, U256::from(DUST))).await;
        format!("{sent:#x}")
    }

    /// Rechecks everything that was set aside.
    async fn recheck(&self) {
        let long_ago = cryptopay_domain::time::Timestamp::default();
        transfer::Entity::update_many()
            .col_expr(transfer::Column::RecheckedAt, sea_orm::sea_query::Expr::value(long_ago))
            .filter(transfer::Column::State.eq(TransferState::Unverifiable))
            .exec(&self.town.db)
            .await
            .unwrap();
        self.drain().await;
    }

    async fn two_orders(&self, merchant: &Merchant) -> (payment_order::Model, payment_order::Model) {
        let first = self.town.order(merchant, Ask::default()).await;
        let second = self.town.order(merchant, Ask::default()).await;
        self.drain().await;
        (first, second)
    }
}

/// A fault of the receipt of one transaction.
fn of_receipt(tx_hash: &str, change: impl Fn(&mut Value) + Send + Sync + 'static) -> Fault {
    let tx_hash = tx_hash.to_owned();
    Fault::rewrite(move |_, result| {
        if result["transactionHash"] == tx_hash.as_str() {
            change(result);
        }
    })
    .on(RECEIPT)
}

/// The log of a receipt, with another index.
fn move_logs(receipt: &mut Value) {
    for log in receipt["logs"].as_array_mut().into_iter().flatten() {
        log["logIndex"] = json!("0x63");
    }
}

type Change = fn(&mut Value);

on_both_databases!(a_transfer_without_evidence_is_set_aside_and_stops_nothing, async |db: TestDatabase| {
    let (world, merchant) = NodeWorld::new(db).await;
    let changes: [(Change, &str); 6] = [
        (|receipt| *receipt = Value::Null, "does not have transaction"),
        (|receipt| receipt["status"] = json!("0x7"), "neither 0 nor 1"),
        (move_logs, "does not hold the log"),
        (|receipt| receipt["logs"] = json!([]), "does not hold the log"),
        (|receipt| receipt["blockHash"] = json!(format!("{:#066x}", 7)), "does not have transaction"),
        (|receipt| *receipt = json!("nonsense"), "cannot be read"),
    ];
    for (index, (change, reason)) in changes.into_iter().enumerate() {
        let (order, _) = world.two_orders(&merchant).await;
        let dust = world.dust(&order).await;
        world.pay(&order).await;
        world.mine(6).await;
        world.proxy.inject([of_receipt(&dust, change)]);
        world.drain().await;
        let height = i64::try_from(world.node.height().await).unwrap();
        let cursor = world.cursor().await;
        assert_eq!((cursor.height, cursor.health.as_str()), (height, "ok"), "{reason}");
        assert_eq!(world.town.status(&order).await, OrderStatus::Confirmed, "{reason}");

        let aside = world.aside().await;
        assert_eq!(aside.len(), 1, "{reason}");
        assert!(matches!(aside[0].position, Position::Unknown(_)), "{reason}");
        assert_eq!((aside[0].units.0, aside[0].allocated_units.0), (U256::from(DUST), U256::ZERO));
        assert_eq!(aside[0].state.status(true), TransactionStatus::Pending);
        let words = aside[0].unverifiable_reason.clone().unwrap();
        assert!(words.contains(reason), "{reason}: {words}");
        let shown = merchant_transfer::Entity::find().all(&world.town.db).await.unwrap();
        assert!(shown.iter().any(|row| row.transfer_id == aside[0].id && row.waiting), "{reason}");

        // Its evidence is as bad at the next check, and holds at a later one.
        world.recheck().await;
        assert_eq!(world.aside().await.len(), 1, "{reason}");
        world.proxy.heal();
        world.recheck().await;
        assert!(world.aside().await.is_empty(), "{reason}");
        let rows = world.transfers().await;
        assert_eq!(rows.len(), 2 * (index + 1), "{reason}");
        let verified = rows.iter().find(|row| row.id == aside[0].id).unwrap();
        assert!(verified.state.is_in_block() && verified.unverifiable_reason.is_none(), "{reason}");
        assert_eq!((verified.position, verified.gas_used > 0), (Position::Log(0), true), "{reason}");
    }
});

on_both_databases!(a_transfer_reported_no_longer_names_no_endpoint, async |db: TestDatabase| {
    let (world, merchant) = NodeWorld::new(db).await;
    let (order, _) = world.two_orders(&merchant).await;
    world.pay(&order).await;
    world.mine(6).await;
    let without_evidence = || Fault::rewrite(|_, result| *result = Value::Null).on(RECEIPT);
    world.proxy.inject([without_evidence()]);
    world.drain().await;
    assert_eq!(world.aside().await.len(), 1);
    // The log has another amount now, so that the report of the first scan is not repeated.
    let other_amount = |_: &str, result: &mut Value| {
        for log in result.as_array_mut().into_iter().flatten() {
            log["data"] = json!(format!("{DUST:#066x}"));
        }
    };
    world.proxy.inject([without_evidence(), Fault::rewrite(other_amount).on("eth_getLogs")]);
    world.recheck().await;
    let reason = world.aside().await.remove(0).unverifiable_reason;
    assert_eq!(reason.as_deref(), Some("the endpoint reports it no longer"));
});

on_both_databases!(an_error_for_one_receipt_sets_that_transfer_aside, async |db: TestDatabase| {
    let (world, merchant) = NodeWorld::new(db).await;
    let (order, _) = world.two_orders(&merchant).await;
    world.pay(&order).await;
    world.mine(6).await;
    // For every receipt: the payment itself waits for its evidence, and counts when it has it.
    world.proxy.inject([Fault::failing_calls(-32000, "header for hash not found").on(RECEIPT)]);
    world.drain().await;
    assert_eq!(world.aside().await.len(), 1);
    assert_eq!(world.town.status(&order).await, OrderStatus::Pending);
    world.proxy.heal();
    world.recheck().await;
    world.drain().await;
    assert_eq!(world.town.status(&order).await, OrderStatus::Confirmed);
});

on_both_databases!(a_second_endpoint_verifies_what_the_first_cannot, async |db: TestDatabase| {
    let (mut world, merchant) = NodeWorld::new(db).await;
    world.use_two().await;
    let (order, _) = world.two_orders(&merchant).await;
    world.pay(&order).await;
    world.mine(6).await;
    world.proxy.inject([Fault::rewrite(|_, result| *result = Value::Null).on(RECEIPT)]);
    world.drain().await;
    assert!(world.aside().await.is_empty());
    assert_eq!(world.transfers().await.len(), 1);
});

on_both_databases!(a_reorganisation_takes_a_set_aside_transfer_with_it, async |db: TestDatabase| {
    let (world, merchant) = NodeWorld::new(db).await;
    let (order, _) = world.two_orders(&merchant).await;
    world.pay(&order).await;
    world.mine(2).await;
    world.proxy.inject([Fault::rewrite(|_, result| *result = Value::Null).on(RECEIPT)]);
    world.drain().await;
    let aside = world.aside().await;
    assert_eq!(aside.len(), 1);
    world.proxy.heal();
    world.node.reorg(2, &[]).await;
    world.mine(2).await;
    for _ in 0..3 {
        world.drain().await;
    }
    assert!(world.aside().await.is_empty());
    let row = world.transfers().await.into_iter().find(|row| row.id == aside[0].id).unwrap();
    assert_eq!(row.state, TransferState::Orphaned);
    assert_eq!(world.town.status(&order).await, OrderStatus::Pending);
});

on_both_databases!(logs_of_other_standards_are_ignored_as_no_transfers, async |db: TestDatabase| {
    let (world, merchant) = NodeWorld::new(db).await;
    let (order, _) = world.two_orders(&merchant).await;
    world.pay(&order).await;
    world.mine(6).await;
    // As of an NFT: the amount is a fourth topic, and there are no data.
    let as_nft = |_: &str, result: &mut Value| {
        let Some(logs) = result.as_array_mut() else { return };
        let others: Vec<Value> = logs
            .iter()
            .cloned()
            .map(|mut log| {
                let amount = log["data"].clone();
                log["topics"].as_array_mut().unwrap().push(amount);
                log["data"] = json!("0x");
                log["logIndex"] = json!("0x62");
                log
            })
            .collect();
        logs.extend(others);
    };
    world.proxy.inject([Fault::rewrite(as_nft).on("eth_getLogs")]);
    world.drain().await;
    assert_eq!(world.cursor().await.health, "ok");
    assert_eq!(world.transfers().await.len(), 1);
    assert_eq!(world.town.status(&order).await, OrderStatus::Confirmed);
});
