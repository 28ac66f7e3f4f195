//! How long it takes from a block that can be seen to the webhook about it. Printed, for people to compare with the
//! contract's 400 ms on a machine that does nothing else; a test only makes sure that it is no matter of seconds.

use std::time::Duration;

use cryptopay_test_support::{TestDatabase, WebhookReceiver, on_both_databases};
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Installation, LIMIT, Shop, told};

const ROUNDS: usize = 5;
/// No measurement: what no loaded machine should exceed.
const SANE: Duration = Duration::from_secs(5);

on_both_databases!(a_block_that_can_be_seen_is_told_soon, async |db: TestDatabase| {
    let process = Installation::on(&db).start().await;
    let receiver = WebhookReceiver::start().await;
    let shop = Shop::open(&process.client()).await;
    shop.listen(&receiver).await;
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let order = shop.order(json!({})).await;
        shop.pay(&order, json!({})).await;
        // From before the block exists, so that the truth is a little better.
        let started = Instant::now();
        shop.mine(1).await;
        receiver.wait_until(LIMIT, |journal| !told(journal, "payment.pending", &order).is_empty()).await;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    eprintln!("block visible to webhook's first byte: median {:?}, worst {:?}", took[ROUNDS / 2], took[ROUNDS - 1]);
    assert!(took[ROUNDS - 1] < SANE, "{took:?}");
});
