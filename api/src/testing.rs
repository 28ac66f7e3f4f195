//! What unit tests of operations are served with: an `App` over a throwaway database, without workers or chains.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cryptopay_jobs::webhooks::Claims;
use cryptopay_jobs::webhooks::client::{ClientPolicy, WebhookClient};
use cryptopay_jobs::{ChainAccess, Context, Deadlines, Events, Queue};
use cryptopay_test_support::TestDatabase;
use poem_openapi::types::Type;
use sea_orm::DatabaseConnection;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::app::{App, EndpointSecrets, Parts};
use crate::config::{Config, Environment, Role};
use crate::fields::Fields;
use crate::limits::Limiter;
use crate::live::Live;
use crate::operations::accounts;
use crate::operations::counts::Counts;
use crate::operations::once::{Answer, Once};
use crate::operations::searches::Searches;
use crate::principal::{Principal, authenticate};
use crate::security::Keys;
use crate::security::passwords::Passwords;

/// The 32 bytes 0 to 31.
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Where the gateway of these tests says that it is. Nothing listens there.
pub(crate) const PUBLIC_URL: &str = "http://127.0.0.1:8080";

/// A sandbox gateway with the built-in chains and open registration. Nobody works on its queue.
pub(crate) async fn app(db: &TestDatabase) -> App {
    app_with(db, &[]).await
}

/// The same, with variables of the environment set (`CRYPTOPAY_REGISTRATION`, …). Those of the database and the
/// secret are the test's.
pub(crate) async fn app_with(db: &TestDatabase, variables: &[(&str, &str)]) -> App {
    app_on(db.connection().clone(), variables, BTreeMap::new())
}

/// The sandbox gateway with another limiter.
pub(crate) fn app_limited(db: &TestDatabase, limiter: Limiter) -> App {
    app_with_limiter(db.connection().clone(), &[], BTreeMap::new(), limiter)
}

/// The sandbox gateway on a connection that counts its statements.
pub(crate) fn counting(db: &TestDatabase) -> (App, Arc<AtomicU64>) {
    let count = Arc::new(AtomicU64::new(0));
    let mut database = db.connection().clone();
    let counter = Arc::clone(&count);
    database.set_metric_callback(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    (app_on(database, &[], BTreeMap::new()), count)
}

/// As [`app_with`], with chains that it can read.
pub(crate) fn app_over(db: &TestDatabase, variables: &[(&str, &str)], chains: BTreeMap<String, ChainAccess>) -> App {
    app_on(db.connection().clone(), variables, chains)
}

fn app_on(database: DatabaseConnection, variables: &[(&str, &str)], chains: BTreeMap<String, ChainAccess>) -> App {
    // The clock stands at ten minutes past an hour, so that no test meets the turn of the hour.
    app_with_limiter(database, variables, chains, Limiter::embedded_by(|| 1_800_000_600))
}

fn app_with_limiter(
    database: DatabaseConnection,
    variables: &[(&str, &str)],
    chains: BTreeMap<String, ChainAccess>,
    limiter: Limiter,
) -> App {
    let environment: Environment = [("CRYPTOPAY_SECRET", SECRET)].iter().chain(variables).copied().collect();
    let config = Config::from_env(Role::All, &environment).unwrap();
    let public_url = config.public_url.as_ref().map_or(PUBLIC_URL, |url| url.as_str()).trim_end_matches('/').to_owned();
    let keys = Keys::new(config.secret.as_ref().unwrap(), config.secret_previous.as_ref()).unwrap();
    let policy = ClientPolicy { allow: vec!["127.0.0.0/8".parse().unwrap()], https_only: false };
    let context = Context {
        database: database.clone(),
        registry: Arc::new(config.chains.registry().clone()),
        chains,
        queue: Queue::embedded(),
        events: Events::embedded(),
        claims: Claims::default(),
        webhooks: WebhookClient::new(policy).unwrap(),
        secrets: Arc::new(EndpointSecrets(keys.clone())),
        owner: "test".to_owned(),
        deadlines: Deadlines::default(),
    };
    App::new(Parts {
        config,
        public_url,
        context: Arc::new(context),
        searches: Searches::new(database.clone()),
        database,
        keys,
        passwords: Passwords::new(),
        live: Live::default(),
        limiter,
        counts: Counts::default(),
    })
}

/// The password of every merchant of these tests.
pub(crate) const PASSWORD: &str = "correct-horse-9";

/// A registered merchant, logged in, as operations see one.
pub(crate) async fn merchant(app: &App, username: &str) -> Principal {
    let email = format!("{username}@b.example");
    let body = serde_json::json!({
        "username": username, "email": email, "password": PASSWORD, "shop_name": "Shop",
    });
    let session = accounts::register(app, fields::<crate::rest::auth::Register>(body)).await.unwrap();
    authenticate(app, session.access.expose_secret()).await.unwrap()
}

/// The fields of a request body, judged by the schema that documents it.
pub(crate) fn fields<T: Type>(body: Value) -> Fields {
    let Value::Object(values) = body else { panic!("a body is an object") };
    Fields::judged_by::<T>(values)
}

/// A request without an idempotency key whose answer nobody reads.
pub(crate) fn once<T>() -> Once<T> {
    Once::without_key(|_| Answer::default())
}
