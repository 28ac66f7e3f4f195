//! GraphQL: the same rules and words as REST, over HTTP, server-sent events and WebSockets.
//!
//! `query` and `subscription` hold what can be asked and followed, `types`, `enums` and `scalars` what answers look like.
//! Around every operation stands `operation`: `limits` before it, one `snapshot` of the database during it, complete
//! errors (`failure`) after it. `http`, `sse` and `socket` (with `websocket`, the protocol) are the ways in, and `access`
//! says who comes.
//!
//! It guarantees that the fields of a query, `eventCursor` among them, are read in one snapshot; that a subscription
//! misses nothing and repeats nothing (`following`); and that a hostile document is refused before it costs anything.

mod access;
mod connections;
mod credentials;
mod enums;
mod explorer;
mod failure;
mod following;
mod http;
mod limits;
mod media;
mod operation;
mod pages;
mod query;
mod scalars;
mod snapshot;
mod socket;
mod sse;
mod subscription;
#[cfg(test)]
mod tests;
mod types;
pub mod websocket;

use async_graphql::{EmptyMutation, SDLExportOptions, SchemaBuilder};
use poem::{Route, get};
use tokio_util::sync::CancellationToken;

pub use failure::RequestId;
pub(crate) use http::refused;

use crate::app::App;
use connections::Connections;
use credentials::Credentials;
use query::Query;
use subscription::Subscriptions;

/// The schema with all that its fields are served with. Cheap to clone.
pub(crate) type Schema = async_graphql::Schema<Query, EmptyMutation, Subscriptions>;

/// Adds `/graphql`, `/graphql/ws` and `/graphql/schema.graphql`. `shutdown` ends streams and sockets, and the task that
/// looks after their credentials; so this is called within a runtime.
pub fn routes(route: Route, app: &App, shutdown: CancellationToken) -> Route {
    let schema = schema(app.clone());
    let connections = Connections::default();
    let credentials = Credentials::default();
    tokio::spawn(credentials.clone().watch(app.database().clone(), shutdown.clone()));
    let socket = socket::Socket {
        app: app.clone(),
        schema: schema.clone(),
        connections: connections.clone(),
        credentials: credentials.clone(),
        shutdown: shutdown.clone(),
    };
    route
        .at("/graphql", http::Http { app: app.clone(), schema, connections, credentials, shutdown })
        .at("/graphql/ws", socket)
        .at("/graphql/schema.graphql", get(explorer::schema_text))
}

/// The schema, ready to run operations. Those find who asks (a [`Principal`](crate::principal::Principal)) in their data.
pub(crate) fn schema(app: App) -> Schema {
    let suggestions = app.is_sandbox();
    let builder = builder().data(app);
    if suggestions { builder } else { builder.disable_suggestions() }.finish()
}

/// The schema as text: sorted, with descriptions. This is `schema.graphql`.
pub fn sdl() -> String {
    let options = SDLExportOptions::new()
        .sorted_fields()
        .sorted_arguments()
        .sorted_enum_items()
        .use_space_ident()
        .indent_width(2);
    let sdl = builder().finish().sdl_with_options(options);
    // The generator leaves blanks at the ends of lines, and blank lines at the end.
    let mut text: String = sdl.trim_end().lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    text
}

fn builder() -> SchemaBuilder<Query, EmptyMutation, Subscriptions> {
    async_graphql::Schema::build(Query, EmptyMutation, Subscriptions)
        .extension(operation::Operations::default())
        .limit_complexity(limits::MAX_COMPLEXITY)
}
