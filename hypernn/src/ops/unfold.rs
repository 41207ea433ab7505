//! A convolution as one product: every window of an image becomes a column.
//!
//! [`unfold`] copies windows to columns, [`fold`] adds columns back to where their windows lie;
//! each is the other's gradient. A convolution is a product with unfolded columns, a transposed
//! convolution folds a product, and one-dimensional ones have images of height 1.
//!
//! The batch is cut into sets of consecutive images and the channels into groups; columns are
//! `[sets × groups, channels per group × taps, images per set × positions]`, so that each set and
//! group is one matrix.

use std::ops::AddAssign;

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::op::ReduceOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, MetalStorage, Result, Shape, Tensor,
};
pub(crate) use hypernn_kernels::conv::{Axis, Windows};

/// Images `[B, C, H, W]` to columns.
pub(crate) fn unfold(images: &Tensor, windows: Windows) -> Result<Tensor> {
    images.contiguous()?.apply_op1(Unfold(windows))
}

/// Columns to images `[B, C, H, W]`, overlapping windows added up.
pub(crate) fn fold(columns: &Tensor, windows: Windows) -> Result<Tensor> {
    columns.contiguous()?.apply_op1(Fold(windows))
}

/// The windows over a batch of known size.
pub(super) struct Batch {
    pub(super) windows: Windows,
    /// Images per set.
    pub(super) rows: usize,
    /// Channels per group.
    pub(super) channels: usize,
}

impl Batch {
    fn of_images(windows: Windows, images: &Layout) -> Result<Self> {
        let (rows, channels, _, _) = images.shape().dims4()?;
        Ok(Self { windows, rows: rows / windows.sets, channels: channels / windows.groups })
    }

    fn of_columns(windows: Windows, columns: &Layout) -> Result<Self> {
        let (_, height, width) = columns.shape().dims3()?;
        let (rows, channels) = (width / windows.positions(), height / windows.taps());
        Ok(Self { windows, rows, channels })
    }

    fn image_shape(&self) -> Shape {
        let Windows { sets, groups, height, width } = self.windows;
        Shape::from((sets * self.rows, groups * self.channels, height.pixels, width.pixels))
    }

    fn column_shape(&self) -> Shape {
        let windows = &self.windows;
        let (rows, columns) = (self.channels * windows.taps(), self.rows * windows.positions());
        Shape::from((windows.sets * windows.groups, rows, columns))
    }
}

/// On the CPU: runs of positions that see pixels of one image row.
impl Batch {
    /// Calls `run` with the first column, the first pixel and the number of positions of each run.
    fn each_run(&self, mut run: impl FnMut(usize, usize, usize)) {
        let Windows { sets, groups, height, width } = self.windows;
        let mut line = 0;
        for set in 0..sets {
            for channel in 0..groups * self.channels {
                for (tap_y, tap_x) in taps(&height, &width) {
                    let image = |row| (set * self.rows + row) * groups * self.channels + channel;
                    self.each_run_of_tap(line, tap_y, tap_x, image, &mut run);
                    line += 1;
                }
            }
        }
    }

    /// The runs of one tap of one channel: one line of a column matrix.
    fn each_run_of_tap(
        &self,
        line: usize,
        tap_y: usize,
        tap_x: usize,
        image: impl Fn(usize) -> usize,
        run: &mut impl FnMut(usize, usize, usize),
    ) {
        let Windows { height, width, .. } = &self.windows;
        let ((ys, first_y), (xs, first_x)) = (height.reach(tap_y), width.reach(tap_x));
        if xs.is_empty() {
            return;
        }
        for row in 0..self.rows {
            let column = (line * self.rows + row) * self.windows.positions() + xs.start;
            let pixel = image(row) * self.windows.pixels() + first_x;
            for (step, y) in ys.clone().enumerate() {
                let pixel_y = first_y + step * height.stride;
                run(column + y * width.positions, pixel + pixel_y * width.pixels, xs.len());
            }
        }
    }

