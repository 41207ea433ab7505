//! What a card computes is what the CPU computes.
//!
//! Every check is written for any device. `cpu` runs it on the CPU, which proves the check; `cuda` on
//! the first card. Where there is none, a line says so, or, with `HYPERNN_REQUIRE_CUDA=1`, every test
//! of `cuda` fails.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Once;

use candle_core::{D, DType, Device, Module, Result, Tensor, Var};
use candle_nn::VarMap;
use hypernn::hypernetwork::DynamicHyperNetwork;
use hypernn::nn::{self, RNN};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
use hypernn_tests::dynamic::{Embedding, Generator, Sizes, conditions, kinds, network};
use hypernn_tests::{
    by_name, gradient_error, gradients, input, relative_error, values, variables_on, weighted_sum,
};

/// The first card; `None`, after a line that says why, where there is none.
fn card() -> Option<Device> {
    static SAID: Once = Once::new();
    let reason = if candle_core::utils::cuda_is_available() {
        match Device::new_cuda(0) {
            Ok(device) => return Some(device),
            Err(err) => err.to_string().lines().next().unwrap_or_default().to_owned(),
        }
    } else {
        "this build has no `--features cuda`".to_owned()
    };
    if std::env::var("HYPERNN_REQUIRE_CUDA").is_ok_and(|value| value == "1") {
        panic!("HYPERNN_REQUIRE_CUDA is set, but there is no CUDA device: {reason}");
    }
    // Past the test harness, which would keep a line to itself.
    SAID.call_once(|| {
        let _ = writeln!(std::io::stderr(), "skipped: no CUDA device: {reason}");
    });
    None
}

/// A module of tests that run each check on a card, and one that runs it on the CPU.
macro_rules! on_each_device {
    ($($check:ident),+ $(,)?) => {
        mod cpu {
            $(#[test]
            fn $check() -> candle_core::Result<()> {
                super::$check(&candle_core::Device::Cpu)
            })+
        }

        mod cuda {
            $(#[test]
            fn $check() -> candle_core::Result<()> {
                super::card().map_or(Ok(()), |device| super::$check(&device))
            })+
        }
    };
}

on_each_device!(
    batches_equal_loops,
    gradients_equal_those_of_the_cpu,
    gradients_equal_finite_differences,
    dtypes_of_their_own,
    files_go_to_any_device,
    inputs_of_any_layout,
    seeds_give_the_same_everywhere,
    tensors_are_views_of_one_vector,
    a_static_forward_computes_no_more_than_by_hand,
    no_kind_of_layer_computes_more_than_by_hand,
    what_is_no_number_stays_so,
);

/// Through rectifiers and pools, in values and gradients, in every dtype.
fn what_is_no_number_stays_so(device: &Device) -> Result<()> {
    let images = [f32::NAN, 1., 1., 2., -2., f32::NAN, 3., -1., -2., -3., -4., -1.];
    let images = Tensor::new(&images, &Device::Cpu)?.reshape((1, 1, 2, 6))?;
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
        let xs = Var::from_tensor(&images.to_dtype(dtype)?.to_device(device)?)?;
        let ys = nn::relu(&xs)?;
        let pooled = nn::max_pool2d(&xs, 2)?;
        let found = [values(&ys)?, values(&pooled)?].map(|values| format!("{values:?}"));
        // A negative zero would have a sign.
        let expected =
            ["[NaN, 1.0, 1.0, 2.0, 0.0, NaN, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]", "[NaN, 2.0, NaN]"];
        assert_eq!(found, expected.map(str::to_owned), "{dtype:?}");
        let grads = (ys.sum_all()? + pooled.sum_all()?)?.backward()?;
        let grad = grads.get(&xs).map_or(Ok(Vec::new()), values)?;
        let expected = [2., 1., 1., 2., 0., 2., 1., 0., 0., 0., 0., 0.];
        assert_eq!(grad, expected, "{dtype:?}");
    }
    Ok(())
}

