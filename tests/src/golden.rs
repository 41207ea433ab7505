//! Outputs and gradients against hyper-nn under PyTorch, on any device: see `golden/README.md`.

#![allow(missing_docs, clippy::missing_errors_doc, clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Module, Result, Tensor, Var};
use candle_nn::VarMap;
use hypernn::nn::{Conv2d, Conv2dConfig, GRU, GRUState, Linear, RNN, ops};
use hypernn::{HyperTarget, hypernetwork};

use crate::{relative_error, values, variable, variables_on};

/// A file of `golden/`, which is where `HYPERNN_GOLDEN` says, or beside this package's sources.
pub fn path(name: &str) -> PathBuf {
    let sources = || Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    std::env::var_os("HYPERNN_GOLDEN").map_or_else(sources, PathBuf::from).join(name)
}

/// A file of reference values.
struct Golden {
    tensors: HashMap<String, Tensor>,
    device: Device,
}

impl Golden {
    fn open(name: &str, device: &Device) -> Result<Self> {
        let path = path(&format!("{name}.safetensors"));
        let tensors = candle_core::safetensors::load(path, device)?;
        Ok(Self { tensors, device: device.clone() })
    }

    /// Asserts that both kinds of file of hyper-nn's `state_dict` set the variables to the file's.
    fn check_state_dict(
        &self,
        name: &str,
        load: &dyn Fn(&Path) -> Result<()>,
        vars: &VarMap,
        names: Names<'_>,
    ) -> Result<()> {
        let dir = tempfile::TempDir::new()?;
        let safetensors = dir.path().join("state_dict.safetensors");
        let hyper = self.tensors.iter().filter_map(|(at, t)| Some((at.strip_prefix("hyper.")?, t)));
        let hyper: HashMap<_, _> = hyper.map(|(at, t)| (at.to_owned(), t.clone())).collect();
        candle_core::safetensors::save(&hyper, &safetensors)?;
        for path in [path(&format!("{name}.pt")), safetensors] {
            for (ours, _) in names {
                let var = variable(vars, ours)?;
                var.set(&var.zeros_like()?)?;
            }
            load(&path)?;
            for (ours, theirs) in names {
                let var = variable(vars, ours)?;
                let expected = self.get(&format!("hyper.{theirs}")).narrow(0, 0, var.dim(0)?)?;
                assert_eq!(values(&var)?, values(&expected)?, "{ours}");
            }
        }
        Ok(())
    }

    /// Fresh variables where the file's tensors are.
    fn variables(&self, dtype: DType) -> (VarMap, candle_nn::VarBuilder<'static>) {
        variables_on(&self.device, 0, dtype)
    }

    /// What f32 may be off by; a device adds up in another order.
    fn single(&self) -> f64 {
        if self.device.is_cpu() { 2e-6 } else { 2e-5 }
    }

    fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("no `{name}` in the file"))
    }

    fn as_dtype(&self, name: &str, dtype: DType) -> Result<Tensor> {
        self.get(name).to_dtype(dtype)
    }

    fn input(&self, name: &str, dtype: DType) -> Result<Var> {
        Var::from_tensor(&self.as_dtype(&format!("input.{name}"), dtype)?)
    }

    /// Asserts that `found` is the tensor `name`: the float64 one, where the file has it.
    fn check(&self, name: &str, found: &Tensor) -> Result<()> {
        let exact = self.tensors.get(&format!("f64.{name}"));
        let bound =
            if exact.is_some() && found.dtype() == DType::F64 { 1e-12 } else { self.single() };
        let error = relative_error(found, exact.unwrap_or_else(|| self.get(name)))?;
        assert!(error <= bound, "{name} in {:?}: {error:e}, allowed {bound:e}", found.dtype());
        Ok(())
    }
}

/// `sum(ys²)`, as `[1]`.
fn sum_of_squares(ys: &Tensor) -> Result<Tensor> {
    ys.sqr()?.sum_all()?.reshape(1)
}

/// Our variable's name and the file's.
type Names<'a> = &'a [(&'a str, &'a str)];

/// Sets each variable to the file's tensor, or as many of its first rows as the variable has.
fn set(vars: &VarMap, golden: &Golden, names: Names<'_>) -> Result<()> {
    for (ours, theirs) in names {
        let var = variable(vars, ours)?;
        let tensor = golden.as_dtype(&format!("hyper.{theirs}"), var.dtype())?;
        var.set(&tensor.narrow(0, 0, var.dim(0)?)?)?;
    }
    Ok(())
}

/// What we computed, and the inputs it depends on.
struct Found<'a> {
    generated: Tensor,
    output: Tensor,
    inputs: &'a [(&'a str, &'a Var)],
}

