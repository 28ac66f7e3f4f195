//! Requests that may come twice: what an `Idempotency-Key` promises.
//!
//! The key's row is the first thing that the effect's own transaction writes, and the answer the last: so either both the
//! effect and its answer are kept, or neither. A second request with the key waits for the first one's transaction, then
//! finds its answer. Only successes are kept: what was refused changed nothing and may be asked again.

#[cfg(test)]
mod tests;

use std::fmt;

use cryptopay_domain::ids::MerchantId;
use cryptopay_entity::database_error::ErrorClass;
use cryptopay_entity::idempotency_key::{self, Answered};
use sea_orm::{DatabaseTransaction, DbErr};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::stop::Stop;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::fields::Fields;
use crate::principal::Principal;
use crate::security::secret_box::{Context, Purpose};

/// Longest key, in characters. Source: the REST contract.
const MAX_KEY_CHARS: usize = 255;
/// The status of an answer that is kept. Whoever answers knows it by the route; it stands beside the answer for people.
const CREATED: u16 = 201;

/// A success, as it is answered with and kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What was asked for, in the form of REST.
    pub data: Value,
    /// What happened, in a sentence.
    pub message: String,
    /// When it was answered first: RFC 3339, UTC.
    pub timestamp: String,
}

/// What a request came to.
#[derive(Debug, Clone)]
pub enum Outcome<T> {
    /// It had its effect.
    First(T, Answer),
    /// An earlier request with the same key had it, and was answered so.
    Again(Answer),
}

impl<T> Outcome<T> {
    /// What was made; `None` where it was made before.
    pub fn made(self) -> Option<T> {
        match self {
            Self::First(made, _) => Some(made),
            Self::Again(_) => None,
        }
    }
}

/// One request of a merchant that creates a `T`, by its key if it has one.
pub struct Once<T> {
    keyed: Option<Keyed>,
    words: Words<T>,
}

/// Puts what was made into an answer.
type Words<T> = Box<dyn Fn(&T) -> Answer + Send + Sync>;

#[derive(Debug, Clone)]
struct Keyed {
    merchant: MerchantId,
    key: String,
    fingerprint: String,
}

impl<T> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.keyed).finish()
    }
}

impl<T> Once<T> {
    /// A request without a key: each one is a new one.
    pub fn without_key(words: impl Fn(&T) -> Answer + Send + Sync + 'static) -> Self {
        Self { keyed: None, words: Box::new(words) }
    }

    /// A request of a principal for `operation` with `fields`, answered in `words`. The kind and the scopes of the credential
    /// belong to the request. Everything else that the request names (an id in the path) belongs to the name of the
    /// operation. A key that is none is one more fault of the fields.
    pub fn new(
        principal: &Principal,
        key: Option<&str>,
        operation: &str,
        fields: &mut Fields,
        words: impl Fn(&T) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let Some(key) = key else { return Self::without_key(words) };
        let valid = (1..=MAX_KEY_CHARS).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !valid {
            let problem = "Use 1 to 255 visible ASCII characters without blanks, such as a UUID.";
            fields.fault("Idempotency-Key", problem);
            return Self::without_key(words);
        }
        let request = json!([operation, meant(fields), principal.powers()]).to_string();
        let fingerprint = data_encoding::HEXLOWER.encode(&Sha256::digest(request));
        let keyed = Keyed { merchant: principal.merchant_id(), key: key.to_owned(), fingerprint };
        Self { keyed: Some(keyed), words: Box::new(words) }
    }

    /// The request's answer: the one that was given to the same request before, or what it comes to when it is done `anew`.
    ///
    /// A request that is fine asks for the earlier answer as its transaction begins; one that is refused asks here, since
    /// what was true when the first one came need not be true now.
    ///
    /// # Errors
    /// Those of the request; `IDEMPOTENCY_KEY_REUSED` where the key belongs to another one.
    pub(super) async fn answered(
        &self,
        app: &App,
        anew: impl Future<Output = Result<Outcome<T>, ApiError>> + Send,
    ) -> Result<Outcome<T>, ApiError> {
        match anew.await {
            Err(error) if self.keyed.is_some() => self.given(app).await?.ok_or(error),
            outcome => outcome,
        }
    }

    /// The answer to the same request, if it was given before.
    ///
    /// # Errors
    /// `IDEMPOTENCY_KEY_REUSED` where the key belongs to another request.
    pub async fn given(&self, app: &App) -> Result<Option<Outcome<T>>, ApiError> {
        let Some(keyed) = &self.keyed else { return Ok(None) };
        let row = idempotency_key::Entity::kept(app.database(), keyed.merchant, &keyed.key).await?;
        row.map(|row| keyed.read(app, &row).map(Outcome::Again)).transpose()
    }

