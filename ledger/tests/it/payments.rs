//! What came, in which amounts: exact, short, over, twice, in one transaction, in other assets.

use std::collections::BTreeSet;
use std::slice::from_ref;

use cryptopay_domain::amount::format_units;
use cryptopay_domain::event::EventType::{
    OrderExtraPayment, OrderFinalized, OrderOverpaid, OrderUnderpaid, OrderUpdated, PaymentConfirmed, PaymentPending,
};
use cryptopay_domain::ids::{OrderId, TransferId};
use cryptopay_domain::order::LatePolicy;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::transfer::TransferState;
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, chain_block, payment_order, transfer};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::fake_chain::{Payment, hash};
use crate::world::{Ask, PAY, SLUG, World};

on_both_databases!(an_exact_payment_is_pending_then_confirmed_then_final, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    assert_eq!(order.pay_units, Units::new(PAY));
    assert_eq!(world.said(order.id).await, "pending 0");
    assert_eq!(world.events(order.id).await, []);

    let payment = world.pay_exactly(&order);
    world.receive(from_ref(&payment)).await;
    assert_eq!(world.said(order.id).await, "confirming 99999200");
    assert_eq!(world.events(order.id).await, [PaymentPending]);
    world.mine_empty(1);
    world.settle().await;
    assert!(!world.row(order.id).await.fulfillable, "one confirmation short");

    world.mine_empty(1);
    world.settle().await;
    let row = world.row(order.id).await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert!(row.fulfillable && row.confirmed_at == Some(world.now));
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
    assert_eq!(world.allocations(order.id).await, [(Units::new(99_999_200), "exact_amount".to_owned())]);
    assert_eq!(world.state(&payment).await, TransferState::Included);

    world.mine_empty(world.settings().reorg_depth);
    world.settle().await;
    assert_eq!(world.state(&payment).await, TransferState::Final);
    assert_eq!(world.said(order.id).await, "confirmed finalized 99999200");
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed, OrderFinalized]);
    world.audit().await;
});

on_both_databases!(a_short_payment_is_topped_up_by_the_remainder_that_is_shown, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let short = world.pay_by_button(&order, Units::new(60_000_000));
    world.receive(&[short]).await;
    assert_eq!(world.said(order.id).await, "underpaid 60000000");
    let asked = world.row(order.id).await.remainder_units.unwrap();
    let missing = Units::new(PAY - 60_000_000);
    assert!(asked > missing && asked <= Units::new(40_199_200), "{asked}");
    assert_eq!(world.held(order.id).await, [Units::new(PAY), asked]);
    world.audit().await;

    // The missing amount is the amount of no order: the customer of another one may have rounded.
    let rounded = world.pay(&order, missing);
    world.receive(&[rounded]).await;
    assert_eq!(world.said(order.id).await, "underpaid 60000000");
    assert_eq!(world.inbox(world.merchant).await[0].1, [order.order_id.to_string()]);

    let rest = world.pay(&order, asked);
    world.receive(&[rest]).await;
    let received = asked.saturating_add(Units::new(60_000_000));
    assert_eq!(world.said(order.id).await, format!("confirming {received}"), "rounding is no overpayment");
    assert_eq!(world.row(order.id).await.remainder_units, None);
    world.deepen().await;
    assert_eq!(world.said(order.id).await, format!("confirmed {received}"));
    let events = [PaymentPending, OrderUnderpaid, OrderUpdated, PaymentConfirmed];
    assert_eq!(world.events(order.id).await, events);
    let methods = world.allocations(order.id).await.into_iter().map(|(_, method)| method);
    assert_eq!(methods.collect::<Vec<_>>(), ["reference", "exact_amount"]);
    world.audit().await;
});

on_both_databases!(a_remainder_is_neither_held_by_another_order_nor_its_price, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask { amount: "0.0002", ..Ask::default() }).await;
    let paid = Units::new(3);
    let missing = order.pay_units.saturating_sub(paid);
    // The only remainder is the price of another order.
    let amount = format_units(missing, 6);
    let priced = world.order(Ask { amount: &amount, ..Ask::default() }).await;
    let short = world.pay_by_button(&order, paid);
    world.receive(&[short]).await;
    assert_eq!(world.said(order.id).await, format!("underpaid {paid}"));
    assert_eq!(world.row(order.id).await.remainder_units, None);
    let rest = world.pay(&order, missing);
    world.receive(&[rest]).await;
    assert_eq!(world.said(order.id).await, format!("underpaid {paid}"));
    assert_eq!(world.said(priced.id).await, "pending 0");
    assert_eq!(world.inbox(world.merchant).await[0].1, [priced.order_id.to_string()]);
    world.audit().await;
});

