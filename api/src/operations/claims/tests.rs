use cryptopay_domain::transfer::Position;
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, audit_log, chain_cursor, event};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use poem::Request;
use poem::http::{Method, StatusCode};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};

use crate::operations::shop::{Incoming, Shop, body, send};

/// Sends a claim through the handlers, as the page does: without a token.
async fn claim(shop: &Shop, order_id: &str, fields: Value) -> (StatusCode, Value) {
    let request = Request::builder().method(Method::POST).uri(format!("/order/{order_id}/claim").parse().unwrap());
    let request = request.header("Content-Type", "application/json").body(fields.to_string());
    let answer = send(&shop.app, request).await;
    (answer.status(), body(answer).await)
}

async fn seen(shop: &Shop, order_id: &str, hash: &str) -> Value {
    let (status, answer) = claim(shop, order_id, json!({"transaction_hash": hash})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let text = answer.to_string();
    assert!(!text.contains("private") && !text.contains("candidates"), "{text}");
    answer
}

/// Everything that a claim could have changed.
async fn state(shop: &Shop) -> (u64, u64, u64) {
    let db = shop.app.database();
    let events = event::Entity::find().count(db).await.unwrap();
    let allocations = allocation::Entity::find().count(db).await.unwrap();
    (events, allocations, audit_log::Entity::find().count(db).await.unwrap())
}

on_both_databases!(a_claim_tells_what_is_seen_of_a_payment_and_credits_nothing, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let other = shop.order(&anna).await;
    let id = order.order_id.to_string();
    let paid = shop.transfer(hers, order.pay_units);
    let hash = paid.tx_hash.to_string();

    let unknown = seen(&shop, &id, &hash).await;
    assert_eq!((&unknown["data"]["known"], &unknown["data"]["pays"]), (&json!(false), &Value::Null));
    assert_eq!((&unknown["data"]["chain_behind"], &unknown["data"]["confirmations"]), (&json!(false), &json!(0)));

    let elsewhere = shop.transfer(hers, other.pay_units);
    let stray = shop.transfer(hers, Units::new(7));
    shop.receive("base", &[paid, elsewhere, stray]).await;
    shop.mine("base", 1).await;
    let before = state(&shop).await;

    let known = seen(&shop, &id, &format!(" {} ", hash.to_uppercase().replace("0X", "0x"))).await;
    let data = &known["data"];
    assert_eq!(
        (&data["pays"], &data["status"], &data["state"]),
        (&json!("this_order"), &json!("pending"), &json!("included"))
    );
    assert_eq!(
        (&data["confirmations"], &data["required_confirmations"]),
        (&json!(2), &json!(order.required_confirmations))
    );
    assert_eq!((&data["transaction_hash"], &data["currency"]), (&json!(hash), &json!("USDC")));
    assert!(known["message"].as_str().unwrap().contains("for this order"), "{known}");

    let data = &seen(&shop, &id, &elsewhere.tx_hash.to_string()).await["data"];
    assert_eq!(
        (&data["pays"], &data["amount"], &data["currency"]),
        (&json!("another_order"), &Value::Null, &Value::Null)
    );
    assert!(!data.to_string().contains(other.order_id.as_str()), "{data}");
    let data = &seen(&shop, &id, &stray.tx_hash.to_string()).await["data"];
    assert_eq!((&data["pays"], &data["amount"]), (&json!("nobody"), &json!("0.000007")));
    assert_eq!(state(&shop).await, before);
});

on_both_databases!(a_payment_on_another_network_is_named_and_not_credited, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let elsewhere = shop.transfer(hers, order.pay_units);
    shop.receive("polygon", &[elsewhere]).await;
    let before = state(&shop).await;
    let answer = seen(&shop, order.order_id.as_str(), &elsewhere.tx_hash.to_string()).await;
    let data = &answer["data"];
    assert_eq!((&data["known"], &data["pays"]), (&json!(true), &json!("nobody")));
    assert_eq!((&data["blockchain"], &data["network"]), (&json!("polygon"), &json!("Polygon")));
    // Judged by the confirmations of that network, seen from its own height.
    assert_eq!((&data["confirmations"], &data["required_confirmations"]), (&json!(1), &json!(64)));
    let words = answer["message"].as_str().unwrap();
    for part in [
        "was seen on Polygon",
        "This order is paid in USDC on Base",
        "not credited by itself",
        "unmatched payments",
        order.order_id.as_str(),
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert_eq!((state(&shop).await, data["amount"].as_str()), (before, Some(answered_amount(&order).as_str())));
});

