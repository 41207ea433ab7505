//! Generated parameters that are kept: saved and loaded, put together into a batch, taken from a flat
//! vector, cut off from the graph; and the variables that an optimiser takes.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Module, ModuleT, Result, Tensor, Var};
use candle_nn::VarBuilder;
use hypernn::nn::{BatchNorm, LayerNorm, Linear};
use hypernn::{GeneratedParams, HyperTarget, hypernetwork};
use hypernn_tests::{
    by_name, device, gradients, input, is_trained, message, relative_error, values, variable,
    variables, weighted_sum,
};
use tempfile::TempDir;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(3, 5))]
    hidden: Linear,
    #[hyper(layer_norm(5))]
    norm: LayerNorm,
    #[hyper(linear(5, 2))]
    out: Linear,
}

impl Module for Net {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.norm.forward(&self.hidden.forward(xs)?.tanh()?)?)
    }
}

hypernetwork! {
    struct Static for Net { embedding: table(7, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct Plain for Net {
        embedding: encoder(4, [5], tanh, 6, 3), generator: linear, mode: dynamic,
    }
}

// A tensor of each role.
hypernetwork! {
    struct Adapted for Net {
        roles: [
            ("norm.*", freeze), ("*.weight", lora(1, 2.)), ("hidden.bias", train), ("out.bias", generate),
        ],
        embedding: encoder(4, [5], tanh, 5, 3),
        generator: linear,
        mode: dynamic,
    }
}

/// The same by candle's own layers, by constructor.
struct Candles {
    hidden: candle_nn::Linear,
    out: candle_nn::Linear,
}

impl Candles {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let hidden = candle_nn::linear(3, 5, vb.pp("hidden"))?;
        Ok(Self { hidden, out: candle_nn::linear(5, 2, vb.pp("out"))? })
    }
}

impl Module for Candles {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(xs)?.tanh()?)
    }
}

hypernetwork! {
    struct Constructed for Candles {
        target: constructor,
        embedding: encoder(4, [5], tanh, 8, 3),
        generator: linear,
        mode: dynamic,
    }
}

#[derive(HyperTarget)]
#[hyper(config = usize, sequential = [layers, out])]
struct Deep {
    #[hyper([linear(3, 3); *config])]
    layers: Vec<Linear>,
    #[hyper(linear(3, 2))]
    out: Linear,
}

hypernetwork! {
    struct Configured for Deep {
        config: usize,
        embedding: encoder(4, [5], tanh, 4, 3),
        generator: linear,
        mode: dynamic,
    }
}

/// Other values than the first, so that gains and adapters are not zero.
fn moved(vars: &[Var], seed: u64) -> Result<()> {
    for (index, var) in (0u64..).zip(vars) {
        let by = (input(var.dims(), seed + index, var.dtype())? * 0.3)?;
        var.set(&(var.as_tensor() + by)?)?;
    }
    Ok(())
}

fn pretrained(seed: u64, dtype: DType) -> Result<HashMap<String, Tensor>> {
    let (vars, vb) = variables(seed, dtype);
    Net::new(vb)?;
    let tensors = by_name(&vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    tensors.map(|(name, tensor)| Ok((name, tensor.copy()?))).collect()
}

fn adapted(base: u64, dtype: DType) -> Result<(candle_nn::VarMap, Adapted)> {
    let (vars, vb) = variables(2, dtype);
    let base = VarBuilder::from_tensors(pretrained(base, dtype)?, dtype, device());
    let hyper = Adapted::new_from(vb, base)?;
    moved(&hyper.trainable(), 5)?;
    Ok((vars, hyper))
}

fn plain(dtype: DType) -> Result<(candle_nn::VarMap, Plain)> {
    let (vars, vb) = variables(3, dtype);
    Ok((vars, Plain::new(vb)?))
}

fn constructed(dtype: DType) -> Result<(candle_nn::VarMap, Constructed)> {
    let (vars, vb) = variables(3, dtype);
    Ok((vars, Constructed::new(vb, Candles::new)?))
}

fn configured(dtype: DType) -> Result<(candle_nn::VarMap, Configured)> {
    let (vars, vb) = variables(3, dtype);
    Ok((vars, Configured::new(&2, vb)?))
}

/// Runs a check for a dynamic hypernetwork of each kind.
macro_rules! each_kind {
    ($check:ident, $dtype:expr) => {{
        $check!(adapted(1, $dtype)?);
        $check!(plain($dtype)?);
        $check!(constructed($dtype)?);
        $check!(configured($dtype)?);
    }};
}

struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("params.safetensors")
    }
}

