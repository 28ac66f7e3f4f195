//! What a request for an order says, and whether it may say so.

use cryptopay_domain::amount::Amount;
use cryptopay_domain::registry::{Chain, Token};
use cryptopay_domain::settings::{MAX_EXPIRY, MIN_EXPIRY, PaymentSettings};
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::merchant_wallet::PayingPlace;
use cryptopay_jobs::webhooks::client::{ClientPolicy, check_url};
use cryptopay_ledger::NewOrder;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::app::App;
use crate::fields::Fields;

/// Largest `order_info`, in bytes.
pub const MAX_ORDER_INFO_BYTES: usize = 8 * 1024;
/// Longest `redirect_url`, in characters.
pub const MAX_URL_CHARS: usize = 2_048;

/// A request whose fields are fine by themselves.
pub(super) struct CreateRequest<'a> {
    pub(super) chain: &'a Chain,
    pub(super) token: &'a Token,
    amount: Amount,
    pub(super) price: cryptopay_domain::units::Units,
    order_info: String,
    pub(super) nonce: i64,
    webhook_url: Option<String>,
    redirect_url: Option<String>,
    fingerprint: String,
    pub(super) seed: u64,
}

impl<'a> CreateRequest<'a> {
    /// Parses and judges what needs no database. `None` after a fault.
    pub(super) fn parse(app: &'a App, fields: &mut Fields) -> Option<Self> {
        let chain = parse_chain(app, fields);
        let token = parse_token(app, chain, fields);
        let amount = parse_amount(fields, token);
        let order_info = parse_order_info(fields);
        let nonce = fields.integer("nonce");
        let webhook_url = parse_webhook_url(app, fields);
        let redirect_url = parse_redirect_url(app, fields);
        // Whether it lies in the right span depends on the time; whether it is a time at all does not.
        let _: Option<Timestamp> = fields.parsed("expires_at");
        fields.finish().ok()?;
        let (amount, price) = amount?;
        let mut request = Self {
            chain: chain?,
            token: token?,
            amount,
            price,
            order_info: order_info?,
            nonce: nonce?,
            webhook_url,
            redirect_url,
            fingerprint: String::new(),
            seed: rand::random(),
        };
        request.fingerprint = request.fingerprint(fields.text("expires_at"));
        Some(request)
    }

    fn fingerprint(&self, expires_at: Option<&str>) -> String {
        let parsed = json!([
            self.chain.slug,
            self.token.symbol,
            self.amount.as_str(),
            self.order_info,
            self.nonce,
            self.webhook_url,
            self.redirect_url,
            expires_at,
        ]);
        data_encoding::HEXLOWER.encode(&Sha256::digest(parsed.to_string()))
    }

    pub(super) fn order(
        &self,
        merchant: cryptopay_domain::ids::MerchantId,
        expires_at: Timestamp,
        settings: &PaymentSettings,
    ) -> NewOrder<'a> {
        NewOrder {
            merchant,
            nonce: self.nonce,
            fingerprint: self.fingerprint.clone(),
            chain: self.chain,
            token: self.token,
            amount: self.amount.clone(),
            price: self.price,
            order_info: self.order_info.clone(),
            webhook_url: self.webhook_url.clone(),
            redirect_url: self.redirect_url.clone(),
            expires_at,
            required_confirmations: settings.confirmations_on(self.chain),
            late_policy: settings.late_policy_for(self.token),
        }
    }
}

/// A chain by its slug, in any case; the fault names the known ones.
pub fn parse_chain<'a>(app: &'a App, fields: &mut Fields) -> Option<&'a Chain> {
    let slug = fields.text("blockchain")?;
    let chain = app.chain(slug);
    if chain.is_none() {
        fields.fault("blockchain", app.unknown_chain());
    }
    chain
}

/// A token of a chain by its symbol, in any case; the fault names the known ones.
pub fn parse_token<'a>(app: &'a App, chain: Option<&'a Chain>, fields: &mut Fields) -> Option<&'a Token> {
    let symbol = fields.text("currency")?.to_owned();
    let Some(chain) = chain else {
        // Without its chain a symbol can still be wrong everywhere.
        if !app.context.registry.chains().iter().any(|chain| chain.token(&symbol).is_some()) {
            fields.fault("currency", "Unknown currency on every blockchain.");
        }
        return None;
    };
    let token = chain.token(&symbol);
    if token.is_none() {
        let known: Vec<&str> = chain.assets().map(|token| token.symbol.as_str()).collect();
        fields.fault("currency", format!("Unknown currency on {}. Known: {}.", chain.slug, known.join(", ")));
    }
    token
}

