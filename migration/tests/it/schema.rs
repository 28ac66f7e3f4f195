//! Up, down, up; and the same tables on both databases.

use cryptopay_migration::{Migrator, MigratorTrait};
use cryptopay_test_support::{TestDatabase, block_on, on_both_databases};
use sea_orm_migration::sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use std::collections::BTreeSet;

/// Every file of SQL that a migration runs.
const SCHEMA: &[&str] = &[
    include_str!("../../src/schema.sql"),
    include_str!("../../src/lists.sql"),
    include_str!("../../src/sandbox.sql"),
    include_str!("../../src/failed_login.sql"),
    include_str!("../../src/unverifiable.sql"),
];
/// Where SeaORM notes which migrations ran. It stays when they are taken back.
const HISTORY: &str = "seaql_migrations";

on_both_databases!(a_migrated_database_has_the_tables_of_schema_sql, async |db: TestDatabase| {
    let declared: BTreeSet<String> = SCHEMA
        .iter()
        .flat_map(|sql| sql.lines())
        .filter_map(|line| line.trim().strip_prefix("CREATE TABLE "))
        .map(|rest| rest.trim_end_matches([' ', '(']).to_owned())
        .collect();
    assert!(declared.contains("payment_order"));
    assert_eq!(tables(db.connection()).await, declared);
});

/// Connects as the next command does. SQLite judges `CREATE INDEX` by what a connection knew of the schema before: among
/// several, one can take an index for existing that another has dropped.
async fn anew(db: &TestDatabase) -> DatabaseConnection {
    Database::connect(db.url()).await.unwrap()
}

on_both_databases!(down_leaves_nothing_and_up_again_the_same_schema, async |db: TestDatabase| {
    let connection = db.connection();
    let first = definitions(connection).await;
    Migrator::down(connection, None).await.unwrap();
    assert_eq!(tables(connection).await, BTreeSet::new());
    assert_eq!(definitions(connection).await, BTreeSet::new());
    assert!(Migrator::get_applied_migrations(connection).await.unwrap().is_empty());

    let connection = &anew(&db).await;
    Migrator::up(connection, None).await.unwrap();
    assert_eq!(definitions(connection).await, first);
    assert!(Migrator::get_pending_migrations(connection).await.unwrap().is_empty());
});

on_both_databases!(down_takes_the_rows_along, async |db: TestDatabase| {
    let connection = db.connection();
    connection
        .execute_unprepared("INSERT INTO timer_lease (name, owner, lease_until) VALUES ('a', 'b', 1)")
        .await
        .unwrap();
    Migrator::down(connection, None).await.unwrap();
    let connection = &anew(&db).await;
    Migrator::up(connection, None).await.unwrap();
    for table in tables(connection).await {
        let rows = strings(connection, &format!("SELECT CAST(count(*) AS TEXT) FROM {table}")).await;
        // The counter of event numbers is one row from the beginning.
        let expected = if table == "event_counter" { "1" } else { "0" };
        assert_eq!(rows, BTreeSet::from([expected.to_owned()]), "{table}");
    }
});

on_both_databases!(up_on_a_migrated_database_changes_nothing, async |db: TestDatabase| {
    let before = definitions(db.connection()).await;
    Migrator::up(db.connection(), None).await.unwrap();
    assert_eq!(definitions(db.connection()).await, before);
});

on_both_databases!(a_line_of_the_audit_log_can_be_neither_changed_nor_removed, async |db: TestDatabase| {
    let connection = db.connection();
    let line = "INSERT INTO audit_log (at, actor, action, subject, details) VALUES (1, 'a', 'b', 'c', '{}')";
    connection.execute_unprepared(line).await.unwrap();
    let mut changes =
        vec!["UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log", "DELETE FROM audit_log WHERE id = 1"];
    if connection.get_database_backend() == DbBackend::Postgres {
        changes.push("TRUNCATE audit_log");
    }
    for change in changes {
        let refused = connection.execute_unprepared(change).await.unwrap_err().to_string();
        assert!(refused.contains("audit_log is append only"), "{change}: {refused}");
    }
    assert_eq!(strings(connection, "SELECT actor FROM audit_log").await, BTreeSet::from(["a".to_owned()]));
    connection.execute_unprepared(line).await.unwrap();
});

#[test]
fn both_databases_have_the_same_columns_and_indexes() {
    block_on(async {
        let (sqlite, postgres) = (TestDatabase::sqlite().await, TestDatabase::postgres().await);
        assert_eq!(columns(sqlite.connection()).await, columns(postgres.connection()).await);
        assert_eq!(named_indexes(sqlite.connection()).await, named_indexes(postgres.connection()).await);
    });
}

