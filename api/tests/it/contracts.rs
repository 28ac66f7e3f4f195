//! The committed contracts are what the binary says of itself.

use std::path::Path;

use cryptopay_test_support::block_on;
use serde_json::Value;

use crate::harness::Installation;

/// Set to 1, it writes the files instead of comparing them.
const UPDATE: &str = "UPDATE_EXPECT";

async fn compare(contract: &str, file: &str) -> String {
    let exported = Installation::bare().run(["export", contract]).await;
    assert_eq!(exported.code(), 0, "{exported:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        std::fs::write(&path, &exported.stdout).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}; set {UPDATE}=1"));
    assert!(committed == exported.stdout, "{file} is not what `cryptopay export {contract}` prints; set {UPDATE}=1");
    exported.stdout
}

#[test]
fn the_committed_openapi_document_is_the_generated_one() {
    block_on(async {
        let document: Value = serde_json::from_str(&compare("openapi", "openapi/openapi.json").await).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
    });
}

#[test]
fn the_committed_graphql_schema_is_the_generated_one() {
    block_on(async {
        let schema = compare("graphql", "schema.graphql").await;
        assert!(schema.contains("type Subscription"), "{schema}");
    });
}

#[test]
fn an_export_can_be_written_to_a_file() {
    block_on(async {
        let installation = Installation::bare();
        let path = installation.folder().join("openapi.json");
        let ended = installation.run(["export", "openapi", path.to_str().unwrap()]).await;
        assert_eq!((ended.code(), ended.stdout.as_str()), (0, ""), "{ended:?}");
        let printed = installation.run(["export", "openapi"]).await.stdout;
        assert!(std::fs::read_to_string(path).unwrap() == printed, "the file is not what is printed");
    });
}
