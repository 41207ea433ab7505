//! What code by hand in plain candle shares: variables, and a vector cut by `narrow`.

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, Linear, Module, VarBuilder};

use super::Network;

/// A target as a function of its tensors, in flat order.
pub(super) type Target = fn(&[Tensor], &Tensor) -> Result<Tensor>;

/// Tensors `[dims…]`, or `[G, dims…]`, one after the other out of `[P]` or `[G, P]`.
pub(super) fn cut(flat: &Tensor, shapes: &[Vec<usize>]) -> Result<Vec<Tensor>> {
    let mut start = 0;
    let tensor = |dims: &Vec<usize>| {
        let len = dims.iter().product();
        let window = flat.narrow(D::Minus1, start, len)?;
        start += len;
        window.reshape([&flat.dims()[..flat.rank() - 1], dims].concat())
    };
    shapes.iter().map(tensor).collect()
}

/// `[out, in]` and `[out]` of each layer.
pub(super) fn linear_shapes(sizes: &[(usize, usize)]) -> Vec<Vec<usize>> {
    sizes.iter().flat_map(|&(inputs, outputs)| [vec![outputs, inputs], vec![outputs]]).collect()
}

pub(super) fn num_params(shapes: &[Vec<usize>]) -> usize {
    shapes.iter().map(|dims| dims.iter().product::<usize>()).sum()
}

/// The table `[N, E]` and the layers of a generator, the last of which gives the chunks.
pub(super) struct Generator {
    pub(super) embedding: Tensor,
    layers: Vec<Linear>,
}

impl Generator {
    /// Variables as those of a `table`, or another embedding's, and of `linear` or an `mlp`.
    pub(super) fn new(
        rows: usize,
        width: usize,
        hidden: Option<usize>,
        shapes: &[Vec<usize>],
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let chunk = num_params(shapes).div_ceil(rows);
        let init = Init::Randn { mean: 0., stdev: 1. };
        let embedding = vb.get_with_hints((rows, width), "embedding.weight", init)?;
        let vb = vb.pp("generator");
        let layers = match hidden {
            None => vec![candle_nn::linear(width, chunk, vb)?],
            Some(hidden) => vec![
                candle_nn::linear(width, hidden, vb.pp(0))?,
                candle_nn::linear(hidden, chunk, vb.pp(1))?,
            ],
        };
        Ok(Self { embedding, layers })
    }

    /// `[…, E]` to `[…, C]`, with `tanh` between the layers.
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let (first, rest) = (&self.layers[0], &self.layers[1..]);
        rest.iter().try_fold(first.forward(rows)?, |xs, layer| layer.forward(&xs.tanh()?))
    }
}

/// A static hypernetwork.
pub(super) fn hypernetwork(
    rows: usize,
    width: usize,
    hidden: Option<usize>,
    shapes: Vec<Vec<usize>>,
    target: Target,
    xs: Tensor,
    vb: &VarBuilder<'_>,
) -> Result<Network> {
    let generator = Generator::new(rows, width, hidden, &shapes, vb)?;
    let generate = move |generator: &Generator| {
        let flat = generator.forward(&generator.embedding)?.flatten_all()?;
        cut(&flat, &shapes)
    };
    let tensors = generate.clone();
    Ok(Network::hyper(generator, generate, move |generator| target(&tensors(generator)?, &xs)))
}

/// The target with variables of its own.
pub(super) fn plain(
    shapes: &[Vec<usize>],
    target: Target,
    xs: Tensor,
    vb: &VarBuilder<'_>,
) -> Result<Network> {
    let init = candle_nn::init::DEFAULT_KAIMING_NORMAL;
    let bias = Init::Uniform { lo: -0.1, up: 0.1 };
    let tensor = |(index, dims): (usize, &Vec<usize>)| {
        let init = if dims.len() > 1 { init } else { bias };
        vb.get_with_hints(dims.as_slice(), &index.to_string(), init)
    };
    let tensors = shapes.iter().enumerate().map(tensor).collect::<Result<Vec<_>>>()?;
    Ok(Network::new(move || target(&tensors, &xs)))
}

/// candle's linear layer number `index`.
pub(super) fn linear(tensors: &[Tensor], index: usize, xs: &Tensor) -> Result<Tensor> {
    let (weight, bias) = (&tensors[2 * index], &tensors[2 * index + 1]);
    Linear::new(weight.clone(), Some(bias.clone())).forward(xs)
}

/// Linear layers with ReLU between them.
pub(super) fn mlp(tensors: &[Tensor], xs: &Tensor) -> Result<Tensor> {
    let last = tensors.len() / 2 - 1;
    let xs = (0..last).try_fold(xs.clone(), |xs, index| linear(tensors, index, &xs)?.relu())?;
    linear(tensors, last, &xs)
}
