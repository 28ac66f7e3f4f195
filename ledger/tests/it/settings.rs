//! What a merchant has set, played to its end.

use std::time::Duration;

use cryptopay_domain::order::LatePolicy;
use cryptopay_domain::settings::PaymentSettings;
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::fake_chain::BLOCK_TIME;
use crate::world::{Ask, World};

/// What an order in `symbol` asks for under these settings, as the operation of the API makes it.
fn under<'a>(world: &World, settings: &str, symbol: &'a str, amount: &'a str) -> Ask<'a> {
    let settings: PaymentSettings = serde_json::from_str(settings).unwrap();
    Ask {
        symbol,
        amount,
        required: settings.confirmations_on(world.settings()),
        late_policy: settings.late_policy_for(world.settings().token(symbol).unwrap()),
        expires_in: settings.default_expiry(),
        ..Ask::default()
    }
}

on_both_databases!(a_payment_is_confirmed_at_exactly_the_depth_that_is_set, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    // From one block to the end of the chain's window, where a block is final anyway.
    for required in [1, 2, 5, world.settings().reorg_depth] {
        let settings = format!(r#"{{"confirmations":{{"base":{required},"polygon":7}}}}"#);
        let order = world.order(under(&world, &settings, "USDC", "20.00")).await;
        assert_eq!(world.row(order.id).await.required_confirmations, i64::from(required));
        let payment = world.pay_exactly(&order);
        world.receive(&[payment]).await;
        if required > 1 {
            world.mine_empty(required - 2);
            world.settle().await;
            assert!(world.said(order.id).await.starts_with("confirming"), "{required}");
            world.mine_empty(1);
            world.settle().await;
        }
        assert!(world.said(order.id).await.starts_with("confirmed"), "{required}: {}", world.said(order.id).await);
    }
    world.audit().await;
});

on_both_databases!(late_money_is_treated_as_set_and_by_its_kind_where_nothing_is_set, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let cases = [
        (r#"{}"#, "USDC", "confirmed late"),
        (r#"{}"#, "ETH", "expired late,review"),
        (r#"{"late_policy":"accept"}"#, "ETH", "confirmed late"),
        (r#"{"late_policy":"review"}"#, "USDC", "expired late,review"),
        (r#"{"late_policy":"reject"}"#, "USDC", "failed late"),
        (r#"{"late_policy":"reject"}"#, "ETH", "failed late"),
    ];
    let mut orders = Vec::new();
    for (settings, symbol, _) in &cases {
        let settings = settings.replace('}', if *settings == "{}" { "" } else { "," });
        let settings = format!(r#"{settings}"confirmations":{{"base":3}},"default_expiry_seconds":600}}"#);
        let ask = under(&world, &settings, symbol, "0.50");
        assert_eq!(ask.expires_in, Duration::from_secs(600));
        orders.push(world.order(ask).await);
    }
    let payments: Vec<_> = orders.iter().map(|order| world.pay_exactly(order)).collect();
    world.mine_at(orders[0].in_time_until.plus(BLOCK_TIME), &payments);
    world.settle().await;
    world.deepen().await;
    for (order, (settings, symbol, expected)) in orders.iter().zip(cases) {
        let said = world.said(order.id).await;
        assert!(said.starts_with(expected), "{settings} {symbol}: {said}");
    }
    world.audit().await;
});

on_both_databases!(an_order_keeps_what_held_when_it_was_made, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let before = world.order(under(&world, r#"{"late_policy":"reject"}"#, "USDC", "20.00")).await;
    let after = world.order(under(&world, r#"{"confirmations":{"base":1}}"#, "USDC", "20.00")).await;
    assert_eq!((before.late_policy, after.late_policy), (LatePolicy::Reject, LatePolicy::Accept));
    let payments = [world.pay_exactly(&before), world.pay_exactly(&after)];
    world.receive(&payments).await;
    assert!(world.said(before.id).await.starts_with("confirming"));
    assert!(world.said(after.id).await.starts_with("confirmed"));
});
