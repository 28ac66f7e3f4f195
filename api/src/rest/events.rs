//! `/api/events/`.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::Tag;
use super::envelope::{Answer, Json, now};
use super::pages::ListQuery;
use super::types::EventItem;
use crate::app::App;
use crate::operations::events;
use crate::principal::Reader;

/// The routes.
#[derive(Debug)]
pub struct Events;

/// Events in a row.
#[derive(Debug, Clone, Object)]
pub struct EventsAfter {
    /// The events, oldest first; empty when there is nothing new.
    pub results: Vec<EventItem>,
    /// Relative address of the events that follow, where there may be more already.
    pub next: Option<String>,
    /// Send this as `after` next time.
    pub next_after: i64,
}

/// Events in a row. They stand at the top and in `data` alike, as pages of lists do.
#[derive(Debug, Object)]
pub struct EventsEnvelope {
    /// Always true.
    pub success: bool,
    /// The events, and how to go on.
    pub data: EventsAfter,
    /// The events, oldest first; empty when there is nothing new.
    pub results: Vec<EventItem>,
    /// Relative address of the events that follow, where there may be more already.
    pub next: Option<String>,
    /// Send this as `after` next time.
    pub next_after: i64,
    /// What happened, in a sentence.
    pub message: String,
    /// When the answer was made: RFC 3339, UTC.
    pub timestamp: String,
}

/// The answer.
#[derive(Debug, ApiResponse)]
pub enum EventsListed {
    /// Events in a row
    #[oai(status = 200)]
    Ok(Json<EventsEnvelope>),
}

#[OpenApi(prefix_path = "/api/events", tag = "Tag::Events")]
impl Events {
    /// List events after a sequence
    ///
    /// Everything that a webhook would have said, in the order in which it became visible. Sequences count the whole
    /// gateway's events: yours rise, with gaps. An `after` beyond the newest sequence is refused and told which that is.
    #[oai(path = "/", method = "get", operation_id = "listEvents")]
    async fn list(
        &self,
        app: Data<&App>,
        auth: Reader,
        request: &Request,
        /// Sequence of the last event that you have; 0, the beginning, if not said
        after: Query<Option<String>>,
        /// Events in the answer, at most 100; 20 if not said
        page_size: Query<Option<String>>,
    ) -> Answer<EventsListed> {
        // Documented above; read below, where every fault is collected.
        let _ = (after, page_size);
        let mut query = ListQuery::of(request);
        let after = match query.get("after").map(str::parse::<i64>) {
            None => 0,
            Some(Ok(after)) if after >= 0 => after,
            Some(_) => {
                query.fault(
                    "after",
                    "Must be a sequence: a whole number from 0, such as next_after of the last answer.",
                );
                0
            }
        };
        query.finish()?;
        let (events, next_after) = events::after(&app, &auth.0, after, query.limit()).await?;
        let results: Vec<_> = events.iter().map(EventItem::new).collect();
        let is_full = u64::try_from(results.len()).is_ok_and(|count| count >= query.limit());
        let next = is_full.then(|| query.next_after(&next_after.to_string()));
        let data = EventsAfter { results, next, next_after };
        Ok(EventsListed::Ok(Json(EventsEnvelope {
            success: true,
            results: data.results.clone(),
            next: data.next.clone(),
            next_after,
            data,
            message: "Success".to_owned(),
            timestamp: now().to_string(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use cryptopay_entity::webhook_delivery;
    use cryptopay_test_support::{TestDatabase, on_both_databases};
    use sea_orm::EntityTrait;
    use serde_json::Value;

    use super::*;
    use crate::operations::shop::Shop;

    on_both_databases!(an_event_that_is_pulled_says_what_its_webhook_says, async |db: TestDatabase| {
        let mut shop = Shop::new(&db).await;
        let (anna, hers) = shop.merchant("anna").await;
        let order = shop.order(&anna).await;
        let body = serde_json::json!({"url": "https://shop.example/hook", "events": ["*"]});
        let fields = crate::testing::fields::<crate::rest::webhook_endpoints::CreateWebhookEndpoint>(body);
        let once = crate::testing::once();
        crate::operations::webhook_endpoints::create(&shop.app, &anna, fields, once).await.unwrap();
        let paid = shop.transfer(hers, order.pay_units);
        let stray = shop.transfer(hers, cryptopay_domain::units::Units::new(7));
        shop.receive("base", &[paid, stray]).await;
        shop.publish().await;
        let (pulled, _) = events::after(&shop.app, &anna, 0, 100).await.unwrap();
        let told = webhook_delivery::Entity::find().all(shop.app.database()).await.unwrap();
        assert!(told.len() >= 2, "{told:?}");
        for delivery in told {
            let body: Value = serde_json::from_str(&delivery.body).unwrap();
            let event = pulled.iter().find(|event| event.id == delivery.event_id).unwrap();
            let item = EventItem::new(event);
            assert_eq!((&item.data.0, item.event.as_str()), (&body["data"], body["event"].as_str().unwrap()));
        }
    });
}
