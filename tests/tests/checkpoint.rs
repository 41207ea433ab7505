//! Files: what is saved comes back in every bit, and what can't be loaded is refused with a reason
//! and changes nothing.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, ModuleT, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::nn::{
    BatchNorm, BatchNormConfig, Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, ConvTranspose1d,
    ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig, GroupNorm, LayerNorm,
    LayerNormConfig, Linear, PReLU, RmsNorm,
};
use hypernn::{HyperTarget, hypernetwork};
use hypernn_tests::{by_name, device, input, message, values, variable, variables};
use tempfile::TempDir;

#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(3, 4))]
    linear: Linear,
    #[hyper(batch_norm(4, 1e-5))]
    norm: BatchNorm,
    #[hyper(prelu(None))]
    activation: PReLU,
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Result<Tensor> {
        use candle_core::Module;
        self.activation.forward(&self.norm.forward_t(&self.linear.forward(xs)?, train)?)
    }
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(5, 3), generator: linear, mode: static }
}

// Other sizes for the same target.
hypernetwork! {
    struct Wider for Net { embedding: table(5, 4), generator: linear, mode: static }
}

// Another generator for the same target.
hypernetwork! {
    struct Deeper for Net { embedding: table(5, 3), generator: mlp([3], relu), mode: static }
}

// Without bases.
hypernetwork! {
    struct Plain for Net {
        embedding: table(5, 3),
        generator: linear,
        mode: static,
        init: hyper_nn,
    }
}

/// Another target of as many parameters.
#[derive(HyperTarget)]
struct Other {
    #[hyper(linear(3, 4))]
    linear: Linear,
    #[hyper(tensor([3, 3]))]
    bare: Tensor,
}

hypernetwork! {
    struct HyperOther for Other { embedding: table(5, 3), generator: linear, mode: static }
}

/// A network that has seen a training step, so that its buffers are not those of a fresh one.
fn trained(seed: u64, dtype: DType) -> Result<(VarMap, HyperNet)> {
    let (vars, vb) = variables(seed, dtype);
    let hyper = HyperNet::new(vb)?;
    hyper.forward_t(&input(&[6, 3], seed, dtype)?, true)?;
    let bias = variable(&vars, "generator.bias")?;
    bias.set(&input(bias.dims(), seed + 1, dtype)?)?;
    Ok((vars, hyper))
}

fn all_values(vars: &VarMap) -> Result<BTreeMap<String, Vec<f64>>> {
    by_name(vars).into_iter().map(|(name, var)| Ok((name, values(&var)?))).collect()
}

fn output(hyper: &HyperNet, dtype: DType) -> Result<Vec<f64>> {
    values(&hyper.forward_t(&input(&[4, 3], 77, dtype)?, false)?)
}

/// A directory and a path in it.
fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    (dir, path)
}

fn files(dir: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_is_saved_comes_back_in_every_bit() -> Result<()> {
    for dtype in [DType::F16, DType::F32, DType::F64] {
        let ((_dir, path), (vars, hyper)) = (place(), trained(1, dtype)?);
        hyper.save(&path)?;
        let (other_vars, other) = trained(2, dtype)?;
        assert_ne!(output(&other, dtype)?, output(&hyper, dtype)?);
        other.load(&path)?;
        assert_eq!(all_values(&other_vars)?, all_values(&vars)?);
        assert_eq!(output(&other, dtype)?, output(&hyper, dtype)?);
    }
    Ok(())
}

/// Only the file itself is left, also where it replaces another.
#[test]
fn nothing_else_is_left_behind() -> Result<()> {
    let ((dir, path), (_vars, hyper)) = (place(), trained(1, DType::F32)?);
    for _ in 0..2 {
        hyper.save(&path)?;
        hyper.export(&path)?;
        assert_eq!(files(&dir), ["net.safetensors"]);
    }
    Ok(())
}

#[test]
fn a_file_that_cannot_be_written() -> Result<()> {
    let ((dir, path), (_vars, hyper)) = (place(), trained(1, DType::F32)?);
    // A directory with something in it can't be replaced by a file.
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("inside"), "").unwrap();
    for written in [hyper.save(&path), hyper.export(&path)] {
        let found = message(written).replace(path.to_str().unwrap(), "FILE");
        assert!(found.starts_with("can't write FILE: "), "{found}");
    }
    assert_eq!(files(&dir), ["net.safetensors"]);
    let missing = dir.path().join("missing").join("net.safetensors");
    let found = message(hyper.save(&missing)).replace(missing.to_str().unwrap(), "FILE");
    assert!(found.starts_with("can't write FILE: "), "{found}");
    assert_eq!(files(&dir), ["net.safetensors"]);
    let found = message(hyper.save("/"));
    assert_eq!(found, "can't write /: it names no file");
    Ok(())
}

