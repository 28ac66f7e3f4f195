//! What the scenarios send, and when the chain takes it back. What the gateway makes of it is the gateway's test.

use alloy::consensus::Transaction;
use alloy::providers::Provider;
use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::ids::OrderId;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::reference::find_references;
use cryptopay_domain::units::Units;
use cryptopay_entity::payment_order;
use cryptopay_sandbox::{KeepTransactions, PayError, Payment, Scenario, advance_clock, mine, reorg};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::{BLOCK_TIME, World};

/// Contract, recipient and amount of each log of a transaction.
async fn paid_by(world: &World, hash: Hash) -> Vec<(Asset, String, u128)> {
    let receipt = world.node.get_transaction_receipt(hash.0).await.unwrap().unwrap();
    let logs = receipt.inner.logs().iter();
    logs.map(|log| {
        let recipient = alloy::primitives::Address::from_word(log.inner.topics()[2]);
        let units = u128::from_str_radix(&alloy::hex::encode(&log.inner.data.data), 16).unwrap();
        (Asset::Token(AccountAddress(log.inner.address)), recipient.to_string(), units)
    })
    .collect()
}

on_both_databases!(twice_and_split_are_two_transactions, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let to = order.receiving_address.0.to_string();
    for (scenario, amount, sums) in [
        (Scenario::Twice, None, [100_000_000, 100_000_000]),
        (Scenario::Twice, Some(3), [3, 3]),
        (Scenario::Split, None, [50_000_000, 50_000_000]),
        (Scenario::Split, Some(3), [1, 2]),
    ] {
        let payment = Payment { scenario, amount: amount.map(Units::new), ..Payment::default() };
        let paid = world.pay(&order, payment).await.unwrap();
        assert_eq!(paid.further.len(), 1, "{scenario}");
        world.next_block().await;
        for (hash, units) in [paid.tx_hash, paid.further[0]].into_iter().zip(sums) {
            assert_eq!(paid_by(&world, hash).await, [(order.asset, to.clone(), units)], "{scenario}");
            let sent = world.node.get_transaction_by_hash(hash.0).await.unwrap().unwrap();
            assert_eq!(find_references(sent.input()), [order.reference]);
        }
    }
    let one = Payment { scenario: Scenario::Split, amount: Some(Units::new(1)), ..Payment::default() };
    let refused = world.pay(&order, one).await.unwrap_err();
    assert!(matches!(refused, PayError::AmountNotDivisible), "{refused}");
});

on_both_databases!(a_wrong_token_is_another_one_by_the_same_number, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let paid = world.pay_by(&order, Scenario::WrongToken).await;
    assert!(paid.message.contains("transfer.unmatched"), "{}", paid.message);
    world.next_block().await;
    let [(asset, to, units)] = paid_by(&world, paid.tx_hash).await.try_into().unwrap();
    let wrong = world.chain.token_of(asset).unwrap();
    assert!(wrong.asset != order.asset && wrong.asset != Asset::Native);
    assert_eq!(to, order.receiving_address.0.to_string());
    assert_eq!(units, 100 * 10_u128.pow(u32::from(wrong.decimals)));

    // Eighteen decimals, of which no other token has as many.
    let native = payment_order::Model { asset: Asset::Native, decimals: 18, pay_units: Units::new(1), ..order.clone() };
    let wish = Payment { scenario: Scenario::WrongToken, ..Payment::default() };
    let refused = world.pay(&native, wish).await.unwrap_err();
    assert!(matches!(refused, PayError::AmountFitsNoOtherToken { .. }), "{refused}");
    assert!(refused.to_string().contains("0.000000000000000001"), "{refused}");

    let mut alone = (*world.chain).clone();
    alone.tokens.retain(|token| token.asset == order.asset);
    let refused = cryptopay_sandbox::pay(world.db(), &alone, &order, wish).await.unwrap_err();
    assert!(matches!(refused, PayError::NoOtherToken { .. }), "{refused}");
});

on_both_databases!(a_batch_pays_the_order_between_others, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let paid = world.pay_by(&order, Scenario::Batch).await;
    world.next_block().await;
    let payments = paid_by(&world, paid.tx_hash).await;
    assert_eq!(payments.len(), 3);
    let ours = order.receiving_address.0.to_string();
    assert_eq!(payments.iter().map(|(_, to, _)| *to == ours).collect::<Vec<_>>(), [false, true, false]);
    assert!(payments.iter().all(|(asset, _, units)| (*asset, *units) == (order.asset, 100_000_000)));
    let sent = world.node.get_transaction_by_hash(paid.tx_hash.0).await.unwrap().unwrap();
    assert_eq!(find_references(sent.input()), [order.reference]);

    let native = payment_order::Model { asset: Asset::Native, ..order };
    let refused = world.pay(&native, Payment { scenario: Scenario::Batch, ..Payment::default() }).await.unwrap_err();
    assert!(matches!(refused, PayError::BatchOfCoins { .. }), "{refused}");
});

