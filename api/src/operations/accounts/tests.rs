//! What accounts and logins promise, on both databases.

mod families;
mod profile;
mod records;

use cryptopay_domain::event::EventFilter;
use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::merchant::EndpointScope;
use cryptopay_entity::{audit_log, failed_login, sandbox_inbox, webhook_endpoint};
use cryptopay_jobs::SigningSecrets;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use secrecy::ExposeSecret;
use serde_json::Value;

use std::time::Duration;

use super::*;
use crate::app::EndpointSecrets;
use crate::operations::api_keys;
use crate::principal::{Credential, Principal, authenticate};
use crate::rest::api_keys::CreateApiKey;
use crate::rest::auth::{Login, Refresh, Register, Verify};
use crate::security::tokens::RefreshToken;
use crate::testing::{PASSWORD, PUBLIC_URL, app, app_with, fields, once};

const LIVE: [(&str, &str); 4] = [
    ("CRYPTOPAY_MODE", "live"),
    ("CRYPTOPAY_PUBLIC_URL", "https://pay.example.com/"),
    ("CRYPTOPAY_RPC_BASE", "https://rpc.example"),
    ("CRYPTOPAY_REGISTRATION", "open"),
];

fn registration(username: &str, email: &str) -> Fields {
    let body = json!({"username": username, "email": email, "password": PASSWORD, "shop_name": " Shop "});
    fields::<Register>(body)
}

async fn registered(app: &App) -> Session {
    register(app, registration("Shop-1", "Owner@B.example")).await.unwrap()
}

async fn log_in(app: &App, username: &str, password: &str) -> Result<Session, ApiError> {
    login(app, fields::<Login>(json!({"username": username, "password": password}))).await
}

async fn renew(app: &App, token: &str) -> Result<Session, ApiError> {
    refresh(app, fields::<Refresh>(json!({"refresh": token}))).await
}

async fn principal(app: &App, session: &Session) -> Result<Principal, ApiError> {
    authenticate(app, session.access.expose_secret()).await
}

fn family(principal: &Principal) -> FamilyId {
    principal.require_login().unwrap().clone()
}

fn refused<T>(result: Result<T, ApiError>) -> ErrorCode {
    result.err().expect("this should be refused").code
}

/// Lets the time since every use of a refresh token grow.
async fn age_uses(app: &App, by: Duration) {
    let earlier = Expr::col(refresh_token::Column::UsedAt).sub(i64::try_from(by.as_micros()).unwrap());
    let used = refresh_token::Entity::update_many().col_expr(refresh_token::Column::UsedAt, earlier);
    used.filter(refresh_token::Column::UsedAt.is_not_null()).exec(app.database()).await.unwrap();
}

async fn audited(app: &App, action: &str) -> Vec<audit_log::Model> {
    let lines = audit_log::Entity::find().filter(audit_log::Column::Action.eq(action));
    lines.order_by_asc(audit_log::Column::Id).all(app.database()).await.unwrap()
}

on_both_databases!(registering_makes_everything_an_account_needs_and_logs_in, async |db: TestDatabase| {
    let app = app(&db).await;
    let session = registered(&app).await;
    let merchant = principal(&app, &session).await.unwrap().merchant;
    assert_eq!(*merchant, session.merchant);
    assert_eq!((merchant.username.as_str(), merchant.email.as_str()), ("Shop-1", "Owner@B.example"));
    assert_eq!((merchant.shop_name.as_str(), merchant.plan), ("Shop", Plan::Standard));
    assert_eq!((merchant.payment_settings.as_str(), merchant.requests_per_hour()), ("{}", 1_000));
    assert_eq!(session.expires_in, Duration::from_secs(24 * 3_600));

    let endpoints = webhook_endpoint::Entity::receiving(app.database(), [merchant.id]).await.unwrap();
    let [implicit, inbox] = endpoints.as_slice() else { panic!("{endpoints:?}") };
    assert_eq!((implicit.scope, implicit.url.as_deref()), (EndpointScope::Order, None));
    assert_eq!(implicit.filter(), EventFilter::default());
    let token = sandbox_inbox::Entity::of(app.database(), merchant.id).await.unwrap().unwrap().token;
    let url = format!("{PUBLIC_URL}/sandbox/inbox/{token}");
    assert_eq!((inbox.scope, inbox.url.as_deref()), (EndpointScope::Merchant, Some(url.as_str())));
    assert_eq!((inbox.filter(), inbox.description.as_str()), (EventFilter::All, "Sandbox inbox"));
    let secrets = EndpointSecrets(app.keys.clone());
    let open = |endpoint| secrets.open(endpoint, merchant.created_at).unwrap();
    let (first, second) = (open(implicit), open(inbox));
    assert!(first[0].starts_with("whsec_") && second[0].starts_with("whsec_") && first != second);

    let lines = audited(&app, "merchant.create").await;
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].merchant_id, lines[0].actor.as_str()), (Some(merchant.id), "registration"));
});

