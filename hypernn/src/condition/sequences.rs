//! Sequences and sets of vectors, of several lengths.

use candle_core::{DType, Result, Tensor};

use crate::check::{ensure_same_device, ensure_same_dtype};
use crate::error::bail;
use crate::ops::padded::padded_groups;

/// `G` sequences, or sets, of vectors, `[G, T, width]`; each may be shorter than `T`.
///
/// The vectors of each sequence come first, and zeros behind them, whatever the padding was and wherever it lay: what
/// is computed from `Sequences` cannot depend on it. `T` is the longest length. Gradients flow back to the vectors that
/// count, and to no padding.
///
/// An embedding or a generator of your own gets its condition so, by
/// [`forward_sequences`](crate::embedding::ConditionedEmbedding::forward_sequences).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use hypernn::Sequences;
///
/// # fn main() -> candle_core::Result<()> {
/// let batch = Tensor::new(&[[[1f32], [2.], [3.]], [[f32::NAN], [4.], [f32::NAN]]], &Device::Cpu)?;
/// let mask = Tensor::new(&[[1u8, 1, 1], [0, 1, 0]], &Device::Cpu)?;
/// let sequences = Sequences::padded(&batch, &mask)?;
/// assert_eq!(sequences.lengths(), [3, 1]);
/// assert_eq!(sequences.values().to_vec3::<f32>()?[1], [[4.], [0.], [0.]]);
/// assert_eq!(sequences.mean(sequences.values())?.to_vec2::<f32>()?, [[2.], [4.]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sequences {
    values: Tensor,
    lengths: Vec<usize>,
}

impl Sequences {
    /// Sequences of one length, `[G, T, width]`.
    ///
    /// # Errors
    /// Another rank, or no vectors.
    pub fn new(values: &Tensor) -> Result<Self> {
        let (sets, length) = sizes(values)?;
        Ok(Self { values: values.clone(), lengths: vec![length; sets] })
    }

    /// Sequences `[G, T, width]` with padding: a mask `[G, T]` of integers, 0 for padding and 1 for all else, or the
    /// lengths `[G]` of sequences with padding behind them, integers from 1 to `T`.
    ///
    /// # Errors
    /// Another rank, or no vectors; a mask or lengths of another shape, dtype or range; a sequence that is padding alone.
    pub fn padded(values: &Tensor, padding: &Tensor) -> Result<Self> {
        let (sets, length) = sizes(values)?;
        let kept = kept(padding, sets, length)?;
        let lengths: Vec<_> = kept.iter().map(Vec::len).collect();
        if lengths.iter().all(|kept| *kept == length) {
            return Ok(Self { values: values.clone(), lengths });
        }
        Ok(Self { values: gather(values, &kept)?, lengths })
    }

    /// Sequences `[T, width]`, each of its own length, as one batch.
    ///
    /// # Errors
    /// None at all, one of another rank or without vectors; other widths, dtypes or devices than the first one's.
    pub fn pad(sequences: &[Tensor]) -> Result<Self> {
        let Some(first) = sequences.first() else {
            bail!(condition, "no sequences to pad, expected at least one")
        };
        for (number, sequence) in sequences.iter().enumerate() {
            check_alike(number, sequence, first)?;
        }
        let lengths: Vec<_> = sequences.iter().map(|sequence| sequence.dims()[0]).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let padded = sequences.iter().map(|xs| xs.pad_with_zeros(0, 0, longest - xs.dim(0)?));
        let values = Tensor::stack(&padded.collect::<Result<Vec<_>>>()?, 0)?;
        Ok(Self { values, lengths })
    }

    /// The vectors, `[G, T, width]`: those of each sequence first, then zeros.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// How many vectors each sequence has.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// The number of sequences, `G`.
    pub fn count(&self) -> usize {
        self.lengths.len()
    }

    /// Whether all sequences are as long as the longest.
    pub fn is_full(&self) -> bool {
        self.lengths.iter().all(|length| *length == self.longest())
    }

    /// The length of the longest, `T`.
    fn longest(&self) -> usize {
        self.values.dims()[1]
    }

    /// 1 for a vector and 0 for padding, u8 `[G, T]`, as [`AttentionMask::with_keys`](crate::nn::AttentionMask::with_keys)
    /// takes it; none where there is no padding.
    ///
    /// # Errors
    /// candle's own.
    pub fn mask(&self) -> Result<Option<Tensor>> {
        if self.is_full() {
            return Ok(None);
        }
        let mask: Vec<_> = self.positions(|at, length| u8::from(at < length)).collect();
        let shape = (self.count(), self.longest());
        Tensor::from_vec(mask, shape, self.values.device()).map(Some)
    }

