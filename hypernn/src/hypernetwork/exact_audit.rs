//! The exact audit: gradients beside differences of the loss.

use candle_core::{DType, Result, Var};

use super::core::Core;
use super::finite_differences::{Derivative, Leaf, examine};
use super::known_faults::{Fault, KNOWN_FAULTS};
use super::loss_function::{Loss, LossFunction, LossOfTensors, LossOfVariables};
use crate::generated::GeneratedParams;

/// Whether each generated tensor and each variable of a hypernetwork gets the gradient that a loss has.
///
/// Where an operation has a wrong backward, or none, a network trains on, towards something else. Here the
/// derivative that the gradient gives along random directions stands beside central differences of the loss.
/// [`Derivative`] says what each tensor gets.
///
/// - The generated tensors are moved as values of f64, whatever the hypernetwork's dtype, where the loss can
///   be computed with them. A loss that uses inputs of its own can, where it casts them by
///   `to_dtype(params.dtype())`. Where it can't, the target's own dtype is used, with a tolerance of 2 % in
///   f32; [`dtype`](Self::dtype) says which it was.
/// - The variables are moved where they are, by small steps, and set back to the same bits in the end; nothing
///   else may use the hypernetwork meanwhile. Their gradients are those that training would see.
/// - Where a loss has no derivative, as at the kink of a ReLU, smaller steps and places beside decide. A
///   gradient that is zero here, as that of a low-rank adapter at its start, is looked at beside, where it is
///   not.
///
/// It computes the loss 10 to 30 times for each tensor and each variable: a check for small sizes, as a test
/// has them.
///
/// ```
/// use candle_core::{DType, Device, Module, Result, Tensor};
/// use hypernn::nn::{Conv2d, VarBuilder, VarMap};
/// use hypernn::{HyperTarget, hypernetwork};
///
/// #[derive(HyperTarget)]
/// struct Net {
///     #[hyper(conv2d(1, 2, 3))]
///     conv: Conv2d,
/// }
///
/// impl Module for Net {
///     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
///         // `hypernn::nn::max_pool2d(…, 2)` has the right gradient.
///         self.conv.forward(xs)?.max_pool2d(2)
///     }
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: table(5, 3), generator: linear, mode: static }
/// }
///
/// # fn main() -> Result<()> {
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// let xs = Tensor::randn(0f32, 1., (2, 1, 6, 6), &Device::Cpu)?;
/// let audit = hyper.audit_exact(|params| {
///     params.forward(&xs.to_dtype(params.dtype())?)?.sqr()?.mean_all()
/// })?;
/// assert!(!audit.is_right());
/// let text = audit.to_string();
/// assert!(text.starts_with("HyperNet over Net, in F64: 0 of 2 generated tensors"), "{text}");
/// assert!(text.contains("generated tensor `conv.weight` gets a wrong gradient"), "{text}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ExactAudit {
    network: &'static str,
    target: &'static str,
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize_dtype"))]
    dtype: DType,
    generated: Vec<(String, Derivative)>,
    variables: Vec<(String, Derivative)>,
}

#[cfg(feature = "serde")]
fn serialize_dtype<S: serde::Serializer>(
    dtype: &DType,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(dtype.as_str())
}

impl ExactAudit {
    /// The gradient of each generated tensor, in flat order.
    pub fn generated(&self) -> &[(String, Derivative)] {
        &self.generated
    }

    /// The gradient of each variable of the hypernetwork, in the order of construction.
    pub fn variables(&self) -> &[(String, Derivative)] {
        &self.variables
    }

    /// The dtype in which the loss was computed.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether all gradients are as they should be: right, or zero where the loss does not change.
    pub fn is_right(&self) -> bool {
        self.all().all(Derivative::is_right)
    }

    fn all(&self) -> impl Iterator<Item = &Derivative> {
        self.generated.iter().chain(&self.variables).map(|(_, derivative)| derivative)
    }

    /// Whether something gets a gradient with this fault.
    fn has(&self, fault: Fault) -> bool {
        let of_this = |derivative: &Derivative| match derivative {
            Derivative::Wrong { found: 0., .. } => fault == Fault::Cut,
            Derivative::Wrong { .. } => true,
            _ => false,
        };
        // What lies between a wrong tensor and the variables is not looked for there.
        let of_generated = self.generated.iter().any(|(_, derivative)| of_this(derivative));
        let all_right = self.generated.iter().all(|(_, derivative)| derivative.is_right());
        of_generated || all_right && self.variables.iter().any(|(_, at)| of_this(at))
    }
}

