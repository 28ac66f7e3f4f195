//! What can be asked.

use std::sync::atomic::Ordering;

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::ApiKeyId;
use cryptopay_domain::ids::TransferId;
use cryptopay_domain::merchant::Scope;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::sea_query::Expr;

use super::*;
use crate::principal::Credential;

on_both_databases!(an_order_reads_the_same_by_its_number_and_by_its_public_id, async |db: TestDatabase| {
    let shop = Shop::open(&testing::app(&db).await, "alice").await;
    let order = shop.order(7).await;
    let fields = "id orderId amount currency blockchain status receivingAddress paymentUrl qrCodeUrl orderInfo nonce \
                  transaction { transactionHash } payAmount exactAmount amountReceived amountRemaining fulfillable flags \
                  lateDecision confirmations requiredConfirmations webhookUrl version confirmedAt failureReason";
    let by_ref = shop.data(&format!("{{ paymentOrder(orderId: \"{order}\") {{ {fields} }} }}")).await;
    let found = &by_ref["paymentOrder"];
    assert_eq!(found["orderId"], order.as_str());
    assert_eq!((&found["amount"], &found["nonce"]), (&json!("17.00"), &json!("7")));
    assert_eq!((&found["status"], &found["flags"]), (&json!("PENDING"), &json!([])));
    assert_eq!(found["orderInfo"], "{\"basket\": 7}");
    assert_eq!(found["paymentUrl"], format!("{}/order/{order}", testing::PUBLIC_URL));
    assert_eq!(found["transaction"], Value::Null);
    let by_id = format!("{{ paymentOrder(id: {}) {{ {fields} }} }}", found["id"]);
    assert_eq!(shop.data(&by_id).await, by_ref);
});

on_both_databases!(what_is_no_order_of_mine_is_not_found, async |db: TestDatabase| {
    let app = testing::app(&db).await;
    let (alice, bob) = (Shop::open(&app, "alice").await, Shop::open(&app, "bob").await);
    let order = alice.order(1).await;
    let id = alice.data("{ paymentOrders { nodes { id } } }").await["paymentOrders"]["nodes"][0]["id"].clone();
    for argument in [format!("orderId: \"{order}\""), format!("id: {id}"), "id: \"x\"".into(), "orderId: \"\"".into()] {
        let answer = bob.ask(&format!("{{ paymentOrder({argument}) {{ id }} me {{ username }} }}")).await;
        assert_eq!(code(&answer), "NOT_FOUND", "{argument}");
        assert_eq!(answer["data"], json!({"paymentOrder": null, "me": {"username": "bob"}}));
    }
    assert_eq!(alice.code("{ paymentOrder { id } }").await, "VALIDATION_ERROR");
    assert_eq!(
        alice.code(&format!("{{ paymentOrder(id: {id}, orderId: \"{order}\") {{ id }} }}")).await,
        "VALIDATION_ERROR"
    );
    let list = bob.data("{ paymentOrders { totalCount nodes { id } } }").await;
    assert_eq!(list["paymentOrders"], json!({"totalCount": 0, "nodes": []}));
});

on_both_databases!(everything_but_introspection_needs_a_token_that_may_read, async |db: TestDatabase| {
    let mut shop = Shop::open(&testing::app(&db).await, "alice").await;
    let anonymous = async |query: &str| serde_json::to_value(shop.schema.execute(query).await).unwrap();
    for field in ["me { id }", "eventCursor", "paymentOrders { totalCount }", "paymentOrder(id: 1) { id }"] {
        assert_eq!(code(&anonymous(&format!("{{ {field} }}")).await), "AUTHENTICATION_REQUIRED", "{field}");
    }
    let open = anonymous("{ __typename __schema { queryType { name } } }").await;
    assert_eq!(open["data"], json!({"__typename": "Query", "__schema": {"queryType": {"name": "Query"}}}));
    shop.principal.credential = Credential::Key { id: ApiKeyId(1), scopes: vec![Scope::Write], expires_at: None };
    assert_eq!(shop.code("{ me { id } }").await, "PERMISSION_DENIED");
    shop.principal.credential = Credential::Key { id: ApiKeyId(1), scopes: vec![Scope::Read], expires_at: None };
    assert_eq!(shop.data("{ me { shopName plan requestsPerHour } }").await["me"]["requestsPerHour"], 1000);
});