    pub(super) fn unfold<T: Copy + Default>(&self, images: &[T]) -> Vec<T> {
        let mut columns = vec![T::default(); self.column_shape().elem_count()];
        let stride = self.windows.width.stride;
        self.each_run(|column, pixel, len| {
            let columns = &mut columns[column..column + len];
            if stride == 1 {
                columns.copy_from_slice(&images[pixel..pixel + len]);
            } else {
                // An iterator of every so many would divide to know its length, once per run.
                for (i, column) in columns.iter_mut().enumerate() {
                    *column = images[pixel + i * stride];
                }
            }
        });
        columns
    }

    fn fold<T: Copy + Default + AddAssign>(&self, columns: &[T]) -> Vec<T> {
        let mut images = vec![T::default(); self.image_shape().elem_count()];
        self.fold_into(&mut images, columns);
        images
    }

    /// Adds the columns to images.
    pub(super) fn fold_into<T: Copy + AddAssign>(&self, images: &mut [T], columns: &[T]) {
        let stride = self.windows.width.stride;
        self.each_run(|column, pixel, len| {
            let columns = &columns[column..column + len];
            if stride == 1 {
                let pixels = &mut images[pixel..pixel + len];
                pixels.iter_mut().zip(columns).for_each(|(pixel, column)| *pixel += *column);
            } else {
                for (i, column) in columns.iter().enumerate() {
                    images[pixel + i * stride] += *column;
                }
            }
        });
    }
}

pub(super) fn taps(height: &Axis, width: &Axis) -> impl Iterator<Item = (usize, usize)> {
    let width = width.taps;
    (0..height.taps).flat_map(move |y| (0..width).map(move |x| (y, x)))
}

/// A storage whose device makes more of its kind.
trait DeviceStorage: BackendStorage<Device: BackendDevice<Storage = Self>> {}

impl<S: BackendStorage<Device: BackendDevice<Storage = S>>> DeviceStorage for S {}

/// On a device: gathers of whole images by one small index, without atomics.
impl Batch {
    /// The pixel seen by each tap at each position; one past the last pixel is padding.
    fn seen_pixels(&self) -> Vec<u32> {
        let Windows { height, width, .. } = &self.windows;
        let mut seen = Vec::with_capacity(self.windows.taps() * self.windows.positions());
        for (tap_y, tap_x) in taps(height, width) {
            for y in 0..height.positions {
                let y = height.pixel(tap_y, y);
                let pixels = (0..width.positions).map(|x| {
                    let pixel = y.zip(width.pixel(tap_x, x)).map(|(y, x)| y * width.pixels + x);
                    pixel.unwrap_or(self.windows.pixels()) as u32
                });
                seen.extend(pixels);
            }
        }
        seen
    }

    /// The taps and positions that see each pixel, `[most, pixels]`, and `most`; one past the last
    /// is none.
    fn seen_by(&self) -> (Vec<u32>, usize) {
        let pixels = self.windows.pixels();
        let seen = self.seen_pixels();
        let mut by_pixel = vec![Vec::new(); pixels];
        for (index, pixel) in seen.iter().enumerate() {
            if let Some(list) = by_pixel.get_mut(*pixel as usize) {
                list.push(index as u32);
            }
        }
        let most = by_pixel.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let none = seen.len() as u32;
        let nth = |n| by_pixel.iter().map(move |list| list.get(n).copied().unwrap_or(none));
        ((0..most).flat_map(nth).collect(), most)
    }

    /// `[lines, len]` picked by `index` into `[lines, index.len()]`, where `len` picks a zero.
    fn pick<S: DeviceStorage>(
        &self,
        values: &S,
        offset: usize,
        lines: usize,
        len: usize,
        index: &[u32],
    ) -> Result<S> {
        let shape = Shape::from((lines, len + 1));
        let mut padded = values.device().zeros_impl(&shape, values.dtype())?;
        values.copy2d(&mut padded, lines, len, len, len + 1, offset, 0)?;
        let indices = values.device().storage_from_slice(index)?;
        let index_layout = Layout::contiguous(index.len());
        padded.index_select(&indices, &Layout::contiguous(shape), &index_layout, 1)
    }

