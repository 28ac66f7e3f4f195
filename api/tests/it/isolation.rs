//! Nobody gets at what is somebody else's: every operation of the OpenAPI document, with every credential that is not
//! enough, and by another merchant with every right of its own. Nothing may leak, and nothing may change.
//!
//! A new operation fails the first test until it has its line in [`MATRIX`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cryptopay_api::config::{Config, Environment, Role};
use cryptopay_api::security::Keys;
use cryptopay_api::security::tokens::FamilyId;
use cryptopay_domain::ids::MerchantId;
use cryptopay_entity::{clock, event};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use reqwest::Method;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, Statement};
use serde_json::{Value, json};

use crate::bad_input::{OWN_WORDS, Operation, SECRET, World, rows};
use crate::harness::{Answer, Client, eventually, text};

/// What an operation asks of whoever calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Open to everybody.
    Nothing,
    /// A token that may look.
    Read,
    /// A token that may create and decide.
    Write,
    /// A token that may manage the account.
    Manage,
    /// An access token of a login: no key is enough.
    Login,
}

use Needs::{Login, Manage, Nothing, Read, Write};

/// Every operation.
const MATRIX: &[(&str, Needs)] = &[
    ("advanceClock", Manage),
    ("allocateTransfer", Write),
    ("askFaucet", Write),
    ("breakNode", Manage),
    ("cancelPaymentOrder", Write),
    ("changeInbox", Write),
    ("changePassword", Login),
    ("changePaymentSettings", Manage),
    ("claimPayment", Nothing),
    ("clearInbox", Write),
    ("createApiKey", Manage),
    ("createMerchantWallet", Manage),
    ("createPaymentOrder", Write),
    ("createWebhookEndpoint", Manage),
    ("deleteApiKey", Manage),
    ("deleteMerchantWallet", Manage),
    ("deleteWebhookEndpoint", Manage),
    ("followPaymentStatus", Nothing),
    ("getBlockchain", Nothing),
    ("getMe", Read),
    ("getMerchantWallet", Read),
    ("getPaymentOrder", Read),
    ("getPaymentPage", Nothing),
    ("getPaymentStatus", Nothing),
    ("getPaymentSettings", Read),
    ("getQrCode", Nothing),
    ("getTransaction", Read),
    ("getWalletChallenge", Read),
    ("getWebhookDelivery", Read),
    ("getWebhookEndpoint", Read),
    ("getWebhookEndpointSecret", Manage),
    ("listApiKeys", Read),
    ("listBlockchains", Nothing),
    ("listEvents", Read),
    ("listInboxMessages", Read),
    ("listMerchantWallets", Read),
    ("listPaymentOrderEvents", Read),
    ("listPaymentOrders", Read),
    ("listTransactions", Read),
    ("listWebhookDeliveries", Read),
    ("listWebhookEndpoints", Read),
    ("login", Nothing),
    ("logout", Login),
    ("mineBlocks", Manage),
    ("redeliverWebhookDelivery", Write),
    ("refreshToken", Nothing),
    ("register", Nothing),
    ("reorganiseChain", Manage),
    ("replayWebhookDeliveries", Write),
    ("replaceMerchantWallet", Manage),
    ("replaceWebhookEndpoint", Manage),
    ("resetSandbox", Manage),
    ("resolvePaymentOrder", Write),
    ("rotateWebhookEndpointSecret", Manage),
    ("simulateOnPaymentPage", Nothing),
    ("simulatePayment", Write),
    ("testWebhookEndpoint", Write),
    ("updateMe", Manage),
    ("updateMerchantWallet", Manage),
    ("updateWebhookEndpoint", Manage),
    ("verifyMerchantWallet", Manage),
    ("verifyToken", Nothing),
];

fn needs(operation: &Operation) -> Needs {
    let found = MATRIX.iter().find(|(id, _)| *id == operation.id);
    found.unwrap_or_else(|| panic!("{} is not in the matrix: say in MATRIX what it needs", operation.id)).1
}

/// Tokens that are not enough, by name, with the status and code of their refusal.
struct Credentials(Vec<(&'static str, String, u16, &'static str)>);

