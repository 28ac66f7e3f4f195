//! Wallets: where a merchant is paid.
//!
//! An address is claimed before orders can be paid to it, and a held claim is what makes the scanner watch it. So a wallet
//! is active only while its merchant holds the claim on its address. What removes or changes a wallet leaves the claim:
//! it is let go by scanner time, once no order can be paid there any more.

mod challenge;
#[cfg(test)]
mod tests;
mod verify;

use cryptopay_domain::address::{AccountAddress, Asset, parse_receiving_address};
use cryptopay_domain::ids::{MerchantId, WalletId};
use cryptopay_domain::merchant::Ownership;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::merchant_wallet::{Model, NewWallet, WalletFilter};
use cryptopay_entity::{clock, merchant, merchant_wallet, receiving_address, transact};
use sea_orm::ConnectionTrait;
use serde_json::json;

use super::once::{Once, Outcome};
use super::pages::{Asked, ListPage};
use super::payment_orders::{audit, parse_chain};
use super::stop::Stop;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::principal::Principal;

pub use challenge::Challenge;
pub use verify::{challenge, verify};

/// A wallet after a change, and what the change led to, in a sentence or two.
pub type Changed = (Model, String);

/// Adds a wallet. The first on a chain becomes active; a further one only on request, and then retires the other.
///
/// # Errors
/// Every faulty field at once.
pub async fn create(
    app: &App,
    principal: &Principal,
    fields: Fields,
    once: Once<Changed>,
) -> Result<Outcome<Changed>, ApiError> {
    once.answered(app, create_anew(app, principal, fields, &once)).await
}

async fn create_anew(
    app: &App,
    principal: &Principal,
    fields: Fields,
    once: &Once<Changed>,
) -> Result<Outcome<Changed>, ApiError> {
    let merchant = principal.merchant_id();
    let mut fields = fields;
    let chain = parse_chain(app, &mut fields);
    let address = parse_address(app, chain, &mut fields);
    refuse_other_kinds(&mut fields);
    if let (Some(chain), Some(address)) = (chain, address) {
        judge_duplicate(app.database(), merchant, (chain, address), None, &mut fields).await?;
    }
    fields.finish()?;
    let (Some(chain), Some(address)) = (chain, address) else { return Err(fields.faulty()) };
    let outcome = transact!(app.database(), |txn| {
        if let Some(given) = once.begin(app, txn).await? {
            return Ok(given);
        }
        merchant::Entity::lock(txn, merchant).await?;
        let now = clock::business_now(txn).await?;
        let mut fields = fields.clone();
        judge_duplicate(txn, merchant, (chain, address), None, &mut fields).await?;
        fields.finish()?;
        let active = merchant_wallet::Entity::active(txn, merchant, &chain.slug).await?;
        let wanted = fields.flag("is_active").unwrap_or(active.is_none());
        let new = NewWallet {
            merchant,
            chain: chain.slug.clone(),
            address,
            label: fields.trimmed("label").unwrap_or_default().to_owned(),
            dedicated: fields.flag("dedicated").unwrap_or(false),
        };
        let mut wallet = merchant_wallet::Entity::add(txn, new, now).await?;
        let claim = claim(txn, app, &wallet, now).await?;
        let place = Place { claim, active };
        let sentence = place.put(txn, &mut wallet, wanted, now).await?;
        record(txn, principal, "wallet.create", &wallet, now).await?;
        let message = fields.message(&format!("Wallet added. {sentence}"));
        once.keep(app, txn, (wallet, message)).await
    })?;
    app.context.queue.scan(&chain.slug);
    Ok(outcome)
}

