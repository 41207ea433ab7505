//! What the examples share: data, training helpers, progress bars, pictures and reports.

pub mod args;
pub mod checkpoint;
pub mod data;
pub mod fit;
pub mod plot;
pub mod progress;
pub mod report;
pub mod round_trip;
pub mod train;
