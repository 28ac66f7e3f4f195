//! The chains: every endpoint is asked everything that a scan will ask of it, and the endpoints of one chain are compared.

use std::collections::BTreeSet;
use std::time::Duration;

use cryptopay_chain::probe::{self, Findings, Questions, SeenBlock};
use cryptopay_chain::{ChainError, EvmClient, Limits};
use cryptopay_domain::registry::{Chain, FinalityTag};
use cryptopay_domain::time::Timestamp;
use futures_util::future::join_all;
use indicatif::ProgressBar;
use tokio::time::timeout;

use super::database::Known;
use super::report::{Check, Checks};
use super::{host_now, shown};
use crate::config::{ChainSource, Config, Mode, RpcEndpoints, SecretUrl, rpc_variable};

/// Longest wait for one answer of a node.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for all answers of a node.
const NODE_LIMIT: Duration = Duration::from_secs(45);
/// Blocks that a scan asks for at once, where the endpoint lets it.
const WIDEST: u64 = 2_000;
/// A range below this makes catching up slow.
const NARROW: u64 = 100;
/// A batch below this makes catching up dear.
const FEW_CALLS: usize = 10;
/// An endpoint that is slower makes payments seen late.
const SLOW: Duration = Duration::from_secs(1);
/// How old a newest block may be, on a chain with fast blocks.
const OLD_HEAD: Duration = Duration::from_secs(60);
/// How far ahead of our clock a block may be.
const AHEAD: Duration = Duration::from_secs(15);
/// A finality tag that is older says nothing: the scanner does not count it either.
const OLD_TAG: Duration = Duration::from_secs(3_600);
/// A cursor whose lease ended this long ago has no scanner.
const UNSCANNED: Duration = Duration::from_secs(60);

/// What was asked of a chain.
pub(super) struct Asked<'a> {
    chain: &'a Chain,
    nodes: Vec<Node<'a>>,
    sockets: Vec<(&'a SecretUrl, Result<Duration, String>)>,
    is_simulated: bool,
    at: Timestamp,
}

struct Node<'a> {
    url: &'a SecretUrl,
    found: Result<Findings, ChainError>,
    /// A block that should be the same everywhere.
    common: Option<SeenBlock>,
}

/// Asks every endpoint of a chain at once.
pub(super) async fn ask<'a>(chain: &'a Chain, source: &'a ChainSource, progress: &ProgressBar) -> Asked<'a> {
    let ChainSource::Rpc(RpcEndpoints { http, ws }) = source else {
        return Asked { chain, nodes: Vec::new(), sockets: Vec::new(), is_simulated: true, at: host_now() };
    };
    let limits = Limits { timeout: ANSWER_LIMIT, ..Limits::default() };
    let clients = http.iter().map(|url| (url, EvmClient::http(url.expose(), limits)));
    let clients: Vec<(&SecretUrl, Result<EvmClient, ChainError>)> = clients.collect();
    let nodes = clients.iter().map(|(_, client)| async {
        let found = match client {
            Ok(client) => question(client, chain).await,
            Err(error) => Err(ChainError::Endpoint(error.to_string())),
        };
        progress.inc(1);
        found
    });
    let sockets = ws.iter().map(|url| async move {
        let found = probe::probe_socket(url.expose()).await;
        progress.inc(1);
        (url, found)
    });
    let (found, sockets) = tokio::join!(join_all(nodes), join_all(sockets));
    let at = host_now();
    let common = compare(chain, &clients, &found).await;
    let nodes = clients.iter().zip(found).zip(common);
    let nodes = nodes.map(|(((url, _), found), common)| Node { url, found, common }).collect();
    Asked { chain, nodes, sockets, is_simulated: false, at }
}

async fn question(client: &EvmClient, chain: &Chain) -> Result<Findings, ChainError> {
    let questions = Questions { contracts: chain.contracts().collect(), widest: WIDEST };
    match timeout(NODE_LIMIT, probe::probe(client, &questions)).await {
        Ok(found) => found,
        Err(_) => Err(ChainError::TimedOut { after: NODE_LIMIT }),
    }
}