/// Changes what is sent of a wallet and keeps the rest. A new address serves new orders only.
///
/// # Errors
/// `NOT_FOUND`; every faulty field at once.
pub async fn update(app: &App, principal: &Principal, id: &str, fields: Fields) -> Result<Changed, ApiError> {
    let merchant = principal.merchant_id();
    let found = find(app, principal, id).await?;
    let mut fields = fields;
    if fields.text("blockchain").is_some_and(|slug| !slug.eq_ignore_ascii_case(&found.chain)) {
        fields.fault("blockchain", "A wallet stays on its blockchain. Add another with POST /api/merchant-wallets/.");
    }
    let chain = app.chain(&found.chain);
    let address = parse_address(app, chain, &mut fields);
    refuse_other_kinds(&mut fields);
    let wanted = fields.flag("is_active");
    if chain.is_none() && (address.is_some() || wanted == Some(true)) {
        let field = if address.is_some() { "address" } else { "is_active" };
        fields.fault(field, format!("This gateway no longer serves {}.", found.chain));
    }
    if let (Some(chain), Some(address)) = (chain, address) {
        judge_duplicate(app.database(), merchant, (chain, address), Some(found.id), &mut fields).await?;
    }
    fields.finish()?;
    let (wallet, sentence) = transact!(app.database(), |txn| {
        merchant::Entity::lock(txn, merchant).await?;
        let now = clock::business_now(txn).await?;
        let mut fields = fields.clone();
        let mut wallet = merchant_wallet::Entity::find_owned(txn, merchant, found.id).await?.ok_or_else(not_found)?;
        if let (Some(chain), Some(address)) = (chain, address) {
            judge_duplicate(txn, merchant, (chain, address), Some(wallet.id), &mut fields).await?;
            fields.finish()?;
        }
        let moved = address.is_some_and(|address| wallet.address != Some(address));
        if moved {
            wallet.address = address;
            wallet.ownership = Ownership::Unproven;
        }
        if let Some(label) = fields.trimmed("label") {
            label.clone_into(&mut wallet.label);
        }
        if let Some(dedicated) = fields.flag("dedicated") {
            wallet.dedicated = dedicated;
        }
        let active = merchant_wallet::Entity::active(txn, merchant, &wallet.chain).await?;
        let was_active = wallet.is_active;
        let wanted = wanted.unwrap_or(was_active);
        let sentence = if moved || (wanted && !was_active) {
            let claim = claim(txn, app, &wallet, now).await?;
            if claim.is_none() && !moved {
                fields.fault("is_active", "Another merchant holds this address, so no order can be paid to it.");
                fields.finish()?;
            }
            Place { claim, active }.put(txn, &mut wallet, wanted, now).await?
        } else {
            wallet.is_active = wanted;
            wallet.updated_at = now;
            merchant_wallet::Entity::change(txn, &wallet).await?;
            if was_active && !wanted { no_longer_active(&wallet) } else { String::new() }
        };
        record(txn, principal, "wallet.change", &wallet, now).await?;
        Ok::<_, Stop>((wallet, sentence))
    })?;
    app.context.queue.scan(&wallet.chain);
    Ok((wallet, fields.message(format!("Wallet changed. {sentence}").trim())))
}

/// Removes a wallet. Orders that are paid to it go on; their address is watched as long as they are.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn remove(app: &App, principal: &Principal, id: &str) -> Result<String, ApiError> {
    let merchant = principal.merchant_id();
    let found = find(app, principal, id).await?;
    let was_active = transact!(app.database(), |txn| {
        merchant::Entity::lock(txn, merchant).await?;
        let now = clock::business_now(txn).await?;
        let mut wallet = merchant_wallet::Entity::find_owned(txn, merchant, found.id).await?.ok_or_else(not_found)?;
        let was_active = wallet.is_active;
        wallet.is_active = false;
        wallet.updated_at = now;
        wallet.deleted_at = Some(now);
        merchant_wallet::Entity::change(txn, &wallet).await?;
        record(txn, principal, "wallet.remove", &wallet, now).await?;
        Ok::<_, Stop>(was_active)
    })?;
    let sentence = if was_active { no_longer_active(&found) } else { String::new() };
    Ok(format!("Wallet removed. {sentence}").trim().to_owned())
}

