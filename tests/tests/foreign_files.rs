//! Files from elsewhere: PyTorch's in every form, what is no file of tensors, and hostile ones. Each
//! ends in tensors or in an error that says what it is.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use hypernn::nn::{BatchNorm, Linear};
use hypernn::{HyperTarget, Pretrained, hypernetwork};
use hypernn_tests::files::{Pickle, Random, archive, patched};
use hypernn_tests::{message, values, variables};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// The tensors of `golden/files.py` that are read.
#[derive(HyperTarget)]
struct Kinds {
    #[hyper(tensor([4, 6]))]
    plain: Tensor,
    #[hyper(tensor([4, 6]))]
    shared: Tensor,
    #[hyper(tensor([4, 6]))]
    shared_again: Tensor,
    #[hyper(tensor([2, 6]))]
    view: Tensor,
    #[hyper(tensor([6, 4]))]
    transposed: Tensor,
    #[hyper(tensor([2, 3]))]
    strided: Tensor,
    #[hyper(tensor([4, 2, 3]))]
    permuted: Tensor,
    #[hyper(tensor([2, 3]))]
    expanded: Tensor,
    #[hyper(tensor([]))]
    scalar: Tensor,
    #[hyper(tensor([6]))]
    half: Tensor,
    #[hyper(tensor([6]))]
    bfloat16: Tensor,
    #[hyper(tensor([6]))]
    double: Tensor,
    #[hyper(tensor([2, 3]))]
    long: Tensor,
    #[hyper(tensor([2, 3]))]
    byte: Tensor,
    #[hyper(tensor([2, 6]))]
    parameter: Tensor,
}

hypernetwork! {
    struct HyperKinds for Kinds { embedding: table(10, 3), generator: linear, mode: static }
}

/// Every tensor of a file, as a hypernetwork starts with it in f64.
fn kinds(path: &Path) -> Result<BTreeMap<String, Vec<f64>>> {
    let hyper = HyperKinds::new_from(variables(1, DType::F64).1, Pretrained::open(path)?)?;
    let params = hyper.generate_params()?;
    params.tensors().map(|(at, tensor)| Ok((at.name.clone(), values(tensor)?))).collect()
}

/// Views, transposed, strided and expanded tensors, shared storages, every dtype that is read.
#[test]
fn every_kind_of_tensor_that_pytorch_writes() -> Result<()> {
    let expected = candle_core::safetensors::load(golden("m_kinds.safetensors"), &Device::Cpu)?;
    for file in ["m_kinds.pt", "m_kinds_protocol_5.pt", "m_kinds_legacy.pt"] {
        let found = kinds(&golden(file))?;
        assert_eq!(found.len(), 15);
        for (name, found) in found {
            assert_eq!(found, values(&expected[&name])?, "{file}: {name}");
        }
    }
    Ok(())
}

/// The same values where the highest byte comes first.
#[test]
fn a_file_of_a_big_endian_computer() -> Result<()> {
    let (dir, path) = place("net.pt");
    let bytes: Vec<u8> = [1.5f32, -2.].iter().flat_map(|value| value.to_be_bytes()).collect();
    let dict = Pickle::dict(&[("weight", Pickle::tensor("FloatStorage", "0", 2, 0, &[2], &[1]))]);
    for (order, expected) in
        [("big", 1.5), ("little", f64::from(f32::from_le_bytes([63, 192, 0, 0])))]
    {
        let entries =
            [("data.pkl", dict.file()), ("data/0", bytes.clone()), ("byteorder", order.into())];
        std::fs::write(&path, archive(&entries)).unwrap();
        let hyper = HyperOne::new_from(variables(1, DType::F64).1, Pretrained::open(&path)?)?;
        assert_eq!(values(&hyper.generate_params()?.flat()?)?[0], expected, "{order}");
    }
    drop(dir);
    Ok(())
}

#[derive(HyperTarget)]
struct One {
    #[hyper(tensor([2]))]
    weight: Tensor,
}

hypernetwork! {
    struct HyperOne for One { embedding: table(1, 1), generator: linear, mode: static }
}

fn place(name: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(name);
    (dir, path)
}

macro_rules! asked {
    ($name:ident, $dims:expr) => {{
        #[derive(HyperTarget)]
        struct Asked {
            #[hyper(tensor($dims))]
            $name: Tensor,
        }

        hypernetwork! {
            struct HyperAsked for Asked { embedding: table(1, 1), generator: linear, mode: static }
        }

        let hyper = HyperAsked::new_from(
            variables(1, DType::F32).1,
            Pretrained::open(golden("m_kinds.pt"))?,
        );
        message(hyper)
    }};
}

