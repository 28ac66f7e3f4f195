//! `/graphql/ws`: what comes before the socket protocol takes over, and who is let in.

use async_graphql::Data;
use poem::http::{HeaderMap, header};
use poem::web::websocket::WebSocket;
use poem::{Endpoint, FromRequest, IntoResponse, Request, RequestBody, Response};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Schema;
use super::access::{Meter, valid_for};
use super::connections::{Connections, MAX_PER_MERCHANT};
use super::credentials::Credentials;
use super::http::{refusal, request_id, too_many};
use super::media::Media;
use super::websocket::{self, InitRefusal, Limits, PROTOCOL, Session, token_of};
use crate::app::App;
use crate::caller;
use crate::error::{ApiError, ErrorCode};
use crate::principal::authenticate;

/// The endpoint.
#[derive(Clone)]
pub(super) struct Socket {
    pub(super) app: App,
    pub(super) schema: Schema,
    pub(super) connections: Connections,
    pub(super) credentials: Credentials,
    pub(super) shutdown: CancellationToken,
}

impl Endpoint for Socket {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        match self.upgrade(&request).await {
            Ok(response) => Ok(response),
            Err(error) => Ok(refusal(error, Media::Json, request_id(&request).as_ref())),
        }
    }
}

impl Socket {
    async fn upgrade(&self, request: &Request) -> Result<Response, ApiError> {
        check_origin(&self.app, request.headers())?;
        check_protocol(request.headers())?;
        let socket = WebSocket::from_request(request, &mut RequestBody::default()).await.map_err(|_| no_upgrade())?;
        let limits = Limits::default();
        let Self { app, schema, connections, credentials, shutdown } = self.clone();
        let address = caller::address();
        let upgrade =
            socket.protocols([PROTOCOL]).config(limits.socket_config()).on_upgrade(move |stream| async move {
                let _open = crate::metrics::OpenSocket::count();
                let authenticate =
                    |payload: Value| async move { let_in(&app, &connections, &credentials, &payload).await };
                let serving = websocket::serve(stream, schema, authenticate, limits, shutdown);
                let ended = caller::on_behalf_of(address, serving).await;
                tracing::debug!(?ended, "socket closed");
            });
        Ok(upgrade.into_response())
    }
}

async fn let_in(
    app: &App,
    connections: &Connections,
    credentials: &Credentials,
    payload: &Value,
) -> Result<Session, InitRefusal> {
    let token = token_of(payload).ok_or_else(|| {
        InitRefusal::Forbidden("Send {\"Authorization\": \"Bearer <token>\"} with connection_init.".to_owned())
    })?;
    let refused = |error: ApiError| match error.code {
        ErrorCode::ServiceUnavailable | ErrorCode::InternalError => InitRefusal::Unavailable(error.message),
        _ => InitRefusal::Forbidden(error.message),
    };
    let principal = authenticate(app, token).await.map_err(refused)?;
    let hold = credentials.hold(&principal.credential);
    let permit = connections
        .enter(principal.merchant_id(), MAX_PER_MERCHANT)
        .ok_or_else(|| InitRefusal::Unavailable(too_many().message))?;
    let valid_for = valid_for(app, &principal).await.map_err(refused)?;
    let revoked = Some(hold.revoked());
    let mut data = Data::default();
    data.insert(Meter::new(app.clone(), token));
    data.insert(permit);
    data.insert(hold);
    Ok(Session { data, valid_for, revoked })
}

/// Browsers say where a page comes from, and open sockets across origins without asking: the server has to.
fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let allowed = origin.to_str().is_ok_and(|origin| {
        let own = url::Url::parse(&app.public_url).is_ok_and(|url| url.origin().ascii_serialization() == origin);
        own || app.config.cors_origins.allows(origin)
    });
    if allowed {
        return Ok(());
    }
    let message = "Pages of this origin may not open sockets; the operator lists origins in CRYPTOPAY_CORS_ORIGINS.";
    Err(ApiError::new(ErrorCode::PermissionDenied, message))
}

fn check_protocol(headers: &HeaderMap) -> Result<(), ApiError> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    if offered.flat_map(|value| value.split(',')).any(|offer| offer.trim() == PROTOCOL) {
        return Ok(());
    }
    Err(no_upgrade())
}

fn no_upgrade() -> ApiError {
    let message = "Open a WebSocket here with the sub-protocol graphql-transport-ws; for plain HTTP there is /graphql.";
    ApiError::new(ErrorCode::ValidationError, message)
}
