//! An optimiser whose gradients are means over ranks.

use std::collections::HashSet;
use std::fmt;
use std::sync::PoisonError;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, TensorId, Var};
use candle_nn::{Optimizer, VarMap};

use super::agreement::{self, Place, Task};
use super::all_reduce::AllReduce;
use super::buckets::buckets;
use super::local::LocalGradients;
use crate::error::{bail, copied};
use crate::ops::wide;

/// A bucket of PyTorch's `DistributedDataParallel` has as many bytes.
const BUCKET_BYTES: usize = 25 << 20;

/// Data-parallel training: any [`Optimizer`] over the variables of a [`VarMap`], with the mean of the gradients over
/// all ranks.
///
/// Each rank has the whole network and computes the loss of its own rows. What travels is the gradient of the
/// variables: for a hypernetwork those of the generator, not the weights of the target, of which there may be
/// ten to a hundred times as many. See the [module](super) for an example.
///
/// - [`new`](Self::new) compares names, shapes and dtypes among ranks and takes the variables of rank 0.
/// - [`backward_step`](Self::backward_step) weighs each rank's gradient by its number of samples, so that smaller last
///   batches count rightly. Gradients are summed in the order of names, in buckets of 25 MiB; in f32 where variables
///   are f16 or bf16. A variable that has a gradient on some ranks has zero on the others.
/// - Variables stay equal on all ranks, bit for bit: all take the same step. Learning rates are compared.
/// - Where one rank fails, or is at another step, all get an error that names it, and none waits.
/// - Running statistics of batch normalisation are each rank's own, from its own rows, until
///   [`average_statistics`](Self::average_statistics) or [`save`](Self::save).
///
/// A rank that is dropped without [`finish`](Self::finish) [leaves](AllReduce::leave), and fails the others.
///
/// On one rank a step is that of the optimiser by itself, bit for bit.
pub struct DataParallel<O, C: AllReduce> {
    pub(super) comm: C,
    pub(super) vars: VarMap,
    pub(super) optimizer: O,
    /// Those that the optimiser moves, by name.
    trained: Vec<(String, Var)>,
    /// All others.
    kept: Vec<(String, Var)>,
    pub(super) device: Device,
    pub(super) steps: usize,
    local: LocalGradients,
    max_norm: Option<f64>,
    bucket_bytes: usize,
    traffic: u64,
    ended: bool,
}

impl<O: Optimizer, C: AllReduce> DataParallel<O, C> {
    /// An optimiser over `trained`, which are among `vars`, with the values that rank 0 has: all of `vars` are
    /// broadcast. For a hypernetwork `trained` is [`hyper.trainable()`](crate::hypernetwork::Core::trainable), for
    /// an ordinary network `vars.all_vars()`.
    ///
    /// # Errors
    /// No variables, on several devices, or one that `vars` does not name; ranks whose variables have other names,
    /// shapes or dtypes; the optimiser's own. All ranks get an error where one does.
    pub fn new(comm: C, vars: &VarMap, trained: Vec<Var>, config: O::Config) -> Result<Self> {
        let named = by_name(vars, &trained);
        let device =
            named.as_ref().map_or(Device::Cpu, |(trained, _)| trained[0].1.device().clone());
        let own =
            named.as_ref().map(|(trained, kept)| described(trained, kept)).unwrap_or_default();
        agreement::agree(&comm, &device, named.as_ref().map(drop).map_err(copied))?;
        let first = agreement::text(&comm, &device, &own, 0)?;
        agreement::agree(&comm, &device, ensure_described(&own, &first))?;
        let (trained, kept) = named?;
        let vars_of_optimizer = trained.iter().map(|(_, var)| var.clone()).collect();
        let optimizer = O::new(vars_of_optimizer, config);
        agreement::agree(&comm, &device, optimizer.as_ref().map(drop).map_err(copied))?;
        let new = Self {
            local: LocalGradients::new(trained.iter().map(|(_, var)| var.clone()).collect()),
            comm,
            vars: vars.clone(),
            optimizer: optimizer?,
            trained,
            kept,
            device,
            steps: 0,
            max_norm: None,
            bucket_bytes: BUCKET_BYTES,
            traffic: 0,
            ended: false,
        };
        new.broadcast_variables()?;
        Ok(new)
    }