/// A kind that is not read is no reason to refuse the file, but is named where it is asked for.
#[test]
fn kinds_that_are_not_read_are_named() -> Result<()> {
    let expected = |name: &str, dims: &[usize], kind: &str| {
        format!(
            "`{name}` of the pretrained network, expected shape {dims:?}: `{name}` is {kind}, which is not read: convert it before it is saved, to a floating dtype and dense"
        )
    };
    assert_eq!(
        asked!(int32, [2, 3]),
        expected("int32", &[2, 3], "a tensor of int32 (`IntStorage`)")
    );
    assert_eq!(asked!(bool, [2, 3]), expected("bool", &[2, 3], "a tensor of bool (`BoolStorage`)"));
    assert_eq!(
        asked!(complex, [6]),
        expected("complex", &[6], "a tensor of complex64 (`ComplexFloatStorage`)")
    );
    assert_eq!(asked!(float8, [6]), expected("float8", &[6], "a tensor of float8_e4m3fn"));
    assert_eq!(asked!(sparse, [4, 6]), expected("sparse", &[4, 6], "a sparse tensor"));
    assert_eq!(asked!(quantised, [4, 6]), expected("quantised", &[4, 6], "a quantised tensor"));
    Ok(())
}

/// The network of `golden/files.py`.
#[derive(HyperTarget)]
struct Net {
    #[hyper(linear(3, 2), name = "0")]
    linear: Linear,
    #[hyper(batch_norm(2), name = "1")]
    norm: BatchNorm,
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(6, 3), generator: linear, mode: static }
}

fn net(pretrained: Pretrained<'_>) -> Result<Vec<f64>> {
    let net = HyperNet::new_from(variables(1, DType::F64).1, pretrained)?;
    values(&net.generate_params()?.flat()?)
}

const VALUES: [f64; 12] = [0., 0.25, 0.5, 0.75, 1., 1.25, 1., 1.25, 2., 2.25, 3., 3.25];

/// In a dictionary beside an optimiser's state and tensors of the training; in TorchScript; and with the
/// prefix of `DataParallel`.
#[test]
fn a_state_dict_is_found_where_it_is() -> Result<()> {
    for file in ["m_net.pt", "m_script.pt"] {
        assert_eq!(net(Pretrained::open(golden(file))?)?, VALUES, "{file}");
    }
    // One step of the optimiser has moved these.
    let trained = net(Pretrained::open(golden("m_training.pt"))?)?;
    assert!(trained.iter().zip(VALUES).all(|(a, b)| (a - b).abs() < 0.02), "{trained:?}");
    let parallel = || Pretrained::open(golden("m_parallel.pt"));
    assert_eq!(net(parallel()?.strip_prefix("module."))?, VALUES);
    assert_eq!(
        message(net(parallel()?)),
        "the pretrained network has no `0.weight`, expected shape [2, 3]: its names have `module.` in front: `strip_prefix(\"module.\")` takes them without"
    );
    Ok(())
}

#[test]
fn a_whole_network_is_named() {
    assert_eq!(
        opening(&golden("m_whole.pt")),
        "can't read FILE: it holds no tensors by name: it is an object of the class `torch.nn.modules.container.Sequential`, as `torch.save(net, path)` writes a whole network; save `net.state_dict()` in its place"
    );
}

fn opening(path: &Path) -> String {
    message(Pretrained::open(path)).replace(path.to_str().unwrap(), "FILE")
}

fn tensors(names: &[(&str, &[usize])]) -> HashMap<String, Tensor> {
    let tensor = |(name, dims): &(&str, &[usize])| {
        ((*name).to_owned(), Tensor::zeros(*dims, DType::F32, &Device::Cpu).unwrap())
    };
    names.iter().map(tensor).collect()
}

