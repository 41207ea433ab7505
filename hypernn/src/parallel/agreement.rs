//! What ranks tell each other before they compute together, so that a rank that failed or is elsewhere is named.

use candle_core::{DType, Device, Error, Result, Tensor};

use super::all_reduce::AllReduce;
use crate::error::{bail, plain, ranks};

/// Where a rank is, which has to be the same for all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) task: Task,
    pub(super) steps: usize,
    pub(super) learning_rate: f64,
}

/// What a rank has come for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Task {
    Step,
    Agree,
    Finish,
}

/// The length of the part of a message that all have.
const FIXED: usize = 5;

/// Sums over ranks of what they told, none of which had failed, all at the same place.
pub(super) fn meet<C: AllReduce>(
    comm: &C,
    device: &Device,
    place: Place,
    own: Result<Vec<f64>>,
    len: usize,
) -> Result<Vec<f64>> {
    let values = own.as_ref().map_or_else(|_| vec![0.; len], Clone::clone);
    let (at, rate) = (place.code(), folded(place.learning_rate.to_bits()));
    let fixed = [f64::from(u8::from(own.is_err())), at, at * at, rate, rate * rate];
    let sums = sums(comm, device, &[&fixed[..], &values].concat())?;
    if sums[0] > 0. {
        agree(comm, device, own.map(drop))?;
    }
    let same =
        |sum: f64, squares: f64| (sum as u128).pow(2) == comm.size() as u128 * squares as u128;
    if !(same(sums[1], sums[2]) && same(sums[3], sums[4])) {
        return Err(difference(comm, device, place)?);
    }
    Ok(sums[FIXED..].to_vec())
}

/// The bytes that a meeting adds to an all-reduce.
pub(super) fn bytes(len: usize) -> usize {
    (FIXED + len) * size_of::<f64>()
}

/// Nothing where no rank has failed. Else a rank that has gets its own error, and all others that of the first.
pub(super) fn agree<C: AllReduce>(comm: &C, device: &Device, own: Result<()>) -> Result<()> {
    let failed = gathered(comm, device, f64::from(u8::from(own.is_err())))?;
    let Some(first) = failed.iter().position(|failed| *failed > 0.) else { return own };
    let words = own.as_ref().map_or_else(plain, |()| String::new());
    let words = text(comm, device, &words, first)?;
    own.and_then(|()| bail!(ranks, "rank {first}: {words}"))
}

/// The text of rank `root`.
pub(super) fn text<C: AllReduce>(
    comm: &C,
    device: &Device,
    own: &str,
    root: usize,
) -> Result<String> {
    let own = if comm.rank() == root { own.as_bytes() } else { &[] };
    let mut len = [Tensor::new(&[own.len() as i64], device)?];
    comm.broadcast(&mut len, root)?;
    let len = usize::try_from(len[0].to_vec1::<i64>()?[0]).map_err(Error::wrap)?;
    if len == 0 {
        return Ok(String::new());
    }
    let mut bytes = own.to_vec();
    bytes.resize(len, 0);
    let mut bytes = [Tensor::from_vec(bytes, len, device)?];
    comm.broadcast(&mut bytes, root)?;
    String::from_utf8(bytes[0].to_vec1()?).map_err(Error::wrap)
}

/// Sums over ranks.
fn sums<C: AllReduce>(comm: &C, device: &Device, values: &[f64]) -> Result<Vec<f64>> {
    let mut tensors = [Tensor::new(values, device)?.to_dtype(DType::F64)?];
    comm.all_reduce(&mut tensors)?;
    tensors[0].to_vec1()
}

/// A number of each rank.
fn gathered<C: AllReduce>(comm: &C, device: &Device, own: f64) -> Result<Vec<f64>> {
    let mut values = vec![0.; comm.size()];
    values[comm.rank()] = own;
    sums(comm, device, &values)
}

/// Names the first rank that is elsewhere than rank 0.
fn difference<C: AllReduce>(comm: &C, device: &Device, place: Place) -> Result<Error> {
    let gather = |own| gathered(comm, device, own);
    let tasks = gather(f64::from(place.task as u8))?;
    let steps = gather(place.steps as f64)?;
    let rates = gather(place.learning_rate)?;
    let words = |rank: usize| {
        let step = steps[rank];
        match tasks[rank] {
            task if task == f64::from(Task::Step as u8) => {
                format!("takes step {} with a learning rate of {}", step + 1., rates[rank])
            }
            task if task == f64::from(Task::Agree as u8) => format!("agrees after {step} steps"),
            _ => format!("has finished after {step} steps"),
        }
    };
    let other = (0..comm.size()).find(|&rank| words(rank) != words(0)).unwrap_or_default();
    Ok(ranks(format!(
        "the ranks do not do the same: rank 0 {}, rank {other} {}",
        words(0),
        words(other)
    )))
}

impl Place {
    /// Task and step as a number whose squares can be summed exactly over 8,000 ranks.
    fn code(self) -> f64 {
        ((self.steps << 2 | self.task as usize) & CODES) as f64
    }
}

const CODES: usize = (1 << 20) - 1;

/// The bits of a number folded into twenty.
fn folded(bits: u64) -> f64 {
    let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 44) as f64
}