on_both_databases!(a_top_up_is_found_however_the_blocks_are_batched, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let short = world.pay_by_button(&order, Units::new(60_000_000));
    world.receive(from_ref(&short)).await;
    let asked = world.row(order.id).await.remainder_units.unwrap();
    let rest = world.pay(&order, asked);
    // The same in blocks that another ledger reads at once, as a gateway that was away does.
    world.chain.fork(1);
    world.mine(&[short]);
    world.mine_empty(1);
    world.mine(&[rest]);
    world.mine_at(order.in_time_until.plus(std::time::Duration::from_secs(60)), &[]);
    world.settle().await;
    world.deepen().await;
    let received = asked.saturating_add(Units::new(60_000_000));
    assert_eq!(world.said(order.id).await, format!("confirmed {received}"));
    assert_eq!(world.inbox(world.merchant).await, []);
    world.audit().await;
});

on_both_databases!(two_transfers_of_one_transaction_are_told_apart_by_their_place, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let one = world.pay_exactly(&order);
    let stray = Payment { ordinal: 3, units: Units::new(7), ..one.clone() };
    world.receive(&[one.clone(), stray]).await;
    assert_eq!(world.said(order.id).await, "confirming 99999200");
    assert_eq!(world.inbox(world.merchant).await, [(one.tx_hash, vec![])]);

    // The same transaction, mined again behind another one: its logs have other indices in their block.
    world.chain.fork(1);
    let other = world.transfer(Units::new(11));
    let again = [other, one.clone(), Payment { ordinal: 3, units: Units::new(7), ..one.clone() }];
    world.receive(&again).await;
    let rows = world.transfers(one.tx_hash).await;
    assert_eq!(rows.iter().map(|row| row.log_index).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert!(rows.iter().all(|row| row.state == TransferState::Included && row.generation == 0));
    assert_eq!(world.allocations(order.id).await.len(), 1);
    world.deepen().await;
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
    assert_eq!(world.inbox(world.merchant).await.len(), 2, "the stray one is not announced twice");
    world.audit().await;
});

on_both_databases!(two_equal_transfers_of_one_transaction_are_a_payment_and_an_extra_one, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let one = world.pay_exactly(&order);
    world.receive(&[one.clone(), Payment { ordinal: 1, ..one }]).await;
    assert_eq!(world.said(order.id).await, "confirming overpaid,extra_payment 199998400");
    world.deepen().await;
    assert_eq!(world.events(order.id).await, [PaymentPending, OrderExtraPayment, PaymentConfirmed]);
    world.audit().await;
});

on_both_databases!(a_reference_beside_a_second_transfer_decides_nothing, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let one = world.pay_by_button(&order, Units::new(60_000_000));
    world.receive(&[one.clone(), Payment { ordinal: 1, units: Units::new(40_000_000), ..one.clone() }]).await;
    assert_eq!(world.said(order.id).await, "pending 0");
    let named = vec![order.order_id.to_string()];
    assert_eq!(world.inbox(world.merchant).await, [(one.tx_hash, named.clone()), (one.tx_hash, named)]);
    world.audit().await;
});

on_both_databases!(one_batch_transaction_pays_two_orders, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let first = world.order(Ask::default()).await;
    let second = world.order(Ask { amount: "250", ..Ask::default() }).await;
    let one = world.pay_exactly(&first);
    let other = Payment { ordinal: 1, units: second.pay_units, ..one.clone() };
    world.receive(&[one, other]).await;
    world.deepen().await;
    for (order, units) in [(&first, first.pay_units), (&second, second.pay_units)] {
        assert_eq!(world.said(order.id).await, format!("confirmed {units}"));
        assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
    }
    world.audit().await;
});

on_both_databases!(a_payment_that_is_too_large_is_overpaid, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let over = world.pay_by_button(&order, Units::new(150_000_000));
    world.receive(&[over]).await;
    assert_eq!(world.said(order.id).await, "confirming overpaid 150000000");
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed overpaid 150000000");
    assert_eq!(world.events(order.id).await, [PaymentPending, OrderOverpaid, PaymentConfirmed]);
    world.audit().await;
});

on_both_databases!(a_second_payment_from_another_wallet_is_extra, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    world.deepen().await;
    let again = world.pay_exactly(&order);
    world.receive(&[again]).await;
    assert_eq!(world.said(order.id).await, "confirmed overpaid,extra_payment 199998400");
    assert!(world.row(order.id).await.fulfillable);
    world.deepen().await;
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed, OrderExtraPayment]);
    world.audit().await;
});

