//! Two merchants claim one address, and one of them can sign with it.

use cryptopay_domain::event::EventType::{
    OrderUnderpaid, OrderUpdated, PaymentConfirmed, PaymentFailed, PaymentPending, TransferUnmatched,
};
use cryptopay_domain::ids::{MerchantId, WalletId};
use cryptopay_domain::merchant::{Ownership, WalletKind};
use cryptopay_domain::order::{Decision, FailureReason, LatePolicy};
use cryptopay_domain::units::Units;
use cryptopay_entity::{amount_reservation, event, merchant_wallet, payment_order, receiving_address, transact};
use cryptopay_ledger::{self as ledger, Claimant, LedgerError, Refusal, TakenOver};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::world::{Ask, Merchant, World, all_of, refusal};

/// A second wallet of the owner, with the address that the world's merchant holds.
async fn disputed_wallet(world: &World, owner: Merchant) -> WalletId {
    let wallet = merchant_wallet::ActiveModel {
        id: NotSet,
        merchant_id: Set(owner.id),
        chain: Set(world.slug.to_owned()),
        kind: Set(WalletKind::Address),
        address: Set(Some(world.merchant.address)),
        label: Set(String::new()),
        is_active: Set(false),
        dedicated: Set(false),
        ownership: Set(Ownership::Disputed),
        created_at: Set(world.now),
        updated_at: Set(world.now),
        deleted_at: Set(None),
    };
    wallet.insert(world.db()).await.unwrap().id
}

/// The owner proves; gives the owner as a merchant of the address.
pub(crate) async fn prove(world: &mut World) -> (Merchant, TakenOver) {
    let owner = world.another_merchant().await;
    let wallet = disputed_wallet(world, owner).await;
    let owner = Merchant { wallet, address: world.merchant.address, ..owner };
    let taken = take(world, owner).await.unwrap().expect("the other holds it");
    // And is paid there from now on.
    let wallets = || merchant_wallet::Entity::update_many().filter(merchant_wallet::Column::MerchantId.eq(owner.id));
    let active = |is_active| wallets().col_expr(merchant_wallet::Column::IsActive, Expr::value(is_active));
    active(false).exec(world.db()).await.unwrap();
    active(true).filter(merchant_wallet::Column::Id.eq(wallet)).exec(world.db()).await.unwrap();
    (owner, taken)
}

async fn take(world: &World, owner: Merchant) -> Result<Option<TakenOver>, LedgerError> {
    world.transact(async |txn| take_in(world, txn, owner).await).await
}

async fn take_in(world: &World, txn: &DatabaseTransaction, owner: Merchant) -> Result<Option<TakenOver>, LedgerError> {
    let claimant =
        Claimant { chain: world.slug, address: owner.address, realm: 0, merchant: owner.id, wallet: owner.wallet };
    ledger::take_over(txn, world.occasion("the owner has signed"), world.merchant.id, claimant).await
}

async fn unmatched(world: &World, merchant: MerchantId) -> usize {
    let told = event::Entity::find()
        .filter(event::Column::MerchantId.eq(merchant))
        .filter(event::Column::EventType.eq(TransferUnmatched));
    told.all(world.db()).await.unwrap().len()
}

async fn holders(world: &World) -> Vec<MerchantId> {
    receiving_address::Entity::holders(world.db(), world.slug, world.merchant.address).await.unwrap()
}

