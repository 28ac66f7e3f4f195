//! Payment orders: promises, with what was derived of them.

mod lists;
mod search;

use std::collections::BTreeSet;

use cryptopay_domain::address::{AccountAddress, Asset};
use cryptopay_domain::ids::{MerchantId, OrderId, OrderRef, WalletId};
use cryptopay_domain::order::{Decision, FailureReason, LatePolicy, LateStanding, OrderFlag, OrderStatus};
use cryptopay_domain::reference::Reference;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::units::Units;
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, QueryOrder, QuerySelect, Select};

pub use lists::{OrderFilter, Seek};
pub use search::MAX_INFO_SEARCHED;

use crate::pages::Place;
use crate::pieces::pieces;

/// A row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "payment_order")]
pub struct Model {
    /// Key.
    #[sea_orm(primary_key)]
    pub id: OrderId,
    /// Public id.
    pub order_id: OrderRef,
    /// Owner.
    pub merchant_id: MerchantId,
    /// Merchant's number, unique for the merchant.
    pub nonce: i64,
    /// Of the parsed request.
    pub fingerprint: String,
    /// Slug.
    pub chain: String,
    /// Symbol.
    pub currency: String,
    /// What is to be paid in.
    pub asset: Asset,
    /// Decimals of the asset.
    pub decimals: i64,
    /// Price, as it was sent.
    pub amount: String,
    /// What to pay, in base units.
    pub pay_units: Units,
    /// Wallet.
    pub wallet_id: WalletId,
    /// Where to pay.
    pub receiving_address: AccountAddress,
    /// What a wallet button adds to the transaction.
    pub reference: Reference,
    /// Merchant's JSON, byte for byte.
    pub order_info: String,
    /// The order's own webhook.
    pub webhook_url: Option<String>,
    /// Where the customer goes afterwards.
    pub redirect_url: Option<String>,
    /// Created.
    pub created_at: Timestamp,
    /// What the customer is told.
    pub expires_at: Timestamp,
    /// With the grace.
    pub in_time_until: Timestamp,
    /// End of the late window.
    pub late_until: Timestamp,
    /// Nothing is matched after this.
    pub monitor_until: Timestamp,
    /// Depth that confirms.
    pub required_confirmations: i64,
    /// What happens to late money.
    pub late_policy: LatePolicy,
    /// Verified height at creation.
    pub scanned_height: i64,
    /// Derived.
    pub status: OrderStatus,
    /// Derived.
    pub fulfillable: bool,
    /// Derived; comma-separated.
    pub flags: String,
    /// Derived.
    pub late_decision: Option<LateStanding>,
    /// Derived: what counts.
    pub received_units: Units,
    /// What completes the order after a short payment, held for it.
    pub remainder_units: Option<Units>,
    /// Most that a remainder which was handed out lies above what was missing.
    pub remainder_rounding: Units,
    /// Derived, or set by what failed the order.
    pub failure_reason: Option<FailureReason>,
    /// The operator's.
    pub decision: Option<Decision>,
    /// What an accepting decision settled for.
    pub decision_units: Option<Units>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// Confirmations taken back, plus one.
    pub generation: i64,
    /// Generation whose confirmation was announced last; 0 for none.
    pub announced_generation: i64,
    /// Taken back by the merchant.
    pub canceled_at: Option<Timestamp>,
    /// A block past the deadline was verified.
    pub closed_at: Option<Timestamp>,
    /// Its address was claimed by the proven owner while it was open.
    pub displaced_at: Option<Timestamp>,
    /// Confirmation of the current generation.
    pub confirmed_at: Option<Timestamp>,
    /// Raised by each event.
    pub version: i64,
    /// Time of that version.
    pub updated_at: Timestamp,
}

