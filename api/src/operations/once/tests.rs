use cryptopay_domain::ids::{ApiKeyId, MerchantId};
use cryptopay_domain::merchant::Scope;
use cryptopay_entity::{clock, merchant_wallet, transact};
use cryptopay_test_support::{PostgresServer, TestDatabase, block_on, on_both_databases};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};

use super::*;
use crate::operations::wallets::{self, Changed};
use crate::principal::Credential;
use crate::rest::wallets::CreateWallet;
use crate::testing::{app, fields, merchant};

const ADDRESS: &str = "0x00000000000000000000000000000000000000a1";

fn body(label: &str) -> Value {
    json!({"blockchain": "base", "address": ADDRESS, "label": label})
}

async fn add(app: &App, who: &Principal, key: &str, body: Value) -> Result<Outcome<Changed>, ApiError> {
    let mut fields = fields::<CreateWallet>(body);
    let words = |(wallet, message): &Changed| Answer {
        data: json!({"id": wallet.id.to_string(), "label": wallet.label}),
        message: message.clone(),
        timestamp: "2026-01-01T00:00:00Z".to_owned(),
    };
    let once = Once::new(who, Some(key), "createMerchantWallet", &mut fields, words);
    wallets::create(app, who, fields, once).await
}

async fn wallets_of(app: &App, merchant: MerchantId) -> u64 {
    let owned = merchant_wallet::Entity::find().filter(merchant_wallet::Column::MerchantId.eq(merchant));
    owned.count(app.database()).await.unwrap()
}

fn first(outcome: Outcome<Changed>) -> Answer {
    match outcome {
        Outcome::First(_, answer) => answer,
        Outcome::Again(answer) => panic!("given before: {answer:?}"),
    }
}

fn again(outcome: Outcome<Changed>) -> Answer {
    match outcome {
        Outcome::Again(answer) => answer,
        Outcome::First(_, answer) => panic!("made anew: {answer:?}"),
    }
}

on_both_databases!(
    the_same_request_with_the_same_key_has_its_effect_once_and_its_answer_twice,
    async |db: TestDatabase| {
        let app = app(&db).await;
        let who = merchant(&app, "shop").await;
        let made = first(add(&app, &who, "k-1", body("till")).await.unwrap());
        // By itself it would be refused: the address is there already.
        assert_eq!(again(add(&app, &who, "k-1", body("till")).await.unwrap()), made);
        assert_eq!(wallets_of(&app, who.merchant_id()).await, 1);
        assert_eq!(add(&app, &who, "k-2", body("till")).await.unwrap_err().code, ErrorCode::ValidationError);
    }
);

on_both_databases!(a_key_belongs_to_one_request_of_one_merchant, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = merchant(&app, "shop").await;
    first(add(&app, &who, "k-1", body("till")).await.unwrap());
    let other = add(&app, &who, "k-1", body("desk")).await.unwrap_err();
    assert_eq!(other.code, ErrorCode::IdempotencyKeyReused);
    let neighbour = merchant(&app, "neighbour").await;
    first(add(&app, &neighbour, "k-1", body("till")).await.unwrap());
});

on_both_databases!(a_key_belongs_to_one_kind_of_credential_and_its_scopes, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = merchant(&app, "shop").await;
    let with = |id: i64, scopes: &[Scope]| Principal {
        credential: Credential::Key { id: ApiKeyId(id), scopes: scopes.to_vec(), expires_at: None },
        ..who.clone()
    };
    let all = with(1, &[Scope::Read, Scope::Write, Scope::Manage]);
    let made = first(add(&app, &all, "k-1", body("till")).await.unwrap());
    // A key that may do the same, such as the one that has replaced it, hears the same.
    let same = with(2, &[Scope::Manage, Scope::Read, Scope::Write]);
    assert_eq!(again(add(&app, &same, "k-1", body("till")).await.unwrap()), made);
    for other in [&who, &with(3, &[Scope::Read, Scope::Manage])] {
        let refused = add(&app, other, "k-1", body("till")).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::IdempotencyKeyReused);
    }
});

on_both_databases!(requests_that_mean_the_same_are_the_same, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = merchant(&app, "shop").await;
    let made = first(add(&app, &who, "k-1", json!({"blockchain": "base", "address": ADDRESS})).await.unwrap());
    let other_words = json!({"blockchain": "BASE", "address": ADDRESS, "label": null, "is_active": null});
    assert_eq!(again(add(&app, &who, "k-1", other_words).await.unwrap()), made);
});