    /// One step: the loss is the mean over this rank's `samples` rows (or of what else is counted, such as tokens).
    /// Where there are none, `loss` is not called. Gives the mean loss over the samples of all ranks, which is the
    /// same number on each.
    ///
    /// # Errors
    /// That of `loss` on this rank; on others one that names the rank and has its words. No samples on any
    /// rank, ranks at different steps or with different learning rates, a rank that has ended, or the optimiser's
    /// own.
    pub fn backward_step(
        &mut self,
        samples: usize,
        loss: impl FnOnce() -> Result<Tensor>,
    ) -> Result<f64> {
        let own = self.local.add(samples, loss);
        let told = self.meet(Task::Step, own.map(|()| self.local.told()))?;
        let stepped = self.step(&told);
        self.local.clear();
        self.or_leave(stepped)
    }

    /// Adds the gradient of a loss to that of the next [`backward_step`](Self::backward_step), without any exchange:
    /// for batches that do not fit into memory at once. Ranks may do so different numbers of times.
    ///
    /// # Errors
    /// That of `loss`, which the others get at their next step.
    pub fn accumulate(
        &mut self,
        samples: usize,
        loss: impl FnOnce() -> Result<Tensor>,
    ) -> Result<()> {
        match self.local.add(samples, loss) {
            Ok(()) => Ok(()),
            Err(err) => self.meet(Task::Step, Err(err)).map(drop),
        }
    }

    /// A result that only some ranks compute, such as that of writing a file: an error on one is one on all, and
    /// nobody goes on before all have come.
    ///
    /// # Errors
    /// The result's on this rank; on others one that names the rank and has its words.
    pub fn agree<T>(&mut self, result: Result<T>) -> Result<T> {
        let told = vec![0.; self.local.told_len()];
        self.meet(Task::Agree, result.as_ref().map(|_| told).map_err(copied))?;
        result
    }

    /// Ends the training on all ranks together.
    ///
    /// # Errors
    /// Ranks that have not all finished after the same number of steps.
    pub fn finish(mut self) -> Result<()> {
        self.meet(Task::Finish, Ok(vec![0.; self.local.told_len()]))?;
        self.ended = true;
        Ok(())
    }

    /// Puts the mean over ranks in the place of each variable that is not trained, of running statistics
    /// above all. What is equal on all ranks, as the bases of a hypernetwork are, stays as it is, bit for bit.
    ///
    /// # Errors
    /// A rank that is elsewhere or has ended.
    pub fn average_statistics(&mut self) -> Result<()> {
        self.agree(Ok(()))?;
        let averaged = self.kept.iter().filter(|(_, var)| var.dtype().is_float());
        let averaged = averaged.map(|(_, var)| var.clone()).collect::<Vec<_>>();
        let result = averaged.iter().try_for_each(|var| self.average(var));
        self.or_leave(result)
    }

    /// Looks whether each variable has the same bits on all ranks.
    ///
    /// # Errors
    /// The first rank with a variable that differs from that of rank 0, and its name.
    pub fn ensure_equal(&mut self) -> Result<()> {
        self.agree(Ok(()))?;
        let mut own = Ok(());
        for (name, var) in self.named() {
            let mut of_first = [wide(var.as_tensor())?];
            self.comm.broadcast(&mut of_first, 0)?;
            if own.is_ok() && !same_bits(&of_first[0], &wide(var.as_tensor())?)? {
                own = Err(crate::error::ranks(format!("`{name}` differs from that of rank 0")));
            }
        }
        self.agree(own)
    }

    /// Scales the mean gradient, over all variables in the order of their names, to a norm of at most `norm`, from
    /// the next step on.
    ///
    /// # Errors
    /// The norm is not a number above zero.
    pub fn set_max_norm(&mut self, norm: f64) -> Result<()> {
        if !(norm > 0. && norm.is_finite()) {
            bail!(
                declaration,
                "the gradient's norm is at most {norm}, expected a number above zero"
            );
        }
        self.max_norm = Some(norm);
        Ok(())
    }

