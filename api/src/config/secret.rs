//! `CRYPTOPAY_SECRET`: what tokens are signed and secrets encrypted with, by way of keys derived from it.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use data_encoding::HEXLOWER;
use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::{ConfigError, Problem};
use super::variables::{DATA_DIR, SECRET};

/// How one gets a good one.
pub(super) const MEND: &str = "set it to what `openssl rand -base64 32` prints";
/// Fewest bytes of a secret: the keys derived from it have as many.
const MIN_BYTES: usize = 32;
/// Longest text that is decoded.
const MAX_CHARS: usize = 1_024;
/// Fewest different bytes in a secret. 32 random ones have fewer with a chance of 1 in 10^36; placeholders often have.
const MIN_DISTINCT_BYTES: usize = 8;
/// The generated secret's file, in the data directory.
const FILE: &str = "secret";

/// A secret of at least 32 bytes.
#[derive(Clone)]
pub struct MasterSecret(SecretSlice<u8>);

impl MasterSecret {
    /// From 32 bytes of a cryptographic random source.
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        Self(entropy.to_vec().into())
    }

    /// The bytes, to derive keys from.
    pub(crate) fn expose_secret(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.expose_secret().ct_eq(other.expose_secret()).into()
    }
}

impl fmt::Debug for MasterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSecret([redacted])")
    }
}

/// Base64 in either alphabet, with or without padding.
pub(super) fn parse(text: &str) -> Result<MasterSecret, Problem> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = [&alphabet::STANDARD, &alphabet::URL_SAFE]
        .into_iter()
        .filter(|_| text.len() <= MAX_CHARS)
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
        .ok_or_else(|| Problem::secretly("it is no base64 of at most 1024 characters", MEND))?;
    if bytes.len() < MIN_BYTES {
        return Err(Problem::secretly(format!("it has {} bytes, fewer than {MIN_BYTES}", bytes.len()), MEND));
    }
    let mut distinct = bytes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < MIN_DISTINCT_BYTES {
        return Err(Problem::secretly("it looks like a placeholder and can be guessed", MEND));
    }
    Ok(MasterSecret(bytes.into()))
}

/// The secret in the data directory. Where there is none, `entropy` becomes it; of several processes that start at once,
/// one wins and all take its secret.
pub(super) fn load_or_create(data_dir: &Path, entropy: [u8; 32]) -> Result<MasterSecret, ConfigError> {
    let path = data_dir.join(FILE);
    let unusable = |problem: String| {
        let mend = format!("let this process read and write it, or set {SECRET}");
        ConfigError::new(DATA_DIR, format!("{}: {problem}", path.display()), mend)
    };
    let text = read(&path)
        .or_else(|error| match error.kind() {
            ErrorKind::NotFound => create(data_dir, &path, &entropy).and_then(|()| read(&path)),
            _ => Err(error),
        })
        .map_err(|error| unusable(error.to_string()))?;
    parse(text.trim()).map_err(|_| unusable("it holds no secret of 32 bytes in base64".to_owned()))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(4_096).read_to_string(&mut text)?;
    Ok(text)
}

/// Written under another name and linked into place, so that nobody ever reads half a secret and nobody's is replaced.
fn create(data_dir: &Path, path: &Path, entropy: &[u8; 32]) -> io::Result<()> {
    private_folder(data_dir)?;
    // Differs from process to process as the entropy does, and gives none of it away.
    let tag: String = HEXLOWER.encode(&Sha256::digest(entropy)).chars().take(16).collect();
    let draft = data_dir.join(format!(".{FILE}-{tag}"));
    let written = private_file(&draft).and_then(|mut file| {
        writeln!(file, "{}", STANDARD.encode(entropy))?;
        file.sync_all()
    });
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    });
    let removed = fs::remove_file(&draft);
    linked.and(removed)
}

/// Makes the folder, for its owner only, where it is missing.
fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// A new file that only its owner can read.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn bytes(first: u8) -> [u8; 32] {
        std::array::from_fn(|index| first.wrapping_add(u8::try_from(index).unwrap()))
    }

    #[test]
    fn base64_of_any_kind_is_read() {
        let secret = [251, 255].into_iter().chain(bytes(0)).collect::<Vec<_>>();
        let standard = STANDARD.encode(&secret);
        let url_safe = standard.replace('+', "-").replace('/', "_");
        for text in [standard.as_str(), standard.trim_end_matches('='), &url_safe, url_safe.trim_end_matches('=')] {
            assert_eq!(parse(text).unwrap().expose_secret(), secret);
        }
    }

    #[test]
    fn the_first_start_leaves_a_secret_that_every_later_one_takes() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("deep/data");
        let first = load_or_create(&data_dir, bytes(1)).unwrap();
        assert_eq!(first.expose_secret(), bytes(1));
        assert!(load_or_create(&data_dir, bytes(2)).unwrap().is(&first));
        let names: Vec<_> = fs::read_dir(&data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_the_generated_secret() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        load_or_create(&data_dir, bytes(1)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&data_dir), mode(&data_dir.join(FILE))), (0o700, 0o600));
    }

    #[test]
    fn of_many_first_starts_at_once_one_wins_and_all_take_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path();
        let found: Vec<_> = thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|n| scope.spawn(move || load_or_create(data_dir, bytes(n)).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(found.iter().all(|secret| secret.is(&found[0])));
    }

    #[test]
    fn a_broken_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        fs::write(&path, "hunter2").unwrap();
        let error = load_or_create(folder.path(), bytes(1)).unwrap_err().to_string();
        assert!(
            error.starts_with("CRYPTOPAY_DATA_DIR: ") && error.contains("/secret") && !error.contains("hunter2"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "hunter2");
        let error = load_or_create(&path, bytes(1)).unwrap_err().to_string();
        assert!(error.contains("let this process read and write it, or set CRYPTOPAY_SECRET"), "{error}");
    }
}
