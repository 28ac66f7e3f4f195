use alloy::providers::Provider;
use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::reference::find_references;
use cryptopay_domain::units::Units;
use cryptopay_entity::payment_order;
use cryptopay_sandbox::{PayError, Payment, Scenario, advance_clock, mine};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::World;

on_both_databases!(paying_twice_makes_two_transactions_of_one_payer, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let first = world.pay_by(&order, Scenario::Exact).await;
    let second = world.pay_by(&order, Scenario::Exact).await;
    assert_ne!(first.tx_hash, second.tx_hash);
    assert_eq!((first.from, first.units), (second.from, second.units));
    assert_eq!((first.units, first.block_number), (order.pay_units, None));
    let height = world.next_block().await;
    for paid in [first, second] {
        assert_eq!(world.home(paid.tx_hash).await.unwrap().0, height);
    }
});

on_both_databases!(scenarios_choose_the_amount_and_the_reference, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    for (scenario, amount, with_reference, units, reference) in [
        (Scenario::Exact, None, None, 100_000_000, false),
        (Scenario::Exact, Some(7), Some(true), 7, true),
        (Scenario::Underpay, None, None, 50_000_000, true),
        (Scenario::Underpay, Some(99_999_999), Some(false), 99_999_999, false),
        (Scenario::Overpay, None, None, 110_000_000, true),
        (Scenario::Overpay, Some(100_000_001), None, 100_000_001, true),
    ] {
        let payment = Payment { scenario, amount: amount.map(Units::new), with_reference, from: None };
        let paid = world.pay(&order, payment).await.unwrap();
        assert_eq!(paid.units, Units::new(units), "{scenario}");
        let sent = world.node.get_transaction_by_hash(paid.tx_hash.0).await.unwrap().unwrap();
        let found = find_references(alloy::consensus::Transaction::input(&sent));
        assert_eq!(found, if reference { vec![order.reference] } else { vec![] }, "{scenario}");
    }
});

on_both_databases!(amounts_that_contradict_the_scenario_are_refused, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let paying = async |order: &payment_order::Model, scenario, amount: Option<u128>| {
        world.pay(order, Payment { scenario, amount: amount.map(Units::new), ..Payment::default() }).await.unwrap_err()
    };
    let refused = paying(&order, Scenario::Underpay, Some(100_000_000)).await;
    assert_eq!(refused.to_string(), "To underpay, enter less than the 100.00 USDC that are due.");
    let refused = paying(&order, Scenario::Overpay, Some(100_000_000)).await;
    assert!(matches!(refused, PayError::AmountNotAboveDue { .. }), "{refused}");
    let refused = paying(&order, Scenario::Exact, Some(0)).await;
    assert!(matches!(refused, PayError::AmountNotPositive), "{refused}");
    let paid = payment_order::Model { received_units: order.pay_units, ..order.clone() };
    for scenario in [Scenario::Exact, Scenario::Underpay, Scenario::Overpay] {
        let refused = paying(&paid, scenario, None).await;
        assert!(matches!(refused, PayError::NothingDue), "{refused}");
    }
    let one = payment_order::Model { pay_units: Units::new(1), ..order.clone() };
    let refused = paying(&one, Scenario::Underpay, None).await;
    assert!(matches!(refused, PayError::AmountNotPositive), "{refused}");
});

on_both_databases!(what_cannot_be_paid_is_refused, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let elsewhere = payment_order::Model { chain: "bsc".into(), ..order.clone() };
    let refused = world.pay(&elsewhere, Payment::default()).await.unwrap_err();
    assert!(matches!(refused, PayError::WrongChain { .. }), "{refused}");
    let gone = cryptopay_domain::address::Asset::Token(AccountAddress([9; 20].into()));
    let refused = world.pay(&payment_order::Model { asset: gone, ..order.clone() }, Payment::default()).await;
    assert!(matches!(refused, Err(PayError::AssetNotRegistered { .. })), "{refused:?}");
    let itself = Payment { from: Some(order.receiving_address), ..Payment::default() };
    let refused = world.pay(&order, itself).await.unwrap_err();
    assert!(matches!(refused, PayError::PayerIsRecipient), "{refused}");
});

on_both_databases!(the_remainder_of_an_underpaid_order_is_what_is_held_for_it, async |db: TestDatabase| {
    let world = World::new(db).await;
    let underpaid = payment_order::Model { received_units: Units::new(60_000_000), ..world.order().await };
    assert_eq!(world.pay_by(&underpaid, Scenario::Exact).await.units, Units::new(40_000_000));

    let held = payment_order::Model { remainder_units: Some(Units::new(40_000_300)), ..underpaid };
    assert_eq!(world.pay_by(&held, Scenario::Exact).await.units, Units::new(40_000_300));
});

on_both_databases!(a_late_payment_waits_for_its_deadline, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let late = Payment { scenario: Scenario::Late, ..Payment::default() };
    let refused = world.pay(&order, late).await.unwrap_err();
    assert!(refused.to_string().contains("clock/advance"), "{refused}");
    let PayError::StillInTime { advance_seconds } = refused else { panic!("{refused}") };

    advance_clock(world.db(), advance_seconds).await.unwrap();
    let paid = world.pay(&order, late).await.unwrap();
    assert!(paid.message.contains("late"));
    mine(world.db(), &world.chain, 1).await.unwrap();
    let (number, _) = world.home(paid.tx_hash).await.unwrap();
    let time = i64::try_from(world.block(number).await.header.timestamp).unwrap();
    assert!(time * 1_000_000 > order.in_time_until.as_micros());
});
