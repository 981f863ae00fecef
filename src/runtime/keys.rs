//! The key of a `dev`, which nobody has to make: a file in its data directory, so that an operator's commands work beside it, and the tokens that
//! it tells stay the same.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wire::operator::KEY_BYTES_MIN;

/// What it is called.
const FILE: &str = "key";

/// The key in a data directory; both are made when there are none, for nobody else to read. Without a directory it is of this process only.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn of(directory: Option<&Path>) -> Result<Vec<u8>, String> {
    let Some(directory) = directory else { return new() };
    let file = directory.join(FILE);
    let fault = |error: std::io::Error| {
        format!(
            "cannot read or write {}: {error}; choose another directory with --data, or --ephemeral for none",
            file.display()
        )
    };
    match fs::read(&file) {
        Ok(key) if key.trim_ascii().len() < KEY_BYTES_MIN => Err(format!(
            "{} has fewer than {KEY_BYTES_MIN} bytes: remove it, and a new one is made",
            file.display()
        )),
        Ok(key) => Ok(key),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = new()?;
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fault)?;
            // Whole or not at all: a crash leaves no key that is too short.
            let part = directory.join("key.new");
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).write(true).mode(0o600);
            let mut opened = options.open(&part).map_err(fault)?;
            opened.write_all(&key).and_then(|()| opened.sync_all()).map_err(fault)?;
            fs::rename(&part, &file).map_err(fault)?;
            Ok(key)
        }
        Err(error) => Err(fault(error)),
    }
}

/// 256 random bits as text, for people who copy it.
fn new() -> Result<Vec<u8>, String> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| format!("the kernel gives no random bytes: {error}"))?;
    Ok(format!("{}\n", STANDARD.encode(random)).into_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_nobody_else() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("data");
        let first = of(Some(&directory)).expect("made");
        assert_eq!(of(Some(&directory)), Ok(first.clone()));
        let mode = directory.join(FILE).metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0);
        assert_ne!(of(None), of(None), "nobody else's");
        assert_ne!(of(None).expect("drawn"), first);
        fs::write(directory.join(FILE), "short").expect("written");
        assert!(of(Some(&directory)).is_err_and(|why| why.contains("32 bytes")));
    }
}
