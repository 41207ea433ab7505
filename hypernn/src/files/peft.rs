//! Low-rank adapters as PEFT keeps them: a folder with `adapter_config.json` and the factors by module.
//!
//! The form is that of `LoraConfig` and `save_pretrained` of [PEFT](https://huggingface.co/docs/peft).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Result, Tensor};
use serde_json::Value;

use super::{can_not, list, tensors};
use crate::error::{self, bail};

/// The settings of an adapter.
pub(crate) const CONFIG: &str = "adapter_config.json";

/// The files that its factors may be in; the first is written.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// The file of an adapter's factors that is written.
pub(crate) const WRITTEN: &str = WEIGHTS[0];

/// What PEFT puts in front of each module's name.
pub(crate) const FRONT: &str = "base_model.model.";

/// The ends of the factors' names.
pub(crate) const FACTORS: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// A configuration is some hundred lines at most.
const MAX_CONFIG: u64 = 1 << 24;

/// An adapter of linear modules.
pub(crate) struct PeftAdapter {
    /// The difference is multiplied by it.
    pub(crate) scale: f64,
    /// What the configuration says of the modules that are adapted, as it says it.
    pub(crate) target_modules: String,
    /// The two factors, `[r, in]` and `[out, r]`, by the module's name.
    pub(crate) modules: BTreeMap<String, [Tensor; 2]>,
    /// A folder that is there, where the configuration names one as its base model.
    pub(crate) base_model: Option<String>,
}

impl PeftAdapter {
    /// Reads a folder.
    ///
    /// # Errors
    /// A file is missing or damaged, or the adapter is of a kind that linear layers' factors alone don't say.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let config_path = folder.join(CONFIG);
        let config = Config::read(&config_path);
        let config = config.map_err(|err| can_not("read", &config_path, &err))?;
        let files = WEIGHTS.map(|name| folder.join(name));
        let file = files.iter().find(|file| file.exists()).unwrap_or(&files[0]);
        let modules = modules(tensors(file)?, config.rank);
        Ok(Self {
            modules: modules.map_err(|err| can_not("read", file, &err))?,
            scale: config.scale,
            target_modules: config.target_modules,
            base_model: config.base_model,
        })
    }
}

/// What is taken of a configuration.
struct Config {
    rank: usize,
    scale: f64,
    target_modules: String,
    base_model: Option<String>,
}

/// Settings that must be absent, null, false or empty, with what they would mean.
const REFUSED: [(&str, &str); 8] = [
    ("use_dora", "DoRA, whose magnitudes are no part of a low-rank adapter"),
    ("modules_to_save", "modules that are trained whole beside the adapters"),
    ("rank_pattern", "modules of other ranks, expected one rank"),
    ("alpha_pattern", "modules of other scales, expected one alpha"),
    ("fan_in_fan_out", "weights that are stored transposed"),
    ("layer_replication", "layers that the base model has once"),
    ("target_parameters", "adapters of parameters that are no module's weight"),
    ("trainable_token_indices", "rows of an embedding that are trained"),
];

impl Config {
    fn read(path: &Path) -> Result<Self> {
        if std::fs::metadata(path)?.len() > MAX_CONFIG {
            bail!(
                file,
                "it has more than {MAX_CONFIG} bytes, expected the configuration of an adapter"
            );
        }
        let text = std::fs::read(path)?;
        let config = serde_json::from_slice(&text).map_err(|err| error::file(err.to_string()))?;
        Self::of(&config)
    }

