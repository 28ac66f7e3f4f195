mod verify;

use std::collections::BTreeSet;

use cryptopay_domain::ids::MerchantId;
use cryptopay_entity::merchant::NewMerchant;
use cryptopay_entity::{audit_log, payment_order};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::*;
use crate::error::ErrorCode;
use crate::operations::pages::first as first_page;
use crate::principal::Credential;
use crate::rest::wallets::{ChangeWallet, CreateWallet};
use crate::testing::{app, app_with, once};

const ONE: &str = "0x1111111111111111111111111111111111111111";
const TWO: &str = "0x2222222222222222222222222222222222222222";
/// USDC on Base.
const USDC: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";

async fn merchant(app: &App, name: &str) -> Principal {
    let new = NewMerchant {
        username: name.to_owned(),
        email: format!("{name}@example.com"),
        password_hash: String::new(),
        shop_name: name.to_owned(),
    };
    let now = clock::database_now(app.database()).await.unwrap();
    let merchant = merchant::Entity::add(app.database(), new, now).await.unwrap();
    let scopes = cryptopay_domain::merchant::Scope::ALL.to_vec();
    Principal {
        merchant: merchant.into(),
        credential: Credential::Key { id: cryptopay_domain::ids::ApiKeyId(1), scopes, expires_at: None },
    }
}

async fn live(db: &TestDatabase) -> App {
    let variables = [
        ("CRYPTOPAY_MODE", "live"),
        ("CRYPTOPAY_PUBLIC_URL", "https://pay.example.com"),
        ("CRYPTOPAY_RPC_BASE", "https://rpc.example"),
    ];
    app_with(db, &variables).await
}

async fn add(app: &App, principal: &Principal, body: Value) -> Result<Changed, ApiError> {
    let fields = Fields::judged_by::<CreateWallet>(body.as_object().unwrap().clone());
    create(app, principal, fields, once()).await.map(|outcome| outcome.made().unwrap())
}

async fn change(app: &App, principal: &Principal, id: WalletId, body: Value) -> Result<Changed, ApiError> {
    let fields = Fields::judged_by::<ChangeWallet>(body.as_object().unwrap().clone());
    update(app, principal, &id.to_string(), fields).await
}

fn faulty(error: &ApiError) -> Vec<&str> {
    assert_eq!(error.code, ErrorCode::ValidationError);
    error.details.keys().map(String::as_str).collect()
}

async fn held_by(app: &App, merchant: MerchantId) -> BTreeSet<(String, WalletId)> {
    receiving_address::Entity::find()
        .filter(receiving_address::Column::MerchantId.eq(merchant))
        .filter(receiving_address::Column::ReleasedAt.is_null())
        .all(app.database())
        .await
        .unwrap()
        .into_iter()
        .map(|claim| (claim.address.to_string(), claim.wallet_id))
        .collect()
}

on_both_databases!(every_faulty_field_is_named_at_once, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let body = json!({
        "blockchain": "doge",
        "address": "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "label": "x".repeat(101),
        "is_active": "yes",
        "dedicated": true,
        "xpub": "xpub…",
        "addresses": [ONE],
    });
    let error = add(&app, &merchant, body).await.unwrap_err();
    assert_eq!(faulty(&error), ["address", "addresses", "blockchain", "dedicated", "is_active", "label", "xpub"]);
    let error = add(&app, &merchant, json!({})).await.unwrap_err();
    assert_eq!(faulty(&error), ["address", "blockchain"]);
});

on_both_databases!(a_token_contract_is_no_wallet, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    for address in [USDC.to_owned(), USDC.to_lowercase()] {
        let error = add(&app, &merchant, json!({"blockchain": "base", "address": address})).await.unwrap_err();
        assert_eq!(faulty(&error), ["address"]);
        assert!(error.details["address"][0].contains("contract of USDC"));
    }
    // On another chain it is an address like any other.
    add(&app, &merchant, json!({"blockchain": "ethereum", "address": USDC})).await.unwrap();
});

on_both_databases!(the_first_wallet_is_active_and_a_second_only_on_request, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let (first, message) = add(&app, &merchant, json!({"blockchain": "BASE", "address": ONE})).await.unwrap();
    assert!(first.is_active && first.chain == "base", "{message}");
    let (second, message) = add(&app, &merchant, json!({"blockchain": "base", "address": TWO})).await.unwrap();
    assert!(!second.is_active && message.contains("inactive"), "{message}");
    let (second, message) = change(&app, &merchant, second.id, json!({"is_active": true})).await.unwrap();
    assert!(second.is_active && message.contains(&format!("wallet {} was retired", first.id)), "{message}");
    let first = find(&app, &merchant, &first.id.to_string()).await.unwrap();
    assert!(!first.is_active);
    let body = json!({"blockchain": "base", "address": format!("0x{}", "33".repeat(20)), "is_active": true});
    let (third, _) = add(&app, &merchant, body).await.unwrap();
    let active = WalletFilter { chain: Some("base".to_owned()), is_active: Some(true) };
    let active = list(&app, &merchant, &active, &first_page(20)).await.unwrap();
    assert_eq!((active.count, active.rows[0].id), (1, third.id));
    assert_eq!(list(&app, &merchant, &WalletFilter::default(), &first_page(1)).await.unwrap().count, 3);
});

