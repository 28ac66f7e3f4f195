//! Reads JSON-RPC errors. Providers agree on neither codes nor words, so both are looked at; the words are collected
//! from what public endpoints say.

use alloy::rpc::json_rpc::ErrorPayload;

use crate::ChainError;

/// Longest part of a node's own words that is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 300;

const BATCH_WORDS: [&str; 7] = ["large", "limit", "size", "max", "exceed", "too many", "more than"];
const RATE_WORDS: [&str; 13] = [
    "rate limit",
    "rate-limit",
    "ratelimit",
    "rate exceeded",
    "too many requests",
    "request limit",
    "request count",
    "per second",
    "/sec",
    "capacity",
    "credits",
    "quota",
    "concurrent requests",
];
/// Words of a used-up plan. "Billing" and "upgrade your plan" are none: providers also advertise in the errors of their
/// block ranges.
const QUOTA_WORDS: [&str; 6] = ["quota", "credits", "payment required", "monthly", "capacity limit", "out of requests"];
/// Words of a limit for a moment, which outweigh those of a quota.
const MOMENT_WORDS: [&str; 4] = ["second", "/sec", "rate", "minute"];
/// Words of a block range or of the size of its logs.
const RANGE_WORDS: [&str; 14] = [
    "returned more than",
    "returns more than",
    "block range",
    "blocks range",
    "range is too",
    "range too",
    "range between to and from",
    "ranges over",
    "too many blocks",
    "requested blocks",
    "max results",
    "more than 10000 results",
    "response size",
    "response is too big",
];
/// Words of any limit, which in errors of log queries most often is one of the range.
const LIMIT_WORDS: [&str; 3] = ["is limited to", "greater than the limit", "limit exceeded"];
const FILTER_WORDS: [&str; 6] = [
    "exceed max topics",
    "exceed max sub topics",
    "too many topics",
    "too many addresses",
    "exceed max addresses",
    "topics limit",
];
const BLOCK_WORDS: [&str; 4] = ["unknown block", "header not found", "block not found", "header for hash not found"];
const MISSING_WORDS: [&str; 5] = [
    "method not found",
    "does not exist/is not available",
    "method not supported",
    "unsupported method",
    "not whitelisted",
];
const EXECUTION_WORDS: [&str; 16] = [
    "revert",
    "out of gas",
    "outofgas",
    "invalid opcode",
    "invalid jump",
    "invalid code",
    "stack underflow",
    "stack overflow",
    "stack limit",
    "max call depth",
    "write protection",
    "out of bounds",
    "gas uint64 overflow",
    "execution aborted",
    "vm execution",
    "evm error",
];
const TAG_WORDS: [&str; 7] =
    ["not found", "unknown block", "invalid block", "unsupported", "not supported", "invalid argument", "hex string"];

/// The error that a failed call of a batch of `calls` calls stands for. `words` is the payload's message, already
/// without the endpoint's secrets.
pub(crate) fn classify(method: &'static str, calls: usize, payload: &ErrorPayload, words: &str) -> ChainError {
    let lower = without_urls(&words.to_ascii_lowercase());
    let says = |any: &[&str]| any.iter().any(|word| lower.contains(word));
    if calls > 1 && lower.contains("batch") && says(&BATCH_WORDS) {
        return ChainError::BatchTooLarge { calls };
    }
    if method == "eth_getLogs" && says(&FILTER_WORDS) {
        return ChainError::FilterTooLarge { recipients: 0 };
    }
    let is_range = method == "eth_getLogs" && says(&RANGE_WORDS);
    if !is_range && is_quota(&lower) {
        return ChainError::QuotaUsed;
    }
    if payload.code == 429 || (says(&RATE_WORDS) && !(is_range && is_quota(&lower))) {
        return ChainError::RateLimited { retry_after: None };
    }
    if is_range || (method == "eth_getLogs" && (payload.code == -32005 || says(&LIMIT_WORDS))) {
        return ChainError::RangeTooLarge { limit: range_limit(&lower) };
    }
    if payload.code == -32005 {
        return ChainError::RateLimited { retry_after: None };
    }
    if payload.code == -32601 || says(&MISSING_WORDS) {
        return ChainError::MethodMissing { method };
    }
    ChainError::Node { method, code: payload.code, message: shorten(words) }
}

