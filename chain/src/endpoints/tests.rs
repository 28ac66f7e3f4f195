use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use cryptopay_domain::address::{AccountAddress, Hash};
use cryptopay_domain::transfer::{Block, ObservedTransfer};
use proptest::prelude::*;

use super::*;
use crate::{Header, Inclusion, TransferQuery};

/// An endpoint that is never really asked.
#[derive(Debug, Default)]
struct Silent {
    asked: AtomicBool,
}

fn unreachable<T>() -> Result<T, ChainError> {
    Err(ChainError::Unreachable("nobody is there".into()))
}

#[async_trait]
impl ChainClient for Silent {
    async fn chain_id(&self) -> Result<u64, ChainError> {
        self.asked.store(true, Ordering::Relaxed);
        Ok(7)
    }
    async fn head(&self) -> Result<Header, ChainError> {
        unreachable()
    }
    async fn tagged(&self, _: FinalityTag) -> Result<Option<Block>, ChainError> {
        unreachable()
    }
    async fn block(&self, _: u64) -> Result<Option<Block>, ChainError> {
        unreachable()
    }
    async fn blocks(&self, _: std::ops::RangeInclusive<u64>) -> Result<Vec<Header>, ChainError> {
        unreachable()
    }
    async fn transfers(&self, _: &TransferQuery) -> Result<Vec<ObservedTransfer>, ChainError> {
        unreachable()
    }
    async fn inclusion(&self, _: Hash) -> Result<Option<Inclusion>, ChainError> {
        unreachable()
    }
    async fn decimals(&self, _: AccountAddress) -> Result<u8, ChainError> {
        unreachable()
    }
}

fn endpoints(count: usize) -> Endpoints {
    let client = || Arc::new(Silent::default()) as Arc<dyn ChainClient>;
    Endpoints::new(1, (0..count).map(|n| (format!("https://{n}.example"), client())))
}

/// Something that happens to an endpoint.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Answers(u64),
    Fails,
    Lies,
    IsForeign,
    Waits,
    Shows(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (1_u64..3_000).prop_map(Happening::Answers),
        Just(Happening::Fails),
        Just(Happening::Lies),
        Just(Happening::IsForeign),
        Just(Happening::Waits),
        (0_u64..200).prop_map(Happening::Shows),
    ]
}

fn happen(standing: &mut Standing, what: Happening, now: Instant) {
    match what {
        Happening::Answers(millis) => standing.answered(now, Duration::from_millis(millis)),
        Happening::Fails => standing.failed(now, &ChainError::Unreachable("away".into()), 99),
        Happening::Lies => {
            standing.failed(now, &ChainError::Untrue { method: "eth_getLogs", what: "no".into() }, 99);
        }
        Happening::IsForeign => standing.failed(now, &ChainError::WrongChain { expected: 1, found: 2 }, 99),
        Happening::Waits => {
            let retry_after = Some(Duration::from_secs(30));
            standing.failed(now, &ChainError::RateLimited { retry_after }, 99);
        }
        Happening::Shows(head) => standing.showed(now, Some(head)),
    }
}

proptest! {
    #[test]
    fn an_endpoint_in_quarantine_is_never_chosen_where_there_are_several(
        steps in prop::collection::vec((0_usize..4, happening(), 0_u64..20), 1..80),
    ) {
        let pool = endpoints(4);
        let mut now = Instant::now();
        for (index, what, seconds) in steps {
            now += Duration::from_secs(seconds);
            happen(&mut pool.list[index].standing(), what, now);
            let resting: Vec<&str> = pool
                .list
                .iter()
                .filter(|endpoint| endpoint.standing().resting(now).is_some())
                .map(|endpoint| endpoint.name())
                .collect();
            match pool.choose(now, &[]) {
                Some(chosen) => {
                    prop_assert!(!resting.contains(&chosen.name()));
                    if let Some(second) = pool.second(now, chosen) {
                        prop_assert!(second.name() != chosen.name() && !resting.contains(&second.name()));
                    }
                }
                None => {
                    prop_assert_eq!(resting.len(), 4);
                    prop_assert!(pool.wait(now) > Duration::ZERO);
                    prop_assert!(pool.choose(now + pool.wait(now), &[]).is_some(), "it ends when it is said to end");
                }
            }
        }
    }

    #[test]
    fn a_sole_endpoint_rests_for_seconds_unless_it_asks_for_more(steps in prop::collection::vec(happening(), 1..40)) {
        let pool = endpoints(1);
        let now = Instant::now();
        let asked_to_wait = steps.iter().any(|what| matches!(what, Happening::Waits));
        let was_well = steps.iter().all(|what| matches!(what, Happening::Answers(_) | Happening::Shows(_)));
        for what in steps {
            happen(&mut pool.list[0].standing(), what, now);
        }
        prop_assert_eq!(pool.choose(now, &[]).is_some(), was_well);
        prop_assert_eq!(pool.choose(now + Duration::from_secs(4), &[]).is_some(), !asked_to_wait);
        prop_assert!(pool.choose(now + pool.wait(now), &[]).is_some(), "it ends when it is said to end");
    }
}

