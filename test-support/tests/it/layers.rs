//! Which crate may name which: ARCHITECTURE §3 as a test.
//!
//! It reads what the manifests declare, not what the code uses: a crate cannot name what it does not declare.
//! `[dev-dependencies]` are free, since tests may look at everything.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::fs;

const OURS: &str = "cryptopay-";

/// Who may name which of our crates. A crate that is not listed here has no place in the design yet.
const ARROWS: [(&str, &[&str]); 9] = [
    ("api", &["jobs", "sandbox", "ledger", "entity", "domain", "chain", "migration"]),
    ("jobs", &["ledger", "chain", "entity", "domain"]),
    ("sandbox", &["chain", "ledger", "entity", "domain"]),
    ("ledger", &["entity", "domain"]),
    ("entity", &["domain"]),
    ("chain", &["domain"]),
    ("domain", &[]),
    // Old migrations must keep their meaning while the code moves on.
    ("migration", &[]),
    // Not the crates under test: their unit tests would meet a second copy of their own types.
    ("test-support", &["migration"]),
];

/// Libraries that belong to somebody: a name, or with a final `*` every name with that beginning. The first line that
/// fits counts; libraries that fit none are free.
const LIBRARIES: [(&str, &[&str]); 12] = [
    ("alloy-primitives", &["domain", "chain", "sandbox", "test-support"]),
    ("alloy*", &["chain", "sandbox", "test-support"]),
    ("apalis*", &["jobs"]),
    ("redis", &["jobs", "api", "test-support"]),
    ("sea-orm-migration", &["migration", "test-support"]),
    ("sea-orm*", &["domain", "entity", "ledger", "jobs", "sandbox", "api", "test-support"]),
    // Only through SeaORM.
    ("sqlx*", &[]),
    ("poem", &["api", "test-support"]),
    ("poem-*", &["api"]),
    ("async-graphql*", &["api"]),
    ("utoipa*", &["api"]),
    ("jsonwebtoken", &["api"]),
];

/// All that the rules may be written with: numbers and addresses, text encodings, times, hashes, errors. Nothing here
/// does I/O, waits, or draws random numbers.
const DOMAIN_LIBRARIES: [&str; 11] = [
    "alloy-primitives",
    "base64",
    "chrono",
    "data-encoding",
    "hmac",
    "sea-orm",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "toml",
];

#[test]
fn every_crate_names_only_what_its_layer_may() {
    let members: Vec<Member> = workspace().workspace_packages().into_iter().map(Member::from).collect();
    assert_eq!(members.len(), ARROWS.len(), "every crate of the design is a member");
    assert_eq!(violations(&members), Vec::<String>::new());
}

#[test]
fn every_crate_has_its_readme_as_its_documentation() {
    let workspace = workspace();
    let faults: Vec<_> = workspace.workspace_packages().into_iter().filter_map(readme_fault).collect();
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn every_crate_inherits_the_lints_of_the_workspace() {
    for package in workspace().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} needs [lints] workspace = true", package.name);
    }
}

/// A workspace member and what it declares for other than tests.
struct Member {
    folder: String,
    dependencies: Vec<Declared>,
}

struct Declared {
    name: String,
    optional: bool,
}

impl From<&Package> for Member {
    fn from(package: &Package) -> Self {
        let dependencies = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| Declared { name: dependency.name.clone(), optional: dependency.optional })
            .collect();
        let folder = package.name.strip_prefix(OURS).unwrap_or(&package.name).to_owned();
        Self { folder, dependencies }
    }
}

fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap()
}

fn violations(members: &[Member]) -> Vec<String> {
    members
        .iter()
        .flat_map(|member| member.dependencies.iter().filter_map(|declared| fault(member, declared)))
        .collect()
}

