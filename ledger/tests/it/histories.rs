//! Random histories: after every step what must always hold holds, and in the end the ledger is as if it had read the
//! last chain in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cryptopay_domain::address::Hash;
use cryptopay_domain::order::{Decision, LatePolicy, OrderStatus};
use cryptopay_domain::transfer::TransferState;
use cryptopay_domain::units::Units;
use cryptopay_entity::{allocation, chain_block, event, event_counter, payment_order, transfer};
use cryptopay_ledger::LedgerError;
use cryptopay_test_support::{TestDatabase, long_tests_wanted};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};

use crate::fake_chain::{BLOCK_TIME, FakeChain, Payment};
use crate::world::{Ask, World, all_of};

/// One thing that happens. Orders and transfers are named by a number that is taken modulo their count.
#[derive(Debug, Clone, Copy)]
enum Action {
    Pay {
        order: usize,
        how: How,
    },
    Mine {
        most: usize,
        wait_secs: u64,
    },
    MineEmpty(u32),
    Reorganise {
        depth: usize,
        fates: u32,
        length: Length,
    },
    Scan,
    SecondLook,
    Confirm,
    PassDeadlines,
    Publish,
    Create,
    Cancel(usize),
    Resolve {
        order: usize,
        decision: Decision,
    },
    Assign {
        order: usize,
        transfer: usize,
    },
    /// Past the end of every order's watch.
    Wait,
}

/// What a customer sends.
#[derive(Debug, Clone, Copy)]
enum How {
    /// What the order asks for.
    Exact,
    /// Some tenths of it, by the wallet button.
    Button(u32),
    /// What the order asks for after a short payment.
    Remainder,
    /// Some units that nobody asks for.
    Stray(u32),
    /// What the order asks for, as a further transfer of the transaction before.
    Beside,
}

/// How long a new branch is.
#[derive(Debug, Clone, Copy)]
enum Length {
    Shorter,
    Same,
    Longer,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    action: Action,
    /// The first transaction of it is lost and tried again.
    crash: bool,
    /// All of it happens once more.
    twice: bool,
}

