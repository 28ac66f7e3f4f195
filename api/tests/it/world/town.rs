//! Several processes of one gateway, and a shop that goes on selling whatever happens to them.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use cryptopay_test_support::long_tests_wanted;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep};

use super::agreement::Expected;
use super::{World, costs};
use crate::harness::{Answer, Client, Process, Shop, eventually_within, once_told};

/// How long a fault may hold up a request of the shop, or everything afterwards: a claim of a delivery that died with its
/// process is taken over after 30 s; that twice, and time to work.
pub(super) const SETTLE: Duration = Duration::from_secs(90);
/// How soon service is back after its parts are, by the contract.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// How often an order is made and paid without a fault, before and after, so that it is known how long that takes here and
/// now; and how many times the longest of them the return may take on top of the contract's bound: a process that catches
/// up does several things at once, and a machine that others use does each of them late.
const CALM: usize = 3;
const SLOWER: u32 = 4;
/// The pace of the shop, and that of long tests: what counts is how long the faults last and not how much is sold
/// meanwhile, of which all has to be told in the end.
const PACE: Duration = Duration::from_millis(100);
const PACE_IF_LONG: Duration = Duration::from_millis(500);

/// The processes of a gateway, which share PostgreSQL and Redis.
pub(super) struct Town {
    pub(super) apis: Vec<Process>,
    pub(super) workers: Vec<Process>,
}

impl Town {
    pub(super) async fn start(world: &World, apis: usize, workers: usize) -> Self {
        let mut town = Self { apis: Vec::new(), workers: Vec::new() };
        for _ in 0..apis {
            town.apis.push(world.installation.start_as("api").await);
        }
        for _ in 0..workers {
            town.workers.push(world.installation.start_as("worker").await);
        }
        town
    }

    fn bases(&self) -> Vec<String> {
        self.apis.iter().map(|api| api.base().to_owned()).collect()
    }
}

/// What is wrong, as the one who brings it about sees it.
pub(super) struct Scene<'a> {
    pub(super) world: &'a World,
    pub(super) town: Town,
    /// Held for writing while the node cannot be used: nobody can pay then.
    open: &'a RwLock<()>,
    bases: &'a RefCell<Vec<String>>,
}

impl Scene<'_> {
    /// Kills an API or a worker and starts another one in its place.
    pub(super) async fn kill(&mut self, role: &str, which: usize) {
        let processes = if role == "api" { &mut self.town.apis } else { &mut self.town.workers };
        processes.remove(which % processes.len()).kill_9();
        let process = self.world.installation.start_as(role).await;
        if role == "api" { &mut self.town.apis } else { &mut self.town.workers }.push(process);
        *self.bases.borrow_mut() = self.town.bases();
    }

    /// Lets nobody pay while something happens to the node.
    pub(super) async fn without_node(&self, something: impl Future<Output = ()>) {
        let _closed = self.open.write().await;
        something.await;
    }
}

/// Sells without end while `faults` are brought about, and for a little while after; then everything has to agree. Ends
/// with how long it took after the faults until a new order's payment was told.
pub(super) async fn sell_under(world: World, apis: usize, workers: usize, faults: impl AsyncFnOnce(&mut Scene<'_>)) {
    let town = Town::start(&world, apis, workers).await;
    let shop = Shop::open(&town.apis[0].client()).await;
    let secret = shop.listen(&world.receiver).await;
    let (open, bases, enough) = (RwLock::new(()), RefCell::new(town.bases()), Cell::new(false));
    let seller = Seller { world: &world, shop: &shop, open: &open, bases: &bases };
    let mut scene = Scene { world: &world, town, open: &open, bases: &bases };
    let (mut sold, (told, back, calm)) = tokio::join!(seller.sell_until(&enough), async {
        let mut told = seller.until_told(CALM).await;
        faults(&mut scene).await;
        let (back, after) = (seller.until_told(1).await, seller.until_told(CALM).await);
        enough.set(true);
        let back_after = back[0].1;
        let calm = told.iter().chain(&after).map(|(_, took)| *took).max().unwrap();
        told.extend(back.into_iter().chain(after));
        (told, back_after, calm)
    });
    sold.extend(told.iter().map(|(order, _)| Expected::new(order, "confirmed")));
    eprintln!("{} orders; back {back:?} after the faults; without a fault at most {calm:?}", sold.len());
    assert!(back < BACK_WITHIN + SLOWER * calm, "{back:?}, while it takes {calm:?} without a fault");
    let kinds: Vec<bool> = sold.iter().map(|sold| sold.status == "confirmed").collect();
    assert!(kinds.contains(&true) && kinds.contains(&false), "{kinds:?}");
    let shop = shop.at_too(scene.town.apis[0].base());
    world.agree(&shop, &secret, &sold, SETTLE).await;
}

/// A shop with customers, who survive whatever happens to their servers.
struct Seller<'a> {
    world: &'a World,
    shop: &'a Shop,
    open: &'a RwLock<()>,
    bases: &'a RefCell<Vec<String>>,
}

