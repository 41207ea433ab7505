//! The kind of each error, found in candle's, with the words that a user sees.

#![allow(missing_docs, clippy::unwrap_used)]

use std::io::ErrorKind;
use std::path::PathBuf;

use candle_core::{Context, DType, Device, Module, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use hypernn::generated::TargetPlan;
use hypernn::nn::Linear;
use hypernn::{Error, HyperTarget, Pretrained, Role, hypernetwork, nn};
use hypernn_tests::{device, message, variables};
use tempfile::TempDir;

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(4, 2))]
    fc: Linear,
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Wide {
    #[hyper(linear(4, 3))]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(5, 3), generator: linear, mode: static }

    struct Deep for Net { embedding: table(5, 3), generator: mlp([3], tanh), mode: static }

    struct HyperWide for Wide { embedding: table(5, 3), generator: linear, mode: static }

    struct Conditioned for Net { embedding: encoder(2, [4], tanh, 5, 3), generator: linear, mode: dynamic }

    struct Tasks for Net { embedding: tasks(3, 5, 3), generator: linear, mode: dynamic }
}

fn vb() -> VarBuilder<'static> {
    variables(1, DType::F32).1
}

fn zeros(dims: &[usize], dtype: DType) -> Result<Tensor> {
    Tensor::zeros(dims, dtype, device())
}

/// The error of what must have failed, and that it prints as it did before it had a kind.
fn kind<T>(result: Result<T>, words: &str) -> Option<Error> {
    let err = result.err().unwrap();
    let found = Error::of(&err).cloned();
    if let Some(found) = &found {
        // What is around it is put around it again by candle, as the backtrace is.
        assert_eq!(found.to_string().lines().next(), Some(words));
    }
    assert_eq!(message::<T>(Err(err)), words);
    found
}

macro_rules! assert_kind {
    ($result:expr, $kind:pat, $words:expr) => {{
        let found = kind($result, $words);
        assert!(matches!(found, Some($kind)), "{found:?}");
    }};
}

fn place() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    (dir, path)
}

#[test]
fn shapes() -> Result<()> {
    let hyper = HyperNet::new(vb())?;
    assert_kind!(
        hyper.forward(&zeros(&[1, 3], DType::F32)?),
        Error::Shape { .. },
        "linear: the input has width 3 (shape [1, 3]), the layer takes 4"
    );
    assert_kind!(
        hyper.params_from_flat(&zeros(&[9], DType::F32)?),
        Error::Shape { .. },
        "the flat vector of Net has 9 values, expected 10: `fc.bias` runs out of values"
    );
    Ok(())
}

#[test]
fn dtypes() -> Result<()> {
    assert_kind!(
        HyperNet::new(vb())?.forward(&zeros(&[1, 4], DType::F64)?),
        Error::Dtype { .. },
        "linear: the input is F64, but the weight F32"
    );
    assert_kind!(
        HyperNet::new(VarBuilder::zeros(DType::U32, device())),
        Error::Dtype { .. },
        "HyperNet: the builder's dtype is U32, expected f16, bf16, f32 or f64"
    );
    let (_dir, path) = place();
    HyperNet::new(variables(1, DType::F64).1)?.save(&path)?;
    assert_kind!(
        HyperNet::new(vb())?.load(&path),
        Error::Dtype { .. },
        &format!(
            "can't load {}: tensor `embedding.weight` is F64 of shape [5, 3], expected F32 of shape [5, 3]",
            path.display()
        )
    );
    Ok(())
}

/// The facts are fields.
#[test]
fn layouts_of_checkpoints() -> Result<()> {
    let (_dir, path) = place();
    HyperNet::new(vb())?.save(&path)?;
    let words = |what: &str| format!("can't load {}: {what}", path.display());
    let refused = kind(
        HyperWide::new(vb())?.load(&path),
        &words(
            "it is a checkpoint for target Net; the first difference in layout: the file has `0 fc.weight [2, 4] weight`, Wide has `0 fc.weight [3, 4] weight`",
        ),
    );
    let Some(Error::Layout { found, expected, path: at, .. }) = refused else {
        return Err(candle_core::Error::msg(format!("{refused:?}")));
    };
    assert_eq!(found.as_deref(), Some("0 fc.weight [2, 4] weight"));
    assert_eq!(expected.as_deref(), Some("0 fc.weight [3, 4] weight"));
    assert_eq!(at.as_ref(), Some(&path));
    assert_kind!(
        Deep::new(vb())?.load(&path),
        Error::Layout { .. },
        &words(
            "it was saved with another generator: the file has `linear`, Deep has `mlp([3], tanh)`"
        )
    );
    let elsewhere = VarBuilder::from_tensors([].into(), DType::F32, device());
    assert_kind!(
        HyperNet::new_from(vb(), elsewhere),
        Error::Layout { .. },
        "the pretrained network has no `fc.weight`, expected shape [2, 4]: `without(\"fc.weight\")` starts it as a fresh one"
    );
    Ok(())
}

