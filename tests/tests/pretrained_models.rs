//! Models by constructor over checkpoints: what is built is the model that the constructor builds from
//! the checkpoint, whatever it looks for there.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Error, Module, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Activation, Func, Init, VarBuilder, VarMap};
use candle_transformers::models::{
    bert, clip, convnext, distilbert, fastvit, qwen2, resnet, rwkv_v7, t5,
};
use hypernn::embedding::spec::table;
use hypernn::generated::TargetPlan;
use hypernn::generator::GeneratorShape;
use hypernn::generator::spec::linear;
use hypernn::hypernetwork::{Declared, StaticHyperNetwork};
use hypernn::{Pretrained, hypernetwork};
use hypernn_tests::{by_name, device, input, message, values, variable, variables};
use tempfile::TempDir;

type Tensors = HashMap<String, Tensor>;

/// The tensors that a constructor asks for, drawn as it asks, and some that are there from the start.
#[derive(Clone, Default)]
struct Drawn {
    tensors: Arc<Mutex<Tensors>>,
    lacks: Option<&'static str>,
}

impl Drawn {
    /// All that a constructor asks for.
    fn of<T>(&self, new: impl FnOnce(VarBuilder<'static>) -> Result<T>) -> Result<Tensors> {
        new(VarBuilder::from_backend(Box::new(self.clone()), DType::F32, device().clone()))?;
        Ok(self.tensors.lock().unwrap().clone())
    }
}

impl SimpleBackend for Drawn {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, _: &Device) -> Result<Tensor> {
        if s.elem_count() == 0 || self.lacks.is_some_and(|lacks| name.contains(lacks)) {
            return Err(Error::CannotFindTensor { path: name.to_owned() }.bt());
        }
        if !self.contains_tensor(name) {
            let seed = self.tensors.lock().unwrap().len() as u64;
            let drawn = input(s.dims(), seed + 1, DType::F32)?;
            // A variance is positive.
            let drawn = if name.ends_with("_var") { (drawn.abs()? + 0.5)? } else { (drawn * 0.4)? };
            self.tensors.lock().unwrap().insert(name.to_owned(), drawn);
        }
        self.tensors.lock().unwrap()[name].to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        self.tensors.lock().unwrap()[name].to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.lock().unwrap().contains_key(name)
    }
}

/// A checkpoint of the model that has these tensors and what else its constructor asks for.
fn checkpoint<T>(
    there: &[(&str, &[usize])],
    new: impl FnOnce(VarBuilder<'static>) -> Result<T>,
) -> Result<Tensors> {
    let there = there.iter().zip(500..).map(|((name, dims), seed)| {
        Ok(((*name).to_owned(), (input(dims, seed, DType::F32)? * 0.4)?))
    });
    let tensors = Arc::new(Mutex::new(there.collect::<Result<_>>()?));
    Drawn { tensors, lacks: None }.of(new)
}

fn builder(tensors: &Tensors) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors.clone(), DType::F32, device())
}

/// A hypernetwork over a plan of any size.
fn network<T>(plan: TargetPlan<T>) -> Result<StaticHyperNetwork<T>> {
    let embedding = table(1, 2);
    let shape = GeneratorShape::new(1, 2, plan.num_params());
    let declared = Declared { name: "Hyper", shape, scheme: hypernn::init::InitScheme::Exact };
    StaticHyperNetwork::new(plan, &declared, &embedding, &linear, variables(1, DType::F32).1)
}

