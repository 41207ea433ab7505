//! The 1,797 handwritten digits.

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use flate2::read::GzDecoder;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Images, Split};

/// The file, compiled in; its origin is in `data/README.md`.
const DIGITS: &[u8] = include_bytes!("../../data/digits.csv.gz");

/// The digits, 8×8, on a device: 1,437 to train on and 360 to test on.
///
/// The split is the same in every run: rows are shuffled once, by a fixed seed, because the
/// file lists the digits in the order in which they were written.
///
/// # Errors
/// The file is damaged, or candle's own.
pub fn load(device: &Device) -> Result<Images> {
    let mut rows = decode(DIGITS)?;
    rows.shuffle(&mut StdRng::seed_from_u64(0));
    let test = rows.split_off(rows.len() * 4 / 5);
    Ok(Images { train: split(&rows, device)?, test: split(&test, device)? })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_all_there() -> Result<()> {
        let digits = load(&Device::Cpu)?;
        assert_eq!((digits.train.len(), digits.test.len()), (1437, 360));
        assert_eq!(digits.test.images.dims(), [360, 1, 8, 8]);
        assert_eq!(digits.train.images.max_all()?.to_scalar::<f32>()?, 1.);
        for digit in 0..10 {
            let count = digits.test.labels.eq(digit)?.to_dtype(candle_core::DType::F32)?;
            assert!(count.sum_all()?.to_scalar::<f32>()? > 20., "few of digit {digit}");
        }
        Ok(())
    }
}
