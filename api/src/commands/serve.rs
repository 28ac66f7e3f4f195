//! `cryptopay serve`.

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, configure, say};
use crate::config::{Mode, Role};
use crate::gateway::{Gateway, StartError};

/// Serves until SIGTERM or Ctrl-C.
pub(super) async fn run(role: Role) -> Result<(), Failure> {
    let config = configure(role)?;
    let mode = config.mode;
    let mut gateway = Gateway::start(config).await.map_err(start_failure)?;
    tracing::info!(address = %gateway.address, mode = mode.as_str(), role = role.as_str(), "listening");
    say(banner(&gateway, mode, role));
    let outcome = tokio::select! {
        stopped = stop_signal() => stopped.map_err(Failure::other),
        error = gateway.refused() => Err(start_failure(error)),
    };
    tracing::info!("stopping: requests and jobs may finish");
    gateway.stop().await;
    outcome
}

/// What the operator did wrong is status 2; the rest is status 1.
pub(super) fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Webhooks(_) | StartError::Passwords(_) | StartError::Metrics(_) => Failure::other(error),
        _ => Failure::configuration(error),
    }
}

/// Waits until the process is asked to stop.
pub(super) async fn stop_signal() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = tokio::signal::ctrl_c() => outcome,
        _ = terminate.recv() => Ok(()),
    }
}

fn banner(gateway: &Gateway, mode: Mode, role: Role) -> String {
    if role == Role::Worker {
        let (version, mode, address) = (env!("CARGO_PKG_VERSION"), mode.as_str(), gateway.address);
        return format!(
            "CryptoPay {version} works for others and serves on http://{address} /healthz, /readyz and /metrics only ({mode} mode)"
        );
    }
    let base = &gateway.app.public_url;
    let mut lines = vec![
        format!("CryptoPay {} serves on {base} ({} mode)", env!("CARGO_PKG_VERSION"), mode.as_str()),
        format!("  Swagger UI   {base}/docs/"),
        format!("  GraphQL      {base}/graphql   subscriptions: {base}/graphql/ws"),
    ];
    if mode == Mode::Sandbox {
        lines.push("  The first minutes, in another terminal:".to_owned());
        lines.extend(TOUR.iter().map(|line| format!("    {}", line.replace("http://127.0.0.1:8080", base))));
    }
    lines.join("\n")
}

/// The tour of the sandbox, as the README prints it and a test runs it.
pub(crate) const TOUR: [&str; 6] = [
    r#"B=http://127.0.0.1:8080 J='Content-Type: application/json'"#,
    r#"A="Authorization: Bearer $(curl -s $B/api/auth/register -H "$J" -d '{"username":"shop","email":"a@b.example","password":"correct-horse-9","shop_name":"Shop"}' | sed 's/.*"access":"\([^"]*\)".*/\1/')""#,
    r#"curl -s $B/api/merchant-wallets/ -H "$A" -H "$J" -d '{"blockchain":"base","address":"0x00000000000000000000000000000000000000a1"}'"#,
    r#"O=$(curl -s $B/api/payment-orders/ -H "$A" -H "$J" -d '{"amount":"100.00","currency":"USDC","blockchain":"base","order_info":"{\"product\":\"Premium Plan\"}","nonce":1}' | sed 's/.*"order_id":"\([^"]*\)".*/\1/')"#,
    r#"curl -s -X POST $B/api/sandbox/payment-orders/$O/pay/ -H "$A""#,
    r#"curl -s "$B/api/sandbox/webhook-inbox/?event=payment.confirmed&wait=60" -H "$A""#,
];
