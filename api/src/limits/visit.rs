//! A request as it is counted: who sends it, and what its answer says of its limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_entity::merchant;
use poem::{FromRequest, Request, RequestBody};

use super::bucket::{Bucket, Change, Standing, delay_of};
use super::client::Client;
use super::refusal;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::operations::accounts::is_wrong_password;
use crate::operations::audit;
use crate::principal::Principal;

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

    /// Counts more for a request that a merchant's bucket has counted once: it asks for several lists.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(crate) async fn count_more(&self, principal: &Principal, more: usize) -> Result<(), ApiError> {
        match self.0.app.limiter.take_several(Bucket::of(principal), more).await {
            Ok(standing) => {
                if let Some(standing) = standing {
                    self.note(standing, None);
                }
                Ok(())
            }
            Err(standing) => {
                crate::metrics::rate_limited();
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
    /// nothing else; only who knows the password learns how that stands.
    ///
    /// # Errors
    /// `RATE_LIMITED`, with nothing handed out; those of `attempt`.
    pub async fn login<T>(
        &self,
        name: &str,
        attempt: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        // One account has one count, by whichever of its names it is asked for.
        let known = merchant::Entity::find_by_login(self.0.app.database(), name).await?;
        let name = known.as_ref().map_or(name, |merchant| merchant.username_key.as_str());
        let id = known.as_ref().map(|merchant| merchant.id);
        let attempted = self.try_password(name, id, attempt, |error| error.code == ErrorCode::InvalidCredentials).await;
        let (opened, plan) = (attempted?, known.as_ref().map_or(Bucket::TRIAL, Bucket::of_logins));
        match self.0.app.limiter.take(plan).await {
            Ok(standing) => {
                self.count_in_plan_only(standing).await;
                Ok(opened)
            }
            Err(standing) => {
                self.note(standing, None);
                Err(used_up(standing))
            }
        }
    }

    /// Lets somebody who is logged in prove that the password is known, within the same limits: a stolen token is no way
    /// around them.
    ///
    /// # Errors
    /// `RATE_LIMITED`, with nothing tried; those of `attempt`.
    pub async fn prove_password<T>(
        &self,
        principal: &Principal,
        attempt: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let (name, id) = (&principal.merchant.username_key, Some(principal.merchant.id));
        self.try_password(name, id, attempt, is_wrong_password).await
    }

    /// Tries a password of an account. What `is_failure` names counts as one. `merchant` is the account's key, if there is
    /// one of this name.
    async fn try_password<T>(
        &self,
        account: &str,
        merchant: Option<MerchantId>,
        attempt: impl Future<Output = Result<T, ApiError>>,
        is_failure: impl Fn(&ApiError) -> bool,
    ) -> Result<T, ApiError> {
        const MEND: &str = ". Who has forgotten the password asks the operator for a new one.";
        let limiter = &self.0.app.limiter;
        let failures = Bucket::of_failed_logins(account, self.0.client.network);
        let failures = failures.get(..if self.0.is_exempt { 0 } else { 3 }).unwrap_or_default();
        // Counted before it is known how it ends, so that many tries at once are no way around it.
        let outcome = limiter.apply(failures, Change::Take).await;
        if let Some((full, standing)) = outcome.full.and_then(|full| Some((full, *outcome.standings.get(full)?))) {
            return Err(match full {
                0 => refusal(standing, "Too many logins under this name have failed from your address.", MEND),
                _ => refusal(standing, "Too many logins have failed from your address.", MEND),
            });
        }
        if let (&[of_name, _, of_account], &[_, _, standing]) = (failures, outcome.standings.as_slice()) {
            let earlier = of_account.limit.saturating_sub(standing.remaining).saturating_sub(1);
            if let Err(error) = self.wait(delay_of(earlier), of_name, merchant).await {
                limiter.apply(failures, Change::GiveBack).await;
                return Err(error);
            }
        }
        let attempted = attempt.await;
        if !attempted.as_ref().is_err_and(is_failure) {
            limiter.apply(failures, Change::GiveBack).await;
        }
        attempted
    }

    /// Delays a login of an account that many have failed to log in to, unless it comes from an address that has logged in
    /// before.
    async fn wait(&self, delay: Duration, of_name: Bucket, merchant: Option<MerchantId>) -> Result<(), ApiError> {
        if delay.is_zero() {
            return Ok(());
        }
        let (app, address) = (&self.0.app, self.0.client.address);
        if let Some(merchant) = merchant
            && audit::is_known_address(app.database(), merchant, address).await?
        {
            return Ok(());
        }
        let Some(_place) = app.limiter.0.delayed.enter(of_name.key) else {
            let message = "Many logins under this name have failed, so that each waits for some seconds. One from your \
                           address waits already.";
            let error = ApiError::new(ErrorCode::RateLimited, message);
            return Err(ApiError { retry_after_secs: Some(delay.as_secs()), ..error });
        };
        app.limiter.0.sleep.sleep(delay).await;
        Ok(())
    }

    /// Runs a registration, unless too many tries came from this address. Each try costs the estimate of a password,
    /// whether it succeeds or not. Failures of the gateway itself are not counted. The sandbox counts no tries.
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
            let whose = format!("{} registrations an hour are all that one address may try.", standing.limit);
            return Err(refusal(standing, &whose, "."));
        }
        let attempted = attempt.await;
        if attempted.as_ref().is_err_and(|error| error.code.status().is_server_error()) {
            limiter.apply(&[bucket], Change::GiveBack).await;
        }
        attempted
    }

    /// Takes the request off its address' count: a plan has it.
    async fn count_in_plan_only(&self, standing: Standing) {
        let counted_in = self.0.counted_in.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bucket) = counted_in {
            self.0.app.limiter.apply(&[bucket], Change::GiveBack).await;
        }
        self.note(standing, None);
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
