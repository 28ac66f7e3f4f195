//! From which address the request came that is being served on this task: for the audit log, and nothing is decided by it.

use std::net::IpAddr;

tokio::task_local! {
    static ADDRESS: Option<IpAddr>;
}

/// Runs `work` on behalf of whoever is at this address.
pub(crate) async fn on_behalf_of<T>(address: Option<IpAddr>, work: impl Future<Output = T>) -> T {
    ADDRESS.scope(address, work).await
}

/// On behalf of which address this task works; none for jobs and the command line.
pub(crate) fn address() -> Option<IpAddr> {
    ADDRESS.try_with(|address| *address).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_is_known_to_the_work_done_for_it_and_to_no_other() {
        let one: IpAddr = "203.0.113.9".parse().unwrap();
        assert_eq!(on_behalf_of(Some(one), async { address() }).await, Some(one));
        assert_eq!(address(), None);
    }
}