/// The golden cases on a card; `golden.rs` has them on the CPU.
mod golden {
    macro_rules! cases {
        ($($case:ident),+ $(,)?) => {
            $(#[test]
            fn $case() -> candle_core::Result<()> {
                super::card().map_or(Ok(()), |device| hypernn_tests::golden::$case(&device))
            })+
        };
    }

    cases!(
        a_static_mlp,
        a_static_cnn,
        a_convolution_of_six_samples_with_weights_of_their_own,
        ten_samples_with_weights_of_their_own,
        a_recurrent_target_with_new_weights_at_each_step,
        state_dicts_of_static_hypernetworks,
        state_dicts_of_dynamic_hypernetworks,
    );
}

/// Every layer that takes sets, side by side over rows `[12]`.
#[derive(HyperTarget)]
struct Every {
    #[hyper(conv1d(2, 4, 3, stride = 2, padding = 1, groups = 2))]
    conv1d: nn::Conv1d,
    #[hyper(conv_transpose1d(4, 2, 3, stride = 2))]
    transpose1d: nn::ConvTranspose1d,
    #[hyper(conv2d(1, 2, 3, padding = 1))]
    conv2d: nn::Conv2d,
    #[hyper(group_norm(2, 2, 1e-5))]
    group_norm: nn::GroupNorm,
    #[hyper(prelu(Some(2)))]
    prelu: nn::PReLU,
    #[hyper(conv_transpose2d_no_bias(2, 1, 2))]
    transpose2d: nn::ConvTranspose2d,
    #[hyper(embedding(5, 3))]
    table: nn::Embedding,
    #[hyper(rms_norm(3, 1e-5))]
    rms_norm: nn::RmsNorm,
    #[hyper(gru(4, 3))]
    gru: nn::GRU,
    #[hyper(lstm(4, 3))]
    lstm: nn::LSTM,
    #[hyper(linear(12, 6))]
    linear: nn::Linear,
    #[hyper(batch_norm(6, 1e-5))]
    batch_norm: nn::BatchNorm,
    #[hyper(layer_norm(6, 1e-5))]
    layer_norm: nn::LayerNorm,
    #[hyper(linear(6, 2))]
    out: nn::Linear,
}

impl Module for Every {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let rows = xs.dim(0)?;
        let lines = self.conv1d.forward(&xs.reshape((rows, 2, 6))?)?;
        let lines = self.transpose1d.forward(&lines.tanh()?)?;
        let images =
            self.group_norm.forward(&self.conv2d.forward(&xs.reshape((rows, 1, 3, 4))?)?)?;
        let images = self.transpose2d.forward(&self.prelu.forward(&images)?)?;
        let pooled = (nn::max_pool2d(&images, 2)? + nn::avg_pool2d(&images, 2)?)?;
        let indices = xs.narrow(1, 0, 4)?.detach().affine(2.4, 2.5)?.to_dtype(DType::U32)?;
        let looked_up = self.rms_norm.forward(&self.table.forward(&indices)?)?;
        let steps = xs.reshape((rows, 3, 4))?;
        let gru = self.gru.states_to_tensor(&self.gru.seq(&steps)?)?;
        let lstm = self.lstm.states_to_tensor(&self.lstm.seq(&steps)?)?;
        let hidden = self.batch_norm.forward_train(&self.linear.forward(xs)?)?;
        let hidden = self.layer_norm.forward(&hidden)?;
        let parts = [lines, pooled, looked_up, gru, lstm, hidden.sqr()?];
        let parts = parts.iter().map(|part| part.flatten_from(1)?.mean_keepdim(1));
        let sum = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, D::Minus1)?.tanh()?;
        self.out.forward(&(sum + hidden)?)
    }
}

hypernetwork! {
    struct HyperEvery for Every { embedding: table(10, 5), generator: mlp([6], tanh), mode: static }
}

const SIZES: Sizes = Sizes { width: 3, num_embeddings: 6, embedding_dim: 4 };

/// What two ways may differ by.
fn bound(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-10 } else { 2e-4 }
}

fn close(found: &Tensor, expected: &Tensor, bound: f64, what: &str) -> Result<()> {
    let error = relative_error(found, expected)?;
    assert!(error <= bound, "{what} is off by {error:e}, allowed {bound:e}");
    Ok(())
}