    fn unfold_anywhere<S: DeviceStorage>(&self, images: &S, layout: &Layout) -> Result<S> {
        let Windows { sets, groups, .. } = self.windows;
        let lines = sets * self.rows * groups * self.channels;
        let (start, pixels) = (layout.start_offset(), self.windows.pixels());
        let picked = self.pick(images, start, lines, pixels, &self.seen_pixels())?;
        let by_row = [
            sets,
            self.rows,
            groups * self.channels,
            self.windows.taps(),
            self.windows.positions(),
        ];
        let layout = Layout::contiguous(by_row.to_vec()).permute(&[0, 2, 3, 1, 4])?;
        copied(&picked, &layout)
    }

    fn fold_anywhere<S: DeviceStorage>(&self, columns: &S, layout: &Layout) -> Result<S> {
        let Windows { sets, groups, .. } = self.windows;
        let (taps, positions) = (self.windows.taps(), self.windows.positions());
        let by_line = [sets, groups * self.channels, taps, self.rows, positions];
        let layout = Layout::contiguous_with_offset(by_line.to_vec(), layout.start_offset());
        let by_row = copied(columns, &layout.permute(&[0, 3, 1, 2, 4])?)?;
        let lines = sets * self.rows * groups * self.channels;
        let (index, most) = self.seen_by();
        let picked = self.pick(&by_row, 0, lines, taps * positions, &index)?;
        let layout = Layout::contiguous((lines, most, self.windows.pixels()));
        picked.reduce_op(ReduceOp::Sum, &layout, &[1])
    }
}

/// The values of a layout in row-major order.
fn copied<S: DeviceStorage>(values: &S, layout: &Layout) -> Result<S> {
    let mut copy = values.device().zeros_impl(layout.shape(), values.dtype())?;
    values.copy_strided_src(&mut copy, 0, layout)?;
    Ok(copy)
}

fn not_floating<T>(found: DType) -> Result<T> {
    crate::error::bail!(
        dtype,
        "convolution: the dtype is {found:?}, expected f16, bf16, f32 or f64"
    )
}

struct Unfold(Windows);

impl Unfold {
    fn run_anywhere<S: DeviceStorage>(&self, images: &S, layout: &Layout) -> Result<(S, Shape)> {
        let batch = Batch::of_images(self.0, layout)?;
        Ok((batch.unfold_anywhere(images, layout)?, batch.column_shape()))
    }
}

impl CustomOp1 for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn cpu_fwd(&self, images: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let batch = Batch::of_images(self.0, layout)?;
        let start = layout.start_offset();
        let columns = match images {
            CpuStorage::F32(images) => CpuStorage::F32(batch.unfold(&images[start..])),
            CpuStorage::F64(images) => CpuStorage::F64(batch.unfold(&images[start..])),
            CpuStorage::F16(images) => CpuStorage::F16(batch.unfold(&images[start..])),
            CpuStorage::BF16(images) => CpuStorage::BF16(batch.unfold(&images[start..])),
            images => return not_floating(images.dtype()),
        };
        Ok((columns, batch.column_shape()))
    }

    fn cuda_fwd(&self, images: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.run_anywhere(images, layout)
    }

    fn metal_fwd(&self, images: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        self.run_anywhere(images, layout)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        fold(grad, self.0).map(Some)
    }
}

struct Fold(Windows);

impl Fold {
    fn run_anywhere<S: DeviceStorage>(&self, columns: &S, layout: &Layout) -> Result<(S, Shape)> {
        let batch = Batch::of_columns(self.0, layout)?;
        Ok((batch.fold_anywhere(columns, layout)?, batch.image_shape()))
    }
}

