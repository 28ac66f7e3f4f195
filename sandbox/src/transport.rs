//! The simulated chain as a transport: JSON-RPC packets in, packets out, without a network between.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use alloy::rpc::json_rpc::{RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use cryptopay_domain::registry::Chain;
use sea_orm::DatabaseConnection;
use tower::Service;

use crate::FaultKind;
use crate::rpc::{self, Fault, Node};

/// What a gateway says whose node is away.
const DOWN: u16 = 503;

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

    async fn respond(&self, request: SerializedRequest, fault: Option<Fault>) -> Response {
        let node = Node { database: &self.database, chain: &self.chain, fault };
        let params = request.params().map_or("[]", |params| params.get());
        let payload = match rpc::answer(node, request.method(), params).await {
            Ok(result) => ResponsePayload::Success(result),
            Err(error) => ResponsePayload::Failure(error.into()),
        };
        Response { id: request.id().clone(), payload }
    }

    /// What is wrong with the node now. One look for a whole packet.
    async fn fault(&self) -> Result<Option<Fault>, TransportError> {
        let fault = Fault::of(&self.database, &self.chain.slug).await.map_err(TransportErrorKind::custom)?;
        if fault.is_some_and(|fault| fault.kind == FaultKind::Down) {
            let words = "the sandbox was told that this node is down".to_owned();
            return Err(TransportErrorKind::http_error(DOWN, words));
        }
        Ok(fault)
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
            let fault = this.fault().await?;
            match packet {
                RequestPacket::Single(request) => Ok(ResponsePacket::Single(this.respond(request, fault).await)),
                RequestPacket::Batch(requests) => {
                    let mut responses = Vec::with_capacity(requests.len());
                    for request in requests {
                        responses.push(this.respond(request, fault).await);
                    }
                    Ok(ResponsePacket::Batch(responses))
                }
            }
        })
    }
}