fn answered_amount(order: &cryptopay_entity::payment_order::Model) -> String {
    cryptopay_domain::amount::format_units(order.pay_units, 6)
}

on_both_databases!(a_claim_tells_nothing_of_other_merchants, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, _) = shop.merchant("anna").await;
    let (bert, his) = shop.merchant("bert").await;
    let (order, theirs) = (shop.order(&anna).await, shop.order(&bert).await);
    let paid = shop.transfer(his, theirs.pay_units);
    let on_polygon = shop.transfer(his, theirs.pay_units);
    shop.receive("base", &[paid]).await;
    shop.receive("polygon", &[on_polygon]).await;
    for hash in [paid.tx_hash, on_polygon.tx_hash] {
        let answer = seen(&shop, order.order_id.as_str(), &hash.to_string()).await;
        assert_eq!((&answer["data"]["known"], &answer["data"]["pays"]), (&json!(false), &Value::Null));
        assert_eq!((&answer["data"]["blockchain"], &answer["data"]["network"]), (&json!("base"), &Value::Null));
    }
});

on_both_databases!(of_several_payments_in_one_transaction_the_orders_own_is_told_of, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let (first, second) = (shop.order(&anna).await, shop.order(&anna).await);
    let one = shop.transfer(hers, first.pay_units);
    let two = Incoming { position: Position::Log(1), units: second.pay_units, ..one };
    let stray = Incoming { position: Position::Log(2), units: Units::new(7), ..one };
    shop.receive("base", &[stray, two, one]).await;
    for order in [&first, &second] {
        let answer = seen(&shop, order.order_id.as_str(), &one.tx_hash.to_string()).await;
        assert_eq!(answer["data"]["pays"], "this_order");
        let row = shop.row(&anna, order.order_id.as_str()).await;
        let paid = cryptopay_domain::amount::format_units(row.pay_units, 6);
        assert_eq!(answer["data"]["amount"], paid);
    }
});

on_both_databases!(a_chain_that_is_behind_is_said_to_be, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, _) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let hash = format!("0x{}", "ab".repeat(32));
    let cursor = chain_cursor::Entity::update_many().filter(chain_cursor::Column::Chain.eq("base"));
    let behind = cursor.col_expr(chain_cursor::Column::HeadHeight, sea_orm::sea_query::Expr::value(9_000_000_i64));
    behind.exec(shop.app.database()).await.unwrap();
    let answer = seen(&shop, order.order_id.as_str(), &hash).await;
    assert_eq!(answer["data"]["chain_behind"], true);
    assert!(answer["message"].as_str().unwrap().contains("look again later"), "{answer}");
});

on_both_databases!(what_is_no_claim_is_refused, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, _) = shop.merchant("anna").await;
    let order = shop.order(&anna).await;
    let hash = format!("0x{}", "ab".repeat(32));
    for (fields, faults) in [
        (json!({}), vec!["transaction_hash"]),
        (json!({"transaction_hash": "junk"}), vec!["transaction_hash"]),
        (json!({"transaction_hash": "junk", "signature": "0x12"}), vec!["signature", "transaction_hash"]),
        (json!({"transaction_hash": hash, "signature": "0x12"}), vec!["signature"]),
    ] {
        let (status, answer) = claim(&shop, order.order_id.as_str(), fields).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let details = answer["error"]["details"].as_object().unwrap();
        assert_eq!(details.keys().collect::<Vec<_>>(), faults);
    }
    for unknown in ["ORD-aaaaaaaaaaaa", "1", &order.id.to_string()] {
        let (status, _) = claim(&shop, unknown, json!({"transaction_hash": hash})).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{unknown}");
    }
});
