//! Amounts are unique per address as decimal amounts, over all chains and assets.
//!
//! - `amount_reservation.amount`, `plain_amount`: the decimal amounts of `units` and `plain_units`.
//! - `amount_reservation.freed_at`: end of the cool-down. Until then the amount is not handed out again.
//! - `transfer.wrong_asset_order_id`: the order that a transfer in another asset, or on another chain, was meant for.
//! - `payment_order.remainder_rounding`: how far a remainder that was handed out lies above what was missing.
//!
//! Columns without a meaning are dropped: every order has an amount of its own, its policy is in columns, height alone tells
//! which blocks are older than an order, and no wallet has an extended public key.

use sea_orm_migration::{
    DbErr, MigrationName, MigrationTrait, SchemaManager,
    async_trait::async_trait,
    sea_orm::{ConnectionTrait, DatabaseTransaction, Statement, TransactionTrait},
};

/// Table, column, type.
const ADDED: [(&str, &str, &str); 5] = [
    ("amount_reservation", "amount", "TEXT NOT NULL DEFAULT ''"),
    ("amount_reservation", "plain_amount", "TEXT NOT NULL DEFAULT ''"),
    ("amount_reservation", "freed_at", "BIGINT"),
    ("transfer", "wrong_asset_order_id", "BIGINT"),
    ("payment_order", "remainder_rounding", "TEXT NOT NULL DEFAULT '0'"),
];

/// Table, column, type with which it comes back.
const DROPPED: [(&str, &str, &str); 4] = [
    ("payment_order", "exact_amount", "BOOLEAN NOT NULL DEFAULT TRUE"),
    ("payment_order", "policy", "TEXT NOT NULL DEFAULT '{}'"),
    ("payment_order", "scanned_time", "BIGINT NOT NULL DEFAULT 0"),
    ("merchant_wallet", "xpub", "TEXT"),
];

const OLD_INDEXES: [(&str, &str); 3] = [
    (
        "amount_reservation_held",
        "CREATE UNIQUE INDEX amount_reservation_held ON amount_reservation (chain, asset, address, units) \
         WHERE released_at IS NULL",
    ),
    (
        "amount_reservation_units",
        "CREATE INDEX amount_reservation_units ON amount_reservation (chain, asset, address, units)",
    ),
    (
        "amount_reservation_price",
        "CREATE INDEX amount_reservation_price ON amount_reservation (chain, asset, address, plain_units)",
    ),
];

const NEW_INDEXES: [(&str, &str); 4] = [
    (
        "amount_reservation_amount",
        "CREATE INDEX amount_reservation_amount ON amount_reservation (address, amount) WHERE freed_at IS NULL",
    ),
    (
        "amount_reservation_plain",
        "CREATE INDEX amount_reservation_plain ON amount_reservation (address, plain_amount, id) WHERE freed_at IS NULL",
    ),
    (
        "amount_reservation_cooling",
        "CREATE INDEX amount_reservation_cooling ON amount_reservation (chain, cools_until) \
         WHERE released_at IS NOT NULL AND freed_at IS NULL",
    ),
    (
        "transfer_wrong_asset",
        "CREATE INDEX transfer_wrong_asset ON transfer (wrong_asset_order_id) WHERE wrong_asset_order_id IS NOT NULL",
    ),
];

/// The decimal amount of units, without trailing zeros. `#u` is the column, `#d` its decimals: at most 36.
const DECIMAL: &str = "CASE WHEN #d = 0 THEN #u ELSE rtrim(rtrim(\
     substr(#p, 1, length(#p) - #d) || '.' || substr(#p, length(#p) - #d + 1), '0'), '.') END";
/// The same units with at least one digit before the decimals.
const PADDED: &str = "(CASE WHEN length(#u) <= #d THEN substr('0000000000000000000000000000000000000', 1, #d + 1 - length(#u)) || #u ELSE #u END)";

