//! Variables drawn from a seed: candle can't seed its random numbers on the CPU.

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::init::NormalOrUniform;
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder, VarMap};
use rand::SeedableRng;
use rand::distr::{Distribution, Uniform};
use rand::rngs::StdRng;
use rand_distr::Normal;
use sha2::{Digest, Sha256};

use crate::init::moments;
use crate::memory::ensure_room;

/// A builder over `vars` whose new variables are drawn from `seed`.
///
/// Each variable's values depend on the seed and its own name alone, so they are the same on every
/// device, in any order of construction, and for any number of threads.
///
/// ```
/// use candle_core::{DType, Device};
/// use hypernn::nn::{VarMap, linear};
/// use hypernn::seeded;
///
/// # fn main() -> candle_core::Result<()> {
/// let draw = |seed| -> candle_core::Result<_> {
///     let vb = seeded::var_builder(&VarMap::new(), seed, DType::F32, &Device::Cpu);
///     linear(3, 2, vb)?.weight().to_vec2::<f32>()
/// };
/// assert_eq!(draw(1)?, draw(1)?);
/// assert_ne!(draw(1)?, draw(2)?);
/// # Ok(())
/// # }
/// ```
pub fn var_builder(vars: &VarMap, seed: u64, dtype: DType, device: &Device) -> VarBuilder<'static> {
    let backend = Seeded { vars: vars.clone(), seed };
    VarBuilder::from_backend(Box::new(backend), dtype, device.clone())
}

struct Seeded {
    vars: VarMap,
    seed: u64,
}

impl Seeded {
    fn rng(&self, name: &str) -> StdRng {
        let mut hasher = Sha256::new();
        hasher.update(self.seed.to_le_bytes());
        hasher.update(name);
        StdRng::from_seed(hasher.finalize().into())
    }

    fn draw(&self, shape: &Shape, name: &str, init: Init) -> Result<Vec<f64>> {
        let (mean, std) = moments(init, shape);
        let (count, mut rng) = (shape.elem_count(), self.rng(name));
        let half_width = std * 3f64.sqrt();
        let invalid = |what: &str| crate::error::declaration(format!("`{name}`: {init:?} {what}"));
        match init {
            Init::Const(value) => Ok(vec![value; count]),
            _ if std == 0. => Ok(vec![mean; count]),
            Init::Uniform { .. } | Init::Kaiming { dist: NormalOrUniform::Uniform, .. } => {
                let range = Uniform::new(mean - half_width, mean + half_width);
                let range = range.map_err(|_| invalid("is not a range"))?;
                Ok(range.sample_iter(&mut rng).take(count).collect())
            }
            Init::Randn { .. } | Init::Kaiming { dist: NormalOrUniform::Normal, .. } => {
                let normal =
                    Normal::new(mean, std).map_err(|_| invalid("is not a normal distribution"))?;
                Ok(normal.sample_iter(&mut rng).take(count).collect())
            }
        }
    }
}

impl SimpleBackend for Seeded {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        init: Init,
        dtype: DType,
        dev: &Device,
    ) -> Result<Tensor> {
        if !self.contains_tensor(name) {
            // They are drawn in double precision.
            let what = || format!("variable `{name}`, as it is drawn,");
            ensure_room(what, shape.dims(), DType::F64, &Device::Cpu)?;
            let values =
                Tensor::from_vec(self.draw(&shape, name, init)?, shape.clone(), &Device::Cpu)?;
            let var = Var::from_tensor(&values.to_dtype(dtype)?.to_device(dev)?)?;
            let mut data =
                self.vars.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            data.insert(name.to_owned(), var);
        }
        self.vars.get(shape, name, init, dtype, dev)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        crate::error::bail!(declaration, "`{name}` can't be drawn without a shape: use `get`")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let data = self.vars.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        data.contains_key(name)
    }
}
