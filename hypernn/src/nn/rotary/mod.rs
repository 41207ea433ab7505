//! Rotary position embeddings.

mod tables;

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use crate::check::{ensure_float, ensure_same_dtype};
use crate::ops::rotary::{Rotation, rotate};

pub use tables::RotaryTables;

/// Which two values of a head are turned together.
///
/// Both are the same model with its rows in another order: files of Hugging Face are [`Halves`](Self::Halves), those
/// of llama.cpp's `llama` architecture and Meta's own [`Interleaved`](Self::Interleaved).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RotaryConvention {
    /// Value `i` of the first half with value `i` of the second, as GPT-NeoX and `candle_nn::rotary_emb::rope`.
    #[default]
    Halves,
    /// Values `2i` and `2i + 1`, as the paper and `candle_nn::rotary_emb::rope_i`.
    Interleaved,
}

/// How frequencies are changed for contexts that are longer than those of the first training.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RotaryScaling {
    /// Not at all.
    #[default]
    None,
    /// Positions are divided by this factor (Chen et al. 2023, *Extending Context Window of Large Language Models via
    /// Positional Interpolation*).
    Linear(f64),
    /// That of Llama 3.1 and later: frequencies of long waves are divided by `factor`, those of short waves are left,
    /// and those between are mixed.
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Waves longer than `original_max_positions / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Waves shorter than `original_max_positions / high_freq_factor` are short.
        high_freq_factor: f64,
        /// The context of the first training, in positions.
        original_max_positions: usize,
    },
    /// The frequency of each pair is divided by a factor of its own, `head_dim / 2` of them, as LongRoPE (Ding et al.
    /// 2024) finds them and as GGUF files hold those of Llama 3.1 (`rope_freqs.weight`).
    PerPair(Arc<[f64]>),
}

/// The settings of [`Rotary`].
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryConfig {
    /// The number of values of a head, even.
    pub head_dim: usize,
    /// The number of positions that there are angles for.
    pub max_positions: usize,
    /// The base of the frequencies `theta^(-2i / head_dim)`; 10000 in the paper.
    pub theta: f64,
    /// How frequencies are changed for longer contexts.
    pub scaling: RotaryScaling,
    /// Which two values are turned together.
    pub convention: RotaryConvention,
}

impl RotaryConfig {
    /// # Errors
    /// A size, the base or a factor is out of range.
    fn check(&self) -> Result<()> {
        let Self { head_dim, max_positions, theta, .. } = *self;
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            crate::error::bail!(
                declaration,
                "rotary: head_dim is {head_dim}, expected an even number of at least 2"
            );
        }
        if max_positions == 0 {
            crate::error::bail!(declaration, "rotary: max_positions is 0, expected at least 1");
        }
        ensure_positive("theta", theta)?;
        self.scaling.check(head_dim / 2)
    }

    /// The angle from one position to the next of each pair of values, `head_dim / 2` of them.
    fn frequencies(&self) -> Vec<f64> {
        let of_pair = |pair: usize| {
            self.scaling.scaled(pair, self.theta.powf(-2. * pair as f64 / self.head_dim as f64))
        };
        (0..self.head_dim / 2).map(of_pair).collect()
    }
}

fn ensure_positive(name: &str, value: f64) -> Result<()> {
    if value.is_finite() && value > 0. {
        return Ok(());
    }
    crate::error::bail!(declaration, "rotary: {name} is {value}, expected a finite number above 0")
}

impl RotaryScaling {
    fn check(&self, pairs: usize) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Linear(factor) => ensure_positive("the scaling factor", *factor),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, .. } => {
                ensure_positive("the scaling factor", *factor)?;
                ensure_positive("low_freq_factor", *low_freq_factor)?;
                ensure_positive("high_freq_factor", *high_freq_factor)?;
                if high_freq_factor <= low_freq_factor {
                    crate::error::bail!(
                        declaration,
                        "rotary: high_freq_factor is {high_freq_factor}, expected more than low_freq_factor, {low_freq_factor}"
                    );
                }
                Ok(())
            }
            Self::PerPair(factors) if factors.len() != pairs => crate::error::bail!(
                declaration,
                "rotary: there are {} scaling factors, expected {pairs}, one for each pair of values",
                factors.len()
            ),
            Self::PerPair(factors) => factors.iter().enumerate().try_for_each(|(at, factor)| {
                ensure_positive(&format!("scaling factor {at}"), *factor)
            }),
        }
    }

    fn scaled(&self, pair: usize, frequency: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear(factor) => frequency / factor,
            Self::PerPair(ref factors) => frequency / factors[pair],
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                let waves = original_max_positions as f64 * frequency / std::f64::consts::TAU;
                let kept = (waves - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let kept = kept.clamp(0., 1.);
                kept * frequency + (1. - kept) * frequency / factor
            }
        }
    }
}

/// Rotary position embeddings: each pair of a head's values is turned by an angle that grows with the position, so
/// that the product of a query and a key depends on their distance (Su et al. 2021, *RoFormer*).
///
/// It holds the cosines and sines of all positions, `[max_positions, head_dim / 2]` each, and no parameters: it has
/// nothing to do with weight sets, and a target keeps it as the `value` of a field or makes it in its forward. Copies
/// share the tables. [`RotaryTables`] makes them as long as the sequences are.
///
/// The functions `rope`, `rope_i` of [`rotary_emb`](super::rotary_emb) are candle's, without a backward. Here the
/// backward turns the gradient back.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use hypernn::nn::{Rotary, RotaryConfig, RotaryConvention, RotaryScaling};
///
/// # fn main() -> candle_core::Result<()> {
/// let config = RotaryConfig {
///     head_dim: 4,
///     max_positions: 16,
///     theta: 10_000.,
///     scaling: RotaryScaling::None,
///     convention: RotaryConvention::Halves,
/// };
/// let rotary = Rotary::new(&config, DType::F32, &Device::Cpu)?;
/// // One sequence, two heads, three positions of four values.
/// let queries = Tensor::ones((1, 2, 3, 4), DType::F32, &Device::Cpu)?;
/// let turned = rotary.apply(&queries, 0)?;
/// assert_eq!(turned.dims(), [1, 2, 3, 4]);
/// // Position 0 stays as it is.
/// let first = turned.narrow(2, 0, 1)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(first, [1.; 8]);
/// // The third position is that of a sequence that starts there.
/// let third = rotary.apply(&queries.narrow(2, 0, 1)?, 2)?.flatten_all()?.to_vec1::<f32>()?;
/// assert_eq!(third, turned.narrow(2, 2, 1)?.flatten_all()?.to_vec1::<f32>()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Rotary {
    cos: Tensor,
    sin: Tensor,
    convention: RotaryConvention,
}

impl Rotary {
    /// The tables of a configuration, computed in f64 and rounded to `dtype`.
    ///
    /// # Errors
    /// `head_dim` is odd or 0, `max_positions` is 0, the base or a factor is not above 0 or not finite; `dtype` is no
    /// floating dtype.
    pub fn new(config: &RotaryConfig, dtype: DType, device: &Device) -> Result<Self> {
        config.check()?;
        ensure_float("rotary", "the tables' dtype", dtype)?;
        let frequencies = config.frequencies();
        let angles = (0..config.max_positions)
            .flat_map(|position| frequencies.iter().map(move |f| position as f64 * f));
        let size = (config.max_positions, config.head_dim / 2);
        let angles = Tensor::from_vec(angles.collect::<Vec<_>>(), size, &Device::Cpu)?;
        let table = |values: Tensor| values.to_dtype(dtype)?.to_device(device);
        let (cos, sin) = (table(angles.cos()?)?, table(angles.sin()?)?);
        Ok(Self { cos, sin, convention: config.convention })
    }

    /// The number of positions that there are angles for.
    pub fn max_positions(&self) -> usize {
        self.cos.dims()[0]
    }

    /// Turns queries or keys `[B, H, T, D]`, whose positions are `start..start + T`.
    ///
    /// # Errors
    /// The input has another rank, another dtype than the tables or another number of values than `head_dim`, or a
    /// position is not below `max_positions`.
    pub fn apply(&self, xs: &Tensor, start: usize) -> Result<Tensor> {
        let [_, length] = self.check(xs)?;
        let end = start.saturating_add(length);
        if end > self.max_positions() {
            crate::error::bail!(
                shape,
                "rotary: positions {start} to {end} were asked for, but there are {}",
                self.max_positions()
            );
        }
        let part = |table: &Tensor| table.narrow(0, start, length)?.unsqueeze(0);
        self.rotated(xs, part(&self.cos)?, part(&self.sin)?)
    }

    /// Turns queries or keys `[B, H, T, D]`, whose positions are `positions`, u32 `[B, T]`: for batches with padding in
    /// front, or sequences one after the other in one row.
    ///
    /// # Errors
    /// Those of [`apply`](Self::apply); a position that is too large is found on the CPU only. `positions` has
    /// another shape or dtype.
    pub fn apply_at(&self, xs: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let [batch, length] = self.check(xs)?;
        if positions.dims() != [batch, length] || positions.dtype() != DType::U32 {
            crate::error::bail!(
                shape,
                "rotary: the positions are {:?} of shape {:?}, expected U32 of [{batch}, {length}]",
                positions.dtype(),
                positions.dims()
            );
        }
        // On CUDA, candle can't look up nothing.
        if positions.elem_count() == 0 {
            return Ok(xs.clone());
        }
        self.check_positions(positions)?;
        let positions = positions.flatten_all()?;
        let part = |table: &Tensor| {
            let rows = table.index_select(&positions, 0)?;
            rows.reshape((batch, length, table.dim(1)?))
        };
        self.rotated(xs, part(&self.cos)?, part(&self.sin)?)
    }

    fn rotated(&self, xs: &Tensor, cos: Tensor, sin: Tensor) -> Result<Tensor> {
        let interleaved = self.convention == RotaryConvention::Interleaved;
        rotate(xs, Rotation { cos, sin, interleaved })
    }

    /// The numbers of sequences and positions of an input that fits.
    fn check(&self, xs: &Tensor) -> Result<[usize; 2]> {
        let width = 2 * self.cos.dim(1)?;
        let [batch, _, length, found] = *xs.dims() else {
            crate::error::bail!(
                shape,
                "rotary: the input has shape {:?}, expected [batch, heads, positions, {width}]",
                xs.dims()
            );
        };
        if found != width {
            crate::error::bail!(
                shape,
                "rotary: the input's heads have {found} values, expected {width}"
            );
        }
        ensure_same_dtype("rotary", "the input", xs.dtype(), "the tables", self.cos.dtype())?;
        Ok([batch, length])
    }

    fn check_positions(&self, positions: &Tensor) -> Result<()> {
        if !positions.device().is_cpu() {
            return Ok(());
        }
        let most = self.max_positions();
        let (_, length) = positions.dims2()?;
        let positions = positions.flatten_all()?.to_vec1::<u32>()?;
        let Some(at) = positions.iter().position(|&position| position as usize >= most) else {
            return Ok(());
        };
        crate::error::bail!(
            shape,
            "rotary: position {} of row {}, column {} is out of range, there are {most}",
            positions[at],
            at / length,
            at % length
        )
    }
}
