//! A page's examples in one language as a program, each line where the page has it, so that what fails names its line.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::markdown::Page;

/// A language of the examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Shell,
    JavaScript,
    Python,
}

impl Language {
    pub(super) const ALL: [Self; 3] = [Self::Shell, Self::JavaScript, Self::Python];

    /// What stands after the fence.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Shell => "sh",
            Self::JavaScript => "js",
            Self::Python => "python",
        }
    }
}

/// Printed after each shell example of a guide, so that their answers can be told apart.
const SEPARATOR: char = '\u{1e}';

/// Read before a shell program: a command that fails names its line. Everything else is the start page's own.
const SHELL_RULES: &str = r#"
set -E
trap 'echo "${BASH_SOURCE[0]##*/}:$LINENO: this command failed" >&2' ERR
"#;

/// Removes the globals that Node.js 18 lacks, so that an example that needs one fails on every Node.js. Methods stay: the
/// library of a newer Node.js calls them itself.
const AS_NODE_18: &str = "
for (const name of ['crypto', 'Crypto', 'CryptoKey', 'SubtleCrypto', 'CustomEvent', 'navigator', 'Navigator', 'WebSocket',
  'CloseEvent', 'EventSource', 'Storage', 'localStorage', 'sessionStorage']) delete globalThis[name]
";

/// Runs programs one after the other as if they were one, each with its own name and lines.
const PYTHON_RUNNER: &str = "\
import sys
space = {'__name__': '__main__'}
for name in sys.argv[1:]:
    exec(compile(open(name).read(), name, 'exec'), space)
";

/// End of a program of examples.
pub(super) struct Ended {
    is_success: bool,
    pub(super) printed: String,
    pub(super) complaints: String,
}

/// Runs a guide's examples in a language after those of the start page. The result is the output of each example in the
/// shell. Without a key the program has none.
pub(super) async fn run(language: Language, start: &Page, guide: &Page, base: &str, key: Option<&str>) -> Vec<String> {
    let ended = run_to_the_end(language, start, guide, base, key).await;
    let Ended { is_success, printed, complaints } = ended;
    assert!(is_success, "{}, in {}:\n{complaints}\n{printed}", guide.path.display(), language.word());
    printed.split(SEPARATOR).map(str::to_owned).collect()
}

/// The same for examples of which one has to fail.
pub(super) async fn run_to_a_failure(
    language: Language,
    start: &Page,
    guide: &Page,
    base: &str,
    key: Option<&str>,
) -> Ended {
    let ended = run_to_the_end(language, start, guide, base, key).await;
    assert!(!ended.is_success, "{} ends well in {}: {}", guide.path.display(), language.word(), ended.printed);
    ended
}

async fn run_to_the_end(language: Language, start: &Page, guide: &Page, base: &str, key: Option<&str>) -> Ended {
    let folder = tempfile::Builder::new().prefix("cryptopay-guide.").tempdir().unwrap();
    let write = |page: &Page, extension: &str, text: String| {
        let name = page.path.file_name().unwrap().to_str().unwrap();
        let path = folder.path().join(format!("{name}{extension}"));
        fs::write(&path, text).unwrap();
        path
    };
    let mut command = match language {
        Language::Shell => {
            let rules = write(start, ".rules", format!("{SHELL_RULES}{}", source(start, language)));
            let mut command = Command::new("bash");
            command.arg(write(guide, "", shell_source(guide))).env("BASH_ENV", rules);
            command
        }
        Language::JavaScript => {
            let shared = write(start, ".mjs", shared_module(&source(start, language)));
            let mut command = Command::new("node");
            let old = write(start, ".node18.mjs", AS_NODE_18.to_owned());
            command.arg("--import").arg(url_of(&old)).arg("--import").arg(url_of(&shared));
            command.arg(write(guide, ".mjs", source(guide, language)));
            command
        }
        Language::Python => {
            let mut command = Command::new("python3");
            command.args(["-c", PYTHON_RUNNER]);
            command.arg(write(start, "", source(start, language))).arg(write(guide, "", source(guide, language)));
            command
        }
    };
    command.env("CRYPTOPAY_URL", base).env("NO_PROXY", "*").env_remove("CRYPTOPAY_KEY");
    command.envs(key.map(|key| ("CRYPTOPAY_KEY", key)));
    command.current_dir(folder.path()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { is_success: output.status.success(), printed: text(&output.stdout), complaints: text(&output.stderr) }
}

/// The page with everything but the examples of this language left blank.
fn source(page: &Page, language: Language) -> String {
    lines(page, language).join("\n")
}

fn lines(page: &Page, language: Language) -> Vec<String> {
    let mut lines = vec![String::new(); page.lines];
    for block in page.blocks_in(language.word()) {
        for (offset, text) in block.text.lines().enumerate() {
            lines[block.line + offset] = text.to_owned();
        }
    }
    lines
}

/// The shell program of a page: each example ends with a separator, in the line of its closing fence.
fn shell_source(page: &Page) -> String {
    let mut lines = lines(page, Language::Shell);
    for block in page.blocks_in(Language::Shell.word()) {
        lines[block.line + block.text.lines().count()] = r"printf '\036'".to_owned();
    }
    lines.join("\n")
}

/// A module shares nothing by itself: what it declares is put where the next one finds it.
fn shared_module(source: &str) -> String {
    let words = |line: &str| {
        let rest = ["const ", "function ", "async function "].iter().find_map(|word| line.strip_prefix(word))?;
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        (!name.is_empty()).then_some(name)
    };
    let names: Vec<String> = source.lines().filter_map(words).collect();
    format!("{source}\nObject.assign(globalThis, {{ {} }})\n", names.join(", "))
}

fn url_of(path: &Path) -> OsString {
    let mut url = OsString::from("file://");
    url.push(path);
    url
}
