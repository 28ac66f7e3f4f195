//! `/api/merchant-wallets/`.

use cryptopay_entity::merchant_wallet::{self, WalletFilter};
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::{Object, OpenApi};

use super::Tag;
use super::body::Body;
use super::envelope::{Answer, Listed, Nothing, Success};
use super::once::{CreatedOnce, answer};
use super::pages::{ListQuery, is_number};
use crate::app::App;
use crate::operations::once::Once;
use crate::operations::wallets::{self, Changed};
use crate::principal::{Manager, Reader};

/// A wallet to add.
#[derive(Debug, Object)]
pub struct CreateWallet {
    /// Slug of the chain, in any case.
    #[oai(validator(min_length = 1, max_length = 32))]
    pub blockchain: String,
    /// Your own address on that chain: `0x` and 40 hexadecimal digits, with a right EIP-55 checksum where cases are
    /// mixed. The chain's short name may stand before it: `base:0x…` (EIP-3770).
    #[oai(validator(min_length = 1, max_length = 64))]
    pub address: String,
    /// Your words for it.
    #[oai(validator(max_length = 100))]
    pub label: Option<String>,
    /// Whether new orders on the chain use it. If not said: yes, unless another wallet is active there.
    pub is_active: Option<bool>,
    /// Whether nothing but orders is ever paid to it, so that an amount slightly off may still ship. Not available yet:
    /// only false.
    pub dedicated: Option<bool>,
}

/// What is to change of a wallet; the rest stays.
#[derive(Debug, Object)]
pub struct ChangeWallet {
    /// The wallet's chain. It cannot change.
    #[oai(validator(min_length = 1, max_length = 32))]
    pub blockchain: Option<String>,
    /// A new address, for new orders only: `0x` and 40 hexadecimal digits, as when a wallet is added.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub address: Option<String>,
    /// Your words for it.
    #[oai(validator(max_length = 100))]
    pub label: Option<String>,
    /// Whether new orders on the chain use it. True retires the wallet that is active so far.
    pub is_active: Option<bool>,
    /// Whether nothing but orders is ever paid to it. Not available yet: only false.
    pub dedicated: Option<bool>,
}

/// A wallet.
#[derive(Debug, Clone, Object)]
pub struct Wallet {
    /// Number of the wallet.
    pub id: i64,
    /// Slug of the chain.
    pub blockchain: String,
    /// Its address, with EIP-55 checksum.
    pub address: Option<String>,
    /// How it hands out addresses: `address`.
    pub kind: String,
    /// Your words for it.
    pub label: String,
    /// Whether new orders on the chain use it.
    pub is_active: bool,
    /// Whether nothing but orders is ever paid to it.
    pub dedicated: bool,
    /// `unproven`, `proven` or `disputed`: another merchant holds the address.
    pub ownership: String,
    /// When it was added: RFC 3339, UTC.
    pub created_at: String,
    /// When it was last changed: RFC 3339, UTC.
    pub updated_at: String,
}

impl Wallet {
    /// From a row.
    pub fn new(wallet: &merchant_wallet::Model) -> Self {
        Self {
            id: wallet.id.0,
            blockchain: wallet.chain.clone(),
            address: wallet.address.map(|address| address.to_string()),
            kind: wallet.kind.to_string(),
            label: wallet.label.clone(),
            is_active: wallet.is_active,
            dedicated: wallet.dedicated,
            ownership: wallet.ownership.to_string(),
            created_at: wallet.created_at.to_string(),
            updated_at: wallet.updated_at.to_string(),
        }
    }
}

/// A text to sign, which proves that a wallet is the merchant's own.
#[derive(Debug, Clone, Object)]
pub struct WalletChallenge {
    /// Sign exactly this text with `personal_sign` (EIP-191), by the address's key or as the owners of the contract wallet
    /// at that address.
    pub challenge: String,
    /// The address that has to sign, with EIP-55 checksum.
    pub address: String,
    /// Slug of the chain.
    pub blockchain: String,
    /// Until when its signature is taken: RFC 3339, UTC. A change of the wallet makes it void before.
    pub expires_at: String,
}

/// A signed challenge.
#[derive(Debug, Object)]
pub struct VerifyWallet {
    /// What signing the challenge gave: `0x` and hexadecimal digits, 65 bytes of a key, or whatever the contract wallet at
    /// the address accepts (EIP-1271), at most 8192 bytes.
    #[oai(validator(min_length = 2, max_length = 16386))]
    pub signature: String,
}

/// The routes.
#[derive(Debug)]
pub struct MerchantWallets;

#[OpenApi(prefix_path = "/api/merchant-wallets", tag = "Tag::MerchantWallets")]
impl MerchantWallets {
    /// Add a wallet
    ///
    /// The first on a chain becomes active. A further one is added inactive unless `is_active` is true, which retires
    /// the other. An address that another merchant holds is added as inactive and `disputed`.
    #[oai(path = "/", method = "post", operation_id = "createMerchantWallet")]
    async fn create(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Makes a repeated request safe: 1 to 255 visible ASCII characters, kept for 24 hours
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<String>>,
        body: Body<CreateWallet>,
    ) -> Answer<CreatedOnce<Wallet>> {
        let words = |(wallet, message): &Changed| answer(&Wallet::new(wallet), message);
        let mut fields = body.fields;
        let once = Once::new(&auth.0, key.as_deref(), "createMerchantWallet", &mut fields, words);
        Ok(wallets::create(&app, &auth.0, fields, once).await?.into())
    }

