//! Ownership: challenges, signatures, and two merchants with one address.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cryptopay_chain::{ChainClient, EvmClient, Limits};
use cryptopay_domain::address::Hash;
use cryptopay_domain::order::{FailureReason, OrderStatus};
use cryptopay_entity::{chain_cursor, event};
use cryptopay_jobs::ChainAccess;
use cryptopay_sandbox::SimulatedChain;
use cryptopay_test_support::{Anvil, Manner, Signer};

use super::*;
use crate::operations::payment_orders;
use crate::operations::wallets::challenge::Subject;
use crate::rest::types::CreatePaymentOrder;
use crate::rest::wallets::VerifyWallet;
use crate::testing::app_over;

const LIVE: [(&str, &str); 3] = [
    ("CRYPTOPAY_MODE", "live"),
    ("CRYPTOPAY_PUBLIC_URL", "https://pay.example.com"),
    ("CRYPTOPAY_RPC_BASE", "https://rpc.example"),
];

/// A chain that is read through this client, as the key of the map of all.
fn base(app: &App, client: EvmClient) -> BTreeMap<String, ChainAccess> {
    let client: Arc<dyn ChainClient> = Arc::new(client);
    BTreeMap::from([("base".to_owned(), ChainAccess::new(app.chain("base").unwrap().clone(), client))])
}

/// A live gateway that reads Base through a node, and is read to its first block.
async fn live_on(db: &TestDatabase, node: &Anvil) -> App {
    let client = EvmClient::http(&node.url().parse().unwrap(), Limits::default()).unwrap();
    let app = app_with(db, &LIVE).await;
    app_over(db, &LIVE, base(&app, client))
}

/// A sandbox gateway with the simulated chain.
async fn simulated(db: &TestDatabase) -> App {
    let app = app(db).await;
    let transport = SimulatedChain::new(db.connection().clone(), Arc::new(app.chain("base").unwrap().clone()));
    app_over(db, &[], base(&app, EvmClient::over(transport, "simulated base", Limits::default())))
}

async fn wallet_of(app: &App, principal: &Principal, address: &str) -> Model {
    add(app, principal, json!({"blockchain": "base", "address": address})).await.unwrap().0
}

async fn text_for(app: &App, principal: &Principal, wallet: &Model) -> String {
    challenge(app, principal, &wallet.id.to_string()).await.unwrap().1.text
}

async fn send(app: &App, principal: &Principal, wallet: &Model, signature: &str) -> Result<Changed, ApiError> {
    let body = json!({"signature": signature});
    let fields = Fields::judged_by::<VerifyWallet>(body.as_object().unwrap().clone());
    verify(app, principal, &wallet.id.to_string(), fields).await
}

async fn prove(app: &App, principal: &Principal, wallet: &Model, signer: &Signer) -> Result<Changed, ApiError> {
    let text = text_for(app, principal, wallet).await;
    send(app, principal, wallet, &signer.sign(&text)).await
}

async fn again(app: &App, principal: &Principal, wallet: &Model) -> Model {
    find(app, principal, &wallet.id.to_string()).await.unwrap()
}

async fn actions(app: &App, principal: &Principal) -> Vec<String> {
    let rows = audit_log::Entity::find().filter(audit_log::Column::MerchantId.eq(principal.merchant_id()));
    rows.all(app.database()).await.unwrap().into_iter().map(|row| row.action).collect()
}

/// Lets orders be made on Base: somebody has read a block of it, just now.
async fn begin(app: &App) {
    let now = clock::business_now(app.database()).await.unwrap();
    let hash: Hash = format!("0x{}", "11".repeat(32)).parse().unwrap();
    assert!(chain_cursor::Entity::begin(app.database(), "base", 7, hash, now, now).await.unwrap());
}

async fn order(app: &App, principal: &Principal, nonce: i64) -> Result<payment_order::Model, ApiError> {
    let body = json!({
        "amount": "10.00", "currency": "USDC", "blockchain": "base", "order_info": "{}", "nonce": nonce,
    });
    let fields = Fields::judged_by::<CreatePaymentOrder>(body.as_object().unwrap().clone());
    let made = payment_orders::create(app, principal, fields, once()).await?.made().unwrap();
    Ok(payment_order::Entity::find_by_id(made.id).one(app.database()).await.unwrap().unwrap())
}

