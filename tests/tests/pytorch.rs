//! PyTorch's checkpoints: read as ordinary networks and as pretrained ones, written by `export`.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use candle_core::{DType, Module, ModuleT, Result, Tensor};
use candle_nn::VarBuilder;
use hypernn::nn::{
    BatchNorm, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, Embedding, GRU, GroupNorm, LSTM,
    LayerNorm, Linear, PReLU, RNN, RmsNorm,
};
use hypernn::{HyperTarget, Pretrained, hypernetwork};
use hypernn_tests::{device, golden, message, relative_error, values, variables};
use tempfile::TempDir;

/// The network of `golden/layers.py`.
#[derive(HyperTarget)]
struct Layers {
    #[hyper(embedding(7, 6))]
    embedding: Embedding,
    #[hyper(conv1d(6, 8, 3, padding = 1))]
    conv1d: Conv1d,
    #[hyper(conv_transpose1d(8, 6, 2, stride = 2))]
    conv_transpose1d: ConvTranspose1d,
    #[hyper(group_norm(2, 6, 1e-5))]
    group_norm: GroupNorm,
    #[hyper(batch_norm(6))]
    batch_norm: BatchNorm,
    #[hyper(prelu(Some(6)))]
    prelu: PReLU,
    #[hyper(conv2d(1, 3, 3))]
    conv2d: Conv2d,
    #[hyper(conv_transpose2d(3, 2, 2))]
    conv_transpose2d: ConvTranspose2d,
    #[hyper(lstm(45, 6))]
    lstm: LSTM,
    #[hyper(gru(6, 5))]
    gru: GRU,
    #[hyper(layer_norm(5, 1e-5))]
    layer_norm: LayerNorm,
    #[hyper(rms_norm(5, 1e-5))]
    rms_norm: RmsNorm,
    #[hyper(linear(5, 4), name = "head.0")]
    hidden: Linear,
    #[hyper(linear_no_bias(4, 3), name = "head.2")]
    last: Linear,
}

impl Module for Layers {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let xs = self.embedding.forward(ids)?.transpose(1, 2)?;
        let xs = self.conv_transpose1d.forward(&self.conv1d.forward(&xs)?)?;
        let xs = self.batch_norm.forward_t(&self.group_norm.forward(&xs)?, false)?;
        let xs = self.conv2d.forward(&self.prelu.forward(&xs)?.unsqueeze(1)?)?;
        let xs = self.conv_transpose2d.forward(&xs)?.flatten_from(2)?;
        let xs = self.lstm.states_to_tensor(&self.lstm.seq(&xs)?)?;
        let states: Vec<_> = self.gru.seq(&xs)?.into_iter().map(|state| state.h).collect();
        let xs = self.rms_norm.forward(&self.layer_norm.forward(&Tensor::stack(&states, 1)?)?)?;
        self.last.forward(&self.hidden.forward(&xs)?.tanh()?)
    }
}

hypernetwork! {
    struct HyperLayers for Layers { embedding: table(38, 3), generator: linear, mode: static }
}

/// The input and the output that PyTorch computed.
fn reference() -> Result<(Tensor, Tensor)> {
    let tensors = candle_core::safetensors::load(golden::path("k_layers.safetensors"), device())?;
    Ok((tensors["input.ids"].clone(), tensors["output"].clone()))
}

#[test]
fn a_state_dict_is_an_ordinary_network() -> Result<()> {
    let (ids, expected) = reference()?;
    let net =
        Layers::new(VarBuilder::from_pth(golden::path("k_layers.pt"), DType::F32, device())?)?;
    let error = relative_error(&net.forward(&ids)?, &expected)?;
    assert!(error < 2e-6, "{error:e}");
    Ok(())
}

/// A hypernetwork over PyTorch's file is PyTorch's network at the start.
fn hyper() -> Result<HyperLayers> {
    HyperLayers::new_from(
        variables(1, DType::F32).1,
        Pretrained::open(golden::path("k_layers.pt"))?,
    )
}

#[test]
fn a_state_dict_is_a_pretrained_network() -> Result<()> {
    let (ids, expected) = reference()?;
    let error = relative_error(&hyper()?.forward(&ids)?, &expected)?;
    assert!(error < 2e-6, "{error:e}");
    Ok(())
}

type Tensors = BTreeMap<String, Tensor>;

fn shapes(tensors: &Tensors) -> Vec<String> {
    let line = |(name, t): (&String, &Tensor)| format!("{name} {:?} {:?}", t.dtype(), t.dims());
    tensors.iter().map(line).collect()
}

