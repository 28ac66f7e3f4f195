//! `/graphql`: GraphQL over HTTP.
//!
//! - `POST` takes `application/json`; `GET` takes the same in the query string, for queries only. No batches.
//! - Without a token, fields other than introspection are errors `AUTHENTICATION_REQUIRED` in a 200, as the operation did
//!   run. A token that is not accepted is a 401 before anything runs.
//! - `application/graphql-response+json` answers 400 to a request that cannot run; `application/json` answers 200 to it,
//!   as older clients expect, unless the request is not even well-formed.
//! - `text/event-stream` streams the results; a browser that comes by `GET` gets the explorer.

use async_graphql::parser::types::OperationType;
use async_graphql::{Name, Request as Operation, Response as Answer, ServerError, Value as GraphQLValue, Variables};
use poem::http::{Method, StatusCode, header};
use poem::{Body, Endpoint, IntoResponse, Request, Response};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use super::access::valid_for;
use super::connections::{Connections, MAX_PER_MERCHANT};
use super::credentials::Credentials;
use super::failure::{self, Failure, RequestId};
use super::media::Media;
use super::sse::Admission;
use super::{Schema, explorer, limits, sse};
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::http::{json_body, json_value};
use crate::limits::Visit;
use crate::principal::{Principal, bearer_of, of_request};

/// Methods of the route.
const METHODS: &str = "GET, POST";

/// The endpoint.
#[derive(Clone)]
pub(super) struct Http {
    pub(super) app: App,
    pub(super) schema: Schema,
    pub(super) connections: Connections,
    pub(super) credentials: Credentials,
    pub(super) shutdown: CancellationToken,
}

impl Endpoint for Http {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let body = request.take_body();
        let request_id = request_id(&request);
        let offered: &[Media] = match *request.method() {
            Method::POST => &[Media::GraphqlResponse, Media::Json, Media::EventStream],
            _ if has_query(&request) => &[Media::GraphqlResponse, Media::Json],
            _ => &[Media::GraphqlResponse, Media::Json, Media::Html],
        };
        let media = Media::of(request.header(header::ACCEPT), offered);
        let answered = match *request.method() {
            Method::GET | Method::HEAD if media == Media::Html => return Ok(explorer::page()),
            Method::GET | Method::HEAD => self.get(&request, media, request_id.clone()).await,
            Method::POST => self.post(&request, body, media, request_id.clone()).await,
            _ => Err(not_allowed("GraphQL takes GET and POST.", METHODS)),
        };
        Ok(answered.unwrap_or_else(|error| refusal(error, media, request_id.as_ref())))
    }
}

impl Http {
    async fn get(&self, request: &Request, media: Media, id: Option<RequestId>) -> Result<Response, ApiError> {
        let principal = self.principal(request).await?;
        let parameters = from_query_string(request.uri().query().unwrap_or_default())?;
        if is_persisted_query(&parameters) {
            return Ok(no_persisted_queries(media, id.as_ref()));
        }
        let operation = operation(parameters)?;
        self.run(operation, principal, media, id, request).await
    }

    async fn post(
        &self,
        request: &Request,
        body: Body,
        media: Media,
        id: Option<RequestId>,
    ) -> Result<Response, ApiError> {
        json_body::check_content_type(request)?;
        let bytes = json_body::read(body).await?;
        let principal = self.principal(request).await?;
        let parameters = from_body(&bytes)?;
        if is_persisted_query(&parameters) {
            return Ok(no_persisted_queries(media, id.as_ref()));
        }
        let operation = operation(parameters)?;
        if media == Media::EventStream {
            return self.stream(operation, principal, id, request).await;
        }
        self.run(operation, principal, media, id, request).await
    }

    async fn principal(&self, request: &Request) -> Result<Option<Principal>, ApiError> {
        match bearer_of(request)? {
            Some(token) => of_request(&self.app, request, token).await.map(Some),
            None => Ok(None),
        }
    }