impl CustomOp1 for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn cpu_fwd(&self, columns: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let batch = Batch::of_columns(self.0, layout)?;
        let start = layout.start_offset();
        let images = match columns {
            CpuStorage::F32(columns) => CpuStorage::F32(batch.fold(&columns[start..])),
            CpuStorage::F64(columns) => CpuStorage::F64(batch.fold(&columns[start..])),
            CpuStorage::F16(columns) => CpuStorage::F16(batch.fold(&columns[start..])),
            CpuStorage::BF16(columns) => CpuStorage::BF16(batch.fold(&columns[start..])),
            columns => return not_floating(columns.dtype()),
        };
        Ok((images, batch.image_shape()))
    }

    fn cuda_fwd(&self, columns: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        self.run_anywhere(columns, layout)
    }

    fn metal_fwd(&self, columns: &MetalStorage, layout: &Layout) -> Result<(MetalStorage, Shape)> {
        self.run_anywhere(columns, layout)
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        unfold(grad, self.0).map(Some)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn axis(pixels: usize, taps: usize, stride: usize, padding: usize, dilation: usize) -> Axis {
        let span = dilation * (taps - 1) + 1;
        let positions = (pixels + 2 * padding - span) / stride + 1;
        Axis { pixels, positions, taps, stride, padding, dilation }
    }

    fn cases() -> Vec<Batch> {
        let axes = [(7, 3, 1, 1, 1), (6, 2, 2, 0, 1), (5, 3, 2, 2, 2), (3, 1, 1, 0, 1)];
        let axes = axes.map(|(pixels, taps, s, p, d)| axis(pixels, taps, s, p, d));
        let pairs = axes.iter().flat_map(|height| axes.iter().map(move |width| (height, width)));
        pairs
            .flat_map(|(&height, &width)| {
                [(1, 1, 2, 2), (2, 2, 3, 1)].map(|(sets, groups, rows, channels)| Batch {
                    windows: Windows { sets, groups, height, width },
                    rows,
                    channels,
                })
            })
            .collect()
    }

    fn numbers(shape: &Shape) -> Vec<f64> {
        (0..shape.elem_count()).map(|i| ((i * 37) % 101) as f64 - 50.).collect()
    }

    fn values(storage: CpuStorage) -> Vec<f64> {
        storage.as_slice::<f64>().unwrap().to_vec()
    }

    #[test]
    fn devices_unfold_as_the_cpu_does() {
        for batch in cases() {
            let images = numbers(&batch.image_shape());
            let layout = Layout::contiguous(batch.image_shape());
            let found = batch.unfold_anywhere(&CpuStorage::F64(images.clone()), &layout).unwrap();
            assert_eq!(values(found), batch.unfold(&images), "{:?}", batch.windows);
        }
    }

    #[test]
    fn devices_fold_as_the_cpu_does() {
        for batch in cases() {
            let columns = numbers(&batch.column_shape());
            let layout = Layout::contiguous(batch.column_shape());
            let found = batch.fold_anywhere(&CpuStorage::F64(columns.clone()), &layout).unwrap();
            assert_eq!(values(found), batch.fold(&columns), "{:?}", batch.windows);
        }
    }

    #[test]
    fn fold_is_the_transpose_of_unfold() {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for batch in cases() {
            let (images, columns) = (numbers(&batch.image_shape()), numbers(&batch.column_shape()));
            let (unfolded, folded) = (batch.unfold(&images), batch.fold(&columns));
            assert_eq!(dot(&unfolded, &columns), dot(&images, &folded), "{:?}", batch.windows);
        }
    }

    #[test]
    fn columns_hold_the_windows() {
        let windows =
            Windows { sets: 1, groups: 1, height: axis(1, 1, 1, 0, 1), width: axis(4, 3, 1, 1, 1) };
        let batch = Batch { windows, rows: 1, channels: 1 };
        let expected = [0., 1., 2., 3., 1., 2., 3., 4., 2., 3., 4., 0.];
        assert_eq!(batch.unfold(&[1., 2., 3., 4.]), expected);
    }
}