/// The same height asked of each endpoint: as deep as what counts as paid.
async fn compare(
    chain: &Chain,
    clients: &[(&SecretUrl, Result<EvmClient, ChainError>)],
    found: &[Result<Findings, ChainError>],
) -> Vec<Option<SeenBlock>> {
    let of_this_chain = |found: &Result<Findings, ChainError>| match found {
        Ok(found) if found.chain_id == chain.chain_id => Some(found.head.number),
        _ => None,
    };
    let lowest = found.iter().filter_map(of_this_chain).min();
    let height = lowest.map(|lowest| lowest.saturating_sub(u64::from(chain.confirmations)));
    let asked = clients.iter().zip(found).map(|((_, client), found)| async move {
        let (Ok(client), Some(_), Some(height)) = (client, of_this_chain(found), height) else { return None };
        probe::block_at(client, height).await.ok().flatten()
    });
    join_all(asked).await
}

impl Asked<'_> {
    /// What the answers mean.
    pub(super) fn judge(&self, config: &Config, known: Option<&Known>) -> Vec<Check> {
        let slug = &self.chain.slug;
        let variable = rpc_variable(slug);
        let mut checks = Checks::of(format!("chain {slug}"));
        if self.is_simulated {
            checks.good("source", "simulated");
        } else {
            self.endpoints(&variable, &mut checks);
            self.agreement(&variable, &mut checks);
        }
        self.scanner(known, &mut checks);
        let mut all = checks.done();
        let newest =
            self.nodes.iter().filter_map(|node| Some(node.found.as_ref().ok()?.head.number)).max().unwrap_or(0);
        for node in &self.nodes {
            let judge = Judge { config, chain: self.chain, variable: &variable, newest, at: self.at };
            all.extend(judge.node(node));
        }
        for (url, found) in &self.sockets {
            let mut checks = Checks::of(format!("{slug}: {url}"));
            match found {
                Ok(took) => checks.good("new heads", format!("told of, subscribed in {}", shown(*took))),
                Err(words) => checks.wrong(
                    "new heads",
                    words,
                    format!(
                        "correct this URL in {variable}, or leave it out: payments are found without it, a little later"
                    ),
                ),
            }
            all.extend(checks.done());
        }
        all
    }

    fn endpoints(&self, variable: &str, checks: &mut Checks) {
        let hosts: BTreeSet<_> = self.nodes.iter().filter_map(|node| node.url.expose().host_str()).collect();
        match (self.nodes.len(), hosts.len()) {
            (1, _) => checks.warn(
                "endpoints",
                "one only: nobody contradicts it, and nothing is found while it is away",
                format!("add an endpoint of another provider to {variable}"),
            ),
            (count, 1) => checks.warn(
                "endpoints",
                format!("{count}, all of one host: no second opinion"),
                format!("add an endpoint of another provider to {variable}"),
            ),
            (count, _) => checks.good("endpoints", format!("{count} of {} hosts", hosts.len())),
        }
    }

    fn agreement(&self, variable: &str, checks: &mut Checks) {
        let blocks: Vec<(&Node<'_>, SeenBlock)> =
            self.nodes.iter().filter_map(|node| Some((node, node.common?))).collect();
        let Some(((_, first), others)) = blocks.split_first() else { return };
        let other: Vec<String> =
            others.iter().filter(|(_, block)| block.hash != first.hash).map(|(node, _)| node.url.to_string()).collect();
        if !other.is_empty() {
            checks.wrong(
                "agreement",
                format!("{} shows another block {} than the first endpoint", other.join(", "), first.number),
                format!("find out which is right on a block explorer, and take the other out of {variable}"),
            );
        } else if blocks.len() > 1 {
            checks.good("agreement", format!("{} endpoints show the same block {}", blocks.len(), first.number));
        }
    }

    /// Whether somebody scans this chain, and how far.
    fn scanner(&self, known: Option<&Known>, checks: &mut Checks) {
        let Some(known) = known else { return };
        let Some(cursor) = known.cursors.iter().find(|cursor| cursor.chain == self.chain.slug) else {
            match known.starts.iter().find(|start| start.chain == self.chain.slug) {
                Some(start) => {
                    checks.wrong("scanner", format!("cannot start: {}", start.problem), "see the endpoints below");
                }
                None => {
                    checks.good("scanner", "has not begun; `cryptopay serve` (or a worker) begins at the newest block");
                }
            }
            return;
        };
        let behind = cursor.head_height.saturating_sub(cursor.height).max(0);
        let found = format!("verified up to block {}, {behind} behind", cursor.height);
        if cursor.health == "reset" {
            let problem = cursor.problem.as_deref().unwrap_or("the chain was reset");
            checks.wrong("scanner", problem, format!("run `cryptopay chain restart {}`", self.chain.slug));
        } else if cursor.health == "frozen" {
            let mend = "see \"Frozen chains\" in docs/OPERATIONS.md";
            checks.wrong(
                "scanner",
                format!("frozen: {}", cursor.problem.as_deref().unwrap_or("no reason noted")),
                mend,
            );
        } else if known.now.since(cursor.lease_until) > UNSCANNED {
            let mend = "start `cryptopay serve`, with the role worker or all";
            checks.warn("scanner", format!("{found}; nobody scans"), mend);
        } else if cursor.health == "ok" && cursor.problem.is_none() {
            checks.good("scanner", found);
        } else {
            let problem = cursor.problem.as_deref().unwrap_or("no reason noted");
            checks.warn("scanner", format!("{found}; {}: {problem}", cursor.health), "see the endpoints below");
        }
    }
}

