//! A request as it is counted: who sends it, and what its answer says of its limit.

use std::sync::{Arc, Mutex, PoisonError};

use cryptopay_entity::merchant;
use poem::{FromRequest, Request, RequestBody};

use super::bucket::{Bucket, Change, Standing};
use super::client::Client;
use super::refusal;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};

/// One request. Cheap to clone; handlers take it as a parameter.
#[derive(Debug, Clone)]
pub struct Visit(Arc<State>);

#[derive(Debug)]
struct State {
    app: App,
    client: Client,
    is_exempt: bool,
    /// What the answer's headers will tell.
    standing: Mutex<Option<Standing>>,
    /// Where the request itself was counted.
    counted_in: Mutex<Option<Bucket>>,
}

impl Visit {
    /// The request, not counted yet.
    pub(super) fn of(app: &App, client: Client) -> Self {
        Self(Arc::new(State {
            app: app.clone(),
            client,
            is_exempt: app.is_sandbox() && client.is_loopback,
            standing: Mutex::default(),
            counted_in: Mutex::default(),
        }))
    }

    /// Counts the request for a merchant.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) async fn count_for(&self, bucket: Bucket) -> Result<(), ApiError> {
        match self.0.app.limiter.take(bucket).await {
            Ok(standing) => {
                self.note(standing, Some(bucket));
                Ok(())
            }
            Err(standing) => {
                self.note(standing, None);
                Err(used_up(standing))
            }
        }
    }

    /// Counts the request for its address.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) async fn count_for_address(&self) -> Result<(), ApiError> {
        let bucket = Bucket::of_address(self.0.client.network);
        if self.0.is_exempt {
            self.note(self.0.app.limiter.look(bucket).await, None);
            return Ok(());
        }
        match self.0.app.limiter.take(bucket).await {
            Ok(standing) => {
                self.note(standing, Some(bucket));
                Ok(())
            }
            Err(standing) => {
                self.note(standing, None);
                let whose = format!(
                    "{} requests an hour without a valid token are all that one address may send.",
                    standing.limit
                );
                Err(refusal(standing, &whose, ", or now with an access token or an API key."))
            }
        }
    }

    /// Counts nothing: what went wrong before anybody could be counted is not the client's doing.
    pub(super) async fn look(&self) {
        let bucket = Bucket::of_address(self.0.client.network);
        self.note(self.0.app.limiter.look(bucket).await, None);
    }

    /// How the count stands that this request is in.
    pub(super) fn standing(&self) -> Option<Standing> {
        *self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody try to log in under a name, unless too many tries from here have failed. `attempt` is the try;
    /// `INVALID_CREDENTIALS` is what counts as a failure. A login that succeeds counts for its merchant's plan and for
    /// nothing else.
    ///
    /// # Errors
    /// `RATE_LIMITED`, with nothing tried or opened; those of `attempt`.
    pub async fn login<T>(
        &self,
        name: &str,
        attempt: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let limiter = &self.0.app.limiter;
        let merchant = merchant::Entity::find_by_login(self.0.app.database(), name).await?;
        // Nobody's plan, so that a name that nobody has takes as long.
        let plan = merchant.as_ref().map_or(Bucket::TRIAL, Bucket::of_logins);
        let failures = Bucket::of_failed_logins(name, self.0.client.network);
        let [of_name, of_address] = failures;
        // Counted before it is known how it ends, so that many tries at once are no way around it.
        let everything = [plan, of_name, of_address];
        let counted = everything.get(..if self.0.is_exempt { 1 } else { 3 }).unwrap_or_default();
        let outcome = limiter.apply(counted, Change::Take).await;
        if let Some((full, standing)) = outcome.full.and_then(|full| Some((full, *outcome.standings.get(full)?))) {
            const MEND: &str = ". Who has forgotten the password asks the operator for a new one.";
            return Err(match full {
                0 => {
                    self.note(standing, None);
                    used_up(standing)
                }
                1 => refusal(standing, "Too many logins under this name have failed from your address.", MEND),
                _ => refusal(standing, "Too many logins have failed from your address.", MEND),
            });
        }
        let attempted = attempt.await;
        let (used, unused) = counted.split_at(counted.len().min(1));
        match &attempted {
            Ok(_) => {
                limiter.apply(unused, Change::GiveBack).await;
                self.count_in_plan_only(outcome.standings.first().copied()).await;
            }
            Err(error) if error.code == ErrorCode::InvalidCredentials => {
                limiter.apply(used, Change::GiveBack).await;
            }
            Err(_) => {
                limiter.apply(counted, Change::GiveBack).await;
            }
        }
        attempted
    }

    /// Lets somebody register, unless too many accounts were made from here. In the sandbox nobody counts.
    ///
    /// # Errors
    /// `RATE_LIMITED`, with nothing tried; those of `attempt`.
    pub async fn register<T>(&self, attempt: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
        if self.0.app.is_sandbox() {
            return attempt.await;
        }
        let limiter = &self.0.app.limiter;
        let bucket = Bucket::of_registrations(self.0.client.network);
        if let Err(standing) = limiter.take(bucket).await {
            let whose = format!("{} accounts an hour are all that may be made from one address.", standing.limit);
            return Err(refusal(standing, &whose, "."));
        }
        let attempted = attempt.await;
        if attempted.is_err() {
            limiter.apply(&[bucket], Change::GiveBack).await;
        }
        attempted
    }

    /// Takes the request off its address' count: a plan has it.
    async fn count_in_plan_only(&self, standing: Option<Standing>) {
        let counted_in = self.0.counted_in.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bucket) = counted_in {
            self.0.app.limiter.apply(&[bucket], Change::GiveBack).await;
        }
        if let Some(standing) = standing {
            self.note(standing, None);
        }
    }

    fn note(&self, standing: Standing, counted_in: Option<Bucket>) {
        *self.0.standing.lock().unwrap_or_else(PoisonError::into_inner) = Some(standing);
        if counted_in.is_some() {
            *self.0.counted_in.lock().unwrap_or_else(PoisonError::into_inner) = counted_in;
        }
    }
}

/// A merchant's plan is used up.
pub(crate) fn used_up(standing: Standing) -> ApiError {
    let whose = format!("Your plan's {} requests for this hour are used up.", standing.limit);
    refusal(standing, &whose, ", or ask the operator for a larger plan.")
}

impl<'a> FromRequest<'a> for Visit {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        if let Some(visit) = request.data::<Self>() {
            return Ok(visit.clone());
        }
        let app = request.data::<App>().ok_or_else(|| ApiError::internal("no App in the request"))?;
        Ok(Self::of(app, Client::of_request(request, &app.config.trusted_proxies)))
    }
}