/// The layout's names, after it was held that the target, and what it exports, are the ordinary model of
/// the checkpoint.
fn assert_the_ordinary_model<T: 'static>(
    tensors: &Tensors,
    new: impl Fn(VarBuilder<'static>) -> Result<T> + Clone + Send + Sync + 'static,
    forward: impl Fn(T) -> Result<Tensor>,
) -> Result<Vec<String>> {
    let expected = values(&forward(new(builder(tensors))?)?)?;
    assert!(expected.iter().any(|value| *value != 0.) && expected.iter().all(|v| v.is_finite()));
    let pretrained = Pretrained::from(builder(tensors));
    let plan = TargetPlan::by_constructor(new.clone(), Some(&pretrained), DType::F32, device())?;
    let hyper = network(plan.with_pretrained(pretrained, DType::F32, device())?)?;
    assert_eq!(values(&forward(hyper.target()?)?)?, expected);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    hyper.export(&path)?;
    let exported = candle_core::safetensors::load(&path, device())?;
    assert_eq!(values(&forward(new(builder(&exported))?)?)?, expected);
    let layout = hyper.layout();
    let names = layout.params().iter().map(|param| param.name.clone());
    Ok(names.chain(layout.buffers().iter().map(|buffer| buffer.name.clone())).collect())
}

fn letters() -> Result<Tensor> {
    Tensor::new(&[[0u32, 3, 1, 4], [2, 2, 0, 1]], device())
}

fn qwen(vb: VarBuilder<'_>) -> Result<qwen2::ModelForCausalLM> {
    let config = qwen2::Config {
        vocab_size: 11,
        hidden_size: 8,
        intermediate_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        max_position_embeddings: 16,
        sliding_window: 16,
        max_window_layers: 2,
        tie_word_embeddings: false,
        rope_theta: 1e4,
        rms_norm_eps: 1e-5,
        use_sliding_window: false,
        hidden_act: Activation::Silu,
    };
    qwen2::ModelForCausalLM::new(&config, vb)
}

#[test]
fn a_head_is_tied_where_the_checkpoint_has_none() -> Result<()> {
    let forward = |mut model: qwen2::ModelForCausalLM| model.forward(&letters()?, 0);
    let untied = checkpoint(&[("lm_head.weight", &[11, 8])], qwen)?;
    let names = assert_the_ordinary_model(&untied, qwen, forward)?;
    assert!(names.contains(&"lm_head.weight".to_owned()));
    let tied = checkpoint(&[], qwen)?;
    let names = assert_the_ordinary_model(&tied, qwen, forward)?;
    assert!(!names.contains(&"lm_head.weight".to_owned()));
    Ok(())
}

hypernetwork! {
    struct HyperQwen for qwen2::ModelForCausalLM {
        target: constructor,
        roles: [("lm_head.*", generate), ("*", freeze)],
        embedding: table(22, 4),
        generator: linear,
        mode: static,
    }
}

/// The emitted type builds over the checkpoint, with roles for names that only the checkpoint has.
#[test]
fn an_emitted_type_sees_the_checkpoint() -> Result<()> {
    let untied = checkpoint(&[("lm_head.weight", &[11, 8])], qwen)?;
    let hyper = HyperQwen::new_from(variables(1, DType::F32).1, builder(&untied), qwen)?;
    let (mut found, mut expected) = (hyper.target()?, qwen(builder(&untied))?);
    let expected = values(&expected.forward(&letters()?, 0)?)?;
    assert_eq!(values(&found.forward(&letters()?, 0)?)?, expected);
    // A name in full is there, and starts afresh, whatever the checkpoint has.
    let fresh = Pretrained::from(builder(&checkpoint(&[], qwen)?)).without("lm_head.weight");
    let hyper = HyperQwen::new_from(variables(1, DType::F32).1, fresh, qwen)?;
    assert_eq!(hyper.num_target_params(), 88);
    Ok(())
}

/// Without a checkpoint, what was assumed is said.
#[test]
fn what_is_assumed_is_said() -> Result<()> {
    let plan = TargetPlan::from_constructor(qwen)?;
    assert!(plan.layout().absent().contains(&"lm_head.weight".to_owned()));
    let hyper = network(TargetPlan::from_constructor(|vb| {
        let scale =
            if vb.contains_tensor("scale") { vb.get(3, "scale")? } else { vb.get(3, "other")? };
        // Asked for before, it is there.
        assert!(vb.contains_tensor("other"));
        Ok(scale)
    })?)?;
    assert_eq!(hyper.layout().absent(), ["scale"]);
    let shown = format!("{hyper:?}");
    assert!(shown.ends_with("taken as absent: `scale` }"), "{shown}");
    hyper.target()?;
    Ok(())
}

