//! One generator for the modules of all layers: `per_module`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

use candle_core::{D, DType, Module, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, VarBuilder, VarMap};
use hypernn::hypernetwork::StaticHyperNetwork;
use hypernn::nn::{LayerNorm, Linear};
use hypernn::{GeneratedParams, HyperTarget, Sequences, hypernetwork};
use hypernn_tests::{
    by_name, device, gradient_error, gradients, input, message, relative_error, values, variable,
    variables, weighted_sum,
};
use tempfile::TempDir;

const WIDTH: usize = 6;

#[derive(HyperTarget)]
struct Block {
    #[hyper(linear(WIDTH, WIDTH))]
    q_proj: Linear,
    #[hyper(linear_no_bias(WIDTH, 4))]
    v_proj: Linear,
    #[hyper(linear_no_bias(4, WIDTH))]
    o_proj: Linear,
}

/// A decoder in outline: blocks, and what lies around them.
#[derive(HyperTarget)]
#[hyper(config = usize)]
struct Decoder {
    #[hyper([target; *config])]
    layers: Vec<Block>,
    #[hyper(linear(WIDTH, 3))]
    head: Linear,
}

impl Module for Decoder {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let xs = self.layers.iter().try_fold(xs.clone(), |xs, block| {
            let values = block.v_proj.forward(&block.q_proj.forward(&xs)?.tanh()?)?;
            xs + block.o_proj.forward(&values.tanh()?)?
        })?;
        self.head.forward(&xs)
    }
}

/// A hypernetwork over decoders, with adapters of rank 2 for q and v, and a bias of the head.
macro_rules! hyper {
    ($name:ident, $mode:ident, $embedding:expr, $generator:expr) => {
        hypernetwork! {
            struct $name for Decoder {
                config: usize,
                roles: [
                    ("*.q_proj.weight", lora(2, 6.)),
                    ("*.v_proj.weight", lora(2, 6.)),
                    ("*", freeze),
                ],
                embedding: $embedding,
                generator: $generator,
                mode: $mode,
            }
        }
    };
}

hyper!(HyperStatic, static, table(1, 3), per_module(5, [7], gelu));
hyper!(HyperEncoded, dynamic, encoder(4, [5], tanh, 2, 3), per_module(5, [7, 8], tanh));
hyper!(HyperTasks, dynamic, tasks(3, 1, 4), per_module(5, [7], gelu));
hyper!(HyperRecurrent, dynamic, gru(4, 2, 3), per_module(5, [7], silu));
hyper!(HyperConditioned, dynamic, table(2, 3), per_module(5, [7], gelu).conditioned(4));

fn trained(layers: usize) -> Result<HashMap<String, Tensor>> {
    let (vars, vb) = variables(1, DType::F64);
    Decoder::with_config(&layers, vb)?;
    let tensors = by_name(&vars).into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    Ok(tensors.collect())
}

fn pretrained(layers: usize) -> Result<VarBuilder<'static>> {
    Ok(VarBuilder::from_tensors(trained(layers)?, DType::F64, device()))
}

fn set(var: &Var, seed: u64) -> Result<()> {
    var.set(&input(var.dims(), seed, var.dtype())?)
}

/// Lets the heads of `up` give something.
fn open(vars: &VarMap) -> Result<()> {
    for (at, (_, var)) in
        by_name(vars).into_iter().filter(|(name, _)| name.contains(".up_")).enumerate()
    {
        set(&var, 70 + at as u64)?;
    }
    Ok(())
}

fn encoded(layers: usize) -> Result<(VarMap, HyperEncoded)> {
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperEncoded::new_from(&layers, vb, pretrained(layers)?)?;
    open(&vars)?;
    Ok((vars, hyper))
}

fn conditions(sets: usize) -> Result<Tensor> {
    input(&[sets, 4], 5, DType::F64)
}

fn xs() -> Result<Tensor> {
    input(&[6, WIDTH], 6, DType::F64)
}

