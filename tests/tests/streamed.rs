//! Parameters that are generated when a layer asks for them: the same outputs as generated at once, for every kind of layer
//! and of generator, and nothing to learn from.

#![allow(missing_docs, clippy::unwrap_used)]

use candle_core::{DType, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::generated::StreamedParams;
use hypernn::nn::{
    Conv1d, Conv1dConfig, Conv2d, ConvTranspose2d, Embedding, GRU, GroupNorm, LSTM, LayerNorm,
    Linear, PReLU, RNN,
};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
use hypernn_tests::{by_name, device, input, relative_error, variables};

/// A layer of each way in which layers take their tensors; none begins where a row does.
#[derive(HyperTarget)]
struct Net {
    #[hyper(embedding(5, 6))]
    table: Embedding,
    #[hyper(linear(6, 16))]
    up: Linear,
    #[hyper(layer_norm(16, 1e-5))]
    norm: LayerNorm,
    #[hyper(conv2d(1, 4, 3))]
    conv: Conv2d,
    #[hyper(group_norm(2, 4, 1e-5))]
    groups: GroupNorm,
    #[hyper(conv_transpose2d(4, 2, 2))]
    back: ConvTranspose2d,
    #[hyper(prelu(Some(2)))]
    slope: PReLU,
    #[hyper(conv1d(2, 3, 3, Conv1dConfig { padding: 1, ..Default::default() }))]
    line: Conv1d,
    #[hyper(gru(9, 4))]
    cell: GRU,
    #[hyper(linear_no_bias(4, 3))]
    inner: candle_nn::Linear,
    #[hyper(tensor([3]))]
    factor: Tensor,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let batch = xs.dim(0)?;
        let ys = self.norm.forward(&self.up.forward(&self.table.forward(xs)?)?)?;
        let ys = self.conv.forward(&ys.reshape((batch, 1, 4, 4))?)?;
        let ys = self.slope.forward(&self.back.forward(&self.groups.forward(&ys)?)?)?;
        let ys = self.line.forward(&ys.reshape((batch, 2, 9))?)?;
        let (mut state, steps) = (self.cell.zero_state(batch)?, ys.dim(1)?);
        for step in 0..steps {
            state = self.cell.step(&ys.narrow(1, step, 1)?.squeeze(1)?, &state)?;
        }
        self.inner.forward(&state.h)?.broadcast_mul(&self.factor)
    }
}

hypernetwork! {
    struct Chunked for Net { embedding: table(7, 3), generator: linear, mode: static }

    struct Whole for Net { embedding: table(1, 3), generator: mlp([8], tanh), mode: static }

    struct Heads for Net { embedding: table(1, 3), generator: heads, mode: static }
}

/// What both give, and whether a gradient flows.
fn assert_same<T: Module>(
    streamed: &StreamedParams<T>,
    params: &GeneratedParams<T>,
    xs: &Tensor,
    tolerance: f64,
) -> Result<()> {
    let (found, expected) = (streamed.forward(xs)?, params.detach().forward(xs)?);
    let error = relative_error(&found, &expected)?;
    assert!(error < tolerance, "{error}");
    assert!(!found.track_op());
    assert_eq!(streamed.num_sets(), params.num_sets());
    assert_eq!(streamed.layout().hash(), params.layout().hash());
    // Again, and as an ordinary target.
    let again = streamed.clone().forward(xs)?;
    assert!(relative_error(&again, &expected)? < tolerance);
    if params.num_sets().is_none() {
        let ys = streamed.unpack()?.forward(xs)?;
        assert!(relative_error(&ys, &expected)? < tolerance);
    }
    Ok(())
}

/// Moves all variables, so that norms, which start at constants, are what is generated.
fn moved(vars: &VarMap) -> Result<()> {
    for (i, var) in by_name(vars).values().enumerate() {
        var.set(&(var.as_tensor() + (input(var.dims(), i as u64, var.dtype())? * 0.3)?)?)?;
    }
    Ok(())
}

#[test]
fn every_kind_of_layer_gets_what_is_generated() -> Result<()> {
    let indexes = Tensor::new(&[0u32, 3, 4], device())?;
    for dtype in [DType::F32, DType::F64] {
        let (vars, vb) = variables(1, dtype);
        let (chunked, whole) = (Chunked::new(vb.pp("a"))?, Whole::new(vb.pp("b"))?);
        let heads = Heads::new(vb.pp("c"))?;
        moved(&vars)?;
        let tolerance = if dtype == DType::F64 { 1e-12 } else { 1e-4 };
        assert_same(&chunked.stream_params()?, &chunked.generate_params()?, &indexes, tolerance)?;
        assert_same(&whole.stream_params()?, &whole.generate_params()?, &indexes, tolerance)?;
        assert_same(&heads.stream_params()?, &heads.generate_params()?, &indexes, tolerance)?;
    }
    Ok(())
}

#[test]
fn a_target_has_a_dtype_of_its_own() -> Result<()> {
    let (vars, vb) = variables(2, DType::F32);
    let hyper = Chunked::new(vb)?.with_target_dtype(DType::F64)?;
    moved(&vars)?;
    let indexes = Tensor::new(&[2u32, 1], device())?;
    assert_same(&hyper.stream_params()?, &hyper.generate_params()?, &indexes, 1e-5)?;
    assert_eq!(hyper.stream_params()?.forward(&indexes)?.dtype(), DType::F64);
    Ok(())
}