on_both_databases!(keys_that_a_key_had_made_get_their_maker, async |db: TestDatabase| {
    let connection = db.connection();
    let name = |migration: &dyn sea_orm_migration::MigrationTrait| migration.name().to_owned();
    let migrations: Vec<String> = Migrator::migrations().iter().map(|migration| name(migration.as_ref())).collect();
    let place = migrations.iter().position(|name| name.ends_with("credentials")).unwrap();
    Migrator::down(connection, u32::try_from(migrations.len() - place).ok()).await.unwrap();
    let merchant = "INSERT INTO merchant (id, username, username_key, email, email_key, password_hash, shop_name, plan, \
        payment_settings, created_at, updated_at) VALUES (7, 'm', 'm', 'm@e', 'm@e', '', '', 'standard', '{}', 0, 0)";
    connection.execute_unprepared(merchant).await.unwrap();
    for id in 1..=3 {
        let key = format!(
            "INSERT INTO api_key (id, merchant_id, prefix, secret_hash, name, scopes, created_at) \
             VALUES ({id}, 7, '', '{id}', '', 'read', 0)"
        );
        connection.execute_unprepared(&key).await.unwrap();
    }
    for (key, actor) in [(1, "merchant"), (2, "api key 1"), (3, "api key 2")] {
        let line = format!(
            "INSERT INTO audit_log (at, merchant_id, actor, action, subject, details) \
             VALUES (1, 7, '{actor}', 'api_key.create', '{key}', '{{}}')"
        );
        connection.execute_unprepared(&line).await.unwrap();
    }
    let connection = &anew(&db).await;
    Migrator::up(connection, None).await.unwrap();
    let made = "SELECT CAST(id AS TEXT) || ' by ' || coalesce(CAST(created_by AS TEXT), 'a login') FROM api_key";
    let expected = ["1 by a login", "2 by 1", "3 by 2"].map(str::to_owned);
    assert_eq!(strings(connection, made).await, BTreeSet::from(expected));
});

async fn tables(connection: &DatabaseConnection) -> BTreeSet<String> {
    let query = match connection.get_database_backend() {
        DbBackend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        _ => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'",
    };
    let mut tables = strings(connection, query).await;
    assert!(tables.remove(HISTORY));
    tables
}

/// Every table, column and index in the database's own words, without its history table.
async fn definitions(connection: &DatabaseConnection) -> BTreeSet<String> {
    let query = match connection.get_database_backend() {
        DbBackend::Sqlite => {
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master
             WHERE tbl_name <> 'seaql_migrations' AND tbl_name <> 'sqlite_sequence'"
        }
        _ => {
            "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || is_identity
             FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'seaql_migrations'
             UNION ALL SELECT indexdef FROM pg_indexes
             WHERE schemaname = 'public' AND tablename <> 'seaql_migrations'
             UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
             WHERE connamespace = 'public'::regnamespace AND conrelid <> 'seaql_migrations'::regclass"
        }
    };
    strings(connection, query).await
}

/// `table.column` and whether it may be null. SQLite lets primary keys of text be null unless told, so keys count as
/// not null on both.
async fn columns(connection: &DatabaseConnection) -> BTreeSet<String> {
    let query = match connection.get_database_backend() {
        DbBackend::Sqlite => {
            "SELECT t.name || '.' || c.name || CASE WHEN c.\"notnull\" OR c.pk > 0 THEN ' NO' ELSE ' YES' END
             FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'"
        }
        _ => {
            "SELECT table_name || '.' || column_name || ' ' || is_nullable
             FROM information_schema.columns WHERE table_schema = 'public'"
        }
    };
    strings(connection, query).await
}

/// The indexes that schema.sql names; each database names those of its keys in its own way.
async fn named_indexes(connection: &DatabaseConnection) -> BTreeSet<String> {
    let query = match connection.get_database_backend() {
        DbBackend::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
        _ => {
            "SELECT i.indexname::text FROM pg_indexes i WHERE i.schemaname = 'public'
             AND i.indexname NOT IN (SELECT conname FROM pg_constraint)"
        }
    };
    strings(connection, query).await
}