/// The whole case: generated values, output, loss and every gradient.
fn check_case(golden: &Golden, vars: &VarMap, names: Names<'_>, found: Found<'_>) -> Result<()> {
    let Found { generated, output, inputs } = found;
    let used = generated.dim(D::Minus1)?;
    let expected = golden.get("generated").narrow(D::Minus1, 0, used)?;
    assert!(relative_error(&generated, &expected)? <= golden.single());
    golden.check("output", &output)?;
    let loss = sum_of_squares(&output)?;
    golden.check("loss", &loss)?;
    let grads = loss.backward()?;
    for (name, input) in inputs {
        golden.check(&format!("grad.input.{name}"), grads.get(input).unwrap())?;
    }
    for (ours, theirs) in names {
        check_rows(golden, theirs, grads.get(variable(vars, ours)?.as_tensor()).unwrap())?;
    }
    Ok(())
}

/// A gradient; rows that ours does not have must be zero in the file.
fn check_rows(golden: &Golden, theirs: &str, grad: &Tensor) -> Result<()> {
    let name = format!("grad.{theirs}");
    let (rows, found) = (golden.get(&name).dim(0)?, grad.dim(0)?);
    let missing = golden.get(&format!("f64.{name}")).narrow(0, found, rows - found)?;
    assert_eq!(missing.abs()?.sum_all()?.to_scalar::<f64>()?, 0.);
    golden.check(&name, &grad.pad_with_zeros(0, 0, rows - found)?)
}

/// The gradient of the flat vector or vectors, from the functional forward.
fn check_functional<T>(golden: &Golden, dtype: DType, xs: &Tensor) -> Result<()>
where
    T: HyperTarget<Config = ()> + Module + hypernn::FixedTarget,
{
    let flat = golden.as_dtype("generated", dtype)?.narrow(D::Minus1, 0, T::NUM_PARAMS)?;
    let flat = Var::from_tensor(&flat)?;
    let ys = T::functional_forward(&flat, xs)?.reshape(golden.get("output").shape())?;
    // What was generated is in float32, so no output from it is exact in float64.
    assert!(relative_error(&ys, golden.get("f64.output"))? <= golden.single());
    let grad = sum_of_squares(&ys)?.backward()?.get(&flat).unwrap().clone();
    let surplus = golden.get("grad.generated").dim(D::Minus1)? - T::NUM_PARAMS;
    golden.check("grad.generated", &grad.pad_with_zeros(D::Minus1, 0, surplus)?)
}

#[derive(HyperTarget)]
struct Mlp<const IN: usize, const HIDDEN: usize> {
    #[hyper(linear(IN, HIDDEN))]
    first: Linear,
    #[hyper(linear(HIDDEN, 32))]
    second: Linear,
}

impl<const IN: usize, const HIDDEN: usize> Module for Mlp<IN, HIDDEN> {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(xs)?.relu()?)
    }
}

hypernetwork! {
    struct HyperMlp for Mlp<32, 64> {
        embedding: table(32, 4),
        generator: linear,
        mode: static,
        init: hyper_nn,
    }
}

const STATIC: [(&str, &str); 3] = [
    ("embedding.weight", "embedding_module.weight"),
    ("generator.weight", "weight_generator.weight"),
    ("generator.bias", "weight_generator.bias"),
];

