//! Values of metadata as the types of a program.

/// A value of a GGUF file's metadata, as candle has it.
pub use candle_core::quantized::gguf_file::Value;

/// As much of a text as an error shows.
const SHOWN: usize = 40;

/// A type that a value of metadata can be taken as.
pub trait FromMetadata<'a>: Sized {
    /// What is expected, for messages.
    const EXPECTED: &'static str;

    /// The value, where it is of this type. Whole numbers are taken from every integer type that holds them.
    fn from_value(value: &'a Value) -> Option<Self>;
}

impl<'a> FromMetadata<'a> for &'a str {
    const EXPECTED: &'static str = "a text";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl FromMetadata<'_> for bool {
    const EXPECTED: &'static str = "a truth value";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

impl FromMetadata<'_> for f64 {
    const EXPECTED: &'static str = "a floating number";

    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::F32(value) => Some((*value).into()),
            Value::F64(value) => Some(*value),
            _ => None,
        }
    }
}

impl<'a, T: FromMetadata<'a>> FromMetadata<'a> for Vec<T> {
    const EXPECTED: &'static str = "a list of values of one type";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(values) => values.iter().map(T::from_value).collect(),
            _ => None,
        }
    }
}

/// A whole number.
fn integer(value: &Value) -> Option<i128> {
    Some(match value {
        Value::U8(value) => (*value).into(),
        Value::I8(value) => (*value).into(),
        Value::U16(value) => (*value).into(),
        Value::I16(value) => (*value).into(),
        Value::U32(value) => (*value).into(),
        Value::I32(value) => (*value).into(),
        Value::U64(value) => (*value).into(),
        Value::I64(value) => (*value).into(),
        _ => return None,
    })
}

macro_rules! integers {
    ($($integer:ty: $expected:literal),*) => {$(
        impl FromMetadata<'_> for $integer {
            const EXPECTED: &'static str = $expected;

            fn from_value(value: &Value) -> Option<Self> {
                integer(value)?.try_into().ok()
            }
        }
    )*};
}

integers! {
    usize: "a number that is not negative",
    u64: "a number that is not negative",
    u32: "a number that is not negative",
    i64: "a whole number"
}

/// A value as an error shows it.
pub(super) fn described(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let shown: String = text.chars().take(SHOWN).collect();
            let more = if shown.len() < text.len() { "…" } else { "" };
            format!("the text `{shown}{more}`")
        }
        Value::Array(values) => format!("a list of {} values", values.len()),
        Value::Bool(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        other => integer(other).unwrap_or_default().to_string(),
    }
}
