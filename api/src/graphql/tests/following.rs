//! Nothing is missed and nothing is told twice.

use std::time::Duration;

use async_graphql::Response;
use cryptopay_entity::webhook_delivery;
use cryptopay_test_support::{TestDatabase, on_both_databases};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::*;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client sees of a subscription.
struct Client(BoxStream<'static, Response>);

impl Client {
    /// Subscribes; everything before the first event is done when this returns.
    fn follow(shop: &Shop, order: &OrderRef, after: Option<i64>) -> Self {
        let after = after.map(|after| format!(", after: \"{after}\"")).unwrap_or_default();
        let query = format!(
            "subscription {{ orderUpdated(orderId: \"{order}\"{after}) {{ sequence event at order {{ orderId version }} }} }}"
        );
        Self(shop.schema.execute_stream(shop.request(&query)))
    }

    async fn answer(&mut self) -> Value {
        let response = timeout(PATIENCE, self.0.next()).await.expect("an answer in time").expect("an answer");
        serde_json::to_value(response).unwrap()
    }

    /// The next event: its sequence and the version of the order.
    async fn next(&mut self) -> (i64, i64) {
        let answer = self.answer().await;
        let update = &answer["data"]["orderUpdated"];
        let sequence = update["sequence"].as_str().unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
        (sequence, update["order"]["version"].as_i64().unwrap())
    }
}

on_both_databases!(a_subscription_without_after_begins_with_the_next_change, async |db: TestDatabase| {
    let app = testing::app(&db).await;
    let _tailer = Tailer::start(&app);
    let shop = Shop::open(&app, "alice").await;
    let order = shop.order(1).await;
    shop.publish().await;
    let mut client = Client::follow(&shop, &order, None);
    let other = shop.order(2).await;
    let before = shop.tell(&other).await;
    // It listens from its first poll on, a few statements later: something is told until it is heard.
    let (first, version) = loop {
        tokio::select! {
            update = client.next() => break update,
            _ = shop.tell(&order) => {}
        }
    };
    assert!(first > before && version > 1, "{first} {version}");
    let last = shop.publish().await.max(shop.tell(&order).await);
    for sequence in first + 1..=last {
        assert_eq!(client.next().await.0, sequence);
    }
});

on_both_databases!(a_client_that_comes_again_gets_what_it_missed_once_and_in_order, async |db: TestDatabase| {
    let app = testing::app(&db).await;
    let _tailer = Tailer::start(&app);
    let shop = Shop::open(&app, "alice").await;
    let order = shop.order(1).await;
    shop.publish().await;
    let mut client = Client::follow(&shop, &order, Some(0));
    let (last, version) = client.next().await;
    assert_eq!((last, version), (1, 1));
    drop(client);
    for _ in 0..3 {
        shop.tell(&order).await;
    }
    let mut client = Client::follow(&shop, &order, Some(last));
    for version in 2..=4 {
        assert_eq!(client.next().await.1, version);
    }
    shop.tell(&order).await;
    assert_eq!(client.next().await.1, 5);
    // More than one batch of the replay.
    shop.change(&order, 250).await;
    let last = shop.publish().await;
    let mut late = Client::follow(&shop, &order, Some(1));
    for version in 2..=255 {
        assert_eq!(late.next().await.1, version);
        if version > 5 {
            assert_eq!(client.next().await.1, version);
        }
    }
    assert_eq!(shop.tell(&order).await, last + 1);
    assert_eq!((late.next().await, client.next().await), ((last + 1, 256), (last + 1, 256)));
});

on_both_databases!(from_an_event_cursor_on_nothing_falls_between, async |db: TestDatabase| {
    let app = testing::app(&db).await;
    let _tailer = Tailer::start(&app);
    let shop = Shop::open(&app, "alice").await;
    let order = shop.order(1).await;
    let (writer, changed) = (shop.clone(), order.clone());
    let writing = tokio::spawn(async move {
        for _ in 0..40 {
            writer.tell(&changed).await;
        }
    });
    let query = format!("{{ eventCursor paymentOrder(orderId: \"{order}\") {{ version }} }}");
    let mut clients = tokio::task::JoinSet::new();
    while !writing.is_finished() && clients.len() < 20 {
        let read = shop.data(&query).await;
        let cursor: i64 = read["eventCursor"].as_str().unwrap().parse().unwrap();
        let known = read["paymentOrder"]["version"].as_i64().unwrap();
        let mut client = Client::follow(&shop, &order, Some(cursor));
        clients.spawn(async move {
            // The one event of version v has the sequence v: every version after the cursor comes, each once.
            for version in cursor + 1..=41 {
                assert_eq!(client.next().await, (version, version));
            }
            assert!(known >= cursor, "the cursor is never ahead of what was read beside it");
        });
    }
    writing.await.unwrap();
    assert!(!clients.is_empty());
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
});

on_both_databases!(a_subscriber_that_falls_behind_reads_again_and_skips_nothing, async |db: TestDatabase| {
    let app = testing::app(&db).await;
    let shop = Shop::open(&app, "alice").await;
    let order = shop.order(1).await;
    shop.publish().await;
    let mut client = Client::follow(&shop, &order, Some(0));
    assert_eq!(client.next().await, (1, 1));
    let _tailer = Tailer::start(&app);
    let mut watching = app.live.subscribe();
    shop.tell(&order).await;
    // More than the channel holds.
    shop.change(&order, 1_100).await;
    let last = shop.publish().await;
    loop {
        match timeout(PATIENCE, watching.recv()).await.unwrap() {
            Ok(event) if event.sequence == Some(last) => break,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => panic!("the tailer is gone"),
        }
    }
    for sequence in 2..=last {
        assert_eq!(client.next().await, (sequence, sequence));
    }
    let next = shop.tell(&order).await;
    assert_eq!(client.next().await, (next, next));
});

on_both_databases!(a_hole_in_what_is_heard_is_read_from_the_database, async |db: TestDatabase| {
    let app = testing::app(&db).await;
    let shop = Shop::open(&app, "alice").await;
    let order = shop.order(1).await;
    shop.publish().await;
    let mut client = Client::follow(&shop, &order, Some(0));
    assert_eq!(client.next().await, (1, 1));
    // Numbered while nobody tells: the tailer begins behind it.
    shop.tell(&order).await;
    let _tailer = Tailer::start(&app);
    let mut watching = app.live.subscribe();
    let mut sequence = 2;
    while watching.try_recv().is_err() {
        sequence = shop.tell(&order).await;
    }
    for sequence in 2..=sequence {
        assert_eq!(client.next().await, (sequence, sequence));
    }
});

on_both_databases!(nobody_follows_the_orders_of_others, async |db: TestDatabase| {
    let app = testing::app(&db).await;
    let _tailer = Tailer::start(&app);
    let (alice, bob) = (Shop::open(&app, "alice").await, Shop::open(&app, "bob").await);
    let (hers, his) = (alice.order(1).await, bob.order(1).await);
    alice.publish().await;
    assert_eq!(code(&Client::follow(&bob, &hers, None).answer().await), "NOT_FOUND");
    assert_eq!(code(&Client::follow(&bob, &hers, Some(0)).answer().await), "NOT_FOUND");
    let anonymous = Request::new(format!("subscription {{ orderUpdated(orderId: \"{hers}\") {{ sequence }} }}"));
    let answer = bob.schema.execute_stream(anonymous).next().await.unwrap();
    assert_eq!(code(&serde_json::to_value(answer).unwrap()), "AUTHENTICATION_REQUIRED");
    let mut client = Client::follow(&bob, &his, Some(2));
    for _ in 0..3 {
        alice.tell(&hers).await;
    }
    let sequence = bob.tell(&his).await;
    assert_eq!(client.next().await, (sequence, 2));
});

on_both_databases!(an_after_that_cannot_be_is_refused, async |db: TestDatabase| {
    let shop = Shop::open(&testing::app(&db).await, "alice").await;
    let order = shop.order(1).await;
    shop.publish().await;
    let ahead = Client::follow(&shop, &order, Some(2)).answer().await;
    assert_eq!(code(&ahead), "VALIDATION_ERROR");
    assert!(ahead["errors"][0]["extensions"]["details"]["after"].is_array(), "{ahead}");
    for after in ["\"x\"", "\"-1\"", "-1", "\"9223372036854775808\"", "1.5"] {
        let query = format!("subscription {{ orderUpdated(orderId: \"{order}\", after: {after}) {{ sequence }} }}");
        let answer = shop.schema.execute_stream(shop.request(&query)).next().await.unwrap();
        assert_eq!(code(&serde_json::to_value(answer).unwrap()), "VALIDATION_ERROR", "{after}");
    }
    // The oldest event is purged; what came after it is there.
    shop.tell(&order).await;
    shop.tell(&order).await;
    webhook_delivery::Entity::delete_many().exec(shop.app.database()).await.unwrap();
    event::Entity::delete_many().filter(event::Column::Sequence.eq(1)).exec(shop.app.database()).await.unwrap();
    assert_eq!(code(&Client::follow(&shop, &order, Some(0)).answer().await), "SEQUENCE_GONE");
    assert_eq!(Client::follow(&shop, &order, Some(1)).next().await, (2, 2));
});
