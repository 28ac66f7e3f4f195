//! Machines whose clocks are wrong, and disks that are full: no reason to lose or to hold up anything.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use chrono::{DateTime, TimeDelta, Utc};
use cryptopay_test_support::{WebhookReceiver, block_on, free_port};
use serde_json::json;

use super::agreement::Expected;
use super::town::{SETTLE, Town};
use super::{World, costs};
use crate::harness::{Client, Installation, LIMIT, Process, Shop, eventually, told};

/// A library that changes the clock of the process that loads it.
const CLOCK: &str = include_str!("clock.c");
/// How wrong a worker's clock is: more than the tolerance of those who verify webhooks.
const OFFSET_SECS: i64 = 600;

#[test]
fn workers_whose_clocks_are_ten_minutes_apart_work_together() {
    block_on(async {
        let world = World::new().await;
        let mut town = Town::start(&world, 1, 0).await;
        let clock = changed_clock(world.installation.folder());
        let offset = OFFSET_SECS.to_string();
        let fast = [("LD_PRELOAD", clock.to_str().unwrap()), ("CLOCK_OFFSET_SECS", &offset), ("CRYPTOPAY_LOG", "info")];
        town.workers.push(world.installation.start_with("worker", &[("CRYPTOPAY_LOG", "info")]).await);
        town.workers.push(world.installation.start_with("worker", &fast).await);
        let [right, wrong] = [&town.workers[0], &town.workers[1]].map(first_logged);
        assert!(wrong - right >= TimeDelta::seconds(OFFSET_SECS - 60), "{right} {wrong}");

        let shop = Shop::open(&town.apis[0].client()).await;
        let secret = shop.listen(&world.receiver).await;
        let mut sold = Vec::new();
        for round in 0..12 {
            let order = shop.order(costs("USDC", "100.00")).await;
            world.pay(&order).await;
            sold.push(Expected::new(&order, "confirmed"));
            if round == 5 {
                // The leases of one go to the other, whatever that thinks the time is.
                town.workers.remove(0).kill_9();
            }
            if round == 8 {
                town.workers.push(world.installation.start_with("worker", &[]).await);
                town.workers.remove(0).kill_9();
            }
        }
        world.agree(&shop, &secret, &sold, SETTLE).await;
    });
}

#[test]
fn a_full_disk_for_the_log_neither_ends_the_process_nor_holds_it_up() {
    block_on(async {
        let bind = format!("127.0.0.1:{}", free_port());
        let installation = Installation::bare().with("CRYPTOPAY_BIND", &bind).with("CRYPTOPAY_LOG", "debug");
        let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let mut process = Running(installation.command(["serve"]).stdout(full()).stderr(full()).spawn().unwrap());
        let client = Client::new(&format!("http://{bind}"));
        eventually("an answer", async || {
            assert!(process.0.try_wait().unwrap().is_none(), "it has ended");
            let ready = client.try_send(reqwest::Method::GET, "/readyz", Vec::new(), "").await;
            ready.is_ok_and(|answer| answer.status == 200).then_some(())
        })
        .await;

        let receiver = WebhookReceiver::start().await;
        let shop = Shop::open(&client).await;
        shop.listen(&receiver).await;
        let order = shop.order(json!({})).await;
        shop.pay(&order, json!({})).await;
        shop.mine(13).await;
        receiver.wait_until(LIMIT, |journal| told(journal, "payment.confirmed", &order).len() == 1).await;
        assert!(process.0.try_wait().unwrap().is_none(), "it has ended");
    });
}

/// The time that a process gave its first line of the log.
fn first_logged(process: &Process) -> DateTime<Utc> {
    let log = process.log();
    let stamp = log.split_whitespace().next().unwrap_or_default();
    DateTime::parse_from_rfc3339(stamp).unwrap_or_else(|error| panic!("{error}: {log}")).to_utc()
}

/// Compiles the library.
fn changed_clock(folder: &Path) -> PathBuf {
    let library = folder.join("clock.so");
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-x", "c", "-", "-ldl", "-o"])
        .arg(&library)
        .stdin(Stdio::piped())
        .spawn()
        .expect("Rust needs a C compiler, so there is one");
    compiler.stdin.take().unwrap().write_all(CLOCK.as_bytes()).unwrap();
    assert!(compiler.wait().unwrap().success());
    library
}

/// Killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