fn tensor<'a, T>(params: &'a GeneratedParams<T>, name: &str) -> &'a Tensor {
    params.tensors().find(|(param, _)| param.name == name).unwrap().1
}

/// The generator's variables by name.
struct Variables(BTreeMap<String, Var>);

impl Variables {
    fn get(&self, name: &str) -> Tensor {
        self.0[&format!("generator.{name}")].as_detached_tensor()
    }

    fn layer(&self, name: &str, xs: &Tensor) -> Result<Tensor> {
        let weight = self.get(&format!("{name}.weight"));
        xs.matmul(&weight.t()?)?.broadcast_add(&self.get(&format!("{name}.bias")))
    }

    /// One row of a factor, from the numbers of its embeddings.
    fn row(
        &self,
        condition: &Tensor,
        [layer, kind, row]: [usize; 3],
        head: &str,
    ) -> Result<Tensor> {
        let embedding = |table: &str, at: usize| self.get(&format!("{table}.weight")).get(at);
        let place = [embedding("layer", layer)?, embedding("kind", kind)?, embedding("row", row)?];
        let place = Tensor::cat(&place, 0)?.unsqueeze(0)?;
        let from_condition = condition.matmul(&self.get("trunk.condition.weight").t()?)?;
        let hidden = (self.layer("trunk.place", &place)? + from_condition)?.tanh()?;
        let hidden = self.layer("trunk.1", &hidden)?.tanh()?;
        self.layer(&format!("head.{head}"), &hidden)?.squeeze(0)
    }
}

/// Each row of each factor, by candle's operations, one after the other: kinds in the order of the layout, and a head
/// for each width of rows of either factor.
#[test]
fn it_is_what_is_computed_by_hand() -> Result<()> {
    let (vars, hyper) = encoded(3)?;
    let variables = Variables(by_name(&vars));
    let (conditions, params) = (conditions(2)?, hyper.generate_params(&conditions(2)?)?);
    let heads = [("q_proj", 0, WIDTH, WIDTH), ("v_proj", 2, WIDTH, 4)];
    for set in 0..2 {
        let condition = embedded(&vars, &conditions.narrow(0, set, 1)?)?;
        for (layer, (module, kind, inputs, outputs)) in
            (0..3).flat_map(|layer| heads.map(|head| (layer, head)))
        {
            let rows = |kind: usize, head: String| {
                let rows = (0..2).map(|row| variables.row(&condition, [layer, kind, row], &head));
                Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0)
            };
            let down = rows(kind, format!("down_{inputs}"))?;
            let up = rows(kind + 1, format!("up_{outputs}"))?.t()?;
            let name = format!("layers.{layer}.{module}.weight");
            let found = |factor: &str| tensor(&params, &format!("{name}.{factor}")).get(set);
            // The deviation of candle's own init, and a tenth for what starts at a constant.
            let deviation = (3. * inputs as f64).sqrt().recip();
            assert!(relative_error(&found("lora_a")?, &(down * deviation)?)? < 1e-12, "{name}");
            assert!(relative_error(&found("lora_b")?, &(up * 0.1)?)? < 1e-12, "{name}");
        }
    }
    Ok(())
}

/// The encoder's output, two embeddings of width 3 one behind the other, divided by their root mean square.
fn embedded(vars: &VarMap, condition: &Tensor) -> Result<Tensor> {
    let layer = |at: usize, xs: &Tensor| {
        let part = |part: &str| variable(vars, &format!("embedding.{at}.{part}"));
        xs.matmul(&part("weight")?.t()?)?.broadcast_add(part("bias")?.as_tensor())
    };
    let flat = layer(1, &layer(0, condition)?.tanh()?)?;
    flat.broadcast_div(&(flat.sqr()?.mean_keepdim(D::Minus1)? + 1e-8)?.sqrt()?)
}

