//! Adapters for PEFT and from it, and for llama.cpp.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{Optimizer, SGD, VarBuilder};
use hypernn::gguf::{Gguf, Value};
use hypernn::nn::{Conv2d, Embedding, Linear};
use hypernn::{GeneratedParams, HyperTarget, PeftOptions, Pretrained, hypernetwork};
use hypernn_tests::llama::{Llama, ids, reference};
use hypernn_tests::{device, golden, message, relative_error, values, variables};
use serde_json::json;
use tempfile::TempDir;

hypernetwork! {
    /// As the adapter in `golden/p_llama_adapter`, with another scale.
    struct Adapters for Llama {
        roles: [("*.q_proj.weight", lora(4, 8.)), ("*.v_proj.weight", lora(4, 8.)), ("*", freeze)],
        embedding: tasks(3, 10, 4),
        generator: linear,
        mode: dynamic,
    }
}

hypernetwork! {
    struct OneAdapter for Llama {
        roles: [("*.q_proj.weight", lora(4, 8.)), ("*.v_proj.weight", lora(4, 8.)), ("*", freeze)],
        embedding: table(10, 4),
        generator: linear,
        mode: static,
    }
}

hypernetwork! {
    /// One layer's queries alone, and scales that differ.
    struct Mixed for Llama {
        roles: [
            ("model.layers.0.self_attn.q_proj.weight", lora_dropout(2, 3., 0.1)),
            ("*.o_proj.weight", lora(2, 5.)),
            ("*", freeze),
        ],
        embedding: table(7, 4),
        generator: linear,
        mode: static,
    }
}

fn llama() -> Pretrained<'static> {
    Pretrained::open(golden::path("p_llama")).unwrap()
}

fn adapters() -> Adapters {
    Adapters::new_from(variables(3, DType::F32).1, llama()).unwrap()
}

/// The largest difference of two tensors.
fn distance(found: &Tensor, expected: &Tensor) -> Result<f64> {
    let difference = (found - expected)?.abs()?.max_all()?.to_dtype(DType::F64)?;
    difference.to_scalar()
}

/// Adapters whose second factors are not zero, as after a training.
fn trained(hyper: &Adapters, task: u32) -> Result<GeneratedParams<Llama>> {
    let params = hyper.generate_params(&Tensor::new(task, device())?)?;
    let flat = params.flat()?;
    let noise: Vec<_> = hypernn_tests::numbers(flat.elem_count(), u64::from(task) + 1);
    let noise = Tensor::from_vec(noise, flat.dims(), device())?.to_dtype(DType::F32)?;
    hyper.params_from_flat(&(flat + (noise * 0.3)?)?)
}

#[test]
fn an_adapter_of_peft_is_served() -> Result<()> {
    let hyper = adapters();
    let base = hyper.generate_params(&Tensor::new(0u32, device())?)?.forward(&ids()?)?;
    assert!(distance(&base, &reference("base")?)? < 1e-4);
    let loaded = hyper.load_peft(golden::path("p_llama_adapter"))?;
    assert!(loaded.num_sets().is_none());
    let (found, expected) = (loaded.forward(&ids()?)?, reference("adapter")?);
    assert!(distance(&found, &expected)? < 1e-4, "{}", distance(&found, &expected)?);
    // The adapter does something.
    assert!(distance(&expected, &reference("base")?)? > 0.1);
    assert!(!found.track_op());
    Ok(())
}

