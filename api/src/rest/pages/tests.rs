//! Lists as a client walks them: by the addresses that each page gives, through the real handlers.

use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use cryptopay_entity::payment_order;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use poem::Request;
use poem::http::{Method, StatusCode};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::operations::shop::{Shop, body, send};
use crate::operations::{api_keys, webhook_endpoints};
use crate::principal::{Credential, Principal};
use crate::rest::api_keys::CreateApiKey;
use crate::rest::webhook_endpoints::CreateWebhookEndpoint;
use crate::security::tokens::FamilyId;
use crate::testing::{fields, once};

/// The merchant by a login: keys are made with one.
fn logged_in(principal: &Principal) -> Principal {
    let (recognised_at, expires_at) = (Timestamp::from_micros(0), Timestamp::from_micros(1));
    let credential = Credential::Login { family: FamilyId::generate(), expires_at, recognised_at };
    Principal { credential, ..principal.clone() }
}

/// A merchant's program.
struct Client<'a> {
    shop: &'a Shop,
    token: String,
}

impl<'a> Client<'a> {
    async fn of(shop: &'a Shop, principal: &Principal) -> Self {
        let body = fields::<CreateApiKey>(json!({"name": "till"}));
        let (_, key) = api_keys::create(&shop.app, &logged_in(principal), body, once()).await.unwrap().made().unwrap();
        Self { shop, token: key.expose().to_owned() }
    }

    async fn get(&self, address: &str) -> (StatusCode, Value) {
        let request = Request::builder().method(Method::GET).uri(address.parse().unwrap());
        let request = request.header("Authorization", format!("Bearer {}", self.token)).finish();
        let answer = send(&self.shop.app, request).await;
        (answer.status(), body(answer).await)
    }

    async fn page(&self, address: &str) -> Value {
        let (status, page) = self.get(address).await;
        assert_eq!(status, StatusCode::OK, "{address}: {page}");
        for name in ["count", "next", "previous", "results"] {
            assert_eq!(page[name], page["data"][name], "{address}: {page}");
        }
        page["data"].clone()
    }

    async fn faults(&self, address: &str) -> Vec<String> {
        let (status, answer) = self.get(address).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{address}: {answer}");
        answer["error"]["details"].as_object().unwrap().keys().cloned().collect()
    }

    /// The ids of a walk along `next`, and of the same walk back along `previous`.
    async fn walk(&self, first: &str) -> Vec<Value> {
        let (mut pages, mut address) = (Vec::new(), first.to_owned());
        loop {
            let page = self.page(&address).await;
            pages.push(ids(&page));
            match page["next"].as_str() {
                Some(next) => {
                    next.clone_into(&mut address);
                    assert!(next.contains("page_size=3") && next.contains("nobody=knows"), "{next}");
                }
                None => break,
            }
            assert!(pages.len() < 100, "the walk does not end");
        }
        for wanted in pages.iter().rev().skip(1) {
            let page = self.page(&address).await;
            page["previous"].as_str().unwrap_or_else(|| panic!("{address}: {page}")).clone_into(&mut address);
            assert_eq!(ids(&self.page(&address).await), *wanted, "{address}");
        }
        pages.concat()
    }
}