// --- Variables

/// What an optimiser moves or decays, whether it has a gradient or not, leaves bases, frozen tensors and
/// running statistics as they are.
#[test]
fn trainable_variables_are_those_that_are_trained() -> Result<()> {
    let (vars, vb) = variables(0, DType::F64);
    let hyper = Static::new(vb)?;
    let names: Vec<_> = hyper.named_tensors().map(|(name, _)| name.to_owned()).collect();
    assert!(names.iter().any(|name| name.starts_with("base.")));
    let trained: Vec<_> = names.iter().filter(|name| is_trained(name)).collect();
    let trainable = hyper.trainable();
    assert_eq!(trainable.len(), trained.len());
    // In the order of construction, and the `VarMap`'s own.
    for (var, name) in trainable.iter().zip(trained) {
        assert_eq!(var.id(), variable(&vars, name)?.id());
    }
    let before = copies(&vars)?;
    for var in &trainable {
        var.set(&(var.as_tensor() * 0.9)?)?;
    }
    for (name, value) in before {
        let moved = values(variable(&vars, &name)?.as_tensor())? != value;
        assert!(moved == is_trained(&name) || value.iter().all(|value| *value == 0.), "{name}");
    }
    Ok(())
}

fn copies(vars: &candle_nn::VarMap) -> Result<Vec<(String, Vec<f64>)>> {
    by_name(vars).into_iter().map(|(name, var)| Ok((name, values(&var)?))).collect()
}

