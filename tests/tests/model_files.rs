//! Models as they are published: GGUF, shards with their index, folders.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device, Result, Tensor};
use hypernn::gguf::{Gguf, Value};
use hypernn::nn::Linear;
use hypernn::{Error, HyperTarget, Pretrained, hypernetwork};
use hypernn_tests::llama::{Llama, ids, reference};
use hypernn_tests::{golden, message, numbers, variables};
use tempfile::TempDir;

hypernetwork! {
    struct Adapter for Llama {
        roles: [("*.q_proj.weight", lora(2, 2.)), ("*", freeze)],
        embedding: table(10, 4),
        generator: linear,
        mode: static,
    }
}

/// The largest difference of a network's logits to a reference.
fn distance(start: Pretrained<'_>, reference_name: &str) -> Result<f32> {
    let hyper = Adapter::new_from(variables(1, DType::F32).1, start)?;
    let found = hyper.forward(&ids()?)?;
    (found - reference(reference_name)?)?.abs()?.max_all()?.to_scalar()
}

#[test]
fn a_folder_and_a_gguf_file_are_what_transformers_reads() -> Result<()> {
    assert!(distance(Pretrained::open(golden::path("p_llama"))?, "base")? < 1e-4);
    assert!(distance(Pretrained::open(golden::path("p_llama.gguf"))?, "gguf")? < 1e-4);
    Ok(())
}

#[test]
fn metadata_by_key() -> Result<()> {
    let file = Gguf::open(golden::path("p_llama.gguf"))?;
    assert_eq!(file.architecture()?, "llama");
    assert_eq!(file.get::<usize>("llama.block_count")?, 2);
    assert_eq!(file.get::<u32>("llama.attention.head_count_kv")?, 2);
    assert!((file.get::<f64>("llama.attention.layer_norm_rms_epsilon")? - 1e-5).abs() < 1e-9);
    assert_eq!(file.find::<Vec<&str>>("tokenizer.ggml.tokens")?, None);
    assert_eq!(file.tensor_names().len(), 21);
    assert_eq!(file.shape("token_embd.weight"), Some(&[48, 32][..]));
    let plain =
        |text: String| text.replace(&golden::path("p_llama.gguf").display().to_string(), "FILE");
    assert_eq!(
        plain(message(file.get::<&str>("tokenizer.chat_template"))),
        "can't read FILE: no `tokenizer.chat_template` in its metadata, expected a text"
    );
    assert_eq!(
        plain(message(file.get::<&str>("llama.block_count"))),
        "can't read FILE: `llama.block_count` in its metadata is 2, expected a text"
    );
    assert!(plain(message(file.tensor("output.weights"))).starts_with(
        "can't read FILE: it has no tensor `output.weights`; the nearest names are `output.weight`"
    ));
    Ok(())
}

