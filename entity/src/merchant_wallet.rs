//! Wallets: where a merchant is paid on one chain.

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::ids::{MerchantId, WalletId};
use cryptopay_domain::merchant::{Ownership, WalletKind};
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::{FromQueryResult, Statement};

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

/// Everything that a new order needs to know of where it is paid, read in one statement.
#[derive(Debug, Clone, FromQueryResult)]
pub struct PayingPlace {
    /// Business time.
    pub now: Timestamp,
    /// The merchant's active wallet on the chain.
    pub wallet_id: Option<WalletId>,
    /// Its address.
    pub address: Option<AccountAddress>,
    /// The chain's verified height.
    pub height: Option<i64>,
    /// Time of that block.
    pub block_time: Option<Timestamp>,
}

impl Entity {
    /// Where a merchant is paid on a chain, and how far that chain is verified.
    pub async fn paying_place(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        chain: &str,
    ) -> Result<PayingPlace, DbErr> {
        let backend = connection.get_database_backend();
        let now = crate::clock::now_sql(backend);
        let sql = format!(
            "SELECT {now} + COALESCE((SELECT offset_micros FROM sandbox_clock WHERE id = 1), 0) AS now, \
             wallet.id AS wallet_id, wallet.address AS address, cursor.height AS height, cursor.block_time AS block_time \
             FROM (SELECT 1 AS one) AS one \
             LEFT JOIN merchant_wallet AS wallet ON wallet.merchant_id = $1 AND wallet.chain = $2 AND wallet.is_active \
             LEFT JOIN chain_cursor AS cursor ON cursor.chain = $2"
        );
        let statement = Statement::from_sql_and_values(backend, sql, [merchant.into(), chain.into()]);
        PayingPlace::find_by_statement(statement)
            .one(connection)
            .await?
            .ok_or_else(|| DbErr::RecordNotFound("paying place".into()))
    }

    /// A merchant's wallet that is not removed.
    pub async fn find_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        id: WalletId,
    ) -> Result<Option<Model>, DbErr> {
        Self::find_by_id(id)
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::DeletedAt.is_null())
            .one(connection)
            .await
    }
}