impl Credentials {
    /// All of the owner's: its own tokens, spoiled one way each.
    async fn of_owner(world: &World, db: &TestDatabase) -> Self {
        let owner = &world.owner.client;
        let (head, signature) = owner.token().rsplit_once('.').unwrap();
        let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
        let deleted = key(owner, json!(["read", "write", "manage"])).await;
        owner.send(Method::DELETE, &format!("/api/api-keys/{}/", deleted.1), None).await.data(200);
        let expired_key = key(owner, json!(["read", "write", "manage"])).await;
        let backend = db.connection().get_database_backend();
        let sql = format!("UPDATE api_key SET expires_at = 1 WHERE id = {}", expired_key.1);
        db.connection().execute_raw(Statement::from_string(backend, sql)).await.unwrap();
        let logged_out = register_again(world).await;
        logged_out.post("/api/auth/logout", json!({})).await.data(200);
        Self(vec![
            ("junk", "junk".to_owned(), 401, "TOKEN_INVALID"),
            ("a key of nobody", format!("sk_test_{}", "a".repeat(43)), 401, "TOKEN_INVALID"),
            ("a key of live mode", owner.token().replacen("ey", "sk_live_", 1), 401, "TOKEN_INVALID"),
            ("a forged signature", forged, 401, "TOKEN_INVALID"),
            ("an expired token", expired(world, db).await, 401, "TOKEN_EXPIRED"),
            ("an expired key", expired_key.0, 401, "TOKEN_INVALID"),
            ("a deleted key", deleted.0, 401, "TOKEN_INVALID"),
            ("a login that is over", logged_out.token().to_owned(), 401, "TOKEN_INVALID"),
        ])
    }
}

/// An API key and its number.
async fn key(client: &Client, scopes: Value) -> (String, String) {
    let key = client.post("/api/api-keys/", json!({"name": "key", "scopes": scopes})).await.data(201);
    (text(&key["secret"]).to_owned(), key["id"].to_string())
}

/// A third merchant, whose login may end.
async fn register_again(world: &World) -> Client {
    let body = json!({
        "username": "gone", "email": "gone@shop.example", "password": "correct-horse-gone-battery", "shop_name": "Gone",
    });
    let nobody = world.process.client();
    nobody.with_token(text(&nobody.post("/api/auth/register", body).await.data(201)["access"]))
}

/// A token of the owner that was good until a second ago.
async fn expired(world: &World, db: &TestDatabase) -> String {
    let environment: Environment = [("CRYPTOPAY_SECRET", SECRET)].into_iter().collect();
    let config = Config::from_env(Role::All, &environment).unwrap();
    let keys = Keys::new(config.secret.as_ref().unwrap(), None).unwrap();
    let me = world.owner.client.get("/api/auth/me/").await.data(200);
    let merchant = MerchantId(me["id"].as_i64().unwrap());
    let now = clock::database_now(db.connection()).await.unwrap();
    let then = now.minus(Duration::from_secs(24 * 60 * 60 + 1));
    keys.tokens().sign(merchant, &FamilyId::generate(), then).unwrap().0
}

/// Asks for an operation on the owner's objects, each of them.
async fn ask(world: &World, client: &Client, operation: &Operation) -> Vec<Answer> {
    let paths = if operation.names_an_object() {
        world.objects_of(operation).iter().map(|id| operation.at(id)).collect()
    } else {
        vec![world.path(operation)]
    };
    let mut answers = Vec::new();
    for path in paths {
        let body = operation.body.is_some().then(|| world.good_body(operation));
        answers.push(client.send(operation.method.clone(), &path, body).await);
    }
    answers
}

/// A gateway on which nothing happens any more by itself: the owner's order is as final as it gets.
async fn settled(db: &TestDatabase) -> World {
    let world = World::create(db).await;
    let order = json!({"order_id": world.objects["/api/payment-orders/"][1]});
    world.owner.mine(100).await;
    eventually("a final order", async || {
        let flags = world.owner.look(&order).await["flags"].clone();
        flags.as_array().unwrap().contains(&json!("finalized")).then_some(())
    })
    .await;
    // Events are numbered, and listed, after they are committed.
    eventually("no event without its number", async || {
        let unnumbered = event::Entity::find().filter(event::Column::Sequence.is_null());
        (unnumbered.count(db.connection()).await.unwrap() == 0).then_some(())
    })
    .await;
    world
}

