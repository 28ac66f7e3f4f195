use cryptopay_domain::webhook::signature;
use cryptopay_entity::{clock, sandbox_inbox, sandbox_message, sandbox_transaction};
use cryptopay_sandbox::MessageFilter;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use poem::http::{Method, StatusCode};
use poem::{Request, Response};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set};
use serde_json::{Value, json};
use std::time::Duration;

use super::*;
use crate::operations::pages::{Asked, first};
use crate::operations::shop::{Shop, body, send};
use crate::rest::sandbox::{AdvanceClock, MineBlocks, PayOrder, ReorganiseChain};
use crate::testing::{app, app_with, fields, merchant};

async fn pay_with(shop: &Shop, principal: &Principal, id: &str, wish: Value) -> Result<Sent, ApiError> {
    pay(&shop.app, principal, id, fields::<PayOrder>(wish)).await
}

on_both_databases!(an_order_is_paid_on_its_simulated_chain, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, _) = shop.merchant("anna").await;
    let (bert, _) = shop.merchant("bert").await;
    let order = shop.order(&anna).await;
    let sent = pay_with(&shop, &anna, order.order_id.as_str(), json!({"colour": "red"})).await.unwrap();
    assert_eq!(sent.order_status.as_str(), "pending");
    assert!(sent.confirms_in_seconds > 0);
    assert!(sent.message.contains("/api/sandbox/blockchains/base/mine/") && sent.message.ends_with("Ignored: colour"));
    let stored = sandbox_transaction::Entity::with_hash(shop.app.database(), "base", sent.transaction_hash).await;
    assert_eq!(stored.unwrap().unwrap().block_number, None, "it waits for the next block");

    let mined = pay_with(&shop, &anna, order.order_id.as_str(), json!({"amount": "5", "confirm": true})).await.unwrap();
    assert_eq!(mined.confirms_in_seconds, 0);
    let stored = sandbox_transaction::Entity::with_hash(shop.app.database(), "base", mined.transaction_hash).await;
    assert!(stored.unwrap().unwrap().block_number.is_some());
    assert_eq!(pay_with(&shop, &bert, order.order_id.as_str(), json!({})).await.unwrap_err().code, ErrorCode::NotFound);
});

on_both_databases!(a_wish_that_cannot_be_met_says_what_to_do, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let id = order.order_id.as_str();
    let error =
        pay_with(&shop, &anna, id, json!({"scenario": "steal", "amount": "-1", "from": "me"})).await.unwrap_err();
    assert_eq!(error.details.keys().collect::<Vec<_>>(), ["amount", "from", "scenario"]);
    assert!(error.details["scenario"][0].contains("exact, underpay"), "{error:?}");
    let error = pay_with(&shop, &anna, id, json!({"scenario": "late"})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidState);
    assert!(error.message.contains("clock/advance/"), "{}", error.message);
    for (wish, field) in [
        (json!({"scenario": "underpay", "amount": "1000"}), "amount"),
        (json!({"scenario": "overpay", "amount": "1"}), "amount"),
        (json!({"from": hers.to_string()}), "from"),
        (json!({"scenario": "reorg_before_confirmation", "confirm": true}), "confirm"),
    ] {
        let error = pay_with(&shop, &anna, id, wish).await.unwrap_err();
        assert_eq!(error.details.keys().collect::<Vec<_>>(), [field]);
    }
});

on_both_databases!(chains_are_mined_and_reorganised_and_the_clock_moves, async |db: TestDatabase| {
    let app = app(&db).await;
    let (mined, message) = mine(&app, "BASE", &fields::<MineBlocks>(json!({}))).await.unwrap();
    assert_eq!(mined.to - mined.from + 1, u64::from(app.chain("base").unwrap().confirmations));
    assert!(message.contains("whole instance"));
    let (done, message) = reorg(&app, "base", &fields::<ReorganiseChain>(json!({"depth": 2}))).await.unwrap();
    assert_eq!((done.from, done.to), (mined.to - 1, mined.to + 1));
    assert!(message.contains("whole instance"));
    let error = reorg(&app, "base", &fields::<ReorganiseChain>(json!({"depth": 9_000}))).await.unwrap_err();
    assert!(error.details.contains_key("depth"));
    for wrong in [json!({"blocks": 0}), json!({"blocks": 10_001}), json!({"blocks": "2"})] {
        let error = mine(&app, "base", &fields::<MineBlocks>(wrong)).await.unwrap_err();
        assert!(error.details.contains_key("blocks"));
    }
    assert_eq!(mine(&app, "moon", &Fields::default()).await.unwrap_err().code, ErrorCode::NotFound);

    let before = clock::business_now(app.database()).await.unwrap();
    let (now, message) = advance_clock(&app, &fields::<AdvanceClock>(json!({"seconds": 3600}))).await.unwrap();
    assert!(now >= before.plus(Duration::from_secs(3600)) && message.contains("whole instance"));
    assert!(advance_clock(&app, &fields::<AdvanceClock>(json!({}))).await.unwrap_err().details.contains_key("seconds"));
});

