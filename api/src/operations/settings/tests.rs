use cryptopay_domain::address::Hash;
use cryptopay_entity::{audit_log, chain_cursor, payment_order};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::*;
use crate::error::ErrorCode;
use crate::operations::{payment_orders, wallets};
use crate::rest::settings::ChangePaymentSettings;
use crate::rest::types::CreatePaymentOrder;
use crate::rest::wallets::CreateWallet;
use crate::testing::{app, fields, merchant, once};

async fn put(app: &App, principal: &Principal, body: Value) -> Result<(PaymentSettings, String), ApiError> {
    update(app, principal, fields::<ChangePaymentSettings>(body)).await
}

/// The principal as the next request finds it.
async fn again(app: &App, principal: &Principal) -> Principal {
    let merchant = merchant::Entity::find_by_id(principal.merchant_id()).one(app.database()).await.unwrap().unwrap();
    Principal { merchant: merchant.into(), ..principal.clone() }
}

async fn refused(app: &App, principal: &Principal, body: Value) -> Vec<String> {
    let error = put(app, principal, body).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ValidationError);
    error.details.keys().cloned().collect()
}

on_both_databases!(what_is_sent_changes_and_the_rest_stays, async |db: TestDatabase| {
    let app = app(&db).await;
    let shop = merchant(&app, "shop").await;
    assert_eq!(of(&shop.merchant).unwrap(), PaymentSettings::default());
    let body = json!({"late_policy": "reject", "confirmations": {"BASE": 3, "polygon": 100}, "colour": "red"});
    let (settings, message) = put(&app, &shop, body).await.unwrap();
    assert!(message.ends_with("Ignored: colour"), "{message}");
    assert_eq!(settings.confirmations.get("base"), Some(&3));
    put(&app, &shop, json!({"default_expiry_seconds": 900, "confirmations": {"ethereum": 6}})).await.unwrap();
    put(&app, &shop, json!({"confirmations": {"polygon": null}, "late_policy": null})).await.unwrap();
    put(&app, &shop, json!({})).await.unwrap();
    let stored = of(&again(&app, &shop).await.merchant).unwrap();
    assert_eq!(stored.late_policy, Some(LatePolicy::Reject));
    assert_eq!(stored.confirmations, [("base".to_owned(), 3), ("ethereum".to_owned(), 6)].into());
    assert_eq!(stored.default_expiry_seconds, Some(900));
    let (stored, _) = put(&app, &shop, json!({"late_policy": "default"})).await.unwrap();
    assert_eq!(stored.late_policy, None);
    let told = audit_log::Entity::find().filter(audit_log::Column::Action.eq("settings.change"));
    let told = told.all(app.database()).await.unwrap();
    assert_eq!(told.len(), 5);
    assert!(told[0].details.contains("reject"), "{}", told[0].details);
});

on_both_databases!(every_faulty_field_is_named_and_nothing_is_changed, async |db: TestDatabase| {
    let app = app(&db).await;
    let shop = merchant(&app, "shop").await;
    let depth = app.chain("base").unwrap().reorg_depth;
    let body = json!({
        "late_policy": "shrug",
        "confirmations": {"base": 0, "doge": 1, "polygon": "12", "bsc": 5},
        "default_expiry_seconds": 59,
        "tolerance_bps": 10,
        "tolerance_max": "1.00",
    });
    let names = [
        "confirmations.base",
        "confirmations.doge",
        "confirmations.polygon",
        "default_expiry_seconds",
        "late_policy",
        "tolerance_bps",
        "tolerance_max",
    ];
    assert_eq!(refused(&app, &shop, body).await, names);
    for (body, name) in [
        (json!({"confirmations": {"base": i64::from(depth) + 1}}), "confirmations.base"),
        (json!({"confirmations": {"base": 1.5}}), "confirmations.base"),
        (json!({"confirmations": {"base": -1}}), "confirmations.base"),
        (json!({"confirmations": [1]}), "confirmations"),
        (json!({"default_expiry_seconds": 2_592_001}), "default_expiry_seconds"),
        (json!({"default_expiry_seconds": -1}), "default_expiry_seconds"),
        (json!({"tolerance_max": "a"}), "tolerance_max"),
    ] {
        assert_eq!(refused(&app, &shop, body).await, [name]);
    }
    let many: serde_json::Map<String, Value> = (0..200).map(|n| (format!("chain{n}"), json!(1))).collect();
    assert_eq!(refused(&app, &shop, json!({"confirmations": many})).await, ["confirmations"]);
    assert_eq!(again(&app, &shop).await.merchant.payment_settings, "{}");
    // What the answer says may be sent back.
    let shown = json!({
        "late_policy": "default", "confirmations": {"base": depth}, "default_expiry_seconds": 7_200,
        "tolerance_bps": 0, "tolerance_max": "0.00",
    });
    put(&app, &shop, shown).await.unwrap();
});

