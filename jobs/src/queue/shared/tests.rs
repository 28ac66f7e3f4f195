//! The queue against a real Redis, with jobs that only say that they ran.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use cryptopay_test_support::{RedisServer, TestRedis};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::worker::JobRun;
use super::super::{Job, KeyedQueue};
use super::*;

const JOB: &str = "scan_chain";
/// Longest that anything may take; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

fn redis_of(test: &TestRedis) -> Redis {
    Redis::new(test.url(), test.prefix()).unwrap()
}

async fn ask<T: redis::FromRedisValue>(redis: &Redis, command: &str) -> T {
    let mut words = command.split(' ');
    let mut asked = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        asked.arg(word);
    });
    asked.query_async(&mut redis.link()).await.unwrap()
}

/// A job that only says that it ran.
#[derive(Clone)]
struct AnyRun(Arc<dyn Fn(String) + Send + Sync>);

type AnyJob = Job<String, AnyRun>;

impl JobRun<String> for AnyRun {
    fn call(&self, key: String) -> impl Future<Output = ()> + Send + 'static {
        (self.0)(key);
        async {}
    }
}

/// A process with one worker.
struct Process {
    queue: KeyedQueue<String>,
    stop: CancellationToken,
    running: Vec<JoinHandle<()>>,
    ran: watch::Receiver<BTreeMap<String, usize>>,
}

impl Process {
    fn start(redis: &Redis, owner: &str) -> Self {
        Self::start_as(redis, |job, stop| job.supervise(owner.to_owned(), Some(redis.clone()), stop))
    }

    /// The workers of this process bear these names, and at last numbers.
    fn named(redis: &Redis, mut names: std::vec::IntoIter<&'static str>) -> Self {
        let mut made = 0;
        let name = move || {
            made += 1;
            names.next().map_or_else(|| format!("number {made}"), str::to_owned)
        };
        Self::start_as(redis, |job, stop| job.supervise_as(name, Some(redis.clone()), stop))
    }