/// Names that differ by a prefix, on either side, from a file or from a builder.
#[test]
fn names_with_a_prefix() -> Result<()> {
    let (_dir, path) = place("net.safetensors");
    let names: [(&str, &[usize]); 4] =
        [("0.weight", &[2, 3]), ("0.bias", &[2]), ("1.weight", &[2]), ("1.bias", &[2])];
    let statistics: [(&str, &[usize]); 2] = [("1.running_mean", &[2]), ("1.running_var", &[2])];
    let all = names.iter().chain(&statistics);
    let with = |prefix: &str| {
        let named: Vec<_> = all.clone().map(|(n, dims)| (format!("{prefix}{n}"), *dims)).collect();
        tensors(&named.iter().map(|(name, dims)| (name.as_str(), *dims)).collect::<Vec<_>>())
    };
    let vb =
        |prefix: &str| candle_nn::VarBuilder::from_tensors(with(prefix), DType::F32, &Device::Cpu);
    let advice = |prefix: &str| {
        format!(
            "the pretrained network has no `0.weight`, expected shape [2, 3]: its names have `{prefix}` in front: `strip_prefix(\"{prefix}\")` takes them without"
        )
    };
    for prefix in ["module.", "distilbert.", "model.", "my.own."] {
        candle_core::safetensors::save(&with(prefix), &path)?;
        let open = || Pretrained::open(&path);
        assert_eq!(message(net(open()?)), advice(prefix));
        assert_eq!(net(open()?.strip_prefix(prefix))?, [0.; 12]);
        let outside = message(net(open()?.strip_prefix("modul.")));
        assert!(
            outside.starts_with(
                "strip_prefix \"modul.\": no name of the pretrained network begins so; the nearest names are `"
            ),
            "{outside}"
        );
        assert_eq!(net(Pretrained::from(vb(prefix)).strip_prefix(prefix))?, [0.; 12]);
    }
    assert_eq!(message(net(vb("module.").into())), advice("module."));
    // The other way round.
    candle_core::safetensors::save(&with(""), &path)?;
    assert_eq!(
        message(nested(Pretrained::open(&path)?)),
        "the pretrained network has no `body.0.weight`, expected shape [2, 3]: its names are without `body.`: `add_prefix(\"body.\")` puts that in front"
    );
    assert_eq!(nested(Pretrained::open(&path)?.add_prefix("body."))?, [0.; 12]);
    Ok(())
}

#[derive(HyperTarget)]
struct Outer {
    body: Net,
}

hypernetwork! {
    struct HyperOuter for Outer { embedding: table(6, 3), generator: linear, mode: static }
}

fn nested(pretrained: Pretrained<'_>) -> Result<Vec<f64>> {
    let net = HyperOuter::new_from(variables(1, DType::F64).1, pretrained)?;
    values(&net.generate_params()?.flat()?)
}

/// A name or a pattern that is not there comes with the nearest.
#[test]
fn near_names() -> Result<()> {
    let (_dir, path) = place("net.safetensors");
    candle_core::safetensors::save(&tensors(&[("0.weigth", &[2, 3]), ("1.weight", &[2])]), &path)?;
    assert_eq!(
        message(net(Pretrained::open(&path)?)),
        "the pretrained network has no `0.weight`, expected shape [2, 3]: `without(\"0.weight\")` starts it as a fresh one; the nearest names are `1.weight` and `0.weigth`"
    );
    candle_core::safetensors::save(&tensors(&[("a", &[1]), ("b", &[1])]), &path)?;
    assert_eq!(
        message(net(Pretrained::open(&path)?)),
        "the pretrained network has no `0.weight`, expected shape [2, 3]: none of the target's tensors is in it; it has `a` and `b`"
    );
    assert_eq!(
        message(net(Pretrained::open(golden("m_net.pt"))?.without("0.wieght"))),
        "without \"0.wieght\": no tensor of the target has a name of this pattern; the nearest names are `0.weight`, `1.weight` and `0.bias`"
    );
    Ok(())
}

/// Several networks in one dictionary: their names are in front.
#[test]
fn several_networks_in_one_file() -> Result<()> {
    let (_dir, path) = place("gan.pt");
    let weight =
        |key| Pickle::dict(&[("weight", Pickle::tensor("FloatStorage", key, 2, 0, &[2], &[1]))]);
    let both = Pickle::dict(&[("generator", weight("0")), ("critic", weight("1"))]);
    let bytes =
        |value: f32| [value, value].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    let entries = [("data.pkl", both.file()), ("data/0", bytes(3.)), ("data/1", bytes(4.))];
    std::fs::write(&path, archive(&entries)).unwrap();
    let one = |pretrained| {
        let hyper = HyperOne::new_from(variables(1, DType::F64).1, pretrained)?;
        values(&hyper.generate_params()?.flat()?)
    };
    assert_eq!(one(Pretrained::open(&path)?.strip_prefix("critic."))?, [4., 4.]);
    assert_eq!(one(Pretrained::open(&path)?.strip_prefix("generator."))?, [3., 3.]);
    let found = message(one(Pretrained::open(&path)?));
    assert!(found.contains("`strip_prefix(\""), "{found}");
    Ok(())
}