on_both_databases!(a_live_account_has_no_inbox, async |db: TestDatabase| {
    let app = app_with(&db, &LIVE).await;
    let session = registered(&app).await;
    let endpoints = webhook_endpoint::Entity::receiving(app.database(), [session.merchant.id]).await.unwrap();
    assert_eq!(endpoints.iter().map(|endpoint| endpoint.scope).collect::<Vec<_>>(), [EndpointScope::Order]);
    assert_eq!(sandbox_inbox::Entity::find().count(app.database()).await.unwrap(), 0);
});

on_both_databases!(every_fault_of_a_registration_is_named_at_once, async |db: TestDatabase| {
    let app = app(&db).await;
    registered(&app).await;
    let faults = async |body: Value| register(&app, fields::<Register>(body)).await.unwrap_err().details;
    let missing = faults(json!({})).await;
    assert_eq!(missing.keys().collect::<Vec<_>>(), ["email", "password", "shop_name", "username"]);

    let body = json!({"username": "a b", "email": "a@b@c", "password": "password123", "shop_name": "  "});
    let wrong = faults(body).await;
    assert_eq!(wrong.keys().collect::<Vec<_>>(), ["email", "password", "shop_name", "username"]);

    // A name that is taken is named beside faults that need no database.
    let body = json!({"username": "sHOP-1", "email": "oWNER@b.EXAMPLE", "password": "short", "shop_name": 5});
    let taken = faults(body).await;
    assert_eq!(taken["username"], ["This username is taken."]);
    assert_eq!(taken["email"], ["This e-mail address has an account already."]);
    assert_eq!((taken["password"].len(), taken["shop_name"].len()), (1, 1));

    let body = json!({"username": "Xk3-hd92-Lq", "email": "a@b.example", "password": "xk3-HD92-lq", "shop_name": "S"});
    let name_as_password = faults(body).await;
    assert_eq!(name_as_password.keys().collect::<Vec<_>>(), ["password"]);
    assert_eq!(merchant::Entity::find().count(app.database()).await.unwrap(), 1);
});

on_both_databases!(of_two_who_want_one_name_at_once_one_gets_it, async |db: TestDatabase| {
    let app = app(&db).await;
    let (one, other) = tokio::join!(
        register(&app, registration("shop", "one@b.example")),
        register(&app, registration("SHOP", "other@b.example")),
    );
    let (won, lost) = if one.is_ok() { (one, other) } else { (other, one) };
    assert_eq!(won.unwrap().merchant.username.to_lowercase(), "shop");
    assert_eq!(lost.unwrap_err().details, [("username".to_owned(), vec!["This username is taken.".to_owned()])].into());
    // Nothing of the loser is left.
    assert_eq!(webhook_endpoint::Entity::find().count(app.database()).await.unwrap(), 2);
});

