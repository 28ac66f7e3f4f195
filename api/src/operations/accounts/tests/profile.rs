//! What a merchant changes about the own account.

use cryptopay_domain::merchant::Scope;

use super::*;
use crate::rest::auth::{ChangePassword, UpdateMe};

const NEW_PASSWORD: &str = "unicorn teapot gravel";

async fn change(app: &App, who: &Principal, body: Value) -> Result<merchant::Model, ApiError> {
    change_profile(app, who, fields::<UpdateMe>(body)).await
}

async fn new_password(app: &App, who: &Principal, current: &str, new: &str) -> Result<(), ApiError> {
    let body = json!({"current_password": current, "new_password": new});
    change_password(app, who, fields::<ChangePassword>(body)).await
}

async fn key(app: &App, who: &Principal, scopes: Value) -> Principal {
    let body = fields::<CreateApiKey>(json!({"name": "till", "scopes": scopes}));
    let (_, secret) = api_keys::create(app, who, body, once()).await.unwrap().made().unwrap();
    authenticate(app, secret.expose()).await.unwrap()
}

on_both_databases!(a_profile_changes_what_is_sent_and_keeps_the_rest, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = principal(&app, &registered(&app).await).await.unwrap();
    let changed = change(&app, &who, json!({"shop_name": " Other Shop "})).await.unwrap();
    assert_eq!((changed.shop_name.as_str(), changed.email.as_str()), ("Other Shop", "Owner@B.example"));
    let changed = change(&app, &who, json!({"email": "New@B.example", "shop_name": null})).await.unwrap();
    assert_eq!((changed.shop_name.as_str(), changed.email.as_str()), ("Other Shop", "New@B.example"));
    assert!(log_in(&app, "new@b.example", PASSWORD).await.is_ok());
    assert_eq!(refused(log_in(&app, "owner@b.example", PASSWORD).await), ErrorCode::InvalidCredentials);
    // The own address in another case is nobody else's.
    assert_eq!(change(&app, &who, json!({"email": "NEW@b.example"})).await.unwrap().email, "NEW@b.example");
    let same = change(&app, &who, json!({"email": "NEW@b.example"})).await.unwrap();
    assert_eq!(change(&app, &who, json!({})).await.unwrap(), same);

    let lines = audited(&app, "merchant.change_profile").await;
    let details: Vec<&str> = lines.iter().map(|line| line.details.as_str()).collect();
    assert_eq!(details, [r#"{"fields":["shop_name"]}"#, r#"{"fields":["email"]}"#, r#"{"fields":["email"]}"#]);
});

on_both_databases!(every_fault_of_a_profile_is_named_at_once_and_changes_nothing, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = principal(&app, &registered(&app).await).await.unwrap();
    register(&app, registration("other", "taken@b.example")).await.unwrap();
    for body in [
        json!({"email": "TAKEN@b.example", "shop_name": " "}),
        json!({"email": "nobody", "shop_name": "two\nlines"}),
        json!({"email": 5, "shop_name": ["S"]}),
        json!({"email": "", "shop_name": ""}),
    ] {
        let details = change(&app, &who, body.clone()).await.unwrap_err().details;
        assert_eq!(details.keys().collect::<Vec<_>>(), ["email", "shop_name"], "{body}");
    }
    let kept = merchant::Entity::lock(app.database(), who.merchant_id()).await.unwrap();
    assert_eq!(kept.as_ref(), Some(&*who.merchant));
    assert!(audited(&app, "merchant.change_profile").await.is_empty());
});

on_both_databases!(of_two_who_want_one_address_at_once_one_gets_it, async |db: TestDatabase| {
    let app = app(&db).await;
    let one = principal(&app, &registered(&app).await).await.unwrap();
    let other = register(&app, registration("other", "other@b.example")).await.unwrap();
    let other = principal(&app, &other).await.unwrap();
    let wanted = || json!({"email": "wanted@b.example"});
    let (one, other) = tokio::join!(change(&app, &one, wanted()), change(&app, &other, wanted()));
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(won.unwrap().email, "wanted@b.example");
    assert_eq!(lost.unwrap_err().details.keys().collect::<Vec<_>>(), ["email"]);
});

on_both_databases!(a_key_changes_the_profile_with_manage_and_the_password_never, async |db: TestDatabase| {
    let app = app(&db).await;
    let who = principal(&app, &registered(&app).await).await.unwrap();
    let (writer, manager) = (key(&app, &who, json!(["read", "write"])).await, key(&app, &who, json!(["manage"])).await);
    let body = || json!({"shop_name": "By key"});
    assert_eq!(refused(change(&app, &writer, body()).await), ErrorCode::PermissionDenied);
    assert_eq!(change(&app, &manager, body()).await.unwrap().shop_name, "By key");
    assert!(audited(&app, "merchant.change_profile").await[0].actor.starts_with("api key "));
    for who in [&writer, &manager] {
        assert_eq!(refused(new_password(&app, who, PASSWORD, NEW_PASSWORD).await), ErrorCode::PermissionDenied);
    }
});

on_both_databases!(a_new_password_takes_the_old_one_and_ends_every_login_but_no_key, async |db: TestDatabase| {
    let app = app(&db).await;
    let (one, other) = (registered(&app).await, log_in(&app, "shop-1", PASSWORD).await.unwrap());
    let who = principal(&app, &one).await.unwrap();
    let faults = async |current: &str, new: &str| {
        let details = new_password(&app, &who, current, new).await.unwrap_err().details;
        details.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(faults("correct-horse-8", "password123").await, ["current_password", "new_password"]);
    assert_eq!(faults(PASSWORD, "SHOP-1").await, ["new_password"]);
    assert_eq!(faults("correct-horse-8", NEW_PASSWORD).await, ["current_password"]);
    assert_eq!(faults("", "").await, ["current_password", "new_password"]);
    let missing = change_password(&app, &who, fields::<ChangePassword>(json!({}))).await.unwrap_err();
    assert_eq!(missing.details.keys().collect::<Vec<_>>(), ["current_password", "new_password"]);
    assert!(principal(&app, &other).await.is_ok());
    let wrong = failed_login::Entity::newest(app.database(), None, 10).await.unwrap();
    assert_eq!(
        wrong.iter().map(|sum| (sum.action.as_str(), sum.failures)).collect::<Vec<_>>(),
        [("merchant.wrong_password", 2)]
    );

    let by_key = key(&app, &who, json!(["read"])).await;
    new_password(&app, &who, PASSWORD, NEW_PASSWORD).await.unwrap();
    for session in [&one, &other] {
        assert_eq!(refused(principal(&app, session).await), ErrorCode::TokenInvalid);
        assert_eq!(refused(renew(&app, session.refresh.expose()).await), ErrorCode::TokenInvalid);
    }
    assert_eq!(refused(log_in(&app, "shop-1", PASSWORD).await), ErrorCode::InvalidCredentials);
    assert!(log_in(&app, "shop-1", NEW_PASSWORD).await.is_ok());
    assert!(by_key.require(Scope::Read).is_ok());
    // Whoever still holds what was read before the change changes nothing by it.
    assert_eq!(refused(new_password(&app, &who, PASSWORD, "zebra gravel kettle").await), ErrorCode::ValidationError);
    let lines = audited(&app, "merchant.change_password").await;
    assert_eq!(
        (lines.len(), lines[0].actor.as_str(), lines[0].details.as_str()),
        (1, "merchant", r#"{"revoked_tokens":2}"#)
    );
});