pub fn a_static_mlp(device: &Device) -> Result<()> {
    let golden = Golden::open("a_static_small", device)?;
    let names = STATIC;
    for dtype in [DType::F32, DType::F64] {
        let (vars, vb) = golden.variables(dtype);
        let hyper = HyperMlp::new(vb)?;
        set(&vars, &golden, &names)?;
        let xs = golden.input("x", dtype)?;
        let (generated, output) = (hyper.generate_params()?.flat()?, hyper.forward(&xs)?);
        let found = Found { generated, output, inputs: &[("x", &xs)] };
        check_case(&golden, &vars, &names, found)?;
        check_functional::<Mlp<32, 64>>(&golden, dtype, &xs)?;
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Cnn {
    #[hyper(conv2d(1, 64, 3, stride = 2))]
    first: Conv2d,
    #[hyper([conv2d(64, 64, 3, stride = 2); 2])]
    middle: [Conv2d; 2],
    #[hyper(conv2d(64, 10, 2, stride = 2))]
    last: Conv2d,
}

impl Module for Cnn {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let mut xs = self.first.forward(xs)?.relu()?;
        for layer in &self.middle {
            xs = layer.forward(&xs)?.relu()?;
        }
        self.last.forward(&xs)?.flatten_from(1)
    }
}

// hyper-nn has 512 embeddings of which the last feeds nothing; a wasted row is an error here.
hypernetwork! {
    struct HyperCnn for Cnn {
        embedding: table(511, 4),
        generator: mlp([32], tanh),
        mode: static,
        init: hyper_nn,
    }
}

const CNN: [(&str, &str); 5] = [
    ("embedding.weight", "embedding_module.weight"),
    ("generator.0.weight", "weight_generator.0.weight"),
    ("generator.0.bias", "weight_generator.0.bias"),
    ("generator.1.weight", "weight_generator.2.weight"),
    ("generator.1.bias", "weight_generator.2.bias"),
];

pub fn a_static_cnn(device: &Device) -> Result<()> {
    let golden = Golden::open("d_static_cnn", device)?;
    let names = CNN;
    assert_eq!(HyperCnn::CHUNKS.chunk(), 151);
    for dtype in [DType::F32, DType::F64] {
        let (vars, vb) = golden.variables(dtype);
        let hyper = HyperCnn::new(vb)?;
        set(&vars, &golden, &names)?;
        let xs = golden.input("x", dtype)?;
        let (generated, output) = (hyper.generate_params()?.flat()?, hyper.forward(&xs)?);
        let found = Found { generated, output, inputs: &[("x", &xs)] };
        check_case(&golden, &vars, &names, found)?;
        check_functional::<Cnn>(&golden, dtype, &xs)?;
    }
    Ok(())
}

pub fn a_convolution_of_six_samples_with_weights_of_their_own(device: &Device) -> Result<()> {
    let golden = Golden::open("h_batched_conv", device)?;
    for dtype in [DType::F32, DType::F64] {
        let var = |name| Var::from_tensor(&golden.as_dtype(name, dtype)?);
        let (weight, bias, xs) = (var("hyper.w")?, var("hyper.b")?, var("input.x")?);
        let config = Conv2dConfig { padding: 1, ..Default::default() };
        let conv = Conv2d::new(weight.as_tensor().clone(), Some(bias.as_tensor().clone()), config);
        let ys = conv.forward(&xs)?;
        golden.check("output", &ys)?;
        let grads = sum_of_squares(&ys)?.backward()?;
        for (name, var) in [("grad.w", &weight), ("grad.b", &bias), ("grad.input.x", &xs)] {
            golden.check(name, grads.get(var).unwrap())?;
        }
    }
    Ok(())
}

hypernetwork! {
    struct HyperSamples for Mlp<8, 256> {
        embedding: rnn(8, 32, 4),
        generator: linear,
        mode: dynamic,
        init: hyper_nn,
    }
}

/// The names of both dynamic cases.
const DYNAMIC: [(&str, &str); 7] = [
    ("embedding.weight", "embedding_module.embedding.weight"),
    ("embedding.cell.weight_ih", "embedding_module.rnn_cell.weight_ih"),
    ("embedding.cell.weight_hh", "embedding_module.rnn_cell.weight_hh"),
    ("embedding.cell.bias_ih", "embedding_module.rnn_cell.bias_ih"),
    ("embedding.cell.bias_hh", "embedding_module.rnn_cell.bias_hh"),
    ("generator.weight", "weight_generator.weight"),
    ("generator.bias", "weight_generator.bias"),
];

pub fn ten_samples_with_weights_of_their_own(device: &Device) -> Result<()> {
    let golden = Golden::open("f_dynamic_vmap_b10", device)?;
    for dtype in [DType::F32, DType::F64] {
        let (vars, vb) = golden.variables(dtype);
        let hyper = HyperSamples::new(vb)?;
        set(&vars, &golden, &DYNAMIC)?;
        let xs = golden.input("x", dtype)?;
        let rows = xs.squeeze(1)?;
        let params = hyper.generate_params(&rows)?;
        let output = params.forward(&rows)?;
        assert_eq!(values(&output)?, values(&hyper.forward(&rows)?)?);
        let (generated, output) = (params.flat()?, output.unsqueeze(1)?);
        let found = Found { generated, output, inputs: &[("x", &xs)] };
        check_case(&golden, &vars, &DYNAMIC, found)?;
        check_functional::<Mlp<8, 256>>(&golden, dtype, &rows)?;
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Recurrent {
    #[hyper(gru(15, 16))]
    rnn: GRU,
    #[hyper([linear(16, 24), linear(24, 24)])]
    hidden: [Linear; 2],
    #[hyper(linear(24, 12))]
    last: Linear,
}

impl Recurrent {
    fn step(&self, xs: &Tensor, state: &GRUState) -> Result<(Tensor, GRUState)> {
        let state = self.rnn.step(xs, state)?;
        let hidden = self.hidden.iter().try_fold(state.h.clone(), |h, l| l.forward(&h)?.relu())?;
        Ok((ops::log_softmax(&self.last.forward(&hidden)?, D::Minus1)?, state))
    }
}

hypernetwork! {
    struct HyperRecurrent for Recurrent {
        embedding: rnn(15, 8, 4),
        generator: linear,
        mode: dynamic,
        init: hyper_nn,
    }
}

/// The generated vectors, outputs and states of the target, of each step.
fn steps(hyper: &HyperRecurrent, category: &Tensor, xs: &Tensor) -> Result<[Tensor; 3]> {
    let (mut generated, mut outputs, mut hiddens) = (Vec::new(), Vec::new(), Vec::new());
    let mut state = hyper.zero_state(1)?;
    let mut hidden = GRUState { h: Tensor::zeros((1, 16), xs.dtype(), xs.device())? };
    for step in 0..xs.dim(0)? {
        let condition = Tensor::cat(&[category, &xs.get(step)?], 1)?;
        let (params, next) = hyper.generate_step(&condition, &state)?;
        let (output, next_hidden) = params.unpack()?.step(&condition, &hidden)?;
        generated.push(params.flat()?.squeeze(0)?);
        outputs.push(output);
        hiddens.push(next_hidden.h.clone());
        (state, hidden) = (next, next_hidden);
    }
    let stack = |tensors: Vec<Tensor>| Tensor::stack(&tensors, 0);
    Ok([stack(generated)?, stack(outputs)?, stack(hiddens)?])
}

/// Three steps: the hypernetwork's state and the target's are both carried on.
pub fn a_recurrent_target_with_new_weights_at_each_step(device: &Device) -> Result<()> {
    let golden = Golden::open("g_dynamic_grucell", device)?;
    for dtype in [DType::F32, DType::F64] {
        let (vars, vb) = golden.variables(dtype);
        let hyper = HyperRecurrent::new(vb)?;
        set(&vars, &golden, &DYNAMIC)?;
        let (category, xs) = (golden.input("category", dtype)?, golden.input("xs", dtype)?);
        let [generated, output, hiddens] = steps(&hyper, &category, &xs)?;
        golden.check("target_hidden", &hiddens)?;
        let inputs = &[("category", &category), ("xs", &xs)];
        check_case(&golden, &vars, &DYNAMIC, Found { generated, output, inputs })?;
    }
    Ok(())
}

/// hyper-nn's own files, in PyTorch's format and as safetensors, give the same outputs.
pub fn state_dicts_of_static_hypernetworks(device: &Device) -> Result<()> {
    let golden = Golden::open("a_static_small", device)?;
    let (vars, vb) = golden.variables(DType::F32);
    let hyper = HyperMlp::new(vb)?;
    let load = |path: &Path| hyper.load_hyper_nn(path);
    golden.check_state_dict("a_static_small", &load, &vars, &STATIC)?;
    golden.check("output", &hyper.forward(golden.get("input.x"))?)?;

    let golden = Golden::open("d_static_cnn", device)?;
    let (vars, vb) = golden.variables(DType::F32);
    let hyper = HyperCnn::new(vb)?;
    let load = |path: &Path| hyper.load_hyper_nn(path);
    golden.check_state_dict("d_static_cnn", &load, &vars, &CNN)?;
    golden.check("output", &hyper.forward(golden.get("input.x"))?)
}

/// Loads hyper-nn's state dictionaries of dynamic hypernetworks, and compares what they generate and give.
pub fn state_dicts_of_dynamic_hypernetworks(device: &Device) -> Result<()> {
    let golden = Golden::open("f_dynamic_vmap_b10", device)?;
    let (vars, vb) = golden.variables(DType::F32);
    let hyper = HyperSamples::new(vb)?;
    let load = |path: &Path| hyper.load_hyper_nn(path);
    golden.check_state_dict("f_dynamic_vmap_b10", &load, &vars, &DYNAMIC)?;
    let rows = golden.get("input.x").squeeze(1)?;
    golden.check("output", &hyper.forward(&rows)?.unsqueeze(1)?)?;

    let golden = Golden::open("g_dynamic_grucell", device)?;
    let (vars, vb) = golden.variables(DType::F32);
    let hyper = HyperRecurrent::new(vb)?;
    let load = |path: &Path| hyper.load_hyper_nn(path);
    golden.check_state_dict("g_dynamic_grucell", &load, &vars, &DYNAMIC)?;
    let [_, output, _] = steps(&hyper, golden.get("input.category"), golden.get("input.xs"))?;
    golden.check("output", &output)
}