/// One wallet.
///
/// # Errors
/// `NOT_FOUND`, also for an id that is none.
pub async fn find(app: &App, principal: &Principal, id: &str) -> Result<Model, ApiError> {
    let Some(id) = super::number(id) else { return Err(not_found()) };
    let found = merchant_wallet::Entity::find_owned(app.database(), principal.merchant_id(), WalletId(id)).await?;
    found.ok_or_else(not_found)
}

/// A page of wallets.
///
/// # Errors
/// `NOT_FOUND` past the end; a fault of `after`.
pub async fn list(
    app: &App,
    principal: &Principal,
    filter: &WalletFilter,
    asked: &Asked,
) -> Result<ListPage<Model>, ApiError> {
    let (database, merchant) = (app.database(), principal.merchant_id());
    let place = match asked.after.as_deref().and_then(super::number) {
        Some(id) => merchant_wallet::Entity::find_owned(database, merchant, WalletId(id)).await?.map(|row| row.place()),
        None => None,
    };
    let count = merchant_wallet::Entity::count_owned(database, merchant, filter).await?;
    let read = |window| merchant_wallet::Entity::list_owned(database, merchant, filter, window);
    asked.page(count, place, read, |wallet| wallet.id.to_string()).await
}

/// What decides whether a wallet can be active.
struct Place {
    /// What is known of the merchant's claim on the address; `None` where another merchant holds it.
    claim: Option<Ownership>,
    /// The wallet that is active on the chain so far, if any.
    active: Option<Model>,
}

impl Place {
    /// Makes a wallet active or not, retires the one before where it has to, stores both, and says in a sentence what
    /// became of it.
    async fn put(
        self,
        txn: &impl ConnectionTrait,
        wallet: &mut Model,
        wanted: bool,
        now: Timestamp,
    ) -> Result<String, Stop> {
        let other = self.active.filter(|active| active.id != wallet.id);
        let slug = wallet.chain.clone();
        wallet.updated_at = now;
        wallet.ownership = self.claim.unwrap_or(Ownership::Disputed);
        wallet.is_active = wanted && self.claim.is_some();
        let sentence = match other {
            _ if self.claim.is_none() => {
                "Another merchant holds this address, so the wallet is disputed and inactive. Prove that it is yours with \
                 verify/."
                    .into()
            }
            Some(mut other) if wanted => {
                other.is_active = false;
                other.updated_at = now;
                merchant_wallet::Entity::change(txn, &other).await?;
                format!("It is active on {slug} now; wallet {} was retired.", other.id)
            }
            None if wanted => format!("It is active on {slug}."),
            Some(other) => {
                format!("It is inactive: wallet {} is active on {slug}. Send is_active: true to switch.", other.id)
            }
            None => no_longer_active(wallet),
        };
        merchant_wallet::Entity::change(txn, wallet).await?;
        Ok(sentence)
    }
}

/// Claims a wallet's address for its merchant, who may hold it already for a wallet of before, and may have proven it.
/// `None` if another merchant holds it.
async fn claim(
    txn: &impl ConnectionTrait,
    app: &App,
    wallet: &Model,
    now: Timestamp,
) -> Result<Option<Ownership>, Stop> {
    let Some(address) = wallet.address else { return Ok(None) };
    let (merchant, chain) = (wallet.merchant_id, wallet.chain.as_str());
    let realm = realm(app, merchant);
    for _ in 0..CLAIM_TRIES {
        match receiving_address::Entity::lock_held(txn, chain, address, realm).await? {
            Some(held) if held.merchant_id == merchant => {
                receiving_address::Entity::reassign(txn, merchant, held.id, wallet.id).await?;
                let proven = held.proven_at.is_some();
                return Ok(Some(if proven { Ownership::Proven } else { Ownership::Unproven }));
            }
            Some(_) => return Ok(None),
            None => {
                if receiving_address::Entity::claim(txn, chain, address, realm, merchant, wallet.id, now).await? {
                    return Ok(Some(Ownership::Unproven));
                }
            }
        }
    }
    Err(ApiError::unavailable("an address was claimed and released again and again").into())
}

