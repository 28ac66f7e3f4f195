use alloy::providers::Provider;
use alloy::rpc::types::{BlockNumberOrTag, Filter};
use alloy::transports::{RpcError, TransportErrorKind};
use cryptopay_sandbox::{FaultError, FaultKind, MAX_FAULT, Scenario, advance_clock, fault, mine};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::{BLOCK_TIME, World};

/// What the logs of all blocks are.
fn everything() -> Filter {
    Filter::new().from_block(0).to_block(99)
}

/// A chain of some blocks, the third of which holds a payment.
async fn world(db: TestDatabase) -> World {
    let world = World::new(db).await;
    mine(world.db(), &world.chain, 2).await.unwrap();
    world.pay_by(&world.order().await, Scenario::Exact).await;
    mine(world.db(), &world.chain, 4).await.unwrap();
    world
}

async fn begin(world: &World, kind: FaultKind, seconds: u64) {
    let until = fault(world.db(), &world.chain, kind, seconds).await.unwrap().unwrap();
    assert!(until > world.now().await);
}

on_both_databases!(a_node_that_is_down_answers_nothing_until_its_time_is_over, async |db: TestDatabase| {
    let world = world(db).await;
    begin(&world, FaultKind::Down, 60).await;
    for answer in [world.node.get_block_number().await.map(|_| ()), world.node.get_chain_id().await.map(|_| ())] {
        let error = answer.unwrap_err();
        let RpcError::Transport(TransportErrorKind::HttpError(http)) = error else { panic!("{error:?}") };
        assert_eq!(http.status, 503);
    }
    advance_clock(world.db(), 61).await.unwrap();
    assert_eq!(world.height().await, 6);
    assert_eq!(world.node.get_logs(&everything()).await.unwrap().len(), 1);
});

on_both_databases!(a_lagging_node_shows_no_new_blocks_though_they_are_mined, async |db: TestDatabase| {
    let world = world(db).await;
    let paid = world.pay_by(&world.order().await, Scenario::Exact).await;
    begin(&world, FaultKind::Lagging, 10 * BLOCK_TIME).await;
    assert_eq!(world.height().await, 3, "some blocks behind");
    advance_clock(world.db(), BLOCK_TIME).await.unwrap();
    mine(world.db(), &world.chain, 5).await.unwrap();
    assert_eq!(world.height().await, 3);
    let latest = world.node.get_block_by_number(BlockNumberOrTag::Latest).await.unwrap().unwrap();
    assert_eq!(latest.header.number, 3);
    assert!(world.node.get_block_by_number(BlockNumberOrTag::Number(4)).await.unwrap().is_none());
    assert_eq!(world.node.get_logs(&everything()).await.unwrap().len(), 1, "of the blocks that it shows");
    assert_eq!(world.home(paid.tx_hash).await, None);
    assert!(world.node.get_transaction_by_hash(paid.tx_hash.0).await.unwrap().is_some(), "to this node it waits");

    fault(world.db(), &world.chain, FaultKind::Lagging, 0).await.unwrap();
    assert!(world.height().await >= 11, "blocks were due and mined meanwhile");
    let (number, hash) = world.home(paid.tx_hash).await.unwrap();
    assert_eq!(world.block(number).await.header.hash, hash);
    assert_eq!(world.node.get_logs(&everything()).await.unwrap().len(), 2);
});

on_both_databases!(a_node_without_logs_shows_everything_else, async |db: TestDatabase| {
    let world = world(db).await;
    begin(&world, FaultKind::EmptyLogs, 60).await;
    assert_eq!(world.node.get_logs(&everything()).await.unwrap(), []);
    let block = world.block(3).await;
    assert_eq!(world.node.get_logs(&Filter::new().at_block_hash(block.header.hash)).await.unwrap(), []);
    assert_eq!(block.transactions.len(), 1);
    let receipt = world.node.get_transaction_receipt(block.transactions.hashes().next().unwrap()).await.unwrap();
    assert_eq!(receipt.unwrap().inner.logs().len(), 1);
});

on_both_databases!(a_stale_tag_is_the_first_block_and_the_head_goes_on, async |db: TestDatabase| {
    let world = world(db).await;
    mine(world.db(), &world.chain, 300).await.unwrap();
    let tagged = async |tag| world.node.get_block_by_number(tag).await.unwrap().unwrap().header.number;
    let well = tagged(BlockNumberOrTag::Finalized).await;
    assert!(well > 0);
    begin(&world, FaultKind::StaleFinalized, 60).await;
    assert_eq!(tagged(BlockNumberOrTag::Finalized).await, 0);
    assert_eq!(tagged(BlockNumberOrTag::Safe).await, 0);
    assert_eq!(world.height().await, 306);
    advance_clock(world.db(), 61).await.unwrap();
    assert_eq!(tagged(BlockNumberOrTag::Finalized).await, well);
});

on_both_databases!(a_chain_has_one_fault_at_a_time_and_none_lasts_for_ever, async |db: TestDatabase| {
    let world = world(db).await;
    begin(&world, FaultKind::Down, MAX_FAULT.as_secs()).await;
    begin(&world, FaultKind::EmptyLogs, 60).await;
    assert_eq!(world.height().await, 6, "no longer down");
    // Whichever there is.
    assert_eq!(fault(world.db(), &world.chain, FaultKind::Down, 0).await.unwrap(), None);
    assert_eq!(world.node.get_logs(&everything()).await.unwrap().len(), 1);
    assert_eq!(fault(world.db(), &world.chain, FaultKind::Down, 0).await.unwrap(), None, "there is none to end");
    for seconds in [MAX_FAULT.as_secs() + 1, u64::MAX] {
        let refused = fault(world.db(), &world.chain, FaultKind::Down, seconds).await;
        assert!(matches!(refused, Err(FaultError::SecondsOutOfRange)), "{refused:?}");
    }
});