/// What a file is that is not one of tensors.
#[test]
fn files_of_other_kinds() {
    let (dir, path) = place("net.bin");
    let says = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let found = opening(&path);
        assert_eq!(
            message(HyperNet::new(variables(0, DType::F32).1).unwrap().load(&path)),
            found.replace("can't read FILE", &format!("can't load {}", path.display()))
        );
        found
    };
    let mut tar = vec![b'a'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n";
    let cases: [(&[u8], &str); 16] = [
        (b"", "it is empty, as after an interrupted download"),
        // The length of a header of 1408 bytes, cut off.
        (b"\x80\x05\0\0\0\0\0", "it is of no kind that is known"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body>", "it is an HTML page"),
        (b"\n  <HTML><head>", "it is an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "it is a page in XML"),
        (pointer, "it is a Git LFS pointer"),
        (b"\x93NUMPY\x01\0v\0{'descr'", "it is an array of NumPy"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "it is a gzip archive"),
        (&tar, "it is a tar archive"),
        (b"\x08\x07\x12\x07pytorch\x1a\x052.1.0", "it is a model in ONNX"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "it is an HDF5 file"),
        (b"{\"hidden_size\": 768}", "it is a text in JSON"),
        (b"Repository not found", "it is a text that begins with `Repository not found`"),
        (b"\x80\x02}q\x00.", "it is a pickle of Python, but not one that `torch.save` wrote"),
        (b"\x01\x02\x03", "it is of no kind that is known, and begins with the bytes 01 02 03"),
        (
            b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            "it is a zip archive with nothing in it",
        ),
    ];
    for (bytes, expected) in cases {
        let found = says(bytes);
        assert!(found.starts_with(&format!("can't read FILE: {expected}")), "{found}");
    }
    let npz = says(&archive(&[("weight.npy", b"\x93NUMPY".to_vec())]));
    assert!(npz.contains("it holds arrays of NumPy (`.npz`)"), "{npz}");
    let docx = says(&archive(&[("word/document.xml", b"<".to_vec())]));
    assert!(docx.contains("it is a zip archive of `x/word/document.xml`"), "{docx}");
    assert_eq!(
        message(Pretrained::open(dir.path())).replace(dir.path().to_str().unwrap(), "DIR"),
        "can't read DIR: it is a directory, expected a file; in it are `net.bin`"
    );
}

/// Models that `Pretrained::open` reads, and that are no checkpoints.
#[test]
fn models_are_not_loaded_as_checkpoints() {
    let (_dir, path) = place("net.bin");
    let says = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        message(HyperNet::new(variables(0, DType::F32).1).unwrap().load(&path))
            .replace(&path.display().to_string(), "FILE")
    };
    let expected = "expected safetensors, or what `torch.save(net.state_dict(), path)` writes";
    assert_eq!(
        says(b"GGUF\x03\0\0\0"),
        format!(
            "can't load FILE: it is a GGUF file, a model as llama.cpp has it: `Pretrained::open` reads it; {expected}"
        )
    );
    let index =
        br#"{"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
    assert_eq!(
        says(index),
        format!(
            "can't load FILE: it is the index of a model in several files, `m-1.safetensors` and `m-2.safetensors`: `Pretrained::open` reads them; {expected}"
        )
    );
    assert_eq!(
        opening(&path),
        "can't read FILE: the shard `m-1.safetensors` of `a` is not beside the index: download it too"
    );
}

/// What waits for a writer for ever is not opened.
#[cfg(unix)]
#[test]
fn a_fifo_and_a_socket_are_not_read() -> Result<()> {
    let (_dir, path) = place("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status()?.success());
    assert_eq!(opening(&path), "can't read FILE: it is a FIFO (a named pipe), expected a file");
    let (_dir, path) = place("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path)?;
    assert_eq!(opening(&path), "can't read FILE: it is a socket, expected a file");
    Ok(())
}

/// What a dictionary has that holds no tensors.
#[test]
fn pickles_without_tensors() {
    let (_dir, path) = place("net.pt");
    let says = |value: Pickle| {
        std::fs::write(&path, archive(&[("data.pkl", value.file())])).unwrap();
        let found = opening(&path);
        found.strip_prefix("can't read FILE: it holds no tensors by name: ").unwrap().to_owned()
    };
    let expected = "expected what `torch.save(net.state_dict(), path)` writes";
    let keys = Pickle::dict(&[("epoch", Pickle::int(3)), ("args", Pickle::dict(&[]))]);
    assert_eq!(says(keys), format!("its keys are `epoch` and `args`, {expected}"));
    assert_eq!(says(Pickle::dict(&[])), format!("it is an empty dictionary, {expected}"));
    assert_eq!(says(Pickle::int(1)), format!("it is a single value, {expected}"));
    let tensor = Pickle::tensor("FloatStorage", "0", 1, 0, &[1], &[1]);
    assert_eq!(says(tensor), "it is one tensor without a name");
    let optimizer = Pickle::dict(&[("optimizer", Pickle::dict(&[("exp_avg", Pickle::int(1))]))]);
    assert_eq!(says(optimizer), format!("its keys are `optimizer`, {expected}"));
}

/// A dictionary of one tensor, in an archive with one storage of 16 bytes.
fn one(tensor: Pickle) -> Vec<u8> {
    let dict = Pickle::dict(&[("weight", tensor)]);
    archive(&[("data.pkl", dict.file()), ("data/0", vec![0; 16])])
}

/// Nothing that a file says makes it panic, or take memory or time that it has not.
#[test]
fn hostile_pickles() {
    let (_dir, path) = place("net.pt");
    let says = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        opening(&path)
    };
    let tensor = |class: &str, numel, offset, dims: &[i64], strides: &[i64]| {
        one(Pickle::tensor(class, "0", numel, offset, dims, strides))
    };
    let rebuild =
        |name: &str, args: &[Pickle]| one(Pickle::call("torch._utils", name, &Pickle::tuple(args)));
    let wide = 1 << 20;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (rebuild("_rebuild_tensor_v2", &[Pickle::int(1)]), "which are too few"),
        (rebuild("_rebuild_tensor_v2", &[]), "which are too few"),
        (rebuild("_rebuild_tensor_v3", &[]), "which are too few"),
        (
            rebuild("_rebuild_parameter", &[]),
            "`_rebuild_parameter` has 0 arguments, which are too few",
        ),
        (rebuild("_rebuild_parameter", &[Pickle::int(1)]), "a parameter without a tensor"),
        (rebuild("_rebuild_tensor_v2", &vec![Pickle::int(1); 6]), "a tensor without a storage"),
        (
            one(Pickle::tensor_of(&Pickle::persistent(&[Pickle::int(1)]), 0, &[1], &[1])),
            "a storage that is not named",
        ),
        (tensor("FloatStorage", 4, -1, &[1], &[1]), "where a size or an offset should be"),
        (tensor("FloatStorage", 4, 0, &[-1], &[1]), "where a size or an offset should be"),
        (tensor("FloatStorage", 4, 0, &[2], &[-1]), "where a size or an offset should be"),
        (tensor("FloatStorage", 4, 4, &[1], &[1]), "does not lie in its storage of 4 values"),
        (
            tensor("FloatStorage", 4, i64::MAX, &[1], &[1]),
            "does not lie in its storage of 4 values",
        ),
        (tensor("FloatStorage", 4, 0, &[5], &[1]), "does not lie in its storage of 4 values"),
        (tensor("FloatStorage", 4, 0, &[2, 2], &[4, 1]), "does not lie in its storage of 4 values"),
        (
            tensor("FloatStorage", 4, 0, &[wide, wide], &[wide, 1]),
            "does not lie in its storage of 4 values",
        ),
        (
            tensor("FloatStorage", 4, 0, &[2], &[i64::MAX]),
            "does not lie in its storage of 4 values",
        ),
        (
            tensor("FloatStorage", 4, 0, &[1 << 40, 1 << 40], &[0, 0]),
            "more values than can be counted",
        ),
        (
            tensor("FloatStorage", 4, 0, &[0, 1 << 62, 1 << 62], &[0, 0, 0]),
            "more values than can be counted",
        ),
        (tensor("FloatStorage", 4, 0, &[3, 2], &[1, 1]), "its values overlap in the storage"),
        (tensor("FloatStorage", 4, 0, &[1, 1], &[1]), "2 dimensions with 1 strides"),
        (tensor("FloatStorage", 4, 0, &[1; 65], &[1; 65]), "65 dimensions, expected at most 64"),
        (
            tensor("NoStorage", 4, 0, &[1], &[1]),
            "a storage of the class `NoStorage`, which is not known",
        ),
        (one(Pickle::tensor("FloatStorage", "1", 1, 0, &[1], &[1])), "its entry `x/data/1`: "),
        (archive(&[("data.pkl", Vec::new())]), "it ends within 1 bytes"),
        (archive(&[("data.pkl", b".".to_vec())]), "it takes a value that is not there"),
        (archive(&[("data.pkl", b"\x80\x02u.".to_vec())]), "a mark that is not there"),
        (archive(&[("data.pkl", b"(K\x01u.".to_vec())]), "a key that has no value"),
        (archive(&[("data.pkl", b"}(K\x01R.".to_vec())]), "it takes 2 values, which are not there"),
        (archive(&[("data.pkl", b"h\x07.".to_vec())]), "it has no value number 7"),
        (
            archive(&[("data.pkl", b"X\xff\xff\xff\xff.".to_vec())]),
            "it ends within 4294967295 bytes",
        ),
        (
            archive(&[("data.pkl", [&b"\x8d"[..], &[0xff; 8]].concat())]),
            "it ends within 18446744073709551615 bytes",
        ),
        (archive(&[("data.pkl", b"\xff.".to_vec())]), "an instruction 0xff that is not known"),
        (archive(&[("data.pkl", b"cos".to_vec())]), "a line without an end"),
        (
            archive(&[("data.pkl", [&b"\x8a\xff"[..], &[1; 255], b"."].concat())]),
            "it is a single value",
        ),
    ];
    for (bytes, expected) in cases {
        let found = says(&bytes);
        assert!(found.contains(expected), "expected `{expected}`: {found}");
        assert!(found.starts_with("can't read FILE: "), "{found}");
    }
}

/// A value in itself, values that double, and a million values within each other.
#[test]
fn pickles_that_grow() {
    let (_dir, path) = place("net.pt");
    let says = |pickle: Vec<u8>| {
        std::fs::write(&path, archive(&[("data.pkl", pickle)])).unwrap();
        opening(&path)
    };
    let nested = [b")".to_vec(), b"\x85".repeat(1_000_000), b".".to_vec()].concat();
    assert!(says(nested).contains("it is a list or tuple of 1 values"));
    let dicts =
        [b"}X\x01\0\0\0a".repeat(100_000), b"}".to_vec(), b"s".repeat(100_000), b".".to_vec()];
    assert!(says(dicts.concat()).contains("its keys are `a`"));
    // Each tuple is twice the one before.
    let mut doubled = b")q\0".to_vec();
    doubled.extend(b"h\0h\0\x86q\0".repeat(200));
    doubled.push(b'.');
    assert!(says(doubled).contains("it is a list or tuple of 2 values"));
    // The same of dictionaries.
    let mut doubled = b"}q\0".to_vec();
    doubled.extend(b"}(X\x01\0\0\0ah\0X\x01\0\0\0bh\0uq\0".repeat(200));
    doubled.push(b'.');
    assert!(says(doubled).contains("its keys are `a` and `b`"));
    assert!(says(b"}q\0X\x01\0\0\0ah\0s.".to_vec()).contains("its keys are `a`"));
    assert!(says(b"]q\0h\0a.".to_vec()).contains("it is a list or tuple of 1 values"));
    let many = [b"]".to_vec(), b"N0".repeat(5_000_000), b".".to_vec()].concat();
    assert!(says(many).contains("it has more than 4194304 values"));
    // A long key for each of many dictionaries.
    let mut long = b"}(X\xa0\x0f\0\0".to_vec();
    long.extend([b'a'; 4000]);
    long.extend(b"q\0}");
    long.extend(b"h\0}".repeat(20_000));
    long.extend(b"u.");
    assert!(says(long).contains("its names have more than 67108864 bytes together"));
}

/// Many views of one storage, or storages that lie upon each other, are no larger file.
#[test]
fn archives_that_grow() {
    let (_dir, path) = place("net.pt");
    let view = |offset| Pickle::tensor("FloatStorage", "0", 1000, offset, &[1000], &[1]);
    let views: Vec<_> = (0..500).map(|at| (format!("t{at}"), view(at))).collect();
    let views: Vec<_> = views.iter().map(|(name, view)| (name.as_str(), view.clone())).collect();
    let entries = [("data.pkl", Pickle::dict(&views).file()), ("data/0", vec![0; 8000])];
    std::fs::write(&path, archive(&entries)).unwrap();
    assert!(opening(&path).contains("take more than 8 times its own length"), "{}", opening(&path));
    // The size of an entry in the directory of the archive, four times what there is.
    let dict = Pickle::dict(&[("weight", Pickle::tensor("FloatStorage", "0", 4, 0, &[4], &[1]))]);
    let bytes = archive(&[("data.pkl", dict.file()), ("data/0", vec![0; 16])]);
    for size in [17u32, 64, 1 << 20, u32::MAX - 1] {
        std::fs::write(&path, patched(&bytes, "data/0", size)).unwrap();
        let found = opening(&path);
        assert!(found.starts_with("can't read FILE: "), "{size}: {found}");
    }
    // Cut anywhere.
    for end in (4..bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..end]).unwrap();
        assert!(opening(&path).starts_with("can't read FILE: "), "{end} bytes");
    }
}

