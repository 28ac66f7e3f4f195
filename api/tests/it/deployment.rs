//! The Dockerfile and compose.yaml, without an engine: what they copy is what the build needs, what they run is run, and
//! every variable and option that they name is known to the binary.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cryptopay_api::config::VARIABLES;
use cryptopay_test_support::{block_on, free_port, long_tests_wanted};
use serde_yaml::Value;

use crate::harness::{Installation, eventually};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The instructions of a Dockerfile's stages: word and the rest, lines that go on joined.
fn stages() -> Vec<Vec<(String, String)>> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let mut stages = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "FROM" {
            stages.push(Vec::new());
        }
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        stages.last_mut().unwrap().push((word.to_owned(), rest));
    }
    stages
}

/// What follows a word in a stage, each time.
fn all<'a>(stage: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    stage.iter().filter(|(found, _)| found == word).map(|(_, rest)| rest.as_str()).collect()
}

/// Files and folders that the build stage copies, and where to.
fn copied() -> Vec<(String, String)> {
    let stages = stages();
    let copies = all(&stages[0], "COPY").into_iter().flat_map(|copy| {
        let words: Vec<&str> = copy.split(' ').collect();
        let (target, sources) = words.split_last().unwrap();
        let target = (*target).to_owned();
        sources.iter().map(|source| ((*source).to_owned(), target.clone())).collect::<Vec<_>>()
    });
    copies.collect()
}

/// Copies what the Dockerfile copies, as it does.
fn build_context() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("cryptopay-image.").tempdir().unwrap();
    for (source, target) in copied() {
        let target = folder.path().join(if target == "./" { source.clone() } else { target });
        let status = Command::new("cp").arg("-r").arg(root().join(&source)).arg(&target).status().unwrap();
        assert!(status.success(), "{source}");
    }
    folder
}

fn exec_form(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text} is no list of words: {error}"))
}

#[test]
fn the_image_is_built_from_everything_that_the_workspace_needs_and_nothing_else() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    let needed: BTreeSet<String> =
        members.chain(["Cargo.toml", "Cargo.lock", "chains.toml"]).map(str::to_owned).collect();
    let found: BTreeSet<String> = copied().into_iter().map(|(source, _)| source).collect();
    assert_eq!(found, needed);
    let ignore = read(".dockerignore");
    let lines: Vec<&str> = ignore.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let (everything, allowed) = lines.split_first().unwrap();
    assert_eq!(*everything, "*");
    let allowed: BTreeSet<String> = allowed.iter().map(|line| line.strip_prefix('!').unwrap().to_owned()).collect();
    assert_eq!(allowed, needed);

    let context = build_context();
    // Of this platform alone: what others would need was never downloaded.
    let tree = Command::new("cargo")
        .args(["tree", "--workspace", "--locked", "--offline"])
        .current_dir(context.path())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
}

#[test]
fn the_image_has_the_toolchain_of_the_repository_and_runs_as_nobody_special() {
    let toolchain: toml::Table = toml::from_str(&read("rust-toolchain.toml")).unwrap();
    let version = toolchain["toolchain"]["channel"].as_str().unwrap();
    let stages = stages();
    let [build, image] = stages.as_slice() else { panic!("two stages") };
    assert_eq!(all(build, "FROM"), [format!("rust:{version}-slim-bookworm AS build")]);
    let user = all(image, "USER")[0];
    assert!(user.parse::<u32>().unwrap() > 0);
    let made = all(image, "RUN").concat();
    assert!(made.contains(&format!("--uid {user} ")), "the user is made: {made}");
    for program in ["apt-get update", "ca-certificates", "rm -rf /var/lib/apt/lists/*"] {
        assert!(made.contains(program), "{program}");
    }
    assert_eq!(all(image, "STOPSIGNAL"), ["SIGTERM"]);
    // What the first stage builds is what the second one takes.
    let built = all(build, "RUN")[0];
    assert_eq!(built, "cargo build --release --locked --package cryptopay-api --bin cryptopay");
    assert_eq!(all(image, "COPY"), ["--from=build /src/target/release/cryptopay /usr/local/bin/cryptopay"]);
    assert!(all(build, "WORKDIR") == ["/src"] && env!("CARGO_BIN_EXE_cryptopay").ends_with("/cryptopay"));
}