on_both_databases!(open_orders_fail_and_what_was_paid_in_full_goes_on, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let [waiting, short, full, done, canceled] = {
        let mut orders = Vec::new();
        for _ in 0..5 {
            orders.push(world.order(Ask::default()).await);
        }
        <[payment_order::Model; 5]>::try_from(orders).unwrap()
    };
    let payment = world.pay_exactly(&done);
    world.receive(&[payment]).await;
    world.deepen().await;
    world.cancel(canceled.id).await.unwrap();
    let (some, all) = (world.pay_by_button(&short, Units::new(40_000_000)), world.pay_exactly(&full));
    world.receive(&[some, all]).await;

    let (owner, taken) = prove(&mut world).await;
    assert_eq!(taken.failed, 2);
    let wallet = taken.wallet.unwrap();
    assert_eq!((wallet.id, wallet.is_active, wallet.ownership), (world.merchant.wallet, false, Ownership::Disputed));
    assert_eq!(holders(&world).await, [owner.id]);
    for (order, said, told) in [
        (&waiting, "failed 0".to_owned(), vec![PaymentFailed]),
        (&done, format!("confirmed review {}", done.pay_units), vec![PaymentPending, PaymentConfirmed, OrderUpdated]),
        (&full, format!("confirming review {}", full.pay_units), vec![PaymentPending, OrderUpdated]),
    ] {
        assert_eq!((world.said(order.id).await, world.events(order.id).await), (said, told));
    }
    assert_eq!(world.said(short.id).await, "failed review 40000000");
    assert_eq!(world.events(short.id).await, [PaymentPending, OrderUnderpaid, PaymentFailed]);
    assert!(world.said(canceled.id).await.starts_with("canceled"));
    let row = world.row(short.id).await;
    assert_eq!(row.failure_reason, Some(FailureReason::AddressClaimedByOwner));
    assert!(!row.received_units.is_zero() && row.remainder_units.is_none(), "the money stays recorded");
    let held = amount_reservation::Entity::held_by_any(world.db(), [waiting.id, short.id, full.id]).await.unwrap();
    assert_eq!(held, []);
    world.audit().await;

    // Depth confirms what was paid in full before; the others are over, deadline or not.
    world.deepen().await;
    assert_eq!(world.said(full.id).await, format!("confirmed review {}", full.pay_units));
    assert!(world.row(full.id).await.fulfillable);
    world.close(&waiting).await;
    assert_eq!(world.said(waiting.id).await, "failed 0");
    assert_eq!(world.events(waiting.id).await, [PaymentFailed], "its deadline is no news any more");
    refusal(world.resolve(short.id, Decision::Accept).await);
    world.audit().await;
});

on_both_databases!(what_comes_for_a_displaced_order_is_in_the_owners_inbox, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let open = world.order(Ask::default()).await;
    let named = world.order(Ask::default()).await;
    let expired = world.order(Ask { expires_in: std::time::Duration::from_secs(60), ..Ask::default() }).await;
    world.close(&expired).await;
    // Mined before the owner proves, scanned after.
    let early = world.pay_exactly(&open);
    world.mine(&[early]);
    let (owner, _) = prove(&mut world).await;
    let (button, late) = (world.pay_by_button(&named, named.pay_units), world.pay_exactly(&expired));
    world.receive(&[button, late.clone()]).await;
    assert_eq!([world.said(open.id).await, world.said(named.id).await], ["failed 0", "failed 0"]);
    assert_eq!(world.said(expired.id).await, "expired 0", "it had closed before; nothing more comes to it");
    assert_eq!((unmatched(&world, owner.id).await, unmatched(&world, world.merchant.id).await), (3, 0));
    // Nobody's order numbers are shown to the owner.
    let rows = world.transfers(late.tx_hash).await;
    assert!(!rows[0].evidence.contains("ORD-"), "{}", rows[0].evidence);
    // The one who lost the address cannot take the money by hand either.
    let refused = refusal(world.assign_as(world.merchant.id, expired.id, all_of(&late)).await);
    assert_eq!(refused, Refusal::TransferNotFound);
    world.audit().await;
});

on_both_databases!(
    the_owners_orders_do_not_get_amounts_that_displaced_customers_may_still_pay,
    async |db: TestDatabase| {
        let mut world = World::new(db).await;
        let displaced = world.order(Ask::default()).await;
        let (owner, _) = prove(&mut world).await;
        let order = world.try_order(owner, Ask::default()).await.unwrap();
        assert_ne!(order.pay_units, displaced.pay_units);
        let payments = [world.pay_exactly(&displaced), world.pay_exactly(&order)];
        world.receive(&payments).await;
        world.deepen().await;
        assert_eq!(world.said(order.id).await, format!("confirmed {}", order.pay_units));
        assert_eq!(unmatched(&world, owner.id).await, 1);
        world.audit().await;
    }
);

