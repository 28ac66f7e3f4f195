//! Chains and tokens, and how far each chain is verified. Public: nothing here belongs to anybody.

use std::collections::BTreeMap;

use cryptopay_domain::address::Asset;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::{chain_cursor, chain_start, clock, token_check};
use cryptopay_ledger::Refusal;

use crate::app::App;
use crate::config::ChainSource;
use crate::error::ApiError;

/// Health of a chain of which no block has been seen yet.
const STARTING: &str = "starting";
/// Health of a chain whose endpoints give no usable answer.
pub(crate) const UNREACHABLE: &str = "unreachable";
/// Health of a chain that began anew.
const RESET: &str = "reset";

/// A chain with its state.
#[derive(Debug, Clone)]
pub struct ChainState<'a> {
    /// Registry entry.
    pub chain: &'a Chain,
    /// Whether its blocks are simulated.
    pub simulated: bool,
    /// How far it is verified; `None` before its first block.
    pub cursor: Option<chain_cursor::Model>,
    /// The reason that it cannot start, while it has no cursor.
    pub start_problem: Option<String>,
    /// Business time, where no endpoint shows new blocks.
    pub unseen_since: Option<Timestamp>,
    /// Tokens whose contracts contradict the registry, in words.
    pub disabled: Option<String>,
}

impl ChainState<'_> {
    /// Blocks that are not verified yet: those that were seen, and while no endpoint shows any, those that the time since
    /// the verified block stands for.
    pub fn lag(&self) -> Option<u64> {
        let cursor = self.cursor.as_ref()?;
        let seen = u64::try_from(cursor.head_height.saturating_sub(cursor.height)).unwrap_or(0);
        let block_time = self.chain.block_time.as_millis().max(1);
        let elapsed = self.unseen_since.map_or(0, |now| now.since(cursor.block_time).as_millis());
        let due = elapsed.checked_div(block_time).and_then(|blocks| u64::try_from(blocks).ok()).unwrap_or(0);
        Some(seen.max(due))
    }

    /// `ok`, `lagging`, `stalled`, `frozen`, `reset`, `unreachable`, or `starting`.
    pub fn health(&self) -> &str {
        match &self.cursor {
            Some(cursor) => &cursor.health,
            None if self.start_problem.is_some() => UNREACHABLE,
            None => STARTING,
        }
    }

    /// What is wrong, in words.
    pub fn problem(&self) -> Option<&str> {
        match &self.cursor {
            Some(cursor) => cursor.problem.as_deref().or(self.disabled.as_deref()),
            None => self.start_problem.as_deref().or(Some("No block of this chain has been seen yet.")),
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
    let mut states = Vec::new();
    for chain in app.context.registry.chains() {
        states.push(state(app, chain, cursors.remove(&chain.slug), &said).await?);
    }
    Ok(states)
}

/// One chain by its slug, in any case.
///
/// # Errors
/// `NOT_FOUND`.
pub async fn get<'a>(app: &'a App, slug: &str) -> Result<ChainState<'a>, ApiError> {
    let chain = app.chain(slug).ok_or_else(|| ApiError::not_found("blockchain"))?;
    let said = token_check::Entity::all(app.database()).await?;
    state(app, chain, chain_cursor::Entity::of(app.database(), &chain.slug).await?, &said).await
}

/// Whether a chain's blocks are simulated.
pub fn is_simulated(app: &App, chain: &Chain) -> bool {
    matches!(app.config.chains.source(&chain.slug), Some(ChainSource::Simulated))
}

/// What contracts have said about their decimals, by chain and contract.
type Said = BTreeMap<(String, String), i64>;

async fn state<'a>(
    app: &App,
    chain: &'a Chain,
    cursor: Option<chain_cursor::Model>,
    said: &Said,
) -> Result<ChainState<'a>, ApiError> {
    let start_problem = match &cursor {
        Some(_) => None,
        None => chain_start::Entity::problem_of(app.database(), &chain.slug).await?,
    };
    let is_unseen = cursor.as_ref().is_some_and(|cursor| [UNREACHABLE, RESET].contains(&cursor.health.as_str()));
    let unseen_since = if is_unseen { Some(clock::business_now(app.database()).await?) } else { None };
    let (simulated, disabled) = (is_simulated(app, chain), disabled(chain, said));
    Ok(ChainState { chain, simulated, cursor, start_problem, unseen_since, disabled })
}

/// The reason that a chain takes no orders, where one is known.
///
/// # Errors
/// Only failures of the database.
pub(crate) async fn closed_because(app: &App, chain: &Chain) -> Result<Option<String>, ApiError> {
    match chain_cursor::Entity::of(app.database(), &chain.slug).await? {
        Some(cursor) => Ok(cursor.problem.filter(|_| cursor.health == RESET)),
        None => Ok(chain_start::Entity::problem_of(app.database(), &chain.slug).await?),
    }
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
    use sea_orm::EntityTrait;
    use sea_orm::sea_query::Expr;
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

    on_both_databases!(a_chain_that_cannot_start_says_why_and_so_does_the_503, async |db: TestDatabase| {
        let mut shop = Shop::new(&db).await;
        shop.mine("base", 1).await;
        let (principal, _) = shop.merchant("alice").await;
        let now = clock::database_now(shop.app.database()).await.unwrap();
        chain_cursor::Entity::delete(shop.app.database(), "base").await.unwrap();
        let reason = "the endpoint's quota is used up".to_owned();
        chain_start::Entity::note(shop.app.database(), "base", reason.clone(), now).await.unwrap();
        let base = get(&shop.app, "base").await.unwrap();
        assert_eq!((base.health(), base.problem(), base.lag()), (UNREACHABLE, Some(reason.as_str()), None));
        let order =
            json!({ "amount": "1.00", "currency": "USDC", "blockchain": "base", "nonce": 1, "order_info": "{}" });
        let fields = fields::<CreatePaymentOrder>(order);
        let created =
            crate::operations::payment_orders::create(&shop.app, &principal, fields, crate::testing::once()).await;
        let error = created.err().unwrap();
        assert_eq!(error.code, ErrorCode::ServiceUnavailable);
        assert!(error.message.contains(&reason), "{}", error.message);
    });

    on_both_databases!(the_lag_of_an_unreachable_chain_grows_with_time, async |db: TestDatabase| {
        let mut shop = Shop::new(&db).await;
        shop.mine("base", 1).await;
        let lag = async || get(&shop.app, "base").await.unwrap().lag().unwrap();
        assert_eq!(lag().await, 0);
        let verified = chain_cursor::Entity::of(shop.app.database(), "base").await.unwrap().unwrap().block_time;
        let hour = std::time::Duration::from_secs(3_600);
        chain_cursor::Entity::update_many()
            .col_expr(chain_cursor::Column::BlockTime, Expr::value(verified.minus(hour)))
            .col_expr(chain_cursor::Column::Health, Expr::value(UNREACHABLE))
            .exec(shop.app.database())
            .await
            .unwrap();
        let block_time = shop.app.chain("base").unwrap().block_time;
        assert!(u128::from(lag().await) >= hour.as_millis() / block_time.as_millis());
    });

    on_both_databases!(
        a_token_whose_contract_contradicts_the_registry_takes_no_new_orders,
        async |db: TestDatabase| {
            let mut shop = Shop::new(&db).await;
            shop.mine("base", 1).await;
            let (principal, _) = shop.merchant("alice").await;
            let usdc = shop.app.chain("base").unwrap().token("USDC").unwrap().clone();
            let Asset::Token(contract) = usdc.asset else { panic!("USDC is a token") };
            let now = clock::database_now(shop.app.database()).await.unwrap();
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
