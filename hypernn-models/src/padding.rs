//! Batches of sequences of different lengths.

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
    let Some(longest) = prompts.iter().map(Vec::len).max() else {
        bail!("no prompt is given");
    };
    if let Some(at) = prompts.iter().position(Vec::is_empty) {
        bail!("prompt {at} is empty, expected at least one token");
    }
    let padding = |prompt: &Vec<u32>| longest - prompt.len();
    let ids = prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(pad, padding(prompt)).chain(prompt.iter().copied()));
    let shape = (prompts.len(), longest);
    let ids = Tensor::from_iter(ids, device)?.reshape(shape)?;
    if prompts.iter().all(|prompt| prompt.len() == longest) {
        return Ok((ids, None));
    }
    let mask = prompts.iter().flat_map(|prompt| {
        std::iter::repeat_n(0u8, padding(prompt)).chain(std::iter::repeat_n(1, prompt.len()))
    });
    Ok((ids, Some(Tensor::from_iter(mask, device)?.reshape(shape)?)))
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
