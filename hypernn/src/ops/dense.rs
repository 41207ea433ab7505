//! `x wᵀ + b` on the CPU by `hypernn_kernels::linear`.

use candle_core::Result;
use hypernn_kernels::linear::{self, Epilogue, Linear};

use super::gemm::DIRECT;
use super::kernels::{CandleThreads, kernel};
use super::linear::LinearSizes;
use super::scalar::Scalar;

/// Whether the kernels compute a product of these sizes.
pub(super) fn serves(sizes: &LinearSizes) -> bool {
    DIRECT && sizes.of_kernel().are_worth_packing()
}

impl LinearSizes {
    /// The kernels' type for these sizes.
    pub(super) fn of_kernel(&self) -> linear::Sizes {
        let Self { sets, rows, inputs, outputs } = *self;
        linear::Sizes { sets, rows, inputs, outputs }
    }
}

/// `xs [G, rows, in]`, `weight [G, out, in]` and `bias [G, out]`, row-major.
pub(super) struct CpuLinear<'a, T> {
    pub(super) sizes: LinearSizes,
    pub(super) xs: &'a [T],
    pub(super) weight: &'a [T],
    pub(super) bias: Option<&'a [T]>,
}

impl<T: Scalar> CpuLinear<'_, T> {
    fn kernel(&self) -> Result<Linear<'_, T>> {
        kernel(Linear::new(self.sizes.of_kernel(), self.xs, self.weight, self.bias))
    }

    /// The outputs, `[G, rows, out]`.
    pub(super) fn outputs(&self) -> Result<Vec<T>> {
        kernel(self.kernel()?.outputs(&CandleThreads))
    }

    /// Vectors of so many values each, from epilogues for all outputs in order.
    pub(super) fn outputs_to(
        &self,
        lens: &[usize],
        epilogues: &[Epilogue<T>],
    ) -> Result<Vec<Vec<T>>> {
        kernel(self.kernel()?.outputs_to(lens, epilogues, &CandleThreads))
    }
}
