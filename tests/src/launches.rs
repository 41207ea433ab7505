//! What a device was told to do: the lines that the stand-in of `ci/cuda-cpu` writes for each thread.

use std::fs::{read_link, read_to_string};
use std::path::PathBuf;

use candle_core::Result;

/// What was asked of the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The names of kernels, and `product` for cuBLAS, in order.
    pub launches: Vec<String>,
    /// How many transfers there were to the device and from it. An operation on what is not contiguous sends the
    /// device its shape.
    pub transfers: usize,
}

impl Asked {
    /// How many launches there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.launches.len()
    }

    /// Whether there were no more launches, and no more launches and transfers together.
    #[must_use]
    pub fn is_at_most(&self, other: &Self) -> bool {
        let all = |asked: &Self| asked.count() + asked.transfers;
        self.count() <= other.count() && all(self) <= all(other)
    }

    /// How many launches were of kernels whose name starts so.
    #[must_use]
    pub fn of(&self, prefix: &str) -> usize {
        self.launches.iter().filter(|name| name.starts_with(prefix)).count()
    }

    fn add(&mut self, line: &str) {
        let mut words = line.split(' ');
        match (words.next(), words.next()) {
            (Some("launch"), Some(kernel)) => self.launches.push(kernel.to_owned()),
            (Some("product"), _) => self.launches.push("product".to_owned()),
            // A copy of what is contiguous is the driver's, at the price of a launch.
            (Some("copy"), Some("on-device")) => self.launches.push("copy".to_owned()),
            (Some("copy"), _) => self.transfers += 1,
            _ => {}
        }
    }
}

/// This thread's file, which is there once a device was told to do something.
fn file() -> Result<Option<PathBuf>> {
    let Some(folder) = std::env::var_os("CUDA_CPU_TRACE") else { return Ok(None) };
    let thread = read_link("/proc/thread-self")?;
    Ok(thread.file_name().map(|name| PathBuf::from(folder).join(name)))
}

/// Whether launches are counted here, on the stand-in of `ci/cuda-cpu`.
///
/// # Errors
/// The system has no `/proc`.
pub fn are_counted() -> Result<bool> {
    Ok(file()?.is_some())
}

/// What `work` gives, and what this thread asked of the device meanwhile.
///
/// # Errors
/// Those of `work`, or launches are not counted here.
pub fn asked<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Asked)> {
    let Some(file) = file()? else { candle_core::bail!("launches are not counted here") };
    let before = read_to_string(&file).unwrap_or_default().len();
    let value = work()?;
    let after = read_to_string(&file)?;
    let mut asked = Asked::default();
    after[before..].lines().for_each(|line| asked.add(line));
    Ok((value, asked))
}