on_both_databases!(filters_hold_together_and_every_fault_of_one_is_named, async |db: TestDatabase| {
    let shop = Shop::open(&testing::app(&db).await, "alice").await;
    for nonce in 0..4 {
        shop.order(nonce).await;
    }
    let canceled = shop.order(4).await;
    payment_orders::cancel(&shop.app, &shop.principal, canceled.as_str()).await.unwrap();
    let nonces = async |filter: &str| {
        let query = format!("{{ paymentOrders(orderBy: CREATED_AT_ASC, filter: {filter}) {{ nodes {{ nonce }} }} }}");
        let list = shop.data(&query).await;
        let nodes = list["paymentOrders"]["nodes"].as_array().unwrap().clone();
        nodes.iter().map(|node| node["nonce"].as_str().unwrap().parse::<i64>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(nonces("{}").await, [0, 1, 2, 3, 4]);
    assert_eq!(nonces("{status: [CANCELED, EXPIRED]}").await, [4]);
    assert_eq!(nonces("{status: [PENDING], nonce: \"2\", currency: \"usdc\", blockchain: \"BASE\"}").await, [2]);
    assert_eq!(nonces("{nonce: 3}").await, [3]);
    assert_eq!(nonces("{search: \"basket\\\": 1}\"}").await, [1]);
    assert_eq!(nonces(&format!("{{orderId: \"{canceled}\", status: [PENDING]}}")).await, [0; 0]);
    assert_eq!(nonces("{createdAfter: \"2999-01-01T00:00:00Z\"}").await, [0; 0]);

    let faulty =
        "{ paymentOrders(filter: {blockchain: \"doge\", orderId: \"x\", search: \"\\u0000\"}) { totalCount } }";
    let answer = shop.ask(faulty).await;
    assert_eq!(code(&answer), "VALIDATION_ERROR");
    let details = answer["errors"][0]["extensions"]["details"].as_object().unwrap();
    assert_eq!(details.keys().collect::<Vec<_>>(), ["filter.blockchain", "filter.orderId", "filter.search"]);
    assert_eq!(shop.code("{ paymentOrders(filter: {status: [NEW]}) { totalCount } }").await, "VALIDATION_ERROR");
    assert_eq!(
        shop.code("{ paymentOrders(filter: {createdAfter: \"now\"}) { totalCount } }").await,
        "VALIDATION_ERROR"
    );
});

/// Walks a list in steps of three, from either end; gives the nonces as they come.
async fn walk(shop: &Shop, sort: &str, from_end: bool) -> Vec<Vec<String>> {
    let (count, cursor) = if from_end { ("last", "before") } else { ("first", "after") };
    let query = format!(
        "query($cursor: String) {{ paymentOrders(orderBy: {sort}, {count}: 3, {cursor}: $cursor) {{
            edges {{ cursor node {{ nonce }} }} pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }} }}"
    );
    let mut pages = Vec::new();
    let mut place = Value::Null;
    loop {
        let list = shop.data_with(&query, json!({"cursor": place})).await["paymentOrders"].clone();
        let edges = list["edges"].as_array().unwrap();
        pages.push(edges.iter().map(|edge| edge["node"]["nonce"].as_str().unwrap().to_owned()).collect());
        let info = &list["pageInfo"];
        assert_eq!(info["startCursor"], edges.first().unwrap()["cursor"]);
        assert_eq!(info["endCursor"], edges.last().unwrap()["cursor"]);
        let (more, behind) =
            if from_end { ("hasPreviousPage", "hasNextPage") } else { ("hasNextPage", "hasPreviousPage") };
        assert_eq!(info[behind], !place.is_null());
        if info[more] == false {
            return pages;
        }
        place = info[if from_end { "startCursor" } else { "endCursor" }].clone();
    }
}

