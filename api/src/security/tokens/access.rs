//! Access tokens: JWTs, signed with HMAC-SHA256 and checked as RFC 8725 asks.
//!
//! One algorithm, one issuer, one audience, one type; a header that says anything more than ours do (a key of its own, a
//! URL to fetch one from, critical extensions, compression) is refused unread. The time is the caller's, since tokens
//! follow the database's clock. That the login still stands is the caller's to ask.

use std::fmt;
use std::time::Duration;

use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use data_encoding::HEXLOWER;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::{ACCESS_LIFETIME, FamilyId};
use crate::security::entropy;
use crate::security::keys::{DerivedKey, KeyRing};

const ISSUER: &str = "cryptopay";
const AUDIENCE: &str = "cryptopay-api";
/// RFC 9068's type for access tokens: no other kind of JWT passes for one.
const TYPE: &str = "at+jwt";
/// Ours have about 400 characters.
const MAX_TOKEN_CHARS: usize = 2_048;
/// How far the clocks of two databases may be apart after one took over from the other. For `nbf` only: a token ends on
/// the second.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(5);

/// Signs with the current secret's key and accepts the current or the previous one's.
pub struct AccessTokens {
    encoding: EncodingKey,
    current_id: String,
    decoding: Vec<(String, DecodingKey)>,
    validation: Validation,
}

/// What a checked access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessClaims {
    /// Who.
    pub merchant: MerchantId,
    /// By which login.
    pub family: FamilyId,
    /// The token's own id.
    pub token_id: String,
    /// Since when (whole seconds).
    pub issued_at: Timestamp,
    /// Until when (whole seconds); at this moment it is over.
    pub expires_at: Timestamp,
}

/// Why an access token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was ours, and it is over.
    #[error("the access token has expired")]
    Expired,
    /// Not one of ours, or not yet.
    #[error("this is no access token of this gateway")]
    Invalid,
}

/// A token could not be signed: the library refused the claims or the key. It never does.
#[derive(Debug, thiserror::Error)]
#[error("the access token could not be signed: {0}")]
pub struct SignError(#[from] jsonwebtoken::errors::Error);

/// The claims on the wire (RFC 7519, section 4.1); times in seconds since 1970.
#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    fam: FamilyId,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
}

impl AccessTokens {
    pub(in crate::security) fn new(keys: &KeyRing) -> Self {
        let decoding = [Some(&keys.current), keys.previous.as_ref()].into_iter().flatten().map(decoding_key).collect();
        Self {
            encoding: EncodingKey::from_secret(keys.current.bytes.expose_secret()),
            current_id: keys.current.id.clone(),
            decoding,
            validation: validation(),
        }
    }

    /// A token for a merchant's login, good for [`ACCESS_LIFETIME`] from `now` (database clock).
    ///
    /// # Errors
    /// If the library refuses, which it has no reason to.
    pub fn sign(
        &self,
        merchant: MerchantId,
        family: &FamilyId,
        now: Timestamp,
    ) -> Result<(String, AccessClaims), SignError> {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: merchant.to_string(),
            fam: family.clone(),
            iat: now.as_secs(),
            nbf: now.as_secs(),
            exp: now.plus(ACCESS_LIFETIME).as_secs(),
            jti: HEXLOWER.encode(&entropy::bytes::<16>()),
        };
        let token = jsonwebtoken::encode(&header(&self.current_id), &claims, &self.encoding)?;
        Ok((token, claims.checked(merchant)))
    }

    /// What a token says, if it is ours and good at `now` (database clock).
    ///
    /// # Errors
    /// [`TokenError::Expired`] only for a token whose signature and claims are otherwise right.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<AccessClaims, TokenError> {
        self.read(token)?.at(now)
    }

    /// What a token says, if it is ours, before its times are looked at: for those who learn the time together with
    /// whatever else they ask the database about the token.
    ///
    /// # Errors
    /// [`TokenError::Invalid`].
    pub fn read(&self, token: &str) -> Result<Untimed, TokenError> {
        if token.len() > MAX_TOKEN_CHARS {
            return Err(TokenError::Invalid);
        }
        let seen = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let (_, key) = self
            .decoding
            .iter()
            .find(|(id, _)| seen.kid.as_deref() == Some(id) && seen == header(id))
            .ok_or(TokenError::Invalid)?;
        let claims =
            jsonwebtoken::decode::<Claims>(token, key, &self.validation).map_err(|_| TokenError::Invalid)?.claims;
        let merchant = claims.sub.parse().map(MerchantId).map_err(|_| TokenError::Invalid)?;
        Ok(Untimed { not_before: claims.nbf, expires: claims.exp, claims: claims.checked(merchant) })
    }
}

