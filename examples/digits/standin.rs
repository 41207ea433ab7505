//! SWITCH: goes when the macros have landed. Hand-written stand-ins for `DigitNet`,
//! `HyperDigitNet` and `hypernn::seeded`, with the surface that the macros will give.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Module, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Conv2d, Init, Linear, VarBuilder, VarMap};

const SHAPES: [(&str, &[usize], f64); 6] = [
    ("conv.weight", &[8, 1, 3, 3], 0.471_404_5),
    ("conv.bias", &[8], 0.192_450_1),
    ("fc1.weight", &[64, 288], 0.083_333_3),
    ("fc1.bias", &[64], 0.034_020_7),
    ("fc2.weight", &[10, 64], 0.176_776_7),
    ("fc2.bias", &[10], 0.072_168_8),
];

/// Stand-in.
pub struct DigitNet {
    /// Stand-in.
    pub conv: Conv2d,
    fc1: Linear,
    fc2: Linear,
}

impl DigitNet {
    /// Stand-in.
    pub fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let conv = candle_nn::conv2d(1, 8, 3, Default::default(), vb.pp("conv"))?;
        let fc1 = candle_nn::linear(288, 64, vb.pp("fc1"))?;
        Ok(Self { conv, fc1, fc2: candle_nn::linear(64, 10, vb.pp("fc2"))? })
    }
}

impl Module for DigitNet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let features = self.conv.forward(images)?.relu()?.flatten_from(1)?;
        self.fc2.forward(&self.fc1.forward(&features)?.relu()?)
    }
}

/// Stand-in.
pub struct HyperDigitNet {
    table: Tensor,
    weight: Tensor,
    bias: Tensor,
}

/// Stand-in.
pub struct Params(HashMap<String, Tensor>);

const ROWS: usize = 128;
const WIDTH: usize = 8;
const CHUNK: usize = HyperDigitNet::NUM_TARGET_PARAMS.div_ceil(ROWS);

impl HyperDigitNet {
    /// Stand-in.
    pub const NUM_TARGET_PARAMS: usize = 80 + 288 * 64 + 64 + 650;
    /// Stand-in.
    pub const NUM_PARAMS: usize = ROWS * WIDTH + (WIDTH + 1) * CHUNK;

    /// Stand-in.
    pub fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let normal = |stdev| Init::Randn { mean: 0., stdev };
        Ok(Self {
            table: vb.get_with_hints((ROWS, WIDTH), "table", normal(1.))?,
            weight: vb.get_with_hints(
                (CHUNK, WIDTH),
                "weight",
                normal((WIDTH as f64).powf(-0.5)),
            )?,
            bias: vb.get_with_hints(CHUNK, "bias", Init::Const(0.))?,
        })
    }

    /// Stand-in.
    pub fn generate_params(&self) -> Result<Params> {
        let flat = self.table.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?;
        let (flat, mut offset, mut params) = (flat.flatten_all()?, 0, HashMap::new());
        for (name, dims, scale) in SHAPES {
            let size = dims.iter().product();
            let tensor = (flat.narrow(0, offset, size)?.reshape(dims)? * scale)?;
            params.insert(name.to_owned(), tensor);
            offset += size;
        }
        Ok(Params(params))
    }

    fn named(&self) -> HashMap<String, Tensor> {
        let named = [("table", &self.table), ("weight", &self.weight), ("bias", &self.bias)];
        named.into_iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
    }

    /// Stand-in.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        candle_core::safetensors::save(&self.named(), path)
    }

    /// Stand-in.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        let saved = candle_core::safetensors::load(path, self.table.device())?;
        for (name, tensor) in self.named() {
            Var::from_tensor(&tensor)?.set(&saved[&name])?;
        }
        Ok(())
    }

    /// Stand-in.
    pub fn bake(&self, path: impl AsRef<Path>) -> Result<()> {
        candle_core::safetensors::save(&self.generate_params()?.0, path)
    }
}

impl Module for HyperDigitNet {
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        self.generate_params()?.unpack()?.forward(images)
    }
}

impl Params {
    /// Stand-in.
    pub fn unpack(&self) -> Result<DigitNet> {
        let device = self.0["fc2.bias"].device();
        DigitNet::new(VarBuilder::from_tensors(self.0.clone(), DType::F32, device))
    }
}

/// Stand-in.
pub mod seeded {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    struct Seeded {
        vars: VarMap,
        seed: u64,
    }

    /// Stand-in.
    pub fn var_builder(
        vars: &VarMap,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> VarBuilder<'static> {
        let backend: Box<dyn SimpleBackend> = Box::new(Seeded { vars: vars.clone(), seed });
        VarBuilder::new_with_args(backend, dtype, device)
    }

    impl SimpleBackend for Seeded {
        fn get(
            &self,
            shape: Shape,
            name: &str,
            init: Init,
            dtype: DType,
            device: &Device,
        ) -> Result<Tensor> {
            let seed = name.bytes().fold(self.seed, |seed, byte| {
                (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            let mut rng = StdRng::seed_from_u64(seed);
            let std = match init {
                Init::Const(_) => 0.,
                Init::Randn { stdev, .. } => stdev,
                Init::Uniform { up, .. } => up / 3f64.sqrt(),
                Init::Kaiming { fan, non_linearity, .. } => {
                    non_linearity.gain() / (fan.for_shape(&shape) as f64).sqrt()
                }
            };
            let mut draw = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.;
            let values = (0..shape.elem_count()).map(|_| std * draw()).collect();
            let var = Var::from_vec(values, shape.clone(), device)?.to_dtype(dtype)?;
            let tensor = self.vars.get(shape, name, Init::Const(0.), dtype, device)?;
            Var::from_tensor(&tensor)?.set(&var)?;
            Ok(tensor)
        }

        fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
            candle_core::bail!("{name} without a shape")
        }

        fn contains_tensor(&self, _: &str) -> bool {
            true
        }
    }
}