on_both_databases!(a_list_is_walked_both_ways_without_loss_or_repeat_even_where_times_tie, async |db: TestDatabase| {
    let shop = Shop::open(&testing::app(&db).await, "alice").await;
    for nonce in 0..8 {
        shop.order(nonce).await;
    }
    let together = clock::database_now(shop.app.database()).await.unwrap();
    payment_order::Entity::update_many()
        .col_expr(payment_order::Column::CreatedAt, Expr::value(together))
        .filter(payment_order::Column::Nonce.between(2, 6))
        .exec(shop.app.database())
        .await
        .unwrap();
    payment_order::Entity::update_many()
        .col_expr(payment_order::Column::CreatedAt, Expr::value(together.plus(std::time::Duration::from_micros(1))))
        .filter(payment_order::Column::Nonce.eq(7))
        .exec(shop.app.database())
        .await
        .unwrap();
    assert_eq!(walk(&shop, "CREATED_AT_ASC", false).await, [vec!["0", "1", "2"], vec!["3", "4", "5"], vec!["6", "7"]]);
    assert_eq!(walk(&shop, "CREATED_AT_DESC", false).await, [vec!["7", "6", "5"], vec!["4", "3", "2"], vec!["1", "0"]]);
    assert_eq!(walk(&shop, "CREATED_AT_ASC", true).await, [vec!["5", "6", "7"], vec!["2", "3", "4"], vec!["0", "1"]]);
    assert_eq!(walk(&shop, "CREATED_AT_DESC", true).await, [vec!["2", "1", "0"], vec!["5", "4", "3"], vec!["7", "6"]]);
    let list =
        shop.data("{ paymentOrders(first: 0) { totalCount nodes { id } pageInfo { hasNextPage endCursor } } }").await;
    let page_info = json!({"hasNextPage": true, "endCursor": null});
    assert_eq!(list["paymentOrders"], json!({"totalCount": 8, "nodes": [], "pageInfo": page_info}));
    for arguments in ["first: 101", "first: -1", "first: 1, last: 1", "after: \"x\""] {
        let query = format!("{{ paymentOrders({arguments}) {{ nodes {{ id }} }} }}");
        assert_eq!(shop.code(&query).await, "VALIDATION_ERROR", "{arguments}");
    }
});

on_both_databases!(a_page_costs_the_same_statements_however_many_orders_it_has, async |db: TestDatabase| {
    let (app, count) = testing::counting(&db);
    let shop = Shop::open(&app, "alice").await;
    let query =
        "{ eventCursor me { id } paymentOrders(first: 100) { totalCount nodes { orderId transaction { amount } } } }";
    let mut costs = Vec::new();
    for orders in [2, 20] {
        for nonce in 0..orders {
            let order = shop.order(orders * 100 + nonce).await;
            pay(&shop, &order).await;
        }
        count.store(0, Ordering::SeqCst);
        let list = shop.data(query).await["paymentOrders"].clone();
        assert!(list["nodes"].as_array().unwrap().iter().all(|node| node["transaction"]["amount"] == "1.00"), "{list}");
        costs.push(count.load(Ordering::SeqCst));
    }
    assert_eq!(costs[0], costs[1], "{costs:?}");
    // Merchant, counter, count, orders, allocations, transfers, heights; and ending the snapshot, where that counts.
    assert!((7..=9).contains(&costs[0]), "{costs:?}");
});

