//! `/api/events/`.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::{Object, OpenApi};

use super::Tag;
use super::envelope::{Answer, Success};
use super::pages::ListQuery;
use super::types::EventItem;
use crate::app::App;
use crate::operations::events;
use crate::principal::Reader;

/// The routes.
#[derive(Debug)]
pub struct Events;

/// Events in a row.
#[derive(Debug, Object)]
pub struct EventsAfter {
    /// The events, oldest first; empty when there is nothing new.
    pub results: Vec<EventItem>,
    /// Send this as `after` next time.
    pub next_after: i64,
}

#[OpenApi(prefix_path = "/api/events", tag = "Tag::Events")]
impl Events {
    /// List events after a sequence
    ///
    /// Everything that a webhook would have said, in the order in which it became visible. Sequences count the whole
    /// gateway's events: yours rise, with gaps.
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
    ) -> Answer<Success<EventsAfter>> {
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
        let results = events.iter().map(EventItem::new).collect();
        Ok(Success(EventsAfter { results, next_after }, "Success".to_owned()))
    }
}
