//! Values of a GGUF file's metadata, each with an error that names its key.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use candle_core::{Context, Result, bail};

pub(crate) type Metadata = HashMap<String, Value>;

/// The value of a key that must be there.
pub(crate) fn needed<'a>(metadata: &'a Metadata, key: &str) -> Result<&'a Value> {
    metadata.get(key).with_context(|| format!("GGUF: there is no `{key}`"))
}

pub(crate) fn string<'a>(metadata: &'a Metadata, key: &str) -> Result<&'a str> {
    as_string(key, needed(metadata, key)?)
}

pub(crate) fn as_string<'a>(key: &str, value: &'a Value) -> Result<&'a str> {
    match value {
        Value::String(text) => Ok(text),
        other => wrong(key, "a text", other),
    }
}

pub(crate) fn as_size(key: &str, value: &Value) -> Result<usize> {
    let whole = match *value {
        Value::U8(v) => Some(u64::from(v)),
        Value::U16(v) => Some(u64::from(v)),
        Value::U32(v) => Some(u64::from(v)),
        Value::U64(v) => Some(v),
        Value::I8(v) => u64::try_from(v).ok(),
        Value::I16(v) => u64::try_from(v).ok(),
        Value::I32(v) => u64::try_from(v).ok(),
        Value::I64(v) => u64::try_from(v).ok(),
        _ => None,
    };
    match whole.and_then(|whole| usize::try_from(whole).ok()) {
        Some(size) => Ok(size),
        None => wrong(key, "a whole number that is not negative", value),
    }
}

pub(crate) fn as_float(key: &str, value: &Value) -> Result<f64> {
    match *value {
        Value::F32(v) => Ok(f64::from(v)),
        Value::F64(v) => Ok(v),
        ref other => wrong(key, "a number", other),
    }
}

pub(crate) fn as_array<'a>(key: &str, value: &'a Value) -> Result<&'a [Value]> {
    match value {
        Value::Array(values) => Ok(values),
        other => wrong(key, "a list", other),
    }
}

/// A token's number, where the file has one.
pub(crate) fn token(metadata: &Metadata, key: &str) -> Result<Option<u32>> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    let Ok(id) = u32::try_from(as_size(key, value)?) else {
        return wrong(key, "a token's number", value);
    };
    Ok(Some(id))
}

/// A switch, where the file has one.
pub(crate) fn flag(metadata: &Metadata, key: &str) -> Result<Option<bool>> {
    match metadata.get(key) {
        None => Ok(None),
        Some(Value::Bool(on)) => Ok(Some(*on)),
        Some(other) => wrong(key, "true or false", other),
    }
}

fn wrong<T>(key: &str, expected: &str, found: &Value) -> Result<T> {
    let found = match found {
        Value::Array(values) => format!("a list of {}", values.len()),
        other => format!("{other:?}"),
    };
    bail!("GGUF: `{key}` is {found}, expected {expected}")
}
