//! One receiver and its moods.

use std::time::Duration;

use cryptopay_domain::merchant::DeliveryState;
use cryptopay_entity::webhook_delivery::{Clocks, Next, Queue, Settled};
use cryptopay_entity::{clock, webhook_breaker, webhook_delivery, webhook_endpoint};
use cryptopay_jobs::Workers;
use cryptopay_jobs::webhooks::send_test;
use cryptopay_test_support::{Answer, ReceivedRequest, TestDatabase, WebhookReceiver, on_both_databases};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use crate::signed;
use crate::world::{Ask, PATIENCE, Shop, World};

/// The waiting times of WEBHOOKS.md, in seconds, without jitter.
const SCHEDULE: [u64; 12] = [5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400, 86_400];

/// A shop that hears of new orders, and of one.
async fn told_of_an_order(db: TestDatabase, answers: impl IntoIterator<Item = Answer>) -> (World, Shop) {
    let (world, shop) = World::with_shop(db, "order.created").await;
    world.receiver.answer_next(answers);
    world.order(&shop.merchant, Ask::default()).await;
    world.drain().await;
    (world, shop)
}

/// How long the endpoint's only delivery waits from now on.
async fn waits(world: &World, shop: &Shop) -> Duration {
    world.delivery(shop.endpoint.id).await.next_attempt_at.since(world.now().await)
}

/// Moves the clock to just before and just after the time at which the only delivery is due.
async fn let_it_become_due(world: &World, shop: &Shop) {
    let sent = world.receiver.journal().len();
    let seconds = waits(world, shop).await.as_secs();
    if seconds > 2 {
        world.advance(seconds - 2).await;
        world.drain().await;
        assert_eq!(world.receiver.journal().len(), sent, "too early");
    }
    world.advance(3).await;
    world.drain().await;
}

fn attempts(journal: &[ReceivedRequest]) -> Vec<&str> {
    journal.iter().map(|request| request.header("x-webhook-attempt").unwrap()).collect()
}

on_both_databases!(a_failed_delivery_is_sent_again_unchanged_but_for_its_attempt, async |db: TestDatabase| {
    let (world, shop) = told_of_an_order(db, [Answer::status(500).with_body("down for repairs")]).await;
    world.drain().await;
    assert_eq!(world.receiver.journal().len(), 1, "not before it is due");
    let failed = world.delivery(shop.endpoint.id).await;
    assert_eq!((failed.state, failed.attempts, failed.last_status), (DeliveryState::Pending, 1, Some(500)));
    assert!((3..=6).contains(&waits(&world, &shop).await.as_secs()));

    let_it_become_due(&world, &shop).await;
    let journal = world.receiver.journal();
    assert_eq!(attempts(&journal), ["1", "2"]);
    assert_eq!(journal[0].body, journal[1].body);
    assert_eq!(journal[0].header("webhook-id"), journal[1].header("webhook-id"));
    journal.iter().for_each(|request| signed::check(request, &shop.endpoint.secret));

    let delivery = world.delivery(shop.endpoint.id).await;
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 2));
    assert_eq!((delivery.lease_token, delivery.last_error), (None, None));
    let recorded = world.attempts().await;
    assert_eq!(
        recorded.iter().map(|row| (row.attempt, row.status)).collect::<Vec<_>>(),
        [(1, Some(500)), (2, Some(200))]
    );
    assert_eq!(recorded[0].response.as_deref(), Some("down for repairs"));
    world.advance(7 * 86_400).await;
    world.drain().await;
    assert_eq!(world.receiver.journal().len(), 2);
});