on_both_databases!(dollars_of_eighteen_decimals_lose_nothing, async |db: TestDatabase| {
    let mut world = World::on(db, "bsc").await;
    let order = world.order(Ask { symbol: "USDT", amount: "1234567.89", ..Ask::default() }).await;
    let less = order.pay_units.saturating_sub(Units::new(1));
    let short = world.pay_by_button(&order, less);
    world.receive(&[short]).await;
    assert_eq!(world.said(order.id).await, format!("underpaid {less}"));
    // One wei is finer than amounts to pay may be: the remainder is rounded up to the finest that may be asked for.
    let asked = world.row(order.id).await.remainder_units.unwrap();
    assert_eq!(asked, Units::new(1_000_000_000_000));
    let rest = world.pay(&order, asked);
    world.receive(&[rest]).await;
    world.deepen().await;
    let received = less.saturating_add(asked);
    assert_eq!(world.said(order.id).await, format!("confirmed {received}"), "rounding is no overpayment");
    world.audit().await;
});

on_both_databases!(native_coins_pay_like_tokens, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let ask = Ask { symbol: "ETH", amount: "0.05", late_policy: LatePolicy::Review, ..Ask::default() };
    let order = world.order(ask).await;
    let twin = world.order(ask).await;
    assert!(twin.pay_units != order.pay_units);
    let payment = world.pay_exactly(&twin);
    world.receive(from_ref(&payment)).await;
    world.deepen().await;
    assert_eq!(world.said(twin.id).await, format!("confirmed {}", twin.pay_units));
    assert_eq!(world.said(order.id).await, "pending 0");
    let row = &world.transfers(payment.tx_hash).await[0];
    assert_eq!((row.position.to_string(), row.log_index), ("native".to_owned(), None));
    world.audit().await;
});

on_both_databases!(a_payment_found_after_a_long_absence_is_confirmed_and_final_at_once, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.mine(&[payment]);
    // Far more than the window of block hashes.
    world.mine_empty(3 * world.settings().reorg_depth);
    world.settle().await;
    assert_eq!(world.said(order.id).await, "confirmed finalized 99999200");
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed, OrderFinalized]);
    world.audit().await;
});

on_both_databases!(a_swarm_of_small_transfers_keeps_no_payment_from_its_confirmation, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    // An order that is confirmed, with late money that waits for its merchant.
    let settled = world.order(Ask { amount: "9", late_policy: LatePolicy::Review, ..Ask::default() }).await;
    let payment = world.pay_exactly(&settled);
    world.receive(&[payment]).await;
    world.close(&settled).await;
    world.deepen().await;
    let late = world.pay_by_button(&settled, Units::new(2));
    world.receive(from_ref(&late)).await;
    assert_eq!(world.said(settled.id).await, format!("confirmed late,review {}", settled.pay_units));
    world.multiply(&late, 1_100).await;

    let order = world.order(Ask::default()).await;
    let swarmed = world.order(Ask { amount: "77", ..Ask::default() }).await;
    let dust = world.pay_by_button(&swarmed, Units::new(1));
    let stray = world.transfer(Units::new(3));
    world.receive(&[dust.clone(), stray.clone()]).await;
    // As many as one look takes, in older blocks than the payment: one part unmatched, one part of an order that stays
    // short.
    world.multiply(&stray, 700).await;
    world.multiply(&dust, 700).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    let checked = cryptopay_ledger::blocks_to_check(world.db(), world.settings()).await.unwrap();
    assert_eq!(checked.len(), 0, "what no confirmation waits for is not asked for again and again");
});

on_both_databases!(no_list_is_too_long_for_a_statement, async |db: TestDatabase| {
    // More than either database binds in one statement: an order may have been sent any number of transfers.
    let many = 1..=70_000_i64;
    let connection = db.connection();
    let transfers: Vec<TransferId> = many.clone().map(TransferId).collect();
    assert_eq!(transfer::Entity::by_ids(connection, transfers.clone()).await.unwrap(), []);
    assert_eq!(allocation::Entity::of_transfers(connection, transfers.clone()).await.unwrap(), []);
    let (from, to) = (TransferState::Included, TransferState::Missing);
    let now = Timestamp::from_secs(1);
    assert_eq!(transfer::Entity::set_state(connection, transfers, from, to, None, now).await.unwrap(), 0);
    let orders: BTreeSet<OrderId> = many.clone().map(OrderId).collect();
    assert_eq!(allocation::Entity::live_of_orders(connection, orders.clone()).await.unwrap(), []);
    assert_eq!(payment_order::Entity::lock(connection, &orders).await.unwrap(), []);
    let hashes = many.clone().map(|number| hash(u64::try_from(number).unwrap()));
    assert_eq!(transfer::Entity::of_transactions(connection, SLUG, hashes).await.unwrap(), []);
    assert_eq!(chain_block::Entity::numbered(connection, SLUG, many).await.unwrap(), []);
});
