//! What the configuration reads, and everything that it refuses.

use std::fs;

use secrecy::ExposeSecret;

use super::*;

/// The 32 bytes 0 to 31.
const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const LIVE: [(&str, &str); 4] = [
    ("CRYPTOPAY_MODE", "live"),
    ("CRYPTOPAY_PUBLIC_URL", "https://pay.example.com/"),
    ("CRYPTOPAY_SECRET", SECRET),
    ("CRYPTOPAY_RPC_BASE", "https://rpc.example/hunter2"),
];

fn read(role: Role, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_env(role, &variables.iter().copied().collect())
}

fn config(variables: &[(&str, &str)]) -> Config {
    read(Role::All, variables).unwrap()
}

fn refusal(variables: &[(&str, &str)]) -> String {
    read(Role::All, variables).unwrap_err().to_string()
}

/// Live mode with one variable set otherwise.
fn live_with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    LIVE.into_iter().filter(|(other, _)| *other != name).chain([(name, value)]).collect()
}

#[test]
fn with_nothing_set_everything_runs_in_one_sandbox_process() {
    let config = config(&[]);
    assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
    assert_eq!((config.mode, config.registration), (Mode::Sandbox, Registration::Open));
    assert_eq!(config.database.connect_url().expose_secret(), "sqlite://./data/cryptopay.db?mode=rwc");
    assert_eq!(config.key_prefix, "cryptopay:");
    assert_eq!(config.webhook_allow, ["127.0.0.0/8", "::1/128"].map(|net| net.parse().unwrap()));
    assert_eq!((config.trusted_proxies.len(), &config.cors_origins), (0, &CorsOrigins::Any));
    assert_eq!((config.log_filter.as_str(), config.log_format), ("info", LogFormat::Text));
    assert!(config.secret.is_none() && config.secret_previous.is_none() && config.public_url.is_none());
    assert_eq!(config.chains.served().count(), 5);
    assert!(config.chains.served().all(|(_, source)| *source == ChainSource::Simulated));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn live_mode_is_closed_and_serves_the_chains_with_nodes_only() {
    let config = config(&LIVE);
    assert_eq!((config.mode, config.registration), (Mode::Live, Registration::Closed));
    assert_eq!((config.webhook_allow.len(), &config.cors_origins), (0, &CorsOrigins::Listed(Vec::new())));
    let served: Vec<_> = config.chains.served().map(|(chain, _)| chain.slug.as_str()).collect();
    assert_eq!(served, ["base"]);
    assert_eq!(config.chains.registry().chains().len(), 1);
    assert!(config.chains.registry().chain("ethereum").is_none() && config.chains.source("ethereum").is_none());
    assert_eq!(config.warnings.len(), 4);
    assert_eq!(config.warnings[0], "CRYPTOPAY_RPC_ETHEREUM: it is unset, so the chain ethereum is not served");
    assert_eq!(config.secret_or_generated([9; 32]).unwrap().expose_secret()[..3], [0, 1, 2]);
}

#[test]
fn live_mode_warns_of_payment_pages_that_anybody_can_change() {
    let warnings = config(&live_with("CRYPTOPAY_PUBLIC_URL", "http://pay.example.com")).warnings;
    assert!(warnings.iter().any(|line| line.starts_with("CRYPTOPAY_PUBLIC_URL: ")), "{warnings:?}");
}

#[test]
fn every_refusal_names_its_variable_and_the_mend_and_no_secret() {
    for (variables, start, mend) in [
        (vec![("CRYPTOPAY_BIND", "foo")], "CRYPTOPAY_BIND: \"foo\" is no address", "127.0.0.1:8080"),
        (vec![("CRYPTOPAY_BIND", "localhost:8080")], "CRYPTOPAY_BIND: ", "127.0.0.1:8080"),
        (vec![("CRYPTOPAY_BIND", "127.0.0.1")], "CRYPTOPAY_BIND: ", "127.0.0.1:8080"),
        (vec![("CRYPTOPAY_BIND", "127.0.0.1:65536")], "CRYPTOPAY_BIND: ", "127.0.0.1:8080"),
        (vec![("CRYPTOPAY_PUBLIC_URL", "pay.example.com")], "CRYPTOPAY_PUBLIC_URL: ", "https://pay.example.com"),
        (vec![("CRYPTOPAY_PUBLIC_URL", "ftp://pay.example.com")], "CRYPTOPAY_PUBLIC_URL: ", "https://pay"),
        (vec![("CRYPTOPAY_PUBLIC_URL", "https://u:hunter2@pay.example")], "CRYPTOPAY_PUBLIC_URL: ", "https://pay"),
        (vec![("CRYPTOPAY_PUBLIC_URL", "https://pay.example/?a=1")], "CRYPTOPAY_PUBLIC_URL: ", "https://pay"),
        (vec![("CRYPTOPAY_MODE", "production")], "CRYPTOPAY_MODE: \"production\" is neither", "sandbox or live"),
        (vec![("DATABASE_URL", "mysql://paul:hunter2@db/pay")], "DATABASE_URL: ", "sqlite://"),
        (vec![("DATABASE_URL", "hunter2")], "DATABASE_URL: ", "percent-encoded"),
        (vec![("DATABASE_URL", "sqlite::memory:")], "DATABASE_URL: ", "name a file"),
        (vec![("DATABASE_URL", "sqlite://x.db?mode=memory")], "DATABASE_URL: ", "name a file"),
        (vec![("DATABASE_URL", "sqlite://x.db?cache=hunter2")], "DATABASE_URL: ", "leave out the ?"),
        (vec![("DATABASE_URL", "sqlite://")], "DATABASE_URL: it names no file", "sqlite://"),
        (vec![("DATABASE_URL", "sqlite://50%.db")], "DATABASE_URL: ", "%25"),
        (vec![("DATABASE_URL", "sqlite://%+1.db")], "DATABASE_URL: ", "%25"),
        (vec![("REDIS_URL", "hunter2")], "REDIS_URL: it is no redis://", "redis://:password@host:6379/0"),
        (vec![("REDIS_URL", "http://:hunter2@cache")], "REDIS_URL: it is no redis://", "unset it"),
        (vec![("REDIS_URL", "redis://:hunter2@cache/pay")], "REDIS_URL: what follows the host", "unset it"),
        (vec![("CRYPTOPAY_KEY_PREFIX", "pay*")], "CRYPTOPAY_KEY_PREFIX: \"pay*\" ", "cryptopay:"),
        (vec![("CRYPTOPAY_SECRET", "hunter2!")], "CRYPTOPAY_SECRET: it is no base64", "openssl rand -base64 32"),
        (vec![("CRYPTOPAY_SECRET", "aHVudGVyMg==")], "CRYPTOPAY_SECRET: it has 7 bytes, fewer than 32", "openssl"),
        (vec![("CRYPTOPAY_SECRET", &"A".repeat(44))], "CRYPTOPAY_SECRET: it looks like a placeholder", "openssl"),
        (vec![("CRYPTOPAY_SECRET", &"Ab/9".repeat(300))], "CRYPTOPAY_SECRET: it is no base64 of at most", "openssl"),
        (vec![("CRYPTOPAY_SECRET_PREVIOUS", "x")], "CRYPTOPAY_SECRET_PREVIOUS: ", "openssl"),
        (
            vec![("CRYPTOPAY_SECRET", SECRET), ("CRYPTOPAY_SECRET_PREVIOUS", SECRET)],
            "CRYPTOPAY_SECRET_PREVIOUS: it is the same",
            "unset it",
        ),
        (vec![("CRYPTOPAY_REGISTRATION", "maybe")], "CRYPTOPAY_REGISTRATION: \"maybe\" ", "open or closed"),
        (vec![("CRYPTOPAY_CHAINS", "/no/such/file")], "CRYPTOPAY_CHAINS: /no/such/file cannot be opened", "unset it"),
        (vec![("CRYPTOPAY_CHAINS", "/")], "CRYPTOPAY_CHAINS: / cannot be read", "unset it"),
        (
            vec![("CRYPTOPAY_RPC_BSAE", "https://h")],
            "CRYPTOPAY_RPC_BSAE: there is no such chain",
            "CRYPTOPAY_RPC_BASE,",
        ),
        (vec![("CRYPTOPAY_RPC_BASE", "rpc.example/hunter2")], "CRYPTOPAY_RPC_BASE: an entry is no http(s)", "https://"),
        (vec![("CRYPTOPAY_RPC_BASE", "https://h,ipc:///hunter2")], "CRYPTOPAY_RPC_BASE: an entry is no", "https://"),
        (vec![("CRYPTOPAY_RPC_BASE", "wss://h/hunter2")], "CRYPTOPAY_RPC_BASE: ws(s) URLs tell", "add an https://"),
        (vec![("CRYPTOPAY_RPC_BASE", &many_urls())], "CRYPTOPAY_RPC_BASE: more than 16", "shorten it"),
        (vec![("CRYPTOPAY_WEBHOOK_ALLOW", "10.0.0.0/33")], "CRYPTOPAY_WEBHOOK_ALLOW: \"10.0.0.0/33\" ", "10.0.0.0/8"),
        (vec![("CRYPTOPAY_TRUSTED_PROXIES", "nginx")], "CRYPTOPAY_TRUSTED_PROXIES: \"nginx\" ", "10.0.0.0/8"),
        (vec![("CRYPTOPAY_TRUSTED_PROXIES", &"::1,".repeat(300))], "CRYPTOPAY_TRUSTED_PROXIES: ", "shorten it"),
        (
            vec![("CRYPTOPAY_CORS_ORIGINS", "https://a.example/shop")],
            "CRYPTOPAY_CORS_ORIGINS: ",
            "https://shop.example",
        ),
        (vec![("CRYPTOPAY_CORS_ORIGINS", "*,https://a.example")], "CRYPTOPAY_CORS_ORIGINS: \"*\" ", "* alone"),
        (vec![("CRYPTOPAY_CORS_ORIGINS", "null")], "CRYPTOPAY_CORS_ORIGINS: \"null\" ", "* alone"),
        (vec![("CRYPTOPAY_LOG", "info,=loud=")], "CRYPTOPAY_LOG: ", "info,"),
        (vec![("CRYPTOPAY_LOG_FORMAT", "xml")], "CRYPTOPAY_LOG_FORMAT: \"xml\" is neither", "text or json"),
        (vec![("CRYPTOPAY_LOG", &"x".repeat(70_000))], "CRYPTOPAY_LOG: it is longer than", "shorten it"),
        (live_with("CRYPTOPAY_PUBLIC_URL", ""), "CRYPTOPAY_PUBLIC_URL: it is missing", "https://pay.example.com"),
        (live_with("CRYPTOPAY_SECRET", ""), "CRYPTOPAY_SECRET: it is missing", "openssl"),
        (live_with("CRYPTOPAY_RPC_BASE", ""), "CRYPTOPAY_RPC_<SLUG>: none is set", "CRYPTOPAY_RPC_BASE,"),
        (live_with("CRYPTOPAY_WEBHOOK_ALLOW", "10.0.0.0/8"), "CRYPTOPAY_WEBHOOK_ALLOW: live mode", "unset it"),
    ] {
        let line = refusal(&variables);
        assert!(line.starts_with(start) && line.contains(mend), "{line}");
        assert!(line.starts_with(&format!("{}: ", read(Role::All, &variables).unwrap_err().name())), "{line}");
        assert!(!line.contains("hunter2") && !line.contains(SECRET) && !line.contains('\n'), "{line}");
        assert!(line.len() < 400, "{line}");
    }
}

fn many_urls() -> String {
    (0..17).map(|number| format!("https://{number}.example")).collect::<Vec<_>>().join(",")
}

#[test]
fn a_role_of_its_own_says_what_it_lacks() {
    let postgres = ("DATABASE_URL", "postgres://paul:hunter2@db/pay");
    let redis = ("REDIS_URL", "redis://:hunter2@cache");
    for role in [Role::Api, Role::Worker] {
        for (variables, start, mend) in [
            (vec![], "DATABASE_URL: it is SQLite", "postgres://"),
            (vec![redis], "DATABASE_URL: it is SQLite", "use --role all"),
            (vec![postgres], "REDIS_URL: it is unset", "redis://:password@host:6379/0, or use --role all"),
        ] {
            let line = read(role, &variables).unwrap_err().to_string();
            assert!(line.starts_with(start) && line.contains(mend), "{line}");
            assert!(line.contains(&format!("--role {}", role.as_str())) && !line.contains("hunter2"), "{line}");
        }
        assert!(read(role, &[postgres, redis]).unwrap().redis.is_some());
    }
    for variables in [vec![], vec![postgres], vec![redis], vec![postgres, redis]] {
        assert_eq!(config(&variables).redis.is_some(), variables.contains(&redis));
    }
}

#[test]
fn links_begin_with_the_public_url_or_with_where_we_listen() {
    let listening = |text: &str| text.parse().unwrap();
    let unset = config(&[]);
    assert_eq!(unset.public_base(listening("127.0.0.1:4711")), "http://127.0.0.1:4711");
    assert_eq!(unset.public_base(listening("0.0.0.0:4711")), "http://127.0.0.1:4711");
    assert_eq!(unset.public_base(listening("[::]:4711")), "http://127.0.0.1:4711");
    assert_eq!(unset.public_base(listening("[::1]:80")), "http://[::1]:80");
    let set = config(&[("CRYPTOPAY_PUBLIC_URL", "https://Pay.example.com/shop/")]);
    assert_eq!(set.public_base(listening("0.0.0.0:1")), "https://pay.example.com/shop");
}

#[test]
fn nodes_of_the_variable_come_before_those_of_the_file_and_each_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chains.toml");
    fs::write(&file, OVERLAY).unwrap();
    let config = config(&[
        ("CRYPTOPAY_CHAINS", file.to_str().unwrap()),
        ("CRYPTOPAY_RPC_MY_CHAIN", "https://one.example/hunter2, wss://one.example/hunter2,https://two.example"),
    ]);
    let Some(ChainSource::Rpc(endpoints)) = config.chains.source("my-chain") else { panic!("not served") };
    let paths = |urls: &[SecretUrl]| urls.iter().map(|url| url.expose().to_string()).collect::<Vec<_>>();
    assert_eq!(
        paths(&endpoints.http),
        ["https://one.example/hunter2", "https://two.example/", "https://three.example/hunter2"]
    );
    assert_eq!(paths(&endpoints.ws), ["wss://one.example/hunter2"]);
    assert_eq!(config.chains.served().count(), 6);
    let chain = config.chains.registry().chain("my-chain").unwrap();
    assert_eq!((chain.chain_id, chain.rpc_urls.len()), (4711, 0));
    assert!(!format!("{config:?} {:?}", config.chains.registry()).contains("hunter2"));
}