impl std::fmt::Display for ExactAudit {
    /// The numbers, a line for each that is not simply right, and the operations of candle to look for.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let right = |entries: &[(String, Derivative)]| {
            entries.iter().filter(|(_, derivative)| derivative.is_right()).count()
        };
        write!(
            f,
            "{} over {}, in {:?}: {} of {} generated tensors and {} of {} variables get the right gradient",
            self.network,
            self.target,
            self.dtype,
            right(&self.generated),
            self.generated.len(),
            right(&self.variables),
            self.variables.len()
        )?;
        for (what, entries) in
            [("generated tensor", &self.generated), ("variable", &self.variables)]
        {
            for (name, derivative) in entries.iter().filter(|(_, d)| *d != Derivative::Right) {
                write!(f, "\n{what} `{name}` {derivative}")?;
            }
        }
        let hints = [
            (Fault::Cut, "no backward in candle 0.11"),
            (Fault::Wrong, "a wrong backward in candle 0.11"),
        ];
        for (fault, says) in hints.into_iter().filter(|(fault, _)| self.has(*fault)) {
            let known = KNOWN_FAULTS.iter().filter(|known| known.fault == fault);
            let names: Vec<_> = known.map(|known| short(known.operation)).collect();
            write!(f, "\n{says}: {}", names.join(", "))?;
        }
        Ok(())
    }
}

/// The name without the path to it.
fn short(operation: &str) -> String {
    let at = operation.rfind("::").map_or(0, |at| at + 2);
    format!("`{}`", &operation[at..])
}

impl<T> Core<T> {
    /// `generate` gives the parameters for the variables as they are.
    pub(super) fn audit_exact(
        &self,
        generate: &mut dyn FnMut() -> Result<GeneratedParams<T>>,
        loss: Loss<'_, T>,
    ) -> Result<ExactAudit> {
        let params = generate()?;
        // An error of the loss itself is that of its own dtype.
        loss(&params.with_own_buffers()?)?;
        let dtype = dtype_of(&params, loss)?;
        let generated = of_tensors(&params, dtype, loss)?;
        let variables = self.of_variables(generate, dtype, loss)?;
        let (network, target) = (self.name, self.plan.name);
        Ok(ExactAudit { network, target, dtype, generated, variables })
    }

    fn of_variables(
        &self,
        generate: &mut dyn FnMut() -> Result<GeneratedParams<T>>,
        dtype: DType,
        loss: Loss<'_, T>,
    ) -> Result<Vec<(String, Derivative)>> {
        // What another hypernetwork generated is no variable, and can't be moved.
        let variables = self.trained().filter(|(_, tensor)| tensor.is_variable());
        let (leaves, variables): (Vec<_>, Vec<_>) = variables
            .map(|(name, tensor)| {
                let leaf = Leaf { name: name.to_owned(), dims: tensor.dims().to_vec() };
                Ok((leaf, Var::from_tensor(tensor)?))
            })
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        let mut function = LossOfVariables::new(variables, generate, dtype, loss)?;
        let start = function.start();
        examine(&mut function, &leaves, start)
    }
}

fn of_tensors<T>(
    params: &GeneratedParams<T>,
    dtype: DType,
    loss: Loss<'_, T>,
) -> Result<Vec<(String, Derivative)>> {
    let leaf = |param: &crate::structure::layout::ParamInfo| Leaf {
        name: param.name.clone(),
        dims: param.shape.dims().to_vec(),
    };
    let leaves: Vec<_> = params.layout().params().iter().map(leaf).collect();
    examine(&mut LossOfTensors { params, dtype, loss }, &leaves, params.values()?)
}

/// The most precise dtype in which the loss can be computed.
fn dtype_of<T>(params: &GeneratedParams<T>, loss: Loss<'_, T>) -> Result<DType> {
    let (at, own) = (params.values()?, params.dtype());
    let finer = [DType::F64, DType::F32]
        .into_iter()
        .filter(|dtype| dtype.size_in_bytes() > own.size_in_bytes());
    for dtype in finer {
        if (LossOfTensors { params, dtype, loss: &mut *loss }).loss(&at).is_ok() {
            return Ok(dtype);
        }
    }
    Ok(own)
}
