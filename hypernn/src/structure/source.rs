//! Where a target's tensors come from while it is built.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::role::Role;
use super::value::{Made, stored, stored_name};
use crate::check::ensure_floating;
use crate::memory::ensure_room;
use crate::param::Param;

/// What a parameter is in its layer; it decides nothing by itself and is part of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum ParamKind {
    /// The matrix or kernel of a linear, convolutional or recurrent layer.
    Weight,
    /// An additive term.
    Bias,
    /// The multiplicative term of a normalisation.
    Gain,
    /// The rows of an embedding.
    Table,
    /// The slope of a parametric activation.
    Slope,
    /// A bare tensor field.
    Tensor,
    /// The first factor of a low-rank adapter, from the inputs.
    Down,
    /// The second factor of a low-rank adapter, to the outputs.
    Up,
}

impl ParamKind {
    /// The name used in layouts and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weight => "weight",
            Self::Bias => "bias",
            Self::Gain => "gain",
            Self::Table => "table",
            Self::Slope => "slope",
            Self::Tensor => "tensor",
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

/// One tensor that a layer asks for.
#[derive(Clone, Copy, Debug)]
pub struct ParamSpec<'a> {
    /// The name below the layer's own path, such as `weight`; empty where the path is the name.
    pub name: &'a str,
    /// The shape of one set, row-major.
    pub dims: &'a [usize],
    /// What the parameter is in its layer.
    pub kind: ParamKind,
    /// How candle would initialise it.
    pub init: Init,
}

/// The dtype in which a layer computes with a buffer.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BufferDtype {
    /// Any: the layer converts it.
    #[default]
    Any,
    /// The dtype of the layer's parameters.
    Params,
    /// This dtype, whatever that of the layer's parameters is.
    Fixed(DType),
}

/// Where the tensors of a target come from while it is built.
///
/// The same `build` serves every source: one records the layout, one takes variables from a
/// `VarBuilder`, one cuts a vector of generated parameters. A layer asks for its tensors in flat
/// order: the order of declaration, weight before bias.
///
/// A layer of your own asks for each parameter, takes it as a tensor and uses that in any way:
///
/// ```
/// use candle_core::{Device, Module, Result, Tensor, Var};
/// use hypernn::nn::Init;
/// use hypernn::target::layer::Visitor;
/// use hypernn::target::source::{ParamKind, ParamSource, ParamSpec};
/// use hypernn::{GeneratedParams, HyperTarget, Parameters};
///
/// /// Each value times a number of its own.
/// struct Scale {
///     weight: Tensor,
/// }
///
/// impl Parameters for Scale {
///     fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
///         visitor("weight", &self.weight)
///     }
/// }
///
/// impl HyperTarget for Scale {
///     type Config = usize;
///
///     const NAME: &'static str = "Scale";
///
///     fn build(width: &usize, source: &mut dyn ParamSource) -> Result<Self> {
///         let (dims, init) = (&[*width], Init::Const(1.));
///         let spec = ParamSpec { name: "weight", dims, kind: ParamKind::Gain, init };
///         Ok(Self { weight: source.param(&spec)?.to_tensor()? })
///     }
/// }
///
/// impl Module for Scale {
///     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
///         xs.broadcast_mul(&self.weight)
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let flat = Var::new(&[1f32, 2., 3.], &Device::Cpu)?;
/// let layer = GeneratedParams::<Scale>::from_flat(&3, &flat)?.unpack()?;
/// let ys = layer.forward(&Tensor::new(&[[1f32, 1., 1.], [2., 2., 2.]], &Device::Cpu)?)?;
/// assert_eq!(ys.to_vec2::<f32>()?, [[1., 2., 3.], [2., 4., 6.]]);
/// let grads = ys.sum_all()?.backward()?;
/// let grad = grads.get(&flat).map(Tensor::to_vec1::<f32>).transpose()?;
/// assert_eq!(grad, Some(vec![3., 3., 3.]));
/// # Ok(())
/// # }
/// ```
pub trait ParamSource {
    /// Goes down one component of the path, as `VarBuilder::pp` does.
    fn enter(&mut self, name: &str);

