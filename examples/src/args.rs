//! Options that every example has.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, DeviceLocation};
use hypernn::nn::{VarBuilder, VarMap};

use crate::data::Images;
use crate::data::mnist::Dataset;

/// Options that every example has; flatten them into its own.
#[derive(clap::Args, Clone, Debug)]
pub struct Common {
    /// Seed of the initial weights and of the order of the data
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Where to compute: cpu, cuda, cuda:N, or auto: cuda where it is there, else cpu
    #[arg(long, default_value = "auto")]
    pub device: DeviceName,

    /// Folder for results and pictures [default: out/ and the example's name]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,

    /// A run of seconds that shows that everything works, not how well
    #[arg(long)]
    pub quick: bool,
}

impl Common {
    /// New variables, drawn from the seed.
    pub fn variables(&self, vars: &VarMap, device: &Device) -> VarBuilder<'static> {
        hypernn::seeded::var_builder(vars, self.seed, DType::F32, device)
    }

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

/// Options of examples that go on after an interruption; flatten them into its own.
///
/// As text by [`Debug`](std::fmt::Debug), they are what a run's numbers depend on, without the folder and `--resume`:
/// so an example's options, as text, are the settings of its [`Checkpoint`](crate::checkpoint::Checkpoint).
#[derive(clap::Args, Clone)]
pub struct RunArgs {
    /// Options that every example has.
    #[command(flatten)]
    pub common: Common,

    /// Go on from the checkpoint of an interrupted run in the output folder, with the same options
    #[arg(long)]
    pub resume: bool,
}

impl std::fmt::Debug for RunArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Common { seed, device, out: _, quick } = &self.common;
        let text = &mut f.debug_struct("RunArgs");
        text.field("seed", seed).field("device", device).field("quick", quick).finish()
    }
}

/// The option of examples whose settings were chosen on training images; flatten it into its own.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Validation {
    /// Train without the last so many of the training images, and test on those: for choosing settings
    #[arg(long, value_name = "IMAGES")]
    pub validation: Option<usize>,
}

impl Validation {
    /// A set of images, standardized, with other test images where that is asked for.
    ///
    /// # Errors
    /// They have not been fetched, or are not so many.
    pub fn load(self, dataset: Dataset, device: &Device) -> Result<Images> {
        let images = dataset.load(device)?.standardized()?;
        match self.validation {
            Some(count) => images.validation(count),
            None => Ok(images),
        }
    }
}

/// A device by name, such as `cuda:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The first NVIDIA card where there is one, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA card of this number.
    Cuda(usize),
}

impl DeviceName {
    /// Opens the device.
    ///
    /// Who names a card gets it or an error: a run on the processor instead could take hours before
    /// anyone notices. `auto` falls back to it with a line that says so.
    ///
    /// # Errors
    /// This build or this machine does not have the card that was named.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Auto => Ok(open_any()),
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => open_cuda(number),
        }
    }
}

/// In a build without CUDA nobody expects a card, so there is nothing to say.
fn open_any() -> Device {
    if !candle_core::utils::cuda_is_available() {
        return Device::Cpu;
    }
    open_cuda(0).unwrap_or_else(|err| {
        let reason = err.chain().last().map(ToString::to_string).unwrap_or_default();
        eprintln!("no CUDA device, computing on the CPU: {}", first_line(&reason));
        Device::Cpu
    })
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

/// Without the backtrace that candle may append.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The device's name, as `--device` takes it.
pub fn device_name(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => "cpu".to_owned(),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

impl FromStr for DeviceName {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.split_once(':') {
            None if name == "auto" => Ok(Self::Auto),
            None if name == "cpu" => Ok(Self::Cpu),
            None if name == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => {
                Ok(Self::Cuda(number.parse().context("the number after `cuda:` is not one")?))
            }
            _ => bail!("expected auto, cpu, cuda or cuda:N"),
        }
    }
}

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
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

/// A number of at least zero, for clap's `value_parser`.
///
/// # Errors
/// It is not one.
pub fn not_negative(text: &str) -> Result<f64> {
    let value: f64 = text.parse()?;
    ensure!(value >= 0. && value.is_finite(), "expected a number of at least zero");
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_round_trip() -> Result<()> {
        for name in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(name.parse::<DeviceName>()?.to_string(), name);
        }
        assert_eq!("cuda".parse::<DeviceName>()?, DeviceName::Cuda(0));
        for name in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "auto:0"] {
            assert!(name.parse::<DeviceName>().is_err(), "{name}");
        }
        Ok(())
    }

    #[test]
    fn settings_are_what_numbers_depend_on() {
        let run = |seed, out, resume| {
            let common = Common { seed, device: DeviceName::Cpu, out, quick: false };
            format!("{:?}", RunArgs { common, resume })
        };
        let settings = run(3, None, false);
        assert_eq!(settings, "RunArgs { seed: 3, device: Cpu, quick: false }");
        assert_eq!(run(3, Some(PathBuf::from("folder")), true), settings);
        assert_ne!(run(4, None, false), settings);
    }

    /// Auto always opens something; a card that is named is opened or an error. Where CUDA is built
    /// in but no card is there, `ci/cuda-check.sh` reads the messages.
    #[test]
    fn devices_are_opened() -> Result<()> {
        assert!(DeviceName::Cpu.open()?.is_cpu());
        let auto = device_name(&DeviceName::Auto.open()?);
        match DeviceName::Cuda(0).open() {
            Ok(device) => assert_eq!([device_name(&device), auto], ["cuda:0", "cuda:0"]),
            Err(err) => {
                assert_eq!(auto, "cpu");
                let built = candle_core::utils::cuda_is_available();
                let expected =
                    if built { "there is no CUDA device 0" } else { "this build cannot" };
                assert!(err.to_string().starts_with(expected), "{err}");
            }
        }
        Ok(())
    }
}
