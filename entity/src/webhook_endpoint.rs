//! Webhook endpoints.

use cryptopay_domain::event::EventFilter;
use cryptopay_domain::ids::{EndpointId, MerchantId};
use cryptopay_domain::merchant::EndpointScope;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::{PaginatorTrait, QueryOrder};

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
    /// How long that signs too.
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
}

impl Model {
    /// Which events it wants.
    pub fn filter(&self) -> EventFilter {
        self.events.parse().unwrap_or_default()
    }
}
