//! Which chains are served, and how each is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use cryptopay_chain::BUILT_IN_CHAINS;
use cryptopay_domain::registry::{Chain, Registry, RegistryError};
use url::Url;

use super::environment::Environment;
use super::error::{ConfigError, Problem};
use super::network::entries;
use super::variables::{self as names, RPC_PREFIX, rpc_variable};
use super::words::Mode;

const FORM: &str = "write it in the form of the built-in chains.toml";
const URLS: &str = "set it to a comma list like https://rpc.example/key,wss://rpc.example/key";
/// Most bytes of a registry file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Most URLs of one chain.
const MAX_URLS: usize = 16;

/// The chains that are served.
#[derive(Clone)]
pub struct Chains {
    registry: Registry,
    sources: BTreeMap<String, ChainSource>,
}

/// Where a chain's blocks come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainSource {
    /// Nodes.
    Rpc(RpcEndpoints),
    /// The simulated chain. Never in live mode.
    Simulated,
}

/// A chain's nodes, most trusted first: those of the variable, then those of the registry file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcEndpoints {
    /// `http(s)`: they answer everything. At least one.
    pub http: Vec<SecretUrl>,
    /// `ws(s)`: they tell of new heads, and nothing else.
    pub ws: Vec<SecretUrl>,
}

/// A URL that may hold a provider's key. Prints as its origin.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

impl Chains {
    /// Every chain that is served, without its RPC URLs, so that printing it gives no key away.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Where the blocks of a chain come from; `None` for one that is not served.
    pub fn source(&self, slug: &str) -> Option<&ChainSource> {
        self.sources.get(slug)
    }

    /// Each served chain and where its blocks come from, in the registry's order.
    pub fn served(&self) -> impl Iterator<Item = (&Chain, &ChainSource)> {
        self.registry.chains().iter().filter_map(|chain| Some((chain, self.source(&chain.slug)?)))
    }

    /// Reads the registry file and the RPC variables; with what is odd about them.
    pub(super) fn read(mode: Mode, env: &Environment) -> Result<(Self, Vec<String>), ConfigError> {
        let file = env.text(names::CHAINS)?.map(|path| read_file(Path::new(path))).transpose()?;
        let registry = merged(BUILT_IN_CHAINS, file.as_deref()).map_err(|error| malformed(error, file.as_deref()))?;
        check_names(&registry, env)?;
        let mut sources = BTreeMap::new();
        let mut warnings = Vec::new();
        for chain in registry.chains() {
            match (endpoints(chain, env)?, mode) {
                (Some(endpoints), _) => drop(sources.insert(chain.slug.clone(), ChainSource::Rpc(endpoints))),
                (None, Mode::Sandbox) => drop(sources.insert(chain.slug.clone(), ChainSource::Simulated)),
                (None, Mode::Live) => {
                    let variable = rpc_variable(&chain.slug);
                    warnings.push(format!("{variable}: it is unset, so the chain {} is not served", chain.slug));
                }
            }
        }
        if sources.is_empty() {
            let problem = "none is set, and live mode simulates no chain";
            return Err(ConfigError::new(format!("{RPC_PREFIX}<SLUG>"), problem, known_names(&registry)));
        }
        let served: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
        let strip = |text: &str| stripped(text, &served);
        let registry = strip(BUILT_IN_CHAINS)
            .and_then(|built_in| merged(&built_in, file.as_deref().map(strip).transpose()?.as_deref()))
            .map_err(|error| malformed(error, file.as_deref()))?;
        Ok((Self { registry, sources }, warnings))
    }
}

impl fmt::Debug for Chains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.sources).finish()
    }
}