/// Nothing is added at the start; there are no bases and no gains.
#[test]
fn adapters_start_at_zero() -> Result<()> {
    let net = Decoder::with_config(&3, pretrained(3)?)?;
    let expected = values(&net.forward(&xs()?)?)?;
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperStatic::new_from(&3, vb, pretrained(3)?)?;
    assert_eq!(values(&hyper.forward(&xs()?)?)?, expected);
    let parts = |name: &String| name.starts_with("generator.") || name.starts_with("embedding.");
    assert!(by_name(&vars).keys().all(parts), "{:?}", by_name(&vars).keys());
    let (vars, vb) = variables(2, DType::F64);
    let hyper = HyperEncoded::new_from(&3, vb, pretrained(3)?)?;
    assert!(by_name(&vars).keys().all(parts), "{:?}", by_name(&vars).keys());
    let params = hyper.generate_params(&conditions(3)?)?;
    assert_eq!(values(&params.forward(&xs()?)?)?, expected);
    let down = tensor(&params, "layers.2.q_proj.weight.lora_a");
    assert!(values(down)?.iter().all(|value| *value != 0.));
    Ok(())
}

fn step(vars: &VarMap, loss: &dyn Fn() -> Result<Tensor>) -> Result<()> {
    let mut optimizer = AdamW::new(vars.all_vars(), ParamsAdamW { lr: 0.1, ..Default::default() })?;
    for _ in 0..2 {
        optimizer.backward_step(&loss()?)?;
    }
    Ok(())
}

/// After two steps every variable has a gradient, that of finite differences; the audit is complete from the start.
macro_rules! learns {
    ($name:ident, $hyper:ident, $condition:expr) => {
        #[test]
        #[allow(clippy::let_unit_value)]
        fn $name() -> Result<()> {
            let (vars, vb) = variables(2, DType::F64);
            let hyper = $hyper::new_from(&2, vb, pretrained(2)?)?;
            let condition = $condition;
            let generate = || hypernn::Hypernetwork::generate(&hyper, &condition);
            let loss = || weighted_sum(&generate()?.forward(&xs()?)?);
            let audit = || {
                let params = generate()?;
                hyper.audit(&params, &weighted_sum(&params.forward(&xs()?)?)?)
            };
            let first = audit()?;
            assert!(first.is_complete(), "{first}");
            step(&vars, &loss)?;
            let audit = audit()?;
            assert!(audit.is_complete(), "{audit}");
            // The first state of a recurrent cell is zero, and so are the gradients of what it meets.
            let grads = gradients(&vars, &loss()?)?.into_iter();
            for (name, grad) in grads.filter(|(name, _)| !name.contains("weight_hh")) {
                assert!(values(&grad)?.iter().any(|value| *value != 0.), "{name}");
            }
            let error = gradient_error(&vars, &loss)?;
            assert!(error < 1e-6, "{error:e}");
            Ok(())
        }
    };
}

learns!(a_static_network_learns, HyperStatic, ());
learns!(an_encoded_condition_learns, HyperEncoded, conditions(3)?);
learns!(tasks_learn, HyperTasks, Tensor::new(&[2u32, 0, 1], device())?);
learns!(a_recurrent_condition_learns, HyperRecurrent, conditions(2)?);
learns!(an_appended_condition_learns, HyperConditioned, conditions(3)?);

/// Each layer more costs an embedding; ranks, kinds and widths of rows are those of the declaration.
#[test]
fn a_layer_costs_one_embedding() -> Result<()> {
    let hyper = |layers: usize| {
        let (vars, vb) = variables(2, DType::F64);
        let hyper = HyperEncoded::new_from(&layers, vb, pretrained(layers)?)?;
        assert_eq!(hyper.trainable().len(), vars.all_vars().len());
        Ok::<_, candle_core::Error>((hyper.num_params(), hyper.num_target_params()))
    };
    let ((few, few_generated), (many, many_generated)) = (hyper(2)?, hyper(30)?);
    assert_eq!(many - few, 28 * 5);
    assert_eq!(many_generated, 15 * few_generated);
    let encoder = (4 + 1) * 5 + (5 + 1) * 6;
    let embeddings = (2 + 4 + 2) * 5;
    let trunk = (6 + 15 + 1) * 7 + (7 + 1) * 8;
    let heads = (8 + 1) * (WIDTH + WIDTH + 4);
    assert_eq!(few, encoder + embeddings + trunk + heads);
    Ok(())
}