/// One counting transfer for an order, as the ledger would store it.
async fn pay(shop: &Shop, order: &OrderRef) {
    use cryptopay_domain::matching::Method;
    use cryptopay_domain::transfer::{Position, TransferState};
    use cryptopay_entity::{allocation, transfer};
    let database = shop.app.database();
    let merchant = shop.principal.merchant_id();
    let order = payment_order::Entity::find_owned_by_ref(database, merchant, order).await.unwrap().unwrap();
    let units = "1000000".parse().unwrap();
    let now = order.created_at;
    let transfer = transfer::ActiveModel {
        id: NotSet,
        chain: Set(order.chain.clone()),
        tx_hash: Set(hash(u64::try_from(order.id.0).unwrap())),
        position: Set(Position::Log(0)),
        generation: Set(0),
        log_index: Set(Some(1)),
        block_number: Set(100),
        block_hash: Set(hash(100)),
        block_time: Set(now),
        from_address: Set(order.receiving_address),
        to_address: Set(order.receiving_address),
        asset: Set(order.asset),
        units: Set(units),
        sender: Set(order.receiving_address),
        sender_nonce: Set(0),
        gas_used: Set(21_000),
        gas_price: Set(units),
        extra_fee: Set(units),
        state: Set(TransferState::Included),
        missing_since: Set(None),
        unverifiable_reason: Set(None),
        rechecked_at: Set(None),
        allocated_units: Set(units),
        evidence: Set("{}".to_owned()),
        wrong_asset_order_id: Set(None),
        version: Set(1),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let transfer: TransferId = transfer.insert(database).await.unwrap().id;
    let allocation = allocation::ActiveModel {
        id: NotSet,
        transfer_id: Set(transfer),
        order_id: Set(order.id),
        merchant_id: Set(merchant),
        units: Set(units),
        method: Set(Method::ALL[0]),
        evidence: Set("{}".to_owned()),
        late_accepted: Set(false),
        counted: Set(true),
        announced_block: Set(None),
        created_at: Set(now),
        reversed_at: Set(None),
    };
    allocation.insert(database).await.unwrap();
    payment_order::Entity::update_many()
        .set(payment_order::ActiveModel { received_units: Set(units), ..Default::default() })
        .filter(payment_order::Column::Id.eq(order.id))
        .exec(database)
        .await
        .unwrap();
}

on_both_databases!(costly_queries_are_refused_and_full_pages_are_not, async |db: TestDatabase| {
    let shop = Shop::open(&testing::app(&db).await, "alice").await;
    let everything = "nodes { id orderId amount currency blockchain status receivingAddress orderInfo nonce createdAt \
        expiresAt payAmount amountReceived amountRemaining fulfillable flags version updatedAt \
        transaction { transactionHash status amount blockNumber confirmations fromAddress } }";
    shop.data(&format!("{{ paymentOrders(first: 100) {{ {everything} }} }}")).await;
    let many = (0..8).map(|n| format!("a{n}: paymentOrders(first: 100) {{ {everything} }} ")).collect::<String>();
    let answer = shop.ask(&format!("{{ {many} }}")).await;
    assert_eq!(code(&answer), "VALIDATION_ERROR");
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("too complex"), "{answer}");
    assert_eq!(shop.code(&format!("{{ {} }}", "eventCursor ".repeat(11))).await, "VALIDATION_ERROR");
    assert_eq!(shop.code("{ nothing }").await, "VALIDATION_ERROR");
    assert_eq!(shop.code("{").await, "VALIDATION_ERROR");
});

on_both_databases!(a_query_reads_one_snapshot_however_much_is_written_meanwhile, async |db: TestDatabase| {
    let shop = Shop::open(&testing::app(&db).await, "alice").await;
    let order = shop.order(1).await;
    assert_eq!(shop.publish().await, 1);
    let writer = shop.clone();
    let changed = order.clone();
    let writing = tokio::spawn(async move {
        for _ in 0..40 {
            writer.tell(&changed).await;
        }
    });
    // Each change is one event and one version, numbered in a transaction of its own after it: the cursor is at most one
    // behind the version, and the two readings of each agree.
    let query = format!(
        "{{ before: paymentOrder(orderId: \"{order}\") {{ version }} eventCursor \
         after: paymentOrder(orderId: \"{order}\") {{ version }} again: eventCursor }}"
    );
    while !writing.is_finished() {
        let read = shop.data(&query).await;
        assert_eq!(read["before"], read["after"]);
        assert_eq!(read["eventCursor"], read["again"]);
        let version = read["before"]["version"].as_i64().unwrap();
        let cursor: i64 = read["eventCursor"].as_str().unwrap().parse().unwrap();
        assert!(version == cursor || version == cursor + 1, "{read}");
    }
    writing.await.unwrap();
});

#[test]
fn every_word_has_its_enum_value() {
    use super::super::enums;
    use async_graphql::resolver_utils::EnumType;
    let names = |items: Vec<&str>| items.iter().map(|item| item.to_lowercase()).collect::<Vec<_>>();
    let upper = names(enums::EventType::items().iter().map(|item| item.name).collect());
    let words = EventType::ALL.iter().map(|word| word.as_str().replace('.', "_")).collect::<Vec<_>>();
    assert_eq!(upper, words);
    let upper = names(enums::OrderStatus::items().iter().map(|item| item.name).collect());
    let words = cryptopay_domain::order::OrderStatus::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>();
    assert_eq!(upper, words);
    let upper = names(enums::OrderFlag::items().iter().map(|item| item.name).collect());
    let words = cryptopay_domain::order::OrderFlag::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>();
    assert_eq!(upper, words);
}
