use std::time::Duration;

use cryptopay_domain::event::EventType;
use cryptopay_domain::merchant::{DeliveryState, Scope};
use cryptopay_domain::webhook::{signature, standard_signature};
use cryptopay_entity::merchant::NewMerchant;
use cryptopay_entity::webhook_delivery::DeliveryFilter;
use cryptopay_entity::{audit_log, webhook_attempt};
use cryptopay_test_support::{Answer, TestDatabase, WebhookReceiver, on_both_databases};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};
use serde_json::{Map, Value};

use super::*;
use crate::error::ErrorCode;
use crate::operations::pages::first;
use crate::principal::Credential;
use crate::rest::webhook_endpoints::{ChangeWebhookEndpoint, CreateWebhookEndpoint};
use crate::testing::{app, once};

const URL: &str = "https://shop.example/hooks";
/// How long a request to this machine may take before a test fails.
const LIMIT: Duration = Duration::from_secs(10);

async fn merchant(app: &App, name: &str) -> Principal {
    let new = NewMerchant {
        username: name.to_owned(),
        email: format!("{name}@example.com"),
        password_hash: String::new(),
        shop_name: name.to_owned(),
    };
    let now = clock::database_now(app.database()).await.unwrap();
    let merchant = merchant::Entity::add(app.database(), new, now).await.unwrap();
    let credential =
        Credential::Key { id: cryptopay_domain::ids::ApiKeyId(1), scopes: Scope::ALL.to_vec(), expires_at: None };
    Principal { merchant: merchant.into(), credential }
}

async fn implicit(app: &App, principal: &Principal) -> String {
    let merchant = principal.merchant_id();
    let new = NewEndpoint {
        merchant,
        scope: EndpointScope::Order,
        url: None,
        events: EventFilter::default(),
        description: String::new(),
        is_active: true,
        secret: new_secret(app, merchant).unwrap().1,
    };
    let now = clock::business_now(app.database()).await.unwrap();
    webhook_endpoint::Entity::add(app.database(), new, now).await.unwrap().id.to_string()
}

async fn add(app: &App, principal: &Principal, body: Value) -> Result<(EndpointView, String, String), ApiError> {
    let fields = Fields::judged_by::<CreateWebhookEndpoint>(body.as_object().unwrap().clone());
    create(app, principal, fields, once()).await.map(|outcome| outcome.made().unwrap())
}

/// Registers an endpoint at `url` for every event; its id and secret.
async fn added(app: &App, principal: &Principal, url: &str) -> (String, String) {
    let (view, secret, _) = add(app, principal, json!({"url": url, "events": ["*"]})).await.unwrap();
    (view.endpoint.id.to_string(), secret)
}

async fn change(app: &App, principal: &Principal, id: &str, body: Value) -> Result<EndpointView, ApiError> {
    let fields = Fields::judged_by::<ChangeWebhookEndpoint>(body.as_object().unwrap().clone());
    update(app, principal, id, fields).await.map(|(view, _)| view)
}

fn faulty(error: &ApiError) -> Vec<&str> {
    assert_eq!(error.code, ErrorCode::ValidationError);
    error.details.keys().map(String::as_str).collect()
}

on_both_databases!(every_faulty_field_is_named_at_once, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let body = json!({
        "url": "http://10.0.0.5/hook",
        "events": ["payment.confirmed", "payment.confrimed", "order.paid"],
        "description": "x".repeat(201),
        "is_active": 1,
    });
    let error = add(&app, &merchant, body).await.unwrap_err();
    assert_eq!(faulty(&error), ["description", "events[1]", "events[2]", "is_active", "url"]);
    assert!(error.details["events[2]"][0].contains("order.paid"), "{error:?}");
    assert!(error.details["url"][0].contains("CRYPTOPAY_WEBHOOK_ALLOW"));
    let error = add(&app, &merchant, json!({"url": URL, "events": []})).await.unwrap_err();
    assert_eq!(faulty(&error), ["events"]);
    assert_eq!(faulty(&add(&app, &merchant, json!({})).await.unwrap_err()), ["url"]);
});

on_both_databases!(a_secret_is_shown_and_rests_encrypted, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let (view, shown, _) = add(&app, &merchant, json!({"url": URL})).await.unwrap();
    assert!(shown.starts_with("whsec_"));
    assert!(!view.endpoint.secret.contains(&shown) && view.endpoint.secret.starts_with("v1."));
    assert_eq!(view.endpoint.filter(), EventFilter::default());
    assert_eq!(secret(&app, &merchant, &view.endpoint.id.to_string()).await.unwrap().secret, shown);
    let lines = audit_log::Entity::find().all(app.database()).await.unwrap();
    let actions: Vec<&str> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(actions, ["webhook_endpoint.create", "webhook_endpoint.show_secret"]);
    assert!(lines.iter().all(|line| !line.details.contains("whsec_")));
});