on_both_databases!(a_refusal_is_not_kept, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = merchant(&app, "shop").await;
    let wrong = json!({"blockchain": "base", "address": "0x0"});
    assert_eq!(add(&app, &who, "k-1", wrong).await.unwrap_err().code, ErrorCode::ValidationError);
    first(add(&app, &who, "k-1", body("till")).await.unwrap());
});

on_both_databases!(two_requests_at_once_have_one_effect, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = merchant(&app, "shop").await;
    let both = tokio::join!(add(&app, &who, "k-1", body("till")), add(&app, &who, "k-1", body("till")));
    let made = [both.0.unwrap(), both.1.unwrap()].into_iter().filter(|outcome| matches!(outcome, Outcome::First(..)));
    assert_eq!(made.count(), 1);
    assert_eq!(wallets_of(&app, who.merchant_id()).await, 1);
});

on_both_databases!(after_a_day_a_key_is_free_again, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = merchant(&app, "shop").await;
    first(add(&app, &who, "k-1", body("till")).await.unwrap());
    let now = clock::database_now(app.database()).await.unwrap();
    idempotency_key::Entity::update_many()
        .set(idempotency_key::ActiveModel {
            created_at: Set(now.minus(idempotency_key::KEPT_FOR)),
            ..Default::default()
        })
        .exec(app.database())
        .await
        .unwrap();
    // Judged anew, and refused for what is there by now.
    assert_eq!(add(&app, &who, "k-1", body("till")).await.unwrap_err().code, ErrorCode::ValidationError);
    let polygon = json!({"blockchain": "polygon", "address": ADDRESS});
    first(add(&app, &who, "k-1", polygon).await.unwrap());
});

on_both_databases!(what_is_kept_cannot_be_read_without_the_secret, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = merchant(&app, "shop").await;
    first(add(&app, &who, "k-1", body("till")).await.unwrap());
    let row = idempotency_key::Entity::find().one(app.database()).await.unwrap().unwrap();
    assert_eq!(row.status, Some(201));
    assert!(!row.body.unwrap().contains("till"));
});

on_both_databases!(a_key_is_visible_ascii_of_bounded_length, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = merchant(&app, "shop").await;
    for key in ["", "two words", "schlüssel", &"x".repeat(256)] {
        let refused = add(&app, &who, key, body("till")).await.unwrap_err();
        assert_eq!(refused.details.keys().collect::<Vec<_>>(), ["Idempotency-Key"], "{key:?}");
    }
    // Beside whatever else is wrong.
    let refused = add(&app, &who, "two words", json!({"blockchain": "base", "address": "0x0"})).await.unwrap_err();
    assert_eq!(refused.details.keys().collect::<Vec<_>>(), ["Idempotency-Key", "address"]);
    first(add(&app, &who, &"x".repeat(255), body("till")).await.unwrap());
});

/// SQLite has one writer: the second request begins after the first has ended.
#[test]
fn a_key_that_is_in_use_answers_409_in_any_language() {
    block_on(async {
        in_use_is_409(&TestDatabase::postgres().await).await;
        let server = PostgresServer::start_in("de_DE");
        in_use_is_409(&TestDatabase::postgres_in(&server).await).await;
    });
}

async fn in_use_is_409(db: &TestDatabase) {
    let app = app(db).await;
    let who = merchant(&app, "shop").await;
    let running = cryptopay_entity::txn::begin(app.database()).await.unwrap();
    let begun = idempotency_key::Entity::begin(&running, who.merchant_id(), "k-1", "of the first").await;
    assert!(begun.unwrap());
    let told: Result<(), Stop> = transact!(app.database(), |txn| {
        sea_orm::ConnectionTrait::execute_unprepared(txn, "SET LOCAL lock_timeout = '50ms'").await?;
        let once = Once::<()>::new(&who, Some("k-1"), "x", &mut Fields::default(), |()| Answer::default());
        once.begin(&app, txn).await.map(drop)
    });
    let Err(Stop::Answer(error)) = told else { panic!("{told:?}") };
    assert_eq!((error.code, error.retry_after_secs), (ErrorCode::IdempotencyKeyInUse, Some(1)));
}

#[test]
fn a_terminated_backend_answers_503_in_any_language() {
    block_on(async {
        terminated_is_503(&TestDatabase::postgres().await).await;
        let server = PostgresServer::start_in("de_DE");
        terminated_is_503(&TestDatabase::postgres_in(&server).await).await;
    });
}

async fn terminated_is_503(db: &TestDatabase) {
    let statement = "SELECT pg_terminate_backend(pg_backend_pid())";
    let ended = sea_orm::ConnectionTrait::execute_unprepared(db.connection(), statement).await.unwrap_err();
    assert_eq!(ApiError::from(ended).code, ErrorCode::ServiceUnavailable);
}