    /// List wallets
    ///
    /// Newest first.
    #[oai(path = "/", method = "get", operation_id = "listMerchantWallets")]
    #[expect(clippy::too_many_arguments, reason = "each parameter is documented by its own")]
    async fn list(
        &self,
        app: Data<&App>,
        auth: Reader,
        request: &Request,
        /// Page, from 1
        page: Query<Option<String>>,
        /// Items on a page, at most 100; 20 if not said
        page_size: Query<Option<String>>,
        /// Instead of `page`: number of the item before the page. Costs the same however deep
        after: Query<Option<String>>,
        /// `created_at` or `-created_at`, which is the default
        ordering: Query<Option<String>>,
        /// Slug of a chain
        blockchain: Query<Option<String>>,
        /// `true` or `false`: whether new orders use it
        is_active: Query<Option<String>>,
    ) -> Answer<Listed<Wallet>> {
        // Documented above; read below, where every fault is collected.
        let _ = (page, page_size, after, ordering, blockchain, is_active);
        let mut query = ListQuery::of(request);
        let filter = filter(&app, &mut query);
        let asked = query.asked(is_number);
        query.finish()?;
        let wallets = wallets::list(&app, &auth.0, &filter, &asked).await?;
        Ok(Listed(query.answer(wallets.map(Wallet::new))))
    }

    /// Get a wallet
    ///
    /// Where payments go on one chain, and what is known of who owns it.
    #[oai(path = "/:id/", method = "get", operation_id = "getMerchantWallet")]
    async fn get(
        &self,
        app: Data<&App>,
        auth: Reader,
        /// Number of the wallet
        id: Path<String>,
    ) -> Answer<Success<Wallet>> {
        let wallet = wallets::find(&app, &auth.0, &id).await?;
        Ok(Success(Wallet::new(&wallet), "Success".to_owned()))
    }

    /// Change a wallet
    ///
    /// Changes what is sent and keeps the rest, as PATCH does.
    #[oai(path = "/:id/", method = "put", operation_id = "replaceMerchantWallet")]
    async fn put(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the wallet
        id: Path<String>,
        body: Body<ChangeWallet>,
    ) -> Answer<Success<Wallet>> {
        let (wallet, message) = wallets::update(&app, &auth.0, &id, body.fields).await?;
        Ok(Success(Wallet::new(&wallet), message))
    }

    /// Change parts of a wallet
    ///
    /// Changes what is sent and keeps the rest. A new address serves new orders only.
    #[oai(path = "/:id/", method = "patch", operation_id = "updateMerchantWallet")]
    async fn patch(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the wallet
        id: Path<String>,
        body: Body<ChangeWallet>,
    ) -> Answer<Success<Wallet>> {
        let (wallet, message) = wallets::update(&app, &auth.0, &id, body.fields).await?;
        Ok(Success(Wallet::new(&wallet), message))
    }

    /// Get a text to sign that proves a wallet
    ///
    /// The text is good for this wallet, once, until it expires or the wallet changes. Nothing is stored.
    #[oai(path = "/:id/verify/", method = "get", operation_id = "getWalletChallenge")]
    async fn challenge(
        &self,
        app: Data<&App>,
        auth: Reader,
        /// Number of the wallet
        id: Path<String>,
    ) -> Answer<Success<WalletChallenge>> {
        let (wallet, challenge) = wallets::challenge(&app, &auth.0, &id).await?;
        let shown = WalletChallenge {
            challenge: challenge.text,
            address: wallet.address.map(|address| address.to_string()).unwrap_or_default(),
            blockchain: wallet.chain,
            expires_at: challenge.expires_at.to_string(),
        };
        Ok(Success(shown, "Sign data.challenge and send the signature to this address by POST.".to_owned()))
    }

    /// Prove a wallet
    ///
    /// Takes the signature of the challenge. The wallet becomes `proven`, and nobody else can claim its address on this
    /// gateway. If another merchant held the address without proof, that merchant's open orders there fail
    /// (`address_claimed_by_owner`) and its wallet becomes inactive; a proven owner is never displaced. 503 if a contract
    /// wallet has to be asked and no node of its chain answers.
    #[oai(path = "/:id/verify/", method = "post", operation_id = "verifyMerchantWallet")]
    async fn verify(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the wallet
        id: Path<String>,
        body: Body<VerifyWallet>,
    ) -> Answer<Success<Wallet>> {
        let (wallet, message) = wallets::verify(&app, &auth.0, &id, body.fields).await?;
        Ok(Success(Wallet::new(&wallet), message))
    }

    /// Remove a wallet
    ///
    /// Orders that are to be paid to it go on.
    #[oai(path = "/:id/", method = "delete", operation_id = "deleteMerchantWallet")]
    async fn delete(
        &self,
        app: Data<&App>,
        auth: Manager,
        /// Number of the wallet
        id: Path<String>,
    ) -> Answer<Success<Nothing>> {
        let message = wallets::remove(&app, &auth.0, &id).await?;
        Ok(Success(Nothing::default(), message))
    }
}

fn filter(app: &App, query: &mut ListQuery) -> WalletFilter {
    WalletFilter { chain: query.chain(app), is_active: query.flag("is_active") }
}
