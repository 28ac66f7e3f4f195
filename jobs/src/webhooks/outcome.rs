//! What an attempt's result means for the delivery, its endpoint and the breaker. Pure: rows in, rows out.

use std::time::Duration;

use cryptopay_domain::retry::delay_after;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::webhook_breaker;

use super::client::{Failure, Outcome};

/// Failures in a row that open a breaker.
const OPENS_AFTER: i64 = 10;
/// How often an open breaker lets a delivery through.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// Answers 410 in a row, over at least `GONE_FOR`, that disable an endpoint.
const GONE_COUNT: i64 = 3;
/// See `GONE_COUNT`.
const GONE_FOR: Duration = Duration::from_secs(600);
/// Nothing but failures for this long disables an endpoint.
const FAILING_FOR: Duration = Duration::from_secs(5 * 24 * 3600);

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The receiver took it.
    Delivered,
    /// To be tried again.
    Retry(Duration),
    /// The attempt did not happen for a reason of our own; it is not counted.
    Postponed(Duration),
    /// Given up.
    Dead(String),
}

impl Fate {
    /// The word for it.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry(_) => "retry",
            Self::Postponed(_) => "postponed",
            Self::Dead(_) => "dead",
        }
    }
}

/// An attempt in the words of its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) fate: Fate,
    pub(super) status: Option<i64>,
    pub(super) response: Option<String>,
    pub(super) error: Option<String>,
    pub(super) duration_ms: i64,
    gone: bool,
}

impl Verdict {
    /// An attempt that could not be made for a reason that only a person can mend; it is tried again on schedule.
    pub(super) fn unsent(problem: String, attempts: i64) -> Self {
        Self {
            fate: retry(attempts, 500, None),
            status: None,
            response: None,
            error: Some(problem),
            duration_ms: 0,
            gone: false,
        }
    }

    /// The same for a delivery that is attempted once: whatever it is not taken for ends it.
    pub(super) fn once(self) -> Self {
        match self.fate {
            Fate::Retry(_) | Fate::Postponed(_) => {
                Self { fate: Fate::Dead("a test is sent once and not retried".to_owned()), ..self }
            }
            Fate::Delivered | Fate::Dead(_) => self,
        }
    }
}

fn retry(attempts: i64, chance: u16, wish: Option<Duration>) -> Fate {
    let made = usize::try_from(attempts).unwrap_or(usize::MAX);
    match delay_after(made, chance, wish) {
        Some(delay) => Fate::Retry(delay),
        None => Fate::Dead(format!("given up after {attempts} attempts")),
    }
}

/// Judges an outcome. `attempts` counts this attempt too; `chance` (0 to 1000) spreads the retries.
pub(super) fn judge(outcome: Outcome, attempts: i64, chance: u16) -> Verdict {
    let duration_ms = i64::try_from(outcome.duration.as_millis()).unwrap_or(i64::MAX);
    let retry = |wish| retry(attempts, chance, wish);
    match outcome.result {
        Ok(answer) => {
            let status = answer.status;
            let (fate, error) = match status {
                200..=299 => (Fate::Delivered, None),
                300..=399 => (retry(None), Some(format!("HTTP {status}: redirects are not followed"))),
                429 | 503 => (retry(answer.retry_after), Some(format!("HTTP {status}"))),
                _ => (retry(None), Some(format!("HTTP {status}"))),
            };
            Verdict {
                fate,
                status: Some(i64::from(status)),
                response: Some(answer.body),
                error,
                duration_ms,
                gone: status == 410,
            }
        }
        Err(failure) => {
            let fate = match failure {
                Failure::Busy => Fate::Postponed(Duration::from_secs(1)),
                _ => retry(None),
            };
            Verdict { fate, status: None, response: None, error: Some(failure.to_string()), duration_ms, gone: false }
        }
    }
}

