//! A token that leaves the registry while orders in it are open.

use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::transfer::TransferState;
use cryptopay_entity::{payment_order, transfer};
use cryptopay_test_support::{Payment, TestDatabase, U256, on_both_databases};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::node::NodeWorld;
use crate::world::Ask;

on_both_databases!(a_removed_token_is_scanned_until_its_orders_are_closed, async |db: TestDatabase| {
    let (mut world, merchant) = NodeWorld::new(db).await;
    let paid = world.town.order(&merchant, Ask::default()).await;
    let short = world.town.order(&merchant, Ask::default()).await;
    world.drain().await;
    world.restart_without_tokens().await;

    world.pay(&paid).await;
    world.mine(6).await;
    world.drain().await;
    assert_eq!(world.town.status(&paid).await, OrderStatus::Confirmed);

    // No order has this amount: the transfer waits for the merchant, in the token's own units.
    let to = format!("{:#x}", short.receiving_address.0).parse().unwrap();
    world.node.send(&Payment::tokens(world.usdc, to, U256::from(7))).await;
    world.mine(6).await;
    world.drain().await;
    let rows = transfer::Entity::find().all(&world.town.db).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| matches!(row.state, TransferState::Included | TransferState::Final)));
    let named = payment_order::Entity::asset_as_ordered(&world.town.db, &short.chain, short.asset).await.unwrap();
    assert_eq!(named, Some(("USDC".to_owned(), 6)));

    // Once every order in it is past its end, the token is asked for no more.
    let past = cryptopay_domain::time::Timestamp::default();
    payment_order::Entity::update_many()
        .col_expr(payment_order::Column::MonitorUntil, Expr::value(past))
        .filter(payment_order::Column::Chain.eq(short.chain.as_str()))
        .exec(&world.town.db)
        .await
        .unwrap();
    world.node.send(&Payment::tokens(world.usdc, to, U256::from(8))).await;
    world.mine(2).await;
    world.drain().await;
    assert_eq!(transfer::Entity::find().all(&world.town.db).await.unwrap().len(), 2);
    let height = i64::try_from(world.node.height().await).unwrap();
    assert_eq!(world.cursor().await.height, height);
});

on_both_databases!(assets_of_a_chain_are_found_by_index_look_ups, async |db: TestDatabase| {
    let (world, merchant) = NodeWorld::new(db).await;
    let chain = world.town.chain.slug.clone();
    assert_eq!(payment_order::Entity::assets_of(&world.town.db, &chain).await.unwrap(), []);
    let usdc = world.town.order(&merchant, Ask::default()).await;
    world.town.order(&merchant, Ask::default()).await;
    let eth = world.town.order(&merchant, Ask { symbol: "ETH", amount: "0.5", ..Ask::default() }).await;
    let mut assets = payment_order::Entity::assets_of(&world.town.db, &chain).await.unwrap();
    assets.sort();
    let mut expected = vec![usdc.asset, eth.asset];
    expected.sort();
    assert_eq!(assets, expected);
});
