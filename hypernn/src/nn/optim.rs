//! candle's optimisers, with an [`AdamW`] of one pass.

use std::collections::HashMap;
use std::path::Path;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, TensorId, Var, bail};
use candle_nn::VarMap;
pub use candle_nn::optim::{Optimizer, ParamsAdamW, SGD};

use crate::files::{self, Snapshot};
use crate::ops::adam_w::Moments;

/// A drop-in for [`candle_nn::AdamW`]: the same numbers, bit for bit, several times faster.
///
/// On the CPU, variables in f32 and f64 are each moved in one pass over their values, shared out among
/// candle's threads, without memory but that of two moments. All other variables are moved by candle's
/// operations. A run that is to go on later saves its [`state`](Self::state) too.
///
/// Variables in f16 and bf16 have their moments in f32, and each step is computed in f32 and rounded once.
/// candle's own optimiser computes in the variable's dtype: in f16 its ε, 10⁻⁸, is 0, and the first
/// gradient of zero makes NaN.
///
/// After Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (2019). As in candle, a
/// variable without a gradient stays as it is, and its moments with it.
///
/// # Errors
/// [`new`](Optimizer::new) and [`step`](Optimizer::step) give an error where a setting is NaN, infinite or
/// negative, or β₁ or β₂ is not below 1; no variable has moved then. `step` gives one where a gradient has
/// not the shape, dtype and device of its variable; variables before that one have moved then.
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
    params: ParamsAdamW,
}

impl Optimizer for AdamW {
    type Config = ParamsAdamW;

    fn new(vars: Vec<Var>, params: ParamsAdamW) -> Result<Self> {
        check_settings(&params)?;
        let with_moments = |var: Var| Moments::zeros(&var).map(|moments| (var, moments));
        let vars = vars.into_iter().filter(|var| var.dtype().is_float()).map(with_moments);
        Ok(Self { vars: vars.collect::<Result<_>>()?, steps: 0, params })
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        check_settings(&self.params)?;
        self.steps += 1;
        for (var, moments) in &mut self.vars {
            if let Some(grad) = grads.get(var) {
                moments.step(var, grad, &self.params, self.steps)?;
            }
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.params.lr
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.params.lr = learning_rate;
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
        &self.params
    }

    /// Takes other parameters from the next step on.
    pub fn set_params(&mut self, params: ParamsAdamW) {
        self.params = params;
    }

    /// What the optimiser remembers of its steps, by name: for each variable, which `vars` names,
    /// `NAME.first_moment` and `NAME.second_moment`, of the variable's shape and dtype, of f32 where that
    /// is f16 or bf16; and `steps`, a `u32`. Saved beside the variables, for example by
    /// [`save`](Self::save), it lets a later run go on with [`load_state`](Self::load_state) as if there
    /// had been no interruption.
    ///
    /// # Errors
    /// A variable is not among `vars`, or the optimiser was given it twice.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result};
    /// use hypernn::nn::{AdamW, VarBuilder, VarMap, linear};
    ///
    /// # fn main() -> Result<()> {
    /// let vars = VarMap::new();
    /// linear(3, 1, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu).pp("fc"))?;
    /// let optimizer = AdamW::new_lr(vars.all_vars(), 0.01)?;
    /// let state = optimizer.state(&vars)?;
    /// assert_eq!(state["fc.weight.first_moment"].dims(), [1, 3]);
    ///
    /// let mut later = AdamW::new_lr(vars.all_vars(), 0.01)?;
    /// later.load_state(&vars, &state)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn state(&self, vars: &VarMap) -> Result<HashMap<String, Tensor>> {
        let steps = Tensor::new(u32::try_from(self.steps).unwrap_or(u32::MAX), &Device::Cpu)?;
        let mut state = HashMap::from([(STEPS.to_owned(), steps)]);
        for (name, (var, moments)) in self.names(vars)?.into_iter().zip(&self.vars) {
            for (key, moment) in MOMENTS.iter().zip(moments.to_tensors(var)?) {
                if state.insert(format!("{name}.{key}"), moment).is_some() {
                    crate::error::bail!(
                        declaration,
                        "adam_w: the optimiser has `{name}` twice, so its state has no name"
                    );
                }
            }
        }
        Ok(state)
    }

    /// Goes on from what [`state`](Self::state) gave. Learning rate and other parameters stay as they
    /// are; tensors of other names are left out.
    ///
    /// # Errors
    /// A variable is not among `vars`, or the optimiser was given it twice; or a tensor is missing, or is
    /// not of its variable's shape and dtype, where f32 serves f16 and bf16 too. The optimiser is as it
    /// was then.
    pub fn load_state(&mut self, vars: &VarMap, state: &HashMap<String, Tensor>) -> Result<()> {
        let steps = steps_of(find(state, STEPS)?)?;
        let mut found = Vec::with_capacity(self.vars.len());
        for (name, (var, _)) in self.names(vars)?.into_iter().zip(&self.vars) {
            let moment = |key| moment_of(var, state, &format!("{name}.{key}"));
            let [first, second] = MOMENTS.map(moment);
            found.push(Moments::from_tensors(var, &first?, &second?)?);
        }
        let own = self.vars.iter_mut().map(|(_, moments)| moments);
        own.zip(found).for_each(|(own, found)| *own = found);
        self.steps = steps as usize;
        Ok(())
    }