/// Loads into a network and asserts that nothing of it has changed; what was said, with the path and
/// hashes taken out.
macro_rules! refused {
    ($hyper:ident, $dtype:expr, $path:expr) => {{
        let (vars, vb) = variables(9, $dtype);
        let hyper = $hyper::new(vb)?;
        let before = all_values(&vars)?;
        let said = message(hyper.load($path));
        assert_eq!(all_values(&vars)?, before);
        without_particulars(&said, $path)
    }};
}

fn without_particulars(said: &str, path: &Path) -> String {
    let said = said.replace(path.to_str().unwrap(), "FILE");
    let is_hash = |word: &str| {
        let word = word.trim_end_matches(',');
        word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit())
    };
    let words = said.split(' ').map(|word| match word {
        word if is_hash(word) && word.ends_with(',') => "HASH,",
        word if is_hash(word) => "HASH",
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_file_that_is_not_there() -> Result<()> {
    let (_dir, path) = place();
    let reason = std::fs::read(&path).unwrap_err();
    assert_eq!(refused!(HyperNet, DType::F32, &path), format!("can't load FILE: {reason}"));
    Ok(())
}

/// A whole checkpoint's bytes, and where its data begins.
fn bytes(hyper: &HyperNet, path: &Path) -> Result<(Vec<u8>, usize)> {
    hyper.save(path)?;
    let bytes = std::fs::read(path)?;
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    Ok((bytes, 8 + header))
}

#[test]
fn a_truncated_file() -> Result<()> {
    let ((_dir, path), (_vars, hyper)) = (place(), trained(1, DType::F32)?);
    let (bytes, data) = bytes(&hyper, &path)?;
    let whole = "it is not a whole safetensors file:";
    let cases = [
        (0, "it is empty".to_owned()),
        (7, "it is of no kind that is known, and begins with the bytes ".to_owned()),
        (8, "it is of no kind that is known, and begins with the bytes ".to_owned()),
        (
            data / 2,
            format!(
                "{whole} invalid header length: its header has {} bytes, the file {}",
                data - 8,
                data / 2
            ),
        ),
        (
            data,
            format!(
                "{whole} incomplete metadata, file not fully covered: behind the header are 0 bytes"
            ),
        ),
        (
            data + 1,
            format!(
                "{whole} incomplete metadata, file not fully covered: behind the header are 1 bytes"
            ),
        ),
        (
            bytes.len() - 1,
            format!(
                "{whole} incomplete metadata, file not fully covered: behind the header are {} bytes",
                bytes.len() - data - 1
            ),
        ),
    ];
    for (len, reason) in cases {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let found = refused!(HyperNet, DType::F32, &path);
        assert!(found.starts_with(&format!("can't load FILE: {reason}")), "{len} bytes: {found}");
    }
    Ok(())
}

#[test]
fn an_altered_byte() -> Result<()> {
    let ((_dir, path), (_vars, hyper)) = (place(), trained(1, DType::F32)?);
    let (bytes, data) = bytes(&hyper, &path)?;
    for at in [data, (data + bytes.len()) / 2, bytes.len() - 1] {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        std::fs::write(&path, altered).unwrap();
        assert_eq!(
            refused!(HyperNet, DType::F32, &path),
            "can't load FILE: its tensors were altered after it was saved: SHA-256 HASH, expected HASH"
        );
    }
    std::fs::write(&path, bytes).unwrap();
    HyperNet::new(variables(9, DType::F32).1)?.load(&path)
}

#[test]
fn a_file_of_something_else() -> Result<()> {
    let ((_dir, path), (vars, _hyper)) = (place(), trained(1, DType::F32)?);
    vars.save(&path)?;
    assert_eq!(
        refused!(HyperNet, DType::F32, &path),
        "can't load FILE: no `hypernn.layout` in its metadata: \
         it was not written by `save` of a hypernetwork"
    );
    Ok(())
}

/// An exported network has the target's layout in its metadata, but is no checkpoint.
#[test]
fn a_exported_network() -> Result<()> {
    let ((_dir, path), (_vars, hyper)) = (place(), trained(1, DType::F32)?);
    hyper.export(&path)?;
    assert_eq!(
        refused!(HyperNet, DType::F32, &path),
        "can't load FILE: no tensor `embedding.weight`, expected F32 of shape [5, 3]"
    );
    Ok(())
}

#[test]
fn a_checkpoint_of_another_target() -> Result<()> {
    let (_dir, path) = place();
    assert_eq!(Other::NUM_PARAMS, Net::NUM_PARAMS);
    HyperOther::new(variables(1, DType::F32).1)?.save(&path)?;
    assert_eq!(
        refused!(HyperNet, DType::F32, &path),
        "can't load FILE: it is a checkpoint for target Other; the first difference in layout: \
         the file has `16 bare [3, 3] tensor`, Net has `16 norm.weight [4] gain`"
    );
    Ok(())
}

#[test]
fn a_checkpoint_of_other_parts() -> Result<()> {
    let (_dir, path) = place();
    HyperNet::new(variables(1, DType::F32).1)?.save(&path)?;
    assert_eq!(
        refused!(Wider, DType::F32, &path),
        "can't load FILE: it was saved with another embedding: \
         the file has `table(5, 3)`, Wider has `table(5, 4)`"
    );
    assert_eq!(
        refused!(Deeper, DType::F32, &path),
        "can't load FILE: it was saved with another generator: \
         the file has `linear`, Deeper has `mlp([3], relu)`"
    );
    assert_eq!(
        refused!(Plain, DType::F32, &path),
        "can't load FILE: it was saved with another init: \
         the file has `exact`, Plain has `hyper_nn`"
    );
    Ok(())
}

#[test]
fn a_checkpoint_of_another_dtype() -> Result<()> {
    let (_dir, path) = place();
    HyperNet::new(variables(1, DType::F64).1)?.save(&path)?;
    assert_eq!(
        refused!(HyperNet, DType::F32, &path),
        "can't load FILE: tensor `embedding.weight` is F64 of shape [5, 3], \
         expected F32 of shape [5, 3]"
    );
    Ok(())
}

/// Tensors that are no variables can't be loaded into; they are what they are.
#[test]
fn a_network_without_variables() -> Result<()> {
    let ((_dir, path), (vars, hyper)) = (place(), trained(1, DType::F32)?);
    hyper.save(&path)?;
    let copies = by_name(&vars).into_iter().map(|(name, var)| Ok((name, var.copy()?.detach())));
    let copies = copies.collect::<Result<HashMap<_, _>>>()?;
    let fixed = HyperNet::new(VarBuilder::from_tensors(copies, DType::F32, device()))?;
    assert_eq!(output(&fixed, DType::F32)?, output(&hyper, DType::F32)?);
    assert_eq!(
        without_particulars(&message(fixed.load(&path)), &path),
        "can't load FILE: `embedding.weight` is not a variable of this hypernetwork: \
         build it from a VarMap to load into it"
    );
    Ok(())
}

/// The exported file is an ordinary checkpoint of the target, running statistics included.
#[test]
fn a_exported_network_gives_the_same_output() -> Result<()> {
    let ((_dir, path), (_vars, hyper)) = (place(), trained(1, DType::F32)?);
    hyper.export(&path)?;
    let xs = input(&[4, 3], 77, DType::F32)?;
    let expected = output(&hyper, DType::F32)?;
    let bytes = std::fs::read(&path)?;
    let vb = VarBuilder::from_buffered_safetensors(bytes, DType::F32, device())?;
    let net = Net::new(vb)?;
    assert_eq!(values(&net.forward_t(&xs, false)?)?, expected);
    assert!(values(net.norm.running_mean())?.iter().all(|mean| *mean != 0.));
    let tensors = candle_core::safetensors::load(&path, device())?;
    let mut names: Vec<_> = tensors.keys().cloned().collect();
    names.sort_unstable();
    let net = Net::new(VarBuilder::from_tensors(tensors, DType::F32, device()))?;
    assert_eq!(values(&net.forward_t(&xs, false)?)?, expected);
    let own = variables(0, DType::F32);
    Net::new(own.1)?;
    assert!(by_name(&own.0).into_keys().eq(names));
    Ok(())
}

/// candle's own files serve as well: bases and buffers are variables of the map.
#[test]
fn candles_own_files() -> Result<()> {
    let ((_dir, path), (vars, hyper)) = (place(), trained(1, DType::F32)?);
    vars.save(&path)?;
    let (mut other_vars, other) = trained(2, DType::F32)?;
    assert_ne!(output(&other, DType::F32)?, output(&hyper, DType::F32)?);
    other_vars.load(&path)?;
    assert_eq!(output(&other, DType::F32)?, output(&hyper, DType::F32)?);
    let tensors = std::fs::read(&path)?;
    let vb = VarBuilder::from_buffered_safetensors(tensors, DType::F32, device())?;
    assert_eq!(output(&HyperNet::new(vb)?, DType::F32)?, output(&hyper, DType::F32)?);
    assert!(all_values(&vars)?.keys().any(|name| name == "base.norm.weight"));
    Ok(())
}

/// A target whose layers have settings that no tensor shows.
#[derive(HyperTarget)]
#[hyper(config = Settings)]
struct Configured {
    #[hyper(conv1d(2, 2, 2, config = config.conv1d))]
    conv1d: Conv1d,
    #[hyper(conv2d(2, 2, 2, config = config.conv2d))]
    conv2d: Conv2d,
    #[hyper(conv_transpose1d(2, 2, 2, config = config.conv_transpose1d))]
    conv_transpose1d: ConvTranspose1d,
    #[hyper(conv_transpose2d(2, 2, 2, config = config.conv_transpose2d))]
    conv_transpose2d: ConvTranspose2d,
    #[hyper(batch_norm(2, config.batch_norm))]
    batch_norm: BatchNorm,
    #[hyper(group_norm(config.groups, 4, config.eps))]
    group_norm: GroupNorm,
    #[hyper(layer_norm(3, config.layer_norm))]
    layer_norm: LayerNorm,
    #[hyper([rms_norm(3, config.eps); 2])]
    rms_norm: Vec<RmsNorm>,
}

#[derive(Clone, Copy)]
struct Settings {
    conv1d: Conv1dConfig,
    conv2d: Conv2dConfig,
    conv_transpose1d: ConvTranspose1dConfig,
    conv_transpose2d: ConvTranspose2dConfig,
    batch_norm: BatchNormConfig,
    layer_norm: LayerNormConfig,
    groups: usize,
    eps: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            conv1d: Conv1dConfig::default(),
            conv2d: Conv2dConfig::default(),
            conv_transpose1d: ConvTranspose1dConfig::default(),
            conv_transpose2d: ConvTranspose2dConfig::default(),
            batch_norm: BatchNormConfig::default(),
            layer_norm: LayerNormConfig::default(),
            groups: 2,
            eps: 1e-5,
        }
    }
}

