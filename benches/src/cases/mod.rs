//! The cases of the table: each a target and its hypernetwork, by the macros, by hand in plain candle,
//! and, where there is such a thing, the target with weights of its own.
//!
//! Hypernetworks use generated values as they are (`init: hyper_nn`), as their peers do, and code by
//! hand has variables of the same names, so that the same variables give the same numbers;
//! `tests/cases.rs` compares them.

mod batched_conv;
mod by_hand;
mod dynamic;
mod dynamic_rnn;
mod flat;
mod static_cnn;
mod static_deep;
mod static_mlp_1m;
mod static_small;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use hypernn::nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use hypernn::seeded;

/// The names of all cases.
pub const CASES: [&str; 12] = [
    "static_small",
    "static_mlp_1m",
    "static_deep",
    "static_cnn",
    "dynamic_step",
    "dynamic_10",
    "dynamic_64",
    "dynamic_256",
    "dynamic_rnn",
    "batched_conv",
    "flat_small",
    "flat_deep",
];

/// Who computes a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A hypernetwork by the macros.
    Hypernn,
    /// A hypernetwork by hand over the library's own parts, without a macro.
    NoMacros,
    /// A hypernetwork by hand in plain candle.
    ByHand,
    /// The target with weights of its own, of layers from `hypernn::nn`.
    Plain,
    /// The target with weights of its own, of candle's own layers.
    PlainCandle,
}

impl Who {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 5] =
        [Self::Hypernn, Self::NoMacros, Self::ByHand, Self::Plain, Self::PlainCandle];

    /// The name in a case's path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hypernn => "hypernn",
            Self::NoMacros => "no_macros",
            Self::ByHand => "candle",
            Self::Plain => "plain",
            Self::PlainCandle => "plain_candle",
        }
    }
}

/// What is done with a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The target's tensors, with gradients to come.
    Generate,
    /// Generation and the target's forward, over tensors that nothing trains.
    Forward,
    /// Generation and the target's forward over variables, a loss, and the gradients of all variables.
    Backward,
    /// Forward over variables, loss, gradients, and a step of Adam.
    Adam,
    /// A target over a flat vector that is a variable.
    Unpack,
    /// The flat vector of that target, with gradients to come.
    Pack,
    /// Name, shape and place of each tensor.
    Layout,
}

impl Step {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Generate,
        Self::Forward,
        Self::Backward,
        Self::Adam,
        Self::Unpack,
        Self::Pack,
        Self::Layout,
    ];

    /// The name in a case's path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Adam => "adam",
            Self::Unpack => "unpack",
            Self::Pack => "pack",
            Self::Layout => "layout",
        }
    }
}

type Run<T> = Box<dyn Fn() -> Result<T>>;
type Loss = dyn Fn(&Tensor) -> Result<Tensor>;

/// A network and its input.
pub struct Network {
    /// What else than a forward is measured of it.
    others: Vec<(Step, Run<()>)>,
    forward: Run<Tensor>,
    loss: Box<Loss>,
    /// The largest norm of all gradients, where they are clipped.
    clip: Option<f64>,
}

impl Network {
    /// A network whose loss is the sum of what it gives.
    fn new(forward: impl Fn() -> Result<Tensor> + 'static) -> Self {
        Self {
            others: Vec::new(),
            forward: Box::new(forward),
            loss: Box::new(Tensor::sum_all),
            clip: None,
        }
    }

