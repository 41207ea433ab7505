//! What is chosen by the instruction set, in one place, and what it was measured on.
//!
//! - AVX2: one core of an AMD EPYC with AVX2 (Zen 3), in f32, by layers of 1 to 1024 rows with weights from 32 × 32 to
//!   784 × 256 beside a product by `gemm` to which the bias is added (`docs/performance.md` in the repository,
//!   "Processors with AVX2").
//! - AVX-512: one core of an AMD EPYC with AVX-512 (Zen 4).
//! - All others get what is for AVX-512; nothing of them was measured.

use crate::simd::InstructionSet;

pub(crate) struct Tuning {
    /// Bytes of the panels of a strip; none where outputs are written panel by panel. They lie in the second cache
    /// while all rows pass by, and six rows in the first: with AVX2, 256 × 128 → 128 takes 104, 99 and 97 µs with 8,
    /// 16 and 32 kB, and no less with 64.
    pub(crate) strip: Option<usize>,
    pub(crate) layer: LayerChoice,
}

/// When a linear layer is computed here, and not by a product and an addition.
pub(crate) struct LayerChoice {
    pub(crate) least_rows: usize,
    /// Of fewer, most lanes of a vector would be empty.
    pub(crate) least_outputs: usize,
    /// Values of the weight: below, there is little that `gemm` would pack value by value.
    pub(crate) least_weight: usize,
    /// Multiplications, below which to prepare takes as long as they do.
    pub(crate) least_products: usize,
    /// Sixths of the weight that inputs and outputs together may be. With more rows `gemm` packs as little for each
    /// of them as these kernels do, and its innermost loop, by three vectors and four rows, is as fast.
    pub(crate) most_sides: Option<usize>,
    /// Sixths of the weight up to which the rows are packed and not the weight.
    pub(crate) packed_rows: usize,
}

const AVX2: Tuning = Tuning {
    strip: Some(32 << 10),
    // Of `gemm`'s time: 0.65 with 8 rows of 128 → 128, 0.71 with 16, 0.88 with 32, 1.0 with 64; 1.03 to 1.07 with
    // more. 0.90 with 8 rows of 64 → 64, 1.1 and more of 32 → 64, 1.65 of 1024 → 10. With 64 rows of 128 → 128, where
    // sides and weight are equal, packed rows take 29.2 µs and a packed weight 27.4; with 32 rows 14.9 and 16.4.
    layer: LayerChoice {
        least_rows: 8,
        least_outputs: 32,
        least_weight: 1 << 12,
        least_products: 0,
        most_sides: Some(6),
        packed_rows: 5,
    },
};

const AVX512: Tuning = Tuning {
    strip: None,
    layer: LayerChoice {
        least_rows: 8,
        least_outputs: 8,
        least_weight: 0,
        least_products: 1 << 18,
        most_sides: None,
        packed_rows: 6,
    },
};

/// What is chosen for the instruction set in use.
pub(crate) fn tuning() -> &'static Tuning {
    match InstructionSet::in_use() {
        InstructionSet::Avx2 => &AVX2,
        _ => &AVX512,
    }
}
