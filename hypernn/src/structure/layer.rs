//! What a field of a target can be: a layer built from its spec, or a container of layers.

use candle_core::{Result, Tensor};

use super::source::{ParamSource, scoped};
use crate::param::Param;

/// Called with the name (below the layer's path) and the tensor of each parameter, in flat order.
pub type Visitor<'a> = dyn FnMut(&str, &Tensor) -> Result<()> + 'a;

/// Something with parameters: a layer, a container of layers, a target.
pub trait Parameters {
    /// Visits the parameters in flat order, each with its name inside its layer.
    ///
    /// # Errors
    /// The layer does not give access to a tensor, or the visitor fails.
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()>;

    /// The parameter of this name as another layer reuses it, by `tie(weight = field.weight)`; `None`
    /// where there is none. It is what [`visit`](Self::visit) shows, except in a layer that applies a
    /// low-rank [adapter](crate::structure::adapter) beside its weight: another layer gets the sum.
    ///
    /// # Errors
    /// Those of [`visit`](Self::visit).
    fn reused(&self, name: &str) -> Result<Option<Param>> {
        let mut found = None;
        self.visit(&mut |at, tensor| {
            if at == name {
                found = Some(Param::from(tensor.clone()));
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// A layer that can be built from the spec `S`, with its tensors taken from any source.
///
/// `S` is the value of the field's attribute: `#[hyper(linear(64, 10))]` is a
/// [`LinearSpec`](crate::nn::LinearSpec).
///
/// # A layer of your own
///
/// It has a spec of its own, which says by an inherent `const fn info(&self) -> LayerInfo` what tensors the layer
/// has, so that their number is a constant and a wrong size a compile error. A layer that takes part in
/// `sequential` chains also says, by `const fn gives(&self, input: &SampleShape) -> Given`, what shape it makes of
/// one that it takes; all others do without. `build` asks the source for the same tensors in the same order.
///
/// ```
/// use candle_core::{DType, Device, Module, Result, Tensor};
/// use hypernn::check::ensure;
/// use hypernn::flow::{Given, SampleShape};
/// use hypernn::nn::{Init, Linear, VarBuilder, VarMap};
/// use hypernn::target::layer::Visitor;
/// use hypernn::target::source::{ParamKind, ParamSource, ParamSpec};
/// use hypernn::{HyperLayer, HyperTarget, LayerInfo, Parameters, hypernetwork};
///
/// /// Each value times a number of its own.
/// struct Scale {
///     weight: Tensor,
/// }
///
/// /// What stands in an attribute: `scale(8)`.
/// struct ScaleSpec {
///     size: usize,
/// }
///
/// const fn scale(size: usize) -> ScaleSpec {
///     ScaleSpec { size }
/// }
///
/// impl ScaleSpec {
///     const fn info(&self) -> LayerInfo {
///         LayerInfo::new("scale")
///             .size("size", self.size)
///             .tensor("weight", &[self.size])
///             .takes(SampleShape::last(self.size))
///     }
///
///     const fn gives(&self, input: &SampleShape) -> Given {
///         Given::Shape(*input)
///     }
/// }
///
/// impl HyperLayer<ScaleSpec> for Scale {
///     fn build(spec: &ScaleSpec, source: &mut dyn ParamSource) -> Result<Self> {
///         ensure(spec.info().problem)?;
///         let (dims, init) = (&[spec.size], Init::Const(1.));
///         let weight = ParamSpec { name: "weight", dims, kind: ParamKind::Tensor, init };
///         Ok(Self { weight: source.param(&weight)?.to_tensor()? })
///     }
/// }
///
/// impl Parameters for Scale {
///     fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
///         visitor("weight", &self.weight)
///     }
/// }
///
/// impl Module for Scale {
///     fn forward(&self, xs: &Tensor) -> Result<Tensor> {
///         xs.broadcast_mul(&self.weight)
///     }
/// }
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential)]
/// struct Net {
///     #[hyper(linear(4, 8))]
///     fc: Linear,
///     #[hyper(self::scale(8))]
///     scale: Scale,
/// }
///
/// hypernetwork! {
///     struct HyperNet for Net { embedding: table(6, 3), generator: linear, mode: static }
/// }
///
/// # fn main() -> Result<()> {
/// assert_eq!(Net::NUM_PARAMS, 4 * 8 + 8 + 8);
/// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
/// let xs = Tensor::ones((3, 4), DType::F32, &Device::Cpu)?;
/// assert_eq!(hyper.forward(&xs)?.dims(), [3, 8]);
/// # Ok(())
/// # }
/// ```
///
/// A layer whose settings no tensor shows, such as a stride, tells them to its source by
/// [`describe`](ParamSource::describe), so that a checkpoint is refused where they are others.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` can't be built from `{S}`",
    label = "not a layer of this kind",
    note = "the attribute names the candle constructor of the field's own type, without `vb`: `#[hyper(linear(64, 10))] fc: Linear`",
    note = "a field without parameters says how to make it: `#[hyper(value = Activation::Relu)]`",
    note = "a layer of your own implements `hypernn::HyperLayer` for a spec of your own"
)]
pub trait HyperLayer<S>: Parameters + Sized {
    /// Why this type must not be generated, where candle drops or miscomputes its gradients.
    /// The derive turns it into a compile error.
    const REFUSED: Option<&'static str> = None;

