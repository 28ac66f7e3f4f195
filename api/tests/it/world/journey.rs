//! The main job on a real chain: what customers pay is told to the merchant, what cheats do is not.

use cryptopay_test_support::{Payment, U256, block_on};
use serde_json::json;

use super::agreement::{Expected, assert_signed};
use super::town::Town;
use super::{World, costs, units, wallet};
use crate::harness::{LIMIT, Shop, Subscription, text, told};

#[test]
fn orders_in_tokens_and_coins_are_paid_on_a_real_chain() {
    block_on(async {
        let world = World::new().await;
        let town = Town::start(&world, 2, 1).await;
        let shop = Shop::open(&town.apis[0].client()).await;
        let secret = shop.listen(&world.receiver).await;
        play(&world, &shop, &shop.at_too(town.apis[1].base()), &secret).await;
    });
}

/// `shop` sells; `elsewhere` is the same shop at a process that knows of the orders by what the processes share.
async fn play(world: &World, shop: &Shop, elsewhere: &Shop, secret: &str) {
    let node = &world.node;
    let payer = node.batch_payer(&[world.usdc]).await;
    let fake = node.fake_token("USDC", 6).await;
    let (customer, cheat) = (node.account(1), node.account(2));
    let dollars = shop.order(costs("USDC", "100.00")).await;
    let dais = shop.order(costs("DAI", "55.10")).await;
    let coins = shop.order(costs("ETH", "0.25")).await;
    let first = shop.order(costs("USDC", "20.00")).await;
    let second = shop.order(costs("USDC", "30.00")).await;
    let unpaid = shop.order(costs("USDC", "77.00")).await;
    let mut live = Subscription::open(&elsewhere.client, text(&dollars["order_id"]), Some("0")).await;

    // All in one block, the honest beside the others.
    let share = |order: &serde_json::Value| (wallet(), units(text(&order["pay_amount"]), 6));
    let owed = units(text(&unpaid["pay_amount"]), 6);
    node.send(&Payment::poison(world.usdc, customer, wallet()).from(cheat)).await;
    let paid = node.send(&world.exactly(&dollars).from(customer)).await;
    node.send(&world.exactly(&dais)).await;
    node.send(&Payment::pretended(fake, customer, wallet(), owed)).await;
    node.send(&Payment::batch(payer, world.usdc, &[share(&first), (cheat, U256::from(1_u64)), share(&second)])).await;
    node.send(&world.exactly(&coins).from(cheat)).await;
    node.send(&Payment::coins(wallet(), U256::ZERO).from(cheat)).await;
    node.mine(1).await;

    let seen = live.until("PAYMENT_PENDING").await;
    assert_eq!(seen.last().unwrap()["order"]["fulfillable"], false);
    let journal = world
        .receiver
        .wait_until(LIMIT, |journal| {
            [&dollars, &dais, &coins, &first, &second]
                .iter()
                .all(|order| !told(journal, "payment.pending", order).is_empty())
        })
        .await;
    assert_signed(&journal, secret);
    node.mine(2).await;
    let seen = live.until("PAYMENT_CONFIRMED").await;
    assert_eq!(seen.last().unwrap()["order"]["fulfillable"], true);

    let expected: Vec<Expected> = [&dollars, &dais, &coins, &first, &second]
        .map(|order| Expected::new(order, "confirmed"))
        .into_iter()
        .chain([Expected::new(&unpaid, "pending")])
        .collect();
    world.agree(elsewhere, secret, &expected, LIMIT).await;

    let confirmed = elsewhere.look(&dollars).await;
    assert_eq!(confirmed["transaction"]["transaction_hash"], json!(paid));
    assert_eq!(confirmed["amount_received"], dollars["pay_amount"]);
    let inbox = elsewhere.client.get("/api/transactions/?page_size=100").await.data(200);
    assert_eq!(inbox["count"], 5, "poison, fakes and nothings are no transactions: {inbox}");
    for (order, decimals) in [(&dais, 18), (&coins, 18)] {
        let order = elsewhere.look(order).await;
        assert_eq!(units(text(&order["amount_received"]), decimals), units(text(&order["pay_amount"]), decimals));
    }
    let told_at = told(&world.receiver.journal(), "payment.confirmed", &dais)[0].json();
    assert_eq!(told_at["data"]["to_address"].as_str().map(str::to_lowercase).as_deref(), Some(crate::harness::WALLET));
}
