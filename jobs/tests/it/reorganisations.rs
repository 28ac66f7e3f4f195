//! The chain changes its mind.

use std::time::Duration;

use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::transfer::TransferState;
use cryptopay_jobs::Workers;
use cryptopay_sandbox::KeepTransactions;
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::tampered::Call;
use crate::world::{Ask, PATIENCE, REORG_DEPTH, REQUIRED, World};

const ABOUT_PAYMENTS: &str = "payment.pending,payment.confirmed,payment.failed,payment.reorged,transfer.unmatched";

on_both_databases!(a_dropped_payment_is_given_up_at_the_second_look_and_not_before, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(2).await;
    world.drain().await;
    assert_eq!(world.events(), ["payment.pending"]);

    world.reorganise(2, KeepTransactions::No).await;
    world.drain().await;
    let doubted = world.transfers().await;
    assert_eq!(doubted[0].state, TransferState::Missing);
    assert!(doubted[0].missing_since.is_some());
    assert_eq!(world.events(), ["payment.pending"], "one look is not enough");
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_ne!(world.status(&order).await, OrderStatus::Confirmed, "what is missing does not get deeper");

    world.let_doubts_age().await;
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Orphaned);
    assert_eq!(world.status(&order).await, OrderStatus::Pending);
    assert_eq!(world.events(), ["payment.pending", "payment.failed"]);
    world.audit().await;

    // The customer pays again.
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.audit().await;
});

on_both_databases!(
    payments_that_are_mined_again_with_other_log_indexes_stay_what_they_were,
    async |db: TestDatabase| {
        let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
        let mut orders = Vec::new();
        for amount in ["100.00", "55.00", "7.25"] {
            let order = world.order(&shop.merchant, Ask { amount, ..Ask::default() }).await;
            world.pay(&order).await;
            orders.push(order);
        }
        world.mine(1).await;
        world.drain().await;
        let before = world.transfers().await;
        assert_eq!(before.len(), 3);

        world.reorganise(1, KeepTransactions::Yes).await;
        world.drain().await;
        let after = world.transfers().await;
        assert_eq!(after.len(), 3, "no transfer is counted twice");
        for (old, new) in before.iter().zip(&after) {
            assert_eq!(
                (old.id, old.tx_hash, old.position, old.allocated_units),
                (new.id, new.tx_hash, new.position, new.allocated_units)
            );
            assert_eq!((new.block_number, new.state), (old.block_number + 1, TransferState::Included));
            assert_ne!(old.block_hash, new.block_hash);
        }
        let indexes =
            |rows: &[cryptopay_entity::transfer::Model]| rows.iter().map(|row| row.log_index).collect::<Vec<_>>();
        assert_ne!(indexes(&before), indexes(&after));
        assert_eq!(world.events(), ["payment.pending"; 3]);

        world.mine(REQUIRED - 1).await;
        world.drain().await;
        for order in &orders {
            assert_eq!(world.status(order).await, OrderStatus::Confirmed);
        }
        assert_eq!((world.told("payment.confirmed").len(), world.events().len()), (3, 6));
        world.audit().await;
    }
);

on_both_databases!(reorganisations_come_twice_in_a_row_and_while_nobody_looks, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.mine(3).await;
    world.pay(&order).await;
    world.mine(1).await;
    world.drain().await;

    // Twice between two looks, the second deeper than the first.
    world.reorganise(1, KeepTransactions::Yes).await;
    world.reorganise(3, KeepTransactions::Yes).await;
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Included);
    // Once at every look.
    for _ in 0..3 {
        world.reorganise(2, KeepTransactions::Yes).await;
        world.drain().await;
    }
    assert_eq!(world.events(), ["payment.pending"]);
    // While the process is down; another one finds it out.
    world.reorganise(5, KeepTransactions::Yes).await;
    world.mine(1).await;
    world.restart("second").await;
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(world.transfers().await.len(), 1);
    assert_eq!(world.events(), ["payment.pending", "payment.confirmed"]);
    world.audit().await;
});

on_both_databases!(a_reorganisation_in_the_midst_of_a_scan_loses_and_doubles_nothing, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    for (number, call) in [Call::Head, Call::Blocks, Call::Transfers, Call::Block].into_iter().enumerate() {
        let order = world.order(&shop.merchant, Ask::default()).await;
        world.pay(&order).await;
        world.mine(REQUIRED).await;
        let town = (*world).clone();
        world.client.after_next(call, async move { town.reorganise(2, KeepTransactions::Yes).await });
        world.drain().await;
        world.mine(REQUIRED).await;
        world.drain().await;
        world.drain().await;
        assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "after {call:?}");
        assert_eq!(world.transfers().await.len(), number + 1, "after {call:?}");
        world.audit().await;
    }
    assert_eq!(world.told("payment.failed").len(), 0);
});

