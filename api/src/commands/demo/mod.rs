//! `cryptopay demo`: the main job, told step by step by somebody who only knows the API.

mod client;
mod shop;
mod subscription;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::serve::{start_failure, stop_signal};
use super::{Failure, log, say};
use crate::config::{Config, Environment, Role};
use crate::gateway::{Gateway, StartError};
use client::Client;
use shop::Shop;
use subscription::Subscription;

/// How long any step may take before the demo says that something is wrong.
const STEP: Duration = Duration::from_secs(15);
/// Where the demo serves, unless it is told otherwise or the address is taken.
const PREFERRED: &str = "127.0.0.1:8080";

/// Tells the story; with `exit`, stops afterwards.
pub(super) async fn run(exit: bool) -> Result<(), Failure> {
    let folder = Folder::create()?;
    let gateway = start(&folder).await?;
    let told = story(&gateway).await;
    if exit || told.is_err() {
        gateway.stop().await;
        return told;
    }
    let base = &gateway.app.public_url;
    say(format!("\nThe gateway keeps serving on {base} (Swagger UI: {base}/docs/). Ctrl-C ends it."));
    stop_signal().await.map_err(Failure::other)?;
    gateway.stop().await;
    Ok(())
}

/// A folder of the demo's own, removed when it ends: every demo begins anew.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("cryptopay-demo-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&path).map_err(|error| Failure::other(format!("{}: {error}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean up.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start(folder: &Folder) -> Result<Gateway, Failure> {
    let configured = |bind: &str| {
        let set: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let wanted = [
            ("CRYPTOPAY_DATA_DIR", folder.0.clone().into_os_string()),
            ("CRYPTOPAY_BIND", bind.into()),
            ("CRYPTOPAY_LOG", "error".into()),
        ];
        let missing =
            wanted.into_iter().filter(|(name, _)| !set.iter().any(|(known, value)| known == name && !value.is_empty()));
        let missing: Vec<(OsString, OsString)> = missing.map(|(name, value)| (name.into(), value)).collect();
        let variables =
            set.iter().cloned().chain(missing).filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Config::from_env(Role::All, &Environment::from_iter(variables))
    };
    let config = configured(PREFERRED)?;
    log::begin(&config)?;
    let preferred: Option<SocketAddr> = PREFERRED.parse().ok();
    let asked_for = Some(config.bind) != preferred;
    match Gateway::start(config).await {
        Err(StartError::Bind { .. }) if !asked_for => {
            Gateway::start(configured("127.0.0.1:0")?).await.map_err(start_failure)
        }
        outcome => outcome.map_err(start_failure),
    }
}