const OVERLAY: &str = r#"
[[chain]]
slug = "my-chain"
name = "Mine"
chain_id = 4711
block_time_ms = 1000
confirmations = 1
reorg_depth = 8
rpc_urls = ["https://two.example", "https://three.example/hunter2"]
native = { symbol = "ME", decimals = 18 }
"#;

#[test]
fn a_registry_file_is_refused_with_the_line_and_without_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chains.toml");
    for (from, to, start) in [
        ("chain_id = 4711", "chain_id = \"x\"", "CRYPTOPAY_CHAINS: line 5: expected u64"),
        ("name =", "colour = 1\nname =", "CRYPTOPAY_CHAINS: line 4: unknown field"),
        ("confirmations = 1", "confirmations = 0", "CRYPTOPAY_CHAINS: chain \"my-chain\": confirmations"),
        ("[\"https://two.example\", ", "hunter2", "CRYPTOPAY_CHAINS: line 9: "),
        ("rpc_urls = [", "rpc_urls = \"hunter2\" #", "CRYPTOPAY_CHAINS: line 9: expected a sequence"),
        ("https://three.example", "three.example", "CRYPTOPAY_CHAINS: chain \"my-chain\": one of its rpc_urls"),
        ("[[chain]]", "", "CRYPTOPAY_CHAINS: line 6: unknown field"),
        ("\"ME\"", "\"\"", "CRYPTOPAY_CHAINS: chain \"my-chain\": symbol"),
    ] {
        fs::write(&file, OVERLAY.replacen(from, to, 1)).unwrap();
        let line = refusal(&[("CRYPTOPAY_CHAINS", file.to_str().unwrap())]);
        assert!(line.starts_with(start) && !line.contains("hunter2") && !line.contains('\n'), "{line}");
    }
    fs::write(&file, " ".repeat(1_100_000)).unwrap();
    let line = refusal(&[("CRYPTOPAY_CHAINS", file.to_str().unwrap())]);
    assert!(line.contains("has more than 1048576 bytes"), "{line}");
}

