//! What stands around every operation, on every transport: limits before, one snapshot during, complete errors after.
//!
//! It also sees to it that a field that fails is null, as the specification wants it (sections 6.4.4 and 7.1.3), and
//! that its parent is null where the field may not be. The library leaves such a field out.

use std::any::TypeId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_graphql::extensions::{
    Extension, ExtensionContext, ExtensionFactory, NextExecute, NextPrepareRequest, NextRequest, NextResolve,
    NextSubscribe, ResolveInfo,
};
use async_graphql::{Name, Request, Response, ServerError, ServerResult, Value};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::timeout;

use super::access::Meter;
use super::failure::{self, Failure, RequestId};
use super::limits;
use super::snapshot::Snapshot;
use crate::app::App;
use crate::error::{ApiError, ErrorCode};
use crate::principal::Principal;

/// How long an operation may run: far longer than any that a page waits for, and no longer than the database is spared.
const RUN_WITHIN: Duration = Duration::from_secs(10);

/// Makes an [`Operation`] for each request.
#[derive(Debug)]
pub(super) struct Operations {
    within: Duration,
}

impl Default for Operations {
    fn default() -> Self {
        Self { within: RUN_WITHIN }
    }
}

impl ExtensionFactory for Operations {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Operation {
            within: self.within,
            snapshot: Arc::default(),
            request_id: Arc::default(),
            searches: AtomicBool::new(false),
            errors: Mutex::default(),
        })
    }
}

/// One operation.
#[derive(Debug)]
struct Operation {
    /// How long it, or what it answers to one event, may take.
    within: Duration,
    snapshot: Arc<Snapshot>,
    request_id: Arc<OnceLock<RequestId>>,
    /// Indicates whether the operation searches, and so has to wait for its turn.
    searches: AtomicBool,
    /// Of the fields that have failed.
    errors: Mutex<Vec<ServerError>>,
}

impl Operation {
    /// Waits for the turn of an operation that searches. Without a merchant nothing is searched.
    async fn take_turn(&self, ctx: &ExtensionContext<'_>) -> ServerResult<()> {
        let parts = ctx.data_opt::<App>().zip(ctx.data_opt::<Principal>());
        if let Some((app, principal)) = parts.filter(|_| self.searches.load(Ordering::Relaxed)) {
            let turn = app.searches.begin(principal.merchant_id()).await.map_err(Failure::from)?;
            self.snapshot.begin_search(turn).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Extension for Operation {
    async fn request(&self, ctx: &ExtensionContext<'_>, next: NextRequest<'_>) -> Response {
        finished(next.run(ctx).await, &self.request_id)
    }

    fn subscribe<'s>(
        &self,
        ctx: &ExtensionContext<'_>,
        stream: BoxStream<'s, Response>,
        next: NextSubscribe<'_>,
    ) -> BoxStream<'s, Response> {
        let request_id = Arc::clone(&self.request_id);
        next.run(ctx, stream).map(move |response| finished(response, &request_id)).boxed()
    }

    async fn prepare_request(
        &self,
        ctx: &ExtensionContext<'_>,
        mut request: Request,
        next: NextPrepareRequest<'_>,
    ) -> ServerResult<Request> {
        if let Some(id) = request.data.get(&TypeId::of::<RequestId>()).and_then(|id| id.downcast_ref::<RequestId>()) {
            self.request_id.get_or_init(|| id.clone());
        }
        let meter = ctx.data_opt::<Meter>();
        let counted = match meter {
            Some(meter) => Some(meter.count().await.map_err(Failure::from)?),
            None => None,
        };
        limits::admit(&mut request)?;
        let demand = limits::demand(&mut request);
        self.searches.store(demand.searches, Ordering::Relaxed);
        if let (Some(meter), Some(principal)) = (meter, counted) {
            meter.count_more(&principal, demand.more()).await.map_err(Failure::from)?;
            request.data.insert(principal);
        }
        request.data.insert(Arc::clone(&self.snapshot));
        next.run(ctx, request).await
    }

    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        let run = async {
            self.take_turn(ctx).await?;
            Ok::<Response, ServerError>(next.run(ctx, operation_name).await)
        };
        let Ok(ran) = timeout(self.within, run).await else {
            self.snapshot.abandon().await;
            return Response::from_errors(vec![too_long(self.within)]);
        };
        let mut response = ran.unwrap_or_else(|error| Response::from_errors(vec![error]));
        self.snapshot.close().await;
        response.errors.append(&mut self.errors.lock().unwrap_or_else(PoisonError::into_inner));
        response.data = settled(response.data, "Operation");
        response
    }