    fn start_as<F>(redis: &Redis, supervise: impl FnOnce(AnyJob, CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (queue, stop, running) = (KeyedQueue::new(), CancellationToken::new(), TaskTracker::new());
        let (sender, ran) = watch::channel(BTreeMap::new());
        let sender = Arc::new(sender);
        let run = AnyRun(Arc::new(move |key: String| sender.send_modify(|ran| *ran.entry(key).or_default() += 1)));
        let job = Job { name: JOB, queue: queue.clone(), concurrency: 64, run, running };
        let running = vec![
            tokio::spawn(supervise(job, stop.clone())),
            tokio::spawn(Self::forwarding(redis.clone(), queue.clone())),
        ];
        Self { queue, stop, running, ran }
    }

    async fn forwarding(redis: Redis, queue: KeyedQueue<String>) {
        forward(&redis, JOB, &queue).await;
    }

    async fn has_run(&mut self, key: &str) {
        let ran = self.ran.wait_for(|ran| ran.contains_key(key));
        timeout(PATIENCE, ran).await.unwrap_or_else(|_| panic!("{key} did not run")).unwrap();
    }

    /// Nudges now and then, as the sweep does, until the job has run.
    async fn run_by_the_sweep(&mut self, key: &str) -> Duration {
        let started = Instant::now();
        let nudging = async {
            loop {
                self.queue.push(key.to_owned());
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let mut ran = self.ran.clone();
        tokio::select! {
            () = nudging => {}
            found = timeout(PATIENCE, ran.wait_for(|ran| ran.contains_key(key))) => {
                found.unwrap_or_else(|_| panic!("{key} did not run")).unwrap();
            }
        }
        started.elapsed()
    }

    fn has_already_run(&self, key: &str) -> bool {
        self.ran.borrow().contains_key(key)
    }

    /// Ends everything at once, as SIGKILL does.
    fn kill(&self) {
        self.running.iter().for_each(JoinHandle::abort);
    }

    /// Stops the worker, as SIGTERM does.
    async fn stop(mut self) {
        self.stop.cancel();
        timeout(PATIENCE, self.running.remove(0)).await.expect("the worker should stop").unwrap();
        self.running.iter().for_each(JoinHandle::abort);
    }
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("chain-{number}")).collect()
}

#[tokio::test]
async fn a_key_is_queued_once_until_its_job_begins_and_then_again() {
    let test = TestRedis::new();
    let redis = redis_of(&test);
    assert_eq!(redis.nudge(JOB, &names(0..2)).await.unwrap(), 2);
    assert_eq!(redis.nudge(JOB, &names(0..3)).await.unwrap(), 1, "only the third is new");
    assert_eq!(redis.nudge("confirm_payments", &names(0..1)).await.unwrap(), 1, "another kind of job");
    assert_eq!(redis.queued(&[JOB, "confirm_payments"]).await.unwrap(), [(JOB, 3), ("confirm_payments", 1)]);
    let lives: i64 = ask(&redis, &format!("PTTL {}nudge:{JOB}:chain-0", test.prefix())).await;
    assert!((1..=5_000).contains(&lives), "{lives}");

    let mut process = Process::start(&redis, "one");
    for key in names(0..3) {
        process.has_run(&key).await;
    }
    assert_eq!(redis.nudge(JOB, &names(0..3)).await.unwrap(), 3, "their jobs have begun");
    process.stop().await;
}

#[tokio::test]
async fn nobody_queues_beyond_the_limit_and_what_was_refused_may_come_again_at_once() {
    let test = TestRedis::new();
    let redis = redis_of(&test);
    let mut queued = 0;
    for batch in names(0..MAX_QUEUED + 500).chunks(100) {
        queued += redis.nudge(JOB, batch).await.unwrap();
    }
    assert_eq!(queued, MAX_QUEUED);
    let marked: i64 = ask(&redis, &format!("EXISTS {}nudge:{JOB}:chain-{MAX_QUEUED}", test.prefix())).await;
    assert_eq!(marked, 0);
    assert_eq!(redis.nudge(JOB, &names(MAX_QUEUED..MAX_QUEUED + 1)).await.unwrap(), 0);

    let mut process = Process::start(&redis, "one");
    process.has_run(&format!("chain-{}", MAX_QUEUED - 1)).await;
    process.queue.push(format!("chain-{MAX_QUEUED}"));
    process.has_run(&format!("chain-{MAX_QUEUED}")).await;
    process.stop().await;
}

/// Asks the first process for what nobody has run, as the sweep does, until everything has run.
async fn work_off(processes: &[Process; 2], keys: &[String]) {
    let started = Instant::now();
    let has_run = |key: &&String| processes.iter().any(|process| process.has_already_run(key));
    loop {
        let left: Vec<String> = keys.iter().filter(|key| !has_run(key)).cloned().collect();
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < 2 * PATIENCE, "{} are not worked off", left.len());
        left.into_iter().for_each(|key| processes[0].queue.push(key));
        let _ = timeout(Duration::from_millis(200), processes[1].ran.clone().changed()).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn ten_thousand_due_at_once_are_worked_off_by_two_processes() {
    let test = TestRedis::new();
    let redis = redis_of(&test);
    let processes = [Process::start(&redis, "one"), Process::start(&redis_of(&test), "two")];
    // All of them at once, more than the local queue or Redis holds; and again what had no room.
    work_off(&processes, &names(0..10_000)).await;
    let [one, two] = processes;
    assert!(!one.ran.borrow().is_empty() && !two.ran.borrow().is_empty(), "both had their share");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn two_workers_of_the_same_name_lose_nothing_also_when_one_of_them_is_killed() {
    let test = TestRedis::new();
    let redis = redis_of(&test);
    // As happens to none: the real names hold 96 random bits.
    let first = Process::named(&redis, vec!["twin"].into_iter());
    let registered = async |count: usize| {
        let config = redis.config(JOB);
        let names = async || ask::<Vec<String>>(&redis, &format!("ZRANGE {} 0 -1", config.workers_set())).await;
        let started = Instant::now();
        while names().await.len() < count {
            assert!(started.elapsed() < PATIENCE, "{:?}", names().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut names = names().await;
        names.sort_unstable();
        names
    };
    assert_eq!(registered(1).await, ["twin"]);
    // The second is refused, leaves the first one alone, and comes again under another name.
    let twins = [first, Process::named(&redis_of(&test), vec!["twin"; 3].into_iter())];
    assert_eq!(registered(2).await, ["number 4", "twin"]);
    let started = Instant::now();
    let mut made = 0;
    while twins.iter().any(|twin| twin.ran.borrow().is_empty()) {
        assert!(started.elapsed() < 2 * PATIENCE, "one of them gets nothing to do");
        let more: Vec<String> = (made..made + 50).map(|number| format!("early-{number}")).collect();
        work_off(&twins, &more).await;
        made += 50;
    }

    // Killed in the midst of it: what it has fetched is lost in Redis, and found by the sweep.
    let later = names(0..1_000);
    later.iter().for_each(|key| twins[1].queue.push(key.clone()));
    timeout(PATIENCE, twins[0].ran.clone().changed()).await.expect("it should work").unwrap();
    twins[0].kill();
    let [dead, alive] = twins;
    let mut twins = [alive, dead];
    work_off(&twins, &later).await;
    assert!(twins[0].run_by_the_sweep("the last").await < Duration::from_secs(5));
    let [alive, _] = twins;
    alive.stop().await;
}

#[tokio::test]
async fn nothing_is_left_of_jobs_and_stopped_workers_and_no_key_leaves_the_prefix() {
    let server = RedisServer::start();
    let redis = Redis::new(server.url(), "ours:").unwrap();
    let mut process = Process::start(&redis, "one");
    for key in names(0..200) {
        process.queue.push(key);
    }
    for key in names(0..200) {
        process.has_run(&key).await;
    }
    let during: Vec<String> = ask(&redis, "KEYS *").await;
    assert!(during.iter().all(|key| key.starts_with("ours:")), "{during:?}");
    assert!(during.iter().any(|key| key == "ours:queues"), "{during:?}");
    process.stop().await;
    let after: Vec<String> = ask(&redis, "KEYS *").await;
    let left: Vec<&String> =
        after.iter().filter(|key| !["ours:queues", "ours:probe"].contains(&key.as_str())).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_redis_that_forgets_everything_or_cuts_its_connections_delays_a_job_by_seconds_only() {
    let server = RedisServer::start();
    let redis = Redis::new(server.url(), "ours:").unwrap();
    let mut process = Process::start(&redis, "one");
    process.run_by_the_sweep("first").await;
    for round in 0..3 {
        server.flush();
        let waited = process.run_by_the_sweep(&format!("after flush {round}")).await;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        ask::<()>(&redis, "SCRIPT FLUSH").await;
        let waited = process.run_by_the_sweep(&format!("after script flush {round}")).await;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        server.cut_connections();
        let waited = process.run_by_the_sweep(&format!("after cut {round}")).await;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    }
    process.stop().await;
}

#[tokio::test]
async fn a_redis_that_was_away_is_used_within_5_seconds_of_its_return() {
    let mut server = RedisServer::start();
    let redis = Redis::new(server.url(), "ours:").unwrap();
    server.stop();
    assert_eq!(redis.check().await, Err(RedisProblem::Away));
    // Away at start, and later.
    let mut process = Process::start(&redis, "one");
    for round in 0..2 {
        for key in names(0..100) {
            process.queue.push(key);
        }
        assert_eq!(redis.check().await, Err(RedisProblem::Away));
        server.restart();
        let waited = process.run_by_the_sweep(&format!("round {round}")).await;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        assert_eq!(redis.check().await, Ok(()));
        server.stop();
    }
    process.stop().await;
}

#[tokio::test]
async fn a_queue_that_cannot_be_read_is_emptied_and_used_again() {
    let server = RedisServer::start();
    let redis = Redis::new(server.url(), "ours:").unwrap();
    let mut process = Process::start(&redis, "one");
    let config = redis.config(JOB);
    process.run_by_the_sweep("first").await;

    // More due at once than a fetch can unpack; they count as queued, so nothing else comes in.
    let due: String = (0..9_000).map(|number| format!(" 1 stranger-{number}")).collect();
    ask::<i64>(&redis, &format!("ZADD {}{due}", config.scheduled_jobs_set())).await;
    assert!(process.run_by_the_sweep("after too many").await < Duration::from_secs(5));

    // Without data, and of another type altogether.
    ask::<i64>(&redis, &format!("RPUSH {} nothing-behind-it", config.active_jobs_list())).await;
    assert!(process.run_by_the_sweep("after nothing").await < Duration::from_secs(5));
    ask::<i64>(&redis, &format!("DEL {}", config.active_jobs_list())).await;
    ask::<()>(&redis, &format!("SET {} text", config.active_jobs_list())).await;
    assert!(process.run_by_the_sweep("after text").await < Duration::from_secs(5));

    // A job that no process of ours has written.
    let (data, state) = (config.job_data_hash(), state_prefix(&config));
    ask::<i64>(&redis, &format!("HSET {data} alien \"\"")).await;
    ask::<i64>(&redis, &format!("HSET {state}alien attempts 0 max_attempts 1 status Pending")).await;
    ask::<i64>(&redis, &format!("RPUSH {} alien", config.active_jobs_list())).await;
    assert!(process.run_by_the_sweep("after the alien").await < Duration::from_secs(5));
    process.stop().await;
}

#[tokio::test]
async fn what_a_worker_that_died_has_left_is_tidied_up_and_live_ones_are_left_alone() {
    let test = TestRedis::new();
    let redis = redis_of(&test);
    let mut process = Process::start(&redis, "one");
    process.run_by_the_sweep("first").await;
    let config = redis.config(JOB);
    ask::<i64>(&redis, &format!("ZADD {} 1 dead", config.workers_set())).await;
    ask::<i64>(&redis, &format!("SADD {}:dead job", config.inflight_jobs_set())).await;
    ask::<i64>(&redis, &format!("HSET {} job \"x\"", config.job_data_hash())).await;
    ask::<i64>(&redis, &format!("HSET {}job status Pending", state_prefix(&config))).await;
    tidy::tidy_queue(&redis, JOB).await.unwrap();
    let workers: Vec<String> = ask(&redis, &format!("ZRANGE {} 0 -1", config.workers_set())).await;
    assert!(workers.len() == 1 && workers[0].contains("one"), "{workers:?}");
    assert!(!test.keys().iter().any(|key| key.contains("job") || key.contains("dead")), "{:?}", test.keys());
    process.run_by_the_sweep("second").await;
    process.stop().await;
}

#[tokio::test]
async fn what_redis_refuses_is_named_without_its_words() {
    let server = RedisServer::start();
    let wrong = server.url().replacen("redis://:", "redis://:hunter2", 1);
    let problem = Redis::new(&wrong, "").unwrap().check().await.unwrap_err();
    assert_eq!(problem, RedisProblem::Unauthenticated);
    assert!(problem.to_string().contains("REDIS_URL") && !problem.to_string().contains("hunter2"));

    let admin = Redis::new(server.url(), "").unwrap();
    ask::<()>(&admin, "ACL SETUSER pay on >secret ~ours:* &ours:* +@all").await;
    let limited = server.url().replacen("redis://:", "redis://pay:secret@", 1);
    let limited = format!("redis://pay:secret@{}", limited.rsplit('@').next().unwrap());
    assert_eq!(Redis::new(&limited, "theirs:").unwrap().check().await, Err(RedisProblem::Forbidden));
    let redis = Redis::new(&limited, "ours:").unwrap();
    assert_eq!(redis.check().await, Ok(()));
    // A user who may use our keys and channels only is enough for everything.
    let mut process = Process::start(&redis, "one");
    assert!(process.run_by_the_sweep("first").await < Duration::from_secs(5));
    process.stop().await;

    // Keys alone are of no use without scripts.
    ask::<()>(&admin, "ACL SETUSER pay -@scripting").await;
    assert_eq!(redis.check().await, Err(RedisProblem::Forbidden));
    ask::<()>(&admin, "ACL SETUSER pay +@all").await;
    assert_eq!(redis.check().await, Ok(()));

    ask::<()>(&admin, "REPLICAOF 127.0.0.1 1").await;
    assert_eq!(redis.check().await, Err(RedisProblem::ReadOnly));
}

#[test]
fn a_url_that_is_none_is_refused_without_being_repeated() {
    for url in ["", "hunter2", "http://host/hunter2", "redis://host/hunter2"] {
        assert_eq!(Redis::new(url, "").unwrap_err(), RedisUrlError, "{url}");
    }
    assert!(!RedisUrlError.to_string().contains("hunter2"));
}

/// The whole way of a nudge through Redis, as it is noticed; a measurement, not a limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "a measurement is for whoever runs the test")]
async fn how_long_a_nudge_takes_to_begin_a_job() {
    let test = TestRedis::new();
    let redis = redis_of(&test);
    let mut process = Process::start(&redis, "one");
    process.run_by_the_sweep("warm").await;
    let waited = Mutex::new(Vec::new());
    for key in names(0..100) {
        let started = Instant::now();
        process.queue.push(key.clone());
        process.has_run(&key).await;
        waited.lock().unwrap().push(started.elapsed());
    }
    let mut waited = waited.into_inner().unwrap();
    waited.sort_unstable();
    println!("nudge -> job begins: p50 {:?}, p90 {:?}, p99 {:?}", waited[49], waited[89], waited[98]);
    process.stop().await;
}