fn ids(page: &Value) -> Vec<Value> {
    page["results"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
}

/// A shop with more of everything than a page holds.
async fn stocked(shop: &mut Shop) -> (Principal, payment_order::Model, i64) {
    let (anna, hers) = shop.merchant("anna").await;
    let url = |number: u32| json!({"url": format!("https://a.example/{number}"), "events": ["*"]});
    let mut endpoint = 0;
    for number in 0..7 {
        let new = fields::<CreateWebhookEndpoint>(url(number));
        let made = webhook_endpoints::create(&shop.app, &anna, new, once()).await.unwrap().made().unwrap();
        endpoint = made.0.endpoint.id.0;
        api_keys::create(&shop.app, &logged_in(&anna), fields::<CreateApiKey>(json!({"name": "n"})), once())
            .await
            .unwrap();
    }
    let mut order = shop.order(&anna).await;
    for _ in 0..7 {
        order = shop.order(&anna).await;
    }
    let mut transfers: Vec<_> = (1..8).map(|units| shop.transfer(hers, Units::new(units))).collect();
    transfers.push(shop.transfer(hers, Units::new(order.pay_units.0.to::<u128>() - 1_000)));
    shop.receive("base", &transfers).await;
    (anna, order, endpoint)
}

on_both_databases!(every_list_is_walked_to_its_end_and_back_by_number_and_by_id, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, order, endpoint) = stocked(&mut shop).await;
    let (bert, his) = shop.merchant("bert").await;
    shop.order(&bert).await;
    let stray = shop.transfer(his, Units::new(9));
    shop.receive("base", &[stray]).await;
    let client = Client::of(&shop, &anna).await;
    let lists = [
        ("/api/payment-orders/".to_owned(), 8),
        (format!("/api/payment-orders/{}/events/", order.order_id), 1),
        ("/api/transactions/".to_owned(), 8),
        ("/api/merchant-wallets/".to_owned(), 2),
        ("/api/webhook-endpoints/".to_owned(), 7),
        (format!("/api/webhook-endpoints/{endpoint}/deliveries/"), 16),
        ("/api/api-keys/".to_owned(), 8),
    ];
    for (list, count) in lists {
        let usual = ids(&client.page(&format!("{list}?page_size=100")).await);
        assert_eq!(usual.len(), count, "{list}");
        let mut ways = Vec::new();
        for ordering in ["created_at", "-created_at"] {
            let rest = format!("page_size=3&ordering={ordering}&nobody=knows");
            let by_number = client.walk(&format!("{list}?{rest}")).await;
            assert_eq!(by_number.len(), count, "{list}");
            let first = by_number[0].as_str().map_or_else(|| by_number[0].to_string(), str::to_owned);
            let behind = client.walk(&format!("{list}?after={first}&{rest}")).await;
            assert_eq!(behind, by_number[1..], "{list}");
            let page = client.page(&format!("{list}?{rest}&page=1&after={first}")).await;
            assert_eq!(page["count"], count, "{list}");
            ways.push(by_number);
        }
        ways[0].reverse();
        assert_eq!(ways[0], ways[1], "{list}");
        assert!(usual == ways[1] || list.ends_with("/events/"), "{list} is newest first");
    }
});

on_both_databases!(what_is_no_place_in_a_list_is_named, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, _) = shop.merchant("anna").await;
    let (bert, _) = shop.merchant("bert").await;
    let theirs = shop.order(&bert).await;
    let client = Client::of(&shop, &anna).await;
    let list = "/api/payment-orders/";
    for after in ["999999", "ORD-aaaaaaaaaaaa", theirs.order_id.as_str(), &theirs.id.to_string()] {
        assert_eq!(client.faults(&format!("{list}?after={after}")).await, ["after"], "{after}");
    }
    let own = shop.order(&anna).await;
    let client = Client::of(&shop, &anna).await;
    let both = client.faults(&format!("{list}?after={}&page=2&ordering=id&status=lost", own.id)).await;
    assert_eq!(both, ["after", "ordering", "status"]);
    let (_, answer) = client.get(&format!("{list}?status=lost")).await;
    assert!(answer["error"]["details"]["status"][0].as_str().unwrap().contains("pending, underpaid"), "{answer}");
    // Behind the last one there is nothing, and that is fine.
    let page = client.page(&format!("{list}?after={}", own.id)).await;
    assert_eq!((&page["results"], &page["count"], &page["next"]), (&json!([]), &json!(1), &Value::Null));
});

