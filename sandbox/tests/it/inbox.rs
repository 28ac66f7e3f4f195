use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use cryptopay_sandbox::{
    InboxError, MAX_BODY_BYTES, MAX_MESSAGES, MessageFilter, Received, create_inbox, delete_messages, inbox_of_token,
    messages, record_message,
};
use cryptopay_test_support::{TestDatabase, on_both_databases};

use crate::world::{MERCHANT, World};

fn received(event: &str, order: &str, body: &str) -> Received {
    Received {
        at: Timestamp::from_secs(1),
        event: Some(event.into()),
        order_id: Some(order.into()),
        headers: "{}".into(),
        body: body.into(),
        signature_valid: true,
    }
}

on_both_databases!(an_inbox_is_found_by_its_token_only, async |db: TestDatabase| {
    let world = World::new(db).await;
    world.store_merchant().await;
    let token = create_inbox(world.db(), MERCHANT).await.unwrap();
    assert_eq!(create_inbox(world.db(), MERCHANT).await.unwrap(), token, "there is one per merchant");
    let inbox = inbox_of_token(world.db(), &token).await.unwrap().unwrap();
    assert_eq!((inbox.merchant_id, inbox.answer_status, inbox.answer_delay_ms), (MERCHANT, 200, 0));
    for wrong in ["", "\0", "1", &token[1..], &"0".repeat(32)] {
        assert_eq!(inbox_of_token(world.db(), wrong).await.unwrap(), None);
    }
});

on_both_databases!(messages_come_newest_first_and_filtered, async |db: TestDatabase| {
    let world = World::new(db).await;
    world.store_merchant().await;
    for (event, order, body) in [("a", "x", "1"), ("b", "x", "2"), ("a", "y", "3")] {
        record_message(world.db(), MERCHANT, received(event, order, body)).await.unwrap();
    }
    let bodies = async |event: Option<&str>, order: Option<&str>, limit| {
        let filter = MessageFilter { event: event.map(Into::into), order_id: order.map(Into::into) };
        let found = messages(world.db(), MERCHANT, &filter, limit).await.unwrap();
        found.into_iter().map(|message| message.body).collect::<Vec<_>>()
    };
    assert_eq!(bodies(None, None, 10).await, ["3", "2", "1"]);
    assert_eq!(bodies(None, None, 2).await, ["3", "2"]);
    assert_eq!(bodies(Some("a"), None, 10).await, ["3", "1"]);
    assert_eq!(bodies(Some("a"), Some("x"), 10).await, ["1"]);
    assert_eq!(bodies(Some("\0"), None, 10).await, Vec::<String>::new());
    let all = MessageFilter::default();
    assert_eq!(messages(world.db(), MerchantId(2), &all, 10).await.unwrap(), []);
    assert_eq!(delete_messages(world.db(), MERCHANT).await.unwrap(), 3);
    assert_eq!(messages(world.db(), MERCHANT, &all, 10).await.unwrap(), []);
});

on_both_databases!(what_arrives_is_bounded_and_stored_as_text, async |db: TestDatabase| {
    let world = World::new(db).await;
    world.store_merchant().await;
    let full = "x".repeat(MAX_BODY_BYTES);
    record_message(world.db(), MERCHANT, received("a", "x", &full)).await.unwrap();
    let refused = record_message(world.db(), MERCHANT, received("a", "x", &format!("{full}x"))).await;
    assert!(matches!(refused, Err(InboxError::TooLarge { what: "body", .. })), "{refused:?}");
    let refused = record_message(world.db(), MERCHANT, received(&"a".repeat(200), "x", "")).await;
    assert!(matches!(refused, Err(InboxError::TooLarge { .. })), "{refused:?}");
    record_message(world.db(), MERCHANT, received("a", "x", "a\0b")).await.unwrap();
    let newest = messages(world.db(), MERCHANT, &MessageFilter::default(), 1).await.unwrap().remove(0);
    assert_eq!(newest.body, "a\u{fffd}b");
    assert!(newest.signature_valid);
});

on_both_databases!(the_oldest_messages_make_room_for_the_newest, async |db: TestDatabase| {
    let world = World::new(db).await;
    world.store_merchant().await;
    let statement = "INSERT INTO sandbox_message (merchant_id, received_at, headers, body, signature_valid) \
                     VALUES (1, 0, '{}', 'old', FALSE)";
    let many = vec![statement; 1_000].join(";");
    sea_orm::ConnectionTrait::execute_unprepared(world.db(), &many).await.unwrap();
    record_message(world.db(), MERCHANT, received("a", "x", "new")).await.unwrap();
    let kept = messages(world.db(), MERCHANT, &MessageFilter::default(), u64::MAX).await.unwrap();
    assert_eq!(u64::try_from(kept.len()).unwrap(), MAX_MESSAGES);
    assert_eq!((kept[0].body.as_str(), kept[1].body.as_str()), ("new", "old"));
});
