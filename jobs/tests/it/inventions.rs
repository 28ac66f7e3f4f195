//! Payments that one endpoint adds to blocks of the real chain: their headers agree with every other endpoint's, and no header
//! says how much a log was about, or denies a log where its filter is full.

use std::sync::Arc;
use std::time::Instant;

use cryptopay_chain::{ChainError, TransferQuery};
use cryptopay_domain::address::{Asset, Hash};
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::transfer::{ObservedTransfer, Position, TransferState};
use cryptopay_entity::payment_order;
use cryptopay_test_support::{B256, TestDatabase, on_both_databases};

use crate::tampered::{Call, Tampered};
use crate::world::{Ask, REORG_DEPTH, REQUIRED, SLUG, Shop, World};

/// A lie.
#[derive(Clone, Copy)]
struct Lie {
    told: &'static str,
    /// What the order asks for that it speaks of.
    symbol: &'static str,
    /// Made out of a real transfer: so much for an order that nobody has paid.
    make: fn(&ObservedTransfer, &payment_order::Model) -> ObservedTransfer,
}

/// A transaction that was never sent.
fn another_transaction(real: &ObservedTransfer, order: &payment_order::Model) -> ObservedTransfer {
    let tx_hash = Hash(B256::repeat_byte(0xfa));
    ObservedTransfer { tx_hash, units: order.pay_units, asset: order.asset, input: [].into(), ..real.clone() }
}

/// The same in the chain's own coin, in a block whose transactions nobody can prove.
fn coins(real: &ObservedTransfer, order: &payment_order::Model) -> ObservedTransfer {
    let asset = Asset::Native;
    ObservedTransfer { position: Position::Native, log_index: None, asset, ..another_transaction(real, order) }
}

/// A log more in a real transaction.
fn another_log(real: &ObservedTransfer, order: &payment_order::Model) -> ObservedTransfer {
    let (position, log_index, units) = (Position::Log(7), Some(70), order.pay_units);
    ObservedTransfer { position, log_index, units, input: [].into(), ..real.clone() }
}

/// A real log with more in it.
fn a_larger_amount(real: &ObservedTransfer, order: &payment_order::Model) -> ObservedTransfer {
    ObservedTransfer { units: order.pay_units, input: [].into(), ..real.clone() }
}

const LIES: [Lie; 4] = [
    Lie { told: "another transaction", symbol: "USDC", make: another_transaction },
    Lie { told: "coins", symbol: "ETH", make: coins },
    Lie { told: "another log", symbol: "USDC", make: another_log },
    Lie { told: "a larger amount", symbol: "USDC", make: a_larger_amount },
];

/// An order that is really paid, one that is not, and what the client will tell of that. The blocks are not scanned yet.
struct Told {
    real: payment_order::Model,
    unpaid: payment_order::Model,
}

impl World {
    async fn tell(&self, shop: &Shop, liar: &Arc<Tampered>, lie: Lie) -> Told {
        let real = self.order(&shop.merchant, Ask { amount: "1.00", ..Ask::default() }).await;
        let unpaid = self.order(&shop.merchant, Ask { symbol: lie.symbol, ..Ask::default() }).await;
        let paid = self.pay(&real).await;
        self.mine(1).await;
        let (node, height) = (self.node(), self.height().await);
        let query = TransferQuery {
            blocks: node.blocks(height..=height).await.unwrap(),
            contracts: self.chain.contracts().collect(),
            recipients: vec![real.receiving_address],
            native: false,
        };
        let found = node.transfers(&query).await.unwrap();
        let found = found.iter().find(|transfer| transfer.tx_hash == paid.tx_hash).unwrap();
        liar.make_up((lie.make)(found, &unpaid));
        Told { real, unpaid }
    }

    /// Looks until what nobody shows has been given up, and the chain was read again.
    async fn look_for_long(&self) {
        for _ in 0..3 {
            self.be_patient().await;
            self.let_doubts_age().await;
            self.drain().await;
        }
    }
}

on_both_databases!(what_one_of_two_endpoints_makes_up_is_never_confirmed, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    for lie in LIES {
        let told = lie.told;
        let clients = world.use_several(2).await;
        let Told { real, unpaid } = world.tell(&shop, &clients[0], lie).await;
        let number = world.height().await;
        world.mine(REQUIRED).await;
        for _ in 0..3 {
            world.drain().await;
            assert_eq!(world.status(&unpaid).await, OrderStatus::Confirming, "{told}: nobody knows yet");
            world.be_patient().await;
            assert_eq!(
                world.status(&unpaid).await,
                OrderStatus::Confirming,
                "{told}: one endpoint's word is not enough"
            );
        }
        let problem = world.cursor().await.problem.unwrap();
        assert!(problem.contains(&format!("different payments in block {number}")), "{told}: {problem}");
        // The honest one is away for longer than it is waited for: a dispute stays a dispute.
        clients[1].fail(Call::Inclusion, || ChainError::Unreachable("connection refused".into()));
        for _ in 0..6 {
            world.mine(1).await;
            world.be_patient().await;
        }
        assert_eq!(world.status(&unpaid).await, OrderStatus::Confirming, "{told}");

        // The liar is taken out of the configuration.
        world.restart("with an honest one").await;
        world.look_for_long().await;
        assert_eq!(world.status(&unpaid).await, OrderStatus::Pending, "{told}");
        assert_eq!(world.status(&real).await, OrderStatus::Confirmed, "{told}: what is real was read again");
        assert!(
            world
                .told("payment.confirmed")
                .iter()
                .all(|told| !told.json().to_string().contains(unpaid.order_id.as_str()))
        );
        assert_eq!(world.cursor().await.problem, None, "{told}");
        world.audit().await;
    }
});