on_both_databases!(a_signature_by_the_addresss_key_proves_a_wallet, async |db: TestDatabase| {
    let app = live(&db).await;
    let shop = merchant(&app, "shop").await;
    let signer = Signer::new(1);
    let wallet = wallet_of(&app, &shop, &signer.address().to_string()).await;
    let (proven, message) = prove(&app, &shop, &wallet, &signer).await.unwrap();
    assert_eq!(proven.ownership, Ownership::Proven);
    assert!(proven.is_active && message.starts_with("The wallet is proven"), "{message}");
    assert_eq!(again(&app, &shop, &wallet).await, proven);
    assert_eq!(actions(&app, &shop).await, ["wallet.create", "wallet.verify"]);
    // Once more, with a challenge of its own.
    prove(&app, &shop, &wallet, &signer).await.unwrap();
    // The proof is the address's: it lasts while the merchant holds it, and is not taken along to another.
    let (moved, _) = change(&app, &shop, wallet.id, json!({"address": ONE})).await.unwrap();
    assert_eq!(moved.ownership, Ownership::Unproven);
    let back = json!({"address": signer.address().to_string()});
    let (back, _) = change(&app, &shop, wallet.id, back).await.unwrap();
    assert_eq!(back.ownership, Ownership::Proven);
});

on_both_databases!(a_challenge_names_everything_that_it_is_about, async |db: TestDatabase| {
    let app = live(&db).await;
    let shop = merchant(&app, "shop").await;
    let wallet = wallet_of(&app, &shop, ONE).await;
    let (_, challenge) = challenge(&app, &shop, &wallet.id.to_string()).await.unwrap();
    for part in ["https://pay.example.com", "Account: shop\n", "Base (chain id 8453)", ONE, "Nonce: ", "Expires: "] {
        assert!(challenge.text.contains(part), "{part}: {}", challenge.text);
    }
    assert!(challenge.text.contains(&challenge.expires_at.to_string()));
    assert_eq!(text_for(&app, &shop, &wallet).await, challenge.text, "asking changes nothing");
});

on_both_databases!(a_signature_is_good_for_one_wallet_of_one_merchant_once, async |db: TestDatabase| {
    let app = simulated(&db).await;
    let (shop, other) = (merchant(&app, "shop").await, merchant(&app, "other").await);
    let signer = Signer::new(1);
    let address = signer.address().to_string();
    let (wallet, others) = (wallet_of(&app, &shop, &address).await, wallet_of(&app, &other, &address).await);
    let body = json!({"blockchain": "polygon", "address": address});
    let (elsewhere, _) = add(&app, &shop, body).await.unwrap();
    let signature = signer.sign(&text_for(&app, &shop, &wallet).await);
    let refused = |outcome: Result<Changed, ApiError>| {
        let error = outcome.unwrap_err();
        assert!(error.code == ErrorCode::ServiceUnavailable || faulty(&error) == ["signature"], "{error}");
    };
    refused(send(&app, &other, &others, &signature).await);
    refused(send(&app, &shop, &elsewhere, &signature).await);
    send(&app, &shop, &wallet, &signature).await.unwrap();
    refused(send(&app, &shop, &wallet, &signature).await);
    assert_eq!(again(&app, &other, &others).await.ownership, Ownership::Unproven);
    // A change of the wallet makes a challenge void.
    let signature = signer.sign(&text_for(&app, &other, &others).await);
    change(&app, &other, others.id, json!({"label": "till"})).await.unwrap();
    refused(send(&app, &other, &others, &signature).await);
});

on_both_databases!(a_signature_of_another_key_or_text_proves_nothing, async |db: TestDatabase| {
    let app = simulated(&db).await;
    let shop = merchant(&app, "shop").await;
    let signer = Signer::new(1);
    let wallet = wallet_of(&app, &shop, &signer.address().to_string()).await;
    let text = text_for(&app, &shop, &wallet).await;
    for signature in [
        Signer::new(2).sign(&text),
        signer.sign(&text.replace("Nonce: ", "Nonce: 0")),
        signer.sign(""),
        "0x".to_owned(),
        format!("0x{}", "00".repeat(65)),
        format!("0x{}", "ff".repeat(8 * 1024)),
    ] {
        let error = send(&app, &shop, &wallet, &signature).await.unwrap_err();
        assert_eq!(faulty(&error), ["signature"]);
        assert!(error.details["signature"][0].contains("no contract wallet"), "{error:?}");
    }
    for malformed in ["", "0x0", "signed", &format!("0x{}", "00".repeat(8 * 1024 + 1))] {
        assert_eq!(faulty(&send(&app, &shop, &wallet, malformed).await.unwrap_err()), ["signature"]);
    }
    assert_eq!(again(&app, &shop, &wallet).await.ownership, Ownership::Unproven);
    assert_eq!(actions(&app, &shop).await, ["wallet.create"]);
});