    /// Whether the layer computes with several sets of weights at once, `[G, …]`, each for its own
    /// run of rows, as those of [`nn`](crate::nn) do. A target with a layer that does not is applied
    /// to one set after the other, and its results are right by themselves; so say `true` only for a layer
    /// whose computation takes the sets in front into account.
    const TAKES_SETS: bool = false;

    /// Builds the layer, asking `source` for its parameters in flat order.
    ///
    /// # Errors
    /// The spec is invalid, or the source has no such tensor.
    fn build(spec: &S, source: &mut dyn ParamSource) -> Result<Self>;

    /// All of the above, as the derive asks for it: by a path that names this trait alone, so that this
    /// trait alone is in rustc's message where a type does not implement it.
    #[doc(hidden)]
    const OF: LayerOf<Self, S> =
        LayerOf { refused: Self::REFUSED, takes_sets: Self::TAKES_SETS, build: Self::build };
}

/// How a layer of type `T` is built from its spec, and what is to be known before.
#[doc(hidden)]
#[derive(Debug)]
pub struct LayerOf<T, S> {
    pub(crate) refused: Option<&'static str>,
    pub(crate) takes_sets: bool,
    pub(crate) build: fn(&S, &mut dyn ParamSource) -> Result<T>,
}

/// `[layer; n]`: `n` layers alike.
#[derive(Clone, Copy, Debug)]
pub struct Repeat<S> {
    /// The spec of each.
    pub spec: S,
    /// How many.
    pub count: usize,
}

/// The type inside a container, so that a derive can name it without knowing the container.
pub trait Container {
    /// The type of one element.
    type Item;

    /// The elements that are there, in order.
    fn items(&self) -> impl Iterator<Item = &Self::Item>;
}

impl<T> Container for Vec<T> {
    type Item = T;

    fn items(&self) -> impl Iterator<Item = &T> {
        self.iter()
    }
}

impl<T, const N: usize> Container for [T; N] {
    type Item = T;

    fn items(&self) -> impl Iterator<Item = &T> {
        self.iter()
    }
}

impl<T> Container for Option<T> {
    type Item = T;

    fn items(&self) -> impl Iterator<Item = &T> {
        self.iter()
    }
}

impl<T: Container> Container for Box<T> {
    type Item = T::Item;

    fn items(&self) -> impl Iterator<Item = &T::Item> {
        T::items(self)
    }
}

fn build_each<'s, T, S>(
    specs: impl Iterator<Item = &'s S>,
    source: &mut dyn ParamSource,
) -> Result<Vec<T>>
where
    T: HyperLayer<S>,
    S: 's,
{
    specs
        .enumerate()
        .map(|(i, spec)| scoped(source, &i.to_string(), |source| T::build(spec, source)))
        .collect()
}