on_both_databases!(a_name_lost_to_a_race_is_the_fields_fault, async |db: TestDatabase| {
    let app = app(&db).await;
    let session = registered(&app).await;
    // As if both had looked before either inserted.
    let new = merchant::NewMerchant {
        username: "shop-1".to_owned(),
        email: "OWNER@b.example".to_owned(),
        password_hash: String::new(),
        shop_name: "Shop".to_owned(),
    };
    let violation = merchant::Entity::add(app.database(), new.clone(), session.merchant.created_at).await.unwrap_err();
    let answer = named(Accounts::from(&app), &new, violation.into()).await;
    assert_eq!(answer.details.keys().collect::<Vec<_>>(), ["email", "username"]);
});

on_both_databases!(closed_registration_leaves_accounts_to_the_operator, async |db: TestDatabase| {
    let app = app_with(&db, &[("CRYPTOPAY_REGISTRATION", "closed")]).await;
    let error = register(&app, fields::<Register>(json!({}))).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::PermissionDenied);
    assert!(error.message.contains("cryptopay merchant create"), "{}", error.message);

    let new = |shop_name: &str| NewMerchant {
        username: "shop".to_owned(),
        email: "a@b.example".to_owned(),
        password: PASSWORD.into(),
        shop_name: shop_name.to_owned(),
    };
    let accounts = Accounts::from(&app);
    let faulty = create_merchant(accounts, new(" ")).await.unwrap_err();
    assert_eq!(faulty.details.keys().collect::<Vec<_>>(), ["shop_name"]);
    let merchant = create_merchant(accounts, new("Shop")).await.unwrap();
    assert_eq!(log_in(&app, "shop", PASSWORD).await.unwrap().merchant.id, merchant.id);
    assert_eq!(audited(&app, "merchant.create").await[0].actor, "operator");
});

on_both_databases!(a_login_takes_name_or_address_in_any_case, async |db: TestDatabase| {
    let app = app(&db).await;
    let id = registered(&app).await.merchant.id;
    for name in ["Shop-1", "sHOP-1", " shop-1 ", "owner@b.example", "OWNER@B.EXAMPLE"] {
        let session = log_in(&app, name, PASSWORD).await.unwrap();
        assert_eq!(principal(&app, &session).await.unwrap().merchant_id(), id, "{name}");
    }
});

on_both_databases!(an_unknown_user_and_a_wrong_password_get_the_same_answer, async |db: TestDatabase| {
    let app = app(&db).await;
    registered(&app).await;
    let known = log_in(&app, "shop-1", "correct-horse-8").await.unwrap_err();
    assert_eq!(known.code, ErrorCode::InvalidCredentials);
    for name in ["nobody", "nobody@b.example", "%", "' OR 1=1 --"] {
        let unknown = log_in(&app, name, "correct-horse-8").await.unwrap_err();
        assert_eq!(
            (unknown.code, &unknown.message, &unknown.details, unknown.retry_after_secs),
            (known.code, &known.message, &known.details, known.retry_after_secs)
        );
    }
    let missing = login(&app, fields::<Login>(json!({}))).await.unwrap_err();
    assert_eq!(missing.details.keys().collect::<Vec<_>>(), ["password", "username"]);
});

on_both_databases!(a_refresh_token_is_exchanged_once_and_again_within_a_minute, async |db: TestDatabase| {
    let app = app(&db).await;
    let first = registered(&app).await;
    let login = family(&principal(&app, &first).await.unwrap());
    let second = renew(&app, first.refresh.expose()).await.unwrap();
    assert_ne!(second.refresh.expose(), first.refresh.expose());
    age_uses(&app, Duration::from_secs(50)).await;
    let sibling = renew(&app, first.refresh.expose()).await.unwrap();
    let third = renew(&app, second.refresh.expose()).await.unwrap();
    for session in [&first, &second, &sibling, &third] {
        assert_eq!(family(&principal(&app, session).await.unwrap()), login);
    }
});

