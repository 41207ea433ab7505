//! Linear layers and convolutions beside the crate `gemm`, on one thread, in f32.
//!
//! `cargo bench -p hypernn-kernels`
//!
//! What a layer computes with the weight as it lies, `[out, in]`, `gemm` computes as a product with its transpose, to
//! a vector that is there already. For a convolution `gemm` is given columns that are unfolded already.

#![allow(missing_docs, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gemm::{Parallelism, gemm};
use hypernn_kernels::conv::{Axis, Channels, Convolution, Windows};
use hypernn_kernels::executor::Sequential;
use hypernn_kernels::linear::{Linear, Sizes};

/// Rows, inputs and outputs. Those with most outputs are weight generators'.
const LAYERS: [[usize; 3]; 9] = [
    [8, 128, 128],
    [16, 128, 128],
    [64, 128, 128],
    [256, 128, 128],
    [64, 784, 1024],
    [64, 1024, 256],
    [64, 16, 16_512],
    [64, 32, 16_701],
    [512, 512, 512],
];

/// Images, input channels, output channels, and pixels of an edge; windows of 3 × 3 between zeros.
const CONVOLUTIONS: [[usize; 4]; 2] = [[16, 16, 32, 28], [16, 64, 64, 14]];

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37) % 101) as f32 / 50. - 1.).collect()
}

/// `left [m, k] · right [k, n]`, the right side with the given steps from row to row and column to column.
fn product(
    out: &mut [f32],
    left: &[f32],
    right: &[f32],
    size: [usize; 3],
    right_steps: [usize; 2],
) {
    let [m, k, n] = size;
    assert!(out.len() == m * n && left.len() == m * k && right.len() == k * n);
    let [row, column] = right_steps.map(|step| step as isize);
    // SAFETY: the slices are as large as the sizes say, and the steps are those of a matrix that fills one.
    #[allow(unsafe_code, reason = "`gemm` takes pointers")]
    unsafe {
        gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            left.as_ptr(),
            1,
            k as isize,
            right.as_ptr(),
            column,
            row,
            0.,
            1.,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

fn layers(criterion: &mut Criterion) {
    for [rows, inputs, outputs] in LAYERS {
        let (xs, weight) = (values(rows * inputs), values(outputs * inputs));
        let mut out = vec![0.; rows * outputs];
        let sizes = Sizes { sets: 1, rows, inputs, outputs };
        let Ok(layer) = Linear::new(sizes, &xs, &weight, None) else { return };
        let mut group = criterion.benchmark_group(format!("{rows} × {inputs} → {outputs}"));
        group.throughput(Throughput::Elements((rows * inputs * outputs) as u64));
        group.bench_function("linear", |bench| {
            bench.iter(|| black_box(layer.outputs(&Sequential)));
        });
        group.bench_function("gemm", |bench| {
            bench.iter(|| product(&mut out, &xs, &weight, [rows, inputs, outputs], [1, inputs]));
        });
        group.finish();
    }
}

fn convolutions(criterion: &mut Criterion) {
    for [images, inputs, outputs, pixels] in CONVOLUTIONS {
        let axis = Axis { pixels, positions: pixels, taps: 3, stride: 1, padding: 1, dilation: 1 };
        let windows = Windows { sets: 1, groups: 1, height: axis, width: axis };
        let channels = Channels { inputs, outputs };
        let Ok(conv) = Convolution::new(windows, images, channels, &Sequential) else { return };
        let (inner, columns) = (inputs * windows.taps(), images * windows.positions());
        let (pixels, weight) =
            (values(images * inputs * windows.pixels()), values(outputs * inner));
        let (unfolded, mut out) = (values(inner * columns), vec![0.; outputs * columns]);
        let name = format!("{images} × {inputs} × {0} × {0} → {outputs}", windows.height.pixels);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements((outputs * inner * columns) as u64));
        group.bench_function("convolution", |bench| {
            bench.iter(|| black_box(conv.forward(&pixels, &weight, None)));
        });
        group.bench_function("gemm of columns", |bench| {
            let size = [outputs, inner, columns];
            bench.iter(|| product(&mut out, &weight, &unfolded, size, [columns, 1]));
        });
        group.finish();
    }
}

criterion_group!(benches, layers, convolutions);
criterion_main!(benches);
