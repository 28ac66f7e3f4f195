use std::time::Duration;

use cryptopay_sandbox::{ClockError, MAX_ADVANCE, advance_clock, mine, pay, reorg};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::World;

on_both_databases!(business_time_moves_forward_by_what_is_asked, async |db: TestDatabase| {
    let world = World::new(db).await;
    let before = world.now().await;
    let now = advance_clock(world.db(), 3_600).await.unwrap();
    assert!(now >= before.plus(Duration::from_secs(3_600)));
    assert!(advance_clock(world.db(), 3_600).await.unwrap() >= before.plus(Duration::from_secs(7_200)));
    assert!(world.now().await < before.plus(Duration::from_secs(10_800)));
});

on_both_databases!(the_clock_goes_neither_back_nor_beyond_what_dates_can_say, async |db: TestDatabase| {
    let world = World::new(db).await;
    for seconds in [0, MAX_ADVANCE.as_secs() + 1, u64::MAX] {
        let refused = advance_clock(world.db(), seconds).await;
        assert!(matches!(refused, Err(ClockError::SecondsOutOfRange)), "{refused:?}");
    }
    for _ in 0..100 {
        advance_clock(world.db(), MAX_ADVANCE.as_secs()).await.unwrap();
    }
    let now = world.now().await;
    let refused = advance_clock(world.db(), 1).await;
    assert!(matches!(refused, Err(ClockError::TooFarAhead { .. })), "{refused:?}");
    assert!(world.now().await < now.plus(Duration::from_secs(60)));
});

/// Handlers of a web server move between threads.
#[expect(dead_code, reason = "it is enough that this compiles")]
fn controls_can_move_between_threads(
    db: &sea_orm::DatabaseConnection,
    chain: &cryptopay_domain::registry::Chain,
    order: &cryptopay_entity::payment_order::Model,
) {
    fn movable(_: impl Send) {}
    movable(advance_clock(db, 1));
    movable(mine(db, chain, 1));
    movable(reorg(db, chain, 1, cryptopay_sandbox::KeepTransactions::Yes));
    movable(cryptopay_sandbox::fault(db, chain, cryptopay_sandbox::FaultKind::Down, 1));
    movable(cryptopay_sandbox::give(db, chain, &chain.native, order.receiving_address, order.pay_units));
    movable(pay(db, chain, order, cryptopay_sandbox::Payment::default()));
}
