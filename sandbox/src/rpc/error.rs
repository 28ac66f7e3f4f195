//! What a method answers instead of a result, with the codes that nodes use.

use std::borrow::Cow;

use alloy::rpc::json_rpc::ErrorPayload;
use sea_orm::DbErr;

use crate::error::SimulationError;

/// An error object of JSON-RPC.
#[derive(Debug)]
pub(crate) struct RpcError {
    code: i64,
    message: Cow<'static, str>,
}

impl RpcError {
    pub(crate) fn unknown_method(method: &str) -> Self {
        Self { code: -32601, message: format!("the method {method} does not exist/is not available").into() }
    }

    pub(crate) fn invalid_params(reason: impl std::fmt::Display) -> Self {
        Self { code: -32602, message: format!("invalid params: {reason}").into() }
    }

    pub(crate) fn unknown_block() -> Self {
        Self { code: -32000, message: "unknown block".into() }
    }

    pub(crate) fn too_many_results(most: u64) -> Self {
        Self { code: -32005, message: format!("query returned more than {most} results").into() }
    }

    pub(crate) fn reverted() -> Self {
        Self { code: 3, message: "execution reverted".into() }
    }
}

impl From<RpcError> for ErrorPayload {
    fn from(error: RpcError) -> Self {
        Self { code: error.code, message: error.message, data: None }
    }
}

impl From<SimulationError> for RpcError {
    fn from(error: SimulationError) -> Self {
        tracing::error!(%error, "simulated chain cannot answer");
        Self { code: -32603, message: "internal error: the simulated chain cannot use its database".into() }
    }
}

impl From<DbErr> for RpcError {
    fn from(error: DbErr) -> Self {
        SimulationError::from(error).into()
    }
}
