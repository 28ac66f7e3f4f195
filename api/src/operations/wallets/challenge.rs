//! The text that proves the ownership of a wallet once it is signed.
//!
//! Nothing of it is stored. It names the gateway, the merchant, the wallet, the chain and the address in clear, for the
//! one who signs, and carries a nonce that only this gateway can make of all of these, of the half hour, and of the
//! wallet's last change. So it is good for one wallet of one merchant here, until it expires or the wallet changes; and
//! since a successful proof is a change of the wallet, it is good once.

use cryptopay_domain::address::AccountAddress;
use cryptopay_domain::registry::Chain;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::merchant;
use cryptopay_entity::merchant_wallet::Model;

use crate::app::App;

/// A challenge made in one period is good until the end of the next: half an hour to an hour.
const PERIOD_SECS: i64 = 1_800;

/// A challenge as it is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// What to sign, byte for byte.
    pub text: String,
    /// Until when its signature is taken (database clock).
    pub expires_at: Timestamp,
}

/// What a challenge is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) app: &'a App,
    pub(super) merchant: &'a merchant::Model,
    pub(super) wallet: &'a Model,
    pub(super) chain: &'a Chain,
    pub(super) address: AccountAddress,
}

impl Subject<'_> {
    /// The challenge of this moment.
    pub(super) fn current(&self, now: Timestamp) -> Challenge {
        let period = period_of(now);
        let nonce = self.app.keys.challenges().nonce(&self.bound_to(period));
        Challenge { text: self.text(period, &nonce), expires_at: expiry_of(period) }
    }

    /// Every text whose signature is taken at this moment, newest first.
    pub(super) fn texts(&self, now: Timestamp) -> Vec<String> {
        let newest = period_of(now);
        [newest, newest.saturating_sub(1)]
            .into_iter()
            .flat_map(|period| {
                let nonces = self.app.keys.challenges().nonces(&self.bound_to(period));
                nonces.into_iter().map(move |nonce| self.text(period, &nonce))
            })
            .collect()
    }

    /// Everything that a nonce is of.
    fn bound_to(&self, period: i64) -> String {
        let parts = [
            "wallet ownership".to_owned(),
            self.app.public_url.clone(),
            self.merchant.id.to_string(),
            self.wallet.id.to_string(),
            self.chain.slug.clone(),
            self.chain.chain_id.to_string(),
            self.address.to_key(),
            self.wallet.updated_at.as_micros().to_string(),
            period.to_string(),
        ];
        parts.join("\n")
    }

    fn text(&self, period: i64, nonce: &str) -> String {
        let Self { merchant, wallet, chain, address, .. } = self;
        format!(
            "{} asks you to prove that this wallet is yours.\n\
             \n\
             Account: {}\n\
             Shop: {}\n\
             Wallet: {}\n\
             Blockchain: {} (chain id {})\n\
             Address: {address}\n\
             Nonce: {nonce}\n\
             Expires: {}\n\
             \n\
             Signing moves no money and costs nothing. Sign only if this account is yours: it is paid at this address \
             from then on, and no other account of the gateway.",
            self.app.public_url,
            merchant.username,
            plain(&merchant.shop_name),
            wallet.id,
            chain.name,
            chain.chain_id,
            expiry_of(period),
        )
    }
}

/// A name without what could draw lines of its own into the text, or turn it around.
fn plain(name: &str) -> String {
    let is_odd = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    name.chars().map(|c| if is_odd(c) { ' ' } else { c }).collect()
}

fn period_of(now: Timestamp) -> i64 {
    now.as_secs().div_euclid(PERIOD_SECS)
}

fn expiry_of(period: i64) -> Timestamp {
    let secs = period.saturating_add(2).saturating_mul(PERIOD_SECS);
    Timestamp::from_secs(u64::try_from(secs).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shops_name_cannot_write_lines_of_the_text() {
        assert_eq!(plain("Shop\nAddress: 0x0\u{202e}\u{2028}é"), "Shop Address: 0x0  é");
    }

    #[test]
    fn a_challenge_is_good_for_half_an_hour_at_least_and_an_hour_at_most() {
        for secs in [1_800_000_000, 1_800_000_001, 1_800_001_799] {
            let now = Timestamp::from_secs(secs);
            let good_for = expiry_of(period_of(now)).since(now).as_secs();
            assert!((1_800..=3_600).contains(&good_for), "{good_for}");
        }
    }
}