async fn strings(connection: &DatabaseConnection, query: &str) -> BTreeSet<String> {
    let statement = Statement::from_string(connection.get_database_backend(), query);
    let rows = connection.query_all_raw(statement).await.unwrap();
    rows.into_iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// Migrations from the one of decimal amounts on.
const SINCE_AMOUNTS: u32 = 3;

on_both_databases!(reservations_of_the_old_rule_get_their_decimal_amounts, async |db: TestDatabase| {
    Migrator::down(db.connection(), Some(SINCE_AMOUNTS)).await.unwrap();
    let connection = &anew(&db).await;
    let run = async |sql: &str| connection.execute_unprepared(sql).await.map(drop);
    run("INSERT INTO merchant (id, username, username_key, email, email_key, password_hash, shop_name, plan, \
         payment_settings, created_at, updated_at) VALUES (1, 'a', 'a', 'b', 'b', '', 'a', 'standard', '{}', 0, 0)")
    .await
    .unwrap();
    run("INSERT INTO merchant_wallet (id, merchant_id, chain, kind, label, is_active, dedicated, ownership, created_at, \
         updated_at) VALUES (1, 1, 'base', 'address', '', TRUE, FALSE, 'unproven', 0, 0)")
    .await
    .unwrap();
    let rows = [(6, "99987600", "100000000"), (18, "1", "100000000000000000000"), (0, "500", "501"), (2, "5", "70")];
    for (id, (decimals, units, plain)) in (1..).zip(rows) {
        run(&format!(
            "INSERT INTO payment_order (id, order_id, merchant_id, nonce, fingerprint, chain, currency, asset, decimals, \
             amount, pay_units, exact_amount, wallet_id, receiving_address, reference, order_info, created_at, expires_at, \
             in_time_until, late_until, monitor_until, required_confirmations, late_policy, policy, scanned_height, status, \
             fulfillable, flags, received_units, generation, announced_generation, version, updated_at) VALUES ({id}, \
             'ORD-{id}', 1, {id}, '', 'base', 'T', 'native', {decimals}, '1', '{units}', TRUE, 1, 'a', '{id}', '', 0, 0, 0, 0, \
             0, 1, 'accept', '{{}}', 0, 'pending', FALSE, '', '0', 1, 0, 1, 0)"
        ))
        .await
        .unwrap();
        // The last one was released when its order was paid, and did not cool.
        let released = if id == 4 { "7" } else { "NULL" };
        run(&format!(
            "INSERT INTO amount_reservation (id, order_id, chain, asset, address, units, plain_units, kind, created_at, \
             held_until, released_at) VALUES ({id}, {id}, 'base', 'native', 'a', '{units}', '{plain}', 'due', 0, 0, {released})"
        ))
        .await
        .unwrap();
    }
    // Cool-downs that are over, and not, by the verified block time of their chain.
    run("INSERT INTO chain_cursor (chain, height, hash, block_time, head_height, lease_until, lease_epoch, health, polled_at, \
         updated_at) VALUES ('base', 9, '0x9', 1000, 9, 0, 0, 'ok', 0, 0)")
    .await
    .unwrap();
    for (id, cools_until) in [(6, 999), (7, 1_001)] {
        run(&format!(
            "INSERT INTO amount_reservation (id, order_id, chain, asset, address, units, plain_units, kind, created_at, \
             held_until, released_at, cools_until) VALUES ({id}, 3, 'base', 'native', 'a', '{id}', '{id}', 'remainder', 0, 0, \
             7, {cools_until})"
        ))
        .await
        .unwrap();
    }
    // An order of the old last resort, which held nothing.
    run("UPDATE payment_order SET exact_amount = FALSE WHERE id = 4").await.unwrap();
    if connection.get_database_backend() == DbBackend::Postgres {
        run("SELECT setval(pg_get_serial_sequence('amount_reservation', 'id'), 100)").await.unwrap();
    }
    // Equal decimal amounts in two assets were possible under the old rule.
    run("INSERT INTO amount_reservation (id, order_id, chain, asset, address, units, plain_units, kind, created_at, \
         held_until) VALUES (5, 3, 'base', 'other', 'a', '500', '501', 'due', 0, 0)")
    .await
    .unwrap();

    Migrator::up(connection, None).await.unwrap();
    let connection = &anew(&db).await;
    let query = "SELECT CASE WHEN id > 7 THEN 'x' ELSE CAST(id AS TEXT) END || ' ' || amount || ' ' || plain_amount || ' ' || coalesce(CAST(freed_at AS TEXT), '-') \
                 FROM amount_reservation";
    let expected = [
        "1 99.9876 100 -",
        "2 0.000000000000000001 100 -",
        "3 500 501 -",
        "4 0.05 0.7 7",
        "5 500 501 -",
        "6 6 6 999",
        "7 7 7 -",
        "x 0.05 0.05 0",
    ];
    assert_eq!(strings(connection, query).await, expected.map(str::to_owned).into());
    let another = |id: i64, amount: &str| {
        format!(
            "INSERT INTO amount_reservation (id, order_id, chain, asset, address, units, plain_units, kind, amount, \
             plain_amount, created_at, held_until) VALUES ({id}, 1, 'polygon', 'other', 'a', '1', '1', 'due', '{amount}', \
             '2', 0, 0)"
        )
    };
    connection.execute_unprepared(&another(106, "77")).await.unwrap();
    assert!(connection.execute_unprepared(&another(107, "77")).await.is_err(), "one order holds it already");
});
