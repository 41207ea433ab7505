//! The header of a GGUF file: metadata, and where each tensor lies.
//!
//! Nothing is taken from memory before the file is known to be as long as it says.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};

use candle_core::Result;
use candle_core::quantized::GgmlDType;

use super::Value;
use crate::error::{bail, file};
use crate::files::strided::{element_count, named};

/// Versions that are read: llama.cpp writes none before.
const VERSIONS: [u32; 2] = [2, 3];

/// ggml's own limit.
const MAX_DIMS: u32 = 4;

/// Lists lie in lists; no file has more than one level.
const MAX_DEPTH: usize = 4;

/// Where values begin at multiples of, unless `general.alignment` says another.
const ALIGNMENT: u64 = 32;

/// What a file has before its tensors' values.
pub(super) struct Header {
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: HashMap<String, Place>,
}

/// Where a tensor lies.
pub(super) struct Place {
    /// Rows first.
    pub(super) dims: Vec<usize>,
    pub(super) kind: Kind,
    /// In the file, in bytes.
    pub(super) at: u64,
    /// In bytes; 0 for a type that is not known.
    pub(super) len: usize,
}

/// The type of a tensor's values.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Known(GgmlDType),
    /// By its number in ggml.
    Other(u32),
}

impl Kind {
    /// Whether candle has this type, and it takes less than f32.
    pub(super) fn is_quantized(self) -> bool {
        matches!(self, Self::Known(dtype) if dtype != GgmlDType::F32)
    }
}

/// Types of ggml that candle has.
const KNOWN: [(u32, GgmlDType); 15] = [
    (0, GgmlDType::F32),
    (1, GgmlDType::F16),
    (2, GgmlDType::Q4_0),
    (3, GgmlDType::Q4_1),
    (6, GgmlDType::Q5_0),
    (7, GgmlDType::Q5_1),
    (8, GgmlDType::Q8_0),
    (9, GgmlDType::Q8_1),
    (10, GgmlDType::Q2K),
    (11, GgmlDType::Q3K),
    (12, GgmlDType::Q4K),
    (13, GgmlDType::Q5K),
    (14, GgmlDType::Q6K),
    (15, GgmlDType::Q8K),
    (30, GgmlDType::BF16),
];

/// The names of those that candle has not.
const OTHERS: [(u32, &str); 17] = [
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
];

/// Why a tensor of a type that candle has not is not read.
pub(super) fn refusal(number: u32) -> String {
    let name = OTHERS.iter().find(|(other, _)| *other == number);
    let name = name.map_or(format!("number {number} of ggml"), |(_, name)| (*name).to_owned());
    format!(
        "it is of type {name}, which candle does not dequantise, expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K"
    )
}

impl Header {
    /// Reads the header of a file, from its start.
    ///
    /// # Errors
    /// It is of another version, or not whole.
    pub(super) fn read(from: &File) -> Result<Self> {
        let len = from.metadata()?.len();
        let mut reader = Reader { from: BufReader::new(from), at: 0, len };
        reader.check_version()?;
        let (tensors, keys) =
            (reader.u64("the number of tensors")?, reader.u64("the number of keys")?);
        let metadata = reader.metadata(keys)?;
        let mut places = reader.places(tensors)?;
        let start = reader.at.next_multiple_of(alignment(&metadata)?);
        check_room(&mut places, start, len)?;
        Ok(Self { metadata, tensors: places })
    }
}

/// Tensors lie in the file, and take no more together than it has.
fn check_room(places: &mut HashMap<String, Place>, start: u64, len: u64) -> Result<()> {
    let (room, mut taken) = (len.saturating_sub(start), 0u64);
    for (name, place) in places {
        let (at, bytes) = (place.at, place.len as u64);
        if at.checked_add(bytes).is_none_or(|end| end > room) {
            bail!(
                file,
                "tensor `{name}` takes {bytes} bytes from byte {} on, but the file has {len}; a download may have been interrupted",
                start.saturating_add(at)
            );
        }
        taken = taken.saturating_add(bytes);
        place.at = start + at;
    }
    if taken > room {
        bail!(file, "its tensors take {taken} bytes together, but the file has {room} for them");
    }
    Ok(())
}

fn alignment(metadata: &HashMap<String, Value>) -> Result<u64> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT),
        Some(Value::U32(alignment)) if alignment.is_power_of_two() => Ok((*alignment).into()),
        Some(other) => bail!(
            file,
            "`general.alignment` in its metadata is {}, expected a power of two",
            super::metadata::described(other)
        ),
    }
}

/// The header, byte after byte.
struct Reader<'a> {
    from: BufReader<&'a File>,
    at: u64,
    len: u64,
}

