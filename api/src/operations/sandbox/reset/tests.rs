use cryptopay_entity::{event, payment_order, sandbox_inbox, webhook_endpoint};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use futures_util::future::join_all;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::json;

use super::*;
use crate::error::ErrorCode;
use crate::operations::shop::Shop;
use crate::operations::{payment_orders, wallets, webhook_endpoints};
use crate::rest::types::CreatePaymentOrder;
use crate::rest::wallets::CreateWallet;
use crate::testing::{app, fields, merchant, once};

on_both_databases!(nothing_is_left_and_the_chain_is_asked_for_nothing, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let (bert, his) = shop.merchant("bert").await;
    let (first, second) = (shop.order(&anna).await, shop.order(&bert).await);
    let paid = [shop.transfer(hers, first.pay_units), shop.transfer(his, second.pay_units)];
    shop.receive("base", &paid).await;
    shop.publish().await;

    let (deleted, _) = reset(&shop.app, &anna, &Fields::default()).await.unwrap();
    assert_eq!((deleted.orders, deleted.transfers, deleted.wallets), (1, 1, 2));
    assert!(deleted.events >= 2, "{deleted:?}");
    let error = payment_orders::find(&shop.app, &anna, first.order_id.as_str()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    assert_eq!(shop.row(&bert, second.order_id.as_str()).await.received_units, second.pay_units);
    // Events go on being numbered; those that are gone leave no gap that cannot be explained.
    shop.order(&bert).await;
    shop.publish().await;
    assert_eq!(cryptopay_ledger::audit::check(shop.app.database()).await.unwrap(), []);
    // Whoever goes on from before them has missed nothing.
    assert_eq!(event::Entity::oldest_sequence(shop.app.database()).await.unwrap(), Some(1));
    // Again, and there is nothing to do.
    let (deleted, _) = reset(&shop.app, &anna, &Fields::default()).await.unwrap();
    assert_eq!(deleted, Deleted::default());
});

on_both_databases!(what_an_account_begins_with_is_there_again, async |db: TestDatabase| {
    let app = app(&db).await;
    let anna = merchant(&app, "anna").await;
    let endpoints = async || webhook_endpoint::Entity::receiving(app.database(), [anna.merchant_id()]).await.unwrap();
    let before = endpoints().await;
    let inbox = before.iter().find(|endpoint| endpoint.url.is_some()).unwrap().clone();
    // Switched off and changed: as it was. Removed: made anew.
    let change = fields::<crate::rest::webhook_endpoints::ChangeWebhookEndpoint>(
        json!({"is_active": false, "events": ["order.created"]}),
    );
    webhook_endpoints::update(&app, &anna, &inbox.id.to_string(), change).await.unwrap();
    sandbox_inbox::Entity::answer_with(app.database(), anna.merchant_id(), Some(500), Some(9_000)).await.unwrap();
    reset(&app, &anna, &Fields::default()).await.unwrap();
    let told = |rows: &[webhook_endpoint::Model]| {
        let told =
            rows.iter().map(|row| (row.id, row.url.clone(), row.events.clone(), row.secret.clone(), row.is_active));
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&endpoints().await), told(&before));
    let answers = sandbox_inbox::Entity::of(app.database(), anna.merchant_id()).await.unwrap().unwrap();
    assert_eq!((answers.answer_status, answers.answer_delay_ms), (200, 0));

    webhook_endpoints::remove(&app, &anna, &inbox.id.to_string()).await.unwrap();
    reset(&app, &anna, &Fields::default()).await.unwrap();
    let again = endpoints().await;
    let again = again.iter().find(|endpoint| endpoint.url.is_some()).unwrap();
    assert_eq!((&again.url, again.is_active), (&inbox.url, true));
    assert_ne!(again.id, inbox.id);
});

on_both_databases!(orders_that_are_made_meanwhile_are_made_or_refused, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    for _ in 0..5 {
        shop.order(&anna).await;
    }
    let app = &shop.app;
    for round in 0..3_i64 {
        let creating = (0..8_i64).map(|number| {
            let body = json!({
                "amount": "20.00", "currency": "USDC", "blockchain": "base", "order_info": "{}",
                "nonce": 1_000 + round * 100 + number,
            });
            payment_orders::create(app, &anna, fields::<CreatePaymentOrder>(body), once())
        });
        let ((created, _), done) = tokio::join!(async { (join_all(creating).await, ()) }, async {
            reset(app, &anna, &Fields::default()).await
        },);
        done.unwrap();
        for refused in created.into_iter().filter_map(Result::err) {
            assert_eq!(refused.details.keys().collect::<Vec<_>>(), ["blockchain"], "{refused:?}");
        }
        let left = payment_order::Entity::find().filter(payment_order::Column::MerchantId.eq(anna.merchant_id()));
        assert_eq!(left.count(app.database()).await.unwrap(), 0, "no order is left without its wallet");
        assert_eq!(cryptopay_ledger::audit::check(app.database()).await.unwrap(), []);
        let body = json!({"blockchain": "base", "address": hers.to_key()});
        wallets::create(app, &anna, fields::<CreateWallet>(body), once()).await.unwrap();
    }
});
