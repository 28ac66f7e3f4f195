//! Ids of nothing, and of what belongs to somebody else.

use cryptopay_test_support::{TestDatabase, on_both_databases};

use super::{World, rows};

on_both_databases!(an_id_of_nothing_is_404_whatever_it_looks_like, async |db: TestDatabase| {
    let world = World::create(&db).await;
    let before = rows(&db).await;
    let long = "9".repeat(300);
    let hash = format!("0x{}", "cd".repeat(32));
    let strange = [
        "999999999",
        "-1",
        "1e5",
        "+1",
        "%31%00",
        "9223372036854775808",
        &long,
        "ORD-aaaaaaaaaaaa",
        "ORD-AAAAAAAAAAAA",
        "ORD-%C3%A9",
        "junk",
        "%27%20OR%201%3D1--",
        "%00",
        "%F0%9F%92%B8",
        &hash,
    ];
    for operation in world.operations.iter().filter(|operation| operation.path.contains('{')) {
        for id in strange {
            let answer = world.send(operation, &operation.at(id), world.good_body(operation)).await;
            answer.error(404, "NOT_FOUND");
        }
    }
    assert_eq!(rows(&db).await, before);
});

on_both_databases!(what_belongs_to_another_merchant_is_404, async |db: TestDatabase| {
    let world = World::create(&db).await;
    let before = rows(&db).await;
    let mut asked = 0;
    for operation in world.operations.iter().filter(|operation| operation.is_secured && operation.names_an_object()) {
        for id in world.objects_of(operation) {
            let body = operation.body.is_some().then(|| world.good_body(operation));
            let answer = world.stranger.client.send(operation.method.clone(), &operation.at(id), body).await;
            let error = answer.error(404, "NOT_FOUND");
            assert!(error["details"].is_null(), "{error}");
            asked += 1;
        }
    }
    assert!(asked > 15, "{asked}");
    for path in ["/api/payment-orders/", "/api/transactions/", "/api/api-keys/"] {
        assert_eq!(world.stranger.client.get(path).await.data(200)["count"], 0, "{path}");
    }
    let order = &world.objects["/api/payment-orders/"][1];
    let of_order = world.stranger.client.get(&format!("/api/transactions/?order_id={order}")).await.data(200);
    assert_eq!(of_order["count"], 0);
    assert_eq!(rows(&db).await, before);
});
