//! The bytes of a JSON body, bounded in size and time: for REST and for GraphQL.

use std::time::Duration;

use poem::http::header;
use poem::{Body, Request};
use tokio::io::AsyncReadExt;

use crate::error::{ApiError, ErrorCode};

/// Largest body that is read, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a body to its end.
///
/// # Errors
/// `PAYLOAD_TOO_LARGE`, or `MALFORMED_JSON` when it breaks off or is too slow.
pub(crate) async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    read_at_most(body, MAX_BODY_BYTES).await
}

/// The same with another bound, in bytes.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_at_most(body: Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let reader = body.into_async_read();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let arrived = async {
        reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).await?;
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(BODY_TIMEOUT, arrived).await {
        Ok(Ok(())) if bytes.len() > most => {
            let message = format!("The body is larger than {} KiB.", most / 1024);
            Err(ApiError::new(ErrorCode::PayloadTooLarge, message))
        }
        Ok(Ok(())) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::new(ErrorCode::MalformedJson, "The body broke off.")),
        Err(_) => Err(ApiError::new(ErrorCode::MalformedJson, "The body did not arrive within 30 seconds.")),
    }
}

/// Refuses a body that is not said to be JSON: browsers send other types across origins without asking first.
///
/// # Errors
/// `UNSUPPORTED_MEDIA_TYPE`.
pub(crate) fn check_content_type(request: &Request) -> Result<(), ApiError> {
    let content_type = request.header(header::CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, "Send the header Content-Type: application/json."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    /// A byte a second, without end.
    fn drops() -> Body {
        Body::from_bytes_stream(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(b" ".to_vec()), ()))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_in_drops_is_given_up_after_its_time() {
        let started = tokio::time::Instant::now();
        let error = read(drops()).await.unwrap_err();
        assert_eq!((error.code, started.elapsed()), (ErrorCode::MalformedJson, BODY_TIMEOUT));
        assert_eq!(error.message, "The body did not arrive within 30 seconds.");
    }

    #[tokio::test]
    async fn a_body_may_have_its_bound_and_no_byte_more() {
        assert_eq!(read_at_most(Body::from(vec![b'x'; 2048]), 2048).await.unwrap().len(), 2048);
        let error = read_at_most(Body::from(vec![b'x'; 2049]), 2048).await.unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (ErrorCode::PayloadTooLarge, "The body is larger than 2 KiB.")
        );
    }
}
