//! A base that stays quantised in memory: values, gradients, files and bytes.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

use std::path::Path;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{D, DType, Device, Module, Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use hypernn::generated::TargetPlan;
use hypernn::gguf::Gguf;
use hypernn::nn::{Embedding, Linear};
use hypernn::param::Param;
use hypernn::target::source::{ParamKind, ParamSource, ParamSpec, scoped};
use hypernn::{HyperTarget, Pretrained, Role, hypernetwork};
use hypernn_tests::llama::{Llama, TiedLlama, ids, reference};
use hypernn_tests::{device, golden, message, numbers, relative_error, values, variables};
use peak_alloc::PeakAlloc;
use tempfile::TempDir;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

hypernetwork! {
    struct Adapters for Llama {
        roles: [("*.q_proj.weight", lora(4, 8.)), ("*.down_proj.weight", lora(2, 8.)), ("*", freeze)],
        embedding: tasks(3, 10, 4),
        generator: linear,
        mode: dynamic,
    }
}

hypernetwork! {
    struct TiedAdapters for TiedLlama {
        roles: [("*.q_proj.weight", lora(4, 8.)), ("*", freeze)],
        embedding: table(10, 4),
        generator: linear,
        mode: static,
    }
}

fn llama() -> Pretrained<'static> {
    Pretrained::open(golden::path("p_llama.gguf")).unwrap()
}

fn both<T>(build: impl Fn(Pretrained<'static>) -> Result<T>) -> Result<[T; 2]> {
    Ok([build(llama())?, build(llama().keep_quantized())?])
}

/// One set per row of the batch, whose adapters are not zero.
fn flats(count: usize, dtype: DType) -> Result<Var> {
    let values = numbers(3 * count, 5).into_iter().map(|value| value * 0.3).collect();
    Var::from_tensor(&Tensor::from_vec(values, (3, count), device())?.to_dtype(dtype)?)
}

#[test]
fn logits_are_those_of_the_dequantised_model() -> Result<()> {
    let [dense, quantized] = both(|start| Adapters::new_from(variables(1, DType::F32).1, start))?;
    let params = quantized.generate_params(&Tensor::new(0u32, device())?)?;
    let found = params.forward(&ids()?)?;
    let error = (&found - reference("gguf")?)?.abs()?.max_all()?.to_scalar::<f32>()?;
    eprintln!("largest difference to transformers on the same GGUF: {error:e}");
    assert!(error < 1e-4, "{error}");
    // An adapter for each row.
    let flats = flats(dense.num_target_params(), DType::F32)?;
    let logits = |hyper: &Adapters| hyper.params_from_flat(&flats)?.forward(&ids()?);
    let (expected, found) = (logits(&dense)?, logits(&quantized)?);
    assert!(relative_error(&found, &expected)? < 1e-5);
    assert!(relative_error(&found, &reference("gguf")?)? > 1e-2);
    Ok(())
}

/// In f64, where the order of sums costs nothing, and in half precision.
#[test]
fn gradients_are_those_of_the_dequantised_model() -> Result<()> {
    for (dtype, bound) in [(DType::F64, 1e-12), (DType::F32, 1e-4), (DType::BF16, 0.1)] {
        let [dense, quantized] = both(|start| Adapters::new_from(variables(1, dtype).1, start))?;
        let flats = flats(dense.num_target_params(), dtype)?;
        let gradient = |hyper: &Adapters| {
            let logits = hyper.params_from_flat(&flats)?.forward(&ids()?)?;
            let grads = logits.sqr()?.mean_all()?.backward()?;
            grads.get(&flats).unwrap().to_dtype(DType::F64)
        };
        let (expected, found) = (gradient(&dense)?, gradient(&quantized)?);
        let error = relative_error(&found, &expected)?;
        assert!(error < bound, "{dtype:?}: {error}");
        assert!(found.abs()?.max_all()?.to_scalar::<f64>()? > 0.);
    }
    Ok(())
}

/// A head that is the embedding's table.
#[test]
fn a_tied_head_is_computed_with_the_blocks() -> Result<()> {
    let [dense, quantized] =
        both(|start| TiedAdapters::new_from(variables(1, DType::F32).1, start))?;
    assert!(relative_error(&quantized.forward(&ids()?)?, &dense.forward(&ids()?)?)? < 1e-5);
    Ok(())
}

/// A training moves the adapters, and nothing else; files know nothing of the base's form.
#[test]
fn training_and_files_are_those_of_the_dequantised_model() -> Result<()> {
    let dir = TempDir::new()?;
    let [dense, quantized] = both(|start| Adapters::new_from(variables(1, DType::F32).1, start))?;
    let task = Tensor::new(1u32, device())?;
    let trained = |hyper: &Adapters| {
        let mut optimizer =
            AdamW::new(hyper.trainable(), ParamsAdamW { lr: 0.01, ..Default::default() })?;
        for _ in 0..5 {
            let logits = hyper.generate_params(&task)?.forward(&ids()?)?;
            optimizer.backward_step(&logits.sqr()?.mean_all()?)?;
        }
        hyper.generate_params(&task)?.forward(&ids()?)
    };
    let (expected, found) = (trained(&dense)?, trained(&quantized)?);
    assert!(relative_error(&found, &expected)? < 1e-3);
    assert!(relative_error(&found, &reference("gguf")?)? > 1e-2);
    let path = dir.path().join("network.safetensors");
    quantized.save(&path)?;
    dense.load(&path)?;
    let params = quantized.generate_params(&task)?;
    assert!(relative_error(&dense.generate_params(&task)?.forward(&ids()?)?, &found)? < 1e-5);
    let path = dir.path().join("adapter.safetensors");
    params.save(&path)?;
    assert_eq!(values(&dense.load_params(&path)?.flat()?)?, values(&params.flat()?)?);
    quantized.load_params(&path)?;
    // What is exported is an ordinary network.
    let path = dir.path().join("exported.safetensors");
    quantized.export_params(&params, &path)?;
    let tensors = candle_core::safetensors::load(&path, device())?;
    assert_eq!(tensors["model.embed_tokens.weight"].dtype(), DType::F32);
    let vb = candle_nn::VarBuilder::from_tensors(tensors, DType::F32, device());
    let exported = Llama::new(vb)?.forward(&ids()?)?;
    assert!(relative_error(&exported, &found)? < 1e-5);
    Ok(())
}

#[derive(HyperTarget)]
struct Wide {
    #[hyper(embedding(2048, 512))]
    table: Embedding,
    #[hyper(linear_no_bias(512, 4096))]
    first: Linear,
    #[hyper(linear(4096, 512))]
    second: Linear,
}

impl Module for Wide {
    fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(&self.table.forward(ids)?)?.tanh()?)
    }
}

