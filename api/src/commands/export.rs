//! `cryptopay export`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Failure, say};

/// Which contract.
#[derive(Debug, Subcommand)]
pub(super) enum Export {
    /// The OpenAPI document
    Openapi {
        /// File to write; standard output if not said
        path: Option<PathBuf>,
    },
    /// The GraphQL schema
    Graphql {
        /// File to write; standard output if not said
        path: Option<PathBuf>,
    },
    /// The table of error codes, in Markdown
    Errors {
        /// File to write; standard output if not said
        path: Option<PathBuf>,
    },
}

/// Writes it.
pub(super) fn run(export: Export) -> Result<(), Failure> {
    let (text, path) = match export {
        Export::Openapi { path } => (crate::rest::document::openapi_text().map_err(Failure::other)?, path),
        Export::Graphql { path } => (crate::graphql::sdl(), path),
        Export::Errors { path } => (crate::error::table(), path),
    };
    match path {
        Some(path) => {
            std::fs::write(&path, text).map_err(|error| Failure::other(format!("{}: {error}", path.display())))
        }
        None => {
            say(text.trim_end());
            Ok(())
        }
    }
}