/// What one node's answers are judged by.
struct Judge<'a> {
    config: &'a Config,
    chain: &'a Chain,
    variable: &'a str,
    /// Newest block of all endpoints.
    newest: u64,
    at: Timestamp,
}

impl Judge<'_> {
    fn node(&self, node: &Node<'_>) -> Vec<Check> {
        let mut checks = Checks::of(format!("{}: {}", self.chain.slug, node.url));
        match &node.found {
            Err(error) => checks.wrong("reachable", words(error), self.mend(error)),
            Ok(found) if found.chain_id != self.chain.chain_id => checks.wrong(
                "chain id",
                format!("{}, not {}: this endpoint is of another chain", found.chain_id, self.chain.chain_id),
                format!("correct the URL in {}, or chain_id in the file of CRYPTOPAY_CHAINS", self.variable),
            ),
            Ok(found) => {
                checks.good("chain id", found.chain_id.to_string());
                self.way(node.url, &mut checks);
                self.head(found, &mut checks);
                self.capacity(found, &mut checks);
                self.tags(found, &mut checks);
                self.tokens(found, &mut checks);
            }
        }
        checks.done()
    }

    fn way(&self, url: &SecretUrl, checks: &mut Checks) {
        let url = url.expose();
        let is_near = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost" || !name.contains('.'),
            Some(url::Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unique_local(),
            None => false,
        };
        if url.scheme() == "http" && !is_near && self.config.mode == Mode::Live {
            checks.warn(
                "encryption",
                "http: whoever is on the way can invent payments and read the key",
                format!("use https in {}", self.variable),
            );
        }
    }

    fn head(&self, found: &Findings, checks: &mut Checks) {
        let head = &found.head;
        let age = self.at.since(head.time);
        let allowed = OLD_HEAD.max(self.chain.block_time.saturating_mul(10));
        let behind = self.newest.saturating_sub(head.number);
        let place = format!("block {}, {} old", head.number, shown(age));
        let mend = format!("wait until the node has caught up, or take another one into {}", self.variable);
        if head.time.since(self.at) > AHEAD {
            let ahead = head.time.since(self.at);
            let mend = "set this host's clock (chrony, systemd-timesyncd), or ask the provider";
            checks.wrong("newest block", format!("block {} is {} in the future", head.number, shown(ahead)), mend);
        } else if age > allowed && self.config.mode == Mode::Live {
            checks.wrong("newest block", place, mend);
        } else if age > allowed {
            // A node for tests mines when it is told to.
            checks.warn("newest block", place, mend);
        } else if behind > u64::from(self.chain.confirmations) {
            checks.warn("newest block", format!("{place}, {behind} blocks behind another endpoint"), mend);
        } else {
            checks.good("newest block", place);
        }
        if head.is_proven {
            checks.good("headers", "hash to their own names: what it says of blocks can be verified");
        } else {
            let mend = format!("have at least two providers in {}: their words are compared instead", self.variable);
            checks.warn("headers", "have a form that cannot be hashed again here", mend);
        }
    }

    fn capacity(&self, found: &Findings, checks: &mut Checks) {
        if found.latency > SLOW {
            let mend = format!("choose an endpoint that is nearer for {}", self.variable);
            checks.warn("latency", format!("{} an answer", shown(found.latency)), mend);
        } else {
            checks.good("latency", format!("{} an answer", shown(found.latency)));
        }
        match &found.batch {
            Ok(calls) if *calls < FEW_CALLS => {
                let mend =
                    format!("catching up takes many requests: choose another plan or provider for {}", self.variable);
                let found = if *calls <= 1 {
                    "not taken; calls are sent one by one".to_owned()
                } else {
                    format!("{calls} calls at once")
                };
                checks.warn("batches", found, mend);
            }
            Ok(calls) => checks.good("batches", format!("{calls} calls at once")),
            Err(error) => checks.wrong("batches", words(error), self.mend(error)),
        }
        match &found.range {
            Ok(blocks) if *blocks < NARROW.min(found.head.number) => {
                let mend = format!(
                    "after a pause it catches up slowly: choose another plan or provider for {}",
                    self.variable
                );
                checks.warn("eth_getLogs", format!("{blocks} blocks at once"), mend);
            }
            Ok(blocks) => checks.good("eth_getLogs", format!("{blocks} blocks at once")),
            Err(error) => checks.wrong("eth_getLogs", words(error), self.mend(error)),
        }
        match &found.receipts {
            Ok(true) => checks.good("receipts", "of whole blocks, by eth_getBlockReceipts"),
            Ok(false) => checks.good("receipts", "one by one; eth_getBlockReceipts is not offered"),
            Err(error) => checks.warn("receipts", words(error), self.mend(error)),
        }
    }

    fn tags(&self, found: &Findings, checks: &mut Checks) {
        for (tag, name, block) in
            [(FinalityTag::Safe, "tag safe", &found.safe), (FinalityTag::Finalized, "tag finalized", &found.finalized)]
        {
            let is_used = self.chain.finality == Some(tag);
            let without = format!("payments are confirmed by {} blocks of depth instead", self.chain.confirmations);
            match block {
                Ok(Some(block)) => {
                    let age = found.head.time.since(block.time);
                    let place = format!("{} blocks below the newest", found.head.number.saturating_sub(block.number));
                    if is_used && age > OLD_TAG {
                        checks.warn(name, format!("{place}: it stands still"), without);
                    } else {
                        checks.good(name, place);
                    }
                }
                Ok(None) if is_used => checks.warn(name, "not offered, though this chain's entry uses it", without),
                Ok(None) => checks.good(name, "not offered, and not needed"),
                Err(error) if is_used => checks.warn(name, words(error), without),
                Err(_) => checks.good(name, "not offered, and not needed"),
            }
        }
    }

    fn tokens(&self, found: &Findings, checks: &mut Checks) {
        let mut right = Vec::new();
        for (contract, decimals) in &found.decimals {
            let asset = cryptopay_domain::address::Asset::Token(*contract);
            let Some(token) = self.chain.token_of(asset) else { continue };
            match decimals {
                Ok(decimals) if *decimals == token.decimals => right.push(token.symbol.as_str()),
                Ok(decimals) => checks.wrong(
                    "tokens",
                    format!("{} has {decimals} decimals, but {} in the registry", token.symbol, token.decimals),
                    "correct the entry in the file of CRYPTOPAY_CHAINS: amounts would be wrong by powers of ten",
                ),
                Err(error) => checks.wrong(
                    "tokens",
                    format!("{}: its contract does not say its decimals ({})", token.symbol, words(error)),
                    "check the contract's address in the registry: is there a contract on this very chain?",
                ),
            }
        }
        if !right.is_empty() {
            checks.good("tokens", format!("{}: decimals as registered", right.join(", ")));
        }
    }

    fn mend(&self, error: &ChainError) -> String {
        let variable = self.variable;
        match error {
            ChainError::Unreachable(_) | ChainError::TimedOut { .. } => {
                format!("check that the node runs, its host and port in {variable}, and firewalls")
            }
            ChainError::Refused { .. } => format!("check path and key of this URL in {variable}"),
            ChainError::QuotaUsed => {
                format!("raise the plan, wait until it is renewed, or add another provider to {variable}")
            }
            ChainError::RateLimited { .. } => "use a larger plan, or add endpoints of other providers".to_owned(),
            ChainError::Unavailable { .. } => "ask the provider, or wait; other endpoints take over".to_owned(),
            ChainError::MethodMissing { .. }
            | ChainError::RangeTooLarge { .. }
            | ChainError::LogsRefused { .. }
            | ChainError::BatchTooLarge { .. } => {
                format!("scanning needs it: choose another plan or provider for {variable}")
            }
            _ => format!("this is no node that can be relied on: choose another one for {variable}"),
        }
    }
}

/// An error with what is behind it.
fn words(error: &ChainError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
