//! Which passwords are refused: too short or long, the account's own name, and those that everybody tries first.

/// Fewest characters of a password. Source: the REST contract.
pub const MIN_PASSWORD_CHARS: usize = 10;
/// Most characters of a password. Source: the REST contract.
pub const MAX_PASSWORD_CHARS: usize = 256;
/// Guesses below which a password counts as a common one. A million is where zxcvbn calls a password safe from guessing
/// over the network; `Password123!` takes 30,000.
const COMMON_BELOW_GUESSES: u64 = 1_000_000;
/// Characters that zxcvbn estimates, of the password and of each name. Its time grows with the square and more of them, and
/// its arithmetic overflows beyond: 21! and 5^28 do not fit into 64 bits.
const MAX_ESTIMATED_CHARS: usize = 20;

const TOO_SHORT: &str = "Use at least 10 characters.";
const TOO_LONG: &str = "Use at most 256 characters.";
const IS_NAME: &str = "Use something other than your username or e-mail address.";
const COMMON: &str = "This password is among the first that an attacker would try. Use a few unrelated words.";

/// What is wrong with a password, most basic first. Empty if it will do.
pub(super) fn problems(password: &str, username: &str, email: &str) -> Vec<&'static str> {
    let chars = password.chars().count();
    if chars > MAX_PASSWORD_CHARS {
        return vec![TOO_LONG];
    }
    let mut problems = Vec::new();
    if chars < MIN_PASSWORD_CHARS {
        problems.push(TOO_SHORT);
    }
    let folded = password.to_lowercase();
    if [username, email].iter().any(|name| !name.is_empty() && name.to_lowercase() == folded) {
        problems.push(IS_NAME);
    } else if is_common(password, username, email) {
        problems.push(COMMON);
    }
    problems
}

/// Whether few guesses find it, for somebody who knows the account's name and address.
fn is_common(password: &str, username: &str, email: &str) -> bool {
    let mailbox = email.split('@').next().unwrap_or_default();
    let known = [username, email, mailbox, "cryptopay"].map(beginning);
    zxcvbn::zxcvbn(&beginning(password), &known.each_ref().map(String::as_str)).guesses() < COMMON_BELOW_GUESSES
}

fn beginning(text: &str) -> String {
    text.chars().take(MAX_ESTIMATED_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(password: &str) -> Vec<&'static str> {
        problems(password, "Shopkeeper-77", "owner.of.shop@b.example")
    }

    #[test]
    fn a_few_words_will_do() {
        for password in
            ["correct-horse-9", "unicorn teapot gravel", "Xk3!hd92Lq", "пароль-для-магазина", &"zebra 7 ".repeat(30)]
        {
            assert_eq!(found(password), Vec::<&str>::new(), "{password}");
        }
    }

    proptest! {
        /// Patterns that the estimate multiplies: keyboards, leet, dates, repeats, words of one letter.
        #[test]
        fn no_password_makes_the_estimate_overflow_or_panic(
            parts in prop::collection::vec(prop::sample::select(vec![
                "1", "2", "12", "4@", "$5", "a", "i", "I", "qw", "Q", "wq", "7410", "0.", "+-", "19990101", "1/1/99", "é", "ß",
                "İ", "🦀", "\u{0}", "p4$$w0rd", "abc", "zyx", " ", "shop", "\u{301}",
            ]), 1..60),
        ) {
            let password = parts.concat();
            let _ = problems(&password, &password, "4@4@4@4@4@4@4@4@@b.example");
            let _ = problems(&password, "shop", &password);
        }

        #[test]
        fn no_text_makes_the_estimate_panic(password in ".{0,40}", name in ".{0,40}") {
            let _ = problems(&password, &name, &name);
        }
    }

    #[test]
    fn patterns_of_any_length_are_estimated_without_a_panic() {
        for pattern in ["12", "4@", "qw", "a", "147", "1/", "i1|!", "$s5", "789456123", "aA", "19", "pa$$word"] {
            for times in [1, 5, 10, 20, 100] {
                let _ = found(&pattern.repeat(times));
            }
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert_eq!(found("Xk3!hd92L"), [TOO_SHORT]);
        assert_eq!(found("ж-ю-щ-я-ы"), [TOO_SHORT]);
        assert_eq!(found(&"Xk3!hd92".repeat(33)), [TOO_LONG]);
        assert_eq!(found(&"é7ж!щ-3q Ωm5_ю 8z".repeat(15)), Vec::<&str>::new());
        assert_eq!(found(""), [TOO_SHORT, COMMON]);
    }

    #[test]
    fn what_everybody_tries_first_is_refused() {
        for password in [
            "password123",
            "Password123!",
            "P@ssw0rd2026",
            "1234567890",
            "qwertyuiop",
            "letmein1234",
            "iloveyou12",
            "aaaaaaaaaaaaaaaa",
            "administrator",
            "cryptopay123",
            "owner.of.shop1",
            "Shopkeeper-771",
        ] {
            assert_eq!(found(password), [COMMON], "{password}");
        }
    }

    #[test]
    fn the_name_of_the_account_is_refused_in_any_case() {
        assert_eq!(found("SHOPKEEPER-77"), [IS_NAME]);
        assert_eq!(found("Owner.of.Shop@b.example"), [IS_NAME]);
        assert_eq!(problems("", "", ""), [TOO_SHORT, COMMON]);
    }
}