on_both_databases!(a_challenge_expires, async |db: TestDatabase| {
    let app = app(&db).await;
    let shop = merchant(&app, "shop").await;
    let wallet = wallet_of(&app, &shop, ONE).await;
    let subject = Subject {
        app: &app,
        merchant: &shop.merchant,
        wallet: &wallet,
        chain: app.chain("base").unwrap(),
        address: wallet.address.unwrap(),
    };
    let now = clock::database_now(app.database()).await.unwrap();
    let made = subject.current(now);
    let good_at = |time: Timestamp| subject.texts(time).contains(&made.text);
    assert!(good_at(now) && good_at(made.expires_at.minus(Duration::from_secs(1))));
    assert!(!good_at(made.expires_at) && !good_at(made.expires_at.plus(Duration::from_secs(86_400))));
});

on_both_databases!(the_proven_owner_takes_the_address_and_open_orders_of_the_other_fail, async |db: TestDatabase| {
    let app = live(&db).await;
    begin(&app).await;
    let (holder, owner) = (merchant(&app, "holder").await, merchant(&app, "owner").await);
    let signer = Signer::new(1);
    let address = signer.address().to_string();
    let held = wallet_of(&app, &holder, &address).await;
    let waiting = order(&app, &holder, 1).await.unwrap();
    let disputed = wallet_of(&app, &owner, &address).await;
    assert_eq!(disputed.ownership, Ownership::Disputed);
    assert_eq!(faulty(&order(&app, &owner, 1).await.unwrap_err()), ["blockchain"]);

    let (proven, message) = prove(&app, &owner, &disputed, &signer).await.unwrap();
    assert!(proven.is_active && proven.ownership == Ownership::Proven, "it would have been active from the beginning");
    assert!(message.contains("no longer does") && message.contains("active on base"), "{message}");
    let lost = again(&app, &holder, &held).await;
    assert_eq!((lost.is_active, lost.ownership), (false, Ownership::Disputed));
    let failed = payment_order::Entity::find_by_id(waiting.id).one(app.database()).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.version), (OrderStatus::Failed, 2));
    assert_eq!(failed.failure_reason, Some(FailureReason::AddressClaimedByOwner));
    let told = event::Entity::of_order(app.database(), holder.merchant_id(), waiting.id).await.unwrap();
    assert_eq!(told.last().unwrap().cause, "the address was claimed by its proven owner");
    assert_eq!(held_by(&app, holder.merchant_id()).await, BTreeSet::new());
    assert_eq!(held_by(&app, owner.merchant_id()).await, [(address.clone(), disputed.id)].into());
    assert_eq!(actions(&app, &holder).await, ["wallet.create", "wallet.displaced"]);
    assert_eq!(actions(&app, &owner).await, ["wallet.create", "wallet.verify", "wallet.take_over"]);

    // From here on the owner is paid there, and the other is not.
    order(&app, &owner, 1).await.unwrap();
    assert_eq!(faulty(&order(&app, &holder, 2).await.unwrap_err()), ["blockchain"]);
    let error = change(&app, &holder, held.id, json!({"is_active": true})).await.unwrap_err();
    assert_eq!(faulty(&error), ["is_active"]);
    // Not even with the same key: a proven owner is never displaced.
    let error = prove(&app, &holder, &held, &signer).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidState);
    assert_eq!(held_by(&app, owner.merchant_id()).await, [(address, disputed.id)].into());
});