hypernetwork! {
    struct WideAdapters for Wide {
        roles: [("first.weight", lora(2, 2.)), ("*", freeze)],
        embedding: table(10, 4),
        generator: linear,
        mode: static,
    }
}

/// A file of `Wide`, in this type.
fn wide(path: &Path, dtype: GgmlDType) -> Result<()> {
    let tensor = |dims: &[usize], dtype| {
        let values = Tensor::randn(0f32, 0.05, dims, &Device::Cpu)?;
        QTensor::quantize(&values, dtype)
    };
    let tensors = [
        ("table.weight", tensor(&[2048, 512], dtype)?),
        ("first.weight", tensor(&[4096, 512], dtype)?),
        ("second.weight", tensor(&[512, 4096], dtype)?),
        ("second.bias", tensor(&[512], GgmlDType::F32)?),
    ];
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    gguf_file::write(&mut std::fs::File::create(path)?, &[], &tensors)
}

/// Every type that candle dequantises, of weights that take several blocks of rows, with a table that has no row for an
/// index of none, and the bytes that are held.
#[test]
fn every_type_is_kept() -> Result<()> {
    use GgmlDType::{BF16, F16, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let (dir, ids) =
        (TempDir::new()?, Tensor::new(&[[5u32, 5, u32::MAX], [0, 2047, 1]], device())?);
    let path = dir.path().join("wide.gguf");
    let values = 2048. * 512. + 2. * 4096. * 512.;
    for dtype in [F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K] {
        wide(&path, dtype)?;
        let build = |start| WideAdapters::new_from(variables(1, DType::F32).1, start);
        let before = MEMORY.current_usage();
        let quantized = build(Pretrained::open(&path)?.keep_quantized())?;
        let held = MEMORY.current_usage().saturating_sub(before) as f64;
        let dense = build(Pretrained::open(&path)?)?;
        let (found, expected) = (quantized.forward(&ids)?, dense.forward(&ids)?);
        assert!(relative_error(&found, &expected)? < 1e-5, "{dtype:?}");
        let bits = 8. * dtype.type_size() as f64 / dtype.block_size() as f64;
        eprintln!("{dtype:?}: {:.2} bits a value held, {bits:.2} in the file", 8. * held / values);
        // Other tests run beside this one; the bounds are of what a dense base would break.
        assert!(device().is_cuda() || 8. * held / values < bits + 8., "{dtype:?}");
        // On a device such an index is not looked at before it is used.
        if device().is_cpu() {
            let refused = message(quantized.forward(&Tensor::new(&[[2048u32]], device())?));
            let expected = "embedding: index 2048 is out of range, the table has 2048 rows";
            assert_eq!(refused, expected);
        }
    }
    Ok(())
}

/// Names that change keep what is quantised; what nothing is quantised of says so.
#[test]
fn names_and_other_files() -> Result<()> {
    let start = llama().add_prefix("net.").strip_prefix("net.").keep_quantized();
    let hyper = Adapters::new_from(variables(1, DType::F32).1, start)?;
    let params = hyper.generate_params(&Tensor::new(0u32, device())?)?;
    let error = (params.forward(&ids()?)? - reference("gguf")?)?.abs()?.max(D::Minus1)?;
    assert!(error.max_all()?.to_scalar::<f32>()? < 1e-4);
    let start = Pretrained::open(golden::path("p_llama"))?.keep_quantized();
    assert_eq!(
        message(Adapters::new_from(variables(1, DType::F32).1, start)),
        "keep_quantized: the pretrained network is no GGUF file, so that nothing of it is quantised"
    );
    Ok(())
}

/// Every tensor of a file, as a target that computes nothing.
struct Held {
    _tensors: Vec<Param>,
}

impl HyperTarget for Held {
    type Config = Vec<(String, Vec<usize>)>;

    const NAME: &'static str = "Held";

    fn build(names: &Self::Config, source: &mut dyn ParamSource) -> Result<Self> {
        let tensors = names.iter().map(|(name, dims)| {
            let (kind, init) = (ParamKind::Weight, candle_nn::Init::Const(0.));
            let spec = ParamSpec { name: "weight", dims, kind, init };
            scoped(source, name, |source| source.param(&spec))
        });
        Ok(Self { _tensors: tensors.collect::<Result<_>>()? })
    }
}

impl hypernn::Parameters for Held {
    fn visit(&self, _: &mut hypernn::target::layer::Visitor<'_>) -> Result<()> {
        Ok(())
    }
}

/// The name of a decoder's module.
fn hugging_face(name: &str) -> String {
    let names = [
        ("blk.", "model.layers."),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_norm", "input_layernorm"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("token_embd", "model.embed_tokens"),
        ("output_norm", "model.norm"),
    ];
    names.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

/// What a language model takes in memory, in f32 and as its file has it: `HYPERNN_GGUF` names one.
#[test]
fn bytes_of_a_language_model() -> Result<()> {
    let Some(path) = std::env::var_os("HYPERNN_GGUF") else {
        eprintln!("skipped: HYPERNN_GGUF names no file");
        return Ok(());
    };
    let file = Gguf::open(&path)?;
    let shapes = file.tensor_names().into_iter().map(|name| {
        let module = name.strip_suffix(".weight").unwrap_or(name);
        (hugging_face(module), file.shape(name).unwrap_or_default().to_vec())
    });
    let shapes: Vec<_> = shapes.collect();
    let values: usize = shapes.iter().map(|(_, dims)| dims.iter().product::<usize>()).sum();
    let held = |start: Pretrained<'static>| {
        let roles = [
            ("*.0.self_attn.q_proj.weight", Role::Lora { rank: 1, alpha: 1., dropout: 0. }),
            ("*", Role::Freeze),
        ];
        let before = MEMORY.current_usage();
        let plan = TargetPlan::<Held>::new(&shapes)?.with_roles(&roles)?;
        let plan = plan.with_pretrained(start, DType::F32, device())?;
        let held = MEMORY.current_usage() - before;
        drop(plan);
        Ok::<_, candle_core::Error>(held)
    };
    let dense = held(Pretrained::open(&path)?)?;
    let quantized = held(Pretrained::open(&path)?.keep_quantized())?;
    eprintln!("{values} values: {dense} bytes in f32, {quantized} quantised");
    assert!(quantized * 3 < dense);
    Ok(())
}
