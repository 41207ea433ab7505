//! Gradients side by side, so that few large tensors travel in place of many small ones.

use candle_core::{DType, Result, Tensor};

/// What is summed at once: flat tensors of one dtype, and whose they are.
pub(super) struct Bucket {
    /// The number of each gradient, and its length.
    parts: Vec<(usize, usize)>,
    dtype: DType,
    flat: Vec<Tensor>,
}

impl Bucket {
    fn bytes(&self) -> usize {
        self.parts.iter().map(|(_, len)| len * self.dtype.size_in_bytes()).sum()
    }

    /// The values one after the other.
    pub(super) fn joined(&self) -> Result<Tensor> {
        match &self.flat[..] {
            [one] => Ok(one.clone()),
            flat => Tensor::cat(flat, 0),
        }
    }

    /// The parts of what became of the joined values, as flat tensors, by number.
    pub(super) fn parts(&self, joined: &Tensor) -> Result<Vec<(usize, Tensor)>> {
        let mut start = 0;
        let parts = self.parts.iter().map(|&(number, len)| {
            let part = joined.narrow(0, start, len)?;
            start += len;
            Ok((number, part))
        });
        parts.collect()
    }
}

/// Numbered tensors, in this order, in buckets of at most so many bytes, or of one tensor that is larger.
pub(super) fn buckets(tensors: Vec<(usize, Tensor)>, most: usize) -> Result<Vec<Bucket>> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for (number, tensor) in tensors {
        let (flat, dtype) = (tensor.flatten_all()?, tensor.dtype());
        let part = (number, flat.elem_count());
        let bytes = part.1 * dtype.size_in_bytes();
        match buckets.last_mut() {
            Some(last) if last.dtype == dtype && last.bytes() + bytes <= most => {
                last.parts.push(part);
                last.flat.push(flat);
            }
            _ => buckets.push(Bucket { parts: vec![part], dtype, flat: vec![flat] }),
        }
    }
    Ok(buckets)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn they_are_cut_where_they_were_joined() -> Result<()> {
        let tensor = |start: f32, rows| {
            Tensor::arange(start, start + 3. * rows as f32, &Device::Cpu)?.reshape((rows, 3))
        };
        let double = tensor(0., 1)?.to_dtype(DType::F64)?;
        let tensors =
            vec![(4, tensor(0., 1)?), (5, tensor(3., 2)?), (7, tensor(9., 3)?), (9, double)];
        let buckets = buckets(tensors.clone(), 36)?;
        let numbers = |bucket: &Bucket| bucket.parts.iter().map(|part| part.0).collect::<Vec<_>>();
        let found: Vec<_> = buckets.iter().map(numbers).collect();
        assert_eq!(found, [vec![4, 5], vec![7], vec![9]]);
        assert_eq!(buckets[0].joined()?.to_vec1::<f32>()?, [0., 1., 2., 3., 4., 5., 6., 7., 8.]);
        for bucket in &buckets {
            for (number, part) in bucket.parts(&bucket.joined()?)? {
                let own = tensors.iter().find(|(own, _)| *own == number).map(|(_, own)| own);
                let own = own.map(Tensor::flatten_all).transpose()?;
                let values = |tensor: Tensor| tensor.to_dtype(DType::F64)?.to_vec1::<f64>();
                assert_eq!(own.map(values).transpose()?, Some(values(part)?));
            }
        }
        Ok(())
    }
}
