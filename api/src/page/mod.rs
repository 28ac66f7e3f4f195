//! The public payment page of an order, as one HTML document that needs nothing else: no database, no network, no file.
//!
//! [`render`] guarantees that every value is escaped, that a link is http or https, and that nothing but the fields of
//! [`PageView`] is shown: `order_info`, e-mail addresses and other orders cannot be, since they are not handed in. The
//! page keeps itself up to date from the event stream at `<its own path>/events`, states when it is not up to date, and
//! reconnects with back-off; without JavaScript it reloads. It is served with [`security_headers`] of the same nonce.
//!
//! The price of the order is not shown: beside an amount to send that differs from it, customers sent the price.
//!
//! With JavaScript, a customer who has paid can ask what is seen of the transaction, and in the sandbox an order on a simulated
//! chain is paid by a button. It leaves out: building transactions in a browser wallet.
//!
//! [`notice`] is the page of an order that cannot be shown at the moment, for people: with the time to wait.
//!
//! `page.html`, `page.css` and `page.js` are the document, `scenes` its words per status, `template` fills it, `qr` draws.

pub mod qr;
mod scenes;
mod template;

use cryptopay_domain::address::{AccountAddress, Asset, Hash};
use cryptopay_domain::ids::OrderRef;
use cryptopay_domain::order::OrderStatus;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use url::Url;

use scenes::Scene;
use template::{Slot, fill};

const PAGE: &str = include_str!("page.html");
const NOT_FOUND: &str = include_str!("not_found.html");
const NOTICE: &str = include_str!("notice.html");
const CSS: &str = include_str!("page.css");
const JS: &str = include_str!("page.js");

/// What the page shows of an order. Amounts are decimal numbers as people read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageView {
    /// Who is paid.
    pub shop_name: String,
    /// Public id.
    pub order_id: OrderRef,
    /// Status.
    pub status: OrderStatus,
    /// Symbol.
    pub currency: String,
    /// What to send.
    pub pay_amount: String,
    /// What has come and counts.
    pub amount_received: String,
    /// What is still to be sent.
    pub amount_remaining: String,
    /// Amount received beyond the amount due; `None` unless the order is overpaid.
    pub amount_overpaid: Option<String>,
    /// Time of the newest payment's block.
    pub paid_at: Option<Timestamp>,
    /// The chain's name.
    pub network: String,
    /// What exchanges call the chain.
    pub exchange_name: String,
    /// Where to send it.
    pub receiving_address: AccountAddress,
    /// What to send.
    pub asset: Asset,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// `pay_amount` in base units.
    pub due: Units,
    /// Confirmations of the newest payment.
    pub confirmations: u64,
    /// Confirmations that are needed.
    pub required_confirmations: u32,
    /// Until when to pay.
    pub expires_at: Timestamp,
    /// Whether money may still be sent.
    pub payable: bool,
    /// Whether the shop may ship.
    pub fulfillable: bool,
    /// Where the customer goes afterwards; left out unless http or https.
    pub redirect_url: Option<String>,
    /// Address of a block explorer; left out unless http or https.
    pub explorer: Option<String>,
    /// The newest payment.
    pub transaction_hash: Option<Hash>,
    /// Whether no real money is meant.
    pub sandbox: bool,
    /// Whether the chain is simulated, so that a payment can be too.
    pub simulated: bool,
}