#[test]
fn a_hypernetwork_starts_at_an_adapter_and_leaves_it() -> Result<()> {
    let start = || llama().with_peft(golden::path("p_llama_adapter"));
    let (vars, vb) = variables(3, DType::F32);
    let hyper = OneAdapter::new_from(vb, start()?)?;
    assert!(distance(&hyper.forward(&ids()?)?, &reference("adapter")?)? < 1e-4);
    let loss = hyper.forward(&ids()?)?.sqr()?.mean_all()?;
    let before = hyper.generate_params()?.flat()?;
    let mut optimizer = SGD::new(hyper.trainable(), 0.1)?;
    optimizer.backward_step(&loss)?;
    assert!(distance(&hyper.generate_params()?.flat()?, &before)? > 1e-4);
    drop(vars);
    // One that depends on a condition starts there as well, for every condition.
    let hyper = Adapters::new_from(variables(3, DType::F32).1, start()?)?;
    for task in 0..3u32 {
        let params = hyper.generate_params(&Tensor::new(task, device())?)?;
        assert!(distance(&params.forward(&ids()?)?, &reference("adapter")?)? < 1e-4);
    }
    Ok(())
}

/// What is written is read again, whatever the scales, for one set and for several.
#[test]
fn adapters_go_and_come_back() -> Result<()> {
    let (dir, hyper) = (TempDir::new()?, adapters());
    let params = trained(&hyper, 1)?;
    params.save_peft(dir.path())?;
    let back = hyper.load_peft(dir.path())?;
    assert_eq!(values(&back.flat()?)?, values(&params.flat()?)?);
    let sets = GeneratedParams::stack(&[&params, &trained(&hyper, 2)?])?;
    let folder = dir.path().join("sets");
    sets.save_peft(&folder)?;
    for set in 0..2 {
        let back = hyper.load_peft(folder.join(set.to_string()))?;
        assert_eq!(values(&back.flat()?)?, values(&sets.set(set)?.flat()?)?);
    }
    Ok(())
}

fn config(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
}

#[test]
fn one_alpha_holds_all_scales_and_names_are_as_short_as_they_can_be() -> Result<()> {
    let dir = TempDir::new()?;
    let hyper = Mixed::new_from(variables(5, DType::F64).1, llama())?;
    let flat = hyper.generate_params()?.flat()?;
    let noise = hypernn_tests::numbers(flat.elem_count(), 9);
    let params = hyper.params_from_flat(
        &(flat + Tensor::from_vec(noise, hyper.num_target_params(), device())?)?,
    )?;
    let options = PeftOptions::default().base_model("a/base").task("CAUSAL_LM");
    params.save_peft_as(dir.path(), &options)?;
    let found = config(dir.path());
    assert_eq!(found["r"], 2);
    assert_eq!(found["lora_alpha"], 3);
    assert_eq!(found["base_model_name_or_path"], "a/base");
    assert_eq!(found["task_type"], "CAUSAL_LM");
    // Other layers' queries are not adapted.
    assert_eq!(found["target_modules"], json!(["model.layers.0.self_attn.q_proj", "o_proj"]));
    let tensors =
        candle_core::safetensors::load(dir.path().join("adapter_model.safetensors"), device())?;
    let factor = &tensors["base_model.model.model.layers.1.self_attn.o_proj.lora_B.weight"];
    assert_eq!((factor.dims(), factor.dtype()), (&[32, 2][..], DType::F32));
    let back = hyper.load_peft(dir.path())?;
    assert!(relative_error(&back.flat()?, &params.flat()?)? < 1e-6);
    // A prefix is put in front, and found again.
    let options = PeftOptions::default().prefix("backbone.");
    params.save_peft_as(dir.path(), &options)?;
    assert!(config(dir.path())["target_modules"][0] == "backbone.model.layers.0.self_attn.q_proj");
    assert!(relative_error(&hyper.load_peft(dir.path())?.flat()?, &params.flat()?)? < 1e-6);
    Ok(())
}

/// The logits that `golden/language.py` computes by a command for a model and an adapter, where Python has the modules.
fn by_python(modules: &str, command: &str, base: &Path, adapter: &Path) -> Result<Option<Tensor>> {
    let python = std::env::var("HYPERNN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if !has.is_ok_and(|has| has.status.success()) {
        eprintln!("skipped: `{python}` lacks one of {modules}; HYPERNN_PYTHON names another");
        return Ok(None);
    }
    let dir = TempDir::new()?;
    let (given, made) = (dir.path().join("ids.safetensors"), dir.path().join("out.safetensors"));
    candle_core::safetensors::save(&[("ids", reference("ids")?)].into(), &given)?;
    let script = golden::path("language.py");
    let mut python = Command::new(&python);
    let out = python.arg(script).arg(command).args([base, adapter, &given, &made]).output()?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Ok(candle_core::safetensors::load(made, device())?.remove("logits"))
}