on_both_databases!(there_are_twenty_at_most_however_they_race, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    implicit(&app, &merchant).await;
    let adding = (0..24).map(|_| add(&app, &merchant, json!({"url": URL})));
    let results = futures_util::future::join_all(adding).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 20);
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(faulty(error), ["url"]);
    }
    let page = list(&app, &merchant, &first(100)).await.unwrap();
    let views = page.rows;
    assert_eq!((page.count, views.len()), (21, 21));
    assert_eq!(views.iter().filter(|view| is_implicit(&view.endpoint)).count(), 1);
    remove(&app, &merchant, &views[0].endpoint.id.to_string()).await.unwrap();
    assert!(add(&app, &merchant, json!({"url": URL})).await.is_ok());
});

on_both_databases!(a_change_keeps_what_is_not_sent, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let body = json!({"url": URL, "events": ["order.created"], "description": "till"});
    let (before, _, _) = add(&app, &merchant, body).await.unwrap();
    let before = before.endpoint;
    let id = before.id.to_string();
    let after = change(&app, &merchant, &id, json!({"description": "shelf"})).await.unwrap().endpoint;
    assert_eq!(Model { description: "shelf".into(), updated_at: after.updated_at, ..before }, after);
    let view = change(&app, &merchant, &id, json!({"events": ["*"], "is_active": false})).await.unwrap();
    assert_eq!((view.endpoint.events.as_str(), view.state), ("*", EndpointState::Disabled));
});

on_both_databases!(the_implicit_endpoint_has_no_url_and_cannot_be_removed, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let id = implicit(&app, &merchant).await;
    assert_eq!(faulty(&change(&app, &merchant, &id, json!({"url": URL})).await.unwrap_err()), ["url"]);
    assert_eq!(remove(&app, &merchant, &id).await.unwrap_err().code, ErrorCode::InvalidState);
    assert_eq!(test(&app, &merchant, &id).await.unwrap_err().code, ErrorCode::InvalidState);
    assert!(secret(&app, &merchant, &id).await.unwrap().secret.starts_with("whsec_"));
    assert_eq!(change(&app, &merchant, &id, json!({"events": ["*"]})).await.unwrap().endpoint.events, "*");
});

on_both_databases!(activating_a_disabled_endpoint_forgets_its_failures, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let (view, _, _) = add(&app, &merchant, json!({"url": URL})).await.unwrap();
    let id = view.endpoint.id.to_string();
    let mut breaker = webhook_breaker::Entity::of(app.database(), view.endpoint.id, "").await.unwrap();
    breaker.failures = 3;
    webhook_breaker::Entity::save(app.database(), breaker.clone()).await.unwrap();
    assert_eq!(get(&app, &merchant, &id).await.unwrap().state, EndpointState::Failing);
    breaker.open_until = Some(view.endpoint.created_at);
    webhook_breaker::Entity::save(app.database(), breaker).await.unwrap();
    assert_eq!(get(&app, &merchant, &id).await.unwrap().state, EndpointState::Open);
    let mut row = view.endpoint.into_active_model();
    row.is_active = Set(false);
    row.disabled_reason = Set(Some("the endpoint answered 410 Gone".to_owned()));
    row.update(app.database()).await.unwrap();
    assert_eq!(get(&app, &merchant, &id).await.unwrap().state, EndpointState::Disabled);
    let view = change(&app, &merchant, &id, json!({"is_active": true})).await.unwrap();
    assert_eq!((view.state, view.endpoint.disabled_reason), (EndpointState::Healthy, None));
});

on_both_databases!(a_test_delivery_is_signed_and_told_of, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let receiver = WebhookReceiver::start().await;
    receiver.answer_next([Answer::status(202).with_body("thanks")]);
    let (id, secret) = added(&app, &merchant, &receiver.url("/hook")).await;
    let sent = test(&app, &merchant, &id).await.unwrap();
    assert_eq!((sent.delivery.state, sent.delivery.last_status), (DeliveryState::Delivered, Some(202)));
    assert_eq!(sent.attempt.unwrap().response.as_deref(), Some("thanks"));
    let request = &receiver.wait_for(1, LIMIT).await[0];
    let webhook_id = sent.delivery.delivery_id.as_str();
    assert_eq!(request.header("x-webhook-event"), Some("webhook.test"));
    assert_eq!(request.header("x-webhook-signature"), Some(signature(&secret, &request.body).as_str()));
    let at = request.header("webhook-timestamp").unwrap().parse().unwrap();
    let standard = standard_signature(&secret, webhook_id, at, &request.body);
    assert_eq!(request.header("webhook-signature"), Some(standard.as_str()));
    assert_eq!(request.json()["webhook_id"], webhook_id);
    assert_eq!(get(&app, &merchant, &id).await.unwrap().state, EndpointState::Healthy);
});