    /// Writes the [`state`](Self::state) as safetensors: beside `path` under another name, which is then
    /// renamed, so that `path` never holds half of it.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result};
    /// use hypernn::nn::{AdamW, VarBuilder, VarMap, linear};
    ///
    /// # fn main() -> Result<()> {
    /// let vars = VarMap::new();
    /// linear(3, 1, VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu).pp("fc"))?;
    /// let path = std::env::temp_dir().join("hypernn_adam_w.safetensors");
    /// AdamW::new_lr(vars.all_vars(), 0.01)?.save(&vars, &path)?;
    ///
    /// let mut later = AdamW::new_lr(vars.all_vars(), 0.01)?;
    /// later.load(&vars, &path)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`state`](Self::state), or the file can't be written.
    pub fn save(&self, vars: &VarMap, path: impl AsRef<Path>) -> Result<()> {
        let state = self.state(vars)?;
        let tensors = state.iter().map(|(name, tensor)| (name.as_str(), tensor));
        Snapshot::take(tensors)?.write(path.as_ref(), HashMap::new())
    }

    /// Goes on from what [`save`](Self::save) wrote, as [`load_state`](Self::load_state) does.
    ///
    /// # Errors
    /// As of [`load_state`](Self::load_state), or the file can't be read. The optimiser is as it was then.
    pub fn load(&mut self, vars: &VarMap, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let state = files::tensors(path)?;
        self.load_state(vars, &state).map_err(|err| files::can_not("load", path, &err))
    }

    /// The name of each variable.
    fn names(&self, vars: &VarMap) -> Result<Vec<String>> {
        let names = names_by_id(vars)?;
        let name = |var: &Var| match names.get(&var.id()) {
            Some(name) => Ok(name.clone()),
            None => crate::error::bail!(
                declaration,
                "adam_w: the optimiser has a variable of shape {:?} that the `VarMap` does not name",
                var.shape()
            ),
        };
        self.vars.iter().map(|(var, _)| name(var)).collect()
    }
}

/// A setting that is not a number makes every variable one that is not.
fn check_settings(params: &ParamsAdamW) -> Result<()> {
    let ParamsAdamW { lr, beta1, beta2, eps, weight_decay } = *params;
    for (name, value) in [("learning rate", lr), ("eps", eps), ("weight decay", weight_decay)] {
        if !(value.is_finite() && value >= 0.) {
            crate::error::bail!(
                declaration,
                "adam_w: the {name} is {value}, expected a finite number of at least 0"
            );
        }
    }
    for (name, value) in [("beta1", beta1), ("beta2", beta2)] {
        if !(0. ..1.).contains(&value) {
            crate::error::bail!(
                declaration,
                "adam_w: {name} is {value}, expected at least 0 and less than 1"
            );
        }
    }
    Ok(())
}

const STEPS: &str = "steps";
const MOMENTS: [&str; 2] = ["first_moment", "second_moment"];

fn names_by_id(vars: &VarMap) -> Result<HashMap<TensorId, String>> {
    let Ok(vars) = vars.data().lock() else { bail!("adam_w: the `VarMap` is poisoned") };
    Ok(vars.iter().map(|(name, var)| (var.id(), name.clone())).collect())
}

fn find<'a>(state: &'a HashMap<String, Tensor>, name: &str) -> Result<&'a Tensor> {
    match state.get(name) {
        Some(tensor) => Ok(tensor),
        None => crate::error::bail!(layout, "adam_w: the state has no `{name}`"),
    }
}

fn steps_of(tensor: &Tensor) -> Result<u32> {
    match (tensor.dtype(), tensor.dims()) {
        (DType::U32, []) => tensor.to_scalar(),
        (dtype, dims) => {
            crate::error::bail!(
                layout,
                "adam_w: `{STEPS}` is {dtype:?} {dims:?}, expected a scalar of U32"
            )
        }
    }
}

/// A moment of this variable, on its device.
fn moment_of(var: &Var, state: &HashMap<String, Tensor>, name: &str) -> Result<Tensor> {
    let moment = find(state, name)?;
    let kind = |tensor: &Tensor| format!("{:?} {:?}", tensor.dtype(), tensor.shape());
    let serves = [Moments::dtype(var), var.dtype()].contains(&moment.dtype());
    if moment.shape() != var.shape() || !serves {
        crate::error::bail!(layout, "adam_w: `{name}` is {}, expected {}", kind(moment), kind(var));
    }
    moment.to_device(var.device())
}