/// What `export` writes has the names, shapes, dtypes and values of PyTorch's own `state_dict`. The count
/// of batches, which none but PyTorch's training needs, is filled in by `load_state_dict`.
#[test]
fn a_exported_checkpoint_is_a_state_dict() -> Result<()> {
    let mut expected: Tensors =
        candle_core::pickle::read_all(golden::path("k_layers.pt"))?.into_iter().collect();
    assert!(expected.remove("batch_norm.num_batches_tracked").is_some());
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("exported.safetensors");
    hyper()?.export(&path)?;
    let exported: Tensors = candle_core::safetensors::load(&path, device())?.into_iter().collect();
    assert_eq!(shapes(&exported), shapes(&expected));
    for (name, tensor) in &exported {
        assert_eq!(values(tensor)?, values(&expected[name])?, "{name}");
    }
    Ok(())
}

/// Whether this Python has what `layers.py` needs.
fn python() -> Option<String> {
    let python = std::env::var("HYPERNN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found = Command::new(&python).args(["-c", "import torch, safetensors.torch"]).output();
    match found {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            eprintln!(
                "skipped: `{python}` has no torch and safetensors; HYPERNN_PYTHON names another"
            );
            None
        }
    }
}

/// PyTorch loads what `export` wrote, strictly, and computes what the hypernetwork does: at the start, and
/// with weights of its own.
#[test]
fn pytorch_loads_a_exported_checkpoint() -> Result<()> {
    let Some(python) = python() else { return Ok(()) };
    let fresh = HyperLayers::new(variables(1, DType::F32).1)?;
    for hyper in [hyper()?, fresh] {
        let dir = TempDir::new().unwrap();
        let [exported, expected] = ["exported", "expected"].map(|name| dir.path().join(name));
        hyper.export(&exported)?;
        let output = HashMap::from([("output", hyper.forward(&reference()?.0)?)]);
        candle_core::safetensors::save(&output, &expected)?;
        let run = Command::new(&python)
            .arg(golden::path("layers.py"))
            .args([&exported, &expected])
            .output()?;
        let (out, err) =
            (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{out}{err}");
        assert_eq!(out.trim(), "<All keys matched successfully>");
    }
    Ok(())
}

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(2, 3))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net {
        embedding: table(3, 2), generator: linear, mode: static, init: hyper_nn,
    }
}

hypernetwork! {
    struct DynamicNet for Net {
        embedding: rnn(2, 3, 2), generator: linear, mode: dynamic, init: hyper_nn,
    }
}

hypernetwork! {
    struct EncodedNet for Net {
        embedding: encoder(2, [4], tanh, 3, 2), generator: linear, mode: dynamic, init: hyper_nn,
    }
}

hypernetwork! {
    struct Exact for Net { embedding: table(3, 2), generator: linear, mode: static }
}