fn clip_model(vb: VarBuilder<'_>) -> Result<clip::ClipModel> {
    let (activation, width) = (clip::text_model::Activation::QuickGelu, 8);
    let config = clip::ClipConfig {
        text_config: clip::text_model::ClipTextConfig {
            vocab_size: 11,
            embed_dim: width,
            activation,
            intermediate_size: 12,
            max_position_embeddings: 6,
            pad_with: None,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            projection_dim: 4,
        },
        vision_config: clip::vision_model::ClipVisionConfig {
            embed_dim: width,
            activation,
            intermediate_size: 12,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            projection_dim: 4,
            num_channels: 3,
            image_size: 6,
            patch_size: 3,
        },
        logit_scale_init_value: 2.,
        image_size: 6,
    };
    clip::ClipModel::new(vb, &config)
}

#[test]
fn what_a_clip_looks_for_is_found() -> Result<()> {
    let class: (&str, &[usize]) = ("vision_model.embeddings.class_embedding", &[8]);
    let forward = |model: clip::ClipModel| {
        let (by_image, _) = model.forward(&input(&[2, 3, 6, 6], 3, DType::F32)?, &letters()?)?;
        Ok(by_image)
    };
    let with = |there: &[(&str, &[usize])]| {
        assert_the_ordinary_model(&checkpoint(there, clip_model)?, clip_model, forward)
    };
    let names = with(&[class, ("logit_scale", &[])])?;
    assert!([class.0, "logit_scale"].iter().all(|name| names.contains(&(*name).to_owned())));
    assert!(!with(&[class])?.contains(&"logit_scale".to_owned()));
    Ok(())
}

fn bert_model(vb: VarBuilder<'_>) -> Result<bert::BertModel> {
    let config = bert::Config {
        vocab_size: 11,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 12,
        max_position_embeddings: 6,
        ..Default::default()
    };
    bert::BertModel::load(vb, &config)
}

/// Norms of older checkpoints are named `gamma` and `beta`, and names may have a prefix.
#[test]
fn a_bert_of_older_names() -> Result<()> {
    let forward =
        |model: bert::BertModel| model.forward(&letters()?, &letters()?.zeros_like()?, None);
    let rename = |prefix: &str| -> Result<Tensors> {
        let tensors = checkpoint(&[], bert_model)?.into_iter().map(|(name, tensor)| {
            let older = name
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta");
            (format!("{prefix}{older}"), tensor)
        });
        Ok(tensors.collect())
    };
    let names = assert_the_ordinary_model(&rename("")?, bert_model, forward)?;
    assert!(names.contains(&"embeddings.LayerNorm.gamma".to_owned()));
    assert_the_ordinary_model(&rename("bert.")?, bert_model, forward)?;
    Ok(())
}

fn t5_model(vb: VarBuilder<'_>) -> Result<t5::T5EncoderModel> {
    let config = t5::Config { vocab_size: 11, d_model: 8, d_kv: 4, d_ff: 12, ..Default::default() };
    let config = t5::Config { num_layers: 1, num_heads: 2, ..config };
    t5::T5EncoderModel::load(vb, &config)
}

#[test]
fn a_t5_shares_its_embeddings_where_the_checkpoint_does() -> Result<()> {
    let forward = |mut model: t5::T5EncoderModel| model.forward(&letters()?);
    let shared = checkpoint(&[("shared.weight", &[11, 8])], t5_model)?;
    let names = assert_the_ordinary_model(&shared, t5_model, forward)?;
    assert!(names.contains(&"shared.weight".to_owned()));
    let own = checkpoint(&[], t5_model)?;
    let names = assert_the_ordinary_model(&own, t5_model, forward)?;
    assert!(names.contains(&"encoder.embed_tokens.weight".to_owned()));
    Ok(())
}

