//! Events of a merchant, to pull: everything that a webhook would have said, in the order of its visibility.

use cryptopay_entity::{event, event_counter};

use crate::app::App;
use crate::error::ApiError;
use crate::principal::Principal;

/// The merchant's numbered events after `sequence`, at most `limit`, and the number to go on after.
///
/// # Errors
/// A fault of `after` that lies ahead of every event: whoever sent it would hear nothing until the gateway has caught up,
/// and would miss all that happens meanwhile.
pub async fn after(
    app: &App,
    principal: &Principal,
    sequence: i64,
    limit: u64,
) -> Result<(Vec<event::Model>, i64), ApiError> {
    if sequence > 0 {
        let newest = event_counter::Entity::peek(app.database()).await?;
        if sequence > newest {
            let problem = format!("There is no event {sequence} yet; the newest is {newest}.");
            return Err(ApiError::field("after", problem));
        }
    }
    let events = event::Entity::after(app.database(), principal.merchant_id(), sequence, limit).await?;
    let next = events.last().and_then(|event| event.sequence).unwrap_or(sequence);
    Ok((events, next))
}

#[cfg(test)]
mod tests {
    use cryptopay_test_support::{TestDatabase, on_both_databases};

    use super::*;
    use crate::operations::shop::Shop;

    on_both_databases!(a_merchant_pulls_its_own_events_in_steps, async |db: TestDatabase| {
        let mut shop = Shop::new(&db).await;
        let (anna, _) = shop.merchant("anna").await;
        let (bert, _) = shop.merchant("bert").await;
        for who in [&anna, &bert, &anna, &anna] {
            shop.order(who).await;
        }
        assert_eq!(after(&shop.app, &anna, 0, 2).await.unwrap(), (Vec::new(), 0), "events are seen once numbered");
        shop.publish().await;
        let (first, next) = after(&shop.app, &anna, 0, 2).await.unwrap();
        let (second, last) = after(&shop.app, &anna, next, 2).await.unwrap();
        let sequences: Vec<_> = first.iter().chain(&second).filter_map(|event| event.sequence).collect();
        assert_eq!((sequences, last), (vec![1, 3, 4], 4));
        assert_eq!(after(&shop.app, &anna, last, 2).await.unwrap(), (Vec::new(), last));
        let ahead = after(&shop.app, &anna, last + 1, 2).await.unwrap_err();
        assert_eq!(ahead.details["after"], ["There is no event 5 yet; the newest is 4."]);
    });
}
