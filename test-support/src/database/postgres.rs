//! PostgreSQL: one database per test, copied from a template that was migrated once.

use super::{MAX_CONNECTIONS, connect};
use cryptopay_migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use std::{
    env, fs,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    thread,
    time::UNIX_EPOCH,
};
use tokio::runtime;
use url::Url;

/// Guards the making of the template between test processes. Any number that nobody else locks in this server.
const TEMPLATE_LOCK: i64 = 0x63_7279_7074_6f70;

/// A database of the server, dropped with this value.
pub(super) struct Owned {
    admin_url: String,
    name: String,
}

pub(super) async fn create(admin_url: &str) -> (DatabaseConnection, String, Owned) {
    let admin = connect(admin_url, 1, |_| {}).await;
    let template = migrated_template(&admin, admin_url).await;
    let name = format!("test_{:016x}", RandomState::new().hash_one(()));
    execute(&admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    close(admin).await;
    let owned = Owned { admin_url: admin_url.to_owned(), name };
    let url = with_database(admin_url, &owned.name);
    (connect(&url, MAX_CONNECTIONS, |_| {}).await, url, owned)
}

impl Drop for Owned {
    /// Best effort: the server ends soon, and takes with it what is left. A thread of its own, because a drop may
    /// happen inside a runtime, where nothing can be waited for.
    fn drop(&mut self) {
        let (admin_url, statement) =
            (self.admin_url.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        let dropping = thread::spawn(move || {
            let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                if let Ok(admin) = sea_orm::Database::connect(&admin_url).await {
                    _ = admin.execute_unprepared(&statement).await;
                    _ = admin.close().await;
                }
            });
        });
        _ = dropping.join();
    }
}

/// The name of a database that holds the schema of this build. Whoever comes first makes it; the rest wait.
async fn migrated_template(admin: &DatabaseConnection, admin_url: &str) -> String {
    let template = format!("template_{:016x}", this_build());
    // Held by this one connection, and so let go at the latest with its end.
    execute(admin, &format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    if !exists(admin, &template).await {
        // Named last, so that a template with this name is complete even if its maker was killed.
        let unfinished = format!("unfinished_{template}");
        execute(admin, &format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await;
        execute(admin, &format!("CREATE DATABASE {unfinished} TEMPLATE template0")).await;
        let connection = connect(&with_database(admin_url, &unfinished), 1, |_| {}).await;
        Migrator::up(&connection, None).await.unwrap_or_else(|error| panic!("cannot migrate PostgreSQL: {error}"));
        close(connection).await;
        execute(admin, &format!("ALTER DATABASE {unfinished} RENAME TO {template}")).await;
    }
    execute(admin, &format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).await;
    template
}

/// A number for the schema compiled into this test program: another build may hold another schema, and a server may
/// outlive several builds.
fn this_build() -> u64 {
    let program = env::current_exe().expect("a test should know its own program");
    let built = fs::metadata(&program).and_then(|metadata| metadata.modified()).expect("the program should be a file");
    let mut hasher = DefaultHasher::new();
    program.hash(&mut hasher);
    built.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().hash(&mut hasher);
    hasher.finish()
}

async fn exists(admin: &DatabaseConnection, database: &str) -> bool {
    let query = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT 1 FROM pg_database WHERE datname = $1",
        [database.into()],
    );
    admin.query_one_raw(query).await.unwrap_or_else(|error| panic!("cannot list the databases: {error}")).is_some()
}

async fn execute(admin: &DatabaseConnection, statement: &str) {
    admin
        .execute_unprepared(statement)
        .await
        .unwrap_or_else(|error| panic!("PostgreSQL refused \"{statement}\": {error}"));
}

async fn close(connection: DatabaseConnection) {
    connection.close().await.unwrap_or_else(|error| panic!("cannot leave PostgreSQL: {error}"));
}

fn with_database(admin_url: &str, name: &str) -> String {
    let mut url = Url::parse(admin_url).unwrap_or_else(|error| {
        panic!("CRYPTOPAY_TEST_POSTGRES should read postgres://user:password@host:port/postgres: {error}")
    });
    url.set_path(name);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn another_database_of_the_same_server_keeps_user_port_and_parameters() {
        let url = with_database("postgres://postgres:pw@127.0.0.1:5433/postgres?sslmode=disable", "test_1");
        assert_eq!(url, "postgres://postgres:pw@127.0.0.1:5433/test_1?sslmode=disable");
    }
}