on_both_databases!(racing_wallets_leave_one_active, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let bodies: Vec<Value> =
        (1..=6).map(|n| json!({"blockchain": "base", "address": format!("0x{n:040}"), "is_active": true})).collect();
    let adding = bodies.into_iter().map(|body| add(&app, &merchant, body));
    let added = futures_util::future::join_all(adding).await;
    assert!(added.iter().all(Result::is_ok), "{added:?}");
    let active = WalletFilter { chain: None, is_active: Some(true) };
    assert_eq!(list(&app, &merchant, &active, &first_page(20)).await.unwrap().count, 1);
});

on_both_databases!(an_address_is_one_wallet_until_that_is_removed, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let body = json!({"blockchain": "base", "address": ONE, "label": " till "});
    let (wallet, _) = add(&app, &merchant, body.clone()).await.unwrap();
    assert_eq!(wallet.label, "till");
    assert_eq!(faulty(&add(&app, &merchant, body.clone()).await.unwrap_err()), ["address"]);
    let message = remove(&app, &merchant, &wallet.id.to_string()).await.unwrap();
    assert!(message.contains("No wallet of yours is active on base"), "{message}");
    assert_eq!(find(&app, &merchant, &wallet.id.to_string()).await.unwrap_err().code, ErrorCode::NotFound);
    // Its address stays watched; the new wallet takes the claim over.
    assert_eq!(held_by(&app, merchant.merchant_id()).await, [(ONE.to_owned(), wallet.id)].into());
    let (again, _) = add(&app, &merchant, body).await.unwrap();
    assert!(again.is_active && again.id != wallet.id);
    assert_eq!(held_by(&app, merchant.merchant_id()).await, [(ONE.to_owned(), again.id)].into());
    let actions: Vec<String> =
        audit_log::Entity::find().all(&app.context.database).await.unwrap().into_iter().map(|row| row.action).collect();
    assert_eq!(actions, ["wallet.create", "wallet.remove", "wallet.create"]);
});

on_both_databases!(in_the_sandbox_merchants_may_share_an_address, async |db: TestDatabase| {
    let app = app(&db).await;
    for name in ["one", "other"] {
        let merchant = merchant(&app, name).await;
        let (wallet, _) = add(&app, &merchant, json!({"blockchain": "base", "address": ONE})).await.unwrap();
        assert!(wallet.is_active && wallet.ownership == Ownership::Unproven);
    }
});

on_both_databases!(in_live_an_address_that_another_merchant_holds_is_disputed, async |db: TestDatabase| {
    let app = live(&db).await;
    let (holder, late) = (merchant(&app, "holder").await, merchant(&app, "late").await);
    let (held, _) = add(&app, &holder, json!({"blockchain": "base", "address": ONE})).await.unwrap();
    let body = json!({"blockchain": "base", "address": ONE, "is_active": true});
    let (disputed, message) = add(&app, &late, body).await.unwrap();
    assert!(!disputed.is_active && disputed.ownership == Ownership::Disputed && message.contains("disputed"));
    assert!(held_by(&app, late.merchant_id()).await.is_empty());
    let error = change(&app, &late, disputed.id, json!({"is_active": true})).await.unwrap_err();
    assert_eq!(faulty(&error), ["is_active"]);
    // Once the holder's claim has been let go, activating claims it.
    let claim = receiving_address::Entity::lock_held(app.database(), "base", held.address.unwrap(), 0).await.unwrap();
    let now = clock::business_now(app.database()).await.unwrap();
    receiving_address::Entity::release(app.database(), claim.unwrap().id, now).await.unwrap();
    let (won, _) = change(&app, &late, disputed.id, json!({"is_active": true})).await.unwrap();
    assert!(won.is_active && won.ownership == Ownership::Unproven);
});

