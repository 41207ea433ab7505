//! Files that `data/fetch.sh` puts in place.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The path of a file that `data/fetch.sh NAME` fetches, such as `("mnist", "train-images-idx3-ubyte")`.
///
/// # Errors
/// It is not there; the message says what to run.
pub fn path(name: &str, file: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fetched").join(name).join(file);
    ensure!(
        path.is_file(),
        "there is no {}: run `examples/data/fetch.sh {name}` in the repository",
        path.display()
    );
    Ok(path)
}

/// What is in such a file.
///
/// # Errors
/// It is not there, or can't be read.
pub fn read(name: &str, file: &str) -> Result<Vec<u8>> {
    let path = path(name, file)?;
    std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_says_what_to_run() {
        let err = path("nothing", "at-all").err().map(|err| err.to_string()).unwrap_or_default();
        assert!(err.starts_with("there is no ") && err.contains("at-all: run"), "{err}");
        assert!(err.ends_with("run `examples/data/fetch.sh nothing` in the repository"), "{err}");
    }
}
