//! What an account's fields must be. Every fault is collected, those that only the database knows among them.

use cryptopay_domain::ids::MerchantId;
use cryptopay_entity::merchant;
use secrecy::SecretString;

use super::{Accounts, NewMerchant};
use crate::error::ApiError;
use crate::fields::Fields;

/// Fewest characters of a user name. Source of these bounds: the REST contract.
const MIN_USERNAME_CHARS: usize = 3;
/// Most characters of a user name.
const MAX_USERNAME_CHARS: usize = 64;
/// Most bytes of an e-mail address; SMTP carries no longer ones (RFC 5321, erratum 1690).
const MAX_EMAIL_BYTES: usize = 254;
/// Most characters of a shop's name.
const MAX_SHOP_NAME_CHARS: usize = 120;

/// An account as it was sent; what is missing, or at fault already, is `None`.
pub(super) struct Draft {
    username: Option<String>,
    email: Option<String>,
    password: Option<SecretString>,
    shop_name: Option<String>,
}

impl Draft {
    pub(super) fn of(fields: &Fields) -> Self {
        let text = |name| fields.text(name).map(str::to_owned);
        Self {
            username: text("username"),
            email: text("email"),
            password: text("password").map(SecretString::from),
            shop_name: text("shop_name"),
        }
    }
}

impl From<NewMerchant> for Draft {
    fn from(new: NewMerchant) -> Self {
        Self {
            username: Some(new.username),
            email: Some(new.email),
            password: Some(new.password),
            shop_name: Some(new.shop_name),
        }
    }
}

/// Judges a draft and hashes its password. Faults join those that `fields` has.
///
/// # Errors
/// Every faulty field; `SERVICE_UNAVAILABLE` when there was no turn for the password.
pub(super) async fn judge(
    accounts: Accounts<'_>,
    draft: Draft,
    fields: &mut Fields,
) -> Result<merchant::NewMerchant, ApiError> {
    if let Some(password) = draft.password.clone() {
        let name = |text: &Option<String>| text.clone().unwrap_or_default();
        let (username, email) = (name(&draft.username), name(&draft.email));
        for problem in accounts.passwords.problems(password, &username, &email).await? {
            fields.fault("password", problem);
        }
    }
    let username = draft.username.and_then(|text| fields.ok("username", username(text)));
    let email = draft.email.and_then(|text| fields.ok("email", email(text)));
    let shop_name = draft.shop_name.and_then(|text| fields.ok("shop_name", shop_name(&text)));
    judge_taken(accounts, username.as_deref(), email.as_deref(), None, fields).await?;
    fields.finish()?;
    let (Some(username), Some(email), Some(shop_name), Some(password)) = (username, email, shop_name, draft.password)
    else {
        return Err(fields.faulty());
    };
    let password_hash = accounts.passwords.hash(password).await?;
    Ok(merchant::NewMerchant { username, email, password_hash, shop_name })
}

/// Notes which names are somebody else's already: of any account but `except`.
///
/// # Errors
/// Only failures of the database.
pub(super) async fn judge_taken(
    accounts: Accounts<'_>,
    username: Option<&str>,
    email: Option<&str>,
    except: Option<MerchantId>,
    fields: &mut Fields,
) -> Result<(), ApiError> {
    let taken = merchant::Entity::taken(accounts.database, username, email, except).await?;
    if taken.username {
        fields.fault("username", "This username is taken.");
    }
    if taken.email {
        fields.fault("email", "This e-mail address has an account already.");
    }
    Ok(())
}

/// No `@` among its letters: so a login knows a name from an e-mail address.
fn username(text: String) -> Result<String, &'static str> {
    let valid = (MIN_USERNAME_CHARS..=MAX_USERNAME_CHARS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if valid { Ok(text) } else { Err("Use 3 to 64 letters (a to z), digits and . _ - without spaces.") }
}

/// Plausible is all that can be told without writing to it.
pub(super) fn email(text: String) -> Result<String, &'static str> {
    let valid = text.len() <= MAX_EMAIL_BYTES
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
        && text
            .split_once('@')
            .is_some_and(|(mailbox, domain)| !mailbox.is_empty() && !domain.is_empty() && !domain.contains('@'));
    if valid { Ok(text) } else { Err("Enter an e-mail address of at most 254 bytes, such as you@shop.example.") }
}

pub(super) fn shop_name(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let valid = (1..=MAX_SHOP_NAME_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if valid { Ok(text.to_owned()) } else { Err("Use 1 to 120 characters in one line; blanks alone are no name.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_short_plain_words() {
        for text in ["abc", "A.b_c-9", &"x".repeat(64)] {
            assert_eq!(username(text.to_owned()).as_deref(), Ok(text));
        }
        for text in ["", "ab", "a b", "a@b", "shöp", "abc\n", &"x".repeat(65)] {
            assert!(username(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_email_address_has_something_on_both_sides_of_one_at() {
        for text in ["a@b", "A.b+c@d.example", "ü@ö.example", &format!("a@{}", "b".repeat(252))] {
            assert_eq!(email(text.to_owned()).as_deref(), Ok(text));
        }
        for text in ["", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\u{a0}c", "a@b\u{7}", &format!("a@{}", "b".repeat(253))]
        {
            assert!(email(text.to_owned()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_shop_name_is_trimmed_and_not_blank() {
        assert_eq!(shop_name("  Ünïcode & Söhne ").as_deref(), Ok("Ünïcode & Söhne"));
        assert!(shop_name(&"ж".repeat(120)).is_ok());
        for text in ["", "  \u{a0}", "two\nlines", &"ж".repeat(121)] {
            assert!(shop_name(text).is_err(), "{text:?}");
        }
    }
}
