//! What the configurations of all models have in common.

use std::path::Path;

use candle_core::{Context, Error, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The configuration that `from_json` makes of a file.
pub(crate) fn open<T>(path: &Path, from_json: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let json = std::fs::read_to_string(path).map_err(Error::from);
    json.and_then(|json| from_json(&json)).with_context(|| path.display().to_string())
}

/// A part of the text of a `config.json`.
pub(crate) fn parse<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|err| Error::msg(format!("config.json: {err}")))
}

#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
}

/// Which model a `config.json` is of.
pub(crate) fn model_type(json: &str) -> Result<String> {
    let Kind { model_type } = parse(json)?;
    model_type.context("config.json: there is no model_type")
}

/// The first size that is zero is an error, by name.
pub(crate) fn ensure_no_zero(sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((name, _)) => bail!("{name} is 0, expected at least 1"),
        None => Ok(()),
    }
}