    /// Sums gradients in buckets of so many bytes, 25 MiB if not set: larger ones are fewer exchanges, smaller ones
    /// less memory. A tensor that is larger is a bucket of its own. It has to be the same on all ranks.
    pub fn set_bucket_bytes(&mut self, bytes: usize) {
        self.bucket_bytes = bytes;
    }

    /// The number of steps so far, those before [`load`](Self::load) included.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The bytes that this rank has put into sums over ranks so far. A ring sends and receives 2·(n − 1)/n times as
    /// many.
    pub fn traffic(&self) -> u64 {
        self.traffic
    }

    /// The optimiser.
    pub fn optimizer(&self) -> &O {
        &self.optimizer
    }

    /// The optimiser, whose settings may be changed: on all ranks alike.
    pub fn optimizer_mut(&mut self) -> &mut O {
        &mut self.optimizer
    }

    /// What this rank exchanges by.
    pub fn comm(&self) -> &C {
        &self.comm
    }

    /// All variables, trained ones first, each in the order of names.
    pub(super) fn named(&self) -> impl Iterator<Item = &(String, Var)> {
        self.trained.iter().chain(&self.kept)
    }

    /// Takes the variables of rank 0.
    pub(super) fn broadcast_variables(&self) -> Result<()> {
        for (_, var) in self.named() {
            let mut tensors = [wide(var.as_tensor())?];
            self.comm.broadcast(&mut tensors, 0)?;
            if self.comm.rank() > 0 {
                var.set(&tensors[0].to_dtype(var.dtype())?)?;
            }
        }
        Ok(())
    }

    /// Exchanges what each rank tells; an error of one is one of all, and the end.
    fn meet(&mut self, task: Task, own: Result<Vec<f64>>) -> Result<Vec<f64>> {
        if self.ended {
            bail!(ranks, "the ranks have ended with an error before");
        }
        let place =
            Place { task, steps: self.steps, learning_rate: self.optimizer.learning_rate() };
        let len = self.local.told_len();
        let met = agreement::meet(&self.comm, &self.device, place, own, len);
        self.traffic += agreement::bytes(len) as u64;
        self.or_leave(met)
    }

    /// After an error there is nothing more to exchange.
    fn or_leave<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.ended = true;
            self.comm.leave("has ended with an error");
        }
        result
    }

    fn step(&mut self, told: &[f64]) -> Result<f64> {
        let [samples, loss, ref with_gradient @ ..] = *told else { return Ok(f64::NAN) };
        if samples == 0. {
            bail!(ranks, "step {}: no rank has any samples", self.steps + 1);
        }
        let mut grads = self.reduced(samples, with_gradient)?;
        if let Some(norm) = self.max_norm {
            clip(&mut grads, &self.trained, norm)?;
        }
        self.optimizer.step(&grads)?;
        self.steps += 1;
        Ok(loss / samples)
    }

    /// The mean gradient of each variable that has one on any rank.
    fn reduced(&mut self, samples: f64, with_gradient: &[f64]) -> Result<GradStore> {
        let mut grads = no_gradients()?;
        let own = self.local.shares(samples, with_gradient)?;
        for bucket in buckets(own, self.bucket_bytes)? {
            let mut joined = [bucket.joined()?];
            self.traffic += (joined[0].elem_count() * joined[0].dtype().size_in_bytes()) as u64;
            self.comm.all_reduce(&mut joined)?;
            for (number, grad) in bucket.parts(&joined[0])? {
                let (_, var) = &self.trained[number];
                grads.insert(var, grad.reshape(var.shape())?.to_dtype(var.dtype())?);
            }
        }
        Ok(grads)
    }

    /// What is equal has no difference to that of rank 0.
    fn average(&self, var: &Var) -> Result<()> {
        let own = wide(var.as_tensor())?;
        let mut first = [own.clone()];
        self.comm.broadcast(&mut first, 0)?;
        let mut difference = [(own - &first[0])?];
        self.comm.all_reduce(&mut difference)?;
        let mean = (&first[0] + (&difference[0] / self.comm.size() as f64)?)?;
        var.set(&mean.to_dtype(var.dtype())?)
    }
}

impl<O, C: AllReduce> fmt::Debug for DataParallel<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataParallel")
            .field("rank", &format_args!("{} of {}", self.comm.rank(), self.comm.size()))
            .field("variables", &self.trained.len())
            .field("steps", &self.steps)
            .finish()
    }
}