fn rwkv_config() -> rwkv_v7::Config {
    rwkv_v7::Config {
        version: rwkv_v7::ModelVersion::V7,
        vocab_size: 11,
        hidden_size: 8,
        num_hidden_layers: 2,
        head_size: 4,
        intermediate_size: None,
        rescale_every: 0,
    }
}

/// Some of its sizes are those of the checkpoint's tensors.
#[test]
fn an_rwkv_takes_sizes_from_the_checkpoint() -> Result<()> {
    let new = |vb: VarBuilder<'_>| rwkv_v7::Model::new(&rwkv_config(), vb);
    let sizes: [(&str, &[usize]); 4] = [
        ("blocks.0.att.w1", &[8, 3]),
        ("blocks.0.att.a1", &[8, 2]),
        ("blocks.0.att.v1", &[8, 4]),
        ("blocks.0.att.g1", &[8, 5]),
    ];
    let forward = |model: rwkv_v7::Model| {
        let mut state = rwkv_v7::State::new(&rwkv_config(), device())?;
        model.forward(&Tensor::new(&[[3u32]], device())?, &mut state, &[3])
    };
    let names = assert_the_ordinary_model(&checkpoint(&sizes, new)?, new, forward)?;
    assert!(names.contains(&"blocks.1.att.w1".to_owned()));
    assert_eq!(
        message(TargetPlan::from_constructor(new)),
        "the constructor asks for `blocks.0.att.w1` without a shape, so its size is not known"
    );
    Ok(())
}

/// Branches that a checkpoint lacks are left out, and so are weights without values. (candle's forward of
/// this model fails, of the ordinary one too.)
#[test]
fn a_fast_vit_without_some_branches() -> Result<()> {
    let new = |vb: VarBuilder<'_>| fastvit::fastvit(&fastvit::Config::t8(), 3, vb);
    let drawn = Drawn { lacks: Some("conv_scale"), ..Default::default() };
    let pretrained = Pretrained::from(builder(&drawn.of(new)?));
    let plan = TargetPlan::by_constructor(new, Some(&pretrained), DType::F32, device())?;
    let hyper = network(plan.with_pretrained(pretrained, DType::F32, device())?)?;
    hyper.target()?;
    let (layout, lacks) = (hyper.layout(), "conv_scale");
    assert!(layout.buffers().iter().any(|at| at.name == "stem.0.conv_kxk.0.bn.running_mean"));
    assert!(!layout.params().iter().any(|param| param.name.contains(lacks)));
    assert!(layout.absent().iter().any(|name| name.contains(lacks)));
    Ok(())
}

#[test]
fn a_convnext_is_the_ordinary_one() -> Result<()> {
    let new = |vb: VarBuilder<'_>| convnext::convnext(&convnext::Config::atto(), 3, vb);
    let forward = |model: Func<'static>| model.forward(&input(&[1, 3, 32, 32], 3, DType::F32)?);
    assert_the_ordinary_model(&checkpoint(&[], new)?, new, forward).map(drop)
}

#[test]
fn a_distilbert_is_the_ordinary_one() -> Result<()> {
    let config = r#"{"vocab_size": 11, "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 12,
        "activation": "gelu", "max_position_embeddings": 6, "initializer_range": 0.02,
        "pad_token_id": 0, "model_type": "distilbert"}"#;
    let config: distilbert::Config = serde_json::from_str(config).unwrap();
    let new = move |vb: VarBuilder<'_>| distilbert::DistilBertModel::load(vb, &config);
    let forward = |model: distilbert::DistilBertModel| {
        model.forward(&letters()?, &Tensor::zeros((4, 4), DType::U8, device())?)
    };
    assert_the_ordinary_model(&checkpoint(&[], new.clone())?, new, forward).map(drop)
}

hypernetwork! {
    struct HyperResNet for Func<'static> {
        target: constructor,
        roles: [("fc.*", generate), ("*", freeze)],
        embedding: table(27, 4),
        generator: linear,
        mode: static,
    }
}

