//! The webhook endpoints that every account has from the beginning: the implicit one, which signs deliveries to orders' own
//! urls, and in sandbox mode the one that delivers to the inbox.

use cryptopay_domain::event::EventFilter;
use cryptopay_domain::ids::{EndpointId, MerchantId};
use cryptopay_domain::merchant::EndpointScope;
use cryptopay_domain::time::Timestamp;
use cryptopay_domain::webhook::secret_from_entropy;
use cryptopay_entity::webhook_endpoint;
use cryptopay_entity::webhook_endpoint::NewEndpoint;
use sea_orm::ConnectionTrait;

use super::Accounts;
use crate::app::EndpointSecrets;
use crate::config::Mode;
use crate::error::ApiError;
use crate::operations::stop::Stop;
use crate::security::entropy;

/// An endpoint that an account begins with.
#[derive(Debug, Clone)]
pub struct FirstEndpoint {
    scope: EndpointScope,
    url: Option<String>,
    events: EventFilter,
    description: &'static str,
    /// The account's, if it is there.
    pub existing: Option<EndpointId>,
}

impl FirstEndpoint {
    /// Those of an account. Makes its inbox, if it has none.
    pub(crate) async fn of(
        accounts: Accounts<'_>,
        txn: &impl ConnectionTrait,
        merchant: MerchantId,
    ) -> Result<Vec<Self>, Stop> {
        let mut first = vec![Self {
            scope: EndpointScope::Order,
            url: None,
            events: EventFilter::default(),
            description: "Orders with a webhook_url of their own",
            existing: None,
        }];
        if accounts.mode == Mode::Sandbox {
            let token = cryptopay_sandbox::create_inbox(txn, merchant).await?;
            first.push(Self {
                scope: EndpointScope::Merchant,
                url: Some(format!("{}/sandbox/inbox/{token}", accounts.public_url)),
                events: EventFilter::All,
                description: "Sandbox inbox",
                existing: None,
            });
        }
        let there = webhook_endpoint::Entity::receiving(txn, [merchant]).await?;
        for endpoint in &mut first {
            endpoint.existing = there.iter().find(|row| endpoint.is(row)).map(|row| row.id);
        }
        Ok(first)
    }

    /// Whether a row is this endpoint, whatever was changed about it. The gateway's own address may have changed since.
    fn is(&self, row: &webhook_endpoint::Model) -> bool {
        let place = |url: &str| url.rsplit('/').next().map(str::to_owned);
        row.scope == self.scope && row.url.as_deref().and_then(place) == self.url.as_deref().and_then(place)
    }

    /// Adds the endpoint, or makes the one that is there as it was in the beginning. Its secret stays.
    pub(crate) async fn establish(
        &self,
        accounts: Accounts<'_>,
        txn: &impl ConnectionTrait,
        merchant: MerchantId,
        now: Timestamp,
    ) -> Result<(), Stop> {
        if let Some(id) = self.existing {
            let url = self.url.as_deref();
            webhook_endpoint::Entity::renew(txn, merchant, id, url, &self.events, now).await?;
            return Ok(());
        }
        let secret = secret_from_entropy(entropy::bytes());
        let sealed = accounts.keys.secret_box().seal(EndpointSecrets::seal_context(merchant), secret.as_bytes());
        let new = NewEndpoint {
            merchant,
            scope: self.scope,
            url: self.url.clone(),
            events: self.events.clone(),
            description: self.description.to_owned(),
            is_active: true,
            secret: sealed.map_err(ApiError::internal)?,
        };
        webhook_endpoint::Entity::add(txn, new, now).await?;
        Ok(())
    }
}