/// An expanded tensor takes no memory until it is asked for in its own shape.
#[test]
fn one_value_that_stands_for_many() {
    let (_dir, path) = place("net.pt");
    let dims = [1 << 20, 1 << 20];
    std::fs::write(&path, one(Pickle::tensor("FloatStorage", "0", 4, 0, &dims, &[0, 0]))).unwrap();
    let found =
        message(HyperOne::new_from(variables(1, DType::F32).1, Pretrained::open(&path).unwrap()));
    assert_eq!(
        found,
        "`weight` of the pretrained network, expected shape [2]: shape mismatch for weight, expected: [2], got: [1048576, 1048576]"
    );
}

/// A safetensors file of this header and data.
fn safetensors(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn hostile_safetensors() {
    let (_dir, path) = place("net.safetensors");
    let says = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        opening(&path)
    };
    let of = |dtype: &str, shape: &str, offsets: &str, data| {
        let header =
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
        safetensors(&header, data)
    };
    let two = |second: &str| {
        let header = format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"b":{{"dtype":"F32","shape":[2],"data_offsets":{second}}}}}"#
        );
        safetensors(&header, 16)
    };
    let mut huge = safetensors("{}", 8);
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut long = safetensors("{}", 8);
    long[..8].copy_from_slice(&1000u64.to_le_bytes());
    let max = u64::MAX;
    let cases: [(Vec<u8>, &str); 13] = [
        (huge, "header too large: its header has 18446744073709551615 bytes, the file 18"),
        (long, "invalid header length: its header has 1000 bytes, the file 18"),
        (safetensors("{", 0), "invalid JSON in header"),
        (safetensors("{\"a\":1}", 0), "invalid JSON in header"),
        (two("[0,8]"), "invalid offset for tensor `"),
        (two("[4,12]"), "invalid offset for tensor `b`"),
        (two("[12,20]"), "invalid offset for tensor `b`"),
        (of("F32", "[2]", "[8,0]", 8), "invalid offset for tensor `a`"),
        (of("F32", "[3]", "[0,8]", 8), "invalid shape, data type, or offset"),
        (of("F32", &format!("[{max},2]"), "[0,8]", 8), "overflow computing buffer size"),
        (of("F32", &format!("[0,{max},{max}]"), "[0,0]", 0), "more values than can be counted"),
        (of("Z9", "[2]", "[0,8]", 8), "unknown variant `Z9`"),
        (
            of("F32", "[2]", "[0,8]", 7),
            "incomplete metadata, file not fully covered: behind the header are 7 bytes",
        ),
    ];
    for (bytes, expected) in cases {
        let found = says(&bytes);
        assert!(found.contains(expected), "expected `{expected}`: {found}");
        assert!(found.starts_with("can't read FILE: "), "{found}");
    }
    // A kind that candle has not is named where it is asked for.
    for dtype in ["BOOL", "I8", "U64", "F8_E5M2"] {
        let size = if dtype == "U64" { 16 } else { 2 };
        let header =
            format!(r#"{{"weight":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{size}]}}}}"#);
        std::fs::write(&path, safetensors(&header, size)).unwrap();
        let pretrained = Pretrained::open(&path).unwrap();
        assert_eq!(
            message(HyperOne::new_from(variables(1, DType::F32).1, pretrained)),
            format!(
                "`weight` of the pretrained network, expected shape [2]: `weight` is a tensor of {dtype}, which is not read: convert it before it is saved, to a floating dtype and dense"
            )
        );
    }
}