    async fn resolve(
        &self,
        ctx: &ExtensionContext<'_>,
        info: ResolveInfo<'_>,
        next: NextResolve<'_>,
    ) -> ServerResult<Option<Value>> {
        if info.is_for_introspection {
            return next.run(ctx, info).await;
        }
        let kind = info.return_type;
        let value = match next.run(ctx, info).await {
            Ok(value) => settled(value.unwrap_or_default(), kind),
            Err(error) => {
                self.errors.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                if kind.ends_with('!') { absent() } else { Value::Null }
            }
        };
        Ok(Some(value))
    }
}

/// In place of a value that failed and may not be null, until a parent that may be is null in its stead. No field has
/// such a value: it is no name.
const ABSENT: &str = "\0";

fn absent() -> Value {
    Value::Enum(Name::new(ABSENT))
}

fn is_absent(value: &Value) -> bool {
    matches!(value, Value::Enum(name) if name == ABSENT)
}

/// A value of type `kind`, null or absent where something in it is absent. What lies deeper was settled before.
fn settled(value: Value, kind: &str) -> Value {
    if let Some(kind) = kind.strip_suffix('!') {
        return match settled(value, kind) {
            Value::Null => absent(),
            value => value,
        };
    }
    match value {
        Value::Object(fields) if fields.values().any(is_absent) => Value::Null,
        Value::List(items) => {
            let item = kind.strip_prefix('[').and_then(|kind| kind.strip_suffix(']')).unwrap_or(kind);
            let items: Vec<Value> = items.into_iter().map(|value| settled(value, item)).collect();
            if items.iter().any(is_absent) { Value::Null } else { Value::List(items) }
        }
        value if is_absent(&value) => Value::Null,
        value => value,
    }
}

fn too_long(within: Duration) -> ServerError {
    let message = format!("This took longer than {} s and was stopped. Ask for less at once.", within.as_secs());
    Failure::from(ApiError::new(ErrorCode::ServiceUnavailable, message)).into()
}

fn finished(mut response: Response, request_id: &OnceLock<RequestId>) -> Response {
    for error in &mut response.errors {
        failure::complete(error, request_id.get());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::{Context, EmptyMutation, EmptySubscription, Object, Schema};
    use serde_json::{Value as Json, json};

    struct Query;

    #[Object]
    impl Query {
        async fn one(&self) -> Query {
            Query
        }

        async fn maybe(&self) -> Option<Query> {
            Some(Query)
        }

        async fn some(&self) -> Vec<Query> {
            vec![Query, Query]
        }

        async fn some_or_null(&self) -> Option<Vec<Option<Query>>> {
            Some(vec![Some(Query), None])
        }

        async fn fails(&self, ctx: &Context<'_>) -> async_graphql::Result<i32> {
            Err(format!("{} fails", ctx.field().name()).into())
        }

        async fn may_fail(&self) -> async_graphql::Result<Option<i32>> {
            Err("may fail".into())
        }

        async fn never_ends(&self) -> i32 {
            std::future::pending().await
        }

        async fn works(&self) -> i32 {
            1
        }
    }

    async fn answer(query: &str) -> (Json, usize) {
        let schema = Schema::build(Query, EmptyMutation, EmptySubscription).extension(Operations::default()).finish();
        let response = schema.execute(query).await;
        assert!(response.errors.iter().all(|error| !error.path.is_empty()), "{:?}", response.errors);
        (response.data.into_json().unwrap(), response.errors.len())
    }

    #[tokio::test]
    async fn what_takes_too_long_is_stopped_and_said() {
        let operations = Operations { within: Duration::from_millis(5) };
        let schema = Schema::build(Query, EmptyMutation, EmptySubscription).extension(operations).finish();
        let response = schema.execute("{ works neverEnds }").await;
        assert_eq!((response.data, response.errors.len()), (Value::Null, 1));
        assert_eq!(failure::code(&response.errors[0]), Some("SERVICE_UNAVAILABLE"));
        assert!(schema.execute("{ works }").await.errors.is_empty());
    }

    #[tokio::test]
    async fn a_field_that_fails_is_null_or_makes_the_nearest_parent_null_that_may_be() {
        for (query, data, errors) in [
            ("{ works mayFail }", json!({"works": 1, "mayFail": null}), 1),
            ("{ works fails }", Json::Null, 1),
            ("{ works maybe { one { fails works } } }", json!({"works": 1, "maybe": null}), 1),
            ("{ works one { some { fails } } }", Json::Null, 2),
            (
                "{ maybe { works some { mayFail } } }",
                json!({"maybe": {"works": 1, "some": [{"mayFail": null}, {"mayFail": null}]}}),
                2,
            ),
            ("{ someOrNull { works one { fails } } }", json!({"someOrNull": [null, null]}), 1),
            (
                "{ someOrNull { works some { works } } }",
                json!({"someOrNull": [{"works": 1, "some": [{"works": 1}, {"works": 1}]}, null]}),
                0,
            ),
        ] {
            assert_eq!(answer(query).await, (data, errors), "{query}");
        }
    }
}
