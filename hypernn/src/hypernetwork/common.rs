//! What static and dynamic hypernetworks have in common, for code that is generic over them.

use std::path::Path;

use candle_core::{Result, Tensor, Var};

use super::audit::Audit;
use super::core::Core;
use super::dynamic_network::DynamicHyperNetwork;
use super::static_network::StaticHyperNetwork;
use crate::error::bail;
use crate::generated::GeneratedParams;
use crate::plan::ChunkPlan;
use crate::structure::layout::Layout;

/// A hypernetwork over `T`, of any kind: every type that [`hypernetwork!`](macro@crate::hypernetwork) emits,
/// [`StaticHyperNetwork`] and [`DynamicHyperNetwork`].
///
/// Code that is generic over it, such as a training loop, is written once. What the kinds differ in is
/// what weights are generated for, [`Condition`](Self::Condition): nothing, `()`, for a static
/// hypernetwork; a tensor, `[width]` or `[G, width]`, or the number of a task, for a dynamic one.
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
///     let mut optimizer = AdamW::new_lr(hyper.trainable(), 0.01)?;
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
/// A type of your own that holds a hypernetwork implements the two required methods by those of the
/// hypernetwork that it holds.
pub trait Hypernetwork<T> {
    /// What weights are generated for: `()`, or a tensor.
    type Condition;

    /// Generates the target's parameters: one set, or for a condition of `G` rows or tasks `G` sets.
    ///
    /// # Errors
    /// A condition of another width, rank or dtype, or an unknown task.
    fn generate(&self, condition: &Self::Condition) -> Result<GeneratedParams<T>>;

    /// The hypernetwork that does the work.
    fn network(&self) -> NetworkRef<'_, T>;

    /// Which tensor of the target lies where in the flat vector.
    fn target_layout<'a>(&'a self) -> &'a Layout
    where
        T: 'a,
    {
        self.network().0.layout()
    }

    /// How the generated rows cover the flat vector.
    fn chunks(&self) -> ChunkPlan {
        self.network().0.chunks()
    }

    /// The number of trained values.
    fn num_trained(&self) -> usize {
        self.network().0.num_params()
    }

    /// The variables that are trained, each once: without the bases and the running statistics, which
    /// a builder's `all_vars` holds too.
    fn trainable(&self) -> Vec<Var> {
        self.network().0.trainable()
    }

    /// The name and tensor of all that a checkpoint holds: the variables, then bases and buffers,
    /// which are not trained.
    fn named_tensors<'a>(&'a self) -> Vec<(&'a str, &'a Tensor)>
    where
        T: 'a,
    {
        self.network().0.named_tensors().collect()
    }

    /// Which generated tensors and which variables get a gradient from `loss`, which was computed with
    /// `params`.
    ///
    /// # Errors
    /// The backward pass's own.
    fn audit(&self, params: &GeneratedParams<T>, loss: &Tensor) -> Result<Audit> {
        self.network().0.audit(params, loss)
    }

    /// Writes the hypernetwork's checkpoint.
    ///
    /// # Errors
    /// The file can't be written.
    fn save(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        self.network().0.save(path.as_ref())
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// The file is not a whole checkpoint of this hypernetwork; nothing has changed.
    fn load(&self, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        self.network().0.load(path.as_ref())
    }

    /// Writes the weights for one condition as an ordinary checkpoint of the target.
    ///
    /// # Errors
    /// A condition of several sets, or the file can't be written.
    fn bake(&self, condition: &Self::Condition, path: impl AsRef<Path>) -> Result<()>
    where
        Self: Sized,
    {
        let params = self.generate(condition)?;
        if let Some(sets) = params.num_sets() {
            bail!(condition, "a checkpoint holds one set of weights, the condition gives {sets}");
        }
        self.network().0.bake(&params, path.as_ref())
    }
}

/// The hypernetwork that does the work, as [`Hypernetwork::network`] hands it on.
pub struct NetworkRef<'a, T>(&'a Core<T>);

impl<T> Clone for NetworkRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for NetworkRef<'_, T> {}

impl<T> std::fmt::Debug for NetworkRef<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Hypernetwork<T> for StaticHyperNetwork<T> {
    type Condition = ();

    fn generate(&self, (): &()) -> Result<GeneratedParams<T>> {
        self.generate_params()
    }

    fn network(&self) -> NetworkRef<'_, T> {
        NetworkRef(self.core())
    }
}

impl<T> Hypernetwork<T> for DynamicHyperNetwork<T> {
    type Condition = Tensor;

    fn generate(&self, condition: &Tensor) -> Result<GeneratedParams<T>> {
        self.generate_params(condition)
    }

    fn network(&self) -> NetworkRef<'_, T> {
        NetworkRef(self.core())
    }
}
