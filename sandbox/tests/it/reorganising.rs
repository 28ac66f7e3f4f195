use alloy::providers::Provider;
use cryptopay_domain::units::Units;
use cryptopay_entity::payment_order;
use cryptopay_sandbox::{
    KeepTransactions, MAX_REORG_DEPTH, PayError, Payment, ReorgError, Reorganised, Scenario, advance_clock, mine, reorg,
};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::{BLOCK_TIME, World, transactions_root};

on_both_databases!(a_reorganisation_replaces_the_newest_blocks_by_one_more, async |db: TestDatabase| {
    let world = World::new(db).await;
    mine(world.db(), &world.chain, 5).await.unwrap();
    let mut before = Vec::new();
    for number in 0..=5 {
        before.push(world.block(number).await);
    }
    let done = reorg(world.db(), &world.chain, 3, KeepTransactions::Yes).await.unwrap();
    assert_eq!(done, Reorganised { from: 3, to: 6 });
    assert_eq!(world.height().await, 6);
    for old in &before[..3] {
        assert_eq!(world.block(old.header.number).await, *old);
    }
    for old in &before[3..] {
        assert!(world.node.get_block_by_hash(old.header.hash).await.unwrap().is_none());
    }
    for number in 3..=6 {
        let block = world.block(number).await;
        assert_eq!(block.header.inner.hash_slow(), block.header.hash);
        assert_eq!(block.header.parent_hash, world.block(number - 1).await.header.hash);
        assert!(before.iter().all(|old| old.header.hash != block.header.hash));
    }
});

on_both_databases!(kept_transactions_stand_in_other_blocks_at_the_same_time, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let first = world.pay_by(&order, Scenario::Exact).await.tx_hash;
    let second = world.pay_by(&order, Scenario::Exact).await.tx_hash;
    let height = world.next_block().await;
    let before = world.block(height).await;
    let index_before = log_index(&world, first).await;

    reorg(world.db(), &world.chain, 1, KeepTransactions::Yes).await.unwrap();
    for hash in [first, second] {
        let (number, block_hash) = world.home(hash).await.unwrap();
        let block = world.block(number).await;
        assert_eq!((number, block.header.hash), (height + 1, block_hash));
        assert_eq!(block.header.timestamp, before.header.timestamp);
        assert_eq!(transactions_root(&block), Some(block.header.transactions_root));
    }
    assert_eq!((index_before, log_index(&world, first).await), (0, 1));
    assert!(world.block(height).await.transactions.is_empty());
});

on_both_databases!(dropped_transactions_vanish_and_paying_again_is_another_one, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let gone = world.pay_by(&order, Scenario::Exact).await.tx_hash;
    world.next_block().await;
    reorg(world.db(), &world.chain, 1, KeepTransactions::No).await.unwrap();
    assert!(world.node.get_transaction_by_hash(gone.0).await.unwrap().is_none());
    mine(world.db(), &world.chain, 3).await.unwrap();
    assert_eq!(world.home(gone).await, None);
    let logs = world.node.get_logs(&alloy::rpc::types::Filter::new().from_block(0).to_block(99)).await.unwrap();
    assert_eq!(logs, []);

    let again = world.pay_by(&order, Scenario::Exact).await.tx_hash;
    assert_ne!(again, gone);
    mine(world.db(), &world.chain, 1).await.unwrap();
    assert!(world.home(again).await.is_some());
});

on_both_databases!(the_first_block_and_forgotten_ones_cannot_be_replaced, async |db: TestDatabase| {
    let world = World::new(db).await;
    mine(world.db(), &world.chain, 5).await.unwrap();
    for depth in [0, MAX_REORG_DEPTH + 1] {
        let refused = reorg(world.db(), &world.chain, depth, KeepTransactions::No).await;
        assert!(matches!(refused, Err(ReorgError::DepthOutOfRange)), "{refused:?}");
    }
    let refused = reorg(world.db(), &world.chain, 6, KeepTransactions::No).await;
    assert!(matches!(refused, Err(ReorgError::TooDeep { deepest: 5 })), "{refused:?}");
    mine(world.db(), &world.chain, 300).await.unwrap();
    world.scanner_is_here().await;
    mine(world.db(), &world.chain, 300).await.unwrap();
    // Kept are the blocks from 305 - 64 on; the lowest of them has to stay as the parent.
    let refused = reorg(world.db(), &world.chain, 400, KeepTransactions::No).await;
    assert!(matches!(refused, Err(ReorgError::TooDeep { deepest: 364 })), "{refused:?}");
    assert_eq!(reorg(world.db(), &world.chain, 364, KeepTransactions::No).await.unwrap().to, 606);
});

