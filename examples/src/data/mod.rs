//! Images with labels, and batches of them.

pub mod digits;
pub mod fetched;
pub mod mnist;

use std::ops::Range;

use anyhow::{Result, ensure};
use candle_core::Tensor;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Images and their labels, row by row.
#[derive(Clone, Debug)]
pub struct Split {
    /// `[n, 1, height, width]`, from 0 to 1 unless they are standardized.
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

    /// Those of some classes, which are then numbered from 0 on.
    ///
    /// # Errors
    /// There are none.
    pub fn of_classes(&self, classes: Range<u32>) -> Result<Self> {
        let labels = self.labels.to_vec1::<u32>()?;
        let rows = (0..).zip(&labels).filter(|(_, label)| classes.contains(label));
        let (rows, labels): (Vec<u32>, Vec<u32>) =
            rows.map(|(row, label)| (row, label - classes.start)).unzip();
        ensure!(!rows.is_empty(), "there are no images of classes {classes:?}");
        let device = self.labels.device();
        let images = self.images.index_select(&Tensor::new(rows, device)?, 0)?;
        Ok(Self { images, labels: Tensor::new(labels, device)? })
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

    /// The same images with mean 0 and deviation 1 over all pixels to train on.
    ///
    /// # Errors
    /// candle's own.
    pub fn standardized(&self) -> Result<Self> {
        let pixels = &self.train.images;
        // Image by image first: a sum of millions of values would lose digits.
        let mean_of = |pixels: &Tensor| -> Result<f64> {
            Ok(pixels.flatten_from(1)?.mean(1)?.mean(0)?.to_scalar::<f32>()?.into())
        };
        let (mean, square) = (mean_of(pixels)?, mean_of(&pixels.sqr()?)?);
        let deviation = (square - mean * mean).sqrt().max(f64::MIN_POSITIVE);
        let split = |split: &Split| -> Result<Split> {
            let images = split.images.affine(1. / deviation, -mean / deviation)?;
            Ok(Split { images, labels: split.labels.clone() })
        };
        Ok(Self { train: split(&self.train)?, test: split(&self.test)? })
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

/// Images moved by up to `most` pixels in either direction, all by the same, which follows from `draw`
/// alone; what comes in from outside is as the pixels at the edge.
///
/// # Errors
/// candle's own.
pub fn shifted(images: &Tensor, most: usize, draw: u64) -> Result<Tensor> {
    if most == 0 {
        return Ok(images.clone());
    }
    let mut rng = StdRng::seed_from_u64(draw);
    let (down, right) = (rng.random_range(0..=2 * most), rng.random_range(0..=2 * most));
    let (_, _, height, width) = images.dims4()?;
    let padded = images.pad_with_same(2, most, most)?.pad_with_same(3, most, most)?;
    Ok(padded.narrow(2, down, height)?.narrow(3, right, width)?.contiguous()?)
}

/// Goes over splits in batches, in a new order each epoch; the orders follow from the seed.
#[derive(Debug)]
pub struct Batches<'a> {
    parts: Vec<(&'a Split, Vec<u32>)>,
    size: usize,
    rng: StdRng,
    /// How many have begun.
    epochs: usize,
}

impl<'a> Batches<'a> {
    /// Batches of `size` rows; the last of an epoch may be smaller.
    ///
    /// # Errors
    /// The size is zero.
    pub fn new(split: &'a Split, size: usize, seed: u64) -> Result<Self> {
        Self::of_several(&[split], size, seed)
    }

    /// Batches of `size` rows of each split, one split after the other.
    ///
    /// # Errors
    /// The size is zero, or the splits have not the same number of rows.
    pub fn of_several(splits: &[&'a Split], size: usize, seed: u64) -> Result<Self> {
        ensure!(size > 0, "a batch has at least one row");
        let rows = splits.first().map_or(0, |split| split.len());
        ensure!(splits.iter().all(|split| split.len() == rows), "the splits have different sizes");
        let order: Vec<u32> = (0..u32::try_from(rows)?).collect();
        let parts = splits.iter().map(|split| (*split, order.clone())).collect();
        Ok(Self { parts, size, rng: StdRng::seed_from_u64(seed), epochs: 0 })
    }

    fn shuffle(&mut self) {
        self.epochs += 1;
        self.parts.iter_mut().for_each(|(_, order)| order.shuffle(&mut self.rng));
    }

    fn rows(&self) -> usize {
        self.parts.first().map_or(0, |(_, order)| order.len())
    }

    /// The number of batches in an epoch.
    pub fn per_epoch(&self) -> usize {
        self.rows().div_ceil(self.size)
    }

    /// The images and labels of a step, which is counted over all epochs: a run that goes on from a checkpoint
    /// gets those that it would have got. Steps of earlier epochs are gone.
    ///
    /// # Errors
    /// The step is of an earlier epoch than one before, or candle's own.
    pub fn of_step(&mut self, step: usize) -> Result<(Tensor, Tensor)> {
        let (epoch, batch) = (step / self.per_epoch().max(1), step % self.per_epoch().max(1));
        while self.epochs <= epoch {
            self.shuffle();
        }
        ensure!(self.epochs == epoch + 1, "step {step} is of epoch {epoch}, which is over");
        self.batch(batch * self.size)
    }

    fn batch(&self, start: usize) -> Result<(Tensor, Tensor)> {
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for (split, order) in &self.parts {
            let rows = &order[start..order.len().min(start + self.size)];
            let rows = Tensor::new(rows, split.labels.device())?;
            images.push(split.images.index_select(&rows, 0)?);
            labels.push(split.labels.index_select(&rows, 0)?);
        }
        Ok((Tensor::cat(&images, 0)?, Tensor::cat(&labels, 0)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn labels(batches: &mut Batches<'_>, epoch: usize) -> Result<Vec<u32>> {
        let (first, count) = (epoch * batches.per_epoch(), batches.per_epoch());
        let labels =
            (first..first + count).map(|step| Ok(batches.of_step(step)?.1.to_vec1::<u32>()?));
        Ok(labels.collect::<Result<Vec<_>>>()?.concat())
    }

    #[test]
    fn an_epoch_has_each_row_once_in_an_order_of_its_own() -> Result<()> {
        let digits = digits::load(&Device::Cpu)?;
        let mut batches = Batches::new(&digits.test, 50, 7)?;
        let mut orders = [labels(&mut batches, 0)?, labels(&mut batches, 1)?];
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
        let orders = [labels(&mut batches, 0)?, labels(&mut batches, 1)?, labels(&mut batches, 2)?];
        let mut skipped = Batches::new(&digits.test, 50, 7)?;
        assert_eq!(labels(&mut skipped, 2)?, orders[2]);
        let err = skipped.of_step(15).err().map(|err| err.to_string()).unwrap_or_default();
        assert_eq!(err, "step 15 is of epoch 1, which is over");
        Ok(())
    }

    #[test]
    fn several_splits_share_a_batch() -> Result<()> {
        let digits = digits::load(&Device::Cpu)?;
        let (low, high) = (digits.test.of_classes(0..5)?, digits.test.of_classes(5..10)?);
        let (low, high) = (low.narrow(0, 150)?, high.narrow(0, 150)?);
        let mut batches = Batches::of_several(&[&low, &high], 100, 7)?;
        let sizes = [batches.of_step(0)?, batches.of_step(1)?].map(|(images, _)| images.dims()[0]);
        assert_eq!(sizes, [200, 100]);
        assert!(labels(&mut batches, 1)?.iter().all(|&label| label < 5));
        let err = Batches::of_several(&[&low, &digits.test], 100, 7).err();
        assert_eq!(
            err.map(|err| err.to_string()).unwrap_or_default(),
            "the splits have different sizes"
        );
        Ok(())
    }

    #[test]
    fn images_are_shifted_by_what_was_drawn() -> Result<()> {
        let image = Tensor::arange(0f32, 16., &Device::Cpu)?.reshape((1, 1, 4, 4))?;
        let shift = |draw| anyhow::Ok(shifted(&image, 1, draw)?.flatten_all()?.to_vec1::<f32>()?);
        let all = (0..60).map(shift).collect::<Result<Vec<_>>>()?;
        let mut kinds = all.clone();
        kinds.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        kinds.dedup();
        assert_eq!(kinds.len(), 9);
        assert_eq!(all[3], shift(3)?);
        Ok(())
    }

    #[test]
    fn training_images_can_be_standardized() -> Result<()> {
        let digits = digits::load(&Device::Cpu)?.standardized()?;
        let mean = |images: Tensor| anyhow::Ok(images.mean_all()?.to_scalar::<f32>()?);
        assert!(mean(digits.train.images.clone())?.abs() < 1e-4);
        assert!((mean(digits.train.images.sqr()?)? - 1.).abs() < 1e-4);
        assert!(mean(digits.test.images)?.abs() < 0.1);
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