impl SecretUrl {
    /// The URL itself, to connect with.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

/// Scheme, host and port: enough for a log line to say which node.
impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn merged(built_in: &str, file: Option<&str>) -> Result<Registry, RegistryError> {
    let registry = Registry::parse(built_in)?;
    match file {
        Some(text) => registry.overlay(Registry::parse(text)?),
        None => Ok(registry),
    }
}

/// A registry file's text with the served chains only, and without RPC URLs. Done on the text, since a [`Registry`] comes
/// of nothing else.
fn stripped(text: &str, served: &BTreeSet<&str>) -> Result<String, RegistryError> {
    let mut file: toml::Table = toml::from_str(text)?;
    if let Some(chains) = file.get_mut("chain").and_then(toml::Value::as_array_mut) {
        chains
            .retain(|chain| chain.get("slug").and_then(toml::Value::as_str).is_some_and(|slug| served.contains(slug)));
        for chain in chains.iter_mut().filter_map(toml::Value::as_table_mut) {
            chain.remove("rpc_urls");
        }
    }
    Ok(file.to_string())
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |problem: String| {
        let mend = "set it to a file in the form of chains.toml, or unset it";
        ConfigError::new(names::CHAINS, format!("{} {problem}", path.display()), mend)
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| unreadable(format!("cannot be opened ({error})")))?;
    let read = file.take(MAX_FILE_BYTES.saturating_add(1)).read_to_string(&mut text);
    let bytes = read.map_err(|error| unreadable(format!("cannot be read ({error})")))?;
    if u64::try_from(bytes).is_ok_and(|bytes| bytes <= MAX_FILE_BYTES) {
        return Ok(text);
    }
    Err(unreadable(format!("has more than {MAX_FILE_BYTES} bytes")))
}

fn malformed(error: RegistryError, file: Option<&str>) -> ConfigError {
    let words = match &error {
        RegistryError::Syntax(syntax) => {
            let before = syntax.span().and_then(|span| file?.get(..span.start));
            let line = before.map_or(1, |text| text.matches('\n').count().saturating_add(1));
            format!("line {line}: {}", without_value(syntax.message()))
        }
        RegistryError::Chain { .. } => error.to_string(),
    };
    ConfigError::new(names::CHAINS, words, FORM)
}

/// The parser's words for a value of the wrong type repeat it, and it may be a URL with a key.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((found, expected)) if found.starts_with("invalid ") => format!("expected {expected}"),
        _ => message.to_owned(),
    }
}

/// A variable for a chain that does not exist is a slip that would leave the real one simulated.
fn check_names(registry: &Registry, env: &Environment) -> Result<(), ConfigError> {
    let known: BTreeSet<String> = registry.chains().iter().map(|chain| rpc_variable(&chain.slug)).collect();
    match env.rpc_names().find(|name| !known.contains(*name)) {
        Some(name) => Err(ConfigError::new(name, "there is no such chain", known_names(registry))),
        None => Ok(()),
    }
}

fn known_names(registry: &Registry) -> String {
    let names: Vec<_> = registry.chains().iter().map(|chain| rpc_variable(&chain.slug)).collect();
    format!("set one of {}", names.join(", "))
}

/// The nodes of a chain: the variable's, then the file's, each once.
fn endpoints(chain: &Chain, env: &Environment) -> Result<Option<RpcEndpoints>, ConfigError> {
    let variable = rpc_variable(&chain.slug);
    let mut urls =
        env.parsed(&variable, |text| entries(text)?.map(rpc_url).collect::<Result<Vec<_>, _>>())?.unwrap_or_default();
    for text in &chain.rpc_urls {
        let url = rpc_url(text).map_err(|_| {
            let problem = format!("chain \"{}\": one of its rpc_urls is no http(s) or ws(s) URL", chain.slug);
            ConfigError::new(names::CHAINS, problem, "write URLs like https://rpc.example/key")
        })?;
        urls.push(url);
    }
    if urls.is_empty() {
        return Ok(None);
    }
    if urls.len() > MAX_URLS {
        return Err(ConfigError::new(variable, format!("more than {MAX_URLS} URLs of one chain"), "shorten it"));
    }
    let mut endpoints = RpcEndpoints { http: Vec::new(), ws: Vec::new() };
    for url in urls {
        let list = if url.0.scheme().starts_with("ws") { &mut endpoints.ws } else { &mut endpoints.http };
        if !list.contains(&url) {
            list.push(url);
        }
    }
    if endpoints.http.is_empty() {
        let problem = "ws(s) URLs tell of new blocks only, and there is no http(s) one to read them from";
        return Err(ConfigError::new(variable, problem, "add an https:// URL"));
    }
    Ok(Some(endpoints))
}

fn rpc_url(text: &str) -> Result<SecretUrl, Problem> {
    let url =
        Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https" | "ws" | "wss") && url.has_host());
    url.map(SecretUrl).ok_or_else(|| Problem::secretly("an entry is no http(s) or ws(s) URL", URLS))
}