/// An output and the gradients behind it.
struct Found {
    ys: Tensor,
    grads: BTreeMap<String, Tensor>,
}

impl Found {
    fn new(vars: &VarMap, ys: Tensor) -> Result<Self> {
        let grads = gradients(vars, &weighted_sum(&ys)?)?;
        Ok(Self { ys, grads })
    }

    fn check(&self, expected: &Self, bound: f64, what: &str) -> Result<()> {
        close(&self.ys, &expected.ys, bound, what)?;
        assert!(self.grads.keys().eq(expected.grads.keys()));
        for (name, grad) in &self.grads {
            close(grad, &expected.grads[name], bound, &format!("{what}: {name}"))?;
        }
        Ok(())
    }
}

/// A dynamic network over [`Every`], whose condition and input are among its variables.
struct Dynamic {
    vars: VarMap,
    hyper: DynamicHyperNetwork<Every>,
    conditions: Tensor,
    xs: Tensor,
}

const SETS: usize = 3;
const ROWS: usize = 2;

impl Dynamic {
    fn new(device: &Device, kinds: (Embedding, Generator), dtype: DType) -> Result<Self> {
        let (vars, vb) = variables_on(device, 3, dtype);
        let hyper = network::<Every>(kinds, SIZES, vb)?;
        let conditions = conditions(kinds.0, &[SETS], SIZES.width, dtype)?.to_device(device)?;
        let xs = input(&[SETS * ROWS, 12], 4, dtype)?.to_device(device)?;
        let add = |name: &str, tensor: &Tensor| -> Result<Tensor> {
            let var = Var::from_tensor(tensor)?;
            vars.data().lock().unwrap().insert(name.to_owned(), var.clone());
            Ok(var.into_inner())
        };
        let xs = add("xs", &xs)?;
        let conditions = match kinds.0 {
            Embedding::Tasks => conditions,
            _ => add("condition", &conditions)?,
        };
        Ok(Self { vars, hyper, conditions, xs })
    }

    fn together(&self) -> Result<Found> {
        let params = self.hyper.generate_params(&self.conditions)?;
        Found::new(&self.vars, params.forward(&self.xs)?)
    }

    fn apart(&self) -> Result<Found> {
        let one = |set: usize| {
            let params = self.hyper.generate_params(&self.conditions.get(set)?)?;
            params.forward(&self.xs.narrow(0, set * ROWS, ROWS)?)
        };
        let ys = (0..SETS).map(one).collect::<Result<Vec<_>>>()?;
        Found::new(&self.vars, Tensor::cat(&ys, 0)?)
    }
}

/// All sets at once give what one set after the other does, and both what the CPU gives.
fn batches_equal_loops(device: &Device) -> Result<()> {
    for kinds in kinds() {
        let net = Dynamic::new(device, kinds, DType::F64)?;
        let (together, what) = (net.together()?, format!("{kinds:?}"));
        together.check(&net.apart()?, bound(DType::F64), &what)?;
        let on_cpu = Dynamic::new(&Device::Cpu, kinds, DType::F64)?.together()?;
        together.check(&on_cpu, bound(DType::F64), &what)?;
    }
    Ok(())
}

/// A static network over [`Every`] on a device: output and gradients.
fn of_static(device: &Device, [of_hyper, of_target]: [DType; 2]) -> Result<Found> {
    let (vars, vb) = variables_on(device, 3, of_hyper);
    let hyper = HyperEvery::new(vb)?.with_target_dtype(of_target)?;
    let xs = input(&[4, 12], 5, of_target)?.to_device(device)?;
    Found::new(&vars, hyper.forward(&xs)?.to_dtype(DType::F32)?)
}

fn gradients_equal_those_of_the_cpu(device: &Device) -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let expected = of_static(&Device::Cpu, [dtype; 2])?;
        // The output is looked at in f32.
        of_static(device, [dtype; 2])?.check(&expected, bound(DType::F32), "a static network")?;
    }
    Ok(())
}

