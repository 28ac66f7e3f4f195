//! What logging in costs, and what is written of it.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordHasher};

use super::*;
use crate::caller;

async fn in_order(app: &App) -> Vec<audit_log::Model> {
    audit_log::Entity::find().order_by_asc(audit_log::Column::Id).all(app.database()).await.unwrap()
}

/// Stores the hash that a version with other costs would have made.
async fn store_cheap_hash(app: &App) -> String {
    let cheap = Argon2::from(Params::new(8 * 1_024, 1, 1, None).unwrap());
    let hash: PasswordHash = cheap.hash_password_with_salt(PASSWORD.as_bytes(), &[7; 16]).unwrap();
    let hash = hash.to_string();
    let change = merchant::Entity::update_many().col_expr(merchant::Column::PasswordHash, Expr::value(&hash));
    change.exec(app.database()).await.unwrap();
    hash
}

on_both_databases!(an_unknown_user_and_a_wrong_password_cost_the_same_work, async |db: TestDatabase| {
    let app = app(&db).await;
    registered(&app).await;
    for name in ["shop-1", "owner@b.example", "nobody", "nobody@b.example", "%", "' OR 1=1 --"] {
        let before = app.passwords.computed();
        assert_eq!(refused(log_in(&app, name, "correct-horse-8").await), ErrorCode::InvalidCredentials);
        assert_eq!(app.passwords.computed(), before + 1, "{name}");
    }
});

on_both_databases!(a_hash_with_the_costs_of_former_times_is_renewed_by_the_next_login, async |db: TestDatabase| {
    let app = app(&db).await;
    let session = registered(&app).await;
    let cheap = store_cheap_hash(&app).await;
    assert_eq!(refused(log_in(&app, "shop-1", "correct-horse-8").await), ErrorCode::InvalidCredentials);
    // Several at once: each hashes anew, one is stored, and all are let in.
    let (one, two, three) = tokio::join!(
        log_in(&app, "shop-1", PASSWORD),
        log_in(&app, "shop-1", PASSWORD),
        log_in(&app, "shop-1", PASSWORD),
    );
    assert!([one, two, three].iter().all(Result::is_ok));
    let stored = principal(&app, &session).await.unwrap().merchant.password_hash.clone();
    assert!(stored != cheap && stored.contains("m=19456,t=2,p=1"), "{stored}");
    assert!(log_in(&app, "shop-1", PASSWORD).await.is_ok());
    assert_eq!(principal(&app, &session).await.unwrap().merchant.password_hash, stored);
});

on_both_databases!(logins_are_written_with_who_and_from_where, async |db: TestDatabase| {
    let app = app(&db).await;
    let address = Some("203.0.113.9".parse().unwrap());
    let id = registered(&app).await.merchant.id;
    caller::on_behalf_of(address, async {
        let session = log_in(&app, "shop-1", PASSWORD).await.unwrap();
        logout(&app, &principal(&app, &session).await.unwrap()).await.unwrap();
        refused(log_in(&app, "shop-1", "correct-horse-8").await);
        refused(log_in(&app, PASSWORD, "shop-1").await);
    })
    .await;
    let lines = in_order(&app).await;
    let told: Vec<_> = lines.iter().map(|line| (line.action.as_str(), line.actor.as_str(), line.merchant_id)).collect();
    assert_eq!(
        told,
        [
            ("merchant.create", "registration", Some(id)),
            ("login.open", "merchant", Some(id)),
            ("login.end", "merchant", Some(id)),
            ("login.fail", "somebody", Some(id)),
            ("login.fail", "somebody", None),
        ]
    );
    assert_eq!(lines[0].address, None);
    assert!(lines[1..].iter().all(|line| line.address.as_deref() == Some("203.0.113.9")));
    // A name that nobody has may be a password.
    assert!(lines.iter().all(|line| !format!("{line:?}").contains(PASSWORD)));
});

on_both_databases!(strangers_cannot_fill_the_log, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = registered(&app).await.merchant;
    let now = clock::database_now(app.database()).await.unwrap();
    let count = async |of: Option<MerchantId>| {
        in_order(&app).await.iter().filter(|line| line.action == "login.fail" && line.merchant_id == of).count()
    };
    for _ in 0..35 {
        crate::operations::audit::failed_login(app.database(), Some(&merchant), now).await.unwrap();
    }
    assert_eq!(count(Some(merchant.id)).await, 30);
    for _ in 0..105 {
        crate::operations::audit::failed_login(app.database(), None, now).await.unwrap();
    }
    assert_eq!(count(None).await, 100);
    // An hour later there is room again, and one account's do not take another's.
    let later = now.plus(Duration::from_secs(3_601));
    crate::operations::audit::failed_login(app.database(), Some(&merchant), later).await.unwrap();
    assert_eq!(count(Some(merchant.id)).await, 31);
});