/// A set of several is what its condition gives alone, and different conditions give different adapters.
#[test]
fn sets_are_those_of_their_conditions() -> Result<()> {
    let (_vars, hyper) = encoded(3)?;
    let (conditions, xs) = (conditions(3)?, xs()?);
    let params = hyper.generate_params(&conditions)?;
    let ys = params.forward(&xs)?;
    for at in 0..3 {
        let alone = hyper.generate_params(&conditions.get(at)?)?;
        assert!(relative_error(&params.set(at)?.flat()?, &alone.flat()?)? < 1e-13);
        let rows = alone.forward(&xs.narrow(0, 2 * at, 2)?)?;
        assert!(relative_error(&ys.narrow(0, 2 * at, 2)?, &rows)? < 1e-12);
    }
    assert!(relative_error(&params.set(0)?.flat()?, &params.set(1)?.flat()?)? > 0.01);
    Ok(())
}

/// In half precision it is nearly the same.
#[test]
fn half_precision() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let (vars, vb) = variables(2, dtype);
        let base = VarBuilder::from_tensors(trained(2)?, DType::F64, device());
        let hyper = HyperTasks::new_from(&2, vb, base)?;
        open(&vars)?;
        let (exact, vb) = variables(2, DType::F64);
        let expected = HyperTasks::new_from(&2, vb, pretrained(2)?)?;
        for (name, var) in by_name(&vars) {
            variable(&exact, &name)?.set(&var.to_dtype(DType::F64)?)?;
        }
        let task = Tensor::new(&[1u32, 2, 0], device())?;
        let ys = hyper.generate_params(&task)?.forward(&xs()?.to_dtype(dtype)?)?;
        let error = relative_error(&ys, &expected.generate_params(&task)?.forward(&xs()?)?)?;
        let bound = if dtype == DType::F32 { 1e-5 } else { 0.05 };
        assert!(error < bound, "{dtype:?}: {error:e}");
        for (name, grad) in gradients(&vars, &weighted_sum(&ys)?.to_dtype(DType::F32)?)? {
            assert!(values(&grad)?.iter().any(|value| *value != 0.), "{name} {dtype:?}");
        }
    }
    Ok(())
}

/// What is saved is loaded into the same declaration alone.
#[test]
fn checkpoints() -> Result<()> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("hyper.safetensors");
    let (_vars, hyper) = encoded(2)?;
    hyper.save(&path)?;
    let (_others, vb) = variables(9, DType::F64);
    let other = HyperEncoded::new_from(&2, vb, pretrained(2)?)?;
    other.load(&path)?;
    let flat = |hyper: &HyperEncoded| hyper.generate_params(&conditions(2)?)?.flat();
    assert_eq!(values(&flat(&other)?)?, values(&flat(&hyper)?)?);
    hyper!(Wider, dynamic, encoder(4, [5], tanh, 2, 3), per_module(6, [7, 8], tanh));
    let wider = Wider::new_from(&2, variables(9, DType::F64).1, pretrained(2)?)?;
    assert!(
        message(wider.load(&path)).contains("per_module(5, [7, 8], tanh)"),
        "{}",
        message(wider.load(&path))
    );
    let deeper = HyperEncoded::new_from(&3, variables(9, DType::F64).1, pretrained(3)?)?;
    let found = message(deeper.load(&path));
    assert!(found.contains("layers.2.q_proj.weight.lora_a"), "{found}");
    Ok(())
}

