//! Stands in for layers of `hypernn::nn`, by candle's operations.

use candle_core::{D, DType, Device, Result, Tensor};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RotaryScaling {
    None,
    Linear(f64),
    Llama3 { factor: f64, low_freq_factor: f64, high_freq_factor: f64, original_max_positions: usize },
}

pub enum RotaryConvention {
    Halves,
}

pub struct RotaryConfig {
    pub head_dim: usize,
    pub max_positions: usize,
    pub theta: f64,
    pub scaling: RotaryScaling,
    pub convention: RotaryConvention,
}

pub struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

fn scaled(freq: f64, scaling: RotaryScaling) -> f64 {
    match scaling {
        RotaryScaling::None => freq,
        RotaryScaling::Linear(factor) => freq / factor,
        RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
            let original = original_max_positions as f64;
            let wavelength = 2. * std::f64::consts::PI / freq;
            if wavelength < original / high_freq_factor {
                return freq;
            }
            if wavelength > original / low_freq_factor {
                return freq / factor;
            }
            let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            (1. - smooth) * freq / factor + smooth * freq
        }
    }
}

impl Rotary {
    pub fn new(config: &RotaryConfig, dtype: DType, device: &Device) -> Result<Self> {
        let RotaryConvention::Halves = config.convention;
        let half = config.head_dim / 2;
        let freqs = (0..half).map(|i| {
            scaled(config.theta.powf(-2. * i as f64 / config.head_dim as f64), config.scaling)
        });
        let freqs: Vec<f64> = freqs.collect();
        let angles = (0..config.max_positions).flat_map(|at| freqs.iter().map(move |freq| at as f64 * freq));
        let angles = Tensor::from_iter(angles, device)?.reshape((config.max_positions, half))?;
        Ok(Self { cos: angles.cos()?.to_dtype(dtype)?, sin: angles.sin()?.to_dtype(dtype)? })
    }

    pub fn apply(&self, xs: &Tensor, start: usize) -> Result<Tensor> {
        let len = xs.dim(2)?;
        let (cos, sin) = (self.cos.narrow(0, start, len)?, self.sin.narrow(0, start, len)?);
        turned(xs, &cos, &sin)
    }

    pub fn apply_at(&self, xs: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let (batch, len) = positions.dims2()?;
        let at = |table: &Tensor| {
            table.index_select(&positions.flatten_all()?, 0)?.reshape((batch, 1, len, ()))
        };
        turned(xs, &at(&self.cos)?, &at(&self.sin)?)
    }
}

fn turned(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = xs.dim(D::Minus1)? / 2;
    let (first, second) = (xs.narrow(D::Minus1, 0, half)?, xs.narrow(D::Minus1, half, half)?);
    let left = (first.broadcast_mul(cos)? - second.broadcast_mul(sin)?)?;
    let right = (second.broadcast_mul(cos)? + first.broadcast_mul(sin)?)?;
    Tensor::cat(&[left, right], D::Minus1)
}

pub struct AttentionMask {
    causal: bool,
    keys: Option<Tensor>,
    window: Option<usize>,
}

impl AttentionMask {
    pub fn none() -> Self {
        Self { causal: false, keys: None, window: None }
    }

    pub fn causal() -> Self {
        Self { causal: true, keys: None, window: None }
    }

    pub fn with_window(self, window: usize) -> Self {
        Self { window: Some(window), ..self }
    }

    pub fn with_keys(self, keys: &Tensor) -> Self {
        Self { keys: Some(keys.clone()), ..self }
    }

    fn added(&self, len: usize, total: usize, like: &Tensor) -> Result<Option<Tensor>> {
        let mut added = None;
        if self.causal {
            let at = (0..len).flat_map(|i| {
                (0..total).map(move |j| {
                    let i = i + total - len;
                    let seen = j <= i && self.window.is_none_or(|window| i - j < window);
                    if seen { 0f64 } else { -1e30 }
                })
            });
            let at = Tensor::from_iter(at, like.device())?.reshape((1, 1, len, total))?;
            added = Some(at.to_dtype(like.dtype())?);
        }
        if let Some(keys) = &self.keys {
            let off = (keys.to_dtype(DType::F64)?.affine(1e30, -1e30)?).unsqueeze(1)?.unsqueeze(1)?;
            let off = off.to_dtype(like.dtype())?;
            added = Some(match added {
                Some(at) => at.broadcast_add(&off)?,
                None => off,
            });
        }
        Ok(added)
    }
}

pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: &AttentionMask, scale: f64) -> Result<Tensor> {
    let (batch, heads, len, dim) = q.dims4()?;
    let (_, groups, total, _) = k.dims4()?;
    let dtype = q.dtype();
    let wide = if dtype == DType::F64 { dtype } else { DType::F32 };
    let (q, k, v) = (q.to_dtype(wide)?, k.to_dtype(wide)?, v.to_dtype(wide)?);
    let q = q.reshape((batch, groups, heads / groups * len, dim))?;
    let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * scale)?;
    let mut scores = scores.reshape((batch, heads, len, total))?;
    if let Some(added) = mask.added(len, total, &scores)? {
        scores = scores.broadcast_add(&added)?;
    }
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    let weights = scores.broadcast_div(&scores.sum_keepdim(D::Minus1)?)?;
    let weights = weights.reshape((batch, groups, heads / groups * len, total))?;
    weights.matmul(&v.contiguous()?)?.reshape((batch, heads, len, ()))?.to_dtype(dtype)
}
