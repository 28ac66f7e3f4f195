//! Wallets: where a merchant is paid on one chain.

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::ids::{MerchantId, WalletId};
use cryptopay_domain::merchant::{Ownership, WalletKind};
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, DbBackend, FromQueryResult, PaginatorTrait, Statement};

use crate::pages::{Place, Window};

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
    /// What the token's contract says about its own decimals, if it was asked.
    pub contract_decimals: Option<i64>,
}

impl PayingPlace {
    /// The wallet to be paid to, and its address.
    pub fn paid_to(&self) -> Option<(WalletId, AccountAddress)> {
        self.wallet_id.zip(self.address)
    }

    /// Reads the place of merchant `$1` on chain `$2`, with the token contract `$3`; beside it `more` columns, which may name
    /// `wallet` and `cursor`.
    pub(crate) fn sql(backend: DbBackend, more: &str) -> String {
        let now = crate::clock::now_sql(backend);
        // The wallet is locked against changes until the order stands: whoever takes its address away waits for the
        // order, and finds it. On SQLite there is one writer.
        let lock = if backend == DbBackend::Postgres { "FOR SHARE" } else { "" };
        format!(
            "SELECT {now} + COALESCE((SELECT offset_micros FROM sandbox_clock WHERE id = 1), 0) AS now, \
             wallet.id AS wallet_id, wallet.address AS address, cursor.height AS height, cursor.block_time AS block_time, \
             (SELECT decimals FROM token_check WHERE chain = $2 AND contract = $3) AS contract_decimals{more} \
             FROM (SELECT 1 AS one) AS one \
             LEFT JOIN (SELECT id, address FROM merchant_wallet \
                        WHERE merchant_id = $1 AND chain = $2 AND is_active {lock}) AS wallet ON TRUE \
             LEFT JOIN chain_cursor AS cursor ON cursor.chain = $2 AND cursor.health <> 'reset'"
        )
    }
}

impl Entity {
    /// Where a merchant is paid on a chain, and how far that chain is verified; of no token's contract.
    pub async fn paying_place(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        chain: &str,
    ) -> Result<PayingPlace, DbErr> {
        let backend = connection.get_database_backend();
        let sql = PayingPlace::sql(backend, "");
        let statement = Statement::from_sql_and_values(backend, sql, [merchant.into(), chain.into(), "".into()]);
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

    /// How many wallets of a merchant the filter lets through.
    pub async fn count_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &WalletFilter,
    ) -> Result<u64, DbErr> {
        Self::find().filter(filter.condition(merchant)).count(connection).await
    }

    /// Wallets of a merchant in a window of their list.
    pub async fn list_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        filter: &WalletFilter,
        window: Window,
    ) -> Result<Vec<Model>, DbErr> {
        let rows = Self::find().filter(filter.condition(merchant));
        window.of(rows, Column::CreatedAt, Column::Id).all(connection).await
    }

    /// The wallet that a merchant's new orders on a chain use.
    pub async fn active(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        chain: &str,
    ) -> Result<Option<Model>, DbErr> {
        Self::find()
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::Chain.eq(chain))
            .filter(Column::IsActive.eq(true))
            .one(connection)
            .await
    }

    /// A merchant's wallet with this address that is not removed.
    pub async fn with_address(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        chain: &str,
        address: AccountAddress,
    ) -> Result<Option<Model>, DbErr> {
        let filter = WalletFilter { chain: Some(chain.to_owned()), is_active: None };
        Self::find().filter(filter.condition(merchant)).filter(Column::Address.eq(address)).one(connection).await
    }

    /// Adds a wallet with one address; it is not active yet.
    pub async fn add(connection: &impl ConnectionTrait, new: NewWallet, now: Timestamp) -> Result<Model, DbErr> {
        let row = ActiveModel {
            id: NotSet,
            merchant_id: Set(new.merchant),
            chain: Set(new.chain),
            kind: Set(WalletKind::Address),
            address: Set(Some(new.address)),
            label: Set(new.label),
            is_active: Set(false),
            dedicated: Set(new.dedicated),
            ownership: Set(Ownership::Unproven),
            created_at: Set(now),
            updated_at: Set(now),
            deleted_at: Set(None),
        };
        row.insert(connection).await
    }

    /// Writes everything of a wallet that can change. Its chain, kind and owner cannot.
    pub async fn change(connection: &impl ConnectionTrait, wallet: &Model) -> Result<(), DbErr> {
        let row = ActiveModel {
            address: Set(wallet.address),
            label: Set(wallet.label.clone()),
            is_active: Set(wallet.is_active),
            dedicated: Set(wallet.dedicated),
            ownership: Set(wallet.ownership),
            updated_at: Set(wallet.updated_at),
            deleted_at: Set(wallet.deleted_at),
            ..Default::default()
        };
        Self::update_many()
            .set(row)
            .filter(Column::Id.eq(wallet.id))
            .filter(Column::MerchantId.eq(wallet.merchant_id))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Deletes every wallet, removed ones too, of a merchant; how many there were.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Ok(Self::delete_many().filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}

/// What a merchant says of a new wallet.
#[derive(Debug, Clone)]
pub struct NewWallet {
    /// Owner.
    pub merchant: MerchantId,
    /// Slug.
    pub chain: String,
    /// Where orders are paid.
    pub address: AccountAddress,
    /// Merchant's words.
    pub label: String,
    /// Nothing but orders is paid to it.
    pub dedicated: bool,
}

/// Which wallets of a merchant to list; removed ones never are.
#[derive(Debug, Clone, Default)]
pub struct WalletFilter {
    /// On this chain.
    pub chain: Option<String>,
    /// Used by new orders, or not.
    pub is_active: Option<bool>,
}

impl WalletFilter {
    fn condition(&self, merchant: MerchantId) -> Condition {
        Condition::all()
            .add(Column::MerchantId.eq(merchant))
            .add(Column::DeletedAt.is_null())
            .add_option(self.chain.as_ref().map(|chain| Column::Chain.eq(chain.as_str())))
            .add_option(self.is_active.map(|active| Column::IsActive.eq(active)))
    }
}

impl Model {
    /// The wallet's place among its merchant's.
    pub fn place(&self) -> Place {
        Place { created_at: self.created_at, id: self.id.0 }
    }
}