on_both_databases!(a_chain_with_nodes_is_left_alone, async |db: TestDatabase| {
    let app = app_with(&db, &[("CRYPTOPAY_RPC_BASE", "http://127.0.0.1:1")]).await;
    let error = mine(&app, "base", &Fields::default()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidState);
    assert!(mine(&app, "polygon", &Fields::default()).await.is_ok());
});

on_both_databases!(in_live_mode_nothing_of_it_exists, async |db: TestDatabase| {
    let live = [
        ("CRYPTOPAY_MODE", "live"),
        ("CRYPTOPAY_PUBLIC_URL", "https://pay.example.com"),
        ("CRYPTOPAY_RPC_BASE", "https://rpc.example"),
    ];
    let app = app_with(&db, &live).await;
    let token = "0".repeat(32);
    for (method, path) in [
        (Method::POST, "/api/sandbox/payment-orders/1/pay".to_owned()),
        (Method::POST, "/api/sandbox/blockchains/base/mine".to_owned()),
        (Method::POST, "/api/sandbox/blockchains/base/reorg".to_owned()),
        (Method::POST, "/api/sandbox/clock/advance".to_owned()),
        (Method::POST, "/api/sandbox/blockchains/base/fault".to_owned()),
        (Method::POST, "/api/sandbox/faucet".to_owned()),
        (Method::POST, "/api/sandbox/reset".to_owned()),
        (Method::PATCH, "/api/sandbox/webhook-inbox".to_owned()),
        (Method::GET, "/api/sandbox/webhook-inbox".to_owned()),
        (Method::DELETE, "/api/sandbox/webhook-inbox".to_owned()),
        (Method::POST, "/order/ORD-aaaaaaaaaaaa/simulate".to_owned()),
        (Method::POST, format!("/sandbox/inbox/{token}")),
    ] {
        let answer = send(&app, Request::builder().method(method).uri(path.parse().unwrap()).finish()).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(body(answer).await["error"]["code"], "NOT_FOUND");
    }
});

/// The inbox of a merchant and the secret that its webhooks are signed with.
async fn inbox_of(app: &App, principal: &Principal) -> (sandbox_inbox::Model, String) {
    use crate::app::EndpointSecrets;
    use cryptopay_entity::webhook_endpoint::{Column, Entity};
    let inbox = sandbox_inbox::Entity::of(app.database(), principal.merchant_id()).await.unwrap().unwrap();
    let endpoints = Entity::find().filter(Column::MerchantId.eq(principal.merchant_id()));
    let endpoints = endpoints.all(app.database()).await.unwrap();
    let endpoint = endpoints.into_iter().find(|endpoint| endpoint.url.is_some()).unwrap();
    let secret = EndpointSecrets(app.keys.clone()).current(&endpoint).unwrap();
    (inbox, secret)
}

async fn deliver(app: &App, token: &str, message: Vec<u8>, headers: &[(&str, String)]) -> Response {
    let path = format!("/sandbox/inbox/{token}");
    let mut request = Request::builder().method(Method::POST).uri(path.parse().unwrap());
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    send(app, request.body(message)).await
}

async fn found(app: &App, principal: &Principal, filter: MessageFilter) -> (u64, Vec<sandbox_message::Model>) {
    let page = inbox::messages(app, principal, &filter, Duration::ZERO, &first(20)).await.unwrap();
    (page.count, page.rows)
}