/// Layers that take several sets at once.
#[derive(HyperTarget)]
struct Pair {
    #[hyper(linear(4, 16))]
    first: Linear,
    #[hyper(linear(16, 3))]
    second: Linear,
}

impl Module for Pair {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.tanh()?)
    }
}

/// A layer of candle's, whose sets take their turns.
#[derive(HyperTarget)]
struct InTurn {
    #[hyper(linear(4, 16))]
    first: Linear,
    #[hyper(linear(16, 3))]
    second: candle_nn::Linear,
}

impl Module for InTurn {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.tanh()?)
    }
}

hypernetwork! {
    struct Encoded for Pair { embedding: encoder(2, [8], tanh, 9, 3), generator: linear, mode: dynamic }

    struct Recurrent for Pair { embedding: rnn(2, 9, 3), generator: linear, mode: dynamic }

    struct PerModule for Pair {
        roles: [("*", generate)],
        embedding: encoder(2, [8], tanh, 1, 8),
        generator: per_module(8, [16], tanh),
        mode: dynamic,
    }

    struct Turns for InTurn { embedding: encoder(2, [8], tanh, 9, 3), generator: linear, mode: dynamic }
}

#[test]
fn sets_are_streamed_together() -> Result<()> {
    let (vars, vb) = variables(3, DType::F64);
    let (encoded, recurrent) = (Encoded::new(vb.pp("a"))?, Recurrent::new(vb.pp("b"))?);
    let (modules, turns) = (PerModule::new(vb.pp("c"))?, Turns::new(vb.pp("d"))?);
    moved(&vars)?;
    let xs = input(&[6, 4], 7, DType::F64)?;
    for dims in [&[2][..], &[1, 2], &[3, 2]] {
        let condition = &input(dims, 8, DType::F64)?;
        let (streamed, params) =
            (encoded.stream_params(condition)?, encoded.generate_params(condition)?);
        assert_same(&streamed, &params, &xs, 1e-12)?;
        let (streamed, params) =
            (recurrent.stream_params(condition)?, recurrent.generate_params(condition)?);
        assert_same(&streamed, &params, &xs, 1e-12)?;
        let (streamed, params) =
            (modules.stream_params(condition)?, modules.generate_params(condition)?);
        assert_same(&streamed, &params, &xs, 1e-12)?;
        let (streamed, params) =
            (turns.stream_params(condition)?, turns.generate_params(condition)?);
        assert_same(&streamed, &params, &xs, 1e-12)?;
    }
    Ok(())
}

hypernetwork! {
    struct Roles for Pair {
        roles: [("first.weight", lora(2, 4.)), ("first.bias", train), ("second.bias", freeze)],
        embedding: table(5, 3),
        generator: linear,
        mode: static,
    }
}

/// Adapters, trained and frozen tensors, and what starts from a pretrained network.
#[test]
fn kept_tensors_and_adapters_are_served() -> Result<()> {
    let base = VarMap::new();
    let vb = || VarBuilder::from_varmap(&base, DType::F64, device());
    Pair::new(vb())?;
    let (vars, builder) = variables(4, DType::F64);
    let hyper = Roles::new_from(builder, vb())?;
    moved(&vars)?;
    let xs = input(&[5, 4], 9, DType::F64)?;
    assert_same(&hyper.stream_params()?, &hyper.generate_params()?, &xs, 1e-12)
}

/// What asks a layer for its weight is shown it.
#[test]
fn weights_are_shown() -> Result<()> {
    let (_, vb) = variables(5, DType::F64);
    let hyper = Encoded::new(vb)?;
    let condition = input(&[2], 8, DType::F64)?;
    let (net, params) =
        (hyper.stream_params(&condition)?.unpack()?, hyper.generate_params(&condition)?);
    for ((_, expected), found) in
        params.tensors().zip([net.first.weight(), net.first.bias().unwrap(), net.second.weight()])
    {
        assert!(relative_error(found, expected)? < 1e-12);
    }
    assert!(relative_error(&net.pack()?, &params.flat()?)? < 1e-12);
    Ok(())
}

/// A cell takes its tensors once for all steps, and two cells do not take each other's.
#[derive(HyperTarget)]
struct Cells {
    #[hyper(gru(3, 4))]
    first: GRU,
    #[hyper(lstm(4, 4))]
    second: LSTM,
}

impl Module for Cells {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut states = (self.first.zero_state(xs.dim(0)?)?, self.second.zero_state(xs.dim(0)?)?);
        for _ in 0..3 {
            states.0 = self.first.step(xs, &states.0)?;
            states.1 = self.second.step(&states.0.h, &states.1)?;
        }
        Ok(states.1.h)
    }
}

hypernetwork! {
    struct HyperCells for Cells { embedding: table(6, 3), generator: linear, mode: static }
}

#[test]
fn recurrent_cells_are_streamed() -> Result<()> {
    let (_, vb) = variables(6, DType::F64);
    let hyper = HyperCells::new(vb)?;
    let xs = input(&[2, 3], 9, DType::F64)?;
    assert_same(&hyper.stream_params()?, &hyper.generate_params()?, &xs, 1e-12)
}