on_both_databases!(filters_of_orders_find_what_they_say, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, hers) = shop.merchant("anna").await;
    let mut orders = Vec::new();
    for _ in 0..6 {
        orders.push(shop.order(&anna).await);
    }
    let paid = shop.transfer(hers, orders[2].pay_units);
    shop.receive("base", &[paid]).await;
    crate::operations::payment_orders::cancel(&shop.app, &anna, &orders[4].id.to_string()).await.unwrap();
    let told = "UPDATE payment_order SET order_info = '{\"Name\":\"Zoë 100% _x!\"}' WHERE id = ";
    db.connection().execute_unprepared(&format!("{told}{}", orders[1].id)).await.unwrap();
    let told = "UPDATE payment_order SET order_info = '{\"name\":\"Иван ÄPFEL\"}' WHERE id = ";
    db.connection().execute_unprepared(&format!("{told}{}", orders[5].id)).await.unwrap();
    let client = Client::of(&shop, &anna).await;
    let found = async |query: &str| {
        let page = client.page(&format!("/api/payment-orders/?ordering=created_at&{query}")).await;
        assert_eq!(page["count"], page["results"].as_array().unwrap().len(), "{query}");
        let place = |id: &Value| orders.iter().position(|order| *id == order.id.0).unwrap();
        ids(&page).iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(found("status=pending").await, [0, 1, 3, 5]);
    assert_eq!(found("status=confirming,%20CANCELED,canceled").await, [2, 4]);
    assert_eq!(found("status=pending,confirming,canceled,failed").await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(found("blockchain=BASE&currency=usdc").await.len(), 6);
    assert!(found("blockchain=polygon").await.is_empty());
    assert!(found("currency=ETH").await.is_empty());
    assert_eq!(found(&format!("nonce={}", orders[3].nonce)).await, [3]);
    assert_eq!(found(&format!("order_id={}", orders[5].order_id)).await, [5]);
    assert!(found("created_after=2999-01-01T00:00:00Z").await.is_empty());
    assert_eq!(found("created_before=2999-01-01T00:00:00%2B01:00").await.len(), 6);
    assert_eq!(found(&format!("search={}", orders[0].order_id)).await, [0]);
    assert_eq!(found(&format!("search={}", orders[3].nonce)).await, [3]);
    assert_eq!(found(&format!("search={}", paid.tx_hash.to_string().to_uppercase().replace("0X", "0x"))).await, [2]);
    assert_eq!(found(&format!("search={}", orders[0].order_id.to_string().to_lowercase())).await, [0]);
    // Capitals of any alphabet are found as they were written.
    for part in ["Иван", "ÄPFEL", "\"Иван Ä"] {
        let encoded: String = url::form_urlencoded::byte_serialize(part.as_bytes()).collect();
        assert_eq!(found(&format!("search={encoded}")).await, [5], "{part}");
    }
    for part in ["zo%C3%AB", "100%25", "_x!", "%22Name%22:%22Z"] {
        assert_eq!(found(&format!("search={part}")).await, [1], "{part}");
    }
    assert_eq!(found("search=NAME").await, [1, 5]);
    assert_eq!(found("search=private").await, [0, 2, 3, 4]);
    assert_eq!(found("search=private&status=canceled").await, [4]);
    assert!(found("search=private&status=canceled&blockchain=polygon").await.is_empty());
});

on_both_databases!(a_faulty_filter_is_told_how_it_would_be_right, async |db: TestDatabase| {
    let mut shop = Shop::new(&db).await;
    let (anna, _) = shop.merchant("anna").await;
    let client = Client::of(&shop, &anna).await;
    let message = async |address: &str| client.get(address).await.1["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message("/api/payment-orders/?created_after=2026-01-31T12:00:00+01:00").await,
        "created_after: Enter a time in RFC 3339 form, such as 2026-01-31T12:00:00Z. \
         A + in an address is read as a blank: write it as %2B."
    );
    let written = "/api/payment-orders/?created_after=2026-01-31T12:00:00%2B01:00";
    assert_eq!(client.get(written).await.0, StatusCode::OK);
    assert_eq!(
        message("/api/transactions/?status=paid").await,
        "status: Unknown value \"paid\". Must be one of: pending, confirmed, failed."
    );
    assert_eq!(
        message("/api/events/?after=7").await,
        "after: There is no event 7 yet; the newest is 0.",
        "a reader that is ahead would hear nothing"
    );
});