#[test]
fn trainable_variables_of_roles() -> Result<()> {
    let (vars, hyper) = adapted(1, DType::F64)?;
    let of = |name: &str| variable(&vars, name).map(|var| var.id());
    let ids: Vec<_> = hyper.trainable().iter().map(|var| var.id()).collect();
    assert!(ids.contains(&of("target.hidden.bias")?) && ids.contains(&of("gains")?));
    assert_eq!(ids.len(), vars.all_vars().len());
    // What is no variable can't be trained.
    let tensors = by_name(&vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    let vb = VarBuilder::from_tensors(tensors.collect(), DType::F64, device());
    let base = VarBuilder::from_tensors(pretrained(1, DType::F64)?, DType::F64, device());
    assert!(Adapted::new_from(vb, base)?.trainable().is_empty());
    Ok(())
}

// --- Flat vectors

/// A flat vector is what `flat` gave, whatever the target, and its gradient is that of the parameters.
#[test]
fn a_flat_vector_serves_targets_of_every_kind() -> Result<()> {
    let xs = input(&[6, 3], 1, DType::F64)?;
    macro_rules! check {
        ($network:expr) => {{
            let (_vars, hyper) = $network;
            for condition in [&[4][..], &[1, 4], &[3, 4]] {
                let params = hyper.generate_params(&input(condition, 7, DType::F64)?)?.detach();
                let flat = Var::from_tensor(&params.flat()?)?;
                let again = hyper.params_from_flat(&flat)?;
                assert_eq!(again.num_sets(), params.num_sets());
                assert_eq!(values(&again.forward(&xs)?)?, values(&params.forward(&xs)?)?);
                let grad = weighted_sum(&again.forward(&xs)?)?.backward()?.get(&flat).cloned();
                let loss = || weighted_sum(&hyper.params_from_flat(&flat)?.forward(&xs)?);
                let slopes = slopes(&flat, &loss)?;
                assert!(relative_error(&grad.unwrap(), &slopes)? < 1e-7);
            }
        }};
    }
    each_kind!(check, DType::F64);
    Ok(())
}

fn slopes(var: &Var, loss: &dyn Fn() -> Result<Tensor>) -> Result<Tensor> {
    let start = values(&var.copy()?)?;
    let at = |index: usize, by: f64| {
        let mut moved = start.clone();
        moved[index] += by;
        var.set(&Tensor::from_vec(moved, var.shape(), device())?)?;
        loss()?.to_scalar::<f64>()
    };
    let slope = |index| Ok((at(index, 1e-5)? - at(index, -1e-5)?) / 2e-5);
    let slopes = (0..start.len()).map(slope).collect::<Result<Vec<_>>>()?;
    var.set(&Tensor::from_vec(start, var.shape(), device())?)?;
    Tensor::from_vec(slopes, var.shape(), device())
}

#[test]
fn a_flat_vector_that_does_not_fit() -> Result<()> {
    let (_vars, hyper) = adapted(1, DType::F64)?;
    let expected = hyper.num_target_params();
    let flat = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, device());
    assert_eq!(
        message(hyper.params_from_flat(&flat(&[expected + 1], DType::F64)?)),
        format!(
            "the flat vector of Net has {} values, expected {expected}: the last 1 feed no parameter",
            expected + 1
        )
    );
    assert_eq!(
        message(hyper.params_from_flat(&flat(&[0, expected], DType::F64)?)),
        format!("the flat vector of Net has shape [0, {expected}], expected at least one set")
    );
    assert_eq!(
        message(hyper.params_from_flat(&flat(&[expected], DType::U32)?)),
        "the flat vector of Net has dtype U32, expected a floating dtype"
    );
    Ok(())
}

// --- Files

#[test]
fn saved_parameters_are_read_as_they_were() -> Result<()> {
    let file = File::new();
    for dtype in [DType::F64, DType::F32] {
        let xs = input(&[6, 3], 1, dtype)?;
        macro_rules! check {
            ($network:expr) => {{
                let (_vars, hyper) = $network;
                for condition in [&[4][..], &[1, 4], &[3, 4]] {
                    let params = hyper.generate_params(&input(condition, 7, dtype)?)?;
                    params.save(file.path())?;
                    let loaded = hyper.load_params(file.path())?;
                    assert_eq!(loaded.num_sets(), params.num_sets());
                    assert_eq!(values(&loaded.flat()?)?, values(&params.flat()?)?);
                    assert_eq!(values(&loaded.forward(&xs)?)?, values(&params.forward(&xs)?)?);
                    assert!(loaded.tensors().all(|(_, tensor)| tensor.dtype() == dtype));
                    assert!(loaded.tensors().all(|(_, tensor)| !tensor.track_op()));
                }
            }};
        }
        each_kind!(check, dtype);
    }
    Ok(())
}

/// By names that say what they are, in a file that any reader of safetensors can read.
#[test]
fn a_file_has_the_layout_s_names() -> Result<()> {
    let (_vars, hyper) = adapted(1, DType::F32)?;
    let file = File::new();
    hyper.generate_params(&input(&[2, 4], 7, DType::F32)?)?.save(file.path())?;
    let tensors = candle_core::safetensors::load(file.path(), device())?;
    let mut names: Vec<_> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = [
        "hidden.weight.lora_a",
        "hidden.weight.lora_b",
        "out.bias",
        "out.weight.lora_a",
        "out.weight.lora_b",
    ];
    assert_eq!(names, expected);
    assert_eq!(tensors["hidden.weight.lora_b"].dims(), [2, 5, 1]);
    Ok(())
}

