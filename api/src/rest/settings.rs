//! `/api/settings/`.

use std::collections::BTreeMap;

use cryptopay_domain::order::LatePolicy;
use cryptopay_domain::settings;
use poem::web::Data;
use poem_openapi::{Enum, Object, OpenApi};

use super::Tag;
use super::body::Body;
use super::envelope::{Answer, Success};
use crate::app::App;
use crate::operations::settings as operation;
use crate::principal::{Manager, Reader};

/// What happens to money that comes after the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "LatePolicy", rename_all = "lowercase")]
pub enum LatePolicyWord {
    /// Tokens count, native coins wait for your decision: their price moves.
    Default,
    /// It counts.
    Accept,
    /// It waits for your decision.
    Review,
    /// It does not count; an order that has nothing else fails.
    Reject,
}

/// What is to change of the payment settings; the rest stays.
#[derive(Debug, Object)]
pub struct ChangePaymentSettings {
    /// What happens to money that comes after the deadline.
    pub late_policy: Option<LatePolicyWord>,
    /// How many confirmations a payment needs, by the slug of the chain: 1 to as many blocks as the chain's
    /// reorganisations are followed. Null goes back to the chain's own number. Chains that are not named keep theirs.
    pub confirmations: Option<BTreeMap<String, Option<i64>>>,
    /// How long an order is open unless it says otherwise, in seconds: 60 to 2592000 (30 days).
    pub default_expiry_seconds: Option<i64>,
    /// By how much a payment may be off and still count, in hundredths of a percent. Not available yet: only 0.
    pub tolerance_bps: Option<i64>,
    /// By how much a payment may be off at most, in the order's currency. Not available yet: only 0.
    #[oai(validator(max_length = 80))]
    pub tolerance_max: Option<String>,
}

/// How payments are treated. An order keeps what held when it was created.
#[derive(Debug, Clone, Object)]
pub struct PaymentSettings {
    /// What happens to money that comes after the deadline.
    pub late_policy: LatePolicyWord,
    /// How many confirmations a payment needs, by the slug of the chain: every chain that is served.
    pub confirmations: BTreeMap<String, i64>,
    /// How long an order is open unless it says otherwise, in seconds.
    pub default_expiry_seconds: i64,
    /// By how much a payment may be off and still count, in hundredths of a percent: 0.
    pub tolerance_bps: i64,
    /// By how much a payment may be off at most, in the order's currency: `0.00`.
    pub tolerance_max: String,
}

impl PaymentSettings {
    fn new(app: &App, settings: &settings::PaymentSettings) -> Self {
        let chains = app.context.registry.chains().iter();
        let depth = |chain| i64::from(settings.confirmations_on(chain));
        Self {
            late_policy: match settings.late_policy {
                None => LatePolicyWord::Default,
                Some(LatePolicy::Accept) => LatePolicyWord::Accept,
                Some(LatePolicy::Review) => LatePolicyWord::Review,
                Some(LatePolicy::Reject) => LatePolicyWord::Reject,
            },
            confirmations: chains.map(|chain| (chain.slug.clone(), depth(chain))).collect(),
            default_expiry_seconds: i64::try_from(settings.default_expiry().as_secs()).unwrap_or(i64::MAX),
            tolerance_bps: 0,
            tolerance_max: "0.00".to_owned(),
        }
    }
}

/// The routes.
#[derive(Debug)]
pub struct Settings;

#[OpenApi(prefix_path = "/api/settings", tag = "Tag::Settings")]
impl Settings {
    /// Get the payment settings
    ///
    /// What new orders take over. An order that is there keeps what held when it was created.
    #[oai(path = "/payments/", method = "get", operation_id = "getPaymentSettings")]
    async fn get(&self, app: Data<&App>, auth: Reader) -> Answer<Success<PaymentSettings>> {
        let settings = operation::of(&auth.0.merchant)?;
        Ok(Success(PaymentSettings::new(&app, &settings), "Success".to_owned()))
    }

    /// Change the payment settings
    ///
    /// Changes what is sent and keeps the rest. Holds for orders that are created from then on.
    #[oai(path = "/payments/", method = "put", operation_id = "changePaymentSettings")]
    async fn put(
        &self,
        app: Data<&App>,
        auth: Manager,
        body: Body<ChangePaymentSettings>,
    ) -> Answer<Success<PaymentSettings>> {
        let (settings, message) = operation::update(&app, &auth.0, body.fields).await?;
        Ok(Success(PaymentSettings::new(&app, &settings), message))
    }
}
