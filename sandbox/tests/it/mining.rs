use alloy::primitives::B256;
use alloy::providers::Provider;
use alloy::rpc::types::BlockNumberOrTag;
use cryptopay_sandbox::{MAX_MINED_BLOCKS, MineError, Mined, Scenario, SimulatedChain, advance_clock, mine};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::{BLOCK_TIME, World};

on_both_databases!(the_head_stays_until_the_next_block_is_due, async |db: TestDatabase| {
    let world = World::new(db).await;
    let genesis = world.block(0).await;
    assert_eq!(genesis.header.parent_hash, B256::ZERO);
    assert_eq!(world.height().await, 0);
    assert_eq!(world.next_block().await, 1);
    assert_eq!(world.height().await, 1);
    assert_eq!(world.block(0).await, genesis);
});

on_both_databases!(after_a_gap_one_block_stamped_now_is_mined, async |db: TestDatabase| {
    let world = World::new(db).await;
    let now = advance_clock(world.db(), 50 * BLOCK_TIME).await.unwrap();
    assert_eq!(world.height().await, 1);
    let time = i64::try_from(world.block(1).await.header.timestamp).unwrap();
    assert!((now.as_secs()..=world.now().await.as_secs()).contains(&time));
});

on_both_databases!(many_who_ask_at_once_see_one_block_per_height, async |db: TestDatabase| {
    let world = World::new(db).await;
    let order = world.order().await;
    for round in 1..=4 {
        let paid = world.pay_by(&order, Scenario::Exact).await;
        advance_clock(world.db(), BLOCK_TIME).await.unwrap();
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let node = world.node.clone();
                tokio::spawn(async move { node.get_block_by_number(BlockNumberOrTag::Latest).await.unwrap().unwrap() })
            })
            .collect();
        let mut seen = Vec::new();
        for answer in asking {
            seen.push(answer.await.unwrap().header);
        }
        let hash = world.block(round).await.header.hash;
        assert!(seen.iter().all(|header| (header.number, header.hash) == (round, hash)), "{seen:?}");
        assert_eq!(world.home(paid.tx_hash).await, Some((round, hash)));
    }
});

on_both_databases!(mined_blocks_are_linked_and_never_stamped_later_than_now, async |db: TestDatabase| {
    let world = World::new(db).await;
    let paid = world.pay_by(&world.order().await, Scenario::Exact).await;
    let mined = mine(world.db(), &world.chain, 10_000).await.unwrap();
    assert_eq!(mined, Mined { from: 1, to: 10_000 });
    assert_eq!(world.height().await, 10_000);
    assert_eq!(world.home(paid.tx_hash).await.unwrap().0, 1);
    let now = u64::try_from(world.now().await.as_secs()).unwrap();
    let mut parent = world.block(0).await;
    for number in [1, 2, 3] {
        let block = world.block(number).await;
        assert_eq!(block.header.parent_hash, parent.header.hash);
        assert!((parent.header.timestamp..=now).contains(&block.header.timestamp));
        parent = block;
    }
    let last = world.block(10_000).await;
    assert_eq!(last.header.parent_hash, world.block(9_999).await.header.hash);
    assert!(last.header.timestamp <= now);
});

on_both_databases!(mining_nothing_or_too_much_is_refused, async |db: TestDatabase| {
    let world = World::new(db).await;
    for blocks in [0, MAX_MINED_BLOCKS + 1] {
        let refused = mine(world.db(), &world.chain, blocks).await;
        assert!(matches!(refused, Err(MineError::BlocksOutOfRange)), "{refused:?}");
    }
    assert_eq!(world.height().await, 0);
});

on_both_databases!(what_a_scanner_may_still_ask_for_is_never_forgotten, async |db: TestDatabase| {
    let world = World::new(db).await;
    let paid = world.pay_by(&world.order().await, Scenario::Exact).await;
    mine(world.db(), &world.chain, 300).await.unwrap();
    assert!(exists(&world, 2).await, "nobody has scanned yet");

    world.scanner_is_here().await;
    mine(world.db(), &world.chain, 300).await.unwrap();
    // The window is below the cursor, which is at 300, not below the head.
    let oldest_wanted = 300 - u64::from(world.chain.reorg_depth);
    for number in [2, 100, oldest_wanted - 1] {
        assert!(!exists(&world, number).await, "{number}");
    }
    for number in oldest_wanted..=600 {
        assert!(exists(&world, number).await, "{number}");
    }
    assert!(exists(&world, 0).await, "the first block");
    assert_eq!(world.home(paid.tx_hash).await.unwrap().0, 1, "blocks with transactions stay");
});

on_both_databases!(a_chain_goes_on_where_another_process_left_it, async |db: TestDatabase| {
    let world = World::new(db).await;
    world.next_block().await;
    let head = world.block(1).await;
    let other = World::client(&world);
    let seen = cryptopay_chain::ChainClient::head(&other).await.unwrap();
    assert_eq!((seen.number, seen.hash.0), (1, head.header.hash));
    assert!(format!("{:?}", SimulatedChain::new(world.db().clone(), world.chain.clone())).contains("base"));
});

async fn exists(world: &World, number: u64) -> bool {
    world.node.get_block_by_number(BlockNumberOrTag::Number(number)).await.unwrap().is_some()
}
