//! Memory that the allocator keeps for the next step.

use std::hint::black_box;
use std::sync::Once;

/// Just below the largest buffer by whose size glibc changes its thresholds: 32 MB.
const LARGEST: usize = (32 << 20) - (64 << 10);

/// Frees one large buffer, which nobody has touched.
///
/// ```
/// hypernn_kernels::heap::keep_large_buffers();
/// ```
///
/// glibc hands free memory at the end of its heap back to the system where it is more than twice the
/// largest buffer that was ever freed on its own, at first 128 kB; the next step takes it anew, page by
/// page, each filled with zeros. After this, it hands back what is more than 64 MB. Thresholds that the
/// user has set stay as they are (`man 3 mallopt`, `M_MMAP_THRESHOLD`), and to other allocators this is a
/// buffer like any other.
pub fn keep_large_buffers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(black_box(Vec::<u8>::with_capacity(LARGEST))));
}