/// Takes out what changes as blocks are mined and webhooks are tried again.
fn steady(value: &mut Value) {
    const MOVING: [&str; 12] = [
        "confirmations",
        "attempts",
        "next_attempt_at",
        "last_status",
        "last_error",
        "last_failure_at",
        "last_success_at",
        "last_used_at",
        "history",
        "state",
        "updated_at",
        "sequence",
    ];
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !MOVING.contains(&name.as_str()));
            map.values_mut().for_each(steady);
        }
        Value::Array(items) => items.iter_mut().for_each(steady),
        _ => {}
    }
}

/// What the owner sees of everything that is its own.
async fn seen(world: &World) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let secured = world.operations.iter().filter(|operation| operation.is_secured && operation.method == Method::GET);
    // A challenge is made anew each half hour.
    for operation in secured.filter(|operation| operation.id != "getWalletChallenge") {
        for answer in ask(world, &world.owner.client, operation).await {
            let mut data = answer.clone().data(200);
            steady(&mut data);
            all.insert(answer.asked, data);
        }
    }
    all
}

/// Texts that only the owner's data has.
async fn marks(world: &World, seen: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let me = world.owner.client.get("/api/auth/me/").await.data(200);
    let mut marks: BTreeSet<String> =
        ["username", "email", "shop_name"].iter().map(|field| me[*field].to_string()).collect();
    marks.insert(OWN_WORDS.to_owned());
    fn collect(value: &Value, marks: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => {
                let known = ["ORD-", "evt_", "wh_", "whsec_", "sk_test_"].iter().any(|prefix| text.starts_with(prefix));
                if known || (text.starts_with("0x") && text.len() == 66) || text.contains("/hook") {
                    marks.insert(text.clone());
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, marks)),
            Value::Object(map) => map.values().for_each(|item| collect(item, marks)),
            _ => {}
        }
    }
    seen.values().for_each(|value| collect(value, &mut marks));
    assert!(marks.len() > 10, "{marks:?}");
    marks
}

#[track_caller]
fn assert_silent(answer: &Answer, marks: &BTreeSet<String>, whose: &str) {
    // What the request itself said may come back.
    let body = String::from_utf8_lossy(&answer.bytes);
    for mark in marks.iter().filter(|mark| !answer.asked.contains(mark.as_str())) {
        assert!(!body.contains(mark.as_str()), "{whose}: {mark} in {answer}");
    }
}

on_both_databases!(no_operation_does_anything_for_a_token_that_is_not_enough, async |db: TestDatabase| {
    let world = settled(&db).await;
    let all = || world.operations.iter().chain(&world.pages);
    for operation in all() {
        assert_eq!(needs(operation) != Nothing, operation.is_secured, "{}", operation.id);
    }
    for (id, _) in MATRIX {
        assert!(all().any(|operation| operation.id == *id), "there is no operation {id} any more");
    }
    let credentials = Credentials::of_owner(&world, &db).await;
    let owner = &world.owner.client;
    let (reading, writing) = (key(owner, json!(["read"])).await.0, key(owner, json!(["write"])).await.0);
    let using = key(owner, json!(["read", "write"])).await.0;
    let managing = key(owner, json!(["read", "write", "manage"])).await.0;
    let state = seen(&world).await;
    let marks = marks(&world, &state).await;
    let before = rows(&db).await;
    let nobody = world.process.client();
    let mut asked = 0;
    for operation in world.operations.iter().filter(|operation| operation.is_secured) {
        let mut refused = vec![("no token", nobody.clone(), 401, "AUTHENTICATION_REQUIRED")];
        refused.extend(
            credentials.0.iter().map(|(whose, token, status, code)| (*whose, nobody.with_token(token), *status, *code)),
        );
        let mut keys = Vec::new();
        match needs(operation) {
            Nothing => {}
            Read => keys.push(("a key that may only write", &writing)),
            Write => keys.push(("a key that may only look", &reading)),
            Manage => keys.extend([("a key that may only look", &reading), ("a key that may not manage", &using)]),
            Login => keys.extend([("a key that may only look", &reading), ("a key that may do all", &managing)]),
        }
        refused.extend(keys.into_iter().map(|(whose, key)| (whose, nobody.with_token(key), 403, "PERMISSION_DENIED")));
        for (whose, client, status, code) in refused {
            for answer in ask(&world, &client, operation).await {
                assert_silent(&answer, &marks, whose);
                assert_eq!(answer.status, status, "{} with {whose}: {answer}", operation.id);
                let error = answer.error(status, code);
                assert!(error["details"].is_null(), "{}: {error}", operation.id);
                asked += 1;
            }
        }
    }
    assert!(asked > 400, "{asked}");
    assert_eq!(rows(&db).await, before);
    assert_eq!(seen(&world).await, state);
});

