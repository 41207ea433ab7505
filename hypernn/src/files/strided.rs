//! A tensor as PyTorch stores it: a part of a storage, with a stride for each dimension.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};

use crate::error::{self, bail};

/// PyTorch's own limit.
pub(super) const MAX_RANK: usize = 64;

/// How many times the file's length its tensors may take: views of one storage are copies here.
const MAX_GROWTH: u64 = 8;

/// A part of a storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Strided {
    pub(super) dtype: DType,
    /// In values, as all that follows.
    pub(super) offset: usize,
    pub(super) dims: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What has been made of a file's storages so far.
pub(super) struct Maker {
    /// The file's length in bytes.
    file: u64,
    made: u64,
    swapped: bool,
}

impl Maker {
    /// `swapped` is for values whose highest byte comes first.
    pub(super) fn new(file: u64, swapped: bool) -> Self {
        Self { file, made: 0, swapped }
    }

    /// The tensors of one storage, by name.
    ///
    /// # Errors
    /// One lies outside of the storage, or together they are much larger than the file.
    pub(super) fn tensors(
        &mut self,
        bytes: &[u8],
        parts: Vec<(String, Strided)>,
    ) -> Result<Vec<(String, Tensor)>> {
        let mut done: HashMap<Strided, Tensor> = HashMap::new();
        let mut tensors = Vec::with_capacity(parts.len());
        for (name, part) in parts {
            let tensor = match done.get(&part) {
                Some(tensor) => tensor.clone(),
                None => self.tensor(bytes, &part).map_err(|err| named(&name, &err))?,
            };
            done.insert(part, tensor.clone());
            tensors.push((name, tensor));
        }
        Ok(tensors)
    }

    fn tensor(&mut self, bytes: &[u8], part: &Strided) -> Result<Tensor> {
        let kept = part.kept(bytes.len())?;
        let size = part.dtype.size_in_bytes();
        let count: usize = kept.iter().product();
        self.made = self.made.saturating_add((count * size) as u64);
        if self.made > self.file.saturating_mul(MAX_GROWTH) {
            bail!(file, "the file's tensors take more than {MAX_GROWTH} times its own length");
        }
        let mut values = part.values(bytes, &kept, count * size);
        if self.swapped {
            values.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        let tensor = Tensor::from_raw_buffer(&values, part.dtype, &kept, &Device::Cpu)?;
        if kept == part.dims { Ok(tensor) } else { tensor.broadcast_as(&part.dims[..]) }
    }
}

impl Strided {
    /// The dimensions without those of stride 0, along which one value stands for all; after all checks.
    fn kept(&self, bytes: usize) -> Result<Vec<usize>> {
        let Self { dims, strides, offset, dtype } = self;
        if dims.len() != strides.len() {
            bail!(file, "{} dimensions with {} strides", dims.len(), strides.len());
        }
        let size = dtype.size_in_bytes();
        if element_count(dims)? == 0 {
            return Ok(dims.clone());
        }
        let last = dims
            .iter()
            .zip(strides)
            .try_fold(*offset, |at, (dim, stride)| at.checked_add((dim - 1).checked_mul(*stride)?));
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        if end.is_none_or(|end| end > bytes) {
            bail!(
                file,
                "shape {dims:?} with strides {strides:?} from value {offset} on does not lie in its storage of {} values",
                bytes / size
            );
        }
        let pairs = dims.iter().zip(strides);
        let kept: Vec<_> = pairs.map(|(dim, stride)| if *stride == 0 { 1 } else { *dim }).collect();
        if element_count(&kept)? > bytes / size {
            bail!(
                file,
                "shape {dims:?} with strides {strides:?}: its values overlap in the storage"
            );
        }
        Ok(kept)
    }

    /// The values, row-major.
    fn values(&self, bytes: &[u8], kept: &[usize], len: usize) -> Vec<u8> {
        if len == 0 {
            return Vec::new();
        }
        let size = self.dtype.size_in_bytes();
        if self.is_row_major(kept) {
            return bytes[self.offset * size..][..len].to_vec();
        }
        let (mut values, mut index) = (Vec::with_capacity(len), vec![0; kept.len()]);
        loop {
            let steps = index.iter().zip(&self.strides).map(|(index, stride)| index * stride);
            let at = self.offset + steps.sum::<usize>();
            values.extend_from_slice(&bytes[at * size..][..size]);
            let next = (0..kept.len()).rev().find(|&axis| index[axis] + 1 < kept[axis]);
            let Some(axis) = next else { return values };
            index[axis] += 1;
            index[axis + 1..].fill(0);
        }
    }

    fn is_row_major(&self, kept: &[usize]) -> bool {
        let mut expected = 1;
        kept.iter().zip(&self.strides).rev().all(|(dim, stride)| {
            let fits = *dim == 1 || *stride == expected;
            expected *= dim;
            fits
        })
    }
}

/// The number of values of a shape, whose dimensions other than 0 are a number together, as candle's
/// strides need it.
///
/// # Errors
/// They are not.
pub(super) fn element_count(dims: &[usize]) -> Result<usize> {
    let others = dims.iter().filter(|dim| **dim > 0).try_fold(1usize, |n, dim| n.checked_mul(*dim));
    match others {
        Some(_) if dims.contains(&0) => Ok(0),
        Some(count) if count.checked_mul(16).is_some() => Ok(count),
        _ => bail!(file, "shape {dims:?} has more values than can be counted"),
    }
}

pub(super) fn named(name: &str, err: &candle_core::Error) -> candle_core::Error {
    error::file(format!("tensor `{name}`: {}", error::plain(err)))
}