on_both_databases!(a_used_refresh_token_that_comes_back_later_ends_the_login, async |db: TestDatabase| {
    let app = app(&db).await;
    let first = registered(&app).await;
    let other_login = log_in(&app, "shop-1", PASSWORD).await.unwrap();
    let second = renew(&app, first.refresh.expose()).await.unwrap();
    age_uses(&app, Duration::from_secs(61)).await;
    assert_eq!(refused(renew(&app, first.refresh.expose()).await), ErrorCode::TokenInvalid);
    for session in [&first, &second] {
        assert_eq!(refused(principal(&app, session).await), ErrorCode::TokenInvalid);
        assert_eq!(refused(renew(&app, session.refresh.expose()).await), ErrorCode::TokenInvalid);
    }
    assert_eq!(audited(&app, "login.revoke").await.len(), 1);
    assert!(principal(&app, &other_login).await.is_ok());
});

on_both_databases!(of_many_uses_of_one_token_at_once_all_join_its_login, async |db: TestDatabase| {
    let app = app(&db).await;
    let first = registered(&app).await;
    let login = family(&principal(&app, &first).await.unwrap());
    let uses: Vec<_> = (0..20)
        .map(|_| {
            let (app, token) = (app.clone(), first.refresh.expose().to_owned());
            tokio::spawn(async move { renew(&app, &token).await })
        })
        .collect();
    let mut tokens = vec![first.refresh.expose().to_owned()];
    for renewed in uses {
        let session = renewed.await.unwrap().unwrap();
        assert_eq!(family(&principal(&app, &session).await.unwrap()), login);
        tokens.push(session.refresh.expose().to_owned());
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 21);
    let used = refresh_token::Entity::find().filter(refresh_token::Column::UsedAt.is_not_null());
    assert_eq!(used.count(app.database()).await.unwrap(), 1);
});

on_both_databases!(no_token_survives_a_logout_that_it_races, async |db: TestDatabase| {
    let app = app(&db).await;
    registered(&app).await;
    for _ in 0..5 {
        let session = log_in(&app, "shop-1", PASSWORD).await.unwrap();
        let who = principal(&app, &session).await.unwrap();
        let (renewed, ended) = tokio::join!(renew(&app, session.refresh.expose()), logout(&app, &who));
        ended.unwrap();
        for session in renewed.iter().chain([&session]) {
            assert_eq!(refused(principal(&app, session).await), ErrorCode::TokenInvalid);
            assert_eq!(refused(renew(&app, session.refresh.expose()).await), ErrorCode::TokenInvalid);
        }
        let family = family(&who);
        let live = refresh_token::Entity::find()
            .filter(refresh_token::Column::Family.eq(family.as_str()))
            .filter(refresh_token::Column::RevokedAt.is_null());
        assert_eq!(live.count(app.database()).await.unwrap(), 0, "a row that outlived the logout");
    }
});

on_both_databases!(what_is_no_live_refresh_token_is_refused, async |db: TestDatabase| {
    let app = app(&db).await;
    let session = registered(&app).await;
    let unknown = RefreshToken::generate();
    for text in ["rt_", "hunter2", unknown.expose(), session.access.expose_secret()] {
        assert_eq!(refused(renew(&app, text).await), ErrorCode::TokenInvalid, "{text}");
    }
    let expired = refresh_token::Entity::update_many()
        .col_expr(refresh_token::Column::ExpiresAt, Expr::value(session.merchant.created_at));
    expired.exec(app.database()).await.unwrap();
    assert_eq!(refused(renew(&app, session.refresh.expose()).await), ErrorCode::TokenInvalid);
    assert_eq!(refused(refresh(&app, fields::<Refresh>(json!({}))).await), ErrorCode::ValidationError);
});

on_both_databases!(a_logout_ends_its_own_login_only, async |db: TestDatabase| {
    let app = app(&db).await;
    let (one, other) = (registered(&app).await, log_in(&app, "shop-1", PASSWORD).await.unwrap());
    logout(&app, &principal(&app, &one).await.unwrap()).await.unwrap();
    assert_eq!(refused(principal(&app, &one).await), ErrorCode::TokenInvalid);
    assert_eq!(refused(renew(&app, one.refresh.expose()).await), ErrorCode::TokenInvalid);

    let who = principal(&app, &other).await.unwrap();
    let named = fields::<CreateApiKey>(json!({"name": "Shop"}));
    let (_, key) = api_keys::create(&app, &who, named, once()).await.unwrap().made().unwrap();
    let by_key = authenticate(&app, key.expose()).await.unwrap();
    assert!(matches!(by_key.credential, Credential::Key { .. }));
    assert_eq!(refused(logout(&app, &by_key).await), ErrorCode::PermissionDenied);
    assert!(renew(&app, other.refresh.expose()).await.is_ok());
});

