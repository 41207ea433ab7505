//! Frozen tensors that stay as a GGUF file has them.

use std::collections::HashMap;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Result};

use super::{Pretrained, Rename};
use crate::files::gguf::GgufTensors;
use crate::finite::ensure_finite;
use crate::param::Quantized;
use crate::structure::layout::KeptInfo;
use crate::structure::role::Role;

/// The tensors of a GGUF file, by the names that they have in a network.
pub(super) struct Blocks {
    file: GgufTensors,
    /// The file's name, by the network's.
    names: HashMap<String, String>,
}

impl Blocks {
    pub(super) fn new(file: GgufTensors) -> Self {
        let names = file.names().map(|name| (name.to_owned(), name.to_owned())).collect();
        Self { file, names }
    }

    /// The same tensors under other names; of two that become one, that whose name changes is found.
    pub(super) fn renamed(self, rename: &Rename) -> Self {
        let mut names: Vec<_> = self.names.into_iter().collect();
        names.sort_by_key(|(name, _)| rename.apply(name) != *name);
        let names = names.into_iter().map(|(name, file)| (rename.apply(&name), file)).collect();
        Self { names, ..self }
    }

    /// A matrix of this shape, if it is quantised.
    fn matrix(&self, name: &str, dims: &[usize], device: &Device) -> Result<Option<QTensor>> {
        let Some(name) = self.names.get(name) else { return Ok(None) };
        if dims.len() != 2 || !self.file.is_quantized(name) {
            return Ok(None);
        }
        let blocks = self.file.quantized(name, device)?;
        Ok((blocks.shape().dims() == dims).then_some(blocks))
    }
}

impl Pretrained<'_> {
    /// Matrices of a GGUF file that the target freezes, and those under its low-rank adapters, stay in memory as they are
    /// in the file: a network of 135 million parameters in `Q4_1` takes some 100 MB in place of 540.
    ///
    /// [`Linear`](crate::nn::Linear) and [`Embedding`](crate::nn::Embedding) of [`nn`](crate::nn) dequantise a few rows at a
    /// time while they compute, with the results of the dequantised weight; the gradient of the input is computed so as
    /// well (QLoRA; Dettmers et al., 2023). Whatever else asks for such a tensor gets it dequantised. What is generated or
    /// trained is dequantised when the hypernetwork is built. Checkpoints do not tell: one that was saved over the same file
    /// without this loads, and the other way round.
    ///
    /// ```
    /// use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
    /// use candle_core::{DType, Device, Module, Result, Tensor};
    /// use hypernn::nn::{Linear, VarBuilder, VarMap};
    /// use hypernn::{HyperTarget, Pretrained, hypernetwork};
    ///
    /// #[derive(HyperTarget)]
    /// #[hyper(sequential)]
    /// struct Net {
    ///     #[hyper(linear_no_bias(64, 32))]
    ///     fc: Linear,
    /// }
    ///
    /// hypernetwork! {
    ///     struct HyperNet for Net {
    ///         roles: [("*", lora(2, 4.))],
    ///         embedding: table(4, 3),
    ///         generator: linear,
    ///         mode: static,
    ///     }
    /// }
    ///
    /// # fn main() -> Result<()> {
    /// let weight = Tensor::randn(0f32, 1., (32, 64), &Device::Cpu)?;
    /// let weight = QTensor::quantize(&weight, GgmlDType::Q4_1)?;
    /// let path = std::env::temp_dir().join("hypernn_quantized.gguf");
    /// gguf_file::write(&mut std::fs::File::create(&path)?, &[], &[("fc.weight", &weight)])?;
    ///
    /// let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    /// let hyper = HyperNet::new_from(vb, Pretrained::open(&path)?.keep_quantized())?;
    /// let xs = Tensor::randn(0f32, 1., (5, 64), &Device::Cpu)?;
    /// let expected = xs.matmul(&weight.dequantize(&Device::Cpu)?.t()?)?;
    /// let difference = (hyper.forward(&xs)? - expected)?.abs()?.max_all()?;
    /// assert!(difference.to_scalar::<f32>()? < 1e-4);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Building a hypernetwork from a network of another kind of file is an error.
    #[must_use]
    pub fn keep_quantized(mut self) -> Self {
        if self.blocks.is_none() && self.problem.is_none() {
            let problem = "keep_quantized: the pretrained network is no GGUF file, so that nothing of it is quantised";
            self.problem = Some(problem.to_owned());
        }
        self.keeps_quantized = true;
        self
    }

    /// A tensor that is kept as it is in the file, if it is to be.
    pub(super) fn quantized(
        &self,
        at: &KeptInfo,
        dtype: DType,
        device: &Device,
    ) -> Result<Option<Quantized>> {
        let stays =
            self.keeps_quantized && at.role == Role::Freeze && !self.starts_afresh(&at.name);
        let Some(blocks) = self.blocks.as_ref().filter(|_| stays) else { return Ok(None) };
        let found = blocks.matrix(&at.name, at.shape.dims(), device)?;
        let found = found.map(|blocks| Quantized::new(blocks, dtype));
        if let Some(quantized) = found.as_ref().filter(|_| self.finite) {
            let what = || format!("`{}` of the pretrained network in {dtype:?}", at.name);
            ensure_finite(what, &quantized.dequantize()?)?;
        }
        Ok(found)
    }
}