on_both_databases!(
    after_thirteen_attempts_on_schedule_a_delivery_is_dead_and_can_be_revived,
    async |db: TestDatabase| {
        let (world, shop) = told_of_an_order(db, []).await;
        // The first one was taken; it is as if it had not been.
        let revived = world.delivery(shop.endpoint.id).await;
        webhook_delivery::Entity::requeue(&world.db, shop.merchant.id, vec![revived.id], world.now().await)
            .await
            .unwrap();
        world.receiver.answer_always(Answer::status(500));
        world.drain().await;
        for (made, seconds) in SCHEDULE.into_iter().enumerate() {
            let delivery = world.delivery(shop.endpoint.id).await;
            assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Pending, i64::try_from(made).unwrap() + 1));
            let wait = waits(&world, &shop).await.as_secs();
            assert!((seconds * 4 / 5 - 1..=seconds * 6 / 5).contains(&wait), "after {} attempts: {wait} s", made + 1);
            let_it_become_due(&world, &shop).await;
        }
        let dead = world.delivery(shop.endpoint.id).await;
        assert_eq!((dead.state, dead.attempts), (DeliveryState::Dead, 13));
        assert!(dead.dead_reason.unwrap().contains("13 attempts"));
        world.advance(30 * 86_400).await;
        world.drain().await;
        let journal = world.receiver.journal();
        assert_eq!(journal.len(), 1 + 13);
        assert!(journal.iter().all(|request| request.body == journal[0].body));

        world.receiver.answer_always(Answer::status(204));
        webhook_delivery::Entity::requeue(&world.db, shop.merchant.id, vec![dead.id], world.now().await).await.unwrap();
        world.drain().await;
        let delivery = world.delivery(shop.endpoint.id).await;
        assert_eq!((delivery.state, delivery.delivery_id), (DeliveryState::Delivered, dead.delivery_id));
    }
);

on_both_databases!(a_receiver_that_asks_for_time_gets_it_but_not_for_ever, async |db: TestDatabase| {
    let asks = |status, seconds: &str| Answer::status(status).with_header("retry-after", seconds);
    let answers = [asks(429, "120"), asks(503, "86400"), asks(500, "7200"), asks(429, "1")];
    let (world, shop) = told_of_an_order(db, answers).await;
    assert!((118..=120).contains(&waits(&world, &shop).await.as_secs()));
    let_it_become_due(&world, &shop).await;
    assert!((3598..=3600).contains(&waits(&world, &shop).await.as_secs()), "an hour at most");
    let_it_become_due(&world, &shop).await;
    assert!((95..=144).contains(&waits(&world, &shop).await.as_secs()), "a 500 asks for nothing");
    let_it_become_due(&world, &shop).await;
    assert!((479..=720).contains(&waits(&world, &shop).await.as_secs()), "it can only become longer");
    let_it_become_due(&world, &shop).await;
    assert_eq!(world.delivery(shop.endpoint.id).await.state, DeliveryState::Delivered);
});

on_both_databases!(gone_for_ten_minutes_disables_the_endpoint_and_buries_what_waits, async |db: TestDatabase| {
    let (world, shop) = told_of_an_order(db, []).await;
    world.receiver.answer_always(Answer::status(410));
    world.order(&shop.merchant, Ask::default()).await;
    world.drain().await;
    let endpoint =
        async || webhook_endpoint::Entity::find_by_id(shop.endpoint.id).one(&world.db).await.unwrap().unwrap();
    // At about 0, 5, 35 and 155 seconds: gone often enough, but not for long enough.
    for _ in 0..3 {
        assert!(endpoint().await.is_active);
        let next = world.deliveries(shop.endpoint.id).await[1].next_attempt_at.since(world.now().await);
        world.advance(next.as_secs() + 1).await;
        world.drain().await;
    }
    assert!(endpoint().await.is_active, "only three minutes");
    assert_eq!(world.receiver.journal().len(), 1 + 4);
    let next = world.deliveries(shop.endpoint.id).await[1].next_attempt_at.since(world.now().await);
    world.advance(next.as_secs() + 1).await;
    world.drain().await;

    let disabled = endpoint().await;
    assert!(!disabled.is_active);
    let reason = disabled.disabled_reason.unwrap();
    assert!(reason.contains("410"), "{reason}");
    let states: Vec<_> =
        world.deliveries(shop.endpoint.id).await.into_iter().map(|row| (row.state, row.dead_reason)).collect();
    assert_eq!(states, [(DeliveryState::Delivered, None), (DeliveryState::Dead, Some(reason.clone()))]);
    // What happens from now on is kept, dead, with the reason.
    world.order(&shop.merchant, Ask::default()).await;
    world.advance(86_400).await;
    world.drain().await;
    let last = world.deliveries(shop.endpoint.id).await.pop().unwrap();
    assert_eq!((last.state, last.dead_reason), (DeliveryState::Dead, Some(reason)));
    assert_eq!(world.receiver.journal().len(), 1 + 5);
});

on_both_databases!(gone_now_and_then_disables_nothing, async |db: TestDatabase| {
    let gone = || Answer::status(410);
    let (world, shop) = told_of_an_order(db, [gone(), gone(), Answer::status(500), gone(), gone()]).await;
    for _ in 0..5 {
        let_it_become_due(&world, &shop).await;
    }
    let endpoint = webhook_endpoint::Entity::find_by_id(shop.endpoint.id).one(&world.db).await.unwrap().unwrap();
    assert!(endpoint.is_active, "never three times in a row");
    assert_eq!(world.delivery(shop.endpoint.id).await.state, DeliveryState::Delivered);
});