    /// Begins the request: the first statement of its transaction. Waits while another one with the same key runs, and
    /// gives the answer of that one if it went well.
    ///
    /// # Errors
    /// `IDEMPOTENCY_KEY_IN_USE` when the wait took too long; `IDEMPOTENCY_KEY_REUSED`.
    pub(super) async fn begin(&self, app: &App, txn: &DatabaseTransaction) -> Result<Option<Outcome<T>>, Stop> {
        let Some(keyed) = &self.keyed else { return Ok(None) };
        let (merchant, key) = (keyed.merchant, keyed.key.as_str());
        let begun = idempotency_key::Entity::begin(txn, merchant, key, &keyed.fingerprint).await;
        if begun.map_err(in_use)? {
            return Ok(None);
        }
        let row = idempotency_key::Entity::kept(txn, merchant, key).await?;
        let row = row.ok_or_else(|| DbErr::RecordNotFound("the row of an idempotency key".to_owned()))?;
        Ok(Some(Outcome::Again(keyed.read(app, &row)?)))
    }

    /// Answers with what was made, and keeps the answer: the last statement of the request's transaction.
    pub(super) async fn keep(&self, app: &App, txn: &DatabaseTransaction, made: T) -> Result<Outcome<T>, Stop> {
        let (answer, kept) = self.answer(app, &made)?;
        if let Some(kept) = kept {
            idempotency_key::Entity::keep(txn, kept).await?;
        }
        Ok(Outcome::First(made, answer))
    }

    /// The answer to what is being made, and what is to be kept of it: by the request's transaction, with its last
    /// statement.
    pub(super) fn answer(&self, app: &App, made: &T) -> Result<(Answer, Option<Answered>), ApiError> {
        let answer = (self.words)(made);
        let kept = self.keyed.as_ref().map(|keyed| keyed.seal(app, &answer)).transpose()?;
        Ok((answer, kept))
    }
}

impl Keyed {
    fn seal(&self, app: &App, answer: &Answer) -> Result<Answered, ApiError> {
        let text = serde_json::to_string(answer).map_err(ApiError::internal)?;
        let context = Context { purpose: Purpose::StoredAnswer, merchant: self.merchant };
        let body = app.keys.secret_box().seal(context, text.as_bytes()).map_err(ApiError::internal)?;
        Ok(Answered { merchant: self.merchant, key: self.key.clone(), status: CREATED, body })
    }

    fn read(&self, app: &App, row: &idempotency_key::Model) -> Result<Answer, ApiError> {
        if row.fingerprint != self.fingerprint {
            let message = "This Idempotency-Key was used for another request. Use a new one for each request.";
            return Err(ApiError::new(ErrorCode::IdempotencyKeyReused, message));
        }
        // A committed row without an answer is not written by this version.
        let sealed = row.body.as_deref().ok_or_else(|| ApiError::internal("an idempotency key without its answer"))?;
        let context = Context { purpose: Purpose::StoredAnswer, merchant: self.merchant };
        let text = app.keys.secret_box().open_text(context, sealed).map_err(ApiError::internal)?;
        serde_json::from_str(text.expose_secret()).map_err(ApiError::internal)
    }
}

/// What fields mean: null is as good as absent, and slugs and symbols are the same in any case.
fn meant(fields: &Fields) -> Map<String, Value> {
    const ANY_CASE: [&str; 2] = ["blockchain", "currency"];
    let meant = |(name, value): (&String, &Value)| {
        let folded = value.as_str().filter(|_| ANY_CASE.contains(&name.as_str())).map(str::to_lowercase);
        (name.clone(), folded.map_or_else(|| value.clone(), Value::String))
    };
    fields.values().iter().filter(|(_, value)| !value.is_null()).map(meant).collect()
}

/// Answer to a lock that was not granted within `lock_timeout`: the first request still runs.
fn in_use(error: DbErr) -> Stop {
    if ErrorClass::of(&error) != ErrorClass::LockTimeout {
        return error.into();
    }
    let message = "The first request with this Idempotency-Key still runs. Send it again in a second.";
    let error = ApiError { retry_after_secs: Some(1), ..ApiError::new(ErrorCode::IdempotencyKeyInUse, message) };
    error.into()
}
