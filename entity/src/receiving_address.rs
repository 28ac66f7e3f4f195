//! Claims on addresses: every held one is watched.

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::ids::{MerchantId, ReceivingAddressId, WalletId};
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait, OnConflict};
use sea_orm::{ActiveValue::NotSet, ActiveValue::Set, Condition, QueryOrder, QuerySelect, QueryTrait, TryInsertResult};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "receiving_address")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: ReceivingAddressId,
    /// Slug.
    pub chain: String,
    /// The address.
    pub address: AccountAddress,
    /// 0 in live mode; in sandbox mode the merchant, so that test addresses may be shared.
    pub realm: i64,
    /// Who claims it.
    pub merchant_id: MerchantId,
    /// For which wallet.
    pub wallet_id: WalletId,
    /// Since when.
    pub claimed_at: Timestamp,
    /// Until when.
    pub released_at: Option<Timestamp>,
    /// When its holder has signed with the address. A claim that is proven is never displaced.
    pub proven_at: Option<Timestamp>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// Claims an address for a wallet; `false` if it is held in this realm already.
    pub async fn claim(
        connection: &impl ConnectionTrait,
        chain: &str,
        address: AccountAddress,
        realm: i64,
        merchant: MerchantId,
        wallet: WalletId,
        now: Timestamp,
    ) -> Result<bool, DbErr> {
        let row = ActiveModel {
            id: NotSet,
            chain: Set(chain.to_owned()),
            address: Set(address),
            realm: Set(realm),
            merchant_id: Set(merchant),
            wallet_id: Set(wallet),
            claimed_at: Set(now),
            released_at: Set(None),
            proven_at: Set(None),
        };
        let inserted = Self::insert(row)
            .on_conflict(OnConflict::new().do_nothing().to_owned())
            .try_insert()
            .exec_without_returning(connection)
            .await?;
        Ok(matches!(inserted, TryInsertResult::Inserted(1)))
    }

    /// Who holds an address in a realm. Nothing is locked: by the time of an answer it may be somebody else.
    pub async fn holder(
        connection: &impl ConnectionTrait,
        chain: &str,
        address: AccountAddress,
        realm: i64,
    ) -> Result<Option<MerchantId>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::MerchantId)
            .filter(Column::Chain.eq(chain))
            .filter(Column::Address.eq(address))
            .filter(Column::Realm.eq(realm))
            .filter(Column::ReleasedAt.is_null())
            .into_tuple()
            .one(connection)
            .await
    }

    /// Notes that the holder of a claim has signed with its address; the first proof stays.
    pub async fn prove(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        chain: &str,
        address: AccountAddress,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::ProvenAt, Expr::value(Some(now)))
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::Chain.eq(chain))
            .filter(Column::Address.eq(address))
            .filter(Column::ReleasedAt.is_null())
            .filter(Column::ProvenAt.is_null())
            .exec(connection)
            .await?;
        Ok(())
    }

    /// The held claim on an address in a realm, locked: it is neither released nor moved while this transaction lasts.
    pub async fn lock_held(
        txn: &impl ConnectionTrait,
        chain: &str,
        address: AccountAddress,
        realm: i64,
    ) -> Result<Option<Model>, DbErr> {
        Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::Address.eq(address))
            .filter(Column::Realm.eq(realm))
            .filter(Column::ReleasedAt.is_null())
            .lock_exclusive()
            .one(txn)
            .await
    }

    /// Moves a held claim of a merchant to another of the merchant's wallets.
    pub async fn reassign(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        id: ReceivingAddressId,
        wallet: WalletId,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::WalletId, Expr::value(wallet))
            .filter(Column::Id.eq(id))
            .filter(Column::MerchantId.eq(merchant))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Every address that is watched on a chain, each once.
    pub async fn watched(connection: &impl ConnectionTrait, chain: &str) -> Result<Vec<AccountAddress>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::Address)
            .distinct()
            .filter(Column::Chain.eq(chain))
            .filter(Column::ReleasedAt.is_null())
            .into_tuple()
            .all(connection)
            .await
    }

    /// Whether any address is watched on a chain.
    pub async fn is_any_watched(connection: &impl ConnectionTrait, chain: &str) -> Result<bool, DbErr> {
        let held = Self::find().filter(Column::Chain.eq(chain)).filter(Column::ReleasedAt.is_null());
        Ok(held.limit(1).one(connection).await?.is_some())
    }

    /// Whoever holds an address on a chain: one merchant in live mode, several in sandbox mode.
    pub async fn holders(
        connection: &impl ConnectionTrait,
        chain: &str,
        address: AccountAddress,
    ) -> Result<Vec<MerchantId>, DbErr> {
        Self::find()
            .select_only()
            .column(Column::MerchantId)
            .distinct()
            .filter(Column::Chain.eq(chain))
            .filter(Column::Address.eq(address))
            .filter(Column::ReleasedAt.is_null())
            .into_tuple()
            .all(connection)
            .await
    }

    /// Whether a merchant holds an address on a chain, or still held it at the time `at`: what comes after belongs to
    /// whoever holds it then.
    pub async fn belonged_to(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        chain: &str,
        address: AccountAddress,
        at: Timestamp,
    ) -> Result<bool, DbErr> {
        let one = Self::find()
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::Chain.eq(chain))
            .filter(Column::Address.eq(address))
            .filter(Condition::any().add(Column::ReleasedAt.is_null()).add(Column::ReleasedAt.gte(at)))
            .limit(1)
            .one(connection)
            .await?;
        Ok(one.is_some())
    }

    /// Held claims whose wallet is gone or has another address since before `changed_before`, locked, so that none is taken
    /// over by another wallet while it is being let go.
    pub async fn unused(
        txn: &impl ConnectionTrait,
        chain: &str,
        changed_before: Timestamp,
    ) -> Result<Vec<Model>, DbErr> {
        use super::merchant_wallet;
        let user = merchant_wallet::Entity::find()
            .select_only()
            .column(merchant_wallet::Column::Id)
            .filter(
                Expr::col((merchant_wallet::Entity, merchant_wallet::Column::Id)).equals((Entity, Column::WalletId)),
            )
            .filter(
                Expr::col((merchant_wallet::Entity, merchant_wallet::Column::Address))
                    .equals((Entity, Column::Address)),
            )
            .filter(merchant_wallet::Column::DeletedAt.is_null());
        let candidates = Self::find()
            .filter(Column::Chain.eq(chain))
            .filter(Column::ReleasedAt.is_null())
            .filter(Expr::exists(user.into_query()).not())
            .order_by_asc(Column::Id)
            .lock_exclusive()
            .all(txn)
            .await?;
        // Who waited for a lock has read the wallets of before: look again.
        let mut unused = Vec::new();
        for claim in candidates {
            let wallet = merchant_wallet::Entity::find_by_id(claim.wallet_id).one(txn).await?;
            let used = wallet.is_some_and(|wallet| {
                wallet.updated_at >= changed_before
                    || (wallet.deleted_at.is_none() && wallet.address == Some(claim.address))
            });
            if !used {
                unused.push(claim);
            }
        }
        Ok(unused)
    }

    /// Lets a claim go.
    pub async fn release(
        connection: &impl ConnectionTrait,
        id: ReceivingAddressId,
        at: Timestamp,
    ) -> Result<(), DbErr> {
        Self::update_many()
            .col_expr(Column::ReleasedAt, Expr::value(Some(at)))
            .filter(Column::Id.eq(id))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Deletes every claim, held or let go, of a merchant; how many there were.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Ok(Self::delete_many().filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}