    fn of(config: &Value) -> Result<Self> {
        let kind = config.get("peft_type").unwrap_or(&Value::Null);
        if kind != "LORA" {
            bail!(file, "its `peft_type` is {kind}, expected \"LORA\"");
        }
        for (setting, what) in REFUSED {
            let value = config.get(setting).unwrap_or(&Value::Null);
            if !is_off(value) {
                bail!(file, "its `{setting}` is {value}: {what}, which is not read");
            }
        }
        let bias = config.get("bias").unwrap_or(&Value::Null);
        if !(bias.is_null() || bias == "none") {
            bail!(
                file,
                "its `bias` is {bias}: biases that are trained as well, which are not read, expected \"none\""
            );
        }
        let rank = rank(config)?;
        Ok(Self {
            rank,
            scale: scale(config, rank)?,
            target_modules: target_modules(config),
            base_model: config
                .get("base_model_name_or_path")
                .and_then(Value::as_str)
                .map(Into::into),
        })
    }
}

/// Whether a setting says nothing.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

fn rank(config: &Value) -> Result<usize> {
    let rank = config.get("r").unwrap_or(&Value::Null);
    match rank.as_u64().and_then(|rank| usize::try_from(rank).ok()) {
        Some(rank) if rank > 0 => Ok(rank),
        _ => bail!(file, "its `r` is {rank}, expected the rank of the adapter"),
    }
}

/// That of rank-stabilised LoRA goes with the root of the rank (Kalajdzievski, 2023).
fn scale(config: &Value, rank: usize) -> Result<f64> {
    let alpha = config.get("lora_alpha").unwrap_or(&Value::Null);
    let Some(value) = alpha.as_f64().filter(|alpha| alpha.is_finite()) else {
        bail!(file, "its `lora_alpha` is {alpha}, expected a number");
    };
    let stabilised = config.get("use_rslora") == Some(&Value::Bool(true));
    Ok(value / if stabilised { (rank as f64).sqrt() } else { rank as f64 })
}

fn target_modules(config: &Value) -> String {
    match config.get("target_modules") {
        Some(Value::Array(names)) => {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            list(&names[..names.len().min(6)], names.len())
        }
        other => other.unwrap_or(&Value::Null).to_string(),
    }
}

/// The factors by module.
fn modules(
    tensors: std::collections::HashMap<String, Tensor>,
    rank: usize,
) -> Result<BTreeMap<String, [Tensor; 2]>> {
    let mut halves: BTreeMap<String, [Option<Tensor>; 2]> = BTreeMap::new();
    // In order, so that of several mistakes always the same is found.
    for (name, tensor) in BTreeMap::from_iter(tensors) {
        let factor = name.strip_prefix(FRONT).and_then(|name| {
            let ends = FACTORS.iter().enumerate();
            ends.into_iter().find_map(|(at, end)| Some((name.strip_suffix(end)?.to_owned(), at)))
        });
        let Some((module, at)) = factor else {
            bail!(
                file,
                "`{name}` is no factor of a linear module, expected `{FRONT}MODULE{}` or `{FRONT}MODULE{}`",
                FACTORS[0],
                FACTORS[1]
            );
        };
        check_factor(&name, &tensor, at, rank)?;
        halves.entry(module).or_default()[at] = Some(tensor);
    }
    let whole = |(module, factors): (String, [Option<Tensor>; 2])| match factors {
        [Some(down), Some(up)] => Ok((module, [down, up])),
        [down, _] => {
            let missing = FACTORS[usize::from(down.is_some())];
            bail!(file, "it has no `{FRONT}{module}{missing}`, the other factor of that module")
        }
    };
    halves.into_iter().map(whole).collect()
}

/// The first factor is `[r, in]`, the second `[out, r]`.
fn check_factor(name: &str, tensor: &Tensor, at: usize, rank: usize) -> Result<()> {
    let dims = tensor.dims();
    if dims.len() != 2 || !tensor.dtype().is_float() {
        bail!(
            file,
            "`{name}` is {:?} of shape {dims:?}, expected a floating dtype and two dimensions, as of a linear module",
            tensor.dtype()
        );
    }
    if dims[at] != rank {
        bail!(file, "`{name}` has shape {dims:?}, where `r` in {CONFIG} is {rank}");
    }
    Ok(())
}