/// A token of ours that may be over, or not good yet.
#[derive(Debug)]
pub struct Untimed {
    claims: AccessClaims,
    not_before: i64,
    expires: i64,
}

impl Untimed {
    /// Who it claims to be of.
    pub fn merchant(&self) -> MerchantId {
        self.claims.merchant
    }

    /// By which login.
    pub fn family(&self) -> &FamilyId {
        &self.claims.family
    }

    /// What it says, if it is good at `now` (database clock).
    ///
    /// # Errors
    /// [`TokenError::Expired`], or [`TokenError::Invalid`] before its time.
    pub fn at(self, now: Timestamp) -> Result<AccessClaims, TokenError> {
        if self.not_before > now.plus(NOT_BEFORE_LEEWAY).as_secs() {
            return Err(TokenError::Invalid);
        }
        if self.expires <= now.as_secs() {
            return Err(TokenError::Expired);
        }
        Ok(self.claims)
    }
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessTokens([redacted])")
    }
}

impl Claims {
    fn checked(self, merchant: MerchantId) -> AccessClaims {
        let time = |seconds: i64| Timestamp::from_micros(seconds.saturating_mul(1_000_000));
        AccessClaims {
            merchant,
            family: self.fam,
            token_id: self.jti,
            issued_at: time(self.iat),
            expires_at: time(self.exp),
        }
    }
}

/// The header of every token that the key with this id signs, and the only one that is accepted for it.
fn header(key_id: &str) -> Header {
    let mut header = Header::new(Algorithm::HS256);
    header.typ = Some(TYPE.to_owned());
    header.kid = Some(key_id.to_owned());
    header
}

/// All but the times: the library would read a clock of its own for those, with a minute's leeway.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "nbf", "exp"]);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

