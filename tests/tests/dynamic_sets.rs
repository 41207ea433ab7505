//! Many sets at once equal a loop over the sets: outputs and all gradients, whatever the embedding,
//! the generator and the target's layers.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var};
use candle_nn::VarMap;
use hypernn::hypernetwork::DynamicHyperNetwork;
use hypernn::nn::{self, GRUState, LSTMState, RNN};
use hypernn::{FixedTarget, GeneratedParams, HyperTarget};
use hypernn_tests::dynamic::{Embedding, Generator, Sizes, conditions, kinds, network};
use hypernn_tests::{
    by_name, gradients, input, message, relative_error, values, variable, variables, weighted_sum,
};
use proptest::prelude::*;

/// A target of one row's shape.
trait Row: HyperTarget<Config = ()> + FixedTarget + Module {
    const DIMS: &'static [usize];
}

/// A target of one layer.
macro_rules! layer {
    ($name:ident, $dims:expr, ($($layer:tt)*), $ty:ty, |$layer_name:ident, $xs:ident| $forward:expr) => {
        #[derive(HyperTarget)]
        pub(super) struct $name {
            #[hyper($($layer)*)]
            layer: $ty,
        }

        impl Module for $name {
            fn forward(&self, $xs: &Tensor) -> Result<Tensor> {
                let $layer_name = &self.layer;
                $forward
            }
        }

        impl Row for $name {
            const DIMS: &'static [usize] = &$dims;
        }
    };
    ($name:ident, $dims:expr, ($($layer:tt)*), $ty:ty) => {
        layer!($name, $dims, ($($layer)*), $ty, |layer, xs| layer.forward(xs));
    };
}

/// Indices below 5 from numbers in -1..1.
fn indices(xs: &Tensor) -> Result<Tensor> {
    xs.detach().affine(2.4, 2.5)?.to_dtype(DType::U32)
}

/// The states of all steps.
fn gru<R: RNN<State = GRUState>>(rnn: &R, xs: &Tensor) -> Result<Tensor> {
    let states = rnn.seq(xs)?;
    Tensor::stack(&states.iter().map(|state| &state.h).collect::<Vec<_>>(), 1)
}

fn lstm<R: RNN<State = LSTMState>>(rnn: &R, xs: &Tensor) -> Result<Tensor> {
    let states = rnn.seq(xs)?;
    Tensor::cat(&states.iter().flat_map(|state| [&state.h, &state.c]).collect::<Vec<_>>(), 1)
}

/// A bare tensor is the target's to apply: `[3]`, or `[G, 3]`.
fn scaled(scale: &Tensor, xs: &Tensor) -> Result<Tensor> {
    let sets = if scale.rank() > 1 { scale.dim(0)? } else { 1 };
    let by_set = xs.reshape((sets, (), 3))?;
    by_set.broadcast_mul(&scale.reshape((sets, 1, 3))?)?.reshape(xs.shape())
}

mod ours {
    use super::*;