/// A rank that goes without a word would let the others wait.
impl<O, C: AllReduce> Drop for DataParallel<O, C> {
    fn drop(&mut self) {
        if !self.ended {
            let how = if std::thread::panicking() { "has panicked" } else { "has gone" };
            self.comm.leave(&format!("{how} after {} steps, without `finish`", self.steps));
        }
    }
}

type NamedVars = Vec<(String, Var)>;

/// The variables that are trained, and all others, each in the order of names.
fn by_name(vars: &VarMap, trained: &[Var]) -> Result<(NamedVars, NamedVars)> {
    let data = vars.data().lock().unwrap_or_else(PoisonError::into_inner);
    let mut named: Vec<_> = data.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
    drop(data);
    named.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let known: HashSet<TensorId> = named.iter().map(|(_, var)| var.id()).collect();
    if let Some(var) = trained.iter().find(|var| !known.contains(&var.id())) {
        bail!(
            declaration,
            "a variable of shape {:?} is to be trained that the `VarMap` does not name",
            var.shape()
        );
    }
    let trained: HashSet<TensorId> = trained.iter().map(|var| var.id()).collect();
    let (of_optimizer, kept): (NamedVars, NamedVars) =
        named.into_iter().partition(|(_, var)| trained.contains(&var.id()));
    let Some((name, first)) = of_optimizer.first() else {
        bail!(declaration, "no variables are to be trained, expected one or more");
    };
    for (other, var) in of_optimizer.iter().chain(&kept) {
        if !var.device().same_device(first.device()) {
            bail!(
                device,
                "`{other}` is on {:?}, but `{name}` on {:?}, expected one device",
                var.device().location(),
                first.device().location()
            );
        }
    }
    Ok((of_optimizer, kept))
}

/// A line for each variable.
fn described(trained: &[(String, Var)], kept: &[(String, Var)]) -> String {
    let line = |what, (name, var): &(String, Var)| {
        format!("{what} `{name}` {:?} {:?}\n", var.dtype(), var.dims())
    };
    let trained = trained.iter().map(|named| line("trained", named));
    trained.chain(kept.iter().map(|named| line("kept", named))).collect()
}

/// The first difference to what rank 0 has.
fn ensure_described(own: &str, first: &str) -> Result<()> {
    let (mut own, mut first) = (own.lines(), first.lines());
    loop {
        match (own.next(), first.next()) {
            (None, None) => return Ok(()),
            (own, first) if own == first => {}
            (own, first) => {
                let words = |line: Option<&str>| line.unwrap_or("no more variables").to_owned();
                bail!(ranks, "has {}, but rank 0 has {}", words(own), words(first))
            }
        }
    }
}

/// candle makes a store of gradients by a backward pass alone; this one is of nothing.
fn no_gradients() -> Result<GradStore> {
    Tensor::zeros((), DType::F32, &Device::Cpu)?.backward()
}

fn same_bits(a: &Tensor, b: &Tensor) -> Result<bool> {
    let bits = |tensor: &Tensor| -> Result<Vec<u64>> {
        let flat = tensor.flatten_all()?.to_device(&Device::Cpu)?;
        Ok(match flat.dtype() {
            DType::F32 => flat.to_vec1::<f32>()?.into_iter().map(|x| x.to_bits().into()).collect(),
            DType::F64 => flat.to_vec1::<f64>()?.into_iter().map(f64::to_bits).collect(),
            _ => {
                flat.to_dtype(DType::I64)?.to_vec1::<i64>()?.into_iter().map(|x| x as u64).collect()
            }
        })
    };
    Ok(bits(a)? == bits(b)?)
}

/// Scales gradients to a common norm of at most `limit`.
fn clip(grads: &mut GradStore, vars: &[(String, Var)], limit: f64) -> Result<()> {
    let mut squares = 0.;
    for grad in vars.iter().filter_map(|(_, var)| grads.get(var)) {
        squares += wide(grad)?.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    }
    let scale = limit / squares.sqrt();
    for (_, var) in vars.iter().filter(|_| scale < 1.) {
        if let Some(grad) = grads.remove(var) {
            grads.insert(var, (grad * scale)?);
        }
    }
    Ok(())
}
