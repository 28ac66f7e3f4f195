//! What contracts answer. The registered tokens know their decimals, and nothing else: nobody's balance is kept.

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol;
use alloy::sol_types::SolCall;
use cryptopay_domain::address::{AccountAddress, Asset};
use serde::Deserialize;
use serde_json::Value;

use super::{Node, RpcError, parse};

sol! {
    function decimals() external view returns (uint8);
}

#[derive(Deserialize)]
struct Request {
    to: Option<Address>,
    input: Option<Bytes>,
    /// The older name of `input`.
    data: Option<Bytes>,
}

/// The code at an address. The registered tokens are the only contracts; what they are made of is one byte that halts.
pub(super) fn code(node: Node<'_>, params: &str) -> Result<Bytes, RpcError> {
    let params: Vec<Value> = parse(params)?;
    let first = params.into_iter().next().ok_or_else(|| RpcError::invalid_params("the address is missing"))?;
    let address: Address = serde_json::from_value(first).map_err(RpcError::invalid_params)?;
    let token = node.chain.token_of(Asset::Token(AccountAddress(address)));
    Ok(if token.is_some() { Bytes::from_static(&[0]) } else { Bytes::new() })
}

/// Calls a contract. Where there is none, a call returns nothing, as on any chain.
pub(super) fn call(node: Node<'_>, params: &str) -> Result<Bytes, RpcError> {
    let params: Vec<Value> = parse(params)?;
    let first = params.into_iter().next().ok_or_else(|| RpcError::invalid_params("the call is missing"))?;
    let request: Request = serde_json::from_value(first).map_err(RpcError::invalid_params)?;
    let contract = request.to.map(|to| Asset::Token(AccountAddress(to)));
    let Some(token) = contract.and_then(|contract| node.chain.token_of(contract)) else { return Ok(Bytes::new()) };
    let input = request.input.or(request.data).unwrap_or_default();
    if input.starts_with(&decimalsCall::SELECTOR) {
        return Ok(Bytes::from(U256::from(token.decimals).to_be_bytes_vec()));
    }
    Err(RpcError::reverted())
}
