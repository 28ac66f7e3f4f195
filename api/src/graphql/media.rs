//! In which form an answer goes out: the `Accept` header against what GraphQL over HTTP knows.

/// A form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/graphql-response+json`: the status tells whether the operation ran.
    GraphqlResponse,
    /// `application/json`: 200 for every answer to a well-formed request.
    Json,
    /// `text/event-stream`: one event per result.
    EventStream,
    /// `text/html`: the explorer.
    Html,
}

impl Media {
    /// The content type of an answer that is JSON.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            Self::Json | Self::EventStream | Self::Html => "application/json; charset=utf-8",
        }
    }

    /// The form that the client likes best of those in `offered`; JSON where it says nothing, or nothing that we have.
    pub(super) fn of(accept: Option<&str>, offered: &[Self]) -> Self {
        let mut best = (0, Self::Json);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let found = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "application/graphql-response+json" => Self::GraphqlResponse,
                "application/json" | "application/*" | "*/*" => Self::Json,
                "text/event-stream" => Self::EventStream,
                "text/html" | "text/*" => Self::Html,
                _ => continue,
            };
            let quality = parts.find_map(|parameter| parameter.strip_prefix("q=")).map_or(1_000, thousandths);
            // Of equals the first one named; browsers name what they want first.
            if quality > best.0 && offered.contains(&found) {
                best = (quality, found);
            }
        }
        best.1
    }
}

/// A quality between 0 and 1 (RFC 9110, section 12.4.2) in thousandths; 0 for what is none.
fn thousandths(text: &str) -> u32 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.chars().chain("000".chars()).take(3).collect::<String>();
    match (whole.parse::<u32>(), digits.parse::<u32>()) {
        (Ok(whole), Ok(fraction)) => whole.saturating_mul(1_000).saturating_add(fraction).min(1_000),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Media; 4] = [Media::GraphqlResponse, Media::Json, Media::EventStream, Media::Html];

    #[test]
    fn the_best_liked_form_wins_and_json_is_the_rest() {
        for (accept, media) in [
            ("application/graphql-response+json, application/json;q=0.9", Media::GraphqlResponse),
            ("application/json;q=0.9, application/graphql-response+json", Media::GraphqlResponse),
            ("application/json, application/graphql-response+json", Media::Json),
            ("*/*", Media::Json),
            ("image/png", Media::Json),
            ("text/event-stream", Media::EventStream),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Media::Html),
            ("text/html;q=0, application/json;q=0.1", Media::Json),
            ("APPLICATION/GraphQL-Response+JSON;charset=utf-8; q=0.5", Media::GraphqlResponse),
        ] {
            assert_eq!(Media::of(Some(accept), &ALL), media, "{accept}");
        }
        assert_eq!(Media::of(None, &ALL), Media::Json);
        assert_eq!(Media::of(Some("text/html"), &[Media::Json]), Media::Json);
    }

    #[test]
    fn a_quality_has_three_digits_at_most() {
        for (text, value) in [("1", 1_000), ("0.8", 800), ("0.1234", 123), ("2", 1_000), ("", 0), ("x", 0), ("0.é", 0)]
        {
            assert_eq!(thousandths(text), value, "{text}");
        }
    }
}