impl Seller<'_> {
    /// Sells in all currencies; every fourth order is not paid.
    async fn sell_until(&self, enough: &Cell<bool>) -> Vec<Expected> {
        let pace = if long_tests_wanted() { PACE_IF_LONG } else { PACE };
        let mut sold = Vec::new();
        while !enough.get() || sold.len() < 4 {
            let started = Instant::now();
            let asked = match sold.len() % 4 {
                0 | 2 => costs("USDC", "100.00"),
                1 => costs("DAI", "40.00"),
                _ => costs("ETH", "0.02"),
            };
            let order = self.create(asked).await;
            let paid = sold.len() % 4 != 2;
            let _open = self.open.read().await;
            if paid {
                self.world.node.send(&self.world.exactly(&order)).await;
            }
            self.world.node.mine(1).await;
            sold.push(Expected::new(&order, if paid { "confirmed" } else { "pending" }));
            sleep(pace.saturating_sub(started.elapsed())).await;
        }
        sold
    }

    /// Creates orders and pays them, one after the other; gives each, and how long it took until the merchant was told of
    /// the payment.
    async fn until_told(&self, orders: usize) -> Vec<(Value, Duration)> {
        let mut sold = Vec::new();
        for _ in 0..orders {
            let started = Instant::now();
            let order = self.create(costs("USDC", "1000.00")).await;
            let _open = self.open.read().await;
            self.world.pay(&order).await;
            self.world.receiver.wait_until(SETTLE, once_told("payment.pending", &order)).await;
            sold.push((order, started.elapsed()));
        }
        sold
    }

    /// Creates an order. When nobody knows whether it was created, its nonce says so.
    async fn create(&self, asked: Value) -> Value {
        let mut request = self.shop.request();
        for (name, value) in asked.as_object().unwrap() {
            request[name] = value.clone();
        }
        let answer = self.insist(Method::POST, "/api/payment-orders/", &request).await;
        if answer.status == 201 {
            return answer.data(201);
        }
        assert_eq!(answer.faults(), ["nonce"]);
        let path = format!("/api/payment-orders/?nonce={}", request["nonce"]);
        let list = self.insist(Method::GET, &path, &json!(null)).await.data(200);
        assert_eq!(list["count"], 1, "{list}");
        list["results"][0].clone()
    }

    /// Asks one process after the other until one answers that works.
    async fn insist(&self, method: Method, path: &str, body: &Value) -> Answer {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        eventually_within(SETTLE, &format!("an answer to {method} {path}"), async || {
            let bases = self.bases.borrow().clone();
            for base in bases {
                let client: Client = self.shop.client.at(&base);
                match client.try_send(method.clone(), path, bytes.clone(), "application/json").await {
                    Ok(answer) if answer.status < 500 => return Some(answer),
                    // It says that it cannot work now, or does not live.
                    Ok(_) | Err(_) => {}
                }
            }
            None
        })
        .await
    }
}