/// A `state_dict` of zeros with these shapes, and what loading it says.
fn loading(
    load: &dyn Fn(&Path) -> Result<()>,
    tensors: &[(&'static str, &[usize])],
) -> Result<String> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    let tensors =
        tensors.iter().map(|(name, dims)| Ok((*name, Tensor::zeros(*dims, DType::F32, device())?)));
    candle_core::safetensors::save(&tensors.collect::<Result<HashMap<_, _>>>()?, &path)?;
    Ok(load(&path).err().map_or_else(String::new, |err| {
        message::<()>(Err(err)).replace(path.to_str().unwrap(), "FILE")
    }))
}

const EMBEDDING: (&str, &[usize]) = ("embedding_module.weight", &[3, 2]);
const WEIGHT: (&str, &[usize]) = ("weight_generator.weight", &[3, 2]);
const BIAS: (&str, &[usize]) = ("weight_generator.bias", &[3]);
const DUMMY: (&str, &[usize]) = ("embedding_module.__device_param_dummy__", &[0]);

#[test]
fn state_dicts_that_do_not_fit() -> Result<()> {
    let (vars, vb) = variables(0, DType::F64);
    let hyper = HyperNet::new(vb)?;
    let before = values(&hyper.generate_params()?.flat()?)?;
    let load =
        |tensors: &[(&'static str, &[usize])]| loading(&|path| hyper.load_hyper_nn(path), tensors);
    assert_eq!(
        load(&[EMBEDDING, WEIGHT])?,
        "can't load FILE: no tensor `weight_generator.bias`, which `generator.bias` of shape [3] comes from"
    );
    assert_eq!(
        load(&[EMBEDDING, ("weight_generator.weight", &[4, 2]), BIAS])?,
        "can't load FILE: tensor `weight_generator.weight` has shape [4, 2], expected [3, 2] for `generator.weight`"
    );
    assert_eq!(
        load(&[("embedding_module.weight", &[2, 2]), WEIGHT, BIAS])?,
        "can't load FILE: tensor `embedding_module.weight` has shape [2, 2], expected [3, 2] for `embedding.weight`"
    );
    assert_eq!(
        load(&[EMBEDDING, WEIGHT, BIAS, ("more", &[1])])?,
        "can't load FILE: tensor `more` is none of this hypernetwork's"
    );
    assert_eq!(
        load(&[
            ("module.embedding_module.weight", &[3, 2]),
            ("module.weight_generator.weight", &[3, 2]),
            ("module.weight_generator.bias", &[3]),
        ])?,
        "can't load FILE: no tensor `embedding_module.weight`, which `embedding.weight` of shape [3, 2] comes from: its names have `module.` in front; save that part alone, in PyTorch `torch.save(net.module.state_dict(), path)`"
    );
    assert_eq!(values(&hyper.generate_params()?.flat()?)?, before);
    // More embeddings than feed parameters, and the tensor that knows hyper-nn's device.
    assert_eq!(load(&[("embedding_module.weight", &[5, 2]), WEIGHT, BIAS, DUMMY])?, "");
    assert_eq!(values(&hyper.generate_params()?.flat()?)?, [0.; 9]);
    assert_eq!(vars.all_vars().len(), 3);
    Ok(())
}

#[test]
fn networks_that_hyper_nn_does_not_know() -> Result<()> {
    let exact = Exact::new(variables(0, DType::F32).1)?;
    assert_eq!(
        loading(&|path| exact.load_hyper_nn(path), &[EMBEDDING, WEIGHT, BIAS])?,
        "can't load FILE: hyper-nn takes generated values as they are: declare Exact with `init: hyper_nn`"
    );
    let dynamic = DynamicNet::new(variables(0, DType::F32).1)?;
    assert_eq!(
        loading(&|path| dynamic.load_hyper_nn(path), &[EMBEDDING, WEIGHT, BIAS])?,
        "can't load FILE: no tensor `embedding_module.rnn_cell.weight_ih`, which `embedding.cell.weight_ih` of shape [3, 2] comes from"
    );
    let said = loading(
        &|path| dynamic.load_hyper_nn(path),
        &[("net.hyper.embedding_module.embedding.weight", &[3, 2])],
    )?;
    let advice = "its names have `net.hyper.` in front; save that part alone, in PyTorch `torch.save(net.net.hyper.state_dict(), path)`";
    assert!(said.ends_with(advice), "{said}");
    let encoded = EncodedNet::new(variables(0, DType::F32).1)?;
    assert_eq!(
        loading(&|path| encoded.load_hyper_nn(path), &[EMBEDDING, WEIGHT, BIAS])?,
        "can't load FILE: `embedding.0.weight` has no counterpart in hyper-nn"
    );
    Ok(())
}

#[test]
fn files_of_something_else() {
    let hyper = || HyperNet::new(variables(0, DType::F32).1).unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.pt");
    let says = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let found = [message(hyper().load_hyper_nn(&path)), message(Pretrained::open(&path))];
        assert_eq!(found[0], found[1]);
        found[0].replace(path.to_str().unwrap(), "FILE")
    };
    for bytes in [&b""[..], b"P", b"PK\x03\x04", b"\x80\x02}q\x00.", b"neither"] {
        let found = says(bytes);
        assert!(found.starts_with("can't read FILE: "), "{found}");
    }
    // An archive of one empty file.
    let mut archive = b"PK\x03\x04\x0a\0".to_vec();
    archive.extend([0; 20]);
    archive.extend(b"\x01\0\0\0aPK\x01\x02\x0a\0\x0a\0");
    archive.extend([0; 20]);
    archive.extend(b"\x01\0");
    archive.extend([0; 16]);
    archive.extend(b"aPK\x05\x06\0\0\0\0\x01\0\x01\0\x2f\0\0\0\x1f\0\0\0\0\0");
    assert_eq!(
        says(&archive),
        "can't read FILE: it holds no tensors by name: it is a zip archive of `a`; expected safetensors, or what `torch.save(net.state_dict(), path)` writes"
    );
    // An archive with nothing in it.
    let empty = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert!(says(empty).starts_with("can't read FILE: "));
}