    /// The mean over the vectors of each sequence of `xs`, `[G, T, W]` to `[G, W]`: what was computed from the values,
    /// vector by vector. What it holds for padding is left out, where it is finite.
    ///
    /// # Errors
    /// Another shape than `[G, T, W]`.
    pub fn mean(&self, xs: &Tensor) -> Result<Tensor> {
        let (sets, longest) = (self.count(), self.longest());
        if xs.rank() != 3 || xs.dims()[..2] != [sets, longest] {
            bail!(
                shape,
                "the mean over sequences of shape {:?}, expected [{sets}, {longest}, W]",
                xs.dims()
            );
        }
        let share = |at, length| if at < length { 1. / length as f64 } else { 0. };
        let shares: Vec<f64> = self.positions(share).collect();
        let shares = Tensor::from_vec(shares, (sets, 1, longest), xs.device())?;
        shares.to_dtype(xs.dtype())?.matmul(&xs.contiguous()?)?.squeeze(1)
    }

    /// A value for each position of each sequence, from the position and the sequence's length.
    fn positions<R>(&self, value: impl Fn(usize, usize) -> R) -> impl Iterator<Item = R> {
        let value = move |length| {
            let row: Vec<R> = (0..self.longest()).map(|at| value(at, length)).collect();
            row
        };
        self.lengths.iter().copied().flat_map(value)
    }
}

/// The number of sequences and their length.
fn sizes(values: &Tensor) -> Result<(usize, usize)> {
    match *values.dims() {
        [sets, length, _] if sets > 0 && length > 0 => Ok((sets, length)),
        _ => bail!(
            condition,
            "sequences of shape {:?}, expected [G, T, width] of at least one vector",
            values.dims()
        ),
    }
}

fn check_alike(number: usize, sequence: &Tensor, first: &Tensor) -> Result<()> {
    let what = format!("sequence {number}");
    match (sequence.dims(), first.dims()) {
        ([length, width], [_, expected]) if *length > 0 && width == expected => {}
        ([_, _], [_, expected]) => bail!(
            condition,
            "{what} has shape {:?}, expected [T, {expected}] of at least one vector",
            sequence.dims()
        ),
        _ => bail!(condition, "{what} has shape {:?}, expected [T, width]", sequence.dims()),
    }
    ensure_same_dtype(&what, "the dtype", sequence.dtype(), "that of the first", first.dtype())?;
    let (device, of_first) = (sequence.device().location(), first.device().location());
    ensure_same_device(&what, device, "the first", of_first)
}

/// The positions of each sequence that are no padding.
fn kept(padding: &Tensor, sets: usize, length: usize) -> Result<Vec<Vec<usize>>> {
    if !padding.dtype().is_int() {
        bail!(
            condition,
            "the mask or lengths of the condition are {:?}, expected integers",
            padding.dtype()
        );
    }
    let numbers = padding.detach().flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    match *padding.dims() {
        [found] if found == sets => {
            numbers.iter().enumerate().map(|(at, kept)| up_to(at, *kept, length)).collect()
        }
        [found, of_each] if (found, of_each) == (sets, length) => {
            numbers.chunks(length).enumerate().map(|(at, mask)| marked(at, mask)).collect()
        }
        _ => bail!(
            condition,
            "the mask or lengths of the condition have shape {:?}, expected a mask [{sets}, {length}] or lengths [{sets}]",
            padding.dims()
        ),
    }
}

/// The positions before a length.
fn up_to(number: usize, kept: i64, length: usize) -> Result<Vec<usize>> {
    match usize::try_from(kept) {
        Ok(0) => bail!(condition, "sequence {number} of the condition is empty"),
        Ok(kept) if kept <= length => Ok((0..kept).collect()),
        _ => bail!(
            condition,
            "sequence {number} of the condition has length {kept}, expected 1 to {length}"
        ),
    }
}

/// The positions that a mask has a 1 for.
fn marked(number: usize, mask: &[i64]) -> Result<Vec<usize>> {
    if let Some(other) = mask.iter().find(|mark| !matches!(mark, 0 | 1)) {
        bail!(condition, "the mask of the condition has a value of {other}, expected 0 or 1");
    }
    let kept: Vec<_> = (0..mask.len()).filter(|at| mask[*at] == 1).collect();
    if kept.is_empty() {
        bail!(condition, "sequence {number} of the condition is empty");
    }
    Ok(kept)
}

/// The vectors at these positions of each sequence, then zeros.
fn gather(values: &Tensor, kept: &[Vec<usize>]) -> Result<Tensor> {
    let (sets, length, width) = values.dims3()?;
    let places =
        |(set, kept): (usize, &Vec<usize>)| kept.iter().map(|at| set * length + at).collect();
    let places: Vec<_> = kept.iter().enumerate().map(places).collect();
    padded_groups(&values.reshape((sets * length, width))?, &places)
}
