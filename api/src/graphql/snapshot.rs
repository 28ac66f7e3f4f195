//! One snapshot of the database for everything that one operation reads.
//!
//! It is opened by the first field that reads, and closed when the operation has run; so `eventCursor` and the rows
//! beside it agree. A subscription's events read nothing by default; if one does, it gets a snapshot of its own.

use std::sync::Arc;

use async_graphql::Context;
use cryptopay_entity::txn;
use sea_orm::{DatabaseTransaction, DbErr};
use tokio::sync::Mutex;

use super::failure::Failure;
use crate::app::App;
use crate::error::ApiError;

/// The snapshot of one operation.
#[derive(Debug, Default)]
pub(super) struct Snapshot(Mutex<Option<Arc<DatabaseTransaction>>>);

impl Snapshot {
    async fn open(&self, app: &App) -> Result<Arc<DatabaseTransaction>, DbErr> {
        let mut open = self.0.lock().await;
        if let Some(txn) = &*open {
            return Ok(Arc::clone(txn));
        }
        let txn = Arc::new(txn::begin_snapshot(app.database()).await?);
        *open = Some(Arc::clone(&txn));
        Ok(txn)
    }

    /// Ends it without waiting: what was asked of it may still run, and the pool takes the connection back after that.
    pub(super) async fn abandon(&self) {
        drop(self.0.lock().await.take());
    }

    /// Ends it; the next read opens another.
    pub(super) async fn close(&self) {
        if let Some(txn) = self.0.lock().await.take().and_then(Arc::into_inner) {
            // Nothing was written; a connection that fails here is thrown away by the pool.
            let _ = txn.rollback().await;
        }
    }
}

/// The connection on which a field reads.
pub(super) async fn reading(ctx: &Context<'_>) -> Result<Arc<DatabaseTransaction>, Failure> {
    let snapshot =
        ctx.data_opt::<Arc<Snapshot>>().ok_or_else(|| ApiError::internal("an operation without snapshot"))?;
    Ok(snapshot.open(app(ctx)?).await?)
}

/// What fields are served with.
pub(super) fn app<'a>(ctx: &Context<'a>) -> Result<&'a App, Failure> {
    Ok(ctx.data_opt::<App>().ok_or_else(|| ApiError::internal("a schema without App"))?)
}
