//! Training by several processes, cards or machines at once.
//!
//! [`DataParallel`] wraps an optimiser: each rank computes the gradient for its own rows, and all take the step of the
//! mean gradient. What ranks exchange goes through [`AllReduce`], by an engine:
//!
//! | Engine | Feature | For |
//! |---|---|---|
//! | [`Threads`] | | tests, and where nothing else is at hand |
//! | `Mpi` | `mpi` | processes on one machine or a cluster, on the CPU |
//! | `Nccl` | `nccl` | NVIDIA cards |
//!
//! With a hypernetwork the gradient that travels is that of its own variables, not of the weights that it generates:
//! a static one of a tenth of its target's size sends a tenth of the bytes.
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use hypernn::nn::{AdamW, Linear, ParamsAdamW, VarMap, loss};
//! use hypernn::parallel::{AllReduce, DataParallel, Sharded, Threads};
//! use hypernn::{HyperTarget, hypernetwork, seeded};
//!
//! #[derive(HyperTarget)]
//! #[hyper(sequential)]
//! struct Net {
//!     #[hyper(linear(4, 2))]
//!     fc: Linear,
//! }
//!
//! hypernetwork! {
//!     struct HyperNet for Net { embedding: table(5, 3), generator: linear, mode: static }
//! }
//!
//! /// Each rank runs this; what it needs to know of the others is in `rank`.
//! fn train(rank: &impl AllReduce) -> Result<f64> {
//!     let images = Tensor::arange(0f32, 40., &Device::Cpu)?.reshape((10, 4))?;
//!     let labels = Tensor::new(&[0u32, 1, 0, 1, 0, 1, 0, 1, 0, 1], &Device::Cpu)?;
//!     let vars = VarMap::new();
//!     let hyper = HyperNet::new(seeded::var_builder(&vars, 7, DType::F32, &Device::Cpu))?;
//!     let settings = ParamsAdamW { lr: 0.01, ..Default::default() };
//!     let mut optimizer: DataParallel<AdamW, _> =
//!         DataParallel::new(rank, &vars, hyper.trainable(), settings)?;
//!     // Four rows in a joint batch, which the ranks share.
//!     let mut rows = Sharded::new(rank, 10, 4, 7)?;
//!     let mut mean_loss = 0.;
//!     for step in 0..30 {
//!         let own = rows.of_step(step);
//!         mean_loss = optimizer.backward_step(own.len(), || {
//!             let own = Tensor::new(own.as_slice(), &Device::Cpu)?;
//!             let logits = hyper.forward(&images.index_select(&own, 0)?)?;
//!             loss::cross_entropy(&logits, &labels.index_select(&own, 0)?)
//!         })?;
//!     }
//!     optimizer.finish()?;
//!     Ok(mean_loss)
//! }
//!
//! # fn main() -> Result<()> {
//! let alone = Threads::run(1, train)?[0];
//! let losses = Threads::run(2, train)?;
//! assert_eq!(losses[0], losses[1]);
//! assert!((losses[0] - alone).abs() < 1e-5);
//! # Ok(())
//! # }
//! ```
//!
//! `docs/parallel.md` in the repository has how programs are started by `mpiexec` and Slurm, and how the time of a
//! step grows with the number of ranks.

mod agreement;
mod all_reduce;
mod buckets;
mod checkpoint;
mod data_parallel;
mod local;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod sharded;
mod threads;

pub use all_reduce::AllReduce;
pub use checkpoint::OptimizerState;
pub use data_parallel::DataParallel;
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
#[cfg(feature = "nccl")]
pub use nccl::Nccl;
pub use sharded::{Sharded, share};
pub use threads::Threads;
