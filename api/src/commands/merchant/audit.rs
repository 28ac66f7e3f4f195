//! `cryptopay merchant audit`: the audit log for the operator's eyes.

use cryptopay_entity::merchant;
use sea_orm::DatabaseConnection;
use serde_json::{Value, json};

use crate::commands::{Failure, say};
use crate::operations::audit::{self, Line};

/// Whose lines, and how many.
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// Name to log in with, or e-mail address; everybody's lines if not said
    username: Option<String>,
    /// Most lines
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    limit: u64,
    /// For machines: a list of objects
    #[arg(long)]
    json: bool,
}

/// What the columns of the table are called.
const HEADINGS: [&str; 6] = ["WHEN", "WHO", "WHAT", "TO WHAT", "FROM", "DETAILS"];

/// Prints them.
pub(super) async fn show(database: &DatabaseConnection, options: &Audit) -> Result<(), Failure> {
    let whose = match &options.username {
        Some(name) => {
            let found = merchant::Entity::find_by_login(database, name).await.map_err(Failure::other)?;
            Some(found.ok_or_else(|| Failure::other("There is no such merchant."))?.id)
        }
        None => None,
    };
    let lines = audit::newest(database, whose, options.limit).await.map_err(Failure::other)?;
    if options.json {
        say(Value::from_iter(lines.iter().map(as_json)));
    } else {
        table(&lines).into_iter().for_each(say);
    }
    Ok(())
}

fn as_json(line: &Line) -> Value {
    json!({
        "id": line.id,
        "at": line.at.to_string(),
        "merchant_id": line.merchant.map(|id| id.0),
        "actor": line.actor,
        "action": line.action,
        "subject": line.subject,
        "address": line.address,
        "details": line.details,
    })
}

/// The lines with a heading, each column as wide as its widest text. Details come last and are as long as they are.
fn table(lines: &[Line]) -> Vec<String> {
    let cells = lines.iter().map(|line| {
        let details = line.details.to_string();
        let details = if details == "{}" { "" } else { &details };
        let at = line.at.to_string();
        let address = line.address.as_deref().unwrap_or("-");
        [at.as_str(), &line.actor, &line.action, &line.subject, address, details].map(printable)
    });
    let rows: Vec<[String; 6]> = std::iter::once(HEADINGS.map(str::to_owned)).chain(cells).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let pad = |row: &[String; 6]| {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(pad).collect()
}

/// Merchants choose some of the words: nothing of them may steer a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use cryptopay_domain::ids::MerchantId;
    use cryptopay_domain::time::Timestamp;

    use super::*;

    fn line(subject: &str, details: &str, address: Option<&str>) -> Line {
        Line {
            id: Some(1),
            at: Timestamp::from_micros(0),
            merchant: Some(MerchantId(7)),
            actor: "api key 1".to_owned(),
            action: "wallet.create".to_owned(),
            subject: subject.to_owned(),
            details: serde_json::from_str(details).unwrap(),
            address: address.map(str::to_owned),
        }
    }

    #[test]
    fn the_table_is_aligned_and_steers_no_terminal() {
        let lines = [line("1", r#"{"label":"till"}"#, Some("203.0.113.9")), line("\u{1b}[2J\u{9b}", "{}", None)];
        assert_eq!(
            table(&lines),
            [
                "WHEN                  WHO        WHAT           TO WHAT  FROM         DETAILS",
                "1970-01-01T00:00:00Z  api key 1  wallet.create  1        203.0.113.9  {\"label\":\"till\"}",
                "1970-01-01T00:00:00Z  api key 1  wallet.create  \u{fffd}[2J\u{fffd}    -",
            ]
        );
    }

    #[test]
    fn machines_get_the_details_as_they_are() {
        let shown = as_json(&line("1", r#"{"label":"till"}"#, None));
        assert_eq!((&shown["details"], &shown["address"]), (&json!({"label": "till"}), &Value::Null));
    }
}
