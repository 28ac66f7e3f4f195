//! REST: extract, convert, one call, convert.

pub mod api_keys;
pub mod auth;
pub mod blockchains;
pub mod body;
pub mod document;
pub mod envelope;
pub mod events;
pub mod once;
pub mod pages;
pub mod payment_orders;
pub mod payment_page;
pub mod sandbox;
pub mod settings;
pub mod transactions;
pub mod types;
pub mod wallets;
pub mod webhook_deliveries;
pub mod webhook_endpoints;

use poem_openapi::{OpenApiService, Tags};

/// Every documented route.
pub type Routes = (
    auth::Auth,
    api_keys::ApiKeys,
    payment_orders::PaymentOrders,
    wallets::MerchantWallets,
    settings::Settings,
    webhook_endpoints::WebhookEndpoints,
    webhook_deliveries::WebhookDeliveries,
    transactions::Transactions,
    blockchains::Blockchains,
    events::Events,
    payment_page::PaymentPage,
    sandbox::Sandbox,
    sandbox::Inbox,
    (),
);

/// The service behind the documented routes, from which the OpenAPI document is made too.
pub fn service() -> OpenApiService<Routes, ()> {
    let routes = (
        auth::Auth,
        api_keys::ApiKeys,
        payment_orders::PaymentOrders,
        wallets::MerchantWallets,
        settings::Settings,
        webhook_endpoints::WebhookEndpoints,
        webhook_deliveries::WebhookDeliveries,
        transactions::Transactions,
        blockchains::Blockchains,
        events::Events,
        payment_page::PaymentPage,
        sandbox::Sandbox,
        sandbox::Inbox,
        (),
    );
    OpenApiService::new(routes, "CryptoPay", env!("CARGO_PKG_VERSION"))
}

/// The subjects of the OpenAPI document.
#[derive(Debug, Tags)]
pub enum Tag {
    /// Accounts, logins and API keys
    Authentication,
    /// Requests for payment and what became of them
    PaymentOrders,
    /// Transfers as the chain shows them
    Transactions,
    /// Where payments go
    MerchantWallets,
    /// How payments are treated
    Settings,
    /// Who is told what happened
    Webhooks,
    /// Everything that happened, to pull
    Events,
    /// Chains and tokens
    Blockchains,
    /// The public payment page's data
    PaymentPage,
    /// Simulated payments, blocks and time
    Sandbox,
}