on_both_databases!(a_delivery_can_be_looked_at_and_sent_once_more, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = merchant(&app, "shop").await;
    let receiver = WebhookReceiver::start().await;
    receiver.answer_next([Answer::status(500).with_body("ouch")]);
    let (endpoint, _) = added(&app, &merchant, &receiver.url("/hook")).await;
    let sent = test(&app, &merchant, &endpoint).await.unwrap().delivery;
    let id = sent.delivery_id.to_string();
    assert_eq!(get(&app, &merchant, &endpoint).await.unwrap().state, EndpointState::Healthy, "a test is no delivery");

    let detail = get_delivery(&app, &merchant, &id).await.unwrap();
    assert_eq!((detail.view.delivery.state, detail.view.delivery.attempts), (DeliveryState::Dead, 1));
    assert_eq!((detail.attempts.len(), detail.attempts[0].response.as_deref()), (1, Some("ouch")));

    let now = clock::business_now(app.database()).await.unwrap();
    let dead = DeliveryFilter {
        states: vec![DeliveryState::Dead],
        events: vec![EventType::WebhookTest],
        ..DeliveryFilter::default()
    };
    let page = list_deliveries(&app, &merchant, &endpoint, &dead, &first(20)).await.unwrap();
    assert_eq!(
        (page.count, page.rows[0].delivery.dead_reason.as_deref()),
        (1, Some("a test is sent once and not retried"))
    );
    let others = DeliveryFilter { events: vec![EventType::OrderCreated], ..DeliveryFilter::default() };
    assert_eq!(list_deliveries(&app, &merchant, &endpoint, &others, &first(20)).await.unwrap().count, 0);

    let again = redeliver(&app, &merchant, &id).await.unwrap().view.delivery;
    assert_eq!((again.state, again.attempts, again.dead_reason), (DeliveryState::Pending, 0, None));
    assert_eq!((again.body, again.delivery_id), (sent.body, sent.delivery_id));
    assert!(again.next_attempt_at >= now);

    change(&app, &merchant, &endpoint, json!({"is_active": false})).await.unwrap();
    assert_eq!(redeliver(&app, &merchant, &id).await.unwrap_err().code, ErrorCode::InvalidState);
    remove(&app, &merchant, &endpoint).await.unwrap();
    assert_eq!(redeliver(&app, &merchant, &id).await.unwrap_err().code, ErrorCode::InvalidState);
    let delivery = get_delivery(&app, &merchant, &id).await.unwrap().view.delivery;
    assert_eq!(delivery.dead_reason.as_deref(), Some("the endpoint was removed"));
    let attempts = webhook_attempt::Entity::find().filter(webhook_attempt::Column::DeliveryId.eq(delivery.id));
    assert_eq!(attempts.all(app.database()).await.unwrap().len(), 1);
});

on_both_databases!(somebody_elses_endpoint_does_not_exist, async |db: TestDatabase| {
    let app = app(&db).await;
    let (owner, other) = (merchant(&app, "owner").await, merchant(&app, "other").await);
    let receiver = WebhookReceiver::start().await;
    let (id, _) = added(&app, &owner, &receiver.url("/hook")).await;
    let delivery = test(&app, &owner, &id).await.unwrap().delivery.delivery_id.to_string();
    for id in [id, "abc".to_owned(), "9".repeat(40)] {
        let fields = Fields::judged_by::<ChangeWebhookEndpoint>(Map::new());
        let errors = [
            get(&app, &other, &id).await.err(),
            update(&app, &other, &id, fields).await.err(),
            remove(&app, &other, &id).await.err(),
            secret(&app, &other, &id).await.err(),
            test(&app, &other, &id).await.err(),
            list_deliveries(&app, &other, &id, &DeliveryFilter::default(), &first(20)).await.err(),
        ];
        assert!(errors.iter().flatten().all(|error| error.code == ErrorCode::NotFound));
        assert_eq!(errors.iter().flatten().count(), errors.len());
    }
    for id in [delivery.as_str(), "wh_1", "1"] {
        assert_eq!(get_delivery(&app, &other, id).await.unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(redeliver(&app, &other, id).await.unwrap_err().code, ErrorCode::NotFound);
    }
    assert_eq!(receiver.journal().len(), 1);
});
