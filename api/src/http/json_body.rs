//! The bytes of a JSON body, bounded in size and time: for REST and for GraphQL.

use std::time::Duration;

use poem::http::header;
use poem::{Body, Request};
use tokio::io::AsyncReadExt;

use crate::error::{ApiError, ErrorCode};

/// Largest body that is read, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024;
/// A refused body is read on up to here, so that the client hears the answer instead of a broken connection.
const MAX_DRAINED_BYTES: u64 = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a body that nobody wants may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads a body to its end.
///
/// # Errors
/// `PAYLOAD_TOO_LARGE`, or `MALFORMED_JSON` when it breaks off or is too slow.
pub(crate) async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    let mut reader = body.into_async_read();
    let limit = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let arrived = async {
        (&mut reader).take(limit.saturating_add(1)).read_to_end(&mut bytes).await?;
        if bytes.len() > MAX_BODY_BYTES {
            tokio::io::copy(&mut (&mut reader).take(MAX_DRAINED_BYTES), &mut tokio::io::sink()).await?;
        }
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(BODY_TIMEOUT, arrived).await {
        Ok(Ok(())) if bytes.len() > MAX_BODY_BYTES => {
            Err(ApiError::new(ErrorCode::PayloadTooLarge, "The body is larger than 256 KiB."))
        }
        Ok(Ok(())) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::new(ErrorCode::MalformedJson, "The body broke off.")),
        Err(_) => Err(ApiError::new(ErrorCode::MalformedJson, "The body did not arrive within 30 seconds.")),
    }
}

/// Reads on what nobody wants, within bounds, so that the client hears the answer instead of a broken connection.
pub(crate) async fn drain(body: Body) {
    let mut reader = body.into_async_read().take(MAX_DRAINED_BYTES);
    // Whatever goes wrong with it is the client's loss.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, tokio::io::copy(&mut reader, &mut tokio::io::sink())).await;
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
