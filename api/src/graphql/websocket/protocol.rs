//! The protocol as a state machine: what the client says goes in, what is to be done comes out. It knows no socket and
//! no clock.

use std::collections::HashSet;

use async_graphql::{ErrorExtensionValues, Request, Response, ServerError, Value as GraphQLValue};
use serde_json::Value;

use super::message::{self, ClientMessage};
use super::{Close, Code};

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing but pings may be said.
    AwaitingInit,
    /// `connection_init` has come and is being looked at.
    Authenticating,
    /// `connection_ack` has been sent.
    Ready,
}

/// What the driver has to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Nothing.
    Nothing,
    /// Find out who this is, and then call [`Protocol::acknowledge`], or close.
    Authenticate(Value),
    /// Send this text.
    Send(String),
    /// Start an operation; report with [`Protocol::respond`] and [`Protocol::finish`].
    Start {
        /// The client's name for it.
        id: String,
        /// What to do.
        request: Box<Request>,
    },
    /// Drop this operation; its results are not wanted any more.
    Cancel {
        /// The client's name for it.
        id: String,
    },
    /// Close the connection; nothing may follow.
    Close(Close),
}

/// What becomes of a result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Send this text.
    Send(String),
    /// Send this text and drop the operation.
    SendLast(String),
    /// The client has ended this operation: forget it.
    Forget,
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct Protocol {
    phase: Phase,
    operations: HashSet<String>,
    most_operations: usize,
}

impl Protocol {
    /// A connection on which nothing has been said, for at most so many operations at once.
    pub(super) fn new(most_operations: usize) -> Self {
        Self { phase: Phase::AwaitingInit, operations: HashSet::new(), most_operations }
    }

    /// Whether the client has been let in.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// The client sent a text frame.
    pub(super) fn receive(&mut self, text: &str) -> Action {
        match ClientMessage::parse(text) {
            Ok(ClientMessage::ConnectionInit(payload)) => self.init(payload),
            Ok(ClientMessage::Ping(payload)) => Action::Send(message::pong(payload)),
            Ok(ClientMessage::Pong) => Action::Nothing,
            Ok(ClientMessage::Subscribe { id, request }) => self.subscribe(id, request),
            // An id that is not known has just ended by itself: both sides may end an operation at the same moment.
            Ok(ClientMessage::Complete { id }) if self.operations.remove(&id) => Action::Cancel { id },
            Ok(ClientMessage::Complete { .. }) => Action::Nothing,
            Err(malformed) => Action::Close(Close::new(Code::BadRequest, malformed.to_string())),
        }
    }

    /// The client has been let in: the text to send.
    pub(super) fn acknowledge(&mut self) -> String {
        self.phase = Phase::Ready;
        message::connection_ack()
    }

    /// An operation has a result.
    pub(super) fn respond(&mut self, id: &str, response: &Response) -> Reply {
        if !self.operations.contains(id) {
            return Reply::Forget;
        }
        // An error without a path concerns the request, not a field: the operation never ran.
        let refused = response.is_err()
            && response.data == GraphQLValue::Null
            && response.errors.iter().all(|error| error.path.is_empty());
        if refused {
            self.operations.remove(id);
            return Reply::SendLast(message::error(id, &response.errors));
        }
        match message::next(id, response) {
            Ok(text) => Reply::Send(text),
            Err(error) => {
                tracing::error!(%error, "cannot write a GraphQL response as JSON");
                self.operations.remove(id);
                let error = refusal("Something went wrong on our side.".to_owned(), "INTERNAL_ERROR");
                Reply::SendLast(message::error(id, &[error]))
            }
        }
    }

    /// An operation has no more results: the text to send, if the client still waits for it.
    pub(super) fn finish(&mut self, id: &str) -> Option<String> {
        self.operations.remove(id).then(|| message::complete(id))
    }

    fn init(&mut self, payload: Value) -> Action {
        if self.phase != Phase::AwaitingInit {
            return Action::Close(Close::new(Code::TooManyInits, "Too many initialisation requests"));
        }
        self.phase = Phase::Authenticating;
        Action::Authenticate(payload)
    }

