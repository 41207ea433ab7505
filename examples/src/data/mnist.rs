//! MNIST, and Fashion-MNIST in the same format: 60,000 images of 28×28 to train on, 10,000 to test on;
//! and the small digits, enlarged to that size.

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};

use super::{Images, Split, digits, fetched};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dataset {
    /// Handwritten digits.
    Mnist,
    /// Pieces of clothing.
    FashionMnist,
    /// 1,797 small handwritten digits, enlarged: they are compiled in, so that nothing has to be
    /// fetched.
    Digits,
}

impl Dataset {
    /// Its name; that by which `data/fetch.sh` knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Digits => "digits",
        }
    }

    /// Reads it onto a device.
    ///
    /// # Errors
    /// It has not been fetched, or a file is damaged.
    pub fn load(self, device: &Device) -> Result<Images> {
        if self == Self::Digits {
            let Images { train, test } = digits::load(device)?;
            return Ok(Images { train: enlarged(train)?, test: enlarged(test)? });
        }
        let split = |name| self.split(name, device);
        Ok(Images { train: split("train")?, test: split("t10k")? })
    }

    fn split(self, split: &str, device: &Device) -> Result<Split> {
        let (count, images) = self.read(&format!("{split}-images-idx3-ubyte"), &[28, 28])?;
        let (labels_count, labels) = self.read(&format!("{split}-labels-idx1-ubyte"), &[])?;
        ensure!(count == labels_count, "{split}: {count} images, but {labels_count} labels");
        let images = images.iter().map(|&grey| f32::from(grey) / 255.).collect();
        let labels = labels.into_iter().map(u32::from).collect();
        Ok(Split {
            images: Tensor::from_vec(images, (count, 1, 28, 28), device)?,
            labels: Tensor::from_vec(labels, count, device)?,
        })
    }

    fn read(self, file: &str, shape: &[usize]) -> Result<(usize, Vec<u8>)> {
        let bytes = fetched::read(self.name(), file)?;
        decode(&bytes, shape).with_context(|| format!("{}: {file}", self.name()))
    }
}

/// From 8×8 to 28×28: each pixel three by three, and a margin of two.
fn enlarged(split: Split) -> Result<Split> {
    let images = split.images.upsample_nearest2d(24, 24)?;
    let images = images.pad_with_zeros(2, 2, 2)?.pad_with_zeros(3, 2, 2)?.contiguous()?;
    Ok(Split { images, ..split })
}

/// The rows of an IDX file of bytes, each of this shape: how many there are, and their values.
///
/// The format: two zeros, 8 for bytes, the rank; each dimension in four bytes, high first; the values.
fn decode(bytes: &[u8], shape: &[usize]) -> Result<(usize, Vec<u8>)> {
    let rank = 1 + shape.len();
    let start = 4 * (1 + rank);
    ensure!(bytes.len() >= start, "{} bytes, expected at least {start}", bytes.len());
    let (head, values) = bytes.split_at(start);
    let magic = [0, 0, 8, u8::try_from(rank)?];
    ensure!(head[..4] == magic, "begins with {:?}, expected {magic:?}", &head[..4]);
    let dims =
        head[4..].chunks_exact(4).map(|dim| dim.iter().fold(0, |n, &b| n << 8 | usize::from(b)));
    let dims: Vec<usize> = dims.collect();
    ensure!(dims[1..] == *shape, "rows of shape {:?}, expected {shape:?}", &dims[1..]);
    let expected = dims.iter().product::<usize>();
    ensure!(values.len() == expected, "{} values, expected {expected}", values.len());
    Ok((dims[0], values.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dims: &[u8], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dims.len() as u8];
        dims.iter().for_each(|&dim| bytes.extend([0, 0, 0, dim]));
        bytes.extend(values);
        bytes
    }

    #[test]
    fn the_small_digits_have_the_same_size() -> Result<()> {
        let digits = Dataset::Digits.load(&Device::Cpu)?;
        assert_eq!(digits.test.images.dims(), [360, 1, 28, 28]);
        let small = digits::load(&Device::Cpu)?.test.images;
        let sum = |images: Tensor| anyhow::Ok(images.sum_all()?.to_scalar::<f32>()?);
        assert!((sum(digits.test.images)? / sum(small)? - 9.).abs() < 1e-3);
        Ok(())
    }

    #[test]
    fn files_are_decoded() -> Result<()> {
        assert_eq!(decode(&file(&[3], &[7, 8, 9]), &[])?, (3, vec![7, 8, 9]));
        assert_eq!(decode(&file(&[1, 2, 2], &[1, 2, 3, 4]), &[2, 2])?, (1, vec![1, 2, 3, 4]));
        Ok(())
    }

    #[test]
    fn damaged_files_are_errors() {
        let message = |bytes: &[u8], shape: &[usize]| {
            decode(bytes, shape).err().map(|err| err.to_string()).unwrap_or_default()
        };
        assert_eq!(message(&[0, 0, 8], &[]), "3 bytes, expected at least 8");
        let zipped = [31, 139, 8, 0, 0, 0, 0, 0];
        assert_eq!(message(&zipped, &[]), "begins with [31, 139, 8, 0], expected [0, 0, 8, 1]");
        let narrow = file(&[1, 2, 1], &[1, 2]);
        assert_eq!(message(&narrow, &[2, 2]), "rows of shape [2, 1], expected [2, 2]");
        assert_eq!(message(&file(&[3], &[7, 8]), &[]), "2 values, expected 3");
    }
}
