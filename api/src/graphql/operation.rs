//! What stands around every operation, on every transport: limits before, one snapshot during, complete errors after.

use std::any::TypeId;
use std::sync::{Arc, OnceLock};

use async_graphql::extensions::{
    Extension, ExtensionContext, ExtensionFactory, NextExecute, NextPrepareRequest, NextRequest, NextSubscribe,
};
use async_graphql::{Request, Response, ServerResult};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::failure::{self, RequestId};
use super::limits;
use super::snapshot::Snapshot;

/// Makes an [`Operation`] for each request.
#[derive(Debug)]
pub(super) struct Operations;

impl ExtensionFactory for Operations {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Operation::default())
    }
}

/// One operation.
#[derive(Debug, Default)]
struct Operation {
    snapshot: Arc<Snapshot>,
    request_id: Arc<OnceLock<RequestId>>,
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
        limits::admit(&mut request)?;
        request.data.insert(Arc::clone(&self.snapshot));
        next.run(ctx, request).await
    }

    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        let response = next.run(ctx, operation_name).await;
        self.snapshot.close().await;
        response
    }
}

fn finished(mut response: Response, request_id: &OnceLock<RequestId>) -> Response {
    for error in &mut response.errors {
        failure::complete(error, request_id.get());
    }
    response
}