/// Orders of the old last resort asked for their price and held nothing. Every order has a reservation now; theirs is free.
const WITHOUT_AMOUNT: &str = "INSERT INTO amount_reservation (order_id, chain, asset, address, units, plain_units, kind, \
     created_at, held_until, released_at, cools_until) SELECT id, chain, asset, receiving_address, pay_units, pay_units, \
     'due', created_at, created_at, created_at, NULL FROM payment_order WHERE NOT exact_amount";
/// A cool-down ended by itself before, when a block past its end was verified.
const COOLED: &str = "UPDATE amount_reservation SET freed_at = cools_until WHERE freed_at IS NULL AND cools_until < \
     (SELECT c.block_time FROM chain_cursor AS c WHERE c.chain = amount_reservation.chain)";

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261201_000007_amounts"
    }
}

#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One connection: SQLite judges `CREATE INDEX` by what the connection knew of the schema before.
        let txn = manager.get_connection().begin().await?;
        for (table, column, kind) in ADDED {
            run(&txn, &format!("ALTER TABLE {table} ADD COLUMN {column} {kind}")).await?;
        }
        run(&txn, WITHOUT_AMOUNT).await?;
        for (column, units) in [("amount", "units"), ("plain_amount", "plain_units")] {
            let decimal = DECIMAL
                .replace("#p", PADDED)
                .replace("#u", &format!("amount_reservation.{units}"))
                .replace("#d", "CAST(o.decimals AS INTEGER)");
            let decimal = format!("SELECT {decimal} FROM payment_order AS o WHERE o.id = amount_reservation.order_id");
            run(&txn, &format!("UPDATE amount_reservation SET {column} = ({decimal})")).await?;
        }
        // Amounts of paid orders did not cool before.
        run(&txn, "UPDATE amount_reservation SET freed_at = released_at WHERE cools_until IS NULL").await?;
        run(&txn, COOLED).await?;
        for (name, _) in OLD_INDEXES {
            run(&txn, &format!("DROP INDEX {name}")).await?;
        }
        for (_, create) in NEW_INDEXES {
            run(&txn, create).await?;
        }
        run(&txn, &unique_index(last_reservation(&txn).await?)).await?;
        for (table, column, _) in DROPPED {
            run(&txn, &format!("ALTER TABLE {table} DROP COLUMN {column}")).await?;
        }
        txn.commit().await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let txn = manager.get_connection().begin().await?;
        for (table, column, kind) in DROPPED.iter().rev() {
            run(&txn, &format!("ALTER TABLE {table} ADD COLUMN {column} {kind}")).await?;
        }
        run(&txn, "DROP INDEX amount_reservation_unique").await?;
        for (name, _) in NEW_INDEXES.iter().rev() {
            run(&txn, &format!("DROP INDEX {name}")).await?;
        }
        for (_, create) in OLD_INDEXES {
            run(&txn, create).await?;
        }
        for (table, column, _) in ADDED.iter().rev() {
            run(&txn, &format!("ALTER TABLE {table} DROP COLUMN {column}")).await?;
        }
        txn.commit().await
    }
}

/// Reservations up to `last` were made under the old rule, in which assets and chains had amounts of their own: some of them
/// may be equal. No new one is equal to them, because they are looked up first.
fn unique_index(last: i64) -> String {
    format!(
        "CREATE UNIQUE INDEX amount_reservation_unique ON amount_reservation (address, amount) \
         WHERE freed_at IS NULL AND id > {last}"
    )
}

async fn last_reservation(connection: &DatabaseTransaction) -> Result<i64, DbErr> {
    let backend = connection.get_database_backend();
    let last = Statement::from_string(backend, "SELECT COALESCE(MAX(id), 0) AS last FROM amount_reservation");
    connection.query_one_raw(last).await?.map_or(Ok(0), |row| row.try_get("", "last"))
}

async fn run(txn: &DatabaseTransaction, statement: &str) -> Result<(), DbErr> {
    txn.execute_unprepared(statement).await.map(|_| ())
}
