//! The handwritten digits, and batches of them.

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use flate2::read::GzDecoder;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// The file, compiled in; its origin is in `data/README.md`.
const DIGITS: &[u8] = include_bytes!("../data/digits.csv.gz");

/// Images and their labels, row by row.
#[derive(Clone, Debug)]
pub struct Split {
    /// `[n, 1, 8, 8]`, from 0 to 1.
    pub images: Tensor,
    /// `[n]`, the digits as `u32`.
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
}

/// The 1,797 handwritten digits: 1,437 to train on and 360 to test on.
#[derive(Clone, Debug)]
pub struct Digits {
    /// Four fifths of the rows.
    pub train: Split,
    /// The other fifth.
    pub test: Split,
}

impl Digits {
    /// Decodes them onto a device.
    ///
    /// The split is the same in every run: rows are shuffled once, by a fixed seed, because the
    /// file lists the digits in the order in which they were written.
    ///
    /// # Errors
    /// The file is damaged, or candle's own.
    pub fn load(device: &Device) -> Result<Self> {
        let mut rows = decode(DIGITS)?;
        rows.shuffle(&mut StdRng::seed_from_u64(0));
        let test = rows.split_off(rows.len() * 4 / 5);
        Ok(Self { train: split(&rows, device)?, test: split(&test, device)? })
    }
}

/// One line of the file: pixels from 0 to 1, and the digit.
struct Row {
    pixels: Vec<f32>,
    digit: u32,
}

fn decode(gzipped: &[u8]) -> Result<Vec<Row>> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).from_reader(GzDecoder::new(gzipped));
    let rows = reader.deserialize().enumerate().map(|(index, record)| {
        let record = record.map_err(anyhow::Error::from);
        record.and_then(row).with_context(|| format!("line {} of the digits", index + 1))
    });
    rows.collect()
}

fn row(record: Vec<u8>) -> Result<Row> {
    ensure!(record.len() == 65, "{} columns, expected 65", record.len());
    ensure!(record[64] < 10, "the label is {}, expected a digit", record[64]);
    let pixels = record[..64].iter().map(|&pixel| f32::from(pixel) / 16.);
    Ok(Row { pixels: pixels.collect(), digit: record[64].into() })
}

fn split(rows: &[Row], device: &Device) -> Result<Split> {
    let pixels = rows.iter().flat_map(|row| row.pixels.iter().copied()).collect();
    let images = Tensor::from_vec(pixels, (rows.len(), 1, 8, 8), device)?;
    let labels = rows.iter().map(|row| row.digit).collect();
    Ok(Split { images, labels: Tensor::from_vec(labels, rows.len(), device)? })
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
    use super::*;

    #[test]
    fn the_digits_are_all_there() -> Result<()> {
        let digits = Digits::load(&Device::Cpu)?;
        assert_eq!((digits.train.len(), digits.test.len()), (1437, 360));
        assert_eq!(digits.test.images.dims(), [360, 1, 8, 8]);
        assert_eq!(digits.train.images.max_all()?.to_scalar::<f32>()?, 1.);
        for digit in 0..10 {
            let count = digits.test.labels.eq(digit)?.to_dtype(candle_core::DType::F32)?;
            assert!(count.sum_all()?.to_scalar::<f32>()? > 20., "few of digit {digit}");
        }
        Ok(())
    }

    #[test]
    fn an_epoch_has_each_row_once_in_an_order_of_its_own() -> Result<()> {
        let digits = Digits::load(&Device::Cpu)?;
        let mut batches = Batches::new(&digits.test, 50, 7)?;
        let mut orders = Vec::new();
        for _ in 0..2 {
            let labels = batches.epoch().map(|batch| Ok(batch?.1.to_vec1::<u32>()?));
            orders.push(labels.collect::<Result<Vec<_>>>()?.concat());
        }
        assert_ne!(orders[0], orders[1]);
        orders.iter_mut().for_each(|labels| labels.sort_unstable());
        assert_eq!(orders[0], orders[1]);
        assert_eq!((batches.per_epoch(), orders[0].len()), (8, 360));
        Ok(())
    }
}