    async fn run(
        &self,
        mut operation: Operation,
        principal: Option<Principal>,
        media: Media,
        id: Option<RequestId>,
        request: &Request,
    ) -> Result<Response, ApiError> {
        let method = request.method();
        // What cannot be parsed is told by the schema, in the same words on every transport.
        if limits::admit(&mut operation).is_ok() {
            match limits::kind_of(&mut operation) {
                Some(OperationType::Mutation) if *method != Method::POST => {
                    return Err(not_allowed("Send mutations with POST.", "POST"));
                }
                Some(OperationType::Subscription) if *method != Method::POST => {
                    return Err(not_allowed("Send subscriptions with POST, or over /graphql/ws.", "POST"));
                }
                Some(OperationType::Subscription) => {
                    let message =
                        "Subscriptions need the header Accept: text/event-stream, or a WebSocket at /graphql/ws.";
                    return Err(ApiError::new(ErrorCode::ValidationError, message));
                }
                _ => {}
            }
            count_lists(request, &mut operation, principal.as_ref()).await?;
        }
        let operation = with_data(operation, principal, id);
        Ok(answer(&self.schema.execute(operation).await, media))
    }

    async fn stream(
        &self,
        mut operation: Operation,
        principal: Option<Principal>,
        id: Option<RequestId>,
        request: &Request,
    ) -> Result<Response, ApiError> {
        if limits::admit(&mut operation).is_ok() {
            count_lists(request, &mut operation, principal.as_ref()).await?;
        }
        let admission = match &principal {
            Some(principal) => Some(Admission {
                hold: self.credentials.hold(&principal.credential),
                valid_for: valid_for(&self.app, principal).await?,
                _permit: self.connections.enter(principal.merchant_id(), MAX_PER_MERCHANT).ok_or_else(too_many)?,
            }),
            None => None,
        };
        let results = self.schema.execute_stream(with_data(operation, principal, id));
        Ok(sse::response(results, admission, self.shutdown.clone()))
    }
}

/// Reports whether a request names its document only by a hash, as Apollo's clients do.
fn is_persisted_query(parameters: &Map<String, Value>) -> bool {
    let has_document = parameters.get("query").is_some_and(|query| !query.is_null() && query != "");
    !has_document && parameters.get("extensions").and_then(|extensions| extensions.get("persistedQuery")).is_some()
}

/// The answer to a persisted query, in the words of Apollo's protocol: the client sends the whole document then.
fn no_persisted_queries(media: Media, id: Option<&RequestId>) -> Response {
    let mut error = ServerError::new("PersistedQueryNotSupported", None);
    error.extensions.get_or_insert_default().set("code", "PERSISTED_QUERY_NOT_SUPPORTED");
    failure::complete(&mut error, id);
    answer(&Answer::from_errors(vec![error]), media)
}

/// Counts each list of an admitted operation like a request of its own. The first is the request that was counted.
async fn count_lists(
    request: &Request,
    operation: &mut Operation,
    principal: Option<&Principal>,
) -> Result<(), ApiError> {
    match request.data::<Visit>().zip(principal) {
        Some((visit, principal)) => visit.count_more(principal, limits::demand(operation).more()).await,
        None => Ok(()),
    }
}

/// Too many streams of one merchant.
pub(super) fn too_many() -> ApiError {
    let message = format!("You hold {MAX_PER_MERCHANT} streams open, the most that are allowed: close one first.");
    ApiError { retry_after_secs: Some(1), ..ApiError::new(ErrorCode::RateLimited, message) }
}

/// An answer with an error that concerns the request, not a field.
pub(super) fn refusal(error: ApiError, media: Media, id: Option<&RequestId>) -> Response {
    let (status, headers) = (error.code.status(), error.headers());
    let mut server = ServerError::from(Failure::from(error));
    failure::complete(&mut server, id);
    let body = json!({"errors": [server]}).to_string();
    let mut response = Response::builder().status(status).content_type(media.content_type()).body(body);
    response.headers_mut().extend(headers);
    response
}

/// The answer to a request that was refused before it got here, as far as its kind of answer can be told by its headers.
pub(crate) fn refused(request: &Request, error: ApiError) -> Response {
    let media = Media::of(request.header(header::ACCEPT), &[Media::GraphqlResponse, Media::Json]);
    refusal(error, media, request_id(request).as_ref())
}

