//! Lets the node of a simulated chain misbehave, to see that nothing is lost by it.

use cryptopay_domain::time::Timestamp;
use cryptopay_sandbox::{FaultError, FaultKind};

use super::{WHOLE_INSTANCE, broken, named, require};
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Fields;

/// A fault that has begun, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFault {
    /// Slug of the chain.
    pub blockchain: String,
    /// What the node does wrong.
    pub kind: FaultKind,
    /// Until when, by the test clock; `None` once it has ended.
    pub until: Option<Timestamp>,
}

/// Gives a simulated chain's node a fault for some time, or ends the one that it has.
///
/// # Errors
/// `NOT_FOUND`; faulty fields; `INVALID_STATE` for a chain that is not simulated.
pub async fn fault(app: &App, slug: &str, mut fields: Fields) -> Result<(NodeFault, String), ApiError> {
    require(app)?;
    let chain = named(app, slug)?;
    let word = fields.trimmed("kind").map(str::to_lowercase);
    let kind = word.and_then(|word| fields.ok("kind", word.parse::<FaultKind>()));
    let seconds = fields.integer("seconds").and_then(|seconds| u64::try_from(seconds).ok());
    fields.finish()?;
    let (Some(kind), Some(seconds)) = (kind, seconds) else { return Err(fields.faulty()) };
    let until = cryptopay_sandbox::fault(app.database(), chain, kind, seconds).await.map_err(|error| match error {
        FaultError::SecondsOutOfRange => ApiError::field("seconds", error.to_string()),
        FaultError::Simulation(error) => broken(error),
    })?;
    app.context.queue.scan(&chain.slug);
    let name = &chain.name;
    let message = match until {
        None => format!("The node of {name} is well. {WHOLE_INSTANCE}"),
        Some(until) => format!(
            "The node of {name} {} until the test clock shows {until}. Blocks are mined all the same, and what they hold is \
             read as soon as the node is well: look at GET /api/blockchains/{}/ meanwhile. To end it earlier, send \
             {{\"seconds\": 0}} with the same kind. {WHOLE_INSTANCE}",
            does(kind),
            chain.slug
        ),
    };
    Ok((NodeFault { blockchain: chain.slug.clone(), kind, until }, fields.message(&message)))
}

/// What a node with this fault does.
fn does(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Down => "answers nothing but HTTP 503",
        FaultKind::Lagging => "has fallen some blocks behind and shows no new ones",
        FaultKind::EmptyLogs => "knows of no logs",
        FaultKind::StaleFinalized => "calls nothing safe or final but the chain's first block",
    }
}