on_both_databases!(
    a_displaced_orders_payment_that_vanishes_fails_it_and_its_return_revives_it,
    async |db: TestDatabase| {
        let mut world = World::new(db).await;
        let order = world.order(Ask::default()).await;
        let payment = world.pay_exactly(&order);
        world.receive(&[payment]).await;
        prove(&mut world).await;
        let gone = world.reorganise(1).await;
        world.orphan_missing().await;
        assert_eq!(world.said(order.id).await, "failed 0");
        assert_eq!(world.row(order.id).await.failure_reason, Some(FailureReason::AddressClaimedByOwner));
        world.audit().await;
        world.receive(&gone).await;
        world.deepen().await;
        assert_eq!(world.said(order.id).await, format!("confirmed review {}", order.pay_units));
        world.audit().await;
    }
);

on_both_databases!(late_money_that_waits_for_a_decision_still_gets_one, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask { late_policy: LatePolicy::Review, ..Ask::default() }).await;
    let short = world.order(Ask::default()).await;
    let some = world.pay_by_button(&short, Units::new(40_000_000));
    world.receive(&[some]).await;
    let late = world.pay_exactly(&order);
    world.mine_at(order.in_time_until.plus(crate::fake_chain::BLOCK_TIME), &[late]);
    world.settle().await;
    prove(&mut world).await;
    assert_eq!(world.events(short.id).await, [PaymentPending, OrderUnderpaid, OrderUnderpaid]);
    for closed in [&order, &short] {
        world.resolve(closed.id, Decision::Accept).await.unwrap();
        world.deepen().await;
        assert!(world.said(closed.id).await.starts_with("confirmed"), "{}", world.said(closed.id).await);
    }
    world.audit().await;
});

on_both_databases!(a_proven_owner_is_never_displaced, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let (id, address) = (world.merchant.id, world.merchant.address);
    receiving_address::Entity::prove(world.db(), id, world.slug, address, world.now).await.unwrap();
    let owner = world.another_merchant().await;
    let wallet = disputed_wallet(&world, owner).await;
    let owner = Merchant { wallet, address, ..owner };
    assert_eq!(refusal(take(&world, owner).await), Refusal::AddressProven);
    assert_eq!((holders(&world).await, world.said(order.id).await), (vec![id], "pending 0".to_owned()));
    world.audit().await;
});

on_both_databases!(a_takeover_that_is_lost_with_its_process_has_changed_nothing, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    world.crash_next.set(true);
    let (owner, taken) = prove(&mut world).await;
    assert_eq!((taken.failed, world.said(order.id).await), (1, "failed 0".to_owned()));
    assert_eq!(world.events(order.id).await, [PaymentFailed]);
    // Whoever comes second finds that there is nothing to take.
    assert!(take(&world, owner).await.unwrap().is_none());
    world.audit().await;
});

on_both_databases!(an_order_that_is_made_in_the_same_moment_fails_too, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let owner = world.another_merchant().await;
    let wallet = disputed_wallet(&world, owner).await;
    let owner = Merchant { wallet, address: world.merchant.address, ..owner };
    let merchant = world.merchant;
    let (read, has_read) = tokio::sync::oneshot::channel();
    let creating = async {
        let mut read = Some(read);
        let created: Result<_, LedgerError> = transact!(world.db(), |txn| {
            let place = merchant_wallet::Entity::paying_place(txn, merchant.id, world.slug).await?;
            assert_eq!(place.wallet_id, Some(merchant.wallet));
            if let Some(read) = read.take() {
                read.send(()).unwrap();
            }
            // The owner's transaction gets every chance to overtake this one.
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            world.create(txn, merchant, Ask::default(), 9).await
        });
        created.unwrap().0
    };
    let proving = async {
        has_read.await.unwrap();
        take(&world, owner).await.unwrap().unwrap()
    };
    let (order, taken) = tokio::join!(creating, proving);
    assert_eq!((taken.failed, world.said(order.id).await), (1, "failed 0".to_owned()));
    // And whoever comes after finds no wallet.
    let place = merchant_wallet::Entity::paying_place(world.db(), merchant.id, world.slug).await.unwrap();
    assert_eq!(place.wallet_id, None);
    world.audit().await;
});

on_both_databases!(a_clock_that_is_a_little_ahead_of_the_chains_costs_no_payment, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    world.mine_empty(1);
    world.scan().await;
    world.now = world.now.plus(std::time::Duration::from_secs(20));
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    let block = world.mine(&[payment]);
    assert!(block.time < order.created_at);
    world.settle().await;
    assert_eq!(world.said(order.id).await, format!("confirming {}", order.pay_units));
});
