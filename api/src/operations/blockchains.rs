//! Chains and tokens, and how far each chain is verified. Public: nothing here belongs to anybody.

use std::collections::BTreeMap;

use cryptopay_domain::address::Asset;
use cryptopay_domain::registry::Chain;
use cryptopay_entity::{chain_cursor, token_check};
use cryptopay_ledger::Refusal;

use crate::app::App;
use crate::config::ChainSource;
use crate::error::ApiError;

/// Health of a chain of which no block has been seen yet.
const STARTING: &str = "starting";

/// A chain with its state.
#[derive(Debug, Clone)]
pub struct ChainState<'a> {
    /// Registry entry.
    pub chain: &'a Chain,
    /// Whether its blocks are simulated.
    pub simulated: bool,
    /// How far it is verified; `None` before its first block.
    pub cursor: Option<chain_cursor::Model>,
    /// Tokens whose contracts contradict the registry, in words.
    pub disabled: Option<String>,
}

impl ChainState<'_> {
    /// Blocks that were seen and are not verified yet.
    pub fn lag(&self) -> Option<u64> {
        let behind = |cursor: &chain_cursor::Model| cursor.head_height.saturating_sub(cursor.height);
        self.cursor.as_ref().map(|cursor| u64::try_from(behind(cursor)).unwrap_or(0))
    }

    /// `ok`, `lagging`, `stalled`, `frozen`, `unreachable`, or `starting`.
    pub fn health(&self) -> &str {
        self.cursor.as_ref().map_or(STARTING, |cursor| cursor.health.as_str())
    }

    /// What is wrong, in words.
    pub fn problem(&self) -> Option<&str> {
        match &self.cursor {
            Some(cursor) => cursor.problem.as_deref().or(self.disabled.as_deref()),
            None => Some("No block of this chain has been seen yet."),
        }
    }
}

/// Every chain in the registry's order.
///
/// # Errors
/// Only failures of the database.
pub async fn list(app: &App) -> Result<Vec<ChainState<'_>>, ApiError> {
    let cursors = chain_cursor::Entity::list(app.database()).await?;
    let mut cursors: BTreeMap<String, _> = cursors.into_iter().map(|cursor| (cursor.chain.clone(), cursor)).collect();
    let said = token_check::Entity::all(app.database()).await?;
    let chains = app.context.registry.chains().iter();
    Ok(chains.map(|chain| state(app, chain, cursors.remove(&chain.slug), &said)).collect())
}

/// One chain by its slug, in any case.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get<'a>(app: &'a App, slug: &str) -> Result<ChainState<'a>, ApiError> {
    let chain = app.chain(slug).ok_or_else(|| ApiError::not_found("blockchain"))?;
    let said = token_check::Entity::all(app.database()).await?;
    Ok(state(app, chain, chain_cursor::Entity::of(app.database(), &chain.slug).await?, &said))
}

/// Whether a chain's blocks are simulated.
pub fn is_simulated(app: &App, chain: &Chain) -> bool {
    matches!(app.config.chains.source(&chain.slug), Some(ChainSource::Simulated))
}

/// What contracts have said about their decimals, by chain and contract.
type Said = BTreeMap<(String, String), i64>;

fn state<'a>(app: &App, chain: &'a Chain, cursor: Option<chain_cursor::Model>, said: &Said) -> ChainState<'a> {
    ChainState { chain, simulated: is_simulated(app, chain), cursor, disabled: disabled(chain, said) }
}

fn disabled(chain: &Chain, said: &Said) -> Option<String> {
    let problems: Vec<String> = chain
        .tokens
        .iter()
        .filter_map(|token| {
            let Asset::Token(contract) = token.asset else { return None };
            let said = *said.get(&(chain.slug.clone(), contract.to_key()))?;
            let differs = said != i64::from(token.decimals);
            differs.then(|| Refusal::token_disabled(chain, token, said).to_string())
        })
        .collect();
    (!problems.is_empty()).then(|| problems.join(" "))
}

#[cfg(test)]
mod tests {
    use cryptopay_test_support::{TestDatabase, on_both_databases};
    use serde_json::json;

    use super::*;
    use crate::error::ErrorCode;
    use crate::operations::shop::{FIRST, Shop, body};
    use crate::rest::types::CreatePaymentOrder;
    use crate::testing::fields;

    on_both_databases!(every_chain_says_how_far_it_is_verified, async |db: TestDatabase| {
        let mut shop = Shop::new(&db).await;
        shop.mine("base", 2).await;
        let base = get(&shop.app, "BASE").await.unwrap();
        assert_eq!((base.lag(), base.health(), base.problem(), base.simulated), (Some(0), "ok", None, true));
        assert_eq!(get(&shop.app, "bsc").await.unwrap().health(), "starting");
        assert_eq!(get(&shop.app, "moon").await.unwrap_err().code, ErrorCode::NotFound);

        let answer = body(crate::operations::shop::get(&shop.app, "/api/blockchains").await).await;
        let chains = answer["results"].as_array().unwrap();
        assert_eq!(answer["count"], chains.len());
        let base = chains.iter().find(|chain| chain["slug"] == "base").unwrap();
        assert_eq!(base["scanned_height"], FIRST + 2);
        assert_eq!((&base["tokens"][0]["native"], &base["tokens"][0]["address"]), (&true.into(), &().into()));
        assert!(base["tokens"].as_array().unwrap().iter().any(|token| token["symbol"] == "USDC"));
    });

    on_both_databases!(
        a_token_whose_contract_contradicts_the_registry_takes_no_new_orders,
        async |db: TestDatabase| {
            let mut shop = Shop::new(&db).await;
            shop.mine("base", 1).await;
            let (principal, _) = shop.merchant("alice").await;
            let usdc = shop.app.chain("base").unwrap().token("USDC").unwrap().clone();
            let Asset::Token(contract) = usdc.asset else { panic!("USDC is a token") };
            let now = cryptopay_entity::clock::database_now(shop.app.database()).await.unwrap();
            for (said, refused) in [(18, true), (usdc.decimals, false)] {
                token_check::Entity::note(shop.app.database(), "base", contract, said, now).await.unwrap();
                let base = get(&shop.app, "base").await.unwrap();
                assert_eq!(base.problem().is_some_and(|problem| problem.contains("says 18 decimals")), refused);
                let order = json!({ "amount": "1.00", "currency": "USDC", "blockchain": "base", "nonce": said, "order_info": "{}" });
                let fields = fields::<CreatePaymentOrder>(order);
                let created =
                    crate::operations::payment_orders::create(&shop.app, &principal, fields, crate::testing::once())
                        .await;
                match created {
                    Ok(_) => assert!(!refused),
                    Err(error) => {
                        assert!(refused && error.message.contains("registry"), "{error:?}");
                        assert_eq!(error.code, ErrorCode::ServiceUnavailable);
                    }
                }
            }
        }
    );
}
