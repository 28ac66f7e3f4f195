//! The body of a request, read as JSON and judged field by field.

use std::marker::PhantomData;
use std::time::Duration;

use poem::http::{Method, header};
use poem::{Request, RequestBody, Result};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseFromJSON, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt;

use crate::error::{ApiError, ErrorCode};
use crate::fields::Fields;

/// Largest body that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// A body documented by `T`. Its fields are judged by `T`'s schema, all of them; rules go on from there.
#[derive(Debug)]
pub struct Body<T> {
    /// The fields, with the faults found so far.
    pub fields: Fields,
    documented_by: PhantomData<fn() -> T>,
}

impl<T: Type> Payload for Body<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<'a, T: ParseFromJSON> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: <Self as Payload>::CONTENT_TYPE,
                schema: <Self as Payload>::schema_ref(),
            }],
            required: has_required_fields::<T>(),
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        let bytes = read(body).await?;
        // A POST whose fields are all optional may come without body and content type; others name what is missing.
        let values = if bytes.is_empty() && request.method() == Method::POST {
            Map::new()
        } else {
            check_content_type(request)?;
            parse(&bytes)?
        };
        Ok(Self { fields: Fields::judged_by::<T>(values), documented_by: PhantomData })
    }
}

fn has_required_fields<T: Type>() -> bool {
    let mut registry = Registry::new();
    T::register(&mut registry);
    match T::schema_ref() {
        MetaSchemaRef::Inline(schema) => !schema.required.is_empty(),
        MetaSchemaRef::Reference(name) => registry.schemas.get(&name).is_some_and(|schema| !schema.required.is_empty()),
    }
}

/// A refused body is read on up to here, so that the client hears the answer instead of a broken connection.
const MAX_DRAINED_BYTES: u64 = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

async fn read(body: &mut RequestBody) -> Result<Vec<u8>> {
    let mut reader = body.take()?.into_async_read();
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
            Err(ApiError::new(ErrorCode::PayloadTooLarge, "The body is larger than 256 KiB.").into())
        }
        Ok(Ok(())) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::new(ErrorCode::MalformedJson, "The body broke off.").into()),
        Err(_) => {
            let message = "The body did not arrive within 30 seconds.";
            Err(ApiError::new(ErrorCode::MalformedJson, message).into())
        }
    }
}

fn check_content_type(request: &Request) -> Result<(), ApiError> {
    let content_type = request.header(header::CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "Send the header Content-Type: application/json.";
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, message))
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let malformed = |problem: String| {
        ApiError::new(ErrorCode::MalformedJson, format!("The body is no JSON that can be read: {problem}."))
    };
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(malformed("it must be an object, {…}".to_owned())),
        Err(error) => Err(malformed(error.to_string())),
    }
}