on_both_databases!(new_orders_take_the_settings_over_and_keep_them, async |db: TestDatabase| {
    let app = app(&db).await;
    let shop = merchant(&app, "shop").await;
    let now = clock::business_now(app.database()).await.unwrap();
    let hash: Hash = format!("0x{}", "11".repeat(32)).parse().unwrap();
    assert!(chain_cursor::Entity::begin(app.database(), "base", 7, hash, now, now).await.unwrap());
    let wallet = json!({"blockchain": "base", "address": format!("0x{}", "a1".repeat(20))});
    wallets::create(&app, &shop, fields::<CreateWallet>(wallet), once()).await.unwrap();
    let order = async |shop: &Principal, currency: &str, nonce: i64| {
        let body = json!({
            "amount": "1.00", "currency": currency, "blockchain": "base", "order_info": "{}", "nonce": nonce,
        });
        let made = payment_orders::create(&app, shop, fields::<CreatePaymentOrder>(body), once()).await.unwrap();
        let id = made.made().unwrap().id;
        payment_order::Entity::find_by_id(id).one(app.database()).await.unwrap().unwrap()
    };
    let taken = |order: &payment_order::Model| {
        let open = order.expires_at.since(order.created_at).as_secs();
        (order.late_policy, order.required_confirmations, open)
    };
    let usual = i64::from(app.chain("base").unwrap().confirmations);
    let before = order(&shop, "USDC", 1).await;
    assert_eq!(taken(&before), (LatePolicy::Accept, usual, 7_200));
    assert_eq!(taken(&order(&shop, "ETH", 2).await), (LatePolicy::Review, usual, 7_200));
    let body = json!({"late_policy": "reject", "confirmations": {"base": 2}, "default_expiry_seconds": 600});
    put(&app, &shop, body).await.unwrap();
    let shop = again(&app, &shop).await;
    for (currency, nonce) in [("USDC", 3), ("ETH", 4)] {
        assert_eq!(taken(&order(&shop, currency, nonce).await), (LatePolicy::Reject, 2, 600));
    }
    let kept = payment_order::Entity::find_by_id(before.id).one(app.database()).await.unwrap().unwrap();
    assert_eq!(kept, before);
});

on_both_databases!(two_changes_at_once_both_hold, async |db: TestDatabase| {
    let app = app(&db).await;
    let shop = merchant(&app, "shop").await;
    let bodies = ["ethereum", "base", "polygon", "bsc", "arbitrum"].map(|slug| json!({"confirmations": {slug: 2}}));
    let done = futures_util::future::join_all(bodies.into_iter().map(|body| put(&app, &shop, body))).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(of(&again(&app, &shop).await.merchant).unwrap().confirmations.len(), 5);
});

on_both_databases!(an_expiry_that_is_refused_is_told_the_gateways_time, async |db: TestDatabase| {
    let app = app(&db).await;
    let shop = merchant(&app, "shop").await;
    let now = clock::business_now(app.database()).await.unwrap();
    let hash: Hash = format!("0x{}", "11".repeat(32)).parse().unwrap();
    assert!(chain_cursor::Entity::begin(app.database(), "base", 7, hash, now, now).await.unwrap());
    let wallet = json!({"blockchain": "base", "address": format!("0x{}", "a1".repeat(20))});
    wallets::create(&app, &shop, fields::<CreateWallet>(wallet), once()).await.unwrap();
    // An hour ahead for whoever asks, and long past for the gateway.
    let day = std::time::Duration::from_secs(86_400);
    cryptopay_entity::sandbox_clock::Entity::advance(app.database(), day).await.unwrap();
    let body = json!({
        "amount": "1.00", "currency": "USDC", "blockchain": "base", "order_info": "{}", "nonce": 1,
        "expires_at": now.plus(std::time::Duration::from_secs(3_600)).to_string(),
    });
    let refused = payment_orders::create(&app, &shop, fields::<CreatePaymentOrder>(body), once()).await.unwrap_err();
    let told = &refused.details["expires_at"][0];
    let time = told.split("which is ").nth(1).and_then(|time| time.strip_suffix('.')).unwrap();
    let time: cryptopay_domain::time::Timestamp = time.parse().unwrap();
    assert!((86_399..90_000).contains(&time.since(now).as_secs()), "{told}");
});
