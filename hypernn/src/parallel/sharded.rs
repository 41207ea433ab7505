//! Which rows of a data set each rank takes in each step.

use std::ops::Range;

use candle_core::Result;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};

use super::all_reduce::AllReduce;
use crate::error::bail;

/// Shares out the rows of a data set among ranks: each row once in an epoch, in an order that the seed draws anew
/// for each epoch.
///
/// The joint batch of a step is the same for any number of ranks, and each rank has a run of it. So a step computes
/// the same gradient on one rank as on many, up to the order of sums. The last batch of an epoch may be smaller, and
/// a rank may have fewer rows than others, or none: [`DataParallel`](super::DataParallel) weighs by their number.
///
/// Rows follow from the step's number alone, so that a run that goes on takes the next.
///
/// ```
/// use candle_core::Result;
/// use hypernn::parallel::{Sharded, Threads};
///
/// # fn main() -> Result<()> {
/// // Ten rows, four in a joint batch: two steps of four and one of two.
/// let rows = Threads::run(3, |rank| {
///     let mut rows = Sharded::new(rank, 10, 4, 7)?;
///     Result::Ok((0..rows.steps_per_epoch()).map(|step| rows.of_step(step)).collect::<Vec<_>>())
/// })?;
/// let mut all = rows.concat().concat();
/// all.sort_unstable();
/// assert_eq!(all, (0..10).collect::<Vec<_>>());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sharded {
    rows: u32,
    batch: usize,
    seed: u64,
    rank: usize,
    size: usize,
    /// An epoch and the order of its rows.
    order: Option<(usize, Vec<u32>)>,
}

impl Sharded {
    /// For this rank: so many rows in all, and so many in the joint batch of a step.
    ///
    /// # Errors
    /// No rows, more than 2³² − 1, or no rows in a batch.
    pub fn new<C: AllReduce + ?Sized>(
        comm: &C,
        rows: usize,
        batch: usize,
        seed: u64,
    ) -> Result<Self> {
        let (Ok(count @ 1..), 1..) = (u32::try_from(rows), batch) else {
            bail!(
                declaration,
                "{rows} rows in batches of {batch}, expected 1 to {} rows in batches of 1 or more",
                u32::MAX
            );
        };
        Ok(Self { rows: count, batch, seed, rank: comm.rank(), size: comm.size(), order: None })
    }

    /// The number of steps in which each row is taken once.
    pub fn steps_per_epoch(&self) -> usize {
        (self.rows as usize).div_ceil(self.batch)
    }

    /// This rank's rows of a step, counted over all epochs; none where the joint batch has too few.
    pub fn of_step(&mut self, step: usize) -> Vec<u32> {
        let (epoch, within) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let (rank, size) = (self.rank, self.size);
        let start = within * self.batch;
        let joint = start..(start + self.batch).min(self.rows as usize);
        let own = share(joint.len(), rank, size);
        self.order(epoch)[joint][own].to_vec()
    }

    fn order(&mut self, epoch: usize) -> &[u32] {
        let (rows, seed) = (self.rows, self.seed);
        let current = self.order.take().filter(|(of, _)| *of == epoch);
        let (_, order) =
            self.order.insert(current.unwrap_or_else(|| (epoch, drawn(rows, seed, epoch))));
        order
    }
}

/// All rows in the order of an epoch.
fn drawn(rows: u32, seed: u64, epoch: usize) -> Vec<u32> {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update((epoch as u64).to_le_bytes());
    let mut order: Vec<_> = (0..rows).collect();
    order.shuffle(&mut StdRng::from_seed(hasher.finalize().into()));
    order
}

/// The run of so many rows that a rank takes, where they are shared out as evenly as can be.
///
/// ```
/// use hypernn::parallel::share;
///
/// let shares = [0, 1, 2].map(|rank| share(10, rank, 3));
/// assert_eq!(shares, [0..3, 3..6, 6..10]);
/// ```
pub fn share(rows: usize, rank: usize, size: usize) -> Range<usize> {
    let end = |rank: usize| (rows as u128 * rank as u128 / size.max(1) as u128) as usize;
    end(rank)..end(rank + 1)
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;

    /// A rank that exchanges nothing.
    struct Rank(usize, usize);

    impl AllReduce for Rank {
        fn rank(&self) -> usize {
            self.0
        }

        fn size(&self) -> usize {
            self.1
        }

        fn all_reduce(&self, _: &mut [Tensor]) -> Result<()> {
            bail!(ranks, "no sums here")
        }

        fn broadcast(&self, _: &mut [Tensor], _: usize) -> Result<()> {
            bail!(ranks, "no broadcasts here")
        }

        fn leave(&self, _: &str) {}
    }

    /// The joint batch of each step of three epochs.
    fn joint(size: usize, seed: u64) -> Result<Vec<Vec<u32>>> {
        let ranks = (0..size).map(|rank| Sharded::new(&Rank(rank, size), 23, 5, seed));
        let mut ranks = ranks.collect::<Result<Vec<_>>>()?;
        let steps = 3 * ranks[0].steps_per_epoch();
        Ok((0..steps)
            .map(|step| ranks.iter_mut().flat_map(|rank| rank.of_step(step)).collect())
            .collect())
    }

    #[test]
    fn each_row_comes_once_an_epoch_over_any_number_of_ranks() -> Result<()> {
        let alone = joint(1, 7)?;
        assert_eq!(alone.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5, 5, 5, 3].repeat(3));
        for size in [2, 3, 4, 9, 30] {
            assert_eq!(joint(size, 7)?, alone, "{size} ranks");
        }
        let epochs: Vec<_> = alone.chunks(5).map(<[_]>::concat).collect();
        for epoch in &epochs {
            let mut rows = epoch.clone();
            rows.sort_unstable();
            assert_eq!(rows, (0..23).collect::<Vec<_>>());
        }
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
        assert_ne!(joint(1, 8)?, alone);
        Ok(())
    }

    #[test]
    fn steps_are_known_by_their_number_alone() -> Result<()> {
        let mut rows = Sharded::new(&Rank(1, 2), 23, 5, 7)?;
        let in_order: Vec<_> = (0..12).map(|step| rows.of_step(step)).collect();
        let backwards: Vec<_> = (0..12).rev().map(|step| rows.of_step(step)).collect();
        assert!(in_order.iter().eq(backwards.iter().rev()));
        Ok(())
    }

    #[test]
    fn sizes_that_give_no_batch_are_errors() {
        for (rows, batch) in [(0, 5), (5, 0), (1 << 33, 5)] {
            let err = Sharded::new(&Rank(0, 1), rows, batch, 0).err().map(|err| err.to_string());
            let expected =
                format!("{rows} rows in batches of {batch}, expected 1 to 4294967295 rows");
            assert!(err.is_some_and(|err| err.starts_with(&expected)));
        }
    }
}
