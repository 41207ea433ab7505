//! Files: what is saved comes back in every bit, and what can't be loaded is refused with a reason
//! and changes nothing.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, ModuleT, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::nn::{BatchNorm, Linear, PReLU};
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
        hyper.bake(&path)?;
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
    for written in [hyper.save(&path), hyper.bake(&path)] {
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
    let cases = [
        (0, "header too small"),
        (7, "header too small"),
        (8, "invalid header length"),
        (data / 2, "invalid header length"),
        (data, "incomplete metadata, file not fully covered"),
        (data + 1, "incomplete metadata, file not fully covered"),
        (bytes.len() - 1, "incomplete metadata, file not fully covered"),
    ];
    for (len, reason) in cases {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let expected = format!("can't load FILE: it is not a whole safetensors file: {reason}");
        assert_eq!(refused!(HyperNet, DType::F32, &path), expected, "{len} bytes");
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

/// A baked network has the target's layout in its metadata, but is no checkpoint.
#[test]
fn a_baked_network() -> Result<()> {
    let ((_dir, path), (_vars, hyper)) = (place(), trained(1, DType::F32)?);
    hyper.bake(&path)?;
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
        "can't load FILE: tensor `embedding.weight` is F32 of shape [5, 3], \
         expected F32 of shape [5, 4]"
    );
    assert_eq!(
        refused!(Deeper, DType::F32, &path),
        "can't load FILE: no tensor `generator.0.weight`, expected F32 of shape [3, 3]"
    );
    assert_eq!(
        refused!(Plain, DType::F32, &path),
        "can't load FILE: tensor `base.activation.weight` is none of this hypernetwork's"
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

/// The baked file is an ordinary checkpoint of the target, running statistics included.
#[test]
fn a_baked_network_gives_the_same_output() -> Result<()> {
    let ((_dir, path), (_vars, hyper)) = (place(), trained(1, DType::F32)?);
    hyper.bake(&path)?;
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