#[test]
fn the_configured_order_decides_until_something_is_known_and_the_one_in_use_is_kept() {
    let pool = endpoints(3);
    let now = Instant::now();
    assert_eq!(pool.choose(now, &[]).unwrap().name(), "https://0.example");
    pool.list[0].standing().answered(now, Duration::from_millis(200));
    pool.list[1].standing().answered(now, Duration::from_millis(50));
    assert_eq!(pool.choose(now, &[]).unwrap().name(), "https://0.example", "not worth the change");
    pool.list[0].standing().failed(now, &ChainError::Unreachable("away".into()), 0);
    let next = pool.choose(now, &[]).unwrap();
    assert_ne!(next.name(), "https://0.example");
    assert_eq!(pool.choose(now + Duration::from_secs(60), &[]).unwrap().name(), next.name());
}

#[test]
fn the_one_that_lags_is_passed_over_when_a_fresher_one_exists() {
    let pool = endpoints(2);
    let now = Instant::now();
    pool.list[0].standing().showed(now, Some(80));
    pool.list[1].standing().showed(now, Some(100));
    assert_eq!(pool.choose(now, &[]).unwrap().name(), "https://1.example");
    pool.list[0].standing().showed(now, Some(101));
    pool.list[1].standing().showed(now, Some(81));
    assert_eq!(pool.choose(now, &[]).unwrap().name(), "https://0.example");
}

#[test]
fn a_head_that_a_liar_made_up_makes_nobody_else_lag() {
    let pool = endpoints(3);
    let now = Instant::now();
    pool.list[0].standing().showed(now, Some(1_000_000));
    pool.list[0].standing().failed(now, &ChainError::Untrue { method: "eth_getLogs", what: "no".into() }, 0);
    pool.list[1].standing().showed(now, Some(100));
    pool.list[1].standing().answered(now, Duration::from_millis(900));
    pool.list[2].standing().showed(now, Some(80));
    pool.list[2].standing().answered(now, Duration::from_millis(5));
    assert_eq!(pool.choose(now, &[]).unwrap().name(), "https://1.example", "the other one is twenty blocks behind");
}

#[tokio::test]
async fn a_question_that_cannot_be_made_smaller_counts_as_a_failure_and_one_that_can_does_not() {
    let pool = endpoints(1);
    let failures: [fn() -> ChainError; 2] =
        [|| ChainError::BatchTooLarge { calls: 2 }, || ChainError::FilterTooLarge { recipients: 10 }];
    for failure in failures {
        pool.list[0].ask(async { Err::<(), _>(failure()) }).await.unwrap_err();
        assert!(!pool.list[0].is_usable(Instant::now()), "{}", failure());
        pool.pass(Duration::from_secs(4));
    }
    pool.list[0]
        .ask_range(2, None, async { Err::<(), _>(ChainError::RangeTooLarge { limit: None }) })
        .await
        .unwrap_err();
    assert!(pool.list[0].is_usable(Instant::now()));
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_named_and_told_apart_from_one_that_lied() {
    let pool = endpoints(2);
    let error = pool.witness(&pool.list[0], &[]).await.unwrap_err();
    assert!(matches!(error, ChainError::WrongChain { expected: 1, found: 7 }));
    pool.list[1].contradicted("it left out a log");
    let now = Instant::now();
    let states: Vec<&str> = pool.health(now).iter().map(|health| health.state).collect();
    assert_eq!(states, ["wrong_chain", "quarantined"]);
    let faults = pool.faults(now).unwrap();
    assert!(faults.contains("https://0.example") && faults.contains("id 7"), "{faults}");
    assert!(faults.contains("https://1.example") && faults.contains("left out"), "{faults}");
}
