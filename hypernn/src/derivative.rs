//! Losses with derivatives of a network's outputs, such as the residual of a differential equation.
//!
//! candle detaches gradients as it computes them: what `backward` gives then has a gradient of its own that
//! is wrong, and nothing says so. With the environment variable `CANDLE_GRAD_DO_NOT_DETACH=1` it keeps
//! their graph, and gradients can be differentiated again. candle reads the variable when a thread first
//! computes a gradient, so it must be set before:
//!
//! - in the shell: `CANDLE_GRAD_DO_NOT_DETACH=1 cargo run`;
//! - for a package, in `.cargo/config.toml`: `[env]` and below it `CANDLE_GRAD_DO_NOT_DETACH = "1"`;
//! - or as the first statement of `main`, by `std::env::set_var`.
//!
//! [`derivative`] gives an error where the variable is not set, and a gradient that can be differentiated
//! where it is. All layers of [`nn`](crate::nn), embeddings and generators can be differentiated twice, with
//! respect to the input, to the condition and to the hypernetwork's variables. candle's operations can too,
//! but for those that have no gradient in the first place, or a wrong one:
//! [`nn::max_pool2d`](crate::nn::max_pool2d) takes the place of `Tensor::max_pool2d`.
//!
//! Every backward pass of such a program keeps its graph, which costs time and memory: ordinary training
//! belongs in another program. A second derivative of a `relu` network is zero almost everywhere; `tanh`,
//! `silu`, `gelu` and sines are smooth.
//!
//! Without the variable, differences do: `(u(x + h) - u(x - h)) / 2h` of two forward passes is exact up to
//! order `h²`, and an ordinary loss. In f32 its error is about `1e-7 / h + h²`, so some 1e-5 at best.
//!
//! # Physics-informed losses
//!
//! After Raissi, Perdikaris and Karniadakis, *Physics-informed neural networks* (2019): a network is a
//! solution where its derivatives satisfy the equation at sampled points, and its values the conditions at
//! the boundary. A hypernetwork has the solutions for all parameters of the equation: here
//! `u′ = -a u`, `u(0) = 1`, for every `a`.
//!
//! ```standalone_crate
//! use candle_core::{DType, Device, Result, Tensor, Var};
//! use hypernn::nn::{AdamW, Linear, Optimizer, VarMap};
//! use hypernn::{HyperTarget, derivative, hypernetwork, seeded};
//!
//! /// `u(x)`.
//! #[derive(HyperTarget)]
//! #[hyper(sequential = [hidden, tanh, out], input = 1)]
//! struct Solution {
//!     #[hyper(linear(1, 16))]
//!     hidden: Linear,
//!     #[hyper(linear(16, 1))]
//!     out: Linear,
//! }
//!
//! hypernetwork! {
//!     /// The solution for each `a`.
//!     struct Solutions for Solution {
//!         embedding: encoder(1, [16], tanh, 7, 8),
//!         generator: linear,
//!         mode: dynamic,
//!     }
//! }
//!
//! fn main() -> Result<()> {
//!     // SAFETY: no other thread runs yet.
//!     unsafe { std::env::set_var("CANDLE_GRAD_DO_NOT_DETACH", "1") };
//!
//!     let vars = VarMap::new();
//!     let hyper = Solutions::new(seeded::var_builder(&vars, 1, DType::F32, &Device::Cpu))?;
//!     // Four values of `a`, and for each three points in a row.
//!     let a = Tensor::new(&[[0.5f32], [1.], [1.5], [2.]], &Device::Cpu)?;
//!     let of_rows = a.repeat((1, 3))?.reshape((12, 1))?;
//!     let points = Tensor::rand(0f32, 1., (12, 1), &Device::Cpu)?;
//!     let start = Tensor::zeros((4, 1), DType::F32, &Device::Cpu)?;
//!
//!     let loss = || {
//!         let params = hyper.generate_params(&a)?;
//!         let xs = Var::from_tensor(&points)?;
//!         let u = params.forward(&xs)?;
//!         let residual = (derivative(&u, &xs)? + (&of_rows * &u)?)?;
//!         let at_start = (params.forward(&start)? - 1.)?;
//!         residual.sqr()?.mean_all()? + at_start.sqr()?.mean_all()?
//!     };
//!     let before = loss()?.to_scalar::<f32>()?;
//!     let mut optimizer = AdamW::new_lr(vars.all_vars(), 0.01)?;
//!     for _ in 0..50 {
//!         optimizer.backward_step(&loss()?)?;
//!     }
//!     assert!(loss()?.to_scalar::<f32>()? < 0.1 * before);
//!     Ok(())
//! }
//! ```

use candle_core::{Result, Tensor, bail};

use crate::ops::second_order::keeps_graph;

/// The derivative of `ys` with respect to the variable `xs`, of the shape of `xs`, with a gradient of its
/// own.
///
/// It is that of the sum of `ys`: where each row of `ys` depends on the same row of `xs` alone, each row of
/// the result is the derivative of its own. Applied to the result again, it gives the second derivative.
///
/// ```standalone_crate
/// use candle_core::{Device, Result, Tensor, Var};
/// use hypernn::derivative;
///
/// # fn main() -> Result<()> {
/// // SAFETY: no other thread runs yet.
/// unsafe { std::env::set_var("CANDLE_GRAD_DO_NOT_DETACH", "1") };
/// let xs = Var::new(&[1f64, 2.], &Device::Cpu)?;
/// let slopes = derivative(&xs.powf(3.)?, &xs)?;
/// assert_eq!(slopes.to_vec1::<f64>()?, [3., 12.]);
/// assert_eq!(derivative(&slopes, &xs)?.to_vec1::<f64>()?, [6., 12.]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// candle detaches gradients on this thread, `xs` is no variable, or `ys` does not depend on it; see the
/// module [`derivative`](mod@crate::derivative).
pub fn derivative(ys: &Tensor, xs: &Tensor) -> Result<Tensor> {
    if !keeps_graph() {
        bail!(
            "derivative: candle detaches gradients on this thread, so that the derivative's own gradient would be wrong; set the environment variable CANDLE_GRAD_DO_NOT_DETACH=1 before the program starts"
        );
    }
    if !xs.is_variable() {
        bail!(
            "derivative: the input (shape {:?}) is no variable, to which candle gives a gradient; make it one by `Var::from_tensor`",
            xs.dims()
        );
    }
    match ys.backward()?.remove(xs) {
        Some(derivative) => Ok(derivative),
        None => bail!(
            "derivative: the output (shape {:?}) does not depend on the input (shape {:?})",
            ys.dims(),
            xs.dims()
        ),
    }
}