/// A function that borrows from its builder.
#[test]
fn a_resnet_is_the_ordinary_one() -> Result<()> {
    let new = |vb| resnet::resnet18(3, vb);
    let xs = input(&[1, 3, 32, 32], 3, DType::F32)?;
    let tensors = checkpoint(&[], new)?;
    let hyper = HyperResNet::new_from(variables(1, DType::F32).1, builder(&tensors), new)?;
    let expected = values(&new(builder(&tensors))?.forward(&xs)?)?;
    assert_eq!(values(&hyper.forward(&xs)?)?, expected);
    let by_path = network(TargetPlan::from_constructor(resnet::resnet18_no_final_layer)?);
    assert!(by_path.is_ok());
    Ok(())
}

/// Whether a model has a gain, a shape by trial, a part of another dtype, and integers.
struct Optional {
    weight: Tensor,
    gamma: Option<Tensor>,
    missing: String,
    order: Tensor,
    part: Tensor,
}

impl Optional {
    fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let gamma = vb.get(3, "gamma").ok();
        let missing = match vb.get(3, "beta").map_err(without_backtrace) {
            Ok(_) => String::new(),
            Err(Error::CannotFindTensor { path }) => path,
            Err(err) => return Err(err),
        };
        // Of whichever shape the checkpoint has.
        let weight = vb.pp("inner").get((3, 4), "weight").map_err(without_backtrace);
        let weight = match weight {
            Err(Error::UnexpectedShape { .. }) => vb.pp("inner").get((3, 1), "weight")?,
            weight => weight?,
        };
        let order = vb.get_with_hints_dtype(3, "order", Init::Const(0.), DType::U32)?;
        let part = vb.to_dtype(DType::F64).get_unchecked_dtype("part", DType::F64)?;
        Ok(Self { weight, gamma, missing, order, part })
    }

    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let ys = xs.index_select(&self.order, 1)?.matmul(&self.weight)?;
        let ys = (ys + self.part.to_dtype(xs.dtype())?.sum_all()?.to_scalar::<f32>()? as f64)?;
        self.gamma.as_ref().map_or(Ok(ys.clone()), |gamma| ys.broadcast_mul(&gamma.unsqueeze(1)?))
    }
}

fn without_backtrace(err: Error) -> Error {
    match err {
        Error::WithBacktrace { inner, .. } => *inner,
        err => err,
    }
}

fn optional(there: &[(&str, &[usize])]) -> Result<Tensors> {
    let mut tensors: Tensors = HashMap::new();
    for (name, dims) in there {
        tensors.insert((*name).to_owned(), input(dims, 7, DType::F32)?);
    }
    tensors.insert("order".to_owned(), Tensor::new(&[2u32, 0, 1], device())?);
    Ok(tensors)
}

#[test]
fn errors_and_integers_are_those_of_the_checkpoint() -> Result<()> {
    let forward = |model: Optional| {
        assert_eq!(model.missing, "beta");
        model.forward(&input(&[3, 3], 3, DType::F32)?)
    };
    let all: [(&str, &[usize]); 3] =
        [("part", &[2, 3]), ("inner.weight", &[3, 1]), ("gamma", &[3])];
    let names = assert_the_ordinary_model(&optional(&all)?, Optional::new, forward)?;
    assert_eq!(names, ["gamma", "inner.weight", "part"]);
    let names = assert_the_ordinary_model(&optional(&all[..2])?, Optional::new, forward)?;
    assert_eq!(names, ["inner.weight", "part"]);
    Ok(())
}

