//! The body of a request, read as JSON and judged field by field.

use std::marker::PhantomData;

use poem::http::Method;
use poem::{Request, RequestBody, Result};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseFromJSON, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, Object};
use serde_json::{Map, Value};

use crate::error::{ApiError, ErrorCode};
use crate::fields::Fields;
use crate::http::{json_body, json_value};

/// A body documented by `T`. Its fields are judged by `T`'s schema, all of them; rules go on from there.
#[derive(Debug)]
pub struct Body<T> {
    /// The fields, with the faults found so far.
    pub fields: Fields,
    documented_by: PhantomData<fn() -> T>,
}

/// Nothing: what a request that needs no fields may hold. What it holds all the same is named in the answer.
#[derive(Debug, Object)]
pub struct NoFields {}

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
        let bytes = json_body::read(body.take()?).await?;
        // A POST whose fields are all optional may come without body and content type; others name what is missing.
        let values = if bytes.is_empty() && request.method() == Method::POST {
            Map::new()
        } else {
            json_body::check_content_type(request)?;
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

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let malformed = |problem: String| {
        ApiError::new(ErrorCode::MalformedJson, format!("The body is no JSON that can be read: {problem}."))
    };
    match json_value::parse(bytes) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(malformed("it must be an object, {…}".to_owned())),
        Err(problem) => Err(malformed(problem)),
    }
}