on_both_databases!(another_merchant_learns_nothing_and_changes_nothing, async |db: TestDatabase| {
    let world = settled(&db).await;
    let state = seen(&world).await;
    let marks = marks(&world, &state).await;
    let login = world.stranger.client.clone();
    let own = world.stranger.order(json!({})).await;
    let managing = login.with_token(&key(&login, json!(["read", "write", "manage"])).await.0);
    let before = rows(&db).await;
    let mut asked = 0;
    for client in [&login, &managing] {
        for operation in world.operations.iter().filter(|operation| operation.is_secured) {
            let names_one = operation.names_an_object();
            // What it does for the stranger's own account is its good right.
            if !names_one && operation.method != Method::GET {
                continue;
            }
            for answer in ask(&world, client, operation).await {
                assert_silent(&answer, &marks, "the stranger");
                if names_one {
                    let error = answer.error(404, "NOT_FOUND");
                    assert!(error["details"].is_null(), "{}: {error}", operation.id);
                } else {
                    answer.data(200);
                }
                asked += 1;
            }
            // A list asked for by a foreign id.
            for parameter in
                operation.query.iter().filter(|name| ["order_id", "search", "nonce"].contains(&name.as_str()))
            {
                for id in &world.objects["/api/payment-orders/"] {
                    let answer = client.get(&format!("{}?{parameter}={id}", world.path(operation))).await;
                    assert_silent(&answer, &marks, "the stranger");
                    let is_no_id = answer.status == 400;
                    assert!(is_no_id || answer.body["count"] == 0 || parameter != "order_id", "{answer}");
                    asked += 1;
                }
            }
        }
        // A foreign id in a body.
        let hash = &world.objects["/api/transactions/"][0];
        let path = format!("/api/payment-orders/{}/allocations/", text(&own["order_id"]));
        let answer = client.post(&path, json!({"transaction_hash": hash})).await;
        assert_silent(&answer, &marks, "the stranger");
        assert_eq!(answer.faults(), ["transaction_hash"]);
    }
    // Open routes tell of an order what its customer may know, and of nothing else.
    let nobody = world.process.client();
    let me = world.owner.client.get("/api/auth/me/").await.data(200);
    let private = [text(&me["username"]), text(&me["email"]), OWN_WORDS, "whsec_", "sk_test_"];
    let open = world.operations.iter().chain(&world.pages).filter(|operation| needs(operation) == Nothing);
    // The stream sends what the status is, and does not end.
    let open = open.filter(|operation| operation.id != "followPaymentStatus");
    for operation in open.filter(|operation| operation.method == Method::GET) {
        for answer in ask(&world, &nobody, operation).await {
            assert_eq!(answer.status, 200, "{answer}");
            let body = String::from_utf8_lossy(&answer.bytes);
            for words in private {
                assert!(!body.contains(words), "{words}: {answer}");
            }
            asked += 1;
        }
    }
    assert!(asked > 80, "{asked}");
    assert_eq!(rows(&db).await, before);
    assert_eq!(seen(&world).await, state);
});