    /// Goes back up by one component.
    fn leave(&mut self);

    /// The next parameter: of shape `dims`, or `[G, dims…]` for `G` sets of generated parameters. A layer of your
    /// own takes its tensor, [`to_tensor`](Param::to_tensor).
    ///
    /// # Errors
    /// The source has no such tensor, or one of another shape.
    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Param>;

    /// What is asked for until [`leave_role`](Self::leave_role) belongs to a field of this role; only
    /// the layout looks at it.
    fn enter_role(&mut self, _role: Role) {}

    /// Ends what [`enter_role`](Self::enter_role) began.
    ///
    /// # Errors
    /// The role decided nothing.
    fn leave_role(&mut self) -> Result<()> {
        Ok(())
    }

    /// A tensor that belongs to the layer but is not a parameter, such as running statistics.
    ///
    /// # Errors
    /// The source has no such tensor, or one of another shape.
    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor>;

    /// A buffer in the dtype in which a layer computes that does not convert it itself.
    ///
    /// # Errors
    /// The source has no such tensor, or one of another shape.
    #[doc(hidden)]
    fn buffer_of(&mut self, spec: &ParamSpec<'_>, _dtype: BufferDtype) -> Result<Tensor> {
        self.buffer(spec)
    }

    /// The layer at this path computes with one set of weights at a time.
    fn takes_one_set(&mut self) {}

    /// A tensor of the layer that is neither generated nor trained, such as random features or a table
    /// that is computed once: made once for each network, and kept in its checkpoints. Its name is below
    /// the layer's own path; see [`value`](super::value).
    ///
    /// # Errors
    /// Those of `make`, or the source has it with another shape.
    fn fixed(&mut self, _name: &str, make: &mut dyn FnMut() -> Result<Tensor>) -> Result<Tensor> {
        make()
    }

    /// The value of a field without parameters, made once for each network.
    #[doc(hidden)]
    fn made(&mut self, make: &mut dyn FnMut() -> Made) -> Made {
        make()
    }

    /// The field of this name is made by its target in each build.
    #[doc(hidden)]
    fn made_anew(&mut self, _field: &str) {}

    /// The next parameter as a bare tensor: whether the forward takes those of several sets, only the target knows.
    #[doc(hidden)]
    fn bare(&mut self, spec: &ParamSpec<'_>, _takes_sets: bool) -> Result<Tensor> {
        self.param(spec)?.to_tensor()
    }

    /// What else the layer at this path computes with: its kind and its settings, such as a stride, as
    /// one line. A checkpoint holds it, and is refused where a layer has other settings than the file
    /// says. A layer that says nothing is not compared; only the layout looks at it.
    fn describe(&mut self, _layer: &dyn std::fmt::Display) {}

    /// The parameter `name` of the layer at this path is one that another layer was given; only the layout looks at
    /// it.
    #[doc(hidden)]
    fn tied(&mut self, _name: &str, _to: &Param) {}
}

/// Builds what lies below one path component.
///
/// # Errors
/// Whatever `build` returns.
pub fn scoped<T>(
    source: &mut dyn ParamSource,
    name: &str,
    build: impl FnOnce(&mut dyn ParamSource) -> Result<T>,
) -> Result<T> {
    source.enter(name);
    let built = build(source);
    source.leave();
    built
}

/// Variables of a `VarBuilder`: the target becomes an ordinary network.
pub(crate) struct VarBuilderSource<'a> {
    path: Vec<VarBuilder<'a>>,
    root: VarBuilder<'a>,
}

impl<'a> VarBuilderSource<'a> {
    pub(crate) fn new(root: VarBuilder<'a>) -> Self {
        Self { path: Vec::new(), root }
    }