#[test]
fn half_precision_is_kept() -> Result<()> {
    let file = File::new();
    for dtype in [DType::F16, DType::BF16] {
        let (_vars, hyper) = plain(DType::F32)?;
        let hyper = hyper.with_target_dtype(dtype)?;
        let params = hyper.generate_params(&input(&[3, 4], 7, DType::F32)?)?;
        params.save(file.path())?;
        let loaded = hyper.load_params(file.path())?;
        assert!(loaded.tensors().all(|(_, tensor)| tensor.dtype() == dtype));
        let xs = input(&[3, 3], 1, dtype)?;
        assert_eq!(values(&loaded.forward(&xs)?)?, values(&params.forward(&xs)?)?);
        let each: Vec<_> = (0..3).map(|set| params.set(set)).collect::<Result<_>>()?;
        let stacked = GeneratedParams::stack(&each)?;
        assert_eq!(values(&stacked.forward(&xs)?)?, values(&params.forward(&xs)?)?);
        let chosen = params.select(&[2, 0, 0])?;
        assert_eq!(values(&chosen.set(0)?.flat()?)?, values(&params.set(2)?.flat()?)?);
        // Gradients in half precision reach the variables.
        for made in [stacked, chosen] {
            let loss = made.forward(&xs)?.to_dtype(DType::F32)?.sqr()?.sum_all()?;
            let grads = loss.backward()?;
            assert!(hyper.trainable().iter().any(|var| grads.get(var).is_some()));
        }
    }
    Ok(())
}

#[test]
fn files_that_do_not_belong() -> Result<()> {
    let file = File::new();
    let begins = |text: String, with: &str| {
        let whole = format!("can't load {}: {with}", file.path().display());
        assert!(text.starts_with(&whole), "{text}\n{whole}");
    };
    let (_vars, hyper) = adapted(1, DType::F64)?;
    let condition = input(&[2, 4], 7, DType::F64)?;
    let params = hyper.generate_params(&condition)?;
    params.save(file.path())?;

    // Another target, or other roles of the same.
    begins(
        message(plain(DType::F64)?.1.load_params(file.path())),
        "it is a checkpoint for target Net; the first difference in layout: the file has `0 hidden.weight.lora_a [1, 3] down`, Net has `0 hidden.weight [5, 3] weight`",
    );
    // Another frozen base, and another value of what is trained.
    begins(
        message(adapted(9, DType::F64)?.1.load_params(file.path())),
        "it was saved over other values of `hidden.weight`, which is not generated",
    );
    let (vars, other) = adapted(1, DType::F64)?;
    let bias = variable(&vars, "target.hidden.bias")?;
    bias.set(&(bias.as_tensor() + 1.)?)?;
    begins(
        message(other.load_params(file.path())),
        "it was saved over other values of `hidden.bias`, which is not generated",
    );
    // The network's checkpoint, and the other way round.
    begins(
        message(hyper.load(file.path())),
        "it holds generated parameters, which `load_params` reads, and no hypernetwork",
    );
    hyper.save(file.path())?;
    begins(
        message(hyper.load_params(file.path())),
        "no `hypernn.sets` in its metadata: it was not written by `save` of generated parameters",
    );
    // Half a file, and one byte that is another.
    params.save(file.path())?;
    let mut bytes = std::fs::read(file.path())?;
    std::fs::write(file.path(), &bytes[..bytes.len() - 4])?;
    begins(message(hyper.load_params(file.path())), "");
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(file.path(), &bytes)?;
    begins(
        message(hyper.load_params(file.path())),
        "its tensors were altered after it was saved: SHA-256",
    );
    Ok(())
}

// --- Batches

/// Sets that were generated apart, single ones and several, give in one batch what each gives by itself,
/// and send back the same gradients.
/// A layer over columns in an order that its checkpoint says.
struct Ordered {
    order: Tensor,
    fc: candle_nn::Linear,
}