/// transformers and PEFT compute the same logits with what is written here.
#[test]
fn peft_loads_what_is_written() -> Result<()> {
    let (dir, params) = (TempDir::new()?, trained(&adapters(), 2)?);
    params.save_peft(dir.path())?;
    let modules = "peft, transformers, gguf";
    let base = golden::path("p_llama");
    let Some(expected) = by_python(modules, "logits", &base, dir.path())? else { return Ok(()) };
    let found = params.forward(&ids()?)?;
    let error = distance(&found, &expected)?;
    eprintln!("largest difference to transformers and PEFT: {error:e}");
    assert!(error < 1e-4, "{error}");
    assert!(distance(&found, &reference("base")?)? > 0.1);
    Ok(())
}

/// llama.cpp computes the same logits, of the model in f32: with quantised weights it rounds what they are multiplied by.
#[test]
fn llama_cpp_loads_what_is_written() -> Result<()> {
    let (dir, model) = (TempDir::new()?, Gguf::open(golden::path("p_llama.gguf"))?);
    let tensors = model
        .tensor_names()
        .into_iter()
        .map(|name| Ok((name, QTensor::quantize(&model.tensor(name)?, GgmlDType::F32)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let (base, path) = (dir.path().join("base.gguf"), dir.path().join("adapter.gguf"));
    write_gguf(&base, &model, &tensors)?;
    let own = Pretrained::open(golden::path("p_llama.gguf"))?;
    let own = Adapters::new_from(variables(3, DType::F32).1, own)?;
    let params = trained(&own, 2)?;
    params.save_gguf_lora(&path, &Gguf::open(&base)?)?;
    let modules = "llama_cpp, peft, transformers, gguf";
    let Some(expected) = by_python(modules, "llama", &base, &path)? else { return Ok(()) };
    let found = params.forward(&ids()?)?;
    let error = distance(&found, &expected)?;
    eprintln!("largest difference to llama.cpp: {error:e}");
    assert!(error < 1e-3, "{error}");
    assert!(distance(&found, &reference("gguf")?)? > 0.1);
    Ok(())
}

/// A model's metadata with other tensors.
fn write_gguf(path: &Path, model: &Gguf, tensors: &[(&str, QTensor)]) -> Result<()> {
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let metadata: Vec<(&str, &Value)> =
        model.metadata().iter().map(|(key, value)| (key.as_str(), value)).collect();
    gguf_file::write(&mut std::fs::File::create(path)?, &metadata, &tensors)
}

#[derive(HyperTarget)]
struct Parts {
    #[hyper(conv2d(1, 6, 3))]
    conv: Conv2d,
    #[hyper(embedding(7, 6))]
    table: Embedding,
    #[hyper(linear(6, 5))]
    first: Linear,
    #[hyper(linear(6, 5))]
    second: Linear,
}

impl Module for Parts {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.first.forward(xs)
    }
}

/// What these formats can't hold is refused, with the reason.
#[test]
fn what_is_no_adapter_is_not_exported() -> Result<()> {
    let (vars, vb) = variables(1, DType::F32);
    Parts::new(vb)?;
    let base = || VarBuilder::from_varmap(&vars, DType::F32, device());
    let dir = TempDir::new()?;
    macro_rules! params {
        ($roles:tt) => {{
            hypernetwork! {
                struct Hyper for Parts { roles: $roles, embedding: table(1, 3), generator: linear, mode: static }
            }
            Hyper::new_from(variables(2, DType::F32).1, base())?.generate_params()?
        }};
    }
    let said = |refused| message::<()>(refused).replace(&dir.path().display().to_string(), "DIR");
    let peft = |params: &GeneratedParams<Parts>| said(params.save_peft(dir.path()));
    let model = Gguf::open(golden::path("p_llama.gguf"))?;
    let gguf = |params: &GeneratedParams<Parts>| said(params.save_gguf_lora(dir.path(), &model));
    let params = params!([("first.weight", lora(2, 2.)), ("second.bias", generate), ("*", freeze)]);
    assert_eq!(
        peft(&params),
        "can't write DIR: `second.bias` is generated as a whole, and a folder of PEFT holds low-rank adapters alone: give it the role `lora` or `freeze`, or `export` the network"
    );
    assert_eq!(
        gguf(&params),
        "can't write DIR: `second.bias` is generated as a whole, and a GGUF file of adapters holds low-rank adapters alone: give it the role `lora` or `freeze`, or `export` the network"
    );
    let params = params!([("first.weight", lora(2, 2.)), ("first.bias", train), ("*", freeze)]);
    assert!(
        peft(&params).starts_with("can't write DIR: `first.bias` is trained, and a folder of PEFT")
    );
    let params = params!([("conv.weight", lora(2, 2.)), ("*", freeze)]);
    assert_eq!(
        peft(&params),
        "can't write DIR: `conv.weight`, a kernel of shape [6, 1, 3, 3], has an adapter, and a folder of PEFT holds those of linear layers, whose name ends in `.weight`"
    );
    let params = params!([("table.weight", lora(2, 2.)), ("*", freeze)]);
    assert!(peft(&params).contains("`table.weight`, a table of shape [7, 6], has an adapter"));
    let params =
        params!([("first.weight", lora(2, 2.)), ("second.weight", lora(3, 2.)), ("*", freeze)]);
    assert_eq!(
        peft(&params),
        "can't write DIR: `first.weight` has an adapter of rank 2, `second.weight` of rank 3: a folder of PEFT has one rank"
    );
    let params = params!([("first.weight", lora(2, 2.)), ("*", freeze)]);
    assert_eq!(
        gguf(&params),
        "can't write DIR: `first` is no module of the model, whose architecture is `llama`: its names are those of Hugging Face"
    );
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}

/// A copy of the adapter of PEFT, with another configuration and other tensors.
struct Altered {
    dir: TempDir,
    config: serde_json::Value,
    tensors: std::collections::HashMap<String, Tensor>,
}

impl Altered {
    fn new() -> Self {
        let from = golden::path("p_llama_adapter");
        let tensors = from.join("adapter_model.safetensors");
        Self {
            dir: TempDir::new().unwrap(),
            config: config(&from),
            tensors: candle_core::safetensors::load(tensors, &Device::Cpu).unwrap(),
        }
    }

    fn with(mut self, key: &str, value: serde_json::Value) -> Self {
        self.config[key] = value;
        self
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self) {
        std::fs::write(self.file("adapter_config.json"), self.config.to_string()).unwrap();
        let tensors = self.file("adapter_model.safetensors");
        candle_core::safetensors::save(&self.tensors, tensors).unwrap();
    }

    /// What loading says, alike as a start and to be served.
    fn says(&self) -> String {
        self.write();
        let plain = |text: String| text.replace(&self.dir.path().display().to_string(), "DIR");
        let said = plain(message(adapters().load_peft(self.dir.path())));
        let start = llama().with_peft(self.dir.path());
        let start = start.and_then(|start| Adapters::new_from(variables(1, DType::F32).1, start));
        assert_eq!(plain(message(start)).replace("can't take", "can't load"), said);
        said
    }
}

#[test]
fn adapters_of_other_kinds_are_refused() {
    let config = "can't read DIR/adapter_config.json: ";
    let cases = [
        ("peft_type", json!("IA3"), "its `peft_type` is \"IA3\", expected \"LORA\""),
        (
            "use_dora",
            json!(true),
            "its `use_dora` is true: DoRA, whose magnitudes are no part of a low-rank adapter, which is not read",
        ),
        (
            "bias",
            json!("lora_only"),
            "its `bias` is \"lora_only\": biases that are trained as well, which are not read, expected \"none\"",
        ),
        (
            "modules_to_save",
            json!(["lm_head"]),
            "its `modules_to_save` is [\"lm_head\"]: modules that are trained whole beside the adapters, which is not read",
        ),
        (
            "rank_pattern",
            json!({"q_proj": 2}),
            "its `rank_pattern` is {\"q_proj\":2}: modules of other ranks, expected one rank, which is not read",
        ),
        ("r", json!(0), "its `r` is 0, expected the rank of the adapter"),
        ("lora_alpha", json!("6"), "its `lora_alpha` is \"6\", expected a number"),
    ];
    for (key, value, expected) in cases {
        assert_eq!(Altered::new().with(key, value).says(), format!("{config}{expected}"));
    }
    // Another rank than the tensors'.
    let said = Altered::new().with("r", json!(8)).says();
    assert!(
        said.starts_with(
            "can't read DIR/adapter_model.safetensors: `base_model.model.model.layers."
        ),
        "{said}"
    );
    assert!(said.ends_with(", where `r` in adapter_config.json is 8"), "{said}");
}

/// Rank-stabilised LoRA is another scale, `alpha / √r`.
#[test]
fn a_rank_stabilised_adapter_is_rescaled() -> Result<()> {
    let altered = Altered::new().with("use_rslora", json!(true)).with("lora_alpha", json!(3));
    altered.write();
    let found = adapters().load_peft(altered.dir.path())?.forward(&ids()?)?;
    assert!(distance(&found, &reference("adapter")?)? < 1e-4);
    Ok(())
}

#[test]
fn adapters_of_other_targets_are_refused() {
    const Q: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
    let mut altered = Altered::new();
    altered.tensors.remove(&format!("{Q}B.weight"));
    assert_eq!(
        altered.says(),
        format!(
            "can't read DIR/adapter_model.safetensors: it has no `{Q}B.weight`, the other factor of that module"
        )
    );
    let mut altered = Altered::new();
    let wide = Tensor::zeros((4, 33), DType::F32, &Device::Cpu).unwrap();
    altered.tensors.insert(format!("{Q}A.weight"), wide.clone());
    assert_eq!(
        altered.says(),
        "can't load DIR: its `lora_A` of `model.layers.0.self_attn.q_proj` has shape [4, 33], expected [4, 32]"
    );
    let mut altered = Altered::new();
    altered.tensors.insert("base_model.model.lm_head.weight".to_owned(), wide);
    assert_eq!(
        altered.says(),
        "can't read DIR/adapter_model.safetensors: `base_model.model.lm_head.weight` is no factor of a linear module, expected `base_model.model.MODULE.lora_A.weight` or `base_model.model.MODULE.lora_B.weight`"
    );
    let mut altered = Altered::new();
    let rename = |name: &str| name.replace("q_proj", "o_proj");
    altered.tensors = altered.tensors.drain().map(|(name, at)| (rename(&name), at)).collect();
    assert!(
        altered.says().contains("it adapts `model.layers.0.self_attn.o_proj`, where the target has no tensor `model.layers.0.self_attn.o_proj.weight` with the role `lora`; the nearest are"),
        "{}",
        altered.says()
    );
    let mut altered = Altered::new().with("target_modules", json!(["c_attn"]));
    let rename = |name: &str| name.replace("self_attn.q_proj", "c_attn");
    let only = altered.tensors.drain().filter(|(name, _)| name.contains("q_proj"));
    altered.tensors = only.map(|(name, at)| (rename(&name), at)).collect();
    assert_eq!(
        altered.says(),
        "can't load DIR: its `target_modules`, `c_attn`, match nothing that is adapted here: its modules are `model.layers.0.c_attn` and `model.layers.1.c_attn`, those of the target with the role `lora` `model.layers.0.self_attn.q_proj`, `model.layers.0.self_attn.v_proj`, `model.layers.1.self_attn.q_proj` and `model.layers.1.self_attn.v_proj`"
    );
    let mut altered = Altered::new().with("r", json!(2));
    for tensor in altered.tensors.values_mut() {
        let rank = tensor.dims().iter().position(|dim| *dim == 4).unwrap();
        *tensor = tensor.narrow(rank, 0, 2).unwrap().contiguous().unwrap();
    }
    assert!(
        altered.says().starts_with("can't load DIR: its adapter of `model.layers.0.self_attn.q_proj` has rank 2, the target's role is `lora(4, …)`"),
        "{}",
        altered.says()
    );
}

#[test]
fn an_adapter_opens_its_base() -> Result<()> {
    let base = golden::path("p_llama");
    let altered = Altered::new().with("base_model_name_or_path", json!(base));
    altered.write();
    let hyper = OneAdapter::new_from(
        variables(3, DType::F32).1,
        Pretrained::open_peft(altered.dir.path())?,
    )?;
    assert!(distance(&hyper.forward(&ids()?)?, &reference("adapter")?)? < 1e-4);
    let altered = altered.with("base_model_name_or_path", json!("someone/base"));
    altered.write();
    let said = message(Pretrained::open_peft(altered.dir.path()));
    assert_eq!(
        said.replace(&altered.dir.path().display().to_string(), "DIR"),
        "can't open DIR: its base model `someone/base` is no file or folder here: `Pretrained::open(base)?.with_peft(folder)` takes one that is elsewhere"
    );
    let missing = message(adapters().load_peft(altered.file("nothing")));
    assert!(missing.contains("adapter_config.json: No such file"), "{missing}");
    Ok(())
}

/// The factors as llama.cpp has them: merged into the file's own weights, they give the network's.
#[test]
fn an_adapter_for_llama_cpp_is_in_its_order() -> Result<()> {
    let (dir, hyper) = (TempDir::new()?, adapters());
    let (path, base) = (dir.path().join("adapter.gguf"), Gguf::open(golden::path("p_llama.gguf"))?);
    let params = trained(&hyper, 1)?;
    params.save_gguf_lora(&path, &base)?;
    let lora = Gguf::open(&path)?;
    for (key, expected) in
        [("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", "llama")]
    {
        assert_eq!(lora.get::<&str>(key)?, expected);
    }
    assert_eq!(lora.get::<f64>("adapter.lora.alpha")?, 8.);
    assert_eq!(lora.tensor_names().len(), 8);
    // The model with the differences added by llama.cpp's rule, in a file of its own.
    let tensors = base.tensor_names().into_iter().map(|name| {
        let mut tensor = base.tensor(name)?;
        if lora.shape(&format!("{name}.lora_a")).is_some() {
            let factor = |end: &str| lora.tensor(&format!("{name}.lora_{end}"));
            tensor = (tensor + (factor("b")?.matmul(&factor("a")?)? * (8. / 4.))?)?;
        }
        Ok((name, QTensor::quantize(&tensor, GgmlDType::F32)?))
    });
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let merged = dir.path().join("merged.gguf");
    write_gguf(&merged, &base, &tensors)?;
    let logits = |hyper: &OneAdapter| hyper.forward(&ids()?);
    let merged = OneAdapter::new_from(variables(3, DType::F32).1, Pretrained::open(merged)?)?;
    let own = Pretrained::open(golden::path("p_llama.gguf"))?;
    let own = Adapters::new_from(variables(3, DType::F32).1, own)?;
    let expected = own.params_from_flat(&params.flat()?)?.forward(&ids()?)?;
    assert!(distance(&logits(&merged)?, &expected)? < 1e-4);
    assert!(distance(&expected, &reference("gguf")?)? > 0.1);
    // Several sets have a file each.
    GeneratedParams::stack(&[&params, &params])?.save_gguf_lora(dir.path().join("sets"), &base)?;
    assert!(
        Gguf::open(dir.path().join("sets/1.gguf"))?.shape("blk.1.attn_v.weight.lora_b").is_some()
    );
    Ok(())
}