hypernetwork! {
    struct HyperConfigured for Configured {
        config: Settings, embedding: table(5, 3), generator: linear, mode: static,
    }
}

/// A stride, an epsilon: what changes outputs but no tensor's shape is in the file, and the first
/// difference is named.
#[test]
fn layers_of_other_settings() -> Result<()> {
    let (_dir, path) = place();
    let new = |settings: &Settings| HyperConfigured::new(settings, variables(1, DType::F32).1);
    let default = Settings::default();
    new(&default)?.save(&path)?;
    new(&default)?.load(&path)?;
    let algorithm = Some(candle_core::conv::CudnnFwdAlgo::Gemm);
    let mut same = default;
    (same.conv1d.cudnn_fwd_algo, same.conv2d.cudnn_fwd_algo) = (algorithm, None);
    new(&same)?.load(&path)?;
    type Change = fn(&mut Settings);
    let changes: [(Change, &str, &str, &str); 20] = [
        (|s| s.conv1d.stride = 2, "conv1d", "stride 1,", "stride 2,"),
        (|s| s.conv1d.padding = 1, "conv1d", "padding 0,", "padding 1,"),
        (|s| s.conv1d.dilation = 2, "conv1d", "dilation 1,", "dilation 2,"),
        (|s| s.conv2d.stride = 3, "conv2d", "stride 1,", "stride 3,"),
        (|s| s.conv2d.padding = 1, "conv2d", "padding 0,", "padding 1,"),
        (|s| s.conv2d.dilation = 2, "conv2d", "dilation 1,", "dilation 2,"),
        (|s| s.conv_transpose1d.stride = 2, "conv_transpose1d", "stride 1,", "stride 2,"),
        (|s| s.conv_transpose1d.padding = 1, "conv_transpose1d", "padding 0,", "padding 1,"),
        (|s| s.conv_transpose1d.dilation = 2, "conv_transpose1d", "dilation 1,", "dilation 2,"),
        (|s| s.conv_transpose2d.stride = 2, "conv_transpose2d", "stride 1,", "stride 2,"),
        (|s| s.conv_transpose2d.padding = 1, "conv_transpose2d", "padding 0,", "padding 1,"),
        (|s| s.conv_transpose2d.dilation = 2, "conv_transpose2d", "dilation 1`", "dilation 2`"),
        (|s| s.batch_norm.eps = 1e-3, "batch_norm", "eps 0.00001,", "eps 0.001,"),
        (|s| s.batch_norm.momentum = 0.2, "batch_norm", "momentum 0.1,", "momentum 0.2,"),
        (
            |s| s.batch_norm.remove_mean = false,
            "batch_norm",
            "remove_mean true`",
            "remove_mean false`",
        ),
        (|s| s.groups = 4, "group_norm", "groups 2,", "groups 4,"),
        (|s| s.eps = 1e-6, "group_norm", "eps 0.00001`", "eps 0.000001`"),
        (|s| s.layer_norm.eps = 1e-6, "layer_norm", "eps 0.00001`", "eps 0.000001`"),
        (|s| s.layer_norm.remove_mean = false, "layer_norm", "`layer_norm, ", "`rms_norm, "),
        (
            |s| (s.conv_transpose1d.stride, s.conv_transpose1d.output_padding) = (2, 1),
            "conv_transpose1d",
            "output_padding 0,",
            "output_padding 1,",
        ),
    ];
    for (change, layer, before, after) in changes {
        let mut settings = default;
        change(&mut settings);
        let found = without_particulars(&message(new(&settings)?.load(&path)), &path);
        let start =
            format!("can't load FILE: its layer `{layer}` has other settings: the file has `");
        assert!(found.starts_with(&start), "{found}");
        let (theirs, ours) = found.split_once(", Configured has ").unwrap();
        assert!(theirs.contains(before) && ours.contains(after), "{before} {after}: {found}");
    }
    Ok(())
}