on_both_databases!(a_payment_vanishes_before_confirmation_and_comes_back, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let bystander = world.pay_by(&order, Scenario::Exact).await.tx_hash;
    let paid = world.pay_by(&order, Scenario::ReorgBeforeConfirmation).await;
    assert_eq!(paid.block_number, Some(1));
    let before = world.home(paid.tx_hash).await.unwrap();

    // Nothing happens before the scanner has seen it, or before the next block is due.
    assert_eq!(world.height().await, 2);
    world.scanner_is_here().await;
    assert_eq!(world.height().await, 2);
    assert_eq!(world.home(paid.tx_hash).await, Some(before));

    assert_eq!(world.next_block().await, 3, "one more block than there was");
    assert_eq!(world.home(paid.tx_hash).await, None);
    assert!(world.node.get_transaction_by_hash(paid.tx_hash.0).await.unwrap().is_some(), "it waits");
    assert_eq!(world.home(bystander).await.unwrap().0, 2, "others stay");
    assert_ne!(world.block(1).await.header.hash, before.1);

    assert_eq!(world.height().await, 4, "the block that was due");
    assert_eq!(world.next_block().await, 5);
    assert_eq!(world.home(paid.tx_hash).await, None, "it stays away for three block times");
    advance_clock(world.db(), 2 * BLOCK_TIME).await.unwrap();
    assert_eq!(world.height().await, 6);
    assert_eq!(world.home(paid.tx_hash).await.unwrap().0, 6);
    assert_eq!(world.next_block().await, 7, "and stays");
    assert_eq!(world.home(paid.tx_hash).await.unwrap().0, 6);
});

on_both_databases!(a_chain_waits_for_the_scanner_but_not_for_ever, async |db: TestDatabase| {
    let world = World::new(db).await;
    let mut chain = (*world.chain).clone();
    chain.block_time = std::time::Duration::from_secs(1);
    let order = world.order().await;
    let paid = world.pay_by(&order, Scenario::ReorgBeforeConfirmation).await;
    let simulated = cryptopay_sandbox::SimulatedChain::new(world.db().clone(), chain.into());
    let client = cryptopay_chain::EvmClient::over(simulated, "fast", cryptopay_chain::Limits::default());
    let height = async || cryptopay_chain::ChainClient::head(&client).await.unwrap().number;
    advance_clock(world.db(), 5).await.unwrap();
    assert_eq!(height().await, 2, "blocks are due, but the scanner has not looked");
    advance_clock(world.db(), 60).await.unwrap();
    assert_eq!(height().await, 3);
    world.scanner_is_here().await;
    advance_clock(world.db(), 5).await.unwrap();
    assert_eq!(height().await, 4, "the plan is given up");
    assert_eq!(world.home(paid.tx_hash).await.unwrap().0, 1);
});

on_both_databases!(a_payment_that_is_confirmed_already_does_not_vanish, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    let paid = world.pay_by(&order, Scenario::ReorgBeforeConfirmation).await;
    mine(world.db(), &world.chain, 12).await.unwrap();
    world.scanner_is_here().await;
    assert_eq!(world.next_block().await, 15);
    assert_eq!(world.home(paid.tx_hash).await.unwrap().0, 1);

    let at_once = payment_order::Model { required_confirmations: 1, ..order };
    let payment = Payment { scenario: Scenario::ReorgBeforeConfirmation, ..Payment::default() };
    let refused = world.pay(&at_once, Payment { amount: Some(Units::new(1)), ..payment }).await;
    assert!(matches!(refused, Err(PayError::ConfirmsAtOnce)), "{refused:?}");
});

async fn log_index(world: &World, hash: cryptopay_domain::address::Hash) -> u64 {
    let receipt = world.node.get_transaction_receipt(hash.0).await.unwrap().unwrap();
    receipt.inner.logs()[0].log_index.unwrap()
}
