//! candle's optimisers, with an [`AdamW`] of one pass.

use candle_core::backprop::GradStore;
use candle_core::{Result, Var};
pub use candle_nn::optim::{Optimizer, ParamsAdamW, SGD};

use crate::ops::adam_w::Moments;

/// A drop-in for [`candle_nn::AdamW`]: the same numbers, bit for bit, several times faster.
///
/// On the CPU, variables in f32 and f64 are each moved in one pass over their values, shared out among
/// candle's threads, without memory but that of two moments. All other variables are left to candle's
/// own optimiser.
///
/// After Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (2019). As in candle, a
/// variable without a gradient stays as it is, and its moments with it.
///
/// # Errors
/// [`step`](Optimizer::step) gives an error where a gradient has not the shape, dtype and device of
/// its variable; variables before that one have moved then.
///
/// ```
/// use candle_core::{DType, Device, Result, Tensor};
/// use hypernn::nn::{AdamW, Module, Optimizer, VarBuilder, VarMap, linear};
///
/// # fn main() -> Result<()> {
/// let vars = VarMap::new();
/// let net = linear(3, 1, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
/// let xs = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let loss = || net.forward(&xs)?.sqr()?.mean_all();
/// let before = loss()?.to_scalar::<f32>()?;
/// let mut optimizer = AdamW::new_lr(vars.all_vars(), 0.01)?;
/// for _ in 0..10 {
///     optimizer.backward_step(&loss()?)?;
/// }
/// assert!(loss()?.to_scalar::<f32>()? < before);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AdamW {
    vars: Vec<(Var, Moments)>,
    steps: usize,
    /// Has the parameters, and all variables that are not moved here.
    others: candle_nn::AdamW,
}

impl Optimizer for AdamW {
    type Config = ParamsAdamW;

    fn new(vars: Vec<Var>, params: ParamsAdamW) -> Result<Self> {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for var in vars {
            match Moments::of(&var) {
                Some(moments) => own.push((var, moments)),
                None => others.push(var),
            }
        }
        Ok(Self { vars: own, steps: 0, others: candle_nn::AdamW::new(others, params)? })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.steps += 1;
        for (var, moments) in &mut self.vars {
            if let Some(grad) = grads.get(var) {
                moments.step(var, grad, (self.others.params(), self.steps))?;
            }
        }
        self.others.step(grads)
    }

    fn learning_rate(&self) -> f64 {
        self.others.learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.others.set_learning_rate(learning_rate);
    }
}

impl AdamW {
    /// With candle's other parameters: β₁ = 0.9, β₂ = 0.999, ε = 10⁻⁸, weight decay 0.01.
    ///
    /// # Errors
    /// candle's own.
    pub fn new_lr(vars: Vec<Var>, learning_rate: f64) -> Result<Self> {
        Self::new(vars, ParamsAdamW { lr: learning_rate, ..Default::default() })
    }

    /// The parameters of the next step.
    pub fn params(&self) -> &ParamsAdamW {
        self.others.params()
    }

    /// Takes other parameters from the next step on.
    pub fn set_params(&mut self, params: ParamsAdamW) {
        self.others.set_params(params);
    }
}