impl Ordered {
    fn new(vb: VarBuilder<'static>) -> Result<Self> {
        let order = vb.get_with_hints_dtype(3, "order", Default::default(), DType::U32)?;
        Ok(Self { order, fc: candle_nn::linear(3, 2, vb)? })
    }
}

impl Module for Ordered {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.fc.forward(&xs.index_select(&self.order, 1)?)
    }
}

hypernetwork! {
    struct HyperOrdered for Ordered {
        target: constructor,
        embedding: encoder(4, [5], tanh, 4, 3),
        generator: linear,
        mode: dynamic,
    }
}

/// Integers of a pretrained network are parts of the model too.
#[test]
fn parameters_over_other_integers_are_refused() -> Result<()> {
    let hyper = |order: [u32; 3]| {
        let tensors = HashMap::from([
            ("order".to_owned(), Tensor::new(&order, device())?),
            ("weight".to_owned(), input(&[2, 3], 1, DType::F64)?),
            ("bias".to_owned(), input(&[2], 2, DType::F64)?),
        ]);
        let pretrained = VarBuilder::from_tensors(tensors, DType::F64, device());
        HyperOrdered::new_from(variables(0, DType::F64).1, pretrained, Ordered::new)
    };
    let (file, saved) = (File::new(), hyper([0, 1, 2])?);
    let params = saved.generate_params(&input(&[4], 1, DType::F64)?)?;
    params.save(file.path())?;
    let xs = input(&[2, 3], 3, DType::F64)?;
    let loaded = hyper([0, 1, 2])?.load_params(file.path())?;
    assert_eq!(values(&loaded.forward(&xs)?)?, values(&params.forward(&xs)?)?);
    let text = message(hyper([2, 1, 0])?.load_params(file.path()));
    assert!(text.contains("other values of `order`"), "{text}");
    Ok(())
}

#[test]
fn stacked_parameters_are_each_by_itself() -> Result<()> {
    let xs = input(&[12, 3], 1, DType::F64)?;
    macro_rules! check {
        ($network:expr) => {{
            let (vars, hyper) = $network;
            let of = |dims: &[usize], seed| hyper.generate_params(&input(dims, seed, DType::F64)?);
            let apart = [of(&[4], 1)?, of(&[3, 4], 2)?, of(&[1, 4], 3)?, of(&[4], 4)?];
            let stacked = GeneratedParams::stack(&apart)?;
            assert_eq!(stacked.num_sets(), Some(6));
            let mut ys = Vec::new();
            for (params, (from, rows)) in apart.iter().zip([(0, 2), (2, 6), (8, 2), (10, 2)]) {
                ys.push(params.forward(&xs.narrow(0, from, rows)?)?);
            }
            let (expected, found) = (Tensor::cat(&ys, 0)?, stacked.forward(&xs)?);
            assert!(relative_error(&found, &expected)? < 1e-12);
            let expected = gradients(&vars, &weighted_sum(&expected)?)?;
            for (name, grad) in gradients(&vars, &weighted_sum(&found)?)? {
                assert!(relative_error(&grad, &expected[&name])? < 1e-10, "{name}");
            }
        }};
    }
    each_kind!(check, DType::F64);
    Ok(())
}

