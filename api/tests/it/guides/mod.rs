//! The guides of `docs/guides/`, followed as a reader would: every example runs, in its order, against a gateway in sandbox
//! mode, and answers what the guide says it answers. A failure names the file and the line.
//!
//! All shell examples of a guide are one program, and so are those in JavaScript and in Python. Each begins with the
//! examples of `docs/README.md` in its language. Nothing is prepared for them: each guide runs alone, each language on a new
//! account, and all guides run in order on the account that the first one registers.

mod answer;
mod errors;
mod markdown;
mod program;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cryptopay_test_support::block_on;
use serde_json::json;

use crate::harness::{Client, Installation, within};
use markdown::{Block, Page};
use program::Language;

/// How long a program of a guide may take.
const LIMIT: Duration = Duration::from_secs(90);

macro_rules! guides {
    ($($name:ident: $file:literal,)+) => {
        /// The guides that have examples, in the order of the index.
        const GUIDES: &[&str] = &[$($file),+];

        $(#[test]
        fn $name() {
            block_on(follow($file));
        })+
    };
}

guides! {
    the_guide_to_authentication_works_as_printed: "authentication.md",
    the_guide_to_wallets_works_as_printed: "wallets.md",
    the_guide_to_payment_orders_works_as_printed: "payment-orders.md",
    the_guide_to_transactions_works_as_printed: "transactions.md",
    the_guide_to_webhooks_works_as_printed: "webhooks.md",
    the_guide_to_events_works_as_printed: "events.md",
    the_guide_to_blockchains_works_as_printed: "blockchains.md",
    the_guide_to_the_payment_page_works_as_printed: "payment-page.md",
    the_guide_to_the_sandbox_works_as_printed: "sandbox.md",
    the_guide_to_errors_works_as_printed: "errors.md",
    the_guide_to_idempotency_works_as_printed: "idempotency.md",
    the_guide_to_pagination_works_as_printed: "pagination.md",
    the_guide_to_rate_limits_works_as_printed: "rate-limits.md",
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Follows a guide in every language.
async fn follow(file: &str) {
    let start = Page::read(&docs().join("README.md"));
    let guide = Page::read(&docs().join("guides").join(file));
    let installation = Installation::bare();
    let process = installation.start().await;
    let client = process.client();
    for language in Language::ALL {
        assert!(guide.blocks_in(language.word()).next().is_some(), "{file} has no example in {}", language.word());
        let key = register(&client, language.word()).await;
        let run = program::run(language, &start, &guide, process.base(), Some(&key));
        let printed = within(LIMIT, &format!("{file} in {}", language.word()), run).await;
        if language == Language::Shell {
            compare(&guide, &printed);
        }
    }
}

/// A new account with nothing in it; gives an API key that may do everything.
async fn register(client: &Client, name: &str) -> String {
    let name = format!("reader-{name}");
    let email = format!("{name}@example.com");
    let account = json!({"username": name, "email": email, "password": "correct-horse-9", "shop_name": "Shop"});
    let registered = client.post("/api/auth/register", account).await.data(201);
    let client = client.with_token(registered["access"].as_str().unwrap());
    let scopes = json!({"name": "guide", "scopes": ["read", "write", "manage"]});
    let key = client.post("/api/api-keys/", scopes).await.data(201);
    key["secret"].as_str().unwrap().to_owned()
}

#[test]
fn all_guides_work_in_order_on_one_account_with_nothing() {
    block_on(async {
        let start = Page::read(&docs().join("README.md"));
        let installation = Installation::bare();
        let process = installation.start().await;
        let mut key = None;
        for file in GUIDES {
            let guide = Page::read(&docs().join("guides").join(file));
            for language in Language::ALL {
                let run = program::run(language, &start, &guide, process.base(), key.as_deref());
                let printed = within(LIMIT, &format!("{file} in {}", language.word()), run).await;
                if language == Language::Shell {
                    compare(&guide, &printed);
                    key = key.or_else(|| printed.iter().find_map(|text| secret_in(text)));
                }
            }
        }
    });
}

/// The secret of the key that an example has made.
fn secret_in(printed: &str) -> Option<String> {
    let made: serde_json::Value = serde_json::from_str(printed.trim()).ok()?;
    made["secret"].as_str().filter(|secret| secret.starts_with("sk_test_")).map(str::to_owned)
}

#[test]
fn a_failing_example_stops_with_the_message_of_the_server() {
    block_on(async {
        let start = Page::read(&docs().join("README.md"));
        let installation = Installation::bare();
        let process = installation.start().await;
        let key = register(&process.client(), "shop").await;
        for (language, example) in [
            (
                Language::Shell,
                "ORDER=$(curl $B/api/payment-orders/ORD-none/ -H \"$A\" | jq -r .data.order_id)\necho on",
            ),
            (Language::Shell, "wait_for /api/payment-orders/ORD-none/ .data.fulfillable\necho on"),
            (Language::JavaScript, "await api('GET', '/api/payment-orders/ORD-none/')\nconsole.log('on')"),
            (Language::JavaScript, "await waitFor('/api/payment-orders/ORD-none/', () => true)\nconsole.log('on')"),
            (Language::Python, "api('GET', '/api/payment-orders/ORD-none/')\nprint('on')"),
            (Language::Python, "wait_for('/api/payment-orders/ORD-none/', bool)\nprint('on')"),
        ] {
            let guide = Page::of_example(language.word(), example);
            let ended = program::run_to_a_failure(language, &start, &guide, process.base(), Some(&key)).await;
            assert!(ended.complaints.contains("There is no such payment order."), "{example}: {}", ended.complaints);
            assert_eq!(ended.printed, "", "{example}");
        }
    });
}

/// Compares what the shell examples printed with the answers that the guide shows right after them.
fn compare(guide: &Page, printed: &[String]) {
    let mut printed = printed.iter();
    let mut last: Option<&String> = None;
    for block in &guide.blocks {
        match block.language.as_str() {
            "sh" => last = Some(printed.next().unwrap_or_else(|| panic!("{}: nothing was printed", guide.at(block)))),
            "json" | "text" => {
                let Some(found) = last.take() else { continue };
                if let Err(difference) = compare_one(block, found) {
                    panic!("{}: {difference}\n--- printed\n{found}", guide.at(block));
                }
            }
            _ => last = None,
        }
    }
}

fn compare_one(block: &Block, found: &str) -> Result<(), String> {
    if block.language == "json" {
        answer::compare_json(&block.text, found)
    } else {
        answer::compare_text(&block.text, found)
    }
}

#[test]
fn every_guide_is_followed_and_in_the_index() {
    let index = fs::read_to_string(docs().join("README.md")).unwrap();
    let found: BTreeSet<String> = fs::read_dir(docs().join("guides"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .inspect(|file| assert!(index.contains(&format!("](guides/{file})")), "docs/README.md does not name {file}"))
        .collect();
    let followed = GUIDES.iter().map(|file| (*file).to_owned());
    // A list to tick off.
    let known: BTreeSet<String> = followed.chain(["going-live.md".to_owned()]).collect();
    assert_eq!(found, known);
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let mut pages = vec![docs().join("../README.md"), docs().join("README.md")];
    pages.extend(fs::read_dir(docs().join("guides")).unwrap().map(|entry| entry.unwrap().path()));
    let texts: Vec<(PathBuf, String)> =
        pages.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    for (path, text) in &texts {
        for link in markdown::links(text).filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let headings = markdown::anchors(&fs::read_to_string(&target).unwrap());
                assert!(headings.contains(anchor), "{}: {link}", path.display());
            }
        }
    }
}
