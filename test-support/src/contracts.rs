//! The test node and the compiled contracts: installed by `scripts/test`, or by the first test that needs them.

use crate::config;
use alloy::primitives::Bytes;
use std::{
    collections::BTreeMap,
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

const CONTRACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contracts");
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// What tests on a real node stand on.
pub(crate) struct Installed {
    /// The program.
    pub(crate) anvil: PathBuf,
    /// Creation code by a contract's name.
    code: BTreeMap<String, Bytes>,
}

impl Installed {
    /// The creation code of a contract.
    pub(crate) fn code(&self, contract: &str) -> &Bytes {
        self.code.get(contract).unwrap_or_else(|| panic!("no file of contracts/src makes {contract}"))
    }
}

/// What is installed. The first call may take seconds, and blocks its thread: the test has nothing better to do.
pub(crate) fn installed() -> &'static Installed {
    INSTALLED.get_or_init(|| {
        let folder = config::contracts_folder().map_or_else(install, PathBuf::from);
        let contracts = folder.join("contracts.json");
        let text = fs::read_to_string(&contracts)
            .unwrap_or_else(|error| panic!("{} cannot be read ({error}): run scripts/test", contracts.display()));
        let code = serde_json::from_str(&text).expect("contracts.json should map names to code");
        Installed { anvil: anvil(&folder), code }
    })
}

fn install() -> PathBuf {
    let target = config::target_folder().unwrap_or_else(|| TARGET.to_owned());
    let output = Command::new("sh")
        .arg(Path::new(CONTRACTS).join("install.sh"))
        .arg(target)
        .stdin(Stdio::null())
        .output()
        .expect("tests need a POSIX shell");
    if !output.status.success() {
        panic!("the test node cannot be installed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// The one of the lock file; on other machines than it is for, the one of `PATH`.
fn anvil(folder: &Path) -> PathBuf {
    let arch = if ARCH == "x86_64" { "amd64" } else { ARCH };
    let packaged = folder.join(format!("node_modules/@foundry-rs/anvil-linux-{arch}/bin/anvil"));
    if packaged.exists() { packaged } else { PathBuf::from("anvil") }
}