fn parse_amount(fields: &mut Fields, token: Option<&Token>) -> Option<(Amount, cryptopay_domain::units::Units)> {
    let text = fields.text("amount")?.to_owned();
    let amount = fields.ok("amount", Amount::parse(&text))?;
    let token = token?;
    let price = fields.ok("amount", amount.to_units(token.decimals))?;
    Some((amount, price))
}

fn parse_order_info(fields: &mut Fields) -> Option<String> {
    let text = fields.text("order_info")?.to_owned();
    if text.len() > MAX_ORDER_INFO_BYTES {
        fields.fault("order_info", "Must have at most 8192 bytes.");
        return None;
    }
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        fields.fault("order_info", format!("Must be a string that holds valid JSON, such as \"{{}}\": {error}."));
        return None;
    }
    Some(text)
}

fn parse_webhook_url(app: &App, fields: &mut Fields) -> Option<String> {
    let text = fields.text("webhook_url")?.to_owned();
    let checked = check_url(&text, &webhook_policy(app));
    fields.ok("webhook_url", checked).map(|url| url.to_string())
}

/// What webhooks may be sent to in this deployment.
pub fn webhook_policy(app: &App) -> ClientPolicy {
    ClientPolicy { allow: app.config.webhook_allow.clone(), https_only: !app.is_sandbox() }
}

fn parse_redirect_url(app: &App, fields: &mut Fields) -> Option<String> {
    let text = fields.text("redirect_url")?.to_owned();
    match redirect_problem(&text, app.is_sandbox()) {
        None => Some(text),
        Some(problem) => {
            fields.fault("redirect_url", problem);
            None
        }
    }
}

/// The problem of an address that a customer's browser is sent to. Plain http is for a shop under development only; a user
/// part makes a foreign host look like the shop's.
fn redirect_problem(text: &str, is_sandbox: bool) -> Option<&'static str> {
    if text.chars().any(char::is_control) {
        return Some("Remove the control characters from the URL.");
    }
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url.filter(|_| text.chars().count() <= MAX_URL_CHARS) else {
        return Some("Enter an http or https URL of at most 2048 characters.");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Some("Remove the user name and password from the URL.");
    }
    (url.scheme() == "http" && !is_sandbox).then_some("Use https://: in live mode customers are sent to https only.")
}

pub(super) fn judge_expiry(fields: &mut Fields, now: Timestamp, settings: &PaymentSettings) -> Option<Timestamp> {
    let Some(text) = fields.text("expires_at") else {
        return (!fields.is_faulty("expires_at")).then(|| now.plus(settings.default_expiry()));
    };
    let expires_at: Timestamp = text.parse().ok()?;
    if expires_at < now.plus(MIN_EXPIRY) || expires_at > now.plus(MAX_EXPIRY) {
        // The gateway's clock is not always the caller's: in a sandbox it can be moved.
        let problem = format!("Must lie between 1 minute and 30 days ahead of the gateway's time, which is {now}.");
        fields.fault("expires_at", problem);
        return None;
    }
    Some(expires_at)
}

pub(super) fn judge_wallet(fields: &mut Fields, place: &PayingPlace) -> bool {
    let has_one = place.paid_to().is_some();
    if !has_one {
        fields.fault(
            "blockchain",
            "You have no active wallet on this blockchain. Add one with POST /api/merchant-wallets/.",
        );
    }
    has_one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_goes_to_plain_https_in_live_mode() {
        let words = |url, is_sandbox| redirect_problem(url, is_sandbox).unwrap_or_default();
        for url in ["https://shop.example/thanks?lang=en#top", "https://shop.example:8443/", "https://bücher.example"]
        {
            assert_eq!((redirect_problem(url, true), redirect_problem(url, false)), (None, None), "{url}");
        }
        assert_eq!(redirect_problem("http://localhost:3000/thanks", true), None);
        assert!(words("http://localhost:3000/thanks", false).contains("https"));
        for (url, word) in [
            ("https://shop.example@evil.example/", "user name"),
            ("https://:secret@shop.example/", "password"),
            ("https://shop.example/\r\nX: y", "control"),
            ("https://shop.example/\t", "control"),
            ("https://shop.example/\u{85}", "control"),
            ("javascript:alert(1)", "http or https"),
            ("ftp://shop.example/", "http or https"),
            ("/thanks", "http or https"),
        ] {
            for is_sandbox in [true, false] {
                assert!(words(url, is_sandbox).contains(word), "{url}: {}", words(url, is_sandbox));
            }
        }
        let long = format!("https://shop.example/{}", "x".repeat(MAX_URL_CHARS));
        assert!(words(&long, false).contains("2048"));
    }
}
