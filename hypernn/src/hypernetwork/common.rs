//! What static and dynamic hypernetworks have in common, for code that is generic over them.

use candle_core::{Result, Tensor};

use super::core::Core;
use super::dynamic_network::DynamicHyperNetwork;
use super::static_network::StaticHyperNetwork;
use crate::generated::GeneratedParams;

/// A hypernetwork over `T`, of any kind: every type that [`hypernetwork!`](macro@crate::hypernetwork) emits,
/// [`StaticHyperNetwork`] and [`DynamicHyperNetwork`].
///
/// Code that is generic over it, such as a training loop, is written once. What the kinds differ in is
/// what weights are generated for, [`Condition`](Self::Condition): nothing, `()`, for a static
/// hypernetwork; a tensor for a dynamic one: `[width]` or `[G, width]`, the number of a task, or sequences of one
/// length, `[T, width]` or `[G, T, width]`. Where sequences have several lengths,
/// [`generate_params`](DynamicHyperNetwork::generate_params) takes them with a mask.
///
/// ```
/// use candle_core::{DType, Device, Module, Result, Tensor};
/// use hypernn::nn::{AdamW, Linear, Optimizer, VarMap};
/// use hypernn::{HyperTarget, Hypernetwork, hypernetwork, seeded};
///
/// /// Trains any hypernetwork over a `Module`; gives the last loss.
/// fn fit<T: Module, H: Hypernetwork<T>>(
///     hyper: &H,
///     condition: &H::Condition,
///     (xs, ys): (&Tensor, &Tensor),
/// ) -> Result<f32> {
///     let loss = || hyper.generate(condition)?.forward(xs)?.sub(ys)?.sqr()?.mean_all();
///     let mut optimizer = AdamW::new_lr(hyper.core().trainable(), 0.01)?;
///     for _ in 0..40 {
///         optimizer.backward_step(&loss()?)?;
///     }
///     loss()?.to_scalar()
/// }
///
/// #[derive(HyperTarget)]
/// #[hyper(sequential)]
/// struct Net {
///     #[hyper(linear(4, 2))]
///     fc: Linear,
/// }
///
/// hypernetwork! {
///     struct Static for Net { embedding: table(5, 3), generator: linear, mode: static }
///
///     struct Dynamic for Net { embedding: encoder(3, [8], tanh, 5, 3), generator: linear, mode: dynamic }
/// }
///
/// # fn main() -> Result<()> {
/// let builder = |vars: &VarMap| seeded::var_builder(vars, 0, DType::F32, &Device::Cpu);
/// let ones = |shape: (usize, usize)| Tensor::ones(shape, DType::F32, &Device::Cpu);
/// let data = (&ones((6, 4))?, &ones((6, 2))?);
/// assert!(fit(&Static::new(builder(&VarMap::new()))?, &(), data)? < 0.1);
/// let condition = Tensor::ones(3, DType::F32, &Device::Cpu)?;
/// assert!(fit(&Dynamic::new(builder(&VarMap::new()))?, &condition, data)? < 0.1);
/// # Ok(())
/// # }
/// ```
///
/// What the kinds have in common, such as [`trainable`](Core::trainable) or [`save`](Core::save), are methods of
/// [`core`](Self::core). A type of your own that holds a hypernetwork implements both methods by those of the
/// hypernetwork that it holds.
pub trait Hypernetwork<T> {
    /// What weights are generated for: `()`, or a tensor.
    type Condition;

    /// Generates the target's parameters: one set, or for a condition of `G` rows or tasks `G` sets.
    ///
    /// # Errors
    /// A condition of another width, rank or dtype, or an unknown task.
    fn generate(&self, condition: &Self::Condition) -> Result<GeneratedParams<T>>;

    /// The hypernetwork's layout, variables and files.
    fn core(&self) -> &Core<T>;
}

impl<T> Hypernetwork<T> for StaticHyperNetwork<T> {
    type Condition = ();

    fn generate(&self, (): &()) -> Result<GeneratedParams<T>> {
        self.generate_params()
    }

    fn core(&self) -> &Core<T> {
        self
    }
}

impl<T> Hypernetwork<T> for DynamicHyperNetwork<T> {
    type Condition = Tensor;

    fn generate(&self, condition: &Tensor) -> Result<GeneratedParams<T>> {
        self.generate_params(condition)
    }

    fn core(&self) -> &Core<T> {
        self
    }
}