#[test]
fn the_image_serves_and_finds_itself_healthy() {
    let stages = stages();
    let image = &stages[1];
    let variables: Vec<(&str, &str)> =
        all(image, "ENV").into_iter().map(|pair| pair.split_once('=').unwrap()).collect();
    for (name, _) in &variables {
        assert!(VARIABLES.iter().any(|variable| variable.name == *name), "{name}");
    }
    let bind = variables.iter().find(|(name, _)| *name == "CRYPTOPAY_BIND").unwrap().1;
    assert_eq!(format!("0.0.0.0:{}", all(image, "EXPOSE")[0]), bind);
    assert_eq!(all(image, "WORKDIR"), [variables.iter().find(|(name, _)| *name == "CRYPTOPAY_DATA_DIR").unwrap().1]);
    assert_eq!(exec_form(all(image, "ENTRYPOINT")[0]), ["cryptopay"]);
    let (_, health) = all(image, "HEALTHCHECK")[0].split_once("CMD ").unwrap();
    let health = exec_form(health);
    assert_eq!(health[0], "cryptopay");

    block_on(async {
        // As in the image, but for a port that is free here.
        let installation = Installation::bare().with("CRYPTOPAY_BIND", &format!("0.0.0.0:{}", free_port()));
        let ended = installation.run(&health[1..]).await;
        assert_eq!(ended.code(), 1, "nobody listens: {ended:?}");
        let mut process = installation.launch(exec_form(all(image, "CMD")[0]));
        process.banner().await;
        let ended = installation.run(&health[1..]).await;
        assert_eq!((ended.code(), ended.stdout.contains("ok")), (0, true), "{ended:?}");
        eventually("ready", async || (installation.run(["health", "--ready"]).await.code() == 0).then_some(())).await;
        assert_eq!(process.terminate().await.code(), 0);
    });
}

/// Every text in a value.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Sequence(list) => list.iter().flat_map(texts).collect(),
        Value::Mapping(map) => map.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

fn compose() -> Value {
    let mut compose: Value = serde_yaml::from_str(&read("compose.yaml")).unwrap();
    compose.apply_merge().unwrap();
    compose
}

#[test]
fn compose_names_known_variables_and_commands_and_holds_no_secret() {
    let compose = compose();
    let services = &compose["services"];
    let names: Vec<&str> = services.as_mapping().unwrap().keys().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(names, ["api", "worker", "postgres", "redis"]);
    let text = read("compose.yaml");
    for secret in ["POSTGRES_PASSWORD", "CRYPTOPAY_SECRET"] {
        assert!(text.contains(&format!("{secret}: ${{{secret}:?")), "{secret} comes from .env, and its lack is named");
    }
    for name in ["api", "worker"] {
        let service = &services[name];
        for variable in service["environment"].as_mapping().unwrap().keys() {
            let variable = variable.as_str().unwrap();
            assert!(VARIABLES.iter().any(|known| known.name == variable), "{name}: {variable}");
        }
        for needed in ["postgres", "redis"] {
            assert_eq!(service["depends_on"][needed]["condition"], "service_healthy");
            assert!(services[needed]["healthcheck"]["test"].is_sequence());
        }
        assert_eq!(service["env_file"][0]["path"], ".env");
        // The gateway's 20 s, and some for the engine.
        assert_eq!(service["stop_grace_period"], "30s");
        // Every connection is an open file.
        assert_eq!(service["ulimits"]["nofile"]["hard"], 65_536);
    }
    assert_eq!(services["api"]["ports"][0], "127.0.0.1:8080:8080");
    block_on(async {
        for name in ["api", "worker"] {
            let command = texts(&services[name]["command"]);
            assert_eq!(command, ["serve", "--role", name]);
            // The role is understood; what it lacks here is said by name.
            let ended = Installation::bare().run(&command).await;
            assert!(ended.code() == 2 && ended.stderr.starts_with("DATABASE_URL: "), "{ended:?}");
            let health = texts(&services[name]["healthcheck"]["test"]);
            assert_eq!(health[..2], ["CMD", "cryptopay"]);
            let ended = Installation::bare()
                .with("CRYPTOPAY_BIND", &format!("127.0.0.1:{}", free_port()))
                .run(&health[2..])
                .await;
            assert_eq!(ended.code(), 1, "nobody listens: {ended:?}");
        }
    });
}

#[test]
fn compose_runs_a_redis_and_a_postgres_as_the_manual_asks() {
    let compose = compose();
    let redis = texts(&compose["services"]["redis"]["command"]).join(" ");
    for setting in ["--save  --appendonly no", "--maxmemory-policy noeviction"] {
        assert!(redis.contains(setting), "{setting}: {redis}");
    }
    let image = compose["services"]["postgres"]["image"].as_str().unwrap();
    let version: u32 = image.strip_prefix("postgres:").unwrap().split('-').next().unwrap().parse().unwrap();
    assert!(version >= 15, "{image}");
}

/// The build of the image, as the Dockerfile has it, of nothing but what it copies. Takes as long as a release build.
#[test]
fn the_build_stage_builds() {
    if !long_tests_wanted() {
        return;
    }
    let context = build_context();
    let stages = stages();
    let command = all(&stages[0], "RUN")[0];
    // Next to other builds, so that only our own crates are built twice.
    let target = root().join("target/image");
    let built = Command::new("sh")
        .args(["-ec", command])
        .current_dir(context.path())
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .unwrap();
    assert!(built.success());
    let said = Command::new(target.join("release/cryptopay")).arg("--version").output().unwrap();
    assert!(said.status.success() && String::from_utf8_lossy(&said.stdout).starts_with("cryptopay "));
}