/// A name from a file that a terminal would take as a command is written out.
#[test]
fn names_of_control_characters() -> Result<()> {
    let (_dir, path) = place("net.safetensors");
    let header = r#"{"a\u0000\u001b[31m":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    std::fs::write(&path, safetensors(header, 4))?;
    let found = message(net(Pretrained::open(&path)?));
    assert!(found.ends_with("it has `a\\u{0}\\u{1b}[31m`"), "{found}");
    let header = "{\"a\\u001b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}";
    std::fs::write(&path, safetensors(header, 8))?;
    let found = opening(&path);
    assert!(found.ends_with("invalid offset for tensor `a\\u{1b}`"), "{found}");
    assert_eq!(message(Pretrained::open("")), "can't read : the path is empty");
    Ok(())
}

/// All tensors of a file, as a model that asks for them.
struct All(Vec<Tensor>);

hypernetwork! {
    struct HyperAll for All {
        target: constructor, embedding: table(1, 1), generator: linear, mode: static,
    }
}

/// candle's own reader gives the same, where it reads a file.
#[test]
fn candles_reader_agrees() -> Result<()> {
    let mut count = 0;
    for file in ["a_static_small", "f_dynamic_vmap_b10", "g_dynamic_grucell", "k_layers"] {
        let path = golden(&format!("{file}.pt"));
        let mut expected = candle_core::pickle::read_all(&path)?;
        expected.retain(|(_, tensor)| tensor.elem_count() > 0);
        let shapes: Vec<_> =
            expected.iter().map(|(name, tensor)| (name.clone(), tensor.shape().clone())).collect();
        let vb = variables(1, DType::F64).1;
        let hyper = HyperAll::new_from(vb, Pretrained::open(&path)?, move |vb| {
            let tensors = shapes.iter().map(|(name, shape)| vb.get(shape, name));
            Ok(All(tensors.collect::<Result<_>>()?))
        })?;
        for ((name, expected), found) in expected.iter().zip(hyper.target()?.0) {
            assert_eq!(values(&found)?, values(expected)?, "{file}: {name}");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
    Ok(())
}

/// PyTorch's and our files with changes: each is read or refused, in bounded time and memory. More of
/// them where `HYPERNN_FUZZ` says how many.
#[test]
fn changed_files() -> Result<()> {
    let count = std::env::var("HYPERNN_FUZZ").ok().and_then(|count| count.parse().ok());
    let count: u64 = count.unwrap_or(400);
    let (_dir, path) = place("net.pt");
    let names =
        ["m_kinds.pt", "m_kinds_protocol_5.pt", "m_training.pt", "m_script.pt", "m_whole.pt"];
    let archives =
        names.map(|name| hypernn_tests::files::entries(&std::fs::read(golden(name)).unwrap()));
    let plain = ["m_kinds.pt", "m_kinds_legacy.pt", "m_kinds.safetensors", "n_static.safetensors"];
    let plain = plain.map(|name| std::fs::read(golden(name)).unwrap());
    let hyper = HyperNet::new(variables(1, DType::F32).1)?;
    let (mut read, mut refused) = (0, 0);
    for seed in 0..count {
        let mut random = Random::new(seed);
        let bytes = if seed % 2 == 0 {
            let index = random.below(archives.len());
            changed_archive(&archives[index], &mut random)
        } else {
            let index = random.below(plain.len());
            random.change(&plain[index])
        };
        std::fs::write(&path, &bytes)?;
        let start = std::time::Instant::now();
        match Pretrained::open(&path) {
            Ok(_) => read += 1,
            Err(err) => {
                refused += 1;
                assert!(err.to_string().starts_with("can't read "), "{seed}: {err}");
            }
        }
        assert!(hyper.load(&path).is_err(), "{seed}");
        assert!(start.elapsed().as_secs() < 10, "{seed}");
    }
    assert!(read > count / 20 && refused > count / 4, "{read} read, {refused} refused");
    assert!(peak_memory() < 2 << 30, "{} bytes", peak_memory());
    Ok(())
}

/// An archive whose pickle is changed, with a checksum that fits.
fn changed_archive(entries: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let changed = entries.iter().map(|(name, bytes)| {
        let is_pickle = name == "data.pkl";
        (name.as_str(), if is_pickle { random.change(bytes) } else { bytes.clone() })
    });
    archive(&changed.collect::<Vec<_>>())
}

/// The most memory that this process had, in bytes, where the system says.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}