on_both_databases!(a_switched_off_endpoint_gets_nothing_and_its_queue_is_buried, async |db: TestDatabase| {
    let (world, shop) = told_of_an_order(db, [Answer::status(500)]).await;
    webhook_endpoint::Entity::update_many()
        .col_expr(webhook_endpoint::Column::IsActive, Expr::value(false))
        .filter(webhook_endpoint::Column::Id.eq(shop.endpoint.id))
        .exec(&world.db)
        .await
        .unwrap();
    world.advance(3600).await;
    world.drain().await;
    assert_eq!(world.receiver.journal().len(), 1);
    let delivery = world.delivery(shop.endpoint.id).await;
    assert_eq!(delivery.state, DeliveryState::Dead);
    assert!(delivery.dead_reason.is_some());
});

on_both_databases!(ten_failures_in_a_row_open_the_breaker_which_lets_one_through_a_minute, async |db: TestDatabase| {
    const WAITING: usize = 30;
    let (world, shop) = World::with_shop(db, "order.created").await;
    world.receiver.answer_always(Answer::status(500));
    for _ in 0..WAITING {
        world.order(&shop.merchant, Ask::default()).await;
    }
    world.drain().await;
    let opened_after = world.receiver.journal().len();
    assert!((10..18).contains(&opened_after), "ten, and those in flight by then: {opened_after}");
    let open = webhook_breaker::Entity::of(&world.db, shop.endpoint.id, "").await.unwrap();
    assert!(open.open_until.is_some());
    let untouched = |rows: &[webhook_delivery::Model]| rows.iter().filter(|row| row.attempts == 0).count();
    assert_eq!(untouched(&world.deliveries(shop.endpoint.id).await), WAITING - opened_after, "it consumes no attempt");

    world.advance(30).await;
    world.drain().await;
    assert_eq!(world.receiver.journal().len(), opened_after, "for a minute");
    for probes in 1..=3 {
        world.advance(61).await;
        for _ in 0..3 {
            world.drain().await;
        }
        assert_eq!(
            world.receiver.journal().len(),
            opened_after + probes,
            "one probe a minute, however often one looks"
        );
    }

    world.receiver.answer_always(Answer::status(200));
    world.advance(61).await;
    world.drain().await;
    world.advance(3600).await;
    world.drain().await;
    assert!(world.deliveries(shop.endpoint.id).await.iter().all(|row| row.state == DeliveryState::Delivered));
    let closed = webhook_breaker::Entity::of(&world.db, shop.endpoint.id, "").await.unwrap();
    assert_eq!((closed.failures, closed.open_until), (0, None));
});

on_both_databases!(a_result_whose_claim_was_lost_is_not_recorded, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.created").await;
    world.receiver.answer_next([Answer::never()]);
    world.order(&shop.merchant, Ask::default()).await;
    let slow = world.context.clone();
    let sending = tokio::spawn(async move { Workers::drain(&slow).await });
    world.receiver.wait_for(1, PATIENCE).await;

    // The claim runs out, and another process sends it.
    world.expire_claims().await;
    let (second, _) = world.another("second");
    Workers::drain(&second).await;
    let delivered = world.delivery(shop.endpoint.id).await;
    assert_eq!((delivered.state, delivered.attempts), (DeliveryState::Delivered, 2));

    // The first attempt fails at last.
    let World { receiver, .. } = world;
    let journal = receiver.stop().await;
    sending.await.unwrap();
    assert_eq!(attempts(&journal), ["1", "2"]);
    assert_eq!(
        (journal[0].body == journal[1].body, journal[0].header("webhook-id")),
        (true, journal[1].header("webhook-id"))
    );
});