#[test]
fn files() -> Result<()> {
    let (_dir, path) = place();
    let hyper = HyperNet::new(vb())?;
    std::fs::write(&path, "<!DOCTYPE html>\n<html><body>Sign in</body>")?;
    for result in [hyper.load(&path), hyper.load_params(&path).map(|_| ())] {
        let text = result.as_ref().err().unwrap().to_string();
        assert!(text.contains("it is an HTML page"), "{text}");
        let found = result.err().and_then(|err| Error::of(&err).cloned());
        assert!(
            matches!(&found, Some(Error::File { path: Some(at), .. }) if *at == path),
            "{found:?}"
        );
    }
    let found = Pretrained::open(&path).err().and_then(|err| Error::of(&err).cloned());
    assert!(matches!(found, Some(Error::File { .. })), "{found:?}");
    // Cut short.
    hyper.save(&path)?;
    let bytes = std::fs::read(&path)?;
    std::fs::write(&path, &bytes[..bytes.len() - 8])?;
    let found = hyper.load(&path).err().and_then(|err| Error::of(&err).cloned());
    assert!(matches!(found, Some(Error::File { .. })), "{found:?}");
    // A zip archive that is none.
    std::fs::write(&path, b"PK\x03\x04 and nothing more")?;
    let found = hyper.load(&path).err().and_then(|err| Error::of(&err).cloned());
    assert!(matches!(found, Some(Error::File { .. })), "{found:?}");
    Ok(())
}

#[test]
fn the_system() -> Result<()> {
    let (dir, path) = place();
    let hyper = HyperNet::new(vb())?;
    let words =
        |what: &str, path: &PathBuf, why: &str| format!("can't {what} {}: {why}", path.display());
    assert_kind!(
        hyper.load(&path),
        Error::Io { kind: ErrorKind::NotFound, path: Some(_), .. },
        &words("load", &path, "No such file or directory (os error 2)")
    );
    assert_kind!(
        Pretrained::open(&path),
        Error::Io { kind: ErrorKind::NotFound, .. },
        &words("read", &path, "No such file or directory (os error 2)")
    );
    let nowhere = dir.path().join("none").join("net");
    let directory = dir.path().join("none");
    assert_kind!(
        hyper.save(&nowhere),
        Error::Io { kind: ErrorKind::NotFound, .. },
        &words("write", &nowhere, &format!("there is no directory `{}`", directory.display()))
    );
    // Without this crate's type it is still an error of the system's, of its kind.
    let err = hyper.load(&path).err().unwrap();
    let plain = |err: &candle_core::Error| match err {
        candle_core::Error::Io(err) => Some(err.kind()),
        candle_core::Error::WithBacktrace { inner, .. } => match &**inner {
            candle_core::Error::Io(err) => Some(err.kind()),
            _ => None,
        },
        _ => None,
    };
    assert_eq!(plain(&err), Some(ErrorKind::NotFound));
    Ok(())
}

#[test]
fn declarations() -> Result<()> {
    assert_kind!(
        TargetPlan::<Net>::new(&())?.with_roles(&[("head.*", Role::Train)]),
        Error::Declaration { .. },
        "role `train` of \"head.*\": no tensor of the target has a name of this pattern that no pattern before it has; the nearest names are `fc.bias` and `fc.weight`"
    );
    assert_kind!(
        nn::linear(0, 2, vb()),
        Error::Declaration { .. },
        "linear: in_dim is 0, expected at least 1"
    );
    let file = VarBuilder::zeros(DType::F32, device());
    assert_kind!(
        HyperNet::new_from(vb(), Pretrained::from(file).without("head.*")),
        Error::Declaration { .. },
        "without \"head.*\": no tensor of the target has a name of this pattern; the nearest names are `fc.bias` and `fc.weight`"
    );
    Ok(())
}

#[test]
fn conditions() -> Result<()> {
    assert_kind!(
        Conditioned::new(vb())?.generate_params(&zeros(&[3, 7], DType::F32)?),
        Error::Condition { .. },
        "the condition has width 7, expected 2"
    );
    assert_kind!(
        Tasks::new(vb())?.generate_params(&Tensor::new(7u32, device())?),
        Error::Condition { .. },
        "there is no task 7, expected one of the 3 from 0 on"
    );
    Ok(())
}

#[test]
fn memory() {
    // The machine's own, which says what it refuses.
    let vb = VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu);
    assert_kind!(
        nn::linear(1 << 30, 1 << 28, vb),
        Error::Memory { .. },
        "variable `weight` of shape [268435456, 1073741824] in F32 takes 1152921504606846976 bytes, which the system refuses"
    );
}

#[test]
fn values_that_are_not_finite() -> Result<()> {
    let tensors = [
        ("fc.weight".to_owned(), Tensor::full(f32::NAN, (2, 4), device())?),
        ("fc.bias".to_owned(), zeros(&[2], DType::F32)?),
    ];
    let file = VarBuilder::from_tensors(tensors.into(), DType::F32, device());
    assert_kind!(
        HyperNet::new_from(vb(), Pretrained::from(file).check_finite()),
        Error::NotFinite { .. },
        "`fc.weight` of the pretrained network in F32: 8 of 8 values are not finite, the first at index 0 is NaN"
    );
    Ok(())
}

/// What candle reports, and what is put around an error by a caller.
#[test]
fn candles_own_have_none() -> Result<()> {
    let reshaped = zeros(&[2], DType::F32)?.reshape(3);
    assert!(reshaped.is_err_and(|err| Error::of(&err).is_none()));
    let linear = Linear::new(zeros(&[2, 4], DType::F32)?, None);
    let refused = || linear.forward(&zeros(&[1, 3], DType::F32)?);
    let shape = |err: &candle_core::Error| matches!(Error::of(err), Some(Error::Shape { .. }));
    assert!(refused().is_err_and(|err| shape(&err)));
    assert!(refused().map_err(|err| err.context("in step 3")).is_err_and(|err| shape(&err)));
    assert!(refused().context("in step 3").is_err_and(|err| shape(&err)));
    let boxed: Box<dyn std::error::Error + Send + Sync> = refused().err().unwrap().into();
    assert!(matches!(Error::of(&*boxed), Some(Error::Shape { .. })));
    Ok(())
}
