//! Webhook endpoints.

use cryptopay_domain::event::EventFilter;
use cryptopay_domain::ids::{EndpointId, MerchantId};
use cryptopay_domain::merchant::EndpointScope;
use cryptopay_domain::time::Timestamp;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::entity::prelude::*;
use sea_orm::{PaginatorTrait, QueryOrder};

use crate::pages::{Place, Window};

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_endpoint")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: EndpointId,
    /// Owner.
    pub merchant_id: MerchantId,
    /// Whose deliveries it takes.
    pub scope: EndpointScope,
    /// Where to; none for scope `order`.
    pub url: Option<String>,
    /// Events wanted, comma-separated.
    pub events: String,
    /// Merchant's words.
    pub description: String,
    /// Whether it gets deliveries.
    pub is_active: bool,
    /// Signing secret, encrypted.
    pub secret: String,
    /// The one before, encrypted.
    pub previous_secret: Option<String>,
    /// How long that signs too, by business time.
    pub previous_secret_until: Option<Timestamp>,
    /// Why the gateway switched it off.
    pub disabled_reason: Option<String>,
    /// Last delivery taken.
    pub last_success_at: Option<Timestamp>,
    /// Last attempt failed.
    pub last_failure_at: Option<Timestamp>,
    /// Added.
    pub created_at: Timestamp,
    /// Changed.
    pub updated_at: Timestamp,
    /// Removed.
    pub deleted_at: Option<Timestamp>,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The endpoints of merchants that deliveries may go to: active ones, and ones that the gateway has switched off
    /// (whose deliveries are kept as dead).
    pub async fn receiving(
        connection: &impl ConnectionTrait,
        merchants: impl IntoIterator<Item = MerchantId>,
    ) -> Result<Vec<Model>, DbErr> {
        Self::find()
            .filter(Column::MerchantId.is_in(merchants))
            .filter(Column::DeletedAt.is_null())
            .order_by_asc(Column::Id)
            .all(connection)
            .await
    }

    /// An endpoint of a merchant.
    pub async fn find_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        id: EndpointId,
    ) -> Result<Option<Model>, DbErr> {
        Self::find_by_id(id)
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::DeletedAt.is_null())
            .one(connection)
            .await
    }

    /// How many registered endpoints a merchant has; the implicit one is not counted.
    pub async fn count_registered(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Self::find()
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::Scope.eq(EndpointScope::Merchant))
            .filter(Column::DeletedAt.is_null())
            .count(connection)
            .await
    }

    /// How many endpoints a merchant has, the implicit one among them.
    pub async fn count_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Self::find().filter(Column::MerchantId.eq(merchant)).filter(Column::DeletedAt.is_null()).count(connection).await
    }

    /// Endpoints of a merchant in a window of their list.
    pub async fn list_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        window: Window,
    ) -> Result<Vec<Model>, DbErr> {
        let rows = Self::find().filter(Column::MerchantId.eq(merchant)).filter(Column::DeletedAt.is_null());
        window.of(rows, Column::CreatedAt, Column::Id).all(connection).await
    }

    /// Adds an endpoint.
    pub async fn add(connection: &impl ConnectionTrait, new: NewEndpoint, now: Timestamp) -> Result<Model, DbErr> {
        let row = ActiveModel {
            id: NotSet,
            merchant_id: Set(new.merchant),
            scope: Set(new.scope),
            url: Set(new.url),
            events: Set(new.events.to_string()),
            description: Set(new.description),
            is_active: Set(new.is_active),
            secret: Set(new.secret),
            previous_secret: Set(None),
            previous_secret_until: Set(None),
            disabled_reason: Set(None),
            last_success_at: Set(None),
            last_failure_at: Set(None),
            created_at: Set(now),
            updated_at: Set(now),
            deleted_at: Set(None),
        };
        row.insert(connection).await
    }

    /// Writes what a merchant can change of an endpoint.
    pub async fn change(connection: &impl ConnectionTrait, endpoint: &Model) -> Result<(), DbErr> {
        let row = ActiveModel {
            url: Set(endpoint.url.clone()),
            events: Set(endpoint.events.clone()),
            description: Set(endpoint.description.clone()),
            is_active: Set(endpoint.is_active),
            disabled_reason: Set(endpoint.disabled_reason.clone()),
            updated_at: Set(endpoint.updated_at),
            deleted_at: Set(endpoint.deleted_at),
            ..Default::default()
        };
        Self::write(connection, endpoint, row).await
    }

    /// Gives an endpoint another signing secret. The one of now signs as well until `previous_until`; the one before that
    /// no longer.
    pub async fn rotate_secret(
        connection: &impl ConnectionTrait,
        endpoint: &Model,
        sealed: String,
        previous_until: Timestamp,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let row = ActiveModel {
            secret: Set(sealed),
            previous_secret: Set(Some(endpoint.secret.clone())),
            previous_secret_until: Set(Some(previous_until)),
            updated_at: Set(now),
            ..Default::default()
        };
        Self::write(connection, endpoint, row).await
    }

    /// Notes that deliveries to an endpoint were taken, or failed, or both.
    pub async fn note_attempts(
        connection: &impl ConnectionTrait,
        id: EndpointId,
        succeeded: bool,
        failed: bool,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let mut row = ActiveModel { ..Default::default() };
        if succeeded {
            row.last_success_at = Set(Some(now));
        }
        if failed {
            row.last_failure_at = Set(Some(now));
        }
        if succeeded || failed {
            Self::update_many().set(row).filter(Column::Id.eq(id)).exec(connection).await?;
        }
        Ok(())
    }

    /// Switches a registered endpoint off, with the reason; `false` for one that is none, such as the implicit one.
    pub async fn disable(
        connection: &impl ConnectionTrait,
        id: EndpointId,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, DbErr> {
        let row = ActiveModel {
            is_active: Set(false),
            disabled_reason: Set(Some(reason.to_owned())),
            updated_at: Set(now),
            ..Default::default()
        };
        let done = Self::update_many()
            .set(row)
            .filter(Column::Id.eq(id))
            .filter(Column::Scope.eq(EndpointScope::Merchant))
            .exec(connection)
            .await?;
        Ok(done.rows_affected == 1)
    }

    async fn write(connection: &impl ConnectionTrait, endpoint: &Model, row: ActiveModel) -> Result<(), DbErr> {
        let change = Self::update_many().set(row);
        let owned = change.filter(Column::Id.eq(endpoint.id)).filter(Column::MerchantId.eq(endpoint.merchant_id));
        owned.exec(connection).await.map(|_| ())
    }

    /// Deletes every endpoint of a merchant but these.
    pub async fn delete_owned_but(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        kept: &[EndpointId],
    ) -> Result<u64, DbErr> {
        let others = Self::delete_many().filter(Column::MerchantId.eq(merchant));
        let others = others.filter(Column::Id.is_not_in(kept.iter().copied()));
        Ok(others.exec(connection).await?.rows_affected)
    }

    /// Makes an endpoint of a merchant what a new one is: active, without a word of what went wrong. Its words and its secret
    /// stay.
    pub async fn renew(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        id: EndpointId,
        url: Option<&str>,
        events: &EventFilter,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        let row = ActiveModel {
            url: Set(url.map(str::to_owned)),
            events: Set(events.to_string()),
            is_active: Set(true),
            disabled_reason: Set(None),
            last_success_at: Set(None),
            last_failure_at: Set(None),
            updated_at: Set(now),
            ..Default::default()
        };
        let change = Self::update_many().set(row).filter(Column::Id.eq(id));
        change.filter(Column::MerchantId.eq(merchant)).exec(connection).await.map(|_| ())
    }
}

/// What a new endpoint is made of.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Owner.
    pub merchant: MerchantId,
    /// Whose deliveries it takes.
    pub scope: EndpointScope,
    /// Where to; none for scope `order`.
    pub url: Option<String>,
    /// Events wanted.
    pub events: EventFilter,
    /// Merchant's words.
    pub description: String,
    /// Whether it gets deliveries.
    pub is_active: bool,
    /// Signing secret, encrypted.
    pub secret: String,
}

impl Model {
    /// The endpoint's place among its merchant's.
    pub fn place(&self) -> Place {
        Place { created_at: self.created_at, id: self.id.0 }
    }

    /// Why it gets nothing at the moment: what switched it off, or that its merchant did. `None` while it gets deliveries.
    pub fn off_reason(&self) -> Option<String> {
        let by_merchant = || "the endpoint was switched off".to_owned();
        (!self.is_active).then(|| self.disabled_reason.clone().unwrap_or_else(by_merchant))
    }

    /// Which events it wants.
    pub fn filter(&self) -> EventFilter {
        self.events.parse().unwrap_or_default()
    }
}
