//! The first cursor, idle chains, and processes that begin where others ended.

use std::sync::Arc;
use std::time::Duration;

use cryptopay_chain::{EvmClient, Header, Inclusion, Limits};
use cryptopay_domain::address::Hash;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::transfer::{Block, TransferState};
use cryptopay_entity::{chain_block, chain_cursor, sandbox_block};
use cryptopay_jobs::Workers;
use cryptopay_sandbox::{KeepTransactions, SimulatedChain};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::tampered::Call;
use crate::world::{Ask, REQUIRED, SLUG, World};

const NEVER: Duration = Duration::from_secs(40 * 24 * 3600);

on_both_databases!(the_first_cursor_is_the_head_and_later_processes_keep_it, async |db: TestDatabase| {
    let world = World::unseen(db, NEVER).await;
    world.mine(7).await;
    world.drain().await;
    let first = world.cursor().await;
    let head = sandbox_block::Entity::newest(&world.db, SLUG).await.unwrap().unwrap();
    assert_eq!((first.height, first.hash, first.health.as_str()), (head.number, head.hash, "ok"));

    world.mine(2).await;
    let (other, _) = world.another("second");
    Workers::drain(&other).await;
    assert_eq!(world.cursor().await.height, first.height, "somebody else scans");
});

on_both_databases!(a_chain_begins_at_no_head_that_one_endpoint_alone_has, async |db: TestDatabase| {
    let mut world = World::unseen(db, NEVER).await;
    let clients = world.use_several(2).await;
    world.mine(7).await;
    // Two heads of the same height, of which one is made up: it waits until they agree.
    let height = world.height().await;
    clients[1].misname(height);
    let forged = forged_head(&world).await.block;
    clients[1].forge_head(Block { number: height, ..forged }.into());
    world.drain().await;
    assert!(chain_cursor::Entity::of(&world.db, SLUG).await.unwrap().is_none());
    clients[1].behave();
    // Far above the chain: it begins at what both have.
    clients[0].forge_head(forged_head(&world).await);
    world.drain().await;
    let begun = world.cursor().await;
    assert_eq!((begun.height.unsigned_abs(), begun.health.as_str()), (world.height().await, "ok"));
});

on_both_databases!(an_idle_chain_is_skipped_over_without_reading_its_blocks, async |db: TestDatabase| {
    let world = World::new(db).await;
    world.client.take_journal();
    world.mine(300).await;
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    let journal = world.client.take_journal();
    assert_eq!((journal.count(Call::Blocks), journal.count(Call::Transfers)), (0, 0));
});

/// When the merchant comes, and when the customer pays, while an idle chain is being looked at.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Before,
    AfterChainId,
    AfterHead,
    After,
}

on_both_databases!(no_block_above_the_cursor_at_an_orders_creation_is_ever_skipped, async |db: TestDatabase| {
    let world = World::new(db).await;
    for moment in [Moment::Before, Moment::AfterChainId, Moment::AfterHead, Moment::After] {
        for (blocks_before, paid_at_once) in [(1, true), (3, false), (2, true)] {
            let told = format!("{moment:?}, {blocks_before} blocks before, paid at once: {paid_at_once}");
            world.unwatch_everything().await;
            world.drain().await;
            world.mine(blocks_before).await;
            world.client.take_journal();

            let town = (*world).clone();
            let arrival = async move {
                let merchant = town.merchant().await;
                let order = town.order(&merchant, Ask::default()).await;
                if paid_at_once {
                    town.pay(&order).await;
                    town.mine(1).await;
                }
                (merchant, order)
            };
            let (merchant, order) = match moment {
                Moment::Before => arrival.await,
                Moment::After => {
                    world.drain().await;
                    arrival.await
                }
                Moment::AfterChainId | Moment::AfterHead => {
                    let call = if matches!(moment, Moment::AfterHead) { Call::Head } else { Call::ChainId };
                    let (done, arrived) = tokio::sync::oneshot::channel();
                    world.client.after_next(call, async move {
                        let _ = done.send(arrival.await);
                    });
                    world.drain().await;
                    arrived.await.unwrap_or_else(|_| panic!("nobody asked for {call:?}"))
                }
            };
            if !paid_at_once {
                world.pay(&order).await;
                world.mine(2).await;
            }
            world.mine(REQUIRED).await;
            world.drain().await;

            assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "{told}");
            let journal = world.client.take_journal();
            let created_at = u64::try_from(order.scanned_height).unwrap();
            assert_eq!(world.cursor_height().await, world.height().await, "{told}");
            for number in created_at + 1..=world.height().await {
                assert!(journal.looked_for(merchant.address, number), "{told}: block {number} was skipped");
            }
        }
    }
    world.audit().await;
});

/// A head far above the chain, as an endpoint has it that makes it up or is of another chain.
async fn forged_head(world: &World) -> Header {
    let nobodys = Hash([7; 32].into());
    Block { number: 1_000_000, hash: nobodys, parent: nobodys, time: world.now().await }.into()
}

on_both_databases!(an_idle_chain_skips_to_no_head_that_one_endpoint_alone_has, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let clients = world.use_several(2).await;
    world.mine(5).await;
    clients[0].forge_head(forged_head(&world).await);
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await, "the newest block that both have");
    let merchant = world.merchant().await;
    let order = world.order(&merchant, Ask::default()).await;
    world.pay(&order).await;
    clients[0].behave();
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);

    // On different branches: the chain waits and says why.
    world.unwatch_everything().await;
    world.drain().await;
    let before = world.cursor_height().await;
    world.mine(1).await;
    clients[1].misname(world.height().await);
    world.drain().await;
    assert_eq!(world.cursor_height().await, before);
    assert!(world.cursor().await.problem.unwrap().contains("name different blocks"));
    clients[1].behave();
    world.drain().await;
    assert_eq!(world.cursor_height().await, before + 1);
});