fn gradients_equal_finite_differences(device: &Device) -> Result<()> {
    let (vars, vb) = variables_on(device, 3, DType::F64);
    let hyper = HyperEvery::new(vb)?;
    let xs = input(&[3, 12], 5, DType::F64)?.to_device(device)?;
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward(&xs)?))?;
    assert!(error < 1e-5, "relative error {error:e}");
    Ok(())
}

/// Against the same in f32 on the CPU, which half precision follows as far as it can.
fn dtypes_of_their_own(device: &Device) -> Result<()> {
    let expected = of_static(&Device::Cpu, [DType::F32; 2])?;
    for of_hyper in [DType::F32, DType::F64] {
        for (of_target, bound) in
            [(DType::F32, 2e-4), (DType::F64, 2e-4), (DType::F16, 5e-2), (DType::BF16, 3e-1)]
        {
            let found = of_static(device, [of_hyper, of_target])?;
            assert!(found.grads.values().all(|grad| grad.dtype() == of_hyper));
            found.check(&expected, bound, &format!("{of_hyper:?} for {of_target:?}"))?;
        }
    }
    Ok(())
}

/// What was saved on one device is loaded on another.
fn files_go_to_any_device(device: &Device) -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (from, to) in [(&Device::Cpu, device), (device, &Device::Cpu)] {
        let (path, xs) = (folder.path().join("file"), input(&[4, 12], 5, DType::F32)?);
        let saved = HyperEvery::new(variables_on(from, 3, DType::F32).1)?;
        saved.save(&path)?;
        let expected = saved.forward(&xs.to_device(from)?)?;
        let loaded = HyperEvery::new(variables_on(to, 4, DType::F32).1)?;
        loaded.load(&path)?;
        close(&loaded.forward(&xs.to_device(to)?)?, &expected, bound(DType::F32), "loaded")?;
        saved.export(&path)?;
        let exported = candle_core::safetensors::load(&path, to)?;
        let net = Every::new(candle_nn::VarBuilder::from_tensors(exported, DType::F32, to))?;
        close(&net.forward(&xs.to_device(to)?)?, &expected, bound(DType::F32), "exported")?;
    }
    Ok(())
}

/// candle's kernels for CUDA take contiguous operands; ours make them so.
fn inputs_of_any_layout(device: &Device) -> Result<()> {
    let flat = input(&[3, Every::NUM_PARAMS], 6, DType::F64)?.to_device(device)?;
    let rows = input(&[6, 12], 7, DType::F64)?.to_device(device)?;
    let odd = rows.t()?.contiguous()?.t()?;
    assert!(!odd.is_contiguous());
    let odd_flat = flat.t()?.contiguous()?.t()?;
    let params = |flat: &Tensor| GeneratedParams::<Every>::from_flat(&(), flat);
    let expected = params(&flat)?.forward(&rows)?;
    close(&params(&odd_flat)?.forward(&odd)?, &expected, bound(DType::F64), "layouts")?;
    let table = input(&[3, 5], 8, DType::F64)?.to_device(device)?.t()?;
    let indices = Tensor::new(&[[0u32, 4], [1, 2]], device)?.t()?;
    let found = nn::Embedding::new(table.clone(), 3).forward(&indices)?;
    let expected = table.to_device(&Device::Cpu)?.contiguous()?;
    let expected = expected.index_select(&Tensor::new(&[0u32, 1, 4, 2], &Device::Cpu)?, 0)?;
    assert_eq!(values(&found)?, values(&expected)?);
    Ok(())
}

fn seeds_give_the_same_everywhere(device: &Device) -> Result<()> {
    let drawn = |device: &Device| -> Result<BTreeMap<String, Var>> {
        let (vars, vb) = variables_on(device, 9, DType::F32);
        HyperEvery::new(vb)?;
        Ok(by_name(&vars))
    };
    let expected = drawn(&Device::Cpu)?;
    for (name, var) in drawn(device)? {
        // What is computed from the drawn values may differ in the last digit.
        close(&var, &expected[&name], 1e-5, &name)?;
    }
    Ok(())
}