    fn subscribe(&mut self, id: String, request: Box<Request>) -> Action {
        if self.phase != Phase::Ready {
            return Action::Close(Close::new(Code::Unauthorized, "Unauthorized: wait for connection_ack"));
        }
        if self.operations.contains(&id) {
            return Action::Close(Close::new(Code::DuplicateId, format!("Subscriber for {id} already exists")));
        }
        if self.operations.len() >= self.most_operations {
            let most = self.most_operations;
            let text = format!("This connection runs {most} operations, the most it may: complete one first.");
            return Action::Send(message::error(&id, &[refusal(text, "RATE_LIMITED")]));
        }
        self.operations.insert(id.clone());
        Action::Start { id, request }
    }
}

fn refusal(text: String, code: &str) -> ServerError {
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", code);
    let mut error = ServerError::new(text, None);
    error.extensions = Some(extensions);
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    use async_graphql::PathSegment;
    use proptest::prelude::*;
    use serde_json::json;

    const INIT: &str = r#"{"type":"connection_init","payload":{"token":"t"}}"#;

    fn subscribe(id: &str) -> String {
        json!({"type": "subscribe", "id": id, "payload": {"query": "{a}"}}).to_string()
    }

    fn ready() -> Protocol {
        let mut protocol = Protocol::new(2);
        assert!(matches!(protocol.receive(INIT), Action::Authenticate(payload) if payload["token"] == "t"));
        assert_eq!(protocol.acknowledge(), r#"{"type":"connection_ack"}"#);
        protocol
    }

    fn start(protocol: &mut Protocol, id: &str) {
        assert!(matches!(protocol.receive(&subscribe(id)), Action::Start { id: started, .. } if started == id));
    }

    #[track_caller]
    fn closes(action: &Action, code: Code) {
        assert!(matches!(action, Action::Close(close) if close.code == code), "{action:?}");
    }

    fn answer(response: &Reply) -> Value {
        match response {
            Reply::Send(text) | Reply::SendLast(text) => serde_json::from_str(text).unwrap(),
            Reply::Forget => panic!("forgotten"),
        }
    }

    #[test]
    fn an_operation_runs_from_subscribe_to_complete_and_its_id_is_free_again() {
        let mut protocol = ready();
        start(&mut protocol, "a");
        let reply = protocol.respond("a", &Response::new(GraphQLValue::from(1)));
        assert!(matches!(reply, Reply::Send(_)));
        assert_eq!(answer(&reply), json!({"id": "a", "type": "next", "payload": {"data": 1}}));
        assert_eq!(protocol.finish("a").unwrap(), r#"{"id":"a","type":"complete"}"#);
        assert_eq!(protocol.finish("a"), None);
        start(&mut protocol, "a");
    }

    #[test]
    fn an_operation_before_the_acknowledgement_closes_with_4401() {
        closes(&Protocol::new(2).receive(&subscribe("a")), Code::Unauthorized);
        let mut protocol = Protocol::new(2);
        protocol.receive(INIT);
        closes(&protocol.receive(&subscribe("a")), Code::Unauthorized);
    }

    #[test]
    fn a_second_init_closes_with_4429_before_and_after_the_acknowledgement() {
        closes(&ready().receive(INIT), Code::TooManyInits);
        let mut protocol = Protocol::new(2);
        protocol.receive(INIT);
        closes(&protocol.receive(INIT), Code::TooManyInits);
    }

    #[test]
    fn a_running_id_cannot_be_used_twice() {
        let mut protocol = ready();
        start(&mut protocol, "a");
        closes(&protocol.receive(&subscribe("a")), Code::DuplicateId);
    }

    #[test]
    fn a_reason_is_cut_to_what_a_close_frame_holds() {
        let mut protocol = ready();
        let id = "é".repeat(100);
        start(&mut protocol, &id);
        let Action::Close(close) = protocol.receive(&subscribe(&id)) else { panic!() };
        assert!(close.reason.len() <= 123);
    }

    #[test]
    fn what_is_no_message_closes_with_4400() {
        closes(&ready().receive("hello"), Code::BadRequest);
        closes(&ready().receive(r#"{"type":"start"}"#), Code::BadRequest);
    }

    #[test]
    fn one_operation_too_many_is_refused_and_the_connection_lives() {
        let mut protocol = ready();
        start(&mut protocol, "a");
        start(&mut protocol, "b");
        let Action::Send(text) = protocol.receive(&subscribe("c")) else { panic!() };
        let refused: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("c")));
        assert_eq!(refused["payload"][0]["extensions"]["code"], "RATE_LIMITED");
        protocol.finish("a");
        start(&mut protocol, "c");
    }

    #[test]
    fn completing_cancels_once_and_late_results_are_forgotten() {
        let mut protocol = ready();
        start(&mut protocol, "a");
        let complete = r#"{"type":"complete","id":"a"}"#;
        assert!(matches!(protocol.receive(complete), Action::Cancel { id } if id == "a"));
        assert!(matches!(protocol.receive(complete), Action::Nothing));
        assert_eq!(protocol.respond("a", &Response::default()), Reply::Forget);
        assert_eq!(protocol.finish("a"), None);
    }

    #[test]
    fn a_request_error_ends_the_operation_and_a_field_error_does_not() {
        let mut protocol = ready();
        start(&mut protocol, "a");
        let mut error = ServerError::new("no such field", None);
        let reply = protocol.respond("a", &Response::from_errors(vec![error.clone()]));
        assert!(matches!(reply, Reply::SendLast(_)));
        assert_eq!(answer(&reply), json!({"id": "a", "type": "error", "payload": [{"message": "no such field"}]}));

        start(&mut protocol, "a");
        error.path.push(PathSegment::Field("a".to_owned()));
        let reply = protocol.respond("a", &Response::from_errors(vec![error]));
        assert!(matches!(reply, Reply::Send(_)));
        assert_eq!(answer(&reply)["type"], "next");
    }

    #[test]
    fn a_ping_is_answered_at_any_time_with_its_own_payload() {
        let ping = r#"{"type":"ping","payload":{"n":1}}"#;
        for mut protocol in [Protocol::new(2), ready()] {
            let Action::Send(text) = protocol.receive(ping) else { panic!() };
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"type": "pong", "payload": {"n": 1}}));
            assert!(matches!(protocol.receive(r#"{"type":"pong"}"#), Action::Nothing));
        }
    }

    /// Frames that come near the protocol, so that more than the JSON parser is tried.
    fn frame() -> impl Strategy<Value = String> {
        let kind = prop::sample::select(vec!["connection_init", "ping", "pong", "subscribe", "complete", "next", ""]);
        let id = prop::sample::select(vec![json!("a"), json!("b"), json!("c"), json!(""), json!(1), Value::Null]);
        let payload = prop::sample::select(vec![
            Value::Null,
            json!({}),
            json!([]),
            json!({"query": "{a}"}),
            json!({"query": "{a}", "variables": {"v": [1, null, {"w": 2.5}]}}),
            json!({"query": 1}),
        ]);
        let near = (kind, id, payload)
            .prop_map(|(kind, id, payload)| json!({"type": kind, "id": id, "payload": payload}).to_string());
        prop_oneof![4 => near, 1 => any::<String>(), 1 => "[\\[\\]{}\",:a-z0-9]{0,64}"]
    }

    proptest! {
        #[test]
        fn no_sequence_of_frames_panics_or_breaks_a_limit(frames in prop::collection::vec(frame(), 0..40)) {
            let mut protocol = Protocol::new(2);
            for frame in frames {
                let ready_before = protocol.is_ready();
                match protocol.receive(&frame) {
                    Action::Authenticate(_) => {
                        prop_assert!(!ready_before);
                        protocol.acknowledge();
                    }
                    Action::Start { .. } => prop_assert!(ready_before),
                    Action::Close(close) => {
                        prop_assert!(close.reason.len() <= 123);
                        break;
                    }
                    Action::Send(text) => prop_assert!(serde_json::from_str::<Value>(&text).is_ok()),
                    Action::Nothing | Action::Cancel { .. } => {}
                }
                prop_assert!(protocol.operations.len() <= 2);
            }
        }
    }
}