/// Reports whether words in lower case mean that a plan is used up, rather than that requests come too fast. URLs do not
/// count.
pub(crate) fn is_quota(lower: &str) -> bool {
    let lower = without_urls(lower);
    let says = |any: &[&str]| any.iter().any(|word| lower.contains(word));
    says(&QUOTA_WORDS) && !says(&MOMENT_WORDS)
}

/// Whether an error of `eth_getBlockByNumber` means that the node does not know the tag, or has no such block yet.
pub(crate) fn is_unknown_tag(error: &ChainError) -> bool {
    let ChainError::Node { code, message, .. } = error else { return false };
    let lower = message.to_ascii_lowercase();
    matches!(code, -32602 | -39001) || TAG_WORDS.iter().any(|word| lower.contains(word))
}

/// Whether an error of `eth_getLogs` by hash means that the node does not have that block.
pub(crate) fn is_unknown_block(error: &ChainError) -> bool {
    let ChainError::Node { message, .. } = error else { return false };
    let lower = message.to_ascii_lowercase();
    BLOCK_WORDS.iter().any(|word| lower.contains(word))
}

/// Whether an error of `eth_call` means that the contract's own code failed, so that asking again is of no use.
pub(crate) fn is_execution_failure(error: &ChainError) -> bool {
    let ChainError::Node { code, message, .. } = error else { return false };
    let lower = message.to_ascii_lowercase();
    *code == 3 || EXECUTION_WORDS.iter().any(|word| lower.contains(word))
}

/// A node's words without control characters, cut to a bearable length.
pub(crate) fn shorten(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE_CHARS).collect()
}