/// What it lacks is named, with the way out; what starts afresh may be missing.
#[test]
fn what_the_checkpoint_lacks_is_named() -> Result<()> {
    let of =
        |pretrained: Pretrained<'_>, new: fn(VarBuilder<'_>) -> Result<Tensor>| {
            TargetPlan::by_constructor(new, Some(&pretrained), DType::F32, device())?
                .with_pretrained(pretrained, DType::F32, device())
        };
    let tensors = || Ok::<_, Error>(Pretrained::from(builder(&optional(&[("a", &[2])])?)));
    assert_eq!(
        message(of(tensors()?, |vb| vb.pp("head").get((2, 3), "weight"))),
        "the pretrained network has no `head.weight`, expected shape [2, 3]: `without(\"head.weight\")` starts it as a fresh one"
    );
    assert_eq!(
        message(of(tensors()?, |vb| vb.get((2, 3), "a"))),
        "`a` of the pretrained network, expected shape [2, 3]: shape mismatch for a, expected: [2, 3], got: [2]"
    );
    assert_eq!(
        message(of(tensors()?, |vb| vb.get_unchecked("b"))),
        "the pretrained network has no `b`, whose shape the constructor takes from there"
    );
    let own = |vb: VarBuilder<'_>| match vb.get(2, "b") {
        Ok(_) => vb.get(2, "a"),
        Err(_) => bail!("no b, no model"),
    };
    assert_eq!(message(of(tensors()?, own)), "no b, no model");
    let plan = of(tensors()?.without("head.*"), |vb| {
        assert!(vb.pp("head").contains_tensor("weight") || vb.pp("head").get(2, "scale").is_ok());
        vb.get(2, "a")
    })?;
    assert_eq!(plan.layout().params().len(), 2);
    Ok(())
}

/// A checkpoint in memory that lives shorter than any builder may, and one of variables, to which nothing
/// is added.
#[test]
fn any_builder_is_a_checkpoint() -> Result<()> {
    let tensors = optional(&[("a", &[2])])?;
    let bytes = safetensors_of(&tensors)?;
    let borrowed = VarBuilder::from_slice_safetensors(&bytes, DType::F32, device())?;
    let new = |vb: VarBuilder<'_>| {
        assert!(!vb.contains_tensor("b") && vb.get(3, "b").is_err());
        vb.get(2, "a")
    };
    let hyper = network(TargetPlan::from_constructor(|vb| vb.get(2, "a"))?.with_pretrained(
        borrowed,
        DType::F32,
        device(),
    )?)?;
    assert_eq!(values(&hyper.target()?)?, values(&tensors["a"])?);
    let vars = VarMap::new();
    let vb = VarBuilder::from_varmap(&vars, DType::F32, device());
    vb.get_with_hints(2, "a", Init::Const(3.))?;
    let hyper = network(
        TargetPlan::by_constructor(new, Some(&vb.clone().into()), DType::F32, device())?
            .with_pretrained(vb, DType::F32, device())?,
    )?;
    assert_eq!(values(&hyper.target()?)?, [3., 3.]);
    assert_eq!(by_name(&vars).len(), 1);
    variable(&vars, "a").map(drop)
}

fn safetensors_of(tensors: &Tensors) -> Result<Vec<u8>> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    candle_core::safetensors::save(tensors, &path)?;
    Ok(std::fs::read(path)?)
}

/// A weight without values is an error of candle's inits, which a model may put up with, or an empty
/// tensor.
#[test]
fn a_tensor_without_values_is_as_in_candle() -> Result<()> {
    let new = |vb: VarBuilder<'_>| {
        let config = candle_nn::Conv2dConfig { groups: 96, ..Default::default() };
        let small = candle_nn::conv2d_no_bias(96, 96, 0, config, vb.pp("small"));
        let empty = vb.get((0, 2), "empty")?;
        let layer = candle_nn::linear(2, 2, vb.pp("linear"))?;
        Ok((small.is_ok(), empty, layer))
    };
    let vars = VarMap::new();
    // On CUDA, candle draws nothing without an error.
    let (small, empty, _) = new(VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu))?;
    let hyper = network(TargetPlan::from_constructor(new)?)?;
    let found = hyper.target()?;
    assert_eq!((found.0, found.1.dims()), (small, empty.dims()));
    assert_eq!(hyper.layout().params().len(), 2);
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("net.safetensors");
    hyper.export(&path)?;
    let exported = candle_core::safetensors::load(&path, device())?;
    assert_eq!(new(builder(&exported))?.1.dims(), [0, 2]);
    Ok(())
}
