//! What is kept of a receiver's answer.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use tokio::time::{Instant, timeout_at};

/// Bytes of the body that are read and kept.
pub const MAX_BODY_BYTES: usize = 4096;

/// Longest pause that a receiver can ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A receiver's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status. Redirects are not followed, so it may be 3xx.
    pub status: u16,
    /// The beginning of the body, at most [`MAX_BODY_BYTES`] of UTF-8. What is no text is replaced by `U+FFFD`, and so
    /// is NUL, which PostgreSQL cannot store.
    pub body: String,
    /// How long the receiver asks us to wait, at most [`MAX_RETRY_AFTER`]. A date is understood where the answer also
    /// says what time it is (`Date`), so that no two clocks are compared.
    pub retry_after: Option<Duration>,
}

/// Reads the answer's body up to its bound or `deadline`. A body that breaks off is kept as far as it came.
pub(super) async fn read(mut response: reqwest::Response, deadline: Instant) -> Answer {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let mut bytes: Vec<u8> = Vec::new();
    while bytes.len() <= MAX_BODY_BYTES {
        let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await else { break };
        let wanted = (MAX_BODY_BYTES + 1).saturating_sub(bytes.len());
        bytes.extend(chunk.iter().take(wanted));
    }
    Answer { status, body: text(&bytes), retry_after }
}

/// The text of at most [`MAX_BODY_BYTES`]; one byte more than that says that there was more.
fn text(bytes: &[u8]) -> String {
    let mut text = String::new();
    let kept = bytes.get(..MAX_BODY_BYTES).unwrap_or(bytes);
    let cut = kept.len() < bytes.len();
    let mut chunks = kept.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        for c in chunk.valid().chars() {
            push(&mut text, if c == '\0' { char::REPLACEMENT_CHARACTER } else { c });
        }
        let is_cut_character = cut && chunks.peek().is_none();
        if !chunk.invalid().is_empty() && !is_cut_character {
            push(&mut text, char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// A replacement is longer than what it replaces, so the bound is kept here once more.
fn push(text: &mut String, c: char) {
    if text.len() + c.len_utf8() <= MAX_BODY_BYTES {
        text.push(c);
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Digits that do not fit are many seconds.
        return Some(value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs).min(MAX_RETRY_AFTER));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some(until.duration_since(now).unwrap_or_default().min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(retry_after_value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after_value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn retry_after_in_seconds_is_clamped_to_an_hour() {
        assert_eq!(pause("120", None), Some(Duration::from_secs(120)));
        assert_eq!(pause(" 0 ", None), Some(Duration::ZERO));
        assert_eq!(pause("86400", None), Some(MAX_RETRY_AFTER));
        assert_eq!(pause("99999999999999999999999999", None), Some(MAX_RETRY_AFTER));
        for nonsense in ["", "-5", "+5", "1.5", "soon", "5s"] {
            assert_eq!(pause(nonsense, None), None, "{nonsense}");
        }
    }

    #[test]
    fn retry_after_as_a_date_is_measured_by_the_receivers_own_clock() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(pause("Sun, 06 Nov 1994 08:51:37 GMT", date), Some(Duration::from_secs(120)));
        assert_eq!(pause("Sunday, 06-Nov-94 08:49:38 GMT", date), Some(Duration::from_secs(1)));
        assert_eq!(pause("Mon, 07 Nov 1994 08:49:37 GMT", date), Some(MAX_RETRY_AFTER));
        assert_eq!(pause("Sun, 06 Nov 1994 08:00:00 GMT", date), Some(Duration::ZERO));
        assert_eq!(pause("Sun, 06 Nov 1994 08:51:37 GMT", None), None);
    }

    #[test]
    fn what_is_no_text_is_replaced_and_the_bound_kept() {
        assert_eq!(text(b"ok"), "ok");
        assert_eq!(text(b"a\0b\xffc"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(text(b"half \xe2\x82"), "half \u{fffd}");
        assert!(text(&[0xff; MAX_BODY_BYTES]).len() <= MAX_BODY_BYTES);
    }

    #[test]
    fn a_character_is_not_cut_in_half() {
        let euros = "€".repeat(MAX_BODY_BYTES);
        let kept = text(&euros.as_bytes()[..=MAX_BODY_BYTES]);
        assert_eq!(kept, "€".repeat(MAX_BODY_BYTES / 3));
    }
}