on_both_databases!(a_token_is_good_expired_or_none, async |db: TestDatabase| {
    let app = app(&db).await;
    let session = registered(&app).await;
    let check = async |token: &str| verify(&app, fields::<Verify>(json!({"token": token}))).await;
    assert!(check(session.access.expose_secret()).await.is_ok());
    assert_eq!(refused(check("hunter2").await), ErrorCode::TokenInvalid);
    assert_eq!(refused(check(session.refresh.expose()).await), ErrorCode::TokenInvalid);
    let who = principal(&app, &session).await.unwrap();
    let yesterday = session.merchant.created_at.minus(Duration::from_secs(25 * 3_600));
    let (expired, _) = app.keys.tokens().sign(who.merchant_id(), &family(&who), yesterday).unwrap();
    assert_eq!(refused(check(&expired).await), ErrorCode::TokenExpired);
    assert_eq!(refused(verify(&app, fields::<Verify>(json!({}))).await), ErrorCode::ValidationError);
});

on_both_databases!(a_new_password_from_the_operator_ends_every_login, async |db: TestDatabase| {
    let app = app(&db).await;
    let accounts = Accounts::from(&app);
    let (one, other) = (registered(&app).await, log_in(&app, "shop-1", PASSWORD).await.unwrap());
    let reset = async |name: &str, password: &str| reset_password(accounts, name, password.into()).await;
    assert_eq!(refused(reset("nobody", "unicorn teapot gravel").await), ErrorCode::NotFound);
    assert_eq!(reset("shop-1", "password123").await.unwrap_err().details.keys().collect::<Vec<_>>(), ["password"]);
    assert!(principal(&app, &one).await.is_ok());

    assert_eq!(reset("SHOP-1", "unicorn teapot gravel").await.unwrap(), 2);
    for session in [&one, &other] {
        assert_eq!(refused(principal(&app, session).await), ErrorCode::TokenInvalid);
        assert_eq!(refused(renew(&app, session.refresh.expose()).await), ErrorCode::TokenInvalid);
    }
    assert_eq!(refused(log_in(&app, "shop-1", PASSWORD).await), ErrorCode::InvalidCredentials);
    assert!(log_in(&app, "shop-1", "unicorn teapot gravel").await.is_ok());
    let lines = audited(&app, "merchant.reset_password").await;
    assert_eq!((lines.len(), lines[0].actor.as_str()), (1, "operator"));
});

on_both_databases!(a_plan_has_its_own_limit_unless_the_operator_sets_one, async |db: TestDatabase| {
    let app = app(&db).await;
    let accounts = Accounts::from(&app);
    let session = registered(&app).await;
    let limit = async || {
        let merchant = principal(&app, &session).await.unwrap().merchant;
        (merchant.plan, merchant.requests_per_hour())
    };
    set_plan(accounts, "shop-1", Plan::Enterprise, NonZeroU32::new(200_000)).await.unwrap();
    assert_eq!(limit().await, (Plan::Enterprise, 200_000));
    set_plan(accounts, "owner@b.example", Plan::Premium, None).await.unwrap();
    assert_eq!(limit().await, (Plan::Premium, 5_000));
    assert_eq!(refused(set_plan(accounts, "nobody", Plan::Premium, None).await), ErrorCode::NotFound);
    let lines = audited(&app, "merchant.set_plan").await;
    assert_eq!(lines.len(), 2);
    assert!(lines[1].details.contains(r#""previous_limit":200000"#), "{}", lines[1].details);
});