/// A payment whose place is taken by another one, to the order or to somebody else.
async fn replaced(world: &World, scenario: Scenario) -> (payment_order::Model, Vec<(Asset, String, u128)>) {
    let order = world.order().await;
    let paid = world.pay_by(&order, scenario).await;
    assert_eq!(paid.block_number, Some(1));
    let first = world.node.get_transaction_by_hash(paid.tx_hash.0).await.unwrap().unwrap();
    world.scanner_is_here().await;
    assert_eq!(world.next_block().await, 3, "one more block than there was");
    assert!(world.node.get_transaction_by_hash(paid.tx_hash.0).await.unwrap().is_none(), "it is gone for good");

    advance_clock(world.db(), 3 * BLOCK_TIME).await.unwrap();
    let height = world.height().await;
    let block = world.block(height).await;
    let held = block.transactions.as_transactions().unwrap();
    assert_eq!(held.len(), 1);
    let second = &held[0];
    assert_eq!(second.nonce(), first.nonce());
    let [signed, signed_first] = [second, &first].map(|sent| {
        let envelope = sent.inner.inner();
        envelope.signature().recover_address_from_prehash(&envelope.signature_hash()).unwrap()
    });
    assert_eq!(signed, signed_first);
    let hash = Hash(*second.inner.inner().tx_hash());
    assert_ne!(hash, paid.tx_hash);
    // Whoever pays again does so by a further transaction.
    let again = world.pay_by(&order, Scenario::Exact).await;
    assert!(again.tx_hash != hash && again.tx_hash != paid.tx_hash);
    let names_order = find_references(second.input()) == [order.reference];
    assert_eq!(names_order, scenario == Scenario::Replaced);
    (order, paid_by(world, hash).await)
}

on_both_databases!(a_replaced_payment_is_made_by_another_transaction_of_the_same_nonce, async |db: TestDatabase| {
    let world = World::new(db).await;
    let (order, payments) = replaced(&world, Scenario::Replaced).await;
    assert_eq!(payments, [(order.asset, order.receiving_address.0.to_string(), 100_000_000)]);
});

on_both_databases!(a_double_spent_payment_goes_to_somebody_else, async |db: TestDatabase| {
    let world = World::new(db).await;
    let (order, payments) = replaced(&world, Scenario::DoubleSpend).await;
    let [(asset, to, units)] = payments.try_into().unwrap();
    assert_eq!((asset, units), (order.asset, 100_000_000));
    assert_ne!(to, order.receiving_address.0.to_string());
});

on_both_databases!(what_would_have_replaced_a_payment_that_stays_is_never_sent, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let confirmed = world.pay_by(&order, Scenario::Replaced).await;
    mine(world.db(), &world.chain, 12).await.unwrap();
    let dropped = world.pay_by(&order, Scenario::DoubleSpend).await;
    reorg(world.db(), &world.chain, 2, KeepTransactions::No).await.unwrap();
    world.scanner_is_here().await;
    advance_clock(world.db(), 10 * BLOCK_TIME).await.unwrap();
    mine(world.db(), &world.chain, 3).await.unwrap();
    assert_eq!(world.home(confirmed.tx_hash).await.unwrap().0, 1);
    assert_eq!(world.home(dropped.tx_hash).await, None);
    let logs = world.node.get_logs(&alloy::rpc::types::Filter::new().from_block(0).to_block(99)).await.unwrap();
    assert_eq!(logs.len(), 1);
});

on_both_databases!(a_confirmed_payment_vanishes_and_comes_back, async |db: TestDatabase| {
    let world = World::new(db).await;
    world.store_merchant().await;
    let order = world.store_order().await;
    let paid = world.pay_by(&order, Scenario::ReorgAfterConfirmation).await;
    assert_eq!(paid.block_number, None, "it waits for the next block like any other");
    mine(world.db(), &world.chain, 14).await.unwrap();
    world.scanner_is_here().await;
    let before = world.home(paid.tx_hash).await.unwrap();
    world.next_block().await;
    assert_eq!(world.home(paid.tx_hash).await, Some(before), "nobody has confirmed the order");

    world.set_status(OrderStatus::Confirmed, 1).await;
    let height = world.height().await;
    assert_eq!(world.next_block().await, height + 1, "one more block than there was");
    assert_eq!(world.home(paid.tx_hash).await, None);
    assert!(world.node.get_transaction_by_hash(paid.tx_hash.0).await.unwrap().is_some(), "it waits");
    advance_clock(world.db(), 3 * BLOCK_TIME).await.unwrap();
    let back = world.height().await;
    assert_eq!(world.home(paid.tx_hash).await.unwrap().0, back);
    world.next_block().await;
    assert_eq!(world.home(paid.tx_hash).await.unwrap().0, back, "and stays");
});

on_both_databases!(no_payment_vanishes_that_is_final_or_whose_order_is_no_more, async |db: TestDatabase| {
    let world = World::new(db).await;
    world.store_merchant().await;
    let order = world.store_order().await;
    let depth = world.chain.reorg_depth;
    let deep = world.pay_by(&order, Scenario::ReorgAfterConfirmation).await;
    let orphan = payment_order::Model { id: OrderId(77), ..order.clone() };
    let forgotten = world.pay_by(&orphan, Scenario::ReorgAfterConfirmation).await;
    mine(world.db(), &world.chain, depth).await.unwrap();
    world.set_status(OrderStatus::Confirmed, 1).await;
    for _ in 0..3 {
        world.next_block().await;
    }
    for paid in [deep, forgotten] {
        assert_eq!(world.home(paid.tx_hash).await.unwrap().0, 1);
    }

    let patient = payment_order::Model { required_confirmations: i64::from(depth), ..order };
    let wish = Payment { scenario: Scenario::ReorgAfterConfirmation, ..Payment::default() };
    let refused = world.pay(&patient, wish).await.unwrap_err();
    assert!(matches!(refused, PayError::FinalWhenConfirmed { .. }), "{refused}");
    for scenario in [Scenario::Replaced, Scenario::DoubleSpend] {
        let at_once = payment_order::Model { required_confirmations: 1, ..patient.clone() };
        let refused = world.pay(&at_once, Payment { scenario, ..Payment::default() }).await.unwrap_err();
        assert!(matches!(refused, PayError::ConfirmsAtOnce), "{refused}");
    }
});