    layer!(Linear2, [5], (linear(5, 3)), nn::Linear);
    layer!(Linear3, [2, 5], (linear(5, 3)), nn::Linear);
    layer!(Linear4, [2, 3, 5], (linear_no_bias(5, 3)), nn::Linear);
    layer!(Conv1, [2, 7], (conv1d(2, 3, 3, stride = 2, padding = 1)), nn::Conv1d);
    layer!(Conv1Wide, [4, 9], (conv1d(4, 2, 3, dilation = 2, groups = 2)), nn::Conv1d);
    layer!(Conv2, [2, 5, 7], (conv2d(2, 3, 3, stride = 2, padding = 1)), nn::Conv2d);
    layer!(Conv2Groups, [4, 5, 3], (conv2d(4, 6, 3, padding = 1, groups = 2)), nn::Conv2d);
    layer!(Conv2Wide, [3, 7, 6], (conv2d_no_bias(3, 2, 3, dilation = 2)), nn::Conv2d);
    layer!(
        ConvTranspose1,
        [2, 5],
        (conv_transpose1d(2, 3, 3, stride = 2, padding = 1, output_padding = 1)),
        nn::ConvTranspose1d
    );
    layer!(
        ConvTranspose1Groups,
        [4, 3],
        (conv_transpose1d(4, 6, 3, groups = 2, dilation = 2)),
        nn::ConvTranspose1d
    );
    layer!(
        ConvTranspose2,
        [2, 3, 5],
        (conv_transpose2d(2, 3, 3, stride = 2, padding = 1, output_padding = 1)),
        nn::ConvTranspose2d
    );
    layer!(
        ConvTranspose2Wide,
        [3, 2, 3],
        (conv_transpose2d_no_bias(3, 2, 2, dilation = 2)),
        nn::ConvTranspose2d
    );
    layer!(Embedding, [4], (embedding(5, 3)), nn::Embedding, |layer, xs| layer
        .forward(&indices(xs)?));
    layer!(LayerNorm, [3, 5], (layer_norm(5, 1e-5)), nn::LayerNorm);
    layer!(RmsNorm, [5], (rms_norm(5, 1e-5)), nn::RmsNorm);
    layer!(GroupNorm, [4, 3], (group_norm(2, 4, 1e-5)), nn::GroupNorm);
    layer!(BatchNorm, [3, 5], (batch_norm(3, 1e-5)), nn::BatchNorm, |layer, xs| layer
        .forward_t(xs, true));
    layer!(PReLU, [3, 4], (prelu(Some(3))), nn::PReLU);
    layer!(Gru, [3, 2], (gru(2, 3)), nn::GRU, |layer, xs| gru(layer, xs));
    layer!(Lstm, [3, 2], (lstm(2, 3)), nn::LSTM, |layer, xs| lstm(layer, xs));
    layer!(Bare, [2, 3], (tensor([3], sets = true)), Tensor, |layer, xs| scaled(layer, xs));
}

/// The same of candle's layers, which take one set of weights.
mod candles {
    use super::*;

    layer!(Linear2, [5], (linear(5, 3)), candle_nn::Linear);
    layer!(Linear3, [2, 5], (linear(5, 3)), candle_nn::Linear);
    layer!(Conv2, [2, 5, 7], (conv2d(2, 3, 3, stride = 2, padding = 1)), candle_nn::Conv2d);
    layer!(
        ConvTranspose2,
        [2, 3, 5],
        (conv_transpose2d(2, 3, 3, stride = 2, padding = 1, output_padding = 1)),
        candle_nn::ConvTranspose2d
    );
    layer!(Embedding, [4], (embedding(5, 3)), candle_nn::Embedding, |layer, xs| layer
        .forward(&indices(xs)?));
    layer!(GroupNorm, [4, 3], (group_norm(2, 4, 1e-5)), candle_nn::GroupNorm);
    layer!(BatchNorm, [3, 5], (batch_norm(3, 1e-5)), candle_nn::BatchNorm, |layer, xs| layer
        .forward_t(xs, true));
    layer!(PReLU, [3, 4], (prelu(Some(3))), candle_nn::PReLU);
    layer!(Gru, [3, 2], (gru(2, 3)), candle_nn::GRU, |layer, xs| gru(layer, xs));
    layer!(Lstm, [3, 2], (lstm(2, 3)), candle_nn::LSTM, |layer, xs| lstm(layer, xs));
}

/// A block inside of a network, once of our layers and once of candle's.
macro_rules! block_network {
    ($block:ident, $network:ident, $conv:ty, $linear:ty) => {
        #[derive(HyperTarget)]
        struct $block {
            #[hyper(linear(6, 6))]
            fc: $linear,
        }

        #[derive(HyperTarget)]
        struct $network {
            #[hyper(conv2d(1, 2, 3, padding = 1))]
            conv: $conv,
            #[hyper(group_norm(2, 2, 1e-5))]
            norm: nn::GroupNorm,
            #[hyper([target; 2])]
            blocks: Vec<$block>,
            #[hyper(linear(6, 6))]
            out: nn::Linear,
            #[hyper(linear(6, 6), tie(weight = out.weight))]
            tied: nn::Linear,
        }

        impl Module for $network {
            fn forward(&self, xs: &Tensor) -> Result<Tensor> {
                let ys = self.norm.forward(&self.conv.forward(xs)?)?.tanh()?;
                let mut ys = ys.mean(1)?.flatten_from(1)?;
                for block in &self.blocks {
                    ys = (&ys + block.fc.forward(&ys)?.tanh()?)?;
                }
                self.out.forward(&self.tied.forward(&ys)?)
            }
        }

        impl Row for $network {
            const DIMS: &'static [usize] = &[1, 2, 3];
        }
    };
}

