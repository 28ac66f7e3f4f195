//! A merchant with all that an account has.

use cryptopay_domain::event::EventFilter;
use cryptopay_domain::ids::{EndpointId, MerchantId};
use cryptopay_domain::merchant::{EndpointScope, Ownership, Plan, WalletKind};
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{merchant, merchant_wallet, receiving_address, webhook_endpoint};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ActiveModelTrait, DatabaseConnection};

use crate::fake_chain::address;
use crate::world::{EVERYTHING_URL, Merchant};

/// Makes a merchant with a wallet on one chain, the implicit endpoint and one that gets every event.
pub(crate) async fn seed_merchant(
    connection: &DatabaseConnection,
    slug: &str,
    number: u64,
    now: Timestamp,
) -> Merchant {
    let name = format!("merchant{number}");
    let email = format!("{name}@example.com");
    let merchant = merchant::ActiveModel {
        id: NotSet,
        username: Set(name.clone()),
        username_key: Set(name),
        email: Set(email.clone()),
        email_key: Set(email),
        password_hash: Set("-".to_owned()),
        shop_name: Set("Shop".to_owned()),
        plan: Set(Plan::Standard),
        limit_override: Set(None),
        payment_settings: Set("{}".to_owned()),
        created_at: Set(now),
        updated_at: Set(now),
    };
    let id = merchant.insert(connection).await.unwrap().id;
    let address = address(0xa11ce000 + number);
    let wallet = merchant_wallet::ActiveModel {
        id: NotSet,
        merchant_id: Set(id),
        chain: Set(slug.to_owned()),
        kind: Set(WalletKind::Address),
        address: Set(Some(address)),
        label: Set("till".to_owned()),
        is_active: Set(true),
        dedicated: Set(false),
        ownership: Set(Ownership::Unproven),
        created_at: Set(now),
        updated_at: Set(now),
        deleted_at: Set(None),
    };
    let wallet = wallet.insert(connection).await.unwrap().id;
    assert!(receiving_address::Entity::claim(connection, slug, address, 0, id, wallet, now).await.unwrap());
    let defaults = EventFilter::default().to_string();
    let own_urls = seed_endpoint(connection, id, EndpointScope::Order, None, &defaults, now).await;
    let everything = seed_endpoint(connection, id, EndpointScope::Merchant, Some(EVERYTHING_URL), "*", now).await;
    Merchant { id, wallet, address, own_urls, everything }
}

async fn seed_endpoint(
    connection: &DatabaseConnection,
    merchant: MerchantId,
    scope: EndpointScope,
    url: Option<&str>,
    events: &str,
    now: Timestamp,
) -> EndpointId {
    let endpoint = webhook_endpoint::ActiveModel {
        id: NotSet,
        merchant_id: Set(merchant),
        scope: Set(scope),
        url: Set(url.map(str::to_owned)),
        events: Set(events.to_owned()),
        description: Set(String::new()),
        is_active: Set(true),
        secret: Set("-".to_owned()),
        previous_secret: Set(None),
        previous_secret_until: Set(None),
        disabled_reason: Set(None),
        last_success_at: Set(None),
        last_failure_at: Set(None),
        created_at: Set(now),
        updated_at: Set(now),
        deleted_at: Set(None),
    };
    endpoint.insert(connection).await.unwrap().id
}
