//! A place where webhooks can go before the merchant has a receiver of their own, and where they can be read.
//!
//! Whoever knows the token may post, so everything that arrives is bounded, and the oldest makes room for the newest.

use alloy::hex;
use cryptopay_domain::ids::MerchantId;
use cryptopay_domain::time::Timestamp;
use cryptopay_entity::sandbox_message::{Arrived, MessageFilter};
use cryptopay_entity::{sandbox_inbox, sandbox_message};
use sea_orm::{ConnectionTrait, DbErr};

/// Most messages that are kept of one merchant.
pub const MAX_MESSAGES: u64 = 1_000;
/// Most bytes of a body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Most bytes of the headers, as JSON.
pub const MAX_HEADERS_BYTES: usize = 16 * 1024;
/// Most bytes of an event's name or an order's id.
const MAX_WORD_BYTES: usize = 128;

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// When, in business time.
    pub at: Timestamp,
    /// The event, as the headers name it.
    pub event: Option<String>,
    /// The order, as the body names it.
    pub order_id: Option<String>,
    /// The headers, as a JSON object.
    pub headers: String,
    /// The body.
    pub body: String,
    /// Whether the signature over the body was right: the caller has the secret.
    pub signature_valid: bool,
}

/// Why a message was not kept.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// Too long.
    #[error("The {what} may have at most {max_bytes} bytes here.")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// How much it may have.
        max_bytes: usize,
    },
    /// The database.
    #[error("the database of the webhook inbox: {0}")]
    Database(#[from] DbErr),
}

/// Gives a merchant an inbox, if there is none yet; the unguessable part of its address.
///
/// # Errors
/// The database's.
pub async fn create_inbox(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<String, DbErr> {
    let token = hex::encode(rand::random::<[u8; 16]>());
    if sandbox_inbox::Entity::open(connection, merchant, &token).await? {
        return Ok(token);
    }
    let known = sandbox_inbox::Entity::of(connection, merchant).await?;
    known.map(|inbox| inbox.token).ok_or_else(|| DbErr::RecordNotFound("the inbox that is in the way".to_owned()))
}

/// The inbox with this token: whose it is, and what it answers.
///
/// # Errors
/// The database's.
pub async fn inbox_of_token(
    connection: &impl ConnectionTrait,
    token: &str,
) -> Result<Option<sandbox_inbox::Model>, DbErr> {
    // Anything else was never given out, and PostgreSQL refuses some of it.
    if token.len() != 32 || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    sandbox_inbox::Entity::with_token(connection, token).await
}

/// Keeps a message, and forgets the oldest beyond [`MAX_MESSAGES`]; the message's key. NUL characters, which PostgreSQL
/// does not store, become U+FFFD.
///
/// # Errors
/// [`InboxError::TooLarge`] beyond [`MAX_BODY_BYTES`] or [`MAX_HEADERS_BYTES`].
pub async fn record_message(
    connection: &impl ConnectionTrait,
    merchant: MerchantId,
    received: Received,
) -> Result<i64, InboxError> {
    let word = |what, text: Option<String>| text.map(|text| bounded(what, text, MAX_WORD_BYTES)).transpose();
    let arrived = Arrived {
        received_at: received.at,
        event: word("name of the event", received.event)?,
        order_id: word("id of the order", received.order_id)?,
        headers: bounded("headers", received.headers, MAX_HEADERS_BYTES)?,
        body: bounded("body", received.body, MAX_BODY_BYTES)?,
        signature_valid: received.signature_valid,
    };
    let id = sandbox_message::Entity::add(connection, merchant, arrived).await?;
    sandbox_message::Entity::trim(connection, merchant, MAX_MESSAGES).await?;
    Ok(id)
}

/// A merchant's messages, newest first, at most `limit` and [`MAX_MESSAGES`].
///
/// # Errors
/// The database's.
pub async fn messages(
    connection: &impl ConnectionTrait,
    merchant: MerchantId,
    filter: &MessageFilter,
    limit: u64,
) -> Result<Vec<sandbox_message::Model>, DbErr> {
    let never_stored = |word: &Option<String>| word.as_ref().is_some_and(|word| word.contains('\0'));
    if never_stored(&filter.event) || never_stored(&filter.order_id) {
        return Ok(Vec::new());
    }
    sandbox_message::Entity::of(connection, merchant, filter, limit.min(MAX_MESSAGES)).await
}

/// Empties a merchant's inbox; how many messages there were.
///
/// # Errors
/// The database's.
pub async fn delete_messages(connection: &impl ConnectionTrait, merchant: MerchantId) -> Result<u64, DbErr> {
    sandbox_message::Entity::clear(connection, merchant).await
}

fn bounded(what: &'static str, text: String, max_bytes: usize) -> Result<String, InboxError> {
    if text.len() > max_bytes {
        return Err(InboxError::TooLarge { what, max_bytes });
    }
    Ok(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text })
}
