//! Checkpoints of the Python library hyper-nn.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use candle_core::{Result, Tensor, Var};

use super::core::{Core, is_trained};
use crate::error::bail;
use crate::init::InitScheme;

impl<T> Core<T> {
    /// Reads a `state_dict` of the Python library hyper-nn: of its `TorchLinearHyperNetwork`, or its
    /// `TorchDynamicHyperNetwork`, saved by `torch.save` or as safetensors.
    ///
    /// The declaration is the same network with `init: hyper_nn`: a `table`, or an `rnn` where it is
    /// dynamic, the generator `linear`, or `mlp` for an `nn.Sequential` of linear layers and activations; and a target whose layers are
    /// in the order of PyTorch's. The outputs then are the same.
    /// Embeddings that feed no parameter, which hyper-nn allows, are left out.
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use hypernn::nn::{Linear, Module, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear(2, 1))]
    ///     fc: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net {
    ///         embedding: table(3, 2), generator: linear, mode: static, init: hyper_nn,
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// // As `torch.save(hyper.state_dict(), …)` or safetensors has them.
    /// let table = Tensor::new(&[[1f32, 0.], [0., 1.], [1., 1.]], &Device::Cpu)?;
    /// let weight = Tensor::new(&[[2f32, 3.]], &Device::Cpu)?;
    /// let bias = Tensor::new(&[0.5f32], &Device::Cpu)?;
    /// let tensors = HashMap::from([
    ///     ("embedding_module.weight", table),
    ///     ("weight_generator.weight", weight),
    ///     ("weight_generator.bias", bias),
    /// ]);
    /// let path = std::env::temp_dir().join("hypernn_of_python.safetensors");
    /// candle_core::safetensors::save(&tensors, &path)?;
    ///
    /// let hyper = HyperNet::new(VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu))?;
    /// hyper.load_hyper_nn(&path)?;
    /// let flat = hyper.generate_params()?.flat()?;
    /// assert_eq!(flat.to_vec1::<f32>()?, [2.5, 3.5, 5.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The file can't be read, lacks a tensor, has one of another shape or one more; nothing has
    /// changed then.
    pub fn load_hyper_nn(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let found = HyperNnStateDict { tensors: crate::files::tensors(path)? };
        let pairs =
            self.hyper_nn_pairs(&found).map_err(|err| crate::files::can_not("load", path, &err))?;
        pairs.into_iter().try_for_each(|(var, value)| var.set(&value))
    }

    /// Each variable with its new value, after every check has passed.
    fn hyper_nn_pairs(&self, found: &HyperNnStateDict) -> Result<Vec<(Var, Tensor)>> {
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
struct HyperNnStateDict {
    tensors: HashMap<String, Tensor>,
}

impl HyperNnStateDict {
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
