//! Who nobody knows, and methods that no route has.

use std::collections::BTreeMap;

use cryptopay_test_support::{TestDatabase, block_on};
use reqwest::Method;
use serde_json::json;

use super::{World, rows};
use crate::harness::raw;

#[test]
fn a_route_that_needs_a_token_takes_no_other_one() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let world = World::create(&db).await;
        let before = rows(&db).await;
        let nobody = world.process.client();
        let access = world.owner.client.token();
        let (head, signature) = access.rsplit_once('.').unwrap();
        let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
        let long = "x".repeat(4_000);
        let mut junk = vec!["junk", "sk_test_junk", "sk_live_junk", &forged, head, "a.b.c", &long];
        let known_key = format!("sk_test_{}", "a".repeat(40));
        junk.push(&known_key);
        for operation in world.operations.iter().filter(|operation| operation.is_secured) {
            let path = world.path(operation);
            let body = operation.body.is_some().then(|| world.good_body(operation));
            let answer = nobody.send(operation.method.clone(), &path, body.clone()).await;
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{answer}");
            answer.error(401, "AUTHENTICATION_REQUIRED");
            let answer = nobody.with_token("junk").send(operation.method.clone(), &path, body).await;
            assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""), "{answer}");
            answer.error(401, "TOKEN_INVALID");
        }
        let answer = nobody.with_token("junk").post("/graphql", json!({"query": "{ me { id } }"})).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer error=\"invalid_token\"")));
        for token in junk {
            nobody.with_token(token).get("/api/auth/me/").await.error(401, "TOKEN_INVALID");
        }
        for header in ["Basic c2hvcDpwdw==", "Bearer", "Bearer ", "bearer", "Token x", "\u{e9}", ""] {
            let request = format!(
                "GET /api/auth/me/ HTTP/1.1\r\nHost: x\r\nAuthorization: {header}\r\nConnection: close\r\n\r\n"
            );
            let answer = raw(world.process.base(), request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{header:?}: {answer}");
        }
        // The scheme's name is not case-sensitive.
        let request = format!(
            "GET /api/auth/me HTTP/1.1\r\nHost: x\r\nAuthorization: bearer {access}\r\nConnection: close\r\n\r\n"
        );
        assert!(raw(world.process.base(), request.as_bytes()).await.starts_with("HTTP/1.1 200"));
        assert_eq!(rows(&db).await, before);
    });
}

#[test]
fn a_key_does_what_its_scopes_say_and_no_more() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let world = World::create(&db).await;
        let key = async |scopes: serde_json::Value| {
            let key =
                world.owner.client.post("/api/api-keys/", json!({"name": "till", "scopes": scopes})).await.data(201);
            world.owner.client.with_token(key["secret"].as_str().unwrap())
        };
        let (reader, writer) = (key(json!(["read"])).await, key(json!(["read", "write"])).await);
        let before = rows(&db).await;
        reader.get("/api/payment-orders/").await.data(200);
        for (client, path) in [
            (&reader, "/api/payment-orders/"),
            (&reader, "/api/merchant-wallets/"),
            (&writer, "/api/merchant-wallets/"),
            (&writer, "/api/webhook-endpoints/"),
            (&writer, "/api/api-keys/"),
            (&writer, "/api/sandbox/blockchains/base/mine/"),
            (&writer, "/api/sandbox/clock/advance/"),
            (&writer, "/api/sandbox/blockchains/base/fault/"),
            (&writer, "/api/sandbox/reset/"),
        ] {
            let error = client.post(path, json!({})).await.error(403, "PERMISSION_DENIED");
            assert!(error["details"].is_null(), "{error}");
        }
        assert_eq!(rows(&db).await, before);
    });
}

#[test]
fn a_method_that_a_route_does_not_have_is_405_and_names_those_it_has() {
    block_on(async {
        let db = TestDatabase::sqlite().await;
        let world = World::create(&db).await;
        let before = rows(&db).await;
        let mut methods: BTreeMap<&str, Vec<Method>> = BTreeMap::new();
        for operation in &world.operations {
            methods.entry(&operation.path).or_default().push(operation.method.clone());
        }
        for operation in &world.operations {
            let path = world.path(operation);
            let has = &methods[operation.path.as_str()];
            for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                if has.contains(&method) {
                    continue;
                }
                for path in [path.as_str(), path.trim_end_matches('/')] {
                    let answer = world.owner.client.send(method.clone(), path, Some(json!({}))).await;
                    let mut allowed: Vec<&str> = answer.header("allow").unwrap_or_default().split(", ").collect();
                    let mut wanted: Vec<&str> = has.iter().map(Method::as_str).collect();
                    allowed.sort_unstable();
                    wanted.sort_unstable();
                    assert_eq!(allowed, wanted, "{answer}");
                    answer.error(405, "METHOD_NOT_ALLOWED");
                }
            }
        }
        assert_eq!(rows(&db).await, before);
    });
}