    /// A hypernetwork `hyper`, with its two calls.
    fn hyper<H: 'static, P>(
        hyper: H,
        generate: impl Fn(&H) -> Result<P> + 'static,
        forward: impl Fn(&H) -> Result<Tensor> + 'static,
    ) -> Self {
        let hyper = Rc::new(hyper);
        let generator = hyper.clone();
        let network = Self::new(move || forward(&hyper));
        network.with(Step::Generate, move || generate(&generator))
    }

    /// This network with something else to measure.
    fn with<R>(mut self, step: Step, run: impl Fn() -> Result<R> + 'static) -> Self {
        self.others.push((step, Box::new(move || run().map(drop))));
        self
    }

    fn has(&self, step: Step) -> bool {
        self.others.iter().any(|(other, _)| *other == step)
    }

    /// A classifier of ten classes.
    fn with_digits(mut self, batch: usize, device: &Device) -> Result<Self> {
        let digits = Tensor::from_iter((0..batch as u32).map(|i| i % 10), device)?;
        self.loss = Box::new(move |ys| candle_nn::loss::cross_entropy(ys, &digits));
        Ok(self)
    }

    /// The output.
    ///
    /// # Errors
    /// candle's own.
    pub fn forward(&self) -> Result<Tensor> {
        (self.forward)()
    }

    /// The gradients of all variables.
    ///
    /// # Errors
    /// candle's own.
    pub fn backward(&self) -> Result<GradStore> {
        (self.loss)(&self.forward()?)?.backward()
    }
}

/// A case's network; `None` where the case has no such network.
///
/// # Errors
/// There is no such case, or the network's own.
pub fn network(case: &str, who: Who, vb: &VarBuilder<'_>) -> Result<Option<Network>> {
    match case {
        "static_small" => static_small::network(who, vb),
        "static_mlp_1m" => static_mlp_1m::network(who, vb),
        "static_deep" => static_deep::network(who, vb),
        "static_cnn" => static_cnn::network(who, vb),
        "dynamic_step" => dynamic::network(who, 1, vb),
        "dynamic_rnn" => dynamic_rnn::network(who, vb),
        "batched_conv" => batched_conv::network(who, vb),
        "flat_small" => static_small::flat(who, vb),
        "flat_deep" => static_deep::flat(who, vb),
        _ => match case.strip_prefix("dynamic_").and_then(|batch| batch.parse().ok()) {
            Some(batch) => dynamic::network(who, batch, vb),
            None => bail!("there is no case `{case}`: expected one of {CASES:?}, or dynamic_BATCH"),
        },
    }
}

/// Something to measure; `None` where the case has no such step.
///
/// # Errors
/// There is no such case, or the network's own.
pub fn prepare(case: &str, step: Step, who: Who) -> Result<Option<Run<()>>> {
    prepare_on(&Device::Cpu, DType::F32, case, step, who)
}

/// Prepares a step of a case on a device and in a dtype.
///
/// # Errors
/// There is no such case, or the network's own.
pub fn prepare_on(
    device: &Device,
    dtype: DType,
    case: &str,
    step: Step,
    who: Who,
) -> Result<Option<Run<()>>> {
    let vars = VarMap::new();
    let vb = variables_on(device, dtype, &vars);
    let Some(network) = network(case, who, &vb)? else { return Ok(None) };
    shrink(&vars)?;
    let run: Run<()> = match step {
        Step::Forward => match self::network(case, who, &constants(&vars, &vb)?)? {
            Some(network) => Box::new(move || network.forward().map(drop)),
            None => return Ok(None),
        },
        Step::Backward => Box::new(move || network.backward().map(drop)),
        Step::Adam if !trains(case) => return Ok(None),
        Step::Adam => train(network, &vars, who)?,
        Step::Generate | Step::Unpack | Step::Pack | Step::Layout => {
            match network.others.into_iter().find(|(other, _)| *other == step) {
                Some((_, run)) => run,
                None => return Ok(None),
            }
        }
    };
    Ok(Some(run))
}

/// The paths of all that can be measured, `case/step/who`.
///
/// # Errors
/// A network's own.
pub fn paths() -> Result<Vec<(String, &'static str, Step, Who)>> {
    let mut paths = Vec::new();
    for case in CASES {
        for who in Who::ALL {
            let Some(network) = network(case, who, &variables(&VarMap::new()))? else { continue };
            let has = |step: &Step| match step {
                Step::Forward | Step::Backward => true,
                Step::Adam => trains(case),
                other => network.has(*other),
            };
            for step in Step::ALL.into_iter().filter(has) {
                let path = format!("{case}/{}/{}", step.name(), who.name());
                paths.push((path, case, step, who));
            }
        }
    }
    Ok(paths)
}

