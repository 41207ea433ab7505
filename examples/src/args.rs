//! Options that every example has.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;

/// Options that every example has; flatten them into its own.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    /// Seed of the initial weights and of the order of the data
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: DeviceName,

    /// Folder for results and pictures [default: out/ and the example's name]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,

    /// A run of seconds that shows that everything works, not how well
    #[arg(long)]
    pub quick: bool,
}

impl Common {
    /// The folder for the results, created where it is missing.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn out_dir(&self, example: &str) -> Result<PathBuf> {
        let folder = self.out.clone().unwrap_or_else(|| PathBuf::from("out").join(example));
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        Ok(folder)
    }
}

/// A device by name, such as `cuda:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// The NVIDIA card of this number.
    Cuda(usize),
}

impl DeviceName {
    /// Opens the device.
    ///
    /// # Errors
    /// This build or this machine does not have it.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => open_cuda(number),
        }
    }
}

fn open_cuda(number: usize) -> Result<Device> {
    ensure!(
        candle_core::utils::cuda_is_available(),
        "this build cannot use CUDA: add `--features cuda` to the cargo command, or use `--device cpu`"
    );
    Device::new_cuda(number).with_context(|| {
        format!("there is no CUDA device {number} here; `--device cpu` always works")
    })
}

impl FromStr for DeviceName {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.split_once(':') {
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => {
                Ok(Self::Cuda(number.parse().context("the number after `cuda:` is not one")?))
            }
            _ => bail!("expected cpu, cuda or cuda:N"),
        }
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// A number above zero, for clap's `value_parser`.
///
/// # Errors
/// It is not one.
pub fn positive(text: &str) -> Result<f64> {
    let value: f64 = text.parse()?;
    ensure!(value > 0. && value.is_finite(), "expected a number above zero");
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_round_trip() -> Result<()> {
        for name in ["cpu", "cuda:0", "cuda:3"] {
            assert_eq!(name.parse::<DeviceName>()?.to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceName>()?, DeviceName::Cuda(0));
        for name in ["", "gpu", "cuda:", "cuda:x", "cpu:0"] {
            assert!(name.parse::<DeviceName>().is_err(), "{name}");
        }
        Ok(())
    }
}
