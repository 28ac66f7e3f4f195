//! Refusals of a payment page as pages: a browser that opens `/order/{order_id}` shows its answer to a person, who cannot
//! act on JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use poem::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};

use crate::page;
use crate::security::entropy;

/// Wait in seconds where the refusal names none: an error of ours.
const DEFAULT_WAIT_SECS: u64 = 30;

/// Reports whether the request is for a payment page, by a client that prefers HTML.
pub(super) fn is_page(request: &Request) -> bool {
    let mut segments = request.uri().path().split('/').filter(|segment| !segment.is_empty());
    let is_route = (segments.next(), segments.next().is_some(), segments.next()) == (Some("order"), true, None);
    let accept = request.header(header::ACCEPT).unwrap_or_default();
    is_route && *request.method() == Method::GET && accept.split(',').any(|range| range.trim().starts_with("text/html"))
}

/// The answer with its body as a page, where it is a refusal that ends by itself. Status and headers stay.
pub(super) fn readable(mut answer: Response) -> Response {
    let (title, reason) = match answer.status() {
        StatusCode::TOO_MANY_REQUESTS => (
            "Please wait a moment",
            "Too many requests came from your network, which other people may use too. The payment page is not shown for \
             now.",
        ),
        status if status.is_server_error() => {
            ("The payment page is not available", "The payment server has a problem at the moment.")
        }
        _ => return answer,
    };
    let wait = answer.headers().get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
    let nonce = STANDARD.encode(entropy::bytes::<16>());
    answer.set_body(page::notice(title, reason, wait.unwrap_or(DEFAULT_WAIT_SECS), &nonce));
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    for (name, value) in page::security_headers(&nonce) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ApiError, ErrorCode};
    use poem::IntoResponse;

    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

    #[test]
    fn only_a_browser_on_a_payment_page_is_a_person() {
        let asked = |path: &str, accept: &str| {
            is_page(&Request::builder().uri(path.parse().unwrap()).header(header::ACCEPT, accept).finish())
        };
        assert!(asked("/order/ORD-abcdefgh2345", BROWSER) && asked("//order/ORD-abcdefgh2345/", BROWSER));
        for path in ["/order/ORD-abcdefgh2345/status", "/order/ORD-abcdefgh2345/events", "/order/", "/api/auth/me/"] {
            assert!(!asked(path, BROWSER), "{path}");
        }
        for accept in ["application/json", "*/*", "text/event-stream"] {
            assert!(!asked("/order/ORD-abcdefgh2345", accept), "{accept}");
        }
    }

    #[tokio::test]
    async fn a_refusal_for_a_person_names_the_time_to_wait() {
        let error = ApiError { retry_after_secs: Some(725), ..ApiError::new(ErrorCode::RateLimited, "Too many.") };
        let answer = readable(error.into_response());
        assert_eq!((answer.status().as_u16(), answer.header("Retry-After")), (429, Some("725")));
        assert_eq!(answer.content_type(), Some("text/html; charset=utf-8"));
        assert!(answer.header("Content-Security-Policy").unwrap().contains("frame-ancestors 'none'"));
        let html = answer.into_body().into_string().await.unwrap();
        assert!(html.contains("Too many requests") && html.contains("in 13 minutes"), "{html}");
        assert!(html.contains("http-equiv=\"refresh\" content=\"725\"") && html.contains("do not pay twice"));
        assert!(!html.contains("{{") && !html.contains("RATE_LIMITED") && !html.contains("<script"));
    }

    #[tokio::test]
    async fn an_answer_that_is_no_refusal_stays_as_it_is() {
        for error in [ApiError::not_found("route"), ApiError::new(ErrorCode::ValidationError, "x")] {
            let answer = readable(error.into_response());
            assert!(answer.content_type().unwrap().starts_with("application/json"));
        }
        let html = readable(ApiError::internal("x").into_response()).into_body().into_string().await.unwrap();
        assert!(html.contains("has a problem") && html.contains("in 30 seconds"));
    }
}
