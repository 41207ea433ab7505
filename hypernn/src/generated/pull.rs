//! Learning from what became of generated parameters elsewhere.

use candle_core::{DType, Device, Result, Tensor};

use super::GeneratedParams;
use crate::check::ensure_same_device;
use crate::error::bail;
use crate::ops::wide;

impl<T> GeneratedParams<T> {
    /// A loss whose descent moves what is generated along `delta`, a change of these parameters that was found
    /// elsewhere: `−⟨θ, Δθ⟩`, a scalar, for `θ` as it is and `Δθ` of the shape of [`flat`](Self::flat), `[P]` or
    /// `[G, P]`.
    ///
    /// So a server learns from clients that know nothing of the hypernetwork: it generates `θ`, a client
    /// trains it to `θ'` and returns `Δθ = θ' − θ`, and the hypernetwork takes a step of this loss. The gradient of a
    /// variable `φ` is `−(∂θ/∂φ)ᵀ Δθ`, after Shamsian et al., *Personalized federated learning using hypernetworks*
    /// (ICML 2021), equation 3 and algorithm 1. The value of the loss means nothing, and says nothing about how well
    /// the parameters do. For the mean over several clients, divide by their number.
    ///
    /// The product is summed in f32 where parameters are f16 or bf16.
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor, Var};
    /// use hypernn::nn::{Linear, Optimizer, SGD, VarMap};
    /// use hypernn::{HyperTarget, hypernetwork, seeded};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear(4, 1))]
    ///     fc: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net { embedding: tasks(3, 5, 4), generator: linear, mode: dynamic }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let vars = VarMap::new();
    /// let hyper = HyperNet::new(seeded::var_builder(&vars, 7, DType::F32, &Device::Cpu))?;
    /// let client = Tensor::new(1u32, &Device::Cpu)?;
    /// let xs = Tensor::ones((8, 4), DType::F32, &Device::Cpu)?;
    ///
    /// // What a client does with the parameters that it got: a few steps of its own.
    /// let train = |sent: &Tensor| -> Result<Tensor> {
    ///     let own = Var::from_tensor(sent)?;
    ///     let mut optimizer = SGD::new(vec![own.clone()], 0.02)?;
    ///     for _ in 0..10 {
    ///         let ys = hyper.params_from_flat(own.as_tensor())?.forward(&xs)?;
    ///         optimizer.backward_step(&(ys - 1.)?.sqr()?.mean_all()?)?;
    ///     }
    ///     own.as_tensor() - sent
    /// };
    ///
    /// let loss = || -> Result<f32> {
    ///     let ys = hyper.generate_params(&client)?.forward(&xs)?;
    ///     (ys - 1.)?.sqr()?.mean_all()?.to_scalar()
    /// };
    /// let before = loss()?;
    /// let mut optimizer = SGD::new(hyper.trainable(), 0.1)?;
    /// for _round in 0..5 {
    ///     let params = hyper.generate_params(&client)?;
    ///     let delta = train(&params.detach().flat()?)?;
    ///     optimizer.backward_step(&params.pull(&delta)?)?;
    /// }
    /// assert!(loss()? < 0.5 * before);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `delta` has another shape, dtype or device than the parameters, or values that are not finite: the first
    /// tensor with such values is named.
    pub fn pull(&self, delta: &Tensor) -> Result<Tensor> {
        let (flat, name) = (self.flat()?, self.plan.name);
        if delta.dims() != flat.dims() {
            bail!(
                shape,
                "the change of the parameters of {name} has shape {:?}, expected {:?}",
                delta.dims(),
                flat.dims()
            );
        }
        if delta.dtype() != flat.dtype() {
            bail!(
                dtype,
                "the change of the parameters of {name} is {:?}, expected {:?}",
                delta.dtype(),
                flat.dtype()
            );
        }
        let [own, given] = [flat.device(), delta.device()].map(|device| device.location());
        ensure_same_device("the change of the parameters", given, name, own)?;
        self.ensure_finite_change(delta)?;
        (wide(&flat)? * wide(&delta.detach())?)?.sum_all()?.neg()
    }

    /// One client's broken numbers would be everybody's. Most changes are finite, which their sum of squares shows.
    fn ensure_finite_change(&self, delta: &Tensor) -> Result<()> {
        let squares = wide(delta)?.sqr()?.sum_all()?.to_device(&Device::Cpu)?;
        if squares.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite() {
            return Ok(());
        }
        let (name, last) = (self.plan.name, delta.rank() - 1);
        for param in self.layout().params() {
            let values = delta.narrow(last, param.offset, param.shape.elem_count())?;
            crate::finite::ensure_finite(
                || format!("the change of `{}` of {name}", param.name),
                &values,
            )?;
        }
        Ok(())
    }
}
