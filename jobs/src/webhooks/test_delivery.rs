//! `webhook.test`: a signed delivery sent at once on request, with what came of it. It is attempted once and stands outside
//! the endpoint's breaker, so that trying out a url never delays what the endpoint is really sent.

use cryptopay_domain::event::EventType;
use cryptopay_domain::ids::{EndpointId, MerchantId};
use cryptopay_entity::transact;
use cryptopay_entity::{clock, webhook_attempt, webhook_delivery, webhook_endpoint};
use sea_orm::{DbErr, EntityTrait};

use super::deliver;
use crate::context::Context;

/// A test delivery and its attempt.
#[derive(Debug, Clone)]
pub struct TestDelivery {
    /// The delivery as it stands afterwards.
    pub delivery: webhook_delivery::Model,
    /// Its attempt, if one was made.
    pub attempt: Option<webhook_attempt::Model>,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    /// No such endpoint of this merchant.
    #[error("No such webhook endpoint.")]
    NotFound,
    /// It has no url of its own.
    #[error("This endpoint serves orders' own webhook_url and has no url to test.")]
    NoUrl,
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] DbErr),
    /// The ledger refused.
    #[error("{0}")]
    Ledger(#[from] cryptopay_ledger::LedgerError),
}

/// Sends a `webhook.test` to a merchant's endpoint now.
pub async fn send_test(
    context: &Context,
    merchant: MerchantId,
    endpoint: EndpointId,
) -> Result<TestDelivery, TestError> {
    let found = webhook_endpoint::Entity::find_owned(&context.database, merchant, endpoint).await?;
    let endpoint = found.ok_or(TestError::NotFound)?;
    let Some(url) = endpoint.url.clone() else { return Err(TestError::NoUrl) };
    let token = format!("{}-test-{:016x}", context.owner, rand::random::<u64>());
    let claimed = transact!(&context.database, |txn| {
        let now = clock::business_now(txn).await?;
        let lease_until = clock::database_now(txn).await?.plus(deliver::LONG_CLAIM);
        cryptopay_ledger::test_delivery(txn, &endpoint, &url, &token, lease_until, now).await
    })?;
    context.queue.unpublished.notify_one();
    debug_assert_eq!(claimed.event_type, EventType::WebhookTest);
    let id = claimed.id;
    deliver::send_one(context, &endpoint, claimed).await?;
    let delivery = webhook_delivery::Entity::find_by_id(id).one(&context.database).await?;
    let attempt = webhook_attempt::Entity::of_delivery(&context.database, id, 1).await?.pop();
    Ok(TestDelivery { delivery: delivery.ok_or(TestError::NotFound)?, attempt })
}