/// One task's network as an ordinary checkpoint.
#[test]
fn export_merges() -> Result<()> {
    let (_vars, hyper) = encoded(2)?;
    let condition = conditions(1)?.get(0)?;
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    hyper.export(&condition, &path)?;
    let exported = candle_core::safetensors::load(&path, device())?;
    let net = Decoder::with_config(&2, VarBuilder::from_tensors(exported, DType::F64, device()))?;
    let ys = hyper.generate_params(&condition)?.forward(&xs()?)?;
    assert!(relative_error(&net.forward(&xs()?)?, &ys)? < 1e-12);
    Ok(())
}

/// Tensors that are generated whole, of a target whose sizes the compiler knows.
#[derive(HyperTarget)]
#[hyper(sequential)]
struct Plain {
    #[hyper(layer_norm(8))]
    norm: LayerNorm,
    #[hyper([linear(8, 8); 2])]
    layers: [Linear; 2],
    #[hyper(linear(8, 3))]
    out: Linear,
}

hypernetwork! {
    struct HyperPlain for Plain {
        roles: [("*", generate)],
        embedding: table(2, 3),
        generator: per_module(16, [64], tanh),
        mode: static,
    }
}

/// They start with the statistics of candle's own init; rows of one width have one head.
#[test]
fn whole_tensors() -> Result<()> {
    const SEEDS: u64 = 200;
    let names = ["layers.0.weight", "layers.1.bias", "out.weight"];
    let mut squares = [0.; 3];
    for seed in 0..SEEDS {
        let (vars, vb) = variables(seed, DType::F64);
        let hyper = HyperPlain::new(vb)?;
        assert_eq!(hyper.num_target_params(), Plain::NUM_PARAMS);
        let params = hyper.generate_params()?;
        let gains = tensor(&params, "norm.weight");
        assert!(values(gains)?.iter().all(|gain| *gain == 1.));
        // Kaiming's for weights; for a bias, uniform up to the inverse root of the inputs.
        let variances = [2. / 8., 1. / (3. * 8.), 2. / 8.];
        for (at, name) in names.iter().enumerate() {
            let values = values(tensor(&params, name))?;
            let mean = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
            squares[at] += mean / variances[at] / SEEDS as f64;
        }
        let heads = by_name(&vars).into_keys().filter(|name| name.starts_with("generator.head."));
        let heads: Vec<_> = heads.filter(|name| name.ends_with(".weight")).collect();
        assert_eq!(heads, ["generator.head.whole_3.weight", "generator.head.whole_8.weight"]);
    }
    assert!(squares.iter().all(|square| (square - 1.).abs() < 0.12), "{squares:?}");
    let (vars, vb) = variables(3, DType::F64);
    let hyper = HyperPlain::new(vb)?;
    let xs = input(&[4, 8], 6, DType::F64)?;
    let error = gradient_error(&vars, &|| weighted_sum(&hyper.forward(&xs)?))?;
    assert!(error < 1e-6, "{error:e}");
    Ok(())
}

/// Generated values as they are, and heads that start as all others.
#[test]
fn under_the_init_of_hyper_nn() -> Result<()> {
    hypernetwork! {
        struct Raw for Decoder {
            config: usize,
            roles: [("*.q_proj.weight", lora(2, 6.)), ("*", freeze)],
            embedding: table(1, 3),
            generator: per_module(5, [7], gelu),
            mode: static,
            init: hyper_nn,
        }
    }
    let (vars, vb) = variables(2, DType::F64);
    let hyper = Raw::new_from(&2, vb, pretrained(2)?)?;
    let head = values(variable(&vars, "generator.head.up_6.weight")?.as_tensor())?;
    assert!(head.iter().all(|value| *value != 0. && value.abs() <= 7f64.sqrt().recip()));
    let net = Decoder::with_config(&2, pretrained(2)?)?;
    let error = relative_error(&hyper.forward(&xs()?)?, &net.forward(&xs()?)?)?;
    assert!(error < 1e-12, "{error:e}");
    Ok(())
}