on_both_databases!(a_confirmed_order_is_taken_back_and_confirmed_again_under_a_new_id, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);

    world.reorganise(REQUIRED, KeepTransactions::No).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "missing is not yet gone");
    world.let_doubts_age().await;
    world.drain().await;
    let row = world.row(order.id).await;
    assert_eq!((row.status, row.fulfillable), (OrderStatus::Reorged, false));
    assert_eq!(world.told("payment.reorged").len(), 1);

    world.pay(&order).await;
    world.mine(REQUIRED - 1).await;
    world.drain().await;
    assert_eq!(world.told("payment.confirmed").len(), 1);
    world.mine(1).await;
    world.drain().await;
    let row = world.row(order.id).await;
    assert_eq!((row.status, row.fulfillable, row.generation), (OrderStatus::Confirmed, true, 2));
    let confirmed = world.told("payment.confirmed");
    assert_eq!(confirmed.len(), 2);
    assert_ne!(confirmed[0].header("webhook-id"), confirmed[1].header("webhook-id"));
    let version = |index: usize| confirmed[index].json()["data"]["order_version"].as_i64().unwrap();
    assert!(version(0) < version(1));
    world.audit().await;
});

on_both_databases!(a_confirmed_payment_that_moves_to_another_block_ends_up_confirmed, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.drain().await;
    world.reorganise(REQUIRED, KeepTransactions::Yes).await;
    world.drain().await;
    world.drain().await;
    let row = world.row(order.id).await;
    assert_eq!((row.status, row.fulfillable), (OrderStatus::Confirmed, true));
    assert_eq!(world.transfers().await.len(), 1);
    // Whatever was told in between, what was told last is true, and every confirmation has an id of its own.
    assert_eq!(world.told("payment.confirmed").len(), world.told("payment.reorged").len() + 1);
    assert_eq!(world.told("payment.failed").len(), 0);
    world.audit().await;
});

/// Looks that a sole endpoint has to tell of the same before a chain is read again from below its window.
const LOOKS: usize = 4;

on_both_databases!(
    a_reorganisation_deeper_than_the_window_freezes_the_chain_until_it_is_certain,
    async |db: TestDatabase| {
        let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
        world.mine(REORG_DEPTH + 10).await;
        world.drain().await;
        let order = world.order(&shop.merchant, Ask::default()).await;
        world.pay(&order).await;
        world.mine(REQUIRED - 1).await;
        world.drain().await;
        assert_eq!(world.status(&order).await, OrderStatus::Confirming);
        let before = world.cursor().await;

        world.reorganise(REORG_DEPTH + 5, KeepTransactions::Yes).await;
        let late = world.order(&shop.merchant, Ask { amount: "5.00", ..Ask::default() }).await;
        world.pay(&late).await;
        world.mine(REQUIRED).await;
        for _ in 1..LOOKS {
            world.client.take_journal();
            world.drain().await;
            let cursor = world.cursor().await;
            assert_eq!((cursor.height, cursor.hash), (before.height, before.hash));
            assert_eq!(cursor.health, "frozen");
            let problem = cursor.problem.unwrap();
            assert!(problem.contains("reorg_depth"), "the mend is named: {problem}");
            let calls = world.client.take_journal().calls.len();
            assert!(calls <= 8, "a frozen chain is not asked in circles: {calls} calls");
        }
        assert_eq!(world.status(&order).await, OrderStatus::Confirming, "credits are frozen");
        assert_eq!(world.status(&late).await, OrderStatus::Pending);
        assert_eq!(world.events(), ["payment.pending"]);

        world.drain().await;
        assert_eq!(world.cursor_height().await, world.height().await);
        assert_eq!(world.cursor().await.health, "ok");
        for order in [&order, &late] {
            assert_eq!(world.status(order).await, OrderStatus::Confirmed);
        }
        assert_eq!((world.transfers().await.len(), world.told("payment.failed").len()), (2, 0));
        world.audit().await;
    }
);

on_both_databases!(a_second_endpoint_that_agrees_ends_the_freeze_at_once, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    world.mine(REORG_DEPTH + 10).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    world.use_several(2).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.reorganise(REORG_DEPTH + 8, KeepTransactions::No).await;
    world.drain().await;
    assert_eq!(world.cursor_height().await, world.height().await);
    world.let_doubts_age().await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Reorged);
    world.audit().await;
});