/// The bytes of the golden file, altered.
fn altered(alter: impl FnOnce(&mut Vec<u8>)) -> String {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model.gguf");
    let mut bytes = fs::read(golden::path("p_llama.gguf")).unwrap();
    alter(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let opened = Pretrained::open(&path);
    assert!(
        opened.as_ref().err().is_none_or(|err| matches!(Error::of(err), Some(Error::File { .. }))),
        "{opened:?}"
    );
    message(opened).replace(&path.display().to_string(), "FILE")
}

fn place_of(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

#[test]
fn damaged_gguf_files_say_what_is_wrong() {
    let says = |what: &str| format!("can't read FILE: {what}");
    assert_eq!(
        altered(|bytes| bytes[4..8].copy_from_slice(&4u32.to_le_bytes())),
        says("it is a GGUF file of version 4, expected 2 or 3")
    );
    assert_eq!(
        altered(|bytes| bytes[4..8].copy_from_slice(&1u32.to_le_bytes())),
        says("it is a GGUF file of version 1, expected 2 or 3")
    );
    assert_eq!(
        altered(|bytes| bytes[4..8].copy_from_slice(&3u32.to_be_bytes())),
        says("it is a GGUF file with the highest byte of each number first, expected the lowest")
    );
    let cut = altered(|bytes| bytes.truncate(bytes.len() - 100));
    assert!(cut.starts_with("can't read FILE: tensor `"), "{cut}");
    assert!(cut.ends_with("but the file has 12572; a download may have been interrupted"), "{cut}");
    assert_eq!(
        altered(|bytes| bytes.truncate(20)),
        says(
            "it has 4 bytes behind byte 16, where the number of keys takes at least 8; a download may have been interrupted"
        )
    );
    let many = altered(|bytes| bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes()));
    assert!(
        many.contains("where its list of tensors takes at least 18446744073709551615"),
        "{many}"
    );
    let many = altered(|bytes| bytes[16..24].copy_from_slice(&(1u64 << 40).to_le_bytes()));
    assert!(many.contains("where its metadata takes at least 14293651161088;"), "{many}");
    // Of ten heads, the rows are none.
    let heads = altered(|bytes| {
        let at = place_of(bytes, "llama.attention.head_count") + "llama.attention.head_count".len();
        bytes[at + 4..at + 8].copy_from_slice(&10u32.to_le_bytes());
    });
    assert!(
        heads.ends_with("has shape [32, 32], expected rows of 10 heads of an even width"),
        "{heads}"
    );
    let other = TempDir::new().unwrap();
    let path = other.path().join("other.gguf");
    fs::write(&path, b"GGML\x01\0\0\0").unwrap();
    assert!(message(Gguf::open(&path)).ends_with(
        "other.gguf: it is not a GGUF file: it begins with the bytes 47 47 4d 4c, expected `GGUF`"
    ));
}

/// A tensor's shape, type and offset, and the alignment, as no writer has them.
#[test]
fn hostile_gguf_files_are_errors() {
    // Of `output.weight`: a name behind its length, the number of dimensions, two of them, a type, an offset.
    let field = |bytes: &[u8]| {
        let name = "\u{d}\0\0\0\0\0\0\0output.weight";
        place_of(bytes, name) + name.len() + 4
    };
    let set = |at: usize, value: u64| {
        altered(move |bytes| {
            let at = field(bytes) + at;
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        })
    };
    assert_eq!(
        set(0, 1 << 62),
        "can't read FILE: tensor `output.weight`: shape [48, 4611686018427387904] has more values than can be counted"
    );
    assert_eq!(
        set(0, 33),
        "can't read FILE: tensor `output.weight`: Q4_1 of shape [48, 33]: expected rows of a multiple of 32 values"
    );
    assert!(
        set(20, u64::MAX)
            .contains("tensor `output.weight` takes 960 bytes from byte 18446744073709551615 on")
    );
    // Each lies in the file, but there is not so much for all.
    let overlapping = altered(|bytes| {
        let at = field(bytes);
        bytes[at + 8..at + 16].copy_from_slice(&500u64.to_le_bytes());
        bytes[at + 20..at + 28].copy_from_slice(&0u64.to_le_bytes());
    });
    assert!(overlapping.contains(" bytes together, but the file has "), "{overlapping}");
    let rank = altered(|bytes| {
        let at = field(bytes) - 4;
        bytes[at..at + 4].copy_from_slice(&9u32.to_le_bytes());
    });
    assert_eq!(
        rank,
        "can't read FILE: tensor `output.weight`: it has 9 dimensions, expected 1 to 4"
    );
    // Every byte of the header, changed: an error or a network, and no panic.
    let bytes = fs::read(golden::path("p_llama.gguf")).unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("model.gguf");
    let header = bytes.len().min(2200);
    for at in (0..header).step_by(5) {
        for value in [0, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            fs::write(&path, bytes).unwrap();
            let _ = Pretrained::open(&path).and_then(|start| distance(start, "gguf"));
        }
    }
}

/// `general.alignment` of zero, two keys of a name, and two tensors of one.
#[test]
fn other_alignments_and_types() -> Result<()> {
    let dir = TempDir::new()?;
    let path = dir.path().join("model.gguf");
    let norm = QTensor::quantize(&Tensor::ones(4, DType::F32, &Device::Cpu)?, GgmlDType::F32)?;
    let write = |metadata: &[(&str, &Value)]| {
        let mut file = fs::File::create(&path)?;
        gguf_file::write(&mut file, metadata, &[("norm.weight", &norm)])
    };
    write(&[("general.alignment", &Value::U32(0))])?;
    let says = || message(Gguf::open(&path)).replace(&path.display().to_string(), "FILE");
    assert_eq!(
        says(),
        "can't read FILE: `general.alignment` in its metadata is 0, expected a power of two"
    );
    write(&[("a", &Value::U8(0)), ("a", &Value::U8(0))])?;
    assert_eq!(says(), "can't read FILE: `a` is twice in its metadata");
    let deep = (0..6).fold(Value::U8(1), |inner, _| Value::Array(vec![inner]));
    write(&[("a", &deep)])?;
    assert_eq!(
        says(),
        "can't read FILE: `a` in its metadata is lists in lists of more than 4 levels"
    );
    // A type that candle has not is an error when it is asked for.
    write(&[])?;
    let mut bytes = fs::read(&path)?;
    let at = place_of(&bytes, "norm.weight") + "norm.weight".len() + 12;
    bytes[at..at + 4].copy_from_slice(&20u32.to_le_bytes());
    fs::write(&path, bytes)?;
    assert_eq!(
        message(Gguf::open(&path)?.tensor("norm.weight"))
            .replace(&path.display().to_string(), "FILE"),
        "can't read FILE: tensor `norm.weight`: it is of type IQ4_NL, which candle does not dequantise, expected one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K"
    );
    Ok(())
}

#[derive(HyperTarget)]
#[hyper(sequential)]
struct Net {
    #[hyper(linear(6, 4), name = "blk.0.attn_q")]
    fc: Linear,
}

hypernetwork! {
    struct HyperNet for Net { embedding: table(7, 4), generator: linear, mode: static }
}

fn tensor(dims: &[usize]) -> Tensor {
    let count = dims.iter().product();
    Tensor::from_vec(numbers(count, 3), dims, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
}

/// Other architectures keep the names and the order of the file; `bert` and `qwen2` have Hugging Face's names alone.
#[test]
fn architectures() -> Result<()> {
    let dir = TempDir::new()?;
    let path = dir.path().join("model.gguf");
    let (weight, bias) = (tensor(&[4, 6]), tensor(&[4]));
    let blocks = |tensor: &Tensor| QTensor::quantize(tensor, GgmlDType::F32).unwrap();
    let (q, b) = (blocks(&weight), blocks(&bias));
    let open = |architecture: &str, front: &str| {
        let (architecture, heads) = (Value::String(architecture.to_owned()), Value::U32(2));
        let (weight, bias) = (format!("{front}.weight"), format!("{front}.bias"));
        let metadata =
            [("general.architecture", &architecture), ("llama.attention.head_count", &heads)];
        let tensors = [(weight.as_str(), &q), (bias.as_str(), &b)];
        gguf_file::write(&mut fs::File::create(&path)?, &metadata, &tensors)?;
        Pretrained::open(&path)
    };
    let flat = |start: Pretrained<'_>| {
        let hyper = HyperNet::new_from(variables(1, DType::F32).1, start)?;
        hyper.generate_params()?.flat()?.to_vec1::<f32>()
    };
    let plain = [weight.flatten_all()?.to_vec1::<f32>()?, bias.to_vec1()?].concat();
    assert_eq!(flat(open("other", "blk.0.attn_q")?)?, plain);
    for (architecture, front, theirs) in [
        ("qwen2", "blk.7.attn_q", "model.layers.7.self_attn.q_proj."),
        ("bert", "blk.7.attn_q", "encoder.layer.7.attention.self.query."),
        ("bert", "token_embd_norm", "embeddings.LayerNorm."),
        ("llama", "output_norm", "model.norm."),
        ("llama", "blk.7.attn_v", "model.layers.7.self_attn.v_proj."),
    ] {
        let start = open(architecture, front)?.strip_prefix(theirs).add_prefix("blk.0.attn_q.");
        assert_eq!(flat(start)?, plain, "{architecture} {front}");
    }
    // Two heads of two rows each, which are their own halves: the order stays; of one head it does not.
    let start = open("llama", "blk.7.attn_q")?.strip_prefix("model.layers.7.self_attn.q_proj.");
    assert_eq!(flat(start.add_prefix("blk.0.attn_q."))?, plain);
    Ok(())
}

/// A model in two shards, with what `alter` leaves of it, and what opening its index says.
fn shards(
    alter: impl FnOnce(&Path),
) -> (TempDir, std::result::Result<Pretrained<'static>, String>) {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    let save = |name: &str, tensors: &[&str]| {
        let all = candle_core::safetensors::load(
            golden::path("p_llama").join("model.safetensors"),
            &Device::Cpu,
        );
        let all = all.unwrap();
        let tensors: HashMap<_, _> =
            tensors.iter().map(|name| (*name, all[*name].clone())).collect();
        candle_core::safetensors::save(&tensors, path(name)).unwrap();
    };
    let all = candle_core::safetensors::load(
        golden::path("p_llama").join("model.safetensors"),
        &Device::Cpu,
    );
    let mut names: Vec<_> = all.unwrap().into_keys().collect();
    names.sort_unstable();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (first, second) = names.split_at(5);
    save(FIRST, first);
    save(SECOND, second);
    let entry = |name: &&str| {
        let shard = if first.contains(name) { FIRST } else { SECOND };
        ((*name).to_owned(), serde_json::Value::from(shard))
    };
    let map: serde_json::Map<_, _> = names.iter().map(entry).collect();
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(path(INDEX), index.to_string()).unwrap();
    alter(dir.path());
    let opened = Pretrained::open(path(INDEX));
    let opened = match opened {
        Ok(opened) => Ok(opened),
        Err(err) => Err(message::<()>(Err(err)).replace(&dir.path().display().to_string(), "DIR")),
    };
    (dir, opened)
}

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[test]
fn shards_are_one_network_by_their_index_and_by_their_folder() -> Result<()> {
    let (dir, opened) = shards(|_| {});
    assert!(distance(opened.unwrap(), "base")? < 1e-4);
    assert!(distance(Pretrained::open(dir.path())?, "base")? < 1e-4);
    Ok(())
}