block_network!(OurBlock, OurNetwork, nn::Conv2d, nn::Linear);
block_network!(MixedBlock, MixedNetwork, nn::Conv2d, candle_nn::Linear);

/// One comparison.
#[derive(Clone, Copy, Debug)]
struct Case {
    kinds: (Embedding, Generator),
    sizes: Sizes,
    sets: usize,
    /// Rows per set.
    rows: usize,
    dtype: DType,
}

impl Case {
    fn bound(&self) -> f64 {
        if self.dtype == DType::F64 { 1e-12 } else { 1e-5 }
    }
}

/// Errors by name.
type Errors = BTreeMap<String, f64>;

/// An output and the gradients behind it, by name.
struct Found {
    ys: Tensor,
    grads: BTreeMap<String, Tensor>,
}

impl Found {
    fn new(vars: &VarMap, ys: Tensor) -> Result<Self> {
        let grads = gradients(vars, &weighted_sum(&ys)?)?;
        Ok(Self { ys, grads })
    }

    /// How far the tensor `name` is from the expected one.
    fn errors(&self, expected: &Self) -> Result<Errors> {
        let mut errors = Errors::from([("ys".to_owned(), relative_error(&self.ys, &expected.ys)?)]);
        for (name, grad) in &self.grads {
            errors.insert(name.clone(), relative_error(grad, &expected.grads[name])?);
        }
        Ok(errors)
    }

    /// Equal within the case's bound, and wider by as much as the loop itself is less exact than
    /// usual: a gradient that is a small difference of large terms has fewer digits.
    fn check(
        &self,
        expected: &Self,
        yardstick: &Errors,
        (what, case): (&str, &Case),
    ) -> Result<()> {
        assert_eq!(self.grads.len(), expected.grads.len());
        for (name, error) in self.errors(expected)? {
            let bound = case.bound() * (yardstick[&name] / 1e-6).max(1.);
            assert!(
                error <= bound,
                "{what} in {case:?}: {name} differs by {error:e}, bound {bound:e}"
            );
        }
        Ok(())
    }
}

/// A hypernetwork with its condition and input among its variables.
struct Setting<T: HyperTarget> {
    vars: VarMap,
    hyper: DynamicHyperNetwork<T>,
    conditions: Var,
    xs: Var,
}

impl<T: Row> Setting<T> {
    fn new(case: &Case) -> Result<Self> {
        let (vars, vb) = variables(case.sizes.width as u64, case.dtype);
        let hyper = network::<T>(case.kinds, case.sizes, vb)?;
        let conditions = conditions(case.kinds.0, &[case.sets], case.sizes.width, case.dtype)?;
        let dims: Vec<_> = [case.sets * case.rows].iter().chain(T::DIMS).copied().collect();
        let xs = Var::from_tensor(&input(&dims, 3, case.dtype)?)?;
        let mut inputs = vec![("xs", &xs)];
        if case.kinds.0 != Embedding::Tasks {
            inputs.push(("condition", &conditions));
        }
        for (name, var) in inputs {
            vars.data().lock().unwrap().insert(name.to_owned(), var.clone());
        }
        Ok(Self { vars, hyper, conditions, xs })
    }

    /// The error of the loop in f32, by the loop in f64 with the same variables.
    fn yardstick(&self, case: &Case) -> Result<Errors> {
        let loop_in = |dtype| {
            let case = Case { dtype, ..*case };
            let other = Self::new(&case)?;
            for (name, var) in by_name(&other.vars) {
                var.set(&variable(&self.vars, &name)?.to_dtype(DType::F32)?.to_dtype(dtype)?)?;
            }
            other.apart(&case)
        };
        let (single, double) = (loop_in(DType::F32)?, loop_in(DType::F64)?);
        single.errors(&double)
    }