/// Whether a case has a step of an optimiser: a layer by itself and a flat vector are parts of something larger.
fn trains(case: &str) -> bool {
    case != "batched_conv" && !case.starts_with("flat_")
}

/// What a path, `case/step/who`, names.
///
/// # Errors
/// It names nothing.
pub fn find(path: &str) -> Result<(&str, Step, Who)> {
    let mut parts = path.split('/');
    let case = parts.next().unwrap_or_default();
    let step = parts.next().and_then(|name| Step::ALL.into_iter().find(|step| step.name() == name));
    let who = parts.next().and_then(|name| Who::ALL.into_iter().find(|who| who.name() == name));
    match step.zip(who) {
        Some((step, who)) => Ok((case, step, who)),
        None => bail!("`{path}` names nothing, expected case/step/who"),
    }
}

/// New variables, drawn from a seed and their names.
pub fn variables(vars: &VarMap) -> VarBuilder<'static> {
    variables_on(&Device::Cpu, DType::F32, vars)
}

/// The builder of a case's variables, on a device and in a dtype.
pub fn variables_on(device: &Device, dtype: DType, vars: &VarMap) -> VarBuilder<'static> {
    seeded::var_builder(vars, 0, dtype, device)
}

/// Makes what is generated a tenth: the output of a deep target would else have no finite value.
fn shrink(vars: &VarMap) -> Result<()> {
    let Ok(data) = vars.data().lock() else { bail!("another thread failed") };
    let mut generators = data.iter().filter(|(name, _)| name.starts_with("generator."));
    generators.try_for_each(|(_, var)| var.set(&(var.as_detached_tensor() * 0.1)?))
}

/// A builder of the variables' values as tensors that nothing trains.
fn constants(vars: &VarMap, vb: &VarBuilder<'_>) -> Result<VarBuilder<'static>> {
    let Ok(data) = vars.data().lock() else { bail!("another thread failed") };
    let tensor = |var: &Var| var.as_detached_tensor().copy();
    let tensors = data.iter().map(|(name, var)| Ok((name.clone(), tensor(var)?)));
    let tensors = tensors.collect::<Result<HashMap<_, _>>>()?;
    Ok(VarBuilder::from_tensors(tensors, vb.dtype(), vb.device()))
}

/// A step of Adam, candle's own where candle's layers are.
fn train(network: Network, vars: &VarMap, who: Who) -> Result<Run<()>> {
    match who {
        Who::ByHand | Who::PlainCandle => train_by::<candle_nn::AdamW>(network, vars),
        _ => train_by::<AdamW>(network, vars),
    }
}

fn train_by<O>(network: Network, vars: &VarMap) -> Result<Run<()>>
where
    O: Optimizer<Config = ParamsAdamW> + 'static,
{
    let params = ParamsAdamW { lr: 1e-4, weight_decay: 0., ..Default::default() };
    let vars = vars.all_vars();
    let optimizer = RefCell::new(O::new(vars.clone(), params)?);
    Ok(Box::new(move || {
        let mut grads = network.backward()?;
        if let Some(limit) = network.clip {
            clip(&mut grads, &vars, limit)?;
        }
        optimizer.borrow_mut().step(&grads)
    }))
}

/// Scales all gradients so that their norm is at most `limit`.
fn clip(grads: &mut GradStore, vars: &[Var], limit: f64) -> Result<()> {
    let mut squares = 0.;
    for grad in vars.iter().filter_map(|var| grads.get(var)) {
        squares += f64::from(grad.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
    }
    let scale = (limit / squares.sqrt()).min(1.);
    for var in vars {
        if let Some(grad) = grads.remove(var) {
            grads.insert(var, (grad * scale)?);
        }
    }
    Ok(())
}

/// An input where the variables are, the same in every run.
fn input(dims: &[usize], vb: &VarBuilder<'_>) -> Result<Tensor> {
    let values = (0..dims.iter().product()).map(|i: usize| (i as f32 * 0.7).sin());
    Tensor::from_iter(values, vb.device())?.reshape(dims)?.to_dtype(vb.dtype())
}