fn fault(Member { folder, .. }: &Member, Declared { name, optional }: &Declared) -> Option<String> {
    let Some((_, arrows)) = ARROWS.iter().find(|(from, _)| from == folder) else {
        return Some(format!("{folder} is not in ARROWS: give it a place in the design first"));
    };
    if let Some(target) = name.strip_prefix(OURS)
        && !arrows.contains(&target)
    {
        return Some(format!("{folder} names {target}: arrows point inward, to {arrows:?} here"));
    }
    if folder == "domain" && !DOMAIN_LIBRARIES.contains(&name.as_str()) {
        return Some(format!("domain names {name}: the rules do no I/O and know no framework"));
    }
    if folder == "domain" && name == "sea-orm" && !optional {
        return Some("domain names sea-orm without a feature: only entity wants those derives".to_owned());
    }
    let (_, owners) = LIBRARIES.iter().find(|(pattern, _)| fits(pattern, name))?;
    (!owners.contains(&folder.as_str())).then(|| format!("{folder} names {name}: only {owners:?} may"))
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

fn readme_fault(package: &Package) -> Option<String> {
    let folder = package.manifest_path.parent().unwrap();
    let readme = fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    if readme.lines().filter(|line| !line.trim().is_empty()).count() < 2 {
        return Some(format!("{folder}/README.md is missing or says nothing"));
    }
    let Some(library) = package.targets.iter().find(|target| target.is_lib()) else {
        return Some(format!("{} has no library to document", package.name));
    };
    let included = fs::read_to_string(&library.src_path).unwrap().contains("#![doc = include_str!(\"../README.md\")]");
    (!included).then(|| format!("{} should begin with #![doc = include_str!(\"../README.md\")]", library.src_path))
}

mod the_checker {
    use super::{Declared, Member, violations};

    fn naming(folder: &str, name: &str) -> Vec<String> {
        let dependencies = vec![Declared { name: name.to_owned(), optional: false }];
        violations(&[Member { folder: folder.to_owned(), dependencies }])
    }

    #[test]
    fn lets_arrows_inward_and_general_libraries_pass() {
        for (folder, name) in [
            ("api", "cryptopay-jobs"),
            ("jobs", "apalis-core"),
            ("ledger", "cryptopay-domain"),
            ("ledger", "tracing"),
            ("domain", "alloy-primitives"),
            ("sandbox", "alloy"),
            ("migration", "sea-orm-migration"),
            ("test-support", "poem"),
        ] {
            assert_eq!(naming(folder, name), Vec::<String>::new());
        }
    }

    #[test]
    fn names_every_arrow_that_points_outward() {
        for (folder, name) in [
            ("domain", "cryptopay-entity"),
            ("entity", "cryptopay-ledger"),
            ("ledger", "cryptopay-chain"),
            ("chain", "cryptopay-sandbox"),
            ("sandbox", "cryptopay-jobs"),
            ("jobs", "cryptopay-api"),
            ("migration", "cryptopay-domain"),
            ("test-support", "cryptopay-entity"),
            ("api", "cryptopay-test-support"),
        ] {
            let found = naming(folder, name);
            assert_eq!(found.len(), 1, "{folder} -> {name}");
            assert!(
                found[0].starts_with(&format!("{folder} names {}: arrows", &name["cryptopay-".len()..])),
                "{found:?}"
            );
        }
    }

    #[test]
    fn names_every_library_in_foreign_hands() {
        for (folder, name) in [
            ("jobs", "alloy"),
            ("ledger", "alloy-primitives"),
            ("api", "alloy-provider"),
            ("api", "apalis"),
            ("ledger", "apalis-core"),
            ("ledger", "redis"),
            ("api", "sea-orm-migration"),
            ("chain", "sea-orm"),
            ("entity", "sqlx"),
            ("jobs", "poem"),
            ("test-support", "poem-openapi"),
            ("jobs", "async-graphql"),
            ("jobs", "async-graphql-poem"),
            ("sandbox", "utoipa-swagger-ui"),
            ("ledger", "jsonwebtoken"),
            ("domain", "tokio"),
            ("domain", "rand"),
            ("domain", "sea-orm"),
        ] {
            assert_eq!(naming(folder, name).len(), 1, "{folder} -> {name}");
        }
    }

    #[test]
    fn names_a_crate_without_a_place_in_the_design() {
        assert_eq!(naming("helpers", "serde").len(), 1);
    }
}