    fn together(&self) -> Result<Found> {
        let params = self.hyper.generate_params(&self.conditions)?;
        Found::new(&self.vars, params.forward(&self.xs)?)
    }

    /// Each set generated by itself and applied to its own rows.
    fn apart(&self, case: &Case) -> Result<Found> {
        let one = |set: usize| {
            let params = self.hyper.generate_params(&self.conditions.get(set)?)?;
            assert_eq!(params.num_sets(), None);
            let xs = self.xs.narrow(0, set * case.rows, case.rows)?.contiguous()?;
            params.unpack()?.forward(&xs)
        };
        let ys = (0..case.sets).map(one).collect::<Result<Vec<_>>>()?;
        Found::new(&self.vars, Tensor::cat(&ys, 0)?)
    }
}

fn check<T: Row>(case: &Case) -> Result<()> {
    let setting = Setting::<T>::new(case)?;
    let apart = setting.apart(case)?;
    setting.together()?.check(&apart, &setting.yardstick(case)?, (T::NAME, case))
}

/// The target of candle's layers gives what that of ours gives.
fn check_same<T: Row, Candle: Row>(case: &Case) -> Result<()> {
    let (ours, candles) = (Setting::<T>::new(case)?, Setting::<Candle>::new(case)?);
    assert!(T::layout()?.one_set_layer().is_none() && Candle::layout()?.one_set_layer().is_some());
    let (what, yardstick) = (format!("candle's {}", T::NAME), ours.yardstick(case)?);
    candles.together()?.check(&ours.together()?, &yardstick, (&what, case))?;
    check::<Candle>(case)
}

type Check = fn(&Case) -> Result<()>;

const CHECKS: &[Check] = &[
    check::<ours::Linear2>,
    check::<ours::Linear3>,
    check::<ours::Linear4>,
    check::<ours::Conv1>,
    check::<ours::Conv1Wide>,
    check::<ours::Conv2>,
    check::<ours::Conv2Groups>,
    check::<ours::Conv2Wide>,
    check::<ours::ConvTranspose1>,
    check::<ours::ConvTranspose1Groups>,
    check::<ours::ConvTranspose2>,
    check::<ours::ConvTranspose2Wide>,
    check::<ours::Embedding>,
    check::<ours::LayerNorm>,
    check::<ours::RmsNorm>,
    check::<ours::GroupNorm>,
    check::<ours::BatchNorm>,
    check::<ours::PReLU>,
    check::<ours::Gru>,
    check::<ours::Lstm>,
    check::<ours::Bare>,
    check::<OurNetwork>,
    check_same::<ours::Linear2, candles::Linear2>,
    check_same::<ours::Linear3, candles::Linear3>,
    check_same::<ours::Conv2, candles::Conv2>,
    check_same::<ours::ConvTranspose2, candles::ConvTranspose2>,
    check_same::<ours::Embedding, candles::Embedding>,
    check_same::<ours::GroupNorm, candles::GroupNorm>,
    check_same::<ours::BatchNorm, candles::BatchNorm>,
    check_same::<ours::PReLU, candles::PReLU>,
    check_same::<ours::Gru, candles::Gru>,
    check_same::<ours::Lstm, candles::Lstm>,
    check_same::<OurNetwork, MixedNetwork>,
];

const SIZES: Sizes = Sizes { width: 3, num_embeddings: 5, embedding_dim: 3 };

#[test]
fn every_layer() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let kinds = (Embedding::Rnn, Generator::Linear);
        let case = Case { kinds, sizes: SIZES, sets: 3, rows: 2, dtype };
        CHECKS.iter().try_for_each(|check| check(&case))?;
    }
    Ok(())
}

