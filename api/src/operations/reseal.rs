//! Seals webhook secrets again with the current `CRYPTOPAY_SECRET`, so that the previous one can be forgotten. Runs at the
//! start of a process that has both; several may do it at once.

use cryptopay_domain::ids::{EndpointId, MerchantId};
use cryptopay_entity::webhook_endpoint;
use sea_orm::ActiveValue::Set;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use secrecy::ExposeSecret;

use crate::app::{App, EndpointSecrets};

/// Endpoints read at once.
const PAGE: u64 = 500;

/// What became of the secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Endpoints whose secrets were sealed again.
    pub endpoints: u64,
    /// Endpoints with a secret that neither key opens.
    pub closed: u64,
}

/// Seals again whatever the previous secret has sealed. Nothing where there is no previous one.
///
/// # Errors
/// The database's.
pub async fn run(app: &App) -> Result<Resealed, DbErr> {
    let mut done = Resealed::default();
    if app.config.secret_previous.is_none() {
        return Ok(done);
    }
    let mut last = EndpointId(0);
    loop {
        let page = webhook_endpoint::Entity::find()
            .filter(webhook_endpoint::Column::Id.gt(last))
            .order_by_asc(webhook_endpoint::Column::Id)
            .limit(PAGE)
            .all(app.database())
            .await?;
        let Some(newest) = page.last() else { return Ok(done) };
        last = newest.id;
        for endpoint in page {
            match reseal(app, endpoint).await? {
                Outcome::Resealed => done.endpoints = done.endpoints.saturating_add(1),
                Outcome::Closed => done.closed = done.closed.saturating_add(1),
                Outcome::Current => {}
            }
        }
    }
}

enum Outcome {
    Current,
    Resealed,
    Closed,
}

async fn reseal(app: &App, endpoint: webhook_endpoint::Model) -> Result<Outcome, DbErr> {
    let (id, merchant) = (endpoint.id, endpoint.merchant_id);
    let secret = again(app, merchant, &endpoint.secret);
    let previous = endpoint.previous_secret.as_deref().map_or(Ok(None), |sealed| again(app, merchant, sealed));
    let (Ok(secret), Ok(previous)) = (secret, previous) else { return Ok(Outcome::Closed) };
    if secret.is_none() && previous.is_none() {
        return Ok(Outcome::Current);
    }
    let mut row = webhook_endpoint::ActiveModel::default();
    if let Some(secret) = secret {
        row.secret = Set(secret);
    }
    if let Some(previous) = previous {
        row.previous_secret = Set(Some(previous));
    }
    // Only what was read: the merchant may be rotating the secret at this moment.
    webhook_endpoint::Entity::update_many()
        .set(row)
        .filter(webhook_endpoint::Column::Id.eq(id))
        .filter(webhook_endpoint::Column::Secret.eq(endpoint.secret))
        .exec(app.database())
        .await?;
    Ok(Outcome::Resealed)
}

/// The text sealed with the current key; `None` where it is already.
fn again(app: &App, merchant: MerchantId, sealed: &str) -> Result<Option<String>, ()> {
    let boxes = app.keys.secret_box();
    if boxes.is_current(sealed) {
        return Ok(None);
    }
    let context = EndpointSecrets::seal_context(merchant);
    let text = boxes.open_text(context, sealed).map_err(drop)?;
    boxes.seal(context, text.expose_secret().as_bytes()).map(Some).map_err(drop)
}

#[cfg(test)]
mod tests {
    use cryptopay_test_support::{TestDatabase, on_both_databases};

    use super::*;
    use crate::testing::{app, app_with, merchant};

    /// The 32 bytes 32 to 63.
    const NEW: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    on_both_databases!(after_a_change_of_the_secret_the_old_one_can_be_forgotten, async |db: TestDatabase| {
        let before = app(&db).await;
        merchant(&before, "shop").await;
        let endpoints = || webhook_endpoint::Entity::find().all(db.connection());
        let stored = endpoints().await.unwrap();
        let opened: Vec<String> =
            stored.iter().map(|row| EndpointSecrets(before.keys.clone()).current(row).unwrap()).collect();
        assert!(!opened.is_empty());
        assert_eq!(run(&before).await.unwrap(), Resealed::default(), "there is no previous secret");

        let changing = app_with(&db, &[("CRYPTOPAY_SECRET", NEW), ("CRYPTOPAY_SECRET_PREVIOUS", OLD)]).await;
        let done = run(&changing).await.unwrap();
        assert_eq!((done.endpoints, done.closed), (u64::try_from(opened.len()).unwrap(), 0));
        assert_eq!(run(&changing).await.unwrap(), Resealed::default(), "nothing is left to do");

        let after = EndpointSecrets(app_with(&db, &[("CRYPTOPAY_SECRET", NEW)]).await.keys.clone());
        let now: Vec<String> = endpoints().await.unwrap().iter().map(|row| after.current(row).unwrap()).collect();
        assert_eq!(now, opened);
    });
}
