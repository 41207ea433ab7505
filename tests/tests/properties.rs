//! Properties of targets of random architectures: packing, layouts and their hashes.

#![allow(missing_docs)]

use std::collections::BTreeSet;

use candle_core::{DType, Module, Result, Tensor, Var};
use hypernn::generated::TargetPlan;
use hypernn::nn::{Conv1d, LayerNorm, Linear, PReLU};
use hypernn::{GeneratedParams, HyperTarget, Layout};
use hypernn_tests::{by_name, input, values, variables};
use proptest::prelude::*;

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    width: usize,
    /// The hidden widths of each block.
    blocks: Vec<BlockConfig>,
    scale: bool,
    slopes: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BlockConfig {
    width: usize,
    hidden: usize,
    kernel: usize,
    bias: bool,
    norm: bool,
    depth: usize,
}

/// A residual block over vectors.
#[derive(HyperTarget)]
#[hyper(config = BlockConfig)]
struct Block {
    #[hyper(if config.norm { layer_norm(config.width, 1e-5) })]
    norm: Option<LayerNorm>,
    #[hyper(linear_b(config.width, config.hidden, config.bias))]
    up: Linear,
    #[hyper([conv1d(1, 1, config.kernel, padding = config.kernel / 2); config.depth])]
    mix: Vec<Conv1d>,
    #[hyper(linear(config.hidden, config.width), name = "out")]
    down: Box<Linear>,
}

impl Module for Block {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = self.norm.as_ref().map_or_else(|| Ok(xs.clone()), |norm| norm.forward(xs))?;
        let ys = self.up.forward(&ys)?.tanh()?.unsqueeze(1)?;
        let ys = self.mix.iter().try_fold(ys, |ys, conv| conv.forward(&ys))?;
        xs + self.down.forward(&ys.squeeze(1)?)?
    }
}

/// One block may come before the list, so that a path holds an `Option` of a target.
#[derive(HyperTarget)]
#[hyper(config = Config)]
struct Net {
    #[hyper(if config.scale { tensor([config.width]) })]
    scale: Option<Tensor>,
    #[hyper(if config.blocks.len() > 1 { target(&config.blocks[0]) })]
    head: Option<Block>,
    #[hyper([target(&config.blocks[config.blocks.len() - 1]); config.blocks.len()])]
    blocks: Vec<Block>,
    #[hyper(prelu(config.slopes))]
    activation: PReLU,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = xs.clone();
        if let Some(scale) = &self.scale {
            xs = xs.broadcast_mul(scale)?;
        }
        for block in self.head.iter().chain(&self.blocks) {
            xs = block.forward(&xs)?;
        }
        self.activation.forward(&xs)
    }
}

prop_compose! {
    fn block(width: usize)(
        hidden in 1..6usize,
        half in 0..3usize,
        bias: bool,
        norm: bool,
        depth in 0..3usize,
    ) -> BlockConfig {
        BlockConfig { width, hidden, kernel: 2 * half + 1, bias, norm, depth }
    }
}

fn config() -> impl Strategy<Value = Config> {
    (1..8usize).prop_flat_map(|width| {
        let blocks = proptest::collection::vec(block(width), 1..4);
        (blocks, any::<bool>(), any::<bool>()).prop_map(move |(blocks, scale, channels)| {
            let slopes = channels.then_some(width);
            Config { width, blocks, scale, slopes }
        })
    })
}

fn layout(config: &Config) -> Result<Layout> {
    Ok(TargetPlan::<Net>::new(config)?.layout().clone())
}

/// A network of its own variables and its flat vector.
fn packed(config: &Config, seed: u64, dtype: DType) -> Result<(Net, Tensor)> {
    let net = Net::with_config(config, variables(seed, dtype).1)?;
    let flat = TargetPlan::new(config)?.pack(&net)?;
    Ok((net, flat))
}