#[test]
fn every_embedding_with_every_generator() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for kinds in kinds() {
            check::<OurNetwork>(&Case { kinds, sizes: SIZES, sets: 3, rows: 2, dtype })?;
        }
    }
    Ok(())
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1..5usize, 2..9usize, 1..5usize);
    let sizes = sizes.prop_map(|(width, num_embeddings, embedding_dim)| Sizes {
        width,
        num_embeddings,
        embedding_dim,
    });
    let dtype = prop_oneof![Just(DType::F32), Just(DType::F64)];
    (prop::sample::select(kinds()), sizes, 1..6usize, 1..4usize, dtype)
        .prop_map(|(kinds, sizes, sets, rows, dtype)| Case { kinds, sizes, sets, rows, dtype })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sizes(case in cases(), check in prop::sample::select(CHECKS.to_vec())) {
        check(&case).unwrap();
    }
}

/// A gradient that is a small difference of large terms, which needs sums that are more exact than f32.
#[test]
fn a_gradient_of_few_digits() -> Result<()> {
    let sizes = Sizes { width: 1, num_embeddings: 5, embedding_dim: 3 };
    let kinds = (Embedding::Rnn, Generator::Linear);
    check::<ours::Linear4>(&Case { kinds, sizes, sets: 5, rows: 1, dtype: DType::F32 })
}

/// Several flat vectors, without a hypernetwork.
#[test]
fn flat_vectors_of_a_candle_target() -> Result<()> {
    let flat = input(&[3, MixedNetwork::NUM_PARAMS], 1, DType::F64)?;
    let xs = input(&[6, 1, 2, 3], 2, DType::F64)?;
    let (flat, xs) = (Var::from_tensor(&flat)?, Var::from_tensor(&xs)?);
    let ours = OurNetwork::functional_forward(&flat, &xs)?;
    let candles = MixedNetwork::functional_forward(&flat, &xs)?;
    assert!(relative_error(&candles, &ours)? <= 1e-12);
    let (ours, candles) = (weighted_sum(&ours)?.backward()?, weighted_sum(&candles)?.backward()?);
    for var in [&flat, &xs] {
        assert!(relative_error(candles.get(var).unwrap(), ours.get(var).unwrap())? <= 1e-12);
    }
    Ok(())
}

#[test]
fn a_set_by_itself() -> Result<()> {
    let flat = input(&[3, MixedNetwork::NUM_PARAMS], 1, DType::F64)?;
    let params = GeneratedParams::<MixedNetwork>::from_flat(&(), &flat)?;
    for set in 0..3 {
        let one = params.set(set)?;
        assert_eq!(one.num_sets(), None);
        assert_eq!(values(&one.flat()?)?, values(&flat.get(set)?)?);
        assert_eq!(values(&one.unpack()?.pack()?)?, values(&flat.get(set)?)?);
    }
    assert_eq!(message(params.set(3)), "there is no set 3, expected one of 3");
    assert_eq!(message(params.set(0)?.set(0)), "there is no set 0: one set serves every row");
    Ok(())
}

#[test]
fn several_sets_are_no_target_of_candle_layers() -> Result<()> {
    let flat = input(&[3, MixedNetwork::NUM_PARAMS], 1, DType::F64)?;
    assert_eq!(
        message(MixedNetwork::unpack(&flat)),
        "layer `blocks.0.fc` of MixedNetwork computes with one set of weights at a time, but these \
         are 3: unpack `params.set(i)?` for each, or take the layer from `hypernn::nn`"
    );
    // One of one set is.
    let net = MixedNetwork::unpack(&flat.narrow(0, 1, 1)?)?;
    assert_eq!(values(&net.pack()?)?, values(&flat.get(1)?)?);
    Ok(())
}

#[test]
fn rows_that_sets_cannot_share() -> Result<()> {
    let xs = input(&[7, 1, 2, 3], 2, DType::F64)?;
    let flat = input(&[3, OurNetwork::NUM_PARAMS], 1, DType::F64)?;
    assert_eq!(
        message(OurNetwork::functional_forward(&flat, &xs)),
        "conv2d: a batch of 7 rows can't be shared out among 3 weight sets, expected a multiple"
    );
    assert_eq!(
        message(MixedNetwork::functional_forward(&flat, &xs)),
        "MixedNetwork: a batch of 7 rows can't be shared out among 3 weight sets, expected a multiple"
    );
    Ok(())
}
