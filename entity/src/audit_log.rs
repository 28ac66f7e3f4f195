//! Who did what to what, from where. Append only: the database refuses every change and every removal of a line.

use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::entity::prelude::*;
use sea_orm::{PaginatorTrait, QueryOrder, QuerySelect};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_log")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Whose account; none for a login with a name that nobody has.
    pub merchant_id: Option<MerchantId>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// As JSON.
    pub details: String,
    /// From which address; none for the command line and for jobs.
    pub address: Option<String>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A line to be written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose account.
    pub merchant: Option<MerchantId>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// As JSON. Neither secrets nor anybody's data: what stands here cannot be taken back.
    pub details: String,
    /// From which address.
    pub address: Option<String>,
}

/// How often the same is written for one account. What comes more often in a row tells nothing new, and a log that nobody
/// may shorten must not be filled by strangers.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Most lines …
    pub most: u64,
    /// … within this time.
    pub within: Duration,
}

impl Entity {
    /// Writes a line.
    pub async fn append(connection: &impl ConnectionTrait, at: Timestamp, entry: Entry) -> Result<(), DbErr> {
        let row = ActiveModel {
            id: NotSet,
            at: Set(at),
            merchant_id: Set(entry.merchant),
            actor: Set(entry.actor),
            action: Set(entry.action),
            subject: Set(entry.subject),
            details: Set(entry.details),
            address: Set(entry.address),
        };
        Self::insert(row).exec_without_returning(connection).await?;
        Ok(())
    }

    /// Writes a line unless the account has had as many of this action lately. Of several at once a few more may be
    /// written.
    pub async fn append_bounded(
        connection: &impl ConnectionTrait,
        at: Timestamp,
        entry: Entry,
        bound: Bound,
    ) -> Result<(), DbErr> {
        let same =
            Self::find().filter(Column::Action.eq(entry.action.as_str())).filter(Column::At.gt(at.minus(bound.within)));
        let same = match entry.merchant {
            Some(merchant) => same.filter(Column::MerchantId.eq(merchant)),
            None => same.filter(Column::MerchantId.is_null()),
        };
        if same.count(connection).await? >= bound.most {
            return Ok(());
        }
        Self::append(connection, at, entry).await
    }

    /// Reports whether one of these actions of an account came from an address before.
    pub async fn is_known_address(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        address: &str,
        actions: [&str; 2],
    ) -> Result<bool, DbErr> {
        let line = Self::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::Address.eq(address))
            .filter(Column::Action.is_in(actions));
        Ok(line.into_tuple::<i64>().one(connection).await?.is_some())
    }

    /// The newest lines, newest first: an account's, or everybody's.
    pub async fn newest(
        connection: &impl ConnectionTrait,
        merchant: Option<MerchantId>,
        limit: u64,
    ) -> Result<Vec<Model>, DbErr> {
        let mut lines = Self::find();
        if let Some(merchant) = merchant {
            lines = lines.filter(Column::MerchantId.eq(merchant));
        }
        lines.order_by_desc(Column::Id).limit(limit).all(connection).await
    }
}