/// The page of an order, as an HTML document. `nonce` is the one of [`security_headers`]: fresh for every answer, base 64.
pub fn render(view: &PageView, nonce: &str) -> String {
    let scene = Scene::of(view.status, view.payable, view.fulfillable);
    let short = view.status == OrderStatus::Underpaid;
    let counting = matches!(view.status, OrderStatus::Confirming | OrderStatus::Reorged);
    let counted = view.confirmations.min(view.required_confirmations.into());
    let (amount_label, big_amount) =
        if short { ("Still to send", &view.amount_remaining) } else { ("Send exactly", &view.pay_amount) };
    let has_receipt = scene.is_end() && view.amount_received.bytes().any(|digit| matches!(digit, b'1'..=b'9'));
    let go = view.redirect_url.as_deref().and_then(|url| return_url(url, &view.order_id));
    let explorer = view.explorer.as_deref().and_then(web_url).map(|url| url.as_str().trim_end_matches('/').to_owned());
    fill(PAGE, |name| {
        Some(match name {
            "nonce" => Slot::text(nonce),
            "css" => Slot::trusted(CSS),
            "js" => Slot::trusted(JS),
            "scenes" => Slot::trusted(scenes::json()),
            "refresh" => Slot::trusted(refresh(view.status, go.as_deref(), nonce)),
            "sandbox" => Slot::trusted(if view.sandbox { SANDBOX } else { "" }),
            "shop_name" => Slot::text(&view.shop_name),
            "order_id" => Slot::text(view.order_id.as_str()),
            "scene" => Slot::text(scene.as_str()),
            "title" => Slot::text(scene.title()),
            "hint" => Slot::text(scene.hint()),
            "tone" => Slot::text(scene.tone()),
            "amount_received" => Slot::text(&view.amount_received),
            "currency" => Slot::text(&view.currency),
            "exact_label" => Slot::text("Send exactly"),
            "amount_label" => Slot::text(amount_label),
            "big_amount" => Slot::text(big_amount),
            "pay_amount" => Slot::text(&view.pay_amount),
            "amount_remaining" => Slot::text(&view.amount_remaining),
            "amount_overpaid" => Slot::text(view.amount_overpaid.as_deref().unwrap_or_default()),
            "paid_at" => Slot::text(view.paid_at.map(|time| time.to_string()).unwrap_or_default()),
            "details_title" => Slot::text(if has_receipt { "Receipt" } else { "Details" }),
            "network" => Slot::text(&view.network),
            "exchange_name" => Slot::text(&view.exchange_name),
            "receiving_address" => Slot::text(view.receiving_address),
            "expires_at" => Slot::text(view.expires_at),
            "required_confirmations" => Slot::text(view.required_confirmations),
            "counted" => Slot::text(counted),
            "depth" => Slot::text(format!("{counted} of {} confirmations", view.required_confirmations)),
            "qr" => Slot::trusted(qr::svg(&view.receiving_address.to_string()).unwrap_or_default()),
            "wallet" => Slot::trusted(wallet_link(view)),
            "simulate" => Slot::trusted(if view.sandbox && view.simulated { SIMULATE } else { "" }),
            "advice" => Slot::text(ADVICE),
            "go" => Slot::text(go.as_deref().unwrap_or_default()),
            "back" => Slot::trusted(back_link(view, counting || scene.is_end(), go.as_deref())),
            "explorer" => Slot::text(explorer.as_deref().unwrap_or_default()),
            "transaction" => Slot::trusted(transaction(view.transaction_hash, explorer.as_deref())),
            "pay_hidden" => Slot::hidden_unless(view.payable),
            "rest_hidden" => Slot::hidden_unless(short),
            "sums_hidden" => Slot::hidden_unless(!view.payable),
            "missing_hidden" => Slot::hidden_unless(short),
            "excess_hidden" => Slot::hidden_unless(view.amount_overpaid.is_some()),
            "support_hidden" => Slot::hidden_unless(scene.is_end()),
            "receipt_hidden" => Slot::hidden_unless(has_receipt),
            "time_hidden" => Slot::hidden_unless(view.paid_at.is_some()),
            "progress_hidden" => Slot::hidden_unless(counting),
            "tx_hidden" => Slot::hidden_unless(view.transaction_hash.is_some()),
            _ => return None,
        })
    })
}

/// The page for an order that does not exist.
pub fn not_found(nonce: &str) -> String {
    fill(NOT_FOUND, |name| match name {
        "nonce" => Some(Slot::text(nonce)),
        "css" => Some(Slot::trusted(CSS)),
        _ => None,
    })
}

/// The page for an order that cannot be shown for `wait_secs` seconds. It loads again by itself after that time.
pub fn notice(title: &str, reason: &str, wait_secs: u64, nonce: &str) -> String {
    let wait = match wait_secs {
        ..=1 => "a second".to_owned(),
        2..=119 => format!("{wait_secs} seconds"),
        _ => format!("{} minutes", wait_secs.div_ceil(60)),
    };
    fill(NOTICE, |name| {
        Some(match name {
            "nonce" => Slot::text(nonce),
            "css" => Slot::trusted(CSS),
            "title" => Slot::text(title),
            "reason" => Slot::text(reason),
            "wait_secs" => Slot::text(wait_secs.max(1)),
            "wait" => Slot::text(&wait),
            _ => return None,
        })
    })
}

