//! Proving that a wallet is the merchant's own, and what that settles where two merchants claim one address.
//!
//! A signature is judged before anything is locked, and the chain is asked outside any transaction. Then one transaction
//! notes the proof, and where another merchant held the address without one, moves the claim: that merchant's open orders
//! there fail, its wallet is disputed and inactive, and both accounts' audit logs tell of it.

use std::collections::BTreeSet;
use std::time::Duration;

use cryptopay_chain::ChainError;
use cryptopay_chain::signature::{ContractWord, SentSignature, personal_message_hash};
use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::merchant::Ownership;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::merchant_wallet::Model;
use cryptopay_entity::{audit_log, clock, merchant, merchant_wallet, receiving_address, transact, txn::Restart};
use cryptopay_ledger::{Claimant, LedgerError, Nudges, Occasion, TakenOver, take_over};
use sea_orm::DatabaseTransaction;
use serde_json::json;

use super::challenge::{Challenge, Subject};
use super::{CLAIM_TRIES, Changed, claim, find, not_found, realm, record};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::operations::stop::Stop;
use crate::principal::Principal;

/// How long a chain may take to say what a contract wallet says: its code is somebody's, and may be slow on purpose.
const PATIENCE: Duration = Duration::from_secs(15);

/// The text to sign, for a wallet.
///
/// # Errors
/// `NOT_FOUND`; `INVALID_STATE` on a chain that is no longer served.
pub async fn challenge(app: &App, principal: &Principal, id: &str) -> Result<(Model, Challenge), ApiError> {
    let wallet = find(app, principal, id).await?;
    let now = clock::database_now(app.database()).await?;
    let challenge = subject(app, principal, &wallet)?.current(now);
    Ok((wallet, challenge))
}

/// Takes the signature of a challenge.
///
/// # Errors
/// `NOT_FOUND`; a faulty `signature`; `INVALID_STATE` where another merchant has proven its ownership;
/// `SERVICE_UNAVAILABLE` where a contract wallet has to be asked and no node answers.
pub async fn verify(app: &App, principal: &Principal, id: &str, fields: Fields) -> Result<Changed, ApiError> {
    let found = find(app, principal, id).await?;
    let mut fields = fields;
    let signature: Option<SentSignature> = fields.parsed("signature");
    fields.finish()?;
    let signature = signature.ok_or_else(|| fields.faulty())?;
    let subject = subject(app, principal, &found)?;
    let texts = subject.texts(clock::database_now(app.database()).await?);
    judge(app, subject.chain, subject.address, &signature, &texts).await?;
    for _ in 0..CLAIM_TRIES {
        let done = transact!(app.database(), |txn| { settle(app, txn, principal, &found, subject.address).await })?;
        let Some(Settled { wallet, sentence, nudges }) = done else { continue };
        app.context.queue.nudge(nudges);
        app.context.queue.scan(&wallet.chain);
        return Ok((wallet, fields.message(&sentence)));
    }
    Err(ApiError::unavailable("an address changed hands again and again"))
}

fn subject<'a>(app: &'a App, principal: &'a Principal, wallet: &'a Model) -> Result<Subject<'a>, ApiError> {
    let chain = app.chain(&wallet.chain);
    let no_longer = || ApiError::invalid_state(format!("This gateway no longer serves {}.", wallet.chain));
    let chain = chain.ok_or_else(no_longer)?;
    let address = wallet.address.ok_or_else(|| ApiError::invalid_state("This wallet has no address of its own."))?;
    Ok(Subject { app, merchant: &principal.merchant, wallet, chain, address })
}

/// Whether one of the texts is signed: by the address's own key, or else to the liking of the contract that lives there.
async fn judge(
    app: &App,
    chain: &Chain,
    address: AccountAddress,
    signature: &SentSignature,
    texts: &[String],
) -> Result<(), ApiError> {
    let hashes: Vec<_> = texts.iter().map(|text| personal_message_hash(text)).collect();
    if hashes.iter().any(|hash| signature.is_by_key_of(address, *hash)) {
        return Ok(());
    }
    let access = app.context.chains.get(&chain.slug);
    let access = access.ok_or_else(|| ApiError::unavailable(format!("no way to read {}", chain.slug)))?;
    let unavailable = |error: &dyn std::fmt::Display| ApiError::unavailable(format!("{}: {error}", chain.slug));
    let asked = async {
        let mut is_contract = false;
        for hash in hashes {
            match access.endpoints.ask_contract(address, hash, signature).await? {
                ContractWord::Accepts => return Ok(None),
                ContractWord::Refuses => is_contract = true,
                ContractWord::NoContract => break,
            }
        }
        Ok::<_, ChainError>(Some(is_contract))
    };
    let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|late| unavailable(&late))?;
    let Some(is_contract) = answer.map_err(|error| unavailable(&error))? else { return Ok(()) };
    let again = "Get a new challenge from GET /api/merchant-wallets/{id}/verify/ and sign it exactly as it stands";
    Err(ApiError::field(
        "signature",
        if is_contract {
            format!(
                "The contract at {address} on {} does not accept it (EIP-1271). {again}, as its owners.",
                chain.slug
            )
        } else {
            format!(
                "It is not the signature of a current challenge by the key of {address}, and there is no contract wallet at \
                 that address on {}. {again}, with personal_sign.",
                chain.slug
            )
        },
    ))
}