/// Words without URLs, whose paths state nothing about the error.
fn without_urls(words: &str) -> String {
    let parts = words.split(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>'));
    parts.filter(|part| !part.is_empty() && !part.contains("://")).collect::<Vec<_>>().join(" ")
}

/// How many blocks the endpoint takes at once, if its (lower-case, URL-free) words say so: the span that it proposes, else the
/// smallest number near the word "block" or "range". A wrong guess only costs a few requests.
fn range_limit(words: &str) -> Option<u64> {
    let numbers: Vec<Number> = numbers(words);
    let span = numbers.windows(2).find_map(|pair| match pair {
        [from, to] if from.hex && to.hex => to.value.checked_sub(from.value)?.checked_add(1),
        [from, to] if to.start == from.end.checked_add(1)? && words.get(from.end..to.start) == Some("-") => {
            to.value.checked_sub(from.value)?.checked_add(1)
        }
        _ => None,
    });
    if span.is_some() {
        return span;
    }
    if !words.contains("block") && !words.contains("range") {
        return None;
    }
    numbers.iter().filter(|number| !number.hex).map(|number| number.value).filter(|value| *value > 0).min()
}

struct Number {
    value: u64,
    hex: bool,
    start: usize,
    end: usize,
}

/// Numbers as providers write them: `10000`, `10,000`, `2k`, `0xbde5f8`.
fn numbers(words: &str) -> Vec<Number> {
    let mut found = Vec::new();
    let mut position = 0_usize;
    for token in words.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != ',') {
        let start = position;
        position = position.saturating_add(token.len());
        let text = token.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let end = start.saturating_add(text.len());
        let plain = text.replace(',', "");
        let number = if let Some(digits) = plain.strip_prefix("0x") {
            u64::from_str_radix(digits, 16).ok().map(|value| (value, true))
        } else if let Some(digits) = plain.strip_suffix('k') {
            digits.parse::<u64>().ok().and_then(|thousands| thousands.checked_mul(1_000)).map(|value| (value, false))
        } else {
            plain.parse().ok().map(|value| (value, false))
        };
        if let Some((value, hex)) = number {
            found.push(Number { value, hex, start, end });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &'static str, code: i64, message: &'static str) -> ChainError {
        classify(method, 1, &ErrorPayload { code, message: message.into(), data: None }, message)
    }

    #[test]
    fn range_errors_are_known_by_their_words_and_tell_their_limit() {
        for (code, words, limit) in [
            (
                -32005,
                "query returned more than 10000 results. Try with this block range [0xBDE5F8, 0xBDE5FF].",
                Some(8),
            ),
            (-32005, "query returned more than 10000 results", None),
            (-32602, "query exceeds max block range 100000", Some(100_000)),
            (-32603, "eth_getLogs range is too large, max is 1k blocks", Some(1_000)),
            (35, "ranges over 10000 blocks are not supported on freetier", Some(10_000)),
            (
                -32602,
                "eth_getLogs is limited to 1024 block range. Please check https://docs.example.io/v2/9",
                Some(1_024),
            ),
            (-32602, "query exceeds max results 20000, retry with the range 23879634-23879696", Some(63)),
            (-32000, "eth_getLogs and eth_newFilter are limited to a 10,000 blocks range", Some(10_000)),
            (
                -32615,
                "eth_getLogs is limited to a 5 range, upgrade from discover plan at \
                 https://dashboard.quicknode.com/billing/plan to increase the limit",
                Some(5),
            ),
            (-32600, "block range over 10 blocks: upgrade your plan, or see https://example.io/quota", Some(10)),
            (-32600, "the block range of 500 needs more credits", Some(500)),
            (-32000, "Maximum allowed number of requested blocks is 1000", Some(1_000)),
            (-32000, "range between to and from blocks is too large", None),
            (-32005, "limit exceeded", None),
            (
                -32602,
                "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range",
                Some(2_000),
            ),
        ] {
            match of("eth_getLogs", code, words) {
                ChainError::RangeTooLarge { limit: found } => assert_eq!(found, limit, "{words}"),
                other => panic!("{words}: {other:?}"),
            }
        }
    }

    #[test]
    fn filters_with_too_many_addresses_are_told_from_ranges_and_rates() {
        for words in ["exceed max topics", "too many addresses in filter, limit exceeded: 100"] {
            assert!(matches!(of("eth_getLogs", -32602, words), ChainError::FilterTooLarge { .. }), "{words}");
        }
        assert!(is_unknown_block(&of("eth_getLogs", -32000, "unknown block")));
        assert!(!is_unknown_block(&of("eth_getLogs", -32000, "busy")));
    }

    #[test]
    fn a_used_up_plan_is_told_from_a_rate_limit() {
        for (code, words) in [
            (-32000, "monthly quota exceeded"),
            (-32005, "you have used all of your credits"),
            (-32052, "Payment Required"),
            (402, "quota has been reached, see billing"),
            (-32005, "monthly capacity limit exceeded, see https://example.io/billing"),
        ] {
            assert!(matches!(of("eth_getLogs", code, words), ChainError::QuotaUsed), "{words}");
        }
    }

    #[test]
    fn rate_limits_are_not_taken_for_range_errors() {
        for (method, code, words) in [
            ("eth_getLogs", -32005, "daily request count exceeded, request rate limited"),
            ("eth_getLogs", 429, "slow down"),
            ("eth_getLogs", -32007, "100/second request limit reached"),
            ("eth_chainId", -32005, "limit exceeded"),
            ("eth_getLogs", -32000, "Your app has exceeded its compute units per second capacity"),
        ] {
            assert!(matches!(of(method, code, words), ChainError::RateLimited { .. }), "{words}");
        }
    }

    #[test]
    fn the_rest_keeps_the_nodes_words_without_control_characters() {
        assert!(matches!(of("eth_foo", -32601, "nope"), ChainError::MethodMissing { method: "eth_foo" }));
        let ChainError::Node { message, .. } = of("eth_call", 3, "execution\nreverted") else {
            panic!("not a node error")
        };
        assert_eq!(message, "execution reverted");
        assert!(!of("eth_call", -32000, "execution reverted").is_retryable());
        for (code, words) in [(3, ""), (-32015, "VM execution error."), (-32003, "EVM error OutOfGas")] {
            assert!(is_execution_failure(&of("eth_call", code, words)), "{words}");
        }
        assert!(!is_execution_failure(&of("eth_call", -32000, "header not found")));
        assert!(of("eth_call", -32000, "header not found").is_retryable());
    }
}