    fn here(&self) -> &VarBuilder<'a> {
        self.path.last().unwrap_or(&self.root)
    }

    /// A tensor whose name is empty is named by the path alone.
    fn get(&self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        let name = || [&self.here().prefix(), spec.name].map(str::to_owned).join(".");
        ensure_floating(self.here().dtype(), name)?;
        if !spec.name.is_empty() {
            return variable(self.here(), spec.dims, spec.name, spec.init);
        }
        variable(&self.here().root(), spec.dims, &self.here().prefix(), spec.init)
    }
}

/// The variable of a builder. Where it is not there yet, it is asked for memory first.
///
/// # Errors
/// The builder's own, or there is not so much memory.
pub(crate) fn variable(
    vb: &VarBuilder<'_>,
    dims: &[usize],
    name: &str,
    init: Init,
) -> Result<Tensor> {
    if !vb.contains_tensor(name) {
        ensure_room(|| format!("variable `{name}`"), dims, vb.dtype(), vb.device())?;
    }
    vb.get_with_hints(dims, name, init)
}

impl ParamSource for VarBuilderSource<'_> {
    fn enter(&mut self, name: &str) {
        self.path.push(self.here().pp(name));
    }

    fn leave(&mut self) {
        self.path.pop();
    }

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Param> {
        self.get(spec).map(Param::from)
    }

    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        self.get(spec)
    }

    fn fixed(&mut self, name: &str, make: &mut dyn FnMut() -> Result<Tensor>) -> Result<Tensor> {
        stored(self.here(), &stored_name(name), &make()?)
    }
}

/// Serves one named parameter of another layer, and everything else from the source below.
///
/// This is how a field reuses another field's parameter: the tied one is never asked of the
/// source, so it is counted once.
pub struct TiedSource<'a> {
    source: &'a mut dyn ParamSource,
    name: &'a str,
    param: Param,
    depth: usize,
}

impl<'a> TiedSource<'a> {
    /// Serves `param` wherever the layer directly below asks for `name`.
    pub fn new(source: &'a mut dyn ParamSource, name: &'a str, param: impl Into<Param>) -> Self {
        Self { source, name, param: param.into(), depth: 0 }
    }
}

impl ParamSource for TiedSource<'_> {
    fn enter(&mut self, name: &str) {
        self.depth += 1;
        self.source.enter(name);
    }

    fn leave(&mut self) {
        self.depth -= 1;
        self.source.leave();
    }

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Param> {
        if spec.name != self.name || self.depth > 0 {
            return self.source.param(spec);
        }
        let found = self.param.dims();
        // A tensor of several sets has the number of sets in front of its own shape.
        if found != spec.dims && found.get(1..) != Some(spec.dims) {
            crate::error::bail!(
                shape,
                "tied {}: the layer takes shape {:?}, the tensor it reuses has shape {found:?}",
                self.name,
                spec.dims
            );
        }
        self.source.tied(self.name, &self.param);
        Ok(self.param.clone())
    }

    fn enter_role(&mut self, role: Role) {
        self.source.enter_role(role);
    }

    fn leave_role(&mut self) -> Result<()> {
        self.source.leave_role()
    }

    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        self.source.buffer(spec)
    }

    fn buffer_of(&mut self, spec: &ParamSpec<'_>, dtype: BufferDtype) -> Result<Tensor> {
        self.source.buffer_of(spec, dtype)
    }

    fn takes_one_set(&mut self) {
        self.source.takes_one_set();
    }

    fn fixed(&mut self, name: &str, make: &mut dyn FnMut() -> Result<Tensor>) -> Result<Tensor> {
        self.source.fixed(name, make)
    }

    fn made(&mut self, make: &mut dyn FnMut() -> Made) -> Made {
        self.source.made(make)
    }

    fn made_anew(&mut self, field: &str) {
        self.source.made_anew(field);
    }

    fn bare(&mut self, spec: &ParamSpec<'_>, takes_sets: bool) -> Result<Tensor> {
        self.source.bare(spec, takes_sets)
    }

    fn describe(&mut self, layer: &dyn std::fmt::Display) {
        self.source.describe(layer);
    }

    fn tied(&mut self, name: &str, to: &Param) {
        self.source.tied(name, to);
    }
}