#[test]
fn what_is_wrong_with_shards_is_said() {
    let says = |alter: &dyn Fn(&Path)| shards(alter).1.err().unwrap();
    let edit = |dir: &Path, from: &str, to: &str| {
        let index = fs::read_to_string(dir.join(INDEX)).unwrap();
        fs::write(dir.join(INDEX), index.replace(from, to)).unwrap();
    };
    assert_eq!(
        says(&|dir| fs::remove_file(dir.join(FIRST)).unwrap()),
        format!(
            "can't read DIR/{INDEX}: the shard `{FIRST}` of `lm_head.weight`, `model.embed_tokens.weight`, `model.layers.0.input_layernorm.weight` and 2 more is not beside the index: download it too"
        )
    );
    let cut = says(&|dir| {
        let bytes = fs::read(dir.join(SECOND)).unwrap();
        fs::write(dir.join(SECOND), &bytes[..bytes.len() - 10]).unwrap();
    });
    assert!(
        cut.starts_with(&format!(
            "can't read DIR/{INDEX}: can't read DIR/{SECOND}: it is not a whole safetensors file: "
        )),
        "{cut}"
    );
    assert!(cut.ends_with("a download may have been interrupted"), "{cut}");
    assert_eq!(
        says(&|dir| edit(dir, "\"lm_head.weight\"", "\"head.weight\"")),
        format!(
            "can't read DIR/{INDEX}: `head.weight` is not in the shard `{FIRST}`, where the index has it: index and shards are of different models"
        )
    );
    assert_eq!(
        says(&|dir| edit(dir, FIRST, "../model.safetensors")),
        format!(
            "can't read DIR/{INDEX}: the shard `../model.safetensors` of `lm_head.weight`, `model.embed_tokens.weight`, `model.layers.0.input_layernorm.weight` and 2 more does not lie beside the index"
        )
    );
    assert_eq!(
        says(&|dir| fs::write(dir.join(INDEX), r#"{"weight_map": {"a": 1}}"#).unwrap()),
        format!("can't read DIR/{INDEX}: `weight_map` has 1 for `a`, expected the name of a shard")
    );
    let gone = says(&|dir| fs::remove_file(dir.join(INDEX)).unwrap());
    assert!(gone.starts_with(&format!("can't read DIR/{INDEX}: No such file")), "{gone}");
    let (dir, _) = shards(|dir| fs::remove_file(dir.join(INDEX)).unwrap());
    let folder = |path: PathBuf| {
        message(Pretrained::open(path)).replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(
        folder(dir.path().to_owned()),
        format!(
            "can't read DIR: it has `{FIRST}`, a shard of a model, but no index `{INDEX}`, which says what is in which shard: download that too, or open `DIR/{FIRST}` alone"
        )
    );
}