on_both_databases!(of_two_who_prove_at_once_one_becomes_the_owner, async |db: TestDatabase| {
    let app = live(&db).await;
    begin(&app).await;
    let signer = Signer::new(1);
    let address = signer.address().to_string();
    let mut claims = Vec::new();
    for name in ["holder", "one", "two", "three"] {
        let merchant = merchant(&app, name).await;
        let wallet = wallet_of(&app, &merchant, &address).await;
        claims.push((merchant, wallet));
    }
    let waiting = order(&app, &claims[0].0, 1).await.unwrap();
    let proving = claims[1..].iter().map(|(merchant, wallet)| prove(&app, merchant, wallet, &signer));
    let proven = futures_util::future::join_all(proving).await;
    assert_eq!(proven.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{proven:?}");
    let refused = proven.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(refused.into_iter().all(|error| error.code == ErrorCode::InvalidState), "{proven:?}");
    let mut owners = 0;
    for (merchant, wallet) in &claims {
        let wallet = again(&app, merchant, wallet).await;
        let holds = !held_by(&app, merchant.merchant_id()).await.is_empty();
        assert_eq!((wallet.is_active, wallet.ownership == Ownership::Proven), (holds, holds));
        owners += usize::from(holds);
    }
    assert_eq!(owners, 1);
    let failed = payment_order::Entity::find_by_id(waiting.id).one(app.database()).await.unwrap().unwrap();
    assert_eq!((failed.status, failed.version), (OrderStatus::Failed, 2));
});

on_both_databases!(a_change_by_the_holder_does_not_undo_its_displacement, async |db: TestDatabase| {
    let app = live(&db).await;
    begin(&app).await;
    let (holder, owner) = (merchant(&app, "holder").await, merchant(&app, "owner").await);
    let signer = Signer::new(1);
    let address = signer.address().to_string();
    let held = wallet_of(&app, &holder, &address).await;
    let disputed = wallet_of(&app, &owner, &address).await;
    let labels: Vec<Value> = (0..5).map(|n| json!({"label": format!("till {n}")})).collect();
    let changing = futures_util::future::join_all(labels.into_iter().map(|body| change(&app, &holder, held.id, body)));
    let (changed, proven) = tokio::join!(changing, prove(&app, &owner, &disputed, &signer));
    assert!(changed.iter().all(Result::is_ok) && proven.is_ok(), "{changed:?} {proven:?}");
    let lost = again(&app, &holder, &held).await;
    assert_eq!((lost.is_active, lost.ownership), (false, Ownership::Disputed));
});

on_both_databases!(in_the_sandbox_a_proof_displaces_nobody, async |db: TestDatabase| {
    let app = app(&db).await;
    begin(&app).await;
    let (one, other) = (merchant(&app, "one").await, merchant(&app, "other").await);
    let signer = Signer::new(1);
    let mut wallets = Vec::new();
    for merchant in [&one, &other] {
        wallets.push(wallet_of(&app, merchant, &signer.address().to_string()).await);
    }
    let waiting = order(&app, &one, 1).await.unwrap();
    for (merchant, wallet) in [(&other, &wallets[1]), (&one, &wallets[0])] {
        let (proven, _) = prove(&app, merchant, wallet, &signer).await.unwrap();
        assert!(proven.is_active && proven.ownership == Ownership::Proven);
    }
    let row = payment_order::Entity::find_by_id(waiting.id).one(app.database()).await.unwrap().unwrap();
    assert_eq!(row, waiting);
});

on_both_databases!(a_contract_wallet_is_asked_on_its_chain, async |db: TestDatabase| {
    let node = Anvil::start(8453).await;
    let app = live_on(&db, &node).await;
    begin(&app).await;
    let (holder, shop) = (merchant(&app, "holder").await, merchant(&app, "shop").await);
    let signer = Signer::new(1);
    let contract = node.smart_wallet(signer.address(), Manner::Honest).await.to_string();
    wallet_of(&app, &holder, &contract).await;
    let waiting = order(&app, &holder, 1).await.unwrap();
    let wallet = wallet_of(&app, &shop, &contract).await;
    let text = text_for(&app, &shop, &wallet).await;
    let error = send(&app, &shop, &wallet, &Signer::new(2).sign(&text)).await.unwrap_err();
    assert!(error.details["signature"][0].contains("EIP-1271"), "{error:?}");

    // While the chain cannot be asked, nothing is known and nothing changes.
    let before = again(&app, &shop, &wallet).await;
    node.stop();
    let error = send(&app, &shop, &wallet, &signer.sign(&text)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ServiceUnavailable);
    assert_eq!(again(&app, &shop, &wallet).await, before);
    assert_eq!(held_by(&app, shop.merchant_id()).await, BTreeSet::new());
    let untouched = payment_order::Entity::find_by_id(waiting.id).one(app.database()).await.unwrap().unwrap();
    assert_eq!(untouched, waiting);

    node.start_again();
    // A process of its own, to whom the node was never away.
    let app = live_on(&db, &node).await;
    let (proven, _) = send(&app, &shop, &wallet, &signer.sign(&text)).await.unwrap();
    assert_eq!(proven.ownership, Ownership::Proven);
    let failed = payment_order::Entity::find_by_id(waiting.id).one(app.database()).await.unwrap().unwrap();
    assert_eq!(failed.status, OrderStatus::Failed);
});

on_both_databases!(somebody_elses_wallet_cannot_be_verified, async |db: TestDatabase| {
    let app = app(&db).await;
    let (owner, other) = (merchant(&app, "owner").await, merchant(&app, "other").await);
    let wallet = wallet_of(&app, &owner, ONE).await;
    for id in [wallet.id.to_string(), "abc".to_owned(), "-1".to_owned()] {
        assert_eq!(challenge(&app, &other, &id).await.unwrap_err().code, ErrorCode::NotFound);
    }
    assert_eq!(send(&app, &other, &wallet, "0x").await.unwrap_err().code, ErrorCode::NotFound);
});