/// The headers of all pages. Nothing is loaded from elsewhere. The page is not framed, indexed or kept, and the next
/// site does not learn its address. Characters that are not base 64 are left out of `nonce`.
pub fn security_headers(nonce: &str) -> Vec<(&'static str, String)> {
    let nonce: String = nonce.chars().filter(|c| c.is_ascii_alphanumeric() || "+/-_=".contains(*c)).collect();
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    vec![
        ("Content-Security-Policy", policy),
        ("X-Frame-Options", "DENY".to_owned()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
        ("Referrer-Policy", "no-referrer".to_owned()),
        ("X-Robots-Tag", "noindex, nofollow".to_owned()),
        ("Cache-Control", "no-store".to_owned()),
    ]
}

/// Where the customer goes after paying: the shop's URL with `order_id` appended, never the status, which anybody could
/// write there. `None` unless it is http or https.
pub fn return_url(redirect_url: &str, order_id: &OrderRef) -> Option<String> {
    let mut url = web_url(redirect_url)?;
    url.query_pairs_mut().append_pair("order_id", order_id.as_str());
    Some(url.into())
}

const SANDBOX: &str = r#"<p class="sandbox">Sandbox: this is a test. Do not send real money.</p>"#;
const SIMULATE: &str = r#"<button type="button" class="button wide plain" id="simulate">Simulate payment</button>
<p id="simulate-answer" class="small" role="status"></p>"#;
const ADVICE: &str = "The exact amount tells your payment from all others, so do not round it. If you pay from an exchange, \
                      exactly this amount must arrive after its fees.";

fn web_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// For browsers without JavaScript: reload, or return to the shop.
fn refresh(status: OrderStatus, go: Option<&str>, nonce: &str) -> String {
    let content = match (status, go) {
        (OrderStatus::Confirmed, Some(go)) => format!("5;url={go}"),
        // Several such pages behind one address share its hourly limit.
        (OrderStatus::Pending | OrderStatus::Underpaid | OrderStatus::Confirming, _) => "15".to_owned(),
        _ => "60".to_owned(),
    };
    fill(
        r#"<noscript><meta http-equiv="refresh" content="{{content}}"><style nonce="{{nonce}}">button{display:none!important}</style></noscript>"#,
        |name| match name {
            "content" => Some(Slot::text(&content)),
            "nonce" => Some(Slot::text(nonce)),
            _ => None,
        },
    )
}

/// A payment request for the wallet on this device. Only for native coins: some wallets take the first address of a
/// token's request, the token contract, for the receiver.
fn wallet_link(view: &PageView) -> String {
    if view.asset != Asset::Native || view.status != OrderStatus::Pending {
        return String::new();
    }
    let uri = qr::content(qr::Content::Uri, view.receiving_address, view.asset, view.chain_id, view.due);
    fill(r#"<a id="wallet" class="button wide plain" href="{{uri}}">Open in a wallet app</a>"#, |name| {
        (name == "uri").then(|| Slot::text(&uri))
    })
}

/// The link to the shop, hidden while money may still be sent.
fn back_link(view: &PageView, is_shown: bool, go: Option<&str>) -> String {
    let Some(go) = go else { return String::new() };
    fill(
        r#"<p id="back" class="back" {{hidden}}><a class="button wide" rel="noreferrer" href="{{go}}">Back to <bdi>{{shop}}</bdi></a></p>"#,
        |name| match name {
            "hidden" => Some(Slot::hidden_unless(is_shown)),
            "go" => Some(Slot::text(go)),
            "shop" => Some(Slot::text(&view.shop_name)),
            _ => None,
        },
    )
}

fn transaction(hash: Option<Hash>, explorer: Option<&str>) -> String {
    let full = hash.map(|hash| hash.to_string()).unwrap_or_default();
    let short = match (full.get(..10), full.get(full.len().saturating_sub(8)..)) {
        (Some(head), Some(tail)) => format!("{head}…{tail}"),
        _ => String::new(),
    };
    let link = match explorer {
        Some(explorer) if !full.is_empty() => format!("{explorer}/tx/{full}"),
        _ => String::new(),
    };
    fill(
        if link.is_empty() {
            r#"<a id="hash" title="{{full}}" target="_blank" rel="noopener noreferrer">{{short}}</a>"#
        } else {
            r#"<a id="hash" title="{{full}}" target="_blank" rel="noopener noreferrer" href="{{link}}">{{short}}</a>"#
        },
        |name| match name {
            "full" => Some(Slot::text(&full)),
            "short" => Some(Slot::text(&short)),
            "link" => Some(Slot::text(&link)),
            _ => None,
        },
    )
}

#[cfg(test)]
mod tests;
