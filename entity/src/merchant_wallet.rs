//! Wallets: where a merchant is paid on one chain.

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::ids::{MerchantId, WalletId};
use cryptopay_domain::merchant::{Ownership, WalletKind};
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "merchant_wallet")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: WalletId,
    /// Owner.
    pub merchant_id: MerchantId,
    /// Slug.
    pub chain: String,
    /// How it hands out addresses.
    pub kind: WalletKind,
    /// Its address, for kind `address`.
    pub address: Option<AccountAddress>,
    /// Its extended public key, for kind `xpub`.
    pub xpub: Option<String>,
    /// Merchant's words.
    pub label: String,
    /// New orders on the chain use it.
    pub is_active: bool,
    /// Nothing but orders is paid to it.
    pub dedicated: bool,
    /// What is known of its owner.
    pub ownership: Ownership,
    /// Added.
    pub created_at: Timestamp,
    /// Changed.
    pub updated_at: Timestamp,
    /// Removed; orders still name it.
    pub deleted_at: Option<Timestamp>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
