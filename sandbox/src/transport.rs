//! The simulated chain as a transport: JSON-RPC packets in, packets out, without a network between.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use alloy::rpc::json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy::transports::{TransportError, TransportFut};
use cryptopay_domain::registry::Chain;
use sea_orm::DatabaseConnection;
use tower::Service;

use crate::rpc::{self, Node};

/// A simulated chain, to be handed to an alloy provider or to `cryptopay_chain::EvmClient::over`. Cheap to clone; all that
/// there is of the chain is in the database.
#[derive(Clone)]
pub struct SimulatedChain {
    database: DatabaseConnection,
    chain: Arc<Chain>,
}

impl SimulatedChain {
    /// The simulation of `chain` that lives in `database`. Its first block is mined when somebody asks for the head.
    pub fn new(database: DatabaseConnection, chain: Arc<Chain>) -> Self {
        Self { database, chain }
    }

    async fn respond(&self, request: SerializedRequest) -> Response {
        let node = Node { database: &self.database, chain: &self.chain };
        let params = request.params().map_or("[]", |params| params.get());
        let payload = match rpc::answer(node, request.method(), params).await {
            Ok(result) => ResponsePayload::Success(result),
            Err(error) => ResponsePayload::Failure(error.into()),
        };
        Response { id: request.id().clone(), payload }
    }
}

impl fmt::Debug for SimulatedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedChain").field("chain", &self.chain.slug).finish_non_exhaustive()
    }
}

impl Service<RequestPacket> for SimulatedChain {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    /// Answers the calls of a packet one after the other.
    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            match packet {
                RequestPacket::Single(request) => Ok(ResponsePacket::Single(this.respond(request).await)),
                RequestPacket::Batch(requests) => {
                    let mut responses = Vec::with_capacity(requests.len());
                    for request in requests {
                        responses.push(this.respond(request).await);
                    }
                    Ok(ResponsePacket::Batch(responses))
                }
            }
        })
    }
}
