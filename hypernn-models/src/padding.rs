//! Batches of sequences of different lengths.

use std::iter::repeat_n;

use candle_core::{DType, Device, Result, Tensor, bail};

/// Prompts of different lengths as one batch: tokens `u32` of `[B, T]`, with `pad` in front of the shorter ones, and
/// their mask, `u8` of `[B, T]`, 1 for a token; none where all are of one length. The last token of each is the last
/// of its row, so that generation goes on at one place.
///
/// ```
/// use candle_core::Device;
///
/// # fn main() -> candle_core::Result<()> {
/// let prompts = [vec![5, 6, 7], vec![8]];
/// let (ids, mask) = hypernn_models::left_padded(&prompts, 0, &Device::Cpu)?;
/// assert_eq!(ids.to_vec2::<u32>()?, [[5, 6, 7], [0, 0, 8]]);
/// assert_eq!(mask.map(|mask| mask.to_vec2::<u8>()).transpose()?, Some(vec![vec![1, 1, 1], vec![0, 0, 1]]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// There is no prompt, or an empty one.
pub fn left_padded(
    prompts: &[Vec<u32>],
    pad: u32,
    device: &Device,
) -> Result<(Tensor, Option<Tensor>)> {
    padded(prompts, device, |prompt, others| {
        repeat_n((pad, 0), others).chain(there(prompt)).collect()
    })
}

/// Texts of different lengths as one batch, with `pad` behind the shorter ones, as an [`Encoder`](crate::Encoder) takes
/// them: tokens `u32` of `[B, T]` and their mask, `u8` of `[B, T]`, 1 for a token; none where all are of one length.
///
/// ```
/// use candle_core::Device;
///
/// # fn main() -> candle_core::Result<()> {
/// let texts = [vec![5, 6, 7], vec![8]];
/// let (ids, mask) = hypernn_models::right_padded(&texts, 0, &Device::Cpu)?;
/// assert_eq!(ids.to_vec2::<u32>()?, [[5, 6, 7], [8, 0, 0]]);
/// assert_eq!(mask.map(|mask| mask.to_vec2::<u8>()).transpose()?, Some(vec![vec![1, 1, 1], vec![1, 0, 0]]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// There is no text, or an empty one.
pub fn right_padded(
    texts: &[Vec<u32>],
    pad: u32,
    device: &Device,
) -> Result<(Tensor, Option<Tensor>)> {
    padded(texts, device, |text, others| there(text).chain(repeat_n((pad, 0), others)).collect())
}

fn there(prompt: &[u32]) -> impl Iterator<Item = (u32, u8)> {
    prompt.iter().map(|token| (*token, 1))
}

/// `row` gives the tokens and the mask of a prompt with so many others.
fn padded(
    prompts: &[Vec<u32>],
    device: &Device,
    row: impl Fn(&[u32], usize) -> Vec<(u32, u8)>,
) -> Result<(Tensor, Option<Tensor>)> {
    let Some(longest) = prompts.iter().map(Vec::len).max() else {
        bail!("no prompt is given");
    };
    if let Some(at) = prompts.iter().position(Vec::is_empty) {
        bail!("prompt {at} is empty, expected at least one token");
    }
    let rows = prompts.iter().flat_map(|prompt| row(prompt, longest - prompt.len()));
    let (ids, mask): (Vec<_>, Vec<_>) = rows.unzip();
    let shape = (prompts.len(), longest);
    let ids = Tensor::from_vec(ids, shape, device)?;
    if prompts.iter().all(|prompt| prompt.len() == longest) {
        return Ok((ids, None));
    }
    Ok((ids, Some(Tensor::from_vec(mask, shape, device)?)))
}

/// Padding stands behind all tokens of its row, of a mask of the right shape and dtype.
pub(crate) fn check_behind(mask: &Tensor) -> Result<()> {
    let rows = mask.to_vec2::<u8>()?;
    if let Some(row) = rows.iter().position(|row| row.windows(2).any(|at| at[0] == 0 && at[1] != 0))
    {
        bail!(
            "encoder: row {row} of the mask has padding before a token, expected it behind them, as by `right_padded`"
        );
    }
    Ok(())
}

/// A mask is of the shape and dtype of one.
pub(crate) fn check(mask: &Tensor, shape: (usize, usize)) -> Result<()> {
    let expected = [shape.0, shape.1];
    if mask.dims() != expected || mask.dtype() != DType::U8 {
        bail!(
            "the mask is {:?} of shape {:?}, expected U8 of shape {expected:?}",
            mask.dtype(),
            mask.dims()
        );
    }
    Ok(())
}

/// The position of each token among those of its row that are no padding, `u32` of `[B, T]`. Padding before the
/// first has that of the first.
pub(crate) fn positions(mask: &Tensor) -> Result<Tensor> {
    let rows = mask.to_vec2::<u8>()?;
    let positions = rows.iter().flat_map(|row| {
        row.iter().scan(0u32, |seen, there| {
            let position = *seen;
            *seen += u32::from(*there != 0);
            Some(position)
        })
    });
    Tensor::from_iter(positions, mask.device())?.reshape(mask.dims())
}

/// The most tokens of a row that are no padding.
pub(crate) fn longest(mask: &Tensor) -> Result<usize> {
    let rows = mask.to_vec2::<u8>()?;
    Ok(rows.iter().map(|row| row.iter().filter(|there| **there != 0).count()).max().unwrap_or(0))
}