/// With one set a tensor costs a layer no copy, so no launch, on any device. What is shown of it by itself, where it has
/// a gradient, is a copy, whose gradient does not cost that of the whole vector.
fn tensors_are_views_of_one_vector(device: &Device) -> Result<()> {
    let hyper = HyperEvery::new(variables_on(device, 3, DType::F32).1)?;
    let params = hyper.with_target_dtype(DType::BF16)?.generate_params()?.detach();
    // What starts at a constant has a base, which is taken off.
    let constant = |name: &str| {
        name.contains("norm")
            || name.contains("prelu")
            || name.contains("stm.bias")
            || name.contains("gru.bias")
    };
    let (based, views): (Vec<_>, Vec<_>) =
        params.tensors().partition(|(param, _)| constant(&param.name));
    let storages: BTreeSet<_> = views.iter().map(|(_, tensor)| storage(tensor)).collect();
    assert_eq!((storages.len(), views.len(), based.len()), (1, 16, 12));
    Ok(())
}

/// Where a tensor's values are kept.
fn storage(tensor: &Tensor) -> *const candle_core::Storage {
    std::ptr::from_ref(&*tensor.storage_and_layout().0)
}

/// How many vectors the tensors of generated parameters lie in.
fn vectors<T>(params: &GeneratedParams<T>) -> usize {
    let params = params.detach();
    params.tensors().map(|(_, tensor)| storage(tensor)).collect::<BTreeSet<_>>().len()
}

/// How many tensors with values of their own were computed on the way to these.
fn computed<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> usize {
    let (variables, rest): (Vec<_>, Vec<_>) =
        tensors.flat_map(Tensor::sorted_nodes).partition(|node| node.is_variable());
    let storages = |nodes: Vec<&Tensor>| nodes.into_iter().map(storage).collect::<BTreeSet<_>>();
    // A view of a variable is nothing new.
    storages(rest).difference(&storages(variables)).count()
}

#[derive(HyperTarget)]
struct Three {
    #[hyper(linear(12, 9))]
    first: nn::Linear,
    #[hyper(linear(9, 7))]
    second: nn::Linear,
    #[hyper(linear(7, 2))]
    third: nn::Linear,
}

impl Module for Three {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = self.second.forward(&self.first.forward(xs)?.relu()?)?;
        self.third.forward(&ys.relu()?)
    }
}

hypernetwork! {
    struct HyperThree for Three {
        embedding: table(9, 5),
        generator: linear,
        mode: static,
        init: hyper_nn,
    }
}

/// The same in candle: three views of a flat vector at their places.
fn three_by_hand(flat: &Tensor, xs: &Tensor) -> Result<Tensor> {
    let (mut ys, mut start) = (xs.clone(), 0);
    for (inputs, outputs) in [(12, 9), (9, 7), (7, 2)] {
        let weight = flat.narrow(0, start, inputs * outputs)?.reshape((outputs, inputs))?;
        let bias = flat.narrow(0, start + inputs * outputs, outputs)?;
        ys = ys.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        start += (inputs + 1) * outputs;
        if outputs != 2 {
            ys = ys.relu()?;
        }
    }
    Ok(ys)
}

/// Generating, casting and applying three layers, against the same by hand in candle. Ours has one
/// value more, where gradients are collected, and a product with its bias is one tensor, not two.
fn a_static_forward_computes_no_more_than_by_hand(device: &Device) -> Result<()> {
    let (vars, vb) = variables_on(device, 3, DType::F32);
    let hyper = HyperThree::new(vb)?.with_target_dtype(DType::F16)?;
    let xs = input(&[4, 12], 5, DType::F16)?.to_device(device)?;
    let params = hyper.generate_params()?;
    let ours = params.forward(&xs)?;
    let named = by_name(&vars);
    let rows = named["embedding.weight"].matmul(&named["generator.weight"].t()?)?;
    let rows = rows.broadcast_add(named["generator.bias"].as_tensor())?;
    let by_hand = three_by_hand(&rows.flatten_all()?.to_dtype(DType::F16)?, &xs)?;
    close(&ours, &by_hand, 1e-2, "three layers")?;
    let of_ours = computed([&ours].into_iter());
    let of_hand = computed([&by_hand].into_iter());
    // Product, sum, cast; product, sum and relu of three layers, the last without.
    assert_eq!(of_hand, 3 + 3 * 3 - 1);
    // Where gradients meet; a layer and relu. All tensors lie in one vector, the cast of the rows.
    assert_eq!((of_ours, vectors(&params)), (1 + 3 * 2 - 1, 1));
    Ok(())
}

