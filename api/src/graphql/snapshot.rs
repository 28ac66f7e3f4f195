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
use crate::operations::searches::Turn;

/// The snapshot of one operation.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    open: Mutex<Option<Arc<DatabaseTransaction>>>,
    /// Of an operation that searches: it reads everything over the connections of searches.
    turn: Mutex<Option<Turn>>,
}

impl Snapshot {
    async fn open(&self, app: &App) -> Result<Arc<DatabaseTransaction>, DbErr> {
        let mut open = self.open.lock().await;
        if let Some(txn) = &*open {
            return Ok(Arc::clone(txn));
        }
        let txn = match &*self.turn.lock().await {
            Some(turn) => txn::begin_snapshot(turn.database()).await?,
            None => txn::begin_snapshot(app.database()).await?,
        };
        let txn = Arc::new(txn);
        *open = Some(Arc::clone(&txn));
        Ok(txn)
    }

    /// Begins a search's turn, before anything is read.
    pub(super) async fn begin_search(&self, turn: Turn) {
        *self.turn.lock().await = Some(turn);
    }

    /// Ends it without waiting: what was asked of it may still run, and the pool takes the connection back after that.
    pub(super) async fn abandon(&self) {
        drop(self.open.lock().await.take());
        drop(self.turn.lock().await.take());
    }

    /// Ends it; the next read opens another.
    pub(super) async fn close(&self) {
        if let Some(txn) = self.open.lock().await.take().and_then(Arc::into_inner) {
            // Nothing was written; a connection that fails here is thrown away by the pool.
            let _ = txn.rollback().await;
        }
        drop(self.turn.lock().await.take());
    }
}

/// The connection on which a field reads.
pub(super) async fn reading(ctx: &Context<'_>) -> Result<Arc<DatabaseTransaction>, Failure> {
    let snapshot =
        ctx.data_opt::<Arc<Snapshot>>().ok_or_else(|| ApiError::internal("an operation without snapshot"))?;
    Ok(snapshot.open(app(ctx)?).await?)
}

/// The connection on which a field searches.
pub(super) async fn searching(ctx: &Context<'_>) -> Result<Arc<DatabaseTransaction>, Failure> {
    let snapshot =
        ctx.data_opt::<Arc<Snapshot>>().ok_or_else(|| ApiError::internal("an operation without snapshot"))?;
    if snapshot.turn.lock().await.is_none() {
        return Err(ApiError::internal("a search without a turn").into());
    }
    Ok(snapshot.open(app(ctx)?).await?)
}

/// What fields are served with.
pub(super) fn app<'a>(ctx: &Context<'a>) -> Result<&'a App, Failure> {
    Ok(ctx.data_opt::<App>().ok_or_else(|| ApiError::internal("a schema without App"))?)
}
