//! Images with labels, and batches of them.

pub mod digits;
pub mod fetched;
pub mod mnist;

use anyhow::{Result, ensure};
use candle_core::Tensor;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// Images and their labels, row by row.
#[derive(Clone, Debug)]
pub struct Split {
    /// `[n, 1, height, width]`, from 0 to 1.
    pub images: Tensor,
    /// `[n]`, the classes as `u32`.
    pub labels: Tensor,
}

impl Split {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.elem_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `count` of the images, from `start` on.
    ///
    /// # Errors
    /// There are not so many.
    pub fn narrow(&self, start: usize, count: usize) -> Result<Self> {
        let images = self.images.narrow(0, start, count)?;
        Ok(Self { images, labels: self.labels.narrow(0, start, count)? })
    }
}

/// Images to train on, and others to test on.
#[derive(Clone, Debug)]
pub struct Images {
    /// To learn from.
    pub train: Split,
    /// Not seen in training.
    pub test: Split,
}

impl Images {
    /// The training images alone, the last `count` of them in the place of the test images: what
    /// settings are chosen with.
    ///
    /// # Errors
    /// There are not so many.
    pub fn validation(&self, count: usize) -> Result<Self> {
        let all = self.train.len();
        ensure!(count < all, "{count} images to validate with, expected fewer than {all}");
        let (rest, count) = (all - count, count);
        Ok(Self { train: self.train.narrow(0, rest)?, test: self.train.narrow(rest, count)? })
    }

    /// The first images of each, for a quick run.
    ///
    /// # Errors
    /// candle's own.
    pub fn few(&self, train: usize, test: usize) -> Result<Self> {
        let (train, test) = (train.min(self.train.len()), test.min(self.test.len()));
        Ok(Self { train: self.train.narrow(0, train)?, test: self.test.narrow(0, test)? })
    }
}

/// Goes over a split in batches, in a new order each epoch; the orders follow from the seed.
#[derive(Debug)]
pub struct Batches<'a> {
    split: &'a Split,
    size: usize,
    order: Vec<u32>,
    rng: StdRng,
}

impl<'a> Batches<'a> {
    /// Batches of `size` rows; the last of an epoch may be smaller.
    ///
    /// # Errors
    /// The size is zero.
    pub fn new(split: &'a Split, size: usize, seed: u64) -> Result<Self> {
        ensure!(size > 0, "a batch has at least one row");
        let order = (0..u32::try_from(split.len())?).collect();
        Ok(Self { split, size, order, rng: StdRng::seed_from_u64(seed) })
    }

    /// As they are after so many epochs: what a run that goes on from a checkpoint needs.
    #[must_use]
    pub fn after(mut self, epochs: usize) -> Self {
        for _ in 0..epochs {
            self.order.shuffle(&mut self.rng);
        }
        self
    }

    /// The number of batches in an epoch.
    pub fn per_epoch(&self) -> usize {
        self.order.len().div_ceil(self.size)
    }

    /// Shuffles the rows and goes over them once: images and labels.
    pub fn epoch(&mut self) -> impl Iterator<Item = Result<(Tensor, Tensor)>> + '_ {
        self.order.shuffle(&mut self.rng);
        self.order.chunks(self.size).map(|rows| {
            let rows = Tensor::new(rows, self.split.labels.device())?;
            let images = self.split.images.index_select(&rows, 0)?;
            Ok((images, self.split.labels.index_select(&rows, 0)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn labels(batches: &mut Batches<'_>) -> Result<Vec<u32>> {
        let labels = batches.epoch().map(|batch| Ok(batch?.1.to_vec1::<u32>()?));
        Ok(labels.collect::<Result<Vec<_>>>()?.concat())
    }

    #[test]
    fn an_epoch_has_each_row_once_in_an_order_of_its_own() -> Result<()> {
        let digits = digits::load(&Device::Cpu)?;
        let mut batches = Batches::new(&digits.test, 50, 7)?;
        let mut orders = [labels(&mut batches)?, labels(&mut batches)?];
        assert_ne!(orders[0], orders[1]);
        orders.iter_mut().for_each(|labels| labels.sort_unstable());
        assert_eq!(orders[0], orders[1]);
        assert_eq!((batches.per_epoch(), orders[0].len()), (8, 360));
        Ok(())
    }

    #[test]
    fn epochs_are_skipped_as_if_they_had_been_run() -> Result<()> {
        let digits = digits::load(&Device::Cpu)?;
        let mut batches = Batches::new(&digits.test, 50, 7)?;
        let orders = [labels(&mut batches)?, labels(&mut batches)?, labels(&mut batches)?];
        let mut skipped = Batches::new(&digits.test, 50, 7)?.after(2);
        assert_eq!(labels(&mut skipped)?, orders[2]);
        Ok(())
    }

    #[test]
    fn validation_images_are_training_images_that_are_not_trained_on() -> Result<()> {
        let digits = digits::load(&Device::Cpu)?;
        let validation = digits.validation(400)?;
        assert_eq!((validation.train.len(), validation.test.len()), (1037, 400));
        let last = digits.train.narrow(1436, 1)?.images.flatten_all()?.to_vec1::<f32>()?;
        let held = validation.test.narrow(399, 1)?.images.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(held, last);
        let err = digits.validation(1437).err().map(|err| err.to_string()).unwrap_or_default();
        assert_eq!(err, "1437 images to validate with, expected fewer than 1437");
        assert_eq!(digits.few(10, 1000)?.test.len(), 360);
        Ok(())
    }
}