pub(super) fn into_array<T, const N: usize>(layers: Vec<T>) -> Result<[T; N]> {
    let found = layers.len();
    <[T; N]>::try_from(layers).or_else(|_| {
        crate::error::bail!(
            declaration,
            "an array of {N} layers can't hold {found}: write `[layer; {N}]`"
        )
    })
}

impl<T: HyperLayer<S>, S> HyperLayer<Repeat<S>> for Vec<T> {
    const REFUSED: Option<&'static str> = T::REFUSED;
    const TAKES_SETS: bool = T::TAKES_SETS;

    fn build(spec: &Repeat<S>, source: &mut dyn ParamSource) -> Result<Self> {
        ensure_list::<T>(spec.count)?;
        build_each(std::iter::repeat_n(&spec.spec, spec.count), source)
    }
}

/// A list of so many layers can be had.
fn ensure_list<T>(count: usize) -> Result<()> {
    let mut list: Vec<T> = Vec::new();
    if list.try_reserve_exact(count).is_err() {
        crate::error::bail!(memory, "a list of {count} layers is larger than any memory");
    }
    std::hint::black_box(&mut list);
    Ok(())
}

impl<T: HyperLayer<S>, S, const M: usize> HyperLayer<[S; M]> for Vec<T> {
    const REFUSED: Option<&'static str> = T::REFUSED;
    const TAKES_SETS: bool = T::TAKES_SETS;

    fn build(specs: &[S; M], source: &mut dyn ParamSource) -> Result<Self> {
        build_each(specs.iter(), source)
    }
}

impl<T: HyperLayer<S>, S, const N: usize> HyperLayer<Repeat<S>> for [T; N] {
    const REFUSED: Option<&'static str> = T::REFUSED;
    const TAKES_SETS: bool = T::TAKES_SETS;

    fn build(spec: &Repeat<S>, source: &mut dyn ParamSource) -> Result<Self> {
        into_array(build_each(std::iter::repeat_n(&spec.spec, spec.count), source)?)
    }
}

impl<T: HyperLayer<S>, S, const N: usize, const M: usize> HyperLayer<[S; M]> for [T; N] {
    const REFUSED: Option<&'static str> = T::REFUSED;
    const TAKES_SETS: bool = T::TAKES_SETS;

    fn build(specs: &[S; M], source: &mut dyn ParamSource) -> Result<Self> {
        into_array(build_each(specs.iter(), source)?)
    }
}

impl<T: HyperLayer<S>, S> HyperLayer<Option<S>> for Option<T> {
    const REFUSED: Option<&'static str> = T::REFUSED;
    const TAKES_SETS: bool = T::TAKES_SETS;

    fn build(spec: &Option<S>, source: &mut dyn ParamSource) -> Result<Self> {
        spec.as_ref().map(|spec| T::build(spec, source)).transpose()
    }
}

impl<T: HyperLayer<S>, S> HyperLayer<S> for Box<T> {
    const REFUSED: Option<&'static str> = T::REFUSED;
    const TAKES_SETS: bool = T::TAKES_SETS;

    fn build(spec: &S, source: &mut dyn ParamSource) -> Result<Self> {
        T::build(spec, source).map(Box::new)
    }
}

impl<T: Parameters> Parameters for Vec<T> {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.iter().try_for_each(|layer| layer.visit(visitor))
    }
}

impl<T: Parameters, const N: usize> Parameters for [T; N] {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.iter().try_for_each(|layer| layer.visit(visitor))
    }
}

impl<T: Parameters> Parameters for Option<T> {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.as_ref().map_or(Ok(()), |layer| layer.visit(visitor))
    }

    fn reused(&self, name: &str) -> Result<Option<Param>> {
        self.as_ref().map_or(Ok(None), |layer| layer.reused(name))
    }
}

impl<T: Parameters> Parameters for Box<T> {
    fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        T::visit(self, visitor)
    }

    fn reused(&self, name: &str) -> Result<Option<Param>> {
        T::reused(self, name)
    }
}
