//! Kill -9 at random moments while payments flow: nothing is lost, nothing is credited or told twice.
//!
//! A shop creates orders and has most of them paid, with the retries that any client of a network needs; meanwhile the
//! process is killed again and again and started anew on the same database. In the end the receiver's journal is
//! compared with the orders, and the rows with the rules.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cryptopay_test_support::{TestDatabase, WebhookReceiver, long_tests_wanted, on_both_databases};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::harness::{
    Answer, Installation, Shop, assert_no_gaps, assert_repeats_are_the_same, id_of, is_signed, once_all_told, text,
    told, within,
};

/// Says at which moments the process is killed, as far as chance is ours.
const SEED: u64 = 20_261_122;
/// How many times it is killed.
const KILLS: usize = 8;
const KILLS_IF_LONG: usize = 60;
/// A claim of a delivery that died with its process is taken over after 30 s; that twice, and time to work.
const SETTLE: Duration = Duration::from_secs(90);

on_both_databases!(a_process_that_is_killed_at_any_moment_loses_and_repeats_nothing, async |db: TestDatabase| {
    eprintln!("seed {SEED}");
    let mut chance = StdRng::seed_from_u64(SEED);
    let installation = Installation::on(&db).with("CRYPTOPAY_LOG", "error");
    let receiver = WebhookReceiver::start().await;
    let mut process = installation.start().await;
    let shop = Shop::open(&process.client()).await;
    let secret = shop.listen(&receiver).await;
    let (place, places) = watch::channel((0, process.base().to_owned()));
    let enough = Arc::new(AtomicBool::new(false));
    let selling = tokio::spawn(Seller { shop, places }.sell_until(Arc::clone(&enough)));

    for kill in 0..if long_tests_wanted() { KILLS_IF_LONG } else { KILLS } {
        // Not to wait for something, but to kill at no moment in particular: mostly before the new process has taken
        // over the lease of the dead one, which takes 3 s; now and then well after it.
        let moment = if kill % 3 == 1 { 3_000..5_000 } else { 0..1_500 };
        sleep(Duration::from_millis(chance.random_range(moment))).await;
        process.kill_9();
        process = installation.start().await;
        place.send_replace((kill + 1, process.base().to_owned()));
    }
    enough.store(true, Ordering::Relaxed);
    let (shop, orders) = within(SETTLE, "the last orders", selling).await.unwrap();
    let shop = shop.at(process.base());
    assert!(orders.iter().any(|sold| sold.paid) && orders.iter().any(|sold| !sold.paid), "{}", orders.len());

    shop.mine(13).await;
    // Every event reaches the receiver, once or more.
    let mut missing = BTreeSet::new();
    for sold in &orders {
        if sold.paid {
            shop.until(&sold.order, "confirmed").await;
        }
        missing.extend(shop.events(&sold.order).await.iter().map(|event| text(&event["id"]).to_owned()));
    }
    let journal = receiver.wait_until(SETTLE, once_all_told(missing)).await;
    assert!(journal.iter().all(|webhook| is_signed(webhook, &secret)));
    assert_repeats_are_the_same(&journal);
    for sold in &orders {
        let ids: BTreeSet<String> = told(&journal, "payment.confirmed", &sold.order).into_iter().map(id_of).collect();
        assert_eq!(ids.len(), usize::from(sold.paid), "{}: {ids:?}", sold.order);
        let order = shop.look(&sold.order).await;
        assert_eq!(order["fulfillable"], sold.paid, "{order}");
        assert_no_gaps(&order, &shop.events(&sold.order).await);
    }
    assert_eq!(skipped_payments(&db).await, 0, "the cursor has skipped a block");
    let discrepancies = cryptopay_ledger::audit::check(db.connection()).await.unwrap();
    assert!(discrepancies.is_empty(), "{discrepancies:#?}");
    eprintln!("{} orders, {} webhooks", orders.len(), journal.len());
});

/// An order that the shop has created.
struct Sold {
    order: Value,
    paid: bool,
}

/// A client that survives its server.
struct Seller {
    shop: Shop,
    /// How many processes there were before, and where the one that runs now is.
    places: watch::Receiver<(usize, String)>,
}

impl Seller {
    /// Creates orders, lets two of three be paid, and mines a few blocks now and then.
    async fn sell_until(mut self, enough: Arc<AtomicBool>) -> (Shop, Vec<Sold>) {
        let mut sold = Vec::new();
        while !enough.load(Ordering::Relaxed) || sold.len() < 6 {
            let order = self.create().await;
            let paid = sold.len() % 3 != 2;
            if paid {
                self.pay(&order).await;
            }
            self.insist(Method::POST, "/api/sandbox/blockchains/base/mine/", &json!({"blocks": 2})).await;
            sold.push(Sold { order, paid });
        }
        (self.shop, sold)
    }

    /// Creates an order. When nobody knows whether it was created, its nonce says so.
    async fn create(&mut self) -> Value {
        let request = self.shop.request();
        let answer = self.insist(Method::POST, "/api/payment-orders/", &request).await;
        if answer.status == 201 {
            return answer.data(201);
        }
        assert_eq!(answer.faults(), ["nonce"]);
        let path = format!("/api/payment-orders/?nonce={}", request["nonce"]);
        let list = self.insist(Method::GET, &path, &Value::Null).await.data(200);
        assert_eq!(list["count"], 1, "{list}");
        list["results"][0].clone()
    }

    /// Pays an order. When nobody knows whether it was paid, it may be paid twice, as customers do.
    async fn pay(&mut self, order: &Value) {
        let path = format!("/api/sandbox/payment-orders/{}/pay/", text(&order["order_id"]));
        let answer = self.insist(Method::POST, &path, &json!({})).await;
        if answer.status != 201 {
            // It was paid, and that has been seen already.
            answer.error(400, "INVALID_STATE");
        }
    }

    /// Sends until there is an answer from a process that works, and waits for the next process where there is none.
    async fn insist(&mut self, method: Method, path: &str, body: &Value) -> Answer {
        loop {
            let (number, place) = self.places.borrow_and_update().clone();
            let client = self.shop.client.at(&place);
            let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
            match client.try_send(method.clone(), path, bytes, "application/json").await {
                Ok(answer) if answer.status != 503 => return answer,
                // It has just started, and says so until the chain has been read.
                Ok(_) => {}
                // The next process says where it is; or it has said so since.
                Err(_) => drop(within(SETTLE, "the next process", self.places.wait_for(|now| now.0 > number)).await),
            }
        }
    }
}

/// Payments in blocks of the chain that the gateway has no transfer for.
async fn skipped_payments(db: &TestDatabase) -> i64 {
    let sql = "SELECT count(*) AS skipped FROM sandbox_transaction s \
               WHERE s.chain = 'base' AND s.block_number <= (SELECT height FROM chain_cursor WHERE chain = 'base') \
               AND NOT EXISTS (SELECT 1 FROM transfer t WHERE t.chain = s.chain AND t.tx_hash = s.tx_hash)";
    let statement = Statement::from_string(db.connection().get_database_backend(), sql);
    db.connection().query_one_raw(statement).await.unwrap().unwrap().try_get("", "skipped").unwrap()
}
