//! New orders: amounts of their own, deliveries, and what happens when a band of amounts is full.

use std::collections::BTreeSet;
use std::slice::from_ref;
use std::time::Duration;

use cryptopay_domain::amount::DecimalAmount;
use cryptopay_domain::event::EventType::{OrderUpdated, OrderWrongAsset, PaymentConfirmed, PaymentPending};
use cryptopay_domain::order::{Decision, LatePolicy};
use cryptopay_domain::units::Units;
use cryptopay_entity::{event, payment_order};
use cryptopay_ledger::{LedgerError, Refusal};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::EntityTrait;

use crate::fake_chain::{BLOCK_TIME, Payment};
use crate::world::{Ask, EVERYTHING_URL, PAY, World, all_of, refusal};

on_both_databases!(a_payer_who_rounds_pays_no_order, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let price = Units::new(100_000_000);
    let (first, second) = (world.order(Ask::default()).await, world.order(Ask::default()).await);
    for order in [&first, &second] {
        assert!(order.pay_units < price && order.pay_units >= Units::new(99_500_000), "{}", order.pay_units);
    }
    assert_ne!(first.pay_units, second.pay_units);
    let rounded = world.pay(&second, price);
    world.receive(from_ref(&rounded)).await;
    assert_eq!(world.said(first.id).await, "pending 0");
    assert_eq!(world.said(second.id).await, "pending 0");
    let [(hash, named)] = &world.inbox(world.merchant).await[..] else { panic!("one transfer is unmatched") };
    let both = BTreeSet::from([&first, &second].map(|order| order.order_id.to_string()));
    assert_eq!((*hash, named.iter().cloned().collect()), (rounded.tx_hash, both));
    let exact = world.pay_exactly(&second);
    world.receive(&[exact]).await;
    world.deepen().await;
    assert_eq!(world.said(second.id).await, format!("confirmed {}", second.pay_units));
    assert_eq!(world.said(first.id).await, "pending 0");
    world.audit().await;
});

on_both_databases!(an_amount_that_is_the_price_of_another_order_is_ambiguous, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    // The price of the second order is the amount that the first customer was told to send.
    let bait = world.order(Ask { amount: "99.9992", ..Ask::default() }).await;
    assert_eq!(order.pay_units, Units::new(PAY));
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    assert_eq!(world.said(order.id).await, "pending 0");
    assert_eq!(world.said(bait.id).await, "pending 0");
    assert_eq!(world.inbox(world.merchant).await[0].1.len(), 2);
    // An amount that is a price already is not handed out.
    for seed in 0..40 {
        let other = world.order(Ask { seed, ..Ask::default() }).await;
        assert_ne!(other.pay_units, Units::new(PAY));
    }
    world.audit().await;
});

on_both_databases!(equal_amounts_exist_once_per_address_over_assets, async |db: TestDatabase| {
    let mut world = World::on(db, "ethereum").await;
    let mut amounts = BTreeSet::new();
    for symbol in ["USDC", "USDT", "DAI", "USDC", "USDT", "DAI"] {
        let order = world.order(Ask { symbol, ..Ask::default() }).await;
        assert!(amounts.insert(DecimalAmount::new(order.pay_units, u8::try_from(order.decimals).unwrap())));
    }
    world.audit().await;
});

on_both_databases!(the_right_amount_in_another_asset_is_flagged_and_pays_nothing, async |db: TestDatabase| {
    let mut world = World::on(db, "ethereum").await;
    let order = world.order(Ask::default()).await;
    let usdt = world.asset("USDT");
    let wrong = Payment { asset: usdt, ..world.pay_exactly(&order) };
    world.receive(from_ref(&wrong)).await;
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "pending wrong_asset 0");
    assert_eq!(world.events(order.id).await, [OrderWrongAsset]);
    assert_eq!(world.inbox(world.merchant).await, [(wrong.tx_hash, vec![order.order_id.to_string()])]);
    // The price of the order in another asset is no sign of this order alone.
    let plain = Payment { asset: usdt, ..world.transfer(Units::new(100_000_000)) };
    let other = world.order(Ask { amount: "50.00", ..Ask::default() }).await;
    let coin = Payment { asset: usdt, ..world.transfer(Units::new(50_000_000)) };
    world.receive(&[plain, coin]).await;
    assert_eq!(world.said(other.id).await, "pending 0");
    assert_eq!(world.inbox(world.merchant).await.len(), 3);
    // The right payment is credited in spite of the payments in the wrong asset.
    let right = world.pay_exactly(&order);
    world.receive(&[right]).await;
    world.deepen().await;
    assert_eq!(world.said(order.id).await, format!("confirmed wrong_asset {PAY}"));
    world.audit().await;
});