impl Reader<'_> {
    /// The next bytes, of what `what` names.
    fn bytes(&mut self, count: u64, what: &str) -> Result<Vec<u8>> {
        self.ensure(1, count, what)?;
        let mut bytes = vec![0; count as usize];
        self.from.read_exact(&mut bytes)?;
        self.at += count;
        Ok(bytes)
    }

    /// The file has so many more values of at least so many bytes.
    fn ensure(&self, size: u64, count: u64, what: &str) -> Result<()> {
        let left = self.len.saturating_sub(self.at);
        if count.checked_mul(size).is_none_or(|bytes| bytes > left) {
            bail!(
                file,
                "it has {left} bytes behind byte {}, where {what} takes at least {}; a download may have been interrupted",
                self.at,
                count.saturating_mul(size)
            );
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let bytes = self.bytes(N as u64, what)?;
        bytes.try_into().map_err(|_| file(format!("{what} is cut off")))
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A text, behind its length; what is no UTF-8 in it is replaced, as candle does.
    fn text(&mut self, what: &str) -> Result<String> {
        let len = self.u64(what)?;
        let bytes = self.bytes(len, what)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn check_version(&mut self) -> Result<()> {
        let _magic: [u8; 4] = self.array("the magic")?;
        let version = self.u32("the version")?;
        if VERSIONS.contains(&version) {
            return Ok(());
        }
        if VERSIONS.contains(&version.swap_bytes()) {
            bail!(
                file,
                "it is a GGUF file with the highest byte of each number first, expected the lowest"
            );
        }
        bail!(file, "it is a GGUF file of version {version}, expected 2 or 3");
    }

    fn metadata(&mut self, keys: u64) -> Result<HashMap<String, Value>> {
        // A length, a type and a value.
        self.ensure(8 + 4 + 1, keys, "its metadata")?;
        let mut metadata = HashMap::new();
        for _ in 0..keys {
            let key = self.text("a key of its metadata")?;
            let kind = self.u32(&key)?;
            let value = self.value(kind, &key, 0)?;
            if metadata.insert(key.clone(), value).is_some() {
                bail!(file, "`{key}` is twice in its metadata");
            }
        }
        Ok(metadata)
    }

    /// A value of metadata, of this type.
    fn value(&mut self, kind: u32, key: &str, depth: usize) -> Result<Value> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(key)?)),
            4 => Value::U32(self.u32(key)?),
            5 => Value::I32(i32::from_le_bytes(self.array(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            7 => Value::Bool(self.array::<1>(key)? != [0]),
            8 => Value::String(self.text(key)?),
            9 => self.list(key, depth)?,
            10 => Value::U64(self.u64(key)?),
            11 => Value::I64(i64::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            other => bail!(file, "`{key}` in its metadata is of type {other}, expected 0 to 12"),
        })
    }

    fn list(&mut self, key: &str, depth: usize) -> Result<Value> {
        if depth == MAX_DEPTH {
            bail!(
                file,
                "`{key}` in its metadata is lists in lists of more than {MAX_DEPTH} levels"
            );
        }
        let (kind, len) = (self.u32(key)?, self.u64(key)?);
        self.ensure(least_size(kind), len, key)?;
        let values = (0..len).map(|_| self.value(kind, key, depth + 1));
        values.collect::<Result<_>>().map(Value::Array)
    }

    /// The tensors' places, counted from where values begin.
    fn places(&mut self, tensors: u64) -> Result<HashMap<String, Place>> {
        // A length, a number of dimensions, one of them, a type and an offset.
        self.ensure(8 + 4 + 8 + 4 + 8, tensors, "its list of tensors")?;
        let mut places = HashMap::new();
        for _ in 0..tensors {
            let name = self.text("a tensor's name")?;
            let place = self.place(&name).map_err(|err| named(&name, &err))?;
            if places.insert(name.clone(), place).is_some() {
                bail!(file, "it has two tensors of the name `{name}`");
            }
        }
        Ok(places)
    }

    fn place(&mut self, name: &str) -> Result<Place> {
        let rank = self.u32(name)?;
        if rank == 0 || rank > MAX_DIMS {
            bail!(file, "it has {rank} dimensions, expected 1 to {MAX_DIMS}");
        }
        let dims = (0..rank).map(|_| self.u64(name)).collect::<Result<Vec<_>>>()?;
        // The file has columns first.
        let dims = dims.into_iter().rev().map(|dim| usize::try_from(dim).unwrap_or(usize::MAX));
        let (dims, number) = (dims.collect::<Vec<_>>(), self.u32(name)?);
        let at = self.u64(name)?;
        let known = KNOWN.iter().find(|(known, _)| *known == number);
        let (kind, len) = match known {
            None => (Kind::Other(number), 0),
            Some((_, dtype)) => (Kind::Known(*dtype), bytes(&dims, *dtype)?),
        };
        Ok(Place { dims, kind, at, len })
    }
}

/// The bytes of a tensor: rows are whole blocks.
fn bytes(dims: &[usize], dtype: GgmlDType) -> Result<usize> {
    let (count, block) = (element_count(dims)?, dtype.block_size());
    let columns = dims.last().copied().unwrap_or_default();
    if !columns.is_multiple_of(block) {
        bail!(file, "{dtype:?} of shape {dims:?}: expected rows of a multiple of {block} values");
    }
    match (count / block).checked_mul(dtype.type_size()) {
        Some(bytes) => Ok(bytes),
        None => bail!(file, "shape {dims:?} has more values than can be counted"),
    }
}

/// The bytes that a value of this type takes at least.
fn least_size(kind: u32) -> u64 {
    match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        9 => 12,
        _ => 8,
    }
}