/// On a runtime of one thread, whose clock can be moved.
#[tokio::test]
async fn an_idle_chain_comes_back_from_a_head_that_nobody_knows() {
    let world = World::new(TestDatabase::sqlite().await).await;
    world.client.forge_head(forged_head(&world).await);
    world.drain().await;
    assert_eq!(world.cursor_height().await, 1_000_000);
    world.client.behave();
    world.drain().await;
    assert_eq!(world.cursor_height().await, 1_000_000, "an endpoint that only lags looks just like that");
    tokio::time::pause();
    tokio::time::advance(world.chain.block_time * 4).await;
    tokio::time::resume();
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    let merchant = world.merchant().await;
    let order = world.order(&merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.audit().await;
}

on_both_databases!(a_chain_without_its_window_doubts_what_a_reorganisation_has_removed, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(2).await;
    world.drain().await;
    let newest = world.cursor().await.height;
    chain_block::Entity::delete_many().filter(chain_block::Column::Number.lt(newest)).exec(&world.db).await.unwrap();
    // Not gone before the test looks: it is said to stand in a block that is still to be scanned.
    let (block_number, block_hash) = (1_000_000, world.cursor().await.hash);
    world.client.include_at(Inclusion { block_number, block_hash, succeeded: true, transfers: Vec::new() });
    world.reorganise(2, KeepTransactions::No).await;
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Missing);
    world.client.behave();
    world.let_doubts_age().await;
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Orphaned);
    assert_eq!(world.status(&order).await, OrderStatus::Pending);
    assert_eq!(world.cursor_height().await, world.height().await);
    world.audit().await;
});

on_both_databases!(a_new_process_resumes_at_the_cursor_and_reads_nothing_twice, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.mine(2).await;
    world.drain().await;
    let stopped_at = world.cursor_height().await;
    world.pay(&order).await;
    world.mine(REQUIRED + 4).await;

    let old = world.context.clone();
    world.restart("second").await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    let ranges = world.client.take_journal().ranges;
    assert_eq!(ranges, [stopped_at + 1..=stopped_at + u64::from(REQUIRED) + 4]);
    assert_eq!(world.cursor().await.lease_owner.as_deref(), Some("second"));

    // The old one was only slow: it finds the lease taken.
    let told = world.receiver.journal().len();
    world.mine(1).await;
    Workers::drain(&old).await;
    assert_eq!(world.cursor_height().await + 1, world.height().await);
    assert_eq!(world.receiver.journal().len(), told);
    world.audit().await;
});

on_both_databases!(the_first_reorganisation_of_a_young_cursor_is_survived, async |db: TestDatabase| {
    for depth in [1, 2, 4] {
        // Nobody has ever looked at anything but the head, and the block that was the head is gone.
        let world = World::unseen(TestDatabase::sqlite().await, NEVER).await;
        world.mine(30).await;
        world.drain().await;
        reorganised_before_the_first_watched_block(&world, depth).await;
    }
    // The same after a chain was skipped over.
    let world = World::new(db).await;
    world.mine(40).await;
    world.drain().await;
    reorganised_before_the_first_watched_block(&world, 3).await;
});

async fn reorganised_before_the_first_watched_block(world: &World, depth: u32) {
    let merchant = world.merchant().await;
    let order = world.order(&merchant, Ask::default()).await;
    world.reorganise(depth, KeepTransactions::Yes).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    // The first look may find out only that it has to look again.
    world.drain().await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "reorganised {depth} deep");
    assert_eq!(world.cursor().await.health, "ok");
    world.audit().await;
}

on_both_databases!(an_endpoint_of_another_chain_moves_no_cursor, async |db: TestDatabase| {
    let world = World::unseen(db, NEVER).await;
    let mut other = world.registry.chain("polygon").unwrap().clone();
    other.block_time = NEVER;
    let other = Arc::new(other);
    cryptopay_sandbox::mine(&world.db, &other, 50).await.unwrap();
    let simulated = SimulatedChain::new(world.db.clone(), other);
    let wrong = Arc::new(EvmClient::over(simulated, "wrong", Limits::default()));

    // From the start: there is no cursor, so no order is accepted.
    world.mine(5).await;
    world.client.answer_from(wrong.clone());
    world.drain().await;
    assert!(chain_cursor::Entity::of(&world.db, SLUG).await.unwrap().is_none(), "the head of another chain");
    world.client.behave();
    world.drain().await;
    assert_eq!(world.cursor_height().await, 5);

    // While nothing is watched, and the cursor could skip.
    world.client.answer_from(wrong.clone());
    world.drain().await;
    let cursor = world.cursor().await;
    assert_eq!((cursor.height, cursor.health.as_str()), (5, "unreachable"), "{:?}", cursor.problem);
    assert!(cursor.problem.unwrap().contains("137"), "the words name what was found");

    // While something is.
    world.client.behave();
    let merchant = world.merchant().await;
    let order = world.order(&merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    world.client.answer_from(wrong);
    world.drain().await;
    assert_eq!(world.cursor_height().await, 5);
    assert_ne!(world.cursor().await.health, "ok");
    world.client.behave();
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    assert_eq!(world.cursor().await.health, "ok");
    world.audit().await;
});
