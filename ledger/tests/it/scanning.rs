//! The scanner's part: who may move the cursor, what confirms, who is told.

use std::collections::BTreeSet;

use cryptopay_domain::event::EventType::{PaymentConfirmed, PaymentPending};
use cryptopay_domain::merchant::DeliveryState;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::{chain_block, event, merchant_wallet, receiving_address, transfer, webhook_endpoint};
use cryptopay_ledger::{self as ledger, Checked, DeliveryKey, LedgerError};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::fake_chain::Payment;
use crate::world::{Ask, SLUG, World, all_of};

on_both_databases!(a_scanner_that_woke_up_too_late_writes_nothing, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    let stale = world.fence().await;
    world.mine(&[payment]);
    // Its lease ran out; another process took over and is working.
    let later = Timestamp::from_secs(100);
    let fresh = world.fence_of("another", later).await.unwrap();
    assert_eq!(fresh.epoch, stale.epoch + 1);
    assert_eq!(world.fence_of("third", later).await, None, "the lease is taken");
    let before = world.event_counts().await;
    let late = world.transact(async |txn| world.record(txn, &stale).await).await;
    assert!(matches!(late, Err(LedgerError::Fenced)));
    let tip = world.chain.tip();
    let occasion = world.occasion("woke up");
    let work = async |txn: &DatabaseTransaction| {
        ledger::rewind(txn, occasion, &stale, world.settings(), &tip, world.now).await
    };
    assert!(matches!(world.transact(work).await, Err(LedgerError::Fenced)));
    let work = async |txn: &DatabaseTransaction| ledger::skip_to(txn, &stale, world.settings(), &tip).await;
    assert!(matches!(world.transact(work).await, Err(LedgerError::Fenced)));
    assert_eq!((world.event_counts().await, world.said(order.id).await), (before, "pending 0".to_owned()));

    world.transact(async |txn| world.record(txn, &fresh).await).await.map(drop).unwrap();
    let done = world.event_counts().await;
    let twice = world.transact(async |txn| world.record(txn, &fresh).await).await;
    assert!(matches!(twice, Err(LedgerError::Fenced)), "the cursor has moved");
    assert_eq!(world.event_counts().await, done);
    assert_eq!(world.events(order.id).await, [PaymentPending]);
    world.audit().await;
});

on_both_databases!(an_idle_chain_skips_to_a_head_and_goes_on_from_there, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    world.mine_empty(500);
    let fence = world.fence().await;
    let head = world.chain.tip();
    let work = async |txn: &DatabaseTransaction| ledger::skip_to(txn, &fence, world.settings(), &head).await;
    world.transact(work).await.unwrap();
    assert_eq!(world.cursor().await.hash, head.hash);
    assert_eq!(chain_block::Entity::window(world.db(), world.slug).await.unwrap().len(), 1);
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    world.deepen().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    world.audit().await;
});

on_both_databases!(depth_without_a_second_word_for_the_block_confirms_nothing, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    let block = world.receive(&[payment]).await;
    world.mine_empty(10);
    world.scan().await;
    let number = i64::try_from(block.number).unwrap();
    let wanted = ledger::blocks_to_check(world.db(), world.settings()).await.unwrap();
    assert_eq!(wanted, BTreeSet::from([(number, block.hash)]));
    let other = world.chain.tip().hash;
    let held = transfer::Entity::standing_in(world.db(), SLUG, [number]).await.unwrap();
    let asked: BTreeSet<_> = held.iter().map(|row| row.id).collect();
    let mut wrong: Vec<Checked> = [BTreeSet::new(), [(number, other)].into(), [(number + 1, block.hash)].into()]
        .into_iter()
        .map(|blocks| Checked { blocks, transfers: asked.clone() })
        .collect();
    // Its block was named again, and of the transfer nobody was asked.
    wrong.push(Checked { blocks: wanted, transfers: BTreeSet::new() });
    for checked in wrong {
        let occasion = world.occasion("deep enough");
        let work =
            async |txn: &DatabaseTransaction| ledger::confirm(txn, occasion, world.settings(), &checked, "it").await;
        world.transact(work).await.map(drop).unwrap();
        assert_eq!(world.said(order.id).await, "confirming 99999200", "{checked:?}");
    }
    world.confirm().await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert_eq!(ledger::blocks_to_check(world.db(), world.settings()).await.unwrap(), BTreeSet::new());
    world.audit().await;
});