/// By number, in any order, some not at all and some twice.
#[test]
fn selected_sets_are_those_of_the_numbers() -> Result<()> {
    let xs = input(&[4, 3], 1, DType::F64)?;
    macro_rules! check {
        ($network:expr) => {{
            let (vars, hyper) = $network;
            let params = hyper.generate_params(&input(&[3, 4], 2, DType::F64)?)?;
            let numbers = [2, 0, 0, 2];
            let selected = params.select(&numbers)?;
            assert_eq!(selected.num_sets(), Some(4));
            let ys = numbers
                .iter()
                .enumerate()
                .map(|(row, set)| params.set(*set)?.forward(&xs.narrow(0, row, 1)?));
            let expected = Tensor::cat(&ys.collect::<Result<Vec<_>>>()?, 0)?;
            let found = selected.forward(&xs)?;
            assert!(relative_error(&found, &expected)? < 1e-12);
            let expected = gradients(&vars, &weighted_sum(&expected)?)?;
            for (name, grad) in gradients(&vars, &weighted_sum(&found)?)? {
                assert!(relative_error(&grad, &expected[&name])? < 1e-10, "{name}");
            }
            // One set for every row is number 0.
            let one = hyper.generate_params(&input(&[4], 2, DType::F64)?)?;
            let twice = one.select(&[0, 0])?.forward(&xs)?;
            assert!(relative_error(&twice, &one.forward(&xs)?)? < 1e-12);
        }};
    }
    each_kind!(check, DType::F64);
    Ok(())
}

#[test]
fn batches_that_can_not_be() -> Result<()> {
    let (_vars, hyper) = adapted(1, DType::F64)?;
    let params = hyper.generate_params(&input(&[3, 4], 2, DType::F64)?)?;
    let none: [GeneratedParams<Net>; 0] = [];
    assert_eq!(
        message(GeneratedParams::stack(&none)),
        "no parameters to stack: expected at least one set"
    );
    let other = plain(DType::F64)?.1.generate_params(&input(&[4], 2, DType::F64)?)?;
    assert_eq!(
        message(GeneratedParams::stack(&[&params, &other])),
        "can't stack parameters 0 and 1: the first difference in layout is `0 hidden.weight.lora_a [1, 3] down`, `0 hidden.weight [5, 3] weight`"
    );
    let over = adapted(9, DType::F64)?.1.generate_params(&input(&[4], 2, DType::F64)?)?;
    assert_eq!(
        message(GeneratedParams::stack(&[&params, &params, &over])),
        "can't stack parameters 0 and 2: they lie over other values of `hidden.weight`, which is not generated"
    );
    let single = adapted(1, DType::F32)?.1.generate_params(&input(&[4], 2, DType::F32)?)?;
    assert_eq!(
        message(GeneratedParams::stack(&[&params, &single])),
        "can't stack parameters 0 and 1: their dtypes are F64 and F32"
    );
    let (first, second) = (configured(DType::F64)?.1, configured(DType::F64)?.1);
    let of = |hyper: &Configured| hyper.generate_params(&input(&[4], 2, DType::F64)?);
    assert_eq!(
        message(GeneratedParams::stack(&[of(&first)?, of(&second)?])),
        "can't stack parameters 0 and 1: they are of two networks over Deep, each with a configuration or constructor of its own: `save` those of one, and `load_params` them by the other"
    );
    assert_eq!(
        message(params.select(&[])),
        "no sets of Net to select: expected at least one number"
    );
    assert_eq!(
        message(params.select(&[0, 3])),
        "there is no set 3 of Net to select, expected one of 3"
    );
    assert_eq!(
        message(params.set(0)?.select(&[1])),
        "there is no set 1 of Net to select, expected one of 1"
    );
    Ok(())
}

/// Two networks over one base, by value: their adapters serve one batch.
#[test]
fn adapters_of_two_networks_over_one_base() -> Result<()> {
    let (first, second) = (plain(DType::F64)?.1, Plain::new(variables(8, DType::F64).1)?);
    let condition = input(&[4], 2, DType::F64)?;
    let apart = [first.generate_params(&condition)?, second.generate_params(&condition)?];
    let xs = input(&[2, 3], 1, DType::F64)?;
    let ys = GeneratedParams::stack(&apart)?.forward(&xs)?;
    for (row, params) in apart.iter().enumerate() {
        let alone = params.forward(&xs.narrow(0, row, 1)?)?;
        assert!(relative_error(&ys.narrow(0, row, 1)?, &alone)? < 1e-12);
    }
    Ok(())
}