on_both_databases!(what_the_second_of_two_endpoints_makes_up_is_never_confirmed, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    for lie in LIES {
        let told = lie.told;
        let clients = world.use_several(2).await;
        // The first one's headers prove nothing, so that the other is asked, and tells of more.
        clients[0].fill_filters();
        let Told { real, unpaid } = world.tell(&shop, &clients[1], lie).await;
        world.mine(REQUIRED).await;
        let is_larger = told == "a larger amount";
        for _ in 0..3 {
            world.drain().await;
            let health = world.context.chains[SLUG].endpoints.health(Instant::now()).remove(0);
            assert_eq!(health.state, "ok", "{told}: it is one word against one: {health:?}");
            assert_ne!(world.status(&unpaid).await, OrderStatus::Confirmed, "{told}");
            assert_eq!(world.status(&real).await, OrderStatus::Confirming, "{told}: it is in the same block");
            world.be_patient().await;
        }
        // The honest one is away, for longer than it is waited for, and the liar alone is left.
        for call in [Call::ChainId, Call::Head, Call::Block, Call::Inclusion] {
            clients[0].fail(call, || ChainError::Unreachable("connection refused".into()));
        }
        for _ in 0..6 {
            world.mine(1).await;
            world.be_patient().await;
        }
        let expected = if is_larger { OrderStatus::Pending } else { OrderStatus::Confirming };
        assert_eq!(world.status(&unpaid).await, expected, "{told}: a dispute stays a dispute");

        world.restart("with an honest one").await;
        world.look_for_long().await;
        assert_eq!(world.status(&unpaid).await, OrderStatus::Pending, "{told}");
        assert_eq!(world.status(&real).await, OrderStatus::Confirmed, "{told}");
        world.audit().await;
    }
});

on_both_databases!(what_one_of_three_endpoints_makes_up_is_given_up_by_itself, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop_and_quick_blocks(db, "*").await;
    for lie in LIES {
        let told = lie.told;
        let clients = world.use_several(3).await;
        let Told { real, unpaid } = world.tell(&shop, &clients[0], lie).await;
        world.mine(REQUIRED).await;
        world.drain().await;
        let health = world.context.chains[SLUG].endpoints.health(Instant::now()).remove(0);
        assert_eq!(health.state, "quarantined", "{told}: {health:?}");
        assert!(health.problem.unwrap().contains("payments"), "{told}");
        assert_eq!(world.status(&unpaid).await, OrderStatus::Confirming, "{told}");
        world.look_for_long().await;
        assert_eq!(world.status(&unpaid).await, OrderStatus::Pending, "{told}");
        assert_eq!(world.status(&real).await, OrderStatus::Confirmed, "{told}");
        world.audit().await;
    }
});

on_both_databases!(what_one_endpoint_makes_up_deep_below_the_head_is_not_final, async |db: TestDatabase| {
    let (mut world, shop) = World::with_shop(db, "*").await;
    let clients = world.use_several(2).await;
    let Told { unpaid, .. } = world.tell(&shop, &clients[0], LIES[0]).await;
    // Nobody has looked meanwhile: it is read as deep as that at once.
    world.mine(2 * REORG_DEPTH).await;
    for _ in 0..3 {
        world.drain().await;
        world.be_patient().await;
        assert_eq!(world.status(&unpaid).await, OrderStatus::Confirming);
        assert!(world.transfers().await.iter().all(|row| row.state == TransferState::Included));
    }
    world.restart("with an honest one").await;
    world.look_for_long().await;
    assert_eq!(world.status(&unpaid).await, OrderStatus::Pending);
    let states: Vec<TransferState> = world.transfers().await.iter().map(|row| row.state).collect();
    assert_eq!(states.iter().filter(|state| **state == TransferState::Orphaned).count(), 1, "{states:?}");
    assert_eq!(states.iter().filter(|state| **state == TransferState::Final).count(), 1, "{states:?}");
    world.audit().await;
});

on_both_databases!(receipts_that_are_away_for_a_moment_put_nothing_in_doubt, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "*").await;
    let order = world.order(&shop.merchant, Ask::default()).await;
    world.pay(&order).await;
    world.mine(REQUIRED).await;
    // A node that has the blocks, and has not got to their transactions.
    world.client.forget_transactions();
    for _ in 0..3 {
        world.drain().await;
        assert_eq!(world.status(&order).await, OrderStatus::Confirming);
        assert_eq!(world.transfers().await[0].state, TransferState::Included);
    }
    world.client.behave();
    world.mine(1).await;
    world.drain().await;
    assert_eq!(world.status(&order).await, OrderStatus::Confirmed);
    world.audit().await;
});