on_both_databases!(
    what_is_asked_for_once_more_while_it_is_sent_stays_due_whatever_comes_of_that,
    async |db: TestDatabase| {
        let (world, shop) = World::with_shop(db, "order.created").await;
        world.order(&shop.merchant, Ask::default()).await;
        let queue = Queue { endpoint: shop.endpoint.id, origin: "" };
        let later = world.now().await.plus(Duration::from_secs(86_400));
        let results = [
            Next::Taken,
            Next::Again(later),
            Next::Postponed(later),
            Next::GivenUp("given up after 13 attempts".to_owned()),
        ];
        for next in results {
            let told = format!("{next:?}");
            let database = clock::database_now(&world.db).await.unwrap();
            let clocks = Clocks { business: world.now().await, database };
            let until = database.plus(Duration::from_secs(5));
            let claimed =
                webhook_delivery::Entity::claim(&world.db, queue, clocks, 1, "ours", until).await.unwrap().remove(0);
            assert_eq!(claimed.attempts, 1, "{told}");
            let asked_at = world.now().await;
            webhook_delivery::Entity::requeue(&world.db, shop.merchant.id, vec![claimed.id], asked_at).await.unwrap();
            let claimed_by_others =
                webhook_delivery::Entity::claim(&world.db, queue, clocks, 1, "theirs", until).await.unwrap();
            assert_eq!(claimed_by_others.len(), 0, "it is not sent twice at once: {told}");

            let settled = Settled { status: Some(500), error: Some("HTTP 500".to_owned()), next };
            let ours = webhook_delivery::Entity::settle(&world.db, &claimed, settled.clone(), world.now().await)
                .await
                .unwrap();
            assert!(ours, "its attempt is recorded: {told}");
            let row = world.delivery(shop.endpoint.id).await;
            assert_eq!((row.state, row.attempts, row.next_attempt_at), (DeliveryState::Pending, 0, asked_at), "{told}");
            assert_eq!(
                (row.lease_token, row.lease_until, row.delivered_at, row.dead_reason),
                (None, None, None, None),
                "{told}"
            );
            assert_eq!((row.last_status, row.last_error.as_deref()), (Some(500), Some("HTTP 500")), "{told}");

            // The claim has ended: its result counts once.
            let again =
                webhook_delivery::Entity::settle(&world.db, &claimed, settled, world.now().await).await.unwrap();
            assert!(!again, "{told}");
        }
    }
);

on_both_databases!(a_redelivery_that_is_asked_for_during_an_attempt_follows_it_at_once, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.created").await;
    for status in [500, 204] {
        let before = world.receiver.journal().len();
        world.receiver.answer_next([Answer::status(status).after(Duration::from_secs(2))]);
        world.order(&shop.merchant, Ask::default()).await;
        let slow = world.context.clone();
        let sending = tokio::spawn(async move { Workers::drain(&slow).await });
        world.receiver.wait_for(before + 1, PATIENCE).await;
        let delivery = world.deliveries(shop.endpoint.id).await.pop().unwrap();
        webhook_delivery::Entity::requeue(&world.db, shop.merchant.id, vec![delivery.id], world.now().await)
            .await
            .unwrap();
        sending.await.unwrap();
        let sent = world.receiver.journal().split_off(before);
        assert_eq!(attempts(&sent), ["1", "1"], "{status}");
        assert_eq!(sent[0].header("webhook-id"), sent[1].header("webhook-id"));
        let delivery = world.deliveries(shop.endpoint.id).await.pop().unwrap();
        assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 1), "{status}");
    }
    let statuses: Vec<_> = world.attempts().await.iter().map(|row| row.status).collect();
    assert_eq!(statuses, [Some(500), Some(200), Some(204), Some(200)]);
});

on_both_databases!(a_worker_that_died_while_sending_has_used_an_attempt_and_no_more, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.created").await;
    world.receiver.answer_next([Answer::never()]);
    world.order(&shop.merchant, Ask::default()).await;
    let dying = world.context.clone();
    let sending = tokio::spawn(async move { Workers::drain(&dying).await });
    world.receiver.wait_for(1, PATIENCE).await;
    sending.abort();
    let (second, _) = world.another("second");
    Workers::drain(&second).await;
    assert_eq!(world.receiver.journal().len(), 1, "it is claimed");
    world.expire_claims().await;
    Workers::drain(&second).await;
    let journal = world.receiver.journal();
    assert_eq!(attempts(&journal), ["1", "2"]);
    assert_eq!(journal[0].body, journal[1].body);
    assert_eq!(world.delivery(shop.endpoint.id).await.state, DeliveryState::Delivered);
});

