//! The connection as apalis-redis gets it: no script of its own leaves our prefix.
//!
//! Its script that registers a worker names one key outright, a list of all queues for a board that we do not have. That
//! key would lie outside `CRYPTOPAY_KEY_PREFIX`: shared with strangers, and forbidden to a user who may use our keys only.
//! So a script is given to Redis with that name under our prefix, and run by the hash that this has made of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::ConnectionLike;
use redis::{Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Script, ServerErrorKind, Value};

use super::link::Link;

/// The key outside.
const OUTSIDE: &str = "\"core:apalis:queues:list\"";

/// A [`Link`] that keeps scripts under the prefix.
#[derive(Clone)]
pub(crate) struct Prefixed {
    link: Link,
    /// What the key is called instead.
    inside: Arc<str>,
    /// Hashes of scripts as apalis-redis knows them, and as Redis does.
    hashes: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Prefixed {
    pub(super) fn new(link: Link, prefix: &str) -> Self {
        Self { link, inside: format!("\"{prefix}queues\"").into(), hashes: Arc::default() }
    }

    fn hash_in_redis(&self, hash: &str) -> Option<String> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    async fn load(&mut self, code: &str) -> RedisResult<Value> {
        let known_as = Script::new(code).get_hash().to_owned();
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(code.replace(OUTSIDE, &self.inside));
        let hash: String = load.query_async(&mut self.link).await?;
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner).insert(known_as.clone(), hash);
        Ok(Value::BulkString(known_as.into_bytes()))
    }
}

impl ConnectionLike for Prefixed {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let text = |argument: Option<Arg<&'a [u8]>>| match argument {
            Some(Arg::Simple(bytes)) => str::from_utf8(bytes).unwrap_or_default(),
            _ => "",
        };
        let mut arguments = cmd.args_iter();
        let (name, first) = (text(arguments.next()), text(arguments.next()));
        match name {
            "EVALSHA" => Box::pin(async move {
                // A script that was not loaded through here may be in Redis with the key outside.
                let hash = self.hash_in_redis(first).ok_or_else(not_loaded)?;
                let mut renamed = redis::cmd(name);
                renamed.arg(hash);
                for argument in arguments {
                    if let Arg::Simple(bytes) = argument {
                        renamed.arg(bytes);
                    }
                }
                self.link.req_packed_command(&renamed).await
            }),
            "SCRIPT" if first.eq_ignore_ascii_case("LOAD") => {
                let code = text(arguments.next());
                Box::pin(self.load(code))
            }
            _ => self.link.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.link.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.link.get_db()
    }
}

impl fmt::Debug for Prefixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prefixed")
    }
}

/// Makes whoever asked load the script and ask again.
fn not_loaded() -> RedisError {
    (ErrorKind::Server(ServerErrorKind::NoScript), "this process has not loaded the script").into()
}