/// A layer of every kind that is one launch or two by hand.
#[derive(HyperTarget)]
struct Kinds {
    #[hyper(conv2d_no_bias(1, 2, 3))]
    conv: nn::Conv2d,
    #[hyper(group_norm(2, 2, 1e-5))]
    group_norm: nn::GroupNorm,
    #[hyper(embedding(5, 3))]
    table: nn::Embedding,
    #[hyper(layer_norm(35))]
    layer_norm: nn::LayerNorm,
    #[hyper(linear(35, 2))]
    out: nn::Linear,
}

hypernetwork! {
    struct HyperKinds for Kinds {
        embedding: table(15, 5),
        generator: linear,
        mode: static,
        init: hyper_nn,
    }
}

impl Module for Kinds {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let rows = self.group_norm.forward(&self.conv.forward(xs)?)?.relu()?.flatten_from(1)?;
        let words = self.table.forward(&words(xs.device())?)?;
        self.out.forward(&self.layer_norm.forward(&Tensor::cat(&[rows, words], 1)?)?)
    }
}

fn words(device: &Device) -> Result<Tensor> {
    Tensor::new(&[0u32, 3, 4, 3], device)
}

/// Mean 0 and mean square 1 of the last dimension.
fn standard(xs: &Tensor) -> Result<Tensor> {
    let size = xs.dim(D::Minus1)? as f64;
    let xs = xs.broadcast_sub(&(xs.sum_keepdim(D::Minus1)? / size)?)?;
    let variance = (xs.sqr()?.sum_keepdim(D::Minus1)? / size)?;
    xs.broadcast_div(&(variance + 1e-5)?.sqrt()?)
}

/// The same in candle.
fn kinds_by_hand(flat: &Tensor, xs: &Tensor) -> Result<Tensor> {
    let mut start = 0;
    let mut next = |dims: &[usize]| {
        let len = dims.iter().product();
        start += len;
        flat.narrow(0, start - len, len)?.reshape(dims)
    };
    let ys = xs.conv2d(&next(&[2, 1, 3, 3])?, 0, 1, 1, 1)?;
    let ys = standard(&ys.reshape((4, 2, 16))?)?.broadcast_mul(&next(&[2, 1])?)?;
    let rows = ys.broadcast_add(&next(&[2, 1])?)?.relu()?.flatten_from(1)?;
    let words = next(&[5, 3])?.index_select(&words(xs.device())?, 0)?;
    let ys = standard(&Tensor::cat(&[rows, words], 1)?)?;
    let ys = ys.broadcast_mul(&next(&[35])?)?.broadcast_add(&next(&[35])?)?;
    ys.matmul(&next(&[2, 35])?.t()?)?.broadcast_add(&next(&[2])?)
}

/// The same for a convolution, norms and an embedding: what is computed for a weight and a bias is one
/// tensor of ours, which hides no more than the step by hand between them.
fn no_kind_of_layer_computes_more_than_by_hand(device: &Device) -> Result<()> {
    let (vars, vb) = variables_on(device, 3, DType::F64);
    let hyper = HyperKinds::new(vb)?.with_target_dtype(DType::F32)?;
    let xs = input(&[4, 1, 6, 6], 5, DType::F32)?.to_device(device)?;
    let params = hyper.generate_params()?;
    let ours = params.forward(&xs)?;
    let named = by_name(&vars);
    let rows = named["embedding.weight"].matmul(&named["generator.weight"].t()?)?;
    let rows = rows.broadcast_add(named["generator.bias"].as_tensor())?;
    let by_hand = kinds_by_hand(&rows.flatten_all()?.to_dtype(DType::F32)?, &xs)?;
    close(&ours, &by_hand, 1e-4, "kinds of layers")?;
    let of_ours = computed([&ours].into_iter());
    let of_hand = computed([&by_hand].into_iter());
    let (standard, others) = (9, ["convolution", "relu", "rows", "joined"].len());
    // Product, sum, cast; two norms of two steps more; a product and a sum.
    assert_eq!(of_hand, 3 + others + 2 * (standard + 2) + 2);
    // Where gradients meet; two norms of one step more; a product. All tensors lie in one vector, the cast of the rows.
    assert_eq!((of_ours, vectors(&params)), (1 + others + 2 * (standard + 1) + 1, 1));
    Ok(())
}

