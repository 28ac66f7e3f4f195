//! Every word that the contracts publish about orders and payments is the result of some input.

use std::collections::BTreeSet;
use std::time::Duration;

use cryptopay_domain::event::EventType;
use cryptopay_domain::matching::Method;
use cryptopay_domain::order::{Decision, FailureReason, LatePolicy, LateStanding, OrderFlag, OrderStatus};
use cryptopay_domain::transfer::TransferState;
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, event};
use cryptopay_test_support::{TestDatabase, on_both_databases};
use sea_orm::EntityTrait;
use serde_json::Value;

use crate::fake_chain::Payment;
use crate::ownership::prove;
use crate::world::{Ask, World, all_of};

/// Words that are seen in other tests: a report without evidence is the scan's, a test webhook the API's.
const ELSEWHERE: [&str; 2] = [TransferState::Unverifiable.as_str(), EventType::WebhookTest.as_str()];

type Words = BTreeSet<String>;

fn words<T: Copy + Into<&'static str>>(all: &[T]) -> Words {
    all.iter()
        .map(|word| (*word).into().to_owned())
        .filter(|word: &String| !ELSEWHERE.contains(&word.as_str()))
        .collect()
}

async fn note_states(world: &World, states: &mut Words) {
    states.extend(world.transfers_all().await.iter().map(|row| row.state.to_string()));
}

on_both_databases!(every_published_word_is_the_result_of_some_input, async |db: TestDatabase| {
    let mut world = World::on(db, "ethereum").await;
    let mut states = Words::new();
    let review = Ask { late_policy: LatePolicy::Review, ..Ask::default() };

    // Paid exactly, then once more: confirmed, extra.
    let paid = world.order(Ask::default()).await;
    let payments = [world.pay_exactly(&paid), world.pay_exactly(&paid)];
    world.receive(&payments[..1]).await;
    world.deepen().await;
    world.receive(&payments[1..]).await;
    // Too much by the wallet button; the right amount in a wrong token; a canceled order.
    let over = world.order(Ask::default()).await;
    let wrong = world.order(Ask::default()).await;
    let canceled = world.order(Ask::default()).await;
    let button = world.pay_by_button(&over, Units::new(150_000_000));
    let other_token = Payment { asset: world.asset("USDT"), ..world.pay_exactly(&wrong) };
    world.receive(&[button, other_token]).await;
    world.cancel(canceled.id).await.unwrap();
    // A confirmation that a reorganisation takes back; a payment that vanishes before its confirmation.
    let reorged = world.order(Ask::default()).await;
    let payment = world.pay_exactly(&reorged);
    world.receive(&[payment]).await;
    world.deepen().await;
    world.reorganise(3).await;
    note_states(&world, &mut states).await;
    world.settle().await;
    note_states(&world, &mut states).await;
    // Short, and accepted after closing; short, and rejected.
    let accepted = world.order(review).await;
    let rejected = world.order(review).await;
    let shorts = [world.pay_by_button(&accepted, Units::new(5)), world.pay_by_button(&rejected, Units::new(6))];
    world.receive(&shorts).await;
    // Late under each policy, never paid, and paid by hand.
    let late = [LatePolicy::Accept, LatePolicy::Review, LatePolicy::Reject];
    let mut lates = Vec::new();
    for late_policy in late {
        lates.push(world.order(Ask { late_policy, ..Ask::default() }).await);
    }
    let by_hand = world.order(review).await;
    world.close(&by_hand).await;
    let stray = world.transfer(Units::new(77));
    let mut payments: Vec<Payment> = lates.iter().map(|order| world.pay_exactly(order)).collect();
    payments.push(stray.clone());
    world.receive(&payments).await;
    world.assign(by_hand.id, all_of(&stray)).await.unwrap();
    world.resolve(accepted.id, Decision::Accept).await.unwrap();
    world.resolve(rejected.id, Decision::Reject).await.unwrap();
    // A proven owner takes the address from an order that waits.
    world.order(Ask { expires_in: Duration::from_secs(3_600), ..Ask::default() }).await;
    prove(&mut world).await;
    world.mine_empty(world.settings().reorg_depth);
    world.settle().await;
    note_states(&world, &mut states).await;

    let events = event::Entity::find().all(world.db()).await.unwrap();
    let snapshots: Vec<Value> = events.iter().map(|event| serde_json::from_str(&event.snapshot).unwrap()).collect();
    let field = |name: &str| -> Words {
        snapshots.iter().filter_map(|snapshot| snapshot[name].as_str()).map(str::to_owned).collect()
    };
    let flags = snapshots.iter().filter_map(|snapshot| snapshot["flags"].as_array()).flatten();
    let methods = allocation::Entity::find().all(world.db()).await.unwrap();
    assert_eq!(events.iter().map(|event| event.event_type.to_string()).collect::<Words>(), words(EventType::ALL));
    assert_eq!(field("status"), words(OrderStatus::ALL));
    assert_eq!(flags.filter_map(Value::as_str).map(str::to_owned).collect::<Words>(), words(OrderFlag::ALL));
    assert_eq!(field("late_decision"), words(LateStanding::ALL));
    assert_eq!(field("failure_reason"), words(FailureReason::ALL));
    assert_eq!(methods.iter().map(|row| row.method.to_string()).collect::<Words>(), words(Method::ALL));
    assert_eq!(states, words(TransferState::ALL));
});
