//! Where the truth is, a SQLite file or a PostgreSQL database, and where processes meet, a Redis.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::error::Problem;

const MEND: &str = "set it to something like sqlite://data/cryptopay.db or postgres://user:password@host/database";

/// Which database, and how to reach it.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// A file, which is made if it is missing.
    Sqlite(PathBuf),
    /// A server; the URL holds a password.
    Postgres(SecretString),
}

impl DatabaseUrl {
    /// The URL to connect with. A missing SQLite file is made, a missing folder is not.
    pub fn connect_url(&self) -> SecretString {
        match self {
            // The driver decodes the path, so that a name may hold what else would begin a query.
            Self::Sqlite(path) => {
                let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
                format!("sqlite://{path}?mode=rwc").into()
            }
            Self::Postgres(url) => url.clone(),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(url) => {
                let place = Url::parse(url.expose_secret()).ok();
                let host = place.as_ref().and_then(Url::host_str).unwrap_or_default();
                f.debug_tuple("Postgres").field(&host).finish()
            }
        }
    }
}

pub(super) fn parse(text: &str) -> Result<DatabaseUrl, Problem> {
    if let Some(rest) = text.strip_prefix("sqlite:") {
        return sqlite(rest.strip_prefix("//").unwrap_or(rest));
    }
    let url = Url::parse(text).map_err(|error| {
        let mend = format!("{MEND}, with other than letters and digits in the password percent-encoded");
        Problem::secretly(format!("it is no URL ({error})"), mend)
    })?;
    match url.scheme() {
        "postgres" | "postgresql" => Ok(DatabaseUrl::Postgres(text.into())),
        _ => Err(Problem::secretly("it names neither SQLite nor PostgreSQL", MEND)),
    }
}

/// Where processes meet: a Redis. The URL may hold a password.
#[derive(Clone)]
pub struct RedisUrl(SecretString);

impl RedisUrl {
    /// The URL to connect with.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = Url::parse(self.expose()).ok();
        f.debug_tuple("RedisUrl").field(&place.as_ref().and_then(Url::host_str).unwrap_or_default()).finish()
    }
}

/// Understood as far as a URL goes; the rest is found out by whoever connects.
pub(super) fn parse_redis(text: &str) -> Result<RedisUrl, Problem> {
    const MEND: &str = "set it to something like redis://:password@host:6379/0 (rediss:// with TLS), or unset it to run \
                        everything in one process";
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
    let url = url.ok_or_else(|| Problem::secretly("it is no redis:// or rediss:// URL", MEND))?;
    let number = url.path().trim_start_matches('/');
    if !number.is_empty() && number.parse::<u16>().is_err() {
        return Err(Problem::secretly("what follows the host is no number of a database", MEND));
    }
    cryptopay_jobs::Redis::new(text, "").map_err(|error| Problem::secretly(error.to_string(), MEND))?;
    Ok(RedisUrl(text.into()))
}

fn sqlite(rest: &str) -> Result<DatabaseUrl, Problem> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path == ":memory:" || query.split('&').any(|pair| pair == "mode=memory") {
        let problem = "a database in memory forgets at the end of the process what customers have paid";
        return Err(Problem::secretly(problem, "name a file, such as sqlite://data/cryptopay.db"));
    }
    if !matches!(query, "" | "mode=rwc" | "mode=rw") {
        return Err(Problem::secretly("options after ? are not understood", "leave out the ? and what follows it"));
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(Problem::secretly("it names no file", MEND));
    }
    decoded(path).map(|path| DatabaseUrl::Sqlite(path.into())).ok_or_else(|| {
        Problem::secretly("it has a % that begins no percent-encoded letter", "write %25 for a % in the file's name")
    })
}

/// Undoes percent-encoding.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut parts = path.split('%');
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())??);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_understood_in_every_common_form() {
        for (text, path) in [
            ("sqlite://data/cryptopay.db", "data/cryptopay.db"),
            ("sqlite:///var/lib/pay.db", "/var/lib/pay.db"),
            ("sqlite:pay.db?mode=rwc", "pay.db"),
            ("sqlite://what%3F.db", "what?.db"),
        ] {
            let Ok(DatabaseUrl::Sqlite(found)) = parse(text) else { panic!("{text}") };
            assert_eq!(found, PathBuf::from(path));
        }
    }

    #[test]
    fn any_file_name_survives_the_way_to_the_driver() {
        let url = DatabaseUrl::Sqlite("100% sure?#.db".into()).connect_url();
        assert_eq!(url.expose_secret(), "sqlite://100%25 sure%3F%23.db?mode=rwc");
        let Ok(DatabaseUrl::Sqlite(path)) = parse(url.expose_secret()) else { panic!("not read") };
        assert_eq!(path, PathBuf::from("100% sure?#.db"));
    }

    #[test]
    fn a_server_is_printed_without_user_and_password() {
        let database = parse("postgresql://paul:hunter2@db.example:5432/pay").unwrap();
        assert_eq!(format!("{database:?}"), "Postgres(\"db.example\")");
        assert!(database.connect_url().expose_secret().contains("hunter2"));
        let redis = parse_redis("rediss://paul:hunter2@cache.example:6380/3").unwrap();
        assert_eq!(format!("{redis:?}"), "RedisUrl(\"cache.example\")");
        assert!(redis.expose().contains("hunter2"));
    }
}