/// What lies on another device is named.
#[test]
fn devices_are_not_mixed() -> Result<()> {
    let Some(card) = card() else { return Ok(()) };
    let kinds = (Embedding::Lstm, Generator::Linear);
    let net = Dynamic::new(&card, kinds, DType::F32)?;
    let (place, cpu) = ("cuda:0", &Device::Cpu);
    let message = |result| hypernn_tests::message::<Tensor>(result);
    let (condition, xs) = (net.conditions.to_device(cpu)?, net.xs.to_device(cpu)?);
    let params = net.hyper.generate_params(&net.conditions)?;
    let expected = format!("the input is on cpu, but the generated parameters on {place}");
    assert_eq!(message(params.forward(&xs)), expected);
    let generated = |params: GeneratedParams<Every>| params.flat();
    assert_eq!(
        message(net.hyper.generate_params(&condition).and_then(generated)),
        format!("the condition is on cpu, but the hypernetwork on {place}")
    );
    let state = Dynamic::new(cpu, kinds, DType::F32)?.hyper.zero_state(SETS)?;
    let step = net.hyper.generate_step(&net.conditions, &state);
    assert_eq!(
        message(step.and_then(|(params, _)| params.flat())),
        format!("the state is on cpu, but the hypernetwork on {place}")
    );
    let flat = input(&[Every::NUM_PARAMS], 1, DType::F32)?.to_device(cpu)?;
    let expected = format!("the input is on {place}, but the generated parameters on cpu");
    assert_eq!(message(Every::functional_forward(&flat, &net.xs)), expected);
    let layer = |device, seed| nn::linear(2, 2, variables_on(device, seed, DType::F32).1);
    let mixed = Two { first: layer(cpu, 1)?, second: layer(&card, 2)? };
    let expected = format!("`second.weight` of Two is on {place}, but `first.weight` on cpu");
    assert_eq!(message(mixed.pack()), expected);
    Ok(())
}

/// What is on a second card is computed there, and mixed with nothing of the first.
#[test]
fn a_second_card_is_another_device() -> Result<()> {
    let Some(card) = card() else { return Ok(()) };
    let Ok(second) = Device::new_cuda(1) else { return Ok(()) };
    let kinds = (Embedding::Lstm, Generator::Linear);
    let (net, there) =
        (Dynamic::new(&card, kinds, DType::F32)?, Dynamic::new(&second, kinds, DType::F32)?);
    there.together()?.check(&net.together()?, bound(DType::F32), "a second card")?;
    let message = |result| hypernn_tests::message::<Tensor>(result);
    let params = net.hyper.generate_params(&net.conditions)?;
    let expected = "the input is on cuda:1, but the generated parameters on cuda:0";
    assert_eq!(message(params.forward(&there.xs)), expected);
    let params = there.hyper.generate_params(&net.conditions);
    let expected = "the condition is on cuda:0, but the hypernetwork on cuda:1";
    assert_eq!(message(params.and_then(|params| params.flat())), expected);
    assert!(net.xs.add(&net.xs.to_device(&second)?).is_err());
    Ok(())
}

#[derive(HyperTarget)]
struct Two {
    #[hyper(linear(2, 2))]
    first: nn::Linear,
    #[hyper(linear(2, 2))]
    second: nn::Linear,
}