#[test]
fn sizes_that_can_not_be() -> Result<()> {
    use hypernn::generator::spec::{gelu, per_module};
    use hypernn::generator::{GeneratorShape, GeneratorSpec};
    use hypernn::init::InitScheme;
    let shape = GeneratorShape::new(1, 3, 10);
    let problem = |spec: hypernn::generator::PerModuleSpec<1>| {
        spec.info(shape).problem.map(|problem| problem.message().to_owned())
    };
    assert_eq!(
        problem(per_module(0, [3], gelu)).as_deref(),
        Some("per_module: width is 0, expected at least 1")
    );
    assert_eq!(
        problem(per_module(2, [0], gelu)).as_deref(),
        Some("per_module: a hidden width is 0, expected at least 1")
    );
    let none = per_module(2, [], gelu).info(shape).problem;
    assert_eq!(
        none.map(|problem| problem.message().to_owned()).as_deref(),
        Some("per_module: no hidden widths, expected at least 1")
    );
    let spec = per_module(2, [3], gelu);
    assert!(spec.info(shape).depends_on_layout);
    assert_eq!(
        message(spec.build(shape, InitScheme::Exact, variables(0, DType::F32).1)),
        "`per_module(2, [3], gelu)` is built for the tensors of a layout: call `build_for`"
    );
    Ok(())
}

hyper!(ByRow, static, table(2, 3), per_module(5, [7], gelu).by_row());
hyper!(ByLayer, static, table(2, 3), per_module(5, [7], gelu).by_layer());
hyper!(ByPlace, static, table(8, 3), per_module(5, [7], gelu).by_place());
hyper!(OfDocument, dynamic, perceiver(4, 2, 8, 1, 2), per_module(5, [7], gelu).by_row());

/// The rows, of adapters' factors those of their ranks, that change with an embedding: as tensor, and number of row.
fn changed<H: Deref<Target = StaticHyperNetwork<Decoder>>>(
    hyper: &H,
    vars: &VarMap,
    embedding: usize,
) -> Result<Vec<(String, usize)>> {
    open(vars)?;
    let table = variable(vars, "embedding.weight")?;
    let before = hyper.generate_params()?.detach();
    let kept = table.copy()?;
    let moved = Tensor::ones((1, table.dim(1)?), DType::F64, device())?;
    table.set(&kept.slice_assign(&[embedding..embedding + 1, 0..table.dim(1)?], &moved)?)?;
    let after = hyper.generate_params()?.detach();
    table.set(&kept)?;
    let mut rows = Vec::new();
    for ((info, before), (_, after)) in before.tensors().zip(after.tensors()) {
        let up = info.name.ends_with("lora_b");
        let turned = |tensor: &Tensor| if up { tensor.t() } else { Ok(tensor.clone()) };
        let difference = (turned(after)? - turned(before)?)?.abs()?;
        let difference = match difference.rank() {
            1 => difference.unsqueeze(0)?,
            _ => difference,
        };
        for (row, values) in difference.to_vec2::<f64>()?.iter().enumerate() {
            if values.iter().any(|value| *value > 0.) {
                rows.push((info.name.clone(), row));
            }
        }
    }
    Ok(rows)
}

/// Both factors of an adapter, and a row of them.
fn pair(layer: usize, module: &str, row: usize) -> [(String, usize); 2] {
    ["a", "b"].map(|end| (format!("layers.{layer}.{module}.weight.lora_{end}"), row))
}

#[test]
fn each_part_has_its_embedding() -> Result<()> {
    let network = |seed| variables(seed, DType::F64);
    let sorted = |mut rows: Vec<(String, usize)>| {
        rows.sort();
        rows
    };
    let modules = |layer, row| [pair(layer, "q_proj", row), pair(layer, "v_proj", row)].concat();
    let (vars, vb) = network(1);
    let hyper = ByRow::new_from(&2, vb, pretrained(2)?)?;
    for row in 0..2 {
        let expected = [modules(0, row), modules(1, row)].concat();
        assert_eq!(sorted(changed(&hyper, &vars, row)?), sorted(expected));
    }
    let (vars, vb) = network(1);
    let hyper = ByLayer::new_from(&2, vb, pretrained(2)?)?;
    for layer in 0..2 {
        let expected = [modules(layer, 0), modules(layer, 1)].concat();
        assert_eq!(sorted(changed(&hyper, &vars, layer)?), sorted(expected));
    }
    let (vars, vb) = network(1);
    let hyper = ByPlace::new_from(&2, vb, pretrained(2)?)?;
    for place in 0..8 {
        let module = ["q_proj", "v_proj"][place / 2 % 2];
        let expected = pair(place / 4, module, place % 2).to_vec();
        assert_eq!(sorted(changed(&hyper, &vars, place)?), sorted(expected));
    }
    Ok(())
}