on_both_databases!(a_receiver_that_is_away_is_found_again, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.created").await;
    let away = cryptopay_test_support::free_port();
    let merchant = &shop.merchant;
    let endpoint = world.endpoint(merchant, &format!("http://127.0.0.1:{away}/"), "order.created").await;
    world.order(merchant, Ask::default()).await;
    world.drain().await;
    let failed = world.delivery(endpoint.id).await;
    assert_eq!((failed.state, failed.last_status), (DeliveryState::Pending, None));
    assert!(failed.last_error.unwrap().contains("No connection"));
    let back = WebhookReceiver::start_on(away).await;
    world.advance(7).await;
    world.drain().await;
    assert_eq!(attempts(&back.journal()), ["2"]);
    assert_eq!(world.delivery(endpoint.id).await.state, DeliveryState::Delivered);
    assert_eq!(world.delivery(shop.endpoint.id).await.attempts, 1);
});

on_both_databases!(an_address_that_is_not_public_is_refused_at_sending_too, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.created").await;
    let endpoint = world.endpoint(&shop.merchant, "http://10.1.2.3/hook", "order.created").await;
    world.order(&shop.merchant, Ask::default()).await;
    world.drain().await;
    let refused = world.delivery(endpoint.id).await;
    assert!(refused.last_error.unwrap().contains("CRYPTOPAY_WEBHOOK_ALLOW"));
    assert_eq!(world.delivery(shop.endpoint.id).await.state, DeliveryState::Delivered);
});

on_both_databases!(five_days_of_nothing_but_failures_disable_the_endpoint, async |db: TestDatabase| {
    let (world, shop) = told_of_an_order(db, []).await;
    world.receiver.answer_always(Answer::status(500));
    let endpoint =
        async || webhook_endpoint::Entity::find_by_id(shop.endpoint.id).one(&world.db).await.unwrap().unwrap();
    for day in 0..=5 {
        assert!(endpoint().await.is_active, "on day {day}");
        world.order(&shop.merchant, Ask::default()).await;
        world.advance(86_400).await;
        world.drain().await;
    }
    let disabled = endpoint().await;
    assert!(!disabled.is_active);
    assert!(disabled.disabled_reason.unwrap().contains("five days"));
    let left: Vec<_> = world.deliveries(shop.endpoint.id).await.into_iter().map(|row| row.state).collect();
    assert!(left[1..].iter().all(|state| *state == DeliveryState::Dead), "{left:?}");
});

on_both_databases!(what_happens_while_an_endpoint_is_switched_off_is_kept_as_dead, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.created").await;
    let mut off = shop.endpoint.clone();
    off.is_active = false;
    webhook_endpoint::Entity::change(&world.db, &off).await.unwrap();
    world.order(&shop.merchant, Ask::default()).await;
    world.drain().await;
    let kept = world.delivery(shop.endpoint.id).await;
    assert_eq!((kept.state, kept.attempts), (DeliveryState::Dead, 0));
    assert_eq!(kept.dead_reason.as_deref(), Some("the endpoint was switched off"));
    assert_eq!(world.receiver.journal().len(), 0);

    // What was deleted is told nothing any more.
    off.deleted_at = Some(world.now().await);
    webhook_endpoint::Entity::change(&world.db, &off).await.unwrap();
    world.order(&shop.merchant, Ask::default()).await;
    assert_eq!(world.deliveries(shop.endpoint.id).await.len(), 1);
    world.audit().await;
});

on_both_databases!(tests_that_fail_are_sent_once_and_delay_no_real_delivery, async |db: TestDatabase| {
    let (world, shop) = World::with_shop(db, "order.created").await;
    world.receiver.answer_next((0..12).map(|_| Answer::status(500)));
    for _ in 0..12 {
        let test = send_test(&world.context, shop.merchant.id, shop.endpoint.id).await.unwrap();
        assert_eq!((test.delivery.state, test.delivery.attempts), (DeliveryState::Dead, 1));
        assert_eq!(test.delivery.dead_reason.as_deref(), Some("a test is sent once and not retried"));
        assert_eq!(test.attempt.and_then(|attempt| attempt.status), Some(500));
    }
    let breaker = webhook_breaker::Entity::of(&world.db, shop.endpoint.id, "").await.unwrap();
    assert_eq!((breaker.failures, breaker.open_until), (0, None));
    world.advance(600).await;
    world.drain().await;
    assert_eq!(world.receiver.journal().len(), 12, "no test is repeated");

    world.order(&shop.merchant, Ask::default()).await;
    world.drain().await;
    assert_eq!(world.told("order.created").len(), 1, "at once");
    let test = send_test(&world.context, shop.merchant.id, shop.endpoint.id).await.unwrap();
    assert_eq!(test.delivery.state, DeliveryState::Delivered);
    world.audit().await;
});