/// The forward over the flat vector is the network's own, in every bit.
fn same_forward(config: &Config, seed: u64) -> Result<bool> {
    let (net, flat) = packed(config, seed, DType::F32)?;
    let xs = input(&[3, config.width], seed, DType::F32)?;
    let functional = GeneratedParams::<Net>::from_flat(config, &flat)?.forward(&xs)?;
    Ok(values(&functional)? == values(&net.forward(&xs)?)?)
}

/// Several sets in one pass are the sets one after the other.
fn sets_error(config: &Config, seed: u64) -> Result<f64> {
    let flats = [packed(config, seed, DType::F64)?.1, packed(config, seed + 1, DType::F64)?.1];
    let xs = input(&[4, config.width], seed, DType::F64)?;
    let together =
        GeneratedParams::<Net>::from_flat(config, &Tensor::stack(&flats, 0)?)?.forward(&xs)?;
    let one = |i: usize| {
        GeneratedParams::<Net>::from_flat(config, &flats[i])?.forward(&xs.narrow(0, 2 * i, 2)?)
    };
    hypernn_tests::relative_error(&together, &Tensor::cat(&[one(0)?, one(1)?], 0)?)
}

/// Packing undoes unpacking, for one set and for two, and so it does to gradients.
fn round_trip(config: &Config, seed: u64) -> Result<()> {
    let count = layout(config)?.num_params();
    for dims in [vec![count], vec![2, count]] {
        // A network of bare tensors holds one set.
        if config.scale && dims.len() > 1 {
            continue;
        }
        let flat = Var::from_tensor(&input(&dims, seed, DType::F32)?)?;
        let again = TargetPlan::new(config)?
            .pack(&GeneratedParams::<Net>::from_flat(config, &flat)?.unpack()?)?;
        assert_eq!(again.dims(), dims);
        assert_eq!(values(&again)?, values(&flat)?);
        let factors = input(&dims, seed + 1, DType::F32)?;
        let grads = (again * &factors)?.sum_all()?.backward()?;
        assert_eq!(grads.get(&flat).map(values).transpose()?, Some(values(&factors)?));
    }
    Ok(())
}

/// Offsets follow one another, and each value belongs to the parameter that is said to hold it.
fn contiguous(layout: &Layout) {
    let mut end = 0;
    for param in layout.params() {
        assert_eq!(param.offset, end, "{}", param.name);
        end += param.len();
        for index in [param.offset, end - 1] {
            let found = layout.param_at(index).map(|found| &found.name);
            assert_eq!(found, Some(&param.name));
        }
    }
    assert_eq!(layout.num_params(), end);
    assert!(layout.param_at(end).is_none());
}

/// Names and shapes are those of the variables that the network takes from a builder.
fn names_are_those_of_variables(config: &Config) -> Result<()> {
    let (vars, vb) = variables(0, DType::F32);
    Net::with_config(config, vb)?;
    let variables: BTreeSet<_> =
        by_name(&vars).into_iter().map(|(name, var)| (name, var.dims().to_vec())).collect();
    let layout = layout(config)?;
    let named = layout.params().iter().map(|p| (p.name.clone(), p.shape.dims().to_vec()));
    assert_eq!(named.collect::<BTreeSet<_>>(), variables);
    Ok(())
}

/// What a flat vector means: names and shapes in order.
fn meaning(config: &Config) -> Result<Vec<(String, Vec<usize>)>> {
    let layout = layout(config)?;
    Ok(layout.params().iter().map(|p| (p.name.clone(), p.shape.dims().to_vec())).collect())
}

