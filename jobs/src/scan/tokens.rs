//! What each token's contract says about its own decimals, noted once per process and chain as soon as an endpoint can be
//! reached. A registry that says otherwise would credit thousandfold or nothing, so that token takes no new orders.

use std::time::{Duration, Instant};

use cryptopay_chain::{ChainError, Endpoint};
use cryptopay_domain::address::{AccountAddress, Asset};
use cryptopay_domain::registry::Token;
use cryptopay_entity::{clock, token_check};

use crate::context::{ChainAccess, Context};

/// How often contracts are asked that have not answered.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Compares what has not been compared yet. What fails is tried again later and stops nothing.
pub(super) async fn check(context: &Context, access: &ChainAccess, endpoint: &Endpoint) {
    let open: Vec<(&Token, AccountAddress)> = access
        .chain
        .tokens
        .iter()
        .filter_map(|token| match token.asset {
            Asset::Token(contract) => Some((token, contract)),
            Asset::Native => None,
        })
        .filter(|(_, contract)| !access.state.is_compared(*contract))
        .collect();
    if open.is_empty() || !access.state.may_compare(AGAIN_AFTER) {
        return;
    }
    for (token, contract) in open {
        match compare(context, access, endpoint, token, contract).await {
            Ok(()) => access.state.note_compared(contract),
            Err(problem) => tracing::warn!(
                chain = access.chain.slug,
                token = token.symbol,
                problem,
                "the token's decimals cannot be compared yet"
            ),
        }
    }
}

async fn compare(
    context: &Context,
    access: &ChainAccess,
    endpoint: &Endpoint,
    token: &Token,
    contract: AccountAddress,
) -> Result<(), String> {
    let said = decimals(access, endpoint, token, contract).await.map_err(|error| error.to_string())?;
    let noted = async {
        let now = clock::database_now(&context.database).await?;
        token_check::Entity::note(&context.database, &access.chain.slug, contract, said, now).await
    };
    noted.await.map_err(|error| error.to_string())?;
    if said != token.decimals {
        tracing::error!(
            chain = access.chain.slug,
            token = token.symbol,
            registry_decimals = token.decimals,
            contract_decimals = said,
            "the token takes no new orders: correct its decimals or address in the registry and start again"
        );
    }
    Ok(())
}

/// What the contract says. Before it is believed against the registry, another endpoint is asked where one can be.
async fn decimals(
    access: &ChainAccess,
    endpoint: &Endpoint,
    token: &Token,
    contract: AccountAddress,
) -> Result<u8, ChainError> {
    let said = endpoint.client().decimals(contract).await?;
    if said == token.decimals {
        return Ok(said);
    }
    match access.endpoints.second(Instant::now(), endpoint) {
        Some(second) => second.client().decimals(contract).await,
        None => Ok(said),
    }
}