/// What a proof has led to.
struct Settled {
    wallet: Model,
    sentence: String,
    nudges: Nudges,
}

/// Why a proof was not noted.
enum Unsettled {
    Ledger(LedgerError),
    Stopped(Stop),
}

impl From<LedgerError> for Unsettled {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl From<Stop> for Unsettled {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

impl From<ApiError> for Unsettled {
    fn from(error: ApiError) -> Self {
        Self::Stopped(error.into())
    }
}

impl From<sea_orm::DbErr> for Unsettled {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Stopped(error.into())
    }
}

impl From<Unsettled> for ApiError {
    fn from(error: Unsettled) -> Self {
        match error {
            Unsettled::Ledger(error) => error.into(),
            Unsettled::Stopped(stop) => stop.into(),
        }
    }
}

impl Restart for Unsettled {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Ledger(error) => error.is_conflict(),
            Self::Stopped(stop) => stop.is_conflict(),
        }
    }
}

/// Notes the proof; `None` if the address changed hands meanwhile, so that it is to be looked at once more.
async fn settle(
    app: &App,
    txn: &DatabaseTransaction,
    principal: &Principal,
    found: &Model,
    address: AccountAddress,
) -> Result<Option<Settled>, Unsettled> {
    let me = principal.merchant_id();
    let realm = realm(app, me);
    let holder = receiving_address::Entity::holder(txn, &found.chain, address, realm).await?;
    // Whatever concerns wallets waits for its merchant's lock; two are taken in the order of their ids, by everybody.
    for merchant in BTreeSet::from([me, holder.unwrap_or(me)]) {
        merchant::Entity::lock(txn, merchant).await?;
    }
    let now = clock::business_now(txn).await?;
    let mut wallet = merchant_wallet::Entity::find_owned(txn, me, found.id).await?.ok_or_else(not_found)?;
    if wallet.updated_at != found.updated_at || wallet.address != found.address {
        let problem = "The wallet was changed meanwhile, which makes its challenge void. Get a new one and sign that.";
        return Err(ApiError::field("signature", problem).into());
    }
    let mut taken = None;
    match holder.filter(|holder| *holder != me) {
        None => {
            if claim(txn, app, &wallet, now).await?.is_none() {
                return Ok(None);
            }
            receiving_address::Entity::prove(txn, me, &wallet.chain, address, now).await?;
        }
        Some(other) => {
            let cause = "the address was claimed by its proven owner";
            let occasion = Occasion { registry: &app.context.registry, cause, now };
            let to = Claimant { chain: &wallet.chain, address, realm, merchant: me, wallet: wallet.id };
            let Some(done) = take_over(txn, occasion, other, to).await? else { return Ok(None) };
            tell_the_other(txn, other, &wallet, &done, now).await?;
            taken = Some((other, done));
        }
    }
    let sentence = note(txn, &mut wallet, taken.is_some(), now).await?;
    record(txn, principal, "wallet.verify", &wallet, now).await?;
    let mut nudges = Nudges::default();
    if let Some((other, done)) = taken {
        let details = json!({"displaced_merchant": other, "failed_orders": done.failed});
        super::audit(txn, principal, "wallet.take_over", &wallet.id.to_string(), details, now).await?;
        nudges = done.nudges;
    }
    Ok(Some(Settled { wallet, sentence, nudges }))
}

/// A wallet that was disputed would have become active when it was added, if none else was: it does now.
async fn note(
    txn: &DatabaseTransaction,
    wallet: &mut Model,
    displaces: bool,
    now: Timestamp,
) -> Result<String, sea_orm::DbErr> {
    let was_disputed = wallet.ownership == Ownership::Disputed;
    let active = merchant_wallet::Entity::active(txn, wallet.merchant_id, &wallet.chain).await?;
    wallet.is_active |= was_disputed && active.is_none();
    wallet.ownership = Ownership::Proven;
    // Later in any case: the challenge is of the last change, and good once.
    wallet.updated_at = now.max(wallet.updated_at.plus(Duration::from_micros(1)));
    merchant_wallet::Entity::change(txn, wallet).await?;
    let mut sentence = "The wallet is proven to be yours.".to_owned();
    if displaces {
        sentence.push_str(" The merchant who held its address without proof no longer does.");
    }
    if !wallet.is_active {
        sentence.push_str(" It is inactive; send is_active: true to let new orders use it.");
    } else if was_disputed {
        sentence.push_str(&format!(" It is active on {}.", wallet.chain));
    }
    Ok(sentence)
}

/// The audit log of the merchant who lost the address.
async fn tell_the_other(
    txn: &DatabaseTransaction,
    other: MerchantId,
    to: &Model,
    done: &TakenOver,
    now: Timestamp,
) -> Result<(), sea_orm::DbErr> {
    let subject = done.wallet.as_ref().map_or_else(|| "removed".to_owned(), |wallet| wallet.id.to_string());
    let details = json!({
        "blockchain": to.chain,
        "address": to.address,
        "failed_orders": done.failed,
        "ownership": Ownership::Disputed,
    });
    // Not from which address: that is the other merchant's.
    let line = audit_log::Entry {
        merchant: Some(other),
        actor: "gateway".to_owned(),
        action: "wallet.displaced".to_owned(),
        subject,
        details: details.to_string(),
        address: None,
    };
    audit_log::Entity::append(txn, now, line).await
}