/// Fields in the order of the flat vector: the order of declaration, weight before bias.
fn declaration_order(config: &Config) -> Result<()> {
    let order = ["scale", "head", "blocks", "activation"];
    let inner = ["norm", "up", "mix", "out"];
    let place = |name: &str| {
        let mut parts = name.split('.').peekable();
        let field = parts.next().and_then(|field| order.iter().position(|x| *x == field));
        let mut path = vec![field.unwrap_or(order.len())];
        path.extend(parts.map(|part| match part {
            "weight" => 0,
            "bias" => 1,
            part => part.parse().ok().or(inner.iter().position(|x| *x == part)).unwrap_or(99),
        }));
        path
    };
    let places: Vec<_> = meaning(config)?.iter().map(|(name, _)| place(name)).collect();
    assert!(places.is_sorted(), "{places:?}");
    Ok(())
}

proptest! {
    #[test]
    fn a_functional_forward_is_the_networks_own(config in config(), seed in 0..1000u64) {
        prop_assert!(same_forward(&config, seed).map_err(fail)?);
    }

    #[test]
    fn several_sets_are_the_sets_one_by_one(config in config(), seed in 0..1000u64) {
        let error = sets_error(&config, seed).map_err(fail)?;
        prop_assert!(error < 1e-9, "{error:e}");
    }

    #[test]
    fn packing_undoes_unpacking(config in config(), seed in 0..1000u64) {
        round_trip(&config, seed).map_err(fail)?;
    }

    #[test]
    fn offsets_are_contiguous_in_declaration_order(config in config()) {
        contiguous(&layout(&config).map_err(fail)?);
        declaration_order(&config).map_err(fail)?;
    }

    #[test]
    fn names_are_those_of_a_builders_variables(config in config()) {
        names_are_those_of_variables(&config).map_err(fail)?;
    }

    #[test]
    fn hashes_are_equal_exactly_where_the_meaning_is(a in config(), b in config()) {
        let hashes = [layout(&a).map_err(fail)?, layout(&b).map_err(fail)?];
        let same = meaning(&a).map_err(fail)? == meaning(&b).map_err(fail)?;
        prop_assert_eq!(hashes[0].hash() == hashes[1].hash(), same);
        prop_assert_eq!(hashes[0].hash(), layout(&a).map_err(fail)?.hash().to_owned());
    }
}

fn fail(err: candle_core::Error) -> TestCaseError {
    TestCaseError::fail(err.to_string())
}

/// Targets that differ in one thing only.
mod variants {
    use super::{HyperTarget, Linear, Tensor};

    macro_rules! pair {
        ($name:ident: $first:ident $a:expr, $second:ident $b:expr) => {
            #[derive(HyperTarget)]
            pub(super) struct $name {
                #[hyper(linear_no_bias($a[0], $a[1]))]
                #[allow(dead_code)]
                $first: Linear,
                #[hyper(tensor($b))]
                #[allow(dead_code)]
                $second: Tensor,
            }
        };
    }

    pair!(Original: a [4, 2], b [2, 3]);
    pair!(Again: a [4, 2], b [2, 3]);
    pair!(Transposed: a [4, 2], b [3, 2]);
    pair!(Moved: a [2, 4], b [2, 3]);
    pair!(Renamed: a [4, 2], c [2, 3]);

    #[derive(HyperTarget)]
    pub(super) struct Swapped {
        #[hyper(tensor([2, 3]))]
        #[allow(dead_code)]
        b: Tensor,
        #[hyper(linear_no_bias(4, 2))]
        #[allow(dead_code)]
        a: Linear,
    }
}

#[test]
fn the_hash_changes_with_a_shape_a_name_and_the_order() -> Result<()> {
    use variants::{Again, Moved, Original, Renamed, Swapped, Transposed};
    let original = Original::layout()?.hash().to_owned();
    assert_eq!(original, Again::layout()?.hash());
    let others = [
        Transposed::layout()?.hash().to_owned(),
        Moved::layout()?.hash().to_owned(),
        Renamed::layout()?.hash().to_owned(),
        Swapped::layout()?.hash().to_owned(),
    ];
    let different: BTreeSet<_> = others.iter().chain([&original]).collect();
    assert_eq!(different.len(), 5, "{different:?}");
    Ok(())
}