/// Weights that are generated whole, row by row.
#[test]
fn each_row_of_whole_tensors_has_its_embedding() -> Result<()> {
    hypernetwork! {
        struct Whole for Decoder {
            config: usize,
            roles: [("*", generate)],
            embedding: table(21, 3),
            generator: per_module(5, [7], gelu).by_place(),
            mode: static,
        }
    }
    let (vars, vb) = variables(1, DType::F64);
    let hyper = Whole::new(&1, vb)?;
    let mut places = Vec::new();
    for info in hyper.layout().params() {
        let rows = if info.shape.rank() == 1 { 1 } else { info.shape.dims()[0] };
        places.extend((0..rows).map(|row| (info.name.clone(), row)));
    }
    assert_eq!(places.len(), 21);
    for (place, expected) in places.into_iter().enumerate() {
        assert_eq!(changed(&hyper, &vars, place)?, [expected]);
    }
    Ok(())
}

/// The queries of a perceiver are the ranks of all adapters.
#[test]
fn ranks_of_documents() -> Result<()> {
    let (vars, vb) = variables(2, DType::F64);
    let hyper = OfDocument::new_from(&2, vb, pretrained(2)?)?;
    open(&vars)?;
    let documents = [input(&[5, 4], 1, DType::F64)?, input(&[2, 4], 2, DType::F64)?];
    let sequences = Sequences::pad(&documents)?;
    let loss = || weighted_sum(&hyper.generate_params(&sequences)?.forward(&xs()?)?);
    assert!(gradient_error(&vars, &loss)? < 1e-6);
    let together = hyper.generate_params(&sequences)?;
    for (number, document) in documents.iter().enumerate() {
        let alone = hyper.generate_params(document)?.flat()?;
        assert!(relative_error(&together.set(number)?.flat()?, &alone)? < 1e-12);
    }
    // What a checkpoint says of the generator.
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("adapters.safetensors");
    ByRow::new_from(&2, variables(1, DType::F64).1, pretrained(2)?)?.save(&path)?;
    let other = ByLayer::new_from(&2, variables(1, DType::F64).1, pretrained(2)?)?;
    let refused = message(other.load(&path));
    let expected = "the file has `per_module(5, [7], gelu).by_row()`, ByLayer has `per_module(5, [7], gelu).by_layer()`";
    assert!(refused.ends_with(expected), "{refused}");
    Ok(())
}

#[test]
fn another_number_of_embeddings_is_refused() -> Result<()> {
    let vb = || variables(1, DType::F64).1;
    assert_eq!(
        message(ByLayer::new_from(&3, vb(), pretrained(3)?)),
        "`per_module(5, [7], gelu).by_layer()` makes 3 layers from 2 embeddings, expected 3"
    );
    assert_eq!(
        message(ByPlace::new_from(&3, vb(), pretrained(3)?)),
        "`per_module(5, [7], gelu).by_place()` makes 12 rows of all tensors from 8 embeddings, expected 12"
    );
    hyper!(ByRowOfThree, static, table(3, 3), per_module(5, [7], gelu).by_row());
    assert_eq!(
        message(ByRowOfThree::new_from(&2, vb(), pretrained(2)?)),
        "`per_module(5, [7], gelu).by_row()` makes 2 rows of a tensor from 3 embeddings, expected 2"
    );
    Ok(())
}