/// The audit sees what a stack sends back to each of its parts.
#[test]
fn a_stack_can_be_audited() -> Result<()> {
    let (_vars, hyper) = plain(DType::F64)?;
    let of = |seed| hyper.generate_params(&input(&[4], seed, DType::F64)?);
    let stacked = GeneratedParams::stack(&[of(1)?, of(2)?])?;
    let loss = weighted_sum(&stacked.forward(&input(&[2, 3], 1, DType::F64)?)?)?;
    assert!(hyper.audit(&stacked, &loss)?.is_complete());
    let first = stacked.set(0)?;
    let loss = weighted_sum(&first.forward(&input(&[2, 3], 1, DType::F64)?)?)?;
    assert!(hyper.audit(&first, &loss)?.is_complete());
    Ok(())
}

/// The gradient of sets that are cut out one by one is that of the whole batch.
#[test]
fn sets_one_by_one_have_the_gradient_of_all() -> Result<()> {
    let (vars, hyper) = plain(DType::F64)?;
    let xs = input(&[6, 3], 1, DType::F64)?;
    let condition = input(&[3, 4], 2, DType::F64)?;
    let expected =
        gradients(&vars, &weighted_sum(&hyper.generate_params(&condition)?.forward(&xs)?)?)?;
    let params = hyper.generate_params(&condition)?;
    let ys = (0..3).map(|set| params.set(set)?.forward(&xs.narrow(0, 2 * set, 2)?));
    let ys = Tensor::cat(&ys.collect::<Result<Vec<_>>>()?, 0)?;
    for (name, grad) in gradients(&vars, &weighted_sum(&ys)?)? {
        assert!(relative_error(&grad, &expected[&name])? < 1e-10, "{name}");
    }
    Ok(())
}

/// The input of a target whose sets take their turns has its gradient too.
#[test]
fn the_input_s_gradient_where_sets_take_their_turns() -> Result<()> {
    let (_vars, hyper) = constructed(DType::F64)?;
    let params = hyper.generate_params(&input(&[3, 4], 2, DType::F64)?)?;
    let xs = Var::from_tensor(&input(&[6, 3], 1, DType::F64)?)?;
    let loss = || weighted_sum(&params.forward(&xs)?);
    let grad = loss()?.backward()?.get(&xs).cloned().unwrap();
    assert!(relative_error(&grad, &slopes(&xs, &loss)?)? < 1e-8);
    Ok(())
}

// --- Running statistics

#[derive(HyperTarget)]
struct Normed {
    #[hyper(linear(3, 5))]
    hidden: Linear,
    #[hyper(batch_norm(5))]
    norm: BatchNorm,
}

impl ModuleT for Normed {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward_t(&self.hidden.forward(xs)?, train)
    }
}

hypernetwork! {
    struct HyperNormed for Normed {
        embedding: encoder(4, [5], tanh, 6, 3), generator: linear, mode: dynamic,
    }
}

#[test]
fn running_statistics_go_with_the_parameters() -> Result<()> {
    let file = File::new();
    let (_vars, vb) = variables(0, DType::F64);
    let hyper = HyperNormed::new(vb)?;
    let (xs, condition) = (input(&[8, 3], 1, DType::F64)?, input(&[2, 4], 2, DType::F64)?);
    let params = hyper.generate_params(&condition)?;
    params.forward_t(&xs, true)?;
    params.save(file.path())?;
    let expected = values(&params.forward_t(&xs, false)?)?;
    // Shared ones stay shared while they are the same, and are those of the file when they are not.
    assert_eq!(values(&hyper.load_params(file.path())?.forward_t(&xs, false)?)?, expected);
    params.forward_t(&xs, true)?;
    let now = values(&params.forward_t(&xs, false)?)?;
    assert_ne!(now, expected);
    let earlier = hyper.load_params(file.path())?;
    assert_eq!(values(&earlier.forward_t(&xs, false)?)?, expected);
    // Both in one batch.
    let twice = Tensor::cat(&[&xs, &xs], 0)?;
    let both = GeneratedParams::stack(&[&earlier, &params])?;
    let both = both.forward_t(&twice, false)?;
    assert_eq!(values(&both)?, [expected, now].concat());
    Ok(())
}