on_both_databases!(depth_beyond_any_reorganisation_needs_a_second_word_as_well, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let order = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&order);
    let block = world.mine(&[payment]);
    // All of it is read at once, and the block is below the window that is kept.
    world.mine_empty(world.settings().reorg_depth + 5);
    world.scan().await;
    let wanted = ledger::blocks_to_check(world.db(), world.settings()).await.unwrap();
    assert_eq!(wanted, BTreeSet::from([(i64::try_from(block.number).unwrap(), block.hash)]));
    let occasion = world.occasion("deep enough");
    let nobody = Checked::default();
    let work = async |txn: &DatabaseTransaction| ledger::confirm(txn, occasion, world.settings(), &nobody, "it").await;
    world.transact(work).await.map(drop).unwrap();
    assert_eq!(world.said(order.id).await, "confirming 99999200");
    assert!(ledger::has_final(world.db(), world.settings()).await.unwrap(), "it still waits for that word");

    world.confirm().await;
    assert_eq!(world.said(order.id).await, "confirmed finalized 99999200");
    assert!(!ledger::has_final(world.db(), world.settings()).await.unwrap());
    assert_eq!(ledger::blocks_to_check(world.db(), world.settings()).await.unwrap(), BTreeSet::new());
    world.audit().await;
});

on_both_databases!(the_finality_tag_confirms_before_the_depth_does, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    world.final_lag = Some(1);
    let order = world.order(Ask { required: 30, ..Ask::default() }).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    assert_eq!(world.said(order.id).await, "confirming 99999200");
    world.receive(&[]).await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    assert_eq!(world.events(order.id).await, [PaymentPending, PaymentConfirmed]);
    // The tag goes away with the endpoint that names it: what was announced stands.
    world.final_lag = None;
    world.receive(&[]).await;
    assert_eq!(world.said(order.id).await, "confirmed 99999200");
    world.audit().await;
});

on_both_databases!(every_holder_of_a_shared_address_is_told_of_what_fits_nobody, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let other = world.another_merchant().await;
    // In sandbox mode addresses may be shared.
    let shared = receiving_address::Entity::update_many()
        .col_expr(receiving_address::Column::Address, Expr::value(world.merchant.address))
        .col_expr(receiving_address::Column::Realm, Expr::value(other.id.0))
        .filter(receiving_address::Column::MerchantId.eq(other.id));
    shared.exec(world.db()).await.unwrap();
    let wallet = merchant_wallet::Entity::update_many()
        .col_expr(merchant_wallet::Column::Address, Expr::value(world.merchant.address))
        .filter(merchant_wallet::Column::Id.eq(other.wallet));
    wallet.exec(world.db()).await.unwrap();
    let other = crate::world::Merchant { address: world.merchant.address, ..other };
    let mine = world.order(Ask::default()).await;
    let theirs = world.try_order(other, Ask::default()).await.unwrap();
    assert_ne!(mine.pay_units, theirs.pay_units, "reservations are unique across merchants");
    let payments = [world.pay_exactly(&theirs), world.transfer(Units::new(5))];
    world.receive(&payments).await;
    world.deepen().await;
    assert_eq!(world.said(theirs.id).await, format!("confirmed {}", theirs.pay_units));
    assert_eq!(world.said(mine.id).await, "pending 0");
    for merchant in [world.merchant, other] {
        assert_eq!(world.inbox(merchant).await, [(payments[1].tx_hash, vec![])]);
    }
    world.assign_as(other.id, theirs.id, all_of(&payments[1])).await.unwrap();
    world.audit().await;
});

