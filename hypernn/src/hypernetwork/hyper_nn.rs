//! Checkpoints of the Python library hyper-nn.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{Result, Tensor, Var};

use super::core::{Core, is_trained};
use crate::error::bail;
use crate::init::InitScheme;

impl<T> Core<T> {
    /// Reads the `state_dict` of hyper-nn's `TorchLinearHyperNetwork` or `TorchDynamicHyperNetwork`.
    pub(super) fn load_hyper_nn(&self, path: &Path) -> Result<()> {
        let found = StateDict { tensors: crate::files::tensors(path)? };
        let pairs =
            self.hyper_nn_pairs(&found).map_err(|err| crate::files::can_not("load", path, &err))?;
        pairs.into_iter().try_for_each(|(var, value)| var.set(&value))
    }

    /// Each variable with its new value, after every check has passed.
    fn hyper_nn_pairs(&self, found: &StateDict) -> Result<Vec<(Var, Tensor)>> {
        if self.scheme != InitScheme::HyperNn {
            bail!(
                declaration,
                "hyper-nn takes generated values as they are: declare {} with `init: hyper_nn`",
                self.name
            );
        }
        let (mut pairs, mut used) = (Vec::new(), HashSet::new());
        for (name, var) in self.named_tensors().filter(|(name, _)| is_trained(name)) {
            let Some(theirs) = found.name_of(name) else {
                bail!(declaration, "`{name}` has no counterpart in hyper-nn");
            };
            pairs.push((Var::from_tensor(var)?, found.value(&theirs, name, var)?));
            used.insert(theirs);
        }
        found.check_used(&used)?;
        Ok(pairs)
    }
}

/// A `state_dict` of hyper-nn.
struct StateDict {
    tensors: HashMap<String, Tensor>,
}

impl StateDict {
    /// hyper-nn's name for a variable of ours.
    fn name_of(&self, ours: &str) -> Option<String> {
        let (part, rest) = ours.split_once('.')?;
        match (part, rest) {
            ("embedding", "weight") => {
                let dynamic = "embedding_module.embedding.weight";
                let known = self.tensors.contains_key(dynamic);
                Some(if known { dynamic } else { "embedding_module.weight" }.to_owned())
            }
            ("embedding", rest) => {
                Some(format!("embedding_module.rnn_cell.{}", rest.strip_prefix("cell.")?))
            }
            ("generator", "weight" | "bias") => Some(format!("weight_generator.{rest}")),
            ("generator", rest) => {
                let (layer, kind) = rest.split_once('.')?;
                Some(format!("weight_generator.{}.{kind}", self.layer(layer.parse().ok()?)))
            }
            _ => None,
        }
    }

    /// Where linear layer number `index` stands in an `nn.Sequential`, among activations.
    fn layer(&self, index: usize) -> usize {
        let numbers = self.tensors.keys().filter_map(|name| {
            name.strip_prefix("weight_generator.")?.strip_suffix(".weight")?.parse().ok()
        });
        let mut numbers: Vec<usize> = numbers.collect();
        numbers.sort_unstable();
        numbers.get(index).copied().unwrap_or(index)
    }

    /// hyper-nn may have embeddings that feed no parameter; a static hypernetwork does without.
    fn value(&self, theirs: &str, ours: &str, var: &Tensor) -> Result<Tensor> {
        let Some(tensor) = self.tensors.get(theirs) else {
            bail!(
                layout,
                "no tensor `{theirs}`, which `{ours}` of shape {:?} comes from{}",
                var.dims(),
                self.prefix_advice(theirs)
            );
        };
        let fits = |dims: &[usize]| dims == var.dims();
        let value = match tensor.dims() {
            [rows, _] if theirs == "embedding_module.weight" && *rows > var.dim(0)? => {
                tensor.narrow(0, 0, var.dim(0)?)?
            }
            _ => tensor.clone(),
        };
        if !fits(value.dims()) {
            bail!(
                layout,
                "tensor `{theirs}` has shape {:?}, expected {:?} for `{ours}`",
                tensor.dims(),
                var.dims()
            );
        }
        value.to_dtype(var.dtype())?.to_device(var.device())
    }

    /// The network may have been a part of another.
    fn prefix_advice(&self, missing: &str) -> String {
        let names: Vec<_> = self.tensors.keys().cloned().collect();
        let wanted = [missing, "embedding_module.embedding.weight", "weight_generator.weight"];
        let Some(prefix) = crate::files::prefix(&wanted, &names) else { return String::new() };
        let part = prefix.trim_end_matches('.');
        format!(
            ": its names have `{prefix}` in front; save that part alone, in PyTorch `torch.save(net.{part}.state_dict(), path)`"
        )
    }

    fn check_used(&self, used: &HashSet<String>) -> Result<()> {
        // hyper-nn keeps empty tensors to know its device.
        let others = self.tensors.keys().filter(|name| !name.ends_with("__device_param_dummy__"));
        let unknown = others.filter(|name| !used.contains(*name)).min();
        unknown
            .map_or(Ok(()), |name| bail!(layout, "tensor `{name}` is none of this hypernetwork's"))
    }
}