on_both_databases!(a_wrong_asset_that_another_order_takes_in_full_is_no_flag, async |db: TestDatabase| {
    let mut world = World::on(db, "ethereum").await;
    let flagged = world.order(Ask::default()).await;
    let meant = world.order(Ask { symbol: "USDT", amount: "150.00", ..Ask::default() }).await;
    let payment = Payment { asset: world.asset("USDT"), ..world.pay_exactly(&flagged) };
    world.receive(from_ref(&payment)).await;
    assert_eq!(world.said(flagged.id).await, "pending wrong_asset 0");
    world.assign(meant.id, all_of(&payment)).await.unwrap();
    assert_eq!(world.said(flagged.id).await, "pending 0");
    assert_eq!(world.said(meant.id).await, format!("underpaid {PAY}"));
    world.audit().await;
});

on_both_databases!(an_overpayment_by_other_means_is_no_rounding, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let short = world.pay_by_button(&order, Units::new(50_000_000));
    world.receive(&[short]).await;
    let asked = world.row(order.id).await.remainder_units.unwrap();
    // A little less than the remainder, and more than what was missing.
    let rest = world.pay_by_button(&order, asked.saturating_sub(Units::new(1)));
    world.receive(&[rest]).await;
    assert!(world.said(order.id).await.starts_with("confirming overpaid"), "{}", world.said(order.id).await);
    world.audit().await;
});

on_both_databases!(a_wrong_asset_that_a_reorganisation_takes_back_is_no_flag, async |db: TestDatabase| {
    let mut world = World::on(db, "ethereum").await;
    let order = world.order(Ask::default()).await;
    let wrong = Payment { asset: world.asset("USDT"), ..world.pay_exactly(&order) };
    world.receive(&[wrong]).await;
    world.reorganise(1).await;
    world.orphan_missing().await;
    assert_eq!(world.said(order.id).await, "pending 0");
    assert_eq!(world.events(order.id).await, [OrderWrongAsset, OrderUpdated]);
    world.audit().await;
});

on_both_databases!(a_rejected_order_takes_no_further_money, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask { late_policy: LatePolicy::Review, ..Ask::default() }).await;
    let short = world.pay_by_button(&order, Units::new(1));
    world.receive(&[short]).await;
    world.close(&order).await;
    world.resolve(order.id, Decision::Reject).await.unwrap();
    let again = [world.pay_exactly(&order), world.pay_by_button(&order, Units::new(5))];
    world.receive(&again).await;
    assert_eq!(world.allocations(order.id).await.len(), 1);
    let unmatched = world.inbox(world.merchant).await;
    assert_eq!(unmatched.iter().map(|(hash, _)| *hash).collect::<BTreeSet<_>>(), again.map(|one| one.tx_hash).into());
    assert!(!world.held(order.id).await.is_empty(), "its amounts stay held");
    world.audit().await;
});

on_both_databases!(a_reference_with_the_amount_of_another_order_is_ambiguous, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let (named, meant) = (world.order(Ask::default()).await, world.order(Ask::default()).await);
    let redirected = world.pay_by_button(&named, meant.pay_units);
    world.receive(&[redirected]).await;
    world.deepen().await;
    assert_eq!(world.said(named.id).await, "pending 0");
    assert_eq!(world.said(meant.id).await, "pending 0");
    assert_eq!(world.inbox(world.merchant).await[0].1.len(), 2);
    world.audit().await;
});

on_both_databases!(a_thousand_abandoned_orders_of_one_price_leave_free_amounts, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let mut amounts = BTreeSet::new();
    for seed in 0..1_001 {
        let order = world.order(Ask { amount: "20.00", seed: seed * 7_919, ..Ask::default() }).await;
        assert!(order.pay_units < Units::new(20_000_000) && order.pay_units >= Units::new(19_900_000));
        assert!(amounts.insert(order.pay_units), "an amount was handed out twice");
    }
    let coarse = amounts.iter().filter(|units| (units.0 % Units::new(100).0).is_zero()).count();
    assert!((300..=600).contains(&coarse), "about half of the coarse grid is used: {coarse}");
    let last = world.order(Ask { amount: "20.00", ..Ask::default() }).await;
    let payment = world.pay_exactly(&last);
    world.receive(&[payment]).await;
    world.deepen().await;
    assert_eq!(world.said(last.id).await, format!("confirmed {}", last.pay_units));
});

