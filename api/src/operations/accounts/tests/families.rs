//! The family of a login's tokens against a model of it, and the change of the secret that signs them.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::*;

/// The 32 bytes 32 to 63.
const NEW_SECRET: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
/// Those of the tests' usual secret: 0 to 31.
const OLD_SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

const DAY: u64 = 24 * 3_600;

/// What happens to a login. Waits are such that no sum of them comes near a limit: what the test itself takes is no time.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// One of its refresh tokens is used.
    Use(usize),
    /// Seconds pass.
    Wait(u64),
    Logout,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0_usize..8).prop_map(Step::Use),
        3 => Just(Step::Wait(25)),
        1 => Just(Step::Wait(20 * DAY)),
        1 => Just(Step::Logout),
    ];
    prop::collection::vec(step, 1..16)
}

/// A login as the contract has it.
struct Model {
    now: u64,
    /// When each token was issued, and first used.
    tokens: Vec<(u64, Option<u64>)>,
    is_revoked: bool,
}

impl Model {
    /// Whether a use of a token gets a new pair.
    fn take(&mut self, index: usize) -> bool {
        let (issued, used) = self.tokens[index];
        if self.is_revoked || self.now >= issued + 30 * DAY {
            return false;
        }
        if used.is_some_and(|used| self.now > used + 60) {
            self.is_revoked = true;
            return false;
        }
        self.tokens[index].1 = Some(used.unwrap_or(self.now));
        self.tokens.push((self.now, None));
        true
    }
}

async fn pass(app: &App, seconds: u64) {
    use refresh_token::Column;
    let micros = i64::try_from(seconds * 1_000_000).unwrap();
    let mut change = refresh_token::Entity::update_many();
    for column in [Column::CreatedAt, Column::ExpiresAt, Column::UsedAt] {
        change = change.col_expr(column, Expr::col(column).sub(micros));
    }
    change.exec(app.database()).await.unwrap();
}

async fn play(app: &App, merchant: &merchant::Model, steps: &[Step]) {
    let first = transact!(app.database(), |txn| {
        let now = clock::database_now(txn).await?;
        sessions::open(txn, &app.keys, merchant.clone(), &FamilyId::generate(), now).await
    });
    let mut sessions = vec![first.unwrap()];
    let mut model = Model { now: 0, tokens: vec![(0, None)], is_revoked: false };
    let who = principal(app, &sessions[0]).await.unwrap();
    for step in steps {
        match *step {
            Step::Wait(seconds) => {
                model.now += seconds;
                pass(app, seconds).await;
            }
            Step::Logout => {
                model.is_revoked = true;
                logout(app, &who).await.unwrap();
            }
            Step::Use(number) => {
                let index = number % sessions.len();
                let renewed = renew(app, sessions[index].refresh.expose()).await;
                assert_eq!(renewed.is_ok(), model.take(index), "{step:?} in {steps:?}");
                sessions.extend(renewed);
            }
        }
        // Every access token of the family stands or falls with it.
        for session in &sessions {
            assert_eq!(principal(app, session).await.is_ok(), !model.is_revoked, "{step:?} in {steps:?}");
        }
    }
    let different: BTreeSet<&str> = sessions.iter().map(|session| session.refresh.expose()).collect();
    assert_eq!(different.len(), sessions.len());
}

on_both_databases!(a_login_does_whatever_happens_what_the_contract_says, async |db: TestDatabase| {
    let app = app(&db).await;
    let merchant = registered(&app).await.merchant;
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let tested = TestRunner::new(config).run(&steps(), |steps| {
        block_in_place(|| Handle::current().block_on(play(&app, &merchant, &steps)));
        Ok(())
    });
    tested.unwrap();
});

on_both_databases!(a_change_of_the_secret_logs_nobody_out, async |db: TestDatabase| {
    let before = app(&db).await;
    let session = registered(&before).await;
    let who = principal(&before, &session).await.unwrap();
    let body = fields::<CreateApiKey>(json!({"name": "till"}));
    let (_, key) = api_keys::create(&before, &who, body, once()).await.unwrap().made().unwrap();

    let both = [("CRYPTOPAY_SECRET", NEW_SECRET), ("CRYPTOPAY_SECRET_PREVIOUS", OLD_SECRET)];
    let changing = app_with(&db, &both).await;
    assert_eq!(family(&principal(&changing, &session).await.unwrap()), family(&who));
    assert!(authenticate(&changing, key.expose()).await.is_ok());
    let renewed = renew(&changing, session.refresh.expose()).await.unwrap();
    assert_eq!(family(&principal(&changing, &renewed).await.unwrap()), family(&who));
    // A process that does not know the new secret yet refuses what it has signed.
    assert_eq!(refused(principal(&before, &renewed).await), ErrorCode::TokenInvalid);

    let after = app_with(&db, &[("CRYPTOPAY_SECRET", NEW_SECRET)]).await;
    assert!(principal(&after, &renewed).await.is_ok() && authenticate(&after, key.expose()).await.is_ok());
    assert_eq!(refused(principal(&after, &session).await), ErrorCode::TokenInvalid);
    assert!(renew(&after, renewed.refresh.expose()).await.is_ok());
});
