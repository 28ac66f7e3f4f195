//! Deliveries of an endpoint in lists, and queued again by the thousand.

use std::collections::BTreeSet;

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{DeliveryId, EndpointId, MerchantId};
use cryptopay_domain::merchant::DeliveryState;
use cryptopay_domain::time::Timestamp;
use sea_orm::entity::prelude::*;
use sea_orm::{Condition, PaginatorTrait, QuerySelect, Select};

use super::{Column, Entity, Model};
use crate::pages::{Place, Start, Window};

/// Which deliveries of an endpoint to list. Everything that is set has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// One of these.
    pub states: Vec<DeliveryState>,
    /// About one of these.
    pub events: Vec<EventType>,
    /// Made at this time or later.
    pub created_after: Option<Timestamp>,
    /// Made before this time.
    pub created_before: Option<Timestamp>,
}

impl DeliveryFilter {
    /// Whether what the filter lets through once it lets through for good: nothing in it can change.
    pub fn is_lasting(&self) -> bool {
        self.states.is_empty()
    }

    fn without_events(&self, merchant: MerchantId, endpoint: EndpointId) -> Condition {
        let state = |state: &DeliveryState| is_in_state(*state);
        let states = self.states.iter().map(state).fold(Condition::any(), Condition::add);
        Condition::all()
            .add(Column::EndpointId.eq(endpoint))
            .add(Column::MerchantId.eq(merchant))
            .add_option(self.created_after.map(|time| Column::CreatedAt.gte(time)))
            .add_option(self.created_before.map(|time| Column::CreatedAt.lt(time)))
            .add_option((!self.states.is_empty()).then_some(states))
    }

    fn condition(&self, merchant: MerchantId, endpoint: EndpointId) -> Condition {
        let events = match self.events.as_slice() {
            [] => None,
            [one] => Some(Column::EventType.eq(*one)),
            several => Some(Column::EventType.is_in(several.iter().copied())),
        };
        self.without_events(merchant, endpoint).add_option(events)
    }
}

/// As the indexes on some states say it: with a parameter instead, neither database would use those.
fn is_in_state(state: DeliveryState) -> Expr {
    Expr::cust(format!("webhook_delivery.state = '{state}'"))
}

/// Deliveries of an endpoint to be sent once more.
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// Whose.
    pub merchant: MerchantId,
    /// To where.
    pub endpoint: EndpointId,
    /// Behind this one, of those in question.
    pub after: Option<Place>,
    /// At most so many.
    pub limit: u64,
}

impl Entity {
    /// How many deliveries of a merchant's endpoint the filter lets through.
    pub async fn count_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        endpoint: EndpointId,
        filter: &DeliveryFilter,
    ) -> Result<u64, DbErr> {
        Self::find().filter(filter.condition(merchant, endpoint)).count(connection).await
    }

    /// Deliveries of a merchant's endpoint in a window of their list.
    pub async fn list_owned(
        connection: &impl ConnectionTrait,
        merchant: MerchantId,
        endpoint: EndpointId,
        filter: &DeliveryFilter,
        window: Window,
    ) -> Result<Vec<Model>, DbErr> {
        Self::window(merchant, endpoint, filter, window).all(connection).await
    }

    fn window(merchant: MerchantId, endpoint: EndpointId, filter: &DeliveryFilter, window: Window) -> Select<Self> {
        if filter.events.len() < 2 || !window.is_near() {
            return window.of(Self::find().filter(filter.condition(merchant, endpoint)), Column::CreatedAt, Column::Id);
        }
        let kind = |event: &EventType| {
            Self::find().filter(filter.without_events(merchant, endpoint)).filter(Column::EventType.eq(*event))
        };
        window.of_several(filter.events.iter().map(kind).collect(), Column::CreatedAt, Column::Id)
    }

    /// Makes deliveries due now, as if they had never been tried, oldest first: ids and bodies stay. Gives how many, the
    /// origins of their queues, and the last one where there may be more.
    pub async fn replay(
        txn: &impl ConnectionTrait,
        replay: Replay,
        filter: &DeliveryFilter,
        now: Timestamp,
    ) -> Result<(u64, BTreeSet<String>, Option<Model>), DbErr> {
        let start = replay.after.map_or(Start::End, Start::Behind);
        let window = Window { start, oldest_first: true, skip: 0, limit: replay.limit };
        let chosen: Vec<(DeliveryId, String)> = Self::window(replay.merchant, replay.endpoint, filter, window)
            .select_only()
            .column(Column::Id)
            .column(Column::Origin)
            .into_tuple()
            .all(txn)
            .await?;
        let ids: Vec<DeliveryId> = chosen.iter().map(|(id, _)| *id).collect();
        let count = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let last = ids.last().copied().filter(|_| count == replay.limit);
        Self::requeue(txn, replay.merchant, ids, now).await?;
        let last = match last {
            Some(last) => Self::find_by_id(last).one(txn).await?,
            None => None,
        };
        Ok((count, chosen.into_iter().map(|(_, origin)| origin).collect(), last))
    }
}