fn decoding_key(key: &DerivedKey) -> (String, DecodingKey) {
    (key.id.clone(), DecodingKey::from_secret(key.bytes.expose_secret()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MasterSecret;
    use crate::security::keys::Usage;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_123_456);
    const SECONDS: i64 = 1_800_000_000;
    const DAY: i64 = 24 * 3_600;

    fn ring(current: u8, previous: Option<u8>, usage: Usage) -> KeyRing {
        let secret = |byte| MasterSecret::from_entropy([byte; 32]);
        KeyRing::derive(&secret(current), previous.map(secret).as_ref(), usage).unwrap()
    }

    fn tokens(current: u8, previous: Option<u8>) -> AccessTokens {
        AccessTokens::new(&ring(current, previous, Usage::AccessTokens))
    }

    fn signed(tokens: &AccessTokens) -> String {
        tokens.sign(MerchantId(7), &FamilyId::generate(), NOW).unwrap().0
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn right_claims() -> Value {
        json!({
            "iss": "cryptopay", "aud": "cryptopay-api", "sub": "7", "fam": FamilyId::generate(), "iat": SECONDS,
            "nbf": SECONDS, "exp": SECONDS + DAY, "jti": "x",
        })
    }

    /// Signs anything with the right key: what is refused below is refused for its own sake.
    fn forged(tokens: &AccessTokens, header: &Header, claims: &Value) -> Result<AccessClaims, TokenError> {
        tokens.verify(&jsonwebtoken::encode(header, claims, &tokens.encoding).unwrap(), NOW)
    }

    #[test]
    fn a_token_says_who_and_by_which_login_for_a_day() {
        let tokens = tokens(1, None);
        let family = FamilyId::generate();
        let (token, said) = tokens.sign(MerchantId(7), &family, NOW).unwrap();
        let claims = tokens.verify(&token, NOW).unwrap();
        assert_eq!(claims, said);
        assert_eq!((claims.merchant, &claims.family), (MerchantId(7), &family));
        assert_eq!((claims.issued_at, claims.expires_at), (at(SECONDS), at(SECONDS + DAY)));
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::HS256, Some("at+jwt")));
        assert!(token.len() < MAX_TOKEN_CHARS / 2);
    }

    #[test]
    fn a_token_is_good_up_to_its_last_second_and_not_before_its_first() {
        let tokens = tokens(1, None);
        let token = signed(&tokens);
        assert!(tokens.verify(&token, at(SECONDS + DAY - 1)).is_ok());
        assert_eq!(tokens.verify(&token, at(SECONDS + DAY)), Err(TokenError::Expired));
        assert!(tokens.verify(&token, at(SECONDS - 5)).is_ok());
        assert_eq!(tokens.verify(&token, at(SECONDS - 6)), Err(TokenError::Invalid));
    }

    #[test]
    fn the_previous_secret_is_accepted_while_rotating_and_not_after() {
        let old = signed(&tokens(1, None));
        assert!(tokens(2, Some(1)).verify(&old, NOW).is_ok());
        assert_eq!(tokens(2, None).verify(&old, NOW), Err(TokenError::Invalid));
        let new = signed(&tokens(2, Some(1)));
        assert!(tokens(2, None).verify(&new, NOW).is_ok());
        assert_eq!(tokens(1, None).verify(&new, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn only_our_own_header_is_accepted() {
        let tokens = tokens(1, None);
        let ours = header(&tokens.current_id);
        assert!(forged(&tokens, &ours, &right_claims()).is_ok());
        let changes: [fn(&mut Header); 10] = [
            |header| header.alg = Algorithm::HS384,
            |header| header.alg = Algorithm::HS512,
            |header| header.typ = Some("JWT".to_owned()),
            |header| header.typ = None,
            |header| header.kid = None,
            |header| header.kid = Some("00000000".to_owned()),
            |header| header.jku = Some("https://evil.example/keys".to_owned()),
            |header| header.crit = Some(vec!["exp".to_owned()]),
            |header| header.x5u = Some("https://evil.example/chain".to_owned()),
            |header| header.extras.insert("anything", 1),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut theirs = ours.clone();
            change(&mut theirs);
            assert_eq!(forged(&tokens, &theirs, &right_claims()), Err(TokenError::Invalid), "change {number}");
        }
    }

    #[test]
    fn only_our_own_claims_are_accepted() {
        let tokens = tokens(1, None);
        let ours = header(&tokens.current_id);
        for (name, value) in [
            ("iss", json!("somebody")),
            ("iss", json!(["cryptopay", "somebody"])),
            ("aud", json!("another-api")),
            ("aud", json!(["cryptopay-api"])),
            ("sub", json!("seven")),
            ("sub", json!(7)),
            ("fam", json!("../../etc")),
            ("exp", json!("tomorrow")),
            ("exp", json!(-1)),
            ("nbf", json!(SECONDS + 6)),
            ("jti", json!(1)),
        ] {
            let mut claims = right_claims();
            claims[name] = value.clone();
            assert_eq!(forged(&tokens, &ours, &claims), Err(TokenError::Invalid), "{name} = {value}");
        }
        for name in ["iss", "aud", "sub", "fam", "iat", "nbf", "exp", "jti"] {
            let mut claims = right_claims();
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(forged(&tokens, &ours, &claims), Err(TokenError::Invalid), "without {name}");
        }
    }

    /// Signs texts with the right key, which the library would never make.
    fn written(tokens: &AccessTokens, header: &str, claims: &str) -> Result<AccessClaims, TokenError> {
        let said = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(said.as_bytes(), &tokens.encoding, Algorithm::HS256).unwrap();
        tokens.verify(&format!("{said}.{signature}"), NOW)
    }

    #[test]
    fn what_is_said_twice_or_is_no_object_is_refused_however_well_signed() {
        let tokens = tokens(1, None);
        let head = json!({"typ": TYPE, "alg": "HS256", "kid": tokens.current_id}).to_string();
        let claims = right_claims().to_string();
        assert!(written(&tokens, &head, &claims).is_ok());
        let and = |object: &str, more: &str| format!("{},{more}}}", object.strip_suffix('}').unwrap());
        for more in [
            r#""alg":"HS256""#,
            r#""alg":"none""#,
            r#""kid":"00000000""#,
            r#""typ":"JWT""#,
            r#""jku":"https://evil.example/keys""#,
            r#""x5u":"https://evil.example/chain""#,
            r#""jwk":{"kty":"oct","k":"AAAA"}"#,
            r#""x5c":["AAAA"]"#,
            r#""crit":["exp"],"exp":1"#,
            r#""zip":"DEF""#,
            r#""cty":"JWT""#,
            r#""b64":false"#,
        ] {
            assert_eq!(written(&tokens, &and(&head, more), &claims), Err(TokenError::Invalid), "{more}");
        }
        for name in ["iss", "aud", "sub", "fam", "iat", "nbf", "exp", "jti"] {
            let more = format!("\"{name}\":{}", right_claims()[name]);
            assert_eq!(written(&tokens, &head, &and(&claims, &more)), Err(TokenError::Invalid), "{name} twice");
        }
        for text in ["", "null", "[]", "\"a\"", "{", "{}", "\u{feff}{}", "\u{0}"] {
            assert_eq!(written(&tokens, text, &claims), Err(TokenError::Invalid), "header {text:?}");
            assert_eq!(written(&tokens, &head, text), Err(TokenError::Invalid), "claims {text:?}");
        }
        // However well signed, what is longer than any of ours is not even read.
        let long = and(&claims, &format!("\"more\":\"{}\"", "a".repeat(MAX_TOKEN_CHARS)));
        assert_eq!(written(&tokens, &head, &long), Err(TokenError::Invalid));
    }

    #[test]
    fn an_unsigned_token_is_refused() {
        let tokens = tokens(1, None);
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        for alg in ["none", "None", "NONE", ""] {
            let head = part(json!({"alg": alg, "typ": TYPE, "kid": tokens.current_id}));
            for signature in ["", "AAAA"] {
                let token = format!("{head}.{}.{signature}", part(right_claims()));
                assert_eq!(tokens.verify(&token, NOW), Err(TokenError::Invalid), "{token}");
            }
        }
        let signed = signed(&tokens);
        let unsigned = &signed[..=signed.rfind('.').unwrap()];
        assert_eq!(tokens.verify(unsigned, NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn a_change_anywhere_is_noticed_even_in_an_expired_token() {
        let tokens = tokens(1, None);
        let token = signed(&tokens);
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            for now in [NOW, at(SECONDS + DAY)] {
                assert_eq!(tokens.verify(&changed, now), Err(TokenError::Invalid), "character {place}");
            }
        }
    }

    #[test]
    fn a_key_of_another_purpose_signs_no_token() {
        let theirs = AccessTokens::new(&ring(1, None, Usage::SecretBox));
        assert_eq!(tokens(1, None).verify(&signed(&theirs), NOW), Err(TokenError::Invalid));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let tokens = tokens(1, None);
        for text in ["", ".", "..", "a.b.c", "sk_test_x", "e30.e30.e30", &"a".repeat(MAX_TOKEN_CHARS + 1)] {
            assert_eq!(tokens.verify(text, NOW), Err(TokenError::Invalid), "{text}");
        }
    }
}
