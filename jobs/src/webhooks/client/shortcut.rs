//! The way of a process to itself: what is meant for a place that it serves needs neither name nor network, and gets there
//! also where the address that the world knows leads nowhere from here.

use url::Url;

/// URLs that lead here, and where that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortcut {
    /// What such a URL begins with, as it is normalised. Behind it there is a word of letters and digits, and nothing else.
    pub from: String,
    /// What takes the place of that: an address of this process.
    pub to: String,
}

impl Shortcut {
    /// Where a URL leads, if it leads here.
    pub(super) fn take(&self, url: &Url) -> Option<Url> {
        let word = url.as_str().strip_prefix(&self.from)?;
        let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_word { Url::parse(&format!("{}{word}", self.to)).ok() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_word_behind_the_place_leads_here() {
        let from = "https://pay.example.com/sandbox/inbox/".to_owned();
        let shortcut = Shortcut { from, to: "http://127.0.0.1:8081/sandbox/inbox/".to_owned() };
        let take = |text: &str| shortcut.take(&Url::parse(text).unwrap()).map(|url| url.to_string());
        let here = Some("http://127.0.0.1:8081/sandbox/inbox/00ff".to_owned());
        assert_eq!(take("https://pay.example.com/sandbox/inbox/00ff"), here);
        assert_eq!(take("https://PAY.example.com:443/sandbox/./inbox/00ff"), here);
        for elsewhere in [
            "https://pay.example.com/sandbox/inbox/",
            "https://pay.example.com/sandbox/inbox/../../metrics",
            "https://pay.example.com/sandbox/inbox/%2e%2e/metrics",
            "https://pay.example.com/sandbox/inbox/00ff?x",
            "https://pay.example.com/sandbox/inbox/00ff/x",
            "http://pay.example.com/sandbox/inbox/00ff",
            "https://pay.example.com:444/sandbox/inbox/00ff",
            "https://pay.example.com.evil.example/sandbox/inbox/00ff",
        ] {
            assert_eq!(take(elsewhere), None, "{elsewhere}");
        }
    }
}