#[test]
fn the_generated_secret_is_for_the_sandbox_and_a_set_one_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = ("CRYPTOPAY_DATA_DIR", folder.path().to_str().unwrap());
    let entropy = std::array::from_fn(|index| u8::try_from(index).unwrap() + 100);
    let set = config(&[data_dir, ("CRYPTOPAY_SECRET", SECRET)]).secret_or_generated(entropy).unwrap();
    assert_eq!(set.expose_secret()[..2], [0, 1]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let generated = config(&[data_dir]).secret_or_generated(entropy).unwrap();
    assert_eq!(generated.expose_secret(), entropy);
}

#[test]
fn nothing_that_is_secret_is_printed() {
    let variables = [
        ("DATABASE_URL", "postgres://paul:hunter2@db/pay"),
        ("REDIS_URL", "rediss://paul:hunter2@cache/1"),
        ("CRYPTOPAY_SECRET", SECRET),
        ("CRYPTOPAY_RPC_BASE", "https://paul:hunter2@rpc.example/hunter2?key=hunter2,wss://rpc.example/hunter2"),
        ("CRYPTOPAY_SECRT", "hunter2"),
    ];
    let config = config(&variables);
    let printed = format!("{config:#?} {:?} {:?}", config.warnings, config.chains);
    assert!(!printed.contains("hunter2") && !printed.contains("paul"), "{printed}");
    assert!(!printed.contains(SECRET) && !printed.contains("1, 2, 3"), "{printed}");
    assert!(printed.contains("https://rpc.example"), "{printed}");
}