on_both_databases!(what_arrives_is_kept_as_it_came_and_its_signature_is_checked, async |db: TestDatabase| {
    let app = app(&db).await;
    let anna = merchant(&app, "anna").await;
    let bert = merchant(&app, "bert").await;
    let (inbox, secret) = inbox_of(&app, &anna).await;
    let text = br#"{"event":"payment.confirmed","data":{"order_id":"ORD-aaaaaaaaaaaa"}}"#.to_vec();
    let event = ("X-Webhook-Event", "payment.confirmed".to_owned());
    let right = ("X-Webhook-Signature", signature(&secret, &text));
    let wrong = ("X-Webhook-Signature", signature("whsec_other", &text));
    assert_eq!(deliver(&app, &inbox.token, text.clone(), &[event.clone(), right]).await.status(), StatusCode::OK);
    deliver(&app, &inbox.token, text.clone(), &[event.clone(), wrong]).await;
    deliver(&app, &inbox.token, b"no json \0".to_vec(), &[]).await;

    let (count, messages) = found(&app, &anna, MessageFilter::default()).await;
    assert_eq!(count, 3);
    assert_eq!(messages.iter().map(|message| message.signature_valid).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(messages[2].body.as_bytes(), text);
    assert_eq!(messages[2].order_id.as_deref(), Some("ORD-aaaaaaaaaaaa"));
    let headers: Value = serde_json::from_str(&messages[2].headers).unwrap();
    assert_eq!(headers["x-webhook-event"], "payment.confirmed");
    let of_event = MessageFilter { event: Some("payment.confirmed".to_owned()), order_id: None };
    assert_eq!(found(&app, &anna, of_event).await.0, 2);
    assert_eq!(found(&app, &bert, MessageFilter::default()).await.0, 0, "somebody else's inbox");

    assert_eq!(
        deliver(&app, &inbox.token, vec![b'x'; 64 * 1024 + 1], &[]).await.status(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(deliver(&app, &"0".repeat(32), text, &[event]).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(inbox::clear(&app, &bert).await.unwrap(), 0);
    assert_eq!(inbox::clear(&app, &anna).await.unwrap(), 3);
    assert_eq!(found(&app, &anna, MessageFilter::default()).await.0, 0);
});

on_both_databases!(the_inbox_answers_as_it_was_told_to, async |db: TestDatabase| {
    let app = app(&db).await;
    let anna = merchant(&app, "anna").await;
    let (inbox, _) = inbox_of(&app, &anna).await;
    let token = inbox.token.clone();
    let mut broken: sandbox_inbox::ActiveModel = inbox.into();
    broken.answer_status = Set(503);
    broken.answer_delay_ms = Set(1);
    broken.update(app.database()).await.unwrap();
    assert_eq!(deliver(&app, &token, Vec::new(), &[]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(found(&app, &anna, MessageFilter::default()).await.0, 1, "it is kept all the same");
});

on_both_databases!(a_waiting_request_is_answered_when_something_matches, async |db: TestDatabase| {
    let app = app(&db).await;
    let anna = merchant(&app, "anna").await;
    let (inbox, _) = inbox_of(&app, &anna).await;
    let wanted = MessageFilter { event: Some("payment.confirmed".to_owned()), order_id: None };
    let asked = first(20);
    let waiting = inbox::messages(&app, &anna, &wanted, inbox::MAX_WAIT, &asked);
    let arriving = async {
        deliver(&app, &inbox.token, Vec::new(), &[("X-Webhook-Event", "payment.pending".to_owned())]).await;
        deliver(&app, &inbox.token, Vec::new(), &[("X-Webhook-Event", "payment.confirmed".to_owned())]).await;
    };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(waiting, arriving) })
        .await
        .expect("it should not wait for its whole minute");
    let page = answer.unwrap();
    assert_eq!((page.count, page.rows[0].event.as_deref()), (1, Some("payment.confirmed")));
});

on_both_databases!(the_inbox_is_walked_by_the_last_message_that_was_seen, async |db: TestDatabase| {
    let app = app(&db).await;
    let anna = merchant(&app, "anna").await;
    let (inbox, _) = inbox_of(&app, &anna).await;
    for _ in 0..5 {
        deliver(&app, &inbox.token, Vec::new(), &[]).await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let asked = Asked { after: after.clone(), ..first(2) };
        let page = inbox::messages(&app, &anna, &MessageFilter::default(), Duration::ZERO, &asked).await.unwrap();
        assert_eq!(page.count, 5);
        seen.extend(page.rows.iter().map(|message| message.id));
        after = page.rows.last().map(|message| message.id.to_string());
        if page.next.is_none() {
            break;
        }
    }
    let mut newest_first = seen.clone();
    newest_first.sort_by_key(|id| std::cmp::Reverse(*id));
    newest_first.dedup();
    assert_eq!((seen.len(), &seen), (5, &newest_first));
    let unknown = Asked { after: Some("999999".to_owned()), ..first(2) };
    let refused = inbox::messages(&app, &anna, &MessageFilter::default(), Duration::ZERO, &unknown).await;
    assert_eq!(refused.unwrap_err().details.keys().collect::<Vec<_>>(), ["after"]);
});