/// In the sandbox test addresses may be shared: every merchant has a realm of its own.
fn realm(app: &App, merchant: MerchantId) -> i64 {
    if app.is_sandbox() { merchant.0 } else { 0 }
}

/// A claim that is neither held nor free was taken or released between two looks; once more settles it.
const CLAIM_TRIES: u32 = 3;

fn parse_address(app: &App, chain: Option<&Chain>, fields: &mut Fields) -> Option<AccountAddress> {
    let text = fields.trimmed("address")?.to_owned();
    let bare = fields.ok("address", without_prefix(app, chain, &text))?;
    let address = fields.ok("address", parse_receiving_address(bare))?;
    if let Some(chain) = chain
        && let Some(token) = chain.token_of(Asset::Token(address))
    {
        let problem = format!(
            "This is the contract of {} on {}: what is sent there is lost. Enter your own address.",
            token.symbol, chain.name
        );
        fields.fault("address", problem);
        return None;
    }
    Some(address)
}

/// The address without the short name of its chain, with which some wallets copy it (`base:0x…`, EIP-3770). A name of
/// another chain is refused: the address can be a contract that exists on that chain alone.
fn without_prefix<'a>(app: &App, chain: Option<&Chain>, text: &'a str) -> Result<&'a str, String> {
    let Some((prefix, address)) = text.split_once(':') else { return Ok(text) };
    // Without its chain, which is a fault of its own, only the address can be judged.
    let Some(chain) = chain else { return Ok(address) };
    if chain.has_short_name(prefix) {
        return Ok(address);
    }
    let prefix: String = prefix.chars().take(32).collect();
    let remedy = match chain.short_names.first() {
        Some(name) => format!("Send the address alone, or with \"{name}:\" before it."),
        None => "Send the address alone.".to_owned(),
    };
    Err(match app.context.registry.chains().iter().find(|other| other.has_short_name(&prefix)) {
        Some(other) => format!("\"{prefix}:\" names {}, and this wallet is on {}. {remedy}", other.name, chain.name),
        None => format!("\"{prefix}:\" is no name of {}. {remedy}", chain.name),
    })
}

/// Wallets that hand out many addresses do not exist yet; sending one must not look as if it had worked.
fn refuse_other_kinds(fields: &mut Fields) {
    for name in ["addresses", "xpub"] {
        if fields.value(name).is_some() {
            fields.fault(name, "Not available yet. Send one address in \"address\".");
        }
    }
    if fields.flag("dedicated") == Some(true) {
        fields.fault("dedicated", "Not available yet: only false. Amounts that are off wait for your decision.");
    }
}

async fn judge_duplicate(
    connection: &impl ConnectionTrait,
    merchant: MerchantId,
    (chain, address): (&Chain, AccountAddress),
    changing: Option<WalletId>,
    fields: &mut Fields,
) -> Result<(), sea_orm::DbErr> {
    let same = merchant_wallet::Entity::with_address(connection, merchant, &chain.slug, address).await?;
    if let Some(same) = same.filter(|same| Some(same.id) != changing) {
        fields.fault("address", format!("Your wallet {} on {} has this address already.", same.id, chain.slug));
    }
    Ok(())
}

fn no_longer_active(wallet: &Model) -> String {
    format!("No wallet of yours is active on {} now: new orders there need one.", wallet.chain)
}

async fn record(
    txn: &impl ConnectionTrait,
    principal: &Principal,
    action: &str,
    wallet: &Model,
    now: Timestamp,
) -> Result<(), sea_orm::DbErr> {
    let details = json!({
        "blockchain": wallet.chain,
        "address": wallet.address,
        "label": wallet.label,
        "is_active": wallet.is_active,
        "dedicated": wallet.dedicated,
        "ownership": wallet.ownership,
    });
    audit(txn, principal, action, &wallet.id.to_string(), details, now).await
}

fn not_found() -> ApiError {
    ApiError::not_found("merchant wallet")
}
