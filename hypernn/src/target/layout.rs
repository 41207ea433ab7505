//! The layout: which tensor of the target lies where in the flat vector.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use sha2::{Digest, Sha256};

use super::source::{ParamKind, ParamSource, ParamSpec};

/// One parameter of a target.
#[derive(Clone, Debug)]
pub struct ParamInfo {
    /// Its path, as a `VarBuilder` would name it: `conv.weight`, `blocks.0.fc.bias`.
    pub name: String,
    /// Its shape, row-major in the flat vector.
    pub shape: Shape,
    /// Where its first value lies in the flat vector, in values.
    pub offset: usize,
    /// What it is in its layer.
    pub kind: ParamKind,
    /// How candle initialises it.
    pub init: Init,
}

impl ParamInfo {
    /// The number of its values.
    pub fn len(&self) -> usize {
        self.shape.elem_count()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tensor of the target that is not generated, such as running statistics.
#[derive(Clone, Debug)]
pub struct BufferInfo {
    /// Its path, as a `VarBuilder` would name it.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// How it starts.
    pub init: Init,
}

/// The order, names, shapes and offsets of a target's parameters in its flat vector.
///
/// The order is that of the fields, weight before bias, each tensor row-major: the order of
/// PyTorch's `named_parameters`.
#[derive(Clone, Debug)]
pub struct Layout {
    params: Vec<ParamInfo>,
    buffers: Vec<BufferInfo>,
    num_params: usize,
    hash: String,
    one_set_layer: Option<String>,
}

impl Layout {
    /// Records what `build` asks for.
    ///
    /// # Errors
    /// Whatever `build` returns, or two parameters of the same name.
    pub(crate) fn record(build: impl FnOnce(&mut dyn ParamSource) -> Result<()>) -> Result<Self> {
        let mut recorder = Recorder::default();
        build(&mut recorder)?;
        recorder.finish()
    }

    /// There is something to generate.
    pub(crate) fn ensure_parameters(&self, target: &str) -> Result<()> {
        if self.num_params == 0 {
            candle_core::bail!(
                "target {target} has no parameters, so there is nothing to generate"
            );
        }
        Ok(())
    }

    /// The parameters, in flat order.
    pub fn params(&self) -> &[ParamInfo] {
        &self.params
    }

    /// The tensors that are not generated.
    pub fn buffers(&self) -> &[BufferInfo] {
        &self.buffers
    }

    /// The length of the flat vector.
    pub fn num_params(&self) -> usize {
        self.num_params
    }

    /// SHA-256 over names, shapes and kinds in order, in hexadecimal: equal exactly where a flat
    /// vector of one target means the same in the other.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The path of the first layer that computes with one set of weights at a time, if there is one:
    /// several sets then take their turns. It is empty where a constructor builds the whole target. See [`TAKES_SETS`](crate::HyperLayer::TAKES_SETS).
    pub fn one_set_layer(&self) -> Option<&str> {
        self.one_set_layer.as_deref()
    }

    /// The parameter that holds the flat vector's value number `index`, if there is one.
    pub fn param_at(&self, index: usize) -> Option<&ParamInfo> {
        let after = self.params.partition_point(|param| param.offset <= index);
        let param = self.params.get(after.checked_sub(1)?)?;
        (index < param.offset + param.len()).then_some(param)
    }
}

impl std::fmt::Display for Layout {
    /// A line per parameter: offset, name, shape, kind.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = self.params.iter().map(|param| param.name.len()).max().unwrap_or(0);
        for param in &self.params {
            let (shape, kind) = (param.shape.dims(), param.kind.name());
            writeln!(f, "{:>10}  {:width$}  {shape:?} {kind}", param.offset, param.name)?;
        }
        write!(f, "{:>10}  parameters", self.num_params)
    }
}

/// Records what is asked of it and answers with zeros that take no memory.
#[derive(Default)]
struct Recorder {
    path: Vec<String>,
    params: Vec<ParamInfo>,
    buffers: Vec<BufferInfo>,
    num_params: usize,
    one_set_layer: Option<String>,
}

impl Recorder {
    fn name(&self, name: &str) -> String {
        let tail = (!name.is_empty()).then(|| name.to_owned());
        self.path.iter().cloned().chain(tail).collect::<Vec<_>>().join(".")
    }

    fn finish(self) -> Result<Layout> {
        let mut names: Vec<_> = self.params.iter().map(|param| param.name.as_str()).collect();
        names.extend(self.buffers.iter().map(|buffer| buffer.name.as_str()));
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            candle_core::bail!("two tensors of the target are named `{}`", pair[0]);
        }
        let hash = hash(&self.params);
        let Self { params, buffers, num_params, one_set_layer, .. } = self;
        Ok(Layout { params, buffers, num_params, hash, one_set_layer })
    }
}

impl ParamSource for Recorder {
    fn enter(&mut self, name: &str) {
        self.path.push(name.to_owned());
    }

    fn leave(&mut self) {
        self.path.pop();
    }

    fn param(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        let (name, shape) = (self.name(spec.name), Shape::from(spec.dims));
        if shape.elem_count() == 0 {
            candle_core::bail!("parameter `{name}` has no values: its shape is {:?}", spec.dims);
        }
        let offset = self.num_params;
        self.num_params += shape.elem_count();
        self.params.push(ParamInfo { name, shape, offset, kind: spec.kind, init: spec.init });
        zeros(spec.dims)
    }

    fn buffer(&mut self, spec: &ParamSpec<'_>) -> Result<Tensor> {
        let (name, shape) = (self.name(spec.name), Shape::from(spec.dims));
        self.buffers.push(BufferInfo { name, shape, init: spec.init });
        zeros(spec.dims)
    }

    fn takes_one_set(&mut self) {
        if self.one_set_layer.is_none() {
            self.one_set_layer = Some(self.name(""));
        }
    }
}

fn zeros(dims: &[usize]) -> Result<Tensor> {
    Tensor::zeros((), DType::F32, &Device::Cpu)?.broadcast_as(dims)
}

fn hash(params: &[ParamInfo]) -> String {
    let mut hasher = Sha256::new();
    for param in params {
        let (shape, kind) = (param.shape.dims(), param.kind.name());
        hasher.update(format!("{} {shape:?} {kind}\n", param.name));
    }
    hex(&hasher.finalize())
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
