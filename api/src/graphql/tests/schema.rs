//! The contract as a file.

use std::path::Path;

use serde_json::Value;

use crate::graphql;

#[test]
fn the_committed_schema_is_the_schema() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema.graphql");
    let sdl = graphql::sdl();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&file, &sdl).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == sdl, "schema.graphql is out of date: run this test with UPDATE_EXPECT=1");
}

#[tokio::test]
async fn everything_in_the_schema_is_described() {
    let query = "{ __schema { types { name kind description
        fields { name description args { name description } }
        inputFields { name description } enumValues { name description } } } }";
    let schema = graphql::builder().finish();
    let answer = serde_json::to_value(schema.execute(query).await).unwrap();
    let mut missing = Vec::new();
    let mut note = |path: String, item: &Value| {
        if item["description"].as_str().is_none_or(str::is_empty) {
            missing.push(path);
        }
    };
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for kind in items(&answer["data"]["__schema"]["types"]) {
        let name = kind["name"].as_str().unwrap();
        if name.starts_with("__") || ["Boolean", "Float", "ID", "Int", "String"].contains(&name) {
            continue;
        }
        note(name.to_owned(), &kind);
        for list in ["fields", "inputFields", "enumValues"] {
            for item in items(&kind[list]) {
                note(format!("{name}.{}", item["name"]), &item);
                for argument in items(&item["args"]) {
                    note(format!("{name}.{}({})", item["name"], argument["name"]), &argument);
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}
