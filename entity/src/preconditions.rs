//! All that a new order depends on, read in one statement, since every order asks: where it is paid, which amounts are taken
//! there, who is told of it, and the numbers that its rows get.

use cryptopay_domain::address::Asset;
use cryptopay_domain::amount::DecimalAmount;
use cryptopay_domain::ids::{EndpointId, EventId, MerchantId, OrderId};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, FromQueryResult, Statement, Value};

use crate::merchant_wallet::PayingPlace;
use crate::recognition::columns;
use crate::webhook_endpoint;

/// What is known of an order before anything is read.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whose order.
    pub merchant: MerchantId,
    /// Slug.
    pub chain: &'a str,
    /// What it is paid in.
    pub asset: Asset,
    /// Amounts that it may ask for. None if its price is too small for an amount of its own.
    pub amounts: &'a [DecimalAmount],
}

/// What a new order depends on.
#[derive(Debug, Clone)]
pub struct Preconditions {
    /// Where it is paid.
    pub place: PayingPlace,
    /// Those of its amounts that cannot be handed out there: held, cooling, or the price of an order.
    pub taken: Vec<DecimalAmount>,
    /// The endpoints that deliveries may go to.
    pub endpoints: Vec<webhook_endpoint::Model>,
    /// The number that the order will have.
    pub order: OrderId,
    /// The number of the event that tells of it.
    pub event: EventId,
}

impl Preconditions {
    /// Reads them in the transaction that will write the order. Locks the wallet against changes until that ends.
    pub async fn read(txn: &DatabaseTransaction, asked: Asked<'_>) -> Result<Self, DbErr> {
        let backend = txn.get_database_backend();
        let mut values: Vec<Value> = vec![asked.merchant.into(), asked.chain.into(), contract(asked.asset).into()];
        // Without amounts: one that no amount is equal to.
        if asked.amounts.is_empty() {
            values.push("".into());
        }
        values.extend(asked.amounts.iter().cloned().map(Value::from));
        let sql = sql(backend, values.len());
        let rows = txn.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        let first = rows.first().ok_or_else(|| DbErr::RecordNotFound("an order's preconditions".to_owned()))?;
        let taken: Option<String> = first.try_get("", "taken")?;
        let taken = taken.iter().flat_map(|taken| taken.split(',')).map(DecimalAmount::from).collect();
        // One row for each endpoint, or one without any.
        let mut endpoints = Vec::new();
        for row in &rows {
            if row.try_get::<Option<EndpointId>>("", "endpoint_id")?.is_some() {
                endpoints.push(webhook_endpoint::Model::from_query_result(row, "endpoint_")?);
            }
        }
        Ok(Self {
            place: PayingPlace::from_query_result(first, "")?,
            taken,
            endpoints,
            order: first.try_get("", "order_number")?,
            event: first.try_get("", "event_number")?,
        })
    }
}

fn contract(asset: Asset) -> String {
    match asset {
        Asset::Token(contract) => contract.to_key(),
        Asset::Native => String::new(),
    }
}

/// `$1` to `$3` as of [`PayingPlace::sql`], and from `$4` to the last parameter the amounts.
fn sql(backend: DbBackend, parameters: usize) -> String {
    let values: Vec<String> = (4..=parameters).map(|number| format!("${number}")).collect();
    let more = format!(
        ", {order} AS order_number, {event} AS event_number, \
         (SELECT {joined}(amount, ',') FROM (\
           SELECT held.amount FROM amount_reservation AS held \
           WHERE held.address = wallet.address AND held.amount IN ({values}) AND held.freed_at IS NULL \
           UNION SELECT held.plain_amount FROM amount_reservation AS held \
           WHERE held.address = wallet.address AND held.plain_amount IN ({values}) AND held.freed_at IS NULL\
          ) AS unavailable) AS taken",
        order = next_number(backend, "payment_order"),
        event = next_number(backend, "event"),
        joined = if backend == DbBackend::Postgres { "string_agg" } else { "group_concat" },
        values = values.join(", "),
    );
    // What is read once stands in a query of its own, and the endpoints beside it. Addresses are compared as they are stored,
    // which is in one form everywhere.
    format!(
        "SELECT known.*, {endpoint} FROM ({known}) AS known \
         LEFT JOIN webhook_endpoint AS endpoint ON endpoint.merchant_id = $1 AND endpoint.deleted_at IS NULL \
         ORDER BY endpoint.id",
        known = PayingPlace::sql(backend, &more),
        endpoint = columns::<webhook_endpoint::Column>("endpoint", "endpoint_"),
    )
}

/// SQL for the number of a table's next row: known beforehand, since the rows of one order name each other.
fn next_number(backend: DbBackend, table: &str) -> String {
    match backend {
        // No other transaction is given the same, whatever becomes of this one.
        DbBackend::Postgres => format!("nextval(pg_get_serial_sequence('{table}', 'id'))"),
        // There is one writer: nobody else adds a row before this transaction ends.
        _ => format!("(SELECT COALESCE(MAX(seq), 0) + 1 FROM sqlite_sequence WHERE name = '{table}')"),
    }
}