#[test]
fn every_variable_stands_in_the_sample_with_its_default_and_a_line_about_it() {
    let sample = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../.env.sample"));
    let mut expected = Vec::new();
    for variable in VARIABLES {
        if variable.name == "CRYPTOPAY_RPC_<SLUG>" {
            let chains = cryptopay_chain::built_in_registry().unwrap();
            expected.extend(chains.chains().iter().map(|chain| format!("#{}=", rpc_variable(&chain.slug))));
        } else {
            expected.push(format!("#{}={}", variable.name, variable.default));
        }
    }
    let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains('=');
    let lines: Vec<_> = sample.lines().collect();
    assert_eq!(lines.iter().filter(|line| is_setting(line)).copied().collect::<Vec<_>>(), expected);
    for pair in lines.windows(2).filter(|pair| is_setting(pair[1])) {
        let explained = pair[0].starts_with("# ") || pair[0].starts_with("#CRYPTOPAY_RPC_");
        assert!(explained, "{} has no line about it", pair[1]);
    }
}

#[test]
fn the_sample_taken_as_it_stands_means_the_same_as_no_sample() {
    let sample = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../.env.sample"));
    let set: Vec<_> = sample
        .lines()
        .filter(|line| line.starts_with('#') && !line.starts_with("# "))
        .filter_map(|line| line.strip_prefix('#')?.split_once('='))
        .filter(|(name, _)| *name != "CRYPTOPAY_PUBLIC_URL" && *name != "DATABASE_URL")
        .collect();
    assert_eq!(format!("{:?}", config(&set)), format!("{:?}", config(&[])));
}