on_both_databases!(an_order_without_a_free_amount_is_refused_and_changes_nothing, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let ask = Ask { symbol: "cbBTC", amount: "0.0001", ..Ask::default() };
    let mut amounts = BTreeSet::new();
    let mut refused = 0;
    for seed in 0..60 {
        match world.try_order(world.merchant, Ask { seed, ..ask }).await {
            Ok(order) => assert!(amounts.insert(order.pay_units)),
            Err(LedgerError::Refused(Refusal::NoFreeAmount)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // Half a percent of 10,000 units.
    assert_eq!((amounts.len(), refused), (50, 10));
    assert_eq!((amounts.first(), amounts.last()), (Some(&Units::new(9_950)), Some(&Units::new(9_999))));
    let tiny = Ask { amount: "0.00000001", ..ask };
    assert_eq!(refusal(world.try_order(world.merchant, tiny).await), Refusal::PriceTooSmall);
    let rows = payment_order::Entity::find().all(world.db()).await.unwrap();
    assert_eq!(rows.len(), 50);
    world.audit().await;
});

on_both_databases!(an_orders_own_webhook_gets_the_default_events_beside_the_endpoints, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let own = "https://other.example:8443/paid?basket=17";
    let order = world.order(Ask { webhook_url: Some(own), ..Ask::default() }).await;
    let same = world.order(Ask { webhook_url: Some(EVERYTHING_URL), amount: "50", ..Ask::default() }).await;
    let payments = [world.pay_exactly(&order), world.pay_exactly(&same)];
    world.receive(&payments).await;
    world.deepen().await;
    // `events` checks that each event has its deliveries and no more.
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
    assert_eq!(world.events(same.id).await, [PaymentPending, PaymentConfirmed]);
    let history = event::Entity::of_order(world.db(), world.merchant.id, order.id).await.unwrap();
    let deliveries = world.deliveries(&history[1]).await;
    let own_delivery = deliveries.iter().find(|delivery| delivery.url == own).unwrap();
    assert_eq!(own_delivery.origin, "https://other.example:8443");
    assert_eq!(own_delivery.endpoint_id, world.merchant.own_urls);
    let other = deliveries.iter().find(|delivery| delivery.url == EVERYTHING_URL).unwrap();
    assert_eq!((other.origin.as_str(), other.endpoint_id), ("", world.merchant.everything));
    assert_ne!(own_delivery.delivery_id, other.delivery_id);
    world.audit().await;
});

on_both_databases!(height_decides_which_money_is_older_than_an_order, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    world.mine_empty(1);
    world.settle().await;
    let order = world.order(Ask::default()).await;
    // The same height again on another branch, stamped after the order: no clock makes it younger.
    let below = world.pay_exactly(&order);
    world.chain.fork(1);
    world.mine_at(order.created_at.plus(BLOCK_TIME), from_ref(&below));
    world.settle().await;
    assert_eq!(world.said(order.id).await, "pending 0");
    let unmatched = world.inbox(world.merchant).await;
    assert_eq!(unmatched, [(below.tx_hash, vec![order.order_id.to_string()])]);
    // The block above is stamped like the one before the order, as on a chain that lags.
    let above = world.pay_exactly(&order);
    world.receive(&[above]).await;
    world.deepen().await;
    assert_eq!(world.said(order.id).await, format!("confirmed {PAY}"));
    world.audit().await;
});

on_both_databases!(a_chain_that_is_stamped_behind_the_clock_is_paid_in_time, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    for behind in [45, 600, 2_700] {
        world.now = world.chain.tip().time.plus(Duration::from_secs(behind));
        let order = world.order(Ask::default()).await;
        let payment = world.pay_exactly(&order);
        world.receive(&[payment]).await;
        world.deepen().await;
        assert_eq!(world.said(order.id).await, format!("confirmed {}", order.pay_units), "{behind}");
    }
    world.audit().await;
});
