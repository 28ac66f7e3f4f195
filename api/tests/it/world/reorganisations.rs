//! Chains that change their mind, on a real node: whatever was told before, in the end everybody agrees with the chain.

use cryptopay_test_support::{Address, Bytes, Payment, ReceivedRequest, block_on};
use serde_json::Value;

use super::agreement::Expected;
use super::{CONFIRMATIONS, World, costs, units};
use crate::harness::{LIMIT, Shop, told};

/// How deep the chain reorganises: a few blocks that the confirmation does not reach, and up to what the gateway keeps.
const DEPTHS: [u64; 6] = [1, 2, 4, 12, 33, 60];

/// An order and the transaction that paid it.
struct Sold {
    order: Value,
    signed: Bytes,
    nonce: u64,
}

/// Sells for this price to this customer, whose payment is so many blocks deep afterwards, and whom the gateway knows by
/// then.
async fn sell(world: &World, shop: &Shop, customer: Address, price: &str, blocks: u64) -> Sold {
    let order = shop.order(costs("USDC", price)).await;
    let paid = world.node.send(&world.exactly(&order).from(customer)).await;
    world.node.mine(blocks).await;
    let status = if blocks < CONFIRMATIONS { "confirming" } else { "confirmed" };
    shop.until(&order, status).await;
    Sold { order, signed: world.node.signed(paid).await, nonce: world.node.nonce(paid).await }
}

/// Plays a scene at each depth, on one chain: sells, lets `reorganise` replace exactly the blocks from the payment's on,
/// and compares everything with the status that it gives. The price is another one each time.
async fn at_each_depth(reorganise: impl AsyncFn(&World, &Sold, u64) -> &'static str) {
    let (world, _process, shop, secret) = World::open().await;
    let mut expected = Vec::new();
    for (price, depth) in (100..).step_by(100).zip(DEPTHS) {
        let sold = sell(&world, &shop, world.node.account(0), &format!("{price}.00"), depth).await;
        let status = reorganise(&world, &sold, depth).await;
        expected.push(Expected::new(&sold.order, status));
        world.agree(&shop, &secret, &expected, LIMIT).await;
    }
}

#[test]
fn a_dropped_payment_counts_no_more() {
    block_on(at_each_depth(async |world, _, depth| {
        world.node.reorg(depth, &[]).await;
        if depth < CONFIRMATIONS { "pending" } else { "reorged" }
    }));
}

#[test]
fn a_payment_mined_again_behind_others_is_the_same_payment() {
    block_on(at_each_depth(async |world, sold, depth| {
        world.node.rollback(depth).await;
        // Its log moves by two places, and it a block up.
        world.node.mine(1).await;
        let (customer, friend) = (world.node.account(1), world.node.account(3));
        for amount in ["1", "2"] {
            world.node.send(&Payment::tokens(world.usdc, friend, units(amount, 6)).from(customer)).await;
        }
        world.node.send_again(&sold.signed).await;
        world.node.mine(depth).await;
        "confirmed"
    }));
}

#[test]
fn a_payment_replaced_by_the_same_with_a_higher_fee_pays() {
    block_on(at_each_depth(async |world, sold, depth| {
        world.node.rollback(depth).await;
        world.node.send(&world.exactly(&sold.order).with_nonce(sold.nonce).in_a_hurry()).await;
        world.node.mine(depth).await;
        "confirmed"
    }));
}

#[test]
fn a_payment_replaced_by_a_smaller_one_pays_nothing_and_the_smaller_one_is_told() {
    block_on(at_each_depth(async |world, sold, depth| {
        world.node.rollback(depth).await;
        let smaller = world.node.send(&world.of(&sold.order, "60.00").with_nonce(sold.nonce)).await;
        world.node.mine(depth).await;
        let tells = |webhook: &ReceivedRequest| {
            let body = webhook.json();
            body["event"] == "transfer.unmatched" && body["data"]["transaction_hash"] == smaller.to_string()
        };
        world.receiver.wait_until(LIMIT, |journal| journal.iter().any(tells)).await;
        if depth < CONFIRMATIONS { "pending" } else { "reorged" }
    }));
}

#[test]
fn two_reorganisations_in_a_row_end_where_the_second_ends() {
    block_on(async {
        let (world, _process, shop, secret) = World::open().await;
        let customer = world.node.account(0);
        let mut expected = Vec::new();
        for (price, depth) in [("100.00", 2), ("200.00", 20)] {
            // Gone and back before anybody has had much time to look.
            let quick = sell(&world, &shop, customer, price, depth).await;
            world.node.reorg(depth, &[]).await;
            world.node.reorg(depth, &[(quick.signed, depth - 1)]).await;
            expected.push(Expected::new(&quick.order, "confirmed"));
            world.agree(&shop, &secret, &expected, LIMIT).await;

            // Gone, noticed, and back on a third branch.
            let slow = sell(&world, &shop, customer, price, depth).await;
            world.node.reorg(depth, &[]).await;
            shop.until(&slow.order, if depth < CONFIRMATIONS { "pending" } else { "reorged" }).await;
            world.node.reorg(depth, &[(slow.signed, 0)]).await;
            expected.push(Expected::new(&slow.order, "confirmed"));
            world.agree(&shop, &secret, &expected, LIMIT).await;
        }
    });
}

#[test]
fn a_reorganisation_while_nobody_watches_is_noticed_at_the_next_start() {
    block_on(async {
        let (world, process, shop, secret) = World::open().await;
        let [first, second] = [1, 2].map(|number| world.node.account(number));
        let kept = sell(&world, &shop, first, "100.00", 4).await;
        let dropped = sell(&world, &shop, first, "200.00", 40).await;
        let moved = sell(&world, &shop, second, "300.00", 2).await;
        process.kill_9();

        world.node.reorg(42, &[(moved.signed.clone(), 20)]).await;
        world.node.mine(5).await;
        let process = world.installation.start().await;
        let shop = shop.at(process.base());
        let expected = [(kept, "confirmed"), (dropped, "reorged"), (moved, "confirmed")];
        let expected = expected.map(|(sold, status)| Expected::new(&sold.order, status));
        world.agree(&shop, &secret, &expected, LIMIT).await;
    });
}

#[test]
fn what_was_told_before_a_reorganisation_is_taken_back_by_name_and_told_anew() {
    block_on(async {
        let (world, _process, shop, secret) = World::open().await;
        let sold = sell(&world, &shop, world.node.account(0), "100.00", CONFIRMATIONS).await;
        let order = &sold.order;
        world.receiver.wait_until(LIMIT, |journal| told(journal, "payment.confirmed", order).len() == 1).await;
        world.node.reorg(CONFIRMATIONS, &[]).await;
        let journal = world.receiver.wait_until(LIMIT, |journal| !told(journal, "payment.reorged", order).is_empty());
        let taken_back = told(&journal.await, "payment.reorged", order)[0].json();
        assert_eq!(
            (&taken_back["data"]["order_status"], &taken_back["data"]["fulfillable"]),
            (&"reorged".into(), &false.into())
        );

        world.node.send_again(&sold.signed).await;
        world.node.mine(1).await;
        world.agree(&shop, &secret, &[Expected::new(order, "confirmed")], LIMIT).await;
        assert_eq!(told(&world.receiver.journal(), "payment.confirmed", order).len(), 2);
    });
}
