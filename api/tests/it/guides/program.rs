//! A page's examples in one language as a program, each line where the page has it, so that what fails names its line.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::markdown::{Block, Page};

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

/// The statuses that an example has whose note names no other, as the shell matches them.
const ANY_SUCCESS: &str = "2??";

/// Read before a shell program: the first command that fails ends it and names its line; an answer of `curl` is a failure
/// unless its status is one that the example says, `sh 404`, or a 2xx.
const SHELL_RULES: &str = r#"
set -Eeuo pipefail
trap 'echo "${BASH_SOURCE[0]##*/}:$LINENO: this command failed" >&2' ERR
curl() {
    local folder status
    folder=$(mktemp -d)
    command curl --noproxy '*' -w '%{stderr}status %{http_code}\n' "$@" 2>"$folder/said" | tee "$folder/body"
    status=$(sed -n 's/^status //p' "$folder/said" | tail -n 1)
    case $status in
        $EXPECTED) rm -rf "$folder" ;;
        *) echo "the answer has the status $status: $(cat "$folder/said" "$folder/body")" >&2; return 1 ;;
    esac
}
"#;

/// Runs programs one after the other as if they were one, each with its own name and lines.
const PYTHON_RUNNER: &str = "\
import sys
space = {'__name__': '__main__'}
for name in sys.argv[1:]:
    exec(compile(open(name).read(), name, 'exec'), space)
";

/// Runs a guide's examples in a language after those of the start page. What they printed, by example, for the shell.
pub(super) async fn run(language: Language, start: &Page, guide: &Page, base: &str, key: &str) -> Vec<String> {
    let folder = tempfile::Builder::new().prefix("cryptopay-guide.").tempdir().unwrap();
    let write = |page: &Page, extension: &str, text: String| {
        let name = page.path.file_name().unwrap().to_str().unwrap();
        let path = folder.path().join(format!("{name}{extension}"));
        fs::write(&path, text).unwrap();
        path
    };
    let mut command = match language {
        Language::Shell => {
            let rules =
                write(start, ".rules", format!("{SHELL_RULES}EXPECTED='{ANY_SUCCESS}'\n{}", source(start, language)));
            let mut command = Command::new("bash");
            command.arg(write(guide, "", shell_source(guide))).env("BASH_ENV", rules);
            command
        }
        Language::JavaScript => {
            let shared = write(start, ".mjs", shared_module(&source(start, language)));
            let mut command = Command::new("node");
            command.arg("--import").arg(url_of(&shared)).arg(write(guide, ".mjs", source(guide, language)));
            command
        }
        Language::Python => {
            let mut command = Command::new("python3");
            command.args(["-c", PYTHON_RUNNER]);
            command.arg(write(start, "", source(start, language))).arg(write(guide, "", source(guide, language)));
            command
        }
    };
    command.env("CRYPTOPAY_URL", base).env("CRYPTOPAY_KEY", key).env("NO_PROXY", "*");
    command.current_dir(folder.path()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}, in {}:\n{complaints}\n{printed}", guide.path.display(), language.word());
    printed.split(SEPARATOR).map(str::to_owned).collect()
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

/// The shell program of a page: where the fences are, each example is told what to expect and ended with a separator.
fn shell_source(page: &Page) -> String {
    let mut lines = lines(page, Language::Shell);
    for block in page.blocks_in(Language::Shell.word()) {
        lines[block.line - 1] = format!("EXPECTED='{}'", expected(block));
        lines[block.line + block.text.lines().count()] = r"printf '\036'".to_owned();
    }
    lines.join("\n")
}

fn expected(block: &Block) -> &str {
    if block.note.is_empty() { ANY_SUCCESS } else { &block.note }
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