/// The id of a request: what was put into its extensions, else the caller's own, if it is sane.
pub(super) fn request_id(request: &Request) -> Option<RequestId> {
    if let Some(id) = request.extensions().get::<RequestId>() {
        return Some(id.clone());
    }
    let id = request.header("x-request-id")?;
    let sane = (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'));
    sane.then(|| RequestId(id.to_owned()))
}

fn answer(answer: &Answer, media: Media) -> Response {
    // Without a path an error concerns the request: nothing ran, and there is no data, not even null.
    let refused =
        answer.is_err() && answer.data == GraphQLValue::Null && answer.errors.iter().all(|error| error.path.is_empty());
    let (status, body) = if refused {
        let status = if media == Media::GraphqlResponse { status_of(answer) } else { StatusCode::OK };
        (status, serde_json::to_string(&json!({"errors": answer.errors})))
    } else {
        (StatusCode::OK, serde_json::to_string(answer))
    };
    match body {
        Ok(body) => Response::builder().status(status).content_type(media.content_type()).body(body),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// The status of an answer to a request that did not run, or not to its end.
fn status_of(answer: &Answer) -> StatusCode {
    let is_away = |error: &ServerError| failure::code(error) == Some(ErrorCode::ServiceUnavailable.as_str());
    if answer.errors.iter().any(is_away) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST }
}

fn with_data(mut operation: Operation, principal: Option<Principal>, id: Option<RequestId>) -> Operation {
    if let Some(principal) = principal {
        operation = operation.data(principal);
    }
    if let Some(id) = id {
        operation = operation.data(id);
    }
    operation
}

fn has_query(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "query")
}

fn not_allowed(message: &str, allow: &str) -> ApiError {
    ApiError { allow: Some(allow.to_owned()), ..ApiError::new(ErrorCode::MethodNotAllowed, message) }
}

fn malformed(problem: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::MalformedJson, problem)
}

fn from_body(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match json_value::parse(bytes) {
        Ok(Value::Object(parameters)) => Ok(parameters),
        Ok(Value::Array(_)) => Err(malformed("Batches are not taken; send each operation in a request of its own.")),
        Ok(_) => Err(malformed("The body must be an object: {\"query\": \"…\"}.")),
        Err(problem) => Err(malformed(format!("The body is no JSON that can be read: {problem}."))),
    }
}

fn from_query_string(query: &str) -> Result<Map<String, Value>, ApiError> {
    let mut parameters = Map::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        let value = match name.as_ref() {
            "query" | "operationName" => Value::String(text.into_owned()),
            "variables" | "extensions" => json_value::parse(text.as_bytes())
                .map_err(|problem| malformed(format!("\"{name}\" is no JSON that can be read: {problem}.")))?,
            _ => continue,
        };
        parameters.insert(name.into_owned(), value);
    }
    Ok(parameters)
}

fn operation(mut parameters: Map<String, Value>) -> Result<Operation, ApiError> {
    let wrong = |name: &str, problem: &str| ApiError::field(name, problem);
    let Some(Value::String(query)) = parameters.remove("query") else {
        return Err(wrong("query", "Send the document as a string."));
    };
    let mut operation = Operation::new(query);
    operation.operation_name = match parameters.remove("operationName") {
        Some(Value::String(name)) => Some(name).filter(|name| !name.is_empty()),
        None | Some(Value::Null) => None,
        Some(_) => return Err(wrong("operationName", "Send a string, or leave it out.")),
    };
    operation.variables = match parameters.remove("variables") {
        Some(Value::Object(variables)) => variables_of(variables)?,
        None | Some(Value::Null) => Variables::default(),
        Some(_) => return Err(wrong("variables", "Send an object, or leave it out.")),
    };
    match parameters.remove("extensions") {
        Some(Value::Object(_) | Value::Null) | None => Ok(operation),
        Some(_) => Err(wrong("extensions", "Send an object, or leave it out.")),
    }
}

fn variables_of(variables: Map<String, Value>) -> Result<Variables, ApiError> {
    let mut read = Variables::default();
    for (name, value) in variables {
        let value = GraphQLValue::from_json(value).map_err(|error| malformed(error.to_string()))?;
        read.insert(Name::new(name), value);
    }
    Ok(read)
}
