//! From a customer's transaction to the merchant's server.

use std::time::Duration;

use cryptopay_chain::ChainError;
use cryptopay_domain::amount::format_units;
use cryptopay_domain::order::OrderStatus;
use cryptopay_jobs::Workers;
use cryptopay_sandbox::KeepTransactions;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use tokio_util::sync::CancellationToken;

use crate::signed;
use crate::tampered::Call;
use crate::world::{Ask, PATIENCE, REQUIRED, World};

const DEFAULTS: &str = "payment.pending,payment.confirmed,payment.failed,order.expired,order.underpaid,payment.reorged";

on_both_databases!(a_payment_is_found_confirmed_and_told_with_signatures_that_verify, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, DEFAULTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    let paid = world.pay(&order).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Pending, "it is in no block");

    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    world.mine(REQUIRED - 2).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming, "one block too few");
    world.mine(1).await;
    world.drain().await;
    let row = world.row(order.id).await;
    assert_eq!((row.status, row.fulfillable), (OrderStatus::Confirmed, true));

    let journal = world.receiver.journal();
    assert_eq!(world.events(), ["payment.pending", "payment.confirmed"]);
    for (request, (status, confirmations, fulfillable)) in
        journal.iter().zip([("pending", 1, false), ("confirmed", 3, true)])
    {
        signed::check(request, &shop.endpoint.secret);
        assert_eq!((request.path.as_str(), request.header("x-webhook-attempt")), ("/hook", Some("1")));
        let body = request.json();
        let data = &body["data"];
        assert_eq!(data["order_id"], order.order_id.as_str());
        assert_eq!(data["transaction_hash"], paid.tx_hash.to_string());
        assert_eq!(data["from_address"], paid.from.to_string());
        assert_eq!(data["amount"], "100.00");
        let paid = format_units(order.pay_units, 6);
        assert_eq!((&data["pay_amount"], &data["transfer_amount"]), (&paid.clone().into(), &paid.into()));
        assert_eq!((&data["status"], &data["confirmations"]), (&status.into(), &confirmations.into()));
        assert_eq!(data["fulfillable"], fulfillable);
        assert_eq!(data["order_info"], r#"{"basket":17}"#);
    }
    assert_ne!(journal[0].header("webhook-id"), journal[1].header("webhook-id"));

    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.receiver.journal().len(), 2, "nothing is told twice");
    world.audit().await;
});

on_both_databases!(a_payment_in_the_chains_own_coin_is_found, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, DEFAULTS).await;
    let token = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&token).await;
    world.mine(1).await;
    world.drain().await;
    assert!(world.client.take_journal().queries.iter().all(|query| !query.native), "full blocks cost too much");

    let order = world.order(&shop.merchant, Ask { symbol: "ETH", amount: "0.5", ..Ask::default() }).await;
    let paid = world.pay(&order).await;
    world.mine(1).await;
    world.drain().await;
    assert!(world.client.take_journal().queries.iter().all(|query| query.native));
    world.mine(REQUIRED - 1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    let confirmed = world.told("payment.confirmed");
    let told = confirmed.iter().find(|request| request.json()["data"]["order_id"] == order.order_id.as_str()).unwrap();
    signed::check(told, &shop.endpoint.secret);
    let data = &told.json()["data"];
    assert_eq!((&data["transaction_hash"], &data["currency"]), (&paid.tx_hash.to_string().into(), &"ETH".into()));
    world.audit().await;
});

on_both_databases!(the_finality_tag_confirms_before_the_depth_is_reached, async |db: TestDatabase| {
    // The simulation's tag "safe" lies `confirmations` below the head, so an order that asks for more is served by it.
    let (mut world, shop) = World::with_shop(db, DEFAULTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.require(&order, 9).await;
    world.use_finality_tag().await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming, "the tag is one block below");
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.audit().await;
});

on_both_databases!(while_a_secret_is_rotated_both_sign, async |db: TestDatabase| {
    use cryptopay_domain::webhook::secret_from_entropy;
    let (world, shop) = World::with_shop(db, "order.created").await;
    let fresh = secret_from_entropy([0x77; 32]);
    world.rotate(&shop.endpoint, &fresh, true).await;
    world.order(&shop.merchant, Ask::default()).await;
    world.drain().await;
    world.rotate(&shop.endpoint, &fresh, false).await;
    world.order(&shop.merchant, Ask::default()).await;
    world.drain().await;

    let journal = world.receiver.journal();
    let request = &journal[0];
    let (old, new) = (&shop.endpoint.secret, &fresh);
    assert_eq!(request.header("x-webhook-signature").unwrap(), signed::documented(new, &request.body));
    assert_eq!(request.header("x-webhook-signature-previous").unwrap(), signed::documented(old, &request.body));
    let both = format!("{} {}", signed::standard(new, request), signed::standard(old, request));
    assert_eq!(request.header("webhook-signature"), Some(both.as_str()));
    signed::check(&journal[1], new);
});

impl World {
    /// Waits until the node was asked for what it fails at.
    async fn has_failed_at(&self, call: Call) {
        let asked = async {
            while self.client.calls(call) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("the node was not asked");
    }
}

on_both_databases!(what_a_look_that_failed_has_found_is_confirmed_though_no_block_comes, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, DEFAULTS).await;
    // A payment that is in doubt, for a look to fail at.
    let gone = world.order(&shop.merchant, Ask { amount: "3.00", ..Ask::default() }).await;
    world.pay(&gone).await;
    world.mine(1).await;
    world.drain().await;
    world.client.fail(Call::Inclusion, || ChainError::TimedOut { after: Duration::ZERO });
    world.reorganise(1, KeepTransactions::No).await;
    world.drain().await;
    world.let_doubts_age().await;

    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.client.take_journal();
    let stop = CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    world.has_failed_at(Call::Inclusion).await;
    world.client.behave();
    world.wait_for(&order, OrderStatus::Confirmed).await;
    stop.cancel();
    workers.await.unwrap();
    world.audit().await;
});

on_both_databases!(what_could_not_be_confirmed_is_confirmed_later_though_no_block_comes, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, DEFAULTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    world.drain().await;
    world.client.fail(Call::Block, || ChainError::TimedOut { after: Duration::ZERO });
    world.mine(REQUIRED - 1).await;
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);

    world.client.take_journal();
    let stop = CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    // What it is told at its start fails.
    world.has_failed_at(Call::Block).await;
    world.client.behave();
    world.wait_for(&order, OrderStatus::Confirmed).await;
    stop.cancel();
    workers.await.unwrap();
    world.audit().await;
});
