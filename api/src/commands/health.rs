//! `cryptopay health`: asks the process that listens on `CRYPTOPAY_BIND` of this host how it is, so that a container needs
//! no other program for that.

use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;

use super::{Failure, say};
use crate::config::{Config, Environment, Role};

/// Longest wait for the answer; `/readyz` takes up to two seconds.
const LIMIT: Duration = Duration::from_secs(4);
/// Longest part of an answer that is shown, in characters.
const SHOWN: usize = 1_000;

/// What to ask.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// Ask whether it can do its work (/readyz), not only whether it lives (/healthz)
    #[arg(long)]
    ready: bool,
}

/// Status 0 if the answer is 200.
pub(super) async fn run(options: Health) -> Result<(), Failure> {
    let config = Config::from_env(Role::All, &Environment::of_process())?;
    let mut address = config.bind;
    if address.port() == 0 {
        return Err(Failure::configuration(
            "CRYPTOPAY_BIND: with port 0 nobody but the process knows where it listens; set it to a fixed port",
        ));
    }
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let path = if options.ready { "readyz" } else { "healthz" };
    let client = reqwest::Client::builder().no_proxy().timeout(LIMIT).build().map_err(Failure::other)?;
    let ask = async {
        let answer = client.get(format!("http://{address}/{path}")).send().await?;
        let status = answer.status();
        Ok::<_, reqwest::Error>((status, answer.text().await?))
    };
    let (status, text) = ask.await.map_err(|error| Failure::other(format!("{address} does not answer: {error}")))?;
    let text: String = text.chars().take(SHOWN).collect();
    if status.is_success() {
        say(text);
        return Ok(());
    }
    Err(Failure::other(text))
}