on_both_databases!(reorganisations_of_every_depth_lose_and_double_nothing, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    world.mine(80).await;
    world.drain().await;
    for depth in [1, 2, 5, REORG_DEPTH - 1, REORG_DEPTH, REORG_DEPTH + 1, 40, 60] {
        let order = world.order(&shop.merchant, Ask::default()).await;
        world.pay(&order).await;
        // As deep as the reorganisation goes, so that the payment is final by our own rule where that is possible.
        world.mine(depth).await;
        world.drain().await;
        let before = world.transfers().await.len();
        world.reorganise(depth, KeepTransactions::Yes).await;
        for _ in 0..LOOKS {
            world.drain().await;
        }
        world.mine(REQUIRED).await;
        world.drain().await;
        world.drain().await;
        assert_eq!(world.cursor_height().await, world.height().await, "{depth} deep");
        assert_eq!(world.status(&order).await, OrderStatus::Confirmed, "{depth} deep");
        assert_eq!(world.transfers().await.len(), before, "{depth} deep");
        world.audit().await;
    }
    assert_eq!(world.told("payment.failed").len(), 0);
});

on_both_databases!(a_reorganisation_of_the_whole_window_is_not_too_deep, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    world.mine(REORG_DEPTH + 10).await;
    world.drain().await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.mine(REORG_DEPTH - 2).await;
    world.pay(&order).await;
    world.mine(2).await;
    world.drain().await;
    world.reorganise(REORG_DEPTH, KeepTransactions::Yes).await;
    world.drain().await;
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.cursor().await.health, "ok");
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.audit().await;
});

on_both_databases!(what_an_endpoint_that_lags_does_not_know_is_not_gone, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.mine(1).await;
    world.pay(&order).await;
    world.mine(1).await;
    world.drain().await;
    let height = world.height().await;

    // The payment moves one block up; the endpoint has only the first of the new blocks.
    world.reorganise(2, KeepTransactions::Yes).await;
    world.client.lag_behind(height - 1);
    world.drain().await;
    assert_eq!(world.cursor_height().await, height - 1);
    world.let_doubts_age().await;
    for _ in 0..2 {
        world.drain().await;
        assert_eq!(world.transfers().await[0].state, TransferState::Missing, "its height is not scanned yet");
    }
    world.client.behave();
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Included);

    // The same when the cursor is past that height, and the endpoint falls behind the cursor.
    world.mine(1).await;
    world.drain().await;
    let height = world.height().await;
    world.reorganise(3, KeepTransactions::No).await;
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Missing);
    world.let_doubts_age().await;
    world.client.lag_behind(height - 2);
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Missing, "asked of a node that does not know");
    world.client.behave();
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Orphaned);
    assert_eq!(world.events(), ["payment.pending", "payment.failed"]);
    world.audit().await;
});

on_both_databases!(two_nodes_on_two_branches_behind_one_address_cause_no_hot_loop, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    let height = world.height().await;
    world.pay(&order).await;
    world.mine(2).await;
    world.client.tear_above(height);
    world.client.take_journal();
    let drained = tokio::time::timeout(Duration::from_secs(5), Workers::drain(&world.context)).await;
    let calls = world.client.take_journal().calls.len();
    assert!(drained.is_ok(), "the scan went in circles: {calls} calls in five seconds");
    assert!(calls <= 12, "{calls} calls");
    assert_eq!(world.cursor_height().await, height);

    world.client.behave();
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirming);
    world.audit().await;
});

on_both_databases!(what_the_new_branch_holds_and_did_not_show_is_found_at_the_second_look, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, ABOUT_PAYMENTS).await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(2).await;
    world.drain().await;
    // The only endpoint leaves it out of a block whose filter says "perhaps" to everything.
    world.client.fill_filters();
    world.client.withhold();
    world.reorganise(2, KeepTransactions::Yes).await;
    world.drain().await;
    assert_eq!(world.transfers().await[0].state, TransferState::Missing);
    world.client.behave();
    world.let_doubts_age().await;
    world.drain().await;
    let found = &world.transfers().await[0];
    assert_eq!(found.state, TransferState::Included);
    assert!(
        world.window().await.iter().any(|block| (block.number, block.hash) == (found.block_number, found.block_hash))
    );
    world.mine(REQUIRED).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    assert_eq!(world.events(), ["payment.pending", "payment.confirmed"]);
    world.audit().await;
});

on_both_databases!(the_second_look_needs_no_new_block_and_no_nudge, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "payment.failed").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(2).await;
    world.drain().await;
    world.reorganise(2, KeepTransactions::No).await;

    // The chain stands still from here on: only the workers' own clock brings the second look.
    let stop = tokio_util::sync::CancellationToken::new();
    let workers = tokio::spawn(Workers::run(world.context.clone(), stop.clone()));
    let told = world.receiver.wait_for(1, PATIENCE).await;
    assert_eq!(told[0].header("x-webhook-event"), Some("payment.failed"));
    stop.cancel();
    workers.await.unwrap();
    assert_eq!(world.status(&order).await, OrderStatus::Pending);
});
