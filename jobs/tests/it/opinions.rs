//! What one endpoint alone cannot prove: full blocks, logs that their own headers deny, payments that are gone.

use std::time::{Duration, Instant};

use cryptopay_chain::{ChainError, Inclusion};
use cryptopay_domain::address::Hash;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::registry::ReceiptEncoding;
use cryptopay_domain::transfer::TransferState;
use cryptopay_sandbox::KeepTransactions;
use cryptopay_test_support::{B256, TestDatabase, on_both_databases};

use crate::tampered::Call;
use crate::world::{Ask, REORG_DEPTH, REQUIRED, SLUG, World};

/// In a block that is still to be scanned: nobody can say that a payment which stands there is gone.
const NOT_YET: Inclusion =
    Inclusion { block_number: 1_000_000, block_hash: Hash(B256::ZERO), succeeded: true, transfers: Vec::new() };
/// Longer than an endpoint that failed once or twice is left alone.
const A_REST: Duration = Duration::from_secs(1);

on_both_databases!(a_full_block_waits_for_a_second_endpoint_that_is_one_block_behind, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let clients = world.use_several(2).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    let height = world.height().await;
    clients[0].fill_filters();
    clients[0].withhold();
    clients[1].lag_behind(height - 1);
    for _ in 0..3 {
        world.drain().await;
        assert_eq!(world.cursor_height().await, height - 1, "the cursor would pass the payment for good");
        assert_eq!(world.cursor().await.health, "ok");
    }
    let states = world.context.chains[SLUG].endpoints.health(Instant::now());
    assert!(states.iter().all(|health| health.state == "ok"), "nothing is wrong with either: {states:?}");

    clients[1].behave();
    world.drain().await;
    assert_eq!(world.cursor_height().await, height);
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    world.audit().await;
});

on_both_databases!(
    a_full_block_waits_for_one_that_failed_just_now_and_not_for_one_that_is_away,
    async |db: TestDatabase| {
        let (mut world, shop) = World::with_shop(db, "*").await;
        let clients = world.use_several(2).await;
        let order = world.order(&shop.merchant, Ask::default()).await;
        world.pay(&order).await;
        world.mine(1).await;
        let height = world.height().await;
        clients[0].fill_filters();
        clients[0].withhold();
        clients[1].fail(Call::Transfers, || ChainError::Unreachable("connection reset".into()));
        world.drain().await;
        assert_eq!((world.cursor_height().await, world.cursor().await.health.as_str()), (height - 1, "ok"));
        clients[1].behave();
        world.context.chains[SLUG].endpoints.pass(A_REST);
        world.drain().await;
        assert_eq!(world.status(&order).await, OrderStatus::Confirming);

        // Away for longer, it holds nothing up; what may be missing is said.
        let clients = world.use_several(2).await;
        world.mine(1).await;
        clients[0].fill_filters();
        for call in [Call::ChainId, Call::Transfers] {
            clients[1].fail(call, || ChainError::Unreachable("connection refused".into()));
        }
        for _ in 0..5 {
            world.context.chains[SLUG].endpoints.pass(Duration::from_secs(5));
            world.drain().await;
        }
        assert_eq!(world.cursor_height().await, world.height().await);
        assert!(world.cursor().await.problem.unwrap().contains("the word of endpoint 1 alone"));
        world.audit().await;
    }
);

on_both_databases!(a_second_endpoint_that_hangs_is_no_fault_of_the_first, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let clients = world.use_several(2).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    clients[0].fill_filters();
    clients[1].hang(Call::Transfers);
    world.drain().await;
    let states: Vec<_> = world.context.chains[SLUG].endpoints.health(Instant::now());
    assert_eq!((states[0].state, &states[0].problem), ("ok", &None));
    assert!(states[1].problem.as_ref().unwrap().contains("no complete answer"), "{states:?}");
    clients[1].behave();
    world.context.chains[SLUG].endpoints.pass(A_REST);
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    world.audit().await;
});