on_both_databases!(a_reference_names_its_order_only_for_its_own_asset_and_address, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let stranger = world.another_merchant().await;
    let order = world.order(Ask::default()).await;
    let other = world.order(Ask::default()).await;
    let button = world.pay_by_button(&order, Units::new(99_999_200));
    let elsewhere = Payment { to: stranger.address, ..button.clone() };
    let wrong = Payment { tx_hash: world.chain.next_hash(), asset: world.asset("cbBTC"), ..button.clone() };
    let both = Payment {
        tx_hash: world.chain.next_hash(),
        input: [&button.input[..], &other.reference.calldata()].concat().into(),
        ..elsewhere.clone()
    };
    let both = Payment { to: order.receiving_address, ..both };
    world.receive(&[elsewhere.clone(), wrong.clone(), both.clone()]).await;
    assert_eq!(world.said(order.id).await, "pending 0");
    assert_eq!(world.inbox(stranger).await, [(elsewhere.tx_hash, vec![])]);
    let inbox = world.inbox(world.merchant).await;
    assert_eq!(inbox[0], (wrong.tx_hash, vec![]));
    assert_eq!((inbox[1].0, inbox[1].1.len()), (both.tx_hash, 3), "two references, and an amount that breaks no tie");
    world.audit().await;
});

on_both_databases!(an_endpoint_that_was_switched_off_keeps_its_deliveries_as_dead, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let off = webhook_endpoint::Entity::update_many()
        .col_expr(webhook_endpoint::Column::IsActive, Expr::value(false))
        .col_expr(webhook_endpoint::Column::DisabledReason, Expr::value(Some("answered 410".to_owned())))
        .filter(webhook_endpoint::Column::Id.eq(world.merchant.everything));
    off.exec(world.db()).await.unwrap();
    // The order's own url is the same: it still gets its deliveries.
    let order = world.order(Ask { webhook_url: Some(crate::world::EVERYTHING_URL), ..Ask::default() }).await;
    let payment = world.pay_exactly(&order);
    world.receive(&[payment]).await;
    let history = event::Entity::of_order(world.db(), world.merchant.id, order.id).await.unwrap();
    let told: Vec<_> =
        world.deliveries(&history[1]).await.into_iter().map(|row| (row.endpoint_id, row.state)).collect();
    let expected =
        [(world.merchant.everything, DeliveryState::Dead), (world.merchant.own_urls, DeliveryState::Pending)];
    assert_eq!(told, expected);
    world.audit().await;
});

on_both_databases!(a_commit_leaves_its_work_for_others, async |db: TestDatabase| {
    let mut world = World::new(db).await;
    let ask = Ask { webhook_url: Some("https://a.example/x"), ..Ask::default() };
    let created = async |txn: &DatabaseTransaction| world.create(txn, world.merchant, ask, 77).await;
    let (order, nudges) = world.transact(created).await.unwrap();
    let everything = DeliveryKey { endpoint: world.merchant.everything, origin: String::new() };
    assert_eq!(nudges.chains, BTreeSet::from([world.slug.to_owned()]));
    assert_eq!(nudges.deliveries, BTreeSet::from([everything.clone()]), "a creation is no default event");
    assert!(nudges.events);

    let payment = world.pay_exactly(&order);
    world.mine(&[payment]);
    let fence = world.fence().await;
    let nudges = world.transact(async |txn| world.record(txn, &fence).await).await.unwrap();
    let own = DeliveryKey { endpoint: world.merchant.own_urls, origin: "https://a.example".to_owned() };
    assert_eq!(nudges.deliveries, BTreeSet::from([everything, own]));

    world.mine_empty(1);
    let fence = world.fence().await;
    let nudges = world.transact(async |txn| world.record(txn, &fence).await).await.unwrap();
    assert_eq!(nudges, ledger::Nudges::default(), "an empty block is no news");
});
