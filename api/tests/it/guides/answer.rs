//! Whether an answer is the one that a guide shows: the same in everything but numbers, times and what is random.

use serde_json::{Deserializer, Value};

/// Compares the last JSON value that was printed with the one that is shown. Objects have the same keys, values the same
/// types; what is shown without a digit in it is literally so.
pub(super) fn compare_json(shown: &str, printed: &str) -> Result<(), String> {
    let shown: Value = serde_json::from_str(shown).map_err(|error| format!("what is shown is no JSON: {error}"))?;
    let values: Result<Vec<Value>, _> = Deserializer::from_str(printed).into_iter().collect();
    let values = values.map_err(|error| format!("what was printed is no JSON: {error}"))?;
    let found = values.last().ok_or("nothing was printed")?;
    compare(&shown, found, "")
}

fn compare(shown: &Value, found: &Value, at: &str) -> Result<(), String> {
    let differs = || Err(format!("{at} is {found}, shown is {shown}"));
    match (shown, found) {
        (Value::Object(shown), Value::Object(found)) => {
            if let Some(missing) = shown.keys().find(|key| !found.contains_key(*key)) {
                return Err(format!("{at} has no {missing}"));
            }
            if let Some(untold) = found.keys().find(|key| !shown.contains_key(*key)) {
                return Err(format!("{at} has {untold} too"));
            }
            shown.iter().try_for_each(|(key, value)| compare(value, &found[key], &format!("{at}.{key}")))
        }
        (Value::Array(shown), Value::Array(found)) => {
            if shown.is_empty() != found.is_empty() || shown.len() > found.len() {
                return Err(format!("{at} has {} items, shown are {}", found.len(), shown.len()));
            }
            let pairs = shown.iter().zip(found).enumerate();
            pairs.into_iter().try_for_each(|(index, (shown, found))| compare(shown, found, &format!("{at}[{index}]")))
        }
        (Value::String(shown), Value::String(found)) if varies(shown) || shown == found => Ok(()),
        (Value::Number(_), Value::Number(_)) => Ok(()),
        (shown, found) if shown == found => Ok(()),
        _ => differs(),
    }
}

fn varies(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

/// Compares lines, but for the digits in them.
pub(super) fn compare_text(shown: &str, printed: &str) -> Result<(), String> {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(without_digits).collect()
    };
    let (shown, found) = (lines(shown), lines(printed));
    if shown == found { Ok(()) } else { Err(format!("shown is {shown:#?}, but found {found:#?}")) }
}

fn without_digits(line: &str) -> String {
    let mut plain = String::new();
    for c in line.chars() {
        let c = if c.is_ascii_digit() { '0' } else { c };
        if c != '0' || !plain.ends_with('0') {
            plain.push(c);
        }
    }
    plain
}

#[test]
fn what_varies_may_differ_and_nothing_else() {
    let shown = r#"{"id": 1, "status": "pending", "at": "2026-01-31T23:59:59Z", "flags": [], "list": [{"a": null}]}"#;
    let good = r#"{"id": 2, "status": "pending", "at": "2027-01-31T23:59:59Z", "flags": [], "list": [{"a": null}, 2]}"#;
    assert_eq!(compare_json(shown, good), Ok(()));
    for (from, to) in [("\"id\"", "\"ID\""), ("pending", "paid"), ("[]", "[1]"), ("null", "0"), ("2,", "\"2\",")] {
        assert!(compare_json(shown, &good.replacen(from, to, 1)).is_err(), "{from} {to}");
    }
    assert_eq!(compare_text("X-Limit: 1000\n", "\nX-Limit: 999\r\n"), Ok(()));
    assert!(compare_text("X-Limit: 1000\n", "X-Remaining: 1000\n").is_err());
}
