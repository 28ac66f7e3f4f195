//! Headers that do not hash to their own names. That is a lie, or a chain whose headers have got a shape that we do not know,
//! as after a fork; one endpoint alone cannot tell which.

use std::time::{Duration, Instant};

use cryptopay_domain::address::Hash;

use super::{Endpoint, Endpoints};
use crate::ChainError;

/// Least patience with whoever is asked for a header.
const PATIENCE: Duration = Duration::from_secs(1);

/// What another endpoint shows at a height.
enum Shown {
    /// A header that hashes to its own name.
    Verified,
    /// One that does not, under the same name as the first's.
    TheSame,
    /// Nothing that helps.
    Nothing,
}

impl Endpoints {
    /// Finds out what to make of an endpoint whose header of block `number` does not hash to the name that it `stated`. Where
    /// another one has a header of the same name that we cannot verify either, such headers are taken from both from that
    /// height on. Where another one has a header that hashes, the first one's is made up, and it is in quarantine. Where
    /// nobody else can be asked, the endpoint has to state the same at a later look.
    ///
    /// Says whether the endpoint may be asked again at once.
    pub async fn judge_header(&self, endpoint: &Endpoint, number: u64, stated: Hash) -> bool {
        let mut tried = vec![endpoint.name.clone()];
        while let Some(other) = self.untried(Instant::now(), &tried) {
            tried.push(other.name.clone());
            match show(other, number, stated).await {
                Shown::Verified => {
                    endpoint.contradicted(format!(
                        "its header of block {number} does not hash to {stated}, and that of {} does to its own name",
                        other.name
                    ));
                    return false;
                }
                Shown::TheSame => {
                    other.client.trust_header_hashes(number);
                    return trust(endpoint, number);
                }
                Shown::Nothing => {}
            }
        }
        if self.is_another_near(Instant::now(), endpoint) {
            return false;
        }
        let before = endpoint.standing().note_unverified(number, stated);
        let Some((number, stated)) = before else { return false };
        matches!(show(endpoint, number, stated).await, Shown::TheSame) && trust(endpoint, number)
    }
}

fn trust(endpoint: &Endpoint, from: u64) -> bool {
    endpoint.client.trust_header_hashes(from);
    endpoint.standing().forgive_failure();
    true
}

async fn show(endpoint: &Endpoint, number: u64, stated: Hash) -> Shown {
    let asked = tokio::time::timeout(endpoint.patience(PATIENCE), endpoint.client.blocks(number..=number)).await;
    match asked {
        Ok(Ok(headers)) => match headers.first() {
            Some(header) if header.bloom.is_some() => Shown::Verified,
            Some(header) if header.hash == stated => Shown::TheSame,
            _ => Shown::Nothing,
        },
        Ok(Err(ChainError::HeaderHashMismatch { stated: theirs, .. })) if theirs == stated => Shown::TheSame,
        Ok(Err(_)) | Err(_) => Shown::Nothing,
    }
}