hypernetwork! {
    struct Relu for Other { embedding: table(5, 3), generator: mlp([4], relu), mode: static }
}

hypernetwork! {
    struct Tanh for Other { embedding: table(5, 3), generator: mlp([4], tanh), mode: static }
}

hypernetwork! {
    struct Rank for Other { embedding: table(5, 3), generator: low_rank(4), mode: static }
}

hypernetwork! {
    struct Identity for Other { embedding: table(5, 3), generator: mlp([4], identity), mode: static }
}

hypernetwork! {
    struct PlainTanh for Other {
        embedding: table(5, 3), generator: mlp([4], tanh), mode: static, init: hyper_nn,
    }
}

hypernetwork! {
    struct Dynamic for Other {
        embedding: encoder(2, [4], tanh, 5, 3), generator: linear.conditioned(2), mode: dynamic,
    }
}

hypernetwork! {
    struct DynamicRelu for Other {
        embedding: encoder(2, [4], relu, 5, 3), generator: linear.conditioned(2), mode: dynamic,
    }
}

hypernetwork! {
    struct Encoded for Other {
        embedding: encoder(1, [4], tanh, 5, 3).encoding(cos_sin),
        generator: linear.conditioned(1).encoding(cos_sin),
        mode: dynamic,
    }
}

/// Parts that have the same sizes are not the same.
#[test]
fn other_parts_of_the_same_sizes() -> Result<()> {
    let (_dir, path) = place();
    let said = |what, file: &str, own: &str| {
        format!("can't load FILE: it was saved with another {what}: the file has `{file}`, {own}`")
    };
    let vb = || variables(1, DType::F32).1;
    Relu::new(vb())?.save(&path)?;
    for (found, own) in [
        (refused!(Tanh, DType::F32, &path), "Tanh has `mlp([4], tanh)"),
        (refused!(Rank, DType::F32, &path), "Rank has `low_rank(4)"),
        (refused!(Identity, DType::F32, &path), "Identity has `mlp([4], identity)"),
    ] {
        assert_eq!(found, said("generator", "mlp([4], relu)", own));
    }
    Tanh::new(vb())?.save(&path)?;
    assert_eq!(
        refused!(PlainTanh, DType::F32, &path),
        said("init", "exact", "PlainTanh has `hyper_nn")
    );
    Dynamic::new(vb())?.save(&path)?;
    assert_eq!(
        refused!(DynamicRelu, DType::F32, &path),
        said(
            "embedding",
            "encoder(2, [4], tanh, 5, 3)",
            "DynamicRelu has `encoder(2, [4], relu, 5, 3)"
        )
    );
    assert_eq!(
        refused!(Encoded, DType::F32, &path),
        said(
            "embedding",
            "encoder(2, [4], tanh, 5, 3)",
            "Encoded has `encoder(1, [4], tanh, 5, 3).encoding(cos_sin)"
        )
    );
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(sequential_t = [0, relu, dropout(0.1), 1])]
struct ReluChain(#[hyper(linear(3, 3))] Linear, #[hyper(linear(3, 3))] Linear);

#[derive(HyperTarget)]
#[hyper(sequential_t = [0, tanh, dropout(0.2), 1])]
struct TanhChain(#[hyper(linear(3, 3))] Linear, #[hyper(linear(3, 3))] Linear);

#[derive(HyperTarget)]
#[hyper(sequential_t = [1, relu, dropout(0.2), 0])]
struct OtherOrder(#[hyper(linear(3, 3))] Linear, #[hyper(linear(3, 3))] Linear);

#[derive(HyperTarget)]
#[hyper(sequential_t = [0, relu, dropout(0.3), 1])]
struct SameChain(#[hyper(linear(3, 3))] Linear, #[hyper(linear(3, 3))] Linear);

hypernetwork! {
    struct HyperRelu for ReluChain { embedding: table(6, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct HyperTanh for TanhChain { embedding: table(6, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct HyperOrder for OtherOrder { embedding: table(6, 3), generator: linear, mode: static }
}

hypernetwork! {
    struct HyperSame for SameChain { embedding: table(6, 3), generator: linear, mode: static }
}

/// The steps of a chain are in the file; how much a step drops is not.
#[test]
fn chains_of_other_steps() -> Result<()> {
    let (_dir, path) = place();
    HyperRelu::new(variables(1, DType::F32).1)?.save(&path)?;
    let said = |own: &str| {
        format!(
            "can't load FILE: its target has other settings: the file has `sequential, 0, relu, dropout, 1`, {own}`"
        )
    };
    assert_eq!(
        refused!(HyperTanh, DType::F32, &path),
        said("TanhChain has `sequential, 0, tanh, dropout, 1")
    );
    assert_eq!(
        refused!(HyperOrder, DType::F32, &path),
        said("OtherOrder has `sequential, 1, relu, dropout, 0")
    );
    HyperSame::new(variables(1, DType::F32).1)?.load(&path)
}

/// Generated parameters are held to the same.
#[test]
fn parameters_of_layers_of_other_settings() -> Result<()> {
    let (_dir, path) = place();
    let new = |settings: &Settings| HyperConfigured::new(settings, variables(1, DType::F32).1);
    let mut settings = Settings::default();
    new(&settings)?.generate_params()?.save(&path)?;
    new(&settings)?.load_params(&path)?;
    settings.conv2d.padding = 1;
    let found = message(new(&settings)?.load_params(&path));
    assert!(found.contains("its layer `conv2d` has other settings: "), "{found}");
    Ok(())
}

/// The target of the files that hypernn 0.1 wrote, `golden/n_….safetensors`.
#[derive(HyperTarget)]
struct Old {
    #[hyper(conv2d(1, 2, 3, stride = 2, padding = 1))]
    conv: Conv2d,
    #[hyper(batch_norm(2, 1e-4))]
    norm: BatchNorm,
    #[hyper(linear(3, 2))]
    fc: Linear,
}

hypernetwork! {
    struct OldStatic for Old {
        embedding: table(5, 3), generator: mlp([4], tanh), mode: static,
    }
}

hypernetwork! {
    struct OldDynamic for Old {
        embedding: encoder(2, [4], tanh, 5, 3).encoding(cos_sin),
        generator: linear.conditioned(2),
        mode: dynamic,
    }
}

hypernetwork! {
    struct OldTasks for Old { embedding: tasks(3, 5, 3), generator: linear, mode: dynamic }
}

hypernetwork! {
    struct FewerTasks for Old { embedding: tasks(2, 5, 3), generator: linear, mode: dynamic }
}

macro_rules! loads {
    ($hyper:ident, $path:expr) => {{
        let hyper = $hyper::new(variables(9, DType::F32).1)?;
        hyper.load($path)?;
        let expected = candle_core::safetensors::load($path, device())?;
        let mut count = 0;
        for (name, found) in hyper.named_tensors() {
            assert_eq!(values(found)?, values(&expected[name])?, "{name}");
            count += 1;
        }
        assert_eq!(count, expected.len());
    }};
}

/// Files of hypernn 0.1, which do not say all, load as before.
#[test]
fn files_of_the_first_version() -> Result<()> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    loads!(OldStatic, golden.join("n_static.safetensors"));
    loads!(OldDynamic, golden.join("n_dynamic.safetensors"));
    // Saved after a task was added to two.
    loads!(OldTasks, golden.join("n_tasks.safetensors"));
    Ok(())
}

/// The number of tasks is no part of the declaration: it grows.
#[test]
fn tasks_that_were_added_or_declared() -> Result<()> {
    let (_dir, path) = place();
    let vb = variables(1, DType::F32).1;
    let mut grown = FewerTasks::new(vb.clone())?;
    grown.add_tasks(1, vb)?;
    grown.save(&path)?;
    loads!(OldTasks, &path);
    let vb = variables(2, DType::F32).1;
    let mut grown = FewerTasks::new(vb.clone())?;
    grown.add_tasks(1, vb)?;
    grown.load(&path)?;
    Ok(())
}

/// A file with one text in it exchanged for another of the same length.
fn exchanged(bytes: &[u8], before: &str, after: &str) -> Vec<u8> {
    assert_eq!(before.len(), after.len());
    let at = bytes.windows(before.len()).position(|bytes| bytes == before.as_bytes()).unwrap();
    [&bytes[..at], after.as_bytes(), &bytes[at + after.len()..]].concat()
}

/// Metadata that were altered, by a later version or by hand.
#[test]
fn altered_metadata() -> Result<()> {
    let ((_dir, path), (_vars, hyper)) = (place(), trained(1, DType::F32)?);
    let (bytes, _) = bytes(&hyper, &path)?;
    let says = |before: &str, after: &str| {
        std::fs::write(&path, exchanged(&bytes, before, after)).unwrap();
        let said = refused!(HyperNet, DType::F32, &path);
        Ok::<_, candle_core::Error>(said.strip_prefix("can't load FILE: ").unwrap().to_owned())
    };
    let own = env!("CARGO_PKG_VERSION");
    let version = |with: &str| format!("\"hypernn.version\":\"{with}\"");
    for later in ["0.9.0", "1.0.0", "9.9.9"] {
        assert_eq!(
            says(&version(own), &version(later))?,
            format!(
                "it was written by hypernn {later}, whose files hypernn {own}, which reads it, may not know: use the later one"
            )
        );
    }
    for none in ["x.1.0", "banan"] {
        assert_eq!(
            says(&version(own), &version(none))?,
            format!("its `hypernn.version` is `{none}`, expected a version such as {own}")
        );
    }
    let hash = hyper.layout().hash();
    let other = if hash.starts_with('0') { '1' } else { '0' };
    let altered = format!("{other}{}", &hash[1..]);
    assert_eq!(
        says(hash, &altered)?,
        "its metadata were altered: its layout is that of Net, but `hypernn.layout_sha256` is HASH, expected HASH"
    );
    for key in ["layout", "layout_sha256", "tensors_sha256"] {
        let (key, lost) = (format!("\"hypernn.{key}\""), format!("\"hypernn_{key}\""));
        let quoted = key.trim_matches('"');
        assert_eq!(
            says(&key, &lost)?,
            format!(
                "no `{quoted}` in its metadata: it was not written by `save` of a hypernetwork"
            )
        );
    }
    assert_eq!(
        says("\"hypernn.mode\":\"static\"", "\"hypernn.mode\":\"statix\"")?,
        "it was saved with another mode: the file has `statix`, HyperNet has `static`"
    );
    // A text that says something else than its hash.
    assert_eq!(
        says("  linear.weight      [4, 3] weight", "  linear.weight      [3, 4] weight")?,
        "its metadata were altered: `hypernn.layout_sha256` is that of Net, but its layout has `0 linear.weight [3, 4] weight`, expected `0 linear.weight [4, 3] weight`"
    );
    // What alone is compared with nothing: a kind, the path of a layer, the name of the network.
    for (before, after) in [
        ("  linear.weight      [4, 3] weight", "  linear.weight      [4, 3] tensor"),
        ("norm: batch_norm", "n0rm: batch_norm"),
        ("\"hypernn.network\":\"HyperNet\"", "\"hypernn.network\":\"HyperNot\""),
    ] {
        assert_eq!(
            says(before, after)?,
            "its metadata were altered after it was saved: SHA-256 HASH, expected HASH"
        );
    }
    // A patch of the same version is none to refuse.
    let (before, after) = (version(own), version("0.1.9"));
    std::fs::write(&path, exchanged(&bytes, &before, &after)).unwrap();
    HyperNet::new(variables(9, DType::F32).1)?.load(&path)
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Adapted {
    #[hyper(linear(3, 4))]
    linear: Linear,
}

hypernetwork! {
    struct AdaptedBy4 for Adapted {
        roles: [("linear.weight", lora(2, 4.)), ("*", freeze)],
        embedding: table(5, 3), generator: linear, mode: static,
    }
}

hypernetwork! {
    struct AdaptedBy8 for Adapted {
        roles: [("linear.weight", lora(2, 8.)), ("*", freeze)],
        embedding: table(5, 3), generator: linear, mode: static,
    }
}

hypernetwork! {
    struct AdaptedWithDropout for Adapted {
        roles: [("linear.weight", lora_dropout(2, 4., 0.1)), ("*", freeze)],
        embedding: table(5, 3), generator: linear, mode: static,
    }
}

/// What an adapter is multiplied by is in no shape; its dropout is of training alone.
#[test]
fn adapters_of_another_alpha() -> Result<()> {
    let (_dir, path) = place();
    let pretrained = variables(9, DType::F32).1;
    Adapted::new(pretrained.clone())?;
    let vb = |seed| variables(seed, DType::F32).1;
    let saved = AdaptedBy4::new_from(vb(1), pretrained.clone())?;
    let says =
        "the file has `lora linear.weight scale 2`, Adapted has `lora linear.weight scale 4`";
    saved.save(&path)?;
    AdaptedBy4::new_from(vb(2), pretrained.clone())?.load(&path)?;
    AdaptedWithDropout::new_from(vb(3), pretrained.clone())?.load(&path)?;
    let other = AdaptedBy8::new_from(vb(4), pretrained)?;
    let found = message(other.load(&path));
    assert!(found.ends_with(says), "{found}");
    saved.generate_params()?.save(&path)?;
    let found = message(other.load_params(&path));
    assert!(found.ends_with(says), "{found}");
    Ok(())
}

/// Targets that differ in nothing but whose weight a layer takes.
mod ties {
    use hypernn::nn::Linear;
    use hypernn::{HyperTarget, hypernetwork};

    macro_rules! target {
        ($Target:ident, $Hyper:ident, $source:ident) => {
            #[derive(HyperTarget)]
            #[hyper(sequential)]
            pub struct $Target {
                #[hyper(linear(3, 3))]
                first: Linear,
                #[hyper(linear(3, 3))]
                second: Linear,
                #[hyper(linear_no_bias(3, 3), tie(weight = first.weight))]
                third: Linear,
                #[hyper(linear(3, 3), tie(weight = $source.weight))]
                fourth: Linear,
            }

            hypernetwork! {
                pub struct $Hyper for $Target { embedding: table(9, 3), generator: linear, mode: static }
            }
        };
    }

    target!(OfFirst, HyperOfFirst, first);
    target!(OfSecond, HyperOfSecond, second);
    // Which is the first as well.
    target!(OfThird, HyperOfThird, third);
}

#[test]
fn ties_of_other_tensors() -> Result<()> {
    let (_dir, path) = place();
    let vb = |seed| variables(seed, DType::F32).1;
    let (saved, other) = (ties::HyperOfFirst::new(vb(1))?, ties::HyperOfSecond::new(vb(2))?);
    assert_eq!(saved.layout().hash(), other.layout().hash());
    let expected = "can't load FILE: its `fourth.weight` is tied otherwise: to `first.weight` in the file, to `second.weight` in OfSecond";
    let says = |said: String| assert_eq!(without_particulars(&said, &path), expected);

    saved.generate_params()?.save(&path)?;
    says(message(other.load_params(&path)));
    saved.save(&path)?;
    says(message(other.load(&path)));
    let same = ties::HyperOfThird::new(vb(3))?;
    same.load(&path)?;
    let xs = input(&[2, 3], 4, DType::F32)?;
    assert_eq!(values(&same.forward(&xs)?)?, values(&saved.forward(&xs)?)?);

    // As version 0.1 wrote it, which said nothing of ties.
    let mut bytes = std::fs::read(&path)?;
    let own = format!("\"hypernn.version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    for (before, after) in [
        (own.as_str(), "\"hypernn.version\":\"0.1.0\""),
        ("\"hypernn.ties\"", "\"hypernn_ties\""),
        ("\"hypernn.metadata_sha256\"", "\"hypernn_metadata_sha256\""),
    ] {
        bytes = exchanged(&bytes, before, after);
    }
    std::fs::write(&path, bytes)?;
    saved.load(&path)?;
    other.load(&path)
}