/// Notes a verdict on the breaker; gives the reason if the endpoint has to be disabled.
pub(super) fn note(breaker: &mut webhook_breaker::Model, verdict: &Verdict, now: Timestamp) -> Option<String> {
    match verdict.fate {
        Fate::Delivered => {
            breaker.failures = 0;
            breaker.failing_since = None;
            breaker.open_until = None;
            breaker.gone_count = 0;
            breaker.gone_since = None;
            return None;
        }
        Fate::Postponed(_) => return None,
        Fate::Retry(_) | Fate::Dead(_) => {}
    }
    breaker.failures = breaker.failures.saturating_add(1);
    let since = *breaker.failing_since.get_or_insert(now);
    if breaker.failures >= OPENS_AFTER {
        breaker.open_until = Some(now.plus(PROBE_EVERY));
    }
    if verdict.gone {
        breaker.gone_count = breaker.gone_count.saturating_add(1);
        let gone_since = *breaker.gone_since.get_or_insert(now);
        if breaker.gone_count >= GONE_COUNT && now.since(gone_since) >= GONE_FOR {
            return Some("the endpoint answered 410 Gone".to_owned());
        }
    } else {
        breaker.gone_count = 0;
        breaker.gone_since = None;
    }
    (now.since(since) >= FAILING_FOR).then(|| "nothing but failures for five days".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::client::Answer;
    use cryptopay_domain::ids::EndpointId;

    fn answered(status: u16) -> Outcome {
        let answer = Answer { status, body: String::new(), retry_after: Some(Duration::from_secs(77)) };
        Outcome { duration: Duration::from_millis(3), result: Ok(answer) }
    }

    fn breaker() -> webhook_breaker::Model {
        webhook_breaker::Model {
            endpoint_id: EndpointId(1),
            origin: String::new(),
            failures: 0,
            failing_since: None,
            open_until: None,
            gone_count: 0,
            gone_since: None,
        }
    }

    #[test]
    fn only_a_2xx_is_a_delivery() {
        for (status, delivered) in [(200, true), (204, true), (301, false), (400, false), (500, false)] {
            assert_eq!(judge(answered(status), 1, 500).fate == Fate::Delivered, delivered, "{status}");
        }
    }

    #[test]
    fn a_receiver_that_asks_for_time_gets_it() {
        assert_eq!(judge(answered(429), 1, 500).fate, Fate::Retry(Duration::from_secs(77)));
        assert_eq!(judge(answered(500), 1, 500).fate, Fate::Retry(Duration::from_secs(5)));
    }

    #[test]
    fn after_the_last_attempt_a_delivery_is_dead() {
        assert!(matches!(judge(answered(500), 13, 500).fate, Fate::Dead(_)));
    }

    #[test]
    fn what_is_attempted_once_is_never_tried_again() {
        for status in [301, 410, 429, 500, 503] {
            assert!(matches!(judge(answered(status), 1, 500).once().fate, Fate::Dead(_)), "{status}");
        }
        assert_eq!(judge(answered(204), 1, 500).once().fate, Fate::Delivered);
        let busy = Outcome { duration: Duration::ZERO, result: Err(Failure::Busy) };
        assert!(matches!(judge(busy, 1, 500).once().fate, Fate::Dead(_)));
    }

    #[test]
    fn ten_failures_in_a_row_open_the_breaker_and_a_success_closes_it() {
        let mut breaker = breaker();
        let failed = judge(answered(500), 1, 500);
        for _ in 0..9 {
            assert_eq!(note(&mut breaker, &failed, Timestamp::from_secs(10)), None);
        }
        assert_eq!(breaker.open_until, None);
        note(&mut breaker, &failed, Timestamp::from_secs(10));
        assert_eq!(breaker.open_until, Some(Timestamp::from_secs(70)));
        note(&mut breaker, &judge(answered(200), 1, 500), Timestamp::from_secs(80));
        assert_eq!((breaker.failures, breaker.open_until), (0, None));
    }

    #[test]
    fn gone_three_times_over_ten_minutes_disables_the_endpoint() {
        let mut breaker = breaker();
        let gone = judge(answered(410), 1, 500);
        assert_eq!(note(&mut breaker, &gone, Timestamp::from_secs(0)), None);
        assert_eq!(note(&mut breaker, &gone, Timestamp::from_secs(1)), None);
        assert_eq!(note(&mut breaker, &gone, Timestamp::from_secs(2)), None);
        assert!(note(&mut breaker, &gone, Timestamp::from_secs(600)).is_some());
    }

    #[test]
    fn five_days_of_failures_disable_the_endpoint() {
        let mut breaker = breaker();
        let failed = judge(answered(500), 1, 500);
        assert_eq!(note(&mut breaker, &failed, Timestamp::from_secs(0)), None);
        assert!(note(&mut breaker, &failed, Timestamp::from_secs(5 * 86_400)).is_some());
    }
}