fn action() -> impl Strategy<Value = Action> {
    let how = prop_oneof![
        4 => Just(How::Exact),
        4 => (1u32..15).prop_map(How::Button),
        2 => Just(How::Remainder),
        1 => (0u32..50).prop_map(How::Stray),
        1 => Just(How::Beside),
    ];
    let order = 0usize..6;
    let length = prop::sample::select(vec![Length::Shorter, Length::Same, Length::Longer]);
    prop_oneof![
        8 => (order.clone(), how).prop_map(|(order, how)| Action::Pay { order, how }),
        8 => (1usize..4, prop_oneof![3 => Just(0u64), 1 => 0u64..120])
            .prop_map(|(most, wait_secs)| Action::Mine { most, wait_secs }),
        4 => prop_oneof![8 => 1u32..4, 1 => Just(70u32)].prop_map(Action::MineEmpty),
        4 => (1usize..7, any::<u32>(), length)
            .prop_map(|(depth, fates, length)| Action::Reorganise { depth, fates, length }),
        9 => Just(Action::Scan),
        4 => Just(Action::SecondLook),
        6 => Just(Action::Confirm),
        2 => Just(Action::PassDeadlines),
        1 => Just(Action::Publish),
        1 => Just(Action::Create),
        1 => order.clone().prop_map(Action::Cancel),
        1 => (order.clone(), prop::sample::select(Decision::ALL))
            .prop_map(|(order, decision)| Action::Resolve { order, decision }),
        1 => (order, 0usize..8).prop_map(|(order, transfer)| Action::Assign { order, transfer }),
        1 => prop::bool::weighted(0.15).prop_map(|waits| if waits { Action::Wait } else { Action::Scan }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (action(), prop::bool::weighted(0.15), prop::bool::weighted(0.15)).prop_map(|(action, crash, twice)| Step {
        action,
        crash,
        twice,
    })
}

/// The orders that every history begins with: two of one price, and each late policy.
fn asks() -> [Ask<'static>; 4] {
    let secs = Duration::from_secs;
    [
        Ask { expires_in: secs(60), ..Ask::default() },
        Ask { expires_in: secs(900), late_policy: LatePolicy::Review, ..Ask::default() },
        Ask { amount: "37.21", expires_in: secs(1), late_policy: LatePolicy::Reject, required: 1, ..Ask::default() },
        Ask {
            amount: "5.5",
            expires_in: secs(300),
            required: 2,
            webhook_url: Some("https://a.example/"),
            ..Ask::default()
        },
    ]
}

/// A history while it is played.
struct Play {
    world: World,
    orders: Vec<payment_order::Model>,
    /// Transactions that are not in a block.
    waiting: Vec<Vec<Payment>>,
    /// Whom a transaction names by reference.
    named: BTreeMap<Hash, usize>,
    /// Orders whose remainder was paid: whether that is known when the payment comes depends on the past.
    topped_up: BTreeSet<usize>,
    /// Transactions that have stood in a block: their contents are fixed.
    mined: BTreeSet<Hash>,
    reorganised: bool,
    waited: bool,
    before: BTreeMap<usize, payment_order::Model>,
}

impl Play {
    async fn new(database: Arc<TestDatabase>, final_lag: Option<u64>) -> Self {
        empty(&database).await;
        let mut world = World::new(database).await;
        world.final_lag = final_lag;
        let mut orders = Vec::new();
        for ask in asks() {
            orders.push(world.order(ask).await);
        }
        Self {
            world,
            orders,
            waiting: Vec::new(),
            named: BTreeMap::new(),
            topped_up: BTreeSet::new(),
            mined: BTreeSet::new(),
            reorganised: false,
            waited: false,
            before: BTreeMap::new(),
        }
    }

    async fn step(&mut self, step: Step) {
        self.world.crash_next.set(step.crash);
        self.act(step.action).await;
        self.world.crash_next.set(false);
        let outside = matches!(
            step.action,
            Action::Pay { .. } | Action::Mine { .. } | Action::MineEmpty(_) | Action::Reorganise { .. }
        );
        if outside {
            return;
        }
        self.check().await;
        let repeatable = matches!(
            step.action,
            Action::Scan | Action::SecondLook | Action::Confirm | Action::PassDeadlines | Action::Cancel(_)
        );
        if step.twice && repeatable {
            let events = self.world.event_counts().await;
            self.act(step.action).await;
            assert_eq!(self.world.event_counts().await, events, "once more changes nothing: {:?}", step.action);
        }
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Pay { order, how } => self.pay(order % self.orders.len(), how).await,
            Action::Mine { most, wait_secs } => {
                let most = most.min(self.waiting.len());
                let payments: Vec<Payment> = self.waiting.drain(..most).flatten().collect();
                self.mined.extend(payments.iter().map(|payment| payment.tx_hash));
                let time = self.world.chain.tip().time.plus(BLOCK_TIME + Duration::from_secs(wait_secs));
                self.world.mine_at(time, &payments);
            }
            Action::MineEmpty(blocks) => self.world.mine_empty(blocks),
            Action::Reorganise { depth, fates, length } => self.reorganise(depth, fates, length),
            Action::Scan => self.world.scan().await,
            Action::SecondLook => self.world.orphan_missing().await,
            Action::Confirm => self.world.confirm().await,
            Action::PassDeadlines => self.world.pass_deadlines().await,
            Action::Publish => drop(event::Entity::publish(self.world.db()).await.unwrap()),
            Action::Create => {
                if self.orders.len() < 6 {
                    let order = self.world.order(Ask { expires_in: Duration::from_secs(30), ..Ask::default() }).await;
                    self.orders.push(order);
                }
            }
            Action::Cancel(order) => allowed(self.world.cancel(self.orders[order % self.orders.len()].id).await),
            Action::Resolve { order, decision } => {
                allowed(self.world.resolve(self.orders[order % self.orders.len()].id, decision).await);
            }
            Action::Assign { order, transfer } => self.assign(order % self.orders.len(), transfer).await,
            Action::Wait => {
                let time = self.world.chain.tip().time.plus(Duration::from_secs(30 * 3600));
                self.world.mine_at(time, &[]);
                self.waited = true;
                // What was matched once keeps its order however late it is mined again; a ledger that only ever sees it
                // so late would not match it.
                self.waiting.retain(|transaction| !self.mined.contains(&transaction[0].tx_hash));
            }
        }
    }

    async fn pay(&mut self, order: usize, how: How) {
        let row = self.world.row(self.orders[order].id).await;
        let payment = match how {
            How::Exact => self.world.pay_exactly(&row),
            How::Button(tenths) => {
                let due: u128 = row.pay_units.to_string().parse().unwrap();
                let units = Units::new(due * u128::from(tenths) / 10_000 * 1_000);
                let payment = self.world.pay_by_button(&row, units);
                self.named.insert(payment.tx_hash, order);
                payment
            }
            How::Remainder => match row.remainder_units {
                Some(units) => {
                    self.topped_up.insert(order);
                    self.world.pay(&row, units)
                }
                None => return,
            },
            // No amount that is asked for ends in these digits.
            How::Stray(hundreds) => self.world.pay(&row, Units::new(u128::from(hundreds) * 100 + 77)),
            How::Beside => {
                let exact = self.world.pay_exactly(&row);
                // A reference beside a second transfer says nothing; what is left of it is an amount that may happen to be
                // somebody's remainder, which depends on the past.
                let fits = |transaction: &&mut Vec<Payment>| {
                    let hash = transaction[0].tx_hash;
                    !self.mined.contains(&hash) && !self.named.contains_key(&hash)
                };
                if let Some(transaction) = self.waiting.last_mut().filter(fits) {
                    let ordinal = u32::try_from(transaction.len()).unwrap();
                    transaction.push(Payment { ordinal, tx_hash: transaction[0].tx_hash, ..exact });
                }
                return;
            }
        };
        self.waiting.push(vec![payment]);
    }

    async fn assign(&mut self, order: usize, which: usize) {
        let strays: Vec<transfer::Model> = self.world.transfers_all().await;
        let strays: Vec<_> = strays.iter().filter(|row| row.allocated_units < row.units).collect();
        if let Some(stray) = which.checked_rem(strays.len()).map(|which| strays[which]) {
            let payment = Payment { tx_hash: stray.tx_hash, ..self.world.transfer(stray.units) };
            allowed(self.world.assign(self.orders[order].id, all_of(&payment)).await);
        }
    }

    /// Each transaction of the lost blocks stays at its height, waits again, or is never seen again.
    fn reorganise(&mut self, depth: usize, fates: u32, length: Length) {
        if self.waited {
            return;
        }
        self.reorganised = true;
        let mut gone = self.world.chain.fork(depth);
        if matches!(length, Length::Shorter) && gone.len() > 1 {
            self.waiting.extend(gone.pop().map(transactions).unwrap_or_default());
        }
        let mut number = 0;
        for payments in gone {
            let mut kept = Vec::new();
            for transaction in transactions(payments) {
                match fates >> (number % 32) & 3 {
                    0 => self.waiting.push(transaction),
                    1 => {}
                    _ => kept.extend(transaction),
                }
                number += 2;
            }
            self.world.mine(&kept);
        }
        if matches!(length, Length::Longer) {
            self.world.mine_empty(1);
        }
    }

    /// What must hold after every step.
    async fn check(&mut self) {
        self.world.check_rules().await;
        let cursor = self.world.cursor().await;
        let rows = payment_order::Entity::find().order_by_asc(payment_order::Column::Id).all(self.world.db()).await;
        for (index, (order, row)) in self.orders.iter().zip(rows.unwrap()).enumerate() {
            let before = self.before.get(&index).unwrap_or(order);
            assert!(row.version >= before.version);
            // Nothing closes while its chain is not verified past the deadline.
            if row.closed_at.is_some() && before.closed_at.is_none() {
                assert!(cursor.block_time > row.in_time_until, "{row:?}");
            }
            assert!(row.status != OrderStatus::Expired || row.closed_at.is_some(), "{row:?}");
            // Nothing is announced without enough deep units, counted here by hand.
            if row.announced_generation > before.announced_generation {
                let deep = self.deep(&row).await;
                let settled = match row.decision {
                    Some(Decision::Accept) => row.decision_units.unwrap().min(row.pay_units),
                    _ => row.pay_units,
                };
                assert!(deep >= settled && !settled.is_zero(), "{deep} deep of {settled}: {row:?}");
            }
            self.before.insert(index, row);
        }
    }

    /// Units of an order in vouched blocks that are deep enough for it.
    async fn deep(&self, order: &payment_order::Model) -> Units {
        let cursor = self.world.cursor().await;
        let window = chain_block::Entity::window(self.world.db(), self.world.slug).await.unwrap();
        let mut deep = Units::ZERO;
        for share in allocation::Entity::live_of_orders(self.world.db(), [order.id]).await.unwrap() {
            let row = transfer::Entity::by_ids(self.world.db(), [share.transfer_id]).await.unwrap().remove(0);
            let vouched = window.iter().any(|block| {
                block.number == row.block_number && block.hash == row.block_hash && block.vouched_by.is_some()
            });
            let far = cursor.height - row.block_number + 1 >= order.required_confirmations
                || cursor.final_height.is_some_and(|height| height >= row.block_number);
            if row.state == TransferState::Final || (row.state == TransferState::Included && vouched && far) {
                deep = deep.saturating_add(share.units);
            }
        }
        deep
    }

    /// Reads the chain to its end and past every deadline, until nothing is left to do.
    async fn finish(&mut self) {
        let last = self.orders.iter().map(|order| order.in_time_until).max().unwrap();
        let time = self.world.chain.tip().time.max(last).plus(BLOCK_TIME);
        self.world.mine_at(time, &[]);
        self.world.mine_empty(8);
        for _ in 0..2 {
            self.world.settle().await;
            self.check().await;
        }
        let events = self.world.event_counts().await;
        self.world.settle().await;
        assert_eq!(self.world.event_counts().await, events, "nothing was left to do");
    }

    /// Another ledger reads the same chain in one go.
    async fn replay(&mut self, database: Arc<TestDatabase>) -> Play {
        let mut replay = Self::new(database, self.world.final_lag).await;
        for index in 0..replay.orders.len() {
            assert_eq!(replay.orders[index].pay_units, self.orders[index].pay_units);
            // The reference chooses the remainder, and is named by transactions.
            let same = payment_order::Entity::update_many()
                .col_expr(payment_order::Column::Reference, Expr::value(self.orders[index].reference))
                .filter(payment_order::Column::Id.eq(replay.orders[index].id));
            same.exec(replay.world.db()).await.unwrap();
            if self.world.row(self.orders[index].id).await.canceled_at.is_some() {
                replay.world.cancel(replay.orders[index].id).await.unwrap();
            }
        }
        replay.world.now = self.world.now;
        replay.world.chain = std::mem::replace(&mut self.world.chain, FakeChain::new());
        for _ in 0..2 {
            replay.world.settle().await;
            replay.check().await;
        }
        replay
    }

    /// An order's live shares of transfers that are still there.
    async fn shares(&self, order: &payment_order::Model) -> BTreeSet<(Hash, String, Units)> {
        let mut shares = BTreeSet::new();
        for share in allocation::Entity::live_of_orders(self.world.db(), [order.id]).await.unwrap() {
            let row = transfer::Entity::by_ids(self.world.db(), [share.transfer_id]).await.unwrap().remove(0);
            if row.state.is_in_block() {
                shares.insert((row.tx_hash, row.position.to_string(), share.units));
            }
        }
        shares
    }

    async fn compare_with(&self, replay: &Play) {
        for (index, (order, other)) in self.orders.iter().zip(&replay.orders).enumerate() {
            let (row, expected) = (self.world.row(order.id).await, replay.world.row(other.id).await);
            let by_hand = self.world.allocations(order.id).await.iter().any(|(_, method)| method == "manual");
            if by_hand || row.decision.is_some() || (self.reorganised && self.topped_up.contains(&index)) {
                continue;
            }
            assert_eq!(self.shares(order).await, replay.shares(other).await, "order {index}");
            assert_eq!(row.received_units, expected.received_units, "order {index}");
            // A confirmation that was announced and taken back is a fact of its own.
            if row.generation > 1 && expected.status != OrderStatus::Confirmed {
                assert_eq!(row.status, OrderStatus::Reorged, "order {index}");
            } else {
                let said =
                    |row: &payment_order::Model| (row.status, row.flags.clone(), row.late_decision, row.fulfillable);
                assert_eq!(said(&row), said(&expected), "order {index}");
            }
        }
    }
}

/// Deletes every row of what a history writes.
async fn empty(database: &TestDatabase) {
    let tables = [
        "webhook_delivery",
        "event",
        "allocation",
        "merchant_transfer",
        "transfer",
        "amount_reservation",
        "payment_order",
        "receiving_address",
        "merchant_wallet",
        "webhook_endpoint",
        "merchant",
        "chain_block",
        "chain_cursor",
    ];
    let statements: String = tables.map(|table| format!("DELETE FROM {table};")).concat();
    database.connection().execute_unprepared(&statements).await.unwrap();
    event_counter::Entity::set_last(database.connection(), 0).await.unwrap();
}

/// A rule may refuse what a random history asks for; nothing else may go wrong.
fn allowed(outcome: Result<(), LedgerError>) {
    assert!(matches!(outcome, Ok(()) | Err(LedgerError::Refused(_))), "{outcome:?}");
}

/// The transactions of a block: its transfers by hash.
fn transactions(payments: Vec<Payment>) -> Vec<Vec<Payment>> {
    let mut transactions: Vec<Vec<Payment>> = Vec::new();
    for payment in payments {
        match transactions.last_mut().filter(|transaction| transaction[0].tx_hash == payment.tx_hash) {
            Some(transaction) => transaction.push(payment),
            None => transactions.push(vec![payment]),
        }
    }
    transactions
}

/// Plays a history on one database and reads its last chain in one go on the other.
async fn play(databases: &[Arc<TestDatabase>; 2], steps: Vec<Step>, final_lag: Option<u64>) {
    let [database, other] = databases;
    let mut play = Play::new(Arc::clone(database), final_lag).await;
    for step in steps {
        play.step(step).await;
    }
    play.finish().await;
    for order in &play.orders {
        play.world.events(order.id).await;
    }
    let replay = play.replay(Arc::clone(other)).await;
    play.compare_with(&replay).await;
    play.world.audit().await;
}

#[test]
fn every_random_history_keeps_the_rules_and_ends_as_if_read_in_one_go() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // Emptied for each history: making a database takes longer than playing a history on it.
    let [one, other] = [(); 2].map(|()| Arc::new(runtime.block_on(TestDatabase::sqlite())));
    let databases = [one, other];
    let cases = if long_tests_wanted() { 2_000 } else { 64 };
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 2_000, ..ProptestConfig::default() };
    let histories = (prop::collection::vec(step(), 10..50), prop::option::weighted(0.3, 2u64..9));
    TestRunner::new(config)
        .run(&histories, |(steps, final_lag)| {
            runtime.block_on(play(&databases, steps, final_lag));
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