/// This table's rows are joined by hand where that is wanted.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The order of a merchant by its number.
    pub async fn find_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        id: OrderId,
    ) -> Result<Option<Model>, DbErr> {
        Self::find_by_id(id).filter(Column::MerchantId.eq(merchant)).one(connection).await
    }

    /// The order of a merchant by its public id.
    pub async fn find_owned_by_ref(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        order_id: &OrderRef,
    ) -> Result<Option<Model>, DbErr> {
        Self::find()
            .filter(Column::OrderId.eq(order_id.clone()))
            .filter(Column::MerchantId.eq(merchant))
            .one(connection)
            .await
    }

    /// An order by its public id alone: for its payment page, which is public and shows nothing private.
    pub async fn find_public(connection: &impl ConnectionTrait, order_id: &OrderRef) -> Result<Option<Model>, DbErr> {
        Self::find().filter(Column::OrderId.eq(order_id.clone())).one(connection).await
    }

    /// The order that already carries a merchant's nonce.
    pub async fn find_by_nonce(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        nonce: i64,
    ) -> Result<Option<Model>, DbErr> {
        Self::find().filter(Column::MerchantId.eq(merchant)).filter(Column::Nonce.eq(nonce)).one(connection).await
    }

    /// The highest nonce of a merchant's orders: one look-up in the index of nonces. `None` before the first order.
    pub async fn highest_nonce(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<Option<i64>, DbErr> {
        let nonces = Self::find().select_only().column(Column::Nonce).filter(Column::MerchantId.eq(merchant));
        nonces.order_by_desc(Column::Nonce).into_tuple().one(connection).await
    }

    /// Locks orders by ascending id, whoever owns them: for what the chain, not a merchant, has caused.
    pub async fn lock(connection: &impl ConnectionTrait, ids: &BTreeSet<OrderId>) -> Result<Vec<Model>, DbErr> {
        let mut rows = Vec::new();
        for piece in pieces(ids.iter().copied()) {
            let locked = Self::find().filter(Column::Id.is_in(piece)).order_by_asc(Column::Id).lock_exclusive();
            rows.extend(locked.all(connection).await?);
        }
        Ok(rows)
    }

    /// Orders on `chain` that carry one of these references.
    pub async fn find_by_references(
        connection: &impl ConnectionTrait,
        chain: &str,
        references: &[Reference],
    ) -> Result<Vec<Model>, DbErr> {
        if references.is_empty() {
            return Ok(Vec::new());
        }
        Self::find()
            .filter(Column::Reference.is_in(references.iter().copied()))
            .filter(Column::Chain.eq(chain))
            .all(connection)
            .await
    }

    /// Ids of open orders on `chain` whose deadline lies before `verified`, at most `limit`.
    pub async fn due_to_close(
        connection: &impl ConnectionTrait,
        chain: &str,
        verified: Timestamp,
        limit: u64,
    ) -> Result<BTreeSet<OrderId>, DbErr> {
        let ids: Vec<OrderId> = Self::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::Chain.eq(chain))
            .filter(Column::ClosedAt.is_null())
            .filter(Column::InTimeUntil.lt(verified))
            .order_by_asc(Column::InTimeUntil)
            .limit(limit)
            .into_tuple()
            .all(connection)
            .await?;
        Ok(ids.into_iter().collect())
    }

    /// Whether an order of a merchant on one address is still watched at `verified`, whichever wallet it was made for.
    pub async fn address_is_watched(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        chain: &str,
        address: AccountAddress,
        verified: Timestamp,
    ) -> Result<bool, DbErr> {
        let watched = Self::watched(merchant, chain, address, verified).limit(1);
        Ok(watched.into_tuple::<OrderId>().one(connection).await?.is_some())
    }

    /// Orders of a merchant on one address that are still watched at `verified`.
    pub async fn watched_on(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        chain: &str,
        address: AccountAddress,
        verified: Timestamp,
    ) -> Result<BTreeSet<OrderId>, DbErr> {
        let watched = Self::watched(merchant, chain, address, verified);
        Ok(watched.into_tuple::<OrderId>().all(connection).await?.into_iter().collect())
    }

    /// Ids of the orders of a merchant on one address that are still watched at `verified`.
    fn watched(merchant: MerchantId, chain: &str, address: AccountAddress, verified: Timestamp) -> Select<Self> {
        Self::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::ReceivingAddress.eq(address))
            .filter(Column::Chain.eq(chain))
            .filter(Column::MerchantId.eq(merchant))
            .filter(Column::MonitorUntil.gte(verified))
    }

    /// Notes of orders that their address belongs to somebody else now.
    pub async fn displace(
        connection: &impl ConnectionTrait,
        ids: impl IntoIterator<Item = OrderId>,
        now: Timestamp,
    ) -> Result<(), DbErr> {
        for piece in pieces(ids) {
            Self::update_many()
                .col_expr(Column::DisplacedAt, Expr::value(Some(now)))
                .filter(Column::Id.is_in(piece))
                .exec(connection)
                .await?;
        }
        Ok(())
    }

    /// Whether a native order on `chain` is still watched at `verified`.
    pub async fn native_is_watched(
        connection: &impl ConnectionTrait,
        chain: &str,
        verified: Timestamp,
    ) -> Result<bool, DbErr> {
        Self::is_asset_watched(connection, chain, Asset::Native, verified).await
    }

    /// Reports whether money in an asset of a chain is still watched for, as of its newest verified block.
    pub async fn is_asset_watched(
        connection: &impl ConnectionTrait,
        chain: &str,
        asset: Asset,
        verified: Timestamp,
    ) -> Result<bool, DbErr> {
        let one = Self::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::Chain.eq(chain))
            .filter(Column::Asset.eq(asset))
            .filter(Column::MonitorUntil.gte(verified))
            .limit(1)
            .into_tuple::<OrderId>()
            .one(connection)
            .await?;
        Ok(one.is_some())
    }

    /// Every asset that a chain has ever had an order in. One index look-up for each, however many orders there are.
    pub async fn assets_of(connection: &impl ConnectionTrait, chain: &str) -> Result<Vec<Asset>, DbErr> {
        let mut assets: Vec<Asset> = Vec::new();
        loop {
            let next = Self::find()
                .select_only()
                .column(Column::Asset)
                .filter(Column::Chain.eq(chain))
                .filter(Condition::all().add_option(assets.last().map(|last| Column::Asset.gt(*last))))
                .order_by_asc(Column::Asset)
                .limit(1)
                .into_tuple::<Asset>()
                .one(connection)
                .await?;
            match next {
                Some(asset) => assets.push(asset),
                None => return Ok(assets),
            }
        }
    }

    /// Symbol and decimals of an asset as the newest of its orders has them, for an asset that left the registry.
    pub async fn asset_as_ordered(
        connection: &impl ConnectionTrait,
        chain: &str,
        asset: Asset,
    ) -> Result<Option<(String, i64)>, DbErr> {
        Self::find()
            .select_only()
            .columns([Column::Currency, Column::Decimals])
            .filter(Column::Chain.eq(chain))
            .filter(Column::Asset.eq(asset))
            .order_by_desc(Column::MonitorUntil)
            .limit(1)
            .into_tuple()
            .one(connection)
            .await
    }

    /// Locks every order of a merchant, by ascending id.
    pub async fn lock_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<Vec<OrderId>, DbErr> {
        let orders = Self::find().select_only().column(Column::Id).filter(Column::MerchantId.eq(merchant));
        orders.order_by_asc(Column::Id).lock_exclusive().into_tuple().all(connection).await
    }

    /// Deletes every order of a merchant; how many there were.
    pub async fn delete_owned(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
        Ok(Self::delete_many().filter(Column::MerchantId.eq(merchant)).exec(connection).await?.rows_affected)
    }
}

impl Model {
    /// Confirmations that its payments need.
    pub fn required(&self) -> u32 {
        u32::try_from(self.required_confirmations).unwrap_or(u32::MAX)
    }

    /// The order's place among its merchant's.
    pub fn place(&self) -> Place {
        Place { created_at: self.created_at, id: self.id.0 }
    }

    /// The order's flags.
    pub fn flags(&self) -> Vec<OrderFlag> {
        self.flags.split(',').filter_map(|flag| flag.parse().ok()).collect()
    }
}
