//! What the examples share: data, training helpers, progress bars, pictures and reports.

pub mod args;
pub mod beside;
pub mod checkpoint;
pub mod data;
pub mod pca;
pub mod plot;
pub mod progress;
pub mod random;
pub mod ranks;
pub mod report;
pub mod round_trip;
pub mod train;
pub mod training;

/// It keeps its buffers, where glibc's hands large ones back to the system in every training step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
