//! Keys and values of what a decoder has seen.

use candle_core::{DType, Result, Tensor, bail};
use candle_nn::kv_cache::ConcatKvCache;

use super::config::DecoderConfig;
use crate::padding;

/// The keys and values of a batch of sequences, so that the next tokens cost no more than themselves.
///
/// It holds the graph of what it was computed by, where gradients are tracked: generate over detached
/// parameters.
#[derive(Clone, Debug)]
pub struct Cache {
    layers: Vec<ConcatKvCache>,
    /// Which tokens are there, `u8` of `[B, len]`; all where there is none.
    mask: Option<Tensor>,
    batch: usize,
    len: usize,
}

impl Cache {
    /// An empty one for decoders of this configuration.
    pub fn new(config: &DecoderConfig) -> Self {
        // Keys and values are `[B, heads, T, head_dim]`.
        let layers = vec![ConcatKvCache::new(2); config.num_hidden_layers];
        Self { layers, mask: None, batch: 0, len: 0 }
    }

    /// The number of tokens in each sequence, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Which tokens are there, `u8` of `[B, len]`; all where there is none.
    pub(super) fn mask(&self) -> Option<&Tensor> {
        self.mask.as_ref()
    }

    pub(super) fn layers(&mut self) -> &mut [ConcatKvCache] {
        &mut self.layers
    }

    /// Counts tokens in that come next, of hidden states `[B, T, H]`.
    pub(super) fn extend(
        &mut self,
        xs: &Tensor,
        mask: Option<&Tensor>,
        layers: usize,
    ) -> Result<()> {
        let (batch, new, _) = xs.dims3()?;
        if self.layers.len() != layers {
            bail!(
                "cache: it is that of a decoder of {} blocks, this one has {layers}",
                self.layers.len()
            );
        }
        if self.len > 0 && self.batch != batch {
            bail!("cache: it has {} sequences, the tokens are {batch}", self.batch);
        }
        if let Some(mask) = mask {
            padding::check(mask, (batch, new))?;
        }
        self.mask = match (&self.mask, mask) {
            (None, None) => None,
            (_, Some(first)) if self.len == 0 => Some(first.clone()),
            (old, new_mask) => {
                let all = |len| Tensor::ones((batch, len), DType::U8, xs.device());
                let old = old.clone().map_or_else(|| all(self.len), Ok)?;
                let new = new_mask.cloned().map_or_else(|| all(new), Ok)?;
                Some(Tensor::cat(&[old, new], 1)?)
            }
        };
        (self.batch, self.len) = (batch, self.len + new);
        Ok(())
    }
}