async fn story(gateway: &Gateway) -> Result<(), Failure> {
    let began = Instant::now();
    let base = gateway.app.public_url.clone();
    step(1, "A gateway starts: SQLite, jobs and a simulated chain in one process.");
    let mut client = Client::new(&base);
    wait_until_ready(&client).await?;
    detail(format!("it serves on {base}"));

    step(2, "A merchant registers.");
    let name = format!("demo-{:08x}", rand::random::<u32>());
    let session = client
        .post(
            "/api/auth/register",
            json!({"username": name, "email": format!("{name}@shop.example"), "password": format!("correct-horse-{name}"), "shop_name": "Demo Shop"}),
        )
        .await?;
    client.authenticate(text(&session, "/data/access")?);
    detail(format!("{name}, who gets an access token"));

    step(3, "The merchant adds a wallet. The gateway never holds a key: customers pay straight to this address.");
    let address = "0x00000000000000000000000000000000000000A1";
    client.post("/api/merchant-wallets/", json!({"blockchain": "base", "address": address.to_lowercase()})).await?;
    detail(format!("{address} on Base"));

    step(4, "The shop listens for webhooks: a real HTTP server, which checks signatures.");
    let mut shop = Shop::open().await?;
    let endpoint = client.post("/api/webhook-endpoints/", json!({"url": shop.url, "events": ["*"]})).await?;
    shop.trust(text(&endpoint, "/data/secret")?);
    detail(shop.url.clone());

    step(5, "A customer buys something: the shop creates a payment order.");
    let order = client
        .post(
            "/api/payment-orders/",
            json!({"amount": "100.00", "currency": "USDC", "blockchain": "base", "nonce": 1,
                   "order_info": json!({"product": "Premium Plan"}).to_string()}),
        )
        .await?;
    let order_id = text(&order, "/data/order_id")?.to_owned();
    detail(format!(
        "{order_id}: {} USDC to {}",
        text(&order, "/data/pay_amount")?,
        text(&order, "/data/receiving_address")?
    ));
    detail(format!("payment page: {}", text(&order, "/data/payment_url")?));
    let mut updates = Subscription::open(&base, client.token(), &order_id).await?;

    step(6, "The customer pays. The scanner reads the chain as it would a real one, through JSON-RPC.");
    let paid = client.post(&format!("/api/sandbox/payment-orders/{order_id}/pay/"), json!({})).await?;
    detail(format!("transaction {}", text(&paid, "/data/transaction_hash")?));
    let update = within("the payment was not seen", updates.until("payment.pending")).await?;
    detail(format!("the subscription says: {update}"));

    step(7, "Blocks are built on top of it; the demo mines them to save you the wait.");
    confirm(&client, &order_id).await?;
    let update = within("the confirmation did not arrive", updates.until("payment.confirmed")).await?;
    detail(format!("the subscription says: {update}"));

    step(8, "The signed webhook arrives at the shop.");
    let arrived = within("the webhook did not arrive", shop.until("payment.confirmed")).await?;
    detail(format!("{} {} (attempt {})", arrived.event, arrived.id, arrived.attempt));
    detail(format!("signature {}: {}", if arrived.verified { "verified" } else { "WRONG" }, arrived.signature));
    detail(format!("order {}, fulfillable: {}", arrived.order_status, arrived.fulfillable));
    if !arrived.verified || !arrived.fulfillable {
        return Err(Failure::other("The webhook arrived, but its signature or its contents are wrong."));
    }
    say(format!("\nPaid, confirmed and told in {:.1} s.", began.elapsed().as_secs_f32()));
    Ok(())
}

async fn wait_until_ready(client: &Client) -> Result<(), Failure> {
    let ready = async {
        while !client.is_ready().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    within("the gateway did not become ready", ready).await?;
    // An order needs a verified block of its chain.
    let scanned = async {
        while client.get("/api/blockchains/base/").await?.pointer("/data/scanned_height").is_none_or(Value::is_null) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    within("the chain did not start", scanned).await
}

/// Mines block by block until the order is confirmed, and shows how far it is.
async fn confirm(client: &Client, order_id: &str) -> Result<(), Failure> {
    let path = format!("/order/{order_id}/status");
    let status = client.get(&path).await?;
    let required = number(&status, "/data/required_confirmations");
    let bar = ProgressBar::with_draw_target(Some(required), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("   {bar:30} {pos}/{len} confirmations") {
        bar.set_style(style);
    }
    let mining = async {
        loop {
            let status = client.get(&path).await?;
            let confirmations = number(&status, "/data/confirmations").min(required);
            bar.set_position(confirmations);
            if text(&status, "/data/status")? == "confirmed" {
                return Ok(());
            }
            if confirmations < required {
                client.post("/api/sandbox/blockchains/base/mine/", json!({"blocks": 1})).await?;
            }
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
    };
    let outcome = within("the order was not confirmed", mining).await;
    bar.finish();
    if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        detail(format!("{required}/{required} confirmations"));
    }
    outcome
}

async fn within<T>(otherwise: &str, step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(STEP, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::other(format!("The demo stopped: {otherwise} within {} s.", STEP.as_secs()))),
    }
}

fn step(number: u32, what: &str) {
    say(format!("\n{number}. {what}"));
}

fn detail(what: impl std::fmt::Display) {
    say(format!("   {what}"));
}

fn text<'a>(value: &'a Value, pointer: &str) -> Result<&'a str, Failure> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .ok_or_else(|| Failure::other(format!("The demo stopped: an answer lacks {pointer}: {value}")))
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}