#[test]
fn statistics_of_each_set_are_saved_and_selected() -> Result<()> {
    let file = File::new();
    let (_vars, vb) = variables(0, DType::F64);
    let hyper = HyperNormed::new(vb)?;
    let (xs, condition) = (input(&[8, 3], 1, DType::F64)?, input(&[2, 4], 2, DType::F64)?);
    let (_own, vb) = variables(1, DType::F64);
    let buffers = hyper.buffers(2, vb)?;
    let params = hyper.generate_params(&condition)?.with_buffers(&buffers)?;
    params.forward_t(&xs, true)?;
    let expected = values(&params.forward_t(&xs, false)?)?;
    params.save(file.path())?;
    let loaded = hyper.load_params(file.path())?;
    assert_eq!(values(&loaded.forward_t(&xs, false)?)?, expected);
    let swapped = Tensor::cat(&[xs.narrow(0, 4, 4)?, xs.narrow(0, 0, 4)?], 0)?;
    let swapped = values(&params.select(&[1, 0])?.forward_t(&swapped, false)?)?;
    assert_eq!([&swapped[20..], &swapped[..20]].concat(), expected);
    let each = [params.set(0)?, loaded.set(1)?];
    assert_eq!(values(&GeneratedParams::stack(&each)?.forward_t(&xs, false)?)?, expected);
    Ok(())
}

// --- Graphs

/// Whether any node of a graph is held.
fn has_graph(tensor: &Tensor) -> bool {
    tensor.track_op()
}

#[test]
fn nothing_is_held_where_nothing_is_tracked() -> Result<()> {
    let xs = input(&[6, 3], 1, DType::F64)?;
    macro_rules! check {
        ($network:expr) => {{
            let (_vars, hyper) = $network;
            for condition in [&[4][..], &[3, 4]] {
                let params = hyper.generate_params(&input(condition, 7, DType::F64)?)?;
                assert!(params.tensors().all(|(_, tensor)| has_graph(tensor)));
                let params = params.detach();
                let again = GeneratedParams::stack(&[&params, &params])?;
                for params in [params.select(&[0])?, again, params] {
                    assert!(!params.tensors().any(|(_, tensor)| has_graph(tensor)));
                    assert!(!has_graph(&params.forward(&xs)?));
                    assert!(!has_graph(&params.flat()?));
                }
            }
        }};
    }
    each_kind!(check, DType::F64);
    // A network of plain tensors, such as one that only serves.
    for dtype in [None, Some(DType::F32)] {
        let (vars, _) = plain(DType::F64)?;
        let tensors =
            by_name(&vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
        let vb = VarBuilder::from_tensors(tensors.collect(), DType::F64, device());
        let hyper = Plain::new(vb)?;
        let hyper = dtype.map_or(Ok(hyper.with_target_dtype(DType::F64)?), |dtype| {
            Plain::new(variables_of(&vars)?)?.with_target_dtype(dtype)
        })?;
        let params = hyper.generate_params(&input(&[3, 4], 7, DType::F64)?)?;
        assert!(!params.tensors().any(|(_, tensor)| has_graph(tensor)));
        let xs = xs.to_dtype(dtype.unwrap_or(DType::F64))?;
        assert!(!has_graph(&params.forward(&xs)?));
    }
    Ok(())
}

fn variables_of(vars: &candle_nn::VarMap) -> Result<VarBuilder<'static>> {
    let tensors = by_name(vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    Ok(VarBuilder::from_tensors(tensors.collect(), DType::F64, device()))
}