on_both_databases!(
    a_log_that_its_own_block_denies_counts_only_if_a_second_endpoint_tells_it,
    async |db: TestDatabase| {
        let (mut world, shop) = World::with_shop(db, "*").await;
        let order = world.order(&shop.merchant, Ask::default()).await;
        world.pay(&order).await;
        world.mine(1).await;
        let height = world.height().await;
        // A sole endpoint, on a chain whose filters hold every log.
        world.client.deny_transfers();
        world.drain().await;
        let cursor = world.cursor().await;
        assert_eq!((world.cursor_height().await, cursor.health.as_str()), (height - 1, "unreachable"));
        assert!(cursor.problem.unwrap().contains("header denies"));
        assert_eq!(world.status(&order).await, OrderStatus::Pending);

        // A second one does not know it: the first is a liar, and the chain goes on without it.
        let clients = world.use_several(2).await;
        clients[0].deny_transfers();
        clients[1].withhold();
        world.drain().await;
        assert_eq!(world.cursor_height().await, height);
        assert_eq!(world.transfers().await.len(), 0);
        assert!(world.cursor().await.problem.unwrap().contains("endpoint 1 is in quarantine"));

        // Both know it: this chain's filters are of another kind.
        let clients = world.use_several(2).await;
        clients.iter().for_each(|client| client.deny_transfers());
        let order = world.order(&shop.merchant, Ask { amount: "55.00", ..Ask::default() }).await;
        world.pay(&order).await;
        world.mine(1).await;
        world.drain().await;
        assert_eq!(world.status(&order).await, OrderStatus::Confirming);
        assert_eq!(world.cursor().await.problem, None);
        world.audit().await;
    }
);

on_both_databases!(what_polygons_state_sync_mints_counts_on_a_sole_endpoints_word, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    world.use_receipts(ReceiptEncoding::Bor).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(1).await;
    world.client.deny_transfers();
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    world.audit().await;
});

on_both_databases!(while_another_endpoint_is_on_another_branch_no_payment_is_given_up, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let clients = world.use_several(2).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(2).await;
    world.drain().await;
    clients.iter().for_each(|client| client.include_at(NOT_YET));
    world.reorganise(2, KeepTransactions::No).await;
    world.drain().await;
    world.let_doubts_age().await;
    clients[0].behave();
    clients[1].misname(world.cursor_height().await);
    for _ in 0..3 {
        world.drain().await;
        assert_eq!(world.transfers().await[0].state, TransferState::Missing);
    }
    clients[1].behave();
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Orphaned);
    world.audit().await;
});

on_both_databases!(a_payment_that_reverted_in_a_block_below_the_window_is_gone, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(2).await;
    world.drain().await;
    world.client.include_at(NOT_YET);
    world.reorganise(2, KeepTransactions::No).await;
    world.drain().await;
    let missing = world.transfers().await.remove(0);
    world.mine(2 * REORG_DEPTH).await;
    world.drain().await;
    assert!(world.window().await.iter().all(|block| block.number > missing.block_number));
    world.let_doubts_age().await;
    let block_number = u64::try_from(missing.block_number).unwrap();
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Missing, "it will come back by itself");
    world.client.include_at(Inclusion {
        block_number,
        block_hash: missing.block_hash,
        succeeded: false,
        transfers: Vec::new(),
    });
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Orphaned);
    assert_eq!(world.status(&order).await, OrderStatus::Pending);
    world.audit().await;
});

on_both_databases!(headers_of_a_shape_that_nobody_knows_stop_no_credits, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let clients = world.use_several(2).await;
    clients.iter().for_each(|client| client.be_strange());
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "both state the same hashes");
    let cursor = world.cursor().await;
    assert_eq!((cursor.health.as_str(), cursor.problem), ("ok", None));

    // A sole endpoint has to state the same again.
    world.restart("with one").await;
    world.client.be_strange();
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Pending);
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);

    // One that is alone with its headers is a liar.
    let clients = world.use_several(2).await;
    clients[0].be_strange();
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    assert!(world.cursor().await.problem.unwrap().contains("endpoint 1 is in quarantine"));
    world.audit().await;
});

on_both_databases!(a_block_that_is_stamped_with_a_time_to_come_closes_no_order, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    let before = world.cursor_height().await;
    world.mine(1).await;
    world.client.stamp_ahead(Duration::from_secs(3_600));
    world.drain().await;
    let cursor = world.cursor().await;
    assert_eq!((world.cursor_height().await, cursor.health.as_str()), (before, "unreachable"));
    assert!(cursor.problem.unwrap().contains("ahead of the database's clock"));
    assert_eq!(world.status(&order).await, OrderStatus::Pending);
    // Clocks are not all alike.
    world.client.stamp_ahead(Duration::from_secs(600));
    world.drain().await;
    assert_eq!(world.cursor_height().await, before + 1);

    // A simulated block follows business time, which may be years from now.
    world.client.behave();
    world.advance(300 * 24 * 3_600).await;
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    assert_eq!(world.status(&order).await, OrderStatus::Expired);
    world.audit().await;
});