on_both_databases!(a_change_keeps_what_is_not_sent, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let body = json!({"blockchain": "base", "address": ONE, "label": "till", "dedicated": false});
    let (before, _) = add(&app, &merchant, body).await.unwrap();
    let (after, message) = change(&app, &merchant, before.id, json!({"label": "shelf", "colour": 1})).await.unwrap();
    assert_eq!(message, "Wallet changed. Ignored: colour");
    assert_eq!(Model { label: "shelf".into(), updated_at: after.updated_at, ..before.clone() }, after);
    let error = change(&app, &merchant, before.id, json!({"blockchain": "polygon"})).await.unwrap_err();
    assert_eq!(faulty(&error), ["blockchain"]);
    assert!(change(&app, &merchant, before.id, json!({"blockchain": "Base"})).await.is_ok());
});

on_both_databases!(a_new_address_is_claimed_and_the_old_one_stays_watched, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let (wallet, _) = add(&app, &merchant, json!({"blockchain": "base", "address": ONE})).await.unwrap();
    let (moved, _) = change(&app, &merchant, wallet.id, json!({"address": TWO})).await.unwrap();
    assert!(moved.is_active && moved.address.unwrap().to_string() == TWO);
    let both: BTreeSet<_> = [(ONE.to_owned(), wallet.id), (TWO.to_owned(), wallet.id)].into();
    assert_eq!(held_by(&app, merchant.merchant_id()).await, both);
    let unused =
        receiving_address::Entity::unused(app.database(), "base", Timestamp::from_micros(i64::MAX)).await.unwrap();
    assert_eq!(unused.iter().map(|claim| claim.address.to_string()).collect::<Vec<_>>(), [ONE]);
    // And back again: the claim is there still.
    change(&app, &merchant, wallet.id, json!({"address": ONE})).await.unwrap();
    assert_eq!(held_by(&app, merchant.merchant_id()).await, both);
    assert_eq!(payment_order::Entity::find().all(app.database()).await.unwrap(), []);
});

on_both_databases!(somebody_elses_wallet_does_not_exist, async |db: TestDatabase| {
    let app = app(&db).await;
    let (owner, other) = (merchant(&app, "owner").await, merchant(&app, "other").await);
    let (wallet, _) = add(&app, &owner, json!({"blockchain": "base", "address": ONE})).await.unwrap();
    for id in [wallet.id.to_string(), "abc".to_owned(), "-1".to_owned(), "9".repeat(40)] {
        assert_eq!(find(&app, &other, &id).await.unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(remove(&app, &other, &id).await.unwrap_err().code, ErrorCode::NotFound);
        let fields = Fields::judged_by::<ChangeWallet>(serde_json::Map::new());
        assert_eq!(update(&app, &other, &id, fields).await.unwrap_err().code, ErrorCode::NotFound);
    }
    assert_eq!(list(&app, &other, &WalletFilter::default(), &first_page(20)).await.unwrap().count, 0);
});

on_both_databases!(a_wallet_is_taken_with_its_chains_short_name, async |db: TestDatabase| {
    let app = app(&db).await;
    let principal = merchant(&app, "alice").await;
    let body = |chain: &str, address: String| json!({"blockchain": chain, "address": address});
    for (chain, prefix) in [
        ("ethereum", "eth"),
        ("base", "base"),
        ("polygon", "pol"),
        ("polygon", "matic"),
        ("bsc", "bnb"),
        ("arbitrum", "arb1"),
        ("base", "BASE"),
    ] {
        let (wallet, _) = add(&app, &principal, body(chain, format!("{prefix}:{ONE}"))).await.unwrap();
        assert_eq!(wallet.address.unwrap().to_string(), ONE, "{prefix}");
        remove(&app, &principal, &wallet.id.to_string()).await.unwrap();
    }
    for (prefix, words) in [
        (
            "eth",
            "\"eth:\" names Ethereum, and this wallet is on Base. Send the address alone, or with \"base:\" before it.",
        ),
        ("ethereum", "\"ethereum:\" is no name of Base. Send the address alone, or with \"base:\" before it."),
        ("", "\":\" is no name of Base. Send the address alone, or with \"base:\" before it."),
    ] {
        let error = add(&app, &principal, body("base", format!("{prefix}:{ONE}"))).await.unwrap_err();
        assert_eq!(error.details["address"], [words]);
    }
    let error = add(&app, &principal, body("base", "base:0x12".to_owned())).await.unwrap_err();
    assert!(error.details["address"][0].starts_with("Enter an EVM address"), "{error:?}");
    let (wallet, _) = add(&app, &principal, body("base", ONE.to_owned())).await.unwrap();
    let (wallet, _) = change(&app, &principal, wallet.id, json!({"address": format!("base:{TWO}")})).await.unwrap();
    assert_eq!(wallet.address.unwrap().to_string(), TWO);
    assert!(change(&app, &principal, wallet.id, json!({"address": format!("eth:{ONE}")})).await.is_err());
});
