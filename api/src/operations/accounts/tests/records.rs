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
        ]
    );
    assert_eq!(lines[1].details, "{\"new_address\":true}");
    let failed = failed_login::Entity::newest(app.database(), None, 10).await.unwrap();
    let mut failed: Vec<_> = failed.iter().map(|sum| (sum.merchant(), sum.address.as_str(), sum.failures)).collect();
    failed.sort();
    assert_eq!(failed, [(None, "203.0.113.9", 1), (Some(id), "203.0.113.9", 1)]);
    assert_eq!(lines[0].address, None);
    assert!(lines[1..].iter().all(|line| line.address.as_deref() == Some("203.0.113.9")));
    // A name that nobody has may be a password.
    assert!(lines.iter().all(|line| !format!("{line:?}").contains(PASSWORD)));
});

on_both_databases!(failures_are_summed_by_address_and_strangers_fill_nothing, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = registered(&app).await.merchant;
    let now = Timestamp::from_micros(1_800_000_000_000_000);
    let fail = async |address: &str, of: Option<&merchant::Model>, now: Timestamp| {
        let address = Some(address.parse().unwrap());
        caller::on_behalf_of(address, crate::operations::audit::failed_login(app.database(), of, now)).await.unwrap();
    };
    for _ in 0..35 {
        fail("203.0.113.9", Some(&merchant), now).await;
    }
    fail("203.0.113.10", Some(&merchant), now).await;
    let later = now.plus(Duration::from_secs(3_600));
    fail("203.0.113.9", Some(&merchant), later).await;
    fail("203.0.113.9", None, later).await;
    let sums = async |of: Option<MerchantId>| {
        let sums = failed_login::Entity::newest(app.database(), of, 10_000).await.unwrap();
        sums.into_iter().map(|sum| (sum.address, sum.failures)).collect::<Vec<_>>()
    };
    let mut of_account = sums(Some(merchant.id)).await;
    of_account.sort();
    let expected = [("203.0.113.10", 1), ("203.0.113.9", 1), ("203.0.113.9", 35)];
    assert_eq!(of_account, expected.map(|(address, failures)| (address.to_owned(), failures)));
    // The operator reads them beside the log.
    let lines = crate::operations::audit::newest(app.database(), Some(merchant.id), 2).await.unwrap();
    assert_eq!((lines[0].at, lines[0].subject.as_str(), &lines[0].details["failures"]), (later, "Shop-1", &json!(1)));
    assert_eq!(lines.len(), 2);
    // A thousand addresses have their own sums; the rest of the hour's is one.
    let filled = format!(
        "INSERT INTO failed_login (merchant_id, hour, action, address, failures, first_at, last_at) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) \
         SELECT 0, {}, 'login.fail', 'a' || CAST(i AS TEXT), 1, 0, 0 FROM n",
        later.as_micros()
    );
    app.database().execute_unprepared(&filled).await.unwrap();
    for address in ["203.0.113.11", "203.0.113.12", "203.0.113.9"] {
        fail(address, None, later).await;
    }
    let all = sums(Some(MerchantId(0))).await;
    assert_eq!(all.len(), 1_001);
    assert!(all.contains(&(String::new(), 2)) && all.contains(&("203.0.113.9".to_owned(), 2)));
    // Old ones go.
    let purged = failed_login::Entity::purge(app.database(), later.plus(Duration::from_secs(91 * 24 * 3_600))).await;
    assert!(purged.unwrap() > 1_001 && sums(None).await.is_empty());
});

on_both_databases!(every_login_from_a_new_address_is_written, async |db: TestDatabase| {
    let app = app(&db).await;
    registered(&app).await;
    let log_in_from = async |address: &str| {
        let address = Some(address.parse().unwrap());
        caller::on_behalf_of(address, log_in(&app, "shop-1", PASSWORD)).await.unwrap();
    };
    for _ in 0..31 {
        log_in_from("203.0.113.1").await;
    }
    assert_eq!(audited(&app, "login.open").await.len(), 30);
    for address in ["203.0.113.2", "2001:db8::1", "203.0.113.3"] {
        log_in_from(address).await;
        log_in_from(address).await;
    }
    let lines = audited(&app, "login.open").await;
    let new: Vec<_> =
        lines.iter().filter(|line| line.details.contains("new_address")).map(|line| line.address.as_deref()).collect();
    assert_eq!(new, [Some("203.0.113.1"), Some("203.0.113.2"), Some("2001:db8::1"), Some("203.0.113.3")]);
    assert_eq!(lines.len(), 33);
});
